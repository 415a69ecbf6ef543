package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
)

const (
	// RowsPerPage is the length of a page of the log.
	RowsPerPage = 50
	// rowsAtOnce is how many rows are read at a time for a file.
	rowsAtOnce = 1000
)

// Filter says which rows of the log to find; its zero value is all of them.
type Filter struct {
	// OrgID is the organisation concerned; uuid.Nil is any, and none.
	OrgID uuid.UUID
	// OrgName is its name, in any case; empty is any, and none.
	OrgName string
	// Actor is an actor in full, or how it begins, such as "operator:"; or somebody's e-mail in full.
	Actor string
	// Action is an action in full, or how it begins, such as "wallet.".
	Action string
	// From and To are days (UTC), both included; zero is no limit.
	From, To time.Time
}

func (f Filter) empty() bool { return f == Filter{} }

// Row is a row of the log as operators see it.
type Row struct {
	ID int64     `db:"id"`
	At time.Time `db:"at"`
	// OrgID and OrgName are uuid.Nil and "" where no organisation is concerned; the name is also empty where it is gone.
	OrgID   uuid.UUID `db:"org_id"`
	OrgName string    `db:"org_name"`
	Actor   Actor     `db:"actor"`
	// Email is the actor's, where it is a person.
	Email         string    `db:"email"`
	Action        string    `db:"action"`
	Subject       string    `db:"subject"`
	Reason        string    `db:"reason"`
	RequestID     string    `db:"request_id"`
	TransactionID uuid.UUID `db:"transaction_id"` // uuid.Nil where no money moved
	// Detail is a JSON object.
	Detail []byte `db:"detail"`
}

const rowColumns = `a.id, a.at, coalesce(a.org_id, '00000000-0000-0000-0000-000000000000') AS org_id, coalesce(o.name, '') AS org_name, a.actor,
	coalesce(u.email, '') AS email, a.action, a.subject, a.reason, a.request_id,
	coalesce(a.transaction_id, '00000000-0000-0000-0000-000000000000') AS transaction_id, a.detail`

const rowJoins = `LEFT JOIN organizations o ON o.id = a.org_id
	LEFT JOIN users u ON a.actor ~ '^(user|operator):[0-9a-f-]{36}$' AND u.id = substring(a.actor from '[0-9a-f-]{36}$')::uuid`

// Search gives a page of the log, newest first, of the rows before the one with this id (0: from the newest on), within tx, a
// system transaction; and whether there are more.
func Search(ctx context.Context, tx *db.Tx, f Filter, before int64, most int) (rows []Row, more bool, err error) {
	var where []string
	var args []any
	add := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(args))))
	}
	if before > 0 {
		add(`id < ?`, before)
	}
	if f.OrgID != uuid.Nil {
		add(`org_id = ?`, f.OrgID)
	}
	if f.OrgName != "" {
		add(`org_id IN (SELECT id FROM organizations WHERE lower(name) = lower(?))`, f.OrgName)
	}
	switch {
	case strings.Contains(f.Actor, "@"):
		add(`actor IN (SELECT kind || ':' || id FROM users, unnest(ARRAY['user', 'operator']) kind WHERE email = lower(?))`, f.Actor)
	case f.Actor != "":
		add(`starts_with(actor, ?)`, f.Actor)
	}
	if f.Action != "" {
		add(`starts_with(action, ?)`, f.Action)
	}
	if !f.From.IsZero() {
		add(`at >= ?`, f.From)
	}
	if !f.To.IsZero() {
		add(`at < ?`, f.To.AddDate(0, 0, 1))
	}
	if !f.empty() { // what is rare among many is not found row by row
		if err := tx.ReadWidely(ctx); err != nil {
			return nil, false, err
		}
	}
	condition := ""
	if len(where) > 0 {
		condition = `WHERE ` + strings.Join(where, ` AND `)
	}
	args = append(args, most+1)
	if err := tx.SelectContext(ctx, &rows, fmt.Sprintf(`
		SELECT %s FROM (SELECT id, at, org_id, actor, action, subject, reason, request_id, transaction_id, detail FROM audit_log %s ORDER BY id DESC LIMIT $%d) a %s ORDER BY a.id DESC`, rowColumns, condition, len(args), rowJoins), args...); err != nil {
		return nil, false, fmt.Errorf("couldn't search the audit log: %w", err)
	}
	if len(rows) > most {
		return rows[:most], true, nil
	}
	return rows, false, nil
}

// Find gives one row, if there is one with this id, within tx, a system transaction.
func Find(ctx context.Context, tx *db.Tx, id int64) (row Row, found bool, err error) {
	err = tx.GetContext(ctx, &row, `SELECT `+rowColumns+` FROM audit_log a `+rowJoins+` WHERE a.id = $1`, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Row{}, false, nil
	case err != nil:
		return Row{}, false, fmt.Errorf("couldn't read the audit log: %w", err)
	}
	return row, true, nil
}

// Log reads the log for operators.
type Log struct{ db *db.DB }

// NewLog reads the log that is kept in d.
func NewLog(d *db.DB) *Log { return &Log{db: d} }

// Page is [Search] in a transaction of its own.
func (l *Log) Page(ctx context.Context, f Filter, before int64) (rows []Row, more bool, err error) {
	return l.read(ctx, f, before, RowsPerPage)
}

func (l *Log) read(ctx context.Context, f Filter, before int64, most int) (rows []Row, more bool, err error) {
	err = l.db.InSystemTx(ctx, "an operator's search of the audit log", func(ctx context.Context, tx *db.Tx) error {
		rows, more, err = Search(ctx, tx, f, before, most)
		return err
	})
	return rows, more, err
}

// Row is [Find] in a transaction of its own.
func (l *Log) Row(ctx context.Context, id int64) (row Row, found bool, err error) {
	err = l.db.InSystemTx(ctx, "a row of the audit log that an operator reads", func(ctx context.Context, tx *db.Tx) error {
		row, found, err = Find(ctx, tx, id)
		return err
	})
	return row, found, err
}

// Emails gives the addresses of those among the actors who are people, for operators to read in place of an id.
func (l *Log) Emails(ctx context.Context, actors ...Actor) (map[Actor]string, error) {
	ids := make([]uuid.UUID, 0, len(actors))
	for _, a := range actors {
		kind, id, _ := strings.Cut(string(a), ":")
		if person, err := uuid.Parse(id); err == nil && (kind == "user" || kind == "operator") {
			ids = append(ids, person)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var people []struct {
		ID    uuid.UUID `db:"id"`
		Email string    `db:"email"`
	}
	err := l.db.InSystemTx(ctx, "who did what an operator reads of", func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &people, `SELECT id, email FROM users WHERE id = ANY ($1)`, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read who did it: %w", err)
		}
		return nil
	})
	emails := map[Actor]string{}
	for _, p := range people {
		emails[User(p.ID)], emails[Operator(p.ID)] = p.Email, p.Email
	}
	return emails, err
}

// Each gives all rows that fit, newest first, in parts. Rows that are written meanwhile are not among them. An error of fn
// ends it.
func (l *Log) Each(ctx context.Context, f Filter, fn func([]Row) error) error {
	var before int64
	for {
		rows, more, err := l.read(ctx, f, before, rowsAtOnce)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := fn(rows); err != nil {
				return err
			}
			before = rows[len(rows)-1].ID
		}
		if !more || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
