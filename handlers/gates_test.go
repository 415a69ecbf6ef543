package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/knowledge"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// The gates, as programs meet them:
//
//	Gate 1  the account is known and active
//	Gate 2  a text
//	Gate 3  a phone number
//	Gate 4  a call
//	Gate 5  a search in the knowledge base
//
// At each of them: with enough it is done and charged once; without, it is refused with what is needed, what there is, what
// is missing and where to top up, and nothing is done or charged; when the provider fails, the wallet is whole; the same key
// again is the same answer and one charge; two at once on the last penny are one.
func TestGates(t *testing.T) {
	g := newGatehouse(t)
	t.Run("gate 1, an account that is known and active", g.knownAndActive)
	t.Run("gate 3, a phone number that we buy", g.buysNumbers)
	t.Run("gate 4, a call that an agent makes or takes", g.makesCalls)
	for _, e := range []errand{
		{
			name: "gate 2, a text", path: "/api/v1/messages", body: `{"to":"+447400123456","body":"Your table is booked, {org}"}`,
			another: `{"to":"+447400123456","body":"Your table is free, {org}"}`, status: http.StatusCreated, needs: 10, price: 10,
			done: `SELECT count(*) FROM messages WHERE org_id = $1 AND sid IS NOT NULL`, happened: g.textsSent,
			breaks: func(*testing.T) func() {
				if err := g.twilio.SetFaults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.Fault429, Times: -1}); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := g.twilio.SetFaults(); err != nil {
						t.Fatal(err)
					}
				}
			},
			failed: http.StatusServiceUnavailable,
		},
		{
			name: "gate 3, a phone number by a hold", path: "/api/v1/holds", body: `{"action":"number","quantity":1}`, another: `{"action":"number","quantity":2}`,
			status: http.StatusCreated, needs: 1000, price: 1000, held: true,
			done: `SELECT count(*) FROM holds WHERE org_id = $1 AND action = 'number' AND state = 'captured'`,
		},
		{
			name: "gate 4, a call by a hold", path: "/api/v1/holds", body: `{"action":"call","quantity":60,"destination":"+447400123456"}`,
			another: `{"action":"call","quantity":61,"destination":"+447400123456"}`, status: http.StatusCreated, needs: 79, price: 56, held: true,
			done: `SELECT count(*) FROM holds WHERE org_id = $1 AND action = 'call' AND state = 'captured'`,
		},
		{
			name: "gate 5, a search in the knowledge base", path: "/api/v1/knowledge/search", body: `{"query":"open on saturdays"}`, another: `{"query":"sundays"}`,
			status: http.StatusOK, needs: 1, price: 1,
			done: `SELECT count(*) FROM knowledge_searches WHERE org_id = $1`,
			breaks: func(*testing.T) func() {
				g.search.down.Store(true)
				return func() { g.search.down.Store(false) }
			},
			failed: http.StatusInternalServerError, again: true,
		},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Run("with enough it is done and charged once", func(t *testing.T) { g.enough(t, e) })
			t.Run("without, it is refused and nothing happens", func(t *testing.T) { g.notEnough(t, e) })
			t.Run("when the provider fails, the wallet is whole", func(t *testing.T) { g.providerFails(t, e) })
			t.Run("the same key again is the same answer", func(t *testing.T) { g.sameKey(t, e) })
			t.Run("one key many times at once is one", func(t *testing.T) { g.sameKeyAtOnce(t, e) })
			t.Run("two at once on the last penny are one", func(t *testing.T) { g.lastPenny(t, e) })
			t.Run("a frozen wallet is refused", func(t *testing.T) { g.frozen(t, e) })
			t.Run("a wallet in debt is refused", func(t *testing.T) { g.inDebt(t, e) })
		})
	}
}

// errand is something that programs ask to be done and to pay for.
type errand struct {
	name, path, body string // in a body, {org} is who asks
	another          string // another body
	// status is what is answered when it is allowed; needs must be available then, and price is what it costs.
	status, needs, price int
	// held says that the program does it by itself: the gate only holds the money, and the program captures or voids it.
	held bool
	// done counts how often it was done for an organisation, $1, by our own books, and happened how often by the provider's;
	// it is nil where there is no provider.
	done     string
	happened func(org uuid.UUID) int
	// breaks has the provider fail until the function that it gives is called; failed is what may be answered then. For
	// errands that are held, the program itself is told by its provider, and voids.
	breaks func(*testing.T) (mend func())
	failed int
	// again says that the same key may be used again after the provider has failed.
	again bool
}

// gatehouse is a site with programs before it.
type gatehouse struct {
	*site
	gates   *wallet.Gates
	wallets *wallet.Ledger
	search  *moody
	calls   atomic.Int64
}

// moody finds passages, unless it is down.
type moody struct {
	knowledge.Retriever
	down atomic.Bool
}

func (m *moody) Retrieve(ctx context.Context, org uuid.UUID, query string, most int) ([]knowledge.Hit, error) {
	if m.down.Load() {
		return nil, errors.New("the retriever is down")
	}
	return m.Retriever.Retrieve(ctx, org, query, most)
}

func newGatehouse(t *testing.T) *gatehouse {
	t.Helper()
	var d handlers.Deps
	s := newSite(t, func(o *options) { o.deps = func(made *handlers.Deps) { d = *made } })
	g := &gatehouse{gates: d.Gates, wallets: d.Wallets, search: &moody{Retriever: knowledge.FullText{DB: s.db}}}
	d.Knowledge = knowledge.New(knowledge.Options{DB: s.db, Gates: d.Gates, Log: d.Log, Retriever: g.search})
	g.site = newSiteOver(t, s, d, d.SessionKeys)
	return g
}

// textsSent is how many texts of an organisation the stand-in for Twilio has; each has the organisation in it.
func (g *gatehouse) textsSent(org uuid.UUID) (n int) {
	for _, m := range g.twilio.Books().Messages {
		if strings.Contains(m.Body, org.String()) {
			n++
		}
	}
	return n
}

// customer is an organisation with a program that may do everything.
type customer struct {
	*gatehouse
	t   *testing.T
	org uuid.UUID
	key string
}

// customer has so much in its wallet. Its books are checked when the test ends.
func (g *gatehouse) customer(t *testing.T, balance int) customer {
	t.Helper()
	c := customer{gatehouse: g, t: t, org: wallettest.Org(t, g.db, fmt.Sprintf("Customer %d", g.calls.Add(1)), money.Pence(balance))}
	c.key = c.newKey(auth.AllScopes)
	return c
}

func (c customer) newKey(scopes auth.Scopes) (key string) {
	c.t.Helper()
	err := c.db.InTx(c.t.Context(), []uuid.UUID{c.org}, func(ctx context.Context, tx *db.Tx) (err error) {
		key, _, err = c.auth.CreateKey(ctx, tx, c.org, "Program", scopes, uuid.Nil, audit.System("test"))
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

// topUp puts money into the wallet.
func (c customer) topUp(amount int) {
	c.t.Helper()
	err := c.db.InTx(c.t.Context(), []uuid.UUID{c.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: c.org, Kind: wallet.Adjustment, Amount: money.Pence(amount), Reason: "A top-up", Reference: uuid.NewString(), Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// answered is what a program was answered.
type answered struct {
	reply
	fields map[string]any
}

// id is the hold that the answer speaks of.
func (a answered) id() string {
	id, ok := a.fields["hold_id"].(string)
	if !ok {
		id, _ = a.fields["id"].(string)
	}
	return id
}

func (a answered) replayed() bool { return a.Header.Get("Idempotent-Replayed") == "true" }

func (c customer) post(path, key, body string) answered {
	c.t.Helper()
	body = strings.ReplaceAll(body, "{org}", c.org.String())
	a := answered{reply: c.browser().do("POST", path, strings.NewReader(body), "Authorization", "Bearer "+c.key, "Idempotency-Key", key)}
	if err := json.Unmarshal([]byte(a.body), &a.fields); err != nil {
		c.t.Errorf("POST %s: %v: %s", path, err, a.body)
	}
	return a
}

// ask asks for an errand; run asks and, where the program does the work, captures what it cost.
func (c customer) ask(e errand, key string) answered {
	c.t.Helper()
	return c.post(e.path, key, e.body)
}

func (c customer) run(e errand, key string) answered {
	c.t.Helper()
	a := c.ask(e, key)
	if e.held && a.StatusCode == e.status {
		wantStatus(c.t, "capturing it", c.post("/api/v1/holds/"+a.id()+"/capture", key, "").reply, http.StatusOK)
	}
	return a
}

// purse is what a program reads of its wallet.
type purse struct {
	Balance   int `json:"balance_pence"`
	Held      int `json:"held_pence"`
	Debt      int `json:"debt_pence"`
	Available int `json:"available_pence"`
}

func (c customer) wantPurse(what string, want purse) {
	c.t.Helper()
	res := c.browser().get("/api/v1/wallet", "Authorization", "Bearer "+c.key)
	var got purse
	if err := json.Unmarshal([]byte(res.body), &got); err != nil || got != want {
		c.t.Errorf("%s the wallet is %+v, want %+v (%v)", what, got, want, err)
	}
}

// wantDone checks how often an errand was done for this customer.
func (c customer) wantDone(what string, e errand, times int) {
	c.t.Helper()
	if n := c.count(e.done, c.org); n != times {
		c.t.Errorf("%s it was done %d times, want %d", what, n, times)
	}
	if e.happened == nil {
		return
	}
	if n := e.happened(c.org); n != times {
		c.t.Errorf("%s the provider has done it %d times, want %d", what, n, times)
	}
}

// whole is a wallet with so much in it, nothing held and nothing owed.
func whole(pence int) purse { return purse{Balance: pence, Available: pence} }

func (c customer) wantRefusal(a answered, e errand, available int) {
	c.t.Helper()
	wantStatus(c.t, "the refusal", a.reply, http.StatusPaymentRequired)
	for name, want := range map[string]any{
		"code": "insufficient_funds", "required_pence": float64(e.needs), "available_pence": float64(available), "debt_pence": 0.0,
		"shortfall_pence": float64(e.needs - available), "top_up_url": "http://127.0.0.1:8080/wallet",
	} {
		if a.fields[name] != want {
			c.t.Errorf("the refusal's %s is %v, want %v", name, a.fields[name], want)
		}
	}
}

// An account that nobody knows is 401, and one that may not spend is refused by the gate, whatever is asked for. What
// belongs to another account is not there.
func (g *gatehouse) knownAndActive(t *testing.T) {
	c, other := g.customer(t, 5_00), g.customer(t, 5_00)
	text := `{"action":"sms","quantity":1}`
	for what, key := range map[string]string{
		"no key": "", "garbage": "garbage", "a key that nobody has": "rf_test_" + strings.Repeat("a", 10) + "_" + strings.Repeat("b", 26),
		"a key but for its end": c.key[:len(c.key)-1] + "0", // which no key ends in
	} {
		stranger := c
		stranger.key = key
		wantStatus(t, what, stranger.post("/api/v1/holds", "k1", text).reply, http.StatusUnauthorized)
	}
	revoked := c
	revoked.key = c.newKey(auth.AllScopes)
	err := g.db.InTx(t.Context(), []uuid.UUID{c.org}, func(ctx context.Context, tx *db.Tx) error {
		keys, err := auth.Keys(ctx, tx, c.org)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if strings.Contains(revoked.key, k.Prefix) {
				return g.auth.RevokeKey(ctx, tx, c.org, k.ID, audit.System("test"))
			}
		}
		return errors.New("the key is not listed")
	})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "a revoked key", revoked.post("/api/v1/holds", "k1", text).reply, http.StatusUnauthorized)
	narrow := c
	narrow.key = c.newKey(auth.WalletRead)
	wantStatus(t, "a key that may only look", narrow.post("/api/v1/holds", "k1", text).reply, http.StatusForbidden)
	c.wantPurse("after strangers have asked", whole(5_00))

	hold := c.post("/api/v1/holds", "k1", text)
	wantStatus(t, "known and active", hold.reply, http.StatusCreated)
	for _, end := range []string{"capture", "void"} {
		wantStatus(t, end+" by another organisation", other.post("/api/v1/holds/"+hold.id()+"/"+end, "k1", "").reply, http.StatusNotFound)
		wantStatus(t, end+" of what never was", c.post("/api/v1/holds/"+uuid.NewString()+"/"+end, "k1", "").reply, http.StatusNotFound)
	}
	c.wantPurse("after another organisation has tried", purse{Balance: 5_00, Held: 10, Available: 4_90})
	theirs := other.post("/api/v1/holds", "k1", text)
	wantStatus(t, "another organisation's request with the same key", theirs.reply, http.StatusCreated)
	if theirs.replayed() || theirs.id() == hold.id() {
		t.Error("two organisations share a key")
	}

	// What is under way when a wallet is frozen is settled; nothing new begins.
	c.freeze()
	wantStatus(t, "a void in a frozen wallet", c.post("/api/v1/holds/"+hold.id()+"/void", "k2", "{}").reply, http.StatusOK)
	again := c.post("/api/v1/holds", "k1", text)
	if wantStatus(t, "what was allowed before", again.reply, http.StatusCreated); !again.replayed() {
		t.Error("a frozen wallet allows it anew")
	}
	c.wantPurse("after that", whole(5_00))
}

func (c customer) freeze() {
	c.t.Helper()
	if err := c.wallets.Freeze(c.t.Context(), c.org, "A test", audit.System("test")); err != nil {
		c.t.Fatal(err)
	}
}

func (g *gatehouse) enough(t *testing.T, e errand) {
	c := g.customer(t, e.needs+7)
	a := c.ask(e, "k1")
	wantStatus(t, "asking", a.reply, e.status)
	if a.fields["amount_pence"] != float64(e.price) || a.replayed() {
		t.Errorf("the answer: %s", a.body)
	}
	if e.held {
		c.wantPurse("while it is held", purse{Balance: e.needs + 7, Held: e.price, Available: e.needs + 7 - e.price})
		settled := c.post("/api/v1/holds/"+a.id()+"/capture", "k2", "{}")
		wantStatus(t, "capturing", settled.reply, http.StatusOK)
		if settled.fields["state"] != "captured" || settled.fields["amount_pence"] != float64(e.price) || settled.fields["expires_at"] != nil {
			t.Errorf("the capture: %s", settled.body)
		}
	}
	c.wantPurse("afterwards", whole(e.needs+7-e.price))
	c.wantDone("with enough", e, 1)
	if n := g.count(`SELECT count(*) FROM ledger_transactions WHERE org_id = $1 AND id = $2`, c.org, a.id()); n != 1 {
		t.Errorf("%d transactions in the history say so, want 1", n)
	}
}

func (g *gatehouse) notEnough(t *testing.T, e errand) {
	c := g.customer(t, e.needs-1)
	c.wantRefusal(c.ask(e, "k1"), e, e.needs-1)
	c.wantRefusal(c.ask(e, "k1"), e, e.needs-1)
	c.wantPurse("after the refusals", whole(e.needs-1))
	c.wantDone("after the refusals", e, 0)
	if n := g.count(`SELECT count(*) FROM holds WHERE org_id = $1`, c.org); n != 0 {
		t.Errorf("%d holds are left of it", n)
	}
	c.topUp(1)
	wantStatus(t, "the same key after a top-up", c.run(e, "k1").reply, e.status)
	c.wantPurse("after a top-up", whole(e.needs-e.price))
	c.wantDone("after a top-up", e, 1)

	empty := g.customer(t, 0)
	empty.wantRefusal(empty.ask(e, "k1"), e, 0)
}

func (g *gatehouse) providerFails(t *testing.T, e errand) {
	c := g.customer(t, e.needs)
	if e.held { // the program hears of it, and gives the money back
		a := c.ask(e, "k1")
		wantStatus(t, "asking", a.reply, e.status)
		for range 2 {
			void := c.post("/api/v1/holds/"+a.id()+"/void", "k1", "")
			if wantStatus(t, "voiding", void.reply, http.StatusOK); void.fields["state"] != "void" || void.fields["amount_pence"] != 0.0 {
				t.Errorf("the void: %s", void.body)
			}
		}
		wantStatus(t, "capturing what was voided", c.post("/api/v1/holds/"+a.id()+"/capture", "k1", "").reply, http.StatusConflict)
	} else {
		mend := e.breaks(t)
		a := c.ask(e, "k1")
		mend()
		wantStatus(t, "a provider that fails", a.reply, e.failed)
	}
	c.wantPurse("after the provider failed", whole(e.needs))
	c.wantDone("after the provider failed", e, 0)
	key := "k2"
	if e.again {
		key = "k1"
	}
	a := c.run(e, key)
	wantStatus(t, "once it works again", a.reply, e.status)
	c.wantPurse("once it works again", whole(e.needs-e.price))
	c.wantDone("once it works again", e, 1)
}

func (g *gatehouse) sameKey(t *testing.T, e errand) {
	c := g.customer(t, 3*e.needs)
	first := c.run(e, "k1")
	wantStatus(t, "first", first.reply, e.status)
	for range 3 {
		again := c.run(e, "k1")
		if wantStatus(t, "again", again.reply, e.status); again.body != first.body || !again.replayed() {
			t.Errorf("again, replayed %t, is\n%s\nand first was\n%s", again.replayed(), again.body, first.body)
		}
	}
	other := c.post(e.path, "k1", e.another)
	if wantStatus(t, "another request with the key", other.reply, http.StatusConflict); other.fields["code"] != "idempotency_key_reused" {
		t.Errorf("another request with the key: %s", other.body)
	}
	none := c.browser().do("POST", e.path, strings.NewReader(e.body), "Authorization", "Bearer "+c.key)
	wantStatus(t, "no key", none, http.StatusBadRequest)
	c.wantPurse("after all of it", whole(3*e.needs-e.price))
	c.wantDone("after all of it", e, 1)
	wantStatus(t, "another key", c.run(e, "k2").reply, e.status)
	c.wantPurse("after another key", whole(3*e.needs-2*e.price))
	c.wantDone("after another key", e, 2)
}

func (g *gatehouse) sameKeyAtOnce(t *testing.T, e errand) {
	c := g.customer(t, 3*e.needs)
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			a := c.ask(e, "k1")
			wantStatus(t, "at once", a.reply, e.status)
			ids[i] = a.id()
		})
	}
	group.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[len(ids)-1] {
		t.Errorf("one key stands for %v", ids)
	}
	c.run(e, "k1")
	c.wantPurse("after one key at once", whole(3*e.needs-e.price))
	c.wantDone("after one key at once", e, 1)
}

func (g *gatehouse) lastPenny(t *testing.T, e errand) {
	for round := range 5 {
		c := g.customer(t, e.needs)
		var statuses [2]int
		var group sync.WaitGroup
		for i := range statuses {
			group.Go(func() { statuses[i] = c.run(e, fmt.Sprintf("k%d-%d", round, i)).StatusCode })
		}
		group.Wait()
		if slices.Sort(statuses[:]); statuses != [2]int{e.status, http.StatusPaymentRequired} {
			t.Errorf("two at once are answered %v", statuses)
		}
		c.wantPurse("after two at once", whole(e.needs-e.price))
		c.wantDone("after two at once", e, 1)
	}
}

func (g *gatehouse) frozen(t *testing.T, e errand) {
	c := g.customer(t, e.needs)
	c.freeze()
	a := c.ask(e, "k1")
	if wantStatus(t, "frozen", a.reply, http.StatusForbidden); a.fields["code"] != "wallet_frozen" {
		t.Errorf("frozen: %s", a.body)
	}
	c.wantPurse("frozen,", whole(e.needs))
	c.wantDone("frozen,", e, 0)
	if err := g.wallets.Thaw(t.Context(), c.org, "A test", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "thawed", c.run(e, "k1").reply, e.status)
}

func (g *gatehouse) inDebt(t *testing.T, e errand) {
	c := g.customer(t, 10)
	// A call that turned out longer than there was money for: what it cost beyond that is owed.
	h, err := g.gates.Authorise(t.Context(), wallet.HoldRequest{
		OrgID: c.org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceCall, Key: "overrun", Actor: audit.System("test"),
	})
	if err == nil {
		_, err = g.gates.Capture(t.Context(), wallet.Settlement{OrgID: c.org, Hold: h.ID, Source: wallet.SourceCall, Amount: 25, Overrun: true, Actor: audit.System("test")})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.wantPurse("after the call", purse{Debt: 15})
	a := c.ask(e, "k1")
	if wantStatus(t, "in debt", a.reply, http.StatusPaymentRequired); a.fields["code"] != "debt" || a.fields["debt_pence"] != 15.0 ||
		a.fields["required_pence"] != float64(e.needs) || a.fields["shortfall_pence"] != float64(e.needs+15) || a.fields["available_pence"] != 0.0 {
		t.Errorf("in debt: %s", a.body)
	}
	c.wantDone("in debt,", e, 0)
	c.topUp(e.needs + 15)
	wantStatus(t, "the same key once the debt is repaid", c.run(e, "k1").reply, e.status)
	c.wantPurse("once the debt is repaid", whole(e.needs-e.price))
}
