package views

import (
	"time"

	"ringfence/internal/money"
	"ringfence/views/ui"
)

// WithdrawalPart is one refund of a withdrawal, to be or as it stands.
type WithdrawalPart struct {
	PaymentIntent  string
	Charge, Amount money.Pence
	PaidAt         time.Time
	// State is open, refunded or refused, or returned for a refund that has failed since.
	State    string
	RefundID string
	// Note is why it was refused, or what the last try met with.
	Note string
}

func (p WithdrawalPart) state() ui.StateProps {
	switch p.State {
	case "open":
		return ui.StateProps{Word: "With Stripe", Tone: ui.ToneInfo, Icon: ui.IconHourglass}
	case "refunded":
		return ui.StateProps{Word: "Refunded", Tone: ui.ToneGood, Icon: ui.IconCheck}
	case "returned":
		return ui.StateProps{Word: "Came back", Tone: ui.ToneWarn, Icon: ui.IconWarning}
	}
	return ui.StateProps{Word: "Refused", Tone: ui.ToneBad, Icon: ui.IconError}
}

// Withdrawal is money that went back to cards, or is on its way.
type Withdrawal struct {
	ID         string
	At         time.Time
	Amount     money.Pence
	Reason, By string
	Parts      []WithdrawalPart
}

// WithdrawForm is the form for a withdrawal, with what was typed and what is wrong with it.
type WithdrawForm struct {
	Amount, Reason string
	// Key makes the same form again the same withdrawal; Parts is the plan that was shown.
	Key, Parts string
	Errors     map[string]string
}

func (f WithdrawForm) hidden() []Fact {
	return []Fact{{"amount", f.Amount}, {"reason", f.Reason}, {"key", f.Key}, {"parts", f.Parts}}
}

// WithdrawPage is the model of the form for a withdrawal.
type WithdrawPage struct {
	Meta     PageMeta
	ID, Name string
	Form     WithdrawForm
	// Paid is the paid money that is not set aside, Most what of it can go back to cards, Disputed what is left of payments
	// under a dispute.
	Paid, Most, Disputed money.Pence
	Bonus, SetAside      money.Pence
	// Nothing is why nothing can go back; empty where something can.
	Nothing string
}

func (p WithdrawPage) hint() string { return "In pounds, at most " + p.Most.String() + "." }

// WithdrawConfirmPage is the model of the page that says how money would go back, before it does.
type WithdrawConfirmPage struct {
	Meta     PageMeta
	ID, Name string
	Form     WithdrawForm
	Amount   money.Pence
	Parts    []WithdrawalPart
	Now      WalletFigures
	// Changed says that the wallet or its payments have changed since the plan was shown before.
	Changed bool
	// Frozen says that the wallet is.
	Frozen bool
}

// then is the wallet once all of it is refunded.
func (p WithdrawConfirmPage) then() WalletFigures {
	then := p.Now
	then.Balance -= p.Amount
	then.Available -= p.Amount
	return then
}
