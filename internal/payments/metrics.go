package payments

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what operators watch of payments.
type Metrics struct {
	received *prometheus.CounterVec
	worked   *prometheus.CounterVec
	credits  prometheus.Counter
	pence    prometheus.Counter
	delay    prometheus.Histogram
}

// NewMetrics makes the collectors; Register shows them.
func NewMetrics() *Metrics {
	return &Metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_stripe_webhooks_total", Help: "Webhooks from Stripe by what became of them: stored, duplicate, bad_signature, not_stored.",
		}, []string{"outcome"}),
		worked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_stripe_events_total", Help: "Events worked by the state they reached: processed, ignored, quarantined, failed, retried.",
		}, []string{"state"}),
		credits: prometheus.NewCounter(prometheus.CounterOpts{Name: "ringfence_credits_total", Help: "Payments credited to wallets."}),
		pence:   prometheus.NewCounter(prometheus.CounterOpts{Name: "ringfence_credited_pence_total", Help: "Pence credited to wallets by payments."}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ringfence_credit_delay_seconds", Help: "From a stored event to its committed credit.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 120, 600}, //nolint:forbidigo // seconds, not money
		}),
	}
}

// Register adds the collectors to a registry.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.received, m.worked, m.credits, m.pence, m.delay)
}
