package payments_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db/dbtest"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/jobs"
)

// deaf is a desk that no webhook reaches, at a Stripe whose clock can be moved.
type deaf struct {
	*live
	ahead atomic.Int64 // what Stripe's clock is ahead of ours
}

// newDeaf makes one without workers.
func newDeaf(t *testing.T) *deaf {
	t.Helper()
	f := &deaf{}
	f.live = &live{desk: newDesk(t, func(o *sandbox.Options) {
		o.WebhookURL, o.WebhookSecret = "http://127.0.0.1:1", secret
		o.Now = func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }
	})}
	f.db = dbtest.OpenURL(t, f.url, time.Now)
	f.svc = f.service(f.onLine)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = now() - interval '1 year'`)
	if err := f.box.Stripe().SetWebhooks(false); err != nil {
		t.Fatal(err)
	}
	return f
}

// bought pays a top-up of an amount in pounds on Stripe's page and gives its PaymentIntent.
func (f *deaf) bought(amount string) *stripe.PaymentIntent {
	f.t.Helper()
	top := f.start(amount)
	f.press(top, "pay")
	return f.intentOf(top)
}

func (f *deaf) intentOf(top payments.TopUp) *stripe.PaymentIntent {
	f.t.Helper()
	session, err := f.api.CheckoutSessions.Get(top.SessionID, &stripe.CheckoutSessionParams{Expand: []*string{new("payment_intent")}})
	if err != nil {
		f.t.Fatal(err)
	}
	return session.PaymentIntent
}

// reconcile compares the last hours with Stripe.
func (f *deaf) reconcile(back time.Duration) payments.Report {
	f.t.Helper()
	r, err := f.svc.Reconcile(f.t.Context(), payments.Span{Kind: payments.ReconcileManual, Since: time.Now().Add(-back), Until: time.Now().Add(time.Minute)})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// TestReconcileWithWebhooksOff: payments, refunds and disputes of which not one event came.
func TestReconcileWithWebhooksOff(t *testing.T) {
	t.Parallel()
	f := newDeaf(t)
	f.bought("50.00")
	f.bought("25.00")
	refunded, disputed := f.bought("20.00"), f.bought("30.00")
	f.control("/charges/"+refunded.LatestCharge.ID+"/refund", map[string][]string{"amount": {"500"}})
	f.control("/charges/"+disputed.LatestCharge.ID+"/dispute", nil)
	f.start("10.00") // not paid
	if n := f.count(`SELECT count(*) FROM stripe_events`); n != 0 {
		t.Fatalf("%d events came", n)
	}
	r := f.reconcile(time.Hour)
	if r.Healed != 4 || r.HealedPence != 125_00 || len(r.Disagreements) != 0 || r.LookedAt == 0 || r.Reversals == 0 {
		t.Errorf("%+v", r)
	}
	if r.MedianDelay < 0 || r.MedianDelay > time.Minute {
		t.Errorf("the median delay is %s", r.MedianDelay)
	}
	want := stands{Balance: 569_00 + 125_00 - 5_00 - 30_00, Refunded: 5_00, Disputed: 30_00, Frozen: true, Credits: 4}
	if got := f.stands(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.sameNet()
	if n := f.count(`SELECT count(*) FROM top_ups WHERE state = 'paid'`); n != 4 {
		t.Errorf("%d top-ups are paid, want 4", n)
	}
	if n := f.count(`SELECT count(*) FROM healed_credits WHERE reconciliation_id = $1`, r.ID); n != 4 {
		t.Errorf("%d credits are marked as healed, want 4", n)
	}
	if again := f.reconcile(time.Hour); again.Healed != 0 || again.Reversals != 0 || again.LookedAt != r.LookedAt || f.stands() != want {
		t.Errorf("once more: %+v, %+v", again, f.stands())
	}
	// Late webhooks find everything done.
	f.svc = f.service(f.onLine)
	list := f.api.Events.List(&stripe.EventListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for list.Next() {
		e := list.Event()
		if strings.HasPrefix(string(e.Type), "payment_intent.succ") {
			if n := f.count(`SELECT count(*) FROM stripe_events WHERE id = $1 AND state = 'processed'`, e.ID); n != 1 {
				t.Errorf("%s is not stored under its own id", e.ID)
			}
		}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	o, err := f.svc.ReconciliationOverview(t.Context())
	if err != nil || o.Healed != 4 || o.HealedPence != 125_00 || o.Last.IsZero() || o.Disagreements != 0 || o.Failed != "" {
		t.Errorf("the overview is %+v, %v", o, err)
	}
}

// TestReconcileFindsWhatCameLater: payments, refunds and disputes that began long before the time that is looked at, and of
// which something became within it.
func TestReconcileFindsWhatCameLater(t *testing.T) {
	t.Parallel()
	f := newDeaf(t)
	f.ahead.Store(int64(-5 * 24 * time.Hour))
	debit := f.start("40.00")
	f.press(debit, "pay-later")
	refunded, disputed := f.bought("20.00"), f.bought("30.00")
	f.control("/charges/"+refunded.LatestCharge.ID+"/refund", nil)
	f.control("/charges/"+disputed.LatestCharge.ID+"/dispute", nil)
	f.reconcile(10 * 24 * time.Hour)
	if got, want := f.stands(), (stands{Balance: 569_00, Refunded: 20_00, Disputed: 30_00, Frozen: true, Credits: 2}); got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	f.ahead.Store(0)
	f.settle(debit, "succeed")
	var refund, dispute string
	dbtest.Get(t, f.url, &refund, `SELECT id FROM refunds`)
	dbtest.Get(t, f.url, &dispute, `SELECT id FROM disputes`)
	f.control("/refunds/"+refund+"/fail", nil)
	f.control("/disputes/"+dispute+"/close", map[string][]string{"outcome": {"won"}})
	if r := f.reconcile(time.Hour); r.Healed != 1 || r.HealedPence != 40_00 || r.MedianDelay > time.Minute {
		t.Errorf("%+v", r)
	}
	if got, want := f.stands(), (stands{Balance: 659_00, Credits: 3}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.sameNet()
}

// TestReconcileShowsWhatItCannotBook: money at Stripe that is nobody's stands before an operator, once.
func TestReconcileShowsWhatItCannotBook(t *testing.T) {
	t.Parallel()
	f := newDeaf(t)
	f.bought("50.00")
	buy := func(amount int64, currency, customer string, metadata map[string]string) string {
		t.Helper()
		pi, err := f.api.PaymentIntents.New(&stripe.PaymentIntentParams{
			Amount: &amount, Currency: &currency, Confirm: new(true), PaymentMethod: new("pm_card_visa"), Customer: &customer, Metadata: metadata,
			PaymentMethodTypes: []*string{new("card")},
		})
		if err != nil {
			t.Fatal(err)
		}
		return pi.ID
	}
	stranger, err := f.api.Customers.New(&stripe.CustomerParams{})
	if err != nil {
		t.Fatal(err)
	}
	top := f.start("10.00")
	subjects := map[string]string{
		buy(20_00, "gbp", stranger.ID, nil):                                             "no top-up that we know",
		buy(10_00, "gbp", stranger.ID, map[string]string{"top_up_id": top.ID.String()}): "customer",
	}
	var ours string
	dbtest.Get(t, f.url, &ours, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, f.org)
	subjects[buy(30_00, "eur", ours, map[string]string{"top_up_id": top.ID.String()})] = `"eur"`
	for range 2 {
		r := f.reconcile(time.Hour)
		if len(r.Disagreements) != len(subjects) {
			t.Errorf("disagreements: %+v", r.Disagreements)
		}
		for _, d := range r.Disagreements {
			if want, known := subjects[d.Subject]; !known || !strings.Contains(d.Reason, want) {
				t.Errorf("%+v", d)
			}
			e, err := f.svc.Event(t.Context(), d.EventID)
			if err != nil || e.State != payments.EventQuarantined {
				t.Errorf("%s is %s, %v", d.EventID, e.State, err)
			}
		}
	}
	if n := f.count(`SELECT count(*) FROM stripe_events WHERE state = 'quarantined'`); n != 3 {
		t.Errorf("%d events are quarantined, want 3", n)
	}
	if got, want := f.stands(), (stands{Balance: 619_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestReconcileWithoutEvents: what Stripe no longer has events of is found by comparing the things themselves.
func TestReconcileWithoutEvents(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	registry := prometheus.NewRegistry()
	metrics := payments.NewMetrics()
	metrics.Register(registry)
	f.svc = f.service(func(o *payments.Options) { o.StripeBase, o.FreezeOnDispute, o.Metrics = l.url, true, metrics })
	f.clock.Advance(time.Hour)
	missed, wrong := f.topUp(f.org, 20_00), f.topUp(f.org, 7_00)
	l.pay("pi_2", missed, "cus_second", 20_00)
	l.pay("pi_3", wrong, "cus_harbour", 7_00)
	l.refund("re_1", "pi_1", 10_00, "pending")
	l.dispute("dp_1", "pi_2", 20_00, "needs_response", -20_00)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	reconcile := func() payments.Report {
		t.Helper()
		r, err := f.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileFull, Since: dbtest.Start.Add(-time.Hour), Until: f.clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := reconcile()
	if r.Healed != 1 || r.HealedPence != 20_00 || r.MedianDelay != time.Hour || r.Reversals != 2 {
		t.Errorf("%+v", r)
	}
	if len(r.Disagreements) != 1 || r.Disagreements[0].Subject != "pi_3" || r.Disagreements[0].EventID != "reconciled_pi_3_700gbp" {
		t.Errorf("disagreements: %+v", r.Disagreements)
	}
	if got, want := f.stands(), (stands{Balance: 40_00, Refunded: 10_00, Disputed: 20_00, Frozen: true, Credits: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The next night the refund has failed, the dispute is won, and a payment turns out to be another than we credited.
	l.refund("re_1", "pi_1", 10_00, "failed")
	l.dispute("dp_1", "pi_2", 20_00, "won", -20_00, 20_00)
	if r := reconcile(); r.Healed != 0 || r.Reversals != 2 || len(r.Disagreements) != 1 {
		t.Errorf("%+v", r)
	}
	if got, want := f.stands(), (stands{Balance: 70_00, Credits: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	l.change(func(l *till) { l.intents["pi_1"]["amount_received"] = 60_00 })
	if r := reconcile(); len(r.Disagreements) != 2 || !strings.Contains(r.Disagreements[1].Reason, "known with 5000") {
		t.Errorf("%+v", r)
	}
	if got, want := f.stands(), (stands{Balance: 70_00, Credits: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range families {
		figures[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	for name, want := range map[string]float64{
		"ringfence_healed_payments_total": 1, "ringfence_healed_pence_total": 20_00, "ringfence_reconciliation_disagreements": 2,
		"ringfence_reconciliations_total": 3,
	} {
		if figures[name] != want {
			t.Errorf("%s is %g, want %g", name, figures[name], want)
		}
	}
}

// TestReconcileDue: what is looked at, when nothing is missed in between, and when something was.
func TestReconcileDue(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	type row struct {
		Kind         string
		Since, Until time.Duration // before the clock
		Failed       bool
	}
	due := func(fails bool) (rows []row) {
		t.Helper()
		if err := f.svc.ReconcileDue(t.Context()); (err != nil) != fails {
			t.Fatalf("%v", err)
		}
		var list []struct {
			Kind         string
			Since, Until time.Time
			Failed       bool
		}
		dbtest.Select(t, f.url, &list, `SELECT kind, since, until, error <> '' AS failed FROM reconciliations WHERE started_at = $1 ORDER BY id`, f.clock.Now())
		for _, r := range list {
			rows = append(rows, row{r.Kind, f.clock.Now().Sub(r.Since), f.clock.Now().Sub(r.Until), r.Failed})
		}
		return rows
	}
	day := 24 * time.Hour
	for i, s := range []struct {
		pause time.Duration
		away  bool
		want  []row
	}{
		{0, false, []row{{"recent", day, time.Minute, false}, {"full", 30 * day, time.Minute, false}}}, // 09:30
		{3 * time.Minute, false, []row{{"recent", time.Hour + 3*time.Minute, time.Minute, false}}},
		{3 * time.Minute, true, []row{{"recent", time.Hour + 3*time.Minute, time.Minute, true}}},
		{3 * time.Minute, true, []row{{"recent", time.Hour + 6*time.Minute, time.Minute, true}}},
		{5 * time.Hour, false, []row{{"recent", 6*time.Hour + 6*time.Minute, time.Minute, false}}},
		{12 * time.Hour, false, []row{{"recent", 13 * time.Hour, time.Minute, false}, {"full", 30 * day, time.Minute, false}}}, // 02:39
		{40 * day, false, []row{{"recent", 30 * day, time.Minute, false}, {"full", 30 * day, time.Minute, false}}},
	} {
		f.clock.Advance(s.pause)
		l.change(func(l *till) {
			l.status = 0
			if s.away {
				l.status = http.StatusServiceUnavailable
			}
		})
		got := due(s.away)
		if len(got) != len(s.want) {
			t.Errorf("step %d: %v, want %v", i, got, s.want)
			continue
		}
		for n := range got {
			if got[n] != s.want[n] {
				t.Errorf("step %d: %v, want %v", i, got[n], s.want[n])
			}
		}
	}
}

// TestWorkersReconcile: with webhooks switched off the workers alone credit what was paid.
func TestWorkersReconcile(t *testing.T) {
	t.Parallel()
	f := newDeaf(t)
	f.ahead.Store(int64(-5 * time.Minute)) // a webhook may take a minute
	f.bought("50.00")
	f.ahead.Store(0)
	f.bought("20.00")
	runner, err := jobs.Start(t.Context(), jobs.Deps{DB: f.db, Payments: f.svc, Notices: silent(t, f.db), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			t.Errorf("couldn't stop the workers: %v", err)
		}
	})
	f.until("both reconciliations", func() bool { return f.count(`SELECT count(*) FROM reconciliations WHERE finished_at IS NOT NULL`) == 2 })
	if got, want := f.stands(), (stands{Balance: 619_00, Credits: 1}); got != want {
		t.Errorf("got  %+v\nwant %+v: the payment that is too young waits for its webhook", got, want)
	}
}

// TestReconcileBesideWebhooks: everything at once ends as either alone.
func TestReconcileBesideWebhooks(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	dbtest.Super(t, l.url, `UPDATE organizations SET created_at = now() - interval '1 year'`)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := l.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileManual, Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Minute)}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range 8 {
		top := l.start(money.Pence(10_00 + i*100).Decimal())
		l.press(top, "pay")
		session, err := l.api.CheckoutSessions.Get(top.SessionID, &stripe.CheckoutSessionParams{Expand: []*string{new("payment_intent")}})
		if err != nil {
			t.Fatal(err)
		}
		switch charge := session.PaymentIntent.LatestCharge.ID; i % 3 {
		case 0:
			l.control("/charges/"+charge+"/refund", nil)
		case 1:
			l.control("/charges/"+charge+"/dispute", nil)
		}
	}
	l.until("the credits", func() bool { return l.count(`SELECT count(*) FROM credits`) == 8 })
	l.reversed()
	close(stop)
	<-stopped
	l.reversed()
}

// TestReconcileChangesNothingThatAgrees: where our books are Stripe's, not one row and not one job comes of it.
func TestReconcileChangesNothingThatAgrees(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	f.refunded(l, "evt_1", 10_00, "succeeded")
	before := f.moneyRows()
	jobsBefore := f.count(`SELECT count(*) FROM river_job`)
	r, err := f.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileManual, Since: dbtest.Start.Add(-time.Hour), Until: dbtest.Start.Add(time.Hour)})
	if err != nil || r.Healed+r.Reversals+len(r.Disagreements) != 0 || r.LookedAt != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if f.moneyRows() != before || f.count(`SELECT count(*) FROM river_job`) != jobsBefore {
		t.Error("something changed")
	}
}
