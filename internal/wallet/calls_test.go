package wallet_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// call asks for a call of so many seconds, 55.3p a minute.
func (d desk) call(org uuid.UUID, key string, seconds int64) wallet.HoldRequest {
	return wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: seconds, Destination: ukMobile, Source: wallet.SourceCall, Key: key, Actor: "key:test"}
}

func (d desk) terms(org, hold uuid.UUID) (terms wallet.CallTerms, err error) {
	d.t.Helper()
	err = d.db.InReadTx(d.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		terms, err = wallet.TermsOfCall(ctx, tx, hold)
		return err
	})
	return terms, err
}

// TestCallTerms: a call is charged by what its hold was made with, whatever the rate card says by then, and another
// organisation cannot read it.
func TestCallTerms(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	h := d.authorise(d.call(org, "before", 60))
	_, err := d.gates.SetPrice(t.Context(), wallet.PriceChange{
		Action: wallet.ActionCall, Prefix: "44", State: wallet.PriceOn, Unit: 79, PerMinute: 7_00, Reason: "Ten times as much", Actor: audit.System("test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(2 * time.Second)
	for hold, want := range map[uuid.UUID][2]int64{h.ID: {84, 85}, d.authorise(d.call(org, "after", 60)).ID: {8_39, 8}} {
		terms, err := d.terms(org, hold)
		if err != nil {
			t.Fatal(err)
		}
		cost, err := terms.Cost(91)
		if err != nil || int64(cost) != want[0] {
			t.Errorf("91 s cost %s, %v; want %dp", cost, err, want[0])
		}
		if seconds, err := terms.Seconds(79); err != nil || seconds != want[1] {
			t.Errorf("79p pay for %d s, %v; want %d", seconds, err, want[1])
		}
	}
	_, err = d.terms(other, h.ID)
	wantFault(t, "another organisation's", err, fault.NotFound, "")
	_, err = d.terms(org, d.authorise(d.text(org, "text", 1)).ID)
	wantFault(t, "a text's", err, fault.NotFound, "")
}

// TestForgetDestination: what has ended forgets whom it was for, once, and what it cost stays; what is under way does not, nor
// does another organisation's.
func TestForgetDestination(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	open, flying := d.authorise(d.text(org, "open", 1)), d.authorise(d.text(org, "flying", 1))
	d.outcome("send", flying, true)
	d.outcome("capture whole", d.authorise(d.text(org, "captured", 1)), false)
	d.outcome("void", d.authorise(d.text(org, "void", 1)), false)
	d.outcome("capture whole", d.authorise(d.text(other, "theirs", 1)), false)
	somebody := d.text(org, "somebody else", 1)
	somebody.Destination = "+447400123999"
	d.outcome("capture whole", d.authorise(somebody), false)
	for i, want := range []int64{2, 0} {
		err := d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			if err := wallet.Lock(ctx, tx, org); err != nil {
				return err
			}
			n, err := wallet.ForgetDestination(ctx, tx, org, ukMobile, "+44•••")
			if n != want {
				t.Errorf("time %d: %d were forgotten, want %d", i+1, n, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := d.number(`SELECT count(*) FROM holds WHERE org_id = $1 AND destination = $2`, org, ukMobile); n != 2 {
		t.Errorf("%d still name the number, want the two that are under way", n)
	}
	if n := d.number(`SELECT count(*) FROM holds WHERE org_id = $1 AND destination = '+44•••' AND state IN ('captured', 'void')`, org); n != 2 {
		t.Errorf("%d are forgotten", n)
	}
	d.outcome("void", open, false)
	d.outcome("capture whole", flying, false)
	if b := d.balance(org); b.Balance != 9_70 || b.Held != 0 {
		t.Errorf("balance %s, held %s", b.Balance, b.Held)
	}
}
