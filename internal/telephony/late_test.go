package telephony_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// between is what stands between us and a provider: once, at a request whose method and path end so, it does something before or
// after the provider acts, or puts another id into the answer.
type between struct {
	method, path  string
	before, after func()
	id            string
}

// RoundTrip implements http.RoundTripper.
func (b *between) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != b.method || !strings.HasSuffix(r.URL.Path, b.path) {
		return http.DefaultTransport.RoundTrip(r)
	}
	b.method = "" // once
	if b.before != nil {
		b.before()
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if b.after != nil {
		b.after()
	}
	if err != nil || b.id == "" {
		return res, err
	}
	defer res.Body.Close()
	said := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		return nil, err
	}
	said["id"] = b.id
	body, err := json.Marshal(said)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, err
}

func (b *between) way() telephony.Transport {
	return func(string) http.RoundTripper { return b }
}

// to brings a number to a step.
func (s *shop) to(step telephony.Step, n telephony.Number) telephony.Number {
	s.t.Helper()
	for n.Step != step {
		n = s.stepped(n)
	}
	return n
}

// strays does what the queue does with what came too late, and says for how much.
func (s *shop) strays() int {
	s.t.Helper()
	var args []string
	dbtest.Select(s.t, s.dbURL, &args, `SELECT args::text FROM river_job WHERE kind = 'mend' ORDER BY id`)
	dbtest.Super(s.t, s.dbURL, `DELETE FROM river_job WHERE kind = 'mend'`)
	for _, a := range args {
		var m telephony.Mend
		if err := json.Unmarshal([]byte(a), &m); err != nil {
			s.t.Fatal(err)
		}
		if err := s.Mend(s.t.Context(), m); err != nil {
			s.t.Fatal(err)
		}
	}
	return len(args)
}

// TestSoldAfterGivenUp: Twilio sells a number when it had been given up: it is given back, and nothing is charged for it, then or
// by the month.
func TestSoldAfterGivenUp(t *testing.T) {
	s := newShop(t)
	n := s.to(telephony.StepPurchase, s.buy(s.choose(1)[0], "k"))
	slow := s.open(s.box.URL(), 0, func(o *telephony.NumbersOptions) {
		o.Transport = (&between{method: http.MethodPost, path: "/IncomingPhoneNumbers.json", before: func() {
			s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepPurchase) // somebody else, meanwhile
		}}).way()
	})
	if err := slow.Advance(t.Context(), n.OrgID, n.ID); err != nil {
		t.Fatal(err)
	}
	if owned := s.twilio.Books().Owned(n.AccountSID.String); len(owned) != 1 {
		t.Fatalf("Twilio has sold %+v", owned)
	}
	if s.strays() != 1 {
		t.Error("nobody takes it away")
	}
	s.wantEnd(n, telephony.NumberFailed, telephony.StepPurchase)
	s.clock.Advance(45 * 24 * time.Hour)
	s.rents()
	s.wantWallet(s.org, 30_00, 0, 0)
	if got := s.count(`SELECT count(*) FROM ledger_transactions WHERE kind = 'rent'`) + s.count(`SELECT count(*) FROM numbers WHERE paid_until IS NOT NULL OR months > 0`); got != 0 {
		t.Errorf("%d rents", got)
	}
}

// TestImportAnsweredLate: Vapi imports a number and says so when another worker has taken the step up: it is imported once, and
// what was adopted stays.
func TestImportAnsweredLate(t *testing.T) {
	s := newShop(t)
	n := s.to(telephony.StepImport, s.buy(s.choose(1)[0], "k"))
	late := &between{method: http.MethodPost, path: "/phone-number"}
	late.after = func() { s.wantState(s.run(n), telephony.NumberActive, "") }
	slow := func() *telephony.Numbers {
		return s.open(s.box.URL(), 0, func(o *telephony.NumbersOptions) { o.Transport = late.way() })
	}
	if err := slow().Advance(t.Context(), n.OrgID, n.ID); err != nil {
		t.Fatal(err)
	}
	if imports := s.vapi.Books().Imports; imports.Asked != 1 || s.strays() != 1 {
		t.Errorf("imported %+v", imports)
	}
	s.wantState(n, telephony.NumberActive, "")
	s.wantAgree()

	// It takes so long that it is asked for again; the first request is acted upon after that.
	s.customer()
	n = s.to(telephony.StepImport, s.buy(s.choose(1)[0], "again"))
	late = &between{method: http.MethodPost, path: "/phone-number"}
	late.before = func() { s.wantState(s.run(n), telephony.NumberActive, "") }
	if err := slow().Advance(t.Context(), n.OrgID, n.ID); err != nil {
		t.Fatal(err)
	}
	s.strays()
	s.wantState(n, telephony.NumberActive, "")
	s.wantAgree()

	// The record comes when it was looked for already, or just before it is asked for again.
	for _, asksAgain := range []bool{false, true} {
		s.customer()
		n = s.to(telephony.StepImport, s.buy(s.choose(1)[0], "late"))
		s.faults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultTimeout, MS: 1})
		n = s.stepped(n)
		for n = s.stepped(n); asksAgain && n.AskedAt != nil; {
			n = s.stepped(n)
		}
		s.importByHand(n)
		n = s.run(n)
		s.wantState(n, telephony.NumberActive, "")
		s.wantAgree()
	}
}

// importByHand has Vapi take a number under the name that we give it, as a request does that it acts upon late.
func (s *shop) importByHand(n telephony.Number) {
	s.t.Helper()
	token, err := s.vault.OpenCredential(s.t.Context(), s.db, n.OrgID, n.Kind)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"provider": "twilio", "number": n.PhoneNumber, "name": n.ID.String(), "twilioAccountSid": n.AccountSID.String, "twilioAuthToken": token, "smsEnabled": false,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.box.URL()+"/vapi/phone-number", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+vapiKey)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusCreated {
		s.t.Fatal(res, err)
	}
	_ = res.Body.Close()
}

// TestAnswersThatNameOthers: an answer of Vapi's that names what is another organisation's never becomes ours, and changes nothing
// of theirs: what was made is found by our own name for it.
func TestAnswersThatNameOthers(t *testing.T) {
	s := newShop(t)
	mine := s.org
	s.org = s.other
	theirs := s.have(s.choose(1)[0], "theirs")
	theirAgent, err := s.agents().Create(t.Context(), telephony.AgentRequest{OrgID: s.other, AgentFields: fields(), Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.agents().Sync(t.Context(), s.other, theirAgent.ID); err != nil {
		t.Fatal(err)
	}
	if theirAgent, err = s.agents().Agent(t.Context(), s.other, theirAgent.ID); err != nil {
		t.Fatal(err)
	}
	s.org = mine
	before := footprint(t, s.dbURL, s.other)
	n := s.to(telephony.StepImport, s.buy(s.choose(1)[0], "k"))
	wrong := s.open(s.box.URL(), 0, func(o *telephony.NumbersOptions) {
		o.Transport = (&between{method: http.MethodPost, path: "/phone-number", id: theirs.VapiID.String}).way()
	})
	if err := wrong.Advance(t.Context(), n.OrgID, n.ID); err == nil {
		t.Error("their number at Vapi was taken for ours")
	}
	if now := s.number(n); now.VapiID.String == theirs.VapiID.String {
		t.Error("our number has their name at Vapi")
	}
	n = s.run(s.number(n))
	s.wantState(n, telephony.NumberActive, "")
	s.wantAgree()

	agents := s.agents(func(o *telephony.AgentsOptions) {
		o.Transport = (&between{method: http.MethodPost, path: "/assistant", id: theirAgent.AssistantID.String}).way()
	})
	a, err := agents.Create(t.Context(), telephony.AgentRequest{OrgID: s.org, AgentFields: fields(), Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	if err := agents.Sync(t.Context(), s.org, a.ID); err == nil {
		t.Error("their assistant was taken for ours")
	}
	s.clock.Advance(61 * time.Second)
	if _, err := agents.SyncDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, err = agents.Agent(t.Context(), s.org, a.ID); err != nil || a.Sync != telephony.Synced || a.AssistantID == theirAgent.AssistantID {
		t.Errorf("%+v, %v", a, err)
	}
	if got := len(s.vapi.Books().Assistants); got != 2 {
		t.Errorf("Vapi has %d assistants", got)
	}
	if err := agents.Delete(t.Context(), s.org, a.ID, false, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	s.run(s.release(n))
	if footprint(t, s.dbURL, s.other) != before {
		t.Error("something of theirs has changed")
	}
}

// A call whose answer names another organisation's is found by our own name for it.
func TestCallAnswerNamesAnother(t *testing.T) {
	p := newPhones(t)
	p.newAgent(p.other, p.theirs.ID)
	at := p.line.incoming(p.theirs.VapiID.String, handset)
	p.tell(p.line.news(at, "assistant-request", ""))
	before := footprint(t, p.dbURL, p.other)
	wrong := &between{method: http.MethodPost, path: "/call", id: at.ID}
	_, calls := p.open(func(o *telephony.CallsOptions) { o.Transport = wrong.way() })
	c, err := calls.Place(t.Context(), p.request("k"))
	if err != nil || c.State != telephony.CallUnknown {
		t.Errorf("%+v, %v", c, err)
	}
	if footprint(t, p.dbURL, p.other) != before {
		t.Error("something of theirs has changed")
	}
	p.clock.Advance(31 * time.Second)
	if _, err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c = p.call(c); !c.VapiID.Valid || c.VapiID.String == at.ID || uuid.Validate(c.VapiID.String) != nil {
		t.Errorf("it is %+v", c)
	}
	p.settle()
}
