package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// holder reads whose wallet an address is about: an organisation that exists, and its name.
func (a *app) holder(r *http.Request) (org uuid.UUID, name string, err error) {
	if org, err = exactID(r.PathValue("id")); err != nil {
		return uuid.Nil, "", err
	}
	name, err = a.Wallets.Holder(r.Context(), org)
	return org, name, err
}

// toWallet leads back to a wallet's page after something was done.
func toWallet(w http.ResponseWriter, r *http.Request, org uuid.UUID, done string) error {
	http.Redirect(w, r, "/ops/wallets/"+org.String()+"?done="+done, http.StatusSeeOther) //nolint:gosec // a page of ours: org is an id
	return nil
}

// adjustPage is the form for an adjustment.
func (a *app) adjustPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showAdjust(w, r, v, http.StatusOK, views.AdjustForm{Kind: "credit"})
}

func (a *app) showAdjust(w http.ResponseWriter, r *http.Request, v *visit, status int, f views.AdjustForm) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	b, _, err := a.Wallets.Overview(r.Context(), org, 0)
	if err != nil {
		return err
	}
	p := views.AdjustPage{Meta: a.meta(r, v, "Adjust a wallet"), ID: org.String(), Name: name, Now: figures(b), Form: f, Limit: wallet.OperatorLimit}
	return a.render(w, r, status, views.OpsAdjust(p))
}

func figures(b wallet.Balance) views.WalletFigures {
	return views.WalletFigures{Balance: b.Balance, Available: b.Available(), Bonus: b.Bonus, Debt: b.Debt}
}

// adjust takes the form for an adjustment: at first it says what would happen, and once that is confirmed it does it.
func (a *app) adjust(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	form := r.PostForm
	f := views.AdjustForm{
		Kind: form.Get("kind"), Amount: shownBack(form.Get("amount")), Reason: typed(form.Get("reason")), Reference: typed(form.Get("reference")),
		Shown: shownBack(form.Get("shown")),
	}
	if form.Get("confirm") == "edit" {
		return a.showAdjust(w, r, v, http.StatusOK, f)
	}
	request, err := adjustment(form)
	request.OrgID, request.Actor = org, v.who.Actor()
	var preview wallet.AdjustmentPreview
	if err == nil {
		preview, err = a.Wallets.PreviewAdjustment(r.Context(), request)
	}
	confirmed := form.Get("confirm") == "yes"
	var done wallet.Transaction
	if err == nil && confirmed {
		done, err = a.Wallets.Adjust(r.Context(), request)
	}
	if wrong := fault.As(err); err != nil && wrong.Field != "" {
		f.Errors = map[string]string{wrong.Field: wrong.Public + shownBefore(f.Shown, confirmed && wrong.Field == "amount")}
		return a.showAdjust(w, r, v, answerTo(wrong.Kind).status, f)
	}
	switch {
	case err != nil:
		return err
	case confirmed && done.Repeated:
		return toWallet(w, r, org, "adjusted-before")
	case confirmed:
		return toWallet(w, r, org, "adjusted")
	}
	f.Shown = strconv.FormatInt(int64(preview.Before.Available()), 10)
	p := views.AdjustConfirmPage{
		Meta: a.meta(r, v, "Adjust a wallet"), ID: org.String(), Name: name, Form: f, Amount: request.Amount,
		Now: figures(preview.Before), Then: figures(preview.After), Repays: preview.Repays(),
	}
	p.Form.Reason, p.Form.Reference = preview.Request.Reason, preview.Request.Reference
	if preview.Done != nil {
		p.DoneAt = preview.Done.At
	}
	return a.render(w, r, http.StatusOK, views.OpsAdjustConfirm(p))
}

// shownBefore says what the confirmation had shown, where that matters.
func shownBefore(shown string, matters bool) string {
	pence, err := strconv.ParseInt(shown, 10, 64)
	if err != nil || !matters {
		return ""
	}
	return fmt.Sprintf(" It was %s when you looked, so nothing was done.", money.Pence(pence))
}

// adjustment reads the form. What cannot be read is Invalid with its field.
func adjustment(form url.Values) (wallet.AdjustmentRequest, error) {
	r := wallet.AdjustmentRequest{Kind: wallet.Adjustment, Reason: form.Get("reason"), Reference: form.Get("reference")}
	units, err := money.ParseAmount(form.Get("amount"))
	if refused, ok := errors.AsType[*money.AmountError](err); ok {
		return r, fault.Field("amount", refused.Message)
	}
	r.Amount = money.Pence(units)
	switch form.Get("kind") {
	case "credit":
	case "debit":
		r.Amount = -r.Amount
	case "bonus":
		r.Kind = wallet.Bonus
	default:
		return r, fault.Field("kind", "Choose a credit, a debit or a bonus.")
	}
	return r, err
}
