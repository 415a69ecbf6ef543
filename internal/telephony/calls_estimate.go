package telephony

import (
	"context"

	"github.com/google/uuid"

	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Estimate is what a call may come to, in pence.
type Estimate struct {
	// PerMinute is the price of a minute, Required what must be available for it to begin.
	PerMinute, Required money.Pence
	// PerMinuteUSD is what the price list has for a minute.
	PerMinuteUSD money.USDCents
	// Most is what it costs at its longest, Longest how long that is in seconds: as long as what is available pays for, and no
	// longer than the limit for all.
	Most    money.Pence
	Longest int64
}

// Estimate says what a call to a number may come to for an organisation that has so much available. An empty number has the
// default price. The faults are Place's about To, and what is not offered.
func (s *Calls) Estimate(ctx context.Context, org uuid.UUID, to string, available money.Pence) (e Estimate, err error) {
	if to != "" {
		if to, err = wallet.ParseDestination(to); err != nil {
			return e, atField("to", err)
		}
	}
	tariff, err := s.o.Gates.Tariff(ctx)
	if err != nil {
		return e, err
	}
	now := s.o.Gates.Now()
	price, err := tariff.Price(org, wallet.ActionCall, to, now)
	if err != nil {
		return e, atTo(err)
	}
	version, err := tariff.Rate(now)
	if err != nil {
		return e, err
	}
	rate, err := version.Rate()
	if err != nil {
		return e, err
	}
	terms := wallet.CallTerms{PerMinute: price.PerMinute, Rate: rate}
	if e.PerMinute, err = terms.Cost(60); err != nil {
		return e, err
	}
	e.PerMinuteUSD, e.Longest, e.Required = price.PerMinute, s.o.MaxCall, max(price.Unit, e.PerMinute)
	if price.PerMinute > 0 {
		reach, err := reaching(terms, max(0, available))
		if err != nil {
			return e, err
		}
		e.Longest = min(reach, s.o.MaxCall)
	}
	e.Most, err = terms.Cost(e.Longest)
	return e, err
}
