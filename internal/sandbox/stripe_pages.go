package sandbox

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// writePage answers with a page of the overview or the checkout.
func (s *Stripe) writePage(w http.ResponseWriter, status int, name string, model any, formTo ...string) {
	writePage(s.life, s.log, w, status, name, model, formTo...)
}

// checkoutModel is the hosted page.
type checkoutModel struct {
	ID, Status, PaymentStatus string
	Setup, TaxID              bool
	VAT, Business             string // as typed
	Items                     []lineItem
	Cards                     []testCard
	Total                     int64
	Currency                  string
	Description, Email        string
	Declined                  string
	PayLater                  bool
	SuccessURL, CancelURL     string
	Notice                    string
	SettleSeconds             int64
}

func (s *Stripe) mountCheckout(mux *http.ServeMux) {
	mux.HandleFunc("GET /c/pay/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.showCheckout(w, r.PathValue("id"), http.StatusOK, "", entered{})
	})
	for _, a := range []action{actPay, actDecline, actPayLater} {
		mux.HandleFunc("POST /c/pay/{id}/"+string(a), func(w http.ResponseWriter, r *http.Request) {
			id, next := r.PathValue("id"), ""
			typed := entered{card: r.FormValue("card"), vat: r.FormValue("tax_id"), business: strings.TrimSpace(r.FormValue("business_name"))}
			err := s.change(func(tx *txn) (err error) {
				next, err = tx.act(id, a, typed)
				return err
			})
			var closed *notOpenError
			var e *apiError
			switch {
			case err == nil:
				http.Redirect(w, r, next, http.StatusSeeOther)
			case errors.As(err, &closed):
				s.showCheckout(w, id, http.StatusConflict, "", entered{})
			case errors.As(err, &e):
				s.showCheckout(w, id, e.Status, e.Message, typed)
			default:
				s.logFailure(r.Context(), string(a), id, err)
				http.Error(w, "The sandbox could not do this.", http.StatusInternalServerError)
			}
		})
	}
	mux.HandleFunc("GET "+controlPath+"/receipts/{id}", s.showReceipt)
	mux.HandleFunc("GET "+invoicePath+"{id}", s.showInvoice)
	mux.HandleFunc("GET "+invoicePath+"{id}/pdf", s.showInvoice)
	mux.HandleFunc("GET /{$}", s.showIndex)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.writePage(w, http.StatusNotFound, "notice.html", notice{Title: "Nothing here", Text: "The sandbox has no such page."})
	})
}

func (s *Stripe) showCheckout(w http.ResponseWriter, id string, status int, message string, typed entered) {
	s.mu.Lock()
	r := s.sessions.get(id)
	if r == nil {
		s.mu.Unlock()
		s.writePage(w, http.StatusNotFound, "notice.html", notice{
			Title: "No such checkout", Text: "This link does not belong to a checkout session of this sandbox.",
		})
		return
	}
	m := checkoutModel{
		ID: r.Wire.ID, Status: r.Wire.Status, PaymentStatus: r.Wire.PaymentStatus, Items: r.Own.Items, Cards: testCards,
		Total: r.Wire.AmountTotal, Currency: string(r.Wire.Currency), Setup: r.Wire.Mode == modeSetup,
		TaxID: r.Wire.TaxIDCollection != nil && r.Wire.TaxIDCollection.Enabled, VAT: typed.vat, Business: typed.business, CancelURL: string(r.Wire.CancelURL), Notice: message,
		SuccessURL:    strings.ReplaceAll(r.Wire.SuccessURL, "{CHECKOUT_SESSION_ID}", r.Wire.ID),
		PayLater:      r.Wire.AmountTotal > 0 && slices.Contains(r.Wire.PaymentMethodTypes, methodBACS),
		SettleSeconds: int64(s.settleAfter / time.Second),
	}
	if m.Status == sessionOpen && s.now().Unix() >= r.Wire.ExpiresAt {
		m.Status = sessionExpired
	}
	if r.Own.Intent != nil {
		m.Description = r.Own.Intent.Description
	}
	if r.Wire.CustomerDetails != nil {
		m.Email = string(r.Wire.CustomerDetails.Email)
	}
	if pi := s.intents.get(string(r.Wire.PaymentIntent)); pi != nil && pi.Wire.LastPaymentError != nil {
		m.Declined = pi.Wire.LastPaymentError.Message
	}
	if si := s.setups.get(string(r.Wire.SetupIntent)); si != nil && si.Wire.LastSetupError != nil {
		m.Declined = si.Wire.LastSetupError.Message
	}
	s.mu.Unlock()
	s.writePage(w, status, "checkout.html", m, origin(m.SuccessURL))
}

func (s *Stripe) showReceipt(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	ch := s.charges.get(r.PathValue("id"))
	var c charge
	if ch != nil {
		c = ch.Wire
	}
	s.mu.Unlock()
	if ch == nil || !c.Paid {
		s.writePage(w, http.StatusNotFound, "notice.html", notice{Title: "No such receipt", Text: "There is no paid charge of this id."})
		return
	}
	s.writePage(w, http.StatusOK, "receipt.html", c)
}

// indexModel is the overview.
type indexModel struct {
	Base, WebhookURL string
	WebhooksOn       bool
	Twilio, Mail     bool
	Books            Books
	Sessions         []indexSession
	Payments         []indexPayment
	Cards            []indexCard
	Outcomes         []string
	Events           []indexEvent
	Faults           []Fault
	Presets          []faultPreset
}

type indexSession struct {
	session

	Name     string
	Settling bool
}

type indexPayment struct {
	paymentIntent

	Charge     string
	Refundable bool
	Disputable bool
	Refunded   int64
	Dispute    string
	DisputeWas string
}

type indexCard struct {
	ID, Text, Customer, Outcome string
	Created                     int64
}

type indexEvent struct {
	ID, Type, State, Last string
	Created               int64
	Attempts              int
}

type faultPreset struct{ Label, Rules string }

var faultPresets = []faultPreset{
	{"Checkout answers 500 once", `[{"match":"POST /v1/checkout/sessions","do":"500"}]`},
	{"Checkout is made, but answers 500", `[{"match":"POST /v1/checkout/sessions","do":"500_after_acting"}]`},
	{"Checkout times out once", `[{"match":"POST /v1/checkout/sessions","do":"timeout"}]`},
	{"Checkout is made, but times out", `[{"match":"POST /v1/checkout/sessions","do":"timeout_after_acting"}]`},
	{"Checkout is rate limited once", `[{"match":"POST /v1/checkout/sessions","do":"429"}]`},
	{"Checkout hands out a hostile URL", `[{"match":"POST /v1/checkout/sessions","do":"bad_url","url":"https://checkout.stripe.com.evil.example/c/pay/x"}]`},
	{"An off-session charge answers 500 once", `[{"match":"POST /v1/payment_intents","do":"500"}]`},
	{"An off-session charge is made, but times out", `[{"match":"POST /v1/payment_intents","do":"timeout_after_acting"}]`},
	{"Lose the next event", `[{"match":"deliver *","do":"drop"}]`},
	{"Lose a tenth of the events", `[{"match":"deliver *","do":"drop","times":-1,"percent":10}]`},
	{"Deliver each event three times", `[{"match":"deliver *","do":"repeat","times":-1}]`},
	{"Deliver payment_intent.succeeded late", `[{"match":"deliver payment_intent.succeeded","do":"reorder","times":-1}]`},
	{"Sign the next event wrongly", `[{"match":"deliver *","do":"other_signature"}]`},
}

func (s *Stripe) showIndex(w http.ResponseWriter, _ *http.Request) {
	m := indexModel{
		Base: s.base, WebhookURL: s.webhookURL, Books: s.Books(), Faults: s.Faults(), Presets: faultPresets,
		Twilio: s.besideTwilio, Mail: s.besideMail, Outcomes: outcomes,
	}
	s.mu.Lock()
	m.WebhooksOn = !s.settings.WebhooksOff
	for r := range newest(s.sessions.order) {
		row := indexSession{session: *s.sessionView(r), Name: "Saving a card"}
		if len(r.Own.Items) > 0 {
			row.Name = r.Own.Items[0].Name
		}
		if pi := s.intents.get(string(r.Wire.PaymentIntent)); pi != nil {
			row.Settling = pi.Wire.Status == intentProcessing
		}
		m.Sessions = append(m.Sessions, row)
	}
	for r := range newest(s.intents.order) {
		m.Payments = append(m.Payments, s.indexPayment(r))
	}
	m.Cards = s.indexCards()
	for r := range newest(s.events.order) {
		row := indexEvent{ID: r.Wire.ID, Type: r.Wire.Type, Created: r.Wire.Created}
		if d := s.delivery[r.Wire.ID]; d != nil {
			row.State, row.Attempts = d.State, d.Count
			if n := len(d.Attempts); n > 0 {
				row.Last = d.Attempts[n-1].Error
				if st := d.Attempts[n-1].Status; st != 0 {
					row.Last = http.StatusText(st)
				}
			}
		}
		m.Events = append(m.Events, row)
	}
	s.mu.Unlock()
	s.writePage(w, http.StatusOK, "index.html", m)
}

// indexCards gives the newest cards that customers have saved.
func (s *Stripe) indexCards() []indexCard {
	var cards []indexCard
	for _, r := range slices.Backward(s.methods.order) {
		if r.Wire.Customer == "" || len(cards) == indexRows {
			continue
		}
		cards = append(cards, indexCard{
			ID: r.Wire.ID, Text: cardText(&r.Wire), Customer: string(r.Wire.Customer), Created: r.Wire.Created,
			Outcome: cmp.Or(r.Own.Outcome, OutcomeSucceed),
		})
	}
	return cards
}

func (s *Stripe) indexPayment(r *row[paymentIntent]) indexPayment {
	row := indexPayment{paymentIntent: r.Wire, Charge: string(r.Wire.LatestCharge)}
	ch := s.charges.get(row.Charge)
	if ch == nil || !ch.Wire.Paid {
		return row
	}
	row.Refunded = ch.Wire.AmountRefunded
	row.Refundable = ch.Wire.AmountRefunded < ch.Wire.Amount
	row.Disputable = row.Refundable && !ch.Wire.Disputed
	for d := range newest(s.disputes.order) {
		if d.Wire.Charge == row.Charge {
			row.Dispute, row.DisputeWas = d.Wire.ID, d.Wire.Status
			row.Refundable = row.Refundable && d.Wire.IsChargeRefundable
		}
	}
	return row
}
