package report_test

import (
	"testing"

	"ringfence/internal/report"
)

func TestScrub(t *testing.T) {
	for text, want := range map[string]string{
		"couldn't commit: connection refused":                                         "couldn't commit: connection refused",
		"org 0190a0b1-0000-7000-8000-000000000001 of evt_1PxAbc123 and pi_3Px9876543": "org 0190a0b1-0000-7000-8000-000000000001 of evt_1PxAbc123 and pi_3Px9876543",
		`violates check constraint "wallets_balance"`:                                 `violates check constraint "wallets_balance"`,
		`invalid input syntax for type uuid: "Jane Doe, 7 High St"`:                   `invalid input syntax for type uuid: "[text]"`,
		`unknown field "Pass\"word"`:                                                  `unknown field "[text]"`,
		"no user jane.doe+x@mail.example.com here":                                    "no user [mail address] here",
		"to +44 7400 123456: refused":                                                 "to [number]: refused",
		"to +447400123456.":                                                           "to [number].",
		"call 020 7946 0018 or 447400123456":                                          "call [number] or [number]",
		"key sk_test_51Habc and whsec_x1y2 and rf_live_abc.def":                       "key [secret] and [secret] and [secret]",
		"Authorization: Bearer abc.def":                                               "[secret] abc.def",
		"sent Bearer abc.def":                                                         "sent [secret]",
		"eyJhbGciOiJI.eyJzdWIiOiIx.c2ln":                                              "[secret]",
		"password=hunter2 failed":                                                     "[secret] failed",
		`Get "https://api.stripe.com/v1/charges?email=a@b.c": EOF`:                    `Get "https://api.stripe.com/v1/charges": EOF`,
		"Get https://user:pw@api.example.com/v1/x?q=secret#f: EOF":                    "Get https://api.example.com/v1/x EOF",
		"https://api.twilio.com/2010-04-01/Messages/+447400123456.json":               "https://api.twilio.com/2010-04-01/Messages/[text]",
		"dial tcp 10.0.0.7:5432: refused":                                             "dial tcp [address]: refused",
		"dial tcp [2001:db8::1]:443: refused":                                         "dial tcp [address]: refused",
		"timeout after 30s, attempt 3 of 25":                                          "timeout after 30s, attempt 3 of 25",
		"goroutine 18 [running]:\nmain.f(0xc000123456)\n\t/src/x.go:1234 +0x5f":       "goroutine 18 [running]:\nmain.f(0xc000123456)\n\t/src/x.go:1234 +0x5f",
	} {
		if got := report.Scrub(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// Whatever is thrown at it, a phone number, a mail address or a key never comes through.
func FuzzScrub(f *testing.F) {
	f.Add("error at ", ": refused")
	f.Add(`"`, `"`)
	f.Add("https://x/", "?a=b")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, planted := range []string{"+447400123456", "jane@example.com", "sk_test_planted12345"} {
			if got := report.Scrub(before + " " + planted + " " + after); contains(got, planted) && !contains(before+after, planted) {
				t.Errorf("%s came through: %q", planted, got)
			}
		}
	})
}
