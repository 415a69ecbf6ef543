package handlers_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/telephony"
	"ringfence/views"
)

// compose sends the form of a page with texts, with the keys that the page has.
func (b *browser) compose(page reply, to, body string, headers ...string) reply {
	b.s.t.Helper()
	form := url.Values{"to": {to}, "body": {body}}
	for _, name := range []string{"csrf_token", "key"} {
		form.Set(name, page.doc(b.s.t).Find(`#compose-form input[name="`+name+`"]`).AttrOr("value", ""))
	}
	return b.post("/messages", form, headers...)
}

// programKey makes an API key of Harbour Dental.
func (s *site) programKey() string {
	s.t.Helper()
	return s.keyWith(auth.AllScopes)
}

// keyWith makes an API key with these scopes.
func (s *site) keyWith(scopes auth.Scopes) (key string) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) (err error) {
		key, _, err = s.auth.CreateKey(ctx, tx, s.org, "Programs", scopes, uuid.Nil, audit.System("test"))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// program asks the API as a program does, with a new idempotency key unless headers bring one.
func (b *browser) program(method, path, key, body string, headers ...string) reply {
	b.s.t.Helper()
	all := append([]string{"Authorization", "Bearer " + key, "Content-Type", "application/json", "Idempotency-Key", uuid.NewString()}, headers...)
	return b.do(method, path, strings.NewReader(body), all...)
}

// text is one value of the database.
func (s *site) text(query string, args ...any) (v string) {
	s.t.Helper()
	dbtest.Get(s.t, s.dbURL, &v, query, args...)
	return v
}

func TestMessagesPage(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	page := b.get("/messages")
	wantStatus(t, "empty", page, http.StatusOK)
	wantText(t, "empty", page, "#messages", "No texts yet")
	wantText(t, "empty", page, "#compose", "Sent from "+views.PhoneText(twilioSender), "charged when it is handed to the network")

	// What it would cost, while it is typed.
	token := page.doc(t).Find(`#compose-form input[name="csrf_token"]`).AttrOr("value", "")
	quote := func(to, body string) reply {
		return b.post("/messages/quote", url.Values{"csrf_token": {token}, "to": {to}, "body": {body}}, "HX-Request", "true")
	}
	wantText(t, "quote", quote("+447400123456", "Hello"), "p", "1 segment", "£0.10", "$0.13")
	wantText(t, "quote", quote("", strings.Repeat("ж", 71)), "p", "2 segments, Unicode", "£0.20")
	wantText(t, "quote", quote("+18765551234", "Hello"), "p", "not offered")
	wantText(t, "quote", quote("", strings.Repeat("x", 1601)), "p", "at most 1,600 characters; this one has 1601")
	wantText(t, "quote", quote("", " "), "p", "Sent from")
	wantText(t, "a new line is one character", quote("", strings.Repeat("x", 158)+"\r\ny"), "p", "1 segment", "£0.10")

	res := b.compose(page, "+44 7400 123456", "See you <b>tomorrow</b>")
	wantStatus(t, "sent", res, http.StatusSeeOther)
	to := res.Header.Get("Location")
	after := b.get(to)
	wantText(t, "sent", after, "#done", "on its way", "+44 7400 123456")
	wantText(t, "sent", after, "#messages", "+44 7400 123456", "See you <b>tomorrow</b>", "Sent", "£0.10", "1 segment")
	if again := b.compose(page, "+44 7400 123456", "See you <b>tomorrow</b>", "HX-Request", "true"); again.Header.Get("HX-Redirect") != to {
		t.Errorf("the same form again leads to %q, not %q", again.Header.Get("HX-Redirect"), to)
	}
	if n := s.balance(); n != 568_90 {
		t.Errorf("after one text the balance is %d", n)
	}
	detail := b.get(after.doc(t).Find("#messages a").First().AttrOr("href", ""))
	wantText(t, "detail", detail, "main", "Text to +44 7400 123456", "Sent", "£0.10", "1 segment", "SM")
	paid := b.get(detail.doc(t).Find("#paid-by").AttrOr("href", ""))
	wantStatus(t, "what it was paid by", paid, http.StatusOK)
	wantText(t, "what it was paid by", paid, "main", "£0.10", "Text to +44•••••••456")
	if back := paid.doc(t).Find("#message").AttrOr("href", ""); back == "" || !strings.HasSuffix(after.doc(t).Find("#messages a").First().AttrOr("href", ""), back) {
		t.Errorf("what it was paid by leads to the text %q", back)
	}

	for what, c := range map[string]struct{ to, body, selector, says string }{
		"no number":     {"hello", "Hi", "#to-error", "not a phone number"},
		"no text":       {"+447400123456", " ", "#body-error", "Write a text"},
		"opted out":     {"+15005550004", "Hi", "#to-error", "asked not to receive"},
		"unreachable":   {"+15005550001", "Hi", "#not-sent", "cannot receive texts"},
		"not offered":   {"+18765551234", "Hi", "#to-error", "not offered"},
		"much too long": {"+447400123456", strings.Repeat("x", 1601), "#body-error", "at most 1,600"},
	} {
		res := b.compose(b.get("/messages"), c.to, c.body)
		if res.StatusCode != http.StatusUnprocessableEntity && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", what, res.Status)
		}
		wantText(t, what, res, c.selector, c.says)
		if got := res.doc(t).Find("#to").AttrOr("value", ""); got != c.to {
			t.Errorf("%s: the number is gone: %q", what, got)
		}
	}
	// The other organisation's wallet is empty.
	second := s.as("owner@second.example")
	res = second.compose(second.get("/messages"), "+447400123456", "Hello", "HX-Request", "true")
	wantStatus(t, "no money", res, http.StatusPaymentRequired)
	wantText(t, "no money", res, "#unpaid", "This needs £0.10, and £0.00 is available", "Nothing was sent or charged", "Top up")
	if res.Header.Get("HX-Retarget") != "#compose-place" {
		t.Error("the refusal does not go to the form")
	}
	viewer := s.as("viewer@harbour.example")
	wantText(t, "viewer", viewer.get("/messages"), "#compose", "your role is viewer")
	if n := len(s.twilio.Books().Messages); n != 1 {
		t.Errorf("Twilio has %d texts", n)
	}
}

// Without an account, or without a number, nothing can be sent, and that is said.
func TestMessagesOff(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*telephony.Options)
		status int
		says   string
	}{
		"no account": {func(o *telephony.Options) { o.AccountSID, o.AuthToken = "", "" }, http.StatusServiceUnavailable, "texts_off"},
		"no number":  {func(o *telephony.Options) { o.From = "" }, http.StatusUnprocessableEntity, `"field":"from"`},
	} {
		s := newSite(t, func(o *options) { o.texts = c.change })
		b := s.as("owner@harbour.example")
		wantText(t, what, b.get("/messages"), "#compose", "Texts are not set up here")
		res := b.program("POST", "/api/v1/messages", s.programKey(), `{"to":"+447400123456","body":"Hello"}`)
		wantStatus(t, what, res, c.status)
		if !strings.Contains(res.body, c.says) {
			t.Errorf("%s: %s", what, res.body)
		}
		wantStatus(t, what+", a status", b.post("/api/webhooks/twilio/status?message="+uuid.NewString(), url.Values{"MessageSid": {"SM1"}}), http.StatusForbidden)
		if n := s.balance(); n != 569_00 {
			t.Errorf("%s: the balance is %d", what, n)
		}
	}
}

func TestMessagesPaging(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	key := s.programKey()
	for i := range 27 {
		wantStatus(t, "sent", b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"Text `+string(rune('a'+i))+`"}`), http.StatusCreated)
	}
	first := b.get("/messages")
	if n := first.doc(t).Find("#messages tbody tr").Length(); n != 25 {
		t.Errorf("%d on the first page", n)
	}
	wantText(t, "first", first, "#messages tbody tr:first-child", "Text {")
	older := b.get(first.doc(t).Find("#older").AttrOr("href", ""))
	if n := older.doc(t).Find("#messages tbody tr").Length(); n != 2 || older.doc(t).Find("#older").Length() != 0 {
		t.Errorf("%d on the second page", n)
	}
	wantText(t, "second", older, "#messages tbody tr:last-child", "Text a")
}

func TestMessagesAPI(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	key := s.programKey()
	const body = `{"to":"+44 7400 123456","body":"Hello"}`
	res := b.program("POST", "/api/v1/messages", key, body, "Idempotency-Key", "k")
	wantStatus(t, "sent", res, http.StatusCreated)
	var sent map[string]any
	if err := json.Unmarshal([]byte(res.body), &sent); err != nil {
		t.Fatal(err)
	}
	if sent["to"] != "+447400123456" || sent["from"] != twilioSender || sent["state"] != "sent" || sent["amount_pence"] != 10.0 || sent["segments"] != 1.0 || sent["hold_id"] == "" {
		t.Errorf("sent: %s", res.body)
	}
	again := b.program("POST", "/api/v1/messages", key, body, "Idempotency-Key", "k")
	if again.body != res.body || again.Header.Get("Idempotent-Replayed") != "true" || again.StatusCode != http.StatusCreated {
		t.Errorf("again: %s %s", again.Status, again.body)
	}
	wantStatus(t, "another body", b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"Bye"}`, "Idempotency-Key", "k"), http.StatusConflict)
	wantStatus(t, "without a key", b.do("POST", "/api/v1/messages", strings.NewReader(body), "Authorization", "Bearer "+key), http.StatusBadRequest)
	for _, bad := range []string{`{"to":"x","body":"y"}`, `{"to":"+447400123456","body":""}`, `{"to":"+447400123456","body":"x","from":"+447400999999"}`, `{"to":"+15005550001","body":"x"}`} {
		wantStatus(t, bad, b.program("POST", "/api/v1/messages", key, bad), http.StatusUnprocessableEntity)
	}
	for _, bad := range []string{``, `{`, `[]`, `{"to":1}`, `{"to":"+447400123456","body":"x","colour":"red"}`, `{} {}`} {
		wantStatus(t, bad, b.program("POST", "/api/v1/messages", key, bad), http.StatusBadRequest)
	}
	// The hold is the text's: no program settles it.
	res = b.program("POST", "/api/v1/holds/"+sent["hold_id"].(string)+"/void", key, `{}`) //nolint:errcheck,forcetypeassert // it was checked above
	wantStatus(t, "void", res, http.StatusConflict)
	if n := s.balance(); n != 568_90 {
		t.Errorf("the balance is %d", n)
	}
}

// signTwilio signs a form as Twilio does, with the token of our account.
func signTwilio(address string, form url.Values) string {
	return signTwilioWith(twilioToken, address, form)
}

func signTwilioWith(token, address string, form url.Values) string {
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(address))
	for _, name := range names {
		mac.Write([]byte(name + form.Get(name)))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestTwilioWebhooks(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	const base = "http://127.0.0.1:8080" // as configured, whatever the test's own address is
	key := s.programKey()
	wantStatus(t, "sent", b.program("POST", "/api/v1/messages", key, `{"to":"+447400123456","body":"Hello"}`), http.StatusCreated)
	var id, sid string
	id = s.text(`SELECT id::text FROM messages`)
	sid = s.text(`SELECT sid FROM messages`)

	status := url.Values{"MessageSid": {sid}, "MessageStatus": {"failed"}, "ErrorCode": {"30008"}, "To": {"+447400123456"}}
	path := "/api/webhooks/twilio/status?message=" + id
	wantStatus(t, "not signed", b.post(path, status), http.StatusForbidden)
	wantStatus(t, "signed for another host", b.post(path, status, "X-Twilio-Signature", signTwilio(s.URL+path, status)), http.StatusForbidden)
	if n := s.balance(); n != 568_90 {
		t.Errorf("the balance is %d", n)
	}
	for range 2 {
		// A cookie, an origin and a credential make no difference.
		res := b.post(path, status, "X-Twilio-Signature", signTwilio(base+path, status), "Origin", "https://evil.example", "Authorization", "Bearer x")
		wantStatus(t, "status", res, http.StatusNoContent)
	}
	if n := s.balance(); n != 569_00 {
		t.Errorf("given back, the balance is %d", n)
	}
	// The text leads to both transactions, and each of them to the text.
	text := s.as("owner@harbour.example").get("/messages/" + id).doc(t)
	for _, link := range []string{"#paid-by", "#returned-by"} {
		tx := s.as("owner@harbour.example").get(text.Find(link).AttrOr("href", ""))
		wantStatus(t, link, tx, http.StatusOK)
		if got := tx.doc(t).Find("#message").AttrOr("href", ""); got != "/messages/"+id {
			t.Errorf("%s leads to a transaction that leads to %q", link, got)
		}
	}

	inbound := url.Values{"MessageSid": {"SM1"}, "From": {"+447400123456"}, "To": {"+447400123999"}, "Body": {"Stop"}}
	const sms = "/api/webhooks/twilio/sms"
	res := b.post(sms, inbound, "X-Twilio-Signature", signTwilio(base+sms, inbound))
	wantStatus(t, "inbound", res, http.StatusOK)
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/xml") || !strings.Contains(res.body, "<Response><Message>You will not receive") {
		t.Errorf("inbound: %s", res.body)
	}
	inbound.Set("Body", "See you then")
	inbound.Set("MessageSid", "SM2")
	if res = b.post(sms, inbound, "X-Twilio-Signature", signTwilio(base+sms, inbound)); !strings.HasSuffix(res.body, "<Response></Response>") {
		t.Errorf("nothing to say: %s", res.body)
	}
	inbound.Set("Body", strings.Repeat("x", 70<<10))
	wantStatus(t, "too large", b.post(sms, inbound, "X-Twilio-Signature", signTwilio(base+sms, inbound)), http.StatusRequestEntityTooLarge)
}
