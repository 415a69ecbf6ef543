package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/money"
	"ringfence/internal/phone"
)

// Kinds are all there are, in the order in which people are asked whether they want mail about them.
var Kinds = []Kind{
	LowBalance, TopUpSucceeded, TopUpFailed, CardAttention, AutoTopUpEnded, DisputeOpened, DisputeClosed,
	NumberFailed, NumberRentDue, NumberRentUnpaid, NumberReleased, AccountClosing, WebhookDisabled,
}

// About says in a few words what a kind is about, for a list of them.
func (k Kind) About() string {
	switch k {
	case LowBalance:
		return "The balance is low"
	case TopUpSucceeded:
		return "A top-up has arrived"
	case TopUpFailed:
		return "A top-up has failed"
	case CardAttention:
		return "The saved card needs attention"
	case AutoTopUpEnded:
		return "Automatic top-ups have stopped"
	case DisputeOpened:
		return "A payment is disputed"
	case DisputeClosed:
		return "A dispute has ended"
	case AccountClosing:
		return "The account was closed"
	case NumberFailed:
		return "A phone number could not be bought"
	case NumberRentDue:
		return "The wallet does not cover a number's rent"
	case NumberRentUnpaid:
		return "A number's rent is owed"
	case NumberReleased:
		return "A number is given back by us"
	case WebhookDisabled:
		return "A webhook endpoint was switched off"
	}
	return string(k)
}

// Words are a notice as people read it.
type Words struct {
	Title, Text string
	// Path is the page to go on from, and Link what it is called.
	Path, Link string
	// Bad says that something is wrong, rather than merely so.
	Bad bool
}

// figures are what notices are raised with.
type figures struct {
	Amount         money.Pence `json:"amount_pence"`
	Available      money.Pence `json:"available_pence"`
	Mark           money.Pence `json:"mark_pence"`
	Automatic      bool        `json:"automatic"`
	Authentication bool        `json:"authentication"`
	Brand          string      `json:"brand"`
	Last4          string      `json:"last4"`
	Reason         string      `json:"reason"`
	Status         string      `json:"status"`
	Number         string      `json:"number_id"`
	PhoneNumber    string      `json:"phone_number"`
	Needed         money.Pence `json:"needed_pence"`
	Owed           money.Pence `json:"owed_pence"`
	Debt           money.Pence `json:"debt_pence"`
	ByOperator     bool        `json:"by_operator"`
	DueAt          time.Time   `json:"due_at"`
	ReleaseAt      time.Time   `json:"release_at"`
	URL            string      `json:"url"`
	Endpoint       string      `json:"endpoint"`
}

// words tells a notice of a kind with its figures.
func words(kind Kind, data []byte) (Words, error) {
	var f figures
	if err := json.Unmarshal(data, &f); err != nil {
		return Words{}, fmt.Errorf("couldn't read the figures of a notice about %q: %w", kind, err)
	}
	card := "the saved card"
	if f.Last4 != "" {
		card = fmt.Sprintf("the saved card (%s ending in %s)", brand(f.Brand), f.Last4)
	}
	w := Words{Title: kind.About(), Path: "/wallet", Link: "Open the wallet"}
	switch kind {
	case NumberRentDue, NumberRentUnpaid, NumberReleased, NumberFailed:
		return f.aboutNumber(kind), nil
	case LowBalance:
		w.Title = "Your balance is low"
		w.Text = fmt.Sprintf("%s is available, which is below your mark of %s. When it is used up, calls and texts are refused. Top up now, or have it done automatically.", f.Available, f.Mark)
		w.Link, w.Bad = "Top up", true
	case TopUpSucceeded:
		w.Title = fmt.Sprintf("%s was added to your wallet", f.Amount)
		w.Text = fmt.Sprintf("Your top-up of %s has arrived and can be spent.", f.Amount)
		if f.Automatic {
			w.Text = fmt.Sprintf("Your balance was low, so %s was topped up automatically by the saved card.", f.Amount)
		}
		w.Path, w.Link = "/wallet/transactions", "See your transactions"
	case TopUpFailed:
		w.Title = fmt.Sprintf("Your top-up of %s failed", f.Amount)
		w.Text = fmt.Sprintf("The payment of %s did not go through, so nothing was added to your wallet. Try again, perhaps with another card.", f.Amount)
		w.Link, w.Bad = "Top up again", true
	case CardAttention:
		w.Text = fmt.Sprintf("An automatic top-up of %s by %s did not go through. Nothing was charged.%s", f.Amount, card, said(f.Reason))
		if f.Authentication {
			w.Title = "Your bank wants you to confirm a payment"
			w.Text = fmt.Sprintf("The bank wants to see the owner of %s before it pays the automatic top-up of %s. Nothing was charged. Confirm it once, and automatic top-ups go on.", card, f.Amount)
		}
		w.Path, w.Link, w.Bad = "/wallet/auto-top-up", "Look after the card", true
	case AutoTopUpEnded:
		w.Text = fmt.Sprintf("Your wallet is no longer topped up automatically.%s", said(f.Reason))
		w.Path, w.Link, w.Bad = "/wallet/auto-top-up", "Set up automatic top-ups", true
	case DisputeOpened:
		w.Title = fmt.Sprintf("A payment of %s is disputed", f.Amount)
		w.Text = fmt.Sprintf("The cardholder's bank disputes a payment of %s into your wallet. The amount may be taken back while the bank decides. If this is a mistake, tell your bank; if not, contact us.", f.Amount)
		w.Bad = true
	case DisputeClosed:
		w.Title = fmt.Sprintf("The dispute over %s has ended", f.Amount)
		w.Text = "The bank has decided against the payment, and its amount stays taken back."
		if f.Status == "won" {
			w.Text = "The bank has decided for the payment. What had been taken from your wallet is given back."
		}
		w.Bad = f.Status != "won"
		w.Path, w.Link = "/wallet/transactions", "See your transactions"
	case AccountClosing:
		w.Title = "Your account was closed"
		w.Text = "Nothing can be spent or paid in any more. Your history stays readable." + said(f.Reason)
		w.Path, w.Link, w.Bad = "/wallet/transactions", "See your transactions", true
	case WebhookDisabled:
		w.Text = fmt.Sprintf("%s is no longer told what happens.%s Mend it, switch it on, and send again what it missed.", f.URL, said(f.Reason))
		w.Path, w.Link, w.Bad = "/settings/webhooks/"+f.Endpoint, "Look at the endpoint", true
	}
	return w, nil
}

// aboutNumber tells a notice about a phone number.
func (f figures) aboutNumber(kind Kind) Words {
	number, day := cmp.Or(phone.Text(f.PhoneNumber), "a phone number"), func(t time.Time) string { return t.UTC().Format("2 January 2006") }
	w := Words{Title: kind.About(), Path: "/wallet", Link: "Top up", Bad: true}
	switch kind {
	case NumberRentDue:
		w.Title = fmt.Sprintf("Your wallet does not cover the rent of %s", number)
		w.Text = fmt.Sprintf("The next month of %s, %s, is charged on %s. %s is available, and %s of rent is due by then. Top up before that day, or release the number.",
			number, f.Amount, day(f.DueAt), f.Available, max(f.Needed, f.Amount))
		if f.Debt > 0 {
			w.Text += fmt.Sprintf(" %s is owed already.", f.Debt)
		}
	case NumberRentUnpaid:
		w.Title = fmt.Sprintf("The rent of %s is not paid", number)
		w.Text = fmt.Sprintf("A month of %s has begun, and of its %s your wallet did not have %s. The number goes on working for now. Top up what is owed before %s: from that day on it is released, and it cannot be had back.",
			number, f.Amount, f.Owed, day(f.ReleaseAt))
	case NumberReleased:
		w.Title = fmt.Sprintf("%s is released", number)
		w.Text = fmt.Sprintf("The rent of %s was not paid in time, so it is given back. Nobody reaches you on it any more, and no more rent is charged. What was owed, %s in all, is still owed.", number, f.Debt)
		if f.ByOperator {
			w.Text = fmt.Sprintf("We have given %s back. Nobody reaches you on it any more, no agent has it, and no more rent is charged. Contact us if you were not told why.", number)
		}
		w.Path, w.Link = f.page(), "See the number"
	case NumberFailed:
		w.Title = fmt.Sprintf("%s could not be bought", number)
		w.Text = cmp.Or(phone.In(f.Reason), "It was not bought.")
		if f.Amount > 0 {
			w.Text += fmt.Sprintf(" The %s that was set aside for it is yours again.", f.Amount)
		}
		w.Path, w.Link = "/numbers", "Choose a number"
	case LowBalance, TopUpSucceeded, TopUpFailed, CardAttention, AutoTopUpEnded, DisputeOpened, DisputeClosed, AccountClosing, WebhookDisabled:
	}
	return w
}

// page is the number's own, where it is known.
func (f figures) page() string {
	if _, err := uuid.Parse(f.Number); err != nil {
		return "/numbers"
	}
	return "/numbers/" + f.Number
}

// said is a reason as the next sentence.
func said(reason string) string {
	if reason == "" {
		return ""
	}
	return " " + reason
}

// brand writes a card's brand as its owner knows it.
func brand(b string) string {
	names := map[string]string{"visa": "Visa", "mastercard": "Mastercard", "amex": "American Express", "": "card"}
	if name, ok := names[b]; ok {
		return name
	}
	return b
}
