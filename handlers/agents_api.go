package handlers

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// apiAgent is an agent as programs see it.
type apiAgent struct {
	ID           uuid.UUID           `json:"id"`
	Name         string              `json:"name"`
	Active       bool                `json:"active"`
	Voice        string              `json:"voice"`
	FirstMessage string              `json:"first_message"`
	Prompt       string              `json:"prompt"`
	Knowledge    bool                `json:"knowledge"`
	ForwardTo    *string             `json:"forward_to"`
	CallerID     *uuid.UUID          `json:"caller_id"`
	Recorded     bool                `json:"recorded"`
	Consent      string              `json:"consent"`
	NumberID     *uuid.UUID          `json:"number_id"`
	PhoneNumber  *string             `json:"phone_number"`
	Ready        bool                `json:"ready"`
	Sync         telephony.SyncState `json:"sync_state"`
	Note         string              `json:"note,omitempty"`
	CreatedAt    time.Time           `json:"created_at"`
	UpdatedAt    time.Time           `json:"updated_at"`
}

func agentForAPI(a telephony.Agent) apiAgent {
	out := apiAgent{
		ID: a.ID, Name: a.Name, Active: a.Active, Voice: a.Voice, FirstMessage: a.FirstMessage, Prompt: a.Prompt, Knowledge: a.Knowledge,
		Recorded: a.Recorded, Consent: a.Consent, Ready: a.Ready(), Sync: a.Sync, Note: a.Note, CreatedAt: a.CreatedAt.UTC(), UpdatedAt: a.UpdatedAt.UTC(),
	}
	if a.ForwardTo != "" {
		out.ForwardTo = &a.ForwardTo
	}
	if a.CallerID.Valid {
		out.CallerID = &a.CallerID.UUID
	}
	if a.NumberID.Valid {
		out.NumberID, out.PhoneNumber = &a.NumberID.UUID, &a.PhoneNumber.String
	}
	return out
}

// takenAway is a text that may be left out, or be null or empty to take away what there was.
type takenAway struct {
	Set   bool
	Value string
}

// UnmarshalJSON is only called for a member that is there.
func (t *takenAway) UnmarshalJSON(b []byte) error {
	t.Set = true
	return json.Unmarshal(b, &t.Value) // null leaves it empty
}

// agentBody is what programs say of an agent; what is left out stays as it is.
type agentBody struct {
	Name         *string   `json:"name"`
	Active       *bool     `json:"active"`
	Voice        *string   `json:"voice"`
	FirstMessage *string   `json:"first_message"`
	Prompt       *string   `json:"prompt"`
	Knowledge    *bool     `json:"knowledge"`
	ForwardTo    takenAway `json:"forward_to"`
	CallerID     takenAway `json:"caller_id"`
	Recorded     *bool     `json:"recorded"`
	Consent      *string   `json:"consent"`
}

// set takes a value over where one was given.
func set[T any](v, given *T) {
	if given != nil {
		*v = *given
	}
}

// over puts what was said over what there is; Invalid for a caller id that is none.
func (b *agentBody) over(f telephony.AgentFields) (telephony.AgentFields, error) {
	set(&f.Name, b.Name)
	set(&f.Active, b.Active)
	set(&f.Voice, b.Voice)
	set(&f.FirstMessage, b.FirstMessage)
	set(&f.Prompt, b.Prompt)
	set(&f.Knowledge, b.Knowledge)
	set(&f.Recorded, b.Recorded)
	set(&f.Consent, b.Consent)
	if b.ForwardTo.Set {
		f.ForwardTo = b.ForwardTo.Value
	}
	if !b.CallerID.Set {
		return f, nil
	}
	f.CallerID = uuid.NullUUID{}
	if b.CallerID.Value == "" {
		return f, nil
	}
	id, err := uuid.Parse(b.CallerID.Value)
	if err != nil {
		return f, fault.Field("caller_id", "Choose a number of yours that was verified.")
	}
	f.CallerID = uuid.NullUUID{UUID: id, Valid: true}
	return f, nil
}

// apiAgents is GET /api/v1/agents: the organisation's agents, newest first. It needs the scope agents:read.
func (a *app) apiAgents(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsRead); err != nil {
		return err
	}
	limit, cursor, err := pageOf(r)
	if err != nil {
		return err
	}
	list, err := a.Agents.List(r.Context(), v.who.OrgID) // a few hundred at most
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(x, y telephony.Agent) int { return bytes.Compare(y.ID[:], x.ID[:]) }) // ids are made in the order of time
	if cursor != uuid.Nil {
		list = slices.DeleteFunc(list, func(x telephony.Agent) bool { return bytes.Compare(x.ID[:], cursor[:]) >= 0 })
	}
	out := struct {
		Data []apiAgent `json:"data"`
		Next *string    `json:"next_cursor"`
	}{Data: []apiAgent{}}
	if len(list) > limit {
		list = list[:limit]
		out.Next = new(list[limit-1].ID.String())
	}
	for _, x := range list {
		out.Data = append(out.Data, agentForAPI(x))
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiMakeAgent is POST /api/v1/agents: 201 with the agent, of which our voice service is being told. It needs the scope
// agents:write. The same key and body again are the same agent, as it stands by then.
func (a *app) apiMakeAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body agentBody
	if err := readJSONWithin(w, r, &body, maxAgentJSON); err != nil {
		return err
	}
	fields, err := body.over(telephony.AgentFields{Active: true, Voice: telephony.Voices[0]})
	if err != nil {
		return err
	}
	agent, err := a.Agents.Create(r.Context(), telephony.AgentRequest{OrgID: v.who.OrgID, AgentFields: fields, Key: key, Actor: v.who.Actor()})
	if err != nil {
		return err
	}
	replayed(w, agent.Repeated)
	return writeJSON(w, http.StatusCreated, agentForAPI(agent))
}

// agentID reads the agent's id in the path, for programs.
func agentID(r *http.Request) (uuid.UUID, error) {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, fault.New(fault.NotFound, "There is no such agent.")
	}
	return id, nil
}

// apiAgent is GET /api/v1/agents/{id}. It needs the scope agents:read.
func (a *app) apiAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsRead); err != nil {
		return err
	}
	id, err := agentID(r)
	if err != nil {
		return err
	}
	agent, err := a.Agents.Agent(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, agentForAPI(agent))
}

// apiChangeAgent is PATCH /api/v1/agents/{id}: what the body has is changed, what it leaves out stays. It needs the scope
// agents:write, and is safe to repeat.
func (a *app) apiChangeAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsWrite); err != nil {
		return err
	}
	id, err := agentID(r)
	if err != nil {
		return err
	}
	var body agentBody
	if err := readJSONWithin(w, r, &body, maxAgentJSON); err != nil {
		return err
	}
	agent, err := a.Agents.Change(r.Context(), v.who.OrgID, id, body.over, v.who.Actor())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, agentForAPI(agent))
}

// apiDeleteAgent is DELETE /api/v1/agents/{id}. One that has a number is deleted only with ?number=unlink, which leaves the
// number without an agent, or ?link_to= and another agent's id, which answers it from then on. It needs the scope agents:write.
func (a *app) apiDeleteAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsWrite); err != nil {
		return err
	}
	id, err := agentID(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	number, linkTo := q.Get("number"), q.Get("link_to")
	switch {
	case number != "" && number != "unlink":
		return fault.Field("number", "This is unlink, or is left out.")
	case number != "" && linkTo != "":
		return fault.Field("link_to", "Say number=unlink or link_to, not both.")
	case linkTo != "":
		by, perr := uuid.Parse(linkTo)
		if perr != nil {
			return fault.Field("link_to", "This is the id of another agent, or is left out.")
		}
		err = a.Agents.Replace(r.Context(), v.who.OrgID, id, by, v.who.Actor())
	default:
		err = a.Agents.Delete(r.Context(), v.who.OrgID, id, number == "unlink", v.who.Actor())
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		ID      uuid.UUID `json:"id"`
		Deleted bool      `json:"deleted"`
	}{id, true})
}

// apiLinkAgent is PUT /api/v1/agents/{id}/number: the agent answers the number and calls from it. It needs the scope
// agents:write, and is safe to repeat.
func (a *app) apiLinkAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsWrite); err != nil {
		return err
	}
	id, err := agentID(r)
	if err != nil {
		return err
	}
	var body struct {
		Number string `json:"number_id"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	number, err := uuid.Parse(strings.TrimSpace(body.Number))
	if err != nil {
		return fault.Field("number_id", "This is the id of one of your numbers.")
	}
	agent, err := a.Agents.Link(r.Context(), v.who.OrgID, id, number, v.who.Actor())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, agentForAPI(agent))
}

// apiUnlinkAgent is DELETE /api/v1/agents/{id}/number: the number has no agent any more. It needs the scope agents:write, and
// is safe to repeat.
func (a *app) apiUnlinkAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.AgentsWrite); err != nil {
		return err
	}
	id, err := agentID(r)
	if err != nil {
		return err
	}
	agent, err := a.Agents.Unlink(r.Context(), v.who.OrgID, id, v.who.Actor())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, agentForAPI(agent))
}
