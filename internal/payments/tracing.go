package payments

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// share begins the span of work that several requests or jobs share: it is a part of the first one's trace and linked to
// the others'. Where nothing is traced it gives ctx back and a span that does nothing.
func share(ctx context.Context, name string, parts []trace.Span) (context.Context, trace.Span) {
	var first trace.Span
	var links []trace.Link
	for _, s := range parts {
		switch {
		case s == nil || !s.SpanContext().IsSampled():
		case first == nil:
			first = s
		default:
			links = append(links, trace.Link{SpanContext: s.SpanContext()})
		}
	}
	if first == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	return first.TracerProvider().Tracer("ringfence/payments").Start(trace.ContextWithSpan(ctx, first), name,
		trace.WithLinks(links...), trace.WithAttributes(attribute.Int("ringfence.shared", len(parts))))
}
