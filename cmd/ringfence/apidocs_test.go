package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
)

// shell runs a script as somebody with the program at bin/ringfence does, and gives what it printed.
func (e environment) shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "ringfence")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", script)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	cmd.Env = []string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	for name, value := range e {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// docs is a file of the documents.
func docs(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAPIDocuments follows the API's documents on a real server: what they say to paste is pasted, and must come out as they
// say.
func TestAPIDocuments(t *testing.T) {
	t.Parallel()
	e := development(t, dbtest.EmptyURL(t))
	server := e.spawn(t, "serve")
	server.ready(t, e.base())
	t.Run("docs/api.md", func(t *testing.T) { walkThrough(t, e) })
	t.Run("docs/gates.sh", func(t *testing.T) { gatesScript(t, e) })
	e.verify(t)
	t.Run("in a browser", func(t *testing.T) { readReference(t, e) })
	if code := server.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("the server exits %d:\n%s", code, &server.log)
	}
	clean(t, server.log.String())
}

// fence is a block of code in a document: its kind and what is in it.
var fence = regexp.MustCompile("(?s)\n```(sh|json|text)\n(.*?)\n```\n")

// walkThrough pastes the commands of docs/api.md into one shell and compares what each prints with what stands below it.
func walkThrough(t *testing.T, e environment) {
	page, err := os.ReadFile(docs(t, "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	const next = "=== next ==="
	var script strings.Builder
	var want []string // of each command what it prints; "" for nothing
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		switch kind, text := m[1], m[2]; {
		case kind == "sh":
			fmt.Fprintf(&script, "echo; echo '%s'\n%s\n", next, strings.ReplaceAll(text, "BASE=http://127.0.0.1:8080", "BASE="+e.base()))
			want = append(want, "")
		case len(want) == 0 || want[len(want)-1] != "":
			t.Fatalf("no command prints this:\n%s", text)
		default:
			want[len(want)-1] = text
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "walk.sh")
	if err := os.WriteFile(file, []byte("set -eu\n"+script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := e.shell(t, dir, file)
	parts := strings.Split(out, next)[1:]
	if err != nil || len(parts) != len(want) || len(want) < 10 {
		t.Fatalf("%d commands printed %d answers, %v:\n%s", len(want), len(parts), err, out)
	}
	for i, got := range parts {
		same(t, want[i], strings.TrimSpace(got), e.base())
	}
}

// same compares what was printed with what the document says: JSON by what it means, without what is another each time.
func same(t *testing.T, want, got, base string) {
	t.Helper()
	var w, g any
	if json.Unmarshal([]byte(want), &w) != nil {
		if got != want {
			t.Errorf("printed is\n%s\nand the document says\n%s", got, want)
		}
		return
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(got, base, "http://127.0.0.1:8080")), &g); err != nil {
		t.Errorf("%v: %s", err, got)
		return
	}
	for _, v := range []any{w, g} {
		if fields, ok := v.(map[string]any); ok {
			for _, name := range []string{"id", "hold_id", "request_id", "created_at", "expires_at", "from"} {
				if s, ok := fields[name].(string); ok && s != "" {
					fields[name] = "another each time"
				}
			}
		}
	}
	if !reflect.DeepEqual(w, g) {
		t.Errorf("printed is\n%s\nand the document says\n%s", got, want)
	}
}

// gatesScript runs docs/gates.sh, and shows that it notices what is not as it should be.
func gatesScript(t *testing.T, e environment) {
	if info, err := os.Stat(docs(t, "gates.sh")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("it cannot be executed: %v", err)
	}
	dir := t.TempDir()
	if out, err := e.shell(t, dir, docs(t, "gates.sh")); err == nil || !strings.Contains(out, "Set KEY") {
		t.Errorf("without a key: %v\n%s", err, out)
	}
	code, out, log := e.run(t, "apikey", "create", "--org", "Second Tenant", "--name", "gates")
	if code != 0 {
		t.Fatalf("apikey create exits %d:\n%s%s", code, out, log)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	with := e.with(environment{"BASE": e.base(), "KEY": lines[len(lines)-1]})
	credit := func(reference string, pence int) {
		t.Helper()
		if code, out, log := e.run(t, "credit", "--org", "Second Tenant", fmt.Sprintf("--amount-pence=%d", pence), "--reason", "To try the gates", "--reference", reference); code != 0 {
			t.Fatalf("credit exits %d:\n%s%s", code, out, log)
		}
	}
	balance := func() (balance, held int) {
		t.Helper()
		var w struct {
			Balance int `json:"balance_pence"`
			Held    int `json:"held_pence"`
		}
		status, body := e.asks(t, "Bearer "+with["KEY"])
		if err := json.Unmarshal([]byte(body), &w); err != nil || status != http.StatusOK {
			t.Fatalf("the wallet: %d %s", status, body)
		}
		return w.Balance, w.Held
	}
	before, _ := balance()
	credit("empty", -before)
	if out, err := with.shell(t, dir, docs(t, "gates.sh")); err == nil || !strings.Contains(out, "want 1200p") {
		t.Errorf("with an empty wallet: %v\n%s", err, out)
	}
	credit("gates", 1200)
	out, err := with.shell(t, dir, docs(t, "gates.sh"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, step := range []string{"Gate 1", "Gate 2", "Gate 3", "Gate 4", "Gate 5", "needs 79p, has 78p, 1p short", "two at once on the last penny", "Every gate holds."} {
		want(t, "the script", out, step)
	}
	if now, held := balance(); now != 1200-40 || held != 0 {
		t.Errorf("after the script the balance is %dp with %dp held, want 1160p and none", now, held)
	}
	credit("more", 40+100_000)
	if out, err := with.with(environment{"BUY": "1"}).shell(t, dir, docs(t, "gates.sh")); err != nil { // also with much to set aside, and a number
		t.Errorf("once more: %v\n%s", err, out)
	}
	// A price that is not as the script expects it ends the script.
	dbtest.Super(t, e["DATABASE_URL"], `INSERT INTO prices (action, state, unit_pence, starts_at, created_at, author, reason) VALUES ('knowledge', 'on', 2, now(), now(), 'system:test', 'test')`)
	until(t, "the script to notice", func() bool { // the rate card is remembered for a second
		out, err = with.shell(t, dir, docs(t, "gates.sh"))
		return err != nil
	})
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || strings.Contains(out, "Every gate holds") { //nolint:errorlint // not wrapped
		t.Errorf("with another price: %v\n%s", err, out)
	}
	if _, held := balance(); held != 0 {
		t.Errorf("a script that stopped leaves %dp held", held)
	}
}

// readReference looks at the reference, and how one gets there.
func readReference(t *testing.T, e environment) {
	b := browsertest.Start(t)
	tab := b.Visit(t, browsertest.View{})
	tab.Open(e.base() + "/login")
	tab.Leave(`a[href="/api/docs"]`)
	want(t, "the page", tab.Text("h1"), "Ringfence API")
	tab.Everywhere("api-docs")
	for _, width := range []int64{browsertest.Phone, 700, 1024, browsertest.Desktop} {
		tab.Look(browsertest.View{Width: width, Height: 900})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("api-docs-whole-%d", width))
	}
	tab.Look(browsertest.View{})
	tab.Click(`nav[aria-label="On this page"] a[href="#createHold"]`)
	tab.WaitFor("the operation to be in view", `location.hash === "#createHold" && document.querySelector("#createHold").getBoundingClientRect().top < 200`)
	tab.Screenshot("api-docs-operation")
	// What does not fit is scrolled by itself, and the keyboard gets there.
	tab.Look(browsertest.View{Width: browsertest.Phone, Height: 812})
	tab.WaitFor("code that scrolls", `[...document.querySelectorAll("pre")].some(p => p.scrollWidth > p.clientWidth)`)
	tab.WaitFor("no code out of the keyboard's reach", `[...document.querySelectorAll("pre")].every(p => p.tabIndex === 0)`)

	plain := b.Visit(t, browsertest.View{NoScripts: true})
	plain.Open(e.base() + "/api/docs#codes")
	want(t, "the codes", plain.Text("#codes"), "idempotency_key_reused")

	tab = b.Visit(t, browsertest.View{})
	c := signedIn(t, e.base(), owner).cookie()
	tab.SetCookie(e.base(), c.Name, c.Value)
	tab.Open(e.base() + "/settings/keys")
	tab.Leave(`#keys a[href="/api/docs"]`)
	want(t, "the same page", tab.Text("h1"), "Ringfence API")
}
