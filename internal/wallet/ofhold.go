package wallet

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/money"
)

// HeldBy gives the amount that a hold of the organisation's set aside, in pence; zero where there is no such hold.
func (l *Ledger) HeldBy(ctx context.Context, org, hold uuid.UUID) (amount money.Pence, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.GetContext(ctx, &amount, `SELECT coalesce((SELECT amount_pence FROM holds WHERE id = $2 AND org_id = $1), 0)`, org, hold); err != nil {
			return fmt.Errorf("couldn't read the hold: %w", err)
		}
		return nil
	})
	return amount, err
}

// PaidFor gives the organisation's transactions by which something was paid for that it keeps: what its hold was taken by,
// and the months of rent with these references; the newest first.
func (l *Ledger) PaidFor(ctx context.Context, org, hold uuid.UUID, rents []string) (list []Transaction, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		const columns = `SELECT id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at FROM ledger_transactions `
		if err := tx.SelectContext(ctx, &list, columns+`WHERE id = $2 AND org_id = $1 AND kind = 'usage' UNION ALL `+
			columns+`WHERE org_id = $1 AND kind = 'rent' AND kind <> 'usage' AND reference = ANY ($3) ORDER BY seq DESC`, org, hold, pq.Array(rents)); err != nil {
			return fmt.Errorf("couldn't read what was paid: %w", err)
		}
		return nil
	})
	return list, err
}

// TakenBy gives the organisation's transactions by which what these holds set aside was taken, the newest first.
func (l *Ledger) TakenBy(ctx context.Context, org uuid.UUID, holds []uuid.UUID) (list []Transaction, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `
			SELECT id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at FROM ledger_transactions
			WHERE id = ANY ($2) AND org_id = $1 AND kind = 'usage' ORDER BY seq DESC`, org, pq.Array(holds)); err != nil {
			return fmt.Errorf("couldn't read what was paid: %w", err)
		}
		return nil
	})
	return list, err
}
