package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"ringfence/internal/telephony"
)

// numberWorkers is how many numbers are brought on at once.
const numberWorkers = 4

type numberSteps struct {
	river.WorkerDefaults[telephony.NumberStep]
	numbers *telephony.Numbers
}

// Work does one step of a number.
func (w *numberSteps) Work(ctx context.Context, job *river.Job[telephony.NumberStep]) error {
	return w.numbers.Advance(ctx, job.Args.OrgID, job.Args.Number)
}
