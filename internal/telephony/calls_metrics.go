package telephony

import "github.com/prometheus/client_golang/prometheus"

// agentMetrics count what Vapi is told about agents.
type agentMetrics struct{ syncs *prometheus.CounterVec }

func newAgentMetrics() agentMetrics {
	return agentMetrics{syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ringfence_agent_syncs_total", Help: "How often Vapi was told about an agent, by what came of it: done, put_off.",
	}, []string{"outcome"})}
}

// Register adds the metrics to a registry.
func (s *Agents) Register(r prometheus.Registerer) { r.MustRegister(s.metrics.syncs) }

// callMetrics count what becomes of calls.
type callMetrics struct{ calls, messages, repaired, funding, hangups, erased *prometheus.CounterVec }

func newCallMetrics() callMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return callMetrics{
		calls: counter("ringfence_calls_total", "Calls by direction and the state that they came to.", "direction", "state"),
		messages: counter("ringfence_vapi_messages_total",
			"What Vapi told or asked us, by what came of it: taken, known, unknown, another, answered, refused, late, ignored, bad_secret, malformed, failed.", "type", "outcome"),
		repaired: counter("ringfence_calls_repaired_total", "Calls that the sweeper brought on, by the state that it found them in.", "state"),
		funding:  counter("ringfence_call_funding_total", "How the holds of calls under way grew: extended, refused, unfunded, over_ceiling.", "outcome"),
		hangups:  counter("ringfence_call_hangups_total", "Calls that we ended, by why and what came of it.", "why", "outcome"),
		erased:   counter("ringfence_erased_total", "What was erased when its time had come, by what it was: call, message, inbound_message, vapi_call.", "what"),
	}
}

// Register adds the metrics to a registry.
func (s *Calls) Register(r prometheus.Registerer) {
	r.MustRegister(s.metrics.calls, s.metrics.messages, s.metrics.repaired, s.metrics.funding, s.metrics.hangups, s.metrics.erased)
}
