package handlers_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// makesCalls is gate 4 where Ringfence makes and takes the call itself: what is true at the other gates is true of it, and it
// costs exactly its seconds.
func (g *gatehouse) makesCalls(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"with enough it is made, and costs exactly its seconds", g.callEnough},
		{"without, it is refused and nothing happens", g.callNotEnough},
		{"when the provider fails, the wallet is whole", g.callFails},
		{"one key many times at once is one", g.callSameKeyAtOnce},
		{"two at once on the last penny are one", g.callLastPenny},
		{"one that comes in is refused politely where money is short", g.callIn},
		{"a frozen wallet and one in debt are refused", g.callFrozenOrInDebt},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t)
			wallettest.CheckBooks(t, g.db, telephony.Invariants...)
		})
	}
}

// caller is a customer with an agent that can call, and so much in its wallet.
func (g *gatehouse) caller(t *testing.T, balance int) (customer, telephony.Agent) {
	t.Helper()
	c := g.customer(t, 10_00+balance)
	theirs := *g.site
	theirs.t, theirs.org = t, c.org
	return c, theirs.newCaller("Reception")
}

const aCall = `{"to":"+447400123456"}`

// vapiID is Vapi's name for a call.
func (g *gatehouse) vapiID(id string) string {
	return g.text(`SELECT coalesce(vapi_id, '') FROM calls WHERE id = $1`, id)
}

// placed is how many calls of an organisation's there are at the stand-in for Vapi, by their names.
func (g *gatehouse) placed(c customer) (n int) {
	for _, at := range g.vapi.Books().Calls {
		n += g.count(`SELECT count(*) FROM calls WHERE org_id = $1 AND vapi_id = $2`, c.org, at.ID)
	}
	return n
}

func (g *gatehouse) callEnough(t *testing.T) {
	c, _ := g.caller(t, 20_00)
	left := 20_00
	for i, lasted := range []struct{ seconds, pence int }{{1, 1}, {30, 28}, {60, 56}, {91, 84}} {
		key := fmt.Sprintf("k%d", i)
		a := c.post("/api/v1/calls", key, aCall)
		wantStatus(t, "asking", a.reply, http.StatusCreated)
		if a.fields["state"] != "ringing" || a.fields["amount_pence"] != 56.0 || a.replayed() {
			t.Errorf("the answer: %s", a.body)
		}
		c.wantPurse("while it rings", purse{Balance: left, Held: 56, Available: left - 56})
		id, _ := a.fields["id"].(string)
		for range 2 { // the report comes twice
			g.lasted(g.vapiID(id), lasted.seconds)
		}
		left -= lasted.pence
		c.wantPurse(fmt.Sprintf("after %d seconds", lasted.seconds), whole(left))
		again := c.post("/api/v1/calls", key, aCall)
		if wantStatus(t, "again", again.reply, http.StatusCreated); again.fields["id"] != id || !again.replayed() || again.fields["state"] != "completed" ||
			again.fields["amount_pence"] != float64(lasted.pence) || again.fields["seconds"] != float64(lasted.seconds) {
			t.Errorf("again: %s", again.body)
		}
		if n := g.count(`SELECT count(*) FROM ledger_transactions WHERE org_id = $1 AND id = $2 AND amount_pence = $3`, c.org, a.id(), -lasted.pence); n != 1 {
			t.Errorf("%d transactions in the history say so, want 1", n)
		}
	}
	other := c.post("/api/v1/calls", "k1", `{"to":"+447400123999"}`)
	if wantStatus(t, "another call with the key", other.reply, http.StatusConflict); other.fields["code"] != "idempotency_key_reused" {
		t.Errorf("another call with the key: %s", other.body)
	}
	none := c.browser().do("POST", "/api/v1/calls", strings.NewReader(aCall), "Authorization", "Bearer "+c.key)
	wantStatus(t, "no key", none, http.StatusBadRequest)
	if n := g.placed(c); n != 4 {
		t.Errorf("Vapi has made %d calls, want 4", n)
	}
	c.wantPurse("after all of it", whole(20_00-1-28-56-84))
}

func (g *gatehouse) callNotEnough(t *testing.T) {
	c, _ := g.caller(t, 78)
	e := errand{needs: 79}
	c.wantRefusal(c.post("/api/v1/calls", "k1", aCall), e, 78)
	c.wantRefusal(c.post("/api/v1/calls", "k1", aCall), e, 78)
	c.wantPurse("after the refusals", whole(78))
	if n := g.count(`SELECT count(*) FROM calls WHERE org_id = $1`, c.org) + g.count(`SELECT count(*) FROM holds WHERE org_id = $1 AND action = 'call'`, c.org) + g.placed(c); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
	c.topUp(1)
	a := c.post("/api/v1/calls", "k1", aCall)
	wantStatus(t, "the same key with 79p", a.reply, http.StatusCreated)
	if a.fields["max_seconds"] != 85.0 { // which 79p pay for, and 80p would be 86
		t.Errorf("it may last %v s", a.fields["max_seconds"])
	}
	id, _ := a.fields["id"].(string)
	g.lasted(g.vapiID(id), 85)
	c.wantPurse("after 85 seconds", whole(0))
}

func (g *gatehouse) callFails(t *testing.T) {
	c, _ := g.caller(t, 79)
	faults := func(rules ...sandbox.Fault) {
		t.Helper()
		if err := g.vapi.SetFaults(rules...); err != nil {
			t.Fatal(err)
		}
	}
	for status, code := range map[int]string{400: "not_callable", 429: "provider_unavailable"} {
		faults(sandbox.Fault{Match: sandbox.MakeAgentCall, Do: sandbox.FaultRefuse, Code: status, Times: -1})
		for range 2 {
			if a := c.post("/api/v1/calls", code, aCall); a.StatusCode < 400 || a.fields["code"] != code {
				t.Errorf("Vapi answers %d: %s", status, a.body)
			}
		}
		c.wantPurse(fmt.Sprintf("after Vapi answered %d", status), whole(79))
	}
	faults()
	// Its answer is lost: it is made and found, or not, and never made twice.
	faults(sandbox.Fault{Match: sandbox.MakeAgentCall, Do: sandbox.FaultCutAfterActing})
	a := c.post("/api/v1/calls", "lost", aCall)
	if wantStatus(t, "a lost answer", a.reply, http.StatusCreated); a.fields["state"] != "unknown" {
		t.Errorf("a lost answer: %s", a.body)
	}
	c.wantPurse("while nobody knows", purse{Balance: 79, Held: 56, Available: 23})
	id, _ := a.fields["id"].(string)
	made := g.vapi.Books().Calls
	i := slices.IndexFunc(made, func(b sandbox.BookedAgentCall) bool {
		return g.count(`SELECT count(*) FROM calls WHERE vapi_id = $1`, b.ID) == 0
	})
	if i < 0 {
		t.Fatal("Vapi has not made it")
	}
	at := made[i]
	g.tellVapi(http.StatusOK, map[string]any{"type": "status-update", "status": "in-progress", "call": map[string]any{"id": at.ID, "name": id}})
	g.lasted(at.ID, 30)
	c.wantPurse("after 30 seconds", whole(51))
}

func (g *gatehouse) callSameKeyAtOnce(t *testing.T) {
	c, _ := g.caller(t, 3*79)
	ids := make([]string, 6)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			a := c.post("/api/v1/calls", "k1", aCall)
			wantStatus(t, "at once", a.reply, http.StatusCreated)
			ids[i], _ = a.fields["id"].(string)
		})
	}
	group.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[len(ids)-1] || g.placed(c) != 1 {
		t.Errorf("one key stands for %v, and Vapi has made %d calls", ids, g.placed(c))
	}
	c.wantPurse("after one key at once", purse{Balance: 3 * 79, Held: 56, Available: 3*79 - 56})
	g.lasted(g.vapiID(ids[0]), 60)
	c.wantPurse("afterwards", whole(3*79-56))
}

func (g *gatehouse) callLastPenny(t *testing.T) {
	c, _ := g.caller(t, 79)
	var answers [2]answered
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = c.post("/api/v1/calls", fmt.Sprintf("k%d", i), aCall) })
	}
	group.Wait()
	statuses := []int{answers[0].StatusCode, answers[1].StatusCode}
	if slices.Sort(statuses); !slices.Equal(statuses, []int{http.StatusCreated, http.StatusPaymentRequired}) || g.placed(c) != 1 {
		t.Errorf("two at once are answered %v, and Vapi has made %d calls", statuses, g.placed(c))
	}
	g.lasted(g.text(`SELECT vapi_id FROM calls WHERE org_id = $1`, c.org), 1)
	c.wantPurse("after two at once", whole(78))
}

func (g *gatehouse) callIn(t *testing.T) {
	c, a := g.caller(t, 78)
	phone := g.text(`SELECT vapi_id FROM numbers WHERE id = $1`, a.NumberID.UUID)
	ask := func(id string) string {
		return g.tellVapi(http.StatusOK, map[string]any{"type": "assistant-request", "call": map[string]any{"id": id, "phoneNumberId": phone, "customer": map[string]any{"number": "+447400123456"}}})
	}
	first := "in-" + uuid.NewString()
	for range 2 {
		if said := ask(first); !strings.Contains(said, `"error":"Sorry, nobody can take your call at the moment. Please try again later."`) || strings.Contains(said, "assistantId") {
			t.Errorf("with 78p the caller hears %s", said)
		}
	}
	c.wantPurse("after it was refused", whole(78))
	c.topUp(1)
	second := "in-" + uuid.NewString()
	if said := ask(second); !strings.Contains(said, a.AssistantID.String) {
		t.Errorf("with 79p Vapi is answered %s", said)
	}
	c.wantPurse("while it rings", purse{Balance: 79, Held: 56, Available: 23})
	g.lasted(second, 30)
	c.wantPurse("after 30 seconds", whole(51))
	g.lasted(second, 30)
	c.wantPurse("after the report came again", whole(51))
}

func (g *gatehouse) callFrozenOrInDebt(t *testing.T) {
	c, _ := g.caller(t, 79)
	c.freeze()
	if a := c.post("/api/v1/calls", "k1", aCall); a.StatusCode != http.StatusForbidden || a.fields["code"] != "wallet_frozen" {
		t.Errorf("frozen: %s", a.body)
	}
	if err := g.wallets.Thaw(t.Context(), c.org, "A test", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	h, err := g.gates.Authorise(t.Context(), wallet.HoldRequest{
		OrgID: c.org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceKnowledge, Key: "overrun", Actor: audit.System("test"),
	})
	if err == nil {
		_, err = g.gates.Capture(t.Context(), wallet.Settlement{OrgID: c.org, Hold: h.ID, Source: wallet.SourceKnowledge, Amount: money.Pence(94), Overrun: true, Actor: audit.System("test")})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.wantPurse("after an overrun", purse{Debt: 15})
	a := c.post("/api/v1/calls", "k1", aCall)
	if wantStatus(t, "in debt", a.reply, http.StatusPaymentRequired); a.fields["code"] != "debt" || a.fields["shortfall_pence"] != float64(79+15) {
		t.Errorf("in debt: %s", a.body)
	}
	c.topUp(79 + 15)
	wantStatus(t, "once the debt is repaid", c.post("/api/v1/calls", "k1", aCall).reply, http.StatusCreated)
	if n := g.placed(c); n != 1 {
		t.Errorf("Vapi has made %d calls, want 1", n)
	}
	g.lasted(g.text(`SELECT vapi_id FROM calls WHERE org_id = $1`, c.org), 60)
	c.wantPurse("afterwards", whole(79-56))
}
