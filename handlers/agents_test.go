package handlers_test

import (
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
	"ringfence/internal/auth"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/views"
)

// agentOptions are those of the site's agents; base is where the stand-ins are, empty where there are none.
func (s *site) agentOptions(gates *wallet.Gates, jobs telephony.JobInserter, log *slog.Logger, base string) telephony.AgentsOptions {
	o := telephony.AgentsOptions{
		DB: s.db, Gates: gates, Jobs: jobs, Log: log, Now: time.Now, Vault: s.vault,
		Events: telephony.VapiEvents{BaseURL: "http://127.0.0.1:8080", Secret: vapiSecret},
	}
	if base != "" {
		o.VapiKey, o.VapiBase, o.TwilioBase = vapiKey, base+"/vapi", base
	}
	return o
}

// told does what the queue would: our voice service is told about an agent.
func (s *site) told(org uuid.UUID, id string) telephony.Agent {
	s.t.Helper()
	at := uuid.MustParse(id)
	if err := s.agents.Sync(s.t.Context(), org, at); err != nil {
		s.t.Fatal(err)
	}
	a, err := s.agents.Agent(s.t.Context(), org, at)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// newAgent makes an agent of Harbour Dental's; with ready our voice service has been told.
func (s *site) newAgent(name string, ready bool) telephony.Agent {
	s.t.Helper()
	a, err := s.agents.Create(s.t.Context(), telephony.AgentRequest{
		OrgID: s.org, AgentFields: telephony.AgentFields{Name: name, Active: true, Voice: telephony.Voices[0], FirstMessage: "Hello", Prompt: "Be kind."}, Actor: audit.System("test"),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if ready {
		return s.told(s.org, a.ID.String())
	}
	return a
}

// newNumber buys a number for Harbour Dental.
func (s *site) newNumber() telephony.Number {
	s.t.Helper()
	found, err := s.numbers.Search(s.t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "US", Area: "212"})
	if err != nil || len(found.List) == 0 {
		s.t.Fatalf("%d numbers for sale: %v", len(found.List), err)
	}
	n, err := s.numbers.Buy(s.t.Context(), telephony.BuyRequest{OrgID: s.org, PhoneNumber: found.List[0].PhoneNumber, Key: uuid.NewString(), Actor: audit.System("test")})
	if err == nil {
		n = s.ready(s.org, n.ID.String())
	}
	if err != nil || n.State != telephony.NumberActive {
		s.t.Fatalf("%s is %s (%s): %v", n.PhoneNumber, n.State, n.Note, err)
	}
	return n
}

// made is the agent that an answer leads to.
func made(t *testing.T, res reply) string {
	t.Helper()
	wantStatus(t, "making an agent", res, http.StatusSeeOther)
	path, _, _ := strings.Cut(res.Header.Get("Location"), "?")
	return path
}

// newKey is the key of the page's form.
func newKey(t *testing.T, page reply) string {
	t.Helper()
	key := page.doc(t).Find(`#agent-form input[name="key"]`).AttrOr("value", "")
	if key == "" {
		t.Fatalf("%s: no key in it", page.Status)
	}
	return key
}

// An agent is written, becomes ready before one's eyes, is linked, changed and deleted; what becomes of its number is asked first.
func TestAgentPages(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	wantText(t, "no agents", b.get("/agents"), "#agents", "No agents yet", "answers one of your numbers", "Make an agent")
	page := b.get("/agents/new")
	wantText(t, "what there is to choose", page, "#voice", "Elliot", "Savannah")
	form := agentValues("key", newKey(t, page), "name", "Front desk", "prompt", "Be kind.\r\nBe brief.", "knowledge", "yes", "forward_to", "+44 7400 123456")
	path := made(t, b.send("/agents/new", "/agents", form))
	if again := made(t, b.send("/agents/new", "/agents", form)); again != path || s.count(`SELECT count(*) FROM agents`) != 1 {
		t.Errorf("the form twice leads to %q and %q, with %d agents", path, again, s.count(`SELECT count(*) FROM agents`))
	}
	if got := s.text(`SELECT prompt || '|' || forward_to || '|' || knowledge || active || recorded FROM agents WHERE org_id = $1`, s.org); got != "Be kind.\nBe brief.|+447400123456|truetruefalse" {
		t.Errorf("it is %q", got)
	}
	page = b.get(path + "?done=made")
	wantText(t, "being set up", page, "#agent-state", "Being set up", "being told")
	wantText(t, "what was made", page, "#done", "Link a number")
	wantText(t, "not yet callable", page, "#call-blocked", "no number to call from")
	wantText(t, "no free number", page, "#agent-number", "There is no free number")
	if page.doc(t).Find("#call").AttrOr("disabled", "no") == "no" || page.doc(t).Find("#call-form").Length() != 0 {
		t.Error("a call can be asked for")
	}
	wantText(t, "the list", b.get("/agents"), "#agents", "Front desk", "Being set up", "No number", "£0.00", "No calls")
	seen := page.doc(t).Find("#agent-place [hx-get]").AttrOr("hx-get", "")
	wantStatus(t, "nothing new", b.get(seen, "HX-Request", "true"), http.StatusNoContent)

	n, id := s.newNumber(), strings.TrimPrefix(path, "/agents/")
	page = b.get(path)
	wantText(t, "the free number", page, "#number", views.PhoneText(n.PhoneNumber))
	wantStatus(t, "linking", b.send(path, path+"/link", url.Values{"number": {n.ID.String()}}), http.StatusSeeOther)
	page = b.get(path)
	wantText(t, "linked", page, "#agent-number", views.PhoneText(n.PhoneNumber), "Unlink it")
	wantText(t, "still not callable", page, "#call-blocked", "does not have it yet")
	seen = page.doc(t).Find("#agent-place [hx-get]").AttrOr("hx-get", "")
	s.told(s.org, id)
	fresh := b.get(seen, "HX-Request", "true")
	wantText(t, "the live part", fresh, "[data-state=synced]", "Ready", "has it as it is")
	wantText(t, "the call's part comes with it", fresh, `[hx-swap-oob="innerHTML:#call-place"]`, "Number to ring", "£0.56")
	if fresh.doc(t).Find("#agent-form").Length() != 0 {
		t.Error("the live part takes away what somebody types")
	}
	wantText(t, "the list", b.get("/agents"), "#agents", "Ready", views.PhoneText(n.PhoneNumber))
	if b.get(path).doc(t).Find("#agent-place [hx-get]").Length() != 0 {
		t.Error("a ready agent is asked about again and again")
	}

	// Saving the same changes nothing; something else is told again.
	same := agentValues("name", "Front desk", "prompt", "Be kind.\r\nBe brief.", "knowledge", "yes", "forward_to", "+447400123456")
	wantStatus(t, "saving the same", b.send(path, path, same), http.StatusSeeOther)
	wantText(t, "saving the same", b.get(path), "#agent-state", "Ready")
	same.Set("active", "")
	wantStatus(t, "switching it off", b.send(path, path, same), http.StatusSeeOther)
	wantText(t, "being told", b.get(path+"?done=saved"), "main", "was saved", "Being updated", "goes on as it was")
	s.told(s.org, id)
	wantText(t, "off", b.get(path), "main", "Off", "It is switched off, so it makes no calls")
	wantText(t, "the list", b.get("/agents"), "#agents", "Off")

	// What our voice service refuses stays visible, with why.
	if err := s.vapi.SetFaults(sandbox.Fault{Match: sandbox.ChangeAssistant, Do: sandbox.FaultRefuse, Code: 400, Times: -1}); err != nil {
		t.Fatal(err)
	}
	same.Set("active", "yes")
	wantStatus(t, "switching it on", b.send(path, path, same), http.StatusSeeOther)
	s.told(s.org, id)
	wantText(t, "refused", b.get(path), "#agent-state", "Change refused", "goes on with the agent as it was", "does not take the agent as it is")
	wantText(t, "the list", b.get("/agents"), "#agents", "Change refused", "does not take the agent as it is")
	if err := s.vapi.SetFaults(); err != nil {
		t.Fatal(err)
	}

	other := s.newAgent("Nights", true)
	page = b.get("/agents/" + other.ID.String())
	wantText(t, "a number that another has", page, "#agent-number", "answered by another agent")
	res := b.send(path, "/agents/"+other.ID.String()+"/link", url.Values{"number": {n.ID.String()}})
	wantStatus(t, "linking it all the same", res, http.StatusConflict)
	wantText(t, "linking it all the same", res, "#number-error", "is answered by the agent Front desk")
	wantStatus(t, "no number", b.send(path, path+"/link", url.Values{"number": {"x"}}), http.StatusUnprocessableEntity)
	wantStatus(t, "nobody's number", b.send(path, path+"/link", url.Values{"number": {uuid.NewString()}}), http.StatusNotFound)
	wantStatus(t, "unlinking", b.send(path, path+"/unlink", nil), http.StatusSeeOther)
	wantText(t, "unlinked", b.get(path), "#agent-number", "It has no number")
	wantStatus(t, "linking again", b.send(path, path+"/link", url.Values{"number": {n.ID.String()}}), http.StatusSeeOther)

	// Deleting.
	question := path + "/delete"
	wantText(t, "the question", b.get(question), "main", views.PhoneText(n.PhoneNumber), "Keep it without an agent", "Give it back", "Nights")
	for what, c := range map[string]struct {
		form   url.Values
		status int
		where  string
	}{
		"without a word":   {url.Values{}, 422, "#then-error"},
		"to nobody":        {url.Values{"then": {"link"}, "link_to": {""}}, 422, "#link_to-error"},
		"to itself":        {url.Values{"then": {"link"}, "link_to": {id}}, 422, "#link_to-error"},
		"to who never was": {url.Values{"then": {"link"}, "link_to": {uuid.NewString()}}, 404, "main"},
	} {
		res := b.send(question, question, c.form)
		wantStatus(t, what, res, c.status)
		if res.doc(t).Find(c.where).Text() == "" {
			t.Errorf("%s: no word at %s", what, c.where)
		}
	}
	if s.count(`SELECT count(*) FROM agents WHERE deleted_at IS NOT NULL`) != 0 {
		t.Fatal("it was deleted")
	}
	res = b.send(question, question, url.Values{"then": {"link"}, "link_to": {other.ID.String()}})
	wantStatus(t, "deleting", res, http.StatusSeeOther)
	wantText(t, "the list", b.get(res.Header.Get("Location")), "main", "The agent was deleted", "Nights", views.PhoneText(n.PhoneNumber))
	wantStatus(t, "the deleted one", b.get(path), http.StatusNotFound)
	question = "/agents/" + other.ID.String() + "/delete"
	res = b.send(question, question, url.Values{"then": {"release"}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/numbers/"+n.ID.String()+"/release" {
		t.Errorf("giving its number back leads to %s (%s)", res.Header.Get("Location"), res.Status)
	}
	wantText(t, "the release", b.get(res.Header.Get("Location")), "main", "Release this number?", "No agent")
	third := s.newAgent("Third", false)
	question = "/agents/" + third.ID.String() + "/delete"
	if text := b.get(question).doc(t).Find("#then").Text(); text != "" {
		t.Errorf("without a number it is asked: %s", text)
	}
	wantStatus(t, "deleting one without a number", b.send(question, question, nil), http.StatusSeeOther)
	s.numberBooks()
}

// What is refused is said beside its field, with all that was typed, and nothing is saved; a prompt of a megabyte is not even read.
func TestAgentFormsRefuse(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	agent := s.newAgent("Reception", true)
	path := "/agents/" + agent.ID.String()
	before := s.state()
	for what, c := range map[string]struct{ field, value, says string }{
		"no name":          {"name", " ", "Give the agent a name"},
		"a voice":          {"voice", "Darth", "Choose one of the voices"},
		"no first message": {"first_message", "", "Say how the agent begins"},
		"a long prompt":    {"prompt", strings.Repeat("p", 16_001), "at most 16,000 characters; this one has 16,001"},
		"nowhere":          {"forward_to", "999", "phone number"},
		"somewhere dear":   {"forward_to", "+18765551234", "not offered"},
		"nobody's number":  {"caller_id", uuid.NewString(), "that was verified"},
		"no number at all": {"caller_id", "x", "that was verified"},
		"recorded":         {"recorded", "yes", ""},
		"a NUL":            {"prompt", "a\x00b", "cannot be kept"},
	} {
		for _, to := range []string{"/agents", path} {
			form := agentValues("key", uuid.NewString(), "consent", "", "name", "Typed by me")
			form.Set(c.field, c.value)
			from := path
			if to == "/agents" {
				from = "/agents/new"
			}
			res := b.send(from, to, form)
			wantStatus(t, what+" at "+to, res, http.StatusUnprocessableEntity)
			field, says := c.field, c.says
			if field == "recorded" {
				field, says = "consent", "only where the caller is told so first"
			}
			wantText(t, what+" at "+to, res, "#"+field+"-error", says)
			if field != "name" && res.doc(t).Find("#name").AttrOr("value", "") != "Typed by me" {
				t.Errorf("%s at %s: what was typed is gone", what, to)
			}
			if invalid := res.doc(t).Find("[aria-invalid]"); invalid.Length() != 1 || invalid.AttrOr("id", "") != field {
				t.Errorf("%s at %s: %d fields are marked", what, to, invalid.Length())
			}
		}
	}
	for _, to := range []string{"/agents", path} {
		form := agentValues("key", uuid.NewString(), "prompt", strings.Repeat("p", 1<<20))
		wantStatus(t, "a megabyte at "+to, b.send(path, to, form), http.StatusRequestEntityTooLarge)
	}
	s.wantUnchanged("what was refused", before)
	// The longest prompt goes through in any script.
	form := agentValues("prompt", strings.Repeat("語", 16_000))
	wantStatus(t, "the longest prompt", b.send(path, path, form), http.StatusSeeOther)
	if n := s.count(`SELECT length(prompt) FROM agents`); n != 16_000 {
		t.Errorf("%d characters are kept", n)
	}
	// Nobody reads along what is too long for other forms.
	wantStatus(t, "another form", b.send("/settings", "/settings/password", url.Values{"current": {strings.Repeat("p", 100<<10)}}), http.StatusRequestEntityTooLarge)

	looks := s.as("viewer@harbour.example")
	page := looks.get(path)
	wantText(t, "a viewer", page, "#agent", "because your role is viewer", "Elliot", "語")
	if n := page.doc(t).Find("main form").Length() + looks.get("/agents").doc(t).Find("main form, main a[href='/agents/new']").Length(); n != 0 {
		t.Errorf("a viewer can do %d things", n)
	}
}

// A test call says what it costs and what it may cost, is placed once, and is seen to its end; what it came to stands beside the
// agent. Where it cannot be made, the page says why.
func TestTestCall(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	agent, n := s.newAgent("Reception", true), s.newNumber() // £10.00
	path := "/agents/" + agent.ID.String()
	if _, err := s.agents.Link(t.Context(), s.org, agent.ID, n.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	page := b.get(path)
	wantText(t, "the usual price", page, "#call-cost", "A minute, to most places", "£0.56", "$0.70", "after 30 min", "£16.59", "£0.79 must be available")
	quote := func(to string) reply {
		return b.send(path, path+"/call/quote", url.Values{"to": {to}}, "HX-Request", "true")
	}
	wantText(t, "a number", quote("+44 7400 123456"), "body", "A minute, to +44 7400 123456", "£0.56")
	wantText(t, "somewhere dear", quote("+18765551234"), "body", "not offered")
	wantText(t, "half a number", quote("+44"), "body", "A minute, to most places")
	wantText(t, "without scripts", b.send(path, path+"/call/quote", url.Values{"to": {"+447400123456"}}), "#call-cost", "£0.56")

	form := url.Values{"to": {"+44 7400 123456"}, "key": {page.doc(t).Find(`#call-form input[name="key"]`).AttrOr("value", "")}}
	res := b.send(path, path+"/call", form)
	wantStatus(t, "calling", res, http.StatusSeeOther)
	to := res.Header.Get("Location")
	if again := b.send(path, path+"/call", form); again.Header.Get("Location") != to || len(s.vapi.Books().Calls) != 1 {
		t.Errorf("the form twice leads to %q and %q, with %d calls", to, again.Header.Get("Location"), len(s.vapi.Books().Calls))
	}
	page = b.get(to)
	wantText(t, "it rings", page, "#placed", "+44 7400 123456", "Ringing")
	if page.doc(t).Find(`#placed[hx-get]`).Length() != 1 {
		t.Error("the call is not watched")
	}
	for what, c := range map[string]struct {
		to, where, says string
		status          int
	}{
		"no number":      {"999", "#to-error", "phone number", 422},
		"somewhere dear": {"+18765551234", "#to-error", "not offered", 403},
	} {
		res := b.send(path, path+"/call", url.Values{"to": {c.to}, "key": {uuid.NewString()}})
		wantStatus(t, what, res, c.status)
		wantText(t, what, res, c.where, c.says)
	}
	if n := len(s.vapi.Books().Calls); n != 1 {
		t.Errorf("%d calls were placed", n)
	}
	// As Vapi's report would have it.
	dbtest.Super(t, s.dbURL, `UPDATE calls SET state = 'completed', ended_at = now(), look_at = NULL, fund_at = NULL, started_at = created_at, seconds = 61, amount_pence = 57, lookups = 1, lookups_pence = 1`)
	wantText(t, "it is over", b.get(page.doc(t).Find("#placed").AttrOr("hx-get", ""), "HX-Request", "true"), "#placed", "Completed", "1 min 1 s", "£0.57")
	page = b.get(path)
	wantText(t, "this month", page, "#spend-month", "£0.58", "1 call, 1 min 1 s", "£0.01 of it for look-ups")
	wantText(t, "30 days", page, "#spend-days", "£0.58", "1 call")
	wantText(t, "the list", b.get("/agents"), "#agents", "£0.58", "1 call")
	if page.doc(t).Find(`a[href="/calls?agent=`+agent.ID.String()+`"]`).Length() != 1 {
		t.Error("its calls are not led to")
	}
	dbtest.Super(t, s.dbURL, `UPDATE calls SET created_at = created_at - interval '31 days'`)
	wantText(t, "long ago", b.get(path), "#spend-days", "£0.00", "No calls")

	if err := s.vapi.SetFaults(sandbox.Fault{Match: sandbox.MakeAgentCall, Do: sandbox.FaultRefuse, Code: 400}); err != nil {
		t.Fatal(err)
	}
	spent := uuid.NewString()
	res = b.send(path, path+"/call", url.Values{"to": {"+447400123456"}, "key": {spent}})
	wantStatus(t, "refused", res, http.StatusUnprocessableEntity)
	wantText(t, "refused", res, "#test-call", "did not take the call", "Nothing was charged")
	if key := res.doc(t).Find(`#call-form input[name="key"]`).AttrOr("value", ""); key == "" || key == spent {
		t.Errorf("after a refusal the form has the key %q: another try would be told the same", key)
	}
	s.adjust(-558_00) // 42p of what is free are left
	wantText(t, "no money", b.get(path), "#call-blocked", "needs £0.79 in the wallet", "Top up")
	res = b.send(path, path+"/call", url.Values{"to": {"+447400123456"}, "key": {uuid.NewString()}})
	wantStatus(t, "no money", res, http.StatusPaymentRequired)
	wantText(t, "no money", res, "#not-called", "Top up at least")
	if _, err := s.agents.Unlink(t.Context(), s.org, agent.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	res = b.send(path, path+"/call", url.Values{"to": {"+447400123456"}, "key": {uuid.NewString()}})
	wantStatus(t, "no number", res, http.StatusConflict)
	wantText(t, "no number", res, "#not-called", "no number to call from")
}

// A number of one's own is verified by its code, which only those see who may have it verified; it is shown, and removed.
func TestCallerIDPages(t *testing.T) {
	s := newSite(t)
	b, looks := s.as("owner@harbour.example"), s.as("viewer@harbour.example")
	const handset = "+447400123456"
	wantText(t, "none", b.get("/caller-ids"), "#caller-ids", "No caller IDs yet")
	verify := func() reply {
		return b.send("/caller-ids", "/caller-ids", url.Values{"phone_number": {"+44 7400 123456"}})
	}
	res := verify()
	wantStatus(t, "without an account", res, http.StatusConflict)
	wantText(t, "without an account", res, "#problem-here", "Buy a number first")
	s.newNumber()
	res = b.send("/caller-ids", "/caller-ids", url.Values{"phone_number": {"999"}})
	wantStatus(t, "no number", res, http.StatusUnprocessableEntity)
	wantText(t, "no number", res, "#phone_number-error", "phone number")
	res = verify()
	wantStatus(t, "verifying", res, http.StatusSeeOther)
	path := res.Header.Get("Location")
	if again := verify().Header.Get("Location"); again != path {
		t.Errorf("verifying again leads to %s, not %s", again, path)
	}
	page := b.get(path)
	wantText(t, "the code", page, "#caller-state", "Waiting for the code", "calls this number now")
	code := page.doc(t).Find("#code").Text()
	if len(code) != 6 || looks.get(path).doc(t).Find("#code").Length() != 0 || strings.Contains(looks.get(path).body, code) {
		t.Errorf("the code is %q, and a viewer sees %q", code, looks.get(path).doc(t).Find("#code").Text())
	}
	if strings.Contains(s.log.String(), code) {
		t.Error("the code is in the log")
	}
	seen := page.doc(t).Find("[data-state]").AttrOr("hx-get", "")
	wantStatus(t, "nothing new", b.get(seen, "HX-Request", "true"), http.StatusNoContent)
	if ok, err := s.twilio.TypeCode(handset, code); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := s.agents.SweepCallerIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantText(t, "the live part", b.get(seen, "HX-Request", "true"), "body", "Verified", "may show this number")
	wantText(t, "the list", b.get("/caller-ids"), "#caller-ids", views.PhoneText(handset), "Verified", "No agent")
	agent := s.newAgent("Reception", true)
	to := "/agents/" + agent.ID.String()
	wantText(t, "what can be shown", b.get(to), "#caller_id", "+44 7400 123456")
	id := strings.TrimPrefix(path, "/caller-ids/")
	wantStatus(t, "showing it", b.send(to, to, agentValues("caller_id", id, "forward_to", "+447400123999")), http.StatusSeeOther)
	wantText(t, "who shows it", b.get(path), "main", "Reception")
	wantText(t, "what a viewer sees", looks.get(to), "#settings", "+44 7400 123456")
	// The account that it was proven to is gone, and where callers are passed on to is closed: it is said, with what to do.
	dbtest.Super(t, s.dbURL, `UPDATE credentials SET account_sid = 'gone ' || account_sid`)
	dbtest.Super(t, s.dbURL, `UPDATE agents SET forward_to = '+18765551234' WHERE id = $1`, agent.ID)
	wantText(t, "a gone account", b.get("/caller-ids"), "#caller-ids", "Not shown any more")
	lost := b.get(path)
	wantText(t, "a gone account", lost, "#caller-state", "Not shown any more", "does not have here any more")
	wantText(t, "what to do", lost, "#lost", "Call it and verify it again", "when the account is back")
	if number := lost.doc(t).Find("#lost [name=phone_number]").AttrOr("value", ""); number != handset || looks.get(path).doc(t).Find("#lost form").Length() != 0 {
		t.Errorf("%q would be verified again", number)
	}
	page = b.get(to)
	wantText(t, "a gone account", page, "#not-shown", "+44 7400 123456 is not shown", "the agent's own number is shown")
	wantText(t, "a closed destination", page, "#not-passed-on", "No caller is passed on", "+1 876-555-1234", "not offered")
	if page.doc(t).Find("#caller_id option").Length() != 1 {
		t.Error("it is offered")
	}
	dbtest.Super(t, s.dbURL, `UPDATE credentials SET account_sid = substr(account_sid, 6)`)
	dbtest.Super(t, s.dbURL, `UPDATE agents SET forward_to = '+447400123999' WHERE id = $1`, agent.ID)
	if page = b.get(to); page.doc(t).Find("#not-shown, #not-passed-on").Length() != 0 {
		t.Error("it is said although all is well")
	}
	wantText(t, "the question", b.get(path+"/remove"), "main", "Agents that show it", "Reception")
	res = b.send(path+"/remove", path+"/remove", nil)
	wantStatus(t, "removing", res, http.StatusSeeOther)
	wantText(t, "removed", b.get(res.Header.Get("Location")), "main", "No agent shows the number", "No caller IDs yet")
	wantText(t, "removed", b.get(path), "main", "Removed", "No agent")
	if s.count(`SELECT count(*) FROM agents WHERE caller_id IS NOT NULL`) != 0 {
		t.Error("an agent shows it")
	}
	wantStatus(t, "removing again", b.send("/caller-ids", path+"/remove", nil), http.StatusSeeOther)

	// Nobody types the code: it is said why.
	path = verify().Header.Get("Location")
	dbtest.Super(t, s.dbURL, `UPDATE caller_ids SET created_at = now() - interval '1 hour' WHERE state = 'waiting'`)
	if _, err := s.agents.SweepCallerIDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantText(t, "not verified", b.get(path), "main", "Not verified", "Nobody typed the code in time", "Try again")
}

// Programs make, read, list, change, link and delete agents.
func TestAgentsAPI(t *testing.T) {
	s := newSite(t)
	key := s.programKey()
	ask := func(method, path, body string, status int, headers ...string) map[string]any {
		t.Helper()
		res := s.browser().program(method, path, key, body, headers...)
		wantStatus(t, method+" "+path, res, status)
		var fields map[string]any
		if err := json.Unmarshal([]byte(res.body), &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	const body = `{"name":"Reception","first_message":"Hello","prompt":"Be kind.","forward_to":"+44 7400 123456"}`
	once := []string{"Idempotency-Key", "once"}
	a := ask("POST", "/api/v1/agents", body, 201, once...)
	at := "/api/v1/agents/" + fmt.Sprint(a["id"])
	if a["active"] != true || a["voice"] != "Elliot" || a["forward_to"] != "+447400123456" || a["caller_id"] != nil || a["number_id"] != nil || a["sync_state"] != "waiting" || a["ready"] != false {
		t.Errorf("made %v", a)
	}
	if again := ask("POST", "/api/v1/agents", body, 201, once...); again["id"] != a["id"] || s.count(`SELECT count(*) FROM agents`) != 1 {
		t.Errorf("the same key made %v", again)
	}
	if p := ask("POST", "/api/v1/agents", strings.Replace(body, "kind", "brief", 1), 409, once...); p["code"] != "idempotency_key_reused" {
		t.Errorf("%v", p)
	}
	if p := ask("POST", "/api/v1/agents", body, 400, "Idempotency-Key", ""); p["code"] != "idempotency_key_missing" {
		t.Errorf("%v", p)
	}
	s.told(s.org, fmt.Sprint(a["id"]))
	if a = ask("GET", at, "", 200); a["ready"] != true || a["sync_state"] != "synced" {
		t.Errorf("it is %v", a)
	}
	// What is left out stays; null takes away.
	if a = ask("PATCH", at, `{"first_message":"Good evening"}`, 200); a["first_message"] != "Good evening" || a["forward_to"] != "+447400123456" || a["prompt"] != "Be kind." || a["sync_state"] != "waiting" || a["ready"] != true {
		t.Errorf("changed to %v", a)
	}
	if a = ask("PATCH", at, `{"forward_to":null,"active":false,"recorded":true,"consent":"This call is recorded."}`, 200); a["forward_to"] != nil || a["active"] != false || a["recorded"] != true || a["ready"] != false {
		t.Errorf("changed to %v", a)
	}
	before := s.state()
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		field, code        string
	}{
		"no name":            {"PATCH", at, `{"name":" "}`, 422, "name", "invalid"},
		"no voice":           {"PATCH", at, `{"voice":"Darth"}`, 422, "voice", "invalid"},
		"a caller id":        {"PATCH", at, `{"caller_id":"x"}`, 422, "caller_id", "invalid"},
		"nobody's caller id": {"PATCH", at, `{"caller_id":"` + uuid.NewString() + `"}`, 422, "caller_id", "invalid"},
		"somewhere dear":     {"PATCH", at, `{"forward_to":"+18765551234"}`, 422, "forward_to", "destination_not_offered"},
		"a field too many":   {"PATCH", at, `{"number_id":null}`, 400, "", "malformed"},
		"a number as name":   {"PATCH", at, `{"name":1}`, 400, "name", "malformed"},
		"a long prompt":      {"PATCH", at, `{"prompt":"` + strings.Repeat("p", 16_001) + `"}`, 422, "prompt", "invalid"},
		"a megabyte":         {"PATCH", at, `{"prompt":"` + strings.Repeat("p", 1<<20) + `"}`, 413, "", "too_large"},
		"a megabyte, new":    {"POST", "/api/v1/agents", `{"name":"x","first_message":"x","prompt":"` + strings.Repeat("p", 1<<20) + `"}`, 413, "", "too_large"},
		"nothing":            {"POST", "/api/v1/agents", `{}`, 422, "name", "invalid"},
		"no limit":           {"GET", "/api/v1/agents?limit=0", "", 422, "limit", "invalid"},
		"no cursor":          {"GET", "/api/v1/agents?cursor=x", "", 422, "cursor", "invalid"},
		"no such agent":      {"GET", "/api/v1/agents/" + uuid.NewString(), "", 404, "", "not_found"},
		"no id":              {"GET", "/api/v1/agents/x", "", 404, "", "not_found"},
		"no number id":       {"PUT", at + "/number", `{"number_id":"x"}`, 422, "number_id", "invalid"},
		"nobody's number":    {"PUT", at + "/number", `{"number_id":"` + uuid.NewString() + `"}`, 404, "", "not_found"},
		"a word":             {"DELETE", at + "?number=keep", "", 422, "number", "invalid"},
		"both":               {"DELETE", at + "?number=unlink&link_to=x", "", 422, "link_to", "invalid"},
		"to no id":           {"DELETE", at + "?link_to=x", "", 422, "link_to", "invalid"},
	} {
		p := ask(c.method, c.path, c.body, c.status)
		if field, _ := p["field"].(string); field != c.field || p["code"] != c.code {
			t.Errorf("%s: %v", name, p)
		}
	}
	s.wantUnchanged("what was refused", before)

	n := s.newNumber()
	linking := `{"number_id":"` + n.ID.String() + `"}`
	for range 2 {
		if a = ask("PUT", at+"/number", linking, 200); a["number_id"] != n.ID.String() || a["phone_number"] != n.PhoneNumber {
			t.Errorf("linked to %v", a)
		}
	}
	other := ask("POST", "/api/v1/agents", strings.Replace(body, "Reception", "Nights", 1), 201)
	to := "/api/v1/agents/" + fmt.Sprint(other["id"])
	if p := ask("PUT", to+"/number", linking, 409); p["code"] != "number_linked" {
		t.Errorf("%v", p)
	}
	for range 2 {
		if a = ask("DELETE", at+"/number", "", 200); a["number_id"] != nil {
			t.Errorf("unlinked %v", a)
		}
	}
	if p := ask("DELETE", at+"?link_to="+fmt.Sprint(other["id"]), "", 409); p["code"] != "agent_without_number" {
		t.Errorf("%v", p)
	}
	ask("PUT", at+"/number", linking, 200)
	if p := ask("DELETE", at, "", 409); p["code"] != "agent_linked" {
		t.Errorf("%v", p)
	}
	list := ask("GET", "/api/v1/agents?limit=1", "", 200)
	data, _ := list["data"].([]any)
	first, _ := data[0].(map[string]any)
	next := ask("GET", "/api/v1/agents?limit=1&cursor="+fmt.Sprint(list["next_cursor"]), "", 200)
	data, _ = next["data"].([]any)
	if second, _ := data[0].(map[string]any); first["name"] != "Nights" || second["name"] != "Reception" || next["next_cursor"] != nil {
		t.Errorf("the list is %v, then %v", list, next)
	}
	if d := ask("DELETE", at+"?link_to="+fmt.Sprint(other["id"]), "", 200); d["deleted"] != true || d["id"] != a["id"] {
		t.Errorf("%v", d)
	}
	ask("DELETE", at, "", 404)
	if a = ask("GET", to, "", 200); a["phone_number"] != n.PhoneNumber {
		t.Errorf("the other one is %v", a)
	}
	ask("DELETE", to+"?number=unlink", "", 200)
	// Keys do what they were given.
	key = s.keyWith(auth.AgentsRead)
	ask("GET", "/api/v1/agents", "", 200)
	if p := ask("POST", "/api/v1/agents", body, 403); p["code"] != "insufficient_scope" {
		t.Errorf("%v", p)
	}
	key = s.keyWith(auth.NumbersWrite | auth.CallsWrite)
	ask("GET", "/api/v1/agents", "", 403)
	s.numberBooks()
}
