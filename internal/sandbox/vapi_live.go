package sandbox

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	livePath      = "/live/"
	recordingPath = "/recordings/"
	// askLimit is how long a server may take to say who answers a call that came in; see
	// https://docs.vapi.ai/server-url/events#retrieving-assistants.
	askLimit = 7500 * time.Millisecond
	kindAsk  = "assistant-request"
)

// ControlCall is the match of faults for requests that control a call that goes on.
const ControlCall = "POST " + vapiPath + livePath + "*/control"

// mountLive serves what is not of the API proper: the recordings of calls, and what Twilio asks.
func (v *Vapi) mountLive(mux *http.ServeMux) {
	mux.HandleFunc("GET "+vapiPath+recordingPath+"{file}", v.serveRecording)
	mux.HandleFunc("POST "+vapiPath+inboundPath, v.serveInbound)
	// Texts that went to Vapi are lost to everybody else, which is what smsEnabled is about.
	mux.HandleFunc("POST "+vapiPath+"/twilio/sms", func(w http.ResponseWriter, _ *http.Request) { writeTwiML(w, "") })
}

// controlShape is what a live call takes; see https://docs.vapi.ai/calls/call-features.
var controlShape = object(map[string]shape{
	"type": choice("end-call", "say"), "content": words(0), "endCallAfterSpoken": boolean,
}, "type")

// controlCall is https://docs.vapi.ai/calls/call-features, as far as ending a call and saying something.
func controlCall(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	x := v.calls[in.id]
	if x == nil || x.Status == vapiEnded {
		return nil, vapiMissing("Call", in.id)
	}
	if err := in.hold(controlShape); err != nil {
		return nil, err
	}
	ends := in.body["type"] == "end-call"
	if !ends {
		if x.Status != callRuns {
			return nil, vapiFail(http.StatusBadRequest, "Nobody listens: the call is %s.", x.Status)
		}
		said, _ := in.body["content"].(string)
		v.say(x, "bot", said, c.now.UnixNano())
		v.saveCall(c, x)
		ends, _ = in.body["endCallAfterSpoken"].(bool)
	}
	if ends {
		if err := v.hangUp(c, x); err != nil {
			return nil, err
		}
	}
	return map[string]any{"status": "success"}, nil
}

// hangUp ends a call that goes on. Vapi does not document the reason that it gives then.
func (v *Vapi) hangUp(c *changes, x *vapiCall) error {
	x.Reason = reasonControl
	if x.Started == 0 {
		x.Reason = reasonCanceled
	}
	v.saveCall(c, x)
	return v.twilio.endFor(x.SID)
}

// serveRecording gives a second of silence for a call whose recording is kept.
func (v *Vapi) serveRecording(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	x := v.calls[strings.TrimSuffix(r.PathValue("file"), ".wav")]
	there := x != nil && x.Deleted == 0 && v.artifact(x)["recordingUrl"] != nil
	v.mu.Unlock()
	if !there {
		v.fail(w, vapiFail(http.StatusNotFound, "No such recording."))
		return
	}
	w.Header().Set("Content-Type", "audio/wav")
	_, _ = w.Write(silentWAV()) // a failure means that the caller has gone
}

// silentWAV is a second of silence: 8000 samples of 8 bits.
func silentWAV() []byte {
	const rate = 8000
	le := func(n uint32, size int) []byte {
		return []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}[:size] //nolint:gosec // that is what little-endian is
	}
	out := append([]byte("RIFF"), le(36+rate, 4)...)
	out = append(out, "WAVEfmt "...)
	out = append(out, le(16, 4)...)
	out = append(out, le(1, 2)...) // PCM
	out = append(out, le(1, 2)...) // one channel
	out = append(out, le(rate, 4)...)
	out = append(out, le(rate, 4)...)
	out = append(out, le(1, 2)...)
	out = append(out, le(8, 2)...)
	out = append(out, "data"...)
	out = append(out, le(rate, 4)...)
	for range rate {
		out = append(out, 0x80)
	}
	return out
}

// serveInbound answers Twilio, which asks what to do with a call to a number that was imported.
func (v *Vapi) serveInbound(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	number := v.trusted(form, r.Header.Get("X-Twilio-Signature"))
	if number == nil {
		http.Error(w, "unknown number, or not Twilio's signature", http.StatusForbidden)
		return
	}
	x := &vapiCall{
		Inbound: true, Status: callRinging, NumberID: number.ID, SID: form.Get("CallSid"),
		Customer: map[string]any{"number": form.Get("From")},
	}
	apology := ""
	err = v.change(func(c *changes) error {
		v.addCall(c, x)
		x.AssistantID = number.text("assistantId")
		if x.AssistantID != "" && v.staff(x, number.Fields) != nil {
			x.Reason = reasonNotFound
		}
		v.become(c, x, callRinging)
		return nil
	})
	if err == nil && x.AssistantID == "" {
		apology, err = v.askForAssistant(r.Context(), x)
	}
	if err != nil {
		v.log.ErrorContext(r.Context(), "sandbox vapi: a call that came in", "error", err)
		http.Error(w, "the sandbox failed", http.StatusInternalServerError)
		return
	}
	v.mu.Lock()
	reason, limit := x.Reason, x.limit()
	v.mu.Unlock()
	script, err := v.twilio.holdFor(x.SID, limit)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if reason != "" {
		if apology == "" {
			apology = "Sorry, this call cannot be taken."
		}
		writeTwiML(w, "<Say>"+escaped(apology)+"</Say><Hangup/>")
		return
	}
	v.mu.Lock()
	x.Script = script // kept with the call's next change
	v.mu.Unlock()
	writeTwiML(w, `<Connect><Stream url="`+escaped("ws"+v.base[len("http"):]+livePath+x.ID+"/sound")+`"/></Connect>`)
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}

func writeTwiML(w http.ResponseWriter, verbs string) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Response>`+verbs+`</Response>`) // the caller may be gone
}

// trusted gives the number that a request of Twilio's is about; nil when it is unknown or somebody else's request.
func (v *Vapi) trusted(form url.Values, signature string) *vapiRow {
	fields := map[string]string{}
	for name := range form {
		fields[name] = form.Get(name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range v.numberOrder {
		if n.Deleted == 0 && n.text("number") == form.Get("To") && n.text("twilioAccountSid") == form.Get("AccountSid") {
			want := twilioSignature(v.base+inboundPath, fields, n.text("twilioAuthToken"))
			if hmac.Equal([]byte(want), []byte(signature)) {
				return n
			}
		}
	}
	return nil
}

// askForAssistant asks the server who takes a call that came in, and notes the answer. apology is what is said instead
// when nobody does.
func (v *Vapi) askForAssistant(ctx context.Context, x *vapiCall) (apology string, err error) {
	v.mu.Lock()
	server, ok := v.server(x)
	body, err := v.envelope(x, kindAsk, v.now(), nil)
	v.mu.Unlock()
	if err != nil {
		return "", err
	}
	if !ok {
		return "", v.change(func(c *changes) error {
			x.Reason = reasonNobody
			v.saveCall(c, x)
			return nil
		})
	}
	call := &callback{ID: newID("", 32), What: kindAsk, URL: server.url, Body: body, Header: server.header, LimitMS: askLimit.Milliseconds()}
	var a attempt
	var answer received
	fault := v.faults.strikeDelivery(kindAsk, &call.delivery)
	if fault.Do != FaultDrop && v.teller.mayCall(call.URL) {
		a, answer = v.teller.attempt(ctx, x, call, fault.Do == FaultOtherSignature)
	}
	err = v.change(func(c *changes) error {
		call.State = deliveryLost
		if a != (attempt{}) {
			call.add([]attempt{a})
			call.State = deliveryFailed
		}
		if a.ok() {
			call.State = deliveryDelivered
		}
		x.Calls = append(x.Calls, call)
		x.Reason, apology = v.engage(x, a, answer)
		v.saveCall(c, x)
		return nil
	})
	return apology, err
}

// engage takes the answer to an assistant-request. It gives why nobody takes the call, if nobody does, and what is said
// then.
func (v *Vapi) engage(x *vapiCall, a attempt, answer received) (reason, apology string) {
	var got map[string]any
	if !a.ok() || json.Unmarshal(answer.body, &got) != nil {
		return reasonAskFailed, ""
	}
	if said, _ := got["error"].(string); said != "" {
		return reasonAskError, said
	}
	if got["assistantId"] == nil && got["assistant"] == nil {
		return reasonAskNone, ""
	}
	faults := object(map[string]shape{
		"assistantId": anID, "assistant": assistantShape, "assistantOverrides": overridesShape,
	})("", got)
	switch {
	case len(faults) > 0:
		return reasonAskBad, ""
	case v.staff(x, got) != nil:
		return reasonNotFound, ""
	default:
		return "", ""
	}
}
