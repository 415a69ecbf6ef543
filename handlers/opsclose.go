package handlers

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/payments"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// closePage says what closing an account would do, and asks for the reason.
func (a *app) closePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showClose(w, r, v, http.StatusOK, views.ClosePage{Form: views.CloseForm{Key: uuid.NewString()}})
}

func (a *app) showClose(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ClosePage) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	plan, err := a.Payments.PlanClosing(r.Context(), org)
	switch {
	case fault.Is(err, fault.Conflict):
		p.Blocked = fault.As(err).Public
	case err != nil:
		return err
	}
	b := plan.Withdrawal.Balance
	p.Meta, p.ID, p.Name = a.meta(r, v, "Close an account"), org.String(), name
	p.Now, p.Held, p.Reserved = figures(b), b.Held, b.Reserved
	p.PaysBack, p.Bonus, p.Stays, p.Disputed, p.Parts = plan.PaysBack, plan.Bonus, plan.Stays, plan.Withdrawal.Disputed, plannedParts(plan.Withdrawal)
	p.Form.Parts = plan.Withdrawal.Text()
	return a.render(w, r, status, views.OpsClose(p))
}

// close takes the form that closes an account: at first it asks for a last word, and once that is given it closes it.
func (a *app) close(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, _, err := a.holder(r)
	if err != nil {
		return err
	}
	form := r.PostForm
	p := views.ClosePage{Form: views.CloseForm{Reason: typed(form.Get("reason")), Key: form.Get("key")}}
	key, err := exactID(p.Form.Key)
	if err != nil {
		return err
	}
	reason, err := wallet.Sentence("reason", form.Get("reason"))
	if err == nil && form.Get("confirm") != "yes" {
		p.Form.Reason, p.Confirm = reason, true
		return a.showClose(w, r, v, http.StatusOK, p)
	}
	if err == nil {
		_, err = a.Payments.CloseAccount(r.Context(), payments.ClosingRequest{ID: key, OrgID: org, Reason: reason, Parts: form.Get("parts"), Actor: v.who.Actor()})
	}
	_, changed := errors.AsType[*payments.PlanChangedError](err)
	wrong := fault.As(err)
	switch {
	case err == nil:
		return toWallet(w, r, org, "closed")
	case changed:
		p.Confirm, p.Changed = true, true
		return a.showClose(w, r, v, answerTo(fault.Conflict).status, p)
	case wrong.Field == "reason":
		p.Form.Error = wrong.Public
	case wrong.Kind != fault.Conflict:
		return err
	}
	return a.showClose(w, r, v, answerTo(wrong.Kind).status, p)
}

// reopenPage asks before an account is opened again.
func (a *app) reopenPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showReopen(w, r, v, http.StatusOK, views.ReopenPage{})
}

func (a *app) showReopen(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ReopenPage) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	b, _, err := a.Wallets.Overview(r.Context(), org, 0)
	if err != nil {
		return err
	}
	if b.ClosedAt != nil {
		p.ClosedAt, p.ClosedReason = *b.ClosedAt, b.ClosedReason
	}
	p.Meta, p.ID, p.Name = a.meta(r, v, "Open an account again"), org.String(), name
	return a.render(w, r, status, views.OpsReopen(p))
}

// reopen lets a closed account work again.
func (a *app) reopen(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, _, err := a.holder(r)
	if err != nil {
		return err
	}
	err = a.Wallets.Reopen(r.Context(), wallet.Closing{OrgID: org, Reason: r.PostForm.Get("reason"), Actor: v.who.Actor()})
	wrong := fault.As(err)
	switch {
	case err == nil:
		return toWallet(w, r, org, "reopened")
	case wrong.Field == "reason" || wrong.Kind == fault.Conflict:
		p := views.ReopenPage{Reason: typed(r.PostForm.Get("reason"))}
		if wrong.Field == "reason" {
			p.Error = wrong.Public
		}
		return a.showReopen(w, r, v, answerTo(wrong.Kind).status, p)
	}
	return err
}
