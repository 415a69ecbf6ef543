package payments

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// What operators see of Stripe's events. Everything here only reads, across organisations, so it runs as the system's
// role; who may ask is for the caller to decide. No question reads more of the table than it answers with: lists go by
// keyset along an index, and counts end at [CountLimit].

// EventState is what became of a stored event.
type EventState string

// The states, in the order in which an operator cares.
const (
	EventQuarantined EventState = stateQuarantined // money, or what claims to be, that could not be placed
	EventFailed      EventState = stateFailed      // every try failed
	EventReceived    EventState = stateReceived    // waits to be worked, for the first time or again
	EventProcessed   EventState = stateProcessed
	EventIgnored     EventState = stateIgnored // nothing for us to do
)

// EventStates are all of them.
func EventStates() []EventState {
	return []EventState{EventQuarantined, EventFailed, EventReceived, EventProcessed, EventIgnored}
}

const (
	// EventsPerPage is the length of a page of events.
	EventsPerPage = 50
	// CountLimit is where counting the events of a state stops.
	CountLimit = 10_000
	// typesLimit bounds the list of types; Stripe has about 250.
	typesLimit = 300
	// historyLimit bounds the audit rows that are shown with one event.
	historyLimit = 200
)

// EventFilter says which events to list; its zero value is all of them.
type EventFilter struct {
	State EventState
	Type  string
	// Text is an event's id, a PaymentIntent or the id of a top-up, in full.
	Text string
}

// EventCursor is the place in the list after which to go on; its zero value is the beginning.
type EventCursor struct {
	ReceivedAt time.Time
	ID         string
}

// EventSummary is one event of a list, without its payload.
type EventSummary struct {
	ID    string     `db:"id"`
	Type  string     `db:"type"`
	State EventState `db:"state"`
	// Reason is why it was ignored or quarantined, or what the last try failed with.
	Reason string `db:"reason"`
	// OrgID and OrgName are whose it is; uuid.Nil and "" while that is not known.
	OrgID         uuid.UUID `db:"org_id"`
	OrgName       string    `db:"org_name"`
	TopUpID       uuid.UUID `db:"top_up_id"` // uuid.Nil when it names none
	PaymentIntent string    `db:"payment_intent"`
	Attempts      int       `db:"attempts"`
	OccurredAt    time.Time `db:"occurred_at"`     // when Stripe made it
	ReceivedAt    time.Time `db:"received_at"`     // when we stored it
	NextAttemptAt time.Time `db:"next_attempt_at"` // matters while it waits
	// ProcessedAt is when it was settled; nil before that.
	ProcessedAt *time.Time `db:"processed_at"`
	// Fetched says that it did not come by webhook, but was found by comparing our books with Stripe's.
	Fetched bool `db:"fetched"`
}

// GivenUpAt is when the last try of a failed event was made; the zero time for an event in any other state. What is
// stored is when the next one would have been due.
func (e EventSummary) GivenUpAt() time.Time {
	if e.State != EventFailed {
		return time.Time{}
	}
	return e.NextAttemptAt.Add(-retryAfter(e.Attempts))
}

const eventColumns = `e.id, e.type, e.state, e.reason, coalesce(e.org_id, '00000000-0000-0000-0000-000000000000') AS org_id,
	coalesce(o.name, '') AS org_name, coalesce(e.top_up_id, '00000000-0000-0000-0000-000000000000') AS top_up_id,
	coalesce(e.payment_intent, '') AS payment_intent, e.attempts, e.occurred_at, e.received_at, e.next_attempt_at, e.processed_at,
	e.fetched`

// EventPage is a part of a list.
type EventPage struct {
	Events []EventSummary
	// Older is where the next page begins; nil when this is the last.
	Older *EventCursor
}

// Events lists the events that fit, newest first, from the cursor on. A filter that fits nothing gives an empty page.
func (s *Service) Events(ctx context.Context, f EventFilter, from EventCursor) (page EventPage, err error) {
	states := EventStates()
	if f.State != "" {
		states = []EventState{f.State}
	}
	if from.ReceivedAt.IsZero() {
		from.ReceivedAt = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if !printable(f.Type) || !printable(f.Text) {
		return EventPage{}, nil // no event has such a type or id, and Postgres could not even be asked
	}
	var topUp *string
	if id, err := uuid.Parse(f.Text); err == nil {
		topUp = new(id.String())
	}
	// One type more or less changes which index answers, so it must not be a condition that may be empty.
	ofType := `$2 = ''`
	if f.Type != "" {
		ofType = `type = $2`
	}
	query := `
		SELECT ` + eventColumns + `
		FROM unnest($1::text[]) s (state) CROSS JOIN LATERAL (
		         SELECT id, type, state, reason, org_id, top_up_id, payment_intent, attempts, occurred_at, received_at, next_attempt_at, processed_at, fetched
		         FROM stripe_events WHERE state = s.state AND ` + ofType + ` AND (received_at, id) < ($3, $4)
		         ORDER BY received_at DESC, id DESC LIMIT $5) e
		     LEFT JOIN organizations o ON o.id = e.org_id
		ORDER BY e.received_at DESC, e.id DESC LIMIT $5`
	args := []any{pq.Array(states), f.Type, from.ReceivedAt, from.ID, EventsPerPage + 1}
	if f.Text != "" {
		query = `
		WITH hit AS MATERIALIZED (
		    SELECT id FROM stripe_events WHERE id = $6 UNION
		    SELECT id FROM stripe_events WHERE payment_intent = $6 UNION
		    SELECT id FROM stripe_events WHERE top_up_id = $7::uuid)
		SELECT ` + eventColumns + `
		FROM hit JOIN stripe_events e ON e.id = hit.id LEFT JOIN organizations o ON o.id = e.org_id
		WHERE e.state = ANY($1) AND ` + ofType + ` AND (e.received_at, e.id) < ($3, $4)
		ORDER BY e.received_at DESC, e.id DESC LIMIT $5`
		args = append(args, f.Text, topUp)
	}
	err = s.db.InSystemTx(ctx, "an operator's list of Stripe's events", func(ctx context.Context, tx *db.Tx) error {
		page.Events = nil
		if err := planAnew(ctx, tx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &page.Events, query, args...)
	})
	if err != nil {
		return EventPage{}, fmt.Errorf("couldn't list the events: %w", err)
	}
	if len(page.Events) > EventsPerPage {
		page.Events = page.Events[:EventsPerPage]
		last := page.Events[EventsPerPage-1]
		page.Older = &EventCursor{ReceivedAt: last.ReceivedAt, ID: last.ID}
	}
	return page, nil
}

// planAnew has the transaction's statements planned for what they ask today. Plans that are kept (see db) may come from a
// time when the table was empty and every index as good as the other; a person's question can pay for a new one.
func planAnew(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.ExecContext(ctx, `SET LOCAL plan_cache_mode = force_custom_plan`); err != nil {
		return fmt.Errorf("couldn't have the statements planned anew: %w", err)
	}
	return nil
}

// printable reports whether Postgres can take s as a text.
func printable(s string) bool { return strings.ToValidUTF8(s, "") == s && !strings.ContainsRune(s, 0) }

// EventOverview is how the events stand together.
type EventOverview struct {
	// Counts are the events of each state, at most CountLimit + 1: that many means "more than CountLimit".
	Counts map[EventState]int
	// OldestWaiting is when the oldest event that is not worked yet was stored; the zero time when none waits.
	OldestWaiting time.Time
	// Types are those that there are events of, in alphabetical order.
	Types []string
}

// EventOverview counts the events by state and finds what waits the longest.
func (s *Service) EventOverview(ctx context.Context) (v EventOverview, err error) {
	err = s.db.InSystemTx(ctx, "an operator's overview of Stripe's events", func(ctx context.Context, tx *db.Tx) error {
		v = EventOverview{Counts: map[EventState]int{}}
		if err := planAnew(ctx, tx); err != nil {
			return err
		}
		var counts []struct {
			State EventState `db:"state"`
			N     int        `db:"n"`
		}
		// The order keeps the planner on the index, where a count of few among many is short.
		if err := tx.SelectContext(ctx, &counts, `
			SELECT s.state, (SELECT count(*) FROM (
			           SELECT FROM stripe_events e WHERE e.state = s.state ORDER BY e.received_at DESC, e.id DESC LIMIT $2) few) AS n
			FROM unnest($1::text[]) s (state)`, pq.Array(EventStates()), CountLimit+1); err != nil {
			return fmt.Errorf("couldn't count the events: %w", err)
		}
		for _, c := range counts {
			v.Counts[c.State] = c.N
		}
		err := tx.GetContext(ctx, &v.OldestWaiting, `
			SELECT received_at FROM stripe_events WHERE state = 'received' ORDER BY received_at, id LIMIT 1`)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("couldn't look for the oldest event: %w", err)
		}
		// From each type the next one: as many steps along the index as there are types.
		if err := tx.SelectContext(ctx, &v.Types, `
			WITH RECURSIVE step (type, n) AS (
			    (SELECT type, 1 FROM stripe_events ORDER BY type LIMIT 1) UNION ALL
			    SELECT (SELECT e.type FROM stripe_events e WHERE e.type > step.type ORDER BY e.type LIMIT 1), n + 1
			    FROM step WHERE step.type IS NOT NULL AND n < $1)
			SELECT type FROM step WHERE type IS NOT NULL`, typesLimit); err != nil {
			return fmt.Errorf("couldn't list the types: %w", err)
		}
		return nil
	})
	return v, err
}

// EventDetail is everything that is known about one event.
type EventDetail struct {
	EventSummary

	// Payload is the body as it came, byte for byte.
	Payload []byte
	// TopUp, Payment and Credit are what it led to or belongs to; nil where there is none.
	TopUp   *TopUp
	Payment *EventPayment
	Credit  *EventCredit
	// Refunds and Disputes are the payment's as Stripe has them, Reversals what was posted because of them; oldest first.
	Refunds   []EventRefund
	Disputes  []EventDispute
	Reversals []EventReversal
	// History is the audit log of the event, its top-up and its credit, oldest first.
	History []EventAudit
}

// EventPayment is what we know of a PaymentIntent.
type EventPayment struct {
	PaymentIntent string      `db:"payment_intent"`
	Amount        money.Pence `db:"amount_pence"` // zero until it is paid
	PaidAt        *time.Time  `db:"paid_at"`
	TopUpID       uuid.UUID   `db:"top_up_id"`
}

// EventCredit is the credit of a payment and the ledger transaction that holds it.
type EventCredit struct {
	TransactionID uuid.UUID   `db:"transaction_id"`
	Amount        money.Pence `db:"amount_pence"`
	CreatedAt     time.Time   `db:"created_at"`
	Seq           int64       `db:"seq"` // position in the wallet's history
	Description   string      `db:"description"`
	BalanceAfter  money.Pence `db:"balance_after_pence"`
	Postings      []EventPosting
}

// EventPosting is one side of a ledger transaction; those of one transaction sum to zero.
type EventPosting struct {
	Account string      `db:"account"`
	Amount  money.Pence `db:"amount_pence"`
}

// EventRefund is a refund of the payment.
type EventRefund struct {
	ID        string      `db:"id"`
	Amount    money.Pence `db:"amount_pence"`
	Status    string      `db:"status"` // Stripe's word
	CreatedAt time.Time   `db:"created_at"`
	UpdatedAt time.Time   `db:"updated_at"` // when we last heard of it
}

// Counts reports whether the refund takes the money.
func (r EventRefund) Counts() bool { return r.Status != "failed" && r.Status != "canceled" }

// EventDispute is a dispute of the payment.
type EventDispute struct {
	ID     string      `db:"id"`
	Amount money.Pence `db:"amount_pence"`
	// Withdrawn is what the bank has taken for it and not given back.
	Withdrawn money.Pence `db:"withdrawn_pence"`
	Status    string      `db:"status"` // Stripe's word
	Reason    string      `db:"reason"`
	// Froze says that the wallet was frozen for it.
	Froze     bool      `db:"froze"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// Open reports whether it is still fought over.
func (d EventDispute) Open() bool { return openDispute(d.Status) }

// EventReversal is what the ledger moved because of the payment's refunds or disputes.
type EventReversal struct {
	TransactionID uuid.UUID `db:"transaction_id"`
	Kind          string    `db:"kind"` // refund or dispute
	// Amount was taken from the wallet (positive) or given again, Bonus is its part of the bonus.
	Amount       money.Pence `db:"amount_pence"`
	Bonus        money.Pence `db:"bonus_pence"`
	CreatedAt    time.Time   `db:"created_at"`
	Seq          int64       `db:"seq"`
	BalanceAfter money.Pence `db:"balance_after_pence"`
	DebtAfter    money.Pence `db:"debt_after_pence"`
}

// EventAudit is one row of the audit log.
type EventAudit struct {
	At     time.Time `db:"at"`
	Actor  string    `db:"actor"`
	Email  string    `db:"email"` // of an actor who is a person; empty otherwise
	Action string    `db:"action"`
	Reason string    `db:"reason"`
	// From and Before are the state and reason that a replay put an end to.
	From   EventState `db:"from_state"`
	Before string     `db:"before"`
}

// Event gives one event with all that hangs on it. An id that there is no event of is a NotFound.
func (s *Service) Event(ctx context.Context, id string) (d EventDetail, err error) {
	if !stripeID.MatchString(id) {
		return EventDetail{}, errNoEvent()
	}
	err = s.db.InSystemTx(ctx, "an operator's view of one of Stripe's events", func(ctx context.Context, tx *db.Tx) error {
		d = EventDetail{}
		if err := planAnew(ctx, tx); err != nil {
			return err
		}
		var row struct {
			EventSummary

			Payload []byte `db:"payload"`
		}
		if err := tx.GetContext(ctx, &row, `
			SELECT `+eventColumns+`, e.payload FROM stripe_events e LEFT JOIN organizations o ON o.id = e.org_id WHERE e.id = $1`, id); err != nil {
			return err
		}
		d.EventSummary, d.Payload = row.EventSummary, row.Payload
		if err := d.findMoney(ctx, tx); err != nil {
			return err
		}
		return d.findHistory(ctx, tx)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return EventDetail{}, errNoEvent()
	}
	return d, err
}

func errNoEvent() error { return fault.New(fault.NotFound, "There is no such event.") }

// findMoney looks up the payment, the top-up and the credit.
func (d *EventDetail) findMoney(ctx context.Context, tx *db.Tx) error {
	topUp := d.TopUpID
	var err error
	if d.Payment, err = one[EventPayment](ctx, tx, `
		SELECT payment_intent, amount_pence, paid_at, top_up_id FROM payments WHERE payment_intent = $1`, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't look for the payment: %w", err)
	}
	if d.Payment != nil {
		topUp = d.Payment.TopUpID
	}
	if d.TopUp, err = one[TopUp](ctx, tx, `SELECT `+topUpColumns+` FROM top_ups WHERE id = $1`, topUp); err != nil {
		return fmt.Errorf("couldn't look for the top-up: %w", err)
	}
	if d.Credit, err = one[EventCredit](ctx, tx, `
		SELECT c.transaction_id, c.amount_pence, c.created_at, t.seq, t.description, t.balance_after_pence
		FROM credits c JOIN ledger_transactions t ON t.id = c.transaction_id WHERE c.payment_intent = $1`, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't look for the credit: %w", err)
	}
	if d.Credit == nil {
		return nil
	}
	if err := tx.SelectContext(ctx, &d.Credit.Postings, `
		SELECT a.name AS account, p.amount_pence FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		WHERE p.transaction_id = $1 ORDER BY p.amount_pence DESC, a.name`, d.Credit.TransactionID); err != nil {
		return fmt.Errorf("couldn't read the postings: %w", err)
	}
	return d.findReversals(ctx, tx)
}

// findReversals looks up what became of the payment after it was credited.
func (d *EventDetail) findReversals(ctx context.Context, tx *db.Tx) error {
	if err := tx.SelectContext(ctx, &d.Refunds, `
		SELECT id, amount_pence, status, created_at, updated_at FROM refunds WHERE payment_intent = $1 ORDER BY created_at, id`, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't read the refunds: %w", err)
	}
	if err := tx.SelectContext(ctx, &d.Disputes, `
		SELECT id, amount_pence, withdrawn_pence, status, reason, froze, created_at, updated_at FROM disputes
		WHERE payment_intent = $1 ORDER BY created_at, id`, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't read the disputes: %w", err)
	}
	if err := tx.SelectContext(ctx, &d.Reversals, `
		SELECT r.transaction_id, r.kind, r.amount_pence, r.bonus_pence, r.created_at, t.seq, t.balance_after_pence, t.debt_after_pence
		FROM reversals r JOIN ledger_transactions t ON t.id = r.transaction_id WHERE r.payment_intent = $1 ORDER BY r.number`, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't read what was posted for them: %w", err)
	}
	return nil
}

// findHistory reads the audit log of the event, its top-up and its credit.
func (d *EventDetail) findHistory(ctx context.Context, tx *db.Tx) error {
	subjects := []string{d.ID}
	if d.TopUp != nil {
		subjects = append(subjects, d.TopUp.ID.String())
	}
	var transaction uuid.UUID // the zero id is no transaction's
	if d.Credit != nil {
		transaction = d.Credit.TransactionID
	}
	if err := tx.SelectContext(ctx, &d.History, `
		WITH rows AS (
		    SELECT id, at, actor, action, reason, detail FROM audit_log WHERE subject = ANY($1) AND action <> 'wallet.credited' AND action <> 'wallet.charged' UNION ALL
		    SELECT id, at, actor, action, reason, detail FROM audit_log WHERE transaction_id = $2 AND action = 'wallet.credited' UNION ALL
		    SELECT a.id, a.at, a.actor, a.action, a.reason, a.detail
		    FROM reversals r JOIN audit_log a ON a.transaction_id = r.transaction_id WHERE r.payment_intent = $4 AND a.action = 'wallet.reversed'
		    ORDER BY id DESC LIMIT $3)
		SELECT r.at, r.actor, coalesce(u.email, '') AS email, r.action, r.reason,
		       coalesce(r.detail ->> 'from', '') AS from_state, coalesce(r.detail ->> 'reason', '') AS before
		FROM rows r LEFT JOIN users u
		     ON u.id = CASE WHEN r.actor ~ '^(user|operator):[0-9a-f-]{36}$' THEN split_part(r.actor, ':', 2)::uuid END
		ORDER BY r.id`, pq.Array(subjects), transaction, historyLimit, d.PaymentIntent); err != nil {
		return fmt.Errorf("couldn't read the audit log: %w", err)
	}
	slices.SortStableFunc(d.History, func(a, b EventAudit) int { return a.At.Compare(b.At) })
	return nil
}

// one reads a row that may not be there: nil then.
func one[T any](ctx context.Context, tx *db.Tx, query string, args ...any) (*T, error) {
	var row T
	err := tx.GetContext(ctx, &row, query, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &row, nil
}
