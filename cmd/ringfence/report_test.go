package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/payments"
)

// collector keeps every body that is posted to it.
type collector struct {
	*httptest.Server

	mu     sync.Mutex
	bodies []string
	hold   chan struct{} // not nil: what is posted is neither kept nor answered until this is closed
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if c.hold != nil {
			<-c.hold
		}
		body, err := io.ReadAll(r.Body)
		if r.Context().Err() != nil { // who asked does not wait any longer
			return
		}
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bodies = append(c.bodies, string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.bodies, "\n")
}

// What goes wrong while the program runs is at Sentry by the time it has stopped, and nothing of anybody's with it. That
// Sentry does not answer changes nothing for who asks, and the program's end waits for what is still to be told.
func TestErrorsReachSentry(t *testing.T) {
	t.Parallel()
	sentry := newCollector(t)
	sentry.hold = make(chan struct{})
	release := sync.OnceFunc(func() { close(sentry.hold) })
	t.Cleanup(release) // before the collector's own end, which waits for who asks it
	e := development(t, dbtest.EmptyURL(t)).with(environment{"SENTRY_DSN": strings.Replace(sentry.URL, "http://", "http://public@", 1) + "/7"})
	p := e.spawn(t, "serve")
	p.ready(t, e.base())
	dbtest.Super(t, e["DATABASE_URL"], `ALTER TABLE stripe_events RENAME TO elsewhere`) // so that storing an event fails
	const secret = "SeNtRyPlAnTeD"
	body := `{"id":"evt_1","object":"event","type":"x","api_version":"2023-10-16","created":1,"data":{"object":{"email":"jane.` + secret + `@example.com"}}}`
	var last string // the last failure waits behind the others
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.base()+"/api/webhooks/stripe?q="+secret, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Stripe-Signature", payments.Sign([]byte(body), time.Now(), e["STRIPE_WEBHOOK_SECRET"]))
		req.Header.Set("Cookie", "ringfence="+secret)
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if last = res.Header.Get("X-Request-Id"); res.StatusCode != http.StatusServiceUnavailable || last == "" {
			t.Fatalf("the webhook is answered %s as request %q", res.Status, last)
		}
	}
	dbtest.Super(t, e["DATABASE_URL"], `ALTER TABLE elsewhere RENAME TO stripe_events`)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "the program to have left its database", func() bool {
		return (&program{e, &output{}}).count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'ringfence%'`) == 0
	})
	release()
	if code := p.wait(t); code != 0 {
		t.Errorf("it ends with %d:\n%s", code, &p.log)
	}
	got := sentry.all()
	if !strings.Contains(got, `"route":"POST /api/webhooks/stripe"`) || !strings.Contains(got, `"release":"ringfence@development"`) || !strings.Contains(got, `"request_id":"`+last+`"`) {
		t.Errorf("the failed webhook (last %s) was not reported: %s", last, got)
	}
	for _, planted := range []string{secret, canary, "jane", e["STRIPE_SECRET_KEY"]} {
		if strings.Contains(got, planted) {
			t.Errorf("%s was reported: %s", planted, got)
		}
	}
}
