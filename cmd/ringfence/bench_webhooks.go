package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/db"
	"ringfence/internal/payments"
)

type webhooksCmd struct {
	Events      int    `default:"5000" help:"How many payments to send, one event each."`
	Concurrency int    `default:"32" help:"How many senders."`
	Duplicates  string `default:"5%" help:"Share of events that are sent twice."`
	OneAtATime  bool   `help:"Send the next event when the last one is credited."`
}

// webhooksReport is what the measurement prints. Durations are in milliseconds.
type webhooksReport struct {
	Events          int         `json:"events"`
	Deliveries      int         `json:"deliveries"`
	Duplicates      int         `json:"duplicates_answered"`
	Concurrency     int         `json:"concurrency"`
	Seconds         figure      `json:"seconds"`
	EventsPerSecond figure      `json:"events_per_second_end_to_end"`
	Ack             percentiles `json:"ack_ms"`
	Credited        percentiles `json:"sent_to_credited_ms"`
	CPUPerEvent     figure      `json:"cpu_ms_per_event_without_generator"`
	GeneratorCPU    figure      `json:"generator_cpu_ms_per_event"`
	Synchronous     string      `json:"synchronous_commit"`
	Fsync           string      `json:"fsync"`
	Left            string      `json:"left_behind"`
}

// figure is a measured number with three decimals.
type figure float64

// MarshalJSON rounds to what was really measured.
func (f figure) MarshalJSON() ([]byte, error) {
	return json.Marshal(json.Number(strconv.FormatFloat(float64(f), 'f', 3, 64)))
}

type percentiles struct {
	P50 figure `json:"p50"`
	P95 figure `json:"p95"`
	P99 figure `json:"p99"`
}

func percentilesOf(d []time.Duration) percentiles {
	slices.Sort(d)
	at := func(share int) figure {
		if len(d) == 0 {
			return 0
		}
		return milliseconds(d[(len(d)-1)*share/100])
	}
	return percentiles{P50: at(50), P95: at(95), P99: at(99)}
}

func milliseconds(d time.Duration) figure { return figure(d.Seconds() * 1000) }

// delivery is one event ready to be sent.
type delivery struct {
	intent         string
	org            uuid.UUID
	body           []byte
	signature      string
	sent, credited time.Time
}

// Run sends signed events to the running server and watches the database for their credits. It measures from outside:
// an acknowledgement is the whole HTTP exchange, and "credited" is when another connection can see the credit.
func (c webhooksCmd) Run(e *env) error {
	share, err := strconv.Atoi(strings.TrimSuffix(c.Duplicates, "%"))
	if err != nil || share < 0 || share > 100 || c.Events < 1 || c.Concurrency < 1 {
		return errors.New("--events and --concurrency must be positive, --duplicates a percentage such as 5%")
	}
	if c.OneAtATime {
		c.Concurrency = 1
	}
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("bench webhooks"); err != nil {
			return err
		}
		prepared, err := a.prepareTopUps(ctx, c.Events)
		if err != nil {
			return err
		}
		deliveries := make([]*delivery, len(prepared))
		for i, p := range prepared {
			deliveries[i] = a.signedEvent(p)
		}
		report, err := a.measureWebhooks(ctx, deliveries, c, share)
		if err != nil {
			return err
		}
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(report); err != nil {
			return fmt.Errorf("couldn't print: %w", err)
		}
		return nil
	})
}

// signedEvent is what Stripe would send for the paid top-up.
func (a *app) signedEvent(p payments.Prepared) *delivery {
	id := strings.ReplaceAll(uuid.NewString(), "-", "")
	body, err := json.Marshal(map[string]any{
		"id": "evt_bench_" + id, "object": "event", "api_version": "2023-10-16", "created": now().Unix(), "livemode": a.cfg.Livemode(),
		"type": "payment_intent.succeeded", "pending_webhooks": 1, "request": map[string]any{"id": nil, "idempotency_key": nil},
		"data": map[string]any{"object": map[string]any{
			"id": "pi_bench_" + id, "object": "payment_intent", "amount": p.Amount, "amount_received": p.Amount, "currency": "gbp",
			"customer": p.Customer, "status": "succeeded", "livemode": a.cfg.Livemode(), "created": now().Unix(),
			"metadata": map[string]string{"top_up_id": p.TopUpID.String(), "org_id": p.OrgID.String()},
			// About as long as Stripe's own.
			"description": "Wallet top-up", "payment_method_types": []string{"card", "link"}, "capture_method": "automatic",
			"confirmation_method": "automatic", "latest_charge": "ch_bench_" + id, "client_secret": strings.Repeat("x", 60),
		}},
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return &delivery{intent: "pi_bench_" + id, org: p.OrgID, body: body}
}

func (a *app) measureWebhooks(ctx context.Context, deliveries []*delivery, c webhooksCmd, share int) (r webhooksReport, err error) {
	secret := a.cfg.StripeWebhookSecrets[0].Reveal()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: c.Concurrency, MaxConnsPerHost: c.Concurrency}}
	url := a.cfg.BaseURL + "/api/webhooks/stripe"
	var mu sync.Mutex
	var acks []time.Duration
	send := func(d *delivery) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.body))
		if err != nil {
			return err
		}
		req.Header.Set("Stripe-Signature", d.signature)
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		started := now()
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("is the server running at %s? %w", a.cfg.BaseURL, err)
		}
		answer, err := io.ReadAll(res.Body)
		took := now().Sub(started)
		if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s %w", res.Status, answer, err)
		}
		mu.Lock()
		defer mu.Unlock()
		acks = append(acks, took)
		r.Deliveries++
		if bytes.Contains(answer, []byte("duplicate")) {
			r.Duplicates++
		}
		if d.sent.IsZero() {
			d.sent = started
		}
		return nil
	}
	watch, err := a.watchCredits(ctx, deliveries)
	if err != nil {
		return r, err
	}
	at := now() // signed beforehand, since that is the sender's work, not ours
	for _, d := range deliveries {
		d.signature = fmt.Sprintf("t=%d,v1=%x", at.Unix(), webhook.ComputeSignature(at, d.body, secret))
	}
	busy, own, start := cpuBusy(), cpuOwn(), now()
	queue := make(chan *delivery)
	failed := make(chan error, c.Concurrency)
	var wg sync.WaitGroup
	for range c.Concurrency {
		wg.Go(func() {
			for d := range queue {
				if err := send(d); err != nil {
					failed <- err
					return
				}
				if c.OneAtATime {
					if err := watch.until(ctx, d); err != nil {
						failed <- err
						return
					}
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // which events repeat is the same in every run, on purpose
	watching := make(chan error, 1)
	if c.OneAtATime {
		watching <- nil
	} else {
		go func() { watching <- watch.all(ctx) }()
	}
feeding:
	for _, d := range deliveries {
		times := 1
		if rng.IntN(100) < share {
			times = 2
		}
		for range times {
			select {
			case queue <- d:
			case err = <-failed:
				break feeding
			}
		}
	}
	close(queue)
	wg.Wait()
	if err != nil {
		return r, err
	}
	if err := <-watching; err != nil {
		return r, err
	}
	took := now().Sub(start)
	n := figure(len(deliveries))
	own = cpuOwn() - own
	r.CPUPerEvent, r.GeneratorCPU = milliseconds(cpuBusy()-busy-own)/n, milliseconds(own)/n
	delays := make([]time.Duration, len(deliveries))
	for i, d := range deliveries {
		delays[i] = d.credited.Sub(d.sent)
	}
	r.Events, r.Concurrency, r.Seconds, r.EventsPerSecond = len(deliveries), c.Concurrency, figure(took.Seconds()), n/figure(took.Seconds())
	r.Ack, r.Credited = percentilesOf(acks), percentilesOf(delays)
	r.Left = fmt.Sprintf("%d paid top-ups of %s and their credits in the demo organisations", len(deliveries), benchUser)
	err = a.db.InSystemTx(ctx, "the settings that were measured with", func(ctx context.Context, tx *db.Tx) error {
		return tx.QueryRowxContext(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&r.Synchronous, &r.Fsync)
	})
	return r, err
}

// creditWatch sees credits appear.
type creditWatch struct {
	a       *app
	pending map[string]*delivery
	seen    map[uuid.UUID]int64 // by organisation, the newest ledger transaction that was looked at
}

// watchCredits begins to watch: what is in the ledger already does not count.
func (a *app) watchCredits(ctx context.Context, deliveries []*delivery) (*creditWatch, error) {
	w := &creditWatch{a: a, pending: make(map[string]*delivery, len(deliveries)), seen: map[uuid.UUID]int64{}}
	var orgs []uuid.UUID
	for _, d := range deliveries {
		w.pending[d.intent] = d
		if !slices.Contains(orgs, d.org) {
			orgs = append(orgs, d.org)
		}
	}
	balances, err := a.ledger.Balances(ctx, orgs)
	for org, b := range balances {
		w.seen[org] = b.Seq
	}
	return w, err
}

// creditPatience is how long a credit may take before the measurement gives up.
const creditPatience = 60 * time.Second

// all watches until every delivery is credited. A wallet's transactions are numbered under its lock, so they become
// visible in their order and each look only needs those after the last.
func (w *creditWatch) all(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := now(); len(w.pending) > 0; {
		<-tick.C
		var orgs []string
		var seen []int64
		for org, seq := range w.seen {
			orgs, seen = append(orgs, org.String()), append(seen, seq)
		}
		var fresh []struct {
			Org       uuid.UUID `db:"org_id"`
			Seq       int64     `db:"seq"`
			Reference string    `db:"reference"`
		}
		err := w.a.db.InSystemTx(ctx, "watching credits appear", func(ctx context.Context, tx *db.Tx) error {
			return tx.SelectContext(ctx, &fresh, `
				SELECT t.org_id, t.seq, t.reference FROM unnest($1::uuid[], $2::bigint[]) u (org_id, seq)
				     CROSS JOIN LATERAL (SELECT l.org_id, l.seq, l.reference FROM ledger_transactions l
				                         WHERE l.org_id = u.org_id AND l.seq > u.seq ORDER BY l.seq LIMIT 10000) t`,
				pq.Array(orgs), pq.Array(seen))
		})
		if err != nil {
			return err
		}
		at := now()
		for _, f := range fresh {
			w.seen[f.Org] = max(w.seen[f.Org], f.Seq)
			if d := w.pending[f.Reference]; d != nil {
				d.credited, last = at, at
				delete(w.pending, f.Reference)
			}
		}
		if now().Sub(last) > creditPatience {
			return fmt.Errorf("%d payments were not credited within %s", len(w.pending), creditPatience)
		}
	}
	return nil
}

// until watches for one delivery's credit.
func (w *creditWatch) until(ctx context.Context, d *delivery) error {
	return w.a.db.InSystemTx(ctx, "watching a credit appear", func(ctx context.Context, tx *db.Tx) error {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for deadline := now().Add(creditPatience); now().Before(deadline); <-tick.C {
			var n int
			if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM credits WHERE payment_intent = ANY($1)`, pq.Array([]string{d.intent})); err != nil {
				return err
			}
			if n == 1 {
				d.credited = now()
				return nil
			}
		}
		return fmt.Errorf("payment %s was not credited within %s", d.intent, creditPatience)
	})
}
