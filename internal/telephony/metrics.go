package telephony

import "github.com/prometheus/client_golang/prometheus"

// metrics count what becomes of texts.
type metrics struct{ texts, callbacks, repaired *prometheus.CounterVec }

func newMetrics() metrics {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return metrics{
		texts: counter("ringfence_messages_total", "Texts by the state that they came to.", "state"),
		callbacks: counter("ringfence_twilio_callbacks_total",
			"What Twilio told us, by what came of it: moved, known, another, given_up, unknown, inbound_stop, inbound_start, inbound_help, inbound_none, bad_signature, failed.", "outcome"),
		repaired: counter("ringfence_messages_repaired_total", "Texts that were left behind and that the sweeper brought on, by the state that it found them in.", "state"),
	}
}

// Register adds the metrics to a registry.
func (s *Messages) Register(r prometheus.Registerer) {
	r.MustRegister(s.metrics.texts, s.metrics.callbacks, s.metrics.repaired)
}

// numberMetrics count what becomes of numbers.
type numberMetrics struct {
	numbers, rents *prometheus.CounterVec
	repaired       prometheus.Counter
}

func newNumberMetrics() numberMetrics {
	return numberMetrics{
		numbers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_numbers_total", Help: "Phone numbers by what happened to them: ordered, active, turned_back, releasing, ended.",
		}, []string{"what"}),
		rents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_number_rents_total", Help: "Months of numbers by what came of charging them: paid, owed.",
		}, []string{"outcome"}),
		repaired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ringfence_numbers_repaired_total", Help: "Numbers that were left behind and that the sweeper took up.",
		}),
	}
}

// Register adds the metrics to a registry.
func (s *Numbers) Register(r prometheus.Registerer) {
	r.MustRegister(s.metrics.numbers, s.metrics.rents, s.metrics.repaired)
}
