//go:build drill

package faulttest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"ringfence/internal/failpoint"
	"ringfence/internal/sandbox"
)

// What the drill of payments consists of; the last four are of a hundred.
const (
	drillTopUps    = 1_000
	drillBuyers    = 6
	drillDropped   = 10
	drillDoubled   = 10
	drillRefunded  = 5
	drillContested = 2
)

// TestPaymentsDrill is a business day of an unlucky kind: a thousand top-ups by the pages, paid on Stripe's; of what
// Stripe tells, a tenth is lost and a tenth comes twice; some payments are refunded, in whole, in part, in several parts,
// and some disputed, won and lost; and the only worker is killed three times. After a reconciliation the books are
// Stripe's to the penny.
func TestPaymentsDrill(t *testing.T) {
	began := time.Now()
	rng := seeded(t)
	s := newShop(t)
	started := s.funds()
	worker := s.worker()
	buyers := []*buyer{s.buyer("owner@harbour.example"), s.buyer("owner@second.example")}
	seed := rng.Uint64()
	s.faults(
		sandbox.Fault{Match: "deliver *", Do: sandbox.FaultDrop, Times: -1, Percent: drillDropped, Seed: seed},
		// Of what is not dropped, so that it is a tenth of all.
		sandbox.Fault{Match: "deliver *", Do: sandbox.FaultRepeat, Times: -1, Copies: 2, Percent: drillDoubled * 100 / (100 - drillDropped), Seed: seed},
	)

	plans := planned(rng)
	var bought atomic.Int64
	queue := make(chan int)
	var shopping sync.WaitGroup
	for range drillBuyers {
		shopping.Go(func() {
			for i := range queue {
				plans[i].carryOut(s, buyers[i%len(buyers)])
				bought.Add(1)
			}
		})
	}
	day := within(t, 5*time.Minute)
	shopping.Go(func() {
		defer close(queue)
		for i := range plans {
			select {
			case queue <- i:
			case <-day.Done(): // everybody has failed
				return
			}
		}
	})
	// The worker dies in each quarter of the day but the last: twice where it hurts, once anywhere.
	deaths := []string{failpoint.WorkBeforeCommit, failpoint.WorkAfterCommit, ""}
	rng.Shuffle(len(deaths), func(i, j int) { deaths[i], deaths[j] = deaths[j], deaths[i] })
	for i, point := range deaths {
		mark := int64((i+1)*drillTopUps/4 - rng.IntN(drillTopUps/8))
		// A busy machine may take long over a quarter of the day.
		if err := pollFor(3*time.Minute, func() bool { return bought.Load() >= mark }); err != nil {
			t.Fatalf("waiting for the worker's hour: %v", err)
		}
		if point == "" {
			worker.kill()
		} else {
			worker.arm(point)
			worker.killed()
		}
		worker.start()
		worker.ready()
	}
	shopping.Wait()
	sold := time.Since(began)
	s.told()
	toldAt := time.Since(began)
	missed := drillTopUps - s.number(`SELECT count(*) FROM credits`)
	report := s.reconciled()
	s.agreed(started)
	if n := s.number(`SELECT count(*) FROM credits`); n != drillTopUps {
		t.Errorf("%d payments are credited, want %d", n, drillTopUps)
	}
	// What was lost, was lost to the books too until then; and there is nothing left to find.
	if !strings.Contains(report, fmt.Sprintf("healed         %d payments", missed)) || !strings.Contains(report, "disagreements  0") {
		t.Errorf("%d payments were not credited, and reconciling says:\n%s", missed, report)
	}
	if again := s.reconciled(); !strings.Contains(again, "healed         0 payments") || !strings.Contains(again, "reversals      0 events") || !strings.Contains(again, "disagreements  0") {
		t.Errorf("reconciling again says:\n%s", again)
	}
	s.agreed(started)

	books, hooks := s.books(), webhooks(t, s.metrics)
	if books.Lost == 0 || hooks["duplicate"] == 0 {
		t.Errorf("%d events were lost and %d came twice: this was no drill", books.Lost, hooks["duplicate"])
	}
	table := new(strings.Builder)
	row := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	for _, c := range []struct {
		what string
		n    any
	}{
		{"top-ups paid", drillTopUps},
		{"events Stripe told of", hooks["stored"]},
		{"events it lost", books.Lost},
		{"deliveries that were repeats", hooks["duplicate"]},
		{"payments with refunds", s.number(`SELECT count(DISTINCT payment_intent) FROM refunds`)},
		{"refunds", s.number(`SELECT count(*) FROM refunds`)},
		{"disputes won, lost", fmt.Sprintf("%d, %d", s.number(`SELECT count(*) FROM disputes WHERE status = 'won'`), s.number(`SELECT count(*) FROM disputes WHERE status = 'lost'`))},
		{"workers killed", len(deaths)},
		{"payments that only reconciling found", missed},
		{"Stripe's books", books},
		{"until all were paid", seconds(sold)},
		{"until all that came was worked", seconds(toldAt)},
		{"in all", seconds(time.Since(began))},
	} {
		fmt.Fprintf(row, "%s\t%v\n", c.what, c.n)
	}
	row.Flush()
	fmt.Fprintf(os.Stdout, "\nThe drill of payments:\n\n%s\n%s\n", table, report)
}

// plan is one top-up and what becomes of its payment.
type plan struct {
	pence    int64
	refunds  []int64 // zero is what is left
	disputed string  // won, lost or nothing
}

// planned gives the day's top-ups. Their amounts differ, so that no two are the same open top-up.
func planned(rng *rand.Rand) []plan {
	plans := make([]plan, drillTopUps)
	for i, extra := range rng.Perm(drillTopUps) {
		plans[i].pence = int64(500 + extra)
	}
	order := rng.Perm(drillTopUps)
	for n, i := range order[:drillTopUps*drillRefunded/100] {
		p := &plans[i]
		part := 1 + rng.Int64N(p.pence/3)
		p.refunds = [][]int64{{0}, {part}, {part, part}, {part, part, 0}}[n%4]
	}
	for n, i := range order[drillTopUps-drillTopUps*drillContested/100:] {
		plans[i].disputed = []string{"won", "lost"}[n%2]
	}
	return plans
}

// carryOut tops up, pays, and has happen to the payment what is planned.
func (p plan) carryOut(s *shop, b *buyer) {
	intent := b.buy(p.pence)
	for _, part := range p.refunds {
		s.refund(intent, part)
	}
	if p.disputed != "" {
		s.decide(s.dispute(intent), p.disputed)
	}
}

// webhooks are what the web server counted, by outcome.
func webhooks(t testing.TB, addr string) map[string]int {
	t.Helper()
	body, err := said(asking.Get("http://" + addr + "/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(string(body)))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), `ringfence_stripe_webhooks_total{outcome="`); ok {
			outcome, n, _ := strings.Cut(rest, `"} `)
			if counts[outcome], err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return counts
}
