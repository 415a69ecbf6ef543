package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is a rule that makes a stand-in misbehave. Rules are tried in order; the first that matches strikes.
type Fault struct {
	// Match is "METHOD /path" for API requests or "deliver what" for requests to the receiver, where what is the
	// type of an event of Stripe's, and of Twilio's status.sending, status.sent, status.delivered and so on, or
	// inbound for a text that came in. * stands for any part of one segment: "POST /v1/checkout/sessions/*/expire",
	// "* /v1/refunds", "deliver checkout.session.*", "deliver status.*".
	Match string `json:"match"`
	// Do is one of the Fault… words.
	Do string `json:"do"`
	// Times is how often the rule strikes; zero means once, -1 until the rules are cleared.
	Times int `json:"times,omitempty"`
	// MS is a time in milliseconds: how long delay waits, after how long a timeout drops the connection (default:
	// 90 s, or when the caller gives up), for how long reorder holds an event back at most (default 5 s).
	MS int64 `json:"ms,omitempty"`
	// URL is what bad_url hands out as the checkout URL.
	URL string `json:"url,omitempty"`
	// Copies is how often repeat sends the same in all; zero means three times.
	Copies int `json:"copies,omitempty"`
	// Code is the error that refuse answers with: one of Twilio's error codes, or a status of Vapi's from 400 to 599.
	Code int `json:"code,omitempty"`
}

// What a fault does to an API request. What Stripe's stand-in records under an idempotency key is replayed to every
// later request with the key; Twilio has no such keys.
const (
	// Fault500 answers 500 without acting, and records it.
	Fault500 = "500"
	// Fault500AfterActing acts, then answers 500 and records that.
	Fault500AfterActing = "500_after_acting"
	// Fault503 answers 503 on the way: nothing happened, nothing is recorded.
	Fault503 = "503"
	// Fault429 refuses by rate limit: nothing happened, nothing is recorded.
	Fault429 = "429"
	// FaultTimeout never answers and does not act.
	FaultTimeout = "timeout"
	// FaultTimeoutAfterActing acts and records the answer, but never gives it.
	FaultTimeoutAfterActing = "timeout_after_acting"
	// FaultCutAfterActing acts and records the answer, then cuts the connection at once instead of giving it.
	FaultCutAfterActing = "cut_after_acting"
	// FaultBadURL makes a checkout session whose url is that of the rule. Stripe only.
	FaultBadURL = "bad_url"
	// FaultRefuse answers with the error of the rule's code: nothing happened. Twilio and Vapi only.
	FaultRefuse = "refuse"
	// FaultDelay waits, with the idempotency key in use, then acts.
	FaultDelay = "delay"
)

// What a fault does to a delivery.
const (
	// FaultDrop loses it: it is never delivered, unless somebody resends it.
	FaultDrop = "drop"
	// FaultRepeat sends it several times.
	FaultRepeat = "repeat"
	// FaultReorder holds it back until one that was made after it (at Twilio: of the same message) has been
	// delivered.
	FaultReorder = "reorder"
	// FaultOtherSignature signs this attempt with a secret the receiver does not know.
	FaultOtherSignature = "other_signature"
)

// faultWords are what faults can do at one stand-in: on the way, in place of or around the execution, and to
// deliveries.
type faultWords struct {
	edge, execution, delivery []string
	// codes are the least and the greatest code of refuse; zero is no bound.
	codes [2]int
}

var (
	everyDelivery = []string{FaultDrop, FaultRepeat, FaultReorder, FaultOtherSignature}

	stripeFaults = faultWords{
		edge: []string{FaultTimeout, Fault429, Fault503},
		execution: []string{
			Fault500, Fault500AfterActing, FaultTimeoutAfterActing, FaultCutAfterActing, FaultBadURL, FaultDelay,
		},
		delivery: everyDelivery,
	}
)

const (
	deliverPrefix  = "deliver "
	holdDefault    = 90 * time.Second
	reorderDefault = 5 * time.Second
	copiesDefault  = 3
)

func (f *Fault) wait() time.Duration { return time.Duration(f.MS) * time.Millisecond }

// heldFor is how long reorder holds something back at most.
func (f *Fault) heldFor() time.Duration {
	if f.MS == 0 {
		return reorderDefault
	}
	return f.wait()
}

// copies is how often something is sent under this fault.
func (f *Fault) copies() int {
	switch {
	case f.Do != FaultRepeat:
		return 1
	case f.Copies == 0:
		return copiesDefault
	default:
		return f.Copies
	}
}

func (f *Fault) check(words faultWords) error {
	target, pattern, ok := strings.Cut(f.Match, " ")
	if !ok {
		return fmt.Errorf("fault %q: match must be \"METHOD /path\" or \"deliver event.type\"", f.Match)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("fault %q: %w", f.Match, err)
	}
	known := slices.Concat(words.edge, words.execution)
	if target+" " == deliverPrefix {
		known = words.delivery
	}
	if !slices.Contains(known, f.Do) {
		return fmt.Errorf("fault %q: do must be one of %s, not %q", f.Match, strings.Join(known, ", "), f.Do)
	}
	if f.Do == FaultBadURL && f.URL == "" {
		return fmt.Errorf("fault %q: bad_url needs url", f.Match)
	}
	if (f.Do == FaultRefuse) != (f.Code != 0) {
		return fmt.Errorf("fault %q: refuse needs code, and nothing else takes it", f.Match)
	}
	if f.Code != 0 && (f.Code < words.codes[0] || words.codes[1] != 0 && f.Code > words.codes[1]) {
		return fmt.Errorf("fault %q: code must be from %d to %d", f.Match, words.codes[0], words.codes[1])
	}
	if f.Times < -1 || f.MS < 0 || f.Copies < 0 || f.Copies > 1000 {
		return fmt.Errorf("fault %q: times, ms or copies out of range", f.Match)
	}
	return nil
}

func (f *Fault) matches(what string) bool {
	target, pattern, _ := strings.Cut(f.Match, " ")
	gotTarget, got, _ := strings.Cut(what, " ")
	if target != "*" && target != gotTarget {
		return false
	}
	ok, err := path.Match(pattern, got)
	return ok && err == nil
}

// faultList holds the rules in force at a stand-in. They are not kept over a restart.
type faultList struct {
	words faultWords

	mu    sync.Mutex
	rules []Fault
}

// set replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (l *faultList) set(rules []Fault) error {
	rules = slices.Clone(rules)
	for i := range rules {
		if err := rules[i].check(l.words); err != nil {
			return err
		}
		if rules[i].Times == 0 {
			rules[i].Times = 1
		}
	}
	l.mu.Lock()
	l.rules = rules
	l.mu.Unlock()
	return nil
}

// get gives the rules still in force, with the strikes they have left.
func (l *faultList) get() []Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.rules)
}

// strikeDelivery takes the fault that strikes a delivery of something; d is its record.
func (l *faultList) strikeDelivery(what string, d *delivery) Fault {
	kinds := l.words.delivery
	if d.held {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == FaultReorder })
	}
	return l.strike(deliverPrefix+what, kinds)
}

// strike takes the first rule that matches and is of one of the kinds; a zero Fault does nothing.
func (l *faultList) strike(what string, kinds []string) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.rules {
		f := &l.rules[i]
		if !slices.Contains(kinds, f.Do) || !f.matches(what) {
			continue
		}
		struck := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				l.rules = slices.Delete(l.rules, i, i+1)
			}
		}
		return struck
	}
	return Fault{}
}

// silence keeps the caller waiting, for as long as the fault says and the sandbox lives, and then drops the connection
// without an answer.
func silence(life context.Context, w http.ResponseWriter, r *http.Request, f Fault) {
	if f.Do != FaultCutAfterActing {
		wait := f.wait()
		if wait == 0 {
			wait = holdDefault
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		select {
		case <-ctx.Done():
		case <-life.Done():
		}
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = conn.Close() // the point is that the caller learns nothing
}

// sleep waits, or until the sandbox ends.
func sleep(life context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-life.Done():
	}
}
