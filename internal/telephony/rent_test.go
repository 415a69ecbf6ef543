package telephony_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

func TestMonthsAfter(t *testing.T) {
	at := func(s string) time.Time {
		when, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		from string
		n    int
		want string
	}{
		{"2026-03-02 09:30", 1, "2026-04-02 09:30"},
		{"2026-01-31 23:59", 1, "2026-02-28 23:59"},
		{"2026-01-31 23:59", 2, "2026-03-31 23:59"},
		{"2028-01-30 00:00", 1, "2028-02-29 00:00"},
		{"2026-12-31 12:00", 2, "2027-02-28 12:00"},
		{"2026-05-31 12:00", 13, "2027-06-30 12:00"},
	} {
		if got := telephony.MonthsAfter(at(c.from), c.n); !got.Equal(at(c.want)) {
			t.Errorf("%d months after %s is %s", c.n, c.from, got)
		}
	}
}

// adjust gives to a wallet, or takes from it.
func (s *shop) adjust(org uuid.UUID, p money.Pence) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: org, Kind: wallet.Adjustment, Amount: p, Reason: "Test", Reference: uuid.NewString(), Actor: audit.System("test")})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) rents() (n int) {
	s.t.Helper()
	n, err := s.SweepRents(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// notices are what was raised, by kind.
func (s *shop) notices() (kinds []string, data []map[string]any) {
	s.t.Helper()
	var rows []struct {
		Kind string `db:"kind"`
		Data string `db:"data"`
	}
	dbtest.Select(s.t, s.dbURL, &rows, `SELECT kind, data FROM notices ORDER BY id`)
	for _, r := range rows {
		figures := map[string]any{}
		if err := json.Unmarshal([]byte(r.Data), &figures); err != nil {
			s.t.Fatal(err)
		}
		kinds, data = append(kinds, r.Kind), append(data, figures)
	}
	return kinds, data
}

// at moves the clock to a moment.
func (s *shop) at(when time.Time) {
	s.t.Helper()
	s.clock.Advance(when.Sub(s.clock.Now()))
}

func TestRent(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	first := *n.PaidUntil
	s.at(first.Add(-time.Second))
	if charged := s.rents(); charged != 0 {
		t.Errorf("%d months charged before the first had ended", charged)
	}
	s.wantWallet(s.org, 20_00, 0, 0)
	s.at(first)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := s.SweepRents(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.wantWallet(s.org, 18_81, 0, 0)
	if n = s.number(n); n.Months != 1 || !n.PaidUntil.Equal(telephony.MonthsAfter(*n.ActivatedAt, 2)) || n.UnpaidSince != nil {
		t.Errorf("%+v", n)
	}
	var lines []string
	dbtest.Select(t, s.dbURL, &lines, `SELECT description FROM ledger_transactions WHERE kind = 'rent'`)
	if len(lines) != 1 || lines[0] != "Phone number "+n.PhoneNumber+", 2 April 2026 to 2 May 2026" {
		t.Errorf("the wallet's history says %q", lines)
	}

	// The sweeper was away for three months: each is charged once.
	s.at(telephony.MonthsAfter(*n.ActivatedAt, 4).Add(time.Hour))
	if charged := s.rents() + s.rents(); charged != 3 {
		t.Errorf("%d months were made up for", charged)
	}
	s.wantWallet(s.org, 20_00-4*rent, 0, 0)

	// From the moment of releasing on nothing is charged, though the provider keeps it for months, and nothing is given back.
	s.faults(sandbox.Fault{Match: sandbox.ReleaseNumber, Do: sandbox.FaultRefuse, Code: 21710, Times: -1})
	n = s.release(n)
	s.clock.Advance(100 * 24 * time.Hour)
	s.rents()
	s.wantWallet(s.org, 20_00-4*rent, 0, 0)
	s.faults()
	s.run(n)
	s.rents()
	s.wantWallet(s.org, 20_00-4*rent, 0, 0)
	if kinds, _ := s.notices(); len(kinds) != 0 {
		t.Errorf("told %v of rent that the wallet covers", kinds)
	}
}

// Owners are told a week ahead of rent that the wallet would not cover with what else is due by then, once for each month,
// and within the week where it is spent only then.
func TestRentDueIsTold(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	s.clock.Advance(time.Hour)
	second := s.have(s.choose(1)[0], "second")
	s.adjust(s.org, -10_00+2*rent-1) // a penny less than both
	first := *n.PaidUntil
	s.at(first.Add(-8 * 24 * time.Hour))
	s.rents()
	if kinds, _ := s.notices(); len(kinds) != 0 {
		t.Errorf("told too early: %v", kinds)
	}
	s.at(second.PaidUntil.Add(-7 * 24 * time.Hour))
	for range 3 {
		s.rents()
	}
	kinds, data := s.notices()
	if len(kinds) != 1 || kinds[0] != "number_rent_due" || data[0]["phone_number"] != second.PhoneNumber || data[0]["number_id"] != second.ID.String() ||
		data[0]["amount_pence"] != 119. || data[0]["needed_pence"] != 238. || data[0]["available_pence"] != 237. || data[0]["due_at"] != second.PaidUntil.UTC().Format(time.RFC3339) {
		t.Errorf("told %v, %v", kinds, data)
	}
	s.adjust(s.org, -rent) // what the first one needs is spent within the week
	s.clock.Advance(24 * time.Hour)
	for range 3 {
		s.rents()
	}
	if kinds, data := s.notices(); len(kinds) != 2 || data[1]["phone_number"] != n.PhoneNumber || data[1]["needed_pence"] != 119. || data[1]["available_pence"] != 118. {
		t.Errorf("told %v, %v", kinds, data)
	}
	s.adjust(s.org, 30_00)
	s.at(telephony.MonthsAfter(*second.ActivatedAt, 3))
	s.rents()
	if kinds, _ := s.notices(); len(kinds) != 2 {
		t.Errorf("told %v of months that the wallet covered", kinds)
	}
}

// A number is released only when its owner was told so the notice period ago, whatever its row says: else they are told now.
func TestReleasedOnlyWhenTold(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	s.adjust(s.org, -20_00)
	s.at(*n.PaidUntil)
	s.rents()
	// The row alone is older than what its owner was told.
	s.clock.Advance(time.Hour)
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET unpaid_since = unpaid_since - interval '14 days' WHERE id = $1`, n.ID)
	for range 2 {
		s.rents()
	}
	s.wantState(n, telephony.NumberActive, "")
	if kinds, data := s.notices(); len(kinds) != 2 || kinds[1] != "number_rent_unpaid" || data[1]["release_at"] != s.clock.Now().Add(telephony.NoticePeriod).UTC().Format(time.RFC3339) || data[1]["owed_pence"] != 119. {
		t.Errorf("told %v, %v", kinds, data)
	}
	s.clock.Advance(telephony.NoticePeriod - time.Second)
	s.rents()
	s.wantState(n, telephony.NumberActive, "")
	s.clock.Advance(time.Second)
	for range 2 {
		s.rents()
	}
	s.wantState(n, telephony.NumberReleasing, "")
	s.run(s.number(n))
	kinds, _ := s.notices()
	if got := strings.Join(kinds, " "); got != "number_rent_unpaid number_rent_unpaid number_released" {
		t.Errorf("told %s", got)
	}
}

// The price of a month is the one that the number was bought at.
func TestRentKeepsItsPrice(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	err := s.db.InSystemTx(t.Context(), "a test's price", func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.SetPrice(ctx, tx, wallet.PriceChange{Action: wallet.ActionNumber, State: wallet.PriceOn, Unit: 5_00, Monthly: 2_50, Reason: "Dearer", Actor: audit.System("test")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(2 * time.Second)
	dear := s.have(s.choose(1)[0], "dear")
	if dear.Monthly != 2_50 {
		t.Errorf("the new one costs %s a month", dear.Monthly)
	}
	s.wantWallet(s.org, 15_00, 0, 0)
	s.at(dear.PaidUntil.Add(time.Second))
	s.rents()
	s.wantWallet(s.org, 15_00-rent-2_50, 0, 0)
	if n = s.number(n); n.Months != 1 {
		t.Errorf("%+v", n)
	}
}

// What the wallet does not have is owed; a number whose rent is still owed after two weeks is given back, and its owner is
// told each time.
func TestRentUnpaid(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	agent := s.agent(n)
	s.adjust(s.org, -19_00)
	due := *n.PaidUntil
	s.at(due)
	s.rents()
	s.wantWallet(s.org, 0, 0, 19)
	n = s.number(n)
	if n.UnpaidSince == nil || !n.ReleaseDue().Equal(due.Add(14*24*time.Hour)) {
		t.Fatalf("%+v", n)
	}
	s.wantState(n, telephony.NumberActive, "")
	s.at(n.ReleaseDue().Add(-time.Second))
	s.rents()
	s.wantState(n, telephony.NumberActive, "")
	s.at(*n.ReleaseDue())
	for range 2 {
		s.rents()
	}
	n = s.number(n)
	if n.State != telephony.NumberReleasing || n.ReleaseReason != "Its rent was not paid" || n.ReleasedBy != "system:numbers" {
		t.Errorf("%+v", n)
	}
	if s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id IS NOT NULL`, agent) != 0 {
		t.Error("an agent still has it")
	}
	n = s.run(n)
	s.wantState(n, telephony.NumberReleased, "")
	s.wantAgree()
	kinds, data := s.notices()
	if got := strings.Join(kinds, " "); got != "number_rent_unpaid number_released" && got != "number_rent_due number_rent_unpaid number_released" {
		t.Errorf("told %s", got)
	}
	for i, k := range kinds {
		if k == "number_rent_unpaid" && (data[i]["amount_pence"] != 119. || data[i]["owed_pence"] != 19. || data[i]["release_at"] != "2026-04-16T09:30:00Z") {
			t.Errorf("told %v", data[i])
		}
	}
	s.wantWallet(s.org, 0, 0, 19) // what is owed stays owed
}

// Whoever pays within the two weeks keeps the number.
func TestRentPaidLate(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	s.adjust(s.org, -20_00)
	s.at(*n.PaidUntil)
	s.rents()
	s.wantWallet(s.org, 0, 0, rent)
	s.clock.Advance(13 * 24 * time.Hour)
	s.adjust(s.org, 5_00)
	s.rents()
	s.clock.Advance(10 * 24 * time.Hour)
	s.rents()
	if n = s.number(n); n.State != telephony.NumberActive || n.UnpaidSince != nil {
		t.Errorf("%+v", n)
	}
	s.wantWallet(s.org, 5_00-rent, 0, 0)
	// Debt that is no rent gives no number back; a freeze does not keep rent from being charged.
	dbtest.Super(t, s.dbURL, `UPDATE wallets SET frozen_at = now(), frozen_reason = 'test', cap_number_pence = 0 WHERE org_id = $1`, s.org)
	s.at(*n.PaidUntil)
	s.rents()
	s.wantWallet(s.org, 5_00-2*rent, 0, 0)
	if n = s.number(n); n.UnpaidSince != nil {
		t.Error("a month that was paid is owed")
	}
}

// A charge that cannot be stored is made up for, once.
func TestRentFails(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	s.at(*n.PaidUntil)
	dbtest.Super(t, s.dbURL, `
		CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';
		CREATE TRIGGER planted BEFORE UPDATE ON numbers FOR EACH ROW WHEN (NEW.months > 0) EXECUTE FUNCTION planted()`)
	if _, err := s.SweepRents(t.Context()); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Errorf("the sweep says %v", err)
	}
	s.wantWallet(s.org, 20_00, 0, 0)
	dbtest.Super(t, s.dbURL, `DROP TRIGGER planted ON numbers; DROP FUNCTION planted`)
	s.rents()
	s.wantWallet(s.org, 20_00-rent, 0, 0)
}

// A month that begins after the day on which the number was to be given back is not charged, however late the sweep comes.
func TestRentSweptLate(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	s.adjust(s.org, -20_00)
	s.at(*n.PaidUntil)
	s.rents()
	s.wantWallet(s.org, 0, 0, rent)
	s.at(s.number(n).PaidUntil.Add(time.Hour)) // for a month nobody swept
	s.rents()
	s.wantWallet(s.org, 0, 0, rent)
	if n = s.number(n); n.State != telephony.NumberReleasing || n.Months != 1 {
		t.Errorf("%s after %d months", n.State, n.Months)
	}
	s.run(n)
	// Whoever repaid what was owed in time keeps the number, and pays for the month.
	s.adjust(s.org, price+2*rent)
	kept := s.have(s.choose(1)[0], "kept")
	s.adjust(s.org, -rent)
	s.at(*kept.PaidUntil)
	s.rents()
	s.wantWallet(s.org, 0, 0, rent)
	s.adjust(s.org, 3*rent)
	s.at(s.number(kept).PaidUntil.Add(time.Hour))
	for range 2 {
		s.rents()
	}
	s.wantWallet(s.org, rent, 0, 0)
	if kept = s.number(kept); kept.State != telephony.NumberActive || kept.Months != 2 || kept.UnpaidSince != nil {
		t.Errorf("%s after %d months, owed since %v", kept.State, kept.Months, kept.UnpaidSince)
	}
}

// TestRentAtMonthEnds: a number that became active on a 31st is charged on the last day of each month, and on the 31st again where
// there is one.
func TestRentAtMonthEnds(t *testing.T) {
	s := newShop(t)
	s.at(time.Date(2027, 1, 31, 23, 59, 0, 0, time.UTC))
	n := s.have(s.choose(1)[0], "k")
	for i, want := range []string{"2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"} {
		if got := s.number(n).PaidUntil.Format(time.DateOnly); got != want {
			t.Errorf("after %d months it is paid until %s, want %s", i, got, want)
		}
		s.at(*s.number(n).PaidUntil)
		if charged := s.rents(); charged != 1 {
			t.Errorf("on %s %d months are charged", want, charged)
		}
	}
}
