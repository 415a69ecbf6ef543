package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/db/dbtest"
)

func TestPages(t *testing.T) {
	s := newSite(t)
	owner := s.as("owner@harbour.example")
	for _, p := range []string{"/dashboard", "/wallet"} {
		res := owner.get(p)
		wantStatus(t, p, res, http.StatusOK)
		for _, part := range []string{"£569.00", "$720.25", "Opening balance", "about 10,160"} {
			if !strings.Contains(res.body, part) {
				t.Errorf("%s lacks %q", p, part)
			}
		}
	}
	res := owner.get("/wallet")
	for _, part := range []string{"£19.75", "£39.50", "£79.00", "£158.00", "From £5.00 to £5,000.00"} {
		if !strings.Contains(res.body, part) {
			t.Errorf("the wallet lacks %q", part)
		}
	}
	if n := res.doc(t).Find(`form[action="/wallet/top-ups"]`).Length(); n != 5 {
		t.Errorf("%d top-up forms, want four presets and the custom one", n)
	}
	res = s.as("viewer@harbour.example").get("/wallet")
	wantStatus(t, "viewer", res, http.StatusOK)
	if n := res.doc(t).Find(`form[action="/wallet/top-ups"]`).Length(); n != 0 {
		t.Error("a viewer is shown a form")
	}
	if res := s.as("owner@second.example").get("/wallet"); strings.Contains(res.body, "569.00") || strings.Contains(res.body, "Opening balance") {
		t.Error("the second tenant sees the first one's money")
	}
	res = s.browser().get("/")
	wantStatus(t, "/", res, http.StatusSeeOther)
}

func TestQuote(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	for _, c := range []struct{ amount, currency, want string }{
		{"50", "usd", "You&#39;ll be charged: £39.50 GBP (~$50.00 USD)"},
		{"50.00", "gbp", "You&#39;ll be charged: £50.00 GBP (~$63.29 USD)"},
	} {
		form := url.Values{"amount": {c.amount}, "currency": {c.currency}}
		fragment := b.send("/wallet", "/wallet/quote", form, "HX-Request", "true")
		wantStatus(t, "fragment", fragment, http.StatusOK)
		whole := b.send("/wallet", "/wallet/quote", form)
		wantStatus(t, "page", whole, http.StatusOK)
		for _, res := range []reply{fragment, whole} {
			if !strings.Contains(strings.ReplaceAll(res.body, "'", "&#39;"), c.want) {
				t.Errorf("%s %s: no %q in\n%s", c.amount, c.currency, c.want, res.body)
			}
		}
		if strings.Contains(fragment.body, "<html") || !strings.Contains(whole.body, "<html") {
			t.Error("fragment and page are mixed up")
		}
		if got, _ := whole.doc(t).Find("#amount").Attr("value"); got != c.amount {
			t.Errorf("the page forgot the amount: %q", got)
		}
	}
}

// A bad amount is 422 with the same form and a message beside the field, and makes nothing.
func TestBadAmounts(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	token := b.token("/wallet")
	for _, amount := range []string{"", "abc", "0", "-5", "1e9", "49.999", "£50", "1000000000000", "٥٠", "50", "4.99", "5000.01", "50\x00", strings.Repeat("9", 5000), "<script>"} {
		currency := "gbp"
		if amount == "50" {
			currency = "eur"
		}
		for _, path := range []string{"/wallet/top-ups", "/wallet/quote"} {
			form := url.Values{"csrf_token": {token}, "amount": {amount}, "currency": {currency}}
			res := b.post(path, form)
			wantStatus(t, path+" "+amount, res, http.StatusUnprocessableEntity)
			doc := res.doc(t)
			if got := strings.TrimSpace(doc.Find("#amount-error").Text()); got == "" {
				t.Errorf("%s %.20q: no message beside the field", path, amount)
			}
			if got, _ := doc.Find("#amount").Attr("value"); len(amount) < 60 && !strings.Contains(amount, "\x00") && got != amount {
				t.Errorf("%s %q: came back as %q", path, amount, got)
			}
			if strings.Contains(res.body, "<script>") {
				t.Error("what was typed came back as markup")
			}
			fragment := b.post(path, form, "HX-Request", "true")
			wantStatus(t, path+" "+amount+" as a fragment", fragment, http.StatusUnprocessableEntity)
			if strings.Contains(fragment.body, "<html") || !strings.Contains(fragment.body, "amount-error") {
				t.Errorf("%s %.20q: not a fragment with the message:\n%s", path, amount, fragment.body)
			}
		}
	}
	if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
		t.Errorf("%d top-ups were made", n)
	}
}

func TestStartTopUp(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	form := url.Values{"amount": {"50"}, "currency": {"gbp"}}
	res := b.send("/wallet", "/wallet/top-ups", form)
	wantStatus(t, "form", res, http.StatusSeeOther)
	to := res.Header.Get("Location")
	if !strings.HasPrefix(to, "http://127.0.0.1:") || !strings.Contains(to, "/c/pay/") {
		t.Fatalf("sent to %q", to)
	}
	// A double click, by htmx this time: the same page, and one top-up.
	res = b.send("/wallet", "/wallet/top-ups", form, "HX-Request", "true")
	wantStatus(t, "htmx", res, http.StatusOK)
	if got := res.Header.Get("HX-Redirect"); got != to || res.body != "" {
		t.Errorf("HX-Redirect %q, body %q; want %q", got, res.body, to)
	}
	if n := s.count(`SELECT count(*) FROM top_ups WHERE org_id = $1 AND amount_pence = 5000`, s.org); n != 1 {
		t.Errorf("%d top-ups for one payment", n)
	}
	if page := b.get("/wallet").doc(t).Find(`a[href="` + to + `"]`); page.Length() != 1 {
		t.Error("the wallet does not offer to continue")
	}

	var id string
	dbtest.Get(t, s.dbURL, &id, `SELECT id::text FROM top_ups`)
	for name, c := range map[string]struct{ query, want, not string }{
		"cancelled": {"?checkout=cancelled", "Nothing was charged", "Waiting for confirmation"},
		"plain":     {"", "Nothing was charged", "was added"},
		"done":      {"?checkout=done", "Waiting for confirmation", "was added"},
	} {
		res := b.get("/wallet/top-ups/" + id + c.query)
		wantStatus(t, name, res, http.StatusOK)
		if !strings.Contains(res.body, c.want) || strings.Contains(res.body, c.not) {
			t.Errorf("%s: the page does not say %q, or says %q", name, c.want, c.not)
		}
	}
	if res := b.get("/wallet/top-ups/" + id + "?checkout=done"); !strings.Contains(res.body, `http-equiv="refresh"`) {
		t.Error("without scripts the waiting page stands still")
	}
	wantStatus(t, "nothing new", b.get("/wallet/top-ups/"+id+"?checkout=done&seen=waiting", "HX-Request", "true"), http.StatusNoContent)
	// Other people's, and what is none.
	wantStatus(t, "owner of another organisation", s.as("owner@second.example").get("/wallet/top-ups/"+id), http.StatusNotFound)
	for _, bad := range []string{"x", "00000000-0000-0000-0000-000000000000", "%7B" + id + "%7D", "urn:uuid:" + id, strings.ToUpper(id) + "G", strings.ReplaceAll(id, "-", "")} {
		wantStatus(t, bad, b.get("/wallet/top-ups/"+bad), http.StatusNotFound)
	}

	dbtest.Super(t, s.dbURL, `UPDATE top_ups SET state = 'paid', paid_pence = 5000`)
	res = b.get("/wallet/top-ups/"+id+"?checkout=done&seen=waiting", "HX-Request", "true")
	wantStatus(t, "paid", res, http.StatusOK)
	if !strings.Contains(res.body, "£50.00 was added") || strings.Contains(res.body, "<html") || strings.Contains(res.body, "hx-trigger") {
		t.Errorf("paid, but: %s", res.body)
	}
	dbtest.Super(t, s.dbURL, `DELETE FROM top_ups`) // the books know nothing of it

	viewer := s.as("viewer@harbour.example")
	token := viewer.token("/wallet")
	for _, path := range []string{"/wallet/top-ups", "/wallet/quote"} {
		wantStatus(t, "viewer "+path, viewer.post(path, url.Values{"csrf_token": {token}, "amount": {"50"}, "currency": {"gbp"}}), http.StatusForbidden)
	}
	if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
		t.Error("a viewer started a top-up")
	}
}

// Stripe cannot be reached: a clear answer, in the form of whoever asks.
func TestStripeAway(t *testing.T) {
	s := newSite(t, func(o *options) { o.stripe = "http://127.0.0.1:1" })
	b := s.as("owner@harbour.example")
	form := url.Values{"amount": {"50"}, "currency": {"gbp"}}
	res := b.send("/wallet", "/wallet/top-ups", form)
	wantStatus(t, "form", res, http.StatusServiceUnavailable)
	if !strings.Contains(res.body, "<html") || strings.Contains(res.body, "connection refused") {
		t.Errorf("not a page for people:\n%s", res.body)
	}
	res = b.send("/wallet", "/wallet/top-ups", form, "HX-Request", "true")
	wantStatus(t, "htmx", res, http.StatusServiceUnavailable)
	if strings.Contains(res.body, "<html") || !strings.Contains(res.body, "Not available right now") {
		t.Errorf("not a notice:\n%s", res.body)
	}
}
