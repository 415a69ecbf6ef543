package telephony_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
)

// TestAgentNumbers: who links an agent sees the organisation's active numbers, and whose they are.
func TestAgentNumbers(t *testing.T) {
	p := newPhones(t)
	free, gone := p.plantNumber(p.org, "+14155550100"), p.plantNumber(p.org, "+14155550103")
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`, gone.ID)
	list, err := p.agents.Numbers(t.Context(), p.org)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if n := list[0]; n.ID != free.ID || n.PhoneNumber != "+14155550100" || n.AgentID.Valid {
		t.Errorf("the free one is %+v", n)
	}
	if n := list[1]; n.ID != p.number.ID || n.AgentID.UUID != p.agent.ID || n.AgentName != "Reception" {
		t.Errorf("the linked one is %+v", n)
	}
}

// TestReplaceAgent: another agent has the number in the same moment in which the first is deleted; what is refused changes
// nothing.
func TestReplaceAgent(t *testing.T) {
	p := newPhones(t)
	second, third := p.newAgent(p.org, uuid.Nil), p.newAgent(p.org, p.plantNumber(p.org, "+14155550104").ID)
	theirs := p.newAgent(p.other, uuid.Nil)
	replace := func(org, id, by uuid.UUID) error {
		return p.agents.Replace(t.Context(), org, id, by, audit.System("test"))
	}
	wantField(t, "by itself", replace(p.org, p.agent.ID, p.agent.ID), "link_to")
	wantFault(t, "by nobody", replace(p.org, p.agent.ID, uuid.New()), fault.NotFound, "")
	wantFault(t, "by another organisation's", replace(p.org, p.agent.ID, theirs.ID), fault.NotFound, "")
	wantFault(t, "another organisation's", replace(p.other, p.agent.ID, theirs.ID), fault.NotFound, "")
	wantFault(t, "by one that has another number", replace(p.org, p.agent.ID, third.ID), fault.Conflict, "agent_linked")
	wantFault(t, "one without a number", replace(p.org, second.ID, third.ID), fault.Conflict, "agent_without_number")
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'releasing', step = 'vapi_delete', next_at = now() WHERE id = $1`, p.number.ID)
	wantFault(t, "with a number that is being given back", replace(p.org, p.agent.ID, second.ID), fault.Conflict, "number_not_active")
	dbtest.Super(t, p.dbURL, `UPDATE numbers SET state = 'active', step = '', next_at = NULL WHERE id = $1`, p.number.ID)
	if a := p.agentNow(p.agent); a.NumberID.UUID != p.number.ID || a.Revision != 1 {
		t.Errorf("what was refused left %+v", a)
	}
	if err := replace(p.org, p.agent.ID, second.ID); err != nil {
		t.Fatal(err)
	}
	if a := p.agentNow(second); a.NumberID.UUID != p.number.ID {
		t.Errorf("the number is with %+v", a)
	}
	_, err := p.agents.Agent(t.Context(), p.org, p.agent.ID)
	wantFault(t, "the first", err, fault.NotFound, "")
	wantFault(t, "replaced again", replace(p.org, p.agent.ID, second.ID), fault.NotFound, "")
	for action, want := range map[string]int{"agent.unlinked": 1, "agent.deleted": 1, "agent.linked": 3} { // two by the harness
		if n := p.number1(`SELECT count(*) FROM audit_log WHERE org_id = $1 AND action = $2`, p.org, action); n != want {
			t.Errorf("%d rows of the audit log say %s, want %d", n, action, want)
		}
	}
}

// TestChangeAgent: two who change different things at once both have their way.
func TestChangeAgent(t *testing.T) {
	p := newPhones(t)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, fn := range []func(f telephony.AgentFields) (telephony.AgentFields, error){
		func(f telephony.AgentFields) (telephony.AgentFields, error) { f.Name = "Front desk"; return f, nil },
		func(f telephony.AgentFields) (telephony.AgentFields, error) { f.Voice = "Emma"; return f, nil },
	} {
		wg.Go(func() {
			_, err := p.agents.Change(t.Context(), p.org, p.agent.ID, fn, audit.System("test"))
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if a := p.agentNow(p.agent); a.Name != "Front desk" || a.Voice != "Emma" || a.Revision != 3 {
		t.Errorf("%+v", a)
	}
	_, err := p.agents.Change(t.Context(), p.org, p.agent.ID, func(f telephony.AgentFields) (telephony.AgentFields, error) {
		return f, fault.Field("name", "No.")
	}, audit.System("test"))
	wantField(t, "given back", err, "name")
	_, err = p.agents.Change(t.Context(), p.other, p.agent.ID, func(f telephony.AgentFields) (telephony.AgentFields, error) {
		t.Error("another organisation saw what the agent is")
		return f, nil
	}, audit.System("test"))
	wantFault(t, "another organisation's", err, fault.NotFound, "")
}

// TestEstimate: what is said before a call is what its hold and its ceiling come to.
func TestEstimate(t *testing.T) {
	p := newPhones(t)
	for _, c := range []struct {
		available money.Pence
		want      telephony.Estimate
	}{
		{1_00, telephony.Estimate{PerMinute: 56, Required: 79, PerMinuteUSD: 70, Most: 1_00, Longest: 108}},
		{1000_00, telephony.Estimate{PerMinute: 56, Required: 79, PerMinuteUSD: 70, Most: 16_59, Longest: 1800}},
		{0, telephony.Estimate{PerMinute: 56, Required: 79, PerMinuteUSD: 70}},
		{-5_00, telephony.Estimate{PerMinute: 56, Required: 79, PerMinuteUSD: 70}},
	} {
		if e, err := p.Estimate(t.Context(), p.org, handset, c.available); err != nil || e != c.want {
			t.Errorf("with %s: %+v, %v, want %+v", c.available, e, err, c.want)
		}
	}
	if e, err := p.Estimate(t.Context(), p.org, "", 1_00); err != nil || e.PerMinute != 56 {
		t.Errorf("anywhere: %+v, %v", e, err)
	}
	_, err := p.Estimate(t.Context(), p.org, "999", 1_00)
	wantField(t, "no number", err, "to")
	_, err = p.Estimate(t.Context(), p.org, premium, 1_00)
	if f := fault.As(err); f.Kind != fault.Forbidden || f.Field != "to" {
		t.Errorf("not offered: %v (%s)", err, f.Field)
	}
	call, _ := p.place("k")
	if call.Ceiling != 108 {
		t.Errorf("the call may last %d seconds", call.Ceiling)
	}
}

// A key stands for what was asked with it, to the letter: words that only stand in another field make another agent.
func TestAgentKey(t *testing.T) {
	p := newPhones(t)
	words := func(first, prompt string) error {
		_, err := p.create("k", func(f *telephony.AgentFields) { f.FirstMessage, f.Prompt = first, prompt })
		return err
	}
	if err := words("Hello", "there, be kind"); err != nil {
		t.Fatal(err)
	}
	wantFault(t, "other words", words("Hello there,", "be kind"), fault.Conflict, "idempotency_key_reused")
	if err := words("Hello", "there, be kind"); err != nil {
		t.Errorf("the same again: %v", err)
	}
}
