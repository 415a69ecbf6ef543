package auth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

const (
	// renewAhead is how long before its end a grant is renewed, so that requests meanwhile need not wait.
	renewAhead = time.Minute
	// grantLease is how long one process may take to renew a grant before another tries; longer than supabaseWait.
	grantLease = 15 * time.Second
	// renewPause is how long nobody tries again after the provider did not answer.
	renewPause = 5 * time.Second
	// leaseLook is how often a request looks whether another one's renewal is done.
	leaseLook = 50 * time.Millisecond
)

// sealedGrant is a grant as the session's row keeps it, and when it has to be renewed.
type sealedGrant struct {
	sealed  []byte
	expires time.Time
}

func grantLabel(user uuid.UUID) string { return "supabase grant of " + user.String() }

// accept checks a grant's access token and seals the grant for the user that the token names.
func (a *Auth) accept(ctx context.Context, g grant) (Claims, error) {
	claims, err := a.o.Verifier.Verify(ctx, g.Access)
	if err != nil {
		return Claims{}, fmt.Errorf("the sign-in service's own token: %w", err)
	}
	return claims, nil
}

func (a *Auth) sealGrant(user uuid.UUID, g grant, expires time.Time) (*sealedGrant, error) {
	plain, err := json.Marshal(g) //nolint:gosec // to be sealed in the next step
	if err != nil {
		return nil, fmt.Errorf("couldn't write the grant: %w", err)
	}
	sealed, err := a.sealer.seal(plain, grantLabel(user))
	if err != nil {
		return nil, err
	}
	return &sealedGrant{sealed: sealed, expires: expires.UTC()}, nil
}

func (a *Auth) openGrant(user uuid.UUID, sealed []byte) (g grant, err error) {
	plain, err := a.sealer.open(sealed, grantLabel(user))
	if err == nil {
		err = json.Unmarshal(plain, &g)
	}
	if err != nil {
		return grant{}, fmt.Errorf("couldn't open the grant: %w", err)
	}
	return g, nil
}

// proveOutside checks email and password at the provider. The user is added at the first sign-in, so that somebody can
// be made a member; without a membership they come no further.
func (a *Auth) proveOutside(ctx context.Context, email, password string) (proof, error) {
	if email == "" || password == "" {
		return proof{}, errWrong
	}
	g, err := a.o.Supabase.password(ctx, email, password)
	switch {
	case errors.Is(err, errGrantRefused):
		return proof{}, errWrong
	case errors.Is(err, errGrantBusy):
		return proof{}, &fault.Error{Kind: fault.TooMany, RetryAfter: time.Minute, Cause: err, Public: "Many people are signing in at the moment. Wait a minute and try again."}
	case err != nil:
		a.o.Log.ErrorContext(ctx, "couldn't check a password", "error", err)
		return proof{}, errOutside(err)
	}
	claims, err := a.accept(ctx, g)
	if err != nil {
		a.o.Log.ErrorContext(ctx, "couldn't check a password", "error", err)
		return proof{}, errOutside(err)
	}
	var user account
	err = a.db.InSystemTx(ctx, "a user of the sign-in provider", func(ctx context.Context, tx *db.Tx) (err error) {
		user, err = mapUser(ctx, tx, claims)
		return err
	})
	if err != nil {
		return proof{}, err
	}
	if user.Disabled {
		return proof{}, errWrong
	}
	sealed, err := a.sealGrant(user.ID, g, claims.Expires)
	if err != nil {
		return proof{}, err
	}
	return proof{user: user, org: uuid.NullUUID{UUID: claims.OrgID, Valid: claims.OrgID != uuid.Nil}, grant: sealed}, nil
}

// mapUser finds the user that issuer and subject name, and adds one that is new. The e-mail is only kept for showing.
func mapUser(ctx context.Context, tx *db.Tx, c Claims) (user account, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return account{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = tx.GetContext(ctx, &user, `
		INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, $2, $3, lower($4::text), $5)
		ON CONFLICT (issuer, subject) DO UPDATE SET email = excluded.email
		RETURNING id, disabled_at IS NOT NULL AS disabled, coalesce(platform_role = 'operator', false) AS operator`,
		id, c.Issuer, c.Subject, c.Email, tx.Now)
	if err != nil {
		return account{}, fmt.Errorf("couldn't look the user up: %w", err)
	}
	return user, nil
}

// renewGrant renews the grant of a session whose time is nearly over. Of any number of requests, in any number of
// processes, one asks the provider; the others go on while the old grant holds, and wait when it does not.
func (a *Auth) renewGrant(ctx context.Context, id SessionID) error {
	look := time.NewTicker(leaseLook)
	defer look.Stop()
	patience := time.NewTimer(grantLease)
	defer patience.Stop()
	for {
		l, err := a.leaseGrant(ctx, id)
		switch {
		case err != nil:
			return err
		case l.won:
			// Whoever asked may go away: a refresh token works once, so its answer must be kept.
			return a.refreshGrant(context.WithoutCancel(ctx), id, l)
		case l.holds:
			return nil
		}
		select {
		case <-look.C:
		case <-patience.C:
			return errOutside(errors.New("another request renews the session, and takes too long"))
		case <-ctx.Done():
			return fmt.Errorf("waiting for the session to be renewed: %w", ctx.Err())
		}
	}
}

// lease is how a grant stands for one request.
type lease struct {
	won    bool // this request is to renew it
	holds  bool // it can be used as it is
	user   uuid.UUID
	sealed []byte
	until  time.Time // when the present grant ends
}

func (a *Auth) leaseGrant(ctx context.Context, id SessionID) (l lease, err error) {
	err = a.db.InSystemTx(ctx, "renewing a session", func(ctx context.Context, tx *db.Tx) error {
		var row struct {
			UserID  uuid.UUID    `db:"user_id"`
			Sealed  []byte       `db:"grant_sealed"`
			Expires time.Time    `db:"grant_expires_at"`
			Lease   sql.NullTime `db:"grant_lease_until"`
		}
		err := tx.GetContext(ctx, &row, `
			SELECT user_id, grant_sealed, grant_expires_at, grant_lease_until FROM sessions
			WHERE token_hash = $1 AND revoked_at IS NULL AND grant_sealed IS NOT NULL FOR UPDATE`, id[:])
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errSignedOut()
		case err != nil:
			return fmt.Errorf("couldn't read the session's grant: %w", err)
		}
		l = lease{user: row.UserID, sealed: row.Sealed, until: row.Expires, holds: row.Expires.After(tx.Now)}
		if row.Expires.After(tx.Now.Add(renewAhead)) || row.Lease.Valid && row.Lease.Time.After(tx.Now) {
			return nil
		}
		l.won = true
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET grant_lease_until = $2 WHERE token_hash = $1`, id[:], tx.Now.Add(grantLease)); err != nil {
			return fmt.Errorf("couldn't lease the session's grant: %w", err)
		}
		return nil
	})
	return l, err
}

// refreshGrant asks the provider for a new grant and keeps it.
func (a *Auth) refreshGrant(ctx context.Context, id SessionID, l lease) error {
	g, err := a.openGrant(l.user, l.sealed)
	if err != nil { // its key is gone: as good as no session
		a.o.Log.WarnContext(ctx, "a session ends", "error", err)
		return a.endSession(ctx, id, l.user, "the grant could not be opened")
	}
	fresh, err := a.o.Supabase.refresh(ctx, g.Refresh)
	if errors.Is(err, errGrantRefused) {
		return a.endSession(ctx, id, l.user, "the sign-in provider ended it")
	}
	var sealed *sealedGrant
	if err == nil {
		sealed, err = a.checkFresh(ctx, l.user, fresh)
	}
	if err != nil {
		a.o.Log.WarnContext(ctx, "couldn't renew a session", "error", err)
		perr := a.db.InSystemTx(ctx, "a session that was not renewed", func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `
				UPDATE sessions SET grant_lease_until = CASE WHEN grant_expires_at > $2 THEN $3::timestamptz END WHERE token_hash = $1`,
				id[:], tx.Now, tx.Now.Add(renewPause))
			return err
		})
		if perr != nil || !l.holds {
			return errOutside(errors.Join(err, perr))
		}
		return nil // it holds a little longer, and the next request tries again
	}
	return a.db.InSystemTx(ctx, "a renewed session", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE sessions SET grant_sealed = $2, grant_expires_at = $3, grant_lease_until = NULL WHERE token_hash = $1`,
			id[:], sealed.sealed, sealed.expires); err != nil {
			return fmt.Errorf("couldn't keep the session's grant: %w", err)
		}
		return nil
	})
}

// checkFresh holds a new grant against the user it is for.
func (a *Auth) checkFresh(ctx context.Context, user uuid.UUID, g grant) (*sealedGrant, error) {
	claims, err := a.accept(ctx, g)
	if err != nil {
		return nil, err
	}
	var same bool
	err = a.db.InSystemTx(ctx, "whose session is renewed", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &same, `SELECT EXISTS (SELECT FROM users WHERE id = $1 AND issuer = $2 AND subject = $3)`, user, claims.Issuer, claims.Subject)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("couldn't look the user up: %w", err)
	case !same:
		return nil, errors.New("the sign-in service's token is somebody else's")
	}
	return a.sealGrant(user, g, claims.Expires)
}

// endSession ends a session that cannot go on, and gives the error that says so.
func (a *Auth) endSession(ctx context.Context, id SessionID, user uuid.UUID, why string) error {
	err := a.db.InSystemTx(ctx, "ending a session", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET revoked_at = $2 WHERE token_hash = $1 AND revoked_at IS NULL`, id[:], tx.Now); err != nil {
			return fmt.Errorf("couldn't end the session: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: audit.System("auth"), Action: "auth.session_ended", Subject: "session:" + id.String(),
			Detail: map[string]any{"user": user.String(), "why": why},
		})
	})
	return errors.Join(errSignedOut(), err)
}

// endGrant ends the provider's session as well. Its tokens are thrown away either way.
func (a *Auth) endGrant(ctx context.Context, user uuid.UUID, sealed []byte) {
	if a.o.Supabase == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	g, err := a.openGrant(user, sealed)
	if err == nil {
		err = a.o.Supabase.logout(ctx, g.Access)
	}
	if err != nil {
		a.o.Log.WarnContext(ctx, "couldn't sign out at the sign-in provider", "error", err)
	}
}
