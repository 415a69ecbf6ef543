package sandbox

import (
	"fmt"
	"net/http"
)

const vapiControl = "/sandbox/vapi"

// mountControl serves what a developer or a test does to the stand-in, as opposed to what Vapi's API offers.
func (v *Vapi) mountControl(mux *http.ServeMux) {
	handle := controls(mux, vapiControl, "/sandbox/twilio/")
	handle("GET /books", func(*http.Request) (any, error) { return v.Books(), nil })
	controlFaults(handle, &v.faults)
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
	return fmt.Sprintf("%d numbers imported of %d, %d assistants ever", len(b.Imported()), len(b.Numbers), len(b.Assistants))
}
