package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/riverqueue/river"

	"ringfence/internal/auth"
	"ringfence/internal/failpoint"
	"ringfence/internal/payments"
	"ringfence/internal/wallet"
)

// stripeEvents works a committed batch of Stripe's events.
type stripeEvents struct {
	river.WorkerDefaults[payments.EventBatch]
	payments *payments.Service
	log      *slog.Logger
}

// Work credits what the batch says was paid. Its log line ties the job to its events; what became of each is logged by
// the event's own id.
func (w *stripeEvents) Work(ctx context.Context, job *river.Job[payments.EventBatch]) error {
	failpoint.Hit(failpoint.WorkAfterFetch)
	if err := w.payments.Process(ctx, job.Args); err != nil {
		return err // logged with the job's id by the error handler
	}
	w.log.InfoContext(ctx, "job worked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt,
		"events", slices.Concat(job.Args.IDs, job.Args.Strays), "orgs", job.Args.Orgs)
	return nil
}

// sweepArgs is the periodic job that gives forgotten work a new start and old rows their end.
type sweepArgs struct{}

// Kind is the job's name in the queue.
func (sweepArgs) Kind() string { return "sweep" }

type sweep struct {
	river.WorkerDefaults[sweepArgs]
	payments *payments.Service
	gates    *wallet.Gates
	auth     *auth.Auth
}

// Work runs every sweeper; one that fails does not keep the others from their turn.
func (w *sweep) Work(ctx context.Context, _ *river.Job[sweepArgs]) error {
	_, perr := w.payments.Sweep(ctx)
	_, gerr := w.gates.Expire(ctx)
	_, _, aerr := w.auth.Sweep(ctx)
	return errors.Join(perr, gerr, aerr)
}
