package handlers

import (
	"net/http"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const callerIDsPath = "/caller-ids"

// callerIDsPage lists the numbers that agents may show when they pass a caller on, newest first.
func (a *app) callerIDsPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.CallerIDsPage{}
	if r.URL.Query().Get("done") == "removed" {
		p.Notice = "No agent shows the number any more."
	}
	return a.showCallerIDs(w, r, v, http.StatusOK, p)
}

// showCallerIDs answers with the whole page around the form as given.
func (a *app) showCallerIDs(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.CallerIDsPage) error {
	list, err := a.Agents.CallerIDs(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	by, err := a.showing(r, v)
	if err != nil {
		return err
	}
	for _, c := range list {
		p.List = append(p.List, callerNumber(c, by[c.ID.String()], false))
	}
	p.Meta, p.CanEdit, p.Off = a.meta(r, v, "Caller IDs"), v.who.CanPay(), !a.Agents.On()
	if isFragment(r) && r.Method == http.MethodGet && r.URL.Query().Get("part") == "list" {
		return a.render(w, r, status, views.CallerIDsList(p))
	}
	return a.render(w, r, status, views.CallerIDs(p))
}

// showing gives the names of the agents that show each caller id.
func (a *app) showing(r *http.Request, v *visit) (map[string][]string, error) {
	agents, err := a.Agents.List(r.Context(), v.who.OrgID)
	if err != nil {
		return nil, err
	}
	by := map[string][]string{}
	for _, agent := range agents {
		if agent.CallerID.Valid {
			by[idText(agent.CallerID.UUID)] = append(by[idText(agent.CallerID.UUID)], agent.Name)
		}
	}
	return by, nil
}

// callerNumber is a caller id as it is shown. The code is for those who may have a number verified: it is what makes
// somebody's number theirs.
func callerNumber(c telephony.CallerID, agents []string, code bool) views.CallerNumber {
	n := views.CallerNumber{
		ID: c.ID.String(), Number: c.PhoneNumber, State: views.CallerIDState(c.State), Note: c.Note, At: c.CreatedAt, VerifiedAt: c.VerifiedAt, Agents: agents,
	}
	if c.State == telephony.CallerIDVerified && !c.Usable() {
		n.State = views.CallerIDLost
	}
	if code {
		n.Code = c.Code
	}
	return n
}

// verifyCallerID has a number called and asked for the code that its page then shows.
func (a *app) verifyCallerID(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	number := r.PostForm.Get("phone_number")
	c, err := a.Agents.VerifyCallerID(r.Context(), v.who.OrgID, number, v.who.Actor())
	if err == nil {
		seeOther(w, r, callerIDsPath+"/"+c.ID.String())
		return nil
	}
	f := fault.As(err)
	p := views.CallerIDsPage{Typed: typed(number)}
	switch {
	case f.Kind == fault.Internal:
		return err
	case f.Field == "phone_number":
		p.Error = f.Public
	default:
		p.Problem = f.Public
	}
	return a.showCallerIDs(w, r, v, answerTo(f.Kind).status, p)
}

// callerIDPage is one number. While the code is waited for the page asks again, by this same address.
func (a *app) callerIDPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showCallerID(w, r, v, false)
}

// removeCallerIDPage asks before a number is removed.
func (a *app) removeCallerIDPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	return a.showCallerID(w, r, v, true)
}

func (a *app) showCallerID(w http.ResponseWriter, r *http.Request, v *visit, removing bool) error {
	c, err := a.theirCallerID(r, v)
	if err != nil {
		return err
	}
	by, err := a.showing(r, v)
	if err != nil {
		return err
	}
	p := views.CallerIDPage{Meta: a.meta(r, v, "Caller ID "+views.PhoneText(c.PhoneNumber)), Number: callerNumber(c, by[c.ID.String()], v.who.CanPay()), CanEdit: v.who.CanPay(), Removing: removing}
	if isFragment(r) {
		if r.URL.Query().Get("seen") == p.Number.Seen() {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return a.render(w, r, http.StatusOK, views.CallerIDStatus(p))
	}
	p.Meta.RefreshSeconds = p.RefreshSeconds()
	return a.render(w, r, http.StatusOK, views.CallerID(p))
}

// theirCallerID reads the caller id in the path; one of another organisation is none.
func (a *app) theirCallerID(r *http.Request, v *visit) (telephony.CallerID, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.CallerID{}, err
	}
	return a.Agents.CallerID(r.Context(), v.who.OrgID, id)
}

// removeCallerID gives a number up: no agent shows it from now on.
func (a *app) removeCallerID(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepAgents(v.who); err != nil {
		return err
	}
	c, err := a.theirCallerID(r, v)
	if err != nil {
		return err
	}
	if err := a.Agents.RemoveCallerID(r.Context(), v.who.OrgID, c.ID, v.who.Actor()); err != nil {
		return err
	}
	seeOther(w, r, callerIDsPath+"?done=removed")
	return nil
}
