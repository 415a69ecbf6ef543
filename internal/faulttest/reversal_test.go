package faulttest

import (
	"testing"
	"time"

	"ringfence/internal/failpoint"
)

// TestKilledMidReversal kills the worker at each point of taking a refund, and a lost dispute, out of a wallet. Another one
// finds what is left to do, and each is taken once.
func TestKilledMidReversal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		point string
		taken bool // whether what was under way is taken before anybody comes to help
	}{
		"after asking":  {failpoint.ReverseAfterAsking, false},
		"before commit": {failpoint.WorkBeforeCommit, false},
		"after commit":  {failpoint.WorkAfterCommit, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			started, worker := s.funds(), s.worker()
			b := s.buyer("owner@harbour.example")
			refunded, disputed := b.buy(50_00), b.buy(30_00)
			s.told()

			worker.arm(c.point)
			s.refund(refunded, 20_00)
			s.decide(s.dispute(disputed), "lost")
			worker.killed()
			killed := time.Now()
			until(t, "Stripe's deliveries", func() bool { return s.books().Undelivered == 0 })
			until(t, "the dead worker's transactions to be gone", func() bool {
				return s.number(`SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'`) == 0
			})
			if n := s.number(`SELECT count(*) FROM reversals`); (n > 0) != c.taken {
				t.Errorf("after a kill %s, %d reversals are posted", name, n)
			}
			if n := s.number(`SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND state = 'running'`); n == 0 {
				t.Error("the queue knows of no job under way: the kill came too late")
			}

			s.later()
			worker.start()
			worker.ready()
			s.told()
			if took := time.Since(killed); took > 2*time.Minute {
				t.Errorf("the books are right %s after the kill", took)
			}
			once := func() {
				t.Helper()
				s.agreed(started)
				if n := s.number(`SELECT count(*) FROM reversals WHERE amount_pence IN (2000, 3000)`); n != 2 || s.number(`SELECT count(*) FROM reversals`) != 2 {
					t.Errorf("%d reversals are as they should be, want 2 and no other", n)
				}
			}
			once()

			// In an hour the queue gives the job out again. It must find nothing to do.
			s.alter(`UPDATE river_job SET state = 'available' WHERE kind = 'stripe_events' AND state = 'running'`)
			until(t, "the job to be worked again", func() bool {
				return s.number(`SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND state <> 'completed'`) == 0
			})
			once()
		})
	}
}
