package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/config"
)

// process is the program as a process of its own.
type process struct {
	cmd      *exec.Cmd
	out, log output
	ended    chan struct{}
}

// spawn starts a command as a process, which is killed at the latest when the test ends.
func (e environment) spawn(t testing.TB, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(self, args...), ended: make(chan struct{})}
	p.cmd.Env = []string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	for name, value := range e {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	// What outlives a killed process (its database, for a moment) may hold the pipes open.
	p.cmd.WaitDelay = 100 * time.Millisecond
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the state is asked for below
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails when it ended long ago
		<-p.ended
	})
	return p
}

// end sends a signal and returns the exit code, -1 when the signal killed it.
func (p *process) end(t testing.TB, s syscall.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(longest):
		t.Fatalf("%v does not end:\n%s", p.cmd.Args[1:], &p.log)
		return 0
	}
}

// ready waits until the server answers.
func (p *process) ready(t testing.TB, base string) {
	t.Helper()
	until(t, "the process to be ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("%v ended with %d:\n%s", p.cmd.Args[1:], p.cmd.ProcessState.ExitCode(), &p.log)
		default:
		}
		return answers(base + "/readyz")
	})
}

// postmaster is the process id of the embedded database.
func (e environment) postmaster(t testing.TB) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(e["RINGFENCE_DATA_DIR"], "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil || pid < 2 {
		t.Fatalf("postmaster.pid holds %q", raw)
	}
	return pid
}

func lives(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// TestProcesses runs what `make run` runs, with a database of its own: started, stopped, killed and started again.
func TestProcesses(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ringfence-run-") //nolint:usetesting // the database's own user cannot enter a t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	// Nothing is configured but where: the secrets are made by the first start.
	e := environment{
		"RINGFENCE_ENV": "development", "RINGFENCE_DATA_DIR": filepath.Join(dir, "data"),
		"RINGFENCE_ADDR": freeAddr(t), "RINGFENCE_SANDBOX_ADDR": freeAddr(t), "SMTP_URL": "smtp://" + freeAddr(t),
	}

	server := e.spawn(t, "serve")
	server.ready(t, e.base())
	until(t, "the welcome", func() bool {
		return strings.Contains(server.out.String(), e.base()) && strings.Contains(server.out.String(), owner)
	})
	harbour := signedIn(t, e.base(), owner)
	harbour.waitBalance("£569.00")
	checkout := harbour.checkout("50.00")
	harbour.post(checkout+"/pay", url.Values{}, http.StatusSeeOther)
	harbour.waitBalance("£619.00")

	postmaster := e.postmaster(t)
	if code := server.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("after Ctrl-C the server exits %d:\n%s", code, &server.log)
	}
	if lives(postmaster) {
		t.Error("the database outlives Ctrl-C")
	}
	if answers(e.sandboxBase() + "/sandbox/health") {
		t.Error("the sandbox outlives Ctrl-C")
	}
	secretsAreClosed(t, e)
	cleanOfSecrets(t, e, server)

	// A second start finds its data, and nobody was signed out.
	server = e.spawn(t, "serve")
	server.ready(t, e.base())
	harbour.waitBalance("£619.00")

	// Another process beside it shares the database, the sandbox and the sign-in.
	second := e.with(environment{"RINGFENCE_ADDR": freeAddr(t)})
	beside := second.spawn(t, "serve", "--no-jobs")
	beside.ready(t, second.base())
	there := signedIn(t, second.base(), owner)
	there.waitBalance("£619.00")
	there.post(there.checkout("10.00")+"/pay", url.Values{}, http.StatusSeeOther)
	there.waitBalance("£629.00")
	harbour.waitBalance("£629.00")
	if code := beside.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the second server exits %d:\n%s", code, &beside.log)
	}
	harbour.waitBalance("£629.00") // its end took nothing away from the first

	// Everything is killed at once.
	postmaster = e.postmaster(t)
	server.end(t, syscall.SIGKILL)
	if err := syscall.Kill(postmaster, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	until(t, "the database to be gone", func() bool { return !lives(postmaster) })
	server = e.spawn(t, "serve")
	server.ready(t, e.base())
	harbour.waitBalance("£629.00")
	if verify := e.spawn(t, "verify"); verify.wait(t) != 0 {
		t.Errorf("after kill -9 the books are not clean:\n%s%s", &verify.out, &verify.log)
	}
	if n := e.books(t).Totals["gbp"].Net; n != 60_00 {
		t.Errorf("the sandbox's books say %dp, want 6000p", n)
	}
	if code := server.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("the server exits %d:\n%s", code, &server.log)
	}
}

// secretsAreClosed checks the modes of what development made for itself.
func secretsAreClosed(t *testing.T, e environment) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(e["RINGFENCE_DATA_DIR"], "secrets"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// cleanOfSecrets checks that none of the generated secrets was printed.
func cleanOfSecrets(t *testing.T, e environment, p *process) {
	t.Helper()
	cfg, err := config.Load(e.getenv)
	if err != nil {
		t.Fatal(err)
	}
	said := p.log.String() + p.out.String()
	for _, secret := range []string{cfg.StripeSecretKey.Reveal(), cfg.StripeWebhookSecrets[0].Reveal(), cfg.SessionKeys[0].Reveal()} {
		if strings.Contains(said, secret) || strings.Contains(said, secret[len(secret)/2:]) {
			t.Error("a generated secret was printed")
		}
	}
	for line := range strings.Lines(p.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %s", line)
		}
	}
}

// fetch gives what an address answers; nothing when it does not.
func fetch(t testing.TB, address string) string {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestApart runs the web server and the workers in two processes, as larger installations do.
func TestApart(t *testing.T) {
	t.Parallel()
	e := serveApart(t)
	harbour := signedIn(t, e.base(), owner)
	harbour.post(harbour.checkout("50.00")+"/pay", url.Values{}, http.StatusSeeOther)
	until(t, "the events to be stored", func() bool {
		return e.count(t, `SELECT count(*) FROM stripe_events WHERE state = 'received' AND type LIKE '%.completed'`) == 1
	})
	if got := harbour.balance(); got != "£569.00" {
		t.Errorf("without workers the balance is %s", got)
	}
	metrics := freeAddr(t)
	worker := e.with(environment{"RINGFENCE_METRICS_ADDR": metrics}).spawn(t, "work")
	harbour.waitBalance("£619.00")
	// What a process without pages does is seen as well, and the books and numbers are verified without anybody asking.
	for _, line := range []string{
		`ringfence_verification_findings{finding="postings-sum-to-zero",verification="books"} 0`, `ringfence_verification_findings{finding="orphans",verification="numbers"} 0`,
		`ringfence_jobs_worked_total{kind="verify",outcome="done"} 2`, `ringfence_sweeps_total{outcome="failed",sweeper="payments"} 0`,
		`ringfence_stripe_event_oldest_seconds 0`, `ringfence_credits_total 1`,
	} {
		until(t, line, func() bool { return slices.Contains(strings.Split(fetch(t, "http://"+metrics+"/metrics"), "\n"), line) })
	}
	if code := worker.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the worker exits %d:\n%s", code, &worker.log)
	}
	clean(t, worker.log.String())
	e.booksAgree(t)
}

// TestOnePort: a second start is told that the port is taken, and does no harm.
func TestOnePort(t *testing.T) {
	t.Parallel()
	p := serve(t)
	code, _, log := p.run(t, "serve")
	if code != 1 || !strings.Contains(log, "couldn't listen on RINGFENCE_ADDR") || !strings.Contains(log, p.getenv("RINGFENCE_ADDR")) {
		t.Errorf("exits %d:\n%s", code, log)
	}
	if !answers(p.base() + "/readyz") {
		t.Error("the first one is gone")
	}
}

// serveApart is serve without workers.
func serveApart(t *testing.T) *program {
	t.Helper()
	p := newProgram(t)
	p.start(t, "serve", "--no-jobs")
	return p
}
