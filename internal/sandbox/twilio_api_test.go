package sandbox_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nyaruka/phonenumbers"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

func TestMessageAsTwilioMakesIt(t *testing.T) {
	p := startTwilio(t)
	got, err := p.sms.CreateMessageWithMetadata(message(handset, "Héllo {there}"))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetStatusCode() != http.StatusCreated {
		t.Errorf("status %d", got.GetStatusCode())
	}
	m := got.GetResource()
	if !regexp.MustCompile(`^SM[0-9a-f]{32}$`).MatchString(*m.Sid) {
		t.Errorf("sid %s", *m.Sid)
	}
	uri := "/2010-04-01/Accounts/" + testAccount + "/Messages/" + *m.Sid
	for name, pair := range map[string][2]string{
		"account_sid":  {*m.AccountSid, testAccount},
		"to":           {*m.To, handset},
		"from":         {*m.From, ownNumber},
		"body":         {*m.Body, "Héllo {there}"},
		"status":       {*m.Status, "queued"},
		"direction":    {*m.Direction, "outbound-api"},
		"num_segments": {*m.NumSegments, "1"},
		"num_media":    {*m.NumMedia, "0"},
		"price_unit":   {*m.PriceUnit, "USD"},
		"api_version":  {*m.ApiVersion, "2010-04-01"},
		"uri":          {*m.Uri, uri + ".json"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
	if m.Price != nil || m.ErrorCode != nil || m.ErrorMessage != nil || m.DateSent != nil || m.MessagingServiceSid != nil {
		t.Errorf("not null at first: %+v", m)
	}
	if created, err := time.Parse(time.RFC1123Z, *m.DateCreated); err != nil || time.Since(created) > time.Hour {
		t.Errorf("date_created %s", *m.DateCreated)
	}
	if !strings.HasSuffix(*m.DateUpdated, "+0000") || (*m.SubresourceUris)["media"] != uri+"/Media.json" {
		t.Errorf("%s %v", *m.DateUpdated, *m.SubresourceUris)
	}
	if again := p.fetch(*m.Sid); *again.Body != *m.Body || *again.Uri != *m.Uri {
		t.Errorf("%+v", again)
	}
	// What is null is there, and null.
	body := p.get("/2010-04-01/Accounts/"+testAccount+"/Messages/"+*m.Sid+".json", testAccount, testToken)
	for _, name := range []string{"price", "error_code", "error_message", "date_sent", "messaging_service_sid"} {
		if !strings.Contains(body, `"`+name+`": null`) {
			t.Errorf("%s is not null in %s", name, body)
		}
	}
}

// get asks the API as curl would.
func (p *phone) get(path, account, token string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.URL()+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.SetBasicAuth(account, token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return read(p.t, resp)
}

func TestMessageErrors(t *testing.T) {
	p := startTwilio(t)
	for _, c := range []struct {
		name           string
		from, to, body string
		code           int
	}{
		{"no to", ownNumber, "", "x", 21604},
		{"no from", "", handset, "x", 21603},
		{"no body", ownNumber, handset, "", 21602},
		{"1601 characters", ownNumber, handset, strings.Repeat("é", 1601), 21617},
		{"to is no number", ownNumber, "07400123456", "x", 21211},
		{"to is invalid", ownNumber, "+15005550001", "x", 21211},
		{"to is unroutable", ownNumber, "+15005550002", "x", 21612},
		{"to is in a region without permission", ownNumber, "+15005550003", "x", 21408},
		{"to has opted out", ownNumber, "+15005550004", "x", 21610},
		{"to is not mobile", ownNumber, "+15005550009", "x", 21614},
		{"from is not capable", "+15005550007", handset, "x", 21606},
		{"from is invalid", "+15005550001", handset, "x", 21212},
		{"from has a full queue", "+15005550008", handset, "x", 21611},
		{"from is no number", "Harbour", handset, "x", 21212},
		{"from is somebody's", "+447400123998", handset, "x", 21659},
		{"to itself", ownNumber, ownNumber, "x", 21266},
	} {
		params := &openapi.CreateMessageParams{}
		if c.from != "" {
			params.SetFrom(c.from)
		}
		if c.to != "" {
			params.SetTo(c.to)
		}
		if c.body != "" {
			params.SetBody(c.body)
		}
		_, err := p.sms.CreateMessage(params)
		e := twilioError(t, err)
		if e.Code != c.code || e.Status != http.StatusBadRequest || e.Message == "" || !strings.Contains(e.MoreInfo, "/errors/2") {
			t.Errorf("%s: %+v, want %d", c.name, e, c.code)
		}
	}
	_, err := p.sms.CreateMessage(message(handset, "x").SetStatusCallback("ftp://shop.example/x"))
	if e := twilioError(t, err); e.Code != 21609 {
		t.Errorf("%+v", e)
	}
	_, err = p.sms.CreateMessage(message(handset, "x").SetMediaUrl([]string{"https://shop.example/a.png"}))
	if e := twilioError(t, err); e.Code != 20001 || e.Status != http.StatusBadRequest {
		t.Errorf("a parameter that would be ignored: %+v", e)
	}
	_, err = p.sms.FetchMessage("SM00000000000000000000000000000000", nil)
	if e := twilioError(t, err); e.Code != 20404 || e.Status != http.StatusNotFound {
		t.Errorf("%+v", e)
	}
	err = p.sms.DeleteMessage(p.send(message(handset, strings.Repeat("é", 1600))), nil)
	if e := twilioError(t, err); e.Code != 20004 || e.Status != http.StatusMethodNotAllowed {
		t.Errorf("%+v", e)
	}
	if _, err = p.sms.FetchApplication("AP00000000000000000000000000000000", nil); twilioError(t, err).Code != 20404 {
		t.Errorf("what is not imitated: %v", err)
	}
	if books := p.twilio.Books(); len(books.Messages) != 1 || books.Creations.Made != 1 || books.Creations.Asked != 19 {
		t.Errorf("%s", books)
	}
}

func TestTwilioCredentials(t *testing.T) {
	p := startTwilio(t)
	sid := p.send(message(handset, "x"))
	for name, c := range map[string][2]string{
		"wrong token":            {testAccount, strings.Repeat("0", 32)},
		"not an account":         {"SK00112233445566778899aabbccddeeff", testToken},
		"a key of Stripe's":      {"sktest", "x"},
		"nobody":                 {"", ""},
		"an account that is cut": {testAccount[:20], testToken},
	} {
		_, err := p.twilioAPI(c[0], c[1], time.Minute).FetchMessage(sid, (&openapi.FetchMessageParams{}).SetPathAccountSid(testAccount))
		if e := twilioError(t, err); e.Code != 20003 || e.Status != http.StatusUnauthorized {
			t.Errorf("%s: %+v", name, e)
		}
	}
	_, err := p.twilioAPI(otherSub, testToken, time.Minute).CreateMessage(message(handset, "x"))
	if e := twilioError(t, err); e.Code != 20003 {
		t.Errorf("an account nobody made: %+v", e)
	}
	// A subaccount has messages of its own, which the configured account sees as its parent.
	sub := p.subaccount("Harbour Dental")
	number := sub.buy("+14155552671")
	m, err := sub.api.CreateMessage(message(handset, "of the other").SetFrom(number))
	if err != nil || *m.AccountSid != sub.sid {
		t.Fatalf("%v %+v", err, m)
	}
	if got, err := p.sms.FetchMessage(*m.Sid, (&openapi.FetchMessageParams{}).SetPathAccountSid(sub.sid)); err != nil || *got.Sid != *m.Sid {
		t.Errorf("the parent: %v", err)
	}
	if _, err := p.sms.FetchMessage(*m.Sid, nil); twilioError(t, err).Code != 20404 {
		t.Errorf("another account's message: %v", err)
	}
	_, err = sub.api.FetchMessage(sid, (&openapi.FetchMessageParams{}).SetPathAccountSid(testAccount))
	if e := twilioError(t, err); e.Code != 20003 {
		t.Errorf("the parent's message: %+v", e)
	}
	// Nobody sends from a number of another account, not even of the parent.
	if _, err = sub.api.CreateMessage(message(handset, "x")); twilioError(t, err).Code != 21659 {
		t.Errorf("from the parent's number: %v", err)
	}
	if _, err = p.sms.CreateMessage(message(handset, "x").SetFrom(number)); twilioError(t, err).Code != 21659 {
		t.Errorf("from the subaccount's number: %v", err)
	}
	if got := p.list(nil); !slices.Equal(got, []string{sid}) {
		t.Errorf("%v", got)
	}
}

// Each stand-in has its own credentials: neither answers for the other.
func TestStandInsAreApart(t *testing.T) {
	p := startTwilio(t)
	if body := p.get("/v1/events", testAccount, testToken); !strings.Contains(body, "Invalid API Key") {
		t.Errorf("Stripe takes Twilio's credentials: %s", body)
	}
	if body := p.get("/2010-04-01/Accounts/"+testAccount+"/Messages.json", testKey, ""); !strings.Contains(body, "20003") {
		t.Errorf("Twilio takes Stripe's key: %s", body)
	}
	off := start(t)
	if off.Twilio() != nil {
		t.Error("Twilio is on without an account")
	}
	for _, path := range []string{"/2010-04-01/Accounts/" + testAccount + "/Messages.json", "/sandbox/twilio/", "/sandbox/twilio/books"} {
		if status, _, _ := off.page(path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	// A client that leaves the name of Twilio's host in the request is a page that was tricked, for all we know.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL()+"/2010-04-01/Accounts/"+testAccount+"/Messages.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "api.twilio.com"
	req.SetBasicAuth(testAccount, testToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("foreign host: %d", resp.StatusCode)
	}
	// A page of another site cannot send texts through the developer's browser.
	form := strings.NewReader("from=%2B447400123456&to=%2B15005550006&body=x")
	if req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+"/sandbox/twilio/inbound", form); err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://evil.example")
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if resp.StatusCode != http.StatusForbidden || len(p.twilio.Books().Messages) != 0 {
		t.Errorf("cross-origin: %d", resp.StatusCode)
	}
}

func TestTwilioOptionsThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*sandbox.Options){
		"account": func(o *sandbox.Options) { o.TwilioAccountSID = "AC1" },
		"token":   func(o *sandbox.Options) { o.TwilioAuthToken = "" },
		"spaces":  func(o *sandbox.Options) { o.TwilioAuthToken = "a b" },
		"number":  func(o *sandbox.Options) { o.TwilioNumbers = []string{"07400123456"} },
	} {
		o := sandbox.Options{Addr: ":0", StateFile: t.TempDir() + "/s"}
		withTwilio(&o)
		change(&o)
		if s, err := sandbox.Start(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			s.Close()
		}
	}
}

func TestNumbersOfTheSandbox(t *testing.T) {
	for _, n := range []string{sandbox.NumberUndelivered, sandbox.NumberFailed, sandbox.NumberSilent, ownNumber} {
		number, err := phonenumbers.Parse(n, "")
		if err != nil {
			t.Fatal(err)
		}
		if n != ownNumber && (!phonenumbers.IsValidNumber(number) || phonenumbers.GetNumberType(number) != phonenumbers.MOBILE ||
			phonenumbers.GetRegionCodeForNumber(number) != "GB") {
			t.Errorf("%s is not a valid UK mobile number", n)
		}
	}
}

func TestSegments(t *testing.T) {
	p := startTwilio(t)
	for _, c := range []struct {
		name, body, want string
	}{
		{"160 septets", strings.Repeat("a", 160), "1"},
		{"161 septets", strings.Repeat("a", 161), "2"},
		{"306 septets", strings.Repeat("a", 306), "2"},
		{"307 septets", strings.Repeat("a", 307), "3"},
		{"80 euros of two septets", strings.Repeat("€", 80), "1"},
		{"81 euros", strings.Repeat("€", 81), "2"},
		{"euros are not split: 76 to a part", strings.Repeat("€", 153), "3"},
		{"70 units", strings.Repeat("ж", 70), "1"},
		{"71 units", strings.Repeat("ж", 71), "2"},
		{"134 units", strings.Repeat("ж", 134), "2"},
		{"135 units", strings.Repeat("ж", 135), "3"},
		{"35 emoji of two units", strings.Repeat("😀", 35), "1"},
		{"emoji are not split: 33 to a part", strings.Repeat("😀", 67), "3"},
		{"one typographic quote", strings.Repeat("a", 70) + "’", "2"},
	} {
		if m := p.fetch(p.send(message(handset, c.body))); *m.NumSegments != c.want {
			t.Errorf("%s: %s segments, want %s", c.name, *m.NumSegments, c.want)
		}
	}
}

func TestMessageLists(t *testing.T) {
	ck := newClock()
	day := ck.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	ck.Add(day.Sub(ck.Now()))
	p := startTwilio(t, func(o *sandbox.Options) { o.Now, o.TwilioNumbers = ck.Now, []string{ownNumber, ukNumber} })
	var sids []string // newest first
	for i := range 5 {
		params := message(handset, "x")
		if i == 3 {
			params.SetTo("+447400123457")
		}
		if i == 4 {
			params.SetFrom(ukNumber)
		}
		sid := p.send(params)
		if i != 0 { // the first one is never sent
			if err := p.twilio.Mark(sid, "delivered", 0); err != nil {
				t.Fatal(err)
			}
		}
		sids = slices.Insert(sids, 0, sid)
		ck.Add(24 * time.Hour)
	}
	sent := func(i int) time.Time { return day.AddDate(0, 0, i) }
	filter := func() *openapi.ListMessageParams { return &openapi.ListMessageParams{} }
	for name, c := range map[string]struct {
		params *openapi.ListMessageParams
		want   []string
	}{
		"all":                     {filter(), sids},
		"by two":                  {filter().SetPageSize(2), sids},
		"at most three, by two":   {filter().SetPageSize(2).SetLimit(3), sids[:3]},
		"to":                      {filter().SetTo("+447400123457"), sids[1:2]},
		"from":                    {filter().SetFrom(ukNumber), sids[:1]},
		"to and from":             {filter().SetTo(handset).SetFrom(ownNumber).SetPageSize(1), sids[2:]},
		"to nobody":               {filter().SetTo("+447400123000"), nil},
		"on a day":                {filter().SetDateSent(sent(1).Add(5 * time.Hour)), sids[3:4]},
		"since, included":         {filter().SetDateSentAfter(sent(2)).SetPageSize(1), sids[:3]},
		"since a second later":    {filter().SetDateSentAfter(sent(2).Add(time.Second)), sids[:2]},
		"until, included":         {filter().SetDateSentBefore(sent(2)), sids[2:4]},
		"between":                 {filter().SetDateSentAfter(sent(2)).SetDateSentBefore(sent(3)), sids[1:3]},
		"since before everything": {filter().SetDateSentAfter(day.AddDate(0, 0, -9)), sids[:4]},
	} {
		if got := p.list(c.params); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
			t.Errorf("%s: %v, want %v of %v", name, got, c.want, sids)
		}
	}
	// Whole days, as curl writes them.
	path := "/2010-04-01/Accounts/" + testAccount + "/Messages.json?"
	for query, want := range map[string][]string{
		"DateSent=" + sent(1).Format(time.DateOnly):      sids[3:4],
		"DateSent%3E=" + sent(3).Format(time.DateOnly):   sids[:2],
		"DateSent<=" + sent(2).Format(time.DateOnly):     sids[2:4],
		"DateSent%3C%3D" + sent(2).Format(time.DateOnly): {"20001"},
	} {
		body := p.get(path+query, testAccount, testToken)
		for _, sid := range sids {
			if strings.Contains(body, sid) != slices.Contains(want, sid) {
				t.Errorf("%s: %s, want %v", query, body, want)
			}
		}
	}
}

func TestPagingEnvelope(t *testing.T) {
	p := startTwilio(t)
	var sids []string
	for range 5 {
		sids = slices.Insert(sids, 0, p.send(message(handset, "x")))
	}
	size := (&openapi.ListMessageParams{}).SetPageSize(2).SetTo(handset)
	first, err := p.sms.PageMessage(size, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if first.Page != 0 || first.PageSize != 2 || first.Start != 0 || first.End != 1 || first.PreviousPageUri != nil ||
		first.FirstPageUri != first.Uri || first.NextPageUri == nil {
		t.Fatalf("%+v", first)
	}
	// A message that comes meanwhile moves no page.
	p.send(message(handset, "later"))
	next, err := url.Parse(*first.NextPageUri)
	if err != nil || next.Query().Get("To") != handset || !strings.HasPrefix(*first.NextPageUri, "/2010-04-01/Accounts/"+testAccount+"/Messages.json?") {
		t.Fatalf("%s", *first.NextPageUri)
	}
	token := next.Query().Get("PageToken")
	if token != "PA"+sids[1] {
		t.Errorf("token %s", token)
	}
	second, err := p.sms.PageMessage(size, token, next.Query().Get("Page"))
	if err != nil || second.Page != 1 || second.Start != 2 || second.End != 3 || second.PreviousPageUri == nil ||
		*second.Messages[0].Sid != sids[2] || *second.Messages[1].Sid != sids[3] {
		t.Fatalf("%v %+v", err, second)
	}
	last, err := url.Parse(*second.NextPageUri)
	if err != nil {
		t.Fatal(err)
	}
	third, err := p.sms.PageMessage(size, last.Query().Get("PageToken"), "2")
	if err != nil || len(third.Messages) != 1 || third.NextPageUri != nil || third.Start != 4 || third.End != 4 {
		t.Fatalf("%v %+v", err, third)
	}
	back, err := url.Parse(*second.PreviousPageUri)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.sms.PageMessage(size, back.Query().Get("PageToken"), "0")
	if err != nil || *again.Messages[0].Sid != sids[0] || *again.Messages[1].Sid != sids[1] {
		t.Errorf("%v %+v", err, again)
	}
	for name, c := range map[string]struct {
		params      *openapi.ListMessageParams
		token, page string
		code        int
	}{
		"a page without its token":  {size, "", "1", 21481},
		"a token that is none":      {size, "PASM1", "1", 21481},
		"a token of something else": {size, "XX" + sids[0], "1", 21481},
		"a page that is too large":  {(&openapi.ListMessageParams{}).SetPageSize(1001), "", "", 20007},
		"a page of nothing":         {(&openapi.ListMessageParams{}).SetPageSize(0), "", "", 20422},
	} {
		_, err := p.sms.PageMessage(c.params, c.token, c.page)
		if e := twilioError(t, err); e.Code != c.code || e.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
