package views

import (
	"fmt"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

const autoTopUpPath = "/wallet/auto-top-up"

// AutoState is how automatic top-ups stand.
type AutoState string

// The states. Paused stands before all others while operators have stopped automatic top-ups for everybody.
const (
	AutoOff            AutoState = "off"
	AutoReady          AutoState = "ready"
	AutoCoolingDown    AutoState = "cooling_down"
	AutoAuthentication AutoState = "needs_authentication"
	AutoStopped        AutoState = "stopped"
)

// On reports whether they are turned on, whatever keeps the next one waiting.
func (s AutoState) On() bool {
	return s == AutoReady || s == AutoCoolingDown || s == AutoAuthentication
}

// AutoGlance is how automatic top-ups stand, for pages that are about something else.
type AutoGlance struct {
	State AutoState
	// Paused says that operators have stopped them for everybody.
	Paused bool
	// Until is when the next one may be tried at the earliest, after a decline.
	Until  time.Time
	Reason string
	// Threshold is below how much available money Amount is charged.
	Threshold, Amount money.Pence
	// Card is what the saved card is called, such as "Visa ending in 4242"; empty where there is none.
	Card string
	// CanEdit is for owners.
	CanEdit bool
	// SavingWords are what somebody agrees to who saves a card.
	SavingWords string
}

// pill is the state in a word.
func (g AutoGlance) pill() ui.StateProps {
	switch {
	case g.Paused && g.State.On():
		return ui.StateProps{Word: "Paused by us", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case g.State == AutoReady:
		return ui.StateProps{Word: "On", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case g.State == AutoCoolingDown:
		return ui.StateProps{Word: "Waiting after a decline", Tone: ui.ToneWarn, Icon: ui.IconHourglass}
	case g.State == AutoAuthentication:
		return ui.StateProps{Word: "Needs you", Tone: ui.ToneBad, Icon: ui.IconAlert}
	case g.State == AutoStopped:
		return ui.StateProps{Word: "Stopped", Tone: ui.ToneBad, Icon: ui.IconOff}
	}
	return ui.StateProps{Word: "Off", Tone: ui.ToneNeutral, Icon: ui.IconOff}
}

// sentence is what will happen, or why nothing does.
func (g AutoGlance) sentence() string {
	switch {
	case g.Paused && g.State.On():
		return "Automatic top-ups are paused by us, for everybody. Nothing is charged until we start them again; top up yourself meanwhile."
	case g.State == AutoReady:
		return fmt.Sprintf("When less than %s is available, %s is charged to your %s.", g.Threshold, g.Amount, g.Card)
	case g.State == AutoCoolingDown:
		return g.Reason + " It is tried again later; top up yourself, or save another card, if that is too late."
	case g.State == AutoAuthentication:
		return g.Reason
	case g.State == AutoStopped:
		return g.Reason + " Nothing is charged until an owner turns it on again."
	case g.Card == "":
		return "Save a card, and the wallet tops itself up when it runs low."
	}
	return "Nothing is charged by itself."
}

// AutoPage is the model of the page of automatic top-ups.
type AutoPage struct {
	AutoGlance

	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string
	// Brand, Last4 and Expiry are the saved card's; CardExpired that it is past its last month. CardSince is when its owner
	// agreed to it.
	Brand, Last4, Expiry string
	CardExpired          bool
	CardSince            time.Time
	// CardAwaited says that a card is being saved.
	CardAwaited bool
	// Today and Month are what was charged against the caps.
	Today, Month Spending
	// Consent is what was allowed, by whom, and when; empty where nothing was.
	Consent, ConsentBy string
	ConsentAt          time.Time
	Form               AutoForm
	Recent             []AutoTopUpRow
}

// AutoFigure is one of the amounts that are set.
type AutoFigure struct {
	// Name is the field's.
	Name string
	// Typed and Error are as it was typed and what is wrong with it.
	Typed, Error string
	// Pence and USD are what it is, where nothing is wrong with it.
	Pence money.Pence
	USD   money.USDCents
}

func (f AutoFigure) label() string {
	switch f.Name {
	case "threshold":
		return "When less than this is available (£)"
	case "amount":
		return "Charge this (£)"
	case "daily_cap":
		return "At most in a day (£)"
	case "monthly_cap":
		return "At most in a month (£)"
	}
	return f.Name
}

// short is the figure's name in a table.
func (f AutoFigure) short() string {
	switch f.Name {
	case "threshold":
		return "When less than this is available"
	case "amount":
		return "Charged each time"
	case "daily_cap":
		return "At most in a day (UTC)"
	case "monthly_cap":
		return "At most in a calendar month (UTC)"
	}
	return f.Name
}

// id is the element's.
func (f AutoFigure) id() string { return "auto-" + strings.ReplaceAll(f.Name, "_", "-") }

// hint is the same in dollars, for orientation.
func (f AutoFigure) hint() string {
	if f.Error != "" || f.Pence == 0 {
		return ""
	}
	return "About " + f.USD.String() + "."
}

// AutoForm are the settings as they are or were typed.
type AutoForm struct {
	Figures []AutoFigure
	// Words is what an owner agrees to with them; empty where something is wrong with them.
	Words string
}

// wrong is the first thing that is wrong; empty where nothing is.
func (f AutoForm) wrong() string {
	for _, one := range f.Figures {
		if one.Error != "" {
			return one.Error
		}
	}
	return ""
}

// AutoTopUpRow is an automatic top-up of the list.
type AutoTopUpRow struct {
	ID     string
	At     time.Time
	Amount money.Pence
	State  TopUpState
	Note   string
}

// state is its state in a word. Nobody opened a page for it, so "not paid yet" would be wrong.
func (r AutoTopUpRow) state() ui.StateProps {
	switch r.State {
	case TopUpCreating, TopUpOpen, TopUpProcessing, TopUpWaiting:
		return topUpState(TopUpWaiting)
	case TopUpFailed, TopUpExpired:
		return ui.StateProps{Word: "Not charged", Tone: ui.ToneWarn, Icon: ui.IconOff}
	case TopUpPaid:
	}
	return topUpState(r.State)
}

func (r AutoTopUpRow) href() string { return OpenTopUp{ID: r.ID}.statusPath() }

// AutoWords answers what is typed: what it comes to, or the first thing that is wrong.
func AutoWords(p AutoPage) templ.Component { return Part(AutoTopUp(p), FragmentAutoWords) }

// AutoConfirmPage is the model of the page on which an owner agrees.
type AutoConfirmPage struct {
	Meta PageMeta
	Form AutoForm
	// Card is what the saved card is called.
	Card string
	// On says that it is on already, so that this is a change. Changed says that what was agreed to is not what stands here.
	On, Changed bool
}

// CardRemovePage is the model of the page that asks before a card is removed.
type CardRemovePage struct {
	Meta PageMeta
	Card string
	// On says that automatic top-ups stop with it.
	On bool
}

// OpsAutoPage is the model of the operators' page of automatic top-ups.
type OpsAutoPage struct {
	Meta PageMeta
	// Notice says what was done a moment ago.
	Notice string
	// Stopped is the switch, By, At and Why who set it last, when and why.
	Stopped bool
	By, Why string
	At      time.Time
	// Reason and Error are the form as it was refused.
	Reason, Error string
	// Ready and the others are how many organisations there are in each state.
	Ready, CoolingDown, Authentication, StoppedOrgs, Off int
	// Today are those begun today that have not failed, and what they come to; Failed those that have.
	Today, Failed int
	Charged       money.Pence
	InFlight      []OpsAutoRow
}

// OpsAutoRow is an automatic top-up that has not ended.
type OpsAutoRow struct {
	OrgID, Name string
	At          time.Time
	Amount      money.Pence
	State       TopUpState
}

func (p AutoPage) submitLabel() string {
	if p.State.On() {
		return "Look at the change"
	}
	return "Look at it and turn it on"
}

func (p AutoConfirmPage) title() string {
	if p.On {
		return "Change automatic top-ups?"
	}
	return "Turn on automatic top-ups?"
}

func (p AutoConfirmPage) agree() string {
	if p.On {
		return "I agree, change it"
	}
	return "I agree, turn it on"
}
