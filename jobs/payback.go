package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/payments"
)

// payBack asks Stripe for the refunds of a withdrawal.
type payBack struct {
	river.WorkerDefaults[payments.PayBackJob]
	payments *payments.Service
}

// Timeout leaves room for a withdrawal of many parts.
func (*payBack) Timeout(*river.Job[payments.PayBackJob]) time.Duration { return reversalTimeout }

// Work asks for what is not answered yet.
func (w *payBack) Work(ctx context.Context, job *river.Job[payments.PayBackJob]) error {
	return w.payments.PayBack(ctx, job.Args)
}
