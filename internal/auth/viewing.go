package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// viewFor is how long an operator may look at an organisation as its people see it, before they have to say why again.
const viewFor = 30 * time.Minute

// How a look at an organisation ended, for the audit log.
const (
	viewEnded      = "ended"
	viewTimedOut   = "time was up"
	viewSignedOut  = "the session ended"
	maxViewReason  = 500
	viewStartedLog = "operator.view_started"
	viewEndedLog   = "operator.view_ended"
)

// StartView has an operator's session see an organisation as a viewer of it does, for half an hour. It lets nothing be
// changed: who answers requests refuses all that would (see [Identity.Viewing]), and what still asked would find a viewer.
//
// Faults: NotFound for who is no operator, and for an organisation that does not exist; Invalid with the field "reason";
// Conflict while the session looks at one already, and for organisations that an operator works in: nobody looks over an
// operator's shoulder.
func (a *Auth) StartView(ctx context.Context, who Identity, org uuid.UUID, reason string) error {
	if !who.Operator {
		return fault.New(fault.NotFound, "There is no such page here.")
	}
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > maxViewReason || !storable(reason) {
		return fault.Field("reason", "Give a reason of at most 500 characters, in one line.")
	}
	return a.db.InSystemTx(ctx, "an operator's look at an organisation", func(ctx context.Context, tx *db.Tx) error {
		if _, err := endViews(ctx, tx, viewTimedOut, `s.token_hash = $2 AND s.viewing_until <= $1`, who.SessionID[:]); err != nil {
			return err
		}
		var is struct {
			Viewing   bool `db:"viewing"`
			Known     bool `db:"known"`
			Operators bool `db:"operators"`
		}
		if err := tx.GetContext(ctx, &is, `
			SELECT EXISTS (SELECT FROM sessions WHERE token_hash = $1 AND viewing_org_id IS NOT NULL) AS viewing,
			       EXISTS (SELECT FROM organizations WHERE id = $2) AS known,
			       EXISTS (SELECT FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = $2 AND u.platform_role = 'operator') AS operators`,
			who.SessionID[:], org); err != nil {
			return fmt.Errorf("couldn't look at who would be looked at: %w", err)
		}
		switch {
		case !is.Known:
			return fault.New(fault.NotFound, "There is no such organisation.")
		case is.Viewing:
			return fault.New(fault.Conflict, "You look at an organisation already. End that first.")
		case is.Operators:
			return fault.New(fault.Conflict, "An operator works in this organisation, so it is not looked at this way.")
		}
		// The guard once more, in the statement itself.
		res, err := tx.ExecContext(ctx, `
			UPDATE sessions s SET viewing_org_id = $2, viewing_until = $3, viewing_reason = $4
			FROM users u
			WHERE s.token_hash = $1 AND s.revoked_at IS NULL AND NOT s.pending AND s.viewing_org_id IS NULL
			  AND u.id = s.user_id AND u.platform_role = 'operator' AND u.disabled_at IS NULL
			  AND NOT EXISTS (SELECT FROM memberships m JOIN users o ON o.id = m.user_id WHERE m.org_id = $2 AND o.platform_role = 'operator')`,
			who.SessionID[:], org, tx.Now.Add(viewFor), reason)
		if err := oneRow(res, err, "begin to look at the organisation"); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: who.Actor(), Action: viewStartedLog, Subject: "session:" + who.SessionID.String(), Reason: reason,
			Detail: map[string]any{"until": tx.Now.Add(viewFor).Format(time.RFC3339)},
		})
	})
}

// EndView ends the session's look at an organisation, and says which one it was. Where there is none, or its
// time was up, that is uuid.Nil.
func (a *Auth) EndView(ctx context.Context, who Identity) (org uuid.UUID, err error) {
	err = a.db.InSystemTx(ctx, "the end of an operator's look at an organisation", func(ctx context.Context, tx *db.Tx) error {
		org = uuid.Nil
		if _, err := endViews(ctx, tx, viewTimedOut, `s.token_hash = $2 AND s.viewing_until <= $1`, who.SessionID[:]); err != nil {
			return err
		}
		ended, err := endViews(ctx, tx, viewEnded, `s.token_hash = $2 AND s.viewing_until > $1`, who.SessionID[:])
		if len(ended) > 0 {
			org = ended[0].OrgID
		}
		return err
	})
	return org, err
}

// endedView is a look at an organisation that is over.
type endedView struct {
	Session []byte    `db:"token_hash"`
	UserID  uuid.UUID `db:"user_id"`
	OrgID   uuid.UUID `db:"org_id"`
	Reason  string    `db:"reason"`
}

// endViews ends the looks of the sessions s that the condition names, and audits each with the reason it was begun for. $1 in
// the condition is the transaction's moment, what follows are args.
func endViews(ctx context.Context, tx *db.Tx, how, condition string, args ...any) (ended []endedView, err error) {
	err = tx.SelectContext(ctx, &ended, `
		UPDATE sessions s SET viewing_org_id = NULL, viewing_until = NULL, viewing_reason = ''
		FROM (SELECT token_hash, viewing_org_id, viewing_reason FROM sessions s WHERE s.viewing_org_id IS NOT NULL AND `+condition+` ORDER BY token_hash FOR UPDATE) was
		WHERE s.token_hash = was.token_hash
		RETURNING s.token_hash, s.user_id, was.viewing_org_id AS org_id, was.viewing_reason AS reason`, append([]any{tx.Now}, args...)...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("couldn't end looks at organisations: %w", err)
	}
	entries := make([]audit.Entry, len(ended))
	for i, e := range ended {
		entries[i] = audit.Entry{
			OrgID: e.OrgID, Actor: audit.Operator(e.UserID), Action: viewEndedLog, Subject: "session:" + SessionID(e.Session).String(), Reason: e.Reason,
			Detail: map[string]any{"how": how},
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return ended, audit.Record(ctx, tx, entries...)
}
