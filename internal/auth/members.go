package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Member is somebody who works in an organisation.
type Member struct {
	UserID uuid.UUID `db:"user_id"`
	Email  string    `db:"email"`
	Role   Role      `db:"role"`
	Since  time.Time `db:"created_at"`
}

// Members lists who works in the identity's organisation, owners first, then by e-mail.
func (a *Auth) Members(ctx context.Context, who Identity) (list []Member, err error) {
	err = a.db.InReadTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			SELECT m.user_id, u.email, m.role, m.created_at FROM memberships m JOIN users u ON u.id = m.user_id
			WHERE m.org_id = $1 ORDER BY m.role <> 'owner', u.email, m.user_id`, who.OrgID)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the members: %w", err)
	}
	return list, nil
}

// Member finds one person who works in the identity's organisation. NotFound for everybody else.
func (a *Auth) Member(ctx context.Context, who Identity, user uuid.UUID) (m Member, err error) {
	err = a.db.InReadTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &m, `
			SELECT m.user_id, u.email, m.role, m.created_at FROM memberships m JOIN users u ON u.id = m.user_id
			WHERE m.org_id = $1 AND m.user_id = $2`, who.OrgID, user)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Member{}, errNoMember()
	case err != nil:
		return Member{}, fmt.Errorf("couldn't look the member up: %w", err)
	}
	return m, nil
}

func errNoMember() error {
	return fault.New(fault.NotFound, "There is no such person in this organisation.")
}

// errManages refuses what only owners do to members.
func errManages(who Identity) error {
	return fault.New(fault.Forbidden, "Only owners of "+who.OrgName+" change who works there.")
}

func errLastOwner() error {
	return fault.New(fault.Conflict, "An organisation needs an owner, and this is the last one. Make somebody else an owner first.")
}

// owner is a locked row of one.
type owner struct {
	ID       uuid.UUID `db:"user_id"`
	Disabled bool      `db:"disabled"`
}

// owners are an organisation's, locked.
type owners []owner

// has reports whether user is one.
func (o owners) has(user uuid.UUID) bool {
	return slices.ContainsFunc(o, func(one owner) bool { return one.ID == user })
}

// without reports whether somebody is left who can act as an owner when user is none any more.
func (o owners) without(user uuid.UUID) bool {
	return slices.ContainsFunc(o, func(one owner) bool { return one.ID != user && !one.Disabled })
}

// lockOwners gives the organisation's owners and keeps them as they are until tx ends. Whoever changes members does this
// first, so that two changes never both count on the other's owner.
func lockOwners(ctx context.Context, tx *db.Tx, org uuid.UUID) (list owners, err error) {
	if err := tx.SelectContext(ctx, &list, `
		SELECT m.user_id, u.disabled_at IS NOT NULL AS disabled FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.org_id = $1 AND m.role = 'owner' ORDER BY m.user_id FOR UPDATE OF m`, org); err != nil {
		return nil, fmt.Errorf("couldn't lock the owners: %w", err)
	}
	return list, nil
}

// asOwner runs fn in a system transaction with the owners locked, for somebody who is still one of them. Forbidden for
// anybody else, also when they ceased to be one a moment ago.
func (a *Auth) asOwner(ctx context.Context, who Identity, why string, fn func(ctx context.Context, tx *db.Tx, all owners) error) error {
	if who.Role != RoleOwner {
		return errManages(who)
	}
	return a.db.InSystemTx(ctx, why, func(ctx context.Context, tx *db.Tx) error {
		all, err := lockOwners(ctx, tx, who.OrgID)
		if err != nil {
			return err
		}
		if !all.has(who.UserID) {
			return errManages(who)
		}
		return fn(ctx, tx, all)
	})
}

func checkRole(role Role) error {
	if role != RoleOwner && role != RoleMember && role != RoleViewer {
		return fault.Field("role", "Choose owner, member or viewer.")
	}
	return nil
}

// ChangeRole gives a member of the owner's organisation another role, from their next request on. Whoever ceases to be an
// owner has the invitations withdrawn that they sent. Faults: Forbidden for who is no owner, NotFound, Invalid with the
// field "role", Conflict for the last owner. Repeating it changes nothing.
func (a *Auth) ChangeRole(ctx context.Context, who Identity, user uuid.UUID, role Role) error {
	if who.Role == RoleOwner {
		if err := checkRole(role); err != nil {
			return err
		}
	}
	return a.asOwner(ctx, who, "the role of a member", func(ctx context.Context, tx *db.Tx, all owners) error {
		var old Role
		err := tx.GetContext(ctx, &old, `SELECT role FROM memberships WHERE org_id = $1 AND user_id = $2 FOR UPDATE`, who.OrgID, user)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoMember()
		case err != nil:
			return fmt.Errorf("couldn't look the member up: %w", err)
		case old == role:
			return nil
		case old == RoleOwner && !all.without(user):
			return errLastOwner()
		}
		res, err := tx.ExecContext(ctx, `
			UPDATE memberships SET role = $3 WHERE org_id = $1 AND user_id = $2 AND role = $4
			AND ($4 <> 'owner' OR EXISTS (SELECT FROM memberships o WHERE o.org_id = $1 AND o.role = 'owner' AND o.user_id <> $2))`,
			who.OrgID, user, string(role), string(old))
		if err := oneRow(res, err, "change the role"); err != nil {
			return err
		}
		if old == RoleOwner {
			if err := withdrawOf(ctx, tx, who.OrgID, user); err != nil {
				return err
			}
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: who.OrgID, Actor: who.Actor(), Action: "member.role_changed", Subject: "user:" + user.String(),
			Detail: map[string]any{"from": string(old), "to": string(role)},
		})
	})
}

// RemoveMember ends a person's access to the owner's organisation at once: membership, sessions in it, and the invitations
// that they sent. API keys are the organisation's and go on working. It gives the sessions that ended. Faults: Forbidden
// for who is no owner, NotFound, Conflict for the last owner.
func (a *Auth) RemoveMember(ctx context.Context, who Identity, user uuid.UUID) (ended []SessionID, err error) {
	var gone []endedSession
	err = a.asOwner(ctx, who, "removing a member", func(ctx context.Context, tx *db.Tx, all owners) error {
		gone = nil
		if all.has(user) && !all.without(user) {
			return errLastOwner()
		}
		if err := deleteMember(ctx, tx, who, user, "member.removed"); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &gone, `
			UPDATE sessions SET revoked_at = $3 WHERE user_id = $1 AND org_id = $2 AND revoked_at IS NULL
			RETURNING token_hash, grant_sealed`, user, who.OrgID, tx.Now); err != nil {
			return fmt.Errorf("couldn't end the sessions: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.ended(ctx, user, gone), nil
}

// Leave takes the identity out of its organisation. Its sessions there go on in the first of its other organisations by
// name; stays is false when there is none, and they are over. Conflict for the last owner.
func (a *Auth) Leave(ctx context.Context, who Identity) (stays bool, err error) {
	var gone []endedSession
	err = a.db.InSystemTx(ctx, "leaving an organisation", func(ctx context.Context, tx *db.Tx) error {
		gone, stays = nil, false
		all, err := lockOwners(ctx, tx, who.OrgID)
		if err != nil {
			return err
		}
		if all.has(who.UserID) && !all.without(who.UserID) {
			return errLastOwner()
		}
		if err := deleteMember(ctx, tx, who, who.UserID, "member.left"); err != nil {
			return err
		}
		var next uuid.NullUUID
		if err := tx.GetContext(ctx, &next, `
			SELECT (SELECT o.id FROM memberships m JOIN organizations o ON o.id = m.org_id WHERE m.user_id = $1 ORDER BY o.name LIMIT 1)`, who.UserID); err != nil {
			return fmt.Errorf("couldn't look up the other organisations: %w", err)
		}
		// An operator's session needs no organisation.
		stays = next.Valid || who.Operator
		if err := tx.SelectContext(ctx, &gone, `
			UPDATE sessions SET org_id = CASE WHEN $4 THEN $5::uuid ELSE org_id END, revoked_at = CASE WHEN $4 THEN NULL ELSE $3::timestamptz END
			WHERE user_id = $1 AND org_id = $2 AND revoked_at IS NULL RETURNING token_hash, grant_sealed`,
			who.UserID, who.OrgID, tx.Now, stays, next); err != nil {
			return fmt.Errorf("couldn't move the sessions on: %w", err)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if !stays {
		a.ended(ctx, who.UserID, gone)
	}
	return stays, nil
}

// deleteMember takes a person out of the organisation, and withdraws the invitations that they sent. The caller holds the
// owners' lock and has judged it.
func deleteMember(ctx context.Context, tx *db.Tx, who Identity, user uuid.UUID, action string) error {
	var role Role
	err := tx.GetContext(ctx, &role, `
		DELETE FROM memberships WHERE org_id = $1 AND user_id = $2
		AND (role <> 'owner' OR EXISTS (SELECT FROM memberships o WHERE o.org_id = $1 AND o.role = 'owner' AND o.user_id <> $2))
		RETURNING role`, who.OrgID, user)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errNoMember()
	case err != nil:
		return fmt.Errorf("couldn't remove the member: %w", err)
	}
	if err := withdrawOf(ctx, tx, who.OrgID, user); err != nil {
		return err
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: who.OrgID, Actor: who.Actor(), Action: action, Subject: "user:" + user.String(), Detail: map[string]any{"role": string(role)},
	})
}

// endedSession is one that is over, with what an outside provider gave for it.
type endedSession struct {
	Hash   []byte `db:"token_hash"`
	Sealed []byte `db:"grant_sealed"`
}

// ended ends the outside provider's sessions as well, and names ours.
func (a *Auth) ended(ctx context.Context, user uuid.UUID, gone []endedSession) (ids []SessionID) {
	for _, s := range gone {
		ids = append(ids, SessionID(s.Hash))
		if len(s.Sealed) > 0 {
			a.endGrant(ctx, user, s.Sealed)
		}
	}
	return ids
}

// oneRow makes an error of a statement that did not change exactly one row.
func oneRow(res sql.Result, err error, what string) error {
	if err != nil {
		return fmt.Errorf("couldn't %s: %w", what, err)
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows were changed", n)
	}
	if err != nil {
		return fmt.Errorf("couldn't %s: %w", what, err)
	}
	return nil
}
