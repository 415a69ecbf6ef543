package views

import (
	"github.com/a-h/templ"
)

// DashboardPage is the model of the first page after signing in.
type DashboardPage struct {
	Meta    PageMeta
	Balance Balance
	// CanTopUp is false for those who may only look.
	CanTopUp bool
	// Transactions are the last five.
	Transactions []Transaction
	// Notices are the newest things the organisation was told.
	Notices []NoticeLine
	// Trend is what happened lately; without days it is not shown.
	Trend Trend
	// Auto is how automatic top-ups stand.
	Auto AutoGlance
}

// DashboardBalance is the server-sent event "balance"; it is the same as WalletBalance of the same balance.
func DashboardBalance(p DashboardPage) templ.Component {
	return Part(Dashboard(p), FragmentFrozen, FragmentBalanceStatus, FragmentBalance)
}

// firstTime reports whether nothing has happened here yet.
func (p DashboardPage) firstTime() bool {
	return len(p.Transactions) == 0 && p.Balance.Balance == 0 && p.Balance.Debt == 0
}
