package money

// A minute of calling costs 56 pence at the default price (70 cents at 0.79, rounded up) and counts as ten credits.
const (
	pencePerMinute   = 56
	creditsPerMinute = 10
)

// EstimatedCredits says what an amount is worth in the "estimated credits" that customers know: ten for every whole
// minute of calling at the default price. It is an estimate for display, decides nothing, and is 0 for a negative amount.
func EstimatedCredits(p Pence) int64 {
	return int64(max(p, 0) / pencePerMinute * creditsPerMinute)
}

// CallCost is the price of a call: seconds × cents per minute × rate ÷ 60, computed exactly and rounded up to the penny
// once (at 70 cents and 0.79: 1 s 1p, 30 s 28p, 60 s 56p, 91 s 84p). Rounding the cents first would take a penny more.
// The errors are ErrNegative for negative seconds or price, ErrRateUnset and ErrOverflow.
func CallCost(seconds int64, centsPerMinute USDCents, r Rate) (Pence, error) {
	if seconds < 0 || centsPerMinute < 0 {
		return 0, ErrNegative
	}
	if r.IsZero() {
		return 0, ErrRateUnset
	}
	pence, err := mulDiv(up, 60*microsPerUnit, seconds, int64(centsPerMinute), r.micros)
	return Pence(pence), err
}

// CallSeconds is how many whole seconds of a call an amount pays for: the most that CallCost makes no dearer than that. It
// is the amount × 60 ÷ (cents per minute × rate), rounded down. The errors are ErrNegative for a negative amount or a price
// that is not above zero, ErrRateUnset and ErrOverflow.
func CallSeconds(p Pence, centsPerMinute USDCents, r Rate) (int64, error) {
	if p < 0 || centsPerMinute <= 0 {
		return 0, ErrNegative
	}
	if r.IsZero() {
		return 0, ErrRateUnset
	}
	perMinute, err := mulDiv(down, 1, int64(centsPerMinute), r.micros)
	if err != nil {
		return 0, err
	}
	return mulDiv(down, perMinute, int64(p), 60, microsPerUnit)
}
