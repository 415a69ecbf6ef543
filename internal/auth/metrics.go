package auth

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// JWTRefusals are the JWTs that did not hold, as far as this process has seen them.
type JWTRefusals struct {
	// On says that JWTs are taken at all. Where they are not, every one is refused.
	On    bool
	Count int64
	// Last is when the newest was refused (UTC), where the clock is known; the zero time when none was.
	Last time.Time
}

// metrics count how credentials fare.
type metrics struct {
	jwts    *prometheus.CounterVec
	refused atomic.Int64 // of jwts, those that did not hold
	last    atomic.Int64 // when the newest of these was, in Unix microseconds
}

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

// jwt counts one JWT by what came of it. now may be nil.
func (m *metrics) jwt(err error, now func() time.Time) {
	outcome := "held"
	if err != nil {
		outcome = "undecided"
		if why, ok := errors.AsType[refusal](err); ok {
			outcome = string(why)
			m.refused.Add(1)
			if now != nil {
				m.last.Store(now().UnixMicro())
			}
		}
	}
	m.jwts.WithLabelValues(outcome).Inc()
}

// JWTRefusals says how many JWTs were refused since this process began.
func (a *Auth) JWTRefusals() JWTRefusals {
	r := JWTRefusals{On: a.o.Verifier != nil, Count: a.metrics.refused.Load()}
	if at := a.metrics.last.Load(); at != 0 {
		r.Last = time.UnixMicro(at).UTC()
	}
	return r
}

// Register adds the metrics to a registry.
func (a *Auth) Register(r prometheus.Registerer) { r.MustRegister(a.metrics.jwts) }
