package views

import (
	"strconv"
	"time"

	"ringfence/views/ui"
)

// EndpointLine is where a program of the organisation listens.
type EndpointLine struct {
	ID, URL string
	Types   []string
	On      bool
	// Why is why it was switched off; empty when an owner did it.
	Why string
	// FailingSince is zero while all is well, RollsUntil while one secret signs.
	FailingSince, RollsUntil, CreatedAt time.Time
}

func (e EndpointLine) href() string { return "/settings/webhooks/" + e.ID }

func (e EndpointLine) state() ui.StateProps {
	switch {
	case !e.On:
		return ui.StateProps{Word: "Off", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case !e.FailingSince.IsZero():
		return ui.StateProps{Word: "Failing", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{Word: "On", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

// WebhooksPage is the model of the list of endpoints.
type WebhooksPage struct {
	Meta      PageMeta
	Notice    string
	Endpoints []EndpointLine
	// Manages is for owners.
	Manages bool
}

// TypeChoice is one thing to be told of.
type TypeChoice struct {
	Name, About string
	Chosen      bool
}

// EndpointForm is the form for an endpoint.
type EndpointForm struct {
	URL   string
	Types []TypeChoice
	// Key makes a form that is sent twice one endpoint.
	Key string
	// Error is about the form as a whole; the others belong beside their fields.
	Error, URLError, TypesError string
}

// NewWebhookPage is the model of the form for a new endpoint.
type NewWebhookPage struct {
	Meta PageMeta
	Form EndpointForm
}

// DeliveryLine is one message to one endpoint.
type DeliveryLine struct {
	ID, EndpointID, URL string
	Type, About         string
	// State is queued, delivered or failed.
	State    string
	Attempts int
	// Status is the newest answer's; 0 for none.
	Status int
	NextAt time.Time
	At     time.Time
}

func (d DeliveryLine) href() string { return "/settings/webhook-deliveries/" + d.ID }

func (d DeliveryLine) state() ui.StateProps {
	switch {
	case d.State == "delivered":
		return ui.StateProps{Word: "Delivered", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case d.State == "failed":
		return ui.StateProps{Word: "Given up", Tone: ui.ToneBad, Icon: ui.IconError}
	case d.Attempts > 0:
		return ui.StateProps{Word: "Retrying", Tone: ui.ToneWarn, Icon: ui.IconClock}
	}
	return ui.StateProps{Word: "Waiting", Tone: ui.ToneNeutral, Icon: ui.IconHourglass}
}

// tried says how often, and with what answer.
func (d DeliveryLine) tried() string {
	switch {
	case d.Attempts == 0:
		return "Not yet"
	case d.Status == 0:
		return tried(d.Attempts) + ", no answer"
	}
	return tried(d.Attempts) + ", " + strconv.Itoa(d.Status)
}

func tried(n int) string {
	if n == 1 {
		return "Once"
	}
	return strconv.Itoa(n) + " times"
}

// WebhookPage is the model of one endpoint's page.
type WebhookPage struct {
	Meta            PageMeta
	Notice, Problem string
	Endpoint        EndpointLine
	// Secret was made just now and is shown this once; Rolled says that there was one before.
	Secret     string
	Rolled     bool
	Form       EndpointForm
	Manages    bool
	Deliveries []DeliveryLine
	// Newest says that the list begins at the newest; Older leads on, if it is set.
	Newest bool
	Older  string
}

// RemoveWebhookPage is the model of the page that asks before an endpoint is removed.
type RemoveWebhookPage struct {
	Meta     PageMeta
	Endpoint EndpointLine
}

// AttemptLine is one try to deliver.
type AttemptLine struct {
	N, TookMS, Status int
	At                time.Time
	Good              bool
	Answer, Error     string
}

func (a AttemptLine) state() ui.StateProps {
	switch {
	case a.Good:
		return ui.StateProps{Word: strconv.Itoa(a.Status), Tone: ui.ToneGood, Icon: ui.IconCheck}
	case a.Status == 0:
		return ui.StateProps{Word: "No answer", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: strconv.Itoa(a.Status), Tone: ui.ToneBad, Icon: ui.IconError}
}

// DeliveryPage is the model of one delivery's page.
type DeliveryPage struct {
	Meta            PageMeta
	Notice, Problem string
	Delivery        DeliveryLine
	// Body is what is sent, with line breaks for people.
	Body     string
	Attempts []AttemptLine
	Manages  bool
}
