package views

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// AgentSync says whether our voice service has an agent as it is here.
type AgentSync string

// The states.
const (
	AgentWaiting AgentSync = "waiting"
	AgentSynced  AgentSync = "synced"
	AgentRefused AgentSync = "refused"
)

// PhoneAgent is somebody who answers and makes calls.
type PhoneAgent struct {
	ID, Name string
	Active   bool
	Sync     AgentSync
	// Note is why our voice service does not have it as it is.
	Note string
	// Known says that our voice service has it, maybe as it was before the last change.
	Known bool
	// NumberID and Number are the number that it answers and calls from; empty for none.
	NumberID, Number string
	// Spend is what its calls of this month have come to.
	Spend AgentSpend
	At    time.Time
}

// AgentSpend is what an agent's calls have come to.
type AgentSpend struct {
	Calls   int
	Seconds int64
	// Amount is what the calls cost, Lookups what was asked of the knowledge base in them.
	Amount, Lookups money.Pence
}

func (s AgentSpend) total() money.Pence { return s.Amount + s.Lookups }

func (s AgentSpend) calls() string {
	switch s.Calls {
	case 0:
		return "No calls"
	case 1:
		return "1 call"
	}
	return count(int64(s.Calls)) + " calls"
}

// spoken is a length of time as people read it.
func spoken(seconds int64) string {
	minutes := seconds / 60
	switch {
	case seconds < 60:
		return strconv.FormatInt(seconds, 10) + " s"
	case minutes < 60 && seconds%60 == 0:
		return strconv.FormatInt(minutes, 10) + " min"
	case minutes < 60:
		return strconv.FormatInt(minutes, 10) + " min " + strconv.FormatInt(seconds%60, 10) + " s"
	}
	return count(minutes/60) + " h " + strconv.FormatInt(minutes%60, 10) + " min"
}

func agentHref(id string) string { return "/agents/" + id }

func (a PhoneAgent) href() string { return agentHref(a.ID) }

func (a PhoneAgent) callsHref() string { return "/calls?agent=" + a.ID }

// Moves reports whether it goes on by itself.
func (a PhoneAgent) Moves() bool { return a.Sync != AgentSynced }

// Ready reports whether it can make and take calls, but for its number.
func (a PhoneAgent) Ready() bool { return a.Active && a.Known }

// Seen is what its live part shows: an answer with the same keeps what is there.
func (a PhoneAgent) Seen() string {
	return strings.Join([]string{string(a.Sync), strconv.FormatBool(a.Active), strconv.FormatBool(a.Known), noteMark(a.Note)}, ".")
}

func (a PhoneAgent) state() ui.StateProps {
	switch {
	case a.Sync == AgentRefused && a.Known:
		return ui.StateProps{Word: "Change refused", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case a.Sync == AgentRefused:
		return ui.StateProps{Word: "Refused", Tone: ui.ToneBad, Icon: ui.IconError}
	case a.Sync == AgentWaiting && a.Note != "":
		return ui.StateProps{Word: "Delayed", Tone: ui.ToneWarn, Icon: ui.IconClock}
	case a.Sync == AgentWaiting && a.Known:
		return ui.StateProps{Word: "Being updated", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case a.Sync == AgentWaiting:
		return ui.StateProps{Word: "Being set up", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case !a.Active:
		return ui.StateProps{Word: "Off", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	}
	return ui.StateProps{Word: "Ready", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

// listState is how an agent stands among others, where one without a number is not ready either.
func (a PhoneAgent) listState() ui.StateProps {
	if a.Sync == AgentSynced && a.Active && a.NumberID == "" {
		return ui.StateProps{Word: "No number", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return a.state()
}

// sentence says how it stands in one sentence.
func (a PhoneAgent) sentence() string {
	switch {
	case a.Sync == AgentRefused && !a.Known:
		return "Our voice service does not have it, so it can neither make calls nor take any."
	case a.Sync == AgentRefused:
		return "Our voice service goes on with the agent as it was before you changed it."
	case a.Sync != AgentSynced && !a.Known:
		return "Our voice service is being told about it. It can make and take calls once it is ready."
	case a.Sync != AgentSynced:
		return "Our voice service is being told what you changed. Until then it goes on as it was; calls under way end as they began."
	case !a.Active:
		return "It is switched off: it makes no calls, and takes none."
	}
	return "Our voice service has it as it is here."
}

// number is its number in words.
func (a PhoneAgent) number() string { return cmp.Or(ui.PhoneText(a.Number), "No number") }

// AgentsPage is the list of agents.
type AgentsPage struct {
	Meta PageMeta
	// CanEdit is whether this person may change anything; Off says that agents are not set up here.
	CanEdit, Off bool
	Agents       []PhoneAgent
	// Month is the month whose spend is shown.
	Month  time.Time
	Notice string
}

func (p AgentsPage) month() string { return "Spent in " + p.Month.Format("January") }

func (p AgentsPage) moves() bool { return !p.Off && slices.ContainsFunc(p.Agents, PhoneAgent.Moves) }

// RefreshSeconds is how often a browser without scripts should load the page again.
func (p AgentsPage) RefreshSeconds() int {
	if p.moves() {
		return 5
	}
	return 0
}

// AgentForm is what an agent is, as it was typed.
type AgentForm struct {
	Name, Voice, FirstMessage, Prompt, ForwardTo, CallerID, Consent string

	Active, Knowledge, Recorded bool
	// Errors are the sentences beside the fields, by the fields' names.
	Errors map[string]string
	// Voices are those to choose from, CallerIDs the numbers that were verified.
	Voices    []string
	CallerIDs []AgentChoice
	// The longest that the texts may be, in characters.
	NameMost, FirstMost, PromptMost, ConsentMost int
}

func (f AgentForm) voices() (list []ui.Option) {
	for _, v := range f.Voices {
		list = append(list, ui.Option{Value: v, Label: v})
	}
	return list
}

func (f AgentForm) shown() []ui.Option {
	return append([]ui.Option{{Value: "", Label: "The agent's own number"}}, options(f.CallerIDs)...)
}

// shownNumber is the number that is chosen, in words.
func (f AgentForm) shownNumber() string {
	for _, o := range f.shown() {
		if o.Value == f.CallerID {
			return o.Label
		}
	}
	return "The agent's own number"
}

// counted says how long the prompt is of what it may be; the page's script says the same while somebody types.
func (f AgentForm) counted() string {
	return count(int64(utf8.RuneCountInString(f.Prompt))) + " of " + count(int64(f.PromptMost)) + " characters"
}

// NewAgentPage asks for a new agent.
type NewAgentPage struct {
	Meta PageMeta
	Form AgentForm
	Key  string
	// Problem is why it was not made, where no field is to blame.
	Problem string
	Off     bool
}

// AgentChoice is something to choose from: a number, or an agent.
type AgentChoice struct {
	ID, Label string
}

func options(choices []AgentChoice) (list []ui.Option) {
	for _, c := range choices {
		list = append(list, ui.Option{Value: c.ID, Label: c.Label})
	}
	return list
}

// AgentNumbers are the numbers of an organisation as an agent sees them.
type AgentNumbers struct {
	// Free are those that no agent has; Taken counts those that others have.
	Free  []AgentChoice
	Taken int
	Error string
}

func (n AgentNumbers) taken() string {
	switch n.Taken {
	case 0:
		return ""
	case 1:
		return "Another of your numbers is answered by another agent."
	}
	return count(int64(n.Taken)) + " of your numbers are answered by other agents."
}

// CallCost is what a call may come to.
type CallCost struct {
	PerMinute    money.Pence
	PerMinuteUSD money.USDCents
	// Required is what must be available for it to begin, Most what it costs at its longest, Longest how long that is in seconds.
	Required, Most money.Pence
	Longest        int64
	// To is the number that it was asked for, as people read it; empty for the usual price.
	To string
	// Refused is why there is no price.
	Refused string
}

// PlacedCall is a call that was placed from the page.
type PlacedCall struct {
	ID, To string
	State  PlacedState
	Note   string
	// Over says that nothing more happens to it; Seconds and Amount are what it was then.
	Over    bool
	Seconds int64
	Amount  money.Pence
}

// PlacedState is how far such a call has come.
type PlacedState string

// The states.
const (
	PlacedQueued     PlacedState = "queued"
	PlacedPlacing    PlacedState = "placing"
	PlacedUnknown    PlacedState = "unknown"
	PlacedRinging    PlacedState = "ringing"
	PlacedInProgress PlacedState = "in_progress"
	PlacedEnding     PlacedState = "ending"
	PlacedCompleted  PlacedState = "completed"
	PlacedUnanswered PlacedState = "unanswered"
	PlacedFailed     PlacedState = "failed"
)

func (c PlacedCall) state() ui.StateProps {
	switch c.State {
	case PlacedQueued, PlacedPlacing:
		return ui.StateProps{Word: "Being placed", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case PlacedUnknown:
		return ui.StateProps{Word: "Finding out", Tone: ui.ToneWarn, Icon: ui.IconClock}
	case PlacedRinging:
		return ui.StateProps{Word: "Ringing", Tone: ui.ToneInfo, Icon: ui.IconPhone}
	case PlacedInProgress:
		return ui.StateProps{Word: "Speaking", Tone: ui.ToneInfo, Icon: ui.IconPhone}
	case PlacedEnding:
		return ui.StateProps{Word: "Over, being charged", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case PlacedCompleted:
		return ui.StateProps{Word: "Completed", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case PlacedUnanswered:
		return ui.StateProps{Word: "Not answered", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case PlacedFailed:
		return ui.StateProps{Word: "Not made", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: string(c.State), Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// TestCall is the form by which an agent calls somebody.
type TestCall struct {
	To, Error, Key string
	// Blocked is why no call can be made now; empty: one can.
	Blocked string
	// TopUp says that money is what is missing.
	TopUp bool
	Cost  *CallCost
	// Problem is why the last one was not made.
	Problem string
	Placed  *PlacedCall
}

// AgentPage is one agent.
type AgentPage struct {
	Meta    PageMeta
	Agent   PhoneAgent
	Form    AgentForm
	CanEdit bool
	// Off says that our voice service is not set up here.
	Off     bool
	Numbers AgentNumbers
	// Month and Days are what its calls came to this month, and in the last 30 days.
	Month, Days AgentSpend
	Since       time.Time
	Call        TestCall
	Notice      string
	// Problem is why something was not done, where no field is to blame.
	Problem string
	// NotPassedOn is why callers are not passed on as prices stand; empty where they are, or are not to be. Hidden is the number
	// that was to be shown there and may not any more; empty for none.
	NotPassedOn string
	Hidden      AgentChoice
	// Swapped says that the test call's card goes out with the live part, since whether one can be made has changed.
	Swapped bool
}

// RefreshSeconds is how often a browser without scripts should load the page again. Somebody who reads may type here, so it is
// only while nothing else can be done.
func (p AgentPage) RefreshSeconds() int {
	switch {
	case p.Call.Placed != nil && !p.Call.Placed.Over:
		return 5
	case !p.Off && !p.CanEdit && p.Agent.Moves():
		return 5
	}
	return 0
}

// live is where the live part asks how it stands.
func (p AgentPage) live() string {
	at := p.Agent.href() + "?seen=" + p.Agent.Seen()
	if p.Call.Blocked != "" {
		at += "&blocked=1"
	}
	return at
}

func (p AgentPage) poll() string {
	if p.Agent.Note != "" {
		return "every 5s"
	}
	return "every 1s"
}

// DeleteAgentPage asks before an agent is deleted, and what becomes of its number.
type DeleteAgentPage struct {
	Meta  PageMeta
	Agent PhoneAgent
	// Others are agents without a number, which may have this one's.
	Others []AgentChoice
	// Then is what was chosen, LinkTo the agent; Error and LinkError are what is wrong with that.
	Then, LinkTo, Error, LinkError string
	Problem                        string
}

// noteMark tells one note from another; it is no secret and no proof.
func noteMark(note string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, note[:min(len(note), 24)]))
}

// AgentsList is the list alone.
func AgentsList(p AgentsPage) templ.Component { return Part(Agents(p), FragmentAgents) }

// AgentStatus is how an agent stands, alone, with its test call where that has changed.
func AgentStatus(p AgentPage) templ.Component {
	if p.Swapped {
		return Part(AgentDetail(p), FragmentAgent, FragmentAgentCall)
	}
	return Part(AgentDetail(p), FragmentAgent)
}

// AgentCallCost is what a test call may come to, alone.
func AgentCallCost(p AgentPage) templ.Component { return Part(AgentDetail(p), FragmentCallCost) }

// AgentCallState is how a test call goes, alone.
func AgentCallState(p AgentPage) templ.Component { return Part(AgentDetail(p), FragmentCallState) }

func (p AgentPage) linkLabel() string {
	if p.Agent.NumberID != "" {
		return "Another number"
	}
	return "Link a number"
}

func (c CallCost) perMinuteLabel() string {
	if c.To == "" {
		return "A minute, to most places"
	}
	return "A minute, to " + c.To
}

func yesNo(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}
