package sandbox_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/sandbox"
)

// copyFile gives a copy of a state file as it is at this moment.
func copyFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestFaultsOfMessageCreation(t *testing.T) {
	p := startTwilio(t)
	for _, c := range []struct {
		do   string
		code int // of the answer; 0: there is none
		made bool
	}{
		{sandbox.FaultTimeout, 0, false},
		{sandbox.FaultTimeoutAfterActing, 0, true},
		{sandbox.FaultCutAfterActing, 0, true},
		{sandbox.Fault500, 20500, false},
		{sandbox.Fault500AfterActing, 20500, true},
		{sandbox.Fault503, 20503, false},
		{sandbox.Fault429, 20429, false},
		{sandbox.FaultRefuse, 21612, false},
	} {
		rule := sandbox.Fault{Match: sandbox.MakeMessage, Do: c.do}
		if c.do == sandbox.FaultRefuse {
			rule.Code = c.code
		}
		p.faults(rule)
		before := p.twilio.Books()
		// The caller gives up; only a cut connection is noticed at once.
		timeout := time.Minute
		if strings.HasPrefix(c.do, sandbox.FaultTimeout) {
			timeout = 50 * time.Millisecond
		}
		body := "fault " + c.do
		_, err := p.twilioAPI(testAccount, testToken, timeout).CreateMessage(message(handset, body))
		switch {
		case err == nil:
			t.Errorf("%s: no error", c.do)
		case c.code == 0 && strings.Contains(err.Error(), "ApiError"):
			t.Errorf("%s: answered with %v", c.do, err)
		case c.code != 0 && twilioError(t, err).Code != c.code:
			t.Errorf("%s: %v, want %d", c.do, err, c.code)
		}
		if c.made {
			wait(t, "the message of "+c.do, func() bool { return p.twilio.Books().Creations.Made > before.Creations.Made })
		}
		wait(t, "the request of "+c.do, func() bool { return p.twilio.Books().Creations.Asked > before.Creations.Asked })
		after := p.twilio.Books()
		made := 0
		for _, m := range after.Messages {
			if m.Body == body {
				made++
			}
		}
		if (made == 1) != c.made || made > 1 || after.Creations.Asked != before.Creations.Asked+1 ||
			after.Creations.Made != before.Creations.Made+int64(made) {
			t.Errorf("%s: %d made; before %s, after %s", c.do, made, before, after)
		}
		// It struck once: whoever looks finds what was made, and may send again.
		if got := p.list(nil); len(got) != len(after.Messages) {
			t.Errorf("%s: %d listed, want %d", c.do, len(got), len(after.Messages))
		}
		p.send(message(handset, "again"))
	}
}

func TestRateLimitSaysWhenToComeBack(t *testing.T) {
	p := startTwilio(t)
	p.faults(sandbox.Fault{Match: "GET /2010-04-01/Accounts/*/Messages.json", Do: sandbox.Fault429, Times: 1})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/2010-04-01/Accounts/"+testAccount+"/Messages.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(testAccount, testToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body := read(t, resp)
	e := decode[struct {
		Code, Status int
		Message      string
		MoreInfo     string `json:"more_info"`
	}](t, body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || e.Code != 20429 || e.Status != 429 ||
		e.Message == "" || e.MoreInfo != "https://www.twilio.com/docs/errors/20429" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

func TestDelayedMessage(t *testing.T) {
	p := startTwilio(t)
	p.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultDelay, MS: 1})
	if sid := p.send(message(handset, "slow")); *p.fetch(sid).Body != "slow" {
		t.Error("not made")
	}
	// The caller who gave up too early finds it all the same.
	p.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultDelay, MS: 200})
	api := p.twilioAPI(testAccount, testToken, 50*time.Millisecond)
	_, err := api.CreateMessage(message(handset, "late"))
	t.Logf("the caller was told: %v", err)
	wait(t, "the message", func() bool { return len(p.list(nil)) == 2 })
}

func TestCallbackFaults(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t)
	sent := func(rules ...sandbox.Fault) string {
		p.faults(rules...)
		sid := p.send(message(handset, "x").SetStatusCallback(h.at("/status")))
		p.mark(sid, "delivered", 0)
		return sid
	}
	quiet := func(sid string) bool {
		return !slices.ContainsFunc(p.twilio.Callbacks(sid), func(c sandbox.Callback) bool { return c.State == "pending" })
	}
	sid := sent(sandbox.Fault{Match: "deliver status.sent", Do: sandbox.FaultDrop})
	wait(t, "drop", func() bool { return quiet(sid) })
	if got := h.told(sid); !slices.Equal(got, []string{"sending", "delivered"}) || p.twilio.Books().Undelivered != 1 {
		t.Errorf("drop: %v", got)
	}
	sid = sent(sandbox.Fault{Match: "deliver status.*", Do: sandbox.FaultRepeat, Copies: 2, Times: -1})
	wait(t, "repeat", func() bool { return quiet(sid) })
	if got := h.told(sid); !slices.Equal(got, []string{"sending", "sending", "sent", "sent", "delivered", "delivered"}) {
		t.Errorf("repeat: %v", got)
	}
	h.mu.Lock()
	if n := len(h.tokens); h.tokens[n-1] != h.tokens[n-2] || h.tokens[n-1] == h.tokens[n-3] || h.tokens[n-1] == "" {
		t.Errorf("idempotency tokens: %v", h.tokens)
	}
	h.mu.Unlock()
	sid = sent(sandbox.Fault{Match: "deliver status.sen*", Do: sandbox.FaultReorder, Times: 2, MS: 60_000})
	wait(t, "reorder", func() bool { return quiet(sid) })
	if got := h.told(sid); !slices.Equal(got, []string{"delivered", "sending", "sent"}) {
		t.Errorf("reorder: %v", got)
	}
	// Nothing comes after the last one: it is not held for ever.
	sid = sent(sandbox.Fault{Match: "deliver status.delivered", Do: sandbox.FaultReorder, MS: 1})
	wait(t, "the last one", func() bool { return quiet(sid) && len(h.told(sid)) == 3 })
	before := h.refused()
	sid = sent(sandbox.Fault{Match: "deliver status.sending", Do: sandbox.FaultOtherSignature})
	wait(t, "other signature", func() bool { return quiet(sid) && len(h.told(sid)) == 3 })
	if h.refused() != before+1 || p.twilio.Callbacks(sid)[0].Statuses[0] != http.StatusForbidden {
		t.Errorf("%d refused, %+v", h.refused()-before, p.twilio.Callbacks(sid))
	}
}

func TestTwilioFaultRules(t *testing.T) {
	p := startTwilio(t)
	for _, bad := range []sandbox.Fault{
		{Match: sandbox.MakeMessage, Do: sandbox.FaultBadURL, URL: "x"},
		{Match: sandbox.MakeMessage, Do: sandbox.FaultRefuse},
		{Match: sandbox.MakeMessage, Do: sandbox.Fault500, Code: 21612},
		{Match: "deliver status.sent", Do: sandbox.Fault500},
		{Match: sandbox.MakeMessage, Do: sandbox.FaultDrop},
	} {
		if err := p.twilio.SetFaults(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	if err := p.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/refunds", Do: sandbox.FaultRefuse, Code: 1}); err == nil {
		t.Error("Stripe refuses with Twilio's codes")
	}
	// The two have lists of their own.
	p.faults(sandbox.Fault{Match: "* /*/*/*/*", Do: sandbox.Fault429, Times: 2})
	if len(p.Stripe().Faults()) != 0 {
		t.Error("Stripe has Twilio's faults")
	}
	status, body := p.postJSON("/sandbox/twilio/faults", `{"match":"`+sandbox.MakeMessage+`","do":"refuse","code":21610}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if _, err := p.sms.CreateMessage(message(handset, "x")); twilioError(t, err).Code != 21610 {
		t.Errorf("%v", err)
	}
	if _, body, _ := p.page("/sandbox/twilio/faults"); strings.Contains(body, "refuse") {
		t.Errorf("not used up: %s", body)
	}
	if status, body := p.postJSON("/sandbox/twilio/faults", `{"match":"x","do":"y"}`); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}
}

// BenchmarkMessage measures making messages, from as many callers as there are processors.
func BenchmarkMessage(b *testing.B) {
	bx := start(b, withTwilio)
	api := bx.twilioAPI(testAccount, testToken, time.Minute)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := api.CreateMessage(message(handset, "x")); err != nil {
				b.Error(err)
			}
		}
	})
}

// A cut connection loses only the answer, at Stripe's stand-in as at Twilio's.
func TestStripeCutAfterActing(t *testing.T) {
	b := start(t)
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/checkout/sessions", Do: sandbox.FaultCutAfterActing}); err != nil {
		t.Fatal(err)
	}
	p := sessionParams(5000, "tu_1")
	p.IdempotencyKey = new("topup:tu_1:1")
	if _, err := b.api.CheckoutSessions.New(p); err == nil {
		t.Fatal("answered")
	}
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil || s.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", err)
	}
}
