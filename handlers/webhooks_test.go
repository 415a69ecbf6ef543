package handlers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ringfence/handlers"
	"ringfence/internal/auth"
	"ringfence/internal/notice"
	"ringfence/internal/webhooks"
)

// receiver is a customer's program that keeps the last request it got.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	header http.Header
	body   []byte
	n      int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	rc := &receiver{status: http.StatusOK}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		rc.mu.Lock()
		defer rc.mu.Unlock()
		rc.header, rc.body = r.Header.Clone(), body
		rc.n++
		w.WriteHeader(rc.status)
		_, _ = io.WriteString(w, "<b>said</b>")
	}))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *receiver) answers(status int) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.status = status
}

// An owner adds an endpoint on the page, sees its secret once and what was sent, and sends it again.
func TestWebhookPages(t *testing.T) {
	var hooks *webhooks.Service
	s := identitySite(t, func(o *options) { o.deps = func(d *handlers.Deps) { hooks = d.Webhooks } })
	rc := newReceiver(t)
	b := s.as("owner@harbour.example")
	const page, form = "/settings/webhooks", "/settings/webhooks/new"
	wantSpaced(t, "none", b.get(page), "#endpoints", "No endpoints yet")
	res := b.send(form, page, url.Values{"url": {"ftp://x"}, "types": {"call.ended"}})
	if wantStatus(t, "no address", res, http.StatusUnprocessableEntity); res.doc(t).Find("#url-error").Text() == "" || res.doc(t).Find("#url").AttrOr("value", "") != "ftp://x" ||
		res.doc(t).Find("input[name=types][checked]").AttrOr("value", "") != "call.ended" {
		t.Errorf("the form did not come back as it was:\n%s", res.body)
	}
	res = b.send(form, page, url.Values{"url": {rc.URL}})
	if wantStatus(t, "nothing chosen", res, http.StatusUnprocessableEntity); res.doc(t).Find("#types-error").Text() == "" {
		t.Error("not told why")
	}
	key := b.get(form).doc(t).Find("input[name=key]").AttrOr("value", "")
	var secret string
	for range 2 { // a double click is one endpoint
		res = b.send(form, page, url.Values{"url": {rc.URL}, "types": {"wallet.low", "call.ended"}, "key": {key}})
		wantStatus(t, "add", res, http.StatusOK)
		secret = res.doc(t).Find("#secret-value").Text()
	}
	if !strings.HasPrefix(secret, "whsec_") || s.count(`SELECT count(*) FROM webhook_endpoints`) != 1 {
		t.Fatalf("the secret is %.8s…", secret)
	}
	one := b.get(page).doc(t).Find("#endpoints a").AttrOr("href", "")
	if again := b.get(one); strings.Contains(again.body, secret) {
		t.Error("the secret is shown again")
	}
	wantStatus(t, "the same address", b.send(form, page, url.Values{"url": {rc.URL}, "types": {"call.ended"}, "key": {"other"}}), http.StatusConflict)

	rc.answers(http.StatusInternalServerError)
	s.raise(s.org, notice.LowBalance, "1")
	if err := hooks.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(rc.body, rc.header); err != nil {
		t.Error(err)
	}
	wantSpaced(t, "the list", b.get(one), "#deliveries", "Once, 500")
	delivery := b.get(one).doc(t).Find("#deliveries a").AttrOr("href", "")
	seen := b.get(delivery)
	if !strings.Contains(seen.doc(t).Find("#attempts").Text(), "<b>said</b>") || strings.Contains(seen.body, "<b>said</b>") || !strings.Contains(seen.doc(t).Find("#payload").Text(), `"wallet.low"`) {
		t.Errorf("the attempt is not shown as it was:\n%s", seen.body)
	}
	rc.answers(http.StatusOK)
	wantStatus(t, "resend", b.send(delivery, delivery+"/resend", nil), http.StatusSeeOther)
	if err := hooks.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSpaced(t, "delivered", b.get(delivery), "#main", "Delivered")
	wantStatus(t, "test", b.send(one, one+"/test", nil), http.StatusSeeOther)
	wantStatus(t, "off", b.send(one, one+"/switch", url.Values{"to": {"off"}}), http.StatusSeeOther)
	wantStatus(t, "a test while off", b.send(one, one+"/test", nil), http.StatusConflict)
	wantStatus(t, "resend while off", b.send(delivery, delivery+"/resend", nil), http.StatusConflict)
	wantStatus(t, "on", b.send(one, one+"/switch", url.Values{"to": {"on"}}), http.StatusSeeOther)
	rolled := b.send(one, one+"/roll", nil)
	if wantStatus(t, "roll", rolled, http.StatusOK); rolled.doc(t).Find("#secret-value").Text() == secret {
		t.Error("the secret is the old one")
	}
	wantStatus(t, "change", b.send(one, one, url.Values{"url": {rc.URL + "/new"}, "types": {"wallet.low"}}), http.StatusSeeOther)
	wantStatus(t, "a viewer looks", s.as("viewer@harbour.example").get(one), http.StatusOK)
	wantStatus(t, "remove", b.send(one, one+"/remove", nil), http.StatusSeeOther)
	wantStatus(t, "gone", b.get(one), http.StatusNotFound)
	wantStatus(t, "what was sent to it", b.get(delivery), http.StatusOK)
	if strings.Contains(s.log.String(), secret) {
		t.Error("the secret is in the log")
	}
}

// Programs keep endpoints by the API, within their scopes; every answer is held against the description.
func TestWebhookAPI(t *testing.T) {
	s := newSite(t)
	key, reader := s.keyWith(auth.WebhooksRead|auth.WebhooksWrite), s.keyWith(auth.WebhooksRead)
	const path, body = "/api/v1/webhook-endpoints", `{"url":"https://example.com/hook","types":["call.ended"]}`
	ask := func(key, method, path, body string, headers ...string) reply {
		t.Helper()
		return s.browser().do(method, path, strings.NewReader(body), append([]string{"Authorization", "Bearer " + key, "Content-Type", "application/json"}, headers...)...)
	}
	wantStatus(t, "without a key", ask(key, "POST", path, body), http.StatusBadRequest)
	wantStatus(t, "reading only", ask(reader, "POST", path, body, "Idempotency-Key", "a"), http.StatusForbidden)
	first := ask(key, "POST", path, body, "Idempotency-Key", "a")
	wantStatus(t, "create", first, http.StatusCreated)
	again := ask(key, "POST", path, body, "Idempotency-Key", "a")
	if wantStatus(t, "again", again, http.StatusCreated); again.body != first.body || again.Header.Get("Idempotent-Replayed") != "true" || first.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a repeat is something else: %s", again.body)
	}
	wantStatus(t, "the key again", ask(key, "POST", path, strings.Replace(body, "hook", "x", 1), "Idempotency-Key", "a"), http.StatusConflict)
	wantStatus(t, "the address again", ask(key, "POST", path, body, "Idempotency-Key", "b"), http.StatusConflict)
	wantStatus(t, "no type", ask(key, "POST", path, `{"url":"https://example.com/2","types":["x"]}`, "Idempotency-Key", "c"), http.StatusUnprocessableEntity)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(first.body), &made); err != nil || !strings.HasPrefix(made.Secret, "whsec_") {
		t.Fatal(first.body, err)
	}
	one := path + "/" + made.ID
	for _, res := range []reply{ask(reader, "GET", path, ""), ask(reader, "GET", one, "")} {
		if wantStatus(t, "read", res, http.StatusOK); strings.Contains(res.body, "whsec_") || !strings.Contains(res.body, made.ID) {
			t.Errorf("%s", res.body)
		}
	}
	off := ask(key, "PATCH", one, `{"enabled":false,"types":["wallet.low","call.ended"]}`)
	if wantStatus(t, "change", off, http.StatusOK); !strings.Contains(off.body, `"enabled":false`) || !strings.Contains(off.body, `"types":["wallet.low","call.ended"]`) {
		t.Errorf("%s", off.body)
	}
	for _, name := range []string{"r", "r"} {
		res := ask(key, "POST", one+"/roll-secret", "", "Idempotency-Key", name)
		if wantStatus(t, "roll", res, http.StatusOK); strings.Contains(res.body, made.Secret) {
			t.Error("the secret is the old one")
		}
	}
	wantStatus(t, "reading only", ask(reader, "DELETE", one, ""), http.StatusForbidden)
	wantStatus(t, "remove", ask(key, "DELETE", one, ""), http.StatusOK)
	for _, gone := range []reply{
		ask(key, "DELETE", one, ""), ask(key, "GET", one, ""), ask(key, "PATCH", one, `{}`), ask(key, "POST", one+"/roll-secret", `{}`, "Idempotency-Key", "q"), ask(key, "GET", path+"/x", ""),
	} {
		wantStatus(t, "gone", gone, http.StatusNotFound)
	}
}
