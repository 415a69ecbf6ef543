package views

import (
	"strconv"
	"strings"
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// Webhook is how the way from Stripe to us stands.
type Webhook struct {
	// URL is where Stripe has to send to, Version the API version that we read, Handled how many types we act on.
	URL, Version string
	Handled      int
	// StandIn says that Stripe is development's own.
	StandIn bool
	// Endpoints are those at our address, oldest first, as Stripe had them at AskedAt. Unanswered is why it could not be
	// asked, as a sentence; empty when it was.
	Endpoints  []WebhookEndpoint
	AskedAt    time.Time
	Unanswered string

	// What came in a day, what became of it, and how long it waited. Capped says that these are only the newest.
	Received, Worked, Waiting, Quarantined, Failed int
	Capped                                         bool
	Median, P99                                    time.Duration
	// Fetched did not come by itself.
	Fetched int
	// The newest delivery; the zero time when there was none.
	LastID, LastType string
	LastAt           time.Time

	// Refused webhooks by their signature, since the server began at Since.
	Refused            int64
	LastRefused, Since time.Time
}

// WebhookEndpoint is one endpoint at Stripe.
type WebhookEndpoint struct {
	ID      string
	Enabled bool
	// Version is the API version that it speaks; Same says that it is ours.
	Version string
	Same    bool
	// Missing are the types that we act on and it does not send, Extra those that it sends for nothing.
	Missing, Extra []string
}

// verdict is how the endpoint stands, in a word and a sentence; command is what mends it.
func (w *Webhook) verdict() (state ui.StateProps, sentence, command string) {
	warn := func(word string) ui.StateProps {
		return ui.StateProps{Word: word, Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	bad := func(word string) ui.StateProps {
		return ui.StateProps{Word: word, Tone: ui.ToneBad, Icon: ui.IconError}
	}
	if w.Unanswered != "" {
		return warn("Not known"), w.Unanswered + " What came by the endpoint is known all the same.", ""
	}
	if len(w.Endpoints) == 0 {
		if w.StandIn {
			return ui.StateProps{Word: "Not needed", Tone: ui.ToneNeutral, Icon: ui.IconInfo}, "The sandbox delivers to this address without an endpoint.", ""
		}
		return bad("Missing"), "Stripe has no endpoint at our address, so it tells us nothing. Until there is one, payments are credited only when our books are compared with Stripe's.", "ringfence stripe setup"
	}
	e := w.Endpoints[len(w.Endpoints)-1]
	switch {
	case !e.Enabled:
		return bad("Disabled"), "The endpoint is switched off at Stripe, so nothing comes by it.", "ringfence stripe setup"
	case len(e.Missing) > 0:
		return bad("Incomplete"), "The endpoint does not send everything that we act on.", "ringfence stripe setup"
	case !e.Same:
		return warn("Other version"), "The endpoint speaks another API version than this program, which Stripe cannot change.", "ringfence stripe rotate"
	case len(w.Endpoints) > 1:
		return warn("Being replaced"), "There are two endpoints while their secret is being replaced. Stripe sends everything twice.", "ringfence stripe rotate --retire"
	case len(e.Extra) > 0:
		return ui.StateProps{Word: "Sends too much", Tone: ui.ToneInfo, Icon: ui.IconInfo}, "The endpoint also sends what nothing is done on.", "ringfence stripe setup"
	}
	return ui.StateProps{Word: "In order", Tone: ui.ToneGood, Icon: ui.IconCheck}, "Stripe has an endpoint at our address that sends what we act on.", ""
}

// enabled is the endpoint's own state.
func (e WebhookEndpoint) enabled() ui.StateProps {
	if e.Enabled {
		return ui.StateProps{Word: "Enabled", Tone: ui.ToneGood, Icon: ui.IconCheck}
	}
	return ui.StateProps{Word: "Disabled", Tone: ui.ToneBad, Icon: ui.IconOff}
}

// sends says what it sends of what we act on.
func (e WebhookEndpoint) sends(handled int) string {
	if len(e.Missing) == 0 {
		return "All " + strconv.Itoa(handled) + " types that we act on"
	}
	return strconv.Itoa(handled-len(e.Missing)) + " of the " + strconv.Itoa(handled) + " types that we act on"
}

// version compares its API version with ours.
func (e WebhookEndpoint) version(ours string) string {
	switch {
	case e.Same:
		return e.Version + ", as ours"
	case e.Version == "":
		return "The account's own, not " + ours
	}
	return e.Version + ", ours is " + ours
}

// types names types of events.
func types(list []string) string {
	if len(list) == 1 && list[0] == "*" {
		return "every type that there is"
	}
	return strings.Join(list, ", ")
}

// outcome is what became of a day's events.
func (w *Webhook) outcome() ui.StateProps {
	switch {
	case w.Received == 0:
		return ui.StateProps{Word: "Nothing came", Tone: ui.ToneNeutral, Icon: ui.IconInfo}
	case w.Quarantined+w.Failed > 0:
		return ui.StateProps{Word: counted(w.Quarantined+w.Failed, "event") + " to look at", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case w.Waiting > 0:
		return ui.StateProps{Word: count(int64(w.Waiting)) + " waiting", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	}
	return ui.StateProps{Word: "All worked", Tone: ui.ToneGood, Icon: ui.IconCheck}
}

// rate is the part that was worked, in percent, rounded down: a hundred is all of them.
func (w *Webhook) rate() string {
	tenths := w.Worked * 1000 / max(w.Received, 1)
	if tenths%10 == 0 {
		return strconv.Itoa(tenths/10) + "%"
	}
	return strconv.Itoa(tenths/10) + "." + strconv.Itoa(tenths%10) + "%"
}

// of says what the rate is of.
func (w *Webhook) of() string {
	if w.Capped {
		return "of the newest " + count(int64(w.Received)) + " events"
	}
	return "of " + counted(w.Received, "event")
}

// short is a duration as it is, down to the millisecond.
func short(d time.Duration) string {
	if d >= time.Second {
		return age(d)
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "\u00a0ms"
}

// refusals says how it stands with signatures. Refusals where nothing else comes mean that our secret is not Stripe's.
func (w *Webhook) refusals() ui.StateProps {
	switch {
	case w.Refused == 0:
		return ui.StateProps{Word: "None refused", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case w.Received == 0:
		return ui.StateProps{Word: count(w.Refused) + " refused, none taken", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: count(w.Refused) + " refused", Tone: ui.ToneInfo, Icon: ui.IconInfo}
}

// EventRefund is a refund of an event's payment.
type EventRefund struct {
	ID     string
	Amount money.Pence
	Status string // Stripe's word
	// Counts says that it takes the money.
	Counts bool
	At     time.Time
}

func (r EventRefund) state() ui.StateProps {
	if !r.Counts {
		return ui.StateProps{Word: sentence(r.Status), Tone: ui.ToneNeutral, Icon: ui.IconOff}
	}
	return ui.StateProps{Word: sentence(r.Status), Tone: ui.ToneInfo, Icon: ui.IconRefund}
}

// EventDispute is a dispute of an event's payment.
type EventDispute struct {
	ID                string
	Amount, Withdrawn money.Pence
	Status, Reason    string // Stripe's words
	Open, Froze       bool
	At                time.Time
}

func (d EventDispute) state() ui.StateProps {
	switch {
	case d.Open:
		return ui.StateProps{Word: sentence(d.Status), Tone: ui.ToneWarn, Icon: ui.IconDispute}
	case d.Withdrawn > 0:
		return ui.StateProps{Word: sentence(d.Status), Tone: ui.ToneBad, Icon: ui.IconDispute}
	}
	return ui.StateProps{Word: sentence(d.Status), Tone: ui.ToneNeutral, Icon: ui.IconDispute}
}

// more says what else is known of the dispute.
func (d EventDispute) more() string {
	text := sentence(d.Reason)
	if d.Froze {
		text += "; the wallet was frozen for it"
	}
	return text
}

// EventReversal is what was posted because of them.
type EventReversal struct {
	TransactionID string
	Kind          string // refund or dispute
	// Amount was taken (positive) or given again.
	Amount, Bonus, BalanceAfter, DebtAfter money.Pence
	Seq                                    int64
	At                                     time.Time
}

func (r EventReversal) what() string {
	thing := "Refund"
	if r.Kind == "dispute" {
		thing = "Dispute"
	}
	if r.Amount < 0 {
		return thing + ", given again"
	}
	return thing + ", taken back"
}

// sentence is one of Stripe's words as people write.
func sentence(word string) string {
	word = strings.ReplaceAll(word, "_", " ")
	if word == "" {
		return "Not known"
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
