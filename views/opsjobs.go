package views

import (
	"strconv"
	"time"

	"ringfence/views/ui"
)

// Job is one job in the background.
type Job struct {
	ID, Kind, Queue, State string
	Attempt, MaxAttempts   int
	CreatedAt, ScheduledAt time.Time
	// EndedAt is zero while it has not.
	EndedAt   time.Time
	LastError string
	// Retriable and Cancellable say what may be done about it.
	Retriable, Cancellable bool
}

// JobError is what one try met, as River keeps it.
type JobError struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Error   string    `json:"error"`
	Trace   string    `json:"trace"`
}

func (j Job) href() string { return "/ops/jobs/" + j.ID }

func (j Job) tries() string { return strconv.Itoa(j.Attempt) + " of " + strconv.Itoa(j.MaxAttempts) }

// jobState is a state as people read it.
func jobState(state string) ui.StateProps {
	switch state {
	case "discarded":
		return ui.StateProps{Word: "Given up", Tone: ui.ToneBad, Icon: ui.IconError}
	case "retryable":
		return ui.StateProps{Word: "Tried again", Tone: ui.ToneWarn, Icon: ui.IconHourglass}
	case "running":
		return ui.StateProps{Word: "Being worked", Tone: ui.ToneInfo, Icon: ui.IconSpinner}
	case "available":
		return ui.StateProps{Word: "Due", Tone: ui.ToneInfo, Icon: ui.IconClock}
	case "scheduled":
		return ui.StateProps{Word: "Later", Tone: ui.ToneNeutral, Icon: ui.IconClock}
	case "cancelled":
		return ui.StateProps{Word: "Cancelled", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case "completed":
		return ui.StateProps{Word: "Done", Tone: ui.ToneGood, Icon: ui.IconCheck}
	}
	return ui.StateProps{Word: state, Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// JobsPage is the model of the list.
type JobsPage struct {
	Meta PageMeta
	// State is what was chosen; empty for those that somebody may have to look at.
	State  string
	States []string
	Jobs   []Job
	// Next is the cursor of the next page, empty on the last; First is false on every page but the first.
	Next  string
	First bool
	// River says that there are River's own pages too.
	River bool
}

func (p JobsPage) href(before string) string {
	return hrefWith("/ops/jobs", "state", p.State, "before", before)
}

func (p JobsPage) options() []ui.Option {
	list := []ui.Option{{Label: "Given up or tried again"}}
	for _, s := range p.States {
		list = append(list, ui.Option{Value: s, Label: jobState(s).Word})
	}
	return list
}

// JobPage is the model of one job's page.
type JobPage struct {
	Meta   PageMeta
	Job    Job
	Notice string
	// Args are what it works with, as JSON; Errors what its tries met, newest first.
	Args   string
	Errors []JobError
	// Reason and Error are the form as it was refused, Problem is why what was asked for was not done.
	Reason, Error, Problem string
}
