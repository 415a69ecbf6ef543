package payments_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
)

// vat has a service ask for VAT numbers, or not, and link to the sandbox's documents.
func (d *desk) vat(collect bool) func(*payments.Options) {
	return func(o *payments.Options) {
		d.onLine(o)
		o.CollectVATNumber, o.DocumentOrigins = collect, []string{d.box.URL()}
	}
}

// TestSessionsMakeInvoices: each session asks for an invoice, and for a VAT number where that is configured.
func TestSessionsMakeInvoices(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for amount, collect := range map[string]bool{"20": true, "21": false} {
		d.svc = d.service(d.vat(collect))
		d.start(amount)
	}
	for _, c := range d.line.heard(makeSession) {
		collects := c.form.Get("line_items[0][price_data][unit_amount]") == "2000"
		for name, want := range map[string]string{
			"invoice_creation[enabled]":                           "true",
			"invoice_creation[invoice_data][metadata][top_up_id]": c.form.Get("metadata[top_up_id]"),
			"tax_id_collection[enabled]":                          map[bool]string{true: "true"}[collects],
			"customer_update[name]":                               map[bool]string{true: "auto"}[collects],
			"customer_update[address]":                            map[bool]string{true: "auto"}[collects],
			"automatic_tax[enabled]":                              "",
		} {
			if got := c.form.Get(name); got != want {
				t.Errorf("with a VAT number asked for: %t, %s is %q, want %q", collects, name, got, want)
			}
		}
	}
	if n := len(d.line.heard(makeSession)); n != 2 {
		t.Errorf("%d sessions were asked for", n)
	}
}

// TestConfigurationChangesBetweenTries: what Stripe is asked under one key stays the same, so that it answers with the
// session it has made.
func TestConfigurationChangesBetweenTries(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.svc = d.service(d.vat(true))
	d.line.losing(makeSession)
	d.refused("20", fault.Unavailable)
	d.line.losing("")
	d.svc = d.service(d.vat(false))
	top := d.start("20")
	calls := d.line.heard(makeSession)
	first, last := calls[0], calls[len(calls)-1]
	if first.key != last.key || first.form.Encode() != last.form.Encode() || last.status != http.StatusOK {
		t.Errorf("under %q it was asked\n%s\nand under %q\n%s\nanswered with %d", first.key, first.form.Encode(), last.key, last.form.Encode(), last.status)
	}
	if n := d.sessions(top.ID); n != 1 {
		t.Errorf("%d sessions were made", n)
	}
	// The next top-up goes by what is configured now.
	d.start("30")
	calls = d.line.heard(makeSession)
	if calls[len(calls)-1].form.Has("tax_id_collection[enabled]") {
		t.Error("the changed configuration has no effect")
	}
}

// TestDocuments: who paid finds the invoice with the VAT number, and whoever did not find what is theirs finds nothing.
func TestDocuments(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	l.svc = l.service(l.vat(true))
	document := func(org, topUp uuid.UUID, intent string) (string, error) {
		return l.svc.Document(t.Context(), org, topUp, intent)
	}
	top := l.start("50.00")
	if to, err := document(l.org, top.ID, ""); !errors.Is(err, payments.ErrNoDocument) {
		t.Errorf("of an unpaid top-up: %q, %v", to, err)
	}
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := stay.PostForm(top.CheckoutURL+"/pay", url.Values{"tax_id": {"GB123456789"}, "business_name": {"Harbour Dental Ltd"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	l.until("the credit", func() bool { return l.count(`SELECT count(*) FROM credits`) == 1 })
	var intent string
	dbtest.Get(t, l.url, &intent, `SELECT payment_intent FROM credits`)
	for _, named := range []string{"", intent} {
		to, err := document(l.org, top.ID, named)
		if err != nil || !strings.HasPrefix(to, l.box.URL()+"/sandbox/stripe/invoices/in_") {
			t.Fatalf("the invoice is at %q, %v", to, err)
		}
		page, err := http.Get(to)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(page.Body)
		if err := errors.Join(err, page.Body.Close()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"GB123456789", "Harbour Dental Ltd", "£50.00"} {
			if !strings.Contains(string(body), want) {
				t.Errorf("the invoice does not name %s", want)
			}
		}
	}
	for what, ask := range map[string]func() (string, error){
		"another organisation's": func() (string, error) { return document(l.other, top.ID, "") },
		"no such top-up":         func() (string, error) { return document(l.org, uuid.New(), "") },
		"another payment":        func() (string, error) { return document(l.org, top.ID, "pi_other") },
		"a hostile payment":      func() (string, error) { return document(l.org, top.ID, "../x?y=\x00") },
	} {
		if to, err := ask(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %q, %v", what, to, err)
		}
	}
	// Only where links may lead.
	l.svc = l.service(l.onLine)
	if to, err := document(l.org, top.ID, ""); !errors.Is(err, payments.ErrNoDocument) {
		t.Errorf("with no origin allowed: %q, %v", to, err)
	}
	l.svc = l.service(func(o *payments.Options) { l.vat(true)(o); o.DocumentOrigins = []string{"https://invoice.stripe.com"} })
	if to, err := document(l.org, top.ID, ""); !errors.Is(err, payments.ErrNoDocument) {
		t.Errorf("with another origin allowed: %q, %v", to, err)
	}
	l.svc = l.service(l.vat(true))
	l.faults(sandbox.Fault{Match: "GET /v1/payment_intents/*", Do: sandbox.Fault503, Times: -1})
	if _, err := document(l.org, top.ID, ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without Stripe: %v", err)
	}
}

// TestReceiptWhereThereIsNoInvoice: a payment that was made without Stripe's page has a receipt.
func TestReceiptWhereThereIsNoInvoice(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.svc = d.service(d.vat(true))
	top := d.start("50.00")
	pi, err := d.api.PaymentIntents.New(&stripe.PaymentIntentParams{
		Amount: stripe.Int64(50_00), Currency: new("gbp"), Confirm: new(true), PaymentMethod: new("pm_card_visa"), PaymentMethodTypes: []*string{new("card")},
	})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, d.url, `INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at) VALUES ($1, $2, $3, 5000, now(), now(), now())`, pi.ID, d.org, top.ID)
	to, err := d.svc.Document(t.Context(), d.org, top.ID, pi.ID)
	if err != nil || to != d.box.URL()+"/sandbox/stripe/receipts/"+pi.LatestCharge.ID {
		t.Errorf("the receipt is at %q, %v", to, err)
	}
}
