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
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
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
// Sentry is away changes nothing for who asks.
func TestErrorsReachSentry(t *testing.T) {
	t.Parallel()
	sentry := newCollector(t)
	e := development(t, dbtest.EmptyURL(t)).with(environment{"SENTRY_DSN": strings.Replace(sentry.URL, "http://", "http://public@", 1) + "/7"})
	p := e.spawn(t, "serve")
	p.ready(t, e.base())
	dbtest.Super(t, e["DATABASE_URL"], `ALTER TABLE stripe_events RENAME TO elsewhere`) // so that storing an event fails
	const secret = "SeNtRyPlAnTeD"
	body := `{"id":"evt_1","object":"event","type":"x","api_version":"2023-10-16","created":1,"data":{"object":{"email":"jane.` + secret + `@example.com"}}}`
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
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the webhook is answered %s", res.Status)
	}
	dbtest.Super(t, e["DATABASE_URL"], `ALTER TABLE elsewhere RENAME TO stripe_events`)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it ends with %d:\n%s", code, &p.log)
	}
	got := sentry.all()
	if !strings.Contains(got, `"route":"POST /api/webhooks/stripe"`) || !strings.Contains(got, `"release":"ringfence@development"`) {
		t.Errorf("the failed webhook was not reported: %s", got)
	}
	for _, planted := range []string{secret, canary, "jane", e["STRIPE_SECRET_KEY"]} {
		if strings.Contains(got, planted) {
			t.Errorf("%s was reported: %s", planted, got)
		}
	}
}
