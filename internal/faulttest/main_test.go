package faulttest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/db/embedded"
)

// longest is how long anything may take that a quick test waits for.
const longest = 60 * time.Second

// webhookSecret signs the events.
var webhookSecret = "whsec_" + rand.Text()

// ground is what all tests stand on, made by the first of them: the program, built with its failpoints, and a cluster
// that is migrated, seeded, full of open top-ups, and stopped. Every test breaks a copy of it.
var ground struct {
	once    sync.Once
	err     error
	dir     string
	program string
	pgbin   string
	topUps  []topUp
}

// groundTopUps is how many open top-ups the cluster has; no quick test needs more.
const groundTopUps = 800

// topUp is what `ringfence bench prepare` prints.
type topUp struct {
	ID       uuid.UUID `json:"top_up_id"`
	Org      uuid.UUID `json:"org_id"`
	Amount   int64     `json:"amount_pence"`
	Customer string    `json:"customer"`
}

func TestMain(m *testing.M) {
	code := m.Run()
	if ground.dir != "" {
		if err := os.RemoveAll(ground.dir); err != nil {
			fmt.Fprintln(os.Stderr, "couldn't remove what the tests stood on:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// layGround makes ground.
func layGround() (err error) {
	if ground.pgbin, err = embedded.FindBinaries(); err != nil {
		return err
	}
	if ground.dir, err = os.MkdirTemp("", "ringfence-fault-"); err != nil {
		return err
	}
	if err := os.Chmod(ground.dir, 0o755); err != nil { // the database's user must be able to pass through
		return err
	}
	ground.program = filepath.Join(ground.dir, "ringfence")
	build := exec.Command("go", "build", "-tags", "failpoints", "-buildvcs=false", "-o", ground.program, "ringfence/cmd/ringfence")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("couldn't build the program: %w\n%s", err, out)
	}
	pg, err := newCluster(filepath.Join(ground.dir, "template"))
	if err != nil {
		return err
	}
	if err := pg.start(); err != nil {
		return err
	}
	if err := pg.sql(context.Background(), "postgres", "CREATE DATABASE ringfence"); err != nil {
		return err
	}
	addr, err := free()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	e := environment{"DATABASE_URL": pg.url(), "RINGFENCE_ADDR": addr, "RINGFENCE_DATA_DIR": ground.dir}
	if e["RINGFENCE_SANDBOX_ADDR"], err = free(); err != nil {
		return err
	}
	e["STRIPE_API_BASE"] = "http://" + e["RINGFENCE_SANDBOX_ADDR"]
	// The organisations' customers are made at Stripe.
	sandbox := e.command(ctx, "sandbox")
	if err := sandbox.Start(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, sandbox.Process.Kill())
		_ = sandbox.Wait() // it was killed
	}()
	if err := poll(func() bool { return answers(e["STRIPE_API_BASE"] + "/sandbox/health") }); err != nil {
		return fmt.Errorf("the sandbox does not start: %w", err)
	}
	if ground.topUps, err = e.prepare(ctx, groundTopUps); err != nil {
		return err
	}
	return pg.stop(fast)
}

// prepare makes open top-ups in the database.
func (e environment) prepare(ctx context.Context, n int) (list []topUp, err error) {
	cmd := e.command(ctx, "bench", "prepare", "--top-ups", strconv.Itoa(n))
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bench prepare: %w\n%s", err, log.String())
	}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		var p topUp
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("bench prepare printed %q: %w", lines.Text(), err)
		}
		list = append(list, p)
	}
	if len(list) != n {
		return nil, fmt.Errorf("bench prepare printed %d of %d top-ups", len(list), n)
	}
	return list, nil
}

// environment is what a process of the program is given beside its constants.
type environment map[string]string

var sessionKey = func() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}()

// command is the program as a process that is yet to be started.
func (e environment) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, ground.program, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), "USER=tester",
		"RINGFENCE_ENV=development", "RINGFENCE_SESSION_KEYS=" + sessionKey,
		"STRIPE_SECRET_KEY=sk_test_faults", "STRIPE_WEBHOOK_SECRET=" + webhookSecret,
	}
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// world is one test's installation: a database and the processes that use it.
type world struct {
	t  testing.TB
	pg *cluster
	// databaseURL is what the processes are given; tests put proxies and second hosts into it.
	databaseURL string
	// stripe is where Stripe is; only a shop has one that answers.
	stripe string
	// data is the directory that all processes share; empty: each has one of its own.
	data   string
	topUps []topUp // not yet used
	count  int
}

// noStripe is where nothing listens: most tests here make the events themselves, and nobody needs Stripe to answer.
const noStripe = "http://127.0.0.1:9"

// newWorld starts a database of the test's own. Nothing of the program runs yet.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := bareWorld(t)
	if err := w.pg.start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// bareWorld is newWorld with the database not yet started.
func bareWorld(t testing.TB) *world {
	t.Helper()
	ground.once.Do(func() { ground.err = layGround() })
	if ground.err != nil {
		t.Fatal(ground.err)
	}
	pg, err := copyCluster(filepath.Join(ground.dir, "template"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.remove(t) })
	return &world{t: t, pg: pg, databaseURL: pg.url(), stripe: noStripe, topUps: ground.topUps}
}

// seeded is the source of what a test leaves to chance.
func seeded(t testing.TB) *mathrand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("RINGFENCE_FAULT_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("RINGFENCE_FAULT_SEED: %v", err)
		}
	}
	t.Logf("RINGFENCE_FAULT_SEED=%d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

// query reads rows as the superuser, on the database that is the primary now.
func (w *world) query(dest any, query string, args ...any) {
	w.t.Helper()
	dbtest.Select(w.t, w.pg.url(), dest, query, args...)
}

// one reads one row as the superuser.
func (w *world) one(dest any, query string, args ...any) {
	w.t.Helper()
	dbtest.Get(w.t, w.pg.url(), dest, query, args...)
}

// number reads one number.
func (w *world) number(query string, args ...any) (n int) {
	w.t.Helper()
	dbtest.Get(w.t, w.pg.url(), &n, query, args...)
	return n
}

// alter runs a statement as the superuser.
func (w *world) alter(statement string) {
	w.t.Helper()
	dbtest.Super(w.t, w.pg.url(), statement)
}

// handedOut are the addresses that free gave away.
var handedOut sync.Map

// free is a loopback address that nothing listens on and that was given to nobody else here. It lies below the ports that
// systems give to connections, one of which could take it before it is listened on.
func free() (string, error) {
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(12_000)))
		if err != nil {
			continue // somebody has it
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return "", err
		}
		if _, taken := handedOut.LoadOrStore(addr, true); !taken {
			return addr, nil
		}
	}
}

// poll asks until the answer is yes.
func poll(ok func() bool) error { return pollFor(longest, ok) }

func pollFor(patience time.Duration, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("it did not happen within %s", patience)
		}
	}
	return nil
}

// until is poll for tests.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := poll(ok); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

var asking = &http.Client{Timeout: 6 * time.Second}

// answers reports whether the address answers 200.
func answers(url string) bool {
	res, err := asking.Get(url)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}
