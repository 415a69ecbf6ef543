package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// kept are the attributes that leave the house. The libraries record more: addresses, paths and queries, user agents, what an
// error said. A list of what may go cannot be overtaken by a new version of theirs.
var kept = map[attribute.Key]bool{
	"http.request.method": true, "http.route": true, "http.response.status_code": true, "error.type": true,
	// The text of a statement has placeholders, never values.
	"db.system.name": true, "db.query.text": true, "db.operation.name": true,
	"ringfence.request_id": true, "ringfence.job.id": true, "ringfence.job.kind": true, "ringfence.job.queue": true, "ringfence.job.attempt": true,
	"ringfence.shared": true,
}

// sparing is an exporter that takes out of every span what is not kept.
type sparing struct{ sdk.SpanExporter }

// ExportSpans implements sdktrace.SpanExporter.
func (e *sparing) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	spared := make([]sdk.ReadOnlySpan, len(spans))
	for i, s := range spans {
		spared[i] = spare{s}
	}
	return e.SpanExporter.ExportSpans(ctx, spared)
}

// spare is a span with what may be told of it.
type spare struct{ sdk.ReadOnlySpan }

// Attributes implements sdktrace.ReadOnlySpan.
func (s spare) Attributes() []attribute.KeyValue { return sift(s.ReadOnlySpan.Attributes()) }

// Events implements sdktrace.ReadOnlySpan: that something happened and when, without what it said.
func (s spare) Events() []sdk.Event {
	events := make([]sdk.Event, 0, len(s.ReadOnlySpan.Events()))
	for _, e := range s.ReadOnlySpan.Events() {
		e.Attributes = sift(e.Attributes)
		events = append(events, e)
	}
	return events
}

// Links implements sdktrace.ReadOnlySpan.
func (s spare) Links() []sdk.Link {
	links := make([]sdk.Link, 0, len(s.ReadOnlySpan.Links()))
	for _, l := range s.ReadOnlySpan.Links() {
		l.Attributes = sift(l.Attributes)
		links = append(links, l)
	}
	return links
}

// Status implements sdktrace.ReadOnlySpan: whether it failed, without the error's words; the log has them.
func (s spare) Status() sdk.Status { return sdk.Status{Code: s.ReadOnlySpan.Status().Code} }

func sift(attrs []attribute.KeyValue) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		if kept[a.Key] {
			list = append(list, a)
		}
	}
	return list
}
