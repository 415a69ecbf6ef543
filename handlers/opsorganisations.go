package handlers

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const organisationsPath = "/ops/organisations"

// numbersCounted bounds how many of an organisation's numbers are counted.
const numbersCounted = 500

// organisations lists them all.
func (a *app) organisations(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	f := auth.OrgFilter{Text: typed(strings.TrimSpace(q.Get("q"))), Show: auth.OrgShow(q.Get("show"))}
	switch f.Show {
	case auth.OrgsAll, auth.OrgsSuspended, auth.OrgsClosed:
	default:
		return errNoPage()
	}
	if after := q.Get("after"); after != "" {
		var err error
		if f.After, err = exactID(after); err != nil {
			return err
		}
	}
	list, more, err := a.Auth.Organisations(r.Context(), f)
	if err != nil {
		return err
	}
	p := views.OrganisationsPage{Meta: a.meta(r, v, "Organisations"), Filter: views.OrganisationFilter{Text: f.Text, Show: string(f.Show)}, First: f.After == uuid.Nil}
	for _, o := range list {
		p.Rows = append(p.Rows, shownOrganisation(o))
	}
	if more {
		p.Next = p.Rows[len(p.Rows)-1].ID
	}
	return a.render(w, r, http.StatusOK, views.Organisations(p))
}

func shownOrganisation(o auth.Organisation) views.OrgRow {
	shown := views.OrgRow{ID: o.ID.String(), Name: o.Name, CreatedAt: o.CreatedAt, People: o.People, Invited: o.Invited, Owner: o.Owner, Closed: o.ClosedAt != nil}
	if o.SuspendedAt != nil {
		shown.SuspendedAt = *o.SuspendedAt
	}
	return shown
}

// newOrganisation is the form for one more.
func (a *app) newOrganisation(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showNewOrganisation(w, r, v, http.StatusOK, views.OrganisationForm{})
}

func (a *app) showNewOrganisation(w http.ResponseWriter, r *http.Request, v *visit, status int, f views.OrganisationForm) error {
	p := views.NewOrganisationPage{Meta: a.meta(r, v, "A new organisation"), Form: f, Mails: a.Notices.Mails()}
	p.Meta.Path = organisationsPath + "/new"
	return a.render(w, r, status, views.NewOrganisation(p))
}

// openOrganisation makes an organisation and invites its first owner.
func (a *app) openOrganisation(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !a.Notices.Mails() {
		return errNoMail()
	}
	form := r.PostForm
	f := views.OrganisationForm{Name: typed(form.Get("name")), Owner: typed(form.Get("owner")), Reason: typed(form.Get("reason")), Errors: map[string]string{}}
	reason, err := wallet.Sentence("reason", form.Get("reason"))
	var org uuid.UUID
	if err == nil {
		org, err = a.Auth.OpenOrganisation(r.Context(), v.who, auth.NewOrganisation{Name: form.Get("name"), Owner: form.Get("owner"), Reason: reason})
	}
	wrong := fault.As(err)
	switch {
	case err == nil:
		return toOrganisation(w, r, org, "opened")
	case wrong.Field == "name", wrong.Field == "owner", wrong.Field == "reason":
		f.Errors[wrong.Field] = wrong.Public
		return a.showNewOrganisation(w, r, v, answerTo(fault.Invalid).status, f)
	}
	return err
}

// toOrganisation leads back to an organisation's page after something was done.
func toOrganisation(w http.ResponseWriter, r *http.Request, org uuid.UUID, done string) error {
	http.Redirect(w, r, organisationsPath+"/"+org.String()+"?done="+done, http.StatusSeeOther) //nolint:gosec // a page of ours: org is an id
	return nil
}

// organisationDone are the sentences after something was done, by the word in the address.
var organisationDone = map[string]string{
	"opened":      "The organisation is there, and its first owner has been invited by mail.",
	"suspended":   "The organisation is suspended. Calls that go on are being ended.",
	"unsuspended": "The organisation works again.",
	"ended":       "You see it as an operator again.",
}

// organisation is one of them.
func (a *app) organisation(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	o, people, err := a.Auth.Organisation(r.Context(), org)
	if err != nil {
		return err
	}
	p := views.OrganisationPage{Meta: a.meta(r, v, o.Name), Organisation: shownOrganisation(o), Notice: organisationDone[r.URL.Query().Get("done")]}
	for _, m := range people {
		p.People = append(p.People, views.MemberLine{ID: m.UserID.String(), Email: m.Email, Role: string(m.Role), Since: m.Since})
	}
	found, err := a.Wallets.Balances(r.Context(), []uuid.UUID{org})
	if err != nil {
		return err
	}
	if b, ok := found[org]; ok {
		p.Wallet, p.Balance, p.Debt, p.SuspendedReason = true, b.Balance, b.Debt, b.SuspendedReason
	}
	numbers, err := a.Numbers.List(r.Context(), org, uuid.Nil, numbersCounted)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n.State == telephony.NumberActive {
			p.Numbers++
		}
		if n.EndedAt == nil {
			p.Live = append(p.Live, phoneNumber(n, nil))
		}
	}
	p.MoreNumbers = len(numbers) == numbersCounted
	return a.render(w, r, http.StatusOK, views.OrganisationForOps(p))
}

// suspendPage asks before an organisation is suspended, unsuspendPage before it works again.
func (a *app) suspendPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askSuspend(w, r, v, http.StatusOK, views.SuspendPage{})
}

func (a *app) unsuspendPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askSuspend(w, r, v, http.StatusOK, views.SuspendPage{Lift: true})
}

func (a *app) askSuspend(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.SuspendPage) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	found, err := a.Wallets.Balances(r.Context(), []uuid.UUID{org})
	if err != nil {
		return err
	}
	if at := found[org].SuspendedAt; at != nil {
		p.Since, p.SinceReason = *at, found[org].SuspendedReason
	}
	p.Meta, p.ID, p.Name = a.meta(r, v, "Suspend an organisation"), org.String(), name
	if p.Lift {
		p.Meta.Title = "Let an organisation work again"
	}
	return a.render(w, r, status, views.SuspendOrganisation(p))
}

// suspend stops an organisation, and ends its calls.
func (a *app) suspend(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.setSuspended(w, r, v, views.SuspendPage{}, "suspended")
}

// unsuspend lets a suspended organisation work again.
func (a *app) unsuspend(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.setSuspended(w, r, v, views.SuspendPage{Lift: true}, "unsuspended")
}

func (a *app) setSuspended(w http.ResponseWriter, r *http.Request, v *visit, p views.SuspendPage, done string) error {
	org, _, err := a.holder(r)
	if err != nil {
		return err
	}
	change := a.Wallets.Suspend
	if p.Lift {
		change = a.Wallets.Unsuspend
	}
	err = change(r.Context(), wallet.Suspension{OrgID: org, Reason: r.PostForm.Get("reason"), Actor: v.who.Actor()})
	wrong := fault.As(err)
	switch {
	case err == nil:
		return toOrganisation(w, r, org, done)
	case wrong.Field == "reason" || wrong.Kind == fault.Conflict:
		p.Reason = typed(r.PostForm.Get("reason"))
		if wrong.Field == "reason" {
			p.Error = wrong.Public
		}
		return a.askSuspend(w, r, v, answerTo(wrong.Kind).status, p)
	}
	return err
}
