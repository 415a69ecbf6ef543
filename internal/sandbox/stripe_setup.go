package sandbox

import "slices"

// setupIntent is an attempt to save a payment method without taking money; see https://docs.stripe.com/api/setup_intents.
type setupIntent struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	Application          null              `json:"application"`
	AutomaticMethods     *enabled          `json:"automatic_payment_methods"`
	CancellationReason   text              `json:"cancellation_reason"`
	ClientSecret         text              `json:"client_secret"`
	Created              int64             `json:"created"`
	Customer             text              `json:"customer"`
	Description          text              `json:"description"`
	FlowDirections       null              `json:"flow_directions"`
	LastSetupError       *paymentError     `json:"last_setup_error"`
	LatestAttempt        null              `json:"latest_attempt"`
	Livemode             bool              `json:"livemode"`
	Mandate              null              `json:"mandate"`
	Metadata             map[string]string `json:"metadata"`
	NextAction           null              `json:"next_action"`
	OnBehalfOf           null              `json:"on_behalf_of"`
	PaymentMethod        text              `json:"payment_method"`
	MethodConfig         null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions map[string]any    `json:"payment_method_options"`
	PaymentMethodTypes   []string          `json:"payment_method_types"`
	SingleUseMandate     null              `json:"single_use_mandate"`
	Status               string            `json:"status"`
	Usage                string            `json:"usage"`
}

func (s *setupIntent) ref() (string, int64) { return s.ID, s.Created }

// readSetup fills a session of mode=setup, which takes no money, and gives its SetupIntent, not yet stored.
func readSetup(tx *txn, in *input, sess *session) (setupIntent, error) {
	for _, name := range []string{"line_items", "payment_intent_data", "invoice_creation", "tax_id_collection", "submit_type"} {
		if in.has(name) {
			return setupIntent{}, invalid("", name, "You can not pass `%s` in `setup` mode.", name)
		}
	}
	types := in.strings("payment_method_types")
	switch {
	case len(types) == 0 && in.str("currency") == "":
		return setupIntent{}, invalid("parameter_missing", "currency", "Missing required param: currency. It is needed in `setup` mode without `payment_method_types`.")
	case slices.ContainsFunc(types, func(t string) bool { return t != methodCard }):
		return setupIntent{}, invalid("", "payment_method_types", "Invalid payment_method_types: the sandbox saves cards only.")
	}
	sess.PaymentMethodTypes, sess.PaymentStatus, sess.MethodCollection = []string{methodCard}, statusNoPaymentRequired, "always"
	sess.Currency = text(in.str("currency"))
	id := newID("seti_1", 23)
	si := setupIntent{
		ID: id, Object: "setup_intent", ClientSecret: text(id + "_secret_" + newID("", 25)), Created: tx.created(),
		Customer: sess.Customer, Description: text(in.str("setup_intent_data", "description")),
		PaymentMethodTypes: sess.PaymentMethodTypes, Status: intentRequiresMethod, Usage: "off_session",
		PaymentMethodOptions: map[string]any{methodCard: map[string]any{
			"mandate_options": nil, "network": nil, "request_three_d_secure": "automatic",
		}},
	}
	var err error
	if si.Metadata, err = in.metadata("setup_intent_data", "metadata"); err != nil {
		return setupIntent{}, err
	}
	sess.SetupIntent = text(si.ID)
	return si, nil
}

// saveCard is a person entering a card on the page of a session of mode=setup: it is saved to the customer, or refused,
// and then the session stays open.
func (tx *txn) saveCard(r *row[session], c testCard) (saved bool) {
	si := tx.s.setups.get(string(r.Wire.SetupIntent))
	m := tx.addCard(c)
	if f, fails := failures[c.here]; fails {
		tx.consume(m)
		si.Wire.LastSetupError = f.lastError(m)
		save(tx, &tx.s.setups, si)
		tx.emit("setup_intent.setup_failed", &si.Wire, nil)
		return false
	}
	tx.madeCustomer(r)
	if r.Wire.Customer != "" {
		tx.attach(m, r.Wire.Customer)
	}
	w := &si.Wire
	w.Customer, w.PaymentMethod, w.Status, w.LastSetupError = r.Wire.Customer, text(m.Wire.ID), intentSucceeded, nil
	save(tx, &tx.s.setups, si)
	tx.emit("setup_intent.succeeded", w, nil)
	tx.complete(r, statusNoPaymentRequired)
	return true
}

// cancelSetup ends the SetupIntent of a session that expires.
func (tx *txn) cancelSetup(id string) {
	si := tx.s.setups.get(id)
	if si == nil || si.Wire.Status != intentRequiresMethod {
		return
	}
	si.Wire.Status = intentCanceled
	save(tx, &tx.s.setups, si)
	tx.emit("setup_intent.canceled", &si.Wire, nil)
}

func getSetup(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.setups, "setupintent")
}

func listSetups(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer", "payment_method")...); err != nil {
		return nil, err
	}
	who, method := in.str("customer"), in.str("payment_method")
	return page(in, &tx.s.setups, "setupintent", func(r *row[setupIntent]) bool {
		return is(who, string(r.Wire.Customer)) && is(method, string(r.Wire.PaymentMethod))
	}, wire)
}
