package handlers

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// messagesPerPage is how many texts a page lists.
const messagesPerPage = 25

// messagesPage lists the texts, newest first.
func (a *app) messagesPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	var p views.MessagesPage
	if id, err := uuid.Parse(r.URL.Query().Get("sent")); err == nil {
		switch m, err := a.Messages.Message(r.Context(), v.who.OrgID, id); {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return err
		default:
			p.Notice = "To " + m.Recipient + ". The list tells when it has arrived."
		}
	}
	return a.showMessages(w, r, v, http.StatusOK, p)
}

// showMessages answers with the whole page around the form as given, or with the part of it that was asked for.
func (a *app) showMessages(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.MessagesPage) error {
	q := r.URL.Query()
	if err := a.fillTexts(r, v, &p, q); err != nil {
		return err
	}
	if p.Filter.Wrong() && status == http.StatusOK {
		status = answerTo(fault.Invalid).status
	}
	fragment := isFragment(r) && r.Method == http.MethodGet
	if fragment && q.Get("part") == "rows" {
		return a.render(w, r, status, views.MessagesRows(p))
	}
	if err := a.fillCompose(r, v, &p); err != nil {
		return err
	}
	if fragment {
		return a.render(w, r, status, views.MessagesList(p))
	}
	return a.render(w, r, status, views.Messages(p))
}

// liveText is for how long a text without an end is looked after by its page.
const liveText = 10 * time.Minute

// fillTexts adds what the filter finds.
func (a *app) fillTexts(r *http.Request, v *visit, p *views.MessagesPage, q url.Values) error {
	shown, filter := textFilter(q)
	p.Filter = shown
	if shown.Wrong() {
		return nil
	}
	before, err := uuid.Parse(q.Get("before"))
	if err == nil {
		p.Before = before.String()
	}
	return a.findTexts(r, v, p, filter, before, messagesPerPage)
}

func (a *app) findTexts(r *http.Request, v *visit, p *views.MessagesPage, filter telephony.TextFilter, before uuid.UUID, limit int) error {
	page, err := a.Messages.Find(r.Context(), v.who.OrgID, filter, before, limit)
	if err != nil {
		return err
	}
	for _, t := range page.List {
		m := text(t)
		p.Messages = append(p.Messages, m)
		p.Live = p.Live || !t.Inbound && m.End == nil && a.Now().Sub(m.At) < liveText
	}
	p.Older, p.Stopped = idText(page.Older), page.Stopped
	return nil
}

// textFilter reads what is asked for: as typed, with what is wrong beside it, and as the list takes it.
func textFilter(q url.Values) (views.TextFilter, telephony.TextFilter) {
	shown := views.TextFilter{
		Direction: q.Get("direction"), State: q.Get("state"), Party: strings.TrimSpace(q.Get("party")), Number: strings.TrimSpace(q.Get("number")),
		From: strings.TrimSpace(q.Get("from")), To: strings.TrimSpace(q.Get("to")),
	}
	f := telephony.TextFilter{Direction: telephony.Direction(shown.Direction), State: telephony.State(shown.State), Party: shown.Party, Ours: shown.Number}
	f.From, shown.FromError = historyDay(shown.From)
	f.To, shown.ToError = historyDay(shown.To)
	if err := fault.As(f.Check()); err != nil {
		switch err.Field {
		case "direction":
			shown.Direction, shown.DirectionError = "", err.Public
		case "state":
			shown.State, shown.StateError = "", err.Public
		case "party":
			shown.PartyError = err.Public
		case "number":
			shown.Number, shown.NumberError = "", "Choose a number from the list."
		case "to":
			shown.ToError = err.Public
		}
	}
	shortenFilter(&shown.Party, &shown.From, &shown.To)
	return shown, f
}

// fillCompose adds what the forms need whatever was done.
func (a *app) fillCompose(r *http.Request, v *visit, p *views.MessagesPage) error {
	own, err := a.Messages.OwnNumbers(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p.Meta, p.CanSend, p.From = a.meta(r, v, "Messages"), v.who.CanPay(), a.Messages.From()
	if p.From != "" {
		p.Senders = []views.AgentChoice{{ID: "", Label: views.PhoneText(p.From) + ", which all share"}}
		p.Own = []views.AgentChoice{{ID: p.From, Label: views.PhoneText(p.From) + ", which all share"}}
	}
	for _, n := range own {
		p.Own = append(p.Own, views.AgentChoice{ID: n.PhoneNumber, Label: views.PhoneText(n.PhoneNumber)})
		if n.Sends {
			p.Senders = append(p.Senders, views.AgentChoice{ID: n.PhoneNumber, Label: views.PhoneText(n.PhoneNumber) + ", yours"})
		}
	}
	if p.From == "" && len(p.Senders) == 1 { // there is nothing to choose
		p.From, p.Form.Sender = p.Senders[0].ID, p.Senders[0].ID
	}
	p.Off = !a.Messages.On() || len(p.Senders) == 0
	if p.Form.Key == "" {
		p.Form.Key = uuid.NewString()
	}
	tariff, err := a.Gates.Tariff(r.Context())
	if err != nil {
		return err
	}
	p.ChargeUndelivered = true
	if price, err := tariff.Price(v.who.OrgID, wallet.ActionSMS, "", a.Now()); err == nil {
		p.ChargeUndelivered = price.ChargeUndelivered
	}
	return nil
}

// text is one that went out or came in, as the pages show it.
func text(t telephony.Text) views.Message {
	_, err := wallet.ParseDestination(t.Party)
	m := views.Message{
		ID: t.ID.String(), Inbound: t.Inbound, Body: t.Body, Segments: t.Segments, Unicode: t.Encoding == telephony.UCS2, State: views.MessageState(t.State),
		Media: t.Media, ProviderID: t.SID, At: t.At, ErasedAt: t.ErasedAt, Talk: err == nil,
	}
	if t.Meaning != "none" {
		m.Meaning = t.Meaning
	}
	if t.Inbound {
		m.From, m.To = t.Party, t.Ours
		return m
	}
	m.From, m.To = t.Ours, t.Party
	m.Cost, m.Held, m.Note, m.HoldID = t.Message.Amount, t.Message.Held, t.Message.Note, t.Message.HoldID.String()
	m.SentAt, m.End = t.Message.SentAt, t.Message.EndedAt
	return m
}

// theirText reads the text in the path; one of another organisation is none.
func (a *app) theirText(r *http.Request, v *visit) (telephony.Text, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Text{}, err
	}
	return a.Messages.Text(r.Context(), v.who.OrgID, id)
}

// messagePage is one text.
func (a *app) messagePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	t, err := a.theirText(r, v)
	if err != nil {
		return err
	}
	p := views.MessagePage{Meta: a.meta(r, v, "Text"), Message: text(t)}
	if t.Inbound {
		return a.render(w, r, http.StatusOK, views.MessageDetail(p))
	}
	taken, returned, err := a.Wallets.Outcome(r.Context(), v.who.OrgID, t.Message.HoldID, telephony.Reference(t.ID))
	if err != nil {
		return err
	}
	p.Taken, p.Returned = idText(taken), idText(returned)
	story, err := a.Messages.Story(r.Context(), v.who.OrgID, t.ID)
	if err != nil {
		return err
	}
	p.History = []views.CallEvent{{At: t.At, What: "Written", Who: bySomebody(audit.Actor(t.Message.Actor), v.who)}}
	if t.Message.AskedAt != nil {
		p.History = append(p.History, views.CallEvent{At: *t.Message.AskedAt, What: "Handed to the network"})
	}
	for _, e := range story {
		p.History = append(p.History, views.CallEvent{At: e.At, What: textWords(e.Action), Who: bySomebody(e.Actor, v.who)})
	}
	return a.render(w, r, http.StatusOK, views.MessageDetail(p))
}

// textWords says what happened to a text.
func textWords(action string) string {
	switch action {
	case "message.sent":
		return "Taken by the network"
	case "message.delivered":
		return "Delivered"
	case "message.undelivered":
		return "Not delivered"
	case "message.failed":
		return "Not sent"
	}
	return strings.ReplaceAll(strings.TrimPrefix(action, "message."), "_", " ")
}

// textsPerConversation is how many texts of a conversation a page shows.
const textsPerConversation = 50

// conversationPage is all texts with the other side of one text, the newest of them, in the order in which they were written.
func (a *app) conversationPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	t, err := a.theirText(r, v)
	if err != nil {
		return err
	}
	if !text(t).Talk && !t.Inbound {
		return fault.New(fault.NotFound, "This person was erased, so there is no conversation with them any more.")
	}
	p := views.ConversationPage{With: t.Party, About: t.ID.String(), CanAnswer: text(t).Talk}
	p.Form = views.MessageForm{To: t.Party, Sender: t.Ours, Conversation: t.ID.String()}
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil {
		before = uuid.Nil
	}
	if err := a.findTexts(r, v, &p.MessagesPage, telephony.TextFilter{With: t.Party}, before, textsPerConversation); err != nil {
		return err
	}
	slices.Reverse(p.Messages)
	if err := a.fillCompose(r, v, &p.MessagesPage); err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Senders, func(c views.AgentChoice) bool { return c.ID == p.Form.Sender }) {
		p.Form.Sender = ""
	}
	p.Meta.Title = "Conversation"
	return a.render(w, r, http.StatusOK, views.Conversation(p))
}

// messageForm reads the form as typed. A browser sends each new line as two characters (HTML, section 4.10.21.4), of which
// nobody typed the first, and it would be paid for.
func messageForm(r *http.Request) views.MessageForm {
	return views.MessageForm{
		To: r.PostForm.Get("to"), Body: strings.ReplaceAll(r.PostForm.Get("body"), "\r\n", "\n"), Key: r.PostForm.Get("key"),
		Sender: r.PostForm.Get("sender"), Conversation: r.PostForm.Get("conversation"),
	}
}

// quoteMessage says how many segments a text takes and what it would cost.
func (a *app) quoteMessage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayText(v.who); err != nil {
		return err
	}
	p := views.MessagesPage{Form: messageForm(r)}
	if err := a.quoteText(r.Context(), v, &p); err != nil {
		return err
	}
	if !isFragment(r) {
		return a.showMessages(w, r, v, http.StatusOK, p)
	}
	if err := a.fillCompose(r, v, &p); err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, views.MessagesQuote(p))
}

// quoteText puts what the text in the form would cost beside it. What is not whole yet is simply not counted yet.
func (a *app) quoteText(ctx context.Context, v *visit, p *views.MessagesPage) error {
	if strings.TrimSpace(p.Form.Body) == "" {
		return nil
	}
	if err := telephony.CheckBody(p.Form.Body); err != nil {
		p.Quote = &views.MessageQuote{Refused: fault.As(err).Public}
		return nil
	}
	n, encoding := telephony.Segments(p.Form.Body)
	q := &views.MessageQuote{Segments: int64(n), Unicode: encoding == telephony.UCS2}
	ask := wallet.HoldRequest{OrgID: v.who.OrgID, Action: wallet.ActionSMS, Quantity: int64(n), Source: wallet.SourceMessage}
	if to, err := wallet.ParseDestination(p.Form.To); err == nil {
		ask.Destination = to
	}
	amount, _, err := a.Gates.Quote(ctx, ask)
	f := fault.As(err)
	switch {
	case err == nil:
		rate, err := a.Wallets.Rate(ctx)
		if err != nil {
			return err
		}
		if q.USD, err = rate.ToUSD(amount); err != nil {
			return err
		}
		q.Pence = amount
	case f.Kind == fault.Forbidden || f.Kind == fault.Invalid:
		q.Refused = f.Public
	default:
		return err
	}
	p.Quote = q
	return nil
}

// sendMessage sends a text from the page. The page's own key makes sending its form twice one text.
func (a *app) sendMessage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayText(v.who); err != nil {
		return err
	}
	form := messageForm(r)
	key, err := pageKey(form.Key, form.Sender+"\n"+form.To+"\n"+form.Body)
	if err != nil {
		return err
	}
	m, err := a.Messages.Send(r.Context(), telephony.SendRequest{
		OrgID: v.who.OrgID, To: form.To, From: form.Sender, Body: form.Body, Key: key, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err == nil {
		to := "/messages?sent=" + m.ID.String()
		if form.Conversation != "" {
			to = "/messages/" + m.ID.String() + "/conversation"
		}
		seeOther(w, r, to)
		return nil
	}
	p := views.MessagesPage{Form: form}
	p.Form.Sender, p.Form.To, p.Form.Conversation = typed(form.Sender), typed(form.To), typed(form.Conversation)
	f := fault.As(err)
	switch {
	case f.Field == "from":
		p.Form.SenderError = f.Public
	case f.Field == "to" || f.Field == "destination":
		p.Form.ToError = f.Public
	case f.Field == "body":
		p.Form.BodyError = f.Public
	case f.Kind == fault.Unpaid:
		p.Unpaid = f.Public
	case f.Kind == fault.Declined || f.Kind == fault.Unavailable || f.Kind == fault.Forbidden || f.Field != "":
		p.Problem = f.Public
		p.Form.Key = "" // another try is another text
	default:
		return err
	}
	if len(p.Form.Body) > 4*telephony.MaxBody {
		p.Form.Body = ""
	}
	status := answerTo(f.Kind).status
	if !isFragment(r) {
		return a.showMessages(w, r, v, status, p)
	}
	if err := a.fillCompose(r, v, &p); err != nil {
		return err
	}
	w.Header().Set("HX-Retarget", "#compose-place") // where a 402 does not go by itself
	return a.render(w, r, status, views.MessagesCompose(p))
}

// mayText refuses who may only look.
func mayText(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you can see the texts but not send any. Ask an owner of "+who.OrgName+".")
}
