package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"ringfence/db/dbtest"
	"ringfence/internal/auth/gotruetest"
	"ringfence/internal/browsertest"
)

// asks is GET /api/v1/wallet with this Authorization header; "" sends none.
func (e environment) asks(t testing.TB, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.base()+"/api/v1/wallet", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// A key made at the command line opens the API at once, is listed without its secret, and is refused within a second of
// being revoked.
func TestAPIKeyCommand(t *testing.T) {
	t.Parallel()
	p := serve(t)
	code, out, log := p.run(t, "apikey", "create", "--org", "Harbour Dental", "--name", "Till")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	key := lines[len(lines)-1]
	if code != 0 || !regexp.MustCompile(`^rf_test_[A-Za-z0-9_.-]+$`).MatchString(key) {
		t.Fatalf("apikey create exits %d:\n%s%s", code, out, log)
	}
	if status, body := p.asks(t, "Bearer "+key); status != http.StatusOK ||
		body != `{"balance_pence":56900,"held_pence":0,"debt_pence":0,"available_pence":56900,"currency":"gbp"}` {
		t.Errorf("the wallet: %d %s", status, body)
	}
	prefix := strings.Split(key, "_")[2]
	code, out, _ = p.run(t, "apikey", "list", "--org", "Harbour Dental")
	if code != 0 || !strings.Contains(out, prefix) || strings.Contains(out, key) || !strings.Contains(out, "knowledge:read") {
		t.Errorf("apikey list exits %d:\n%s", code, out)
	}
	for _, args := range [][]string{
		{"create", "--org", "Nobody", "--name", "x"},
		{"create", "--org", "Harbour Dental", "--name", "x", "--scopes", "everything"},
		{"revoke", "--org", "Second Tenant", "--prefix", prefix},
	} {
		if code, out, _ := p.run(t, append([]string{"apikey"}, args...)...); code != 1 || strings.Contains(out, "rf_") {
			t.Errorf("%v exits %d:\n%s", args, code, out)
		}
	}
	if code, _, log := p.run(t, "apikey", "revoke", "--org", "Harbour Dental", "--prefix", prefix); code != 0 {
		t.Fatalf("apikey revoke exits %d:\n%s", code, log)
	}
	began := time.Now()
	until(t, "the key to be refused", func() bool {
		status, _ := p.asks(t, "Bearer "+key)
		return status == http.StatusUnauthorized
	})
	if took := time.Since(began); took > time.Second {
		t.Errorf("the key worked for another %s", took)
	}
	if strings.Contains(p.log.String(), key) {
		t.Error("the key is in the log")
	}
}

// Development's user: only when asked for, and the program says so.
func TestDevUserSetting(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	p.environment["RINGFENCE_DEV_USER"] = stranger
	p.start(t, "serve")
	if status, body := p.asks(t, ""); status != http.StatusOK || !strings.Contains(body, `"balance_pence":0`) {
		t.Errorf("without a credential: %d %s", status, body)
	}
	if status, _ := p.asks(t, "Bearer x"); status != http.StatusUnauthorized {
		t.Errorf("a credential that does not hold: %d", status)
	}
	if !strings.Contains(p.log.String(), "need no credential") {
		t.Error("the log does not warn")
	}
	for _, change := range []environment{{"RINGFENCE_ADDR": "0.0.0.0:8080"}, {"RINGFENCE_ENV": "production"}} {
		if code, _, log := p.with(change).run(t, "serve"); code != 2 || !strings.Contains(log, "RINGFENCE_") {
			t.Errorf("%v: exits %d\n%s", change, code, log)
		}
	}
}

// The whole program with Supabase in front: sign-in by its password, JWTs of its key, not ready while it has given none.
func TestSupabaseProgram(t *testing.T) {
	t.Parallel()
	project := gotruetest.New(t, gotruetest.Options{Alg: "ES256", Now: time.Now})
	const email, pass = "member@north.example", "correct horse battery"
	subject := project.AddUser(email, pass, nil)
	databaseURL := dbtest.EmptyURL(t)
	p := &program{development(t, databaseURL), &output{}}
	t.Cleanup(func() { clean(t, p.log.String()) })
	p.environment["RINGFENCE_AUTH"], p.environment["SUPABASE_URL"], p.environment["SUPABASE_ANON_KEY"] = "supabase", project.URL, gotruetest.AnonKey
	p.start(t, "serve")
	var org string
	dbtest.Get(t, databaseURL, &org, `SELECT id FROM organizations WHERE name = 'Harbour Dental'`)
	token, err := project.Sign(project.Claims(subject, email, map[string]any{"org_id": org}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := p.asks(t, "Bearer "+token); status != http.StatusUnauthorized {
		t.Errorf("a user who is no member: %d", status)
	}
	dbtest.Super(t, databaseURL, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES (gen_random_uuid(), $1, $2, $3, now())`, project.Issuer(), subject, email)
	dbtest.Super(t, databaseURL, `INSERT INTO memberships SELECT $1, id, 'owner', now() FROM users WHERE subject = $2`, org, subject)
	if status, body := p.asks(t, "Bearer "+token); status != http.StatusOK || !strings.Contains(body, `"balance_pence":56900`) {
		t.Errorf("the member: %d %s", status, body)
	}
	if status, _ := p.asks(t, "Bearer "+token[:len(token)-2]); status != http.StatusUnauthorized {
		t.Errorf("a signature that was cut: %d", status)
	}
	if _, out, _ := p.run(t, "doctor"); !strings.Contains(out, "ok      supabase") {
		t.Errorf("doctor does not see the project:\n%s", out)
	}
	tab := browsertest.Start(t).Visit(t, browsertest.View{})
	tab.Open(p.base() + "/login")
	if tab.Count("#demo-title") != 0 {
		t.Error("demo accounts are offered that cannot sign in")
	}
	tab.Type("#email", email)
	tab.Type("#password", pass)
	tab.Leave(loginButton)
	tab.WaitPath("/dashboard")
	want(t, "the dashboard", tab.Text("#balance-amount"), "£569.00")
}

// TestIdentityPages makes an account, protects it, and signs in with the second factor, as a person does; then again
// without scripts.
func TestIdentityPages(t *testing.T) {
	t.Parallel()
	p := serve(t)
	b := browsertest.Start(t)
	for name, v := range map[string]browsertest.View{"scripts": {}, "no scripts": {NoScripts: true}} {
		t.Run(name, func(t *testing.T) {
			identityPages(t, p, b.Visit(t, v), strings.ReplaceAll(name, " ", "-"), !v.NoScripts)
		})
	}
	p.verify(t)
}

func identityPages(t *testing.T, p *program, tab *browsertest.Tab, name string, scripts bool) {
	email, pass := name+"@house.example", "a fresh start, today"
	look := func(page string) {
		if scripts { // axe is one
			tab.Everywhere("identity-" + page)
		}
	}
	tab.Open(p.base() + "/signup")
	look("sign-up")
	tab.Type("#organisation", "House of "+name)
	tab.Type("#email", email)
	tab.Type("#password", pass)
	tab.Leave(`form[action="/signup"] button`)
	tab.WaitPath("/dashboard")
	want(t, "the new wallet", tab.Text("#balance-amount"), "£0.00")

	choosesColours(t, tab, p.base())
	tab.Open(p.base() + "/settings/keys")
	tab.Type("#key-name", "Till")
	tab.Expect("status of 422")
	tab.Leave("#key-submit")
	tab.WaitFor("the first field that is wrong in the focus", `document.activeElement.name === "scopes"`)
	tab.Click(`label:has([value="wallet:read"])`)
	tab.Leave(`form[action="/settings/keys"] button`)
	key := tab.Text("#new-key-value")
	if scripts {
		tab.WaitFor("what was done in the focus", `document.activeElement.id === "new-key"`)
		asksBefore(t, tab, key)
	}
	if status, body := p.asks(t, "Bearer "+key); status != http.StatusOK || !strings.Contains(body, `"balance_pence":0`) {
		t.Errorf("the key of the page: %d %s", status, body)
	}
	look("keys")
	for _, page := range []string{"settings/security", "settings"} {
		tab.Open(p.base() + "/" + page)
		if scripts {
			tab.Steady()
		}
		look(strings.ReplaceAll(page, "/", "-"))
	}
	tab.Open(p.base() + "/settings/second-factor")
	look("factor-off")
	tab.Leave(`form[action="/settings/second-factor"] button`)
	secret := strings.ReplaceAll(tab.Text("#factor-secret"), "-", "")
	look("factor-waits")
	now := func(ahead time.Duration) string {
		code, err := totp.GenerateCode(secret, time.Now().Add(ahead))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	tab.Type("#code", now(0))
	tab.Leave(`form[action$="/confirm"] button`)
	want(t, "recovery codes", tab.Text("h1"), "Your recovery codes")
	look("recovery-codes")
	tab.Open(p.base() + "/settings/second-factor")
	look("factor-on")

	tab.Leave(`form[action="/logout"] button`)
	tab.Open(p.base() + "/login")
	tab.Type("#email", email)
	tab.Type("#password", pass)
	tab.Leave(loginButton)
	tab.WaitPath("/login/second-factor")
	look("factor")
	tab.Type("#code", now(30*time.Second)) // the next step's: the present one was used
	tab.Leave(`form[action="/login/second-factor"] button`)
	tab.WaitPath("/dashboard")
}

// choosesColours has the person choose dark ones on a device that prefers light ones, and take that back.
func choosesColours(t *testing.T, tab *browsertest.Tab, base string) {
	t.Helper()
	const canvas = `getComputedStyle(document.documentElement).backgroundColor`
	tab.Open(base + "/settings")
	light := browsertest.Eval[string](tab, canvas)
	tab.Leave("#theme-dark")
	tab.Open(base + "/wallet")
	dark := browsertest.Eval[string](tab, canvas)
	if dark == light || browsertest.Eval[string](tab, `getComputedStyle(document.documentElement).colorScheme`) != "dark" {
		t.Errorf("dark colours were chosen, and the page is %s as before", dark)
	}
	tab.Open(base + "/settings")
	tab.Leave("#theme-")
	if got := browsertest.Eval[string](tab, canvas); got != light {
		t.Errorf("like the device again, and the page is %s, not %s", got, light)
	}
}

// asksBefore copies the key, begins to revoke it with the keyboard, and leaves it.
func asksBefore(t *testing.T, tab *browsertest.Tab, key string) {
	t.Helper()
	browsertest.Eval[bool](tab, `navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve() }, true`)
	tab.Click("#new-key [data-copy]")
	tab.WaitText("#said", "Copied")
	if got := browsertest.Eval[string](tab, `window.copied`); got != key {
		t.Errorf("%q was copied, not %q", got, key)
	}
	browsertest.Eval[bool](tab, `document.querySelector("[id^=revoke-] summary").focus(), true`)
	tab.Press("\r")
	tab.WaitFor("the question", `document.querySelector("[id^=revoke-]").open`)
	want(t, "what it does", tab.Text("[id^=revoke-] p"), "cannot be undone")
	tab.Press("\t")
	tab.WaitFor("the next stop of the keyboard in the question", `document.activeElement.id.startsWith("revoke-submit-")`)
	tab.Press("\x1b")
	tab.WaitFor("the focus back at the word", `document.activeElement.tagName === "SUMMARY" && !document.querySelector("[id^=revoke-]").open`)
}
