package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ringfence/db"
	"ringfence/internal/money"
)

// ExchangeRate is one version of the price of a dollar. A quote keeps the version it was made with.
type ExchangeRate struct {
	ID       int64     `db:"id"`
	Micros   int64     `db:"usd_to_gbp_micros"`
	Source   string    `db:"source"`
	StartsAt time.Time `db:"starts_at"`
}

// Rate is the exact rate.
func (r ExchangeRate) Rate() (money.Rate, error) { return money.RateFromMicros(r.Micros) }

// CurrentRate gives the version in force at the transaction's moment.
func CurrentRate(ctx context.Context, tx *db.Tx) (ExchangeRate, error) {
	var r ExchangeRate
	err := tx.GetContext(ctx, &r, `
		SELECT id, usd_to_gbp_micros, source, starts_at FROM exchange_rates
		WHERE starts_at <= $1 ORDER BY starts_at DESC, id DESC LIMIT 1`, tx.Now)
	if errors.Is(err, sql.ErrNoRows) {
		return ExchangeRate{}, errNoRate
	}
	if err != nil {
		return ExchangeRate{}, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	return r, nil
}

// Rate gives the exact rate in force now.
func (l *Ledger) Rate(ctx context.Context) (rate money.Rate, err error) {
	err = l.db.InSystemTx(ctx, "the exchange rate, which belongs to no organisation", func(ctx context.Context, tx *db.Tx) error {
		version, err := CurrentRate(ctx, tx)
		if err != nil {
			return err
		}
		rate, err = version.Rate()
		return err
	})
	return rate, err
}

// FirstRate records the configured rate as the first version, unless there is one already. Later versions are an
// operator's; configuration never overrides them. It is safe to repeat and to run in several processes at once.
func FirstRate(ctx context.Context, tx *db.Tx, rate money.Rate) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('exchange_rates'))`); err != nil {
		return fmt.Errorf("couldn't lock the exchange rates: %w", err)
	}
	// In force since ever: a clock that is set back must not leave us without a price.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at)
		SELECT $1, 'USD_TO_GBP_RATE', 'system:configuration', '1970-01-01', $2
		WHERE NOT EXISTS (SELECT FROM exchange_rates)`, rate.Micros(), tx.Now); err != nil {
		return fmt.Errorf("couldn't record the first exchange rate: %w", err)
	}
	return nil
}
