#!/usr/bin/env bash
# Restores a backup of deploy/backup.sh into an empty database, all of it or nothing.
#
#   DATABASE_URL=postgres://… deploy/restore.sh FILE.dump
#
# DATABASE_URL's role must be able to create roles, or be a member of Ringfence's three. No process of Ringfence may run on
# the database. Where Ringfence's settings are in the environment, `ringfence verify` then checks the books; RINGFENCE names the
# program where it is not in PATH.
set -euo pipefail

# shellcheck source=deploy/postgres.sh
. "$(dirname "${BASH_SOURCE[0]}")/postgres.sh"

[ $# -eq 1 ] || fail "usage: DATABASE_URL=postgres://… deploy/restore.sh FILE.dump"
[ -r "$1" ] || fail "$1 cannot be read"
[ -r "$1.sha256" ] || fail "$1.sha256 is missing: without it nobody knows whether the backup is whole"
(cd "$(dirname "$1")" && sha256sum --check --status "$(basename "$1").sha256") || fail "$1 is not what was written: its checksum differs"
connect

tables=$(sql "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'S')")
[ "$tables" = 0 ] || fail "the database is not empty ($tables tables and the like): make a new one, this script overwrites nothing"

# Roles belong to the cluster and are in no dump; the same as db/migrate.go makes.
sql "
DO \$\$
DECLARE
	working text;
BEGIN
	FOREACH working IN ARRAY ARRAY['ringfence_owner', 'ringfence_app', 'ringfence_system'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = working) THEN
			EXECUTE format('CREATE ROLE %I NOLOGIN', working);
		END IF;
		IF NOT pg_has_role(current_user, working, 'MEMBER') THEN
			EXECUTE format('GRANT %I TO CURRENT_USER', working);
		END IF;
	END LOOP;
	GRANT USAGE, CREATE ON SCHEMA public TO ringfence_owner;
	GRANT USAGE ON SCHEMA public TO ringfence_app, ringfence_system;
END \$\$" >/dev/null

"$(tool pg_restore)" --dbname="$target" --no-password --single-transaction --exit-on-error "$1"
sql 'ANALYZE' >/dev/null 2>&1 # plans before the first autovacuum; tables that are not ours to analyze are passed over

say "restored"

# The settings say which keys sealed what is in it; without them there is nothing to verify with.
if program=$(command -v "${RINGFENCE:-ringfence}") && [ -n "${RINGFENCE_ENV:-}" ]; then
	"$program" verify
else
	say "now run \`ringfence verify\` on it, with the settings that the backup was made under"
fi
