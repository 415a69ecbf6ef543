package sandbox

import (
	"maps"
	"slices"
)

// stripeBalance is https://docs.stripe.com/api/balance/balance_object, as much of it as there is here: money is available
// the moment it was paid, and Stripe takes no fee.
type stripeBalance struct {
	Object    string         `json:"object"`
	Available []stripeAmount `json:"available"`
	Livemode  bool           `json:"livemode"`
	Pending   []stripeAmount `json:"pending"`
}

type stripeAmount struct {
	Amount      int64            `json:"amount"`
	Currency    string           `json:"currency"`
	SourceTypes map[string]int64 `json:"source_types"`
}

// getBalance adds up what was charged and not refunded.
func getBalance(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	sums := map[string]int64{"gbp": 0}
	for _, r := range tx.s.charges.order {
		if c := r.Wire; c.Captured {
			sums[c.Currency] += c.AmountCaptured - c.AmountRefunded
		}
	}
	out := stripeBalance{Object: "balance", Available: []stripeAmount{}, Pending: []stripeAmount{}}
	for _, currency := range slices.Sorted(maps.Keys(sums)) {
		out.Available = append(out.Available, stripeAmount{Amount: sums[currency], Currency: currency, SourceTypes: map[string]int64{"card": sums[currency]}})
		out.Pending = append(out.Pending, stripeAmount{Currency: currency, SourceTypes: map[string]int64{"card": 0}})
	}
	return out, nil
}
