//go:build drill

package faulttest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"ringfence/internal/failpoint"
)

const (
	// drillPayments are told of by two events each.
	drillPayments = 10_000
	// drillRepeats is how many of a hundred events are sent twice.
	drillRepeats = 5
	// drillDisorder is how many places an event may stand away from its own.
	drillDisorder = 500
	drillSenders  = 16
)

// TestDrill is everything at once: 20,000 events with repeats and out of order to two servers and two workers over a
// PostgreSQL with a synchronous standby, and while they arrive six processes are killed, the database is stopped as by a
// power cut and started, and later lost for good, with the standby taking over. Nothing acknowledged is lost, nothing is
// credited twice, and nothing waits for more than two minutes.
func TestDrill(t *testing.T) {
	began := time.Now()
	rng := seeded(t)
	w := newWorld(t)
	var err error
	e := environment{"DATABASE_URL": w.pg.url(), "RINGFENCE_DATA_DIR": t.TempDir(), "STRIPE_API_BASE": noStripe}
	if w.topUps, err = e.prepare(t.Context(), drillPayments); err != nil {
		t.Fatal(err)
	}
	standby := w.follow()
	webs, workers := []*process{w.web(), w.web()}, []*process{w.worker(), w.worker()}
	prepared := time.Since(began)

	var events []*event
	for range drillPayments {
		p := w.pay()
		events = append(events, w.completed(p), w.succeeded(p))
	}
	deliveries := disordered(rng, events)
	s, ctx := newSender(), within(t, 10*time.Minute)

	// Each fault strikes somewhere in the middle of its own stretch of the load.
	type step struct {
		name   string
		strike func() (recovered func())
	}
	killedAt := func(p *process, point string) func() func() {
		return func() func() {
			p.arm(point)
			p.killed()
			return func() { p.start(); p.ready() }
		}
	}
	killedAnywhere := func(which []*process) func() func() {
		return func() func() {
			p := which[rng.IntN(len(which))]
			p.kill()
			return func() { p.start(); p.ready() }
		}
	}
	steps := []step{
		{"kill -9 of a web server " + failpoint.AcceptBeforeCommit, killedAt(webs[0], failpoint.AcceptBeforeCommit)},
		{"kill -9 of a worker " + failpoint.WorkBeforeCommit, killedAt(workers[0], failpoint.WorkBeforeCommit)},
		{"kill -9 of a web server " + failpoint.AcceptBeforeAnswer, killedAt(webs[1], failpoint.AcceptBeforeAnswer)},
		{"kill -9 of a worker " + failpoint.WorkAfterCommit, killedAt(workers[1], failpoint.WorkAfterCommit)},
		{"kill -9 of a web server, anywhere", killedAnywhere(webs)},
		{"kill -9 of a worker, anywhere", killedAnywhere(workers)},
		{"database stopped -m immediate and started", func() func() {
			if err := w.pg.stop(immediate); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := w.pg.start(); err != nil {
					t.Fatal(err)
				}
				webs[0].ready()
				webs[1].ready()
			}
		}},
		{"primary lost, standby promoted", func() func() {
			w.failOver(standby)
			return func() { webs[0].ready(); webs[1].ready() }
		}},
	}
	// The promotion comes last, since there is no second standby; the others come in any order.
	rng.Shuffle(len(steps)-1, func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })

	table := new(strings.Builder)
	row := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(row, "at\tfault\tacknowledged by then\trecovered after\tlongest without a 2xx\trefused or unanswered")
	loaded := time.Now()
	stretch := len(deliveries) / (len(steps) + 1)
	for i, step := range steps {
		part := deliveries[i*stretch : (i+1)*stretch]
		var wg sync.WaitGroup
		before, bad := s.answered(), s.unacknowledged()
		s.restartGap()
		wg.Go(func() { s.all(ctx, part, drillSenders, webs[0].base(), webs[1].base()) })
		mark := before + stretch/10 + rng.IntN(stretch/3)
		until(t, "the fault's moment", func() bool { return s.answered() >= mark })
		at, acked := time.Since(loaded), len(s.acknowledged())
		recovered := step.strike()
		struck := time.Now()
		recovered()
		took := time.Since(struck)
		w.kept(s.acknowledged())
		wg.Wait()
		if took > back || s.longestGap() > back {
			t.Errorf("%s: recovered after %s, nothing acknowledged for %s", step.name, took, s.longestGap())
		}
		fmt.Fprintf(row, "%s\t%s\t%d\t%s\t%s\t%d\n", seconds(at), step.name, acked, seconds(took), seconds(s.longestGap()), s.unacknowledged()-bad)
	}
	s.all(ctx, deliveries[len(steps)*stretch:], drillSenders, webs[0].base(), webs[1].base())
	sent := time.Since(loaded)
	w.settledWithin(2*time.Minute, s, events)
	settled := time.Since(loaded)

	slowest := w.number(`SELECT ceil(extract(epoch FROM max(processed_at - received_at))) FROM stripe_events`)
	if slowest > 120 {
		t.Errorf("an event waited for %d s", slowest)
	}
	asNew := 0
	for id, n := range s.fresh {
		if asNew += n; n > 1 {
			t.Errorf("%s was answered as new %d times", id, n)
		}
	}
	stored := w.stored()
	lost := 0
	for id := range s.acknowledged() {
		if stored[id] == "" {
			lost++
		}
	}
	row.Flush()
	fmt.Fprintln(table)
	for _, c := range []struct {
		what string
		n    any
	}{
		{"events", len(events)},
		{"deliveries wanted, repeats included", len(deliveries)},
		{"answers", s.outcome()},
		{"acknowledged events", len(s.acknowledged())},
		{"acknowledged and not stored", lost},
		{"payments", drillPayments},
		{"payments credited", w.number(`SELECT count(*) FROM credits`)},
		{"payments credited more than once", w.number(`SELECT count(*) FROM (SELECT FROM ledger_transactions WHERE kind = 'top_up' GROUP BY reference HAVING count(*) > 1) d`)},
		{"longest from stored to worked", fmt.Sprintf("%d s", slowest)},
		{"preparation", seconds(prepared)},
		{"sending", seconds(sent)},
		{"until all was credited", seconds(settled)},
		{"in all", seconds(time.Since(began))},
	} {
		fmt.Fprintf(row, "%s\t%v\n", c.what, c.n)
	}
	row.Flush()
	fmt.Fprintf(os.Stdout, "\nThe drill:\n\n%s\n", table)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// disordered gives every event once and some of them twice, none far from its place.
func disordered(rng *rand.Rand, events []*event) []*event {
	type placed struct {
		e  *event
		at int
	}
	var list []placed
	for i, e := range events {
		list = append(list, placed{e, i + rng.IntN(drillDisorder)})
		if rng.IntN(100) < drillRepeats {
			list = append(list, placed{e, i + rng.IntN(drillDisorder)})
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	deliveries := make([]*event, len(list))
	for i, p := range list {
		deliveries[i] = p.e
	}
	return deliveries
}

// answered is how many deliveries were answered 2xx.
func (s *sender) answered() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers[200]
}

// unacknowledged is how many deliveries were not answered 2xx.
func (s *sender) unacknowledged() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for status, count := range s.answers {
		if status/100 != 2 {
			n += count
		}
	}
	return n
}

// restartGap begins to measure the longest time without a 2xx anew.
func (s *sender) restartGap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gap, s.last = 0, time.Time{}
}

func (s *sender) longestGap() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap
}
