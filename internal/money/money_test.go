package money_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bojanz/currency"

	"ringfence/internal/money"
)

func TestPrinting(t *testing.T) {
	for _, tc := range []struct {
		minor            int64
		pounds, dollars  string
		decimalBothWants string
	}{
		{0, "£0.00", "$0.00", "0.00"},
		{1, "£0.01", "$0.01", "0.01"},
		{-1, "-£0.01", "-$0.01", "-0.01"},
		{10, "£0.10", "$0.10", "0.10"},
		{-500, "-£5.00", "-$5.00", "-5.00"},
		{5000, "£50.00", "$50.00", "50.00"},
		{56900, "£569.00", "$569.00", "569.00"},
		{99999, "£999.99", "$999.99", "999.99"},
		{100000, "£1,000.00", "$1,000.00", "1000.00"},
		{123450, "£1,234.50", "$1,234.50", "1234.50"},
		{-123456789, "-£1,234,567.89", "-$1,234,567.89", "-1234567.89"},
		{math.MaxInt64, "£92,233,720,368,547,758.07", "$92,233,720,368,547,758.07", "92233720368547758.07"},
		{math.MinInt64, "-£92,233,720,368,547,758.08", "-$92,233,720,368,547,758.08", "-92233720368547758.08"},
	} {
		if got := money.Pence(tc.minor).String(); got != tc.pounds {
			t.Errorf("Pence(%d) prints %q, want %q", tc.minor, got, tc.pounds)
		}
		if got := money.USDCents(tc.minor).String(); got != tc.dollars {
			t.Errorf("USDCents(%d) prints %q, want %q", tc.minor, got, tc.dollars)
		}
		if got := money.Pence(tc.minor).Decimal(); got != tc.decimalBothWants {
			t.Errorf("Pence(%d).Decimal() is %q, want %q", tc.minor, got, tc.decimalBothWants)
		}
		if got := money.USDCents(tc.minor).Decimal(); got != tc.decimalBothWants {
			t.Errorf("USDCents(%d).Decimal() is %q, want %q", tc.minor, got, tc.decimalBothWants)
		}
	}
}

// The oracle is a kept library with the CLDR's own patterns.
func TestPrintingAgreesWithCLDR(t *testing.T) {
	pounds := currency.NewFormatter(currency.NewLocale("en-GB"))
	dollars := currency.NewFormatter(currency.NewLocale("en-US"))
	check := func(minor int64) {
		t.Helper()
		gbp, err := currency.NewAmountFromInt64(minor, "GBP")
		if err != nil {
			t.Fatal(err)
		}
		usd, err := currency.NewAmountFromInt64(minor, "USD")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := money.Pence(minor).String(), pounds.Format(gbp); got != want {
			t.Errorf("Pence(%d) prints %q, the library %q", minor, got, want)
		}
		if got, want := money.USDCents(minor).String(), dollars.Format(usd); got != want {
			t.Errorf("USDCents(%d) prints %q, the library %q", minor, got, want)
		}
		if got, want := money.Pence(minor).Decimal(), gbp.Number(); got != want {
			t.Errorf("Pence(%d).Decimal() is %q, the library's number %q", minor, got, want)
		}
	}
	for _, edge := range []int64{0, math.MaxInt64, math.MinInt64, math.MinInt64 + 1} {
		check(edge)
	}
	for power := int64(1); power <= 1e18; power *= 10 {
		for _, near := range []int64{power - 1, power, power + 1} {
			check(near)
			check(-near)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		check(int64(r.Uint64()) >> r.UintN(64))
	}
}

// The wallet's rows hold these types directly; database/sql must bind and scan them as plain integers.
func TestDatabaseAndJSONSeeIntegers(t *testing.T) {
	for _, v := range []any{money.Pence(-56900), money.USDCents(-56900)} {
		bound, err := driver.DefaultParameterConverter.ConvertValue(v)
		if err != nil || bound != driver.Value(int64(-56900)) {
			t.Errorf("%T binds as %#v, %v", v, bound, err)
		}
		if b, err := json.Marshal(v); err != nil || string(b) != "-56900" {
			t.Errorf("%T is %s in JSON, %v", v, b, err)
		}
	}
	var p sql.Null[money.Pence]
	if err := p.Scan(int64(61900)); err != nil || p.V != 61900 {
		t.Errorf("scanned %d, %v", p.V, err)
	}
	var c sql.Null[money.USDCents]
	if err := c.Scan([]byte("5000")); err != nil || c.V != 5000 {
		t.Errorf("scanned %d, %v", c.V, err)
	}
}

func BenchmarkPenceString(b *testing.B) {
	for b.Loop() {
		_ = money.Pence(123456789).String()
	}
}
