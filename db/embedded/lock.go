//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tryLock takes an exclusive flock on the file, without waiting; a nil file without an error means that another
// process, or another opening of the file in this one, has it. Closing the file gives the lock back, as does dying.
func tryLock(path string) (*os.File, error) {
	// Go opens with O_CLOEXEC, so that the server does not inherit the lock and keep it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	closed := f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, closed
	}
	return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, closed))
}

// waitLock takes the lock as soon as it is free.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for another process that starts the cluster (lock %s): %w", path, err)
		}
	}
}

// sign writes our pid into a lock file, for people and messages; nothing is decided by it.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("sign %s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("sign %s: %w", f.Name(), err)
	}
	return nil
}

// signature reads who signed a lock file; "unknown" when it cannot be said.
func signature(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil || len(raw) == 0 {
		return "unknown"
	}
	return strings.TrimSpace(string(raw))
}

// pause waits for d, or returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
