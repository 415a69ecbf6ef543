package views

import (
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/views/ui"
)

const callerIDsPath = "/caller-ids"

// CallerIDState says whether a number was proven.
type CallerIDState string

// The states.
const (
	CallerIDWaiting  CallerIDState = "waiting"
	CallerIDVerified CallerIDState = "verified"
	CallerIDFailed   CallerIDState = "failed"
	CallerIDRemoving CallerIDState = "removing"
	CallerIDRemoved  CallerIDState = "removed"
	CallerIDLost     CallerIDState = "lost" // verified, with an account that is gone since
)

// CallerNumber is a number of somebody's own that an agent may show, once it was proven.
type CallerNumber struct {
	ID, Number string
	State      CallerIDState
	// Code is what is to be typed on the phone; empty for those who may only look, and once it is not waited for.
	Code, Note string
	At         time.Time
	VerifiedAt *time.Time
	// Agents are those that show it.
	Agents []string
}

func (c CallerNumber) href() string { return callerIDsPath + "/" + c.ID }

// Moves reports whether it goes on by itself.
func (c CallerNumber) Moves() bool { return c.State == CallerIDWaiting || c.State == CallerIDRemoving }

// Seen is what its live part shows: an answer with the same keeps what is there.
func (c CallerNumber) Seen() string { return string(c.State) + "." + c.Code + "." + noteMark(c.Note) }

// ended reports whether it is nobody's to show any more.
func (c CallerNumber) ended() bool { return c.State == CallerIDFailed || c.State == CallerIDRemoved }

func (c CallerNumber) state() ui.StateProps {
	switch c.State {
	case CallerIDWaiting:
		return ui.StateProps{Word: "Waiting for the code", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case CallerIDVerified:
		return ui.StateProps{Word: "Verified", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case CallerIDLost:
		return ui.StateProps{Word: "Not shown any more", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case CallerIDFailed:
		return ui.StateProps{Word: "Not verified", Tone: ui.ToneBad, Icon: ui.IconError}
	case CallerIDRemoving:
		return ui.StateProps{Word: "Being removed", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case CallerIDRemoved:
		return ui.StateProps{Word: "Removed", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	}
	return ui.StateProps{Word: string(c.State), Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// sentence says how it stands in one sentence.
func (c CallerNumber) sentence() string {
	switch c.State {
	case CallerIDWaiting:
		if c.Code != "" {
			return "Our provider calls this number now and asks for the code. Answer, and type it on the phone. It can take half a minute from then until this page says so."
		}
		return "Our provider calls this number and asks for a code."
	case CallerIDVerified:
		return "Your agents may show this number when they pass a caller on."
	case CallerIDLost:
		return "It was verified with a telephone account that your organisation does not have here any more, so no agent shows it: the agent's own number is seen instead."
	case CallerIDFailed:
		return "It was not proven to be yours, so no agent shows it."
	case CallerIDRemoving:
		return "No agent shows it any more. Our provider is being told to forget it."
	case CallerIDRemoved:
		return "No agent shows it, and our provider has forgotten it."
	}
	return ""
}

// CallerIDsPage is the list of numbers that may be shown, and where another is verified.
type CallerIDsPage struct {
	Meta PageMeta
	// CanEdit is whether this person may change anything; Off says that agents are not set up here.
	CanEdit, Off bool
	List         []CallerNumber
	// Typed and Error are the number as it was refused, Problem what is wrong where no field is to blame.
	Typed, Error, Problem string
	Notice                string
}

func (p CallerIDsPage) moves() bool { return slices.ContainsFunc(p.List, CallerNumber.Moves) }

// CallerIDPage is one of them.
type CallerIDPage struct {
	Meta    PageMeta
	Number  CallerNumber
	CanEdit bool
	// Removing asks before it is removed.
	Removing bool
}

// RefreshSeconds is how often a browser without scripts should load the page again.
func (p CallerIDPage) RefreshSeconds() int {
	if p.Number.Moves() && !p.Removing {
		return 5
	}
	return 0
}

// CallerIDsList is the list alone.
func CallerIDsList(p CallerIDsPage) templ.Component { return Part(CallerIDs(p), FragmentCallerIDs) }

// CallerIDStatus is how a number stands, alone.
func CallerIDStatus(p CallerIDPage) templ.Component { return Part(CallerID(p), FragmentCallerID) }

// users are the agents that show it, in words.
func (c CallerNumber) users() string {
	if len(c.Agents) == 0 {
		return "No agent"
	}
	return strings.Join(c.Agents, ", ")
}

// since is when it came to stand as it does, as far as that is worth knowing.
func (c CallerNumber) since() time.Time {
	if c.VerifiedAt != nil {
		return *c.VerifiedAt
	}
	return c.At
}
