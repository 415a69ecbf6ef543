package telephony_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

func (p *phones) create(key string, with ...func(*telephony.AgentFields)) (telephony.Agent, error) {
	p.t.Helper()
	f := fields()
	for _, fn := range with {
		fn(&f)
	}
	return p.agents.Create(p.t.Context(), telephony.AgentRequest{OrgID: p.org, AgentFields: f, Key: key, Actor: audit.System("test")})
}

// at is what Vapi has of an agent.
func (p *phones) at(a telephony.Agent) map[string]any {
	p.t.Helper()
	a = p.agentNow(a)
	p.line.mu.Lock()
	defer p.line.mu.Unlock()
	return p.line.assistants[a.AssistantID.String]
}

func (p *phones) wantSync(what string, a telephony.Agent, state telephony.SyncState, synced int64) {
	p.t.Helper()
	if a = p.agentNow(a); a.Sync != state || a.SyncedRevision != synced || (state == telephony.SyncRefused) != (a.Note != "" && state == telephony.SyncRefused) {
		p.t.Errorf("%s: the agent is %s (%s) at revision %d of %d, want %s at %d", what, a.Sync, a.Note, a.SyncedRevision, a.Revision, state, synced)
	}
}

func (p *phones) syncDue() {
	p.t.Helper()
	if _, err := p.agents.SyncDue(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// TestAgent: what people decide is kept, Vapi follows, and what Vapi has is all that it needs.
func TestAgent(t *testing.T) {
	p := newPhones(t)
	a, err := p.create("k", func(f *telephony.AgentFields) {
		f.Name, f.Knowledge, f.ForwardTo, f.Recorded, f.Consent = strings.Repeat("ü", 60), true, "+44 7400 123456", true, "This call is recorded."
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Sync != telephony.SyncWaiting || a.ForwardTo != handset || a.Revision != 1 || a.AssistantID.Valid {
		t.Errorf("%+v", a)
	}
	var jobs int
	dbtest.Get(t, p.dbURL, &jobs, `SELECT count(*) FROM river_job WHERE kind = 'agent_sync' AND args->>'agent' = $1`, a.ID.String())
	if jobs != 1 {
		t.Errorf("%d jobs tell Vapi about it", jobs)
	}
	again, err := p.create("k", func(f *telephony.AgentFields) {
		f.Name, f.Knowledge, f.ForwardTo, f.Recorded, f.Consent = strings.Repeat("ü", 60), true, "+44 7400 123456", true, "This call is recorded."
	})
	if err != nil || !again.Repeated || again.ID != a.ID {
		t.Errorf("the same key: %+v, %v", again, err)
	}
	_, err = p.create("k")
	wantFault(t, "another agent with the key", err, fault.Conflict, "idempotency_key_reused")
	p.sync(a)
	p.wantSync("told", a, telephony.Synced, 1)
	got := p.at(a)
	server, _ := got["server"].(map[string]any)
	headers, _ := server["headers"].(map[string]any)
	model, _ := got["model"].(map[string]any)
	tools, _ := model["tools"].([]any)
	if got["firstMessage"] != "This call is recorded. Harbour Dental, how can I help?" || len([]rune(got["name"].(string))) != 40 || //nolint:errcheck // a string
		server["url"] != "https://ringfence.example/api/webhooks/vapi" || headers["Authorization"] != "Bearer "+vapiSecret || server["backoffPlan"] == nil ||
		got["maxDurationSeconds"] != 1800.0 || len(tools) != 2 || fmt.Sprint(got["artifactPlan"]) != "map[recordingEnabled:true]" ||
		!strings.Contains(fmt.Sprint(tools), handset) || !strings.Contains(fmt.Sprint(tools), "{{phoneNumber.number}}") || !strings.Contains(fmt.Sprint(model["messages"]), "dentist") {
		t.Errorf("Vapi has %v", got)
	}
	edited, err := p.agents.Edit(t.Context(), p.org, a.ID, fields(), audit.System("test"))
	if err != nil || edited.Revision != 2 || edited.Sync != telephony.SyncWaiting {
		t.Errorf("%+v, %v", edited, err)
	}
	if same, err := p.agents.Edit(t.Context(), p.org, a.ID, fields(), audit.System("test")); err != nil || same.Revision != 2 {
		t.Errorf("saved as it was: revision %d, %v", same.Revision, err)
	}
	p.sync(a)
	p.wantSync("edited", a, telephony.Synced, 2)
	got = p.at(a)
	model, _ = got["model"].(map[string]any)
	if tools, _ := model["tools"].([]any); got["firstMessage"] != fields().FirstMessage || tools == nil || len(tools) != 0 || fmt.Sprint(got["artifactPlan"]) != "map[recordingEnabled:false]" {
		t.Errorf("Vapi has %v", got)
	}
	if n := p.line.count("POST /assistant"); n != 2 { // and the one of the harness
		t.Errorf("Vapi was asked for %d assistants", n)
	}
	if list, err := p.agents.List(t.Context(), p.org); err != nil || len(list) != 2 {
		t.Errorf("%d agents, %v", len(list), err)
	}
	// What a credential of Vapi's holds is not told with each agent.
	o := telephony.AgentsOptions{
		DB: p.db, Gates: p.gates, Log: nil, Now: p.clock.Now, VapiKey: vapiKey, VapiBase: p.line.server.URL,
		Events: telephony.VapiEvents{BaseURL: "https://ringfence.example", Secret: vapiSecret, CredentialID: "cred"},
	}
	if _, err := telephony.NewAgents(o); err != nil {
		t.Fatal(err)
	}
}

func TestAgentRefusals(t *testing.T) {
	p := newPhones(t)
	for what, c := range map[string]struct {
		change func(*telephony.AgentFields)
		field  string
	}{
		"no name":            {func(f *telephony.AgentFields) { f.Name = " " }, "name"},
		"a long name":        {func(f *telephony.AgentFields) { f.Name = strings.Repeat("x", 101) }, "name"},
		"no first message":   {func(f *telephony.AgentFields) { f.FirstMessage = "" }, "first_message"},
		"a long one":         {func(f *telephony.AgentFields) { f.FirstMessage = strings.Repeat("x", 501) }, "first_message"},
		"no prompt":          {func(f *telephony.AgentFields) { f.Prompt = "\n" }, "prompt"},
		"a prompt of 1 MB":   {func(f *telephony.AgentFields) { f.Prompt = strings.Repeat("x", 1<<20) }, "prompt"},
		"a NUL":              {func(f *telephony.AgentFields) { f.Prompt = "a\x00b" }, "prompt"},
		"not UTF-8":          {func(f *telephony.AgentFields) { f.Name = "a\xff" }, "name"},
		"no such voice":      {func(f *telephony.AgentFields) { f.Voice = "Darth" }, "voice"},
		"recorded in secret": {func(f *telephony.AgentFields) { f.Recorded = true }, "consent"},
		"a long consent":     {func(f *telephony.AgentFields) { f.Consent = strings.Repeat("x", 301) }, "consent"},
		"nowhere":            {func(f *telephony.AgentFields) { f.ForwardTo = "999" }, "forward_to"},
		"not offered":        {func(f *telephony.AgentFields) { f.ForwardTo = premium }, "forward_to"},
		"to itself":          {func(f *telephony.AgentFields) { f.ForwardTo = p.number.PhoneNumber }, "forward_to"},
		"not proven":         {func(f *telephony.AgentFields) { f.CallerID = uuid.NullUUID{UUID: uuid.New(), Valid: true} }, "caller_id"},
	} {
		_, err := p.create("", c.change)
		wantField(t, what, err, c.field)
		f := fields()
		c.change(&f)
		_, err = p.agents.Edit(t.Context(), p.org, p.agent.ID, f, audit.System("test"))
		wantField(t, what+", edited", err, c.field)
	}
	_, err := p.create("", func(f *telephony.AgentFields) { f.Prompt = strings.Repeat("ü", telephony.MaxPrompt) })
	if err != nil {
		t.Errorf("the longest prompt: %v", err)
	}
	_, err = p.create(strings.Repeat("k", 256))
	wantField(t, "a long key", err, "idempotency_key")
	p.wantSync("unchanged", p.agent, telephony.Synced, 1)
	for what, err := range map[string]error{
		"reading": func() error { _, err := p.agents.Agent(t.Context(), p.other, p.agent.ID); return err }(),
		"editing": func() error {
			_, err := p.agents.Edit(t.Context(), p.other, p.agent.ID, fields(), audit.System("test"))
			return err
		}(),
		"linking": func() error {
			_, err := p.agents.Link(t.Context(), p.other, p.agent.ID, p.theirs.ID, audit.System("test"))
			return err
		}(),
		"unlinking": func() error {
			_, err := p.agents.Unlink(t.Context(), p.other, p.agent.ID, audit.System("test"))
			return err
		}(),
		"deleting": p.agents.Delete(t.Context(), p.other, p.agent.ID, true, audit.System("test")),
	} {
		wantFault(t, what+" another's", err, fault.NotFound, "")
	}
}

// TestLinks: an agent has a number of its own organisation's, active, and for itself alone.
func TestLinks(t *testing.T) {
	p := newPhones(t)
	link := func(a telephony.Agent, n telephony.Number) error {
		_, err := p.agents.Link(t.Context(), p.org, a.ID, n.ID, audit.System("test"))
		return err
	}
	second := p.newAgent(p.org, uuid.Nil)
	wantFault(t, "another organisation's number", link(second, p.theirs), fault.NotFound, "")
	wantFault(t, "a number that is linked", link(second, p.number), fault.Conflict, "number_linked")
	if err := link(p.agent, p.number); err != nil {
		t.Errorf("linked again: %v", err)
	}
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`, p.number.ID)
	wantFault(t, "a number that is being given back", link(second, p.number), fault.Conflict, "number_not_active")
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id = $1`, p.number.ID)
	if a, err := p.agents.Unlink(t.Context(), p.org, p.agent.ID, audit.System("test")); err != nil || a.NumberID.Valid {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := p.agents.Unlink(t.Context(), p.org, p.agent.ID, audit.System("test")); err != nil {
		t.Errorf("unlinked again: %v", err)
	}
	// Both want it at once: one has it.
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, a := range []telephony.Agent{p.agent, second} {
		wg.Go(func() { errs <- link(a, p.number) })
	}
	wg.Wait()
	close(errs)
	failed := 0
	for err := range errs {
		if err != nil {
			failed++
			wantFault(t, "the slower", err, fault.Conflict, "number_linked")
		}
	}
	if failed != 1 || p.number1(`SELECT count(*) FROM agents WHERE number_id = $1`, p.number.ID) != 1 {
		t.Errorf("%d failed", failed)
	}
}

// TestDeleteAgent: whoever deletes an agent says what becomes of its number; its assistant goes when no call needs it, its calls
// stay.
func TestDeleteAgent(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	err := p.agents.Delete(t.Context(), p.org, p.agent.ID, false, audit.System("test"))
	wantFault(t, "with a number", err, fault.Conflict, "agent_linked")
	if err := p.agents.Delete(t.Context(), p.org, p.agent.ID, true, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	_, err = p.agents.Agent(t.Context(), p.org, p.agent.ID)
	wantFault(t, "deleted", err, fault.NotFound, "")
	wantFault(t, "deleted twice", p.agents.Delete(t.Context(), p.org, p.agent.ID, true, audit.System("test")), fault.NotFound, "")
	p.sync(p.agent)
	if n := p.line.count("DELETE /assistant/*"); n != 0 {
		t.Error("the assistant is gone in the middle of a call")
	}
	p.line.end(at, "customer-did-not-answer")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.line.mishap(mishap{what: "DELETE /assistant/*", do: "409"}, mishap{what: "DELETE /assistant/*", do: "500_after"})
	state := func() (s struct {
		State string `db:"sync_state"`
		Note  string `db:"sync_note"`
	},
	) {
		dbtest.Get(t, p.dbURL, &s, `SELECT sync_state, sync_note FROM agents WHERE id = $1`, p.agent.ID)
		return s
	}
	p.clock.Advance(time.Minute)
	p.syncDue()
	if s := state(); s.State != "refused" || !strings.Contains(s.Note, "elsewhere") {
		t.Errorf("pinned, it is %+v", s)
	}
	for range 3 {
		p.clock.Advance(time.Minute)
		p.syncDue()
	}
	if s := state(); s.State != "gone" || s.Note != "" || len(p.line.assistants) != 0 {
		t.Errorf("%+v, and Vapi has %d assistants", s, len(p.line.assistants))
	}
	if got := p.call(c); got.AgentName != "Reception" {
		t.Errorf("its call is by %q", got.AgentName)
	}
}

// TestSyncFaults: whatever Vapi does when it is told, it has one assistant in the end, and it has the newest.
func TestSyncFaults(t *testing.T) {
	for _, do := range []string{"cut", "cut_after", "hang_after", "500", "500_after", "503", "garbage", "400", "401", "429"} {
		t.Run(do, func(t *testing.T) {
			p := newPhones(t)
			a, err := p.create("k")
			if err != nil {
				t.Fatal(err)
			}
			p.line.mishap(mishap{what: "POST /assistant", do: do}, mishap{what: "PATCH /assistant/*", do: do, times: 2})
			p.sync(a)
			state := telephony.SyncWaiting
			if do == "400" {
				state = telephony.SyncRefused
			}
			p.wantSync("first", a, state, 0)
			if got := p.agentNow(a); got.Note == "" {
				t.Error("nobody can read why")
			}
			_, err = p.Place(t.Context(), telephony.PlaceRequest{OrgID: p.org, To: handset, Agent: a.ID, Key: "k", Actor: audit.System("test")})
			wantFault(t, "not there yet", err, fault.Conflict, "agent_without_number")
			for range 12 {
				p.clock.Advance(31 * time.Second)
				p.syncDue()
			}
			p.wantSync("told again", a, telephony.Synced, 1)
			if _, err := p.agents.Edit(t.Context(), p.org, a.ID, telephony.AgentFields{Name: "New", Active: true, Voice: "Emma", FirstMessage: "Hi", Prompt: "Be kind."}, audit.System("test")); err != nil {
				t.Fatal(err)
			}
			for range 12 {
				p.clock.Advance(31 * time.Second)
				p.syncDue()
			}
			p.wantSync("edited", a, telephony.Synced, 2)
			if got := p.at(a); got["name"] != "New" {
				t.Errorf("Vapi has %v", got["name"])
			}
			if n := len(p.line.assistants); n != 2 { // and the one of the harness
				t.Errorf("Vapi has %d assistants", n)
			}
		})
	}
}

// A process that dies while it tells Vapi leaves an agent that is told about again, once its lease is over; two at once tell
// once; and an assistant that somebody deleted at Vapi is made anew.
func TestSyncAgain(t *testing.T) {
	p := newPhones(t)
	a, err := p.create("k")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.agents.TakeAgent(t.Context(), p.org, a.ID); err != nil {
		t.Fatal(err)
	}
	p.agents, _ = p.open() // another process
	p.syncDue()
	p.wantSync("in dead hands", a, telephony.SyncWaiting, 0)
	p.clock.Advance(61 * time.Second)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { p.sync(a) })
		wg.Go(p.syncDue)
	}
	wg.Wait()
	p.wantSync("taken up", a, telephony.Synced, 1)
	if n := p.line.count("POST /assistant"); n != 2 {
		t.Errorf("Vapi was asked for %d assistants", n)
	}
	p.line.mu.Lock()
	clear(p.line.assistants)
	p.line.mu.Unlock()
	f := fields()
	f.Name = "New"
	if _, err := p.agents.Edit(t.Context(), p.org, a.ID, f, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.sync(a)
	p.wantSync("made anew", a, telephony.Synced, 2)
	if got := p.at(a); got["name"] != "New" {
		t.Errorf("Vapi has %v", got)
	}
	// An answer that is lost, and a list that is late: two were made, and one stays.
	b, err := p.create("twice")
	if err != nil {
		t.Fatal(err)
	}
	p.line.mishap(mishap{what: "POST /assistant", do: "cut_after", times: 0})
	p.sync(b)
	p.line.mu.Lock()
	for id, at := range p.line.assistants {
		if fmt.Sprint(at["metadata"]) == "map[ringfence_agent:"+b.ID.String()+"]" {
			p.line.assistants[id+"-2"] = at
		}
	}
	p.line.mu.Unlock()
	for range 4 {
		p.clock.Advance(31 * time.Second)
		p.syncDue()
	}
	p.wantSync("one of two", b, telephony.Synced, 1)
	if n := len(p.line.assistants); n != 2 {
		t.Errorf("Vapi has %d assistants", n)
	}
	// One that is deleted while nobody knows whether it was made goes all the same.
	c, err := p.create("gone")
	if err != nil {
		t.Fatal(err)
	}
	p.line.mishap(mishap{what: "POST /assistant", do: "cut_after"})
	p.sync(c)
	if err := p.agents.Delete(t.Context(), p.org, c.ID, false, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		p.clock.Advance(31 * time.Second)
		p.syncDue()
	}
	if n := len(p.line.assistants); n != 2 || p.number1(`SELECT count(*) FROM agents WHERE sync_state = 'gone'`) != 1 {
		t.Errorf("Vapi has %d assistants", n)
	}
}

// Without Vapi agents are kept, and nobody is told.
func TestAgentsWithoutVapi(t *testing.T) {
	p := newPhones(t)
	off, err := telephony.NewAgents(telephony.AgentsOptions{DB: p.db, Gates: p.gates, Now: p.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	a, err := off.Create(t.Context(), telephony.AgentRequest{OrgID: p.org, AgentFields: fields(), Actor: audit.System("test")})
	if err != nil || a.Sync != telephony.SyncWaiting {
		t.Errorf("%+v, %v", a, err)
	}
	if n, err := off.SyncDue(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, err = off.VerifyCallerID(t.Context(), p.org, handset, audit.System("test"))
	wantFault(t, "a caller id", err, fault.Unavailable, "calls_off")
	if !slices.Contains(telephony.Voices, a.Voice) {
		t.Error(a.Voice)
	}
}

// TestDearForward: what a caller is passed on to is not charged by itself, so it costs no more than the call does.
func TestDearForward(t *testing.T) {
	p := newPhones(t)
	p.price("33", 500)
	forward := func(to string) error {
		_, err := p.create("to "+to, func(f *telephony.AgentFields) { f.ForwardTo = to })
		return err
	}
	wantField(t, "a dearer one", forward("+33142685300"), "forward_to")
	if err := forward("+442071838750"); err != nil {
		t.Error(err)
	}
	p.price("33", 70)
	if err := forward("+33142685300"); err != nil {
		t.Errorf("one that costs the same: %v", err)
	}
}

// TestForwardIsJudgedInCalls: whatever prices were when an agent was saved, it cannot pass a call on to where that costs more than
// the call does, or is not offered; and it can again when that has changed.
func TestForwardIsJudgedInCalls(t *testing.T) {
	p := newPhones(t)
	p.adjust(500_00)
	const forward = "+33142685300"
	p.price("33", 70)
	f := fields()
	f.ForwardTo, f.Knowledge = forward, true
	a, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, f, audit.System("test"))
	if err != nil {
		t.Fatal(err)
	}
	p.sync(a)
	key := 0
	// judged gives the model that a call has instead of its assistant's, one that goes out and one that comes in.
	judged := func(to string) (out, in any) {
		t.Helper()
		key++
		r := p.request(fmt.Sprint("forward", key))
		r.To = to
		c, err := p.Place(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		made := p.line.calls()[len(p.line.calls())-1]
		p.line.end(made, "customer-did-not-answer")
		p.tell(p.line.news(made, "end-of-call-report", ""))
		at := p.line.incoming(p.number.VapiID.String, handset)
		h := asHeard(t, p.tell(p.line.news(at, "assistant-request", "")))
		if again := asHeard(t, p.tell(p.line.news(at, "assistant-request", ""))); fmt.Sprint(again) != fmt.Sprint(h) {
			t.Errorf("asked again, it is answered %v, and was %v", again, h)
		}
		p.line.end(at, "customer-ended-call")
		p.tell(p.line.news(at, "end-of-call-report", ""))
		if out = made.Overrides["model"]; h.Overrides.Model != nil {
			in = h.Overrides.Model
		}
		story, err := p.Story(t.Context(), p.org, c.ID)
		if said := slices.ContainsFunc(story, func(e telephony.Event) bool { return e.Action == "call.not_passed_on" && e.Reason != "" }); said != (out != nil) || err != nil {
			t.Errorf("its story says so: %t, %v", said, err)
		}
		return out, in
	}
	wantModel := func(what string, model any, leftOut bool) {
		t.Helper()
		b := fmt.Sprint(model)
		if (model != nil) != leftOut || leftOut && (strings.Contains(b, "transferCall") || !strings.Contains(b, f.Prompt) || !strings.Contains(b, "search_knowledge")) {
			t.Errorf("%s: the call's own model is %v", what, model)
		}
	}
	refused := func(what string, want bool) {
		t.Helper()
		a, err := p.agents.Agent(t.Context(), p.org, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if passing, err := p.agents.Passing(t.Context(), a); err != nil || (passing.Refused != "") != want {
			t.Errorf("%s: the agent is said to pass callers on: %+v, %v", what, passing, err)
		}
	}
	out, in := judged(handset)
	wantModel("a call that costs the same", out, false)
	wantModel("one that came in", in, false)
	refused("the same", false)
	p.price("331", 500)
	out, in = judged(handset)
	wantModel("a call that costs less", out, true)
	wantModel("one that came in", in, true)
	refused("dearer", true)
	if out, _ = judged("+33142685301"); out != nil {
		t.Errorf("a call as dear as being passed on: %v", out)
	}
	if n := p.number1(`SELECT count(*) FROM audit_log WHERE action = 'call.not_passed_on' AND org_id = $1`, p.org); n != 3 {
		t.Errorf("%d calls say that they could not be passed on", n)
	}
	if _, err := p.gates.SetPrice(t.Context(), wallet.PriceChange{
		Action: wallet.ActionCall, Prefix: "331", State: wallet.PriceOff, StartsAt: p.clock.Now(), Actor: audit.System("test"), Reason: "Test",
	}); err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(2 * time.Second)
	out, in = judged(handset)
	wantModel("not offered", out, true)
	wantModel("not offered, one that came in", in, true)
	refused("not offered", true)
	p.price("331", 70)
	out, in = judged(handset)
	wantModel("as before", out, false)
	wantModel("as before, one that came in", in, false)
	refused("as before", false)
	p.settle()
}

// price sets what calls to a prefix cost in US cents a minute.
func (p *phones) price(prefix string, cents money.USDCents) {
	p.t.Helper()
	if _, err := p.gates.SetPrice(p.t.Context(), wallet.PriceChange{
		Action: wallet.ActionCall, Prefix: prefix, State: wallet.PriceOn, PerMinute: cents, Unit: 79, StartsAt: p.clock.Now(), Actor: audit.System("test"), Reason: "Test",
	}); err != nil {
		p.t.Fatal(err)
	}
	p.clock.Advance(2 * time.Second)
}
