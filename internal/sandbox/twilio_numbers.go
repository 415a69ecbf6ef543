package sandbox

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// phoneNumber is a number that an account owns, or did.
type phoneNumber struct {
	Seq            uint64 `json:"seq"`
	SID            string `json:"sid"`
	Account        string `json:"account"`
	Number         string `json:"number"`
	Country        string `json:"country"`
	Kind           string `json:"kind"`
	FriendlyName   string `json:"friendly_name"`
	SMSURL         string `json:"sms_url,omitempty"`
	VoiceURL       string `json:"voice_url,omitempty"`
	StatusCallback string `json:"status_callback,omitempty"`
	AddressSID     string `json:"address_sid,omitempty"`
	BundleSID      string `json:"bundle_sid,omitempty"`
	Address        string `json:"address"` // address_requirements
	SMS            bool   `json:"sms"`
	MMS            bool   `json:"mms"`
	RentCents      int64  `json:"rent_cents"` // a month, in US cents
	Bought         int64  `json:"bought"`     // Unix nanoseconds, like every time here
	Updated        int64  `json:"updated"`
	Released       int64  `json:"released,omitempty"`
	// Given says that it is there by Options.TwilioNumbers; TextsToOptions that its texts go to Options.TwilioSMSURL,
	// which holds until the API says otherwise.
	Given          bool `json:"given,omitempty"`
	TextsToOptions bool `json:"texts_to_options,omitempty"`
}

func (n *phoneNumber) sequence() uint64 { return n.Seq }
func (n *phoneNumber) id() string       { return n.SID }

// settleNumbers gives the configured account its configured numbers, those that it has released meanwhile too.
func (t *Twilio) settleNumbers(c *changes) {
	for _, number := range t.given {
		n := t.owned[number]
		switch {
		case n == nil:
			o := offered(number)
			if o == nil { // Twilio's own for tests are no valid numbers
				o = &offer{country: country(number), kind: kindLocal, address: addressNone, sms: true, mms: true}
			}
			n = t.own(c, t.account, number, o)
			n.Given, n.TextsToOptions, n.SMS = true, true, true
		case n.Given && n.Account != t.account && !t.theirs(t.accounts[n.Account]):
			n.Account = t.account // another account was configured before
			c.put(bucketNumbers, n.SID, n)
		}
	}
}

// own makes a number an account's.
func (t *Twilio) own(c *changes, account, number string, o *offer) *phoneNumber {
	t.seq++
	n := &phoneNumber{
		Seq: t.seq, SID: newSID("PN"), Account: account, Number: number, Country: o.country, Kind: o.kind,
		FriendlyName: friendly(number), Address: o.address, SMS: o.sms, MMS: o.mms, RentCents: o.rentCents,
		Bought: c.now.UnixNano(), Updated: c.now.UnixNano(),
	}
	t.numbers[n.SID] = n
	t.numberOrder = append(t.numberOrder, n)
	t.owned[number] = n
	c.put(bucketNumbers, n.SID, n)
	return n
}

// release gives a number back; it is for sale again at once.
func (t *Twilio) release(c *changes, n *phoneNumber) {
	n.Released, n.Updated = c.now.UnixNano(), c.now.UnixNano()
	delete(t.owned, n.Number)
	c.put(bucketNumbers, n.SID, n)
}

// numbersOf gives the numbers an account owns, oldest first.
func (t *Twilio) numbersOf(account string) []*phoneNumber {
	var out []*phoneNumber
	for _, n := range t.numberOrder {
		if n.Account == account && n.Released == 0 {
			out = append(out, n)
		}
	}
	return out
}

// textsTo is where a text to the number is posted; empty is nowhere.
func (t *Twilio) textsTo(n *phoneNumber) string {
	if n.TextsToOptions {
		return t.smsURL
	}
	return n.SMSURL
}

// numberOf gives the number that a request is about: one of its account that was not released.
func (t *Twilio) numberOf(in *asked) (*phoneNumber, error) {
	n := t.numbers[in.sid]
	if n == nil || n.Account != in.account || n.Released != 0 {
		return nil, notFound(in.path)
	}
	return n, nil
}

// The magic numbers of Twilio's test credentials for buying; +15005550006 can be bought.
var magicBuy = map[string]int{"+15005550000": codeUnavailableNumber, "+15005550001": codeInvalidNumber}

// numberSettings are what both buying and updating take. Methods have to be POST, the only one that is imitated.
var numberSettings = []string{
	"FriendlyName", "SmsUrl", "SmsMethod", "VoiceUrl", "VoiceMethod", "StatusCallback", "StatusCallbackMethod", "AddressSid",
	"BundleSid",
}

// buyNumber is
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#create-an-incomingphonenumber-resource.
// A number that the account owns already is updated instead, and the answer is the same.
func buyNumber(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow(append([]string{"PhoneNumber", "AreaCode"}, numberSettings...)...); err != nil {
		return nil, err
	}
	number, err := t.chosen(in)
	if err != nil {
		return nil, err
	}
	n := t.owned[number]
	if n == nil {
		o := offered(number)
		switch {
		case number == twilioNumber:
			o = &offer{country: "US", kind: kindLocal, address: addressNone, sms: true, mms: true, rentCents: 115}
		case o == nil && !validNumber(number):
			return nil, twilioFail(codeInvalidNumber, "%s is not a valid number", number)
		case o == nil:
			return nil, twilioFail(codeUnavailableNumber, "%s is not available", number)
		}
		if err := t.lawful(in, o.country, o.address); err != nil {
			return nil, err
		}
		if err := in.checkSettings(); err != nil {
			return nil, err
		}
		n = t.own(c, in.account, number, o)
		t.made(c, countNumbers)
	} else if n.Account != in.account {
		return nil, twilioFail(codeUnavailableNumber, "%s is not available", number)
	} else if err := in.checkSettings(); err != nil {
		return nil, err
	}
	n.set(in.form)
	n.Updated = c.now.UnixNano()
	c.put(bucketNumbers, n.SID, n)
	return t.numberView(n), nil
}

// chosen gives the number that a request wants to buy.
func (t *Twilio) chosen(in *asked) (string, error) {
	number, code := in.form.Get("PhoneNumber"), in.form.Get("AreaCode")
	switch {
	case number != "" && magicBuy[number] == codeInvalidNumber:
		return "", twilioFail(codeInvalidNumber, "%s is not a valid number", number)
	case number != "" && magicBuy[number] != 0:
		return "", twilioFail(magicBuy[number], "%s is not available", number)
	case number != "" && !e164.MatchString(number):
		return "", twilioFail(codeInvalidNumber, "%s is not a valid number", number)
	case number != "":
		return number, nil
	case code == "":
		return "", twilioFail(codeInvalidNumber, "PhoneNumber or AreaCode is required.")
	}
	for _, country := range []string{"US", "CA"} {
		found, err := t.search(offerOf(country, kindLocal), &asked{form: url.Values{"AreaCode": {code}}}, 1)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0].PhoneNumber, nil
		}
	}
	return "", twilioFail(codeEmptyArea, "No phone numbers found in area code %s", code)
}

// checkSettings says what is wrong with the settings of a number that a request sends.
func (in *asked) checkSettings() error {
	if _, err := in.friendlyName(""); err != nil {
		return err
	}
	for _, name := range []string{"SmsUrl", "VoiceUrl", "StatusCallback"} {
		if v := in.form.Get(name); v != "" && !callbackURL(v) {
			return twilioFail(codeInvalidURL, "%s is not valid: %s", name, v)
		}
	}
	for _, name := range []string{"SmsMethod", "VoiceMethod", "StatusCallbackMethod"} {
		if v := in.form.Get(name); v != "" && v != "POST" {
			return twilioFail(codeInvalidMethod, "%s: the sandbox knows only POST, not %s", name, v)
		}
	}
	return nil
}

// set takes the settings that were sent; an empty one clears what was there.
func (n *phoneNumber) set(form url.Values) {
	if v := form.Get("FriendlyName"); v != "" {
		n.FriendlyName = v
	}
	for name, field := range map[string]*string{
		"SmsUrl": &n.SMSURL, "VoiceUrl": &n.VoiceURL, "StatusCallback": &n.StatusCallback, "AddressSid": &n.AddressSID,
		"BundleSid": &n.BundleSID,
	} {
		if form.Has(name) {
			*field = form.Get(name)
		}
	}
	if form.Has("SmsUrl") {
		n.TextsToOptions = false
	}
}

// fetchNumber is
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#fetch-an-incomingphonenumber-resource.
func fetchNumber(t *Twilio, _ *changes, in *asked) (any, error) {
	n, err := t.numberOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	return t.numberView(n), nil
}

// listNumbers is
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#read-multiple-incomingphonenumber-resources.
// PhoneNumber may be a part of a number, with * for any digit; a whole number finds just itself.
func listNumbers(t *Twilio, _ *changes, in *asked) (any, error) {
	if err := in.allow(pagedBy("PhoneNumber", "FriendlyName")...); err != nil {
		return nil, err
	}
	part, name := in.form.Get("PhoneNumber"), in.form.Get("FriendlyName")
	like, err := regexp.Compile(strings.ReplaceAll(regexp.QuoteMeta(part), `\*`, "[0-9]"))
	if err != nil {
		return nil, twilioFail(codeInvalidParameter, "Invalid PhoneNumber: %s", part)
	}
	return listed[*phoneNumber]{
		key: "incoming_phone_numbers", order: t.numberOrder,
		visible: func(n *phoneNumber) bool { return n.Account == in.account && n.Released == 0 },
		keep: func(n *phoneNumber) bool {
			return like.MatchString(n.Number) && (name == "" || n.FriendlyName == name)
		},
		view: func(n *phoneNumber) any { return t.numberView(n) },
	}.page(in, "PhoneNumber", "FriendlyName")
}

// updateNumber is
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#update-an-incomingphonenumber-resource.
// AccountSid moves it between a parent and its subaccounts, for which the parent has to ask.
func updateNumber(t *Twilio, c *changes, in *asked) (any, error) {
	n, err := t.numberOf(in)
	if err == nil {
		err = in.allow(append([]string{"AccountSid"}, numberSettings...)...)
	}
	if err == nil {
		err = in.checkSettings()
	}
	if err != nil {
		return nil, err
	}
	if to := in.form.Get("AccountSid"); to != "" && to != n.Account {
		a := t.accounts[to]
		switch {
		case in.caller.SID != t.account:
			return nil, twilioFail(codeForbidden, "Only the parent may move numbers between accounts.")
		case !t.theirs(a) || a.Status != accountActive:
			return nil, twilioFail(codeInvalidParameter, "Invalid AccountSid: %s", to)
		}
		if err := t.lawful(&asked{account: to, form: in.form}, n.Country, n.Address); err != nil {
			return nil, err
		}
		// What it had on file belongs to the account that it leaves.
		n.Account, n.AddressSID, n.BundleSID = to, "", ""
	} else if err := t.onFile(in, n.Country, n.Address); err != nil {
		return nil, err
	}
	n.set(in.form)
	n.Updated = c.now.UnixNano()
	c.put(bucketNumbers, n.SID, n)
	return t.numberView(n), nil
}

// releaseNumber is
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#delete-an-incomingphonenumber-resource.
func releaseNumber(t *Twilio, c *changes, in *asked) (any, error) {
	n, err := t.numberOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	t.release(c, n)
	return nil, nil // 204 has no body
}

// numberView is the number resource; see
// https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource#incomingphonenumber-properties.
type numberView struct {
	AccountSID           string       `json:"account_sid"`
	AddressRequirements  string       `json:"address_requirements"`
	AddressSID           *string      `json:"address_sid"`
	APIVersion           string       `json:"api_version"`
	Beta                 bool         `json:"beta"`
	BundleSID            *string      `json:"bundle_sid"`
	Capabilities         capabilities `json:"capabilities"`
	DateCreated          *string      `json:"date_created"`
	DateUpdated          *string      `json:"date_updated"`
	FriendlyName         string       `json:"friendly_name"`
	Origin               string       `json:"origin"`
	PhoneNumber          string       `json:"phone_number"`
	SID                  string       `json:"sid"`
	SMSMethod            string       `json:"sms_method"`
	SMSURL               string       `json:"sms_url"`
	Status               string       `json:"status"`
	StatusCallback       string       `json:"status_callback"`
	StatusCallbackMethod string       `json:"status_callback_method"`
	Type                 string       `json:"type"`
	URI                  string       `json:"uri"`
	VoiceMethod          string       `json:"voice_method"`
	VoiceURL             string       `json:"voice_url"`
}

func (t *Twilio) numberView(n *phoneNumber) numberView {
	v := numberView{
		AccountSID: n.Account, AddressRequirements: n.Address, APIVersion: twilioVersion,
		Capabilities: capabilities{MMS: n.MMS, SMS: n.SMS, Voice: true}, DateCreated: rfc2822(n.Bought),
		DateUpdated: rfc2822(n.Updated), FriendlyName: n.FriendlyName, Origin: "twilio", PhoneNumber: n.Number, SID: n.SID,
		SMSMethod: "POST", SMSURL: t.textsTo(n), Status: "in-use", StatusCallback: n.StatusCallback, StatusCallbackMethod: "POST",
		Type: kindWords[n.Kind], VoiceMethod: "POST", VoiceURL: n.VoiceURL,
		URI: twilioPath + "Accounts/" + n.Account + "/IncomingPhoneNumbers/" + n.SID + ".json",
	}
	if n.AddressSID != "" {
		v.AddressSID = &n.AddressSID
	}
	if n.BundleSID != "" {
		v.BundleSID = &n.BundleSID
	}
	return v
}

// kindWords are the kinds as the number resource names them.
var kindWords = map[string]string{kindLocal: "local", kindMobile: "mobile", kindTollFree: "toll-free"}

// BookedNumber is a number as the books show it: owned now, or once.
type BookedNumber struct {
	SID     string `json:"sid"`
	Account string `json:"account"`
	Number  string `json:"number"`
	Country string `json:"country"`
	// Kind is Local, Mobile or TollFree.
	Kind     string `json:"kind"`
	SMSURL   string `json:"sms_url"`
	VoiceURL string `json:"voice_url"`
	// Given says that Options.TwilioNumbers named it: nobody bought it.
	Given  bool      `json:"given"`
	Bought time.Time `json:"bought"`
	// Released is when it was given back; zero while it is owned.
	Released time.Time `json:"released,omitzero"`
	// Months is how often its rent was taken: when it was bought, and each month after while it was owned.
	Months int `json:"months"`
	// RentCents is what was taken in all, in US cents.
	RentCents int64 `json:"rent_cents"`
}

func (t *Twilio) bookedNumber(n *phoneNumber) BookedNumber {
	b := BookedNumber{
		SID: n.SID, Account: n.Account, Number: n.Number, Country: n.Country, Kind: n.Kind, SMSURL: t.textsTo(n),
		VoiceURL: n.VoiceURL, Given: n.Given, Bought: time.Unix(0, n.Bought).UTC(),
	}
	end := t.now().UTC()
	if n.Released != 0 {
		b.Released = time.Unix(0, n.Released).UTC()
		end = b.Released
	}
	b.Months = 1
	for !b.Bought.AddDate(0, b.Months, 0).After(end) {
		b.Months++
	}
	b.RentCents = int64(b.Months) * n.RentCents
	return b
}

// ownedNumbers gives all numbers that are owned now, the configured account's first.
func (t *Twilio) ownedNumbers() []string {
	out := make([]string, 0, len(t.owned))
	for _, n := range t.numberOrder {
		if n.Released == 0 {
			out = append(out, n.Number)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int {
		mine := func(number string) int {
			if t.owned[number].Account == t.account {
				return 0
			}
			return 1
		}
		return mine(a) - mine(b)
	})
	return out
}

// String names a number in a log or a failed test.
func (b BookedNumber) String() string {
	if b.Released.IsZero() {
		return fmt.Sprintf("%s of %s, owned", b.Number, b.Account)
	}
	return fmt.Sprintf("%s of %s, released", b.Number, b.Account)
}
