package telephony

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/twilio/twilio-go/client"
)

// failure is a provider's way of not having done what it was asked, and what is known of it. Its text has ids and codes
// only: what a provider says may quote what it was sent.
type failure struct {
	provider string
	// answer is unknown, rejected or notAsked.
	answer       answer
	status, code int
	cause        error
}

// Error names the provider and what it said in numbers.
func (f *failure) Error() string {
	what := map[answer]string{unknown: "gave no clear answer", rejected: "refused", notAsked: "was not reached, or would not listen"}[f.answer]
	s := fmt.Sprintf("%s %s (status %d, code %d)", f.provider, what, f.status, f.code)
	if f.cause != nil {
		s += ": " + f.cause.Error()
	}
	return s
}

// Unwrap gives the cause of what never became an answer.
func (f *failure) Unwrap() error { return f.cause }

// answerOf is what is known after an error: accepted where there is none, and unknown for any error that is no failure.
func answerOf(err error) answer {
	if err == nil {
		return accepted
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.answer
	}
	return unknown
}

// gone reports whether the provider says that it has no such thing, in words of its own: what stands between us may say
// 404 too.
func gone(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.status == http.StatusNotFound && f.code != 0
}

// notOurs reports whether the provider does not take the credential.
func notOurs(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.status == http.StatusUnauthorized && f.code != 0
}

// codeOf is the provider's own code, zero where it gave none.
func codeOf(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	return 0
}

// withoutAddress leaves out the address that was asked, in which phone numbers stand.
func withoutAddress(err error) error {
	if at, ok := errors.AsType[*url.Error](err); ok {
		return at.Err
	}
	return err
}

// twilioFailure puts Twilio's errors into ours, by the rules of [judge].
func twilioFailure(err error) error {
	if err == nil {
		return nil
	}
	f := &failure{provider: "Twilio"}
	f.answer, f.code = judge(err)
	if said, ok := errors.AsType[*client.TwilioRestError](err); ok {
		f.status = said.Status
		if said.Code == codeNotFound { // about what was asked for, not about us
			f.answer = rejected
		}
		return f
	}
	f.cause = withoutAddress(err)
	return f
}

// undialled reports whether a request never left: nobody was reached.
func undialled(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// reading repeats once what only reads, when it had no clear answer.
func reading[T any](ask func() (T, error)) (T, error) {
	v, err := ask()
	if a := answerOf(err); a == unknown || a == notAsked && codeOf(err) == 0 {
		v, err = ask()
	}
	return v, err
}

// codeNotFound is Twilio's word for what is not there.
const codeNotFound = 20404

// numberSentence says why Twilio would not sell a number (https://www.twilio.com/docs/api/errors).
func numberSentence(code int) string {
	switch code {
	case 21422, 21404:
		return "Somebody else has taken this number."
	case 21421:
		return "This is not a number that can be bought."
	case 21615, 21628, 21629, 21630, 21631, 21649, 21650, 21651:
		return "This country asks for an address or papers before it sells a number."
	case 21452, 21454:
		return "No such number is for sale at present."
	}
	return fmt.Sprintf("Our provider would not sell this number (code %d).", code)
}
