package handlers

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// opsPrices shows a rate card with its history: everybody's, or an organisation's own.
func (a *app) opsPrices(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	owner, org, err := a.priceOwner(r, q.Get("org"))
	if err != nil {
		return err
	}
	lines, err := a.Wallets.PriceLines(r.Context(), org)
	if err != nil {
		return err
	}
	_, rate, err := a.tariff(r.Context())
	if err != nil {
		return err
	}
	p := views.OpsPricesPage{Meta: a.meta(r, v, "Prices"), Owner: owner, Prefix: digitsOf(q.Get("prefix"))}
	switch q.Get("done") {
	case "now":
		p.Notice = "The price was added. It counts everywhere within a second."
	case "later":
		p.Notice = "The price was added. It waits for its start."
	case "rate":
		p.Notice = "The exchange rate was set. It counts everywhere within a second."
	case "rate-later":
		p.Notice = "The exchange rate was added. It waits for its start."
	}
	for _, action := range wallet.Actions {
		s, err := priceSection(action, lines, p.Prefix, rate)
		if err != nil {
			return err
		}
		p.Sections = append(p.Sections, s)
	}
	if org == uuid.Nil {
		if p.Rate, err = a.exchangeRates(r.Context()); err != nil {
			return err
		}
		owners, err := a.Wallets.PriceOwners(r.Context())
		if err != nil {
			return err
		}
		for _, o := range owners {
			p.Owners = append(p.Owners, views.PriceOwner{ID: o.OrgID.String(), Name: o.Name})
		}
	}
	return a.render(w, r, http.StatusOK, views.OpsPrices(p))
}

// priceOwner reads whose rate card is meant: an organisation that exists, or with nothing everybody.
func (a *app) priceOwner(r *http.Request, raw string) (views.PriceOwner, uuid.UUID, error) {
	if raw == "" {
		return views.PriceOwner{}, uuid.Nil, nil
	}
	org, err := exactID(raw)
	if err != nil {
		return views.PriceOwner{}, uuid.Nil, err
	}
	name, err := a.Wallets.Holder(r.Context(), org)
	return views.PriceOwner{ID: raw, Name: name}, org, err
}

// digitsOf are the digits of a prefix or number as somebody types it.
func digitsOf(typed string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, typed[:min(len(typed), maxTyped)])
}

// priceSection is an action's part of a rate card: the lines that have to do with a prefix, or all. What was shut from the
// start and never touched is folded together by its reason, unless a prefix is looked for.
func priceSection(action wallet.Action, lines []wallet.PriceLine, prefix string, rate money.Rate) (views.PriceSection, error) {
	s := views.PriceSection{Kind: views.TransactionKind(action)}
	for _, l := range lines {
		if l.Action != action || !strings.HasPrefix(l.Prefix, prefix) && (l.Prefix == "" || !strings.HasPrefix(prefix, l.Prefix)) {
			continue
		}
		shown, err := priceLine(l, rate)
		if err != nil {
			return views.PriceSection{}, err
		}
		if only := l.Versions[0]; prefix != "" || len(l.Versions) > 1 || only.State != wallet.PriceOff || only.Author != firstAuthor {
			s.Lines = append(s.Lines, shown)
			continue
		}
		i := slices.IndexFunc(s.Groups, func(g views.PriceGroup) bool { return g.Name == shown.Place })
		if i < 0 {
			i = len(s.Groups)
			s.Groups = append(s.Groups, views.PriceGroup{Name: shown.Place})
		}
		s.Groups[i].Lines = append(s.Groups[i].Lines, shown)
	}
	slices.SortFunc(s.Groups, func(a, b views.PriceGroup) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

func priceLine(l wallet.PriceLine, rate money.Rate) (views.PriceLine, error) {
	shown := views.PriceLine{Kind: views.TransactionKind(l.Action), Prefix: l.Prefix, Versions: make([]views.PriceVersion, len(l.Versions))}
	if l.Prefix != "" {
		shown.Place = lineName(l.Versions[len(l.Versions)-1].Price) // what the first one called it
	}
	for i := range l.Versions {
		version, err := priceVersion(l.Versions[i], rate)
		if err != nil {
			return views.PriceLine{}, err
		}
		shown.Versions[i] = version
		switch &l.Versions[i] {
		case l.InForce:
			shown.Now = &shown.Versions[i]
		case l.Next:
			shown.Next = &shown.Versions[i]
		}
	}
	return shown, nil
}

func priceVersion(v wallet.PriceVersion, rate money.Rate) (views.PriceVersion, error) {
	figures, err := priceFigures(v.Price, rate)
	if err != nil {
		return views.PriceVersion{}, err
	}
	by := v.Email
	if by == "" {
		by = v.Author
	}
	if v.Author == firstAuthor {
		by = "the first rate card"
	}
	return views.PriceVersion{PriceFigures: figures, StartsAt: sinceStart(v.StartsAt), By: by, Reason: v.Reason}, nil
}

func priceFigures(p wallet.Price, rate money.Rate) (f views.PriceFigures, err error) {
	f = views.PriceFigures{
		Kind: views.TransactionKind(p.Action), State: string(p.State), Unit: p.Unit, Monthly: p.Monthly, PerMinute: p.PerMinute, ChargeUndelivered: p.ChargeUndelivered,
	}
	f.Minute, err = money.CallCost(60, p.PerMinute, rate)
	return f, err
}

// newPrice is the form for a version, filled in with what counts now. Without an action it is one for calls.
func (a *app) newPrice(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	action := wallet.Action(cmp.Or(q.Get("action"), string(wallet.ActionCall)))
	if !slices.Contains(wallet.Actions, action) {
		return errNoPage()
	}
	_, org, err := a.priceOwner(r, q.Get("org"))
	if err != nil {
		return err
	}
	f := views.PriceForm{Kind: views.TransactionKind(action), State: string(wallet.PriceOn), Undelivered: "yes"}
	if action == wallet.ActionCall || action == wallet.ActionSMS {
		f.Prefix = digitsOf(q.Get("prefix"))
	}
	t, err := a.Gates.Tariff(r.Context())
	if err != nil {
		return err
	}
	p, err := t.Price(org, action, f.Prefix, a.Gates.Now())
	switch {
	case fault.Is(err, fault.Forbidden): // nothing to begin with
	case err != nil:
		return err
	default:
		f.Unit, f.Monthly, f.PerMinute = p.Unit.Decimal(), p.Monthly.Decimal(), p.PerMinute.Decimal()
		if !p.ChargeUndelivered {
			f.Undelivered = "no"
		}
	}
	return a.showPriceForm(w, r, v, http.StatusOK, q.Get("org"), f)
}

// showPriceForm answers with the form as given, around the line it is about.
func (a *app) showPriceForm(w http.ResponseWriter, r *http.Request, v *visit, status int, rawOrg string, f views.PriceForm) error {
	owner, org, err := a.priceOwner(r, rawOrg)
	if err != nil {
		return err
	}
	p := views.PriceFormPage{Meta: a.meta(r, v, "A price"), Owner: owner, Form: f, Now: a.Now()}
	lines, err := a.Wallets.PriceLines(r.Context(), org)
	if err != nil {
		return err
	}
	_, rate, err := a.tariff(r.Context())
	if err != nil {
		return err
	}
	prefix := strings.TrimPrefix(strings.TrimSpace(f.Prefix), "+")
	for _, l := range lines {
		if views.TransactionKind(l.Action) == f.Kind && l.Prefix == prefix {
			line, err := priceLine(l, rate)
			if err != nil {
				return err
			}
			p.Line = &line
		}
	}
	return a.render(w, r, status, views.OpsPriceForm(p))
}

// setPrice takes the form for a version: at first it shows what would change, and once that is confirmed it does it.
func (a *app) setPrice(w http.ResponseWriter, r *http.Request, v *visit) error {
	form := r.PostForm
	owner, org, err := a.priceOwner(r, form.Get("org"))
	if err != nil {
		return err
	}
	action := wallet.Action(form.Get("action"))
	if !slices.Contains(wallet.Actions, action) {
		return errNoPage()
	}
	f := priceForm(action, form)
	if form.Get("confirm") == "edit" {
		return a.showPriceForm(w, r, v, http.StatusOK, owner.ID, f)
	}
	confirmed := form.Get("confirm") == "yes"
	change, wrong := a.priceChange(form, confirmed)
	change.OrgID, change.Action, change.Actor = org, action, v.who.Actor()
	var preview wallet.PricePreview
	if len(wrong) == 0 {
		preview, err = a.Gates.PreviewPrice(r.Context(), change)
		if fault := fault.As(err); err != nil && fault.Field != "" {
			wrong[fault.Field] = fault.Public
		} else if err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		f.Errors = wrong
		return a.showPriceForm(w, r, v, answerTo(fault.Invalid).status, owner.ID, f)
	}
	latest := strconv.FormatInt(preview.Latest, 10)
	changed := confirmed && preview.Latest != 0 && form.Get("seen") != latest
	if !confirmed || changed {
		f.Seen = latest
		status := http.StatusOK
		if changed {
			status = answerTo(fault.Conflict).status
		}
		p := views.PriceConfirmPage{Meta: a.meta(r, v, "Add this price?"), Owner: owner, Form: f, StartsAt: preview.Change.StartsAt, Changed: changed}
		if err := fillConfirm(&p, preview); err != nil {
			return err
		}
		return a.render(w, r, status, views.OpsPriceConfirm(p))
	}
	if _, err := a.Gates.SetPrice(r.Context(), change); err != nil {
		return err
	}
	to := url.Values{"done": {"now"}}
	if !preview.Change.StartsAt.IsZero() {
		to.Set("done", "later")
	}
	if org != uuid.Nil {
		to.Set("org", org.String())
	}
	http.Redirect(w, r, "/ops/prices?"+to.Encode(), http.StatusSeeOther)
	return nil
}

// priceForm is the form as it was typed, to be shown again.
func priceForm(action wallet.Action, form url.Values) views.PriceForm {
	f := views.PriceForm{
		Kind: views.TransactionKind(action), Prefix: shownBack(form.Get("prefix")), State: form.Get("state"), Unit: shownBack(form.Get("unit")),
		Monthly: shownBack(form.Get("monthly")), PerMinute: shownBack(form.Get("per_minute")), Starts: shownBack(form.Get("starts")),
		Reason: typed(form.Get("reason")), Undelivered: "yes",
	}
	if form.Get("undelivered") == "no" {
		f.Undelivered = "no"
	}
	return f
}

// priceChange reads the form, and says by field what cannot be read in it. What belongs to another action, or to a price
// that is off, is not looked at.
func (a *app) priceChange(form url.Values, confirmed bool) (wallet.PriceChange, map[string]string) {
	wrong := map[string]string{}
	say := func(err error) {
		if f := fault.As(err); err != nil {
			wrong[f.Field] = f.Public
		}
	}
	c := wallet.PriceChange{Prefix: form.Get("prefix"), State: wallet.PriceState(form.Get("state")), ChargeUndelivered: form.Get("undelivered") != "no"}
	var err error
	c.Reason, err = oneLine(form.Get("reason"))
	say(err)
	c.StartsAt, err = startOf(form.Get("starts"))
	say(err)
	// A start that passes while somebody looks at the change means now; one that is typed so is a slip.
	if err == nil && !confirmed && !c.StartsAt.IsZero() && c.StartsAt.Before(a.Now()) {
		wrong["starts"] = "This has passed. A price never reaches back: enter a later time, or nothing for now."
	}
	if c.State != wallet.PriceOn {
		return c, wrong
	}
	amount := func(name string) int64 {
		n, err := money.ParseAmount(form.Get(name))
		if refused, ok := errors.AsType[*money.AmountError](err); ok {
			wrong[name] = refused.Message
		}
		return n
	}
	c.Unit = money.Pence(amount("unit"))
	switch wallet.Action(form.Get("action")) {
	case wallet.ActionCall:
		c.PerMinute = money.USDCents(amount("per_minute"))
	case wallet.ActionNumber:
		c.Monthly = money.Pence(amount("monthly"))
	case wallet.ActionSMS, wallet.ActionKnowledge:
	}
	return c, wrong
}

// startOf reads when a price begins, as a browser's field for date and time sends it, in UTC. Nothing is now, which is the
// zero time.
func startOf(typed string) (time.Time, error) {
	typed = strings.TrimSpace(typed)
	if typed == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, typed); err == nil && t.Year() >= 2000 && t.Year() < 3000 {
			return t, nil
		}
	}
	return time.Time{}, fault.Field("starts", "Enter a date and a time of day, or nothing for now.")
}

// fillConfirm adds what would change.
func fillConfirm(p *views.PriceConfirmPage, preview wallet.PricePreview) error {
	if p.Form.Prefix = preview.Change.Prefix; p.Form.Prefix != "" {
		p.Place = placeOf(p.Form.Prefix)
	}
	for _, side := range []struct {
		offered bool
		price   wallet.Price
		to      **views.PriceFigures
	}{{preview.Offered, preview.Was, &p.Was}, {preview.ThenOffered, preview.Then, &p.Then}} {
		if !side.offered {
			continue
		}
		figures, err := priceFigures(side.price, preview.Rate)
		if err != nil {
			return err
		}
		*side.to = &figures
	}
	for _, later := range preview.Later {
		version, err := priceVersion(wallet.PriceVersion{Price: later}, preview.Rate)
		if err != nil {
			return err
		}
		p.Later = append(p.Later, version)
	}
	return nil
}
