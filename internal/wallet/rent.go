package wallet

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// RentRequest is a month of something that an organisation keeps, such as a phone number.
type RentRequest struct {
	OrgID uuid.UUID
	// Amount in pence, above zero.
	Amount money.Pence
	// Reference names the thing and the month: the same one again is the same charge.
	Reference string
	// Description is the line in the wallet's history.
	Description string
	Actor       audit.Actor
}

// ChargeRent takes a month's rent of a number, once for each reference, and gives its ledger transaction and how much of it
// the wallet did not have and owes.
//
// Rent is owed for what is kept, so it is taken whatever the wallet has: what is available first, bonus before paid money,
// and the rest becomes debt. What is held stays held. Neither a freeze nor a spending limit stops it, and it counts against
// no limit: those are for what an organisation still decides. The same reference with another amount is a Conflict.
func ChargeRent(ctx context.Context, tx *db.Tx, r RentRequest) (t Transaction, short money.Pence, err error) {
	if r.Amount < 1 || r.Amount > AdjustmentLimit || strings.TrimSpace(r.Reference) == "" || r.Description == "" {
		return Transaction{}, 0, fmt.Errorf("rent of %d pence under the reference %q cannot be charged", int64(r.Amount), r.Reference)
	}
	b, err := lock(ctx, tx, []uuid.UUID{r.OrgID})
	if err != nil {
		return Transaction{}, 0, err
	}
	t, found, err := find(ctx, tx, r.OrgID, Rent, r.Reference)
	if err != nil {
		return Transaction{}, 0, err
	}
	if found {
		var charged money.Pence
		if err := tx.GetContext(ctx, &charged, `
			SELECT coalesce(sum(amount_pence), 0)::bigint FROM ledger_postings WHERE transaction_id = $1 AND amount_pence > 0`, t.ID); err != nil {
			return Transaction{}, 0, fmt.Errorf("couldn't read the earlier rent: %w", err)
		}
		if charged != r.Amount {
			return Transaction{}, 0, fault.New(fault.Conflict, "This month was charged already, at another rent.")
		}
		short, err = owedOf(ctx, tx, t.ID)
		return t, short, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Transaction{}, 0, fmt.Errorf("couldn't make a transaction id: %w", err)
	}
	if err := b.post(movement{
		id: id, org: r.OrgID, kind: Rent, reference: r.Reference, description: r.Description,
		legs:  func(w *state) []leg { return spending(w, r.Amount, revenueNumber) },
		actor: r.Actor, action: "wallet.rent_charged", detail: map[string]any{"amount_pence": int64(r.Amount)},
	}); err != nil {
		return Transaction{}, 0, err
	}
	if err := b.write(ctx, tx); err != nil {
		return Transaction{}, 0, err
	}
	if t, _, err = find(ctx, tx, r.OrgID, Rent, r.Reference); err != nil {
		return Transaction{}, 0, err
	}
	short, err = owedOf(ctx, tx, id)
	return t, short, err
}

// owedOf is what a transaction of the organisation's has added to its debt.
func owedOf(ctx context.Context, tx *db.Tx, id uuid.UUID) (owed money.Pence, err error) {
	if err := tx.GetContext(ctx, &owed, `
		SELECT coalesce(-sum(p.amount_pence), 0)::bigint FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		WHERE p.transaction_id = $1 AND a.name = 'receivable'`, id); err != nil {
		return 0, fmt.Errorf("couldn't read what is owed: %w", err)
	}
	return owed, nil
}
