#!/bin/sh
# Fails when a committed generated file is not what its sources make now, or when migrations are not numbered 1, 2, 3 ….
# It compares with a copy taken before generating, not with git, so that it works with uncommitted changes too. What it
# generates stays: after a failure the files are current and only have to be committed.
set -eu
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM

list() {
	find views static/dist \( -name '*_templ.go' -o -path 'static/dist/*' \) -type f 2>/dev/null | LC_ALL=C sort
}
keep() {
	mkdir -p "$copy/$1"
	list >"$copy/$1.list"
	[ ! -s "$copy/$1.list" ] || tar -cf - -T "$copy/$1.list" | tar -xf - -C "$copy/$1"
}

keep committed
"${MAKE:-make}" --no-print-directory generate
keep generated
if ! diff -r -q "$copy/committed" "$copy/generated" >"$copy/diff"; then
	sed -e "s|$copy/||g" "$copy/diff" >&2
	echo "generated files were not current; they are now: commit them" >&2
	exit 1
fi

want=1
for file in db/migrations/*.sql; do
	[ -e "$file" ] || continue
	number=$(basename "$file" | sed -n 's/^0*\([1-9][0-9]*\)_.*/\1/p')
	if [ "$number" != "$want" ]; then
		echo "$file should be number $want: migrations are numbered without gaps or repeats" >&2
		exit 1
	fi
	want=$((want + 1))
done
