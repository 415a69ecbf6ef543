package telephony

import (
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Agreed is what somebody was shown that a number costs: at once, and each month from one month on, in pence.
type Agreed struct {
	Purchase, Monthly money.Pence
}

// holds refuses a price that is not the agreed one; the nil one agrees to any.
func (a *Agreed) holds(purchase, monthly money.Pence) error {
	if a == nil || *a == (Agreed{Purchase: purchase, Monthly: monthly}) {
		return nil
	}
	return &fault.Error{
		Kind: fault.Conflict, Code: "price_changed",
		Public: "The price has changed since it was shown. Nothing was bought or charged; look at the new price and decide again.",
	}
}
