//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// waitForOther bounds the wait for a server that shuts down, or that neither answers nor ends.
	waitForOther = 30 * time.Second
	// waitForReady bounds a start; crash recovery after much writing can take a while.
	waitForReady = 2 * time.Minute
	// settleTime is how long a server that outlived its owner must keep answering before it is taken over: its owner
	// may have been killed a moment ago, and its own end be under way.
	settleTime = 250 * time.Millisecond
	// pollReady is short, since a warm start takes about 50 ms in all.
	pollReady = 5 * time.Millisecond
	pollOther = 20 * time.Millisecond
)

// Server is a running cluster. Its methods may be called from several goroutines.
type Server struct {
	home   string
	socket string
	pid    int
	log    *slog.Logger

	// owner is the lock that says this process may stop the server; nil when the server was adopted.
	owner *os.File
	// signal reaches the server's process; it is nil when the server was adopted.
	signal func(syscall.Signal) error

	done     chan struct{}
	leave    chan struct{} // closed by Stop of an adopted server
	stopOnce sync.Once
	stopErr  error
}

// Start starts the cluster in o.Dir, making it first when there is none, and returns when it takes connections: in
// about 0.6 s when new, 0.05 s when not. A server that already runs there is adopted when its owner, a process like
// this one, lives, and taken over when not. Several processes may call it at once: one starts, the others adopt.
//
// ctx bounds the start, not the server's life. After an error nothing of this call is left running, and Start may be
// called again. It refuses, and leaves untouched, a cluster of a PostgreSQL version that is not installed.
func Start(ctx context.Context, o Options) (*Server, error) {
	log := o.logger()
	dir, err := prepareDir(o.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := waitLock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // gives the lock back; the file holds nothing

	home, err := locate(dir, log)
	if err != nil {
		return nil, err
	}
	running, owner, err := claim(ctx, dir, home, log)
	if running != nil || err != nil {
		return running, err
	}
	server, err := startOwned(ctx, dir, home, owner, o)
	if err != nil {
		// Until a server runs nobody but us closes it, so this gives the ownership back.
		return nil, errors.Join(err, ignoreClosed(owner.Close()))
	}
	return server, nil
}

// URL returns the connection string of a database on the server, for lib/pq and pgx; the database need not exist.
// The user is the superuser ringfence, without a password.
func (s *Server) URL(database string) string { return socketURL(s.socket, database) }

// Dir returns the directory where the cluster really is: Options.Dir, or the fallback when the server's user cannot
// enter that.
func (s *Server) Dir() string { return s.home }

// Done is closed when the server has ended, whether asked to or not, and when an adopted one was let go by Stop.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop shuts the server down and waits until it has ended: open transactions are rolled back. It does nothing to an
// adopted server. It is safe to repeat, and after an unexpected end. An error says that force was needed; committed
// data is safe then as well.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Server) stop() error {
	if s.owner == nil {
		close(s.leave)
		<-s.done
		return nil
	}
	// Fast shutdown, then immediate shutdown (recovery at the next start), then the end.
	steps := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, waitForOther}, {syscall.SIGQUIT, 10 * time.Second}, {syscall.SIGKILL, 5 * time.Second}}
	for i, step := range steps {
		select {
		case <-s.done:
			return nil
		default:
		}
		// An error means that the process has just ended; then done is closed, else the next step tells.
		err := s.signal(step.signal)
		timer := time.NewTimer(step.wait)
		select {
		case <-s.done:
			timer.Stop()
			if i > 0 {
				return fmt.Errorf("PostgreSQL did not shut down by itself and was sent %s", step.signal)
			}
			return nil
		case <-timer.C:
			s.log.Warn("PostgreSQL is slow to shut down", "pid", s.pid, "signal", step.signal.String(), "err", err)
		}
	}
	return fmt.Errorf("PostgreSQL, pid %d, could not be ended", s.pid)
}

// ended tells everybody that the server is no more. The ownership goes first, so that whoever sees done can start anew.
func (s *Server) ended() {
	if s.owner != nil {
		if filepath.Dir(s.socket) != s.home {
			// It fails when the server was killed and left its socket there; the next start uses the same directory.
			_ = os.Remove(s.socket)
		}
		if err := ignoreClosed(s.owner.Close()); err != nil {
			s.log.Warn("could not give back the ownership of the cluster", "err", err)
		}
	}
	close(s.done)
}

// watch ends s when the server, which is not our child, is gone or was replaced by another.
func (s *Server) watch(ctx context.Context) {
	data := filepath.Join(s.home, "data")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	defer s.ended()
	for {
		select {
		case <-s.leave:
			return
		case <-tick.C:
		}
		if isPostmaster(s.pid, data) {
			continue
		}
		// Not a process that we can see; perhaps one in another pid namespace.
		st, pm, err := probe(ctx, data)
		if err != nil || st == gone || st == stale || pm.pid != s.pid {
			return
		}
	}
}

// claim decides what to do about a server that may be running on home (which may be "": no cluster yet). It returns
// either that server, adopted or taken over, or the ownership under which the caller may start one.
func claim(ctx context.Context, dir, home string, log *slog.Logger) (_ *Server, _ *os.File, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitForOther, errors.New("it took too long"))
	defer cancel()
	path, data := filepath.Join(dir, "owner"), filepath.Join(home, "data")
	var owner *os.File
	defer func() {
		if err != nil && owner != nil {
			err = errors.Join(err, owner.Close())
		}
	}()
	var asked, settled bool
	for {
		if owner == nil {
			if owner, err = tryLock(path); err != nil {
				return nil, nil, err
			}
			if owner != nil {
				if err := sign(owner); err != nil {
					return nil, nil, err
				}
			}
		}
		st, pm := gone, postmaster{}
		if home != "" {
			if st, pm, err = probe(ctx, data); err != nil {
				return nil, nil, err
			}
		}
		wait := pollOther
		switch {
		case st == ready && owner == nil:
			s := attach(ctx, home, pm, nil, log)
			log.Info("using the PostgreSQL that another process runs", "owner_pid", signature(path), "dir", home)
			return s, nil, nil
		case st == ready && settled:
			s := attach(ctx, home, pm, owner, log)
			log.Info("took over a PostgreSQL whose owner is gone", "pid", pm.pid, "dir", home)
			return s, nil, nil
		case st == ready:
			settled, wait = true, settleTime
		case st == busy && owner != nil && !asked:
			// Its owner is dead and it answers nobody: it is on its way down, or is sent there.
			settled, asked = false, true
			if err := syscall.Kill(pm.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
				return nil, nil, fmt.Errorf("end the PostgreSQL that was left behind, pid %d: %w", pm.pid, err)
			}
		case st == gone || st == stale:
			if owner != nil {
				return nil, owner, nil
			}
		}
		if err := pause(ctx, wait); err != nil {
			if owner == nil {
				return nil, nil, fmt.Errorf("process %s runs the cluster in %s, but its PostgreSQL does not answer: %w", signature(path), dir, err)
			}
			return nil, nil, fmt.Errorf("a PostgreSQL, pid %d, that was left behind in %s neither answers nor ends: %w", pm.pid, home, err)
		}
	}
}

// attach makes a Server of one that runs already; it is adopted when owner is nil. It outlives ctx, which bounds the start.
func attach(ctx context.Context, home string, pm postmaster, owner *os.File, log *slog.Logger) *Server {
	s := &Server{
		home: home, socket: pm.socket, pid: pm.pid, log: log, owner: owner,
		done: make(chan struct{}), leave: make(chan struct{}),
	}
	if owner != nil {
		data := filepath.Join(home, "data")
		s.signal = func(sig syscall.Signal) error {
			// The pid is not a child's, so it could have been used again.
			if !isPostmaster(pm.pid, data) {
				return os.ErrProcessDone
			}
			return syscall.Kill(pm.pid, sig)
		}
	}
	go s.watch(context.WithoutCancel(ctx))
	return s
}

// startOwned starts a server on home, or on a new cluster when home is "". The caller has the ownership and the lock.
func startOwned(ctx context.Context, dir, home string, owner *os.File, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitForReady, errors.New("PostgreSQL took too long to start"))
	defer cancel()
	log := o.logger()

	found, err := findInstalls(ctx, os.Getenv("PATH"), usualPlaces)
	if err != nil {
		return nil, err
	}
	want, data := 0, ""
	if home != "" {
		data = filepath.Join(home, "data")
		if want, err = clusterMajor(data); err != nil {
			return nil, err
		}
	}
	in, err := pick(found, want, data)
	if err != nil {
		return nil, err
	}
	as, err := accountFor(data)
	if err != nil {
		return nil, err
	}
	if want == 0 {
		home, err = newCluster(ctx, dir, home, in.dir, as, o)
	} else {
		err = checkCluster(ctx, home, in.dir, as)
	}
	if err != nil {
		return nil, err
	}

	socket, err := socketDir(home, as)
	if err != nil {
		return nil, err
	}
	if err := removeStale(home, socket); err != nil {
		return nil, err
	}
	for {
		s, tail, err := launch(ctx, home, socket, in.dir, as, owner, o)
		if err == nil {
			log.Info("PostgreSQL is running", "version", in.major, "dir", home, "user", as.name, "pid", s.pid)
			return s, nil
		}
		// A killed server's backends need a moment to notice and to let go of its shared memory.
		if ctx.Err() != nil || !strings.Contains(tail, "is still in use") {
			return nil, err
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return nil, err
		}
	}
}

// removeStale removes the files by which an earlier server said that it runs. claim has found that none does, while
// PostgreSQL itself would refuse to start when a pid in them is alive again as any process of the same user, or is a
// zombie. PostgreSQL still guards against orphaned backends, by the shared memory block.
func removeStale(home, socket string) error {
	name := filepath.Join(socket, ".s.PGSQL."+port)
	for _, path := range []string{filepath.Join(home, "data", "postmaster.pid"), name, name + ".lock"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a stale file: %w", err)
		}
	}
	return nil
}

// newCluster makes a cluster in home, or where there is a place for it when none was chosen yet, and returns where.
func newCluster(ctx context.Context, dir, home, bin string, as account, o Options) (string, error) {
	if home != "" {
		// clusterMajor saw that data is empty or missing; were it not, this would fail and remove nothing.
		if err := os.Remove(filepath.Join(home, "data")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("make room for a new cluster: %w", err)
		}
	}
	if home == "" || home == dir {
		var err error
		if home, err = choosePlace(ctx, dir, bin, as, o.logger()); err != nil {
			return "", err
		}
	}
	return home, initCluster(ctx, home, bin, as, o.Unsafe)
}

// checkCluster sees to it that the server's user can get at the cluster that is there.
func checkCluster(ctx context.Context, home, bin string, as account) error {
	can, err := canEnter(ctx, home, bin, as)
	if err != nil {
		return err
	}
	if !can {
		// Another place would be an empty database in silence.
		return fmt.Errorf("the cluster is in %s, which user %s can no longer enter: give its parent directories mode o+x, or run as their owner", home, as.name)
	}
	return adoptOwnership(filepath.Join(home, "data"), as)
}

// launch starts the server's process and waits until it takes connections. With an error the process is gone and
// tail is what it said.
func launch(ctx context.Context, home, socket, bin string, as account, owner *os.File, o Options) (_ *Server, tail string, err error) {
	out, begin, err := openLog(home)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = out.Close() }() // the server has its own descriptor

	cmd := serverCommand(ctx, home, socket, bin, as, o, out)
	s := &Server{
		home: home, socket: socket, log: o.logger(), owner: owner,
		signal: func(sig syscall.Signal) error { return cmd.Process.Signal(sig) },
		done:   make(chan struct{}), leave: make(chan struct{}),
	}
	exited := make(chan struct{})
	var exit error
	if err := start(cmd, func(err error) { exit = err; close(exited) }); err != nil {
		return nil, "", fmt.Errorf("start PostgreSQL as user %s: %w", as.name, err)
	}
	s.pid = cmd.Process.Pid

	tick := time.NewTicker(pollReady)
	defer tick.Stop()
	for !answers(ctx, socket) {
		select {
		case <-tick.C:
			continue
		case <-exited:
			tail = logTail(home, begin)
			return nil, tail, fmt.Errorf("PostgreSQL ended while starting (%w); its last words:\n%s", errOr(exit), tail)
		case <-ctx.Done():
		}
		// SIGQUIT ends it at once; there is nothing to save. Its error could only be that it has ended.
		_ = s.signal(syscall.SIGQUIT)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = s.signal(syscall.SIGKILL)
			<-exited
		}
		return nil, "", fmt.Errorf("start PostgreSQL: %w; its last words:\n%s", context.Cause(ctx), logTail(home, begin))
	}
	go func() {
		<-exited
		s.ended()
	}()
	return s, "", nil
}

// errOr gives a process that ended without an error one.
func errOr(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// ignoreClosed drops the error of closing twice.
func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
