package faulttest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/failpoint"
)

// process is the program as a process: a web server or a worker. It can be started again after its end.
type process struct {
	t    testing.TB
	name string
	args []string
	env  environment
	addr string // of a web server
	dir  string
	// program is what it runs; empty: what all run.
	program string

	cmd   *exec.Cmd
	ended chan struct{}
	begin int64 // where this run's part of the log begins
}

// web starts a process that serves and works no jobs, and waits until it is ready.
func (w *world) web() *process {
	w.t.Helper()
	p := w.process("web", "serve", "--no-jobs")
	p.start()
	p.ready()
	return p
}

// worker starts a process that works jobs, and waits until it does.
func (w *world) worker() *process {
	w.t.Helper()
	p := w.process("worker", "work")
	p.start()
	p.ready()
	return p
}

// process describes one that is yet to be started.
func (w *world) process(name string, args ...string) *process {
	w.t.Helper()
	addr, err := free()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{t: w.t, name: name, args: args, addr: addr, dir: w.t.TempDir()}
	p.env = environment{
		"DATABASE_URL": w.databaseURL, "RINGFENCE_ADDR": addr, "RINGFENCE_DATA_DIR": p.dir,
		"RINGFENCE_FAILPOINTS": filepath.Join(p.dir, "failpoints"), "STRIPE_API_BASE": w.stripe,
	}
	if w.data != "" {
		p.env["RINGFENCE_DATA_DIR"] = w.data
	}
	w.t.Cleanup(func() {
		p.kill()
		if w.t.Failed() {
			w.t.Logf("the last words of a %s:\n%s", name, p.lastWords())
		}
	})
	return p
}

func (p *process) base() string { return "http://" + p.addr }

// start starts the process, again if it has run before; points that were armed are no longer.
func (p *process) start() {
	p.t.Helper()
	if err := os.Remove(p.env["RINGFENCE_FAILPOINTS"]); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	if p.begin, err = log.Seek(0, io.SeekEnd); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.ended = p.env.command(context.Background(), p.args...), make(chan struct{})
	if p.program != "" {
		p.cmd.Path = p.program
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // its state is asked for where it matters
		close(ended)
	}(p.cmd, p.ended)
}

func (p *process) runs() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// ready waits until a server answers that it is, and a worker has begun.
func (p *process) ready() {
	p.t.Helper()
	until(p.t, "the "+p.name+" to be ready", func() bool {
		if !p.runs() {
			p.t.Fatalf("it ended with %s:\n%s", p.cmd.ProcessState, p.lastWords())
		}
		return p.isReady()
	})
}

func (p *process) isReady() bool {
	switch p.name {
	case "web":
		return answers(p.base() + "/readyz")
	case "sandbox":
		return answers(p.base() + "/sandbox/health")
	}
	log, err := os.ReadFile(filepath.Join(p.dir, "log"))
	return err == nil && strings.Contains(string(log[p.begin:]), `"msg":"running"`)
}

// lastWords is the end of what the process logged, without the requests that went well.
func (p *process) lastWords() string {
	log, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, `"status":200`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-12):], "")
}

// arm makes the process die at the named point when it gets there next.
func (p *process) arm(point string) {
	p.t.Helper()
	// Put in place whole, since the process may read it at any moment.
	if err := os.WriteFile(p.env["RINGFENCE_FAILPOINTS"]+".new", []byte(point), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.env["RINGFENCE_FAILPOINTS"]+".new", p.env["RINGFENCE_FAILPOINTS"]); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9. It does nothing to a process that has ended.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// killed waits until the process has been killed, and fails when it ended in any other way.
func (p *process) killed() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(longest):
		p.t.Fatalf("the %s was not killed: was the point reached?", p.name)
	}
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		p.t.Fatalf("the %s ended with %s:\n%s", p.name, p.cmd.ProcessState, p.lastWords())
	}
}

// verify fails the test unless `ringfence verify` exits 0.
func (w *world) verify() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	e := environment{"DATABASE_URL": w.pg.url(), "RINGFENCE_DATA_DIR": w.t.TempDir(), "STRIPE_API_BASE": noStripe}
	out, err := e.command(ctx, "verify").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "invariants hold.") {
		w.t.Errorf("verify: %v\n%s", err, out)
	}
}

// TestShippedBuildsHaveNoFailpoints: without the tag an armed point is passed as if it were not there.
func TestShippedBuildsHaveNoFailpoints(t *testing.T) {
	armed := filepath.Join(t.TempDir(), "armed")
	if err := os.WriteFile(armed, []byte(failpoint.AcceptBeforeCommit), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RINGFENCE_FAILPOINTS", armed)
	failpoint.Hit(failpoint.AcceptBeforeCommit) // would end this process
}
