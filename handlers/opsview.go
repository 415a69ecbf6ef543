package handlers

import (
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const endViewPath = "/ops/view/end"

// viewPage asks why an operator looks at an organisation as its people see it.
func (a *app) viewPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askView(w, r, v, http.StatusOK, views.ViewPage{})
}

func (a *app) askView(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ViewPage) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	p.Meta, p.ID, p.Name = a.meta(r, v, "View as the customer"), org.String(), name
	return a.render(w, r, status, views.ViewAsCustomer(p))
}

// startView begins it, and leads to what the customer sees first. From then on this session changes nothing until it is
// ended, or half an hour is over.
func (a *app) startView(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, _, err := a.holder(r)
	if err != nil {
		return err
	}
	reason, err := wallet.Sentence("reason", r.PostForm.Get("reason"))
	if err == nil {
		err = a.Auth.StartView(r.Context(), v.who, org, reason)
	}
	wrong := fault.As(err)
	switch {
	case err == nil:
		a.streams.end(v.who.SessionID) // they showed another organisation
		http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
		return nil
	case wrong.Field == "reason":
		return a.askView(w, r, v, answerTo(wrong.Kind).status, views.ViewPage{Reason: typed(r.PostForm.Get("reason")), Error: wrong.Public})
	case wrong.Kind == fault.Conflict:
		return a.askView(w, r, v, answerTo(wrong.Kind).status, views.ViewPage{Reason: typed(r.PostForm.Get("reason")), Problem: wrong.Public})
	}
	return err
}

// endView ends it. Where there is nothing to end, it leads on all the same.
func (a *app) endView(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !v.who.Operator {
		return errNoPage()
	}
	org, err := a.Auth.EndView(r.Context(), v.who)
	if err != nil {
		return err
	}
	a.streams.end(v.who.SessionID)
	if org == uuid.Nil { // it had ended by itself
		http.Redirect(w, r, organisationsPath, http.StatusSeeOther)
		return nil
	}
	return toOrganisation(w, r, org, "ended")
}
