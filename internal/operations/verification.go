package operations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
)

const (
	// VerifyEvery is how often all promises are checked by themselves.
	VerifyEvery = time.Hour
	// verificationsKept is how long the results are.
	verificationsKept = 90 * 24 * time.Hour
)

// Verdict is what came of checking all promises.
type Verdict struct {
	Checks int
	// Broken are the names of the promises that do not hold.
	Broken []string
}

// Verification is one check of all promises.
type Verification struct {
	At     time.Time     `db:"at"`
	Actor  string        `db:"actor"`
	Took   time.Duration `db:"-"`
	TookMS int64         `db:"took_ms"`
	Checks int           `db:"checks"`
	Broken []string      `db:"-"`
	// Failure is why it could not be finished, which is no better than a broken promise.
	Failure string `db:"failure"`
}

// Holds reports whether everything was checked and holds.
func (v Verification) Holds() bool { return v.Failure == "" && v.Checks > 0 && len(v.Broken) == 0 }

// Verify checks all promises and keeps what came of it. reason is a person's; empty for what nobody asked for. A check that
// could not be finished is kept too, and is no error.
func (s *Service) Verify(ctx context.Context, actor audit.Actor, reason string) (v Verification, err error) {
	began := s.o.Now()
	verdict, failed := s.o.Verify(ctx)
	v = Verification{Actor: string(actor), Took: s.o.Now().Sub(began), Checks: verdict.Checks, Broken: verdict.Broken}
	if failed != nil {
		v.Failure = cut(failed.Error())
	}
	err = s.o.DB.InSystemTx(ctx, "what came of checking all promises", func(ctx context.Context, tx *db.Tx) error {
		v.At = tx.Now
		if _, err := tx.ExecContext(ctx, `INSERT INTO verifications (at, actor, took_ms, checks, broken, failure) VALUES ($1, $2, $3, $4, $5, $6)`,
			tx.Now, v.Actor, v.Took.Milliseconds(), v.Checks, pq.Array(append([]string{}, v.Broken...)), v.Failure); err != nil {
			return fmt.Errorf("couldn't keep the verification: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM verifications WHERE at < $1`, tx.Now.Add(-verificationsKept)); err != nil {
			return fmt.Errorf("couldn't forget old verifications: %w", err)
		}
		if reason == "" {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor, Action: "operations.verified", Subject: "books", Reason: reason, Detail: map[string]any{"checks": v.Checks, "broken": v.Broken, "failure": v.Failure},
		})
	})
	if err != nil {
		return Verification{}, err
	}
	if !v.Holds() {
		s.o.Log.ErrorContext(ctx, "not all promises hold", "broken", v.Broken, "failure", v.Failure)
	}
	return v, nil
}

// verifyDue checks all promises where nobody has for [VerifyEvery].
func (s *Service) verifyDue(ctx context.Context) error {
	last, found, err := s.LastVerification(ctx)
	if err != nil || found && s.o.Now().Sub(last.At) < VerifyEvery {
		return err
	}
	mine, err := s.claim(ctx, "verify", VerifyEvery)
	if err != nil || !mine {
		return err
	}
	_, err = s.Verify(ctx, audit.System("operations"), "")
	return err
}

// LastVerification is the newest one, if there was any.
func (s *Service) LastVerification(ctx context.Context) (v Verification, found bool, err error) {
	var row struct {
		Verification

		Names pq.StringArray `db:"broken"`
	}
	err = s.o.DB.InSystemTx(ctx, "when all promises were last checked", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &row, `SELECT at, actor, took_ms, checks, broken, failure FROM verifications ORDER BY id DESC LIMIT 1`)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Verification{}, false, nil
	case err != nil:
		return Verification{}, false, fmt.Errorf("couldn't read the last verification: %w", err)
	}
	row.Took, row.Broken = time.Duration(row.TookMS)*time.Millisecond, row.Names
	return row.Verification, true, nil
}
