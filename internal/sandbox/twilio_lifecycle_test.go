package sandbox_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ringfence/internal/sandbox"
)

// advance takes a message a step further.
func (p *phone) advance(sid string) {
	p.t.Helper()
	if err := p.twilio.Advance(sid); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) mark(sid, status string, code int) {
	p.t.Helper()
	if err := p.twilio.Mark(sid, status, code); err != nil {
		p.t.Fatal(err)
	}
}

func TestLifecycleByHand(t *testing.T) {
	ck := newClock()
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	sid := p.send(message(handset, "Hällo €uro").SetStatusCallback(h.at("/status")))
	ck.Add(time.Hour) // it does not move by itself
	var told []string
	for _, status := range []string{"sending", "sent", "delivered"} {
		p.advance(sid)
		told = append(told, status)
		if m := p.fetch(sid); *m.Status != status || m.Price != nil || (m.DateSent == nil) != (status == "sending") {
			t.Errorf("after %s: %+v", status, m)
		}
		wait(t, status, func() bool { return slices.Equal(h.told(sid), told) })
	}
	p.advance(sid)
	if m := p.fetch(sid); m.Price == nil || *m.Price != "-0.00790" {
		t.Errorf("price %+v", m.Price)
	}
	if err := p.twilio.Advance(sid); err == nil {
		t.Error("something was left to happen")
	}
	want := url.Values{
		"MessageSid": {sid}, "SmsSid": {sid}, "MessageStatus": {"delivered"}, "SmsStatus": {"delivered"}, "To": {handset},
		"From": {ownNumber}, "AccountSid": {testAccount}, "ApiVersion": {"2010-04-01"},
	}
	if last := h.all()[2]; last.Encode() != want.Encode() {
		t.Errorf("told %v, want %v", last, want)
	}
	if h.refused() != 0 {
		t.Errorf("%d signatures did not hold", h.refused())
	}
}

func TestLifecycleByItself(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.TwilioSettleAfter = 4 * time.Millisecond })
	for _, c := range []struct {
		to, price string
		code      int
		told      []string
	}{
		{handset, "-0.01580", 0, []string{"sending", "sent", "delivered"}},
		{sandbox.NumberUndelivered, "-0.01580", 30003, []string{"sending", "sent", "undelivered"}},
		{sandbox.NumberFailed, "", 30008, []string{"sending", "failed"}},
		{sandbox.NumberSilent, "-0.01580", 0, []string{"sending", "sent"}},
	} {
		params := message(c.to, "Two parts: ✓").SetStatusCallback(h.at("/status"))
		params.SetBody(*params.Body + string(make([]rune, 60)))
		sid := p.send(params)
		wait(t, c.to, func() bool { return slices.Equal(h.told(sid), c.told) })
		wait(t, "the price of "+c.to, func() bool { m := p.fetch(sid); return (m.Price != nil) == (c.price != "") })
		m := p.fetch(sid)
		if *m.Status != c.told[len(c.told)-1] || (c.price != "" && *m.Price != c.price) {
			t.Errorf("%s: %s %v", c.to, *m.Status, m.Price)
		}
		if code := h.all()[len(h.all())-1].Get("ErrorCode"); (c.code == 0) != (code == "") || (c.code != 0 && *m.ErrorCode != c.code) {
			t.Errorf("%s: ErrorCode %q, want %d, and %v", c.to, code, c.code, m.ErrorCode)
		}
	}
	// No callback without a URL, and none to strangers.
	quiet := p.send(message(handset, "x"))
	stranger := p.send(message(handset, "x").SetStatusCallback("https://stranger.example/status"))
	wait(t, "both", func() bool { return *p.fetch(quiet).Status == "delivered" && *p.fetch(stranger).Status == "delivered" })
	if calls := p.twilio.Callbacks(quiet); len(calls) != 0 {
		t.Errorf("%+v", calls)
	}
	for _, call := range p.twilio.Callbacks(stranger) {
		if call.State != "lost" || call.Attempts != 0 {
			t.Errorf("%+v", call)
		}
	}
}

func TestValidityPeriod(t *testing.T) {
	ck := newClock()
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	late := p.send(message(handset, "x").SetValidityPeriod(60))
	soon := p.send(message(handset, "x").SetValidityPeriod(61))
	ck.Add(time.Minute)
	p.advance(late)
	p.advance(soon)
	if m := p.fetch(late); *m.Status != "failed" || *m.ErrorCode != 30036 {
		t.Errorf("%s %v", *m.Status, m.ErrorCode)
	}
	if m := p.fetch(soon); *m.Status != "sending" {
		t.Errorf("%s", *m.Status)
	}
	if _, err := p.sms.CreateMessage(message(handset, "x").SetValidityPeriod(36001)); twilioError(t, err).Code != 20422 {
		t.Errorf("%v", err)
	}
}

func TestMark(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t)
	for _, c := range []struct {
		status string
		code   int
		want   int
		told   []string
	}{
		{"delivered", 0, 0, []string{"sending", "sent", "delivered"}},
		{"undelivered", 30005, 30005, []string{"sending", "sent", "undelivered"}},
		{"undelivered", 0, 30003, []string{"sending", "sent", "undelivered"}},
		{"failed", 0, 30008, []string{"sending", "failed"}},
	} {
		sid := p.send(message(handset, "x").SetStatusCallback(h.at("/status")))
		p.mark(sid, c.status, c.code)
		wait(t, c.status, func() bool { return slices.Equal(h.told(sid), c.told) })
		if m := p.fetch(sid); *m.Status != c.status || (c.want != 0 && *m.ErrorCode != c.want) {
			t.Errorf("%s %d: %s %v", c.status, c.code, *m.Status, m.ErrorCode)
		}
		if err := p.twilio.Mark(sid, "delivered", 0); err == nil {
			t.Errorf("%s: it ended twice", c.status)
		}
	}
	in := p.receive(handset, ownNumber, "hello")
	for name, err := range map[string]error{
		"unknown":            p.twilio.Mark("SM1", "delivered", 0),
		"inbound":            p.twilio.Mark(in, "delivered", 0),
		"status":             p.twilio.Mark(in, "read", 0),
		"delivered, in vain": p.twilio.Mark(in, "delivered", 30003),
		"advance of nothing": p.twilio.Advance("SM1"),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCallbackRetries(t *testing.T) {
	ck := newClock()
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	h.fail(500, 302, 404)
	sid := p.send(message(handset, "x").SetStatusCallback(h.at("/status")))
	p.mark(sid, "delivered", 0)
	// The later ones wait for the first: it is the order that counts.
	wait(t, "all three", func() bool { ck.Add(5 * time.Second); return len(h.told(sid)) == 3 })
	if got := h.told(sid); !slices.Equal(got, []string{"sending", "sent", "delivered"}) {
		t.Errorf("%v", got)
	}
	wait(t, "the record", func() bool { return p.twilio.Books().Undelivered == 0 })
	if c := p.twilio.Callbacks(sid)[0]; c.Attempts != 4 || !slices.Equal(c.Statuses, []int{500, 302, 404, 200}) {
		t.Errorf("%+v", c)
	}
	// After the fourth attempt it is given up, and the next one has its turn.
	h.fail(500, 500, 500, 500)
	sid = p.send(message(handset, "x").SetStatusCallback(h.at("/status")))
	p.mark(sid, "failed", 0)
	wait(t, "the second", func() bool { ck.Add(5 * time.Second); return len(h.told(sid)) == 1 })
	c := p.twilio.Callbacks(sid)[0]
	if c.State != "failed" || c.Attempts != 4 || h.told(sid)[0] != "failed" {
		t.Errorf("%+v, then %v", c, h.told(sid))
	}
}

func TestTwilioRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	ck := newClock()
	h := newHooks(t)
	same := func(o *sandbox.Options) { o.StateFile, o.Now, o.TwilioSettleAfter = file, ck.Now, time.Hour }
	one := startTwilio(t, same)
	queued := one.send(message(handset, "on its way").SetStatusCallback(h.at("/status")))
	h.fail(slices.Repeat([]int{http.StatusServiceUnavailable}, 2)...)
	done := one.send(message(handset, "done").SetStatusCallback(h.at("/status")))
	one.mark(done, "failed", 30007)
	one.receive(usHandset, ownNumber, "STOP")
	wait(t, "the attempts", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.statuses) < 2 })
	before := one.twilio.Books()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}

	two := startTwilio(t, same)
	after := two.twilio.Books()
	if !slices.Equal(after.Messages, before.Messages) || after.Creations != before.Creations || after.Creations.Made != 2 {
		t.Errorf("before %s, after %s", before, after)
	}
	if _, err := two.sms.CreateMessage(message(usHandset, "x")); twilioError(t, err).Code != 21610 {
		t.Errorf("the opt-out was forgotten: %v", err)
	}
	if sid := two.send(message(handset, "new")); two.list(nil)[0] != sid {
		t.Error("a new message is not the newest")
	}
	// What waited is told, and what was on its way arrives.
	wait(t, "the rest", func() bool { ck.Add(time.Second); return slices.Equal(h.told(done), []string{"sending", "failed"}) })
	wait(t, "the end", func() bool {
		ck.Add(10 * time.Minute)
		return slices.Equal(h.told(queued), []string{"sending", "sent", "delivered"})
	})
	wait(t, "the price", func() bool { ck.Add(10 * time.Minute); return two.fetch(queued).Price != nil })
}

func TestKilledTwilio(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	one := startTwilio(t, func(o *sandbox.Options) { o.StateFile = file })
	sid := one.send(message(handset, "x"))
	one.advance(sid)
	// Whatever was answered is in the file, also without an orderly end.
	copied := copyFile(t, file)
	two := startTwilio(t, func(o *sandbox.Options) { o.StateFile = copied })
	if m := two.fetch(sid); *m.Status != "sending" {
		t.Errorf("%s", *m.Status)
	}
}
