package wallet

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Payment is money that Stripe has received for a wallet.
type Payment struct {
	PaymentIntent string
	OrgID         uuid.UUID
	TopUpID       uuid.UUID
	// Amount is what Stripe received: positive, pence.
	Amount money.Pence
	// EventID is the Stripe event that told us; it becomes the actor in the audit log.
	EventID string
}

// CreditPayments credits each payment to its wallet exactly once, in whatever order and however often it is called, and
// returns the PaymentIntents credited by this call. Debt is repaid first. The caller holds the locks of the payments'
// own rows; the wallets are locked here.
func CreditPayments(ctx context.Context, tx *db.Tx, payments []Payment) (map[string]bool, error) {
	if len(payments) == 0 {
		return map[string]bool{}, nil
	}
	// Credits are inserted in one sorted order, so that two batches that overlap wait for each other and never in a ring.
	payments = slices.SortedFunc(slices.Values(payments), func(a, b Payment) int { return cmp.Compare(a.PaymentIntent, b.PaymentIntent) })
	orgs := make([]uuid.UUID, len(payments))
	for i, p := range payments {
		if p.Amount <= 0 {
			return nil, fmt.Errorf("payment %s has no amount", p.PaymentIntent)
		}
		orgs[i] = p.OrgID
	}
	b, err := lock(ctx, tx, orgs)
	if err != nil {
		return nil, err
	}
	ids, err := insertCredits(ctx, tx, payments)
	if err != nil {
		return nil, err
	}
	credited := map[string]bool{}
	for _, p := range payments {
		id, fresh := ids[p.PaymentIntent]
		if !fresh || credited[p.PaymentIntent] {
			continue
		}
		credited[p.PaymentIntent] = true
		if err := b.post(movement{
			id: id, org: p.OrgID, kind: TopUp, reference: p.PaymentIntent, description: "Card top-up", topUp: p.TopUpID,
			legs:  func(w *state) []leg { return repaying(w, p.Amount, walletPaid, clearing) },
			actor: audit.Stripe(p.EventID), action: "wallet.credited",
			detail: map[string]any{"amount_pence": int64(p.Amount), "top_up_id": p.TopUpID.String()},
		}); err != nil {
			return nil, err
		}
	}
	return credited, b.write(ctx, tx)
}

// insertCredits adds the credits that are not there yet and returns the ids that their ledger transactions must get. The
// key of the table decides: a payment that is there already, or twice in the list, is left out.
func insertCredits(ctx context.Context, tx *db.Tx, payments []Payment) (map[string]uuid.UUID, error) {
	var intent, org, topUp, transaction []string
	var amount []int64
	for _, p := range payments {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("couldn't make a transaction id: %w", err)
		}
		intent, org, topUp = append(intent, p.PaymentIntent), append(org, p.OrgID.String()), append(topUp, p.TopUpID.String())
		amount, transaction = append(amount, int64(p.Amount)), append(transaction, id.String())
	}
	var fresh []struct {
		Intent      string    `db:"payment_intent"`
		Transaction uuid.UUID `db:"transaction_id"`
	}
	err := tx.SelectContext(ctx, &fresh, `
		INSERT INTO credits (created_at, payment_intent, org_id, top_up_id, amount_pence, transaction_id)
		SELECT $1, u.* FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::uuid[]) u
		ON CONFLICT (payment_intent) DO NOTHING RETURNING payment_intent, transaction_id`,
		tx.Now, pq.Array(intent), pq.Array(org), pq.Array(topUp), pq.Array(amount), pq.Array(transaction))
	if err != nil {
		return nil, fmt.Errorf("couldn't write the credits: %w", err)
	}
	ids := make(map[string]uuid.UUID, len(fresh))
	for _, f := range fresh {
		ids[f.Intent] = f.Transaction
	}
	return ids, nil
}

// AdjustmentLimit bounds one adjustment, either way, in pence: a slip of the keyboard stays small.
const AdjustmentLimit money.Pence = 10_000_000

// AdjustmentRequest is a correction of a wallet by an operator or by this program itself.
type AdjustmentRequest struct {
	OrgID uuid.UUID
	// Kind is Adjustment or Bonus.
	Kind Kind
	// Amount in pence: positive gives, negative takes. A bonus is always given.
	Amount money.Pence
	// Reason is a sentence for the customer and for the audit log.
	Reason string
	// Reference makes a repeat of the same adjustment the same adjustment.
	Reference string
	Actor     audit.Actor
}

// Adjust posts a correction and returns its ledger transaction. The same reference again returns the first result when
// the request is the same, and a Conflict when it is not. Taking more than is available is refused.
func Adjust(ctx context.Context, tx *db.Tx, r AdjustmentRequest) (Transaction, error) {
	r.Reason, r.Reference = strings.TrimSpace(r.Reason), strings.TrimSpace(r.Reference)
	if err := r.check(); err != nil {
		return Transaction{}, err
	}
	b, err := lock(ctx, tx, []uuid.UUID{r.OrgID})
	if err != nil {
		return Transaction{}, err
	}
	first, found, err := find(ctx, tx, r.OrgID, r.Kind, r.Reference)
	if err != nil {
		return Transaction{}, err
	}
	w := b.wallets[r.OrgID]
	if found {
		// The change of the balance alone may be less than was asked: debt is repaid first.
		var asked int64
		if err := tx.GetContext(ctx, &asked, `
			SELECT coalesce(sum(-p.amount_pence), 0)::bigint FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
			WHERE p.transaction_id = $1 AND a.org_id IS NULL`, first.ID); err != nil {
			return Transaction{}, fmt.Errorf("couldn't read the earlier adjustment: %w", err)
		}
		if money.Pence(asked) != r.Amount || first.Description != r.Reason {
			return Transaction{}, fault.New(fault.Conflict, "This reference was used for another adjustment. Use a new one.")
		}
		return first, nil
	}
	if r.Amount < 0 && -r.Amount > w.Available() {
		return Transaction{}, fault.Field("amount", fmt.Sprintf("Only %s is available to take.", w.Available()))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Transaction{}, fmt.Errorf("couldn't make a transaction id: %w", err)
	}
	if err := b.post(movement{
		id: id, org: r.OrgID, kind: r.Kind, reference: r.Reference, description: r.Reason, legs: r.legs,
		actor: r.Actor, action: "wallet.adjusted", reason: r.Reason, detail: map[string]any{"amount_pence": int64(r.Amount)},
	}); err != nil {
		return Transaction{}, err
	}
	if err := b.write(ctx, tx); err != nil {
		return Transaction{}, err
	}
	first, _, err = find(ctx, tx, r.OrgID, r.Kind, r.Reference)
	return first, err
}

func (r AdjustmentRequest) check() error {
	switch {
	case r.Kind != Adjustment && r.Kind != Bonus:
		return fault.Field("kind", "Choose an adjustment or a bonus.")
	case r.Amount == 0:
		return fault.Field("amount", "Enter an amount other than zero.")
	case r.Amount > AdjustmentLimit || r.Amount < -AdjustmentLimit:
		return fault.Field("amount", fmt.Sprintf("One adjustment moves at most %s.", AdjustmentLimit))
	case r.Kind == Bonus && r.Amount < 0:
		return fault.Field("amount", "A bonus is given; take money back with an adjustment.")
	case r.Reason == "" || len(r.Reason) > 500:
		return fault.Field("reason", "Give a reason of at most 500 characters; the customer reads it.")
	case r.Reference == "" || len(r.Reference) > 200:
		return fault.Field("reference", "Give a reference of at most 200 characters, such as a ticket number.")
	}
	return nil
}

func (r AdjustmentRequest) legs(w *state) []leg {
	switch {
	case r.Amount < 0:
		return spending(w, -r.Amount, adjustment)
	case r.Kind == Bonus:
		return repaying(w, r.Amount, walletBonus, bonusGranted)
	default:
		return repaying(w, r.Amount, walletPaid, adjustment)
	}
}

// find looks a ledger transaction up by what makes it unique. What was used is found by its hold's id instead.
func find(ctx context.Context, tx *db.Tx, org uuid.UUID, kind Kind, reference string) (Transaction, bool, error) {
	var t Transaction
	err := tx.GetContext(ctx, &t, `
		SELECT id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at
		FROM ledger_transactions WHERE org_id = $1 AND kind = $2 AND reference = $3 AND kind <> 'usage'`, org, kind, reference)
	if errors.Is(err, sql.ErrNoRows) {
		return Transaction{}, false, nil
	}
	if err != nil {
		return Transaction{}, false, fmt.Errorf("couldn't look for the transaction: %w", err)
	}
	return t, true, nil
}
