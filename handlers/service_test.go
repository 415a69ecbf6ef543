package handlers_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/db/dbtest"
	"ringfence/handlers"
)

// deliver posts an event as Stripe does.
func (b *browser) deliver(body []byte, headers ...string) reply {
	b.s.t.Helper()
	now := time.Now()
	signature := fmt.Sprintf("t=%d,v1=%x", now.Unix(), webhook.ComputeSignature(now, body, webhookSecret))
	return b.do("POST", "/api/webhooks/stripe", bytes.NewReader(body), append([]string{"Stripe-Signature", signature}, headers...)...)
}

func stripeEvent(id string, padding int) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","type":"customer.created","created":%d,"livemode":false,"api_version":"2023-10-16","data":{"object":{"description":%q}}}`,
		id, time.Now().Unix(), strings.Repeat("x", padding))
}

func TestWebhook(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	// Whatever else the request carries makes no difference: the signature is the only proof.
	res := b.deliver(stripeEvent("evt_1", 0), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer x", "Cookie", "ringfence=x")
	wantStatus(t, "first", res, http.StatusOK)
	if res.body != `{"received":true}` || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("first: %s %s", res.Header.Get("Content-Type"), res.body)
	}
	if res = b.deliver(stripeEvent("evt_1", 0)); res.StatusCode != http.StatusOK || res.body != `{"received":true,"duplicate":true}` {
		t.Errorf("again: %s %s", res.Status, res.body)
	}
	body := stripeEvent("evt_2", 0)
	for name, headers := range map[string][]string{"no signature": nil, "wrong": {"Stripe-Signature", "t=1,v1=00"}, "empty": {"Stripe-Signature", ""}} {
		res := b.do("POST", "/api/webhooks/stripe", bytes.NewReader(body), headers...)
		wantStatus(t, name, res, http.StatusBadRequest)
		if res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(res.body, `"status":400`) {
			t.Errorf("%s: %s %s", name, res.Header.Get("Content-Type"), res.body)
		}
	}
	full := (1 << 20) - len(stripeEvent("evt_3", 0))
	wantStatus(t, "1 MiB", b.deliver(stripeEvent("evt_3", full)), http.StatusOK)
	res = b.deliver(stripeEvent("evt_4", full+1))
	wantStatus(t, "1 MiB and a byte", res, http.StatusRequestEntityTooLarge)
	// Nothing beyond the limit is read: this body would never end.
	endless := io.MultiReader(bytes.NewReader(make([]byte, 1<<20+1)), blocked{t.Context()})
	wantStatus(t, "endless", b.do("POST", "/api/webhooks/stripe", endless), http.StatusRequestEntityTooLarge)
	if n := s.count(`SELECT count(*) FROM stripe_events`); n != 2 {
		t.Errorf("%d events stored, want evt_1 and evt_3", n)
	}
	dbtest.Super(t, s.dbURL, `ALTER TABLE stripe_events RENAME TO elsewhere`)
	wantStatus(t, "not stored", b.deliver(stripeEvent("evt_5", 0)), http.StatusServiceUnavailable)
	dbtest.Super(t, s.dbURL, `ALTER TABLE elsewhere RENAME TO stripe_events`)
	wantStatus(t, "sent again", b.deliver(stripeEvent("evt_5", 0)), http.StatusOK)
}

// blocked is a body whose rest never comes.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func TestFormLimit(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	token := b.token("/wallet")
	form := func(size int) url.Values {
		f := url.Values{"csrf_token": {token}, "amount": {"50"}, "currency": {"gbp"}, "pad": {""}}
		f.Set("pad", strings.Repeat("x", size-len(f.Encode())))
		return f
	}
	wantStatus(t, "64 KiB", b.post("/wallet/quote", form(64<<10)), http.StatusOK)
	for _, path := range []string{"/wallet/quote", "/wallet/top-ups", "/login", "/logout"} {
		wantStatus(t, path+" over 64 KiB", b.post(path, form(64<<10+1)), http.StatusRequestEntityTooLarge)
	}
	wantStatus(t, "another kind of body", b.do("POST", "/wallet/quote", strings.NewReader(`{"amount":"50"}`), "Content-Type", "application/json"), http.StatusForbidden)
	wantStatus(t, "broken form", b.do("POST", "/wallet/quote", strings.NewReader(`a=%zz`), "Content-Type", "application/x-www-form-urlencoded"), http.StatusUnprocessableEntity)
}

func TestServerLimits(t *testing.T) {
	srv := handlers.Server("127.0.0.1:1", http.NotFoundHandler())
	if srv.ReadHeaderTimeout <= 0 || srv.ReadHeaderTimeout > 10*time.Second || srv.ReadTimeout <= 0 || srv.ReadTimeout > 10*time.Second ||
		srv.WriteTimeout <= 0 || srv.IdleTimeout <= 0 || srv.MaxHeaderBytes > 64<<10 || srv.Addr != "127.0.0.1:1" {
		t.Errorf("limits: %+v", srv)
	}
	s := newSite(t, func(o *options) {
		o.server = func(srv *http.Server) {
			srv.ReadHeaderTimeout, srv.ReadTimeout = 300*time.Millisecond, 300*time.Millisecond
		}
	})
	for name, sent := range map[string]string{
		"slow headers": "POST /login HTTP/1.1\r\nHost: x\r\n",
		"slow form":    "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\na",
		"slow event":   "POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\na",
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%s: not cut off: %v", name, err)
		}
		if strings.Contains(string(answer), " 200 ") {
			t.Errorf("%s: %s", name, answer)
		}
	}
	wantStatus(t, "others", s.browser().get("/login"), http.StatusOK)
}

func TestHealth(t *testing.T) {
	broken := errors.New("dial tcp 10.0.0.7: planted-secret")
	var failing bool
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) {
			d.Ready = append(d.Ready, handlers.Check{Name: "seed", Run: func(context.Context) error {
				if failing {
					return broken
				}
				return nil
			}})
		}
	})
	b := s.browser()
	wantStatus(t, "healthz", b.get("/healthz"), http.StatusOK)
	var ready struct {
		Status string
		Checks map[string]string
	}
	for _, failing = range []bool{false, true} {
		res := b.get("/readyz")
		if err := json.Unmarshal([]byte(res.body), &ready); err != nil {
			t.Fatal(err)
		}
		status, word := http.StatusOK, "ok"
		if failing {
			status, word = http.StatusServiceUnavailable, "failed"
		}
		wantStatus(t, "readyz", res, status)
		if ready.Checks["database"] != "ok" || ready.Checks["seed"] != word || strings.Contains(res.body, "planted") {
			t.Errorf("readyz: %s", res.body)
		}
	}
	if !strings.Contains(s.log.String(), "10.0.0.7") {
		t.Error("why it is not ready is not in the log")
	}
}

// TestLeaving: a server that is about to end says so to whoever shares requests out, answers what still comes, and keeps
// no connection.
func TestLeaving(t *testing.T) {
	var leaving atomic.Bool
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) { d.Leaving = leaving.Load }
	})
	for _, c := range []struct {
		path   string
		leaves bool
		want   int
	}{
		{"/readyz", false, http.StatusOK},
		{"/readyz", true, http.StatusServiceUnavailable},
		{"/healthz", true, http.StatusOK},
		{"/login", false, http.StatusOK},
		{"/login", true, http.StatusOK},
	} {
		leaving.Store(c.leaves)
		res, err := http.Get(s.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != c.want || res.Close != c.leaves {
			t.Errorf("leaving %t, %s answers %s and ends the connection: %t (%v)", c.leaves, c.path, res.Status, res.Close, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t)
	b := s.as("operator@ringfence.example")
	s.browser().get("/nothing/planted")
	page := b.get("/metrics").body
	for _, line := range []string{
		`ringfence_http_requests_total{route="POST /login",status="3xx"} 1`,
		`ringfence_http_requests_total{route="unmatched",status="4xx"} 1`,
		`ringfence_http_request_duration_seconds_count{route="GET /login",status="2xx"} 1`,
		`ringfence_http_streams 0`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("no %s in\n%s", line, page)
		}
	}
	if strings.Contains(page, "planted") {
		t.Error("a path made a label")
	}
	w := httptest.NewRecorder()
	handlers.Metrics(prometheus.NewRegistry()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Errorf("the address of its own: %d", w.Code)
	}
}

// Secrets planted wherever a request can hold one are not in the log, nor are passwords and tokens that are good.
func TestLogsHoldNoSecrets(t *testing.T) {
	s := newSite(t)
	const canary = "c4n4ry"
	b := s.as("owner@harbour.example")
	cookie := b.cookie().Value
	token := b.token("/wallet")
	s.browser().tryLogin(canary+"@x.example", canary+canary+canary)
	b.get("/"+canary, "Authorization", "Bearer "+canary)
	b.get("/wallet?key="+canary, "X-Api-Key", canary, "User-Agent", canary, "Referer", "http://x/?"+canary, "X-Forwarded-For", canary)
	b.get("/nothing/"+canary+"?"+canary, "HX-Current-URL", canary)
	b.get("/wallet/top-ups/" + canary)
	b.do(strings.ToUpper(canary), "/wallet", nil)
	b.post("/wallet/top-ups?"+canary, url.Values{"amount": {canary}, "currency": {canary}, "csrf_token": {canary}})
	b.post("/wallet/quote", url.Values{"amount": {canary}, "currency": {canary}, "csrf_token": {token}})
	b.do("POST", "/api/webhooks/stripe", strings.NewReader(canary), "Stripe-Signature", canary)
	b.deliver([]byte(canary))
	dbtest.Super(t, s.dbURL, `ALTER TABLE users RENAME TO elsewhere`)
	b.get("/wallet?"+canary, "X-Api-Key", canary)
	b.tryFailing(token, canary)
	dbtest.Super(t, s.dbURL, `ALTER TABLE elsewhere RENAME TO users`)

	log := s.log.String()
	for name, secret := range map[string]string{
		"a planted canary": canary, "a shouted canary": strings.ToUpper(canary), "the password": password, "the cookie": cookie, "a form token": token,
	} {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("the log holds %s: …%s…", name, log[max(0, i-200):min(len(log), i+200)])
		}
	}
	// What it must hold: one line of JSON a request, with who and where.
	var line map[string]any
	found := false
	for text := range strings.Lines(log) {
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("not JSON: %s", text)
		}
		if line["route"] == "GET /wallet" && line["status"] == 200.0 && line["msg"] == "request" {
			found = true
			for _, key := range []string{"request_id", "org_id", "user_id", "duration_us", "bytes", "method", "address"} {
				if line[key] == nil || line[key] == "" {
					t.Errorf("the access log lacks %s: %s", key, text)
				}
			}
		}
		line = nil
	}
	if !found {
		t.Error("no access log of GET /wallet")
	}
	if n := strings.Count(log, `"msg":"request failed"`); n != 2 {
		t.Errorf("%d failures logged, want one each for two", n)
	}
}

// tryFailing signs in while the database cannot answer.
func (b *browser) tryFailing(token, secret string) {
	b.s.t.Helper()
	res := b.post("/login", url.Values{"csrf_token": {token}, "email": {secret + "@x.example"}, "password": {secret}})
	wantStatus(b.s.t, "sign-in without a database", res, http.StatusInternalServerError)
	if !strings.Contains(res.body, "Something went wrong") || strings.Contains(res.body, "relation") {
		b.s.t.Errorf("the page:\n%s", res.body)
	}
}

// The client's address is the peer's, and only what a trusted proxy saw counts instead.
func TestClientAddress(t *testing.T) {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		header  string
		want    string
	}{
		"no proxy is trusted":          {nil, "203.0.113.9", "127.0.0.1"},
		"behind one":                   {[]netip.Prefix{loopback}, "203.0.113.9", "203.0.113.9"},
		"the left end is a lie":        {[]netip.Prefix{loopback}, "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		"behind two":                   {[]netip.Prefix{loopback, netip.MustParsePrefix("10.0.0.0/8")}, "1.1.1.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"},
		"with a port":                  {[]netip.Prefix{loopback}, "203.0.113.9:4711", "203.0.113.9"},
		"IPv6":                         {[]netip.Prefix{loopback}, "[2001:db8::1]:4711", "2001:db8::1"},
		"IPv4 written as IPv6":         {[]netip.Prefix{loopback}, "::ffff:203.0.113.9", "203.0.113.9"},
		"not an address":               {[]netip.Prefix{loopback}, "198.51.100.1, bogus", "127.0.0.1"},
		"no header":                    {[]netip.Prefix{loopback}, "", "127.0.0.1"},
		"everybody on the way is ours": {[]netip.Prefix{loopback}, "127.0.0.9", "127.0.0.9"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { d.TrustedProxies = c.trusted } })
			s.browser().get("/login", "X-Forwarded-For", c.header)
			if !strings.Contains(s.log.String(), `"address":"`+c.want+`"`) {
				t.Errorf("want %s in %s", c.want, s.log.String())
			}
		})
	}
}

// What would make the site unsafe is refused at the start.
func TestRefusedDeps(t *testing.T) {
	var good handlers.Deps
	newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { good = *d } })
	for name, spoil := range map[string]func(*handlers.Deps){
		"plain http":             func(d *handlers.Deps) { d.BaseURL = "http://app.example" },
		"no base":                func(d *handlers.Deps) { d.BaseURL = "" },
		"origin with a path":     func(d *handlers.Deps) { d.CheckoutOrigins = []string{"https://checkout.stripe.com/"} },
		"origin with directives": func(d *handlers.Deps) { d.CheckoutOrigins = []string{"https://a; script-src *"} },
		"wildcard origin":        func(d *handlers.Deps) { d.CheckoutOrigins = []string{"https://*"} },
	} {
		d := good
		d.Registry = prometheus.NewRegistry()
		spoil(&d)
		if _, err := handlers.New(d); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A reader who went away is no failure of ours: it is logged as that, and alarms nobody.
func TestReaderGone(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	pool, err := sql.Open("postgres", s.dbURL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE wallets`); err != nil {
		t.Fatal(err)
	}
	b.Timeout = 300 * time.Millisecond
	if res, err := b.Get(s.URL + "/wallet"); err == nil {
		_ = res.Body.Close()
		t.Fatal("the lock did not hold: " + res.Status)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(s.log.String(), `"status":499`) {
		if time.Now().After(deadline) {
			t.Fatalf("the log: %s", s.log.String())
		}
		runtime.Gosched()
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.log.String(), `"level":"ERROR"`) {
		t.Errorf("the log: %s", s.log.String())
	}
}
