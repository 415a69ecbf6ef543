package faulttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
)

// cluster is a PostgreSQL of a test's own, on a loopback port, for stopping in every way there is. What the program
// itself runs in development (db/embedded) takes good care never to be stopped like that.
type cluster struct {
	dir  string // holds data/ and log
	addr string
	set  []string // further settings, "name=value"

	cmd   *exec.Cmd
	ended chan struct{}
}

// The ways to stop a cluster.
const (
	fast      = syscall.SIGINT
	immediate = syscall.SIGQUIT // no checkpoint, no farewell: what pg_ctl calls -m immediate
)

// owner is the user that PostgreSQL runs as: it refuses root.
func owner() (cred *syscall.Credential, err error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uerr := strconv.ParseUint(u.Uid, 10, 31)
			gid, gerr := strconv.ParseUint(u.Gid, 10, 31)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uerr, gerr)
		}
	}
	return nil, errors.New("there is no user that PostgreSQL could run as")
}

// tool runs one of PostgreSQL's programs.
func (c *cluster) tool(name string, args ...string) error {
	cred, err := owner()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(ground.pgbin, name), args...)
	cmd.Dir, cmd.SysProcAttr = c.dir, &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// place makes an empty directory for a cluster and gives it a port.
func place(dir string) (*cluster, error) {
	cred, err := owner()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	addr, err := free()
	return &cluster{dir: dir, addr: addr}, err
}

// newCluster makes an empty cluster.
func newCluster(dir string) (*cluster, error) {
	c, err := place(dir)
	if err != nil {
		return nil, err
	}
	// Small WAL segments make for small copies, and for a WAL that has to grow often.
	return c, c.tool("initdb", "--pgdata="+c.data(), "--username=ringfence", "--auth=trust", "--encoding=UTF8", "--locale=C",
		"--no-sync", "--no-instructions", "--wal-segsize=1")
}

// copyCluster copies a cluster that is stopped.
func copyCluster(from string) (*cluster, error) {
	parent, err := os.MkdirTemp(ground.dir, "test-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(parent, 0o755); err != nil {
		return nil, err
	}
	c, err := place(filepath.Join(parent, "pg"))
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(from, "data"), c.data()).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cp: %w\n%s", err, out)
	}
	return c, nil
}

// standby makes a copy of the running cluster that follows it. It is not started yet.
func (c *cluster) standby() (*cluster, error) {
	s, err := place(filepath.Join(filepath.Dir(c.dir), "standby"))
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, err
	}
	s.set = c.set
	return s, s.tool("pg_basebackup", "--pgdata="+s.data(), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync",
		fmt.Sprintf("--dbname=host=%s port=%s user=ringfence application_name=standby", host, port))
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) url() string {
	return "postgres://ringfence@" + c.addr + "/ringfence?sslmode=disable"
}

// start starts the server and waits until it takes connections.
func (c *cluster) start() error {
	if err := c.launch(); err != nil {
		return err
	}
	var last error
	err := poll(func() bool {
		last = c.sql(context.Background(), "postgres", "SELECT 1")
		return last == nil || !c.runs()
	})
	if !c.runs() {
		err = errors.New("it ended")
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL does not start: %w (%w)\n%s", err, last, c.lastWords())
	}
	return nil
}

// launch starts the server's process.
func (c *cluster) launch() error {
	cred, err := owner()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", c.data()}
	for _, s := range append([]string{
		"listen_addresses=" + host, "port=" + port, "unix_socket_directories=", "max_connections=200", "shared_buffers=64MB",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on", "wal_level=replica", "hot_standby=on",
		"max_wal_size=64MB", "min_wal_size=4MB", "jit=off", "timezone=UTC", "log_timezone=UTC", "lc_messages=C",
	}, c.set...) {
		args = append(args, "-c", s)
	}
	cmd := exec.Command(filepath.Join(ground.pgbin, "postgres"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.data(), log, log
	// It must not outlive the test; the kernel watches the thread that started it, so that thread has to stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setsid: true}
	dieWithParent(cmd.SysProcAttr, immediate)
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is the test's doing
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.cmd, c.ended = cmd, ended
	return nil
}

// runs reports whether the server's process lives.
func (c *cluster) runs() bool {
	if c.ended == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// stop stops the server in the given way and waits for its end. It is safe to repeat.
func (c *cluster) stop(how syscall.Signal) error {
	if !c.runs() {
		return nil
	}
	if err := c.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(longest):
		return errors.Join(fmt.Errorf("PostgreSQL does not stop\n%s", c.lastWords()), c.cmd.Process.Kill())
	}
}

// remove ends the server and deletes its data.
func (c *cluster) remove(t testing.TB) {
	t.Helper()
	if err := c.stop(immediate); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("PostgreSQL's last words:\n%s", c.lastWords())
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Error(err)
	}
}

// sql runs one statement as the superuser.
func (c *cluster) sql(ctx context.Context, database, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pool, err := sqlx.ConnectContext(ctx, "postgres", strings.Replace(c.url(), "/ringfence?", "/"+database+"?", 1))
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, statement)
	return errors.Join(err, pool.Close())
}

// lastWords is the end of the server's log.
func (c *cluster) lastWords() string { return tail(filepath.Join(c.dir, "log"), 15) }

// tail is the last lines of a file.
func tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// command runs a program of the system.
func command(name string, args ...string) (output string, err error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
