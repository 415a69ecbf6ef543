package operations

import "github.com/prometheus/client_golang/prometheus"

// Register adds to a registry what this installation wants of itself: how often it verifies, and below which balances operators
// are told. How things stand is in the database, and internal/watch tells it; an alert needs both.
func (s *Service) Register(r prometheus.Registerer) {
	every := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ringfence_verification_interval_seconds", Help: "How often each kind is verified by itself; a kind that this installation has not, has none.",
	}, []string{"verification"})
	for _, k := range s.Kinds() {
		every.WithLabelValues(string(k)).Set(k.Every().Seconds())
	}
	floor := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ringfence_provider_balance_floor",
		Help: "The balance below which operators are told, in the currency's unit, of each provider that is used here; 0 tells of none.",
	}, []string{"provider"})
	for _, p := range s.providers() {
		if !p.off {
			floor.WithLabelValues(p.name).Set(float64(p.floor) / 1e6)
		}
	}
	r.MustRegister(every, floor)
}
