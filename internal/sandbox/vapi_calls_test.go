package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

// server is the application's end of Vapi's messages.
type server struct {
	url string

	mu       sync.Mutex
	came     []object // the messages
	bad      int      // requests without the proof
	statuses []int    // of the next requests; after them it is 200
	answers  map[string]func(message object) any
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{answers: map[string]func(object) any{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var body struct{ Message object }
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || r.Header.Get("Authorization") != "Bearer "+vapiSecret || json.Unmarshal(raw, &body) != nil {
		s.bad++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.came = append(s.came, body.Message)
	if len(s.statuses) > 0 {
		w.WriteHeader(s.statuses[0])
		s.statuses = s.statuses[1:]
		return
	}
	kind, _ := body.Message["type"].(string)
	if answer := s.answers[kind]; answer != nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer(body.Message))
	}
}

// answers sets what messages of a type are answered with.
func (s *server) answer(kind string, fn func(message object) any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[kind] = fn
}

func (s *server) fail(statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses = statuses
}

func (s *server) all() []object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

func (s *server) refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bad
}

// about gives the messages about a call, and their types with the status of those that tell one.
func (s *server) about(id string) (messages []object, kinds []string) {
	for _, m := range s.all() {
		call, _ := m["call"].(object)
		if call["id"] != id {
			continue
		}
		kind := fmt.Sprint(m["type"])
		if m["status"] != nil {
			kind += " " + fmt.Sprint(m["status"])
		}
		messages, kinds = append(messages, m), append(kinds, kind)
	}
	return messages, kinds
}

func toServer(s *server) func(*sandbox.Options) {
	return func(o *sandbox.Options) { o.VapiServerURL = s.url + "/vapi" }
}

func quickly(o *sandbox.Options) { o.CallSecond = time.Millisecond }

// callTo makes a call with a new assistant through the imported number, and gives its id.
func (a *agency) callTo(to string, pairs ...any) string {
	a.t.Helper()
	if found := a.list("/phone-number"); len(found) == 0 {
		a.makes("/phone-number", a.imported())
	}
	body := merge(object{
		"assistantId": a.assistant()["id"], "phoneNumberId": a.list("/phone-number")[0]["id"], "customer": object{"number": to},
	}, pairs...)
	return fmt.Sprint(a.makes("/call", body)["id"])
}

func (a *agency) agentCall(id string) object {
	a.t.Helper()
	status, got := a.ask(http.MethodGet, "/call/"+id, nil)
	if status != http.StatusOK {
		a.t.Fatalf("%d %v", status, got)
	}
	return got
}

// ended waits until a call has ended, and gives it.
func (a *agency) ended(id string) object {
	a.t.Helper()
	var t *testing.T
	t, _ = a.t.(*testing.T)
	wait(t, "the end of the call", func() bool { return a.agentCall(id)["status"] == "ended" })
	return a.agentCall(id)
}

// lasted is how long a call lasted.
func lasted(t *testing.T, call object) time.Duration {
	t.Helper()
	begun, err1 := time.Parse(time.RFC3339, fmt.Sprint(call["startedAt"]))
	ended, err2 := time.Parse(time.RFC3339, fmt.Sprint(call["endedAt"]))
	if err1 != nil || err2 != nil {
		t.Fatalf("%v to %v", call["startedAt"], call["endedAt"])
	}
	return ended.Sub(begun)
}

func TestAgentCall(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s), quickly)
	a.script(sandbox.CallScript{Ring: 1, Talk: 61})
	number := a.makes("/phone-number", a.imported())
	assistant := a.assistant()
	made := a.makes("/call", object{
		"assistantId": assistant["id"], "phoneNumberId": number["id"], "customer": object{"number": usHandset, "name": "Ann"}, "name": "Reminder",
		"assistantOverrides": object{"maxDurationSeconds": 120, "metadata": object{"hold": "h1"}},
	})
	id := fmt.Sprint(made["id"])
	monitor, _ := made["monitor"].(object)
	if made["status"] != "queued" || made["type"] != "outboundPhoneCall" || made["cost"] != 0.0 || made["startedAt"] != nil || made["endedReason"] != nil ||
		made["phoneCallProvider"] != "twilio" || !strings.HasPrefix(fmt.Sprint(made["phoneCallProviderId"]), "CA") ||
		!strings.HasPrefix(fmt.Sprint(monitor["controlUrl"]), a.URL()+"/vapi/live/") {
		t.Errorf("%v", made)
	}
	end := a.ended(id)
	if lasted(t, end) != 61*time.Second || end["endedReason"] != "customer-ended-call" || end["cost"] != 0.111832 || end["monitor"] != nil || end["name"] != "Reminder" {
		t.Errorf("%s, %v", lasted(t, end), end)
	}
	overrides, _ := end["assistantOverrides"].(object)
	if metadata, _ := overrides["metadata"].(object); metadata["hold"] != "h1" {
		t.Errorf("%v", overrides)
	}
	breakdown, _ := end["costBreakdown"].(object)
	artifact, _ := end["artifact"].(object)
	if breakdown["total"] != end["cost"] || breakdown["vapi"] != 0.050833 || !strings.Contains(fmt.Sprint(artifact["transcript"]), "AI: Hello, Harbour Dental.\n") {
		t.Errorf("%v %v", breakdown, artifact)
	}
	resp, err := http.Get(fmt.Sprint(artifact["recordingUrl"]))
	if err != nil {
		t.Fatal(err)
	}
	if sound := read(t, resp); resp.StatusCode != http.StatusOK || !strings.HasPrefix(sound, "RIFF") || len(sound) != 8044 {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(sound))
	}
	want := []string{"status-update ringing", "status-update in-progress", "status-update ended", "end-of-call-report"}
	wait(t, "the messages", func() bool { _, kinds := s.about(id); return slices.Equal(kinds, want) })
	messages, _ := s.about(id)
	report := messages[3]
	if report["endedReason"] != "customer-ended-call" || report["startedAt"] != end["startedAt"] || report["endedAt"] != end["endedAt"] || report["cost"] != end["cost"] ||
		messages[2]["endedReason"] != "customer-ended-call" {
		t.Errorf("%v", report)
	}
	for _, name := range []string{"call", "customer", "assistant", "phoneNumber", "artifact"} {
		if _, ok := report[name].(object); !ok {
			t.Errorf("%s is %v", name, report[name])
		}
	}
	// At Twilio it is a call like any other, with a price of its own.
	wait(t, "its price", func() bool { return a.twilio.Books().Calls[0].Price != "" })
	if got := a.twilio.Books().Calls[0]; got.SID != made["phoneCallProviderId"] || got.Seconds != 61 || got.Account != a.sub.sid || got.From != a.number || got.Price != "-0.02800" {
		t.Errorf("%+v", got)
	}
	wait(t, "the books", func() bool { return a.vapi.Books().Undelivered == 0 })
	if b := a.vapi.Books(); len(b.Calls) != 1 || b.Calls[0].Milliseconds != 61_000 || b.Calls[0].Cost != "0.111832" || b.CallsMade != (sandbox.Creations{Asked: 1, Made: 1}) ||
		b.Calls[0].Number != a.number || b.Calls[0].Customer != usHandset {
		t.Errorf("%+v", b.Calls)
	}
	if s.refused() != 0 {
		t.Errorf("%d without the proof", s.refused())
	}
}

func TestHowCallsEnd(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s), quickly)
	for _, c := range []struct {
		name    string
		to      string
		script  *sandbox.CallScript
		limit   int
		reason  string
		lasts   time.Duration // 0: it was not answered
		statues []string
	}{
		{"busy", sandbox.NumberBusy, nil, 0, "customer-busy", 0, []string{"ringing", "ended"}},
		{"no answer", sandbox.NumberNoAnswer, nil, 0, "customer-did-not-answer", 0, []string{"ringing", "ended"}},
		{"not reached", sandbox.NumberUnreachable, nil, 0, "twilio-failed-to-connect-call", 0, []string{"ended"}},
		{"an endless talker", sandbox.NumberTalker, nil, 90, "exceeded-max-duration", 90 * time.Second, []string{"ringing", "in-progress", "ended"}},
		{"the assistant's own limit", sandbox.NumberTalker, nil, 0, "exceeded-max-duration", 300 * time.Second, []string{"ringing", "in-progress", "ended"}},
		{"the person", handset, &sandbox.CallScript{Talk: 7}, 0, "customer-ended-call", 7 * time.Second, []string{"ringing", "in-progress", "ended"}},
		{"the assistant", handset, &sandbox.CallScript{Talk: 8, AgentHangsUp: true}, 0, "assistant-ended-call", 8 * time.Second, []string{"ringing", "in-progress", "ended"}},
	} {
		a.script()
		if c.script != nil {
			a.script(*c.script)
		}
		var pairs []any
		if c.limit != 0 {
			pairs = []any{"assistantOverrides", object{"maxDurationSeconds": c.limit}}
		}
		id := a.callTo(c.to, pairs...)
		got := a.ended(id)
		if got["endedReason"] != c.reason || (got["startedAt"] == nil) != (c.lasts == 0) || got["endedAt"] == nil {
			t.Errorf("%s: %v, started %v", c.name, got["endedReason"], got["startedAt"])
		} else if c.lasts != 0 && lasted(t, got) != c.lasts {
			t.Errorf("%s: lasted %s", c.name, lasted(t, got))
		}
		if c.lasts == 0 && got["cost"] != 0.0 {
			t.Errorf("%s: cost %v", c.name, got["cost"])
		}
		var want []string
		for _, status := range c.statues {
			want = append(want, "status-update "+status)
		}
		want = append(want, "end-of-call-report")
		wait(t, c.name, func() bool { _, kinds := s.about(id); return slices.Equal(kinds, want) })
	}
}

func TestControlOfCalls(t *testing.T) {
	ck := newClock()
	s := newServer(t)
	a := startVapi(t, toServer(s), func(o *sandbox.Options) { o.Now = ck.Now })
	a.script(sandbox.CallScript{Talk: -1, Times: -1})
	control := func(id string, body object) int {
		t.Helper()
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		// No key: the URL is all there is.
		resp, err := http.Post(a.URL()+"/vapi/live/"+id+"/control", "application/json", strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp)
		return resp.StatusCode
	}
	advance := func(id, until string) {
		t.Helper()
		if err := a.vapi.Advance(id); err != nil {
			t.Fatal(err)
		}
		wait(t, until, func() bool { return a.agentCall(id)["status"] == until })
	}
	id := a.callTo(handset)
	if status := control(id, object{"type": "say", "content": "x"}); status != http.StatusBadRequest {
		t.Errorf("said to nobody: %d", status)
	}
	advance(id, "ringing")
	advance(id, "in-progress")
	ck.Add(61 * time.Second)
	if status := control(id, object{"type": "say", "content": "Your balance is used up."}); status != http.StatusOK {
		t.Errorf("%d", status)
	}
	if status := control(id, object{"type": "transfer"}); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
	if status := control(id, object{"type": "end-call"}); status != http.StatusOK {
		t.Errorf("%d", status)
	}
	got := a.ended(id)
	if lasted(t, got) != 61*time.Second || got["endedReason"] != "assistant-ended-call-with-hangup-task" || !strings.Contains(fmt.Sprint(got["artifact"]), "AI: Your balance is used up.") {
		t.Errorf("%s, %v", lasted(t, got), got)
	}
	if status := control(id, object{"type": "end-call"}); status != http.StatusNotFound {
		t.Errorf("ended twice: %d", status)
	}
	ringing := a.callTo(handset)
	advance(ringing, "ringing")
	if status := control(ringing, object{"type": "end-call"}); status != http.StatusOK {
		t.Errorf("%d", status)
	}
	if got := a.ended(ringing); got["endedReason"] != "manually-canceled" || got["startedAt"] != nil {
		t.Errorf("%v", got)
	}
	// Somebody ends it at Twilio, or the person hangs up.
	behind := a.callTo(handset)
	advance(behind, "ringing")
	advance(behind, "in-progress")
	if _, err := a.sub.api.UpdateCall(fmt.Sprint(a.agentCall(behind)["phoneCallProviderId"]), (&openapi.UpdateCallParams{}).SetStatus("completed")); err != nil {
		t.Fatal(err)
	}
	if got := a.ended(behind); got["endedReason"] != "call.in-progress.twilio-completed-call" {
		t.Errorf("%v", got["endedReason"])
	}
	person := a.callTo(handset)
	advance(person, "ringing")
	advance(person, "in-progress")
	ck.Add(1500 * time.Millisecond)
	if status, body := a.postForm("/sandbox/vapi/calls/"+person+"/hang-up", nil, ""); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if got := a.ended(person); got["endedReason"] != "customer-ended-call" || lasted(t, got) != 1500*time.Millisecond {
		t.Errorf("%v", got)
	}
	a.vapiFaults(sandbox.Fault{Match: sandbox.ControlCall, Do: sandbox.Fault500})
	last := a.callTo(handset)
	if status := control(last, object{"type": "end-call"}); status != http.StatusInternalServerError || a.agentCall(last)["status"] == "ended" {
		t.Errorf("%d", status)
	}
}

func TestToolCalls(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s))
	advance := func(id, until string) {
		t.Helper()
		if err := a.vapi.Advance(id); err != nil {
			t.Fatal(err)
		}
		wait(t, until, func() bool { return a.agentCall(id)["status"] == until })
	}
	a.script(sandbox.CallScript{Times: -1, Tools: []sandbox.ScriptedTool{
		{At: 2, Name: "search_knowledge", Arguments: object{"query": "opening hours"}}, {Name: "unknown"},
	}})
	s.answer("tool-calls", func(m object) any {
		calls, _ := m["toolCallList"].([]any)
		call, _ := calls[0].(object)
		return object{"results": []object{{"toolCallId": call["id"], "name": "search_knowledge", "result": "Nine to five."}}}
	})
	id := a.callTo(handset)
	advance(id, "ringing")
	advance(id, "in-progress")
	results := func(id string) (out []object) {
		messages, _ := a.agentCall(id)["messages"].([]any)
		for _, one := range messages {
			if m, _ := one.(object); m["role"] == "tool_call_result" {
				out = append(out, m)
			}
		}
		return out
	}
	wait(t, "the result", func() bool { return len(results(id)) == 1 })
	if got := results(id)[0]; got["result"] != "Nine to five." || got["name"] != "search_knowledge" || got["toolCallId"] == "" {
		t.Errorf("%v", got)
	}
	messages, kinds := s.about(id)
	if !slices.Equal(kinds, []string{"status-update ringing", "status-update in-progress", "tool-calls"}) {
		t.Fatalf("%v", kinds)
	}
	calls, _ := messages[2]["toolCallList"].([]any)
	call, _ := calls[0].(object)
	function, _ := call["function"].(object)
	if function["name"] != "search_knowledge" || function["arguments"] != `{"query":"opening hours"}` || messages[2]["toolWithToolCallList"] == nil {
		t.Errorf("%v", call)
	}
	// By the control, with answers that are none.
	use := `{"name":"search_knowledge","arguments":{"query":"prices"}}`
	for name, answer := range map[string]any{"nothing for it": object{"results": []object{}}, "no list": "x"} {
		before := len(results(id))
		s.answer("tool-calls", func(object) any { return answer })
		if status, body := a.postJSON("/sandbox/vapi/calls/"+id+"/tool", use); status != http.StatusOK {
			t.Errorf("%s: %d %s", name, status, body)
		}
		wait(t, name, func() bool { return len(results(id)) == before+1 })
		told := a.vapi.Messages(id)
		if last := told[len(told)-1]; last.Fault == "" || results(id)[before]["result"] != "No result returned." {
			t.Errorf("%s: %+v", name, last)
		}
	}
	s.fail(http.StatusInternalServerError)
	before := len(results(id))
	if err := a.vapi.UseTool(id, "search_knowledge", nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "the failure", func() bool { return len(results(id)) == before+1 })
	if err := a.vapi.UseTool(id, "unknown", nil); err == nil {
		t.Error("a function that is none was called")
	}
	advance(id, "ended")
	if err := a.vapi.UseTool(id, "search_knowledge", nil); err == nil {
		t.Error("a function was called after the end")
	}
}

// Messages are sent once, to the nearest server, and only with what proves them to it.
func TestServers(t *testing.T) {
	ours, org := newServer(t), newServer(t)
	a := startVapi(t, toServer(org), quickly)
	done := func(id string, kinds ...string) func() bool {
		return func() bool { _, got := ours.about(id); return slices.Equal(got, kinds) }
	}
	all := []string{"status-update ringing", "status-update in-progress", "status-update ended", "end-of-call-report"}
	own := object{"url": ours.url + "/x", "headers": object{"authorization": "Bearer " + vapiSecret}}
	id := a.callTo(handset, "assistantOverrides", object{"server": own})
	wait(t, "the assistant's server", done(id, all...))
	id = a.callTo(handset, "assistantOverrides", object{"server": object{"url": ours.url, "credentialId": "cred_1"}, "serverMessages": []string{"end-of-call-report"}})
	wait(t, "what was chosen", done(id, "end-of-call-report"))
	if status, e := a.ask(http.MethodPatch, fmt.Sprint("/phone-number/", a.list("/phone-number")[0]["id"]), object{"server": own}); status != http.StatusOK {
		t.Fatalf("%d %v", status, e)
	}
	id = a.callTo(handset)
	wait(t, "the number's server", done(id, all...))
	if n := len(org.all()); n != 0 {
		t.Errorf("%d messages to the organisation's server", n)
	}
	// Without a proof of its own a server gets none.
	id = a.callTo(handset, "assistantOverrides", object{"server": object{"url": ours.url}})
	a.ended(id)
	wait(t, "the refusals", func() bool { return ours.refused() == len(all) })
	// What fails is not sent again, and the rest still comes.
	ours.fail(http.StatusServiceUnavailable)
	id = a.callTo(handset)
	wait(t, "the rest", done(id, all...))
	wait(t, "the record", func() bool { m := a.vapi.Messages(id); return m[len(m)-1].State == "delivered" })
	if first := a.vapi.Messages(id)[0]; first.State != "failed" || first.Attempts != 1 {
		t.Errorf("%+v", first)
	}
	// Unless it asks for that, by a plan.
	for name, c := range map[string]struct {
		plan     object
		failing  []int
		state    string
		statuses []int
	}{
		"as often as it takes": {object{"type": "fixed", "maxRetries": 3, "baseDelaySeconds": 1}, []int{500, 503}, "delivered", []int{500, 503, 200}},
		"not for ever":         {object{"type": "exponential", "maxRetries": 2, "baseDelaySeconds": 1}, []int{500, 500, 500}, "failed", []int{500, 500, 500}},
		"not what is excluded": {object{"type": "fixed", "maxRetries": 3, "baseDelaySeconds": 1, "excludedStatusCodes": []int{503}}, []int{503}, "failed", []int{503}},
	} {
		ours.fail(c.failing...)
		id := a.callTo(handset, "assistantOverrides", object{"server": merge(object{"backoffPlan": c.plan}, "url", own["url"], "headers", own["headers"])})
		wait(t, name, func() bool { m := a.vapi.Messages(id); return len(m) == 4 && m[3].State == "delivered" })
		if first := a.vapi.Messages(id)[0]; first.State != c.state || !slices.Equal(first.Statuses, c.statuses) {
			t.Errorf("%s: %+v", name, first)
		}
	}
	a.vapiFaults(sandbox.Fault{Match: "deliver end-of-call-report", Do: sandbox.FaultDrop}, sandbox.Fault{Match: "deliver status-update.ringing", Do: sandbox.FaultRepeat, Copies: 2},
		sandbox.Fault{Match: "deliver status-update.ended", Do: sandbox.FaultOtherSignature})
	before := ours.refused()
	id = a.callTo(handset)
	wait(t, "what is left", done(id, all[0], all[0], all[1]))
	wait(t, "the refusal", func() bool { return ours.refused() == before+1 })
	// Strangers are not called.
	id = a.callTo(handset, "assistantOverrides", object{"server": object{"url": "https://stranger.example/x"}})
	a.ended(id)
	for _, m := range a.vapi.Messages(id) {
		if m.State != "lost" || m.Attempts != 0 {
			t.Errorf("%+v", m)
		}
	}
}

func TestInboundAgentCalls(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s), quickly)
	number := a.makes("/phone-number", a.imported())
	assistant := a.assistant("maxDurationSeconds", 30)
	newest := func() object { return a.list("/call?limit=1")[0] }
	for _, c := range []struct {
		name   string
		answer any // to assistant-request; nil: the number has an assistant
		script sandbox.CallScript
		reason string
		lasts  time.Duration // 0: nobody took it
		spoken int64         // seconds at Twilio, of what nobody took
	}{
		{"refused for credit", object{"error": "Sorry, not enough credit."}, sandbox.CallScript{}, "assistant-request-returned-error", 0, 2},
		{"a saved assistant", object{"assistantId": assistant["id"]}, sandbox.CallScript{Talk: 12}, "customer-ended-call", 12 * time.Second, 0},
		{"overrides", object{"assistantId": assistant["id"], "assistantOverrides": object{"maxDurationSeconds": 20}}, sandbox.CallScript{Talk: -1}, "exceeded-max-duration", 20 * time.Second, 0},
		{"an assistant of its own", object{"assistant": object{"firstMessage": "Hi"}}, sandbox.CallScript{Talk: 9, AgentHangsUp: true}, "assistant-ended-call", 9 * time.Second, 0},
		{"nobody", object{}, sandbox.CallScript{}, "assistant-request-returned-no-assistant", 0, 3},
		{"one that is not there", object{"assistantId": vapiKey}, sandbox.CallScript{}, "assistant-not-found", 0, 3},
		{"nonsense", object{"assistant": object{"maxDurationSeconds": 1}}, sandbox.CallScript{}, "assistant-request-returned-invalid-assistant", 0, 3},
		{"the number's assistant", nil, sandbox.CallScript{Talk: -1}, "exceeded-max-duration", 30 * time.Second, 0},
	} {
		before := len(s.all())
		if c.answer != nil {
			s.answer("assistant-request", func(object) any { return c.answer })
		} else if status, e := a.ask(http.MethodPatch, fmt.Sprint("/phone-number/", number["id"]), object{"assistantId": assistant["id"]}); status != http.StatusOK {
			t.Fatalf("%d %v", status, e)
		}
		a.script(c.script)
		sid := a.ring(a.number)
		wait(t, c.name, func() bool { l := a.list("/call?limit=1"); return len(l) == 1 && l[0]["phoneCallProviderId"] == sid })
		got := a.ended(fmt.Sprint(newest()["id"]))
		if got["type"] != "inboundPhoneCall" || got["endedReason"] != c.reason || (got["startedAt"] == nil) != (c.lasts == 0) {
			t.Errorf("%s: %v", c.name, got)
			continue
		}
		if c.lasts != 0 && lasted(t, got) != c.lasts {
			t.Errorf("%s: lasted %s", c.name, lasted(t, got))
		}
		calls := a.twilio.Books().Calls
		if last := calls[len(calls)-1]; c.lasts == 0 && last.Seconds != c.spoken {
			t.Errorf("%s: %d seconds were spoken", c.name, last.Seconds)
		}
		want := []string{"status-update ringing"}
		if c.answer != nil {
			want = append(want, "assistant-request")
		}
		if c.lasts != 0 {
			want = append(want, "status-update in-progress")
		}
		want = append(want, "status-update ended", "end-of-call-report")
		wait(t, "the messages of "+c.name, func() bool {
			_, kinds := s.about(fmt.Sprint(got["id"]))
			slices.Sort(kinds)
			return slices.Equal(kinds, slices.Sorted(slices.Values(want)))
		})
		for _, m := range s.all()[before:] {
			call, _ := m["call"].(object)
			customer, _ := m["customer"].(object)
			if m["type"] == "assistant-request" && (call["type"] != "inboundPhoneCall" || customer["number"] != handset || call["phoneNumberId"] != number["id"]) {
				t.Errorf("%s: %v", c.name, m)
			}
		}
	}
	if status, e := a.ask(http.MethodPatch, fmt.Sprint("/phone-number/", number["id"]), object{"assistantId": nil}); status != http.StatusOK {
		t.Fatalf("%d %v", status, e)
	}
	// A server that fails or is not heard.
	for name, plant := range map[string]func(){
		"an error":  func() { s.fail(http.StatusOK, http.StatusInternalServerError) },
		"no answer": func() { a.vapiFaults(sandbox.Fault{Match: "deliver assistant-request", Do: sandbox.FaultDrop}) },
		"wrong secret": func() {
			a.vapiFaults(sandbox.Fault{Match: "deliver assistant-request", Do: sandbox.FaultOtherSignature})
		},
	} {
		a.vapiFaults()
		s.fail()
		s.answer("status-update", nil)
		plant()
		if name == "an error" { // the status-update may come before or after
			s.fail(http.StatusInternalServerError, http.StatusInternalServerError)
		}
		sid := a.ring(a.number)
		wait(t, name, func() bool { return newest()["phoneCallProviderId"] == sid })
		if got := a.ended(fmt.Sprint(newest()["id"])); got["endedReason"] != "assistant-request-failed" {
			t.Errorf("%s: %v", name, got["endedReason"])
		}
	}
	// A number that was deleted here answers nobody.
	if status, _ := a.ask(http.MethodDelete, fmt.Sprint("/phone-number/", number["id"]), nil); status != http.StatusOK {
		t.Fatal(status)
	}
	sid := a.ring(a.number)
	wait(t, "the failure", func() bool { c := a.twilio.Callbacks(sid); return c[0].State == "failed" })
	// Nor does anybody who is not Twilio.
	resp, err := http.PostForm(a.URL()+"/vapi/twilio/inbound_call", nil)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestNobodyTakesInboundCalls(t *testing.T) {
	a := startVapi(t, quickly) // without a server
	a.makes("/phone-number", a.imported())
	a.ring(a.number)
	wait(t, "the call", func() bool { return len(a.list("/call")) == 1 })
	if got := a.ended(fmt.Sprint(a.list("/call")[0]["id"])); got["endedReason"] != "call-start-error-neither-assistant-nor-server-set" {
		t.Errorf("%v", got)
	}
}

func TestCallsThatAreNotMade(t *testing.T) {
	a := startVapi(t)
	number := a.makes("/phone-number", a.imported())
	assistant := a.assistant()
	body := func(pairs ...any) object {
		return merge(object{"assistantId": assistant["id"], "phoneNumberId": number["id"], "customer": object{"number": handset}}, pairs...)
	}
	for name, c := range map[string]struct {
		body object
		says string
	}{
		"no number":             {body("phoneNumberId", nil), "Need `phoneNumberId`"},
		"an unknown number":     {body("phoneNumberId", vapiKey), "Couldn't Find Phone Number"},
		"no customer":           {body("customer", nil), "And `customer`"},
		"a customer's number":   {body("customer", object{"number": "07400123456"}), "customer.number must be a valid phone number"},
		"no assistant":          {body("assistantId", nil), "Need Either"},
		"an unknown assistant":  {body("assistantId", vapiKey), "Couldn't Find Assistant"},
		"a limit too low":       {body("assistantOverrides", object{"maxDurationSeconds": 9}), "assistantOverrides.maxDurationSeconds must not be less than 10"},
		"metadata of its own":   {body("metadata", object{"a": "b"}), "property metadata should not exist"},
		"a limit of its own":    {body("maxDurationSeconds", 60), "property maxDurationSeconds should not exist"},
		"a number Twilio knows": {body("customer", object{"number": "+15005550001"}), "21217"},
	} {
		if status, e := a.ask(http.MethodPost, "/call", c.body); status != http.StatusBadRequest || !strings.Contains(fmt.Sprint(e["message"]), c.says) {
			t.Errorf("%s: %d %v", name, status, e)
		}
	}
	// A number that Twilio took back calls nobody.
	if err := a.sub.api.DeleteIncomingPhoneNumber(*a.atTwilio().Sid, nil); err != nil {
		t.Fatal(err)
	}
	if status, e := a.ask(http.MethodPost, "/call", body()); status != http.StatusBadRequest || !strings.Contains(fmt.Sprint(e["message"]), "21210") {
		t.Errorf("%d %v", status, e)
	}
	if b := a.vapi.Books(); len(b.Calls) != 0 || b.CallsMade.Asked != 11 || b.CallsMade.Made != 0 {
		t.Errorf("%+v", b)
	}
}

func TestCallData(t *testing.T) {
	s := newServer(t)
	a := startVapi(t, toServer(s), quickly)
	id := a.callTo(handset)
	end := a.ended(id)
	other := a.callTo(usHandset, "assistantOverrides", object{"artifactPlan": object{"recordingEnabled": false, "transcriptPlan": object{"enabled": false}}})
	artifact, _ := a.ended(other)["artifact"].(object)
	if artifact["recordingUrl"] != nil || artifact["transcript"] != nil {
		t.Errorf("%v", artifact)
	}
	for query, want := range map[string][]any{
		"":          {other, id},
		"?limit=1":  {other},
		"?id=" + id: {id},
		fmt.Sprint("?assistantId=", end["assistantId"]):     {id},
		fmt.Sprint("?phoneNumberId=", end["phoneNumberId"]): {other, id},
		"?createdAtLt=2020-01-01T00:00:00Z":                 nil,
	} {
		var got []any
		for _, one := range a.list("/call" + query) {
			got = append(got, one["id"])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if status, got := a.ask(http.MethodPatch, "/call/"+id, object{"name": "Renamed"}); status != http.StatusOK || got["name"] != "Renamed" {
		t.Errorf("%d %v", status, got)
	}
	a.script(sandbox.CallScript{Talk: -1})
	if status, e := a.ask(http.MethodDelete, "/call/"+a.callTo(handset), nil); status != http.StatusBadRequest {
		t.Errorf("deleted while it goes on: %d %v", status, e)
	}
	if status, gone := a.ask(http.MethodDelete, "/call/"+id, nil); status != http.StatusOK || gone["id"] != id {
		t.Errorf("%d %v", status, gone)
	}
	if status, _ := a.ask(http.MethodGet, "/call/"+id, nil); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	if status, _, _ := a.page("/vapi/recordings/" + id + ".wav"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	if b := a.vapi.Books().Calls[0]; b.ID != id || !b.Deleted || b.Milliseconds != 20_000 {
		t.Errorf("%+v", b)
	}
}

func TestFaultsOfAgentCalls(t *testing.T) {
	a := startVapi(t)
	a.callTo(handset)
	body := object{"assistantId": a.assistant()["id"], "phoneNumberId": a.list("/phone-number")[0]["id"], "customer": object{"number": handset}}
	for _, c := range []struct {
		do     string
		status int
		made   bool
	}{
		{sandbox.FaultCutAfterActing, 0, true}, {sandbox.Fault500, 500, false}, {sandbox.Fault500AfterActing, 500, true}, {sandbox.Fault429, 429, false},
	} {
		before := len(a.list("/call"))
		a.vapiFaults(sandbox.Fault{Match: sandbox.MakeAgentCall, Do: c.do})
		status, _, err := a.try(http.MethodPost, "/call", vapiKey, body)
		if status != c.status || (err == nil) != (c.status != 0) {
			t.Errorf("%s: %v %d", c.do, err, status)
		}
		if made := len(a.list("/call")) > before; made != c.made {
			t.Errorf("%s: made %v", c.do, made)
		}
	}
	for match, method := range map[string]string{
		sandbox.ListAgentCalls: "GET /call", sandbox.FetchAgentCall: "GET /call/x", sandbox.DeleteAgentCall: "DELETE /call/x",
	} {
		a.vapiFaults(sandbox.Fault{Match: match, Do: sandbox.FaultRefuse, Code: 403})
		verb, path, _ := strings.Cut(method, " ")
		if status, e := a.ask(verb, path, nil); status != http.StatusForbidden {
			t.Errorf("%s: %d %v", match, status, e)
		}
	}
}

func TestAgentCallsSurviveRestarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	ck := newClock()
	s := newServer(t)
	same := func(o *sandbox.Options) { o.StateFile, o.Now, o.CallSecond = file, ck.Now, time.Second }
	one := startVapi(t, toServer(s), same)
	id := one.callTo(handset)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	p := startTwilio(t, withVapi, toServer(s), same)
	two := &agency{phone: p, vapi: p.Vapi(), client: http.DefaultClient}
	want := []string{"status-update ringing", "status-update in-progress", "status-update ended", "end-of-call-report"}
	wait(t, "the messages", func() bool { ck.Add(time.Second); _, kinds := s.about(id); return slices.Equal(kinds, want) })
	if got := two.agentCall(id); got["endedReason"] != "customer-ended-call" || lasted(t, got) != 20*time.Second {
		t.Errorf("%v", got)
	}
}
