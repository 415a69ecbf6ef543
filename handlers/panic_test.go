package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/fault"
)

// lockedBuffer is a log that a server writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// A panic is a 500 that is logged with its stack; once an answer has begun, or where the handler wants it so, the
// connection is cut.
func TestPanic(t *testing.T) {
	log := &lockedBuffer{}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	a := &app{Deps: Deps{Log: slog.New(slog.NewJSONHandler(log, nil)), Now: time.Now, Leaving: func() bool { return false }}, metrics: m}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.observe(w, r, func(w http.ResponseWriter, r *http.Request, _ *visit) {
			if r.URL.Path != "/before" {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			}
			if r.URL.Path == "/abort" {
				panic(http.ErrAbortHandler)
			}
			panic("planted")
		})
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	defer srv.Close()
	get := func(path string) (int, string, error) {
		res, err := srv.Client().Get(srv.URL + path)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}

	status, body, err := get("/before")
	if err != nil || status != http.StatusInternalServerError || strings.Contains(body, "planted") || !strings.Contains(body, "Something went wrong") {
		t.Errorf("before an answer: %d %q %v", status, body, err)
	}
	if !strings.Contains(body, "<h1") || !strings.Contains(body, "If you write to us, quote") || !strings.Contains(body, `href="/before"`) {
		t.Errorf("no page with a reference and a way on:\n%s", body)
	}
	if !strings.Contains(log.String(), "planted") || !strings.Contains(log.String(), "panic_test.go") || !strings.Contains(log.String(), `"status":500`) {
		t.Errorf("the log has no stack: %s", log.String())
	}
	log.Reset()
	if _, _, err = get("/after"); err == nil {
		t.Error("after an answer had begun it looked complete")
	}
	if !strings.Contains(log.String(), "planted") {
		t.Error("not logged")
	}
	log.Reset()
	if _, _, err = get("/abort"); err == nil {
		t.Error("an aborted answer looked complete")
	}
	if strings.Contains(log.String(), `"panic"`) {
		t.Errorf("aborting was logged as a fault: %s", log.String())
	}
}

// passing is what the database says of a transaction that could not be begun.
type passing struct{ error }

func (passing) Unavailable() bool { return true }

// A database that is away is told to pass, with the time to come back, and nothing of the cause; a fault of a domain goes before.
func TestWhatPassesIsToldSo(t *testing.T) {
	away := fmt.Errorf("session look-up: %w", passing{errors.New("dial tcp 10.0.0.7: refused")})
	f := told(away)
	if f.Kind != fault.Unavailable || f.RetryAfter != awayRetry || strings.Contains(f.Public, "10.0.0.7") || !errors.Is(f, away) {
		t.Errorf("it is told as %+v", f)
	}
	if f := told(fault.Wrap(fault.Conflict, "It is being given back.", away)); f.Kind != fault.Conflict {
		t.Errorf("the domain's own words are lost: %+v", f)
	}
	if f := told(errors.New("anything else")); f.Kind != fault.Internal {
		t.Errorf("anything else is %+v", f)
	}
}
