package wallet_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// TestSuspended: a suspended organisation spends nothing new and is topped up with nothing; what is under way is settled,
// rent goes on, and it can work again.
func TestSuspended(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	ledger := wallet.New(d.db)
	h := d.authorise(d.text(org, "under way", 1))
	s := wallet.Suspension{OrgID: org, Actor: "operator:test"}
	for _, s.Reason = range []string{"", " ", "a\x00b", "a\nb", strings.Repeat("x", 501)} {
		if err := ledger.Suspend(t.Context(), s); fault.As(err).Field != "reason" {
			t.Errorf("suspended for %.9q: %v", s.Reason, err)
		}
	}
	s.Reason = "fraud"
	wantFault(t, "one that works", ledger.Unsuspend(t.Context(), s), fault.Conflict, "")
	// Of several operators at once one does it, and the others learn of that.
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = ledger.Suspend(t.Context(), s) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else {
			wantFault(t, "suspended already", err, fault.Conflict, "")
		}
	}
	if n := d.number(`SELECT count(*) FROM audit_log WHERE action = 'organisation.suspended' AND reason = 'fraud' AND org_id = $1 AND actor = 'operator:test'`, org); done != 1 || n != 1 {
		t.Errorf("%d of 4 suspended it, and %d rows tell of it", done, n)
	}

	_, err := d.gates.Authorise(t.Context(), d.text(org, "new", 1))
	if f := wantFault(t, "a text", err, fault.Forbidden, "suspended"); strings.Contains(f.Error(), "fraud") {
		t.Error("the organisation is told why")
	}
	_, err = d.gates.Extend(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount = 11 }))
	wantFault(t, "more for what is under way", err, fault.Forbidden, "suspended")
	err = d.in(org, func(ctx context.Context, tx *db.Tx) error {
		return wallet.MustBeOpen(ctx, tx, org, "so nothing is begun")
	})
	wantFault(t, "a top-up", err, fault.Forbidden, "suspended")
	d.authorise(d.text(other, "new", 1))
	if got := d.outcome("capture 10", h, false); got != "captured 10" {
		t.Errorf("what was under way: %q", got)
	}
	err = d.in(org, func(ctx context.Context, tx *db.Tx) error {
		_, _, err := wallet.ChargeRent(ctx, tx, wallet.RentRequest{OrgID: org, Amount: 1_19, Reference: "number:1", Description: "Phone number", Actor: audit.System("test")})
		return err
	})
	if err != nil {
		t.Errorf("rent: %v", err)
	}
	if b := d.balance(org); b.Balance != 8_71 || b.SuspendedAt == nil || b.SuspendedReason != "fraud" {
		t.Errorf("%+v", b)
	}
	list, _, err := ledger.Survey(t.Context(), wallet.SurveyFilter{Show: wallet.SurveySuspended})
	if err != nil || len(list) != 1 || list[0].OrgID != org {
		t.Errorf("the suspended are %+v, %v", list, err)
	}

	s.Reason = "paid"
	if err := ledger.Unsuspend(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	d.authorise(d.text(org, "again", 1))
	if b := d.balance(org); b.SuspendedAt != nil || b.SuspendedReason != "" {
		t.Errorf("%+v", b)
	}
	if n := d.number(`SELECT count(*) FROM organizations WHERE suspended_at IS NOT NULL`); n != 0 {
		t.Error("its people are still kept out")
	}
}
