package main

import (
	"context"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"ringfence/internal/audit"
	"ringfence/internal/report"
)

// newLog writes JSON lines, each with the request or job that it belongs to, and never a secret.
func newLog(w io.Writer, level slog.Level) *slog.Logger { return newReportingLog(w, level, nil) }

// newReportingLog is newLog whose errors go to a reporter too, where there is one.
func newReportingLog(w io.Writer, level slog.Level, to *report.Reporter) *slog.Logger {
	var h slog.Handler = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: redact})
	if to != nil {
		h = to.Handler(h)
	}
	return slog.New(&withRequest{h})
}

// withRequest adds the id that audit.WithRequestID put into the context, unless the record names it already, and the trace's.
type withRequest struct{ slog.Handler }

// Handle implements slog.Handler.
func (h *withRequest) Handle(ctx context.Context, r slog.Record) error {
	if id := audit.RequestID(ctx); id != "" {
		named := false
		r.Attrs(func(a slog.Attr) bool {
			named = a.Key == "request_id"
			return !named
		})
		if !named {
			r.AddAttrs(slog.String("request_id", id))
		}
	}
	if in := trace.SpanContextFromContext(ctx); in.IsSampled() {
		r.AddAttrs(slog.String("trace_id", in.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *withRequest) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &withRequest{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *withRequest) WithGroup(name string) slog.Handler {
	return &withRequest{h.Handler.WithGroup(name)}
}

var (
	// secretNames are attributes that are never shown, whatever they hold.
	secretNames = []string{"password", "secret", "token", "authorization", "cookie", "signature", "api_key", "database_url"}
	// secretShapes are secrets that turn up inside other text, such as a provider's error. Even a prefix is too much.
	secretShapes = regexp.MustCompile(`(?i)\b(sk|rk|pk|rf|whsec)_[A-Za-z0-9_]{6,}|\bbearer\s+[^\s",]+|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+|\b(postgres(ql)?://)[^@\s/]*@`)
)

// redact is the last line of defence; the first is that nobody logs a secret.
func redact(_ []string, a slog.Attr) slog.Attr {
	if slices.Contains(secretNames, a.Key) {
		return slog.String(a.Key, "[secret]")
	}
	var text string
	switch v := a.Value.Any().(type) {
	case string:
		text = v
	case error:
		text = v.Error()
	default:
		return a
	}
	if !suspicious(text) {
		return a
	}
	return slog.String(a.Key, secretShapes.ReplaceAllString(text, "[secret]"))
}

// suspicious reports whether text may match secretShapes. It is much quicker than they are, and nearly all text is innocent.
func suspicious(text string) bool {
	for i := range len(text) {
		switch text[i] | 0x20 { // lower case
		case '_' | 0x20:
			return true
		case 'b':
			if begins(text[i:], "bearer") {
				return true
			}
		case 'e':
			if begins(text[i:], "eyj") {
				return true
			}
		case 'p':
			if begins(text[i:], "postgres") {
				return true
			}
		}
	}
	return false
}

// begins reports whether text begins with word, in whatever case.
func begins(text, word string) bool {
	return len(text) >= len(word) && strings.EqualFold(text[:len(word)], word)
}
