package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/internal/browsertest"
	"ringfence/internal/sandbox"
)

// TestNumberPages buys, keeps and releases numbers as people do, with scripts and without, and mends what a provider holds
// as an operator does.
func TestNumberPages(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("with scripts", func(t *testing.T) { getNumber(t, s) })
	t.Run("without scripts", func(t *testing.T) { getNumberWithoutScripts(t, s) })
	t.Run("credentials", func(t *testing.T) { keepCredential(t, s) })
	t.Run("integrity", func(t *testing.T) { mendNumbers(t, s) })
	s.booksAgree(t)
}

// vapiFaults gives the running sandbox's Vapi its faults; none mends it.
func (s *site) vapiFaults(t *testing.T, rules string) {
	t.Helper()
	res, err := http.PostForm(s.sandboxBase()+"/sandbox/vapi/faults", url.Values{"rules": {rules}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("the faults: %s", res.Status)
	}
}

func getNumber(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 4")
	tab.Expect("Response Status Error Code 4")
	tab.Open(s.base() + "/numbers")
	want(t, "the list", tab.Text("#numbers"), "No numbers yet")
	tab.Everywhere("numbers-empty")
	tab.Type("#contains", "<")
	tab.Click("#find")
	tab.WaitText("#contains-error", "2 to 15 digits")
	tab.Type("#contains", "")
	tab.Click("#find")
	tab.WaitText("#results", "numbers found")
	want(t, "what is British", tab.Text("#results"), "Address needed")
	tab.Everywhere("numbers-address")
	tab.Open(s.base() + "/numbers?find=1&country=US&area=415")
	want(t, "the results", tab.Text("#results"), "£10.00")
	tab.Everywhere("numbers-results")

	tab.Leave("#results li a")
	number := tab.Text("#wanted")
	want(t, "the question", tab.Text("#costs"), "£559.00")
	tab.Everywhere("number-buy")
	tab.Leave("#buy")
	tab.WaitText("#number-state", "It is ready to be used")
	tab.WaitText("#said", "Active £1.19 a month It is ready to be used.") // what a poll brought is read out
	want(t, "the history", tab.Text("#history"), "Activated and paid for")
	want(t, "the entries", tab.Text("#entries"), "-£10.00")
	tab.Everywhere("number-active")
	if got := s.balancePence(t); got != 559_00 {
		t.Errorf("the balance is %d", got)
	}
	path := tab.Path()
	tab.Open(s.base() + "/numbers")
	want(t, "the list", tab.Text("#numbers"), number)
	tab.Everywhere("numbers")

	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + "/numbers")
	want(t, "what a viewer sees", looks.Text("#numbers"), number)
	if n := looks.Count(`main form`); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
	looks.Everywhere("numbers-viewer")
	poor := s.tab(t, browsertest.View{}, "owner@second.example")
	poor.Expect("status of 404")
	poor.Open(s.base() + path)
	if poor.Status() != http.StatusNotFound {
		t.Errorf("another organisation's number: %d", poor.Status())
	}
	poor.Open(s.base() + "/numbers?find=1&country=US")
	poor.Leave("#results li a")
	want(t, "an empty wallet", poor.Text("#short"), "not enough in the wallet")
	poor.Everywhere("number-unpaid")

	tab.Open(s.base() + path)
	s.vapiFaults(t, `[{"match":"`+sandbox.DeleteImported+`","do":"500","times":-1}]`)
	tab.Leave("#release")
	tab.Type("#confirm", "0000x")
	tab.Leave("#release-submit")
	want(t, "the wrong digits", tab.Text("#confirm-error"), "not the last four digits")
	tab.Everywhere("number-release")
	tab.Type("#confirm", number[len(number)-4:])
	tab.Leave("#release-submit")
	tab.WaitText("#number-state", "Release refused")
	want(t, "the refusal", tab.Text("#note"), "has not let go of the number yet")
	tab.Everywhere("number-refused")
	op := s.tab(t, browsertest.View{}, operator)
	op.Open(s.base() + "/ops/integrity")
	want(t, "under way", op.Text("#under-way"), number)
	op.Everywhere("integrity-under-way")
	op.Leave(`#under-way a[href$="do=expedite"]`)
	op.Type("#reason", "Vapi is back")
	op.Everywhere("integrity-number")
	s.vapiFaults(t, `[]`)
	op.Leave("#mend-submit")
	tab.WaitText("#number-state", "It was given back")
	tab.Everywhere("number-released")
}

func getNumberWithoutScripts(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Open(s.base() + "/numbers?find=1&country=US&area=212")
	before := s.balancePence(t)
	tab.Leave("#results li a")
	tab.Leave("#buy")
	tab.Until("the number to be active", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#number-state"), "It is ready to be used")
	})
	if got := s.balancePence(t); got != before-10_00 {
		t.Errorf("it cost %d", before-got)
	}
	tab.Leave("#release")
	number := tab.Text("h1 + p")
	tab.Type("#confirm", number[len(number)-4:])
	tab.Leave("#release-submit")
	tab.Until("the number to be released", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#number-state"), "It was given back")
	})
}

func keepCredential(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/credentials")
	want(t, "the page", tab.Text("#own"), "we charge nothing for the number")
	tab.Everywhere("credentials-empty")
	tab.Type("#account_sid", "AC1")
	tab.Type("#auth_token", strings.Repeat("0", 32))
	tab.Leave("#save")
	want(t, "what is no account", tab.Text("#account_sid-error"), "Copy the Account SID")
	sid, token := s.ownTwilio(t)
	tab.Type("#account_sid", sid)
	tab.Type("#auth_token", token)
	tab.Leave("#save")
	want(t, "saved", tab.Text("#own"), "ends in "+token[len(token)-4:])
	tab.Everywhere("credentials")
	tab.Leave("#test")
	want(t, "tested", tab.Text("#done"), "Twilio takes the credential")
	tab.Leave("#mode")
	want(t, "the mode", tab.Text("#own"), "in your own account")
	tab.Leave("#remove")
	tab.Everywhere("credentials-remove")
	tab.Leave("#remove-submit")
	want(t, "removed", tab.Text("#done"), "The credential was removed")
}

// ownTwilio is an account at the running sandbox's Twilio that a customer brings.
func (s *site) ownTwilio(t *testing.T) (sid, token string) {
	t.Helper()
	return s.subaccount(t, "A customer's own")
}

func mendNumbers(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/integrity")
	tab.Click("#run")
	tab.WaitText("#findings", "agree with ours")
	want(t, "our own records", tab.Text("#own-records"), "active-numbers-are-whole")
	tab.Everywhere("integrity")
	sid, _ := s.subaccount(t, "Ringfence "+s.idOf(t, "Second Tenant"))
	tab.Click("#run")
	tab.WaitText("#strays", sid)
	tab.Everywhere("integrity-stray")
	tab.Leave("#strays a")
	tab.Type("#reason", "Made twice")
	tab.Everywhere("integrity-stray-remove")
	tab.Leave("#stray-submit")
	want(t, "a job does it", tab.Text("#done"), "put right in the background")
	tab.Until("the subaccount to be closed", func() bool {
		tab.Open(s.base() + "/ops/integrity?run=1")
		return tab.Count("#agree") == 1
	})
	s.vapiFaults(t, `[{"match":"`+sandbox.ListImported+`","do":"500","times":-1}]`)
	tab.Click("#run")
	tab.WaitText("#unreached", "Vapi")
	tab.Everywhere("integrity-unreached")
	tab.Open(s.base() + "/ops/integrity/links")
	tab.Everywhere("integrity-links")
	s.vapiFaults(t, `[]`)
}

// subaccount makes one at the running sandbox's Twilio.
func (s *site) subaccount(t *testing.T, name string) (sid, token string) {
	t.Helper()
	var said struct {
		SID   string `json:"sid"`
		Token string `json:"auth_token"`
	}
	s.inApp(t, func(ctx context.Context, a *app) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.sandboxBase()+"/2010-04-01/Accounts.json", strings.NewReader(url.Values{"FriendlyName": {name}}.Encode()))
		if err != nil {
			return err
		}
		req.SetBasicAuth(a.cfg.TwilioAccountSID, a.cfg.TwilioAuthToken.Reveal())
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&said)
	})
	if said.SID == "" {
		t.Fatal("the sandbox made no account")
	}
	return said.SID, said.Token
}
