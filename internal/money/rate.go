package money

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/shopspring/decimal"
)

// microsPerUnit is the scale of a Rate: millionths.
const microsPerUnit = 1_000_000

// maxRate is the bound below which a rate must lie, in units of GBP per USD. A rate of ten or more is a slip of the
// keyboard (79 for 0.79), and would be charged.
const maxRate = 10

// What conversions refuse; compare with errors.Is.
var (
	ErrRateUnset = errors.New("the USD to GBP rate is not set")
	ErrOverflow  = errors.New("the amount is too large to compute with")
	ErrNegative  = errors.New("the quantity or price is negative")
)

// Rate is how many GBP one USD is worth, exact to a millionth. The zero Rate is "not set": converting with it is
// ErrRateUnset, never a free of charge answer. Rates are comparable with ==.
type Rate struct{ micros int64 }

// RateFromMicros returns the rate of so many millionths of a pound per dollar (790000 = 0.79), as the versioned rate
// table stores it. It must lie above 0 and below 10.
func RateFromMicros(micros int64) (Rate, error) {
	if micros <= 0 || micros >= maxRate*microsPerUnit {
		return Rate{}, fmt.Errorf("a USD to GBP rate must be above 0 and below %d, not %s", maxRate, decimal.New(micros, -6))
	}
	return Rate{micros}, nil
}

// ParseRate reads a rate written in plain decimal, such as "0.79": above 0, below 10, at most six decimals. The error
// says which rule is broken, fit for a configuration report or a form.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, errors.New("a USD to GBP rate is missing, for example 0.79")
	}
	// decimal reads exponents too, and "1e999999999" would have it build a number of that many digits.
	for i := range len(s) {
		if s[i] != '.' && (s[i] < '0' || s[i] > '9') {
			return Rate{}, fmt.Errorf("a USD to GBP rate is written with digits and a point, for example 0.79, not %.20q", s)
		}
	}
	if len(s) > 20 {
		return Rate{}, fmt.Errorf("a USD to GBP rate has at most six decimals, and no more than 20 characters; this one has %d", len(s))
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Rate{}, fmt.Errorf("%q is not a number; a USD to GBP rate looks like 0.79", s)
	}
	if d.Exponent() < -6 {
		return Rate{}, fmt.Errorf("a USD to GBP rate has at most six decimals; %s has %d", s, -d.Exponent())
	}
	if d.Sign() <= 0 || d.GreaterThanOrEqual(decimal.NewFromInt(maxRate)) {
		return Rate{}, fmt.Errorf("a USD to GBP rate must be above 0 and below %d, not %s", maxRate, s)
	}
	return RateFromMicros(d.Shift(6).IntPart())
}

// Micros returns the rate in millionths of a pound per dollar, as RateFromMicros takes it; 0 when unset.
func (r Rate) Micros() int64 { return r.micros }

// IsZero reports whether the rate is unset.
func (r Rate) IsZero() bool { return r.micros == 0 }

// String gives the shortest exact decimal: "0.79". ParseRate reads it back unless the rate is unset ("0").
func (r Rate) String() string { return decimal.New(r.micros, -6).String() }

// MarshalText gives String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what ParseRate reads.
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}

// ToPence converts dollars to pounds: cents × rate, exact, then rounded half up to the penny. This is the one rule by
// which a dollar price becomes what the customer is charged ($50.00 at 0.79 is £39.50). Negative amounts mirror
// positive ones, as Postgres' round(numeric) does. The errors are ErrRateUnset and ErrOverflow.
func (r Rate) ToPence(c USDCents) (Pence, error) {
	if r.IsZero() {
		return 0, ErrRateUnset
	}
	pence, err := mulDiv(halfUp, microsPerUnit, int64(c), r.micros)
	return Pence(pence), err
}

// MicrosToPence converts millionths of a dollar to pounds: micros × rate, exact, then rounded half up to the penny as ToPence
// does. It is for what providers charge us, summed up first. The errors are ErrRateUnset and ErrOverflow.
func (r Rate) MicrosToPence(micros int64) (Pence, error) {
	if r.IsZero() {
		return 0, ErrRateUnset
	}
	pence, err := mulDiv(halfUp, microsPerUnit*microsPerUnit/100, micros, r.micros)
	return Pence(pence), err
}

// ToUSD converts pounds to dollars, for display beside the pounds only: pence ÷ rate, exact, then rounded half up as
// ToPence does. It is not ToPence's inverse: several cents can share a penny, so the answer may differ from the cents a
// quote began with. The errors are ErrRateUnset and ErrOverflow.
func (r Rate) ToUSD(p Pence) (USDCents, error) {
	if r.IsZero() {
		return 0, ErrRateUnset
	}
	cents, err := mulDiv(halfUp, r.micros, int64(p), microsPerUnit)
	return USDCents(cents), err
}

// rounding says what becomes of a remainder.
type rounding uint8

const (
	halfUp rounding = iota // to the nearest, a tie away from zero
	up                     // away from zero
	down                   // towards zero
)

// mulDiv returns the product of the factors divided by divisor (> 0), rounded once. The product may be of any size;
// only the result has to fit, else ErrOverflow.
func mulDiv(mode rounding, divisor int64, factors ...int64) (int64, error) {
	n := big.NewInt(1)
	for _, f := range factors {
		n.Mul(n, big.NewInt(f))
	}
	negative := n.Sign() < 0
	n.Abs(n)
	d := big.NewInt(divisor)
	rest := new(big.Int)
	n.QuoRem(n, d, rest)
	carry := false
	switch mode {
	case halfUp:
		carry = rest.Lsh(rest, 1).Cmp(d) >= 0
	case up:
		carry = rest.Sign() > 0
	case down:
	}
	if carry {
		n.Add(n, big.NewInt(1))
	}
	if negative {
		n.Neg(n)
	}
	if !n.IsInt64() {
		return 0, ErrOverflow
	}
	return n.Int64(), nil
}
