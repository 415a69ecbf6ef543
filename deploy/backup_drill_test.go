//go:build drill

package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// house is the program with its settings, apart from where its database is.
type house struct {
	t       *testing.T
	program string
	env     []string
	base    string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, program: filepath.Join(t.TempDir(), "ringfence")}
	// As the image has it.
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w -X main.version=9.9.9", "-o", h.program, "../cmd/ringfence")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(h.program)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("/ld-linux")) || !bytes.Contains(raw, []byte("9.9.9")) {
		t.Error("the program is not static, or does not know its version")
	}
	addr := free(t)
	h.base = "http://" + addr
	h.env = append(os.Environ(), "RINGFENCE_ENV=development", "RINGFENCE_DATA_DIR="+t.TempDir(), "RINGFENCE_ADDR="+addr,
		"RINGFENCE_SANDBOX_ADDR="+free(t), "SMTP_URL=smtp://"+free(t), "RINGFENCE="+h.program)
	return h
}

func free(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs a command on a database to its end.
func (h *house) run(databaseURL, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(h.env, "DATABASE_URL="+databaseURL)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *house) must(databaseURL, name string, args ...string) string {
	h.t.Helper()
	out, err := h.run(databaseURL, name, args...)
	if err != nil {
		h.t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
	return out
}

// serve runs the program until the returned function stops it.
func (h *house) serve(databaseURL string) (stop func()) {
	h.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(h.program, "serve")
	cmd.Env = append(h.env, "DATABASE_URL="+databaseURL)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	deadline, tick := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for ready := false; !ready; {
		select {
		case err := <-ended:
			h.t.Fatalf("serve ended: %v\n%s", err, &log)
		case <-deadline:
			h.t.Fatal("serve is not ready")
		case <-tick.C:
			if res, err := http.Get(h.base + "/readyz"); err == nil {
				ready = res.StatusCode == http.StatusOK
				_ = res.Body.Close()
			}
		}
	}
	return func() {
		h.t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			h.t.Fatal(err)
		}
		if err := <-ended; err != nil {
			h.t.Fatalf("serve: %v\n%s", err, &log)
		}
	}
}

// backup gives the file that was written.
func (h *house) backup(databaseURL, dir string) string {
	h.t.Helper()
	lines := strings.Split(strings.TrimSpace(h.must(databaseURL, "./backup.sh", dir)), "\n")
	return lines[len(lines)-1]
}

// sums are the rows of every table, and what the wallets hold.
func sums(t *testing.T, databaseURL string) map[string]string {
	t.Helper()
	var tables []string
	dbtest.Select(t, databaseURL, &tables, `SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace`)
	if len(tables) < 30 {
		t.Fatalf("only %d tables", len(tables))
	}
	all := map[string]string{}
	for _, table := range tables {
		var sum string
		// The rows themselves, in whatever order.
		dbtest.Get(t, databaseURL, &sum, `SELECT count(*) || ' rows ' || coalesce(md5(string_agg(md5(x::text), '' ORDER BY md5(x::text))), '') FROM "`+table+`" x`)
		all[table] = sum
	}
	var wallets string
	dbtest.Get(t, databaseURL, &wallets, `SELECT string_agg(org_id || ' ' || balance_pence || ' ' || held_pence || ' ' || debt_pence, E'\n' ORDER BY org_id) FROM wallets`)
	all["the wallets' sums"] = wallets
	return all
}

// TestBackupAndRestore is the drill of docs/operations.md: fill, back up, destroy, restore. The books hold, every row and
// every wallet is as it was, sealed credentials open, and the way from Stripe to the wallet works again.
func TestBackupAndRestore(t *testing.T) {
	h, dir := newHouse(t), t.TempDir()
	first := dbtest.EmptyURL(t)
	stop := h.serve(first)
	h.must(first, h.program, "bench", "webhooks", "--events", "500")

	// While it is used: whatever moment the backup caught, its books hold.
	done := make(chan error, 1)
	go func() {
		out, err := h.run(first, h.program, "bench", "gates", "--seconds", "6", "--callers", "8")
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		done <- err
	}()
	live := h.backup(first, dir)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stop()
	second := dbtest.EmptyURL(t)
	if out := h.must(second, "./restore.sh", live); !strings.Contains(out, "invariants hold.") {
		t.Fatalf("restoring what was taken under load did not verify:\n%s", out)
	}

	// At rest: exactly what there was. The name has seconds, so this one needs a folder of its own.
	still := t.TempDir()
	file := h.backup(first, still)
	before := sums(t, first)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode is %v (%v), want 0600", info.Mode(), err)
	}
	third := dbtest.EmptyURL(t)
	h.must(third, "./restore.sh", file)
	if after := sums(t, third); !maps.Equal(before, after) {
		for table := range before {
			if before[table] != after[table] {
				t.Errorf("%s: %s before, %s after", table, before[table], after[table])
			}
		}
	}
	stop = h.serve(third)
	h.must(third, h.program, "stripe", "test")
	h.must(third, h.program, "credentials", "rotate")
	stop()
	h.must(third, h.program, "verify")

	// A role that row-level security binds sees every row as well: as the owner.
	dbtest.Super(t, first, `CREATE ROLE drill LOGIN CREATEROLE; GRANT ringfence_owner, ringfence_app, ringfence_system TO drill`)
	t.Cleanup(func() { dbtest.Super(t, first, `DROP ROLE drill`) })
	bound := strings.Replace(first, "://ringfence@", "://drill@", 1)
	if bound == first {
		t.Fatalf("the address names no user: %s", first)
	}
	asOwner := h.backup(bound, t.TempDir())
	fourth := dbtest.EmptyURL(t)
	// Where the settings are not at hand there is nothing to verify with, and that is no failure: what is there is restored.
	if out := h.must(fourth, "env", "-u", "RINGFENCE_ENV", "./restore.sh", asOwner); !strings.Contains(out, "restored") || !strings.Contains(out, "now run `ringfence verify`") {
		t.Errorf("restoring without the settings says:\n%s", out)
	}
	if after := sums(t, fourth); !maps.Equal(before, after) {
		t.Error("the backup by a role without privileges is another")
	}

	// What must not happen.
	if out, err := h.run(third, "./restore.sh", file); err == nil || !strings.Contains(out, "not empty") {
		t.Errorf("restored over a database that is not empty: %v %s", err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	fifth := dbtest.EmptyURL(t)
	if out, err := h.run(fifth, "./restore.sh", file); err == nil || !strings.Contains(out, "checksum differs") {
		t.Errorf("restored a file that was changed: %v %s", err, out)
	}
	if report, err := json.Marshal(map[string]any{"tables": len(before) - 1, "bytes": len(raw), "ledger_postings": before["ledger_postings"]}); err == nil {
		t.Logf("restored %s", report)
	}
}
