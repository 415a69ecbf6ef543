package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// SessionID names a session without giving access to it: the SHA-256 of its token.
type SessionID [sha256.Size]byte

// String is a short form for logs.
func (id SessionID) String() string { return hex.EncodeToString(id[:6]) }

// touchEvery bounds how often a session's use is written down.
const touchEvery = time.Minute

// tokenBytes is the length of a session token: 256 bits.
const tokenBytes = 32

// newToken makes a session token and its id.
func newToken() (string, SessionID) {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	token := base64.RawURLEncoding.EncodeToString(b[:])
	return token, sessionID(token)
}

func sessionID(token string) SessionID { return sha256.Sum256([]byte(token)) }

// errSignedOut is the one answer to every session that does not hold (any more).
func errSignedOut() error {
	return fault.New(fault.Unauthenticated, "You are signed out. Sign in to continue.")
}

// start is what a new session is made of.
type start struct {
	id                 SessionID
	address, userAgent string
	// org is where to begin, if the user is a member there; else the first organisation by name is taken.
	org uuid.NullUUID
	// grant is what an outside provider gave; nil with our own passwords.
	grant *sealedGrant
	// factorGiven says that the second factor was given just now; without it, a user who has one gets a session that is
	// pending until it is.
	factorGiven bool
}

// pendingFor is how long a session waits for its second factor.
const pendingFor = 10 * time.Minute

// startSession adds the session's row and says who it belongs to.
func (a *Auth) startSession(ctx context.Context, tx *db.Tx, user account, s start) (Identity, error) {
	var orgs []uuid.UUID
	err := tx.SelectContext(ctx, &orgs, `
		SELECT o.id FROM memberships m JOIN organizations o ON o.id = m.org_id
		WHERE m.user_id = $1 ORDER BY (o.id = $2) IS TRUE DESC, o.name LIMIT 1`, user.ID, s.org)
	if err != nil {
		return Identity{}, fmt.Errorf("couldn't look up the organisation: %w", err)
	}
	if len(orgs) == 0 && !user.Operator {
		return Identity{}, fault.New(fault.Forbidden, "This account belongs to no organisation. Ask an owner to add you, then sign in again.")
	}
	org := uuid.NullUUID{}
	if len(orgs) > 0 {
		org = uuid.NullUUID{UUID: orgs[0], Valid: true}
	}
	pending, factorAt, expires := false, sql.NullTime{Time: tx.Now, Valid: s.factorGiven}, tx.Now.Add(a.o.Absolute)
	if !s.factorGiven {
		if err := tx.GetContext(ctx, &pending, `
			SELECT EXISTS (SELECT FROM second_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL)`, user.ID); err != nil {
			return Identity{}, fmt.Errorf("couldn't look up the second factor: %w", err)
		}
	}
	action := "auth.signed_in"
	if pending {
		action, expires = "auth.second_factor_asked", tx.Now.Add(pendingFor)
	}
	var sealed []byte
	var grantUntil sql.NullTime
	if s.grant != nil {
		sealed, grantUntil = s.grant.sealed, sql.NullTime{Time: s.grant.expires, Valid: true}
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO sessions (token_hash, user_id, org_id, created_at, last_seen_at, expires_at, address, user_agent, pending, factor_at, grant_sealed, grant_expires_at)
		VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9, $10, $11)`,
		s.id[:], user.ID, org, tx.Now, expires, clean(s.address, maxAddress), clean(s.userAgent, maxUserAgent), pending, factorAt, sealed, grantUntil)
	if err != nil {
		return Identity{}, fmt.Errorf("couldn't begin the session: %w", err)
	}
	if err := audit.Record(ctx, tx, audit.Entry{
		OrgID: org.UUID, Actor: actor(user.ID, user.Operator), Action: action, Subject: "session:" + s.id.String(),
		Detail: map[string]any{"address": clean(s.address, maxAddress)},
	}); err != nil {
		return Identity{}, err
	}
	if pending {
		return Identity{UserID: user.ID, SessionID: s.id, Pending: true}, nil
	}
	found, err := a.find(ctx, tx, []SessionID{s.id})
	if err != nil {
		return Identity{}, err
	}
	if len(found) == 0 { // disabled, or taken out of the organisation, while the password was checked
		return Identity{}, refused()
	}
	return found[0].identity(), nil
}

// live is a session that holds, with all that has to be true of its user for that.
type live struct {
	TokenHash  []byte         `db:"token_hash"`
	UserID     uuid.UUID      `db:"user_id"`
	Email      string         `db:"email"`
	Operator   bool           `db:"operator"`
	OrgID      uuid.NullUUID  `db:"org_id"`
	OrgName    sql.NullString `db:"org_name"`
	Role       sql.NullString `db:"role"`
	LastSeenAt time.Time      `db:"last_seen_at"`
	Factor     bool           `db:"second_factor"`
	Local      bool           `db:"local"`
	GrantUntil sql.NullTime   `db:"grant_expires_at"`
	Suspended  bool           `db:"suspended"`
	ViewUntil  sql.NullTime   `db:"viewing_until"`
}

// identity is who the session acts as.
func (l live) identity() Identity {
	role := Role(l.Role.String)
	return Identity{
		Suspended: l.Suspended, Viewing: l.ViewUntil.Valid, ViewUntil: l.ViewUntil.Time.UTC(),
		UserID: l.UserID, Email: l.Email, Operator: l.Operator, OrgID: l.OrgID.UUID, OrgName: l.OrgName.String,
		Role: role, SessionID: SessionID(l.TokenHash), Scopes: role.scopes(), SecondFactor: l.Factor, Local: l.Local,
	}
}

// find gives those of the sessions that hold now: not pending, not revoked, within both limits, the user not disabled and still a
// member of the session's organisation, or an operator where it has none. An operator who looks at an organisation is a
// viewer of that one meanwhile.
func (a *Auth) find(ctx context.Context, tx *db.Tx, ids []SessionID) ([]live, error) {
	hashes := make([][]byte, len(ids))
	for i := range ids {
		hashes[i] = ids[i][:]
	}
	var found []live
	err := tx.SelectContext(ctx, &found, `
		SELECT s.token_hash, s.user_id, u.email, coalesce(u.platform_role = 'operator', false) AS operator,
		       coalesce(v.id, s.org_id) AS org_id, coalesce(v.name, o.name) AS org_name, CASE WHEN v.id IS NULL THEN m.role ELSE 'viewer' END AS role,
		       s.last_seen_at, s.factor_at IS NOT NULL AS second_factor, u.issuer = 'local' AS local, s.grant_expires_at,
		       CASE WHEN v.id IS NULL THEN o.suspended_at ELSE v.suspended_at END IS NOT NULL AS suspended,
		       CASE WHEN v.id IS NOT NULL THEN s.viewing_until END AS viewing_until
		FROM sessions s
		JOIN users u ON u.id = s.user_id
		LEFT JOIN memberships m ON m.org_id = s.org_id AND m.user_id = s.user_id
		LEFT JOIN organizations o ON o.id = s.org_id
		LEFT JOIN organizations v ON v.id = s.viewing_org_id AND s.viewing_until > $2 AND u.platform_role = 'operator'
		WHERE s.token_hash = ANY ($1) AND NOT s.pending AND s.revoked_at IS NULL AND s.expires_at > $2 AND s.last_seen_at > $3
		  AND u.disabled_at IS NULL
		  AND (m.role IS NOT NULL OR s.org_id IS NULL AND u.platform_role = 'operator')`,
		pq.ByteaArray(hashes), tx.Now, tx.Now.Add(-a.o.Idle))
	if err != nil {
		return nil, fmt.Errorf("couldn't look up the session: %w", err)
	}
	return found, nil
}

// Resolve says who the token's session acts as now. Any session that does not hold, for whatever reason, is the fault
// Unauthenticated. One that an outside provider vouches for is renewed there before its time is over; Unavailable when
// that was not possible in time. Its use is written down at most once a minute, which is what the idle limit counts from.
func (a *Auth) Resolve(ctx context.Context, token string) (Identity, error) {
	if base64.RawURLEncoding.DecodedLen(len(token)) != tokenBytes {
		return Identity{}, errSignedOut()
	}
	id := sessionID(token)
	var found []live
	var stale, renew bool
	err := a.db.InSystemTx(ctx, "session look-up", func(ctx context.Context, tx *db.Tx) (err error) {
		found, err = a.find(ctx, tx, []SessionID{id})
		renew = len(found) == 1 && found[0].GrantUntil.Valid && !found[0].GrantUntil.Time.After(tx.Now.Add(renewAhead))
		stale = len(found) == 1 && tx.Now.Sub(found[0].LastSeenAt) >= touchEvery
		return err
	})
	switch {
	case err != nil:
		return Identity{}, err
	case len(found) == 0:
		return Identity{}, errSignedOut()
	}
	if renew {
		if err := a.renewGrant(ctx, id); err != nil {
			return Identity{}, err
		}
	}
	if stale {
		err := a.db.InSystemTx(ctx, "session use", func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE sessions SET last_seen_at = $2 WHERE token_hash = $1 AND last_seen_at < $2`, id[:], tx.Now)
			return err
		})
		if err != nil {
			return Identity{}, fmt.Errorf("couldn't note the session's use: %w", err)
		}
	}
	return found[0].identity(), nil
}

// StillValid gives those of the sessions that hold now, with who each acts as. It is how long-lived streams learn of a
// sign-out; it does not count as use.
func (a *Auth) StillValid(ctx context.Context, ids []SessionID) (map[SessionID]Identity, error) {
	valid := make(map[SessionID]Identity, len(ids))
	err := a.db.InSystemTx(ctx, "open streams", func(ctx context.Context, tx *db.Tx) error {
		found, err := a.find(ctx, tx, ids)
		for _, l := range found {
			if l.GrantUntil.Valid && !l.GrantUntil.Time.After(tx.Now) {
				continue // the browser connects again, and that request renews it
			}
			who := l.identity()
			valid[who.SessionID] = who
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return valid, nil
}

// SignOut ends the token's session for good, everywhere it is in use, a pending one too, and then the outside
// provider's. That one not answering is logged and nothing else: ours is over. Ending one that is over does nothing.
func (a *Auth) SignOut(ctx context.Context, token string) error {
	id := sessionID(token)
	var ended struct {
		UserID   uuid.UUID     `db:"user_id"`
		OrgID    uuid.NullUUID `db:"org_id"`
		Operator bool          `db:"operator"`
		Sealed   []byte        `db:"grant_sealed"`
	}
	err := a.db.InSystemTx(ctx, "sign-out", func(ctx context.Context, tx *db.Tx) error {
		if _, err := endViews(ctx, tx, viewSignedOut, `s.token_hash = $2 AND s.viewing_until IS DISTINCT FROM $1`, id[:]); err != nil {
			return err
		}
		err := tx.GetContext(ctx, &ended, `
			UPDATE sessions s SET revoked_at = $2 FROM users u
			WHERE s.token_hash = $1 AND s.revoked_at IS NULL AND u.id = s.user_id
			RETURNING s.user_id, s.org_id, coalesce(u.platform_role = 'operator', false) AS operator, s.grant_sealed`, id[:], tx.Now)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("couldn't end the session: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: ended.OrgID.UUID, Actor: actor(ended.UserID, ended.Operator), Action: "auth.signed_out", Subject: "session:" + id.String(),
		})
	})
	if err != nil || len(ended.Sealed) == 0 {
		return err
	}
	a.endGrant(ctx, ended.UserID, ended.Sealed)
	return nil
}

// RevokeAll ends every session of the user and says how many there were.
func (a *Auth) RevokeAll(ctx context.Context, user uuid.UUID) (ended int64, err error) {
	err = a.db.InSystemTx(ctx, "ending all sessions of a user", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL`, user, tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't end the sessions: %w", err)
		}
		if ended, err = res.RowsAffected(); err != nil || ended == 0 {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: audit.System("auth"), Action: "auth.sessions_revoked", Subject: "user:" + user.String(),
			Detail: map[string]any{"sessions": ended},
		})
	})
	return ended, err
}

// Sweep removes sessions that are over, links for new passwords that ran out, and failed sign-ins that no longer count; it says
// how many sessions and failures. The audit
// log keeps the history. Operators' looks at organisations whose time is up are ended. It also gives a wallet to organisations whose sign-up was cut off before theirs was opened.
// Safe to run at any time and from several processes.
func (a *Auth) Sweep(ctx context.Context) (sessions, failures int64, err error) {
	var bare []uuid.UUID
	err = a.db.InSystemTx(ctx, "sweeping sessions", func(ctx context.Context, tx *db.Tx) error {
		if _, err := endViews(ctx, tx, viewSignedOut, `(s.expires_at <= $1 OR s.last_seen_at <= $2 OR s.revoked_at IS NOT NULL)`, tx.Now.Add(-a.o.Idle)); err != nil {
			return err
		}
		if _, err := endViews(ctx, tx, viewTimedOut, `s.viewing_until <= $1`); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2 OR revoked_at IS NOT NULL`,
			tx.Now, tx.Now.Add(-a.o.Idle))
		if err != nil {
			return fmt.Errorf("couldn't remove ended sessions: %w", err)
		}
		if sessions, err = res.RowsAffected(); err != nil {
			return err
		}
		if res, err = tx.ExecContext(ctx, `DELETE FROM login_failures WHERE at <= $1`, tx.Now.Add(-a.o.Window)); err != nil {
			return fmt.Errorf("couldn't remove old failed sign-ins: %w", err)
		}
		if failures, err = res.RowsAffected(); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM password_resets WHERE expires_at <= $1`, tx.Now.Add(-resetFor)); err != nil {
			return fmt.Errorf("couldn't remove old links for new passwords: %w", err)
		}
		if err := tx.SelectContext(ctx, &bare, `
			SELECT o.id FROM organizations o WHERE NOT EXISTS (SELECT FROM wallets w WHERE w.org_id = o.id) LIMIT 100`); err != nil {
			return fmt.Errorf("couldn't look for organisations without a wallet: %w", err)
		}
		return nil
	})
	if err != nil || a.o.OpenWallet == nil {
		return sessions, failures, err
	}
	for _, org := range bare {
		err = errors.Join(err, a.o.OpenWallet(ctx, org))
	}
	return sessions, failures, err
}

// actor names a person in the audit log.
func actor(user uuid.UUID, operator bool) audit.Actor {
	if operator {
		return audit.Operator(user)
	}
	return audit.User(user)
}
