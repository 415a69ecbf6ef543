package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76/webhook"
)

// event is one event as Stripe would send it.
type event struct {
	id, intent string
	org        uuid.UUID
	amount     int64
	body       []byte
}

// payments gives n payments, each as the event payment_intent.succeeded.
func (w *world) payments(n int) []*event {
	w.t.Helper()
	list := make([]*event, n)
	for i := range list {
		list[i] = w.succeeded(w.pay())
	}
	return list
}

// payment is one customer's money on its way to one top-up.
type payment struct {
	topUp

	intent string
}

// pay takes an open top-up and has it paid.
func (w *world) pay() payment {
	w.t.Helper()
	if len(w.topUps) == 0 {
		w.t.Fatal("no open top-up is left")
	}
	p := payment{topUp: w.topUps[0], intent: "pi_fault_" + strings.ReplaceAll(uuid.NewString(), "-", "")}
	w.topUps = w.topUps[1:]
	return p
}

// succeeded says by the PaymentIntent that p is paid.
func (w *world) succeeded(p payment) *event {
	return w.event(p, "payment_intent.succeeded", map[string]any{
		"id": p.intent, "object": "payment_intent", "amount": p.Amount, "amount_received": p.Amount, "currency": "gbp",
		"customer": p.Customer, "status": "succeeded", "livemode": false, "metadata": map[string]string{"top_up_id": p.ID.String()},
	})
}

// completed says the same by the Checkout session.
func (w *world) completed(p payment) *event {
	return w.event(p, "checkout.session.completed", map[string]any{
		"id": "cs_test_" + p.intent, "object": "checkout.session", "payment_intent": p.intent, "payment_status": "paid", "status": "complete",
		"amount_total": p.Amount, "currency": "gbp", "customer": p.Customer, "client_reference_id": p.ID.String(),
		"livemode": false, "metadata": map[string]string{"top_up_id": p.ID.String()},
	})
}

func (w *world) event(p payment, kind string, object map[string]any) *event {
	w.t.Helper()
	w.count++
	id := fmt.Sprintf("evt_fault_%06d_%s", w.count, p.intent[len("pi_fault_"):][:12])
	body, err := json.Marshal(map[string]any{
		"id": id, "object": "event", "api_version": "2023-10-16", "created": time.Now().Unix(), "livemode": false, "type": kind,
		"data": map[string]any{"object": object},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &event{id: id, intent: p.intent, org: p.Org, amount: p.Amount, body: body}
}

// answer is what the server said to one delivery; the zero status means that it said nothing.
type answer struct {
	status    int
	duplicate bool
	body      string
}

// sender posts events as Stripe does, and keeps what it was answered.
type sender struct {
	client *http.Client

	mu      sync.Mutex
	acked   map[string]*event // events that were answered 2xx, by id
	fresh   map[string]int    // how often an event was answered 2xx and not as a duplicate
	answers map[int]int       // deliveries by status
	slowest time.Duration
	last    time.Time     // of the newest 2xx
	gap     time.Duration // the longest time between two of them
}

func newSender() *sender {
	return &sender{
		client: &http.Client{Timeout: 35 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		acked:  map[string]*event{}, fresh: map[string]int{}, answers: map[int]int{},
	}
}

// deliver posts one event once, signed now.
func (s *sender) deliver(ctx context.Context, base string, e *event) answer {
	return s.deliverSigned(ctx, base, e, time.Now())
}

func (s *sender) deliverSigned(ctx context.Context, base string, e *event, signed time.Time) (a answer) {
	started := time.Now()
	defer func() {
		now := time.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answers[a.status]++
		if a.status/100 != 2 {
			return
		}
		s.acked[e.id] = e
		if !a.duplicate {
			s.fresh[e.id]++
		}
		s.slowest = max(s.slowest, now.Sub(started))
		if !s.last.IsZero() {
			s.gap = max(s.gap, now.Sub(s.last))
		}
		s.last = now
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/webhooks/stripe", bytes.NewReader(e.body))
	if err != nil {
		return answer{body: err.Error()}
	}
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%x", signed.Unix(), webhook.ComputeSignature(signed, e.body, webhookSecret)))
	// net/http would send it again by itself, and count it once.
	req.GetBody = nil
	res, err := s.client.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{body: err.Error()} // half an answer is none
	}
	return answer{status: res.StatusCode, duplicate: bytes.Contains(body, []byte(`"duplicate":true`)), body: string(body)}
}

// once tries every event a single time, many at a time.
func (s *sender) once(ctx context.Context, events []*event, senders int, base string) {
	s.each(events, senders, func(_ int, e *event) { s.deliver(ctx, base, e) })
}

// all repeats every delivery until it is answered 2xx, as Stripe does but sooner, and asks the servers in turn.
func (s *sender) all(ctx context.Context, events []*event, senders int, bases ...string) {
	s.each(events, senders, func(i int, e *event) {
		for try := i; s.deliver(ctx, bases[try%len(bases)], e).status/100 != 2; try++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

func (s *sender) each(events []*event, senders int, do func(i int, e *event)) {
	queue := make(chan int)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for i := range queue {
				do(i, events[i])
			}
		})
	}
	for i := range events {
		queue <- i
	}
	close(queue)
	wg.Wait()
}

// acknowledged are the events that were answered 2xx until now.
func (s *sender) acknowledged() map[string]*event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.acked)
}

// refused is how many deliveries were answered with the status; 0 is no answer.
func (s *sender) refused(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers[status]
}

// outcome is the answers in words.
func (s *sender) outcome() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(s.answers)) {
		name := fmt.Sprint(status)
		if status == 0 {
			name = "no answer"
		}
		parts = append(parts, fmt.Sprintf("%s ×%d", name, s.answers[status]))
	}
	return strings.Join(parts, ", ")
}

// stored are the states of the events in the database, by id.
func (w *world) stored() map[string]string {
	w.t.Helper()
	var rows []struct{ ID, State string }
	w.query(&rows, `SELECT id, state FROM stripe_events WHERE id LIKE 'evt_fault_%'`)
	states := make(map[string]string, len(rows))
	for _, r := range rows {
		states[r.ID] = r.State
	}
	return states
}

// kept fails the test for every event that was acknowledged and is not stored.
func (w *world) kept(acked map[string]*event) map[string]string {
	w.t.Helper()
	stored, lost := w.stored(), 0
	for id := range acked {
		if stored[id] == "" {
			if lost++; lost <= 5 {
				w.t.Errorf("%s was acknowledged and is not stored", id)
			}
		}
	}
	if lost > 5 {
		w.t.Errorf("… and %d more", lost-5)
	}
	return stored
}

// credited is how many of the events' payments have a credit.
func (w *world) credited(events []*event) int {
	w.t.Helper()
	intents := make([]string, len(events))
	for i, e := range events {
		intents[i] = e.intent
	}
	return w.number(`SELECT count(*) FROM credits WHERE payment_intent = ANY($1)`, pq.Array(intents))
}

// settled waits until everything that is stored is worked, and then compares: all events were acknowledged, what was
// acknowledged is stored, every payment has one credit of the right amount to the right organisation and there is no
// other; the books agree.
//
// Events whose job was lost wait for the sweeper, which passes over what is younger than half a minute. The quick tests
// do not: they make the events older.
func (w *world) settled(s *sender, events []*event) {
	w.t.Helper()
	if pollFor(3*time.Second, w.worked) != nil {
		w.later()
	}
	w.settledWithin(longest, s, events)
}

// later makes half a minute pass for the events that wait, and has the sweeper look at once.
func (w *world) later() {
	w.t.Helper()
	w.alter(`UPDATE stripe_events SET next_attempt_at = next_attempt_at - interval '31 seconds' WHERE state = 'received'`)
	w.alter(`INSERT INTO river_job (kind, args, max_attempts, state) VALUES ('sweep', '{}', 1, 'available')`)
}

// worked reports whether no stored event waits.
func (w *world) worked() bool {
	w.t.Helper()
	return w.number(`SELECT count(*) FROM stripe_events WHERE state = 'received'`) == 0
}

// settledWithin is settled with the time really passing.

func (w *world) settledWithin(patience time.Duration, s *sender, events []*event) {
	w.t.Helper()
	if err := pollFor(patience, w.worked); err != nil {
		w.t.Errorf("waiting for the events to be worked: %v", err)
	}
	acked := s.acknowledged()
	states := map[string]int{}
	for _, state := range w.kept(acked) {
		states[state]++
	}
	if delete(states, "processed"); len(states) > 0 {
		w.t.Errorf("not processed: %v", states)
	}
	want := map[string]*event{}
	for _, e := range events {
		want[e.intent] = e
		if acked[e.id] == nil {
			w.t.Errorf("%s was never acknowledged", e.id)
		}
	}
	var credits []struct {
		Intent  string    `db:"payment_intent"`
		Org     uuid.UUID `db:"org_id"`
		Amount  int64     `db:"amount_pence"`
		Entries int       `db:"entries"`
	}
	w.query(&credits, `
		SELECT c.payment_intent, c.org_id, c.amount_pence,
		       (SELECT count(*) FROM ledger_transactions t WHERE t.kind = 'top_up' AND t.reference = c.payment_intent) AS entries
		FROM credits c`)
	for _, c := range credits {
		e := want[c.Intent]
		switch {
		case e == nil:
			w.t.Errorf("%s has a credit that nobody paid", c.Intent)
		case c.Org != e.org || c.Amount != e.amount || c.Entries != 1:
			w.t.Errorf("%s: %dp to %s in %d entries, want %dp to %s in one", c.Intent, c.Amount, c.Org, c.Entries, e.amount, e.org)
		}
		delete(want, c.Intent)
	}
	if len(want) > 0 {
		w.t.Errorf("%d payments have no credit, such as %s", len(want), slices.Collect(maps.Keys(want))[0])
	}
	w.verify()
}

// context ends with the test, and long before that when something hangs.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
