package views

import (
	"testing"
	"time"

	"ringfence/internal/money"
)

// TestOverviewIsNeverGreenByDefault: what is not known, old or broken is not shown as good.
func TestOverviewIsNeverGreenByDefault(t *testing.T) {
	now := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	for _, tile := range (OverviewPage{At: now}).tiles() {
		if tile.State != unread {
			t.Errorf("%s is %+v although it could not be read", tile.ID, tile.State)
		}
	}
	for want, v := range map[string]OverviewPromises{
		"Good":      {At: now, Checks: 3, Age: time.Minute},
		"Not known": {Never: true},
		"Broken":    {At: now, Checks: 3, Broken: []string{"a"}},
		"Look here": {At: now, Checks: 3, Age: 4 * time.Hour},
	} {
		if got := (OverviewPage{At: now, Promises: &v}).promises().State.Word; got != want {
			t.Errorf("%+v is %s, want %s", v, got, want)
		}
	}
	if got := (OverviewPage{Promises: &OverviewPromises{Failure: "x"}}).promises().State.Word; got != "Not known" {
		t.Errorf("a check that could not be finished is %s", got)
	}
	for want, a := range map[string]OverviewAccount{
		"Good": {Amount: "£1"}, "Low": {Amount: "£1", Low: true}, "Not known": {}, "Not used": {Off: true},
	} {
		if got := a.state().Word; got != want {
			t.Errorf("%+v is %s, want %s", a, got, want)
		}
	}
	if got := (OverviewAccount{Amount: "£1", Why: "no answer"}).state().Word; got != "Not known" {
		t.Errorf("an old balance is %s", got)
	}
	if got := StatusState("").state().Word; got != "Unknown" {
		t.Errorf("no state is %s", got)
	}
}

func TestMarginFigures(t *testing.T) {
	for want, f := range map[string]MarginFigures{
		"82.1%": {Charged: 56, Cost: 10}, "100.0%": {Charged: 30}, "−50.0%": {Charged: 10, Cost: 15}, "": {Charged: 10, Unknown: 1},
	} {
		if got := f.share(); got != want {
			t.Errorf("%+v leaves %q, want %q", f, got, want)
		}
	}
	if got := (MarginFigures{Charged: 1, Cost: 3}).left(); got != money.Pence(-2) {
		t.Errorf("left %s", got)
	}
	for micros, want := range map[int64]string{0: "$0.0000", 1: "$0.0001", 123456: "$0.1235", 7900: "$0.0079", 12_000_000: "$12.0000"} {
		if got := dollars(micros); got != want {
			t.Errorf("%d is %s, want %s", micros, got, want)
		}
	}
	for want, c := range map[string]StatusComponent{
		"99.98% of the time that is known": {Days: []StatusDay{{Good: 4999, Bad: 1}}}, "Nothing is known yet": {Days: []StatusDay{{}}}, "100.00% of the time that is known": {Days: []StatusDay{{Good: 1}, {Slow: 1}}},
	} {
		if got := c.uptime(); got != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
