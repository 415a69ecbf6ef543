package wallet

import (
	"time"

	"ringfence/internal/money"
)

// A pace is taken from whole days (UTC) before today: the last paceMost of them, or as many as the wallet has been used for,
// and from fewer than paceLeast nothing is foretold.
const (
	paceMost  = 14
	paceLeast = 7
)

// Pace is how fast a wallet is being spent.
type Pace struct {
	// Spent is what was used in the last Days whole days, debt included, in pence.
	Spent money.Pence
	Days  int64
}

// Pace is how fast the wallet was spent in the days before the one of a moment, as far as d reaches back. ok is false where
// too little is known: fewer than seven whole days since the first of d in which something happened, newest transactions
// that are not added up, or nothing spent.
func (d Days) Pace(now time.Time) (p Pace, ok bool) {
	if len(d.List) == 0 || d.Behind > 0 {
		return Pace{}, false
	}
	today := day(now)
	from := today.AddDate(0, 0, -paceMost)
	if began := day(d.List[0].Date); began.After(from) {
		from = began
	}
	p.Days = int64(today.Sub(from) / (24 * time.Hour))
	for _, one := range d.List {
		if at := day(one.Date); at.Before(from) || !at.Before(today) {
			continue
		}
		for _, a := range Actions {
			_, cost := one.Used(a)
			p.Spent += cost
		}
	}
	if p.Days < paceLeast || p.Spent <= 0 {
		return Pace{}, false
	}
	return p, true
}

// Lasts is for how many whole days an amount lasts at the pace, rounded down: nothing that is not there is promised. The pace
// must be one that was found.
func (p Pace) Lasts(available money.Pence) int64 {
	if available <= 0 {
		return 0
	}
	// available × days ÷ spent without leaving int64: whole rounds of what was spent, then the rest of one.
	spent := int64(p.Spent)
	return int64(available)/spent*p.Days + int64(available)%spent*p.Days/spent
}

// Daily is the pace in pence a day, rounded up.
func (p Pace) Daily() money.Pence {
	return (p.Spent + money.Pence(p.Days) - 1) / money.Pence(p.Days)
}
