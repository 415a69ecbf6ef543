package payments

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"go.opentelemetry.io/otel/trace"

	"ringfence/db"
	"ringfence/internal/batch"
	"ringfence/internal/failpoint"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// The states an event ends in; the schema knows the same ones.
const (
	stateProcessed   = "processed"
	stateIgnored     = "ignored"     // nothing for us to do
	stateQuarantined = "quarantined" // an operator must look: money, or what claims to be, that we cannot place
	stateFailed      = "failed"      // every try failed; an operator can replay it
	stateReceived    = "received"    // to be tried (again)
)

// maxAttempts is how often an event that fails by itself is tried before it is failed; with retryAfter that is 2 days.
const maxAttempts = 60

// retryAfter is the pause after the n-th failed attempt: 1 s, 2 s, 4 s … up to one hour.
func retryAfter(attempt int) time.Duration {
	return min(time.Second<<min(max(attempt-1, 0), 12), time.Hour)
}

// event is a stored event on its way to being worked.
type event struct {
	ID         string     `db:"id"`
	Type       string     `db:"type"`
	Payload    []byte     `db:"payload"`
	ReceivedAt time.Time  `db:"received_at"`
	OrgID      *uuid.UUID `db:"org_id"`   // as stored with the event
	TopUpOrg   *uuid.UUID `db:"top_org"`  // the organisation of the top-up that it names
	PaymentOrg *uuid.UUID `db:"pay_org"`  // the organisation of the payment that we know already
	PaidTopUp  *uuid.UUID `db:"pay_top"`  // the top-up of that payment
	Attempts   int        `db:"attempts"` // failed tries so far
	fact       fact
	about      string // the refund or dispute that it tells of
}

// verdict is what becomes of one event.
type verdict struct{ id, state, reason string }

// Process works the stored events: it credits what was paid, moves top-ups on and settles each event's state, all in
// one transaction. Events that are worked already are passed over, so that a repeat changes nothing. A batch that fails is
// done again event by event; an event that fails alone is retried later by a job of its own, and never stops the others.
//
// Calls at the same time share their transaction: the wallets' locks would make them wait for each other anyway.
//
// An error means that nothing is known to have happened (the database is away): repeat the whole call.
func (s *Service) Process(ctx context.Context, job EventBatch) error {
	if len(job.Reversals) > 0 {
		return s.workReversals(ctx, job.Reversals)
	}
	job.span = trace.SpanFromContext(ctx)
	asking, err := s.outbox.Do(ctx, job)
	if err != nil {
		return err
	}
	return s.workReversals(ctx, asking) // after the round, which others share
}

// workBatch bounds the events that are worked in one transaction.
const workBatch = 1000

// processAll works the events of several jobs together.
func (s *Service) processAll(jobs []EventBatch, _ batch.More[EventBatch]) []batch.Result[[]string] {
	var all EventBatch
	s.fresh.begin()
	defer s.fresh.end()
	s.fresh.addTo(&all)
	spans := make([]trace.Span, 0, len(jobs))
	for _, j := range jobs {
		spans = append(spans, j.span)
		all.IDs, all.Orgs, all.Strays = append(all.IDs, j.IDs...), append(all.Orgs, j.Orgs...), append(all.Strays, j.Strays...)
	}
	results := make([]batch.Result[[]string], len(jobs))
	ctx, span := share(context.Background(), "work events", spans)
	defer span.End()
	asking, err := s.process(ctx, all)
	for i, j := range jobs {
		results[i].Err = err
		for _, id := range asking {
			if slices.Contains(j.IDs, id) || slices.Contains(j.Strays, id) {
				results[i].Value = append(results[i].Value, id)
			}
		}
	}
	return results
}

// hints are events that this process has just stored. A round takes them along before their own job comes up in the queue,
// so that under load rounds grow instead of the queue. They are no more than hints: whatever is forgotten here has its job,
// and whatever is named twice is settled once.
type hints struct {
	mu    sync.Mutex
	jobs  []EventBatch
	round chan struct{} // closed at the end of the round under way; nil between rounds
}

// begin and end bracket a round of work.
func (h *hints) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.round = make(chan struct{})
}

func (h *hints) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.round)
	h.round = nil
}

const (
	// maxAhead is how many stored events may wait for the round under way before storing more of them lets it finish
	// first, for at most letFinish: on a busy machine what is stored faster than it is worked only waits longer.
	maxAhead  = 64
	letFinish = 20 * time.Millisecond
)

// giveWay waits for the round under way if too much waits for it already.
func (h *hints) giveWay() {
	h.mu.Lock()
	ahead := 0
	for _, j := range h.jobs {
		ahead += len(j.IDs)
	}
	round := h.round
	h.mu.Unlock()
	if round == nil || ahead < maxAhead {
		return
	}
	select {
	case <-round:
	case <-time.After(letFinish):
	}
}

// maxHints bounds the stored batches that are remembered; a process without workers forgets the older ones.
const maxHints = 64

func (h *hints) add(job EventBatch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.jobs) == maxHints {
		h.jobs = slices.Delete(h.jobs, 0, 1)
	}
	h.jobs = append(h.jobs, job)
}

// addTo moves the hints into a round, as far as it has room.
func (h *hints) addTo(all *EventBatch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.jobs) && len(all.IDs)+len(h.jobs[n].IDs) <= workBatch {
		all.IDs, all.Orgs = append(all.IDs, h.jobs[n].IDs...), append(all.Orgs, h.jobs[n].Orgs...)
		n++
	}
	h.jobs = slices.Delete(h.jobs, 0, n)
}

// process works the events of a round and gives those that it has left alone because Stripe has to be asked first.
func (s *Service) process(ctx context.Context, all EventBatch) (asking []string, err error) {
	if len(all.IDs) > 0 && len(all.Orgs) > 0 {
		asking, err = s.settle(ctx, all.Orgs, all.IDs)
	}
	strays := all.Strays
	if err != nil {
		s.log.WarnContext(ctx, "a batch of events failed and is worked one by one", "events", len(all.IDs), "error", err)
		asking, strays = nil, slices.Concat(all.IDs, all.Strays)
	}
	more, err := s.oneByOne(ctx, strays)
	return append(asking, more...), err
}

// oneByOne works each event in a transaction of its own, after a closer look at whose it is.
func (s *Service) oneByOne(ctx context.Context, ids []string) (asking []string, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	work, asking, err := s.triage(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, e := range work {
		if _, err := s.settle(ctx, []uuid.UUID{*e.OrgID}, []string{e.ID}); err != nil {
			if err := s.postpone(ctx, e, err); err != nil {
				return nil, err
			}
		}
	}
	return asking, nil
}

// waitingEvents is the query of those of the events $1 that still wait, with what our own rows know of them. The state is
// compared as an expression so that no plan finds the rows by an index on it: plans are kept (see db), and when one is made
// on an empty table that index looks as good as the key.
const waitingEvents = `
	SELECT e.id, e.type, e.payload, e.received_at, e.org_id, e.attempts, t.org_id AS top_org, p.org_id AS pay_org, p.top_up_id AS pay_top
	FROM stripe_events e LEFT JOIN top_ups t ON t.id = e.top_up_id LEFT JOIN payments p ON p.payment_intent = e.payment_intent
	WHERE e.id = ANY($1) AND e.state || '' = 'received' ORDER BY e.id`

// triage looks at events across all organisations: it finds out whose they are and settles at once those that are
// nobody's. The others come back, and apart from them those for which Stripe has to be asked.
func (s *Service) triage(ctx context.Context, ids []string) (work []event, asking []string, err error) {
	var done []verdict
	err = s.db.InSystemTx(ctx, "finding out whose Stripe's events are", func(ctx context.Context, tx *db.Tx) error {
		work, done = nil, nil
		var waiting []event
		if err := tx.SelectContext(ctx, &waiting, waitingEvents, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read the events: %w", err)
		}
		waiting, asking = apart(waiting)
		late := map[string]uuid.UUID{}
		for _, e := range waiting {
			v, org := s.place(&e)
			if v.state != "" {
				done = append(done, v)
				continue
			}
			if e.OrgID == nil {
				late[e.ID] = org
			}
			e.OrgID = &org
			work = append(work, e)
		}
		if len(late) > 0 {
			if err := adopt(ctx, tx, late); err != nil {
				return err
			}
		}
		return finish(ctx, tx, done)
	})
	if err == nil {
		s.report(ctx, done)
	}
	return work, asking, err
}

// apart takes the events that are worked apart from credits out of a list, and gives their ids.
func apart(events []event) (others []event, asking []string) {
	others = slices.DeleteFunc(events, func(e event) bool {
		if apartWorked(e.Type) {
			asking = append(asking, e.ID)
		}
		return apartWorked(e.Type)
	})
	return others, asking
}

// place reads an event and says whose it is, or what becomes of an event that is nobody's.
func (s *Service) place(e *event) (verdict, uuid.UUID) {
	f, handled, err := read(e.Type, e.Payload)
	if err != nil {
		return verdict{e.ID, stateQuarantined, err.Error()}, uuid.Nil
	}
	if !handled {
		return verdict{e.ID, stateIgnored, "nothing is done on events of this type"}, uuid.Nil
	}
	if e.PaidTopUp != nil && (f.topUp == uuid.Nil || f.topUp == *e.PaidTopUp) {
		f.topUp = *e.PaidTopUp
	} else if e.PaidTopUp != nil {
		return verdict{e.ID, stateQuarantined, "the payment belongs to another top-up than the event names"}, uuid.Nil
	}
	e.fact = f
	switch {
	case e.TopUpOrg != nil:
		return verdict{}, *e.TopUpOrg
	case e.PaymentOrg != nil:
		return verdict{}, *e.PaymentOrg
	case f.paid > 0:
		return verdict{e.ID, stateQuarantined, "paid, but for no top-up that we know"}, uuid.Nil
	default:
		return verdict{e.ID, stateIgnored, "of no top-up that we know, and no money moved"}, uuid.Nil
	}
}

// adopt stores whose events are that nobody could place when they were stored.
func adopt(ctx context.Context, tx *db.Tx, orgs map[string]uuid.UUID) error {
	var ids, of []string
	for _, id := range slices.Sorted(maps.Keys(orgs)) {
		ids, of = append(ids, id), append(of, orgs[id].String())
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE stripe_events e SET org_id = u.org_id FROM unnest($1::text[], $2::uuid[]) u (id, org_id) WHERE e.id = u.id`,
		pq.Array(ids), pq.Array(of)); err != nil {
		return fmt.Errorf("couldn't store whose the events are: %w", err)
	}
	return nil
}

// finish settles events that still wait.
func finish(ctx context.Context, tx *db.Tx, verdicts []verdict) error {
	if len(verdicts) == 0 {
		return nil
	}
	var id, state, reason []string
	for _, v := range verdicts {
		id, state, reason = append(id, v.id), append(state, v.state), append(reason, v.reason)
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE stripe_events e SET state = u.state, reason = u.reason, processed_at = $1, attempts = e.attempts + 1
		FROM unnest($2::text[], $3::text[], $4::text[]) u (id, state, reason)
		WHERE e.id = u.id AND e.state || '' = 'received'`, tx.Now, pq.Array(id), pq.Array(state), pq.Array(reason)); err != nil {
		return fmt.Errorf("couldn't settle the events: %w", err)
	}
	return nil
}

// topUpRow is what judging an event needs of its top-up.
type topUpRow struct {
	ID        uuid.UUID `db:"id"`
	OrgID     uuid.UUID `db:"org_id"`
	Customer  string    `db:"customer_id"`
	Automatic bool      `db:"automatic"`
}

// settle works those of the events that wait and belong to the organisations, in one transaction that sees exactly those.
// It leaves alone, and gives, those for which Stripe has to be asked.
func (s *Service) settle(ctx context.Context, orgs []uuid.UUID, ids []string) (asking []string, err error) {
	var verdicts []verdict
	var credited map[string]bool
	var paid map[string]payment
	err = s.db.InTx(ctx, orgs, func(ctx context.Context, tx *db.Tx) error {
		verdicts, credited, paid = nil, nil, nil
		var events []event
		// Those that another worker has in hand are its own.
		if err := tx.SelectContext(ctx, &events, waitingEvents+` FOR NO KEY UPDATE OF e SKIP LOCKED`, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't lock the events: %w", err)
		}
		if events, asking = apart(events); len(events) == 0 {
			return nil
		}
		verdicts = make([]verdict, len(events))
		for i := range events {
			verdicts[i], _ = s.place(&events[i])
		}
		topUps, err := lockTopUps(ctx, tx, events)
		if err != nil {
			return err
		}
		for i, e := range events {
			if verdicts[i].state == "" {
				verdicts[i] = s.judge(e.fact, topUps[e.fact.topUp], e.ID)
			}
		}
		if paid, err = s.recordPayments(ctx, tx, events, verdicts); err != nil {
			return err
		}
		if credited, err = wallet.CreditPayments(ctx, tx, due(paid)); err != nil {
			return err
		}
		failpoint.Hit(failpoint.WorkBeforeCommit)
		if err := moveTopUps(ctx, tx, events, verdicts, paid, credited); err != nil {
			return err
		}
		if err := tell(ctx, tx, events, verdicts, topUps, paid, credited); err != nil {
			return err
		}
		return finish(ctx, tx, verdicts)
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.WorkAfterCommit)
	s.report(ctx, verdicts)
	s.announce(ctx, credited, paid)
	return asking, nil
}

// due are the payments to be credited.
func due(paid map[string]payment) []wallet.Payment {
	list := make([]wallet.Payment, 0, len(paid))
	for _, p := range paid {
		list = append(list, wallet.Payment{PaymentIntent: p.intent, OrgID: p.org, TopUpID: p.topUp, Amount: p.amount, EventID: p.event})
	}
	return list
}

// announce tells the log and the metrics what was credited.
func (s *Service) announce(ctx context.Context, credited map[string]bool, paid map[string]payment) {
	for intent := range credited {
		p := paid[intent]
		s.metrics.credits.Inc()
		s.metrics.pence.Add(float64(p.amount)) //nolint:forbidigo // a counter for a chart, not an amount
		s.metrics.delay.Observe(s.now().Sub(p.received).Seconds())
		s.log.InfoContext(ctx, "credited", "org", p.org, "payment_intent", intent, "top_up", p.topUp, "pence", int64(p.amount), "event", p.event)
	}
}

// lockTopUps locks the top-ups that the events name and gives them with their organisations' customers.
func lockTopUps(ctx context.Context, tx *db.Tx, events []event) (map[uuid.UUID]topUpRow, error) {
	ids := make([]uuid.UUID, len(events))
	for i, e := range events {
		ids[i] = e.fact.topUp
	}
	var rows []topUpRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT t.id, t.org_id, coalesce(c.customer_id, '') AS customer_id, t.automatic
		FROM top_ups t LEFT JOIN stripe_customers c ON c.org_id = t.org_id
		WHERE t.id = ANY($1) ORDER BY t.id FOR NO KEY UPDATE OF t`, pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("couldn't lock the top-ups: %w", err)
	}
	found := make(map[uuid.UUID]topUpRow, len(rows))
	for _, r := range rows {
		found[r.ID] = r
	}
	return found, nil
}

// judge says whether an event may act on its top-up. What it says of money must fit in every point, or an operator sees it.
func (s *Service) judge(f fact, t topUpRow, id string) verdict {
	unplaced := stateQuarantined
	if f.paid == 0 {
		unplaced = stateIgnored // it only tells; without money there is nothing to place
	}
	switch {
	case t.ID == uuid.Nil:
		return verdict{id, unplaced, "the top-up is not one of the organisation's"}
	case f.livemode != s.livemode:
		return verdict{id, unplaced, fmt.Sprintf("livemode is %t, ours is %t", f.livemode, s.livemode)}
	case f.state != Paid:
		return verdict{id, stateProcessed, ""}
	case f.currency != "gbp":
		return verdict{id, stateQuarantined, fmt.Sprintf("paid in %q, not in gbp", f.currency)}
	case f.paid <= 0:
		return verdict{id, stateQuarantined, fmt.Sprintf("paid with an amount of %d", int64(f.paid))}
	case f.intent == "":
		return verdict{id, stateQuarantined, "paid without a PaymentIntent"}
	case t.Customer == "" || f.customer != t.Customer:
		return verdict{id, stateQuarantined, fmt.Sprintf("paid by customer %q, not by the organisation's own", f.customer)}
	}
	return verdict{id, stateProcessed, ""}
}

// payment is one PaymentIntent that the batch's events say is paid.
type payment struct {
	intent   string
	org      uuid.UUID
	topUp    uuid.UUID
	amount   money.Pence
	event    string
	received time.Time
}

// recordPayments upserts, and thereby locks, the payments that the accepted events name, in ascending order. It returns
// those that are paid, and quarantines events that disagree with what is known of their payment.
func (s *Service) recordPayments(ctx context.Context, tx *db.Tx, events []event, verdicts []verdict) (map[string]payment, error) {
	named := map[string]payment{}
	for i, e := range events {
		f := e.fact
		if verdicts[i].state != stateProcessed || f.intent == "" {
			continue
		}
		p, seen := named[f.intent]
		switch {
		case seen && (p.topUp != f.topUp || p.amount > 0 && f.paid > 0 && p.amount != f.paid):
			continue // it will disagree with the row below
		case !seen:
			p = payment{intent: f.intent, org: *e.OrgID, topUp: f.topUp}
		}
		if f.paid > 0 && p.amount == 0 {
			p.amount, p.event, p.received = f.paid, e.ID, e.ReceivedAt
		}
		named[f.intent] = p
	}
	if len(named) == 0 {
		return named, nil
	}
	var intent, org, topUp []string
	var amount []int64
	for _, p := range slices.SortedFunc(maps.Values(named), func(a, b payment) int { return cmp.Compare(a.intent, b.intent) }) {
		intent, org = append(intent, p.intent), append(org, p.org.String())
		topUp, amount = append(topUp, p.topUp.String()), append(amount, int64(p.amount))
	}
	var rows []struct {
		Intent string      `db:"payment_intent"`
		TopUp  uuid.UUID   `db:"top_up_id"`
		Amount money.Pence `db:"amount_pence"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		INSERT INTO payments AS p (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at)
		SELECT u.payment_intent, u.org_id, u.top_up_id, u.amount, CASE WHEN u.amount > 0 THEN $1::timestamptz END, $1, $1
		FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::bigint[]) u (payment_intent, org_id, top_up_id, amount)
		ORDER BY u.payment_intent
		ON CONFLICT (payment_intent) DO UPDATE
		SET amount_pence = CASE WHEN p.amount_pence = 0 THEN excluded.amount_pence ELSE p.amount_pence END,
		    paid_at = coalesce(p.paid_at, excluded.paid_at), updated_at = excluded.updated_at
		RETURNING p.payment_intent, p.top_up_id, p.amount_pence`,
		tx.Now, pq.Array(intent), pq.Array(org), pq.Array(topUp), pq.Array(amount)); err != nil {
		return nil, fmt.Errorf("couldn't store the payments: %w", err)
	}
	known := make(map[string]payment, len(rows))
	for _, r := range rows {
		known[r.Intent] = payment{topUp: r.TopUp, amount: r.Amount}
	}
	for i, e := range events {
		f := e.fact
		k, ok := known[f.intent]
		switch {
		case !ok || verdicts[i].state != stateProcessed:
		case k.topUp != f.topUp:
			verdicts[i] = verdict{e.ID, stateQuarantined, "the payment belongs to another top-up"}
		case f.paid > 0 && k.amount != f.paid:
			verdicts[i] = verdict{e.ID, stateQuarantined, fmt.Sprintf("paid %d pence, but the payment is known with %d", int64(f.paid), int64(k.amount))}
		}
	}
	maps.DeleteFunc(named, func(intent string, p payment) bool {
		return p.amount == 0 || known[intent].amount != p.amount || known[intent].topUp != p.topUp
	})
	return named, nil
}

// moveTopUps applies the accepted events to their top-ups: the highest state, the newest note, and what was credited
// just now. The result does not depend on the order in which events come.
func moveTopUps(ctx context.Context, tx *db.Tx, events []event, verdicts []verdict, paid map[string]payment, credited map[string]bool) error {
	type change struct {
		state  TopUpState
		paid   money.Pence
		note   string
		noteAt time.Time
	}
	changes := map[uuid.UUID]change{}
	for i, e := range events {
		f := e.fact
		if verdicts[i].state != stateProcessed {
			continue
		}
		c, ok := changes[f.topUp]
		if !ok {
			c = change{state: Creating}
		}
		if f.state != "" && rank(f.state) > rank(c.state) {
			c.state = f.state
		}
		if f.note != "" && (f.at.After(c.noteAt) || f.at.Equal(c.noteAt) && f.note > c.note) {
			c.note, c.noteAt = f.note, f.at
		}
		changes[f.topUp] = c
	}
	for intent := range credited {
		c := changes[paid[intent].topUp]
		c.paid += paid[intent].amount
		changes[paid[intent].topUp] = c
	}
	if len(changes) == 0 {
		return nil
	}
	var id, state, note []string
	var sum []int64
	var noteAt []time.Time
	for k, c := range changes {
		id, state = append(id, k.String()), append(state, string(c.state))
		sum, note, noteAt = append(sum, int64(c.paid)), append(note, c.note), append(noteAt, c.noteAt)
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE top_ups t
		SET state = greatest(t.state, u.state::top_up_state), paid_pence = t.paid_pence + u.paid, updated_at = $1,
		    note = CASE WHEN u.note <> '' AND (t.note_at IS NULL OR (u.note_at, u.note) > (t.note_at, t.note)) THEN u.note ELSE t.note END,
		    note_at = CASE WHEN u.note <> '' AND (t.note_at IS NULL OR (u.note_at, u.note) > (t.note_at, t.note)) THEN u.note_at ELSE t.note_at END
		FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[]) u (id, state, paid, note, note_at)
		WHERE t.id = u.id`,
		tx.Now, pq.Array(id), pq.Array(state), pq.Array(sum), pq.Array(note), pq.Array(noteAt)); err != nil {
		return fmt.Errorf("couldn't move the top-ups on: %w", err)
	}
	return nil
}

// rank is the place of a state in the order in which top-ups move.
func rank(s TopUpState) int {
	return slices.Index([]TopUpState{Creating, Open, Expired, Processing, Failed, Paid}, s)
}

// postpone records that an event failed by itself and adds the job that tries it again.
func (s *Service) postpone(ctx context.Context, e event, cause error) error {
	attempt := e.Attempts + 1
	state, pause := stateReceived, retryAfter(attempt)
	if attempt >= maxAttempts {
		state = stateFailed
	}
	level := slog.LevelWarn
	if state == stateFailed {
		level = slog.LevelError
	}
	s.log.Log(ctx, level, "an event failed", "event", e.ID, "type", e.Type, "attempt", attempt, "state", state, "error", cause)
	err := s.db.InSystemTx(ctx, "postponing an event that failed", func(ctx context.Context, tx *db.Tx) error {
		at := tx.Now.Add(pause)
		var id string
		err := tx.GetContext(ctx, &id, `
			UPDATE stripe_events SET attempts = $2, state = $3, reason = $4, next_attempt_at = $5
			WHERE id = $1 AND state = 'received' RETURNING id`, e.ID, attempt, state, strings.ToValidUTF8(cause.Error(), "?"), at)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // settled after all: the reply to a commit was lost, or another worker was faster
		}
		if err != nil {
			return fmt.Errorf("couldn't postpone event %s: %w", e.ID, err)
		}
		if state == stateFailed {
			return nil
		}
		return s.enqueue(ctx, tx, batchOf(e), at)
	})
	if err == nil {
		s.metrics.worked.WithLabelValues(map[bool]string{true: "failed", false: "retried"}[state == stateFailed]).Inc()
	}
	return err
}

// report tells the log and the metrics what became of events.
func (s *Service) report(ctx context.Context, verdicts []verdict) {
	for _, v := range verdicts {
		s.metrics.worked.WithLabelValues(v.state).Inc()
		if v.state == stateQuarantined {
			s.log.ErrorContext(ctx, "an event was quarantined", "event", v.id, "reason", v.reason)
		}
	}
}

const (
	// sweepAge is how long an event may wait before the sweeper gives it a new job.
	sweepAge = 30 * time.Second
	// sweepBatch bounds one job of the sweeper's, sweepLimit one round of it.
	sweepBatch, sweepLimit = 100, 5000
)

// Sweep gives a new job to every event that has waited for more than 30 s, whatever became of its first one, and returns
// how many there were. Events, not jobs, are the truth: a lost, discarded or stuck job costs half a minute, not the money.
func (s *Service) Sweep(ctx context.Context) (swept int, err error) {
	err = s.db.InSystemTx(ctx, "finding events that wait too long", func(ctx context.Context, tx *db.Tx) error {
		var late []event
		// Moving the next attempt to now keeps the next round from adding the same jobs again.
		if err := tx.SelectContext(ctx, &late, `
			UPDATE stripe_events SET next_attempt_at = $1
			WHERE id IN (SELECT id FROM stripe_events WHERE state = 'received' AND next_attempt_at < $2
			             ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
			RETURNING id, type`, tx.Now, tx.Now.Add(-sweepAge), sweepLimit); err != nil {
			return fmt.Errorf("couldn't look for waiting events: %w", err)
		}
		swept = len(late)
		for some := range slices.Chunk(late, sweepBatch) {
			if err := s.enqueue(ctx, tx, batchOf(some...), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if swept > 0 && err == nil {
		s.log.WarnContext(ctx, "events had waited too long and got a new job", "events", swept)
	}
	return swept, err
}
