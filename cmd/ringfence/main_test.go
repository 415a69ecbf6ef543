package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/sandbox"
)

// asProgram makes this test binary run as the program itself: real processes to signal and to kill, without another
// build, and with the race detector when the tests have it.
const asProgram = "RINGFENCE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// These tests wait as much as they work: for rounds of jobs, for letters, for time-outs. Whoever says -parallel decides.
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		panic(err)
	}
	dbtest.Main(m, pagesHold)
}

// longest is how long anything may take that a test waits for; the race detector makes all of it several times as slow.
var longest = map[bool]time.Duration{false: 30 * time.Second, true: 2 * time.Minute}[raceDetector]

// The people of the demo.
const (
	owner    = "owner@harbour.example"
	viewer   = "viewer@harbour.example"
	stranger = "owner@second.example"
	operator = "operator@ringfence.example"
)

// canary is a part of every secret that a test hands to the program: it must come out nowhere.
const canary = "CaNaRy7f3a"

// environment is what a process is given, and nothing else.
type environment map[string]string

// development is an environment with its own data, its own free ports and secrets of its own.
func development(t testing.TB, databaseURL string) environment {
	t.Helper()
	key := append([]byte(canary), make([]byte, 32)...)
	_, _ = rand.Read(key[len(canary):])
	return environment{
		"RINGFENCE_ENV": "development", "RINGFENCE_DATA_DIR": t.TempDir(), "DATABASE_URL": databaseURL,
		"RINGFENCE_ADDR": freeAddr(t), "RINGFENCE_SANDBOX_ADDR": freeAddr(t), "SMTP_URL": "smtp://" + freeAddr(t),
		"RINGFENCE_SESSION_KEYS": base64.StdEncoding.EncodeToString(key),
		"STRIPE_SECRET_KEY":      "sk_test_" + canary + rand.Text(),
		"STRIPE_WEBHOOK_SECRET":  "whsec_" + canary + rand.Text(),
		"USER":                   "tester",
	}
}

// with is the environment with some of it changed; "" unsets.
func (e environment) with(changes environment) environment {
	changed := maps.Clone(e)
	maps.Copy(changed, changes)
	return changed
}

func (e environment) getenv(name string) string { return e[name] }

// run runs one command to its end, in this process.
func (e environment) run(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), longest)
	defer cancel()
	code = run(ctx, args, e.getenv, &out, &log)
	return code, out.String(), log.String()
}

// verify fails the test unless every invariant of the books holds.
func (e environment) verify(t testing.TB) {
	t.Helper()
	if code, out, log := e.run(t, "verify"); code != 0 || !strings.Contains(out, "invariants hold.") {
		t.Errorf("verify exits %d:\n%s%s", code, out, log)
	}
}

func (e environment) base() string        { return "http://" + e["RINGFENCE_ADDR"] }
func (e environment) sandboxBase() string { return "http://" + e["RINGFENCE_SANDBOX_ADDR"] }

// handedOut are the addresses that freeAddr gave away.
var handedOut sync.Map

// freeAddr is a loopback address that nothing listens on, and that no other test was given. It lies below the ports that
// systems give to connections, one of which could take it before it is listened on.
func freeAddr(t testing.TB) string {
	t.Helper()
	for {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(12_000)))
		if err != nil && t.Context().Err() == nil {
			continue // somebody has it
		} else if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, taken := handedOut.LoadOrStore(addr, true); !taken {
			return addr
		}
	}
}

// output collects what a program writes while others read it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// program is a server that runs in this process.
type program struct {
	environment

	log *output
}

// serve starts the whole program on a database without anything in it and stops it with the test. What it logged is checked then.
func serve(t testing.TB) *program {
	t.Helper()
	p := newProgram(t)
	p.start(t, "serve")
	return p
}

// newProgram is one that is yet to be started.
func newProgram(t testing.TB) *program {
	t.Helper()
	p := &program{development(t, dbtest.URL(t)), &output{}}
	t.Cleanup(func() { clean(t, p.log.String()) })
	return p
}

// start runs a command that lasts until the test ends, and waits until it is ready.
func (p *program) start(t testing.TB, args ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	var out output
	go func() { ended <- run(ctx, args, p.getenv, &out, p.log) }()
	t.Cleanup(func() {
		stop()
		select {
		case code := <-ended:
			if code != 0 {
				t.Errorf("%v ends with %d:\n%s", args, code, p.log)
			}
		case <-time.After(longest):
			t.Errorf("%v does not stop:\n%s", args, p.log)
		}
	})
	until(t, "the server to be ready", func() bool {
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("%v ended with %d:\n%s", args, code, p.log)
		default:
		}
		return answers(p.base() + "/readyz")
	})
}

// answers reports whether a GET of the address is answered with 200.
func answers(address string) bool {
	res, err := http.Get(address)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// until waits for the condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(longest)
	defer deadline.Stop()
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// clean checks a log: JSON lines, each of a request with its id, and no secret anywhere.
func clean(t testing.TB, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a line of the log is no JSON (%v): %s", err, line)
			continue
		}
		if entry["msg"] == "request" && entry["request_id"] == nil {
			t.Errorf("a request is logged without its id: %s", line)
		}
	}
	for _, secret := range []string{canary, auth.DemoPassword, base64.StdEncoding.EncodeToString([]byte(canary))[:12]} {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("a secret is logged: …%s…", log[max(0, i-200):min(len(log), i+100)])
		}
	}
}

// books are what the sandbox's Stripe would pay out.
func (e environment) books(t testing.TB) sandbox.Books {
	t.Helper()
	res, err := http.Get(e.sandboxBase() + "/sandbox/stripe/books")
	if err != nil {
		t.Fatal(err)
	}
	var b sandbox.Books
	if err := errors.Join(json.NewDecoder(res.Body).Decode(&b), res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// settle ends a payment by bank debit.
func (e environment) settle(t testing.TB, session string) {
	t.Helper()
	res, err := http.PostForm(e.sandboxBase()+"/sandbox/stripe/sessions/"+session+"/settle", url.Values{"outcome": {"succeed"}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("settling answers %s: %s (%v)", res.Status, body, err)
	}
}

// booksAgree compares the sandbox's books with ours, payment by payment, and runs verify.
func (p *program) booksAgree(t testing.TB) {
	t.Helper()
	p.verify(t)
	var ours []struct {
		PaymentIntent string `db:"payment_intent"`
		AmountPence   int64  `db:"amount_pence"`
	}
	dbtest.Select(t, p.getenv("DATABASE_URL"), &ours, `
		SELECT payment_intent, amount_pence FROM (
		    SELECT payment_intent, amount_pence - coalesce((SELECT sum(amount_pence) FROM reversals r WHERE r.payment_intent = c.payment_intent), 0)::bigint AS amount_pence
		    FROM credits c) left_of WHERE amount_pence <> 0 ORDER BY payment_intent`)
	credited := map[string]int64{}
	for _, c := range ours {
		credited[c.PaymentIntent] = c.AmountPence
	}
	received := map[string]int64{}
	for _, payment := range p.books(t).Payments {
		if payment.Net != 0 {
			received[payment.ID] = payment.Net
		}
	}
	if !maps.Equal(credited, received) {
		t.Errorf("the books differ: Stripe has %v, we have %v", received, credited)
	}
}

// count is the rows of a table, read past every policy.
func (p *program) count(t testing.TB, query string, args ...any) int {
	t.Helper()
	var n int
	dbtest.Get(t, p.getenv("DATABASE_URL"), &n, query, args...)
	return n
}

// person is somebody with a browser that only speaks HTTP.
type person struct {
	t    testing.TB
	base string
	http http.Client
	page string // the last one, for its form's token
}

// somebody has no cookies yet and follows no redirects.
func somebody(t testing.TB, base string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{t: t, base: base, http: http.Client{
		Jar: jar, Timeout: longest,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// signedIn is somebody who came in by the form.
func signedIn(t testing.TB, base, email string) *person {
	t.Helper()
	p := somebody(t, base)
	p.get("/login", http.StatusOK)
	res := p.post("/login", url.Values{"email": {email}, "password": {auth.DemoPassword}}, http.StatusSeeOther)
	if res.to != "/dashboard" {
		t.Fatalf("signing in leads to %q", res.to)
	}
	return p
}

// answer is what somebody was answered, read to its end.
type answer struct {
	to   string // where a redirect leads
	body string
}

// get loads a page and checks its status.
func (p *person) get(path string, want int) answer {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(p.t.Context()), http.MethodGet, p.address(path), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(req, want)
}

// post sends a form with the token of the page that was loaded last, and checks the status.
func (p *person) post(path string, form url.Values, want int) answer {
	p.t.Helper()
	if m := csrfField.FindStringSubmatch(p.page); m != nil && !form.Has("csrf_token") {
		form.Set("csrf_token", m[1])
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(p.t.Context()), http.MethodPost, p.address(path), strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	u, err := url.Parse(p.address(path))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Origin", u.Scheme+"://"+u.Host)
	return p.do(req, want)
}

// csrfField is the contract's: the name before the value.
var csrfField = regexp.MustCompile(`<input type="hidden" name="csrf_token" value="([^"]+)"`)

func (p *person) do(req *http.Request, want int) answer {
	p.t.Helper()
	req.Header.Set("Accept", "text/html")
	res, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		p.t.Fatal(err)
	}
	if csrfField.Match(body) { // pages without a form leave the last token in force
		p.page = string(body)
	}
	if res.StatusCode != want {
		p.t.Fatalf("%s %s answers %s, want %d:\n%s", req.Method, req.URL.Path, res.Status, want, body)
	}
	return answer{res.Header.Get("Location"), string(body)}
}

func (p *person) address(path string) string {
	if strings.HasPrefix(path, "http://") {
		return path
	}
	return p.base + path
}

// cookie is the one that says who the person is.
func (p *person) cookie() *http.Cookie {
	p.t.Helper()
	u, err := url.Parse(p.base)
	if err != nil {
		p.t.Fatal(err)
	}
	cookies := p.http.Jar.Cookies(u)
	i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == "ringfence" })
	if i < 0 {
		p.t.Fatalf("no cookie ringfence among %v", cookies)
	}
	return cookies[i]
}

// checkout begins a top-up in pounds and gives the address of the page to pay on.
func (p *person) checkout(amount string) string {
	p.t.Helper()
	p.get("/wallet", http.StatusOK)
	to := p.post("/wallet/top-ups", url.Values{"amount": {amount}, "currency": {"gbp"}}, http.StatusSeeOther).to
	if !strings.HasPrefix(to, "http://127.0.0.1:") || strings.ContainsAny(to, "?#") {
		p.t.Fatalf("the checkout is at %q", to)
	}
	return to
}

// balance is what the wallet page says.
func (p *person) balance() string {
	p.t.Helper()
	page := p.get("/wallet", http.StatusOK).body
	m := balanceAmount.FindStringSubmatch(page)
	if m == nil {
		p.t.Fatalf("no balance in the page:\n%s", page)
	}
	return m[1]
}

var balanceAmount = regexp.MustCompile(`(?s)id="balance-amount"[^>]*>.*?(-?£[0-9.,]+)`)

// waitBalance waits until the wallet page says so.
func (p *person) waitBalance(want string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("a balance of %s", want), func() bool { return p.balance() == want })
}
