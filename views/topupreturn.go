package views

import (
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// TopUpReturnPage is the model of the page that tells how a top-up stands. It says only what we know ourselves: money is
// "added" when it is in the ledger, whatever the address that the payer came back on says.
type TopUpReturnPage struct {
	Meta  PageMeta
	ID    string
	State TopUpState
	// Amount is what was to be charged; for a paid top-up what was credited.
	Amount money.Pence
	// Balance is the wallet's now.
	Balance money.Pence
	// CheckoutURL is Stripe's page, already checked, while it can still be paid.
	CheckoutURL string
	// Note says what happened on the last attempt, such as a declined card.
	Note string
	// CanTopUp is false for those who may only look.
	CanTopUp bool
	// NoDocument says that Stripe was asked for an invoice or receipt and has none.
	NoDocument bool
	// PollURL is this page with its query; empty is /wallet/top-ups/{ID}. The state that is shown is added as "seen": an
	// answer of 204 keeps what is there, so that nothing is read out twice.
	PollURL string
}

// Final reports whether nothing will change any more.
func (s TopUpState) Final() bool {
	return s == TopUpPaid || s == TopUpExpired || s == TopUpFailed
}

// RefreshSeconds is how often a browser without scripts should load the page again: PageMeta.RefreshSeconds of this page.
// An open top-up waits for the person, so it is left in peace.
func (s TopUpState) RefreshSeconds() int {
	switch s {
	case TopUpWaiting, TopUpCreating:
		return 3
	case TopUpProcessing:
		return 60
	case TopUpOpen, TopUpPaid, TopUpExpired, TopUpFailed:
		return 0
	}
	return 0
}

// poll is htmx's trigger: often while a confirmation is due, seldom while a bank takes days.
func (s TopUpState) poll() string {
	switch s {
	case TopUpWaiting, TopUpCreating:
		return "every 1s"
	case TopUpOpen:
		return "every 5s"
	case TopUpProcessing:
		return "every 15s"
	case TopUpPaid, TopUpExpired, TopUpFailed:
		return ""
	}
	return ""
}

// invoiceHref leads to the invoice, or else the receipt, of a payment for a top-up at Stripe; of the newest where none is
// named.
func invoiceHref(topUp, intent string) string {
	to := "/wallet/top-ups/" + url.PathEscape(topUp) + "/invoice"
	if intent != "" {
		to += "?payment=" + url.QueryEscape(intent)
	}
	return to
}

func (p TopUpReturnPage) pollURL() string {
	to := p.PollURL
	if to == "" {
		to = "/wallet/top-ups/" + p.ID
	}
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	return to + sep + "seen=" + string(p.State)
}

// TopUpReturnStatus answers the page's own polling.
func TopUpReturnStatus(p TopUpReturnPage) templ.Component {
	return Part(TopUpReturn(p), FragmentReturn)
}

// returnWords are the icon, its colour and the title of a state.
func returnWords(p TopUpReturnPage) (icon ui.IconProps, class, title string) {
	switch p.State {
	case TopUpPaid:
		return ui.IconProps{Name: ui.IconCheck, Large: true}, "bg-good-soft text-good", "Your wallet was topped up"
	case TopUpCreating, TopUpWaiting:
		return ui.IconProps{Name: ui.IconSpinner, Large: true, Spin: true}, "bg-accent-soft text-accent", "Waiting for confirmation"
	case TopUpProcessing:
		return ui.IconProps{Name: ui.IconBank, Large: true}, "bg-accent-soft text-accent", "Your bank is processing the payment"
	case TopUpOpen:
		return ui.IconProps{Name: ui.IconClock, Large: true}, "bg-sunken text-muted", "Not paid yet"
	case TopUpExpired:
		return ui.IconProps{Name: ui.IconOff, Large: true}, "bg-sunken text-muted", "The payment page expired"
	case TopUpFailed:
		return ui.IconProps{Name: ui.IconError, Large: true}, "bg-bad-soft text-bad", "The payment did not go through"
	}
	return ui.IconProps{Name: ui.IconWarning, Large: true}, "bg-warn-soft text-warn", "We do not know yet how this stands"
}
