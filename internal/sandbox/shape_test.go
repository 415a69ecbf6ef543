package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-mock/embedded"
)

// The shapes are compared with Stripe's own OpenAPI description, which the stripe-mock module carries. It is newer than
// API version 2023-10-16, so what became required since, or was removed, is named here.
var (
	requiredSince = []string{
		"dispute.enhanced_eligibility_types", "balance_transaction.balance_type",
		"dispute_evidence.enhanced_evidence", "dispute_evidence_details.enhanced_eligibility",
		"invoice.amount_overpaid", "invoice.amount_paid_off_stripe", "line_item.subtotal",
		"payment_pages_checkout_session_tax_id_collection.required",
	}
	removedSince = []string{
		"checkout.session.shipping_details", "checkout.session.invoice", "payment_intent.invoice", "payment_intent.source",
		"charge.invoice",
		"outcome.risk_level", "payment_method_details.bacs_debit",
		"invoice.application_fee_amount", "invoice.charge", "invoice.discount", "invoice.paid", "invoice.paid_out_of_band",
		"invoice.payment_intent", "invoice.quote", "invoice.subscription", "invoice.tax", "invoice.total_tax_amounts",
		"invoice.transfer_data", "lines.total_count",
		"line_item.amount_excluding_tax", "line_item.plan", "line_item.price", "line_item.proration", "line_item.tax_amounts",
		"line_item.tax_rates", "line_item.type", "line_item.unit_amount_excluding_tax",
	}
	renamedSince = []string{"checkout.session.ui_mode=hosted"}
)

type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Nullable   bool              `json:"nullable"`
	Enum       []string          `json:"enum"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	AnyOf      []schema          `json:"anyOf"`
	MaxLength  int               `json:"maxLength"`
}

var spec = sync.OnceValues(func() (map[string]schema, error) {
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(embedded.OpenAPISpec, &doc); err != nil {
		return nil, err
	}
	out := map[string]schema{}
	for name, raw := range doc.Components.Schemas {
		var s schema
		if err := json.Unmarshal(raw, &s); err == nil { // a few schemas use forms that nothing here needs
			out[name] = s
		}
	}
	return out, nil
})

type checker struct {
	schemas map[string]schema
	faults  []string
}

func (c *checker) fault(at, format string, args ...any) {
	c.faults = append(c.faults, at+": "+fmt.Sprintf(format, args...))
}

func (c *checker) resolve(s schema) (schema, string) {
	name := ""
	for s.Ref != "" {
		name = strings.TrimPrefix(s.Ref, "#/components/schemas/")
		nullable := s.Nullable
		s = c.schemas[name]
		s.Nullable = s.Nullable || nullable
	}
	return s, name
}

// check compares a value with a schema. owner is the name of the object it belongs to.
func (c *checker) check(at, owner string, s schema, v any) {
	s, name := c.resolve(s)
	if name != "" {
		owner = name
	}
	if v == nil {
		if !s.Nullable && !slices.ContainsFunc(s.AnyOf, func(a schema) bool { a, _ = c.resolve(a); return a.Nullable }) {
			c.fault(at, "null is not allowed")
		}
		return
	}
	if len(s.AnyOf) > 0 {
		var tried []string
		for _, a := range s.AnyOf {
			sub := checker{schemas: c.schemas}
			sub.check(at, owner, a, v)
			if len(sub.faults) == 0 {
				return
			}
			tried = append(tried, sub.faults...)
		}
		c.fault(at, "fits none of the alternatives: %s", strings.Join(tried, "; "))
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" && s.Type != "" {
			c.fault(at, "an object, want %s", s.Type)
			return
		}
		c.object(at, owner, s, v)
	case []any:
		if s.Type != "array" {
			c.fault(at, "an array, want %s", s.Type)
			return
		}
		for i, item := range v {
			c.check(fmt.Sprintf("%s[%d]", at, i), owner, *s.Items, item)
		}
	case string:
		if s.Type != "string" {
			c.fault(at, "a string, want %s", s.Type)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) && !slices.Contains(renamedSince, at+"="+v) {
			c.fault(at, "%q is not one of %v", v, s.Enum)
		}
	case json.Number:
		if _, err := v.Int64(); s.Type != "integer" || err != nil {
			c.fault(at, "the number %s, want %s", v, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			c.fault(at, "a boolean, want %s", s.Type)
		}
	}
}

func (c *checker) object(at, owner string, s schema, v map[string]any) {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok && !slices.Contains(requiredSince, owner+"."+name) {
			c.fault(at, "%s is missing", name)
		}
	}
	if len(s.Properties) == 0 {
		return // metadata and the like
	}
	for name, value := range v {
		p, ok := s.Properties[name]
		if !ok {
			short := at[strings.LastIndex(at, ".")+1:] + "." + name
			if !slices.Contains(removedSince, owner+"."+name) && !slices.Contains(removedSince, short) {
				c.fault(at, "unknown member %s", name)
			}
			continue
		}
		c.check(at+"."+name, owner, p, value)
	}
}

func TestShapesAreStripes(t *testing.T) {
	schemas, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	rc := newReceiver(t)
	b := start(t, to(rc))
	cust, err := b.api.Customers.New(&stripe.CustomerParams{Email: new("a@b.example")})
	if err != nil {
		t.Fatal(err)
	}
	p := sessionParams(5000, "tu_1")
	p.Customer = new(cust.ID)
	open, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	b.post(open.URL + "/decline")
	later := b.session(5000, "tu_2")
	b.post(later.URL + "/pay-later")
	b.post("/sandbox/stripe/sessions/" + later.ID + "/settle?outcome=fail")
	third := b.session(5000, "tu_3")
	b.post(third.URL + "/pay-later")
	b.post("/sandbox/stripe/sessions/" + third.ID + "/settle?outcome=succeed")
	gone := b.session(5000, "tu_4")
	if _, err := b.api.CheckoutSessions.Expire(gone.ID, nil); err != nil {
		t.Fatal(err)
	}
	refunded := b.pay(5000, "tu_5")
	re, err := b.api.Refunds.New(&stripe.RefundParams{PaymentIntent: new(refunded.PaymentIntent.ID), Amount: stripe.Int64(100)})
	if err != nil {
		t.Fatal(err)
	}
	b.post("/sandbox/stripe/refunds/" + re.ID + "/fail")
	_, _, body := b.post("/sandbox/stripe/charges/" + refunded.PaymentIntent.LatestCharge.ID + "/dispute")
	b.post("/sandbox/stripe/disputes/" + decode[stripe.Dispute](t, body).ID + "/close?outcome=won")
	saved := b.saved(cust.ID, cardLater)
	if _, err := b.api.PaymentIntents.New(offSession(cust.ID, saved, 3950)); err == nil {
		t.Error("the card was not declined")
	}
	setup, err := b.setupSession(cust.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.post(setup.URL + "/decline")
	b.post(setup.URL + "/pay")
	given, err := b.setupSession(cust.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.api.CheckoutSessions.Expire(given.ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Stripe().Detach(saved); err != nil {
		t.Fatal(err)
	}
	invoiced, err := b.api.CheckoutSessions.New(invoicedParams(cust.ID))
	if err != nil {
		t.Fatal(err)
	}
	b.submit(invoiced.URL+"/pay", url.Values{"tax_id": {"GB123456789"}, "business_name": {"Harbour Dental Ltd"}})
	// The open session with its declined payment, with what it points to expanded.
	gp := &stripe.CheckoutSessionParams{}
	gp.AddExpand("payment_intent.latest_charge")
	gp.AddExpand("customer")
	full, err := b.api.CheckoutSessions.Get(open.ID, gp)
	if err != nil {
		t.Fatal(err)
	}
	check := func(kind string, raw []byte) {
		t.Helper()
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		c := &checker{schemas: schemas}
		c.check(kind, kind, schema{Ref: "#/components/schemas/" + kind}, v)
		for _, f := range c.faults {
			t.Error(f)
		}
	}
	check("checkout.session", full.LastResponse.RawJSON)

	kinds := map[string]bool{}
	it := b.api.Events.List(&stripe.EventListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for it.Next() {
		e := it.Event()
		object, ok := e.Data.Object["object"].(string)
		if !ok {
			t.Fatalf("%s without object", e.Type)
		}
		kinds[object] = true
		t.Run(string(e.Type), func(t *testing.T) {
			checkEvent(t, check, e.ID, b)
			check(object, e.Data.Raw)
		})
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	for _, kind := range []string{"customer", "checkout.session", "payment_intent", "charge", "refund", "dispute", "payment_method", "setup_intent", "invoice", "tax_id"} {
		if !kinds[kind] {
			t.Errorf("no event about a %s", kind)
		}
	}
}

func checkEvent(t *testing.T, check func(string, []byte), id string, b *box) {
	t.Helper()
	e, err := b.api.Events.Get(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	check("event", e.LastResponse.RawJSON)
}
