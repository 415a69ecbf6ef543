// Package watch tells the monitoring how the program stands, whichever process is asked: what waits and since when, what
// was put aside, what the last verifications found. All of it is read from the database when it is asked for, so that a
// process that has just started, or does not work jobs, gives the same numbers as its neighbours.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
)

// readWithin bounds the reading for one scrape; Prometheus waits ten seconds by default.
const readWithin = 3 * time.Second

// Watch gives the gauges. It is safe for concurrent use.
type Watch struct {
	db    *db.DB
	log   *slog.Logger
	up    *prometheus.Desc
	descs []*prometheus.Desc // of gauges, in their order
	pool  poolDescs
}

// New makes the watch; Register shows it.
func New(d *db.DB, log *slog.Logger) *Watch {
	w := &Watch{
		db: d, log: log, pool: newPoolDescs(),
		up: prometheus.NewDesc("ringfence_watch_up", "Whether the gauges that are read from the database could be read: 1 or 0.", nil, nil),
	}
	for _, g := range gauges {
		w.descs = append(w.descs, prometheus.NewDesc(g.name, g.help, g.labels, nil))
	}
	return w
}

// Register adds the gauges to a registry.
func (w *Watch) Register(r prometheus.Registerer) { r.MustRegister(w) }

// Describe implements prometheus.Collector.
func (w *Watch) Describe(ch chan<- *prometheus.Desc) {
	ch <- w.up
	for _, d := range w.descs {
		ch <- d
	}
	w.pool.describe(ch)
}

// Collect implements prometheus.Collector. When the database cannot be read it gives ringfence_watch_up 0 and none of the
// gauges that come from there: an old number would pass for a new one.
func (w *Watch) Collect(ch chan<- prometheus.Metric) {
	w.pool.collect(ch, w.db.Stats())
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	readings, err := w.read(ctx)
	up := 1.0
	if err != nil {
		up = 0
		w.log.WarnContext(ctx, "couldn't read what the monitoring asks for", "error", err)
	}
	ch <- prometheus.MustNewConstMetric(w.up, prometheus.GaugeValue, up)
	for _, r := range readings {
		ch <- prometheus.MustNewConstMetric(w.descs[r.gauge], prometheus.GaugeValue, r.value, r.labels...)
	}
}

// reading is one value of one gauge.
type reading struct {
	gauge  int // its place in gauges
	labels []string
	value  float64
}

// read asks all questions in one transaction, about one moment.
func (w *Watch) read(ctx context.Context) (all []reading, err error) {
	err = w.db.InSystemReadTx(ctx, "the monitoring, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		all = nil
		for i, g := range gauges {
			got, err := ask(ctx, tx, g)
			if err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
			for _, r := range got {
				r.gauge = i
				all = append(all, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// ask runs one gauge's query.
func ask(ctx context.Context, tx *db.Tx, g gauge) (got []reading, err error) {
	var args []any
	if strings.Contains(g.query, "$1") {
		args = []any{tx.Now}
	}
	rows, err := tx.QueryContext(ctx, g.query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := reading{labels: make([]string, len(g.labels))}
		columns := make([]any, 0, len(g.labels)+1)
		for i := range r.labels {
			columns = append(columns, &r.labels[i])
		}
		if err := rows.Scan(append(columns, &r.value)...); err != nil {
			return nil, err
		}
		got = append(got, r)
	}
	return got, rows.Err()
}
