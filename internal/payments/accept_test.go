package payments_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
)

func TestSignatures(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *payments.Options) { o.WebhookSecrets = []string{secret, oldSecret} })
	now := f.clock.Now()
	body := event{id: "evt_1", kind: "customer.created"}.body()
	good := sign(body, now, secret)
	flipped := append([]byte(nil), body...)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct {
		name, header string
		body         []byte
		ok           bool
	}{
		{"the secret", good, body, true},
		{"the old secret during a roll", sign(body, now, oldSecret), body, true},
		{"299 s old", sign(body, now.Add(-299*time.Second), secret), body, true},
		{"299 s ahead", sign(body, now.Add(299*time.Second), secret), body, true},
		{"a second signature beside it", good + ",v1=00", body, true},
		{"301 s old", sign(body, now.Add(-301*time.Second), secret), body, false},
		{"301 s ahead", sign(body, now.Add(301*time.Second), secret), body, false},
		{"a year ahead", sign(body, now.AddDate(1, 0, 0), secret), body, false},
		{"wrong secret", sign(body, now, "whsec_another"), body, false},
		{"empty secret", sign(body, now, ""), body, false},
		{"only v0", strings.Replace(good, "v1=", "v0=", 1), body, false},
		{"empty header", "", body, false},
		{"no timestamp", good[strings.Index(good, ",")+1:], body, false},
		{"two timestamps", fmt.Sprintf("t=%d,", now.Unix()) + good, body, false},
		{"a timestamp that is no number", "t=now,v1=00", body, false},
		{"one bit changed", good, flipped, false},
		{"cut off", good, body[:len(body)-1], false},
		{"written anew", good, append(body, '\n'), false},
		{"empty body", good, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dbtest.Super(t, f.url, `DELETE FROM stripe_events`)
			_, err := f.svc.Accept(t.Context(), c.body, c.header)
			if c.ok != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("accepted: %v", err)
			}
			var rows int
			dbtest.Get(t, f.url, &rows, `SELECT count(*) FROM stripe_events`)
			if (rows == 1) != c.ok {
				t.Errorf("%d rows were stored", rows)
			}
		})
	}
	t.Run("after the roll", func(t *testing.T) {
		f.svc = f.service()
		if _, err := f.svc.Accept(t.Context(), body, sign(body, now, oldSecret)); !fault.Is(err, fault.Invalid) {
			t.Errorf("the old secret still holds: %v", err)
		}
	})
}

// TestOneEventManyTimes: an event × 100, 20 at a time, from two processes.
func TestOneEventManyTimes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := f.service()
	topUp := f.topUp(f.org, 50_00)
	body := event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00}.body()
	header := sign(body, f.clock.Now(), secret)
	var first atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		svc := f.svc
		if i%2 == 1 {
			svc = second
		}
		wg.Go(func() {
			for range 5 {
				duplicate, err := svc.Accept(t.Context(), body, header)
				if err != nil {
					t.Error(err)
				}
				if !duplicate {
					first.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d deliveries were told to be the first, want 1", first.Load())
	}
	var jobs int
	dbtest.Get(t, f.url, &jobs, `SELECT count(*) FROM river_job WHERE kind = 'stripe_events'`)
	if jobs != 1 {
		t.Errorf("%d jobs were added, want 1", jobs)
	}
	for range 4 {
		wg.Go(func() { f.work("evt_1") })
	}
	wg.Wait()
	if o := f.outcome(topUp); o.Balance != 619_00 || o.Credits != 1 {
		t.Errorf("%+v", o)
	}
}

// TestBatchesShareCommits: what arrives while a commit runs is committed together, each event once, with every event in
// exactly one job.
func TestBatchesShareCommits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 300
	var wg sync.WaitGroup
	for i := range n {
		body := event{id: fmt.Sprintf("evt_%03d", i), kind: "customer.created"}.body()
		wg.Go(func() {
			if duplicate, err := f.svc.Accept(t.Context(), body, sign(body, f.clock.Now(), secret)); err != nil || duplicate {
				t.Errorf("duplicate %t, %v", duplicate, err)
			}
		})
	}
	wg.Wait()
	var got struct{ Events, Jobs, Named int }
	dbtest.Get(t, f.url, &got, `
		SELECT (SELECT count(*) FROM stripe_events) AS events, count(DISTINCT j.id) AS jobs, count(*) AS named
		FROM river_job j, jsonb_array_elements_text(j.args->'strays') WHERE kind = 'stripe_events'`)
	if got.Events != n || got.Named != n || got.Jobs >= n {
		t.Errorf("%d events in %d jobs with %d ids; want %d events, each in one of fewer jobs", got.Events, got.Jobs, got.Named, n)
	}
}

// TestWhatCannotBeStoredHarmsNobody: the database refuses some events; the others of their batches are stored.
func TestWhatCannotBeStoredHarmsNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dbtest.Super(t, f.url, `ALTER TABLE stripe_events ADD CONSTRAINT poison CHECK (id NOT LIKE '%bad%')`)
	var wg sync.WaitGroup
	for i := range 60 {
		id, wantErr := fmt.Sprintf("evt_good%d", i), false
		if i%10 == 0 {
			id, wantErr = fmt.Sprintf("evt_bad%d", i), true
		}
		body := event{id: id, kind: "customer.created"}.body()
		wg.Go(func() {
			_, err := f.svc.Accept(t.Context(), body, sign(body, f.clock.Now(), secret))
			if wantErr != (err != nil) || wantErr && !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	wg.Wait()
	var rows int
	dbtest.Get(t, f.url, &rows, `SELECT count(*) FROM stripe_events`)
	if rows != 54 {
		t.Errorf("%d events were stored, want 54", rows)
	}
}

// TestSignedButUnreadable: whatever Stripe signs is kept, even what nobody can read.
func TestSignedButUnreadable(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"not JSON": "hello", "empty": "", "an array": "[]", "no id": `{"type":"a.b"}`, "NUL in the id": "{\"id\":\"evt_\\u0000\",\"type\":\"a.b\"}",
		"NUL in the type": `{"id":"evt_1","type":"a\u0000b"}`, "raw NUL": "{\"id\":\"evt_1\",\"type\":\"a.b\"}\x00",
		"broken UTF-8": "\xff\xfe", "a long id": `{"id":"evt_` + strings.Repeat("x", 300) + `","type":"a.b"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			header := sign([]byte(body), f.clock.Now(), secret)
			for _, want := range []bool{false, true} {
				if duplicate, err := f.svc.Accept(t.Context(), []byte(body), header); err != nil || duplicate != want {
					t.Fatalf("duplicate %t, %v", duplicate, err)
				}
			}
			var row struct {
				State   string
				Payload []byte
			}
			dbtest.Get(t, f.url, &row, `SELECT state, payload FROM stripe_events`)
			if row.State != "quarantined" || string(row.Payload) != body {
				t.Errorf("%s: %q", row.State, row.Payload)
			}
		})
	}
}

// TestNULInsideIsNoHindrance: a NUL in a field that we do not use as a key is data like any other.
func TestNULInsideIsNoHindrance(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	topUp := f.topUp(f.org, 50_00)
	f.accept(event{id: "evt_1", kind: "payment_intent.succeeded", topUp: topUp, intent: "pi_1", amount: 50_00, spoil: func(o map[string]any) {
		o["description"] = "a\x00b"
	}})
	f.work("evt_1")
	if o := f.outcome(topUp); o.Balance != 619_00 {
		t.Errorf("%+v", o)
	}
}

// TestDatabaseAway: nothing is acknowledged that is not stored, and nobody waits for long.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	away := dbtest.OpenURL(t, f.url, f.clock.Now)
	svc := f.service(func(o *payments.Options) { o.DB = away })
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		body := event{id: fmt.Sprintf("evt_%d", i), kind: "customer.created"}.body()
		wg.Go(func() {
			if _, err := svc.Accept(t.Context(), body, sign(body, f.clock.Now(), secret)); !fault.Is(err, fault.Unavailable) {
				t.Errorf("accepted without a database: %v", err)
			}
		})
	}
	wg.Wait()
}

// TestSenderGoesAway: senders that hang up while they wait neither stop the others nor lose the lead.
func TestSenderGoesAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for i := range 200 {
		body := event{id: fmt.Sprintf("evt_%d", i), kind: "customer.created"}.body()
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 == 0 {
				cancel()
			}
			defer cancel()
			_, err := f.svc.Accept(ctx, body, sign(body, f.clock.Now(), secret))
			if err != nil && (i%3 != 0 || !errors.Is(err, context.Canceled)) {
				t.Errorf("event %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	body := event{id: "evt_last", kind: "customer.created"}.body()
	if _, err := f.svc.Accept(t.Context(), body, sign(body, f.clock.Now(), secret)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
