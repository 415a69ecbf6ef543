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

// TestPlace: a call is paid for before anybody is called, rings, is spoken in, and costs its seconds.
func TestPlace(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	if c.State != telephony.CallRinging || c.OurNumber != p.number.PhoneNumber || c.Party != handset || c.AgentName != "Reception" || c.Held != 56 {
		t.Errorf("%+v", c)
	}
	p.wantWallet("ringing", 1_00, 56, 0)
	// A pound pays for 108 seconds, and not for 109.
	if c.Ceiling != 108 || at.Max != 108 || at.Customer != handset || at.Phone != p.number.VapiID.String || at.Assistant != p.agent.AssistantID.String || at.Name != c.ID.String() {
		t.Errorf("Vapi was asked for %+v, of %d s at most", at, c.Ceiling)
	}
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	if c = p.call(c); c.State != telephony.CallInProgress || c.StartedAt == nil {
		t.Errorf("somebody speaks, and the call is %s", c.State)
	}
	p.pass(91 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("ended", c, telephony.CallCompleted, 91, 84)
	p.wantWallet("ended", 16, 0, 0)
	if c = p.call(c); c.Transcript != "AI: Hello. User: Hello." || c.RecordingURL != at.Recording || c.CostMicros.Int64 != 123_400 || c.EndedReason != "customer-ended-call" {
		t.Errorf("%+v", c)
	}
	again, _ := p.place("k")
	if !again.Repeated || again.ID != c.ID || len(p.line.calls()) != 1 {
		t.Errorf("the same key: %+v", again)
	}
	other := p.request("k")
	other.To = "+447400123999"
	_, err := p.Place(t.Context(), other)
	wantFault(t, "another call with the key", err, fault.Conflict, "idempotency_key_reused")
	var line string
	dbtest.Get(t, p.dbURL, &line, `SELECT description FROM ledger_transactions WHERE id = $1`, c.HoldID.UUID)
	if line != "Call to +44•••••••456, 1 min 31 s" {
		t.Errorf("the history says %q", line)
	}
}

func TestPlaceRefusals(t *testing.T) {
	p := newPhones(t)
	asked := p.line.count("POST /call")
	theirs := p.newAgent(p.other, p.theirs.ID)
	bare := p.newAgent(p.org, uuid.Nil)
	third := p.plantNumber(p.other, "+14155550103") // not the caller's
	for what, c := range map[string]struct {
		change func(*telephony.PlaceRequest)
		kind   fault.Kind
		code   string
		field  string
	}{
		"no number":             {func(r *telephony.PlaceRequest) { r.To = "hello" }, fault.Invalid, "", "to"},
		"a drama's number":      {func(r *telephony.PlaceRequest) { r.To = "+447700900123" }, fault.Invalid, "", "to"},
		"emergency":             {func(r *telephony.PlaceRequest) { r.To = "999" }, fault.Invalid, "", "to"},
		"not offered":           {func(r *telephony.PlaceRequest) { r.To = premium }, fault.Forbidden, "destination_not_offered", "to"},
		"no such agent":         {func(r *telephony.PlaceRequest) { r.Agent = uuid.New() }, fault.Invalid, "", "agent_id"},
		"another's agent":       {func(r *telephony.PlaceRequest) { r.Agent = theirs.ID }, fault.Invalid, "", "agent_id"},
		"an agent of no number": {func(r *telephony.PlaceRequest) { r.Agent = bare.ID }, fault.Conflict, "agent_without_number", "agent_id"},
		"no key":                {func(r *telephony.PlaceRequest) { r.Key = "" }, fault.Invalid, "", "idempotency_key"},
	} {
		r := p.request("key " + what)
		c.change(&r)
		_, err := p.Place(t.Context(), r)
		wantFault(t, what, err, c.kind, c.code)
		if f := fault.As(err); f != nil && f.Field != c.field {
			t.Errorf("%s: the field is %q", what, f.Field)
		}
	}
	// Another organisation's number is no number to call from.
	_, err := p.agents.Link(t.Context(), p.org, bare.ID, third.ID, audit.System("test"))
	wantFault(t, "linking another's number", err, fault.NotFound, "")

	p.adjust(-22) // 78p
	_, err = p.Place(t.Context(), p.request("poor"))
	wantFault(t, "78p", err, fault.Unpaid, "insufficient_funds")
	if f := fault.As(err); f.Members["required_pence"] != 79 || f.Members["shortfall_pence"] != 1 {
		t.Errorf("figures %v", f.Members)
	}
	p.adjust(1)
	off := fields()
	off.Active = false
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, off, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	_, err = p.Place(t.Context(), p.request("off"))
	wantFault(t, "an agent that is off", err, fault.Conflict, "agent_off")
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, fields(), audit.System("test")); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, p.dbURL, `UPDATE agents SET assistant_id = NULL WHERE id = $1`, p.agent.ID)
	_, err = p.Place(t.Context(), p.request("not ready"))
	wantFault(t, "an agent that Vapi does not have", err, fault.Conflict, "agent_not_ready")
	dbtest.Super(t, p.dbURL, `UPDATE agents SET assistant_id = $2 WHERE id = $1`, p.agent.ID, p.agent.AssistantID)
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`, p.number.ID)
	_, err = p.Place(t.Context(), p.request("releasing"))
	wantFault(t, "a number that is being given back", err, fault.Conflict, "number_not_active")
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id = $1`, p.number.ID)
	if p.line.count("POST /call") != asked || p.number1(`SELECT count(*) FROM calls`) != 0 {
		t.Error("somebody was called, or a call was stored")
	}
	p.wantWallet("nothing happened", 79, 0, 0)
	// 79p are enough, and with one agent that can call nobody has to say which.
	r := p.request("enough")
	r.Agent = uuid.Nil
	if c, err := p.Place(t.Context(), r); err != nil || c.AgentID.UUID != p.agent.ID || c.Ceiling != 85 {
		t.Errorf("%+v, %v", c, err)
	}
	p.settle()
}

// What Vapi refuses is told at once, costs nothing, and a repeat is told the same without asking again.
func TestVapiRefusesCalls(t *testing.T) {
	p := newPhones(t)
	for do, c := range map[string]struct {
		kind fault.Kind
		code string
	}{
		"400": {fault.Declined, "not_callable"}, "404": {fault.Declined, "not_callable"}, "401": {fault.Unavailable, "provider_unavailable"},
		"402": {fault.Unavailable, "provider_unavailable"}, "429": {fault.Unavailable, "provider_unavailable"},
	} {
		p.line.mishap(mishap{what: "POST /call", do: do})
		before := p.line.count("POST /call")
		for range 2 {
			call, err := p.Place(t.Context(), p.request(do))
			wantFault(t, do, err, c.kind, c.code)
			p.wantCall(do, call, telephony.CallFailed, 0, 0)
		}
		if n := p.line.count("POST /call") - before; n != 1 {
			t.Errorf("%s: Vapi was asked %d times", do, n)
		}
	}
	p.wantWallet("refused", 1_00, 0, 0)
}

// TestPlaceFaults: whatever goes wrong while Vapi is asked, somebody is called once at most, and it is paid for if and only if
// they were.
func TestPlaceFaults(t *testing.T) {
	for do, made := range map[string]int{"cut_after": 1, "hang_after": 1, "500_after": 1, "cut": 0, "hang": 0, "500": 0, "503": 0, "garbage": 0} {
		t.Run(do, func(t *testing.T) {
			p := newPhones(t)
			p.line.mishap(mishap{what: "POST /call", do: do})
			c, err := p.Place(t.Context(), p.request("k"))
			if err != nil || c.State != telephony.CallUnknown {
				t.Fatalf("told %s, %v", c.State, err)
			}
			p.wantWallet("nobody knows", 1_00, 56, 0)
			if n := len(p.line.calls()); n != made {
				t.Fatalf("%d calls were made", n)
			}
			if made == 1 {
				p.line.answer(p.line.calls()[0])
			}
			p.pass(30 * time.Second)
			again, _ := p.Place(t.Context(), p.request("k")) // that it is the same is what counts
			if again.ID != c.ID {
				t.Errorf("a repeat is %s, not %s", again.ID, c.ID)
			}
			if made == 1 {
				p.wantCall("found", c, telephony.CallInProgress, 0, 0)
				p.line.end(p.line.calls()[0], "customer-ended-call")
				p.pass(time.Minute)
				p.wantCall("ended", c, telephony.CallCompleted, 30, 28)
				p.wantWallet("ended", 72, 0, 0)
			} else {
				p.pass(3 * time.Minute)
				p.wantCall("not there", c, telephony.CallFailed, 0, 0)
				p.wantWallet("not there", 1_00, 0, 0)
			}
			if n := p.line.count("POST /call"); n != 1 {
				t.Errorf("Vapi was asked to call %d times", n)
			}
		})
	}
}

// A list that cannot be read says nothing about what is in it: a call counts as not made only after two looks that were had.
func TestCallListUnreadable(t *testing.T) {
	p := newPhones(t)
	p.line.mishap(mishap{what: "POST /call", do: "cut"}, mishap{what: "GET /call", do: "500", times: -1})
	c, _ := p.place("k")
	p.pass(10 * time.Minute)
	p.wantCall("nobody could look", c, telephony.CallUnknown, 0, 0)
	p.wantWallet("nobody could look", 1_00, 56, 0)
	p.line.mishap()
	p.pass(30 * time.Second)
	p.wantCall("one look", c, telephony.CallUnknown, 0, 0)
	p.pass(30 * time.Second)
	p.wantCall("two looks", c, telephony.CallFailed, 0, 0)
	p.wantWallet("two looks", 1_00, 0, 0)
}

// Vapi's word may be faster than its answer, or than our storing it: the call is known by our own id.
func TestWordBeforeAnswer(t *testing.T) {
	p := newPhones(t)
	p.line.mishap(mishap{what: "POST /call", do: "cut_after"})
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	if got := p.call(c); got.State != telephony.CallInProgress || got.VapiID.String != at.ID {
		t.Errorf("it is %s, as %q", got.State, got.VapiID.String)
	}
	p.clock.Advance(10 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("told", c, telephony.CallCompleted, 10, 10)
	// Its report alone will do.
	p.line.mishap(mishap{what: "POST /call", do: "hang_after"})
	c, at = p.place("report")
	p.line.answer(at)
	p.clock.Advance(time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("reported", c, telephony.CallCompleted, 1, 1)
	p.wantWallet("both", 89, 0, 0)
}

// What a call needs may go between the steps: then nobody is called, and the money is free.
func TestGoneBeforePlaced(t *testing.T) {
	p := newPhones(t)
	for what, change := range map[string][2]string{
		"its number": {
			`UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`,
			`UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id = $1`,
		},
		"its link":      {`UPDATE agents SET number_id = NULL WHERE number_id = $1`, `UPDATE agents SET number_id = $1`},
		"its agent":     {`UPDATE agents SET active = false WHERE number_id = $1`, `UPDATE agents SET active = true WHERE number_id = $1`},
		"its assistant": {`UPDATE agents SET assistant_id = NULL WHERE number_id = $1`, `UPDATE agents SET assistant_id = '` + p.agent.AssistantID.String + `' WHERE number_id = $1`},
	} {
		if _, err := p.Queue(t.Context(), p.request(what)); err != nil {
			t.Fatal(what, err)
		}
		dbtest.Super(t, p.dbURL, change[0], p.number.ID)
		c, err := p.Place(t.Context(), p.request(what))
		wantFault(t, what, err, fault.Unavailable, "provider_unavailable")
		p.wantCall(what, c, telephony.CallFailed, 0, 0)
		dbtest.Super(t, p.dbURL, change[1], p.number.ID)
	}
	if n := len(p.line.calls()); n != 0 {
		t.Errorf("%d were called", n)
	}
	p.wantWallet("nobody", 1_00, 0, 0)
}

// A call that is given up and is made after all is ended, and nobody pays for it.
func TestStrayCall(t *testing.T) {
	p := newPhones(t)
	p.line.mishap(mishap{what: "POST /call", do: "cut_after"}, mishap{what: "GET /call", do: "cut"})
	c, at := p.place("k")
	p.line.mu.Lock()
	at.Gone = true // Vapi's list is late
	p.line.mu.Unlock()
	p.pass(4 * time.Minute)
	p.wantCall("given up", c, telephony.CallFailed, 0, 0)
	p.line.mu.Lock()
	at.Gone = false
	p.line.mu.Unlock()
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	if at.Hungup != 1 || at.Status != "ended" {
		t.Errorf("it was told to end %d times, and is %s", at.Hungup, at.Status)
	}
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("stray", c, telephony.CallFailed, 0, 0)
	p.wantWallet("stray", 1_00, 0, 0)
}

// TestMessagesInAnyOrder: what Vapi tells, in every order and more than once, ends the same.
func TestMessagesInAnyOrder(t *testing.T) {
	p := newPhones(t)
	p.adjust(100_00)
	kinds := [][2]string{{"status-update", "ringing"}, {"status-update", "in-progress"}, {"status-update", "ended"}, {"end-of-call-report", ""}}
	want := money.Pence(101_00)
	n := 0
	for order := range permutations(len(kinds)) {
		for _, twice := range []bool{false, true} {
			n++
			c, at := p.place(fmt.Sprint(n))
			p.line.answer(at)
			p.clock.Advance(20 * time.Second)
			p.line.end(at, "customer-ended-call")
			for _, i := range order {
				body := p.line.news(at, kinds[i][0], kinds[i][1])
				p.tell(body)
				if twice {
					p.tell(body)
				}
			}
			what := fmt.Sprintf("%v, twice: %t", order, twice)
			p.wantCall(what, c, telephony.CallCompleted, 20, 19)
			if got := p.call(c); got.Transcript == "" || got.RecordingURL == "" || got.EndedReason != "customer-ended-call" {
				t.Errorf("%s: %+v", what, got)
			}
			want -= 19
			p.wantWallet(what, want, 0, 0)
		}
	}
}

// permutations gives every order of n things.
func permutations(n int) func(yield func([]int) bool) {
	var all [][]int
	var extend func(prefix []int)
	extend = func(prefix []int) {
		if len(prefix) == n {
			all = append(all, slices.Clone(prefix))
			return
		}
		for i := range n {
			if !slices.Contains(prefix, i) {
				extend(append(prefix, i))
			}
		}
	}
	extend(nil)
	return func(yield func([]int) bool) {
		for _, o := range all {
			if !yield(o) {
				return
			}
		}
	}
}

// A mere change of status says that a call is over, not how long it was: it is asked for at once, and charged by that.
func TestEndedWithoutReport(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	p.line.answer(at)
	p.clock.Advance(10 * time.Second)
	p.line.end(at, "assistant-ended-call")
	p.tell(p.line.news(at, "status-update", "ended"))
	p.wantCall("over", c, telephony.CallEnding, 0, 0)
	p.sweep()
	p.wantCall("asked for", c, telephony.CallCompleted, 10, 10)
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("reported", c, telephony.CallCompleted, 10, 10)
	p.wantWallet("once", 90, 0, 0)
}

// TestNobodyAnswers: a call in which nobody spoke costs nothing.
func TestNobodyAnswers(t *testing.T) {
	p := newPhones(t)
	for reason, state := range map[string]telephony.CallState{
		"customer-busy": telephony.CallUnanswered, "customer-did-not-answer": telephony.CallUnanswered,
		"call.start.error-get-transport": telephony.CallFailed, "twilio-failed-to-connect-call": telephony.CallFailed,
		"call.in-progress.error-vapifault-transport-never-connected": telephony.CallFailed, "silence-timed-out": telephony.CallUnanswered,
	} {
		for _, told := range []bool{true, false} {
			c, at := p.place(fmt.Sprint(reason, told))
			p.clock.Advance(20 * time.Second)
			p.line.end(at, reason)
			if told {
				p.tell(p.line.news(at, "end-of-call-report", ""))
			}
			p.pass(10 * time.Second)
			p.wantCall(reason, c, state, 0, 0)
			if c = p.call(c); c.Note == "" || c.StartedAt != nil {
				t.Errorf("%s: note %q, started %v", reason, c.Note, c.StartedAt)
			}
		}
	}
	// What Vapi counts as begun is charged to nobody either, if it says that nobody picked up.
	c, at := p.place("ringing")
	p.line.answer(at)
	p.clock.Advance(20 * time.Second)
	p.line.end(at, "customer-did-not-answer")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("ringing", c, telephony.CallUnanswered, 0, 0)
	p.wantWallet("nobody", 1_00, 0, 0)
}

// Whatever Vapi says of the times, nothing absurd is charged.
func TestAbsurdTimes(t *testing.T) {
	p := newPhones(t)
	p.adjust(10_00)
	body := func(at *lineCall, started, ended string) []byte {
		return fmt.Appendf(nil, `{"message":{"type":"end-of-call-report","endedReason":"customer-ended-call","startedAt":%q,"endedAt":%q,"cost":"1e-999999999","call":{"id":%q}}}`, started, ended, at.ID)
	}
	for what, c := range map[string]struct {
		started, ended time.Duration
		seconds        int64
		state          telephony.CallState
	}{
		"backwards":     {time.Minute, 0, 0, telephony.CallUnanswered},
		"a whole day":   {0, 24 * time.Hour, 43_200, telephony.CallCompleted}, // but for its ceiling
		"a moment":      {0, time.Millisecond, 1, telephony.CallCompleted},
		"a minute more": {0, 60*time.Second + time.Microsecond, 61, telephony.CallCompleted},
	} {
		call, at := p.place(what)
		began := p.clock.Now()
		p.clock.Advance(24 * time.Hour)
		p.tell(body(at, began.Add(c.started).Format(time.RFC3339Nano), began.Add(c.ended).Format(time.RFC3339Nano)))
		got := p.call(call)
		if got.State != c.state || got.Seconds != min(c.seconds, got.Ceiling) || got.Ceiling < 1000 {
			t.Errorf("%s: %s, %d s of at most %d, want %s, %d", what, got.State, got.Seconds, got.Ceiling, c.state, c.seconds)
		}
		if got.StartedAt != nil && got.CostMicros.Valid {
			t.Errorf("%s: it cost us %d", what, got.CostMicros.Int64)
		}
		p.adjust(got.Amount + 1)
	}
}

// TestHoldGrows: while somebody speaks the money is set aside half a minute ahead, never beyond the call's ceiling, and never
// more than there is.
func TestHoldGrows(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	c, at := p.place("k")
	if c.Ceiling != telephony.DefaultMaxCall {
		t.Errorf("the ceiling is %d s", c.Ceiling)
	}
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	for second := int64(5); second <= 600; second += 5 {
		p.pass(5 * time.Second)
		if got := p.call(c); got.Covered < second+30 || got.Covered > second+61 {
			t.Fatalf("after %d s it is paid for until %d", second, got.Covered)
		}
	}
	extensions := p.number1(`SELECT count(DISTINCT updated_at) FROM holds`)
	if extensions == 0 {
		t.Error("the hold did not change")
	}
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("ten minutes", c, telephony.CallCompleted, 600, 553)
	p.wantWallet("ten minutes", 94_47, 0, 0)
}

// TestUnfunded: a call that cannot be paid any longer is ended through Vapi before its money is gone; what was spoken is paid.
func TestUnfunded(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(30 * time.Second)
	// Something else takes all that is left.
	held := p.call(c).Held
	p.adjust(-(10_00 - held))
	p.wantWallet("the rest is gone", held, held, 0)
	p.pass(time.Minute)
	if got := p.call(c); at.Hungup != 1 || got.HangupWhy != telephony.HangupUnfunded {
		t.Fatalf("it was told to end %d times (%s); it is paid for until %d", at.Hungup, got.HangupWhy, got.Covered)
	}
	p.pass(10 * time.Second)
	got := p.call(c)
	if got.State != telephony.CallCompleted || got.Seconds > got.Covered || got.Seconds < got.Covered-15 || !strings.Contains(got.Note, "no money") {
		t.Errorf("%s after %d s, paid for until %d: %s", got.State, got.Seconds, got.Covered, got.Note)
	}
	p.wantWallet("paid", held-got.Amount, 0, 0)
}

// A call gets the last penny that there is, though it is less than a step.
func TestPartlyFunded(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(15 * time.Second)
	p.adjust(-(10_00 - 56 - 12)) // 12p are left beside the first minute: 68p pay for 73 seconds
	p.pass(30 * time.Second)
	if got := p.call(c); got.Covered != 73 || got.Held != 68 || at.Hungup != 0 {
		t.Errorf("it is paid for until %d with %s, and was told to end %d times", got.Covered, got.Held, at.Hungup)
	}
	p.pass(30 * time.Second)
	got := p.call(c)
	if at.Hungup != 1 || got.State != telephony.CallCompleted || got.Seconds < 60 || got.Seconds > 73 {
		t.Errorf("told to end %d times: %s, %d s", at.Hungup, got.State, got.Seconds)
	}
	p.wantWallet("paid", 68-got.Amount, 0, 0)
}

// TestOverrun: what is spoken beyond what was set aside is charged all the same, and stands as debt where there is no money.
func TestOverrun(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	at.Stubborn = true // Vapi does not end it
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(20 * time.Second)
	held := p.call(c).Held
	p.adjust(-(10_00 - held))
	p.line.mu.Lock()
	sid := "CA" + strings.ReplaceAll(at.ID, "-", "")
	p.line.mu.Unlock()
	dbtest.Super(t, p.dbURL, `UPDATE calls SET provider_sid = ''`) // nor can Twilio
	p.line.mishap(mishap{what: "GET /call/*", do: "500", times: -1})
	p.pass(100 * time.Second)
	if at.Hungup == 0 || slices.Contains(p.line.ended, sid) {
		t.Fatalf("told to end %d times, at Twilio %v", at.Hungup, p.line.ended)
	}
	p.line.mishap()
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("overrun", c, telephony.CallCompleted, 120, 111)
	p.wantWallet("overrun", 0, 0, 111-held)
	_, err := p.Place(t.Context(), p.request("next"))
	wantFault(t, "in debt", err, fault.Unpaid, "debt")
}

// Where Vapi does not end a call, Twilio does, which carries it.
func TestHangupAtTwilio(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	p.line.answer(at)
	at.Stubborn = true
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.clock.Advance(7 * time.Second)
	got, err := p.Hangup(t.Context(), p.org, c.ID, audit.System("test"))
	if err != nil || at.Hungup != 1 || len(p.line.ended) != 1 {
		t.Fatalf("%v; Vapi was told %d times, Twilio of %v", err, at.Hungup, p.line.ended)
	}
	if got.State != telephony.CallCompleted || got.Seconds != 7 || got.HangupWhy != telephony.HangupAsked {
		t.Errorf("%s, %d s (%s)", got.State, got.Seconds, got.HangupWhy)
	}
	again, err := p.Hangup(t.Context(), p.org, c.ID, audit.System("test"))
	if err != nil || again.State != got.State || at.Hungup != 1 {
		t.Errorf("again: %s, %v", again.State, err)
	}
	_, err = p.Hangup(t.Context(), p.other, c.ID, audit.System("test"))
	wantFault(t, "another organisation's", err, fault.NotFound, "")
}

// A call that Vapi lets go on beyond its ceiling is ended, and not charged for longer than the ceiling.
func TestCeiling(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(c2s(c.Ceiling) + 15*time.Second)
	if at.Hungup != 0 {
		t.Error("it was ended before Vapi could")
	}
	p.pass(30 * time.Second)
	got := p.call(c)
	if at.Hungup != 1 || got.State != telephony.CallCompleted || got.Seconds != 108 || got.Amount != 1_00 || got.HangupWhy != telephony.HangupCeiling {
		t.Errorf("told to end %d times: %s, %d s for %s (%s)", at.Hungup, got.State, got.Seconds, got.Amount, got.HangupWhy)
	}
	p.wantWallet("all of it", 0, 0, 0)
}

func c2s(seconds int64) time.Duration { return time.Duration(seconds) * time.Second }

// TestCallWithoutNews: without a word of Vapi's, a call is asked about: it is funded while it lives, and settled when it has ended.
func TestCallWithoutNews(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.pass(20 * time.Second)
	p.wantCall("asked", c, telephony.CallInProgress, 0, 0)
	p.pass(2 * time.Minute)
	if got := p.call(c); got.Covered < 170 {
		t.Errorf("it is paid for until %d", got.Covered)
	}
	p.line.end(at, "customer-ended-call")
	p.pass(35 * time.Second)
	p.wantCall("settled", c, telephony.CallCompleted, 140, 130)
	if got := p.call(c); got.Transcript == "" {
		t.Error("what was said is lost")
	}
	p.wantWallet("settled", 8_70, 0, 0)
}

// A call that Vapi does not know any more is paid for as far as it is known to have gone.
func TestCallIsGone(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	spoken, at := p.place("spoken")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(30 * time.Second) // and is asked about
	rung, second := p.place("rung")
	for _, c := range []*lineCall{at, second} {
		p.line.mu.Lock()
		c.Gone = true
		p.line.mu.Unlock()
	}
	p.pass(3 * time.Minute)
	p.wantCall("spoken", spoken, telephony.CallCompleted, 30, 28)
	p.wantCall("rung", rung, telephony.CallFailed, 0, 0)
	p.wantWallet("gone", 9_72, 0, 0)
}

// A process that dies between the steps leaves a call that is made once, or not at all and free.
func TestDeadCaller(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	queued, err := p.Queue(t.Context(), p.request("queued"))
	if err != nil {
		t.Fatal(err)
	}
	p.wantWallet("queued", 10_00, 56, 0)
	_, next := p.open() // another process
	p.Calls = next
	p.pass(55 * time.Second)
	p.wantCall("queued", queued, telephony.CallQueued, 0, 0)
	p.pass(10 * time.Second)
	p.wantCall("nobody is called out of the blue", queued, telephony.CallFailed, 0, 0)
	_, err = p.Place(t.Context(), p.request("queued"))
	wantFault(t, "the same key", err, fault.Unavailable, "provider_unavailable")

	taken, err := p.Queue(t.Context(), p.request("taken"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Take(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	p.wantWallet("taken", 10_00, 56, 0)
	p.pass(4 * time.Minute)
	p.wantCall("taken", taken, telephony.CallFailed, 0, 0)

	// One that is queued and asked for again in time is placed by whoever asks.
	late, err := p.Queue(t.Context(), p.request("late"))
	if err != nil {
		t.Fatal(err)
	}
	if c, at := p.place("late"); c.ID != late.ID || !c.Repeated || c.State != telephony.CallRinging || at == nil {
		t.Errorf("%+v", c)
	}
	if n := len(p.line.calls()); n != 1 {
		t.Errorf("%d calls were made", n)
	}
	p.settle()
	p.wantWallet("whole", 10_00, 0, 0)
}

// TestLastCall: two at once on the last penny: one is called.
func TestLastCall(t *testing.T) {
	p := newPhones(t)
	p.adjust(-21) // 79p
	var wg sync.WaitGroup
	refused := make(chan error, 8)
	for i := range 8 {
		wg.Go(func() {
			if _, err := p.Place(t.Context(), p.request(fmt.Sprint(i))); err != nil {
				refused <- err
			}
		})
	}
	wg.Wait()
	close(refused)
	n := 0
	for err := range refused {
		n++
		wantFault(t, "the others", err, fault.Unpaid, "insufficient_funds")
	}
	if n != 7 || len(p.line.calls()) != 1 {
		t.Errorf("%d were refused, %d called", n, len(p.line.calls()))
	}
	p.wantWallet("one", 79, 56, 0)
	p.settle()
}

func TestSameCallKeyAtOnce(t *testing.T) {
	p := newPhones(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := p.Place(t.Context(), p.request("k")); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		wg.Go(p.sweep)
	}
	wg.Wait()
	if n := len(p.line.calls()); n != 1 {
		t.Errorf("%d calls were made", n)
	}
	p.settle()
	p.wantWallet("once", 1_00, 0, 0)
}

// Two sweepers and Vapi's word at once: a call is charged once.
func TestSettledAtOnce(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	for round := range 5 {
		c, at := p.place(fmt.Sprint(round))
		p.line.answer(at)
		p.tell(p.line.news(at, "status-update", "in-progress"))
		p.clock.Advance(31 * time.Second)
		p.line.end(at, "customer-ended-call")
		report, ended := p.line.news(at, "end-of-call-report", ""), p.line.news(at, "status-update", "ended")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(p.sweep)
			wg.Go(func() { p.tell(report) })
			wg.Go(func() { p.tell(ended) })
		}
		wg.Wait()
		p.wantCall("once", c, telephony.CallCompleted, 31, 29)
	}
	p.wantWallet("five times", 100_00-5*29, 0, 0)
}

// plantCalls has every transaction fail that brings a call into a state.
func (p *phones) plantCalls(state telephony.CallState) (lift func()) {
	p.t.Helper()
	dbtest.Super(p.t, p.dbURL, `
		CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';
		CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON calls FOR EACH ROW WHEN (NEW.state = '`+string(state)+`') EXECUTE FUNCTION planted()`)
	return func() { dbtest.Super(p.t, p.dbURL, `DROP TRIGGER planted ON calls; DROP FUNCTION planted`) }
}

// TestDatabaseFailsCalls: each step's transaction fails, whatever Vapi does meanwhile. Somebody is called once at most, and the
// wallet is whole when the sweeper has been there.
func TestDatabaseFailsCalls(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	want := money.Pence(100_00)
	for _, state := range []telephony.CallState{
		telephony.CallQueued, telephony.CallPlacing, telephony.CallUnknown, telephony.CallRinging, telephony.CallInProgress, telephony.CallCompleted, telephony.CallFailed,
	} {
		for _, do := range []string{"", "cut_after", "cut", "400"} {
			what := string(state) + ", Vapi " + do
			if do != "" {
				p.line.mishap(mishap{what: "POST /call", do: do})
			}
			asked, made, stored := p.line.count("POST /call"), len(p.line.calls()), p.number1(`SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM holds)`)
			lift := p.plantCalls(state)
			c, err := p.Place(t.Context(), p.request(what))
			if err == nil && c.State.Ended() {
				t.Errorf("%s: told that it is %s", what, c.State)
			}
			for _, at := range p.line.calls()[made:] {
				p.line.answer(at)
				_, _ = p.FromVapi(t.Context(), p.line.news(at, "status-update", "in-progress"))
				p.clock.Advance(20 * time.Second)
				p.line.end(at, "customer-ended-call")
				_, _ = p.FromVapi(t.Context(), p.line.news(at, "end-of-call-report", ""))
				want -= 19
			}
			lift()
			p.settle()
			if state == telephony.CallQueued && p.number1(`SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM holds)`) > stored {
				t.Errorf("%s: what failed in its first transaction is stored", what)
			}
			if n := p.line.count("POST /call") - asked; n > 1 {
				t.Errorf("%s: Vapi was asked %d times", what, n)
			}
			p.wantWallet(what, want, 0, 0)
		}
	}
}

// What belongs to one organisation is not there for another.
func TestCallsOfOthers(t *testing.T) {
	p := newPhones(t)
	c, _ := p.place("k")
	_, err := p.Call(t.Context(), p.other, c.ID)
	wantFault(t, "another's call", err, fault.NotFound, "")
	if list, err := p.List(t.Context(), p.other, uuid.Nil, 10); err != nil || len(list) != 0 {
		t.Errorf("another's list has %d calls, %v", len(list), err)
	}
	if list, err := p.List(t.Context(), p.org, uuid.Nil, 10); err != nil || len(list) != 1 || list[0].ID != c.ID {
		t.Errorf("the list has %d calls, %v", len(list), err)
	}
	p.settle()
	off, err := telephony.NewCalls(telephony.CallsOptions{DB: p.db, Gates: p.gates, Now: p.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = off.Place(t.Context(), p.request("off"))
	wantFault(t, "without Vapi", err, fault.Unavailable, "calls_off")
}

// Where a browser or we ourselves go is never left to what came in an answer.
func TestAddresses(t *testing.T) {
	p := newPhones(t)
	for address, good := range map[string]bool{
		"https://storage.vapi.ai/a.wav": true, "https://STORAGE.vapi.ai/a.wav?x=1": true, "": false,
		"http://storage.vapi.ai/a.wav": false, "https://vapi.ai.evil.example/a.wav": false, "https://evilvapi.ai/a.wav": false,
		"https://storage.vapi.ai@evil.example/a.wav": false, "https://storage.vapi.ai:8443/a.wav": false, "javascript:alert(1)": false,
		"https://storage.vapi.ai\\@evil.example/": false, "https://storage.vapi.ai/a b": false, "https://storage.vapi.ai": false,
		"//storage.vapi.ai/a.wav": false, "https://storage.vapi.ai/a.wav#x": false, "https://storage.vapi.ai/" + strings.Repeat("a", 2048): false,
	} {
		if got := p.Playable(address); got != "" && got != address || (got != "") != good {
			t.Errorf("%q is playable as %q", address, got)
		}
	}
	for address, good := range map[string]bool{
		p.line.server.URL + "/control/x": true, "https://phone-call-websocket.aws-us-west-2.vapi.ai/x/control": true, "": false,
		"http://phone-call-websocket.vapi.ai/x": false, "https://vapi.ai.evil.example/x": false, "http://169.254.169.254/latest": false,
		"https://a.vapi.ai:22/x": false, "https://user@a.vapi.ai/x": false, "file:///etc/passwd": false,
	} {
		if got := p.Controllable(address); got != good {
			t.Errorf("%q may be asked: %t", address, got)
		}
	}
}

func TestCallFigures(t *testing.T) {
	for raw, want := range map[string]int64{"0": 0, "0.1234": 123_400, `"0.5"`: 500_000, "12.3456789": 12_345_679, "1e2": 100_000_000} {
		if got, said := telephony.CostMicros(raw); !said || got != want {
			t.Errorf("%s is %d, %t", raw, got, said)
		}
	}
	for _, raw := range []string{"", "null", "-1", "x", "1e999999999", "1e-999999999", "99999999999", `{"a":1}`} {
		if got, said := telephony.CostMicros(raw); said {
			t.Errorf("%s is %d", raw, got)
		}
	}
	at := dbtest.Start
	for d, want := range map[time.Duration]int64{0: 0, -time.Second: 0, time.Millisecond: 1, time.Second: 1, time.Second + time.Nanosecond: 2, time.Hour: 3600} {
		if got := telephony.CallLength(at, at.Add(d)); got != want {
			t.Errorf("%s is %d s", d, got)
		}
	}
}

// A monthly limit, a freeze: a call is not begun, and one that goes on ends when what was set aside is spoken.
func TestLimitsEndCalls(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	dbtest.Super(t, p.dbURL, `UPDATE wallets SET frozen_at = now(), frozen_reason = 'test' WHERE org_id = $1`, p.org)
	_, err := p.Place(t.Context(), p.request("frozen"))
	wantFault(t, "frozen", err, fault.Forbidden, "wallet_frozen")
	p.pass(90 * time.Second)
	got := p.call(c)
	if at.Hungup != 1 || got.State != telephony.CallCompleted || got.Seconds > 60 || got.Seconds < 45 {
		t.Errorf("told to end %d times: %s, %d s", at.Hungup, got.State, got.Seconds)
	}
	dbtest.Super(t, p.dbURL, `UPDATE wallets SET frozen_at = NULL, frozen_reason = '' WHERE org_id = $1`, p.org)
}

// The price is the destination's, and pinned: a change of the rate card does not change a call under way.
func TestPinnedPrice(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	if _, err := p.gates.SetPrice(t.Context(), wallet.PriceChange{
		Action: wallet.ActionCall, Prefix: "44", State: wallet.PriceOn, Unit: 79, PerMinute: 50_00, Reason: "Dear", Actor: audit.System("test"),
	}); err != nil {
		t.Fatal(err)
	}
	p.pass(91 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("old price", c, telephony.CallCompleted, 91, 84)
}
