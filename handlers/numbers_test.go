package handlers_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/config"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
	"ringfence/views"
)

// keyset is one of Tink's, made anew.
func (s *site) keyset() []byte {
	s.t.Helper()
	keyset, err := config.NewKeyset("")
	if err != nil {
		s.t.Fatal(err)
	}
	binary, err := base64.StdEncoding.DecodeString(keyset)
	if err != nil {
		s.t.Fatal(err)
	}
	return binary
}

// newNumbers puts the site's numbers together; base is where Twilio's stand-in is, empty where there is none.
func (s *site) newNumbers(gates *wallet.Gates, jobs telephony.JobInserter, log *slog.Logger, base string) *telephony.Numbers {
	s.t.Helper()
	var err error
	if s.vault, err = telephony.NewVault(s.keyset()); err != nil {
		s.t.Fatal(err)
	}
	o := telephony.NumbersOptions{DB: s.db, Gates: gates, Jobs: jobs, Vault: s.vault, Log: log, Now: time.Now, BaseURL: "http://127.0.0.1:8080"}
	if base != "" {
		o.AccountSID, o.AuthToken, o.TwilioBase, o.VapiKey, o.VapiBase = twilioAccount, twilioToken, base, vapiKey, base+"/vapi"
	}
	n, err := telephony.NewNumbers(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// forSale is a number that can be bought.
func (s *site) forSale() string {
	s.t.Helper()
	found, err := s.numbers.Search(s.t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "US", Type: telephony.Local})
	if err != nil || len(found.List) == 0 {
		s.t.Fatalf("%d numbers for sale: %v", len(found.List), err)
	}
	return found.List[0].PhoneNumber
}

// ready does what the queue would, step by step, until the number has nothing to do.
func (s *site) ready(org uuid.UUID, id string) telephony.Number {
	s.t.Helper()
	at := uuid.MustParse(id)
	for range 12 {
		if err := s.numbers.Advance(s.t.Context(), org, at); err != nil {
			s.t.Fatal(err)
		}
		n, err := s.numbers.Number(s.t.Context(), org, at)
		if err != nil {
			s.t.Fatal(err)
		}
		if n.Step == "" {
			return n
		}
	}
	n, _ := s.numbers.Number(s.t.Context(), org, at)
	return n
}

// booksAgree checks the wallets' books and the numbers'.
func (s *site) numberBooks() {
	s.t.Helper()
	wallettest.CheckBooks(s.t, s.db, telephony.Invariants...)
}

// buyForm is the form of the page that asks whether to buy.
func buyForm(t *testing.T, page reply) url.Values {
	t.Helper()
	form := url.Values{}
	for _, name := range []string{"key", "phone_number", "country", "purchase", "monthly"} {
		form.Set(name, page.doc(t).Find(`form[action="/numbers"] input[name="`+name+`"]`).AttrOr("value", ""))
	}
	return form
}

func buyPath(number, country string) string {
	return "/numbers/buy?" + url.Values{"number": {number}, "country": {country}}.Encode()
}

// A number is found, asked about with what it costs and what is left, bought exactly, shown step by step, and released with
// its digits typed.
func TestNumberPages(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	wantText(t, "no numbers", b.get("/numbers"), "#numbers", "No numbers yet")
	found := b.get("/numbers?find=1&country=US&area=415")
	wantText(t, "what is for sale", found, "#results", "numbers found", "£10.00", "$12.66", "£1.19", "a month", "San Francisco", "Choose")
	shown := found.doc(t).Find("#results li .figures").First().Text()
	if !strings.HasPrefix(shown, "+1 415-") {
		t.Fatalf("the first number is %q", shown)
	}
	number := strings.NewReplacer(" ", "", "-", "").Replace(shown)
	ask := b.get(buyPath(number, "US"))
	wantText(t, "the question", ask, "main", shown, "£10.00", "Left afterwards", "£559.00", "Buy for £10.00")
	form := buyForm(t, ask)
	res := b.send(buyPath(number, "US"), "/numbers", form)
	wantStatus(t, "buying", res, http.StatusSeeOther)
	to := res.Header.Get("Location")
	again := b.send(buyPath(number, "US"), "/numbers", form)
	if again.Header.Get("Location") != to || s.count(`SELECT count(*) FROM numbers`) != 1 {
		t.Errorf("the form twice leads to %q and %q, with %d numbers", to, again.Header.Get("Location"), s.count(`SELECT count(*) FROM numbers`))
	}
	page := b.get(to)
	wantText(t, "being bought", page, "#number-state", "Being bought", "£10.00 is set aside")
	wantText(t, "the steps", page, "#steps", "Buy exactly this number: to come")
	if !strings.Contains(page.body, `<noscript><meta http-equiv="refresh"`) {
		t.Error("without scripts the page does not refresh")
	}
	seen := page.doc(t).Find("[data-state]").AttrOr("hx-get", "")
	wantStatus(t, "nothing new", b.get(seen, "HX-Request", "true"), http.StatusNoContent)
	id := strings.TrimPrefix(to, "/numbers/")
	n := s.ready(s.org, id)
	if n.State != telephony.NumberActive || n.PhoneNumber != number {
		t.Fatalf("%s is %s: %s", n.PhoneNumber, n.State, n.Note)
	}
	fresh := b.get(seen, "HX-Request", "true")
	wantText(t, "the live part", fresh, "body", "Active", "It is ready to be used")
	page = b.get(to)
	wantText(t, "the number", page, "main", "Next rent", "No agent", "Release this number")
	wantText(t, "what was paid", page, "#entries", "-£10.00")
	wantText(t, "the history", page, "#history", "Ordered by you", "Bought at Twilio by Ringfence", "Activated and paid for")
	wantText(t, "the list", b.get("/numbers"), "#numbers", shown, "Active", "£1.19")
	dbtest.Super(t, s.dbURL, `INSERT INTO agents (id, org_id, name, number_id, created_at, updated_at) VALUES (gen_random_uuid(), $1, 'Reception', $2, now(), now())`, s.org, n.ID)
	release := to + "/release"
	wantText(t, "the question", b.get(release), "main", "Reception", "£0.00", "Paid until")
	wrong := b.send(release, release, url.Values{"confirm": {"0000 no"}})
	wantStatus(t, "the wrong digits", wrong, http.StatusUnprocessableEntity)
	wantText(t, "the wrong digits", wrong, "#confirm-error", "not the last four digits")
	res = b.send(release, release, url.Values{"confirm": {number[len(number)-4:]}})
	wantStatus(t, "releasing", res, http.StatusSeeOther)
	wantText(t, "being released", b.get(to), "main", "Being released", "Nobody can use it any more", "No agent")
	if n = s.ready(s.org, id); n.State != telephony.NumberReleased {
		t.Fatalf("it is %s at %s: %s", n.State, n.Step, n.Note)
	}
	wantText(t, "released", b.get(to), "main", "Released", "It was given back")
	wantText(t, "nothing to release", b.get(release), "main", "There is nothing to release")
	if got := s.balance(); got != 559_00 {
		t.Errorf("the balance is %d", got)
	}
	s.numberBooks()
}

// What is refused is said, and nothing is bought or charged by it.
func TestNumberPagesRefuse(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	number := s.forSale()
	for _, c := range []struct {
		what, query, where, says string
		status                   int
	}{
		{"an unknown country", "country=ZZ", "#search", "no country ZZ", 422},
		{"no area code", "country=US&area=41", "#area-error", "three digits", 422},
		{"an area code elsewhere", "country=GB&area=415", "#area-error", "United States and Canada", 422},
		{"a pattern", "country=US&contains=%3C", "#contains-error", "2 to 15", 422},
		{"a type", "country=US&type=fax", "#search", "Choose local", 422},
		{"nothing found", "country=IS", "#results", "Nothing for sale", 200},
	} {
		res := b.get("/numbers?find=1&" + c.query)
		wantStatus(t, c.what, res, c.status)
		wantText(t, c.what, res, c.where, c.says)
	}
	found, err := s.numbers.Search(t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "GB"})
	if err != nil || len(found.List) == 0 {
		t.Fatal(err)
	}
	res := b.get(buyPath(found.List[0].PhoneNumber, "GB"))
	wantStatus(t, "a country that wants an address", res, http.StatusUnprocessableEntity)
	wantText(t, "a country that wants an address", res, "#not-bought", "asks for an address", "Nothing was charged")
	if res.doc(t).Find("#buy").Length() != 0 {
		t.Error("it can be bought all the same")
	}
	wantStatus(t, "no number", b.get(buyPath("12", "US")), http.StatusNotFound)

	form := buyForm(t, b.get(buyPath(number, "US")))
	form.Set("purchase", "999")
	res = b.send("/numbers", "/numbers", form)
	wantStatus(t, "another price", res, http.StatusConflict)
	wantText(t, "another price", res, "#price-changed", "The price has changed since it was shown")
	wantText(t, "another price", res, "#costs", "£10.00")

	poor := s.as("owner@second.example")
	wantText(t, "an empty wallet", poor.get(buyPath(number, "US")), "main", "Missing", "£10.00", "Top up")
	form = buyForm(t, poor.get(buyPath(number, "US")))
	res = poor.send("/numbers", "/numbers", form)
	wantStatus(t, "an empty wallet", res, http.StatusPaymentRequired)
	wantText(t, "an empty wallet", res, "#unpaid", "Top up at least £10.00", "Nothing was bought")
	if s.count(`SELECT count(*) FROM numbers`)+s.count(`SELECT count(*) FROM holds`) != 0 {
		t.Error("something was ordered")
	}

	form = buyForm(t, b.get(buyPath(number, "US")))
	if _, err := s.numbers.Buy(t.Context(), telephony.BuyRequest{OrgID: s.org, PhoneNumber: number, Key: "faster", Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	res = b.send("/numbers", "/numbers", form)
	wantStatus(t, "sold meanwhile", res, http.StatusConflict)
	wantText(t, "sold meanwhile", res, "#not-bought", "Nothing was charged")

	looks := s.as("viewer@harbour.example")
	page := looks.get("/numbers")
	wantText(t, "a viewer", page, "#numbers", views.PhoneText(number))
	if page.doc(t).Find("#search form").Length() != 0 {
		t.Error("a viewer can look for a number")
	}
	s.numberBooks()
}

// Own credentials are added, tested, replaced and removed; the token is never shown again.
func TestCredentialPages(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	wantText(t, "nothing yet", b.get("/credentials"), "main", "It is made with the first number", "Twilio bills you")
	sid, token := s.subaccount("A customer's own")
	for field, form := range map[string]url.Values{
		"account_sid": {"account_sid": {"AC1"}, "auth_token": {token}},
		"auth_token":  {"account_sid": {sid}, "auth_token": {strings.Repeat("0", 32)}},
	} {
		res := b.send("/credentials", "/credentials", form)
		wantStatus(t, field, res, http.StatusUnprocessableEntity)
		if res.doc(t).Find("#"+field+"-error").Text() == "" || strings.Contains(res.body, form.Get("auth_token")) {
			t.Errorf("%s: no word beside it, or the token is shown", field)
		}
	}
	wantStatus(t, "saving", b.send("/credentials", "/credentials", url.Values{"account_sid": {sid}, "auth_token": {token}}), http.StatusSeeOther)
	page := b.get("/credentials?done=saved")
	wantText(t, "saved", page, "#own", sid, "ends in "+token[len(token)-4:], "Working", "bought in our account")
	if strings.Contains(page.body, token) {
		t.Error("the token is on the page")
	}
	res := b.send("/credentials", "/credentials/test", url.Values{})
	if res.Header.Get("Location") != "/credentials?done=working" {
		t.Errorf("testing leads to %q (%s)", res.Header.Get("Location"), res.Status)
	}
	wantStatus(t, "the mode", b.send("/credentials", "/credentials/mode", url.Values{"mode": {"byoc"}}), http.StatusSeeOther)
	wantText(t, "the mode", b.get("/credentials"), "#own", "in your own account")
	wantText(t, "what it costs there", b.get("/numbers?find=1&country=US"), "#results", "Twilio bills you, we charge nothing")
	wantStatus(t, "no mode", b.send("/credentials", "/credentials/mode", url.Values{"mode": {"x"}}), http.StatusUnprocessableEntity)

	ask := b.get(buyPath(s.forSale(), "US"))
	wantText(t, "the question", ask, "main", "Buy it in my Twilio account")
	res = b.send("/credentials", "/numbers", buyForm(t, ask))
	wantStatus(t, "buying there", res, http.StatusSeeOther)
	id := strings.TrimPrefix(res.Header.Get("Location"), "/numbers/")
	if n := s.ready(s.org, id); n.State != telephony.NumberActive || n.AccountSID.String != sid {
		t.Fatalf("%s in %s: %s", n.State, n.AccountSID.String, n.Note)
	}
	if b.get("/credentials").doc(t).Find("#telling").Length() != 0 {
		t.Error("a number waits for a token that our voice service has")
	}
	if token, err := s.twilio.RotateToken(sid); err != nil {
		t.Fatal(err)
	} else {
		wantStatus(t, "another token", b.send("/credentials", "/credentials", url.Values{"account_sid": {sid}, "auth_token": {token}}), http.StatusSeeOther)
	}
	n := s.ready(s.org, id)
	wantText(t, "it is being told", b.get("/credentials"), "#telling", "for 1 number", views.PhoneText(n.PhoneNumber), "calls of a number may fail")
	wantText(t, "it is being told", b.get("/numbers/"+id), "#number-state", "Active, new token", "is being told")
	if err := s.vapi.SetFaults(sandbox.Fault{Match: sandbox.ChangeImported, Do: sandbox.FaultRefuse, Code: 400}); err != nil {
		t.Fatal(err)
	}
	op := s.as(operator)
	for _, step := range []struct{ what, part, word string }{{"refused", "#telling", "does not take the new token"}, {"told", "#own", "Working"}} {
		if err := s.numbers.TellToken(t.Context(), s.org, n.ID); err != nil {
			t.Fatal(err)
		}
		wantText(t, step.what, b.get("/credentials"), step.part, step.word)
		if step.what == "refused" {
			wantText(t, "operators see it", op.get("/ops/integrity"), "#under-way", views.PhoneText(n.PhoneNumber), "does not take the new token")
			at := "/ops/integrity/numbers/" + id
			wantText(t, "what can be done", op.get(at), "#mend", "Try again now")
			wantStatus(t, "at once", op.send(at, at, url.Values{"do": {"expedite"}, "reason": {"TICKET-1"}}), http.StatusSeeOther)
		}
	}
	if part := b.get("/credentials?part=telling", "HX-Request", "true"); part.doc(t).Find("#telling").Length() != 0 {
		t.Error("it still waits")
	}
	wantText(t, "its history", b.get("/numbers/"+id), "#history", "Our voice service has its new token", "does not take the new token")
	wantText(t, "the question", b.get("/credentials/remove"), "#removing", "release them first")
	res = b.send("/credentials", "/credentials/remove", url.Values{})
	wantStatus(t, "removing what is needed", res, http.StatusConflict)
	wantText(t, "removing what is needed", res, "#problem-here", "Release them first")
	if _, err := s.numbers.Release(t.Context(), telephony.ReleaseRequest{OrgID: s.org, Number: uuid.MustParse(id), Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	s.ready(s.org, id)
	wantStatus(t, "removing", b.send("/credentials", "/credentials/remove", url.Values{}), http.StatusSeeOther)
	wantText(t, "removed", b.get("/credentials?done=removed"), "#own", "Add your own Twilio account")
	if strings.Contains(s.log.String(), token) {
		t.Error("the token is in the log")
	}
	if got := s.balance(); got != 569_00 {
		t.Errorf("the balance is %d", got)
	}
	s.numberBooks()
}

// Programs find, buy, read, list and release numbers.
func TestNumbersAPI(t *testing.T) {
	s := newSite(t)
	key := s.programKey()
	ask := func(method, path, body string, status int) map[string]any {
		t.Helper()
		res := s.browser().program(method, path, key, body)
		wantStatus(t, method+" "+path, res, status)
		var fields map[string]any
		if err := json.Unmarshal([]byte(res.body), &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	found := ask("GET", "/api/v1/numbers/available?country=us&type=local&contains=415&limit=3", "", 200)
	offers, _ := found["data"].([]any)
	if len(offers) != 3 {
		t.Fatalf("found %v", found)
	}
	offer, _ := offers[0].(map[string]any)
	if offer["purchase_pence"] != float64(1000) || offer["monthly_pence"] != float64(119) || offer["address_required"] != false {
		t.Errorf("the offer is %v", offer)
	}
	gb := ask("GET", "/api/v1/numbers/available?country=GB", "", 200)
	british, _ := gb["data"].([]any)
	first, _ := british[0].(map[string]any)
	if first["address_required"] != true {
		t.Errorf("the offer is %v", first)
	}
	for path, field := range map[string]string{
		"/api/v1/numbers/available?country=ZZ": "country", "/api/v1/numbers/available": "country", "/api/v1/numbers/available?country=US&area=1": "area",
		"/api/v1/numbers/available?country=US&limit=0": "limit", "/api/v1/numbers?limit=x": "limit", "/api/v1/numbers?cursor=x": "cursor",
	} {
		if p := ask("GET", path, "", 422); p["field"] != field {
			t.Errorf("%s: %v", path, p)
		}
	}
	for body, want := range map[string]string{
		`{"phone_number":"+1"}`: "phone_number invalid",
		`{"phone_number":""}`:   "phone_number invalid",
		fmt.Sprintf(`{"phone_number":%q}`, first["phone_number"]): "phone_number address_required",
	} {
		p := ask("POST", "/api/v1/numbers", body, 422)
		code, _ := p["code"].(string)
		if got := fmt.Sprint(p["field"], " ", code); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	if p := ask("POST", "/api/v1/numbers", `{"phone_number":"+14155550000"}`, 409); p["code"] != "number_unavailable" {
		t.Errorf("%v", p)
	}
	number := fmt.Sprint(offer["phone_number"])
	made := ask("POST", "/api/v1/numbers", fmt.Sprintf(`{"phone_number":%q}`, number), 201)
	id := fmt.Sprint(made["id"])
	if made["state"] != "provisioning" || made["phone_number"] != number {
		t.Errorf("made %v", made)
	}
	if p := ask("POST", "/api/v1/numbers", fmt.Sprintf(`{"phone_number":%q}`, number), 409); p["code"] != "number_taken" && p["code"] != "number_unavailable" {
		t.Errorf("%v", p)
	}
	if p := ask("DELETE", "/api/v1/numbers/"+id, "", 409); p["code"] != "number_not_active" {
		t.Errorf("%v", p)
	}
	s.ready(s.org, id)
	if n := ask("GET", "/api/v1/numbers/"+id, "", 200); n["state"] != "active" {
		t.Errorf("it is %v", n)
	}
	ask("DELETE", "/api/v1/numbers/"+id, "", 202)
	s.ready(s.org, id)
	if n := ask("DELETE", "/api/v1/numbers/"+id, "", 200); n["state"] != "released" {
		t.Errorf("it is %v", n)
	}
	ask("GET", "/api/v1/numbers/"+uuid.NewString(), "", 404)
	ask("GET", "/api/v1/numbers/x", "", 404)
	other := ask("GET", "/api/v1/numbers?limit=1", "", 200)
	if list, _ := other["data"].([]any); len(list) != 1 || other["next_cursor"] != nil {
		t.Errorf("the list is %v", other)
	}
	if got := s.balance(); got != 559_00 {
		t.Errorf("the balance is %d", got)
	}
	s.numberBooks()
}

// mends does what the queue would with what operators have decided, and says how many jobs that were.
func (s *site) mends() int {
	s.t.Helper()
	var args []string
	dbtest.Select(s.t, s.dbURL, &args, `SELECT args::text FROM river_job WHERE kind = 'mend' ORDER BY id`)
	dbtest.Super(s.t, s.dbURL, `DELETE FROM river_job WHERE kind = 'mend'`)
	for _, a := range args {
		var m telephony.Mend
		if err := json.Unmarshal([]byte(a), &m); err != nil {
			s.t.Fatal(err)
		}
		if err := s.numbers.Mend(s.t.Context(), m); err != nil {
			s.t.Fatal(err)
		}
	}
	return len(args)
}

// Operators see what differs between the providers and us, and mend it with a reason.
func TestIntegrityPage(t *testing.T) {
	s := newSite(t)
	op := s.as(operator)
	wantText(t, "nothing yet", op.get("/ops/integrity"), "#under-way", "Nothing waits")
	wantText(t, "all is well", op.get("/ops/integrity?run=1"), "#findings", "agree with ours", "promises hold", "active-numbers-are-whole")
	n, err := s.numbers.Buy(t.Context(), telephony.BuyRequest{OrgID: s.org, PhoneNumber: s.forSale(), Key: "k", Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, "on its way", op.get("/ops/integrity"), "#under-way", views.PhoneText(n.PhoneNumber), "Being bought")
	if n = s.ready(s.org, n.ID.String()); n.State != telephony.NumberActive {
		t.Fatal(n.State, n.Note)
	}
	at := "/ops/integrity/numbers/" + n.ID.String()
	mend := func(do string, status int) {
		t.Helper()
		wantStatus(t, do, op.send(at, at, url.Values{"do": {do}, "reason": {"TICKET-1"}}), status)
	}
	mend("expedite", http.StatusConflict)
	mend("force", http.StatusConflict)
	mend("nothing", http.StatusUnprocessableEntity)
	s.deleteAtVapi(n.VapiID.String)
	wantText(t, "a gap", op.get("/ops/integrity?run=1"), "#gaps", views.PhoneText(n.PhoneNumber), "Missing at Vapi", "Connect again")
	mend("reconnect", http.StatusSeeOther)
	wantText(t, "not by the page", op.get("/ops/integrity?run=1"), "#gaps", views.PhoneText(n.PhoneNumber))
	if s.mends() != 1 {
		t.Error("connecting is no job")
	}
	wantText(t, "mended", op.get("/ops/integrity?run=1"), "#findings", "agree with ours")
	wantText(t, "its history", op.get(at), "#history", "To be put right", "Connected to our voice service again", "TICKET-1", operator)
	mend("reconnect", http.StatusSeeOther) // nothing is left to be done
	s.mends()
	if got := len(s.vapi.Books().Imported()); got != 1 {
		t.Errorf("Vapi has %d numbers", got)
	}
	sid, _ := s.subaccount("Ringfence " + s.org.String())
	page := op.get("/ops/integrity?run=1")
	wantText(t, "a stray", page, "#strays", sid, "Close it")
	to := page.doc(t).Find("#strays a").AttrOr("href", "")
	ask := op.get(to)
	wantText(t, "the question", ask, "main", sid, "cannot be opened again")
	form := url.Values{"provider": {"Twilio"}, "id": {sid}}
	wantStatus(t, "no reason", op.send(to, "/ops/integrity/strays", form), http.StatusUnprocessableEntity)
	form.Set("reason", "TICKET-2")
	remove := func(what string) {
		t.Helper()
		if res := op.send(to, "/ops/integrity/strays", form); res.Header.Get("Location") != "/ops/integrity?done=asked" {
			t.Errorf("%s: %s %s", what, res.Status, res.Header.Get("Location"))
		}
	}
	remove("a stray")
	wantText(t, "not by the page", op.get("/ops/integrity?run=1"), "#strays", sid)
	if s.mends() != 1 {
		t.Error("taking away is no job")
	}
	wantText(t, "taken away", op.get("/ops/integrity?run=1"), "#findings", "agree with ours")
	remove("again")
	// What is somebody's is never taken away, whatever the form says.
	form.Set("id", n.SID.String)
	remove("somebody's")
	if s.mends(); len(s.twilio.Books().Owned(n.AccountSID.String)) != 1 {
		t.Error("somebody's number was taken away")
	}
	if err := s.vapi.SetFaults(sandbox.Fault{Match: sandbox.ListImported, Do: sandbox.Fault500, Times: -1}, sandbox.Fault{Match: sandbox.DeleteImported, Do: sandbox.Fault500, Times: -1}); err != nil {
		t.Fatal(err)
	}
	wantText(t, "a provider is away", op.get("/ops/integrity?run=1"), "#unreached", "Vapi", "could not be reached", "Nothing is said of the numbers there")
	mend("release", http.StatusSeeOther)
	n = s.ready(s.org, n.ID.String())
	if n.State != telephony.NumberReleasing || n.Note == "" {
		t.Errorf("it is %s: %s", n.State, n.Note)
	}
	wantText(t, "the refusal stays visible", s.as("owner@harbour.example").get("/numbers/"+n.ID.String()), "#number-state", "Release refused", "has not let go")
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET tries = 3 WHERE id = $1`, n.ID)
	held := op.get("/ops/integrity?run=1")
	wantText(t, "asked several times", held, "#held", views.PhoneText(n.PhoneNumber), "Decide")
	if strings.Contains(held.body, "agree with ours") {
		t.Error("the books agree although a provider does not let go")
	}
	mend("expedite", http.StatusSeeOther)
	wantStatus(t, "by force, without a reason", op.send(at, at, url.Values{"do": {"force"}}), http.StatusUnprocessableEntity)
	mend("force", http.StatusSeeOther)
	wantText(t, "its history", op.get(at), "#history", "Ended by hand", "TICKET-1")
	if err := s.vapi.SetFaults(); err != nil {
		t.Fatal(err)
	}
	wantText(t, "what is left there", op.get("/ops/integrity?run=1"), "#strays", views.PhoneText(n.PhoneNumber), "Vapi", "Twilio")
	s.numberBooks()
}

// Operators find an organisation's active number on its page, and release it with a reason: the job does the rest, as for its owner.
func TestOperatorReleases(t *testing.T) {
	s := newSite(t)
	op := s.as(operator)
	page := "/ops/organisations/" + s.org.String()
	wantText(t, "none", op.get(page), "#numbers", "No numbers")
	n := s.newNumber()
	agent := s.newAgent("Reception", true)
	if _, err := s.agents.Link(t.Context(), s.org, agent.ID, n.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	shown := op.get(page)
	wantText(t, "an active one", shown, "#numbers", views.PhoneText(n.PhoneNumber), "Active", "Release")
	at := shown.doc(t).Find("#numbers td a[href*='do=release']").AttrOr("href", "")
	asks := op.get(at)
	wantText(t, "the question", asks, "#mend", "given back for good")
	if asks.doc(t).Find("#do-release[checked]").Length() != 1 {
		t.Error("releasing is not chosen")
	}
	form := url.Values{"do": {"release"}, "reason": {" "}}
	to := "/ops/integrity/numbers/" + n.ID.String()
	wantText(t, "no reason", op.send(at, to, form), "#reason-error", "Give a reason")
	if now := s.ready(s.org, n.ID.String()); now.State != telephony.NumberActive {
		t.Fatalf("without a reason it is %s", now.State)
	}
	form.Set("reason", "Fraud, TICKET-5")
	wantStatus(t, "a reason", op.send(at, to, form), http.StatusSeeOther)
	now := s.ready(s.org, n.ID.String())
	if now.State != telephony.NumberReleased || !strings.HasPrefix(now.ReleasedBy, "operator:") || now.ReleaseReason != "Fraud, TICKET-5" {
		t.Errorf("it is %s, by %s: %s", now.State, now.ReleasedBy, now.ReleaseReason)
	}
	if got := s.count(`SELECT count(*) FROM audit_log WHERE action = 'number.releasing' AND actor LIKE 'operator:%' AND reason = 'Fraud, TICKET-5' AND request_id <> '' AND org_id = $1`, s.org); got != 1 {
		t.Errorf("the log has it %d times", got)
	}
	told := s.as("owner@harbour.example").get("/notices")
	wantText(t, "its owner is told", told, "main", views.PhoneText(n.PhoneNumber)+" is released", "We have given "+views.PhoneText(n.PhoneNumber)+" back")
	if strings.Contains(told.body, "Fraud, TICKET-5") {
		t.Error("our own reason is told")
	}
	if s.count(`SELECT count(*) FROM agents WHERE number_id IS NOT NULL`) != 0 || len(s.vapi.Books().Imported()) != 0 {
		t.Error("something of it is left")
	}
	wantText(t, "gone", op.get(page), "#numbers", "No numbers")
	s.numberBooks()
}

// What points at numbers that are gone is shown with a way to put it right, which is a job with a reason.
func TestLinksAreMended(t *testing.T) {
	f := newFixture(t)
	op := f.as(operator)
	if page := op.get("/ops/integrity?run=1"); strings.Contains(page.body, "/ops/integrity/links") {
		t.Error("there is something to be put right")
	}
	dbtest.Super(t, f.dbURL, `UPDATE numbers SET state = 'released', step = '', credential_id = NULL, sid = NULL, vapi_id = NULL, releasing_at = now(), ended_at = now() WHERE id = $1`, numberID)
	page := op.get("/ops/integrity?run=1")
	wantText(t, "an agent points at it", page, "#own-records", "points at number "+numberID, "Put it right")
	at := page.doc(t).Find("#mend-"+telephony.LinksInvariant).AttrOr("href", "")
	wantText(t, "the question", op.get(at), "main", "a customer's own stays")
	wantStatus(t, "no reason", op.send(at, at, url.Values{"reason": {" "}}), http.StatusUnprocessableEntity)
	decided := op.send(at, at, url.Values{"reason": {"TICKET-3"}})
	wantStatus(t, "a reason", decided, http.StatusSeeOther)
	if f.mends() != 1 {
		t.Error("putting links right is no job")
	}
	var linked, own, logged int
	dbtest.Get(t, f.dbURL, &linked, `SELECT count(*) FROM agents WHERE number_id = $1`, numberID)
	dbtest.Get(t, f.dbURL, &own, `SELECT count(*) FROM credentials WHERE kind = 'byoc'`)
	dbtest.Get(t, f.dbURL, &logged, `SELECT count(*) FROM audit_log WHERE action IN ('integrity.mend', 'agent.unlinked') AND reason = 'TICKET-3' AND actor LIKE 'operator:%' AND request_id = $1`, decided.Header.Get("X-Request-Id"))
	if linked != 0 || own != 1 || logged != 2 {
		t.Errorf("%d agents point at it, %d own credentials are there, the log has %d rows", linked, own, logged)
	}
}

// deleteAtVapi has Vapi forget a number behind our back.
func (s *site) deleteAtVapi(id string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodDelete, s.box+"/vapi/phone-number/"+id, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+vapiKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.t.Fatal(res.Status)
	}
}
