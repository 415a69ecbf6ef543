package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"ringfence/internal/payments"
)

// boxed asks the sandbox of an environment as somebody else on the account.
func (e environment) boxed() *client.API {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: new(e.sandboxBase()), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	return client.New("sk_test_other", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
}

// endpoints lists those of the account, newest first.
func endpoints(t *testing.T, api *client.API) (list []*stripe.WebhookEndpoint) {
	t.Helper()
	it := api.WebhookEndpoints.List(nil)
	for it.Next() {
		list = append(list, it.WebhookEndpoint())
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// ok runs a command that must succeed and gives its lines.
func (e environment) ok(t *testing.T, args ...string) []string {
	t.Helper()
	code, out, log := e.run(t, args...)
	if code != 0 {
		t.Fatalf("%v exits %d:\n%s%s", args, code, out, log)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

var signingSecret = regexp.MustCompile(`^whsec_[A-Za-z0-9]{32}$`)

// TestWebhookEndpoint goes through the life of the endpoint at Stripe: made, found again, mended, rotated, retired.
func TestWebhookEndpoint(t *testing.T) {
	t.Parallel()
	p := serve(t)
	api := p.boxed()
	address := p.base() + "/api/webhooks/stripe"
	foreign, err := api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: new("https://elsewhere.example/hook"), EnabledEvents: []*string{new("*")}})
	if err != nil {
		t.Fatal(err)
	}
	command{name: "nothing to list", args: []string{"stripe", "list"}, says: []string{"no webhook endpoint", "stripe setup"}}.check(t, p.environment)
	command{name: "nothing to rotate", args: []string{"stripe", "rotate"}, code: 1, says: []string{"stripe setup"}}.check(t, p.environment)
	command{name: "nothing to retire", args: []string{"stripe", "rotate", "--retire"}, code: 1, says: []string{"stripe setup"}}.check(t, p.environment)

	made := p.ok(t, "stripe", "setup")
	if first := made[len(made)-1]; !signingSecret.MatchString(first) {
		t.Errorf("setup ends with %q, not with a secret", first)
	}
	list := endpoints(t, api)
	if len(list) != 2 {
		t.Fatalf("%d endpoints, want the foreign one and ours", len(list))
	}
	ours := list[0]
	if ours.URL != address || ours.APIVersion != stripe.APIVersion || ours.Status != "enabled" || !slices.Equal(ours.EnabledEvents, payments.Events()) {
		t.Errorf("the endpoint is %+v", ours)
	}
	for _, again := range []string{"kept", "kept"} {
		if said := p.ok(t, "stripe", "setup"); len(said) != 1 || !strings.Contains(said[0], again) || strings.Contains(said[0], "whsec_") {
			t.Errorf("setup again says %q", said)
		}
	}
	if _, err := api.WebhookEndpoints.Update(ours.ID, &stripe.WebhookEndpointParams{EnabledEvents: []*string{new("payment_intent.succeeded")}, Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	command{name: "list sees what is wrong", args: []string{"stripe", "list"}, says: []string{ours.ID, "wrong", "disabled"}}.check(t, p.environment)
	if said := p.ok(t, "stripe", "setup"); !strings.Contains(said[0], "updated") {
		t.Errorf("setup after a change says %q", said)
	}
	command{name: "list sees it mended", args: []string{"stripe", "list"}, says: []string{ours.ID, "right"}, saysNone: []string{foreign.ID}}.check(t, p.environment)

	said := p.ok(t, "stripe", "rotate")
	second := said[len(said)-1]
	if !signingSecret.MatchString(second) || second == made[len(made)-1] {
		t.Errorf("rotate ends with %q", second)
	}
	command{name: "rotate again", args: []string{"stripe", "rotate"}, code: 1, says: []string{"--retire"}}.check(t, p.environment)
	command{name: "setup in the middle", args: []string{"stripe", "setup"}, says: []string{"kept"}}.check(t, p.environment)
	if n := len(endpoints(t, api)); n != 3 {
		t.Errorf("in the middle there are %d endpoints, want 3", n)
	}
	command{name: "retire", args: []string{"stripe", "rotate", "--retire"}, says: []string{ours.ID + " is deleted"}}.check(t, p.environment)
	command{name: "retire again", args: []string{"stripe", "rotate", "--retire"}, says: []string{"the only one"}, saysNone: []string{"deleted"}}.check(t, p.environment)
	list = endpoints(t, api)
	if len(list) != 2 || list[0].URL != address || list[0].ID == ours.ID || list[1].ID != foreign.ID {
		t.Errorf("at the end there are %+v", list)
	}
	// In production there is no secret before there is an endpoint.
	command{
		name: "without a secret yet", args: []string{"stripe", "list"},
		env: production(p.environment).with(environment{
			"STRIPE_WEBHOOK_SECRET": "", "STRIPE_SECRET_KEY": "sk_test_" + canary + "00000000", "STRIPE_API_BASE": p.sandboxBase(),
		}),
		code: 2, // the base must be https there; the secret is not what is missing
		says: []string{"STRIPE_API_BASE"}, saysNone: []string{"STRIPE_WEBHOOK_SECRET"},
	}.check(t, p.environment)
}

// TestEndpointOfAnotherVersion cannot be mended, only replaced.
func TestEndpointOfAnotherVersion(t *testing.T) {
	t.Parallel()
	p := serve(t)
	api := p.boxed()
	if _, err := api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{
		URL: new(p.base() + "/api/webhooks/stripe"), EnabledEvents: []*string{new("charge.refunded")}, // and the account's own version
	}); err != nil {
		t.Fatal(err)
	}
	command{name: "setup", args: []string{"stripe", "setup"}, code: 1, says: []string{"updated", "another API version", "stripe rotate"}}.check(t, p.environment)
	p.ok(t, "stripe", "rotate")
	p.ok(t, "stripe", "rotate", "--retire")
	if list := endpoints(t, api); len(list) != 1 || list[0].APIVersion != stripe.APIVersion {
		t.Errorf("at the end there are %+v", list)
	}
}

// TestWebhookTest sends samples to a server that works, and to those that do not.
func TestWebhookTest(t *testing.T) {
	t.Parallel()
	p := serve(t)
	rolling := environment{"STRIPE_WEBHOOK_SECRET": p.environment["STRIPE_WEBHOOK_SECRET"]}
	for range 2 {
		command{name: "a server that works", args: []string{"stripe", "test"}, env: rolling, says: []string{
			"ok      an event signed with a secret that is not ours is refused", "ok      the event is taken", "ok      the event again is a duplicate",
			"ok      £1.00 are credited, once", "ok      what was credited is taken back", "is open",
		}, saysNone: []string{"FAILED"}}.check(t, p.environment)
	}
	if n := p.count(t, `SELECT count(*) FROM credits c JOIN organizations o ON o.id = c.org_id WHERE o.name = 'Stripe webhook test'`); n != 2 {
		t.Errorf("%d samples were credited, want 2", n)
	}
	if n := p.count(t, `SELECT balance_pence FROM wallets w JOIN organizations o ON o.id = w.org_id WHERE o.name = 'Stripe webhook test'`); n != 0 {
		t.Errorf("%dp are left", n)
	}
	command{
		name: "a server with another secret", args: []string{"stripe", "test", "--patience", "1ms"}, code: 1,
		env: environment{"STRIPE_WEBHOOK_SECRET": "whsec_" + canary + "0000000000000000000"}, says: []string{"FAILED  the event is taken", "FAILED  £1.00 are credited"},
	}.check(t, p.environment)
	// One that believes everything, and keeps nothing.
	gullible := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]bool{"received": true})
	}))
	t.Cleanup(gullible.Close)
	command{
		name: "a server that believes everything", args: []string{"stripe", "test", "--server", gullible.URL, "--patience", "1ms"}, code: 1,
		says: []string{"FAILED  an event signed not at all is refused", "FAILED  the event again is a duplicate", "FAILED  £1.00 are credited"},
	}.check(t, p.environment)
	command{
		name: "no server", args: []string{"stripe", "test", "--server", "http://" + freeAddr(t), "--patience", "1ms"}, code: 1, says: []string{"FAILED  the event is taken"},
	}.check(t, p.environment)
	p.verify(t)
}

// TestReconcileByHand: webhooks are off, a customer pays and is partly refunded, and one command brings it in order.
func TestReconcileByHand(t *testing.T) {
	t.Parallel()
	p := serve(t)
	harbour := signedIn(t, p.base(), owner)
	off, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.sandboxBase()+"/sandbox/stripe/webhooks", strings.NewReader(`{"enabled": false}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(off)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("couldn't switch the webhooks off: %v, %v", res, err)
	}
	_ = res.Body.Close()
	checkout := harbour.checkout("50.00")
	harbour.post(checkout+"/pay", url.Values{}, http.StatusSeeOther)
	intents := p.boxed().PaymentIntents.List(nil)
	if !intents.Next() {
		t.Fatal("there is no payment")
	}
	if _, err := p.boxed().Refunds.New(&stripe.RefundParams{PaymentIntent: new(intents.PaymentIntent().ID), Amount: stripe.Int64(5_00)}); err != nil {
		t.Fatal(err)
	}
	harbour.waitBalance("£569.00")
	for _, c := range []command{
		{name: "first", args: []string{"stripe", "reconcile", "--since", "2h"}, says: []string{"healed         1 payments, £50.00", "disagreements  0"}},
		{name: "again", args: []string{"stripe", "reconcile", "--since", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)}, says: []string{"healed         0 payments"}},
		{name: "days", args: []string{"stripe", "reconcile", "--since", "30d"}, says: []string{"healed         0 payments"}},
		{name: "no time", args: []string{"stripe", "reconcile", "--since", "yesterday"}, code: 1, says: []string{"--since", "2h"}},
		{name: "the future", args: []string{"stripe", "reconcile", "--since", "-2h"}, code: 2, says: []string{"--since"}},
		{name: "a day to come", args: []string{"stripe", "reconcile", "--since", "2999-01-01"}, code: 1, says: []string{"not in the past"}},
		{name: "nothing said", args: []string{"stripe", "reconcile"}, code: 2, says: []string{"--since"}},
		{name: "Stripe away", args: []string{"stripe", "reconcile", "--since", "2h"}, env: environment{"STRIPE_API_BASE": "http://" + freeAddr(t)}, code: 1, says: []string{"couldn't ask Stripe"}},
	} {
		c.check(t, p.environment)
	}
	harbour.waitBalance("£614.00")
	page := signedIn(t, p.base(), operator).get("/ops/stripe-events", http.StatusOK).body
	for _, words := range []string{"Compared with Stripe", "1 payment", "£50.00"} {
		if !strings.Contains(page, words) {
			t.Errorf("the operators' page does not say %q", words)
		}
	}
	p.verify(t)
}

// TestParseSince reads what people write.
func TestParseSince(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h": at.Add(-2 * time.Hour), "90m": at.Add(-90 * time.Minute), "30d": at.AddDate(0, 0, -30), "2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		"2026-11-25T08:00:00Z": time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC),
		"":                     {}, "0s": {}, "-1h": {}, "1": {}, "30 d": {}, "2026-13-01": {}, "2026-11-26": {}, "99999d": {},
	} {
		got, err := parseSince(text, at)
		if (err != nil) != want.IsZero() || err == nil && !got.Equal(want) {
			t.Errorf("%q gives %s, %v; want %s", text, got, err, want)
		}
	}
}
