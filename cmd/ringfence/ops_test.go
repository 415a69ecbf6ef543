package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
)

// TestOperations looks at the operators' pages as operators do.
func TestOperations(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("empty", func(t *testing.T) {
		tab := s.tab(t, browsertest.View{}, operator)
		tab.Open(s.base() + "/dashboard") // where signing in leads
		tab.WaitPath("/ops")
		want(t, "the navigation", tab.Text(`nav[aria-label="Main"]`), "Operations Overview Organisations Wallets Prices Stripe events")
		tab.Open(s.base() + "/ops/stripe-events")
		want(t, "the list", tab.Text("#events"), "No events yet")
		tab.Everywhere("ops-empty")
	})

	harbour := signedInAs(t, s, owner)
	harbour.post(harbour.checkout("50.00")+"/pay", url.Values{}, http.StatusSeeOther)
	harbour.waitBalance("£619.00")
	until(t, "the payment's events to be worked", func() bool {
		return s.count(t, `SELECT count(*) FROM stripe_events`) >= 2 && s.count(t, `SELECT count(*) FROM stripe_events WHERE state = 'received'`) == 0
	})

	t.Run("list and event", func(t *testing.T) { operatorLooks(t, s) })
	t.Run("replay", func(t *testing.T) { operatorReplays(t, s, browsertest.View{}) })
	t.Run("replay without scripts", func(t *testing.T) { operatorReplays(t, s, browsertest.View{NoScripts: true}) })
	t.Run("replay all failed", func(t *testing.T) { operatorReplaysFailed(t, s) })
	if got := harbour.balance(); got != "£619.00" {
		t.Errorf("after all replays the balance is %s", got)
	}
	s.booksAgree(t)
	t.Run("refund", func(t *testing.T) { operatorSeesRefund(t, s, harbour) })
}

// credited is the event that the payment was credited by.
func (s *site) credited(t *testing.T) string {
	t.Helper()
	var id string
	dbtest.Get(t, s.getenv("DATABASE_URL"), &id, `SELECT substr(actor, 8) FROM audit_log WHERE action = 'wallet.credited' AND actor LIKE 'stripe:%'`)
	return id
}

func operatorLooks(t *testing.T, s *site) {
	// One event of each other state, and enough of them for two pages.
	dbtest.Super(t, s.getenv("DATABASE_URL"), `
		INSERT INTO stripe_events (id, type, payload, state, reason, attempts, occurred_at, received_at, next_attempt_at, processed_at)
		SELECT 'evt_old_' || i, 'charge.updated', '{"id":"evt_old"}', 'ignored', 'nothing is done on events of this type', 1, at, at, at, at
		FROM generate_series(1, 60) i, LATERAL (SELECT now() - i * interval '1 minute' AS at) moment`)
	dbtest.Super(t, s.getenv("DATABASE_URL"), `
		INSERT INTO stripe_events (id, type, payload, state, reason, attempts, payment_intent, org_id, occurred_at, received_at, next_attempt_at)
		SELECT 'evt_bad_' || state, 'payment_intent.succeeded', '{"id":"evt_bad","created":1,"livemode":false,"data":{"object":{"object":"payment_intent","id":"pi_3PabcdefghijklmnopqrstuV","amount_received":2000}}}',
		       state, reason, attempts, 'pi_3PabcdefghijklmnopqrstuV', CASE WHEN state = 'received' THEN (SELECT id FROM organizations WHERE name = 'Second Tenant') END, at, at, now() + interval '1 hour'
		FROM (VALUES ('quarantined', 'paid by customer "cus_9s6XKzkNRiz8i3", not by the organisation''s own', 1), ('failed', 'couldn''t store the payments: pq: deadlock detected', 60), ('received', 'couldn''t read the events: timeout', 7)) v (state, reason, attempts),
		     LATERAL (SELECT now() - interval '3 minutes' AS at) moment`)

	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/stripe-events")
	want(t, "the counts", tab.Text("#event-counts"), "1 Quarantined 1 Failed 1 Waiting oldest 3 min")
	want(t, "the warning", tab.Text("#late"), "The oldest has waited for 3 min")
	want(t, "the endpoint", tab.Text("#webhook"), "The sandbox delivers to this address without an endpoint.")
	want(t, "the endpoint", tab.Text("#webhook"), "None refused")
	tab.Everywhere("ops-events")
	for _, width := range []int64{browsertest.Phone, 700, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 2400})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("ops-events-whole-%d", width))
	}
	tab.Look(browsertest.View{})
	tab.Leave("#older")
	want(t, "the last page", tab.Text("#events"), "These are the oldest.")
	tab.Leave("#newest")
	tab.Leave(`#event-counts a:has([data-count=quarantined])`)
	if n := tab.Count("tbody tr"); n != 1 {
		t.Errorf("%d events are quarantined", n)
	}
	tab.Everywhere("ops-events-quarantined")
	tab.Type("#q", "pi_none")
	tab.Leave("#find")
	want(t, "nothing", tab.Text("#events"), "Nothing fits")
	tab.Everywhere("ops-events-none")
	tab.Leave("#show-all")

	// The way from an event to its payment's others and to the books.
	tab.Type("#q", s.credited(t))
	tab.Leave("#find")
	tab.Leave("td[data-heading] a")
	want(t, "the event", tab.Text("#event"), "Harbour Dental")
	want(t, "the credit", tab.Text("#event-payment"), "+£50.00")
	want(t, "the history", tab.Text("#history"), "Wallet credited")
	tab.Everywhere("ops-event")
	for _, width := range []int64{browsertest.Phone, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 3000})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("ops-event-whole-%d", width))
	}
	tab.Look(browsertest.View{})
	for _, state := range []string{"quarantined", "failed", "received"} {
		tab.Open(s.base() + "/ops/stripe-events/evt_bad_" + state)
		tab.Everywhere("ops-event-" + state)
	}
	dbtest.Super(t, s.getenv("DATABASE_URL"), `DELETE FROM stripe_events WHERE id = 'evt_bad_received'`)

	other := s.tab(t, browsertest.View{}, owner)
	other.Expect("status of 404")
	other.Open(s.base() + "/ops/stripe-events")
	if other.Status() != http.StatusNotFound || strings.Contains(other.Text("body"), "Operations") {
		t.Errorf("an owner is answered with %d", other.Status())
	}
}

// operatorSeesRefund refunds a part of the payment at Stripe and finds it at the payment's event.
func operatorSeesRefund(t *testing.T, s *site, harbour *person) {
	var intent string
	dbtest.Get(t, s.getenv("DATABASE_URL"), &intent, `SELECT payment_intent FROM credits`)
	if _, err := s.boxed().Refunds.New(&stripe.RefundParams{PaymentIntent: new(intent), Amount: stripe.Int64(5_00)}); err != nil {
		t.Fatal(err)
	}
	harbour.waitBalance("£614.00")
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/stripe-events/" + s.credited(t))
	want(t, "the refund", tab.Text("#event-reversals"), "Refund, taken back")
	want(t, "the refund", tab.Text("#event-reversals"), "-£5.00")
	tab.Everywhere("ops-event-refunded")
	for _, width := range []int64{browsertest.Phone, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 3000})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("ops-event-refunded-whole-%d", width))
	}
}

// operatorReplays replays what was processed, and sees it come back to where it was by itself.
func operatorReplays(t *testing.T, s *site, v browsertest.View) {
	id := s.credited(t)
	tab := s.tab(t, v, operator)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/ops/stripe-events/" + id)
	tab.Leave("#replay-submit")
	want(t, "beside the reason", tab.Text("#reason-error"), "Say why")
	tab.Until("the focus", func() bool { return tab.Focused() == "reason" })
	if !v.NoScripts {
		tab.Everywhere("ops-event-refused")
	}
	before := s.count(t, `SELECT count(*) FROM audit_log WHERE action = 'stripe_event.replayed' AND subject = '`+id+`'`)
	tab.Type("#reason", "TICKET-7: looking again")
	tab.Leave("#replay-submit")
	tab.WaitText("#event-state", "Processed")
	want(t, "the history", tab.Text("#history"), "Replayed, was processed")
	want(t, "the history", tab.Text("#history"), "by "+operator)
	want(t, "the history", tab.Text("#history"), "TICKET-7: looking again")
	if n := s.count(t, `SELECT count(*) FROM audit_log WHERE action = 'stripe_event.replayed' AND subject = '`+id+`'`); n != before+1 {
		t.Errorf("%d audit rows, want %d", n, before+1)
	}
}

// operatorReplaysFailed is asked first.
func operatorReplaysFailed(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/ops/stripe-events")
	tab.Leave("#replay-failed")
	want(t, "the page", tab.Text("#failed-count"), "1 event failed")
	tab.Everywhere("ops-replay-failed")
	tab.Type("#reason", "The disk is larger now")
	tab.Leave("#replay-all")
	want(t, "beside the box", tab.Text("#confirm-error"), "Tick")
	tab.Everywhere("ops-replay-failed-refused")
	tab.Click("#confirm")
	tab.Leave("#replay-all")
	want(t, "the outcome", tab.Text("#replayed"), "1 event put back to be worked")
	tab.Everywhere("ops-replayed")
	until(t, "the event to be worked", func() bool {
		return s.count(t, `SELECT count(*) FROM stripe_events WHERE id = 'evt_bad_failed' AND state = 'quarantined'`) == 1
	})
	tab.Open(s.base() + "/ops/stripe-events/evt_bad_failed")
	want(t, "the event", tab.Text("#event-reason"), "paid, but for no top-up")
}
