package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// NewAccount is what somebody signs up with.
type NewAccount struct{ OrgName, Email, Password string }

// SignUp makes an organisation, its owner and the owner's first session in one transaction, then the organisation's
// wallet. Should the process end in between, Sweep opens the wallet. address is the client's IP address.
//
// Faults: Invalid and Conflict with the field "organisation", "email" or "password"; TooMany with RetryAfter when the
// address signed up, or tried to, too often; NotFound where an outside provider keeps the accounts. A repeat is a
// Conflict: the account is there, and its owner can sign in.
func (a *Auth) SignUp(ctx context.Context, n NewAccount, address, userAgent string) (token string, who Identity, err error) {
	if a.o.Supabase != nil || a.o.OpenWallet == nil {
		return "", Identity{}, fault.New(fault.NotFound, "Accounts are not made here. Ask your administrator.")
	}
	if err := a.countSignUp(ctx, address); err != nil {
		return "", Identity{}, err
	}
	// Hashed before the transaction: it takes its time, and a turn.
	hash, err := a.hashPassword(ctx, n.Password, n.Email, n.OrgName)
	if err != nil {
		return "", Identity{}, err
	}
	token, id := newToken()
	err = a.db.InSystemTx(ctx, "sign-up", func(ctx context.Context, tx *db.Tx) error {
		org, err := a.CreateOrganization(ctx, tx, n.OrgName)
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Field == "name" {
			return &fault.Error{Kind: f.Kind, Field: "organisation", Public: f.Public, Cause: f}
		}
		if err != nil {
			return err
		}
		user, err := addUser(ctx, tx, n.Email, hash, PlatformNone)
		if err != nil {
			return err
		}
		if err := a.AddMember(ctx, tx, org, user.ID, RoleOwner); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: audit.User(user.ID), Action: "auth.signed_up", Subject: "org:" + org.String()}); err != nil {
			return err
		}
		who, err = a.startSession(ctx, tx, account{ID: user.ID}, start{id: id, address: address, userAgent: userAgent})
		return err
	})
	if err != nil {
		return "", Identity{}, err
	}
	if err := a.o.OpenWallet(ctx, who.OrgID); err != nil {
		return "", Identity{}, fmt.Errorf("couldn't open the new organisation's wallet: %w", err)
	}
	return token, who, nil
}

// countSignUp counts a sign-up of the address, whatever comes of it: it also bounds who can ask which e-mails are taken.
func (a *Auth) countSignUp(ctx context.Context, address string) error {
	return a.countTries(ctx, "Too many sign-ups from your network.", tries{"sign-up:" + network(address), a.o.SignUps})
}

// ChangePassword gives a local user another password and ends all their other sessions. The old one is checked as at
// sign-in, with the same limits. Faults: Invalid with the field "current" or "password"; TooMany; Conflict for a user
// whose password an outside provider keeps.
func (a *Auth) ChangePassword(ctx context.Context, who Identity, current, password, address string) error {
	if !who.Local || a.o.Supabase != nil {
		return fault.New(fault.Conflict, "Your password is kept by your sign-in provider. Change it there.")
	}
	var at attempt
	err := a.db.InSystemTx(ctx, "the old password", func(ctx context.Context, tx *db.Tx) (err error) {
		at, err = a.begin(ctx, tx, who.Email, address)
		return err
	})
	if err != nil {
		return err
	}
	_, err = a.prove(ctx, at, who.Email, current)
	switch {
	case errors.Is(err, errWrong):
		if err := a.db.InSystemTx(ctx, "a wrong old password", func(ctx context.Context, tx *db.Tx) error {
			return recordRefusal(ctx, tx, at, address)
		}); err != nil {
			return err
		}
		return fault.Field("current", "That is not your present password.")
	case err != nil:
		return errors.Join(err, a.db.InSystemTx(ctx, "a password change given up", at.forget))
	}
	if current == password {
		return errors.Join(fault.Field("password", "Choose a password that differs from the present one."), a.db.InSystemTx(ctx, "a password change given up", at.forget))
	}
	hash, err := a.hashPassword(ctx, password, who.Email, who.OrgName)
	if err != nil {
		return errors.Join(err, a.db.InSystemTx(ctx, "a password change given up", at.forget))
	}
	return a.db.InSystemTx(ctx, "a password change", func(ctx context.Context, tx *db.Tx) error {
		if err := at.succeed(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1 AND issuer = $3`, who.UserID, hash, issuerLocal); err != nil {
			return fmt.Errorf("couldn't change the password: %w", err)
		}
		if err := endOthers(ctx, tx, who); err != nil {
			return err
		}
		if err := a.mailPasswordChanged(ctx, tx, who.Email, address); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: who.OrgID, Actor: who.Actor(), Action: "auth.password_changed", Subject: "user:" + who.UserID.String()})
	})
}

// endOthers ends every session of the user but this one.
func endOthers(ctx context.Context, tx *db.Tx, who Identity) error {
	if _, err := tx.ExecContext(ctx, `UPDATE sessions SET revoked_at = $3 WHERE user_id = $1 AND token_hash <> $2 AND revoked_at IS NULL`,
		who.UserID, who.SessionID[:], tx.Now); err != nil {
		return fmt.Errorf("couldn't end the other sessions: %w", err)
	}
	return nil
}

// Membership is an organisation that a user works in.
type Membership struct {
	OrgID uuid.UUID `db:"org_id"`
	Name  string    `db:"name"`
	Role  Role      `db:"role"`
}

// Memberships lists the user's organisations by name.
func (a *Auth) Memberships(ctx context.Context, user uuid.UUID) (list []Membership, err error) {
	err = a.db.InSystemTx(ctx, "a user's organisations", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, `
			SELECT m.org_id, o.name, m.role FROM memberships m JOIN organizations o ON o.id = m.org_id WHERE m.user_id = $1 ORDER BY o.name`, user)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the user's organisations: %w", err)
	}
	return list, nil
}

// SwitchOrg makes the session work in another organisation of its user. NotFound for any other organisation.
func (a *Auth) SwitchOrg(ctx context.Context, who Identity, org uuid.UUID) error {
	return a.db.InSystemTx(ctx, "another organisation of the user", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			UPDATE sessions s SET org_id = m.org_id FROM memberships m
			WHERE s.token_hash = $1 AND s.user_id = m.user_id AND m.org_id = $2 AND s.revoked_at IS NULL`, who.SessionID[:], org)
		if err != nil {
			return fmt.Errorf("couldn't switch the organisation: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(fault.New(fault.NotFound, "You work in no such organisation."), err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: who.Actor(), Action: "auth.organisation_switched", Subject: "session:" + who.SessionID.String(),
			Detail: map[string]any{"from": who.OrgID.String()},
		})
	})
}

// OrgKeys lists the API keys of the identity's organisation.
func (a *Auth) OrgKeys(ctx context.Context, who Identity) (keys []Key, err error) {
	err = a.db.InReadTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		keys, err = Keys(ctx, tx, who.OrgID)
		return err
	})
	return keys, err
}

// errOwner refuses what only owners do.
func errOwner(who Identity) error {
	return fault.New(fault.Forbidden, "Only owners of "+who.OrgName+" manage its API keys.")
}

// AddOrgKey is CreateKey for an owner of the organisation; Forbidden for anybody else.
func (a *Auth) AddOrgKey(ctx context.Context, who Identity, name string, scopes Scopes) (secret string, k Key, err error) {
	if who.Role != RoleOwner {
		return "", Key{}, errOwner(who)
	}
	err = a.db.InTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		secret, k, err = a.CreateKey(ctx, tx, who.OrgID, name, scopes, who.UserID, who.Actor())
		return err
	})
	return secret, k, err
}

// RevokeOrgKey is RevokeKey for an owner of the organisation; Forbidden for anybody else.
func (a *Auth) RevokeOrgKey(ctx context.Context, who Identity, id uuid.UUID) error {
	if who.Role != RoleOwner {
		return errOwner(who)
	}
	return a.db.InTx(ctx, []uuid.UUID{who.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return a.RevokeKey(ctx, tx, who.OrgID, id, who.Actor())
	})
}
