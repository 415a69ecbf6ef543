package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
)

// Standing is what has become, at Stripe, of a payment that was credited.
type Standing struct {
	PaymentIntent string
	OrgID         uuid.UUID
	TopUpID       uuid.UUID
	// Refunded is the sum of the refunds that were not given up, Disputed what banks have taken and not given back; pence.
	Refunded, Disputed money.Pence
	// Reason is why we asked for the refund that is posted now, for the customer to read; empty where we did not ask.
	Reason string
	Actor  audit.Actor
}

// Moved is what Reverse has posted, by kind: positive was taken back, negative was given again; pence.
type Moved map[Kind]money.Pence

// Reverse brings the ledger to what a payment's refunds and disputes amount to: it posts the difference between that and
// what it has posted for them already, each kind as a transaction of its own. So every order of events, and any number of
// repeats, ends the same.
//
// Taken back is what is available and was paid, then what is available as bonus, and the rest becomes debt. What is held
// stays held, and what is reserved for another refund stays reserved. Giving again repays debt first, then returns to the bonus what was taken from it. Never more than the
// credit is reversed; where refunds and disputes overlap, refunds come first.
//
// The payment must have its credit. The caller holds the lock of the payment's own row; the wallet is locked here, whether
// or not there is something to do.
func Reverse(ctx context.Context, tx *db.Tx, s Standing) (Moved, error) {
	if s.Refunded < 0 || s.Disputed < 0 {
		return nil, fmt.Errorf("payment %s: %d pence refunded and %d disputed", s.PaymentIntent, int64(s.Refunded), int64(s.Disputed))
	}
	b, err := lock(ctx, tx, []uuid.UUID{s.OrgID})
	if err != nil {
		return nil, err
	}
	var credit money.Pence
	err = tx.GetContext(ctx, &credit, `SELECT amount_pence FROM credits WHERE payment_intent = $1 AND org_id = $2`, s.PaymentIntent, s.OrgID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("payment %s has no credit that could be reversed", s.PaymentIntent)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the credit: %w", err)
	}
	var posted struct {
		Refunded money.Pence `db:"refunded"`
		Disputed money.Pence `db:"disputed"`
		Bonus    money.Pence `db:"bonus"`
		Number   int         `db:"number"`
	}
	if err := tx.GetContext(ctx, &posted, `
		SELECT coalesce(sum(amount_pence) FILTER (WHERE kind = 'refund'), 0)::bigint AS refunded,
		       coalesce(sum(amount_pence) FILTER (WHERE kind = 'dispute'), 0)::bigint AS disputed,
		       coalesce(sum(bonus_pence), 0)::bigint AS bonus, coalesce(max(number), 0) AS number
		FROM reversals WHERE payment_intent = $1`, s.PaymentIntent); err != nil {
		return nil, fmt.Errorf("couldn't read what was reversed before: %w", err)
	}
	refund := min(s.Refunded, credit)
	due := []reversal{
		{kind: Refund, amount: refund - posted.Refunded},
		{kind: Dispute, amount: min(s.Disputed, credit-refund) - posted.Disputed},
	}
	if due[1].amount < 0 { // what is given again comes first, so that what is taken makes no debt that need not be
		due[0], due[1] = due[1], due[0]
	}
	moved := Moved{}
	bonus := posted.Bonus
	for i := range due {
		r := &due[i]
		if r.amount == 0 {
			continue
		}
		posted.Number++
		r.number = posted.Number
		if r.id, err = uuid.NewV7(); err != nil {
			return nil, fmt.Errorf("couldn't make a transaction id: %w", err)
		}
		if err := b.post(movement{
			id: r.id, org: s.OrgID, kind: r.kind, reference: fmt.Sprintf("%s:%d", s.PaymentIntent, r.number), description: r.description(s.Reason), topUp: s.TopUpID,
			legs:  func(w *state) []leg { return r.legs(w, bonus) },
			actor: s.Actor, action: "wallet.reversed",
			detail: map[string]any{"kind": string(r.kind), "amount_pence": int64(r.amount), "payment_intent": s.PaymentIntent},
		}); err != nil {
			return nil, err
		}
		bonus += r.bonus
		moved[r.kind] = r.amount
	}
	if len(moved) == 0 {
		return moved, nil
	}
	if err := b.write(ctx, tx); err != nil {
		return nil, err
	}
	return moved, insertReversals(ctx, tx, s, due)
}

// reversal is one of a payment's reversals to be: positive takes back, negative gives again.
type reversal struct {
	id     uuid.UUID
	number int
	kind   Kind
	amount money.Pence
	bonus  money.Pence // its part of the bonus, known once the legs are
}

// account is the house's other side.
func (r *reversal) account() account {
	if r.kind == Dispute {
		return disputes
	}
	return refunds
}

// description is the customer's line; reason is why we asked for a refund, if we did.
func (r *reversal) description(reason string) string {
	switch {
	case r.kind == Refund && r.amount > 0 && reason != "":
		return "Refund to your card: " + reason
	case r.kind == Refund && r.amount > 0:
		return "Refund of a card top-up"
	case r.kind == Refund:
		return "Refund that did not go through"
	case r.amount > 0:
		return "Disputed card payment"
	default:
		return "Disputed card payment, returned"
	}
}

// legs splits a reversal; taken is what the payment's earlier reversals have taken from the bonus.
func (r *reversal) legs(w *state, taken money.Pence) []leg {
	if r.amount > 0 {
		there := min(r.amount, w.Available())
		paid := min(there, w.Balance.Balance-w.Bonus-w.Reserved)
		r.bonus = there - paid
		return split(leg{r.account(), r.amount}, leg{walletPaid, -paid}, leg{walletBonus, -r.bonus}, leg{receivable, there - r.amount})
	}
	back := -r.amount
	repaid := min(back, w.Debt)
	restored := min(back-repaid, taken)
	r.bonus = -restored
	return split(leg{r.account(), -back}, leg{receivable, repaid}, leg{walletBonus, restored}, leg{walletPaid, back - repaid - restored})
}

// split leaves out the legs that move nothing.
func split(legs ...leg) []leg {
	var moving []leg
	for _, l := range legs {
		if l.amount != 0 {
			moving = append(moving, l)
		}
	}
	return moving
}

func insertReversals(ctx context.Context, tx *db.Tx, s Standing, due []reversal) error {
	var kind, transaction []string
	var number, amount, bonus []int64
	for _, r := range due {
		if r.amount == 0 {
			continue
		}
		kind, transaction = append(kind, string(r.kind)), append(transaction, r.id.String())
		number, amount, bonus = append(number, int64(r.number)), append(amount, int64(r.amount)), append(bonus, int64(r.bonus))
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO reversals (created_at, payment_intent, org_id, number, kind, amount_pence, bonus_pence, transaction_id)
		SELECT $1, $2, $3, u.* FROM unnest($4::int[], $5::text[], $6::bigint[], $7::bigint[], $8::uuid[]) u`,
		tx.Now, s.PaymentIntent, s.OrgID, pq.Array(number), pq.Array(kind), pq.Array(amount), pq.Array(bonus), pq.Array(transaction)); err != nil {
		return fmt.Errorf("couldn't write the reversals: %w", err)
	}
	return nil
}

// FreezeIn is [Ledger.Freeze] as part of a transaction, with one difference: a wallet that is frozen stays as it is,
// whoever froze it. It reports whether it froze the wallet.
func FreezeIn(ctx context.Context, tx *db.Tx, org uuid.UUID, reason string, actor audit.Actor) (frozen bool, err error) {
	return setFrozenIn(ctx, tx, org, "wallet.frozen", reason, actor,
		`UPDATE wallets SET frozen_at = $2, frozen_reason = $3, updated_at = $2 WHERE org_id = $1 AND frozen_at IS NULL`, reason)
}

// ThawIn is [Ledger.Thaw] as part of a transaction, but only of a wallet that is frozen for exactly the reason frozenFor:
// whoever froze it anew for another reason keeps it frozen. It reports whether it thawed the wallet.
func ThawIn(ctx context.Context, tx *db.Tx, org uuid.UUID, frozenFor, reason string, actor audit.Actor) (thawed bool, err error) {
	return setFrozenIn(ctx, tx, org, "wallet.thawed", reason, actor,
		`UPDATE wallets SET frozen_at = NULL, frozen_reason = '', updated_at = $2 WHERE org_id = $1 AND frozen_at IS NOT NULL AND frozen_reason = $3`, frozenFor)
}

// setFrozenIn runs sql with the organisation, the transaction's moment and args; an audit row tells of a change.
func setFrozenIn(ctx context.Context, tx *db.Tx, org uuid.UUID, action, reason string, actor audit.Actor, sql string, args ...any) (changed bool, err error) {
	if _, err := lock(ctx, tx, []uuid.UUID{org}); err != nil {
		return false, err
	}
	res, err := tx.ExecContext(ctx, sql, append([]any{org, tx.Now}, args...)...)
	if err != nil {
		return false, fmt.Errorf("couldn't freeze or thaw the wallet: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	return true, audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: actor, Action: action, Subject: "wallet:" + org.String(), Reason: reason})
}
