package handlers

import (
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// apiMessage is a text as programs see it. One that came in has no hold and costs nothing.
type apiMessage struct {
	ID        uuid.UUID           `json:"id"`
	Direction telephony.Direction `json:"direction"`
	To        string              `json:"to"`
	From      string              `json:"from"`
	Body      string              `json:"body"`
	Segments  int64               `json:"segments"`
	State     telephony.State     `json:"state"`
	Amount    int64               `json:"amount_pence"`
	HoldID    *uuid.UUID          `json:"hold_id"`
	Note      string              `json:"note,omitempty"`
	CreatedAt time.Time           `json:"created_at"`
	ErasedAt  *time.Time          `json:"erased_at,omitempty"`
}

func messageForAPI(m telephony.Message) apiMessage {
	return apiMessage{
		ID: m.ID, Direction: telephony.OutboundCall, To: m.Recipient, From: m.Sender, Body: m.Body, Segments: m.Segments, State: m.State,
		Amount: int64(m.Amount + m.Held), HoldID: &m.HoldID, Note: m.Note, CreatedAt: m.CreatedAt.UTC(), ErasedAt: utc(m.ErasedAt),
	}
}

func textForAPI(t telephony.Text) apiMessage {
	if !t.Inbound {
		return messageForAPI(t.Message)
	}
	return apiMessage{
		ID: t.ID, Direction: telephony.InboundCall, To: t.Ours, From: t.Party, Body: t.Body, Segments: t.Segments, State: t.State, CreatedAt: t.At.UTC(), ErasedAt: utc(t.ErasedAt),
	}
}

// utc is a moment in UTC, where there is one.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := t.UTC()
	return &at
}

// daysOf reads the days between which a list is asked for.
func daysOf(q url.Values) (d telephony.Days, err error) {
	for name, to := range map[string]*time.Time{"since": &d.From, "until": &d.To} {
		day, wrong := historyDay(q.Get(name))
		if wrong != "" {
			return d, fault.Field(name, wrong)
		}
		*to = day
	}
	return d, nil
}

// asUntil puts a fault about the last day beside the parameter that names it here.
func asUntil(err error) error {
	f := fault.As(err)
	if f == nil || f.Field != "to" {
		return err
	}
	until := *f
	until.Field = "until"
	return &until
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
	return writeJSON(w, http.StatusCreated, messageForAPI(m))
}

// apiMessages is GET /api/v1/messages: the organisation's texts, out and in, newest first. It needs the scope messages:read.
func (a *app) apiMessages(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.MessagesRead); err != nil {
		return err
	}
	limit, cursor, err := pageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	days, err := daysOf(q)
	if err != nil {
		return err
	}
	page, err := a.Messages.Find(r.Context(), v.who.OrgID, telephony.TextFilter{
		Direction: telephony.Direction(q.Get("direction")), State: telephony.State(q.Get("state")), Party: q.Get("party"), Ours: q.Get("number"), Days: days,
	}, cursor, limit)
	if err != nil {
		return asUntil(err)
	}
	out := struct {
		Data []apiMessage `json:"data"`
		Next *uuid.UUID   `json:"next_cursor"`
	}{Data: []apiMessage{}}
	for _, t := range page.List {
		out.Data = append(out.Data, textForAPI(t))
	}
	if page.Older != uuid.Nil {
		out.Next = &page.Older
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiMessageByID is GET /api/v1/messages/{id}. It needs the scope messages:read.
func (a *app) apiMessageByID(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.MessagesRead); err != nil {
		return err
	}
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return fault.New(fault.NotFound, "There is no such text.")
	}
	t, err := a.Messages.Text(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, textForAPI(t))
}
