package payments_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/internal/wallet"
)

func (c *counter) closing(plan payments.ClosingPlan) payments.ClosingRequest {
	return payments.ClosingRequest{ID: uuid.New(), OrgID: c.org, Reason: "TICKET-8: leaves us", Parts: plan.Withdrawal.Text(), Actor: "operator:test"}
}

// TestCloseAccount: what came from cards goes back to them, the bonus ends, what no card takes stays, and its people are
// told; nothing is topped up any more, and what arrives all the same is there.
func TestCloseAccount(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "30")
	c.adjust(wallet.Bonus, 10_00, "gift")
	c.adjust(wallet.Adjustment, 15_00, "by transfer")
	before := c.start("25") // a page that is open somewhere
	plan, err := c.svc.PlanClosing(t.Context(), c.org)
	if err != nil || plan.PaysBack != 80_00 || plan.Bonus != 10_00 || plan.Stays != 15_00 {
		t.Fatalf("%+v, %v", plan, err)
	}
	r := c.closing(plan)
	for _, spoil := range []func(*payments.ClosingRequest){
		func(r *payments.ClosingRequest) { r.Reason = "" },
		func(r *payments.ClosingRequest) { r.Parts = "" },
	} {
		bad := r
		spoil(&bad)
		_, err := c.svc.CloseAccount(t.Context(), bad)
		if _, changed := errors.AsType[*payments.PlanChangedError](err); !changed && (err == nil || fault.As(err).Field != "reason") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	c.want("refused", purse{Balance: 105_00, Bonus: 10_00})
	if _, err := c.svc.CloseAccount(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	c.want("closed", purse{Balance: 95_00, Reserved: 80_00, Parts: "open 5000, open 3000"})
	if _, err := c.svc.CloseAccount(t.Context(), r); !fault.Is(err, fault.Conflict) {
		t.Errorf("closing it again: %v", err)
	}
	if n := c.count(`SELECT count(*) FROM notices WHERE org_id = $1 AND kind = 'account_closed' AND subject = $2 AND data = '{"paying_back_pence": 8000, "stays_pence": 1500, "bonus_pence": 1000}'`, c.org, r.ID.String()); n != 1 {
		t.Errorf("%d notices tell of it", n)
	}
	if n := c.count(`SELECT count(*) FROM audit_log WHERE org_id = $1 AND action = 'account.closed' AND reason = 'TICKET-8: leaves us' AND actor = 'operator:test'`, c.org); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
	c.payBack(payments.Withdrawal{ID: r.ID})
	c.want("paid back", purse{Balance: 15_00, AtStripe: 80_00, Parts: "refunded 5000, refunded 3000"})
	_, lines, err := wallet.New(c.db).Overview(t.Context(), c.org, 3)
	if err != nil || lines[0].Description != "Refund to your card: your account was closed" || lines[2].Description != "Bonus that ended with the account" || lines[2].Amount != -10_00 {
		t.Errorf("%+v, %v", lines, err)
	}

	if _, err := c.svc.StartTopUp(t.Context(), c.org, c.user, "20", "gbp"); fault.As(err) == nil || fault.As(err).Code != "account_closed" {
		t.Errorf("a top-up of a closed account: %v", err)
	}
	if _, err := c.svc.StartTopUp(t.Context(), c.org, c.user, "25", "gbp"); fault.As(err) == nil || fault.As(err).Code != "account_closed" {
		t.Errorf("the top-up that was open: %v", err)
	}
	s, err := c.api.CheckoutSessions.Get(before.SessionID, nil)
	if err != nil || s.Status != stripe.CheckoutSessionStatusExpired {
		t.Errorf("the page that was open is %+v, %v", s, err)
	}
	c.hear()
	// A refund that fails is there again, and can be paid back from the closed account.
	var refund string
	for _, p := range mustParts(t, c) {
		if p.Amount == 30_00 {
			refund = p.RefundID
		}
	}
	c.control("/refunds/"+refund+"/fail", nil)
	c.hear()
	c.want("a refund that failed", purse{Balance: 45_00, AtStripe: 50_00, Parts: "refunded 5000, refunded 3000"})
	c.payBack(c.withdraw(30_00))
	c.want("paid back again", purse{Balance: 15_00, AtStripe: 80_00, Parts: "refunded 5000, refunded 3000, refunded 3000"})

	if err := wallet.New(c.db).Reopen(t.Context(), wallet.Closing{OrgID: c.org, Reason: "came back", Actor: "operator:test"}); err != nil {
		t.Fatal(err)
	}
	c.press(c.start("25"), "pay")
	c.hear()
	if got := c.purse().Balance; got != 40_00 {
		t.Errorf("%s after a top-up of the reopened account", got)
	}
}

func mustParts(t *testing.T, c *counter) []payments.WithdrawalPart {
	t.Helper()
	list, err := c.svc.Withdrawals(t.Context(), c.org, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	return list[0].Parts
}

// TestClosingWaits for what is under way and for what is owed; a wallet with nothing in it just closes, whatever Stripe says.
func TestClosingWaits(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50")
	c.hold(100)
	plan, err := c.svc.PlanClosing(t.Context(), c.org)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.As(err).Public, "£10.00 is on hold") || plan.PaysBack != money.Pence(40_00) {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := c.svc.CloseAccount(t.Context(), c.closing(plan)); !fault.Is(err, fault.Conflict) {
		t.Errorf("with something on hold: %v", err)
	}
	c.control("/charges/"+c.chargeOf(50_00)+"/refund", nil)
	c.hear()
	c.clock.Advance(16 * time.Minute)
	if _, err := wallet.NewGates(wallet.GateOptions{DB: c.db, Now: c.clock.Now}).Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if plan, err = c.svc.PlanClosing(t.Context(), c.org); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.As(err).Public, "£10.00 is owed") {
		t.Errorf("in debt: %+v, %v", plan, err)
	}
	c.adjust(wallet.Adjustment, 10_00, "write-off")
	c.adjust(wallet.Adjustment, -10_00, "taken")
	c.start("20")
	c.faults(sandbox.Fault{Match: "POST /v1/checkout/sessions/*/expire", Do: sandbox.Fault503, Times: -1})
	if plan, err = c.svc.PlanClosing(t.Context(), c.org); err != nil || plan.PaysBack+plan.Stays+plan.Bonus != 0 {
		t.Errorf("empty: %+v, %v", plan, err)
	}
	if _, err := c.svc.CloseAccount(t.Context(), c.closing(plan)); err != nil {
		t.Errorf("an empty wallet: %v", err)
	}
	if n := c.count(`SELECT count(*) FROM withdrawals`); n != 0 {
		t.Errorf("%d withdrawals of nothing", n)
	}
}

// TestClosingAsksOthers: what goes on elsewhere keeps an account open, and says why; it is asked in the transaction that closes.
func TestClosingAsksOthers(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50")
	goesOn := true
	svc := c.service(func(o *payments.Options) {
		o.MayClose = func(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
			var n int
			if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM wallets WHERE org_id = $1`, org); err != nil || n != 1 {
				t.Errorf("asked about %s: %d wallets, %v", org, n, err)
			}
			if goesOn {
				return fault.New(fault.Conflict, "It has a boat.")
			}
			return nil
		}
	})
	plan, err := svc.PlanClosing(t.Context(), c.org)
	if !fault.Is(err, fault.Conflict) || fault.As(err).Public != "It has a boat." || plan.PaysBack != 50_00 {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := svc.CloseAccount(t.Context(), c.closing(plan)); !fault.Is(err, fault.Conflict) {
		t.Errorf("closed with a boat: %v", err)
	}
	c.want("refused", purse{Balance: 50_00})
	goesOn = false
	if _, err := svc.CloseAccount(t.Context(), c.closing(plan)); err != nil {
		t.Fatal(err)
	}
	goesOn = true // a closed account is said to be closed
	if _, err := svc.PlanClosing(t.Context(), c.org); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.As(err).Public, "closed already") {
		t.Errorf("closed: %v", err)
	}
}

// TestClosingForgetsTheCard: what an owner had allowed ends with the account, and opening it again brings nothing back.
func TestClosingForgetsTheCard(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	plan, err := d.svc.PlanClosing(t.Context(), d.org)
	if err != nil {
		t.Fatal(err)
	}
	r := payments.ClosingRequest{ID: uuid.Must(uuid.NewV7()), OrgID: d.org, Parts: plan.Withdrawal.Text(), Reason: "leaves us", Actor: audit.System("test")}
	if _, err := d.svc.CloseAccount(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	d.stand("closed", payments.AutoStopped)
	if v := d.now(); v.Card != nil || v.Reason != "The account was closed, and the saved card removed." {
		t.Errorf("the card is %+v, and it stands as %+v", v.Card, v)
	}
	if n := len(d.told("autotopup_ended")); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	dbtest.Super(t, d.url, `UPDATE wallets SET closed_at = NULL, closed_reason = '' WHERE org_id = $1`, d.org)
	dbtest.Super(t, d.url, `UPDATE organizations SET closed_at = NULL WHERE id = $1`, d.org)
	if d.round() != 0 || d.later(time.Hour) != 0 {
		t.Error("an account that was opened again is charged without being asked")
	}
	d.charged("after all", 0)
}
