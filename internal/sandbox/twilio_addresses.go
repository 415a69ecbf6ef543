package sandbox

import (
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
)

// postalAddress is where somebody is, for countries whose law asks for it.
type postalAddress struct {
	Seq          uint64 `json:"seq"`
	SID          string `json:"sid"`
	Account      string `json:"account"`
	CustomerName string `json:"customer_name"`
	FriendlyName string `json:"friendly_name"`
	Street       string `json:"street"`
	City         string `json:"city"`
	Region       string `json:"region"`
	PostalCode   string `json:"postal_code"`
	Country      string `json:"country"`
	Created      int64  `json:"created"` // Unix nanoseconds
}

// bundle is what a regulator is to approve; see https://www.twilio.com/docs/phone-numbers/regulatory.
type bundle struct {
	Seq          uint64 `json:"seq"`
	SID          string `json:"sid"`
	Account      string `json:"account"`
	FriendlyName string `json:"friendly_name"`
	Email        string `json:"email"`
	Country      string `json:"country"`
	Status       string `json:"status"`
	Created      int64  `json:"created"` // Unix nanoseconds
	Updated      int64  `json:"updated"`
}

func (a *postalAddress) sequence() uint64 { return a.Seq }
func (a *postalAddress) id() string       { return a.SID }
func (b *bundle) sequence() uint64        { return b.Seq }
func (b *bundle) id() string              { return b.SID }

// A bundle's status; see https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles#bundle-statuses.
const (
	bundleDraft    = "draft"
	bundlePending  = "pending-review"
	bundleApproved = "twilio-approved"
	bundleRejected = "twilio-rejected"
)

func validNumber(number string) bool {
	n, err := phonenumbers.Parse(number, "")
	return err == nil && phonenumbers.IsValidNumber(n)
}

// lawful says why a number must not be sold to an account for what it has on file, if it must not.
func (t *Twilio) lawful(in *asked, country, requirement string) error {
	if requirement != addressNone && in.form.Get("AddressSid") == "" && in.form.Get("BundleSid") == "" {
		return twilioFail(codeNeedsBundle,
			"Phone numbers of %s need an approved bundle or an address (%s): neither BundleSid nor AddressSid is given",
			country, requirement)
	}
	return t.onFile(in, country, requirement)
}

// onFile says what is wrong with the address or the bundle that a request names, if anything.
func (t *Twilio) onFile(in *asked, country, requirement string) error {
	if sid := in.form.Get("BundleSid"); sid != "" {
		b := t.bundles[sid]
		switch {
		case b == nil || b.Account != in.account:
			return twilioFail(codeNeedsBundle, "Bundle %s was not found", sid)
		case b.Status != bundleApproved:
			return twilioFail(codeNeedsBundle, "Bundle %s status is not twilio-approved", sid)
		case b.Country != "" && b.Country != country:
			return twilioFail(codeNeedsBundle, "Bundle %s is for numbers of %s, not of %s", sid, b.Country, country)
		}
	}
	if sid := in.form.Get("AddressSid"); sid != "" {
		a := t.addresses[sid]
		switch {
		case a == nil || a.Account != in.account:
			return twilioFail(codeNoAddress, "Address %s was not found", sid)
		case requirement == addressLocal && a.Country != country && in.form.Get("BundleSid") == "":
			return twilioFail(codeLocalAddress, "Phone numbers of %s need an address there: %s is in %s", country, sid, a.Country)
		}
	}
	return nil
}

// makeAddress is https://www.twilio.com/docs/usage/api/address#create-an-address-resource.
func makeAddress(t *Twilio, c *changes, in *asked) (any, error) {
	required := []string{"CustomerName", "Street", "City", "Region", "PostalCode", "IsoCountry"}
	if err := in.allow(append([]string{"FriendlyName", "AutoCorrectAddress"}, required...)...); err != nil {
		return nil, err
	}
	for _, name := range required {
		if strings.TrimSpace(in.form.Get(name)) == "" {
			return nil, twilioFail(codeInvalidParameter, "%s is required.", name)
		}
	}
	country := in.form.Get("IsoCountry")
	if len(country) != 2 || country != strings.ToUpper(country) {
		return nil, twilioFail(codeInvalidParameter, "Invalid IsoCountry: %s", country)
	}
	name, err := in.friendlyName("")
	if err != nil {
		return nil, err
	}
	t.seq++
	a := &postalAddress{
		Seq: t.seq, SID: newSID("AD"), Account: in.account, CustomerName: in.form.Get("CustomerName"), FriendlyName: name,
		Street: in.form.Get("Street"), City: in.form.Get("City"), Region: in.form.Get("Region"),
		PostalCode: in.form.Get("PostalCode"), Country: country, Created: c.now.UnixNano(),
	}
	t.addresses[a.SID] = a
	t.addressOrder = append(t.addressOrder, a)
	c.put(bucketAddresses, a.SID, a)
	return a.view(), nil
}

// addressOf gives the address that a request is about.
func (t *Twilio) addressOf(in *asked) (*postalAddress, error) {
	if a := t.addresses[in.sid]; a != nil && a.Account == in.account {
		return a, in.allow()
	}
	return nil, notFound(in.path)
}

// fetchAddress is https://www.twilio.com/docs/usage/api/address#fetch-an-address-resource.
func fetchAddress(t *Twilio, _ *changes, in *asked) (any, error) {
	a, err := t.addressOf(in)
	if err != nil {
		return nil, err
	}
	return a.view(), nil
}

// listAddresses is https://www.twilio.com/docs/usage/api/address#read-multiple-address-resources.
func listAddresses(t *Twilio, _ *changes, in *asked) (any, error) {
	filters := []string{"CustomerName", "FriendlyName", "IsoCountry"}
	if err := in.allow(pagedBy(filters...)...); err != nil {
		return nil, err
	}
	like := func(name, v string) bool { return in.form.Get(name) == "" || in.form.Get(name) == v }
	return listed[*postalAddress]{
		key: "addresses", order: t.addressOrder,
		visible: func(a *postalAddress) bool { return a.Account == in.account },
		keep: func(a *postalAddress) bool {
			return like("CustomerName", a.CustomerName) && like("FriendlyName", a.FriendlyName) && like("IsoCountry", a.Country)
		},
		view: func(a *postalAddress) any { return a.view() },
	}.page(in, filters...)
}

// deleteAddress is https://www.twilio.com/docs/usage/api/address#delete-an-address-resource.
func deleteAddress(t *Twilio, c *changes, in *asked) (any, error) {
	a, err := t.addressOf(in)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(t.numbersOf(in.account), func(n *phoneNumber) bool { return n.AddressSID == a.SID }) {
		return nil, twilioFail(codeAddressInUse, "Address %s is in use by a phone number", a.SID)
	}
	delete(t.addresses, a.SID)
	t.addressOrder = slices.DeleteFunc(t.addressOrder, func(x *postalAddress) bool { return x == a })
	c.remove(bucketAddresses, a.SID)
	return nil, nil // 204 has no body
}

// addressView is the address resource; see https://www.twilio.com/docs/usage/api/address#address-properties.
type addressView struct {
	AccountSID       string  `json:"account_sid"`
	City             string  `json:"city"`
	CustomerName     string  `json:"customer_name"`
	DateCreated      *string `json:"date_created"`
	DateUpdated      *string `json:"date_updated"`
	EmergencyEnabled bool    `json:"emergency_enabled"`
	FriendlyName     string  `json:"friendly_name"`
	ISOCountry       string  `json:"iso_country"`
	PostalCode       string  `json:"postal_code"`
	Region           string  `json:"region"`
	SID              string  `json:"sid"`
	Street           string  `json:"street"`
	StreetSecondary  *string `json:"street_secondary"`
	URI              string  `json:"uri"`
	Validated        bool    `json:"validated"`
	Verified         bool    `json:"verified"`
}

func (a *postalAddress) view() addressView {
	return addressView{
		AccountSID: a.Account, City: a.City, CustomerName: a.CustomerName, DateCreated: rfc2822(a.Created),
		DateUpdated: rfc2822(a.Created), FriendlyName: a.FriendlyName, ISOCountry: a.Country, PostalCode: a.PostalCode,
		Region: a.Region, SID: a.SID, Street: a.Street,
		URI: twilioPath + "Accounts/" + a.Account + "/Addresses/" + a.SID + ".json",
	}
}

// makeBundle is https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles#create-a-bundle-resource, for the
// account of its credentials. What stands in a bundle is not imitated, only what becomes of it.
func makeBundle(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow("FriendlyName", "Email", "IsoCountry", "NumberType", "EndUserType", "RegulationSid"); err != nil {
		return nil, err
	}
	if in.form.Get("FriendlyName") == "" || in.form.Get("Email") == "" {
		return nil, twilioFail(codeInvalidParameter, "FriendlyName and Email are required.")
	}
	t.seq++
	b := &bundle{
		Seq: t.seq, SID: newSID("BU"), Account: in.caller.SID, FriendlyName: in.form.Get("FriendlyName"),
		Email: in.form.Get("Email"), Country: in.form.Get("IsoCountry"), Status: bundleDraft, Created: c.now.UnixNano(),
		Updated: c.now.UnixNano(),
	}
	t.bundles[b.SID] = b
	t.bundleOrder = append(t.bundleOrder, b)
	c.put(bucketBundles, b.SID, b)
	return b.view(), nil
}

func (t *Twilio) bundleOf(in *asked) (*bundle, error) {
	if b := t.bundles[in.sid]; b != nil && b.Account == in.caller.SID {
		return b, nil
	}
	return nil, notFound(in.path)
}

// fetchBundle is https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles#fetch-a-bundle-resource.
func fetchBundle(t *Twilio, _ *changes, in *asked) (any, error) {
	b, err := t.bundleOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	return b.view(), nil
}

// updateBundle is https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles#update-a-bundle-resource: it hands
// a draft in. Approval comes by ReviewBundle.
func updateBundle(t *Twilio, c *changes, in *asked) (any, error) {
	b, err := t.bundleOf(in)
	if err == nil {
		err = in.allow("Status")
	}
	if err != nil {
		return nil, err
	}
	if in.form.Get("Status") != bundlePending || b.Status == bundleApproved {
		return nil, twilioFail(codeInvalidParameter, "A bundle that is %s cannot become %s", b.Status, in.form.Get("Status"))
	}
	b.Status, b.Updated = bundlePending, c.now.UnixNano()
	c.put(bucketBundles, b.SID, b)
	return b.view(), nil
}

// ReviewBundle approves or rejects a bundle, as Twilio's reviewers would. Errors: 20404 for an unknown one.
func (t *Twilio) ReviewBundle(sid string, approve bool) error {
	return t.change(func(c *changes) error {
		b := t.bundles[sid]
		if b == nil {
			return notFound(sid)
		}
		b.Status, b.Updated = bundleRejected, c.now.UnixNano()
		if approve {
			b.Status = bundleApproved
		}
		c.put(bucketBundles, b.SID, b)
		return nil
	})
}

// bundleView is the bundle resource; its times are ISO 8601.
type bundleView struct {
	AccountSID    string            `json:"account_sid"`
	DateCreated   string            `json:"date_created"`
	DateUpdated   string            `json:"date_updated"`
	Email         string            `json:"email"`
	FriendlyName  string            `json:"friendly_name"`
	Links         map[string]string `json:"links"`
	RegulationSID *string           `json:"regulation_sid"`
	SID           string            `json:"sid"`
	Status        string            `json:"status"`
	URL           string            `json:"url"`
	ValidUntil    *string           `json:"valid_until"`
}

func (b *bundle) view() bundleView {
	at := func(nanoseconds int64) string { return time.Unix(0, nanoseconds).UTC().Format(time.RFC3339) }
	return bundleView{
		AccountSID: b.Account, DateCreated: at(b.Created), DateUpdated: at(b.Updated), Email: b.Email,
		FriendlyName: b.FriendlyName, Links: map[string]string{}, SID: b.SID, Status: b.Status,
		URL: "https://numbers.twilio.com" + bundlesPath + "/" + b.SID,
	}
}
