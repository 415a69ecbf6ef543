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
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// A statement tells what each charge was for, and agrees with the limits.
func TestStatement(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 500_00), wallettest.Org(t, d.db, "Second Tenant", 0)
	ledger := wallet.New(d.db)
	actions := []wallet.Action{wallet.ActionCall, wallet.ActionSMS, wallet.ActionNumber, wallet.ActionKnowledge}
	for _, action := range actions {
		d.authorise(wallet.HoldRequest{OrgID: org, Action: action, Quantity: 1, Source: wallet.SourceAPI, Key: string(action), AtOnce: true, Actor: audit.System("test")})
	}
	d.authorise(d.text(org, "held", 2))
	s, err := ledger.Statement(t.Context(), org, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range s.Lines {
		got = append(got, string(l.Kind)+" "+string(l.Action))
	}
	if want := []string{"usage knowledge", "usage number", "usage sms", "usage call", "adjustment "}; !slices.Equal(got, want) {
		t.Errorf("the lines are %q, want %q", got, want)
	}
	// 1p for the call, 10p, £10.00 and 1p; and 20p are held.
	if s.Balance.Held != 20 || s.Balance.Balance != 500_00-10_12 || s.Limits.Spent() != 10_32 {
		t.Errorf("the balance is %s, %s held, %s spent", s.Balance.Balance, s.Balance.Held, s.Limits.Spent())
	}
	if s, err := ledger.Statement(t.Context(), org, 2); err != nil || len(s.Lines) != 2 || s.Lines[0].Action != wallet.ActionKnowledge {
		t.Errorf("the newest two: %+v, %v", s.Lines, err)
	}
	if s, err := ledger.Statement(t.Context(), other, 10); err != nil || len(s.Lines) != 0 || s.Balance.Balance != 0 {
		t.Errorf("another organisation: %+v, %v", s, err)
	}
	if _, err := ledger.Statement(t.Context(), uuid.New(), 10); !fault.Is(err, fault.NotFound) {
		t.Errorf("no wallet: %v", err)
	}
}

func TestSurvey(t *testing.T) {
	d := newDesk(t)
	ledger := wallet.New(d.db)
	orgs := wallettest.Orgs(t, d.db, 120, 1_00) // "Organisation 1" and so on
	dbtest.Super(t, d.url, `UPDATE organizations SET name = 'Ärzte 100% _ "Mitte"' WHERE id = $1`, orgs[7])
	if err := ledger.Freeze(t.Context(), orgs[3], "chargebacks", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	d.authorise(d.text(orgs[4], "k", 3))
	all := func(f wallet.SurveyFilter) (found []wallet.Surveyed) {
		t.Helper()
		for range 10 {
			list, more, err := ledger.Survey(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) > 50 || more && len(list) != 50 {
				t.Fatalf("a page of %d, more %t", len(list), more)
			}
			found = append(found, list...)
			if !more {
				return found
			}
			f.After = list[len(list)-1].OrgID
		}
		t.Fatal("the pages do not end")
		return nil
	}
	found := all(wallet.SurveyFilter{})
	seen := map[uuid.UUID]bool{}
	for _, w := range found {
		if seen[w.OrgID] {
			t.Errorf("%s is listed twice", w.Name)
		}
		seen[w.OrgID] = true
		if frozen := w.FrozenAt != nil; frozen != (w.OrgID == orgs[3]) {
			t.Errorf("%s is frozen: %t", w.Name, frozen)
		}
		if spent := w.Spent; (spent == 30) != (w.OrgID == orgs[4]) || w.Held != spent || w.Balance.Balance != 1_00 {
			t.Errorf("%s: %s spent, %s held, %s", w.Name, spent, w.Held, w.Balance.Balance)
		}
	}
	if len(seen) != len(orgs) {
		t.Errorf("%d of %d wallets are listed", len(seen), len(orgs))
	}
	for name, n := range map[string]int{"ORGANISATION 11": 11, "sation 120": 1, "nobody": 0, "100%": 1, "_": 1, `"mitte"`: 1, "ärzte": 1, "%": 1} {
		if list := all(wallet.SurveyFilter{Name: name}); len(list) != n {
			t.Errorf("%q finds %d, want %d", name, len(list), n)
		}
	}
	if list := all(wallet.SurveyFilter{Show: wallet.SurveyFrozen}); len(list) != 1 || list[0].OrgID != orgs[3] || list[0].FrozenReason != "chargebacks" {
		t.Errorf("frozen: %+v", list)
	}
	if list := all(wallet.SurveyFilter{Show: wallet.SurveyDebt}); len(list) != 0 {
		t.Errorf("in debt: %+v", list)
	}
	if list := all(wallet.SurveyFilter{After: uuid.New()}); len(list) != 0 {
		t.Errorf("after nobody: %d", len(list))
	}
	// A month that is over counts for nothing, also where nothing was decided since.
	d.clock.Advance(31 * 24 * time.Hour)
	if list := all(wallet.SurveyFilter{Name: "Organisation 5"}); len(list) == 0 || list[0].Spent != 0 {
		t.Errorf("a month later: %+v", list)
	}
	if name, err := ledger.Holder(t.Context(), orgs[0]); err != nil || name != "Organisation 1" {
		t.Errorf("the holder is %q, %v", name, err)
	}
	if _, err := ledger.Holder(t.Context(), uuid.New()); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	d.expireAll()
}

// TestPriceLines: each line has its history, with what counts now and what next.
func TestPriceLines(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	ledger := wallet.New(d.db)
	operator := uuid.Must(uuid.NewV7())
	dbtest.Super(t, d.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, 'local', 'o', 'operator@ringfence.example', now())`, operator)
	set := func(unit money.Pence, in time.Duration, owner uuid.UUID) wallet.Price {
		return d.setPrice(wallet.PriceChange{OrgID: owner, Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: unit, StartsAt: d.clock.Now().Add(in), Reason: fmt.Sprint(unit), Actor: audit.Operator(operator)})
	}
	now, soon, later := set(11, 0, uuid.Nil), set(12, time.Hour, uuid.Nil), set(13, 2*time.Hour, uuid.Nil)
	again := set(14, time.Hour, uuid.Nil) // instead of soon
	own := set(5, time.Hour, org)

	find := func(owner uuid.UUID) (l wallet.PriceLine) {
		t.Helper()
		lines, err := ledger.PriceLines(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		at := func(l wallet.PriceLine) string { return fmt.Sprint(slices.Index(wallet.Actions, l.Action)) + l.Prefix }
		if !slices.IsSortedFunc(lines, func(a, b wallet.PriceLine) int { return strings.Compare(at(a), at(b)) }) {
			t.Error("the lines are not in their order")
		}
		for _, line := range lines {
			if line.Action == wallet.ActionSMS && line.Prefix == "44" {
				l = line
			}
		}
		return l
	}
	l := find(uuid.Nil)
	var ids []int64
	for _, v := range l.Versions {
		ids = append(ids, v.ID)
		if v.Author == string(audit.Operator(operator)) != (v.Email == "operator@ringfence.example") {
			t.Errorf("version %d by %s has the address %q", v.ID, v.Author, v.Email)
		}
	}
	if len(ids) != 5 || !slices.Equal(ids[:4], []int64{later.ID, again.ID, soon.ID, now.ID}) {
		t.Errorf("the versions are %v", ids)
	}
	if l.InForce == nil || l.InForce.ID != now.ID || l.Next == nil || l.Next.ID != again.ID {
		t.Errorf("in force is %+v, next %+v", l.InForce, l.Next)
	}
	if l = find(org); len(l.Versions) != 1 || l.InForce != nil || l.Next.ID != own.ID {
		t.Errorf("the organisation's own line: %+v", l)
	}
	d.clock.Advance(time.Hour)
	if l = find(uuid.Nil); l.InForce.ID != again.ID || l.Next.ID != later.ID {
		t.Errorf("an hour later: %+v, %+v", l.InForce, l.Next)
	}
	if l = find(org); l.InForce.ID != own.ID || l.Next != nil {
		t.Errorf("an hour later the organisation's: %+v", l)
	}
	owners, err := ledger.PriceOwners(t.Context())
	if err != nil || len(owners) != 1 || owners[0].OrgID != org || owners[0].Name != "Harbour Dental" {
		t.Errorf("the owners are %v, %v", owners, err)
	}
}

// A preview says what SetPrice then does, and does nothing itself.
func TestPreviewPrice(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	change := wallet.PriceChange{Action: wallet.ActionSMS, Prefix: " +4479 ", State: wallet.PriceOn, Unit: 20, Reason: " dear ", Actor: audit.System("test")}
	rows := d.number(`SELECT count(*) FROM prices`) + d.number(`SELECT count(*) FROM audit_log`)
	preview := func(c wallet.PriceChange) wallet.PricePreview {
		t.Helper()
		p, err := d.gates.PreviewPrice(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := preview(change)
	if !p.Offered || p.Was.Prefix != "44" || p.Was.Unit != 10 || !p.ThenOffered || p.Then.Unit != 20 || p.Latest != 0 || len(p.Later) != 0 ||
		p.Change.Prefix != "4479" || p.Change.Reason != "dear" || !p.Change.StartsAt.IsZero() {
		t.Errorf("a new line: %+v", p)
	}
	france := change
	france.Prefix = "33"
	if p := preview(france); p.Offered || !p.ThenOffered {
		t.Errorf("a country that was shut: %+v", p)
	}
	off := change
	off.State = wallet.PriceOff
	if p := preview(off); !p.Offered || p.ThenOffered {
		t.Errorf("shutting: %+v", p)
	}
	for field, spoil := range map[string]func(*wallet.PriceChange){
		"reason": func(c *wallet.PriceChange) { c.Reason = " " },
		"prefix": func(c *wallet.PriceChange) { c.Prefix = "0" },
		"unit":   func(c *wallet.PriceChange) { c.Unit = 0 },
		"state":  func(c *wallet.PriceChange) { c.State = wallet.PriceInherit },
	} {
		c := change
		spoil(&c)
		if _, err := d.gates.PreviewPrice(t.Context(), c); fieldOf(err) != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if n := d.number(`SELECT count(*) FROM prices`) + d.number(`SELECT count(*) FROM audit_log`); n != rows {
		t.Errorf("previews left %d rows", n-rows)
	}

	// An organisation's own price, its end, and what is scheduled after that.
	own := change
	own.OrgID, own.Prefix, own.Unit = org, "44", 7
	set, err := d.gates.SetPrice(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	if amount, _, err := d.gates.Quote(t.Context(), d.text(org, "", 1)); err != nil || amount != 7 {
		t.Errorf("a text costs %s at once after the change, %v", amount, err)
	}
	tomorrow := own
	tomorrow.Unit, tomorrow.StartsAt = 8, d.clock.Now().Add(24*time.Hour)
	next, err := d.gates.SetPrice(t.Context(), tomorrow)
	if err != nil {
		t.Fatal(err)
	}
	end := own
	end.State, end.StartsAt = wallet.PriceInherit, d.clock.Now().Add(-time.Hour)
	p = preview(end)
	if p.Was.ID != set.ID || !p.ThenOffered || p.Then.Unit != 10 || p.Then.OrgID.Valid || p.Latest != next.ID || len(p.Later) != 1 || p.Later[0].ID != next.ID || !p.Change.StartsAt.IsZero() {
		t.Errorf("the end of an own price: %+v", p)
	}
	end.StartsAt = d.clock.Now().Add(48 * time.Hour)
	if p = preview(end); len(p.Later) != 0 || !p.Change.StartsAt.Equal(end.StartsAt) {
		t.Errorf("an end after all that is scheduled: %+v", p)
	}
	if _, err := d.gates.SetPrice(t.Context(), wallet.PriceChange{}); fieldOf(err) != "action" {
		t.Errorf("a bad change: %v", err)
	}
}

// The tenants' role may not write a price, whoever asks it to.
func TestPricesAreTheSystems(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	err := d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.SetPrice(ctx, tx, wallet.PriceChange{OrgID: org, Action: wallet.ActionSMS, State: wallet.PriceOn, Unit: 1, Reason: "mine", Actor: audit.System("test")})
		return err
	})
	if err == nil {
		t.Error("an organisation set a price")
	}
}
