package wallet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// setPrice adds a version to the rate card and has the desk's gates see it.
func (d desk) setPrice(c wallet.PriceChange) (p wallet.Price) {
	d.t.Helper()
	if c.Reason == "" {
		c.Reason, c.Actor = "a test", audit.System("test")
	}
	err := d.db.InSystemTx(d.t.Context(), "a test's price", func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = wallet.SetPrice(ctx, tx, c)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.gates.PricesChanged()
	return p
}

func (d desk) tariff() *wallet.Tariff {
	d.t.Helper()
	t, err := d.gates.Tariff(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return t
}

// Numbers that exist, by where they are.
const (
	ukMobile = "+447400123456"
	usNumber = "+12015550123"
	canada   = "+15062345678"
	france   = "+33612345678"
)

// TestFirstPrices are the prices that the design names, and what must be in hand for each to begin.
func TestFirstPrices(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	for _, c := range []struct {
		action           wallet.Action
		quantity         int64
		destination      string
		amount, required money.Pence
	}{
		{wallet.ActionCall, 1, "", 1, 79},
		{wallet.ActionCall, 30, "", 28, 79},
		{wallet.ActionCall, 60, "", 56, 79},
		{wallet.ActionCall, 85, "", 79, 79},
		{wallet.ActionCall, 86, "", 80, 80},
		{wallet.ActionCall, 91, "", 84, 84}, // rounded once: rounding the cents first would make it 85
		{wallet.ActionCall, 91, ukMobile, 84, 84},
		{wallet.ActionCall, 60, usNumber, 56, 79},
		{wallet.ActionCall, 43_200, ukMobile, 39_816, 39_816},
		{wallet.ActionSMS, 1, "", 10, 10},
		{wallet.ActionSMS, 1, ukMobile, 10, 10},
		{wallet.ActionSMS, 7, usNumber, 70, 70},
		{wallet.ActionNumber, 1, "", 10_00, 10_00},
		{wallet.ActionNumber, 3, "", 30_00, 30_00},
		{wallet.ActionKnowledge, 1, "", 1, 1},
		{wallet.ActionKnowledge, 250, "", 250, 250},
	} {
		amount, required, err := d.gates.Quote(t.Context(), wallet.HoldRequest{OrgID: org, Action: c.action, Quantity: c.quantity, Destination: c.destination})
		if err != nil || amount != c.amount || required != c.required {
			t.Errorf("%d × %s to %q: %s, %s to begin, %v; want %s and %s", c.quantity, c.action, c.destination, amount, required, err, c.amount, c.required)
		}
	}
	for _, p := range d.tariff().Lines(org, d.clock.Now()) {
		if want := money.Pence(1_19); p.Action == wallet.ActionNumber && p.Monthly != want {
			t.Errorf("a number's month is %s, want %s", p.Monthly, want)
		}
		if p.State == wallet.PriceOn && p.Action == wallet.ActionSMS && !p.ChargeUndelivered {
			t.Errorf("a text to %s that was not delivered is free", p.Prefix)
		}
	}
}

// TestWhatIsOpenAtFirst holds the first rate card to libphonenumber's numbering plans: of the numbers that begin with +1
// and +44, those of ordinary lines in the United States and Great Britain are open. Other countries and islands are not,
// nor what pays whoever is called, nor any other country code.
func TestWhatIsOpenAtFirst(t *testing.T) {
	d := newDesk(t)
	tariff := d.tariff()
	check := func(n *phonenumbers.PhoneNumber) {
		t.Helper()
		to, region, kind := phonenumbers.Format(n, phonenumbers.E164), phonenumbers.GetRegionCodeForNumber(n), phonenumbers.GetNumberType(n)
		var want bool
		switch kind {
		case phonenumbers.FIXED_LINE, phonenumbers.MOBILE, phonenumbers.FIXED_LINE_OR_MOBILE:
			// Isle of Man mobiles that the plan counts to Great Britain as well.
			want = (region == "GB" || region == "US") && !strings.HasPrefix(to, "+447924")
		case phonenumbers.PREMIUM_RATE, phonenumbers.PAGER, phonenumbers.PERSONAL_NUMBER:
			if slices.ContainsFunc(untold, func(prefix string) bool { return strings.HasPrefix(to, prefix) }) {
				return
			}
		case phonenumbers.TOLL_FREE, phonenumbers.SHARED_COST, phonenumbers.VOIP, phonenumbers.UAN, phonenumbers.VOICEMAIL, phonenumbers.UNKNOWN:
			// Costs us no more than an ordinary line, where it is at home.
			if region == "US" || region == "GB" || slices.ContainsFunc(untold, func(prefix string) bool { return strings.HasPrefix(to, prefix) }) ||
				strings.HasPrefix(to, "+1800") { // shared by all of +1
				return
			}
		}
		for _, action := range []wallet.Action{wallet.ActionCall, wallet.ActionSMS} {
			p, err := tariff.Price(uuid.Nil, action, to, d.clock.Now())
			switch {
			case want && (err != nil || p.State != wallet.PriceOn):
				t.Errorf("%s to %s (%s, type %d): %v", action, to, region, kind, err)
			case !want && (!fault.Is(err, fault.Forbidden) || fault.As(err).Code != "destination_not_offered" || fault.As(err).Field != "destination"):
				t.Errorf("%s to %s (%s, type %d) is offered: %v, %v", action, to, region, kind, p.State, err)
			}
		}
	}
	seen := map[string]int{}
	for region := range phonenumbers.GetSupportedRegions() {
		for kind := phonenumbers.FIXED_LINE; kind <= phonenumbers.VOICEMAIL; kind++ {
			if n := phonenumbers.GetExampleNumberForType(region, kind); n != nil {
				seen[region]++
				check(n)
			}
		}
	}
	for _, region := range []string{"US", "GB", "CA", "JM", "PR", "BM", "GG", "JE", "IM", "FR", "AU"} {
		if seen[region] == 0 {
			t.Errorf("no number of %s was looked at", region)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		number := fmt.Sprintf("+1%d", 2_000_000_000+rng.Int64N(8_000_000_000))
		if rng.IntN(2) == 0 {
			number = fmt.Sprintf("+44%d", 1_000_000_000+rng.Int64N(9_000_000_000))
		}
		if n, err := phonenumbers.Parse(number, ""); err == nil && phonenumbers.IsValidNumber(n) {
			check(n)
		}
	}
}

// untold are numbers without a place that the first rate card does not tell from those of the United States.
var untold = []string{
	"+1500", "+152", "+1532", "+1533", "+1544", "+1566", "+1577", "+1588", // personal, of the whole of +1
	"+1600", "+1622", "+1633", "+1644", "+1655", "+1677", "+1688", // Canada's
	"+1310", // seven digits are Canada's own; the area code is Los Angeles
}

// TestPricesAreFound is the rule of the rate card: the longest prefix first, there the organisation's own before
// everybody's; a version counts from its start on.
func TestPricesAreFound(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 0), wallettest.Org(t, d.db, "Second Tenant", 0)
	// France has no price at first, so that nothing but this counts.
	on := func(owner uuid.UUID, prefix string, unit money.Pence) wallet.PriceChange {
		return wallet.PriceChange{OrgID: owner, Action: wallet.ActionSMS, Prefix: prefix, State: wallet.PriceOn, Unit: unit}
	}
	with := func(c wallet.PriceChange, state wallet.PriceState, startsIn time.Duration) wallet.PriceChange {
		c.State, c.StartsAt = state, d.clock.Now().Add(startsIn)
		return c
	}
	everybody := uuid.Nil
	const hour = time.Hour
	for _, c := range []struct {
		name    string
		changes []wallet.PriceChange
		want    money.Pence // to +33 6…; zero: not offered
		before  money.Pence // a moment earlier
	}{
		{"nobody has set one", nil, 0, 0},
		{"the prefix is another's", []wallet.PriceChange{on(everybody, "34", 5), on(everybody, "337", 6)}, 0, 0},
		{"everybody's", []wallet.PriceChange{on(everybody, "33", 11)}, 11, 11},
		{"the longest", []wallet.PriceChange{on(everybody, "3", 7), on(everybody, "33612345678", 12), on(everybody, "336", 11)}, 12, 12},
		{"own before everybody's", []wallet.PriceChange{on(everybody, "33", 11), on(org, "33", 9)}, 9, 9},
		{"own before everybody's, whichever came first", []wallet.PriceChange{on(org, "33", 9), on(everybody, "33", 11)}, 9, 9},
		{"everybody's longer before own shorter", []wallet.PriceChange{on(org, "33", 9), on(everybody, "336", 11)}, 11, 11},
		{"another organisation's own", []wallet.PriceChange{on(everybody, "33", 11), on(other, "33", 9), on(other, "336", 8)}, 11, 11},
		{"off beats a shorter on", []wallet.PriceChange{on(everybody, "33", 11), with(on(everybody, "336", 0), wallet.PriceOff, 0)}, 0, 0},
		{"own off beats everybody's on", []wallet.PriceChange{on(everybody, "33", 11), with(on(org, "33", 0), wallet.PriceOff, 0)}, 0, 0},
		{"own on beats everybody's off", []wallet.PriceChange{with(on(everybody, "33", 0), wallet.PriceOff, 0), on(org, "33", 9)}, 9, 9},
		{"a longer on beats off", []wallet.PriceChange{with(on(everybody, "33", 0), wallet.PriceOff, 0), on(everybody, "336", 11)}, 11, 11},
		{"inherit: everybody's again", []wallet.PriceChange{on(everybody, "33", 11), on(org, "33", 9), with(on(org, "33", 0), wallet.PriceInherit, 0)}, 11, 11},
		{"inherit at a longer prefix: the shorter again", []wallet.PriceChange{on(org, "33", 9), on(org, "336", 8), with(on(org, "336", 0), wallet.PriceInherit, 0)}, 9, 9},
		{"inherit where nobody else has one", []wallet.PriceChange{on(org, "33", 9), with(on(org, "33", 0), wallet.PriceInherit, 0)}, 0, 0},
		{"of one start, the last that was said", []wallet.PriceChange{on(everybody, "33", 11), on(everybody, "33", 12), on(everybody, "33", 13)}, 13, 13},
		{"the newest start, not the last that was said", []wallet.PriceChange{with(on(everybody, "33", 12), wallet.PriceOn, hour), on(everybody, "33", 11)}, 12, 11},
		{"it has yet to begin", []wallet.PriceChange{on(everybody, "33", 11), with(on(everybody, "33", 12), wallet.PriceOn, 2*hour)}, 11, 11},
		{"off from a moment on", []wallet.PriceChange{on(everybody, "33", 11), with(on(everybody, "33", 0), wallet.PriceOff, hour)}, 0, 11},
		{"on from a moment on", []wallet.PriceChange{with(on(everybody, "33", 11), wallet.PriceOn, hour)}, 11, 0},
		{"own from a moment on", []wallet.PriceChange{on(everybody, "33", 11), with(on(org, "33", 9), wallet.PriceOn, hour)}, 9, 11},
	} {
		// Each case in a transaction of its own that is taken back.
		errBack := fmt.Errorf("taken back")
		err := d.db.InSystemTx(t.Context(), "a test", func(ctx context.Context, tx *db.Tx) error {
			for _, change := range c.changes {
				change.Reason, change.Actor = "a test", audit.System("test")
				if _, err := wallet.SetPrice(ctx, tx, change); err != nil {
					return err
				}
			}
			tariff, err := wallet.ReadTariff(ctx, tx)
			if err != nil {
				return err
			}
			at := func(offset time.Duration) money.Pence {
				p, err := tariff.Price(org, wallet.ActionSMS, france, tx.Now.Add(offset))
				if err != nil {
					if f := fault.As(err); f.Kind != fault.Forbidden || f.Code != "destination_not_offered" || f.Field != "destination" {
						t.Errorf("%s: %v", c.name, err)
					}
					return 0
				}
				return p.Unit
			}
			if got := at(hour); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
			if got := at(hour - time.Microsecond); got != c.before {
				t.Errorf("%s: %s a moment before, want %s", c.name, got, c.before)
			}
			return errBack
		})
		if err == nil || !strings.Contains(err.Error(), errBack.Error()) {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
}

// TestNoDestination: what has none, or tells none, has the price of the line without a prefix, and no destination falls
// back to that line.
func TestNoDestination(t *testing.T) {
	d := newDesk(t)
	now := d.clock.Now()
	if _, err := d.tariff().Price(uuid.Nil, wallet.ActionCall, france, now); fault.As(err).Code != "destination_not_offered" {
		t.Errorf("France has the price of the line without a prefix: %v", err)
	}
	for _, action := range wallet.Actions {
		if p, err := d.tariff().Price(uuid.Nil, action, "", now); err != nil || p.Prefix != "" || p.Action != action {
			t.Errorf("%s: %+v, %v", action, p, err)
		}
		d.setPrice(wallet.PriceChange{Action: action, State: wallet.PriceOff})
		_, err := d.tariff().Price(uuid.Nil, action, "", now)
		if f := fault.As(err); f == nil || f.Kind != fault.Forbidden || f.Code != "not_offered" || f.Field != "" {
			t.Errorf("%s that is off: %v", action, err)
		}
	}
	if _, err := d.tariff().Price(uuid.Nil, wallet.ActionCall, ukMobile, now); err != nil {
		t.Errorf("calls without a destination are off, and those to Great Britain with them: %v", err)
	}
}

func TestLinesAndVersions(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	first := d.tariff().Lines(uuid.Nil, d.clock.Now())
	own := wallet.PriceChange{OrgID: org, Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: 9}
	one := d.setPrice(own)
	own.Prefix = "33"
	two := d.setPrice(own)
	own.StartsAt, own.Unit = d.clock.Now().Add(time.Hour), 8
	later := d.setPrice(own)
	lines := d.tariff().Lines(org, d.clock.Now())
	if len(lines) != len(first)+1 {
		t.Errorf("%d lines instead of %d and one", len(lines), len(first))
	}
	sorted := slices.IsSortedFunc(lines, func(a, b wallet.Price) int {
		if c := slices.Index(wallet.Actions, a.Action) - slices.Index(wallet.Actions, b.Action); c != 0 {
			return c
		}
		return strings.Compare(a.Prefix, b.Prefix)
	})
	if !sorted {
		t.Error("the lines are not in the order of actions and prefixes")
	}
	at := func(lines []wallet.Price, prefix string) (p wallet.Price) {
		for _, l := range lines {
			if l.Action == wallet.ActionSMS && l.Prefix == prefix {
				p = l
			}
		}
		return p
	}
	if at(lines, "44").ID != one.ID || at(lines, "33").ID != two.ID || at(lines, "1204").State != wallet.PriceOff {
		t.Errorf("+44 has %+v, +33 %+v, +1204 %+v", at(lines, "44"), at(lines, "33"), at(lines, "1204"))
	}
	if now := d.tariff().Lines(uuid.Nil, d.clock.Now()); len(now) != len(first) || at(now, "44").Unit != 10 {
		t.Errorf("an organisation's own price is among everybody's: %d lines, %+v", len(now), at(now, "44"))
	}
	var ids []int64
	for _, p := range d.tariff().Versions(org) {
		ids = append(ids, p.ID)
	}
	if want := []int64{later.ID, two.ID, one.ID}; !slices.Equal(ids, want) {
		t.Errorf("versions %v, want %v", ids, want)
	}
	if n := len(d.tariff().Versions(uuid.Nil)); n != len(first) {
		t.Errorf("%d versions of everybody's, want %d", n, len(first))
	}
}

func TestSetPriceRefusals(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	sms := wallet.PriceChange{Action: wallet.ActionSMS, Prefix: "33", State: wallet.PriceOn, Unit: 5, Reason: "r", Actor: audit.System("test")}
	call := wallet.PriceChange{Action: wallet.ActionCall, Prefix: "33", State: wallet.PriceOn, Unit: 79, PerMinute: 70, Reason: "r", Actor: audit.System("test")}
	for _, c := range []struct {
		field string
		from  wallet.PriceChange
		spoil func(*wallet.PriceChange)
	}{
		{"action", sms, func(c *wallet.PriceChange) { c.Action = "fax" }},
		{"prefix", sms, func(c *wallet.PriceChange) { c.Prefix = "044" }},
		{"prefix", sms, func(c *wallet.PriceChange) { c.Prefix = "33x" }},
		{"prefix", sms, func(c *wallet.PriceChange) { c.Prefix = "1234567890123456" }},
		{"prefix", sms, func(c *wallet.PriceChange) { c.Action = wallet.ActionNumber }},
		{"prefix", sms, func(c *wallet.PriceChange) { c.Action = wallet.ActionKnowledge }},
		{"reason", sms, func(c *wallet.PriceChange) { c.Reason = " \n" }},
		{"reason", sms, func(c *wallet.PriceChange) { c.Reason = strings.Repeat("r", 501) }},
		{"state", sms, func(c *wallet.PriceChange) { c.State = "" }},
		{"state", sms, func(c *wallet.PriceChange) { c.State = wallet.PriceInherit }},
		{"unit", sms, func(c *wallet.PriceChange) { c.Unit = 0 }},
		{"unit", sms, func(c *wallet.PriceChange) { c.Unit = -1 }},
		{"unit", sms, func(c *wallet.PriceChange) { c.Unit = 1000_01 }},
		{"unit", call, func(c *wallet.PriceChange) { c.Unit = -1 }},
		{"monthly", sms, func(c *wallet.PriceChange) { c.Monthly = -1 }},
		{"monthly", sms, func(c *wallet.PriceChange) { c.Monthly = 1000_01 }},
		{"per_minute", call, func(c *wallet.PriceChange) { c.PerMinute = 0 }},
		{"per_minute", call, func(c *wallet.PriceChange) { c.PerMinute = -1 }},
		{"per_minute", call, func(c *wallet.PriceChange) { c.PerMinute = 1000_01 }},
	} {
		change := c.from
		c.spoil(&change)
		err := d.db.InSystemTx(t.Context(), "a test", func(ctx context.Context, tx *db.Tx) error {
			_, err := wallet.SetPrice(ctx, tx, change)
			return err
		})
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Field != c.field {
			t.Errorf("%+v gave %v, want an invalid %s", change, err, c.field)
		}
	}
	if n := len(d.tariff().Versions(uuid.Nil)); n != len(d.tariff().Lines(uuid.Nil, d.clock.Now())) {
		t.Errorf("a refused price was added: %d versions", n)
	}

	// What does not belong to the state or the action is not kept, and the edges are inside.
	sms.Prefix, sms.PerMinute, sms.Monthly, sms.Unit = " +33 ", 7, 7, 1000_00
	if p := d.setPrice(sms); p.Prefix != "33" || p.PerMinute != 0 || p.Monthly != 0 || p.Unit != 1000_00 || p.OrgID.Valid {
		t.Errorf("added %+v", p)
	}
	call.OrgID, call.State = org, wallet.PriceInherit
	if p := d.setPrice(call); p.PerMinute != 0 || p.Unit != 0 || p.OrgID.UUID != org || !p.OrgID.Valid {
		t.Errorf("added %+v", p)
	}
	call.State, call.PerMinute, call.Prefix = wallet.PriceOn, 1000_00, "123456789012345"
	if p := d.setPrice(call); p.PerMinute != 1000_00 {
		t.Errorf("added %+v", p)
	}
}

// TestPricesNeverReachBack: a version begins at the transaction's moment at the earliest, and it is audited.
func TestPricesNeverReachBack(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	change := wallet.PriceChange{OrgID: org, Action: wallet.ActionSMS, State: wallet.PriceOn, Unit: 5, Reason: "cheaper", Actor: "operator:x"}
	for _, c := range []struct{ says, want time.Time }{
		{time.Time{}, d.clock.Now()},
		{d.clock.Now().Add(-time.Hour), d.clock.Now()},
		{d.clock.Now().Add(time.Hour), d.clock.Now().Add(time.Hour)},
	} {
		change.StartsAt = c.says
		if p := d.setPrice(change); !p.StartsAt.Equal(c.want) || !p.CreatedAt.Equal(d.clock.Now()) || p.Author != "operator:x" {
			t.Errorf("told %s, it starts %s, added %s by %s", c.says, p.StartsAt, p.CreatedAt, p.Author)
		}
	}
	var n int
	dbtest.Get(t, d.url, &n, `
		SELECT count(*) FROM audit_log WHERE action = 'price.set' AND org_id = $1 AND actor = 'operator:x' AND reason = 'cheaper'
		   AND subject = 'price:sms:' AND detail->>'unit_pence' = '5'`, org)
	if n != 3 {
		t.Errorf("%d audit rows, want 3", n)
	}
}

// TestTheRateCardIsReadAnew: another process's change counts within a second, one's own at once, and one that was known
// of in advance at its own start.
func TestTheRateCardIsReadAnew(t *testing.T) {
	d := newDesk(t)
	unit := func() money.Pence {
		amount, _, err := d.gates.Quote(t.Context(), wallet.HoldRequest{Action: wallet.ActionSMS, Quantity: 1})
		if err != nil {
			t.Fatal(err)
		}
		return amount
	}
	elsewhere := d
	elsewhere.gates = newGates(t, d.db, d.clock.Now)
	sms := wallet.PriceChange{Action: wallet.ActionSMS, State: wallet.PriceOn}
	if unit() != 10 {
		t.Fatal("a text does not cost 10p at first")
	}
	sms.Unit = 11
	elsewhere.setPrice(sms)
	d.clock.Advance(time.Second - time.Microsecond)
	if got := unit(); got != 10 {
		t.Errorf("%s within the second: the rate card is not remembered", got)
	}
	d.clock.Advance(time.Microsecond)
	if got := unit(); got != 11 {
		t.Errorf("%s a second after the change", got)
	}
	sms.Unit = 12
	d.setPrice(sms)
	if got := unit(); got != 12 {
		t.Errorf("%s after a change of one's own", got)
	}
	sms.Unit, sms.StartsAt = 13, d.clock.Now().Add(500*time.Millisecond)
	d.setPrice(sms)
	if got := unit(); got != 12 {
		t.Errorf("%s before the start", got)
	}
	d.clock.Advance(500 * time.Millisecond)
	if got := unit(); got != 13 {
		t.Errorf("%s at the start", got)
	}
	d.clock.Advance(-time.Hour) // a clock that is set back does not keep what was remembered for good
	sms.Unit, sms.StartsAt = 14, time.Time{}
	elsewhere.setPrice(sms)
	if got := unit(); got != 14 {
		t.Errorf("%s after the clock was set back", got)
	}
}

// TestHoldsKeepTheirPrice: what a hold was made with stays, whatever the rate card and the dollar do afterwards.
func TestHoldsKeepTheirPrice(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10_00)
	r := wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: 60, Destination: ukMobile, Source: wallet.SourceAPI, Key: "before"}
	before := d.authorise(r)
	if before.Amount != 56 {
		t.Fatalf("a minute costs %s", before.Amount)
	}
	p := d.setPrice(wallet.PriceChange{OrgID: org, Action: wallet.ActionCall, Prefix: "44", State: wallet.PriceOn, Unit: 79, PerMinute: 140})
	for rate, start := range map[int]time.Time{500_000: d.clock.Now(), 900_000: d.clock.Now().Add(time.Hour)} {
		dbtest.Super(t, d.url, `
			INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES ($1, 'test', 'test', $2, now())`, rate, start)
	}
	d.gates.PricesChanged()
	if again := d.authorise(r); !again.Repeated || again.ID != before.ID || again.Amount != 56 || again.PriceID != before.PriceID || again.RateID != before.RateID {
		t.Errorf("the repeat gives %+v", again)
	}
	r.Key = "after"
	if after := d.authorise(r); after.Amount != 70 || after.PriceID != p.ID || after.RateID == before.RateID {
		t.Errorf("a new hold of a minute is %s at version %d and rate %d", after.Amount, after.PriceID, after.RateID)
	}
	h, err := d.gates.Capture(t.Context(), d.settle(before, func(s *wallet.Settlement) { s.Whole = true }))
	if err != nil || h.Amount != 56 || h.PriceID != before.PriceID || h.RateID != before.RateID {
		t.Errorf("the capture gives %+v, %v", h, err)
	}
}

// TestWithoutARate nothing has a price that anybody could know: the answer is no, and it is ours to mend.
func TestWithoutARate(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10_00)
	dbtest.Super(t, d.url, `DELETE FROM exchange_rates`)
	d.gates.PricesChanged()
	for _, action := range []wallet.Action{wallet.ActionCall, wallet.ActionSMS} {
		_, err := d.gates.Authorise(t.Context(), wallet.HoldRequest{OrgID: org, Action: action, Quantity: 1, Source: wallet.SourceAPI, Key: "k"})
		if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || f.Code != "undecided" || f.RetryAfter <= 0 {
			t.Errorf("%s: %v", action, err)
		}
	}
	if b := d.balance(org); b.Held != 0 {
		t.Errorf("%s is held", b.Held)
	}
}
