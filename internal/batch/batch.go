// Package batch lets callers that arrive while a round of work is under way share the next round: one commit for all of
// them instead of one each. It never waits for a batch to fill, so a caller alone is as fast as without it.
//
// There is no goroutine with a life of its own. The caller that finds nobody working leads one round, and then hands the
// lead to one of those who wait: nothing has to be started, stopped or drained.
package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrFull says that too many callers wait already.
var ErrFull = errors.New("too many are waiting")

// Result is the answer to one value of a round.
type Result[R any] struct {
	Value R
	Err   error
}

// More gives the values that wait and that accept takes, as many as the round has room for.
type More[T any] func(accept func(T) bool) []T

// Group combines calls of Do. Its fields are set before the first call and not changed after.
type Group[T, R any] struct {
	// Run does one round and answers every value, in the order of the values. No caller's context reaches it, since no
	// caller decides about the others.
	//
	// A round that has to wait before it begins, for a lock say, may then ask more for the values that came meanwhile and
	// that it can take along; those are answered after the others, in the order in which more gave them.
	Run func(values []T, more More[T]) []Result[R]
	// Most bounds the weight of one round, unless a single value is heavier. Weight of a value; nil means 1 each.
	Most   int
	Weight func(T) int
	// Waiting bounds how many callers may wait for a round.
	Waiting int

	mu      sync.Mutex
	leading bool
	queue   []*call[T, R]
}

// call is one caller's value. done is answered once with the result, or before that, once, with the lead.
type call[T, R any] struct {
	value T
	done  chan answer[R]
}

type answer[R any] struct {
	result Result[R]
	lead   bool
}

// Do has value worked in a round and gives its result. When ctx ends first, Do returns ctx's error: the value is then
// either taken back or, if its round is under way, worked all the same.
func (g *Group[T, R]) Do(ctx context.Context, value T) (R, error) {
	// Room for both answers, so that nobody who answers ever waits for a caller that has gone.
	c := &call[T, R]{value: value, done: make(chan answer[R], 2)}
	g.mu.Lock()
	if len(g.queue) >= g.Waiting {
		g.mu.Unlock()
		var none R
		return none, ErrFull
	}
	g.queue = append(g.queue, c)
	lead := !g.leading
	g.leading = true
	g.mu.Unlock()

	if lead {
		g.round()
	}
	for {
		select {
		case a := <-c.done:
			if !a.lead {
				return a.result.Value, a.result.Err
			}
			g.round()
		case <-ctx.Done():
			g.leave(c)
			var none R
			return none, fmt.Errorf("gone before the answer: %w", context.Cause(ctx))
		}
	}
}

// round works one batch from the head of the queue and hands the lead over, even if Run panics.
func (g *Group[T, R]) round() {
	g.mu.Lock()
	n, weight := 0, 0
	for n < len(g.queue) {
		w := g.weight(g.queue[n].value)
		if n > 0 && weight+w > g.Most {
			break
		}
		weight += w
		n++
	}
	calls := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	g.mu.Unlock()

	defer g.handOver()
	if n == 0 {
		return
	}
	values := make([]T, n)
	for i, c := range calls {
		values[i] = c.value
	}
	results := make([]Result[R], 0, n)
	defer func() {
		for i, c := range calls {
			r := Result[R]{Err: errors.New("the round that the value was in has failed")}
			if i < len(results) {
				r = results[i]
			}
			c.done <- answer[R]{result: r}
		}
	}()
	results = g.Run(values, func(accept func(T) bool) (came []T) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.queue = slices.DeleteFunc(g.queue, func(c *call[T, R]) bool {
			w := g.weight(c.value)
			if weight+w > g.Most || !accept(c.value) {
				return false
			}
			weight += w
			calls, came = append(calls, c), append(came, c.value)
			return true
		})
		return came
	})
}

// weight is what a value counts for.
func (g *Group[T, R]) weight(value T) int {
	if g.Weight == nil {
		return 1
	}
	return g.Weight(value)
}

// handOver passes the lead to the first who waits, or puts it down.
func (g *Group[T, R]) handOver() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.leading = false
		return
	}
	g.queue[0].done <- answer[R]{lead: true} // it stays in the queue: leading, it takes itself along
}

// leave takes a caller out. If the lead has just been handed to it, the others must not wait for that in vain.
func (g *Group[T, R]) leave(c *call[T, R]) {
	g.mu.Lock()
	g.queue = slices.DeleteFunc(g.queue, func(w *call[T, R]) bool { return w == c })
	g.mu.Unlock()
	select {
	case a := <-c.done:
		if a.lead {
			g.handOver()
		}
	default:
	}
}
