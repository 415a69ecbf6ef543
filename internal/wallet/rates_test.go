package wallet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// setRate sets the rate as typed, by somebody who has seen the newest.
func (d desk) setRate(typed string, more ...func(*wallet.RateChange)) error {
	rate, err := wallet.ParseRate(typed)
	if err != nil {
		return err
	}
	c := wallet.RateChange{Rate: rate, Source: "ECB", Reason: "TICKET-1", Actor: "operator:test"}
	if p, err := d.gates.PreviewRate(d.t.Context(), c); err == nil {
		c.Seen = p.Latest
	}
	for _, change := range more {
		change(&c)
	}
	_, err = d.gates.SetRate(d.t.Context(), c)
	return err
}

// firstRate is what the configuration says at first.
func (d desk) firstRate() {
	d.t.Helper()
	err := d.db.InSystemTx(d.t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		return wallet.FirstRate(ctx, tx, rateOf(d.t, "0.79"))
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// A call's price follows the rate in force: at once, or at the start of the version.
func TestRatesAreVersions(t *testing.T) {
	d := newDesk(t)
	minute := func() money.Pence {
		t.Helper()
		amount, _, err := d.gates.Quote(t.Context(), wallet.HoldRequest{Action: wallet.ActionCall, Quantity: 60, Destination: ukMobile})
		if err != nil {
			t.Fatal(err)
		}
		return amount
	}
	ledger := wallet.New(d.db)
	d.firstRate()
	dollar := func() string {
		t.Helper()
		r, err := ledger.Rate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r.String()
	}
	if minute() != 56 || dollar() != "0.79" {
		t.Fatal("a minute does not cost 56p at first")
	}
	if err := d.setRate("0.8"); err != nil {
		t.Fatal(err)
	}
	if minute() != 56 || dollar() != "0.8" { // 70 cents × 0.8
		t.Errorf("a minute costs %s at %s", minute(), dollar())
	}
	later := d.clock.Now().Add(time.Hour)
	if err := d.setRate("0.82", func(c *wallet.RateChange) { c.StartsAt = later }); err != nil {
		t.Fatal(err)
	}
	if minute() != 56 || dollar() != "0.8" {
		t.Error("a later version counts already")
	}
	h, err := ledger.RateHistory(t.Context())
	if err != nil || len(h.Versions) != 3 || h.InForce == nil || h.InForce.Micros != 800_000 || h.Next == nil || h.Next.Micros != 820_000 || h.InForce.Reason != "TICKET-1" || h.InForce.Author != "operator:test" {
		t.Errorf("%+v, %v", h, err)
	}
	p, err := d.gates.PreviewRate(t.Context(), wallet.RateChange{Rate: rateOf(t, "0.81"), Source: "s", Reason: "r"})
	if err != nil || p.Was.Micros != 800_000 || len(p.Later) != 1 || p.Later[0].Micros != 820_000 || p.Large {
		t.Errorf("%+v, %v", p, err)
	}
	d.clock.Advance(time.Hour)
	if minute() != 58 || dollar() != "0.82" {
		t.Errorf("a minute costs %s at %s once it has begun", minute(), dollar())
	}
	if n := d.number(`SELECT count(*) FROM audit_log WHERE action = 'rate.set' AND actor = 'operator:test' AND reason = 'TICKET-1' AND detail->>'source' = 'ECB'`); n != 2 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
}

func TestRateRefusals(t *testing.T) {
	d := newDesk(t)
	d.firstRate()
	for _, typed := range []string{"", "0", "0.0", "10", "79", "abc", "0,79", "-0.79", "1e-1", "0.7900001", "0.7.9", "NaN", "٠.٧٩", "0.79\x00", strings.Repeat("9", 100)} {
		if err := d.setRate(typed); fault.As(err).Field != "rate" || fault.As(err).Kind != fault.Invalid {
			t.Errorf("%.20q gave %v", typed, err)
		}
	}
	for field, spoil := range map[string]func(*wallet.RateChange){
		"source": func(c *wallet.RateChange) { c.Source = "\x00" },
		"reason": func(c *wallet.RateChange) { c.Reason = " " },
		"sure":   func(c *wallet.RateChange) { c.Rate = rateOf(t, "0.87") },
		"rate":   func(c *wallet.RateChange) { c.Rate = money.Rate{} },
	} {
		if err := d.setRate("0.8", spoil); fault.As(err).Field != field {
			t.Errorf("spoilt %s gave %v", field, err)
		}
	}
	if err := d.setRate("0.8", func(c *wallet.RateChange) { c.Source = strings.Repeat("x", 201) }); fault.As(err).Field != "source" {
		t.Errorf("a long source gave %v", err)
	}
	// A tenth is not more than a tenth, up or down.
	for _, typed := range []string{"0.869", "0.7821"} {
		if err := d.setRate(typed); err != nil {
			t.Errorf("%s: %v", typed, err)
		}
	}
	for _, typed := range []string{"0.703889", "0.860311"} {
		if err := d.setRate(typed); fault.As(err).Field != "sure" {
			t.Errorf("%s after 0.7821: %v", typed, err)
		}
	}
	if err := d.setRate("0.5", func(c *wallet.RateChange) { c.Sure = true }); err != nil {
		t.Errorf("somebody who is sure: %v", err)
	}
	if err := d.setRate("0.5", func(c *wallet.RateChange) { c.Seen-- }); !fault.Is(err, fault.Conflict) {
		t.Errorf("somebody who was overtaken: %v", err)
	}
	// A start that has passed is now: no version reaches back.
	if err := d.setRate("0.51", func(c *wallet.RateChange) { c.StartsAt = d.clock.Now().Add(-time.Hour) }); err != nil {
		t.Fatal(err)
	}
	if n := d.number(`SELECT count(*) FROM exchange_rates WHERE starts_at < $1 AND author = 'operator:test'`, d.clock.Now()); n != 0 {
		t.Errorf("%d versions reach back", n)
	}
}

func rateOf(t *testing.T, text string) money.Rate {
	t.Helper()
	r, err := money.ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
