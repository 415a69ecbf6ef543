package handlers

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that has to work before the process takes requests.
type Check struct {
	Name string // shown to everybody
	// Run gives nil when it works. Its error goes to the log only.
	Run func(context.Context) error
}

// readyWait bounds all checks together; what asks has a time limit of its own.
const readyWait = 5 * time.Second

// healthz says that the process lives. It asks nobody else: a database that is down is no reason to kill us.
func (a *app) healthz(w http.ResponseWriter, _ *http.Request, _ *visit) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether requests should be sent here, and what of it does not work. A server that is about to end works.
func (a *app) readyz(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyWait)
	defer cancel()
	status, state, checks := http.StatusOK, "ready", make(map[string]string, len(a.Ready))
	for _, c := range a.Ready {
		checks[c.Name] = "ok"
		if err := c.Run(ctx); err != nil {
			status, state, checks[c.Name] = http.StatusServiceUnavailable, "not ready", "failed"
			a.Log.LogAttrs(ctx, slog.LevelWarn, "not ready", append(v.attrs(), slog.String("check", c.Name), slog.Any("error", err))...)
		}
	}
	if a.Leaving() {
		status, state = http.StatusServiceUnavailable, "leaving"
	}
	return writeJSON(w, status, map[string]any{"status": state, "checks": checks})
}

func (a *app) metricsPage(w http.ResponseWriter, r *http.Request, _ *visit) error {
	promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}

// Metrics serves GET /metrics alone and to anybody, for an address of its own that only the monitoring reaches.
func Metrics(reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}

// writeJSON answers with a small JSON document.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
	return nil
}
