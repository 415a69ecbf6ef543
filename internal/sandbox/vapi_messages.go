package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// vapiServer is where messages go.
type vapiServer struct {
	url     string
	header  map[string]string
	limit   time.Duration
	backoff *backoff
}

// backoff is how often, and when, what failed is sent again.
type backoff struct {
	Exponential bool          `json:"exponential,omitempty"`
	Retries     int           `json:"retries"`
	Base        time.Duration `json:"base"` // in the calls' own time
	Except      []int         `json:"except,omitempty"`
}

// backoffFrom reads a plan; nil when there is none.
func backoffFrom(fields any) *backoff {
	m, ok := fields.(map[string]any)
	if !ok {
		return nil
	}
	number := func(v any) float64 { n, _ := v.(float64); return n }
	b := &backoff{
		Exponential: m["type"] == "exponential", Retries: int(number(m["maxRetries"])),
		Base: time.Duration(number(m["baseDelaySeconds"]) * float64(time.Second)),
	}
	codes, _ := m["excludedStatusCodes"].([]any)
	for _, code := range codes {
		b.Except = append(b.Except, int(number(code)))
	}
	return b
}

// again says how long to wait after so many failed attempts, in the calls' own time; false gives up.
func (b *backoff) again(attempts, status int) (time.Duration, bool) {
	if b == nil || attempts > b.Retries || slices.Contains(b.Except, status) {
		return 0, false
	}
	if b.Exponential {
		return b.Base << (attempts - 1), true
	}
	return b.Base, true
}

// serverLimit is how long a server may take when it does not say.
const serverLimit = 20 * time.Second

// serverFrom reads a server as it stands in an assistant, a number or a tool. Only a credential, which is always the
// organisation's, or headers of its own prove anything to it.
func (v *Vapi) serverFrom(fields any) (vapiServer, bool) {
	m, _ := fields.(map[string]any)
	s := vapiServer{header: map[string]string{}, limit: serverLimit}
	if s.url, _ = m["url"].(string); s.url == "" {
		return s, false
	}
	if n, ok := m["timeoutSeconds"].(float64); ok {
		s.limit = time.Duration(n * float64(time.Second))
	}
	s.backoff = backoffFrom(m["backoffPlan"])
	if id, _ := m["credentialId"].(string); id != "" {
		s.header["Authorization"] = "Bearer " + v.secret
	}
	headers, _ := m["headers"].(map[string]any)
	for name, value := range headers {
		s.header[http.CanonicalHeaderKey(name)] = fmt.Sprint(value)
	}
	return s, true
}

// server gives where a call's messages go: the assistant's server, the number's, the organisation's. false is nowhere.
func (v *Vapi) server(x *vapiCall) (vapiServer, bool) {
	if s, ok := v.serverFrom(x.Agent["server"]); ok {
		return s, true
	}
	if n := v.numbers[x.NumberID]; n != nil {
		if s, ok := v.serverFrom(n.Fields["server"]); ok {
			return s, true
		}
	}
	return vapiServer{
		url: v.serverURL, header: map[string]string{"Authorization": "Bearer " + v.secret}, limit: serverLimit,
	}, v.serverURL != ""
}

// wanted says whether an assistant's messages of a type are sent; by default all are that the sandbox has.
func (x *vapiCall) wanted(kind string) bool {
	chosen, ok := x.Agent["serverMessages"].([]any)
	return !ok || slices.Contains(chosen, any(kind))
}

// tell notes a message to the call's server; sub is what faults can tell it from others of its type by.
func (v *Vapi) tell(c *changes, x *vapiCall, kind, sub string, fields map[string]any) {
	if s, ok := v.server(x); ok && x.wanted(kind) {
		v.tellTo(c, x, s, kind, sub, fields)
	}
}

func (v *Vapi) tellTo(c *changes, x *vapiCall, s vapiServer, kind, sub string, fields map[string]any) {
	body, err := v.envelope(x, kind, c.now, fields)
	if err != nil {
		c.err = err
		return
	}
	what := kind
	if sub != "" {
		what += "." + sub
	}
	v.teller.tell(c, x, &callback{What: what, URL: s.url, Body: body, Header: s.header, LimitMS: s.limit.Milliseconds(), Backoff: s.backoff})
}

// envelope is the body of a message; see https://docs.vapi.ai/server-url/events.
func (v *Vapi) envelope(x *vapiCall, kind string, now time.Time, fields map[string]any) ([]byte, error) {
	m := map[string]any{
		"type": kind, "timestamp": now.UnixMilli(), "call": v.callView(x), "customer": x.Customer, "artifact": v.artifact(x),
	}
	if x.Agent != nil {
		m["assistant"] = x.Agent
	}
	if n := v.numbers[x.NumberID]; n != nil {
		m["phoneNumber"] = v.view(n)
	}
	maps.Copy(m, fields)
	return json.Marshal(map[string]any{"message": m})
}

// report is what the report of a call says besides the call; see https://docs.vapi.ai/server-url/end-of-call-report.
func (v *Vapi) report(x *vapiCall) map[string]any {
	total, parts := x.costs()
	fields := map[string]any{
		"endedReason": x.EndedReason, "cost": usd(total), "costs": x.costList(parts), "analysis": map[string]any{},
		"endedAt": vapiTime(x.Ended),
	}
	if x.Started != 0 {
		fields["startedAt"] = vapiTime(x.Started)
	}
	return fields
}

// artifact is what is left of a call: what was said, and the recording unless the plan says otherwise.
func (v *Vapi) artifact(x *vapiCall) map[string]any {
	plan, _ := x.Agent["artifactPlan"].(map[string]any)
	a := map[string]any{"messages": x.messages()}
	if t, _ := plan["transcriptPlan"].(map[string]any); t["enabled"] != false {
		a["transcript"] = x.transcript()
	}
	if x.Status == vapiEnded && x.Started != 0 && plan["recordingEnabled"] != false {
		at := v.base + recordingPath + x.ID + ".wav"
		a["recordingUrl"], a["stereoRecordingUrl"] = at, at
		a["recording"] = map[string]any{"stereoUrl": at, "mono": map[string]any{"combinedUrl": at}}
	}
	return a
}

// transcript is what was said, by line.
func (x *vapiCall) transcript() string {
	var b strings.Builder
	for _, m := range x.Messages {
		switch m["role"] {
		case "bot":
			fmt.Fprintf(&b, "AI: %s\n", m["message"])
		case "user":
			fmt.Fprintf(&b, "User: %s\n", m["message"])
		}
	}
	return b.String()
}

// newTeller gives what tells servers about calls. Like Vapi it tries everything once, unless a server has a backoffPlan.
func (v *Vapi) newTeller() *teller {
	return &teller{
		keeper: &v.keeper, name: "vapi", log: v.log, life: v.life, clock: v.clock, courier: v.courier, faults: &v.faults,
		mayCall: func(target string) bool { return mayCall(target, v.serverURL) },
		request: v.proven,
		save: func(c *changes, s subject) {
			if x, ok := s.(*vapiCall); ok {
				c.put(bucketVapiCalls, x.ID, x)
			}
		},
		heard: func(c *changes, s subject, call *callback, answer received) string {
			if x, ok := s.(*vapiCall); ok && call.What == kindTools {
				return v.toolAnswered(c, x, call, answer)
			}
			return ""
		},
		unheard: func(c *changes, s subject, call *callback) {
			if x, ok := s.(*vapiCall); ok && call.What == kindTools {
				v.toolFailed(c, x, call)
			}
		},
		again: func(call *callback, failed attempt) (time.Duration, bool) {
			wait, ok := call.Backoff.again(call.Count, failed.Status)
			if second := v.twilio.second; second > 0 {
				wait = time.Duration(int64(wait/time.Second) * int64(second))
			}
			return wait, ok
		},
	}
}

// proven makes a request with what proves to the server that it comes from Vapi.
func (v *Vapi) proven(ctx context.Context, _ subject, call *callback, wrong bool) (*http.Request, error) {
	body := bytes.NewReader(call.Body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.URL, body) //nolint:gosec // such as mayCall lets pass
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "axios/1.8.4")
	for name, value := range call.Header {
		req.Header.Set(name, value)
	}
	if wrong {
		req.Header.Set("Authorization", "Bearer "+v.secret+otherSecret)
	}
	return req, nil
}

// kindTools is the type of the message that has functions called.
const kindTools = "tool-calls"

// useTools arranges what the script has the assistant call. When calls move by hand it is all at once.
func (v *Vapi) useTools(c *changes, x *vapiCall) {
	for _, tool := range x.Script.Tools {
		if v.twilio.second < 0 {
			v.useTool(c, x, tool)
			continue
		}
		due := time.Unix(0, x.Started).Add(time.Duration(tool.At) * v.twilio.second)
		v.clock.at(due, func(ctx context.Context) {
			err := v.change(func(c *changes) error {
				v.useTool(c, x, tool)
				return nil
			})
			if err != nil {
				v.log.ErrorContext(ctx, "sandbox vapi: could not call the tool of", "id", x.ID, "error", err)
			}
		})
	}
}

// useTool has the assistant call a function, if it has one of this name and the call goes on.
func (v *Vapi) useTool(c *changes, x *vapiCall, tool ScriptedTool) bool {
	config := x.tool(tool.Name)
	if config == nil || x.Status != callRuns {
		return false
	}
	arguments := tool.Arguments
	if arguments == nil {
		arguments = map[string]any{}
	}
	written, err := json.Marshal(arguments)
	if err != nil {
		c.err = err
		return false
	}
	call := map[string]any{
		"id": newID("call_", 24), "type": "function",
		"function": map[string]any{"name": tool.Name, "arguments": string(written)},
	}
	at := c.now.UnixNano()
	x.Messages = append(x.Messages, x.message("tool_calls", at, map[string]any{"message": "", "toolCalls": []any{call}}))
	s, ok := v.serverFrom(config["server"])
	if !ok {
		s, ok = v.server(x)
	}
	if ok {
		with := maps.Clone(config)
		with["toolCall"] = call
		v.tellTo(c, x, s, kindTools, "", map[string]any{
			"toolCallList": []any{call}, "toolWithToolCallList": []any{with},
		})
	}
	v.saveCall(c, x)
	return true
}

// tool gives a function of the assistant's model; nil when it has none of this name.
func (x *vapiCall) tool(name string) map[string]any {
	model, _ := x.Agent["model"].(map[string]any)
	tools, _ := model["tools"].([]any)
	for _, one := range tools {
		tool, _ := one.(map[string]any)
		function, _ := tool["function"].(map[string]any)
		if function["name"] == name {
			return tool
		}
	}
	return nil
}

// toolAnswered takes the results of functions; it gives what was wrong with them, if anything.
func (v *Vapi) toolAnswered(c *changes, x *vapiCall, call *callback, answer received) (fault string) {
	var got struct {
		Results []struct {
			ToolCallID string `json:"toolCallId"`
			Result     any    `json:"result"`
			Error      string `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer.body, &got); err != nil {
		v.toolFailed(c, x, call)
		return "The answer is not {\"results\": [{\"toolCallId\", \"result\"}]}: " + err.Error()
	}
	asked := askedTool(call)
	for _, r := range got.Results {
		if r.ToolCallID != asked.ID {
			continue
		}
		result, isText := r.Result.(string)
		if r.Error != "" {
			result, isText = r.Error, true
		}
		if !isText {
			fault = "The result is not a string."
		}
		v.addResult(c, x, asked, result)
		return fault
	}
	v.toolFailed(c, x, call)
	return "No result for " + asked.ID + "."
}

// toolFailed is what an assistant hears when a function does not answer.
func (v *Vapi) toolFailed(c *changes, x *vapiCall, call *callback) {
	v.addResult(c, x, askedTool(call), "No result returned.")
}

func (v *Vapi) addResult(c *changes, x *vapiCall, asked toolCall, result string) {
	x.Messages = append(x.Messages, x.message("tool_call_result", c.now.UnixNano(), map[string]any{
		"toolCallId": asked.ID, "name": asked.Function.Name, "result": result,
	}))
}

type toolCall struct {
	ID       string `json:"id"`
	Function struct {
		Name string `json:"name"`
	} `json:"function"`
}

// askedTool is the call of a function that a message made.
func askedTool(call *callback) toolCall {
	var body struct {
		Message struct {
			List []toolCall `json:"toolCallList"`
		} `json:"message"`
	}
	if err := json.Unmarshal(call.Body, &body); err != nil || len(body.Message.List) == 0 {
		return toolCall{}
	}
	return body.Message.List[0]
}
