package handlers_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"ringfence/db/dbtest"
	"ringfence/handlers"
)

// everyAnswer is on every answer, whatever it is.
var everyAnswer = map[string]string{
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "same-origin",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
	"Strict-Transport-Security":    "max-age=31536000; includeSubDomains",
	"Access-Control-Allow-Origin":  "", // nobody reads us from another origin
	"Server":                       "",
	"X-Powered-By":                 "",
}

// policy reads a Content-Security-Policy.
func policy(text string) map[string][]string {
	p := map[string][]string{}
	for directive := range strings.SplitSeq(text, ";") {
		if words := strings.Fields(directive); len(words) > 0 {
			p[words[0]] = words[1:]
		}
	}
	return p
}

// wantGuarded holds an answer against what every answer carries, and a page against its own policy.
func wantGuarded(t *testing.T, what string, res reply) {
	t.Helper()
	for name, want := range everyAnswer {
		if got := strings.Join(res.Header.Values(name), " | "); got != want {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	p := policy(res.Header.Get("Content-Security-Policy"))
	for directive, want := range map[string][]string{
		"default-src": {"'none'"}, "script-src": {"'self'"}, "style-src": {"'self'"}, "frame-ancestors": {"'none'"}, "base-uri": {"'none'"},
		"connect-src": {"'self'"}, "font-src": {"'self'"}, "img-src": {"'self'", "data:"},
	} {
		if !slices.Equal(p[directive], want) {
			t.Errorf("%s: the policy's %s is %v, want %v", what, directive, p[directive], want)
		}
	}
	for directive, sources := range p {
		for _, s := range sources {
			if strings.Contains(s, "*") || strings.Contains(s, "unsafe") || s == "https:" || s == "http:" {
				t.Errorf("%s: the policy's %s allows %s", what, directive, s)
			}
		}
	}
	if object := p["object-src"]; object != nil && !slices.Equal(object, []string{"'none'"}) { // else default-src decides
		t.Errorf("%s: the policy's object-src is %v", what, object)
	}
	for _, c := range res.Cookies() {
		if c.Name != "__Host-ringfence" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("%s sets the cookie %+v", what, c)
		}
	}
	kind := res.Header.Get("Content-Type")
	switch {
	case res.body == "":
	case kind == "":
		t.Errorf("%s has a body of no declared type", what)
	case strings.HasPrefix(kind, "text/") && !strings.Contains(kind, "charset=utf-8") && kind != "text/event-stream":
		t.Errorf("%s is %s, without a charset", what, kind)
	case strings.HasPrefix(kind, "text/html"):
		wantNothingInline(t, what, res.doc(t))
	}
}

// wantNothingInline fails for what the policy would refuse, and for what would carry a reader's secrets elsewhere.
func wantNothingInline(t *testing.T, what string, doc *goquery.Document) {
	t.Helper()
	if n := doc.Find("style, iframe, object, embed, base, applet, frame, script:not([src])").Length(); n != 0 {
		t.Errorf("%s holds %d elements that the policy refuses", what, n)
	}
	doc.Find("*").Each(func(_ int, s *goquery.Selection) {
		for _, a := range s.Get(0).Attr {
			bad := a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") || strings.HasPrefix(a.Key, "hx-vals") && strings.HasPrefix(a.Val, "js:")
			switch a.Key {
			case "src", "href", "action", "formaction", "poster", "data", "srcset":
				u, err := url.Parse(a.Val)
				bad = err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https"
				if u != nil && u.Host != "" && goquery.NodeName(s) != "a" { // a top-up's link leads to Stripe
					bad = true
				}
			}
			if bad {
				t.Errorf("%s: <%s> has %s=%q", what, goquery.NodeName(s), a.Key, a.Val)
			}
		}
	})
	doc.Find(`input[type=password]`).Each(func(_ int, s *goquery.Selection) {
		if v, has := s.Attr("value"); has && v != "" {
			t.Errorf("%s sends a password back", what)
		}
		if on, _ := s.Attr("autocomplete"); on == "off" {
			t.Errorf("%s keeps password managers out", what)
		}
	})
}

// overHTTPS makes the site believe that it is reached by https, as in production. Cookies are Secure then, which a test's
// browser on http does not send back: the callers show theirs themselves.
func overHTTPS(d *handlers.Deps) { d.BaseURL = "https://app.example" }

// Every answer of every route to every kind of reader, refusals included, carries the headers; every page, those that
// links lead to included, holds nothing inline; and the crawl as an owner and as an operator changes not one row.
func TestPagesHoldThePolicy(t *testing.T) {
	f := newFixture(t)
	d := f.deps
	overHTTPS(&d)
	secure := newSiteOver(t, f.site, d, d.SessionKeys)
	rules := matrix(f)
	before := map[string]string(nil)
	pages := map[string]bool{}
	for _, who := range []int{stranger, viewer, owner, platform, program} {
		var headers []string
		switch who {
		case stranger:
		case program:
			headers = []string{"Authorization", "Bearer " + f.key}
		default: // the cookie's codec is bound to its name, so it has to be a secure one from the start
			headers = []string{"Cookie", secure.secureSession(callerEmails[who])}
		}
		if who == owner || who == platform {
			before = f.state()
		}
		b := secure.browser()
		todo := []string{"/no/such/page", "/wallet?done=<script>", "/api/nothing"}
		for _, rt := range handlers.Routes() {
			r := rules[rt.Method+" "+rt.Pattern]
			if rt.Method == http.MethodGet {
				todo = append(todo, r.target(rt))
				continue
			}
			wantGuarded(t, callerNames[who]+", POST "+rt.Pattern, b.ask(rt, r.target(rt), nil, headers...)) // refused: no token
		}
		seen := map[string]bool{}
		for len(todo) > 0 {
			path := todo[0]
			todo = todo[1:]
			if seen[path] {
				continue
			}
			seen[path] = true
			res := b.ask(handlers.Route{Method: http.MethodGet}, path, nil, headers...)
			if strings.HasPrefix(path, "/static/") && res.StatusCode == http.StatusOK {
				continue // for ever in every cache, and nothing in it is anybody's
			}
			if path == "/api/openapi.json" || path == "/status" || path == "/status.json" {
				if len(res.Cookies()) > 0 {
					t.Errorf("%s sets a cookie, and is kept for others", path)
				}
				continue // for a while, and the same for everybody
			}
			if strings.HasPrefix(path, "/ops/jobs/river/") {
				continue // River's own, with a policy of their own: TestRiverPages
			}
			wantGuarded(t, callerNames[who]+", "+path, res)
			if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || res.body == "" {
				continue
			}
			if res.StatusCode == http.StatusOK {
				pages[path] = true
			}
			res.doc(t).Find("a[href]").Each(func(_ int, s *goquery.Selection) {
				if u, err := url.Parse(s.AttrOr("href", "")); err == nil && u.Host == "" && strings.HasPrefix(u.Path, "/") && len(seen) < 200 {
					todo = append(todo, u.RequestURI())
				}
			})
		}
		if who == owner || who == platform {
			f.wantUnchanged("the crawl by the "+callerNames[who], before)
		}
	}
	if len(pages) < 10 {
		t.Errorf("only %d pages were seen", len(pages))
	}
}

// secureSession signs in over what the site takes for https and gives the cookie's header.
func (s *site) secureSession(email string) string {
	s.t.Helper()
	b := s.browser()
	page := b.get("/login")
	token := page.doc(s.t).Find(`input[name="csrf_token"]`).First().AttrOr("value", "")
	if len(page.Cookies()) != 1 {
		s.t.Fatalf("the sign-in page sets %d cookies", len(page.Cookies()))
	}
	c := page.Cookies()[0]
	res := b.post("/login", url.Values{"csrf_token": {token}, "email": {email}, "password": {password}}, "Cookie", c.Name+"="+c.Value)
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		s.t.Fatalf("signing in as %s: %s, %d cookies", email, res.Status, len(res.Cookies()))
	}
	return res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
}

// Fields that a form shows again after a mistake, and a search that a page repeats. Everything else that is sent is never
// seen again.
var shownAgain = []string{"email", "organisation", "amount", "name", "reason", "q", "type", "next"}

// A canary of its own in every field of every form, in the query, in each header and in a webhook's body is found again in
// no log line, no error page, and, where it is a secret, in no row of any table.
func TestCanariesAreNeverSeenAgain(t *testing.T) {
	var own logBuffer // what identity itself has to say
	f := newFixture(t, func(o *options) {
		o.auth.Log = slog.New(slog.NewJSONHandler(&own, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	rules := matrix(f)

	// Every field of every form there is, by where it is sent; and what no form has.
	fields := map[string]map[string]bool{}
	forms := 0
	for _, who := range []int{stranger, owner, platform} {
		b, _, _ := f.caller(who)
		if who == owner {
			wantStatus(t, "second factor", b.send("/settings", "/settings/second-factor", nil), http.StatusSeeOther)
		}
		for _, rt := range handlers.Routes() {
			r := rules[rt.Method+" "+rt.Pattern]
			if rt.Method != http.MethodGet || r.status[who] != http.StatusOK {
				continue
			}
			res := b.ask(rt, r.target(rt), nil)
			if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
				continue
			}
			res.doc(t).Find("form").Each(func(_ int, form *goquery.Selection) {
				forms++
				action := form.AttrOr("action", "")
				if fields[action] == nil {
					fields[action] = map[string]bool{}
				}
				form.Find("[name]").Each(func(_ int, s *goquery.Selection) { fields[action][s.AttrOr("name", "")] = true })
			})
		}
	}
	if forms < 10 || !fields["/login"]["password"] || !fields["/settings/password"]["current"] || !fields["/signup"]["organisation"] {
		t.Fatalf("%d forms, with the fields %v", forms, fields)
	}

	const mark = "C4n4ry"
	canary := func(where string) string { return mark + strings.ReplaceAll(where, "_", "") + "x" }
	sent := map[string]bool{}
	plant := func(where string) string {
		sent[where] = true
		return canary(where)
	}
	var answers []reply
	for _, who := range []int{stranger, viewer, owner, platform, program} {
		b, token, credentials := f.caller(who)
		for _, rt := range handlers.Routes() {
			r := rules[rt.Method+" "+rt.Pattern]
			target := r.target(rt)
			headers := append([]string{
				"X-Api-Key", plant("header"), "X-Forwarded-For", plant("forwarded"), "Referer", "http://x.example/" + plant("referer"),
				"HX-Current-URL", "/" + plant("current-url"), "Stripe-Signature", "t=1,v1=" + plant("signature"), "Proxy-Authorization", "Basic " + plant("proxy"),
				"Idempotency-Key", plant("idempotency"),
			}, credentials...)
			form := url.Values{}
			for _, name := range []string{"password", "current", "code", "email", "org_id", "amount", "currency", "name", "scopes", "reason", "organisation", "next", "unknown"} {
				form.Set(name, plant(name))
			}
			for name := range fields[target] {
				form.Set(name, plant(name))
			}
			if rt.Pattern == "/logout" {
				continue // it would end the session, and has no field
			}
			for _, with := range []string{token, plant("csrf_token")} {
				form.Set("csrf_token", with)
				answers = append(answers, b.ask(rt, target+"?"+url.Values{"next": {"/" + plant("next")}, "done": {plant("done")}, "key": {plant("query")}}.Encode(), form, headers...))
			}
			answers = append(answers,
				b.ask(rt, strings.ReplaceAll(strings.ReplaceAll(rt.Pattern, "{id}", plant("path")), "{$}", ""), form, headers...),
				b.ask(rt, target, form, "Authorization", "Bearer "+plant("bearer")),
				b.ask(rt, target, form, "Authorization", "Basic "+plant("basic"), "Accept", "application/json"),
				b.ask(rt, target, form, "Cookie", "ringfence="+plant("cookie")+"; other="+plant("cookie")),
			)
		}
	}
	b := f.browser()
	answers = append(answers,
		b.do("POST", "/api/webhooks/stripe", strings.NewReader(plant("unsigned")), "Stripe-Signature", plant("signature")),
		b.deliver([]byte(plant("signed"))),
		b.deliver([]byte(`{"id":"evt_c","object":"event","type":"`+plant("kind")+`","created":1,"data":{"object":{"description":"`+plant("description")+`"}}}`)),
		b.get("/"+plant("path")+"?"+plant("query")),
		b.do(plant("method"), "/wallet", nil),
	)
	// Nor when the database fails in the middle: its errors like to repeat what they were given.
	o, token, _ := f.caller(owner)
	for _, table := range []string{"users", "top_ups", "login_failures", "api_keys", "stripe_events"} {
		dbtest.Super(t, f.dbURL, `ALTER TABLE `+table+` RENAME TO elsewhere`)
		for _, path := range []string{"/login", "/signup", "/wallet/top-ups", "/settings/keys", "/settings/password"} {
			answers = append(answers, o.post(path, url.Values{
				"csrf_token": {token}, "email": {plant("email") + "@x.example"}, "password": {plant("password") + " twelve"}, "current": {plant("current")},
				"organisation": {plant("organisation")}, "amount": {"61"}, "currency": {"gbp"}, "name": {plant("name")}, "scopes": {"wallet:read"},
			}))
		}
		answers = append(answers, b.deliver([]byte(plant("signed")+table)), b.get("/api/v1/wallet", "Authorization", "Bearer "+plant("bearer")))
		dbtest.Super(t, f.dbURL, `ALTER TABLE elsewhere RENAME TO `+table)
	}

	failed := 0
	for _, res := range answers {
		if res.StatusCode >= 500 {
			failed++
		}
		body := res.body
		if res.StatusCode/100 == 3 {
			body = "" // net/http's, around the same address as in Location
		}
		for name, values := range res.Header { // a redirect may repeat where to go on, and nothing else
			if name != "Location" && name != "Hx-Redirect" {
				body += name + strings.Join(values, " ")
			}
		}
		for where := range sent {
			if strings.Contains(body, canary(where)) && (!slices.Contains(shownAgain, where) || res.StatusCode >= 500) {
				t.Errorf("%s %s, %s: the answer holds what was sent as %s", res.Request.Method, res.Request.URL.Path, res.Status, where)
			}
		}
		for _, internal := range []string{"pq:", "goroutine ", "/internal/", ".go:", "SQLSTATE", "relation \""} {
			if strings.Contains(res.body, internal) {
				t.Errorf("%s %s, %s: the answer tells of the inside: %q", res.Request.Method, res.Request.URL.Path, res.Status, internal)
			}
		}
	}
	if failed < 5 {
		t.Errorf("only %d requests failed: the faults were not planted", failed)
	}
	log := f.log.String() + own.String()
	for text := range strings.Lines(log) {
		if i := strings.Index(strings.ToLower(text), strings.ToLower(mark)); i >= 0 {
			t.Errorf("the log holds a canary: …%.300s…", text[max(0, i-150):])
		}
		for name, secret := range map[string]string{"the password": password, "an API key": f.key, "a session": o.cookie().Value, "a form's token": token} {
			if strings.Contains(text, secret) {
				t.Errorf("the log holds %s", name)
			}
		}
	}
	// At rest: neither the planted secrets nor those that hold, in clear.
	for _, table := range keysOf(f.state()) {
		var rows []string
		dbtest.Select(t, f.dbURL, &rows, `SELECT t::text FROM "`+table+`" t`)
		for _, row := range rows {
			for _, where := range []string{"password", "current", "code", "csrf_token", "bearer", "basic", "cookie", "signature", "header", "query", "proxy"} {
				if strings.Contains(row, canary(where)) {
					t.Errorf("%s keeps what was sent as %s: %.200s", table, where, row)
				}
			}
			if strings.Contains(row, password) || strings.Contains(row, f.key) || strings.Contains(row, o.cookie().Value) {
				t.Errorf("%s keeps a secret in clear: %.200s", table, row)
			}
			if (table == "audit_log" || table == "login_failures") && strings.Contains(row, canary("email")) {
				t.Errorf("%s keeps what was typed into the e-mail box: %.200s", table, row)
			}
		}
	}
}

func keysOf(m map[string]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// What reaches a program of the API is the five figures of the wallet, and nothing else of its row.
func TestAPIGivesNoMoreThanItSays(t *testing.T) {
	f := newFixture(t)
	res := f.browser().get("/api/v1/wallet", "Authorization", "Bearer "+f.key)
	if want := `{"balance_pence":61900,"held_pence":20,"debt_pence":0,"available_pence":61880,"currency":"gbp"}`; res.body != want || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s, cookies %q, want %s and none", res.body, res.Header.Get("Set-Cookie"), want)
	}
}
