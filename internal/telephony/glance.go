package telephony

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
)

// glanceMost is how far calls and texts that are under way are counted.
const glanceMost = 1000

// UnderWay is what goes on in an organisation's telephony just now.
type UnderWay struct {
	// Calls have not ended, and Texts wait for what the network says; neither is counted beyond a thousand.
	Calls int64 `db:"calls"`
	Texts int64 `db:"texts"`
	// Called says that there was ever a call that was placed or taken.
	Called bool `db:"called"`
}

// UnderWay counts an organisation's calls and texts that have not ended.
func (s *Calls) UnderWay(ctx context.Context, org uuid.UUID) (u UnderWay, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.GetContext(ctx, &u, `
			SELECT (SELECT count(*) FROM (SELECT FROM calls WHERE org_id = $1 AND ended_at IS NULL LIMIT $2) c) AS calls,
			       (SELECT count(*) FROM (SELECT FROM messages WHERE org_id = $1 AND ended_at IS NULL LIMIT $2) m) AS texts,
			       EXISTS (SELECT FROM calls WHERE org_id = $1 AND hold_id IS NOT NULL) AS called`, org, glanceMost); err != nil {
			return fmt.Errorf("couldn't count what is under way: %w", err)
		}
		return nil
	})
	return u, err
}

// Had are the numbers that an organisation has, or is getting or giving back.
type Had struct {
	// ByState counts them; Owing are the active ones of which a month is owed.
	ByState map[NumberState]int64
	Owing   int64
	// List is some of them: first those that are not simply active, then the newest.
	List []Number
}

// Had gives the numbers that an organisation has, at most limit of them one by one.
func (s *Numbers) Had(ctx context.Context, org uuid.UUID, limit int) (h Had, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		h = Had{ByState: map[NumberState]int64{}}
		var counts []struct {
			State NumberState `db:"state"`
			Count int64       `db:"count"`
			Owing int64       `db:"owing"`
		}
		if err := tx.SelectContext(ctx, &counts, `
			SELECT state, count(*) AS count, count(unpaid_since) AS owing FROM numbers WHERE org_id = $1 AND ended_at IS NULL GROUP BY state`, org); err != nil {
			return fmt.Errorf("couldn't count the numbers: %w", err)
		}
		for _, c := range counts {
			h.ByState[c.State] = c.Count
			if c.State == NumberActive {
				h.Owing = c.Owing
			}
		}
		if len(counts) == 0 {
			return nil
		}
		if err := tx.SelectContext(ctx, &h.List, `
			SELECT `+numberColumns+` FROM numbers WHERE org_id = $1 AND ended_at IS NULL
			ORDER BY state = 'active' AND unpaid_since IS NULL, id DESC LIMIT $2`, org, limit); err != nil {
			return fmt.Errorf("couldn't list the numbers: %w", err)
		}
		return nil
	})
	return h, err
}
