package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/internal/watch"
)

const (
	// inspectTimeout bounds one inspection: it reads whole tables, or asks for every account at a provider.
	inspectTimeout = 10 * time.Minute
	// queueInspections holds nothing else: one at a time, and nobody waits for them.
	queueInspections = "inspections"
)

// Inspection is a regular look at everything. Run changes nothing and gives how much is not as it should be, by name; what
// was looked at and is as it should be stands there with 0. An error means that it could not look.
type Inspection struct {
	Kind  string // as internal/watch names them
	Every time.Duration
	Run   func(context.Context) (map[string]int, error)
}

// inspectArgs is the periodic job that makes an inspection.
type inspectArgs struct {
	What string `json:"what"`
}

// Kind is the job's name in the queue.
func (inspectArgs) Kind() string { return "inspect" }

type inspect struct {
	river.WorkerDefaults[inspectArgs]
	db          *db.DB
	inspections []Inspection
	now         func() time.Time
}

// Timeout leaves room for large tables and slow providers.
func (*inspect) Timeout(*river.Job[inspectArgs]) time.Duration { return inspectTimeout }

// Work makes the inspection and keeps what it found. One that this process does not know is left to a newer one.
func (w *inspect) Work(ctx context.Context, job *river.Job[inspectArgs]) error {
	for _, i := range w.inspections {
		if i.Kind != job.Args.What {
			continue
		}
		began := w.now().UTC()
		found, err := i.Run(ctx)
		if err != nil {
			return fmt.Errorf("couldn't inspect the %s: %w", i.Kind, err)
		}
		return watch.Record(ctx, w.db, watch.Inspection{Kind: i.Kind, Began: began, Ended: w.now().UTC(), Findings: found})
	}
	return nil
}

// inspectionJobs are the periodic jobs, one in a period for each, whatever becomes of it.
func inspectionJobs(inspections []Inspection) (list []*river.PeriodicJob) {
	for _, i := range inspections {
		list = append(list, river.NewPeriodicJob(river.PeriodicInterval(i.Every), func() (river.JobArgs, *river.InsertOpts) {
			return inspectArgs{What: i.Kind}, &river.InsertOpts{
				Queue: queueInspections, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: i.Every},
			}
		}, &river.PeriodicJobOpts{RunOnStart: true}))
	}
	return list
}
