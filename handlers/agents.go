package handlers

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const agentsPath = "/agents"

// agentsPage lists the agents, by name.
func (a *app) agentsPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := a.Agents.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	month := monthOf(a.Now())
	spend, err := a.Agents.Spend(r.Context(), v.who.OrgID, month, a.Now())
	if err != nil {
		return err
	}
	p := views.AgentsPage{Meta: a.meta(r, v, "Agents"), CanEdit: v.who.CanPay(), Off: !a.Agents.On(), Month: month}
	for _, agent := range list {
		row := phoneAgent(agent)
		row.Spend = agentSpend(spend[agent.ID])
		p.Agents = append(p.Agents, row)
	}
	if r.URL.Query().Get("done") == "deleted" {
		p.Notice = "The agent was deleted. Its calls stay in the list with its name."
	}
	if isFragment(r) && r.URL.Query().Get("part") == "list" {
		return a.render(w, r, http.StatusOK, views.AgentsList(p))
	}
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	return a.render(w, r, http.StatusOK, views.Agents(p))
}

// monthOf is when the month of a moment began (UTC).
func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func phoneAgent(a telephony.Agent) views.PhoneAgent {
	return views.PhoneAgent{
		ID: a.ID.String(), Name: a.Name, Active: a.Active, Sync: views.AgentSync(a.Sync), Note: a.Note, Known: a.AssistantID.Valid,
		NumberID: idText(a.NumberID.UUID), Number: a.PhoneNumber.String, At: a.CreatedAt,
	}
}

func agentSpend(s telephony.Spend) views.AgentSpend {
	return views.AgentSpend{Calls: s.Calls, Seconds: s.Seconds, Amount: s.Amount, Lookups: s.Lookups}
}

// mayKeepAgents refuses who may only look.
func mayKeepAgents(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you can see the agents but not change anything. Ask an owner of "+who.OrgName+".")
}

// newAgentPage asks for a new agent.
func (a *app) newAgentPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	return a.askAgent(w, r, v, http.StatusOK, views.NewAgentPage{Form: views.AgentForm{Active: true, Voice: telephony.Voices[0]}})
}

// askAgent answers with the form for a new agent as given.
func (a *app) askAgent(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.NewAgentPage) error {
	if err := a.fillAgentForm(r, v, &p.Form); err != nil {
		return err
	}
	p.Meta, p.Key, p.Off = a.meta(r, v, "New agent"), cmp.Or(p.Key, uuid.NewString()), !a.Agents.On()
	return a.render(w, r, status, views.NewAgent(p))
}

// fillAgentForm adds what there is to choose from.
func (a *app) fillAgentForm(r *http.Request, v *visit, f *views.AgentForm) error {
	f.Voices = telephony.Voices
	f.NameMost, f.FirstMost, f.PromptMost, f.ConsentMost = telephony.MaxAgentName, telephony.MaxFirstMessage, telephony.MaxPrompt, telephony.MaxConsent
	proven, err := a.Agents.CallerIDs(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, c := range proven {
		if c.Usable() {
			f.CallerIDs = append(f.CallerIDs, views.AgentChoice{ID: c.ID.String(), Label: views.PhoneText(c.PhoneNumber)})
		}
	}
	return nil
}

// agentForm is an agent as its form shows it.
func agentForm(f telephony.AgentFields) views.AgentForm {
	return views.AgentForm{
		Name: f.Name, Voice: f.Voice, FirstMessage: f.FirstMessage, Prompt: f.Prompt, ForwardTo: f.ForwardTo, CallerID: idText(f.CallerID.UUID), Consent: f.Consent,
		Active: f.Active, Knowledge: f.Knowledge, Recorded: f.Recorded,
	}
}

// readAgentForm reads the form as it was typed. A browser sends each new line as two characters, of which nobody typed the
// first.
func readAgentForm(form url.Values) views.AgentForm {
	text := func(name string) string { return strings.ReplaceAll(form.Get(name), "\r\n", "\n") }
	return views.AgentForm{
		Name: form.Get("name"), Voice: form.Get("voice"), FirstMessage: text("first_message"), Prompt: text("prompt"), ForwardTo: form.Get("forward_to"),
		CallerID: form.Get("caller_id"), Consent: text("consent"),
		Active: form.Get("active") == "yes", Knowledge: form.Get("knowledge") == "yes", Recorded: form.Get("recorded") == "yes",
	}
}

// agentFields is what the form asks for; Invalid for a caller id that is none.
func agentFields(f views.AgentForm) (telephony.AgentFields, error) {
	fields := telephony.AgentFields{
		Name: f.Name, Active: f.Active, Voice: f.Voice, FirstMessage: f.FirstMessage, Prompt: f.Prompt, Knowledge: f.Knowledge, ForwardTo: f.ForwardTo,
		Recorded: f.Recorded, Consent: f.Consent,
	}
	if f.CallerID == "" {
		return fields, nil
	}
	id, err := uuid.Parse(f.CallerID)
	if err != nil {
		return fields, fault.Field("caller_id", "Choose a number of yours that was verified.")
	}
	fields.CallerID = uuid.NullUUID{UUID: id, Valid: true}
	return fields, nil
}

// refused puts a fault beside the field of the form that it is about, and says whether there is one.
func refused(f *views.AgentForm, err *fault.Error) bool {
	switch err.Field {
	case "name", "voice", "first_message", "prompt", "forward_to", "caller_id", "recorded", "consent":
		f.Errors = map[string]string{err.Field: err.Public}
	default:
		return false
	}
	for _, text := range []*string{&f.Name, &f.FirstMessage, &f.Prompt, &f.ForwardTo, &f.Consent} {
		*text = strings.ToValidUTF8(strings.ReplaceAll(*text, "\x00", ""), "")
	}
	return true
}

// makeAgent makes an agent from the page. The page's own key makes sending its form twice one agent.
func (a *app) makeAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	p := views.NewAgentPage{Form: readAgentForm(r.PostForm), Key: r.PostForm.Get("key")}
	key, err := pageKey(p.Key, strings.Join([]string{
		p.Form.Name, p.Form.Voice, p.Form.FirstMessage, p.Form.Prompt, p.Form.ForwardTo, p.Form.CallerID, p.Form.Consent,
		r.PostForm.Get("active"), r.PostForm.Get("knowledge"), r.PostForm.Get("recorded"),
	}, "\n"))
	if err != nil {
		return err
	}
	fields, err := agentFields(p.Form)
	if err == nil {
		var agent telephony.Agent
		agent, err = a.Agents.Create(r.Context(), telephony.AgentRequest{OrgID: v.who.OrgID, AgentFields: fields, Key: key, Actor: v.who.Actor()})
		if err == nil {
			seeOther(w, r, agentsPath+"/"+agent.ID.String()+"?done=made")
			return nil
		}
	}
	f := fault.As(err)
	switch {
	case refused(&p.Form, f):
	case f.Kind == fault.Internal:
		return err
	default:
		p.Problem = f.Public
	}
	return a.askAgent(w, r, v, answerTo(f.Kind).status, p)
}

// theirAgent reads the agent in the path; one of another organisation is none.
func (a *app) theirAgent(r *http.Request, v *visit) (telephony.Agent, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Agent{}, err
	}
	return a.Agents.Agent(r.Context(), v.who.OrgID, id)
}

// agentPage is one agent. While our voice service is being told, the page asks again, by this same address.
func (a *app) agentPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	p := views.AgentPage{Agent: phoneAgent(agent), Form: agentForm(agent.AgentFields)}
	if isFragment(r) && q.Get("part") == "" && q.Get("seen") == p.Agent.Seen() {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	switch q.Get("done") {
	case "made":
		p.Notice = "The agent was made. Link a number to it, so that callers reach it."
	case "saved":
		p.Notice = "What you changed was saved."
	case "linked":
		p.Notice = "The number is linked: the agent answers it, and calls from it."
	case "unlinked":
		p.Notice = "The number has no agent any more."
	}
	return a.showAgent(w, r, v, http.StatusOK, agent, p)
}

// showAgent answers with the agent's page around what is given, or with the part of it that was asked for.
func (a *app) showAgent(w http.ResponseWriter, r *http.Request, v *visit, status int, agent telephony.Agent, p views.AgentPage) error {
	p.Agent, p.CanEdit, p.Off = phoneAgent(agent), v.who.CanPay(), !a.Agents.On()
	if err := a.fillAgentForm(r, v, &p.Form); err != nil {
		return err
	}
	numbers, err := a.Agents.Numbers(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		switch {
		case !n.AgentID.Valid:
			p.Numbers.Free = append(p.Numbers.Free, views.AgentChoice{ID: n.ID.String(), Label: views.PhoneText(n.PhoneNumber)})
		case n.AgentID.UUID != agent.ID:
			p.Numbers.Taken++
		}
	}
	passing, err := a.Agents.Passing(r.Context(), agent)
	if err != nil {
		return err
	}
	if p.NotPassedOn = passing.Refused; p.NotPassedOn != "" {
		p.NotPassedOn = views.PhoneText(agent.ForwardTo) + ": " + p.NotPassedOn
	}
	if c := passing.Hidden; c != nil {
		p.Hidden = views.AgentChoice{ID: c.ID.String(), Label: views.PhoneText(c.PhoneNumber)}
	}
	now := a.Now()
	p.Since = monthOf(now)
	for _, s := range []struct {
		to    *views.AgentSpend
		since time.Time
	}{{&p.Month, p.Since}, {&p.Days, now.AddDate(0, 0, -30)}} {
		spend, err := a.Agents.Spend(r.Context(), v.who.OrgID, s.since, now)
		if err != nil {
			return err
		}
		*s.to = agentSpend(spend[agent.ID])
	}
	if err := a.fillTestCall(r, v, agent, &p); err != nil {
		return err
	}
	p.Meta = a.meta(r, v, agent.Name)
	if isFragment(r) && r.Method == http.MethodGet {
		if r.URL.Query().Get("part") == "call" && p.Call.Placed != nil {
			return a.render(w, r, status, views.AgentCallState(p))
		}
		p.Swapped = (p.Call.Blocked != "") != (r.URL.Query().Get("blocked") != "")
		return a.render(w, r, status, views.AgentStatus(p))
	}
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	return a.render(w, r, status, views.AgentDetail(p))
}

// saveAgent changes an agent from its page.
func (a *app) saveAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	p := views.AgentPage{Form: readAgentForm(r.PostForm)}
	fields, err := agentFields(p.Form)
	if err == nil {
		_, err = a.Agents.Edit(r.Context(), v.who.OrgID, agent.ID, fields, v.who.Actor())
	}
	if err == nil {
		seeOther(w, r, agentsPath+"/"+agent.ID.String()+"?done=saved")
		return nil
	}
	f := fault.As(err)
	switch {
	case refused(&p.Form, f):
	case f.Kind == fault.Internal, f.Kind == fault.NotFound:
		return err
	default:
		p.Problem = f.Public + " Nothing was saved."
	}
	return a.showAgent(w, r, v, answerTo(f.Kind).status, agent, p)
}

// linkAgent has an agent answer a number, from its page.
func (a *app) linkAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	number, err := uuid.Parse(r.PostForm.Get("number"))
	if err != nil {
		err = fault.Field("number", "Choose one of your numbers.")
	} else {
		_, err = a.Agents.Link(r.Context(), v.who.OrgID, agent.ID, number, v.who.Actor())
	}
	if err == nil {
		seeOther(w, r, agentsPath+"/"+agent.ID.String()+"?done=linked")
		return nil
	}
	f := fault.As(err)
	if f.Kind == fault.Internal || f.Kind == fault.NotFound { // which of the two is not there is not told
		return err
	}
	p := views.AgentPage{Form: agentForm(agent.AgentFields)}
	p.Numbers.Error = f.Public
	return a.showAgent(w, r, v, answerTo(f.Kind).status, agent, p)
}

// unlinkAgent takes its number from an agent, from its page.
func (a *app) unlinkAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	if _, err := a.Agents.Unlink(r.Context(), v.who.OrgID, agent.ID, v.who.Actor()); err != nil {
		return err
	}
	seeOther(w, r, agentsPath+"/"+agent.ID.String()+"?done=unlinked")
	return nil
}

// deleteAgentPage asks before an agent is deleted, and what becomes of its number.
func (a *app) deleteAgentPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	return a.askDeleteAgent(w, r, v, http.StatusOK, agent, views.DeleteAgentPage{})
}

func (a *app) askDeleteAgent(w http.ResponseWriter, r *http.Request, v *visit, status int, agent telephony.Agent, p views.DeleteAgentPage) error {
	list, err := a.Agents.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, other := range list {
		if other.ID != agent.ID && !other.NumberID.Valid {
			p.Others = append(p.Others, views.AgentChoice{ID: other.ID.String(), Label: other.Name})
		}
	}
	p.Meta, p.Agent = a.meta(r, v, "Delete an agent"), phoneAgent(agent)
	return a.render(w, r, status, views.DeleteAgent(p))
}

// deleteAgent deletes an agent. One that has a number is deleted only when it was said what becomes of that.
func (a *app) deleteAgent(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	p := views.DeleteAgentPage{Then: r.PostForm.Get("then"), LinkTo: r.PostForm.Get("link_to")}
	to := agentsPath + "?done=deleted"
	switch {
	case agent.NumberID.Valid && p.Then == "link":
		var by uuid.UUID
		if by, err = uuid.Parse(p.LinkTo); err != nil {
			err = fault.Field("link_to", "Choose the agent that answers the number from now on.")
		} else {
			err = a.Agents.Replace(r.Context(), v.who.OrgID, agent.ID, by, v.who.Actor())
		}
	case agent.NumberID.Valid && p.Then == "release":
		to = "/numbers/" + agent.NumberID.UUID.String() + "/release"
		err = a.Agents.Delete(r.Context(), v.who.OrgID, agent.ID, true, v.who.Actor())
	case agent.NumberID.Valid && p.Then != "keep":
		err = fault.Field("then", "Say first what becomes of the number.")
	default:
		err = a.Agents.Delete(r.Context(), v.who.OrgID, agent.ID, p.Then == "keep", v.who.Actor())
	}
	if err == nil {
		seeOther(w, r, to)
		return nil
	}
	f := fault.As(err)
	switch {
	case f.Kind == fault.Internal, f.Kind == fault.NotFound:
		return err
	case f.Field == "link_to":
		p.LinkError = f.Public
	case f.Field == "then":
		p.Error = f.Public
	default:
		p.Problem = f.Public
	}
	return a.askDeleteAgent(w, r, v, answerTo(f.Kind).status, agent, p)
}
