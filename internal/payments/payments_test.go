package payments_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/wallet/wallettest"
	"ringfence/jobs"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	secret    = "whsec_thesecretofthetests000000000"
	oldSecret = "whsec_theoldsecretofthetests000000"
)

// fixture is a service over a database with two organisations, each with a user and a customer at Stripe.
type fixture struct {
	t     *testing.T
	url   string
	db    *db.DB
	clock *dbtest.Clock
	svc   *payments.Service
	org   uuid.UUID // Harbour Dental, with £569.00
	other uuid.UUID // Second Tenant, empty
	user  uuid.UUID
	tag   string // makes ids of this organisation's own
}

// newFixture makes it; with may change the options.
func newFixture(t *testing.T, with ...func(*payments.Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, url: dbtest.URL(t), clock: &dbtest.Clock{}, user: uuid.Must(uuid.NewV7())}
	f.db = dbtest.OpenURL(t, f.url, f.clock.Now)
	f.org = wallettest.Org(t, f.db, "Harbour Dental", 569_00)
	f.other = wallettest.Org(t, f.db, "Second Tenant", 0)
	dbtest.Super(t, f.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, 'local', 'u', 'owner@harbour.example', now())`, f.user)
	dbtest.Super(t, f.url, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (790000, 'test', 'test', '1970-01-01', now())`)
	dbtest.Super(t, f.url, `INSERT INTO stripe_customers VALUES ($1, 'cus_harbour', now()), ($2, 'cus_second', now())`, f.org, f.other)
	f.svc = f.service(with...)
	return f
}

// tenant gives the same fixture for an organisation of its own, which starts as Harbour Dental does.
func (f *fixture) tenant(name string) *fixture {
	f.t.Helper()
	other := *f
	other.org = wallettest.Org(f.t, f.db, name, 569_00)
	other.tag = strings.ReplaceAll(other.org.String(), "-", "")
	dbtest.Super(f.t, f.url, `INSERT INTO stripe_customers VALUES ($1, $2, now())`, other.org, "cus_"+name)
	return &other
}

// service makes another service over the same database, as a second process would have.
func (f *fixture) service(with ...func(*payments.Options)) *payments.Service {
	f.t.Helper()
	log := slog.New(slog.DiscardHandler)
	inserter, err := jobs.NewInserter(f.db, log)
	if err != nil {
		f.t.Fatal(err)
	}
	o := payments.Options{
		DB: f.db, Jobs: inserter, Log: log, Now: f.clock.Now,
		StripeKey: "sk_test_x", StripeBase: "http://127.0.0.1:1", WebhookSecrets: []string{secret},
		CheckoutOrigins: []string{"https://checkout.stripe.com"}, BaseURL: "http://127.0.0.1:8080",
		Min: 5_00, Max: 5000_00,
	}
	for _, change := range with {
		change(&o)
	}
	svc, err := payments.New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return svc
}

// topUp plants an open top-up of the organisation.
func (f *fixture) topUp(org uuid.UUID, amount money.Pence) uuid.UUID {
	f.t.Helper()
	id := uuid.Must(uuid.NewV7())
	dbtest.Super(f.t, f.url, `
		INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, session_id, checkout_url, created_at, updated_at)
		SELECT $1::uuid, $2, $3, $4, 0, id, 'open', 'cs_' || $1::uuid, 'https://checkout.stripe.com/c', $5, $5 FROM exchange_rates`,
		id, org, f.user, amount, f.clock.Now())
	return id
}

// event describes what Stripe would send; zero fields take the values of a good payment.
type event struct {
	id, kind string
	topUp    uuid.UUID
	intent   string
	amount   money.Pence
	currency string
	customer string
	status   string // payment_status of a session
	live     bool
	after    time.Duration // created, after the clock's start
	spoil    func(object map[string]any)
}

// body renders the event as Stripe's JSON.
func (e event) body() []byte {
	object := map[string]any{
		"currency": or(e.currency, "gbp"), "customer": or(e.customer, "cus_harbour"),
		"metadata": map[string]string{"top_up_id": e.topUp.String()},
	}
	if strings.HasPrefix(e.kind, "payment_intent.") {
		maps.Copy(object, map[string]any{"object": "payment_intent", "id": e.intent, "amount_received": e.amount})
	} else {
		maps.Copy(object, map[string]any{
			"object": "checkout.session", "id": "cs_1", "payment_intent": e.intent, "amount_total": e.amount,
			"payment_status": or(e.status, "paid"), "client_reference_id": e.topUp.String(),
		})
	}
	if e.spoil != nil {
		e.spoil(object)
	}
	b, err := json.Marshal(map[string]any{
		"id": e.id, "object": "event", "type": e.kind, "created": dbtest.Start.Add(e.after).Unix(), "livemode": e.live,
		"api_version": "2023-10-16", "data": map[string]any{"object": object},
	})
	if err != nil {
		panic(err)
	}
	return b
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// sign gives the header that Stripe would send with the body at that moment.
func sign(body []byte, at time.Time, with string) string {
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), webhook.ComputeSignature(at, body, with))
}

// accept sends the events as Stripe would.
func (f *fixture) accept(events ...event) {
	f.t.Helper()
	for _, e := range events {
		b := e.body()
		if _, err := f.svc.Accept(f.t.Context(), b, sign(b, f.clock.Now(), secret)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// work runs the stored events as one job.
func (f *fixture) work(ids ...string) {
	f.t.Helper()
	var job payments.EventBatch
	var rows []struct {
		ID    string
		OrgID *uuid.UUID `db:"org_id"`
	}
	dbtest.Select(f.t, f.url, &rows, `SELECT id, org_id FROM stripe_events WHERE id = ANY($1)`, pq.Array(ids))
	for _, r := range rows {
		if r.OrgID == nil {
			job.Strays = append(job.Strays, r.ID)
			continue
		}
		job.IDs, job.Orgs = append(job.IDs, r.ID), append(job.Orgs, *r.OrgID)
	}
	if err := f.svc.Process(f.t.Context(), job); err != nil {
		f.t.Fatal(err)
	}
}

// outcome is everything an event may change, in a form that can be compared.
type outcome struct {
	Balance, Other, Paid money.Pence
	TopUp, Note          string
	Credits, Postings    int
}

func (f *fixture) outcome(topUp uuid.UUID) (o outcome) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &o, `
		SELECT (SELECT balance_pence FROM wallets WHERE org_id = $1) AS balance, (SELECT balance_pence FROM wallets WHERE org_id = $2) AS other,
		       t.paid_pence AS paid, t.state AS topup, t.note, (SELECT count(*) FROM credits WHERE org_id = $1) AS credits, (SELECT count(*) FROM ledger_postings WHERE org_id = $1) AS postings
		FROM top_ups t WHERE t.id = $3`, f.org, f.other, topUp)
	return o
}

// state gives an event's state and reason.
func (f *fixture) state(id string) (state, reason string) {
	f.t.Helper()
	var row struct{ State, Reason string }
	dbtest.Get(f.t, f.url, &row, `SELECT state, reason FROM stripe_events WHERE id = $1`, id)
	return row.State, row.Reason
}

// TestEveryOrderEndsTheSame works the events of one payment in every order, each as a job of its own and all as one.
func TestEveryOrderEndsTheSame(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []event
		want   outcome
	}{
		{"card", []event{
			{id: "evt_1", kind: "payment_intent.succeeded", intent: "pi_1", amount: 50_00},
			{id: "evt_2", kind: "checkout.session.completed", intent: "pi_1", amount: 50_00},
			{id: "evt_3", kind: "payment_intent.payment_failed", intent: "pi_1", after: -time.Minute},
			{id: "evt_4", kind: "checkout.session.expired", after: -time.Hour},
		}, outcome{Balance: 619_00, Paid: 50_00, TopUp: "paid", Note: "The last try to pay was declined.", Credits: 1, Postings: 4}},
		{"delayed, then paid", []event{
			{id: "evt_1", kind: "checkout.session.completed", intent: "pi_1", amount: 50_00, status: "unpaid"},
			{id: "evt_2", kind: "checkout.session.async_payment_succeeded", intent: "pi_1", amount: 50_00, after: time.Hour},
			{id: "evt_3", kind: "payment_intent.succeeded", intent: "pi_1", amount: 50_00, after: time.Hour},
		}, outcome{Balance: 619_00, Paid: 50_00, TopUp: "paid", Credits: 1, Postings: 4}},
		{"delayed, then failed", []event{
			{id: "evt_1", kind: "checkout.session.completed", intent: "pi_1", amount: 50_00, status: "unpaid"},
			{id: "evt_2", kind: "checkout.session.async_payment_failed", intent: "pi_1", amount: 50_00, status: "unpaid", after: time.Hour},
			{id: "evt_3", kind: "payment_intent.payment_failed", intent: "pi_1", after: time.Hour},
		}, outcome{Balance: 569_00, TopUp: "failed", Note: "The payment did not go through. Nothing was added.", Postings: 2}},
		{"two payments of one top-up", []event{
			{id: "evt_1", kind: "payment_intent.succeeded", intent: "pi_1", amount: 50_00},
			{id: "evt_2", kind: "payment_intent.succeeded", intent: "pi_2", amount: 50_00},
			{id: "evt_3", kind: "checkout.session.completed", intent: "pi_2", amount: 50_00},
		}, outcome{Balance: 669_00, Paid: 100_00, TopUp: "paid", Credits: 2, Postings: 6}},
		{"abandoned", []event{
			{id: "evt_1", kind: "checkout.session.expired", status: "unpaid"},
			{id: "evt_2", kind: "payment_intent.payment_failed", intent: "pi_1", spoil: func(o map[string]any) {
				o["last_payment_error"] = map[string]any{"decline_code": "insufficient_funds"}
			}},
		}, outcome{Balance: 569_00, TopUp: "expired", Note: "The card was declined: not enough money on it.", Postings: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			shared := newFixture(t)
			for order := range permutations(len(c.events)) {
				for _, together := range []bool{false, true} {
					name := fmt.Sprintf("%v together=%t", order, together)
					f := shared.tenant(name)
					topUp := f.topUp(f.org, 50_00)
					var ids []string
					for _, i := range order {
						e := c.events[i]
						e.topUp, e.customer, e.id = topUp, "cus_"+name, fmt.Sprintf("%s_%s", e.id, f.tag)
						if e.intent != "" {
							e.intent += "_" + f.tag
						}
						f.accept(e)
						ids = append(ids, e.id)
						if !together {
							f.work(e.id)
						}
					}
					f.work(ids...)
					f.work(ids...) // a repeat changes nothing
					if got := f.outcome(topUp); got != c.want {
						t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
					}
					for _, id := range ids {
						if state, reason := f.state(id); state != "processed" {
							t.Errorf("%s: %s is %s: %s", name, id, state, reason)
						}
					}
				}
			}
		})
	}
}

// permutations yields every order of n things.
func permutations(n int) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		var extend func(done []int) bool
		extend = func(done []int) bool {
			if len(done) == n {
				return yield(slices.Clone(done))
			}
			for i := range n {
				if !slices.Contains(done, i) && !extend(append(slices.Clone(done), i)) {
					return false
				}
			}
			return true
		}
		extend(nil)
	}
}

// TestMoneyThatDoesNotFit: what claims to be paid and cannot be placed is kept for an operator, and credits nothing.
func TestMoneyThatDoesNotFit(t *testing.T) {
	paid := event{id: "evt_1", kind: "payment_intent.succeeded", intent: "pi_1", amount: 50_00}
	for _, c := range []struct {
		name, state, reason string
		spoil               func(f *fixture, e *event)
	}{
		{"unknown top-up", "quarantined", "no top-up that we know", func(_ *fixture, e *event) { e.topUp = uuid.New() }},
		{"no top-up", "quarantined", "no top-up that we know", func(_ *fixture, e *event) {
			e.spoil = func(o map[string]any) { delete(o, "metadata") }
		}},
		{"euros", "quarantined", `"eur"`, func(_ *fixture, e *event) { e.currency = "eur" }},
		{"another tenant's customer", "quarantined", "customer", func(_ *fixture, e *event) { e.customer = "cus_second" }},
		{"no customer", "quarantined", "customer", func(_ *fixture, e *event) {
			e.spoil = func(o map[string]any) { o["customer"] = nil }
		}},
		{"live event, test key", "quarantined", "livemode", func(_ *fixture, e *event) { e.live = true }},
		{"nothing received", "quarantined", "amount of 0", func(_ *fixture, e *event) { e.amount = 0 }},
		{"negative", "quarantined", "amount of -5000", func(_ *fixture, e *event) { e.amount = -50_00 }},
		{"no PaymentIntent", "quarantined", "without a PaymentIntent", func(_ *fixture, e *event) {
			e.kind, e.spoil = "checkout.session.completed", func(o map[string]any) { o["payment_intent"] = nil }
		}},
		{"metadata of the wrong type", "quarantined", "couldn't be read", func(_ *fixture, e *event) {
			e.spoil = func(o map[string]any) { o["metadata"] = "x" }
		}},
		{"a known payment with another amount", "quarantined", "known with 1000", func(f *fixture, e *event) {
			f.accept(event{id: "evt_0", kind: "payment_intent.succeeded", topUp: e.topUp, intent: "pi_1", amount: 10_00})
			f.work("evt_0")
		}},
		{"a known payment of another top-up", "quarantined", "another top-up", func(f *fixture, _ *event) {
			f.accept(event{id: "evt_0", kind: "payment_intent.succeeded", topUp: f.topUp(f.org, 60_00), intent: "pi_1", amount: 50_00})
			f.work("evt_0")
		}},
		{"a known payment of another tenant", "quarantined", "another top-up", func(f *fixture, _ *event) {
			f.accept(event{id: "evt_0", kind: "payment_intent.succeeded", topUp: f.topUp(f.other, 50_00), intent: "pi_1", amount: 50_00, customer: "cus_second"})
			f.work("evt_0")
		}},
		{"nothing to pay", "processed", "", func(_ *fixture, e *event) {
			e.kind, e.status, e.spoil = "checkout.session.completed", "no_payment_required", func(o map[string]any) { o["payment_intent"] = nil }
		}},
		{"a stranger's decline", "ignored", "no money moved", func(_ *fixture, e *event) {
			e.kind, e.amount, e.topUp = "payment_intent.payment_failed", 0, uuid.New()
		}},
		{"a type we do nothing on", "ignored", "nothing is done", func(_ *fixture, e *event) { e.kind = "customer.created" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			e := paid
			e.topUp = f.topUp(f.org, 50_00)
			topUp := e.topUp
			c.spoil(f, &e)
			before := f.outcome(topUp)
			f.accept(e)
			b := e.body()
			id := e.id
			if strings.Contains(c.reason, "couldn't be read") {
				dbtest.Get(t, f.url, &id, `SELECT id FROM stripe_events`)
			}
			f.work(id)
			if state, reason := f.state(id); state != c.state || !strings.Contains(reason, c.reason) {
				t.Errorf("the event is %q because of %q; want %q because of %q", state, reason, c.state, c.reason)
			}
			after := f.outcome(topUp)
			if after.Balance != before.Balance || after.Other != before.Other || after.Credits != before.Credits {
				t.Errorf("money moved: %+v, was %+v", after, before)
			}
			var kept []byte
			dbtest.Get(t, f.url, &kept, `SELECT payload FROM stripe_events WHERE id = $1`, id)
			if string(kept) != string(b) {
				t.Errorf("the body was not kept as it came:\n%s\n%s", kept, b)
			}
		})
	}
}

// TestPoisonedEventStopsNoOther: in a batch, one organisation's ledger refuses; everybody else is credited, and the one
// is tried again later, when it works.
func TestPoisonedEventStopsNoOther(t *testing.T) {
	f := newFixture(t)
	good, bad := f.topUp(f.org, 50_00), f.topUp(f.other, 20_00)
	f.accept(
		event{id: "evt_bad", kind: "payment_intent.succeeded", topUp: bad, intent: "pi_bad", amount: 20_00, customer: "cus_second"},
		event{id: "evt_good", kind: "payment_intent.succeeded", topUp: good, intent: "pi_good", amount: 50_00})
	dbtest.Super(t, f.url, fmt.Sprintf(`ALTER TABLE ledger_transactions ADD CONSTRAINT poison CHECK (org_id <> '%s')`, f.other))
	f.work("evt_bad", "evt_good")
	if o := f.outcome(good); o.Balance != 619_00 || o.Other != 0 {
		t.Errorf("balances are %s and %s, want £619.00 and £0.00", o.Balance, o.Other)
	}
	if state, reason := f.state("evt_bad"); state != "received" || !strings.Contains(reason, "poison") {
		t.Errorf("the poisoned event is %s: %s", state, reason)
	}
	var retries int
	dbtest.Get(t, f.url, &retries, `SELECT count(*) FROM river_job WHERE args = '{"strays":["evt_bad"]}' AND state = 'scheduled'`)
	if retries != 1 {
		t.Errorf("%d jobs will try it again, want 1", retries)
	}
	dbtest.Super(t, f.url, `ALTER TABLE ledger_transactions DROP CONSTRAINT poison`)
	f.work("evt_bad")
	if o := f.outcome(bad); o.Other != 20_00 || o.TopUp != "paid" {
		t.Errorf("after the fault was mended: %+v", o)
	}
}

// TestGivesUpInSight: an event that fails every time ends as failed, where operators look.
func TestGivesUpInSight(t *testing.T) {
	f := newFixture(t)
	bad := f.topUp(f.other, 20_00)
	f.accept(event{id: "evt_bad", kind: "payment_intent.succeeded", topUp: bad, intent: "pi_bad", amount: 20_00, customer: "cus_second"})
	dbtest.Super(t, f.url, `ALTER TABLE ledger_transactions ADD CONSTRAINT poison CHECK (id IS NULL) NOT VALID`)
	dbtest.Super(t, f.url, `UPDATE stripe_events SET attempts = 58`)
	f.work("evt_bad")
	if state, _ := f.state("evt_bad"); state != "received" {
		t.Errorf("after attempt 59 the event is %s", state)
	}
	f.work("evt_bad")
	if state, reason := f.state("evt_bad"); state != "failed" || !strings.Contains(reason, "poison") {
		t.Errorf("after attempt 60 the event is %s: %s", state, reason)
	}
	dbtest.Super(t, f.url, `ALTER TABLE ledger_transactions DROP CONSTRAINT poison`)
}

func TestSweeperGivesLostEventsANewJob(t *testing.T) {
	f := newFixture(t)
	topUp := f.topUp(f.org, 50_00)
	f.accept(event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00})
	dbtest.Super(t, f.url, `DELETE FROM river_job`) // its job is lost
	jobsOf := func() (n int) {
		dbtest.Get(t, f.url, &n, `SELECT count(*) FROM river_job WHERE kind = 'stripe_events' AND args @> '{"strays":["evt_1"]}'`)
		return n
	}
	for _, step := range []struct {
		wait        time.Duration
		swept, jobs int
	}{
		{29 * time.Second, 0, 0}, // its own job may still come
		{2 * time.Second, 1, 1},
		{time.Second, 0, 1}, // not again at once
		{31 * time.Second, 1, 2},
	} {
		f.clock.Advance(step.wait)
		swept, err := f.svc.Sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := jobsOf(); swept != step.swept || n != step.jobs {
			t.Errorf("after %s: swept %d, %d jobs; want %d and %d", f.clock.Now().Sub(dbtest.Start), swept, n, step.swept, step.jobs)
		}
	}
	f.work("evt_1")
	f.clock.Advance(time.Hour)
	if swept, err := f.svc.Sweep(t.Context()); swept != 0 || err != nil {
		t.Errorf("a worked event was swept: %d, %v", swept, err)
	}
	if o := f.outcome(topUp); o.Balance != 619_00 {
		t.Errorf("balance %s", o.Balance)
	}
}

func TestRefusesToBeMadeWithoutProtection(t *testing.T) {
	for name, spoil := range map[string]func(*payments.Options){
		"no secret":       func(o *payments.Options) { o.WebhookSecrets = nil },
		"an empty secret": func(o *payments.Options) { o.WebhookSecrets = []string{secret, ""} },
		"no origin":       func(o *payments.Options) { o.CheckoutOrigins = nil },
		"limits reversed": func(o *payments.Options) { o.Min, o.Max = 2, 1 },
	} {
		o := payments.Options{WebhookSecrets: []string{secret}, CheckoutOrigins: []string{"https://checkout.stripe.com"}, Min: 1, Max: 2}
		spoil(&o)
		if _, err := payments.New(o); err == nil {
			t.Errorf("%s: the service was made", name)
		}
	}
}

// TestARoundTakesAlongWhatWasJustStored: the job of one event also works those that its process has just stored.
func TestARoundTakesAlongWhatWasJustStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, second := f.topUp(f.org, 50_00), f.topUp(f.other, 20_00)
	f.accept(
		event{id: "evt_1", kind: "payment_intent.succeeded", topUp: first, intent: "pi_1", amount: 50_00},
		event{id: "evt_2", kind: "payment_intent.succeeded", topUp: second, intent: "pi_2", amount: 20_00, customer: "cus_second"})
	f.work("evt_1")
	if o := f.outcome(first); o.Balance != 619_00 || o.Other != 20_00 {
		t.Errorf("balances are %s and %s, want £619.00 and £20.00", o.Balance, o.Other)
	}
	f.work("evt_2") // its own job comes up and finds nothing left
	if o := f.outcome(second); o.Other != 20_00 || o.Postings != 4 {
		t.Errorf("%+v", o)
	}
}
