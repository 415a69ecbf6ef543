package views

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// OverviewPage is the model of the operators' first page. A part that is nil could not be read, and says so: nothing is well
// because nobody knows better.
type OverviewPage struct {
	Meta PageMeta
	// At is when it was looked.
	At       time.Time
	Notice   string
	Webhooks *OverviewWebhooks
	Waiting  *OverviewWaiting
	Credits  *OverviewCredits
	Jobs     *OverviewJobs
	Promises *OverviewPromises
	Numbers  *OverviewNumbers
	Tokens   *OverviewTokens
	// Accounts are those with the providers; Parts are the parts of the service.
	Accounts *[]OverviewAccount
	Parts    *[]StatusComponent
}

// OverviewWebhooks is what came by webhook in a day.
type OverviewWebhooks struct {
	Received, Worked, Quarantined, Failed int
	Median, P99                           time.Duration
	// Capped says that there were more.
	Capped bool
}

// OverviewWaiting is how long the oldest event has waited; zero where none does.
type OverviewWaiting struct{ Oldest time.Duration }

// OverviewCredits is what was credited, hour by hour.
type OverviewCredits struct{ Hours []OverviewHour }

// OverviewHour is one hour.
type OverviewHour struct {
	At     time.Time
	Times  int64
	Amount money.Pence
}

// OverviewJobs are the jobs that somebody may have to look at.
type OverviewJobs struct {
	Retrying, Discarded, Waiting int64
	// LastDiscarded is zero where none is known.
	LastDiscarded time.Time
}

// OverviewPromises is what came of the last check of all promises; Never says that there was none.
type OverviewPromises struct {
	Never  bool
	At     time.Time
	Age    time.Duration
	Checks int
	Broken []string
	// Failure is why it could not be finished.
	Failure string
}

// OverviewNumbers is what came of the last comparison of our numbers with the providers'.
type OverviewNumbers struct {
	// Off says that this installation has none.
	Off, Never bool
	At         time.Time
	Age        time.Duration
	// Differ is how much is not the same, in words; empty where all is.
	Differ []string
	// Failure is why it could not be finished.
	Failure string
}

// OverviewTokens are the JWTs that were refused by the process that made the page.
type OverviewTokens struct {
	// On says that JWTs are taken at all.
	On    bool
	Count int64
	Last  time.Time // zero for none
}

// OverviewAccount is what we have with a provider.
type OverviewAccount struct {
	Name string
	// Amount is what there is, as a text; empty where it was never read. ReadAt is when it said so.
	Amount string
	ReadAt time.Time
	// Low says that it is below Floor. Why is why nothing newer is known; empty where it is fresh.
	Low   bool
	Floor string
	Why   string
	// Off says that it is not used here.
	Off bool
}

// OverviewTiles are the tiles alone, for the page's own question how things stand now.
func OverviewTiles(p OverviewPage) templ.Component { return Part(Overview(p), FragmentOverview) }

// overviewTile is one tile.
type overviewTile struct {
	ID, Title, Href, More string
	State                 ui.StateProps
	Figure                string
	Lines                 []string
	// Alarm is a line that somebody has to read.
	Alarm string
}

var (
	unread  = ui.StateProps{Word: "Not known", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	allWell = ui.StateProps{Word: "Good", Tone: ui.ToneGood, Icon: ui.IconCheck}
	nothing = ui.StateProps{Word: "Nothing", Tone: ui.ToneNeutral, Icon: ui.IconInfo}
	look    = ui.StateProps{Word: "Look here", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	broken  = ui.StateProps{Word: "Broken", Tone: ui.ToneBad, Icon: ui.IconError}
)

// couldNot makes a tile of what could not be read.
func (t overviewTile) couldNot() overviewTile {
	t.State, t.Figure, t.Lines = unread, "—", []string{"It could not be read just now. The log says why."}
	return t
}

func (p OverviewPage) webhooks() overviewTile {
	t := overviewTile{ID: "tile-webhooks", Title: "Webhooks in 24 hours", Href: "/ops/stripe-events", More: "Stripe events"}
	w := p.Webhooks
	if w == nil {
		return t.couldNot()
	}
	received := count(int64(w.Received))
	if w.Capped {
		received = "the newest " + received
	}
	switch {
	case w.Received == 0:
		t.State, t.Figure, t.Lines = nothing, "0", []string{"No event came."}
		return t
	case w.Failed+w.Quarantined > 0:
		t.State = look
		t.Alarm = count(int64(w.Failed)) + " failed and " + count(int64(w.Quarantined)) + " are quarantined."
	default:
		t.State = allWell
	}
	t.Figure = percentOf(w.Worked, w.Received)
	t.Lines = []string{"of " + received + " worked", "Stored to worked: " + short(w.Median) + " for half, " + short(w.P99) + " for 99%"}
	return t
}

// percentOf writes a share, rounded down to a tenth of a percent, so that 100% is all of them.
func percentOf(part, whole int) string {
	tenths := part * 1000 / whole
	if tenths%10 == 0 {
		return strconv.Itoa(tenths/10) + "%"
	}
	return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
}

func (p OverviewPage) waiting() overviewTile {
	t := overviewTile{ID: "tile-waiting", Title: "Oldest event that waits", Href: "/ops/stripe-events?state=received", More: "What waits"}
	w := p.Waiting
	switch {
	case w == nil:
		return t.couldNot()
	case w.Oldest == 0:
		t.State, t.Figure, t.Lines = allWell, "None", []string{"All that came is worked."}
	case w.Oldest > 5*time.Minute:
		t.State, t.Figure, t.Alarm = broken, age(w.Oldest), "Money is late."
	case w.Oldest > time.Minute:
		t.State, t.Figure, t.Alarm = look, age(w.Oldest), "It should take seconds."
	default:
		t.State, t.Figure, t.Lines = allWell, age(w.Oldest), []string{"It is being worked."}
	}
	return t
}

func (p OverviewPage) jobs() overviewTile {
	t := overviewTile{ID: "tile-jobs", Title: "Jobs", Href: "/ops/jobs", More: "Jobs"}
	j := p.Jobs
	if j == nil {
		return t.couldNot()
	}
	t.State, t.Figure = allWell, count(j.Discarded)
	t.Lines = []string{"given up", count(j.Retrying) + " failed and are tried again, " + count(j.Waiting) + " wait or run"}
	if j.Discarded > 0 {
		t.State = look
		if !j.LastDiscarded.IsZero() {
			t.Alarm = "The newest was given up " + age(p.At.Sub(j.LastDiscarded)) + " ago."
		}
	}
	return t
}

func (p OverviewPage) promises() overviewTile {
	t := overviewTile{ID: "tile-promises", Title: "Promises kept", Href: "/ops/integrity", More: "Integrity"}
	v := p.Promises
	switch {
	case v == nil:
		return t.couldNot()
	case v.Never:
		t.State, t.Figure, t.Lines = unread, "—", []string{"They were not checked yet."}
		return t
	case v.Failure != "":
		t.State, t.Figure, t.Alarm = unread, "—", "The last check could not be finished: "+v.Failure
	case len(v.Broken) > 0:
		t.State, t.Figure, t.Alarm = broken, strconv.Itoa(len(v.Broken)), "Broken: "+strings.Join(v.Broken, ", ")
		t.Lines = []string{"of " + strconv.Itoa(v.Checks) + " do not hold"}
	case v.Age > time.Hour:
		t.State, t.Figure, t.Alarm = look, strconv.Itoa(v.Checks), "That was long ago: they are checked every quarter of an hour."
		t.Lines = []string{"held"}
	default:
		t.State, t.Figure, t.Lines = allWell, strconv.Itoa(v.Checks), []string{"of " + strconv.Itoa(v.Checks) + " hold"}
	}
	t.Lines = append(t.Lines, "Checked "+age(max(v.Age, time.Second))+" ago")
	return t
}

func (p OverviewPage) numbers() overviewTile {
	t := overviewTile{ID: "tile-numbers", Title: "Numbers, ours and theirs", Href: "/ops/integrity", More: "Integrity"}
	v := p.Numbers
	switch {
	case v == nil:
		return t.couldNot()
	case v.Off:
		t.State, t.Figure, t.Lines = ui.StateProps{Word: "Not used", Tone: ui.ToneNeutral, Icon: ui.IconOff}, "—", []string{"There are no numbers here."}
		return t
	case v.Never:
		t.State, t.Figure, t.Lines = unread, "—", []string{"They were not compared yet."}
		return t
	case v.Failure != "":
		t.State, t.Figure, t.Alarm = unread, "—", "The last comparison could not be finished: "+v.Failure
	case len(v.Differ) > 0:
		t.State, t.Figure, t.Alarm = look, "Not the same", strings.Join(v.Differ, ", ")
	case v.Age > 3*time.Hour:
		t.State, t.Figure, t.Alarm = look, "The same", "That was long ago: they are compared every hour."
	default:
		t.State, t.Figure = allWell, "The same"
	}
	t.Lines = append(t.Lines, "Compared "+age(max(v.Age, time.Second))+" ago")
	return t
}

func (p OverviewPage) tokens() overviewTile {
	t := overviewTile{ID: "tile-tokens", Title: "JWTs refused", Href: "/ops/audit?action=auth.", More: "Sign-ins in the log"}
	k := p.Tokens
	if k == nil {
		return t.couldNot()
	}
	t.Figure, t.State = count(k.Count), ui.StateProps{Word: "Counted", Tone: ui.ToneNeutral, Icon: ui.IconInfo}
	t.Lines = []string{"by this process, since it started"}
	if !k.On {
		t.Lines = append(t.Lines, "None is taken here: every one is refused.")
	}
	if !k.Last.IsZero() {
		t.Lines = append(t.Lines, "The last one "+age(max(p.At.Sub(k.Last), time.Second))+" ago")
	}
	return t
}

// tiles are all but the chart and the lists.
func (p OverviewPage) tiles() []overviewTile {
	return []overviewTile{p.webhooks(), p.waiting(), p.jobs(), p.promises(), p.numbers(), p.tokens()}
}

func (a OverviewAccount) state() ui.StateProps {
	switch {
	case a.Off:
		return ui.StateProps{Word: "Not used", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case a.Why != "" || a.Amount == "":
		return unread
	case a.Low:
		return ui.StateProps{Word: "Low", Tone: ui.ToneBad, Icon: ui.IconAlert}
	}
	return allWell
}

// total is what was credited in all the hours.
func (c OverviewCredits) total() (times int64, sum money.Pence) {
	for _, h := range c.Hours {
		times += h.Times
		sum += h.Amount
	}
	return times, sum
}

func (c OverviewCredits) words() string {
	times, sum := c.total()
	if times == 1 {
		return "1 payment of " + sum.String()
	}
	return count(times) + " payments of " + sum.String()
}

func (c OverviewCredits) chart() ui.ChartProps {
	p := ui.ChartProps{ID: "credits-chart", Amount: axisAmount, Label: "Credited each hour: " + c.words() + " in all.", Layers: []ui.ChartLayer{{Shade: ui.Shade1}}}
	for _, h := range c.Hours {
		p.Days = append(p.Days, h.At.UTC().Format("15:04"))
		p.Layers[0].Values = append(p.Layers[0].Values, int64(h.Amount))
	}
	return p
}
