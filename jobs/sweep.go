package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/riverqueue/river"
)

// Sweeper is a part of the domain that looks for what was left behind: it gives forgotten work a new start and old rows
// their end. Run is safe to repeat and to run in several processes at once.
type Sweeper struct {
	Name string
	Run  func(context.Context) error
}

// sweepArgs is the periodic job that runs every sweeper.
type sweepArgs struct{}

// Kind is the job's name in the queue.
func (sweepArgs) Kind() string { return "sweep" }

type sweep struct {
	river.WorkerDefaults[sweepArgs]
	sweepers []Sweeper
	metrics  *Metrics
}

// Work runs every sweeper; one that fails does not keep the others from their turn.
func (w *sweep) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	var all error
	for _, s := range w.sweepers {
		outcome := "ok"
		if err := s.Run(ctx); err != nil {
			outcome = "failed"
			all = errors.Join(all, fmt.Errorf("%s: %w", s.Name, err))
		}
		w.metrics.sweeps.WithLabelValues(s.Name, outcome).Inc()
	}
	return all
}
