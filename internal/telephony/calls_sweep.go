package telephony

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

const (
	// callsAtOnce bounds how many calls Vapi is asked about at the same time: one that it does not answer for keeps few waiting.
	callsAtOnce = 8
	// callsMost bounds the calls of one sweep.
	callsMost = 500
	// overCeiling is for how long a call may go on beyond its ceiling before we end it, since Vapi should have.
	overCeiling = 20 * time.Second
	// deafAfter is how long after we first wanted a call to end Vapi's mere yes does not count any more.
	deafAfter = 15 * time.Second
)

// Sweep looks after the calls that go on: it sets money aside for what is spoken next, half a minute ahead, ends those that
// cannot be paid any longer, and finds out what became of those of which nothing more was heard. It says how many it looked
// at. It is to run every few seconds; it is safe to repeat and to run in several processes at once.
func (s *Calls) Sweep(ctx context.Context) (n int, err error) {
	if !s.On() {
		return 0, nil
	}
	began := s.o.Now()
	suspended := s.endSuspended(ctx) // before the rest, which then ends them
	var due []sweptCall
	err = s.o.DB.InSystemTx(ctx, "calls under way, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id, state, look_at <= $1 AS look, coalesce(fund_at <= $1, false) AS fund FROM calls
			WHERE ended_at IS NULL AND (look_at <= $1 OR fund_at <= $1) ORDER BY fund DESC, look_at LIMIT $2`, tx.Now, callsMost)
	})
	if err != nil {
		return 0, err
	}
	all := suspended
	// The money first: nobody has to be asked for it, so nobody keeps it waiting.
	for i := range due {
		if !due[i].Fund || ctx.Err() != nil {
			continue
		}
		ends, err := s.fund(ctx, due[i].OrgID, due[i].ID)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("call %s: %w", due[i].ID, err))
		}
		due[i].Look = due[i].Look || ends
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	free := make(chan struct{}, callsAtOnce)
	for _, d := range due {
		if !d.Look {
			n++
			continue
		}
		free <- struct{}{}
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		wg.Go(func() {
			defer func() { <-free }()
			err := s.look(ctx, d.OrgID, d.ID)
			mu.Lock()
			defer mu.Unlock()
			n++
			if err != nil {
				all = errors.Join(all, fmt.Errorf("call %s: %w", d.ID, err))
			}
		})
	}
	wg.Wait()
	return n, all
}

// endSuspended notes of the calls that go on in organisations that are suspended that they are to end.
func (s *Calls) endSuspended(ctx context.Context) error {
	var calls []sweptCall
	err := s.o.DB.InSystemTx(ctx, "calls under way of organisations that are suspended", func(ctx context.Context, tx *db.Tx) error {
		calls = nil
		return tx.SelectContext(ctx, &calls, `
			SELECT c.id, c.org_id, c.state FROM calls c JOIN wallets w ON w.org_id = c.org_id
			WHERE c.ended_at IS NULL AND c.hangup_at IS NULL AND c.state <> 'ending' AND w.suspended_at IS NOT NULL LIMIT $1`, callsMost)
	})
	if err != nil {
		return err
	}
	var all error
	for _, d := range calls {
		err := s.o.DB.InTx(ctx, []uuid.UUID{d.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			c, found, err := readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c`, d.OrgID, d.ID)
			if err != nil || !found || c.State.Ended() || c.State == CallEnding {
				return err
			}
			return s.toEnd(ctx, tx, c, HangupSuspended, audit.System("calls"))
		})
		if err != nil && !errors.Is(err, db.ErrCommitUnknown) { // the next sweep sees what was stored
			all = errors.Join(all, fmt.Errorf("call %s: %w", d.ID, err))
		}
	}
	return all
}

// sweptCall is a call that is to be looked after.
type sweptCall struct {
	ID    uuid.UUID `db:"id"`
	OrgID uuid.UUID `db:"org_id"`
	State CallState `db:"state"`
	Look  bool      `db:"look"`
	Fund  bool      `db:"fund"`
}

// look finds out how one call stands, and ends it if it is to end.
func (s *Calls) look(ctx context.Context, org, id uuid.UUID) error {
	ctx = context.WithoutCancel(ctx)
	c, err := s.Call(ctx, org, id)
	if err != nil || c.State.Ended() {
		return err
	}
	before := c.State
	switch c.State {
	case CallQueued:
		c, err = s.refuse(ctx, c, CallQueued, noteNotReady)
		if _, said := errors.AsType[*fault.Error](err); said { // that is settled
			err = nil
		}
	case CallPlacing, CallUnknown:
		c, err = s.lookFor(ctx, c)
	case CallRinging, CallInProgress, CallEnding:
		c, err = s.askVapi(ctx, c)
	case CallCompleted, CallUnanswered, CallFailed, CallRefused:
	}
	if err == nil && c.State != before {
		s.metrics.repaired.WithLabelValues(string(before)).Inc()
	}
	if err != nil && before != CallQueued {
		// It goes to the end of the queue: what Vapi does not answer for must not keep the others from their turn.
		return errors.Join(err, s.putOff(ctx, org, id, lookEvery, false))
	}
	return err
}

// lookFor looks in Vapi's list for a call whose answer was lost.
func (s *Calls) lookFor(ctx context.Context, c Call) (Call, error) {
	var at Number
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) (err error) {
		at, _, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, c.OrgID, c.NumberID)
		return err
	})
	if err != nil {
		return c, err
	}
	found, ok, whole, err := s.vapi.findCall(ctx, at.VapiID.String, c.AskedAt.Add(-clocksDiffer), c.AskedAt.Add(lostFor+clocksDiffer), c.ID.String())
	switch {
	case err != nil:
		return c, fmt.Errorf("couldn't ask Vapi for its list: %w", err)
	case ok:
		return s.hear(ctx, c.OrgID, c.ID, newsOfCall(found))
	case whole && c.Looks > 0 && s.o.Now().Sub(*c.AskedAt) > lostFor: // two looks that were had, and it is not there
		c, err = s.refuse(ctx, c, c.State, noteCallLost)
		if _, said := errors.AsType[*fault.Error](err); said {
			err = nil
		}
		return c, err
	}
	return c, s.putOff(ctx, c.OrgID, c.ID, lookEvery, true)
}

// putOff has a call looked at again later. A look that was had is counted.
func (s *Calls) putOff(ctx context.Context, org, id uuid.UUID, by time.Duration, had bool) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		looks := 0
		if had {
			looks = 1
		}
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET look_at = $2, looks = looks + $3 WHERE id = $1 AND ended_at IS NULL`, id, tx.Now.Add(by), looks); err != nil {
			return fmt.Errorf("couldn't put the call off: %w", err)
		}
		return nil
	})
}

// askVapi asks Vapi how a call stands, having ended it before if it is to end.
func (s *Calls) askVapi(ctx context.Context, c Call) (Call, error) {
	if c.HangupAt != nil && c.State != CallEnding {
		s.hangUp(ctx, c)
	}
	at, err := s.vapi.call(ctx, c.VapiID.String)
	switch {
	case gone(err):
		return s.hear(ctx, c.OrgID, c.ID, callNews{missing: true, asked: true, whole: true})
	case err != nil:
		return c, fmt.Errorf("couldn't ask Vapi about it: %w", err)
	case c.State == CallEnding && at.Status != vapiEnded && c.overdue(s.o.Now()): // it is about to be settled: nobody pays for more
		c.HangupWhy = HangupAsked
		s.hangUp(ctx, c)
	}
	return s.hear(ctx, c.OrgID, c.ID, newsOfCall(at))
}

// hangUp ends a call: where Vapi takes commands about it, or if that fails or has had no effect at Twilio, which carries it.
// Whether it has ended is seen when Vapi is asked.
func (s *Calls) hangUp(ctx context.Context, c Call) {
	control := c.ControlURL
	if control == "" { // a call that came in says it only when it is asked for
		if at, err := s.vapi.call(ctx, c.VapiID.String); err == nil {
			control = at.Monitor.ControlURL
			if c.ProviderSID == "" {
				c.ProviderSID = at.ProviderID
			}
		}
	}
	err := s.vapi.endCall(ctx, control)
	if err == nil && c.HangupAt != nil && s.o.Now().Sub(*c.HangupAt) > deafAfter {
		err = errors.New("it has said so before, and the call goes on")
	}
	if err != nil {
		s.log(ctx, c, "Vapi has not ended a call", err)
		if err = s.hangUpAtTwilio(ctx, c); err != nil {
			s.log(ctx, c, "Twilio has not ended a call", err)
		}
	}
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	s.metrics.hangups.WithLabelValues(string(c.HangupWhy), outcome).Inc()
}

// hangUpAtTwilio ends a call in the account that carries it.
func (s *Calls) hangUpAtTwilio(ctx context.Context, c Call) error {
	if c.ProviderSID == "" || s.o.Vault == nil {
		return errors.New("its name at Twilio is not known")
	}
	var in account
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, c.OrgID, c.NumberID)
		if err != nil {
			return err
		}
		if !found || !n.CredentialID.Valid {
			return errors.New("its number has no credential any more")
		}
		in, err = openCredential(ctx, tx, s.o.Vault, c.OrgID, n.CredentialID.UUID)
		return err
	})
	if err != nil {
		return err
	}
	twilio, err := newTwilio(in.sid, in.token, s.o.TwilioBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
	if err != nil {
		return err
	}
	_, err = twilio.UpdateCall(c.ProviderSID, (&api.UpdateCallParams{}).SetPathAccountSid(in.sid).SetStatus("completed"))
	return twilioFailure(err)
}

// openCredential opens one of the organisation's credentials.
func openCredential(ctx context.Context, tx *db.Tx, v *Vault, org, id uuid.UUID) (account, error) {
	var c Credential
	if err := tx.GetContext(ctx, &c, `SELECT `+vaultColumns+` FROM credentials WHERE org_id = $1 AND id = $2`, org, id); err != nil {
		return account{}, fmt.Errorf("couldn't read the credential: %w", err)
	}
	return c.open(v)
}

// fund sets money aside for what is spoken next in a call, up to its ceiling. ends says that there is none, so that the call
// is to end now.
func (s *Calls) fund(ctx context.Context, org, id uuid.UUID) (ends bool, err error) {
	outcome := ""
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			ends, outcome, err = s.fundIn(ctx, tx, org, id)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	if err == nil && outcome != "" {
		s.metrics.funding.WithLabelValues(outcome).Inc()
	}
	return ends, err
}

func (s *Calls) fundIn(ctx context.Context, tx *db.Tx, org, id uuid.UUID) (ends bool, outcome string, err error) {
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return false, "", err
	}
	c, found, err := readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c`, org, id)
	if err != nil || !found || c.State != CallInProgress || c.StartedAt == nil || c.FundAt == nil || c.FundAt.After(tx.Now) {
		return false, "", err
	}
	elapsed := length(*c.StartedAt, tx.Now)
	if c.Covered >= c.Ceiling { // Vapi ends it, or has failed to
		return true, "over_ceiling", s.toEnd(ctx, tx, c, HangupCeiling, audit.System("calls"))
	}
	covered, refused, err := s.extend(ctx, tx, c, elapsed)
	if err != nil {
		return false, "", err
	}
	due := c.StartedAt.Add(time.Duration(covered-ahead-slack) * time.Second)
	outcome = "extended"
	switch {
	case covered >= c.Ceiling:
		due = c.StartedAt.Add(time.Duration(c.Ceiling)*time.Second + overCeiling)
	case refused != nil && covered-elapsed <= lastSeconds:
		s.log(ctx, c, "a call cannot be paid any longer", refused)
		return true, "unfunded", s.toEnd(ctx, tx, c, HangupUnfunded, audit.System("calls"))
	case refused != nil:
		due, outcome = tx.Now.Add(fundAgain), "refused"
	}
	if _, err := tx.ExecContext(ctx, `UPDATE calls SET covered_seconds = $2, fund_at = $3 WHERE id = $1`, c.ID, covered, due); err != nil {
		return false, "", fmt.Errorf("couldn't store how long the call is paid for: %w", err)
	}
	return false, outcome, nil
}

// extend raises the call's hold to what a step more costs, or to as much of it as there is. It gives the seconds that are paid
// for then, and the wallet's refusal where that is less than was asked.
func (s *Calls) extend(ctx context.Context, tx *db.Tx, c Call, elapsed int64) (covered int64, refused, err error) {
	terms, err := wallet.TermsOfCall(ctx, tx, c.HoldID.UUID)
	if err != nil {
		return 0, nil, err
	}
	want := min(elapsed+step, c.Ceiling)
	b, err := wallet.Read(ctx, tx, c.OrgID)
	if err != nil {
		return 0, nil, err
	}
	reach, err := reaching(terms, c.Held+b.Available())
	if err != nil {
		return 0, nil, err
	}
	for _, to := range []int64{want, min(want, reach)} {
		if to <= c.Covered {
			break
		}
		cost, err := terms.Cost(to)
		if err != nil {
			return 0, nil, fmt.Errorf("couldn't compute what the call costs: %w", err)
		}
		more := c.settlement()
		more.Amount = cost
		_, err = s.o.Gates.ExtendIn(ctx, tx, more)
		switch {
		case err == nil:
			return to, refused, nil
		case fault.Is(err, fault.Unpaid), fault.Is(err, fault.Forbidden):
			refused = err
		default:
			return 0, nil, err
		}
	}
	return c.Covered, refused, nil
}

// toEnd notes that a call is to end, and why. No more is set aside for it.
func (s *Calls) toEnd(ctx context.Context, tx *db.Tx, c Call, why HangupWhy, actor audit.Actor) error {
	if c.HangupAt != nil {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE calls SET hangup_at = $2, hangup_why = $3, look_at = $2, fund_at = NULL WHERE id = $1`, c.ID, tx.Now, why); err != nil {
		return fmt.Errorf("couldn't note that the call is to end: %w", err)
	}
	return c.record(ctx, tx, "call.hangup", actor, map[string]any{"why": string(why)})
}

// Hangup ends a call that goes on. What was spoken until then is paid for. It is safe to repeat; a call that has ended is given
// as it is. It is NotFound for another organisation's.
func (s *Calls) Hangup(ctx context.Context, org, id uuid.UUID, actor audit.Actor) (Call, error) {
	if !s.On() {
		return Call{}, errCallsOff()
	}
	ctx = context.WithoutCancel(ctx)
	err := s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		c, found, err := readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c`, org, id)
		switch {
		case err != nil:
			return err
		case !found:
			return errNoCall()
		case c.State.Ended(), c.State == CallEnding:
			return nil
		}
		return s.toEnd(ctx, tx, c, HangupAsked, actor)
	})
	if err != nil && !errors.Is(err, db.ErrCommitUnknown) {
		return Call{}, err
	}
	if err := s.look(ctx, org, id); err != nil { // the sweeper goes on
		s.o.Log.WarnContext(ctx, "a call that is to end was not seen to", "call", id, "org_id", org, "error", err)
	}
	return s.Call(ctx, org, id)
}
