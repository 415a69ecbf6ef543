// Package jobs runs the background work: River's queues, workers and periodic jobs. Workers are thin: they decode their
// arguments and call one function of the domain, which opens its own transaction and is safe to repeat.
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"

	"ringfence/db"
	"ringfence/internal/notice"
	"ringfence/internal/operations"
	"ringfence/internal/payments"
	"ringfence/internal/telephony"
	"ringfence/internal/webhooks"
)

// fetchCooldown is how soon one fetch of jobs may follow the last. River's default of 100 ms would be most of the time
// from payment to credit.
const fetchCooldown = time.Millisecond

// stripeWorkers is how many event batches are worked at once.
const stripeWorkers = 5

// reversalWorkers is how many jobs may ask Stripe about refunds and disputes at once, and reversalTimeout how long one may.
const (
	reversalWorkers = 2
	reversalTimeout = 10 * time.Minute
)

// jobTimeout is how long a job may take whose kind says nothing else, and rescueAfter when one that is still being worked is
// taken for its worker's legacy and given out again: by River's own hour, what no sweeper goes by would wait that long.
// Jobs are safe to repeat, so that where clocks differ by more than that a job is only worked more often.
const (
	jobTimeout  = time.Minute
	rescueAfter = 2 * time.Minute
)

// Deps are the parts of the domain that jobs call.
type Deps struct {
	DB       *db.DB
	Payments *payments.Service
	Notices  *notice.Service
	Webhooks *webhooks.Service
	Numbers  *telephony.Numbers
	Agents   *telephony.Agents
	Calls    *telephony.Calls
	Log      *slog.Logger
	Now      func() time.Time // the process's clock
	// Metrics count the work; nil counts for nobody.
	Metrics *Metrics
	// Tracer makes each job a part of the trace that it came from; nil makes none.
	Tracer trace.TracerProvider
	// Sweepers take their turn every 15 seconds, in this order.
	Sweepers []Sweeper
	// Operations verifies everything, each kind in its time; nil verifies nothing.
	Operations *operations.Service
}

// register is the table of contents: every kind of job, in every process, because River's leader discards stuck jobs of
// kinds that it does not know.
func register(d Deps) *river.Workers {
	w := river.NewWorkers()
	river.AddWorker(w, &stripeEvents{payments: d.Payments, log: d.Log})
	river.AddWorker(w, &reconcile{payments: d.Payments})
	river.AddWorker(w, &numberSteps{numbers: d.Numbers})
	river.AddWorker(w, &numberTokens{numbers: d.Numbers})
	river.AddWorker(w, &mends{numbers: d.Numbers})
	river.AddWorker(w, &payBack{payments: d.Payments})
	river.AddWorker(w, &agentSync{agents: d.Agents})
	river.AddWorker(w, &callsUnderWay{calls: d.Calls})
	river.AddWorker(w, &sweep{sweepers: d.Sweepers, metrics: d.Metrics})
	river.AddWorker(w, &autoTopUp{payments: d.Payments})
	river.AddWorker(w, &notices{notices: d.Notices})
	river.AddWorker(w, &deliveries{webhooks: d.Webhooks})
	river.AddWorker(w, &verify{operations: d.Operations})
	return w
}

// periodic are the jobs that come by the clock. The leader adds them; a missed round is made up by the next.
func periodic() []*river.PeriodicJob {
	return []*river.PeriodicJob{
		river.NewPeriodicJob(river.PeriodicInterval(15*time.Second), func() (river.JobArgs, *river.InsertOpts) {
			return sweepArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(callsEvery), func() (river.JobArgs, *river.InsertOpts) {
			return callsArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(reconcileEvery), func() (river.JobArgs, *river.InsertOpts) {
			return reconcileArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(autoTopUpEvery), func() (river.JobArgs, *river.InsertOpts) {
			return autoTopUpArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(noticesEvery), func() (river.JobArgs, *river.InsertOpts) {
			return noticesArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
		river.NewPeriodicJob(river.PeriodicInterval(webhooksEvery), func() (river.JobArgs, *river.InsertOpts) {
			return webhooksArgs{}, nil
		}, &river.PeriodicJobOpts{RunOnStart: true}),
	}
}

// NewInserter gives the client through which the domain adds jobs in its own transactions. It works none.
func NewInserter(d *db.DB, log *slog.Logger) (*river.Client[*sql.Tx], error) {
	c, err := river.NewClient(riverdatabasesql.New(d.SystemPool()), &river.Config{
		Logger: riverLog(log),
		// It announces new jobs at most once in this time; by default every 100 ms, and the others wait for the poll.
		FetchCooldown: fetchCooldown,
		Middleware:    []rivertype.Middleware{&databaseTime{}, &carrying{}},
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't make the job inserter: %w", err)
	}
	return c, nil
}

// databaseTime has jobs that are due at once dated by the database's clock, since that is the clock they are fetched by.
// River's driver dates them by the process's: where that one is ahead, each job would wait for the difference.
type databaseTime struct {
	river.JobInsertMiddlewareDefaults
}

// InsertMany clears the time of what is due; River's statement puts the database's in its place.
func (databaseTime) InsertMany(ctx context.Context, jobs []*rivertype.JobInsertParams, insert func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	for _, j := range jobs {
		if j.State == rivertype.JobStateAvailable {
			j.ScheduledAt, j.CreatedAt = &time.Time{}, &time.Time{}
		}
	}
	return insert(ctx)
}

// Runner works jobs until it is stopped.
type Runner struct {
	client   *river.Client[*sql.Tx]
	listener *pgxpool.Pool
}

// Start begins to work jobs. ctx bounds only the start; Stop ends the work.
func Start(ctx context.Context, d Deps) (*Runner, error) {
	if d.Metrics == nil {
		d.Metrics = NewMetrics()
	}
	for _, s := range d.Sweepers { // what has not happened yet stands at 0: the first time is a rise that an alert can see
		for _, outcome := range []string{"ok", "failed"} {
			d.Metrics.sweeps.WithLabelValues(s.Name, outcome)
		}
	}
	listener, err := d.DB.Listener(ctx)
	if err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverdatabasesql.NewWithPgxListener(d.DB.SystemPool(), listener), &river.Config{
		Logger:  riverLog(d.Log),
		Workers: register(d),
		Queues: map[string]river.QueueConfig{
			// The poll covers wake-ups that were lost with a rolled-back insert.
			payments.QueueStripe:    {MaxWorkers: stripeWorkers, FetchCooldown: fetchCooldown, FetchPollInterval: 150 * time.Millisecond},
			payments.QueueReversals: {MaxWorkers: reversalWorkers, FetchCooldown: fetchCooldown, FetchPollInterval: time.Second},
			telephony.QueueNumbers:  {MaxWorkers: numberWorkers, FetchCooldown: 10 * time.Millisecond, FetchPollInterval: time.Second},
			telephony.QueueAgents:   {MaxWorkers: agentWorkers, FetchCooldown: 10 * time.Millisecond, FetchPollInterval: time.Second},
			queueCalls:              {MaxWorkers: 2, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			queueReconcile:          {MaxWorkers: 1, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			queueWebhooks:           {MaxWorkers: webhookRounds, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			queueNotices:            {MaxWorkers: 1, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			queueVerifications:      {MaxWorkers: 1, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			queueAutoTopUps:         {MaxWorkers: 1, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
			river.QueueDefault:      {MaxWorkers: 2, FetchCooldown: 100 * time.Millisecond, FetchPollInterval: time.Second},
		},
		PeriodicJobs: append(periodic(), verifications(d.Operations)...),
		Middleware:   middleware(d),
		RetryPolicy:  retryPolicy{},
		JobTimeout:   jobTimeout,
		// Kinds with a longer limit are left alone until it has passed.
		RescueStuckJobsAfter: rescueAfter,
		ErrorHandler:         errorHandler{log: d.Log},
	})
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("couldn't make the job client: %w", err)
	}
	// River stops when the context given to Start ends, so it gets one that does not: Stop lets jobs finish first.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("couldn't start the job client: %w", err)
	}
	return &Runner{client: client, listener: listener}, nil
}

// middleware is what stands around every job that is added and worked.
func middleware(d Deps) []rivertype.Middleware {
	list := []rivertype.Middleware{&databaseTime{}, &carrying{}, &counting{metrics: d.Metrics, now: d.Now}}
	if d.Tracer != nil {
		list = append(list, &following{tracer: d.Tracer.Tracer("ringfence/jobs")})
	}
	return list
}

// Stop fetches no more, lets jobs under way finish, and when ctx ends before that, cancels them.
func (r *Runner) Stop(ctx context.Context) error {
	defer r.listener.Close()
	err := r.client.Stop(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, r.client.StopAndCancel(hard))
}

// retryPolicy waits 1, 2, 4 … seconds, at most five minutes, with some spread.
type retryPolicy struct{}

// NextRetry says when a job that failed is tried again.
func (retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	pause := min(time.Second<<min(len(job.Errors), 10), 5*time.Minute)
	return job.AttemptedAt.Add(pause + rand.N(pause/4+1)) //nolint:gosec // spread, not a secret
}

// errorHandler logs what River would keep to itself.
type errorHandler struct{ log *slog.Logger }

// HandleError logs a job's error; River keeps retrying.
func (h errorHandler) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	h.log.ErrorContext(ctx, "job failed", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic logs a job's panic; River keeps retrying.
func (h errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, panicked any, trace string) *river.ErrorHandlerResult {
	h.log.ErrorContext(ctx, "job panicked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "panic", fmt.Sprint(panicked), "stack", trace)
	return nil
}
