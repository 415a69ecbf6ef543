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

// What is told: a change of a message's status or a call's, or asked: what to answer to a text or a call that came in.
const (
	whatStatus  = "status."
	whatInbound = "inbound"
	whatCall    = "call."
	whatVoice   = "voice"
	whatCaller  = "caller-id."
)

// callbackRetries is the wait after each failed attempt; after the last one a callback is given up.
var callbackRetries = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// newTeller gives what tells the application about messages and calls.
func (t *Twilio) newTeller() *teller {
	return &teller{
		keeper: &t.keeper, name: "twilio", log: t.log, life: t.life, clock: t.clock, courier: t.courier, faults: &t.faults,
		mayCall: func(target string) bool { return mayCall(target, t.smsURL) },
		request: t.signed,
		save: func(c *changes, s subject) {
			switch s := s.(type) {
			case *sms:
				c.put(bucketMessages, s.SID, s)
			case *phoneCall:
				c.put(bucketCalls, s.SID, s)
			case *callerID:
				c.put(bucketCallers, s.SID, s)
			}
		},
		heard: func(c *changes, s subject, call *callback, answer received) string {
			switch s := s.(type) {
			case *sms:
				if call.What == whatInbound {
					return t.reply(c, s, answer)
				}
			case *phoneCall:
				if call.What == whatVoice {
					return t.directed(c, s, answer)
				}
			}
			return ""
		},
		unheard: func(c *changes, s subject, call *callback) {
			if p, ok := s.(*phoneCall); ok && call.What == whatVoice {
				t.undirected(c, p)
			}
			if (call.What == whatInbound || call.What == whatVoice) && call.State == deliveryFailed && call.Attempts[len(call.Attempts)-1].Status != 0 {
				call.Fault = "11200: HTTP retrieval failure"
			}
		},
		again: func(call *callback, failed attempt) (time.Duration, bool) {
			// Like Twilio, which asks again only where it could not connect.
			if asks := call.What == whatInbound || call.What == whatVoice; asks && failed.Status != 0 || call.Count > len(callbackRetries) {
				return 0, false
			}
			return callbackRetries[call.Count-1], true
		},
	}
}

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
	t.teller.tell(c, m, &callback{What: whatStatus + m.Status, URL: m.StatusCallback, Form: form})
}

// mayCall says whether the sandbox makes requests to a URL: one can come with a request, so that a setting copied from
// production could name anybody. Only this machine and the hosts of the configured addresses are called.
func mayCall(target string, configured ...string) bool {
	u, err := url.Parse(target)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || (err == nil && ip.IsLoopback()) {
		return true
	}
	return slices.ContainsFunc(configured, func(address string) bool {
		ours, err := url.Parse(address)
		return err == nil && ours.Host != "" && strings.EqualFold(u.Host, ours.Host)
	})
}

// signed makes a request as Twilio signs it, with the token of the subject's account; see
// https://www.twilio.com/docs/usage/security#validating-requests.
func (t *Twilio) signed(ctx context.Context, _ subject, call *callback, wrong bool) (*http.Request, error) {
	t.mu.Lock()
	token := t.tokenOf(call.Form["AccountSid"])
	t.mu.Unlock()
	if wrong {
		token += otherSecret
	}
	form := url.Values{}
	for k, v := range call.Form {
		form.Set(k, v)
	}
	body := strings.NewReader(form.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.URL, body) //nolint:gosec // such as mayCall lets pass
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	req.Header.Set("User-Agent", "TwilioProxy/1.1")
	req.Header.Set("Accept", "*/*")
	req.Header.Set("I-Twilio-Idempotency-Token", call.ID)
	req.Header.Set("X-Twilio-Signature", twilioSignature(call.URL, call.Form, token))
	return req, nil
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

// Callbacks gives the callbacks of a message, a call or a caller id in the order they came about; none for one that is unknown.
func (t *Twilio) Callbacks(sid string) []Callback {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.messages[sid]; m != nil {
		return m.shown()
	}
	if p := t.calls[sid]; p != nil {
		return p.shown()
	}
	if i := t.callerIDs[sid]; i != nil {
		return i.shown()
	}
	return nil
}
