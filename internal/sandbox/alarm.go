package sandbox

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// alarms runs functions when their time has come, one after the other in the order of their times.
//
// Times are those of the injected clock. The clock is looked at again at least every clockCheck, so that a clock
// that a test moves is noticed.
type alarms struct {
	now  func() time.Time
	kick chan struct{}

	mu   sync.Mutex
	heap alarmHeap
	seq  uint64
}

const clockCheck = 100 * time.Millisecond

type alarm struct {
	at  time.Time
	seq uint64
	run func(ctx context.Context)
}

type alarmHeap []alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h alarmHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface; only container/heap calls it, with an alarm.
func (h *alarmHeap) Push(x any) {
	if a, ok := x.(alarm); ok {
		*h = append(*h, a)
	}
}

// Pop implements heap.Interface.
func (h *alarmHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*h = old[:len(old)-1]
	return last
}

func newAlarms(now func() time.Time) *alarms {
	return &alarms{now: now, kick: make(chan struct{}, 1)}
}

// at arranges for run to be called once the clock has reached t; at once when it already has. Its context is the
// loop's.
func (a *alarms) at(t time.Time, run func(ctx context.Context)) {
	a.mu.Lock()
	a.seq++
	heap.Push(&a.heap, alarm{at: t, seq: a.seq, run: run})
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// next takes the first alarm that is due, or says how long to wait for the next look.
func (a *alarms) next() (run func(ctx context.Context), wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.heap) == 0 {
		return nil, time.Hour
	}
	wait = a.heap[0].at.Sub(a.now())
	if wait > 0 {
		return nil, min(wait, clockCheck)
	}
	if due, ok := heap.Pop(&a.heap).(alarm); ok {
		return due.run, 0
	}
	return nil, clockCheck
}

// loop runs alarms until ctx ends.
func (a *alarms) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		run, wait := a.next()
		if run != nil {
			run(ctx)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-a.kick:
		case <-timer.C:
		}
	}
}
