package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// vapiCall is a call that an assistant holds. What happens on the line is a call of Twilio's: see follow.
type vapiCall struct {
	line

	Seq         uint64 `json:"seq"`
	ID          string `json:"id"`
	Inbound     bool   `json:"inbound,omitempty"`
	Status      string `json:"status"`
	EndedReason string `json:"ended_reason,omitempty"`
	// Reason is why it will have ended, once that is known before its end.
	Reason string `json:"reason,omitempty"`
	Name   string `json:"name,omitempty"`
	// AssistantID, Assistant (one for this call alone) and Overrides are as they were sent; Agent is what they make, as
	// of the call's beginning.
	AssistantID string         `json:"assistant_id,omitempty"`
	Assistant   map[string]any `json:"assistant,omitempty"`
	Overrides   map[string]any `json:"overrides,omitempty"`
	Agent       map[string]any `json:"agent,omitempty"`
	NumberID    string         `json:"number_id"`
	Customer    map[string]any `json:"customer"`
	// SID is the call at Twilio, Script what is said and done in it.
	SID      string           `json:"sid"`
	Script   CallScript       `json:"script"`
	Messages []map[string]any `json:"messages,omitempty"`
	// Times are Unix nanoseconds; zero is not yet, or never.
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
	Started int64 `json:"started,omitempty"`
	Ended   int64 `json:"ended,omitempty"`
	Deleted int64 `json:"deleted,omitempty"`
}

func (x *vapiCall) sequence() uint64 { return x.Seq }
func (x *vapiCall) id() string       { return x.ID }

// vapiEnded is the last status of a call at Vapi; the others are named as at Twilio.
const vapiEnded = "ended"

// Why a call ended; see https://docs.vapi.ai/calls/call-ended-reason.
const (
	reasonCustomer     = "customer-ended-call"
	reasonBusy         = "customer-busy"
	reasonNoAnswer     = "customer-did-not-answer"
	reasonAssistant    = "assistant-ended-call"
	reasonLimit        = "exceeded-max-duration"
	reasonCanceled     = "manually-canceled"
	reasonControl      = "assistant-ended-call-with-hangup-task"
	reasonNotConnected = "twilio-failed-to-connect-call"
	reasonTwilio       = "call.in-progress.twilio-completed-call"

	reasonNobody    = "call-start-error-neither-assistant-nor-server-set"
	reasonAskFailed = "assistant-request-failed"
	reasonAskError  = "assistant-request-returned-error"
	reasonAskBad    = "assistant-request-returned-invalid-assistant"
	reasonAskNone   = "assistant-request-returned-no-assistant"
	reasonNotFound  = "assistant-not-found"
)

// maxDurationDefault is how long a call may last when nobody says, in seconds.
const maxDurationDefault = 600

// callShape is the body of a call: to one customer, through a number that was imported. Metadata and limits of the
// call alone go into assistantOverrides.
var callShape = object(map[string]shape{
	"assistantId": anID, "assistant": assistantShape, "assistantOverrides": overridesShape, "phoneNumberId": anID,
	"name": words(40), "customer": object(map[string]shape{
		"number": dialled, "name": words(40), "externalId": words(40), "email": words(40),
	}, "number"),
})

// makeAgentCall is https://docs.vapi.ai/api-reference/calls/create.
func makeAgentCall(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	if err := in.hold(callShape); err != nil {
		return nil, err
	}
	numberID, _ := in.body["phoneNumberId"].(string)
	customer, _ := in.body["customer"].(map[string]any)
	if numberID == "" || customer == nil {
		return nil, vapiFail(http.StatusBadRequest, "Need `phoneNumberId` And `customer`: The Sandbox Makes Phone Calls Only.")
	}
	number, err := v.numberTable().find(numberID)
	if err != nil {
		return nil, vapiFail(http.StatusBadRequest, "Couldn't Find Phone Number. `phoneNumberId` %s Does Not Exist.", numberID)
	}
	x := &vapiCall{Status: callQueued, NumberID: numberID, Customer: customer}
	x.Name, _ = in.body["name"].(string)
	if err := v.staff(x, in.body); err != nil {
		return nil, err
	}
	to, _ := customer["number"].(string)
	x.SID, x.Script, err = v.twilio.dialFor(
		number.text("twilioAccountSid"), number.text("twilioAuthToken"), number.text("number"), to, x.limit(),
	)
	if err != nil {
		return nil, vapiFail(http.StatusBadRequest, "Couldn't Start Call. Twilio Says: %s", err)
	}
	v.addCall(c, x)
	v.made(c, countAgentCalls)
	return v.callView(x), nil
}

// staff gives a call its assistant, of those that fields name; the error says why there is none.
func (v *Vapi) staff(x *vapiCall, fields map[string]any) error {
	x.AssistantID, _ = fields["assistantId"].(string)
	x.Assistant, _ = fields["assistant"].(map[string]any)
	x.Overrides, _ = fields["assistantOverrides"].(map[string]any)
	switch {
	case x.AssistantID != "":
		r, err := v.assistantTable().find(x.AssistantID)
		if err != nil {
			return vapiFail(http.StatusBadRequest, "Couldn't Find Assistant. `assistantId` %s Does Not Exist.", x.AssistantID)
		}
		x.Agent = maps.Clone(r.Fields)
	case x.Assistant != nil:
		x.Agent = maps.Clone(x.Assistant)
	default:
		return vapiFail(http.StatusBadRequest, "Need Either `assistantId` Or `assistant`.")
	}
	maps.Copy(x.Agent, x.Overrides)
	return nil
}

// limit is how long the call may last, in seconds.
func (x *vapiCall) limit() int {
	if n, ok := x.Agent["maxDurationSeconds"].(float64); ok {
		return int(n)
	}
	return maxDurationDefault
}

// addCall stores a new call, which follows its call at Twilio from now on.
func (v *Vapi) addCall(c *changes, x *vapiCall) {
	v.seq++
	x.Seq, x.ID = v.seq, uuid.NewString()
	x.Created, x.Updated = c.now.UnixNano(), c.now.UnixNano()
	v.calls[x.ID] = x
	v.callOrder = append(v.callOrder, x)
	v.bySID[x.SID] = x
	v.saveCall(c, x)
	c.then(func() { v.look(x.SID) })
}

// saveCall notes that a call has changed, and arranges its next message.
func (v *Vapi) saveCall(c *changes, x *vapiCall) {
	x.Updated = c.now.UnixNano()
	c.put(bucketVapiCalls, x.ID, x)
	c.then(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.teller.callNext(x)
	})
}

// look has a call follow what happened at Twilio, soon. It takes no mutex.
func (v *Vapi) look(sid string) {
	v.clock.at(v.now(), func(ctx context.Context) {
		v.mu.Lock()
		defer v.mu.Unlock()
		x := v.bySID[sid]
		p, ok := v.twilio.seen(sid)
		if x == nil || !ok {
			return
		}
		c := v.begin()
		v.follow(c, x, p)
		done := c.finish()
		v.steps.Go(func() {
			if err := done(); err != nil {
				v.log.ErrorContext(ctx, "sandbox vapi: could not write the step of", "id", x.ID, "error", err)
			}
		})
	})
}

// follow takes a call as far as its call at Twilio is, step by step: what was missed is told too.
func (v *Vapi) follow(c *changes, x *vapiCall, p phoneCall) {
	if x.Status == vapiEnded {
		return
	}
	rang := p.Status == callRinging || p.Answered != 0 || p.Status == callBusy || p.Status == callNoAnswer
	if x.Status == callQueued && rang {
		v.become(c, x, callRinging)
	}
	if x.Status == callRinging && p.Answered != 0 && x.Reason == "" {
		x.Started = p.Answered
		if said, ok := x.Agent["firstMessage"].(string); ok && said != "" {
			v.say(x, "bot", said, x.Started)
		}
		v.become(c, x, callRuns)
		v.useTools(c, x)
	}
	if p.over() {
		v.end(c, x, p)
	}
}

// become changes a call's status and has that told.
func (v *Vapi) become(c *changes, x *vapiCall, status string) {
	x.Status = status
	fields := map[string]any{"status": status}
	if status == vapiEnded {
		fields["endedReason"] = x.EndedReason
	}
	v.tell(c, x, "status-update", status, fields)
	v.saveCall(c, x)
}

// end ends a call as its call at Twilio did, and reports it.
func (v *Vapi) end(c *changes, x *vapiCall, p phoneCall) {
	if x.EndedReason = x.Reason; x.EndedReason == "" {
		x.EndedReason = x.reason(p)
	}
	x.Ended = p.Ended
	if x.Started != 0 {
		v.say(x, "user", "Thank you, that is all.", x.Ended)
	}
	v.become(c, x, vapiEnded)
	v.tell(c, x, "end-of-call-report", "", v.report(x))
	v.saveCall(c, x)
}

// reason is why a call ended, by what happened at Twilio.
func (x *vapiCall) reason(p phoneCall) string {
	switch {
	case p.Status == callBusy:
		return reasonBusy
	case p.Status == callNoAnswer && x.Inbound:
		return reasonCustomer
	case p.Status == callNoAnswer:
		return reasonNoAnswer
	case p.Status == callFailed:
		return reasonNotConnected
	case p.Status == callCanceled:
		return reasonCanceled
	case p.By == byLimit:
		return reasonLimit
	case p.By == byPerson && x.Script.AgentHangsUp:
		return reasonAssistant
	case p.By == byPerson:
		return reasonCustomer
	default:
		return reasonTwilio
	}
}

// say adds what somebody said to the call's messages.
func (v *Vapi) say(x *vapiCall, role, words string, at int64) {
	x.Messages = append(x.Messages, x.message(role, at, map[string]any{"message": words}))
}

// message is a message of a call; its times are as Vapi writes them, in milliseconds and seconds.
func (x *vapiCall) message(role string, at int64, fields map[string]any) map[string]any {
	ms := at / int64(time.Millisecond)
	m := map[string]any{"role": role, "time": ms, "secondsFromStart": max(0, at-x.Started) / int64(time.Second)}
	if role == "bot" || role == "user" {
		m["endTime"], m["duration"] = ms, 0
	}
	maps.Copy(m, fields)
	return m
}

// agentCallOf gives the call that a request is about.
func (v *Vapi) agentCallOf(in *vapiAsked) (*vapiCall, error) {
	if x := v.calls[in.id]; x != nil && x.Deleted == 0 {
		return x, nil
	}
	return nil, vapiMissing("Call", in.id)
}

// fetchAgentCall is https://docs.vapi.ai/api-reference/calls/get.
func fetchAgentCall(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	x, err := v.agentCallOf(in)
	if err != nil {
		return nil, err
	}
	return v.callView(x), nil
}

// listAgentCalls is https://docs.vapi.ai/api-reference/calls/list.
func listAgentCalls(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	p, err := in.page("id", "assistantId", "phoneNumberId")
	if err != nil {
		return nil, err
	}
	like := func(name, value string) bool { return in.query.Get(name) == "" || in.query.Get(name) == value }
	out := []any{}
	for _, x := range slices.Backward(v.callOrder) {
		if len(out) < p.limit && x.Deleted == 0 && p.passes(x.Created, x.Updated) && like("id", x.ID) &&
			like("assistantId", x.AssistantID) && like("phoneNumberId", x.NumberID) {
			out = append(out, v.callView(x))
		}
	}
	return out, nil
}

// changeAgentCall is https://docs.vapi.ai/api-reference/calls/update: of its name.
func changeAgentCall(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	x, err := v.agentCallOf(in)
	if err == nil {
		err = in.hold(object(map[string]shape{"name": words(40)}))
	}
	if err != nil {
		return nil, err
	}
	x.Name, _ = in.body["name"].(string)
	v.saveCall(c, x)
	return v.callView(x), nil
}

// deleteAgentCall is https://docs.vapi.ai/api-reference/calls/delete: what was said and recorded is gone then. Of many
// at once it is not imitated, nor of a call that goes on.
func deleteAgentCall(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	x, err := v.agentCallOf(in)
	switch {
	case err != nil:
		return nil, err
	case len(in.body) > 0:
		return nil, vapiFail(http.StatusBadRequest, "The sandbox does not imitate deleting many calls at once.")
	case x.Status != vapiEnded:
		return nil, vapiFail(http.StatusBadRequest, "Call %s is still %s.", x.ID, x.Status)
	}
	view := v.callView(x)
	x.Deleted, x.Messages = c.now.UnixNano(), nil
	v.saveCall(c, x)
	return view, nil
}

// What a minute costs, in millionths of a US dollar. The line is the customer's own and costs nothing here.
const (
	costVapi = 50_000
	costSTT  = 10_000
	costLLM  = 20_000
	costTTS  = 30_000
)

// usd is an amount as JSON has it.
func usd(millionths int64) json.Number {
	return json.Number(fmt.Sprintf("%d.%06d", millionths/1_000_000, millionths%1_000_000))
}

// costs is what a call costs in all and by its parts, in millionths of a US dollar, by the millisecond.
func (x *vapiCall) costs() (total int64, parts map[string]int64) {
	parts = map[string]int64{}
	if x.Started == 0 || x.Ended == 0 {
		return 0, parts
	}
	ms := (x.Ended - x.Started) / int64(time.Millisecond)
	for name, rate := range map[string]int64{"vapi": costVapi, "stt": costSTT, "llm": costLLM, "tts": costTTS} {
		parts[name] = ms * rate / 60_000
		total += parts[name]
	}
	return total, parts
}

// callView is the call as Vapi shows it.
func (v *Vapi) callView(x *vapiCall) map[string]any {
	total, parts := x.costs()
	out := map[string]any{
		"id": x.ID, "orgId": v.org, "type": "outboundPhoneCall", "status": x.Status, "createdAt": vapiTime(x.Created),
		"updatedAt": vapiTime(x.Updated), "phoneNumberId": x.NumberID, "customer": x.Customer, "cost": usd(total),
		"phoneCallProvider": "twilio", "phoneCallTransport": "pstn", "phoneCallProviderId": x.SID,
		"messages": x.messages(),
	}
	if x.Inbound {
		out["type"] = "inboundPhoneCall"
	}
	plan, _ := x.Agent["artifactPlan"].(map[string]any)
	for name, m := range map[string]map[string]any{
		"assistant": x.Assistant, "assistantOverrides": x.Overrides, "artifactPlan": plan,
	} {
		if m != nil {
			out[name] = m
		}
	}
	for name, value := range map[string]string{"name": x.Name, "assistantId": x.AssistantID, "endedReason": x.EndedReason} {
		if value != "" {
			out[name] = value
		}
	}
	for name, at := range map[string]int64{"startedAt": x.Started, "endedAt": x.Ended} {
		if at != 0 {
			out[name] = vapiTime(at)
		}
	}
	if x.Status != vapiEnded {
		out["monitor"] = map[string]any{
			"listenUrl": "ws" + v.base[len("http"):] + livePath + x.ID + "/listen", "controlUrl": v.base + livePath + x.ID + "/control",
		}
		return out
	}
	breakdown := map[string]any{"transport": usd(0), "total": usd(total)}
	for name, part := range parts {
		breakdown[name] = usd(part)
	}
	out["costBreakdown"], out["costs"] = breakdown, x.costList(parts)
	out["artifact"], out["analysis"] = v.artifact(x), map[string]any{}
	return out
}

// costList is the parts of the cost as a list.
func (x *vapiCall) costList(parts map[string]int64) []any {
	kinds := map[string]string{"stt": "transcriber", "llm": "model", "tts": "voice", "vapi": "vapi"}
	out := []any{}
	for _, name := range []string{"stt", "llm", "tts", "vapi"} {
		if cost, ok := parts[name]; ok {
			out = append(out, map[string]any{"type": kinds[name], "cost": usd(cost)})
		}
	}
	return out
}

func (x *vapiCall) messages() []map[string]any {
	if x.Messages == nil {
		return []map[string]any{}
	}
	return x.Messages
}

// BookedAgentCall is a call as the books show it.
type BookedAgentCall struct {
	ID      string `json:"id"`
	Inbound bool   `json:"inbound"`
	Status  string `json:"status"`
	// EndedReason is set once it has ended.
	EndedReason string `json:"ended_reason,omitempty"`
	Number      string `json:"number"`
	Customer    string `json:"customer"`
	AssistantID string `json:"assistant_id,omitempty"`
	// SID is the call at Twilio.
	SID string `json:"sid"`
	// Milliseconds is how long it lasted.
	Milliseconds int64 `json:"milliseconds"`
	// Cost is in US dollars.
	Cost string `json:"cost"`
	// Deleted says that its data were deleted.
	Deleted bool `json:"deleted,omitempty"`
}

func (v *Vapi) bookedCall(x *vapiCall) BookedAgentCall {
	total, _ := x.costs()
	b := BookedAgentCall{
		ID: x.ID, Inbound: x.Inbound, Status: x.Status, EndedReason: x.EndedReason, AssistantID: x.AssistantID, SID: x.SID,
		Cost: usd(total).String(), Deleted: x.Deleted != 0,
	}
	b.Customer, _ = x.Customer["number"].(string)
	if n := v.numbers[x.NumberID]; n != nil {
		b.Number = n.text("number")
	}
	if x.Started != 0 && x.Ended != 0 {
		b.Milliseconds = (x.Ended - x.Started) / int64(time.Millisecond)
	}
	return b
}

// dialFor calls somebody for whoever has an account's credentials, and holds the line as long as the limit and the
// script allow.
func (t *Twilio) dialFor(account, token, from, to string, limit int) (sid string, script CallScript, err error) {
	err = t.change(func(c *changes) error {
		a := t.accounts[account]
		if !t.theirs(a) || a.Token != token || a.Status != accountActive {
			return twilioFail(codeAuthenticate, "Authenticate")
		}
		p := &phoneCall{
			Account: account, Direction: directionAPI, From: from, To: to, Status: callQueued, Doc: &forever,
			Timeout: timeoutDefault, TimeLimit: limit,
		}
		if err := t.callable(p); err != nil {
			return err
		}
		t.place(c, p)
		sid, script = p.SID, p.Script
		return nil
	})
	return sid, script, err
}

// seen gives a call as it is now, without its callbacks.
func (t *Twilio) seen(sid string) (phoneCall, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.calls[sid]
	if p == nil {
		return phoneCall{}, false
	}
	seen := *p
	seen.line = line{}
	return seen, true
}

// holdFor limits how long a call goes on once it is answered, and gives its script.
func (t *Twilio) holdFor(sid string, limit int) (script CallScript, err error) {
	err = t.change(func(c *changes) error {
		p := t.calls[sid]
		if p == nil {
			return notFound(sid)
		}
		p.TimeLimit, script = limit, p.Script
		c.put(bucketCalls, p.SID, p)
		return nil
	})
	return script, err
}

// endFor ends a call for whoever holds it.
func (t *Twilio) endFor(sid string) error {
	return t.change(func(c *changes) error {
		if p := t.calls[sid]; p != nil {
			t.hangUp(c, p, true)
		}
		return nil
	})
}
