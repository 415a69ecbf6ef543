package auth

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count how credentials fare.
type metrics struct{ jwts *prometheus.CounterVec }

func newMetrics() *metrics {
	m := &metrics{jwts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ringfence_jwts_total",
		Help: "JWTs shown to the API by what came of them: held, or why not: too_long, malformed, signature, unknown_key, no_keys, expired, not_yet_valid, " +
			"issuer, audience, claims, no_organisation, not_a_member, not_taken, undecided (the database was away).",
	}, []string{"outcome"})}
	// What has not happened yet stands at 0: the first time is a rise that an alert can see.
	m.jwts.WithLabelValues("held")
	for _, r := range refusals {
		m.jwts.WithLabelValues(string(r))
	}
	return m
}

// jwt counts one JWT.
func (m *metrics) jwt(err error) {
	outcome := "held"
	if err != nil {
		outcome = "undecided"
		if why, ok := errors.AsType[refusal](err); ok {
			outcome = string(why)
		}
	}
	m.jwts.WithLabelValues(outcome).Inc()
}

// Register adds the metrics to a registry.
func (a *Auth) Register(r prometheus.Registerer) { r.MustRegister(a.metrics.jwts) }
