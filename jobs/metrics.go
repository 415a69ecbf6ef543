package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// Metrics are what operators watch of the work in the background. What waits in the queues is internal/watch's.
type Metrics struct {
	worked   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	waited   *prometheus.HistogramVec
	sweeps   *prometheus.CounterVec
}

// NewMetrics makes the collectors; Register shows them.
func NewMetrics() *Metrics {
	return &Metrics{
		worked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_jobs_worked_total", Help: "Jobs worked, by kind and what came of it: done, put_off, failed (it is tried again), discarded (it is not), cancelled, panicked.",
		}, []string{"kind", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ringfence_job_duration_seconds", Help: "Time to work a job.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
		}, []string{"kind"}),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ringfence_job_wait_seconds", Help: "From when a job was due to when it was begun.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
		}, []string{"queue"}),
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_sweeps_total", Help: "Rounds of the sweepers, by sweeper and outcome: ok, failed.",
		}, []string{"sweeper", "outcome"}),
	}
}

// Register adds the collectors to a registry.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.worked, m.duration, m.waited, m.sweeps)
}

// counting counts every job.
type counting struct {
	river.WorkerMiddlewareDefaults

	metrics *Metrics
	now     func() time.Time
}

// Work implements rivertype.WorkerMiddleware.
func (c *counting) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	began, outcome := c.now(), "panicked"
	if job.AttemptedAt != nil { // the database's clock, as ScheduledAt
		c.metrics.waited.WithLabelValues(job.Queue).Observe(max(job.AttemptedAt.Sub(job.ScheduledAt), 0).Seconds())
	}
	defer func() {
		c.metrics.worked.WithLabelValues(job.Kind, outcome).Inc()
		c.metrics.duration.WithLabelValues(job.Kind).Observe(c.now().Sub(began).Seconds())
	}()
	err := work(ctx)
	outcome = came(job, err)
	return err
}

// came says what came of a job that did not panic.
func came(job *rivertype.JobRow, err error) string {
	if err == nil {
		return "done"
	}
	if _, ok := errors.AsType[*rivertype.JobSnoozeError](err); ok {
		return "put_off"
	}
	if _, ok := errors.AsType[*rivertype.JobCancelError](err); ok {
		return "cancelled"
	}
	if job.Attempt >= job.MaxAttempts {
		return "discarded"
	}
	return "failed"
}
