package views

import (
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// Destination is a place that calls or texts go to, with its price.
type Destination struct {
	// Name is a country, or a sort of number that is not offered.
	Name string
	// Prefixes are what its numbers begin with, such as "+44".
	Prefixes []string
	Offered  bool
	// Own says that the price is this organisation's own.
	Own bool
	// Price is of a minute or a segment, in pounds and in dollars.
	Price money.Pence
	USD   money.USDCents
	// Start is what must be available for a call to begin.
	Start money.Pence
	// Undelivered says that a text is charged also when it could not be delivered.
	Undelivered bool
}

// note is what belongs to the price of an action.
func (d Destination) note(k TransactionKind) string {
	switch {
	case k == KindCall:
		return d.Start.String() + " to start"
	case d.Undelivered:
		return "delivered or not"
	}
	return "only if delivered"
}

// prefixesInView is how many prefixes a row shows before it folds them away.
const prefixesInView = 2

// Example is what a call of some length costs.
type Example struct {
	Seconds int
	Cost    money.Pence
}

func (e Example) length() string { return counted(e.Seconds, "second") }

// CallPrices are the prices of calls.
type CallPrices struct {
	// PerMinute is the price that the examples are made with, and Start what must be available for such a call; zero where
	// calls are not offered anywhere.
	PerMinute    money.USDCents
	Start        money.Pence
	Examples     []Example
	Destinations []Destination
}

// FlatPrice is the price of what has no destination.
type FlatPrice struct {
	Offered, Own bool
	Price        money.Pence
	USD          money.USDCents
	// Monthly is a number's price for each month after the first.
	Monthly    money.Pence
	MonthlyUSD money.USDCents
}

// ExchangeRate is the version of the rate that prices in dollars are turned into pounds by.
type ExchangeRate struct {
	// Pounds is what a dollar is worth, such as "0.79".
	Pounds  string
	Version int64
	// Since is zero for one that has been in force from the start.
	Since time.Time
}

// CostForm is the form that asks what something would cost, with what was typed and what is wrong with it.
type CostForm struct {
	Action                          TransactionKind
	Quantity, Destination           string
	QuantityError, DestinationError string
}

func (f CostForm) wrong() bool { return f.QuantityError != "" || f.DestinationError != "" }

// CostAnswer is what it would cost.
type CostAnswer struct {
	What Hold
	// Place is the country of the destination; empty where there is none.
	Place string
	// NotOffered says why it cannot be had; the rest is empty then.
	NotOffered string
	USD        money.USDCents
	// Required is what must be available for it to begin.
	Required money.Pence
}

// subject is what was asked about, in words.
func (c CostAnswer) subject() string {
	text := c.What.title()
	if c.What.Destination != "" {
		text += " to " + strings.ReplaceAll(c.What.Destination, " ", "\u00a0")
	}
	text += ", " + c.What.quantity()
	if c.Place != "" {
		text += " (" + c.Place + ")"
	}
	return text
}

// sentence is the answer for readers.
func (c CostAnswer) sentence() string {
	if c.NotOffered != "" {
		return c.NotOffered
	}
	return "It would cost " + c.What.Amount.String() + "."
}

// PricesPage is the model of an organisation's price list.
type PricesPage struct {
	Meta      PageMeta
	Calls     CallPrices
	Texts     []Destination
	Number    FlatPrice
	Knowledge FlatPrice
	Rate      ExchangeRate
	// VAT is the sentence on how prices and top-ups stand to VAT; empty says nothing.
	VAT  string
	Form CostForm
	// Answer is nil until something was asked.
	Answer *CostAnswer
}

// actionChoices are the actions as something to choose from.
func actionChoices() []ui.Option {
	return []ui.Option{
		{Value: string(KindCall), Label: "Call"},
		{Value: string(KindSMS), Label: "Text"},
		{Value: string(KindNumber), Label: "Phone number"},
		{Value: string(KindKnowledge), Label: "Knowledge search"},
	}
}

// costButton gets the focus back by its id; where something is wrong the field takes it instead.
func (p PricesPage) costButton() ui.ButtonProps {
	b := ui.ButtonProps{Label: "Show the cost", Variant: ui.ButtonPrimary, Size: ui.ButtonLarge, Wide: true}
	if !p.Form.wrong() {
		b.ID = "cost-submit"
	}
	return b
}

// callSub says how calls are charged.
func (c CallPrices) sub() string {
	if c.PerMinute == 0 {
		return "Not offered at present."
	}
	return "Charged by the second, rounded up once to the penny for each call."
}

// many is how many prefixes are folded away.
func (d Destination) many() string { return strconv.Itoa(len(d.Prefixes)) + " prefixes" }

// WalletCost answers the question what something would cost: the form again with the answer, or with 422 what is wrong.
func WalletCost(p PricesPage) templ.Component {
	return Part(Prices(p), FragmentCostStatus, FragmentCost)
}
