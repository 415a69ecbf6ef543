package auth

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Device is a session as its user sees it: a browser that is signed in.
type Device struct {
	// ID names it, and opens nothing.
	ID SessionID
	// OrgName is where it works; empty for an operator without an organisation.
	OrgName string
	// Address is the client's IP address at sign-in, UserAgent what its browser said of itself; both are the client's words.
	Address, UserAgent string
	SignedInAt         time.Time
	LastSeenAt         time.Time // exact to a minute
	// This is the session that asks.
	This bool
}

// Devices lists the sessions of the identity's user that hold now, this one first, then the one seen last.
func (a *Auth) Devices(ctx context.Context, who Identity) (list []Device, err error) {
	var rows []struct {
		Hash       []byte    `db:"token_hash"`
		OrgName    string    `db:"org_name"`
		Address    string    `db:"address"`
		UserAgent  string    `db:"user_agent"`
		CreatedAt  time.Time `db:"created_at"`
		LastSeenAt time.Time `db:"last_seen_at"`
	}
	err = a.db.InSystemTx(ctx, "a user's sessions", func(ctx context.Context, tx *db.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, `
			SELECT s.token_hash, coalesce(o.name, '') AS org_name, s.address, s.user_agent, s.created_at, s.last_seen_at
			FROM sessions s LEFT JOIN organizations o ON o.id = s.org_id
			WHERE s.user_id = $1 AND NOT s.pending AND s.revoked_at IS NULL AND s.expires_at > $2 AND s.last_seen_at > $3
			ORDER BY s.token_hash = $4 DESC, s.last_seen_at DESC, s.token_hash LIMIT 100`,
			who.UserID, tx.Now, tx.Now.Add(-a.o.Idle), who.SessionID[:])
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the sessions: %w", err)
	}
	for _, r := range rows {
		id := SessionID(r.Hash)
		list = append(list, Device{
			ID: id, OrgName: r.OrgName, Address: r.Address, UserAgent: r.UserAgent, SignedInAt: r.CreatedAt, LastSeenAt: r.LastSeenAt, This: id == who.SessionID,
		})
	}
	return list, nil
}

// Hex is the whole id, as [ParseSessionID] reads it.
func (id SessionID) Hex() string { return hex.EncodeToString(id[:]) }

// ParseSessionID reads what Hex wrote.
func ParseSessionID(s string) (id SessionID, err error) {
	b, err := hex.DecodeString(s)
	if err == nil && len(b) != len(id) {
		err = fmt.Errorf("%d bytes", len(b))
	}
	if err != nil {
		return SessionID{}, fault.Wrap(fault.NotFound, "There is no such session of yours.", err)
	}
	return SessionID(b), nil
}

// EndDevice ends one session of the identity's user, on whatever device it is. Repeating it changes nothing. NotFound for
// somebody else's.
func (a *Auth) EndDevice(ctx context.Context, who Identity, id SessionID) error {
	gone, err := a.endDevices(ctx, who, `token_hash = $3`, id[:])
	if err != nil || len(gone) > 0 {
		return err
	}
	var mine bool
	if err := a.db.InSystemTx(ctx, "a session that is over", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &mine, `SELECT EXISTS (SELECT FROM sessions WHERE token_hash = $1 AND user_id = $2)`, id[:], who.UserID)
	}); err != nil {
		return fmt.Errorf("couldn't look the session up: %w", err)
	}
	if !mine {
		return fault.New(fault.NotFound, "There is no such session of yours.")
	}
	return nil
}

// EndOtherDevices ends every session of the identity's user but this one, those that wait for a second factor too, and
// gives them.
func (a *Auth) EndOtherDevices(ctx context.Context, who Identity) ([]SessionID, error) {
	return a.endDevices(ctx, who, `token_hash <> $3`, who.SessionID[:])
}

// endDevices ends those of the user's sessions that which fits.
func (a *Auth) endDevices(ctx context.Context, who Identity, which string, hash []byte) ([]SessionID, error) {
	var gone []endedSession
	err := a.db.InSystemTx(ctx, "sessions that their user ends", func(ctx context.Context, tx *db.Tx) error {
		gone = nil
		if err := tx.SelectContext(ctx, &gone, `
			UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL AND `+which+` RETURNING token_hash, grant_sealed`,
			who.UserID, tx.Now, hash); err != nil {
			return fmt.Errorf("couldn't end the sessions: %w", err)
		}
		entries := make([]audit.Entry, 0, len(gone))
		for _, s := range gone {
			entries = append(entries, audit.Entry{
				OrgID: who.OrgID, Actor: who.Actor(), Action: "auth.session_ended_by_user", Subject: "session:" + SessionID(s.Hash).String(),
			})
		}
		if len(entries) == 0 {
			return nil
		}
		return audit.Record(ctx, tx, entries...)
	})
	if err != nil {
		return nil, err
	}
	return a.ended(ctx, who.UserID, gone), nil
}

// LocalPasswords reports whether passwords are kept here, so that a forgotten one is replaced here.
func (a *Auth) LocalPasswords() bool { return a.o.Supabase == nil }
