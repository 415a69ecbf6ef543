package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/views"
)

// withdrawalsShown is how many of a wallet's withdrawals operators see.
const withdrawalsShown = 10

// withdrawPage is the form for money that goes back to cards.
func (a *app) withdrawPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showWithdraw(w, r, v, http.StatusOK, views.WithdrawForm{Key: uuid.NewString()})
}

func (a *app) showWithdraw(w http.ResponseWriter, r *http.Request, v *visit, status int, f views.WithdrawForm) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	plan, err := a.Payments.PlanWithdrawal(r.Context(), org, 0)
	p := views.WithdrawPage{Meta: a.meta(r, v, "Pay back to the card"), ID: org.String(), Name: name, Form: f}
	switch {
	case fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict):
		p.Nothing = fault.As(err).Public
	case err != nil:
		return err
	}
	p.Paid, p.Most, p.Disputed, p.Bonus, p.SetAside = plan.Paid, plan.Most, plan.Disputed, plan.Balance.Bonus, plan.Balance.SetAside()
	if f.Amount == "" && len(f.Errors) == 0 {
		p.Form.Amount = plan.Amount().Decimal()
	}
	return a.render(w, r, status, views.OpsWithdraw(p))
}

// withdraw takes the form: at first it says which payments would be refunded, and once that is confirmed it has them
// refunded.
func (a *app) withdraw(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, name, err := a.holder(r)
	if err != nil {
		return err
	}
	form := r.PostForm
	f := views.WithdrawForm{Amount: shownBack(form.Get("amount")), Reason: typed(form.Get("reason")), Key: form.Get("key"), Parts: form.Get("parts")}
	key, err := exactID(f.Key)
	if err != nil {
		return err
	}
	if form.Get("confirm") == "edit" {
		return a.showWithdraw(w, r, v, http.StatusOK, f)
	}
	request := payments.WithdrawalRequest{ID: key, OrgID: org, Reason: form.Get("reason"), Parts: f.Parts, Actor: v.who.Actor()}
	var plan payments.WithdrawalPlan
	units, err := money.ParseAmount(form.Get("amount"))
	if refused, ok := errors.AsType[*money.AmountError](err); ok {
		err = fault.Field("amount", refused.Message)
	}
	request.Amount = money.Pence(units)
	confirmed, changed := form.Get("confirm") == "yes", false
	if err == nil && confirmed {
		_, err = a.Payments.Withdraw(r.Context(), request)
		if now, ok := errors.AsType[*payments.PlanChangedError](err); ok {
			plan, changed, err = now.Now, true, nil
		}
	} else if err == nil {
		plan, err = a.Payments.CheckWithdrawal(r.Context(), request)
	}
	wrong := fault.As(err)
	switch {
	case err != nil && wrong.Field != "":
		f.Errors = map[string]string{wrong.Field: wrong.Public}
		return a.showWithdraw(w, r, v, answerTo(wrong.Kind).status, f)
	case err != nil:
		return err
	case confirmed && !changed:
		return toWallet(w, r, org, "withdrawn")
	}
	f.Parts = plan.Text()
	status := http.StatusOK
	if changed {
		status = answerTo(fault.Conflict).status
	}
	return a.render(w, r, status, views.OpsWithdrawConfirm(views.WithdrawConfirmPage{
		Meta: a.meta(r, v, "Pay back to the card"), ID: org.String(), Name: name, Form: f, Amount: request.Amount, Parts: plannedParts(plan),
		Now: figures(plan.Balance), Changed: changed, Frozen: plan.Balance.FrozenAt != nil,
	}))
}

func plannedParts(plan payments.WithdrawalPlan) []views.WithdrawalPart {
	parts := make([]views.WithdrawalPart, len(plan.Parts))
	for i, p := range plan.Parts {
		parts[i] = views.WithdrawalPart{PaymentIntent: p.PaymentIntent, PaidAt: p.PaidAt, Charge: p.Charge, Amount: p.Amount}
	}
	return parts
}

// withdrawals are the newest of a wallet, for operators.
func (a *app) withdrawals(ctx context.Context, org uuid.UUID) ([]views.Withdrawal, error) {
	list, err := a.Payments.Withdrawals(ctx, org, withdrawalsShown)
	if err != nil {
		return nil, err
	}
	shown := make([]views.Withdrawal, len(list))
	for i, w := range list {
		shown[i] = views.Withdrawal{ID: w.ID.String(), At: w.CreatedAt, Amount: w.Amount, Reason: w.Reason, By: cmp.Or(w.Email, w.Actor)}
		for _, p := range w.Parts {
			part := views.WithdrawalPart{PaymentIntent: p.PaymentIntent, Amount: p.Amount, State: string(p.State), RefundID: p.RefundID, Note: p.Note}
			if p.CameBack() {
				part.State, part.Note = "returned", "The refund failed at the bank, and the money is in the wallet again."
			}
			shown[i].Parts = append(shown[i].Parts, part)
		}
	}
	return shown, nil
}
