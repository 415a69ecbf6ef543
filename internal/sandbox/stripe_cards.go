package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// failure is why an attempt to pay did not succeed; see https://docs.stripe.com/declines/codes.
type failure struct{ code, declineCode, message string }

func (f failure) docURL() string {
	return "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(f.code, "_", "-")
}

// cardError is the failure as the answer to a request; the caller adds what it concerns.
func (f failure) cardError() *apiError {
	return &apiError{
		Status: http.StatusPaymentRequired, Type: typeCard, Code: f.code, DeclineCode: f.declineCode, Message: f.message,
		DocURL: f.docURL(),
	}
}

// lastError is the failure as an intent remembers it; method may be nil.
func (f failure) lastError(method *row[paymentMethod]) *paymentError {
	e := &paymentError{Code: f.code, DeclineCode: f.declineCode, Message: f.message, Type: typeCard, DocURL: f.docURL()}
	if method != nil {
		m := method.Wire
		e.PaymentMethod = &m
	}
	return e
}

var (
	cardDeclined = failure{"card_declined", "generic_decline", "Your card was declined."}
	authRequired = failure{
		"authentication_required", "authentication_required",
		"Your card was declined. This transaction requires authentication.",
	}
	noFunds     = failure{"card_declined", "insufficient_funds", "Your card has insufficient funds."}
	expired     = failure{"expired_card", "", "Your card has expired."}
	debitFailed = failure{"payment_method_provider_decline", "", "The customer's bank account could not be debited."}
)

// What becomes of a charge of a saved card.
const (
	// OutcomeSucceed takes the money.
	OutcomeSucceed = "succeed"
	// OutcomeDecline is the bank refusing without a reason (card_declined, generic_decline).
	OutcomeDecline = "card_declined"
	// OutcomeNoFunds is an empty account (card_declined, insufficient_funds).
	OutcomeNoFunds = "insufficient_funds"
	// OutcomeAuthenticate is a bank that wants the customer to be there (authentication_required).
	OutcomeAuthenticate = "authentication_required"
	// OutcomeExpired is a card that has expired (expired_card).
	OutcomeExpired = "expired_card"
)

// failures are the outcomes that are none but OutcomeSucceed, which in the state is the empty one.
var failures = map[string]failure{
	OutcomeDecline: cardDeclined, OutcomeNoFunds: noFunds, OutcomeAuthenticate: authRequired, OutcomeExpired: expired,
}

// testCard is one of Stripe's card numbers for tests (https://docs.stripe.com/testing) and what it does: on the hosted
// page, where the customer is there, and when it was saved and is charged by the API.
type testCard struct {
	Number, Brand, Label string
	here, later          string // outcomes; empty is success
}

// testCards are the cards to choose from on the hosted page; the first is what a person pays with who chooses nothing.
var testCards = []testCard{
	{"4242424242424242", "visa", "Visa 4242: succeeds, now and later", "", ""},
	{"5555555555554444", "mastercard", "Mastercard 4444: succeeds, now and later", "", ""},
	{"4000000000000341", "visa", "Visa 0341: succeeds now, is declined when charged later", "", OutcomeDecline},
	{"4000002760003184", "visa", "Visa 3184: you confirm it now; charged later, it needs that again", "", OutcomeAuthenticate},
	{"4000000000009995", "visa", "Visa 9995: has insufficient funds", OutcomeNoFunds, OutcomeNoFunds},
	{"4000000000000002", "visa", "Visa 0002: is declined", OutcomeDecline, OutcomeDecline},
	{"4000000000000069", "visa", "Visa 0069: has expired", OutcomeExpired, OutcomeExpired},
}

// findCard gives a test card by its number; the first for none.
func findCard(number string) (testCard, error) {
	if number == "" {
		return testCards[0], nil
	}
	i := slices.IndexFunc(testCards, func(c testCard) bool { return c.Number == number })
	if i < 0 {
		return testCard{}, invalid("incorrect_number", "card", "The sandbox does not know this card number.")
	}
	return testCards[i], nil
}

// testMethods are the test payment methods the sandbox knows (https://docs.stripe.com/testing), by their cards.
var testMethods = map[string]string{
	"pm_card_visa":                            "4242424242424242",
	"pm_card_mastercard":                      "5555555555554444",
	"pm_card_chargeCustomerFail":              "4000000000000341",
	"pm_card_authenticationRequired":          "4000002760003184",
	"pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
	"pm_card_chargeDeclined":                  "4000000000000002",
	"pm_card_chargeDeclinedExpiredCard":       "4000000000000069",
}

// testMethod gives the card of a test payment method.
func testMethod(id string) (testCard, bool) {
	number, ok := testMethods[id]
	if !ok {
		return testCard{}, false
	}
	c, err := findCard(number)
	return c, err == nil
}

// addCard makes a payment method of a card, which belongs to nobody yet.
func (tx *txn) addCard(c testCard) *row[paymentMethod] {
	// The same number has the same fingerprint, whoever shows it.
	mark := sha256.Sum256([]byte(c.Number))
	return tx.addMethod(paymentMethod{Type: methodCard, Card: &card{
		Brand: c.Brand, Checks: cardChecks{CVC: "pass"}, Country: "GB", ExpMonth: 12,
		ExpYear: int64(tx.now.UTC().Year() + 3), Fingerprint: hex.EncodeToString(mark[:8]), Funding: "credit",
		Last4: c.Number[len(c.Number)-4:], ThreeDUsage: &supported{Supported: true},
	}}, c.later)
}

// addBankAccount makes a payment method for Bacs debits, which belongs to nobody yet.
func (tx *txn) addBankAccount() *row[paymentMethod] {
	return tx.addMethod(paymentMethod{
		Type: methodBACS, BACSDebit: &bacsDebit{Fingerprint: newID("", 16), Last4: "2345", SortCode: "108800"},
	}, "")
}

func (tx *txn) addMethod(m paymentMethod, outcome string) *row[paymentMethod] {
	m.ID, m.Object, m.Created, m.Metadata = newID("pm_1", 23), "payment_method", tx.created(), map[string]string{}
	return add(tx, &tx.s.methods, m, own{Outcome: outcome})
}

// attach saves a payment method to a customer and tells of it.
func (tx *txn) attach(m *row[paymentMethod], customerID text) {
	m.Wire.Customer = customerID
	save(tx, &tx.s.methods, m)
	tx.emit("payment_method.attached", &m.Wire, nil)
}

// keepMethod saves the payment method of a payment that succeeded when it was asked for; else it is used up, unless it
// was saved already.
func (tx *txn) keepMethod(r *row[paymentIntent], m *row[paymentMethod]) {
	if r.Wire.SetupFutureUsage != "" && r.Wire.Customer != "" && m.Wire.Customer == "" {
		tx.attach(m, r.Wire.Customer)
		return
	}
	tx.consume(m)
}

// consume uses up a payment method that no customer owns.
func (tx *txn) consume(m *row[paymentMethod]) {
	if m.Wire.Customer == "" && !m.Own.Consumed {
		m.Own.Consumed = true
		save(tx, &tx.s.methods, m)
	}
}

// useMethod finds the payment method to charge; a test method is turned into one of its own. nil when none is named.
func (tx *txn) useMethod(id, customerID string) (*row[paymentMethod], error) {
	if id == "" {
		return nil, nil // no method was named, which is allowed
	}
	if c, ok := testMethod(id); ok {
		return tx.addCard(c), nil
	}
	m := tx.s.methods.get(id)
	switch {
	case m == nil:
		return nil, noSuch("PaymentMethod", id, "payment_method")
	case m.Own.Consumed:
		return nil, invalid("", "", "The provided PaymentMethod was previously used with a PaymentIntent without Customer "+
			"attachment, shared with a connected account without Customer attachment, or was detached from a Customer. It may "+
			"not be used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.")
	case m.Wire.Customer != "" && string(m.Wire.Customer) != customerID:
		return nil, invalid("", "payment_method", "The provided PaymentMethod belongs to another Customer. "+
			"Please include the Customer in the `customer` parameter on the PaymentIntent.")
	case m.Wire.Type != methodCard:
		return nil, invalid("", "payment_method", "The sandbox charges saved cards only, not a %s.", m.Wire.Type)
	}
	return m, nil
}

func getMethod(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.methods, "PaymentMethod")
}

func listMethods(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "customer", "type")...); err != nil {
		return nil, err
	}
	return methodsOf(tx, in, in.str("customer"))
}

// listCustomerMethods is https://docs.stripe.com/api/payment_methods/customer_list.
func listCustomerMethods(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "type")...); err != nil {
		return nil, err
	}
	if tx.s.customers.get(in.id) == nil {
		return nil, noSuch("customer", in.id, "")
	}
	return methodsOf(tx, in, in.id)
}

func methodsOf(tx *txn, in *input, who string) (any, error) {
	kind := in.str("type")
	return page(in, &tx.s.methods, "PaymentMethod", func(r *row[paymentMethod]) bool {
		return r.Wire.Customer != "" && is(who, string(r.Wire.Customer)) && is(kind, r.Wire.Type)
	}, wire)
}

// attachMethod is https://docs.stripe.com/api/payment_methods/attach.
func attachMethod(tx *txn, in *input) (any, error) {
	if err := in.allow("customer"); err != nil {
		return nil, err
	}
	who := in.str("customer")
	if who == "" {
		return nil, missing("customer")
	}
	if tx.s.customers.get(who) == nil {
		return nil, noSuch("customer", who, "customer")
	}
	if c, ok := testMethod(in.id); ok {
		m := tx.addCard(c)
		if f, fails := failures[c.here]; fails {
			tx.consume(m)
			return nil, f.cardError()
		}
		tx.attach(m, text(who))
		return &m.Wire, nil
	}
	m := tx.s.methods.get(in.id)
	switch {
	case m == nil:
		return nil, noSuch("PaymentMethod", in.id, "")
	case m.Own.Consumed:
		return nil, invalid("", "", "This PaymentMethod was previously used without being attached to a Customer or was "+
			"detached from a Customer, and may not be used again.")
	case string(m.Wire.Customer) == who:
		return &m.Wire, nil
	case m.Wire.Customer != "":
		return nil, invalid("", "", "The payment method you provided has already been attached to a customer.")
	}
	tx.attach(m, text(who))
	return &m.Wire, nil
}

// detachMethod is https://docs.stripe.com/api/payment_methods/detach.
func detachMethod(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	m, err := tx.detach(in.id)
	if err != nil {
		return nil, err
	}
	return &m.Wire, nil
}

// detach takes a payment method from its customer; it can never be used again.
func (tx *txn) detach(id string) (*row[paymentMethod], error) {
	m := tx.s.methods.get(id)
	if m == nil {
		return nil, noSuch("PaymentMethod", id, "")
	}
	if m.Wire.Customer == "" {
		return nil, invalid("", "", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	before := map[string]any{"customer": m.Wire.Customer}
	m.Wire.Customer, m.Own.Consumed = "", true
	save(tx, &tx.s.methods, m)
	tx.emit("payment_method.detached", &m.Wire, before)
	return m, nil
}

// setOutcome is a card's bank changing its mind about later charges.
func (tx *txn) setOutcome(id, outcome string) (*row[paymentMethod], error) {
	m := tx.s.methods.get(id)
	if m == nil {
		return nil, noSuch("PaymentMethod", id, "")
	}
	if _, known := failures[outcome]; !known && outcome != OutcomeSucceed {
		return nil, invalid("", "outcome", "outcome must be one of %s", strings.Join(outcomes, ", "))
	}
	m.Own.Outcome = outcome
	if outcome == OutcomeSucceed {
		m.Own.Outcome = ""
	}
	save(tx, &tx.s.methods, m)
	return m, nil
}

// outcomes are all outcomes, in the order in which they are offered.
var outcomes = []string{OutcomeSucceed, OutcomeDecline, OutcomeNoFunds, OutcomeAuthenticate, OutcomeExpired}

// SetOutcome says what becomes of later charges of a saved card, as its bank would: one of the Outcome… words.
func (s *Stripe) SetOutcome(paymentMethodID, outcome string) error {
	return s.change(func(tx *txn) error {
		_, err := tx.setOutcome(paymentMethodID, outcome)
		return err
	})
}

// Detach takes a saved card from its customer, as Stripe's dashboard does; events tell of it.
func (s *Stripe) Detach(paymentMethodID string) error {
	return s.change(func(tx *txn) error {
		_, err := tx.detach(paymentMethodID)
		return err
	})
}

// cardText names a payment method for people.
func cardText(m *paymentMethod) string {
	if m.Card == nil {
		return m.Type
	}
	return fmt.Sprintf("%s %s, %02d/%d", m.Card.Brand, m.Card.Last4, m.Card.ExpMonth, m.Card.ExpYear)
}
