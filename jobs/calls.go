package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/telephony"
)

const (
	// agentWorkers is of how many agents Vapi is told at once.
	agentWorkers = 2
	// callsEvery is how often the calls under way are looked after: their holds are half a minute ahead of them.
	callsEvery = 5 * time.Second
	// queueCalls holds nothing else: whatever other sweepers wait for, calls are paid for in time.
	queueCalls = "calls"
)

type agentSync struct {
	river.WorkerDefaults[telephony.AgentSync]
	agents *telephony.Agents
}

// Work tells Vapi about one agent.
func (w *agentSync) Work(ctx context.Context, job *river.Job[telephony.AgentSync]) error {
	return w.agents.Sync(ctx, job.Args.OrgID, job.Args.Agent)
}

// callsArgs is the periodic job that looks after the calls under way.
type callsArgs struct{}

// Kind is the job's name in the queue.
func (callsArgs) Kind() string { return "calls" }

// InsertOpts has one of them in a period, whatever becomes of it: the next one does what it left undone.
func (callsArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueCalls, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: callsEvery}}
}

type callsUnderWay struct {
	river.WorkerDefaults[callsArgs]
	calls *telephony.Calls
}

// Work looks after the calls under way.
func (w *callsUnderWay) Work(ctx context.Context, _ *river.Job[callsArgs]) error {
	_, err := w.calls.Sweep(ctx)
	return err
}
