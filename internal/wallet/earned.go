package wallet

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/money"
)

// Earned is what one organisation was charged for one action in a month.
type Earned struct {
	OrgID  uuid.UUID   `db:"org_id"`
	Name   string      `db:"name"`
	Action Action      `db:"action"`
	Times  int64       `db:"times"`
	Amount money.Pence `db:"amount"`
}

// Earned gives what was charged in a month (UTC), by organisation and action, as the ledger has it, less what was given back of
// texts that were not sent after all; and the exchange rate that was in force at the month's end, or is now.
func (l *Ledger) Earned(ctx context.Context, month time.Time) (list []Earned, rate money.Rate, err error) {
	from := time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(0, 1, 0)
	err = l.db.InSystemTx(ctx, "what every organisation was charged", func(ctx context.Context, tx *db.Tx) error {
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		list = nil
		if err := tx.SelectContext(ctx, &list, `
			SELECT s.org_id, o.name, s.action, sum(s.times)::bigint AS times, sum(s.amount)::bigint AS amount
			FROM (SELECT t.org_id, substring(a.name from 9) AS action, count(*) AS times, sum(p.amount_pence) AS amount
			      FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id JOIN ledger_accounts a ON a.id = p.account_id
			      WHERE t.created_at >= $1 AND t.created_at < $2 AND t.kind IN ('usage', 'rent') AND a.org_id IS NULL AND starts_with(a.name, 'revenue/')
			      GROUP BY 1, 2
			      UNION ALL
			      SELECT t.org_id, 'sms', -count(*), sum(p.amount_pence)
			      FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id JOIN ledger_accounts a ON a.id = p.account_id
			      WHERE t.created_at >= $1 AND t.created_at < $2 AND t.kind = 'adjustment' AND starts_with(t.reference, 'message:')
			        AND a.org_id IS NULL AND a.name = 'adjustment'
			      GROUP BY 1) s
			     JOIN organizations o ON o.id = s.org_id
			GROUP BY 1, 2, 3`, from, to); err != nil {
			return fmt.Errorf("couldn't add up what was charged: %w", err)
		}
		var micros int64
		if err := tx.GetContext(ctx, &micros, `
			SELECT usd_to_gbp_micros FROM exchange_rates WHERE starts_at < $1 AND starts_at <= $2 ORDER BY starts_at DESC, id DESC LIMIT 1`, to, tx.Now); err != nil {
			return fmt.Errorf("couldn't read the exchange rate of the month: %w", err)
		}
		rate, err = money.RateFromMicros(micros)
		return err
	})
	return list, rate, err
}
