package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ringfence/internal/browsertest"
)

const sendButton = `#compose-form button[type=submit]`

// TestTexts goes through the page of texts as people do, with scripts and without.
func TestTexts(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("with scripts", func(t *testing.T) { sendTexts(t, s) })
	t.Run("without scripts", func(t *testing.T) { sendTextsWithoutScripts(t, s) })
	s.booksAgree(t)
}

func sendTexts(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 4")                    // what is refused, on purpose
	tab.Expect("Response Status Error Code 402") // the same, by htmx
	tab.Open(s.base() + "/messages")
	want(t, "the list", tab.Text("#messages"), "No texts yet")
	tab.Everywhere("messages-empty")

	tab.Type("#to", "07400 123456")
	tab.Type("#body", "Hello")
	tab.Click(sendButton)
	tab.WaitText("#to-error", "not a phone number")
	tab.Until("the focus", func() bool { return tab.Focused() == "to" })
	tab.Everywhere("messages-refused")

	tab.Open(s.base() + "/messages")
	tab.Stays(sendButton, func() {
		tab.Type("#to", "+44 7400 123456")
		tab.Type("#body", strings.Repeat("See you on Saturday. ", 8))
		tab.WaitText("#message-quote", "2 segments")
	})
	want(t, "the price", tab.Text("#message-quote"), "£0.20")
	tab.Everywhere("messages-quote")
	before := s.balancePence(t)
	tab.Type("#body", "Your appointment is on Saturday at ten.")
	tab.WaitText("#message-quote", "1 segment")
	tab.DoubleClick(sendButton)
	tab.WaitText("#done", "+44 7400 123456")
	if got := s.balancePence(t); got != before-10 {
		t.Errorf("a double click cost %dp", before-got)
	}
	for _, c := range [][2]string{
		{"+44 7400 000001", "Nobody hears this, because the phone is off."},
		{"+44 7400 000002", "🦷 Time for a check-up? Call us on 020 7946 0958 or answer this text, and we will find a time that suits you. Text STOP to end."},
		{"+44 7400 000003", "A network that never tells."},
	} {
		tab.Type("#to", c[0])
		tab.Type("#body", c[1])
		tab.Leave(sendButton)
		want(t, "the notice", tab.Text("#done"), c[0])
	}
	tab.Until("the networks' word", func() bool {
		tab.Reload()
		list := tab.Text("#message-rows")
		return strings.Contains(list, "Delivered") && strings.Contains(list, "Undelivered") && strings.Contains(list, "Failed")
	})
	want(t, "the list", tab.Text("#messages"), "Not charged")
	tab.Everywhere("messages")
	for _, width := range []int64{browsertest.Phone, 700, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 2600})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("messages-whole-%d", width))
	}
	tab.Look(browsertest.View{})
	tab.Leave(`#messages tbody tr:last-child a`)
	want(t, "the text", tab.Text("main"), "Your appointment is on Saturday at ten.")
	tab.Everywhere("message")
	tab.Leave("#back")
	tab.Leave(`#messages tbody tr:nth-child(2) a`)
	want(t, "why it failed", tab.Text("#note"), "could not deliver it")
	tab.Everywhere("message-failed")

	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + "/messages")
	want(t, "what a viewer sees", looks.Text("#messages"), "Your appointment")
	if n := looks.Count("main form:not([method=get])"); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
	looks.Everywhere("messages-viewer")

	poor := s.tab(t, browsertest.View{}, "owner@second.example") // whose wallet is empty
	poor.Expect("status of 402")
	poor.Expect("Response Status Error Code 402")
	poor.Open(s.base() + "/messages")
	want(t, "another organisation's list", poor.Text("#messages"), "No texts yet")
	poor.Type("#to", "+447400123456")
	poor.Type("#body", "Hello")
	poor.Click(sendButton)
	poor.WaitText("#unpaid", "This needs £0.10")
	poor.Everywhere("messages-unpaid")
	poor.Leave("#unpaid-top-up")
	poor.WaitPath("/wallet")
}

func sendTextsWithoutScripts(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Expect("status of 4")
	tab.Open(s.base() + "/messages")
	tab.Type("#to", "+44 7400 123456")
	tab.Leave(sendButton)
	want(t, "the refusal", tab.Text("#body-error"), "Write a text")
	tab.Type("#body", "Sent without scripts")
	tab.Leave(sendButton)
	want(t, "the notice", tab.Text("#done"), "+44 7400 123456")
	want(t, "the list", tab.Text("#messages"), "Sent without scripts")
	before := s.balancePence(t)
	tab.Reload()
	if got := s.balancePence(t); got != before {
		t.Errorf("a reload cost %dp", before-got)
	}
}
