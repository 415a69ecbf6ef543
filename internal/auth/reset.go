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
	// resetFor is how long the link in a letter holds.
	resetFor = 30 * time.Minute
	// changedFor is for how long the letter about a changed password is tried.
	changedFor = 24 * time.Hour
)

// AskReset sends whoever has an account with this e-mail a link to choose a new password. Its answer, its limits and its
// statements are the same whether there is such an account or not, and so is its work: the rows for nobody are written too.
// address is the client's IP address. Faults: Invalid with the field "email" for what is no address, TooMany with RetryAfter,
// NotFound where an outside provider keeps the passwords.
func (a *Auth) AskReset(ctx context.Context, email, address string) error {
	if a.o.Supabase != nil {
		return errResetElsewhere()
	}
	email = normalEmail(email)
	if err := checkEmail(email); err != nil {
		return err
	}
	if err := a.countTries(ctx, "A new password was asked for too often.",
		tries{"reset:account:" + email, a.o.AccountResets}, tries{"reset:address:" + network(address), a.o.AddressResets}); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("couldn't make an id: %w", err)
	}
	token, hash := newToken()
	return a.db.InSystemTx(ctx, "a forgotten password", func(ctx context.Context, tx *db.Tx) error {
		var user uuid.NullUUID
		if err := tx.GetContext(ctx, &user, `
			INSERT INTO password_resets (id, user_id, token_hash, created_at, expires_at)
			SELECT $1, (SELECT id FROM users WHERE issuer = $2 AND email = $3 AND disabled_at IS NULL), $4, $5, $6 RETURNING user_id`,
			id, issuerLocal, email, hash[:], tx.Now, tx.Now.Add(resetFor)); err != nil {
			return fmt.Errorf("couldn't keep the request: %w", err)
		}
		to, who := email, "user:"+user.UUID.String()
		if !user.Valid { // what was typed is not kept: see recordRefusal
			to, who = "", "unknown account"
		}
		if err := a.post(ctx, tx, notice.Personal{
			Kind: notice.PasswordReset, Address: to, Expires: tx.Now.Add(resetFor), Data: map[string]any{"until": tx.Now.Add(resetFor)},
		}, token); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: audit.System("password reset"), Action: "auth.reset_asked", Subject: who, Detail: map[string]any{"address": clean(address, maxAddress)},
		})
	})
}

func errResetElsewhere() error {
	return fault.New(fault.NotFound, "Passwords are kept by your sign-in provider. Choose a new one there.")
}

// errNoReset is the one answer to every link that does not hold (any more).
func errNoReset() error {
	return fault.New(fault.NotFound, "This link does not hold any more: it was used already, or is older than 30 minutes. Ask for a new one.")
}

// resettable is an account whose password a link may change.
type resettable struct {
	ID       uuid.UUID `db:"id"`
	Email    string    `db:"email"`
	Operator bool      `db:"operator"`
}

// resetOf finds the account whose password the token of a link may change; lock is the end of the statement.
func resetOf(ctx context.Context, tx *db.Tx, token, lock string) (user resettable, err error) {
	hash := sessionID(token)
	err = tx.GetContext(ctx, &user, `
		SELECT u.id, u.email, coalesce(u.platform_role = 'operator', false) AS operator
		FROM password_resets r JOIN users u ON u.id = r.user_id
		WHERE r.token_hash = $1 AND r.used_at IS NULL AND r.expires_at > $2 AND u.issuer = $3 AND u.disabled_at IS NULL `+lock,
		hash[:], tx.Now, issuerLocal)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return resettable{}, errNoReset()
	case err != nil:
		return resettable{}, fmt.Errorf("couldn't look the link up: %w", err)
	}
	return user, nil
}

// CheckReset says whether the token of a link may still change a password: NotFound when not, for whatever reason. It uses
// nothing up.
func (a *Auth) CheckReset(ctx context.Context, token string) error {
	_, err := a.resetEmail(ctx, token)
	return err
}

// resetEmail is CheckReset with the e-mail of the account.
func (a *Auth) resetEmail(ctx context.Context, token string) (email string, err error) {
	switch {
	case a.o.Supabase != nil:
		return "", errResetElsewhere()
	case base64.RawURLEncoding.DecodedLen(len(token)) != tokenBytes:
		return "", errNoReset()
	}
	err = a.db.InSystemTx(ctx, "the link for a new password", func(ctx context.Context, tx *db.Tx) error {
		user, err := resetOf(ctx, tx, token, "")
		email = user.Email
		return err
	})
	return email, err
}

// ResetPassword gives the account that the token's link was sent to a new password, and ends all its sessions, waiting ones
// too. Nobody is signed in by it, and a second factor stays what it was: the next sign-in asks for it. Every other link for
// the account ends, and failed sign-ins no longer count against it. address is the client's IP address. Faults: NotFound for
// a link that does not hold, Invalid with the field "password", which leaves the link as it is.
func (a *Auth) ResetPassword(ctx context.Context, token, password, address string) error {
	email, err := a.resetEmail(ctx, token) // before the work of hashing
	if err != nil {
		return err
	}
	hash, err := a.hashPassword(ctx, password, email)
	if err != nil {
		return err
	}
	return a.db.InSystemTx(ctx, "a new password", func(ctx context.Context, tx *db.Tx) error {
		user, err := resetOf(ctx, tx, token, "FOR UPDATE OF r")
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE password_resets SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL`, user.ID, tx.Now); err != nil {
			return fmt.Errorf("couldn't use the link up: %w", err)
		}
		res, err := tx.ExecContext(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1 AND issuer = $3 AND disabled_at IS NULL`, user.ID, hash, issuerLocal)
		if err := oneRow(res, err, "change the password"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL`, user.ID, tx.Now); err != nil {
			return fmt.Errorf("couldn't end the sessions: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM login_failures WHERE subject = $1`, subject("account:"+user.Email)); err != nil {
			return fmt.Errorf("couldn't clear the failed sign-ins: %w", err)
		}
		if err := a.mailPasswordChanged(ctx, tx, user.Email, address); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor(user.ID, user.Operator), Action: "auth.password_reset", Subject: "user:" + user.ID.String(),
			Detail: map[string]any{"address": clean(address, maxAddress)},
		})
	})
}

// mailPasswordChanged tells the account's own address.
func (a *Auth) mailPasswordChanged(ctx context.Context, tx *db.Tx, email, address string) error {
	return a.post(ctx, tx, notice.Personal{
		Kind: notice.PasswordChanged, Address: email, Expires: tx.Now.Add(changedFor), Data: map[string]any{"at": tx.Now, "from": clean(address, maxAddress)},
	}, "")
}
