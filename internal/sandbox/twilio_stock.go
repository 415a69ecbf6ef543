package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// The kinds of numbers that can be bought, as Twilio's paths name them.
const (
	kindLocal    = "Local"
	kindMobile   = "Mobile"
	kindTollFree = "TollFree"
)

// What a country's law asks for before a number is sold; see
// https://www.twilio.com/docs/phone-numbers/api/availablephonenumberlocal-resource.
const (
	addressNone  = "none"
	addressAny   = "any"
	addressLocal = "local"
)

// offer is what is for sale in one country of one kind.
type offer struct {
	country, kind string
	// address is what must be on file: nothing, any address, or one in the country.
	address   string
	sms, mms  bool
	rentCents int64 // a month, in US cents: about Twilio's list price
	areas     []area
}

// area is where numbers begin with the same digits.
type area struct {
	// prefix are the digits after the country's code, tail how many follow them.
	prefix string
	tail   int
	// What Twilio says of the place, where it says it.
	locality, region, postal, lata, center, latitude, longitude string
}

// callingCodes are the countries that have numbers for sale here.
var callingCodes = map[string]string{
	"US": "1", "CA": "1", "GB": "44", "AU": "61", "DE": "49", "FR": "33", "IE": "353", "NL": "31", "ES": "34",
}

// plain are areas of which nothing but their digits is known.
func plain(tail int, prefixes ...string) []area {
	out := make([]area, 0, len(prefixes))
	for _, p := range prefixes {
		out = append(out, area{prefix: p, tail: tail})
	}
	return out
}

var offers = []offer{
	{"US", kindLocal, addressNone, true, true, 115, []area{
		{"415", 7, "San Francisco", "CA", "94102", "722", "SNFC CNTRL", "37.779300", "-122.419300"},
		{"213", 7, "Los Angeles", "CA", "90012", "730", "LSAN DA 01", "34.052200", "-118.243700"},
		{"212", 7, "New York", "NY", "10007", "132", "NWYRCYZN01", "40.712800", "-74.006000"},
		{"718", 7, "Brooklyn", "NY", "11201", "132", "NWYRCYZN06", "40.678200", "-73.944200"},
		{"312", 7, "Chicago", "IL", "60602", "358", "CHICAGO", "41.878100", "-87.629800"},
		{"617", 7, "Boston", "MA", "02108", "128", "BOSTON", "42.360100", "-71.058900"},
		{"512", 7, "Austin", "TX", "78701", "558", "AUSTIN", "30.267200", "-97.743100"},
		{"214", 7, "Dallas", "TX", "75201", "552", "DALLAS", "32.776700", "-96.797000"},
		{"206", 7, "Seattle", "WA", "98101", "674", "SEATTLE", "47.606200", "-122.332100"},
		{"305", 7, "Miami", "FL", "33128", "460", "MIAMI", "25.761700", "-80.191800"},
		{"404", 7, "Atlanta", "GA", "30303", "438", "ATLANTA", "33.749000", "-84.388000"},
		{"303", 7, "Denver", "CO", "80202", "656", "DENVER", "39.739200", "-104.990300"},
	}},
	{"US", kindTollFree, addressNone, true, true, 215, plain(7, "833", "844", "855", "866", "877", "888")},
	{"CA", kindLocal, addressNone, true, true, 115, []area{
		{"416", 7, "Toronto", "ON", "M5H", "888", "TORONTO", "43.653200", "-79.383200"},
		{"514", 7, "Montreal", "QC", "H2Y", "888", "MONTREAL", "45.501700", "-73.567300"},
		{"604", 7, "Vancouver", "BC", "V6B", "888", "VANCOUVER", "49.282700", "-123.120700"},
		{"403", 7, "Calgary", "AB", "T2P", "888", "CALGARY", "51.044700", "-114.071900"},
	}},
	{"GB", kindLocal, addressAny, false, false, 115, []area{
		{prefix: "203", tail: 7, locality: "London"},
		{prefix: "207", tail: 7, locality: "London"},
		{prefix: "161", tail: 7, locality: "Manchester"},
		{prefix: "121", tail: 7, locality: "Birmingham"},
		{prefix: "113", tail: 7, locality: "Leeds"},
		{prefix: "117", tail: 7, locality: "Bristol"},
		{prefix: "131", tail: 7, locality: "Edinburgh"},
		{prefix: "141", tail: 7, locality: "Glasgow"},
	}},
	{"GB", kindMobile, addressAny, true, false, 115, plain(6, "7400", "7447", "7480", "7723", "7862", "7897")},
	{"GB", kindTollFree, addressAny, false, false, 215, plain(7, "800", "808")},
	{"AU", kindLocal, addressLocal, false, false, 300, []area{
		{prefix: "2", tail: 8, locality: "Sydney"},
		{prefix: "3", tail: 8, locality: "Melbourne"},
		{prefix: "7", tail: 8, locality: "Brisbane"},
		{prefix: "8", tail: 8, locality: "Perth"},
	}},
	{"AU", kindMobile, addressLocal, true, true, 650, plain(6, "480", "488", "428")},
	{"AU", kindTollFree, addressLocal, false, false, 1600, plain(6, "1800")},
	{"DE", kindLocal, addressLocal, false, false, 115, []area{
		{prefix: "30", tail: 8, locality: "Berlin"},
		{prefix: "69", tail: 8, locality: "Frankfurt"},
		{prefix: "89", tail: 8, locality: "Munich"},
		{prefix: "40", tail: 8, locality: "Hamburg"},
	}},
	{"DE", kindMobile, addressLocal, true, false, 1500, plain(7, "1573", "1578")},
	{"DE", kindTollFree, addressLocal, false, false, 1500, plain(7, "800")},
	{"FR", kindLocal, addressLocal, false, false, 115, []area{
		{prefix: "1", tail: 8, locality: "Paris"}, {prefix: "4", tail: 8, locality: "Lyon"},
	}},
	{"FR", kindMobile, addressLocal, true, false, 150, plain(8, "6", "7")},
	{"IE", kindLocal, addressLocal, false, false, 115, []area{{prefix: "1", tail: 7, locality: "Dublin"}}},
	{"IE", kindMobile, addressAny, true, false, 300, plain(7, "83", "85", "89")},
	{"NL", kindLocal, addressLocal, false, false, 115, []area{
		{prefix: "20", tail: 7, locality: "Amsterdam"}, {prefix: "10", tail: 7, locality: "Rotterdam"},
	}},
	{"NL", kindMobile, addressAny, true, false, 600, plain(8, "6")},
	{"ES", kindLocal, addressLocal, false, false, 115, []area{
		{prefix: "91", tail: 7, locality: "Madrid"}, {prefix: "93", tail: 7, locality: "Barcelona"},
	}},
}

// offerOf gives what a country has of a kind; nil when it has none.
func offerOf(country, kind string) *offer {
	i := slices.IndexFunc(offers, func(o offer) bool { return o.country == country && o.kind == kind })
	if i < 0 {
		return nil
	}
	return &offers[i]
}

// offered gives what an exact number is sold as; nil when it is none that could be bought here. Any valid number of
// a country that sells is for sale, whether a search has shown it or not.
func offered(number string) *offer {
	n, err := phonenumbers.Parse(number, "")
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return nil
	}
	return offerOf(phonenumbers.GetRegionCodeForNumber(n), kindOf(n))
}

// kindOf is the kind of a number as Twilio sells it.
func kindOf(n *phonenumbers.PhoneNumber) string {
	switch phonenumbers.GetNumberType(n) { //nolint:exhaustive // all others are not sold
	case phonenumbers.FIXED_LINE, phonenumbers.FIXED_LINE_OR_MOBILE:
		return kindLocal
	case phonenumbers.MOBILE:
		return kindMobile
	case phonenumbers.TOLL_FREE:
		return kindTollFree
	default:
		return ""
	}
}

// stocked is how many numbers an area has in stock: enough to choose from, few enough to look all of them through.
const stocked = 120

// inStock gives an area's numbers, always the same ones in the same order, those that were sold among them.
func (t *Twilio) inStock(o *offer, a area) []string {
	key := o.country + o.kind + a.prefix
	if found, ok := t.stock[key]; ok {
		return found
	}
	found := make([]string, 0, stocked)
	// An area that does not exist has no valid number, which a few dozen guesses show.
	for i := 0; len(found) < stocked && i < stocked*20 && (i < 60 || len(found) > 0); i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", key, i))
		tail := fmt.Sprintf("%0*d", a.tail, binary.BigEndian.Uint64(sum[:8])%pow10(a.tail))
		number := "+" + callingCodes[o.country] + a.prefix + tail
		if sold := offered(number); sold != nil && sold.country == o.country && sold.kind == o.kind && !slices.Contains(found, number) {
			found = append(found, number)
		}
	}
	t.stock[key] = found
	return found
}

func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// available is a number that can be bought; see
// https://www.twilio.com/docs/phone-numbers/api/availablephonenumberlocal-resource.
type available struct {
	FriendlyName        string       `json:"friendly_name"`
	PhoneNumber         string       `json:"phone_number"`
	LATA                *string      `json:"lata"`
	Locality            *string      `json:"locality"`
	RateCenter          *string      `json:"rate_center"`
	Latitude            *string      `json:"latitude"`
	Longitude           *string      `json:"longitude"`
	Region              *string      `json:"region"`
	PostalCode          *string      `json:"postal_code"`
	ISOCountry          string       `json:"iso_country"`
	AddressRequirements string       `json:"address_requirements"`
	Beta                bool         `json:"beta"`
	Capabilities        capabilities `json:"capabilities"`
}

// capabilities is what a number can do.
type capabilities struct {
	Fax   bool `json:"fax"`
	MMS   bool `json:"mms"`
	SMS   bool `json:"sms"`
	Voice bool `json:"voice"`
}

// searchNumbers is
// https://www.twilio.com/docs/phone-numbers/api/availablephonenumberlocal-resource#read-multiple-availablephonenumberlocal-resources
// and the same for the other kinds. Like at Twilio there is one page.
func searchNumbers(t *Twilio, _ *changes, in *asked) (any, error) {
	o := offerOf(in.country, in.sid)
	if o == nil {
		return nil, notFound(in.path)
	}
	if err := in.allow("AreaCode", "Contains", "InRegion", "InLocality", "PageSize", "SmsEnabled", "MmsEnabled", "VoiceEnabled",
		"ExcludeAllAddressRequired"); err != nil {
		return nil, err
	}
	size, err := in.pageSize()
	if err != nil {
		return nil, err
	}
	found, err := t.search(o, in, size)
	if err != nil {
		return nil, err
	}
	return map[string]any{"available_phone_numbers": found, "uri": in.path + "?" + in.form.Encode()}, nil
}

// search gives at most size numbers, of every area in turn.
func (t *Twilio) search(o *offer, in *asked, size int) ([]available, error) {
	areas, err := o.within(in)
	if err != nil {
		return nil, err
	}
	matches, err := containing(in.form.Get("Contains"))
	if err != nil {
		return nil, err
	}
	excluded, err := o.excluded(in)
	if err != nil || excluded {
		return []available{}, err
	}
	found := []available{}
	for i := range stocked {
		for _, a := range areas {
			numbers := t.inStock(o, a)
			if len(found) == size {
				return found, nil
			}
			if i < len(numbers) && t.owned[numbers[i]] == nil && matches(numbers[i]) {
				found = append(found, o.show(a, numbers[i]))
			}
		}
	}
	return found, nil
}

// within gives the areas that a search is about.
func (o *offer) within(in *asked) ([]area, error) {
	areas := o.areas
	code, region, locality := in.form.Get("AreaCode"), in.form.Get("InRegion"), in.form.Get("InLocality")
	if code != "" {
		if callingCodes[o.country] != "1" {
			return nil, twilioFail(codeInvalidParameter, "AreaCode is for the United States and Canada only.")
		}
		if !areaCode.MatchString(code) {
			return nil, twilioFail(codeInvalidParameter, "Invalid AreaCode: %s", code)
		}
		areas = slices.DeleteFunc(slices.Clone(areas), func(a area) bool { return a.prefix != code })
		if len(areas) == 0 {
			areas = plain(7, code)
		}
	}
	return slices.DeleteFunc(slices.Clone(areas), func(a area) bool {
		return (region != "" && !strings.EqualFold(a.region, region)) || (locality != "" && !strings.EqualFold(a.locality, locality))
	}), nil
}

var areaCode = regexp.MustCompile(`^[2-9][0-9]{2}$`)

// excluded says whether nothing of the offer can do what a search asks for.
func (o *offer) excluded(in *asked) (bool, error) {
	for name, has := range map[string]bool{
		"SmsEnabled": o.sms, "MmsEnabled": o.mms, "VoiceEnabled": true, "ExcludeAllAddressRequired": o.address == addressNone,
	} {
		switch v := strings.ToLower(in.form.Get(name)); {
		case v != "" && v != "true" && v != "false":
			return false, twilioFail(codeInvalidParameter, "Invalid %s: %s", name, v)
		case v == "true" && !has, v == "false" && has && name != "ExcludeAllAddressRequired":
			return true, nil
		}
	}
	return false, nil
}

var patternForm = regexp.MustCompile(`^\+?[0-9A-Za-z*%]{1,16}\$?$`)

// keypad are the digits that letters stand for.
const keypad = "22233344455566677778889999"

// containing reads a pattern of 2 to 16 characters: digits, letters for the digits of a keypad, * for any digit, % for
// any digits, + at the start and $ at the end for where the number begins and ends.
func containing(pattern string) (func(number string) bool, error) {
	if pattern == "" {
		return func(string) bool { return true }, nil
	}
	if len(pattern) < 2 || len(pattern) > 16 || !patternForm.MatchString(pattern) {
		return nil, twilioFail(codeInvalidParameter, "Invalid Contains: %s", pattern)
	}
	var b strings.Builder
	for i, r := range strings.ToUpper(pattern) {
		switch {
		case r == '+' && i == 0:
			b.WriteString(`^\+`)
		case r == '*':
			b.WriteString(`[0-9]`)
		case r == '%':
			b.WriteString(`[0-9]*`)
		case r >= 'A' && r <= 'Z':
			b.WriteByte(keypad[r-'A'])
		default:
			b.WriteRune(r) // a digit, or $
		}
	}
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, twilioFail(codeInvalidParameter, "Invalid Contains: %s", pattern)
	}
	return re.MatchString, nil
}

func (o *offer) show(a area, number string) available {
	known := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return available{
		FriendlyName: friendly(number), PhoneNumber: number, LATA: known(a.lata), Locality: known(a.locality),
		RateCenter: known(a.center), Latitude: known(a.latitude), Longitude: known(a.longitude), Region: known(a.region),
		PostalCode: known(a.postal), ISOCountry: o.country, AddressRequirements: o.address,
		Capabilities: capabilities{MMS: o.mms, SMS: o.sms, Voice: true},
	}
}

// friendly is a number as Twilio writes it for people: like (415) 555-2671 in North America, else as it is.
func friendly(number string) string {
	if n, err := phonenumbers.Parse(number, ""); err == nil && n.GetCountryCode() == 1 {
		return phonenumbers.Format(n, phonenumbers.NATIONAL)
	}
	return number
}
