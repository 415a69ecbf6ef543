package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/money"
)

// quoteFor is how long a quote is good for without another look.
const quoteFor = 15 * time.Minute

// Shown is the quote that a page showed before somebody agreed to it. Nobody is believed on the strength of it: whatever it
// says, what is charged is quoted anew, and the customer is only asked again where that is not what they saw.
type Shown struct {
	Charge money.Pence
	RateID int64
	// At is when the page was made.
	At time.Time
}

// QuoteChangedError is the error of a top-up whose price is not the one that its page showed: nothing was started. The customer
// is to see Now, and to agree to it.
type QuoteChangedError struct {
	Was money.Pence
	Now Quote
}

// Error says what differs.
func (e *QuoteChangedError) Error() string {
	return fmt.Sprintf("quoted %s, and now it is %s", e.Was, e.Now.Charge)
}

// StartShownTopUp is StartTopUp from a page that showed a quote. Where the exchange rate has changed since, or the quote is
// older than a quarter of an hour, and the charge would be another one, the error is a *QuoteChangedError. The top-up keeps the
// version of the rate at which the customer agreed.
func (s *Service) StartShownTopUp(ctx context.Context, org, user uuid.UUID, amount, currency string, shown Shown) (TopUp, error) {
	return s.startTopUp(ctx, org, user, amount, currency, shown, false)
}

// asShown refuses a quote that is not what the customer saw of the same amount. The zero Shown saw nothing.
func (s *Service) asShown(ctx context.Context, q Quote, amount, currency string, shown Shown) error {
	age := s.now().Sub(shown.At)
	stale := q.RateID != shown.RateID || age > quoteFor || age < -quoteFor
	if shown == (Shown{}) || !stale || q.Charge == shown.Charge {
		return nil
	}
	was, err := s.chargeAt(ctx, amount, currency, shown.RateID)
	if err != nil {
		return err
	}
	// What was shown for another amount, before this one was typed, says nothing about this one.
	if was != shown.Charge && was != 0 {
		return nil
	}
	return &QuoteChangedError{Was: shown.Charge, Now: q}
}

// chargeAt is what an amount that can be quoted would charge by a version of the exchange rate; zero where there is no such
// version.
func (s *Service) chargeAt(ctx context.Context, amount, currency string, version int64) (money.Pence, error) {
	units, err := money.ParseAmount(amount)
	if err != nil {
		return 0, err
	}
	var micros []int64
	err = s.db.InSystemTx(ctx, "a version of the exchange rate, which belongs to no organisation", func(ctx context.Context, tx *db.Tx) error {
		micros = nil
		return tx.SelectContext(ctx, &micros, `SELECT usd_to_gbp_micros FROM exchange_rates WHERE id = $1`, version)
	})
	if err != nil || len(micros) == 0 {
		return 0, err
	}
	rate, err := money.RateFromMicros(micros[0])
	if err != nil {
		return 0, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	q, err := convert(units, currency, rate)
	if errors.Is(err, money.ErrOverflow) {
		return 0, nil
	}
	return q.Charge, err
}
