package handlers_test

import (
	"encoding/json"
	"fmt"
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
)

// newCaller makes an agent of Harbour Dental's that is ready and has a number to call from.
func (s *site) newCaller(name string) telephony.Agent {
	s.t.Helper()
	a := s.newAgent(name, true)
	a, err := s.agents.Link(s.t.Context(), s.org, a.ID, s.newNumber().ID, audit.System("test"))
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// tellVapi tells the site something as Vapi does, and wants it answered so.
func (s *site) tellVapi(status int, message map[string]any) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"message": message})
	if err != nil {
		s.t.Fatal(err)
	}
	res := s.browser().do("POST", telephony.WebhookPath, strings.NewReader(string(body)), "Authorization", "Bearer "+vapiSecret, "Content-Type", "application/json")
	wantStatus(s.t, fmt.Sprint("Vapi's ", message["type"]), res, status)
	return res.body
}

// lasted has Vapi report that a call was answered, and ended so many seconds later: just now, so that it was asked for before.
func (s *site) lasted(id string, seconds int) {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `
		UPDATE calls SET created_at = created_at - x.ago, asked_at = asked_at - x.ago, accepted_at = accepted_at - x.ago, started_at = started_at - x.ago
		FROM (SELECT make_interval(secs => $2) AS ago) x WHERE vapi_id = $1 AND ended_at IS NULL`, id, seconds)
	began := time.Now().Add(-time.Duration(seconds) * time.Second).UTC()
	s.tellVapi(http.StatusOK, map[string]any{
		"type": "end-of-call-report", "endedReason": "customer-ended-call", "startedAt": began.Format(time.RFC3339Nano),
		"endedAt":  began.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339Nano),
		"artifact": map[string]any{"transcript": "AI: Hello <b>you</b>\nUser: Are you open?", "recordingUrl": "https://storage.vapi.ai/r/" + id + ".wav"},
		"call":     map[string]any{"id": id},
	})
}

// calling sends the form of the page with calls.
func (b *browser) calling(page reply, agent, to string, headers ...string) reply {
	b.s.t.Helper()
	form := url.Values{"agent": {agent}, "to": {to}}
	for _, name := range []string{"csrf_token", "key"} {
		form.Set(name, page.doc(b.s.t).Find(`#place-form input[name="`+name+`"]`).AttrOr("value", ""))
	}
	return b.post("/calls", form, headers...)
}

// A call is asked for with what it may come to, goes on before one's eyes, is paid for, read and erased.
func TestCallsPages(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	page := b.get("/calls")
	wantStatus(t, "empty", page, http.StatusOK)
	wantText(t, "empty", page, "#calls", "No calls yet")
	wantText(t, "nobody can call", page, "#place-call", "No agent of yours can call yet")
	a := s.newCaller("Reception")
	page = b.get("/calls")
	wantText(t, "who calls", page, "#caller", "Reception, +1 212")
	wantText(t, "what a call comes to", page, "#place-cost", "£0.56", "$0.70", "At most, after 30 min", "£16.59", "£0.79 must be available")
	quote := func(to string) reply {
		return b.send("/calls", "/calls/quote", url.Values{"to": {to}, "agent": {a.ID.String()}}, "HX-Request", "true")
	}
	wantText(t, "a number", quote("+447400123456"), "dl", "A minute, to +44 7400 123456", "£0.56")
	wantText(t, "not offered", quote("+18765551234"), "p", "not offered")

	for what, c := range map[string]struct{ agent, to, selector, says string }{
		"no number":   {a.ID.String(), "hello", "#call-to-error", "not a phone number"},
		"not offered": {a.ID.String(), "+18765551234", "#call-to-error", "not offered"},
		"nobody":      {"", "+447400123456", "#caller-error", "Choose who calls"},
		"no agent":    {uuid.NewString(), "+447400123456", "#caller-error", "no such agent"},
	} {
		res := b.calling(page, c.agent, c.to)
		if res.StatusCode != http.StatusUnprocessableEntity && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", what, res.Status)
		}
		wantText(t, what, res, c.selector, c.says)
		if got := res.doc(t).Find("#call-to").AttrOr("value", ""); got != c.to {
			t.Errorf("%s: the number is gone: %q", what, got)
		}
	}
	res := b.calling(page, a.ID.String(), "+44 7400 123456")
	wantStatus(t, "calling", res, http.StatusSeeOther)
	path := res.Header.Get("Location")
	if again := b.calling(page, a.ID.String(), "+44 7400 123456", "HX-Request", "true"); again.Header.Get("HX-Redirect") != path {
		t.Errorf("the same form again leads to %q, not %q", again.Header.Get("HX-Redirect"), path)
	}
	one := b.get(path)
	wantText(t, "ringing", one, "h1", "Call to +44 7400 123456")
	wantText(t, "ringing", one, "#call-state", "Ringing", "£0.56 on hold")
	wantText(t, "ringing", one, "#history", "Asked for by you", "Rings")
	wantText(t, "ringing", one, "#words", "stands here when the call is over")
	seen := one.doc(t).Find("#call-place [hx-get]").AttrOr("hx-get", "")
	wantStatus(t, "nothing new", b.get(seen, "HX-Request", "true"), http.StatusNoContent)
	wantText(t, "the list", b.get("/calls"), "#calls tbody", "To", "+44 7400 123456", "Reception", "Ringing", "£0.56 on hold")
	if rows := b.get("/calls?part=rows", "HX-Request", "true"); rows.doc(t).Find("form").Length() != 0 {
		t.Error("the list brings its form")
	}
	wantText(t, "a viewer", s.as("viewer@harbour.example").get("/calls"), "#place-call", "your role is viewer")

	id := s.text(`SELECT vapi_id FROM calls`)
	s.tellVapi(http.StatusOK, map[string]any{"type": "status-update", "status": "in-progress", "call": map[string]any{"id": id}})
	wantText(t, "speaking", b.get(seen, "HX-Request", "true"), "#call-state", "Speaking")
	wantStatus(t, "erasing what goes on", b.send(path, path+"/erase", url.Values{"confirm": {"yes"}}), http.StatusConflict)
	s.lasted(id, 91)
	one = b.get(path)
	wantText(t, "over", one, "#standing", "Completed", "£0.84", "1 min 31 s")
	wantText(t, "what was said", one, "#transcript", "Agent", "Hello <b>you</b>", "Other side", "Are you open?")
	wantText(t, "when it goes", one, "#erase-due", "erased on")
	if href := one.doc(t).Find("#recording").AttrOr("href", ""); href != "https://storage.vapi.ai/r/"+id+".wav" {
		t.Errorf("the recording is at %q", href)
	}
	paid := one.doc(t).Find("#entries a").AttrOr("href", "")
	tx := b.get(paid)
	wantText(t, "what it was paid by", tx, "main", "£0.84", "Call to +44•••••••456, 1 min 31 s")
	if back := tx.doc(t).Find("#call").AttrOr("href", ""); back != path {
		t.Errorf("what it was paid by leads to %q", back)
	}
	if n := s.balance(); n != 569_00-10_00-84 {
		t.Errorf("the balance is %d", n)
	}
	// Erased when somebody says that they mean it, and only then.
	wantText(t, "asked first", b.get(path+"/erase"), "main", "Nobody can bring them back")
	wantStatus(t, "not meant", b.send(path+"/erase", path+"/erase", url.Values{}), http.StatusUnprocessableEntity)
	wantText(t, "still there", b.get(path), "#transcript", "Are you open?")
	wantStatus(t, "meant", b.send(path+"/erase", path+"/erase", url.Values{"confirm": {"yes"}}), http.StatusSeeOther)
	one = b.get(path)
	wantText(t, "erased", one, "#erased", "was erased on")
	if one.doc(t).Find("#transcript, #recording, #erase").Length() != 0 {
		t.Error("what was erased is there")
	}

	// One that rings is ended, by who may and by nobody else.
	second := b.calling(b.get("/calls"), a.ID.String(), "+447400123999").Header.Get("Location")
	wantStatus(t, "hanging up", b.send(second, second+"/hangup", nil), http.StatusSeeOther)
	one = b.get(second)
	wantText(t, "hung up", one, "#standing", "It was ended on request", "Not charged")
	wantText(t, "hung up", one, "#history", "Told to end by you")
	if one.doc(t).Find("#hangup").Length() != 0 {
		t.Error("what has ended can be ended")
	}

	// Filters.
	for query, n := range map[string]int{
		"": 2, "direction=outbound": 2, "direction=inbound": 0, "state=completed": 1, "state=ringing": 0, "agent=" + a.ID.String(): 2, "agent=" + uuid.NewString(): 0,
		"number=7400": 2, "number=123999": 1, "number=999999": 0, "from=2020-01-01": 2, "to=2020-01-01": 0,
	} {
		res := b.get("/calls?" + query)
		if got := res.doc(t).Find("#calls tbody tr").Length(); got != n || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %d calls, want %d", query, res.Status, got, n)
		}
	}
	for query, selector := range map[string]string{"number=x": "#number-error", "from=x": "#from-error", "from=2026-01-02&to=2026-01-01": "#to-error", "state=x": "#state-error", "agent=x": "#agent-error"} {
		res := b.get("/calls?" + query)
		wantStatus(t, query, res, http.StatusUnprocessableEntity)
		wantText(t, query, res, "#calls", "Nothing was looked for")
		if res.doc(t).Find(selector).Text() == "" {
			t.Errorf("%s: nothing stands beside the field", query)
		}
	}
}

// Without money it is said what is missing, and nobody is called.
func TestCallsUnpaid(t *testing.T) {
	s := newSite(t)
	a := s.newCaller("Reception")
	s.adjust(-(559_00 - 78))
	b := s.as("owner@harbour.example")
	page := b.get("/calls")
	wantText(t, "before", page, "#short", "£0.79", "£0.78 is available", "Top up")
	for _, headers := range [][]string{nil, {"HX-Request", "true"}} {
		res := b.calling(page, a.ID.String(), "+447400123456", headers...)
		wantStatus(t, "78p", res, http.StatusPaymentRequired)
		wantText(t, "78p", res, "#unpaid", "This needs £0.79, and £0.78 is available", "Top up at least £0.01", "Nobody was called")
		if headers != nil && res.Header.Get("HX-Retarget") != "#place-call-place" {
			t.Error("the refusal does not go to the form")
		}
	}
	if n := s.count(`SELECT count(*) FROM calls`) + len(s.vapi.Books().Calls); n != 0 || s.balance() != 78 {
		t.Errorf("%d calls were made, and %dp is left", n, s.balance())
	}
	s.adjust(1)
	wantStatus(t, "79p", b.calling(page, a.ID.String(), "+447400123456"), http.StatusSeeOther)
}

// Calls over the API: asked for, listed, read and ended; every refusal has its code, and nothing is charged for it.
func TestCallsAPI(t *testing.T) {
	s := newSite(t)
	b, key := s.browser(), s.programKey()
	bare := s.newAgent("Bare", true)
	const to = `"to":"+44 7400 123456"`
	refused := func(what, body string, want problem) {
		t.Helper()
		if got := b.program("POST", "/api/v1/calls", key, body).problem(t); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	refused("no agent has a number", `{`+to+`}`, problem{409, "agent_without_number", "agent_id"})
	refused("this one has none", `{`+to+`,"agent_id":"`+bare.ID.String()+`"}`, problem{409, "agent_without_number", "agent_id"})
	a := s.newCaller("Reception")
	late := s.newAgent("Late", false)
	if _, err := s.agents.Link(t.Context(), s.org, late.ID, s.newNumber().ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	refused("not told yet", `{`+to+`,"agent_id":"`+late.ID.String()+`"}`, problem{409, "agent_not_ready", "agent_id"})
	refused("which of them", `{`+to+`}`, problem{422, "invalid", "agent_id"})
	refused("no agent", `{`+to+`,"agent_id":"`+uuid.NewString()+`"}`, problem{422, "invalid", "agent_id"})
	refused("no id", `{`+to+`,"agent_id":"x"}`, problem{422, "invalid", "agent_id"})
	refused("no number", `{"to":"x"}`, problem{422, "invalid", "to"})
	refused("too far", `{"to":"+18765551234","agent_id":"`+a.ID.String()+`"}`, problem{403, "destination_not_offered", "to"})
	refused("no JSON", `hello`, problem{400, "malformed", ""})
	off := a.AgentFields
	off.Active = false
	if _, err := s.agents.Edit(t.Context(), s.org, a.ID, off, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	refused("switched off", `{`+to+`,"agent_id":"`+a.ID.String()+`"}`, problem{409, "agent_off", "agent_id"})
	if _, err := s.agents.Edit(t.Context(), s.org, a.ID, a.AgentFields, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	if err := s.vapi.SetFaults(sandbox.Fault{Match: sandbox.MakeAgentCall, Do: sandbox.FaultRefuse, Code: 400}); err != nil {
		t.Fatal(err)
	}
	refused("our voice service does not take it", `{`+to+`,"agent_id":"`+a.ID.String()+`"}`, problem{422, "not_callable", "to"})
	balance := s.balance()
	res := b.program("POST", "/api/v1/calls", key, `{`+to+`,"agent_id":"`+a.ID.String()+`"}`, "Idempotency-Key", "k")
	wantStatus(t, "calling", res, http.StatusCreated)
	type seen struct {
		ID, State, Direction, To, From, Transcript string
		Agent                                      string `json:"agent_id"`
		Amount                                     int    `json:"amount_pence"`
		Seconds                                    int
	}
	read := func(res reply) (c seen) {
		t.Helper()
		if err := json.Unmarshal([]byte(res.body), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := read(res)
	if c.State != "ringing" || c.Direction != "outbound" || c.To != "+447400123456" || c.From != a.PhoneNumber.String || c.Agent != a.ID.String() || c.Amount != 56 {
		t.Errorf("%+v", c)
	}
	again := b.program("POST", "/api/v1/calls", key, `{`+to+`,"agent_id":"`+a.ID.String()+`"}`, "Idempotency-Key", "k")
	if again.body != res.body || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %s %s", again.Status, again.body)
	}
	wantStatus(t, "another with the key", b.program("POST", "/api/v1/calls", key, `{"to":"+447400123999","agent_id":"`+a.ID.String()+`"}`, "Idempotency-Key", "k"), http.StatusConflict)
	wantStatus(t, "without a key", b.do("POST", "/api/v1/calls", strings.NewReader(`{`+to+`}`), "Authorization", "Bearer "+key), http.StatusBadRequest)
	vapiID := s.text(`SELECT vapi_id FROM calls WHERE id = $1`, c.ID)
	s.lasted(vapiID, 30)
	for range 2 { // which changes nothing of one that has ended
		wantStatus(t, "hanging up", b.program("POST", "/api/v1/calls/"+c.ID+"/hangup", key, ""), http.StatusOK)
	}
	wantStatus(t, "hanging up without a key", b.do("POST", "/api/v1/calls/"+c.ID+"/hangup", nil, "Authorization", "Bearer "+key), http.StatusBadRequest)
	rings := read(b.program("POST", "/api/v1/calls", key, `{"to":"+447400123999","agent_id":"`+a.ID.String()+`"}`))
	if hung := read(b.program("POST", "/api/v1/calls/"+rings.ID+"/hangup", key, "{}")); hung.ID != rings.ID || hung.State == "ringing" || hung.Amount != 0 {
		t.Errorf("hung up: %+v", hung)
	}
	c = read(b.program("GET", "/api/v1/calls/"+c.ID, key, ""))
	if c.State != "completed" || c.Seconds != 30 || c.Amount != 28 || !strings.HasPrefix(c.Transcript, "AI: Hello") {
		t.Errorf("%+v", c)
	}
	if n := s.balance(); n != balance-28 {
		t.Errorf("it cost %dp", balance-n)
	}
	list := func(query string) (ids []string, next string) {
		t.Helper()
		res := b.program("GET", "/api/v1/calls?"+query, key, "")
		wantStatus(t, query, res, http.StatusOK)
		var out struct {
			Data []seen
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(res.body), &out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Data {
			if ids = append(ids, c.ID); c.Transcript != "" {
				t.Error("the list has what was said")
			}
		}
		return ids, out.Next
	}
	if ids, next := list("limit=1"); len(ids) != 1 || ids[0] != rings.ID || next != rings.ID {
		t.Errorf("%v, then %s", ids, next)
	}
	if ids, next := list("cursor=" + c.ID); len(ids) != 1 || next != "" { // the one that was not taken
		t.Errorf("%v, then %s", ids, next)
	}
	for query, n := range map[string]int{"state=completed": 1, "direction=inbound": 0, "agent_id=" + a.ID.String(): 3, "number=7400123": 3, "number=7400123999": 1, "since=2020-01-01": 3, "until=2020-01-01": 0} {
		if ids, _ := list(query); len(ids) != n {
			t.Errorf("%s: %d calls, want %d", query, len(ids), n)
		}
	}
	for query, field := range map[string]string{"state=x": "state", "direction=x": "direction", "agent_id=x": "agent_id", "number=x": "number", "since=x": "since", "since=2026-01-02&until=2026-01-01": "until", "limit=0": "limit", "cursor=x": "cursor"} {
		if got := b.program("GET", "/api/v1/calls?"+query, key, "").problem(t); got != (problem{422, "invalid", field}) {
			t.Errorf("%s: %+v", query, got)
		}
	}
	// What another organisation's program asks for is not there, and stays as it is.
	before := s.state()
	other := s.keyOf(s.other, auth.AllScopes)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/v1/calls/" + c.ID, ""}, {"POST", "/api/v1/calls/" + c.ID + "/hangup", "{}"}, {"GET", "/api/v1/calls/x", ""},
	} {
		if got := b.program(c.method, c.path, other, c.body).problem(t); got.Status != 404 {
			t.Errorf("%s %s by another organisation: %+v", c.method, c.path, got)
		}
	}
	if got := b.program("POST", "/api/v1/calls", other, `{`+to+`,"agent_id":"`+a.ID.String()+`"}`).problem(t); got != (problem{422, "invalid", "agent_id"}) {
		t.Errorf("another organisation's agent: %+v", got)
	}
	if res := b.program("GET", "/api/v1/calls", other, ""); !strings.Contains(res.body, `"data":[]`) {
		t.Errorf("another organisation's list: %s", res.body)
	}
	narrow := s.keyWith(auth.WalletRead)
	for _, path := range []string{"GET /api/v1/calls", "POST /api/v1/calls", "GET /api/v1/calls/" + c.ID, "POST /api/v1/calls/" + c.ID + "/hangup", "GET /api/v1/messages"} {
		method, path, _ := strings.Cut(path, " ")
		if got := b.program(method, path, narrow, `{}`).problem(t); got.Code != "insufficient_scope" {
			t.Errorf("%s with another scope: %+v", path, got)
		}
	}
	s.wantUnchangedBut("what others ask for", before, "api_keys", "audit_log")
}

// Word of a call that is not here is a 404: nothing changes, and nothing is charged.
func TestVapiWordOfNoCall(t *testing.T) {
	f := newFixture(t)
	before := f.state()
	for _, id := range []any{uuid.NewString(), "", 7, strings.Repeat("x", 200)} {
		status := http.StatusNotFound
		if id == 7 {
			status = http.StatusBadRequest
		}
		for _, kind := range []string{"status-update", "end-of-call-report"} {
			f.tellVapi(status, map[string]any{"type": kind, "status": "ended", "startedAt": "2026-07-01T12:00:00Z", "endedAt": "2026-07-01T13:00:00Z", "call": map[string]any{"id": id}})
		}
	}
	f.wantUnchanged("word of no call", before)
}

// A caller to a number whose wallet is short is told politely that nobody is there, and never that money is missing.
func TestCallInWithoutMoney(t *testing.T) {
	s := newSite(t)
	a := s.newCaller("Reception")
	phone := s.text(`SELECT vapi_id FROM numbers WHERE id = $1`, a.NumberID.UUID)
	s.adjust(-(559_00 - 78))
	ask := func(id string) string {
		return s.tellVapi(http.StatusOK, map[string]any{"type": "assistant-request", "call": map[string]any{"id": id, "phoneNumberId": phone, "customer": map[string]any{"number": "+447400123456"}}})
	}
	for range 2 {
		said := ask("c1")
		if !strings.Contains(said, "Sorry, nobody can take your call") || strings.Contains(said, "money") || strings.Contains(said, "£") || strings.Contains(said, "assistantId") {
			t.Errorf("the caller hears %s", said)
		}
	}
	if n := s.balance(); n != 78 {
		t.Errorf("%dp is left", n)
	}
	one := s.as("owner@harbour.example").get("/calls/" + s.text(`SELECT id::text FROM calls`))
	wantText(t, "what its owner reads", one, "main", "Call from +44 7400 123456", "Not taken", "not enough money", "£0.79", "Nothing was charged")
	s.adjust(1)
	if said := ask("c2"); !strings.Contains(said, a.AssistantID.String) {
		t.Errorf("with 79p the call is answered %s", said)
	}
}

// keyOf makes an API key of an organisation.
func (s *site) keyOf(org uuid.UUID, scopes auth.Scopes) string {
	s.t.Helper()
	other := *s
	other.org = org
	return other.keyWith(scopes)
}

// wantUnchangedBut is wantUnchanged but for some tables.
func (s *site) wantUnchangedBut(what string, before map[string]string, tables ...string) {
	s.t.Helper()
	after := s.state()
	for _, name := range tables {
		delete(after, name)
	}
	for name, print := range after {
		if before[name] != print {
			s.t.Errorf("%s changed %s: %s before, %s after", what, name, before[name], print)
		}
	}
}

// Owners say for how long words are kept, and have a person erased; the audit log has both.
func TestPrivacy(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	const path = "/settings/privacy"
	wantText(t, "as it is", b.get(path), "#kept", "90 days")
	for _, bad := range []string{"", "0", "x", "3651", "1.5", "99999999999999999999"} {
		res := b.send(path, path, url.Values{"days": {bad}})
		wantStatus(t, bad, res, http.StatusUnprocessableEntity)
		wantText(t, bad, res, "#days-error", "from 1 to 3,650")
	}
	for _, mean := range []string{"", "31"} { // fewer days erase for good, so they are asked for twice, and the same both times
		res := b.send(path, path, url.Values{"days": {" 30 "}, "shorter": {mean}})
		wantStatus(t, "not meant yet", res, http.StatusUnprocessableEntity)
		wantText(t, "not meant yet", res, "#shorter", "more than 30 days ago is erased")
		wantText(t, "not meant yet", b.get(path), "#kept", "90 days")
	}
	wantStatus(t, "30 days", b.send(path, path, url.Values{"days": {" 30 "}, "shorter": {"30"}}), http.StatusSeeOther)
	wantText(t, "30 days", b.get(path+"?done=saved"), "main", "kept for 30 days from now on")
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'retention.set' AND org_id = $1 AND actor LIKE 'user:%'`, s.org); n != 1 {
		t.Errorf("it is in the audit log %d times", n)
	}
	wantStatus(t, "a text", b.program("POST", "/api/v1/messages", s.programKey(), `{"to":"+447400123456","body":"See you"}`), http.StatusCreated)
	erase := path + "/erase"
	res := b.send(path, erase, url.Values{"number": {"+44 7400 123456"}})
	wantStatus(t, "not meant", res, http.StatusUnprocessableEntity)
	wantText(t, "not meant", res, "#confirm-error", "you mean it")
	res = b.send(path, erase, url.Values{"number": {"nobody"}, "confirm": {"yes"}})
	wantStatus(t, "no number", res, http.StatusUnprocessableEntity)
	wantText(t, "no number", res, "#person-number-error", "not a phone number")
	dbtest.Super(t, s.dbURL, `UPDATE messages SET state = 'sending' WHERE org_id = $1`, s.org)
	res = b.send(path, erase, url.Values{"number": {"+447400123456"}, "confirm": {"yes"}})
	wantStatus(t, "under way", res, http.StatusConflict)
	wantText(t, "under way", res, "#not-erased", "on its way")
	dbtest.Super(t, s.dbURL, `UPDATE messages SET state = 'sent' WHERE org_id = $1`, s.org)
	for what, words := range map[string]string{"erased": "0 calls and 1 text, and whom 1 payment was for", "again": "nothing about +44•••••••456"} {
		if what == "again" {
			continue
		}
		res = b.send(path, erase, url.Values{"number": {"+44 7400 123456"}, "confirm": {"yes"}})
		wantStatus(t, what, res, http.StatusOK)
		wantText(t, what, res, "#erased", "+44•••••••456", words)
	}
	res = b.send(path, erase, url.Values{"number": {"+44 7400 123456"}, "confirm": {"yes"}})
	wantText(t, "again", res, "#erased", "nothing about +44•••••••456")
	if n := s.count(`SELECT count(*) FROM messages WHERE recipient = '+447400123456' OR body <> ''`); n != 0 {
		t.Errorf("%d are left", n)
	}
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'party.erased' AND org_id = $1 AND actor LIKE 'user:%'`, s.org); n != 2 {
		t.Errorf("it is in the audit log %d times", n)
	}
	page := b.get("/messages")
	wantText(t, "its text", page, "#messages tbody", "+44•••••••456", "The words were erased")
	detail := b.get(page.doc(t).Find("#messages tbody a").First().AttrOr("href", ""))
	wantText(t, "its text", detail, "#body", "The words were erased")
	if detail.doc(t).Find("#conversation").Length() != 0 {
		t.Error("there is a conversation with who was erased")
	}
	looks := s.as("viewer@harbour.example")
	wantText(t, "a viewer", looks.get(path), "main", "Owners change this")
	if looks.get(path).doc(t).Find("main form").Length() != 0 {
		t.Error("a viewer can change something")
	}
}
