#!/usr/bin/env bash
# Backs the database up while everything runs: one moment of all of it, in Postgres's own format.
#
#   DATABASE_URL=postgres://… deploy/backup.sh DIRECTORY
#
# writes DIRECTORY/ringfence-YYYYMMDDTHHMMSSZ.dump and its .sha256, both for the owner's eyes alone, and prints the dump's
# name on the last line. Nothing is there under that name before it is whole; nothing is ever removed. The keys in the
# settings are not in it: keep them elsewhere. docs/operations.md says how it is restored.
set -euo pipefail
umask 077

# shellcheck source=deploy/postgres.sh
. "$(dirname "${BASH_SOURCE[0]}")/postgres.sh"

[ $# -eq 1 ] || fail "usage: DATABASE_URL=postgres://… deploy/backup.sh DIRECTORY"
[ -d "$1" ] || fail "$1 is no directory"
connect

name=$1/ringfence-$(date -u +%Y%m%dT%H%M%SZ).dump
[ ! -e "$name" ] || fail "$name is there already"
trap 'rm -f "$name.part"' EXIT

# Row-level security must not hide rows from a backup. A role that it does not bind reads as itself, and pg_dump fails
# where it does. Any other reads as the tables' owner, whose policies show every row.
how=()
if [ "$(sql 'SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user')" != t ]; then
	how=(--role=ringfence_owner --enable-row-security)
fi
"$(tool pg_dump)" --dbname="$target" --format=custom --no-password ${how[@]+"${how[@]}"} --file="$name.part"
"$(tool pg_restore)" --file=/dev/null "$name.part" # reads all of it, so a torn file is found out now

mv "$name.part" "$name"
(cd "$1" && sha256sum "${name##*/}" >"${name##*/}.sha256")
echo "$name"
