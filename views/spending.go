package views

import (
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// walletTabs are the pages of the wallet. They are reached from here, so that the navigation stays short.
func walletTabs(path string) ui.TabsProps {
	items := []ui.NavItem{
		{Label: "Overview", Href: "/wallet"},
		{Label: "Transactions", Href: transactionsPath},
		{Label: "Prices", Href: "/wallet/prices"},
		{Label: "Limits", Href: "/wallet/limits"},
		{Label: "Auto top-up", Href: autoTopUpPath},
	}
	for i := range items {
		items[i].Current = items[i].Href == path
	}
	return ui.TabsProps{Label: "Wallet", Items: items}
}

// Spending is what was spent this month, and what is set aside, against a limit.
type Spending struct {
	// Kind is the action; empty for all together.
	Kind  TransactionKind
	Spent money.Pence
	// Limit is nil where there is none.
	Limit *money.Pence
}

// actionTitle is an action as the heading of what belongs to it.
func actionTitle(k TransactionKind) string {
	switch k { //nolint:exhaustive // the kinds that are actions
	case KindCall:
		return "Calls"
	case KindSMS:
		return "Texts"
	case KindNumber:
		return "Phone numbers"
	case KindKnowledge:
		return "Knowledge searches"
	case "":
		return "All together"
	}
	return string(k)
}

// name is the name of its field and the beginning of its ids.
func (s Spending) name() string {
	if s.Kind == "" {
		return "all"
	}
	return string(s.Kind)
}

// percent is how much of the limit is used, rounded down, so that it is 100 only when all of it is.
func (s Spending) percent() int {
	switch {
	case s.Limit == nil:
		return 0
	case s.Spent >= *s.Limit:
		return 100
	}
	return int(max(s.Spent, 0) * 100 / *s.Limit)
}

// words says it beside the bar, and to readers in its place.
func (s Spending) words() string {
	if s.Limit == nil {
		return s.Spent.String() + " (no limit)"
	}
	return s.Spent.String() + " of " + s.Limit.String()
}

// nearly is from how many percent on a limit is worth a warning.
const nearly = 80

// tone is the bar's colour.
func (s Spending) tone() ui.Tone {
	switch p := s.percent(); {
	case p >= 100:
		return ui.ToneBad
	case p >= nearly:
		return ui.ToneWarn
	}
	return ui.ToneInfo
}

// state says in a word what the colour says; without a word where all is well.
func (s Spending) state() ui.StateProps {
	switch p := s.percent(); {
	case p >= 100:
		return ui.StateProps{Word: "Used up", Tone: ui.ToneBad, Icon: ui.IconAlert}
	case p >= nearly:
		return ui.StateProps{Word: "Nearly used up", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{}
}

// SpendingField is the field of one limit, with what was typed and what is wrong with it.
type SpendingField struct {
	Typed, Error string
}

// SpendingPage is the model of the spending limits.
type SpendingPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string
	// Month is any moment of the month that is counted.
	Month time.Time
	// CanEdit is for owners.
	CanEdit bool
	// Lines are all together and then every action.
	Lines []Spending
	// Fields are the form's, one for each line.
	Fields []SpendingField
}

func (p SpendingPage) month() string { return p.Month.UTC().Format("January 2006") }
