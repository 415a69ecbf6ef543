package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/views"
)

const (
	autoTopUpPath     = "/wallet/auto-top-up"
	opsAutoTopUpsPath = "/ops/auto-top-ups"
)

// autoTopUpsShown is how many of the newest automatic top-ups the page lists.
const autoTopUpsShown = 10

// autoDone are the sentences after something was done, by the word in the address.
var autoDone = map[string]string{
	"on":              "Automatic top-ups are on.",
	"changed":         "The change was saved. It counts from now on.",
	"off":             "Automatic top-ups are off.",
	"off-under-way":   "Automatic top-ups are off. One was under way already and may still be charged; this page shows what comes of it.",
	"removed":         "The card was removed.",
	"removed-charged": "The card was removed. A top-up was under way already and may still be charged; this page shows what comes of it.",
}

// mayManageCards refuses everybody but owners: they decide what is charged without anybody being there.
func mayManageCards(who auth.Identity) error {
	if who.Role == auth.RoleOwner {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot manage saved cards and automatic top-ups. Ask an owner of "+who.OrgName+".")
}

// autoTopUpPage shows how automatic top-ups stand.
func (a *app) autoTopUpPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.AutoPage{Notice: autoDone[r.URL.Query().Get("done")]}
	return a.showAutoTopUp(w, r, v, http.StatusOK, p)
}

// showAutoTopUp answers with the page around the form as given, or with what stands where none is.
func (a *app) showAutoTopUp(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.AutoPage) error {
	auto, err := a.Payments.AutoTopUp(r.Context(), v.who.OrgID, autoTopUpsShown)
	if err != nil {
		return err
	}
	p.Meta, p.AutoGlance = a.meta(r, v, "Auto top-up"), glance(auto, v.who)
	if c := auto.Card; c != nil {
		p.Brand, p.Last4, p.Expiry = brandName(c.Brand), c.Last4, fmt.Sprintf("%02d/%d", c.ExpMonth, c.ExpYear)
		p.CardExpired, p.CardSince = c.Expired(a.Now()), c.ConsentedAt
	}
	p.CardAwaited = auto.CardExpected || auto.CardPageOpen && auto.Card == nil && r.URL.Query().Get("card") == "saved"
	if p.CardAwaited {
		p.Meta.RefreshSeconds = 3
		if isFragment(r) { // the page's own asking: what is there stays, with whatever is typed in it
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	p.Today = views.Spending{Spent: auto.Today, Limit: &auto.Settings.DailyCap}
	p.Month = views.Spending{Spent: auto.ThisMonth, Limit: &auto.Settings.MonthlyCap}
	p.Consent, p.ConsentBy, p.ConsentAt = auto.Consent, auto.ConsentedBy, auto.ConsentedAt
	if p.ConsentBy == "" {
		p.ConsentBy = "somebody who is no member any more"
	}
	for _, t := range auto.Recent {
		row := views.AutoTopUpRow{ID: t.ID.String(), At: t.CreatedAt, Amount: t.Amount, State: views.TopUpState(t.State)}
		if t.State != payments.Paid {
			row.Note = t.Note
		}
		p.Recent = append(p.Recent, row)
	}
	if p.Form.Figures == nil {
		set := auto.Settings
		if set == (payments.AutoTopUpSettings{}) {
			set = payments.SuggestedAutoTopUp()
		}
		if p.Form, _, err = a.autoForm(r.Context(), typedSettings(set)); err != nil {
			return err
		}
	}
	return a.render(w, r, status, views.AutoTopUp(p))
}

// typedSettings are settings as somebody would type them.
func typedSettings(set payments.AutoTopUpSettings) url.Values {
	return url.Values{
		"threshold": {set.Threshold.Decimal()}, "amount": {set.Amount.Decimal()}, "daily_cap": {set.DailyCap.Decimal()}, "monthly_cap": {set.MonthlyCap.Decimal()},
	}
}

// glance is how automatic top-ups stand as every page shows it.
func glance(auto payments.AutoTopUp, who auth.Identity) views.AutoGlance {
	g := views.AutoGlance{
		State: views.AutoState(auto.State), Paused: auto.Paused, Until: auto.Until, Reason: auto.Reason,
		Threshold: auto.Settings.Threshold, Amount: auto.Settings.Amount, CanEdit: who.Role == auth.RoleOwner, SavingWords: payments.SaveCardWords,
	}
	if auto.Card != nil {
		g.Card = cardName(*auto.Card)
	}
	return g
}

// autoGlance reads it for pages that are about something else.
func (a *app) autoGlance(ctx context.Context, who auth.Identity) (views.AutoGlance, error) {
	auto, err := a.Payments.AutoTopUpAtAGlance(ctx, who.OrgID)
	return glance(auto, who), err
}

// offerSaving offers an owner who has no saved card to save the one that is paid with.
func offerSaving(form views.TopUpForm, g views.AutoGlance) views.TopUpForm {
	form.OfferSaving, form.SavingWords = g.CanEdit && g.Card == "", g.SavingWords
	return form
}

// cardName is what a card is called.
func cardName(c payments.SavedCard) string { return brandName(c.Brand) + " ending in " + c.Last4 }

// brandName writes a card's brand as its owner knows it.
func brandName(brand string) string {
	names := map[string]string{
		"visa": "Visa", "mastercard": "Mastercard", "amex": "American Express", "discover": "Discover", "diners": "Diners Club", "jcb": "JCB", "unionpay": "UnionPay",
	}
	if name, ok := names[brand]; ok {
		return name
	}
	return "card"
}

// autoForm reads the settings as typed, with what is wrong beside each, and what they come to in dollars.
func (a *app) autoForm(ctx context.Context, form url.Values) (f views.AutoForm, set payments.AutoTopUpSettings, err error) {
	rate, err := a.Wallets.Rate(ctx)
	if err != nil {
		return f, set, err
	}
	unreadable := false
	for _, one := range []struct {
		name string
		to   *money.Pence
	}{{"threshold", &set.Threshold}, {"amount", &set.Amount}, {"daily_cap", &set.DailyCap}, {"monthly_cap", &set.MonthlyCap}} {
		figure := views.AutoFigure{Name: one.name, Typed: shownBack(form.Get(one.name))}
		n, err := money.ParseAmount(form.Get(one.name))
		if refused, ok := errors.AsType[*money.AmountError](err); ok {
			figure.Error, unreadable = refused.Message, true
		} else if err != nil {
			return f, set, err
		}
		*one.to = money.Pence(n)
		f.Figures = append(f.Figures, figure)
	}
	if !unreadable {
		wrong := a.Payments.CheckAutoTopUp(set)
		for i := range f.Figures {
			f.Figures[i].Error = wrong[f.Figures[i].Name]
		}
		if len(wrong) == 0 {
			f.Words = set.Words()
		}
	}
	for i, pence := range []money.Pence{set.Threshold, set.Amount, set.DailyCap, set.MonthlyCap} {
		if f.Figures[i].Error != "" {
			continue
		}
		f.Figures[i].Pence = pence
		if f.Figures[i].USD, err = rate.ToUSD(pence); err != nil {
			return f, set, fmt.Errorf("couldn't convert the amount: %w", err)
		}
	}
	return f, set, nil
}

// quoteAutoTopUp says what is typed comes to: a fragment beside the form, or without scripts the whole page.
func (a *app) quoteAutoTopUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	form, _, err := a.autoForm(r.Context(), r.PostForm)
	if err != nil {
		return err
	}
	if !isFragment(r) {
		return a.showAutoTopUp(w, r, v, http.StatusOK, views.AutoPage{Form: form})
	}
	p := views.AutoPage{Form: form, AutoGlance: views.AutoGlance{CanEdit: true, Card: "card"}}
	return a.render(w, r, http.StatusOK, views.AutoWords(p))
}

// setAutoTopUp takes the settings: at first it shows the sentence that is to be agreed to, and once that is done it turns
// automatic top-ups on, or changes them.
func (a *app) setAutoTopUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	form, set, err := a.autoForm(r.Context(), r.PostForm)
	if err != nil {
		return err
	}
	confirm := r.PostForm.Get("confirm")
	if form.Words == "" {
		return a.showAutoTopUp(w, r, v, answerTo(fault.Invalid).status, views.AutoPage{Form: form})
	}
	if confirm == "edit" {
		return a.showAutoTopUp(w, r, v, http.StatusOK, views.AutoPage{Form: form})
	}
	auto, err := a.Payments.AutoTopUpAtAGlance(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	if auto.Card == nil {
		return fault.New(fault.Conflict, "There is no saved card to charge. Save one first.")
	}
	agreed := r.PostForm.Get("words")
	if confirm != "yes" || agreed != form.Words {
		p := views.AutoConfirmPage{Meta: a.meta(r, v, "Automatic top-ups"), Form: form, Card: cardName(*auto.Card), On: auto.State.On(), Changed: confirm == "yes"}
		status := http.StatusOK
		if p.Changed {
			status = answerTo(fault.Conflict).status
		}
		return a.render(w, r, status, views.AutoTopUpConfirm(p))
	}
	change := payments.AutoTopUpChange{OrgID: v.who.OrgID, UserID: v.who.UserID, Settings: set, Consent: agreed}
	if err := a.Payments.TurnOnAutoTopUp(r.Context(), change); err != nil {
		return err
	}
	done := "on"
	if auto.State.On() {
		done = "changed"
	}
	seeOther(w, r, autoTopUpPath+"?done="+done)
	return nil
}

// turnOffAutoTopUp needs no question: it can be turned on again.
func (a *app) turnOffAutoTopUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	underWay, err := a.Payments.TurnOffAutoTopUp(r.Context(), v.who.OrgID, v.who.UserID)
	if err != nil {
		return err
	}
	done := "off"
	if underWay {
		done = "off-under-way"
	}
	seeOther(w, r, autoTopUpPath+"?done="+done)
	return nil
}

// saveCard sends the browser to a page of Stripe's on which a card is saved and nothing is paid.
func (a *app) saveCard(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	to, err := a.Payments.StartCardSetup(r.Context(), v.who.OrgID, v.who.UserID)
	if err != nil {
		return err
	}
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // has passed payments.CheckURL
	return nil
}

// removeCardPage asks before the saved card is removed.
func (a *app) removeCardPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	auto, err := a.Payments.AutoTopUpAtAGlance(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	if auto.Card == nil {
		return fault.New(fault.NotFound, "There is no saved card.")
	}
	p := views.CardRemovePage{Meta: a.meta(r, v, "Remove the card"), Card: cardName(*auto.Card), On: auto.State.On()}
	return a.render(w, r, http.StatusOK, views.CardRemove(p))
}

// removeCard removes it. Automatic top-ups stop with that.
func (a *app) removeCard(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageCards(v.who); err != nil {
		return err
	}
	underWay, err := a.Payments.RemoveCard(r.Context(), v.who.OrgID, v.who.UserID)
	if err != nil {
		return err
	}
	done := "removed"
	if underWay {
		done = "removed-charged"
	}
	seeOther(w, r, autoTopUpPath+"?done="+done)
	return nil
}

// opsAutoTopUps shows operators the switch and what it stands over.
func (a *app) opsAutoTopUps(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.OpsAutoPage{}
	switch r.URL.Query().Get("done") {
	case "stop":
		p.Notice = "Automatic top-ups are stopped for everybody."
	case "start":
		p.Notice = "Automatic top-ups are running again."
	}
	return a.showOpsAutoTopUps(w, r, v, http.StatusOK, p)
}

func (a *app) showOpsAutoTopUps(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.OpsAutoPage) error {
	o, err := a.Payments.AutoTopUpOverview(r.Context())
	if err != nil {
		return err
	}
	p.Meta = a.meta(r, v, "Automatic top-ups")
	p.Stopped, p.By, p.Why, p.At = o.Switch.Stopped, o.Switch.By, o.Switch.Reason, o.Switch.At
	p.Ready, p.CoolingDown = o.Organisations[payments.AutoReady], o.Organisations[payments.AutoCoolingDown]
	p.Authentication, p.StoppedOrgs, p.Off = o.Organisations[payments.AutoAuthentication], o.Organisations[payments.AutoStopped], o.Organisations[payments.AutoOff]
	p.Today, p.Failed, p.Charged = o.Today, o.Failed, o.Charged
	for _, t := range o.InFlight {
		p.InFlight = append(p.InFlight, views.OpsAutoRow{OrgID: t.OrgID.String(), Name: t.Name, At: t.CreatedAt, Amount: t.Amount, State: views.TopUpState(t.State)})
	}
	return a.render(w, r, status, views.OpsAutoTopUps(p))
}

// switchAutoTopUps stops automatic top-ups for everybody, or starts them again. The form says which, so that two operators at
// once do not undo each other.
func (a *app) switchAutoTopUps(w http.ResponseWriter, r *http.Request, v *visit) error {
	var stop bool
	done := "start"
	switch r.PostForm.Get("to") {
	case "stop":
		stop, done = true, "stop"
	case "start":
	default:
		return errNoPage()
	}
	reason, err := oneLine(strings.TrimSpace(r.PostForm.Get("reason")))
	if err == nil {
		err = a.Payments.SwitchAutoTopUps(r.Context(), stop, reason, v.who.Actor())
	}
	if f := fault.As(err); err != nil && f.Field == "reason" {
		p := views.OpsAutoPage{Reason: typed(r.PostForm.Get("reason")), Error: f.Public}
		return a.showOpsAutoTopUps(w, r, v, answerTo(f.Kind).status, p)
	}
	if err != nil {
		return err
	}
	seeOther(w, r, opsAutoTopUpsPath+"?done="+done)
	return nil
}
