package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// control answers one request of a developer or a test.
type control func(r *http.Request) (any, error)

// controls gives what mounts a stand-in's controls below a path. Answers are JSON; a browser's form post is sent to
// the page back instead.
func controls(mux *http.ServeMux, path, back string) func(pattern string, fn control) {
	return func(pattern string, fn control) {
		method, rest, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+path+rest, func(w http.ResponseWriter, r *http.Request) {
			v, err := fn(r)
			answerControl(w, r, back, v, err)
		})
	}
}

func answerControl(w http.ResponseWriter, r *http.Request, back string, v any, err error) {
	var ours *apiError
	var twilios *twilioError
	var vapis *vapiError
	switch {
	case err == nil && fromForm(r):
		if u, err := url.Parse(r.Referer()); err == nil && u.Host == r.Host && u.Path == phonesPath {
			back = phonesPath // which has forms of several stand-ins
		}
		http.Redirect(w, r, back, http.StatusSeeOther)
	case err == nil:
		writeJSON(w, http.StatusOK, v)
	case errors.As(err, &ours):
		writeJSON(w, ours.Status, map[string]any{"error": ours})
	case errors.As(err, &twilios):
		writeJSON(w, twilios.Status, map[string]any{"error": twilios})
	case errors.As(err, &vapis):
		writeJSON(w, vapis.Status, map[string]any{"error": vapis})
	default:
		writeJSON(w, http.StatusInternalServerError, map[string]any{"error": internalError(err.Error())})
	}
}

// fromForm reports whether a person posted the form of a page.
func fromForm(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// controlFaults mounts the controls of a stand-in's faults. Setting them takes a list of rules, one rule, or
// {"rules": […]} as JSON, or the same in the form field rules.
func controlFaults(handle func(string, control), faults *faultList) {
	view := func() any { return map[string]any{"rules": faults.get()} }
	handle("GET /faults", func(*http.Request) (any, error) { return view(), nil })
	handle("DELETE /faults", func(*http.Request) (any, error) {
		err := faults.set(nil)
		return view(), err
	})
	handle("POST /faults", func(r *http.Request) (any, error) {
		raw, err := readControl(r, "rules")
		if err != nil {
			return nil, err
		}
		rules, err := parseFaults(raw)
		if err == nil {
			err = faults.set(rules)
		}
		if err != nil {
			return nil, invalid("", "rules", "Invalid rules: %s", err)
		}
		return view(), nil
	})
}

func parseFaults(raw []byte) ([]Fault, error) {
	strict := func(into any) error {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		return dec.Decode(into)
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		var rules []Fault
		return rules, strict(&rules)
	}
	var wrapped struct {
		Fault

		Rules []Fault `json:"rules"`
	}
	if err := strict(&wrapped); err != nil {
		return nil, err
	}
	if wrapped.Match != "" {
		wrapped.Rules = append(wrapped.Rules, wrapped.Fault)
	}
	return wrapped.Rules, nil
}

// readControl gives the JSON of a control request: the body, or a form field of that name.
func readControl(r *http.Request, field string) ([]byte, error) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if v := r.FormValue(field); v != "" {
			return []byte(v), nil
		}
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, invalid("", "", "The request body could not be read.")
	}
	return raw, nil
}
