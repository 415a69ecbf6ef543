package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationLock is the advisory lock that lets several processes start at once; the number is arbitrary and ours.
const migrationLock = 7_243_392_164

// Migrate brings the database at url to the schema of this program: roles, our tables (goose), River's tables. It may
// run in several processes at once and any number of times. The URL's role must be able to create roles and to give
// rights on the public schema; where the roles exist already, membership in them is enough.
func Migrate(ctx context.Context, url string, log *slog.Logger) (err error) {
	admin, err := openAdmin(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	conn, err := admin.Connx(ctx)
	if err != nil {
		return fmt.Errorf("couldn't connect to the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }() // ends the session's advisory lock as well
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("couldn't get the migration lock: %w", err)
	}
	defer func() {
		_, uerr := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
		err = errors.Join(err, uerr)
	}()
	if err := ensureRoles(ctx, conn); err != nil {
		return err
	}

	owner, err := openPool(url, RoleOwner, 4, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, owner.Close()) }()
	if err := migrateOurs(ctx, owner.DB, log); err != nil {
		return err
	}
	return migrateRiver(ctx, owner, log)
}

// openAdmin opens the database as the role that DATABASE_URL names.
func openAdmin(url string) (*sqlx.DB, error) {
	cfg, err := connection(url)
	if err != nil {
		return nil, err
	}
	cfg.ApplicationName = "ringfence migrate"
	connector, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("couldn't prepare the database connection: %w", err)
	}
	return sqlx.NewDb(sql.OpenDB(connector), "postgres"), nil
}

// ensureRoles creates what is missing of the three roles and makes the connecting role a member of them. Roles belong
// to the whole cluster, so another database's migration may create them at the same moment.
func ensureRoles(ctx context.Context, conn *sqlx.Conn) error {
	if _, err := conn.ExecContext(ctx, `
		DO $$
		DECLARE
			working text;
		BEGIN
			FOREACH working IN ARRAY ARRAY['`+RoleOwner+`', '`+RoleApp+`', '`+RoleSystem+`'] LOOP
				BEGIN
					IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = working) THEN
						EXECUTE format('CREATE ROLE %I NOLOGIN', working);
					END IF;
				EXCEPTION WHEN duplicate_object OR unique_violation THEN
					NULL; -- somebody else was faster
				END;
				IF NOT pg_has_role(current_user, working, 'MEMBER')
				   OR NOT EXISTS (SELECT FROM pg_auth_members m
				                  WHERE m.roleid = working::regrole AND m.member = current_user::regrole) AND
				      NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
					EXECUTE format('GRANT %I TO CURRENT_USER', working);
				END IF;
			END LOOP;
			IF NOT has_schema_privilege('`+RoleOwner+`', 'public', 'CREATE') THEN
				GRANT USAGE, CREATE ON SCHEMA public TO `+RoleOwner+`;
			END IF;
			IF NOT has_schema_privilege('`+RoleApp+`', 'public', 'USAGE') THEN
				GRANT USAGE ON SCHEMA public TO `+RoleApp+`, `+RoleSystem+`;
			END IF;
		END $$`); err != nil {
		return fmt.Errorf("couldn't set up the database roles (DATABASE_URL's role must be able to create roles, or be a member of %s, %s and %s): %w",
			RoleOwner, RoleApp, RoleSystem, err)
	}
	return nil
}

// migrateOurs applies db/migrations.
func migrateOurs(ctx context.Context, owner *sql.DB, log *slog.Logger) error {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return fmt.Errorf("couldn't open the embedded migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, owner, files)
	if err != nil {
		return fmt.Errorf("couldn't read the migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("couldn't migrate the database: %w", err)
	}
	for _, r := range results {
		log.InfoContext(ctx, "migrated", "file", r.Source.Path, "took", r.Duration.String())
	}
	return nil
}

// migrateRiver applies River's own migrations and lets the working roles use its tables: the system role works and
// maintains jobs, the tenants' role may add them in the transaction of the fact they belong to.
func migrateRiver(ctx context.Context, owner *sqlx.DB, log *slog.Logger) error {
	migrator, err := rivermigrate.New(riverdatabasesql.New(owner.DB), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("couldn't prepare River's migrations: %w", err)
	}
	res, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("couldn't migrate River's tables: %w", err)
	}
	if len(res.Versions) > 0 {
		log.InfoContext(ctx, "migrated River's tables", "versions", len(res.Versions))
	}

	tx, err := owner.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("couldn't begin the grants: %w", err)
	}
	if _, err := tx.ExecContext(ctx, grants); err != nil {
		return errors.Join(fmt.Errorf("couldn't grant the working roles their rights: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("couldn't commit the grants: %w", err)
	}
	return nil
}

// grants is repeatable; it only touches the catalogue where something is missing, so that every start stays cheap.
const grants = `
	DO $$
	DECLARE
		t record;
	BEGIN
		FOR t IN SELECT c.oid, c.relname FROM pg_class c
		         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
		           AND (c.relname LIKE 'river\_%' OR c.relname = 'goose_db_version')
		           AND (obj_description(c.oid, 'pg_class') IS NULL
		                OR CASE c.relname WHEN 'river_job' THEN NOT has_column_privilege('ringfence_app', c.oid, 'kind', 'UPDATE') ELSE false END) LOOP
			EXECUTE format('COMMENT ON TABLE %I IS %L', t.relname,
				'no row-level security: book-keeping of a library, holds ids and no tenant data');
			IF t.relname = 'goose_db_version' THEN
				GRANT SELECT ON goose_db_version TO ringfence_app, ringfence_system;
			ELSE
				EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO ringfence_system', t.relname);
			END IF;
			IF t.relname = 'river_job' THEN
				-- River adds a job with ON CONFLICT DO UPDATE SET kind, which Postgres wants the right to.
				GRANT SELECT, INSERT, UPDATE (kind) ON river_job TO ringfence_app;
				GRANT USAGE ON SEQUENCE river_job_id_seq TO ringfence_app, ringfence_system;
			END IF;
		END LOOP;
	END $$`

// schemaVersion is the number of the newest embedded migration.
func schemaVersion() int64 {
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return 0
	}
	var newest int64
	for _, e := range entries {
		if v, err := goose.NumericComponent(e.Name()); err == nil && strings.HasSuffix(e.Name(), ".sql") {
			newest = max(newest, v)
		}
	}
	return newest
}
