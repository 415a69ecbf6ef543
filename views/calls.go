package views

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

const callsPath = "/calls"

// CallState is how far a call has come.
type CallState string

// The states.
const (
	CallQueued     CallState = "queued"
	CallPlacing    CallState = "placing"
	CallUnknown    CallState = "unknown"
	CallRinging    CallState = "ringing"
	CallInProgress CallState = "in_progress"
	CallEnding     CallState = "ending"
	CallCompleted  CallState = "completed"
	CallUnanswered CallState = "unanswered"
	CallFailed     CallState = "failed"
	CallRefused    CallState = "refused"
)

// PhoneCall is one call.
type PhoneCall struct {
	ID      string
	Inbound bool
	State   CallState
	// Ours and Party are the numbers as people read them; Party is masked once that person was erased, and may be empty where a
	// caller has hidden it.
	Ours, Party string
	// Agent is who called or answered; empty where nobody did.
	Agent, AgentID string
	// Seconds is how long it was, Ceiling how long it may be at most.
	Seconds, Ceiling int64
	// Cost is what was charged for it, Held what is set aside, LookupsCost what was looked up in it cost.
	Cost, Held, LookupsCost money.Pence
	Lookups                 int
	Note                    string
	// Hanging says that it was told to end.
	Hanging                    bool
	At                         time.Time
	Started, Ended, ReportedAt *time.Time
	ErasedAt                   *time.Time
}

func (c PhoneCall) href() string { return callsPath + "/" + c.ID }

// Over reports whether nothing more happens to it.
func (c PhoneCall) Over() bool {
	switch c.State {
	case CallCompleted, CallUnanswered, CallFailed, CallRefused:
		return true
	case CallQueued, CallPlacing, CallUnknown, CallRinging, CallInProgress, CallEnding:
	}
	return false
}

// Live reports whether it can be ended.
func (c PhoneCall) Live() bool { return !c.Over() && c.State != CallEnding && !c.Hanging }

// Moves reports whether its page shows something else soon: while it goes on, and a moment after it until what was said is there.
func (c PhoneCall) Moves(now time.Time) bool {
	if !c.Over() {
		return true
	}
	return c.State == CallCompleted && c.ReportedAt == nil && c.ErasedAt == nil && c.Ended != nil && now.Sub(*c.Ended) < time.Minute
}

// Seen is what its live part shows: an answer with the same keeps what is there.
func (c PhoneCall) Seen() string {
	seen := string(c.State) + "." + strconv.FormatInt(int64(c.Held+c.Cost+c.LookupsCost), 10)
	if c.Hanging {
		seen += ".hanging"
	}
	if c.ReportedAt != nil {
		seen += ".reported"
	}
	if c.ErasedAt != nil {
		seen += ".erased"
	}
	return seen
}

func (c PhoneCall) state() ui.StateProps {
	if c.Hanging && !c.Over() {
		return ui.StateProps{Word: "Being ended", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	}
	switch c.State {
	case CallQueued, CallPlacing:
		return ui.StateProps{Word: "Being placed", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case CallUnknown:
		return ui.StateProps{Word: "Finding out", Tone: ui.ToneWarn, Icon: ui.IconClock}
	case CallRinging:
		return ui.StateProps{Word: "Ringing", Tone: ui.ToneInfo, Icon: ui.IconPhone}
	case CallInProgress:
		return ui.StateProps{Word: "Speaking", Tone: ui.ToneInfo, Icon: ui.IconPhone}
	case CallEnding:
		return ui.StateProps{Word: "Over, being charged", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case CallCompleted:
		return ui.StateProps{Word: "Completed", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case CallUnanswered:
		return ui.StateProps{Word: "Not answered", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case CallFailed:
		return ui.StateProps{Word: "Not made", Tone: ui.ToneBad, Icon: ui.IconError}
	case CallRefused:
		return ui.StateProps{Word: "Not taken", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{Word: string(c.State), Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// sentence says how it stands in one sentence.
func (c PhoneCall) sentence() string {
	if c.Hanging && !c.Over() {
		return "It is being ended. What was spoken until then is charged."
	}
	switch c.State {
	case CallQueued, CallPlacing:
		return "It is being placed. Nothing is charged until somebody speaks."
	case CallUnknown:
		return "Our voice service did not say whether it makes the call. We find out; it is never placed twice."
	case CallRinging:
		return "It rings. Nothing is charged until somebody speaks."
	case CallInProgress:
		return "Somebody speaks. Money is set aside half a minute ahead; by the second, it is charged when the call is over."
	case CallEnding:
		return "It is over. What it was is being found out, then it is charged."
	case CallCompleted:
		return "It lasted " + spoken(c.Seconds) + ", charged by the second."
	case CallUnanswered:
		return "Nobody spoke, so nothing was charged."
	case CallFailed:
		return "It was not made. Nothing was charged."
	case CallRefused:
		return "Somebody called, and it was not taken. Nothing was charged."
	}
	return ""
}

// with names the other side.
func (c PhoneCall) with() string {
	if c.Party == "" {
		return "a hidden number"
	}
	return c.Party
}

func (c PhoneCall) title() string {
	if c.Inbound {
		return "Call from " + c.with()
	}
	return "Call to " + c.with()
}

func (c PhoneCall) direction() string {
	if c.Inbound {
		return "From"
	}
	return "To"
}

// who names the agent.
func (c PhoneCall) who() string {
	if c.Agent == "" {
		return "No agent"
	}
	return c.Agent
}

func (c PhoneCall) total() money.Pence { return c.Cost + c.LookupsCost }

func (c PhoneCall) length() string {
	if c.Seconds == 0 {
		return "None"
	}
	return spoken(c.Seconds)
}

// CallFilter is what the list was asked for, as it was asked, and what is wrong with that.
type CallFilter struct {
	Direction, State, Agent, Number, From, To       string
	NumberError, FromError, ToError, DirectionError string
	StateError, AgentError                          string
}

// Wrong reports whether something of it is wrong, so that nothing was looked for.
func (f CallFilter) Wrong() bool {
	return f.NumberError != "" || f.FromError != "" || f.ToError != "" || f.DirectionError != "" || f.StateError != "" || f.AgentError != ""
}

func (f CallFilter) empty() bool {
	return f.Direction == "" && f.State == "" && f.Agent == "" && f.Number == "" && f.From == "" && f.To == ""
}

// query writes the filter as it stands in an address; more is name, value pairs. What is empty is left out.
func (f CallFilter) query(more ...string) string {
	return queryOf(append([]string{"direction", f.Direction, "state", f.State, "agent", f.Agent, "number", f.Number, "from", f.From, "to", f.To}, more...)...)
}

// queryOf writes name, value pairs as they stand in an address. What is empty is left out.
func queryOf(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

var directions = []ui.Option{{Value: "", Label: "Out and in"}, {Value: "outbound", Label: "Out"}, {Value: "inbound", Label: "In"}}

// callStates are the states that can be asked for, in the order of a call's life.
var callStates = []CallState{
	CallQueued, CallPlacing, CallUnknown, CallRinging, CallInProgress, CallEnding, CallCompleted, CallUnanswered, CallFailed, CallRefused,
}

func callStateOptions() []ui.Option {
	list := []ui.Option{{Value: "", Label: "Any state"}}
	for _, s := range callStates {
		word := PhoneCall{State: s}.state().Word
		if s == CallQueued {
			word = "Waiting to be placed"
		}
		list = append(list, ui.Option{Value: string(s), Label: word})
	}
	return list
}

// CallForm is a call as it was asked for, and what is wrong with that.
type CallForm struct {
	To, Agent, ToError, AgentError string
	// Key makes sending the form twice one call.
	Key string
}

// CallsPage is the list of calls and the form for another.
type CallsPage struct {
	Meta PageMeta
	// CanCall is whether this person may spend; Off is why nobody can here.
	CanCall, Off bool
	Filter       CallFilter
	// Agents are those that can be asked for, Callers those that can call now.
	Agents, Callers []AgentChoice
	Calls           []PhoneCall
	// Before is where the page begins, empty for the newest; Older where the next one does, empty at the end; Stopped says that
	// looking stopped there.
	Before, Older string
	Stopped       bool
	Form          CallForm
	Cost          *CallCost
	// Unpaid is what the wallet lacks, Problem why nobody was called, where no field is to blame.
	Unpaid, Problem string
	// Short is what the wallet lacks for any call, before one was asked for.
	Short string
}

func (p CallsPage) older() string { return callsPath + p.Filter.query("before", p.Older) }

func (p CallsPage) newest() string { return callsPath + p.Filter.query() }

// rows is where the list asks how it stands.
func (p CallsPage) rows() string {
	return callsPath + p.Filter.query("before", p.Before, "part", "rows")
}

func (p CallsPage) moves() bool {
	return slices.ContainsFunc(p.Calls, func(c PhoneCall) bool { return !c.Over() })
}

// RefreshSeconds is how often a browser without scripts should load the page again. Somebody who reads may type here, so it is
// only for those who cannot.
func (p CallsPage) RefreshSeconds() int {
	if p.moves() && !p.CanCall {
		return 10
	}
	return 0
}

// status is what a reader hears when the list has changed.
func (p CallsPage) status() string {
	switch {
	case p.Filter.Wrong():
		return "Something in the form is not right."
	case len(p.Calls) == 0:
		return "No calls found."
	}
	return counted(len(p.Calls), "call") + " on this page."
}

// agents are those that can be asked for, with the one that was, if it is not there any more.
func (p CallsPage) agents() []ui.Option {
	list := append([]ui.Option{{Value: "", Label: "Any agent"}}, options(p.Agents)...)
	if p.Filter.Agent != "" && !slices.ContainsFunc(list, func(o ui.Option) bool { return o.Value == p.Filter.Agent }) {
		list = append(list, ui.Option{Value: p.Filter.Agent, Label: "One that was deleted"})
	}
	return list
}

// CallEvent is one line of a call's history.
type CallEvent struct {
	At        time.Time
	What, Who string
}

// CallPage is one call.
type CallPage struct {
	Meta PageMeta
	Call PhoneCall
	// CanEnd is whether this person may end and erase it.
	CanEnd  bool
	History []CallEvent
	Entries []NumberEntry
	// Transcript is what was said, line by line; Recording where it can be heard: an address that was checked.
	Transcript []CallLine
	Recording  string
	// Recorded says that it was to be recorded, Consent what was to be said first.
	Recorded bool
	Consent  string
	// EraseDue is when what was said is erased by itself.
	EraseDue *time.Time
	Now      time.Time
	Problem  string
}

// CallLine is something that somebody said.
type CallLine struct {
	// Who is the agent or the caller; empty where it is not known.
	Who, Text string
	Agent     bool
}

// CallLines takes a transcript apart, as Vapi writes it: a line for each, with who said it.
func CallLines(transcript string) (lines []CallLine) {
	for line := range strings.Lines(transcript) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "AI: "):
			lines = append(lines, CallLine{Who: "Agent", Agent: true, Text: line[len("AI: "):]})
		case strings.HasPrefix(line, "User: "):
			lines = append(lines, CallLine{Who: "Other side", Text: line[len("User: "):]})
		default:
			lines = append(lines, CallLine{Text: line})
		}
	}
	return lines
}

// RefreshSeconds is how often a browser without scripts should load the page again.
func (p CallPage) RefreshSeconds() int {
	if p.Call.Moves(p.Now) {
		return 5
	}
	return 0
}

// words reports whether there is something said in it to be read, heard or erased.
func (p CallPage) words() bool { return len(p.Transcript) > 0 || p.Recording != "" }

// EraseCallPage asks before what was said in a call is erased.
type EraseCallPage struct {
	Meta  PageMeta
	Call  PhoneCall
	Error string
}

// CallsList is the list alone, with its form.
func CallsList(p CallsPage) templ.Component {
	return Part(Calls(p), FragmentCallsStatus, FragmentCalls)
}

// CallsRows is the list without its form.
func CallsRows(p CallsPage) templ.Component { return Part(Calls(p), FragmentCallRows) }

// CallsForm is the form for a call alone.
func CallsForm(p CallsPage) templ.Component { return Part(Calls(p), FragmentPlaceCall) }

// CallsCost is what the call in the form may come to, alone.
func CallsCost(p CallsPage) templ.Component { return Part(Calls(p), FragmentPlaceCost) }

// CallStatus is how a call stands, alone.
func CallStatus(p CallPage) templ.Component { return Part(CallDetail(p), FragmentCall) }
