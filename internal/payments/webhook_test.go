package payments_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/db/dbtest"
	"ringfence/internal/payments"
)

// switchboard is a Stripe that is only asked for webhook endpoints.
type switchboard struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newSwitchboard(t *testing.T) *switchboard {
	t.Helper()
	b := &switchboard{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		(*b.answer.Load())(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *switchboard) answers(fn http.HandlerFunc) { b.answer.Store(&fn) }

// has answers with endpoints.
func (b *switchboard) has(endpoints ...map[string]any) {
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": endpoints, "has_more": false})
	})
}

func endpoint(id, url, status, version string, events []string) map[string]any {
	return map[string]any{
		"id": id, "object": "webhook_endpoint", "url": url, "status": status, "api_version": version, "enabled_events": events, "created": dbtest.Start.Unix(),
	}
}

// onSwitchboard is the option to ask it.
func onSwitchboard(b *switchboard) func(*payments.Options) {
	return func(o *payments.Options) { o.StripeBase = b.URL }
}

func (f *fixture) webhook() payments.Webhook {
	f.t.Helper()
	w, err := f.svc.Webhook(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

// TestWebhookEndpointIsRemembered: Stripe is asked once a minute, sooner when it did not answer, and what it said is
// compared with what we handle.
func TestWebhookEndpointIsRemembered(t *testing.T) {
	t.Parallel()
	b := newSwitchboard(t)
	f := newFixture(t, onSwitchboard(b))
	const ours = "http://127.0.0.1:8080/api/webhooks/stripe"
	short := slices.Clone(payments.Events())[1:]
	b.has(
		endpoint("we_2", ours, "disabled", "2020-08-27", append(short, "charge.updated")),
		endpoint("we_other", "https://elsewhere.example/", "enabled", stripe.APIVersion, []string{"*"}),
		endpoint("we_1", ours, "enabled", stripe.APIVersion, payments.Events()),
	)
	for range 3 {
		w := f.webhook()
		if w.URL != ours || w.Version != stripe.APIVersion || !slices.Equal(w.Events, payments.Events()) || !w.StandIn || w.Unanswered != "" || !w.AskedAt.Equal(f.clock.Now()) {
			t.Errorf("%+v", w)
		}
		if len(w.Endpoints) != 2 || !w.Endpoints[0].Right() || w.Endpoints[1].Enabled || w.Endpoints[1].APIVersion != "2020-08-27" {
			t.Fatalf("%+v", w.Endpoints)
		}
		if e := w.Endpoints[1]; !slices.Equal(e.Missing(), payments.Events()[:1]) || !slices.Equal(e.Extra(), []string{"charge.updated"}) {
			t.Errorf("missing %v, extra %v", e.Missing(), e.Extra())
		}
	}
	if n := b.asked.Load(); n != 1 {
		t.Errorf("Stripe was asked %d times, want once", n)
	}
	f.clock.Advance(time.Minute)
	b.has(endpoint("we_3", ours, "enabled", stripe.APIVersion, []string{"*"}))
	if w := f.webhook(); len(w.Endpoints) != 1 || w.Endpoints[0].Missing() != nil || !slices.Equal(w.Endpoints[0].Extra(), []string{"*"}) {
		t.Errorf("a minute later %+v", w.Endpoints)
	}
	if n := b.asked.Load(); n != 2 {
		t.Errorf("a minute later Stripe was asked %d times in all, want twice", n)
	}

	f.clock.Advance(time.Minute)
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: sk_test_x"}}`))
	})
	for range 2 {
		if w := f.webhook(); w.Unanswered != "Stripe refused our key: it may not read webhook endpoints." || len(w.Endpoints) != 0 {
			t.Errorf("refused: %+v", w)
		}
	}
	if n := b.asked.Load(); n != 3 {
		t.Errorf("of a refusal Stripe was asked %d times in all, want 3", n)
	}
	f.clock.Advance(10 * time.Second)
	b.has()
	if w := f.webhook(); w.Unanswered != "" || len(w.Endpoints) != 0 {
		t.Errorf("ten seconds after the refusal %+v", w)
	}
}

// TestWebhookWithoutStripe: one that does not answer is said, in bounded time, and once for all who ask at once.
func TestWebhookWithoutStripe(t *testing.T) {
	t.Parallel()
	b := newSwitchboard(t)
	f := newFixture(t, onSwitchboard(b))
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	b.answers(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	done := make(chan payments.Webhook)
	for range 5 {
		go func() {
			w, err := f.svc.Webhook(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- w
		}()
	}
	for range 5 {
		if w := <-done; w.Unanswered != "Stripe did not answer within 2 seconds." {
			t.Errorf("%+v", w)
		}
	}
	if n := b.asked.Load(); n != 1 {
		t.Errorf("Stripe was asked %d times, want once", n)
	}
	f.svc = f.service() // where nothing listens
	if w := f.webhook(); w.Unanswered != "Stripe could not be reached." && w.Unanswered != "Stripe did not answer within 2 seconds." {
		t.Errorf("%+v", w)
	}
}

// TestWebhookTraffic: what came in a day, what became of it and how long it waited; what was fetched is told apart.
func TestWebhookTraffic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.webhook().Traffic; got != (payments.Traffic{}) {
		t.Errorf("of nothing: %+v", got)
	}
	now := f.clock.Now()
	f.plantEvents(98, "evt_a", "payment_intent.succeeded", payments.EventProcessed, now.Add(-time.Hour))
	f.plantEvents(2, "evt_b", "charge.updated", payments.EventIgnored, now.Add(-time.Minute))
	f.plantEvents(3, "evt_c", "payment_intent.succeeded", payments.EventQuarantined, now.Add(-2*time.Minute))
	f.plantEvents(1, "evt_d", "payment_intent.succeeded", payments.EventFailed, now.Add(-2*time.Minute))
	f.plantEvents(4, "evt_e", "payment_intent.succeeded", payments.EventReceived, now.Add(-2*time.Minute))
	f.plantEvents(9, "evt_old", "payment_intent.succeeded", payments.EventProcessed, now.Add(-25*time.Hour))
	dbtest.Super(t, f.url, `UPDATE stripe_events SET processed_at = received_at + CASE WHEN state = 'ignored' THEN 7000 WHEN id LIKE 'evt_old%' THEN 99000 ELSE 5 END * interval '1 millisecond'`)
	// By hand, since comparing with Stripe is what fetches.
	f.plantEvents(5, "reconciled_", "payment_intent.succeeded", payments.EventProcessed, now)
	dbtest.Super(t, f.url, `UPDATE stripe_events SET fetched = true, processed_at = received_at + interval '1 hour' WHERE id LIKE 'reconciled%'`)
	want := payments.Traffic{
		Received: 108, Worked: 100, Waiting: 4, Quarantined: 3, Failed: 1, Fetched: 5, Median: 5 * time.Millisecond, P99: 7 * time.Second,
		LastID: "evt_b000002", LastType: "charge.updated", LastAt: now.Add(-time.Minute),
	}
	got := f.webhook().Traffic
	if !got.LastAt.Equal(want.LastAt) {
		t.Errorf("the last came at %s", got.LastAt)
	}
	if got.LastAt = want.LastAt; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A day later nothing came, and the last delivery is still known.
	f.clock.Advance(25 * time.Hour)
	if got := f.webhook().Traffic; got.Received != 0 || got.Fetched != 0 || got.LastID != "evt_b000002" {
		t.Errorf("a day later %+v", got)
	}
	f.plantEvents(5200, "evt_z", "charge.updated", payments.EventIgnored, f.clock.Now())
	if got := f.webhook().Traffic; got.Received != 5000 || !got.Capped {
		t.Errorf("of many %+v", got)
	}
}

// TestFetchedEventsAreMarked: what was delivered, and what was fetched, by the way that it came.
func TestFetchedEventsAreMarked(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	dbtest.Super(t, f.url, `UPDATE organizations SET created_at = '2020-01-01'`)
	l.pay("pi_2", f.topUp(f.org, 20_00), "cus_second", 20_00)
	if r := f.nightly(); r.Healed != 1 {
		t.Fatalf("%+v", r)
	}
	for id, fetched := range map[string]bool{"evt_paid": false, "reconciled_pi_2_2000gbp": true} {
		if d, err := f.svc.Event(t.Context(), id); err != nil || d.Fetched != fetched {
			t.Errorf("%s: fetched is %t, %v", id, d.Fetched, err)
		}
	}
}

// TestRefusedSignaturesAreCounted, and no other failures are.
func TestRefusedSignaturesAreCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	began := f.clock.Now()
	if w := f.webhook(); w.Refused != 0 || !w.LastRefused.IsZero() || !w.Since.Equal(began) {
		t.Errorf("%+v", w)
	}
	f.clock.Advance(time.Minute)
	body := event{id: "evt_1", kind: "payment_intent.succeeded"}.body()
	for _, signature := range []string{"", sign(body, f.clock.Now(), "whsec_other"), sign(body, began.Add(-time.Hour), secret)} {
		if _, err := f.svc.Accept(t.Context(), body, signature); err == nil {
			t.Errorf("%q was taken", signature)
		}
	}
	f.accept(event{id: "evt_1", kind: "payment_intent.succeeded"}, event{id: "evt_1", kind: "payment_intent.succeeded"})
	f.clock.Advance(time.Minute)
	if w := f.webhook(); w.Refused != 3 || !w.LastRefused.Equal(began.Add(time.Minute)) {
		t.Errorf("%+v", w)
	}
}

// TestEventTellsReversals: the refunds and disputes of the event's payment, and what was posted for them.
func TestEventTellsReversals(t *testing.T) {
	t.Parallel()
	f, l := paid(t)
	f.refunded(l, "evt_r1", 10_00, "succeeded")
	l.dispute("dp_1", "pi_1", 40_00, "needs_response", -40_00)
	f.send("evt_d1", "charge.dispute.funds_withdrawn", l.disputes["dp_1"])
	f.work("evt_d1")
	l.dispute("dp_1", "pi_1", 40_00, "won", -40_00, 40_00)
	f.send("evt_d2", "charge.dispute.closed", l.disputes["dp_1"])
	f.work("evt_d2")
	d, err := f.svc.Event(t.Context(), "evt_paid")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Refunds) != 1 || d.Refunds[0].ID != "re_1" || d.Refunds[0].Amount != 10_00 || !d.Refunds[0].Counts() {
		t.Errorf("refunds: %+v", d.Refunds)
	}
	if len(d.Disputes) != 1 || d.Disputes[0].ID != "dp_1" || d.Disputes[0].Withdrawn != 0 || d.Disputes[0].Open() || !d.Disputes[0].Froze || d.Disputes[0].Reason != "fraudulent" {
		t.Errorf("disputes: %+v", d.Disputes)
	}
	var posted []string
	for _, r := range d.Reversals {
		posted = append(posted, r.Kind+" "+r.Amount.String()+" leaves "+r.BalanceAfter.String())
	}
	if got := strings.Join(posted, ", "); got != "refund £10.00 leaves £40.00, dispute £40.00 leaves £0.00, dispute -£40.00 leaves £40.00" {
		t.Errorf("posted: %s", got)
	}
	if other, err := f.svc.Event(t.Context(), "evt_d1"); err != nil || len(other.Reversals) != 3 {
		t.Errorf("the dispute's own event tells %+v, %v", other.Reversals, err)
	}
}
