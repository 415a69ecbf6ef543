package handlers

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

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

// showMessages answers with the whole page around the form as given.
func (a *app) showMessages(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.MessagesPage) error {
	if err := a.fillCompose(r, v, &p); err != nil {
		return err
	}
	before, err := uuid.Parse(r.URL.Query().Get("before"))
	p.First = err != nil
	if p.First {
		before = uuid.Nil
	}
	list, err := a.Messages.List(r.Context(), v.who.OrgID, before, messagesPerPage+1)
	if err != nil {
		return err
	}
	if len(list) > messagesPerPage {
		list = list[:messagesPerPage]
		p.Older = "/messages?before=" + list[len(list)-1].ID.String()
	}
	for _, m := range list {
		p.Messages = append(p.Messages, message(m))
	}
	return a.render(w, r, status, views.Messages(p))
}

// fillCompose adds what the form needs whatever was done.
func (a *app) fillCompose(r *http.Request, v *visit, p *views.MessagesPage) error {
	p.Meta, p.CanSend, p.From = a.meta(r, v, "Messages"), v.who.CanPay(), a.Messages.From()
	p.Off = !a.Messages.On() || p.From == ""
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

func message(m telephony.Message) views.Message {
	return views.Message{
		ID: m.ID.String(), To: m.Recipient, From: m.Sender, Body: m.Body, Segments: m.Segments, Unicode: m.Encoding == telephony.UCS2,
		State: views.MessageState(m.State), Cost: m.Amount, Held: m.Held, Note: m.Note, ProviderID: m.SID.String, HoldID: m.HoldID.String(),
		At: m.CreatedAt, SentAt: m.SentAt, End: m.EndedAt,
	}
}

// messagePage is one text.
func (a *app) messagePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return errNoPage()
	}
	m, err := a.Messages.Message(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	taken, returned, err := a.Wallets.Outcome(r.Context(), v.who.OrgID, m.HoldID, telephony.Reference(m.ID))
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, views.MessageDetail(views.MessagePage{
		Meta: a.meta(r, v, "Text"), Message: message(m), Taken: idText(taken), Returned: idText(returned),
	}))
}

// messageForm reads the form as typed. A browser sends each new line as two characters (HTML, section 4.10.21.4), of which
// nobody typed the first, and it would be paid for.
func messageForm(r *http.Request) views.MessageForm {
	return views.MessageForm{To: r.PostForm.Get("to"), Body: strings.ReplaceAll(r.PostForm.Get("body"), "\r\n", "\n"), Key: r.PostForm.Get("key")}
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
	p.From, p.CanSend = a.Messages.From(), true
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
	key, err := pageKey(form.Key, form.To+"\n"+form.Body)
	if err != nil {
		return err
	}
	m, err := a.Messages.Send(r.Context(), telephony.SendRequest{
		OrgID: v.who.OrgID, To: form.To, Body: form.Body, Key: key, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err == nil {
		seeOther(w, r, "/messages?sent="+m.ID.String())
		return nil
	}
	p := views.MessagesPage{Form: form}
	f := fault.As(err)
	switch {
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

// apiMessage is a text as programs see it.
type apiMessage struct {
	ID        uuid.UUID       `json:"id"`
	To        string          `json:"to"`
	From      string          `json:"from"`
	Body      string          `json:"body"`
	Segments  int64           `json:"segments"`
	State     telephony.State `json:"state"`
	Amount    int64           `json:"amount_pence"`
	HoldID    uuid.UUID       `json:"hold_id"`
	CreatedAt time.Time       `json:"created_at"`
}

// apiSendMessage is POST /api/v1/messages: 201 with the text, which is on its way; 402 with what is missing. It needs the
// scope messages:write. amount_pence is what it costs, taken or still set aside. The same key and body again are the same text.
func (a *app) apiSendMessage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.MessagesWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		To   string `json:"to"`
		Body string `json:"body"`
		From string `json:"from"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	m, err := a.Messages.Send(r.Context(), telephony.SendRequest{
		OrgID: v.who.OrgID, To: body.To, Body: body.Body, From: body.From, Key: key, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err != nil {
		return err
	}
	replayed(w, m.Repeated)
	return writeJSON(w, http.StatusCreated, apiMessage{
		ID: m.ID, To: m.Recipient, From: m.Sender, Body: m.Body, Segments: m.Segments, State: m.State, Amount: int64(m.Amount + m.Held),
		HoldID: m.HoldID, CreatedAt: m.CreatedAt.UTC(),
	})
}
