package payments_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
)

// plantEvents writes n events of a type and state, all received at the same moment, as one batch of Stripe's is.
func (f *fixture) plantEvents(n int, prefix, kind string, state payments.EventState, received time.Time) {
	f.t.Helper()
	dbtest.Super(f.t, f.url, `
		INSERT INTO stripe_events (id, type, payload, state, occurred_at, received_at, next_attempt_at)
		SELECT $1 || lpad(i::text, 6, '0'), $2, '{}', $3, $4, $4, $4 FROM generate_series(1, $5::int) i`, prefix, kind, state, received, n)
}

// list reads a filter's pages to their end.
func (f *fixture) list(filter payments.EventFilter) (ids []string, pages int) {
	f.t.Helper()
	var from payments.EventCursor
	for {
		page, err := f.svc.Events(f.t.Context(), filter, from)
		if err != nil {
			f.t.Fatal(err)
		}
		pages++
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		if page.Older == nil {
			return ids, pages
		}
		if len(page.Events) != payments.EventsPerPage {
			f.t.Errorf("a page that is not the last has %d events", len(page.Events))
		}
		from = *page.Older
	}
}

// TestEventsArePagedWithoutGaps: newest first, with many events of the same moment across the pages' edges.
func TestEventsArePagedWithoutGaps(t *testing.T) {
	f := newFixture(t)
	f.plantEvents(70, "evt_a", "charge.updated", payments.EventIgnored, dbtest.Start)
	f.plantEvents(50, "evt_b", "charge.updated", payments.EventProcessed, dbtest.Start.Add(time.Microsecond))
	f.plantEvents(3, "evt_c", "payment_intent.succeeded", payments.EventQuarantined, dbtest.Start.Add(-time.Hour))
	f.plantEvents(2, "evt_d", "payment_intent.succeeded", payments.EventFailed, dbtest.Start.Add(time.Hour))
	f.plantEvents(1, "evt_e", "payment_intent.succeeded", payments.EventReceived, dbtest.Start.Add(time.Minute))

	ids, pages := f.list(payments.EventFilter{})
	var order []string
	for _, id := range ids {
		order = append(order, id[:5])
	}
	if pages != 3 || len(ids) != 126 || strings.Join(slices.Compact(order), " ") != "evt_d evt_e evt_b evt_a evt_c" {
		t.Errorf("%d pages with %d events, in the order %v", pages, len(ids), slices.Compact(order))
	}
	if seen := slices.Compact(slices.Sorted(slices.Values(ids))); len(seen) != len(ids) {
		t.Errorf("%d events were listed twice", len(ids)-len(seen))
	}
	for _, c := range []struct {
		filter payments.EventFilter
		n      int
	}{
		{payments.EventFilter{State: payments.EventQuarantined}, 3},
		{payments.EventFilter{State: payments.EventIgnored}, 70},
		{payments.EventFilter{Type: "payment_intent.succeeded"}, 6},
		{payments.EventFilter{Type: "charge.updated"}, 120},
		{payments.EventFilter{Type: "charge.updated", State: payments.EventProcessed}, 50},
		{payments.EventFilter{Type: "charge.updated", State: payments.EventFailed}, 0},
		{payments.EventFilter{Type: "no.such"}, 0},
		{payments.EventFilter{State: "no such"}, 0},
		{payments.EventFilter{Type: "a\x00b"}, 0},
		{payments.EventFilter{Text: "evt_c000002"}, 1},
		{payments.EventFilter{Text: "evt_c000002", State: payments.EventFailed}, 0},
		{payments.EventFilter{Text: "evt_c"}, 0},
		{payments.EventFilter{Text: "%"}, 0},
		{payments.EventFilter{Text: "\xff"}, 0},
	} {
		if ids, _ := f.list(c.filter); len(ids) != c.n {
			t.Errorf("%+v gives %d events, want %d", c.filter, len(ids), c.n)
		}
	}

	v, err := f.svc.EventOverview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[payments.EventState]int{"quarantined": 3, "failed": 2, "received": 1, "processed": 50, "ignored": 70}
	if fmt.Sprint(v.Counts) != fmt.Sprint(want) || !v.OldestWaiting.Equal(dbtest.Start.Add(time.Minute)) || strings.Join(v.Types, " ") != "charge.updated payment_intent.succeeded" {
		t.Errorf("the overview is %+v", v)
	}
}

func TestNoEventsAtAll(t *testing.T) {
	f := newFixture(t)
	if ids, pages := f.list(payments.EventFilter{}); len(ids) != 0 || pages != 1 {
		t.Errorf("%v in %d pages", ids, pages)
	}
	v, err := f.svc.EventOverview(t.Context())
	if err != nil || !v.OldestWaiting.IsZero() || len(v.Types) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestManyEventsAreNeverScanned: every question of an operator is answered along an index, however rare what it asks for.
func TestManyEventsAreNeverScanned(t *testing.T) {
	f := newFixture(t)
	f.plantEvents(30_000, "evt_p", "payment_intent.succeeded", payments.EventProcessed, dbtest.Start)
	f.plantEvents(30_000, "evt_i", "charge.updated", payments.EventIgnored, dbtest.Start.Add(time.Second))
	f.plantEvents(1, "evt_q", "payment_intent.succeeded", payments.EventQuarantined, dbtest.Start.Add(-time.Hour))
	dbtest.Super(t, f.url, `ANALYZE stripe_events`)
	scans := func() (n struct{ Scans, Fetched int }) {
		// A backend reports what it read when it ends; its pool is closed before this is asked.
		dbtest.Get(t, f.url, &n, `SELECT seq_scan AS scans, idx_tup_fetch AS fetched FROM pg_stat_user_tables WHERE relname = 'stripe_events'`)
		return n
	}
	before := scans()

	watched := *f
	watched.db = dbtest.OpenURL(t, f.url, f.clock.Now)
	watched.svc = watched.service()
	questions := []payments.EventFilter{
		{},
		{State: payments.EventQuarantined},
		{State: payments.EventFailed},
		{State: payments.EventReceived},
		{State: payments.EventProcessed},
		{Type: "charge.updated"},
		{Type: "no.such"},
		{Type: "payment_intent.succeeded", State: payments.EventIgnored},
		{Type: "charge.updated", State: payments.EventProcessed},
		{Text: "evt_q000001"},
		{Text: "pi_none"},
		{Text: uuid.NewString()},
	}
	for _, q := range questions {
		page, err := watched.svc.Events(t.Context(), q, payments.EventCursor{})
		if err == nil && page.Older != nil { // deep pages cost what the first one does
			_, err = watched.svc.Events(t.Context(), q, payments.EventCursor{ReceivedAt: dbtest.Start, ID: "evt_p005000"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	v, err := watched.svc.EventOverview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Counts[payments.EventProcessed] != payments.CountLimit+1 || v.Counts[payments.EventQuarantined] != 1 {
		t.Errorf("counted %v", v.Counts)
	}
	if _, err := watched.svc.Event(t.Context(), "evt_q000001"); err != nil {
		t.Fatal(err)
	}
	if err := watched.db.Close(); err != nil {
		t.Fatal(err)
	}
	after := scans()
	if after.Scans != before.Scans {
		t.Errorf("the whole table was read %d times", after.Scans-before.Scans)
	}
	// The counts may read CountLimit rows of each of two states; a page reads at most its length from each state.
	if most := 2*(payments.CountLimit+1) + 2*len(questions)*5*(payments.EventsPerPage+1); after.Fetched-before.Fetched > most {
		t.Errorf("%d rows were read, want at most %d", after.Fetched-before.Fetched, most)
	}
}

// TestEventTellsAllThatHangsOnIt: the event of a payment leads to the top-up, payment, credit, ledger and audit log.
func TestEventTellsAllThatHangsOnIt(t *testing.T) {
	f := newFixture(t)
	topUp := f.topUp(f.org, 50_00)
	e := event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00}
	f.accept(e, event{id: "evt_2", kind: "customer.created", topUp: uuid.New()})

	d, err := f.svc.Event(t.Context(), "evt_1")
	if err != nil {
		t.Fatal(err)
	}
	if d.State != payments.EventReceived || d.ProcessedAt != nil || d.TopUp == nil || d.Payment != nil || d.Credit != nil || string(d.Payload) != string(e.body()) {
		t.Errorf("before it was worked: %+v", d)
	}
	f.work("evt_1", "evt_2")
	if d, err = f.svc.Event(t.Context(), "evt_1"); err != nil {
		t.Fatal(err)
	}
	if d.State != payments.EventProcessed || d.ProcessedAt == nil || d.OrgName != "Harbour Dental" || d.TopUpID != topUp || d.PaymentIntent != "pi_1" {
		t.Errorf("the event: %+v", d.EventSummary)
	}
	if d.TopUp == nil || d.TopUp.ID != topUp || d.TopUp.State != payments.Paid || d.Payment == nil || d.Payment.Amount != 50_00 {
		t.Fatalf("the top-up: %+v, the payment: %+v", d.TopUp, d.Payment)
	}
	if c := d.Credit; c == nil || c.Amount != 50_00 || c.BalanceAfter != 619_00 || c.Seq != 2 || len(c.Postings) != 2 || c.Postings[0].Amount+c.Postings[1].Amount != 0 {
		t.Errorf("the credit: %+v", c)
	}
	if len(d.History) != 1 || d.History[0].Action != "wallet.credited" || d.History[0].Actor != "stripe:evt_1" {
		t.Errorf("the history: %+v", d.History)
	}
	for filter, n := range map[payments.EventFilter]int{{Text: "pi_1"}: 1, {Text: topUp.String()}: 1, {Text: strings.ToUpper(topUp.String())}: 1} {
		if ids, _ := f.list(filter); len(ids) != n || ids[0] != "evt_1" {
			t.Errorf("%+v finds %v", filter, ids)
		}
	}
	if d, err = f.svc.Event(t.Context(), "evt_2"); err != nil || d.State != payments.EventIgnored || d.TopUp != nil || d.Credit != nil || len(d.History) != 0 {
		t.Errorf("an event of nobody's: %+v, %v", d, err)
	}
	for _, id := range []string{"evt_none", "", "a b", "a\x00", strings.Repeat("x", 256)} {
		if _, err := f.svc.Event(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("event %q: %v", id, err)
		}
	}
}

// TestGivenUpAt: a failed event tells when its last try was, not when the next one would have been.
func TestGivenUpAt(t *testing.T) {
	f := newFixture(t)
	bad := f.topUp(f.other, 20_00)
	f.accept(event{id: "evt_bad", kind: "payment_intent.succeeded", topUp: bad, intent: "pi_bad", amount: 20_00, customer: "cus_second"})
	dbtest.Super(t, f.url, `ALTER TABLE ledger_transactions ADD CONSTRAINT poison CHECK (id IS NULL) NOT VALID`)
	dbtest.Super(t, f.url, `UPDATE stripe_events SET attempts = 59`)
	f.clock.Advance(3 * time.Hour)
	f.work("evt_bad")
	dbtest.Super(t, f.url, `ALTER TABLE ledger_transactions DROP CONSTRAINT poison`)
	d, err := f.svc.Event(t.Context(), "evt_bad")
	if err != nil || d.State != payments.EventFailed || !d.GivenUpAt().Equal(f.clock.Now()) {
		t.Errorf("given up at %s, want %s; %v", d.GivenUpAt(), f.clock.Now(), err)
	}
}
