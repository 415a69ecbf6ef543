package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// CallTerms are what a call is charged by, whatever the rate card has come to since: the price and the exchange rate that
// its hold was made with.
type CallTerms struct {
	PerMinute money.USDCents
	Rate      money.Rate
}

// TermsOfCall gives the terms of a call's hold, which must be of an organisation in the transaction's sight.
func TermsOfCall(ctx context.Context, tx *db.Tx, hold uuid.UUID) (CallTerms, error) {
	var row struct {
		PerMinute money.USDCents `db:"cents_per_minute"`
		Micros    int64          `db:"usd_to_gbp_micros"`
	}
	err := tx.GetContext(ctx, &row, `
		SELECT p.cents_per_minute, r.usd_to_gbp_micros FROM holds h JOIN prices p ON p.id = h.price_id JOIN exchange_rates r ON r.id = h.rate_id
		WHERE h.id = $1 AND h.action = 'call'`, hold)
	if errors.Is(err, sql.ErrNoRows) {
		return CallTerms{}, fault.New(fault.NotFound, "There is no such hold for a call.")
	}
	if err != nil {
		return CallTerms{}, fmt.Errorf("couldn't read what the call is charged by: %w", err)
	}
	rate, err := money.RateFromMicros(row.Micros)
	if err != nil {
		return CallTerms{}, fmt.Errorf("the call's exchange rate: %w", err)
	}
	return CallTerms{PerMinute: row.PerMinute, Rate: rate}, nil
}

// Cost is what so many seconds cost, rounded up to the penny once.
func (t CallTerms) Cost(seconds int64) (money.Pence, error) {
	return money.CallCost(seconds, t.PerMinute, t.Rate)
}

// Seconds is how many whole seconds an amount pays for.
func (t CallTerms) Seconds(p money.Pence) (int64, error) {
	return money.CallSeconds(p, t.PerMinute, t.Rate)
}

// ForgetDestination has an organisation's holds that have ended name instead, rather than the number that they were for,
// and says how many. What they cost stays. Whoever calls it has locked the wallet. It is safe to repeat.
func ForgetDestination(ctx context.Context, tx *db.Tx, org uuid.UUID, destination, instead string) (int64, error) {
	res, err := tx.ExecContext(ctx, `
		UPDATE holds SET destination = $3 WHERE org_id = $1 AND destination = $2 AND state NOT IN ('open', 'in_flight')`, org, destination, instead)
	if err != nil {
		return 0, fmt.Errorf("couldn't forget whom holds were for: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("couldn't count the holds that were forgotten: %w", err)
	}
	return n, nil
}
