package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// rateExamples are amounts in dollars that a change of the rate is shown by.
var rateExamples = []money.USDCents{25_00, 50_00, 200_00}

// exchangeRates are the versions of the exchange rate, as operators see them.
func (a *app) exchangeRates(ctx context.Context) (c views.RateCard, err error) {
	h, err := a.Wallets.RateHistory(ctx)
	if err != nil {
		return c, err
	}
	c.Versions = make([]views.RateVersionFull, len(h.Versions))
	for i := range h.Versions {
		from, shown := &h.Versions[i], &c.Versions[i]
		if shown.RateVersion, err = rateVersion(from.ExchangeRate); err != nil {
			return c, err
		}
		shown.By, shown.Reason = from.Email, from.Reason
		switch {
		case from.Author == "system:configuration":
			shown.By = "the configuration"
		case shown.By == "":
			shown.By = from.Author
		}
		switch from {
		case h.InForce:
			c.Now = shown
		case h.Next:
			c.Next = shown
		}
	}
	return c, nil
}

// ratePage is the form for a version of the exchange rate.
func (a *app) ratePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showRateForm(w, r, v, http.StatusOK, views.RateForm{})
}

func (a *app) showRateForm(w http.ResponseWriter, r *http.Request, v *visit, status int, f views.RateForm) error {
	card, err := a.exchangeRates(r.Context())
	if err != nil {
		return err
	}
	return a.render(w, r, status, views.OpsRateForm(views.RateFormPage{Meta: a.meta(r, v, "An exchange rate"), Form: f, Now: a.Now(), Card: card}))
}

// setRate takes the form for a version: at first it shows what would change; once that is confirmed it does it, unless the
// change is large, which has to be confirmed again.
func (a *app) setRate(w http.ResponseWriter, r *http.Request, v *visit) error {
	form := r.PostForm
	f := views.RateForm{
		Rate: shownBack(form.Get("rate")), Source: typed(form.Get("source")), Starts: shownBack(form.Get("starts")), Reason: typed(form.Get("reason")),
		Seen: shownBack(form.Get("seen")),
	}
	press := form.Get("confirm")
	if press == "edit" {
		return a.showRateForm(w, r, v, http.StatusOK, f)
	}
	confirmed := press == "yes" || press == "sure"
	change, wrong := a.rateChange(form, confirmed)
	change.Sure, change.Actor = press == "sure", v.who.Actor()
	var preview wallet.RatePreview
	var err error
	if len(wrong) == 0 {
		preview, err = a.Gates.PreviewRate(r.Context(), change)
		if refused := fault.As(err); err != nil && refused.Field != "" {
			wrong[refused.Field] = refused.Public
		} else if err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		f.Errors = wrong
		return a.showRateForm(w, r, v, answerTo(fault.Invalid).status, f)
	}
	p := views.RateConfirmPage{Meta: a.meta(r, v, "An exchange rate"), StartsAt: preview.Change.StartsAt, Large: preview.Large}
	status := http.StatusOK
	if confirmed && (change.Sure || !preview.Large) {
		_, err := a.Gates.SetRate(r.Context(), change)
		switch {
		case fault.Is(err, fault.Conflict):
			p.Changed, status = true, answerTo(fault.Conflict).status
		case err != nil:
			return err
		default:
			to := url.Values{"done": {"rate"}}
			if !preview.Change.StartsAt.IsZero() {
				to.Set("done", "rate-later")
			}
			http.Redirect(w, r, "/ops/prices?"+to.Encode(), http.StatusSeeOther)
			return nil
		}
	}
	p.Sure = preview.Large && confirmed && !p.Changed
	if !confirmed || p.Changed {
		f.Seen = strconv.FormatInt(preview.Latest, 10)
	}
	if p.Form = f; !p.Sure {
		p.Form.Source, p.Form.Reason = preview.Change.Source, preview.Change.Reason
	}
	if err := fillRateConfirm(&p, preview); err != nil {
		return err
	}
	return a.render(w, r, status, views.OpsRateConfirm(p))
}

// rateChange reads the form, and says by field what cannot be read in it.
func (a *app) rateChange(form url.Values, confirmed bool) (wallet.RateChange, map[string]string) {
	wrong := map[string]string{}
	say := func(err error) {
		if f := fault.As(err); err != nil {
			wrong[f.Field] = f.Public
		}
	}
	c := wallet.RateChange{Source: form.Get("source"), Reason: form.Get("reason")}
	var err error
	c.Rate, err = wallet.ParseRate(form.Get("rate"))
	say(err)
	c.StartsAt, err = startOf(form.Get("starts"))
	say(err)
	// A start that passes while somebody looks at the change means now; one that is typed so is a slip.
	if err == nil && !confirmed && !c.StartsAt.IsZero() && c.StartsAt.Before(a.Now()) {
		wrong["starts"] = "This has passed. A rate never reaches back: enter a later time, or nothing for now."
	}
	c.Seen, _ = strconv.ParseInt(form.Get("seen"), 10, 64) // what is no number was not seen
	return c, wrong
}

// fillRateConfirm adds what would change.
func fillRateConfirm(p *views.RateConfirmPage, preview wallet.RatePreview) error {
	was, err := preview.Was.Rate()
	if err != nil {
		return fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	then := preview.Change.Rate
	p.Was, p.Then = "£"+was.String(), "£"+then.String()
	p.Change = percent(then.Micros()-was.Micros(), was.Micros())
	for _, usd := range rateExamples {
		e := views.RateExample{What: "A top-up of " + usd.String()}
		if e.Was, err = was.ToPence(usd); err == nil {
			e.Then, err = then.ToPence(usd)
		}
		if err != nil {
			return fmt.Errorf("couldn't convert an example: %w", err)
		}
		p.Examples = append(p.Examples, e)
	}
	for _, later := range preview.Later {
		version, err := rateVersion(later)
		if err != nil {
			return err
		}
		p.Later = append(p.Later, version)
	}
	return nil
}

// percent is a change of something positive, such as "+12.7%", rounded to a tenth.
func percent(change, of int64) string {
	sign := "+"
	if change < 0 {
		sign, change = "-", -change
	}
	tenths := (change*1000 + of/2) / of
	return fmt.Sprintf("%s%d.%d%%", sign, tenths/10, tenths%10)
}
