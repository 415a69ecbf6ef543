package wallet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

func (d desk) close(org uuid.UUID, reason string) (bonus money.Pence, err error) {
	err = d.in(org, func(ctx context.Context, tx *db.Tx) error {
		bonus, err = wallet.Close(ctx, tx, wallet.Closing{OrgID: org, ID: uuid.New(), Reason: reason, Actor: "operator:test"})
		return err
	})
	return bonus, err
}

// TestClosedAccounts spend nothing, keep what is theirs, and can be opened again.
func TestClosedAccounts(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 20_00)
	if _, err := d.adjust(org, wallet.Bonus, 5_00, "gift"); err != nil {
		t.Fatal(err)
	}
	h := d.authorise(d.text(org, "under way", 3))
	wantFault(t, "while something is under way", second(d.close(org, "asked for")), fault.Conflict, "")
	if _, err := d.gates.Capture(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Whole = true })); err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"", " ", "a\x00b", "a\nb", strings.Repeat("x", 501)} {
		if err := second(d.close(org, reason)); fault.As(err).Field != "reason" {
			t.Errorf("closing for %q: %v", reason, err)
		}
	}
	bonus, err := d.close(org, "asked for")
	if err != nil || bonus != 4_70 {
		t.Fatalf("%s of bonus was written off, %v", bonus, err)
	}
	b := d.balance(org)
	if b.Balance != 20_00 || b.Bonus != 0 || b.ClosedAt == nil || b.ClosedReason != "asked for" {
		t.Errorf("%+v", b)
	}
	_, err = d.gates.Authorise(t.Context(), d.text(org, "closed", 1))
	if f := wantFault(t, "a text", err, fault.Forbidden, "account_closed"); strings.Contains(f.Error(), "asked for") {
		t.Error("the organisation is told why")
	}
	err = d.in(org, func(ctx context.Context, tx *db.Tx) error {
		return wallet.MustBeOpen(ctx, tx, org, "so nothing is begun")
	})
	wantFault(t, "a top-up", err, fault.Forbidden, "account_closed")
	wantFault(t, "closing it again", second(d.close(org, "again")), fault.Conflict, "")
	// Money that still arrives is there, and operators may still correct.
	if _, err := d.credit(d.payment(org, "pi_late", 50_00)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.adjust(org, wallet.Adjustment, -20_00, "paid out by bank transfer"); err != nil {
		t.Fatal(err)
	}

	ledger := wallet.New(d.db)
	if err := ledger.Reopen(t.Context(), wallet.Closing{OrgID: org, Reason: " ", Actor: "operator:test"}); fault.As(err).Field != "reason" {
		t.Errorf("reopening without a reason: %v", err)
	}
	if err := ledger.Reopen(t.Context(), wallet.Closing{OrgID: org, Reason: "came back", Actor: "operator:test"}); err != nil {
		t.Fatal(err)
	}
	d.authorise(d.text(org, "reopened", 1))
	wantFault(t, "reopening an open one", ledger.Reopen(t.Context(), wallet.Closing{OrgID: org, Reason: "x", Actor: "operator:test"}), fault.Conflict, "")
	for action, reason := range map[string]string{"account.closed": "asked for", "account.reopened": "came back"} {
		if n := d.number(`SELECT count(*) FROM audit_log WHERE action = $1 AND reason = $2 AND org_id = $3 AND actor = 'operator:test'`, action, reason, org); n != 1 {
			t.Errorf("%d rows of the audit log tell of %s", n, action)
		}
	}
}

// TestDebtKeepsAccountsOpen: what is owed is settled first.
func TestDebtKeepsAccountsOpen(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 1_00)
	h := d.authorise(d.text(org, "k", 1))
	if _, err := d.gates.Capture(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount, s.Overrun = 3_00, true })); err != nil {
		t.Fatal(err)
	}
	if f := wantFault(t, "in debt", second(d.close(org, "x")), fault.Conflict, ""); !strings.Contains(f.Public, "£2.00 is owed") {
		t.Errorf("says %q", f.Public)
	}
}

// second is the error of two results.
func second[T any](_ T, err error) error { return err }
