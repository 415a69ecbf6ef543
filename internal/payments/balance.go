package payments

import (
	"context"
	"errors"
	"fmt"

	"github.com/stripe/stripe-go/v76"
)

// AccountBalance is what our account has at Stripe that refunds can be paid from (https://docs.stripe.com/api/balance), in
// pence. It may be below zero.
func (s *Service) AccountBalance(ctx context.Context) (pence int64, err error) {
	b, err := s.stripe.Balance.Get(&stripe.BalanceParams{Params: stripe.Params{Context: ctx}})
	if err != nil {
		if _, answered := errors.AsType[*stripe.Error](err); answered {
			return 0, errors.New(whyUnanswered(err))
		}
		return 0, fmt.Errorf("couldn't ask Stripe for the balance: %w", err)
	}
	for _, a := range b.Available {
		if a.Currency == stripe.CurrencyGBP {
			return a.Amount, nil
		}
	}
	return 0, nil // an account that never had any
}

// Traffic is what came by webhook within the last day, and how long it took to be worked.
func (s *Service) Traffic(ctx context.Context) (Traffic, error) { return s.traffic(ctx) }
