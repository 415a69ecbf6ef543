package telephony

import (
	"cmp"
	"slices"
	"strconv"

	api "github.com/twilio/twilio-go/rest/api/v2010"
)

// NumberType is what sort of a number it is.
type NumberType string

// The types, as Twilio's list of numbers for sale has them.
const (
	Local    NumberType = "local"
	Mobile   NumberType = "mobile"
	TollFree NumberType = "tollfree"
)

// NumberTypes are all of them, in the order in which people see them.
var NumberTypes = []NumberType{Local, Mobile, TollFree}

// forSale is a number on Twilio's list of those for sale.
type forSale struct {
	number, locality, region, country string
	// address is what must be on file before it is sold: "none" where nothing.
	address    string
	voice, sms bool
}

// numberClient asks Twilio about one account's numbers.
type numberClient struct {
	api *api.ApiService
	of  account
}

// subaccountName is what a subaccount is called at Twilio, by which it is found again.
func subaccountName(org string) string { return "Ringfence " + org }

// search lists numbers for sale. A country that has none of a type has an empty list.
func (c *numberClient) search(country string, of NumberType, area int, contains string, most int) ([]forSale, error) {
	return reading(func() ([]forSale, error) {
		list, err := c.searchOnce(country, of, area, contains, most)
		if err = twilioFailure(err); gone(err) {
			return nil, nil
		}
		return list, err
	})
}

func (c *numberClient) searchOnce(country string, of NumberType, area int, contains string, most int) (list []forSale, err error) {
	switch of {
	case Local:
		p := (&api.ListAvailablePhoneNumberLocalParams{}).SetVoiceEnabled(true).SetPageSize(most).SetLimit(most)
		if area > 0 {
			p.SetAreaCode(area)
		}
		if contains != "" {
			p.SetContains(contains)
		}
		found, err := c.api.ListAvailablePhoneNumberLocal(country, p)
		for i := range found {
			n := &found[i]
			item := sale(n.PhoneNumber, n.Locality, n.Region, n.IsoCountry, n.AddressRequirements)
			if n.Capabilities != nil {
				item.voice, item.sms = n.Capabilities.Voice, n.Capabilities.Sms
			}
			list = append(list, item)
		}
		return list, err
	case Mobile:
		p := (&api.ListAvailablePhoneNumberMobileParams{}).SetVoiceEnabled(true).SetPageSize(most).SetLimit(most)
		if contains != "" {
			p.SetContains(contains)
		}
		found, err := c.api.ListAvailablePhoneNumberMobile(country, p)
		for i := range found {
			n := &found[i]
			item := sale(n.PhoneNumber, n.Locality, n.Region, n.IsoCountry, n.AddressRequirements)
			if n.Capabilities != nil {
				item.voice, item.sms = n.Capabilities.Voice, n.Capabilities.Sms
			}
			list = append(list, item)
		}
		return list, err
	case TollFree:
		p := (&api.ListAvailablePhoneNumberTollFreeParams{}).SetVoiceEnabled(true).SetPageSize(most).SetLimit(most)
		if area > 0 {
			p.SetAreaCode(area)
		}
		if contains != "" {
			p.SetContains(contains)
		}
		found, err := c.api.ListAvailablePhoneNumberTollFree(country, p)
		for i := range found {
			n := &found[i]
			item := sale(n.PhoneNumber, n.Locality, n.Region, n.IsoCountry, n.AddressRequirements)
			if n.Capabilities != nil {
				item.voice, item.sms = n.Capabilities.Voice, n.Capabilities.Sms
			}
			list = append(list, item)
		}
		return list, err
	}
	return nil, nil
}

func sale(number, locality, region, country, address *string) forSale {
	return forSale{number: text(number), locality: text(locality), region: text(region), country: text(country), address: cmp.Or(text(address), "none")}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// owned is a number that an account has.
type owned struct {
	sid, number, name string
	// texts says that it sends and takes texts.
	texts bool
}

// find looks for an exact number among the account's own; found is false when Twilio's list does not have it.
func (c *numberClient) find(number string) (o owned, found bool, err error) {
	list, err := reading(func() ([]owned, error) {
		list, err := c.list((&api.ListIncomingPhoneNumberParams{}).SetPathAccountSid(c.of.sid).SetPhoneNumber(number).SetPageSize(20).SetLimit(20))
		return list, twilioFailure(err)
	})
	// The filter is a pattern to Twilio, so only an equal one counts.
	if i := slices.IndexFunc(list, func(o owned) bool { return o.number == number }); err == nil && i >= 0 {
		return list[i], true, nil
	}
	return owned{}, false, err
}

// all lists the account's numbers.
func (c *numberClient) all() ([]owned, error) {
	return reading(func() ([]owned, error) {
		list, err := c.list((&api.ListIncomingPhoneNumberParams{}).SetPathAccountSid(c.of.sid).SetPageSize(listMost))
		return list, twilioFailure(err)
	})
}

func (c *numberClient) list(p *api.ListIncomingPhoneNumberParams) ([]owned, error) {
	found, err := c.api.ListIncomingPhoneNumber(p)
	if err != nil {
		return nil, err
	}
	list := make([]owned, 0, len(found))
	for i := range found {
		list = append(list, asOwned(&found[i]))
	}
	return list, nil
}

// buy buys exactly this number, once asked. Of a number that the account has already Twilio changes only its name
// (https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource), so that two requests buy it once.
func (c *numberClient) buy(number, name, smsURL string) (o owned, err error) {
	p := (&api.CreateIncomingPhoneNumberParams{}).SetPathAccountSid(c.of.sid).SetPhoneNumber(number).SetFriendlyName(name)
	if smsURL != "" {
		p.SetSmsUrl(smsURL)
	}
	made, err := c.api.CreateIncomingPhoneNumber(p)
	if err != nil {
		return owned{}, twilioFailure(err)
	}
	if made == nil || text(made.Sid) == "" || text(made.PhoneNumber) != number {
		return owned{}, &failure{provider: "Twilio"} // as good as no answer
	}
	return asOwned(made), nil
}

// asOwned reads Twilio's own record. Where it does not say what the number can do, texts are tried.
func asOwned(n *api.ApiV2010IncomingPhoneNumber) owned {
	return owned{sid: text(n.Sid), number: text(n.PhoneNumber), name: text(n.FriendlyName), texts: n.Capabilities == nil || n.Capabilities.Sms}
}

// release gives a number back. One that is not there is given back already.
func (c *numberClient) release(sid string) error {
	err := twilioFailure(c.api.DeleteIncomingPhoneNumber(sid, (&api.DeleteIncomingPhoneNumberParams{}).SetPathAccountSid(c.of.sid)))
	if gone(err) {
		return nil
	}
	return err
}

// status says whether the account is open, by its own token.
func (c *numberClient) status() (string, error) {
	return reading(func() (string, error) {
		a, err := c.api.FetchAccount(c.of.sid)
		if err != nil || a == nil {
			return "", twilioFailure(err)
		}
		return text(a.Status), nil
	})
}

// makeSubaccount makes a subaccount, once asked.
func (c *numberClient) makeSubaccount(name string) (account, error) {
	a, err := c.api.CreateAccount((&api.CreateAccountParams{}).SetFriendlyName(name))
	if err != nil {
		return account{}, twilioFailure(err)
	}
	return asAccount(a)
}

// findSubaccount looks for a subaccount by its name: the oldest open one.
func (c *numberClient) findSubaccount(name string) (a account, found bool, err error) {
	list, err := reading(func() ([]api.ApiV2010Account, error) {
		list, err := c.api.ListAccount((&api.ListAccountParams{}).SetFriendlyName(name).SetStatus("active").SetPageSize(50).SetLimit(50))
		return list, twilioFailure(err)
	})
	if err != nil {
		return account{}, false, err
	}
	for i := len(list) - 1; i >= 0; i-- { // the newest come first
		if text(list[i].FriendlyName) == name && text(list[i].Status) == "active" && text(list[i].Sid) != c.of.sid {
			a, err = asAccount(&list[i])
			return a, err == nil, err
		}
	}
	return account{}, false, nil
}

// subaccounts lists those that are open, by sid and name.
func (c *numberClient) subaccounts() ([]owned, error) {
	return reading(func() ([]owned, error) {
		found, err := c.api.ListAccount((&api.ListAccountParams{}).SetStatus("active").SetPageSize(listMost))
		list := make([]owned, 0, len(found))
		for i := range found {
			list = append(list, owned{sid: text(found[i].Sid), name: text(found[i].FriendlyName)})
		}
		return list, twilioFailure(err)
	})
}

// subaccount reads a subaccount with its token, which a parent may.
func (c *numberClient) subaccount(sid string) (account, error) {
	return reading(func() (account, error) {
		a, err := c.api.FetchAccount(sid)
		if err != nil {
			return account{}, twilioFailure(err)
		}
		return asAccount(a)
	})
}

// closeSubaccount closes a subaccount for good, and with it gives back what numbers it has. One that is closed stays so.
func (c *numberClient) closeSubaccount(sid string) error {
	_, err := c.api.UpdateAccount(sid, (&api.UpdateAccountParams{}).SetStatus("closed"))
	return twilioFailure(err)
}

func asAccount(a *api.ApiV2010Account) (account, error) {
	if a == nil || text(a.Sid) == "" || text(a.AuthToken) == "" {
		return account{}, &failure{provider: "Twilio"}
	}
	return account{sid: *a.Sid, token: *a.AuthToken}, nil
}

// areaCode reads an area code of North America; ok is false for what is none.
func areaCode(s string) (code int, ok bool) {
	if s == "" {
		return 0, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 200 && n <= 999
}
