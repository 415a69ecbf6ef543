package telephony_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// footprint is everything of an organisation's telephony, and of its money, in one word: whatever changes, changes it.
func footprint(t *testing.T, dbURL string, org uuid.UUID) (word string) {
	t.Helper()
	var parts []string
	for _, table := range []string{
		"numbers", "agents", "credentials", "telephony_accounts", "caller_ids", "calls", "messages", "inbound_messages", "opt_outs", "retentions",
		"holds", "wallets", "ledger_transactions", "notices", "audit_log",
	} {
		parts = append(parts, `SELECT t::text AS line FROM `+table+` t WHERE t.org_id = $1`)
	}
	dbtest.Get(t, dbURL, &word, `SELECT md5(coalesce(string_agg(line, '|' ORDER BY line), '')) FROM (`+strings.Join(parts, " UNION ALL ")+`) everything`, org)
	return word
}

// held is what the providers hold of anybody.
func (s *shop) held() string {
	s.t.Helper()
	b, err := json.Marshal([]any{s.twilio.Books(), s.vapi.Books()})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// untouched fails the test when fn changes anything of an organisation's, or at a provider.
func (s *shop) untouched(org uuid.UUID, what string, fn func()) {
	s.t.Helper()
	before, held := footprint(s.t, s.dbURL, org), s.held()
	fn()
	if footprint(s.t, s.dbURL, org) != before {
		s.t.Errorf("%s has changed something of another organisation's", what)
	}
	if s.held() != held {
		s.t.Errorf("%s has changed something at a provider", what)
	}
}

// TestJobsOfOthers: a job that names one organisation and what is another's does nothing, at whatever step that is.
func TestJobsOfOthers(t *testing.T) {
	s := newShop(t)
	agents := s.agents()
	theirs := s.have(s.choose(1)[0], "mine")
	theirs.OrgID = s.org
	advanced := func(n telephony.Number) telephony.Number {
		t.Helper()
		for _, job := range []telephony.NumberStep{{OrgID: s.other, Number: n.ID, Step: n.Step}, {OrgID: uuid.New(), Number: n.ID, Step: n.Step}, {Number: n.ID, Step: n.Step}} {
			s.untouched(s.org, fmt.Sprintf("the job %+v", job), func() {
				if err := s.Advance(t.Context(), job.OrgID, job.Number); err != nil {
					t.Error(err)
				}
			})
		}
		return s.stepped(n)
	}
	walk := func(n telephony.Number) telephony.Number {
		t.Helper()
		for n.Step != "" {
			if now := s.clock.Now(); n.NextAt.After(now) {
				s.clock.Advance(n.NextAt.Sub(now)) // so that it is nothing but the organisation that keeps the job from it
			}
			n = advanced(n)
		}
		return n
	}
	n := walk(s.buy(s.choose(1)[0], "k"))
	s.wantState(n, telephony.NumberActive, "")
	s.faults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400})
	s.wantState(walk(s.buy(s.choose(1)[0], "undone")), telephony.NumberFailed, telephony.StepImport)

	a, err := agents.Create(t.Context(), telephony.AgentRequest{OrgID: s.org, AgentFields: fields(), Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	synced := func() {
		t.Helper()
		for _, job := range []telephony.AgentSync{{OrgID: s.other, Agent: a.ID}, {OrgID: uuid.New(), Agent: a.ID}, {Agent: a.ID}} {
			s.untouched(s.org, fmt.Sprintf("the job %+v", job), func() {
				if err := agents.Sync(t.Context(), job.OrgID, job.Agent); err != nil {
					t.Error(err)
				}
			})
		}
		if err := agents.Sync(t.Context(), s.org, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	synced()
	if _, err := agents.Link(t.Context(), s.org, a.ID, n.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	// What people and programs may ask for is not there for others, and changes nothing.
	by := audit.System("test")
	for what, ask := range map[string]func() error{
		"releasing": func() error {
			_, err := s.Release(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: n.ID, Actor: by})
			return err
		},
		"forcing": func() error {
			_, err := s.ForceRelease(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: n.ID, Actor: by, Reason: "x"})
			return err
		},
		"expediting": func() error {
			_, err := s.Expedite(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: n.ID, Actor: by, Reason: "x"})
			return err
		},
		"connecting again": func() error {
			_, err := s.Reconnect(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: n.ID, Actor: by, Reason: "x"})
			return err
		},
		"reading":   func() error { _, err := s.Number(t.Context(), s.other, n.ID); return err },
		"editing":   func() error { _, err := agents.Edit(t.Context(), s.other, a.ID, fields(), by); return err },
		"unlinking": func() error { _, err := agents.Unlink(t.Context(), s.other, a.ID, by); return err },
		"deleting":  func() error { return agents.Delete(t.Context(), s.other, a.ID, true, by) },
		"linking":   func() error { _, err := agents.Link(t.Context(), s.other, a.ID, n.ID, by); return err },
		"replacing": func() error { return agents.Replace(t.Context(), s.other, a.ID, uuid.New(), by) },
	} {
		s.untouched(s.org, what, func() {
			if err := ask(); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s what is another's: %v", what, err)
			}
		})
	}
	if list, err := s.Story(t.Context(), s.other, n.ID); err != nil || len(list) != 0 {
		t.Errorf("they read its story: %+v, %v", list, err)
	}
	if err := agents.Delete(t.Context(), s.org, a.ID, true, by); err != nil {
		t.Fatal(err)
	}
	synced()
	s.wantState(walk(s.release(n)), telephony.NumberReleased, "")
	s.wantState(theirs, telephony.NumberActive, "")
	s.wantAgree()
}

// TestWebhooksOfOtherAccounts: who has a Twilio account of their own, with its token, says nothing by it about another
// organisation's number, texts or wishes, whatever their requests name.
func TestWebhooksOfOtherAccounts(t *testing.T) {
	d := newOwnDesk(t)
	ours := d.have(d.choose(1)[0], "ours")
	m := d.send(ours.PhoneNumber, "own")
	shared := d.send("", "shared")
	mine := d.org
	d.org = d.other // and now for them, who know their own token
	theirs := d.have(d.choose(1)[0], "theirs")
	key, err := d.vault.OpenCredential(t.Context(), d.db, d.other, telephony.Managed)
	if err != nil {
		t.Fatal(err)
	}
	d.org = mine
	for what, c := range map[string]struct {
		account, from, to string
		// genuine says that Twilio may have signed it so: it is theirs, about whatever.
		genuine bool
	}{
		"a text to our number, in their account":             {theirs.AccountSID.String, handset, ours.PhoneNumber, false},
		"the same, from their number":                        {theirs.AccountSID.String, theirs.PhoneNumber, ours.PhoneNumber, true},
		"a text to our number, in our account, by their key": {ours.AccountSID.String, handset, ours.PhoneNumber, false},
		"a text from our number to theirs, in our account":   {ours.AccountSID.String, ours.PhoneNumber, theirs.PhoneNumber, false},
		"a text in the house's account":                      {account, handset, sender, false},
		"a text in no account":                               {"", handset, ours.PhoneNumber, false},
		"a text to the shared number, in their account":      {theirs.AccountSID.String, theirs.PhoneNumber, sender, true},
		"a text to their own number":                         {theirs.AccountSID.String, handset, theirs.PhoneNumber, true},
	} {
		for i, words := range []string{"Hello", "STOP", "START"} {
			form := url.Values{"MessageSid": {fmt.Sprint("SM", what, i)}, "From": {c.from}, "To": {c.to}, "Body": {words}}
			if c.account != "" {
				form.Set("AccountSid", c.account)
			}
			const path = "/api/webhooks/twilio/sms"
			d.untouched(mine, what, func() {
				genuine, err := d.Genuine(t.Context(), path, form, sign(key, d.base+path, form))
				if err != nil || genuine != c.genuine {
					t.Errorf("%s is taken for genuine: %t, %v", what, genuine, err)
				}
				if !genuine {
					return
				}
				in := telephony.Inbound{SID: form.Get("MessageSid"), From: c.from, To: c.to, Body: words, AccountSID: c.account}
				if _, err := d.Receive(t.Context(), in); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if n := d.count(`SELECT count(*) FROM inbound_messages WHERE org_id = $1`, d.other); n != 3 {
		t.Errorf("they have %d texts, want the three to their own number", n)
	}
	if n := d.count(`SELECT count(*) FROM opt_outs WHERE org_id IS NULL`) + d.count(`SELECT count(*) FROM inbound_texts`); n != 0 {
		t.Errorf("%d wishes about the sender that all share were theirs", n)
	}
	// Of a status too: their own key signs for nobody but themselves.
	for of, genuine := range map[string]bool{ours.AccountSID.String: false, account: false, "": false, theirs.AccountSID.String: true} {
		form := url.Values{"MessageSid": {m.SID.String}, "MessageStatus": {"failed"}, "ErrorCode": {"30008"}, "From": {theirs.PhoneNumber}, "To": {ours.PhoneNumber}}
		if of != "" {
			form.Set("AccountSid", of)
		}
		path := "/api/webhooks/twilio/status?message=" + m.ID.String()
		if got, err := d.Genuine(t.Context(), path, form, sign(key, d.base+path, form)); err != nil || got != genuine {
			t.Errorf("a status of our text in the account %q, by their key, is taken for genuine: %t, %v", of, got, err)
		}
	}
	for what, about := range map[string]telephony.Message{"our text": m, "a text of the sender that all share": shared} {
		for _, status := range []string{"failed", "delivered"} {
			said := telephony.Status{SID: about.SID.String, Status: status, ErrorCode: "30008", AccountSID: theirs.AccountSID.String}
			d.untouched(mine, status+" of "+what, func() {
				if err := d.StatusChanged(t.Context(), about.ID.String(), said); !fault.Is(err, fault.Forbidden) {
					t.Errorf("%s of %s, in their account: %v", status, what, err)
				}
			})
		}
	}
}

// TestVapiMessagesOfOthers: what Vapi says is believed about the call, and for the organisation, of its own name for it and of
// the number that it is on; whatever else a message names is nobody's.
func TestVapiMessagesOfOthers(t *testing.T) {
	p := newPhones(t)
	know := fields()
	know.Knowledge = true
	theirs := p.newAgent(p.other, p.theirs.ID)
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, know, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.found = telephony.Found{Passages: []string{"Our secret."}, Amount: 1}
	before := footprint(t, p.dbURL, p.org)
	metadata := fmt.Sprintf(`"assistantId":%q,"assistantOverrides":{"metadata":{"ringfence_call":%q,"ringfence_org":%q}}`, p.agent.AssistantID.String, c.ID, p.org)
	// A call on their number, whatever it carries, is answered by their agent and paid by them.
	incoming := p.line.incoming(p.theirs.VapiID.String, handset)
	body := fmt.Sprintf(`{"message":{"type":"assistant-request","call":{"id":%q,"phoneNumberId":%q,%s},"customer":{"number":%q}}}`, incoming.ID, incoming.Phone, metadata, handset)
	if h := asHeard(t, p.tell([]byte(body))); h.AssistantID != theirs.AssistantID.String || strings.Contains(fmt.Sprint(h.Overrides.Metadata), c.ID.String()) {
		t.Errorf("a call on their number is answered with %+v", h)
	}
	for _, message := range []string{
		`"type":"status-update","status":"ended","endedReason":"customer-ended-call"`,
		`"type":"end-of-call-report","endedReason":"customer-ended-call","startedAt":"2026-03-02T09:30:00Z","endedAt":"2026-03-02T09:59:00Z","artifact":{"transcript":"Theirs."}`,
		`"type":"tool-calls","toolCallList":[{"id":"t1","name":"search_knowledge","parameters":{"query":"secret"}}]`,
	} {
		for what, call := range map[string]string{
			"our call, on their number":          fmt.Sprintf(`"id":%q,"phoneNumberId":%q`, at.ID, p.theirs.VapiID.String),
			"their call, that carries our name":  fmt.Sprintf(`"id":%q,"name":%q,"phoneNumberId":%q,%s`, incoming.ID, c.ID, incoming.Phone, metadata),
			"no call, that carries our name":     fmt.Sprintf(`"id":%q,"name":%q,%s`, uuid.NewString(), c.ID, metadata),
			"no call, on our number":             fmt.Sprintf(`"id":%q,"phoneNumberId":%q,%s`, uuid.NewString(), p.number.VapiID.String, metadata),
			"no call, on their number, our name": fmt.Sprintf(`"id":%q,"name":%q,"phoneNumberId":%q`, uuid.NewString(), c.ID, p.theirs.VapiID.String),
		} {
			answer, err := p.FromVapi(t.Context(), fmt.Appendf(nil, `{"message":{%s,"call":{%s}}}`, message, call))
			if err != nil && !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %v", what, err)
			}
			if strings.Contains(fmt.Sprint(answer), "secret") {
				t.Errorf("%s reads our knowledge: %v", what, answer)
			}
			if footprint(t, p.dbURL, p.org) != before {
				t.Fatalf("%s, %s: something of ours has changed", what, message)
			}
		}
	}
	for _, l := range p.lookups {
		if l.OrgID == p.org {
			t.Errorf("looked up %+v", l)
		}
	}
	p.settle()
}
