package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/internal/audit"
)

// Vapi keeps the token of the account that an imported number is in, and reaches the number by it. So it is told of a new one,
// number by number: one that Vapi does not take keeps no other from its turn.

// tellsAtOnce bounds how often one job tells Vapi about one number, whatever people do meanwhile.
const tellsAtOnce = 3

// Notes of numbers whose new token Vapi does not have yet, for people.
const (
	noteUntoldAway    = "Our voice service did not answer. We try again."
	noteUntoldRefused = "Our voice service does not take the new token. We try again; test the credential."
	noteUntoldNowhere = "Our voice service does not have the number. Ask us to connect it again."
	noteUntoldClosed  = "The credential cannot be opened. Replace it."
)

// NumberToken is the job that tells Vapi of the newest token for a number: see [Numbers.TellToken].
type NumberToken struct {
	OrgID  uuid.UUID `json:"org_id"`
	Number uuid.UUID `json:"number"`
}

// Kind is the job's name in the queue.
func (NumberToken) Kind() string { return "number_token" }

// InsertOpts has a job tried once: what is left behind is the sweeper's.
func (NumberToken) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueNumbers, MaxAttempts: 1}
}

// keep stores an account as the organisation's credential of a kind. Where its token is a new one, Vapi is told of it for every
// active number of the credential; where it is another account, of the agents that show what was proven to either. The caller
// holds the lock of the telephony account.
func (s *Numbers) keep(ctx context.Context, tx *db.Tx, org uuid.UUID, kind Kind, a account, actor audit.Actor) (Credential, error) {
	was, _, err := credential(ctx, tx, org, kind)
	if err != nil {
		return Credential{}, err
	}
	c, err := s.o.Vault.save(ctx, tx, org, kind, a, actor)
	if err != nil {
		return Credential{}, err
	}
	if was.AccountSID != a.sid {
		if err := showAnew(ctx, tx, s.jobs(), org, "account_sid", was.AccountSID, a.sid); err != nil {
			return Credential{}, err
		}
	}
	var due []Number
	if err := tx.SelectContext(ctx, &due, `
		UPDATE numbers SET tell_at = $4, tell_tries = 0, tell_note = ''
		WHERE org_id = $1 AND kind = $2 AND state = 'active' AND (told_version <> $3 OR tell_at IS NOT NULL) RETURNING `+numberColumns,
		org, kind, c.Version, tx.Now); err != nil {
		return Credential{}, fmt.Errorf("couldn't note that Vapi is to be told: %w", err)
	}
	for i := range due {
		if err := s.enqueueToken(ctx, tx, &due[i], time.Time{}); err != nil {
			return Credential{}, err
		}
	}
	return c, nil
}

// drop removes a credential that nothing needs, and has Vapi told about the agents that show what was proven to its account. The
// caller holds the lock of the telephony account.
func (s *Numbers) drop(ctx context.Context, tx *db.Tx, c Credential, actor audit.Actor, reason string) error {
	if err := c.remove(ctx, tx, actor, reason); err != nil {
		return err
	}
	return showAnew(ctx, tx, s.jobs(), c.OrgID, "account_sid", c.AccountSID)
}

// jobs are what tells Vapi; nil where the providers are not configured.
func (s *Numbers) jobs() JobInserter {
	if !s.On() {
		return nil
	}
	return s.o.Jobs
}

// enqueueToken adds the job that tells Vapi; at is when, zero for now.
func (s *Numbers) enqueueToken(ctx context.Context, tx *db.Tx, n *Number, at time.Time) error {
	if _, err := s.o.Jobs.InsertTx(ctx, tx.Tx.Tx, NumberToken{OrgID: n.OrgID, Number: n.ID}, &river.InsertOpts{ScheduledAt: at}); err != nil {
		return fmt.Errorf("couldn't add the job that tells Vapi of a token: %w", err)
	}
	return nil
}

// hasToken notes which version of its credential Vapi has for an active number, 0 where nobody knows, and has Vapi told where
// that is not the newest. waits says that it is not. The caller has the account and the number locked.
func (s *Numbers) hasToken(ctx context.Context, tx *db.Tx, n *Number, version int) (waits bool, err error) {
	c, found, err := credential(ctx, tx, n.OrgID, n.Kind)
	if err != nil {
		return false, err
	}
	waits = found && c.Version != version
	var at *time.Time
	if waits {
		at = &tx.Now
	}
	if err := tx.GetContext(ctx, n, `
		UPDATE numbers SET told_version = $2, tell_at = $3, tell_tries = 0, tell_note = '', tell_busy_until = NULL WHERE id = $1 RETURNING `+numberColumns,
		n.ID, version, at); err != nil {
		return false, fmt.Errorf("couldn't note what Vapi has of a number: %w", err)
	}
	if !waits {
		return false, nil
	}
	return true, s.enqueueToken(ctx, tx, n, time.Time{})
}

// TellToken gives Vapi the newest token of the account that an active number is in, if its time has come and nobody else has it
// in hand. It is safe to repeat, and to run anywhere and in several places at once. What Vapi does not take is no error: the
// number says it, and Vapi is told again later.
func (s *Numbers) TellToken(ctx context.Context, org, id uuid.UUID) error {
	if !s.On() {
		return errors.New("numbers wait for Vapi to be told of a token, and the providers are not configured")
	}
	ctx = context.WithoutCancel(ctx)
	for range tellsAtOnce {
		n, took, err := s.takeToken(ctx, org, id)
		if err != nil || !took {
			if errors.Is(err, db.ErrCommitUnknown) {
				return nil // whose it is nobody knows: the lease ends, and the sweeper goes on
			}
			return err
		}
		version, note := s.tellToken(ctx, n)
		again, err := s.storeToken(ctx, n, version, note)
		if err != nil || !again {
			return err
		}
	}
	return nil // the sweeper goes on
}

// takeToken leases to the caller the telling about a number.
func (s *Numbers) takeToken(ctx context.Context, org, id uuid.UUID) (n Number, took bool, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		took = false
		err := tx.GetContext(ctx, &n, `
			UPDATE numbers SET tell_busy_until = $3
			WHERE org_id = $1 AND id = $2 AND state = 'active' AND tell_at <= $4 AND (tell_busy_until IS NULL OR tell_busy_until <= $4) RETURNING `+numberColumns,
			org, id, tx.Now.Add(leaseFor), tx.Now)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't take up the telling of a token: %w", err)
		}
		took = true
		return nil
	})
	return n, took && err == nil, err
}

// tellToken tells Vapi, and gives the version that Vapi has then, or why it has it not.
func (s *Numbers) tellToken(ctx context.Context, n Number) (version int, note string) {
	c, err := s.acting(ctx, n, false)
	if err != nil {
		s.log(ctx, n, "a number's token cannot be told to Vapi", err)
		return 0, noteUntoldClosed
	}
	err = s.vapi.changeToken(ctx, n.VapiID.String, c.of)
	if err == nil {
		return c.of.version, ""
	}
	s.log(ctx, n, "Vapi did not take a number's token", err)
	switch {
	case gone(err):
		return 0, noteUntoldNowhere
	case answerOf(err) == rejected:
		return 0, noteUntoldRefused
	}
	return 0, noteUntoldAway
}

// storeToken writes down what came of telling Vapi, unless the number is not as it was when that was begun. again says that
// there is a newer token by now.
func (s *Numbers) storeToken(ctx context.Context, n Number, version int, note string) (again bool, err error) {
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			again = false
			if _, err := lockAccount(ctx, tx, n.OrgID); err != nil {
				return err
			}
			now, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 AND state = 'active' AND vapi_id = $3 AND tell_busy_until = $4 FOR NO KEY UPDATE`,
				n.OrgID, n.ID, n.VapiID, n.TellBusyUntil)
			if err != nil || !found {
				return err
			}
			if note == "" {
				if again, err = s.hasToken(ctx, tx, &now, version); err != nil {
					return err
				}
				return now.record(ctx, tx, "number.token_told", audit.System("numbers"), "", nil)
			}
			first := now.TellNote != note
			at := tx.Now.Add(min(pauseFirst<<min(now.TellTries, 20), pauseMost))
			if _, err := tx.ExecContext(ctx, `UPDATE numbers SET tell_at = $2, tell_tries = tell_tries + 1, tell_note = $3, tell_busy_until = NULL WHERE id = $1`,
				n.ID, at, note); err != nil {
				return fmt.Errorf("couldn't put off the telling of a token: %w", err)
			}
			if err := s.enqueueToken(ctx, tx, &now, at); err != nil || !first {
				return err
			}
			return now.record(ctx, tx, "number.token_put_off", audit.System("numbers"), note, nil)
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	return again && err == nil, err
}

// Telling lists an organisation's numbers for which Vapi does not have the newest token yet, in the order of their digits.
func (s *Numbers) Telling(ctx context.Context, org uuid.UUID) (list []Number, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `SELECT `+numberColumns+` FROM numbers WHERE org_id = $1 AND tell_at IS NOT NULL ORDER BY phone_number LIMIT $2`, org, numbersMost); err != nil {
			return fmt.Errorf("couldn't list the numbers whose token is being told: %w", err)
		}
		return nil
	})
	return list, err
}

// takeUpToken gives the telling about a number that was left behind a new job.
func (s *Numbers) takeUpToken(ctx context.Context, org, id uuid.UUID) (moved bool, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		moved = false
		var n Number
		err := tx.GetContext(ctx, &n, `
			UPDATE numbers SET tell_at = $2::timestamptz
			WHERE id = $1 AND tell_at < $2::timestamptz - $3::interval AND (tell_busy_until IS NULL OR tell_busy_until < $2) RETURNING `+numberColumns,
			id, tx.Now, leftBehind.String())
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't take the telling of a token up: %w", err)
		}
		moved = true
		return s.enqueueToken(ctx, tx, &n, time.Time{})
	})
	if moved && err == nil {
		s.metrics.repaired.Inc()
	}
	return moved && err == nil, err
}
