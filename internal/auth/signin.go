package auth

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// refused is the one answer to an unknown address, a wrong password and a disabled account.
func refused() error {
	return fault.New(fault.Unauthenticated, "That email and password do not match an account. Check both and try again.")
}

// account is what sign-in knows of the address that was typed.
type account struct {
	ID       uuid.UUID      `db:"id"`
	Hash     sql.NullString `db:"password_hash"`
	Disabled bool           `db:"disabled"`
	Operator bool           `db:"operator"`
}

// attempt is a sign-in under way. It is counted as a failure from the start, so that any number of guesses made at the
// same moment cannot get past the limits; a success takes its own rows away again.
type attempt struct {
	account, address []byte // login_failures.subject
	rows             [2]int64
	last             bool // this failure makes the account's limit full
	found            account
}

// SignIn checks email and password and begins a session. It returns the token for the browser's cookie (256 random
// bits, of which only the SHA-256 is stored) and who signed in. address is the client's IP address.
//
// Faults: Unauthenticated, the same and after the same work whether the account is unknown, disabled or the password
// wrong; TooMany with RetryAfter when the account or the address failed too often; Unavailable when too many sign-ins
// wait, or the outside provider does not answer; Forbidden for an account that belongs nowhere. Only failures count
// towards the limits. A repeat begins another session. Of a user with a second factor the session is pending: see
// [Identity] and [Auth.GiveFactor].
func (a *Auth) SignIn(ctx context.Context, email, password, address, userAgent string) (token string, who Identity, err error) {
	return a.signIn(ctx, email, password, address, userAgent, nil)
}

// signIn is SignIn with something that is done in the session's transaction when the password was right, before it begins;
// it may say where the session is to begin.
func (a *Auth) signIn(ctx context.Context, email, password, address, userAgent string, first func(context.Context, *db.Tx, account) (uuid.NullUUID, error)) (token string, who Identity, err error) {
	email = normalEmail(email)
	if len(email) > maxEmail || !storable(email) {
		email = "" // nobody's
	}
	var at attempt
	err = a.db.InSystemTx(ctx, "sign-in", func(ctx context.Context, tx *db.Tx) (err error) {
		at, err = a.begin(ctx, tx, email, address)
		return err
	})
	if err != nil {
		return "", Identity{}, err
	}
	proof, err := a.prove(ctx, at, email, password)
	switch {
	case errors.Is(err, errWrong):
		err := a.db.InSystemTx(ctx, "refused sign-in", func(ctx context.Context, tx *db.Tx) error {
			return recordRefusal(ctx, tx, at, address)
		})
		if err != nil {
			return "", Identity{}, err
		}
		return "", Identity{}, refused()
	case err != nil: // nothing was learned about the password, so nothing is counted
		return "", Identity{}, errors.Join(err, a.db.InSystemTx(ctx, "sign-in given up", at.forget))
	}
	token, id := newToken()
	err = a.db.InSystemTx(ctx, "sign-in", func(ctx context.Context, tx *db.Tx) (err error) {
		if err := at.succeed(ctx, tx); err != nil {
			return err
		}
		if proof.outdated {
			if err := a.rehash(ctx, tx, at.found.ID, password); err != nil {
				return err
			}
		}
		if first != nil {
			if proof.org, err = first(ctx, tx, proof.user); err != nil {
				return err
			}
		}
		who, err = a.startSession(ctx, tx, proof.user, start{id: id, address: address, userAgent: userAgent, org: proof.org, grant: proof.grant})
		return err
	})
	if err != nil {
		return "", Identity{}, err
	}
	return token, who, nil
}

// errWrong says that the password is not the account's, or that there is no such account.
var errWrong = errors.New("wrong email or password")

// proof is what a right password shows.
type proof struct {
	user     account
	outdated bool          // the password is to be hashed anew
	org      uuid.NullUUID // where the provider says the user works
	grant    *sealedGrant  // the outside provider's, if there is one
}

// prove checks the password where it is kept.
func (a *Auth) prove(ctx context.Context, at attempt, email, password string) (proof, error) {
	if a.o.Supabase != nil {
		return a.proveOutside(ctx, email, password)
	}
	hash := a.nobody
	if at.found.Hash.Valid {
		hash = at.found.Hash.String
	}
	match, outdated, err := a.checkPassword(ctx, password, hash)
	switch {
	case err != nil:
		return proof{}, err
	case !match || !at.found.Hash.Valid || at.found.Disabled:
		return proof{}, errWrong
	}
	return proof{user: at.found, outdated: outdated}, nil
}

// begin judges the limits, counts the attempt and looks the account up.
func (a *Auth) begin(ctx context.Context, tx *db.Tx, email, address string) (attempt, error) {
	at := attempt{account: subject("account:" + email), address: subject("address:" + network(address))}
	// Guesses at one account, or from one address, are judged one after the other.
	locks := []int64{lockKey(at.account), lockKey(at.address)}
	slices.Sort(locks)
	for _, key := range locks {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, key); err != nil {
			return at, fmt.Errorf("couldn't lock the sign-in limit: %w", err)
		}
	}
	var wait time.Duration
	for _, limit := range []struct {
		subject []byte
		n       int
	}{{at.account, a.o.AccountFailures}, {at.address, a.o.AddressFailures}} {
		until, err := a.fullUntil(ctx, tx, limit.subject, limit.n)
		if err != nil {
			return at, err
		}
		wait = max(wait, until.Sub(tx.Now))
	}
	if wait > 0 {
		return at, &fault.Error{
			Kind: fault.TooMany, RetryAfter: wait,
			Public: "Too many failed sign-ins. Wait " + minutes(wait) + " and try again.",
		}
	}
	for i, s := range [][]byte{at.account, at.address} {
		err := tx.GetContext(ctx, &at.rows[i], `INSERT INTO login_failures (subject, at) VALUES ($1, $2) RETURNING id`, s, tx.Now)
		if err != nil {
			return at, fmt.Errorf("couldn't count the sign-in: %w", err)
		}
	}
	full, err := a.fullUntil(ctx, tx, at.account, a.o.AccountFailures)
	if err != nil {
		return at, err
	}
	at.last = !full.IsZero()
	if a.o.Supabase != nil {
		return at, nil // who it is, the provider says
	}
	err = tx.GetContext(ctx, &at.found, `
		SELECT id, password_hash, disabled_at IS NOT NULL AS disabled, coalesce(platform_role = 'operator', false) AS operator
		FROM users WHERE issuer = $1 AND email = $2`, issuerLocal, email)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return at, fmt.Errorf("couldn't look the account up: %w", err)
	}
	return at, nil
}

// fullUntil says when subject will have room for another failure; zero when it has room now.
func (a *Auth) fullUntil(ctx context.Context, tx *db.Tx, subject []byte, limit int) (time.Time, error) {
	var at time.Time
	err := tx.GetContext(ctx, &at, `
		SELECT at FROM login_failures WHERE subject = $1 AND at > $2 ORDER BY at DESC OFFSET $3 LIMIT 1`,
		subject, tx.Now.Add(-a.o.Window), limit-1)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("couldn't read the sign-in limit: %w", err)
	}
	return at.Add(a.o.Window), nil
}

// forget takes back what begin counted.
func (at attempt) forget(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM login_failures WHERE id IN ($1, $2)`, at.rows[0], at.rows[1]); err != nil {
		return fmt.Errorf("couldn't take the counted sign-in back: %w", err)
	}
	return nil
}

// succeed clears the account's failures. Those of the address stay: one good password must not buy a hundred guesses.
func (at attempt) succeed(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM login_failures WHERE subject = $1`, at.account); err != nil {
		return fmt.Errorf("couldn't clear the failed sign-ins: %w", err)
	}
	return at.forget(ctx, tx)
}

// recordRefusal audits a failed sign-in. What was typed as e-mail is not kept: people type passwords there. The limits
// bound how many rows anybody can cause; what they refuse themselves writes none.
func recordRefusal(ctx context.Context, tx *db.Tx, at attempt, address string) error {
	e := audit.Entry{
		Actor: audit.System("sign-in"), Action: "auth.sign_in_refused", Subject: "unknown account",
		Detail: map[string]any{"address": clean(address, maxAddress)},
	}
	if at.found.ID != uuid.Nil {
		e.Subject = "user:" + at.found.ID.String()
	}
	entries := []audit.Entry{e}
	if at.last {
		e.Action = "auth.sign_in_blocked"
		entries = append(entries, e)
	}
	return audit.Record(ctx, tx, entries...)
}

// rehash keeps a password that was right under today's parameters.
func (a *Auth) rehash(ctx context.Context, tx *db.Tx, user uuid.UUID, password string) error {
	hash, err := a.hashPassword(ctx, password)
	if fault.Is(err, fault.Invalid) {
		return nil // it breaks a rule that is younger than the password: it stays as it is
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, user, hash); err != nil {
		return fmt.Errorf("couldn't renew the password hash: %w", err)
	}
	return nil
}

// subject is how login_failures names an account or an address.
func subject(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// lockKey is the advisory lock of a subject. Two subjects that share a key merely wait for each other.
func lockKey(subject []byte) int64 {
	return int64(binary.BigEndian.Uint64(subject)) //nolint:gosec // any 64 bits will do
}

// network is what is counted as one address: an IPv4 address, or the /64 that an IPv6 customer gets as a whole.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return clean(address, maxAddress)
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return prefix.String()
}

// minutes is d for people, rounded up.
func minutes(d time.Duration) string {
	n := int64((d + time.Minute - 1) / time.Minute)
	if n <= 1 {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", n)
}

// Longest address and browser name that are kept, in bytes.
const (
	maxAddress   = 64
	maxUserAgent = 256
)

// clean makes a text from outside storable: valid UTF-8 without NUL, at most n bytes.
func clean(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
