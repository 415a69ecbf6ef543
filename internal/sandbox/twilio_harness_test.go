package sandbox_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/twilio/twilio-go"
	twilioclient "github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

const (
	testAccount = "AC00112233445566778899aabbccddeeff"
	otherSub    = "ACffeeddccbbaa99887766554433221100"
	testToken   = "0123456789abcdef0123456789abcdef"
	ownNumber   = "+15005550006"
	ukNumber    = "+447400123999"
	handset     = "+447400123456"
	usHandset   = "+14155552671"
)

// redirect sends to the sandbox what would go to Twilio.
type redirect struct{ host string }

func (r redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host, req.Host = "http", r.host, r.host
	return http.DefaultTransport.RoundTrip(req)
}

// twilioAPI is Twilio's own client: only the transport differs.
func (b *box) twilioAPI(account, token string, timeout time.Duration) *openapi.ApiService {
	b.t.Helper()
	return b.twilioClient(account, token, timeout).Api
}

func (b *box) twilioClient(account, token string, timeout time.Duration) *twilio.RestClient {
	b.t.Helper()
	u, err := url.Parse(b.URL())
	if err != nil {
		b.t.Fatal(err)
	}
	c := &twilioclient.Client{
		Credentials: twilioclient.NewCredentials(account, token),
		HTTPClient:  &http.Client{Transport: redirect{host: u.Host}, Timeout: timeout},
	}
	c.SetAccountSid(account)
	return twilio.NewRestClientWithParams(twilio.ClientParams{Client: c})
}

// withTwilio switches Twilio on: messages move by hand unless a test says otherwise.
func withTwilio(o *sandbox.Options) {
	o.TwilioAccountSID, o.TwilioAuthToken, o.TwilioSettleAfter = testAccount, testToken, -1
	o.CallSecond = -1
}

// phone is a sandbox with Twilio and its client.
type phone struct {
	*box

	twilio *sandbox.Twilio
	sms    *openapi.ApiService
}

func startTwilio(t *testing.T, change ...func(*sandbox.Options)) *phone {
	t.Helper()
	b := start(t, append([]func(*sandbox.Options){withTwilio}, change...)...)
	return &phone{box: b, twilio: b.Twilio(), sms: b.twilioAPI(testAccount, testToken, 30*time.Second)}
}

func message(to, body string) *openapi.CreateMessageParams {
	return (&openapi.CreateMessageParams{}).SetFrom(ownNumber).SetTo(to).SetBody(body)
}

// send sends a text and gives its SID.
func (p *phone) send(params *openapi.CreateMessageParams) string {
	p.t.Helper()
	m, err := p.sms.CreateMessage(params)
	if err != nil {
		p.t.Fatal(err)
	}
	return *m.Sid
}

func (p *phone) fetch(sid string) *openapi.ApiV2010Message {
	p.t.Helper()
	m, err := p.sms.FetchMessage(sid, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *phone) list(params *openapi.ListMessageParams) []string {
	p.t.Helper()
	messages, err := p.sms.ListMessage(params)
	if err != nil {
		p.t.Fatal(err)
	}
	sids := []string{}
	for i := range messages {
		sids = append(sids, *messages[i].Sid)
	}
	return sids
}

func (p *phone) faults(rules ...sandbox.Fault) {
	p.t.Helper()
	if err := p.twilio.SetFaults(rules...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) receive(from, to, body string) string {
	p.t.Helper()
	sid, err := p.twilio.Receive(from, to, body)
	if err != nil {
		p.t.Fatal(err)
	}
	return sid
}

// twilioError gives the error as the SDK sees it.
func twilioError(t *testing.T, err error) *twilioclient.TwilioRestError {
	t.Helper()
	var e *twilioclient.TwilioRestError
	if !errors.As(err, &e) {
		t.Fatalf("want an error of Twilio's, have %v", err)
	}
	return e
}

// hooks is the application's end of Twilio's webhooks: it verifies with Twilio's own code and keeps what came.
type hooks struct {
	url string

	mu       sync.Mutex
	came     []url.Values
	tokens   []string // idempotency tokens
	bad      int      // requests whose signature did not hold
	statuses []int    // of the next requests; after them it is 200
	kind     string   // the content type and body of 200
	token    string   // signs what comes
	answer   string
}

func newHooks(t *testing.T) *hooks {
	t.Helper()
	h := &hooks{token: testToken}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

// at is a URL of the application with a query, which is part of what is signed.
func (h *hooks) at(path string) string { return h.url + path + "?org=1&text=a%20b" }

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	validator := twilioclient.NewRequestValidator(h.token)
	if err != nil || r.Method != http.MethodPost ||
		!validator.ValidateBody(h.url+r.URL.String(), body, r.Header.Get("X-Twilio-Signature")) {
		h.bad++
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if len(h.statuses) > 0 {
		status := h.statuses[0]
		h.statuses = h.statuses[1:]
		w.WriteHeader(status)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.came = append(h.came, form)
	h.tokens = append(h.tokens, r.Header.Get("I-Twilio-Idempotency-Token"))
	w.Header().Set("Content-Type", h.kind)
	_, _ = io.WriteString(w, h.answer)
}

// trust sets whose signature holds: an account's token.
func (h *hooks) trust(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token = token
}

// replies sets what texts that come in are answered with.
func (h *hooks) replies(kind, answer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kind, h.answer = kind, answer
}

// fail sets the statuses of the next requests.
func (h *hooks) fail(statuses ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses = statuses
}

// told gives the statuses that a message's callbacks told, in the order they came.
func (h *hooks) told(sid string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []string{}
	for _, form := range h.came {
		if form.Get("MessageSid") == sid && form.Get("MessageStatus") != "" {
			out = append(out, form.Get("MessageStatus"))
		}
	}
	return out
}

func (h *hooks) all() []url.Values {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]url.Values(nil), h.came...)
}

func (h *hooks) refused() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bad
}
