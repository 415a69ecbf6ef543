package sandbox

import (
	"fmt"
	"net/http"
)

// apiError is an error as Stripe's API shows it; see https://docs.stripe.com/api/errors.
type apiError struct {
	Status        int    `json:"-"`
	Type          string `json:"type"`
	Code          string `json:"code,omitempty"`
	DeclineCode   string `json:"decline_code,omitempty"`
	Param         string `json:"param,omitempty"`
	Message       string `json:"message"`
	Charge        string `json:"charge,omitempty"`
	PaymentIntent any    `json:"payment_intent,omitempty"`
	PaymentMethod any    `json:"payment_method,omitempty"`
	DocURL        string `json:"doc_url,omitempty"`
}

func (e *apiError) Error() string { return e.Type + ": " + e.Message }

const (
	typeInvalidRequest = "invalid_request_error"
	typeIdempotency    = "idempotency_error"
	typeAPI            = "api_error"
	typeCard           = "card_error"
)

// invalid is a 400 about one parameter; the code may be empty, as it is at Stripe for many messages.
func invalid(code, param, format string, args ...any) *apiError {
	e := &apiError{
		Status: http.StatusBadRequest, Type: typeInvalidRequest, Code: code, Param: param,
		Message: fmt.Sprintf(format, args...),
	}
	if code != "" {
		e.DocURL = "https://stripe.com/docs/error-codes/" + code
	}
	return e
}

func missing(param string) *apiError {
	return invalid("parameter_missing", param, "Missing required param: %s.", param)
}

// noSuch is what Stripe answers for an id it does not know: 404 when the id is in the path, 400 when it is a
// parameter (param names it).
func noSuch(noun, id, param string) *apiError {
	e := invalid("resource_missing", param, "No such %s: '%s'", noun, id)
	if param == "id" || param == "" {
		e.Status = http.StatusNotFound
		e.Param = "id"
	}
	return e
}

func internalError(message string) *apiError {
	return &apiError{Status: http.StatusInternalServerError, Type: typeAPI, Message: message}
}

// refusal is the error of the faults that answer on the way.
func refusal(f Fault) error {
	switch f.Do {
	case Fault429:
		return &apiError{
			Status: http.StatusTooManyRequests, Type: typeInvalidRequest, Code: "rate_limit",
			Message: "Request rate limit exceeded (scripted).",
			DocURL:  "https://stripe.com/docs/error-codes/rate-limit",
		}
	case Fault503:
		return &apiError{Status: http.StatusServiceUnavailable, Type: typeAPI, Message: "Service unavailable (scripted)."}
	default:
		return nil
	}
}
