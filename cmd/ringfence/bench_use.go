package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ringfence/db"
	"ringfence/internal/auth"
)

// serverUse reads how much processor time a server and its database have used. Unlike the time that answers take, that
// hardly depends on what else the machine does.
type serverUse struct {
	a        *app
	server   string
	operator []*http.Cookie
}

// cpuUse is processor time since the processes began.
type cpuUse struct{ server, postgres time.Duration }

// newServerUse signs in as the demo's operator, who may read the metrics.
func (a *app) newServerUse(ctx context.Context, server string) (*serverUse, error) {
	for _, u := range demoUsers {
		if u.platform == auth.PlatformOperator {
			cookies, err := signInTo(ctx, server, u.email, auth.DemoPassword)
			return &serverUse{a: a, server: server, operator: cookies}, err
		}
	}
	return nil, errors.New("the demo has no operator")
}

// read reads both.
func (u *serverUse) read(ctx context.Context) (use cpuUse, err error) {
	if use.server, err = u.ofServer(ctx); err != nil {
		return use, err
	}
	use.postgres, err = u.ofPostgres(ctx)
	return use, err
}

// ofServer is what the server's own metrics say.
func (u *serverUse) ofServer(ctx context.Context) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.server+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	for _, cookie := range u.operator {
		req.AddCookie(cookie)
	}
	res, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return 0, fmt.Errorf("couldn't read the server's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return 0, fmt.Errorf("couldn't read the server's metrics: %w", err)
	}
	for _, m := range families["process_cpu_seconds_total"].GetMetric() {
		return time.Duration(m.GetCounter().GetValue() * float64(time.Second)), nil
	}
	return 0, nil // this system does not tell
}

// ofPostgres adds up what /proc says of the database's processes; nothing where they are on another machine.
func (u *serverUse) ofPostgres(ctx context.Context) (sum time.Duration, err error) {
	var pids []int
	err = u.a.db.InSystemReadTx(ctx, "the processes of the database", func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &pids, `SELECT pid FROM pg_stat_activity`)
	})
	if err != nil {
		return 0, fmt.Errorf("couldn't list the processes of the database: %w", err)
	}
	for _, pid := range pids {
		sum += cpuOf(pid)
	}
	return sum, nil
}

// cpuOf is the processor time that a PostgreSQL process has used; zero for any other, and where /proc does not tell.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil || !bytes.Contains(stat, []byte("(postgres)")) {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // the third field of proc(5) is the first of these
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
}
