package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// invoice is what the customer gets for a payment; see https://docs.stripe.com/api/invoices. The sandbox makes invoices of
// checkout sessions only, and they are paid from the start.
type invoice struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	AccountCountry       string            `json:"account_country"`
	AccountName          string            `json:"account_name"`
	AccountTaxIDs        null              `json:"account_tax_ids"`
	AmountDue            int64             `json:"amount_due"`
	AmountPaid           int64             `json:"amount_paid"`
	AmountRemaining      int64             `json:"amount_remaining"`
	AmountShipping       int64             `json:"amount_shipping"`
	Application          null              `json:"application"`
	ApplicationFee       null              `json:"application_fee_amount"`
	AttemptCount         int64             `json:"attempt_count"`
	Attempted            bool              `json:"attempted"`
	AutoAdvance          bool              `json:"auto_advance"`
	AutomaticTax         automaticTax      `json:"automatic_tax"`
	BillingReason        string            `json:"billing_reason"`
	Charge               text              `json:"charge"`
	CollectionMethod     string            `json:"collection_method"`
	Created              int64             `json:"created"`
	Currency             string            `json:"currency"`
	CustomFields         null              `json:"custom_fields"`
	Customer             text              `json:"customer"`
	CustomerAddress      *address          `json:"customer_address"`
	CustomerEmail        text              `json:"customer_email"`
	CustomerName         text              `json:"customer_name"`
	CustomerPhone        text              `json:"customer_phone"`
	CustomerShipping     null              `json:"customer_shipping"`
	CustomerTaxExempt    text              `json:"customer_tax_exempt"`
	CustomerTaxIDs       []collectedID     `json:"customer_tax_ids"`
	DefaultPaymentMethod null              `json:"default_payment_method"`
	DefaultSource        null              `json:"default_source"`
	DefaultTaxRates      []string          `json:"default_tax_rates"`
	Description          text              `json:"description"`
	Discount             null              `json:"discount"`
	Discounts            []string          `json:"discounts"`
	DueDate              null              `json:"due_date"`
	EffectiveAt          int64             `json:"effective_at"`
	EndingBalance        int64             `json:"ending_balance"`
	Footer               text              `json:"footer"`
	FromInvoice          null              `json:"from_invoice"`
	HostedInvoiceURL     text              `json:"hosted_invoice_url"`
	InvoicePDF           text              `json:"invoice_pdf"`
	Issuer               issuer            `json:"issuer"`
	LastFinalizationErr  null              `json:"last_finalization_error"`
	LatestRevision       null              `json:"latest_revision"`
	Lines                invoiceLines      `json:"lines"`
	Livemode             bool              `json:"livemode"`
	Metadata             map[string]string `json:"metadata"`
	NextPaymentAttempt   null              `json:"next_payment_attempt"`
	Number               text              `json:"number"`
	OnBehalfOf           null              `json:"on_behalf_of"`
	Paid                 bool              `json:"paid"`
	PaidOutOfBand        bool              `json:"paid_out_of_band"`
	PaymentIntent        text              `json:"payment_intent"`
	PaymentSettings      paymentSettings   `json:"payment_settings"`
	PeriodEnd            int64             `json:"period_end"`
	PeriodStart          int64             `json:"period_start"`
	PostPaymentCredits   int64             `json:"post_payment_credit_notes_amount"`
	PrePaymentCredits    int64             `json:"pre_payment_credit_notes_amount"`
	Quote                null              `json:"quote"`
	ReceiptNumber        null              `json:"receipt_number"`
	Rendering            null              `json:"rendering"`
	ShippingCost         null              `json:"shipping_cost"`
	ShippingDetails      null              `json:"shipping_details"`
	StartingBalance      int64             `json:"starting_balance"`
	StatementDescriptor  null              `json:"statement_descriptor"`
	Status               string            `json:"status"`
	StatusTransitions    transitions       `json:"status_transitions"`
	Subscription         null              `json:"subscription"`
	Subtotal             int64             `json:"subtotal"`
	SubtotalExcludingTax int64             `json:"subtotal_excluding_tax"`
	Tax                  null              `json:"tax"`
	TestClock            null              `json:"test_clock"`
	Total                int64             `json:"total"`
	TotalDiscountAmounts []string          `json:"total_discount_amounts"`
	TotalExcludingTax    int64             `json:"total_excluding_tax"`
	TotalTaxAmounts      []string          `json:"total_tax_amounts"`
	TransferData         null              `json:"transfer_data"`
	WebhooksDeliveredAt  int64             `json:"webhooks_delivered_at"`
}

type issuer struct {
	Type string `json:"type"`
}

type paymentSettings struct {
	DefaultMandate null `json:"default_mandate"`
	Options        null `json:"payment_method_options"`
	Types          null `json:"payment_method_types"`
}

type transitions struct {
	FinalizedAt           int64 `json:"finalized_at"`
	MarkedUncollectibleAt null  `json:"marked_uncollectible_at"`
	PaidAt                int64 `json:"paid_at"`
	VoidedAt              null  `json:"voided_at"`
}

type invoiceLines struct {
	Object     string        `json:"object"`
	Data       []invoiceLine `json:"data"`
	HasMore    bool          `json:"has_more"`
	TotalCount int64         `json:"total_count"`
	URL        string        `json:"url"`
}

type invoiceLine struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"`
	Amount             int64             `json:"amount"`
	AmountExcludingTax int64             `json:"amount_excluding_tax"`
	Currency           string            `json:"currency"`
	Description        text              `json:"description"`
	DiscountAmounts    []string          `json:"discount_amounts"`
	Discountable       bool              `json:"discountable"`
	Discounts          []string          `json:"discounts"`
	Invoice            string            `json:"invoice"`
	Livemode           bool              `json:"livemode"`
	Metadata           map[string]string `json:"metadata"`
	Period             period            `json:"period"`
	Plan               null              `json:"plan"`
	Price              null              `json:"price"`
	Proration          bool              `json:"proration"`
	Quantity           int64             `json:"quantity"`
	Subscription       null              `json:"subscription"`
	TaxAmounts         []string          `json:"tax_amounts"`
	TaxRates           []string          `json:"tax_rates"`
	Type               string            `json:"type"`
	UnitAmountExclTax  string            `json:"unit_amount_excluding_tax"`
}

type period struct {
	End   int64 `json:"end"`
	Start int64 `json:"start"`
}

func (i *invoice) ref() (string, int64) { return i.ID, i.Created }

// taxID is a customer's number at a tax office; see https://docs.stripe.com/api/tax_ids.
type taxID struct {
	ID           string          `json:"id"`
	Object       string          `json:"object"`
	Country      text            `json:"country"`
	Created      int64           `json:"created"`
	Customer     text            `json:"customer"`
	Livemode     bool            `json:"livemode"`
	Owner        taxIDOwner      `json:"owner"`
	Type         string          `json:"type"`
	Value        string          `json:"value"`
	Verification taxVerification `json:"verification"`
}

type taxIDOwner struct {
	Customer text   `json:"customer"`
	Type     string `json:"type"`
}

type taxVerification struct {
	Status          string `json:"status"`
	VerifiedAddress null   `json:"verified_address"`
	VerifiedName    null   `json:"verified_name"`
}

func (t *taxID) ref() (string, int64) { return t.ID, t.Created }

// collectedID is a tax id as sessions and invoices show it.
type collectedID struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

var (
	britishVAT  = regexp.MustCompile(`^GB[0-9]{9}([0-9]{3})?$`)
	europeanVAT = regexp.MustCompile(`^(AT|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK|XI)[0-9A-Z]{5,12}$`)
)

// readVAT reads a VAT number as a person writes it. Only its form is looked at.
func readVAT(typed string) (collectedID, error) {
	value := strings.ToUpper(strings.NewReplacer(" ", "", "-", "", ".", "").Replace(typed))
	switch {
	case britishVAT.MatchString(value):
		return collectedID{"gb_vat", value}, nil
	case europeanVAT.MatchString(value):
		return collectedID{"eu_vat", value}, nil
	}
	return collectedID{}, invalid("tax_id_invalid", "tax_id", "Invalid VAT number: write it with its country, like GB123456789 or DE123456789.")
}

// readTaxCollection reads tax_id_collection and customer_update, which belong together for customers who exist.
func readTaxCollection(in *input, sess *session, o *own) error {
	collect, sent, err := in.boolean("tax_id_collection", "enabled")
	if err != nil {
		return err
	}
	if sent {
		sess.TaxIDCollection = &enabled{Enabled: collect}
	}
	if in.has("customer_update") && sess.Customer == "" {
		return invalid("", "customer_update", "`customer_update` can only be used with `customer`.")
	}
	for _, u := range []struct {
		into *bool
		name string
	}{{&o.UpdateName, "name"}, {&o.UpdateAddress, "address"}} {
		how, err := in.oneOf([]string{"auto", "never"}, "customer_update", u.name)
		if err != nil {
			return err
		}
		*u.into = how == "auto"
	}
	if collect && sess.Customer != "" && !o.UpdateName {
		return invalid("", "customer_update[name]", "Tax ID collection requires updating business name on the customer. To enable tax "+
			"ID collection for an existing customer, please set `customer_update[name]` to `auto`.")
	}
	return nil
}

// readInvoiceCreation reads what the invoice of a session is to say.
func readInvoiceCreation(in *input, sess *session) error {
	const name, data = "invoice_creation", "invoice_data"
	var err error
	if sess.InvoiceCreation.Enabled, _, err = in.boolean(name, "enabled"); err != nil {
		return err
	}
	metadata, err := in.metadata(name, data, "metadata")
	if err != nil {
		return err
	}
	sess.InvoiceCreation.InvoiceData = invoiceData{
		Description: text(in.str(name, data, "description")), Footer: text(in.str(name, data, "footer")), Metadata: metadata,
	}
	return nil
}

// checkTaxID holds what was entered about the payer's business against what the session collects.
func checkTaxID(r *row[session], e entered) (*collectedID, error) {
	if r.Wire.TaxIDCollection == nil || !r.Wire.TaxIDCollection.Enabled {
		if e.vat != "" || e.business != "" {
			return nil, invalid("", "tax_id", "This session collects no tax IDs.")
		}
		return nil, nil // none is collected
	}
	if strings.TrimSpace(e.vat) == "" {
		return nil, nil // none was given, which is allowed
	}
	id, err := readVAT(e.vat)
	if err != nil {
		return nil, err
	}
	return &id, nil
}

// notePayer keeps who paid: in the session, and at the customer, where there is one, what the session has updated there.
func (tx *txn) notePayer(r *row[session], business string, id *collectedID) {
	tx.payer(r)
	d := r.Wire.CustomerDetails
	if business != "" {
		d.Name = text(business)
	}
	c := tx.s.customers.get(string(r.Wire.Customer))
	if c == nil {
		if id != nil {
			d.TaxIDs = append(d.TaxIDs, *id)
		}
		return
	}
	if id != nil {
		tx.keepTaxID(c, *id)
	}
	d.TaxIDs = tx.s.taxIDsOf(c.Wire.ID)
	before := map[string]any{}
	if r.Own.UpdateName && business != "" && c.Wire.Name != d.Name {
		before["name"] = c.Wire.Name
		c.Wire.Name = d.Name
	}
	if r.Own.UpdateAddress && (c.Wire.Address == nil || *c.Wire.Address != *d.Address) {
		before["address"] = c.Wire.Address
		moved := *d.Address
		c.Wire.Address = &moved
	}
	if len(before) > 0 {
		save(tx, &tx.s.customers, c)
		tx.emit("customer.updated", &c.Wire, before)
	}
}

// keepTaxID makes a tax id the customer's, unless it is already.
func (tx *txn) keepTaxID(c *row[customer], id collectedID) {
	if slices.Contains(tx.s.taxIDsOf(c.Wire.ID), id) {
		return
	}
	r := add(tx, &tx.s.taxIDs, taxID{
		ID: newID("txi_1", 23), Object: "tax_id", Country: text(id.Value[:2]), Created: tx.created(),
		Customer: text(c.Wire.ID), Owner: taxIDOwner{Customer: text(c.Wire.ID), Type: "customer"}, Type: id.Type, Value: id.Value,
		Verification: taxVerification{Status: "verified"},
	}, own{})
	tx.emit("customer.tax_id.created", &r.Wire, nil)
}

// taxIDsOf gives a customer's tax ids in the order they came; never nil.
func (s *Stripe) taxIDsOf(customerID string) []collectedID {
	ids := []collectedID{}
	for _, r := range s.taxIDs.order {
		if string(r.Wire.Customer) == customerID {
			ids = append(ids, collectedID{r.Wire.Type, r.Wire.Value})
		}
	}
	return ids
}

// makeInvoice makes the invoice of a session that was paid, when it asked for one.
func (tx *txn) makeInvoice(r *row[session]) {
	pi := tx.s.intents.get(string(r.Wire.PaymentIntent))
	if !r.Wire.InvoiceCreation.Enabled || r.Wire.Invoice != "" || pi == nil {
		return
	}
	c, d, w := tx.s.customers.get(string(r.Wire.Customer)), r.Wire.CustomerDetails, &r.Wire
	if c == nil {
		tx.err = fmt.Errorf("sandbox: session %s has an invoice to make and no customer", w.ID)
		return
	}
	now, total, id := tx.created(), w.AmountTotal, newID("in_1", 23)
	earlier := 0
	for _, other := range tx.s.invoices.order {
		if other.Wire.Customer == w.Customer {
			earlier++
		}
	}
	inv := invoice{
		ID: id, Object: "invoice", AccountCountry: "GB", AccountName: "Ringfence Sandbox", AmountDue: total, AmountPaid: total,
		AttemptCount: 1, Attempted: true, BillingReason: "manual", Charge: pi.Wire.LatestCharge,
		CollectionMethod: "charge_automatically", Created: now, Currency: string(w.Currency), Customer: w.Customer,
		CustomerAddress: d.Address, CustomerEmail: d.Email, CustomerName: d.Name, CustomerPhone: d.Phone, CustomerTaxExempt: "none",
		CustomerTaxIDs: tx.s.taxIDsOf(c.Wire.ID), DefaultTaxRates: []string{}, Discounts: []string{}, EffectiveAt: now,
		Description: w.InvoiceCreation.InvoiceData.Description, Footer: w.InvoiceCreation.InvoiceData.Footer,
		Issuer: issuer{Type: "self"}, Metadata: w.InvoiceCreation.InvoiceData.Metadata,
		Number: text(fmt.Sprintf("%s-%04d", string(c.Wire.InvoicePrefix), earlier+1)), Paid: true, PaymentIntent: w.PaymentIntent,
		PeriodEnd: now, PeriodStart: now, Status: "paid", StatusTransitions: transitions{FinalizedAt: now, PaidAt: now},
		Subtotal: total, SubtotalExcludingTax: total, Total: total, TotalDiscountAmounts: []string{}, TotalExcludingTax: total,
		TotalTaxAmounts: []string{}, WebhooksDeliveredAt: now,
		HostedInvoiceURL: text(tx.s.base + invoicePath + id), InvoicePDF: text(tx.s.base + invoicePath + id + "/pdf"),
		Lines: invoiceLines{Object: "list", TotalCount: int64(len(r.Own.Items)), URL: "/v1/invoices/" + id + "/lines"},
	}
	for _, item := range r.Own.Items {
		inv.Lines.Data = append(inv.Lines.Data, invoiceLine{
			ID: newID("il_1", 23), Object: "line_item", Amount: item.UnitAmount * item.Quantity,
			AmountExcludingTax: item.UnitAmount * item.Quantity, Currency: inv.Currency, Description: text(item.Name),
			DiscountAmounts: []string{}, Discountable: true, Discounts: []string{}, Invoice: id, Metadata: map[string]string{},
			Period: period{now, now}, Quantity: item.Quantity, TaxAmounts: []string{}, TaxRates: []string{}, Type: "invoiceitem",
			UnitAmountExclTax: strconv.FormatInt(item.UnitAmount, 10),
		})
	}
	ir := add(tx, &tx.s.invoices, inv, own{})
	w.Invoice, pi.Wire.Invoice = text(id), text(id)
	save(tx, &tx.s.sessions, r)
	save(tx, &tx.s.intents, pi)
	if ch := tx.s.charges.get(string(pi.Wire.LatestCharge)); ch != nil {
		ch.Wire.Invoice = text(id)
		save(tx, &tx.s.charges, ch)
	}
	for _, kind := range []string{"invoice.finalized", "invoice.paid", "invoice.payment_succeeded"} {
		tx.emit(kind, &ir.Wire, nil)
	}
}

func getInvoice(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.invoices, "invoice")
}

func listInvoices(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer", "status")...); err != nil {
		return nil, err
	}
	status, err := in.oneOf([]string{"draft", "open", "paid", "uncollectible", "void"}, "status")
	if err != nil {
		return nil, err
	}
	who := in.str("customer")
	return page(in, &tx.s.invoices, "invoice", func(r *row[invoice]) bool {
		return is(who, string(r.Wire.Customer)) && is(status, r.Wire.Status)
	}, wire)
}

func listTaxIDs(tx *txn, in *input) (any, error) {
	if err := in.allow(listParams...); err != nil {
		return nil, err
	}
	if tx.s.customers.get(in.id) == nil {
		return nil, noSuch("customer", in.id, "")
	}
	return page(in, &tx.s.taxIDs, "tax_id", func(r *row[taxID]) bool { return string(r.Wire.Customer) == in.id }, wire)
}

const invoicePath = controlPath + "/invoices/"

// showInvoice is both of an invoice's addresses: nothing here prints, so the PDF is the same page.
func (s *Stripe) showInvoice(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	found := s.invoices.get(r.PathValue("id"))
	var inv invoice
	if found != nil {
		inv = found.Wire
	}
	s.mu.Unlock()
	if found == nil {
		s.writePage(w, http.StatusNotFound, "notice.html", notice{Title: "No such invoice", Text: "There is no invoice of this id."})
		return
	}
	s.writePage(w, http.StatusOK, "invoice.html", inv)
}
