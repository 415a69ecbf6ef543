package sandbox_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/internal/sandbox"
)

const (
	testKey    = "sk_test_sandbox"
	testSecret = "whsec_sandbox_tests"
	successURL = "https://shop.example/return?session={CHECKOUT_SESSION_ID}"
	cancelURL  = "https://shop.example/wallet"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// receiver is the merchant's webhook endpoint: it verifies with Stripe's own code and keeps what came.
type receiver struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	events   []stripe.Event
	bad      int // deliveries whose signature did not hold
	statuses []int
	inside   int
	most     int
	gate     chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	rc := &receiver{t: t}
	srv := httptest.NewServer(rc)
	t.Cleanup(srv.Close)
	rc.url = srv.URL
	return rc
}

func (rc *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc.mu.Lock()
	rc.inside++
	rc.most = max(rc.most, rc.inside)
	gate := rc.gate
	rc.mu.Unlock()
	if gate != nil {
		<-gate
	}
	body, err := io.ReadAll(r.Body)
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.inside--
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e, err := webhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), testSecret)
	if err != nil {
		rc.bad++
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
		rc.t.Errorf("delivery with Content-Type %q", ct)
	}
	status := http.StatusOK
	if len(rc.statuses) > 0 {
		status, rc.statuses = rc.statuses[0], rc.statuses[1:]
	}
	if status == http.StatusOK {
		rc.events = append(rc.events, e)
	}
	w.WriteHeader(status)
}

// answer sets the statuses of the next deliveries; after them it is 200 again.
func (rc *receiver) answer(statuses ...int) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.statuses = statuses
}

func (rc *receiver) types() []string {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	var out []string
	for i := range rc.events {
		out = append(out, string(rc.events[i].Type))
	}
	return out
}

// first gives the first event of a type that came.
func (rc *receiver) first(kind string) stripe.Event {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for _, e := range rc.events {
		if string(e.Type) == kind {
			return e
		}
	}
	return stripe.Event{}
}

func (rc *receiver) count(kind string) int {
	n := 0
	for _, k := range rc.types() {
		if k == kind {
			n++
		}
	}
	return n
}

// wait polls until the condition holds.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-tick.C
	}
}

// box is a running sandbox with Stripe's own client.
type box struct {
	*sandbox.Server

	t   testing.TB
	api *client.API
}

func start(t testing.TB, change ...func(*sandbox.Options)) *box {
	t.Helper()
	o := sandbox.Options{
		Addr:          "127.0.0.1:0",
		StateFile:     filepath.Join(t.TempDir(), "sandbox.db"),
		WebhookSecret: testSecret,
		SettleAfter:   -1,
		Logger:        slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &box{Server: s, t: t, api: newAPI(s.URL(), 0, 30*time.Second)}
}

func to(rc *receiver) func(*sandbox.Options) {
	return func(o *sandbox.Options) { o.WebhookURL = rc.url }
}

// newAPI is the client as production builds it: only the URL differs.
func newAPI(url string, retries int64, timeout time.Duration) *client.API {
	return newAPIOver(&http.Client{Timeout: timeout}, url, retries)
}

// oneByOne is an HTTP client that takes a new connection for every request: net/http sends a request with an idempotency
// key again by itself when a connection that it used before breaks.
func oneByOne() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

func newAPIOver(c *http.Client, url string, retries int64) *client.API {
	api := &client.API{}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:               new(url),
		MaxNetworkRetries: new(retries),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		HTTPClient:        c,
	})
	api.Init(testKey, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	return api
}

func sessionParams(pence int64, topUp string) *stripe.CheckoutSessionParams {
	p := &stripe.CheckoutSessionParams{
		Mode:              new("payment"),
		SuccessURL:        new(successURL),
		CancelURL:         new(cancelURL),
		ClientReferenceID: new("org_1"),
		LineItems: []*stripe.CheckoutSessionLineItemParams{{
			Quantity: stripe.Int64(1),
			PriceData: &stripe.CheckoutSessionLineItemPriceDataParams{
				Currency:    new("gbp"),
				UnitAmount:  new(pence),
				ProductData: &stripe.CheckoutSessionLineItemPriceDataProductDataParams{Name: new("Wallet top-up")},
			},
		}},
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{
			Description: new("Top-up of Harbour Dental"),
			Metadata:    map[string]string{"top_up_id": topUp},
		},
	}
	p.AddMetadata("top_up_id", topUp)
	p.AddExtra("adaptive_pricing[enabled]", "false")
	return p
}

func (b *box) session(pence int64, topUp string) *stripe.CheckoutSession {
	b.t.Helper()
	s, err := b.api.CheckoutSessions.New(sessionParams(pence, topUp))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) get(id string) *stripe.CheckoutSession {
	b.t.Helper()
	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("payment_intent.latest_charge")
	s, err := b.api.CheckoutSessions.Get(id, p)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// noRedirect is a browser that shows where it was sent.
var noRedirect = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post sends an empty form and gives status, Location and body.
func (b *box) post(target string) (status int, location, body string) {
	b.t.Helper()
	if !strings.HasPrefix(target, "http") {
		target = b.URL() + target
	}
	resp, err := noRedirect.PostForm(target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), read(b.t, resp)
}

func (b *box) postJSON(path, body string) (status int, answer string) {
	b.t.Helper()
	resp, err := http.Post(b.URL()+path, "application/json", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, read(b.t, resp)
}

func (b *box) page(path string) (status int, body string, header http.Header) {
	b.t.Helper()
	resp, err := noRedirect.Get(b.URL() + path)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, read(b.t, resp), resp.Header
}

func read(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pay pays a new session and gives it as it is afterwards.
func (b *box) pay(pence int64, topUp string) *stripe.CheckoutSession {
	b.t.Helper()
	s := b.session(pence, topUp)
	if status, _, body := b.post(s.URL + "/pay"); status != http.StatusSeeOther {
		b.t.Fatalf("pay: %d %s", status, body)
	}
	return b.get(s.ID)
}

func (b *box) books() sandbox.Books { return b.Stripe().Books() }

// stripeError gives the error as the SDK sees it.
func stripeError(t *testing.T, err error) *stripe.Error {
	t.Helper()
	var e *stripe.Error
	if !errors.As(err, &e) {
		t.Fatalf("want an error of Stripe's, have %v", err)
	}
	return e
}

func decode[T any](t testing.TB, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}
