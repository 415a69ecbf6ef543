package payments

import (
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Metrics are what operators watch of payments.
type Metrics struct {
	received *prometheus.CounterVec
	worked   *prometheus.CounterVec
	credits  prometheus.Counter
	pence    prometheus.Counter
	delay    prometheus.Histogram
	reversal *prometheus.CounterVec

	reconciled    *prometheus.CounterVec
	reconciledAt  prometheus.Gauge
	healed        prometheus.Counter
	healedPence   prometheus.Counter
	healedDelay   prometheus.Histogram
	disagreements prometheus.Gauge

	automatic *prometheus.CounterVec
	topUps    *prometheus.CounterVec
}

// NewMetrics makes the collectors; Register shows them.
func NewMetrics() *Metrics {
	m := &Metrics{
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
		reversal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_reversed_pence_total", Help: "Pence taken back from wallets, or given again, because of refunds and disputes.",
		}, []string{"kind", "direction"}),
		reconciled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_reconciliations_total", Help: "Comparisons of our books with Stripe's, by kind and outcome: ok, failed.",
		}, []string{"kind", "outcome"}),
		reconciledAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ringfence_reconciled_timestamp_seconds", Help: "When the last comparison with Stripe that succeeded had begun.",
		}),
		healed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ringfence_healed_payments_total", Help: "Payments credited because a comparison with Stripe found them: their webhook had not come.",
		}),
		healedPence: prometheus.NewCounter(prometheus.CounterOpts{Name: "ringfence_healed_pence_total", Help: "Pence of those payments."}),
		healedDelay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ringfence_healed_delay_seconds", Help: "From those payments to their credits.",
			Buckets: []float64{60, 120, 240, 360, 600, 1800, 3600, 6 * 3600, 86400}, //nolint:forbidigo // seconds, not money
		}),
		disagreements: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ringfence_reconciliation_disagreements", Help: "What the last comparison with Stripe could not agree on, and an operator must look at.",
		}),
		topUps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_top_ups_total", Help: "Top-ups that people began, by how they went on: begun (stored), opened (Stripe made the page), refused (Stripe would not), unavailable (Stripe did not answer).",
		}, []string{"what"}),
		automatic: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_auto_top_ups_total", Help: "Automatic top-ups by what came of them: begun, charged, failed.",
		}, []string{"outcome"}),
	}
	// What has not happened yet stands at 0: the first time is a rise that an alert can see.
	for counter, all := range map[*prometheus.CounterVec][]string{
		m.received: {"stored", "duplicate", "bad_signature", "not_stored"},
		m.worked:   {"processed", "ignored", "quarantined", "failed", "retried"},
		m.topUps:   {"begun", "opened", "refused", "unavailable"},
	} {
		for _, label := range all {
			counter.WithLabelValues(label)
		}
	}
	return m
}

// reversed counts what was posted because of refunds or disputes.
func (m *Metrics) reversed(kind wallet.Kind, amount money.Pence) {
	direction := "taken"
	if amount < 0 {
		amount, direction = -amount, "given"
	}
	m.reversal.WithLabelValues(string(kind), direction).Add(float64(amount)) //nolint:forbidigo // a counter for a chart, not an amount
}

// Register adds the collectors to a registry.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.received, m.worked, m.credits, m.pence, m.delay, m.reversal, m.reconciled, m.reconciledAt, m.healed, m.healedPence, m.healedDelay, m.disagreements, m.automatic, m.topUps)
}
