package report_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/report"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// receiver stands in for Sentry.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	bodies []string
	wait   chan struct{} // not nil: it answers only when this is closed
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.bodies = append(r.bodies, string(body))
		wait := r.wait
		r.mu.Unlock()
		if wait != nil {
			<-wait
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) dsn() string {
	return strings.Replace(r.URL, "http://", "http://public@", 1) + "/42"
}

func (r *receiver) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.bodies, "\n")
}

func newReporter(t *testing.T, dsn string) (*report.Reporter, *slog.Logger, *bytes.Buffer) {
	t.Helper()
	r, err := report.New(report.Options{DSN: dsn, Environment: "test", Release: "ringfence@test"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	return r, slog.New(r.Handler(slog.NewJSONHandler(&log, nil))), &log
}

func flush(t *testing.T, r *report.Reporter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsAreReported(t *testing.T) {
	sentry := newReceiver(t)
	r, log, written := newReporter(t, sentry.dsn())
	log.Info("all is well")
	log.Warn("not so well")
	log.With("part", "gates").Error("the round failed", "request_id", "REQ1", "error", errors.New("couldn't commit: connection refused"))
	flush(t, r)
	got := sentry.all()
	for _, want := range []string{"the round failed", "couldn't commit: connection refused", `"part":"gates"`, `"request_id":"REQ1"`, `"environment":"test"`, "TestErrorsAreReported"} {
		if !contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if contains(got, "well") || strings.Count(got, `"event_id"`) < 1 {
		t.Errorf("reported what is no error: %s", got)
	}
	if n := strings.Count(written.String(), "\n"); n != 3 {
		t.Errorf("%d lines in the log, want all three", n)
	}
	if _, err := report.New(report.Options{DSN: "https://no-key.example/1"}); err == nil || contains(err.Error(), "no-key") {
		t.Errorf("a DSN without a key: %v", err)
	}
}

// Only what is known to be harmless leaves the house, and text only with what could be somebody's taken out.
func TestNothingOfAnybodysIsReported(t *testing.T) {
	const planted = "PlAnTeD"
	sentry := newReceiver(t)
	r, log, _ := newReporter(t, sentry.dsn())
	log = log.With("authorization", "Bearer "+planted).With("body", planted)
	log.WithGroup("request").With("cookie", planted).Error("grouped", "org_id", planted, "error", planted)
	log.Error("plain", "cookie", planted, "query", planted, "address", "203.0.113.7", "email", planted+"@example.com", "detail", map[string]string{"x": planted},
		"error", errors.New(`pq: invalid input "`+planted+`" of jane.`+planted+`@example.com at +44 7400 123456, sk_live_`+planted+`, https://a.example/x?token=`+planted+`, password: `+planted),
		"panic", "Bearer "+planted, "route", "GET /x", "stack", "f(0xc00)\n\tx.go:1 https://h/p?q="+planted)
	flush(t, r)
	got := sentry.all()
	for _, secret := range []string{planted, "7400", "203.0.113", "example.com"} {
		if contains(got, secret) {
			t.Errorf("%s was reported: %s", secret, got)
		}
	}
	if !contains(got, "grouped") || !contains(got, `"route":"GET /x"`) {
		t.Errorf("the reports are not there: %s", got)
	}
}

// Sentry being slow, or gone, costs whoever logs nothing, and does not go on for ever at the end.
func TestSentryAway(t *testing.T) {
	sentry := newReceiver(t)
	sentry.wait = make(chan struct{})
	defer close(sentry.wait)
	r, log, written := newReporter(t, sentry.dsn())
	done := make(chan struct{})
	go func() { // far more than the queue holds: whoever logs would wait for the receiver if it waited at all
		defer close(done)
		for range 1000 {
			log.Error("again and again")
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("logging waits for Sentry")
	}
	if n := strings.Count(written.String(), "\n"); n != 1000 {
		t.Errorf("%d lines in the log, want 1000", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.Flush(ctx) == nil {
		t.Error("everything was delivered to a Sentry that does not answer")
	}

	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	r, log, _ = newReporter(t, strings.Replace(gone.URL, "http://", "http://public@", 1)+"/42")
	log.Error("into the void")
	flush(t, r)
}
