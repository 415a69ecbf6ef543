package views

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// NumberState is how far a phone number has come.
type NumberState string

// The states.
const (
	NumberProvisioning NumberState = "provisioning"
	NumberUnknown      NumberState = "unknown"
	NumberActive       NumberState = "active"
	NumberReleasing    NumberState = "releasing"
	NumberReleased     NumberState = "released"
	NumberFailed       NumberState = "failed"
)

// PhoneNumber is one that is somebody's, or was, or was wanted.
type PhoneNumber struct {
	ID, Number, Country string
	State               NumberState
	// Step is what is being done, FailedStep where buying it failed; both empty where that is not so.
	Step, FailedStep string
	// Note is why it stands as it does.
	Note string
	// Own says that it is in the customer's own Twilio account, whose bill is the customer's.
	Own bool
	// Price is what it cost at once, Monthly each month after the first.
	Price, Monthly money.Pence
	Agents         []string
	At             time.Time
	ActiveAt       *time.Time
	// NextRent is when the next month is charged; ReleaseDue when it is given back, because a month is owed.
	NextRent, ReleaseDue *time.Time
	ReleasingAt, EndedAt *time.Time
	ReleasedBy, Reason   string
	// Org and OrgName are whose it is, for operators.
	Org, OrgName string
	// NextTry is when it goes on by itself.
	NextTry *time.Time
	// Telling says that it is active, and that our voice service does not have its account's newest token yet.
	Telling bool
}

func (n PhoneNumber) href() string { return "/numbers/" + n.ID }

// ReleasePath is where it is released.
func (n PhoneNumber) ReleasePath() string { return n.href() + "/release" }

func (n PhoneNumber) undoing() bool { return n.FailedStep != "" && n.State != NumberFailed }

// given reports whether it is given back, or on its way.
func (n PhoneNumber) given() bool { return n.State == NumberReleasing || n.State == NumberReleased }

// Moves reports whether it goes on by itself.
func (n PhoneNumber) Moves() bool {
	switch n.State {
	case NumberProvisioning, NumberUnknown, NumberReleasing:
		return true
	case NumberActive:
		return n.Telling
	case NumberReleased, NumberFailed:
	}
	return false
}

// Seen is what its live part shows: an answer with the same keeps what is there.
func (n PhoneNumber) Seen() string {
	return string(n.State) + "." + n.Step + "." + n.FailedStep + "." + noteMark(n.Note)
}

func (n PhoneNumber) state() ui.StateProps {
	switch n.State {
	case NumberProvisioning:
		if n.undoing() {
			return ui.StateProps{Word: "Undoing", Tone: ui.ToneWarn, Icon: ui.IconHourglass}
		}
		return ui.StateProps{Word: "Being bought", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case NumberUnknown:
		return ui.StateProps{Word: "Finding out", Tone: ui.ToneWarn, Icon: ui.IconClock}
	case NumberActive:
		if n.Telling {
			return ui.StateProps{Word: "Active, new token", Tone: ui.ToneWarn, Icon: ui.IconHourglass}
		}
		if n.ReleaseDue != nil {
			return ui.StateProps{Word: "Active, rent owed", Tone: ui.ToneWarn, Icon: ui.IconWarning}
		}
		return ui.StateProps{Word: "Active", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case NumberReleasing:
		if n.Note != "" {
			return ui.StateProps{Word: "Release refused", Tone: ui.ToneWarn, Icon: ui.IconWarning}
		}
		return ui.StateProps{Word: "Being released", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case NumberReleased:
		return ui.StateProps{Word: "Released", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case NumberFailed:
		return ui.StateProps{Word: "Not bought", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: string(n.State), Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// sentence says how it stands in one sentence.
func (n PhoneNumber) sentence() string {
	switch n.State {
	case NumberProvisioning, NumberUnknown:
		if n.undoing() {
			return "It could not be bought, so what was begun is being undone. Nothing was charged."
		}
		if n.State == NumberUnknown {
			return "A provider did not say whether it did what we asked. We look for it before anything is tried again, so it is never bought twice. You are charged only if it becomes yours."
		}
		if n.Own {
			return "It is being bought in your own Twilio account. Twilio puts it on your bill there; we charge nothing."
		}
		return "It is being bought. " + n.Price.String() + " is set aside, and charged only when the number is ready."
	case NumberActive:
		if n.Telling {
			return "Its Twilio account has a new token, and our voice service is being told. Until it has it, calls of this number may fail; texts go on."
		}
		return "It is ready to be used."
	case NumberReleasing:
		return "Nobody can use it any more and nothing is charged for it. It counts as released only when both providers have agreed."
	case NumberReleased:
		return "It was given back. Nothing is charged for it."
	case NumberFailed:
		return "It could not be bought. Nothing was charged, and nothing of it is left."
	}
	return ""
}

// NumberStepLine is a step on the way, and how it stands.
type NumberStepLine struct {
	Label string
	// Done, Now and Bad say how it stands; none of them is still to come.
	Done, Now, Bad bool
}

func (l NumberStepLine) words() string {
	switch {
	case l.Bad:
		return "failed"
	case l.Done:
		return "done"
	case l.Now:
		return "now"
	}
	return "to come"
}

func (l NumberStepLine) icon() (ui.IconProps, string) {
	switch {
	case l.Bad:
		return ui.IconProps{Name: ui.IconError}, "text-bad"
	case l.Done:
		return ui.IconProps{Name: ui.IconCheck}, "text-good"
	case l.Now:
		return ui.IconProps{Name: ui.IconSpinner, Spin: true}, "text-accent"
	}
	return ui.IconProps{Name: ui.IconClock}, "text-muted"
}

// The steps of buying and of releasing, in order, as people read them.
var (
	buySteps = []struct{ step, label string }{
		{"subaccount", "Your account at Twilio"},
		{"purchase", "Buy exactly this number"},
		{"vapi_import", "Connect it to our voice service"},
		{"credential", "Store the credential for it"},
		{"activate", "Activate it and take the payment"},
	}
	releaseSteps = []struct{ step, label string }{
		{"vapi_delete", "Take it from our voice service"}, {"twilio_release", "Give it back to the telephone company"}, {"finish", "Remove what belonged to it"},
	}
	undoSteps = []struct{ step, label string }{
		{"undo_import", "Take it from our voice service"}, {"undo_purchase", "Give it back to the telephone company"}, {"finish", "Remove what belonged to it"},
	}
)

// steps are the way that the number goes, as far as it has come; none where it has ended well.
func (n PhoneNumber) steps() (lines []NumberStepLine) {
	var way []struct{ step, label string }
	switch {
	case n.State == NumberReleasing:
		way = releaseSteps
	case n.undoing():
		way = undoSteps
	case n.State == NumberProvisioning || n.State == NumberUnknown || n.State == NumberFailed:
		way = buySteps
	default:
		return nil
	}
	if n.Own && way[0].step == "subaccount" {
		way = way[1:]
	}
	at := slices.IndexFunc(way, func(s struct{ step, label string }) bool { return s.step == cmp.Or(n.Step, n.FailedStep) })
	for i, s := range way {
		lines = append(lines, NumberStepLine{Label: s.label, Done: i < at, Now: i == at && n.State != NumberFailed, Bad: i == at && n.State == NumberFailed})
	}
	return lines
}

// users are the agents, in words.
func (n PhoneNumber) users() string {
	if len(n.Agents) == 0 {
		return "No agent"
	}
	return strings.Join(n.Agents, ", ")
}

// NumberSearch is what was looked for, and what is wrong with it.
type NumberSearch struct {
	Country, Type, Area, Contains                     string
	CountryError, TypeError, AreaError, ContainsError string
	Asked                                             bool
}

// NumberOffer is a number for sale.
type NumberOffer struct {
	Number, Country, Type, Place string
	Voice, SMS                   bool
	// Needs is what stands in the way; empty where nothing does.
	Needs string
	Href  string
}

func (o NumberOffer) does() string {
	switch {
	case o.Voice && o.SMS:
		return "Calls and texts"
	case o.Voice:
		return "Calls only"
	}
	return "Texts only"
}

func (o NumberOffer) kind() string {
	switch o.Type {
	case "tollfree":
		return "Freephone"
	case "mobile":
		return "Mobile"
	}
	return "Local"
}

// NumberPrice is what a number costs.
type NumberPrice struct {
	Purchase, Monthly       money.Pence
	PurchaseUSD, MonthlyUSD money.USDCents
	// Own says that numbers are bought in the customer's own account.
	Own bool
}

// NumberResults are what a search found.
type NumberResults struct {
	List  []NumberOffer
	Price NumberPrice
}

func (r *NumberResults) found() string {
	switch len(r.List) {
	case 0:
		return "No numbers found"
	case 1:
		return "1 number found"
	}
	return count(int64(len(r.List))) + " numbers found"
}

// numberCountries are those that the form offers; programs may ask for any.
var numberCountries = []ui.Option{
	{Value: "GB", Label: "United Kingdom"},
	{Value: "US", Label: "United States"},
	{Value: "AU", Label: "Australia"},
	{Value: "AT", Label: "Austria"},
	{Value: "BE", Label: "Belgium"},
	{Value: "CA", Label: "Canada"},
	{Value: "DK", Label: "Denmark"},
	{Value: "FI", Label: "Finland"},
	{Value: "FR", Label: "France"},
	{Value: "DE", Label: "Germany"},
	{Value: "IE", Label: "Ireland"},
	{Value: "IT", Label: "Italy"},
	{Value: "NL", Label: "Netherlands"},
	{Value: "NZ", Label: "New Zealand"},
	{Value: "NO", Label: "Norway"},
	{Value: "PL", Label: "Poland"},
	{Value: "PT", Label: "Portugal"},
	{Value: "ES", Label: "Spain"},
	{Value: "SE", Label: "Sweden"},
	{Value: "CH", Label: "Switzerland"},
}

func (s NumberSearch) countries() []ui.Option {
	known := slices.ContainsFunc(numberCountries, func(o ui.Option) bool { return o.Value == s.Country })
	if s.Country == "" || known {
		return numberCountries
	}
	return append(slices.Clone(numberCountries), ui.Option{Value: s.Country, Label: s.Country})
}

var numberTypes = []ui.Option{{Value: "", Label: "Any type"}, {Value: "local", Label: "Local"}, {Value: "mobile", Label: "Mobile"}, {Value: "tollfree", Label: "Freephone"}}

// NumbersPage is the list of numbers and the search for another.
type NumbersPage struct {
	Meta PageMeta
	// CanBuy is whether this person may spend; Off is why nobody can here.
	CanBuy, Off bool
	// Own says that numbers are bought in the customer's own Twilio account.
	Own     bool
	Numbers []PhoneNumber
	Older   string
	First   bool
	Search  NumberSearch
	Results *NumberResults
	// Problem is why the search brought nothing, where no field is to blame.
	Problem string
	Notice  string
}

func (p NumbersPage) moves() bool { return slices.ContainsFunc(p.Numbers, PhoneNumber.Moves) }

// RefreshSeconds is how often a browser without scripts should load the page again.
func (p NumbersPage) RefreshSeconds() int {
	if p.moves() && p.Results == nil {
		return 5
	}
	return 0
}

// BuyNumberPage asks before a number is bought.
type BuyNumberPage struct {
	Meta  PageMeta
	Offer NumberOffer
	Price NumberPrice
	// Available is what may be spent, Debt what is owed before.
	Available, Debt money.Pence
	Key             string
	// Gone is why it cannot be bought now; Changed is set when the price is not the one that was agreed to.
	Gone    string
	Changed string
	// Unpaid is what the wallet lacks, as the gates say it.
	Unpaid string
}

// Short is what the wallet lacks for it.
func (p BuyNumberPage) short() money.Pence { return max(0, p.Price.Purchase-p.Available) }

func (p BuyNumberPage) left() money.Pence { return p.Available - p.Price.Purchase }

// pence writes an amount for our own form to bring back.
func pence(p money.Pence) string { return strconv.FormatInt(int64(p), 10) }

// NumberEvent is one line of a number's history.
type NumberEvent struct {
	At                time.Time
	What, Who, Reason string
}

// NumberPage is one number.
type NumberPage struct {
	Meta    PageMeta
	Number  PhoneNumber
	CanBuy  bool
	History []NumberEvent
	Entries []NumberEntry
	// Credential says by which account it is reached.
	Account string
}

// NumberEntry is a transaction of the wallet.
type NumberEntry struct {
	ID, Description string
	Amount          money.Pence
	At              time.Time
}

// RefreshSeconds is how often a browser without scripts should load the page again.
func (p NumberPage) RefreshSeconds() int {
	if p.Number.Moves() {
		return 3
	}
	return 0
}

func (p NumberPage) poll() string {
	if p.Number.State == NumberReleasing && p.Number.Note != "" || p.Number.State == NumberUnknown || p.Number.Telling {
		return "every 5s"
	}
	return "every 1s"
}

// ReleaseNumberPage asks before a number is released.
type ReleaseNumberPage struct {
	Meta   PageMeta
	Number PhoneNumber
	// Typed and Error are the confirmation as it was refused.
	Typed, Error string
}

// confirmation is what is to be typed: the last four digits.
func (p ReleaseNumberPage) confirmation() string {
	return p.Number.Number[max(0, len(p.Number.Number)-4):]
}

// NumbersResults is the form of the search with what it found, alone.
func NumbersResults(p NumbersPage) templ.Component { return Part(Numbers(p), FragmentNumberSearch) }

// NumbersList is the list alone.
func NumbersList(p NumbersPage) templ.Component { return Part(Numbers(p), FragmentNumbers) }

// NumberStatus is how a number stands, alone.
func NumberStatus(p NumberPage) templ.Component { return Part(NumberDetail(p), FragmentNumber) }
