package views

import (
	"fmt"
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// MarginFigures are what was charged against what it cost us.
type MarginFigures struct {
	Times   int64
	Charged money.Pence
	// CostMicros is what is known of the cost, in millionths of a dollar, and Cost the same in pounds. Unknown is of how many it
	// is not known.
	CostMicros int64
	Cost       money.Pence
	Unknown    int64
}

// left is what was charged less what is known to have cost us.
func (f MarginFigures) left() money.Pence { return f.Charged - f.Cost }

// dollars writes the known cost to the hundredth of a cent, rounded up where it does not fit.
func dollars(micros int64) string {
	tenThousandths := (micros + 99) / 100
	return fmt.Sprintf("$%d.%04d", tenThousandths/10_000, tenThousandths%10_000)
}

// share is what is left of what was charged, rounded down to a tenth of a percent; nothing where it cannot be said.
func (f MarginFigures) share() string {
	if f.Charged <= 0 || f.Unknown > 0 {
		return ""
	}
	tenths := int64(f.left()) * 1000 / int64(f.Charged)
	sign := ""
	if tenths < 0 {
		sign, tenths = "−", -tenths
	}
	return fmt.Sprintf("%s%d.%d%%", sign, tenths/10, tenths%10)
}

func (f MarginFigures) unknown() string {
	if f.Unknown == 1 {
		return "1 cost is unknown"
	}
	return count(f.Unknown) + " costs are unknown"
}

// MarginLine is one line: of an organisation and an action, or of an action alone.
type MarginLine struct {
	OrgID, Name string
	Kind        TransactionKind
	MarginFigures
}

// NumberCost is what a number of a country costs us a month, from a month on.
type NumberCost struct {
	Country string
	From    time.Time
	Micros  int64
}

// NumberCostForm is the form for one, with what was typed and what is wrong with it by field.
type NumberCostForm struct {
	Country, Monthly, Reason string
	Errors                   map[string]string
}

// MarginPage is the model of a month's margin.
type MarginPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string
	Month  time.Time
	// Previous and Next are the months beside it, as addresses have them; empty where there is none.
	Previous, Next string
	// Rate is the pounds for a dollar by which costs were brought to pounds.
	Rate  string
	Lines []MarginLine
	// Actions are the sums by action, Total is of everything.
	Actions     []MarginLine
	Total       MarginFigures
	NumberCosts []NumberCost
	Form        NumberCostForm
}

func (p MarginPage) month() string { return p.Month.Format("January 2006") }

func (p MarginPage) key() string { return p.Month.Format("2006-01") }

func marginColumns(first string) []ui.Column {
	return []ui.Column{{Label: first, Grow: true}, {Label: "Times", End: true}, {Label: "Charged", End: true}, {Label: "Cost us", End: true}, {Label: "Left", End: true}}
}
