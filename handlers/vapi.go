package handlers

import (
	"errors"
	"io"
	"net/http"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// vapiWebhook is POST /api/webhooks/vapi: who takes a call, how a call goes on, what was said in it, and what an agent wants
// looked up. The secret is asked for before anything is read. 200 carries the answer; 401 says that the secret is not ours;
// 413 and 400 that it cannot be a message; 5xx has Vapi come again.
func (a *app) vapiWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if values := r.Header["Authorization"]; len(values) != 1 || !a.Calls.Genuine(values[0]) {
		return fault.New(fault.Unauthenticated, "The Authorization header does not hold the secret of this webhook.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(v.out.ResponseWriter, r.Body, telephony.MaxVapiMessage))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return fault.Wrap(fault.TooLarge, "The body is larger than any message.", err)
		}
		return fault.Wrap(fault.Malformed, "The body could not be read.", err)
	}
	answer, err := a.Calls.FromVapi(r.Context(), body)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}
