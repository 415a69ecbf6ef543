package operations

import (
	"context"
	"fmt"
	"time"

	"ringfence/db"
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
