package wallet_test

import (
	"math"
	"testing"
	"time"

	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// TestPace: how long a balance lasts is told from whole days before today, in whole numbers that promise nothing that is not
// there, and only from a week of use on.
func TestPace(t *testing.T) {
	now := time.Date(2026, 3, 31, 15, 4, 0, 0, time.UTC)
	day := func(ago int, calls, texts money.Pence) wallet.Day {
		return wallet.Day{Date: time.Date(2026, 3, 31-ago, 0, 0, 0, 0, time.UTC), CallPence: calls, SMSPence: texts}
	}
	for _, c := range []struct {
		name  string
		days  wallet.Days
		known bool
		pace  wallet.Pace
	}{
		{"nothing ever", wallet.Days{}, false, wallet.Pace{}},
		{"six days", wallet.Days{List: []wallet.Day{day(6, 10, 0), day(1, 90, 0)}}, false, wallet.Pace{}},
		{"seven days", wallet.Days{List: []wallet.Day{day(7, 10, 4), day(1, 90, 0)}}, true, wallet.Pace{Spent: 104, Days: 7}},
		{"today does not count", wallet.Days{List: []wallet.Day{day(7, 10, 0), day(0, 5000, 0)}}, true, wallet.Pace{Spent: 10, Days: 7}},
		{"nor what is long ago", wallet.Days{List: []wallet.Day{day(29, 5000, 0), day(15, 5000, 0), day(14, 1, 0), day(3, 1, 0)}}, true, wallet.Pace{Spent: 2, Days: 14}},
		{"nothing lately", wallet.Days{List: []wallet.Day{day(20, 5000, 0)}}, false, wallet.Pace{}},
		{"money came and none was used", wallet.Days{List: []wallet.Day{day(20, 0, 0), day(1, 0, 0)}}, false, wallet.Pace{}},
		{"not all is added up", wallet.Days{List: []wallet.Day{day(20, 10, 0), day(1, 10, 0)}, Behind: 1}, false, wallet.Pace{}},
	} {
		if pace, known := c.days.Pace(now); known != c.known || pace != c.pace {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, pace, known, c.pace, c.known)
		}
	}
	for _, c := range []struct {
		pace      wallet.Pace
		available money.Pence
		days      int64
		daily     money.Pence
	}{
		{wallet.Pace{Spent: 1400, Days: 14}, 900, 9, 100},
		{wallet.Pace{Spent: 1400, Days: 14}, 999, 9, 100},
		{wallet.Pace{Spent: 1400, Days: 14}, 1000, 10, 100},
		{wallet.Pace{Spent: 1400, Days: 14}, 99, 0, 100},
		{wallet.Pace{Spent: 1400, Days: 14}, 0, 0, 100},
		{wallet.Pace{Spent: 1400, Days: 14}, -5, 0, 100},
		{wallet.Pace{Spent: 3, Days: 7}, 2, 4, 1}, // 4.67
		{wallet.Pace{Spent: 1401, Days: 14}, 1401, 14, 101},
		{wallet.Pace{Spent: math.MaxInt64 / 2, Days: 14}, math.MaxInt64 / 2, 14, (math.MaxInt64/2 + 13) / 14},
	} {
		if days, daily := c.pace.Lasts(c.available), c.pace.Daily(); days != c.days || daily != c.daily {
			t.Errorf("%+v with %d: %d days at %d a day; want %d at %d", c.pace, c.available, days, daily, c.days, c.daily)
		}
	}
}
