//go:build unix

package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake makes a directory with what looks like PostgreSQL's programs.
func fake(t *testing.T, dir, version string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindInstalls(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	fake(t, in("lib", "9.6", "bin"), "9.6.24")
	fake(t, in("lib", "15", "bin"), "15.18 (Debian 15.18-0+deb12u1)")
	fake(t, in("lib", "17", "bin"), "17.10")
	fake(t, in("lib", "18", "bin"), "18beta1")
	fake(t, in("own"), "16.2")
	// Only the client is installed there.
	if err := os.Remove(filepath.Join(fake(t, in("lib", "19", "bin"), "19.0"), "initdb")); err != nil {
		t.Fatal(err)
	}
	// Links to a version's programs, as in /usr/local/bin.
	if err := os.Mkdir(in("links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.Symlink(in("lib", "15", "bin", name), in("links", name)); err != nil {
			t.Fatal(err)
		}
	}
	all := in("lib", "*", "bin")
	for _, c := range []struct {
		name   string
		path   string
		places []string
		want   []string
	}{
		{"newest of the places", "/nowhere", []string{all}, []string{in("lib", "18", "bin"), in("lib", "17", "bin"), in("lib", "15", "bin")}},
		{"PATH first", "/nowhere:" + in("own"), []string{all}, []string{in("own"), in("lib", "18", "bin"), in("lib", "17", "bin"), in("lib", "15", "bin")}},
		{"links are followed, once", in("links"), []string{all}, []string{in("lib", "15", "bin"), in("lib", "18", "bin"), in("lib", "17", "bin")}},
		{"too old in PATH", in("lib", "9.6", "bin"), []string{in("lib", "17", "bin")}, []string{in("lib", "17", "bin")}},
		{"relative PATH", "own", []string{in("lib", "15", "bin")}, []string{in("lib", "15", "bin")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := findInstalls(t.Context(), c.path, c.places)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, f.dir)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}

	for name, c := range map[string]struct{ place, want string }{
		"none":    {in("lib", "19", "bin"), "initdb"},
		"too old": {in("lib", "9.6", "bin"), "PostgreSQL 9 "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := findInstalls(t.Context(), "", []string{c.place})
			if err == nil {
				t.Fatal("found something")
			}
			for _, want := range []string{c.want, installCommand(), "DATABASE_URL"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestFindBinaries(t *testing.T) {
	dir, err := FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	if !hasBinaries(dir) {
		t.Errorf("%s lacks initdb or postgres", dir)
	}
}

func TestPick(t *testing.T) {
	found := []install{{"/18", 18}, {"/15", 15}}
	for want, dir := range map[int]string{0: "/18", 18: "/18", 15: "/15"} {
		if in, err := pick(found, want, "/data"); err != nil || in.dir != dir {
			t.Errorf("for version %d: %v, %v", want, in, err)
		}
	}
	_, err := pick(found, 16, "/data")
	if err == nil {
		t.Fatal("picked something for 16")
	}
	for _, want := range []string{"/data", "PostgreSQL 16", "18, 15"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestParseMajor(t *testing.T) {
	for version, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 19beta1\n":                        19,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL) \n":                               0,
		"postgres (EnterpriseDB) 15\n":                           0,
		"":                                                       0,
	} {
		got, err := parseMajor(version)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", version, got, err, want)
		}
	}
}
