package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const (
	marginPath = "/ops/margin"
	// monthTyped is how a month is written.
	monthTyped = "2006-01"
	// firstYear is before anything was charged.
	firstYear = 2020
)

// margin is what was charged in a month against what providers charged us.
type margin struct {
	rate  money.Rate
	lines []marginLine
}

// marginLine is one organisation's use of one action.
type marginLine struct {
	org    uuid.UUID
	name   string
	action wallet.Action
	views.MarginFigures
}

// readMargin puts both sides together. All of it is whole numbers: costs are added up in millionths of a dollar and brought to
// pounds once.
func (a *app) readMargin(ctx context.Context, month time.Time) (m margin, err error) {
	earned, rate, err := a.Wallets.Earned(ctx, month)
	if err != nil {
		return margin{}, err
	}
	costs, err := a.Numbers.Costs(ctx, month)
	if err != nil {
		return margin{}, err
	}
	m.rate = rate
	line := func(org uuid.UUID, name string, action wallet.Action) *marginLine {
		i := slices.IndexFunc(m.lines, func(l marginLine) bool { return l.org == org && l.action == action })
		if i < 0 {
			m.lines = append(m.lines, marginLine{org: org, name: name, action: action})
			i = len(m.lines) - 1
		}
		return &m.lines[i]
	}
	for _, e := range earned {
		l := line(e.OrgID, e.Name, e.Action)
		l.Times, l.Charged = e.Times, e.Amount
	}
	for _, c := range costs {
		l := line(c.OrgID, c.Name, c.Action)
		l.CostMicros, l.Unknown = c.Micros, c.Unknown
	}
	slices.SortFunc(m.lines, func(x, y marginLine) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.org.String(), y.org.String()), cmp.Compare(slices.Index(wallet.Actions, x.action), slices.Index(wallet.Actions, y.action)))
	})
	for i := range m.lines {
		if err := m.price(&m.lines[i].MarginFigures); err != nil {
			return margin{}, err
		}
	}
	return m, nil
}

// price brings the costs of a line to pounds.
func (m margin) price(f *views.MarginFigures) (err error) {
	f.Cost, err = m.rate.MicrosToPence(f.CostMicros)
	return err
}

// sums adds lines up under what key says of each, in the order in which that comes.
func (m margin) sums(key func(marginLine) string) (keys []string, sums []views.MarginFigures, err error) {
	for _, l := range m.lines {
		k := key(l)
		i := slices.Index(keys, k)
		if i < 0 {
			keys, sums = append(keys, k), append(sums, views.MarginFigures{})
			i = len(keys) - 1
		}
		s := &sums[i]
		s.Times, s.Charged, s.CostMicros, s.Unknown = s.Times+l.Times, s.Charged+l.Charged, s.CostMicros+l.CostMicros, s.Unknown+l.Unknown
	}
	for i := range sums {
		if err := m.price(&sums[i]); err != nil {
			return nil, nil, err
		}
	}
	return keys, sums, nil
}

// marginMonth reads which month it is about; nothing is the present one.
func (a *app) marginMonth(text string) (time.Time, error) {
	now := a.Now().UTC()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if text == "" {
		return this, nil
	}
	month, err := time.Parse(monthTyped, text)
	if err != nil || month.After(this) || month.Year() < firstYear {
		return time.Time{}, errNoPage()
	}
	return month, nil
}

// opsMargin is a month's margin.
func (a *app) opsMargin(w http.ResponseWriter, r *http.Request, v *visit) error {
	month, err := a.marginMonth(r.URL.Query().Get("month"))
	if err != nil {
		return err
	}
	return a.showMargin(w, r, v, http.StatusOK, month, views.NumberCostForm{})
}

func (a *app) showMargin(w http.ResponseWriter, r *http.Request, v *visit, status int, month time.Time, form views.NumberCostForm) error {
	m, err := a.readMargin(r.Context(), month)
	if err != nil {
		return err
	}
	p := views.MarginPage{Meta: a.meta(r, v, "Margin"), Month: month, Rate: m.rate.String(), Form: form}
	p.Meta.Path = marginPath
	if next := month.AddDate(0, 1, 0); !next.After(a.Now().UTC()) {
		p.Next = next.Format(monthTyped)
	}
	if month.Year() > firstYear {
		p.Previous = month.AddDate(0, -1, 0).Format(monthTyped)
	}
	if r.URL.Query().Get("done") == "cost" {
		p.Notice = "What a number costs was stored."
	}
	for _, l := range m.lines {
		p.Lines = append(p.Lines, views.MarginLine{OrgID: l.org.String(), Name: l.name, Kind: views.TransactionKind(l.action), MarginFigures: l.MarginFigures})
	}
	actions, byAction, err := m.sums(func(l marginLine) string { return string(l.action) })
	if err != nil {
		return err
	}
	for _, action := range wallet.Actions {
		if i := slices.Index(actions, string(action)); i >= 0 {
			p.Actions = append(p.Actions, views.MarginLine{Kind: views.TransactionKind(action), MarginFigures: byAction[i]})
		}
	}
	_, whole, err := m.sums(func(marginLine) string { return "" })
	if err != nil {
		return err
	}
	if len(whole) > 0 {
		p.Total = whole[0]
	}
	numbers, err := a.Numbers.NumberCosts(r.Context())
	if err != nil {
		return err
	}
	for _, c := range numbers {
		p.NumberCosts = append(p.NumberCosts, views.NumberCost{Country: c.Country, From: c.StartsOn, Micros: c.Micros})
	}
	return a.render(w, r, status, views.Margin(p))
}

// opsMarginCSV is the same as a file. A margin of which a cost is not known is left out, and so is nothing else.
func (a *app) opsMarginCSV(w http.ResponseWriter, r *http.Request, _ *visit) error {
	month, err := a.marginMonth(r.URL.Query().Get("month"))
	if err != nil {
		return err
	}
	m, err := a.readMargin(r.Context(), month)
	if err != nil {
		return err
	}
	file := newCSV(w, "margin-"+month.Format(monthTyped)+".csv", "month", "organisation_id", "organisation", "action", "times", "charged_pence",
		"known_cost_usd_micros", "known_cost_pence", "unknown_costs", "margin_pence", "usd_to_gbp")
	lines := make([][]string, len(m.lines))
	for i, l := range m.lines {
		left := ""
		if l.Unknown == 0 {
			left = strconv.FormatInt(int64(l.Charged-l.Cost), 10)
		}
		lines[i] = []string{
			month.Format(monthTyped), l.org.String(), csvText(l.name), string(l.action), strconv.FormatInt(l.Times, 10), strconv.FormatInt(int64(l.Charged), 10),
			strconv.FormatInt(l.CostMicros, 10), strconv.FormatInt(int64(l.Cost), 10), strconv.FormatInt(l.Unknown, 10), left, m.rate.String(),
		}
	}
	return file.send(lines)
}

// setNumberCost stores what a number of a country costs us.
func (a *app) setNumberCost(w http.ResponseWriter, r *http.Request, v *visit) error {
	post := r.PostForm
	form := views.NumberCostForm{
		Country: strings.ToUpper(strings.TrimSpace(typed(post.Get("country")))), Monthly: typed(post.Get("monthly")), Reason: typed(post.Get("reason")), Errors: map[string]string{},
	}
	month, err := a.marginMonth(post.Get("month"))
	if err != nil {
		return err
	}
	cents, err := money.ParseAmount(form.Monthly)
	if said, ok := errors.AsType[*money.AmountError](err); ok {
		form.Errors["monthly"] = said.Error()
		return a.showMargin(w, r, v, answerTo(fault.Invalid).status, month, form)
	}
	if err != nil {
		return err
	}
	reason, err := wallet.Sentence("reason", post.Get("reason"))
	if err == nil {
		err = a.Numbers.SetNumberCost(r.Context(), telephony.NumberCost{Country: form.Country, StartsOn: month, Micros: cents * microsPerCent}, v.who.Actor(), reason)
	}
	wrong := fault.As(err)
	switch {
	case err == nil:
		http.Redirect(w, r, marginPath+"?done=cost&month="+month.Format(monthTyped), http.StatusSeeOther) //nolint:gosec // a page of ours: month is one
		return nil
	case wrong.Field == "country", wrong.Field == "monthly", wrong.Field == "reason":
		form.Errors[wrong.Field] = wrong.Public
		return a.showMargin(w, r, v, answerTo(wrong.Kind).status, month, form)
	}
	return err
}

// microsPerCent writes cents in millionths of a dollar.
const microsPerCent = 10_000
