package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ringfence/internal/operations"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// creditHours is how many hours of credits are drawn.
const creditHours = 24

// overviewDone are the sentences after something was done, by the word in the address.
var overviewDone = map[string]string{
	"verified": "All promises were checked. What came of it is below.",
}

// ops is the operators' first page. Each part is read by itself: one that cannot be read says so, and takes nothing from the
// others.
func (a *app) ops(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx := r.Context()
	p := views.OverviewPage{Meta: a.meta(r, v, "Operations"), At: a.Now(), Notice: overviewDone[r.URL.Query().Get("done")]}
	p.Meta.RefreshSeconds = 30
	p.Webhooks = part(ctx, a, "webhooks", func() (p views.OverviewWebhooks, err error) {
		t, err := a.Payments.Traffic(ctx)
		return views.OverviewWebhooks{
			Received: t.Received, Worked: t.Worked, Quarantined: t.Quarantined, Failed: t.Failed, Median: t.Median, P99: t.P99, Capped: t.Capped,
		}, err
	})
	p.Waiting = part(ctx, a, "waiting events", func() (views.OverviewWaiting, error) {
		o, err := a.Payments.EventOverview(ctx)
		return views.OverviewWaiting{Oldest: a.waiting(o)}, err
	})
	p.Credits = part(ctx, a, "credits", func() (c views.OverviewCredits, err error) {
		hours, err := a.Wallets.CreditHours(ctx, creditHours)
		for _, h := range hours {
			c.Hours = append(c.Hours, views.OverviewHour{At: h.At, Times: h.Times, Amount: h.Amount})
		}
		return c, err
	})
	p.Jobs = part(ctx, a, "jobs", func() (j views.OverviewJobs, err error) {
		c, err := a.Operations.JobCounts(ctx)
		j = views.OverviewJobs{Retrying: c.Retrying, Discarded: c.Discarded, Waiting: c.Waiting}
		if c.LastDiscarded != nil {
			j.LastDiscarded = *c.LastDiscarded
		}
		return j, err
	})
	p.Promises = part(ctx, a, "promises", func() (views.OverviewPromises, error) {
		last, found, err := a.Operations.LastVerification(ctx, operations.Books)
		return views.OverviewPromises{
			Never: !found, At: last.At, Age: p.At.Sub(last.At), Checks: last.Checks, Broken: last.Broken, Failure: last.Failure,
		}, err
	})
	p.Numbers = part(ctx, a, "comparison of the numbers", func() (views.OverviewNumbers, error) {
		last, found, err := a.Operations.LastVerification(ctx, operations.Numbers)
		return views.OverviewNumbers{
			Off: !slices.Contains(a.Operations.Kinds(), operations.Numbers), Never: !found,
			At: last.At, Age: p.At.Sub(last.At), Differ: differences(last.Findings), Failure: last.Failure,
		}, err
	})
	refused := a.Auth.JWTRefusals()
	p.Tokens = &views.OverviewTokens{On: refused.On, Count: refused.Count, Last: refused.Last}
	p.Accounts = part(ctx, a, "balances with providers", func() ([]views.OverviewAccount, error) { return a.accounts(ctx) })
	p.Parts = part(ctx, a, "probes", func() (list []views.StatusComponent, err error) {
		probes, err := a.Operations.Probes(ctx)
		for _, probe := range probes {
			if probe.State != operations.Off {
				list = append(list, views.StatusComponent{
					ID: string(probe.Component), Name: componentName(probe.Component), State: views.StatusState(probe.State), Note: probe.Note,
				})
			}
		}
		return list, err
	})
	if isFragment(r) {
		return a.render(w, r, http.StatusOK, views.OverviewTiles(p))
	}
	return a.render(w, r, http.StatusOK, views.Overview(p))
}

// differences are what a comparison of the numbers counted, in words, worst first.
func differences(found operations.Findings) (list []string) {
	for _, f := range []struct{ name, words string }{
		{"missing", "active here and not there"},
		{"orphans", "there and nobody's here"},
		{"unknown", "not decided on yet"},
		{"held", "not let go of"},
		{"unreached", "accounts not reached"},
	} {
		if n := found[f.name]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, f.words))
		}
		delete(found, f.name)
	}
	for _, name := range slices.Sorted(maps.Keys(found)) { // another version's
		if found[name] > 0 {
			list = append(list, fmt.Sprintf("%d %s", found[name], name))
		}
	}
	return list
}

// part reads one part of the overview; nil says that it could not be read, and the log says why.
func part[T any](ctx context.Context, a *app, what string, read func() (T, error)) *T {
	value, err := read()
	if err != nil {
		if ctx.Err() == nil {
			a.Log.LogAttrs(ctx, slog.LevelError, "a part of the overview could not be read", slog.String("what", what), slog.Any("error", err))
		}
		return nil
	}
	return &value
}

// accounts are what we have with the providers.
func (a *app) accounts(ctx context.Context) (list []views.OverviewAccount, err error) {
	balances, err := a.Operations.Balances(ctx)
	for _, b := range balances {
		shown := views.OverviewAccount{Name: map[string]string{"stripe": "Stripe", "twilio": "Twilio"}[b.Provider], Low: b.Low, Why: b.Why, Off: b.Off}
		if b.ReadAt != nil {
			shown.Amount, shown.ReadAt = amountOf(b.Money.Micros, b.Money.Currency), *b.ReadAt
			shown.Floor = amountOf(b.Floor, b.Money.Currency)
		}
		list = append(list, shown)
	}
	return list, err
}

// amountOf writes millionths of a currency's unit with two decimals, rounded down: what there is less than is no help.
func amountOf(micros int64, currency string) string {
	sign := ""
	cents := micros / 10_000
	if micros < 0 {
		sign = "−"
		cents = -((micros - 9_999) / 10_000)
	}
	symbol, after := map[string]string{"gbp": "£", "usd": "$", "eur": "€"}[currency], ""
	if symbol == "" {
		after = " " + strings.ToUpper(currency)
	}
	return fmt.Sprintf("%s%s%d.%02d%s", sign, symbol, cents/100, cents%100, after)
}

// verifyNow checks all promises and keeps what came of it.
func (a *app) verifyNow(w http.ResponseWriter, r *http.Request, v *visit) error {
	reason, err := wallet.Sentence("reason", r.PostForm.Get("reason"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), verifyWithin)
	defer cancel()
	if _, err := a.Operations.Verify(ctx, operations.Books, v.who.Actor(), reason); err != nil {
		return err
	}
	http.Redirect(w, r, "/ops?done=verified", http.StatusSeeOther)
	return nil
}

// verifyWithin bounds a check that somebody waits for; handlers have thirty seconds to answer.
const verifyWithin = 25 * time.Second
