package handlers

import (
	"errors"
	"io"
	"net/http"

	"ringfence/internal/fault"
)

// maxEvent is the largest webhook body, in bytes; Stripe's events are a few kilobytes.
const maxEvent = 1 << 20

// stripeWebhook takes an event from Stripe. 200 means that it is stored together with the job that will work it, 400
// that the signature does not hold, 413 that the body is too large, 503 that it could not be stored: Stripe sends it
// again. The body is passed on byte for byte, as the signature covers it.
func (a *app) stripeWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	body, err := io.ReadAll(http.MaxBytesReader(v.out.ResponseWriter, r.Body, maxEvent))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return fault.Wrap(fault.TooLarge, "The body is larger than any event.", err)
		}
		return fault.Wrap(fault.Invalid, "The body could not be read.", err)
	}
	duplicate, err := a.Payments.Accept(r.Context(), body, r.Header.Get("Stripe-Signature"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Received  bool `json:"received"`
		Duplicate bool `json:"duplicate,omitempty"`
	}{true, duplicate})
}
