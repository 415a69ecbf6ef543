package money_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"ringfence/internal/money"
)

func TestEstimatedCredits(t *testing.T) {
	for p, want := range map[money.Pence]int64{
		0: 0, 55: 0, 56: 10, 111: 10, 112: 20, 1975: 350, 3950: 700, 7900: 1410, 15800: 2820, 56900: 10160,
		-1: 0, -56900: 0, math.MinInt64: 0, math.MaxInt64: math.MaxInt64 / 56 * 10,
	} {
		if got := money.EstimatedCredits(p); got != want {
			t.Errorf("%v is %d credits, want %d", p, got, want)
		}
	}
}

func TestCallCost(t *testing.T) {
	r := rate(t, "0.79")
	for _, tc := range []struct {
		seconds int64
		cents   money.USDCents
		want    money.Pence
	}{
		{0, 70, 0},
		{1, 70, 1},
		{30, 70, 28},
		{60, 70, 56},
		{91, 70, 84}, // the predecessor rounded twice and took 85
		{3600, 70, 3318},
		{600, 70, 553}, // 553 exactly: nothing to round up
		{60, 0, 0},
		{60, 100, 79},
		{61, 100, 81}, // 80.32
	} {
		if got, err := money.CallCost(tc.seconds, tc.cents, r); err != nil || got != tc.want {
			t.Errorf("%d s at %v a minute = %d, %v; want %d", tc.seconds, tc.cents, got, err, tc.want)
		}
	}
}

func TestCallCostRefusals(t *testing.T) {
	r := rate(t, "0.79")
	for _, tc := range []struct {
		seconds int64
		cents   money.USDCents
		rate    money.Rate
		want    error
	}{
		{-1, 70, r, money.ErrNegative},
		{60, -70, r, money.ErrNegative},
		{60, 70, money.Rate{}, money.ErrRateUnset},
		{math.MaxInt64, math.MaxInt64, r, money.ErrOverflow},
		{math.MaxInt64, 77, r, money.ErrOverflow},
	} {
		if got, err := money.CallCost(tc.seconds, tc.cents, tc.rate); !errors.Is(err, tc.want) || got != 0 {
			t.Errorf("%d s at %d cents = %d, %v; want %v", tc.seconds, tc.cents, got, err, tc.want)
		}
	}
}

func TestCallSeconds(t *testing.T) {
	r := rate(t, "0.79")
	for _, tc := range []struct {
		pence money.Pence
		cents money.USDCents
		want  int64
	}{{0, 70, 0}, {1, 70, 1}, {28, 70, 30}, {56, 70, 60}, {79, 70, 85}, {84, 70, 91}, {553, 70, 600}, {79, 1, 6000}, {1, 100_000, 0}} {
		if got, err := money.CallSeconds(tc.pence, tc.cents, r); err != nil || got != tc.want {
			t.Errorf("%d pence at %v a minute pay for %d s, %v; want %d", tc.pence, tc.cents, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		pence money.Pence
		cents money.USDCents
		rate  money.Rate
		want  error
	}{
		{-1, 70, r, money.ErrNegative},
		{1, 0, r, money.ErrNegative},
		{1, -1, r, money.ErrNegative},
		{1, 70, money.Rate{}, money.ErrRateUnset},
		{math.MaxInt64, 1, r, money.ErrOverflow},
		{1, math.MaxInt64, r, money.ErrOverflow},
	} {
		if got, err := money.CallSeconds(tc.pence, tc.cents, tc.rate); !errors.Is(err, tc.want) || got != 0 {
			t.Errorf("%d pence at %d cents = %d, %v; want %v", tc.pence, tc.cents, got, err, tc.want)
		}
	}
}

// The seconds that an amount pays for cost no more than it; one more would.
func FuzzCallSeconds(f *testing.F) {
	f.Add(int64(79), int64(70), int64(790000))
	f.Add(int64(1), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, pence, cents, micros int64) {
		r, err := money.RateFromMicros(micros)
		if err != nil || pence < 0 || cents <= 0 {
			return
		}
		seconds, err := money.CallSeconds(money.Pence(pence), money.USDCents(cents), r)
		if err != nil || seconds == math.MaxInt64 {
			return
		}
		cost, err := money.CallCost(seconds, money.USDCents(cents), r)
		if err != nil || cost > money.Pence(pence) {
			t.Errorf("%d pence pay for %d s, which cost %d, %v", pence, seconds, cost, err)
		}
		if more, err := money.CallCost(seconds+1, money.USDCents(cents), r); err == nil && more <= money.Pence(pence) {
			t.Errorf("%d pence would pay for %d s as well", pence, seconds+1)
		}
	})
}

func FuzzCallCost(f *testing.F) {
	f.Add(int64(91), int64(70), int64(790000))
	f.Add(int64(600), int64(70), int64(790000))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(9_999_999))
	f.Fuzz(func(t *testing.T, seconds, cents, micros int64) {
		r, err := money.RateFromMicros(micros)
		if err != nil || seconds < 0 || cents < 0 {
			return
		}
		exact := big.NewRat(seconds, 1)
		for _, factor := range []*big.Rat{big.NewRat(cents, 1), big.NewRat(micros, 1_000_000), big.NewRat(1, 60)} {
			exact.Mul(exact, factor)
		}
		// The ceiling of a non-negative q is the floor of q, and one more unless q is whole.
		ceiling := new(big.Int).Quo(exact.Num(), exact.Denom())
		if !exact.IsInt() {
			ceiling.Add(ceiling, big.NewInt(1))
		}
		got, err := money.CallCost(seconds, money.USDCents(cents), r)
		agree(t, "CallCost", int64(got), err, ceiling)
	})
}

func BenchmarkCallCost(b *testing.B) {
	r := rate(b, "0.79")
	for b.Loop() {
		_, _ = money.CallCost(91, 70, r)
	}
}
