package views

import (
	"time"

	"ringfence/internal/money"
)

// RateVersionFull is a version of the exchange rate with who added it and why.
type RateVersionFull struct {
	RateVersion

	// By is who added it, Reason why.
	By, Reason string
}

// RateCard is the exchange rate with its history.
type RateCard struct {
	// Now is the version in force, Next the one after it; nil where there is none.
	Now, Next *RateVersionFull
	Versions  []RateVersionFull // newest start first
}

// RateForm is the form for a version of the exchange rate, with what was typed and what is wrong with it.
type RateForm struct {
	Rate, Source, Starts, Reason string
	// Seen is the newest version when the form was confirmed.
	Seen string
	// Errors are the messages by the names of the fields.
	Errors map[string]string
}

func (f RateForm) hidden() []Fact {
	return []Fact{{"rate", f.Rate}, {"source", f.Source}, {"starts", f.Starts}, {"reason", f.Reason}, {"seen", f.Seen}}
}

// RateFormPage is the model of the form for a version.
type RateFormPage struct {
	Meta PageMeta
	Form RateForm
	Now  time.Time
	Card RateCard
}

func (p RateFormPage) startHint() string { return PriceFormPage{Now: p.Now}.startHint() }

// RateExample is what something in dollars costs in pounds before and after.
type RateExample struct {
	What      string
	Was, Then money.Pence
}

// RateConfirmPage is the model of the page that asks before a version is added.
type RateConfirmPage struct {
	Meta PageMeta
	Form RateForm
	// Was is the version that counts until then, Then what would.
	Was, Then string
	// StartsAt is zero for now.
	StartsAt time.Time
	Examples []RateExample
	// Change is by how much it changes, such as "+12.7%".
	Change string
	// Large asks a second time, since it changes by more than a tenth; Sure does.
	Large, Sure bool
	// Later are versions that would still take over afterwards, the soonest first.
	Later []RateVersion
	// Changed says that somebody set the rate since the form was confirmed before.
	Changed bool
}

func (p RateConfirmPage) title() string {
	if p.Sure {
		return "Do you mean " + p.Change + "?"
	}
	return "Set this exchange rate?"
}

// press is the value of the button that goes on: to the second question, or to the deed.
func (p RateConfirmPage) press() (label, value string) {
	switch {
	case p.Sure:
		return "Yes, change it by " + p.Change, "sure"
	case p.Large:
		return "Go on", "yes"
	}
	return "Set this rate", "yes"
}

// rows are the figures before and after.
func (p RateConfirmPage) rows() []PriceChangeRow {
	rows := []PriceChangeRow{{"A dollar in pounds", p.Was, p.Then}}
	for _, e := range p.Examples {
		rows = append(rows, PriceChangeRow{e.What, e.Was.String(), e.Then.String()})
	}
	return rows
}
