package views

import (
	"net/url"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// EventState is what became of an event of Stripe's.
type EventState string

// The states.
const (
	EventQuarantined EventState = "quarantined"
	EventFailed      EventState = "failed"
	EventReceived    EventState = "received"
	EventProcessed   EventState = "processed"
	EventIgnored     EventState = "ignored"
)

func eventState(s EventState) ui.StateProps {
	switch s {
	case EventQuarantined:
		return ui.StateProps{Word: "Quarantined", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case EventFailed:
		return ui.StateProps{Word: "Failed", Tone: ui.ToneBad, Icon: ui.IconError}
	case EventReceived:
		return ui.StateProps{Word: "Waiting", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case EventProcessed:
		return ui.StateProps{Word: "Processed", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case EventIgnored:
		return ui.StateProps{Word: "Ignored", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	}
	return ui.StateProps{Word: "Not known", Tone: ui.ToneWarn, Icon: ui.IconAlert}
}

// meaning says what a state asks of the operator.
func (s EventState) meaning() string {
	switch s {
	case EventQuarantined:
		return "It speaks of money that we could not place. Mend the cause, then replay it."
	case EventFailed:
		return "Every try failed. Mend the cause, then replay it."
	case EventReceived:
		return "It is stored and will be worked. This page updates by itself."
	case EventProcessed:
		return "It did what it had to do. Replaying it changes nothing but the audit log."
	case EventIgnored:
		return "There was nothing to do for it."
	}
	return "This state is not known to this page."
}

// EventCount is how many events have a state.
type EventCount struct {
	State EventState
	N     int
	// More says that counting stopped at N.
	More bool
}

func (c EventCount) figure() string {
	if c.More {
		return count(int64(c.N)) + "+"
	}
	return count(int64(c.N))
}

// EventFilter is what the list was asked for, as it was asked.
type EventFilter struct {
	State EventState
	Type  string
	Text  string
}

func (f EventFilter) empty() bool { return f == EventFilter{} }

// href is the list with this filter; older is where the page begins, empty for the newest.
func (f EventFilter) href(older string) string {
	q := url.Values{}
	for name, value := range map[string]string{"state": string(f.State), "type": f.Type, "q": f.Text, "before": older} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return "/ops/stripe-events"
	}
	return "/ops/stripe-events?" + q.Encode()
}

func (f EventFilter) with(s EventState) EventFilter {
	f.State = s
	return f
}

// StripeEvent is one event of the list.
type StripeEvent struct {
	ID            string
	Type          string
	State         EventState
	Reason        string
	OrgName       string // empty while it is not known whose it is
	TopUpID       string // empty when it names none
	PaymentIntent string
	Attempts      int
	ReceivedAt    time.Time
}

func (e StripeEvent) href() string { return eventHref(e.ID) }

func eventHref(id string) string { return "/ops/stripe-events/" + url.PathEscape(id) }

// EventsPage is the model of the list.
type EventsPage struct {
	Meta   PageMeta
	Filter EventFilter
	Counts []EventCount
	// OldestWaiting is the age of the oldest event that is not worked yet; zero when none waits.
	OldestWaiting time.Duration
	Types         []string
	Events        []StripeEvent
	// Older is the cursor of the next page, empty on the last; First is false on every page but the first.
	Older string
	First bool
	// Replayed is how many events the operator has just put back; MoreFailed says that there were more than fit.
	Replayed   int
	MoreFailed bool
	// Webhook and Reconciliation are shown on the first page of all events; nil elsewhere.
	Webhook        *Webhook
	Reconciliation *Reconciliation
}

// Reconciliation is how the comparison of our books with Stripe's stands.
type Reconciliation struct {
	// Healed payments of the last day, and the median from payment to credit.
	Healed      int
	HealedPence money.Pence
	MedianDelay time.Duration
	// Last is when the last one began that succeeded; the zero time when none did yet.
	Last          time.Time
	LookedAt      int
	Disagreements int
	// Failed is why the newest one failed; empty when it did not.
	Failed string
}

// disagree says how much could not be agreed on.
func (r *Reconciliation) disagree() string {
	if r.Disagreements == 1 {
		return "1 thing that an operator must look at"
	}
	return count(int64(r.Disagreements)) + " things that an operator must look at"
}

func (p EventsPage) count(s EventState) EventCount {
	for _, c := range p.Counts {
		if c.State == s {
			return c
		}
	}
	return EventCount{State: s}
}

// late is how long an event may wait before that is worth a warning: jobs take milliseconds, the sweeper 45 seconds.
const late = time.Minute

func (p EventsPage) types() []ui.Option {
	list := []ui.Option{{Label: "Every type"}}
	known := p.Filter.Type == ""
	for _, t := range p.Types {
		list = append(list, ui.Option{Value: t, Label: t})
		known = known || t == p.Filter.Type
	}
	if !known {
		list = append(list, ui.Option{Value: p.Filter.Type, Label: p.Filter.Type})
	}
	return list
}

// age is a duration in one or two words.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than a second"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h " + strconv.Itoa(int(d%time.Hour/time.Minute)) + " min"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
}

// events is a number of events in words.
func events(n int, figure string) string {
	if n == 1 {
		return figure + " event"
	}
	return figure + " events"
}

// EventPage is the model of one event's page.
type EventPage struct {
	Meta  PageMeta
	Event StripeEvent
	// OccurredAt is when Stripe made it; NextAttemptAt matters while it waits.
	OccurredAt    time.Time
	NextAttemptAt time.Time
	// Retrying says that it waits because the last try failed.
	Retrying bool
	// Fetched says that it did not come by webhook.
	Fetched bool

	TopUp     *EventTopUp
	Payment   *EventPayment
	Credit    *EventCredit
	Refunds   []EventRefund
	Disputes  []EventDispute
	Reversals []EventReversal
	History   []EventStep

	Payload Payload
	// Reason and Error are the replay form as it was refused.
	Reason, Error string
}

// EventTopUp is the top-up of an event.
type EventTopUp struct {
	ID        string
	State     TopUpState
	Amount    money.Pence
	Paid      money.Pence
	SessionID string
	Note      string
	CreatedAt time.Time
}

// EventPayment is the payment of an event.
type EventPayment struct {
	PaymentIntent string
	Amount        money.Pence
	PaidAt        time.Time // zero until it is paid
}

// EventCredit is the credit of a payment with its ledger transaction.
type EventCredit struct {
	TransactionID string
	Seq           int64
	Description   string
	Amount        money.Pence
	BalanceAfter  money.Pence
	At            time.Time
	Postings      []EventPosting
}

// EventPosting is one side of a ledger transaction.
type EventPosting struct {
	Account string
	Amount  money.Pence
}

// EventStep is one thing that happened to an event.
type EventStep struct {
	At    time.Time
	Title string
	// By is who did it; empty where that is plain.
	By string
	// Text is more about it: a reason that was given, or what had gone wrong.
	Text string
}

// Payload is the body of an event as it is shown.
type Payload struct {
	// Text is the body, pretty-printed when JSON is true.
	Text string
	JSON bool
	// Bytes is the size of the whole body; Cut says that Text is only its beginning.
	Bytes int
	Cut   bool
}

func (p Payload) sub() string {
	kind := "not JSON, shown as it came"
	if p.JSON {
		kind = "JSON, indented for reading"
	}
	if p.Cut {
		kind += ", the beginning only"
	}
	return count(int64(p.Bytes)) + " bytes; " + kind
}

// Seen is what the page shows of the event's progress; polling sends it back.
func (p EventPage) Seen() string { return string(p.Event.State) + "-" + strconv.Itoa(p.Event.Attempts) }

// Soon is how often the page asks again while the event waits, in seconds; 0 when there is nothing to wait for.
func (p EventPage) Soon() int {
	switch {
	case p.Event.State != EventReceived:
		return 0
	case p.Retrying:
		return 10
	default:
		return 2
	}
}

func (p EventPage) pollURL() string { return p.Event.href() + "?seen=" + url.QueryEscape(p.Seen()) }

func (p EventPage) poll() string { return "every " + strconv.Itoa(p.Soon()) + "s" }

// EventStatus answers the page's own polling.
func EventStatus(p EventPage) templ.Component { return Part(StripeEventPage(p), FragmentEvent) }

// ReplayPage is the model of the page that asks before all failed events are replayed.
type ReplayPage struct {
	Meta   PageMeta
	Failed EventCount
	// Limit is how many one replay takes.
	Limit int
	// What was typed and what is wrong with it.
	Reason, ReasonError, ConfirmError string
}

// sub is the line under the list's title.
func (p EventsPage) sub() string {
	switch {
	case p.Filter.Text != "":
		return "Those that name " + p.Filter.Text + ", newest first."
	case !p.First:
		return "Older ones, newest first."
	default:
		return "Newest first."
	}
}

// nothing says why a filtered list is empty.
func (p EventsPage) nothing() string {
	if p.Filter.Text != "" {
		return "No event has this id, PaymentIntent or top-up with the other filters. Ids are compared in full."
	}
	return "No event has this state and type."
}

// tail is the end of an id, which tells ids of one time apart.
func tail(id string) string { return id[max(0, len(id)-6):] }
