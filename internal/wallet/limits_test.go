package wallet_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// limit sets an organisation's limits: of everything together, and of texts; negative means none.
func (d desk) limit(org uuid.UUID, all, texts money.Pence) {
	d.t.Helper()
	c := wallet.LimitChange{OrgID: org, ByAction: map[wallet.Action]*money.Pence{}, Actor: "user:owner"}
	if all >= 0 {
		c.All = &all
	}
	if texts >= 0 {
		c.ByAction[wallet.ActionSMS] = &texts
	}
	if err := wallet.New(d.db).SetLimits(d.t.Context(), c); err != nil {
		d.t.Fatal(err)
	}
}

// spent is what counts against the limits of this month: of everything, and of texts.
func (d desk) spent(org uuid.UUID) [2]money.Pence {
	d.t.Helper()
	l, err := wallet.New(d.db).Limits(d.t.Context(), org)
	if err != nil {
		d.t.Fatal(err)
	}
	if len(l.ByAction) != len(wallet.Actions) {
		d.t.Errorf("the limits name %d actions", len(l.ByAction))
	}
	return [2]money.Pence{l.Spent(), l.ByAction[wallet.ActionSMS].Spent}
}

func (d desk) wantSpent(what string, org uuid.UUID, all, texts money.Pence) {
	d.t.Helper()
	if got := d.spent(org); got != [2]money.Pence{all, texts} {
		d.t.Errorf("%s: %s counts, %s of it for texts; want %s and %s", what, got[0], got[1], all, texts)
	}
}

func (d desk) search(org uuid.UUID, key string, n int64) wallet.HoldRequest {
	return wallet.HoldRequest{OrgID: org, Action: wallet.ActionKnowledge, Quantity: n, Source: wallet.SourceAPI, Key: key, Actor: "key:test"}
}

// refused wants what an organisation's own limit stops.
func (d desk) refused(what string, r wallet.HoldRequest) {
	d.t.Helper()
	_, err := d.gates.Authorise(d.t.Context(), r)
	wantFault(d.t, what, err, fault.Forbidden, "spending_limit")
}

// TestLimits: what is spent and set aside in a month stays within the limits, of an action and in all, to the penny.
func TestLimits(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 100_00)
	d.limit(org, 1_00, 60)
	texts := d.authorise(d.text(org, "5 segments", 5))
	d.refused("2 segments more", d.text(org, "2 segments", 2))
	d.wantSpent("a refusal", org, 50, 50)
	d.authorise(d.text(org, "the sixth segment", 1))
	d.refused("a seventh", d.text(org, "the seventh segment", 1))
	d.authorise(d.search(org, "40 searches", 40))
	d.refused("a search more than all may cost", d.search(org, "one more", 1))
	d.wantSpent("full", org, 1_00, 60)

	// What is not taken counts no more.
	d.outcome("capture 30", texts, false)
	d.wantSpent("20p less was captured", org, 80, 40)
	h := d.authorise(d.text(org, "the seventh segment", 1))
	d.outcome("void", h, false)
	d.wantSpent("voided", org, 80, 40)
	again := d.authorise(d.text(org, "the eighth segment", 2))
	d.refused("a ninth", d.text(org, "the ninth segment", 1))
	d.clock.Advance(time.Hour)
	d.expireAll()
	d.wantSpent("all but what was captured expired", org, 30, 30)
	if h := d.hold(org, again.ID); h.State != wallet.HoldExpired {
		t.Errorf("%+v", h)
	}

	// Raising counts as asking does; what has happened is charged whatever the limit.
	h = d.authorise(d.text(org, "growing", 1))
	_, err := d.gates.Extend(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount = 31 }))
	wantFault(t, "extending over the limit of texts", err, fault.Forbidden, "spending_limit")
	if _, err := d.gates.Extend(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount = 30 })); err != nil {
		t.Error(err)
	}
	d.wantSpent("extended", org, 60, 60)
	d.outcome("capture 55", h, false)
	d.wantSpent("captured for more", org, 85, 85)
	// A limit below what is spent already stops what comes next, and nothing else.
	d.limit(org, 10, -1)
	d.refused("over the new limit", d.search(org, "any", 1))
	d.limit(org, 0, -1)
	d.refused("a limit of nothing", d.search(org, "any", 1))
	d.limit(org, -1, -1)
	d.authorise(d.search(org, "any", 500))
	d.wantSpent("without limits", org, 5_85, 85)
}

// TestEveryActionHasItsOwnLimit, and each counts for everything together.
func TestEveryActionHasItsOwnLimit(t *testing.T) {
	d := newDesk(t)
	requests := map[wallet.Action]struct {
		quantity int64
		costs    money.Pence
	}{wallet.ActionCall: {60, 56}, wallet.ActionSMS: {1, 10}, wallet.ActionNumber: {1, 10_00}, wallet.ActionKnowledge: {7, 7}}
	for _, limited := range wallet.Actions {
		org := wallettest.Org(t, d.db, string(limited), 100_00)
		most := requests[limited].costs
		change := wallet.LimitChange{OrgID: org, ByAction: map[wallet.Action]*money.Pence{limited: &most}, Actor: "user:owner"}
		if err := wallet.New(d.db).SetLimits(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		var sum money.Pence
		for _, action := range wallet.Actions {
			r := wallet.HoldRequest{OrgID: org, Action: action, Quantity: requests[action].quantity, Source: wallet.SourceAPI, Key: string(action)}
			if h := d.authorise(r); h.Amount != requests[action].costs {
				t.Errorf("%s costs %s", action, h.Amount)
			}
			sum += requests[action].costs
			r.Key += " again"
			if action == limited {
				d.refused(string(action), r)
			} else {
				d.authorise(r)
				sum += requests[action].costs
			}
		}
		l, err := wallet.New(d.db).Limits(t.Context(), org)
		if err != nil {
			t.Fatal(err)
		}
		for action, one := range l.ByAction {
			want := 2 * requests[action].costs
			if action == limited {
				want = requests[action].costs
			}
			if one.Spent != want || (one.Most != nil) != (action == limited) || one.Most != nil && *one.Most != most {
				t.Errorf("%s, where %s is limited: %+v", action, limited, one)
			}
		}
		if l.Spent() != sum || l.All != nil {
			t.Errorf("%s of %v", l.Spent(), l.All)
		}
		// Whatever it was spent on, it counts for everything together.
		d.limit(org, sum+6, -1)
		d.refused("7p more of 6p", d.search(org, "7", 7))
		d.authorise(d.search(org, "6", 6))
	}
}

// TestMonthsBeginAnew: limits are of a calendar month in UTC, and a hold counts for the month in which it was made.
func TestMonthsBeginAnew(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 100_00)
	d.limit(org, 1_00, -1)
	endOfMarch := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC).Sub(d.clock.Now())
	d.clock.Advance(endOfMarch - time.Microsecond)
	march := d.authorise(d.search(org, "march", 80))
	inFlight := d.authorise(d.search(org, "in flight", 20))
	d.outcome("send", inFlight, true)
	d.refused("in the last microsecond of March", d.search(org, "one more", 1))
	d.wantSpent("March", org, 1_00, 0)
	d.clock.Advance(time.Microsecond)
	d.wantSpent("April", org, 0, 0)
	d.authorise(d.search(org, "april", 100))
	d.refused("April", d.search(org, "one more", 1))
	// What becomes of March's holds counts for March.
	d.outcome("void", march, false)
	d.wantSpent("after a hold of March was voided", org, 1_00, 0)
	d.outcome("capture 30", inFlight, false)
	d.wantSpent("after a hold of March was captured", org, 1_00, 0)
	d.refused("April", d.search(org, "one more", 1))
	// Over years, and in no other time zone than UTC.
	d.clock.Advance(time.Date(2027, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)).Sub(d.clock.Now()))
	d.expireAll()
	d.authorise(d.search(org, "december", 100))
	d.clock.Advance(time.Hour - time.Microsecond)
	d.refused("December", d.search(org, "one more", 1))
	d.clock.Advance(time.Microsecond)
	d.authorise(d.search(org, "january", 100))
	// A new month whose first hold is one that grows.
	d.limit(org, -1, -1)
	h := d.authorise(d.search(org, "growing", 10))
	d.outcome("send", h, true)
	d.clock.Advance(31 * 24 * time.Hour)
	d.limit(org, 50, -1)
	if _, err := d.gates.Extend(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount = 60 })); err != nil {
		t.Errorf("50p more in a new month of 50p: %v", err)
	}
	d.wantSpent("a hold of January grew in February", org, 0, 0)
	d.expireAll()
}

// TestMonthsOfOneWallet: the first of the month does not come to all processes at once. A transaction that began before
// it may get the wallet's lock after one that began later.
func TestMonthsOfOneWallet(t *testing.T) {
	march := newDesk(t)
	april := march.another()
	org := wallettest.Org(t, march.db, "Harbour Dental", 100_00)
	aprilClock := new(dbtest.Clock)
	aprilClock.Advance(30 * 24 * time.Hour)
	april.clock, april.db = aprilClock, dbtest.OpenURL(t, march.url, aprilClock.Now)
	april.gates = newGates(t, april.db, aprilClock.Now)
	march.limit(org, 2_00, -1)
	march.authorise(march.search(org, "march", 10))
	april.authorise(april.search(org, "april", 20))
	late := march.authorise(march.search(org, "late", 30))
	wallettest.CheckBooks(t, march.db)
	april.wantSpent("April", org, 20, 0)
	march.outcome("capture 40", late, false)
	wallettest.CheckBooks(t, march.db)
	again := march.authorise(march.search(org, "later", 50))
	march.outcome("void", again, false)
	april.wantSpent("April", org, 20, 0)
	april.outcome("void", april.authorise(april.search(org, "april, voided", 50)), false)
	april.wantSpent("April", org, 20, 0)
	// Whoever is late is judged by the month that has begun.
	march.limit(org, 20, -1)
	march.refused("late", march.search(org, "too late", 1))
}

func TestSetLimits(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 1_00), wallettest.Org(t, d.db, "Second Tenant", 1_00)
	ledger := wallet.New(d.db)
	pence := func(p money.Pence) *money.Pence { return &p }
	for field, change := range map[string]wallet.LimitChange{
		"all":       {All: pence(-1)},
		"call":      {ByAction: map[wallet.Action]*money.Pence{wallet.ActionCall: pence(-1)}},
		"knowledge": {ByAction: map[wallet.Action]*money.Pence{wallet.ActionKnowledge: pence(-1)}},
	} {
		change.OrgID = org
		if err := ledger.SetLimits(t.Context(), change); fieldOf(err) != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if n := d.number(`SELECT count(*) FROM audit_log WHERE action = 'wallet.limits_set'`); n != 0 {
		t.Errorf("%d refused limits were audited", n)
	}
	all := wallet.LimitChange{OrgID: org, All: pence(1), Actor: "user:owner", ByAction: map[wallet.Action]*money.Pence{
		wallet.ActionCall: pence(2), wallet.ActionSMS: pence(3), wallet.ActionNumber: pence(4), wallet.ActionKnowledge: pence(5),
	}}
	for range 2 {
		if err := ledger.SetLimits(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Limits(t.Context(), org)
		if err != nil || l.All == nil || *l.All != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
		for a, most := range all.ByAction {
			if got := l.ByAction[a].Most; got == nil || *got != *most {
				t.Errorf("%s: %v", a, got)
			}
		}
	}
	if n := d.number(`
		SELECT count(*) FROM audit_log WHERE action = 'wallet.limits_set' AND org_id = $1 AND actor = 'user:owner' AND subject = 'wallet:' || $1::uuid::text
		   AND detail = '{"all": 1, "call": 2, "sms": 3, "number": 4, "knowledge": 5}'`, org); n != 2 {
		t.Errorf("%d audit rows", n)
	}
	if l, err := ledger.Limits(t.Context(), other); err != nil || l.All != nil || l.ByAction[wallet.ActionSMS].Most != nil {
		t.Errorf("another organisation's limits: %+v, %v", l, err)
	}
	if err := ledger.SetLimits(t.Context(), wallet.LimitChange{OrgID: org, Actor: "user:owner"}); err != nil {
		t.Fatal(err)
	}
	if l, err := ledger.Limits(t.Context(), org); err != nil || l.All != nil || l.ByAction[wallet.ActionSMS].Most != nil {
		t.Errorf("after none were set: %+v, %v", l, err)
	}
}

// TestFrozen: nothing new is spent from a frozen wallet; what is under way is settled, and money comes in.
func TestFrozen(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	ledger := wallet.New(d.db)
	holds := []wallet.Hold{d.authorise(d.text(org, "0", 1)), d.authorise(d.text(org, "1", 1)), d.authorise(d.text(org, "2", 1)), d.authorise(d.text(org, "3", 1))}
	for _, reason := range []string{"", " \t", strings.Repeat("r", 501)} {
		if err := ledger.Freeze(t.Context(), org, reason, "operator:x"); fieldOf(err) != "reason" {
			t.Errorf("frozen for %.9q: %v", reason, err)
		}
		if err := ledger.Thaw(t.Context(), org, reason, "operator:x"); fieldOf(err) != "reason" {
			t.Errorf("thawed for %.9q: %v", reason, err)
		}
	}
	since := d.clock.Now()
	if err := ledger.Freeze(t.Context(), org, " chargebacks ", "operator:x"); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Minute)
	if err := ledger.Freeze(t.Context(), org, "more chargebacks", "operator:y"); err != nil {
		t.Fatal(err)
	}
	if b := d.balance(org); b.FrozenAt == nil || !b.FrozenAt.Equal(since) || b.FrozenReason != "more chargebacks" {
		t.Errorf("frozen since %v for %q, want %s", b.FrozenAt, b.FrozenReason, since)
	}
	_, err := d.gates.Authorise(t.Context(), d.text(org, "new", 1))
	if f := wantFault(t, "a new one", err, fault.Forbidden, "wallet_frozen"); strings.Contains(f.Error(), "chargebacks") {
		t.Errorf("the operators' reason is told: %v", f)
	}
	_, err = d.gates.Extend(t.Context(), d.settle(holds[0], func(s *wallet.Settlement) { s.Amount = 11 }))
	wantFault(t, "more for an old one", err, fault.Forbidden, "wallet_frozen")
	d.authorise(d.text(other, "new", 1))
	for i, c := range []struct{ operation, want string }{{"send", "in_flight 10"}, {"capture 15", "captured 15"}, {"void", "void 0"}} {
		if got := d.outcome(c.operation, holds[i], false); got != c.want {
			t.Errorf("%s while frozen: %q", c.operation, got)
		}
	}
	if _, err := d.credit(d.payment(org, "pi_1", 5_00)); err != nil {
		t.Error(err)
	}
	if _, err := d.adjust(org, wallet.Adjustment, -1_00, "chargeback"); err != nil {
		t.Error(err)
	}
	d.clock.Advance(time.Hour)
	d.expireAll()
	if h := d.hold(org, holds[3].ID); h.State != wallet.HoldExpired {
		t.Errorf("what nobody settles is %s while frozen", h.State)
	}
	if b := d.balance(org); b.Balance != 10_00-15+5_00-1_00 || b.Held != 10 {
		t.Errorf("%+v", b)
	}

	for range 2 { // the second changes nothing
		if err := ledger.Thaw(t.Context(), org, "paid", "operator:z"); err != nil {
			t.Fatal(err)
		}
	}
	if b := d.balance(org); b.FrozenAt != nil || b.FrozenReason != "" {
		t.Errorf("thawed, it is frozen since %v for %q", b.FrozenAt, b.FrozenReason)
	}
	d.authorise(d.text(org, "new", 1))
	var audited []string
	dbtest.Select(t, d.url, &audited, `
		SELECT concat_ws(' ', action, actor, reason) FROM audit_log WHERE org_id = $1 AND subject = 'wallet:' || $1::uuid::text ORDER BY id`, org)
	want := []string{"wallet.frozen operator:x chargebacks", "wallet.frozen operator:y more chargebacks", "wallet.thawed operator:z paid"}
	if !slices.Equal(audited, want) {
		t.Errorf("audited %q, want %q", audited, want)
	}
}

// TestRefusalsByReason: where several reasons are true, each still refuses when the ones before it are gone.
func TestRefusalsByReason(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 50)
	ledger := wallet.New(d.db)
	h := d.authorise(d.text(org, "overrun", 1))
	if _, err := d.gates.Capture(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount, s.Overrun = 1_00, true })); err != nil {
		t.Fatal(err)
	}
	d.limit(org, 1_00, 1_05)
	if err := ledger.Freeze(t.Context(), org, "r", "operator:x"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind fault.Kind
		code string
		mend func() error
	}{
		{fault.Forbidden, "wallet_frozen", func() error { return ledger.Thaw(t.Context(), org, "r", "operator:x") }},
		{fault.Unpaid, "debt", func() error { _, err := d.adjust(org, wallet.Adjustment, 55, "repay"); return err }},
		{fault.Forbidden, "spending_limit", func() error { d.limit(org, 1_00, -1); return nil }},
		{fault.Forbidden, "spending_limit", func() error { d.limit(org, -1, -1); return nil }},
		{fault.Unpaid, "insufficient_funds", func() error { _, err := d.adjust(org, wallet.Adjustment, 5, "funds"); return err }},
	} {
		_, err := d.gates.Authorise(t.Context(), d.text(org, "key", 1))
		wantFault(t, c.code, err, c.kind, c.code)
		if err := c.mend(); err != nil {
			t.Fatal(err)
		}
	}
	d.authorise(d.text(org, "key", 1))
}

func TestOpenHolds(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	d.authorise(d.text(other, "another's", 1))
	states := []string{"open", "in_flight", "captured", "void", "open"}
	for i, state := range states {
		h := d.authorise(d.text(org, fmt.Sprintf("%d %s", i, state), 1))
		switch state {
		case "in_flight":
			d.outcome("send", h, false)
		case "captured":
			d.outcome("capture whole", h, false)
		case "void":
			d.outcome("void", h, false)
		}
		d.clock.Advance(time.Second)
	}
	for limit, want := range map[int][]string{10: {"4 open", "1 in_flight", "0 open"}, 2: {"4 open", "1 in_flight"}, 0: nil} {
		holds, err := wallet.New(d.db).OpenHolds(t.Context(), org, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range holds {
			got = append(got, h.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("at most %d: %q, want %q", limit, got, want)
		}
	}
	// Nor does the other organisation's transaction see them.
	err := d.db.InTx(t.Context(), []uuid.UUID{other}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.ReadLimits(ctx, tx, org)
		return err
	})
	if err == nil {
		t.Error("another organisation reads the limits")
	}
}
