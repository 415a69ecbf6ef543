package faulttest

import (
	"testing"

	"ringfence/internal/failpoint"
	"ringfence/internal/sandbox"
)

// at names a point of a number's step.
func at(point, step string) string { return point + "/" + step }

// TestWorkerKilledAtEachStepOfANumber has the only worker killed at every step of buying a number and of giving it back,
// when the provider has answered and nobody knows: each next one finds what was done, and does nothing twice.
func TestWorkerKilledAtEachStepOfANumber(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := x.line(harbour)
	l.outlive(failpoint.NumberAfterAsk, allSteps)
	books, vapi := x.twilioBooks(), x.vapiBooks()
	if books.AccountRequests.Asked != 1 || books.Purchases.Asked != 1 || vapi.Imports.Asked != 1 {
		t.Errorf("asked for %d accounts, %d numbers, %d imports", books.AccountRequests.Asked, books.Purchases.Asked, vapi.Imports.Asked)
	}
}

// TestWorkerKilledBeforeItAsks is the same a moment earlier and a moment later: nothing was asked for yet, or everything is
// stored. A purchase alone is not asked for again then, since nobody knows that it was not; its money is given back.
func TestWorkerKilledBeforeItAsks(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := x.line(harbour)
	x.worker.arm(at(failpoint.NumberBeforeAsk, "purchase"))
	p := l.order()
	x.dies()
	if held := x.number(`SELECT held_pence FROM wallets WHERE org_id = $1`, l.org); held != numberPrice {
		t.Errorf("%dp are set aside for what nobody knows of", held)
	}
	x.again("")
	p.comesTo("failed")
	x.whole()
	l = x.line(second)
	l.outlive(failpoint.NumberBeforeAsk, []string{"subaccount", "vapi_import", "activate", "vapi_delete", "twilio_release"})
	l.outlive(failpoint.NumberAfterCommit, []string{"purchase", "activate", "finish"})
}

// outlive buys a number and gives it back, with the worker killed at the point of each of the steps.
func (l *line) outlive(point string, steps []string) {
	x := l.ex
	x.t.Helper()
	var p *phone
	x.worker.arm(at(point, steps[0]))
	for i, step := range steps {
		switch {
		case i == 0:
			p = l.order()
		case (step == "vapi_delete" || step == "finish" && steps[i-1] == "activate") && p != nil:
			p.comesTo("active")
			l.bought++
			x.whole()
			p.release()
		}
		x.dies()
		next := ""
		if i+1 < len(steps) {
			next = at(point, steps[i+1])
		}
		x.again(next)
	}
	p.comesTo("released")
	x.whole()
}

// TestNumberByFaults has each provider fail once at each step, without a kill: the number is bought and given back all the
// same, and asked for once where the answer was lost.
func TestNumberByFaults(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := x.line(harbour)
	for _, f := range []struct {
		name, do string
	}{
		{"lose the answer", sandbox.FaultCutAfterActing},
		{"503", sandbox.Fault503},
	} {
		x.telephonyFaults()
		var rules []sandbox.Fault
		for step, match := range answering {
			if f.do == sandbox.Fault503 && step == "purchase" {
				continue // it would not be asked for again
			}
			rules = append(rules, sandbox.Fault{Match: match, Do: f.do})
		}
		x.telephonyFaults(rules...)
		p := l.order()
		p.comesTo("active")
		l.bought++
		x.whole()
		p.release()
		p.comesTo("released")
		if t.Failed() {
			t.Fatalf("when both %s", f.name)
		}
		x.whole()
	}
}
