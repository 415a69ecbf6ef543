package sandbox

// balanceBegin is what the account has before anything was sent, in hundred-thousandths of a US dollar: $100.
const balanceBegin = 10_000_000

// twilioBalance is an account's balance on the wire.
type twilioBalance struct {
	AccountSID string `json:"account_sid"`
	Balance    string `json:"balance"`
	Currency   string `json:"currency"`
}

// fetchBalance is https://www.twilio.com/docs/usage/api/balance: what the account had, less what its texts and calls, and
// those of its subaccounts, have cost. Subaccounts have none of their own.
func fetchBalance(t *Twilio, _ *changes, in *asked) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	if in.account != t.account {
		return nil, notFound(in.path)
	}
	left := int64(balanceBegin)
	for _, m := range t.messages {
		left -= m.Price
	}
	for _, c := range t.calls {
		left -= c.Price
	}
	text := priceText(left) // which writes what is taken
	if left > 0 {
		text = text[1:]
	} else if left < 0 {
		text = priceText(-left)
	}
	return twilioBalance{AccountSID: t.account, Balance: text, Currency: "USD"}, nil
}
