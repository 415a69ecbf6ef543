package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// The second factor is a time-based one-time password as every authenticator app makes it: RFC 6238 with SHA-1, six
// digits and steps of 30 seconds. The step before and the one after are taken too (RFC 6238, 5.2), each step once.
const (
	factorStep   = 30 * time.Second
	factorSecret = 20 // bytes; RFC 4226, R6
	factorIssuer = "Ringfence"
	// recoveryCodes is how many are given out; each has recoveryChars of base32, 80 bits.
	recoveryCodes = 10
	recoveryChars = 16
)

var factorEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func factorLabel(user uuid.UUID) string { return "second factor of " + user.String() }

// Enrolment is a second factor that is shown and not yet confirmed.
type Enrolment struct {
	// Secret is what to type into an authenticator app, in groups of four.
	Secret string
	// URL is the same for a QR code (https://github.com/google/google-authenticator/wiki/Key-Uri-Format).
	URL string
}

// QR draws the URL: the path of an SVG in which a module is one unit, and how many units the drawing is wide and high,
// with the quiet zone of four around it that ISO/IEC 18004 asks for.
func (e Enrolment) QR() (path string, size int, err error) {
	code, err := qr.Encode(e.URL, qr.M, qr.Auto)
	if err != nil {
		return "", 0, fmt.Errorf("couldn't draw the QR code: %w", err)
	}
	const quiet = 4
	var b strings.Builder
	side := code.Bounds().Dx()
	for y := range side {
		for x := range side {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				b.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h1v1h-1z")
			}
		}
	}
	return b.String(), side + 2*quiet, nil
}

// Factor is how a user's second factor stands.
type Factor struct {
	Confirmed bool
	// Since is when it was confirmed.
	Since time.Time
	// RecoveryLeft is how many recovery codes were not used yet.
	RecoveryLeft int
}

// FactorOf says how the user's second factor stands.
func (a *Auth) FactorOf(ctx context.Context, user uuid.UUID) (f Factor, err error) {
	err = a.db.InSystemTx(ctx, "a user's second factor", func(ctx context.Context, tx *db.Tx) error {
		var since sql.NullTime
		err := tx.GetContext(ctx, &since, `SELECT confirmed_at FROM second_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL`, user)
		if errors.Is(err, sql.ErrNoRows) {
			f = Factor{}
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't look up the second factor: %w", err)
		}
		f = Factor{Confirmed: true, Since: since.Time}
		if err := tx.GetContext(ctx, &f.RecoveryLeft, `SELECT count(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL`, user); err != nil {
			return fmt.Errorf("couldn't count the recovery codes: %w", err)
		}
		return nil
	})
	return f, err
}

// BeginFactor makes a new secret for a user who has no second factor; one that was made before and not confirmed is
// forgotten. Conflict when there is a factor already.
func (a *Auth) BeginFactor(ctx context.Context, who Identity) error {
	secret := make([]byte, factorSecret)
	_, _ = rand.Read(secret) // never fails: it ends the process instead
	sealed, err := a.sealer.seal(secret, factorLabel(who.UserID))
	if err != nil {
		return err
	}
	return a.db.InSystemTx(ctx, "a new second factor", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			INSERT INTO second_factors (user_id, sealed, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, created_at = excluded.created_at, last_step = 0
			WHERE second_factors.confirmed_at IS NULL`, who.UserID, sealed, tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't keep the second factor: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return fault.New(fault.Conflict, "Two-step sign-in is on already. Turn it off first to set up another app.")
	})
}

// Enrolling gives the factor that waits to be confirmed; ok is false when there is none. Nobody sees a secret again once
// it is confirmed.
func (a *Auth) Enrolling(ctx context.Context, who Identity) (e Enrolment, ok bool, err error) {
	var sealed []byte
	err = a.db.InSystemTx(ctx, "a second factor to be confirmed", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &sealed, `SELECT sealed FROM second_factors WHERE user_id = $1 AND confirmed_at IS NULL`, who.UserID)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Enrolment{}, false, nil
	case err != nil:
		return Enrolment{}, false, fmt.Errorf("couldn't look up the second factor: %w", err)
	}
	secret, err := a.sealer.open(sealed, factorLabel(who.UserID))
	if errors.Is(err, errUnsealed) { // its key is gone; a new one can be made at any time
		return Enrolment{}, false, nil
	}
	if err != nil {
		return Enrolment{}, false, err
	}
	text := factorEncoding.EncodeToString(secret)
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + factorIssuer + ":" + who.Email, RawQuery: url.Values{
		"secret": {text}, "issuer": {factorIssuer}, // the rest is what apps assume, and would only crowd the drawing
	}.Encode()}
	return Enrolment{Secret: grouped(text), URL: u.String()}, true, nil
}

// ConfirmFactor turns the second factor on, by a code of it, and gives the recovery codes: this once. All other sessions
// of the user end. Faults: Invalid with the field "code"; TooMany; Conflict when none waits to be confirmed.
func (a *Auth) ConfirmFactor(ctx context.Context, who Identity, code string) (codes []string, err error) {
	err = a.withCode(ctx, who.UserID, code, "confirming a second factor", false, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE second_factors SET confirmed_at = $2 WHERE user_id = $1`, who.UserID, tx.Now); err != nil {
			return fmt.Errorf("couldn't confirm the second factor: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET factor_at = $2 WHERE token_hash = $1`, who.SessionID[:], tx.Now); err != nil {
			return fmt.Errorf("couldn't note the second factor: %w", err)
		}
		if err := endOthers(ctx, tx, who); err != nil {
			return err
		}
		if codes, err = newRecoveryCodes(ctx, tx, who.UserID); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: who.OrgID, Actor: who.Actor(), Action: "auth.second_factor_on", Subject: "user:" + who.UserID.String()})
	})
	return codes, err
}

// RemoveFactor turns the second factor off, by a code of it or a recovery code. Faults as of ConfirmFactor.
func (a *Auth) RemoveFactor(ctx context.Context, who Identity, code string) error {
	return a.withCode(ctx, who.UserID, code, "removing a second factor", true, func(ctx context.Context, tx *db.Tx) error {
		for _, statement := range []string{
			`DELETE FROM recovery_codes WHERE user_id = $1`,
			`DELETE FROM second_factors WHERE user_id = $1`,
		} {
			if _, err := tx.ExecContext(ctx, statement, who.UserID); err != nil {
				return fmt.Errorf("couldn't remove the second factor: %w", err)
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET factor_at = NULL WHERE user_id = $1`, who.UserID); err != nil {
			return fmt.Errorf("couldn't note that the second factor is gone: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: who.OrgID, Actor: who.Actor(), Action: "auth.second_factor_off", Subject: "user:" + who.UserID.String()})
	})
}

// NewRecoveryCodes replaces the recovery codes, by a code of the second factor. Faults as of ConfirmFactor.
func (a *Auth) NewRecoveryCodes(ctx context.Context, who Identity, code string) (codes []string, err error) {
	err = a.withCode(ctx, who.UserID, code, "new recovery codes", true, func(ctx context.Context, tx *db.Tx) error {
		if codes, err = newRecoveryCodes(ctx, tx, who.UserID); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: who.OrgID, Actor: who.Actor(), Action: "auth.recovery_codes_made", Subject: "user:" + who.UserID.String()})
	})
	return codes, err
}

// GiveFactor is the second step of signing in: it trades the token of a pending session and a code of the second factor,
// or a recovery code, for a session. The pending one is over then. Faults: Unauthenticated when there is no such pending
// session (any more); Invalid with the field "code"; TooMany with RetryAfter.
func (a *Auth) GiveFactor(ctx context.Context, pending, code, address, userAgent string) (token string, who Identity, err error) {
	old := sessionID(pending)
	user, err := a.pendingUser(ctx, old)
	if err != nil {
		return "", Identity{}, err
	}
	token, id := newToken()
	err = a.withCode(ctx, user, code, "the second step of a sign-in", true, func(ctx context.Context, tx *db.Tx) error {
		var row struct {
			account

			OrgID  uuid.NullUUID `db:"org_id"`
			Sealed []byte        `db:"grant_sealed"`
			Until  sql.NullTime  `db:"grant_expires_at"`
		}
		err := tx.GetContext(ctx, &row, `
			UPDATE sessions s SET revoked_at = $2 FROM users u
			WHERE s.token_hash = $1 AND s.pending AND s.revoked_at IS NULL AND s.expires_at > $2 AND u.id = s.user_id AND u.disabled_at IS NULL
			RETURNING u.id, coalesce(u.platform_role = 'operator', false) AS operator, s.org_id, s.grant_sealed, s.grant_expires_at`, old[:], tx.Now)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errSignedOut()
		case err != nil:
			return fmt.Errorf("couldn't end the pending session: %w", err)
		}
		s := start{id: id, address: address, userAgent: userAgent, org: row.OrgID, factorGiven: true}
		if row.Sealed != nil {
			s.grant = &sealedGrant{sealed: row.Sealed, expires: row.Until.Time}
		}
		who, err = a.startSession(ctx, tx, row.account, s)
		return err
	})
	if err != nil {
		return "", Identity{}, err
	}
	return token, who, nil
}

// pendingUser says whose second factor a pending session waits for.
func (a *Auth) pendingUser(ctx context.Context, id SessionID) (user uuid.UUID, err error) {
	err = a.db.InSystemTx(ctx, "a sign-in that waits for its second step", func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &user, `
			SELECT user_id FROM sessions WHERE token_hash = $1 AND pending AND revoked_at IS NULL AND expires_at > $2`, id[:], tx.Now)
		if errors.Is(err, sql.ErrNoRows) {
			return errSignedOut()
		}
		return err
	})
	return user, err
}

// errCode is the one answer to a code that is not taken, whatever the reason.
func errCode() error {
	return fault.Field("code", "That code is not right, or was used already. Wait for the next one and try again.")
}

// withCode runs fn if code is the user's, in the transaction that uses it up. A wrong one is counted, and refused. With
// recovery, a recovery code does as well, and the factor must have been confirmed; without, it must not.
func (a *Auth) withCode(ctx context.Context, user uuid.UUID, code, why string, recovery bool, fn func(context.Context, *db.Tx) error) error {
	var good bool
	err := a.db.InSystemTx(ctx, why, func(ctx context.Context, tx *db.Tx) (err error) {
		s := subject("factor:" + user.String())
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey(s)); err != nil {
			return fmt.Errorf("couldn't lock the codes: %w", err)
		}
		full, err := a.fullUntil(ctx, tx, s, a.o.FactorFailures)
		if err != nil {
			return err
		}
		if wait := full.Sub(tx.Now); !full.IsZero() && wait > 0 {
			return &fault.Error{Kind: fault.TooMany, RetryAfter: wait, Public: "Too many wrong codes. Wait " + minutes(wait) + " and try again."}
		}
		code := plainCode(code)
		good = false
		if len(code) == otp.DigitsSix.Length() {
			good, err = a.takeCode(ctx, tx, user, code, recovery)
		} else if recovery {
			good, err = takeRecovery(ctx, tx, user, code)
		}
		if err != nil {
			return err
		}
		if good {
			if _, err := tx.ExecContext(ctx, `DELETE FROM login_failures WHERE subject = $1`, s); err != nil {
				return fmt.Errorf("couldn't clear the wrong codes: %w", err)
			}
			return fn(ctx, tx)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO login_failures (subject, at) VALUES ($1, $2)`, s, tx.Now); err != nil {
			return fmt.Errorf("couldn't count the wrong code: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{Actor: audit.System("sign-in"), Action: "auth.second_factor_refused", Subject: "user:" + user.String()})
	})
	if err == nil && !good {
		return errCode()
	}
	return err
}

// takeCode uses a code of the factor up: its step, and all before it, are not taken again.
func (a *Auth) takeCode(ctx context.Context, tx *db.Tx, user uuid.UUID, code string, confirmed bool) (bool, error) {
	var row struct {
		Sealed    []byte `db:"sealed"`
		LastStep  int64  `db:"last_step"`
		Confirmed bool   `db:"confirmed"`
	}
	err := tx.GetContext(ctx, &row, `SELECT sealed, last_step, confirmed_at IS NOT NULL AS confirmed FROM second_factors WHERE user_id = $1 FOR UPDATE`, user)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && row.Confirmed != confirmed:
		return false, fault.New(fault.Conflict, "Two-step sign-in was changed meanwhile. Look at your settings and begin again.")
	case err != nil:
		return false, fmt.Errorf("couldn't read the second factor: %w", err)
	}
	secret, err := a.sealer.open(row.Sealed, factorLabel(user))
	if err != nil {
		a.o.Log.WarnContext(ctx, "a second factor does not open: was its session key dropped?", "user_id", user)
		return false, nil //nolint:nilerr // a code cannot be judged, so it is wrong; recovery codes still work
	}
	now := tx.Now.Unix() / int64(factorStep/time.Second)
	for step := now - 1; step <= now+1; step++ {
		ok, err := hotp.ValidateCustom(code, uint64(step), factorEncoding.EncodeToString(secret), //nolint:gosec // after 1970
			hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil || !ok || step <= row.LastStep {
			continue
		}
		// Sealed anew, so that it follows when the keys are rolled.
		sealed, err := a.sealer.seal(secret, factorLabel(user))
		if err != nil {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE second_factors SET last_step = $2, sealed = $3 WHERE user_id = $1`, user, step, sealed); err != nil {
			return false, fmt.Errorf("couldn't use the code up: %w", err)
		}
		return true, nil
	}
	return false, nil
}

// takeRecovery uses a recovery code up.
func takeRecovery(ctx context.Context, tx *db.Tx, user uuid.UUID, code string) (bool, error) {
	if len(code) != recoveryChars {
		return false, nil
	}
	res, err := tx.ExecContext(ctx, `UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL`,
		user, recoveryHash(user, code), tx.Now)
	if err != nil {
		return false, fmt.Errorf("couldn't use the recovery code up: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return false, err
	}
	return true, audit.Record(ctx, tx, audit.Entry{Actor: audit.System("sign-in"), Action: "auth.recovery_code_used", Subject: "user:" + user.String()})
}

// newRecoveryCodes replaces the user's recovery codes.
func newRecoveryCodes(ctx context.Context, tx *db.Tx, user uuid.UUID) ([]string, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, user); err != nil {
		return nil, fmt.Errorf("couldn't forget the old recovery codes: %w", err)
	}
	codes, hashes := make([]string, recoveryCodes), make([][]byte, recoveryCodes)
	for i := range codes {
		code := strings.ToLower(rand.Text()[:recoveryChars])
		codes[i], hashes[i] = grouped(code), recoveryHash(user, code)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO recovery_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])`, user, pq.ByteaArray(hashes)); err != nil {
		return nil, fmt.Errorf("couldn't keep the recovery codes: %w", err)
	}
	return codes, nil
}

func recoveryHash(user uuid.UUID, code string) []byte {
	sum := sha256.Sum256([]byte(user.String() + " " + code))
	return sum[:]
}

// plainCode takes out what people put between the characters.
func plainCode(code string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(code))
}

// grouped puts a hyphen between every four characters.
func grouped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(s[i:min(i+4, len(s))])
	}
	return b.String()
}
