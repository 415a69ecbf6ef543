package handlers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"

	"ringfence/handlers"
)

// contract holds answers against the API's description, the one that the site itself serves.
type contract struct {
	mu sync.Mutex
	validator.Validator
	mux *http.ServeMux // the description's operations
}

// notInContract are headers that are the same on every answer of the site, or HTTP's own. Any other must be described.
var notInContract = []string{
	"Cache-Control", "Content-Length", "Content-Security-Policy", "Content-Type", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Date",
	"Permissions-Policy", "Referrer-Policy", "Strict-Transport-Security", "X-Content-Type-Options",
}

// theContract is the description as the first site of the tests serves it; it is the same for all of them.
var theContract struct {
	sync.Once
	*contract
	err error
}

func newContract(spec []byte) (*contract, error) {
	document, err := libopenapi.NewDocument(spec)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(document, config.WithFormatAssertions(), config.WithStrictMode(), config.WithStrictIgnoredHeaders(notInContract...))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	var paths struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(spec, &paths); err != nil {
		return nil, err
	}
	c := &contract{Validator: v, mux: http.NewServeMux()}
	for path, methods := range paths.Paths {
		for method := range methods {
			c.mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	return c, nil
}

// watch is h with every answer under /api/v1 held against the description h serves, whoever asks for it and how.
func watch(t *testing.T, h http.Handler) http.Handler {
	t.Helper()
	theContract.Do(func() {
		spec := httptest.NewRecorder()
		h.ServeHTTP(spec, httptest.NewRequest(http.MethodGet, "/api/openapi.json", http.NoBody))
		theContract.contract, theContract.err = newContract(spec.Body.Bytes())
	})
	if theContract.err != nil {
		t.Fatalf("the API's description: %v", theContract.err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/v1") {
			h.ServeHTTP(w, r)
			return
		}
		out := &watched{ResponseWriter: w}
		h.ServeHTTP(out, r)
		if out.status == 499 { // for the log only: nobody was there to read it
			return
		}
		if err := theContract.check(r.Method, r.URL.Path, out.status, w.Header(), out.body.Bytes()); err != nil {
			t.Errorf("%s %s breaks the contract of the API: %v\n%d %v\n%s", r.Method, r.URL.Path, err, out.status, w.Header(), &out.body)
		}
	})
}

// watched remembers what was answered.
type watched struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *watched) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// check holds one answer against the description: the status is one of its operation's, with its headers and its kind of
// content, and nothing is in the body that is not described. Where there is no operation it must be a problem.
func (c *contract) check(method, path string, status int, header http.Header, body []byte) error {
	asked := httptest.NewRequest(method, "/", http.NoBody)
	asked.URL.Path = path
	if _, pattern := c.mux.Handler(asked); pattern == "" {
		if status/100 == 3 { // to the clean spelling of the path
			return nil
		}
		return unmatched(method, status, header, body)
	}
	if method == http.MethodHead {
		return nil // a GET without its body
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, errs := c.ValidateHttpResponse(asked, &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: asked})
	if len(errs) == 0 {
		return nil
	}
	var all []string
	for _, e := range errs {
		all = append(all, e.Message+": "+e.Reason)
		for _, s := range e.SchemaValidationErrors {
			all = append(all, "  "+s.FieldPath+": "+s.Reason)
		}
	}
	return fmt.Errorf("%s", strings.Join(all, "\n"))
}

// unmatched checks the answer to what no operation is for.
func unmatched(method string, status int, header http.Header, body []byte) error {
	if header.Get("Content-Type") != "application/problem+json" {
		return fmt.Errorf("the content is %q", header.Get("Content-Type"))
	}
	if method == http.MethodHead {
		return nil
	}
	var p struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || p.Detail == "" || p.RequestID != header.Get("X-Request-Id") || status < 400 {
		return fmt.Errorf("that is no problem of status %d", status)
	}
	return nil
}

// The description is OpenAPI 3.1, and has exactly the routes under /api/v1 that there are.
func TestContractIsWhole(t *testing.T) {
	s := newSite(t)
	if ok, errs := theContract.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Error(e)
		}
	}
	var spec struct {
		OpenAPI string
		Servers []struct{ URL string }
		Paths   map[string]map[string]struct {
			Security []map[string][]string
		}
	}
	res := s.browser().get("/api/openapi.json")
	if err := json.Unmarshal([]byte(res.body), &spec); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(spec.OpenAPI, "3.1.") || len(spec.Servers) != 1 || spec.Servers[0].URL != "http://127.0.0.1:8080" {
		t.Errorf("OpenAPI %s, servers %v", spec.OpenAPI, spec.Servers)
	}
	described := map[string]bool{}
	for path, methods := range spec.Paths {
		for method, operation := range methods {
			described[strings.ToUpper(method)+" "+path] = true
			if len(operation.Security) != 1 || len(operation.Security[0]["bearer"]) != 1 {
				t.Errorf("%s %s does not name its scope: %v", method, path, operation.Security)
			}
		}
	}
	for _, rt := range handlers.Routes() {
		name := rt.Method + " " + rt.Pattern
		if strings.HasPrefix(rt.Pattern, "/api/v1/") && !described[name] {
			t.Errorf("%s is not described in docs/openapi.yaml", name)
		}
		delete(described, name)
	}
	for name := range described {
		t.Errorf("docs/openapi.yaml describes %s, which is no route", name)
	}
}

// What is held against the contract is refused for each thing that may be wrong with it. Without this the other tests
// would only show that nobody looks.
func TestContractIsHeld(t *testing.T) {
	newSite(t)
	header := func() http.Header {
		return http.Header{
			"Content-Type": {"application/json"}, "X-Request-Id": {strings.Repeat("A", 26)}, "Ratelimit-Policy": {`"second";q=3;w=1`}, "Ratelimit": {`"second";r=2;t=1`},
		}
	}
	problem := func(more string) string {
		return `{"type":"about:blank","title":"Payment Required","status":402,"detail":"Top up.","request_id":"R",` + more + `"available_pence":1,"debt_pence":0,"shortfall_pence":1,"top_up_url":"https://ringfence.example/wallet"}`
	}
	const wallet, hold = `{"balance_pence":1,"held_pence":0,"debt_pence":0,"available_pence":1,"currency":"gbp"}`,
		`{"id":"019837a4-5f1c-7d1e-9b60-3f5d2c81a7e4","action":"sms","quantity":1,"amount_pence":10,"state":"open","expires_at":"2026-07-01T12:45:00Z","created_at":"2026-07-01T12:30:00Z"}`
	for _, c := range []struct {
		what, method, path string
		status             int
		body               string
		spoil              func(http.Header)
		holds              bool
	}{
		{"a wallet", "GET", "/api/v1/wallet", 200, wallet, nil, true},
		{"a field renamed", "GET", "/api/v1/wallet", 200, strings.Replace(wallet, "held_pence", "held", 1), nil, false},
		{"a field too many", "GET", "/api/v1/wallet", 200, strings.Replace(wallet, `{`, `{"frozen":false,`, 1), nil, false},
		{"a field missing", "GET", "/api/v1/wallet", 200, strings.Replace(wallet, `"debt_pence":0,`, ``, 1), nil, false},
		{"pounds", "GET", "/api/v1/wallet", 200, strings.Replace(wallet, `:1,`, `:1.5,`, 1), nil, false},
		{"no JSON", "GET", "/api/v1/wallet", 200, "<html>", nil, false},
		{"another status", "GET", "/api/v1/wallet", 202, wallet, nil, false},
		{"another kind of content", "GET", "/api/v1/wallet", 200, wallet, func(h http.Header) { h.Set("Content-Type", "text/html") }, false},
		{"a header missing", "GET", "/api/v1/wallet", 200, wallet, func(h http.Header) { h.Del("RateLimit") }, false},
		{"a header too many", "GET", "/api/v1/wallet", 200, wallet, func(h http.Header) { h.Set("Idempotent-Replayed", "true") }, false},
		{"a hold", "POST", "/api/v1/holds", 201, hold, nil, true},
		{"a hold again", "POST", "/api/v1/holds", 201, hold, func(h http.Header) { h.Set("Idempotent-Replayed", "true") }, true},
		{"a time that is none", "POST", "/api/v1/holds", 201, strings.Replace(hold, "12:45:00Z", "12:45", 1), nil, false},
		{"a state that is none", "POST", "/api/v1/holds", 201, strings.Replace(hold, `"open"`, `"in_flight"`, 1), nil, false},
		{"a refusal", "POST", "/api/v1/holds", 402, problem(`"code":"debt","required_pence":2,`), asProblem, true},
		{"a refusal as JSON alone", "POST", "/api/v1/holds", 402, problem(`"code":"debt","required_pence":2,`), nil, false},
		{"a refusal without its figures", "POST", "/api/v1/holds", 402, problem(`"code":"debt",`), asProblem, false},
		{"a code of another status", "POST", "/api/v1/holds", 402, problem(`"code":"undecided","required_pence":2,`), asProblem, false},
		{"a refusal of another status", "POST", "/api/v1/holds", 403, problem(`"code":"debt","required_pence":2,`), asProblem, false},
		{"nothing there", "GET", "/api/v1/nothing", 404, `{"type":"about:blank","title":"Not Found","status":404,"detail":"None.","request_id":"` + strings.Repeat("A", 26) + `"}`, asProblem, true},
		{"nothing there, as a page", "GET", "/api/v1/nothing", 404, "<html>", nil, false},
		{"nothing there, with success", "GET", "/api/v1/nothing", 200, wallet, nil, false},
	} {
		h := header()
		if c.spoil != nil {
			c.spoil(h)
		}
		if err := theContract.check(c.method, c.path, c.status, h, []byte(c.body)); (err == nil) != c.holds {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func asProblem(h http.Header) { h.Set("Content-Type", "application/problem+json") }
