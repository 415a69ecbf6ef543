package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

// Stripe's numbers for tests.
const (
	cardOK       = "4242424242424242"
	cardLater    = "4000000000000341" // declines once it is saved
	cardAskAgain = "4000002760003184" // wants authentication whenever the customer is away
	cardNoFunds  = "4000000000009995"
	cardDeclined = "4000000000000002"
	cardExpired  = "4000000000000069"
)

func (b *box) customer() string {
	b.t.Helper()
	c, err := b.api.Customers.New(&stripe.CustomerParams{Email: new("owner@harbour.example")})
	if err != nil {
		b.t.Fatal(err)
	}
	return c.ID
}

// misbehave puts faults of Stripe's in force.
func (b *box) misbehave(rules ...sandbox.Fault) {
	b.t.Helper()
	if err := b.Stripe().SetFaults(rules...); err != nil {
		b.t.Fatal(err)
	}
}

// submit posts a form as the page has it.
func (b *box) submit(target string, form url.Values) (status int, location, body string) {
	b.t.Helper()
	resp, err := noRedirect.PostForm(target, form)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), read(b.t, resp)
}

// saving is a session that saves the card it is paid with.
func (b *box) saving(customer string) *stripe.CheckoutSession {
	b.t.Helper()
	p := sessionParams(5000, "tu_1")
	p.Customer, p.PaymentIntentData.SetupFutureUsage = new(customer), new("off_session")
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// saved pays with a card that is saved, and gives its id.
func (b *box) saved(customer, card string) string {
	b.t.Helper()
	s := b.saving(customer)
	if status, _, body := b.submit(s.URL+"/pay", url.Values{"card": {card}}); status != http.StatusSeeOther {
		b.t.Fatalf("%d %s", status, body)
	}
	return b.get(s.ID).PaymentIntent.PaymentMethod.ID
}

// cards lists a customer's saved cards, newest first.
func (b *box) cards(customer string) []string {
	b.t.Helper()
	ids := []string{}
	it := b.api.Customers.ListPaymentMethods(&stripe.CustomerListPaymentMethodsParams{Customer: new(customer), Type: new("card")})
	for it.Next() {
		ids = append(ids, it.PaymentMethod().ID)
	}
	if it.Err() != nil {
		b.t.Fatal(it.Err())
	}
	return ids
}

// offSession is a charge of a saved card while the customer is away.
func offSession(customer, method string, pence int64) *stripe.PaymentIntentParams {
	p := &stripe.PaymentIntentParams{
		Amount: new(pence), Currency: new("gbp"), Customer: new(customer), PaymentMethod: new(method),
		Confirm: new(true), OffSession: new(true), Description: new("Auto top-up"),
	}
	p.AddMetadata("top_up_id", "tu_auto")
	return p
}

func TestPaidCardIsSaved(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	who := b.customer()
	s := b.saving(who)
	// A declined card is not saved.
	if status, location, _ := b.post(s.URL + "/decline"); status != http.StatusSeeOther || location != s.URL {
		t.Fatalf("%d to %s", status, location)
	}
	if got := b.cards(who); len(got) != 0 {
		t.Errorf("the declined card was saved: %v", got)
	}
	b.post(s.URL + "/pay")
	got := b.cards(who)
	if len(got) != 1 {
		t.Fatalf("saved: %v", got)
	}
	pi := b.get(s.ID).PaymentIntent
	if pi.PaymentMethod.ID != got[0] || pi.SetupFutureUsage != stripe.PaymentIntentSetupFutureUsageOffSession ||
		pi.LatestCharge.PaymentMethod != got[0] || pi.LatestCharge.Customer.ID != who {
		t.Errorf("the payment: %+v, its charge: %+v", pi, pi.LatestCharge)
	}
	pm, err := b.api.PaymentMethods.Get(got[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	c := pm.Card
	if pm.Type != stripe.PaymentMethodTypeCard || pm.Customer.ID != who || c.Brand != "visa" || c.Last4 != "4242" || c.ExpMonth != 12 ||
		c.ExpYear <= int64(time.Now().Year()) || c.Fingerprint == "" {
		t.Errorf("%+v, %+v", pm, c)
	}
	wait(t, "payment_method.attached", func() bool { return rc.count("payment_method.attached") == 1 })
	e := rc.first("payment_method.attached")
	if e.GetObjectValue("id") != pm.ID || e.GetObjectValue("customer") != who {
		t.Errorf("%s", e.Data.Raw)
	}

	// The same number is the same card, another one is not, and nobody's card is saved who did not ask for it.
	same, err := b.api.PaymentMethods.Get(b.saved(who, cardOK), nil)
	if err != nil || same.ID == pm.ID || same.Card.Fingerprint != c.Fingerprint {
		t.Errorf("%v, %+v", err, same.Card)
	}
	other, err := b.api.PaymentMethods.Get(b.saved(who, "5555555555554444"), nil)
	if err != nil || other.Card.Brand != "mastercard" || other.Card.Last4 != "4444" || other.Card.Fingerprint == c.Fingerprint {
		t.Errorf("%v, %+v", err, other.Card)
	}
	p := sessionParams(5000, "tu_2")
	p.Customer = new(who)
	once, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	b.post(once.URL + "/pay")
	if got := b.cards(who); len(got) != 3 {
		t.Errorf("saved: %v", got)
	}
}

// On the hosted page the customer is there: some cards succeed there that fail later, and others fail at once.
func TestCardsOnTheHostedPage(t *testing.T) {
	b := start(t)
	who := b.customer()
	for _, tc := range []struct {
		card, says string
	}{
		{cardOK, ""},
		{cardLater, ""},
		{cardAskAgain, ""},
		{cardNoFunds, "insufficient funds"},
		{cardDeclined, "was declined"},
		{cardExpired, "has expired"},
	} {
		s := b.saving(who)
		_, page, _ := b.page(strings.TrimPrefix(s.URL, b.URL()))
		if !strings.Contains(page, `<option value="`+tc.card+`">`) {
			t.Errorf("%s cannot be chosen", tc.card)
		}
		before := len(b.cards(who))
		status, location, _ := b.submit(s.URL+"/pay", url.Values{"card": {tc.card}})
		if status != http.StatusSeeOther {
			t.Fatalf("%s: %d", tc.card, status)
		}
		got := b.get(s.ID)
		if paid := got.PaymentStatus == stripe.CheckoutSessionPaymentStatusPaid; paid != (tc.says == "") || paid != (len(b.cards(who)) > before) {
			t.Errorf("%s: %s, and %d cards are saved", tc.card, got.PaymentStatus, len(b.cards(who))-before)
		}
		if tc.says == "" {
			continue
		}
		if location != s.URL || got.Status != stripe.CheckoutSessionStatusOpen {
			t.Errorf("%s: %s, on to %s", tc.card, got.Status, location)
		}
		if _, page, _ := b.page(strings.TrimPrefix(s.URL, b.URL())); !strings.Contains(page, tc.says) {
			t.Errorf("%s: the page does not say %q", tc.card, tc.says)
		}
	}
	s := b.saving(who)
	if status, _, _ := b.submit(s.URL+"/pay", url.Values{"card": {"4111111111111111"}}); status != http.StatusBadRequest {
		t.Errorf("an unknown number: %d", status)
	}
}

func TestOffSessionOutcomes(t *testing.T) {
	for _, tc := range []struct {
		card, outcome string // the card as it is saved, and what its bank says since, if that is something else
		code          stripe.ErrorCode
		declineCode   stripe.DeclineCode
	}{
		{cardOK, "", "", ""},
		{cardLater, "", stripe.ErrorCodeCardDeclined, stripe.DeclineCodeGenericDecline},
		{cardAskAgain, "", stripe.ErrorCodeAuthenticationRequired, stripe.DeclineCodeAuthenticationRequired},
		{cardOK, sandbox.OutcomeNoFunds, stripe.ErrorCodeCardDeclined, stripe.DeclineCodeInsufficientFunds},
		{cardOK, sandbox.OutcomeExpired, stripe.ErrorCodeExpiredCard, ""},
		{cardLater, sandbox.OutcomeSucceed, "", ""},
	} {
		t.Run(tc.card+" "+tc.outcome, func(t *testing.T) {
			rc := newReceiver(t)
			b := start(t, to(rc))
			who := b.customer()
			method := b.saved(who, tc.card)
			if tc.outcome != "" {
				if status, _, body := b.post("/sandbox/stripe/payment_methods/" + method + "/outcome?outcome=" + tc.outcome); status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
			}
			pi, err := b.api.PaymentIntents.New(offSession(who, method, 3950))
			if tc.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				b.checkCharged(pi.ID, who, method)
				wait(t, "events", func() bool { return rc.count("payment_intent.succeeded") == 2 && rc.count("charge.succeeded") == 2 })
				return
			}
			e := stripeError(t, err)
			if e.HTTPStatusCode != http.StatusPaymentRequired || e.Type != stripe.ErrorTypeCard || e.Code != tc.code || e.DeclineCode != tc.declineCode {
				t.Errorf("%d %s %s %s", e.HTTPStatusCode, e.Type, e.Code, e.DeclineCode)
			}
			if e.PaymentIntent == nil || e.PaymentIntent.Status != stripe.PaymentIntentStatusRequiresPaymentMethod ||
				e.PaymentIntent.Metadata["top_up_id"] != "tu_auto" || e.PaymentMethod == nil || e.PaymentMethod.ID != method {
				t.Fatalf("the error holds %+v and %+v", e.PaymentIntent, e.PaymentMethod)
			}
			wait(t, "payment_failed", func() bool { return rc.count("payment_intent.payment_failed") == 1 })
			got, err := b.api.PaymentIntents.Get(e.PaymentIntent.ID, nil)
			if err != nil || got.Status != stripe.PaymentIntentStatusRequiresPaymentMethod || got.AmountReceived != 0 ||
				got.LastPaymentError.Code != tc.code || got.LastPaymentError.DeclineCode != tc.declineCode {
				t.Errorf("%v, %+v", err, got)
			}
			// The card stays saved, and a late success is prevented by cancelling.
			if cards := b.cards(who); !slices.Equal(cards, []string{method}) {
				t.Errorf("saved: %v", cards)
			}
			if got, err = b.api.PaymentIntents.Cancel(got.ID, nil); err != nil || got.Status != stripe.PaymentIntentStatusCanceled {
				t.Errorf("%v, %+v", err, got)
			}
			if n := b.books().Totals["gbp"].Received; n != 5000 {
				t.Errorf("received %dp", n)
			}
		})
	}
}

// checkCharged looks at a charge of 3950p as it is afterwards.
func (b *box) checkCharged(id, who, method string) {
	b.t.Helper()
	p := &stripe.PaymentIntentParams{}
	p.AddExpand("payment_method")
	p.AddExpand("latest_charge")
	pi, err := b.api.PaymentIntents.Get(id, p)
	if err != nil {
		b.t.Fatal(err)
	}
	if pi.Status != stripe.PaymentIntentStatusSucceeded || pi.AmountReceived != 3950 || pi.Customer.ID != who || pi.Description != "Auto top-up" ||
		pi.PaymentMethod.ID != method || pi.PaymentMethod.Card == nil || pi.PaymentMethod.Card.Last4 == "" {
		b.t.Errorf("%+v", pi)
	}
	ch := pi.LatestCharge
	if !ch.Paid || ch.Amount != 3950 || ch.PaymentMethod != method || ch.Metadata["top_up_id"] != "tu_auto" {
		b.t.Errorf("%+v", ch)
	}
	if status, body, _ := b.page(strings.TrimPrefix(ch.ReceiptURL, b.URL())); status != http.StatusOK || !strings.Contains(body, "£39.50") {
		b.t.Errorf("receipt: %d %s", status, body)
	}
}

func TestPaymentIntentsAreListed(t *testing.T) {
	ck := newClock()
	b := start(t, func(o *sandbox.Options) { o.Now = ck.Now })
	who, other := b.customer(), b.customer()
	method := b.saved(who, cardOK)
	ck.Add(time.Hour)
	since := ck.Now().Unix()
	b.saved(other, cardOK)
	var want []string
	for range 3 {
		pi, err := b.api.PaymentIntents.New(offSession(who, method, 3950))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, pi.ID)
	}
	slices.Reverse(want)
	p := &stripe.PaymentIntentListParams{Customer: new(who), CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since}}
	p.Limit = stripe.Int64(2)
	p.AddExpand("data.latest_charge")
	var got []string
	it := b.api.PaymentIntents.List(p)
	for it.Next() {
		got = append(got, it.PaymentIntent().ID)
		if it.PaymentIntent().LatestCharge.Amount != 3950 {
			t.Error("the charge is not expanded")
		}
	}
	if it.Err() != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", it.Err(), got, want)
	}
}

func TestOffSessionIdempotency(t *testing.T) {
	b := start(t)
	who := b.customer()
	good, bad := b.saved(who, cardOK), b.saved(who, cardLater)
	keyed := func(key, method string, pence int64) (*stripe.PaymentIntent, error) {
		p := offSession(who, method, pence)
		p.IdempotencyKey = new(key)
		return b.api.PaymentIntents.New(p)
	}
	first, err := keyed("auto:1", good, 3950)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keyed("auto:1", good, 3950)
	if err != nil || again.ID != first.ID || again.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v, %+v", err, again)
	}
	_, err = keyed("auto:1", good, 4000)
	if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest || e.Type != stripe.ErrorTypeIdempotency {
		t.Errorf("%v", e)
	}
	// A decline is an answer like any other: the key has it for good, whatever the bank says since.
	_, err = keyed("auto:2", bad, 3950)
	declined := stripeError(t, err)
	if err := b.Stripe().SetOutcome(bad, sandbox.OutcomeSucceed); err != nil {
		t.Fatal(err)
	}
	_, err = keyed("auto:2", bad, 3950)
	if e := stripeError(t, err); e.Code != stripe.ErrorCodeCardDeclined || e.PaymentIntent.ID != declined.PaymentIntent.ID {
		t.Errorf("%v", e)
	}
	// So is a 500, though the money was taken.
	b.misbehave(sandbox.Fault{Match: "POST /v1/payment_intents", Do: sandbox.Fault500AfterActing})
	for range 2 {
		_, err = keyed("auto:3", good, 3950)
		if e := stripeError(t, err); e.HTTPStatusCode != http.StatusInternalServerError {
			t.Errorf("%v", e)
		}
	}
	if n := b.books().Totals["gbp"].Received; n != 2*5000+2*3950 {
		t.Errorf("received %dp", n)
	}
}

// Every scripted fault strikes a charge off-session as it strikes a checkout session.
func TestOffSessionFaults(t *testing.T) {
	for _, tc := range []struct {
		do      string
		status  int // of the answer; 0: there is none
		charged bool
		again   bool // the same key then charges, or says that it has
	}{
		{sandbox.FaultTimeout, 0, false, true},
		{sandbox.FaultTimeoutAfterActing, 0, true, true},
		{sandbox.FaultCutAfterActing, 0, true, true},
		{sandbox.Fault500, 500, false, false},
		{sandbox.Fault500AfterActing, 500, true, false},
		{sandbox.Fault503, 503, false, true},
		{sandbox.Fault429, 429, false, true},
		{sandbox.FaultDelay, 200, true, true},
	} {
		t.Run(tc.do, func(t *testing.T) {
			b := start(t)
			who := b.customer()
			method := b.saved(who, cardOK)
			b.misbehave(sandbox.Fault{Match: "POST /v1/payment_intents", Do: tc.do, MS: 20})
			p := offSession(who, method, 3950)
			p.IdempotencyKey = new("auto:1")
			api := newAPIOver(oneByOne(), b.URL(), 0)
			_, err := api.PaymentIntents.New(p)
			switch {
			case tc.status == 0 && err == nil, tc.status == 200 && err != nil:
				t.Errorf("the answer is %v", err)
			case tc.status >= 400:
				if e := stripeError(t, err); e.HTTPStatusCode != tc.status {
					t.Errorf("%v", e)
				}
			}
			received := func() int64 { return b.books().Totals["gbp"].Received - 5000 }
			if got := received() == 3950; got != tc.charged {
				t.Errorf("charged: %v", got)
			}
			_, err = api.PaymentIntents.New(p)
			if (err == nil) != tc.again {
				t.Errorf("again: %v", err)
			}
			if want := tc.charged || tc.again; (received() == 3950) != want {
				t.Errorf("received %dp in the end", received())
			}
		})
	}
}

func TestPaymentMethodsAreAttachedAndDetached(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	who, other := b.customer(), b.customer()
	method := b.saved(who, cardOK)
	attach := func(id, customer string) error {
		_, err := b.api.PaymentMethods.Attach(id, &stripe.PaymentMethodAttachParams{Customer: new(customer)})
		return err
	}
	refused := func(what string, err error, status int, code stripe.ErrorCode, says string) {
		t.Helper()
		e := stripeError(t, err)
		if e.HTTPStatusCode != status || e.Type != stripe.ErrorTypeInvalidRequest || e.Code != code || !strings.Contains(e.Msg, says) {
			t.Errorf("%s: %d %s %q %s", what, e.HTTPStatusCode, e.Type, e.Code, e.Msg)
		}
	}
	charge := func(customer, id string) error {
		_, err := b.api.PaymentIntents.New(offSession(customer, id, 3950))
		return err
	}
	if err := attach(method, who); err != nil {
		t.Errorf("attaching it again: %v", err)
	}
	refused("another's card", attach(method, other), 400, "", "already been attached")
	refused("charging another's card", charge(other, method), 400, "", "belongs to another Customer")
	refused("an unknown card", charge(who, "pm_none"), 400, stripe.ErrorCodeResourceMissing, "No such PaymentMethod: 'pm_none'")
	refused("attaching an unknown card", attach("pm_none", who), 404, stripe.ErrorCodeResourceMissing, "No such PaymentMethod")
	refused("attaching to nobody", attach(method, "cus_none"), 400, stripe.ErrorCodeResourceMissing, "No such customer")

	pm, err := b.api.PaymentMethods.Detach(method, nil)
	if err != nil || pm.Customer != nil {
		t.Fatalf("%v, %+v", err, pm)
	}
	wait(t, "payment_method.detached", func() bool { return rc.count("payment_method.detached") == 1 })
	if e := rc.first("payment_method.detached"); e.GetPreviousValue("customer") != who || e.GetObjectValue("id") != method {
		t.Errorf("%s, before %v", e.Data.Raw, e.Data.PreviousAttributes)
	}
	if got := b.cards(who); len(got) != 0 {
		t.Errorf("saved: %v", got)
	}
	refused("charging a detached card", charge(who, method), 400, "", "was detached from a Customer. It may not be used again")
	refused("attaching a detached card", attach(method, who), 400, "", "may not be used again")
	_, err = b.api.PaymentMethods.Detach(method, nil)
	refused("detaching twice", err, 400, "", "is not attached to a customer")
	_, err = b.api.PaymentMethods.Detach("pm_none", nil)
	refused("detaching an unknown card", err, 404, stripe.ErrorCodeResourceMissing, "No such PaymentMethod")
	if pm, err := b.api.PaymentMethods.Get(method, nil); err != nil || pm.Card.Last4 != "4242" {
		t.Errorf("a detached card can still be looked at: %v", err)
	}

	// A card that nobody owns is good for one payment.
	p := sessionParams(5000, "tu_2")
	p.Customer = new(who)
	once, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	b.post(once.URL + "/pay")
	refused("a card used up", charge(who, b.get(once.ID).PaymentIntent.PaymentMethod.ID), 400, "", "previously used")

	// Stripe's test methods become cards of their own; one that is declined cannot be saved.
	if err := attach("pm_card_chargeCustomerFail", who); err != nil {
		t.Error(err)
	}
	if e := stripeError(t, attach("pm_card_chargeDeclined", who)); e.HTTPStatusCode != 402 || e.Code != stripe.ErrorCodeCardDeclined {
		t.Errorf("%v", e)
	}
	cards := b.cards(who)
	if len(cards) != 1 {
		t.Fatalf("saved: %v", cards)
	}
	if e := stripeError(t, charge(who, cards[0])); e.Code != stripe.ErrorCodeCardDeclined {
		t.Errorf("%v", e)
	}
	it := b.api.Customers.ListPaymentMethods(&stripe.CustomerListPaymentMethodsParams{Customer: new("cus_none")})
	if it.Next() || stripeError(t, it.Err()).HTTPStatusCode != http.StatusNotFound {
		t.Errorf("nobody's cards: %v", it.Err())
	}
	if n := b.books().Totals["gbp"].Received; n != 10_000 {
		t.Errorf("received %dp", n)
	}
}

func (b *box) setupSession(customer string, change ...func(*stripe.CheckoutSessionParams)) (*stripe.CheckoutSession, error) {
	p := &stripe.CheckoutSessionParams{
		Mode: new("setup"), SuccessURL: new(successURL), CancelURL: new(cancelURL), Customer: new(customer),
		PaymentMethodTypes: stripe.StringSlice([]string{"card"}),
		SetupIntentData:    &stripe.CheckoutSessionSetupIntentDataParams{Metadata: map[string]string{"org_id": "org_1"}},
	}
	for _, c := range change {
		c(p)
	}
	return b.api.CheckoutSessions.New(p)
}

func TestSetupMode(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	who := b.customer()
	s, err := b.setupSession(who)
	if err != nil {
		t.Fatal(err)
	}
	if s.Mode != stripe.CheckoutSessionModeSetup || s.SetupIntent == nil || s.PaymentStatus != stripe.CheckoutSessionPaymentStatusNoPaymentRequired ||
		!strings.Contains(string(s.LastResponse.RawJSON), `"amount_total": null`) {
		t.Errorf("%s", s.LastResponse.RawJSON)
	}
	_, page, _ := b.page("/c/pay/" + s.ID)
	if !strings.Contains(page, ">Save card</button>") || strings.Contains(page, "Pay £") || strings.Contains(page, "Pay later") {
		t.Errorf("the page: %s", page)
	}

	// A refused card leaves everything open.
	if status, location, _ := b.submit(s.URL+"/pay", url.Values{"card": {cardNoFunds}}); status != http.StatusSeeOther || location != s.URL {
		t.Errorf("%d to %s", status, location)
	}
	b.post(s.URL + "/decline")
	wait(t, "setup_failed", func() bool { return rc.count("setup_intent.setup_failed") == 2 })
	if _, page, _ := b.page("/c/pay/" + s.ID); !strings.Contains(page, "Your card was declined.") {
		t.Error("the page does not say that the card was declined")
	}
	if status, _, _ := b.post(s.URL + "/pay-later"); status != http.StatusBadRequest {
		t.Errorf("paying later: %d", status)
	}
	if got := b.cards(who); len(got) != 0 {
		t.Errorf("saved: %v", got)
	}

	if status, location, _ := b.submit(s.URL+"/pay", url.Values{"card": {cardAskAgain}}); status != http.StatusSeeOther || !strings.Contains(location, s.ID) || location == s.URL {
		t.Errorf("%d to %s", status, location)
	}
	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("setup_intent.payment_method")
	got, err := b.api.CheckoutSessions.Get(s.ID, p)
	if err != nil {
		t.Fatal(err)
	}
	si := got.SetupIntent
	if got.Status != stripe.CheckoutSessionStatusComplete || got.PaymentIntent != nil || si.Status != stripe.SetupIntentStatusSucceeded ||
		si.Usage != stripe.SetupIntentUsageOffSession || si.Customer.ID != who || si.Metadata["org_id"] != "org_1" || si.LastSetupError != nil {
		t.Errorf("%+v, %+v", got, si)
	}
	if cards := b.cards(who); !slices.Equal(cards, []string{si.PaymentMethod.ID}) || si.PaymentMethod.Card.Last4 != "3184" {
		t.Errorf("saved: %v, %+v", cards, si.PaymentMethod.Card)
	}
	wait(t, "events", func() bool {
		return rc.count("checkout.session.completed") == 1 && rc.count("setup_intent.succeeded") == 1 && rc.count("payment_method.attached") == 1
	})
	if e := rc.first("checkout.session.completed"); e.GetObjectValue("setup_intent") != si.ID || e.GetObjectValue("payment_status") != "no_payment_required" {
		t.Errorf("%s", e.Data.Raw)
	}
	if status, _, page := b.post(b.URL() + "/c/pay/" + s.ID + "/pay"); status != http.StatusConflict || !strings.Contains(page, "Already saved") {
		t.Errorf("saving twice: %d %s", status, page)
	}
	if one, err := b.api.SetupIntents.Get(si.ID, nil); err != nil || one.PaymentMethod.ID != si.PaymentMethod.ID {
		t.Errorf("%v, %+v", err, one)
	}

	gone, err := b.setupSession(who)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.api.CheckoutSessions.Expire(gone.ID, nil); err != nil {
		t.Fatal(err)
	}
	if one, err := b.api.SetupIntents.Get(gone.SetupIntent.ID, nil); err != nil || one.Status != stripe.SetupIntentStatusCanceled {
		t.Errorf("%v, %+v", err, one)
	}
	if n := len(b.books().Payments); n != 0 {
		t.Errorf("%d payments", n)
	}
}

func TestSetupModeValidation(t *testing.T) {
	b := start(t)
	who := b.customer()
	for name, tc := range map[string]struct {
		change func(*stripe.CheckoutSessionParams)
		param  string
	}{
		"items":       {func(p *stripe.CheckoutSessionParams) { p.LineItems = sessionParams(500, "").LineItems }, "line_items"},
		"payment":     {func(p *stripe.CheckoutSessionParams) { p.PaymentIntentData = sessionParams(500, "").PaymentIntentData }, "payment_intent_data"},
		"bacs":        {func(p *stripe.CheckoutSessionParams) { p.PaymentMethodTypes[0] = new("bacs_debit") }, "payment_method_types"},
		"no currency": {func(p *stripe.CheckoutSessionParams) { p.PaymentMethodTypes = nil }, "currency"},
	} {
		_, err := b.setupSession(who, tc.change)
		if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest || e.Param != tc.param {
			t.Errorf("%s: %v", name, e)
		}
	}
	p := sessionParams(500, "tu_1")
	p.SetupIntentData = &stripe.CheckoutSessionSetupIntentDataParams{Description: new("x")}
	_, err := b.api.CheckoutSessions.New(p)
	if e := stripeError(t, err); e.Param != "setup_intent_data" {
		t.Errorf("%v", e)
	}
}

// The customer's bank and Stripe's dashboard act on saved cards, and what they did outlives a restart.
func TestSavedCardControls(t *testing.T) {
	file := t.TempDir() + "/sandbox.db"
	keep := func(o *sandbox.Options) { o.StateFile = file }
	b := start(t, keep)
	who := b.customer()
	one, two := b.saved(who, cardOK), b.saved(who, cardOK)
	if _, page, _ := b.page("/"); !strings.Contains(page, "visa 4242") || !strings.Contains(page, one) {
		t.Error("the overview does not show the saved cards")
	}
	for path, want := range map[string]int{
		"/payment_methods/" + one + "/outcome?outcome=insufficient_funds": http.StatusOK,
		"/payment_methods/" + one + "/outcome?outcome=sometimes":          http.StatusBadRequest,
		"/payment_methods/pm_none/outcome?outcome=succeed":                http.StatusNotFound,
		"/payment_methods/pm_none/detach":                                 http.StatusNotFound,
		"/payment_methods/" + two + "/detach":                             http.StatusOK,
	} {
		if status, _, body := b.post("/sandbox/stripe" + path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, keep)
	if got := b.cards(who); !slices.Equal(got, []string{one}) {
		t.Errorf("saved: %v", got)
	}
	_, err := b.api.PaymentIntents.New(offSession(who, one, 3950))
	if e := stripeError(t, err); e.DeclineCode != stripe.DeclineCodeInsufficientFunds {
		t.Errorf("%v", e)
	}
	_, err = b.api.PaymentIntents.New(offSession(who, two, 3950))
	if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest {
		t.Errorf("%v", e)
	}
	if err := b.Stripe().Detach(one); err != nil {
		t.Error(err)
	}
	if got := b.cards(who); len(got) != 0 {
		t.Errorf("saved: %v", got)
	}
}
