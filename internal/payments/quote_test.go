package payments_test

import (
	"errors"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
)

// TestQuotesAreKept: what a page showed is what is charged, or the customer is asked again. A caller who showed nothing, as
// programs do, is not asked.
func TestQuotesAreKept(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	now := time.Now()
	quote := func(amount, currency string) payments.Shown {
		t.Helper()
		q, err := d.svc.Quote(t.Context(), amount, currency)
		if err != nil {
			t.Fatal(err)
		}
		return payments.Shown{Charge: q.Charge, RateID: q.RateID, At: now}
	}
	start := func(what, amount, currency string, shown payments.Shown) payments.TopUp {
		t.Helper()
		top, err := d.svc.StartShownTopUp(t.Context(), d.org, d.user, amount, currency, shown)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return top
	}
	asked := func(what, amount, currency string, shown payments.Shown, was, now money.Pence) payments.Shown {
		t.Helper()
		top, err := d.svc.StartShownTopUp(t.Context(), d.org, d.user, amount, currency, shown)
		changed, ok := errors.AsType[*payments.QuoteChangedError](err)
		if !ok || changed.Was != was || changed.Now.Charge != now {
			t.Fatalf("%s: %+v, %v; want to be asked about %s instead of %s", what, top, err, now, was)
		}
		return payments.Shown{Charge: changed.Now.Charge, RateID: changed.Now.RateID, At: shown.At}
	}
	rateOf := func(top payments.TopUp) (micros int64) {
		dbtest.Get(t, d.url, &micros, `SELECT usd_to_gbp_micros FROM top_ups t JOIN exchange_rates r ON r.id = t.rate_id WHERE t.id = $1`, top.ID)
		return micros
	}
	dollars, pounds := quote("50", "usd"), quote("60", "gbp")
	old := dollars
	old.At = now.Add(-time.Hour)
	if top := start("the same, an hour later", "50", "usd", old); top.Amount != 39_50 || rateOf(top) != 790_000 {
		t.Errorf("%+v at %d", top, rateOf(top))
	}
	dbtest.Super(t, d.url, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (820000, 'test', 'test', $1, now())`, d.clock.Now())

	rows, sessions := d.count(`SELECT count(*) FROM top_ups`), d.allSessions()
	anew := asked("the rate changed since", "50", "usd", dollars, 39_50, 41_00)
	asked("long ago", "50", "usd", old, 39_50, 41_00)
	unknown := dollars
	unknown.RateID = 999
	asked("a version that never was", "50", "usd", unknown, 39_50, 41_00)
	if n := d.count(`SELECT count(*) FROM top_ups`); n != rows || d.allSessions() != sessions {
		t.Error("the question already started something")
	}
	if top := start("agreed to", "50", "usd", anew); top.Amount != 41_00 || rateOf(top) != 820_000 {
		t.Errorf("%+v at %d", top, rateOf(top))
	}
	if top := start("in pounds, which cost what they did", "60", "gbp", pounds); top.Amount != 60_00 {
		t.Errorf("%+v", top)
	}
	if top := start("a price of another amount", "80", "usd", dollars); top.Amount != 65_60 || rateOf(top) != 820_000 {
		t.Errorf("%+v", top)
	}
	if top, err := d.svc.StartTopUp(t.Context(), d.org, d.user, "100", "usd"); err != nil || top.Amount != 82_00 {
		t.Errorf("without a quote: %+v, %v", top, err)
	}
	if _, err := d.svc.StartShownTopUp(t.Context(), d.org, d.user, "1", "usd", dollars); fault.As(err).Field != "amount" {
		t.Errorf("an amount that is too small: %v", err)
	}
}
