package wallet

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Suspension is why an organisation is suspended, or works again.
type Suspension struct {
	OrgID uuid.UUID
	// Reason is for operators and the audit log.
	Reason string
	Actor  audit.Actor
}

// Suspend stops an organisation: from the next decision on the gates refuse everything, no card of its is charged, and its
// people and programs may only look, or not even that (see auth.Identity). What it has stays: its money, its numbers and
// their rent. What is under way is settled; calls are ended by whoever looks after them.
//
// Faults: Invalid with the field "reason"; Conflict where it is suspended already, so that of two operators one learns of
// the other.
func (l *Ledger) Suspend(ctx context.Context, s Suspension) error {
	return l.setSuspended(ctx, s, true, "organisation.suspended", "This organisation is suspended already.")
}

// Unsuspend lets a suspended organisation work again, with the same people, keys and numbers. Faults: Invalid with the field
// "reason"; Conflict where it is not suspended.
func (l *Ledger) Unsuspend(ctx context.Context, s Suspension) error {
	return l.setSuspended(ctx, s, false, "organisation.unsuspended", "This organisation is not suspended.")
}

// setSuspended changes the wallet and its organisation together. Both statements change only what is the other way.
func (l *Ledger) setSuspended(ctx context.Context, s Suspension, to bool, action, already string) (err error) {
	if s.Reason, err = Sentence("reason", s.Reason); err != nil {
		return err
	}
	return l.db.InTx(ctx, []uuid.UUID{s.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lock(ctx, tx, []uuid.UUID{s.OrgID}); err != nil {
			return err
		}
		var since *time.Time
		why := ""
		if to {
			since, why = &tx.Now, s.Reason
		}
		n, err := changed(tx.ExecContext(ctx, `
			UPDATE wallets SET suspended_at = $2, suspended_reason = $3, updated_at = $4
			WHERE org_id = $1 AND (suspended_at IS NULL) = ($2::timestamptz IS NOT NULL)`, s.OrgID, since, why, tx.Now))
		if err != nil {
			return fmt.Errorf("couldn't suspend or unsuspend the wallet: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, already)
		}
		n, err = changed(tx.ExecContext(ctx, `
			UPDATE organizations SET suspended_at = $2 WHERE id = $1 AND (suspended_at IS NULL) = ($2::timestamptz IS NOT NULL)`, s.OrgID, since))
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows", n)
		}
		if err != nil {
			return fmt.Errorf("couldn't suspend or unsuspend the organisation: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: s.OrgID, Actor: s.Actor, Action: action, Subject: "organization:" + s.OrgID.String(), Reason: s.Reason})
	})
}

// changed is how many rows a statement changed.
func changed(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// ErrSuspended is what a suspended organisation is told, by gates and by pages. consequence goes on after "so".
func ErrSuspended(consequence string) error {
	return &fault.Error{Kind: fault.Forbidden, Code: "suspended", Public: "This organisation is suspended, " + consequence + ". Ask us why, and what to do."}
}
