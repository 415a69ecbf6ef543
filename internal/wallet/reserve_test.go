package wallet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// in runs fn in a transaction of the organisation.
func (d desk) in(org uuid.UUID, fn func(ctx context.Context, tx *db.Tx) error) error {
	return d.db.InTx(d.t.Context(), []uuid.UUID{org}, fn)
}

// reserve sets paid money aside for a refund of the payment pi_1, with the rows that say what for.
func (d desk) reserve(org uuid.UUID, amount money.Pence) (id uuid.UUID, err error) {
	d.t.Helper()
	id = uuid.Must(uuid.NewV7())
	err = d.in(org, func(ctx context.Context, tx *db.Tx) error {
		if err := wallet.Reserve(ctx, tx, org, amount); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO withdrawals (id, org_id, amount_pence, reason, actor, created_at) VALUES ($1, $2, $3, 'test', 'system:test', $4)`, id, org, amount, tx.Now); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO withdrawal_parts (withdrawal_id, payment_intent, org_id, amount_pence, state, next_attempt_at, updated_at)
			VALUES ($1, 'pi_1', $2, $3, 'open', $4, $4)`, id, org, amount, tx.Now)
		return err
	})
	return id, err
}

// end ends what reserve began: with a refund, which fn posts, or without.
func (d desk) end(org, id uuid.UUID, refund string, fn func(ctx context.Context, tx *db.Tx) error) {
	d.t.Helper()
	err := d.in(org, func(ctx context.Context, tx *db.Tx) error {
		state, refunded := "refused", (*string)(nil)
		if refund != "" {
			state, refunded = "refunded", &refund
		}
		if _, err := tx.ExecContext(ctx, `UPDATE withdrawal_parts SET state = $2, refund_id = $3 WHERE withdrawal_id = $1`, id, state, refunded); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// reversed keeps a refund of a payment and has the ledger follow.
func (d desk) reversed(ctx context.Context, tx *db.Tx, p wallet.Payment, id string, amount money.Pence, reason string) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO refunds (id, org_id, payment_intent, amount_pence, status, created_at, updated_at) VALUES ($1, $2, $3, $4, 'succeeded', $5, $5)`,
		id, p.OrgID, p.PaymentIntent, amount, tx.Now); err != nil {
		return err
	}
	s := wallet.Standing{PaymentIntent: p.PaymentIntent, OrgID: p.OrgID, TopUpID: p.TopUpID, Reason: reason, Actor: audit.System("test")}
	if err := tx.GetContext(ctx, &s.Refunded, `
		SELECT coalesce(sum(amount_pence), 0)::bigint FROM refunds WHERE payment_intent = $1 AND status NOT IN ('failed', 'canceled')`, p.PaymentIntent); err != nil {
		return err
	}
	_, err := wallet.Reverse(ctx, tx, s)
	return err
}

// TestReservedIsNotSpent: money on its way back to a card is out of everybody's reach, whatever happens to the wallet until
// its refund is posted; and then that takes exactly it.
func TestReservedIsNotSpent(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	first, second := d.payment(org, "pi_1", 50_00), d.payment(org, "pi_2", 20_00)
	if _, err := d.credit(first, second); err != nil {
		t.Fatal(err)
	}
	if _, err := d.adjust(org, wallet.Bonus, 10_00, "gift"); err != nil {
		t.Fatal(err)
	}
	held := d.authorise(d.text(org, "held", 5)) // of the bonus, which is spent first
	if b := d.balance(org); b.Withdrawable() != 70_00 || b.Available() != 79_50 {
		t.Fatalf("%s of %s available can be withdrawn", b.Withdrawable(), b.Available())
	}
	for _, amount := range []money.Pence{0, -1, 70_01} {
		if _, err := d.reserve(org, amount); fault.As(err).Field != "amount" {
			t.Errorf("reserving %s gave %v", amount, err)
		}
	}
	id, err := d.reserve(org, 50_00)
	if err != nil {
		t.Fatal(err)
	}
	if b := d.balance(org); b.Balance != 80_00 || b.Reserved != 50_00 || b.Available() != 29_50 || b.Withdrawable() != 20_00 || b.SetAside() != 50_50 {
		t.Errorf("%+v", b)
	}
	if _, err := d.gates.Authorise(t.Context(), d.text(org, "too much", 296)); !fault.Is(err, fault.Unpaid) {
		t.Errorf("a text for what is reserved: %v", err)
	}
	if _, err := d.adjust(org, wallet.Adjustment, -29_51, "too much"); fault.As(err).Field != "amount" {
		t.Errorf("a debit of what is reserved: %v", err)
	}
	// A refund of the other payment, made elsewhere, takes paid money first, but not this.
	if err := d.in(org, func(ctx context.Context, tx *db.Tx) error {
		return d.reversed(ctx, tx, second, "re_2", 20_00, "")
	}); err != nil {
		t.Fatal(err)
	}
	// What is left is the bonus alone: what takes more than that makes debt.
	s := d.settle(held, func(s *wallet.Settlement) { s.Amount, s.Overrun = 12_00, true })
	if _, err := d.gates.Capture(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if b := d.balance(org); b.Balance != 50_00 || b.Bonus != 0 || b.Debt != 2_00 || b.Available() != 0 || b.Reserved != 50_00 {
		t.Errorf("%+v", b)
	}
	if _, err := d.adjust(org, wallet.Bonus, 7_00, "another gift"); err != nil { // of which £2.00 repay the debt
		t.Fatal(err)
	}
	d.end(org, id, "re_1", func(ctx context.Context, tx *db.Tx) error {
		if err := wallet.Unreserve(ctx, tx, org, 50_00); err != nil {
			return err
		}
		return d.reversed(ctx, tx, first, "re_1", 50_00, "you asked for it")
	})
	if b := d.balance(org); b.Balance != 5_00 || b.Bonus != 5_00 || b.Debt != 0 || b.Reserved != 0 {
		t.Errorf("%+v", b)
	}
	_, lines, err := wallet.New(d.db).Overview(t.Context(), org, 1)
	if err != nil || lines[0].Description != "Refund to your card: you asked for it" || lines[0].Amount != -50_00 || lines[0].Kind != wallet.Refund {
		t.Errorf("the history says %+v, %v", lines, err)
	}
}

// TestReversalsLeaveWhatIsReserved: they take the paid money beside it, then the bonus, and leave the rest as debt.
func TestReversalsLeaveWhatIsReserved(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	other := d.payment(org, "pi_2", 40_00)
	if _, err := d.credit(d.payment(org, "pi_1", 50_00), other); err != nil {
		t.Fatal(err)
	}
	if _, err := d.adjust(org, wallet.Adjustment, -25_00, "spent"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.adjust(org, wallet.Bonus, 10_00, "gift"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.reserve(org, 50_00); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		refund               string
		amount               money.Pence
		balance, bonus, debt money.Pence
	}{{"re_1", 20_00, 55_00, 5_00, 0}, {"re_2", 20_00, 50_00, 0, 15_00}} {
		if err := d.in(org, func(ctx context.Context, tx *db.Tx) error { return d.reversed(ctx, tx, other, c.refund, c.amount, "") }); err != nil {
			t.Fatal(err)
		}
		if b := d.balance(org); b.Balance != c.balance || b.Bonus != c.bonus || b.Debt != c.debt || b.Reserved != 50_00 {
			t.Errorf("after %s: %+v", c.refund, b)
		}
	}
	dbtest.Super(t, d.url, `UPDATE withdrawal_parts SET next_attempt_at = '2999-01-01'`) // nobody works it
}

// TestGivenBack: what does not go to a card after all repays the debt that would not be there without it.
func TestGivenBack(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	p := d.payment(org, "pi_1", 50_00)
	if _, err := d.credit(p); err != nil {
		t.Fatal(err)
	}
	id, err := d.reserve(org, 40_00)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody refunded it elsewhere in between, so Stripe will refuse ours.
	if err := d.in(org, func(ctx context.Context, tx *db.Tx) error {
		return d.reversed(ctx, tx, p, "re_1", 30_00, "")
	}); err != nil {
		t.Fatal(err)
	}
	if b := d.balance(org); b.Balance != 40_00 || b.Debt != 20_00 {
		t.Errorf("%+v", b)
	}
	if err := d.in(org, func(ctx context.Context, tx *db.Tx) error {
		return wallet.GiveBack(ctx, tx, org, 40_01, "x", "system:test")
	}); err == nil {
		t.Error("more was given back than was reserved")
	}
	d.end(org, id, "", func(ctx context.Context, tx *db.Tx) error {
		return wallet.GiveBack(ctx, tx, org, 40_00, "withdrawal:x", audit.System("test"))
	})
	if b := d.balance(org); b.Balance != 20_00 || b.Debt != 0 || b.Reserved != 0 || b.Available() != 20_00 {
		t.Errorf("%+v", b)
	}
}

// TestReservedInAnyCase does what comes, in any order: the books hold throughout, and paid money that is reserved is there.
func TestReservedInAnyCase(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	p := d.payment(org, "pi_1", 500_00)
	if _, err := d.credit(p); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var reserved []struct {
		id     uuid.UUID
		amount money.Pence
	}
	var left money.Pence = 500_00 // of the payment
	var holds []wallet.Hold
	for i := range 250 {
		amount := money.Pence(1 + r.IntN(60_00))
		var err error
		switch what := r.IntN(9); {
		case what == 0 && amount <= left:
			var id uuid.UUID
			if id, err = d.reserve(org, amount); err == nil {
				left -= amount
				reserved = append(reserved, struct {
					id     uuid.UUID
					amount money.Pence
				}{id, amount})
			}
		case what <= 2 && len(reserved) > 0:
			one := reserved[0]
			reserved = reserved[1:]
			refund := ""
			if what == 1 {
				refund = fmt.Sprint("re_", i)
			} else {
				left += one.amount
			}
			d.end(org, one.id, refund, func(ctx context.Context, tx *db.Tx) error {
				if refund == "" {
					return wallet.GiveBack(ctx, tx, org, one.amount, one.id.String(), audit.System("test"))
				}
				if err := wallet.Unreserve(ctx, tx, org, one.amount); err != nil {
					return err
				}
				return d.reversed(ctx, tx, p, refund, one.amount, "test")
			})
		case what == 3:
			_, err = d.adjust(org, wallet.Adjustment, amount, fmt.Sprint("credit ", i))
		case what == 4:
			_, err = d.adjust(org, wallet.Adjustment, -amount, fmt.Sprint("debit ", i))
		case what == 5:
			_, err = d.adjust(org, wallet.Bonus, amount, fmt.Sprint("bonus ", i))
		case what == 6:
			var h wallet.Hold
			if h, err = d.gates.Authorise(t.Context(), d.text(org, fmt.Sprint("text ", i), 1+int64(amount)/10)); err == nil {
				holds = append(holds, h)
			}
		case what == 7 && len(holds) > 0:
			_, err = d.gates.Capture(t.Context(), d.settle(holds[0], func(s *wallet.Settlement) { s.Amount, s.Overrun = amount, true }))
			holds = holds[1:]
		case what == 8 && len(holds) > 0:
			_, err = d.gates.Void(t.Context(), d.settle(holds[0]))
			holds = holds[1:]
		}
		if f := fault.As(err); err != nil && f.Kind != fault.Invalid && f.Kind != fault.Unpaid {
			t.Fatalf("seed %d, step %d: %v", seed, i, err)
		}
		b := d.balance(org)
		var sum money.Pence
		for _, one := range reserved {
			sum += one.amount
		}
		if b.Reserved != sum || b.Available() < 0 || b.Balance-b.Bonus < b.Reserved || b.Withdrawable() < 0 || b.Withdrawable() > b.Available() {
			t.Fatalf("seed %d, step %d: %+v with %s reserved", seed, i, b, sum)
		}
	}
	dbtest.Super(t, d.url, `UPDATE withdrawal_parts SET next_attempt_at = '2999-01-01'`) // nobody works these
}
