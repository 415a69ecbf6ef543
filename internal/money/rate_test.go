package money_test

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"ringfence/internal/money"
)

func rate(t testing.TB, s string) money.Rate {
	t.Helper()
	r, err := money.ParseRate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]int64{
		"0.79": 790000, ".79": 790000, "0.790000": 790000, "00.79": 790000, "1": 1000000, "1.": 1000000, "0.000001": 1, "9.999999": 9999999,
	} {
		r, err := money.ParseRate(in)
		if err != nil || r.Micros() != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", in, r.Micros(), err, want)
		}
		if again, err := money.ParseRate(r.String()); err != nil || again != r {
			t.Errorf("%q prints as %q, which reads as %v, %v", in, r, again, err)
		}
	}
	for in, says := range map[string]string{
		"": "missing", "0": "above 0", "0.000000": "above 0", "10": "below 10", "79": "below 10", "10.000000": "below 10",
		"0.7900001": "six decimals", "0.0000001": "six decimals", strings.Repeat("9", 100): "20 characters",
		"-0.79": "digits and a point", "+0.79": "digits and a point", "1e-1": "digits and a point", "1e999999999": "digits and a point",
		"0,79": "digits and a point", " 0.79": "digits and a point", "abc": "digits and a point", "٠.٧٩": "digits and a point",
		"NaN": "digits and a point", "0.7.9": "not a number", ".": "not a number",
	} {
		if r, err := money.ParseRate(in); err == nil || !r.IsZero() || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseRate(%.30q) = %v, %v; want a refusal that says %q", in, r, err, says)
		}
	}
}

func TestRateAsText(t *testing.T) {
	r := rate(t, "0.790")
	if r.String() != "0.79" {
		t.Errorf("prints %q", r)
	}
	b, err := r.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var again money.Rate
	if err := again.UnmarshalText(b); err != nil || again != r {
		t.Errorf("%s reads as %v, %v", b, again, err)
	}
	if err := again.UnmarshalText([]byte("79")); err == nil {
		t.Error("79 was read as a rate")
	}
}

func TestRateFromMicros(t *testing.T) {
	for _, micros := range []int64{1, 790000, 9_999_999} {
		if r, err := money.RateFromMicros(micros); err != nil || r.Micros() != micros {
			t.Errorf("RateFromMicros(%d) = %v, %v", micros, r, err)
		}
	}
	for _, micros := range []int64{0, -1, -790000, 10_000_000, math.MaxInt64, math.MinInt64} {
		if r, err := money.RateFromMicros(micros); err == nil || !r.IsZero() {
			t.Errorf("RateFromMicros(%d) = %v, no refusal", micros, r)
		}
	}
}

func TestToPence(t *testing.T) {
	for _, tc := range []struct {
		rate  string
		cents money.USDCents
		want  money.Pence
	}{
		// The presets, and what the customer is told.
		{"0.79", 2500, 1975},
		{"0.79", 5000, 3950},
		{"0.79", 10000, 7900},
		{"0.79", 20000, 15800},
		{"0.79", 0, 0},
		{"0.79", 1, 1},        // 0.79
		{"0.79", 50, 40},      // 39.5, a tie
		{"0.79", 150, 119},    // 118.5, a tie
		{"0.79", 10050, 7940}, // 7939.5, a tie: every $x.50 is one
		{"0.79", -50, -40},    // ties mirror
		{"0.79", -49, -39},    // -38.71
		{"0.5", 1, 1},         // 0.5
		{"0.499999", 1, 0},
		{"0.77", 50, 39},        // 38.5, where binary fractions misround
		{"0.80", 29, 23},        // 23.2
		{"0.000001", 500000, 1}, // 0.5
		{"0.000001", 499999, 0},
		{"9.999999", 922337296, 9223372038},
	} {
		if got, err := rate(t, tc.rate).ToPence(tc.cents); err != nil || got != tc.want {
			t.Errorf("%v at %s = %d, %v; want %d", tc.cents, tc.rate, got, err, tc.want)
		}
	}
}

func TestToUSD(t *testing.T) {
	for _, tc := range []struct {
		rate  string
		pence money.Pence
		want  money.USDCents
	}{
		{"0.79", 3950, 5000},
		{"0.79", 5000, 6329}, // 6329.11
		{"0.79", 0, 0},
		{"0.79", 1, 1}, // 1.27
		{"0.8", 2, 3},  // 2.5, a tie
		{"0.8", -2, -3},
		{"2", 1, 1}, // 0.5, a tie
		{"0.999999", 1, 1},
	} {
		if got, err := rate(t, tc.rate).ToUSD(tc.pence); err != nil || got != tc.want {
			t.Errorf("%v at %s = %d, %v; want %d", tc.pence, tc.rate, got, err, tc.want)
		}
	}
}

func TestConversionRefusals(t *testing.T) {
	nine, tiny := rate(t, "9"), rate(t, "0.000001")
	if p, err := nine.ToPence(math.MaxInt64); !errors.Is(err, money.ErrOverflow) || p != 0 {
		t.Errorf("too many cents: %d, %v", p, err)
	}
	if p, err := nine.ToPence(math.MinInt64); !errors.Is(err, money.ErrOverflow) || p != 0 {
		t.Errorf("too few cents: %d, %v", p, err)
	}
	if c, err := tiny.ToUSD(math.MaxInt64); !errors.Is(err, money.ErrOverflow) || c != 0 {
		t.Errorf("too many pence: %d, %v", c, err)
	}
	if p, err := rate(t, "1").ToPence(math.MaxInt64); err != nil || p != math.MaxInt64 {
		t.Errorf("the largest amount: %d, %v", p, err)
	}
	if p, err := rate(t, "1").ToPence(math.MinInt64); err != nil || p != math.MinInt64 {
		t.Errorf("the smallest amount: %d, %v", p, err)
	}
	var unset money.Rate
	if p, err := unset.ToPence(5000); !errors.Is(err, money.ErrRateUnset) || p != 0 {
		t.Errorf("no rate: %d, %v", p, err)
	}
	if c, err := unset.ToUSD(5000); !errors.Is(err, money.ErrRateUnset) || c != 0 {
		t.Errorf("no rate: %d, %v", c, err)
	}
}

// roundHalfUp is an oracle of another make: the nearest integer to q, found by flooring |q| + ½.
func roundHalfUp(q *big.Rat) *big.Int {
	sum := new(big.Rat).Add(new(big.Rat).Abs(q), big.NewRat(1, 2))
	n := new(big.Int).Quo(sum.Num(), sum.Denom())
	if q.Sign() < 0 {
		n.Neg(n)
	}
	return n
}

// agree fails unless got and err are what the exact value want demands: itself, or ErrOverflow when it does not fit.
func agree(t *testing.T, what string, got int64, err error, want *big.Int) {
	t.Helper()
	if !want.IsInt64() {
		if !errors.Is(err, money.ErrOverflow) || got != 0 {
			t.Fatalf("%s = %d, %v; %s does not fit", what, got, err, want)
		}
		return
	}
	if err != nil || got != want.Int64() {
		t.Fatalf("%s = %d, %v; want %s", what, got, err, want)
	}
}

func checkConversions(t *testing.T, micros, amount int64) {
	t.Helper()
	r, err := money.RateFromMicros(micros)
	if err != nil {
		return
	}
	exact := big.NewRat(micros, 1_000_000)
	p, err := r.ToPence(money.USDCents(amount))
	agree(t, "ToPence", int64(p), err, roundHalfUp(new(big.Rat).Mul(big.NewRat(amount, 1), exact)))
	c, err := r.ToUSD(money.Pence(amount))
	agree(t, "ToUSD", int64(c), err, roundHalfUp(new(big.Rat).Quo(big.NewRat(amount, 1), exact)))
}

func FuzzConversion(f *testing.F) {
	f.Add(int64(790000), int64(5000))
	f.Add(int64(790000), int64(50))
	f.Add(int64(1), int64(math.MaxInt64))
	f.Add(int64(9_999_999), int64(math.MinInt64))
	f.Fuzz(checkConversions)
}

// Every cent up to $2,000 at rates where binary fractions are known to go wrong, then anything at all.
func TestConversionIsExact(t *testing.T) {
	for _, micros := range []int64{790000, 770000, 800000, 333333} {
		for cents := range int64(20_000) {
			checkConversions(t, micros, cents)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		checkConversions(t, 1+r.Int64N(9_999_999), int64(r.Uint64())>>r.UintN(64))
	}
}

func BenchmarkToPence(b *testing.B) {
	r := rate(b, "0.79")
	for b.Loop() {
		_, _ = r.ToPence(10050)
	}
}
