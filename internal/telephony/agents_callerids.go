package telephony

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// CallerIDState says whether a number was proven.
type CallerIDState string

// The states; the schema knows the same ones.
const (
	CallerIDWaiting  CallerIDState = "waiting" // Twilio calls the number and asks for the code
	CallerIDVerified CallerIDState = "verified"
	CallerIDFailed   CallerIDState = "failed"
	CallerIDRemoving CallerIDState = "removing" // nobody shows it any more, and Twilio is being told
	CallerIDRemoved  CallerIDState = "removed"
)

// CallerID is a number that an organisation may show, since somebody answered it and typed the code.
type CallerID struct {
	ID          uuid.UUID     `db:"id"`
	OrgID       uuid.UUID     `db:"org_id"`
	PhoneNumber string        `db:"phone_number"`
	State       CallerIDState `db:"state"`
	// Code is what is to be typed on the phone when Twilio calls; empty once it is not waited for any more.
	Code       string     `db:"code"`
	AccountSID string     `db:"account_sid"`
	SID        *string    `db:"sid"`
	Note       string     `db:"note"`
	CreatedBy  string     `db:"created_by"`
	CreatedAt  time.Time  `db:"created_at"`
	VerifiedAt *time.Time `db:"verified_at"`
	LookedAt   *time.Time `db:"looked_at"`
	EndedAt    *time.Time `db:"ended_at"`
	// Open says that the account which it was proven to is still open to us: from any other it cannot be shown.
	Open bool `db:"account_open"`
}

// Usable reports whether agents may show it.
func (c *CallerID) Usable() bool { return c.State == CallerIDVerified && c.Open }

// accountOpen is whether the account that a caller id was proven to is still open to us.
const accountOpen = `EXISTS (SELECT FROM credentials k WHERE k.org_id = caller_ids.org_id AND k.account_sid = caller_ids.account_sid)`

const callerIDColumns = `id, org_id, phone_number, state, code, account_sid, sid, note, created_by, created_at, verified_at, looked_at, ended_at, ` +
	accountOpen + ` AS account_open`

const (
	// verifyFor is how long the code is waited for, and verifiesMost how many phones an organisation may have called in an
	// hour: it is strangers' phones that ring.
	verifyFor    = 15 * time.Minute
	verifiesMost = 5
)

// Notes of caller ids, for people.
const (
	noteNoCode      = "Nobody typed the code in time. Try again, with the phone at hand."
	noteNotCalled   = "Our provider did not call the number. Try again."
	noteCallMaybe   = "Our provider did not say whether it calls. If it does, the code cannot be shown; try again in a quarter of an hour."
	noteNotCallable = "Our provider cannot call this number. Check it."
)

// VerifyCallerID has Twilio call a number and ask for a code (https://www.twilio.com/docs/voice/api/outgoing-caller-ids):
// whoever types it has the phone. When it returns a caller id that waits, Code is what to type. A number that was proven
// already is given as it is, unless the account that it was proven to is gone: then it is proven anew, to the present one, and
// agents that were to show it do so again. Asking again while one waits gives the same.
//
// Faults, with nobody called: Invalid with the field "phone_number"; Conflict with the code "no_account" where the
// organisation has no account to prove it to yet; TooMany; Declined where Twilio does not call it; Unavailable.
func (s *Agents) VerifyCallerID(ctx context.Context, org uuid.UUID, number string, actor audit.Actor) (CallerID, error) {
	if !s.On() || s.o.Vault == nil {
		return CallerID{}, errCallsOff()
	}
	to, err := wallet.ParseDestination(number)
	if err != nil {
		return CallerID{}, atField("phone_number", err)
	}
	c, in, made, err := s.beginVerify(ctx, org, to, actor)
	if err != nil || !made {
		return c, err
	}
	ctx = context.WithoutCancel(ctx)
	asked, err := s.askVerify(in, to)
	switch answerOf(err) {
	case accepted:
		return s.setCallerID(ctx, c, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE caller_ids SET code = $2 WHERE id = $1 AND state = 'waiting'`, c.ID, text(asked.ValidationCode))
			return err
		})
	case rejected:
		if codeOf(err) == codeAlreadyVerified {
			return s.lookAtCallerID(ctx, c)
		}
		c, err = s.endCallerID(ctx, c, CallerIDFailed, noteNotCallable)
		return c, errors.Join(err, &fault.Error{Kind: fault.Declined, Code: "not_callable", Field: "phone_number", Public: noteNotCallable})
	case notAsked:
		_, eerr := s.endCallerID(ctx, c, CallerIDFailed, noteNotCalled)
		return CallerID{}, errors.Join(eerr, providerAway(err))
	case unknown:
	}
	s.o.Log.WarnContext(ctx, "it is not known whether Twilio verifies a caller id", "caller_id", c.ID, "org_id", org, "error", err)
	return s.setCallerID(ctx, c, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE caller_ids SET note = $2 WHERE id = $1 AND state = 'waiting'`, c.ID, noteCallMaybe)
		return err
	})
}

// codeAlreadyVerified is Twilio's word for a number that the account has proven before.
const codeAlreadyVerified = 21450

// beginVerify stores that a number is to be proven, before Twilio is asked; made is false for one that is proven or waited for.
func (s *Agents) beginVerify(ctx context.Context, org uuid.UUID, number string, actor audit.Actor) (c CallerID, in account, made bool, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return c, in, false, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		made = false
		at, err := lockAccount(ctx, tx, org)
		if err != nil {
			return err
		}
		var live []CallerID
		if err := tx.SelectContext(ctx, &live, `SELECT `+callerIDColumns+` FROM caller_ids WHERE org_id = $1 AND phone_number = $2 AND ended_at IS NULL`, org, number); err != nil {
			return fmt.Errorf("couldn't look among the caller ids: %w", err)
		}
		if len(live) > 0 {
			c = live[0]
			if c.State == CallerIDRemoving {
				return &fault.Error{Kind: fault.Conflict, Code: "caller_id_removing", Field: "phone_number", Public: "This number is just being removed. Try again in a moment."}
			}
			if c.State != CallerIDVerified || c.Open {
				return nil
			}
			id = c.ID // proven to an account that is gone
		}
		var lately int
		if err := tx.GetContext(ctx, &lately, `SELECT count(*) FROM caller_ids WHERE org_id = $1 AND created_at > $2`, org, tx.Now.Add(-time.Hour)); err != nil {
			return fmt.Errorf("couldn't count the caller ids: %w", err)
		}
		if lately >= verifiesMost {
			return &fault.Error{
				Kind: fault.TooMany, RetryAfter: time.Hour, Field: "phone_number",
				Public: fmt.Sprintf("At most %d numbers can be verified in an hour. Try again later.", verifiesMost),
			}
		}
		kept, found, err := credential(ctx, tx, org, at.Mode)
		if err != nil {
			return err
		}
		if !found {
			return &fault.Error{Kind: fault.Conflict, Code: "no_account", Public: "Your organisation has no telephone account yet to verify a number for. Buy a number first."}
		}
		if in, err = kept.open(s.o.Vault); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &c, `
			INSERT INTO caller_ids (id, org_id, phone_number, state, account_sid, created_by, created_at) VALUES ($1, $2, $3, 'waiting', $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET state = 'waiting', account_sid = $4, sid = NULL, note = '', created_by = $5, created_at = $6, verified_at = NULL, looked_at = NULL
			RETURNING `+callerIDColumns,
			id, org, number, in.sid, actor, tx.Now); err != nil {
			return fmt.Errorf("couldn't store the caller id: %w", err)
		}
		made = true
		return c.record(ctx, tx, "callerid.asked", actor)
	})
	return c, in, made && err == nil, err
}

func (s *Agents) askVerify(in account, number string) (*api.ApiV2010ValidationRequest, error) {
	twilio, err := newTwilio(in.sid, in.token, s.o.TwilioBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
	if err != nil {
		return nil, err
	}
	asked, err := twilio.CreateValidationRequest((&api.CreateValidationRequestParams{}).SetPathAccountSid(in.sid).SetPhoneNumber(number).SetFriendlyName("Ringfence"))
	if err != nil {
		return nil, twilioFailure(err)
	}
	if asked == nil || text(asked.ValidationCode) == "" {
		return nil, &failure{provider: "Twilio"}
	}
	return asked, nil
}

// record writes an audit row about the caller id.
func (c *CallerID) record(ctx context.Context, tx *db.Tx, action string, actor audit.Actor) error {
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: c.OrgID, Actor: actor, Action: action, Subject: "callerid:" + c.ID.String(), Detail: map[string]any{"phone_number": c.PhoneNumber, "account_sid": c.AccountSID},
	})
}

// setCallerID runs fn and reads the caller id again.
func (s *Agents) setCallerID(ctx context.Context, c CallerID, fn func(ctx context.Context, tx *db.Tx) error) (after CallerID, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return fmt.Errorf("couldn't change the caller id: %w", err)
		}
		if err := tx.GetContext(ctx, &after, `SELECT `+callerIDColumns+` FROM caller_ids WHERE org_id = $1 AND id = $2`, c.OrgID, c.ID); err != nil {
			return fmt.Errorf("couldn't read the caller id: %w", err)
		}
		return nil
	})
	return after, err
}

// endCallerID ends one that waits or is being removed.
func (s *Agents) endCallerID(ctx context.Context, c CallerID, state CallerIDState, note string) (CallerID, error) {
	return s.setCallerID(ctx, c, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, c.OrgID); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `
			UPDATE caller_ids SET state = $2, note = $3, code = '', ended_at = $4 WHERE id = $1 AND state IN ('waiting', 'removing')`, c.ID, state, note, tx.Now)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if err := s.stopShowing(ctx, tx, c, audit.System("agents")); err != nil { // those that were to show it again
			return err
		}
		return c.record(ctx, tx, "callerid."+string(state), audit.System("agents"))
	})
}

// lookAtCallerID asks Twilio whether a number that waits was proven, and settles one that has waited for too long.
func (s *Agents) lookAtCallerID(ctx context.Context, c CallerID) (CallerID, error) {
	sid, err := s.findCallerID(ctx, c)
	switch {
	case err != nil:
		return c, err
	case sid != "":
		return s.setCallerID(ctx, c, func(ctx context.Context, tx *db.Tx) error {
			if _, err := lockAccount(ctx, tx, c.OrgID); err != nil {
				return err
			}
			res, err := tx.ExecContext(ctx, `
				UPDATE caller_ids SET state = 'verified', sid = $2, code = '', note = '', verified_at = $3 WHERE id = $1 AND state = 'waiting'`, c.ID, sid, tx.Now)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				return err
			}
			if err := c.record(ctx, tx, "callerid.verified", audit.System("agents")); err != nil {
				return err
			}
			return showAnew(ctx, tx, s.jobs(), c.OrgID, "id::text", c.ID.String()) // those that showed it before
		})
	case s.o.Now().Sub(c.CreatedAt) > verifyFor:
		return s.endCallerID(ctx, c, CallerIDFailed, noteNoCode)
	}
	return c, nil
}

// errNoAccount says that the account which a number was proven to is not open to us any more.
var errNoAccount = errors.New("the account is not open to us any more")

// openAccount opens the account that a number is proven to.
func (s *Agents) openAccount(ctx context.Context, c CallerID) (in account, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		for _, kind := range []Kind{Managed, BYOC} {
			kept, found, err := credential(ctx, tx, c.OrgID, kind)
			if err != nil {
				return err
			}
			if found && kept.AccountSID == c.AccountSID {
				in, err = kept.open(s.o.Vault)
				return err
			}
		}
		return errNoAccount
	})
	return in, err
}

// findCallerID gives Twilio's name for a number that was proven; empty where it was not.
func (s *Agents) findCallerID(ctx context.Context, c CallerID) (sid string, err error) {
	in, err := s.openAccount(ctx, c)
	if errors.Is(err, errNoAccount) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	twilio, err := newTwilio(in.sid, in.token, s.o.TwilioBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
	if err != nil {
		return "", err
	}
	list, err := reading(func() ([]api.ApiV2010OutgoingCallerId, error) {
		list, err := twilio.ListOutgoingCallerId((&api.ListOutgoingCallerIdParams{}).SetPathAccountSid(in.sid).SetPhoneNumber(c.PhoneNumber).SetPageSize(20).SetLimit(20))
		return list, twilioFailure(err)
	})
	if err != nil {
		return "", err
	}
	for i := range list {
		if text(list[i].PhoneNumber) == c.PhoneNumber {
			return text(list[i].Sid), nil
		}
	}
	return "", nil
}

// CallerIDs lists an organisation's numbers that were proven or are being, newest first; those that ended are not in it.
func (s *Agents) CallerIDs(ctx context.Context, org uuid.UUID) (list []CallerID, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `SELECT `+callerIDColumns+` FROM caller_ids WHERE org_id = $1 AND ended_at IS NULL ORDER BY id DESC LIMIT 200`, org); err != nil {
			return fmt.Errorf("couldn't list the caller ids: %w", err)
		}
		return nil
	})
	return list, err
}

func errNoCallerID() error { return fault.New(fault.NotFound, "There is no such number.") }

// CallerID gives one number of an organisation's that was proven, is being, or could not be; NotFound for another's.
func (s *Agents) CallerID(ctx context.Context, org, id uuid.UUID) (c CallerID, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var found []CallerID
		if err := tx.SelectContext(ctx, &found, `SELECT `+callerIDColumns+` FROM caller_ids WHERE org_id = $1 AND id = $2`, org, id); err != nil {
			return fmt.Errorf("couldn't read the caller id: %w", err)
		}
		if len(found) == 0 {
			return errNoCallerID()
		}
		c = found[0]
		return nil
	})
	return c, err
}

// RemoveCallerID gives a proven number up: no agent shows it from now on, and Twilio forgets it. It is safe to repeat.
// NotFound for another organisation's.
func (s *Agents) RemoveCallerID(ctx context.Context, org, id uuid.UUID, actor audit.Actor) error {
	var c CallerID
	err := s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		var found []CallerID
		if err := tx.SelectContext(ctx, &found, `SELECT `+callerIDColumns+` FROM caller_ids WHERE org_id = $1 AND id = $2`, org, id); err != nil {
			return fmt.Errorf("couldn't read the caller id: %w", err)
		}
		if len(found) == 0 {
			return errNoCallerID()
		}
		if c = found[0]; c.EndedAt != nil || c.State == CallerIDRemoving {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE caller_ids SET state = 'removing', code = '' WHERE id = $1`, id); err != nil {
			return fmt.Errorf("couldn't remove the caller id: %w", err)
		}
		c.State = CallerIDRemoving
		if err := c.record(ctx, tx, "callerid.removing", actor); err != nil {
			return err
		}
		return s.stopShowing(ctx, tx, c, actor)
	})
	if err != nil || c.State != CallerIDRemoving {
		return err
	}
	if err := s.forgetCallerID(context.WithoutCancel(ctx), c); err != nil { // the sweeper goes on
		s.o.Log.WarnContext(ctx, "Twilio has not forgotten a caller id", "caller_id", id, "org_id", org, "error", err)
	}
	return nil
}

// stopShowing takes a number from the agents that show it.
func (s *Agents) stopShowing(ctx context.Context, tx *db.Tx, c CallerID, actor audit.Actor) error {
	var agents []Agent
	if err := tx.SelectContext(ctx, &agents, `
		UPDATE agents a SET caller_id = NULL, revision = revision + 1, sync_at = $3, sync_tries = 0, sync_state = 'waiting', sync_note = '', updated_at = $3
		WHERE a.org_id = $1 AND a.caller_id = $2 AND a.deleted_at IS NULL RETURNING `+agentColumns, c.OrgID, c.ID, tx.Now); err != nil {
		return fmt.Errorf("couldn't take the number from the agents: %w", err)
	}
	for _, a := range agents {
		if err := s.told(ctx, tx, a, "agent.changed", actor, map[string]any{"caller_id": "removed"}); err != nil {
			return err
		}
	}
	return nil
}

// jobs are what tells Vapi; nil where Vapi is not configured.
func (s *Agents) jobs() JobInserter {
	if !s.On() {
		return nil
	}
	return s.o.Jobs
}

// showAnew has Vapi told anew about the agents of an organisation that show a proven number, by its id or by the account that it
// was proven to: it may be shown again, or not any more. The caller holds the lock of the telephony account.
func showAnew(ctx context.Context, tx *db.Tx, jobs JobInserter, org uuid.UUID, column string, values ...string) error {
	var agents []Agent
	if err := tx.SelectContext(ctx, &agents, `
		UPDATE agents a SET revision = revision + 1, sync_at = $3, sync_tries = 0, sync_state = 'waiting', sync_note = '', updated_at = $3
		WHERE a.org_id = $1 AND a.deleted_at IS NULL
		      AND a.caller_id IN (SELECT id FROM caller_ids WHERE org_id = $1 AND state = 'verified' AND `+column+` = ANY ($2)) RETURNING `+agentColumns,
		org, pq.Array(values), tx.Now); err != nil {
		return fmt.Errorf("couldn't have the agents' caller ids shown anew: %w", err)
	}
	for i := range agents {
		if err := agents[i].told(ctx, tx, jobs, "agent.changed", audit.System("agents"), map[string]any{"caller_id": "account"}); err != nil {
			return err
		}
	}
	return nil
}

// forgetCallerID has Twilio forget a number that is being removed.
func (s *Agents) forgetCallerID(ctx context.Context, c CallerID) error {
	in, err := s.openAccount(ctx, c)
	if errors.Is(err, errNoAccount) { // nothing of ours is shown from there any more
		_, err := s.endCallerID(ctx, c, CallerIDRemoved, "")
		return err
	}
	if err != nil {
		return err
	}
	sid := text(c.SID)
	if sid == "" { // it may have been proven since
		if sid, err = s.findCallerID(ctx, c); err != nil {
			return err
		}
	}
	if sid != "" {
		twilio, err := newTwilio(in.sid, in.token, s.o.TwilioBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
		if err != nil {
			return err
		}
		if err := twilioFailure(twilio.DeleteOutgoingCallerId(sid, (&api.DeleteOutgoingCallerIdParams{}).SetPathAccountSid(in.sid))); err != nil && !gone(err) {
			return err
		}
	}
	_, err = s.endCallerID(ctx, c, CallerIDRemoved, "")
	return err
}

// SweepCallerIDs asks about the numbers that wait to be proven, and has Twilio forget those that are being removed. It says how
// many there were. It is safe to repeat and to run in several processes at once.
func (s *Agents) SweepCallerIDs(ctx context.Context) (n int, err error) {
	if !s.On() || s.o.Vault == nil {
		return 0, nil
	}
	var due []CallerID
	began := s.o.Now()
	err = s.o.DB.InSystemTx(ctx, "caller ids that wait, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			SELECT `+callerIDColumns+` FROM caller_ids WHERE state IN ('waiting', 'removing') AND (looked_at IS NULL OR looked_at < $1::timestamptz - interval '10 seconds')
			ORDER BY coalesce(looked_at, created_at) LIMIT $2`, tx.Now, sweepMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, c := range due {
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		if _, err := s.setCallerID(ctx, c, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE caller_ids SET looked_at = $2 WHERE id = $1`, c.ID, tx.Now)
			return err
		}); err != nil {
			all = errors.Join(all, err)
			continue
		}
		if c.State == CallerIDRemoving {
			err = s.forgetCallerID(ctx, c)
		} else {
			_, err = s.lookAtCallerID(ctx, c)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("caller id %s: %w", c.ID, err))
			continue
		}
		n++
	}
	return n, all
}
