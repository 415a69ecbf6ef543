package views

import (
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// Balance is the state of a wallet.
type Balance struct {
	// Balance is all the money in the wallet; Held is the part that is set aside for what is under way, and Reserved what of
	// that is on its way back to cards.
	Balance, Held, Reserved money.Pence
	// Seen names this state of the wallet: the stream sends nothing until there is another.
	Seen string
	// Debt is what is owed, as a positive amount.
	Debt money.Pence
	// USD is the balance in dollars, for orientation.
	USD money.USDCents
	// EstimatedCredits is money.EstimatedCredits of what is available.
	EstimatedCredits int64
	// FrozenAt is since when nothing may be spent; zero where it may.
	FrozenAt time.Time
	// ClosedAt is since when the account is closed; zero while it is open.
	ClosedAt time.Time
	// Month is what was spent this month against the limit for all together.
	Month Spending
}

// Available is what can be spent now.
func (b Balance) Available() money.Pence { return b.Balance - b.Held }

// TransactionKind is what a transaction of the ledger was for.
type TransactionKind string

// The kinds that have a word and a drawing of their own; any other is shown as plain.
const (
	KindTopUp      TransactionKind = "top_up"
	KindCall       TransactionKind = "call"
	KindSMS        TransactionKind = "sms"
	KindNumber     TransactionKind = "number"
	KindKnowledge  TransactionKind = "knowledge"
	KindRefund     TransactionKind = "refund"
	KindDispute    TransactionKind = "dispute"
	KindAdjustment TransactionKind = "adjustment"
	KindBonus      TransactionKind = "bonus"
	KindRent       TransactionKind = "rent"
	KindUsage      TransactionKind = "usage" // used, without saying what
)

// Transaction is one line of the wallet's history.
type Transaction struct {
	ID          string
	At          time.Time
	Description string
	Kind        TransactionKind
	// Amount is signed: positive is money that came in.
	Amount       money.Pence
	BalanceAfter money.Pence
}

func kindWord(k TransactionKind) ui.KindProps {
	switch k {
	case KindTopUp:
		return ui.KindProps{Word: "Top-up", Icon: ui.IconMoneyIn}
	case KindCall:
		return ui.KindProps{Word: "Call", Icon: ui.IconPhone}
	case KindSMS:
		return ui.KindProps{Word: "Text", Icon: ui.IconMessage}
	case KindNumber:
		return ui.KindProps{Word: "Number", Icon: ui.IconNumber}
	case KindKnowledge:
		return ui.KindProps{Word: "Knowledge", Icon: ui.IconKnowledge}
	case KindRefund:
		return ui.KindProps{Word: "Refund", Icon: ui.IconRefund}
	case KindDispute:
		return ui.KindProps{Word: "Dispute", Icon: ui.IconDispute}
	case KindAdjustment:
		return ui.KindProps{Word: "Adjustment", Icon: ui.IconAdjustment}
	case KindBonus:
		return ui.KindProps{Word: "Bonus", Icon: ui.IconBonus}
	case KindRent:
		return ui.KindProps{Word: "Rent", Icon: ui.IconNumber}
	case KindUsage:
		return ui.KindProps{Word: "Usage", Icon: ui.IconMoneyOut}
	default:
		return ui.KindProps{Word: "Other", Icon: ui.IconReceipt}
	}
}

// TopUpState is where a top-up stands.
type TopUpState string

// The states. Waiting is an open top-up whose payer came back from Stripe's page and whose confirmation is still due.
const (
	TopUpCreating   TopUpState = "creating"
	TopUpOpen       TopUpState = "open"
	TopUpWaiting    TopUpState = "waiting"
	TopUpProcessing TopUpState = "processing"
	TopUpPaid       TopUpState = "paid"
	TopUpExpired    TopUpState = "expired"
	TopUpFailed     TopUpState = "failed"
)

func topUpState(s TopUpState) ui.StateProps {
	switch s {
	case TopUpCreating, TopUpOpen:
		return ui.StateProps{Word: "Not paid yet", Tone: ui.ToneNeutral, Icon: ui.IconClock}
	case TopUpWaiting:
		return ui.StateProps{Word: "Waiting for confirmation", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case TopUpProcessing:
		return ui.StateProps{Word: "With your bank", Tone: ui.ToneInfo, Icon: ui.IconBank}
	case TopUpPaid:
		return ui.StateProps{Word: "Paid", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case TopUpExpired:
		return ui.StateProps{Word: "Expired", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case TopUpFailed:
		return ui.StateProps{Word: "Failed", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: "Not known", Tone: ui.ToneWarn, Icon: ui.IconWarning}
}

// OpenTopUp is a top-up that is not finished.
type OpenTopUp struct {
	ID    string
	At    time.Time
	State TopUpState
	// Amount is what will be charged and credited.
	Amount money.Pence
	// CheckoutURL is Stripe's page, already checked; empty when there is nothing to continue.
	CheckoutURL string
	// Note says what happened on the last attempt, such as a declined card.
	Note string
}

// statusPath is the page that tells about this top-up.
func (t OpenTopUp) statusPath() string { return "/wallet/top-ups/" + t.ID }

// Hold is money that is set aside for something that has not ended.
type Hold struct {
	ID   string
	Kind TransactionKind
	// Quantity is in the action's own unit: seconds, segments, numbers, searches.
	Quantity int64
	// Destination is where a call or text goes; empty where that is not told.
	Destination string
	Amount      money.Pence
	At          time.Time
	// ExpiresAt is when the money is free again if nothing is heard; zero while a provider has it, whose answer ends it.
	ExpiresAt time.Time
}

// quantity is how much of what.
func (h Hold) quantity() string {
	switch h.Kind { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return counted(int(h.Quantity), "second")
	case KindSMS:
		return counted(int(h.Quantity), "segment")
	case KindNumber:
		return counted(int(h.Quantity), "number")
	case KindKnowledge:
		if h.Quantity == 1 {
			return "1 search"
		}
		return count(h.Quantity) + " searches"
	}
	return count(h.Quantity)
}

// title is what the money is for; where it goes is said apart.
func (h Hold) title() string {
	switch h.Kind { //nolint:exhaustive // the kinds whose own word is not enough
	case KindNumber:
		return "Phone number"
	case KindKnowledge:
		return "Knowledge search"
	}
	return kindWord(h.Kind).Word
}

// Preset is an amount at one click. The dollars are the button's, the pence are what the server will charge.
type Preset struct {
	USD   money.USDCents
	Pence money.Pence
	Shown Shown
}

// id names a part of the preset's form.
func (p Preset) id(part string) string {
	return "preset-" + strconv.FormatInt(int64(p.USD), 10) + "-" + part
}

// Shown is a quote as its form sends it back, by which one sees whether what was agreed to still counts.
type Shown struct {
	Pence money.Pence
	// RateID is the version of the exchange rate it was made with.
	RateID int64
	At     time.Time
}

// hidden are its fields; none where nothing was shown.
func (s Shown) hidden() []Fact {
	if s == (Shown{}) {
		return nil
	}
	return []Fact{
		{"quoted_pence", strconv.FormatInt(int64(s.Pence), 10)},
		{"quoted_rate", strconv.FormatInt(s.RateID, 10)},
		{"quoted_at", strconv.FormatInt(s.At.Unix(), 10)},
	}
}

// Quote is what an amount will cost, as the server computed it.
type Quote struct {
	Pence            money.Pence
	USD              money.USDCents
	EstimatedCredits int64
	Shown            Shown
}

// TopUpForm is the form for a custom amount, with what was typed and what is wrong with it.
type TopUpForm struct {
	Amount string
	// Currency is usd or gbp; empty is usd.
	Currency string
	// Error belongs beside the amount.
	Error string
	// OfferSaving offers to save the card for automatic top-ups, SaveCard is that somebody wants it.
	OfferSaving, SaveCard bool
	// SavingWords are what is agreed to with that.
	SavingWords string
	// Was is what a quote that counts no more had said; zero where none has changed.
	Was money.Pence
}

func (f TopUpForm) currency() string {
	if f.Currency == "gbp" {
		return "gbp"
	}
	return "usd"
}

// WalletPage is the model of the wallet.
type WalletPage struct {
	Meta    PageMeta
	Balance Balance
	// CanTopUp is false for those who may only look.
	CanTopUp bool
	// Min and Max are the limits of a top-up, in pounds and, for the hint, in dollars.
	Min, Max       money.Pence
	MinUSD, MaxUSD money.USDCents
	Presets        []Preset
	Form           TopUpForm
	// Quote is nil until there is an amount to quote.
	Quote      *Quote
	OpenTopUps []OpenTopUp
	// Holds are the newest that have not ended; MoreHolds says that there are others.
	Holds        []Hold
	MoreHolds    bool
	Transactions []Transaction
	// Auto is how automatic top-ups stand.
	Auto AutoGlance
}

func (p WalletPage) hint() string {
	return "From " + p.Min.String() + " to " + p.Max.String() + " (about " + p.MinUSD.String() + " to " + p.MaxUSD.String() + ")."
}

// WalletBalance is the server-sent event "balance": the content of the card, the sentence that is read out, and whether the
// wallet is frozen.
func WalletBalance(p WalletPage) templ.Component {
	return Part(Wallet(p), FragmentFrozen, FragmentBalanceStatus, FragmentBalance)
}

// WalletTransactions is the server-sent event "transactions".
func WalletTransactions(p WalletPage) templ.Component { return Part(Wallet(p), FragmentTransactions) }

// WalletQuote answers POST /wallet/quote: the quote, or with 422 the message beside the amount, each clearing the other.
func WalletQuote(p WalletPage) templ.Component {
	return Part(Wallet(p), FragmentAmountError, FragmentQuote)
}

// WalletTopUpForm answers a top-up that was refused with 422: the form again, with what was typed and what is wrong.
func WalletTopUpForm(p WalletPage) templ.Component { return Part(Wallet(p), FragmentTopUpForm) }

// WalletQuoteChanged answers a top-up whose price has changed since it was shown, with 422: the form with the price of now,
// and that of the presets.
func WalletQuoteChanged(p WalletPage) templ.Component {
	return templ.Join(WalletTopUpForm(p), presetsAnew(p.Presets))
}

// stream is where the open page hears of another state of the wallet than the one it shows.
func (b Balance) stream() string { return "/wallet/stream?seen=" + url.QueryEscape(b.Seen) }
