package payments_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/server"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
)

// stripeMock serves Stripe's own stand-in (https://github.com/stripe/stripe-mock): it keeps no state, but holds every
// request to the OpenAPI description of Stripe's API.
func stripeMock(t *testing.T) string {
	t.Helper()
	spec, err := server.LoadSpec(embedded.OpenAPISpec, "")
	if err != nil {
		t.Fatal(err)
	}
	fixtures, err := server.LoadFixtures(embedded.OpenAPIFixtures, "")
	if err != nil {
		t.Fatal(err)
	}
	stub, err := server.NewStubServer(fixtures, spec, false, false)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(stub.HandleRequest))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestStripesOwnValidatorAcceptsUs sends every request of the checkout side through Stripe's description of its API.
func TestStripesOwnValidatorAcceptsUs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dbtest.Super(t, f.url, `DELETE FROM stripe_customers`)
	l := newLine(t, stripeMock(t))
	svc := f.service(func(o *payments.Options) { o.StripeBase, o.Now, o.CollectVATNumber = l.url, time.Now, true })

	// A first top-up: customer, then session. The session's address is made up by stripe-mock, so that the check may
	// refuse it; whether the request was in order is what counts here.
	top, err := svc.StartTopUp(t.Context(), f.org, f.user, "50", "usd")
	switch {
	case err == nil:
		if top.State != payments.Open || payments.CheckURL(top.CheckoutURL, []string{stripeOrigin}) != nil {
			t.Errorf("the top-up is %+v", top)
		}
	case fault.Is(err, fault.Declined) && strings.Contains(err.Error(), "the address"):
	default:
		t.Errorf("the top-up failed: %v", err)
	}
	// An open one: its session is asked for.
	open := f.topUp(f.org, 20_00)
	if again, err := svc.StartTopUp(t.Context(), f.org, f.user, "20", "gbp"); err != nil || again.ID != open {
		t.Errorf("the open top-up %s was given as %+v, %v", open, again, err)
	}

	var asked []string
	for _, c := range l.heard("*") {
		asked = append(asked, c.what)
		if c.status != http.StatusOK {
			t.Errorf("%s was answered %d: %v", c.what, c.status, c.form)
		}
	}
	if want := []string{makeCustomer, makeSession, "GET /v1/checkout/sessions/cs_" + open.String()}; !slices.Equal(asked, want) {
		t.Errorf("Stripe was asked %v, want %v", asked, want)
	}

	// The validator is awake: the same session with one thing wrong is refused. (It lets unknown members of known
	// parameters pass; those the sandbox refuses.)
	good := l.heard(makeSession)[0].form
	if status, body := post(t, l.target, good); status != http.StatusOK {
		t.Errorf("the same form again: %d %s", status, body)
	}
	for name, spoil := range map[string]func(url.Values){
		"an unknown parameter":        func(v url.Values) { v.Set("favourite_colour", "blue") },
		"an unknown mode":             func(v url.Values) { v.Set("mode", "gift") },
		"an amount that is no number": func(v url.Values) { v.Set("line_items[0][price_data][unit_amount]", "lots") },
		"a flag that is none":         func(v url.Values) { v.Set("adaptive_pricing[enabled]", "perhaps") },
	} {
		bad := url.Values{}
		for k, v := range good {
			bad[k] = slices.Clone(v)
		}
		spoil(bad)
		if status, body := post(t, l.target, bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// post sends a session's form to Stripe's stand-in.
func post(t *testing.T, base string, form url.Values) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/checkout/sessions", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer sk_test_x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
