//go:build unix

package embedded

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq"
)

// childDir, when set in the environment, makes the test binary a process that runs a cluster there until its standard
// input ends: something to kill.
const childDir = "RINGFENCE_EMBEDDED_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := beChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// report is what a child says when its server is up.
type report struct {
	Home, URL string
	PID, UID  int
	Owned     bool
}

func beChild(dir string) error {
	s, err := Start(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	r := report{Home: s.Dir(), URL: s.URL("postgres"), PID: s.pid, UID: os.Geteuid(), Owned: s.owner != nil}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Stop()
}

type child struct {
	report
	cmd   *exec.Cmd
	stdin io.Closer
}

// spawn starts a child on dir and waits for its report. attr may be nil.
func spawn(t *testing.T, bin, dir string, attr *syscall.SysProcAttr) *child {
	t.Helper()
	c, wait := spawnLater(t, bin, dir, attr)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

func spawnLater(t *testing.T, bin, dir string, attr *syscall.SysProcAttr) (*child, func() error) {
	t.Helper()
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: stdin}
	t.Cleanup(func() { c.end() })
	return c, func() error {
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the child said nothing: %w", err)
		}
		return json.Unmarshal(line, &c.report)
	}
}

// end lets the child stop its server and waits for it; a killed one has ended already.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Wait()
}

// kill ends the child as kill -9 does.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // "signal: killed"
}

// place makes a directory that an ordinary user can reach too, and removes it with everything that went elsewhere.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ringfence-embedded-") //nolint:usetesting // t.TempDir is closed to all but its maker
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "pg")
}

// up starts a server on dir, without fsync, and stops it at the end of the test.
func up(t *testing.T, dir string) *Server {
	t.Helper()
	return upWith(t, Options{Dir: dir, Unsafe: true})
}

func upWith(t *testing.T, o Options) *Server {
	t.Helper()
	dir := o.Dir
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if s.Dir() != dir {
			if err := os.RemoveAll(s.Dir()); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, url, query string) {
	t.Helper()
	if _, err := open(t, url).ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func ask(t *testing.T, url, query string) string {
	t.Helper()
	var answer string
	if err := open(t, url).QueryRowContext(t.Context(), query).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

const keepsake = "CREATE TABLE keepsake AS SELECT 'still here' AS words"

func wantKeepsake(t *testing.T, s *Server) {
	t.Helper()
	if got := ask(t, s.URL("postgres"), "SELECT words FROM keepsake"); got != "still here" {
		t.Errorf("keepsake is %q", got)
	}
}

// eventually polls; nothing here takes longer than a server's shutdown.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		_ = pause(t.Context(), 5*time.Millisecond)
	}
}

func wantDone(t *testing.T, s *Server) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("Done was not closed")
	}
}

func wantRunning(t *testing.T, s *Server) {
	t.Helper()
	select {
	case <-s.Done():
		t.Fatal("Done is closed")
	default:
	}
	if got := ask(t, s.URL("postgres"), "SELECT 'yes'"); got != "yes" {
		t.Errorf("the server says %q", got)
	}
}

func self(t *testing.T) string {
	t.Helper()
	bin, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestColdAndWarmStart(t *testing.T) {
	dir := place(t)
	before := time.Now()
	s, err := Start(t.Context(), Options{Dir: dir, MaxConnections: 23})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	t.Logf("cold start: %v", time.Since(before))
	if s.Dir() != dir {
		t.Errorf("the cluster is in %s, want %s", s.Dir(), dir)
	}
	for name, want := range map[string]string{
		"max_connections": "23", "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"shared_buffers": "128MB", "TimeZone": "UTC", "server_encoding": "UTF8", "data_checksums": "on",
		"listen_addresses": "",
	} {
		if got := ask(t, s.URL("postgres"), "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := ask(t, s.URL("postgres"), "SELECT current_user"); got != "ringfence" {
		t.Errorf("the user is %s", got)
	}
	info, err := os.Stat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket directory has mode %v", info.Mode())
	}
	if owner, _ := ownerOf(info); owner == 0 {
		t.Error("the socket directory is root's")
	}
	mustExec(t, s.URL("postgres"), "CREATE DATABASE other")
	mustExec(t, s.URL("other"), keepsake)

	conn, err := pgx.Connect(t.Context(), s.URL("other"))
	if err != nil {
		t.Fatalf("pgx: %v", err)
	}
	var words string
	if err := conn.QueryRow(t.Context(), "SELECT words FROM keepsake").Scan(&words); err != nil || words != "still here" {
		t.Errorf("pgx reads %q, %v", words, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantDone(t, s)
	if isPostmaster(s.pid, filepath.Join(dir, "data")) {
		t.Error("the server still runs after Stop")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}

	before = time.Now()
	again := up(t, dir)
	t.Logf("warm start: %v", time.Since(before))
	if got := ask(t, again.URL("other"), "SELECT words FROM keepsake"); got != "still here" {
		t.Errorf("keepsake is %q", got)
	}
	// The options of this start count, not those that the cluster was made with.
	if got := ask(t, again.URL("other"), "SHOW fsync"); got != "off" {
		t.Errorf("fsync is %q on an unsafe start", got)
	}
}

func TestStalePidFile(t *testing.T) {
	dir := place(t)
	s := up(t, dir)
	mustExec(t, s.URL("postgres"), keepsake)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	other := up(t, place(t))

	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, pid string
	}{
		{"dead", strconv.Itoa(dead.Process.Pid)},
		{"used again by us", strconv.Itoa(os.Getpid())},
		{"used again by another cluster's server", strconv.Itoa(other.pid)},
		{"empty", ""},
		{"garbled", "\x00\x00\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := strings.Join([]string{c.pid, filepath.Join(dir, "data"), "1700000000", port, s.socket, "", "", "ready   ", ""}, "\n")
			if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			again := up(t, dir)
			wantKeepsake(t, again)
			if again.pid == other.pid {
				t.Error("took another cluster's server for ours")
			}
		})
	}
	wantRunning(t, other)
}

func TestKilledOwner(t *testing.T) {
	dir := place(t)
	c := spawn(t, self(t), dir, nil)
	mustExec(t, c.URL, keepsake)
	c.kill(t)

	// At once, while the server may still be on its way down.
	s := up(t, dir)
	if s.owner == nil {
		t.Fatal("nobody owns the server")
	}
	wantKeepsake(t, s)
	if runtime.GOOS == "linux" && s.pid == c.PID {
		t.Error("the killed process's server lives on")
	}
	if s.pid != c.PID {
		eventually(t, "the killed process's server ends", func() bool { return !isPostmaster(c.PID, filepath.Join(dir, "data")) })
	}
	wantRunning(t, s)
}

func TestKilledOwnerLeavesNoServer(t *testing.T) {
	dir := place(t)
	c := spawn(t, self(t), dir, nil)
	c.kill(t)
	if runtime.GOOS != "linux" {
		// Without a parent-death signal the server is left; the next start takes it over, and Stop ends it.
		if err := up(t, dir).Stop(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the killed process's server ends", func() bool { return !isPostmaster(c.PID, filepath.Join(dir, "data")) })
}

func TestEverythingKilled(t *testing.T) {
	dir := place(t)
	c := spawn(t, self(t), dir, nil)
	mustExec(t, c.URL, keepsake)
	// A backend that computes does not notice that its server died, and holds the shared memory for a while.
	busy := open(t, c.URL)
	conn, err := busy.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		var n int
		// It is cut off, or not; either is fine.
		_ = conn.QueryRowContext(t.Context(), "SELECT count(*) FROM generate_series(1, 3000000) a WHERE a % 7 = 0").Scan(&n)
	})
	t.Cleanup(wait.Wait)
	eventually(t, "the backend computes", func() bool {
		return ask(t, c.URL, "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND pid = "+strconv.Itoa(pid)) == "1"
	})
	c.kill(t)
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantKeepsake(t, up(t, dir))
}

func TestAdopt(t *testing.T) {
	dir := place(t)
	c := spawn(t, self(t), dir, nil)
	mustExec(t, c.URL, keepsake)

	before := time.Now()
	s := up(t, dir)
	t.Logf("adopted in %v", time.Since(before))
	if s.owner != nil || s.pid != c.PID {
		t.Fatalf("started or took over (pid %d) what another process runs (pid %d)", s.pid, c.PID)
	}
	wantKeepsake(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantDone(t, s)
	if got := ask(t, c.URL, "SELECT words FROM keepsake"); got != "still here" {
		t.Errorf("after an adopter's Stop the server says %q", got)
	}

	second := up(t, dir)
	c.end()
	wantDone(t, second)
	third := up(t, dir)
	if third.owner == nil {
		t.Error("the third start adopted, but there was nothing to adopt")
	}
	wantKeepsake(t, third)
}

func TestTakeOver(t *testing.T) {
	dir := place(t)
	first := up(t, dir)
	mustExec(t, first.URL("postgres"), keepsake)
	// What is left of an owner that died without its server noticing, as on systems without a parent-death signal.
	if err := first.owner.Close(); err != nil {
		t.Fatal(err)
	}
	second := up(t, dir)
	if second.owner == nil || second.pid != first.pid {
		t.Fatalf("did not take over: pid %d, want %d", second.pid, first.pid)
	}
	wantKeepsake(t, second)
	adopted := up(t, dir)
	if adopted.owner != nil {
		t.Error("a second one took over as well")
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Server{first, second, adopted} {
		wantDone(t, s)
	}
	if isPostmaster(first.pid, filepath.Join(dir, "data")) {
		t.Error("the server still runs")
	}
}

func TestHungServerThatWasLeft(t *testing.T) {
	dir := place(t)
	first := up(t, dir)
	mustExec(t, first.URL("postgres"), keepsake)
	if err := first.owner.Close(); err != nil {
		t.Fatal(err)
	}
	// A server whose socket was cleaned away runs, but cannot be reached.
	if err := os.Remove(filepath.Join(first.socket, ".s.PGSQL."+port)); err != nil {
		t.Fatal(err)
	}
	second := up(t, dir)
	if second.pid == first.pid {
		t.Error("took over a server that cannot be reached")
	}
	wantDone(t, first)
	wantKeepsake(t, second)
}

func TestServerDies(t *testing.T) {
	dir := place(t)
	s := upWith(t, Options{Dir: dir})
	mustExec(t, s.URL("postgres"), keepsake)
	adopted := up(t, dir)
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantDone(t, s)
	wantDone(t, adopted)
	if err := s.Stop(); err != nil {
		t.Errorf("Stop after the end: %v", err)
	}
	again := up(t, dir)
	if again.owner == nil {
		t.Error("nobody owns the new server")
	}
	wantKeepsake(t, again)
}

func TestStartersAtOnce(t *testing.T) {
	dir, bin := place(t), self(t)
	var wait sync.WaitGroup
	errs := make([]error, 3)
	children := make([]*child, len(errs))
	for i := range children {
		c, ready := spawnLater(t, bin, dir, nil)
		children[i] = c
		wait.Go(func() { errs[i] = ready() })
	}
	var s *Server
	var err error
	wait.Go(func() { s, err = Start(t.Context(), Options{Dir: dir, Unsafe: true}) })
	wait.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	owners := 0
	if s.owner != nil {
		owners++
	}
	for i, c := range children {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if c.Owned {
			owners++
		}
		if c.PID != s.pid {
			t.Errorf("starter %d has server %d, another %d", i, c.PID, s.pid)
		}
	}
	if owners != 1 {
		t.Errorf("%d owners, want 1", owners)
	}
	wantRunning(t, s)
}

func TestOrdinaryUser(t *testing.T) {
	dir := place(t)
	bin, attr, uid := self(t), (*syscall.SysProcAttr)(nil), os.Geteuid()
	if uid == 0 {
		// go test builds where only root may look, so nobody gets a copy.
		as, err := nobody()
		if err != nil {
			t.Fatal(err)
		}
		uid, attr = as.uid, &syscall.SysProcAttr{Credential: as.cred}
		parent := filepath.Dir(dir)
		bin = copyFile(t, bin, filepath.Join(parent, "child"))
		if err := os.Chown(parent, as.uid, as.gid); err != nil {
			t.Fatal(err)
		}
	}
	c := spawn(t, bin, dir, attr)
	if c.UID != uid || c.Home != dir {
		t.Errorf("the child runs as %d in %s, want %d in %s", c.UID, c.Home, uid, dir)
	}
	for _, name := range []string{".", "data", "socket"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner, _ := ownerOf(info); owner != uid || info.Mode().Perm() != 0o700 {
			t.Errorf("%s belongs to %d with mode %v", name, owner, info.Mode())
		}
	}
	mustExec(t, c.URL, keepsake)
	c.kill(t)
	// Root finds the cluster of an ordinary user, and leaves it that user's.
	s := up(t, dir)
	wantKeepsake(t, s)
	info, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if owner, _ := ownerOf(info); owner != uid {
		t.Errorf("the server now runs as %d, want %d", owner, uid)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	back := spawn(t, bin, dir, attr)
	if got := ask(t, back.URL, "SELECT words FROM keepsake"); got != "still here" {
		t.Errorf("keepsake is %q", got)
	}
}

func nobody() (account, error) {
	as, err := serviceAccount()
	if err != nil {
		return as, err
	}
	// Neither root nor the service's own user: 65534 is nobody on Linux. The passwd entry that initdb wants is there.
	as.uid, as.gid = 65534, 65534
	as.cred = &syscall.Credential{Uid: 65534, Gid: 65534}
	return as, nil
}

func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestDirectoryThatIsClosedToTheServer(t *testing.T) {
	parent := filepath.Dir(place(t))
	closed := filepath.Join(parent, "closed")
	dir := filepath.Join(closed, "pg")
	if os.Geteuid() != 0 {
		// We are the server's user: a directory that we cannot write to is an error that says so.
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("the error is %v", err)
		}
		return
	}
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	s := up(t, dir)
	if s.Dir() == dir || !slices.Contains(fallbackParents, filepath.Dir(s.Dir())) {
		t.Fatalf("the cluster is in %s", s.Dir())
	}
	mustExec(t, s.URL("postgres"), keepsake)
	adopted := up(t, dir)
	if adopted.owner != nil || adopted.Dir() != s.Dir() {
		t.Errorf("the second start is in %s, owner %v", adopted.Dir(), adopted.owner != nil)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// It stays there when the way is open later.
	if err := os.Chmod(closed, 0o711); err != nil {
		t.Fatal(err)
	}
	again := up(t, dir)
	if again.Dir() != s.Dir() {
		t.Errorf("the cluster moved from %s to %s", s.Dir(), again.Dir())
	}
	wantKeepsake(t, again)
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}

	// A copy of the directory has a cluster of its own.
	copied := filepath.Join(parent, "copied")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c := up(t, copied)
	if c.Dir() != copied {
		t.Errorf("the copy's cluster is in %s", c.Dir())
	}
	if got := ask(t, c.URL("postgres"), "SELECT count(*)::text FROM pg_tables WHERE tablename = 'keepsake'"); got != "0" {
		t.Error("the copy shares the original's cluster")
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	// When the way to a cluster is closed later, that is an error and not an empty database.
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: copied, Unsafe: true}); err == nil || !strings.Contains(err.Error(), "no longer enter") {
		t.Errorf("the error is %v", err)
	}

	// Nor is a fallback used that somebody else could write to.
	if err := os.Chmod(s.Dir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir, Unsafe: true}); err == nil || !strings.Contains(err.Error(), "not used") {
		t.Errorf("the error is %v", err)
	}

	// A fresh clone at the same path starts afresh.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	fresh := up(t, dir)
	if fresh.Dir() == s.Dir() || fresh.Dir() == dir {
		t.Errorf("the fresh cluster is in %s", fresh.Dir())
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(place(t), strings.Repeat("long", 15), strings.Repeat("path", 15), "pg")
	s := up(t, dir)
	if s.Dir() != dir {
		t.Errorf("the cluster is in %s", s.Dir())
	}
	if path := filepath.Join(s.socket, ".s.PGSQL."+port); len(path) >= 107 {
		t.Errorf("the socket's path has %d bytes: %s", len(path), path)
	}
	info, err := os.Stat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket directory has mode %v", info.Mode())
	}
	mustExec(t, s.URL("postgres"), keepsake)
	adopted := up(t, dir)
	wantKeepsake(t, adopted)
	if adopted.owner != nil {
		t.Error("started twice")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.socket); !os.IsNotExist(err) {
		t.Errorf("the socket directory is left: %v", err)
	}
}

func TestSomebodyElsesSocketDirectory(t *testing.T) {
	dir := filepath.Join(filepath.Dir(place(t)), "socket")
	if err := os.Symlink("/etc", dir); err != nil {
		t.Fatal(err)
	}
	as, err := accountFor("")
	if err != nil {
		t.Fatal(err)
	}
	if err := ownPrivately(dir, as); err == nil {
		t.Error("a symlink was followed")
	}
	if os.Geteuid() != 0 {
		if err := ownPrivately("/", as); err == nil {
			t.Error("root's directory was taken for ours")
		}
		return
	}
	theirs := filepath.Join(filepath.Dir(dir), "theirs")
	if err := os.Mkdir(theirs, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := ownPrivately(theirs, as); err == nil {
		t.Error("a stranger's directory was taken for ours")
	}
}

func TestForeignDataIsLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"older version", map[string]string{"PG_VERSION": "9.6\n", "base": "precious"}, []string{"PostgreSQL 9", "PostgreSQL 1", "nothing was changed"}},
		{"newer version", map[string]string{"PG_VERSION": "99\n", "base": "precious"}, []string{"PostgreSQL 99", "PostgreSQL 1", "nothing was changed"}},
		{"no version", map[string]string{"letters.txt": "precious"}, []string{"no PG_VERSION", "nothing was changed"}},
		{"nonsense version", map[string]string{"PG_VERSION": "ringfence\n"}, []string{"no version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := place(t)
			data := filepath.Join(dir, "data")
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, content := range c.files {
				if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, data)
			for range 2 {
				_, err := Start(t.Context(), Options{Dir: dir})
				if err == nil {
					t.Fatal("started")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
			}
			if after := listing(t, data); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// listing describes every file below dir: name, mode, owner, time and content.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner, _ := ownerOf(info)
		fmt.Fprintln(&b, path, info.Mode(), owner, info.ModTime())
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%q\n", content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUnfinishedInitdb(t *testing.T) {
	dir := place(t)
	left := filepath.Join(dir, newDataPrefix+"123")
	if err := os.MkdirAll(filepath.Join(left, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	// An empty data directory, such as a mount point's, is no obstacle either.
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, up(t, dir))
	if found, err := filepath.Glob(filepath.Join(dir, newDataPrefix+"*")); err != nil || len(found) > 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

func TestFailedStartTellsWhy(t *testing.T) {
	dir := place(t)
	if err := up(t, dir).Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postgres.log"), []byte("words of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(dir, "data", "global", "pg_control")
	if err := os.Rename(control, control+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := Start(t.Context(), Options{Dir: dir, Unsafe: true})
		if err == nil || !strings.Contains(err.Error(), "pg_control") || strings.Contains(err.Error(), "earlier run") {
			t.Fatalf("the error is %v", err)
		}
	}
	// It can be mended, and nothing is held.
	if err := os.Rename(control+".away", control); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, up(t, dir))
}

func TestCancelledStart(t *testing.T) {
	dir := place(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{Dir: dir, Unsafe: true}); err == nil {
		t.Fatal("started")
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("there is a cluster")
	}
	wantRunning(t, up(t, dir))
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("started nowhere")
	}
}

func TestLogIsKeptSmall(t *testing.T) {
	dir := place(t)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "postgres.log")
	if err := os.WriteFile(log, make([]byte, maxLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	up(t, dir)
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() == 0 || info.Size() > 1<<20 {
		t.Errorf("the log has %d bytes", info.Size())
	}
}

func TestClusterCopiedByRoot(t *testing.T) {
	dir := place(t)
	s := up(t, dir)
	mustExec(t, s.URL("postgres"), keepsake)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, 0, 0)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wantKeepsake(t, up(t, dir))
	info, err := os.Stat(filepath.Join(data, "base"))
	if err != nil {
		t.Fatal(err)
	}
	as, err := accountFor("")
	if err != nil {
		t.Fatal(err)
	}
	if owner, _ := ownerOf(info); owner != as.uid {
		t.Errorf("the cluster belongs to %d, want %d", owner, as.uid)
	}
}
