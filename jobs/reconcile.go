package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/payments"
)

const (
	// reconcileEvery is how often our books are compared with Stripe's; with it what was lost is found within ten minutes.
	reconcileEvery = 3 * time.Minute
	// reconcileTimeout bounds one comparison, a full one of thirty days included.
	reconcileTimeout = 45 * time.Minute
	// queueReconcile holds nothing else: a long comparison keeps nobody waiting.
	queueReconcile = "reconcile"
)

// reconcileArgs is the periodic job that compares our books with Stripe's.
type reconcileArgs struct{}

// Kind is the job's name in the queue.
func (reconcileArgs) Kind() string { return "reconcile" }

// InsertOpts has one of them in a period, whatever becomes of it: the next one does what it left undone.
func (reconcileArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueReconcile, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: reconcileEvery}}
}

type reconcile struct {
	river.WorkerDefaults[reconcileArgs]
	payments *payments.Service
}

// Timeout leaves room for the full comparison.
func (*reconcile) Timeout(*river.Job[reconcileArgs]) time.Duration { return reconcileTimeout }

// Work makes the comparisons that are due.
func (w *reconcile) Work(ctx context.Context, _ *river.Job[reconcileArgs]) error {
	return w.payments.ReconcileDue(ctx)
}
