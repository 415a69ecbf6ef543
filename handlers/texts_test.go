package handlers_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/internal/auth"
	"ringfence/internal/telephony"
	"ringfence/views"
)

// ownToken is the token of the account that a number is in.
func (s *site) ownToken(n telephony.Number) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.box+"/2010-04-01/Accounts/"+n.AccountSID.String+".json", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(twilioAccount, twilioToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var said struct {
		Token string `json:"auth_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.Token == "" {
		s.t.Fatalf("%s: %v", res.Status, err)
	}
	return said.Token
}

// Texts go out from one of the organisation's own numbers, and what comes in to it is read beside them, one by one and as a
// conversation.
func TestTextsFromOwnNumber(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	n := s.newNumber()
	page := b.get("/messages")
	wantText(t, "the choice", page, "#sender", views.PhoneText(twilioSender)+", which all share", "yours")
	form := url.Values{"to": {"+447400123456"}, "body": {"Your appointment 🦷 is tomorrow"}, "sender": {n.PhoneNumber}}
	for _, name := range []string{"csrf_token", "key"} {
		form.Set(name, page.doc(t).Find(`#compose-form input[name="`+name+`"]`).AttrOr("value", ""))
	}
	quote := b.post("/messages/quote", form, "HX-Request", "true")
	wantText(t, "an emoji", quote, "p", "1 segment, Unicode", "£0.10")
	res := b.post("/messages", form)
	wantStatus(t, "sent", res, http.StatusSeeOther)
	if got := s.text(`SELECT sender FROM messages`); got != n.PhoneNumber {
		t.Errorf("it went out from %s", got)
	}
	form.Set("sender", "+14155550188")
	res = b.post("/messages", form)
	wantStatus(t, "another's number", res, http.StatusUnprocessableEntity)
	wantText(t, "another's number", res, "#sender-error", "not an active number of your organisation")

	// What comes in.
	inbound := url.Values{"MessageSid": {"SM1"}, "AccountSid": {n.AccountSID.String}, "From": {"+447400123456"}, "To": {n.PhoneNumber}, "Body": {"See you <i>then</i>"}, "NumMedia": {"1"}}
	const sms = "/api/webhooks/twilio/sms"
	wantStatus(t, "signed by us", b.post(sms, inbound, "X-Twilio-Signature", signTwilio("http://127.0.0.1:8080"+sms, inbound)), http.StatusForbidden)
	own := s.ownToken(n)
	wantStatus(t, "inbound", b.post(sms, inbound, "X-Twilio-Signature", signTwilioWith(own, "http://127.0.0.1:8080"+sms, inbound)), http.StatusOK)
	page = b.get("/messages")
	wantText(t, "both", page, "#messages tbody", "From +44 7400 123456", "See you <i>then</i>", "Came in", "Free", "To +44 7400 123456", "£0.10")
	one := b.get(page.doc(t).Find("#messages tbody a").First().AttrOr("href", ""))
	wantText(t, "what came in", one, "main", "Text from +44 7400 123456", "See you <i>then</i>", "1 picture or files came with it")
	talk := b.get(one.doc(t).Find("#conversation").AttrOr("href", ""))
	wantText(t, "the conversation", talk, "#conversation li:first-child", "You wrote", "🦷")
	wantText(t, "the conversation", talk, "#conversation li:last-child", "They wrote", "See you <i>then</i>")
	if got := talk.doc(t).Find("#sender option[selected]").AttrOr("value", ""); got != n.PhoneNumber {
		t.Errorf("an answer goes out from %q", got)
	}
	answer := url.Values{"body": {"Very well"}}
	for _, name := range []string{"csrf_token", "key", "conversation"} {
		answer.Set(name, talk.doc(t).Find(`#compose-form input[name="`+name+`"]`).AttrOr("value", ""))
	}
	answer.Set("to", talk.doc(t).Find("#to").AttrOr("value", ""))
	answer.Set("sender", n.PhoneNumber)
	res = b.post("/messages", answer)
	wantStatus(t, "answered", res, http.StatusSeeOther)
	wantText(t, "answered", b.get(res.Header.Get("Location")), "#conversation li:last-child", "Very well")

	// Filters.
	for query, count := range map[string]int{
		"": 3, "direction=inbound": 1, "direction=outbound": 2, "state=received": 1, "state=sent": 2, "party=7400": 3, "party=999": 0, "number=" + url.QueryEscape(n.PhoneNumber): 3,
		"number=" + url.QueryEscape(twilioSender): 0, "from=2020-01-01": 3, "to=2020-01-01": 0,
	} {
		if got := b.get("/messages?" + query).doc(t).Find("#messages tbody tr").Length(); got != count {
			t.Errorf("%s: %d texts, want %d", query, got, count)
		}
	}
	for query, selector := range map[string]string{"party=x": "#party-error", "from=x": "#since-error", "state=x": "#state-error", "number=x": "#number-error"} {
		res := b.get("/messages?" + query)
		wantStatus(t, query, res, http.StatusUnprocessableEntity)
		if res.doc(t).Find(selector).Text() == "" {
			t.Errorf("%s: nothing stands beside the field", query)
		}
	}

	// A STOP to it binds it alone.
	inbound.Set("MessageSid", "SM2")
	inbound.Set("Body", "STOP")
	wantStatus(t, "STOP", b.post(sms, inbound, "X-Twilio-Signature", signTwilioWith(own, "http://127.0.0.1:8080"+sms, inbound)), http.StatusOK)
	key := s.programKey()
	if got := b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"Hi","from":"`+n.PhoneNumber+`"}`).problem(t); got != (problem{422, "opted_out", "to"}) {
		t.Errorf("after a STOP: %+v", got)
	}
	wantStatus(t, "from the shared one", b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"Hi"}`), http.StatusCreated)
	second := s.as("owner@second.example")
	path := one.Request.URL.Path
	wantStatus(t, "another organisation's", second.get(path), http.StatusNotFound)
	wantStatus(t, "another organisation's", second.get(path+"/conversation"), http.StatusNotFound)
	wantText(t, "another organisation's", second.get("/messages"), "#messages", "No texts yet")
	if got := b.program("POST", "/api/v1/messages", s.keyOf(s.other, auth.AllScopes), `{"to":"+447400123456","body":"Hi","from":"`+n.PhoneNumber+`"}`).problem(t); got != (problem{422, "invalid", "from"}) {
		t.Errorf("our number, for another organisation: %+v", got)
	}

	// Programs read the same.
	type seen struct {
		ID, Direction, State, To, From, Body string
		Segments                             int
		Amount                               int     `json:"amount_pence"`
		Hold                                 *string `json:"hold_id"`
	}
	list := func(query string) (out struct {
		Data []seen
		Next string `json:"next_cursor"`
	},
	) {
		t.Helper()
		res := b.program("GET", "/api/v1/messages?"+query, key, "")
		wantStatus(t, query, res, http.StatusOK)
		if err := json.Unmarshal([]byte(res.body), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	in := list("direction=inbound")
	if len(in.Data) != 2 || in.Data[1].Body != "See you <i>then</i>" || in.Data[1].State != "received" || in.Data[1].Hold != nil || in.Data[1].Amount != 0 || in.Data[1].From != "+447400123456" {
		t.Errorf("in: %+v", in)
	}
	first := list("limit=2")
	rest := list("cursor=" + first.Next)
	if len(first.Data) != 2 || len(rest.Data) != 3 || rest.Next != "" || rest.Data[2].Direction != "outbound" || rest.Data[2].Amount != 10 || rest.Data[2].Hold == nil {
		t.Errorf("%+v, then %+v", first, rest)
	}
	for _, m := range []seen{in.Data[1], rest.Data[2]} {
		var got seen
		res := b.program("GET", "/api/v1/messages/"+m.ID, key, "")
		if err := json.Unmarshal([]byte(res.body), &got); err != nil || got.Body != m.Body || got.Direction != m.Direction {
			t.Errorf("%s: %s", res.Status, res.body)
		}
	}
	for query, field := range map[string]string{"state=x": "state", "direction=x": "direction", "party=x": "party", "number=x": "number", "since=x": "since", "since=2026-01-02&until=2026-01-01": "until", "limit=101": "limit"} {
		if got := b.program("GET", "/api/v1/messages?"+query, key, "").problem(t); got != (problem{422, "invalid", field}) {
			t.Errorf("%s: %+v", query, got)
		}
	}
	s.numberBooks()
}

// Too long a text is refused clearly, by page and program, and costs nothing; one with an emoji takes segments of 70.
func TestLongTexts(t *testing.T) {
	s := newSite(t)
	b, key := s.as("owner@harbour.example"), s.programKey()
	long := strings.Repeat("x", 2000)
	res := b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"`+long+`"}`)
	if got := res.problem(t); got != (problem{422, "invalid", "body"}) || !strings.Contains(res.body, "at most 1,600 characters; this one has 2000") {
		t.Errorf("2,000 characters: %s", res.body)
	}
	page := b.compose(b.get("/messages"), "+447400123456", long)
	wantStatus(t, "2,000 characters", page, http.StatusUnprocessableEntity)
	wantText(t, "2,000 characters", page, "#body-error", "at most 1,600 characters; this one has 2000")
	if n := s.count(`SELECT count(*) FROM messages`) + s.count(`SELECT count(*) FROM holds`); n != 0 || s.balance() != 569_00 {
		t.Errorf("%d rows are left of it, and the balance is %d", n, s.balance())
	}
	for text, segments := range map[string]int{strings.Repeat("x", 160): 1, strings.Repeat("x", 160) + "🦷": 3, strings.Repeat("🦷", 35): 1, strings.Repeat("🦷", 36): 2} {
		res := b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"`+text+`"}`)
		wantStatus(t, text, res, http.StatusCreated)
		var m struct {
			ID       string
			Segments int
		}
		if err := json.Unmarshal([]byte(res.body), &m); err != nil || m.Segments != segments {
			t.Errorf("%.20s… takes %d segments, want %d", text, m.Segments, segments)
		}
		unicode := ""
		if strings.Contains(text, "🦷") {
			unicode = ", Unicode"
		}
		wantText(t, "its page", b.get("/messages/"+m.ID), "main", "segment", unicode)
	}
}
