//go:build unix

package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minMajor is the oldest PostgreSQL the schema is written for.
const minMajor = 15

// usualPlaces are where packages put the server's binaries without putting them in PATH: Debian, Homebrew on Apple
// and Intel machines, PGDG's RPMs and distributions' own.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/opt/homebrew/opt/postgresql/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/usr/local/pgsql/bin",
	"/usr/bin",
}

// install is one set of PostgreSQL binaries.
type install struct {
	dir   string
	major int
}

// FindBinaries returns the directory that holds initdb and postgres: the one in PATH, else the newest of the places
// where Debian, Homebrew and RPM packages put them. Versions before 15 do not count. The error names the command that
// installs PostgreSQL on this machine. Nothing is changed; it is safe to repeat.
func FindBinaries() (string, error) {
	found, err := findInstalls(context.Background(), os.Getenv("PATH"), usualPlaces)
	if err != nil {
		return "", err
	}
	return found[0].dir, nil
}

// findInstalls lists the usable installations, best first: those in path in its order, then those in places, newest
// first. At least one is returned when the error is nil.
func findInstalls(ctx context.Context, path string, places []string) ([]install, error) {
	var found, old []install
	seen := map[string]bool{}
	look := func(dir string) (in install, ok bool) {
		dir, ok = binariesIn(dir)
		if !ok || seen[dir] {
			return install{}, false
		}
		seen[dir] = true
		major, err := majorOf(ctx, dir)
		if err != nil {
			return install{}, false
		}
		in = install{dir: dir, major: major}
		if major < minMajor {
			old = append(old, in)
			return install{}, false
		}
		return in, true
	}

	for _, dir := range filepath.SplitList(path) {
		// A relative PATH entry could run whatever lies in the working directory; os/exec refuses those too.
		if !filepath.IsAbs(dir) {
			continue
		}
		if in, ok := look(dir); ok {
			found = append(found, in)
		}
	}
	var packaged []install
	for _, place := range places {
		dirs, err := filepath.Glob(place)
		if err != nil {
			return nil, fmt.Errorf("look for PostgreSQL in %s: %w", place, err)
		}
		for _, dir := range dirs {
			if in, ok := look(dir); ok {
				packaged = append(packaged, in)
			}
		}
	}
	slices.SortStableFunc(packaged, func(a, b install) int { return cmp.Compare(b.major, a.major) })
	found = append(found, packaged...)
	if len(found) > 0 {
		return found, nil
	}
	if len(old) > 0 {
		return nil, fmt.Errorf("PostgreSQL %d in %s is too old, %d or newer is needed: %s, or set DATABASE_URL",
			old[0].major, old[0].dir, minMajor, installCommand())
	}
	return nil, fmt.Errorf("no PostgreSQL server binaries (initdb, postgres) found in PATH or the usual places: %s, or set DATABASE_URL",
		installCommand())
}

// binariesIn returns the directory where dir's initdb and postgres really are. A symlink is followed only when both
// are there as well: /usr/local/bin/postgres often points into a version's own directory.
func binariesIn(dir string) (string, bool) {
	if !hasBinaries(dir) {
		return "", false
	}
	if target, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
		if target = filepath.Dir(target); hasBinaries(target) {
			return target, true
		}
	}
	return dir, true
}

func hasBinaries(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			return false
		}
	}
	return true
}

// majorOf asks the binary for its version. What it prints is "postgres (PostgreSQL) 15.18 (Debian …)" or, before a
// release, "postgres (PostgreSQL) 19beta1".
func majorOf(ctx context.Context, dir string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s/postgres for its version: %w", dir, err)
	}
	return parseMajor(string(out))
}

func parseMajor(version string) (int, error) {
	_, number, ok := strings.Cut(version, "(PostgreSQL) ")
	if !ok {
		return 0, fmt.Errorf("%q is not a PostgreSQL version", strings.TrimSpace(version))
	}
	end := strings.IndexFunc(number, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		number = number[:end]
	}
	major, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("%q is not a PostgreSQL version", strings.TrimSpace(version))
	}
	return major, nil
}

// installCommand names what a person can type here.
func installCommand() string {
	sudo := "sudo "
	if os.Geteuid() == 0 {
		sudo = ""
	}
	has := func(tool string) bool {
		_, err := exec.LookPath(tool)
		return err == nil
	}
	switch {
	case runtime.GOOS == "darwin":
		return "run `brew install postgresql@17`"
	case has("apt-get"):
		return "run `" + sudo + "apt-get install -y --no-install-recommends postgresql`"
	case has("dnf"):
		return "run `" + sudo + "dnf install -y postgresql-server`"
	case has("apk"):
		return "run `" + sudo + "apk add postgresql`"
	default:
		return "install the PostgreSQL server package of this system"
	}
}

// pick chooses the installation for a cluster of major version want; 0 means a new cluster, for which the best will
// do. A cluster is never upgraded or replaced here: without matching binaries the answer is an error.
func pick(found []install, want int, data string) (install, error) {
	if len(found) == 0 {
		return install{}, errors.New("no PostgreSQL binaries to choose from")
	}
	if want == 0 {
		return found[0], nil
	}
	var have []string
	for _, in := range found {
		if in.major == want {
			return in, nil
		}
		have = append(have, strconv.Itoa(in.major))
	}
	return install{}, fmt.Errorf("%s was made by PostgreSQL %d, but PostgreSQL %s is installed; nothing was changed: install PostgreSQL %d, or choose another data directory",
		data, want, strings.Join(slices.Compact(have), ", "), want)
}
