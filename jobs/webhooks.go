package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/webhooks"
)

const (
	// webhooksEvery is how often it is looked for what customers' programs are to be told.
	webhooksEvery = 2 * time.Second
	// webhooksTimeout bounds one round, in which slow programs are waited for.
	webhooksTimeout = time.Minute
	// webhookRounds is how many rounds may be under way in one process: while one waits for slow programs, the others go on.
	webhookRounds = 4
	// queueWebhooks holds nothing else: no other work waits for customers' programs.
	queueWebhooks = "webhooks"
)

// webhooksArgs is the periodic job that tells customers' programs what happened.
type webhooksArgs struct{}

// Kind is the job's name in the queue.
func (webhooksArgs) Kind() string { return "webhooks" }

// InsertOpts has one of them in a period, whatever becomes of it: the next one does what it left undone.
func (webhooksArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueWebhooks, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: webhooksEvery}}
}

type deliveries struct {
	river.WorkerDefaults[webhooksArgs]
	webhooks *webhooks.Service
}

// Timeout leaves room for programs that are slow.
func (*deliveries) Timeout(*river.Job[webhooksArgs]) time.Duration { return webhooksTimeout }

// Work makes one round.
func (w *deliveries) Work(ctx context.Context, _ *river.Job[webhooksArgs]) error {
	return w.webhooks.Work(ctx)
}
