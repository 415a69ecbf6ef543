package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

// invoicedParams is a session whose payment is invoiced to a customer who may have a VAT number.
func invoicedParams(customer string) *stripe.CheckoutSessionParams {
	p := sessionParams(5000, "tu_1")
	p.Customer, p.CustomerUpdate = new(customer), &stripe.CheckoutSessionCustomerUpdateParams{Name: new("auto"), Address: new("auto")}
	p.TaxIDCollection = &stripe.CheckoutSessionTaxIDCollectionParams{Enabled: new(true)}
	p.InvoiceCreation = &stripe.CheckoutSessionInvoiceCreationParams{
		Enabled: new(true), InvoiceData: &stripe.CheckoutSessionInvoiceCreationInvoiceDataParams{
			Description: new("Wallet top-up"), Footer: new("Prepaid credit"), Metadata: map[string]string{"top_up_id": "tu_1"},
		},
	}
	return p
}

func TestInvoiceOfAPayment(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	who := b.customer()
	s, err := b.api.CheckoutSessions.New(invoicedParams(who))
	if err != nil {
		t.Fatal(err)
	}
	if !s.InvoiceCreation.Enabled || !s.TaxIDCollection.Enabled || s.Invoice != nil {
		t.Errorf("%+v", s)
	}
	page := "/c/pay/" + s.ID
	if _, body, _ := b.page(page); !strings.Contains(body, `name="tax_id"`) || !strings.Contains(body, `name="business_name"`) {
		t.Error("the page asks for no VAT number")
	}
	// What is no VAT number stands in the form again, and nothing was paid.
	status, _, body := b.submit(s.URL+"/pay", url.Values{"tax_id": {"12345"}, "business_name": {"Harbour Dental Ltd"}})
	if status != http.StatusBadRequest || !strings.Contains(body, `value="12345"`) || !strings.Contains(body, "Invalid VAT number") {
		t.Errorf("%d %s", status, body)
	}
	if n := len(b.books().Payments); n != 0 {
		t.Fatalf("%d payments", n)
	}
	if status, _, body := b.submit(s.URL+"/pay", url.Values{"tax_id": {"gb 123 4567 89"}, "business_name": {"Harbour Dental Ltd"}}); status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}

	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("invoice")
	p.AddExpand("customer")
	p.AddExpand("payment_intent.latest_charge")
	s, err = b.api.CheckoutSessions.Get(s.ID, p)
	if err != nil {
		t.Fatal(err)
	}
	inv := s.Invoice
	if inv == nil || !strings.HasPrefix(inv.ID, "in_") || inv.Status != stripe.InvoiceStatusPaid || !inv.Paid || inv.Total != 5000 ||
		inv.AmountPaid != 5000 || inv.AmountRemaining != 0 || inv.Currency != "gbp" || inv.Customer.ID != who ||
		inv.PaymentIntent.ID != s.PaymentIntent.ID || inv.Charge.ID != s.PaymentIntent.LatestCharge.ID ||
		inv.CustomerName != "Harbour Dental Ltd" || inv.Description != "Wallet top-up" || inv.Metadata["top_up_id"] != "tu_1" {
		t.Fatalf("%+v", inv)
	}
	if len(inv.Lines.Data) != 1 || inv.Lines.Data[0].Amount != 5000 || inv.Lines.Data[0].Description != "Wallet top-up" {
		t.Errorf("%+v", inv.Lines)
	}
	if inv.Number != s.Customer.InvoicePrefix+"-0001" || s.Customer.Name != "Harbour Dental Ltd" || s.Customer.Address.Country != "GB" {
		t.Errorf("number %s, customer %+v", inv.Number, s.Customer)
	}
	if s.PaymentIntent.Invoice.ID != inv.ID || s.PaymentIntent.LatestCharge.Invoice.ID != inv.ID {
		t.Error("the payment does not name its invoice")
	}
	if ids := s.CustomerDetails.TaxIDs; len(ids) != 1 || ids[0].Type != "gb_vat" || ids[0].Value != "GB123456789" || s.CustomerDetails.Name != "Harbour Dental Ltd" {
		t.Errorf("%+v", s.CustomerDetails)
	}
	if ids := inv.CustomerTaxIDs; len(ids) != 1 || *ids[0].Type != "gb_vat" || ids[0].Value != "GB123456789" {
		t.Errorf("%+v", inv.CustomerTaxIDs)
	}
	for _, link := range []string{inv.HostedInvoiceURL, inv.InvoicePDF} {
		status, body, _ := b.page(strings.TrimPrefix(link, b.URL()))
		for _, want := range []string{inv.Number, "£50.00", "Harbour Dental Ltd", "GB123456789", "Prepaid credit"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %s", link, want)
			}
		}
		if status != http.StatusOK {
			t.Errorf("%s: %d", link, status)
		}
	}
	if got, err := b.api.Invoices.Get(inv.ID, nil); err != nil || got.Number != inv.Number {
		t.Errorf("%v, %+v", err, got)
	}
	if _, err := b.api.Invoices.Get("in_none", nil); stripeError(t, err).HTTPStatusCode != http.StatusNotFound {
		t.Errorf("%v", err)
	}
	if status, _, _ := b.page("/sandbox/stripe/invoices/in_none"); status != http.StatusNotFound {
		t.Errorf("an unknown invoice: %d", status)
	}
	wait(t, "events", func() bool {
		return rc.count("invoice.paid") == 1 && rc.count("checkout.session.completed") == 1 && rc.count("customer.tax_id.created") == 1 &&
			rc.count("customer.updated") == 1
	})
	if e := rc.first("checkout.session.completed"); e.GetObjectValue("invoice") != inv.ID {
		t.Errorf("%s", e.Data.Raw)
	}
	if e := rc.first("invoice.paid"); e.GetObjectValue("id") != inv.ID || e.GetObjectValue("payment_intent") != s.PaymentIntent.ID {
		t.Errorf("%s", e.Data.Raw)
	}
}

// The second invoice has the next number and the VAT number that the customer has, once.
func TestTaxIDIsTheCustomers(t *testing.T) {
	b := start(t)
	who := b.customer()
	pay := func(form url.Values) *stripe.Invoice {
		t.Helper()
		s, err := b.api.CheckoutSessions.New(invoicedParams(who))
		if err != nil {
			t.Fatal(err)
		}
		if status, _, body := b.submit(s.URL+"/pay", form); status != http.StatusSeeOther {
			t.Fatalf("%d %s", status, body)
		}
		inv, err := b.api.Invoices.Get(b.get(s.ID).Invoice.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	values := func(inv *stripe.Invoice) (out []string) {
		for _, id := range inv.CustomerTaxIDs {
			out = append(out, id.Value)
		}
		return out
	}
	none := pay(nil)
	if len(none.CustomerTaxIDs) != 0 || !strings.HasSuffix(none.Number, "-0001") {
		t.Errorf("%+v", none)
	}
	pay(url.Values{"tax_id": {"DE123456789"}})
	pay(url.Values{"tax_id": {"de123456789"}})
	last := pay(nil)
	if !slices.Equal(values(last), []string{"DE123456789"}) || !strings.HasSuffix(last.Number, "-0004") {
		t.Errorf("%s with %v", last.Number, values(last))
	}
	var kept []string
	it := b.api.TaxIDs.List(&stripe.TaxIDListParams{Customer: new(who)})
	for it.Next() {
		kept = append(kept, string(it.TaxID().Type)+" "+it.TaxID().Value)
	}
	if it.Err() != nil || !slices.Equal(kept, []string{"eu_vat DE123456789"}) {
		t.Errorf("%v, %v", it.Err(), kept)
	}
	n := 0
	lp := &stripe.InvoiceListParams{Customer: new(who), Status: new("paid")}
	for it := b.api.Invoices.List(lp); it.Next(); {
		n++
	}
	if n != 4 {
		t.Errorf("%d invoices", n)
	}
}

// An invoice needs a customer: a session without one makes it. A delayed payment is invoiced once it has come.
func TestInvoiceWithoutACustomerAndLater(t *testing.T) {
	b := start(t)
	p := invoicedParams("")
	p.Customer, p.CustomerUpdate = nil, nil
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	b.post(s.URL + "/pay-later")
	if got := b.get(s.ID); got.Invoice != nil {
		t.Errorf("an invoice before the money: %+v", got.Invoice)
	}
	b.post("/sandbox/stripe/sessions/" + s.ID + "/settle?outcome=succeed")
	got := b.get(s.ID)
	if got.Invoice == nil || got.Customer == nil {
		t.Fatalf("%+v", got)
	}
	if inv, err := b.api.Invoices.Get(got.Invoice.ID, nil); err != nil || inv.Customer.ID != got.Customer.ID || inv.AmountPaid != 5000 {
		t.Errorf("%v, %+v", err, inv)
	}
	// Nobody who asks for no invoice gets one.
	if s := b.pay(5000, "tu_2"); s.Invoice != nil {
		t.Errorf("%+v", s.Invoice)
	}
}

func TestInvoiceSurvivesRestart(t *testing.T) {
	file := t.TempDir() + "/sandbox.db"
	keep := func(o *sandbox.Options) { o.StateFile = file }
	b := start(t, keep)
	who := b.customer()
	s, err := b.api.CheckoutSessions.New(invoicedParams(who))
	if err != nil {
		t.Fatal(err)
	}
	b.submit(s.URL+"/pay", url.Values{"tax_id": {"GB123456789"}})
	id := b.get(s.ID).Invoice.ID
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, keep)
	inv, err := b.api.Invoices.Get(id, nil)
	if err != nil || len(inv.CustomerTaxIDs) != 1 || inv.Total != 5000 {
		t.Errorf("%v, %+v", err, inv)
	}
}

func TestTaxIDCollectionValidation(t *testing.T) {
	b := start(t)
	who := b.customer()
	for name, tc := range map[string]struct {
		change func(*stripe.CheckoutSessionParams)
		param  string
	}{
		"name is not updated":   {func(p *stripe.CheckoutSessionParams) { p.CustomerUpdate = nil }, "customer_update[name]"},
		"name is never updated": {func(p *stripe.CheckoutSessionParams) { p.CustomerUpdate.Name = new("never") }, "customer_update[name]"},
		"an odd word":           {func(p *stripe.CheckoutSessionParams) { p.CustomerUpdate.Name = new("always") }, "customer_update[name]"},
		"shipping":              {func(p *stripe.CheckoutSessionParams) { p.CustomerUpdate.Shipping = new("auto") }, "customer_update[shipping]"},
		"nobody to update":      {func(p *stripe.CheckoutSessionParams) { p.Customer = nil }, "customer_update"},
	} {
		p := invoicedParams(who)
		tc.change(p)
		_, err := b.api.CheckoutSessions.New(p)
		if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest || e.Param != tc.param {
			t.Errorf("%s: %v", name, e)
		}
	}
	// A session that asks for no VAT number takes none.
	s := b.session(5000, "tu_1")
	if status, _, _ := b.submit(s.URL+"/pay", url.Values{"tax_id": {"GB123456789"}}); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
	for _, bad := range []string{"GB12345678", "US123456789", "GB123456789<", "123456789", "DE1"} {
		s, err := b.api.CheckoutSessions.New(invoicedParams(who))
		if err != nil {
			t.Fatal(err)
		}
		if status, _, _ := b.submit(s.URL+"/pay", url.Values{"tax_id": {bad}}); status != http.StatusBadRequest {
			t.Errorf("%q: %d", bad, status)
		}
	}
}
