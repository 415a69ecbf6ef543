package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
)

const vapiControl = "/sandbox/vapi"

// mountControl serves what a developer or a test does to the stand-in, as opposed to what Vapi's API offers.
func (v *Vapi) mountControl(mux *http.ServeMux) {
	handle := controls(mux, vapiControl, phonesPath)
	handle("GET /books", func(*http.Request) (any, error) { return v.Books(), nil })
	controlFaults(handle, &v.faults)
	handle("GET /calls/{id}/messages", func(r *http.Request) (any, error) {
		if _, err := v.booked(r.PathValue("id")); err != nil {
			return nil, err
		}
		return map[string]any{"messages": v.Messages(r.PathValue("id"))}, nil
	})
	for word, act := range map[string]func(string) error{"advance": v.Advance, "hang-up": v.HangUp} {
		handle("POST /calls/{id}/"+word, func(r *http.Request) (any, error) {
			if err := act(r.PathValue("id")); err != nil {
				return nil, err
			}
			return v.booked(r.PathValue("id"))
		})
	}
	handle("POST /calls/{id}/tool", func(r *http.Request) (any, error) {
		raw, err := readControl(r, "tool")
		var tool ScriptedTool
		if err == nil && json.Unmarshal(raw, &tool) != nil {
			err = invalid("", "tool", `The body must be {"name": "…", "arguments": {…}}.`)
		}
		if err == nil {
			err = v.UseTool(r.PathValue("id"), tool.Name, tool.Arguments)
		}
		if err != nil {
			return nil, err
		}
		return v.booked(r.PathValue("id"))
	})
}

// booked gives one call as the books show it, or 404.
func (v *Vapi) booked(id string) (BookedAgentCall, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	x := v.calls[id]
	if x == nil {
		return BookedAgentCall{}, vapiMissing("Call", id)
	}
	return v.bookedCall(x), nil
}

// Messages gives the messages about a call in the order they came about; none for an unknown call.
func (v *Vapi) Messages(id string) []Callback {
	v.mu.Lock()
	defer v.mu.Unlock()
	if x := v.calls[id]; x != nil {
		return x.shown()
	}
	return nil
}

// Advance is Twilio.AdvanceCall for the line of a call, which then follows. Errors: 404 for an unknown call, and those
// of AdvanceCall.
func (v *Vapi) Advance(id string) error {
	b, err := v.booked(id)
	if err != nil {
		return err
	}
	return v.twilio.AdvanceCall(b.SID)
}

// HangUp is Twilio.HangUp for the line of a call: the person hangs up. Errors: 404 for an unknown call, and those of
// HangUp.
func (v *Vapi) HangUp(id string) error {
	b, err := v.booked(id)
	if err != nil {
		return err
	}
	return v.twilio.HangUp(b.SID)
}

// UseTool has the assistant of a call in progress call one of its functions. Errors: 404 for an unknown call, a conflict
// when it is not in progress or its assistant has no such function.
func (v *Vapi) UseTool(id, name string, arguments map[string]any) error {
	return v.change(func(c *changes) error {
		x := v.calls[id]
		switch {
		case x == nil:
			return vapiMissing("Call", id)
		case !v.useTool(c, x, ScriptedTool{Name: name, Arguments: arguments}):
			return conflict("The call is not in progress, or its assistant has no function %s.", name)
		default:
			return nil
		}
	})
}

// SetFaults replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (v *Vapi) SetFaults(rules ...Fault) error { return v.faults.set(rules) }

// Faults gives the rules still in force, with the strikes they have left.
func (v *Vapi) Faults() []Fault { return v.faults.get() }

// VapiBooks are everything that the stand-in knows, for comparison with other books. Each list is in the order things
// were made.
type VapiBooks struct {
	Numbers           []BookedImport    `json:"numbers"`
	Imports           Creations         `json:"imports"`
	Assistants        []BookedAssistant `json:"assistants"`
	AssistantRequests Creations         `json:"assistant_requests"`
	Calls             []BookedAgentCall `json:"calls"`
	CallsMade         Creations         `json:"calls_made"`
	// Undelivered counts the messages that were not delivered: pending, failed or lost.
	Undelivered int `json:"undelivered"`
}

// Imported gives the numbers that are there now.
func (b VapiBooks) Imported() []BookedImport {
	var out []BookedImport
	for _, n := range b.Numbers {
		if n.Deleted.IsZero() {
			out = append(out, n)
		}
	}
	return out
}

// Books lists everything afresh.
func (v *Vapi) Books() VapiBooks {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := VapiBooks{
		Numbers: []BookedImport{}, Imports: *v.creation(countImports),
		Assistants: []BookedAssistant{}, AssistantRequests: *v.creation(countAssistants),
		Calls: []BookedAgentCall{}, CallsMade: *v.creation(countAgentCalls),
	}
	for _, x := range v.callOrder {
		b.Calls = append(b.Calls, v.bookedCall(x))
		b.Undelivered += x.undelivered()
	}
	for _, r := range v.numberOrder {
		b.Numbers = append(b.Numbers, r.bookedImport())
	}
	for _, r := range v.assistantOrder {
		b.Assistants = append(b.Assistants, r.bookedAssistant())
	}
	return b
}

// String sums the books up in a line, for test failures.
func (b VapiBooks) String() string {
	return fmt.Sprintf("%d numbers imported of %d, %d assistants ever, %d calls, %d undelivered messages",
		len(b.Imported()), len(b.Numbers), len(b.Assistants), len(b.Calls), b.Undelivered)
}
