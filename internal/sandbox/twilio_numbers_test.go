package sandbox_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyaruka/phonenumbers"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"
	numbers "github.com/twilio/twilio-go/rest/numbers/v2"

	"ringfence/internal/sandbox"
)

// subaccount is a subaccount with Twilio's client on its own credentials.
type subaccount struct {
	p          *phone
	sid, token string
	api        *openapi.ApiService
}

func (p *phone) subaccount(name string) *subaccount {
	p.t.Helper()
	a, err := p.sms.CreateAccount((&openapi.CreateAccountParams{}).SetFriendlyName(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return &subaccount{p: p, sid: *a.Sid, token: *a.AuthToken, api: p.twilioAPI(*a.Sid, *a.AuthToken, time.Minute)}
}

// buy buys a number, and gives it.
func (s *subaccount) buy(number string) string {
	s.p.t.Helper()
	n, err := s.api.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(number))
	if err != nil {
		s.p.t.Fatal(err)
	}
	return *n.PhoneNumber
}

// owned gives the numbers that Twilio lists for the account, oldest first.
func (s *subaccount) owned() []string {
	s.p.t.Helper()
	found, err := s.api.ListIncomingPhoneNumber(nil)
	if err != nil {
		s.p.t.Fatal(err)
	}
	out := []string{}
	for i := range found {
		out = append(out, *found[i].PhoneNumber)
	}
	slices.Reverse(out)
	return out
}

func (p *phone) searchLocal(country string, change ...func(*openapi.ListAvailablePhoneNumberLocalParams)) []openapi.ApiV2010AvailablePhoneNumberLocal {
	p.t.Helper()
	params := &openapi.ListAvailablePhoneNumberLocalParams{}
	for _, fn := range change {
		fn(params)
	}
	found, err := p.sms.ListAvailablePhoneNumberLocal(country, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

func TestSubaccounts(t *testing.T) {
	p := startTwilio(t)
	got, err := p.sms.CreateAccountWithMetadata((&openapi.CreateAccountParams{}).SetFriendlyName("Harbour Dental"))
	if err != nil || got.GetStatusCode() != http.StatusCreated {
		t.Fatalf("%v %d", err, got.GetStatusCode())
	}
	a := got.GetResource()
	if *a.FriendlyName != "Harbour Dental" || *a.OwnerAccountSid != testAccount || *a.Status != "active" || len(*a.AuthToken) != 32 ||
		*a.AuthToken == testToken || *a.Uri != "/2010-04-01/Accounts/"+*a.Sid+".json" || *a.Type != "Full" {
		t.Errorf("%+v", a)
	}
	sub := p.twilioAPI(*a.Sid, *a.AuthToken, time.Minute)
	for name, api := range map[string]*openapi.ApiService{"itself": sub, "its parent": p.sms} {
		if again, err := api.FetchAccount(*a.Sid); err != nil || *again.AuthToken != *a.AuthToken {
			t.Errorf("fetched by %s: %v", name, err)
		}
	}
	if _, err := sub.FetchAccount(testAccount); twilioError(t, err).Code != 20404 {
		t.Errorf("the parent, seen by the subaccount: %v", err)
	}
	if _, err := sub.CreateAccount(nil); twilioError(t, err).Status != http.StatusForbidden {
		t.Errorf("a subaccount of a subaccount: %v", err)
	}
	if _, err := p.sms.CreateAccount((&openapi.CreateAccountParams{}).SetFriendlyName(strings.Repeat("x", 65))); err == nil {
		t.Error("a name of 65 characters was taken")
	}
	if mine, err := sub.ListAccount(nil); err != nil || len(mine) != 1 || *mine[0].Sid != *a.Sid {
		t.Errorf("%v %+v", err, mine)
	}
	all, err := p.sms.ListAccount((&openapi.ListAccountParams{}).SetPageSize(1))
	if err != nil || len(all) != 2 || *all[0].Sid != *a.Sid || *all[1].Sid != testAccount {
		t.Errorf("%v %+v", err, all)
	}
	named, err := p.sms.ListAccount((&openapi.ListAccountParams{}).SetFriendlyName("Harbour Dental"))
	if err != nil || len(named) != 1 {
		t.Errorf("%v %+v", err, named)
	}
	if b := p.twilio.Books(); b.AccountRequests != (sandbox.Creations{Asked: 3, Made: 1}) || len(b.Accounts) != 2 {
		t.Errorf("%+v", b.AccountRequests)
	}
}

func TestAccountStatus(t *testing.T) {
	p := startTwilio(t)
	sub := p.subaccount("Harbour Dental")
	number := sub.buy("+14155552671")
	become := func(api *openapi.ApiService, status string) error {
		_, err := api.UpdateAccount(sub.sid, (&openapi.UpdateAccountParams{}).SetStatus(status))
		return err
	}
	if err := become(sub.api, "suspended"); twilioError(t, err).Status != http.StatusForbidden {
		t.Errorf("a subaccount suspends itself: %v", err)
	}
	if err := become(p.sms, "suspended"); err != nil {
		t.Fatal(err)
	}
	_, err := sub.api.FetchAccount(sub.sid)
	if e := twilioError(t, err); e.Code != 20403 || e.Status != http.StatusForbidden {
		t.Errorf("%+v", e)
	}
	_, err = p.sms.CreateMessage(message(handset, "x").SetFrom(number).SetPathAccountSid(sub.sid))
	if e := twilioError(t, err); e.Code != 20403 {
		t.Errorf("the parent in a suspended account: %+v", e)
	}
	if _, err := p.twilio.Receive(handset, number, "x"); err == nil {
		t.Error("a text came in to a suspended account")
	}
	if err := become(p.sms, "active"); err != nil {
		t.Fatal(err)
	}
	if got := sub.owned(); !slices.Equal(got, []string{number}) {
		t.Errorf("%v", got)
	}
	if err := become(p.sms, "closed"); err != nil {
		t.Fatal(err)
	}
	if b := p.twilio.Books(); len(b.Owned(sub.sid)) != 0 || b.Accounts[1].Status != "closed" || b.Accounts[1].Numbers != 0 {
		t.Errorf("%+v", b)
	}
	if err := become(p.sms, "active"); twilioError(t, err).Status != http.StatusBadRequest {
		t.Errorf("opened again: %v", err)
	}
	// Its number is for sale again.
	if got := p.subaccount("Another").buy(number); got != number {
		t.Error(got)
	}
	_, err = p.sms.UpdateAccount(testAccount, (&openapi.UpdateAccountParams{}).SetStatus("closed"))
	if twilioError(t, err).Status != http.StatusForbidden {
		t.Errorf("the parent closes itself: %v", err)
	}
}

func TestNumbersForSale(t *testing.T) {
	p := startTwilio(t)
	seen := map[string]bool{}
	for _, c := range []struct {
		country, kind, address string
		sms                    bool
	}{
		{"US", "Local", "none", true},
		{"US", "TollFree", "none", true},
		{"CA", "Local", "none", true},
		{"GB", "Local", "any", false},
		{"GB", "Mobile", "any", true},
		{"GB", "TollFree", "any", false},
		{"AU", "Local", "local", false},
		{"AU", "Mobile", "local", true},
		{"AU", "TollFree", "local", false},
		{"DE", "Local", "local", false},
		{"DE", "Mobile", "local", true},
		{"DE", "TollFree", "local", false},
		{"FR", "Local", "local", false},
		{"FR", "Mobile", "local", true},
		{"IE", "Local", "local", false},
		{"IE", "Mobile", "any", true},
		{"NL", "Local", "local", false},
		{"NL", "Mobile", "any", true},
		{"ES", "Local", "local", false},
	} {
		path := fmt.Sprintf("/2010-04-01/Accounts/%s/AvailablePhoneNumbers/%s/%s.json?PageSize=60", testAccount, c.country, c.kind)
		body := p.get(path, testAccount, testToken)
		found := decode[struct {
			Numbers []openapi.ApiV2010AvailablePhoneNumberLocal `json:"available_phone_numbers"`
		}](t, body).Numbers
		if len(found) != 60 {
			t.Errorf("%s %s: %d numbers", c.country, c.kind, len(found))
		}
		for i := range found {
			f := &found[i]
			n, err := phonenumbers.Parse(*f.PhoneNumber, "")
			if err != nil || !phonenumbers.IsValidNumberForRegion(n, c.country) || seen[*f.PhoneNumber] {
				t.Errorf("%s %s: %s: %v", c.country, c.kind, *f.PhoneNumber, err)
				continue
			}
			seen[*f.PhoneNumber] = true
			if *f.IsoCountry != c.country || *f.AddressRequirements != c.address || f.Capabilities.Sms != c.sms || !f.Capabilities.Voice {
				t.Errorf("%s %s: %+v", c.country, c.kind, f)
			}
		}
		if again := p.get(path, testAccount, testToken); again != body {
			t.Errorf("%s %s: another answer the second time", c.country, c.kind)
		}
	}
	for _, path := range []string{"XX/Local", "US/Mobile", "US/National", "us/Local"} {
		body := p.get("/2010-04-01/Accounts/"+testAccount+"/AvailablePhoneNumbers/"+path+".json", testAccount, testToken)
		if e := decode[struct{ Code, Status int }](t, body); e.Code != 20404 || e.Status != http.StatusNotFound {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestSearchFilters(t *testing.T) {
	p := startTwilio(t)
	type params = openapi.ListAvailablePhoneNumberLocalParams
	for name, c := range map[string]struct {
		country string
		set     func(*params)
		holds   func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool
		none    bool
	}{
		"area code": {"US", func(q *params) { q.SetAreaCode(312) }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool {
			return strings.HasPrefix(*n.PhoneNumber, "+1312") && *n.Locality == "Chicago" && *n.Region == "IL" && strings.HasPrefix(*n.FriendlyName, "(312) ")
		}, false},
		"an area code without a place": {"US", func(q *params) { q.SetAreaCode(650) }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool {
			return strings.HasPrefix(*n.PhoneNumber, "+1650") && n.Locality == nil
		}, false},
		"an area code that does not exist": {"US", func(q *params) { q.SetAreaCode(999) }, nil, true},
		"region":                           {"US", func(q *params) { q.SetInRegion("NY") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool { return *n.Region == "NY" }, false},
		"locality":                         {"GB", func(q *params) { q.SetInLocality("leeds") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool { return *n.Locality == "Leeds" }, false},
		"contains digits":                  {"GB", func(q *params) { q.SetContains("77") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool { return strings.Contains(*n.PhoneNumber, "77") }, false},
		"begins with": {"GB", func(q *params) { q.SetContains("+44161") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool {
			return strings.HasPrefix(*n.PhoneNumber, "+44161")
		}, false},
		"ends with letters": {"US", func(q *params) { q.SetContains("AB$") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool {
			return strings.HasSuffix(*n.PhoneNumber, "22")
		}, false},
		"a wildcard": {"US", func(q *params) { q.SetContains("+1415*1") }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool {
			return strings.HasPrefix(*n.PhoneNumber, "+1415") && (*n.PhoneNumber)[6] == '1'
		}, false},
		"texts":                {"US", func(q *params) { q.SetSmsEnabled(true).SetVoiceEnabled(true) }, func(n *openapi.ApiV2010AvailablePhoneNumberLocal) bool { return n.Capabilities.Sms }, false},
		"texts, of which none": {"GB", func(q *params) { q.SetSmsEnabled(true) }, nil, true},
		"no address":           {"GB", func(q *params) { q.SetExcludeAllAddressRequired(true) }, nil, true},
		"three":                {"CA", func(q *params) { q.SetPageSize(3) }, func(*openapi.ApiV2010AvailablePhoneNumberLocal) bool { return true }, false},
	} {
		found := p.searchLocal(c.country, c.set)
		if (len(found) == 0) != c.none || name == "three" && len(found) != 3 {
			t.Errorf("%s: %d found", name, len(found))
		}
		for i := range found {
			if !c.holds(&found[i]) {
				t.Errorf("%s: %s", name, *found[i].PhoneNumber)
			}
		}
	}
	for name, set := range map[string]func(*params){
		"an area code of Britain's": func(q *params) { q.SetAreaCode(161) },
		"a pattern of one":          func(q *params) { q.SetContains("1") },
		"a parameter not imitated":  func(q *params) { q.SetNearNumber("+14155552671") },
	} {
		q := &params{}
		set(q)
		if _, err := p.sms.ListAvailablePhoneNumberLocal("GB", q); twilioError(t, err).Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBuyAndRelease(t *testing.T) {
	p := startTwilio(t)
	sub := p.subaccount("Harbour Dental")
	chosen := *p.searchLocal("US")[0].PhoneNumber
	got, err := sub.api.CreateIncomingPhoneNumberWithMetadata((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(chosen).
		SetSmsUrl("https://shop.example/sms").SetVoiceUrl("https://shop.example/voice").SetStatusCallback("https://shop.example/status"))
	if err != nil || got.GetStatusCode() != http.StatusCreated {
		t.Fatalf("%v", err)
	}
	n := got.GetResource()
	if *n.PhoneNumber != chosen || *n.AccountSid != sub.sid || !strings.HasPrefix(*n.Sid, "PN") || len(*n.Sid) != 34 || *n.Status != "in-use" ||
		*n.SmsUrl != "https://shop.example/sms" || *n.VoiceUrl != "https://shop.example/voice" || !n.Capabilities.Sms || *n.Type != "local" ||
		*n.StatusCallback != "https://shop.example/status" || *n.AddressRequirements != "none" || n.AddressSid != nil {
		t.Errorf("%+v", n)
	}
	if again := *p.searchLocal("US")[0].PhoneNumber; again == chosen {
		t.Error("what was sold is for sale")
	}
	// Buying it again updates it: nothing is made.
	again, err := sub.api.CreateIncomingPhoneNumberWithMetadata((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(chosen).SetSmsUrl("").SetFriendlyName("Desk"))
	if err != nil || again.GetStatusCode() != http.StatusCreated {
		t.Fatal(err)
	}
	if m := again.GetResource(); *m.Sid != *n.Sid || *m.SmsUrl != "" || *m.VoiceUrl != *n.VoiceUrl || *m.FriendlyName != "Desk" {
		t.Errorf("%+v", m)
	}
	if b := p.twilio.Books(); b.Purchases != (sandbox.Creations{Asked: 2, Made: 1}) || len(b.Owned(sub.sid)) != 1 {
		t.Errorf("%+v %s", b.Purchases, b)
	}
	if _, err := p.sms.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(chosen)); twilioError(t, err).Code != 21422 {
		t.Errorf("sold twice: %v", err)
	}
	// It is found by its number alone, and changed by its SID.
	found, err := sub.api.ListIncomingPhoneNumber((&openapi.ListIncomingPhoneNumberParams{}).SetPhoneNumber(chosen))
	if err != nil || len(found) != 1 || *found[0].Sid != *n.Sid {
		t.Fatalf("%v %+v", err, found)
	}
	if found, err := p.sms.ListIncomingPhoneNumber((&openapi.ListIncomingPhoneNumberParams{}).SetPhoneNumber(chosen)); err != nil || len(found) != 0 {
		t.Errorf("the parent has it too: %v %+v", err, found)
	}
	changed, err := sub.api.UpdateIncomingPhoneNumber(*n.Sid, (&openapi.UpdateIncomingPhoneNumberParams{}).SetVoiceUrl("http://127.0.0.1/v"))
	if err != nil || *changed.VoiceUrl != "http://127.0.0.1/v" || *changed.FriendlyName != "Desk" {
		t.Errorf("%v %+v", err, changed)
	}
	for name, params := range map[string]*openapi.UpdateIncomingPhoneNumberParams{
		"a URL that is none":      (&openapi.UpdateIncomingPhoneNumberParams{}).SetSmsUrl("ftp://shop.example"),
		"a method":                (&openapi.UpdateIncomingPhoneNumberParams{}).SetSmsMethod("GET"),
		"what would be ignored":   (&openapi.UpdateIncomingPhoneNumberParams{}).SetTrunkSid("TK1"),
		"somebody else's address": (&openapi.UpdateIncomingPhoneNumberParams{}).SetAddressSid("AD1"),
	} {
		if _, err := sub.api.UpdateIncomingPhoneNumber(*n.Sid, params); twilioError(t, err).Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone, err := sub.api.DeleteIncomingPhoneNumberWithMetadata(*n.Sid, nil)
	if err != nil || gone.GetStatusCode() != http.StatusNoContent {
		t.Fatalf("%v %+v", err, gone)
	}
	if err := sub.api.DeleteIncomingPhoneNumber(*n.Sid, nil); twilioError(t, err).Status != http.StatusNotFound {
		t.Errorf("released twice: %v", err)
	}
	if _, err := sub.api.FetchIncomingPhoneNumber(*n.Sid, nil); twilioError(t, err).Code != 20404 {
		t.Errorf("%v", err)
	}
	if b := p.twilio.Books(); len(b.Owned(sub.sid)) != 0 || b.Numbers[1].Released.IsZero() || b.Numbers[1].Number != chosen {
		t.Errorf("%+v", b.Numbers)
	}
	if again := *p.searchLocal("US")[0].PhoneNumber; again != chosen {
		t.Error("what was released is not for sale")
	}
}

func TestNumbersThatCannotBeBought(t *testing.T) {
	p := startTwilio(t)
	for number, code := range map[string]int{
		"+15005550000": 21422, "+15005550001": 21421, "+447700900123": 21421, "07400123456": 21421, "": 21421,
		"+97150123456": 21421, "+971501234567": 21422, // valid, in a country that sells none
		"+447400123456": 21649, "+61480123456": 21649,
	} {
		params := &openapi.CreateIncomingPhoneNumberParams{}
		if number != "" {
			params.SetPhoneNumber(number)
		}
		_, err := p.sms.CreateIncomingPhoneNumber(params)
		if e := twilioError(t, err); e.Code != code || e.Status != http.StatusBadRequest {
			t.Errorf("%q: %+v, want %d", number, e, code)
		}
	}
	if _, err := p.sms.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetAreaCode("999")); twilioError(t, err).Code != 21452 {
		t.Errorf("%v", err)
	}
	got, err := p.sms.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetAreaCode("604"))
	if err != nil || !strings.HasPrefix(*got.PhoneNumber, "+1604") {
		t.Errorf("%v %+v", err, got)
	}
	if got, err := p.sms.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber("+15005550006")); err != nil || *got.PhoneNumber != ownNumber {
		t.Errorf("%v", err)
	}
	if b := p.twilio.Books(); len(b.Owned("")) != 2 || b.Purchases.Made != 1 {
		t.Errorf("%+v", b)
	}
}

func TestAddressesAndBundles(t *testing.T) {
	p := startTwilio(t)
	sub := p.subaccount("Harbour Dental")
	at := func(country string) string {
		a, err := sub.api.CreateAddress((&openapi.CreateAddressParams{}).SetCustomerName("Harbour Dental").SetStreet("1 Quay").
			SetCity("Leeds").SetRegion("Yorkshire").SetPostalCode("LS1 1AA").SetIsoCountry(country))
		if err != nil {
			t.Fatal(err)
		}
		return *a.Sid
	}
	buy := func(number string, set func(*openapi.CreateIncomingPhoneNumberParams)) error {
		params := (&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(number)
		set(params)
		_, err := sub.api.CreateIncomingPhoneNumber(params)
		return err
	}
	german := at("DE")
	if err := buy("+447400123456", func(q *openapi.CreateIncomingPhoneNumberParams) { q.SetAddressSid(german) }); err != nil {
		t.Errorf("any address: %v", err)
	}
	if err := buy("+61480123456", func(q *openapi.CreateIncomingPhoneNumberParams) { q.SetAddressSid(german) }); twilioError(t, err).Code != 21615 {
		t.Errorf("an address elsewhere: %v", err)
	}
	if err := buy("+61480123456", func(q *openapi.CreateIncomingPhoneNumberParams) { q.SetAddressSid("AD1") }); twilioError(t, err).Code != 21628 {
		t.Errorf("no address: %v", err)
	}
	if err := sub.api.DeleteAddress(german, nil); twilioError(t, err).Code != 21629 {
		t.Errorf("an address in use: %v", err)
	}
	if list, err := sub.api.ListAddress((&openapi.ListAddressParams{}).SetIsoCountry("DE")); err != nil || len(list) != 1 || *list[0].Sid != german {
		t.Errorf("%v %+v", err, list)
	}
	unused := at("GB")
	if err := sub.api.DeleteAddress(unused, nil); err != nil {
		t.Error(err)
	}
	if _, err := sub.api.FetchAddress(unused, nil); twilioError(t, err).Code != 20404 {
		t.Errorf("%v", err)
	}
	// A bundle has to be approved first; the control does it.
	rules := p.twilioClient(sub.sid, sub.token, time.Minute).NumbersV2
	b, err := rules.CreateBundle((&numbers.CreateBundleParams{}).SetFriendlyName("Harbour Dental").SetEmail("owner@harbour.example").SetIsoCountry("AU"))
	if err != nil || *b.Status != "draft" {
		t.Fatalf("%v %+v", err, b)
	}
	with := func(q *openapi.CreateIncomingPhoneNumberParams) { q.SetBundleSid(*b.Sid) }
	if b, err = rules.UpdateBundle(*b.Sid, (&numbers.UpdateBundleParams{}).SetStatus("pending-review")); err != nil || *b.Status != "pending-review" {
		t.Fatalf("%v %+v", err, b)
	}
	if err := buy("+61480123456", with); twilioError(t, err).Code != 21649 {
		t.Errorf("a bundle in review: %v", err)
	}
	if status, body := p.postForm("/sandbox/twilio/bundles/"+*b.Sid+"/approve", nil, ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if got, err := rules.FetchBundle(*b.Sid); err != nil || *got.Status != "twilio-approved" {
		t.Errorf("%v %+v", err, got)
	}
	if err := buy("+61480123456", with); err != nil {
		t.Errorf("an approved bundle: %v", err)
	}
	if err := buy("+4915730000001", with); twilioError(t, err).Code != 21649 {
		t.Errorf("a bundle for another country: %v", err)
	}
	if status, _ := p.postForm("/sandbox/twilio/bundles/BU1/reject", nil, ""); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
}

func TestMovingNumbers(t *testing.T) {
	p := startTwilio(t)
	one, two := p.subaccount("One"), p.subaccount("Two")
	number := one.buy("+14155552671")
	sid := p.twilio.Books().Owned(one.sid)[0].SID
	move := func(api *openapi.ApiService, to string) error {
		_, err := api.UpdateIncomingPhoneNumber(sid, (&openapi.UpdateIncomingPhoneNumberParams{}).SetPathAccountSid(one.sid).SetAccountSid(to))
		return err
	}
	if err := move(one.api, two.sid); twilioError(t, err).Status != http.StatusForbidden {
		t.Errorf("moved by the subaccount: %v", err)
	}
	if err := move(p.sms, otherSub); twilioError(t, err).Status != http.StatusBadRequest {
		t.Errorf("moved to nobody: %v", err)
	}
	if err := move(p.sms, two.sid); err != nil {
		t.Fatal(err)
	}
	if a, b := one.owned(), two.owned(); len(a) != 0 || !slices.Equal(b, []string{number}) {
		t.Errorf("%v, %v", a, b)
	}
	if _, err := one.api.FetchIncomingPhoneNumber(sid, nil); twilioError(t, err).Code != 20404 {
		t.Errorf("%v", err)
	}
	if b := p.twilio.Books().Owned(two.sid); len(b) != 1 || b[0].SID != sid {
		t.Errorf("%v", b)
	}
}

func TestTextsOfASubaccount(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t)
	sub := p.subaccount("Harbour Dental")
	number := sub.buy("+14155552671")
	h.trust(sub.token)
	own := p.twilio.Books().Owned(sub.sid)[0]
	if _, err := sub.api.UpdateIncomingPhoneNumber(own.SID, (&openapi.UpdateIncomingPhoneNumberParams{}).SetSmsUrl(h.at("/sms"))); err != nil {
		t.Fatal(err)
	}
	if c := p.answered(p.receive(handset, number, "hello")); c.State != "delivered" || c.URL != h.at("/sms") {
		t.Errorf("%+v, %d refused", c, h.refused())
	}
	if form := h.all()[0]; form.Get("AccountSid") != sub.sid || form.Get("To") != number {
		t.Errorf("%v", form)
	}
	m, err := sub.api.CreateMessage(message(handset, "x").SetFrom(number).SetStatusCallback(h.at("/status")))
	if err != nil {
		t.Fatal(err)
	}
	p.mark(*m.Sid, "delivered", 0)
	wait(t, "its callbacks", func() bool { return len(h.told(*m.Sid)) == 3 })
	if h.refused() != 0 {
		t.Errorf("%d signatures did not hold", h.refused())
	}
	// A number without texts neither sends nor receives.
	london, err := sub.api.CreateAddress((&openapi.CreateAddressParams{}).SetCustomerName("x").SetStreet("x").SetCity("x").SetRegion("x").SetPostalCode("x").SetIsoCountry("GB"))
	if err != nil {
		t.Fatal(err)
	}
	landline := *p.searchLocal("GB")[0].PhoneNumber
	if _, err := sub.api.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(landline).SetAddressSid(*london.Sid)); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.api.CreateMessage(message(handset, "x").SetFrom(landline)); twilioError(t, err).Code != 21606 {
		t.Errorf("%v", err)
	}
	if _, err := p.twilio.Receive(handset, landline, "x"); err == nil {
		t.Error("a text came in to a landline")
	}
}

func TestFaultsOfNumbers(t *testing.T) {
	p := startTwilio(t)
	buy := func(api *openapi.ApiService, number string) error {
		_, err := api.CreateIncomingPhoneNumber((&openapi.CreateIncomingPhoneNumberParams{}).SetPhoneNumber(number))
		return err
	}
	for i, c := range []struct {
		do   string
		code int
		made bool
	}{
		{sandbox.FaultTimeout, 0, false},
		{sandbox.FaultTimeoutAfterActing, 0, true},
		{sandbox.FaultCutAfterActing, 0, true},
		{sandbox.Fault500, 20500, false},
		{sandbox.Fault503, 20503, false},
		{sandbox.Fault500AfterActing, 20500, true},
		{sandbox.Fault429, 20429, false},
		{sandbox.FaultRefuse, 21422, false},
	} {
		rule := sandbox.Fault{Match: sandbox.BuyNumber, Do: c.do, MS: 1}
		if c.do == sandbox.FaultRefuse {
			rule.Code = c.code
		}
		p.faults(rule)
		number := fmt.Sprintf("+141555526%02d", i)
		err := buy(p.sms, number)
		if err == nil || c.code != 0 && twilioError(t, err).Code != c.code {
			t.Errorf("%s: %v", c.do, err)
		}
		found, err := p.sms.ListIncomingPhoneNumber((&openapi.ListIncomingPhoneNumberParams{}).SetPhoneNumber(number))
		if err != nil || (len(found) == 1) != c.made {
			t.Errorf("%s: %v, %d found", c.do, err, len(found))
		}
		// Whoever buys it again owns it once.
		if err := buy(p.sms, number); err != nil {
			t.Errorf("%s: %v", c.do, err)
		}
	}
	if b := p.twilio.Books(); b.Purchases != (sandbox.Creations{Asked: 16, Made: 8}) || len(b.Owned("")) != 9 {
		t.Errorf("%+v %s", b.Purchases, b)
	}
	sid := p.twilio.Books().Owned("")[8].SID
	p.faults(sandbox.Fault{Match: sandbox.ReleaseNumber, Do: sandbox.FaultCutAfterActing})
	if err := p.sms.DeleteIncomingPhoneNumber(sid, nil); err == nil {
		t.Error("answered")
	}
	if err := p.sms.DeleteIncomingPhoneNumber(sid, nil); twilioError(t, err).Status != http.StatusNotFound {
		t.Errorf("%v", err)
	}
	for match, ask := range map[string]func() error{
		sandbox.MakeAccount:   func() error { _, err := p.sms.CreateAccount(nil); return err },
		sandbox.ChangeAccount: func() error { _, err := p.sms.UpdateAccount(testAccount, nil); return err },
		sandbox.SearchNumbers: func() error { _, err := p.sms.ListAvailablePhoneNumberLocal("US", nil); return err },
		sandbox.ListNumbers:   func() error { _, err := p.sms.ListIncomingPhoneNumber(nil); return err },
		sandbox.ChangeNumber:  func() error { _, err := p.sms.UpdateIncomingPhoneNumber("PN1", nil); return err },
		sandbox.ReleaseNumber: func() error { return p.sms.DeleteIncomingPhoneNumber("PN1", nil) },
	} {
		p.faults(sandbox.Fault{Match: match, Do: sandbox.Fault429})
		if err := ask(); twilioError(t, err).Code != 20429 {
			t.Errorf("%s: %v", match, err)
		}
	}
}

func TestNumbersSurviveRestarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	ck := newClock()
	same := func(o *sandbox.Options) { o.StateFile, o.Now, o.TwilioSMSURL = file, ck.Now, "http://127.0.0.1:1/sms" }
	one := startTwilio(t, same)
	sub := one.subaccount("Harbour Dental")
	kept, gone := sub.buy("+14155552671"), sub.buy("+14155552672")
	if err := sub.api.DeleteIncomingPhoneNumber(one.twilio.Books().Owned(sub.sid)[1].SID, nil); err != nil {
		t.Fatal(err)
	}
	ck.Add(40 * 24 * time.Hour) // more than a month, less than two
	before := one.twilio.Books()
	if n := before.Numbers; n[1].Number != kept || n[1].Months != 2 || n[1].RentCents != 230 || n[2].Number != gone || n[2].Months != 1 || n[2].RentCents != 115 ||
		!n[0].Given || before.RentCents != 345 {
		t.Errorf("%+v", n)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two := startTwilio(t, same, func(o *sandbox.Options) { o.TwilioSMSURL = "http://127.0.0.1:2/sms" })
	after := two.twilio.Books()
	// The configured number's texts go where this run's configuration says; all else is as it was.
	if after.Numbers[0].SMSURL != "http://127.0.0.1:2/sms" || !slices.Equal(after.Numbers[1:], before.Numbers[1:]) ||
		!slices.Equal(after.Accounts, before.Accounts) || after.Purchases != before.Purchases {
		t.Errorf("before %+v, after %+v", before, after)
	}
	again := two.twilioAPI(sub.sid, sub.token, time.Minute)
	if found, err := again.ListIncomingPhoneNumber(nil); err != nil || len(found) != 1 {
		t.Errorf("%v %+v", err, found)
	}
}
