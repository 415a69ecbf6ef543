package views

import (
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// DashboardPage is the model of the first page after signing in.
type DashboardPage struct {
	Meta    PageMeta
	Balance Balance
	// CanTopUp is false for those who may only look.
	CanTopUp bool
	// Start are the steps of a new account; none once all are done, or once the account has been used for a while.
	Start   []FirstStep
	Runway  Runway
	Month   MonthSpent
	Today   Today
	Numbers NumbersGlance
	Agents  AgentsGlance
	// Transactions are the last five.
	Transactions []Transaction
	// Notices are the newest things the organisation was told.
	Notices []NoticeLine
	// Trend is what happened lately; without days it is not shown.
	Trend Trend
	// Auto is how automatic top-ups stand.
	Auto AutoGlance
}

// DashboardBalance is the server-sent event "balance"; it is the same as WalletBalance of the same balance.
func DashboardBalance(p DashboardPage) templ.Component {
	return Part(Dashboard(p), FragmentFrozen, FragmentBalanceStatus, FragmentBalance)
}

// DashboardLive is what the open page asks for anew: all that moves but the balance, which the stream brings.
func DashboardLive(p DashboardPage) templ.Component {
	return Part(Dashboard(p), FragmentDashboard, FragmentActivity)
}

// moves reports whether something goes on by itself that moves no money, so that the stream does not tell.
func (p DashboardPage) moves() bool {
	return p.Agents.Moves || p.Numbers.Coming > 0 || p.Numbers.Leaving > 0 || p.Today.LiveCalls > 0 ||
		p.Today.Lost || p.Agents.Lost || p.Numbers.Lost
}

// Runway is how long the balance lasts.
type Runway struct {
	// Known is false where there is too little to tell it from.
	Known bool
	// Days is how many whole days the available money lasts, Daily what was spent a day in the Over days that it is told from.
	Days, Over int64
	Daily      money.Pence
}

// farOff is from how many days on nobody counts them any more.
const farOff = 365

func (r Runway) headline() string {
	switch {
	case !r.Known:
		return "Not known yet"
	case r.Days == 0:
		return "Less than a day"
	case r.Days == 1:
		return "About 1 day"
	case r.Days > farOff:
		return "Over a year"
	}
	return "About " + count(r.Days) + " days"
}

func (r Runway) sentence() string {
	if !r.Known {
		return "Told from a week of use on."
	}
	return "at this pace: " + r.Daily.String() + " a day over " + strconv.FormatInt(r.Over, 10) + " days"
}

// state warns when the balance ends soon; the zero value says nothing.
func (r Runway) state() ui.StateProps {
	if r.Known && r.Days < 3 {
		return ui.StateProps{Word: "Running low", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{}
}

// MonthSpent is what was spent in 30 days (UTC), today included.
type MonthSpent struct {
	Total money.Pence
	// Most is what most of it went to, and MostPence how much; empty where nothing was spent.
	Most      TransactionKind
	MostPence money.Pence
}

func (m MonthSpent) sentence() string {
	if m.Most == "" {
		return "Nothing was used."
	}
	return "most on " + strings.ToLower(kindPlural(m.Most)) + ": " + m.MostPence.String()
}

// Today is what was paid for since midnight (UTC), and what is under way.
type Today struct {
	Calls, Texts         int64
	CallPence, TextPence money.Pence
	// LiveCalls have not ended; TextsUnderWay wait for what the network says.
	LiveCalls, TextsUnderWay int64
	// Lost says that what is under way could not be read.
	Lost bool
}

func (t Today) live() ui.StateProps {
	if t.LiveCalls == 0 {
		return ui.StateProps{}
	}
	return ui.StateProps{Word: count(t.LiveCalls) + " live now", Tone: ui.ToneInfo, Icon: ui.IconPhone}
}

func (t Today) underWay() ui.StateProps {
	if t.TextsUnderWay == 0 {
		return ui.StateProps{}
	}
	return ui.StateProps{Word: count(t.TextsUnderWay) + " on their way", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
}

// NumbersGlance is how the numbers stand.
type NumbersGlance struct {
	// Active are ready, and of Owing of those a month is owed; Coming are being bought, Leaving being released.
	Active, Owing, Coming, Leaving int64
	// List are some of them, those first that are not simply active.
	List []PhoneNumber
	// Lost says that they could not be read.
	Lost bool
}

// summary says how many there are of each sort.
func (g NumbersGlance) summary() string {
	if g.Lost || g.Active+g.Coming+g.Leaving == 0 {
		return ""
	}
	parts := []string{count(g.Active) + " active"}
	for _, more := range []struct {
		n    int64
		word string
	}{{g.Owing, " with rent owed"}, {g.Coming, " being bought"}, {g.Leaving, " being released"}} {
		if more.n > 0 {
			parts = append(parts, count(more.n)+more.word)
		}
	}
	return strings.Join(parts, ", ")
}

// more is how many the list leaves out.
func (g NumbersGlance) more() int64 {
	return g.Active + g.Coming + g.Leaving - int64(len(g.List))
}

// AgentsGlance is how the agents stand.
type AgentsGlance struct {
	// All are there, and Ready of them can make and take calls.
	All, Ready int64
	// Linked is the id of one that has a number; empty where none has.
	Linked string
	// List are some of them, those first that are not ready.
	List []PhoneAgent
	// Moves says that one of them changes by itself.
	Moves bool
	// Lost says that they could not be read.
	Lost bool
}

func (g AgentsGlance) summary() string {
	switch {
	case g.Lost || g.All == 0:
		return ""
	case g.Ready == g.All && g.All == 1:
		return "Ready for calls"
	case g.Ready == g.All:
		return "All " + count(g.All) + " are ready for calls"
	}
	return count(g.Ready) + " of " + count(g.All) + " ready for calls"
}

func (g AgentsGlance) more() int64 { return g.All - int64(len(g.List)) }

// glanceNumber is its number, or what lacks without one.
func (a PhoneAgent) glanceNumber() string {
	if a.Number == "" {
		return "Takes no calls without one"
	}
	return a.Number
}

// FirstStep is a step of a new account.
type FirstStep struct {
	// ID is top-up, number, agent, link or call.
	ID string
	// Done says that it is behind them, Under that it goes on by itself.
	Done, Under bool
	// Href is where it is done.
	Href string
}

// words are the step as a title, why it is there, and what its button says.
func (s FirstStep) words() (title, why, do string) {
	switch s.ID {
	case "top-up":
		return "Add money", "Calls, texts and numbers are paid from your wallet before they happen, so there is never a bill afterwards.", "Top up"
	case "number":
		return "Buy a phone number", "The number that people call, and that your calls and texts come from.", "Find a number"
	case "agent":
		return "Make an agent", "Say what it is called, how it sounds and what it should do on the phone.", "Make an agent"
	case "link":
		return "Let the agent answer your number", "Linked to a number, the agent takes its calls and makes calls from it.", "Link a number"
	case "call":
		return "Make the first call", "Let the agent call your own phone. What it may cost is said before.", "Make a call"
	}
	return "", "", ""
}

// now is the index of the step to be done next.
func (p DashboardPage) now() int {
	return slices.IndexFunc(p.Start, func(s FirstStep) bool { return !s.Done })
}

func (p DashboardPage) stepsDone() string {
	done := 0
	for _, s := range p.Start {
		if s.Done {
			done++
		}
	}
	return strconv.Itoa(done) + " of " + strconv.Itoa(len(p.Start)) + " done"
}
