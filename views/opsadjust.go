package views

import (
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// WalletFigures are a wallet's as a confirmation shows them.
type WalletFigures struct {
	Balance, Available, Bonus, Debt money.Pence
}

// changes are the figures before and after.
func (w WalletFigures) changes(then WalletFigures) []PriceChangeRow {
	return []PriceChangeRow{
		{"Balance", w.Balance.String(), then.Balance.String()},
		{"Available", w.Available.String(), then.Available.String()},
		{"Of it bonus", w.Bonus.String(), then.Bonus.String()},
		{"Debt", w.Debt.String(), then.Debt.String()},
	}
}

// AdjustForm is the form for an adjustment, with what was typed and what is wrong with it.
type AdjustForm struct {
	// Kind is credit, debit or bonus.
	Kind, Amount, Reason, Reference string
	// Shown is what was available when the form was confirmed, in pence; empty where it was not yet.
	Shown string
	// Errors are the messages by the names of the fields.
	Errors map[string]string
}

func (f AdjustForm) kinds() []ui.Choice {
	return []ui.Choice{
		{ID: "kind-credit", Value: "credit", Label: "Credit"},
		{ID: "kind-debit", Value: "debit", Label: "Debit"},
		{ID: "kind-bonus", Value: "bonus", Label: "Bonus"},
	}
}

// hidden are the fields of the form as the confirmation sends them on.
func (f AdjustForm) hidden() []Fact {
	return []Fact{{"kind", f.Kind}, {"amount", f.Amount}, {"reason", f.Reason}, {"reference", f.Reference}, {"shown", f.Shown}}
}

// AdjustPage is the model of the form for an adjustment.
type AdjustPage struct {
	Meta PageMeta
	// ID and Name are the organisation's.
	ID, Name string
	Now      WalletFigures
	Form     AdjustForm
	// Limit is the most that one adjustment moves.
	Limit money.Pence
}

func (p AdjustPage) hint() string { return "In pounds, at most " + p.Limit.String() + " at once." }

// AdjustConfirmPage is the model of the page that says what an adjustment would do, before it does it.
type AdjustConfirmPage struct {
	Meta     PageMeta
	ID, Name string
	Form     AdjustForm
	// Amount is signed, as the customer will see it come or go.
	Amount    money.Pence
	Now, Then WalletFigures
	// Repays is the part of what is given that repays debt.
	Repays money.Pence
	// DoneAt is when the same was done before, under the same reference; zero where it is new.
	DoneAt time.Time
}

func (p AdjustConfirmPage) title() string {
	if !p.DoneAt.IsZero() {
		return "This was done already"
	}
	switch p.Form.Kind {
	case "debit":
		return "Take " + (-p.Amount).String() + " from this wallet?"
	case "bonus":
		return "Give a bonus of " + p.Amount.String() + "?"
	}
	return "Credit " + p.Amount.String() + " to this wallet?"
}

func (p AdjustConfirmPage) press() string {
	switch p.Form.Kind {
	case "debit":
		return "Take " + (-p.Amount).String()
	case "bonus":
		return "Give this bonus"
	}
	return "Credit " + p.Amount.String()
}

// kind is the word that stands beside the line in the customer's history.
func (p AdjustConfirmPage) kind() ui.KindProps {
	if p.Form.Kind == "bonus" {
		return kindWord(KindBonus)
	}
	return kindWord(KindAdjustment)
}
