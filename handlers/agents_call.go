package handlers

import (
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

// fillTestCall adds whether an agent can call now and what that may come to, and how the call goes that was placed a moment
// ago.
func (a *app) fillTestCall(r *http.Request, v *visit, agent telephony.Agent, p *views.AgentPage) error {
	if id, err := uuid.Parse(r.URL.Query().Get("called")); err == nil {
		c, err := a.Calls.Call(r.Context(), v.who.OrgID, id)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return err
		case c.AgentID.UUID == agent.ID:
			p.Call.Placed = placedCall(c)
		}
	}
	if !p.CanEdit {
		return nil
	}
	if p.Call.Key == "" {
		p.Call.Key = uuid.NewString()
	}
	switch {
	case !a.Calls.On():
		p.Call.Blocked = "Calls are not set up here. Whoever runs this service can switch them on."
	case !agent.Active:
		p.Call.Blocked = "It is switched off, so it makes no calls. Make it active first."
	case !agent.NumberID.Valid:
		p.Call.Blocked = "It has no number to call from. Link one first."
	case !agent.AssistantID.Valid:
		p.Call.Blocked = "Our voice service does not have it yet. It can call once it is ready."
	}
	if p.Call.Blocked != "" {
		return nil
	}
	return a.costTestCall(r, v, p)
}

// costTestCall adds what a call to the number in the form may come to; without a number the usual price.
func (a *app) costTestCall(r *http.Request, v *visit, p *views.AgentPage) error {
	balances, err := a.Wallets.Balances(r.Context(), []uuid.UUID{v.who.OrgID})
	if err != nil {
		return err
	}
	b := balances[v.who.OrgID]
	e, err := a.Calls.Estimate(r.Context(), v.who.OrgID, p.Call.To, b.Available())
	f := fault.As(err)
	cost := &views.CallCost{}
	switch {
	case err == nil:
		if p.Call.To != "" {
			cost.To = views.PhoneText(p.Call.To)
		}
	case f.Kind == fault.Forbidden && p.Call.To == "": // there are only prices by destination
		return nil
	case f.Kind == fault.Forbidden:
		cost.Refused = f.Public
	case f.Kind == fault.Invalid: // it is not whole yet
		if e, err = a.Calls.Estimate(r.Context(), v.who.OrgID, "", b.Available()); err != nil {
			if fault.Is(err, fault.Forbidden) {
				return nil
			}
			return err
		}
	default:
		return err
	}
	p.Call.Cost = cost
	if cost.Refused != "" {
		return nil
	}
	cost.PerMinute, cost.PerMinuteUSD, cost.Required, cost.Most, cost.Longest = e.PerMinute, e.PerMinuteUSD, e.Required, e.Most, e.Longest
	switch {
	case b.Debt > 0:
		p.Call.Blocked, p.Call.TopUp = "The wallet owes "+b.Debt.String()+", so nothing can be spent from it.", true
	case b.Available() < e.Required:
		p.Call.Blocked, p.Call.TopUp = "A call needs "+e.Required.String()+" in the wallet to begin, and "+b.Available().String()+" is available.", true
	}
	return nil
}

// placedCall is a call as the agent's page shows it.
func placedCall(c telephony.Call) *views.PlacedCall {
	return &views.PlacedCall{
		ID: c.ID.String(), To: views.PhoneText(c.Party), State: views.PlacedState(c.State), Note: c.Note, Over: c.State.Ended(), Seconds: c.Seconds, Amount: c.Amount,
	}
}

// quoteTestCall says what a call to the number in the form may come to.
func (a *app) quoteTestCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	p := views.AgentPage{Agent: phoneAgent(agent), Form: agentForm(agent.AgentFields), CanEdit: true}
	p.Call.To, p.Call.Key = typed(r.PostForm.Get("to")), r.PostForm.Get("key")
	if !isFragment(r) {
		return a.showAgent(w, r, v, http.StatusOK, agent, p)
	}
	if err := a.costTestCall(r, v, &p); err != nil {
		return err
	}
	p.Call.Blocked = "" // the form is there: only its price is asked for
	return a.render(w, r, http.StatusOK, views.AgentCallCost(p))
}

// testCall has an agent call a number from its page. The page's own key makes sending its form twice one call.
func (a *app) testCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	agent, err := a.theirAgent(r, v)
	if err != nil {
		return err
	}
	to := r.PostForm.Get("to")
	key, err := pageKey(r.PostForm.Get("key"), agent.ID.String()+"\n"+to)
	if err != nil {
		return err
	}
	c, err := a.Calls.Place(r.Context(), telephony.PlaceRequest{OrgID: v.who.OrgID, To: to, Agent: agent.ID, Key: key, Actor: v.who.Actor(), RequestID: v.requestID})
	if err == nil {
		seeOther(w, r, agentsPath+"/"+agent.ID.String()+"?called="+c.ID.String())
		return nil
	}
	p := views.AgentPage{Form: agentForm(agent.AgentFields)}
	p.Call.To, p.Call.Key = typed(to), r.PostForm.Get("key")
	f := fault.As(err)
	switch {
	case f.Field == "to":
		p.Call.Error = f.Public
	case f.Kind == fault.Internal, f.Kind == fault.Invalid:
		return err
	default:
		p.Call.Problem = f.Public
	}
	if f.Kind == fault.Declined || f.Kind == fault.Unavailable {
		p.Call.Key = "" // another try is another call
	}
	return a.showAgent(w, r, v, answerTo(f.Kind).status, agent, p)
}
