package operations

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Kind is what a verification looks at.
type Kind string

// The kinds; the schema and the gauges of internal/watch know the same ones.
const (
	Books   Kind = "books"   // every promise that our own records make, as `ringfence verify` checks them
	Numbers Kind = "numbers" // our phone numbers against the providers'
)

// verificationsKept is how long the results are.
const verificationsKept = 90 * 24 * time.Hour

// Every is how often it happens by itself. The books are read whole, which on a machine of two cores takes seconds for a
// million postings; the providers are asked for a list of each account.
func (k Kind) Every() time.Duration {
	if k == Numbers {
		return time.Hour
	}
	return 15 * time.Minute
}

// Findings count what is not as it should be, by its short and stable name. What was looked at and is as it should be stands
// there with 0.
type Findings map[string]int

// Verification is one look at everything of a kind.
type Verification struct {
	// At is when it came to its end.
	At     time.Time
	Actor  string
	Took   time.Duration
	Checks int
	// Broken are the names of the promises that do not hold, in order.
	Broken []string
	// Findings are what was counted; empty where it could not be finished.
	Findings Findings
	// Failure is why it could not be finished, which is no better than a broken promise.
	Failure string
}

// Holds reports whether everything was checked and holds.
func (v Verification) Holds() bool { return v.Failure == "" && v.Checks > 0 && len(v.Broken) == 0 }

// Kinds are those that this installation can verify.
func (s *Service) Kinds() []Kind {
	all := []Kind{Books}
	if s.o.Numbers != nil {
		all = append(all, Numbers)
	}
	return all
}

// VerifyRegularly is [Service.Verify] by the clock. A kind that this installation cannot verify is left alone.
func (s *Service) VerifyRegularly(ctx context.Context, kind Kind) error {
	if !slices.Contains(s.Kinds(), kind) {
		return nil
	}
	_, err := s.Verify(ctx, kind, audit.System("operations"), "")
	return err
}

// Verify looks at everything of a kind and keeps what it found, so that every process can tell of it. reason is a person's;
// empty for what nobody asked for. A look that could not be finished, in time or at all, is kept too, and is no error; one that
// was cut off because nobody waits for it any more says nothing, and is one.
func (s *Service) Verify(ctx context.Context, kind Kind, actor audit.Actor, reason string) (v Verification, err error) {
	look := s.o.Books
	if kind == Numbers {
		look = s.o.Numbers
	}
	began := s.o.Now()
	found, failed := look(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return Verification{}, fmt.Errorf("the verification was given up: %w", context.Cause(ctx))
	}
	if failed == nil && len(found) == 0 {
		failed = errors.New("nothing was looked at")
	}
	v = Verification{Actor: string(actor), Took: s.o.Now().Sub(began), Checks: len(found)}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if found[name] > 0 {
			v.Broken = append(v.Broken, name)
		}
	}
	if failed != nil {
		v.Failure, found = cut(failed.Error()), Findings{}
	}
	v.Findings = found
	findings, err := json.Marshal(found)
	if err != nil {
		return Verification{}, fmt.Errorf("couldn't write down what was found: %w", err)
	}
	err = s.o.DB.InSystemTx(ctx, "what a verification found", func(ctx context.Context, tx *db.Tx) error {
		v.At = tx.Now
		if _, err := tx.ExecContext(ctx, `INSERT INTO verifications (kind, at, actor, took_ms, checks, broken, failure, findings) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			kind, tx.Now, v.Actor, v.Took.Milliseconds(), v.Checks, pq.Array(append([]string{}, v.Broken...)), v.Failure, string(findings)); err != nil {
			return fmt.Errorf("couldn't keep the verification: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM verifications WHERE at < $1`, tx.Now.Add(-verificationsKept)); err != nil {
			return fmt.Errorf("couldn't forget old verifications: %w", err)
		}
		if reason == "" {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor, Action: "operations.verified", Subject: string(kind), Reason: reason, Detail: map[string]any{"checks": v.Checks, "broken": v.Broken, "failure": v.Failure},
		})
	})
	if err != nil {
		return Verification{}, err
	}
	if !v.Holds() {
		s.o.Log.ErrorContext(ctx, "not everything is as it should be", "verified", kind, "broken", v.Broken, "failure", v.Failure)
	}
	return v, nil
}

// LastVerification is the newest one of a kind, if there was any.
func (s *Service) LastVerification(ctx context.Context, kind Kind) (v Verification, found bool, err error) {
	var row struct {
		At       time.Time      `db:"at"`
		Actor    string         `db:"actor"`
		TookMS   int64          `db:"took_ms"`
		Checks   int            `db:"checks"`
		Broken   pq.StringArray `db:"broken"`
		Findings []byte         `db:"findings"`
		Failure  string         `db:"failure"`
	}
	err = s.o.DB.InSystemTx(ctx, "what was last verified", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &row, `SELECT at, actor, took_ms, checks, broken, findings, failure FROM verifications WHERE kind = $1 ORDER BY id DESC LIMIT 1`, kind)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Verification{}, false, nil
	case err != nil:
		return Verification{}, false, fmt.Errorf("couldn't read the last verification: %w", err)
	}
	v = Verification{
		At: row.At, Actor: row.Actor, Took: time.Duration(row.TookMS) * time.Millisecond, Checks: row.Checks, Broken: row.Broken, Failure: row.Failure,
	}
	if err := json.Unmarshal(row.Findings, &v.Findings); err != nil {
		return Verification{}, false, fmt.Errorf("couldn't read what was found: %w", err)
	}
	return v, true, nil
}
