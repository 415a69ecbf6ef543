package views

import (
	"net/url"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// WalletFilter is what the list of wallets was asked for, as it was asked.
type WalletFilter struct {
	Name string
	// Show is empty, frozen, debt, suspended or closed.
	Show string
}

func (f WalletFilter) empty() bool { return f == WalletFilter{} }

// href is the list with this filter; after is where the page begins, empty for the first.
func (f WalletFilter) href(after string) string {
	q := url.Values{}
	for name, value := range map[string]string{"q": f.Name, "show": f.Show, "after": after} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return "/ops/wallets"
	}
	return "/ops/wallets?" + q.Encode()
}

func (f WalletFilter) options() []ui.Option {
	return []ui.Option{{Label: "All wallets"}, {Value: "frozen", Label: "Frozen"}, {Value: "debt", Label: "In debt"}, {Value: "suspended", Label: "Suspended"}, {Value: "closed", Label: "Closed"}}
}

// WalletRow is one wallet of the list.
type WalletRow struct {
	ID, Name            string
	Balance, Held, Debt money.Pence
	Spent               money.Pence
	Frozen, Closed      bool
	Suspended           bool
}

func (r WalletRow) href() string { return walletHref(r.ID) }

func walletHref(id string) string { return "/ops/wallets/" + url.PathEscape(id) }

func ownPricesHref(id string) string { return "/ops/prices?org=" + url.QueryEscape(id) }

// walletState says in a word that somebody has to look; without a word nobody has.
func walletState(closed, suspended, frozen bool, debt money.Pence) ui.StateProps {
	switch {
	case closed:
		return ui.StateProps{Word: "Closed", Tone: ui.ToneNeutral, Icon: ui.IconOff}
	case suspended:
		return ui.StateProps{Word: "Suspended", Tone: ui.ToneBad, Icon: ui.IconLock}
	case frozen:
		return ui.StateProps{Word: "Frozen", Tone: ui.ToneBad, Icon: ui.IconFrozen}
	case debt > 0:
		return ui.StateProps{Word: "In debt", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{}
}

// WalletsPage is the model of the operators' list.
type WalletsPage struct {
	Meta   PageMeta
	Filter WalletFilter
	Rows   []WalletRow
	// Next is the cursor of the next page, empty on the last; First is false on every page but the first.
	Next  string
	First bool
}

// OpsWalletPage is the model of one wallet's page for operators.
type OpsWalletPage struct {
	Meta PageMeta
	// ID and Name are the organisation's.
	ID, Name string
	// Notice says what was done a moment ago.
	Notice  string
	Balance Balance
	Bonus   money.Pence
	// Seq is how many transactions the wallet has had.
	Seq          int64
	UpdatedAt    time.Time
	FrozenReason string
	ClosedReason string
	Month        time.Time
	Spending     []Spending
	Holds        []Hold
	MoreHolds    bool
	Transactions []Transaction
	// Withdrawals are the newest.
	Withdrawals []Withdrawal
}

// OpsWalletMoney answers the page's own question how its money stands while something is on its way back to cards.
func OpsWalletMoney(p OpsWalletPage) templ.Component { return Part(OpsWallet(p), FragmentOpsWallet) }

// underWay reports whether Stripe has not answered for all of them yet.
func (p OpsWalletPage) underWay() bool { return p.Balance.Reserved > 0 }

func (p OpsWalletPage) month() string { return p.Month.UTC().Format("January 2006") }

// FreezePage is the model of the page that asks before a wallet is frozen or thawed.
type FreezePage struct {
	Meta     PageMeta
	ID, Name string
	// Thaw asks for the opposite.
	Thaw bool
	// FrozenAt and FrozenReason say how it stands; zero when it is not frozen.
	FrozenAt     time.Time
	FrozenReason string
	// Reason and Error are the form as it was refused.
	Reason, Error string
}

func (p FreezePage) title() string {
	if p.Thaw {
		return "Thaw this wallet?"
	}
	return "Freeze this wallet?"
}

func (p FreezePage) path() string {
	if p.Thaw {
		return walletHref(p.ID) + "/thaw"
	}
	return walletHref(p.ID) + "/freeze"
}
