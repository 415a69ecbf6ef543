package jobs

import (
	"context"

	"github.com/riverqueue/river"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// numberWorkers is how many numbers are brought on at once.
const numberWorkers = 4

type mends struct {
	river.WorkerDefaults[telephony.Mend]
	numbers *telephony.Numbers
}

// Work puts right what an operator has decided about. What cannot be put right any more is not tried again.
func (w *mends) Work(ctx context.Context, job *river.Job[telephony.Mend]) error {
	err := w.numbers.Mend(ctx, job.Args)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Invalid) {
		return river.JobCancel(err)
	}
	return err
}

type numberSteps struct {
	river.WorkerDefaults[telephony.NumberStep]
	numbers *telephony.Numbers
}

// Work does one step of a number.
func (w *numberSteps) Work(ctx context.Context, job *river.Job[telephony.NumberStep]) error {
	return w.numbers.Advance(ctx, job.Args.OrgID, job.Args.Number)
}

type numberTokens struct {
	river.WorkerDefaults[telephony.NumberToken]
	numbers *telephony.Numbers
}

// Work tells Vapi of the newest token for a number.
func (w *numberTokens) Work(ctx context.Context, job *river.Job[telephony.NumberToken]) error {
	return w.numbers.TellToken(ctx, job.Args.OrgID, job.Args.Number)
}
