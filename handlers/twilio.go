package handlers

import (
	"cmp"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// maxTwilio bounds what Twilio posts: a text of 1,600 characters and a few dozen short fields.
const maxTwilio = 64 << 10

// fromTwilio reads what Twilio posted and refuses what Twilio did not sign.
func (a *app) fromTwilio(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxTwilio)
	err := r.ParseForm()
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return fault.Wrap(fault.TooLarge, "The form is over 64 KiB.", err)
	}
	if err != nil {
		return fault.Wrap(fault.Malformed, "The form could not be read.", err)
	}
	genuine, err := a.Messages.Genuine(r.Context(), r.URL.RequestURI(), r.PostForm, r.Header.Get("X-Twilio-Signature"))
	if err != nil {
		return err
	}
	if !genuine {
		return fault.New(fault.Forbidden, "The signature does not match this request.")
	}
	return nil
}

// twilioStatus is POST /api/webhooks/twilio/status: how a text goes on.
func (a *app) twilioStatus(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if err := a.fromTwilio(w, r); err != nil {
		return err
	}
	f := r.PostForm
	err := a.Messages.StatusChanged(r.Context(), r.URL.Query().Get("message"), telephony.Status{
		SID: f.Get("MessageSid"), Status: f.Get("MessageStatus"), ErrorCode: f.Get("ErrorCode"), AccountSID: f.Get("AccountSid"),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// twilioSMS is POST /api/webhooks/twilio/sms: somebody sent a text to a number of ours. The answer is what to text back
// (https://www.twilio.com/docs/messaging/twiml), often nothing.
func (a *app) twilioSMS(w http.ResponseWriter, r *http.Request, _ *visit) error {
	err := a.fromTwilio(w, r)
	if err != nil {
		return err
	}
	f := r.PostForm
	in := telephony.Inbound{SID: f.Get("MessageSid"), From: f.Get("From"), To: f.Get("To"), Body: f.Get("Body"), AccountSID: f.Get("AccountSid")}
	in.Media, err = strconv.Atoi(cmp.Or(f.Get("NumMedia"), "0"))
	if err != nil {
		return fault.Wrap(fault.Malformed, "NumMedia is not a number.", err)
	}
	reply, err := a.Messages.Receive(r.Context(), in)
	if err != nil {
		return err
	}
	var twiml struct {
		XMLName xml.Name `xml:"Response"`
		Message string   `xml:"Message,omitempty"`
	}
	twiml.Message = reply
	body, err := xml.Marshal(twiml)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append([]byte(xml.Header), body...))
	return nil
}
