package views

import (
	"strconv"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// MessageState is how far a text has come.
type MessageState string

// The states.
const (
	MessageQueued      MessageState = "queued"
	MessageSending     MessageState = "sending"
	MessageSent        MessageState = "sent"
	MessageDelivered   MessageState = "delivered"
	MessageUndelivered MessageState = "undelivered"
	MessageFailed      MessageState = "failed"
)

// Message is one text.
type Message struct {
	ID, To, From, Body string
	Segments           int64
	// Unicode says that it travels as UCS-2.
	Unicode bool
	State   MessageState
	// Cost is what was charged and not given back, Held what is set aside.
	Cost, Held money.Pence
	// Note is why it was not sent or delivered.
	Note        string
	ProviderID  string
	HoldID      string
	At          time.Time
	SentAt, End *time.Time
}

// href is the text's own page.
func (m Message) href() string { return "/messages/" + m.ID }

func (m Message) state() ui.StateProps {
	switch m.State {
	case MessageQueued:
		return ui.StateProps{Word: "Queued", Tone: ui.ToneNeutral, Icon: ui.IconClock}
	case MessageSending:
		return ui.StateProps{Word: "Sending", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case MessageSent:
		return ui.StateProps{Word: "Sent", Tone: ui.ToneInfo, Icon: ui.IconCheck}
	case MessageDelivered:
		return ui.StateProps{Word: "Delivered", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case MessageUndelivered:
		return ui.StateProps{Word: "Undelivered", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	case MessageFailed:
		return ui.StateProps{Word: "Failed", Tone: ui.ToneBad, Icon: ui.IconError}
	}
	return ui.StateProps{Word: string(m.State), Tone: ui.ToneNeutral, Icon: ui.IconInfo}
}

// parts is how it travels.
func (m Message) parts() string { return parts(m.Segments, m.Unicode) }

func parts(n int64, unicode bool) string {
	text := strconv.FormatInt(n, 10) + " segments"
	if n == 1 {
		text = "1 segment"
	}
	if unicode {
		text += ", Unicode"
	}
	return text
}

// MessageForm is what was typed, and what is wrong with it.
type MessageForm struct {
	To, Body           string
	ToError, BodyError string
	// Key makes sending the form twice one text.
	Key string
}

// MessageQuote is what the text in the form would cost.
type MessageQuote struct {
	Segments int64
	Unicode  bool
	Pence    money.Pence
	USD      money.USDCents
	// Refused is why it would not be sent.
	Refused string
}

func (q MessageQuote) parts() string { return parts(q.Segments, q.Unicode) }

// MessagesPage is the list of texts and the form for another.
type MessagesPage struct {
	Meta PageMeta
	// CanSend is whether this person may spend; Off is why nobody can send here.
	CanSend bool
	Off     bool
	From    string
	Form    MessageForm
	Quote   *MessageQuote
	// Unpaid is what the wallet lacks.
	Unpaid string
	// Problem is why it was not sent, where no field is to blame.
	Problem string
	// Notice is what was done.
	Notice   string
	Messages []Message
	// Older is the address of the next page; empty at the end.
	Older string
	// First is false on later pages.
	First bool
	// ChargeUndelivered says whether texts that could not be delivered cost.
	ChargeUndelivered bool
}

func (p MessagesPage) chargeRule() string {
	if p.ChargeUndelivered {
		return "A text is charged when it is handed to the network, delivered or not. One that could not be sent costs nothing."
	}
	return "A text is charged when it was delivered. One that was not costs nothing."
}

// MessagePage is one text.
type MessagePage struct {
	Meta    PageMeta
	Message Message
	// Taken and Returned are the transactions of the wallet by which it was paid for and given back; empty where it was not.
	Taken, Returned string
}

// MessagesCompose is the form alone.
func MessagesCompose(p MessagesPage) templ.Component { return Part(Messages(p), FragmentCompose) }

// MessagesQuote is what the text in the form would cost, alone.
func MessagesQuote(p MessagesPage) templ.Component { return Part(Messages(p), FragmentMessageQuote) }
