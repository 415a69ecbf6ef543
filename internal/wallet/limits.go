package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Limits are the most that an organisation lets itself spend in a calendar month (UTC), in pence, and what it has spent and
// set aside in this one.
type Limits struct {
	// All is the limit for everything together; nil means none.
	All *money.Pence
	// ByAction has an entry for every action.
	ByAction map[Action]Limit
}

// Limit is one action's.
type Limit struct {
	// Most is nil where there is none.
	Most  *money.Pence
	Spent money.Pence
}

// Spent is what was spent and set aside this month, in all.
func (l Limits) Spent() money.Pence {
	var sum money.Pence
	for _, one := range l.ByAction {
		sum += one.Spent
	}
	return sum
}

// limits are the wallet's as of a month.
func (w *state) limits() Limits {
	l := Limits{All: w.Cap, ByAction: make(map[Action]Limit, len(Actions))}
	for _, a := range Actions {
		spent, most := w.spent(a)
		l.ByAction[a] = Limit{Most: most, Spent: *spent}
	}
	return l
}

// ReadLimits gives an organisation's limits, and how far they are used, as the transaction sees them.
func ReadLimits(ctx context.Context, tx *db.Tx, org uuid.UUID) (Limits, error) {
	w, err := readState(ctx, tx, org)
	if err != nil {
		return Limits{}, err
	}
	return w.limits(), nil
}

// readState gives one wallet with its limits in the transaction's month, without locking it. An organisation without a wallet
// is NotFound.
func readState(ctx context.Context, tx *db.Tx, org uuid.UUID) (*state, error) {
	var w state
	err := tx.GetContext(ctx, &w, `SELECT `+stateColumns+` FROM wallets WHERE org_id = $1`, org)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoWallet()
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't read the wallet: %w", err)
	}
	w.enterMonth(tx.Now)
	return &w, nil
}

// Limits gives an organisation's limits and how far they are used.
func (l *Ledger) Limits(ctx context.Context, org uuid.UUID) (limits Limits, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		limits, err = ReadLimits(ctx, tx, org)
		return err
	})
	return limits, err
}

// LimitChange sets an organisation's limits anew, all of them; nil means none.
type LimitChange struct {
	OrgID    uuid.UUID
	All      *money.Pence
	ByAction map[Action]*money.Pence
	Actor    audit.Actor
}

// SetLimits replaces an organisation's limits. They count from the next decision on; what is under way goes on. It is safe
// to repeat. A negative limit is Invalid with the field "all" or the action's name.
func (l *Ledger) SetLimits(ctx context.Context, c LimitChange) error {
	if c.All != nil && *c.All < 0 {
		return fault.Field("all", "A limit is an amount of pounds, or empty for none.")
	}
	detail := map[string]any{"all": c.All}
	for _, a := range Actions {
		if most := c.ByAction[a]; most != nil && *most < 0 {
			return fault.Field(string(a), "A limit is an amount of pounds, or empty for none.")
		}
		detail[string(a)] = c.ByAction[a]
	}
	return l.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lock(ctx, tx, []uuid.UUID{c.OrgID}); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE wallets SET cap_pence = $2, cap_call_pence = $3, cap_sms_pence = $4, cap_number_pence = $5, cap_knowledge_pence = $6 WHERE org_id = $1`,
			c.OrgID, c.All, c.ByAction[ActionCall], c.ByAction[ActionSMS], c.ByAction[ActionNumber], c.ByAction[ActionKnowledge]); err != nil {
			return fmt.Errorf("couldn't set the limits: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: c.OrgID, Actor: c.Actor, Action: "wallet.limits_set", Subject: "wallet:" + c.OrgID.String(), Detail: detail})
	})
}

// Freeze has the gates refuse everything for an organisation from the next decision on, until it is thawed; money still
// comes in, and what is under way is settled. The reason is for operators and the audit log. Freezing a frozen wallet
// changes its reason.
func (l *Ledger) Freeze(ctx context.Context, org uuid.UUID, reason string, actor audit.Actor) error {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 500 {
		return fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	return l.setFrozen(ctx, org, "wallet.frozen", reason, actor,
		`UPDATE wallets SET frozen_at = coalesce(frozen_at, $2), frozen_reason = $3, updated_at = $2 WHERE org_id = $1`, reason)
}

// Thaw lets a frozen wallet spend again. Thawing one that is not frozen changes nothing.
func (l *Ledger) Thaw(ctx context.Context, org uuid.UUID, reason string, actor audit.Actor) error {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 500 {
		return fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	return l.setFrozen(ctx, org, "wallet.thawed", reason, actor,
		`UPDATE wallets SET frozen_at = NULL, frozen_reason = '', updated_at = $2 WHERE org_id = $1 AND frozen_at IS NOT NULL`)
}

// setFrozen runs sql with the organisation, the transaction's moment and args.
func (l *Ledger) setFrozen(ctx context.Context, org uuid.UUID, action, reason string, actor audit.Actor, sql string, args ...any) error {
	return l.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lock(ctx, tx, []uuid.UUID{org}); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, sql, append([]any{org, tx.Now}, args...)...)
		if err != nil {
			return fmt.Errorf("couldn't freeze or thaw the wallet: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: actor, Action: action, Subject: "wallet:" + org.String(), Reason: reason})
	})
}

// OpenHolds are an organisation's holds that have not ended, newest first, at most limit of them.
func (l *Ledger) OpenHolds(ctx context.Context, org uuid.UUID, limit int) (holds []Hold, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &holds, `
			SELECT `+holdColumns+` FROM holds WHERE org_id = $1 AND state IN ('open', 'in_flight') ORDER BY created_at DESC LIMIT $2`, org, limit); err != nil {
			return fmt.Errorf("couldn't read the open holds: %w", err)
		}
		return nil
	})
	return holds, err
}
