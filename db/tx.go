package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

const (
	// statementBudget bounds the statements of one transaction together. Its COMMIT has no deadline: see InTx.
	statementBudget = 30 * time.Second
	// maxTries bounds how often a transaction that lost a deadlock or a serialisation is run again.
	maxTries = 4
)

// Tx is a transaction under way. A function that takes one cannot run outside a transaction.
type Tx struct {
	*sqlx.Tx
	// Now is this transaction's one moment, in UTC and in microseconds, as the database keeps it.
	Now time.Time
	// Orgs are the organisations whose rows the transaction may see, in ascending order; empty in a system transaction.
	Orgs []uuid.UUID

	widely bool // see ReadWidely
}

// ReadWidely lets the rest of the transaction read whole tables: for checks and reports that look at everything, which
// the pools' settings would send through indexes row by row.
func (tx *Tx) ReadWidely(ctx context.Context) error {
	settings := []string{"SET LOCAL plan_cache_mode = auto", "SET LOCAL max_parallel_workers_per_gather = 2", "SET LOCAL jit = on"}
	for _, name := range indexOnly {
		settings = append(settings, "SET LOCAL "+name+" = on")
	}
	if _, err := tx.ExecContext(ctx, strings.Join(settings, "; ")); err != nil {
		return fmt.Errorf("couldn't let the transaction read whole tables: %w", err)
	}
	tx.widely = true
	return nil
}

type budgetKey struct{}

// Patiently gives the transactions below ctx another time for their statements than the half minute that they have
// otherwise: for what looks at everything and grows with it, while nobody waits.
func Patiently(ctx context.Context, budget time.Duration) context.Context {
	return context.WithValue(ctx, budgetKey{}, budget)
}

// ErrCommitUnknown says that the reply to COMMIT was lost: the work may be done or not. Look it up by its key before
// trying again.
var ErrCommitUnknown = errors.New("the outcome of the commit is unknown")

// InTx runs fn in one transaction as the tenants' role, with sight of exactly the given organisations, and commits.
//
// fn may run several times (deadlock, serialisation failure), so it must have no effect outside the transaction. The
// caller's cancellation does not reach the transaction: a browser that goes away must not decide whether money moved,
// and a context that ends while COMMIT waits for a synchronous standby would report success for a commit that only one
// machine has. fn's context carries a deadline for its statements instead.
//
// An error of fn comes back as it is. A commit whose reply was lost gives [ErrCommitUnknown].
func (d *DB) InTx(ctx context.Context, orgs []uuid.UUID, fn func(ctx context.Context, tx *Tx) error) error {
	if len(orgs) == 0 {
		return errors.New("a tenant transaction must name its organisations")
	}
	return d.run(context.WithoutCancel(ctx), d.app, false, orgs, fn)
}

// InReadTx is [DB.InTx] for reading: the transaction is READ ONLY, sees one moment of the data, and ends with the
// caller's context. Below [DB.InOneMoment] it takes part in that one's.
func (d *DB) InReadTx(ctx context.Context, orgs []uuid.UUID, fn func(ctx context.Context, tx *Tx) error) error {
	if len(orgs) == 0 {
		return errors.New("a tenant transaction must name its organisations")
	}
	if done, err := d.inMoment(ctx, orgs, fn); done {
		return err
	}
	return d.run(ctx, d.app, true, orgs, fn)
}

// InSystemTx runs fn as the system's role, which sees across organisations on the few tables that have a policy for
// it. why says at each call what needs that; it goes into errors. Otherwise it promises what InTx promises.
func (d *DB) InSystemTx(ctx context.Context, why string, fn func(ctx context.Context, tx *Tx) error) error {
	if err := d.run(context.WithoutCancel(ctx), d.system, false, nil, fn); err != nil {
		return fmt.Errorf("system transaction for %s: %w", why, err)
	}
	return nil
}

// InSystemReadTx is [DB.InSystemTx] for reading: the transaction is READ ONLY, sees one moment of the data, and ends with
// the caller's context.
func (d *DB) InSystemReadTx(ctx context.Context, why string, fn func(ctx context.Context, tx *Tx) error) error {
	if err := d.run(ctx, d.system, true, nil, fn); err != nil {
		return fmt.Errorf("system transaction for %s: %w", why, err)
	}
	return nil
}

// run gives fn a transaction, and another one when Postgres asked for that.
func (d *DB) run(ctx context.Context, pool *sqlx.DB, readOnly bool, orgs []uuid.UUID, fn func(context.Context, *Tx) error) error {
	orgs = sortedUnique(orgs)
	ids := make([]string, len(orgs))
	for i, id := range orgs {
		ids[i] = id.String()
	}
	// Also where there are none: ctx may be that of a tenant's transaction around this one.
	ctx = context.WithValue(ctx, orgsKey{}, strings.Join(ids, ","))
	for try := 1; ; try++ {
		err := d.once(ctx, pool, readOnly, orgs, fn)
		if try == maxTries || !retryable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * rand.N(10*time.Millisecond)): //nolint:gosec // to part from whom it met
		}
	}
}

// retryable reports whether the transaction failed for a reason that another try need not meet: it lost a deadlock or a
// serialisation, or one of its prepared statements was overtaken by a migration.
func retryable(err error) bool {
	return pq.As(err, pqerror.TRSerializationFailure, pqerror.TRDeadlockDetected, pqerror.InvalidSQLStatementName) != nil ||
		pq.As(err, pqerror.FeatureNotSupported) != nil && strings.Contains(err.Error(), "cached plan")
}

func (d *DB) once(ctx context.Context, pool *sqlx.DB, readOnly bool, orgs []uuid.UUID, fn func(context.Context, *Tx) error) (err error) {
	// Waiting for a free connection is bounded too, but not through the transaction's own context: database/sql rolls
	// a transaction back when that one ends.
	stx, err := beginWithin(ctx, pool, readOnly)
	if err != nil {
		return err
	}
	tx := &Tx{Tx: stx, Now: d.now().UTC().Truncate(time.Microsecond), Orgs: orgs}
	done := false
	defer func() {
		if !done { // an error, or a panic that is on its way up
			if rerr := stx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && err == nil {
				err = fmt.Errorf("couldn't roll back: %w", rerr)
			}
		}
	}()

	wait := statementBudget
	if patient, ok := ctx.Value(budgetKey{}).(time.Duration); ok {
		wait = patient
	}
	budget, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := fn(budget, tx); err != nil {
		return err
	}
	if err := budget.Err(); err != nil { // a cancel request may be on its way, and must not meet the COMMIT
		return fmt.Errorf("the transaction took too long: %w", err)
	}
	done = true
	if err := stx.Commit(); err != nil {
		if pq.As(err) == nil { // not Postgres's own refusal: nobody knows
			return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
		}
		return fmt.Errorf("couldn't commit: %w", err)
	}
	return nil
}

// beginWithin begins a transaction that lives as long as ctx, but waits for a connection only for statementBudget.
func beginWithin(ctx context.Context, pool *sqlx.DB, readOnly bool) (*sqlx.Tx, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(statementBudget, func() { cancel(errors.New("no database connection became free")) })
	opts := sql.TxOptions{ReadOnly: readOnly}
	if readOnly {
		opts.Isolation = sql.LevelRepeatableRead
	}
	tx, err := pool.BeginTxx(ctx, &opts)
	if !timer.Stop() && err == nil {
		err = errors.Join(context.Cause(ctx), tx.Rollback())
	}
	if err != nil {
		cancel(err)
		return nil, &notBegunError{err}
	}
	return tx, nil
}

// notBegunError says that there was no transaction at all: the server is away, or starts, or has no connection free. Nothing was
// done in it, and trying again is safe.
type notBegunError struct{ cause error }

func (e *notBegunError) Error() string { return "couldn't begin a transaction: " + e.cause.Error() }

func (e *notBegunError) Unwrap() error { return e.cause }

// Unavailable tells the edge, which knows no database, that this passes.
func (e *notBegunError) Unavailable() bool { return true }

// sortedUnique gives the ids in ascending order, each once: the order in which everybody locks.
func sortedUnique(ids []uuid.UUID) []uuid.UUID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}
