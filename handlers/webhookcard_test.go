package handlers_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/payments"
)

// TestWebhookCard: the list of events begins with how the way from Stripe to us stands.
func TestWebhookCard(t *testing.T) {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/webhook_endpoints" {
			t.Errorf("%s was asked for", r.URL.Path)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "has_more": false, "data": []any{map[string]any{
			"id": "we_1", "object": "webhook_endpoint", "url": "http://127.0.0.1:8080/api/webhooks/stripe", "status": "disabled",
			"api_version": stripe.APIVersion, "enabled_events": payments.Events(), "created": 1,
		}}})
	}))
	t.Cleanup(provider.Close)
	s := newSite(t, func(o *options) { o.stripe = provider.URL })
	b := s.as(operator)
	wantText(t, "nothing yet", b.get("/ops/stripe-events"), "#webhook", "Disabled", "switched off", "we_1", stripe.APIVersion+", as ours", "None yet", "None refused")

	body := []byte(`{"id":"evt_1","type":"charge.updated","created":1,"data":{"object":{"object":"charge","id":"ch_1"}}}`)
	wantStatus(t, "delivery", b.deliver(body), http.StatusOK)
	wantStatus(t, "forged", b.do("POST", "/api/webhooks/stripe", bytes.NewReader(body), "Stripe-Signature", "t=1,v1=00"), http.StatusBadRequest)
	page := b.get("/ops/stripe-events")
	wantText(t, "one came", page, "#webhook", "charge.updated", "1 refused", "0%", "of 1 event", "1 waiting")
	if got := page.doc(t).Find("#last-delivery a").AttrOr("href", ""); got != "/ops/stripe-events/evt_1" {
		t.Errorf("the last delivery leads to %q", got)
	}
	// It stands on the first page of all events, and nowhere else.
	for _, query := range []string{"?state=received", "?type=charge.updated", "?q=evt_1", "?before=1.evt"} {
		if b.get("/ops/stripe-events"+query).doc(t).Find("#webhook").Length() != 0 {
			t.Errorf("%s has it too", query)
		}
	}
}

// TestStripeAwayIsSaid: operators see their page without Stripe, and that it could not be asked.
func TestStripeAwayIsSaid(t *testing.T) {
	provider := httptest.NewServer(http.NotFoundHandler())
	provider.Close()
	s := newSite(t, func(o *options) { o.stripe = provider.URL })
	page := s.as(operator).get("/ops/stripe-events")
	wantStatus(t, "without Stripe", page, http.StatusOK)
	wantText(t, "without Stripe", page, "#webhook-state", "Not known", "Stripe could not be reached.")
	if strings.Contains(page.body, provider.URL) || strings.Contains(page.body, "connection refused") {
		t.Error("the page tells how we are connected")
	}
}

// TestEventPageTellsReversals: an event of a payment shows its refunds and disputes, and what was posted for them.
func TestEventPageTellsReversals(t *testing.T) {
	f := newFixture(t)
	page := f.as(operator).get("/ops/stripe-events/" + f.event)
	wantStatus(t, "event", page, http.StatusOK)
	wantText(t, "event", page, "#event-reversals", "re_harbour", "Succeeded", "£1.00", "dp_harbour", "Warning closed", "the bank has £0.00", "Refund, taken back")
	wantText(t, "event", page, "#came-by", "by webhook")
}
