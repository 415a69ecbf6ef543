package sandbox

import (
	"maps"
	"net/mail"
	"strings"
)

const (
	intentRequiresMethod       = "requires_payment_method"
	intentRequiresConfirmation = "requires_confirmation"
	intentProcessing           = "processing"
	intentSucceeded            = "succeeded"
	intentCanceled             = "canceled"

	chargePending   = "pending"
	chargeSucceeded = "succeeded"
	chargeFailed    = "failed"
)

func createCustomer(tx *txn, in *input) (any, error) {
	if err := in.allow("email", "name", "phone", "description", "metadata[*]", "preferred_locales[*]",
		"address[*]"); err != nil {
		return nil, err
	}
	c := customer{
		Email: text(in.str("email")), Name: text(in.str("name")), Phone: text(in.str("phone")),
		Description: text(in.str("description")), PreferredLangs: in.strings("preferred_locales"),
	}
	if c.Email != "" {
		if a, err := mail.ParseAddress(string(c.Email)); err != nil || a.Address != string(c.Email) {
			return nil, invalid("email_invalid", "email", "Invalid email address: %s", c.Email)
		}
	}
	if in.has("address") {
		c.Address = &address{
			City: text(in.str("address", "city")), Country: text(in.str("address", "country")),
			Line1: text(in.str("address", "line1")), Line2: text(in.str("address", "line2")),
			PostalCode: text(in.str("address", "postal_code")), State: text(in.str("address", "state")),
		}
	}
	var err error
	if c.Metadata, err = in.metadata("metadata"); err != nil {
		return nil, err
	}
	return &tx.addCustomer(c).Wire, nil
}

// addCustomer completes and stores a customer and tells of it.
func (tx *txn) addCustomer(c customer) *row[customer] {
	c.ID, c.Object, c.Created, c.TaxExempt = newID("cus_", 14), "customer", tx.created(), "none"
	c.InvoicePrefix = text(strings.ToUpper(newID("", 8)))
	if c.PreferredLangs == nil {
		c.PreferredLangs = []string{}
	}
	r := add(tx, &tx.s.customers, c, own{})
	tx.emit("customer.created", &r.Wire, nil)
	return r
}

func getCustomer(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.customers, "customer")
}

func listCustomers(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "email")...); err != nil {
		return nil, err
	}
	email := in.str("email")
	return page(in, &tx.s.customers, "customer", func(r *row[customer]) bool {
		return is(email, string(r.Wire.Email))
	}, wire)
}

// wire shows an object as it is.
func wire[W any](r *row[W]) any { return &r.Wire }

func getOne[W any, P resource[W]](in *input, t *table[W, P], noun string) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	r := t.get(in.id)
	if r == nil {
		return nil, noSuch(noun, in.id, "")
	}
	return &r.Wire, nil
}

func newIntent(tx *txn, amount int64, currency string) paymentIntent {
	id := newID("pi_3", 23)
	return paymentIntent{
		ID: id, Object: "payment_intent", Amount: amount, CaptureMethod: "automatic_async",
		ClientSecret: text(id + "_secret_" + newID("", 25)), ConfirmationMethod: "automatic", Created: tx.created(),
		Currency: currency, Metadata: map[string]string{}, PaymentMethodOptions: map[string]any{},
		PaymentMethodTypes: []string{methodCard}, Status: intentRequiresMethod,
	}
}

// createIntent is https://docs.stripe.com/api/payment_intents/create for charging a saved card off-session.
func createIntent(tx *txn, in *input) (any, error) {
	if err := in.allow("amount", "currency", "customer", "payment_method", "confirm", "off_session", "description",
		"metadata[*]", "payment_method_types[*]", "automatic_payment_methods[enabled]",
		"automatic_payment_methods[allow_redirects]", "setup_future_usage", "receipt_email", "return_url",
		"statement_descriptor", "statement_descriptor_suffix", "capture_method", "error_on_requires_action"); err != nil {
		return nil, err
	}
	amount, sent, err := in.integer("amount")
	if err != nil {
		return nil, err
	}
	if !sent {
		return nil, missing("amount")
	}
	currency := strings.ToLower(in.str("currency"))
	if currency == "" {
		return nil, missing("currency")
	}
	least, known := minimums[currency]
	switch {
	case !known:
		return nil, invalid("", "currency", "Invalid currency: %s. The sandbox supports these currencies: gbp, usd, eur", currency)
	case amount < 1:
		return nil, invalid("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	case amount < least:
		return nil, invalid("amount_too_small", "amount", "Amount must be at least %s %s", amountText(least, currency), currency)
	case amount > maxAmount:
		return nil, invalid("amount_too_large", "amount", "Amount must be no more than %s", amountText(maxAmount, currency))
	}
	if c := in.str("capture_method"); c != "" && !strings.HasPrefix(c, "automatic") {
		return nil, invalid("", "capture_method", "The sandbox imitates automatic capture only.")
	}
	pi := newIntent(tx, amount, currency)
	pi.Customer, pi.Description = text(in.str("customer")), text(in.str("description"))
	pi.ReceiptEmail, pi.StatementDescriptor = text(in.str("receipt_email")), text(in.str("statement_descriptor"))
	pi.StatementSuffix = text(in.str("statement_descriptor_suffix"))
	if types := in.strings("payment_method_types"); len(types) > 0 {
		pi.PaymentMethodTypes = types
	} else {
		pi.AutomaticMethods = &enabled{Enabled: true}
	}
	if pi.Metadata, err = in.metadata("metadata"); err != nil {
		return nil, err
	}
	usage, err := in.oneOf([]string{"off_session", "on_session"}, "setup_future_usage")
	if err != nil {
		return nil, err
	}
	pi.SetupFutureUsage = text(usage)
	if pi.Customer != "" && tx.s.customers.get(string(pi.Customer)) == nil {
		return nil, noSuch("customer", string(pi.Customer), "customer")
	}
	confirm, _, err := in.boolean("confirm")
	if err != nil {
		return nil, err
	}
	if off, _, err := in.boolean("off_session"); err != nil {
		return nil, err
	} else if off && !confirm {
		return nil, invalid("", "off_session", "You can only use `off_session` if you also set `confirm` to true.")
	}
	if confirm && !in.has("payment_method") {
		return nil, invalid("", "payment_method", "You cannot confirm this PaymentIntent because it's missing a payment method.")
	}
	method, err := tx.useMethod(in.str("payment_method"), string(pi.Customer))
	if err != nil {
		return nil, err
	}
	r := add(tx, &tx.s.intents, pi, own{})
	tx.emit("payment_intent.created", &r.Wire, nil)
	if method == nil {
		return &r.Wire, nil
	}
	r.Wire.PaymentMethod, r.Wire.Status = text(method.Wire.ID), intentRequiresConfirmation
	if !confirm {
		return &r.Wire, nil
	}
	return tx.attempt(r, method)
}

// attempt charges a method. A failure is a card error, and the state keeps what was tried.
func (tx *txn) attempt(r *row[paymentIntent], method *row[paymentMethod]) (any, error) {
	f, fails := failures[method.Own.Outcome]
	if !fails {
		tx.succeed(r, method)
		return &r.Wire, nil
	}
	tx.decline(r, method, f)
	pi, e := r.Wire, f.cardError()
	e.Charge, e.PaymentIntent, e.PaymentMethod = string(pi.LatestCharge), &pi, &method.Wire
	return nil, e
}

func confirmIntent(tx *txn, in *input) (any, error) {
	if err := in.allow("payment_method", "off_session", "return_url", "error_on_requires_action"); err != nil {
		return nil, err
	}
	r := tx.s.intents.get(in.id)
	if r == nil {
		return nil, noSuch("payment_intent", in.id, "")
	}
	if !strings.HasPrefix(r.Wire.Status, "requires_") {
		return nil, unexpectedState("confirm", r.Wire.Status)
	}
	id := in.str("payment_method")
	if id == "" {
		id = string(r.Wire.PaymentMethod)
	}
	method, err := tx.useMethod(id, string(r.Wire.Customer))
	if err != nil {
		return nil, err
	}
	if method == nil {
		return nil, invalid("payment_intent_unexpected_state", "",
			"You cannot confirm this PaymentIntent because it's missing a payment method.")
	}
	return tx.attempt(r, method)
}

func unexpectedState(verb, status string) error {
	return invalid("payment_intent_unexpected_state", "",
		"You cannot %s this PaymentIntent because it has a status of %s.", verb, status)
}

func cancelIntent(tx *txn, in *input) (any, error) {
	if err := in.allow("cancellation_reason"); err != nil {
		return nil, err
	}
	reason, err := in.oneOf([]string{"duplicate", "fraudulent", "requested_by_customer", "abandoned"}, "cancellation_reason")
	if err != nil {
		return nil, err
	}
	r := tx.s.intents.get(in.id)
	if r == nil {
		return nil, noSuch("payment_intent", in.id, "")
	}
	if !strings.HasPrefix(r.Wire.Status, "requires_") {
		return nil, unexpectedState("cancel", r.Wire.Status)
	}
	if sess := tx.s.sessions.get(r.Own.Session); sess != nil && sess.Wire.Status == sessionOpen {
		return nil, invalid("payment_intent_unexpected_state", "", "You cannot cancel PaymentIntents created by Checkout "+
			"while the Checkout Session is open. Expire the Checkout Session instead.")
	}
	tx.cancel(r, reason)
	return &r.Wire, nil
}

func (tx *txn) cancel(r *row[paymentIntent], reason string) {
	now := tx.created()
	r.Wire.Status, r.Wire.CanceledAt, r.Wire.CancellationReason = intentCanceled, &now, text(reason)
	save(tx, &tx.s.intents, r)
	tx.emit("payment_intent.canceled", &r.Wire, nil)
}

func getIntent(tx *txn, in *input) (any, error) {
	if err := in.allow("client_secret"); err != nil {
		return nil, err
	}
	return getOne(&input{params: &params{root: &node{}}, id: in.id}, &tx.s.intents, "payment_intent")
}

func listIntents(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer")...); err != nil {
		return nil, err
	}
	who := in.str("customer")
	return page(in, &tx.s.intents, "payment_intent", func(r *row[paymentIntent]) bool {
		return is(who, string(r.Wire.Customer))
	}, wire)
}

func getCharge(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.charges, "charge")
}

func listCharges(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer", "payment_intent")...); err != nil {
		return nil, err
	}
	who, intent := in.str("customer"), in.str("payment_intent")
	return page(in, &tx.s.charges, "charge", func(r *row[charge]) bool {
		return is(who, string(r.Wire.Customer)) && is(intent, string(r.Wire.PaymentIntent))
	}, wire)
}

// addCharge makes the charge of an attempt; it carries the PaymentIntent's metadata as it is at this moment.
func (tx *txn) addCharge(r *row[paymentIntent], method *row[paymentMethod], status string) *row[charge] {
	pi, m := &r.Wire, &method.Wire
	details := methodDetails{Type: m.Type, BACSDebit: m.BACSDebit}
	if m.Card != nil {
		c := *m.Card
		c.Network, c.ThreeD, c.ThreeDUsage = c.Brand, &null{}, nil
		details.Card = &c
	}
	c := charge{
		ID: newID("ch_3", 23), Object: "charge", Amount: pi.Amount, Created: tx.created(), Currency: pi.Currency,
		Customer: pi.Customer, Description: pi.Description, FraudDetails: map[string]any{},
		Metadata: maps.Clone(pi.Metadata), MethodDetails: details, PaymentIntent: text(pi.ID), PaymentMethod: text(m.ID),
		ReceiptEmail: pi.ReceiptEmail, Status: status, StatementDescriptor: "RINGFENCE SANDBOX",
		Descriptor: pi.StatementDescriptor, DescriptorSuffix: pi.StatementSuffix,
		BillingDetails: billingDetails{Name: "Sandbox Payer", Address: address{Country: "GB", PostalCode: "SW1A 1AA"}},
	}
	if status != chargeFailed {
		c.ReceiptURL = text(tx.s.base + "/sandbox/stripe/receipts/" + c.ID)
	}
	pi.LatestCharge = text(c.ID)
	return add(tx, &tx.s.charges, c, own{})
}

// succeed takes the money at once, as cards do.
func (tx *txn) succeed(r *row[paymentIntent], method *row[paymentMethod]) {
	r.Wire.PaymentMethod = text(method.Wire.ID)
	ch := tx.addCharge(r, method, chargePending)
	tx.captured(ch)
	tx.keepMethod(r, method)
	tx.received(r)
}

// captured marks a charge as paid and tells of it.
func (tx *txn) captured(ch *row[charge]) {
	w := &ch.Wire
	w.Status, w.Paid, w.Captured, w.AmountCaptured = chargeSucceeded, true, true, w.Amount
	w.BalanceTransaction = text(newID("txn_3", 23))
	w.Outcome = &outcome{
		NetworkStatus: "approved_by_network", RiskLevel: "normal", SellerMessage: "Payment complete.", Type: "authorized",
	}
	save(tx, &tx.s.charges, ch)
	tx.emit("charge.succeeded", &ch.Wire, nil)
}

// received marks a PaymentIntent as succeeded and tells of it.
func (tx *txn) received(r *row[paymentIntent]) {
	w := &r.Wire
	w.Status, w.AmountReceived, w.LastPaymentError = intentSucceeded, w.Amount, nil
	r.Own.SettleAt = 0
	save(tx, &tx.s.intents, r)
	tx.emit("payment_intent.succeeded", w, nil)
}

// process begins a payment that takes its time.
func (tx *txn) process(r *row[paymentIntent], method *row[paymentMethod]) {
	w := &r.Wire
	w.PaymentMethod, w.Status, w.LastPaymentError = text(method.Wire.ID), intentProcessing, nil
	ch := tx.addCharge(r, method, chargePending)
	if tx.s.settleAfter > 0 {
		r.Own.SettleAt = tx.now.Add(tx.s.settleAfter).UnixNano()
		at, sessionID := r.Own.SettleAt, r.Own.Session
		tx.then(func() { tx.s.settleAt(sessionID, at) })
	}
	save(tx, &tx.s.intents, r)
	tx.keepMethod(r, method)
	tx.emit("charge.pending", &ch.Wire, nil)
	tx.emit("payment_intent.processing", w, nil)
}

// settleCharge ends a processing payment well.
func (tx *txn) settleCharge(r *row[paymentIntent]) {
	if ch := tx.s.charges.get(string(r.Wire.LatestCharge)); ch != nil {
		tx.captured(ch)
	}
	tx.received(r)
}

// failCharge ends a processing payment badly.
func (tx *txn) failCharge(r *row[paymentIntent], f failure) {
	ch := tx.s.charges.get(string(r.Wire.LatestCharge))
	method := tx.s.methods.get(string(r.Wire.PaymentMethod))
	r.Own.SettleAt = 0
	tx.failed(r, ch, method, f)
}

// decline is an attempt that the issuer refused.
func (tx *txn) decline(r *row[paymentIntent], method *row[paymentMethod], f failure) {
	tx.failed(r, tx.addCharge(r, method, chargeFailed), method, f)
}

func (tx *txn) failed(r *row[paymentIntent], ch *row[charge], method *row[paymentMethod], f failure) {
	if ch != nil {
		w := &ch.Wire
		w.Status, w.FailureCode, w.FailureMessage = chargeFailed, text(f.code), text(f.message)
		w.Outcome = &outcome{
			NetworkStatus: "declined_by_network", Reason: text(f.declineCode), RiskLevel: "normal",
			SellerMessage: "The bank did not return any further details with this decline.", Type: "issuer_declined",
		}
		save(tx, &tx.s.charges, ch)
		tx.emit("charge.failed", w, nil)
	}
	w := &r.Wire
	w.Status, w.PaymentMethod = intentRequiresMethod, ""
	w.LastPaymentError = f.lastError(method)
	w.LastPaymentError.Charge = w.LatestCharge
	if method != nil {
		tx.consume(method)
	}
	save(tx, &tx.s.intents, r)
	tx.emit("payment_intent.payment_failed", w, nil)
}

// paidCharge finds the charge that a refund or dispute concerns, by charge or PaymentIntent.
func (tx *txn) paidCharge(chargeID, intentID string) (*row[charge], error) {
	if intentID != "" {
		pi := tx.s.intents.get(intentID)
		if pi == nil {
			return nil, noSuch("payment_intent", intentID, "payment_intent")
		}
		if pi.Wire.Status != intentSucceeded {
			return nil, invalid("", "payment_intent", "This PaymentIntent (%s) does not have a successful charge to refund.", intentID)
		}
		return tx.s.charges.get(string(pi.Wire.LatestCharge)), nil
	}
	ch := tx.s.charges.get(chargeID)
	if ch == nil {
		return nil, noSuch("charge", chargeID, "charge")
	}
	if ch.Wire.Status != chargeSucceeded {
		return nil, invalid("", "charge", "Charge %s is not paid: it is %s.", chargeID, ch.Wire.Status)
	}
	return ch, nil
}
