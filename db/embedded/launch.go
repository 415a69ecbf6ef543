//go:build unix

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// start starts cmd and calls exited once it ended. It does so on a thread of its own, kept until then: the kernel
// sends the parent-death signal when the *thread* that started the child ends, and Go ends threads as it likes.
func start(cmd *exec.Cmd, exited func(error)) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			exited(cmd.Wait())
		}
	}()
	return <-started
}

// run is cmd.Run on a thread that stays.
func run(cmd *exec.Cmd) error {
	exited := make(chan error, 1)
	if err := start(cmd, func(err error) { exited <- err }); err != nil {
		return err
	}
	return <-exited
}

// environment is what PostgreSQL's programs get: nothing of ours, since PGDATA, PGPORT, PGOPTIONS and the like would
// change what they do, and since secrets have no business there.
func environment(home string) []string {
	env := []string{"HOME=" + home, "LC_ALL=C"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

const newDataPrefix = "data.new-"

// initCluster makes a new cluster in home/data. It is made beside it and renamed when it is whole, so that a killed
// initdb leaves no half cluster behind. Two starters cannot meet here: the caller holds the lock.
func initCluster(ctx context.Context, home, bin string, as account, unsafe bool) error {
	if err := removeUnfinished(home); err != nil {
		return err
	}
	out, err := initdb(ctx, home, bin, as, unsafe, "C.UTF-8")
	if err != nil && strings.Contains(out, "locale") {
		// Older macOS and small containers have no C.UTF-8. With C, only lower() and upper() beyond ASCII differ.
		out, err = initdb(ctx, home, bin, as, unsafe, "C")
	}
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(out))
	}
	return nil
}

func initdb(ctx context.Context, home, bin string, as account, unsafe bool, locale string) (output string, err error) {
	dir, err := os.MkdirTemp(home, newDataPrefix)
	if err != nil {
		return "", fmt.Errorf("make the new data directory: %w", err)
	}
	defer func() {
		// After the rename there is nothing left to remove.
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := ownPrivately(dir, as); err != nil {
		return "", err
	}
	args := []string{
		"--pgdata=" + dir, "--username=" + superuser, "--auth=trust", "--encoding=UTF8", "--locale=" + locale,
		"--no-instructions", "--data-checksums",
	}
	if unsafe {
		args = append(args, "--no-sync")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir = dir
	cmd.Env = environment(dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = as.attr(syscall.SIGKILL)
	// A killed initdb may leave a child that holds the pipe; do not wait for it.
	cmd.WaitDelay = 5 * time.Second
	if err := run(cmd); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return out.String(), err
	}
	if err := os.Rename(dir, filepath.Join(home, "data")); err != nil {
		return "", fmt.Errorf("put the new data directory in place: %w", err)
	}
	if unsafe {
		return "", nil
	}
	return "", syncDir(home)
}

// removeUnfinished removes what a killed initdb left: never a cluster that was in use, since those are renamed first.
func removeUnfinished(home string) error {
	left, err := filepath.Glob(filepath.Join(escapeGlob(home), newDataPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for unfinished clusters: %w", err)
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an unfinished cluster: %w", err)
		}
	}
	return nil
}

// escapeGlob quotes what filepath.Glob would read as a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// settings are given on the command line and thus beat postgresql.conf: every run of this program has the same ones.
func settings(o Options) []string {
	connections := o.MaxConnections
	if connections <= 0 {
		connections = 60
	}
	set := []string{
		"listen_addresses=", "port=" + port, "unix_socket_permissions=0700",
		"max_connections=" + strconv.Itoa(connections),
		"timezone=UTC", "log_timezone=UTC", "lc_messages=C",
		"logging_collector=off", "log_destination=stderr", "log_line_prefix=%m [%p] %q%u@%d ",
		"cluster_name=ringfence", "huge_pages=off",
		// Short statements only: compiling them costs more than it saves.
		"jit=off",
		"max_wal_size=512MB", "min_wal_size=80MB",
	}
	if o.Unsafe {
		return append(set, "shared_buffers=32MB", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"wal_level=minimal", "max_wal_senders=0")
	}
	return append(set, "shared_buffers=128MB", "fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"wal_compression=on")
}

// serverCommand is the server itself; its output goes to log, a file, so that no pipe dies with us.
func serverCommand(ctx context.Context, home, socket, bin string, as account, o Options, log *os.File) *exec.Cmd {
	data := filepath.Join(home, "data")
	args := []string{"-D", data, "-k", socket}
	for _, setting := range settings(o) {
		args = append(args, "-c", setting)
	}
	// The caller's context bounds the start, not the server's life.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(bin, "postgres"), args...)
	cmd.Dir = data
	cmd.Env = environment(data)
	cmd.Stdout, cmd.Stderr = log, log
	// SIGINT is PostgreSQL's fast shutdown: roll back what is open, write a checkpoint, end.
	cmd.SysProcAttr = as.attr(syscall.SIGINT)
	return cmd
}

// maxLog is the size in bytes at which postgres.log starts afresh.
const maxLog = 10 << 20

// openLog opens the server's log for appending and tells where this run's part begins.
func openLog(home string) (f *os.File, begin int64, err error) {
	path := filepath.Join(home, "postgres.log")
	f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open the server's log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() > maxLog {
		if err = f.Truncate(0); err == nil {
			return f, 0, nil
		}
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("look at the server's log: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// logTail returns the last lines that the server wrote since begin.
func logTail(home string, begin int64) string {
	const most = 4 << 10
	f, err := os.Open(filepath.Join(home, "postgres.log"))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if info, err := f.Stat(); err == nil && info.Size()-begin > most {
		begin = info.Size() - most
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, begin, most))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
