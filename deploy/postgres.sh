# What backup.sh and restore.sh share: where the database is, and Postgres's client programs. Sourced, not run.
# shellcheck shell=bash

say() { printf '%s\n' "${0##*/}: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# tool finds a client program: in PATH, else the newest of the usual places.
tool() {
	if command -v "$1"; then
		return
	fi
	local found
	found=$(printf '%s\n' /usr/lib/postgresql/*/bin/"$1" /usr/pgsql-*/bin/"$1" /opt/homebrew/opt/postgresql*/bin/"$1" | sort -V | while read -r at; do
		[ ! -x "$at" ] || echo "$at"
	done | tail -1)
	[ -n "$found" ] || fail "$1 is not installed: it comes with PostgreSQL's client programs (postgresql-client)"
	echo "$found"
}

# connect puts the address into $target, without the password, which would show in the list of processes.
connect() {
	[ -n "${DATABASE_URL:-}" ] || fail "DATABASE_URL is not set"
	target=$DATABASE_URL
	case $target in
	postgres://* | postgresql://*) ;;
	*) return ;; # key=value pairs
	esac
	local scheme=${target%%://*} rest=${target#*://} authority user secret
	authority=${rest%%[/?]*}
	case $authority in
	*:*@*)
		user=${authority%@*}
		secret=${user#*:}
		PGPASSWORD=$(printf '%b' "${secret//%/\\x}")
		export PGPASSWORD
		target=$scheme://${user%%:*}@${authority##*@}${rest#"$authority"}
		;;
	esac
}

# sql runs one statement and prints what it gives.
sql() { "$(tool psql)" --no-psqlrc --no-password --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$target" --command="$1"; }
