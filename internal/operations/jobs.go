package operations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// JobCounts are the jobs that somebody may have to look at.
type JobCounts struct {
	// Retrying have failed and are tried again, Discarded were given up and are kept for a week, Waiting are due or running.
	Retrying  int64 `db:"retrying"`
	Discarded int64 `db:"discarded"`
	Waiting   int64 `db:"waiting"`
	// LastDiscarded is when the newest was given up; nil where none is known.
	LastDiscarded *time.Time `db:"last_discarded"`
}

// JobCounts counts them.
func (s *Service) JobCounts(ctx context.Context) (c JobCounts, err error) {
	err = s.o.DB.InSystemTx(ctx, "an operator's count of the jobs", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &c, `
			SELECT (SELECT count(*) FROM river_job WHERE state = 'retryable') AS retrying,
			       (SELECT count(*) FROM river_job WHERE state = 'discarded') AS discarded,
			       (SELECT count(*) FROM river_job WHERE state IN ('available', 'running')) AS waiting,
			       (SELECT max(finalized_at) FROM river_job WHERE state = 'discarded' AND finalized_at IS NOT NULL) AS last_discarded`)
	})
	if err != nil {
		return JobCounts{}, fmt.Errorf("couldn't count the jobs: %w", err)
	}
	return c, nil
}

// JobDesk carries out what is decided about a job, within a system transaction.
type JobDesk interface {
	RetryJob(ctx context.Context, tx *db.Tx, id int64) error
	CancelJob(ctx context.Context, tx *db.Tx, id int64) error
}

// JobState is a job's state, by River's name for it.
type JobState string

// The states.
const (
	JobAvailable JobState = "available"
	JobRunning   JobState = "running"
	JobRetryable JobState = "retryable" // it failed and is tried again
	JobScheduled JobState = "scheduled"
	JobDiscarded JobState = "discarded" // it failed as often as it may
	JobCancelled JobState = "cancelled"
	JobCompleted JobState = "completed"
	JobPending   JobState = "pending"
)

// JobStates are all of them, in the order in which an operator cares.
func JobStates() []JobState {
	return []JobState{JobDiscarded, JobRetryable, JobRunning, JobAvailable, JobScheduled, JobCancelled, JobCompleted, JobPending}
}

// Retriable reports whether an operator may have it tried at once.
func (s JobState) Retriable() bool {
	return s == JobDiscarded || s == JobRetryable || s == JobCancelled || s == JobScheduled
}

// Cancellable reports whether an operator may have it cancelled.
func (s JobState) Cancellable() bool {
	return s == JobRetryable || s == JobRunning || s == JobAvailable || s == JobScheduled || s == JobPending
}

// Job is one job.
type Job struct {
	ID          int64      `db:"id"`
	Kind        string     `db:"kind"`
	Queue       string     `db:"queue"`
	State       JobState   `db:"state"`
	Attempt     int        `db:"attempt"`
	MaxAttempts int        `db:"max_attempts"`
	CreatedAt   time.Time  `db:"created_at"`
	ScheduledAt time.Time  `db:"scheduled_at"`
	AttemptedAt *time.Time `db:"attempted_at"`
	FinalizedAt *time.Time `db:"finalized_at"`
	// LastError is what the newest try met; empty where none failed.
	LastError string `db:"last_error"`
	// Args and Errors are JSON; only one job alone has them.
	Args   []byte `db:"args"`
	Errors []byte `db:"errors"`
}

const jobColumns = `id, kind, queue, state, attempt, max_attempts, created_at, scheduled_at, attempted_at, finalized_at,
	coalesce(errors[array_upper(errors, 1)]->>'error', '') AS last_error`

// JobsPerPage is the length of a page of jobs.
const JobsPerPage = 50

// Jobs gives a page of the jobs in one of the states, newest first, of those before the one with this id (0: from the newest
// on), and whether there are more.
func (s *Service) Jobs(ctx context.Context, states []JobState, before int64) (list []Job, more bool, err error) {
	names := make([]string, len(states))
	for i, state := range states {
		names[i] = string(state)
	}
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.o.DB.InSystemTx(ctx, "an operator's list of jobs", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, `SELECT `+jobColumns+` FROM river_job WHERE state::text = ANY($1) AND id < $2 ORDER BY id DESC LIMIT $3`, pq.Array(names), before, JobsPerPage+1)
	})
	if err != nil {
		return nil, false, fmt.Errorf("couldn't list the jobs: %w", err)
	}
	if len(list) > JobsPerPage {
		return list[:JobsPerPage], true, nil
	}
	return list, false, nil
}

// Job gives one with its arguments and what its tries met. NotFound when it is not there, or not any more: finished ones are
// kept for a day, those that were given up for a week.
func (s *Service) Job(ctx context.Context, id int64) (j Job, err error) {
	err = s.o.DB.InSystemTx(ctx, "a job that an operator looks at", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &j, `SELECT `+jobColumns+`, args, to_jsonb(coalesce(errors, '{}')) AS errors FROM river_job WHERE id = $1`, id)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Job{}, errNoJob()
	case err != nil:
		return Job{}, fmt.Errorf("couldn't read the job: %w", err)
	}
	return j, nil
}

func errNoJob() error { return fault.New(fault.NotFound, "There is no such job.") }

// RetryJob has a job tried at once. Every job is safe to repeat. Faults: NotFound; Conflict for one that is due or being worked
// anyway, or is done; Invalid with the field "reason".
func (s *Service) RetryJob(ctx context.Context, id int64, actor audit.Actor, reason string) error {
	return s.decide(ctx, id, actor, reason, "job.retried", "This job is due, being worked or done, so it is not tried again.", JobState.Retriable, s.o.Jobs.RetryJob)
}

// CancelJob has a job not be worked any more. What it was for is left undone, unless a sweeper sees to it. Faults: NotFound;
// Conflict for one that has ended; Invalid with the field "reason".
func (s *Service) CancelJob(ctx context.Context, id int64, actor audit.Actor, reason string) error {
	return s.decide(ctx, id, actor, reason, "job.cancelled", "This job has ended, so there is nothing to cancel.", JobState.Cancellable, s.o.Jobs.CancelJob)
}

func (s *Service) decide(ctx context.Context, id int64, actor audit.Actor, reason, action, not string, may func(JobState) bool, do func(context.Context, *db.Tx, int64) error) (err error) {
	if reason, err = sentence("reason", "Give a reason", reason, 500, false); err != nil {
		return err
	}
	return s.o.DB.InSystemTx(ctx, "what an operator decided about a job", func(ctx context.Context, tx *db.Tx) error {
		var j struct {
			Kind  string   `db:"kind"`
			State JobState `db:"state"`
		}
		err := tx.GetContext(ctx, &j, `SELECT kind, state FROM river_job WHERE id = $1 FOR UPDATE`, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoJob()
		case err != nil:
			return fmt.Errorf("couldn't read the job: %w", err)
		case !may(j.State):
			return fault.New(fault.Conflict, not)
		}
		if err := do(ctx, tx, id); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor, Action: action, Subject: fmt.Sprintf("job:%d", id), Reason: reason, Detail: map[string]any{"kind": j.Kind, "was": j.State},
		})
	})
}
