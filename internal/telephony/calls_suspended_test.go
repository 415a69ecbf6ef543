package telephony_test

import (
	"testing"
	"time"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// TestSuspendedCallsEnd: when an organisation is suspended its calls are ended by the next sweep and paid for until then, none
// begins, and its numbers stay.
func TestSuspendedCallsEnd(t *testing.T) {
	p := newPhones(t)
	p.adjust(9_00)
	c, at := p.place("k")
	p.line.answer(at)
	p.tell(p.line.news(at, "status-update", "in-progress"))
	p.pass(10 * time.Second)
	ledger := wallet.New(p.db)
	if err := ledger.Suspend(t.Context(), wallet.Suspension{OrgID: p.org, Reason: "fraud", Actor: "operator:test"}); err != nil {
		t.Fatal(err)
	}
	p.pass(5 * time.Second)
	if got := p.call(c); got.HangupWhy != telephony.HangupSuspended || got.State != telephony.CallCompleted || got.Seconds != 15 || got.Amount != 14 || got.Note == "" {
		t.Errorf("%s, %d s for %s (%s): %s", got.State, got.Seconds, got.Amount, got.HangupWhy, got.Note)
	}
	_, err := p.Place(t.Context(), p.request("next"))
	wantFault(t, "another call", err, fault.Forbidden, "suspended")
	if n := p.number1(`SELECT count(*) FROM numbers WHERE org_id = $1 AND state = 'active'`, p.org); n == 0 {
		t.Error("its numbers are gone")
	}
	p.sweep() // nothing more to end
	if n := p.number1(`SELECT count(*) FROM audit_log WHERE action = 'call.hangup' AND detail->>'why' = 'suspended'`); n != 1 {
		t.Errorf("%d rows of the audit log", n)
	}
	if err := ledger.Unsuspend(t.Context(), wallet.Suspension{OrgID: p.org, Reason: "paid", Actor: "operator:test"}); err != nil {
		t.Fatal(err)
	}
	p.place("again")
}
