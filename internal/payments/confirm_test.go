package payments_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/payments"
	"ringfence/internal/wallet/wallettest"
)

// nightly compares all that there is, in both directions.
func (f *fixture) nightly() payments.Report {
	f.t.Helper()
	r, err := f.svc.Reconcile(f.t.Context(), payments.Span{Kind: payments.ReconcileFull, Since: dbtest.Start.Add(-30 * 24 * time.Hour), Until: f.clock.Now(), Credits: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// planted credits £50.00 for a payment that Stripe need not know, by an event that somebody could sign.
func (f *fixture) planted(intent string) {
	f.t.Helper()
	topUp := f.topUp(f.org, 50_00)
	f.accept(event{id: "evt_" + intent, kind: "payment_intent.succeeded", topUp: topUp, intent: intent, amount: 50_00, customer: "cus_second"})
	f.work("evt_" + intent)
}

// topUpOf is the top-up that a payment belongs to.
func (f *fixture) topUpOf(intent string) (id uuid.UUID) {
	f.t.Helper()
	dbtest.Get(f.t, f.url, &id, `SELECT top_up_id FROM payments WHERE payment_intent = $1`, intent)
	return id
}

// TestCreditsThatStripeDoesNotConfirm: a credit whose payment Stripe does not know, or knows as something else, stands
// before an operator, night after night, and is not taken back by itself.
func TestCreditsThatStripeDoesNotConfirm(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	f.planted("pi_old")
	l.pay("pi_old", f.topUpOf("pi_old"), "cus_second", 50_00)
	f.planted("pi_forged")
	f.planted("pi_cancelled")
	l.pay("pi_cancelled", f.topUpOf("pi_cancelled"), "cus_second", 50_00)
	f.planted("pi_less")
	l.pay("pi_less", f.topUpOf("pi_less"), "cus_second", 5_00)
	f.planted("pi_euros")
	l.pay("pi_euros", f.topUpOf("pi_euros"), "cus_second", 50_00)
	f.planted("pi_elsewhere")
	l.pay("pi_elsewhere", f.topUpOf("pi_old"), "cus_second", 50_00)
	l.change(func(l *till) {
		l.unlisted = []string{"pi_old", "pi_less", "pi_euros", "pi_elsewhere"}
		l.intents["pi_cancelled"]["status"] = "canceled"
		l.intents["pi_euros"]["currency"] = "eur"
	})
	f.clock.Advance(time.Hour)
	before := f.stands()
	// The short comparisons do not look for credits.
	short, err := f.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileRecent, Since: dbtest.Start.Add(-time.Hour), Until: f.clock.Now()})
	if err != nil || len(short.Disagreements) != 0 {
		t.Errorf("%+v, %v", short.Disagreements, err)
	}

	want := map[string]struct{ event, reason string }{
		"pi_forged":    {"reconciled_pi_forged_unknown", "5000 pence are credited for it, and Stripe does not know the payment"},
		"pi_cancelled": {"reconciled_pi_cancelled_canceled", "5000 pence are credited for it, and at Stripe it is canceled"},
		"pi_less":      {"reconciled_pi_less_500gbp", "at Stripe it is 500 gbp"},
		"pi_euros":     {"reconciled_pi_euros_5000eur", "at Stripe it is 5000 eur"},
		"pi_elsewhere": {"reconciled_pi_elsewhere_5000gbp", "at Stripe it is 5000 gbp for top-up " + f.topUpOf("pi_old").String()},
	}
	for night := range 3 {
		r := f.nightly()
		if len(r.Disagreements) != len(want) || r.Healed != 0 {
			t.Errorf("night %d: %+v", night, r)
		}
		for _, d := range r.Disagreements {
			w := want[d.Subject]
			if d.EventID != w.event || night < 2 && !strings.Contains(d.Reason, w.reason) {
				t.Errorf("night %d: %+v, want %+v", night, d, w)
			}
			e, err := f.svc.Event(t.Context(), d.EventID)
			if err != nil || e.State != payments.EventQuarantined && night < 2 || e.Credit == nil || e.OrgID != f.org || e.PaymentIntent != d.Subject {
				t.Errorf("night %d: %s is %s of %s with %+v, %v", night, d.EventID, e.State, e.OrgID, e.Credit, err)
			}
		}
		o, err := f.svc.ReconciliationOverview(t.Context())
		if err != nil || o.Disagreements != len(want) {
			t.Errorf("night %d: the overview is %+v, %v", night, o, err)
		}
		if night == 1 { // an operator looks at one and sends it away: it is told of again as long as it is so
			if err := f.svc.Replay(t.Context(), f.user, "reconciled_pi_forged_unknown", "looked at it"); err != nil {
				t.Fatal(err)
			}
			f.work("reconciled_pi_forged_unknown")
		}
		f.clock.Advance(24 * time.Hour)
	}
	if got := f.stands(); got != before {
		t.Errorf("comparing changed %+v to %+v", before, got)
	}
	// Three minutes later the overview still says so.
	if _, err := f.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileRecent, Since: f.clock.Now().Add(-time.Hour), Until: f.clock.Now()}); err != nil {
		t.Fatal(err)
	}
	if o, err := f.svc.ReconciliationOverview(t.Context()); err != nil || o.Disagreements != len(want) {
		t.Errorf("after a short comparison the overview is %+v, %v", o, err)
	}
}

// TestCreditsAreLookedForSparingly: Stripe is asked only about credits whose payment was not in its list, not about what was
// made up for measurements and webhook tests; and an answer that does not come fails the comparison.
func TestCreditsAreLookedForSparingly(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	var asked []string
	l.change(func(l *till) {
		l.before = func(path string) {
			if id, one := strings.CutPrefix(path, "/v1/payment_intents/"); one {
				asked = append(asked, id)
			}
		}
	})
	f.planted("pi_measured")
	dbtest.Super(t, f.url, `UPDATE top_ups SET session_id = 'measurement' WHERE id = $1`, f.topUpOf("pi_measured"))
	sample, err := f.svc.NewSample(t.Context(), wallettest.Org(t, f.db, "Stripe webhook test", 0), f.user)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.svc.Accept(t.Context(), sample.Body, sign(sample.Body, f.clock.Now(), secret)); err != nil {
		t.Fatal(err)
	}
	f.work(sample.EventID)
	if n := f.count(`SELECT count(*) FROM credits`); n != 3 {
		t.Fatalf("%d payments are credited, want 3", n)
	}
	f.clock.Advance(time.Hour)
	if r := f.nightly(); len(r.Disagreements) != 0 || len(asked) != 0 {
		t.Errorf("%+v; asked about %v", r.Disagreements, asked)
	}
	f.planted("pi_late")
	l.pay("pi_late", f.topUpOf("pi_late"), "cus_second", 50_00)
	l.change(func(l *till) { l.unlisted = []string{"pi_late"} })
	f.clock.Advance(time.Hour)
	if r := f.nightly(); len(r.Disagreements) != 0 || len(asked) != 1 || asked[0] != "pi_late" {
		t.Errorf("%+v; asked about %v", r.Disagreements, asked)
	}
	l.change(func(l *till) {
		l.before = func(path string) {
			if path == "/v1/disputes" { // the last list: what is asked after it is asked about single payments
				l.change(func(l *till) { l.status = http.StatusInternalServerError })
			}
		}
	})
	if _, err := f.svc.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileFull, Since: dbtest.Start.Add(-time.Hour), Until: f.clock.Now(), Credits: true}); err == nil {
		t.Error("a comparison that Stripe did not answer succeeded")
	}
}
