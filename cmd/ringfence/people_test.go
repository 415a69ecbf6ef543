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

	"ringfence/db/dbtest"
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
	boss.Expect("status of 422")
	boss.Expect("status of 409")
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
	tab.Expect("status of 422")
	tab.Expect("status of 404")
	tab.Expect("[object Event]") // the stream of a page ends with its session
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

	var id string
	dbtest.Get(t, s.getenv("DATABASE_URL"), &id, `SELECT id FROM users WHERE email = $1`, email)
	boss.Open(s.base() + "/settings/members")
	boss.Leave(`a[href="/settings/members/` + id + `"]`)
	look(boss, "member")
	boss.Click("#remove-ask summary")
	boss.Leave("#remove-submit")
	want(t, "the removal", boss.Text("#done"), "signed out of this organisation everywhere")
	tab.Open(s.base() + "/dashboard")
	tab.WaitPath("/login")
	boss.Open(s.base() + "/settings/members/leave")
	boss.Leave("#leave-submit")
	want(t, "the last owner stays", boss.Text("#leave-problem"), "the last one")
	look(boss, "leave-refused")
}

// TestWebhooks follows an event from the transaction that made it to a program's door, and looks at the pages.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	var status atomic.Int64
	status.Store(http.StatusInternalServerError)
	type message struct {
		header http.Header
		body   []byte
	}
	messages := make(chan message, 100)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		messages <- message{r.Header.Clone(), body}
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "We are closed.")
	}))
	t.Cleanup(program.Close)

	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/settings/webhooks")
	tab.Everywhere("webhooks-empty")
	tab.Leave("#add-endpoint")
	tab.Everywhere("webhook-new")
	tab.Type("#url", "gopher://example.com")
	tab.Leave("#endpoint-submit")
	want(t, "a refusal", tab.Text("#url-error"), "https://")
	tab.Everywhere("webhooks-refused")
	tab.Type("#url", program.URL+"/hook")
	tab.Click(`label:has([value="wallet.credited"])`)
	tab.Click(`label:has([value="wallet.low"])`)
	tab.Leave("#endpoint-submit")
	secret := tab.Text("#secret-value")
	tab.Everywhere("webhooks-secret")
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}

	tab.Open(s.base() + "/settings/webhooks")
	tab.Leave("#endpoints a")
	tab.Leave("#test-submit")
	first := <-messages
	if err := verifier.Verify(first.body, first.header); err != nil || !strings.Contains(string(first.body), `"webhook.test"`) {
		t.Errorf("%s: %v", first.body, err)
	}
	until(t, "the attempt", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#deliveries"), "Once, 500")
	})
	tab.Everywhere("webhook-failing")
	tab.Leave("#deliveries a")
	want(t, "the answer", tab.Text("#attempts"), "We are closed.")
	tab.Everywhere("webhook-delivery")
	status.Store(http.StatusOK)
	tab.Leave("#resend-submit")
	until(t, "the second attempt", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#main"), "Delivered")
	})
	for again := <-messages; again.header.Get("webhook-id") != first.header.Get("webhook-id"); again = <-messages {
		t.Error("the same message has another id")
	}

	tab.Open(s.base() + "/settings/webhooks")
	tab.Leave("#endpoints a")
	tab.Everywhere("webhook")
	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	plain.Open(tab.URL())
	plain.Click("#roll-ask summary")
	plain.Leave("#roll-submit")
	if plain.Text("#secret-value") == secret {
		t.Error("the secret is the old one")
	}
	plain.Leave(`a[href="/settings/webhooks"]`)
	plain.Leave("#endpoints a")
	plain.Leave("#switch-submit")
	want(t, "off", plain.Text("#off"), "Nothing is sent to it")
	tab.Reload()
	tab.Everywhere("webhook-off")
	plain.Leave("#remove-link")
	tab.Open(plain.URL()) // axe needs scripts
	tab.Everywhere("webhook-remove")
	plain.Leave("#remove-submit")
	want(t, "removed", plain.Text("#done"), "removed")
	s.booksAgree(t)
}
