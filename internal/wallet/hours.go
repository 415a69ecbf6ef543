package wallet

import (
	"context"
	"fmt"
	"time"

	"ringfence/db"
	"ringfence/internal/money"
)

// CreditHour is what was credited to all wallets within an hour.
type CreditHour struct {
	// At is when the hour began (UTC).
	At     time.Time
	Times  int64
	Amount money.Pence
}

// CreditHours gives the last n hours, the present one last, without gaps.
func (l *Ledger) CreditHours(ctx context.Context, n int) (hours []CreditHour, err error) {
	err = l.db.InSystemTx(ctx, "an operator's view of what was credited lately", func(ctx context.Context, tx *db.Tx) error {
		this := tx.Now.Truncate(time.Hour)
		first := this.Add(time.Duration(1-n) * time.Hour)
		var rows []struct {
			At     time.Time   `db:"at"`
			Times  int64       `db:"times"`
			Amount money.Pence `db:"amount"`
		}
		if err := tx.SelectContext(ctx, &rows, `
			SELECT date_trunc('hour', created_at, 'UTC') AS at, count(*) AS times, sum(amount_pence)::bigint AS amount
			FROM credits WHERE created_at >= $1 GROUP BY 1`, first); err != nil {
			return fmt.Errorf("couldn't add up the credits: %w", err)
		}
		hours = make([]CreditHour, n)
		for i := range hours {
			hours[i].At = first.Add(time.Duration(i) * time.Hour)
			for _, row := range rows {
				if row.At.Equal(hours[i].At) {
					hours[i].Times, hours[i].Amount = row.Times, row.Amount
				}
			}
		}
		return nil
	})
	return hours, err
}
