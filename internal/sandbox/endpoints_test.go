package sandbox_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

// TestWebhookEndpoints manages endpoints with the unchanged client. They outlive a restart, their secrets are told once, and
// deliveries go where they went before.
func TestWebhookEndpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	kept := func(o *sandbox.Options) { o.StateFile = file }
	h := start(t, kept)
	restart := func() {
		t.Helper()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h = start(t, kept)
	}
	params := func(kinds ...string) *stripe.WebhookEndpointParams {
		return &stripe.WebhookEndpointParams{EnabledEvents: stripe.StringSlice(kinds)}
	}
	first := params("payment_intent.succeeded", "charge.refunded")
	first.URL, first.APIVersion, first.Metadata = new("https://shop.example/hook"), new(stripe.APIVersion), map[string]string{"made_by": "test"}
	made, err := h.api.WebhookEndpoints.New(first)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.ID, "we_") || !strings.HasPrefix(made.Secret, "whsec_") || made.Status != "enabled" || made.APIVersion != stripe.APIVersion {
		t.Errorf("made %+v", made)
	}
	second := params("*")
	second.URL = new("http://127.0.0.1:9/hook")
	other, err := h.api.WebhookEndpoints.New(second)
	if err != nil {
		t.Fatal(err)
	}
	if other.Secret == made.Secret || other.APIVersion != "" {
		t.Errorf("the second is %+v", other)
	}
	changed := params("charge.refunded")
	changed.Disabled = new(true)
	if e, err := h.api.WebhookEndpoints.Update(made.ID, changed); err != nil || e.Secret != "" || e.Status != "disabled" ||
		!slices.Equal(e.EnabledEvents, []string{"charge.refunded"}) || e.URL != "https://shop.example/hook" || e.Metadata["made_by"] != "test" {
		t.Errorf("changed to %+v, %v", e, err)
	}
	restart()
	if e, err := h.api.WebhookEndpoints.Get(made.ID, nil); err != nil || e.Secret != "" || e.Status != "disabled" {
		t.Errorf("after a restart it is %+v, %v", e, err)
	}
	ids := func() (ids []string) {
		t.Helper()
		it := h.api.WebhookEndpoints.List(nil)
		for it.Next() {
			ids = append(ids, it.WebhookEndpoint().ID)
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := ids(); !slices.Equal(got, []string{other.ID, made.ID}) {
		t.Errorf("listed %v, want the newest first", got)
	}
	if e, err := h.api.WebhookEndpoints.Del(made.ID, nil); err != nil || !e.Deleted {
		t.Errorf("deleted %+v, %v", e, err)
	}
	restart()
	if got := ids(); !slices.Equal(got, []string{other.ID}) {
		t.Errorf("after it %v are left", got)
	}
	for name, try := range map[string]func() error{
		"no address": func() error { _, err := h.api.WebhookEndpoints.New(params("*")); return err },
		"a bad address": func() error {
			p := params("*")
			p.URL = new("shop.example")
			_, err := h.api.WebhookEndpoints.New(p)
			return err
		},
		"no events": func() error {
			_, err := h.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: new("https://shop.example")})
			return err
		},
		"an event twice": func() error {
			p := params("charge.refunded", "charge.refunded")
			p.URL = new("https://shop.example")
			_, err := h.api.WebhookEndpoints.New(p)
			return err
		},
		"another version": func() error {
			p := params("*")
			p.URL, p.APIVersion = new("https://shop.example"), new("2020-08-27")
			_, err := h.api.WebhookEndpoints.New(p)
			return err
		},
		"a version afterwards": func() error {
			p := params("*")
			p.APIVersion = new(stripe.APIVersion)
			_, err := h.api.WebhookEndpoints.Update(other.ID, p)
			return err
		},
		"one that is gone": func() error { _, err := h.api.WebhookEndpoints.Update(made.ID, params("*")); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
