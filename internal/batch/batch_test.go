package batch_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"ringfence/internal/batch"
)

// rounds records what each round was given, and can be held up.
type rounds struct {
	mu    sync.Mutex
	seen  [][]int
	began chan struct{} // one token for each round that begins
	let   chan struct{} // one token lets one round end
}

func newRounds() *rounds {
	return &rounds{began: make(chan struct{}, 1000), let: make(chan struct{}, 1000)}
}

func (r *rounds) run(values []int, _ batch.More[int]) []batch.Result[int] {
	r.mu.Lock()
	r.seen = append(r.seen, slices.Clone(values))
	r.mu.Unlock()
	r.began <- struct{}{}
	<-r.let
	out := make([]batch.Result[int], len(values))
	for i, v := range values {
		out[i].Value = v * 10
		if v < 0 {
			out[i].Err = errors.New("negative")
		}
	}
	return out
}

func TestThoseWhoWaitShareTheNextRound(t *testing.T) {
	r := newRounds()
	waiting := make(chan struct{}, 100)
	g := &batch.Group[int, int]{Run: r.run, Most: 10, Waiting: 100, Weight: func(int) int { return 1 }}
	var wg sync.WaitGroup
	call := func(v int) {
		wg.Go(func() {
			waiting <- struct{}{}
			got, err := g.Do(t.Context(), v)
			if (err != nil) != (v < 0) || got != v*10 {
				t.Errorf("Do(%d) = %d, %v", v, got, err)
			}
		})
	}
	call(1)
	<-r.began // the first round is under way, with the first caller alone
	for v := 2; v <= 25; v++ {
		call(v)
	}
	call(-1)
	for range 26 {
		<-waiting
	}
	for range 26 {
		r.let <- struct{}{}
	}
	wg.Wait()
	if len(r.seen[0]) != 1 {
		t.Errorf("the first caller waited for company: %v", r.seen[0])
	}
	total := 0
	for _, values := range r.seen {
		total += len(values)
		if len(values) > 10 {
			t.Errorf("a round of %d", len(values))
		}
	}
	if total != 26 || len(r.seen) > 15 {
		t.Errorf("%d values in %d rounds", total, len(r.seen))
	}
}

func TestHeavyValuesGoAlone(t *testing.T) {
	r := newRounds()
	g := &batch.Group[int, int]{Run: r.run, Most: 10, Waiting: 100, Weight: func(v int) int { return v }}
	var wg sync.WaitGroup
	for _, v := range []int{50, 50, 50} {
		wg.Go(func() {
			if _, err := g.Do(t.Context(), v); err != nil {
				t.Error(err)
			}
		})
		r.let <- struct{}{}
	}
	wg.Wait()
	for _, values := range r.seen {
		if len(values) != 1 {
			t.Errorf("heavy values shared a round: %v", values)
		}
	}
}

func TestFull(t *testing.T) {
	r := newRounds()
	g := &batch.Group[int, int]{Run: r.run, Most: 10, Waiting: 1}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	do := func(ctx context.Context) {
		wg.Go(func() { _, _ = g.Do(ctx, 1) })
	}
	do(ctx)
	<-r.began
	// One of the next may wait; with two more, at least one is refused at once.
	refused := make(chan error, 2)
	for range 2 {
		wg.Go(func() {
			_, err := g.Do(ctx, 2)
			refused <- err
		})
	}
	if err := <-refused; !errors.Is(err, batch.ErrFull) {
		t.Errorf("got %v, want %v", err, batch.ErrFull)
	}
	cancel()
	r.let <- struct{}{}
	r.let <- struct{}{}
	wg.Wait()
}

// TestWhoLeavesTakesNobodyAlong: callers that go away, also in the moment in which they are handed the lead, leave
// everybody else answered, and the group fit for more.
func TestWhoLeavesTakesNobodyAlong(t *testing.T) {
	for range 200 {
		r := newRounds()
		g := &batch.Group[int, int]{Run: r.run, Most: 3, Waiting: 1000}
		var wg sync.WaitGroup
		leaving, cancel := context.WithCancel(t.Context())
		contexts := []context.Context{t.Context(), leaving}
		for v := range 30 {
			wg.Go(func() {
				if got, err := g.Do(contexts[v%2], v); err != nil && v%2 == 0 || err == nil && got != v*10 {
					t.Errorf("Do(%d) = %d, %v", v, got, err)
				}
			})
			r.let <- struct{}{}
		}
		<-r.began
		cancel()
		wg.Wait()
		r.let <- struct{}{}
		if got, err := g.Do(t.Context(), 7); err != nil || got != 70 {
			t.Fatalf("afterwards: %d, %v", got, err)
		}
	}
}

func TestPanicsReachOnlyTheLeader(t *testing.T) {
	g := &batch.Group[int, int]{Most: 10, Waiting: 10}
	g.Run = func(values []int, _ batch.More[int]) []batch.Result[int] {
		if values[0] == 0 {
			panic("boom")
		}
		return []batch.Result[int]{{Value: 1}}
	}
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = g.Do(t.Context(), 0)
	}()
	if got, err := g.Do(t.Context(), 1); got != 1 || err != nil {
		t.Errorf("afterwards: %d, %v", got, err)
	}
}

func TestARoundTakesAlongWhatCameWhileItWaited(t *testing.T) {
	var seen [][]int
	began := make(chan struct{})
	g := &batch.Group[int, int]{Most: 4, Waiting: 100}
	g.Run = func(values []int, more batch.More[int]) []batch.Result[int] {
		if len(seen) == 0 {
			close(began)
			for len(values) < 4 { // until the three that fit have come
				values = append(values, more(func(v int) bool { return v%2 == 0 })...)
				runtime.Gosched()
			}
			if late := more(func(int) bool { return true }); len(late) > 0 {
				t.Errorf("%v came over the most that a round may carry", late)
			}
		}
		seen = append(seen, values)
		out := make([]batch.Result[int], len(values))
		for i, v := range values {
			out[i].Value = v * 10
		}
		return out
	}
	var wg sync.WaitGroup
	call := func(v int) {
		wg.Go(func() {
			if got, err := g.Do(t.Context(), v); got != v*10 || err != nil {
				t.Errorf("Do(%d) = %d, %v", v, got, err)
			}
		})
	}
	call(1)
	<-began
	for _, v := range []int{3, 2, 5, 4, 6} {
		call(v)
	}
	wg.Wait()
	if len(seen[0]) != 4 || seen[0][0] != 1 || slices.ContainsFunc(seen[0][1:], func(v int) bool { return v%2 != 0 }) {
		t.Errorf("the first round had %v", seen[0])
	}
}
