package views

import (
	"strconv"
	"strings"
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
	MessageReceived    MessageState = "received"
)

// Message is one text.
type Message struct {
	// Inbound says that it came in: From is the other side then, and To the organisation's own number.
	ID, To, From, Body string
	Inbound            bool
	// Media is how many pictures or files came with it; they stay with Twilio. Meaning is what it asked for: stop, start or help.
	Media   int
	Meaning string
	// Talk says that there is a conversation with the other side to be read.
	Talk     bool
	Segments int64
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
	ErasedAt    *time.Time
}

// href is the text's own page.
func (m Message) href() string { return messagesPath + "/" + m.ID }

func (m Message) conversationHref() string { return m.href() + "/conversation" }

// with is the other side, ours our own number.
func (m Message) with() string {
	if m.Inbound {
		return ui.PhoneText(m.From)
	}
	return ui.PhoneText(m.To)
}

func (m Message) ours() string {
	if m.Inbound {
		return ui.PhoneText(m.To)
	}
	return ui.PhoneText(m.From)
}

func (m Message) direction() string {
	if m.Inbound {
		return "From"
	}
	return "To"
}

func (m Message) title() string { return "Text " + strings.ToLower(m.direction()) + " " + m.with() }

// words are what it says, or why that is not there.
func (m Message) words() string {
	switch {
	case m.ErasedAt != nil:
		return "The words were erased."
	case m.Body == "" && m.Media > 0:
		return "Only " + counted(m.Media, "picture") + " or files."
	}
	return m.Body
}

// asks says what somebody wished by it.
func (m Message) asks() string {
	switch m.Meaning {
	case "stop":
		return "By this word they asked not to be texted from this number any more, and we obey it."
	case "start":
		return "By this word they allowed texts from this number again."
	case "help":
		return "By this word they asked who texts from this number, and were told."
	}
	return ""
}

const messagesPath = "/messages"

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
	case MessageReceived:
		return ui.StateProps{Word: "Came in", Tone: ui.ToneNeutral, Icon: ui.IconMoneyIn}
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
	// Sender is the number that it goes out from; empty for the one that all share.
	Sender, SenderError string
	// Conversation is a text of the conversation that this is an answer in; empty: none.
	Conversation string
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
	// Senders are the numbers that a text can go out from, where there are several.
	Senders []AgentChoice
	Filter  TextFilter
	// Own are the numbers on our side that can be asked for.
	Own   []AgentChoice
	Form  MessageForm
	Quote *MessageQuote
	// Unpaid is what the wallet lacks.
	Unpaid string
	// Problem is why it was not sent, where no field is to blame.
	Problem string
	// Notice is what was done.
	Notice   string
	Messages []Message
	// Before is where the page begins, empty for the newest; Older where the next one does, empty at the end; Stopped says that
	// looking stopped there.
	Before, Older string
	Stopped       bool
	// Live says that one of them may still show something else soon.
	Live bool
	// ChargeUndelivered says whether texts that could not be delivered cost.
	ChargeUndelivered bool
}

func (p MessagesPage) chargeRule() string {
	if p.ChargeUndelivered {
		return "A text is charged when it is handed to the network, delivered or not. One that could not be sent costs nothing."
	}
	return "A text is charged when it was delivered. One that was not costs nothing."
}

// TextFilter is what the list was asked for, as it was asked, and what is wrong with that.
type TextFilter struct {
	Direction, State, Party, Number, From, To           string
	DirectionError, StateError, PartyError, NumberError string
	FromError, ToError                                  string
}

// Wrong reports whether something of it is wrong, so that nothing was looked for.
func (f TextFilter) Wrong() bool {
	return f.DirectionError != "" || f.StateError != "" || f.PartyError != "" || f.NumberError != "" || f.FromError != "" || f.ToError != ""
}

func (f TextFilter) empty() bool {
	return f.Direction == "" && f.State == "" && f.Party == "" && f.Number == "" && f.From == "" && f.To == ""
}

func (f TextFilter) query(more ...string) string {
	return queryOf(append([]string{"direction", f.Direction, "state", f.State, "party", f.Party, "number", f.Number, "from", f.From, "to", f.To}, more...)...)
}

var messageStates = []MessageState{MessageQueued, MessageSending, MessageSent, MessageDelivered, MessageUndelivered, MessageFailed, MessageReceived}

func messageStateOptions() []ui.Option {
	list := []ui.Option{{Value: "", Label: "Any state"}}
	for _, s := range messageStates {
		list = append(list, ui.Option{Value: string(s), Label: Message{State: s}.state().Word})
	}
	return list
}

func (p MessagesPage) own() []ui.Option {
	return append([]ui.Option{{Value: "", Label: "Any of ours"}}, options(p.Own)...)
}

func (p MessagesPage) older() string { return messagesPath + p.Filter.query("before", p.Older) }

func (p MessagesPage) newest() string { return messagesPath + p.Filter.query() }

// rows is where the list asks how it stands.
func (p MessagesPage) rows() string {
	return messagesPath + p.Filter.query("before", p.Before, "part", "rows")
}

// status is what a reader hears when the list has changed.
func (p MessagesPage) status() string {
	switch {
	case p.Filter.Wrong():
		return "Something in the form is not right."
	case len(p.Messages) == 0:
		return "No texts found."
	}
	return counted(len(p.Messages), "text") + " on this page."
}

// ConversationPage is all texts with one other side.
type ConversationPage struct {
	// MessagesPage has the form for an answer, and the texts, the oldest first.
	MessagesPage
	// With is the other side; About a text of the conversation.
	With, About string
	// CanAnswer says that a text can be sent there.
	CanAnswer bool
}

func (p ConversationPage) earlier() string {
	return messagesPath + "/" + p.About + "/conversation" + queryOf("before", p.Older)
}

// MessagePage is one text.
type MessagePage struct {
	Meta    PageMeta
	Message Message
	History []CallEvent
	// Taken and Returned are the transactions of the wallet by which it was paid for and given back; empty where it was not.
	Taken, Returned string
}

// MessagesList is the list alone, with its form.
func MessagesList(p MessagesPage) templ.Component {
	return Part(Messages(p), FragmentMessagesStatus, FragmentMessages)
}

// MessagesRows is the list without its form.
func MessagesRows(p MessagesPage) templ.Component { return Part(Messages(p), FragmentMessageRows) }

// MessagesCompose is the form alone.
func MessagesCompose(p MessagesPage) templ.Component { return Part(Messages(p), FragmentCompose) }

// MessagesQuote is what the text in the form would cost, alone.
func MessagesQuote(p MessagesPage) templ.Component { return Part(Messages(p), FragmentMessageQuote) }
