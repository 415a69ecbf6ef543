package telephony_test

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
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// shopAgents is agents over a shop's sandbox.
func (s *shop) agents(with ...func(*telephony.AgentsOptions)) *telephony.Agents {
	s.t.Helper()
	o := telephony.AgentsOptions{
		DB: s.db, Gates: s.gates(), Jobs: s.inserter(), Log: s.logger(), Now: s.clock.Now, VapiKey: vapiKey, VapiBase: s.box.URL() + "/vapi",
		Events: telephony.VapiEvents{BaseURL: "https://ringfence.example", Secret: vapiKey}, Vault: s.vault, TwilioBase: s.box.URL(), Timeout: 500 * time.Millisecond,
	}
	for _, fn := range with {
		fn(&o)
	}
	a, err := telephony.NewAgents(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// TestCallerIDs: a number is an organisation's to show when somebody has answered it and typed the code, and no longer than
// that; nobody else may show it.
func TestCallerIDs(t *testing.T) {
	s := newShop(t)
	agents := s.agents()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := agents.VerifyCallerID(t.Context(), s.org, handset, audit.System("test"))
	wantFault(t, "without an account", err, fault.Conflict, "no_account")
	s.have(s.choose(1)[0], "number")
	_, err = agents.VerifyCallerID(t.Context(), s.org, "999", audit.System("test"))
	wantField(t, "no number", err, "phone_number")
	c, err := agents.VerifyCallerID(t.Context(), s.org, "+44 7400 123456", audit.System("test"))
	if err != nil || c.State != telephony.CallerIDWaiting || len(c.Code) != 6 || c.PhoneNumber != handset {
		t.Fatalf("%+v, %v", c, err)
	}
	if again, err := agents.VerifyCallerID(t.Context(), s.org, handset, audit.System("test")); err != nil || again.ID != c.ID || again.Code != c.Code {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	show := func(org, id uuid.UUID) error {
		f := fields()
		f.ForwardTo, f.CallerID = "+447400123999", uuid.NullUUID{UUID: id, Valid: true}
		_, err := agents.Create(t.Context(), telephony.AgentRequest{OrgID: org, AgentFields: f, Actor: audit.System("test")})
		return err
	}
	wantField(t, "not proven yet", show(s.org, c.ID), "caller_id")
	if ok, err := s.twilio.TypeCode(handset, "000000"); ok && err == nil {
		t.Error("any code will do")
	}
	sweep := func() {
		t.Helper()
		s.clock.Advance(11 * time.Second)
		if _, err := agents.SweepCallerIDs(t.Context()); err != nil {
			t.Error(err)
		}
	}
	state := func(id uuid.UUID) (state string) {
		dbtest.Get(t, s.dbURL, &state, `SELECT state FROM caller_ids WHERE id = $1`, id)
		return state
	}
	sweep()
	if got := state(c.ID); got != "waiting" {
		t.Errorf("it is %s", got)
	}
	c2, err := agents.VerifyCallerID(t.Context(), s.org, "+447400123999", audit.System("test"))
	must(err)
	if ok, err := s.twilio.TypeCode("+447400123999", c2.Code); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	sweep()
	list, err := agents.CallerIDs(t.Context(), s.org)
	if err != nil || len(list) != 2 || list[0].State != telephony.CallerIDVerified || list[0].Code != "" || list[0].SID == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	must(show(s.org, c2.ID))
	wantField(t, "another organisation's", show(s.other, c2.ID), "caller_id")
	if theirs, err := agents.CallerIDs(t.Context(), s.other); err != nil || len(theirs) != 0 {
		t.Errorf("they see %+v, %v", theirs, err)
	}
	if one, err := agents.CallerID(t.Context(), s.org, c2.ID); err != nil || one.State != telephony.CallerIDVerified || one.PhoneNumber != "+447400123999" {
		t.Errorf("alone it is %+v, %v", one, err)
	}
	_, err = agents.CallerID(t.Context(), s.other, c2.ID)
	wantFault(t, "reading another's", err, fault.NotFound, "")
	wantFault(t, "removing another's", agents.RemoveCallerID(t.Context(), s.other, c2.ID, audit.System("test")), fault.NotFound, "")

	// Nobody types the code of the first, and it is given up.
	s.clock.Advance(16 * time.Minute)
	sweep()
	if one, err := agents.CallerID(t.Context(), s.org, c.ID); err != nil || one.State != telephony.CallerIDFailed || !strings.Contains(one.Note, "in time") {
		t.Errorf("after a quarter of an hour it is %+v, %v", one, err)
	}
	// Twilio does not forget at once: it is tried again, and nobody shows the number meanwhile.
	s.faults(sandbox.Fault{Match: "DELETE /2010-04-01/Accounts/*/OutgoingCallerIds/*", Do: sandbox.Fault500})
	must(agents.RemoveCallerID(t.Context(), s.org, c2.ID, audit.System("test")))
	if n := s.count(`SELECT count(*) FROM agents WHERE caller_id IS NOT NULL`); n != 0 {
		t.Errorf("%d agents show it", n)
	}
	if got := state(c2.ID); got != "removing" {
		t.Errorf("it is %s", got)
	}
	sweep()
	if got := state(c2.ID); got != "removed" {
		t.Errorf("it is %s", got)
	}
	must(agents.RemoveCallerID(t.Context(), s.org, c2.ID, audit.System("test")))
	// Strangers' phones do not ring without end.
	s.clock.Advance(2 * time.Hour)
	for i := range 5 {
		if _, err := agents.VerifyCallerID(t.Context(), s.org, fmt.Sprintf("+44740012310%d", i), audit.System("test")); err != nil {
			t.Fatal(err)
		}
	}
	_, err = agents.VerifyCallerID(t.Context(), s.org, "+447400123109", audit.System("test"))
	wantFault(t, "the sixth in an hour", err, fault.TooMany, "")
	s.clock.Advance(time.Hour + time.Minute)
	s.faults(sandbox.Fault{Match: "POST /2010-04-01/Accounts/*/OutgoingCallerIds.json", Do: sandbox.Fault429})
	_, err = agents.VerifyCallerID(t.Context(), s.org, "+447400123110", audit.System("test"))
	wantFault(t, "Twilio is busy", err, fault.Unavailable, "provider_unavailable")
	s.faults(sandbox.Fault{Match: "POST /2010-04-01/Accounts/*/OutgoingCallerIds.json", Do: sandbox.FaultCutAfterActing})
	lost, err := agents.VerifyCallerID(t.Context(), s.org, "+447400123111", audit.System("test"))
	if err != nil || lost.State != telephony.CallerIDWaiting || lost.Code != "" || lost.Note == "" {
		t.Errorf("%+v, %v", lost, err)
	}
}

// callerShown is what Vapi has an agent show when it passes a caller on, once Vapi was told about it.
func (s *shop) callerShown(agents *telephony.Agents, id uuid.UUID) string {
	s.t.Helper()
	if err := agents.Sync(s.t.Context(), s.org, id); err != nil {
		s.t.Fatal(err)
	}
	a, err := agents.Agent(s.t.Context(), s.org, id)
	if err != nil || a.Sync != telephony.Synced {
		s.t.Fatalf("the agent is %s (%s), %v", a.Sync, a.Note, err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.box.URL()+"/vapi/assistant/"+a.AssistantID.String, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+vapiKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var at struct {
		Model struct {
			Tools []struct {
				Destinations []struct {
					CallerID string `json:"callerId"`
				} `json:"destinations"`
			} `json:"tools"`
		} `json:"model"`
	}
	if err := json.NewDecoder(res.Body).Decode(&at); err != nil || len(at.Model.Tools) != 1 || len(at.Model.Tools[0].Destinations) != 1 {
		s.t.Fatalf("%+v, %v", at, err)
	}
	return at.Model.Tools[0].Destinations[0].CallerID
}

// TestCallerIDOfAGoneAccount: what was proven to an account that is not open to us any more is neither offered nor shown, until
// the account is back, or it was proven again.
func TestCallerIDOfAGoneAccount(t *testing.T) {
	s := newShop(t)
	agents := s.agents()
	by := audit.System("test")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	proven := func(typed bool) telephony.CallerID {
		t.Helper()
		c, err := agents.VerifyCallerID(t.Context(), s.org, handset, by)
		must(err)
		if c.State != telephony.CallerIDWaiting || c.Code == "" {
			t.Fatalf("asked for, it is %+v", c)
		}
		if typed {
			_, err = s.twilio.TypeCode(handset, c.Code)
			must(err)
		}
		s.clock.Advance(16 * time.Minute)
		_, err = agents.SweepCallerIDs(t.Context())
		must(err)
		c, err = agents.CallerID(t.Context(), s.org, c.ID)
		must(err)
		return c
	}
	n := s.have(s.choose(1)[0], "number")
	c := proven(true)
	f := fields()
	f.ForwardTo, f.CallerID = "+447400123999", uuid.NullUUID{UUID: c.ID, Valid: true}
	a, err := agents.Create(t.Context(), telephony.AgentRequest{OrgID: s.org, AgentFields: f, Actor: by})
	must(err)
	const own = "{{phoneNumber.number}}"
	want := func(what string, usable bool) {
		t.Helper()
		list, err := agents.CallerIDs(t.Context(), s.org)
		if err != nil || len(list) != 1 || list[0].Usable() != usable || list[0].State != telephony.CallerIDVerified {
			t.Errorf("%s: %+v, %v", what, list, err)
		}
		show := own
		if usable {
			show = handset
		}
		if got := s.callerShown(agents, a.ID); got != show {
			t.Errorf("%s: an agent shows %s", what, got)
		}
		_, err = agents.Create(t.Context(), telephony.AgentRequest{OrgID: s.org, AgentFields: f, Key: "k", Actor: by})
		if usable {
			must(err)
			dbtest.Super(t, s.dbURL, `DELETE FROM agents WHERE key = 'k'`)
		} else {
			wantField(t, what, err, "caller_id")
		}
	}
	want("proven", true)
	// The subaccount is not open to us without a number in it, and is again with the next.
	s.run(s.release(n))
	want("without a number there", false)
	s.have(s.choose(1)[0], "another")
	want("with a number there", true)
	if again, err := agents.VerifyCallerID(t.Context(), s.org, handset, by); err != nil || again.State != telephony.CallerIDVerified || again.ID != c.ID {
		t.Errorf("what is proven was asked for again: %+v, %v", again, err)
	}
	must(agents.RemoveCallerID(t.Context(), s.org, c.ID, by))

	// An account of the customer's own is taken away, and given back.
	sid, token := s.ownAccount()
	_, err = s.saveOwn(sid, token)
	must(err)
	s.setMode(telephony.BYOC)
	c = proven(true)
	f.CallerID.UUID = c.ID
	_, err = agents.Edit(t.Context(), s.org, a.ID, f, by)
	must(err)
	want("proven to their own", true)
	must(s.RemoveOwn(t.Context(), s.org, audit.User(uuid.New())))
	want("taken away", false)
	_, err = s.saveOwn(sid, token)
	must(err)
	want("given back", true)
	other, otherToken := s.ownAccount()
	_, err = s.saveOwn(other, otherToken)
	must(err)
	want("another in its place", false)
	s.setMode(telephony.BYOC)

	// Nobody types the code: agents that were to show it do not wait for it any longer. Then somebody does.
	was := c
	if c = proven(false); c.ID != was.ID || c.State != telephony.CallerIDFailed || c.AccountSID != other {
		t.Errorf("not proven again: %+v", c)
	}
	if got := s.callerShown(agents, a.ID); got != own || s.count(`SELECT count(*) FROM agents WHERE caller_id IS NOT NULL`) != 0 {
		t.Errorf("what could not be proven again is shown: %s", got)
	}
	c = proven(true)
	f.CallerID.UUID = c.ID
	_, err = agents.Edit(t.Context(), s.org, a.ID, f, by)
	must(err)
	must(s.RemoveOwn(t.Context(), s.org, audit.User(uuid.New())))
	want("taken away again", false)
	was = c
	if c = proven(true); c.ID != was.ID || c.AccountSID == other { // to ours now
		t.Errorf("proven again: %+v", c)
	}
	want("proven again", true)
}

// TestOwnTexts: a text to an organisation's own number is believed when the number's own account signed it, kept once for the
// organisation, and its words about not being texted bind that number alone.
func TestOwnTexts(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "number")
	const base = "https://ringfence.example"
	messages, err := telephony.New(telephony.Options{
		DB: s.db, Gates: s.gates(), Log: s.logger(), Now: s.clock.Now, AccountSID: account, AuthToken: token, APIBase: s.box.URL(), From: sender, BaseURL: base, Vault: s.vault,
	})
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.vault.OpenCredential(t.Context(), s.db, s.org, telephony.Managed)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/api/webhooks/twilio/sms"
	text := func(sid, body string) url.Values {
		return url.Values{"MessageSid": {sid}, "AccountSid": {n.AccountSID.String}, "From": {handset}, "To": {n.PhoneNumber}, "Body": {body}, "NumMedia": {"0"}}
	}
	form := text("SM1", "Hello")
	elsewhere := text("SM1", "Hello")
	elsewhere.Set("To", "+14155550199")
	for what, c := range map[string]struct {
		token string
		form  url.Values
		want  bool
	}{
		"its own account's": {own, form, true}, "ours": {token, form, false}, "anybody's": {"x", form, false}, "of no number of ours": {own, elsewhere, false},
	} {
		got, err := messages.Genuine(t.Context(), path, c.form, sign(c.token, base+path, c.form))
		if got != c.want || err != nil {
			t.Errorf("%s: %t, %v", what, got, err)
		}
	}
	receive := func(org, sid, body string) string {
		t.Helper()
		reply, err := messages.Receive(t.Context(), telephony.Inbound{SID: sid, From: handset, To: n.PhoneNumber, Body: body, AccountSID: n.AccountSID.String})
		if err != nil {
			t.Fatal(org, err)
		}
		return reply
	}
	for range 2 {
		receive("", "SM1", "Are you open on Saturdays?")
	}
	list, err := messages.ListInbound(t.Context(), s.org, uuid.Nil, 10)
	if err != nil || len(list) != 1 || list[0].Body != "Are you open on Saturdays?" || list[0].Sender != handset || list[0].NumberID != n.ID || list[0].Meaning != "none" {
		t.Errorf("%+v, %v", list, err)
	}
	if theirs, err := messages.ListInbound(t.Context(), s.other, uuid.Nil, 10); err != nil || len(theirs) != 0 {
		t.Errorf("they see %+v, %v", theirs, err)
	}
	opted := func() int {
		return s.count(`SELECT count(*) FROM opt_outs WHERE org_id = $1 AND sender = $2`, s.org, n.PhoneNumber)
	}
	if reply := receive("", "SM2", " stop. "); reply != "" { // Twilio answers for numbers of the United States
		t.Errorf("answered %q", reply)
	}
	if opted() != 1 {
		t.Error("the wish is not noted")
	}
	receive("", "SM3", "START")
	receive("", "SM2", "STOP") // delivered again, late
	if opted() != 0 {
		t.Error("a STOP that came again undid a START")
	}
	receive("", "SM4", "STOP")
	// Who stops one number has not stopped the one that all share, nor the other way round.
	m, err := messages.Send(t.Context(), telephony.SendRequest{OrgID: s.org, To: handset, Body: "Hello", Key: "k", Actor: audit.System("test")})
	if err != nil || m.State != telephony.Sent {
		t.Errorf("%+v, %v", m, err)
	}
	if reply, err := messages.Receive(t.Context(), telephony.Inbound{SID: "SM9", From: handset, To: "+14155550199", Body: "STOP", AccountSID: "AC" + strings.Repeat("0", 32)}); err != nil || reply != "" {
		t.Errorf("to a number that is nobody's: %q, %v", reply, err)
	}
	if n := s.count(`SELECT count(*) FROM inbound_messages`); n != 4 {
		t.Errorf("%d are kept", n)
	}
	// A number that is being given back is nobody's any more.
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`, n.ID)
	receive("", "SM8", "Hello?")
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id = $1`, n.ID)
	if n := s.count(`SELECT count(*) FROM inbound_messages`); n != 4 {
		t.Errorf("%d are kept", n)
	}
	// Elsewhere we answer ourselves, in the organisation's name.
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET phone_number = '+447400123777' WHERE id = $1`, n.ID)
	reply, err := messages.Receive(t.Context(), telephony.Inbound{SID: "SM5", From: handset, To: "+447400123777", Body: "help", AccountSID: n.AccountSID.String, Media: 2})
	if err != nil || !strings.Contains(reply, "Harbour Dental") {
		t.Errorf("answered %q, %v", reply, err)
	}
	dbtest.Super(t, s.dbURL, `UPDATE numbers SET phone_number = $2 WHERE id = $1`, n.ID, n.PhoneNumber)
}

// TestRetention: what people said and wrote goes when its time has come, here and at Vapi; who it was with and what it cost
// stays.
func TestRetention(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	call := func(key string) (telephony.Call, *lineCall) {
		c, at := p.place(key)
		p.line.answer(at)
		p.clock.Advance(10 * time.Second)
		p.line.end(at, "customer-ended-call")
		p.tell(p.line.news(at, "end-of-call-report", ""))
		return c, at
	}
	old, at := call("old")
	if days, err := p.Retention(t.Context(), p.org); days != telephony.DefaultRetentionDays || err != nil {
		t.Errorf("%d days, %v", days, err)
	}
	for _, days := range []int{0, -1, 3651} {
		wantField(t, "days", p.SetRetention(t.Context(), p.org, days, audit.System("test")), "days")
	}
	erase := func(want int64) {
		t.Helper()
		if n, err := p.Erase(t.Context()); n != want || err != nil {
			t.Errorf("%d were erased, %v; want %d", n, err, want)
		}
	}
	p.clock.Advance(8 * 24 * time.Hour)
	recent, _ := call("recent")
	erase(0)
	for range 2 {
		if err := p.SetRetention(t.Context(), p.org, 7, audit.System("test")); err != nil {
			t.Fatal(err)
		}
	}
	p.line.mishap(mishap{what: "DELETE /call/*", do: "503"})
	if n, err := p.Erase(t.Context()); n != 1 || err == nil {
		t.Errorf("%d were erased, %v", n, err)
	}
	if got := p.call(old); got.Transcript != "" || got.RecordingURL != "" || got.ErasedAt == nil || got.Party != handset || got.Amount != 10 {
		t.Errorf("%+v", got)
	}
	if got := p.call(recent); got.Transcript == "" {
		t.Error("what is recent is erased")
	}
	if len(p.line.erased) != 0 {
		t.Error("Vapi has forgotten it already")
	}
	p.clock.Advance(time.Minute)
	erase(0)
	if len(p.line.erased) != 1 || p.line.erased[0] != at.ID {
		t.Errorf("Vapi has forgotten %v", p.line.erased)
	}
	p.tell(p.line.news(at, "end-of-call-report", "")) // late, and what was erased stays so
	if got := p.call(old); got.Transcript != "" {
		t.Error("it is back")
	}
	erase(0)
	if len(p.line.erased) != 1 {
		t.Error("Vapi was asked twice")
	}
	p.wantWallet("what it cost stays", 99_80, 0, 0)
}

// TestEraseParty: one person goes from an organisation's records, by number; the ledger keeps its amounts, others their records.
func TestEraseParty(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	const other = "+447400123999"
	c, at := p.place("k")
	_, err := p.EraseParty(t.Context(), p.org, handset, audit.System("test"))
	wantFault(t, "in a call", err, fault.Conflict, "under_way")
	p.line.answer(at)
	p.clock.Advance(10 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	r := p.request("other")
	r.To = other
	if _, err := p.Place(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p.settle()
	for _, org := range []uuid.UUID{p.org, p.other} {
		id, hold := uuid.New(), uuid.New()
		dbtest.Super(t, p.dbURL, `
			INSERT INTO holds SELECT $1, $2, 'message', 'm', fingerprint, 'sms', 1, $3, (SELECT id FROM prices WHERE action = 'sms' LIMIT 1), rate_id, 10, 0, 'void', false, actor, request_id, created_at, expires_at, updated_at, settled_by
			FROM holds LIMIT 1`, hold, org, handset)
		dbtest.Super(t, p.dbURL, `
			INSERT INTO messages (id, org_id, sender, recipient, body, encoding, segments, state, hold_id, key, fingerprint, actor, created_at, ended_at)
			VALUES ($1, $2, '+15005550006', $3, 'See you', 'gsm-7', 1, 'failed', $4, 'm', sha256('m'), 'system:test', $5, $5)`, id, org, handset, hold, p.clock.Now())
		number := p.number.ID
		if org == p.other {
			number = p.theirs.ID
		}
		dbtest.Super(t, p.dbURL, `
			INSERT INTO inbound_messages (id, org_id, number_id, sid, sender, recipient, body, meaning, received_at)
			VALUES ($1, $2, $3, $4, $5, '+14155550101', 'Hello', 'none', $6)`, uuid.New(), org, number, "SM"+id.String(), handset, p.clock.Now())
		dbtest.Super(t, p.dbURL, `INSERT INTO opt_outs (org_id, sender, recipient, word, since) VALUES ($1, '+14155550101', $2, 'STOP', now())`, org, handset)
	}
	_, err = p.EraseParty(t.Context(), p.org, "nobody", audit.System("test"))
	wantField(t, "no number", err, "number")
	want := telephony.Erased{Calls: 1, Messages: 1, Inbound: 1, Holds: 2}
	for range 2 {
		e, err := p.EraseParty(t.Context(), p.org, handset, audit.System("test"))
		if err != nil || e != want {
			t.Errorf("%+v, %v; want %+v", e, err, want)
		}
		want = telephony.Erased{}
	}
	for query, n := range map[string]int{
		`SELECT count(*) FROM calls WHERE org_id = $1 AND (party = '` + handset + `' OR transcript <> '' AND party <> '` + other + `')`: 0,
		`SELECT count(*) FROM messages WHERE org_id = $1 AND (recipient = '` + handset + `' OR body <> '')`:                             0,
		`SELECT count(*) FROM inbound_messages WHERE org_id = $1 AND (sender = '` + handset + `' OR body <> '')`:                        0,
		`SELECT count(*) FROM holds WHERE org_id = $1 AND destination = '` + handset + `'`:                                              0,
		`SELECT count(*) FROM calls WHERE org_id = $1 AND party = '` + other + `'`:                                                      1,
		`SELECT count(*) FROM opt_outs WHERE org_id = $1 AND recipient = '` + handset + `'`:                                             1,
		`SELECT count(*) FROM audit_log WHERE org_id = $1 AND action = 'party.erased' AND subject NOT LIKE '%7400123%'`:                 2,
	} {
		if got := p.number1(query, p.org); got != n {
			t.Errorf("%s: %d, want %d", query, got, n)
		}
	}
	for _, query := range []string{
		`SELECT count(*) FROM messages WHERE org_id = $1 AND recipient = '` + handset + `' AND body <> ''`,
		`SELECT count(*) FROM inbound_messages WHERE org_id = $1 AND sender = '` + handset + `'`,
		`SELECT count(*) FROM holds WHERE org_id = $1 AND destination = '` + handset + `'`,
	} {
		if got := p.number1(query, p.other); got != 1 {
			t.Errorf("another organisation's: %s: %d", query, got)
		}
	}
	if _, err := p.Erase(t.Context()); err != nil || len(p.line.erased) != 1 {
		t.Errorf("Vapi has forgotten %v, %v", p.line.erased, err)
	}
	if got := p.call(c); got.Party != "+44•••••••456" || got.Amount != 10 {
		t.Errorf("%+v", got)
	}
	p.wantWallet("the ledger keeps its amounts", money.Pence(10_00-10), 0, 0)
	dbtest.Super(t, p.dbURL, `DELETE FROM messages; DELETE FROM holds WHERE source = 'message'`) // planted
}
