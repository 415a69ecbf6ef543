package handlers_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
	"ringfence/internal/auth/gotruetest"
	"ringfence/internal/wallet"
)

var sessionKey = bytes.Repeat([]byte("k"), 32)

// identitySite is a site with all of identity switched on.
func identitySite(t *testing.T, opts ...func(*options)) *site {
	t.Helper()
	var s *site
	s = newSite(t, append([]func(*options){func(o *options) {
		o.auth.SealKeys, o.auth.Now = [][]byte{sessionKey}, time.Now
		o.auth.OpenWallet = func(ctx context.Context, org uuid.UUID) error {
			return s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error { return wallet.Open(ctx, tx, org) })
		}
		o.deps = func(d *handlers.Deps) { d.SignUp = true }
	}}, opts...)...)
	return s
}

// factor turns the browser's second factor on and gives its secret and the recovery codes.
func (b *browser) factor() (secret string, codes []string) {
	b.s.t.Helper()
	const page = "/settings/second-factor"
	wantStatus(b.s.t, "begin", b.send(page, page, nil), http.StatusSeeOther)
	doc := b.get(page).doc(b.s.t)
	secret = strings.ReplaceAll(doc.Find("#factor-secret").Text(), "-", "")
	if doc.Find("svg path[d^='M4 4h1v1h-1z']").Length() != 1 || secret == "" {
		b.s.t.Fatal("neither drawing nor text of the secret")
	}
	res := b.send(page, page+"/confirm", url.Values{"code": {"000000"}})
	wantStatus(b.s.t, "wrong code", res, http.StatusUnprocessableEntity)
	if doc := res.doc(b.s.t); doc.Find("#code-error").Text() == "" || strings.ReplaceAll(doc.Find("#factor-secret").Text(), "-", "") != secret {
		b.s.t.Error("the form did not come back as it was")
	}
	res = b.send(page, page+"/confirm", url.Values{"code": {totpCode(b.s.t, secret, time.Now())}})
	wantStatus(b.s.t, "confirm", res, http.StatusOK)
	for _, li := range res.doc(b.s.t).Find("#recovery-codes li").EachIter() {
		codes = append(codes, li.Text())
	}
	if len(codes) != 10 {
		b.s.t.Fatalf("%d recovery codes", len(codes))
	}
	return secret, codes
}

func totpCode(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestSecondFactorAtSignIn(t *testing.T) {
	s := identitySite(t)
	other := s.as("owner@harbour.example")
	b := s.as("owner@harbour.example")
	_, codes := b.factor()
	wantStatus(t, "this browser", b.get("/dashboard"), http.StatusOK)
	wantStatus(t, "the other browser", other.get("/dashboard"), http.StatusSeeOther)
	if res := b.get("/settings/second-factor"); strings.Contains(res.body, "factor-secret") || !strings.Contains(res.body, "10 recovery codes are left.") {
		t.Error("the secret is shown again, or the codes are not counted")
	}

	c := s.browser()
	res := c.tryLogin("owner@harbour.example", password, "next", "/wallet?a=b")
	if wantStatus(t, "password", res, http.StatusSeeOther); res.Header.Get("Location") != "/login/second-factor?next=%2Fwallet%3Fa%3Db" {
		t.Errorf("sent to %s", res.Header.Get("Location"))
	}
	page := res.Header.Get("Location")
	half := c.cookie()
	for _, path := range []string{"/dashboard", "/wallet", "/settings"} {
		wantStatus(t, "half signed in: "+path, c.get(path), http.StatusSeeOther)
	}
	wantStatus(t, "half signed in: API", c.get("/api/v1/wallet"), http.StatusUnauthorized)
	res = c.send(page, "/login/second-factor", url.Values{"code": {"123456"}, "next": {"/wallet?a=b"}})
	wantStatus(t, "wrong code", res, http.StatusUnprocessableEntity)
	if doc := res.doc(t); doc.Find("#code-error").Text() == "" || doc.Find("input[name=next]").AttrOr("value", "") != "/wallet?a=b" || doc.Find("nav").Length() != 0 {
		t.Errorf("the form did not come back:\n%s", res.body)
	}
	wantStatus(t, "no token", c.post("/login/second-factor", url.Values{"code": {codes[0]}}), http.StatusForbidden)
	res = c.send(page, "/login/second-factor", url.Values{"code": {codes[0]}, "next": {"/wallet?a=b"}})
	if wantStatus(t, "recovery code", res, http.StatusSeeOther); res.Header.Get("Location") != "/wallet?a=b" {
		t.Errorf("sent to %s", res.Header.Get("Location"))
	}
	wantStatus(t, "signed in", c.get("/dashboard"), http.StatusOK)
	// What was half signed in opens nothing, and cannot be finished again.
	d := s.browser()
	for _, path := range []string{"/dashboard", "/settings"} {
		wantStatus(t, "the old cookie: "+path, d.get(path, "Cookie", half.String()), http.StatusSeeOther)
	}
	wantStatus(t, "nothing to finish", s.browser().get("/login/second-factor"), http.StatusSeeOther)
	for i := range 5 {
		e := s.browser()
		wantStatus(t, "password", e.tryLogin("owner@harbour.example", password), http.StatusSeeOther)
		res = e.send("/login/second-factor", "/login/second-factor", url.Values{"code": {codes[0]}})
		wantStatus(t, "used code", res, http.StatusUnprocessableEntity)
		if i == 4 {
			res = e.send("/login/second-factor", "/login/second-factor", url.Values{"code": {codes[1]}})
			if wantStatus(t, "blocked", res, http.StatusTooManyRequests); res.Header.Get("Retry-After") == "" {
				t.Error("not told when to come back")
			}
			wantStatus(t, "leaving", e.send("/login/second-factor", "/logout", nil), http.StatusSeeOther)
			wantStatus(t, "left", e.get("/login/second-factor"), http.StatusSeeOther)
		}
	}
}

func TestOperatorsNeedAFactor(t *testing.T) {
	s := identitySite(t, func(o *options) { o.deps = func(d *handlers.Deps) { d.OperatorsNeedFactor = true } })
	b := s.as("operator@ringfence.example")
	for _, rt := range handlers.Routes() {
		if rt.Access == handlers.Operator && rt.Method == http.MethodGet {
			res := b.get(path(rt.Pattern))
			if wantStatus(t, rt.Pattern, res, http.StatusSeeOther); res.Header.Get("Location") != "/settings/second-factor" {
				t.Errorf("%s: sent to %s", rt.Pattern, res.Header.Get("Location"))
			}
			res = b.get(path(rt.Pattern), "HX-Request", "true")
			if wantStatus(t, rt.Pattern, res, http.StatusForbidden); res.Header.Get("HX-Redirect") != "/settings/second-factor" {
				t.Errorf("%s: a fragment is led to %q", rt.Pattern, res.Header.Get("HX-Redirect"))
			}
			wantStatus(t, rt.Pattern+" for an owner", s.as("owner@harbour.example").get(path(rt.Pattern)), http.StatusNotFound)
		}
	}
	if res := b.get("/settings/second-factor"); !strings.Contains(res.body, "Operators need two-step sign-in") {
		t.Errorf("not told why:\n%s", res.body)
	}
	secret, _ := b.factor()
	wantStatus(t, "with a factor", b.get("/metrics"), http.StatusOK)
	res := b.send("/settings/second-factor", "/settings/second-factor/remove", url.Values{"code": {totpCode(t, secret, time.Now().Add(30*time.Second))}})
	wantStatus(t, "turned off", res, http.StatusSeeOther)
	wantStatus(t, "without it again", b.get("/metrics"), http.StatusSeeOther)
}

func TestSignUpPage(t *testing.T) {
	s := identitySite(t)
	b := s.browser()
	if b.get("/login").doc(t).Find(`a[href="/signup"]`).Length() != 1 {
		t.Error("nobody finds the page")
	}
	form := url.Values{"organisation": {"New House"}, "email": {"new@house.example"}, "password": {"a fresh start, today"}}
	for field, value := range map[string]string{"organisation": "Harbour Dental", "email": "owner@harbour.example", "password": "short"} {
		bad := url.Values{}
		for name := range form {
			bad.Set(name, form.Get(name))
		}
		bad.Set(field, value)
		res := b.send("/signup", "/signup", bad)
		wantStatus(t, field, res, http.StatusUnprocessableEntity)
		doc := res.doc(t)
		if doc.Find("#"+field+"-error").Text() == "" || doc.Find("#password").AttrOr("value", "") != "" || doc.Find("#email").AttrOr("value", "") != bad.Get("email") {
			t.Errorf("%s: the form did not come back as it was:\n%s", field, res.body)
		}
	}
	wantStatus(t, "sign-up", b.send("/signup", "/signup", form), http.StatusSeeOther)
	if res := b.get("/wallet"); res.StatusCode != http.StatusOK || !strings.Contains(res.body, "£0.00") {
		t.Errorf("the new wallet: %s", res.Status)
	}
	wantStatus(t, "signed in already", b.get("/signup"), http.StatusSeeOther)
	wantStatus(t, "in again", s.browser().tryLogin("new@house.example", "a fresh start, today"), http.StatusSeeOther)
	closed := newSite(t)
	wantStatus(t, "closed", closed.browser().get("/signup"), http.StatusNotFound)
	wantStatus(t, "closed", closed.browser().send("/login", "/signup", form), http.StatusNotFound)
	if closed.browser().get("/login").doc(t).Find(`a[href="/signup"]`).Length() != 0 {
		t.Error("a link to nowhere")
	}
}

func TestPasswordPage(t *testing.T) {
	s := identitySite(t)
	other, b := s.as("owner@harbour.example"), s.as("owner@harbour.example")
	for field, form := range map[string]url.Values{
		"current":  {"current": {"wrong password!"}, "password": {"a fresh start, today"}},
		"password": {"current": {password}, "password": {"short"}},
	} {
		res := b.send("/settings", "/settings/password", form)
		wantStatus(t, field, res, http.StatusUnprocessableEntity)
		if res.doc(t).Find("#"+field+"-error").Text() == "" || strings.Contains(res.body, form.Get("password")) && field == "current" {
			t.Errorf("%s:\n%s", field, res.body)
		}
	}
	began := time.Now()
	res := b.send("/settings", "/settings/password", url.Values{"current": {password}, "password": {"a fresh start, today"}})
	wantStatus(t, "change", res, http.StatusSeeOther)
	if res := b.get(res.Header.Get("Location")); res.StatusCode != http.StatusOK || !strings.Contains(res.body, "Your password was changed") {
		t.Errorf("%s", res.Status)
	}
	wantStatus(t, "the other browser", other.get("/dashboard"), http.StatusSeeOther)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestOrganisationSwitcher(t *testing.T) {
	s := identitySite(t)
	dbtest.Super(t, s.dbURL, `INSERT INTO memberships SELECT $1, id, 'viewer', now() FROM users WHERE email = 'owner@harbour.example'`, s.other)
	b := s.as("owner@harbour.example")
	stale := b.token("/wallet")
	doc := b.get("/settings").doc(t)
	if doc.Find(`form[action="/settings/organisation"] input[name=org_id]`).AttrOr("value", "") != s.other.String() {
		t.Fatal("no other organisation is offered")
	}
	for _, org := range []string{uuid.NewString(), "x", ""} {
		wantStatus(t, "org "+org, b.send("/settings", "/settings/organisation", url.Values{"org_id": {org}}), http.StatusNotFound)
	}
	wantStatus(t, "switch", b.send("/settings", "/settings/organisation", url.Values{"org_id": {s.other.String()}}), http.StatusSeeOther)
	if res := b.get("/api/v1/wallet"); !strings.Contains(res.body, `"balance_pence":0`) {
		t.Errorf("still the other wallet: %s", res.body)
	}
	quote := url.Values{"amount": {"50"}, "currency": {"gbp"}, "csrf_token": {stale}}
	wantStatus(t, "a form of the organisation before", b.post("/wallet/quote", quote), http.StatusForbidden)
	if doc := b.get("/settings/keys").doc(t); doc.Find("#keys, #key-name").Length() != 0 || doc.Find("#no-keys").Length() != 1 {
		t.Error("a viewer manages keys")
	}
	wantStatus(t, "a viewer's key", b.send("/settings", "/settings/keys", url.Values{"name": {"x"}, "scopes": {"wallet:read"}}), http.StatusForbidden)
}

func TestKeysPage(t *testing.T) {
	s := identitySite(t)
	b := s.as("owner@harbour.example")
	for field, form := range map[string]url.Values{"#key-name-error": {"scopes": {"wallet:read"}}, "#key-scopes-error": {"name": {"Till"}}} {
		res := b.send("/settings", "/settings/keys", form)
		wantStatus(t, field, res, http.StatusUnprocessableEntity)
		if res.doc(t).Find(field).Text() == "" {
			t.Errorf("%s:\n%s", field, res.body)
		}
	}
	res := b.send("/settings", "/settings/keys", url.Values{"name": {"Till"}, "scopes": {"wallet:read", "holds:write"}})
	wantStatus(t, "make", res, http.StatusOK)
	secret := res.doc(t).Find("#new-key-value").Text()
	ask := func(key string) reply { return s.browser().get("/api/v1/wallet", "Authorization", "Bearer "+key) }
	wantStatus(t, "use", ask(secret), http.StatusOK)
	if again := b.get("/settings/keys"); strings.Contains(again.body, secret) || !strings.Contains(again.body, "Till") {
		t.Error("the key is shown again, or not listed")
	}
	res = b.send("/settings", "/settings/keys", url.Values{"name": {"Caller"}, "scopes": {"calls:write"}})
	narrow := ask(res.doc(t).Find("#new-key-value").Text())
	wantStatus(t, "without the scope", narrow, http.StatusForbidden)
	if !strings.Contains(narrow.body, "wallet:read") || narrow.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("not told what is missing: %s", narrow.body)
	}
	revoke := b.get("/settings/keys").doc(t).Find(`form[action$="/revoke"]`).Last().AttrOr("action", "")
	foreign := s.as("owner@second.example")
	wantStatus(t, "another's key", foreign.send("/settings", revoke, nil), http.StatusNotFound)
	wantStatus(t, "no id", b.send("/settings", "/settings/keys/x/revoke", nil), http.StatusNotFound)
	wantStatus(t, "revoke", b.send("/settings", revoke, nil), http.StatusSeeOther)
	deadline := time.Now().Add(time.Second)
	for ask(secret).StatusCode != http.StatusUnauthorized {
		if time.Now().After(deadline) {
			t.Fatal("it works a second after it was revoked")
		}
	}
	if strings.Contains(s.log.String(), secret) || !strings.Contains(s.log.String(), `"key_id"`) {
		t.Error("the log holds the key, or not who used it")
	}
}

// Development's user needs no credential, but only for requests that can have come from nowhere but this machine.
func TestDevUser(t *testing.T) {
	as := func(user string) *site {
		return newSite(t, func(o *options) {
			o.deps = func(d *handlers.Deps) { d.DevUser, d.ListenAddr = user, "127.0.0.1:8080" }
		})
	}
	s := as("owner@harbour.example")
	b := s.browser()
	if res := b.get("/api/v1/wallet"); res.StatusCode != http.StatusOK || !strings.Contains(res.body, `"balance_pence":56900`) {
		t.Errorf("%s %s", res.Status, res.body)
	}
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via", "X-Forwarded-Host"} {
		wantStatus(t, "passed on: "+header, b.get("/api/v1/wallet", header, "127.0.0.1"), http.StatusUnauthorized)
	}
	for host, status := range map[string]int{"evil.example": 401, "127.0.0.1.evil.example": 401, "localhost:1": 200, "[::1]:1": 200, "192.0.2.1": 401} {
		req, err := http.NewRequest(http.MethodGet, s.URL+"/api/v1/wallet", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := b.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("Host %s: %s, want %d", host, res.Status, status)
		}
	}
	wantStatus(t, "a credential that does not hold", b.get("/api/v1/wallet", "Authorization", "Bearer x"), http.StatusUnauthorized)
	wantStatus(t, "a page", b.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "an unknown user", as("nobody@harbour.example").browser().get("/api/v1/wallet"), http.StatusUnauthorized)
	wantStatus(t, "nobody configured", newSite(t).browser().get("/api/v1/wallet"), http.StatusUnauthorized)

	var good handlers.Deps
	newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { good = *d } })
	for name, spoil := range map[string]func(*handlers.Deps){
		"no address":  func(d *handlers.Deps) { d.ListenAddr = "" },
		"everywhere":  func(d *handlers.Deps) { d.ListenAddr = ":8080" },
		"all of IPv4": func(d *handlers.Deps) { d.ListenAddr = "0.0.0.0:8080" },
		"public name": func(d *handlers.Deps) { d.ListenAddr, d.BaseURL = "127.0.0.1:8080", "https://app.example" },
	} {
		d := good
		d.DevUser = "owner@harbour.example"
		spoil(&d)
		if _, err := handlers.New(d); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Signing in through Supabase is the same page, and nothing of its tokens reaches the browser.
func TestSupabasePages(t *testing.T) {
	p := newProject(t, "ES256")
	s := identitySite(t, func(o *options) {
		o.auth.Verifier, o.auth.Supabase = p.verifier(), auth.NewSupabase(p.URL, gotruetest.AnonKey)
		o.deps = func(*handlers.Deps) {}
	})
	p.join(s)
	b := s.browser()
	wantStatus(t, "wrong password", b.tryLogin("member@north.example", "wrong password!"), http.StatusUnauthorized)
	res := b.tryLogin("member@north.example", password)
	wantStatus(t, "sign-in", res, http.StatusSeeOther)
	wantStatus(t, "dashboard", b.get("/dashboard"), http.StatusOK)
	if c := b.cookie(); len(c.Value) > 1000 {
		t.Errorf("the cookie has %d bytes: what does it carry?", len(c.Value))
	}
	if res := b.get("/settings/security"); !strings.Contains(res.body, "kept by your sign-in provider") || strings.Contains(res.body, `action="/settings/password"`) {
		t.Error("the password form is offered")
	}
	wantStatus(t, "password", b.send("/settings", "/settings/password", url.Values{"current": {password}, "password": {"a fresh start, today"}}), http.StatusConflict)
	wantStatus(t, "sign-out", b.send("/settings", "/logout", nil), http.StatusSeeOther)
	if p.Calls("/auth/v1/logout?scope=local") != 1 {
		t.Error("the provider was not told")
	}
	p.Down(http.StatusInternalServerError)
	res = b.tryLogin("member@north.example", password)
	if wantStatus(t, "provider away", res, http.StatusServiceUnavailable); !strings.Contains(res.body, "sign-in service does not answer") {
		t.Errorf("not told why:\n%s", res.body)
	}
}
