package payments

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"ringfence/internal/money"
)

// envelope is what every event of Stripe's has around it. It is decoded without stripe-go's own event type, which
// refuses other API versions: what Stripe has signed is stored first and understood later.
type envelope struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
	Data     struct {
		Object object `json:"object"`
	} `json:"data"`
}

// object holds the fields we read of Checkout sessions and PaymentIntents.
type object struct {
	ID                string            `json:"id"`
	Object            string            `json:"object"`
	PaymentIntent     reference         `json:"payment_intent"`
	PaymentStatus     string            `json:"payment_status"`
	AmountTotal       int64             `json:"amount_total"`
	AmountReceived    int64             `json:"amount_received"`
	Currency          string            `json:"currency"`
	Customer          reference         `json:"customer"`
	ClientReferenceID string            `json:"client_reference_id"`
	Metadata          map[string]string `json:"metadata"`
	LastPaymentError  *struct {
		Message     string `json:"message"`
		DeclineCode string `json:"decline_code"`
	} `json:"last_payment_error"`
}

// reference is another object of Stripe's: its id, or the object itself when it was expanded.
type reference string

// UnmarshalJSON takes "pi_1", {"id":"pi_1", …} or null.
func (r *reference) UnmarshalJSON(b []byte) error {
	var expanded struct {
		ID string `json:"id"`
	}
	switch {
	case len(b) > 0 && b[0] == '{':
		err := json.Unmarshal(b, &expanded)
		*r = reference(expanded.ID)
		return err
	case string(b) == "null":
		*r = ""
		return nil
	default:
		return json.Unmarshal(b, (*string)(r))
	}
}

// ours finds the top-up that the object says it belongs to; uuid.Nil where it names none.
func (o *object) ours() uuid.UUID {
	for _, s := range []string{o.Metadata["top_up_id"], o.ClientReferenceID} {
		if id, err := uuid.Parse(s); err == nil {
			return id
		}
	}
	return uuid.Nil
}

// intent is the PaymentIntent that the object is or belongs to.
func (o *object) intent() string {
	id := string(o.PaymentIntent)
	if o.Object == "payment_intent" {
		id = o.ID
	}
	if !stripeID.MatchString(id) {
		return ""
	}
	return id
}

// stripeID is the shape of Stripe's ids; what differs never becomes a key of ours.
var stripeID = regexp.MustCompile(`^[A-Za-z0-9_]{1,255}$`)

// received is an event as it goes into the database.
type received struct {
	id, kind      string
	payload       []byte
	topUp         uuid.UUID
	paymentIntent string
	occurred      time.Time
	// broken says why the event cannot be understood; it is stored all the same, for an operator.
	broken string
	// span is of the request that brought it.
	span trace.Span
}

// receive reads the signed body. It never fails: Stripe has said something, and it is kept.
func receive(body []byte, now time.Time) received {
	var e envelope
	err := json.Unmarshal(body, &e)
	if err == nil && !stripeID.MatchString(e.ID) {
		err = fmt.Errorf("the event's id is %q", e.ID)
	}
	if err == nil && !eventType.MatchString(e.Type) {
		err = fmt.Errorf("the event's type is %q", e.Type)
	}
	if err != nil {
		sum := sha256.Sum256(body)
		return received{
			id: "unreadable_" + hex.EncodeToString(sum[:]), kind: "unreadable", payload: body, occurred: now,
			broken: "couldn't be read: " + err.Error(),
		}
	}
	return received{
		id: e.ID, kind: e.Type, payload: body, occurred: time.Unix(e.Created, 0).UTC(),
		topUp: e.Data.Object.ours(), paymentIntent: e.Data.Object.intent(),
	}
}

var eventType = regexp.MustCompile(`^[a-z0-9_.]{1,100}$`)

// fact is what one event says about one top-up and its payment.
type fact struct {
	state TopUpState // what the top-up becomes by it; empty when only the note changes
	// paid is what Stripe says it has received; zero unless the event says "paid".
	paid     money.Pence
	intent   string
	topUp    uuid.UUID
	currency string
	customer string
	livemode bool
	note     string
	// lost says that a payment which had been under way for days has failed, so that somebody waited for it in vain.
	lost bool
	at   time.Time
}

// Events are the types that we act on, which is what Stripe is asked to send. refund.created and refund.updated are about
// refunds that make no charge.refunded, such as those out of a customer's cash balance.
func Events() []string {
	return []string{
		"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed",
		"checkout.session.expired", "payment_intent.succeeded", "payment_intent.payment_failed",
		"charge.refunded", "charge.refund.updated", "refund.created", "refund.updated",
		"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed",
		"charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", cardDetached,
	}
}

// decode reads an event's body.
func decode(payload []byte, e *envelope) error {
	if err := json.Unmarshal(payload, e); err != nil {
		return fmt.Errorf("couldn't read the event: %w", err)
	}
	return nil
}

// read understands an event that says itself what is the case; handled is false for a type that we do nothing on, and
// for one about which Stripe is asked (see reversing).
func read(kind string, payload []byte) (f fact, handled bool, err error) {
	var e envelope
	if err := decode(payload, &e); err != nil {
		return fact{}, true, err
	}
	o := &e.Data.Object
	f = fact{
		intent: o.intent(), topUp: o.ours(), currency: o.Currency, customer: string(o.Customer), livemode: e.Livemode,
		at: time.Unix(e.Created, 0).UTC(),
	}
	switch kind {
	case "checkout.session.completed":
		switch o.PaymentStatus {
		case "paid":
			f.state, f.paid = Paid, money.Pence(o.AmountTotal)
		case "unpaid":
			f.state = Processing
		default: // no_payment_required: there was nothing to pay, so there is nothing to credit
			f.state, f.note = Failed, "Stripe asked for no payment, so nothing was added."
		}
	case "checkout.session.async_payment_succeeded":
		f.state, f.paid = Paid, money.Pence(o.AmountTotal)
	case "checkout.session.async_payment_failed":
		f.state, f.note, f.lost = Failed, "The payment did not go through. Nothing was added.", true
	case "checkout.session.expired":
		f.state = Expired
	case "payment_intent.succeeded":
		f.state, f.paid = Paid, money.Pence(o.AmountReceived)
	case "payment_intent.payment_failed":
		f.note = "The last try to pay was declined."
		if o.LastPaymentError != nil && o.LastPaymentError.DeclineCode == "insufficient_funds" {
			f.note = "The card was declined: not enough money on it."
		}
	default:
		return fact{}, false, nil
	}
	return f, true, nil
}
