package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const (
	callsPath = "/calls"
	// callsPerPage is how many calls a page lists.
	callsPerPage = 25
)

// callsPage lists the calls, newest first: those that the filter finds, or with 422 what is wrong with it.
func (a *app) callsPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showCalls(w, r, v, http.StatusOK, views.CallsPage{})
}

// showCalls answers with the whole page around the form as given, or with the part of it that was asked for.
func (a *app) showCalls(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.CallsPage) error {
	q := r.URL.Query()
	if err := a.fillCalls(r, v, &p, q); err != nil {
		return err
	}
	if p.Filter.Wrong() && status == http.StatusOK {
		status = answerTo(fault.Invalid).status
	}
	p.CanCall, p.Off = v.who.CanPay(), !a.Calls.On()
	fragment := isFragment(r) && r.Method == http.MethodGet
	if fragment && q.Get("part") == "rows" {
		return a.render(w, r, status, views.CallsRows(p))
	}
	agents, err := a.Agents.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, agent := range agents {
		p.Agents = append(p.Agents, views.AgentChoice{ID: agent.ID.String(), Label: agent.Name})
	}
	if fragment {
		return a.render(w, r, status, views.CallsList(p))
	}
	if p.CanCall && !p.Off {
		if err := a.fillPlace(r, v, agents, &p); err != nil {
			return err
		}
	}
	p.Meta = a.meta(r, v, "Calls")
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	return a.render(w, r, status, views.Calls(p))
}

// fillCalls adds what the filter finds.
func (a *app) fillCalls(r *http.Request, v *visit, p *views.CallsPage, q url.Values) error {
	shown, filter := callFilter(q)
	p.Filter = shown
	if shown.Wrong() {
		return nil
	}
	before, err := uuid.Parse(q.Get("before"))
	if err == nil {
		p.Before = before.String()
	}
	page, err := a.Calls.Find(r.Context(), v.who.OrgID, filter, before, callsPerPage)
	if err != nil {
		return err
	}
	for _, c := range page.List {
		p.Calls = append(p.Calls, phoneCall(c))
	}
	p.Older, p.Stopped = idText(page.Older), page.Stopped
	return nil
}

// callFilter reads what is asked for: as typed, with what is wrong beside it, and as the list takes it.
func callFilter(q url.Values) (views.CallFilter, telephony.CallFilter) {
	shown := views.CallFilter{
		Direction: q.Get("direction"), State: q.Get("state"), Agent: q.Get("agent"), Number: strings.TrimSpace(q.Get("number")),
		From: strings.TrimSpace(q.Get("from")), To: strings.TrimSpace(q.Get("to")),
	}
	f := telephony.CallFilter{Direction: telephony.Direction(shown.Direction), State: telephony.CallState(shown.State), Number: shown.Number}
	f.From, shown.FromError = historyDay(shown.From)
	f.To, shown.ToError = historyDay(shown.To)
	if shown.Agent != "" {
		id, err := exactID(shown.Agent)
		if f.Agent = id; err != nil {
			shown.AgentError = "Choose an agent from the list."
		}
	}
	if err := fault.As(f.Check()); err != nil {
		switch err.Field {
		case "direction":
			shown.Direction, shown.DirectionError = "", err.Public
		case "state":
			shown.State, shown.StateError = "", err.Public
		case "number":
			shown.NumberError = err.Public
		case "to":
			shown.ToError = err.Public
		}
	}
	if shown.AgentError != "" {
		shown.Agent = ""
	}
	shortenFilter(&shown.Number, &shown.From, &shown.To)
	return shown, f
}

// shortenFilter makes what was typed fit to be shown back.
func shortenFilter(fields ...*string) {
	for _, field := range fields {
		if len(*field) > maxFilterTyped {
			*field = ""
		}
		*field = strings.ToValidUTF8(strings.ReplaceAll(*field, "\x00", ""), "")
	}
}

func phoneCall(c telephony.Call) views.PhoneCall {
	return views.PhoneCall{
		ID: c.ID.String(), Inbound: c.Direction == telephony.InboundCall, State: views.CallState(c.State), Ours: views.PhoneText(c.OurNumber), Party: views.PhoneText(c.Party),
		Agent: c.AgentName, AgentID: idText(c.AgentID.UUID), Seconds: c.Seconds, Ceiling: c.Ceiling, Cost: c.Amount, Held: c.Held,
		Lookups: c.Lookups, LookupsCost: c.LookupsAmount, Note: c.Note, Hanging: c.HangupAt != nil, At: c.CreatedAt, Started: c.StartedAt, Ended: c.EndedAt,
		ReportedAt: c.ReportedAt, ErasedAt: c.ErasedAt,
	}
}

// bySomebody says who did something; nothing where it was nobody but us.
func bySomebody(by audit.Actor, who auth.Identity) string {
	if name := byWhom(by, who); name != "Ringfence" {
		return name
	}
	return ""
}

// mayCall refuses who may only look.
func mayCall(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you can see the calls but not make, end or erase any. Ask an owner of "+who.OrgName+".")
}

// fillPlace adds what the form for a call needs: who can call, and what a call may come to.
func (a *app) fillPlace(r *http.Request, v *visit, agents []telephony.Agent, p *views.CallsPage) error {
	for _, agent := range agents {
		if agent.Ready() && agent.NumberID.Valid {
			p.Callers = append(p.Callers, views.AgentChoice{ID: agent.ID.String(), Label: agent.Name + ", " + views.PhoneText(agent.PhoneNumber.String)})
		}
	}
	if p.Form.Key == "" {
		p.Form.Key = uuid.NewString()
	}
	if len(p.Callers) == 0 {
		return nil
	}
	return a.costCall(r, v, p)
}

// costCall adds what a call to the number in the form may come to.
func (a *app) costCall(r *http.Request, v *visit, p *views.CallsPage) error {
	var cost views.AgentPage
	cost.Call.To = p.Form.To
	if err := a.costTestCall(r, v, &cost); err != nil {
		return err
	}
	p.Cost, p.Short = cost.Call.Cost, cost.Call.Blocked
	return nil
}

// quoteCall says what a call to the number in the form may come to.
func (a *app) quoteCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayCall(v.who); err != nil {
		return err
	}
	p := views.CallsPage{Form: views.CallForm{To: typed(r.PostForm.Get("to")), Agent: typed(r.PostForm.Get("agent")), Key: r.PostForm.Get("key")}}
	if !isFragment(r) {
		return a.showCalls(w, r, v, http.StatusOK, p)
	}
	if err := a.costCall(r, v, &p); err != nil {
		return err
	}
	p.CanCall, p.Callers = true, []views.AgentChoice{{}} // the form is there: only its price is asked for
	return a.render(w, r, http.StatusOK, views.CallsCost(p))
}

// placeCall has an agent call a number. The page's own key makes sending its form twice one call.
func (a *app) placeCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayCall(v.who); err != nil {
		return err
	}
	form := views.CallForm{To: r.PostForm.Get("to"), Agent: r.PostForm.Get("agent"), Key: r.PostForm.Get("key")}
	key, err := pageKey(form.Key, form.Agent+"\n"+form.To)
	if err != nil {
		return err
	}
	agent, err := uuid.Parse(form.Agent)
	if err != nil {
		err = fault.Field("agent_id", "Choose who calls.")
	} else {
		var c telephony.Call
		c, err = a.Calls.Place(r.Context(), telephony.PlaceRequest{OrgID: v.who.OrgID, To: form.To, Agent: agent, Key: key, Actor: v.who.Actor(), RequestID: v.requestID})
		if err == nil {
			seeOther(w, r, callsPath+"/"+c.ID.String())
			return nil
		}
	}
	p := views.CallsPage{Form: form}
	p.Form.To, p.Form.Agent = typed(form.To), typed(form.Agent)
	f := fault.As(err)
	switch {
	case f.Field == "to":
		p.Form.ToError = f.Public
	case f.Field == "agent_id":
		p.Form.AgentError = f.Public
	case f.Kind == fault.Unpaid:
		p.Unpaid = f.Public
	case f.Kind == fault.Internal, f.Kind == fault.Invalid:
		return err
	default:
		p.Problem = f.Public
	}
	if f.Kind == fault.Declined || f.Kind == fault.Unavailable {
		p.Form.Key = "" // another try is another call
	}
	status := answerTo(f.Kind).status
	if !isFragment(r) {
		return a.showCalls(w, r, v, status, p)
	}
	agents, err := a.Agents.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	if err := a.fillPlace(r, v, agents, &p); err != nil {
		return err
	}
	if p.Unpaid != "" {
		p.Short = "" // it is said above
	}
	p.Meta, p.CanCall = a.meta(r, v, "Calls"), true
	w.Header().Set("HX-Retarget", "#place-call-place") // where a 402 does not go by itself
	return a.render(w, r, status, views.CallsForm(p))
}

// theirCall reads the call in the path; one of another organisation is none.
func (a *app) theirCall(r *http.Request, v *visit) (telephony.Call, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Call{}, err
	}
	return a.Calls.Call(r.Context(), v.who.OrgID, id)
}

// callPage is one call. While it goes on the page asks again, by this same address.
func (a *app) callPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	c, err := a.theirCall(r, v)
	if err != nil {
		return err
	}
	return a.showCall(w, r, v, http.StatusOK, c, views.CallPage{})
}

func (a *app) showCall(w http.ResponseWriter, r *http.Request, v *visit, status int, c telephony.Call, p views.CallPage) error {
	p.Call, p.CanEnd, p.Now = phoneCall(c), v.who.CanPay(), a.Now()
	fragment := isFragment(r) && r.Method == http.MethodGet
	if fragment && r.URL.Query().Get("seen") == p.Call.Seen() && p.Call.Moves(p.Now) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if c.AgentID.Valid {
		_, err := a.Agents.Agent(r.Context(), v.who.OrgID, c.AgentID.UUID)
		switch {
		case fault.Is(err, fault.NotFound): // it was deleted since
			p.Call.AgentID = ""
		case err != nil:
			return err
		}
	}
	story, err := a.Calls.Story(r.Context(), v.who.OrgID, c.ID)
	if err != nil {
		return err
	}
	for _, e := range story {
		what := callWords(e.Action)
		if e.Action == "call.not_passed_on" {
			what += ": " + e.Reason
		}
		p.History = append(p.History, views.CallEvent{At: e.At, What: what, Who: bySomebody(e.Actor, v.who)})
	}
	holds := []uuid.UUID{c.HoldID.UUID}
	for _, raw := range c.LookupHolds {
		if id, err := uuid.Parse(raw); err == nil {
			holds = append(holds, id)
		}
	}
	paid, err := a.Wallets.TakenBy(r.Context(), v.who.OrgID, holds)
	if err != nil {
		return err
	}
	for _, t := range paid {
		p.Entries = append(p.Entries, views.NumberEntry{ID: t.ID.String(), Description: t.Description, Amount: t.Amount, At: t.At})
	}
	days, err := a.Calls.Retention(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p.EraseDue, p.Transcript, p.Recording = c.EraseDue(days), views.CallLines(c.Transcript), c.RecordingURL
	p.Recorded, p.Consent = c.Recorded, c.Consent
	p.Meta = a.meta(r, v, "Call")
	p.Meta.Path = callsPath + "/" + c.ID.String()
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	if fragment {
		return a.render(w, r, status, views.CallStatus(p))
	}
	return a.render(w, r, status, views.CallDetail(p))
}

// callWords says what happened to a call.
func callWords(action string) string {
	switch action {
	case "call.ordered":
		return "Asked for"
	case "call.accepted":
		return "Somebody called, and it was taken"
	case "call.ringing":
		return "Rings"
	case "call.in_progress":
		return "Answered"
	case "call.hangup":
		return "Told to end"
	case "call.completed":
		return "Over, and paid for"
	case "call.unanswered":
		return "Not answered"
	case "call.failed":
		return "Not made"
	case "call.refused":
		return "Somebody called, and it was not taken"
	case "call.not_passed_on":
		return "It cannot be passed on"
	case "call.erased":
		return "What was said was erased"
	}
	words := strings.ReplaceAll(strings.TrimPrefix(action, "call."), "_", " ")
	return strings.ToUpper(words[:min(1, len(words))]) + words[min(1, len(words)):]
}

// hangUpCall ends a call that goes on.
func (a *app) hangUpCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayCall(v.who); err != nil {
		return err
	}
	c, err := a.theirCall(r, v)
	if err != nil {
		return err
	}
	if _, err := a.Calls.Hangup(r.Context(), v.who.OrgID, c.ID, v.who.Actor()); err != nil {
		return err
	}
	seeOther(w, r, callsPath+"/"+c.ID.String())
	return nil
}

// eraseCallPage asks before what was said in a call is erased.
func (a *app) eraseCallPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askEraseCall(w, r, v, http.StatusOK, "")
}

func (a *app) askEraseCall(w http.ResponseWriter, r *http.Request, v *visit, status int, wrong string) error {
	if err := mayCall(v.who); err != nil {
		return err
	}
	c, err := a.theirCall(r, v)
	if err != nil {
		return err
	}
	return a.render(w, r, status, views.EraseCall(views.EraseCallPage{Meta: a.meta(r, v, "Erase what was said"), Call: phoneCall(c), Error: wrong}))
}

// eraseCall erases what was said in a call, once somebody said that they mean it.
func (a *app) eraseCall(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.PostForm.Get("confirm") != "yes" {
		return a.askEraseCall(w, r, v, answerTo(fault.Invalid).status, "Tick this to say that you mean it.")
	}
	if err := mayCall(v.who); err != nil {
		return err
	}
	c, err := a.theirCall(r, v)
	if err != nil {
		return err
	}
	if _, err := a.Calls.EraseCall(r.Context(), v.who.OrgID, c.ID, v.who.Actor()); err != nil {
		f := fault.As(err)
		if f.Kind != fault.Conflict {
			return err
		}
		return a.showCall(w, r, v, answerTo(f.Kind).status, c, views.CallPage{Problem: f.Public})
	}
	seeOther(w, r, callsPath+"/"+c.ID.String())
	return nil
}
