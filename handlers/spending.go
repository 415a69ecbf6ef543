package handlers

import (
	"errors"
	"net/http"
	"strings"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// limitFields are the names of the form's fields, in the order of the page: all together, then every action.
func limitFields() []string {
	names := []string{"all"}
	for _, action := range wallet.Actions {
		names = append(names, string(action))
	}
	return names
}

// spendingLimits shows the limits of this organisation and how far they are used.
func (a *app) spendingLimits(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.SpendingPage{}
	if r.URL.Query().Get("done") == "saved" {
		p.Notice = "The limits were saved. They count from now on."
	}
	return a.showLimits(w, r, v, http.StatusOK, p)
}

// showLimits answers with the page around the form as given, or with the limits in force where none is.
func (a *app) showLimits(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.SpendingPage) error {
	l, err := a.Wallets.Limits(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p.Meta, p.Month, p.CanEdit = a.meta(r, v, "Spending limits"), a.Now(), v.who.Role == auth.RoleOwner
	p.Lines = spending(l)
	if p.Fields == nil {
		for _, s := range p.Lines {
			var f views.SpendingField
			if s.Limit != nil {
				f.Typed = s.Limit.Decimal()
			}
			p.Fields = append(p.Fields, f)
		}
	}
	return a.render(w, r, status, views.SpendingLimits(p))
}

// spending is what is used of the limits: all together, then every action.
func spending(l wallet.Limits) []views.Spending {
	list := []views.Spending{{Spent: l.Spent(), Limit: l.All}}
	for _, action := range wallet.Actions {
		one := l.ByAction[action]
		list = append(list, views.Spending{Kind: views.TransactionKind(action), Spent: one.Spent, Limit: one.Most})
	}
	return list
}

// saveLimits sets the limits anew. Owners alone may.
func (a *app) saveLimits(w http.ResponseWriter, r *http.Request, v *visit) error {
	if v.who.Role != auth.RoleOwner {
		return fault.New(fault.Forbidden, "Your role is "+string(v.who.Role)+", so you cannot change the limits. Ask an owner of "+v.who.OrgName+".")
	}
	change := wallet.LimitChange{OrgID: v.who.OrgID, ByAction: map[wallet.Action]*money.Pence{}, Actor: v.who.Actor()}
	var fields []views.SpendingField
	wrong := false
	for i, name := range limitFields() {
		typed := r.PostForm.Get(name)
		limit, err := parseLimit(typed)
		f := views.SpendingField{Typed: shownBack(typed)}
		if refused, ok := errors.AsType[*money.AmountError](err); ok {
			f.Error, wrong = refused.Message, true
		} else if err != nil {
			return err
		}
		fields = append(fields, f)
		if i == 0 {
			change.All = limit
		} else {
			change.ByAction[wallet.Action(name)] = limit
		}
	}
	if wrong {
		return a.showLimits(w, r, v, answerTo(fault.Invalid).status, views.SpendingPage{Fields: fields})
	}
	if err := a.Wallets.SetLimits(r.Context(), change); err != nil {
		return err
	}
	seeOther(w, r, "/wallet/limits?done=saved")
	return nil
}

// parseLimit reads a limit in pounds; nothing typed is no limit.
func parseLimit(typed string) (*money.Pence, error) {
	if strings.TrimSpace(typed) == "" {
		return nil, nil //nolint:nilnil // nil is a limit too: none
	}
	n, err := money.ParseAmount(typed)
	if err != nil {
		return nil, err
	}
	p := money.Pence(n)
	return &p, nil
}
