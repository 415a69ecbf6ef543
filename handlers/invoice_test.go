package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/wallet"
)

// paidTopUp has a browser of Harbour Dental's top up by £50 and pay at the stand-in, and tells our books of the payment; it gives the top-up's page and
// the PaymentIntent.
func (b *browser) paidTopUp() (page, intent string) {
	b.s.t.Helper()
	checkout := b.send("/wallet", "/wallet/top-ups", url.Values{"amount": {"50"}, "currency": {"gbp"}}).Header.Get("Location")
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := stay.PostForm(checkout+"/pay", nil)
	if err != nil {
		b.s.t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusSeeOther {
		b.s.t.Fatalf("paying at %q: %s, %v", checkout, res.Status, err)
	}
	u, err := url.Parse(checkout)
	if err != nil {
		b.s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.s.t.Context(), http.MethodGet, u.Scheme+"://"+u.Host+"/v1/checkout/sessions/"+u.Path[strings.LastIndexByte(u.Path, '/')+1:], http.NoBody)
	if err != nil {
		b.s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_x")
	if res, err = stay.Do(req); err != nil {
		b.s.t.Fatal(err)
	}
	var session struct {
		Intent string    `json:"payment_intent"`
		TopUp  uuid.UUID `json:"client_reference_id"`
	}
	if err := errors.Join(json.NewDecoder(res.Body).Decode(&session), res.Body.Close()); err != nil {
		b.s.t.Fatal(err)
	}
	dbtest.Super(b.s.t, b.s.dbURL, `
		INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at)
		SELECT $1, org_id, id, amount_pence, now(), now(), now() FROM top_ups WHERE id = $2`, session.Intent, session.TopUp)
	err = b.s.db.InTx(b.s.t.Context(), []uuid.UUID{b.s.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.CreditPayments(ctx, tx, []wallet.Payment{{
			PaymentIntent: session.Intent, OrgID: b.s.org, TopUpID: session.TopUp, Amount: 50_00, EventID: "evt_1",
		}})
		return err
	})
	if err != nil {
		b.s.t.Fatal(err)
	}
	dbtest.Super(b.s.t, b.s.dbURL, `UPDATE top_ups SET state = 'paid', paid_pence = amount_pence WHERE id = $1`, session.TopUp)
	return "/wallet/top-ups/" + session.TopUp.String(), session.Intent
}

// TestInvoice: from a paid top-up a link leads to Stripe's invoice, and back with a word where there is none.
func TestInvoice(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	page, intent := b.paidTopUp()
	link := b.get(page).doc(t).Find("#invoice").AttrOr("href", "")
	if link != page+"/invoice" {
		t.Errorf("the paid top-up links to %q", link)
	}
	for _, to := range []string{link, link + "?payment=" + intent} {
		res := s.as("viewer@harbour.example").get(to)
		wantStatus(t, to, res, http.StatusSeeOther)
		if got := res.Header.Get("Location"); !strings.Contains(got, "/sandbox/stripe/invoices/in_") {
			t.Errorf("%s leads to %q", to, got)
		}
	}
	for _, to := range []string{link + "?payment=pi_other", "/wallet/top-ups/x/invoice"} {
		wantStatus(t, to, b.get(to), http.StatusNotFound)
	}
	// One that is not paid has none.
	b.send("/wallet", "/wallet/top-ups", url.Values{"amount": {"60"}, "currency": {"gbp"}})
	page = "/wallet/top-ups/" + s.text(`SELECT id::text FROM top_ups WHERE state = 'open'`)
	res := b.get(page + "/invoice")
	wantStatus(t, "none", res, http.StatusSeeOther)
	if got := res.Header.Get("Location"); got != page+"?document=none" {
		t.Errorf("without an invoice it leads to %q", got)
	}
	wantText(t, "none", b.get(page+"?document=none"), "#no-document", "There is no invoice yet")
}

// TestVATIsStated: the price list says how prices stand to VAT, in the words that were configured.
func TestVATIsStated(t *testing.T) {
	s := newSite(t)
	wantText(t, "prices", s.as("owner@harbour.example").get("/wallet/prices"), "#vat", "Prices include <VAT>.")
}
