package handlers

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what HTTP tells about itself. Labels are the route's pattern and the class of the status: both are few.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	streams  prometheus.Gauge
}

func newMetrics(reg *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_http_requests_total", Help: "Requests answered, by route and class of status.",
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ringfence_http_request_duration_seconds", Help: "Time to answer a request, streams aside.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "status"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ringfence_http_streams", Help: "Open event streams.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.streams} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("couldn't register the HTTP metrics: %w", err)
		}
	}
	return m, nil
}

// count adds one finished request. A stream's duration is its reader's patience, not our speed.
func (m *metrics) count(v *visit, status int, took time.Duration) {
	class := strconv.Itoa(status/100) + "xx"
	m.requests.WithLabelValues(v.pattern(), class).Inc()
	if v.route == nil || v.route.Pattern != streamPattern {
		m.duration.WithLabelValues(v.pattern(), class).Observe(took.Seconds())
	}
}
