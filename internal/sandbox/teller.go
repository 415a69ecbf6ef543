package sandbox

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// callback is something that a receiver is told, or asked.
type callback struct {
	delivery

	// ID is the same in every attempt.
	ID string `json:"id"`
	// What is told, as faults match it.
	What string `json:"what"`
	URL  string `json:"url"`
	// Form is what Twilio tells, Body and Header what Vapi does.
	Form   map[string]string `json:"form,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	// LimitMS is how long the receiver may take, in milliseconds; zero is the courier's own limit.
	LimitMS int64 `json:"limit_ms,omitempty"`
	// Backoff is how a server of Vapi's wants what failed again; nil: not at all.
	Backoff *backoff `json:"backoff,omitempty"`
	// Fault is what was wrong with the answer, as the vendor's debugger would show it.
	Fault string `json:"fault,omitempty"`
	// waiting says that a fault holds it back.
	waiting bool
}

// line is all that is told about one thing. Callbacks of a line are made one after the other; only a fault changes
// their order.
type line struct {
	Calls []*callback `json:"calls,omitempty"`
	// calling says that one of them is under way or waits for its time.
	calling bool
}

// subject is something that a receiver is told about.
type subject interface {
	id() string
	told() *line
}

func (l *line) told() *line { return l }

// teller tells receivers about a stand-in's subjects. The stand-in's mutex guards every line.
type teller struct {
	*keeper

	name    string // of the vendor, for the log
	log     *slog.Logger
	life    context.Context
	clock   *alarms
	courier *courier
	faults  *faultList

	// mayCall says whether the sandbox makes requests to a URL; request makes one, with a proof that does not hold when
	// wrong is set. Neither is called with the mutex held.
	mayCall func(target string) bool
	request func(ctx context.Context, s subject, call *callback, wrong bool) (*http.Request, error)
	// save notes that a subject is to be written.
	save func(c *changes, s subject)
	// heard takes the answer of a callback and says what was wrong with it; unheard is called when one is given up or
	// lost.
	heard   func(c *changes, s subject, call *callback, answer received) (fault string)
	unheard func(c *changes, s subject, call *callback)
	// again says when to try again after so many failed attempts; false gives the callback up.
	again func(call *callback, failed attempt) (wait time.Duration, ok bool)
}

// tell notes a callback; callNext has to be called once that is written.
func (t *teller) tell(c *changes, s subject, call *callback) {
	call.ID = newID("", 32)
	call.State, call.NextAt = deliveryPending, c.now.UnixNano()
	if !t.mayCall(call.URL) {
		call.State, call.Fault = deliveryLost, "The sandbox calls nobody but this machine and the hosts of its Options."
	}
	l := s.told()
	l.Calls = append(l.Calls, call)
	if call.State == deliveryLost {
		t.unheard(c, s, call)
	}
}

// callNext arranges the next callback of a subject, unless one is under way. The mutex must be held.
func (t *teller) callNext(s subject) {
	l := s.told()
	if l.calling {
		return
	}
	for _, call := range l.Calls {
		if call.State == deliveryPending && !call.waiting {
			l.calling = true
			t.courier.at(time.Unix(0, call.NextAt), func(ctx context.Context) { t.call(ctx, s, call) })
			return
		}
	}
}

// call makes one attempt, as the faults in force would have it.
func (t *teller) call(ctx context.Context, s subject, call *callback) {
	fault := t.faults.strikeDelivery(call.What, &call.delivery)
	switch fault.Do {
	case FaultDrop:
		t.called(ctx, s, call, func(c *changes) {
			call.State = deliveryLost
			t.unheard(c, s, call)
		})
		return
	case FaultReorder:
		t.called(ctx, s, call, func(*changes) { call.held, call.waiting = true, true })
		t.clock.at(t.now().Add(fault.heldFor()), func(context.Context) {
			t.mu.Lock()
			defer t.mu.Unlock()
			call.waiting = false
			t.callNext(s)
		})
		return
	}
	var made []attempt
	var answer received
	delivered := false
	for range fault.copies() {
		a, got := t.attempt(ctx, s, call, fault.Do == FaultOtherSignature)
		made = append(made, a)
		if a.ok() && !delivered {
			delivered, answer = true, got
		}
	}
	t.called(ctx, s, call, func(c *changes) {
		call.add(made)
		t.settle(c, s, call, delivered, answer)
	})
}

// attempt makes one request.
func (t *teller) attempt(ctx context.Context, s subject, call *callback, wrong bool) (attempt, received) {
	now := t.now()
	if call.LimitMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(call.LimitMS)*time.Millisecond)
		defer cancel()
	}
	req, err := t.request(ctx, s, call, wrong)
	if err != nil {
		return attempt{At: now.Unix(), Error: err.Error()}, received{}
	}
	return t.courier.send(req, now)
}

// called records what became of an attempt and goes on with the subject's next callback.
func (t *teller) called(ctx context.Context, s subject, call *callback, record func(c *changes)) {
	err := t.change(func(c *changes) error {
		record(c)
		s.told().calling = false
		t.save(c, s)
		t.callNext(s)
		return nil
	})
	if err != nil {
		t.log.ErrorContext(ctx, "sandbox "+t.name+": could not record the callback "+call.What, "id", s.id(), "error", err)
	}
}

// settle decides whether a callback is done with, given up or tried again.
func (t *teller) settle(c *changes, s subject, call *callback, delivered bool, answer received) {
	if delivered {
		call.State = deliveryDelivered
		// Those that a fault had wait for this one may go now.
		calls := s.told().Calls
		for _, earlier := range calls[:slices.Index(calls, call)] {
			earlier.waiting = false
		}
		call.Fault = t.heard(c, s, call, answer)
		return
	}
	if t.life.Err() != nil {
		return // the sandbox is being closed, which is not the receiver's failure: the next run tries at once
	}
	wait, ok := t.again(call, call.Attempts[len(call.Attempts)-1])
	if !ok {
		call.State = deliveryFailed
		t.unheard(c, s, call)
		return
	}
	call.NextAt = c.now.Add(wait).UnixNano()
}

// undelivered counts the callbacks of a line that have not been delivered: pending, failed or lost.
func (l *line) undelivered() int {
	n := 0
	for _, call := range l.Calls {
		if call.State != deliveryDelivered {
			n++
		}
	}
	return n
}

// shown gives the callbacks of a line, in the order they came about.
func (l *line) shown() []Callback {
	out := make([]Callback, 0, len(l.Calls))
	for _, call := range l.Calls {
		v := Callback{
			What: call.What, URL: call.URL, State: call.State, Attempts: call.Count, Fault: call.Fault, Statuses: []int{},
		}
		for _, a := range call.Attempts {
			v.Statuses = append(v.Statuses, a.Status)
		}
		out = append(out, v)
	}
	return out
}

// Callback shows what became of one callback.
type Callback struct {
	// What it tells. Of messages: status.sending, status.sent, status.delivered, status.undelivered, status.failed, or
	// inbound. Of Twilio's calls: call.initiated, call.ringing, call.answered, call.completed, or voice. Of Vapi's: the
	// type of the message, with a dot and the status for those that tell one.
	What string `json:"what"`
	URL  string `json:"url"`
	// State is pending, delivered, failed (given up) or lost (dropped by a fault, or nobody the sandbox may call).
	State string `json:"state"`
	// Attempts counts the requests, Statuses are what the last of them were answered with; zero is no answer.
	Attempts int   `json:"attempts"`
	Statuses []int `json:"statuses"`
	// Fault is what was wrong with the answer.
	Fault string `json:"fault,omitempty"`
}
