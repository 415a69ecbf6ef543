package handlers_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
)

func TestLogin(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	page := b.get("/login")
	wantStatus(t, "the form", page, http.StatusOK)
	for _, part := range []string{`name="email"`, `name="password"`, `<input type="hidden" name="csrf_token" value="`, "owner@harbour.example"} {
		if !strings.Contains(page.body, part) {
			t.Errorf("the form lacks %s", part)
		}
	}
	planted, before := b.cookie().Value, b.token("/login")
	res := b.tryLogin(" Owner@Harbour.example ", password)
	wantStatus(t, "signing in", res, http.StatusSeeOther)
	if got := res.Header.Get("Location"); got != "/dashboard" {
		t.Errorf("sent to %q", got)
	}
	set := res.Cookies()
	if len(set) != 1 || set[0].Name != "ringfence" || !set[0].HttpOnly || set[0].Secure || set[0].SameSite != http.SameSiteLaxMode || set[0].Path != "/" || set[0].Domain != "" || set[0].MaxAge != 7*24*3600 {
		t.Errorf("cookies set: %+v", set)
	}
	wantStatus(t, "dashboard", b.get("/dashboard"), http.StatusOK)

	// Fixation: the cookie from before is a stranger's still, and its token fits nothing.
	old := s.browser()
	wantStatus(t, "the cookie from before", old.get("/dashboard", "Cookie", "ringfence="+planted), http.StatusSeeOther)
	wantStatus(t, "a form from before", b.post("/wallet/quote", url.Values{"csrf_token": {before}, "amount": {"50"}, "currency": {"gbp"}}), http.StatusForbidden)
	first := b.cookie().Value
	res = b.get("/login?next=/wallet")
	wantStatus(t, "the form, signed in", res, http.StatusSeeOther)
	if got := res.Header.Get("Location"); got != "/wallet" {
		t.Errorf("sent to %q", got)
	}

	// Signing in again in the same browser ends the session before.
	res = b.post("/login", url.Values{"csrf_token": {b.token("/wallet")}, "email": {"viewer@harbour.example"}, "password": {password}})
	wantStatus(t, "signing in as somebody else", res, http.StatusSeeOther)
	wantStatus(t, "the session before", s.browser().get("/dashboard", "Cookie", "ringfence="+first), http.StatusSeeOther)
	if got := b.get("/dashboard"); !strings.Contains(got.doc(t).Text(), "viewer@harbour.example") {
		t.Error("not signed in as the second person")
	}

	// Signing out ends it on the server: a kept copy of the cookie is worth nothing.
	kept := b.cookie().Value
	wantStatus(t, "control", s.browser().get("/dashboard", "Cookie", "ringfence="+kept), http.StatusOK)
	res = b.send("/dashboard", "/logout", nil)
	wantStatus(t, "signing out", res, http.StatusSeeOther)
	if c := res.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("the cookie stays: %+v", c)
	}
	wantStatus(t, "a kept copy", s.browser().get("/dashboard", "Cookie", "ringfence="+kept), http.StatusSeeOther)
}

func TestRefusedLogin(t *testing.T) {
	s := newSite(t, func(o *options) { o.auth = auth.Options{AccountFailures: 3} })
	b := s.browser()
	wrong, unknown := b.tryLogin("owner@harbour.example", "not the password"), b.tryLogin("stranger@harbour.example", "not the password")
	wantStatus(t, "wrong password", wrong, http.StatusUnauthorized)
	sentence := func(r reply) string { return strings.TrimSpace(r.doc(t).Find("#login-error").Text()) }
	if sentence(wrong) == "" || sentence(wrong) != sentence(unknown) || wrong.StatusCode != unknown.StatusCode {
		t.Errorf("a wrong password is answered %s %q, an unknown account %s %q", wrong.Status, sentence(wrong), unknown.Status, sentence(unknown))
	}
	if got, _ := wrong.doc(t).Find("#email").Attr("value"); got != "owner@harbour.example" {
		t.Errorf("the form came back with e-mail %q", got)
	}
	if strings.Contains(wrong.body, "not the password") {
		t.Error("the password came back")
	}
	wantStatus(t, "nothing typed", b.tryLogin("", ""), http.StatusUnprocessableEntity)
	b.tryLogin("owner@harbour.example", "not the password")
	b.tryLogin("owner@harbour.example", "not the password")
	res := b.tryLogin("owner@harbour.example", password)
	wantStatus(t, "the account is full", res, http.StatusTooManyRequests)
	if res.Header.Get("Retry-After") == "" || !strings.Contains(sentence(res), "15 minutes") {
		t.Errorf("Retry-After %q, %q", res.Header.Get("Retry-After"), sentence(res))
	}
	wantStatus(t, "another account", b.tryLogin("owner@second.example", password), http.StatusSeeOther)
}

// Whatever next holds, signing in leads to a page of this site.
func TestNext(t *testing.T) {
	s := newSite(t)
	for next, want := range map[string]string{
		"":                             "/dashboard",
		"/wallet":                      "/wallet",
		"/wallet?a=b&c=%20d":           "/wallet?a=b&c=%20d",
		"https://evil.example/":        "/dashboard",
		"//evil.example/":              "/dashboard",
		"///evil.example/":             "/dashboard",
		`/\evil.example/`:              "/dashboard",
		`\\evil.example/`:              "/dashboard",
		"/%2f/evil.example":            "/dashboard",
		"/%5c/evil.example":            "/dashboard",
		"/.//evil.example":             "/dashboard",
		"/..//evil.example":            "/dashboard",
		"/a/../..//evil.example":       "/dashboard",
		"/\t/evil.example":             "/dashboard",
		"/\n/evil.example":             "/dashboard",
		"/wallet\r\nSet-Cookie: a=b":   "/dashboard",
		" /wallet":                     "/dashboard",
		"javascript:alert(1)":          "/dashboard",
		"evil.example":                 "/dashboard",
		"/\u2215evil.example":          "/dashboard",
		"/logout":                      "/dashboard",
		"/login?next=/login":           "/dashboard",
		"/" + strings.Repeat("a", 600): "/dashboard",
	} {
		res := s.browser().tryLogin("owner@harbour.example", password, "next", next)
		wantStatus(t, next, res, http.StatusSeeOther)
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("next=%q leads to %q, want %q", next, got, want)
		}
		if shown, _ := s.browser().get("/login?next=" + url.QueryEscape(next)).doc(t).Find(`input[name="next"]`).Attr("value"); next != want && shown != "" {
			t.Errorf("next=%q stands in the form as %q", next, shown)
		}
	}
}

// Behind https the cookie has the prefix that binds it to this very host, and Secure.
func TestSecureCookie(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) { d.BaseURL = "https://app.example" }
	})
	res := s.browser().get("/login")
	raw := res.Header.Get("Set-Cookie")
	for _, part := range []string{"__Host-ringfence=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"} {
		if !strings.Contains(raw, part) {
			t.Errorf("the cookie lacks %q: %s", part, raw)
		}
	}
	if strings.Contains(raw, "Domain") {
		t.Error("the cookie names a domain:", raw)
	}
	if got := res.Header.Get("Strict-Transport-Security"); got == "" {
		t.Error("no HSTS")
	}
}

// A new first key signs; cookies of the old one hold while it stays in the list, and not after.
func TestSessionKeyRoll(t *testing.T) {
	oldKey, newKey := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("n"), 32)
	var d handlers.Deps
	s := newSite(t, func(o *options) {
		o.deps = func(deps *handlers.Deps) { deps.SessionKeys = [][]byte{oldKey}; d = *deps }
	})
	cookie := s.as("owner@harbour.example").cookie()
	for name, c := range map[string]struct {
		keys   [][]byte
		status int
	}{
		"control": {[][]byte{oldKey}, 200}, "during": {[][]byte{newKey, oldKey}, 200}, "after": {[][]byte{newKey}, 303},
	} {
		rolled := newSiteOver(t, s, d, c.keys)
		wantStatus(t, name, rolled.browser().get("/dashboard", "Cookie", cookie.String()), c.status)
	}
	for name, keys := range map[string][][]byte{"none": nil, "short": {oldKey, []byte("short")}} {
		d.SessionKeys = keys
		if _, err := handlers.New(d); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStaleCookie(t *testing.T) {
	s := newSite(t)
	for _, value := range []string{"", "x", strings.Repeat("A", 4000), "MTY5%00"} {
		wantStatus(t, "login", s.browser().get("/login", "Cookie", "ringfence="+value), http.StatusOK)
		wantStatus(t, "dashboard", s.browser().get("/dashboard", "Cookie", "ringfence="+value), http.StatusSeeOther)
	}
	// A session that was ended elsewhere is sent to sign in, and can.
	b := s.as("owner@harbour.example")
	dbtest.Super(t, s.dbURL, `UPDATE sessions SET revoked_at = now()`)
	wantStatus(t, "revoked", b.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "signing in again", b.tryLogin("owner@harbour.example", password), http.StatusSeeOther)
	wantStatus(t, "back", b.get("/dashboard"), http.StatusOK)
}
