// Package dbtest gives every test a Postgres database of its own, migrated and empty. It starts one throw-away cluster
// per test process from the installed binaries and copies a template database for each test.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sys/unix"

	"ringfence/db"
	"ringfence/db/embedded"
)

const template = "ringfence_template"

// cluster is this process's Postgres; Main sets it up on first use and tears it down.
var cluster struct {
	once sync.Once
	err  error
	dir  string
	srv  *embedded.Server
	n    atomic.Int64
}

// Main runs a package's tests and takes the cluster down after them:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// What comes after is asked once all tests have passed, about all of them together; an error fails the package.
func Main(m *testing.M, after ...func() error) {
	code := m.Run()
	if code == 0 {
		for _, hold := range after {
			if err := hold(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if cluster.srv != nil {
		if err := cluster.srv.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "couldn't stop the test database:", err)
			code = 1
		}
	}
	if cluster.dir != "" {
		if err := os.RemoveAll(cluster.dir); err != nil {
			fmt.Fprintln(os.Stderr, "couldn't remove the test database:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// start makes the cluster and the migrated template database.
func start() error {
	dir, err := os.MkdirTemp(room(), "ringfence-test-")
	if err != nil {
		return fmt.Errorf("couldn't make a directory for the test database: %w", err)
	}
	cluster.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the postgres user must be able to pass through
		return fmt.Errorf("couldn't open the test directory: %w", err)
	}
	ctx := context.Background()
	// Tests need not wait for the disk; benchmarks that want to set RINGFENCE_TEST_DURABLE.
	unsafe := os.Getenv("RINGFENCE_TEST_DURABLE") == ""
	cluster.srv, err = embedded.Start(ctx, embedded.Options{Dir: dir + "/pg", Unsafe: unsafe, MaxConnections: 200, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("couldn't start the test database: %w", err)
	}
	if err := admin(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	return db.Migrate(ctx, cluster.srv.URL(template), slog.New(slog.DiscardHandler))
}

// room is where the cluster is made: in memory where there is plenty, since making and dropping a database for each test
// costs a file system on disk more time than all the tests' queries; otherwise where temporary files go, by the name "".
func room() string {
	const memory, plenty = "/dev/shm", 4 << 30
	var fs unix.Statfs_t
	if os.Getenv("RINGFENCE_TEST_DURABLE") != "" || unix.Statfs(memory, &fs) != nil || fs.Bavail < plenty/uint64(fs.Bsize) { //nolint:gosec // a block has a size
		return ""
	}
	return memory
}

// admin runs one statement that cannot stand in a transaction (CREATE and DROP DATABASE).
func admin(ctx context.Context, statement string) error {
	pool, err := sqlx.ConnectContext(ctx, "postgres", cluster.srv.URL("postgres"))
	if err != nil {
		return fmt.Errorf("couldn't reach the test cluster: %w", err)
	}
	defer pool.Close()
	if _, err := pool.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Server is this process's cluster, for tests that stop and start it.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	cluster.once.Do(func() { cluster.err = start() })
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	return cluster.srv
}

// URL creates a migrated database for this test and returns its address as the superuser. It is dropped with the test.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, " TEMPLATE "+template+" STRATEGY FILE_COPY") // a third of the time of Postgres's default for so small a one
}

// EmptyURL creates a database without anything in it, for tests of the migrations themselves.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return create(t, "")
}

func create(t testing.TB, how string) string {
	t.Helper()
	srv := Server(t)
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), cluster.n.Add(1))
	if err := admin(t.Context(), "CREATE DATABASE "+name+how); err != nil {
		t.Fatal(err)
	}
	address := srv.URL(name)
	t.Cleanup(func() {
		if err := errors.Join(leave(address), admin(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")); err != nil {
			t.Error(err)
		}
	})
	return address
}

// Clock is a clock that tests move by hand. Its zero value stands still at a fixed moment.
type Clock struct {
	mu    sync.Mutex
	moved time.Duration
}

// Start is the moment at which every Clock starts.
var Start = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

// Now is the clock's present moment, UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Start.Add(c.moved)
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved += d
}

// Open creates a database for this test and opens it as the program does.
func Open(t testing.TB, now func() time.Time) *db.DB {
	t.Helper()
	return OpenURL(t, URL(t), now)
}

// OpenURL opens a database that URL made, as the program does.
func OpenURL(t testing.TB, databaseURL string, now func() time.Time) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), databaseURL, db.Options{Now: now})
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

// Super runs one statement as the superuser, past every policy and grant: for planting what the program cannot write.
func Super(t testing.TB, databaseURL, statement string, args ...any) {
	t.Helper()
	asSuper(t, databaseURL, func(pool *sqlx.DB) error {
		_, err := pool.ExecContext(context.Background(), statement, args...)
		return err
	})
}

// Get reads one row as the superuser into dest.
func Get(t testing.TB, databaseURL string, dest any, query string, args ...any) {
	t.Helper()
	asSuper(t, databaseURL, func(pool *sqlx.DB) error {
		return pool.GetContext(context.Background(), dest, query, args...)
	})
}

// Select reads rows as the superuser into dest.
func Select(t testing.TB, databaseURL string, dest any, query string, args ...any) {
	t.Helper()
	asSuper(t, databaseURL, func(pool *sqlx.DB) error {
		return pool.SelectContext(context.Background(), dest, query, args...)
	})
}

// supers holds a connection for each database, by its address: a new one would read the whole catalogue again.
var supers struct {
	mu    sync.Mutex
	pools map[string]*sqlx.DB
}

func asSuper(t testing.TB, databaseURL string, fn func(*sqlx.DB) error) {
	t.Helper()
	pool, err := super(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	// The database may have been stopped, or another one have taken its place, since: that is found out before fn is run, which
	// may not be repeated.
	if err := pool.PingContext(context.Background()); err != nil {
		if err := leave(databaseURL); err != nil {
			t.Fatal(err)
		}
		if pool, err = super(databaseURL); err != nil {
			t.Fatal(err)
		}
	}
	if err := fn(pool); err != nil {
		t.Fatal(err)
	}
}

// super gives the pool of a database, which is opened with its first use.
func super(databaseURL string) (*sqlx.DB, error) {
	supers.mu.Lock()
	defer supers.mu.Unlock()
	if pool, held := supers.pools[databaseURL]; held {
		return pool, nil
	}
	pool, err := sqlx.Open("postgres", databaseURL)
	if err != nil {
		return nil, fmt.Errorf("couldn't open a database of the tests: %w", err)
	}
	pool.SetMaxIdleConns(1)
	if supers.pools == nil {
		supers.pools = map[string]*sqlx.DB{}
	}
	supers.pools[databaseURL] = pool
	return pool, nil
}

// leave closes what asSuper keeps of a database.
func leave(databaseURL string) error {
	supers.mu.Lock()
	defer supers.mu.Unlock()
	pool, held := supers.pools[databaseURL]
	if !held {
		return nil
	}
	delete(supers.pools, databaseURL)
	if err := pool.Close(); err != nil {
		return fmt.Errorf("couldn't close a database of the tests: %w", err)
	}
	return nil
}
