// Package report sends errors and panics to Sentry, as they are written to the log: a slog handler that passes every record
// on and, of those at error level, tells Sentry what may leave the house. Where Sentry is slow or away nothing waits and
// nothing fails; the log has it all.
package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/getsentry/sentry-go"
	"golang.org/x/time/rate"
)

const (
	// perSecond and atOnce bound what is reported: in an outage every request fails with the same words.
	perSecond, atOnce = 5, 50
	// sendWithin bounds one delivery.
	sendWithin = 10 * time.Second
	// queued is how many reports may wait for delivery; what comes when the queue is full is dropped.
	queued = 100
	// longest is the longest text that is sent, in bytes.
	longest = 8 << 10
)

// Options say where reports go.
type Options struct {
	// DSN is Sentry's address for the project.
	DSN string
	// Environment and Release stand on every report.
	Environment, Release string
}

// Reporter sends reports. It is safe for concurrent use.
type Reporter struct {
	client  *sentry.Client
	limiter *rate.Limiter
}

// New makes a reporter. It talks to nobody yet.
func New(o Options) (*Reporter, error) {
	transport := sentry.NewHTTPTransport()
	transport.BufferSize, transport.Timeout = queued, sendWithin
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: o.DSN, Environment: o.Environment, Release: o.Release, Transport: transport,
		HTTPClient: &http.Client{
			Timeout:       sendWithin,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		DisableTelemetryBuffer: true, DisableClientReports: true,
		// None: they add what we did not choose, such as the source around a frame.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
		BeforeSend: func(e *sentry.Event, _ *sentry.EventHint) *sentry.Event {
			e.Request, e.Breadcrumbs, e.Attachments, e.User = nil, nil, nil, sentry.User{}
			return e
		},
	})
	if err != nil {
		return nil, errors.New("couldn't read SENTRY_DSN") // its own error repeats it
	}
	return &Reporter{client: client, limiter: rate.NewLimiter(perSecond, atOnce)}, nil
}

// Flush waits until what was reported is delivered, at most until ctx ends.
func (r *Reporter) Flush(ctx context.Context) error {
	if !r.client.FlushWithContext(ctx) {
		return errors.New("not everything that was to be reported to Sentry could be delivered in time")
	}
	return nil
}

// Handler reports what next is given, and gives it to next.
func (r *Reporter) Handler(next slog.Handler) slog.Handler {
	return &handler{Handler: next, reporter: r}
}

// handler is a slog handler with what WithAttrs has added so far.
type handler struct {
	slog.Handler

	reporter *Reporter
	attrs    []slog.Attr
	grouped  bool
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelError && h.reporter.limiter.Allow() {
		h.reporter.send(record, h.attrs, h.grouped)
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithAttrs(attrs)
	if !h.grouped {
		with.attrs = slices.Concat(h.attrs, attrs)
	}
	return &with
}

// WithGroup implements slog.Handler. What is within a group is not reported.
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.Handler, with.grouped = h.Handler.WithGroup(name), true
	return &with
}

// Attributes that may leave the house as they are: names and ids of our own. Whatever is not here stays, whatever it is.
var tags = []string{
	"request_id", "trace_id", "route", "status", "part", "org_id", "user_id", "key_id", "org", "job", "kind", "attempt", "sweeper",
	"event", "top_up", "payment_intent", "session", "invariant", "number", "message_id", "call", "provider",
}

// Attributes that are text: they leave with what could be somebody's taken out.
var texts = []string{"error", "panic", "promise", "violation", "reason"}

// send makes the report of a record and queues it.
func (r *Reporter) send(record slog.Record, attrs []slog.Attr, grouped bool) {
	e := sentry.NewEvent()
	e.Level, e.Timestamp, e.Logger = sentry.LevelError, record.Time, "log"
	e.Tags = map[string]string{}
	said := sentry.Context{}
	take := func(a slog.Attr) {
		switch {
		case slices.Contains(tags, a.Key):
			e.Tags[a.Key] = cut(Scrub(a.Value.String()), 200)
		case slices.Contains(texts, a.Key):
			said[a.Key] = cut(Scrub(text(a.Value)), longest)
		case a.Key == "stack":
			said[a.Key] = cut(Scrub(a.Value.String()), longest)
		}
	}
	for _, a := range attrs {
		take(a)
	}
	if !grouped {
		record.Attrs(func(a slog.Attr) bool {
			take(a)
			return true
		})
	}
	message := cut(Scrub(record.Message), 500)
	x := sentry.Exception{Type: message, Stacktrace: sentry.NewStacktrace()}
	for _, name := range []string{"panic", "error"} {
		if value, ok := said[name].(string); ok {
			x.Value = value
			break
		}
	}
	e.Exception = []sentry.Exception{x}
	// The same words at the same place are the same fault, whatever the ids in it.
	e.Fingerprint = []string{message, e.Tags["route"], e.Tags["kind"], e.Tags["part"], e.Tags["invariant"]}
	if len(said) > 0 {
		e.Contexts = map[string]sentry.Context{"log": said}
	}
	r.client.CaptureEvent(e, nil, nil)
}

// text is an attribute's text.
func text(v slog.Value) string {
	if err, ok := v.Any().(error); ok {
		return err.Error()
	}
	return fmt.Sprint(v.Any())
}

// cut shortens a text to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
