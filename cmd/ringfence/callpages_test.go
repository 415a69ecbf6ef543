package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/browsertest"
	"ringfence/internal/telephony"
)

// TestCallPages places, watches, ends and erases calls as people do, texts from an own number, and says for how long words are
// kept, with scripts and without.
func TestCallPages(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	var number string
	t.Run("with scripts", func(t *testing.T) { number = placeCalls(t, s) })
	t.Run("conversations", func(t *testing.T) { talkByText(t, s, number) })
	t.Run("without scripts", func(t *testing.T) { placeCallsWithoutScripts(t, s) })
	t.Run("privacy", func(t *testing.T) { forgetPeople(t, s) })
	s.booksAgree(t)
}

// haveAgent has Harbour Dental make an agent that answers a number, by the program's own queue.
func (s *site) haveAgent(t *testing.T, name, number string) {
	t.Helper()
	org := s.harbour(t)
	s.inApp(t, func(ctx context.Context, a *app) error {
		agent, err := a.agents.Create(ctx, telephony.AgentRequest{
			OrgID: org, Key: uuid.NewString(), Actor: audit.System("test"),
			AgentFields: telephony.AgentFields{
				Name: name, Active: true, Voice: telephony.Voices[0], FirstMessage: "Harbour Dental, how can I help?", Prompt: "You answer the phone of a dentist.",
				Recorded: true, Consent: "This call is recorded.",
			},
		})
		if err != nil {
			return err
		}
		list, err := a.numbers.List(ctx, org, uuid.Nil, 10)
		if err != nil {
			return err
		}
		for _, n := range list {
			if n.PhoneNumber == number {
				if _, err := a.agents.Link(ctx, org, agent.ID, n.ID, audit.System("test")); err != nil {
					return err
				}
			}
		}
		until(t, "the agent is ready", func() bool {
			if agent, err = a.agents.Agent(ctx, org, agent.ID); err != nil {
				t.Fatal(err)
			}
			return agent.Ready()
		})
		return nil
	})
}

func placeCalls(t *testing.T, s *site) (number string) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 4")
	tab.Expect("Response Status Error Code 4")
	tab.Open(s.base() + "/calls")
	want(t, "the list", tab.Text("#calls"), "No calls yet")
	want(t, "nobody can call", tab.Text("#place-call"), "No agent of yours can call yet")
	tab.Everywhere("calls-empty")
	number = s.haveNumber(t, "415")
	s.haveAgent(t, "Reception", number)
	tab.Reload()
	want(t, "what a call comes to", tab.Text("#place-cost"), "£16.59")
	tab.Type("#call-to", "07400 123456")
	tab.Click("#call")
	tab.WaitText("#call-to-error", "not a phone number")
	tab.Until("the focus", func() bool { return tab.Focused() == "call-to" })
	tab.Everywhere("calls-refused")
	tab.Type("#call-to", "+44 7400 123456")
	tab.WaitText("#place-cost", "A minute, to +44 7400 123456")
	tab.Stays("#call", func() {
		tab.Type("#call-to", "")
		tab.WaitText("#place-cost", "A minute, to most places")
	})
	tab.Type("#call-to", "+44 7400 123456")
	tab.WaitText("#place-cost", "A minute, to +44 7400 123456")

	// One that talks until it is ended by hand.
	s.tellSandbox(t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":-1}]`}}, nil)
	tab.Leave("#call")
	tab.WaitText("#call-state", "Speaking")
	tab.Everywhere("call-speaking")
	path := tab.Path()
	list := s.tab(t, browsertest.View{}, owner)
	list.Open(s.base() + "/calls")
	want(t, "the list", list.Text("#call-rows"), "Speaking")
	list.Everywhere("calls-live")
	tab.Leave("#hangup")
	tab.WaitText("#call-state", "Completed")
	tab.WaitText("#words", "This call is recorded.")
	list.WaitText("#call-rows", "Completed")
	tab.WaitText("#transcript", "Harbour Dental")
	tab.WaitText("#erase-due", "What was said is erased on")
	whole(tab, "call-completed")
	tab.Leave("#entries a")
	want(t, "the transaction", tab.Text("main"), "Call to +44")
	tab.Leave("#call")
	if tab.Path() != path {
		t.Errorf("its transaction leads to %s, not %s", tab.Path(), path)
	}

	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + path)
	want(t, "what a viewer sees", looks.Text("#transcript"), "Harbour Dental")
	if n := looks.Count("main form, #erase"); n != 0 {
		t.Errorf("a viewer can do %d things to a call", n)
	}
	looks.Open(s.base() + "/calls")
	if n := looks.Count("main form:not([method=get])"); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
	looks.Everywhere("calls-viewer")
	theirs := s.tab(t, browsertest.View{}, "owner@second.example")
	theirs.Expect("status of 404")
	theirs.Open(s.base() + path)
	if theirs.Status() != http.StatusNotFound {
		t.Errorf("another organisation's call: %d", theirs.Status())
	}

	tab.Leave("#erase")
	tab.Leave("#erase-submit")
	want(t, "not meant", tab.Text("#confirm-error"), "you mean it")
	tab.Everywhere("call-erase")
	tab.Click("#confirm")
	tab.Leave("#erase-submit")
	want(t, "erased", tab.Text("#erased"), "was erased on")
	tab.Everywhere("call-erased")

	// Somebody calls in.
	s.tellSandbox(t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":2,"times":-1}]`}}, nil)
	s.tellSandbox(t, "/sandbox/twilio/ring", url.Values{"from": {"+447400123999"}, "to": {number}}, nil)
	tab.Open(s.base() + "/calls")
	tab.Until("the call that comes in", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#call-rows"), "From +44 7400 123999")
	})
	tab.WaitText("#call-rows", "Completed")
	tab.Until("both are over", func() bool { return strings.Count(tab.Text("#call-rows"), "Completed") == 2 })
	tab.Type("#number", "123999")
	tab.Click("#find")
	tab.WaitFor("what was found", `document.querySelectorAll("#call-rows tbody tr").length === 1`)
	want(t, "what was found", tab.URL(), "number=123999")
	whole(tab, "calls")
	tab.Type("#number", "x")
	tab.Click("#find")
	tab.WaitText("#number-error", "at least 3 digits")
	want(t, "nothing", tab.Text("#call-rows"), "Nothing was looked for")
	tab.Type("#number", "555 555")
	tab.Click("#find")
	tab.WaitText("#call-rows", "Nothing fits")
	tab.Everywhere("calls-nothing-fits")
	return number
}

func talkByText(t *testing.T, s *site, number string) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + "/messages")
	choose(tab, "#sender", number)
	tab.Type("#to", "+44 7400 123456")
	tab.Type("#body", "Your check-up is tomorrow at ten 🦷")
	tab.WaitText("#message-quote", "1 segment, Unicode")
	tab.Everywhere("messages-own-number")
	tab.Leave(sendButton)
	want(t, "the notice", tab.Text("#done"), "+44 7400 123456")
	s.tellSandbox(t, "/sandbox/twilio/inbound", url.Values{"from": {"+447400123456"}, "to": {number}, "body": {"Thank you, see you then!"}}, nil)
	tab.Until("the answer", func() bool {
		tab.Reload()
		return strings.Contains(tab.Text("#messages"), "Thank you")
	})
	whole(tab, "messages-both")
	choose(tab, "#direction", "inbound")
	tab.Click("#find")
	tab.WaitFor("what came in", `document.querySelectorAll("#message-rows tbody tr").length === 1`)
	tab.Leave("#messages tbody a")
	want(t, "what came in", tab.Text("main"), "Came in")
	tab.Everywhere("message-inbound")
	tab.Leave("#conversation")
	want(t, "the conversation", tab.Text("#conversation"), "Your check-up is tomorrow")
	tab.Type("#body", "Until tomorrow!")
	tab.Leave(sendButton)
	want(t, "the answer", tab.Text("#conversation li:last-child"), "Until tomorrow!")
	whole(tab, "conversation")
}

func placeCallsWithoutScripts(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Expect("status of 4")
	tab.Open(s.base() + "/calls")
	tab.Type("#call-to", "hello")
	tab.Leave("#call")
	want(t, "the refusal", tab.Text("#call-to-error"), "not a phone number")
	tab.Type("#call-to", "+44 7400 123456")
	before := s.balancePence(t)
	tab.Leave("#call")
	path := tab.Path()
	tab.Until("the call to be over", func() bool {
		tab.Open(s.base() + path)
		return strings.Contains(tab.Text("#call-state"), "Completed")
	})
	if cost := before - s.balancePence(t); cost < 1 || cost > 10 {
		t.Errorf("a call of two seconds cost %dp", cost)
	}
	tab.Open(s.base() + "/calls")
	tab.Type("#number", "123456")
	tab.Leave("#find")
	want(t, "what was found", tab.Text("#call-rows"), "+44 7400 123456")
	tab.Leave("#call-rows tbody a")
	tab.Leave("#erase")
	tab.Click("#confirm")
	tab.Leave("#erase-submit")
	want(t, "erased", tab.Text("#erased"), "was erased on")
	tab.Open(s.base() + "/messages?direction=inbound")
	tab.Leave("#messages tbody a")
	tab.Leave("#conversation")
	want(t, "the conversation", tab.Text("#conversation"), "Until tomorrow!")
}

func forgetPeople(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/settings")
	tab.Leave(`a[href="/settings/privacy"]`)
	want(t, "how long", tab.Text("#kept"), "90 days")
	tab.Type("#days", "0")
	tab.Leave("#save-days")
	want(t, "not 0 days", tab.Text("#days-error"), "from 1 to 3,650")
	tab.Type("#days", "30")
	tab.Leave("#save-days")
	want(t, "what it erases", tab.Text("#shorter"), "cannot be brought back")
	tab.WaitFor("the question in the focus", `document.activeElement.id === "shorter"`)
	tab.Leave("#save-days")
	want(t, "saved", tab.Text("#done"), "30 days")
	tab.Type("#person-number", "+44 7400 123456")
	tab.Leave("#erase-person")
	want(t, "not meant", tab.Text("#confirm-error"), "you mean it")
	whole(tab, "privacy")
	tab.Click("#confirm")
	tab.Leave("#erase-person")
	want(t, "erased", tab.Text("#erased"), "+44•••••••456")
	tab.Everywhere("privacy-erased")
	tab.Open(s.base() + "/messages")
	want(t, "what is left", tab.Text("#messages"), "The words were erased")
	tab.Everywhere("messages-erased")
	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + "/settings/privacy")
	want(t, "a viewer", looks.Text("main"), "Owners change this")
	looks.Everywhere("privacy-viewer")
}
