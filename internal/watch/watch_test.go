package watch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/watch"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// scrape gives every series with its value.
func scrape(t *testing.T, d *db.DB) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	watch.New(d, slog.New(slog.DiscardHandler)).Register(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			got[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

// want compares the series whose names begin with prefix.
func want(t *testing.T, what, prefix string, got map[string]float64, series map[string]float64) {
	t.Helper()
	maps.DeleteFunc(got, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	if !maps.Equal(got, series) {
		t.Errorf("%s: %v, want %v", what, got, series)
	}
}

func plantEvents(t *testing.T, url, state string, n int, at time.Time) {
	t.Helper()
	dbtest.Super(t, url, `
		INSERT INTO stripe_events (id, type, payload, state, reason, occurred_at, received_at, next_attempt_at)
		SELECT 'evt_' || $1 || i, 'charge.updated', '{}', $1, CASE $1 WHEN 'received' THEN '' ELSE 'why' END, $3, $3::timestamptz + i * interval '1 second', $3
		FROM generate_series(0, $2::int - 1) i`, state, n, at)
}

func TestEvents(t *testing.T) {
	url, clock := dbtest.URL(t), &dbtest.Clock{}
	d := dbtest.OpenURL(t, url, clock.Now)
	want(t, "none", "ringfence_stripe", scrape(t, d), map[string]float64{
		"ringfence_stripe_events{state=received}": 0, "ringfence_stripe_events{state=quarantined}": 0, "ringfence_stripe_events{state=failed}": 0,
		"ringfence_stripe_event_oldest_seconds{}": 0,
	})
	plantEvents(t, url, "received", 3, dbtest.Start.Add(-90*time.Second))
	plantEvents(t, url, "quarantined", 2, dbtest.Start.Add(-time.Hour))
	plantEvents(t, url, "failed", 1, dbtest.Start.Add(-time.Hour))
	plantEvents(t, url, "processed", 4, dbtest.Start.Add(-time.Hour))
	want(t, "some", "ringfence_stripe", scrape(t, d), map[string]float64{
		"ringfence_stripe_events{state=received}": 3, "ringfence_stripe_events{state=quarantined}": 2, "ringfence_stripe_events{state=failed}": 1,
		"ringfence_stripe_event_oldest_seconds{}": 90,
	})
	clock.Advance(time.Minute)
	if got := scrape(t, d)["ringfence_stripe_event_oldest_seconds{}"]; got != 150 {
		t.Errorf("a minute later the oldest is %g s old, want 150", got)
	}
}

func TestJobs(t *testing.T) {
	url := dbtest.URL(t)
	d := dbtest.OpenURL(t, url, nil)
	for state, n := range map[string]int{"available": 2, "discarded": 1, "completed": 5, "scheduled": 1} {
		for range n {
			dbtest.Super(t, url, `
				INSERT INTO river_job (state, queue, kind, args, max_attempts, scheduled_at, finalized_at)
				VALUES ($1::river_job_state, 'stripe', 'x', '{}', 3, now() + CASE $1 WHEN 'scheduled' THEN interval '1 hour' ELSE interval '-1 hour' END,
				        CASE WHEN $1 IN ('discarded', 'completed') THEN now() END)`, state)
		}
	}
	dbtest.Super(t, url, `
		INSERT INTO river_job (state, queue, kind, args, max_attempts, scheduled_at)
		VALUES ('retryable', 'stripe', 'x', '{}', 3, now() - interval '1 minute'), ('scheduled', 'rents', 'x', '{}', 3, now() + interval '1 hour')`)
	got := scrape(t, d)
	if age := got["ringfence_job_oldest_seconds{queue=stripe}"]; age < 3600 || age > 3700 {
		t.Errorf("the oldest job has been due for %g s, want an hour", age)
	}
	if age, ok := got["ringfence_job_oldest_seconds{queue=rents}"]; ok {
		t.Errorf("a queue where nothing is due has had something due for %g s", age)
	}
	want(t, "jobs", "ringfence_jobs{", got, map[string]float64{
		"ringfence_jobs{queue=stripe,state=available}": 2, "ringfence_jobs{queue=stripe,state=discarded}": 1, "ringfence_jobs{queue=stripe,state=scheduled}": 1,
		"ringfence_jobs{queue=stripe,state=retryable}": 1, "ringfence_jobs{queue=rents,state=scheduled}": 1,
	})
}

func TestVerifications(t *testing.T) {
	url, clock := dbtest.URL(t), &dbtest.Clock{}
	d := dbtest.OpenURL(t, url, clock.Now)
	record := func(kind, findings, failure string) {
		t.Helper()
		dbtest.Super(t, url, `INSERT INTO verifications (kind, at, actor, took_ms, checks, broken, failure, findings) VALUES ($1, $2, 'test', 1000, 2, '{}', $4, $3)`,
			kind, clock.Now(), findings, failure)
	}
	want(t, "none made", "ringfence_verification", scrape(t, d), map[string]float64{})
	record("books", `{"postings-sum-to-zero": 7, "wallets-match-ledger": 0}`, "")
	record("numbers", `{"orphans": 1}`, "")
	clock.Advance(time.Minute)
	record("books", `{"postings-sum-to-zero": 0, "wallets-match-ledger": 2}`, "")
	clock.Advance(time.Minute)
	record("books", `{}`, "the database was away") // it looked at nothing, so the last that did stands, with its age
	want(t, "the last of each", "ringfence_verification", scrape(t, d), map[string]float64{
		"ringfence_verification_findings{finding=postings-sum-to-zero,verification=books}": 0,
		"ringfence_verification_findings{finding=wallets-match-ledger,verification=books}": 2,
		"ringfence_verification_findings{finding=orphans,verification=numbers}":            1,
		"ringfence_verification_timestamp_seconds{verification=books}":                     float64(dbtest.Start.Add(59 * time.Second).Unix()),
		"ringfence_verification_timestamp_seconds{verification=numbers}":                   float64(dbtest.Start.Add(-time.Second).Unix()),
	})
}

func TestBalances(t *testing.T) {
	url, clock := dbtest.URL(t), &dbtest.Clock{}
	d := dbtest.OpenURL(t, url, clock.Now)
	want(t, "none was asked", "ringfence_provider_balance", scrape(t, d), map[string]float64{})
	dbtest.Super(t, url, `INSERT INTO provider_balances (provider, amount_micros, currency, read_at, tried_at, note) VALUES ('twilio', -1500000, 'usd', $1, $2, 'refused')`,
		dbtest.Start.Add(-time.Hour), dbtest.Start)
	dbtest.Super(t, url, `INSERT INTO provider_balances (provider, tried_at, note) VALUES ('stripe', $1, 'refused')`, dbtest.Start)
	want(t, "Twilio said something an hour ago, Stripe never did", "ringfence_provider_balance", scrape(t, d), map[string]float64{
		"ringfence_provider_balance{currency=usd,provider=twilio}": -1.5,
		"ringfence_provider_balance_age_seconds{provider=twilio}":  3600,
	})
}

func TestComponents(t *testing.T) {
	url, clock := dbtest.URL(t), &dbtest.Clock{}
	d := dbtest.OpenURL(t, url, clock.Now)
	want(t, "never looked", "ringfence_component", scrape(t, d), map[string]float64{})
	dbtest.Super(t, url, `INSERT INTO probes (component, state, note, took_ms, at) VALUES ('sign_in', 'good', '', 1, $1), ('payments', 'slow', 'x', 1, $1), ('texts', 'bad', 'x', 1, $1), ('calls', 'off', '', 1, $1)`,
		dbtest.Start.Add(-time.Minute))
	want(t, "looked at", "ringfence_component", scrape(t, d), map[string]float64{
		"ringfence_component_works{component=sign_in}": 1, "ringfence_component_works{component=payments}": 1, "ringfence_component_works{component=texts}": 0,
		"ringfence_component_probe_age_seconds{component=sign_in}": 60, "ringfence_component_probe_age_seconds{component=payments}": 60, "ringfence_component_probe_age_seconds{component=texts}": 60,
	})
}

// A database that is away must not leave old numbers standing.
func TestDatabaseAway(t *testing.T) {
	d := dbtest.OpenURL(t, dbtest.URL(t), nil)
	if got := scrape(t, d); got["ringfence_watch_up{}"] != 1 || got["ringfence_db_connections_max{pool=app}"] < 1 {
		t.Errorf("with the database: %v", got)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, d)
	want(t, "pools", "ringfence_db_connections_max", maps.Clone(got), map[string]float64{"ringfence_db_connections_max{pool=app}": 10, "ringfence_db_connections_max{pool=system}": 10})
	maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.HasPrefix(name, "ringfence_db_") })
	want(t, "without the database", "", got, map[string]float64{"ringfence_watch_up{}": 0})
}

// planNode is a step of a plan as EXPLAIN (FORMAT JSON) tells it.
type planNode struct {
	Type  string     `json:"Node Type"`
	Table string     `json:"Relation Name"`
	Index string     `json:"Index Name"`
	Cond  string     `json:"Index Cond"`
	Plans []planNode `json:"Plans"`
}

// check fails where a step reads all of a table, be it through an index: without a condition on it, an index is read whole. One
// that holds only some rows may be, since it was made for just these.
func (n planNode) check(t *testing.T, name string, partial []string) {
	t.Helper()
	if n.Table != "" && (n.Index == "" || n.Cond == "" && !slices.Contains(partial, n.Index)) {
		t.Errorf("%s reads all of %s: %s %s", name, n.Table, n.Type, n.Index)
	}
	for _, below := range n.Plans {
		below.check(t, name, partial)
	}
}

// Every scrape asks every question, so each must find its rows by an index.
func TestQuestionsAreCheap(t *testing.T) {
	url := dbtest.URL(t)
	d := dbtest.OpenURL(t, url, nil)
	var partial []string
	dbtest.Select(t, url, &partial, `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indpred IS NOT NULL`)
	for name, query := range watch.Queries() {
		err := d.InSystemReadTx(t.Context(), "a plan", func(ctx context.Context, tx *db.Tx) error {
			var plan []byte
			if err := tx.GetContext(ctx, &plan, "EXPLAIN (FORMAT JSON) "+strings.ReplaceAll(query, "$1", "now()")); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			var whole []struct{ Plan planNode }
			if err := json.Unmarshal(plan, &whole); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			whole[0].Plan.check(t, name, partial)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
