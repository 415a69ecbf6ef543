package telephony_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/telephony"
)

// TestImpossibleTimes: no call began before it was asked for, and none has ended in the future, whatever Vapi says. What we have
// seen ourselves counts then.
func TestImpossibleTimes(t *testing.T) {
	p := newPhones(t)
	p.adjust(10_00)
	for what, c := range map[string]struct {
		started, ended string
		heard          bool
		seconds        int64
	}{
		"no year":                    {"0001-01-01T00:00:00Z", "", true, 30},
		"no year, nothing heard":     {"0001-01-01T00:00:00Z", "", false, 40},
		"ten years ago":              {"2016-03-02T09:30:00Z", "", true, 30},
		"until the end of all times": {"", "9999-12-31T23:59:59Z", true, 30},
		"all times":                  {"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", true, 30},
	} {
		call, at := p.place(what)
		p.clock.Advance(10 * time.Second)
		p.line.answer(at)
		if c.heard {
			p.tell(p.line.news(at, "status-update", "in-progress"))
		}
		began := p.clock.Now()
		p.clock.Advance(30 * time.Second)
		if c.started == "" {
			c.started = began.Format(time.RFC3339Nano)
		}
		if c.ended == "" {
			c.ended = p.clock.Now().Format(time.RFC3339Nano)
		}
		p.line.end(at, "customer-ended-call")
		p.tell(fmt.Appendf(nil, `{"message":{"type":"end-of-call-report","endedReason":"customer-ended-call","startedAt":%q,"endedAt":%q,"call":{"id":%q}}}`, c.started, c.ended, at.ID))
		got := p.call(call)
		if got.State != telephony.CallCompleted || got.Seconds != c.seconds {
			t.Errorf("%s: %s, %d s, want %d", what, got.State, got.Seconds, c.seconds)
		}
		if got.EndedAt == nil || got.StartedAt == nil || got.EndedAt.After(p.clock.Now()) || got.StartedAt.Before(got.CreatedAt) {
			t.Errorf("%s: from %v to %v", what, got.StartedAt, got.EndedAt)
		}
	}
	if n := telephony.CallLength(time.Time{}, p.clock.Now()); n < 0 {
		t.Errorf("two thousand years are %d seconds", n)
	}
}

// TestUnstorableWords: what the database cannot keep of Vapi's words is left out, and the call is settled all the same.
func TestUnstorableWords(t *testing.T) {
	p := newPhones(t)
	call, at := p.place("k")
	p.line.answer(at)
	p.tell(fmt.Appendf(nil, `{"message":{"type":"status-update","status":"in-progress","call":{"id":%q,"phoneCallProviderId":"CA\u0000","monitor":{"controlUrl":"https://x.vapi.ai/\u0000"}}}}`, at.ID))
	p.clock.Advance(20 * time.Second)
	p.line.end(at, "customer-ended-call")
	now := p.clock.Now()
	p.tell(fmt.Appendf(nil, `{"message":{"type":"end-of-call-report","endedReason":"customer-ended\u0000-call\ud800","startedAt":%q,"endedAt":%q,"artifact":{"transcript":"A\u0000I"},"call":{"id":%q,"phoneCallProviderId":"\u0000"}}}`,
		now.Add(-20*time.Second).Format(time.RFC3339), now.Format(time.RFC3339), at.ID))
	p.wantCall("settled", call, telephony.CallCompleted, 20, 19)
	if got := p.call(call); got.Transcript != "AI" {
		t.Errorf("of what was said %q is kept", got.Transcript)
	}
}

// TestAskedTwiceAndLate: who takes a call is asked twice, and only the second answer comes too late. The call that the first has
// connected goes on, and is paid.
func TestAskedTwiceAndLate(t *testing.T) {
	p := newPhones(t)
	at := p.line.incoming(p.number.VapiID.String, handset)
	if h := p.who(at); h.AssistantID == "" {
		t.Fatalf("%+v", h)
	}
	_, p.Calls = p.open(func(o *telephony.CallsOptions) { o.AnswerWithin = 50 * time.Millisecond })
	release := p.lockWallet()
	if h := p.who(at); h.AssistantID != "" || h.Error == "" {
		t.Errorf("with the wallet locked Vapi is told %+v", h)
	}
	release()
	p.Wait()
	p.wantCall("not taken back", p.named(at), telephony.CallRinging, 0, 0)
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.clock.Advance(20 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	p.wantCall("paid", p.named(at), telephony.CallCompleted, 20, 19)
}

// TestReportAfterAsking: a call that was asked about has not all that its report has a moment later. The report counts, and what
// it does not have stays.
func TestReportAfterAsking(t *testing.T) {
	p := newPhones(t)
	call, at := p.place("k")
	p.line.answer(at)
	p.clock.Advance(20 * time.Second)
	p.line.end(at, "customer-ended-call")
	report := p.line.news(at, "end-of-call-report", "")
	at.Transcript, at.Recording, at.Cost = "AI: Hel", "", "0.05" // Vapi is still putting it together
	p.tell(p.line.news(at, "status-update", "ended"))
	p.sweep()
	p.wantCall("settled", call, telephony.CallCompleted, 20, 19)
	for range 2 {
		p.tell(report)
	}
	got := p.call(call)
	if got.Transcript != "AI: Hello. User: Hello." || !strings.HasSuffix(got.RecordingURL, ".wav") || got.CostMicros.Int64 != 123_400 {
		t.Errorf("kept are %q, %q and a cost of %d", got.Transcript, got.RecordingURL, got.CostMicros.Int64)
	}
	at.Transcript, at.Recording, at.Cost = "", "", "0"
	p.tell(p.line.news(at, "end-of-call-report", ""))
	if got := p.call(call); got.Transcript == "" || got.RecordingURL == "" {
		t.Error("an empty report took away what was there")
	}
	p.wantCall("once", call, telephony.CallCompleted, 20, 19)
}

// TestEndedAndNotEnded: Vapi says that a call is over, and whenever it is asked that it goes on. What we know ourselves counts in
// the end, and until then nobody else waits for it.
func TestEndedAndNotEnded(t *testing.T) {
	p := newPhones(t)
	call, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.clock.Advance(20 * time.Second)
	p.tell(p.line.news(at, "status-update", "ended"))
	p.sweep()
	p.wantCall("over", call, telephony.CallEnding, 0, 0)
	if n := p.number1(`SELECT count(*) FROM calls WHERE id = $1 AND look_at > $2`, call.ID, p.clock.Now()); n != 1 {
		t.Error("it stays at the head of the queue")
	}
	p.pass(16 * time.Minute)
	p.wantCall("in the end", call, telephony.CallCompleted, 20, 19)
}

// TestDeafVapi: Vapi agrees to end a call and does not. It is ended at Twilio then.
func TestDeafVapi(t *testing.T) {
	p := newPhones(t)
	call, at := p.place("k")
	p.line.answer(at)
	at.Deaf = true
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.clock.Advance(7 * time.Second)
	if _, err := p.Hangup(t.Context(), p.org, call.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.pass(40 * time.Second)
	if got := p.call(call); got.State != telephony.CallCompleted || got.Seconds > 40 || len(p.line.ended) == 0 {
		t.Errorf("%s, %d s; Twilio was told of %v", got.State, got.Seconds, p.line.ended)
	}
}

// TestLostAmongLaterCalls: a call whose answer was lost is found though more was said since, in other calls of its number, than is
// read of one answer.
func TestLostAmongLaterCalls(t *testing.T) {
	p := newPhones(t)
	p.line.mishap(mishap{what: "POST /call", do: "cut_after"})
	call, at := p.place("k")
	p.wantCall("lost", call, telephony.CallUnknown, 0, 0)
	p.line.answer(at)
	p.clock.Advance(20 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.clock.Advance(time.Hour) // nobody looks
	later := p.line.incoming(at.Phone, handset)
	p.line.answer(later)
	p.line.end(later, "customer-ended-call")
	later.Transcript = strings.Repeat("AI: Hello. ", 1<<20)
	p.sweep()
	p.wantCall("found", call, telephony.CallCompleted, 20, 19)
}

// TestMoneyFirst: what is to be set aside for calls is set aside, however many others are to be asked about.
func TestMoneyFirst(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	call, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.clock.Advance(29 * time.Second)
	dbtest.Super(t, p.dbURL, `
		WITH h AS (INSERT INTO holds (id, org_id, source, key, fingerprint, action, quantity, destination, price_id, rate_id, authorised_pence, amount_pence, state, at_once, actor,
		                              created_at, expires_at, updated_at, request_id, settled_by)
		    SELECT gen_random_uuid(), org_id, source, 'many' || i, fingerprint, action, quantity, destination, price_id, rate_id, authorised_pence, amount_pence, state, at_once, actor,
		           created_at, expires_at, updated_at, request_id, settled_by FROM holds, generate_series(1, 500) i WHERE id = $1 RETURNING id, key)
		INSERT INTO calls (id, org_id, direction, number_id, agent_id, our_number, party, state, hold_id, ceiling_seconds, covered_seconds, key, fingerprint, actor, created_at, asked_at,
		                   look_at)
		SELECT gen_random_uuid(), c.org_id, direction, number_id, agent_id, our_number, party, 'ringing', h.id, ceiling_seconds, 60, h.key, c.fingerprint, c.actor, c.created_at, asked_at,
		       c.created_at FROM calls c, h WHERE c.id = $2`, call.HoldID.UUID, call.ID)
	_, _ = p.Sweep(t.Context())
	if got := p.call(call); got.Covered < 80 {
		t.Errorf("it is paid for until %d", got.Covered)
	}
	dbtest.Super(t, p.dbURL, `DELETE FROM calls WHERE key LIKE 'many%'`)
	dbtest.Super(t, p.dbURL, `DELETE FROM holds WHERE key LIKE 'many%'`)
	p.settle()
}
