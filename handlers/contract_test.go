package handlers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/PuerkitoBio/goquery"
	"github.com/google/uuid"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"

	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
	"ringfence/internal/webhooks"
)

// contract holds answers against the API's description, the one that the site itself serves.
type contract struct {
	mu sync.Mutex
	validator.Validator
	mux *http.ServeMux // the description's operations
	// paths are the description's, each with its methods in small letters.
	paths map[string]map[string]any
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
	c := &contract{Validator: v, mux: http.NewServeMux(), paths: paths.Paths}
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
	_, pattern := c.mux.Handler(asked)
	if methods, exact := c.paths[path]; exact && methods[strings.ToLower(method)] == nil && method != http.MethodHead {
		pattern = "" // OpenAPI takes the path that is written out before one with an id
	}
	if pattern == "" {
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
		Type, Title, Detail, Code string
		Status                    int
		RequestID                 string `json:"request_id"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || p.Detail == "" || p.Code == "" || p.RequestID != header.Get("X-Request-Id") || status < 400 {
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
		{"nothing there", "GET", "/api/v1/nothing", 404, `{"type":"about:blank","title":"Not Found","status":404,"detail":"None.","code":"not_found","request_id":"` + strings.Repeat("A", 26) + `"}`, asProblem, true},
		{"nothing there, without a code", "GET", "/api/v1/nothing", 404, `{"type":"about:blank","title":"Not Found","status":404,"detail":"None.","request_id":"` + strings.Repeat("A", 26) + `"}`, asProblem, false},
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

// described is what the tests below need of the description.
type described struct {
	Paths map[string]map[string]struct {
		RequestBody struct {
			Content map[string]struct {
				Example  json.RawMessage
				Examples map[string]struct{ Value json.RawMessage }
			}
		}
		Responses map[string]struct {
			Ref     string `json:"$ref"`
			Content map[string]struct{ Example json.RawMessage }
			Headers map[string]struct {
				Ref string `json:"$ref"`
			}
		}
	}
	Components struct {
		Headers   map[string]struct{ Example any }
		Responses map[string]json.RawMessage
		Schemas   struct {
			Code struct {
				OneOf []struct{ Const string }
			}
		}
	}
}

// description is what the site says of its API.
func description(t *testing.T, s *site) (d described) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.browser().get("/api/openapi.json").body), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Every example of an answer keeps to the contract itself, and every example of a request is done when it is sent.
func TestExamplesAreReal(t *testing.T) {
	var deps handlers.Deps
	s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { deps = *d } })
	key, d := s.programKey(), description(t, s)
	answers, requests := 0, 0
	for path, methods := range d.Paths {
		for method, operation := range methods {
			done := 0
			for status, r := range operation.Responses {
				if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
					if err := json.Unmarshal(d.Components.Responses[name], &r); err != nil {
						t.Fatal(err)
					}
				}
				number, err := strconv.Atoi(status)
				if err != nil || len(r.Content) != 1 {
					t.Fatalf("%s %s: %s, with %d kinds of content", method, path, status, len(r.Content))
				}
				if number < 300 {
					done = number
				}
				for kind, content := range r.Content {
					answers++
					header := http.Header{"Content-Type": {kind}}
					for name, h := range r.Headers {
						if example := d.Components.Headers[strings.TrimPrefix(h.Ref, "#/components/headers/")].Example; example != nil {
							header.Set(name, fmt.Sprint(example))
						}
					}
					if err := theContract.check(strings.ToUpper(method), path, number, header, content.Example); err != nil {
						t.Errorf("%s %s: the example of %s: %v", method, path, status, err)
					}
				}
			}
			examples := map[string]json.RawMessage{}
			if content, ok := operation.RequestBody.Content["application/json"]; ok {
				if content.Example != nil {
					examples["the example"] = content.Example
				}
				for name, e := range content.Examples {
					examples[name] = e.Value
				}
			}
			for name, body := range examples {
				requests++
				to := path
				switch {
				case strings.HasPrefix(path, "/api/v1/agents/{id}"):
					to = strings.ReplaceAll(path, "{id}", s.newAgent("Example", false).ID.String())
					if strings.HasSuffix(path, "/number") { // the example's number is nobody's
						body = fmt.Appendf(nil, `{"number_id":%q}`, s.newNumber().ID)
					}
				case path == "/api/v1/calls": // there may be several agents by now, and the example's is nobody's
					var call map[string]any
					if err := json.Unmarshal(body, &call); err != nil {
						t.Fatal(err)
					}
					call["agent_id"] = s.newCaller("Example").ID
					filled, err := json.Marshal(call)
					if err != nil {
						t.Fatal(err)
					}
					body = filled
				case strings.HasPrefix(path, "/api/v1/webhook-endpoints/"):
					e, _, _, err := deps.Webhooks.Create(t.Context(), webhooks.NewEndpoint{
						OrgID: s.org, URL: "https://example.com/" + uuid.NewString(), Types: webhooks.Types, Key: uuid.NewString(), Actor: audit.System("test"),
					})
					if err != nil {
						t.Fatal(err)
					}
					to = strings.ReplaceAll(path, "{id}", e.ID.String())
				case strings.Contains(path, "{id}"):
					h, err := deps.Gates.Authorise(t.Context(), wallet.HoldRequest{
						OrgID: s.org, Action: wallet.ActionSMS, Quantity: 2, Source: wallet.SourceAPI, Key: uuid.NewString(), Actor: audit.System("test"),
					})
					if err != nil {
						t.Fatal(err)
					}
					to = strings.ReplaceAll(path, "{id}", h.ID.String())
				}
				wantStatus(t, path+", "+name, s.browser().program(strings.ToUpper(method), to, key, string(body)), done)
			}
		}
	}
	if answers < 40 || requests < 8 {
		t.Errorf("only %d answers and %d requests were seen", answers, requests)
	}
}

// Every code that the API's own parts give is explained in the description. (That it explains no other is for the page to
// see, which is not drawn then.)
func TestEveryCodeIsExplained(t *testing.T) {
	explained := map[string]bool{}
	for _, c := range description(t, newSite(t)).Components.Schemas.Code.OneOf {
		explained[c.Const] = true
	}
	named := regexp.MustCompile(`(?:Code: +|ended\()"([a-z_]+)"[,)]|answer\{.*, "([a-z_]+)"\}`)
	// No operation answers with these: they are of pages and of addresses that are no operation's.
	elsewhere := []string{
		"conflict", "declined", "method_not_allowed",
		"price_changed", "credential_needed", "number_not_releasing", "number_not_waiting", "number_changed", "no_account", "caller_id_removing",
		"under_way",
	}
	seen := 0
	for _, folder := range []string{".", "../internal/auth", "../internal/wallet", "../internal/knowledge", "../internal/telephony", "../internal/webhooks"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range named.FindAllSubmatch(source, -1) {
				code := string(m[1]) + string(m[2])
				if seen++; !explained[code] && !slices.Contains(elsewhere, code) {
					t.Errorf("%s gives the code %q, which docs/openapi.yaml does not explain", file, code)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d codes were seen", seen)
	}
}

// The description is cached and asked for again with its tag; people read the same on a page, signed in or not.
func TestReference(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	res := b.get("/api/openapi.json")
	wantStatus(t, "the description", res, http.StatusOK)
	tag := res.Header.Get("ETag")
	if res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Cache-Control") != "public, max-age=300" || len(tag) < 10 || !json.Valid([]byte(res.body)) {
		t.Errorf("the description comes with %v", res.Header)
	}
	if again := b.get("/api/openapi.json", "If-None-Match", tag); again.StatusCode != http.StatusNotModified || again.body != "" || again.Header.Get("ETag") != tag {
		t.Errorf("with its tag: %s %v", again.Status, again.Header)
	}
	wantStatus(t, "with another tag", b.get("/api/openapi.json", "If-None-Match", `"other"`), http.StatusOK)
	if head := b.do("HEAD", "/api/openapi.json", nil); head.StatusCode != http.StatusOK || head.body != "" || head.ContentLength != int64(len(res.body)) {
		t.Errorf("HEAD: %s, %d", head.Status, head.ContentLength)
	}
	if strings.Contains(res.body, "ringfence.example") {
		t.Error("the description still has its placeholder")
	}

	page := b.get("/api/docs")
	wantStatus(t, "the page", page, http.StatusOK)
	if page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page comes with %v", page.Header)
	}
	doc := page.doc(t)
	for path, methods := range description(t, s).Paths {
		for method := range methods {
			if doc.Find("section:has(code:contains('"+path+"')):contains('"+strings.ToUpper(method)+"')").Length() == 0 {
				t.Errorf("the page has no %s %s", method, path)
			}
		}
	}
	wantText(t, "the page", page, "#idempotency", "1 to 255 visible ASCII characters")
	wantText(t, "the page", page, "#createHold", "holds:write", "Idempotency-Key", "In the header: string, 1 to 255 characters", "integer, 1 to 43200", "Required", "seconds, up to 43200",
		`curl http://127.0.0.1:8080/api/v1/holds`, `-d '{"action": "sms", "quantity": 2, "destination": "+447400123456"}'`, "201 Created", "destination_not_offered")
	wantText(t, "the page", page, "#captureHold", "May be left out", "/api/v1/holds/019837a4-5f1c-7d1e-9b60-3f5d2c81a7e4/capture")
	wantText(t, "the page", page, "#code-hold_expired", "409", "Make a new one")
	ids := map[string]bool{}
	doc.Find("[id]").Each(func(_ int, e *goquery.Selection) {
		if id := e.AttrOr("id", ""); ids[id] {
			t.Errorf("two elements are %q", id)
		} else {
			ids[id] = true
		}
	})
	doc.Find(`a[href^="#"]`).Each(func(_ int, a *goquery.Selection) {
		if to := a.AttrOr("href", ""); !ids[to[1:]] {
			t.Errorf("%s leads nowhere", to)
		}
	})
	owner := s.as("owner@harbour.example")
	wantText(t, "signed in", owner.get("/api/docs"), `nav[aria-label="Main"]`, "Wallet")
	if owner.get("/settings/keys").doc(t).Find(`#keys a[href="/api/docs"]`).Length() != 1 {
		t.Error("the settings do not lead to the reference")
	}
}
