package sandbox

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is a rule that makes the sandbox misbehave. Rules are tried in order; the first that matches strikes.
type Fault struct {
	// Match is "METHOD /path" for API requests or "deliver event.type" for webhook deliveries. * stands for any
	// part of one segment: "POST /v1/checkout/sessions/*/expire", "* /v1/refunds", "deliver checkout.session.*".
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
	// Copies is how often repeat sends the event in all; zero means three times.
	Copies int `json:"copies,omitempty"`
}

// What a fault does to an API request. A recorded answer is replayed to every later request with its idempotency key.
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
	// FaultBadURL makes a checkout session whose url is that of the rule.
	FaultBadURL = "bad_url"
	// FaultDelay waits, with the idempotency key in use, then acts.
	FaultDelay = "delay"
)

// What a fault does to a delivery.
const (
	// FaultDrop loses the event: it is never delivered, unless somebody resends it.
	FaultDrop = "drop"
	// FaultRepeat sends the event several times.
	FaultRepeat = "repeat"
	// FaultReorder holds the event back until one that was made after it has been delivered.
	FaultReorder = "reorder"
	// FaultOtherSignature signs this attempt with a secret the receiver does not know.
	FaultOtherSignature = "other_signature"
)

var (
	edgeFaults      = []string{FaultTimeout, Fault429, Fault503}
	executionFaults = []string{Fault500, Fault500AfterActing, FaultTimeoutAfterActing, FaultBadURL, FaultDelay}
	deliveryFaults  = []string{FaultDrop, FaultRepeat, FaultReorder, FaultOtherSignature}
)

const (
	deliverPrefix  = "deliver "
	holdDefault    = 90 * time.Second
	reorderDefault = 5 * time.Second
	copiesDefault  = 3
)

func (f *Fault) wait() time.Duration { return time.Duration(f.MS) * time.Millisecond }

func (f *Fault) check() error {
	target, pattern, ok := strings.Cut(f.Match, " ")
	if !ok {
		return fmt.Errorf("fault %q: match must be \"METHOD /path\" or \"deliver event.type\"", f.Match)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("fault %q: %w", f.Match, err)
	}
	known := slices.Concat(edgeFaults, executionFaults)
	if target+" " == deliverPrefix {
		known = deliveryFaults
	}
	if !slices.Contains(known, f.Do) {
		return fmt.Errorf("fault %q: do must be one of %s, not %q", f.Match, strings.Join(known, ", "), f.Do)
	}
	if f.Do == FaultBadURL && f.URL == "" {
		return fmt.Errorf("fault %q: bad_url needs url", f.Match)
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

// faultList holds the rules in force. They are not kept over a restart.
type faultList struct {
	mu    sync.Mutex
	rules []Fault
}

// SetFaults replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (s *Stripe) SetFaults(rules ...Fault) error {
	rules = slices.Clone(rules)
	for i := range rules {
		if err := rules[i].check(); err != nil {
			return err
		}
		if rules[i].Times == 0 {
			rules[i].Times = 1
		}
	}
	s.faults.mu.Lock()
	s.faults.rules = rules
	s.faults.mu.Unlock()
	return nil
}

// Faults gives the rules still in force, with the strikes they have left.
func (s *Stripe) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return slices.Clone(s.faults.rules)
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

// refusal is the error of the faults that answer on the way.
func refusal(f Fault) error {
	switch f.Do {
	case Fault429:
		return &apiError{
			Status: http.StatusTooManyRequests, Type: typeInvalidRequest, Code: "rate_limit",
			Message: "Request rate limit exceeded (scripted).",
			DocURL:  "https://stripe.com/docs/error-codes/rate-limit",
		}
	case Fault503:
		return &apiError{Status: http.StatusServiceUnavailable, Type: typeAPI, Message: "Service unavailable (scripted)."}
	default:
		return nil
	}
}
