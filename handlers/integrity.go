package handlers

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const (
	integrityPath = "/ops/integrity"
	// compareFor bounds how long the providers are asked for a page; less than a browser's script waits. What was not
	// reached by then is said.
	compareFor = 15 * time.Second
)

// integrity shows the numbers that are on their way and, when asked to, holds our records against themselves and against
// the providers'. It changes nothing.
func (a *app) integrity(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	p := views.IntegrityPage{Meta: a.meta(r, v, "Integrity"), Off: !a.Numbers.On()}
	switch q.Get("done") {
	case "expedite":
		p.Notice = "The number goes on now. What comes of it shows on its page."
	case "release":
		p.Notice = "The number is being released."
	case "force":
		p.Notice = "The number was ended. What a provider still has shows in a comparison."
	case "asked":
		p.Notice = "It is being put right in the background. Check again in a moment; what its job meets is under Jobs."
	}
	if q.Get("run") != "" {
		if err := a.check(r.Context(), &p); err != nil {
			return err
		}
	}
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.IntegrityFindings(p))
	}
	list, err := a.Numbers.UnderWay(r.Context())
	if err != nil {
		return err
	}
	for _, n := range list {
		p.UnderWay = append(p.UnderWay, phoneNumber(n, nil))
	}
	return a.render(w, r, http.StatusOK, views.Integrity(p))
}

// check runs both checks.
func (a *app) check(ctx context.Context, p *views.IntegrityPage) error {
	p.Ran, p.At = true, a.Now()
	checks, err := a.Verify(ctx)
	if err != nil {
		return err
	}
	for _, c := range checks {
		check := views.IntegrityCheck{Name: c.Name, Promise: c.Promise, Checked: c.Checked, Violations: c.Violations}
		if c.Name == telephony.LinksInvariant {
			check.Mend = integrityPath + "/links"
		}
		p.Checks = append(p.Checks, check)
	}
	if p.Off {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareFor)
	defer cancel()
	c, err := a.Numbers.Compare(ctx)
	if err != nil {
		return err
	}
	p.Accounts, p.Compared = c.Accounts, c.Numbers
	for _, o := range c.Orphans {
		p.Strays = append(p.Strays, views.Stray{Provider: o.Provider, ID: o.ID, Number: o.PhoneNumber, Account: o.AccountSID, Org: idText(o.OrgID)})
	}
	for _, g := range c.Missing {
		p.Gaps = append(p.Gaps, views.Gap{Provider: g.Provider, Number: phoneNumber(g.Number, nil)})
	}
	for _, n := range c.Unknown {
		p.Unknown = append(p.Unknown, phoneNumber(n, nil))
	}
	for _, n := range c.Held {
		p.Held = append(p.Held, phoneNumber(n, nil))
	}
	for _, u := range c.Unreached {
		p.Unreached = append(p.Unreached, views.Unreached{Provider: u.Provider, Account: u.AccountSID, Why: u.Why})
	}
	return nil
}

// mendNumberPage is one number as operators see it, with what can be done about it.
func (a *app) mendNumberPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askMend(w, r, v, http.StatusOK, views.MendPage{Choice: r.URL.Query().Get("do")})
}

func (a *app) askMend(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.MendPage) error {
	n, err := a.anyNumber(r)
	if err != nil {
		return err
	}
	if p.Number.OrgName, err = a.Wallets.Holder(r.Context(), n.OrgID); err != nil {
		return err
	}
	agents, err := a.Numbers.AgentsOf(r.Context(), n.OrgID, n.ID)
	if err != nil {
		return err
	}
	name := p.Number.OrgName
	p.Number = phoneNumber(n, agents[n.ID])
	p.Number.OrgName = name
	story, err := a.Numbers.Story(r.Context(), n.OrgID, n.ID)
	if err != nil {
		return err
	}
	actors := make([]audit.Actor, len(story))
	for i, e := range story {
		actors[i] = e.Actor
	}
	emails, err := a.Audit.Emails(r.Context(), actors...)
	if err != nil {
		return err
	}
	for _, e := range story {
		p.History = append(p.History, views.NumberEvent{At: e.At, What: numberWords(e.Action), Who: cmp.Or(emails[e.Actor], string(e.Actor)), Reason: e.Reason})
	}
	p.Meta = a.meta(r, v, "Number "+views.PhoneText(n.PhoneNumber))
	return a.render(w, r, status, views.MendNumber(p))
}

// anyNumber reads the number in the path, whosever it is.
func (a *app) anyNumber(r *http.Request) (telephony.Number, error) {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return telephony.Number{}, err
	}
	n, err := a.Numbers.Find(r.Context(), id)
	if fault.Is(err, fault.NotFound) {
		return telephony.Number{}, errNoPage()
	}
	return n, err
}

// mendNumber does what an operator has decided about a number.
func (a *app) mendNumber(w http.ResponseWriter, r *http.Request, v *visit) error {
	n, err := a.anyNumber(r)
	if err != nil {
		return err
	}
	choice := r.PostForm.Get("do")
	reason, err := oneLine(r.PostForm.Get("reason"))
	if err == nil {
		ask := telephony.ReleaseRequest{OrgID: n.OrgID, Number: n.ID, Actor: v.who.Actor(), Reason: reason}
		switch choice {
		case "expedite":
			_, err = a.Numbers.Expedite(r.Context(), ask)
		case "reconnect":
			err, choice = a.Numbers.AskMend(r.Context(), telephony.Mend{What: telephony.MendConnection, OrgID: n.OrgID, Number: n.ID, Actor: ask.Actor, Reason: reason}), "asked"
		case "release":
			if err = needReason(reason); err == nil {
				_, err = a.Numbers.Release(r.Context(), ask)
			}
		case "force":
			_, err = a.Numbers.ForceRelease(r.Context(), ask)
		default:
			err = fault.Field("do", "Choose what to do.")
		}
	}
	if err == nil {
		http.Redirect(w, r, integrityPath+"?done="+choice, http.StatusSeeOther) //nolint:gosec // a page of ours: choice is one of the four
		return nil
	}
	f := fault.As(err)
	if f.Kind == fault.Internal {
		return err
	}
	p := views.MendPage{Choice: choice, Reason: typed(r.PostForm.Get("reason"))}
	if f.Field == "reason" {
		p.Error = f.Public
	} else {
		p.Problem = f.Public
	}
	return a.askMend(w, r, v, answerTo(f.Kind).status, p)
}

// needReason wants one where the domain leaves it to people.
func needReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	return nil
}

// removeStrayPage asks before something is taken away that a provider has and nobody here.
func (a *app) removeStrayPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askStray(w, r, v, http.StatusOK, views.StrayPage{Stray: stray(r.URL.Query())})
}

func (a *app) askStray(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.StrayPage) error {
	p.Meta = a.meta(r, v, "Take away what is nobody's")
	return a.render(w, r, status, views.RemoveStray(p))
}

// stray reads which one is meant. Only a comparison decides whether it is one.
func stray(from url.Values) views.Stray {
	s := views.Stray{Provider: "Twilio", ID: typed(from.Get("id")), Number: typed(from.Get("number")), Account: typed(from.Get("account"))}
	if from.Get("provider") == "Vapi" {
		s.Provider = "Vapi"
	}
	if org, err := uuid.Parse(from.Get("org")); err == nil {
		s.Org = org.String()
	}
	return s
}

func (a *app) removeStray(w http.ResponseWriter, r *http.Request, v *visit) error {
	s := stray(r.PostForm)
	return a.mend(w, r, v, telephony.Mend{What: telephony.MendStray, Provider: s.Provider, ID: s.ID}, func(problem, reason, bad string, status int) error {
		return a.askStray(w, r, v, status, views.StrayPage{Stray: s, Reason: reason, Error: bad, Problem: problem})
	})
}

// mendLinksPage asks before what points at numbers that are gone is taken away.
func (a *app) mendLinksPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.render(w, r, http.StatusOK, views.MendLinks(views.LinksPage{Meta: a.meta(r, v, "Put links right")}))
}

func (a *app) mendLinks(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.mend(w, r, v, telephony.Mend{What: telephony.MendLinks}, func(problem, reason, bad string, status int) error {
		return a.render(w, r, status, views.MendLinks(views.LinksPage{Meta: a.meta(r, v, "Put links right"), Reason: reason, Error: bad, Problem: problem}))
	})
}

// mend has a job put something right; refused shows the form again.
func (a *app) mend(w http.ResponseWriter, r *http.Request, v *visit, m telephony.Mend, refused func(problem, reason, bad string, status int) error) (err error) {
	m.Actor = v.who.Actor()
	if m.Reason, err = oneLine(r.PostForm.Get("reason")); err == nil {
		err = a.Numbers.AskMend(r.Context(), m)
	}
	if err == nil {
		http.Redirect(w, r, integrityPath+"?done=asked", http.StatusSeeOther)
		return nil
	}
	f := fault.As(err)
	if f.Kind == fault.Internal {
		return err
	}
	problem, bad := f.Public, ""
	if f.Field == "reason" {
		problem, bad = "", f.Public
	}
	return refused(problem, typed(r.PostForm.Get("reason")), bad, answerTo(f.Kind).status)
}
