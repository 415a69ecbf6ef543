package faulttest

import (
	"slices"
	"sync"
	"testing"
)

// TestOneEventAHundredTimes sends one event a hundred times, twenty at a time, to two servers.
func TestOneEventAHundredTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.web(), w.web()
	w.worker()
	s := newSender()
	events := w.payments(1)
	s.each(slices.Repeat(events, 100), 20, func(i int, e *event) {
		if a := s.deliver(t.Context(), []*process{one, two}[i%2].base(), e); a.status != 200 {
			t.Errorf("delivery %d: %d %s", i, a.status, a.body)
		}
	})
	if n := s.fresh[events[0].id]; n != 1 {
		t.Errorf("it was answered as new %d times", n)
	}
	w.settled(s, events)
}

// TestTwoEventsOnePayment: Stripe tells of every payment twice, by its Checkout session and by its PaymentIntent, in any
// order and at the same time.
func TestTwoEventsOnePayment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.web(), w.web()
	w.worker()
	w.worker()
	s, rng := newSender(), seeded(t)
	var events []*event
	for range 100 {
		p := w.pay()
		events = append(events, w.completed(p), w.succeeded(p))
	}
	deliveries := slices.Clone(events)
	rng.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	s.all(within(t, longest), deliveries, 16, one.base(), two.base())
	w.settled(s, events)
}

// TestOppositeOrder has two servers store the same events at the same time, one of them from the last to the first.
// Each event is new to one of them, and nobody waits for a deadlock to be found.
func TestOppositeOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.web(), w.web()
	w.worker()
	s, ctx := newSender(), within(t, longest)
	events := w.payments(400)
	backwards := slices.Clone(events)
	slices.Reverse(backwards)
	var wg sync.WaitGroup
	wg.Go(func() { s.once(ctx, events, 24, one.base()) })
	wg.Go(func() { s.once(ctx, backwards, 24, two.base()) })
	wg.Wait()
	if n := s.refused(200); n != 2*len(events) {
		t.Errorf("%s; want 200 ×%d", s.outcome(), 2*len(events))
	}
	for _, e := range events {
		if s.fresh[e.id] != 1 {
			t.Errorf("%s was answered as new %d times", e.id, s.fresh[e.id])
		}
	}
	if n := w.number(`SELECT deadlocks FROM pg_stat_database WHERE datname = 'ringfence'`); n != 0 {
		t.Errorf("%d deadlocks had to be broken", n)
	}
	w.settled(s, events)
}
