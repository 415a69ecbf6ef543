package watch

import (
	"database/sql"

	"github.com/prometheus/client_golang/prometheus"
)

// poolDescs describe the database connections of this process, for each of its pools.
type poolDescs struct{ open, most, waits, waited *prometheus.Desc }

func newPoolDescs() poolDescs {
	return poolDescs{
		open: prometheus.NewDesc("ringfence_db_connections", "Open database connections by pool and what they do: in_use or idle.", []string{"pool", "state"}, nil),
		most: prometheus.NewDesc("ringfence_db_connections_max", "How many connections a pool may open.", []string{"pool"}, nil),
		waits: prometheus.NewDesc("ringfence_db_waits_total", "How often somebody waited for a free connection.",
			[]string{"pool"}, nil),
		waited: prometheus.NewDesc("ringfence_db_wait_seconds_total", "How long was waited for free connections, all waits together.", []string{"pool"}, nil),
	}
}

func (d poolDescs) describe(ch chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{d.open, d.most, d.waits, d.waited} {
		ch <- one
	}
}

func (d poolDescs) collect(ch chan<- prometheus.Metric, pools map[string]sql.DBStats) {
	for pool, s := range pools {
		ch <- prometheus.MustNewConstMetric(d.open, prometheus.GaugeValue, float64(s.InUse), pool, "in_use")
		ch <- prometheus.MustNewConstMetric(d.open, prometheus.GaugeValue, float64(s.Idle), pool, "idle")
		ch <- prometheus.MustNewConstMetric(d.most, prometheus.GaugeValue, float64(s.MaxOpenConnections), pool)
		ch <- prometheus.MustNewConstMetric(d.waits, prometheus.CounterValue, float64(s.WaitCount), pool)
		ch <- prometheus.MustNewConstMetric(d.waited, prometheus.CounterValue, s.WaitDuration.Seconds(), pool)
	}
}
