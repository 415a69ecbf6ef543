package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// maxStatements bounds the statements that one connection keeps prepared. The program has fewer; a query that is built
// at run time must not fill the server's memory.
const maxStatements = 300

// preparing is a connector whose connections keep every statement with parameters prepared. lib/pq would have each parsed
// and planned anew, which costs more than most of ours take to run, and a round trip besides.
type preparing struct{ driver.Connector }

// pqConn is what database/sql uses of lib/pq's connection.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Tx // a connection is its own transaction
	driver.Validator
}

// pqStmt is what we use of its prepared statements.
type pqStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// Connect implements driver.Connector.
func (c preparing) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := raw.(pqConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("lib/pq's connection (%T) has changed its methods", raw), raw.Close())
	}
	return &preparingConn{pqConn: conn, prepared: map[string]pqStmt{}}, nil
}

// preparingConn is one connection. database/sql sees to it that nobody uses it twice at once.
type preparingConn struct {
	pqConn
	prepared map[string]pqStmt
}

// QueryContext runs a query through its prepared statement.
func (c *preparingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	st, err := c.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return c.pqConn.QueryContext(ctx, query, args)
	}
	rows, err := st.QueryContext(ctx, args)
	return rows, c.judge(query, err)
}

// ExecContext runs a command through its prepared statement.
func (c *preparingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	st, err := c.statement(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return c.pqConn.ExecContext(ctx, query, args)
	}
	res, err := st.ExecContext(ctx, args)
	return res, c.judge(query, err)
}

// statement gives the query's prepared statement; nil for one without parameters, which may be several commands at once.
func (c *preparingConn) statement(ctx context.Context, query string, args []driver.NamedValue) (pqStmt, error) {
	if len(args) == 0 {
		return nil, nil //nolint:nilnil // no statement is an answer
	}
	if st, ok := c.prepared[query]; ok {
		return st, nil
	}
	if len(c.prepared) >= maxStatements {
		return nil, nil //nolint:nilnil // no statement is an answer
	}
	raw, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	st, ok := raw.(pqStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("lib/pq's statement (%T) has changed its methods", raw), raw.Close())
	}
	c.prepared[query] = st
	return st, nil
}

// judge forgets a statement that the server no longer takes, as after a migration changed the type of a column. The
// transaction has failed by then; it is run again (see retryable).
func (c *preparingConn) judge(query string, err error) error {
	if pq.As(err, pqerror.FeatureNotSupported, pqerror.InvalidSQLStatementName) != nil {
		delete(c.prepared, query)
	}
	return err
}

// orgsKey carries the organisations of a tenant transaction to BeginTx; empty for a system transaction.
type orgsKey struct{}

// BeginTx begins a transaction, and names its organisations in the same round trip.
func (c *preparingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	orgs, _ := ctx.Value(orgsKey{}).(string)
	if orgs == "" {
		return c.pqConn.BeginTx(ctx, opts)
	}
	begin := "BEGIN READ WRITE"
	if opts.ReadOnly {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	// Written into the text, since only the simple protocol takes two commands at once: uuid.UUID has no other characters
	// than hexadecimal digits and dashes.
	if _, err := c.pqConn.ExecContext(ctx, begin+"; SELECT set_config('app.org_ids', '"+orgs+"', true)", nil); err != nil {
		return nil, err
	}
	return c.pqConn, nil
}
