package jobs

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/failpoint"
	"ringfence/internal/payments"
)

// stripeEvents works a committed batch of Stripe's events.
type stripeEvents struct {
	river.WorkerDefaults[payments.EventBatch]
	payments *payments.Service
	log      *slog.Logger
}

// Timeout gives jobs that ask Stripe more time than River's own minute; zero means that one.
func (w *stripeEvents) Timeout(job *river.Job[payments.EventBatch]) time.Duration {
	if len(job.Args.Reversals) > 0 {
		return reversalTimeout
	}
	return 0
}

// Work credits what the batch says was paid. Its log line ties the job to its events; what became of each is logged by
// the event's own id.
func (w *stripeEvents) Work(ctx context.Context, job *river.Job[payments.EventBatch]) error {
	failpoint.Hit(failpoint.WorkAfterFetch)
	if err := w.payments.Process(ctx, job.Args); err != nil {
		return err // logged with the job's id by the error handler
	}
	w.log.InfoContext(ctx, "job worked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt,
		"events", slices.Concat(job.Args.IDs, job.Args.Strays, job.Args.Reversals), "orgs", job.Args.Orgs)
	return nil
}
