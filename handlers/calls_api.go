package handlers

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// apiCall is a call as programs see it. What was said is in the call itself, and not in a list.
type apiCall struct {
	ID            uuid.UUID           `json:"id"`
	Direction     telephony.Direction `json:"direction"`
	State         telephony.CallState `json:"state"`
	To            string              `json:"to"`
	From          string              `json:"from"`
	AgentID       *uuid.UUID          `json:"agent_id"`
	Seconds       int64               `json:"seconds"`
	MaxSeconds    int64               `json:"max_seconds"`
	Amount        int64               `json:"amount_pence"`
	Lookups       int                 `json:"lookups"`
	LookupsAmount int64               `json:"lookups_pence"`
	HoldID        *uuid.UUID          `json:"hold_id"`
	Note          string              `json:"note,omitempty"`
	EndedReason   string              `json:"ended_reason,omitempty"`
	Recorded      bool                `json:"recorded"`
	Consent       string              `json:"consent"`
	Transcript    *string             `json:"transcript,omitempty"`
	RecordingURL  *string             `json:"recording_url,omitempty"`
	CreatedAt     time.Time           `json:"created_at"`
	StartedAt     *time.Time          `json:"started_at"`
	EndedAt       *time.Time          `json:"ended_at"`
	ErasedAt      *time.Time          `json:"erased_at"`
}

func callForAPI(c telephony.Call) apiCall {
	out := apiCall{
		ID: c.ID, Direction: c.Direction, State: c.State, To: c.Party, From: c.OurNumber, Seconds: c.Seconds, MaxSeconds: c.Ceiling, Amount: int64(c.Amount + c.Held),
		Lookups: c.Lookups, LookupsAmount: int64(c.LookupsAmount), Note: c.Note, EndedReason: c.EndedReason, Recorded: c.Recorded, Consent: c.Consent,
		CreatedAt: c.CreatedAt.UTC(), StartedAt: utc(c.StartedAt), EndedAt: utc(c.EndedAt), ErasedAt: utc(c.ErasedAt),
	}
	if c.Direction == telephony.InboundCall {
		out.To, out.From = c.OurNumber, c.Party
	}
	if c.AgentID.Valid {
		out.AgentID = &c.AgentID.UUID
	}
	if c.HoldID.Valid {
		out.HoldID = &c.HoldID.UUID
	}
	return out
}

// wholeCall is a call with what was said in it.
func wholeCall(c telephony.Call) apiCall {
	out := callForAPI(c)
	out.Transcript, out.RecordingURL = &c.Transcript, &c.RecordingURL
	return out
}

// apiPlaceCall is POST /api/v1/calls: 201 with the call, which is being made; 402 with what is missing. It needs the scope
// calls:write. amount_pence is what it costs, taken or still set aside. The same key and body again are the same call, as it
// stands by then.
func (a *app) apiPlaceCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.CallsWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		To      string  `json:"to"`
		AgentID *string `json:"agent_id"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	agent := uuid.Nil
	if body.AgentID != nil {
		if agent, err = uuid.Parse(*body.AgentID); err != nil || agent == uuid.Nil {
			return fault.Field("agent_id", "There is no such agent.")
		}
	}
	c, err := a.Calls.Place(r.Context(), telephony.PlaceRequest{
		OrgID: v.who.OrgID, To: body.To, Agent: agent, Key: key, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err != nil {
		return err
	}
	replayed(w, c.Repeated)
	return writeJSON(w, http.StatusCreated, wholeCall(c))
}

// apiCalls is GET /api/v1/calls: the organisation's calls, newest first. It needs the scope calls:read.
func (a *app) apiCalls(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.CallsRead); err != nil {
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
	f := telephony.CallFilter{Direction: telephony.Direction(q.Get("direction")), State: telephony.CallState(q.Get("state")), Number: q.Get("number"), Days: days}
	if raw := q.Get("agent_id"); raw != "" {
		if f.Agent, err = uuid.Parse(raw); err != nil {
			return fault.Field("agent_id", "This is no agent's id.")
		}
	}
	page, err := a.Calls.Find(r.Context(), v.who.OrgID, f, cursor, limit)
	if err != nil {
		return asUntil(err)
	}
	out := struct {
		Data []apiCall  `json:"data"`
		Next *uuid.UUID `json:"next_cursor"`
	}{Data: []apiCall{}}
	for _, c := range page.List {
		out.Data = append(out.Data, callForAPI(c))
	}
	if page.Older != uuid.Nil {
		out.Next = &page.Older
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiTheirCall reads the call in the path, for programs.
func (a *app) apiTheirCall(r *http.Request, v *visit) (telephony.Call, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Call{}, fault.New(fault.NotFound, "There is no such call.")
	}
	return a.Calls.Call(r.Context(), v.who.OrgID, id)
}

// apiCallByID is GET /api/v1/calls/{id}. It needs the scope calls:read.
func (a *app) apiCallByID(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.CallsRead); err != nil {
		return err
	}
	c, err := a.apiTheirCall(r, v)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, wholeCall(c))
}

// apiHangUp is POST /api/v1/calls/{id}/hangup: 200 with the call, which is being ended, or has ended. What was spoken until then
// is charged. It needs the scope calls:write, and is safe to repeat.
func (a *app) apiHangUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.CallsWrite); err != nil {
		return err
	}
	if _, err := idempotencyKey(r); err != nil {
		return err
	}
	c, err := a.apiTheirCall(r, v)
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &struct{}{}); err != nil {
			return err
		}
	}
	if c, err = a.Calls.Hangup(r.Context(), v.who.OrgID, c.ID, v.who.Actor()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, wholeCall(c))
}
