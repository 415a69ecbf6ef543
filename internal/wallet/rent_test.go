package wallet_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// Rent takes what is there, once for each month, whatever stands against spending; the rest is owed.
func TestChargeRent(t *testing.T) {
	d := dbtest.OpenURL(t, dbtest.URL(t), nil)
	org := wallettest.Org(t, d, "Harbour Dental", 1_50)
	charge := func(reference string, amount money.Pence) (tr wallet.Transaction, owed money.Pence, err error) {
		t.Helper()
		err = d.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			tr, owed, err = wallet.ChargeRent(ctx, tx, wallet.RentRequest{OrgID: org, Amount: amount, Reference: reference, Description: "Phone number", Actor: audit.System("test")})
			return err
		})
		return tr, owed, err
	}
	none := money.Pence(0)
	ledger := wallet.New(d)
	if err := ledger.SetLimits(t.Context(), wallet.LimitChange{OrgID: org, All: &none, Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Freeze(t.Context(), org, "test", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	want := func(balance, debt money.Pence) {
		t.Helper()
		found, err := ledger.Balances(t.Context(), []uuid.UUID{org})
		if b := found[org]; err != nil || b.Balance != balance || b.Debt != debt {
			t.Errorf("balance %s, debt %s, %v; want %s, %s", b.Balance, b.Debt, err, balance, debt)
		}
	}
	var first uuid.UUID
	for range 2 {
		tr, owed, err := charge("number:1", 119)
		if err != nil || owed != 0 || tr.Kind != wallet.Rent || tr.Amount != -119 || first != uuid.Nil && tr.ID != first {
			t.Errorf("%+v, %s, %v", tr, owed, err)
		}
		first = tr.ID
		want(31, 0)
	}
	if _, _, err := charge("number:1", 120); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same month at another rent: %v", err)
	}
	for range 2 {
		tr, owed, err := charge("number:2", 119)
		if err != nil || owed != 88 || tr.Amount != -31 || tr.DebtAfter != 88 {
			t.Errorf("%+v, %s, %v", tr, owed, err)
		}
		want(0, 88)
	}
	if _, owed, err := charge("number:3", 119); err != nil || owed != 119 {
		t.Errorf("%s, %v", owed, err)
	}
	want(0, 207)
	for _, amount := range []money.Pence{0, -1} {
		if _, _, err := charge("number:4", amount); err == nil {
			t.Errorf("rent of %d", amount)
		}
	}
	if _, _, err := charge(" ", 1); err == nil {
		t.Error("rent without a reference")
	}
	limits, err := ledger.Limits(t.Context(), org)
	if err != nil || limits.Spent() != 0 {
		t.Errorf("rent counts against the limits: %s, %v", limits.Spent(), err)
	}

	// The wallet's history and days know it.
	balance, lines, err := ledger.Overview(t.Context(), org, 10)
	if err != nil || balance.Debt != 207 || len(lines) != 4 {
		t.Errorf("%+v, %d lines, %v", balance, len(lines), err)
	}
	explained, err := ledger.Explain(t.Context(), org, first)
	if err != nil || explained.Sort() != wallet.Sort(wallet.Rent) || len(explained.Postings) != 2 {
		t.Errorf("%+v, %v", explained, err)
	}
	day := lines[0].At
	days, err := ledger.Days(t.Context(), org, day, day)
	if err != nil || len(days.List) != 1 {
		t.Fatalf("%+v, %v", days, err)
	}
	if times, cost := days.List[0].Used(wallet.ActionNumber); times != 3 || cost != 3*119 {
		t.Errorf("the day has %d numbers for %s", times, cost)
	}

	// So do days that were added up; the check of the books at the end compares.
	err = d.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		for i := range 200 {
			if _, _, err := wallet.ChargeRent(ctx, tx, wallet.RentRequest{OrgID: org, Amount: 1, Reference: fmt.Sprint("many:", i), Description: "Phone number", Actor: audit.System("test")}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := ledger.AddUp(t.Context()); err != nil || n != 1 {
		t.Errorf("%d wallets added up, %v", n, err)
	}
	if days, err = ledger.Days(t.Context(), org, day, day); err != nil {
		t.Fatal(err)
	}
	if times, cost := days.List[0].Used(wallet.ActionNumber); times != 203 || cost != 3*119+200 {
		t.Errorf("added up, the day has %d numbers for %s", times, cost)
	}
}
