package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/riverqueue/river"
	"github.com/stripe/stripe-go/v76/webhook"
	"go.opentelemetry.io/otel/trace"

	"ringfence/db"
	"ringfence/internal/batch"
	"ringfence/internal/failpoint"
	"ringfence/internal/fault"
)

const (
	// signatureTolerance is how old or how far ahead a signature may be. Stripe's library checks only the first.
	signatureTolerance = 300 * time.Second
	// batchBytes bounds what one commit of events carries; an event counts for at least minEventBytes.
	batchBytes    = 8 << 20
	minEventBytes = 16 << 10
	// maxWaiting bounds the events that wait for a commit; more are refused, and Stripe repeats them.
	maxWaiting = 4096
)

// The queues of the jobs that work events. Where Stripe has to be asked, credits must not wait for its answer.
const (
	QueueStripe    = "stripe"
	QueueReversals = "stripe_reversals"
)

// EventBatch is the job that works the events of one committed batch.
type EventBatch struct {
	// IDs are events of the organisations Orgs.
	IDs  []string    `json:"ids,omitempty"`
	Orgs []uuid.UUID `json:"orgs,omitempty"`
	// Strays are events that have to be looked at one by one: nobody knew whose they are, or they have waited too long.
	Strays []string `json:"strays,omitempty"`
	// Reversals are events about refunds and disputes, for which Stripe has to be asked, and about saved cards. A job has
	// either these or others.
	Reversals []string `json:"reversals,omitempty"`

	span trace.Span // of the job that works it
}

// Kind is the job's name in the queue.
func (EventBatch) Kind() string { return "stripe_events" }

// InsertOpts puts the job on its queue.
func (b EventBatch) InsertOpts() river.InsertOpts {
	if len(b.Reversals) > 0 {
		return river.InsertOpts{Queue: QueueReversals}
	}
	return river.InsertOpts{Queue: QueueStripe}
}

// Accept checks the signature of a webhook's raw body and stores the event together with the job that will work it. When
// it returns nil, both are committed; duplicate says that the event was there before. It makes no call out.
//
// Errors: a fault of kind Invalid when the signature does not hold (nothing was stored), of kind Unavailable when the
// event could not be stored (Stripe will repeat it). It is safe to repeat.
func (s *Service) Accept(ctx context.Context, body []byte, signature string) (duplicate bool, err error) {
	if err := s.verify(body, signature); err != nil {
		s.metrics.received.WithLabelValues("bad_signature").Inc()
		s.refused.add(s.now())
		return false, fault.Wrap(fault.Invalid, "The signature does not match this body.", err)
	}
	e := receive(body, s.now())
	e.span = trace.SpanFromContext(ctx)
	duplicate, err = s.inbox.Do(ctx, e)
	failpoint.Hit(failpoint.AcceptBeforeAnswer)
	switch {
	case err != nil:
		s.metrics.received.WithLabelValues("not_stored").Inc()
		return false, fault.Wrap(fault.Unavailable, "The event could not be stored. Please send it again.", err)
	case duplicate:
		s.metrics.received.WithLabelValues("duplicate").Inc()
	default:
		s.metrics.received.WithLabelValues("stored").Inc()
	}
	return duplicate, nil
}

// verify checks Stripe's signature (https://docs.stripe.com/webhooks#verify-manually) against each secret in turn.
func (s *Service) verify(body []byte, header string) error {
	at, err := signedAt(header)
	if err != nil {
		return err
	}
	if age := s.now().Sub(at); age > signatureTolerance || age < -signatureTolerance {
		return fmt.Errorf("signed %s ago, beyond the tolerance", age.Round(time.Second))
	}
	for _, secret := range s.secrets {
		if err = webhook.ValidatePayloadIgnoringTolerance(body, header, secret); err == nil {
			return nil
		}
	}
	return err
}

// signedAt reads the one timestamp of a Stripe-Signature header. With two of them nobody could say which one was signed.
func signedAt(header string) (at time.Time, err error) {
	found := false
	for part := range strings.SplitSeq(header, ",") {
		value, ok := strings.CutPrefix(strings.TrimSpace(part), "t=")
		if !ok {
			continue
		}
		seconds, perr := strconv.ParseInt(value, 10, 64)
		if found || perr != nil {
			return time.Time{}, errors.New("the signature header has no single timestamp")
		}
		at, found = time.Unix(seconds, 0), true
	}
	if !found {
		return time.Time{}, errors.New("the signature header has no timestamp")
	}
	return at, nil
}

// commit stores a batch in one transaction and answers for every event of it. Where the batch fails because of what is in
// it, each event is committed alone, so that a poisoned one gets its own answer; where the database is away, nobody waits
// for it event by event.
func (s *Service) commit(events []received, _ batch.More[received]) []batch.Result[bool] {
	// No request decides about the others' commit, so none of their contexts is used.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	spans := make([]trace.Span, len(events))
	for i, e := range events {
		spans[i] = e.span
	}
	ctx, span := share(ctx, "store events", spans)
	defer span.End()
	s.fresh.giveWay()
	results := make([]batch.Result[bool], len(events))
	stored, err := s.storeEvents(ctx, events, true)
	if errors.Is(err, db.ErrCommitUnknown) {
		stored, err = s.storeEvents(ctx, events, true) // what the lost commit did store now shows as a duplicate
	}
	if err == nil || len(events) == 1 || pq.As(err) == nil {
		for i := range results {
			results[i] = batch.Result[bool]{Value: err == nil && !stored[i], Err: err}
		}
		return results
	}
	s.log.WarnContext(ctx, "a batch of events failed and is stored one by one", "events", len(events), "error", err)
	for i := range events {
		one, err := s.storeEvents(ctx, events[i:i+1], true)
		results[i] = batch.Result[bool]{Value: err == nil && !one[0], Err: err}
	}
	return results
}

// storeEvents inserts those of the events that are new and says for each whether it was. With queue they were delivered, and
// there is a job for them; without, the caller fetched them and works them, and should it die the sweeper finds them.
func (s *Service) storeEvents(ctx context.Context, events []received, queue bool) (stored []bool, err error) {
	// One order everywhere: two processes that store the same events wait for each other, never in a ring.
	order := make([]int, len(events))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(events[a].id, events[b].id) })
	first := make(map[string]int, len(events)) // of an event that came twice at once, the earlier is the one that is stored
	var c struct {
		id, kind, intent, state, reason []string
		topUp                           []*string
		payload                         pq.ByteaArray
		occurred                        []time.Time
	}
	for _, i := range order {
		e := events[i]
		if _, twice := first[e.id]; twice {
			continue
		}
		first[e.id] = i
		state := stateReceived
		if e.broken != "" {
			state = stateQuarantined
		}
		var topUp *string
		if e.topUp != uuid.Nil {
			s := e.topUp.String()
			topUp = &s
		}
		c.id, c.kind, c.payload = append(c.id, e.id), append(c.kind, e.kind), append(c.payload, e.payload)
		c.topUp, c.intent = append(c.topUp, topUp), append(c.intent, e.paymentIntent)
		c.state, c.reason, c.occurred = append(c.state, state), append(c.reason, e.broken), append(c.occurred, e.occurred)
	}
	var job EventBatch
	err = s.db.InSystemTx(ctx, "storing Stripe's events, before it is known whose they are", func(ctx context.Context, tx *db.Tx) error {
		stored = make([]bool, len(events))
		failpoint.Hit(failpoint.AcceptBeforeInsert)
		var fresh []struct {
			ID    string     `db:"id"`
			State string     `db:"state"`
			OrgID *uuid.UUID `db:"org_id"`
		}
		if err := tx.SelectContext(ctx, &fresh, `
			INSERT INTO stripe_events (received_at, next_attempt_at, id, type, payload, top_up_id, payment_intent, org_id, state, reason, occurred_at, fetched)
			SELECT $1, $1, u.id, u.type, u.payload, u.top_up_id, nullif(u.payment_intent, ''),
			       -- Where the top-up and the payment belong to different organisations, nobody is taken at the event's word.
			       CASE WHEN p.org_id IS NULL OR t.org_id IS NULL OR t.org_id = p.org_id THEN coalesce(t.org_id, p.org_id) END,
			       u.state, u.reason, u.occurred_at, $10
			FROM unnest($2::text[], $3::text[], $4::bytea[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::timestamptz[])
			     u (id, type, payload, top_up_id, payment_intent, state, reason, occurred_at)
			     LEFT JOIN top_ups t ON t.id = u.top_up_id
			     LEFT JOIN payments p ON p.payment_intent = u.payment_intent
			ORDER BY u.id
			ON CONFLICT (id) DO NOTHING RETURNING id, state, org_id`,
			tx.Now, pq.Array(c.id), pq.Array(c.kind), c.payload, pq.Array(c.topUp), pq.Array(c.intent), pq.Array(c.state),
			pq.Array(c.reason), pq.Array(c.occurred), !queue); err != nil {
			return fmt.Errorf("couldn't store the events: %w", err)
		}
		job = EventBatch{}
		for _, f := range fresh {
			stored[first[f.ID]] = true
			switch {
			case f.State != stateReceived:
			case apartWorked(events[first[f.ID]].kind):
				job.Reversals = append(job.Reversals, f.ID)
			case f.OrgID == nil:
				job.Strays = append(job.Strays, f.ID)
			default:
				job.IDs = append(job.IDs, f.ID)
				if !slices.Contains(job.Orgs, *f.OrgID) {
					job.Orgs = append(job.Orgs, *f.OrgID)
				}
			}
		}
		failpoint.Hit(failpoint.AcceptBeforeCommit)
		if !queue {
			return nil
		}
		return s.enqueue(ctx, tx, job, time.Time{})
	})
	if err == nil && queue && len(job.IDs) > 0 {
		s.fresh.add(job)
	}
	return stored, err
}

// enqueue adds the job that works the events, in the transaction of the fact that they wait; at is when, zero for now.
// Those for which Stripe has to be asked get one of their own.
func (s *Service) enqueue(ctx context.Context, tx *db.Tx, job EventBatch, at time.Time) error {
	slow := EventBatch{Reversals: job.Reversals}
	job.Reversals = nil
	for _, j := range []EventBatch{job, slow} {
		if len(j.IDs)+len(j.Strays)+len(j.Reversals) == 0 {
			continue
		}
		if _, err := s.jobs.InsertTx(ctx, tx.Tx.Tx, j, &river.InsertOpts{ScheduledAt: at}); err != nil {
			return fmt.Errorf("couldn't add the job: %w", err)
		}
	}
	return nil
}
