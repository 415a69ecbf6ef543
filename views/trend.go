package views

import (
	"strconv"
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// Trend is what happened in a wallet lately, day by day.
type Trend struct {
	// Days are all of them in the order of time, without gaps (UTC).
	Days []TrendDay
	// Spent are the actions with what they cost in these days.
	Spent []TrendSpent
	// Behind is how many of the newest transactions are not in it yet.
	Behind int64
}

// TrendDay is one day.
type TrendDay struct {
	Date time.Time
	// Balance is the wallet's at the day's end, or now; Spent is what was used that day.
	Balance, Spent money.Pence
}

// TrendSpent is one action.
type TrendSpent struct {
	Kind  TransactionKind
	Times int64
	Cost  money.Pence
	// Daily is the cost of each day.
	Daily []money.Pence
}

// The two lengths that are offered.
const (
	TrendShort = 30
	TrendLong  = 90
)

// other leads to the other length.
func (t Trend) other() ui.LinkProps {
	n := TrendLong
	if len(t.Days) > TrendShort {
		n = TrendShort
	}
	return ui.LinkProps{ID: "trend-other", Label: "Show " + strconv.Itoa(n) + " days", Href: "/dashboard?days=" + strconv.Itoa(n)}
}

func (t Trend) during() string { return "Last " + strconv.Itoa(len(t.Days)) + " days (UTC)" }

// total is what all actions cost.
func (t Trend) total() (sum money.Pence) {
	for _, s := range t.Spent {
		sum += s.Cost
	}
	return sum
}

// anything reports whether there is something to draw.
func (t Trend) anything() bool {
	for _, d := range t.Days {
		if d.Balance != 0 || d.Spent != 0 {
			return true
		}
	}
	return false
}

func (t Trend) labels() []string {
	labels := make([]string, len(t.Days))
	for i, d := range t.Days {
		labels[i] = d.Date.UTC().Format("2 Jan")
	}
	return labels
}

// balanceChart draws the balance.
func (t Trend) balanceChart() ui.ChartProps {
	p := ui.ChartProps{ID: "balance-chart", Days: t.labels(), Amount: axisAmount, Layers: []ui.ChartLayer{{Shade: ui.ShadeArea}}}
	low, high := t.Days[0], t.Days[0]
	for _, d := range t.Days {
		p.Layers[0].Values = append(p.Layers[0].Values, int64(d.Balance))
		if d.Balance < low.Balance {
			low = d
		}
		if d.Balance >= high.Balance {
			high = d
		}
	}
	last := t.Days[len(t.Days)-1]
	p.Label = "Balance at the end of each day: " + t.Days[0].Balance.String() + " on " + onDay(t.Days[0]) + ", " + last.Balance.String() + " now; lowest " +
		low.Balance.String() + " on " + onDay(low) + ", highest " + high.Balance.String() + " on " + onDay(high) + "."
	return p
}

// spentChart draws what was spent, each action on top of those before it.
func (t Trend) spentChart() ui.ChartProps {
	p := ui.ChartProps{ID: "spent-chart", Days: t.labels(), Amount: axisAmount, Label: "Spent each day, by what for: "}
	for i, s := range t.Spent {
		layer := ui.ChartLayer{Shade: shade(i)}
		for _, cost := range s.Daily {
			layer.Values = append(layer.Values, int64(cost))
		}
		p.Layers = append(p.Layers, layer)
		if i > 0 {
			p.Label += ", "
		}
		p.Label += kindPlural(s.Kind) + " " + s.Cost.String()
	}
	p.Label += "."
	return p
}

func onDay(d TrendDay) string { return d.Date.UTC().Format("2 January") }

// shade tells the actions apart, in their order.
func shade(i int) ui.Shade {
	return []ui.Shade{ui.Shade1, ui.Shade2, ui.Shade3, ui.Shade4}[i%4]
}

// axisAmount writes an amount at the side of a chart: pounds alone where there are no pence.
func axisAmount(pence int64) string {
	text := money.Pence(pence).String()
	if pence%100 == 0 {
		return text[:len(text)-len(".00")]
	}
	return text
}
