package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/browsertest"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/views"
)

// TestAgentPages makes, links, tries, changes and deletes phone agents as people do, with scripts and without, and verifies a
// number of one's own.
func TestAgentPages(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("with scripts", func(t *testing.T) { keepAgent(t, s) })
	t.Run("without scripts", func(t *testing.T) { keepAgentWithoutScripts(t, s) })
	t.Run("caller ids", func(t *testing.T) { verifyOwnNumber(t, s) })
	s.booksAgree(t)
}

// tellSandbox posts a form to the running sandbox and reads what it answers.
func (s *site) tellSandbox(t *testing.T, path string, form url.Values, answer any) {
	t.Helper()
	res, err := http.PostForm(s.sandboxBase()+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		t.Fatalf("%s: %s", path, res.Status)
	}
	if answer == nil {
		return
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// haveNumber has Harbour Dental buy a number, by the program's own queue.
func (s *site) haveNumber(t *testing.T, area string) (number string) {
	t.Helper()
	org := s.harbour(t)
	s.inApp(t, func(ctx context.Context, a *app) error {
		found, err := a.numbers.Search(ctx, telephony.SearchRequest{OrgID: org, Country: "US", Area: area})
		if err != nil {
			return err
		}
		n, err := a.numbers.Buy(ctx, telephony.BuyRequest{OrgID: org, PhoneNumber: found.List[0].PhoneNumber, Key: uuid.NewString(), Actor: audit.System("test")})
		if err != nil {
			return err
		}
		number = n.PhoneNumber
		until(t, "the number is active", func() bool {
			if n, err = a.numbers.Number(ctx, org, n.ID); err != nil {
				t.Fatal(err)
			}
			return n.State == telephony.NumberActive
		})
		return nil
	})
	return number
}

func keepAgent(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/agents")
	want(t, "the list", tab.Text("#agents"), "No agents yet")
	tab.Everywhere("agents-empty")
	tab.Leave("#first")
	tab.Everywhere("agent-form")
	tab.Type("#name", "Reception")
	tab.Type("#prompt", "You answer the phone of a dentist.")
	tab.WaitText("#prompt-count", "34 of 16,000 characters")
	browsertest.Eval[bool](tab, `(() => { const p = document.querySelector("#prompt"); p.value = "🦷".repeat(16001); return p.dispatchEvent(new Event("input", {bubbles: true})) })()`)
	tab.WaitText("#prompt-count", "16,001 of 16,000 characters, 1 too many")
	tab.Type("#prompt", "You answer the phone of a dentist.\nBe brief and kind.")
	tab.Leave("#make")
	want(t, "what is missing", tab.Text("#first_message-error"), "Say how the agent begins")
	whole(tab, "agent-new")
	tab.Type("#first_message", "Harbour Dental, how can I help?")
	tab.Leave("#make")
	tab.WaitText("#agent-state", "Ready")
	want(t, "no number", tab.Text("#call-blocked"), "no number to call from")
	tab.Everywhere("agent-without-number")

	number := s.haveNumber(t, "415")
	path := tab.Path()
	tab.Open(s.base() + path)
	tab.Leave("#link")
	want(t, "linked", tab.Text("#agent-number"), views.PhoneText(number))
	tab.Type("#to", "+44 7400 123456")
	tab.WaitText("#call-cost", "A minute, to +44 7400 123456")
	want(t, "what it may cost", tab.Text("#call-cost"), "£16.59")
	whole(tab, "agent")

	s.tellSandbox(t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":2}]`}}, nil)
	tab.Leave("#call")
	tab.WaitText("#placed-state", "Completed")
	tab.Everywhere("agent-called")
	tab.Reload()
	want(t, "what it cost", tab.Text("#spend-month"), "1 call")

	tab.Type("#name", "Front desk")
	tab.Leave("#save")
	want(t, "saved", tab.Text("h1"), "Front desk")
	tab.Type("#prompt", "What I am just typing")
	tab.WaitText("#agent-state", "Ready")
	if got := browsertest.Eval[string](tab, `document.querySelector("#prompt").value`); got != "What I am just typing" {
		t.Errorf("the live part made of what was typed %q", got)
	}
	s.vapiFaults(t, `[{"match":"`+sandbox.ChangeAssistant+`","do":"refuse","code":400,"times":-1}]`)
	tab.Leave("#save")
	tab.WaitText("#agent-state", "Change refused")
	tab.Everywhere("agent-refused")
	tab.Open(s.base() + "/agents")
	want(t, "the list", tab.Text("#agents"), "Change refused")
	tab.Everywhere("agents")
	s.vapiFaults(t, `[]`)

	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + path)
	want(t, "what a viewer sees", looks.Text("#agent"), "What I am just typing")
	if n := looks.Count(`main form`); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
	looks.Everywhere("agent-viewer")
	theirs := s.tab(t, browsertest.View{}, "owner@second.example")
	theirs.Expect("status of 404")
	theirs.Open(s.base() + path)
	if theirs.Status() != http.StatusNotFound {
		t.Errorf("another organisation's agent: %d", theirs.Status())
	}

	tab.Open(s.base() + path)
	tab.Leave("#delete")
	tab.Leave("#delete-submit")
	want(t, "nobody said what becomes of the number", tab.Text("#then-error"), "Say first")
	tab.Everywhere("agent-delete")
	tab.Click("#then-keep")
	tab.Leave("#delete-submit")
	want(t, "deleted", tab.Text("#done"), "The agent was deleted")
	want(t, "the list", tab.Text("#agents"), "No agents yet")
	tab.Open(s.base() + "/numbers")
	want(t, "its number", tab.Text("#numbers"), "No agent")
}

func keepAgentWithoutScripts(t *testing.T, s *site) {
	s.haveNumber(t, "212")
	tab := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Open(s.base() + "/agents/new")
	tab.Type("#name", "Nights")
	tab.Type("#first_message", "Good evening.")
	tab.Type("#prompt", "Be kind.")
	tab.Leave("#make")
	tab.Until("the agent to be ready", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#agent-state"), "Ready")
	})
	tab.Leave("#link")
	want(t, "linked", tab.Text("#agent-number"), "It answers and calls from")
	s.tellSandbox(t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":1}]`}}, nil)
	tab.Type("#to", "+447400123456")
	tab.Leave("#call")
	tab.Until("the call to be over", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#placed-state"), "Completed")
	})
	tab.Type("#prompt", "Be kind and brief.")
	tab.Leave("#save")
	want(t, "saved", tab.Text("#done"), "was saved")
	tab.Leave("#delete")
	tab.Click("#then-release")
	tab.Leave("#delete-submit")
	want(t, "giving its number back", tab.Text("h1"), "Release this number?")
	want(t, "nobody has it", tab.Text("#affected"), "No agent")
}

func verifyOwnNumber(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/caller-ids")
	want(t, "the list", tab.Text("#caller-ids"), "No caller IDs yet")
	tab.Everywhere("caller-ids-empty")
	tab.Type("#phone_number", "12")
	tab.Leave("#verify-submit")
	want(t, "no number", tab.Text("#phone_number-error"), "phone number")
	tab.Type("#phone_number", "+44 7400 123456")
	tab.Leave("#verify-submit")
	code := tab.Text("#code")
	want(t, "what to do", tab.Text("#caller-state"), "Waiting for the code")
	tab.Everywhere("caller-id-waiting")
	var typed struct{ Verified bool }
	s.tellSandbox(t, "/sandbox/twilio/caller-ids", url.Values{"number": {"+447400123456"}, "code": {code}}, &typed)
	if !typed.Verified {
		t.Fatalf("%s is not the code", code)
	}
	tab.WaitText("#caller-state", "Verified")
	tab.Everywhere("caller-id-verified")
	tab.Open(s.base() + "/caller-ids")
	want(t, "the list", tab.Text("#caller-ids"), "Verified")
	tab.Everywhere("caller-ids")
	tab.Leave("#caller-ids td a")
	tab.Leave("#remove")
	tab.Everywhere("caller-id-remove")
	tab.Leave("#remove-submit")
	want(t, "removed", tab.Text("#done"), "No agent shows the number")
}
