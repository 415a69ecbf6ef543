package faulttest

import (
	"testing"
	"time"

	"ringfence/internal/failpoint"
)

// TestKilledWebServer kills the web server at each point of storing an event. What it had acknowledged is stored, and
// Stripe's repeats find each event once.
func TestKilledWebServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		point  string
		stores bool // whether what was under way is in the database afterwards
	}{
		"before insert": {failpoint.AcceptBeforeInsert, false},
		"before commit": {failpoint.AcceptBeforeCommit, false},
		"before answer": {failpoint.AcceptBeforeAnswer, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			web := w.web()
			w.worker()
			s, ctx := newSender(), within(t, longest)
			events := w.payments(60)
			healthy, doomed := events[:30], events[30:]
			s.all(ctx, healthy, 8, web.base())

			web.arm(c.point)
			s.once(ctx, doomed, 8, web.base())
			web.killed()
			acked := s.acknowledged()
			stored := w.kept(acked)
			unanswered := 0
			for _, e := range doomed {
				if stored[e.id] != "" && acked[e.id] == nil {
					unanswered++
				}
			}
			if c.stores != (unanswered > 0) {
				t.Errorf("after a kill %s, %d events are stored without an answer", name, unanswered)
			}
			if n := len(stored) - unanswered; n != len(acked) {
				t.Errorf("%d events are stored that were answered, %d were", n, len(acked))
			}

			web.start()
			web.ready()
			s.all(ctx, doomed, 8, web.base())
			w.settled(s, events)
			for _, e := range doomed {
				if known := stored[e.id] != ""; s.fresh[e.id] != map[bool]int{true: 0, false: 1}[known] && acked[e.id] == nil {
					t.Errorf("%s, stored before: %t, was answered as new %d times", e.id, known, s.fresh[e.id])
				}
			}
		})
	}
}

// TestKilledWorker kills a worker at each point of crediting. The queue believes for two minutes that the job is being
// worked; the sweeper, which goes by the events, has another worker credit them within seconds of their 30.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	killedWorker(t, (*world).later)
}

// killedWorker runs the test; pass makes time pass.
func killedWorker(t *testing.T, pass func(*world)) {
	t.Helper()
	for name, c := range map[string]struct {
		point   string
		credits bool // whether what was under way is credited before anybody comes to help
	}{
		"after fetch":   {failpoint.WorkAfterFetch, false},
		"before commit": {failpoint.WorkBeforeCommit, false},
		"after commit":  {failpoint.WorkAfterCommit, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			web := w.web()
			// A job that no sweeper goes by was left behind two minutes ago.
			w.alter(`INSERT INTO river_job (kind, args, max_attempts, state, attempt, attempted_at) VALUES ('sweep', '{"left": "behind"}', 25, 'running', 1, now() - interval '2 minutes')`)
			worker := w.worker()
			s, ctx := newSender(), within(t, 3*time.Minute)
			events := w.payments(60)
			healthy, doomed := events[:30], events[30:]
			s.all(ctx, healthy, 8, web.base())
			until(t, "the first credits", func() bool { return w.credited(healthy) == len(healthy) })
			until(t, "the queue to take back what was left behind", func() bool {
				return w.number(`SELECT count(*) FROM river_job WHERE args ? 'left' AND state <> 'running'`) == 1
			})

			worker.arm(c.point)
			s.all(ctx, doomed, 8, web.base())
			worker.killed()
			killed := time.Now()
			if n := w.credited(doomed); (n > 0) != c.credits {
				t.Errorf("after a kill %s, %d payments are credited", name, n)
			}
			until(t, "the dead worker's transactions to be gone", func() bool {
				return w.number(`SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'`) == 0
			})
			if n := w.number(`SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND state = 'running'`); n == 0 {
				t.Error("the queue knows of no job under way: the kill came too late")
			}

			pass(w)
			w.worker()
			w.settledWithin(2*time.Minute, s, events)
			t.Logf("all credited %s after the kill", time.Since(killed).Round(time.Millisecond))

			// In two minutes the queue gives the job out again too. It must find nothing to do.
			w.alter(`UPDATE river_job SET state = 'available' WHERE kind = 'stripe_events' AND state = 'running'`)
			until(t, "the job to be worked again", func() bool {
				return w.number(`SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND state <> 'completed'`) == 0
			})
			w.settled(s, events)
		})
	}
}
