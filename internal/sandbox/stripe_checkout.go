package sandbox

import (
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	sessionOpen     = "open"
	sessionComplete = "complete"
	sessionExpired  = "expired"

	statusPaid              = "paid"
	statusUnpaid            = "unpaid"
	statusNoPaymentRequired = "no_payment_required"

	modePayment = "payment"
	modeSetup   = "setup"

	methodCard = "card"
	methodBACS = "bacs_debit"
)

// minimums are the smallest charges in minor units (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts).
// The sandbox knows these currencies only.
var minimums = map[string]int64{"gbp": 30, "usd": 50, "eur": 50}

// maxAmount is the largest charge in minor units.
const maxAmount = 99_999_999

// lineItem is one line of a session, as the hosted page shows it.
type lineItem struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	UnitAmount  int64  `json:"unit_amount"`
	Quantity    int64  `json:"quantity"`
}

// intentData is a session's payment_intent_data.
type intentData struct {
	Description         string            `json:"description,omitempty"`
	Metadata            map[string]string `json:"metadata,omitempty"`
	ReceiptEmail        string            `json:"receipt_email,omitempty"`
	SetupFutureUsage    string            `json:"setup_future_usage,omitempty"`
	StatementDescriptor string            `json:"statement_descriptor,omitempty"`
	StatementSuffix     string            `json:"statement_descriptor_suffix,omitempty"`
}

var sessionParams = []string{
	"mode", "success_url", "cancel_url", "customer", "customer_email", "customer_creation", "customer_update[name]", "customer_update[address]",
	"client_reference_id", "metadata[*]", "currency", "expires_at", "locale", "submit_type", "ui_mode",
	"billing_address_collection", "payment_method_types[*]", "payment_method_options[**]",
	"adaptive_pricing[enabled]", "allow_promotion_codes", "automatic_tax[enabled]",
	"invoice_creation[enabled]", "invoice_creation[invoice_data][description]", "invoice_creation[invoice_data][footer]",
	"invoice_creation[invoice_data][metadata][*]",
	"phone_number_collection[enabled]", "tax_id_collection[enabled]", "payment_method_collection",
	"line_items[*][quantity]", "line_items[*][price_data][currency]", "line_items[*][price_data][unit_amount]",
	"line_items[*][price_data][tax_behavior]",
	"line_items[*][price_data][product_data][name]", "line_items[*][price_data][product_data][description]",
	"line_items[*][price_data][product_data][images][*]", "line_items[*][price_data][product_data][metadata][*]",
	"payment_intent_data[description]", "payment_intent_data[metadata][*]", "payment_intent_data[receipt_email]",
	"payment_intent_data[setup_future_usage]", "payment_intent_data[capture_method]",
	"payment_intent_data[statement_descriptor]", "payment_intent_data[statement_descriptor_suffix]",
	"setup_intent_data[description]", "setup_intent_data[metadata][*]",
}

// createSession is https://docs.stripe.com/api/checkout/sessions/create for one-time payments, and for saving a card, on
// the hosted page.
func createSession(tx *txn, in *input) (any, error) {
	if err := in.allow(sessionParams...); err != nil {
		return nil, err
	}
	if err := checkMode(in); err != nil {
		return nil, err
	}
	sess := session{
		ID: newID("cs_test_a1", 56), Object: "checkout.session", Created: tx.created(),
		BillingAddress: text(in.str("billing_address_collection")), CancelURL: text(in.str("cancel_url")),
		ClientReferenceID: text(in.str("client_reference_id")), CustomerEmail: text(in.str("customer_email")),
		CustomFields: []string{}, Locale: text(in.str("locale")), Mode: in.str("mode"), MethodCollection: "if_required",
		PaymentMethodOptions: map[string]any{}, ShippingOptions: []string{}, Status: sessionOpen,
		SubmitType: text(in.str("submit_type")), SuccessURL: in.str("success_url"), UIMode: "hosted",
	}
	if err := checkURL(sess.SuccessURL, "success_url"); err != nil {
		return nil, err
	}
	if sess.CancelURL != "" {
		if err := checkURL(string(sess.CancelURL), "cancel_url"); err != nil {
			return nil, err
		}
	}
	if len(sess.ClientReferenceID) > 200 {
		return nil, invalid("", "client_reference_id", "Invalid string: must be at most 200 characters")
	}
	var err error
	if sess.Metadata, err = in.metadata("metadata"); err != nil {
		return nil, err
	}
	if err := readFlags(in, &sess); err != nil {
		return nil, err
	}
	if err := readCustomer(tx, in, &sess); err != nil {
		return nil, err
	}
	var o own
	if err := readTaxCollection(in, &sess, &o); err != nil {
		return nil, err
	}
	if err := readInvoiceCreation(in, &sess); err != nil {
		return nil, err
	}
	if sess.ExpiresAt, err = readExpiry(tx, in); err != nil {
		return nil, err
	}
	if sess.Mode == modeSetup {
		si, err := readSetup(tx, in, &sess)
		if err != nil {
			return nil, err
		}
		return tx.openSession(sess, o, &si), nil
	}
	if o.Items, err = readItems(in, &sess); err != nil {
		return nil, err
	}
	if sess.PaymentMethodTypes, err = readMethodTypes(in, string(sess.Currency)); err != nil {
		return nil, err
	}
	if o.Intent, err = readIntentData(in); err != nil {
		return nil, err
	}
	sess.PaymentStatus = statusUnpaid
	if sess.AmountTotal == 0 {
		sess.PaymentStatus = statusNoPaymentRequired
	}
	return tx.openSession(sess, o, nil), nil
}

// openSession stores a session, and the SetupIntent of one that has it.
func (tx *txn) openSession(sess session, o own, si *setupIntent) *row[session] {
	if si != nil {
		tx.emit("setup_intent.created", &add(tx, &tx.s.setups, *si, own{}).Wire, nil)
	}
	r := add(tx, &tx.s.sessions, sess, o)
	tx.then(func() { tx.s.expireAt(sess.ID, sess.ExpiresAt) })
	return r
}

func checkMode(in *input) error {
	switch mode := in.str("mode"); mode {
	case modePayment, modeSetup:
	case "":
		return missing("mode")
	case "subscription":
		return invalid("", "mode", "The sandbox imitates mode=payment and mode=setup only, not %s.", mode)
	default:
		return invalid("", "mode", "Invalid mode: must be one of payment, setup, or subscription")
	}
	if ui := in.str("ui_mode"); ui != "" && ui != "hosted" {
		return invalid("", "ui_mode", "The sandbox imitates ui_mode=hosted only, not %s.", ui)
	}
	if c := in.str("payment_intent_data", "capture_method"); c != "" && !strings.HasPrefix(c, "automatic") {
		return invalid("", "payment_intent_data[capture_method]", "The sandbox imitates automatic capture only.")
	}
	if in.has("setup_intent_data") && in.str("mode") != modeSetup {
		return invalid("", "setup_intent_data", "You can only pass `setup_intent_data` in `setup` mode.")
	}
	return nil
}

func checkURL(raw, param string) error {
	if raw == "" {
		return missing(param)
	}
	// The template stands where braces are not valid, so it is taken out before the URL is looked at.
	u, err := url.Parse(strings.ReplaceAll(raw, "{CHECKOUT_SESSION_ID}", "cs_test"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return invalid("url_invalid", param, "Not a valid URL")
	}
	if len(raw) > 5000 {
		return invalid("url_invalid", param, "URL must be 5000 characters or less.")
	}
	return nil
}

func readFlags(in *input, sess *session) error {
	promo, sent, err := in.boolean("allow_promotion_codes")
	if err != nil {
		return err
	}
	if sent {
		sess.AllowPromotionCodes = &promo
	}
	for _, f := range []struct {
		into *bool
		path []string
	}{
		{new(bool), []string{"adaptive_pricing", "enabled"}}, // not a member of this API version's object
		{&sess.AutomaticTax.Enabled, []string{"automatic_tax", "enabled"}},
		{&sess.PhoneNumber.Enabled, []string{"phone_number_collection", "enabled"}},
	} {
		if *f.into, _, err = in.boolean(f.path...); err != nil {
			return err
		}
	}
	return nil
}

func readCustomer(tx *txn, in *input, sess *session) error {
	creation, err := in.oneOf([]string{"always", "if_required"}, "customer_creation")
	if err != nil {
		return err
	}
	id := in.str("customer")
	switch {
	case id == "" && creation == "":
		creation = "if_required"
	case id != "" && creation != "":
		return invalid("", "customer_creation", "You may only specify one of these parameters: customer, customer_creation.")
	case id != "" && sess.CustomerEmail != "":
		return invalid("", "customer_email", "You may only specify one of these parameters: customer, customer_email.")
	}
	sess.CustomerCreation = text(creation)
	if id != "" {
		c := tx.s.customers.get(id)
		if c == nil {
			return noSuch("customer", id, "customer")
		}
		sess.Customer = text(id)
		sess.CustomerDetails = &customerDetails{Email: c.Wire.Email, Name: c.Wire.Name, Phone: c.Wire.Phone, TaxExempt: "none", TaxIDs: tx.s.taxIDsOf(id)}
		return nil
	}
	if sess.CustomerEmail != "" {
		if a, err := mail.ParseAddress(string(sess.CustomerEmail)); err != nil || a.Address != string(sess.CustomerEmail) {
			return invalid("email_invalid", "customer_email", "Invalid email address: %s", sess.CustomerEmail)
		}
		sess.CustomerDetails = &customerDetails{Email: sess.CustomerEmail, TaxExempt: "none"}
	}
	return nil
}

func readExpiry(tx *txn, in *input) (int64, error) {
	at, sent, err := in.integer("expires_at")
	latest := tx.now.Add(24 * time.Hour).Unix()
	switch {
	case err != nil:
		return 0, err
	case !sent:
		return latest, nil
	// A minute of grace: the caller computed the time before the request travelled.
	case at < tx.now.Add(29*time.Minute).Unix():
		return 0, invalid("", "expires_at", "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.")
	case at > latest+60:
		return 0, invalid("", "expires_at", "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.")
	}
	return at, nil
}

func readItems(in *input, sess *session) ([]lineItem, error) {
	paths := in.list("line_items")
	if len(paths) == 0 {
		return nil, missing("line_items")
	}
	if len(paths) > 100 {
		return nil, invalid("", "line_items", "Array has too many items: at most 100 line items.")
	}
	var items []lineItem
	for _, p := range paths {
		at := func(names ...string) []string { return slices.Concat(p, names) }
		currency := in.str(at("price_data", "currency")...)
		item := lineItem{
			Name:        in.str(at("price_data", "product_data", "name")...),
			Description: in.str(at("price_data", "product_data", "description")...),
		}
		if !in.has(at("price_data")...) {
			return nil, missing(joinKey(at("price_data")))
		}
		if currency == "" {
			return nil, missing(joinKey(at("price_data", "currency")))
		}
		currency = strings.ToLower(currency)
		if _, ok := minimums[currency]; !ok {
			return nil, invalid("", joinKey(at("price_data", "currency")),
				"Invalid currency: %s. The sandbox supports these currencies: gbp, usd, eur", currency)
		}
		if sess.Currency != "" && string(sess.Currency) != currency {
			return nil, invalid("", "line_items", "The price specified only supports `%s`. All line items must use one currency.", currency)
		}
		sess.Currency = text(currency)
		if item.Name == "" {
			return nil, missing(joinKey(at("price_data", "product_data", "name")))
		}
		var err error
		var sent bool
		if item.UnitAmount, sent, err = in.integer(at("price_data", "unit_amount")...); err != nil {
			return nil, err
		}
		if !sent {
			return nil, missing(joinKey(at("price_data", "unit_amount")))
		}
		if item.UnitAmount < 0 {
			return nil, invalid("parameter_invalid_integer", joinKey(at("price_data", "unit_amount")), "Invalid non-negative integer")
		}
		if item.Quantity, sent, err = in.integer(at("quantity")...); err != nil {
			return nil, err
		}
		if !sent {
			return nil, missing(joinKey(at("quantity")))
		}
		if item.Quantity < 1 || item.Quantity > 999_999 {
			return nil, invalid("parameter_invalid_integer", joinKey(at("quantity")), "This value must be between 1 and 999999.")
		}
		// Both factors are bounded before they are multiplied, so the total cannot overflow.
		if item.UnitAmount > maxAmount {
			return nil, tooLarge(joinKey(at("price_data", "unit_amount")))
		}
		sess.AmountTotal += item.UnitAmount * item.Quantity
		items = append(items, item)
	}
	if given := strings.ToLower(in.str("currency")); given != "" && given != string(sess.Currency) {
		return nil, invalid("", "currency", "The currency does not match that of the line items.")
	}
	sess.AmountSubtotal = sess.AmountTotal
	if sess.AmountTotal > maxAmount {
		return nil, tooLarge("line_items")
	}
	// Nothing at all to pay is allowed: such a session ends as no_payment_required.
	if least := minimums[string(sess.Currency)]; sess.AmountTotal > 0 && sess.AmountTotal < least {
		return nil, invalid("amount_too_small", "line_items",
			"The Checkout Session's total amount due must add up to at least %s %s", amountText(least, string(sess.Currency)), sess.Currency)
	}
	return items, nil
}

func tooLarge(param string) error {
	return invalid("amount_too_large", param, "The amount must be no more than %d.", maxAmount)
}

func readMethodTypes(in *input, currency string) ([]string, error) {
	types := in.strings("payment_method_types")
	if len(types) == 0 {
		if currency == "gbp" {
			return []string{methodCard, methodBACS}, nil
		}
		return []string{methodCard}, nil
	}
	for _, t := range types {
		switch {
		case t == methodBACS && currency != "gbp":
			return nil, invalid("", "payment_method_types", "The payment method `bacs_debit` can only be used with the currency gbp.")
		case t != methodCard && t != methodBACS:
			return nil, invalid("", "payment_method_types", "Invalid payment_method_types: the sandbox knows card and bacs_debit, not %s", t)
		}
	}
	return types, nil
}

func readIntentData(in *input) (*intentData, error) {
	const name = "payment_intent_data"
	d := &intentData{
		Description: in.str(name, "description"), ReceiptEmail: in.str(name, "receipt_email"),
		StatementDescriptor: in.str(name, "statement_descriptor"), StatementSuffix: in.str(name, "statement_descriptor_suffix"),
	}
	var err error
	if d.SetupFutureUsage, err = in.oneOf([]string{"off_session", "on_session"}, name, "setup_future_usage"); err != nil {
		return nil, err
	}
	d.Metadata, err = in.metadata(name, "metadata")
	return d, err
}

func getSession(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	r := tx.s.sessions.get(in.id)
	if r == nil {
		return nil, noSuch("checkout.session", in.id, "")
	}
	return r, nil
}

func listSessions(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer", "payment_intent", "status")...); err != nil {
		return nil, err
	}
	status, err := in.oneOf([]string{sessionOpen, sessionComplete, sessionExpired}, "status")
	if err != nil {
		return nil, err
	}
	who, intent := in.str("customer"), in.str("payment_intent")
	return page(in, &tx.s.sessions, "checkout.session", func(r *row[session]) bool {
		return is(who, string(r.Wire.Customer)) && is(intent, string(r.Wire.PaymentIntent)) && is(status, r.Wire.Status)
	}, func(r *row[session]) any { return tx.s.sessionView(r) })
}

// is says whether an optional filter lets a value pass.
func is(want, got string) bool { return want == "" || want == got }

func expireSession(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	r := tx.s.sessions.get(in.id)
	if r == nil {
		return nil, noSuch("checkout.session", in.id, "")
	}
	if r.Wire.Status != sessionOpen {
		return nil, invalid("", "", `Only Checkout Sessions with a status in ["open"] can be expired. `+
			"This Checkout Session has a status of %s.", r.Wire.Status)
	}
	tx.expire(r)
	return r, nil
}

func (tx *txn) expireIfOpen(id string) error {
	if r := tx.s.sessions.get(id); r != nil && r.Wire.Status == sessionOpen {
		tx.expire(r)
	}
	return nil
}

// expire ends an open session; a payment that was begun and declined is cancelled with it.
func (tx *txn) expire(r *row[session]) {
	r.Wire.Status = sessionExpired
	save(tx, &tx.s.sessions, r)
	if pi := tx.s.intents.get(string(r.Wire.PaymentIntent)); pi != nil && strings.HasPrefix(pi.Wire.Status, "requires_") {
		tx.cancel(pi, "automatic")
	}
	tx.cancelSetup(string(r.Wire.SetupIntent))
	tx.emit("checkout.session.expired", tx.s.sessionView(r), nil)
}

// sessionView is the session as it is shown: the URL belongs to the address the sandbox has now.
func (s *Stripe) sessionView(r *row[session]) *session {
	v := r.Wire
	v.URL = ""
	if v.Status == sessionOpen {
		v.URL = text(s.checkoutURL(v.ID))
		if r.Own.URL != "" {
			v.URL = text(r.Own.URL)
		}
	}
	return &v
}

func (s *Stripe) checkoutURL(sessionID string) string { return s.base + "/c/pay/" + sessionID }

// action is what a person can do on the hosted page.
type action string

const (
	actPay      action = "pay"
	actDecline  action = "decline"
	actPayLater action = "pay-later"
)

// notOpenError says that a session can no longer be paid.
type notOpenError struct{ status string }

func (e *notOpenError) Error() string { return "the checkout session is " + e.status }

// entered is what a person filled in on the hosted page; all of it may be empty.
type entered struct {
	card     string // the number of a test card
	vat      string // a VAT number
	business string // the name that belongs to it
}

// act does what the person chose, once: a session that is no longer open gives *notOpenError. It returns where the
// browser goes next.
func (tx *txn) act(sessionID string, a action, e entered) (next string, err error) {
	r := tx.s.sessions.get(sessionID)
	if r == nil {
		return "", noSuch("checkout.session", sessionID, "")
	}
	if r.Wire.Status == sessionOpen && tx.created() >= r.Wire.ExpiresAt {
		tx.expire(r) // its alarm is about to say the same
	}
	if r.Wire.Status != sessionOpen {
		return "", &notOpenError{status: r.Wire.Status}
	}
	success := strings.ReplaceAll(r.Wire.SuccessURL, "{CHECKOUT_SESSION_ID}", r.Wire.ID)
	chosen, err := findCard(e.card)
	if err != nil {
		return "", err
	}
	vat, err := checkTaxID(r, e)
	if err != nil {
		return "", err
	}
	if a == actDecline {
		chosen.here = OutcomeDecline
	}
	if r.Wire.Mode == modeSetup {
		if a == actPayLater {
			return "", invalid("", "", "There is nothing to pay in this session: it saves a card.")
		}
		if !tx.saveCard(r, chosen) {
			return tx.s.checkoutURL(r.Wire.ID), nil
		}
		return success, nil
	}
	if r.Wire.AmountTotal == 0 {
		if a != actPay {
			return "", invalid("", "", "There is nothing to pay in this session: it can only be completed.")
		}
		tx.madeCustomer(r)
		tx.notePayer(r, e.business, vat)
		tx.complete(r, statusNoPaymentRequired)
		return success, nil
	}
	if a == actPayLater && !slices.Contains(r.Wire.PaymentMethodTypes, methodBACS) {
		return "", invalid("", "", "This session takes no delayed payment method (payment_method_types).")
	}
	pi := tx.sessionIntent(r)
	switch a {
	case actPay, actDecline:
		m := tx.addCard(chosen)
		if f, fails := failures[chosen.here]; fails {
			tx.decline(pi, m, f)
			return tx.s.checkoutURL(r.Wire.ID), nil
		}
		tx.succeed(pi, m)
		tx.notePayer(r, e.business, vat)
		tx.makeInvoice(r)
		tx.complete(r, statusPaid)
	case actPayLater:
		tx.process(pi, tx.addBankAccount())
		tx.notePayer(r, e.business, vat)
		tx.complete(r, statusUnpaid)
	default:
		return "", fmt.Errorf("sandbox: no action %q on a checkout page", a)
	}
	return success, nil
}

// complete closes the session and tells of it.
func (tx *txn) complete(r *row[session], paymentStatus string) {
	tx.payer(r)
	r.Wire.Status, r.Wire.PaymentStatus = sessionComplete, paymentStatus
	save(tx, &tx.s.sessions, r)
	tx.emit("checkout.session.completed", tx.s.sessionView(r), nil)
}

// payer fills in the details that every payer gives. Without a customer they stand in the session alone.
func (tx *txn) payer(r *row[session]) {
	d := r.Wire.CustomerDetails
	if d == nil {
		d = &customerDetails{Email: "payer@example.com", TaxExempt: "none"}
		r.Wire.CustomerDetails = d
	}
	if d.Address == nil {
		d.Address = &address{Country: "GB", PostalCode: "SW1A 1AA"}
	}
	if d.Name == "" {
		d.Name = "Sandbox Payer"
	}
	if d.TaxIDs == nil {
		d.TaxIDs = []collectedID{}
	}
}

// madeCustomer makes the customer that a session without one asked for, or whose invoice needs one.
func (tx *txn) madeCustomer(r *row[session]) {
	w := &r.Wire
	if w.Customer != "" || w.CustomerCreation != "always" && !w.InvoiceCreation.Enabled {
		return
	}
	email := w.CustomerEmail
	if email == "" {
		email = "payer@example.com"
	}
	w.Customer = text(tx.addCustomer(customer{Email: email, Name: "Sandbox Payer", Metadata: map[string]string{}}).Wire.ID)
}

// sessionIntent gives the session's PaymentIntent, which is made at the first attempt to pay.
func (tx *txn) sessionIntent(r *row[session]) *row[paymentIntent] {
	if pi := tx.s.intents.get(string(r.Wire.PaymentIntent)); pi != nil {
		return pi
	}
	tx.madeCustomer(r)
	w := &r.Wire
	d := r.Own.Intent
	if d == nil {
		d = &intentData{}
	}
	pi := newIntent(tx, w.AmountTotal, string(w.Currency))
	pi.Customer, pi.Description, pi.ReceiptEmail = w.Customer, text(d.Description), text(d.ReceiptEmail)
	pi.SetupFutureUsage, pi.StatementDescriptor = text(d.SetupFutureUsage), text(d.StatementDescriptor)
	pi.StatementSuffix, pi.PaymentMethodTypes = text(d.StatementSuffix), w.PaymentMethodTypes
	if d.Metadata != nil {
		pi.Metadata = d.Metadata
	}
	pr := add(tx, &tx.s.intents, pi, own{Session: w.ID})
	w.PaymentIntent = text(pi.ID)
	save(tx, &tx.s.sessions, r)
	tx.emit("payment_intent.created", &pr.Wire, nil)
	return pr
}

// settleIfProcessing is what the timer of a delayed payment does.
func (tx *txn) settleIfProcessing(sessionID string) error {
	r := tx.s.sessions.get(sessionID)
	if r == nil {
		return nil
	}
	pi := tx.s.intents.get(string(r.Wire.PaymentIntent))
	if pi == nil || pi.Wire.Status != intentProcessing {
		return nil
	}
	return tx.settle(sessionID, true)
}

// settle ends the processing of a delayed payment.
func (tx *txn) settle(sessionID string, succeeded bool) error {
	r := tx.s.sessions.get(sessionID)
	if r == nil {
		return noSuch("checkout.session", sessionID, "")
	}
	pi := tx.s.intents.get(string(r.Wire.PaymentIntent))
	if pi == nil || pi.Wire.Status != intentProcessing {
		e := invalid("", "", "The payment of this session is not in processing.")
		e.Status = http.StatusConflict
		return e
	}
	if succeeded {
		tx.settleCharge(pi)
		tx.makeInvoice(r)
		r.Wire.PaymentStatus = statusPaid
		save(tx, &tx.s.sessions, r)
		tx.emit("checkout.session.async_payment_succeeded", tx.s.sessionView(r), nil)
		return nil
	}
	tx.failCharge(pi, debitFailed)
	tx.emit("checkout.session.async_payment_failed", tx.s.sessionView(r), nil)
	return nil
}

// amountText prints minor units for people: £1,234.50.
func amountText(amount int64, currency string) string {
	sign := ""
	if amount < 0 {
		sign, amount = "-", -amount
	}
	whole := strconv.FormatInt(amount/100, 10)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	symbol := map[string]string{"gbp": "£", "usd": "$", "eur": "€"}[currency]
	return fmt.Sprintf("%s%s%s.%02d", sign, symbol, whole, amount%100)
}
