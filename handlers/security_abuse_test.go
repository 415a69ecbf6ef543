package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
)

// behindProxy makes the site believe its one peer about who asks.
func behindProxy(d *handlers.Deps) {
	d.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
}

// loginFrom signs in with a browser that never did, at an address behind the proxy.
func (s *site) loginFrom(address, email, password string) reply {
	s.t.Helper()
	return s.browser().send("/login", "/login", url.Values{"email": {email}, "password": {password}}, "X-Forwarded-For", address)
}

// tooMany holds a refusal against what it has to say: how long to wait, to programs and to people.
func tooMany(t *testing.T, what string, res reply) {
	t.Helper()
	wantStatus(t, what, res, http.StatusTooManyRequests)
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || n < 1 || n > 15*60 {
		t.Errorf("%s: Retry-After is %q", what, res.Header.Get("Retry-After"))
	}
	if !strings.Contains(res.body, "Wait ") || res.doc(t).Find(`form input[name="csrf_token"]`).Length() == 0 {
		t.Errorf("%s: not told what to do, or without the form", what)
	}
}

// Guesses are bounded per account, wherever they come from, and per address, whatever account they are at.
func TestGuessesAreBounded(t *testing.T) {
	limited := func(account, address int) *site {
		return newSite(t, func(o *options) {
			o.auth = auth.Options{AccountFailures: account, AddressFailures: address}
			o.deps = behindProxy
		})
	}
	s := limited(4, 1000)
	for i := range 4 {
		wantStatus(t, "a guess", s.loginFrom(fmt.Sprintf("198.51.100.%d", i+1), "owner@harbour.example", "not the password"), http.StatusUnauthorized)
	}
	tooMany(t, "the right password, too late, from a new address", s.loginFrom("203.0.113.7", "OWNER@harbour.example ", password))
	wantStatus(t, "the neighbour", s.loginFrom("198.51.100.1", "viewer@harbour.example", password), http.StatusSeeOther)
	// An account that is not there fills as well, so that being full tells nothing either.
	for range 4 {
		wantStatus(t, "a guess at nobody", s.loginFrom("198.51.100.1", "nobody@harbour.example", "not the password"), http.StatusUnauthorized)
	}
	tooMany(t, "nobody", s.loginFrom("198.51.100.1", "nobody@harbour.example", "not the password"))

	s = limited(1000, 4)
	for i := range 4 {
		wantStatus(t, "a guess", s.loginFrom("198.51.100.1", fmt.Sprintf("u%d@harbour.example", i), "not the password"), http.StatusUnauthorized)
	}
	for _, address := range []string{
		"198.51.100.1", "::ffff:198.51.100.1", "203.0.113.7, 198.51.100.1", "198.51.100.1:4444", "spoofed, 127.0.0.1, 198.51.100.1", "198.51.100.1, 127.0.0.1",
	} {
		tooMany(t, "as "+address, s.loginFrom(address, "owner@harbour.example", password))
	}
	wantStatus(t, "another address", s.loginFrom("203.0.113.7", "owner@harbour.example", password), http.StatusSeeOther)
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'auth.sign_in_refused' AND detail->>'address' = '198.51.100.1'`); n != 4 {
		t.Errorf("%d refusals are audited with their address, want 4", n)
	}

	// Without a proxy to believe, the header is nobody's word.
	s = newSite(t, func(o *options) { o.auth = auth.Options{AddressFailures: 2} })
	for i := range 2 {
		wantStatus(t, "a guess", s.loginFrom(fmt.Sprintf("198.51.100.%d", i), "u@harbour.example", "not the password"), http.StatusUnauthorized)
	}
	tooMany(t, "a new X-Forwarded-For", s.loginFrom("203.0.113.7", "owner@harbour.example", password))
}

// Sign-ups are bounded per address, those that fail included: each tells whether an e-mail is taken.
func TestSignUpsAreBounded(t *testing.T) {
	s := identitySite(t, func(o *options) {
		o.auth.SignUps = 3
		o.deps = func(d *handlers.Deps) { d.SignUp = true; behindProxy(d) }
	})
	up := func(address, org, email string) reply {
		return s.browser().send("/signup", "/signup", url.Values{"organisation": {org}, "email": {email}, "password": {"a fresh start, today"}}, "X-Forwarded-For", address)
	}
	wantStatus(t, "the first", up("198.51.100.1", "North", "a@north.example"), http.StatusSeeOther)
	wantStatus(t, "a taken e-mail", up("198.51.100.1", "South", "a@north.example"), http.StatusUnprocessableEntity)
	wantStatus(t, "a taken name", up("198.51.100.1", "North", "b@north.example"), http.StatusUnprocessableEntity)
	before := s.state()
	tooMany(t, "the fourth", up("198.51.100.1", "West", "c@north.example"))
	tooMany(t, "a taken e-mail asked after, too late", up("198.51.100.1", "West", "a@north.example"))
	s.wantUnchanged("a refused sign-up", before)
	wantStatus(t, "another address", up("203.0.113.7", "East", "d@north.example"), http.StatusSeeOther)
}

// An unknown account, a wrong password, a disabled account and one without a password are one answer, to the byte, after
// the same work. The work is counted, not timed: each hash fills memory that nothing else here comes near.
func TestRefusalsAreOneAnswer(t *testing.T) {
	const memory = 48 << 10 // KiB for one hash
	var d handlers.Deps
	s := newSite(t, func(o *options) { o.deps = func(deps *handlers.Deps) { d = *deps } })
	costly, err := auth.New(s.db, auth.Options{
		AccountFailures: 6, AddressFailures: 1000, Hash: &argon2id.Params{Memory: memory, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		for _, email := range []string{"known@harbour.example", "disabled@harbour.example"} {
			u, err := costly.CreateUser(ctx, tx, email, password, auth.PlatformNone)
			if err != nil {
				return err
			}
			if err := costly.AddMember(ctx, tx, s.org, u.ID, auth.RoleViewer); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, s.dbURL, `UPDATE users SET disabled_at = now() WHERE email = 'disabled@harbour.example'`)
	dbtest.Super(t, s.dbURL, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES (gen_random_uuid(), 'local', 'x', 'nopassword@harbour.example', now())`)
	d.Auth = costly
	site := newSiteOver(t, s, d, d.SessionKeys)

	// ask signs in and says how many hashes were made for it.
	ask := func(email, password string) (reply, int) {
		b := site.browser()
		token := b.token("/login")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res := b.post("/login", url.Values{"csrf_token": {token}, "email": {email}, "password": {password}})
		runtime.ReadMemStats(&after)
		const one = memory << 10
		return res, int((after.TotalAlloc - before.TotalAlloc + one/2) / one)
	}
	if res, n := ask("known@harbour.example", password); res.StatusCode != http.StatusSeeOther || n != 1 {
		t.Fatalf("control: %s, %d hashes", res.Status, n)
	}
	var first string
	var headers http.Header
	for _, c := range [][2]string{
		{"known@harbour.example", "not the password"},
		{"known@harbour.example", strings.Repeat("a", 5000)},
		{"stranger@harbour.example", password},
		{"disabled@harbour.example", password},
		{"nopassword@harbour.example", password},
		{"' OR 1=1 --", password},
	} {
		res, n := ask(c[0], c[1])
		wantStatus(t, c[0], res, http.StatusUnauthorized)
		if n != 1 {
			t.Errorf("%s, a password of %d characters: %d hashes, want 1", c[0], len(c[1]), n)
		}
		// What was typed comes back, and is the only difference.
		typed := strings.NewReplacer("&", "&amp;", "'", "&#39;").Replace(c[0])
		if !strings.Contains(res.body, typed) {
			t.Errorf("%s: what was typed is gone", c[0])
		}
		body := strings.ReplaceAll(steady(res.body), typed, "·")
		if first == "" {
			first, headers = body, res.Header
		}
		if body != first {
			t.Errorf("%s is answered otherwise:\n%s\n\n%s", c[0], body, first)
		}
		for name := range headers {
			if got, want := res.Header.Values(name), headers.Values(name); len(got) != len(want) ||
				name != "X-Request-Id" && name != "Date" && name != "Content-Length" && strings.Join(got, ",") != strings.Join(want, ",") {
				t.Errorf("%s: %s is %q, and %q for another", c[0], name, got, want)
			}
		}
	}
	// Beyond the limit nothing is hashed any more: a flood costs its sender more than us.
	for range 6 {
		ask("known@harbour.example", "not the password")
	}
	res, n := ask("known@harbour.example", password)
	tooMany(t, "beyond the limit", res)
	if n != 0 {
		t.Errorf("beyond the limit: %d hashes", n)
	}
}
