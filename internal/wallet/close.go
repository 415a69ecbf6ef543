package wallet

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Closing is how an account ends.
type Closing struct {
	OrgID uuid.UUID
	// ID makes the written-off bonus the one of this closing.
	ID uuid.UUID
	// Reason is for operators and the audit log.
	Reason string
	Actor  audit.Actor
	// Detail is more for the audit log.
	Detail map[string]any
}

// Close ends an account within tx: from then on the gates refuse everything, nothing is topped up and API keys do not hold.
// People still sign in, read and export. What is left of the bonus is written off and returned; paid money stays in the
// wallet or goes where it is reserved for. What still arrives, such as a refund that failed, is credited as ever.
//
// Faults: Conflict where something is under way, money is owed, or the account is closed already; Invalid with the field
// "reason".
func Close(ctx context.Context, tx *db.Tx, c Closing) (bonus money.Pence, err error) {
	if c.Reason, err = Sentence("reason", c.Reason); err != nil {
		return 0, err
	}
	b, err := lock(ctx, tx, []uuid.UUID{c.OrgID})
	if err != nil {
		return 0, err
	}
	w := b.wallets[c.OrgID]
	if err := w.MayClose(); err != nil {
		return 0, err
	}
	if bonus = w.Bonus; bonus > 0 {
		id, err := uuid.NewV7()
		if err != nil {
			return 0, fmt.Errorf("couldn't make a transaction id: %w", err)
		}
		if err := b.post(movement{
			id: id, org: c.OrgID, kind: Adjustment, reference: "closing:" + c.ID.String(), description: "Bonus that ended with the account",
			legs:  func(*state) []leg { return []leg{{bonusGranted, bonus}, {walletBonus, -bonus}} },
			actor: c.Actor, action: "wallet.adjusted", detail: map[string]any{"amount_pence": -int64(bonus)},
		}); err != nil {
			return 0, err
		}
		if err := b.write(ctx, tx); err != nil {
			return 0, err
		}
	}
	return bonus, setClosed(ctx, tx, c, &tx.Now, "account.closed")
}

// Reopen lets a closed account work again, with the same API keys. Reopening an open one is a Conflict.
func (l *Ledger) Reopen(ctx context.Context, c Closing) (err error) {
	if c.Reason, err = Sentence("reason", c.Reason); err != nil {
		return err
	}
	return l.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		b, err := lock(ctx, tx, []uuid.UUID{c.OrgID})
		if err != nil {
			return err
		}
		if b.wallets[c.OrgID].ClosedAt == nil {
			return fault.New(fault.Conflict, "This account is not closed.")
		}
		return setClosed(ctx, tx, c, nil, "account.reopened")
	})
}

// setClosed closes the locked wallet and its organisation, where keys are looked up, at a moment, or with nil opens both.
func setClosed(ctx context.Context, tx *db.Tx, c Closing, at *time.Time, action string) error {
	why := c.Reason
	if at == nil {
		why = ""
	}
	if _, err := tx.ExecContext(ctx, `UPDATE wallets SET closed_at = $2, closed_reason = $3, updated_at = $4 WHERE org_id = $1`, c.OrgID, at, why, tx.Now); err != nil {
		return fmt.Errorf("couldn't close or reopen the wallet: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE organizations SET closed_at = $2 WHERE id = $1`, c.OrgID, at); err != nil {
		return fmt.Errorf("couldn't close or reopen the organisation: %w", err)
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: c.OrgID, Actor: c.Actor, Action: action, Subject: "organization:" + c.OrgID.String(), Reason: c.Reason, Detail: c.Detail,
	})
}

// MayClose says why an account cannot be closed as its wallet stands, if it cannot.
func (b Balance) MayClose() error {
	switch {
	case b.ClosedAt != nil:
		return fault.New(fault.Conflict, "This account is closed already.")
	case b.Held > 0:
		return fault.New(fault.Conflict, fmt.Sprintf("%s is on hold for what is under way. Freeze the wallet, so that nothing new begins, and close the account when that has ended.", b.Held))
	case b.Debt > 0:
		return fault.New(fault.Conflict, fmt.Sprintf("%s is owed. Have it repaid, or write it off with a credit, and then close the account.", b.Debt))
	}
	return nil
}

// MustBeOpen refuses with Forbidden, code account_closed or suspended, where the organisation's account is closed or suspended:
// for what may not begin then and does not ask a gate. It reads the wallet as the transaction sees it. What follows for who asks
// is said after a comma: "so its wallet cannot be topped up".
func MustBeOpen(ctx context.Context, tx *db.Tx, org uuid.UUID, consequence string) error {
	b, err := Read(ctx, tx, org)
	switch {
	case err != nil:
		return err
	case b.ClosedAt != nil:
		return errClosed(consequence)
	case b.SuspendedAt != nil:
		return ErrSuspended(consequence)
	}
	return nil
}

func errClosed(consequence string) error {
	return &fault.Error{Kind: fault.Forbidden, Code: "account_closed", Public: "This account is closed, " + consequence + ". Ask us if you want it back."}
}
