package money

import "strings"

// MaxAmount is the largest amount ParseAmount reads, in minor units: a hundred million pounds or dollars. It only keeps
// later arithmetic far from the edge of int64; what a customer may really pay is a setting.
const MaxAmount int64 = 10_000_000_000

// AmountError is a refusal by ParseAmount. Its message is a whole sentence for the person who typed the amount, fit to
// stand beside the form field.
type AmountError struct{ Message string }

// Error returns the sentence.
func (e *AmountError) Error() string { return e.Message }

// What ParseAmount answers to text that is no amount; compare with errors.Is.
var (
	ErrAmountMissing  error = &AmountError{"Enter an amount, for example 50.00."}
	ErrAmountNegative error = &AmountError{"Enter an amount above zero, without a minus sign."}
	ErrAmountDigits   error = &AmountError{"Use digits only, for example 50.00, without currency signs or commas."}
	ErrAmountDecimals error = &AmountError{"Use at most two decimals, for example 50.00."}
	ErrAmountTooLarge error = &AmountError{"This amount is too large. Enter a smaller one."}
)

// ParseAmount reads what a person typed as an amount and returns minor units (pence or cents), 0 to MaxAmount. Zero is
// an amount: whether it is enough is the caller's rule.
//
// It reads ASCII digits with an optional point and at most two decimals ("50", "50.", "50.5", "0050.50"), and spaces
// around them. It refuses signs, exponents, currency signs, thousands separators and the digits of other scripts rather
// than guess, since a wrong guess moves money. Every error is an *AmountError, one of the ErrAmount values.
func ParseAmount(s string) (minorUnits int64, err error) {
	s = strings.Trim(s, " \t\r\n")
	switch {
	case s == "" || s == ".":
		return 0, ErrAmountMissing
	case s[0] == '-' || strings.HasPrefix(s, "−"):
		return 0, ErrAmountNegative
	}
	whole, decimals, _ := strings.Cut(s, ".")
	if whole == "" || !digitsOnly(whole) || !digitsOnly(decimals) {
		return 0, ErrAmountDigits
	}
	if len(decimals) > 2 {
		return 0, ErrAmountDecimals
	}
	for _, digit := range []byte(whole + (decimals + "00")[:2]) {
		minorUnits = minorUnits*10 + int64(digit-'0')
		if minorUnits > MaxAmount {
			return 0, ErrAmountTooLarge
		}
	}
	return minorUnits, nil
}

// digitsOnly reports whether s has nothing but ASCII digits; the empty string has nothing else.
func digitsOnly(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
