#!/bin/sh
# Makes sure that what a make target needs is on this machine. It installs what is missing where it may (apt, as root or
# with a sudo that asks nothing), and otherwise names the command and ends with 1. It says nothing when nothing is missing.
#
#   deploy/setup.sh run     PostgreSQL's server binaries, unless DATABASE_URL names a database
#   deploy/setup.sh test    PostgreSQL, a Chromium for the browser tests, a C compiler for the race detector
#   deploy/setup.sh check   the same, and Node.js, which rebuilds the CSS
set -eu

min_postgres=15
min_node=20

say() { printf '%s\n' "setup: $*" >&2; }

# The same places as db/embedded looks in.
have_postgres() {
	old_ifs=$IFS
	IFS=:
	set -- ${PATH:-}
	IFS=$old_ifs
	for dir in "$@" /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
		/home/linuxbrew/.linuxbrew/opt/postgresql*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin /usr/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
		major=$("$dir/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9][0-9]*\).*/\1/p')
		[ "${major:-0}" -ge "$min_postgres" ] && return 0
	done
	return 1
}

# Chromium without the parts that only windows need. It paints and lays out the same, and the browser tests cost half.
have_shell() {
	for name in headless_shell headless-shell chromium-headless-shell; do
		command -v "$name" >/dev/null 2>&1 && "$name" --version >/dev/null 2>&1 && return 0
	done
	return 1
}

# The names under which the browser tests find one. One counts when it runs: Ubuntu's chromium package is a stub that
# wants snap.
have_chromium() {
	have_shell && return 0
	for name in chromium chromium-browser google-chrome google-chrome-stable; do
		command -v "$name" >/dev/null 2>&1 && "$name" --version >/dev/null 2>&1 && return 0
	done
	for app in "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
		/Applications/Chromium.app/Contents/MacOS/Chromium; do
		[ -x "$app" ] && return 0
	done
	return 1
}

# A compiler without the C library's headers cannot build the race detector's part, so compile something.
have_compiler() {
	cc=$(go env CC)
	# CC may carry options ("clang -m64").
	# shellcheck disable=SC2086
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $cc -x c -o /dev/null - >/dev/null 2>&1
}

have_node() {
	command -v npm >/dev/null 2>&1 || return 1
	major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9][0-9]*\).*/\1/p')
	[ "${major:-0}" -ge "$min_node" ]
}

# may_install: is there apt, and are we root or is there a sudo that asks nothing? It fills $root.
may_install() {
	root=
	command -v apt-get >/dev/null 2>&1 || return 1
	[ "$(id -u)" -eq 0 ] && return 0
	command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null && root="sudo -n"
}

apt_has_shell() {
	apt-cache show chromium-headless-shell >/dev/null 2>&1
}

# look fills $missing with the names of what is not there.
look() {
	missing=
	case $mode in
	run) [ -n "${DATABASE_URL:-}" ] || have_postgres || missing="$missing postgres" ;;
	*)
		have_postgres || missing="$missing postgres"
		if ! have_chromium || { ! have_shell && may_install && apt_has_shell; }; then
			missing="$missing chromium"
		fi
		have_compiler || missing="$missing compiler"
		;;
	esac
	if [ "$mode" = check ]; then
		have_node || missing="$missing node"
	fi
}

# package prints the packages of one missing thing for a package manager: package apt|dnf|apk|brew THING.
package() {
	case $1-$2 in
	apt-postgres) echo postgresql ;;
	apt-chromium) if apt_has_shell; then echo chromium-headless-shell; else echo chromium; fi ;;
	apt-compiler) echo gcc libc6-dev ;;
	apt-node)
		# NodeSource's nodejs brings npm along and conflicts with the distribution's.
		if apt-cache show nodejs 2>/dev/null | grep -q '^Conflicts:.*npm'; then
			echo nodejs
		else
			echo nodejs npm
		fi
		;;
	dnf-postgres) echo postgresql-server ;;
	dnf-chromium) echo chromium ;;
	dnf-compiler) echo gcc glibc-devel ;;
	dnf-node) echo nodejs npm ;;
	apk-postgres) echo postgresql ;;
	apk-chromium) echo chromium ;;
	apk-compiler) echo gcc musl-dev ;;
	apk-node) echo nodejs npm ;;
	brew-postgres) echo postgresql@17 ;;
	brew-chromium) echo --cask chromium ;;
	brew-node) echo node ;;
	esac
}

packages() {
	manager=$1
	shift
	for thing in "$@"; do
		package "$manager" "$thing"
	done | tr '\n' ' ' | sed 's/ $//'
}

describe() {
	for thing in "$@"; do
		case $thing in
		postgres) say "missing: PostgreSQL $min_postgres or newer (initdb and postgres)" ;;
		chromium) say "missing: Chromium or Google Chrome, best without its windows (headless shell), for the browser tests" ;;
		compiler) say "missing: a C compiler, for the race detector" ;;
		node) say "missing: Node.js $min_node or newer with npm, to rebuild the CSS" ;;
		esac
	done
}

# name_commands says what a person can run when this script may not.
name_commands() {
	# shellcheck disable=SC2086
	if [ "$(uname -s)" = Darwin ]; then
		for thing in $missing; do
			if [ "$thing" = compiler ]; then
				say "run: xcode-select --install"
			else
				say "run: brew install $(package brew "$thing")"
			fi
		done
	elif command -v apt-get >/dev/null 2>&1; then
		say "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $(packages apt $missing)"
	elif command -v dnf >/dev/null 2>&1; then
		say "run: sudo dnf install -y $(packages dnf $missing)"
	elif command -v apk >/dev/null 2>&1; then
		say "run: sudo apk add $(packages apk $missing)"
	else
		say "install them with this system's package manager"
	fi
}

# apt offers a Node.js that is new enough? Debian 12's is not.
apt_has_node() {
	major=$(apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9]*\).*/\1/p')
	[ "${major:-0}" -ge "$min_node" ]
}

no_node() {
	say "the distribution's Node.js is older than $min_node: take one from https://nodejs.org/en/download, then run this again"
}

quietly() {
	if ! output=$("$@" 2>&1); then
		printf '%s\n' "$output" >&2
		say "failed: $*"
		exit 1
	fi
}

install_with_apt() {
	say "apt-get update"
	quietly $root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq update
	case " $missing " in
	*" node "*) if ! apt_has_node; then
		no_node
		exit 1
	fi ;;
	esac
	case " $missing " in
	*" postgres "*)
		# The package makes and starts a cluster of its own on port 5432 unless told not to; ours is private. Where the
		# file is there already, it is the administrator's word.
		conf=/etc/postgresql-common/createcluster.conf
		if [ ! -e "$conf" ]; then
			quietly $root mkdir -p "${conf%/*}"
			quietly $root sh -c "echo 'create_main_cluster = false' > $conf"
		fi
		;;
	esac
	# shellcheck disable=SC2086
	list=$(packages apt $missing)
	say "apt-get install $list"
	# shellcheck disable=SC2086
	quietly $root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
		-qq install -y --no-install-recommends $list
}

mode=${1:-}
case $mode in
run | test | check) ;;
*)
	say "usage: deploy/setup.sh run|test|check"
	exit 2
	;;
esac

if ! command -v go >/dev/null 2>&1; then
	say "missing: Go 1.26 or newer; see https://go.dev/doc/install"
	exit 1
fi

look
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086
describe $missing

if may_install; then
	install_with_apt
	look
	if [ -z "$missing" ]; then
		exit 0
	fi
	# shellcheck disable=SC2086
	describe $missing
	say "what this distribution packages does not suffice"
	exit 1
fi
if command -v apt-get >/dev/null 2>&1; then
	case " $missing " in
	*" node "*) apt_has_node || no_node ;;
	esac
fi
name_commands
exit 1
