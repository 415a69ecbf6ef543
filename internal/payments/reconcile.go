package payments

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"ringfence/db"
	"ringfence/internal/money"
)

// Reconciliation: webhooks are how we hear of payments, and this is how we find out that we did not hear.
//
// First Stripe's own list of events is gone through, and those that never reached us are stored and worked as if they had.
// Then its payments, refunds and disputes are compared with ours one by one; what is missing or differs without an event to
// tell of it gets one made of what Stripe lists ("reconciled_…"), which goes the same way: it credits, or it is quarantined
// and stands before an operator on the page of events. So there is one way for money to come in, whoever noticed it.

// ReconciliationKind is why a reconciliation was made.
type ReconciliationKind string

// The kinds; the schema knows the same ones.
const (
	ReconcileRecent ReconciliationKind = "recent" // every few minutes: what has come since the last one, and an hour more
	ReconcileFull   ReconciliationKind = "full"   // every night: all that Stripe keeps events of
	ReconcileManual ReconciliationKind = "manual" // by hand
)

const (
	// ReconcileFor is how far back a full reconciliation goes; Stripe lists events for as long.
	ReconcileFor = 30 * 24 * time.Hour
	// overlap is what a recent one looks at once more.
	overlap = time.Hour
	// settling is how long a webhook may take before its event counts as lost.
	settling = time.Minute
	// fullAt is the hour (UTC) from which on a day's full one is due.
	fullAt = 2
	// maxDisagreements bounds those that a report names.
	maxDisagreements = 1000
)

// Span is what to reconcile: everything made at Stripe from Since to Until.
type Span struct {
	Kind         ReconciliationKind
	Since, Until time.Time
	// Credits has the credits that we made in that time looked for at Stripe as well, each of them.
	Credits bool
}

// Report is what a reconciliation found and did.
type Report struct {
	ID   uuid.UUID
	Span Span

	Started, Finished time.Time
	// LookedAt is how many events, payments, refunds and disputes were compared, and credits where they were asked for.
	LookedAt int
	// Healed payments had not been credited and now are; MedianDelay is from payment to credit.
	Healed      int
	HealedPence money.Pence
	MedianDelay time.Duration
	// Reversals are events about refunds and disputes of which we had not heard.
	Reversals int
	// Disagreements are what an operator must look at, at most maxDisagreements of them.
	Disagreements []Disagreement
}

// Disagreement is something that Stripe has and that we could not book, or that we have and Stripe has not.
type Disagreement struct {
	// Subject is Stripe's id of it; EventID the stored event that is quarantined or failed because of it.
	Subject, EventID string
	Reason           string
}

// reconciliation is one under way.
type reconciliation struct {
	*Service

	report Report
	delays []time.Duration
	met    map[string]bool // the payments that were in Stripe's list, where credits are looked for there; nil otherwise
}

// Reconcile compares everything made at Stripe in the span with ours and mends what can be mended. It is safe to repeat, and
// to run beside others and beside the webhooks. When it fails, what was mended until then stays mended, and the report says
// how far it got.
func (s *Service) Reconcile(ctx context.Context, span Span) (Report, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Report{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	r := &reconciliation{Service: s, report: Report{ID: id, Span: span, Started: s.now().UTC()}}
	if err := r.begin(ctx); err != nil {
		return Report{}, err
	}
	parts := []func(context.Context) error{r.events, r.payments, r.refunds, r.disputes}
	if span.Credits {
		r.met = map[string]bool{}
		parts = append(parts, r.credited)
	}
	for _, part := range parts {
		if err = part(ctx); err != nil {
			break
		}
	}
	slices.Sort(r.delays)
	if n := len(r.delays); n > 0 {
		r.report.MedianDelay = r.delays[n/2]
	}
	r.report.Finished = s.now().UTC()
	err = errors.Join(err, r.end(ctx, err))
	r.tell(ctx, err)
	return r.report, err
}

// ReconcileDue makes the reconciliations whose time has come: a recent one always, from the last that succeeded on, and once
// a night a full one. It is meant to be called every few minutes.
func (s *Service) ReconcileDue(ctx context.Context) error {
	now := s.now().UTC()
	last, err := s.lastReconciled(ctx)
	if err != nil {
		return err
	}
	since := now.Add(-24 * time.Hour)
	if at, done := last[ReconcileRecent]; done {
		since = at.Add(-overlap)
	}
	if limit := now.Add(-ReconcileFor); since.Before(limit) {
		since = limit
	}
	until := now.Add(-settling)
	if _, err := s.Reconcile(ctx, Span{Kind: ReconcileRecent, Since: since, Until: until}); err != nil {
		return err
	}
	due := time.Date(now.Year(), now.Month(), now.Day(), fullAt, 0, 0, 0, time.UTC)
	if due.After(now) {
		due = due.Add(-24 * time.Hour)
	}
	if at, done := last[ReconcileFull]; done && !at.Before(due) {
		return nil
	}
	_, err = s.Reconcile(ctx, Span{Kind: ReconcileFull, Since: now.Add(-ReconcileFor), Until: until, Credits: true})
	return err
}

// lastReconciled is when the last one of each kind began that succeeded.
func (s *Service) lastReconciled(ctx context.Context) (map[ReconciliationKind]time.Time, error) {
	last := map[ReconciliationKind]time.Time{}
	err := s.db.InSystemTx(ctx, "the last reconciliations", func(ctx context.Context, tx *db.Tx) error {
		var rows []struct {
			Kind ReconciliationKind `db:"kind"`
			At   time.Time          `db:"started_at"`
		}
		if err := tx.SelectContext(ctx, &rows, `
			SELECT k.kind, r.started_at FROM unnest($1::text[]) k (kind) CROSS JOIN LATERAL (
			    SELECT started_at FROM reconciliations WHERE kind = k.kind AND finished_at IS NOT NULL AND error = ''
			    ORDER BY started_at DESC LIMIT 1) r`, pq.Array([]ReconciliationKind{ReconcileRecent, ReconcileFull})); err != nil {
			return fmt.Errorf("couldn't look for the last reconciliations: %w", err)
		}
		for _, r := range rows {
			last[r.Kind] = r.At
		}
		return nil
	})
	return last, err
}

// begin stores that it runs. Nothing that Stripe has from before our first organisation is ours.
func (r *reconciliation) begin(ctx context.Context) error {
	return r.db.InSystemTx(ctx, "a reconciliation begins", func(ctx context.Context, tx *db.Tx) error {
		var first *time.Time
		if err := tx.GetContext(ctx, &first, `SELECT min(created_at) FROM organizations`); err != nil {
			return fmt.Errorf("couldn't look for the first organisation: %w", err)
		}
		span := &r.report.Span
		if first != nil && span.Since.Before(*first) {
			span.Since = first.Truncate(time.Second)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO reconciliations (id, kind, since, until, started_at) VALUES ($1, $2, $3, $4, $5)`,
			r.report.ID, span.Kind, span.Since, span.Until, r.report.Started); err != nil {
			return fmt.Errorf("couldn't store the reconciliation: %w", err)
		}
		return nil
	})
}

// end stores what came of it.
func (r *reconciliation) end(ctx context.Context, cause error) error {
	text := ""
	if cause != nil {
		text = cause.Error()
	}
	var median *int64
	if r.report.Healed > 0 {
		median = new(r.report.MedianDelay.Milliseconds())
	}
	return r.db.InSystemTx(ctx, "a reconciliation ends", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE reconciliations SET finished_at = $2, looked_at = $3, healed = $4, healed_pence = $5, median_delay_ms = $6, reversals = $7,
			       disagreements = $8, error = $9
			WHERE id = $1`, r.report.ID, r.report.Finished, r.report.LookedAt, r.report.Healed, r.report.HealedPence, median, r.report.Reversals,
			len(r.report.Disagreements), text); err != nil {
			return fmt.Errorf("couldn't store the reconciliation's end: %w", err)
		}
		return nil
	})
}

// tell tells the log and the metrics.
func (r *reconciliation) tell(ctx context.Context, err error) {
	p := &r.report
	if err != nil {
		r.metrics.reconciled.WithLabelValues(string(p.Span.Kind), "failed").Inc()
		return // the error is the caller's
	}
	r.metrics.reconciled.WithLabelValues(string(p.Span.Kind), "ok").Inc()
	r.metrics.reconciledAt.Set(float64(p.Started.Unix()))      //nolint:forbidigo // seconds, not money
	r.metrics.disagreements.Set(float64(len(p.Disagreements))) //nolint:forbidigo // a number of things
	if p.Healed+p.Reversals+len(p.Disagreements) > 0 {
		r.log.WarnContext(ctx, "reconciled with Stripe, and it was needed", "reconciliation", p.ID, "kind", p.Span.Kind, "looked_at", p.LookedAt,
			"healed", p.Healed, "healed_pence", int64(p.HealedPence), "median_delay", p.MedianDelay.String(), "reversals", p.Reversals,
			"disagreements", len(p.Disagreements))
	}
}

// page is a page of one of Stripe's lists, its objects as they came.
type page struct {
	stripe.APIResource
	stripe.ListMeta

	Data []json.RawMessage `json:"data"`
}

// pageSize is the most that Stripe gives at once.
const pageSize = 100

// each goes through one of Stripe's lists, page by page, newest first.
func (r *reconciliation) each(ctx context.Context, list string, types []string, do func(ctx context.Context, objects []json.RawMessage) error) error {
	after := ""
	for {
		query := &form.Values{}
		query.Add("limit", strconv.Itoa(pageSize))
		query.Add("created[gte]", strconv.FormatInt(r.report.Span.Since.Unix(), 10))
		query.Add("created[lte]", strconv.FormatInt(r.report.Span.Until.Unix(), 10))
		for i, t := range types {
			query.Add("types["+strconv.Itoa(i)+"]", t)
		}
		if after != "" {
			query.Add("starting_after", after)
		}
		var p page
		if err := r.stripe.Events.B.CallRaw(http.MethodGet, "/v1/"+list, r.stripe.Events.Key, query, &stripe.Params{Context: ctx}, &p); err != nil {
			return fmt.Errorf("%w for its %s: %w", errStripeAway, list, err)
		}
		if err := do(ctx, p.Data); err != nil {
			return err
		}
		r.report.LookedAt += len(p.Data)
		if !p.HasMore || len(p.Data) == 0 {
			return nil
		}
		var last struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(p.Data[len(p.Data)-1], &last); err != nil || last.ID == "" {
			return fmt.Errorf("Stripe's list of %s ends without an id: %w", list, err) //nolint:staticcheck // a name
		}
		after = last.ID
	}
}

// events stores and works the events that never reached us.
func (r *reconciliation) events(ctx context.Context) error {
	return r.each(ctx, "events", Events(), func(ctx context.Context, objects []json.RawMessage) error {
		var listed []received
		var ids []string
		for _, o := range objects {
			e := receive(o, r.now())
			listed, ids = append(listed, e), append(ids, e.id)
		}
		var known []string
		err := r.db.InSystemTx(ctx, "which of Stripe's events we have", func(ctx context.Context, tx *db.Tx) error {
			known = nil
			return tx.SelectContext(ctx, &known, `SELECT id FROM stripe_events WHERE id = ANY($1)`, pq.Array(ids))
		})
		if err != nil {
			return fmt.Errorf("couldn't look for the events: %w", err)
		}
		return r.work(ctx, slices.DeleteFunc(listed, func(e received) bool { return slices.Contains(known, e.id) }))
	})
}

// work stores events and works them, and counts what was credited by that.
func (r *reconciliation) work(ctx context.Context, events []received) error {
	if len(events) == 0 {
		return nil
	}
	paid := map[string]time.Time{} // when each payment was made, as far as these events tell
	var intents []string
	for _, e := range events {
		if e.paymentIntent == "" {
			continue
		}
		at, seen := paid[e.paymentIntent]
		if !seen {
			intents = append(intents, e.paymentIntent)
		}
		if !seen || e.kind == "payment_intent.succeeded" || e.occurred.Before(at) {
			paid[e.paymentIntent] = e.occurred
		}
	}
	before, err := r.credits(ctx, intents)
	if err != nil {
		return err
	}
	stored, err := r.storeEvents(ctx, events, false)
	if err != nil {
		return err
	}
	var job EventBatch
	var again []string
	reversals := 0
	for i, e := range events {
		switch {
		case !stored[i]: // its webhook has come meanwhile, or it was made of the same thing before
			again = append(again, e.id)
		case apartWorked(e.kind):
			job.Reversals = append(job.Reversals, e.id)
			if reversing(e.kind) {
				reversals++
			}
		default:
			job.Strays = append(job.Strays, e.id)
		}
	}
	// Payments first: what reverses them then has less to do.
	if len(job.Strays) > 0 {
		if err := r.Process(ctx, EventBatch{Strays: job.Strays}); err != nil {
			return err
		}
	}
	if err := r.workReversals(ctx, job.Reversals); err != nil {
		return err
	}
	r.report.Reversals += reversals
	after, err := r.credits(ctx, intents)
	if err != nil {
		return err
	}
	for intent := range before {
		delete(after, intent)
	}
	if err := r.heal(ctx, after, paid); err != nil {
		return err
	}
	return r.disagree(ctx, slices.Concat(job.Strays, job.Reversals), again)
}

// credit is what we have of a payment.
type credit struct {
	Intent    string      `db:"payment_intent"`
	OrgID     uuid.UUID   `db:"org_id"`
	TopUpID   uuid.UUID   `db:"top_up_id"`
	Amount    money.Pence `db:"amount_pence"`
	CreatedAt time.Time   `db:"created_at"`
}

// credits gives those of the payments that are credited.
func (r *reconciliation) credits(ctx context.Context, intents []string) (map[string]credit, error) {
	found := map[string]credit{}
	err := r.db.InSystemTx(ctx, "which payments are credited", func(ctx context.Context, tx *db.Tx) error {
		var rows []credit
		if err := tx.SelectContext(ctx, &rows, `
			SELECT payment_intent, org_id, top_up_id, amount_pence, created_at FROM credits WHERE payment_intent = ANY($1)`, pq.Array(intents)); err != nil {
			return fmt.Errorf("couldn't look for the credits: %w", err)
		}
		for _, c := range rows {
			found[c.Intent] = c
		}
		return nil
	})
	return found, err
}

// heal marks credits as healed and counts them.
func (r *reconciliation) heal(ctx context.Context, fresh map[string]credit, paid map[string]time.Time) error {
	if len(fresh) == 0 {
		return nil
	}
	var intent, org []string
	var amount, delay []int64
	for _, c := range fresh {
		late := max(c.CreatedAt.Sub(paid[c.Intent]), 0)
		intent, org = append(intent, c.Intent), append(org, c.OrgID.String())
		amount, delay = append(amount, int64(c.Amount)), append(delay, late.Milliseconds())
	}
	var healed []struct {
		Amount money.Pence `db:"amount_pence"`
		Delay  int64       `db:"delay_ms"`
	}
	err := r.db.InSystemTx(ctx, "marking what a reconciliation has credited", func(ctx context.Context, tx *db.Tx) error {
		healed = nil
		return tx.SelectContext(ctx, &healed, `
			INSERT INTO healed_credits (healed_at, reconciliation_id, payment_intent, org_id, amount_pence, delay_ms)
			SELECT $1, $2, u.* FROM unnest($3::text[], $4::uuid[], $5::bigint[], $6::bigint[]) u
			ON CONFLICT (payment_intent) DO NOTHING RETURNING amount_pence, delay_ms`,
			tx.Now, r.report.ID, pq.Array(intent), pq.Array(org), pq.Array(amount), pq.Array(delay))
	})
	if err != nil {
		return fmt.Errorf("couldn't mark the healed payments: %w", err)
	}
	for _, h := range healed {
		late := time.Duration(h.Delay) * time.Millisecond
		r.report.Healed++
		r.report.HealedPence += h.Amount
		r.delays = append(r.delays, late)
		r.metrics.healed.Inc()
		r.metrics.healedPence.Add(float64(h.Amount)) //nolint:forbidigo // a counter for a chart, not an amount
		r.metrics.healedDelay.Observe(late.Seconds())
	}
	return nil
}

// stuck is an event that keeps something from being booked.
type stuck struct {
	ID     string `db:"id"`
	Intent string `db:"payment_intent"`
	State  string `db:"state"`
	Reason string `db:"reason"`
}

// disagree reports those of the events that an operator must look at: what ended badly, and of those that were there before
// what a reconciliation had made and worked, since the difference it was made for is still there.
func (r *reconciliation) disagree(ctx context.Context, ids, again []string) error {
	var bad []stuck
	err := r.db.InSystemTx(ctx, "which events an operator must look at", func(ctx context.Context, tx *db.Tx) error {
		bad = nil
		return tx.SelectContext(ctx, &bad, `
			SELECT id, coalesce(payment_intent, '') AS payment_intent, state, reason FROM stripe_events
			WHERE id = ANY($1) AND state || '' IN ('quarantined', 'failed') UNION ALL
			SELECT id, coalesce(payment_intent, ''), state, 'it was worked before, and there is still a difference' FROM stripe_events
			WHERE id = ANY($2) AND id LIKE 'reconciled\_%' AND state || '' IN ('processed', 'ignored') ORDER BY id`, pq.Array(ids), pq.Array(again))
	})
	if err != nil {
		return fmt.Errorf("couldn't look for events that failed: %w", err)
	}
	for _, b := range bad {
		r.note(Disagreement{Subject: cmp.Or(b.Intent, b.ID), EventID: b.ID, Reason: b.Reason})
	}
	return nil
}

// note adds a disagreement, each subject once.
func (r *reconciliation) note(d Disagreement) {
	list := &r.report.Disagreements
	if len(*list) < maxDisagreements && !slices.ContainsFunc(*list, func(o Disagreement) bool { return o.Subject == d.Subject }) {
		*list = append(*list, d)
	}
}

// differing is something of Stripe's that is not as we have it.
type differing struct {
	subject, intent string
	// state is what it is at Stripe, as a part of an event's id.
	state string
	// broken is why nobody but an operator can do anything about it; empty where it may be booked.
	broken  string
	kind    string
	object  json.RawMessage
	created int64
	live    bool
}

// mend makes events of what differs, unless one stands before an operator already or waits to be worked, and works them.
func (r *reconciliation) mend(ctx context.Context, list []differing) error {
	if len(list) == 0 {
		return nil
	}
	intents := make([]string, len(list))
	for i, d := range list {
		intents[i] = d.intent
	}
	var open []stuck
	err := r.db.InSystemTx(ctx, "which payments have events that wait or failed", func(ctx context.Context, tx *db.Tx) error {
		open = nil
		return tx.SelectContext(ctx, &open, `
			SELECT id, payment_intent, state, reason FROM stripe_events
			WHERE payment_intent = ANY($1) AND state || '' IN ('received', 'quarantined', 'failed') ORDER BY id`, pq.Array(intents))
	})
	if err != nil {
		return fmt.Errorf("couldn't look for the events of payments: %w", err)
	}
	var made []received
	for _, d := range list {
		if i := slices.IndexFunc(open, func(s stuck) bool { return s.Intent == d.intent }); i >= 0 {
			if s := open[i]; s.State != stateReceived {
				r.note(Disagreement{Subject: d.subject, EventID: s.ID, Reason: s.Reason})
			}
			continue
		}
		body, err := json.Marshal(map[string]any{
			"id": "reconciled_" + d.subject + "_" + d.state, "object": "event", "api_version": stripe.APIVersion, "type": d.kind, "created": d.created,
			"livemode": d.live, "data": map[string]any{"object": d.object},
		})
		if err != nil {
			return fmt.Errorf("couldn't make an event of %s: %w", d.subject, err)
		}
		e := receive(body, r.now())
		e.broken = cmp.Or(e.broken, d.broken)
		made = append(made, e)
	}
	return r.work(ctx, made)
}

// payments compares Stripe's succeeded PaymentIntents with our credits.
func (r *reconciliation) payments(ctx context.Context) error {
	return r.each(ctx, "payment_intents", nil, func(ctx context.Context, objects []json.RawMessage) error {
		var listed []*stripe.PaymentIntent
		var raw []json.RawMessage
		var intents []string
		for _, o := range objects {
			pi := &stripe.PaymentIntent{}
			if err := json.Unmarshal(o, pi); err != nil {
				return fmt.Errorf("couldn't read a payment of Stripe's: %w", err)
			}
			if pi.Status == stripe.PaymentIntentStatusSucceeded && pi.AmountReceived > 0 {
				listed, raw, intents = append(listed, pi), append(raw, o), append(intents, pi.ID)
			}
		}
		ours, err := r.credits(ctx, intents)
		if err != nil {
			return err
		}
		var list []differing
		for i, pi := range listed {
			if r.met != nil {
				r.met[pi.ID] = true // what differs is told of below
			}
			if c, credited := ours[pi.ID]; credited && c.agrees(factOf(pi)) {
				continue
			}
			list = append(list, differing{
				subject: pi.ID, intent: pi.ID, state: fmt.Sprintf("%d%s", pi.AmountReceived, pi.Currency), kind: "payment_intent.succeeded",
				object: raw[i], created: pi.Created, live: pi.Livemode,
			})
		}
		return r.mend(ctx, list)
	})
}

// refunds compares Stripe's refunds with those that we keep.
func (r *reconciliation) refunds(ctx context.Context) error {
	return r.each(ctx, "refunds", nil, func(ctx context.Context, objects []json.RawMessage) error {
		listed := make([]*stripe.Refund, len(objects))
		ids := make([]string, len(objects))
		for i, o := range objects {
			listed[i] = &stripe.Refund{}
			if err := json.Unmarshal(o, listed[i]); err != nil {
				return fmt.Errorf("couldn't read a refund of Stripe's: %w", err)
			}
			ids[i] = listed[i].ID
		}
		ours, err := r.kept(ctx, `SELECT id, status || ' ' || amount_pence AS state FROM refunds WHERE id = ANY($1)`, ids)
		if err != nil {
			return err
		}
		var list []differing
		for i, f := range listed {
			if f.PaymentIntent == nil || ours[f.ID] == fmt.Sprintf("%s %d", f.Status, f.Amount) {
				continue // without a PaymentIntent it is of nothing that we sell
			}
			list = append(list, differing{
				subject: f.ID, intent: f.PaymentIntent.ID, state: fmt.Sprintf("%s%d", f.Status, f.Amount), kind: "charge.refund.updated",
				object: objects[i], created: f.Created, live: r.livemode,
			})
		}
		return r.mend(ctx, list)
	})
}

// disputes compares Stripe's disputes with those that we keep.
func (r *reconciliation) disputes(ctx context.Context) error {
	return r.each(ctx, "disputes", nil, func(ctx context.Context, objects []json.RawMessage) error {
		listed := make([]*stripe.Dispute, len(objects))
		ids := make([]string, len(objects))
		for i, o := range objects {
			listed[i] = &stripe.Dispute{}
			if err := json.Unmarshal(o, listed[i]); err != nil {
				return fmt.Errorf("couldn't read a dispute of Stripe's: %w", err)
			}
			ids[i] = listed[i].ID
		}
		ours, err := r.kept(ctx, `SELECT id, status || ' ' || withdrawn_pence AS state FROM disputes WHERE id = ANY($1)`, ids)
		if err != nil {
			return err
		}
		var list []differing
		for i, d := range listed {
			if d.PaymentIntent == nil || ours[d.ID] == fmt.Sprintf("%s %d", d.Status, withdrawn(d)) {
				continue
			}
			list = append(list, differing{
				subject: d.ID, intent: d.PaymentIntent.ID, state: fmt.Sprintf("%s%d", d.Status, withdrawn(d)), kind: "charge.dispute.updated",
				object: objects[i], created: d.Created, live: d.Livemode,
			})
		}
		return r.mend(ctx, list)
	})
}

// kept gives the states of what we keep, by id.
func (r *reconciliation) kept(ctx context.Context, query string, ids []string) (map[string]string, error) {
	states := map[string]string{}
	err := r.db.InSystemTx(ctx, "comparing refunds and disputes with Stripe's", func(ctx context.Context, tx *db.Tx) error {
		var rows []struct {
			ID    string `db:"id"`
			State string `db:"state"`
		}
		if err := tx.SelectContext(ctx, &rows, query, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read what we keep: %w", err)
		}
		for _, row := range rows {
			states[row.ID] = row.State
		}
		return nil
	})
	return states, err
}

// ReconciliationOverview is how the comparison with Stripe stands.
type ReconciliationOverview struct {
	// Healed payments of the last day: how many, how much, and the median from payment to credit.
	Healed      int           `db:"healed"`
	HealedPence money.Pence   `db:"healed_pence"`
	MedianDelay time.Duration `db:"-"`
	// Last is when the last one began that succeeded; the zero time when none did yet. LookedAt and Disagreements are its;
	// where the last full one had more disagreements, which the short ones after it do not look for, those.
	Last          time.Time `db:"-"`
	LookedAt      int       `db:"-"`
	Disagreements int       `db:"-"`
	// Failed is why the newest one failed; empty when it did not.
	Failed string `db:"-"`
}

// ReconciliationOverview reads it, for operators.
func (s *Service) ReconciliationOverview(ctx context.Context) (o ReconciliationOverview, err error) {
	err = s.db.InSystemTx(ctx, "an operator's overview of reconciliations", func(ctx context.Context, tx *db.Tx) error {
		var day struct {
			ReconciliationOverview

			Median int64 `db:"median_ms"`
		}
		if err := tx.GetContext(ctx, &day, `
			SELECT count(*) AS healed, coalesce(sum(amount_pence), 0)::bigint AS healed_pence,
			       coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY delay_ms), 0)::bigint AS median_ms
			FROM healed_credits WHERE healed_at > $1`, tx.Now.Add(-24*time.Hour)); err != nil {
			return fmt.Errorf("couldn't count the healed payments: %w", err)
		}
		o = day.ReconciliationOverview
		o.MedianDelay = time.Duration(day.Median) * time.Millisecond
		var last []struct {
			At            time.Time `db:"started_at"`
			LookedAt      int       `db:"looked_at"`
			Disagreements int       `db:"disagreements"`
			Error         string    `db:"error"`
		}
		if err := tx.SelectContext(ctx, &last, `
			SELECT started_at, looked_at, disagreements, error FROM reconciliations WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 100`); err != nil {
			return fmt.Errorf("couldn't read the reconciliations: %w", err)
		}
		if len(last) > 0 {
			o.Failed = last[0].Error
		}
		for _, l := range last {
			if l.Error == "" {
				o.Last, o.LookedAt, o.Disagreements = l.At, l.LookedAt, l.Disagreements
				break
			}
		}
		full, err := one[int](ctx, tx, `
			SELECT disagreements FROM reconciliations WHERE kind = 'full' AND finished_at IS NOT NULL AND error = '' ORDER BY started_at DESC LIMIT 1`)
		if err != nil {
			return fmt.Errorf("couldn't read the last full reconciliation: %w", err)
		}
		if full != nil {
			o.Disagreements = max(o.Disagreements, *full)
		}
		return nil
	})
	return o, err
}
