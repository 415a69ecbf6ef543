package telephony_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// heard is what Vapi is told about a call that came in.
type heard struct {
	AssistantID string `json:"assistantId"`
	Overrides   struct {
		Max      int64             `json:"maxDurationSeconds"`
		Metadata map[string]string `json:"metadata"`
		Model    map[string]any    `json:"model"`
	} `json:"assistantOverrides"`
	Error string `json:"error"`
}

func asHeard(t *testing.T, answer any) (h heard) {
	t.Helper()
	b, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// who asks who takes a call that came in.
func (p *phones) who(at *lineCall) heard {
	p.t.Helper()
	return asHeard(p.t, p.tell(p.line.news(at, "assistant-request", "")))
}

// the call of a name of Vapi's.
func (p *phones) named(at *lineCall) telephony.Call {
	p.t.Helper()
	var id uuid.UUID
	dbtest.Get(p.t, p.dbURL, &id, `SELECT id FROM calls WHERE vapi_id = $1`, at.ID)
	return p.call(telephony.Call{ID: id, OrgID: p.org})
}

// TestIncoming: who is called is answered by the agent of the number, paid for by its organisation, and charged as any call.
func TestIncoming(t *testing.T) {
	p := newPhones(t)
	at := p.line.incoming(p.number.VapiID.String, handset)
	h := p.who(at)
	c := p.named(at)
	if h.Error != "" || h.AssistantID != p.agent.AssistantID.String || h.Overrides.Max != 108 || h.Overrides.Metadata["ringfence_call"] != c.ID.String() {
		t.Fatalf("Vapi is told %+v", h)
	}
	if c.State != telephony.CallRinging || c.Direction != telephony.InboundCall || c.Party != handset || c.OurNumber != p.number.PhoneNumber || c.AgentID.UUID != p.agent.ID || c.Ceiling != 108 {
		t.Errorf("%+v", c)
	}
	p.wantWallet("accepted", 1_00, 56, 0)
	if again := p.who(at); again.AssistantID != h.AssistantID || again.Overrides.Max != h.Overrides.Max {
		t.Errorf("asked again, Vapi is told %+v", again)
	}
	p.wantWallet("asked again", 1_00, 56, 0)
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(60 * time.Second)
	p.line.end(at, "customer-ended-call")
	for range 2 {
		p.tell(p.line.news(at, "end-of-call-report", ""))
	}
	p.wantCall("ended", c, telephony.CallCompleted, 60, 56)
	p.wantWallet("ended", 44, 0, 0)
	var line string
	dbtest.Get(t, p.dbURL, &line, `SELECT description FROM ledger_transactions WHERE id = $1`, c.HoldID.UUID)
	if line != "Call from +44•••••••456, 1 min 0 s" {
		t.Errorf("the history says %q", line)
	}
	// Money is short: the caller hears that nobody can take the call, and not why.
	short := p.line.incoming(p.number.VapiID.String, handset)
	if h := p.who(short); h.AssistantID != "" || !strings.Contains(h.Error, "Sorry") || strings.Contains(strings.ToLower(h.Error), "money") {
		t.Errorf("with 44p Vapi is told %+v", h)
	}
	p.wantCall("refused", p.named(short), telephony.CallRefused, 0, 0)
	if c := p.named(short); !strings.Contains(c.Note, "not enough money") {
		t.Errorf("its owner reads %q", c.Note)
	}
	p.line.end(short, "assistant-request-returned-error")
	p.tell(p.line.news(short, "end-of-call-report", ""))
	p.wantCall("refused", p.named(short), telephony.CallRefused, 0, 0)
	p.wantWallet("refused", 44, 0, 0)
	p.adjust(1_00)
	if h := p.who(short); h.Error == "" {
		t.Error("a call that was refused is taken after all")
	}
}

// TestNobodyTakesIt: a number that is nobody's, that is being given back, or that no agent answers.
func TestNobodyTakesIt(t *testing.T) {
	p := newPhones(t)
	stranger := p.line.incoming(uuid.NewString(), handset)
	if h := p.who(stranger); h.AssistantID != "" || h.Error == "" {
		t.Errorf("a number that is not here: %+v", h)
	}
	for what, change := range map[string][2]string{
		"nobody is linked": {`UPDATE agents SET number_id = NULL WHERE id = $1`, `UPDATE agents SET number_id = '` + p.number.ID.String() + `' WHERE id = $1`},
		"switched off":     {`UPDATE agents SET active = false WHERE id = $1`, `UPDATE agents SET active = true WHERE id = $1`},
		"not at Vapi": {
			`UPDATE agents SET assistant_id = NULL WHERE id = $1`, `UPDATE agents SET assistant_id = '` + p.agent.AssistantID.String + `' WHERE id = $1`,
		},
		"releasing": {
			`UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id IN (SELECT number_id FROM agents WHERE id = $1)`,
			`UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id IN (SELECT number_id FROM agents WHERE id = $1)`,
		},
	} {
		dbtest.Super(t, p.dbURL, change[0], p.agent.ID)
		at := p.line.incoming(p.number.VapiID.String, handset)
		if h := p.who(at); h.AssistantID != "" || h.Error == "" {
			t.Errorf("%s: Vapi is told %+v", what, h)
		}
		p.wantCall(what, p.named(at), telephony.CallRefused, 0, 0)
		if c := p.named(at); c.Note == "" {
			t.Errorf("%s: its owner reads nothing", what)
		}
		dbtest.Super(t, p.dbURL, change[1], p.agent.ID)
	}
	p.wantWallet("nothing is held", 1_00, 0, 0)
	if h := p.who(p.line.incoming(p.number.VapiID.String, "")); h.AssistantID == "" {
		t.Errorf("a caller without a number: %+v", h)
	}
	p.settle()
}

// A call to another organisation's number is that organisation's, and paid by it.
func TestIncomingOfOthers(t *testing.T) {
	p := newPhones(t)
	theirs := p.newAgent(p.other, p.theirs.ID)
	at := p.line.incoming(p.theirs.VapiID.String, handset)
	if h := p.who(at); h.AssistantID != theirs.AssistantID.String {
		t.Errorf("Vapi is told %+v", h)
	}
	p.wantWallet("not ours", 1_00, 0, 0)
	if n := p.number1(`SELECT count(*) FROM calls WHERE org_id = $1`, p.other); n != 1 {
		t.Errorf("they have %d calls", n)
	}
	p.settle()
}

// lockWallet keeps the wallet locked until release is called.
func (p *phones) lockWallet() (release func()) {
	p.t.Helper()
	locked, end := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := p.db.InTx(context.Background(), []uuid.UUID{p.org}, func(ctx context.Context, tx *db.Tx) error {
			if err := wallet.Lock(ctx, tx, p.org); err != nil {
				return err
			}
			close(locked)
			<-end
			return nil
		})
		if err != nil {
			p.t.Error(err)
		}
	})
	<-locked
	return func() {
		close(end)
		wg.Wait()
	}
}

// TestSlowDatabase: Vapi is answered in time whatever the database does. What is decided too late is taken back.
func TestSlowDatabase(t *testing.T) {
	p := newPhones(t)
	_, p.Calls = p.open(func(o *telephony.CallsOptions) { o.AnswerWithin = 50 * time.Millisecond })
	at := p.line.incoming(p.number.VapiID.String, handset)
	release := p.lockWallet()
	if h := p.who(at); h.AssistantID != "" || h.Error == "" {
		t.Errorf("with the wallet locked Vapi is told %+v", h)
	}
	release()
	p.Wait()
	p.wantCall("too late", p.named(at), telephony.CallFailed, 0, 0)
	p.wantWallet("too late", 1_00, 0, 0)
	// Where the process dies before that, Vapi tells that it did not connect the call.
	_, p.Calls = p.open()
	lost := p.line.incoming(p.number.VapiID.String, handset)
	if h := p.who(lost); h.AssistantID == "" {
		t.Fatalf("%+v", h)
	}
	p.line.end(lost, "assistant-request-failed")
	p.pass(20 * time.Second)
	p.wantCall("not connected", p.named(lost), telephony.CallFailed, 0, 0)
	p.wantWallet("not connected", 1_00, 0, 0)
}

// Two calls at once for the last penny, and one of them asked about twice: one is taken.
func TestLastIncoming(t *testing.T) {
	p := newPhones(t)
	p.adjust(-21) // 79p
	a, b := p.line.incoming(p.number.VapiID.String, handset), p.line.incoming(p.number.VapiID.String, "+447400123999")
	var mu sync.Mutex
	taken := map[string]bool{}
	var wg sync.WaitGroup
	for _, at := range []*lineCall{a, b, a, b} {
		wg.Go(func() {
			h := p.who(at)
			mu.Lock()
			defer mu.Unlock()
			if h.AssistantID != "" {
				taken[at.ID] = true
			}
		})
	}
	wg.Wait()
	if len(taken) != 1 {
		t.Errorf("%d calls were taken", len(taken))
	}
	p.wantWallet("one", 79, 56, 0)
	p.settle()
}

// The database fails the decision: the caller hears a sentence, and nothing is held.
func TestIncomingFails(t *testing.T) {
	p := newPhones(t)
	lift := p.plantCalls(telephony.CallRinging)
	at := p.line.incoming(p.number.VapiID.String, handset)
	if h := p.who(at); h.AssistantID != "" || h.Error == "" {
		t.Errorf("Vapi is told %+v", h)
	}
	lift()
	p.wantWallet("nothing is held", 1_00, 0, 0)
	if h := p.who(at); h.AssistantID == "" {
		t.Errorf("asked again, Vapi is told %+v", h)
	}
	p.settle()
}

func TestVapiSecret(t *testing.T) {
	p := newPhones(t)
	for shown, want := range map[string]bool{
		"Bearer " + vapiSecret: true, "bearer " + vapiSecret: true, vapiSecret: false, "Bearer ": false, "": false, "Bearer x": false,
		"Basic " + vapiSecret: false, "Bearer " + vapiSecret + "x": false, "Bearer " + vapiKey: false,
	} {
		if got := p.Genuine(shown); got != want {
			t.Errorf("%q is genuine: %t", shown, got)
		}
	}
	_, off := p.open(func(o *telephony.CallsOptions) { o.Events.Secret = "" })
	for _, shown := range []string{"Bearer ", "Bearer", "", "Bearer " + vapiSecret} {
		if off.Genuine(shown) {
			t.Errorf("without a secret %q is genuine", shown)
		}
	}
}

// TestForeignMessages: what is no message, about no call of ours, or about another's changes nothing.
func TestForeignMessages(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	for _, body := range []string{"", "null", "[]", `{"message":null}`, `{"message":{}}`, `{"message":{"type":7}}`, `{"message":{"type":"status-update","call":7}}`, "\x00", strings.Repeat("[", 20_000)} {
		_, err := p.FromVapi(t.Context(), []byte(body))
		if !fault.Is(err, fault.Malformed) {
			t.Errorf("%.40q: %v", body, err)
		}
	}
	theirs := p.newAgent(p.other, p.theirs.ID)
	before := p.call(c)
	report := func(more string) []byte {
		return fmt.Appendf(nil, `{"message":{"type":"end-of-call-report","endedReason":"customer-ended-call","startedAt":"2026-03-02T09:30:00Z","endedAt":"2026-03-02T09:40:00Z","call":{%s}}}`, more)
	}
	for what, body := range map[string][]byte{
		"no call":               report(``),
		"unknown":               report(`"id":"` + uuid.NewString() + `"`),
		"unknown with our name": report(`"id":"` + uuid.NewString() + `","name":"` + uuid.NewString() + `"`),
		"NUL":                   report(`"id":"a\u0000b"`),
		"metadata of no kind":   report(`"id":"` + uuid.NewString() + `","assistantOverrides":{"metadata":[1]}`),
	} {
		_, err := p.FromVapi(t.Context(), body)
		wantFault(t, what, err, fault.NotFound, "")
	}
	for what, body := range map[string][]byte{
		"our name, another id": report(`"id":"` + uuid.NewString() + `","name":"` + c.ID.String() + `"`),
		"our id, their number": report(`"id":"` + at.ID + `","phoneNumberId":"` + p.theirs.VapiID.String + `","assistantId":"` + theirs.AssistantID.String + `"`),
		"another kind":         []byte(`{"message":{"type":"transcript","call":{"id":"` + at.ID + `"}}}`),
	} {
		answer, err := p.FromVapi(t.Context(), body)
		if b, _ := json.Marshal(answer); err != nil || string(b) != "{}" {
			t.Errorf("%s: %s, %v", what, b, err)
		}
	}
	if after := p.call(c); after.State != before.State || after.Transcript != "" || after.Amount != 0 {
		t.Errorf("it has become %+v", after)
	}
	p.wantWallet("unchanged", 1_00, 56, 0)
	p.settle()
}

// tools is a message in which an agent wants something looked up, in one of the ways that Vapi writes it.
func tools(at *lineCall, calls string) []byte {
	return fmt.Appendf(nil, `{"message":{"type":"tool-calls","call":{"id":%q,"phoneNumberId":%q},%s}}`, at.ID, at.Phone, calls)
}

func results(t *testing.T, answer any) (list []map[string]string) {
	t.Helper()
	var r struct{ Results []map[string]string }
	b, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return r.Results
}

// TestKnowledgeTool: an agent that may gets answers from the organisation's documents, each paid for; one that may not, a call
// that is over or another's gets none; where money is short the agent is told so politely.
func TestKnowledgeTool(t *testing.T) {
	p := newPhones(t)
	know := fields()
	know.Knowledge = true
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, know, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	at := p.line.incoming(p.number.VapiID.String, handset)
	p.who(at)
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.found = telephony.Found{Passages: []string{"Open on Saturdays.", "Closed on Sundays."}, Amount: 1}
	for how, calls := range map[string]string{
		"OpenAI's":  `"toolCallList":[{"id":"t1","type":"function","function":{"name":"search_knowledge","arguments":{"query":"saturdays"}}}]`,
		"as text":   `"toolCallList":[{"id":"t2","type":"function","function":{"name":"search_knowledge","arguments":"{\"query\":\"saturdays\"}"}}]`,
		"short":     `"toolCallList":[{"id":"t3","name":"search_knowledge","parameters":{"query":"saturdays"}}]`,
		"older":     `"toolCalls":[{"id":"t4","type":"function","function":{"name":"search_knowledge","arguments":{"query":" saturdays "}}}]`,
		"arguments": `"toolCallList":[{"id":"t5","name":"search_knowledge","arguments":{"query":"saturdays"}}]`,
	} {
		r := results(t, p.tell(tools(at, calls)))
		if len(r) != 1 || r[0]["result"] != "Open on Saturdays.\n\n---\n\nClosed on Sundays." || r[0]["error"] != "" || r[0]["name"] != "search_knowledge" || r[0]["toolCallId"] == "" {
			t.Errorf("%s: %v", how, r)
		}
		l := p.lookups[len(p.lookups)-1]
		if l.OrgID != p.org || l.Query != "saturdays" || l.Key != "call:"+p.named(at).ID.String()+":"+r[0]["toolCallId"] {
			t.Errorf("%s: looked up %+v", how, l)
		}
	}
	if c := p.named(at); c.Lookups != 5 || c.LookupsAmount != 5 {
		t.Errorf("%d look-ups for %s", c.Lookups, c.LookupsAmount)
	}
	one := `"toolCallList":[{"id":"t1","name":"search_knowledge","parameters":{"query":"saturdays"}}]`
	p.found.Repeated = true
	p.tell(tools(at, one))
	if c := p.named(at); c.Lookups != 5 {
		t.Error("a repeat is counted")
	}
	p.found = telephony.Found{Amount: 1}
	if r := results(t, p.tell(tools(at, one))); !strings.Contains(r[0]["result"], "say nothing about this") {
		t.Errorf("nothing found: %v", r)
	}
	asked := len(p.lookups)
	for what, err := range map[string]error{
		"short of money": &fault.Error{Kind: fault.Unpaid, Public: "Top up at least £1.00."}, "away": errors.New("no database"),
	} {
		p.lookupErr = err
		if r := results(t, p.tell(tools(at, one))); r[0]["result"] != "" || !strings.Contains(r[0]["error"], "cannot look it up") || strings.Contains(r[0]["error"], "£") {
			t.Errorf("%s: %v", what, r)
		}
	}
	p.lookupErr = nil
	asked += 2
	many := `"toolCallList":[`
	for i := range 8 {
		many += fmt.Sprintf(`{"id":"m%d","name":"search_knowledge","parameters":{"query":"x"}},`, i)
	}
	many += `{"id":"n","name":"delete_everything","parameters":{"query":"x"}},{"id":"","name":"search_knowledge","parameters":{"query":"x"}},{"id":"q","name":"search_knowledge","parameters":{}}]`
	if r := results(t, p.tell(tools(at, many))); len(r) != 11 || len(p.lookups)-asked != 5 {
		t.Errorf("%d results of %d look-ups", len(r), len(p.lookups)-asked)
	}
	asked = len(p.lookups)
	refused := func(what string, at *lineCall) {
		t.Helper()
		if r := results(t, p.tell(tools(at, one))); len(r) != 1 || r[0]["error"] == "" || r[0]["result"] != "" || len(p.lookups) != asked {
			t.Errorf("%s: %v", what, r)
		}
	}
	refused("no call of ours", &lineCall{ID: uuid.NewString()})
	refused("another's number", &lineCall{ID: at.ID, Phone: p.theirs.VapiID.String})
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, fields(), audit.System("test")); err != nil {
		t.Fatal(err)
	}
	refused("an agent that may not", at)
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, know, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.settle()
	refused("a call that is over", at)
	spend, err := p.agents.Spend(t.Context(), p.org, dbtest.Start, p.clock.Now())
	if s := spend[p.agent.ID]; err != nil || s.Calls != 1 || s.Lookups != 11 || s.Amount != p.named(at).Amount {
		t.Errorf("the agent has cost %+v, %v", s, err)
	}
}

func TestCallMetrics(t *testing.T) {
	p := newPhones(t)
	registry := prometheus.NewRegistry()
	p.Register(registry)
	p.agents.Register(registry)
	_, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(25 * time.Second)
	p.line.end(at, "customer-ended-call")
	for range 2 {
		p.tell(p.line.news(at, "end-of-call-report", ""))
	}
	p.who(p.line.incoming(uuid.NewString(), handset))
	p.Genuine("x")
	_, _ = p.FromVapi(t.Context(), []byte("x"))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"ringfence_calls_total outbound ringing": 1, "ringfence_calls_total outbound in_progress": 1, "ringfence_calls_total outbound completed": 1,
		"ringfence_call_funding_total extended": 1, "ringfence_agent_syncs_total done": 1, "ringfence_vapi_messages_total taken status-update": 1,
		"ringfence_vapi_messages_total taken end-of-call-report": 1, "ringfence_vapi_messages_total known end-of-call-report": 1,
		"ringfence_vapi_messages_total unknown assistant-request": 1, "ringfence_vapi_messages_total bad_secret any": 1, "ringfence_vapi_messages_total malformed any": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// TestCallInvariants: each promise about calls is seen broken when it is.
func TestCallInvariants(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	c, at := p.place("done")
	p.line.answer(at)
	p.clock.Advance(30 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	live, _ := p.place("live")
	broken := func() (names []string) {
		err := p.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
			checks, err := wallet.CheckBooks(ctx, tx, telephony.Invariants...)
			for _, c := range checks {
				if len(c.Violations) > 0 {
					names = append(names, c.Name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := broken(); len(names) > 0 {
		t.Fatalf("broken before anything was: %v", names)
	}
	for _, k := range []struct {
		name, plant, mend string
		id                uuid.UUID
	}{
		{"calls-are-paid", `UPDATE calls SET amount_pence = amount_pence + 1 WHERE id = $1`, `UPDATE calls SET amount_pence = amount_pence - 1 WHERE id = $1`, c.ID},
		{"calls-are-paid", `UPDATE holds SET state = 'open' WHERE id = (SELECT hold_id FROM calls WHERE id = $1)`, `UPDATE holds SET state = 'in_flight' WHERE id = (SELECT hold_id FROM calls WHERE id = $1)`, live.ID},
		{"calls-cost-what-they-lasted", `UPDATE calls SET seconds = seconds + 60 WHERE id = $1`, `UPDATE calls SET seconds = seconds - 60 WHERE id = $1`, c.ID},
		{"calls-are-funded", `UPDATE calls SET covered_seconds = covered_seconds + 60 WHERE id = $1`, `UPDATE calls SET covered_seconds = covered_seconds - 60 WHERE id = $1`, live.ID},
		{"calls-show-their-own-number", `UPDATE calls SET our_number = '+14155550102' WHERE id = $1`, `UPDATE calls SET our_number = '+14155550101' WHERE id = $1`, c.ID},
		{"calls-end", `UPDATE calls SET created_at = created_at - interval '3 days' WHERE id = $1`, `UPDATE calls SET created_at = created_at + interval '3 days' WHERE id = $1`, live.ID},
		{"recordings-are-at-hosts-we-know", `UPDATE calls SET recording_url = 'http://storage.vapi.ai/' WHERE id = $1`, `UPDATE calls SET recording_url = '' WHERE id = $1`, c.ID},
		{
			"calls-have-holds", `UPDATE calls SET hold_id = NULL, state = 'refused', ended_at = now(), look_at = NULL WHERE id = $1`,
			`UPDATE calls SET hold_id = (SELECT id FROM holds WHERE state = 'in_flight'), state = 'ringing', ended_at = NULL, look_at = created_at WHERE id = $1`, live.ID,
		},
		{
			"calls-are-audited", `UPDATE audit_log SET action = 'x' || action WHERE action = 'call.completed' AND subject = 'call:' || $1::text`,
			`UPDATE audit_log SET action = 'call.completed' WHERE action = 'xcall.completed' AND subject = 'call:' || $1::text`, c.ID,
		},
	} {
		dbtest.Super(t, p.dbURL, k.plant, k.id)
		if names := broken(); !strings.Contains(strings.Join(names, " "), k.name) {
			t.Errorf("%s holds although it is broken (%s): %v", k.name, k.plant, names)
		}
		dbtest.Super(t, p.dbURL, k.mend, k.id)
	}
	p.settle()
}
