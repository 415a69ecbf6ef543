package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

const (
	// ReplayLimit is how many failed events one call of ReplayFailed puts back: as much as one transaction should carry.
	ReplayLimit = 5000
	// maxReason is the longest reason, in characters.
	maxReason = 500
	// actionReplayed is the name of a replay in the audit log.
	actionReplayed = "stripe_event.replayed"
)

// Replay puts an event that was settled, in whatever way, back to be worked as if it had just come: with a new job, its
// attempts at zero, and an audit row that names the operator, the reason and what the event was before. All of it is one
// transaction. It returns before the event is worked.
//
// It is safe to repeat, and safe for events that were processed: whether a payment is credited is decided by the payment
// ([Service.Process]), so replaying never credits twice.
//
// Errors: a fault on the field "reason"; NotFound; Conflict while the event waits to be worked anyway; Unavailable when
// the outcome is not known.
func (s *Service) Replay(ctx context.Context, operator uuid.UUID, id, reason string) error {
	reason, err := checkReason(reason)
	if err != nil {
		return err
	}
	if !stripeID.MatchString(id) {
		return errNoEvent()
	}
	err = s.db.InSystemTx(ctx, "an operator's replay of an event", func(ctx context.Context, tx *db.Tx) error {
		var was []settled
		if err := tx.SelectContext(ctx, &was, `
			SELECT id, type, org_id, state, attempts, reason FROM stripe_events WHERE id = $1 FOR NO KEY UPDATE`, id); err != nil {
			return fmt.Errorf("couldn't lock the event: %w", err)
		}
		switch {
		case len(was) == 0:
			return errNoEvent()
		case was[0].State == EventReceived:
			return fault.New(fault.Conflict, "This event waits to be worked already, so there is nothing to replay.")
		}
		return s.putBack(ctx, tx, operator, reason, was)
	})
	return replayed(err)
}

// ReplayFailed is [Service.Replay] for the failed events, the oldest first, up to [ReplayLimit] of them in one
// transaction. It returns how many were put back; when that is ReplayLimit there may be more.
func (s *Service) ReplayFailed(ctx context.Context, operator uuid.UUID, reason string) (n int, err error) {
	reason, err = checkReason(reason)
	if err != nil {
		return 0, err
	}
	err = s.db.InSystemTx(ctx, "an operator's replay of all failed events", func(ctx context.Context, tx *db.Tx) error {
		var was []settled
		// Rows that somebody else holds are being replayed by them.
		if err := tx.SelectContext(ctx, &was, `
			SELECT id, type, org_id, state, attempts, reason FROM stripe_events WHERE state = 'failed'
			ORDER BY received_at, id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED`, ReplayLimit); err != nil {
			return fmt.Errorf("couldn't lock the failed events: %w", err)
		}
		n = len(was)
		return s.putBack(ctx, tx, operator, reason, was)
	})
	if err = replayed(err); err != nil {
		return 0, err
	}
	return n, nil
}

// settled is an event as it was before a replay.
type settled struct {
	ID       string     `db:"id"`
	Type     string     `db:"type"`
	OrgID    *uuid.UUID `db:"org_id"`
	State    EventState `db:"state"`
	Attempts int        `db:"attempts"`
	Reason   string     `db:"reason"`
}

// putBack makes events that the transaction has locked wait again, with jobs and audit rows.
func (s *Service) putBack(ctx context.Context, tx *db.Tx, operator uuid.UUID, reason string, was []settled) error {
	if len(was) == 0 {
		return nil
	}
	ids := make([]string, len(was))
	entries := make([]audit.Entry, len(was))
	for i, e := range was {
		ids[i] = e.ID
		entries[i] = audit.Entry{
			Actor: audit.Operator(operator), Action: actionReplayed, Subject: e.ID, Reason: reason,
			Detail: map[string]any{"from": e.State, "attempts": e.Attempts, "reason": e.Reason},
		}
		if e.OrgID != nil {
			entries[i].OrgID = *e.OrgID
		}
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE stripe_events SET state = 'received', attempts = 0, reason = '', next_attempt_at = $1, processed_at = NULL
		WHERE id = ANY($2)`, tx.Now, pq.Array(ids)); err != nil {
		return fmt.Errorf("couldn't put the events back: %w", err)
	}
	for some := range slices.Chunk(was, sweepBatch) {
		events := make([]event, len(some))
		for i, e := range some {
			events[i] = event{ID: e.ID, Type: e.Type}
		}
		if err := s.enqueue(ctx, tx, batchOf(events...), time.Time{}); err != nil {
			return err
		}
	}
	return audit.Record(ctx, tx, entries...)
}

// replayed says in words what only the operator can find out.
func replayed(err error) error {
	if errors.Is(err, db.ErrCommitUnknown) {
		return fault.Wrap(fault.Unavailable, "We lost the database's answer, so the replay may have happened or not. Look at the events before trying again; a second replay does no harm.", err)
	}
	return err
}

// checkReason gives the reason as it is stored, or says what is wrong with it.
func checkReason(reason string) (string, error) {
	reason = strings.TrimSpace(reason)
	switch {
	case reason == "":
		return "", fault.Field("reason", "Say why, in a few words: it is kept in the audit log.")
	case len([]rune(reason)) > maxReason:
		return "", fault.Field("reason", fmt.Sprintf("Keep the reason within %d characters.", maxReason))
	case !printable(reason) || strings.ContainsFunc(reason, unicode.IsControl):
		return "", fault.Field("reason", "Write the reason in one line of plain text.")
	}
	return reason, nil
}
