package telephony_test

import (
	"net/http"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// TestCostsOfTexts: what a text cost us is learned from Twilio after its end, once; what Twilio never says stays unknown.
func TestCostsOfTexts(t *testing.T) {
	d := newDesk(t)
	costs := func() (n int) {
		t.Helper()
		n, err := d.SweepCosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	cost := func(m telephony.Message) (micros *int64) {
		t.Helper()
		dbtest.Get(t, d.dbURL, &micros, `SELECT cost_micros FROM messages WHERE id = $1`, m.ID)
		return micros
	}
	priced, never := d.send(d.text("priced", "Hello")), d.send(d.text("never", "Hello again"))
	for _, m := range []telephony.Message{priced, never} {
		if err := d.StatusChanged(t.Context(), m.ID.String(), telephony.Status{SID: m.SID.String, Status: "delivered"}); err != nil {
			t.Fatal(err)
		}
	}
	if costs(); cost(priced) != nil {
		t.Error("it was asked before its time")
	}
	d.clock.Advance(time.Minute)
	if n := costs(); n != 0 || cost(priced) != nil {
		t.Errorf("%d costs are known before Twilio says one", n)
	}
	for range 8 { // to its end, and then to its price
		if err := d.twilio.Advance(priced.SID.String); err != nil {
			break
		}
	}
	if n := costs(); n != 0 {
		t.Error("it was asked again at once")
	}
	d.clock.Advance(3 * time.Minute)
	if n := costs(); n != 1 || cost(priced) == nil || *cost(priced) != 7_900 {
		t.Errorf("%d costs are known, %v", n, cost(priced))
	}
	for range 12 {
		d.clock.Advance(30 * 24 * time.Hour)
		costs()
	}
	var looks int
	if dbtest.Get(t, d.dbURL, &looks, `SELECT cost_looks FROM messages WHERE id = $1 AND cost_look_at IS NULL`, never.ID); looks != 9 || cost(never) != nil {
		t.Errorf("it was asked %d times, and is %v", looks, cost(never))
	}
	if micros, currency, err := d.AccountBalance(t.Context()); err != nil || micros != 100_000_000-7_900 || currency != "usd" {
		t.Errorf("the balance is %d %s, %v", micros, currency, err)
	}
}

// TestCostsOfOwnTexts: what a text from an own number cost is asked for in the account that it went out from; one from a
// customer's own account costs us nothing.
func TestCostsOfOwnTexts(t *testing.T) {
	d := newOwnDesk(t)
	sid, secret := d.ownAccount()
	if _, err := d.saveOwn(sid, secret); err != nil {
		t.Fatal(err)
	}
	for i, of := range []struct {
		mode telephony.Kind
		cost int64
	}{{telephony.Managed, 7_900}, {telephony.BYOC, 0}} {
		d.setMode(of.mode)
		m := d.send(d.have(d.choose(2)[i], string(of.mode)).PhoneNumber, string(of.mode))
		if err := d.twilio.Mark(m.SID.String, "delivered", 0); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			d.next(http.StatusNoContent)
		}
		for priced := false; !priced; { // what happens last is that its price is known
			priced = d.twilio.Advance(m.SID.String) != nil
		}
		d.clock.Advance(time.Minute)
		if _, err := d.SweepCosts(t.Context()); err != nil {
			t.Fatal(err)
		}
		var micros *int64
		if dbtest.Get(t, d.dbURL, &micros, `SELECT cost_micros FROM messages WHERE id = $1`, m.ID); micros == nil || *micros != of.cost {
			t.Errorf("from a %s number it cost %v, want %d", of.mode, micros, of.cost)
		}
	}
}

// TestCostsOfNumbers: a month of a number counts when it begins, at what was said for that month; a number in an
// organisation's own account costs us nothing.
func TestCostsOfNumbers(t *testing.T) {
	p := newShop(t)
	n := p.have(p.choose(1)[0], "k")
	costs := func(month string) (micros, unknown int64) {
		t.Helper()
		at, err := time.Parse("2006-01", month)
		if err != nil {
			t.Fatal(err)
		}
		list, err := p.Costs(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.OrgID == p.org && c.Action == wallet.ActionNumber {
				return c.Micros, c.Unknown
			}
		}
		return 0, 0
	}
	// The clock stands in March 2026.
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET activated_at = '2025-12-31 10:00Z' WHERE id = $1`, n.ID)
	if micros, unknown := costs("2026-01"); micros != 0 || unknown != 1 {
		t.Errorf("before anything is said: %d, %d unknown", micros, unknown)
	}
	say := func(month string, micros int64) error {
		at, err := time.Parse("2006-01", month)
		if err != nil {
			t.Fatal(err)
		}
		return p.SetNumberCost(t.Context(), telephony.NumberCost{Country: n.Country, StartsOn: at, Micros: micros}, "operator:x", "TICKET-1")
	}
	for _, c := range []struct {
		month  string
		micros int64
	}{{"2025-12", 1_000_000}, {"2026-02", 2_000_000}, {"2026-02", 1_150_000}} {
		if err := say(c.month, c.micros); err != nil {
			t.Fatal(err)
		}
	}
	if err := say("2026-02", -1); fault.As(err).Field != "monthly" {
		t.Errorf("less than nothing: %v", err)
	}
	for month, want := range map[string]int64{"2025-11": 0, "2025-12": 1_000_000, "2026-01": 1_000_000, "2026-02": 1_150_000, "2026-03": 0} { // its month of March begins on the 31st
		if micros, unknown := costs(month); micros != want || unknown != 0 {
			t.Errorf("%s: %d, %d unknown; want %d", month, micros, unknown, want)
		}
	}
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET releasing_at = '2026-02-20Z' WHERE id = $1`, n.ID)
	if micros, _ := costs("2026-02"); micros != 0 { // it was given back before the 28th
		t.Errorf("after it was given back: %d", micros)
	}
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET releasing_at = NULL, activated_at = $2 WHERE id = $1`, n.ID, n.ActivatedAt)
}
