package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// maxOperatorReason bounds why somebody became an operator or is none any more, in bytes.
const maxOperatorReason = 500

// NewOperator is who becomes an operator.
type NewOperator struct {
	Email string
	// Existing takes the account that is there already. Without it such an account is refused: whoever signed up under this
	// e-mail first need not be whom it is meant for.
	Existing bool
	Actor    audit.Actor
	Reason   string
}

// AddOperator makes somebody an operator, from their next request on, and gives the password of an account that it made for
// that; empty for one that was there. Only whoever runs the program may: no page calls it. A repeat with Existing changes nothing.
//
// Faults: Invalid with the field "email" or "reason"; Conflict with "email" for an account that is there without Existing, or for
// several; NotFound for Existing where none is, and where an outside provider makes the accounts.
func (a *Auth) AddOperator(ctx context.Context, n NewOperator) (made string, err error) {
	reason, err := operatorReason(n.Reason)
	if err != nil {
		return "", err
	}
	if err := checkEmail(normalEmail(n.Email)); err != nil {
		return "", err
	}
	err = a.db.InSystemTx(ctx, "somebody becomes an operator", func(ctx context.Context, tx *db.Tx) error {
		made = ""
		id, is, err := a.accountFor(ctx, tx, n.Email)
		switch {
		case err != nil:
			return err
		case id != uuid.Nil && !n.Existing:
			return &fault.Error{Kind: fault.Conflict, Field: "email", Public: "There is an account with this email already. Make sure whose it is before it becomes an operator's."}
		case is:
			return nil
		case id == uuid.Nil && a.o.Supabase != nil:
			return fault.New(fault.NotFound, "Nobody with this email has signed in yet. They come from the provider: sign in once, then repeat this.")
		case id == uuid.Nil && n.Existing:
			return errNoAccount()
		case id == uuid.Nil:
			made = strings.ToLower(rand.Text())
			u, err := a.CreateUser(ctx, tx, n.Email, made, PlatformOperator)
			if err != nil {
				return err
			}
			id = u.ID
		default:
			if err := setPlatformRole(ctx, tx, id, PlatformOperator); err != nil {
				return err
			}
		}
		return audit.Record(ctx, tx, audit.Entry{Actor: n.Actor, Action: "operator.added", Subject: "user:" + id.String(), Reason: reason, Detail: map[string]any{"account_made": made != ""}})
	})
	if err != nil {
		return "", err
	}
	return made, nil
}

// RemoveOperator makes an operator somebody like everybody else, from their next request on. A repeat changes nothing. Faults:
// Invalid with the field "reason"; NotFound; Conflict with "email" for several accounts.
func (a *Auth) RemoveOperator(ctx context.Context, email string, actor audit.Actor, reason string) error {
	reason, err := operatorReason(reason)
	if err != nil {
		return err
	}
	return a.db.InSystemTx(ctx, "somebody is no operator any more", func(ctx context.Context, tx *db.Tx) error {
		id, is, err := a.accountFor(ctx, tx, email)
		switch {
		case err != nil:
			return err
		case id == uuid.Nil:
			return errNoAccount()
		case !is:
			return nil
		}
		if err := setPlatformRole(ctx, tx, id, PlatformNone); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: "operator.removed", Subject: "user:" + id.String(), Reason: reason})
	})
}

func errNoAccount() error { return fault.New(fault.NotFound, "There is no account with this email.") }

// accountFor finds and locks the account that signs in with this e-mail, and says whether it is an operator's; uuid.Nil where there
// is none.
func (a *Auth) accountFor(ctx context.Context, tx *db.Tx, email string) (id uuid.UUID, operator bool, err error) {
	var found []struct {
		ID       uuid.UUID `db:"id"`
		Operator bool      `db:"operator"`
	}
	if err := tx.SelectContext(ctx, &found, `
		SELECT id, coalesce(platform_role = 'operator', false) AS operator FROM users
		WHERE email = $1 AND (issuer = 'local') = $2 ORDER BY id FOR UPDATE`, normalEmail(email), a.o.Supabase == nil); err != nil {
		return uuid.Nil, false, fmt.Errorf("couldn't look the account up: %w", err)
	}
	switch len(found) {
	case 0:
		return uuid.Nil, false, nil
	case 1:
		return found[0].ID, found[0].Operator, nil
	}
	return uuid.Nil, false, &fault.Error{Kind: fault.Conflict, Field: "email", Public: "There are several accounts with this email."}
}

func setPlatformRole(ctx context.Context, tx *db.Tx, user uuid.UUID, role PlatformRole) error {
	if _, err := tx.ExecContext(ctx, `UPDATE users SET platform_role = nullif($2, '') WHERE id = $1`, user, string(role)); err != nil {
		return fmt.Errorf("couldn't set the platform role: %w", err)
	}
	return nil
}

func operatorReason(reason string) (string, error) {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > maxOperatorReason || !storable(reason) {
		return "", fault.Field("reason", fmt.Sprintf("Give a reason of at most %d characters.", maxOperatorReason))
	}
	return reason, nil
}
