package handlers_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
)

// path fills a pattern's wildcards.
func path(pattern string) string {
	p := strings.ReplaceAll(pattern, "{$}", "")
	return strings.ReplaceAll(p, "{id}", uuid.NewString())
}

// Every route that is not public refuses the signed-out, says so in the reader's form, and does nothing.
func TestRoutesRefuseTheSignedOut(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	protected := 0
	for _, rt := range handlers.Routes() {
		t.Run(rt.Method+" "+rt.Pattern, func(t *testing.T) {
			p := path(rt.Pattern)
			switch rt.Access {
			case handlers.Session, handlers.Person, handlers.Operator:
				protected++
				res := b.do(rt.Method, p, nil)
				want := "/login"
				if rt.Method == http.MethodGet && p != "/wallet/stream" {
					want += "?next=" + url.QueryEscape(p)
				}
				wantStatus(t, "signed out", res, http.StatusSeeOther)
				if got := res.Header.Get("Location"); got != want {
					t.Errorf("sent to %q, want %q", got, want)
				}
				res = b.do(rt.Method, p, nil, "HX-Request", "true", "HX-Current-URL", s.URL+"/wallet?a=b")
				wantStatus(t, "fragment", res, http.StatusUnauthorized)
				if got := res.Header.Get("HX-Redirect"); got != "/login?next=%2Fwallet%3Fa%3Db" || res.body != "" {
					t.Errorf("fragment: HX-Redirect %q, body %q", got, res.body)
				}
				wantStatus(t, "program", b.do(rt.Method, p, nil, "Accept", "application/json"), http.StatusUnauthorized)
				if rt.Access != handlers.Operator {
					break
				}
				wantStatus(t, "owner", s.as("owner@harbour.example").do(rt.Method, p, nil), http.StatusNotFound)
				if !strings.Contains(rt.Pattern, "{id}") { // with it: there is no such event
					res := s.as("operator@ringfence.example").do(rt.Method, p, nil)
					if allowed := res.StatusCode < 400; allowed != (rt.Method == http.MethodGet) { // the others want a token
						t.Errorf("operator: %s", res.Status)
					}
				}
			case handlers.Webhook:
				want := http.StatusForbidden
				switch rt.Pattern {
				case "/api/webhooks/stripe":
					want = http.StatusBadRequest // Stripe's word for it
				case "/api/webhooks/vapi":
					want = http.StatusUnauthorized // Vapi sends a bearer secret, not a signature
				}
				wantStatus(t, "unsigned", b.do(rt.Method, p, strings.NewReader("{}")), want)
			case handlers.RequireAuth, handlers.RequireAuthOrDev:
				protected++
				res := b.do(rt.Method, p, nil)
				wantStatus(t, "signed out", res, http.StatusUnauthorized)
				if res.Header.Get("WWW-Authenticate") != "Bearer" || res.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("a program is told %v", res.Header)
				}
			case handlers.Public, handlers.OptionalAuth:
			default:
				t.Errorf("access %q is none we know", rt.Access)
			}
			if rt.Access != handlers.Webhook {
				res := s.as("owner@harbour.example").do(rt.Method, p, nil, "Authorization", "Bearer planted")
				wantStatus(t, "unknown Authorization beside a good session", res, http.StatusUnauthorized)
			}
		})
	}
	if protected < 5 {
		t.Errorf("only %d protected routes were seen", protected)
	}
	if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
		t.Errorf("%d top-ups were made", n)
	}
}

func TestOperatorWithoutOrganisation(t *testing.T) {
	s := newSite(t)
	b := s.as("operator@ringfence.example")
	for from, to := range map[string]string{"/": "/dashboard", "/dashboard": "/ops", "/ops": "/ops/stripe-events"} {
		res := b.get(from)
		wantStatus(t, from, res, http.StatusSeeOther)
		if got := res.Header.Get("Location"); got != to {
			t.Errorf("%s leads to %q, want %q", from, got, to)
		}
	}
	res := b.get("/wallet")
	wantStatus(t, "wallet", res, http.StatusForbidden)
	if !strings.Contains(res.body, "belongs to no organisation") || res.doc(t).Find(`main a[href="/ops"]`).Length() == 0 {
		t.Errorf("the page leads nowhere:\n%s", res.body)
	}
	wantStatus(t, "sign-out", b.send("/ops/stripe-events", "/logout", nil), http.StatusSeeOther)
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	signedIn := s.as("owner@harbour.example")
	want := map[string]string{
		"X-Content-Type-Options":     "nosniff",
		"Referrer-Policy":            "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Strict-Transport-Security":  "", // plain http on loopback
	}
	var stylesheet string
	signedIn.get("/dashboard").doc(t)
	stylesheet, _ = signedIn.get("/dashboard").doc(t).Find(`link[rel="stylesheet"]`).Attr("href")
	ids := map[string]bool{}
	for _, c := range []struct {
		b      *browser
		path   string
		status int
		store  string
	}{
		{s.browser(), "/login", 200, "no-store"},
		{s.browser(), "/dashboard", 303, "no-store"},
		{s.browser(), "/nothing", 404, "no-store"},
		{s.browser(), "/healthz", 200, "no-store"},
		{s.browser(), "/api/webhooks/stripe", 405, "no-store"},
		{s.browser(), stylesheet, 200, "public, max-age=31536000, immutable"},
		{signedIn, "/dashboard", 200, "no-store"},
		{signedIn, "/wallet", 200, "no-store"},
		{signedIn, "/wallet/top-ups/x", 404, "no-store"},
	} {
		res := c.b.get(c.path)
		wantStatus(t, c.path, res, c.status)
		for name, value := range want {
			if got := res.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", c.path, name, got, value)
			}
		}
		if got := res.Header.Get("Cache-Control"); got != c.store {
			t.Errorf("%s: Cache-Control is %q, want %q", c.path, got, c.store)
		}
		csp := res.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' http://127.0.0.1:"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: the policy lacks %q: %s", c.path, part, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
			t.Errorf("%s: the policy is loose: %s", c.path, csp)
		}
		id := res.Header.Get("X-Request-Id")
		if len(id) < 20 || ids[id] {
			t.Errorf("%s: request id %q", c.path, id)
		}
		ids[id] = true
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") && res.body != "" && c.status != 303 && !strings.Contains(strings.Join(res.Header.Values("Vary"), ","), "HX-Request") {
			t.Errorf("%s: Vary is %q", c.path, res.Header.Values("Vary"))
		}
	}
}

// What changes something must come from a page of ours, and from this very browser.
func TestCSRF(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	mine := b.token("/wallet")
	foreign := s.as("owner@second.example").token("/wallet")
	stranger := s.browser().token("/login")
	operator := s.as("operator@ringfence.example")
	operators := operator.token("/ops/stripe-events")
	form := url.Values{"amount": {"50"}, "currency": {"gbp"}, "email": {"owner@harbour.example"}, "password": {password}}
	posts := 0
	for _, rt := range handlers.Routes() {
		if rt.Method == http.MethodGet || rt.Access == handlers.Webhook {
			continue
		}
		posts++
		b, mine := b, mine
		if rt.Access == handlers.Operator {
			b, mine = operator, operators
		}
		send := func(path string, form url.Values, headers ...string) reply {
			if rt.Method == http.MethodDelete { // whose body is no form
				headers = append(headers, "X-CSRF-Token", form.Get("csrf_token"))
			}
			return b.do(rt.Method, path, strings.NewReader(form.Encode()), append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
		}
		for name, token := range map[string]string{
			"missing": "", "foreign": foreign, "stranger": stranger, "cut": mine[:len(mine)-1], "garbage": "////",
			"changed": mine[:len(mine)-2] + flip(mine[len(mine)-2]) + mine[len(mine)-1:],
		} {
			f := url.Values{"csrf_token": {token}}
			maps.Copy(f, form)
			res := send(rt.Pattern, f)
			wantStatus(t, rt.Pattern+" with a "+name+" token", res, http.StatusForbidden)
			if !strings.Contains(res.body, "The page was too old") {
				t.Errorf("%s: the page does not say what to do:\n%s", rt.Pattern, res.body)
			}
		}
		// The token in the address is not in the form.
		wantStatus(t, rt.Pattern+" with the token in the query", send(rt.Pattern+"?csrf_token="+url.QueryEscape(mine), form), http.StatusForbidden)
		for name, headers := range map[string][]string{
			"cross-site": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site"},
			"other origin": {"Origin", "https://evil.example"}, "no origin": {"Origin", "null"},
		} {
			f := url.Values{"csrf_token": {mine}}
			maps.Copy(f, form)
			wantStatus(t, rt.Pattern+" from "+name, send(rt.Pattern, f, headers...), http.StatusForbidden)
		}
	}
	if posts < 4 {
		t.Errorf("only %d posts were seen", posts)
	}
	if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
		t.Errorf("%d top-ups were made", n)
	}
	// Controls: in the form, in the header, from our own origin. Each page's token is masked anew, and all of them hold.
	if again := b.token("/wallet"); again == mine {
		t.Error("two pages carry the same token: it is not masked")
	}
	quote := url.Values{"amount": {"50"}, "currency": {"gbp"}}
	wantStatus(t, "header", b.post("/wallet/quote", quote, "X-CSRF-Token", mine), http.StatusOK)
	quote.Set("csrf_token", mine)
	wantStatus(t, "form", b.post("/wallet/quote", quote, "Sec-Fetch-Site", "same-origin", "Origin", s.URL), http.StatusOK)
	// No GET route changes anything: a signed-in browser may be led to any of them.
	before := s.count(`SELECT count(*) FROM audit_log`)
	for _, rt := range handlers.Routes() {
		if rt.Method == http.MethodGet && rt.Pattern != "/wallet/stream" {
			b.get(path(rt.Pattern), "Sec-Fetch-Site", "cross-site")
		}
	}
	if after := s.count(`SELECT count(*) FROM audit_log`); after != before {
		t.Error("a GET changed something")
	}
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func TestNotFoundAndMethod(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	for _, p := range []string{"/nothing", "/wallet/", "/wallet/nothing", "/ops", "/.env", "/wallet/top-ups/", "/favicon.ico"} {
		res := b.get(p)
		wantStatus(t, p, res, http.StatusNotFound)
		if doc := res.doc(t); doc.Find("h1").Text() != "Not found" || doc.Find("nav").Length() == 0 {
			t.Errorf("%s: no page of ours around it", p)
		}
	}
	res := b.post("/dashboard", nil)
	wantStatus(t, "POST /dashboard", res, http.StatusMethodNotAllowed)
	if got := res.Header.Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow is %q", got)
	}
	wantStatus(t, "HEAD /dashboard", b.do("HEAD", "/dashboard", nil), http.StatusOK)
	res = b.get("/api/nothing")
	wantStatus(t, "/api/nothing", res, http.StatusNotFound)
	var problem struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(res.body), &problem); err != nil || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%v: %s %s", err, res.Header.Get("Content-Type"), res.body)
	}
	if problem.Status != 404 || problem.Type != "about:blank" || problem.Title != "Not Found" || problem.RequestID != res.Header.Get("X-Request-Id") {
		t.Errorf("problem is %+v", problem)
	}
	res = b.get("/nothing", "HX-Request", "true")
	if strings.Contains(res.body, "<html") || !strings.Contains(res.body, "Not found") {
		t.Errorf("a fragment got a whole page:\n%s", res.body)
	}
}

// A role is read anew with every request.
func TestRoleChangesAtOnce(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	wantStatus(t, "owner", b.send("/wallet", "/wallet/quote", url.Values{"amount": {"50"}, "currency": {"gbp"}}), http.StatusOK)
	dbtest.Super(t, s.dbURL, `UPDATE memberships SET role = $1`, string(auth.RoleViewer))
	wantStatus(t, "viewer", b.send("/wallet", "/wallet/quote", url.Values{"amount": {"50"}, "currency": {"gbp"}}), http.StatusForbidden)
	dbtest.Super(t, s.dbURL, `DELETE FROM memberships`)
	wantStatus(t, "no member", b.get("/wallet"), http.StatusSeeOther)
}
