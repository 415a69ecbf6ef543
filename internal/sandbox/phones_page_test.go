package sandbox_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"
)

func (p *phone) phonesPage() *goquery.Document {
	p.t.Helper()
	status, body, header := p.page("/sandbox/")
	if status != http.StatusOK || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		p.t.Fatalf("%d %v", status, header)
	}
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	return doc
}

func TestPhonesPage(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s))
	assistant := a.assistant("name", "<i>Front desk</i>")
	a.makes("/phone-number", a.imported("assistantId", assistant["id"]))
	outbound := a.callTo(handset)
	if _, err := a.sms.CreateValidationRequest((&openapi.CreateValidationRequestParams{}).SetPhoneNumber(usHandset)); err != nil {
		t.Fatal(err)
	}
	const browser = "text/html,application/xhtml+xml"
	doc := a.phonesPage()
	rows := doc.Find("section[aria-labelledby=numbers] tbody tr")
	if rows.Length() != 2 || !strings.Contains(rows.Eq(1).Text(), a.number) || !strings.Contains(rows.Eq(1).Text(), "Agent <i>Front desk</i>") ||
		!strings.Contains(rows.Eq(1).Text(), "Harbour Dental") || !strings.Contains(rows.Eq(0).Text(), "Nobody answers.") {
		t.Errorf("%s", rows.Text())
	}
	// The number rings, and takes a text.
	ring := url.Values{"from": {handset}, "to": {a.number}}
	if status, body := a.postForm("/sandbox/ring", ring, browser); status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := a.postForm("/sandbox/text", url.Values{"from": {handset}, "to": {a.number}, "body": {"hi"}}, browser); status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	wait(t, "the call", func() bool { return len(a.list("/call")) == 2 })
	wait(t, "its answer", func() bool { return a.list("/call?limit=1")[0]["status"] == "in-progress" })
	if b := a.twilio.Books(); len(b.Messages) != 1 || b.Messages[0].Account != a.sub.sid {
		t.Errorf("%+v", b.Messages)
	}
	doc = a.phonesPage()
	calls := doc.Find("section[aria-labelledby=calls] tbody tr")
	if calls.Length() != 2 || !strings.Contains(calls.Eq(0).Text(), "in-progress") || !strings.Contains(calls.Eq(0).Text(), "<i>Front desk</i>") ||
		!strings.Contains(calls.Eq(1).Text(), outbound) || calls.Eq(0).Find("button").Length() != 2 {
		t.Errorf("%s", calls.Text())
	}
	agents := doc.Find("section[aria-labelledby=agents] tbody tr")
	if agents.Length() != 2 || !strings.Contains(agents.Eq(0).Text(), "search_knowledge") || !strings.Contains(agents.Eq(0).Text(), a.number) {
		t.Errorf("%s", agents.Text())
	}
	// Every button does what it says, and leads back.
	doc.Find("form").Each(func(_ int, form *goquery.Selection) {
		action := form.AttrOr("action", "")
		if form.AttrOr("method", "") != "post" || !strings.HasPrefix(action, "/sandbox/") {
			t.Errorf("a form to %s", action)
		}
		values := url.Values{}
		form.Find("input").Each(func(_ int, in *goquery.Selection) { values.Set(in.AttrOr("name", ""), in.AttrOr("value", "x")) })
		if values.Has("rules") || values.Has("scripts") {
			if status, body := a.postForm(action, values, browser); status != http.StatusSeeOther {
				t.Errorf("%s %v: %d %s", action, values, status, body)
			}
		}
		form.Find("input:not([type=hidden])").Each(func(_ int, in *goquery.Selection) {
			if in.AttrOr("aria-label", "") == "" {
				t.Errorf("a field without a name in the form to %s", action)
			}
		})
	})
	if doc.Find("section[aria-labelledby=papers] form").Length() != 2 {
		t.Error("no buttons for the caller id that waits")
	}
	if status, _ := a.postForm("/sandbox/twilio/caller-ids", url.Values{"number": {usHandset}}, browser); status != http.StatusSeeOther {
		t.Errorf("%d", status)
	}
	if a.phonesPage().Find("section[aria-labelledby=papers]").Length() != 0 {
		t.Error("what was done is still waited for")
	}
	// What is not possible: the page again, with what was typed and why.
	status, body := a.postForm("/sandbox/text", url.Values{"from": {"0123"}, "to": {a.number}, "body": {"typed"}}, browser)
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusUnprocessableEntity || doc.Find("[role=alert]").Length() != 1 || doc.Find("input[value='0123']").Length() == 0 ||
		doc.Find("input[value=typed]").Length() != 1 {
		t.Errorf("%d %s", status, body)
	}
	if status, body := a.postForm("/sandbox/ring", url.Values{"from": {handset}, "to": {ownNumber}}, ""); status != http.StatusConflict || !strings.Contains(body, "VoiceUrl") {
		t.Errorf("%d %s", status, body)
	}
	for _, path := range []string{"/", "/sandbox/twilio/"} {
		if _, body, _ := a.page(path); !strings.Contains(body, `href="/sandbox/"`) {
			t.Errorf("%s does not lead to the telephones", path)
		}
	}
}

func TestPhonesPageWithoutVapi(t *testing.T) {
	p := startTwilio(t)
	p.dial(calling(handset))
	doc := p.phonesPage()
	if doc.Find("section[aria-labelledby=agents]").Length() != 0 || doc.Find("section[aria-labelledby=calls] tbody tr").Length() != 1 {
		t.Errorf("%s", doc.Text())
	}
	off := start(t)
	if status, _, _ := off.page("/sandbox/"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	// A fault that was set from here leads back here.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+"/sandbox/twilio/faults", strings.NewReader("rules=%5B%5D"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Referer", p.URL()+"/sandbox/")
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if got := resp.Header.Get("Location"); got != "/sandbox/" {
		t.Errorf("%s", got)
	}
}
