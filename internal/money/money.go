// Package money holds the amounts of the business: GBP pence, US cents, and the rate between them. Everything is an
// exact int64 of minor units; nothing here is, or becomes, a binary fraction.
//
// Pence and USDCents are plain int64 kinds: sqlx scans and binds them without help, and JSON shows them as integers.
package money

import "strconv"

// Pence is an amount of GBP in minor units (100 = £1.00), negative for money that leaves.
type Pence int64

// USDCents is an amount of USD in minor units (100 = $1.00). Dollars are for display and for provider costs; wallets
// and the ledger know only Pence.
type USDCents int64

// String gives the amount as people read it: "£1,234.50", "-£5.00". It never fails and does not round.
func (p Pence) String() string { return text(int64(p), "£", true) }

// String gives the amount as people read it: "$1,234.50", "-$5.00". It never fails and does not round.
func (c USDCents) String() string { return text(int64(c), "$", true) }

// Decimal gives the amount for form inputs and CSV: "1234.50", "-5.00". ParseAmount reads it back unless negative.
func (p Pence) Decimal() string { return text(int64(p), "", false) }

// Decimal gives the amount for form inputs and CSV: "1234.50", "-5.00". ParseAmount reads it back unless negative.
func (c USDCents) Decimal() string { return text(int64(c), "", false) }

// text prints minor units of a currency with two decimals. It is our own because a String method has nowhere to put the
// error that a locale-aware formatter can return; the tests hold it to bojanz/currency over the whole int64 range.
func text(minor int64, symbol string, group bool) string {
	b := make([]byte, 0, 32)
	if minor < 0 {
		b = append(b, '-')
	}
	b = append(b, symbol...)
	m := magnitude(minor)
	for i, digits := 0, strconv.FormatUint(m/100, 10); i < len(digits); i++ {
		if group && i > 0 && (len(digits)-i)%3 == 0 {
			b = append(b, ',')
		}
		b = append(b, digits[i])
	}
	b = append(b, '.', byte('0'+m%100/10), byte('0'+m%10))
	return string(b)
}

// magnitude is |n|; unlike -n it is right for the smallest int64 too.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n) //nolint:gosec // wraps to 2^64 - |n|, whose negation is |n|
	}
	return uint64(n)
}
