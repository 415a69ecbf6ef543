package webhooks

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

const (
	// maxEndpoints is how many endpoints an organisation may have.
	maxEndpoints = 20
	// overlap is for how long the secret before signs too after a roll.
	overlap = 24 * time.Hour
	// maxURL is the longest address, in bytes.
	maxURL = 2048
)

// Endpoint is where an organisation's program listens. It never carries its secret.
type Endpoint struct {
	ID    uuid.UUID
	URL   string
	Types []Type
	// FailingSince is when attempts began to fail without one that was good since; zero when all is well.
	FailingSince time.Time
	// DisabledAt is when it was switched off; zero while it is on. DisabledWhy is a sentence, empty when an owner did it.
	DisabledAt  time.Time
	DisabledWhy string
	// RollsUntil is until when the secret before signs too; zero when none does.
	RollsUntil time.Time
	CreatedAt  time.Time
}

// On reports whether it is delivered to.
func (e Endpoint) On() bool { return e.DisabledAt.IsZero() }

// row is an endpoint as it is stored.
type row struct {
	ID           uuid.UUID      `db:"id"`
	URL          string         `db:"url"`
	Types        pq.StringArray `db:"types"`
	Sealed       []byte         `db:"sealed"`
	OldSealed    []byte         `db:"old_sealed"`
	OldUntil     sql.NullTime   `db:"old_until"`
	FailingSince sql.NullTime   `db:"failing_since"`
	DisabledAt   sql.NullTime   `db:"disabled_at"`
	DisabledWhy  string         `db:"disabled_why"`
	Fingerprint  []byte         `db:"fingerprint"`
	RollKey      sql.NullString `db:"roll_key"`
	CreatedAt    time.Time      `db:"created_at"`
	RemovedAt    sql.NullTime   `db:"removed_at"`
}

const columns = `id, url, types, sealed, old_sealed, old_until, failing_since, disabled_at, disabled_why, fingerprint, roll_key, created_at, removed_at`

func (r row) endpoint(now time.Time) Endpoint {
	e := Endpoint{
		ID: r.ID, URL: r.URL, FailingSince: r.FailingSince.Time, DisabledAt: r.DisabledAt.Time, DisabledWhy: r.DisabledWhy, CreatedAt: r.CreatedAt,
	}
	for _, t := range r.Types {
		e.Types = append(e.Types, Type(t))
	}
	if r.OldUntil.Time.After(now) {
		e.RollsUntil = r.OldUntil.Time
	}
	return e
}

func errNoEndpoint() error { return fault.New(fault.NotFound, "There is no such webhook endpoint.") }

// find reads an endpoint of the organisation; lock is the end of the statement.
func find(ctx context.Context, tx *db.Tx, org, id uuid.UUID, lock string) (r row, err error) {
	err = tx.GetContext(ctx, &r, `SELECT `+columns+` FROM webhook_endpoints WHERE org_id = $1 AND id = $2 AND removed_at IS NULL `+lock, org, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row{}, errNoEndpoint()
	case err != nil:
		return row{}, fmt.Errorf("couldn't read the endpoint: %w", err)
	}
	return r, nil
}

// List gives the organisation's endpoints, oldest first.
func (s *Service) List(ctx context.Context, org uuid.UUID) (list []Endpoint, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var rows []row
		if err := tx.SelectContext(ctx, &rows, `SELECT `+columns+` FROM webhook_endpoints WHERE org_id = $1 AND removed_at IS NULL ORDER BY id`, org); err != nil {
			return fmt.Errorf("couldn't list the endpoints: %w", err)
		}
		for _, r := range rows {
			list = append(list, r.endpoint(tx.Now))
		}
		return nil
	})
	return list, err
}

// Endpoint gives one endpoint of the organisation. NotFound for any other.
func (s *Service) Endpoint(ctx context.Context, org, id uuid.UUID) (e Endpoint, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, org, id, "")
		e = r.endpoint(tx.Now)
		return err
	})
	return e, err
}

// checkURL holds an address against the rules; a breach is a fault beside the field "url". Whether what its name leads to
// may be connected to is judged with every attempt, not here: a name's addresses change.
func (s *Service) checkURL(raw string) (string, error) {
	raw = strings.TrimSpace(raw)
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" || !utf8.ValidString(raw) || strings.ContainsAny(raw, "\x00 \t\r\n"):
		return "", fault.Field("url", "Enter an address such as https://example.com/webhooks.")
	case len(raw) > maxURL:
		return "", fault.Field("url", fmt.Sprintf("An address has at most %d characters.", maxURL))
	case u.Scheme != "https" && (u.Scheme != "http" || !s.o.AllowPrivate):
		return "", fault.Field("url", "The address must begin with https://.")
	case u.User != nil:
		return "", fault.Field("url", "Leave name and password out of the address. What comes from us is signed.")
	case u.Fragment != "":
		return "", fault.Field("url", "Leave out what follows the #: it is never sent.")
	}
	return raw, nil
}

// checkTypes gives the types in order, each once; a breach is a fault beside the field "types".
func checkTypes(types []Type) ([]Type, error) {
	var chosen []Type
	for _, t := range types {
		if !t.known() {
			names := make([]string, len(Types))
			for i, one := range Types {
				names[i] = string(one)
			}
			return nil, fault.Field("types", "Choose among "+strings.Join(names, ", ")+".")
		}
	}
	for _, t := range Types {
		if slices.Contains(types, t) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.Field("types", "Choose at least one thing to be told of.")
	}
	return chosen, nil
}

// NewEndpoint is what an endpoint is made of. Key is the request's idempotency key.
type NewEndpoint struct {
	OrgID uuid.UUID
	URL   string
	Types []Type
	Key   string
	Actor audit.Actor
}

// fingerprint is SHA-256 of what was asked.
func fingerprint(address string, types []Type) []byte {
	b, _ := json.Marshal([]any{address, types}) // strings always can be
	sum := sha256.Sum256(b)
	return sum[:]
}

// Create makes an endpoint and gives the secret that signs what it is sent; it is shown this once. The same key with the
// same request gives the same endpoint and secret again, and repeated says so; with another request it is a Conflict.
// Faults: Invalid with the field "url" or "types"; Conflict, with the field "url" for an address that has an endpoint.
func (s *Service) Create(ctx context.Context, n NewEndpoint) (e Endpoint, secret string, repeated bool, err error) {
	address, err := s.checkURL(n.URL)
	if err != nil {
		return Endpoint{}, "", false, err
	}
	types, err := checkTypes(n.Types)
	if err != nil {
		return Endpoint{}, "", false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Endpoint{}, "", false, fmt.Errorf("couldn't make an id: %w", err)
	}
	fresh := newSecret()
	sealed, key, err := s.seal(fresh, n.OrgID, id)
	if err != nil {
		return Endpoint{}, "", false, err
	}
	asked := fingerprint(address, types)
	err = s.o.DB.InTx(ctx, []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		e, secret, repeated = Endpoint{}, "", false
		// One organisation's endpoints are made one after the other: of two requests with one key the second finds the first.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('webhook endpoints ' || $1::text, 0))`, n.OrgID); err != nil {
			return fmt.Errorf("couldn't lock the endpoints: %w", err)
		}
		var before row
		err := tx.GetContext(ctx, &before, `SELECT `+columns+` FROM webhook_endpoints WHERE org_id = $1 AND key = $2`, n.OrgID, n.Key)
		switch {
		case err == nil:
			e, secret, err = s.again(before, n.OrgID, asked, tx.Now)
			repeated = true
			return err
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't look for an earlier request: %w", err)
		}
		var others int
		if err := tx.GetContext(ctx, &others, `SELECT count(*) FROM webhook_endpoints WHERE org_id = $1 AND removed_at IS NULL`, n.OrgID); err != nil {
			return fmt.Errorf("couldn't count the endpoints: %w", err)
		}
		if others >= maxEndpoints {
			return &fault.Error{Kind: fault.Conflict, Code: "endpoint_limit", Public: fmt.Sprintf("There are %d endpoints already. Remove one that nobody needs first.", others)}
		}
		var made row
		err = tx.GetContext(ctx, &made, `
			INSERT INTO webhook_endpoints (id, org_id, url, types, sealed, key_id, key, fingerprint, created_by, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) RETURNING `+columns,
			id, n.OrgID, address, textArray(types), sealed, key, n.Key, asked, string(n.Actor), tx.Now)
		switch {
		case db.Violated(err, "webhook_endpoints_url_unique"):
			return errTaken(err)
		case err != nil:
			return fmt.Errorf("couldn't add the endpoint: %w", err)
		}
		e, secret = made.endpoint(tx.Now), fresh
		return record(ctx, tx, n.OrgID, id, n.Actor, "webhook.endpoint_created", map[string]any{"url": address, "types": types})
	})
	if err != nil {
		return Endpoint{}, "", false, err
	}
	return e, secret, repeated, nil
}

func errTaken(cause error) error {
	return &fault.Error{Kind: fault.Conflict, Code: "endpoint_exists", Field: "url", Public: "There is an endpoint with this address already.", Cause: cause}
}

func errKeyReused() error {
	return &fault.Error{
		Kind: fault.Conflict, Code: "idempotency_key_reused", Field: "Idempotency-Key",
		Public: "This Idempotency-Key was used for another request. Choose a new one.",
	}
}

// again gives what an earlier request with the same key made.
func (s *Service) again(before row, org uuid.UUID, asked []byte, now time.Time) (Endpoint, string, error) {
	if string(before.Fingerprint) != string(asked) || before.RemovedAt.Valid {
		return Endpoint{}, "", errKeyReused()
	}
	secret, err := s.open(before.Sealed, org, before.ID)
	if err != nil {
		return Endpoint{}, "", err
	}
	return before.endpoint(now), secret, nil
}

func record(ctx context.Context, tx *db.Tx, org, id uuid.UUID, actor audit.Actor, action string, detail map[string]any) error {
	return audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: actor, Action: action, Subject: "webhook:" + id.String(), Detail: detail})
}

// Change is what is to be different about an endpoint; what is nil stays.
type Change struct {
	URL   *string
	Types *[]Type
	On    *bool
}

// Change alters an endpoint of the organisation. Switching it on forgets how long it failed; switching it off ends what
// waits for it. Repeating it changes nothing. Faults: NotFound; Invalid with the field "url" or "types"; Conflict with the
// field "url".
func (s *Service) Change(ctx context.Context, org, id uuid.UUID, c Change, actor audit.Actor) (e Endpoint, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, org, id, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		is := r.endpoint(tx.Now)
		if c.URL != nil {
			if is.URL, err = s.checkURL(*c.URL); err != nil {
				return err
			}
		}
		if c.Types != nil {
			if is.Types, err = checkTypes(*c.Types); err != nil {
				return err
			}
		}
		switches := c.On != nil && *c.On != is.On()
		if is.URL == r.URL && slices.Equal(is.Types, r.endpoint(tx.Now).Types) && !switches {
			e = is
			return nil
		}
		switch {
		case switches && *c.On:
			is.DisabledAt, is.DisabledWhy, is.FailingSince = time.Time{}, "", time.Time{}
		case switches:
			is.DisabledAt, is.DisabledWhy = tx.Now, ""
			if err := endQueued(ctx, tx, id); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE webhook_endpoints SET url = $2, types = $3, disabled_at = $4, disabled_why = $5, failing_since = $6, updated_at = $7 WHERE id = $1`,
			id, is.URL, textArray(is.Types), orNull(is.DisabledAt), is.DisabledWhy, orNull(is.FailingSince), tx.Now)
		switch {
		case db.Violated(err, "webhook_endpoints_url_unique"):
			return errTaken(err)
		case err != nil:
			return fmt.Errorf("couldn't change the endpoint: %w", err)
		}
		e = is
		return record(ctx, tx, org, id, actor, "webhook.endpoint_changed", map[string]any{"url": is.URL, "types": is.Types, "on": is.On()})
	})
	return e, err
}

func orNull(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

// endQueued ends what waits for an endpoint that is not delivered to any more.
func endQueued(ctx context.Context, tx *db.Tx, endpoint uuid.UUID) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE webhook_deliveries SET state = 'failed', ended_at = $2, busy_until = NULL WHERE endpoint_id = $1 AND state = 'queued'`, endpoint, tx.Now); err != nil {
		return fmt.Errorf("couldn't end what waits for the endpoint: %w", err)
	}
	return nil
}

// Remove takes an endpoint of the organisation away, with its secret. Removing one that is gone is NotFound.
func (s *Service) Remove(ctx context.Context, org, id uuid.UUID, actor audit.Actor) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, org, id, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE webhook_endpoints SET removed_at = $2, updated_at = $2, sealed = NULL, old_sealed = NULL, old_key_id = NULL, old_until = NULL WHERE id = $1`, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't remove the endpoint: %w", err)
		}
		if err := endQueued(ctx, tx, id); err != nil {
			return err
		}
		return record(ctx, tx, org, id, actor, "webhook.endpoint_removed", map[string]any{"url": r.URL})
	})
}

// Roll gives an endpoint of the organisation a new secret, shown this once. For 24 hours the one before signs too, so that
// the program can change over without missing anything; a further roll in that time ends the oldest. The same key again
// gives the same secret, and repeated says so. Faults: NotFound.
func (s *Service) Roll(ctx context.Context, org, id uuid.UUID, key string, actor audit.Actor) (e Endpoint, secret string, repeated bool, err error) {
	fresh := newSecret()
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, org, id, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		if r.RollKey.Valid && r.RollKey.String == key {
			e, repeated = r.endpoint(tx.Now), true
			secret, err = s.open(r.Sealed, org, id)
			return err
		}
		sealed, keyID, err := s.seal(fresh, org, id)
		if err != nil {
			return err
		}
		repeated, secret = false, fresh
		if err := tx.GetContext(ctx, &r, `
			UPDATE webhook_endpoints SET old_sealed = sealed, old_key_id = key_id, old_until = $2, sealed = $3, key_id = $4, roll_key = $5, updated_at = $6
			WHERE id = $1 RETURNING `+columns, id, tx.Now.Add(overlap), sealed, keyID, key, tx.Now); err != nil {
			return fmt.Errorf("couldn't roll the secret: %w", err)
		}
		e = r.endpoint(tx.Now)
		return record(ctx, tx, org, id, actor, "webhook.secret_rolled", map[string]any{"old_until": tx.Now.Add(overlap)})
	})
	if err != nil {
		return Endpoint{}, "", false, err
	}
	return e, secret, repeated, nil
}
