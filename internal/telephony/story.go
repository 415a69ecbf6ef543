package telephony

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Event is one thing that was done with a number, a call or a text, as the audit log has it.
type Event struct {
	At     time.Time   `db:"at"`
	Actor  audit.Actor `db:"actor"`
	Action string      `db:"action"`
	Reason string      `db:"reason"`
}

// Story gives what was done with a number of the organisation's, oldest first; nothing for another's.
func (s *Numbers) Story(ctx context.Context, org, id uuid.UUID) ([]Event, error) {
	return storyOf(ctx, s.o.DB, org, "number:"+id.String())
}

// storyOf reads what was done with something of the organisation's.
func storyOf(ctx context.Context, d *db.DB, org uuid.UUID, subject string) (events []Event, err error) {
	err = d.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &events, `
			SELECT at, actor, action, reason FROM audit_log
			WHERE subject = $2 AND org_id = $1 AND action <> 'wallet.credited' AND action <> 'wallet.charged' ORDER BY id`, org, subject); err != nil {
			return fmt.Errorf("couldn't read what was done with %s: %w", subject, err)
		}
		return nil
	})
	return events, err
}

// AgentsOf gives the names of the agents that numbers of the organisation's belong to, by number.
func (s *Numbers) AgentsOf(ctx context.Context, org uuid.UUID, numbers ...uuid.UUID) (map[uuid.UUID][]string, error) {
	var rows []struct {
		Number uuid.UUID `db:"number_id"`
		Name   string    `db:"name"`
	}
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &rows, `
			SELECT number_id, name FROM agents WHERE number_id = ANY ($2) AND org_id = $1 ORDER BY name, id`, org, pq.Array(numbers)); err != nil {
			return fmt.Errorf("couldn't read whose the numbers are: %w", err)
		}
		return nil
	})
	by := map[uuid.UUID][]string{}
	for _, r := range rows {
		by[r.Number] = append(by[r.Number], r.Name)
	}
	return by, err
}

// RentReferences name the months that were charged for the number in the ledger, the newest first, at most 24 of them.
func (n *Number) RentReferences() []string {
	var list []string
	for month := n.Months; month > max(0, n.Months-24); month-- {
		list = append(list, rentReference(n.ID, month))
	}
	return list
}
