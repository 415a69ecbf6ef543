package handlers_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/wallet"
)

// heard listens to what is asked of a database, and how often.
type heard struct {
	mu    sync.Mutex
	pools int
	list  []question
	trips int
}

// question is one statement with its values; system says by which role.
type question struct {
	system bool
	query  string
	args   []any
}

// open opens a database so that everything is heard.
func (h *heard) open(t *testing.T, url string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), url, db.Options{Pool: func(c driver.Connector) *sql.DB {
		h.pools++ // the tenants' pool is the first
		return sql.OpenDB(hearing{c, h, h.pools > 1})
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// during gives what is asked while something is done, and how many round trips it took.
func (h *heard) during(do func()) (list []question, trips int) {
	h.mu.Lock()
	h.list, h.trips = nil, 0
	h.mu.Unlock()
	do()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list, h.trips
}

func (h *heard) hear(system bool, query string, args []driver.NamedValue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trips++
	if query == "" {
		return
	}
	q := question{system: system, query: query}
	for _, a := range args {
		q.args = append(q.args, a.Value)
	}
	h.list = append(h.list, q)
}

type hearing struct {
	driver.Connector
	h      *heard
	system bool
}

// wholeConn is all that the pools use of a connection.
type wholeConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

func (c hearing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	whole, ok := conn.(wholeConn)
	if !ok {
		return nil, fmt.Errorf("a %T is not heard whole", conn)
	}
	return &heardConn{whole, c}, nil
}

type heardConn struct {
	wholeConn
	by hearing
}

func (c *heardConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.by.h.hear(c.by.system, query, args)
	return c.wholeConn.QueryContext(ctx, query, args)
}

func (c *heardConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.by.h.hear(c.by.system, query, args)
	return c.wholeConn.ExecContext(ctx, query, args)
}

func (c *heardConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.by.h.hear(c.by.system, "", nil)
	tx, err := c.wholeConn.BeginTx(ctx, o)
	return heardTx{tx, c.by}, err
}

type heardTx struct {
	driver.Tx
	by hearing
}

func (t heardTx) Commit() error {
	t.by.h.hear(t.by.system, "", nil)
	return t.Tx.Commit()
}

// planNode is a step of a plan as EXPLAIN (ANALYZE, FORMAT JSON) tells it.
type planNode struct {
	Type      string     `json:"Node Type"`
	Table     string     `json:"Relation Name"`
	Index     string     `json:"Index Name"`
	Rows      float64    `json:"Actual Rows"`
	Removed   float64    `json:"Rows Removed by Filter"`
	Rechecked float64    `json:"Rows Removed by Index Recheck"`
	Loops     float64    `json:"Actual Loops"`
	Plans     []planNode `json:"Plans"`
}

// readMost is how many rows of one table a statement of a page may read: as many as calls under way are counted.
const readMost = 1000

// check fails where a step reads a whole table, or more of it than a page may.
func (n planNode) check(t *testing.T, what, query string) {
	t.Helper()
	read := (n.Rows + n.Removed + n.Rechecked) * n.Loops
	if n.Type == "Seq Scan" || n.Table != "" && read > readMost {
		t.Errorf("%s: %s of %s %s reads %.0f rows: %s", what, n.Type, n.Table, n.Index, read, query)
	}
	for _, below := range n.Plans {
		below.check(t, what, query)
	}
}

// explain runs the statement again and checks how it went.
func (s *site) explain(what string, org uuid.UUID, q question) {
	s.t.Helper()
	run := func(ctx context.Context, tx *db.Tx) error {
		var plan []byte
		if err := tx.GetContext(ctx, &plan, "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+q.query, q.args...); err != nil {
			return err
		}
		var whole []struct{ Plan planNode }
		if err := json.Unmarshal(plan, &whole); err != nil {
			return err
		}
		whole[0].Plan.check(s.t, what, q.query)
		return nil
	}
	err := s.db.InReadTx(s.t.Context(), []uuid.UUID{org}, run)
	if q.system {
		err = s.db.InSystemReadTx(s.t.Context(), "a plan", run)
	}
	if err != nil {
		s.t.Errorf("%s: %v: %s", what, err, q.query)
	}
}

// plantMuch gives an organisation's history much of everything that its pages ask about, nearly all of it over.
func (s *site) plantMuch(org uuid.UUID) {
	s.t.Helper()
	const user = `(SELECT u.id FROM users u JOIN memberships m ON m.user_id = u.id WHERE m.org_id = $1)`
	for _, statement := range []string{
		`INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, created_at, updated_at)
		 SELECT gen_random_uuid(), $1, ` + user + `, 1000, 1266, (SELECT min(id) FROM exchange_rates), 'expired', now() - n * interval '1 hour', now()
		 FROM generate_series(1, 3000) n`,
		`INSERT INTO notices (id, org_id, kind, subject, data, raised_at, addressed_at)
		 SELECT gen_random_uuid(), $1, 'account_closed', 'n' || n, '{"name": "x"}', now(), now() FROM generate_series(1, 3000) n`,
		`INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, failed_step, key, fingerprint, actor, created_at, ended_at)
		 SELECT gen_random_uuid(), $1, '+4420' || 79460000 + n, 'GB', 'byoc', 'released', '', '', 'n' || n, sha256('x'), 'system:test', now(), now()
		 FROM generate_series(1, 3000) n`,
		`INSERT INTO agents (id, org_id, name, created_at, updated_at, deleted_at) SELECT gen_random_uuid(), $1, 'n' || n, now(), now(), now() FROM generate_series(1, 3000) n`,
		`INSERT INTO agents (id, org_id, name, created_at, updated_at) VALUES (gen_random_uuid(), $1, 'Reception', now(), now())`,
		`INSERT INTO calls (id, org_id, direction, number_id, our_number, party, state, ceiling_seconds, covered_seconds, key, fingerprint, actor, created_at, ended_at)
		 SELECT gen_random_uuid(), $1, 'inbound', n.id, n.phone_number, '+447400123456', 'refused', 0, 0, n.key, sha256('x'), 'system:test', now(), now()
		 FROM numbers n WHERE n.org_id = $1`,
		`INSERT INTO messages (id, org_id, sender, recipient, body, encoding, segments, state, hold_id, key, fingerprint, actor, created_at, ended_at)
		 SELECT gen_random_uuid(), $1, '+15005550006', '+447400123456', 'x', 'gsm-7', 1, CASE WHEN h.quantity = 2 THEN 'sent' ELSE 'failed' END, h.id, h.key,
		        sha256('x'), 'system:test', now(), CASE WHEN h.quantity = 1 THEN now() END
		 FROM holds h WHERE h.org_id = $1 AND h.action = 'sms'`,
		`INSERT INTO sessions (token_hash, user_id, org_id, created_at, last_seen_at, expires_at, address, user_agent)
		 SELECT sha256(n::text::bytea), ` + user + `, $1, now(), now(), now() + interval '1 day', '', '' FROM generate_series(1, 3000) n`,
	} {
		dbtest.Super(s.t, s.dbURL, statement, org)
	}
}

// However much there is, no statement of the dashboard or the wallet page reads a whole table, or more than a thousand rows of
// one: neither before the planner knows how much that is, nor after. They change nothing, and take few round trips.
func TestPagesReadLittle(t *testing.T) {
	h := &heard{}
	s := newSite(t, func(o *options) { o.heard = h })
	gates := wallet.NewGates(wallet.GateOptions{DB: s.db, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err := emptied(s, gates, 8000); err != nil {
		t.Fatal(err)
	}
	s.plantMuch(s.other)
	if n, err := wallet.New(s.db).AddUp(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d wallets added up, %v", n, err)
	}
	b := s.as("owner@second.example")
	for _, known := range []bool{false, true} {
		if known {
			dbtest.Super(t, s.dbURL, `ANALYZE`)
		}
		for _, c := range []struct {
			page  string
			trips int
		}{{"/dashboard", 16}, {"/dashboard?days=90", 16}, {"/wallet", 12}} {
			var res reply
			list, trips := h.during(func() { res = b.get(c.page) })
			what := fmt.Sprintf("%s, known %t", c.page, known)
			wantStatus(t, what, res, http.StatusOK)
			if trips > c.trips {
				t.Errorf("%s took %d round trips, want at most %d", what, trips, c.trips)
			}
			if len(list) < 8 {
				t.Errorf("%s: only %d statements were heard", what, len(list))
			}
			for _, q := range list {
				if first := strings.TrimLeft(q.query, " \n\t("); !strings.HasPrefix(first, "SELECT") {
					t.Errorf("%s does more than read: %s", what, q.query)
					continue
				}
				s.explain(what, s.other, q)
			}
		}
	}
}
