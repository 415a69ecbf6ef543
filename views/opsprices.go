package views

import (
	"net/url"
	"strings"
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// PriceFigures are the figures of a price, or of a version of it.
type PriceFigures struct {
	// Kind is the action.
	Kind TransactionKind
	// State is on, off or inherit.
	State string
	// Unit is of a text's segment, a number or a search; of a call, what must be available for it to start.
	Unit, Monthly money.Pence
	PerMinute     money.USDCents
	// Minute is what a call of a minute costs at PerMinute by today's rate.
	Minute            money.Pence
	ChargeUndelivered bool
}

// Fact is a name and a value.
type Fact struct{ Label, Value string }

// facts are the figures with their names; those of one action stand in the same order.
func (p PriceFigures) facts() []Fact {
	list := []Fact{{"Offered", "No"}}
	switch p.State {
	case "on":
		list[0].Value = "Yes"
	case "inherit":
		return []Fact{{"Offered", "As for everybody"}}
	default:
		return list
	}
	switch p.Kind { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return append(list, Fact{"A minute", p.PerMinute.String() + " (" + p.Minute.String() + ")"}, Fact{"Available to start", p.Unit.String()})
	case KindSMS:
		undelivered := "Not charged"
		if p.ChargeUndelivered {
			undelivered = "Charged"
		}
		return append(list, Fact{"A segment", p.Unit.String()}, Fact{"If not delivered", undelivered})
	case KindNumber:
		return append(list, Fact{"To buy one", p.Unit.String()}, Fact{"Each further month", p.Monthly.String()})
	case KindKnowledge:
		return append(list, Fact{"A search", p.Unit.String()})
	}
	return list
}

// short is the price in a line.
func (p PriceFigures) short() string {
	switch p.State {
	case "off":
		return "Not offered"
	case "inherit":
		return "As for everybody"
	}
	switch p.Kind { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return p.PerMinute.String() + " a minute"
	case KindSMS:
		return p.Unit.String() + " a segment"
	case KindNumber:
		return p.Unit.String() + " a number"
	case KindKnowledge:
		return p.Unit.String() + " a search"
	}
	return p.Unit.String()
}

// more is what the line leaves out, if anything.
func (p PriceFigures) more() string {
	if p.State != "on" {
		return ""
	}
	switch p.Kind { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return p.Minute.String() + " today, " + p.Unit.String() + " to start"
	case KindSMS:
		if !p.ChargeUndelivered {
			return "only if delivered"
		}
		return "delivered or not"
	case KindNumber:
		return p.Monthly.String() + " each further month"
	}
	return ""
}

// PriceVersion is a version of a line of the rate card.
type PriceVersion struct {
	PriceFigures
	// StartsAt is zero for one that was in force from the start.
	StartsAt time.Time
	// By is who added it, Reason why.
	By, Reason string
}

// PriceLine is a line of the rate card with its history.
type PriceLine struct {
	Kind TransactionKind
	// Prefix is without the plus; empty where there is no destination, or none is told.
	Prefix string
	// Place is the country of the prefix, or what its numbers are.
	Place string
	// Now is the version in force, Next the one after it; nil where there is none.
	Now, Next *PriceVersion
	Versions  []PriceVersion // newest start first
}

// title is what the line is for.
func (l PriceLine) title() string {
	switch {
	case l.Prefix != "":
		return l.Place
	case l.Kind == KindCall || l.Kind == KindSMS:
		return "Without a destination"
	}
	return actionTitle(l.Kind)
}

// PriceGroup is many lines that say the same: not offered, for one reason, since the start.
type PriceGroup struct {
	Name  string
	Lines []PriceLine
}

// PriceSection is one action's part of a rate card.
type PriceSection struct {
	Kind   TransactionKind
	Lines  []PriceLine
	Groups []PriceGroup
}

func (s PriceSection) empty() bool { return len(s.Lines) == 0 && len(s.Groups) == 0 }

// PriceOwner is whose rate card it is; the zero value is everybody's.
type PriceOwner struct{ ID, Name string }

// everybody reports whether it is the one for everybody.
func (o PriceOwner) everybody() bool { return o.ID == "" }

func (o PriceOwner) listHref() string {
	if o.everybody() {
		return "/ops/prices"
	}
	return ownPricesHref(o.ID)
}

// newHref is the form for a version of a line.
func (o PriceOwner) newHref(kind TransactionKind, prefix string) string {
	q := url.Values{"action": {string(kind)}}
	if o.ID != "" {
		q.Set("org", o.ID)
	}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	return "/ops/prices/new?" + q.Encode()
}

// OpsPricesPage is the model of a rate card as operators see it.
type OpsPricesPage struct {
	Meta     PageMeta
	Owner    PriceOwner
	Notice   string
	Sections []PriceSection
	// Owners are the organisations with prices of their own.
	Owners []PriceOwner
	// Prefix is what was looked for; empty shows all.
	Prefix string
	// Rate is the exchange rate; on an organisation's own page there is none.
	Rate RateCard
}

func (p OpsPricesPage) title() string {
	if p.Owner.everybody() {
		return "Prices"
	}
	return "Prices of " + p.Owner.Name
}

func (p OpsPricesPage) sub() string {
	if p.Owner.everybody() {
		return "What everybody pays who has no price of their own."
	}
	return "Its own prices. Where it has none, everybody's count."
}

// PriceForm is the form for a version, with what was typed and what is wrong with it.
type PriceForm struct {
	Kind                                                    TransactionKind
	Prefix, State, Unit, Monthly, PerMinute, Starts, Reason string
	// Undelivered is yes or no.
	Undelivered string
	// Seen is the newest version of the line when the form was confirmed.
	Seen string
	// Errors are the messages by the names of the fields.
	Errors map[string]string
}

// PriceFormPage is the model of the form for a version.
type PriceFormPage struct {
	Meta  PageMeta
	Owner PriceOwner
	Form  PriceForm
	Now   time.Time
	// Line is the line as it stands; nil where there is none yet.
	Line *PriceLine
}

func (p PriceFormPage) hasDestination() bool {
	return p.Form.Kind == KindCall || p.Form.Kind == KindSMS
}

func (p PriceFormPage) title() string {
	return "A price for " + strings.ToLower(actionTitle(p.Form.Kind))
}

func (o PriceOwner) words() string {
	if o.everybody() {
		return "For everybody who has no price of their own."
	}
	return "For " + o.Name + " alone."
}

// states are what the form offers.
func (p PriceFormPage) states() []ui.Option {
	list := []ui.Option{{Value: "on", Label: "Offered, at the price below"}, {Value: "off", Label: "Not offered"}}
	if !p.Owner.everybody() {
		list = append(list, ui.Option{Value: "inherit", Label: "As for everybody: its own price ends"})
	}
	return list
}

func (p PriceFormPage) startHint() string {
	return "Empty is now. It is " + p.Now.UTC().Format("2 Jan 2006, 15:04") + " UTC."
}

// unit is the field of the figure in pounds, by what it means.
func (p PriceFormPage) unit() (label, hint string) {
	switch p.Form.Kind { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return "Available to start (£)", "What the wallet must have for a call to begin."
	case KindSMS:
		return "A segment (£)", ""
	case KindNumber:
		return "To buy one (£)", ""
	case KindKnowledge:
		return "A search (£)", ""
	}
	return "Price (£)", ""
}

// PriceConfirmPage is the model of the page that asks before a version is added.
type PriceConfirmPage struct {
	Meta  PageMeta
	Owner PriceOwner
	Form  PriceForm
	// Place is the country of the prefix.
	Place string
	// Was is what counts now, Then what would; nil where nothing is offered.
	Was, Then *PriceFigures
	// StartsAt is zero for now.
	StartsAt time.Time
	// Later are versions of the line that would still take over afterwards, the soonest first.
	Later []PriceVersion
	// Changed says that somebody changed the line since the form was confirmed before.
	Changed bool
}

// PriceChangeRow is one figure before and after.
type PriceChangeRow struct {
	Label, Was, Then string
}

func (r PriceChangeRow) changed() bool { return r.Was != r.Then }

// rows are the figures before and after, those of both sides.
func (p PriceConfirmPage) rows() []PriceChangeRow {
	side := func(f *PriceFigures) []Fact {
		if f == nil {
			return PriceFigures{Kind: p.Form.Kind, State: "off"}.facts()
		}
		return f.facts()
	}
	was, then := side(p.Was), side(p.Then)
	var rows []PriceChangeRow
	for i := range max(len(was), len(then)) {
		r := PriceChangeRow{Was: "–", Then: "–"}
		if i < len(was) {
			r.Label, r.Was = was[i].Label, was[i].Value
		}
		if i < len(then) {
			r.Label, r.Then = then[i].Label, then[i].Value
		}
		rows = append(rows, r)
	}
	return rows
}

// subject is what the price is for.
func (p PriceConfirmPage) subject() string {
	switch {
	case p.Form.Prefix != "":
		return actionTitle(p.Form.Kind) + " to +" + p.Form.Prefix + " (" + p.Place + ")"
	case p.Form.Kind == KindCall || p.Form.Kind == KindSMS:
		return actionTitle(p.Form.Kind) + " without a destination"
	}
	return actionTitle(p.Form.Kind)
}

// hidden are the fields of the form as the confirmation sends them on.
func (p PriceConfirmPage) hidden() []Fact {
	f := p.Form
	return []Fact{
		{"org", p.Owner.ID},
		{"action", string(f.Kind)},
		{"prefix", f.Prefix},
		{"state", f.State},
		{"unit", f.Unit},
		{"monthly", f.Monthly},
		{"per_minute", f.PerMinute},
		{"undelivered", f.Undelivered},
		{"starts", f.Starts},
		{"reason", f.Reason},
		{"seen", f.Seen},
	}
}

// many is how many prefixes are folded away.
func (g PriceGroup) many() string {
	if len(g.Lines) == 1 {
		return "1 prefix"
	}
	return count(int64(len(g.Lines))) + " prefixes"
}
