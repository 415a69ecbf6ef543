package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/handlers"
)

func TestOpsOrganisations(t *testing.T) {
	s := identitySite(t, mailing)
	for i := range 55 {
		id := uuid.Must(uuid.NewV7())
		dbtest.Super(t, s.dbURL, `INSERT INTO organizations VALUES ($1, $2, now())`, id, fmt.Sprintf("Bakery <%02d>", i))
		dbtest.Super(t, s.dbURL, `INSERT INTO wallets (org_id, created_at, updated_at) VALUES ($1, now(), now())`, id)
	}
	b := s.as(operator)
	page := b.get("/ops/organisations")
	wantStatus(t, "list", page, http.StatusOK)
	if strings.Contains(page.body, "Bakery <") || !strings.Contains(page.body, "Bakery &lt;00&gt;") {
		t.Error("names are not escaped")
	}
	seen := 0
	for next := "/ops/organisations"; ; {
		doc := b.get(next).doc(t)
		seen += doc.Find("#organisations tbody tr").Length()
		var more bool
		if next, more = doc.Find("#next").Attr("href"); !more || seen > 200 {
			break
		}
	}
	if seen != 57 {
		t.Errorf("the pages hold %d organisations, want 57", seen)
	}
	dbtest.Super(t, s.dbURL, `UPDATE organizations SET suspended_at = now() WHERE id = $1`, s.other)
	for query, n := range map[string]int{
		"q=HARBOUR": 1, "q=owner%40second": 1, "q=+bakery+": 50, "q=nobody": 0, "q=%25": 0, "q=a%00b": 0, "show=suspended": 1, "show=closed": 0,
		"show=suspended&q=harbour": 0, "after=" + uuid.NewString(): 0, "q=" + url.QueryEscape(`"><script>alert(1)</script>`): 0,
	} {
		res := b.get("/ops/organisations?" + query)
		wantStatus(t, query, res, http.StatusOK)
		if got := res.doc(t).Find("#organisations tbody tr").Length(); got != n {
			t.Errorf("%s gives %d rows, want %d", query, got, n)
		}
		if n == 0 && !strings.Contains(res.body, "Nothing f") || strings.Contains(res.body, "<script>alert") {
			t.Errorf("%s: an empty list without a word, or not escaped", query)
		}
	}
	for _, bad := range []string{"show=none", "after=x", "after=" + strings.ToUpper(uuid.NewString())} {
		wantStatus(t, bad, b.get("/ops/organisations?"+bad), http.StatusNotFound)
	}
	dbtest.Super(t, s.dbURL, `UPDATE organizations SET suspended_at = NULL`)

	const form = "/ops/organisations/new"
	for field, with := range map[string]url.Values{
		"name": {"name": {" "}, "owner": {"a@b.example"}, "reason": {"r"}}, "owner": {"name": {"Mill"}, "owner": {"nonsense <x"}, "reason": {"r"}},
		"reason": {"name": {"Mill"}, "owner": {"a@b.example"}},
	} {
		res := b.send(form, "/ops/organisations", with)
		wantStatus(t, field, res, http.StatusUnprocessableEntity)
		if doc := res.doc(t); doc.Find("#"+field+"-error").Text() == "" || doc.Find("#owner").AttrOr("value", "") != with.Get("owner") {
			t.Errorf("%s: the form did not come back as it was:\n%s", field, res.body)
		}
	}
	res := b.send(form, "/ops/organisations", url.Values{"name": {"Harbour Dental"}, "owner": {"a@b.example"}, "reason": {"r"}})
	if wantStatus(t, "taken", res, http.StatusUnprocessableEntity); res.doc(t).Find("#name-error").Text() == "" {
		t.Error("not told that the name is taken")
	}
	res = b.send(form, "/ops/organisations", url.Values{"name": {"Mill"}, "owner": {"miller@mill.example"}, "reason": {"TICKET-1"}})
	wantStatus(t, "open", res, http.StatusSeeOther)
	one := b.get(res.Header.Get("Location"))
	wantSpaced(t, "the new one", one, "main", "Mill")
	wantSpaced(t, "the new one", one, "#done", "invited by mail")
	wantSpaced(t, "the new one", one, "#about", "Nobody yet")
	if s.link("invitation", "miller@mill.example") == "" {
		t.Error("no letter goes to its owner")
	}
	path := "/ops/organisations/" + s.org.String()
	wantSpaced(t, "Harbour Dental", b.get(path), "#people", "owner@harbour.example owner")
	wantSpaced(t, "Harbour Dental", b.get(path), "#about", "£569.00")
	wantStatus(t, "none", b.get("/ops/organisations/"+uuid.NewString()), http.StatusNotFound)
}

// TestSuspendedOrganisation: its people look at every page and change nothing, its programs are refused with a code, and what
// is a person's own stays theirs.
func TestSuspendedOrganisation(t *testing.T) {
	f := newFixture(t)
	o, mine := f.as(operator), f.as("owner@harbour.example")
	path := "/ops/organisations/" + f.org.String()
	res := o.send(path+"/suspend", path+"/suspend", url.Values{"reason": {" "}})
	if wantStatus(t, "no reason", res, http.StatusUnprocessableEntity); res.doc(t).Find("#reason-error").Text() == "" {
		t.Error("not told that a reason is needed")
	}
	wantStatus(t, "suspend", o.send(path+"/suspend", path+"/suspend", url.Values{"reason": {"fraud <1>"}}), http.StatusSeeOther)
	wantStatus(t, "again", o.send(path, path+"/suspend", url.Values{"reason": {"again"}}), http.StatusConflict)
	wantSpaced(t, "for operators", o.get(path), "#suspended-notice", "fraud <1>")
	// The key is remembered for half a second; the gates refuse at once.
	if got := mine.program("POST", "/api/v1/holds", f.key, `{"action":"sms","quantity":1}`).problem(t); got != (problem{403, "suspended", ""}) {
		t.Errorf("a hold just afterwards: %+v", got)
	}
	for until := time.Now().Add(20 * time.Second); mine.program("GET", "/api/v1/wallet", f.key, "").StatusCode != http.StatusForbidden; {
		if time.Now().After(until) {
			t.Fatal("the API goes on answering")
		}
	}
	token := mine.token("/settings")
	rules := matrix(f)
	before := f.state()
	for _, rt := range handlers.Routes() {
		r, ok := rules[rt.Method+" "+rt.Pattern]
		name := rt.Method + " " + rt.Pattern
		switch {
		case !ok || rt.Access == handlers.Operator || rt.Access == handlers.Webhook:
		case rt.Access == handlers.RequireAuth || rt.Access == handlers.RequireAuthOrDev:
			for who, headers := range map[string][]string{"a key": {"Authorization", "Bearer " + f.key}, "an owner": nil} {
				if got := mine.ask(rt, r.target(rt), r.body(f, token), headers...).problem(t); got.Status != 403 || got.Code != "suspended" {
					t.Errorf("%s by %s: %+v", name, who, got)
				}
			}
		case rt.Access == handlers.Session && rt.Method != http.MethodGet:
			res := mine.ask(rt, r.target(rt), r.body(f, token))
			wantStatus(t, name, res, http.StatusForbidden)
			if !strings.Contains(res.body, "suspended") || strings.Contains(res.body, "fraud") {
				t.Errorf("%s does not say why, or says too much:\n%s", name, res.body)
			}
		// The pages that ask before something is done are of no use, and those for making something are as closed as to viewers.
		case rt.Access == handlers.Session && rt.Pattern != "/wallet/stream" && !strings.Contains(rt.Pattern, "{id}/") && r.status[viewer] == http.StatusOK:
			res := mine.ask(rt, r.target(rt), nil)
			if wantStatus(t, name, res, http.StatusOK); strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") && !strings.Contains(res.body, `id="suspended"`) {
				t.Errorf("%s does not say that it is suspended", name)
			}
		}
	}
	f.wantUnchanged("a suspended organisation", before)
	wantStatus(t, "one's own password", mine.send("/settings", "/settings/password", url.Values{"current": {"wrong"}}), http.StatusUnprocessableEntity)
	if other := f.as("owner@second.example"); strings.Contains(other.get("/wallet").body, `id="suspended"`) {
		t.Error("another organisation is told that it is suspended")
	}
	wantStatus(t, "unsuspend", o.send(path+"/unsuspend", path+"/unsuspend", url.Values{"reason": {"paid"}}), http.StatusSeeOther)
	if strings.Contains(mine.get("/wallet").body, `id="suspended"`) {
		t.Error("the banner stays")
	}
	wantStatus(t, "a change", mine.send("/wallet/limits", "/wallet/limits", url.Values{"all": {"1000"}}), http.StatusSeeOther)
}

// TestViewAsCustomer: an operator sees what a viewer sees, with a banner, and every request that would change something is
// refused whatever the route, by forms, by htmx and over the API; then it ends.
func TestViewAsCustomer(t *testing.T) {
	f := newFixture(t)
	b := f.as(operator)
	wantStatus(t, "before", b.get("/wallet"), http.StatusForbidden)
	path := "/ops/organisations/" + f.org.String() + "/view"
	res := b.send(path, path, url.Values{"reason": {""}})
	if wantStatus(t, "no reason", res, http.StatusUnprocessableEntity); res.doc(t).Find("#reason-error").Text() == "" {
		t.Error("not told that a reason is needed")
	}
	res = b.send(path, path, url.Values{"reason": {"TICKET-1"}})
	if wantStatus(t, "begin", res, http.StatusSeeOther); res.Header.Get("Location") != "/dashboard" {
		t.Errorf("led to %s", res.Header.Get("Location"))
	}
	for _, page := range []string{"/dashboard", "/wallet", "/messages", "/ops/wallets"} {
		wantSpaced(t, page, b.get(page), "#viewing", "You see Harbour Dental as its people do")
	}
	wantSpaced(t, "what is seen", b.get("/dashboard"), "#balance-amount", "£")
	if strings.Contains(b.get("/wallet").body, `action="/wallet/top-ups"`) {
		t.Error("a form is offered that would be refused")
	}
	token := b.token("/settings")
	rules := matrix(f)
	before := f.state()
	refused := 0
	for _, rt := range handlers.Routes() {
		r, ok := rules[rt.Method+" "+rt.Pattern]
		if !ok || rt.Method == http.MethodGet || rt.Access == handlers.Webhook || rt.Pattern == "/ops/view/end" || rt.Pattern == "/logout" {
			continue
		}
		for how, headers := range map[string][]string{"form": nil, "htmx": {"HX-Request", "true"}} {
			res := b.ask(rt, r.target(rt), r.body(f, token), headers...)
			name := rt.Method + " " + rt.Pattern + " by " + how
			if wantStatus(t, name, res, http.StatusForbidden); !strings.Contains(res.body, "as its people see it") {
				t.Errorf("%s is refused for another reason:\n%s", name, res.body)
			}
			refused++
		}
	}
	if refused < 100 {
		t.Errorf("only %d requests were tried", refused)
	}
	f.wantUnchanged("looking", before)
	// Another session of the same operator sees none of it.
	wantStatus(t, "another session", f.as(operator).get("/wallet"), http.StatusForbidden)
	res = b.send("/wallet", "/ops/view/end", nil)
	if wantStatus(t, "end", res, http.StatusSeeOther); res.Header.Get("Location") != "/ops/organisations/"+f.org.String()+"?done=ended" {
		t.Errorf("led to %s", res.Header.Get("Location"))
	}
	wantStatus(t, "after", b.get("/wallet"), http.StatusForbidden)
	if strings.Contains(b.get("/ops/wallets").body, `id="viewing"`) {
		t.Error("the banner stays")
	}
	if n := f.count(`SELECT count(*) FROM audit_log WHERE action IN ('operator.view_started', 'operator.view_ended') AND reason = 'TICKET-1' AND org_id = $1 AND actor LIKE 'operator:%'`, f.org); n != 2 {
		t.Errorf("%d rows of the log tell of it", n)
	}
	wantStatus(t, "end what is not", b.send("/ops/wallets", "/ops/view/end", nil), http.StatusSeeOther)
}
