package telephony

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/notice"
)

// Notes of numbers that are being given back.
const (
	noteVapiKeeps   = "Our voice service has not let go of the number yet. We try again."
	noteTwilioKeeps = "The telephone company has not taken the number back yet. We try again."
)

// ReleaseRequest gives a number back.
type ReleaseRequest struct {
	OrgID, Number uuid.UUID
	Actor         audit.Actor
	// Reason is a sentence of at most 500 characters for the audit log; a person may leave it empty.
	Reason string
}

// Release gives an active number back for good. When it returns, nobody can use the number any more: every agent that it
// belonged to is without one, and what remains is done by jobs, visible until both providers have agreed. Nothing is charged
// for it from now on, whatever time the providers take, and nothing that was paid is given back. Where an operator does it, its
// owner gets a notice. It is safe to repeat.
//
// Faults: NotFound; Conflict with the code "number_not_active" for one that is still being bought, or that was never had.
func (s *Numbers) Release(ctx context.Context, r ReleaseRequest) (n Number, err error) {
	if r.Reason = strings.TrimSpace(r.Reason); len(r.Reason) > 500 {
		return Number{}, fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			n, err = s.releaseIn(ctx, tx, r)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	if err == nil && !n.Repeated {
		s.metrics.numbers.WithLabelValues("releasing").Inc()
	}
	return n, err
}

func (s *Numbers) releaseIn(ctx context.Context, tx *db.Tx, r ReleaseRequest) (Number, error) {
	if _, err := lockAccount(ctx, tx, r.OrgID); err != nil {
		return Number{}, err
	}
	n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, r.OrgID, r.Number)
	if err != nil {
		return Number{}, err
	}
	if !found {
		return Number{}, errNoNumber()
	}
	switch n.State {
	case NumberReleasing, NumberReleased:
		n.Repeated = true
		return n, nil
	case NumberProvisioning, NumberUnknown, NumberFailed:
		return Number{}, &fault.Error{Kind: fault.Conflict, Code: "number_not_active", Public: "Only an active number can be released. This one is still being bought, or was never yours."}
	case NumberActive:
	}
	if err := tx.GetContext(ctx, &n, `
		UPDATE numbers SET state = 'releasing', step = 'vapi_delete', releasing_at = $2, released_by = $3, release_reason = $4, unpaid_since = NULL, note = '',
		       asked_at = NULL, looks = 0, tries = 0, busy_until = NULL, next_at = $2, tell_at = NULL, tell_tries = 0, tell_note = '', tell_busy_until = NULL
		WHERE id = $1 RETURNING `+numberColumns, n.ID, tx.Now, r.Actor, r.Reason); err != nil {
		return Number{}, fmt.Errorf("couldn't begin to release the number: %w", err)
	}
	if err := n.unlink(ctx, tx, r.Actor); err != nil {
		return Number{}, err
	}
	if err := s.enqueue(ctx, tx, &n, time.Time{}); err != nil {
		return Number{}, err
	}
	if r.Actor.IsOperator() { // whose number it is did not ask for it; the reason is for our own log
		if err := notice.Raise(ctx, tx, notice.Notice{
			OrgID: n.OrgID, Kind: notice.NumberReleased, Subject: n.ID.String(), Data: n.figures(map[string]any{"by_operator": true}),
		}); err != nil {
			return Number{}, err
		}
	}
	return n, n.record(ctx, tx, "number.releasing", r.Actor, r.Reason, map[string]any{"account_sid": n.AccountSID.String, "sid": n.SID.String, "vapi_id": n.VapiID.String})
}

// unlink takes the number from every agent that has it.
func (n *Number) unlink(ctx context.Context, tx *db.Tx, actor audit.Actor) error {
	var agents []uuid.UUID
	if err := tx.SelectContext(ctx, &agents, `UPDATE agents SET number_id = NULL, updated_at = $3 WHERE org_id = $1 AND number_id = $2 RETURNING id`,
		n.OrgID, n.ID, tx.Now); err != nil {
		return fmt.Errorf("couldn't unlink the agents: %w", err)
	}
	if len(agents) == 0 {
		return nil
	}
	entries := make([]audit.Entry, len(agents))
	for i, id := range agents {
		entries[i] = audit.Entry{
			OrgID: n.OrgID, Actor: actor, Action: "agent.unlinked", Subject: "agent:" + id.String(), Reason: "Its number is released",
			Detail: map[string]any{"number_id": n.ID.String(), "phone_number": n.PhoneNumber},
		}
	}
	return audit.Record(ctx, tx, entries...)
}

// deleteAtVapi has Vapi forget the number. A refusal leaves it where it is, to be tried again.
func (s *Numbers) deleteAtVapi(ctx context.Context, n Number) error {
	err := s.forgetAtVapi(ctx, n)
	if err != nil {
		s.log(ctx, n, "Vapi has not let go of a number", err)
		return s.later(ctx, n, pauseOf{note: n.held(noteVapiKeeps)})
	}
	to := StepTwilioRelease
	if n.Undoing() {
		to = StepUndoPurchase
	}
	return s.settle(ctx, n, nil, func(ctx context.Context, tx *db.Tx) error {
		return s.forward(ctx, tx, n, went{to: to, forgetVapiID: true, action: "number.vapi_deleted"})
	})
}

// forgetAtVapi deletes the number at Vapi by its id. Where importing it was asked for without an answer there is none, and it
// deletes what Vapi's list has of it.
func (s *Numbers) forgetAtVapi(ctx context.Context, n Number) error {
	if n.VapiID.Valid {
		return s.vapi.deleteNumber(ctx, n.VapiID.String)
	}
	found, err := s.vapi.findNumbers(ctx, n.PhoneNumber, n.AccountSID.String)
	if err != nil {
		return err
	}
	for _, at := range found {
		if err := s.vapi.deleteNumber(ctx, at.ID); err != nil {
			return err
		}
	}
	return nil
}

// releaseAtTwilio has Twilio take the number back.
func (s *Numbers) releaseAtTwilio(ctx context.Context, n Number) error {
	if n.SID.Valid {
		err := s.as(ctx, n, func(c *numberClient) error { return c.release(n.SID.String) })
		if err != nil {
			s.log(ctx, n, "Twilio has not taken a number back", err)
			return s.later(ctx, n, pauseOf{note: n.held(s.why(n, err, noteTwilioKeeps))})
		}
	}
	return s.settle(ctx, n, nil, func(ctx context.Context, tx *db.Tx) error {
		return s.forward(ctx, tx, n, went{to: StepFinish, forgetSID: true, action: "number.twilio_released"})
	})
}

// held is the note of a number that a provider keeps. Of one that was not bought, why it was not stays to be read.
func (n *Number) held(note string) string {
	if n.Undoing() {
		return n.Note
	}
	return note
}

// finish ends a number that both providers have let go of.
func (s *Numbers) finish(ctx context.Context, n Number) error {
	err := s.settle(ctx, n, s.locked(n.OrgID), func(ctx context.Context, tx *db.Tx) error { return s.finishIn(ctx, tx, n) })
	if err == nil {
		s.metrics.numbers.WithLabelValues("ended").Inc()
	}
	return err
}

// finishIn ends a number: its links are looked at again, and our credential goes with the last number that needs it. A
// customer's own never does. The caller has the account and the number locked.
func (s *Numbers) finishIn(ctx context.Context, tx *db.Tx, n Number) error {
	ended := n
	state, action, note := NumberReleased, "number.released", ""
	if n.Undoing() {
		state, action, note = NumberFailed, "number.failed", n.Note
	}
	if err := tx.GetContext(ctx, &ended, `
		UPDATE numbers SET state = $2, step = '', note = $3, credential_id = NULL, sid = NULL, vapi_id = NULL, asked_at = NULL, looks = 0, tries = 0,
		       busy_until = NULL, next_at = NULL, ended_at = $4
		WHERE id = $1 RETURNING `+numberColumns, n.ID, state, note, tx.Now); err != nil {
		return fmt.Errorf("couldn't end the number: %w", err)
	}
	if err := ended.unlink(ctx, tx, audit.System("numbers")); err != nil {
		return err
	}
	if err := s.dropManaged(ctx, tx, n.OrgID); err != nil {
		return err
	}
	return ended.record(ctx, tx, action, audit.System("numbers"), n.ReleaseReason, map[string]any{"step": string(n.FailedStep)})
}

// dropManaged deletes our credential for the organisation's subaccount when no number of it needs it any more.
func (s *Numbers) dropManaged(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	var needed bool
	if err := tx.GetContext(ctx, &needed, `SELECT EXISTS (SELECT FROM numbers WHERE org_id = $1 AND kind = 'managed' AND state IN `+liveStates+`)`, org); err != nil {
		return fmt.Errorf("couldn't see whether the credential is needed: %w", err)
	}
	if needed {
		return nil
	}
	c, found, err := credential(ctx, tx, org, Managed)
	if err != nil || !found {
		return err
	}
	return s.drop(ctx, tx, c, audit.System("numbers"), "No number needs it any more")
}

// ForceRelease ends a number whose providers do not let go of it, on an operator's word that they have, or that it is taken
// care of by hand: one that is releasing, or whose purchase is being undone. What the providers still have shows up when
// their books are compared with ours. It is safe to repeat; one in any other state is a Conflict.
func (s *Numbers) ForceRelease(ctx context.Context, r ReleaseRequest) (n Number, err error) {
	if r.Reason = strings.TrimSpace(r.Reason); r.Reason == "" || len(r.Reason) > 500 {
		return Number{}, fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, r.OrgID); err != nil {
			return err
		}
		var found bool
		if n, found, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, r.OrgID, r.Number); err != nil {
			return err
		}
		switch {
		case !found:
			return errNoNumber()
		case n.State == NumberReleased, n.State == NumberFailed:
			n.Repeated = true
			return nil
		case n.State != NumberReleasing && !n.Undoing():
			return &fault.Error{Kind: fault.Conflict, Code: "number_not_releasing", Public: "Only a number that is being given back can be ended by force."}
		}
		if err := n.record(ctx, tx, "number.forced", r.Actor, r.Reason, map[string]any{
			"account_sid": n.AccountSID.String, "sid": n.SID.String, "vapi_id": n.VapiID.String, "step": string(n.Step),
		}); err != nil {
			return err
		}
		if err := s.finishIn(ctx, tx, n); err != nil {
			return err
		}
		n, _, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, r.OrgID, r.Number)
		return err
	})
	return n, err
}
