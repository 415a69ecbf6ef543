package views

import (
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// href is the page that explains the transaction.
func (t Transaction) href() string { return "/wallet/transactions/" + url.PathEscape(t.ID) }

// TransactionFilter is what the history was asked for, as it was asked, and what is wrong with that.
type TransactionFilter struct {
	// From and To are days, as 2006-01-02.
	From, To string
	Kind     TransactionKind
	Text     string

	FromError, ToError, KindError, TextError string
}

// query writes the filter as it stands in an address; more is name, value pairs. What is empty is left out.
func (f TransactionFilter) query(more ...string) string {
	q := url.Values{}
	pairs := append([]string{"from", f.From, "to", f.To, "kind", string(f.Kind), "q", f.Text}, more...)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func (f TransactionFilter) empty() bool {
	return f.From == "" && f.To == "" && f.Kind == "" && f.Text == ""
}

// Wrong reports whether something of it is wrong, so that nothing was looked for.
func (f TransactionFilter) Wrong() bool {
	return f.FromError != "" || f.ToError != "" || f.KindError != "" || f.TextError != ""
}

// TransactionsPage is the model of the wallet's history.
type TransactionsPage struct {
	Meta   PageMeta
	Filter TransactionFilter
	// Kinds are those that can be asked for.
	Kinds        []TransactionKind
	Transactions []Transaction
	// First is false on every page but the newest. Newer and Older say where the pages beside it begin: "after=12" or
	// "before=12" in pieces; empty where there is none.
	First        bool
	Newer, Older string
	// LookedUntil is how far back was looked, where that was not to the end; Looked is how many lines that were.
	LookedUntil time.Time
	Looked      int
	// Count is how many fit in all, and Spent what they cost, where one action is asked for; without Counted neither is known.
	Counted bool
	Count   int64
	Spent   money.Pence
}

const transactionsPath = "/wallet/transactions"

func (p TransactionsPage) newer() string { return transactionsPath + p.Filter.query("after", p.Newer) }

func (p TransactionsPage) older() string { return transactionsPath + p.Filter.query("before", p.Older) }

// csv is the same list as a file.
func (p TransactionsPage) csv() ui.LinkProps {
	if p.Filter.Wrong() || len(p.Transactions) == 0 && p.LookedUntil.IsZero() {
		return ui.LinkProps{}
	}
	return ui.LinkProps{ID: "csv", Label: "Download CSV", Href: transactionsPath + ".csv" + p.Filter.query()}
}

func (p TransactionsPage) kinds() []ui.Option {
	options := []ui.Option{{Value: "", Label: "Everything"}}
	for _, k := range p.Kinds {
		options = append(options, ui.Option{Value: string(k), Label: kindPlural(k)})
	}
	return options
}

// kindPlural is how a list of a kind is called.
func kindPlural(k TransactionKind) string {
	word := kindWord(k).Word
	switch k { //nolint:exhaustive // the ones whose plural is no s
	case KindKnowledge:
		return "Knowledge searches"
	case KindBonus:
		return "Bonuses"
	case KindUsage, KindRent:
		return word
	}
	return word + "s"
}

// title says how many there are, where that is known.
func (p TransactionsPage) title() string {
	switch {
	case p.Filter.Wrong() || !p.Counted:
		return "Transactions"
	case p.Count == 1:
		return "1 transaction"
	}
	return count(p.Count) + " transactions"
}

// sub says what they cost, where one action is asked for.
func (p TransactionsPage) sub() string {
	if p.Counted && p.Spent > 0 {
		return "They cost " + p.Spent.String() + " together."
	}
	return ""
}

// status is what a reader hears when the list has changed.
func (p TransactionsPage) status() string {
	switch {
	case p.Filter.Wrong():
		return "Something in the form is not right."
	case len(p.Transactions) == 0:
		return "No transactions found."
	case p.Counted:
		return p.title() + " found."
	}
	return counted(len(p.Transactions), "transaction") + " on this page."
}

// nothing says what was looked for in vain.
func (p TransactionsPage) nothing() string {
	var parts []string
	if p.Filter.Kind != "" {
		parts = append(parts, "of this kind")
	}
	if p.Filter.From != "" || p.Filter.To != "" {
		parts = append(parts, "in these days")
	}
	if p.Filter.Text != "" {
		parts = append(parts, "with “"+p.Filter.Text+"” in its description or reference")
	}
	return "There is no transaction " + strings.Join(parts, ", ") + "."
}

// TransactionsList is the list alone, with its form.
func TransactionsList(p TransactionsPage) templ.Component {
	return Part(Transactions(p), FragmentHistoryStatus, FragmentHistory)
}

// Doer is who did something, as the organisation may know it.
type Doer struct {
	// Kind is house, user, key or stripe.
	Kind string
	// Name is a person's e-mail or a key's name, Prefix the part of the key that is shown.
	Name, Prefix string
}

// words names the doer.
func (d Doer) words() string {
	switch d.Kind {
	case "user":
		if d.Name == "" {
			return "Somebody who is no member any more"
		}
		return d.Name
	case "key":
		if d.Name == "" {
			return "An API key"
		}
		return "API key “" + d.Name + "” (" + d.Prefix + "…)"
	case "stripe":
		return "Stripe"
	}
	return "Ringfence"
}

// TransactionPosting is one side of a transaction in the books.
type TransactionPosting struct {
	// Account is its name in the books.
	Account string
	// Own says that it is the organisation's.
	Own    bool
	Amount money.Pence
}

// account is the name in plain words, and what a positive amount means.
func (p TransactionPosting) account() string {
	switch p.Account {
	case "wallet/paid":
		return "Your wallet, money you paid in"
	case "wallet/bonus":
		return "Your wallet, bonus"
	case "receivable":
		return "Your debt"
	case "stripe_clearing":
		return "Card payments at Stripe"
	case "bonus_granted":
		return "Bonuses given by Ringfence"
	case "adjustment":
		return "Adjustments by Ringfence"
	case "refunds":
		return "Refunds to cards"
	case "disputes":
		return "Payments taken back by banks"
	case "revenue/call":
		return "Ringfence, for calls"
	case "revenue/sms":
		return "Ringfence, for texts"
	case "revenue/number":
		return "Ringfence, for phone numbers"
	case "revenue/knowledge":
		return "Ringfence, for knowledge searches"
	}
	return p.Account
}

// RateVersion is the version of the exchange rate that something was priced with.
type RateVersion struct {
	// Rate is pounds for one dollar, such as 0.79.
	Rate     string
	Source   string
	StartsAt time.Time
}

// source says where it comes from; the first is the one that the house was set up with.
func (r RateVersion) source() string {
	if r.Source == "USD_TO_GBP_RATE" {
		return "Set by Ringfence"
	}
	return r.Source
}

// since says from when it counts; the first has counted ever since.
func (r RateVersion) since() string {
	if r.StartsAt.Year() <= 1970 {
		return "from the beginning"
	}
	return "from " + r.StartsAt.UTC().Format("2 Jan 2006 15:04") + " UTC"
}

// TransactionTopUp is the card payment behind a top-up.
type TransactionTopUp struct {
	ID, PaymentIntent string
	Paid, Quoted      money.Pence
	USD               money.USDCents
	Rate              RateVersion
	StartedBy         Doer
	// Automatic says that nobody started it: StartedBy had allowed it.
	Automatic bool
	StartedAt time.Time
}

func (t TransactionTopUp) startedLabel() string {
	if t.Automatic {
		return "Automatic, as allowed by"
	}
	return "Started by"
}

// TransactionReversal is a card payment that was given back, or taken back.
type TransactionReversal struct {
	PaymentIntent string
	// Amount was taken (positive) or given again, Bonus is its part from the bonus; Credited is what the payment had brought.
	Amount, Bonus, Credited money.Pence
	CreditID                string
}

// TransactionUse is the hold that something was paid from.
type TransactionUse struct {
	HoldID      string
	Kind        TransactionKind
	Quantity    int64
	Destination string
	// PerMinute is a call's price, Unit everything else's.
	PerMinute  money.USDCents
	Unit       money.Pence
	PriceSince time.Time
	OwnPrice   bool
	Rate       RateVersion
	// Cost is what the quantity costs at that price, Authorised what was set aside at first, Taken what was charged.
	Cost, Authorised, Taken money.Pence
	AskedBy                 Doer
	AuthorisedAt, SettledAt time.Time
}

// arithmetic is how the quantity becomes an amount.
func (u TransactionUse) arithmetic() string {
	quantity := Hold{Kind: u.Kind, Quantity: u.Quantity}.quantity()
	if u.Kind == KindCall {
		return quantity + " × " + u.PerMinute.String() + " a minute × " + u.Rate.Rate + " = " + u.Cost.String() + ", rounded up once"
	}
	return quantity + " × " + u.Unit.String() + " = " + u.Cost.String()
}

// price is the version of the rate card.
func (u TransactionUse) price() string {
	price := u.Unit.String() + " each"
	if u.Kind == KindCall {
		price = u.PerMinute.String() + " a minute, by the second"
	}
	if u.OwnPrice {
		price += ", agreed with you"
	}
	if u.PriceSince.Year() <= 1970 {
		return price + ", from the beginning"
	}
	return price + ", from " + u.PriceSince.UTC().Format("2 Jan 2006 15:04") + " UTC"
}

// TransactionPage is the model of the page that explains a transaction.
type TransactionPage struct {
	Meta PageMeta
	Transaction
	Seq                   int64
	Reference             string
	BalanceBefore         money.Pence
	DebtBefore, DebtAfter money.Pence
	Postings              []TransactionPosting
	By                    Doer
	TopUp                 *TransactionTopUp
	Reversal              *TransactionReversal
	Use                   *TransactionUse
	// Message is the text that this is about, Call the call, where one is known.
	Message, Call string
}

// number is its place in the wallet's history.
func (p TransactionPage) number() string { return "Number " + count(p.Seq) + " of this wallet" }

func (p TransactionPage) messageHref() string { return "/messages/" + url.PathEscape(p.Message) }

// sum is what the postings come to.
func (p TransactionPage) sum() (sum money.Pence) {
	for _, posting := range p.Postings {
		sum += posting.Amount
	}
	return sum
}

// what is a sentence on what this kind of transaction is.
func (p TransactionPage) what() string {
	switch p.Kind {
	case KindTopUp:
		return "A card payment arrived and was added to the wallet."
	case KindAdjustment:
		return "Ringfence corrected the wallet."
	case KindBonus:
		return "Ringfence gave this. It is spent before money that was paid in."
	case KindRefund:
		if p.Reversal != nil && p.Reversal.Amount < 0 {
			return "A refund did not go through, so the money came back to the wallet."
		}
		return "A card payment was refunded, so its money left the wallet."
	case KindDispute:
		if p.Reversal != nil && p.Reversal.Amount < 0 {
			return "The bank returned a disputed card payment, so the money came back to the wallet."
		}
		return "The bank took a disputed card payment back, so its money left the wallet."
	case KindRent:
		return "A month of a phone number, charged at its beginning. What the wallet did not have is owed."
	case KindCall, KindSMS, KindNumber, KindKnowledge, KindUsage:
		return "This was paid from the wallet: set aside before it happened, and taken when it had."
	}
	return ""
}
