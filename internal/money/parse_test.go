package money_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"ringfence/internal/money"
)

func TestParseAmount(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "0.00": 0, "50": 5000, "50.": 5000, "50.0": 5000, "50.5": 5050, "50.05": 5005, "49.99": 4999,
		"0.01": 1, "0050.50": 5050, " 50.00 ": 5000, "\t50.00\r\n": 5000,
		"100000000": money.MaxAmount, "100000000.00": money.MaxAmount,
		strings.Repeat("0", 1000) + "7": 700,
	} {
		if got, err := money.ParseAmount(in); err != nil || got != want {
			t.Errorf("ParseAmount(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]error{
		"": money.ErrAmountMissing, "   ": money.ErrAmountMissing, ".": money.ErrAmountMissing,
		"-5": money.ErrAmountNegative, "-": money.ErrAmountNegative, "−5": money.ErrAmountNegative, "-0": money.ErrAmountNegative,
		"abc": money.ErrAmountDigits, "£50": money.ErrAmountDigits, "$50": money.ErrAmountDigits, "50p": money.ErrAmountDigits,
		"1e9": money.ErrAmountDigits, "1E9": money.ErrAmountDigits, "+5": money.ErrAmountDigits, "1,000": money.ErrAmountDigits,
		"1 000": money.ErrAmountDigits, "1_000": money.ErrAmountDigits, "0x10": money.ErrAmountDigits, "5.-1": money.ErrAmountDigits,
		"5.5.5": money.ErrAmountDigits, "5..": money.ErrAmountDigits, ".50": money.ErrAmountDigits, "50,00": money.ErrAmountDigits,
		"NaN": money.ErrAmountDigits, "Inf": money.ErrAmountDigits, "٥٠": money.ErrAmountDigits, "５０": money.ErrAmountDigits,
		"5\x000": money.ErrAmountDigits, "50\u00a0": money.ErrAmountDigits, "\xff": money.ErrAmountDigits,
		"49.999": money.ErrAmountDecimals, "0.001": money.ErrAmountDecimals, "50.000": money.ErrAmountDecimals,
		"100000000.01": money.ErrAmountTooLarge, "1000000000000": money.ErrAmountTooLarge,
		strings.Repeat("9", 100000): money.ErrAmountTooLarge,
	} {
		got, err := money.ParseAmount(in)
		if !errors.Is(err, want) || got != 0 {
			t.Errorf("ParseAmount(%.40q) = %d, %v; want the refusal %q", in, got, err, want)
		}
		refusal, ok := errors.AsType[*money.AmountError](err)
		if !ok {
			t.Errorf("ParseAmount(%.40q) refuses with a %T", in, err)
			continue
		}
		if m := refusal.Message; m == "" || !strings.HasSuffix(m, ".") || m != refusal.Error() {
			t.Errorf("%q is no sentence to show beside a field", m)
		}
	}
}

var amountGrammar = regexp.MustCompile(`^[ \t\r\n]*[0-9]+(\.[0-9]{0,2})?[ \t\r\n]*$`)

// What parses is in the grammar, in range and prints back to itself; what does not is refused in a sentence.
func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"50.00", "", "abc", "0", "-5", "1e9", "49.999", "£50", "1000000000000", "٥٠", " 7. ", "100000000.01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		minor, err := money.ParseAmount(s)
		if err != nil {
			if _, ok := errors.AsType[*money.AmountError](err); !ok || minor != 0 {
				t.Fatalf("%q: %d, %T", s, minor, err)
			}
			if amountGrammar.MatchString(s) && !errors.Is(err, money.ErrAmountTooLarge) {
				t.Fatalf("%q is an amount, but was refused: %v", s, err)
			}
			return
		}
		if !amountGrammar.MatchString(s) {
			t.Fatalf("%q was read as %d", s, minor)
		}
		if minor < 0 || minor > money.MaxAmount {
			t.Fatalf("%q: %d is out of range", s, minor)
		}
		for _, printed := range []string{money.Pence(minor).Decimal(), money.USDCents(minor).Decimal()} {
			if again, err := money.ParseAmount(printed); err != nil || again != minor {
				t.Fatalf("%q: %d prints as %q, which reads as %d, %v", s, minor, printed, again, err)
			}
		}
	})
}

// Every amount that can be printed and is in range can be read back; every other is refused.
func FuzzPrintAmount(f *testing.F) {
	for _, n := range []int64{0, 1, 99, 100, 5000, 56900, money.MaxAmount, money.MaxAmount + 1, -1, -1 << 63, 1<<63 - 1} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, minor int64) {
		got, err := money.ParseAmount(money.Pence(minor).Decimal())
		switch {
		case minor < 0:
			if !errors.Is(err, money.ErrAmountNegative) {
				t.Fatalf("%d: %d, %v", minor, got, err)
			}
		case minor > money.MaxAmount:
			if !errors.Is(err, money.ErrAmountTooLarge) {
				t.Fatalf("%d: %d, %v", minor, got, err)
			}
		case err != nil || got != minor:
			t.Fatalf("%d reads back as %d, %v", minor, got, err)
		}
		plain := strings.NewReplacer("£", "", ",", "").Replace(money.Pence(minor).String())
		if plain != money.Pence(minor).Decimal() {
			t.Fatalf("%d: String and Decimal disagree: %s, %s", minor, money.Pence(minor), money.Pence(minor).Decimal())
		}
	})
}

func BenchmarkParseAmount(b *testing.B) {
	for b.Loop() {
		_, _ = money.ParseAmount("1234.50")
	}
}
