package wallet

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Reserve keeps paid money of a wallet from being spent while Stripe is asked to give it back, within the transaction that
// stores what is asked. It locks the wallet. Nothing leaves the balance: what is given back is posted by Reverse, once
// Unreserve has freed it in the same transaction. More than Withdrawable is Invalid with the field "amount".
func Reserve(ctx context.Context, tx *db.Tx, org uuid.UUID, amount money.Pence) error {
	b, err := lock(ctx, tx, []uuid.UUID{org})
	if err != nil {
		return err
	}
	w := b.wallets[org]
	switch {
	case amount <= 0:
		return fault.Field("amount", "Enter an amount above zero.")
	case amount > w.Withdrawable():
		return fault.Field("amount", fmt.Sprintf("Only %s is there that was paid in and is not set aside.", w.Withdrawable()))
	}
	return setReserved(ctx, tx, org, amount)
}

// Unreserve frees what Reserve has kept, within the transaction that says why. It locks the wallet.
func Unreserve(ctx context.Context, tx *db.Tx, org uuid.UUID, amount money.Pence) error {
	b, err := lock(ctx, tx, []uuid.UUID{org})
	if err != nil {
		return err
	}
	if w := b.wallets[org]; amount <= 0 || amount > w.Reserved {
		return fmt.Errorf("%s of %s reserved are to be freed: %w", amount, w.Reserved, errCannot)
	}
	return setReserved(ctx, tx, org, -amount)
}

func setReserved(ctx context.Context, tx *db.Tx, org uuid.UUID, more money.Pence) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE wallets SET reserved_pence = reserved_pence + $2, updated_at = $3 WHERE org_id = $1`, org, more, tx.Now); err != nil {
		return fmt.Errorf("couldn't set money aside: %w", err)
	}
	return nil
}

// GiveBack frees what Reserve has kept because it does not go to a card after all. Debt that has come up meanwhile is repaid
// from it: had the money been there to take, there would be none. The reference makes the repayment's line in the history
// the one of this.
func GiveBack(ctx context.Context, tx *db.Tx, org uuid.UUID, amount money.Pence, reference string, actor audit.Actor) error {
	if err := Unreserve(ctx, tx, org, amount); err != nil {
		return err
	}
	b, err := lock(ctx, tx, []uuid.UUID{org})
	if err != nil {
		return err
	}
	repay := min(amount, b.wallets[org].Debt)
	if repay == 0 {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("couldn't make a transaction id: %w", err)
	}
	if err := b.post(movement{
		id: id, org: org, kind: Adjustment, reference: reference, description: "Debt repaid from the wallet",
		legs:  func(*state) []leg { return []leg{{receivable, repay}, {walletPaid, -repay}} },
		actor: actor, action: "wallet.adjusted", detail: map[string]any{"amount_pence": -int64(repay)},
	}); err != nil {
		return err
	}
	return b.write(ctx, tx)
}
