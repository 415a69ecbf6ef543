// Package tracing makes traces, from a request through its job to SQL and providers, and sends them by OTLP over HTTP. It is
// there only where an endpoint is configured: otherwise nothing is wrapped, and a span is a constant that does nothing.
package tracing

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options say where traces go.
type Options struct {
	// Endpoint is the collector's address; /v1/traces is added. Headers go along: name=value, comma-separated, the values
	// percent-encoded.
	Endpoint, Headers string
	// Service and Version name this program.
	Service, Version string
	// Share is which share of the traces that begin here is kept, in millionths.
	Share int64
}

// Tracing makes and sends traces. It is safe for concurrent use.
type Tracing struct{ provider *sdk.TracerProvider }

// sendWithin bounds one delivery. Spans that cannot be delivered are dropped; nobody waits for them.
const sendWithin = 10 * time.Second

// Start prepares to send. It talks to nobody yet.
func Start(ctx context.Context, o Options) (*Tracing, error) {
	headers := map[string]string{}
	for entry := range strings.SplitSeq(o.Headers, ",") {
		if name, value, ok := strings.Cut(strings.TrimSpace(entry), "="); ok {
			plain, err := url.PathUnescape(value)
			if err != nil {
				plain = value
			}
			headers[name] = plain
		}
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint+"/v1/traces"), otlptracehttp.WithHeaders(headers),
		otlptracehttp.WithTimeout(sendWithin), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: sendWithin}))
	if err != nil {
		return nil, fmt.Errorf("couldn't prepare to send traces: %w", err)
	}
	const million = 1e6
	return &Tracing{sdk.NewTracerProvider(
		sdk.WithBatcher(&sparing{exporter}),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", o.Service), attribute.String("service.version", o.Version))),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(float64(o.Share)/million))),
	)}, nil
}

// Stop sends what is left, at most until ctx ends.
func (t *Tracing) Stop(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Provider is for those who begin spans of their own.
func (t *Tracing) Provider() trace.TracerProvider { return t.provider }

// untraced are requests that machines make all the time, and streams, which last as long as somebody looks at a page.
func untraced(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics" || strings.HasPrefix(path, "/static/") || strings.HasSuffix(path, "/stream")
}

// Handler traces the requests to next. Each begins a trace of its own: a stranger's traceparent is kept as a link alone, since
// whoever sends it would otherwise decide what is traced and under which name.
func (t *Tracing) Handler(next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "request", otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(*http.Request) bool { return true }),
		otelhttp.WithFilter(func(r *http.Request) bool { return !untraced(r.URL.Path) }))
}

// Transport traces requests to providers that belong to a trace, by their names. They are not told of it.
func (t *Tracing) Transport(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Hostname() }),
		otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanContextFromContext(r.Context()).IsSampled() }))
}

// OpenDB opens a database whose statements are spans of the trace that they belong to. A statement that belongs to none
// makes none, so what runs all the time by itself costs nothing.
func (t *Tracing) OpenDB(c driver.Connector) *sql.DB {
	return otelsql.OpenDB(c, otelsql.WithTracerProvider(t.provider), otelsql.WithAttributes(attribute.String("db.system.name", "postgresql")),
		otelsql.WithSpanOptions(otelsql.SpanOptions{
			DisableErrSkip: true, OmitConnResetSession: true, OmitRows: true, OmitConnectorConnect: true, OmitConnPrepare: true,
			SpanFilter: func(ctx context.Context, _ otelsql.Method, _ string, _ []driver.NamedValue) bool {
				return trace.SpanContextFromContext(ctx).IsSampled()
			},
		}))
}
