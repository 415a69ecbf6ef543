package telephony

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/shopspring/decimal"
	api "github.com/twilio/twilio-go/rest/api/v2010"
)

// AccountBalance is what our account has at Twilio (https://www.twilio.com/docs/usage/api/balance), in millionths of the
// currency's unit, which is three small letters. It may be below zero. Twilio's client ignores contexts: it waits for as long
// as its own limit says.
func (s *Messages) AccountBalance(_ context.Context) (micros int64, currency string, err error) {
	if !s.On() {
		return 0, "", errors.New("texts are not set up here")
	}
	b, err := s.twilio.FetchBalance(&api.FetchBalanceParams{})
	if err != nil {
		return 0, "", twilioFailure(err)
	}
	if b.Balance == nil || b.Currency == nil {
		return 0, "", errors.New("twilio did not say what there is")
	}
	micros, ok := signedMicros(*b.Balance)
	currency = strings.ToLower(*b.Currency)
	if !ok || len(currency) != 3 {
		return 0, "", errors.New("what Twilio said of the balance could not be read")
	}
	return micros, currency, nil
}

// signedMicros reads a decimal that may be negative, in millionths, rounded half away from zero. What is no amount, or one
// that nobody has, is not ok.
func signedMicros(text string) (micros int64, ok bool) {
	if len(text) > 32 { // no amount is as long, and an exponent must not be built
		return 0, false
	}
	d, err := decimal.NewFromString(strings.TrimSpace(text))
	if err != nil || d.Exponent() > 6 || d.Exponent() < -30 || d.Abs().GreaterThan(decimal.NewFromInt(1_000_000_000)) {
		return 0, false
	}
	return d.Shift(6).Round(0).IntPart(), true
}

// probePath is what is asked to see whether Vapi answers.
const probePath = "/assistant?limit=1"

// Reachable reports whether Vapi answers and takes our key.
func (s *Calls) Reachable(ctx context.Context) error {
	if !s.On() {
		return errors.New("calls are not set up here")
	}
	var some []json.RawMessage
	return s.vapi.do(ctx, http.MethodGet, probePath, nil, &some)
}
