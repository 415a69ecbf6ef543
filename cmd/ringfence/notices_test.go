package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/internal/browsertest"
	"ringfence/internal/sandbox"
)

// letters are what the sandbox was handed for somebody, newest first.
func (e environment) letters(t testing.TB, to string) []sandbox.Letter {
	t.Helper()
	res, err := http.Get(e.sandboxBase() + "/sandbox/mail.json?to=" + url.QueryEscape(to))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct{ Messages []sandbox.Letter }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list.Messages
}

// TestNotices follows a letter from the fall of a balance to the mailbox, and looks at the pages.
func TestNotices(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/notices")
	want(t, "the list", tab.Text("#notices"), "Nothing to tell")
	tab.Everywhere("notices-empty")
	tab.Open(s.base() + "/settings")
	tab.Leave(`a[href="/settings/notices"]`)
	tab.Type("#mark", "lots")
	tab.Click("#notices-submit")
	tab.WaitText("#mark-error", "digits")
	tab.Everywhere("notice-settings-refused")
	until(t, "the first look at the balance", func() bool {
		return s.count(t, `SELECT count(*) FROM notice_marks m JOIN organizations o ON o.id = m.org_id AND NOT m.below WHERE o.name = 'Harbour Dental'`) == 1
	})
	tab.Type("#mark", "600.00")
	tab.Leave("#notices-submit")
	want(t, "saved", tab.Text("#done"), "saved")
	tab.Everywhere("notice-settings")

	until(t, "the letter", func() bool { return len(s.letters(t, owner)) == 1 })
	l := s.letters(t, owner)[0]
	if l.Subject != "Your balance is low" || !strings.Contains(l.Text, "£569.00 is available") || !strings.Contains(l.Text, "Top up: "+s.base()+"/wallet") {
		t.Errorf("%q: %s", l.Subject, l.Text)
	}
	for _, v := range []browsertest.View{{}, {NoScripts: true}} {
		tab := s.tab(t, v, owner)
		tab.Open(s.base() + "/dashboard")
		want(t, "the dashboard", tab.Text("#notices"), "Your balance is low")
		tab.Leave(`#notices a[href="/notices"]`)
		want(t, "the list", tab.Text("#notices li"), "Needs attention")
		if !v.NoScripts {
			whole(tab, "notices")
		}
	}
	if n := len(s.letters(t, "viewer@harbour.example")); n != 0 {
		t.Errorf("the viewer was sent %d letters", n)
	}
	s.booksAgree(t)
}
