package operations_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/operations"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// house is a service whose parts can be broken.
type house struct {
	*operations.Service
	t     *testing.T
	url   string
	db    *db.DB
	clock *dbtest.Clock

	mu     sync.Mutex
	broken map[string]error
	twilio int64 // what there is at Twilio, in millionths
	rounds int
	held   operations.Findings
}

func newHouse(t *testing.T, with ...func(*operations.Options)) *house {
	t.Helper()
	h := &house{t: t, url: dbtest.URL(t), clock: &dbtest.Clock{}, broken: map[string]error{}, twilio: 100_000_000, held: operations.Findings{"postings-sum-to-zero": 0, "wallets-match-ledger": 0, "holds-within-balance": 0}}
	h.db = dbtest.OpenURL(t, h.url, h.clock.Now)
	try := func(what string) func(context.Context) error {
		return func(context.Context) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.rounds++
			return h.broken[what]
		}
	}
	o := operations.Options{
		DB: h.db, Log: slog.New(slog.DiscardHandler), Now: h.clock.Now, SignIn: try("sign-in"), Calls: try("calls"),
		Stripe: func(ctx context.Context) (operations.Money, error) {
			return operations.Money{Micros: 500_000_000, Currency: "gbp"}, try("stripe")(ctx)
		},
		Twilio: func(ctx context.Context) (operations.Money, error) {
			err := try("twilio")(ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			return operations.Money{Micros: h.twilio, Currency: "usd"}, err
		},
		Books:     func(context.Context) (operations.Findings, error) { return h.held, h.broken["verify"] },
		TwilioLow: 20_000_000, StripeLow: 100_000_000,
	}
	for _, change := range with {
		change(&o)
	}
	h.Service = operations.New(o)
	return h
}

// round looks once, with a job that was finished a moment ago where jobs are worked.
func (h *house) round() {
	h.t.Helper()
	if h.broken["jobs"] == nil {
		dbtest.Super(h.t, h.url, `DELETE FROM river_job`)
		dbtest.Super(h.t, h.url, `INSERT INTO river_job (state, attempt, max_attempts, attempted_at, created_at, scheduled_at, finalized_at, priority, args, kind, queue)
			VALUES ('completed', 1, 1, $1, $1, $1, $1, 1, '{}', 'sweep', 'default')`, h.clock.Now())
	}
	if err := h.Round(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// states are those of all components now, in their order.
func (h *house) states() string {
	h.t.Helper()
	probes, err := h.Probes(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, p := range probes {
		all = append(all, string(p.State))
	}
	return strings.Join(all, " ")
}

func (h *house) status() operations.Status {
	h.t.Helper()
	st, err := h.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// TestProbes: what was not looked at, or not lately, is unknown and never good; what is broken is said to be, and one broken
// part does not hide the others.
func TestProbes(t *testing.T) {
	h := newHouse(t)
	if got := h.states(); got != "unknown unknown unknown unknown unknown" {
		t.Errorf("before any look: %s", got)
	}
	if got := h.status().Worst(); got != operations.Unknown {
		t.Errorf("before any look the whole is %s", got)
	}
	h.round()
	if got := h.states(); got != "good good good good good" {
		t.Errorf("all is well: %s", got)
	}
	h.clock.Advance(operations.Fresh)
	if got := h.states(); got != "good good good good good" {
		t.Errorf("a minute later: %s", got)
	}
	h.clock.Advance(time.Second)
	if got := h.states(); got != "unknown unknown unknown unknown unknown" {
		t.Errorf("more than a minute later: %s", got)
	}
	if got := h.status().Worst(); got != operations.Unknown {
		t.Errorf("more than a minute later the whole is %s", got)
	}
	for part, want := range map[string]string{
		"sign-in": "bad good good good good", "stripe": "good bad good good good", "calls": "good good bad good good",
		"twilio": "good good good bad good", "jobs": "good good good good bad",
	} {
		h.broken = map[string]error{part: errors.New("planted <" + part + ">")}
		h.clock.Advance(2 * time.Minute)
		h.round()
		if got := h.states(); got != want {
			t.Errorf("without %s: %s", part, got)
		}
	}
	h.broken = map[string]error{}
	h.clock.Advance(time.Minute)
	dbtest.Super(t, h.url, `INSERT INTO stripe_events (id, type, payload, state, occurred_at, received_at, next_attempt_at) VALUES ('evt_1', 'x', '{}', 'received', $1, $1, $1)`, h.clock.Now())
	for after, want := range map[time.Duration]string{30 * time.Second: "good", 2 * time.Minute: "slow", 6 * time.Minute: "bad"} {
		dbtest.Super(t, h.url, `UPDATE stripe_events SET received_at = $1`, h.clock.Now().Add(operations.RoundEvery-after))
		h.clock.Advance(operations.RoundEvery)
		h.round()
		if got := strings.Fields(h.states())[1]; got != want {
			t.Errorf("with an event that has waited for %s payments are %s, want %s", after, got, want)
		}
	}
}

// TestJobsAtTheStart: a process that has just begun calls nothing broken because nobody has finished a job yet, and counts
// nothing; one that has run for a while does.
func TestJobsAtTheStart(t *testing.T) {
	h := newHouse(t)
	h.broken = map[string]error{"jobs": errors.New("nobody works")}
	for after, want := range []string{"unknown", "bad"} {
		h.clock.Advance(time.Duration(after) * 2 * time.Minute)
		h.round()
		if got := strings.Fields(h.states())[4]; got != want {
			t.Errorf("after %d minutes: %s, want %s", 2*after, got, want)
		}
		var bad int
		if dbtest.Get(t, h.url, &bad, `SELECT coalesce(sum(bad), 0) FROM probe_days WHERE component = 'jobs'`); bad != after {
			t.Errorf("after %d minutes %d looks count as bad", 2*after, bad)
		}
	}
}

// TestRounds: of several processes one looks each time, and what is not offered is not looked at.
func TestRounds(t *testing.T) {
	h := newHouse(t, func(o *operations.Options) { o.Calls = nil })
	h.clock.Advance(2 * time.Minute) // they have run for a while
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := h.Round(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if h.rounds != 3 {
		t.Errorf("%d probes were made, want one round of three", h.rounds)
	}
	h.clock.Advance(operations.RoundEvery)
	h.round()
	if got := h.states(); got != "good good off good good" {
		t.Errorf("without calls: %s", got)
	}
	for _, c := range h.status().Components {
		if c.Component == operations.Calls {
			t.Error("what is not offered is shown in public")
		}
		today := c.Days[len(c.Days)-1]
		if len(c.Days) != 90 || today.Good+today.Bad != 2 || c.Days[0].Good != 0 {
			t.Errorf("%s: %d days, today %+v", c.Component, len(c.Days), today)
		}
	}
	dbtest.Super(t, h.url, `INSERT INTO probe_days (component, day, good) VALUES ('jobs', $1, 1), ('jobs', $2, 1)`, h.clock.Now().AddDate(0, 0, -90), h.clock.Now().AddDate(0, 0, -91))
	h.clock.Advance(operations.RoundEvery)
	h.round()
	var n int
	if dbtest.Get(t, h.url, &n, `SELECT count(*) FROM probe_days WHERE day < $1`, h.clock.Now().AddDate(0, 0, -90)); n != 0 {
		t.Errorf("%d old days are kept", n)
	}
}

// TestBalances: what there is with a provider is told with its age, and not without; too little of it is an alarm.
func TestBalances(t *testing.T) {
	h := newHouse(t)
	find := func(provider string) operations.Balance {
		t.Helper()
		all, err := h.Balances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all[slices.IndexFunc(all, func(b operations.Balance) bool { return b.Provider == provider })]
	}
	if b := find("twilio"); b.ReadAt != nil || b.Why == "" || b.Low {
		t.Errorf("before it was asked: %+v", b)
	}
	h.round()
	if b := find("twilio"); b.Money.Micros != 100_000_000 || b.Money.Currency != "usd" || b.Why != "" || b.Low {
		t.Errorf("%+v", b)
	}
	h.twilio = 19_999_999
	h.clock.Advance(operations.RoundEvery)
	h.round()
	read := h.clock.Now()
	if b := find("twilio"); !b.Low {
		t.Errorf("below the floor: %+v", b)
	}
	if b := find("stripe"); b.Low || b.Money.Micros != 500_000_000 {
		t.Errorf("%+v", b)
	}
	h.broken["twilio"] = errors.New("no answer\nat all")
	h.clock.Advance(operations.RoundEvery)
	h.round()
	if b := find("twilio"); b.Why != "no answer at all" || !b.ReadAt.Equal(read) || !b.Low {
		t.Errorf("without an answer: %+v", b)
	}
	h.clock.Advance(2 * time.Minute)
	if b := find("stripe"); b.Why == "" {
		t.Errorf("after a long time: %+v", b)
	}
}

// TestVerify: what came of the last check is kept, also when it could not be finished, and a person's with their reason.
func TestVerify(t *testing.T) {
	h := newHouse(t)
	last := func() operations.Verification {
		t.Helper()
		v, found, err := h.LastVerification(t.Context(), operations.Books)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		return v
	}
	if _, found, err := h.LastVerification(t.Context(), operations.Books); found || err != nil {
		t.Errorf("before any: %t, %v", found, err)
	}
	if _, err := h.Verify(t.Context(), operations.Books, "operator:x", "TICKET-1"); err != nil {
		t.Fatal(err)
	}
	if v := last(); !v.Holds() || v.Checks != 3 || !v.At.Equal(h.clock.Now()) || v.Actor != "operator:x" {
		t.Errorf("%+v", v)
	}
	h.held["postings-sum-to-zero"] = 7
	if _, err := h.Verify(t.Context(), operations.Books, "system:operations", ""); err != nil {
		t.Fatal(err)
	}
	if v := last(); v.Holds() || len(v.Broken) != 1 || v.Findings["postings-sum-to-zero"] != 7 {
		t.Errorf("%+v", v)
	}
	h.held, h.broken["verify"] = nil, errors.New("no database")
	if _, err := h.Verify(t.Context(), operations.Books, "system:operations", ""); err != nil {
		t.Fatal(err)
	}
	if v := last(); v.Holds() || v.Failure != "no database" {
		t.Errorf("%+v", v)
	}
	h.broken["verify"] = nil
	if err := h.VerifyRegularly(t.Context(), operations.Books); err != nil {
		t.Fatal(err)
	}
	if v := last(); v.Holds() || v.Failure == "" || v.Actor != "system:operations" {
		t.Errorf("a look at nothing: %+v", v)
	}
	if err := h.VerifyRegularly(t.Context(), operations.Numbers); err != nil {
		t.Errorf("a kind that this installation has not: %v", err)
	}
	if _, found, err := h.LastVerification(t.Context(), operations.Numbers); found || err != nil {
		t.Errorf("numbers: %t, %v", found, err)
	}
	var n int
	if dbtest.Get(t, h.url, &n, `SELECT count(*) FROM audit_log WHERE action = 'operations.verified' AND actor = 'operator:x' AND reason = 'TICKET-1'`); n != 1 {
		t.Errorf("%d rows of the audit log", n)
	}
	h.clock.Advance(91 * 24 * time.Hour)
	if _, err := h.Verify(t.Context(), operations.Books, "system:operations", ""); err != nil {
		t.Fatal(err)
	}
	if dbtest.Get(t, h.url, &n, `SELECT count(*) FROM verifications`); n != 1 {
		t.Errorf("%d verifications are kept after three months", n)
	}
}

// TestVerifyInTime: a look that took too long is kept as one that could not be finished, so that somebody hears of it; one
// that was cut off because the program ends says nothing.
func TestVerifyInTime(t *testing.T) {
	h := newHouse(t, func(o *operations.Options) {
		o.Numbers = func(ctx context.Context) (operations.Findings, error) { <-ctx.Done(); return nil, ctx.Err() }
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Verify(ctx, operations.Numbers, "system:operations", ""); err == nil {
		t.Error("a look that was cut off counts as one")
	}
	if _, found, err := h.LastVerification(t.Context(), operations.Numbers); found || err != nil {
		t.Errorf("after one that was cut off: %t, %v", found, err)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := h.Verify(late, operations.Numbers, "system:operations", ""); err != nil {
		t.Error(err)
	}
	if v, found, err := h.LastVerification(t.Context(), operations.Numbers); !found || err != nil || v.Holds() || v.Failure == "" {
		t.Errorf("after one that took too long: %+v, %t, %v", v, found, err)
	}
}

// TestMetrics: the monitoring is told what this installation wants of itself, and nothing of what it does not use.
func TestMetrics(t *testing.T) {
	shown := func(h *house) string {
		t.Helper()
		r := prometheus.NewPedanticRegistry()
		h.Register(r)
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				all = append(all, fmt.Sprintf("%s %s %g", f.GetName(), m.GetLabel()[0].GetValue(), m.GetGauge().GetValue()))
			}
		}
		return strings.Join(all, "; ")
	}
	if got := shown(newHouse(t, func(o *operations.Options) { o.Twilio, o.StripeLow = nil, 0 })); got !=
		"ringfence_provider_balance_floor stripe 0; ringfence_verification_interval_seconds books 900" {
		t.Errorf("without Twilio: %s", got)
	}
	if got := shown(newHouse(t, func(o *operations.Options) {
		o.Numbers = func(context.Context) (operations.Findings, error) { return nil, nil }
	})); got != "ringfence_provider_balance_floor stripe 100; ringfence_provider_balance_floor twilio 20; "+
		"ringfence_verification_interval_seconds books 900; ringfence_verification_interval_seconds numbers 3600" {
		t.Errorf("with all: %s", got)
	}
}

func incident(with ...func(*operations.NewIncident)) operations.NewIncident {
	n := operations.NewIncident{
		Title: "Calls are not connected", Impact: operations.ImpactOutage, Components: []operations.Component{operations.Calls}, Stage: operations.Investigating,
		Body: "We look into it.", Actor: "operator:x", Reason: "TICKET-1",
	}
	for _, change := range with {
		change(&n)
	}
	return n
}

// TestIncidents: what is said is in public at once, counts where it is worse than the probes, and stays for 90 days when it
// is over.
func TestIncidents(t *testing.T) {
	h := newHouse(t)
	h.round()
	for field, change := range map[string]func(*operations.NewIncident){
		"title": func(n *operations.NewIncident) { n.Title = " " }, "impact": func(n *operations.NewIncident) { n.Impact = "huge" },
		"components": func(n *operations.NewIncident) { n.Components = nil }, "stage": func(n *operations.NewIncident) { n.Stage = "x" },
		"body": func(n *operations.NewIncident) { n.Body = strings.Repeat("x", 2001) }, "reason": func(n *operations.NewIncident) { n.Reason = "" },
		"started_at": func(n *operations.NewIncident) { n.StartedAt = h.clock.Now().Add(time.Minute) },
	} {
		if _, err := h.Post(t.Context(), incident(change)); fault.As(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if st := h.status(); st.Worst() != operations.Good || len(st.Open) != 0 {
		t.Errorf("%+v", st)
	}
	id, err := h.Post(t.Context(), incident(func(n *operations.NewIncident) { n.StartedAt = h.clock.Now().Add(-time.Hour) }))
	if err != nil {
		t.Fatal(err)
	}
	st := h.status()
	if st.Worst() != operations.Bad || len(st.Open) != 1 || st.Open[0].Updates[0].Body != "We look into it." || !st.Open[0].StartedAt.Equal(h.clock.Now().Add(-time.Hour)) {
		t.Errorf("%+v", st)
	}
	for _, c := range st.Components {
		if (c.State == operations.Bad) != (c.Component == operations.Calls) {
			t.Errorf("%s is %s", c.Component, c.State)
		}
	}
	h.clock.Advance(time.Minute)
	h.round()
	if err := h.Update(t.Context(), id, operations.Resolved, "It was\na cable.", "operator:y", "TICKET-1"); err != nil {
		t.Fatal(err)
	}
	if err := h.Update(t.Context(), id, operations.Monitoring, "x", "operator:y", "r"); !fault.Is(err, fault.Conflict) {
		t.Errorf("after it is over: %v", err)
	}
	if err := h.Update(t.Context(), uuid.New(), operations.Monitoring, "x", "operator:y", "r"); !fault.Is(err, fault.NotFound) {
		t.Errorf("none: %v", err)
	}
	st = h.status()
	if st.Worst() != operations.Good || len(st.Open) != 0 || len(st.Past) != 1 || len(st.Past[0].Updates) != 2 || st.Past[0].Updates[0].Stage != operations.Resolved || !st.Past[0].ResolvedAt.Equal(h.clock.Now()) {
		t.Errorf("%+v", st)
	}
	var got []string
	dbtest.Select(t, h.url, &got, `SELECT action || ' ' || actor || ' ' || reason FROM audit_log ORDER BY id`)
	if strings.Join(got, "; ") != "incident.posted operator:x TICKET-1; incident.resolved operator:y TICKET-1" {
		t.Errorf("the log says %q", got)
	}
	h.clock.Advance(91 * 24 * time.Hour)
	if st := h.status(); len(st.Past) != 0 {
		t.Error("it is shown for longer than 90 days")
	}
}

// TestStatusIsCheap: many who ask at once cost one look, for a moment, and what operators say is there at once.
func TestStatusIsCheap(t *testing.T) {
	h := newHouse(t)
	h.round()
	first := h.status()
	h.clock.Advance(4 * time.Second)
	if again := h.status(); !again.At.Equal(first.At) {
		t.Error("it was put together again at once")
	}
	h.clock.Advance(2 * time.Second)
	if later := h.status(); later.At.Equal(first.At) {
		t.Error("it is never put together again")
	}
	if _, err := h.Post(t.Context(), incident()); err != nil {
		t.Fatal(err)
	}
	if st := h.status(); len(st.Open) != 1 {
		t.Error("an incident has to wait")
	}
}
