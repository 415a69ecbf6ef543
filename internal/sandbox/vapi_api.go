package sandbox

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Matches of faults.
const (
	// ImportNumber is for requests that import a number, ListImported, ChangeImported and DeleteImported for those imported.
	ImportNumber   = "POST " + vapiPath + "/phone-number"
	ListImported   = "GET " + vapiPath + "/phone-number"
	ChangeImported = "PATCH " + vapiPath + "/phone-number/*"
	DeleteImported = "DELETE " + vapiPath + "/phone-number/*"
	// MakeAssistant, ChangeAssistant and DeleteAssistant are for assistants.
	MakeAssistant   = "POST " + vapiPath + "/assistant"
	ChangeAssistant = "PATCH " + vapiPath + "/assistant/*"
	DeleteAssistant = "DELETE " + vapiPath + "/assistant/*"
	// MakeAgentCall, ListAgentCalls, FetchAgentCall and DeleteAgentCall are for calls; see also ControlCall.
	MakeAgentCall   = "POST " + vapiPath + "/call"
	ListAgentCalls  = "GET " + vapiPath + "/call"
	FetchAgentCall  = "GET " + vapiPath + "/call/*"
	DeleteAgentCall = "DELETE " + vapiPath + "/call/*"
)

// vapiFaults are what faults do here. Nothing is recorded, since there are no idempotency keys.
var vapiFaults = faultWords{
	edge:      []string{FaultTimeout, Fault429, Fault503, Fault500, FaultRefuse},
	execution: []string{Fault500AfterActing, FaultTimeoutAfterActing, FaultCutAfterActing, FaultDelay},
	delivery:  everyDelivery,
	codes:     [2]int{http.StatusBadRequest, 599},
}

// vapiAsked is an API request that has been read and admitted.
type vapiAsked struct {
	path  string
	id    string
	query url.Values
	body  map[string]any
}

// vapiOperation answers an API request. It runs under the mutex and leaves the state alone when it errs.
type vapiOperation func(v *Vapi, c *changes, in *vapiAsked) (any, error)

// vapiRoute is one operation of the API.
type vapiRoute struct {
	method, path string
	op           vapiOperation
	// counts is what it makes, which it answers with 201.
	counts string
	// open says that the path is all that is needed: it is not to be guessed.
	open bool
}

// What is counted of the requests that make something.
const (
	countImports    = "phone_numbers"
	countAssistants = "assistants"
	countAgentCalls = "calls"
)

var vapiRoutes = []vapiRoute{
	{"POST", "/phone-number", importNumber, countImports, false},
	{"GET", "/phone-number", listImported, "", false},
	{"GET", "/phone-number/{id}", fetchImported, "", false},
	{"PATCH", "/phone-number/{id}", changeImported, "", false},
	{"DELETE", "/phone-number/{id}", deleteImported, "", false},

	{"POST", "/assistant", makeAssistant, countAssistants, false},
	{"GET", "/assistant", listAssistants, "", false},
	{"GET", "/assistant/{id}", fetchAssistant, "", false},
	{"PATCH", "/assistant/{id}", changeAssistant, "", false},
	{"DELETE", "/assistant/{id}", deleteAssistant, "", false},

	{"POST", "/call", makeAgentCall, countAgentCalls, false},
	{"GET", "/call", listAgentCalls, "", false},
	{"GET", "/call/{id}", fetchAgentCall, "", false},
	{"PATCH", "/call/{id}", changeAgentCall, "", false},
	{"DELETE", "/call/{id}", deleteAgentCall, "", false},

	{"POST", livePath + "{id}/control", controlCall, "", true},
}

func (v *Vapi) mountAPI(mux *http.ServeMux) {
	for _, route := range vapiRoutes {
		mux.HandleFunc(route.method+" "+vapiPath+route.path, func(w http.ResponseWriter, r *http.Request) { v.serveAPI(w, r, route) })
	}
	mux.HandleFunc(vapiPath+"/", func(w http.ResponseWriter, r *http.Request) {
		v.serveAPI(w, r, vapiRoute{op: func(*Vapi, *changes, *vapiAsked) (any, error) {
			return nil, vapiFail(http.StatusNotFound, "Cannot %s %s", r.Method, strings.TrimPrefix(r.URL.Path, vapiPath))
		}})
	})
}

func (v *Vapi) serveAPI(w http.ResponseWriter, r *http.Request, route vapiRoute) {
	in, err := v.readAsked(r, route.open)
	if err != nil {
		v.fail(w, err)
		return
	}
	if route.counts != "" {
		v.count(route.counts)
	}
	what := r.Method + " " + r.URL.Path
	fault := v.faults.strike(what, vapiFaults.edge)
	if fault.Do == FaultTimeout {
		silence(v.life, w, r, fault)
		return
	}
	if e := vapiRefusal(fault); e != nil {
		v.fail(w, e)
		return
	}
	fault = v.faults.strike(what, vapiFaults.execution)
	if fault.Do == FaultDelay {
		// The caller may give up meanwhile; the sandbox acts all the same.
		sleep(v.life, fault.wait())
	}
	var out any
	err = v.change(func(c *changes) (err error) {
		out, err = route.op(v, c, in)
		return err
	})
	status := http.StatusOK
	if route.counts != "" {
		status = http.StatusCreated
	}
	switch {
	case fault.Do == FaultTimeoutAfterActing || fault.Do == FaultCutAfterActing:
		silence(v.life, w, r, fault)
	case err != nil:
		v.fail(w, err)
	case fault.Do == Fault500AfterActing:
		v.fail(w, vapiFail(http.StatusInternalServerError, "Internal server error"))
	default:
		writeJSON(w, status, out)
	}
}

func (v *Vapi) fail(w http.ResponseWriter, err error) {
	var e *vapiError
	if !errors.As(err, &e) {
		v.log.ErrorContext(v.life, "sandbox vapi: request failed", "error", err)
		e = vapiFail(http.StatusInternalServerError, "The sandbox failed: %s", err)
	}
	writeJSON(w, e.Status, e)
}

// readAsked admits a request that carries the key or needs none, and reads it.
func (v *Vapi) readAsked(r *http.Request, open bool) (*vapiAsked, error) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !open && (!ok || subtle.ConstantTimeCompare([]byte(key), []byte(v.key)) != 1) {
		return nil, vapiFail(http.StatusUnauthorized,
			"Invalid Key. Hot tip, you may be using the private key instead of the public key, or vice versa.")
	}
	in := &vapiAsked{path: r.URL.Path, id: r.PathValue("id"), query: r.URL.Query(), body: map[string]any{}}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, vapiFail(http.StatusRequestEntityTooLarge, "request entity too large")
	}
	if len(raw) > 0 {
		if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
			return nil, vapiFail(http.StatusBadRequest, "The body must be application/json, not %q.", ct)
		}
		if err := json.Unmarshal(raw, &in.body); err != nil {
			return nil, vapiFail(http.StatusBadRequest, "%s", err)
		}
	}
	return in, nil
}

// hold says what is wrong with the body of a request, if anything.
func (in *vapiAsked) hold(s shape) error { return vapiInvalid(s("", in.body)) }

// count counts a request that asks for something, and has that written without waiting.
func (v *Vapi) count(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.begin()
	v.creation(what).Asked++
	c.put(bucketVapiCreations, what, v.creation(what))
	c.finish()
}

// made counts that something was made.
func (v *Vapi) made(c *changes, what string) {
	v.creation(what).Made++
	c.put(bucketVapiCreations, what, v.creation(what))
}

func (v *Vapi) creation(what string) *Creations {
	if v.creations[what] == nil {
		v.creations[what] = &Creations{}
	}
	return v.creations[what]
}

const (
	vapiPageDefault = 100
	vapiPageMax     = 1000
)

// vapiPage reads which part of a list is asked for: its newest rows, of those that the times let pass.
type vapiPage struct {
	limit  int
	bounds []func(created, updated int64) bool
}

// page reads the parameters that all lists have; others are those the list takes besides.
func (in *vapiAsked) page(others ...string) (vapiPage, error) {
	p := vapiPage{limit: vapiPageDefault}
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(in.query)) {
		raw := in.query.Get(name)
		column, sign := name, ""
		if len(name) > 2 {
			column, sign = name[:len(name)-2], name[len(name)-2:]
		}
		switch {
		case slices.Contains(others, name):
		case name == "limit":
			n, err := strconv.Atoi(raw)
			if err != nil || n < 0 || n > vapiPageMax {
				faults = append(faults, "limit must not be greater than "+strconv.Itoa(vapiPageMax))
			}
			p.limit = n
		case (column == "createdAt" || column == "updatedAt") && compare[sign] != nil:
			at, err := time.Parse(time.RFC3339, raw)
			if err != nil {
				faults = append(faults, name+" must be a valid ISO 8601 date string")
			}
			p.bounds = append(p.bounds, func(created, updated int64) bool {
				if column == "updatedAt" {
					created = updated
				}
				// What is shown has milliseconds, and is compared as shown.
				return compare[sign](cmp.Compare(created/int64(time.Millisecond), at.UnixMilli()))
			})
		default:
			faults = append(faults, "property "+name+" should not exist")
		}
	}
	return p, vapiInvalid(faults)
}

var compare = map[string]func(order int) bool{
	"Gt": func(o int) bool { return o > 0 }, "Lt": func(o int) bool { return o < 0 },
	"Ge": func(o int) bool { return o >= 0 }, "Le": func(o int) bool { return o <= 0 },
}

// passes says whether a row's times let it onto the page.
func (p vapiPage) passes(created, updated int64) bool {
	return !slices.ContainsFunc(p.bounds, func(within func(int64, int64) bool) bool { return !within(created, updated) })
}

// listRows gives the page of a table, newest first.
func (v *Vapi) listRows(t vapiTable, in *vapiAsked) (any, error) {
	p, err := in.page()
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, r := range slices.Backward(*t.order) {
		if len(out) < p.limit && r.Deleted == 0 && p.passes(r.Created, r.Updated) {
			out = append(out, v.view(r))
		}
	}
	return out, nil
}
