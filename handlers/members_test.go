package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
	"ringfence/internal/auth/gotruetest"
)

// link is the token in the newest letter of a kind to an address.
func (s *site) link(kind, email string) string {
	s.t.Helper()
	var rows []struct {
		ID     uuid.UUID
		Sealed []byte `db:"sealed_token"`
	}
	dbtest.Select(s.t, s.dbURL, &rows, `SELECT id, sealed_token FROM personal_letters WHERE kind = $1 AND address = $2 ORDER BY created_at DESC, id DESC`, kind, email)
	if len(rows) == 0 {
		s.t.Fatalf("%s was sent no %s", email, kind)
	}
	token, err := s.auth.OpenToken(rows[0].ID, rows[0].Sealed)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

func mailing(o *options) { o.mails = true }

// An owner invites, the person comes by the link, and an owner changes what they may do and ends it.
func TestMembersPage(t *testing.T) {
	s := identitySite(t, mailing)
	b := s.as("owner@harbour.example")
	const page, invite = "/settings/members", "/settings/members/invitations"
	res := b.send(page, invite, url.Values{"email": {"nonsense <x"}, "role": {"viewer"}})
	wantStatus(t, "no address", res, http.StatusUnprocessableEntity)
	if doc := res.doc(t); doc.Find("#invite-email-error").Text() == "" || doc.Find("#invite-email").AttrOr("value", "") != "nonsense <x" || doc.Find(`#invite-role option[selected]`).AttrOr("value", "") != "viewer" {
		t.Errorf("the form did not come back as it was:\n%s", res.body)
	}
	wantStatus(t, "works here", b.send(page, invite, url.Values{"email": {"viewer@harbour.example"}, "role": {"viewer"}}), http.StatusConflict)
	wantStatus(t, "no role", b.send(page, invite, url.Values{"email": {"new@harbour.example"}, "role": {"king"}}), http.StatusUnprocessableEntity)
	// Whether there is an account makes no difference to who invites.
	known := b.send(page, invite, url.Values{"email": {"owner@second.example"}, "role": {"viewer"}})
	unknown := b.send(page, invite, url.Values{"email": {"new@harbour.example"}, "role": {"viewer"}})
	wantStatus(t, "invite", unknown, http.StatusSeeOther)
	if known.StatusCode != unknown.StatusCode || known.Header.Get("Location") != unknown.Header.Get("Location") || known.body != unknown.body {
		t.Error("the answers differ")
	}
	list := b.get(page)
	if n := list.doc(t).Find("#invitations tbody tr").Length(); n != 2 {
		t.Errorf("%d invitations are listed", n)
	}
	viewer := s.as("viewer@harbour.example")
	seen := viewer.get(page)
	if doc := seen.doc(t); doc.Find("#members tbody tr").Length() != 2 || doc.Find(`form[action*="/settings/members"]`).Length() != 0 {
		t.Errorf("a viewer sees something else than who works here:\n%s", seen.body)
	}

	// Signed in as somebody else, the link offers nothing but to sign out.
	token := s.link("invitation", "new@harbour.example")
	path := "/invitation?token=" + token
	if doc := s.as("owner@second.example").get(path).doc(t); doc.Find("#other-address").Length() != 1 || doc.Find(`form[action="/invitation"]`).Length() != 0 {
		t.Error("somebody else is offered to join")
	}
	wantStatus(t, "somebody else", s.as("owner@second.example").send(path, "/invitation", url.Values{"token": {token}, "how": {"join"}}), http.StatusConflict)
	fresh := s.browser()
	res = fresh.send(path, "/invitation", url.Values{"token": {token}, "how": {"new"}, "password": {"short"}})
	if wantStatus(t, "short password", res, http.StatusUnprocessableEntity); res.doc(t).Find("#new-password-error").Text() == "" {
		t.Error("not told why")
	}
	wantStatus(t, "no account yet", fresh.send(path, "/invitation", url.Values{"token": {token}, "how": {"sign-in"}, "password": {password}}), http.StatusUnauthorized)
	res = fresh.send(path, "/invitation", url.Values{"token": {token}, "how": {"new"}, "password": {"a brand new day, 7 o'clock"}})
	wantStatus(t, "join", res, http.StatusSeeOther)
	wantSpaced(t, "the new member", fresh.get("/dashboard"), "#balance-amount", "£569.00")
	wantStatus(t, "used", s.browser().get(path), http.StatusNotFound)
	wantStatus(t, "a viewer invites", fresh.send("/settings", invite, url.Values{"email": {"x@harbour.example"}, "role": {"owner"}}), http.StatusForbidden)

	// Who is signed in with that very address joins by one click, and goes on there.
	other := s.as("owner@second.example")
	second := "/invitation?token=" + s.link("invitation", "owner@second.example")
	wantStatus(t, "join as oneself", other.send(second, "/invitation", url.Values{"token": {s.link("invitation", "owner@second.example")}}), http.StatusSeeOther)
	wantSpaced(t, "the second member", other.get("/dashboard"), "#balance-amount", "£569.00")

	var id string
	dbtest.Get(t, s.dbURL, &id, `SELECT id FROM users WHERE email = 'new@harbour.example'`)
	one := page + "/" + id
	wantStatus(t, "the page of a member", b.get(one), http.StatusOK)
	wantStatus(t, "role", b.send(one, one+"/role", url.Values{"role": {"member"}}), http.StatusSeeOther)
	res = fresh.send("/settings", "/settings/members/leave", nil)
	if wantStatus(t, "leave", res, http.StatusSeeOther); res.Header.Get("Location") != "/login" {
		t.Errorf("led to %s", res.Header.Get("Location"))
	}
	wantStatus(t, "after leaving", fresh.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "gone", b.get(one), http.StatusNotFound)
	var viewerID string
	dbtest.Get(t, s.dbURL, &viewerID, `SELECT id FROM users WHERE email = 'viewer@harbour.example'`)
	wantStatus(t, "remove", b.send(page, page+"/"+viewerID+"/remove", nil), http.StatusSeeOther)
	wantStatus(t, "the removed", viewer.get("/dashboard"), http.StatusSeeOther)
	// The last owner is told why not.
	var me string
	dbtest.Get(t, s.dbURL, &me, `SELECT id FROM users WHERE email = 'owner@harbour.example'`)
	for path, form := range map[string]url.Values{"/settings/members/leave": nil, page + "/" + me + "/role": {"role": {"viewer"}}, page + "/" + me + "/remove": nil} {
		if res := b.send(page, path, form); res.StatusCode != http.StatusConflict || !strings.Contains(res.body, "this is the last one") {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	if strings.Contains(s.log.String(), token) {
		t.Error("the link's token is in the log")
	}
}

// Without a mail server nobody can be invited, and nobody is promised a letter.
func TestNoMail(t *testing.T) {
	s := identitySite(t)
	b := s.as("owner@harbour.example")
	if b.get("/settings/members").doc(t).Find("#invite-email").Length() != 0 {
		t.Error("an invitation is offered")
	}
	wantStatus(t, "invite", b.send("/settings", "/settings/members/invitations", url.Values{"email": {"x@harbour.example"}, "role": {"viewer"}}), http.StatusConflict)
	if s.browser().get("/password/forgot").doc(t).Find("#email").Length() != 0 {
		t.Error("a letter is offered")
	}
	wantStatus(t, "forgot", s.browser().send("/login", "/password/forgot", url.Values{"email": {"owner@harbour.example"}}), http.StatusNotFound)
}

// Whoever asks gets the same answer, and the link leads to a new password and then to signing in.
func TestForgottenPassword(t *testing.T) {
	s := identitySite(t, mailing)
	const owner = "owner@harbour.example"
	open := s.as(owner)
	b := s.browser()
	wantSpaced(t, "sign-in", b.get("/login"), `a[href="/password/forgot"]`, "Forgotten your password?")
	res := b.send("/password/forgot", "/password/forgot", url.Values{"email": {"no address"}})
	if wantStatus(t, "no address", res, http.StatusUnprocessableEntity); res.doc(t).Find("#email-error").Text() == "" {
		t.Error("not told why")
	}
	answers := map[string]bool{}
	for _, email := range []string{owner, "nobody@harbour.example"} {
		res := b.send("/password/forgot", "/password/forgot", url.Values{"email": {email}})
		wantStatus(t, "ask", res, http.StatusSeeOther)
		answers[res.Header.Get("Location")+steady(b.get(res.Header.Get("Location")).body)] = true
	}
	if len(answers) != 1 {
		t.Errorf("the answers differ: %v", answers)
	}
	for range 4 {
		b.send("/password/forgot", "/password/forgot", url.Values{"email": {"nobody@harbour.example"}})
	}
	res = b.send("/password/forgot", "/password/forgot", url.Values{"email": {"nobody@harbour.example"}})
	if wantStatus(t, "too often", res, http.StatusTooManyRequests); res.Header.Get("Retry-After") == "" {
		t.Error("not told when to come back")
	}
	token := s.link("password_reset", owner)
	path := "/password/reset?token=" + token
	wantStatus(t, "the link", b.get(path), http.StatusOK)
	res = b.send(path, "/password/reset", url.Values{"token": {token}, "password": {"1qaz2wsx3edc"}})
	if wantStatus(t, "a common password", res, http.StatusUnprocessableEntity); res.doc(t).Find("#password-error").Text() == "" || res.doc(t).Find("input[name=token]").AttrOr("value", "") != token {
		t.Errorf("the form did not come back:\n%s", res.body)
	}
	wantStatus(t, "no form token", b.post("/password/reset", url.Values{"token": {token}, "password": {"an entirely new phrase"}}), http.StatusForbidden)
	res = b.send(path, "/password/reset", url.Values{"token": {token}, "password": {"an entirely new phrase"}})
	if wantStatus(t, "the new password", res, http.StatusSeeOther); !strings.Contains(b.get(res.Header.Get("Location")).body, "Your password was changed") {
		t.Errorf("led to %s", res.Header.Get("Location"))
	}
	wantStatus(t, "nobody is signed in by it", b.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "the session from before", open.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "the old password", b.tryLogin(owner, password), http.StatusUnauthorized)
	wantStatus(t, "the new one", b.tryLogin(owner, "an entirely new phrase"), http.StatusSeeOther)
	wantStatus(t, "the link again", s.browser().get(path), http.StatusNotFound)
	if strings.Contains(s.log.String(), token) {
		t.Error("the link's token is in the log")
	}
}

// With an outside provider passwords are not ours to change, and an invitation is accepted by signing in there.
func TestPeopleOfAProvider(t *testing.T) {
	p := newProject(t, "ES256")
	s := identitySite(t, mailing, func(o *options) {
		o.auth.Verifier, o.auth.Supabase = p.verifier(), auth.NewSupabase(p.URL, gotruetest.AnonKey)
		o.deps = func(*handlers.Deps) {}
	})
	p.join(s)
	res := s.browser().get("/password/forgot")
	if wantStatus(t, "forgot", res, http.StatusOK); !strings.Contains(res.body, "sign-in provider") || res.doc(t).Find("form").Length() != 0 {
		t.Error("not told where")
	}
	wantStatus(t, "ask", s.browser().send("/login", "/password/forgot", url.Values{"email": {"x@y.example"}}), http.StatusNotFound)
	wantStatus(t, "reset", s.browser().get("/password/reset?token="+strings.Repeat("x", 43)), http.StatusNotFound)
	const email = "late@north.example"
	p.AddUser(email, password, nil)
	dbtest.Super(t, s.dbURL, `UPDATE memberships SET role = 'owner'`)
	b := s.browser()
	wantStatus(t, "sign-in", b.tryLogin("member@north.example", password), http.StatusSeeOther)
	wantStatus(t, "invite", b.send("/settings/members", "/settings/members/invitations", url.Values{"email": {email}, "role": {"viewer"}}), http.StatusSeeOther)
	token := s.link("invitation", email)
	late := s.browser()
	wantStatus(t, "belongs nowhere yet", late.tryLogin(email, password), http.StatusForbidden)
	page := late.get("/invitation?token=" + token)
	if page.doc(t).Find("#new-password").Length() != 0 {
		t.Error("a password is offered that nobody keeps")
	}
	wantStatus(t, "no account is made", late.send("/invitation?token="+token, "/invitation", url.Values{"token": {token}, "how": {"new"}, "password": {"a brand new day, 7 o'clock"}}), http.StatusNotFound)
	wantStatus(t, "join", late.send("/invitation?token="+token, "/invitation", url.Values{"token": {token}, "how": {"sign-in"}, "password": {password}}), http.StatusSeeOther)
	wantStatus(t, "joined", late.get("/dashboard"), http.StatusOK)
}

// One's sessions are listed in plain words, and signed out one by one or all at once.
func TestSessionsPage(t *testing.T) {
	s := identitySite(t)
	firefox := s.browser()
	token := firefox.token("/login")
	firefox.post("/login", url.Values{"csrf_token": {token}, "email": {"owner@harbour.example"}, "password": {password}},
		"User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0")
	phone := s.browser()
	token = phone.token("/login")
	phone.post("/login", url.Values{"csrf_token": {token}, "email": {"owner@harbour.example"}, "password": {password}},
		"User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1")
	odd := s.browser()
	token = odd.token("/login")
	odd.post("/login", url.Values{"csrf_token": {token}, "email": {"owner@harbour.example"}, "password": {password}}, "User-Agent", "<b>x</b>")
	b := s.as("owner@harbour.example")
	page := b.get("/settings/sessions")
	doc := page.doc(t)
	for _, words := range []string{"Firefox on Windows", "Safari on a phone with iOS", "This one", "127.0.0.1"} {
		if !strings.Contains(doc.Find("#sessions").Text(), words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	if doc.Find("#sessions tbody tr").Length() != 4 || doc.Find("#sessions form").Length() != 3 || strings.Contains(page.body, "<b>x") {
		t.Errorf("the list is not whole:\n%s", page.body)
	}
	var id string
	for _, row := range doc.Find("#sessions tbody tr").EachIter() {
		if strings.Contains(row.Text(), "Firefox") {
			id = row.Find("input[name=id]").AttrOr("value", "")
		}
	}
	stranger := s.as("owner@second.example")
	wantStatus(t, "somebody else's", stranger.send("/settings/sessions", "/settings/sessions/end", url.Values{"id": {id}}), http.StatusNotFound)
	wantStatus(t, "still in", firefox.get("/dashboard"), http.StatusOK)
	wantStatus(t, "end one", b.send("/settings/sessions", "/settings/sessions/end", url.Values{"id": {id}}), http.StatusSeeOther)
	wantStatus(t, "signed out", firefox.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "not this one", phone.get("/dashboard"), http.StatusOK)
	wantStatus(t, "all others", b.send("/settings/sessions", "/settings/sessions/end-others", nil), http.StatusSeeOther)
	wantStatus(t, "signed out as well", phone.get("/dashboard"), http.StatusSeeOther)
	wantStatus(t, "this one stays", b.get("/settings/sessions?done=others"), http.StatusOK)
	wantStatus(t, "somebody else stays", stranger.get("/dashboard"), http.StatusOK)
}
