package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/operations"
)

const (
	// verifyTimeout bounds one verification: it reads whole tables, or asks for every account at a provider.
	verifyTimeout = 10 * time.Minute
	// queueVerifications holds nothing else: one at a time, and nobody waits for them.
	queueVerifications = "verifications"
)

// verifyArgs is the periodic job that holds everything of a kind against what was promised.
type verifyArgs struct {
	What operations.Kind `json:"what"`
}

// Kind is the job's name in the queue.
func (verifyArgs) Kind() string { return "verify" }

type verify struct {
	river.WorkerDefaults[verifyArgs]
	operations *operations.Service
}

// Timeout leaves room for large tables and slow providers.
func (*verify) Timeout(*river.Job[verifyArgs]) time.Duration { return verifyTimeout }

// Work verifies. A kind that this process does not know is left to a newer one.
func (w *verify) Work(ctx context.Context, job *river.Job[verifyArgs]) error {
	return w.operations.VerifyRegularly(ctx, job.Args.What)
}

// verifications are the periodic jobs, one in a period for each kind, whatever becomes of it.
func verifications(o *operations.Service) (list []*river.PeriodicJob) {
	if o == nil {
		return nil
	}
	for _, kind := range o.Kinds() {
		list = append(list, river.NewPeriodicJob(river.PeriodicInterval(kind.Every()), func() (river.JobArgs, *river.InsertOpts) {
			return verifyArgs{What: kind}, &river.InsertOpts{
				Queue: queueVerifications, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: kind.Every()},
			}
		}, &river.PeriodicJobOpts{RunOnStart: true}))
	}
	return list
}
