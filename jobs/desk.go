package jobs

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/riverqueue/river"

	"ringfence/db"
)

// Desk is where operators' words about single jobs are carried out, each within a system transaction of the caller's.
type Desk struct{ client *river.Client[*sql.Tx] }

// NewDesk makes one of the client that adds jobs; see [NewInserter].
func NewDesk(client *river.Client[*sql.Tx]) Desk { return Desk{client} }

// RetryJob makes a job due at once, whatever became of it before. It is for those that are not being worked.
func (d Desk) RetryJob(ctx context.Context, tx *db.Tx, id int64) error {
	if _, err := d.client.JobRetryTx(ctx, tx.Tx.Tx, id); err != nil {
		return fmt.Errorf("couldn't have the job tried again: %w", err)
	}
	return nil
}

// CancelJob has a job not be worked any more. One that is being worked is told to stop.
func (d Desk) CancelJob(ctx context.Context, tx *db.Tx, id int64) error {
	if _, err := d.client.JobCancelTx(ctx, tx.Tx.Tx, id); err != nil {
		return fmt.Errorf("couldn't cancel the job: %w", err)
	}
	return nil
}
