package payments_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// till is a Stripe that knows payments, refunds and disputes exactly as a test sets them.
type till struct {
	t        *testing.T
	url      string
	mu       sync.Mutex
	intents  map[string]map[string]any
	refunds  map[string]map[string]any
	disputes map[string]map[string]any
	asked    int
	// unlisted are intents that its list does not have, since they are older than what is asked for.
	unlisted []string
	// before runs when something is asked for, by its path, without the lock.
	before func(path string)
	status int // answers everything with it, unless zero
}

func newTill(t *testing.T) *till {
	t.Helper()
	l := &till{t: t, intents: map[string]map[string]any{}, refunds: map[string]map[string]any{}, disputes: map[string]map[string]any{}}
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	l.url = srv.URL
	return l
}

func (l *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	before := l.before
	l.asked++
	l.mu.Unlock()
	var answer any
	status := http.StatusOK
	l.mu.Lock()
	switch of := r.URL.Query().Get("payment_intent"); {
	case l.status != 0:
		status, answer = l.status, map[string]any{"error": map[string]string{"type": "api_error", "message": "scripted"}}
	case r.URL.Path == "/v1/refunds":
		answer = listOf(l.refunds, of)
	case r.URL.Path == "/v1/disputes":
		answer = listOf(l.disputes, of)
	case r.URL.Path == "/v1/payment_intents":
		listed := maps.Clone(l.intents)
		maps.DeleteFunc(listed, func(id string, _ map[string]any) bool { return slices.Contains(l.unlisted, id) })
		answer = listOf(listed, "")
	case r.URL.Path == "/v1/events": // it has forgotten all of them
		answer = listOf(nil, "")
	default:
		var known bool
		if answer, known = l.intents[strings.TrimPrefix(r.URL.Path, "/v1/payment_intents/")]; !known {
			status, answer = http.StatusNotFound, map[string]any{"error": map[string]string{"type": "invalid_request_error", "code": "resource_missing"}}
		}
	}
	body, err := json.Marshal(answer)
	l.mu.Unlock()
	if err != nil {
		l.t.Error(err)
	}
	if before != nil { // the answer is made up, and only its way back takes long
		before(r.URL.Path)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func listOf(all map[string]map[string]any, intent string) any {
	data := []any{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if intent == "" || all[id]["payment_intent"] == intent {
			data = append(data, all[id])
		}
	}
	return map[string]any{"object": "list", "data": data, "has_more": false}
}

// pay makes a succeeded PaymentIntent.
func (l *till) pay(intent string, topUp uuid.UUID, customer string, amount money.Pence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.intents[intent] = map[string]any{
		"id": intent, "object": "payment_intent", "status": "succeeded", "amount": amount, "amount_received": amount, "currency": "gbp",
		"customer": customer, "livemode": false, "created": dbtest.Start.Unix(), "metadata": map[string]string{"top_up_id": topUp.String()},
	}
}

// refund sets a refund's state; it gives the object.
func (l *till) refund(id, intent string, amount money.Pence, status string) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := map[string]any{
		"id": id, "object": "refund", "amount": amount, "currency": "gbp", "status": status, "payment_intent": intent, "charge": "ch_1",
		"created": dbtest.Start.Unix(),
	}
	l.refunds[id] = o
	return o
}

// dispute sets a dispute's state; moved is what the bank took (negative) and gave back, in order.
func (l *till) dispute(id, intent string, amount money.Pence, status string, moved ...money.Pence) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []any{}
	for _, m := range moved {
		list = append(list, map[string]any{"id": "txn_1", "object": "balance_transaction", "amount": m, "currency": "gbp", "fee": 2000, "net": m - 2000})
	}
	o := map[string]any{
		"id": id, "object": "dispute", "amount": amount, "currency": "gbp", "status": status, "payment_intent": intent, "charge": "ch_1",
		"balance_transactions": list, "reason": "fraudulent", "created": dbtest.Start.Unix(),
	}
	l.disputes[id] = o
	return o
}

// change sets fields of what the till knows.
func (l *till) change(do func(l *till)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(l)
}

// charge is the object of charge.refunded.
func charge(intent string) map[string]any {
	return map[string]any{"id": "ch_1", "object": "charge", "payment_intent": intent, "currency": "gbp"}
}

// send delivers an event with an object as it is.
func (f *fixture) send(id, kind string, object map[string]any) {
	f.t.Helper()
	b, err := json.Marshal(map[string]any{
		"id": id, "object": "event", "type": kind, "created": dbtest.Start.Unix(), "livemode": false, "api_version": "2023-10-16",
		"data": map[string]any{"object": object},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.svc.Accept(f.t.Context(), b, sign(b, f.clock.Now(), secret)); err != nil {
		f.t.Fatal(err)
	}
}

// newReversing makes a fixture whose service asks the till.
func newReversing(t *testing.T, with ...func(*payments.Options)) (*fixture, *till) {
	t.Helper()
	l := newTill(t)
	return newFixture(t, append([]func(*payments.Options){func(o *payments.Options) { o.StripeBase, o.FreezeOnDispute = l.url, true }}, with...)...), l
}

// stands is how a wallet stands, and what was reversed of its payments.
type stands struct {
	Balance, Bonus, Debt, Held money.Pence
	Refunded, Disputed         money.Pence
	Frozen                     bool
	Credits                    int
}

func (f *fixture) stands() (s stands) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &s, `
		SELECT w.balance_pence AS balance, w.bonus_pence AS bonus, w.debt_pence AS debt, w.held_pence AS held, w.frozen_at IS NOT NULL AS frozen,
		       (SELECT count(*) FROM credits c WHERE c.org_id = w.org_id) AS credits,
		       (SELECT coalesce(sum(amount_pence), 0) FROM reversals r WHERE r.org_id = w.org_id AND kind = 'refund') AS refunded,
		       (SELECT coalesce(sum(amount_pence), 0) FROM reversals r WHERE r.org_id = w.org_id AND kind = 'dispute') AS disputed
		FROM wallets w WHERE w.org_id = $1`, f.org)
	return s
}

// as gives the same fixture for another organisation.
func (f *fixture) as(org uuid.UUID, customer string) *fixture {
	f.t.Helper()
	other := *f
	other.org, other.tag = org, strings.ReplaceAll(org.String(), "-", "")
	dbtest.Super(f.t, f.url, `INSERT INTO stripe_customers VALUES ($1, $2, now())`, org, customer)
	return &other
}

// step is something that happens at Stripe to a payment, and the event that tells of it.
type step struct {
	kind string
	do   func(l *till, intent, tag string) map[string]any
}

var (
	succeeded = step{"payment_intent.succeeded", nil}
	completed = step{"checkout.session.completed", nil}
)

// TestReversalsInEveryOrder delivers the events of a payment and its reversals in every order: each alone, all together,
// and each while Stripe has got no further than the newest of those that were delivered.
func TestReversalsInEveryOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps []step
		want  stands
	}{
		{"a full refund", []step{
			succeeded, completed,
			{"charge.refunded", func(l *till, pi, tag string) map[string]any {
				l.refund("re_1"+tag, pi, 50_00, "succeeded")
				return charge(pi)
			}},
			{"refund.created", func(l *till, pi, tag string) map[string]any { return l.refund("re_1"+tag, pi, 50_00, "succeeded") }},
		}, stands{Balance: 569_00, Refunded: 50_00, Credits: 1}},
		{"two partial refunds, of which one fails", []step{
			succeeded,
			{"charge.refunded", func(l *till, pi, tag string) map[string]any {
				l.refund("re_1"+tag, pi, 20_00, "pending")
				return charge(pi)
			}},
			{"charge.refunded", func(l *till, pi, tag string) map[string]any {
				l.refund("re_2"+tag, pi, 7_50, "succeeded")
				return charge(pi)
			}},
			{"charge.refund.updated", func(l *till, pi, tag string) map[string]any { return l.refund("re_1"+tag, pi, 20_00, "failed") }},
		}, stands{Balance: 611_50, Refunded: 7_50, Credits: 1}},
		{"a lost dispute", []step{
			succeeded,
			{"charge.dispute.created", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "needs_response")
			}},
			{"charge.dispute.funds_withdrawn", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "under_review", -50_00)
			}},
			{"charge.dispute.closed", func(l *till, pi, tag string) map[string]any { return l.dispute("dp_1"+tag, pi, 50_00, "lost", -50_00) }},
		}, stands{Balance: 569_00, Disputed: 50_00, Credits: 1}},
		{"a dispute under way", []step{
			succeeded, completed,
			{"charge.dispute.created", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "needs_response")
			}},
			{"charge.dispute.funds_withdrawn", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "needs_response", -50_00)
			}},
		}, stands{Balance: 569_00, Disputed: 50_00, Credits: 1, Frozen: true}},
		{"a won dispute", []step{
			succeeded,
			{"charge.dispute.funds_withdrawn", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "needs_response", -50_00)
			}},
			{"charge.dispute.funds_reinstated", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "under_review", -50_00, 50_00)
			}},
			{"charge.dispute.closed", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "won", -50_00, 50_00)
			}},
		}, stands{Balance: 619_00, Credits: 1}},
		{"an inquiry", []step{
			succeeded,
			{"charge.dispute.created", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "warning_needs_response")
			}},
			{"charge.dispute.updated", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "warning_under_review")
			}},
			{"charge.dispute.closed", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "warning_closed")
			}},
		}, stands{Balance: 619_00, Credits: 1}},
		{"a partial refund, then a dispute of everything", []step{
			succeeded,
			{"charge.refunded", func(l *till, pi, tag string) map[string]any {
				l.refund("re_1"+tag, pi, 20_00, "succeeded")
				return charge(pi)
			}},
			{"charge.dispute.funds_withdrawn", func(l *till, pi, tag string) map[string]any {
				return l.dispute("dp_1"+tag, pi, 50_00, "needs_response", -50_00)
			}},
			{"charge.dispute.closed", func(l *till, pi, tag string) map[string]any { return l.dispute("dp_1"+tag, pi, 50_00, "lost", -50_00) }},
		}, stands{Balance: 569_00, Refunded: 20_00, Disputed: 30_00, Credits: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			shared, l := newReversing(t)
			orgs := wallettest.Orgs(t, shared.db, 2*24+1, 569_00) // one for each order of four events, each way
			for order := range permutations(len(c.steps)) {
				ways := []string{"each", "as it happens"}
				if slices.IsSorted(order) { // what is worked together is worked in one order
					ways = append(ways, "together")
				}
				for _, how := range ways {
					name := fmt.Sprintf("%v %s", order, how)
					f := shared.as(orgs[0], "cus_"+name)
					orgs = orgs[1:]
					topUp, intent := f.topUp(f.org, 50_00), "pi_1"+f.tag
					l.pay(intent, topUp, "cus_"+name, 50_00)
					objects := make([]map[string]any, len(c.steps))
					reached := 0
					happen := func(n int) { // lets what comes until step n happen at Stripe
						for ; reached <= n; reached++ {
							if do := c.steps[reached].do; do != nil {
								objects[reached] = do(l, intent, f.tag)
							}
						}
					}
					if how != "as it happens" {
						happen(len(c.steps) - 1)
					}
					var ids []string
					for _, i := range order {
						happen(i)
						id := fmt.Sprintf("evt_%d_%s", i, f.tag)
						ids = append(ids, id)
						if objects[i] == nil {
							f.accept(event{id: id, kind: c.steps[i].kind, topUp: topUp, intent: intent, amount: 50_00, customer: "cus_" + name})
						} else {
							f.send(id, c.steps[i].kind, objects[i])
						}
						if how != "together" {
							f.work(id)
						}
					}
					f.work(ids...)
					f.work(ids...) // a repeat changes nothing
					if got := f.stands(); got != c.want {
						t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
					}
				}
			}
			var ended []string
			dbtest.Select(t, shared.url, &ended, `SELECT format('%s is %s: %s', id, state, reason) FROM stripe_events WHERE state <> 'processed'`)
			if len(ended) > 0 {
				t.Error(ended)
			}
		})
	}
}

// paid is a fixture with one credited payment of £50.00, pi_1, in a wallet that had nothing else.
func paid(t *testing.T, with ...func(*payments.Options)) (*fixture, *till) {
	t.Helper()
	f, l := newReversing(t, with...)
	f.org, f.other = f.other, f.org
	topUp := f.topUp(f.org, 50_00)
	l.pay("pi_1", topUp, "cus_second", 50_00)
	f.accept(event{id: "evt_paid", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00, customer: "cus_second"})
	f.work("evt_paid")
	return f, l
}

// refunded has Stripe set the state of a refund of pi_1, re_1, and tells of it.
func (f *fixture) refunded(l *till, event string, amount money.Pence, status string) {
	f.t.Helper()
	l.refund("re_1", "pi_1", amount, status)
	f.send(event, "charge.refunded", charge("pi_1"))
	f.work(event)
}

// adjust gives or takes money of another kind.
func (f *fixture) adjust(kind wallet.Kind, amount money.Pence, reference string) {
	f.t.Helper()
	err := f.db.InTx(f.t.Context(), []uuid.UUID{f.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: f.org, Kind: kind, Amount: amount, Reason: "test", Reference: reference, Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// hold sets money aside.
func (f *fixture) hold(quantity int64) {
	f.t.Helper()
	gates := wallet.NewGates(wallet.GateOptions{DB: f.db, Now: f.clock.Now})
	if _, err := gates.Authorise(f.t.Context(), wallet.HoldRequest{
		OrgID: f.org, Source: wallet.SourceAPI, Key: "k", Action: wallet.ActionSMS, Quantity: quantity, Destination: "+447400123456", Actor: audit.System("test"),
	}); err != nil {
		f.t.Fatal(err)
	}
}

// TestWhatIsTakenBackFirst: paid money, then the bonus, then debt; what is held stays; and giving again is the way back.
func TestWhatIsTakenBackFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		before       func(f *fixture)
		taken, again stands
	}{
		{"nothing was spent", func(*fixture) {}, stands{Refunded: 50_00, Credits: 1}, stands{Balance: 50_00, Credits: 1}},
		{
			"all was spent", func(f *fixture) { f.adjust(wallet.Adjustment, -50_00, "spent") },
			stands{Debt: 50_00, Refunded: 50_00, Credits: 1},
			stands{Credits: 1},
		},
		{
			"a part was spent", func(f *fixture) { f.adjust(wallet.Adjustment, -35_00, "spent") },
			stands{Debt: 35_00, Refunded: 50_00, Credits: 1},
			stands{Balance: 15_00, Credits: 1},
		},
		{
			"there is enough beside the bonus", func(f *fixture) { f.adjust(wallet.Bonus, 10_00, "gift") },
			stands{Balance: 10_00, Bonus: 10_00, Refunded: 50_00, Credits: 1},
			stands{Balance: 60_00, Bonus: 10_00, Credits: 1},
		},
		{"the bonus is needed, and not enough", func(f *fixture) {
			f.adjust(wallet.Adjustment, -30_00, "spent")
			f.adjust(wallet.Bonus, 10_00, "gift")
		}, stands{Debt: 20_00, Refunded: 50_00, Credits: 1}, stands{Balance: 30_00, Bonus: 10_00, Credits: 1}},
		{"a part of the bonus is needed", func(f *fixture) {
			f.adjust(wallet.Adjustment, -4_00, "spent")
			f.adjust(wallet.Bonus, 10_00, "gift")
		}, stands{Balance: 6_00, Bonus: 6_00, Refunded: 50_00, Credits: 1}, stands{Balance: 56_00, Bonus: 10_00, Credits: 1}},
		{"some is held", func(f *fixture) { f.hold(120) }, // texts of 10p
			stands{Balance: 12_00, Held: 12_00, Debt: 12_00, Refunded: 50_00, Credits: 1}, stands{Balance: 50_00, Held: 12_00, Credits: 1}},
		{
			"all is held", func(f *fixture) { f.hold(500) },
			stands{Balance: 50_00, Held: 50_00, Debt: 50_00, Refunded: 50_00, Credits: 1},
			stands{Balance: 50_00, Held: 50_00, Credits: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, l := paid(t)
			c.before(f)
			f.refunded(l, "evt_1", 50_00, "succeeded")
			f.refunded(l, "evt_2", 50_00, "succeeded")
			if got := f.stands(); got != c.taken {
				t.Errorf("after the refund:\ngot  %+v\nwant %+v", got, c.taken)
			}
			f.refunded(l, "evt_3", 50_00, "failed")
			if got := f.stands(); got != c.again {
				t.Errorf("after it failed:\ngot  %+v\nwant %+v", got, c.again)
			}
		})
	}
}

// TestDebtIsRepaidFirst: what comes in after a reversal of money that was spent.
func TestDebtIsRepaidFirst(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	f.adjust(wallet.Adjustment, -50_00, "spent")
	f.refunded(l, "evt_1", 30_00, "succeeded")
	next := f.topUp(f.org, 20_00)
	l.pay("pi_2", next, "cus_second", 20_00)
	f.accept(event{id: "evt_2", kind: "payment_intent.succeeded", topUp: next, intent: "pi_2", amount: 20_00, customer: "cus_second"})
	f.work("evt_2")
	if got, want := f.stands(), (stands{Debt: 10_00, Refunded: 30_00, Credits: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.refunded(l, "evt_3", 30_00, "canceled")
	if got, want := f.stands(), (stands{Balance: 20_00, Credits: 2}); got != want {
		t.Errorf("after the refund was given up:\ngot  %+v\nwant %+v", got, want)
	}
}

// TestNeverMoreThanTheCredit: whatever Stripe says was refunded or disputed.
func TestNeverMoreThanTheCredit(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	l.refund("re_1", "pi_1", 40_00, "succeeded")
	l.refund("re_2", "pi_1", 40_00, "pending")
	l.dispute("dp_1", "pi_1", 80_00, "lost", -80_00)
	f.send("evt_1", "charge.refunded", charge("pi_1"))
	f.work("evt_1")
	if got, want := f.stands(), (stands{Refunded: 50_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	l.refund("re_2", "pi_1", 40_00, "failed") // now the dispute has room
	f.send("evt_2", "charge.refund.updated", l.refunds["re_2"])
	f.work("evt_2")
	if got, want := f.stands(), (stands{Refunded: 40_00, Disputed: 10_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestReversalsThatDoNotFit: an operator sees them, and no money moves.
func TestReversalsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		spoil        func(f *fixture, l *till, object map[string]any)
	}{
		{"a payment that Stripe does not know", "Stripe does not know", func(_ *fixture, l *till, _ map[string]any) { delete(l.intents, "pi_1") }},
		{"no PaymentIntent", "without a PaymentIntent", func(_ *fixture, _ *till, o map[string]any) { o["payment_intent"] = nil }},
		{"a payment of another top-up", "another top-up", func(_ *fixture, l *till, _ map[string]any) {
			l.intents["pi_1"]["metadata"] = map[string]string{"top_up_id": uuid.NewString()}
		}},
		{"a payment for no top-up of ours", "no top-up that we know", func(_ *fixture, l *till, o map[string]any) {
			o["payment_intent"] = "pi_9"
			l.intents["pi_9"] = maps.Clone(l.intents["pi_1"])
			maps.Copy(l.intents["pi_9"], map[string]any{"id": "pi_9", "metadata": map[string]string{}})
		}},
		{"another customer's payment", "customer", func(_ *fixture, l *till, _ map[string]any) { l.intents["pi_1"]["customer"] = "cus_harbour" }},
		{"another amount", "known with 5000", func(_ *fixture, l *till, _ map[string]any) { l.intents["pi_1"]["amount_received"] = 60_00 }},
		{"a payment in euros", `"eur"`, func(_ *fixture, l *till, _ map[string]any) { l.intents["pi_1"]["currency"] = "eur" }},
		{"a payment that is not paid", "not paid", func(_ *fixture, l *till, _ map[string]any) { l.intents["pi_1"]["status"] = "processing" }},
		{"a live payment", "livemode", func(_ *fixture, l *till, _ map[string]any) { l.intents["pi_1"]["livemode"] = true }},
		{"a refund in dollars", `"usd"`, func(_ *fixture, l *till, _ map[string]any) { l.refunds["re_1"]["currency"] = "usd" }},
		{"a refund of nothing", "amount of 0", func(_ *fixture, l *till, _ map[string]any) { l.refunds["re_1"]["amount"] = 0 }},
		{"a refund of less", "amount of -5", func(_ *fixture, l *till, _ map[string]any) { l.refunds["re_1"]["amount"] = -5 }},
		{"a dispute in euros", `"eur"`, func(_ *fixture, l *till, _ map[string]any) {
			l.disputes["dp_1"] = map[string]any{"id": "dp_1", "object": "dispute", "currency": "eur", "amount": 5000, "payment_intent": "pi_1"}
		}},
		{"a charge of the wrong type", "couldn't read", func(_ *fixture, _ *till, o map[string]any) { o["metadata"] = "x" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, l := paid(t)
			l.refund("re_1", "pi_1", 50_00, "succeeded")
			object := charge("pi_1")
			l.change(func(l *till) { c.spoil(f, l, object) })
			f.send("evt_1", "charge.refunded", object)
			id := "evt_1"
			if strings.Contains(c.reason, "couldn't read") {
				dbtest.Get(t, f.url, &id, `SELECT id FROM stripe_events WHERE id <> 'evt_paid'`)
			}
			f.work(id)
			if state, reason := f.state(id); state != "quarantined" || !strings.Contains(reason, c.reason) && !strings.Contains(reason, "couldn't be read") {
				t.Errorf("the event is %s because of %q; want it quarantined because of %q", state, reason, c.reason)
			}
			if got, want := f.stands(), (stands{Balance: 50_00, Credits: 1}); got != want {
				t.Errorf("money moved:\ngot  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestStripeAwayLeavesReversalsWaiting: without Stripe's answer nothing is decided; with it everything is.
func TestStripeAwayLeavesReversalsWaiting(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	l.change(func(l *till) { l.status = http.StatusServiceUnavailable })
	f.refunded(l, "evt_1", 50_00, "succeeded")
	var e struct {
		State    string
		Attempts int
		Jobs     int
	}
	look := func() {
		dbtest.Get(t, f.url, &e, `
			SELECT state, attempts, (SELECT count(*) FROM river_job WHERE args @> '{"reversals":["evt_1"]}') AS jobs
			FROM stripe_events WHERE id = 'evt_1'`)
	}
	if look(); e.State != "received" || e.Attempts != 1 || e.Jobs != 2 {
		t.Errorf("the event is %+v", e)
	}
	if got, want := f.stands(), (stands{Balance: 50_00, Credits: 1}); got != want {
		t.Errorf("without an answer:\ngot  %+v\nwant %+v", got, want)
	}
	f.work("evt_1")
	if look(); e.State != "received" || e.Attempts != 2 {
		t.Errorf("the event is %+v", e)
	}
	l.change(func(l *till) { l.status = 0 })
	if err := f.svc.Process(t.Context(), payments.EventBatch{Reversals: []string{"evt_1"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := f.stands(), (stands{Refunded: 50_00, Credits: 1}); got != want {
		t.Errorf("with it:\ngot  %+v\nwant %+v", got, want)
	}
}

// TestListThatLags: an event of a refund that Stripe's list does not have yet is worked later.
func TestListThatLags(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	object := l.refund("re_1", "pi_1", 50_00, "succeeded")
	l.change(func(l *till) { delete(l.refunds, "re_1") })
	f.send("evt_1", "charge.refund.updated", object)
	f.work("evt_1")
	if state, reason := f.state("evt_1"); state != "received" || !strings.Contains(reason, "re_1") {
		t.Errorf("the event is %s: %s", state, reason)
	}
	l.refund("re_1", "pi_1", 50_00, "succeeded")
	f.work("evt_1")
	if got, want := f.stands(), (stands{Refunded: 50_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestAnOldAnswerChangesNothing: what was asked first and comes back last is not believed.
func TestAnOldAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	l.refund("re_1", "pi_1", 50_00, "succeeded")
	f.send("evt_1", "charge.refunded", charge("pi_1"))
	asked, goOn := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(asked); <-goOn })
	l.change(func(l *till) {
		l.before = func(path string) {
			if path == "/v1/disputes" {
				first()
			}
		}
	})
	done := make(chan error, 1)
	go func() { done <- f.svc.Process(t.Context(), payments.EventBatch{Reversals: []string{"evt_1"}}) }()
	<-asked // the answer "succeeded" is on its way, and takes its time
	l.change(func(l *till) { l.before = nil })
	f.send("evt_2", "charge.refund.updated", l.refund("re_1", "pi_1", 50_00, "failed"))
	f.work("evt_2")
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := f.stands(), (stands{Balance: 50_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, id := range []string{"evt_1", "evt_2"} {
		if state, reason := f.state(id); state != "processed" {
			t.Errorf("%s is %s: %s", id, state, reason)
		}
	}
}

// TestManyReversalsAtOnce: two services work the same events and more of one wallet at the same time.
func TestManyReversalsAtOnce(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	second := f.service(func(o *payments.Options) { o.StripeBase, o.FreezeOnDispute = l.url, true })
	var ids []string
	for i := range 6 {
		id := fmt.Sprintf("evt_%d", i)
		l.refund(fmt.Sprintf("re_%d", i), "pi_1", 5_00, "succeeded")
		l.dispute(fmt.Sprintf("dp_%d", i), "pi_1", 1_00, "needs_response", -1_00)
		f.send(id, "charge.refunded", charge("pi_1"))
		ids = append(ids, id)
	}
	var work sync.WaitGroup
	for _, svc := range []*payments.Service{f.svc, second, f.svc, second} {
		for _, id := range ids {
			work.Go(func() {
				if err := svc.Process(t.Context(), payments.EventBatch{Reversals: []string{id}}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	if got, want := f.stands(), (stands{Balance: 14_00, Refunded: 30_00, Disputed: 6_00, Frozen: true, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// disputed has Stripe set the state of a dispute about pi_1 and tells of it.
func (f *fixture) disputed(l *till, event, id, status string, moved ...money.Pence) {
	f.t.Helper()
	f.send(event, "charge.dispute.updated", l.dispute(id, "pi_1", 10_00, status, moved...))
	f.work(event)
}

// frozen gives the reason of the wallet's freeze, empty when it is not frozen.
func (f *fixture) frozen() (reason string) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &reason, `SELECT frozen_reason FROM wallets WHERE org_id = $1`, f.org)
	return reason
}

// TestDisputesFreeze: who froze, who thaws, and who has the last word.
func TestDisputesFreeze(t *testing.T) {
	t.Parallel()
	const first, second = "Dispute dp_1 is open.", "Dispute dp_2 is open."
	wants := func(t *testing.T, f *fixture, want string) {
		t.Helper()
		if got := f.frozen(); got != want {
			t.Errorf("frozen because of %q, want %q", got, want)
		}
	}
	operator := audit.Operator(uuid.New())
	t.Run("until it has ended", func(t *testing.T) {
		t.Parallel()
		for _, end := range []string{"won", "lost"} {
			f, l := paid(t)
			f.disputed(l, "evt_1", "dp_1", "needs_response", -10_00)
			wants(t, f, first)
			f.disputed(l, "evt_2", "dp_1", "under_review", -10_00)
			wants(t, f, first)
			f.disputed(l, "evt_3", "dp_1", end, -10_00)
			wants(t, f, "")
			if n := f.count(`SELECT count(*) FROM audit_log WHERE action IN ('wallet.frozen', 'wallet.thawed') AND reason LIKE 'Dispute dp_1 %'`); n != 2 {
				t.Errorf("%d audit rows tell of it, want 2", n)
			}
		}
	})
	t.Run("until the last one has ended", func(t *testing.T) {
		t.Parallel()
		f, l := paid(t)
		f.disputed(l, "evt_1", "dp_1", "needs_response")
		f.disputed(l, "evt_2", "dp_2", "needs_response")
		wants(t, f, first)
		f.disputed(l, "evt_3", "dp_1", "won")
		wants(t, f, second)
		f.disputed(l, "evt_4", "dp_2", "won")
		wants(t, f, "")
	})
	t.Run("not for an inquiry, until it becomes a dispute", func(t *testing.T) {
		t.Parallel()
		f, l := paid(t)
		f.disputed(l, "evt_1", "dp_1", "warning_needs_response")
		wants(t, f, "")
		f.disputed(l, "evt_2", "dp_1", "needs_response", -10_00)
		wants(t, f, first)
	})
	t.Run("but not against an operator's word", func(t *testing.T) {
		t.Parallel()
		f, l := paid(t)
		books := wallet.New(f.db)
		f.disputed(l, "evt_1", "dp_1", "needs_response")
		if err := books.Thaw(t.Context(), f.org, "We know them.", operator); err != nil {
			t.Fatal(err)
		}
		f.disputed(l, "evt_2", "dp_1", "under_review")
		wants(t, f, "")
		if err := books.Freeze(t.Context(), f.org, "Abuse.", operator); err != nil {
			t.Fatal(err)
		}
		f.disputed(l, "evt_3", "dp_2", "needs_response")
		wants(t, f, "Abuse.")
		f.disputed(l, "evt_4", "dp_1", "won")
		f.disputed(l, "evt_5", "dp_2", "won")
		wants(t, f, "Abuse.")
	})
	t.Run("not where the policy is off", func(t *testing.T) {
		t.Parallel()
		f, l := paid(t, func(o *payments.Options) { o.FreezeOnDispute = false })
		f.disputed(l, "evt_1", "dp_1", "needs_response", -10_00)
		wants(t, f, "")
		if got, want := f.stands(), (stands{Balance: 40_00, Disputed: 10_00, Credits: 1}); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

// TestSandboxReversals runs the life of payments against the sandbox, with the workers and the webhooks of a real day.
func TestSandboxReversals(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	for _, amount := range []string{"50.00", "20.00", "30.00"} {
		l.press(l.start(amount), "pay")
	}
	l.until("the credits", func() bool { return l.count(`SELECT count(*) FROM credits`) == 3 })
	intent := func(amount money.Pence) (id string) {
		dbtest.Get(t, l.url, &id, `SELECT payment_intent FROM credits WHERE amount_pence = $1`, amount)
		return id
	}
	chargeOf := func(amount money.Pence) string {
		pi, err := l.api.PaymentIntents.Get(intent(amount), nil)
		if err != nil {
			t.Fatal(err)
		}
		return pi.LatestCharge.ID
	}
	l.control("/charges/"+chargeOf(50_00)+"/refund", map[string][]string{"amount": {"1000"}})
	l.control("/charges/"+chargeOf(50_00)+"/refund", nil)
	l.control("/charges/"+chargeOf(20_00)+"/dispute", nil)
	l.control("/charges/"+chargeOf(30_00)+"/dispute", map[string][]string{"kind": {"inquiry"}})
	l.until("the reversals", func() bool { return l.stands().Balance == 599_00 })
	l.reversed()
	if got := l.stands(); !got.Frozen || got.Refunded != 50_00 || got.Disputed != 20_00 {
		t.Errorf("%+v", got)
	}
	var refund, dispute string
	dbtest.Get(t, l.url, &refund, `SELECT id FROM refunds WHERE amount_pence = 4000`)
	dbtest.Get(t, l.url, &dispute, `SELECT id FROM disputes WHERE withdrawn_pence = 2000`)
	l.control("/refunds/"+refund+"/fail", nil)
	l.control("/disputes/"+dispute+"/close", map[string][]string{"outcome": {"won"}})
	l.until("what comes back", func() bool { return l.stands().Balance == 659_00 })
	l.reversed()
	if got := l.stands(); got.Frozen || got.Refunded != 10_00 || got.Disputed != 0 {
		t.Errorf("%+v", got)
	}
}

// reversed waits until everything is worked and compares our books with Stripe's, payment by payment.
func (l *live) reversed() {
	l.t.Helper()
	l.until("all deliveries", func() bool { return l.box.Stripe().Books().Undelivered == 0 })
	l.until("all events to be worked", func() bool { return l.count(`SELECT count(*) FROM stripe_events WHERE state = 'received'`) == 0 })
	l.sameNet()
}

// sameNet compares what is left of each payment at Stripe with what is left of its credit here.
func (l *live) sameNet() {
	l.t.Helper()
	theirs := map[string]int64{}
	for _, p := range l.box.Stripe().Books().Payments {
		if p.AmountReceived > 0 {
			theirs[p.ID] = p.Net
		}
	}
	var raw string
	dbtest.Get(l.t, l.url, &raw, `
		SELECT coalesce(jsonb_object_agg(payment_intent, amount_pence - (SELECT coalesce(sum(r.amount_pence), 0) FROM reversals r WHERE r.payment_intent = c.payment_intent))::text, '{}')
		FROM credits c`)
	ours := map[string]int64{}
	if err := json.Unmarshal([]byte(raw), &ours); err != nil {
		l.t.Fatal(err)
	}
	if !maps.Equal(ours, theirs) {
		l.t.Errorf("what is left of our credits %v\nof Stripe's payments     %v", ours, theirs)
	}
}

// TestReversalsDoNotKeepCreditsWaiting: while Stripe takes its time over a refund, another payment is credited.
func TestReversalsDoNotKeepCreditsWaiting(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	l.refund("re_1", "pi_1", 10_00, "succeeded")
	f.send("evt_1", "charge.refunded", charge("pi_1"))
	asked, goOn := make(chan struct{}), make(chan struct{})
	l.change(func(l *till) {
		first := sync.OnceFunc(func() { close(asked); <-goOn })
		l.before = func(string) { first() }
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.work("evt_1")
	}()
	<-asked
	next := f.topUp(f.org, 20_00)
	f.accept(event{id: "evt_2", kind: "payment_intent.succeeded", topUp: next, intent: "pi_2", amount: 20_00, customer: "cus_second"})
	f.work("evt_2")
	if got, want := f.stands(), (stands{Balance: 70_00, Credits: 2}); got != want {
		t.Errorf("while Stripe is asked:\ngot  %+v\nwant %+v", got, want)
	}
	close(goOn)
	<-done
	if got, want := f.stands(), (stands{Balance: 60_00, Refunded: 10_00, Credits: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.clock.Advance(time.Hour)
	if swept, err := f.svc.Sweep(t.Context()); swept != 0 || err != nil {
		t.Errorf("%d events were swept, %v", swept, err)
	}
}

// TestInvariantsOfReversals plants what no code of ours writes, and has the checks name it.
func TestInvariantsOfReversals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, damage, broken string }{
		{"a refund that was not posted", `UPDATE refunds SET amount_pence = amount_pence + 1`, "reversals-match-stripe"},
		{"a failed refund that still is", `UPDATE refunds SET status = 'failed'`, "reversals-match-stripe"},
		{"a dispute that was not posted", `UPDATE disputes SET withdrawn_pence = amount_pence`, "reversals-match-stripe"},
		{"more than the credit", `UPDATE reversals SET amount_pence = 9000`, "reversals-within-credit"},
		{"more bonus than was taken", `UPDATE reversals SET bonus_pence = amount_pence + 1`, "reversals-within-credit"},
		{"another amount than was posted", `UPDATE reversals SET amount_pence = amount_pence - 1`, "reversals-are-posted"},
		{"another transaction's number", `UPDATE reversals SET number = 7`, "reversals-are-posted"},
		{"a transaction that is nothing's", `DELETE FROM reversals`, "reversals-are-posted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, l := paid(t)
			l.dispute("dp_1", "pi_1", 10_00, "warning_needs_response")
			f.refunded(l, "evt_1", 30_00, "succeeded")
			dbtest.Super(t, f.url, `CREATE TABLE kept_reversals AS TABLE reversals`)
			dbtest.Super(t, f.url, c.damage)
			broken := map[string]bool{}
			if err := f.db.InSystemTx(t.Context(), "a test", func(ctx context.Context, tx *db.Tx) error {
				checks, err := wallet.CheckBooks(ctx, tx)
				for _, one := range checks {
					broken[one.Name] = len(one.Violations) > 0
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if !broken[c.broken] {
				t.Errorf("%s holds; %v", c.broken, broken)
			}
			// The books are checked once more at the end.
			dbtest.Super(t, f.url, `UPDATE refunds SET amount_pence = 3000, status = 'succeeded'`)
			dbtest.Super(t, f.url, `UPDATE disputes SET withdrawn_pence = 0`)
			dbtest.Super(t, f.url, `DELETE FROM reversals`)
			dbtest.Super(t, f.url, `INSERT INTO reversals TABLE kept_reversals`)
			dbtest.Super(t, f.url, `DROP TABLE kept_reversals`)
		})
	}
}

// TestDisputeOfMoneyThatWasSpent: the bank takes it, which leaves debt, twice told; a win brings it back, once.
func TestDisputeOfMoneyThatWasSpent(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	f.adjust(wallet.Adjustment, -45_00, "spent")
	for _, event := range []string{"evt_1", "evt_2"} {
		f.disputed(l, event, "dp_1", "needs_response", -10_00)
		if got, want := f.stands(), (stands{Debt: 5_00, Disputed: 10_00, Frozen: true, Credits: 1}); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", event, got, want)
		}
	}
	for _, event := range []string{"evt_3", "evt_4"} {
		f.disputed(l, event, "dp_1", "won", -10_00, 10_00)
		if got, want := f.stands(), (stands{Balance: 5_00, Credits: 1}); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", event, got, want)
		}
	}
	if n := f.count(`SELECT count(*) FROM ledger_transactions WHERE kind = 'dispute'`); n != 2 {
		t.Errorf("%d transactions tell of it, want 2", n)
	}
}
