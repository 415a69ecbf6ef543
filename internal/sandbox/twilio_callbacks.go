package sandbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with it
	"encoding/base64"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// callback is something that the receiver is told about a message, or asked: a change of its status, or an answer to
// a text that came in. Callbacks of one message are made one after the other; only a fault changes their order.
type callback struct {
	delivery

	// ID is the same in every attempt.
	ID string `json:"id"`
	// What is told: status.sent and the like, or inbound.
	What string            `json:"what"`
	URL  string            `json:"url"`
	Form map[string]string `json:"form"`
	// Fault is what was wrong with the answer, as Twilio's debugger shows it.
	Fault string `json:"fault,omitempty"`
	// waiting says that a fault holds it back.
	waiting bool
}

const (
	whatStatus  = "status."
	whatInbound = "inbound"
)

// callbackRetries is the wait after each failed attempt; after the last one a callback is given up.
var callbackRetries = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// tellStatus makes the callback of a message's new status; see
// https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks.
func (t *Twilio) tellStatus(c *changes, m *sms) {
	if m.StatusCallback == "" {
		return
	}
	form := map[string]string{
		"MessageSid": m.SID, "SmsSid": m.SID, "MessageStatus": m.Status, "SmsStatus": m.Status, "From": m.From,
		"To": m.To, "AccountSid": m.Account, "ApiVersion": twilioVersion,
	}
	if m.ErrorCode != 0 {
		form["ErrorCode"] = strconv.Itoa(m.ErrorCode)
	}
	t.tell(c, m, whatStatus+m.Status, m.StatusCallback, form)
}

func (t *Twilio) tell(c *changes, m *sms, what, target string, form map[string]string) {
	call := &callback{ID: newID("", 32), What: what, URL: target, Form: form}
	call.State, call.NextAt = deliveryPending, c.now.UnixNano()
	if !t.mayCall(target) {
		call.State, call.Fault = deliveryLost, "The sandbox calls nobody but this machine and the host of TwilioSMSURL."
	}
	m.Calls = append(m.Calls, call)
}

// mayCall says whether the sandbox makes requests to a URL: a status callback comes with a request, so a setting
// copied from production could name anybody.
func (t *Twilio) mayCall(target string) bool {
	u, err := url.Parse(target)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || (err == nil && ip.IsLoopback()) {
		return true
	}
	ours, err := url.Parse(t.smsURL)
	return err == nil && ours.Host != "" && strings.EqualFold(u.Host, ours.Host)
}

// callNext arranges the next callback of a message, unless one is under way. The mutex must be held.
func (t *Twilio) callNext(m *sms) {
	if m.calling {
		return
	}
	for _, call := range m.Calls {
		if call.State == deliveryPending && !call.waiting {
			m.calling = true
			t.courier.at(time.Unix(0, call.NextAt), func(ctx context.Context) { t.call(ctx, m, call) })
			return
		}
	}
}

// call makes one attempt, as the faults in force would have it.
func (t *Twilio) call(ctx context.Context, m *sms, call *callback) {
	fault := t.faults.strikeDelivery(call.What, &call.delivery)
	switch fault.Do {
	case FaultDrop:
		t.called(ctx, m, call, func(*changes) { call.State = deliveryLost })
		return
	case FaultReorder:
		t.called(ctx, m, call, func(*changes) { call.held, call.waiting = true, true })
		t.clock.at(t.now().Add(fault.heldFor()), func(context.Context) {
			t.mu.Lock()
			defer t.mu.Unlock()
			call.waiting = false
			t.callNext(m)
		})
		return
	}
	t.mu.Lock()
	token := t.tokenOf(m.Account)
	t.mu.Unlock()
	if fault.Do == FaultOtherSignature {
		token += otherSecret
	}
	var made []attempt
	var answer received
	delivered := false
	for range fault.copies() {
		a, got := t.post(ctx, call, token)
		made = append(made, a)
		if a.ok() && !delivered {
			delivered, answer = true, got
		}
	}
	t.called(ctx, m, call, func(c *changes) {
		call.add(made)
		t.settleCall(c, m, call, delivered, answer)
	})
}

// called records what became of an attempt and goes on with the message's next callback.
func (t *Twilio) called(ctx context.Context, m *sms, call *callback, record func(c *changes)) {
	err := t.change(func(c *changes) error {
		record(c)
		m.calling = false
		c.put(bucketMessages, m.SID, m)
		t.callNext(m)
		return nil
	})
	t.logFailure(ctx, "record the callback "+call.What+" of", m.SID, err)
}

// settleCall decides whether a callback is done with, given up or tried again.
func (t *Twilio) settleCall(c *changes, m *sms, call *callback, delivered bool, answer received) {
	last := call.Attempts[len(call.Attempts)-1]
	switch {
	case delivered:
		call.State = deliveryDelivered
		// Those that a fault had wait for this one may go now.
		for _, earlier := range m.Calls[:slices.Index(m.Calls, call)] {
			earlier.waiting = false
		}
		if call.What == whatInbound {
			call.Fault = t.reply(c, m, answer)
		}
	case t.life.Err() != nil:
		// The sandbox is being closed, which is not the receiver's failure: the next run tries at once.
	case call.What == whatInbound && last.Status != 0:
		// Like Twilio, which asks again only where it could not connect.
		call.State, call.Fault = deliveryFailed, "11200: HTTP retrieval failure"
	case call.Count > len(callbackRetries):
		call.State = deliveryFailed
	default:
		call.NextAt = c.now.Add(callbackRetries[call.Count-1]).UnixNano()
	}
}

// post sends one signed request; see https://www.twilio.com/docs/usage/security#validating-requests.
func (t *Twilio) post(ctx context.Context, call *callback, token string) (attempt, received) {
	now := t.now()
	form := url.Values{}
	for k, v := range call.Form {
		form.Set(k, v)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return attempt{At: now.Unix(), Error: err.Error()}, received{}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	req.Header.Set("User-Agent", "TwilioProxy/1.1")
	req.Header.Set("Accept", "*/*")
	req.Header.Set("I-Twilio-Idempotency-Token", call.ID)
	req.Header.Set("X-Twilio-Signature", twilioSignature(call.URL, call.Form, token))
	return t.courier.send(req, now)
}

// twilioSignature is the value of X-Twilio-Signature: over the URL as it was configured and the parameters in the
// order of their names.
func twilioSignature(target string, form map[string]string, token string) string {
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(target))
	for _, k := range slices.Sorted(maps.Keys(form)) {
		mac.Write([]byte(k + form[k]))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// callbackURL says whether a URL is one that Twilio would call (it knows no underscores in host names).
func callbackURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return false
	}
	return u.Hostname() != "" && !strings.Contains(u.Hostname(), "_")
}

// Callback shows what became of one callback.
type Callback struct {
	// What it tells: status.sending, status.sent, status.delivered, status.undelivered, status.failed, or inbound.
	What string `json:"what"`
	URL  string `json:"url"`
	// State is pending, delivered, failed (given up) or lost (dropped by a fault, or nobody the sandbox may call).
	State string `json:"state"`
	// Attempts counts the requests, Statuses are what the last of them were answered with; zero is no answer.
	Attempts int   `json:"attempts"`
	Statuses []int `json:"statuses"`
	// Fault is what was wrong with the answer, by Twilio's error code.
	Fault string `json:"fault,omitempty"`
}

// Callbacks gives the callbacks of a message in the order they came about; none for an unknown message.
func (t *Twilio) Callbacks(sid string) []Callback {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.messages[sid]; m != nil {
		return m.callbacks()
	}
	return nil
}

func (m *sms) callbacks() []Callback {
	out := make([]Callback, 0, len(m.Calls))
	for _, call := range m.Calls {
		v := Callback{
			What: call.What, URL: call.URL, State: call.State, Attempts: call.Count, Fault: call.Fault, Statuses: []int{},
		}
		for _, a := range call.Attempts {
			v.Statuses = append(v.Statuses, a.Status)
		}
		out = append(out, v)
	}
	return out
}
