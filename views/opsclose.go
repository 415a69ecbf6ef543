package views

import (
	"time"

	"ringfence/internal/money"
)

// CloseForm is the form that closes an account, with what was typed and what is wrong with it.
type CloseForm struct {
	Reason string
	// Key makes the same form again the same closing; Parts is the plan that was shown.
	Key, Parts string
	Error      string
}

func (f CloseForm) hidden() []Fact {
	return []Fact{{"reason", f.Reason}, {"key", f.Key}, {"parts", f.Parts}}
}

// ClosePage is the model of the page that asks before an account is closed: at first for the reason, then for a last word.
type ClosePage struct {
	Meta     PageMeta
	ID, Name string
	Form     CloseForm
	Now      WalletFigures
	// Held is on hold for what is under way, Reserved on its way back to cards already.
	Held, Reserved money.Pence
	// PaysBack goes back to cards by Parts, Bonus is written off, Stays can go to no card; Disputed is why for a part of it.
	PaysBack, Bonus, Stays, Disputed money.Pence
	Parts                            []WithdrawalPart
	// Blocked is why it cannot be closed now; empty where it can.
	Blocked string
	// Confirm asks for the last word; Changed says that the wallet has changed since.
	Confirm, Changed bool
}

func (p ClosePage) title() string {
	if p.Confirm {
		return "Close this account?"
	}
	return "Close an account"
}

// ReopenPage is the model of the page that asks before an account is opened again.
type ReopenPage struct {
	Meta     PageMeta
	ID, Name string
	// ClosedAt and ClosedReason say how it stands; zero when it is open.
	ClosedAt     time.Time
	ClosedReason string
	// Reason and Error are the form as it was refused.
	Reason, Error string
}
