package handlers

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const (
	// recentOnDashboard is how many of the newest transactions the dashboard shows.
	recentOnDashboard = 5
	// shownOnTile is how many numbers and agents the dashboard names; the tiles lead to the rest.
	shownOnTile = 5
)

// dashboard is the first page: the balance and how long it lasts, what today brought, how numbers and agents stand, and what
// happened lately. A part that cannot be read says so in its own place; without the wallet there is no page. The page asks
// for its live part anew whenever money moves, and while something moves by itself.
func (a *app) dashboard(w http.ResponseWriter, r *http.Request, v *visit) error {
	n := views.TrendShort
	if r.URL.Query().Get("days") == strconv.Itoa(views.TrendLong) {
		n = views.TrendLong
	}
	var p views.DashboardPage
	err := a.Wallets.InOneMoment(r.Context(), v.who.OrgID, func(ctx context.Context) error {
		p = views.DashboardPage{Meta: a.meta(r, v, "Dashboard"), CanTopUp: v.who.CanPay()}
		return a.readDashboard(ctx, v, &p, n, isFragment(r))
	})
	if err != nil {
		return err
	}
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.DashboardLive(p))
	}
	return a.render(w, r, http.StatusOK, views.Dashboard(p))
}

// readDashboard fills in the dashboard with n days; its live part alone needs less.
func (a *app) readDashboard(ctx context.Context, v *visit, p *views.DashboardPage, n int, live bool) error {
	s, err := a.Wallets.Statement(ctx, v.who.OrgID, recentOnDashboard)
	if err != nil {
		return err
	}
	p.Transactions = transactions(s.Lines)
	if p.Balance, err = balance(s, s.Rate); err != nil {
		return err
	}
	told, err := a.Notices.List(ctx, v.who.OrgID, uuid.Nil, noticesOnDashboard)
	if err != nil {
		return err
	}
	p.Notices = notices(told)
	days, err := a.days(ctx, v.who.OrgID, n)
	if err != nil {
		return err
	}
	if !live {
		if p.Auto, err = a.autoGlance(ctx, v.who); err != nil {
			return err
		}
		p.Trend = trend(days, a.Now(), n, s.Balance)
	}
	pace, known := days.Pace(a.Now())
	if known {
		p.Runway = views.Runway{Known: true, Days: pace.Lasts(s.Balance.Available()), Daily: pace.Daily(), Over: pace.Days}
	}
	p.Month, p.Today = monthSpent(days, a.Now()), today(days, a.Now())
	called := a.glance(ctx, v, p)
	if !known && !p.Numbers.Lost && !p.Agents.Lost && !p.Today.Lost {
		p.Start = firstSteps(p, len(s.Lines) > 0, called)
	}
	return nil
}

// glance adds how numbers, agents and what is under way stand, and says whether there ever was a call.
func (a *app) glance(ctx context.Context, v *visit, p *views.DashboardPage) (called bool) {
	lost := func(part string, err error) bool {
		if err != nil && ctx.Err() == nil {
			a.Log.LogAttrs(ctx, slog.LevelError, "a part of the dashboard couldn't be read", append(v.attrs(), slog.String("part", part), slog.Any("error", err))...)
		}
		return err != nil
	}
	under, err := a.Calls.UnderWay(ctx, v.who.OrgID)
	p.Today.Lost, p.Today.LiveCalls, p.Today.TextsUnderWay = lost("under way", err), under.Calls, under.Texts

	agents, err := a.Agents.List(ctx, v.who.OrgID)
	p.Agents.Lost = lost("agents", err)
	// Those that somebody has to look after come first; the list is by name.
	slices.SortStableFunc(agents, func(x, y telephony.Agent) int { return cmp.Compare(agentRank(x), agentRank(y)) })
	answers := map[uuid.UUID][]string{}
	for i, agent := range agents {
		shown := phoneAgent(agent)
		shown.Number = views.PhoneText(shown.Number)
		if agent.NumberID.Valid {
			answers[agent.NumberID.UUID] = append(answers[agent.NumberID.UUID], agent.Name)
			p.Agents.Linked = cmp.Or(p.Agents.Linked, shown.ID)
		}
		p.Agents.All++
		if shown.Ready() && shown.NumberID != "" {
			p.Agents.Ready++
		}
		p.Agents.Moves = p.Agents.Moves || shown.Moves()
		if i < shownOnTile {
			p.Agents.List = append(p.Agents.List, shown)
		}
	}

	had, err := a.Numbers.Had(ctx, v.who.OrgID, shownOnTile)
	p.Numbers.Lost = lost("numbers", err)
	p.Numbers.Active, p.Numbers.Owing = had.ByState[telephony.NumberActive], had.Owing
	p.Numbers.Coming = had.ByState[telephony.NumberProvisioning] + had.ByState[telephony.NumberUnknown]
	p.Numbers.Leaving = had.ByState[telephony.NumberReleasing]
	for _, n := range had.List {
		shown := phoneNumber(n, answers[n.ID])
		shown.Number = views.PhoneText(shown.Number)
		p.Numbers.List = append(p.Numbers.List, shown)
	}
	return under.Called
}

// agentRank orders agents by how much somebody has to look after them.
func agentRank(a telephony.Agent) int {
	switch {
	case a.Sync == telephony.SyncRefused:
		return 0
	case a.Sync != telephony.Synced:
		return 1
	case a.Active && !a.NumberID.Valid:
		return 2
	case !a.Active:
		return 3
	}
	return 4
}

// firstSteps are the steps of a new account, as far as it has come; none where all are done.
func firstSteps(p *views.DashboardPage, paid, called bool) []views.FirstStep {
	without := ""
	for _, agent := range p.Agents.List {
		if agent.NumberID == "" {
			without = agent.ID
			break
		}
	}
	steps := []views.FirstStep{
		{ID: "top-up", Done: paid || p.Balance.Balance > 0, Href: "/wallet#top-up"},
		{ID: "number", Done: p.Numbers.Active > 0, Under: p.Numbers.Coming > 0, Href: "/numbers"},
		{ID: "agent", Done: p.Agents.All > 0, Href: "/agents/new"},
		{ID: "link", Done: p.Agents.Linked != "", Href: agentsPath + "/" + without},
		{ID: "call", Done: called, Href: agentsPath + "/" + p.Agents.Linked},
	}
	if !slices.ContainsFunc(steps, func(s views.FirstStep) bool { return !s.Done }) {
		return nil
	}
	return steps
}

// days are a wallet's last n days (UTC), today included.
func (a *app) days(ctx context.Context, org uuid.UUID, n int) (wallet.Days, error) {
	today := a.Now().UTC().Truncate(24 * time.Hour)
	return a.Wallets.Days(ctx, org, today.AddDate(0, 0, 1-n), today)
}

// today is what was paid for on the day of a moment.
func today(days wallet.Days, now time.Time) (t views.Today) {
	if len(days.List) == 0 {
		return t
	}
	last := days.List[len(days.List)-1]
	if !last.Date.UTC().Equal(now.UTC().Truncate(24 * time.Hour)) {
		return t
	}
	t.Calls, t.CallPence = last.Used(wallet.ActionCall)
	t.Texts, t.TextPence = last.Used(wallet.ActionSMS)
	return t
}

// monthSpent is what was spent in the 30 days that end with the day of a moment.
func monthSpent(days wallet.Days, now time.Time) (m views.MonthSpent) {
	first := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-views.TrendShort)
	for _, action := range wallet.Actions {
		var spent money.Pence
		for _, d := range days.List {
			if !d.Date.UTC().Before(first) {
				_, cost := d.Used(action)
				spent += cost
			}
		}
		m.Total += spent
		if spent > m.MostPence {
			m.Most, m.MostPence = views.TransactionKind(action), spent
		}
	}
	return m
}

// trend is what happened in a wallet in its last n days, of which b is the present balance.
func trend(days wallet.Days, now time.Time, n int, b wallet.Balance) views.Trend {
	first := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-n)
	t := views.Trend{Behind: days.Behind, Days: make([]views.TrendDay, n)}
	for _, action := range wallet.Actions {
		t.Spent = append(t.Spent, views.TrendSpent{Kind: views.TransactionKind(action), Daily: make([]money.Pence, n)})
	}
	balance, next := days.Opening, 0
	for i := range t.Days {
		day := &t.Days[i]
		day.Date = first.AddDate(0, 0, i)
		if next < len(days.List) && !days.List[next].Date.After(day.Date) {
			d := days.List[next]
			balance = d.Balance
			for j, action := range wallet.Actions {
				times, cost := d.Used(action)
				t.Spent[j].Times += times
				t.Spent[j].Cost += cost
				t.Spent[j].Daily[i] = cost
				day.Spent += cost
			}
			next++
		}
		day.Balance = balance
	}
	t.Days[n-1].Balance = b.Balance
	return t
}
