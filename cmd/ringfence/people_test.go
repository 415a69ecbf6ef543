package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ringfence/internal/browsertest"
)

// linkIn is the address in the newest letter with a subject to somebody.
func (e environment) linkIn(t testing.TB, to, subject string) (link string) {
	t.Helper()
	until(t, "the letter "+subject, func() bool {
		for _, l := range e.letters(t, to) {
			if strings.Contains(l.Subject, subject) {
				link = regexp.MustCompile(`http://\S+\?token=\S+`).FindString(l.Text)
				return link != ""
			}
		}
		return false
	})
	return link
}

// TestPeople follows somebody from the invitation in their mailbox to a forgotten password, and an owner who watches over
// who is in, with scripts and without.
func TestPeople(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	for name, v := range map[string]browsertest.View{"scripts": {}, "no-scripts": {NoScripts: true}} {
		t.Run(name, func(t *testing.T) { people(t, s, v, name+"@harbour.example") })
	}
	s.booksAgree(t)
}

func people(t *testing.T, s *site, v browsertest.View, email string) {
	const first, second = "a brand new day, 7 o'clock", "an entirely new phrase"
	look := func(tab *browsertest.Tab, page string) {
		if !v.NoScripts { // axe is one
			tab.Everywhere("people-" + page)
		}
	}
	boss := s.tab(t, v, owner)
	boss.Expect("status of 422", "status of 404", "status of 409")
	boss.Open(s.base() + "/settings/members")
	look(boss, "members")
	boss.Type("#invite-email", "nobody at all")
	boss.Leave("#invite-submit")
	want(t, "a refusal", boss.Text("#invite-email-error"), "email address")
	look(boss, "invite-refused")
	boss.Type("#invite-email", email)
	boss.Leave("#invite-submit")
	want(t, "the invitation", boss.Text("#invitations"), email)
	look(boss, "invited")

	tab := s.browser.Visit(t, v)
	tab.Expect("status of 422", "status of 404")
	link := s.linkIn(t, email, "You are invited to Harbour Dental")
	tab.Open(link)
	want(t, "whom it is for", tab.Text("#invitation"), email)
	look(tab, "invitation")
	tab.Type("#new-password", "qwertyuiop123")
	tab.Leave("#new-submit")
	want(t, "a common password", tab.Text("#new-password-error"), "guessed first")
	look(tab, "invitation-refused")
	tab.Type("#new-password", first)
	tab.Leave("#new-submit")
	tab.WaitPath("/dashboard")
	tab.Open(link)
	want(t, "the link again", tab.Text("h1"), "Not found")
	tab.Open(s.base() + "/settings/sessions")
	want(t, "the session", tab.Text("#sessions"), "This one")
	look(tab, "sessions")
	tab.Leave(`form[action="/logout"] button`)

	tab.Open(s.base() + "/login")
	tab.Leave(`a[href="/password/forgot"]`)
	look(tab, "forgot")
	tab.Type("#email", email)
	tab.Leave("#forgot-submit")
	want(t, "what is said", tab.Text("#sent"), "If there is an account")
	look(tab, "forgot-sent")
	tab.Open(s.linkIn(t, email, "Choose a new password"))
	look(tab, "reset")
	tab.Type("#password", second)
	tab.Leave("#reset-submit")
	tab.WaitPath("/login")
	tab.Type("#email", email)
	tab.Type("#password", second)
	tab.Leave(loginButton)
	tab.WaitPath("/dashboard")
	until(t, "the letter about it", func() bool { return s.letters(t, email)[0].Subject == "Your password was changed" })

	boss.Open(s.base() + "/settings/members")
	boss.Leave(`#members a[aria-label], #members tr:has-text`)
}

var _ = io.EOF
var _ atomic.Int64
var _ = httptest.NewServer
var _ = standardwebhooks.NewWebhook
