package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// phoneCall is a call that went out or came in. Its own time runs faster than the clock, or by hand: see
// Options.CallSecond. So a call can have ended a little later than it is now.
type phoneCall struct {
	line

	Seq       uint64 `json:"seq"`
	SID       string `json:"sid"`
	Account   string `json:"account"`
	NumberSID string `json:"number_sid,omitempty"` // of the account's number
	Direction string `json:"direction"`
	From      string `json:"from"`
	To        string `json:"to"`
	Status    string `json:"status"`
	// Script is what the person at the other end does.
	Script CallScript `json:"script"`
	// Doc is what to do once somebody answers, as far as it is known; URL is who says it.
	Doc *voiceDoc `json:"doc,omitempty"`
	URL string    `json:"url,omitempty"`
	// Timeout and TimeLimit are in seconds of the call's own time.
	Timeout   int `json:"timeout"`
	TimeLimit int `json:"time_limit"`
	// Times are Unix nanoseconds; zero is not yet, or never.
	Created  int64 `json:"created"`
	Updated  int64 `json:"updated"`
	Answered int64 `json:"answered,omitempty"`
	Ended    int64 `json:"ended,omitempty"`
	// NextAt is when it takes its next step by itself.
	NextAt int64 `json:"next_at,omitempty"`
	// By is who ended it.
	By string `json:"by,omitempty"`
	// Price is in hundred-thousandths of a US dollar; Priced says that it is known.
	Price  int64 `json:"price,omitempty"`
	Priced bool  `json:"priced,omitempty"`
	// StatusCallback is whom its changes are told to, Events which of them.
	StatusCallback string   `json:"status_callback,omitempty"`
	Events         []string `json:"events,omitempty"`
	Told           int      `json:"told,omitempty"` // how many callbacks there were: SequenceNumber
}

func (p *phoneCall) sequence() uint64 { return p.Seq }
func (p *phoneCall) id() string       { return p.SID }

// A call's status; see https://www.twilio.com/docs/voice/api/call-resource#call-status-values.
const (
	callQueued    = "queued"
	callRinging   = "ringing"
	callRuns      = "in-progress"
	callCompleted = "completed"
	callBusy      = "busy"
	callNoAnswer  = "no-answer"
	callFailed    = "failed"
	callCanceled  = "canceled"
)

// Who ended a call that had been answered.
const (
	byPerson = "person" // the one at the other end
	byDoc    = "document"
	byLimit  = "limit"
	byAPI    = "api"
	byFault  = "fault" // nobody said what to do with it
)

// What the person at the other end of a call does.
const (
	// DoesAnswer picks up.
	DoesAnswer = "answer"
	// DoesBusy is on the telephone already.
	DoesBusy = "busy"
	// DoesNotAnswer lets it ring.
	DoesNotAnswer = "no-answer"
	// DoesFail cannot be reached.
	DoesFail = "fail"
)

// Numbers of the sandbox, valid UK mobile numbers all of them, whose calls do not end well. A script for one of them
// goes before.
const (
	// NumberBusy is busy.
	NumberBusy = "+447400000004"
	// NumberNoAnswer never answers.
	NumberNoAnswer = "+447400000005"
	// NumberUnreachable cannot be called.
	NumberUnreachable = "+447400000006"
	// NumberTalker answers and never hangs up.
	NumberTalker = "+447400000007"
)

// CallScript says what the person at the other end of a call does, and how long it takes, in seconds of the call's own
// time. A call takes the first script that is for its person.
type CallScript struct {
	// Number is the person's; empty is anybody.
	Number string `json:"number,omitempty"`
	// Times is how many calls take the script; zero means one, -1 all until the scripts are replaced.
	Times int `json:"times,omitempty"`
	// Does is one of the Does… words; empty means answer.
	Does string `json:"does,omitempty"`
	// Ring is how long it rings before anything happens; zero means 3 seconds.
	Ring int `json:"ring,omitempty"`
	// Talk is how long the call lasts before it is hung up; zero means 20 seconds, -1 that nobody hangs up.
	Talk int `json:"talk,omitempty"`
	// AgentHangsUp says that a phone agent ends the call after Talk, not the person.
	AgentHangsUp bool `json:"agent_hangs_up,omitempty"`
	// Tools are what a phone agent calls meanwhile.
	Tools []ScriptedTool `json:"tools,omitempty"`
}

// ScriptedTool is a function that a phone agent calls: one of its model's tools.
type ScriptedTool struct {
	// At is when, in seconds after the call was answered.
	At        int            `json:"at,omitempty"`
	Name      string         `json:"name"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

const (
	secondTakes    = 100 * time.Millisecond
	ringDefault    = 3
	talkDefault    = 20
	timeoutDefault = 60
	timeoutMax     = 600
	limitDefault   = 14_400
	limitMax       = 86_400
	// priceAfter is when a call's price is known, in seconds of its own time after its end.
	priceAfter = 5
)

func (s *CallScript) check() error {
	switch {
	case s.Number != "" && !e164.MatchString(s.Number):
		return fmt.Errorf("script: number must be like +447400123456, not %q", s.Number)
	case !slices.Contains([]string{"", DoesAnswer, DoesBusy, DoesNotAnswer, DoesFail}, s.Does):
		return fmt.Errorf("script: does must be answer, busy, no-answer or fail, not %q", s.Does)
	case s.Times < -1 || s.Ring < 0 || s.Talk < -1:
		return fmt.Errorf("script: times, ring or talk out of range")
	}
	for _, tool := range s.Tools {
		if tool.Name == "" || tool.At < 0 {
			return fmt.Errorf("script: a tool needs a name and a time from 0")
		}
	}
	return nil
}

// whole fills in what was left out.
func (s CallScript) whole() CallScript {
	if s.Times == 0 {
		s.Times = 1
	}
	if s.Does == "" {
		s.Does = DoesAnswer
	}
	if s.Ring == 0 {
		s.Ring = ringDefault
	}
	if s.Talk == 0 {
		s.Talk = talkDefault
	}
	return s
}

// Script replaces the scripts of calls to come, those through Vapi too; with none the calls are as always: 3 seconds of
// ringing and 20 of talk. A faulty one changes nothing and is named. Scripts are not kept over a restart.
func (t *Twilio) Script(scripts ...CallScript) error {
	whole := make([]CallScript, 0, len(scripts))
	for _, s := range scripts {
		if err := s.check(); err != nil {
			return err
		}
		whole = append(whole, s.whole())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scripts = whole
	return nil
}

// Scripts gives the scripts that calls will still take.
func (t *Twilio) Scripts() []CallScript {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.scripts)
}

// scriptFor takes the script of a call with a person.
func (t *Twilio) scriptFor(person string) CallScript {
	for i := range t.scripts {
		s := t.scripts[i]
		if s.Number != "" && s.Number != person {
			continue
		}
		if s.Times > 0 {
			if t.scripts[i].Times--; t.scripts[i].Times == 0 {
				t.scripts = slices.Delete(t.scripts, i, i+1)
			}
		}
		return s
	}
	s := CallScript{}
	switch person {
	case NumberBusy:
		s.Does = DoesBusy
	case NumberNoAnswer:
		s.Does = DoesNotAnswer
	case NumberUnreachable:
		s.Does = DoesFail
	case NumberTalker:
		s.Talk = -1
	}
	return s.whole()
}

// addCall stores a new call, which then goes its way.
func (t *Twilio) addCall(c *changes, p *phoneCall) {
	t.seq++
	p.Seq = t.seq
	p.SID = newSID("CA")
	p.Created, p.Updated = c.now.UnixNano(), c.now.UnixNano()
	t.calls[p.SID] = p
	t.callOrder = append(t.callOrder, p)
}

// over reports whether a call has ended.
func (p *phoneCall) over() bool {
	return p.Status != callQueued && p.Status != callRinging && p.Status != callRuns
}

// lasts is how many seconds an answered call goes on by itself, and who ends it then.
func (p *phoneCall) lasts() (seconds int, by string) {
	seconds, by = p.TimeLimit, byLimit
	if p.Script.Talk >= 0 && p.Script.Talk < seconds {
		seconds, by = p.Script.Talk, byPerson
	}
	if p.Doc != nil && p.Doc.Seconds >= 0 && p.Doc.Seconds < seconds {
		seconds, by = p.Doc.Seconds, byDoc
	}
	return seconds, by
}

// asking says that somebody is being asked what to do with the call, which waits for the answer.
func (p *phoneCall) asking() bool { return p.Doc == nil && p.URL != "" }

// wait is how many seconds it takes to a call's next step; ok is false when none is left or it waits for an answer.
func (p *phoneCall) wait() (seconds int, ok bool) {
	switch p.Status {
	case callQueued:
		return 1, true
	case callRinging:
		if p.Direction == directionInbound {
			return 0, false // it is answered by the answer to its webhook
		}
		if p.Script.Does == DoesNotAnswer || p.Script.Ring > p.Timeout {
			return p.Timeout, true
		}
		return p.Script.Ring, true
	case callRuns:
		if p.asking() {
			return 0, false
		}
		seconds, _ = p.lasts()
		return seconds, true
	default:
		return priceAfter, !p.Priced
	}
}

// callDue is when a call takes its next step by itself. Zero is never.
func (t *Twilio) callDue(p *phoneCall, now time.Time) int64 {
	seconds, ok := p.wait()
	if !ok || t.second < 0 {
		return 0
	}
	if p.Status == callRuns {
		now = time.Unix(0, p.Answered)
	}
	return now.Add(time.Duration(seconds) * t.second).UnixNano()
}

// planCall saves a call that has changed and arranges what comes next for it.
func (t *Twilio) planCall(c *changes, p *phoneCall) {
	p.Updated, p.NextAt = c.now.UnixNano(), t.callDue(p, c.now)
	c.put(bucketCalls, p.SID, p)
	c.then(func() {
		t.mu.Lock()
		t.callStepAt(p)
		t.teller.callNext(p)
		t.mu.Unlock()
		if t.onCall != nil {
			t.onCall(p.SID)
		}
	})
}

// callStepAt arranges a call's next step, if it has one. The mutex must be held.
func (t *Twilio) callStepAt(p *phoneCall) {
	if due := p.NextAt; due != 0 {
		t.clock.at(time.Unix(0, due), func(ctx context.Context) { t.callStep(ctx, p, due) })
	}
}

// callStep takes the step that was due, unless the call has been moved meanwhile. It does not wait for the state file.
func (t *Twilio) callStep(ctx context.Context, p *phoneCall, due int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.NextAt != due {
		return
	}
	c := t.begin()
	t.moveCall(c, p)
	done := c.finish()
	t.steps.Go(func() { t.logFailure(ctx, "write the step of", p.SID, done()) })
}

// moveCall takes a call one step further; false when nothing is left to happen to it.
func (t *Twilio) moveCall(c *changes, p *phoneCall) bool {
	switch p.Status {
	case callQueued:
		if p.Script.Does == DoesFail {
			t.endCall(c, p, callFailed, byPerson, 0)
			break
		}
		p.Status = callRinging
		t.tellCall(c, p, "ringing")
	case callRinging:
		switch {
		case p.Direction == directionInbound:
			return false
		case p.Script.Does == DoesNotAnswer || p.Script.Ring > p.Timeout:
			t.endCall(c, p, callNoAnswer, byPerson, 0)
		case p.Script.Does == DoesBusy:
			t.endCall(c, p, callBusy, byPerson, 0)
		default:
			t.answerCall(c, p)
		}
	case callRuns:
		if p.asking() {
			return false
		}
		seconds, by := p.lasts()
		t.endCall(c, p, callCompleted, by, time.Duration(seconds)*time.Second)
	default:
		if p.Priced {
			return false
		}
		p.Price, p.Priced = p.cost(), true
	}
	t.planCall(c, p)
	return true
}

// answerCall begins the conversation, of an outbound call by asking what is to be said.
func (t *Twilio) answerCall(c *changes, p *phoneCall) {
	p.Status, p.Answered = callRuns, c.now.UnixNano()
	t.tellCall(c, p, "answered")
	if p.Direction != directionInbound && p.URL != "" {
		t.teller.tell(c, p, &callback{What: whatVoice, URL: p.URL, Form: p.form()})
	}
}

// endCall ends a call after so much of its own time since it was answered.
func (t *Twilio) endCall(c *changes, p *phoneCall, status, by string, after time.Duration) {
	p.Status, p.By, p.Ended = status, by, c.now.UnixNano()
	if p.Answered != 0 {
		p.Ended = p.Answered + int64(after)
	}
	t.tellCall(c, p, "completed")
}

// elapsed is how much of its own time has passed since the call was answered.
func (t *Twilio) elapsed(p *phoneCall, now time.Time) time.Duration {
	passed := now.Sub(time.Unix(0, p.Answered))
	if t.second > 0 {
		whole, part := int64(passed/t.second), int64(passed%t.second)
		passed = time.Duration(whole*int64(time.Second) + part*int64(time.Second)/int64(t.second))
	}
	seconds, _ := p.lasts()
	return min(passed, time.Duration(seconds)*time.Second)
}

// hangUp ends a call for whoever uses the API, unless it is over: one that nobody answered is canceled, and without
// answeredToo no other is ended.
func (t *Twilio) hangUp(c *changes, p *phoneCall, answeredToo bool) {
	switch {
	case p.over() || p.Status == callRuns && !answeredToo:
		return
	case p.Status == callRuns:
		t.endCall(c, p, callCompleted, byAPI, t.elapsed(p, c.now))
	default:
		t.endCall(c, p, callCanceled, byAPI, 0)
	}
	t.planCall(c, p)
}

// AdvanceCall takes a call one step further: to its next status or, at the end, to its price. It is what moves calls
// when Options.CallSecond is negative. A call that came in is answered by its webhook alone. Errors: 20404 for an
// unknown call, a conflict when nothing is left to happen.
func (t *Twilio) AdvanceCall(sid string) error {
	return t.change(func(c *changes) error {
		p := t.calls[sid]
		switch {
		case p == nil:
			return notFound(sid)
		case !t.moveCall(c, p):
			return conflict("Nothing is left to happen to this call, or it waits for an answer.")
		default:
			return nil
		}
	})
}

// HangUp has the person at the other end of a call hang up, or give up while it rings. Errors: 20404 for an unknown
// call, a conflict for one that has ended.
func (t *Twilio) HangUp(sid string) error {
	return t.change(func(c *changes) error {
		p := t.calls[sid]
		switch {
		case p == nil:
			return notFound(sid)
		case p.over():
			return conflict("This call has ended: it is %s.", p.Status)
		case p.Status == callRuns:
			t.endCall(c, p, callCompleted, byPerson, t.elapsed(p, c.now))
		case p.Direction == directionInbound:
			t.endCall(c, p, callNoAnswer, byPerson, 0)
		default:
			t.endCall(c, p, callBusy, byPerson, 0) // declined
		}
		t.planCall(c, p)
		return nil
	})
}

// seconds is how long a call lasted, as it is billed: in whole seconds, rounded up.
func (p *phoneCall) seconds() int64 {
	if p.Answered == 0 || p.Ended == 0 {
		return 0
	}
	return (p.Ended - p.Answered + int64(time.Second) - 1) / int64(time.Second)
}

// cost is what a call costs by the minutes begun, in hundred-thousandths of a US dollar: about Twilio's list price.
func (p *phoneCall) cost() int64 {
	perMinute := int64(1400)
	switch {
	case p.Direction == directionInbound:
		perMinute = 850
	case country(p.To) != "US":
		perMinute = 2750
	}
	return (p.seconds() + 59) / 60 * perMinute
}

func (p *phoneCall) priceText() string { return priceText(p.Price) }

// callEvents are the changes that a status callback can be had for, and the one that is told without asking.
var callEvents = []string{"initiated", "ringing", "answered", "completed"}

// tellCall makes the callback of a change of a call; see
// https://www.twilio.com/docs/voice/api/call-resource#statuscallback.
func (t *Twilio) tellCall(c *changes, p *phoneCall, event string) {
	if p.StatusCallback == "" || !slices.Contains(p.Events, event) {
		return
	}
	form := p.form()
	if event == "initiated" {
		form["CallStatus"] = event
	}
	form["Timestamp"], form["CallbackSource"] = *rfc2822(c.now.UnixNano()), "call-progress-events"
	form["SequenceNumber"] = strconv.Itoa(p.Told)
	if p.over() {
		form["CallDuration"] = strconv.FormatInt(p.seconds(), 10)
		form["Duration"] = strconv.FormatInt((p.seconds()+59)/60, 10)
	}
	p.Told++
	t.teller.tell(c, p, &callback{What: whatCall + event, URL: p.StatusCallback, Form: form})
}

// form is what all requests about a call say; see https://www.twilio.com/docs/voice/twiml#request-parameters.
func (p *phoneCall) form() map[string]string {
	return map[string]string{
		"CallSid": p.SID, "AccountSid": p.Account, "From": p.From, "To": p.To, "Caller": p.From, "Called": p.To,
		"CallStatus": p.Status, "ApiVersion": twilioVersion, "Direction": p.Direction, "FromCountry": country(p.From),
		"ToCountry": country(p.To), "CallerCountry": country(p.From), "CalledCountry": country(p.To),
	}
}

// Ring has a person call a number that an account owns, which its VoiceUrl is asked about. It gives the call's SID
// without waiting for the answer. Errors: 21212 for a person's number that is none, 20404 for a number that nobody
// owns, 20403 when its account is suspended, a conflict when it has no VoiceUrl.
func (t *Twilio) Ring(from, to string) (sid string, err error) {
	if !e164.MatchString(from) {
		return "", sendError(codeInvalidFrom, from, to)
	}
	err = t.change(func(c *changes) error {
		n := t.owned[to]
		switch {
		case n == nil:
			return notFound(to)
		case t.accounts[n.Account].Status != accountActive:
			return twilioFail(codeForbidden, "Account %s is not active", n.Account)
		case n.VoiceURL == "":
			return conflict("%s has no VoiceUrl: nobody says what to do with its calls.", to)
		}
		p := &phoneCall{
			Account: n.Account, NumberSID: n.SID, Direction: directionInbound, From: from, To: to, Status: callRinging,
			Script: t.scriptFor(from), URL: n.VoiceURL, Timeout: timeoutDefault, TimeLimit: limitDefault,
			StatusCallback: n.StatusCallback, Events: []string{"completed"},
		}
		t.addCall(c, p)
		sid = p.SID
		t.teller.tell(c, p, &callback{What: whatVoice, URL: p.URL, Form: p.form()})
		t.planCall(c, p)
		return nil
	})
	return sid, err
}

// directed takes what to do with a call.
func (t *Twilio) directed(c *changes, p *phoneCall, answer received) (fault string) {
	doc, err := parseVoice(answer)
	if err != nil {
		t.undirected(c, p)
		return err.Error()
	}
	if p.over() {
		return "" // somebody has hung up meanwhile
	}
	p.Doc = doc
	switch {
	case p.Direction != directionInbound:
	case doc.Reject == "busy":
		t.endCall(c, p, callBusy, byDoc, 0)
	case doc.Reject != "":
		t.endCall(c, p, callNoAnswer, byDoc, 0)
	default:
		t.answerCall(c, p)
	}
	t.planCall(c, p)
	return ""
}

// undirected ends a call that nobody said what to do with.
func (t *Twilio) undirected(c *changes, p *phoneCall) {
	switch {
	case p.over():
		return
	case p.Status == callRuns:
		t.endCall(c, p, callCompleted, byFault, 0)
	default:
		t.endCall(c, p, callFailed, byFault, 0)
	}
	t.planCall(c, p)
}

// BookedCall is one call as the books show it.
type BookedCall struct {
	SID       string `json:"sid"`
	Account   string `json:"account"`
	Direction string `json:"direction"`
	From      string `json:"from"`
	To        string `json:"to"`
	Status    string `json:"status"`
	// Seconds is how long it lasted.
	Seconds int64 `json:"seconds"`
	// Price is as Twilio writes it, in US dollars and negative; empty while it is not known.
	Price string `json:"price"`
}

func (p *phoneCall) booked() BookedCall {
	b := BookedCall{
		SID: p.SID, Account: p.Account, Direction: p.Direction, From: p.From, To: p.To, Status: p.Status, Seconds: p.seconds(),
	}
	if p.Priced {
		b.Price = p.priceText()
	}
	return b
}

// bookedCall gives one call as the books show it, or 20404.
func (t *Twilio) bookedCall(sid string) (BookedCall, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.calls[sid]
	if p == nil {
		return BookedCall{}, notFound(sid)
	}
	return p.booked(), nil
}
