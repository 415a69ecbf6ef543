//go:build drill

package faulttest

import (
	"fmt"
	"slices"
	"testing"

	"ringfence/internal/failpoint"
	"ringfence/internal/sandbox"
)

// The words of a drill's faults that are no word of the sandbox's.
const (
	killBeforeAsk   = "kill -9 before it asks"
	killAfterAsk    = "kill -9 after it asked"
	killAfterCommit = "kill -9 after it stored"
	notFound        = "404"
)

// refusals is what each provider refuses a step with, and what it says where there is nothing.
var refusals = map[string][2]int{
	"subaccount": {21470, 20404}, "purchase": {21422, 20404}, "vapi_import": {400, 404}, "vapi_delete": {400, 404}, "twilio_release": {21710, 20404},
}

// fails reports whether a number is not bought when a fault strikes at a step of buying it.
func fails(step, fault string) bool {
	switch fault {
	case sandbox.FaultRefuse, notFound:
		return true
	case killBeforeAsk, sandbox.Fault500, sandbox.Fault503, sandbox.FaultTimeout:
		return step == "purchase" // which is not asked for again
	}
	return false
}

// TestNumbersDrill is every step of buying and of releasing a number by every fault, each on a number of its own that goes
// through its whole life: after each, everything has come to its end by itself, and nothing is left of it.
func TestNumbersDrill(t *testing.T) {
	for _, fault := range []string{
		killBeforeAsk, killAfterAsk, killAfterCommit, sandbox.FaultTimeout, sandbox.FaultTimeoutAfterActing, sandbox.FaultCutAfterActing,
		sandbox.Fault500, sandbox.Fault500AfterActing, sandbox.Fault503, sandbox.Fault429, sandbox.FaultRefuse, notFound,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t)
			l := x.line(harbour)
			for _, step := range allSteps {
				if _, asks := answering[step]; !asks && !slices.Contains([]string{killBeforeAsk, killAfterAsk, killAfterCommit}, fault) {
					continue
				}
				l.lifeWith(step, fault)
				if t.Failed() {
					t.Fatalf("at %s: %s", step, fault)
				}
			}
		})
	}
}

// TestUndoDrill has the worker killed at every step of undoing a purchase, at each of its points.
func TestUndoDrill(t *testing.T) {
	for _, point := range []string{failpoint.NumberBeforeAsk, failpoint.NumberAfterAsk, failpoint.NumberAfterCommit} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t)
			l := x.line(harbour)
			for _, step := range []string{"undo_import", "undo_purchase", "finish"} {
				x.telephonyFaults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400})
				x.worker.arm(at(point, step))
				p := l.order()
				x.dies()
				x.again("")
				p.comesTo("failed")
				x.whole()
				if t.Failed() {
					t.Fatalf("at %s", step)
				}
			}
		})
	}
}

// lifeWith buys a number and gives it back, with one fault at one step.
func (l *line) lifeWith(step, fault string) {
	x := l.ex
	x.t.Helper()
	point := map[string]string{killBeforeAsk: failpoint.NumberBeforeAsk, killAfterAsk: failpoint.NumberAfterAsk, killAfterCommit: failpoint.NumberAfterCommit}[fault]
	x.telephonyFaults()
	if point != "" {
		x.worker.arm(at(point, step))
	} else {
		rule := sandbox.Fault{Match: answering[step], Do: fault}
		switch fault {
		case sandbox.FaultRefuse:
			rule.Code = refusals[step][0]
			rule.Times = map[bool]int{true: 1, false: 4}[slices.Contains(buyingSteps, step)] // a release is tried until it is not refused
		case notFound:
			rule.Do, rule.Code = sandbox.FaultRefuse, refusals[step][1]
		}
		if fault == notFound && slices.Contains(releasingSteps, step) {
			rule = sandbox.Fault{Match: answering[step], Do: sandbox.FaultCutAfterActing} // it was done, and the next one finds nothing
		}
		x.telephonyFaults(rule)
	}
	die := func() {
		if point != "" {
			x.dies()
			x.again("")
		}
	}
	p := l.order()
	if slices.Contains(buyingSteps, step) {
		die()
		if fails(step, fault) {
			p.comesTo("failed")
			x.whole()
			return
		}
	}
	p.comesTo("active")
	l.bought++
	if n := x.number(fmt.Sprintf(`SELECT count(*) FROM credentials WHERE org_id = '%s'`, l.org)); n != 1 {
		x.t.Errorf("the organisation has %d credentials", n)
	}
	x.whole()
	p.release()
	if slices.Contains(releasingSteps, step) {
		die()
	}
	p.comesTo("released")
	x.whole()
}
