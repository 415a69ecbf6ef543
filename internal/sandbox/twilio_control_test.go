package sandbox_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"ringfence/internal/sandbox"
)

// postForm posts a form, as a browser when it accepts a page.
func (p *phone) postForm(path string, form url.Values, accept string) (status int, body string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.URL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", accept)
	resp, err := noRedirect.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, read(p.t, resp)
}

func TestTwilioBooksOverHTTP(t *testing.T) {
	p := startTwilio(t)
	sid := p.send(message(handset, "out"))
	status, body := p.postJSON("/sandbox/twilio/inbound", `{"from":"`+handset+`","to":"`+ownNumber+`","body":"in"}`)
	in := decode[sandbox.BookedMessage](t, body)
	if status != http.StatusOK || in.Direction != "inbound" || in.Body != "in" {
		t.Fatalf("%d %s", status, body)
	}
	for _, step := range []string{"sending", "sent"} {
		if _, body := p.postForm("/sandbox/twilio/messages/"+sid+"/advance", nil, ""); decode[sandbox.BookedMessage](t, body).Status != step {
			t.Errorf("%s: %s", step, body)
		}
	}
	mark := "/sandbox/twilio/messages/" + sid + "/mark"
	if status, body := p.postForm(mark, url.Values{"status": {"undelivered"}, "code": {"x"}}, ""); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}
	if _, body := p.postForm(mark, url.Values{"status": {"undelivered"}, "code": {"30006"}}, ""); decode[sandbox.BookedMessage](t, body).ErrorCode != 30006 {
		t.Errorf("%s", body)
	}
	if status, body := p.postForm(mark, url.Values{"status": {"delivered"}}, ""); status != http.StatusConflict {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{"/sandbox/twilio/messages/SM1/mark", "/sandbox/twilio/messages/SM1/advance"} {
		if status, body := p.postForm(path, url.Values{"status": {"delivered"}}, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body, _ := p.page("/sandbox/twilio/messages/SM1/callbacks"); status != http.StatusNotFound {
		t.Errorf("%d %s", status, body)
	}
	if _, body, _ := p.page("/sandbox/twilio/messages/" + sid + "/callbacks"); !strings.Contains(body, `"callbacks": []`) {
		t.Errorf("%s", body)
	}
	_, body, _ = p.page("/sandbox/twilio/books")
	books := decode[sandbox.TwilioBooks](t, body)
	want := sandbox.BookedMessage{
		SID: sid, Account: testAccount, Direction: "outbound-api", From: ownNumber, To: handset, Body: "out",
		Status: "undelivered", ErrorCode: 30006, Segments: 1,
	}
	if len(books.Messages) != 2 || books.Messages[0] != want || books.Messages[1].SID != in.SID ||
		books.Creations != (sandbox.Creations{Asked: 1, Made: 1}) {
		t.Errorf("%s", body)
	}
	if _, body, _ := p.page("/sandbox/health"); !strings.Contains(body, "twilio_sms_url") {
		t.Errorf("%s", body)
	}
}

func TestTwilioPage(t *testing.T) {
	p := startTwilio(t)
	sid := p.send(message(handset, "<b>hello</b>"))
	const browser = "text/html,application/xhtml+xml"
	in := url.Values{"from": {" " + handset + " "}, "to": {ownNumber}, "body": {"one\r\ntwo"}}
	if status, body := p.postForm("/sandbox/twilio/inbound", in, browser); status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	if got := p.twilio.Books().Messages[1]; got.Body != "one\ntwo" || got.From != handset {
		t.Errorf("%+v", got)
	}
	status, body, header := p.page("/sandbox/twilio/")
	if status != http.StatusOK || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", status, header)
	}
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	rows := doc.Find("section[aria-labelledby=messages] tbody tr")
	if rows.Length() != 2 || !strings.Contains(rows.Eq(1).Text(), "<b>hello</b>") || !strings.Contains(rows.Eq(0).Text(), "inbound") {
		t.Errorf("%s", rows.Text())
	}
	// Only what is on its way can be moved: one step, or to one of three ends.
	if n := rows.Eq(1).Find("button").Length(); n != 4 {
		t.Errorf("%d buttons for the text that goes out", n)
	}
	if n := rows.Eq(0).Find("button").Length(); n != 0 {
		t.Errorf("%d buttons for the text that came in", n)
	}
	doc.Find("form").Each(func(_ int, form *goquery.Selection) {
		action := form.AttrOr("action", "")
		if form.AttrOr("method", "") != "post" || !strings.HasPrefix(action, "/sandbox/twilio/") {
			t.Errorf("a form to %s", action)
		}
		if rules, ok := form.Find("input[name=rules]").Attr("value"); ok {
			if status, body := p.postForm(action, url.Values{"rules": {rules}}, browser); status != http.StatusSeeOther {
				t.Errorf("preset %s: %d %s", rules, status, body)
			}
		}
	})
	if status, _ := p.postForm("/sandbox/twilio/messages/"+sid+"/mark", url.Values{"status": {"delivered"}}, browser); status != http.StatusSeeOther {
		t.Errorf("mark: %d", status)
	}
	if *p.fetch(sid).Status != "delivered" {
		t.Error("the button did nothing")
	}
	// A text that is not possible: the form again, with what was typed.
	status, body = p.postForm("/sandbox/twilio/inbound", url.Values{"from": {"0123"}, "to": {ownNumber}, "body": {"typed"}}, browser)
	if doc, err = goquery.NewDocumentFromReader(strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if status != http.StatusUnprocessableEntity || doc.Find("[role=alert]").Length() != 1 ||
		doc.Find("input[name=from]").AttrOr("value", "") != "0123" || doc.Find("textarea").Text() != "typed" {
		t.Errorf("%d %s", status, body)
	}
	// The overview leads here, when there is a Twilio.
	if _, body, _ := p.page("/"); !strings.Contains(body, `href="/sandbox/twilio/"`) {
		t.Error("the overview does not lead to Twilio")
	}
	if _, body, _ := start(t).page("/"); strings.Contains(body, "/sandbox/twilio/") {
		t.Error("the overview leads to a Twilio that is off")
	}
	resp, err := noRedirect.Get(p.URL() + "/sandbox/twilio")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 3 || resp.Header.Get("Location") != "/sandbox/twilio/" {
		t.Errorf("without its slash: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
}
