package payments_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
	"ringfence/internal/wallet/wallettest"
)

var operatorID = uuid.MustParse("01900000-0000-7000-8000-000000000001")

// moneyRows is a digest of every row that says something of money, and of the events but for when they were worked.
func (f *fixture) moneyRows() (digest string) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &digest, `
		SELECT md5(string_agg(row, E'\n' ORDER BY row)) FROM (
		    SELECT 'wallet ' || w::text AS row FROM wallets w UNION ALL
		    SELECT 'account ' || a::text FROM ledger_accounts a UNION ALL
		    SELECT 'transaction ' || t::text FROM ledger_transactions t UNION ALL
		    SELECT 'posting ' || p::text FROM ledger_postings p UNION ALL
		    SELECT 'credit ' || c::text FROM credits c UNION ALL
		    SELECT 'payment ' || (to_jsonb(p) - 'updated_at')::text FROM payments p UNION ALL
		    SELECT 'top-up ' || (to_jsonb(t) - 'updated_at')::text FROM top_ups t UNION ALL
		    SELECT 'event ' || (to_jsonb(e) - 'processed_at' - 'next_attempt_at')::text FROM stripe_events e UNION ALL
		    SELECT 'audit ' || a::text FROM audit_log a WHERE action <> 'stripe_event.replayed') rows`)
	return digest
}

func (f *fixture) count(query string, args ...any) (n int) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &n, query, args...)
	return n
}

const replays = `SELECT count(*) FROM audit_log WHERE action = 'stripe_event.replayed' AND actor = 'operator:01900000-0000-7000-8000-000000000001'`

// TestReplayingAProcessedEventChangesNothing: ten operators at once, with workers between them, and only the audit log
// knows of it afterwards.
func TestReplayingAProcessedEventChangesNothing(t *testing.T) {
	f := newFixture(t)
	topUp := f.topUp(f.org, 50_00)
	f.accept(event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00})
	f.accept(event{id: "evt_2", kind: "checkout.session.completed", topUp: topUp, intent: "pi_1", amount: 50_00})
	f.work("evt_1", "evt_2")
	before := f.moneyRows()
	f.clock.Advance(time.Hour)

	var mu sync.Mutex
	done := 0
	var all sync.WaitGroup
	for i := range 10 {
		svc := f.svc
		if i%2 == 1 {
			svc = f.service() // another process
		}
		all.Go(func() {
			for range 5 {
				err := svc.Replay(t.Context(), operatorID, "evt_1", "Looking at it again")
				switch {
				case err == nil:
					mu.Lock()
					done++
					mu.Unlock()
				case !fault.Is(err, fault.Conflict): // somebody else's replay is not worked yet
					t.Errorf("replay: %v", err)
				}
				if err := svc.Process(t.Context(), payments.EventBatch{Strays: []string{"evt_1"}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f.work("evt_1")
	if after := f.moneyRows(); after != before {
		t.Error("replaying a processed event changed something of money")
	}
	if n := f.count(replays); n != done || done < 5 {
		t.Errorf("%d replays are in the audit log, %d were answered", n, done)
	}
	if o := f.outcome(topUp); o.Balance != 619_00 || o.Credits != 1 {
		t.Errorf("%+v", o)
	}
	wallettest.CheckBooks(t, f.db)
}

// TestReplayAfterTheCauseWasMended: a payment by a customer that we did not know is credited once we do, and once.
func TestReplayAfterTheCauseWasMended(t *testing.T) {
	f := newFixture(t)
	topUp := f.topUp(f.org, 50_00)
	dbtest.Super(t, f.url, `UPDATE stripe_customers SET customer_id = 'cus_lost' WHERE org_id = $1`, f.org)
	f.accept(event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00})
	f.work("evt_1")
	if state, _ := f.state("evt_1"); state != "quarantined" {
		t.Fatalf("the event is %s", state)
	}

	// Too early: it comes back to where it was, with the same words.
	replay := func() error {
		return f.svc.Replay(t.Context(), operatorID, "evt_1", "  Customer was restored, TICKET-7 ")
	}
	if err := replay(); err != nil {
		t.Fatal(err)
	}
	f.work("evt_1")
	if state, reason := f.state("evt_1"); state != "quarantined" || !strings.Contains(reason, "cus_harbour") {
		t.Errorf("replayed too early it is %s: %s", state, reason)
	}

	dbtest.Super(t, f.url, `UPDATE stripe_customers SET customer_id = 'cus_harbour' WHERE org_id = $1`, f.org)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := replay(); err != nil && !fault.Is(err, fault.Conflict) {
				t.Error(err)
			}
			if err := f.svc.Process(t.Context(), payments.EventBatch{Strays: []string{"evt_1"}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f.work("evt_1")
	if o := f.outcome(topUp); o.Balance != 619_00 || o.Credits != 1 || o.TopUp != "paid" {
		t.Errorf("%+v", o)
	}
	d, err := f.svc.Event(t.Context(), "evt_1")
	if err != nil {
		t.Fatal(err)
	}
	if h := d.History[0]; h.Reason != "Customer was restored, TICKET-7" || h.From != payments.EventQuarantined || !strings.Contains(h.Before, "cus_harbour") {
		t.Errorf("the audit log says %+v", h)
	}
	if d.State != payments.EventProcessed || d.Attempts != 1 || d.Reason != "" {
		t.Errorf("the event is %+v", d.EventSummary)
	}
	wallettest.CheckBooks(t, f.db)
}

// TestReplayIsOneTransaction: the event, its job and its audit row come together or not at all.
func TestReplayIsOneTransaction(t *testing.T) {
	f := newFixture(t)
	f.plantEvents(1, "evt_", "payment_intent.succeeded", payments.EventFailed, dbtest.Start.Add(-time.Hour))
	dbtest.Super(t, f.url, `UPDATE stripe_events SET attempts = 60, reason = 'deadline', processed_at = now()`)
	for _, table := range []string{"audit_log", "river_job"} {
		dbtest.Super(t, f.url, fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT poison CHECK (id IS NULL) NOT VALID`, table))
		if err := f.svc.Replay(t.Context(), operatorID, "evt_000001", "why not"); err == nil {
			t.Errorf("a replay without its row in %s was answered with success", table)
		}
		dbtest.Super(t, f.url, fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT poison`, table))
	}
	if state, _ := f.state("evt_000001"); state != "failed" || f.count(replays) != 0 || f.count(`SELECT count(*) FROM river_job`) != 0 {
		t.Errorf("a replay that failed left something behind: the event is %s", state)
	}
	if err := f.svc.Replay(t.Context(), operatorID, "evt_000001", "why not"); err != nil {
		t.Fatal(err)
	}
	if n := f.count(`SELECT count(*) FROM stripe_events WHERE state = 'received' AND attempts = 0 AND reason = '' AND processed_at IS NULL AND next_attempt_at = $1`, f.clock.Now()); n != 1 {
		t.Error("the event does not wait as a new one does")
	}
	if n := f.count(`SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND state = 'available' AND args @> '{"strays":["evt_000001"]}'`); n != 1 {
		t.Errorf("%d jobs", n)
	}
	if n := f.count(replays + ` AND detail @> '{"from":"failed","attempts":60,"reason":"deadline"}'`); n != 1 {
		t.Error("the audit log does not tell what the event was before")
	}
}

func TestReplayRefuses(t *testing.T) {
	f := newFixture(t)
	f.plantEvents(1, "evt_r", "charge.updated", payments.EventReceived, dbtest.Start)
	f.plantEvents(1, "evt_i", "charge.updated", payments.EventIgnored, dbtest.Start)
	before := f.moneyRows()
	for _, c := range []struct {
		id, reason string
		kind       fault.Kind
	}{
		{"evt_r000001", "x", fault.Conflict},
		{"evt_none", "x", fault.NotFound},
		{"a b", "x", fault.NotFound},
		{"evt_i000001", " \t ", fault.Invalid},
		{"evt_i000001", strings.Repeat("é", 501), fault.Invalid},
		{"evt_i000001", "a\x00b", fault.Invalid},
		{"evt_i000001", "a\xffb", fault.Invalid},
		{"evt_i000001", "a\nb", fault.Invalid},
	} {
		err := f.svc.Replay(t.Context(), operatorID, c.id, c.reason)
		if fe := fault.As(err); err == nil || fe.Kind != c.kind || (c.kind == fault.Invalid) != (fe.Field == "reason") {
			t.Errorf("%s because of %q: %v", c.id, c.reason, err)
		}
	}
	if _, err := f.svc.ReplayFailed(t.Context(), operatorID, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("all without a reason: %v", err)
	}
	if f.moneyRows() != before || f.count(replays) != 0 {
		t.Error("a refused replay changed something")
	}
	if err := f.svc.Replay(t.Context(), operatorID, "evt_i000001", strings.Repeat("é", 500)); err != nil {
		t.Errorf("an ignored event: %v", err)
	}
}

// TestReplayFailed puts back the failed ones and no others, and every one of them once.
func TestReplayFailed(t *testing.T) {
	f := newFixture(t)
	for i, state := range payments.EventStates() {
		f.plantEvents(3, fmt.Sprintf("evt_%d", i), "charge.updated", state, dbtest.Start)
	}
	f.plantEvents(payments.ReplayLimit-1, "evt_z", "charge.updated", payments.EventFailed, dbtest.Start.Add(time.Second))
	dbtest.Super(t, f.url, `UPDATE stripe_events SET org_id = $1 WHERE id = 'evt_1000001'`, f.org)
	n, err := f.svc.ReplayFailed(t.Context(), operatorID, "The disk is larger now")
	if err != nil || n != payments.ReplayLimit {
		t.Fatalf("%d, %v", n, err)
	}
	if left := f.count(`SELECT count(*) FROM stripe_events WHERE state = 'failed' AND id > 'evt_z'`); left != 2 {
		t.Errorf("%d are left, want the two newest", left)
	}
	if n, err = f.svc.ReplayFailed(t.Context(), operatorID, "The rest"); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err = f.svc.ReplayFailed(t.Context(), operatorID, "None"); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if n := f.count(replays); n != payments.ReplayLimit+2 {
		t.Errorf("%d audit rows", n)
	}
	if n := f.count(replays+` AND org_id = $1`, f.org); n != 1 {
		t.Errorf("%d audit rows name the organisation", n)
	}
	if n := f.count(`SELECT count(*) FROM (SELECT jsonb_array_elements(args -> 'strays') FROM river_job) ids`); n != payments.ReplayLimit+2 {
		t.Errorf("the jobs name %d events", n)
	}
	if n := f.count(`SELECT count(*) FROM stripe_events WHERE state = 'received'`); n != payments.ReplayLimit+2+3 {
		t.Errorf("%d wait", n)
	}
}
