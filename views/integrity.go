package views

import (
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ringfence/views/ui"
)

// IntegrityCheck is one promise about our own records, and what breaks it.
type IntegrityCheck struct {
	Name, Promise string
	Checked       int64
	Violations    []string
	// Mend is where what breaks it is put right; empty where there is no such place.
	Mend string
}

func (c IntegrityCheck) state() ui.StateProps {
	if len(c.Violations) > 0 {
		return ui.StateProps{Word: "Broken", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: "Holds", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

// Stray is something at a provider that is nobody's here. Number is empty for a subaccount.
type Stray struct {
	Provider, ID, Number, Account, Org string
}

func (s Stray) what() string {
	if s.Number == "" {
		return "Subaccount " + s.ID
	}
	return ui.PhoneText(s.Number)
}

func (s Stray) href() string {
	return "/ops/integrity/strays?" + url.Values{"provider": {s.Provider}, "id": {s.ID}, "number": {s.Number}, "account": {s.Account}, "org": {s.Org}}.Encode()
}

func (s Stray) verb() string {
	if s.Number == "" {
		return "Close it"
	}
	return "Give it back"
}

// Gap is a number that is active here and not at a provider.
type Gap struct {
	Provider string
	Number   PhoneNumber
}

func (g Gap) mend() (label, href string) {
	if g.Provider == "Vapi" {
		return "Connect again", g.Number.mendHref("reconnect")
	}
	return "Release here", g.Number.mendHref("release")
}

// mend is what an operator does most likely about a number that has not ended.
func (n PhoneNumber) mend() (label, do string) {
	if n.State == NumberActive && !n.Telling {
		return "Release", "release"
	}
	return "Try again", "expedite"
}

func (n PhoneNumber) mendHref(do string) string {
	return "/ops/integrity/numbers/" + n.ID + "?do=" + do
}

// Unreached is what a comparison could not look at.
type Unreached struct {
	Provider, Account, Why string
}

// IntegrityPage is how our records stand to themselves and to the providers'.
type IntegrityPage struct {
	Meta PageMeta
	// Off says that there are no providers to compare with.
	Off    bool
	Notice string
	// UnderWay are the numbers that are on their way, whosever they are.
	UnderWay []PhoneNumber
	// Ran says that the checks were made, At when; the rest is what they found.
	Ran                bool
	At                 time.Time
	Checks             []IntegrityCheck
	Accounts, Compared int
	Strays             []Stray
	Gaps               []Gap
	Unknown, Held      []PhoneNumber
	Unreached          []Unreached
}

func (p IntegrityPage) broken() (n int) {
	for _, c := range p.Checks {
		if len(c.Violations) > 0 {
			n++
		}
	}
	return n
}

func (p IntegrityPage) ownTitle() string {
	if n := p.broken(); n > 0 {
		return strconv.Itoa(n) + " of " + strconv.Itoa(len(p.Checks)) + " promises are broken"
	}
	return "All " + strconv.Itoa(len(p.Checks)) + " promises hold"
}

func (p IntegrityPage) agree() bool {
	return len(p.Strays)+len(p.Gaps)+len(p.Unknown)+len(p.Held)+len(p.Unreached) == 0
}

func (p IntegrityPage) compared() string {
	accounts, numbers := count(int64(p.Accounts))+" accounts", count(int64(p.Compared))+" active numbers"
	if p.Accounts == 1 {
		accounts = "1 account"
	}
	if p.Compared == 1 {
		numbers = "1 active number"
	}
	return accounts + " at Twilio and " + numbers + " were compared."
}

// MendPage is one number with what an operator can do about it.
type MendPage struct {
	Meta    PageMeta
	Number  PhoneNumber
	History []NumberEvent
	// Choice is what is chosen; Reason, Error and Problem are the form as it was refused.
	Choice, Reason, Error, Problem string
}

// MendChoice is one thing that can be done about a number.
type MendChoice struct{ Value, Label, Says string }

// choices are those that its state allows.
func (p MendPage) choices() (list []MendChoice) {
	n := p.Number
	if n.Moves() {
		list = append(list, MendChoice{"expedite", "Try again now", "Its next step is done at once instead of later."})
	}
	if n.State == NumberReleasing || n.undoing() {
		list = append(list, MendChoice{"force", "End it by force", "It counts as ended although a provider has not let go of it. Make sure at the provider that it is gone: what is left there costs money."})
	}
	if n.State == NumberActive {
		list = append(list,
			MendChoice{"reconnect", "Connect it again", "Vapi is asked to answer it again, where it does not have it any more."},
			MendChoice{"release", "Release it", "It is given back for good, for its owner too. Agents that have it lose it."})
	}
	return list
}

// StrayPage asks before something is taken away at a provider.
type StrayPage struct {
	Meta                   PageMeta
	Stray                  Stray
	Reason, Error, Problem string
}

// LinksPage asks before what points at numbers that are gone is taken away.
type LinksPage struct {
	Meta                   PageMeta
	Reason, Error, Problem string
}

// IntegrityFindings are what the checks found, alone.
func IntegrityFindings(p IntegrityPage) templ.Component {
	return Part(Integrity(p), FragmentComparison)
}
