// Package db is the way to a transaction, and the only one: every statement of the program runs inside [DB.InTx],
// [DB.InReadTx] or [DB.InSystemTx]. It owns the pools, the roles they work as and the migrations; the SQL itself stands
// beside the function that runs it, in its domain package.
//
// Why nothing runs outside a transaction: lib/pq repeats an autocommit write when the reply is lost
// (https://github.com/lib/pq/issues/939), which for money means applying it twice.
package db

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// The roles that our connections work as. None can log in; each pool takes its role with the start-up packet.
const (
	RoleApp    = "ringfence_app"    // tenants: sees only the organisations a transaction names
	RoleSystem = "ringfence_system" // sign-in, key look-up, sweepers, verify
	RoleOwner  = "ringfence_owner"  // owns the tables; migrations only
)

// Options tune [Open]. The zero value is right for a server on a small machine.
type Options struct {
	// Now is the clock behind [Tx.Now]; nil means the wall clock.
	Now func() time.Time
	// MaxConns bounds each of the two pools. Default 10: on two cores more connections are slower, not faster.
	MaxConns int
	// Pool makes each pool of its connector; nil means sql.OpenDB. Tracing has its own.
	Pool func(driver.Connector) *sql.DB
}

// DB holds a pool for each working role.
type DB struct {
	url    string
	app    *sqlx.DB
	system *sqlx.DB
	now    func() time.Time
}

// Open connects to a migrated database and refuses roles that row-level security would not bind.
// The URL's own role only has to be a member of the working roles; it may be a superuser.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the one place where the wall clock enters the database layer
	}
	if o.MaxConns == 0 {
		o.MaxConns = 10
	}
	d := &DB{url: url, now: o.Now}
	var err error
	if d.app, err = openPool(url, RoleApp, o.MaxConns, o.Pool); err != nil {
		return nil, err
	}
	if d.system, err = openPool(url, RoleSystem, o.MaxConns, o.Pool); err != nil {
		return nil, errors.Join(err, d.app.Close())
	}
	if err := d.checkRoles(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close ends both pools. Transactions under way finish first.
func (d *DB) Close() error {
	return errors.Join(d.app.Close(), d.system.Close())
}

// SystemPool is the pool that River keeps its own books with; nothing else may use it outside [DB.InSystemTx].
func (d *DB) SystemPool() *sql.DB { return d.system.DB }

// Listener opens the one pgx connection that River listens on (lib/pq's driver for River cannot).
func (d *DB) Listener(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, errors.New("couldn't read DATABASE_URL for the job listener") // pgx's own error repeats the URL
	}
	cfg.MaxConns = 2
	if cfg.ConnConfig.ValidateConnect == nil { // as connection does for the pools
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cfg.ConnConfig.RuntimeParams["role"] = RoleSystem
	cfg.ConnConfig.RuntimeParams["application_name"] = "ringfence listener"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("couldn't open the job listener: %w", err)
	}
	return pool, nil
}

// Stats gives the state of each pool, for metrics.
func (d *DB) Stats() map[string]sql.DBStats {
	return map[string]sql.DBStats{"app": d.app.Stats(), "system": d.system.Stats()}
}

// Warm opens n connections in each pool, so that the first requests do not pay for them.
func (d *DB) Warm(ctx context.Context, n int) error {
	for _, pool := range []*sqlx.DB{d.app, d.system} {
		conns := make([]*sql.Conn, 0, n)
		var err error
		for range n {
			var c *sql.Conn
			if c, err = pool.Conn(ctx); err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			return fmt.Errorf("couldn't warm the pool: %w", err)
		}
	}
	return nil
}

// connection reads a DATABASE_URL. Beside what lib/pq reads itself it takes libpq's host1:port1,host2:port2
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS), which lib/pq would look up as one
// name. Connections go to the primary unless the URL itself asks for something else: of several hosts it is the one that
// takes writes, and an address that has moved on to a standby is left again instead of kept in the pool. Postgres 14 and
// later say which they are while connecting, so it costs no round trip.
func connection(databaseURL string) (pq.Config, error) {
	if u, err := url.Parse(databaseURL); err == nil && strings.Contains(u.Host, ",") {
		var hosts, ports []string
		for at := range strings.SplitSeq(u.Host, ",") {
			host, port, err := net.SplitHostPort(at)
			if err != nil { // no port
				host, port = at, cmp.Or(u.Query().Get("port"), "5432")
			}
			hosts, ports = append(hosts, host), append(ports, port)
		}
		q := u.Query()
		q.Set("host", strings.Join(hosts, ","))
		q.Set("port", strings.Join(ports, ","))
		u.Host, u.RawQuery = "", q.Encode()
		databaseURL = u.String()
	}
	cfg, err := pq.NewConfig(databaseURL)
	if err != nil {
		return pq.Config{}, errors.New("couldn't read DATABASE_URL: it must be a postgres:// URL or key=value pairs") // pq's error repeats it
	}
	if cfg.TargetSessionAttrs == "" || cfg.TargetSessionAttrs == pq.TargetSessionAttrsAny {
		cfg.TargetSessionAttrs = pq.TargetSessionAttrsReadWrite
	}
	return cfg, nil
}

// indexOnly are the planner's alternatives to finding rows one by one through an index.
var indexOnly = []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"}

// aloneOnly are the planner's means for what takes long, switched off.
var aloneOnly = map[string]string{"max_parallel_workers_per_gather": "0", "jit": "off"}

// openPool makes a pool whose connections all work as role, with open (nil: sql.OpenDB). It does not connect yet.
func openPool(databaseURL, role string, maxConns int, open func(driver.Connector) *sql.DB) (*sqlx.DB, error) {
	cfg, err := connection(databaseURL)
	if err != nil {
		return nil, err
	}
	cfg.ApplicationName = "ringfence " + strings.TrimPrefix(role, "ringfence_")
	cfg.BinaryParameters = true // one round trip less for each statement with parameters
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.Runtime == nil {
		cfg.Runtime = map[string]string{}
	}
	cfg.Runtime["role"] = role
	cfg.Runtime["timezone"] = "UTC"
	// Every statement that runs often finds its rows by index, whatever the size of the table. Said so plainly, the plan is
	// made once per connection and stays right while tables grow; left to guess from statistics, a plan of the first minute
	// (read the whole table, it is small) would be kept into the second.
	cfg.Runtime["plan_cache_mode"] = "force_generic_plan"
	for _, setting := range indexOnly {
		cfg.Runtime[setting] = "off"
	}
	// A plan that is made once is made for no limit in particular, so it looks expensive where a table is large: helpers
	// would be started, or the plan compiled, for each handful of rows.
	maps.Copy(cfg.Runtime, aloneOnly)
	// No statement_timeout here: it would also cut a COMMIT that waits for a synchronous standby, and Postgres then
	// reports success for what only one machine has. Statements are bounded by their context instead; see InTx.
	cfg.Runtime["lock_timeout"] = strconv.Itoa(int((10 * time.Second).Milliseconds()))
	cfg.Runtime["idle_in_transaction_session_timeout"] = strconv.Itoa(int((60 * time.Second).Milliseconds()))
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("couldn't prepare the database connection: %w", err)
	}
	if open == nil {
		open = sql.OpenDB
	}
	pool := sqlx.NewDb(open(preparing{connector}), "postgres")
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return pool, nil
}

// checkRoles makes sure that the pools work as the roles they should, and that row-level security binds those.
func (d *DB) checkRoles(ctx context.Context) error {
	for role, pool := range map[string]*sqlx.DB{RoleApp: d.app, RoleSystem: d.system} {
		var is struct {
			Name   string         `db:"name"`
			Super  bool           `db:"super"`
			Bypass bool           `db:"bypass"`
			Owns   pq.StringArray `db:"owns"`
		}
		err := pool.GetContext(ctx, &is, `
			SELECT current_user AS name, r.rolsuper AS super, r.rolbypassrls AS bypass,
			       ARRAY(SELECT c.relname::text FROM pg_class c
			             WHERE c.relowner = r.oid AND c.relkind IN ('r', 'p') ORDER BY 1) AS owns
			FROM pg_roles r WHERE r.rolname = current_user`)
		switch {
		case err != nil:
			return fmt.Errorf("couldn't connect to the database as %s: %w", role, err)
		case is.Name != role:
			return fmt.Errorf("the database connection works as %q instead of %q: is a pooler dropping the role parameter?", is.Name, role)
		case is.Super || is.Bypass:
			return fmt.Errorf("role %s is superuser or has BYPASSRLS: row-level security would not hold; take that away with ALTER ROLE", role)
		case len(is.Owns) > 0:
			return fmt.Errorf("role %s owns tables (%s): it could lift their protection; give them to %s",
				role, strings.Join(is.Owns, ", "), RoleOwner)
		}
	}
	return nil
}

// Ping reports whether both roles can be served now, and whether the schema is the one this program was built with.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.app.PingContext(ctx); err != nil {
		return fmt.Errorf("couldn't reach the database: %w", err)
	}
	var version int64
	err := d.InSystemTx(ctx, "readiness", func(ctx context.Context, tx *Tx) error {
		return tx.GetContext(ctx, &version, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`)
	})
	if err != nil {
		return fmt.Errorf("couldn't read the schema version: %w", err)
	}
	if want := schemaVersion(); version < want {
		return fmt.Errorf("the schema is at version %d, this program needs %d: run `ringfence migrate`", version, want)
	}
	return nil
}

// CountRows counts the rows of each table as the owner sees them: independently of the policies that the working
// roles see through, so that a wrong policy cannot make verify blind. It sees the moment of the transaction that exported the
// snapshot, which must still be open.
func CountRows(ctx context.Context, url, snapshot string, tables []string) (counts map[string]int64, err error) {
	pool, err := openPool(url, RoleOwner, 1, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	tx, err := pool.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("couldn't begin to count: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	if _, err := tx.ExecContext(ctx, `SET TRANSACTION SNAPSHOT `+pq.QuoteLiteral(snapshot)); err != nil {
		return nil, fmt.Errorf("couldn't see what another transaction sees: %w", err)
	}
	counts = make(map[string]int64, len(tables))
	for _, table := range slices.Sorted(slices.Values(tables)) {
		var n int64
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM `+pq.QuoteIdentifier(table)); err != nil {
			return nil, fmt.Errorf("couldn't count %s: %w", table, err)
		}
		counts[table] = n
	}
	return counts, nil
}
