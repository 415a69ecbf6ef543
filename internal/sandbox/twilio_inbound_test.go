package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/sandbox"
)

func toHooks(h *hooks) func(*sandbox.Options) {
	return func(o *sandbox.Options) {
		o.TwilioSMSURL, o.TwilioNumbers = h.at("/sms"), []string{ownNumber, ukNumber}
	}
}

// answered waits until a text that came in has been answered for good, and gives the record.
func (p *phone) answered(sid string) sandbox.Callback {
	p.t.Helper()
	var c sandbox.Callback
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.State == "" || c.State == "pending" {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for the answer: %+v", c)
		}
		<-tick.C
		c = p.twilio.Callbacks(sid)[0]
	}
	return c
}

// replies gives the texts that were sent in answer, in order.
func (p *phone) replies() []string {
	out := []string{}
	for _, m := range p.twilio.Books().Messages {
		if m.Direction == "outbound-reply" {
			out = append(out, m.From+" "+m.To+" "+m.Body)
		}
	}
	return out
}

func TestInboundText(t *testing.T) {
	h := newHooks(t)
	h.replies("text/xml; charset=utf-8", `<?xml version="1.0" encoding="UTF-8"?><Response><Message>Thanks &amp; bye</Message></Response>`)
	p := startTwilio(t, toHooks(h))
	body := strings.Repeat("Zażółć + & = % 😀 ", 5)
	sid := p.receive(handset, ukNumber, body)
	if c := p.answered(sid); c.State != "delivered" || c.What != "inbound" || c.URL != h.at("/sms") || c.Fault != "" {
		t.Errorf("%+v", c)
	}
	m := p.fetch(sid)
	if *m.Direction != "inbound" || *m.Status != "received" || *m.From != handset || *m.To != ukNumber || *m.Body != body || m.DateSent == nil {
		t.Errorf("%+v", m)
	}
	form := h.all()[0]
	for name, want := range map[string]string{
		"MessageSid": sid, "SmsSid": sid, "AccountSid": testAccount, "From": handset, "To": ukNumber, "Body": body,
		"NumMedia": "0", "NumSegments": "2", "SmsStatus": "received", "ApiVersion": "2010-04-01", "FromCity": "",
	} {
		if got, ok := form[name]; !ok || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if form.Has("MessageStatus") || h.refused() != 0 {
		t.Errorf("%v, %d refused", form, h.refused())
	}
	if got := p.replies(); !slices.Equal(got, []string{ukNumber + " " + handset + " Thanks & bye"}) {
		t.Fatalf("%v", got)
	}
	// The reply is a message like others, and what came in is priced too.
	reply := p.list(nil)[0]
	p.mark(reply, "delivered", 0)
	if m := p.fetch(reply); *m.Direction != "outbound-reply" || *m.Status != "delivered" {
		t.Errorf("%+v", m)
	}
	p.advance(sid)
	if m := p.fetch(sid); *m.Price != "-0.01500" {
		t.Errorf("price %s", *m.Price)
	}
	if n := p.twilio.Books().Creations; n.Made != 0 {
		t.Errorf("%+v counted as made by the API", n)
	}
}

func TestAnswersToTexts(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t, toHooks(h))
	for _, c := range []struct {
		name, kind, answer string
		fault              string
		replies            []string
	}{
		{"nothing", "", "", "", nil},
		{"an empty response", "application/xml", "<Response/>", "", nil},
		{"two messages", "text/xml", "<Response><Message>a</Message><Message><Body>b</Body></Message></Response>", "", []string{"a", "b"}},
		{"plain text", "text/plain; charset=utf-8", "just so", "", []string{"just so"}},
		{"JSON", "application/json", `{"ok":true}`, "12300", nil},
		{"broken XML", "text/xml", "<Response><Message>a", "12100", nil},
		{"a page", "text/html", "<!doctype html><html><body>Not here</body></html>", "12100", nil},
		{"a verb that is not imitated", "text/xml", "<Response><Redirect>/x</Redirect></Response>", "12200", nil},
		{"media", "text/xml", "<Response><Message><Media>https://shop.example/a.png</Media></Message></Response>", "12200", nil},
		{"another recipient", "text/xml", `<Response><Message to="+447400123457">a</Message></Response>`, "12200", nil},
		{"an empty message", "text/xml", "<Response><Message> </Message></Response>", "14103", nil},
		{"a message that is too long", "text/xml", "<Response><Message>" + strings.Repeat("a", 1601) + "</Message></Response>", "21617", nil},
	} {
		before := len(p.replies())
		h.replies(c.kind, c.answer)
		got := p.answered(p.receive(handset, ukNumber, c.name))
		if got.State != "delivered" || !strings.HasPrefix(got.Fault, c.fault) || (got.Fault != "") != (c.fault != "") {
			t.Errorf("%s: %+v, want %q", c.name, got, c.fault)
		}
		replies := p.replies()[before:]
		for i := range replies {
			replies[i] = strings.TrimPrefix(replies[i], ukNumber+" "+handset+" ")
		}
		if !slices.Equal(replies, c.replies) && len(replies)+len(c.replies) > 0 {
			t.Errorf("%s: %v, want %v", c.name, replies, c.replies)
		}
	}
	// An answer that is an error is not asked for again.
	h.fail(http.StatusInternalServerError)
	if got := p.answered(p.receive(handset, ukNumber, "x")); got.State != "failed" || got.Attempts != 1 || !strings.HasPrefix(got.Fault, "11200") {
		t.Errorf("%+v", got)
	}
	// The reply's own callbacks go where action says.
	h.replies("text/xml", `<Response><Message action="/status?reply=1">a</Message></Response>`)
	p.answered(p.receive(handset, ukNumber, "x"))
	reply := p.list(nil)[0]
	h.replies("", "")
	p.mark(reply, "delivered", 0)
	wait(t, "its callbacks", func() bool { return len(h.told(reply)) == 3 })
	if c := p.twilio.Callbacks(reply)[0]; c.URL != h.url+"/status?reply=1" {
		t.Errorf("%+v", c)
	}
}

func TestInboundIsAskedAgainOnlyWithoutConnection(t *testing.T) {
	ck := newClock()
	p := startTwilio(t, func(o *sandbox.Options) { o.Now, o.TwilioSMSURL = ck.Now, "http://127.0.0.1:1/sms" })
	sid := p.receive(handset, ownNumber, "x")
	wait(t, "giving up", func() bool { ck.Add(5 * time.Second); return p.twilio.Callbacks(sid)[0].State == "failed" })
	if c := p.twilio.Callbacks(sid)[0]; c.Attempts != 4 {
		t.Errorf("%+v", c)
	}
}

func TestStopWords(t *testing.T) {
	h := newHooks(t)
	h.replies("text/xml", "<Response><Message>You said stop</Message></Response>")
	p := startTwilio(t, toHooks(h))
	refused := func(from, to string) bool {
		_, err := p.sms.CreateMessage(message(to, "x").SetFrom(from))
		if err == nil {
			return false
		}
		return twilioError(t, err).Code == 21610
	}
	c := p.answered(p.receive(usHandset, ownNumber, " stop\n"))
	if c.State != "delivered" || !strings.HasPrefix(c.Fault, "21610") || len(p.replies()) != 0 {
		t.Errorf("the reply to STOP: %+v %v", c, p.replies())
	}
	if !refused(ownNumber, usHandset) {
		t.Error("a text to somebody who said STOP was taken")
	}
	if refused(ukNumber, usHandset) || refused(ownNumber, "+14155552672") {
		t.Error("STOP reached further than to the two numbers")
	}
	p.answered(p.receive(usHandset, ownNumber, "please stop"))
	p.answered(p.receive(usHandset, ownNumber, "Start"))
	if refused(ownNumber, usHandset) {
		t.Error("START did not lift it")
	}
	if got := h.all(); len(got) != 3 || got[0].Get("Body") != " stop\n" {
		t.Errorf("posted: %v", got)
	}
	// Everywhere else they are ordinary words: whoever sends has to keep a list.
	for _, pair := range [][2]string{{handset, ukNumber}, {handset, ownNumber}, {usHandset, ukNumber}} {
		p.answered(p.receive(pair[0], pair[1], "STOP"))
		if refused(pair[1], pair[0]) {
			t.Errorf("STOP from %s to %s was obeyed", pair[0], pair[1])
		}
	}
}

func TestTextsThatCannotComeIn(t *testing.T) {
	p := startTwilio(t)
	for name, c := range map[string]struct {
		from, to, body string
		code           int
	}{
		"from nobody":     {"0123", ownNumber, "x", 21212},
		"to nobody":       {handset, "x", "x", 21211},
		"to somebody":     {handset, ukNumber, "x", 20404},
		"nothing":         {handset, ownNumber, " ", 21602},
		"1601 characters": {handset, ownNumber, strings.Repeat("a", 1601), 21617},
	} {
		if _, err := p.twilio.Receive(c.from, c.to, c.body); err == nil {
			t.Errorf("%s: came in", name)
		}
		status, body := p.postForm("/sandbox/twilio/inbound", url.Values{"from": {c.from}, "to": {c.to}, "body": {c.body}}, "")
		if e := decode[struct{ Error struct{ Code int } }](t, body); e.Error.Code != c.code || status < 400 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if n := len(p.twilio.Books().Messages); n != 0 {
		t.Errorf("%d came in", n)
	}
	// With nobody to tell, a text is kept all the same.
	sid := p.receive(handset, ownNumber, "x")
	if len(p.twilio.Callbacks(sid)) != 0 || *p.fetch(sid).Status != "received" {
		t.Errorf("%+v", p.fetch(sid))
	}
}
