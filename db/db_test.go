package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// tenants plants organisations with one audit row each, for looking at with a tenant's eyes.
func tenants(t *testing.T, databaseURL string, n int) (orgs []uuid.UUID) {
	t.Helper()
	for i := range n {
		org := uuid.Must(uuid.NewV7())
		dbtest.Super(t, databaseURL, `INSERT INTO organizations VALUES ($1, $2, now())`, org, fmt.Sprintf("Org %d", i))
		dbtest.Super(t, databaseURL, `INSERT INTO wallets (org_id, created_at, updated_at) VALUES ($1, now(), now())`, org)
		dbtest.Super(t, databaseURL, `INSERT INTO audit_log (at, org_id, actor, action, subject) VALUES (now(), $1, 'system:test', 'x', 'x')`, org)
		orgs = append(orgs, org)
	}
	return orgs
}

// TestEveryTableIsProtected: a table of ours either binds its rows to organisations by policies that are forced, or says
// in its comment why it needs none.
func TestEveryTableIsProtected(t *testing.T) {
	u := dbtest.URL(t)
	var tables []struct {
		Name, Owner    string
		Comment        string
		Enabled, Force bool
		Policies       int
	}
	dbtest.Select(t, u, &tables, `
		SELECT c.relname AS name, r.rolname AS owner, coalesce(obj_description(c.oid, 'pg_class'), '') AS comment,
		       c.relrowsecurity AS enabled, c.relforcerowsecurity AS force,
		       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polroles <> '{0}') AS policies
		FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`)
	if len(tables) < 15 {
		t.Fatalf("only %d tables", len(tables))
	}
	for _, c := range tables {
		exempt := strings.HasPrefix(c.Comment, "no row-level security: ") && len(c.Comment) > 40
		if c.Owner != db.RoleOwner {
			t.Errorf("%s belongs to %s", c.Name, c.Owner)
		}
		if !exempt && (!c.Enabled || !c.Force || c.Policies == 0) {
			t.Errorf("%s: enabled %t, forced %t, %d policies; give it policies, or a comment that starts with 'no row-level security: ' and says why",
				c.Name, c.Enabled, c.Force, c.Policies)
		}
		if exempt && c.Enabled {
			t.Errorf("%s has row-level security and a comment that says it has none", c.Name)
		}
	}
	var bare []string
	dbtest.Select(t, u, &bare, `
		SELECT format('%s.%s', c.relname, a.attname) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'org_id' AND a.attnum > 0
		  AND c.relname <> 'sessions' -- only the system's role has rights on it
		  AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND pg_get_expr(p.polqual, c.oid) LIKE '%app.org_ids%')`)
	if len(bare) > 0 {
		t.Errorf("these carry an organisation but no tenant policy: %v", bare)
	}
}

// TestPoliciesOnlyFilter: a policy that compared organisations by their own type would offer its index to every plan, and
// plans are kept (docs/decisions/0010).
func TestPoliciesOnlyFilter(t *testing.T) {
	var tempting []string
	dbtest.Select(t, dbtest.URL(t), &tempting, `
		SELECT p.polname || ' on ' || p.polrelid::regclass FROM pg_policy p
		WHERE pg_get_expr(p.polqual, p.polrelid) LIKE '%app.org_ids%' AND pg_get_expr(p.polqual, p.polrelid) NOT LIKE '%id)::text = ANY%'`)
	if len(tempting) > 0 {
		t.Errorf("these policies offer an index: %v", tempting)
	}
}

// TestTheLedgerCannotBeRewritten: the working roles may add to the books and nothing else, whatever their policies say.
func TestTheLedgerCannotBeRewritten(t *testing.T) {
	u := dbtest.URL(t)
	var rights []string
	dbtest.Select(t, u, &rights, `
		SELECT format('%s may %s %s', grantee, privilege_type, table_name) FROM information_schema.role_table_grants
		WHERE grantee IN ('ringfence_app', 'ringfence_system') AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
		  AND table_name IN ('ledger_transactions', 'ledger_postings', 'ledger_accounts', 'credits', 'audit_log', 'exchange_rates')
		UNION ALL
		SELECT format('%s may update %s.%s', grantee, table_name, column_name) FROM information_schema.column_privileges
		WHERE grantee IN ('ringfence_app', 'ringfence_system') AND privilege_type = 'UPDATE'
		  AND table_name IN ('ledger_transactions', 'ledger_postings', 'ledger_accounts', 'credits', 'audit_log', 'exchange_rates')`)
	if len(rights) > 0 {
		t.Errorf("the books can be rewritten: %v", rights)
	}
	orgs := tenants(t, u, 1)
	d := dbtest.OpenURL(t, u, nil)
	for _, statement := range []string{`UPDATE audit_log SET reason = 'y'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `DELETE FROM credits`, `UPDATE ledger_postings SET amount_pence = 1`} {
		for name, in := range map[string]func(func(context.Context, *db.Tx) error) error{
			"app":    func(fn func(context.Context, *db.Tx) error) error { return d.InTx(t.Context(), orgs, fn) },
			"system": func(fn func(context.Context, *db.Tx) error) error { return d.InSystemTx(t.Context(), "test", fn) },
		} {
			err := in(func(ctx context.Context, tx *db.Tx) error {
				_, err := tx.ExecContext(ctx, statement)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s as %s: %v", statement, name, err)
			}
		}
	}
}

// TestTenantsSeeOnlyThemselves drives every tenant table with exactly the organisations that the transaction names.
func TestTenantsSeeOnlyThemselves(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 3)
	count := func(in []uuid.UUID) (n int) {
		err := d.InTx(t.Context(), in, func(ctx context.Context, tx *db.Tx) error {
			return tx.GetContext(ctx, &n, `SELECT (SELECT count(*) FROM organizations) + (SELECT count(*) FROM wallets) + (SELECT count(*) FROM audit_log)`)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		in   []uuid.UUID
		want int
	}{
		{orgs[:1], 3},
		{orgs[1:2], 3},
		{orgs[:2], 6},
		{[]uuid.UUID{orgs[2], orgs[2]}, 3},
		{[]uuid.UUID{uuid.New()}, 0},
	} {
		// The same pooled connections serve all of them: nothing may stay behind from the one before.
		if got := count(c.in); got != c.want {
			t.Errorf("%d organisations see %d rows, want %d", len(c.in), got, c.want)
		}
	}
	err := d.InTx(t.Context(), orgs[:1], func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_log (at, org_id, actor, action, subject) VALUES (now(), $1, 'system:test', 'x', 'x')`, orgs[1])
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("a tenant wrote another's row: %v", err)
	}
	if err := d.InTx(t.Context(), nil, func(context.Context, *db.Tx) error { return nil }); err == nil {
		t.Error("a tenant transaction without organisations was given")
	}
	// Whoever forgets to name the organisations sees nothing at all.
	err = d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT set_config('app.org_ids', '', true)`); err != nil {
			return err
		}
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM wallets`); err != nil || n != 0 {
			t.Errorf("without organisations: %d rows, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSystemTransactionsInsideTenants: a system transaction is one wherever it is begun, also within a tenant's, whose
// context names organisations. Begun as a tenant's it would meet lib/pq's own state of the transaction before it, and the
// process would end over that ("attempt to set nil err").
func TestSystemTransactionsInsideTenants(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 1)
	system := func(ctx context.Context) error {
		return d.InSystemTx(ctx, "a test", func(ctx context.Context, tx *db.Tx) error {
			var scope string
			err := tx.GetContext(ctx, &scope, `SELECT coalesce(current_setting('app.org_ids', true), '')`)
			if scope != "" {
				t.Errorf("a system transaction names the organisations %s", scope)
			}
			return err
		})
	}
	for range 50 {
		err := errors.Join(system(t.Context()), d.InTx(t.Context(), orgs, func(ctx context.Context, _ *db.Tx) error {
			return errors.Join(system(ctx), system(ctx), system(ctx))
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadTransactionsCannotWrite(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 1)
	err := d.InReadTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE wallets SET held_pence = 0`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("wrote in a read transaction: %v", err)
	}
}

// TestNotBegun: a transaction that could not be begun says that this passes, and what went wrong inside one does not.
func TestNotBegun(t *testing.T) {
	d := dbtest.OpenURL(t, dbtest.URL(t), nil)
	passes := func(err error) bool {
		var passing interface{ Unavailable() bool }
		return errors.As(err, &passing) && passing.Unavailable()
	}
	if err := d.InSystemTx(t.Context(), "a test", func(context.Context, *db.Tx) error { return errors.New("inside") }); err == nil || passes(err) {
		t.Errorf("inside: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.InSystemTx(t.Context(), "a test", func(context.Context, *db.Tx) error { return nil }); !passes(err) {
		t.Errorf("without a database: %v", err)
	}
}

// TestErrorsAndPanicsRollBack: nothing half done, and no connection lost.
func TestErrorsAndPanicsRollBack(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 1)
	write := func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_log (at, org_id, actor, action, subject) VALUES (now(), $1, 'system:test', 'half', 'x')`, orgs[0])
		return err
	}
	cause := errors.New("the cause")
	err := d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error { return errors.Join(write(ctx, tx), cause) })
	if !errors.Is(err, cause) {
		t.Errorf("the cause was lost: %v", err)
	}
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic was swallowed")
			}
		}()
		_ = d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
			if err := write(ctx, tx); err != nil {
				t.Error(err)
			}
			panic("boom")
		})
	}()
	var n int
	dbtest.Get(t, u, &n, `SELECT count(*) FROM audit_log WHERE action = 'half'`)
	if n != 0 {
		t.Errorf("%d rows of failed transactions stayed", n)
	}
	if in := d.Stats()["app"].InUse; in != 0 {
		t.Errorf("%d connections are still in use", in)
	}
}

// TestCancelledCallersStillCommit: a browser that goes away does not decide about money.
func TestCancelledCallersStillCommit(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.InTx(ctx, orgs, func(ctx context.Context, tx *db.Tx) error {
		cancel()
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_log (at, org_id, actor, action, subject) VALUES (now(), $1, 'system:test', 'kept', 'x')`, orgs[0])
		return err
	})
	if err != nil {
		t.Errorf("the caller's cancellation reached the transaction: %v", err)
	}
	if err := d.InReadTx(ctx, orgs, func(context.Context, *db.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a read went on for a caller that had gone: %v", err)
	}
}

// TestDeadlocksAreRunAgain makes two transactions lock two rows crosswise; both must get through.
func TestDeadlocksAreRunAgain(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 2)
	var barrier, wg sync.WaitGroup
	barrier.Add(2)
	tries := make([]int, 2)
	for i := range 2 {
		wg.Go(func() {
			err := d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
				tries[i]++
				for step := range 2 {
					if _, err := tx.ExecContext(ctx, `UPDATE wallets SET held_pence = 0 WHERE org_id = $1`, orgs[(i+step)%2]); err != nil {
						return err
					}
					if step == 0 && tries[i] == 1 {
						barrier.Done()
						barrier.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if tries[0]+tries[1] < 3 {
		t.Errorf("no deadlock happened: %v tries", tries)
	}
}

// TestLostCommitReply: the proxy delivers COMMIT and loses the answer. The caller learns that nobody knows, and the row
// is there once.
func TestLostCommitReply(t *testing.T) {
	u := dbtest.URL(t)
	orgs := tenants(t, u, 1)
	proxied, lose := losesReplies(t, u)
	d := dbtest.OpenURL(t, proxied, nil)
	err := d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO audit_log (at, org_id, actor, action, subject) VALUES (now(), $1, 'system:test', 'lost', 'x')`, orgs[0]); err != nil {
			return err
		}
		lose()
		return nil
	})
	if !errors.Is(err, db.ErrCommitUnknown) {
		t.Errorf("got %v, want %v", err, db.ErrCommitUnknown)
	}
	var n int
	eventually(t, func() bool {
		dbtest.Get(t, u, &n, `SELECT count(*) FROM audit_log WHERE action = 'lost'`)
		return n > 0
	})
	if n != 1 {
		t.Errorf("the write was applied %d times", n)
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Errorf("the pool did not recover: %v", err)
	}
}

// losesReplies puts a proxy before the database. After lose, the server's next bytes on the connection that speaks are
// dropped and that connection is cut.
func losesReplies(t *testing.T, databaseURL string) (proxied string, lose func()) {
	t.Helper()
	target, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	socket := target.Query().Get("host") + "/.s.PGSQL." + or(target.Query().Get("port"), "5432")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	armed := false
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				defer client.Close()
				defer server.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := server.Read(buf)
					mu.Lock()
					drop := armed && n > 0
					armed = armed && !drop
					mu.Unlock()
					if err != nil || drop {
						return
					}
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
			go func() {
				defer server.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if err != nil {
						return
					}
					if _, err := server.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	q := target.Query()
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	return (&url.URL{Scheme: "postgres", User: target.User, Host: l.Addr().String(), Path: target.Path, RawQuery: q.Encode()}).String(),
		func() { mu.Lock(); armed = true; mu.Unlock() }
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen within 10 s")
		}
	}
}

// TestThreeStartersAtOnce: several processes migrate one empty database together, and again.
func TestThreeStartersAtOnce(t *testing.T) {
	u := dbtest.EmptyURL(t)
	for range 2 {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := db.Migrate(t.Context(), u, quiet); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if err := dbtest.OpenURL(t, u, nil).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOrdinaryOwner: DATABASE_URL's role need not be a superuser; one that may create roles and owns the database will do.
func TestOrdinaryOwner(t *testing.T) {
	u := dbtest.EmptyURL(t)
	target, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(target.Path, "/")
	role := "deployer_" + name
	dbtest.Super(t, u, fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEROLE; ALTER DATABASE %s OWNER TO %s; GRANT ringfence_owner, ringfence_app, ringfence_system TO %s`, role, name, role, role))
	t.Cleanup(func() {
		dbtest.Super(t, u, fmt.Sprintf(`REASSIGN OWNED BY %s TO CURRENT_USER; DROP OWNED BY %s; DROP ROLE %s`, role, role, role))
	})
	target.User = url.User(role)
	if err := db.Migrate(t.Context(), target.String(), quiet); err != nil {
		t.Fatal(err)
	}
	d := dbtest.OpenURL(t, target.String(), nil)
	if err := d.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	orgs := tenants(t, u, 2)
	err = d.InSystemReadTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		var snapshot string
		if err := tx.GetContext(ctx, &snapshot, `SELECT pg_export_snapshot()`); err != nil {
			return err
		}
		dbtest.Super(t, u, `INSERT INTO organizations (id, name, created_at) VALUES (gen_random_uuid(), 'After that moment', now())`) //nolint:contextcheck // it is somebody else's
		counts, err := db.CountRows(ctx, target.String(), snapshot, []string{"wallets", "organizations"})
		if err == nil && (counts["wallets"] != len64(orgs) || counts["organizations"] != len64(orgs)) {
			t.Errorf("the independent count sees %v, want %d of each", counts, len(orgs))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func len64[T any](s []T) int64 { return int64(len(s)) }

// TestUnsafeRolesAreRefused: a working role that row-level security would not bind is no working role.
func TestUnsafeRolesAreRefused(t *testing.T) {
	u := dbtest.URL(t)
	for _, c := range []struct{ make, undo, says string }{
		{`ALTER ROLE ringfence_app BYPASSRLS`, `ALTER ROLE ringfence_app NOBYPASSRLS`, "BYPASSRLS"},
		{`ALTER ROLE ringfence_system SUPERUSER`, `ALTER ROLE ringfence_system NOSUPERUSER`, "superuser"},
		{`ALTER TABLE credits OWNER TO ringfence_app`, `ALTER TABLE credits OWNER TO ringfence_owner`, "owns tables (credits)"},
	} {
		dbtest.Super(t, u, c.make)
		d, err := db.Open(t.Context(), u, db.Options{})
		dbtest.Super(t, u, c.undo)
		if err == nil {
			t.Errorf("after %s the database was opened", c.make)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("after %s: %v, which does not name %q", c.make, err, c.says)
		}
	}
}

func TestAddressesStayOutOfErrors(t *testing.T) {
	for _, u := range []string{"postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "postgres://u:hunter2@[bad", "host=/nowhere password=hunter2 user=u"} {
		_, err := db.Open(t.Context(), u, db.Options{})
		merr := db.Migrate(t.Context(), u, quiet)
		for _, err := range []error{err, merr} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v", err)
			}
		}
	}
}

// TestOlderSchemaIsNotReady: a server of today does not report ready on the schema of yesterday.
func TestOlderSchemaIsNotReady(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	dbtest.Super(t, u, `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	if err := d.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "ringfence migrate") {
		t.Errorf("%v", err)
	}
}

// TestLockOrder: a transaction's organisations come sorted and each once, which is the order of all locks.
func TestLockOrder(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 4)
	mixed := []uuid.UUID{orgs[3], orgs[0], orgs[3], orgs[2], orgs[1]}
	err := d.InTx(t.Context(), mixed, func(_ context.Context, tx *db.Tx) error {
		if !slices.Equal(tx.Orgs, orgs) {
			t.Errorf("got %v, want %v", tx.Orgs, orgs)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPatiently: a transaction has the time for its statements that it was given, and ends without a trace when that is over.
func TestPatiently(t *testing.T) {
	d := dbtest.Open(t, nil)
	var slept bool
	sleep := func(seconds float64, budget time.Duration) func(context.Context, *db.Tx) error {
		return func(ctx context.Context, tx *db.Tx) error {
			slept = false
			// It began before now, so what is left of it is less than the whole; that half of an hour is left is no matter of speed.
			left := budget
			if end, ok := ctx.Deadline(); ok {
				left = time.Until(end)
			}
			if left >= budget || budget >= time.Hour && left < budget/2 {
				t.Errorf("of %s for the statements %s are left", budget, left)
			}
			return tx.GetContext(ctx, &slept, `SELECT pg_sleep($1) IS NOT NULL`, seconds)
		}
	}
	for _, c := range []struct {
		budget  time.Duration
		seconds float64
		done    bool
	}{{20 * time.Millisecond, 60, false}, {time.Hour, 0.01, true}} {
		err := d.InSystemTx(db.Patiently(t.Context(), c.budget), "test", sleep(c.seconds, c.budget))
		if (err == nil) != c.done || slept != c.done {
			t.Errorf("%g s within %s: %t, %v", c.seconds, c.budget, slept, err)
		}
	}
}
