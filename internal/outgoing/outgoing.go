// Package outgoing is the way of our requests to the providers: it counts what becomes of them, so that operators see a
// provider fail before customers do.
package outgoing

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Transports makes the transports by which providers are asked. It is safe for concurrent use.
type Transports struct {
	base     http.RoundTripper
	now      func() time.Time
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// New makes the transports; nil as base means Go's own.
func New(base http.RoundTripper, now func() time.Time) *Transports {
	if base == nil {
		base = http.DefaultTransport
	}
	return &Transports{
		base: base, now: now,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_provider_requests_total",
			Help: "Requests to providers by what came of them: ok, refused (4xx), limited (429), failed (5xx), no_answer.",
		}, []string{"provider", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ringfence_provider_request_duration_seconds", Help: "Time until a provider answered.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"provider"}),
	}
}

// Register adds the metrics to a registry.
func (t *Transports) Register(r prometheus.Registerer) { r.MustRegister(t.requests, t.duration) }

// To is the transport for one provider, whose name is a label in the metrics.
func (t *Transports) To(provider string) http.RoundTripper { return &transport{t, provider} }

type transport struct {
	*Transports

	provider string
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := t.now()
	res, err := t.base.RoundTrip(r)
	t.duration.WithLabelValues(t.provider).Observe(t.now().Sub(began).Seconds())
	t.requests.WithLabelValues(t.provider, outcome(res, err)).Inc()
	return res, err
}

// outcome says what came of a request.
func outcome(res *http.Response, err error) string {
	switch {
	case err != nil:
		return "no_answer"
	case res.StatusCode == http.StatusTooManyRequests:
		return "limited"
	case res.StatusCode >= http.StatusInternalServerError:
		return "failed"
	case res.StatusCode >= http.StatusBadRequest:
		return "refused"
	}
	return "ok"
}
