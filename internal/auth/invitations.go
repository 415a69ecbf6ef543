package auth

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/notice"
)

const (
	// invitedFor is how long the link in a letter holds.
	invitedFor = 7 * 24 * time.Hour
	// invitedAtOnce is how many invitations of one organisation may be open.
	invitedAtOnce = 100
)

// Invitation is one that is open: neither accepted nor withdrawn. Its link may have run out.
type Invitation struct {
	ID    uuid.UUID `db:"id"`
	Email string    `db:"email"`
	Role  Role      `db:"role"`
	// InvitedBy is the e-mail of who sent it; empty for people who left.
	InvitedBy string    `db:"invited_by"`
	SentAt    time.Time `db:"sent_at"`
	ExpiresAt time.Time `db:"expires_at"`
	Expired   bool      `db:"expired"`
}

// Invitations lists the open invitations to the identity's organisation, newest first.
func (a *Auth) Invitations(ctx context.Context, who Identity) (list []Invitation, err error) {
	err = a.db.InReadTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			SELECT i.id, i.email, i.role, coalesce(u.email, '') AS invited_by, i.sent_at, i.expires_at, i.expires_at <= $2 AS expired
			FROM invitations i LEFT JOIN users u ON u.id = i.invited_by
			WHERE i.org_id = $1 AND i.accepted_at IS NULL AND i.revoked_at IS NULL ORDER BY i.id DESC`, who.OrgID, tx.Now)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the invitations: %w", err)
	}
	return list, nil
}

// Invite asks somebody by mail to join the owner's organisation. What it answers and does is the same whether the address
// has an account or not. Faults: Forbidden for who is no owner; Invalid with the field "email" or "role"; Conflict with the
// field "email" for who works there or is invited already; TooMany with RetryAfter.
func (a *Auth) Invite(ctx context.Context, who Identity, email string, role Role) error {
	if who.Role != RoleOwner {
		return errManages(who)
	}
	email = normalEmail(email)
	if err := checkEmail(email); err != nil {
		return err
	}
	if err := checkRole(role); err != nil {
		return err
	}
	if err := a.countInvitation(ctx, who.OrgID); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("couldn't make an id: %w", err)
	}
	return a.asOwner(ctx, who, "an invitation", func(ctx context.Context, tx *db.Tx, _ owners) error {
		var is struct {
			Member bool `db:"member"`
			Open   int  `db:"open"`
		}
		if err := tx.GetContext(ctx, &is, `
			SELECT EXISTS (SELECT FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = $1 AND u.email = $2) AS member,
			       (SELECT count(*) FROM invitations WHERE org_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL) AS open`, who.OrgID, email); err != nil {
			return fmt.Errorf("couldn't look at who is there: %w", err)
		}
		switch {
		case is.Member:
			return &fault.Error{Kind: fault.Conflict, Field: "email", Public: "This person works in " + who.OrgName + " already."}
		case is.Open >= invitedAtOnce:
			return &fault.Error{Kind: fault.Conflict, Field: "email", Public: fmt.Sprintf("There are %d open invitations. Withdraw some that nobody will accept first.", is.Open)}
		}
		token, hash := newToken()
		_, err := tx.ExecContext(ctx, `
			INSERT INTO invitations (id, org_id, email, role, token_hash, invited_by, created_at, sent_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)`,
			id, who.OrgID, email, string(role), hash[:], who.UserID, tx.Now, tx.Now.Add(invitedFor))
		switch {
		case db.Violated(err, "invitations_open_unique"):
			return &fault.Error{Kind: fault.Conflict, Field: "email", Public: "This person is invited already. Send the invitation again from the list.", Cause: err}
		case err != nil:
			return fmt.Errorf("couldn't keep the invitation: %w", err)
		}
		return a.mailInvitation(ctx, tx, who, "member.invited", id, email, role, token)
	})
}

// ResendInvitation sends an open invitation of the owner's organisation again. The link of the letter before ends, the new
// one holds for another seven days. Faults: Forbidden for who is no owner, NotFound, TooMany with RetryAfter.
func (a *Auth) ResendInvitation(ctx context.Context, who Identity, id uuid.UUID) error {
	if who.Role != RoleOwner {
		return errManages(who)
	}
	open := false // what is not there counts for nobody
	err := a.db.InReadTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &open, `SELECT EXISTS (SELECT FROM invitations WHERE id = $1 AND org_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL)`, id, who.OrgID)
	})
	switch {
	case err != nil:
		return fmt.Errorf("couldn't look the invitation up: %w", err)
	case !open:
		return errNoInvitation()
	}
	if err := a.countInvitation(ctx, who.OrgID); err != nil {
		return err
	}
	return a.asOwner(ctx, who, "an invitation again", func(ctx context.Context, tx *db.Tx, _ owners) error {
		token, hash := newToken()
		var to struct {
			Email string `db:"email"`
			Role  Role   `db:"role"`
		}
		err := tx.GetContext(ctx, &to, `
			UPDATE invitations SET token_hash = $3, sent_at = $4, expires_at = $5
			WHERE id = $1 AND org_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL RETURNING email, role`,
			id, who.OrgID, hash[:], tx.Now, tx.Now.Add(invitedFor))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoInvitation()
		case err != nil:
			return fmt.Errorf("couldn't renew the invitation: %w", err)
		}
		return a.mailInvitation(ctx, tx, who, "member.invited_again", id, to.Email, to.Role, token)
	})
}

// RevokeInvitation withdraws an invitation of the owner's organisation. Repeating it changes nothing. Faults: Forbidden for
// who is no owner, NotFound, Conflict for one that was accepted.
func (a *Auth) RevokeInvitation(ctx context.Context, who Identity, id uuid.UUID) error {
	return a.asOwner(ctx, who, "withdrawing an invitation", func(ctx context.Context, tx *db.Tx, _ owners) error {
		var is struct {
			Accepted bool `db:"accepted"`
			Revoked  bool `db:"revoked"`
		}
		err := tx.GetContext(ctx, &is, `
			SELECT accepted_at IS NOT NULL AS accepted, revoked_at IS NOT NULL AS revoked FROM invitations WHERE id = $1 AND org_id = $2 FOR UPDATE`, id, who.OrgID)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoInvitation()
		case err != nil:
			return fmt.Errorf("couldn't look the invitation up: %w", err)
		case is.Accepted:
			return fault.New(fault.Conflict, "This invitation was accepted already. Remove the person from the list of members instead.")
		case is.Revoked:
			return nil
		}
		res, err := tx.ExecContext(ctx, `UPDATE invitations SET revoked_at = $2 WHERE id = $1 AND accepted_at IS NULL AND revoked_at IS NULL`, id, tx.Now)
		if err := oneRow(res, err, "withdraw the invitation"); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: who.OrgID, Actor: who.Actor(), Action: "member.invitation_revoked", Subject: "invitation:" + id.String()})
	})
}

func errNoInvitation() error {
	return fault.New(fault.NotFound, "There is no such open invitation.")
}

func (a *Auth) countInvitation(ctx context.Context, org uuid.UUID) error {
	return a.countTries(ctx, "Too many invitations were sent.", tries{"invitations:" + org.String(), a.o.Invitations})
}

// mailInvitation posts the letter and audits it. What the letter says of its sender is who they are to the organisation.
func (a *Auth) mailInvitation(ctx context.Context, tx *db.Tx, who Identity, action string, id uuid.UUID, email string, role Role, token string) error {
	until := tx.Now.Add(invitedFor)
	if err := a.post(ctx, tx, notice.Personal{
		Kind: notice.Invitation, Address: email, Expires: until,
		Data: map[string]any{"org_name": who.OrgName, "inviter": who.Email, "role": string(role), "until": until},
	}, token); err != nil {
		return err
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: who.OrgID, Actor: who.Actor(), Action: action, Subject: "invitation:" + id.String(), Detail: map[string]any{"email": email, "role": string(role)},
	})
}

// withdrawOf withdraws the open invitations that somebody sent who has no say any more.
func withdrawOf(ctx context.Context, tx *db.Tx, org, user uuid.UUID) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE invitations SET revoked_at = $3 WHERE invited_by = $2 AND org_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL`, org, user, tx.Now); err != nil {
		return fmt.Errorf("couldn't withdraw their invitations: %w", err)
	}
	return nil
}

// Invited is an invitation as whoever has its link sees it.
type Invited struct {
	ID      uuid.UUID `db:"id"`
	OrgID   uuid.UUID `db:"org_id"`
	OrgName string    `db:"org_name"`
	Email   string    `db:"email"`
	Role    Role      `db:"role"`
	// InvitedBy is the e-mail of who sent it.
	InvitedBy string    `db:"invited_by"`
	ExpiresAt time.Time `db:"expires_at"`
}

// errNotInvited is the one answer to every link that does not hold (any more).
func errNotInvited() error {
	return fault.New(fault.NotFound, "This invitation does not hold any more: it was used, withdrawn or sent again, or is older than a week. Ask for a new one.")
}

// InvitedBy finds what the token of a link invites to. Any link that does not hold, for whatever reason, is the same
// NotFound.
func (a *Auth) InvitedBy(ctx context.Context, token string) (inv Invited, err error) {
	if base64.RawURLEncoding.DecodedLen(len(token)) != tokenBytes {
		return Invited{}, errNotInvited()
	}
	hash := sessionID(token)
	err = a.db.InSystemTx(ctx, "the link of an invitation", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &inv, `
			SELECT i.id, i.org_id, o.name AS org_name, i.email, i.role, u.email AS invited_by, i.expires_at
			FROM invitations i JOIN organizations o ON o.id = i.org_id JOIN users u ON u.id = i.invited_by
			WHERE i.token_hash = $1 AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > $2`, hash[:], tx.Now)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Invited{}, errNotInvited()
	case err != nil:
		return Invited{}, fmt.Errorf("couldn't look the invitation up: %w", err)
	}
	return inv, nil
}

// join uses an invitation up and makes user a member with its role; who is one already keeps theirs.
func (a *Auth) join(ctx context.Context, tx *db.Tx, token string, user uuid.UUID, operator bool) (org uuid.UUID, err error) {
	hash := sessionID(token)
	var inv Invited
	err = tx.GetContext(ctx, &inv, `
		UPDATE invitations SET accepted_at = $2, accepted_by = $3
		WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2
		RETURNING id, org_id, role`, hash[:], tx.Now, user)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return uuid.Nil, errNotInvited()
	case err != nil:
		return uuid.Nil, fmt.Errorf("couldn't use the invitation up: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (org_id, user_id) DO NOTHING`,
		inv.OrgID, user, string(inv.Role), tx.Now); err != nil {
		return uuid.Nil, fmt.Errorf("couldn't add the member: %w", err)
	}
	return inv.OrgID, audit.Record(ctx, tx, audit.Entry{
		OrgID: inv.OrgID, Actor: actor(user, operator), Action: "member.joined", Subject: "user:" + user.String(),
		Detail: map[string]any{"invitation": inv.ID.String(), "role": string(inv.Role)},
	})
}

// AcceptAs accepts an invitation for somebody who is signed in with the very address that it went to; their session goes
// on in the organisation. Faults: NotFound for a link that does not hold, Conflict for another address.
func (a *Auth) AcceptAs(ctx context.Context, who Identity, token string) error {
	inv, err := a.InvitedBy(ctx, token)
	if err != nil {
		return err
	}
	if who.UserID == uuid.Nil || who.Email != inv.Email {
		return fault.New(fault.Conflict, "This invitation went to another address than the one that you are signed in with. Sign out, and open its link again.")
	}
	return a.db.InSystemTx(ctx, "accepting an invitation", func(ctx context.Context, tx *db.Tx) error {
		org, err := a.join(ctx, tx, token, who.UserID, who.Operator)
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE sessions SET org_id = $2 WHERE token_hash = $1 AND revoked_at IS NULL`, who.SessionID[:], org)
		return oneRow(res, err, "move the session on")
	})
}

// AcceptNew accepts an invitation for somebody who has no account yet: it makes one with the address that the letter went
// to, and begins a session. address is the client's IP address. Faults: NotFound for a link that does not hold, and where
// an outside provider keeps the accounts; Invalid with the field "password"; Conflict for an address that has an account,
// which is told to nobody but whoever got the letter.
func (a *Auth) AcceptNew(ctx context.Context, token, password, address, userAgent string) (session string, who Identity, err error) {
	if a.o.Supabase != nil {
		return "", Identity{}, fault.New(fault.NotFound, "Accounts are not made here. Sign in with your sign-in provider instead.")
	}
	inv, err := a.InvitedBy(ctx, token) // before the work of hashing
	if err != nil {
		return "", Identity{}, err
	}
	hash, err := a.hashPassword(ctx, password, inv.Email)
	if err != nil {
		return "", Identity{}, err
	}
	session, id := newToken()
	err = a.db.InSystemTx(ctx, "accepting an invitation with a new account", func(ctx context.Context, tx *db.Tx) error {
		user, err := addUser(ctx, tx, inv.Email, hash, PlatformNone)
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Conflict {
			return fault.Wrap(fault.Conflict, "There is an account with this address already. Accept with its password instead.", f)
		}
		if err != nil {
			return err
		}
		org, err := a.join(ctx, tx, token, user.ID, false)
		if err != nil {
			return err
		}
		who, err = a.startSession(ctx, tx, account{ID: user.ID}, start{id: id, address: address, userAgent: userAgent, org: uuid.NullUUID{UUID: org, Valid: true}})
		return err
	})
	if err != nil {
		return "", Identity{}, err
	}
	return session, who, nil
}

// AcceptSigningIn accepts an invitation for somebody who has an account with the address that the letter went to, also one
// that belongs nowhere yet, by its password. It promises what [Auth.SignIn] promises, limits and second factor included,
// and begins the session in the organisation. NotFound for a link that does not hold.
func (a *Auth) AcceptSigningIn(ctx context.Context, token, password, address, userAgent string) (session string, who Identity, err error) {
	inv, err := a.InvitedBy(ctx, token)
	if err != nil {
		return "", Identity{}, err
	}
	return a.signIn(ctx, inv.Email, password, address, userAgent, func(ctx context.Context, tx *db.Tx, user account) (uuid.NullUUID, error) {
		org, err := a.join(ctx, tx, token, user.ID, user.Operator)
		return uuid.NullUUID{UUID: org, Valid: err == nil}, err
	})
}
