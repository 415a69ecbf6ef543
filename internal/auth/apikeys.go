package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Scopes are what a program may do, as a set.
type Scopes uint16

// The scopes.
const (
	WalletRead Scopes = 1 << iota
	HoldsWrite
	MessagesWrite
	CallsWrite
	NumbersRead
	NumbersWrite
	KnowledgeRead
	AgentsRead
	AgentsWrite
	CallsRead
	MessagesRead

	NoScopes  Scopes = 0
	AllScopes        = WalletRead | HoldsWrite | MessagesWrite | CallsWrite | NumbersRead | NumbersWrite | KnowledgeRead | AgentsRead | AgentsWrite | CallsRead | MessagesRead
)

// ScopeNames are all scopes as people write them, in order; the first is 1<<0.
var ScopeNames = []string{"wallet:read", "holds:write", "messages:write", "calls:write", "numbers:read", "numbers:write", "knowledge:read", "agents:read", "agents:write", "calls:read", "messages:read"}

// Has reports whether all of want are in s.
func (s Scopes) Has(want Scopes) bool { return s&want == want }

// Names gives the scopes as people write them.
func (s Scopes) Names() []string {
	var names []string
	for i, name := range ScopeNames {
		if s.Has(1 << i) {
			names = append(names, name)
		}
	}
	return names
}

// ParseScopes reads scopes as people write them: Invalid, field "scopes", for none and for unknown ones.
func ParseScopes(names []string) (s Scopes, err error) {
	for _, name := range names {
		i := slices.Index(ScopeNames, name)
		if i < 0 {
			return 0, fault.Field("scopes", "Choose among "+strings.Join(ScopeNames, ", ")+".")
		}
		s |= 1 << i
	}
	if s == 0 {
		return 0, fault.Field("scopes", "Choose at least one thing that the key may do.")
	}
	return s, nil
}

// scopes are what a person of this role may do through the API.
func (r Role) scopes() Scopes {
	switch r {
	case RoleOwner, RoleMember:
		return AllScopes
	case RoleViewer:
		return WalletRead | NumbersRead | KnowledgeRead | AgentsRead | CallsRead | MessagesRead
	}
	return NoScopes
}

// Key is an API key as it may be shown.
type Key struct {
	ID     uuid.UUID
	Name   string
	Prefix string
	Scopes Scopes
	// CreatedBy is the e-mail of who made it; empty for the command line and for people who left.
	CreatedBy  string
	CreatedAt  time.Time
	LastUsedAt time.Time // zero: never; exact to a minute
	RevokedAt  time.Time // zero: it works
}

// A key reads rf_<live|test>_<prefix>_<secret>. Prefix and secret are random: 50 bits to find it by, 130 to prove it.
const (
	keyMark     = "rf_"
	prefixChars = 10
	secretChars = 26
	maxKeyName  = 80
)

// maxKeys is how many working keys an organisation may have.
const maxKeys = 50

// parseKey gives the prefix of what looks like a key.
func parseKey(key string) (prefix string, ok bool) {
	parts := strings.Split(key, "_")
	if len(parts) != 4 || parts[0] != "rf" || parts[1] != "live" && parts[1] != "test" || len(parts[2]) != prefixChars || len(parts[3]) != secretChars {
		return "", false
	}
	for i := range len(key) {
		if c := key[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	return parts[2], true
}

// CreateKey adds an API key within tx, a transaction of its organisation, and gives the key itself: this once, since only
// its hash is kept. by is the user who asked, uuid.Nil at the command line. Faults: Invalid with the field "name" or
// "scopes"; Conflict when there are too many keys. A repeat makes another key.
func (a *Auth) CreateKey(ctx context.Context, tx *db.Tx, org uuid.UUID, name string, scopes Scopes, by uuid.UUID, actor audit.Actor) (string, Key, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n == 0 || n > maxKeyName || !storable(name) {
		return "", Key{}, fault.Field("name", fmt.Sprintf("Give the key a name of 1 to %d characters.", maxKeyName))
	}
	if scopes == NoScopes || !AllScopes.Has(scopes) {
		return "", Key{}, fault.Field("scopes", "Choose at least one thing that the key may do.")
	}
	var working int
	if err := tx.GetContext(ctx, &working, `SELECT count(*) FROM api_keys WHERE org_id = $1 AND revoked_at IS NULL`, org); err != nil {
		return "", Key{}, fmt.Errorf("couldn't count the keys: %w", err)
	}
	if working >= maxKeys {
		return "", Key{}, fault.New(fault.Conflict, fmt.Sprintf("There are %d working keys. Revoke one that is no longer used, then make this one.", working))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Key{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	mode := "test"
	if a.o.LiveKeys {
		mode = "live"
	}
	k := Key{ID: id, Name: name, Prefix: strings.ToLower(rand.Text())[:prefixChars], Scopes: scopes, CreatedAt: tx.Now}
	secret := keyMark + mode + "_" + k.Prefix + "_" + strings.ToLower(rand.Text())
	hash := sha256.Sum256([]byte(secret))
	_, err = tx.ExecContext(ctx, `
		INSERT INTO api_keys (id, org_id, name, prefix, secret_hash, scopes, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, org, name, k.Prefix, hash[:], pq.Array(scopes.Names()), uuid.NullUUID{UUID: by, Valid: by != uuid.Nil}, tx.Now)
	if err != nil {
		return "", Key{}, fmt.Errorf("couldn't add the key: %w", err)
	}
	return secret, k, audit.Record(ctx, tx, audit.Entry{
		OrgID: org, Actor: actor, Action: "apikey.created", Subject: "key:" + id.String(),
		Detail: map[string]any{"name": name, "prefix": k.Prefix, "scopes": scopes.Names()},
	})
}

// Keys lists an organisation's API keys within tx, a transaction of it: the working ones first, then the newest first.
func Keys(ctx context.Context, tx *db.Tx, org uuid.UUID) ([]Key, error) {
	var rows []struct {
		ID         uuid.UUID      `db:"id"`
		Name       string         `db:"name"`
		Prefix     string         `db:"prefix"`
		Scopes     pq.StringArray `db:"scopes"`
		CreatedBy  sql.NullString `db:"email"`
		CreatedAt  time.Time      `db:"created_at"`
		LastUsedAt sql.NullTime   `db:"last_used_at"`
		RevokedAt  sql.NullTime   `db:"revoked_at"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT k.id, k.name, k.prefix, k.scopes, u.email, k.created_at, k.last_used_at, k.revoked_at
		FROM api_keys k LEFT JOIN users u ON u.id = k.created_by
		WHERE k.org_id = $1 ORDER BY k.revoked_at IS NOT NULL, k.created_at DESC, k.id LIMIT 200`, org); err != nil {
		return nil, fmt.Errorf("couldn't list the keys: %w", err)
	}
	keys := make([]Key, len(rows))
	for i, r := range rows {
		scopes, err := ParseScopes(r.Scopes)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", r.ID, err)
		}
		keys[i] = Key{
			ID: r.ID, Name: r.Name, Prefix: r.Prefix, Scopes: scopes, CreatedBy: r.CreatedBy.String, CreatedAt: r.CreatedAt,
			LastUsedAt: r.LastUsedAt.Time, RevokedAt: r.RevokedAt.Time,
		}
	}
	return keys, nil
}

// RevokeKey ends an API key for good within tx, a transaction of its organisation. From the commit on it works for
// keyCacheFor at the longest, in any process. Revoking one again does nothing; NotFound for one of another organisation.
func (a *Auth) RevokeKey(ctx context.Context, tx *db.Tx, org, id uuid.UUID, actor audit.Actor) error {
	var prefix string
	err := tx.GetContext(ctx, &prefix, `UPDATE api_keys SET revoked_at = $3 WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING prefix`, org, id, tx.Now)
	if errors.Is(err, sql.ErrNoRows) {
		var known bool
		if err := tx.GetContext(ctx, &known, `SELECT EXISTS (SELECT FROM api_keys WHERE org_id = $1 AND id = $2)`, org, id); err != nil {
			return fmt.Errorf("couldn't look the key up: %w", err)
		}
		if !known {
			return fault.New(fault.NotFound, "There is no such key.")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("couldn't revoke the key: %w", err)
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: org, Actor: actor, Action: "apikey.revoked", Subject: "key:" + id.String(), Detail: map[string]any{"prefix": prefix},
	})
}

// Programs ask thousands of times a second, so what a look-up found is kept for a moment. Only keys that hold are kept: a
// stranger cannot fill the cache, nor make a new key wait.
const (
	keyCacheFor = 500 * time.Millisecond
	maxCached   = 4096
)

// keyCache keeps who keys act as, by the hash of the whole key. When one of them has been kept for long enough, all that
// were used meanwhile are looked up again together: a thousand keys in use cost what one costs.
type keyCache struct {
	mu    sync.Mutex
	known map[keyHash]*cachedKey
	// again is the look-up that is under way, nil when there is none.
	again *keyLookup
}

type keyHash = [sha256.Size]byte

type cachedKey struct {
	prefix string
	who    Identity
	since  time.Time
	used   bool // since it was last looked up
}

// keyLookup is a question that others may wait for.
type keyLookup struct {
	done chan struct{}
	err  error
}

func newKeyCache() *keyCache { return &keyCache{known: map[keyHash]*cachedKey{}} }

// apiKey says who a key acts as.
func (a *Auth) apiKey(ctx context.Context, key string) (Identity, error) {
	prefix, ok := parseKey(key)
	if !ok {
		return Identity{}, errBadKey()
	}
	hash := sha256.Sum256([]byte(key))
	if a.o.Now == nil { // nobody can tell for how long it is remembered
		found, err := a.lookUpKeys(ctx, map[string]keyHash{prefix: hash})
		if who, ok := found[prefix]; ok || err != nil {
			return who, err
		}
		return Identity{}, errBadKey()
	}
	c := a.seen
	for waited := false; ; waited = true {
		now := a.o.Now()
		c.mu.Lock()
		at, ok := c.known[hash]
		if !ok {
			c.mu.Unlock()
			return a.firstLook(ctx, prefix, hash)
		}
		at.used = true
		// However long the look-up took that was waited for, its answer is the newest there is.
		if age := now.Sub(at.since); waited || age >= 0 && age < keyCacheFor {
			c.mu.Unlock()
			return at.who, nil
		}
		again := c.again
		mine := again == nil
		if mine {
			again = &keyLookup{done: make(chan struct{})}
			c.again = again
		}
		c.mu.Unlock()
		if mine {
			a.lookAgain(context.WithoutCancel(ctx), again)
		}
		select {
		case <-again.done:
		case <-ctx.Done():
			return Identity{}, fmt.Errorf("waiting for an API key: %w", ctx.Err())
		}
		if again.err != nil {
			return Identity{}, again.err
		}
	}
}

// firstLook looks a key up that is not remembered, and remembers it when it holds.
func (a *Auth) firstLook(ctx context.Context, prefix string, hash keyHash) (Identity, error) {
	began := a.o.Now()
	found, err := a.lookUpKeys(context.WithoutCancel(ctx), map[string]keyHash{prefix: hash})
	if err != nil {
		return Identity{}, err
	}
	who, ok := found[prefix]
	if !ok {
		return Identity{}, errBadKey()
	}
	c := a.seen
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxCached {
		clear(c.known)
	}
	c.known[hash] = &cachedKey{prefix: prefix, who: who, since: began}
	return who, nil
}

// lookAgain looks up all keys that were used since they last were, forgets those that do not hold any more and those that
// nobody used, and ends the question.
func (a *Auth) lookAgain(ctx context.Context, question *keyLookup) {
	c := a.seen
	began := a.o.Now()
	c.mu.Lock()
	asked := make(map[string]keyHash, len(c.known))
	for hash, at := range c.known {
		if at.used {
			asked[at.prefix] = hash
			at.used = false
		} else {
			delete(c.known, hash)
		}
	}
	c.mu.Unlock()
	found, err := a.lookUpKeys(ctx, asked)
	c.mu.Lock()
	defer c.mu.Unlock()
	for prefix, hash := range asked {
		if who, ok := found[prefix]; ok && err == nil {
			c.known[hash] = &cachedKey{prefix: prefix, who: who, since: began}
		} else {
			delete(c.known, hash)
		}
	}
	c.again, question.err = nil, err
	close(question.done)
}

// errBadKey is the one answer to every key that does not hold.
func errBadKey() error {
	return fault.New(fault.Unauthenticated, "The Authorization header does not hold a credential we know.")
}

// lookUpKeys says who keys act as, by their prefixes; those that do not hold are left out, and so are those of organisations
// whose account is closed. It notes their use at most once
// a minute.
func (a *Auth) lookUpKeys(ctx context.Context, hashes map[string]keyHash) (map[string]Identity, error) {
	found := make(map[string]Identity, len(hashes))
	if len(hashes) == 0 {
		return found, nil
	}
	prefixes := slices.Sorted(maps.Keys(hashes)) // one order for all who note the use of several
	err := a.db.InSystemTx(ctx, "API keys, by which their organisations are found", func(ctx context.Context, tx *db.Tx) error {
		clear(found)
		var rows []struct {
			ID       uuid.UUID      `db:"id"`
			Prefix   string         `db:"prefix"`
			OrgID    uuid.UUID      `db:"org_id"`
			OrgName  string         `db:"org_name"`
			Hash     []byte         `db:"secret_hash"`
			Scopes   pq.StringArray `db:"scopes"`
			LastUsed sql.NullTime   `db:"last_used_at"`
		}
		if err := tx.SelectContext(ctx, &rows, `
			SELECT k.id, k.prefix, k.org_id, o.name AS org_name, k.secret_hash, k.scopes, k.last_used_at
			FROM api_keys k JOIN organizations o ON o.id = k.org_id
			WHERE k.prefix = ANY($1) AND k.revoked_at IS NULL AND o.closed_at IS NULL`, pq.Array(prefixes)); err != nil {
			return fmt.Errorf("couldn't look keys up: %w", err)
		}
		var used []string
		for _, row := range rows {
			want := hashes[row.Prefix]
			if subtle.ConstantTimeCompare(row.Hash, want[:]) != 1 {
				continue
			}
			scopes, err := ParseScopes(row.Scopes)
			if err != nil {
				return fmt.Errorf("key %s: %w", row.ID, err)
			}
			found[row.Prefix] = Identity{OrgID: row.OrgID, OrgName: row.OrgName, KeyID: row.ID, Scopes: scopes}
			if !row.LastUsed.Valid || tx.Now.Sub(row.LastUsed.Time) >= touchEvery {
				used = append(used, row.ID.String())
			}
		}
		if len(used) == 0 {
			return nil
		}
		// Who notes the same use at this moment does as well: nobody waits for that.
		if _, err := tx.ExecContext(ctx, `
			UPDATE api_keys SET last_used_at = $2 WHERE id IN (
			    SELECT id FROM api_keys WHERE id = ANY($1::uuid[]) AND (last_used_at IS NULL OR last_used_at < $2) FOR NO KEY UPDATE SKIP LOCKED)`,
			pq.Array(used), tx.Now); err != nil {
			return fmt.Errorf("couldn't note the keys' use: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
