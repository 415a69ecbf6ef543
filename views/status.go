package views

import (
	"strconv"
	"strings"
	"time"

	"ringfence/views/ui"
)

// StatusState is how a part of the service stands.
type StatusState string

// The states.
const (
	StatusGood    StatusState = "good"
	StatusSlow    StatusState = "slow"
	StatusBad     StatusState = "bad"
	StatusUnknown StatusState = "unknown"
)

func (s StatusState) state() ui.StateProps {
	switch s {
	case StatusGood:
		return ui.StateProps{Word: "Works", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case StatusSlow:
		return ui.StateProps{Word: "Impaired", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case StatusBad:
		return ui.StateProps{Word: "Does not work", Tone: ui.ToneBad, Icon: ui.IconError}
	case StatusUnknown:
	}
	return ui.StateProps{Word: "Unknown", Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// StatusComponent is a part of the service.
type StatusComponent struct {
	ID, Name string
	State    StatusState
	// Note is for operators alone.
	Note string
	// Ago is how long ago it was looked at; zero where it never was.
	Ago  time.Duration
	Days []StatusDay
}

// StatusDay is what the looks of one day found; none says that nothing is known of it.
type StatusDay struct {
	Day             time.Time
	Good, Slow, Bad int
}

func (c StatusComponent) state() ui.StateProps { return c.State.state() }

func (d StatusDay) looks() int { return d.Good + d.Slow + d.Bad }

// state is how a day is drawn: more than one look in a hundred counts.
func (d StatusDay) state() StatusState {
	switch n := d.looks(); {
	case n == 0:
		return StatusUnknown
	case d.Bad*100 > n:
		return StatusBad
	case (d.Bad+d.Slow)*100 > n:
		return StatusSlow
	}
	return StatusGood
}

// uptime says of how much of the known time it worked, rounded down to a hundredth of a percent.
func (c StatusComponent) uptime() string {
	worked, all := 0, 0
	for _, d := range c.Days {
		worked += d.Good + d.Slow
		all += d.looks()
	}
	if all == 0 {
		return "Nothing is known yet"
	}
	hundredths := worked * 10_000 / all
	return strconv.Itoa(hundredths/100) + "." + twoDigits(hundredths%100) + "% of the time that is known"
}

func twoDigits(n int) string {
	if n < 10 {
		return "0" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// picture says in words what the days' bars show.
func (c StatusComponent) picture() string {
	var impaired, down, unknown int
	for _, d := range c.Days {
		switch d.state() {
		case StatusBad:
			down++
		case StatusSlow:
			impaired++
		case StatusUnknown:
			unknown++
		case StatusGood:
		}
	}
	return c.Name + " in the last " + strconv.Itoa(len(c.Days)) + " days: " + strconv.Itoa(down) + " with an outage, " + strconv.Itoa(impaired) + " impaired, " + strconv.Itoa(unknown) + " of which nothing is known"
}

func (c StatusComponent) ago() string {
	if c.Ago == 0 {
		return "Never looked at"
	}
	return "Looked at " + age(c.Ago) + " ago"
}

// Incident is what is said in public about something that is not as it should be.
type Incident struct {
	ID, Title, Impact string
	// Components are names.
	Components []string
	StartedAt  time.Time
	// ResolvedAt is zero while it goes on.
	ResolvedAt time.Time
	// Updates are newest first.
	Updates []IncidentUpdate
}

// IncidentUpdate is one thing that was said.
type IncidentUpdate struct {
	Stage, Body string
	At          time.Time
}

func (i Incident) open() bool { return i.ResolvedAt.IsZero() }

func (i Incident) tone() ui.Tone {
	switch {
	case !i.open():
		return ui.ToneNeutral
	case i.Impact == "outage":
		return ui.ToneBad
	case i.Impact == "degraded":
		return ui.ToneWarn
	}
	return ui.ToneInfo
}

func (i Incident) state() ui.StateProps {
	switch {
	case !i.open():
		return ui.StateProps{Word: "Over", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case i.Impact == "outage":
		return ui.StateProps{Word: "Outage", Tone: ui.ToneBad, Icon: ui.IconError}
	case i.Impact == "degraded":
		return ui.StateProps{Word: "Impaired", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{Word: "Notice", Tone: ui.ToneInfo, Icon: ui.IconInfo}
}

func (i Incident) about() string { return strings.Join(i.Components, ", ") }

// stageWord is a stage as people read it.
func stageWord(stage string) string {
	switch stage {
	case "investigating":
		return "Investigating"
	case "identified":
		return "Identified"
	case "monitoring":
		return "Watching"
	case "resolved":
		return "Over"
	}
	return stage
}

// StatusPage is the model of the public page.
type StatusPage struct {
	Meta PageMeta
	// Whole is how the service stands as a whole.
	Whole      StatusState
	Components []StatusComponent
	Open, Past []Incident
}

func (p StatusPage) headline() (ui.Tone, string) {
	switch p.Whole {
	case StatusGood:
		if len(p.Open) > 0 {
			return ui.ToneInfo, "Everything works, and there is something to know"
		}
		return ui.ToneGood, "Everything works"
	case StatusSlow:
		return ui.ToneWarn, "Something is impaired"
	case StatusBad:
		return ui.ToneBad, "Something does not work"
	case StatusUnknown:
	}
	return ui.ToneNeutral, "It is not known how everything stands"
}

// IncidentForm is the form that says something in public, with what was typed and what is wrong with it by field.
type IncidentForm struct {
	Title, Impact, StartedAt, Stage, Body, Reason string
	Components                                    []string
	Errors                                        map[string]string
}

// StatusChoice is something that can be chosen.
type StatusChoice struct {
	Value, Label string
	Chosen       bool
}

// IncidentsPage is the model of the operators' list with the form for another.
type IncidentsPage struct {
	Meta      PageMeta
	Incidents []Incident
	Form      IncidentForm
	// Parts are what an incident can be about.
	Parts []StatusChoice
}

// IncidentPage is the model of one incident's page for operators.
type IncidentPage struct {
	Meta     PageMeta
	Incident Incident
	Notice   string
	Form     IncidentForm
	// Problem is why what was asked for was not done.
	Problem string
}

func impactOptions() []ui.Option {
	return []ui.Option{{Value: "degraded", Label: "Impaired"}, {Value: "outage", Label: "Outage"}, {Value: "notice", Label: "Notice only"}}
}

func stageOptions() []ui.Option {
	return []ui.Option{{Value: "investigating", Label: "Investigating"}, {Value: "identified", Label: "Identified"}, {Value: "monitoring", Label: "Watching"}, {Value: "resolved", Label: "Over"}}
}

func incidentHref(id string) string { return "/ops/incidents/" + id }
