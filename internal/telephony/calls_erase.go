package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

const (
	// DefaultRetentionDays is for how long an organisation keeps what people said and wrote, unless it says otherwise.
	DefaultRetentionDays = 90
	// MaxRetentionDays is the longest that it may.
	MaxRetentionDays = 3650
	// eraseMost bounds what one sweep erases of each organisation and kind, and vapiEraseMost how many calls it has Vapi forget.
	eraseMost     = 200
	vapiEraseMost = 50
)

// Retention is for how many days an organisation keeps transcripts, recordings and the words of texts.
func (s *Calls) Retention(ctx context.Context, org uuid.UUID) (days int, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &days, `SELECT days FROM retentions WHERE org_id = $1`, org)
		if errors.Is(err, sql.ErrNoRows) {
			days = DefaultRetentionDays
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't read the retention: %w", err)
		}
		return nil
	})
	return days, err
}

// SetRetention sets for how many days an organisation keeps what people said and wrote. What is older is erased by the next
// sweep, for good. It is safe to repeat. Invalid with the field "days".
func (s *Calls) SetRetention(ctx context.Context, org uuid.UUID, days int, actor audit.Actor) error {
	if days < 1 || days > MaxRetentionDays {
		return fault.Field("days", fmt.Sprintf("Give a number of days from 1 to %s.", grouped(MaxRetentionDays)))
	}
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO retentions (org_id, days, updated_at) VALUES ($1, $2, $3) ON CONFLICT (org_id) DO UPDATE SET days = $2, updated_at = $3`, org, days, tx.Now); err != nil {
			return fmt.Errorf("couldn't set the retention: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: actor, Action: "retention.set", Subject: "org:" + org.String(), Detail: map[string]any{"days": days}})
	})
}

// erasures are what is erased when its time has come: the words, and where they can be heard. Who it was with, when, and what
// it cost stays. $1 is the organisation, $2 the moment before which, $3 how many at most, $4 now.
var erasures = []struct{ what, statement string }{
	{"call", `
		UPDATE calls SET transcript = '', recording_url = '', erased_at = $4
		WHERE id IN (SELECT id FROM calls WHERE org_id = $1 AND ended_at < $2 AND ended_at IS NOT NULL AND erased_at IS NULL ORDER BY ended_at LIMIT $3)`},
	{"message", `
		UPDATE messages SET body = '', erased_at = $4
		WHERE id IN (SELECT id FROM messages WHERE org_id = $1 AND ended_at < $2 AND ended_at IS NOT NULL AND erased_at IS NULL ORDER BY ended_at LIMIT $3)`},
	{"inbound_message", `
		UPDATE inbound_messages SET body = '', erased_at = $4
		WHERE id IN (SELECT id FROM inbound_messages WHERE org_id = $1 AND received_at < $2 AND erased_at IS NULL ORDER BY received_at LIMIT $3)`},
}

// Erase erases what people said and wrote longer ago than their organisation keeps it, here, and has Vapi forget those calls.
// It says how much it was. It is safe to repeat and to run in several processes at once.
func (s *Calls) Erase(ctx context.Context) (n int64, err error) {
	var due []struct {
		OrgID uuid.UUID `db:"org_id"`
		Days  int       `db:"days"`
	}
	err = s.o.DB.InSystemTx(ctx, "words that are kept no longer, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		// An index look-up for each organisation, and no more.
		return tx.SelectContext(ctx, &due, `
			SELECT o.id AS org_id, k.days FROM organizations o
			       CROSS JOIN LATERAL (SELECT coalesce((SELECT r.days FROM retentions r WHERE r.org_id = o.id), $2) AS days) k
			       CROSS JOIN LATERAL (SELECT $1::timestamptz - k.days * interval '1 day' AS before) b
			WHERE EXISTS (SELECT FROM calls c WHERE c.org_id = o.id AND c.ended_at < b.before AND c.ended_at IS NOT NULL AND c.erased_at IS NULL)
			   OR EXISTS (SELECT FROM messages m WHERE m.org_id = o.id AND m.ended_at < b.before AND m.ended_at IS NOT NULL AND m.erased_at IS NULL)
			   OR EXISTS (SELECT FROM inbound_messages i WHERE i.org_id = o.id AND i.received_at < b.before AND i.erased_at IS NULL)`, tx.Now, DefaultRetentionDays)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil {
			break
		}
		erased, err := s.eraseOf(ctx, d.OrgID, d.Days)
		n += erased
		all = errors.Join(all, err)
	}
	return n, errors.Join(all, s.eraseAtVapi(ctx))
}

// eraseOf erases what one organisation keeps no longer.
func (s *Calls) eraseOf(ctx context.Context, org uuid.UUID, days int) (n int64, err error) {
	counts := map[string]int64{}
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		n = 0
		before := tx.Now.Add(-time.Duration(days) * 24 * time.Hour)
		for _, e := range erasures {
			res, err := tx.ExecContext(ctx, e.statement, org, before, eraseMost, tx.Now)
			if err != nil {
				return fmt.Errorf("couldn't erase what is kept no longer: %w", err)
			}
			if counts[e.what], err = res.RowsAffected(); err != nil {
				return fmt.Errorf("couldn't count what was erased: %w", err)
			}
			n += counts[e.what]
		}
		if n == 0 {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: audit.System("retention"), Action: "words.erased", Subject: "org:" + org.String(),
			Detail: map[string]any{"days": days, "calls": counts["call"], "messages": counts["message"], "inbound_messages": counts["inbound_message"]},
		})
	})
	if err != nil {
		return 0, fmt.Errorf("organisation %s: %w", org, err)
	}
	for what, count := range counts {
		s.metrics.erased.WithLabelValues(what).Add(float64(count))
	}
	return n, nil
}

// eraseAtVapi has Vapi forget the calls that were erased here: transcript, recording and log. What Vapi does not forget now is
// tried again with the next sweep.
func (s *Calls) eraseAtVapi(ctx context.Context) error {
	if !s.On() {
		return nil
	}
	var due []struct {
		ID     uuid.UUID `db:"id"`
		OrgID  uuid.UUID `db:"org_id"`
		VapiID string    `db:"vapi_id"`
	}
	err := s.o.DB.InSystemTx(ctx, "calls that Vapi is to forget, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id, vapi_id FROM calls WHERE erased_at IS NOT NULL AND vapi_id IS NOT NULL AND vapi_erased_at IS NULL ORDER BY erased_at LIMIT $1`, vapiEraseMost)
	})
	if err != nil {
		return err
	}
	began := s.o.Now()
	for _, d := range due {
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		if err := s.vapi.deleteCall(ctx, d.VapiID); err != nil {
			// Vapi is away, or does not like this one: either way the others take their turn after it.
			if perr := s.eraseLater(ctx, d.OrgID, d.ID, false); perr != nil {
				return perr
			}
			if answerOf(err) == rejected {
				s.o.Log.WarnContext(ctx, "Vapi does not forget a call", "call", d.ID, "org_id", d.OrgID, "error", err)
				continue
			}
			return fmt.Errorf("couldn't have Vapi forget call %s: %w", d.ID, err)
		}
		if err := s.eraseLater(ctx, d.OrgID, d.ID, true); err != nil {
			return err
		}
		s.metrics.erased.WithLabelValues("vapi_call").Inc()
	}
	return nil //nolint:nilerr // one that Vapi refuses to forget is logged, and takes its turn again
}

// eraseLater notes that Vapi has forgotten a call, or puts it behind the others.
func (s *Calls) eraseLater(ctx context.Context, org, id uuid.UUID, done bool) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE calls SET vapi_erased_at = CASE WHEN $2::boolean THEN $3::timestamptz END, erased_at = CASE WHEN $2 THEN erased_at ELSE $3 END WHERE id = $1`, id, done, tx.Now); err != nil {
			return fmt.Errorf("couldn't note what Vapi forgot: %w", err)
		}
		return nil
	})
}

// EraseCall erases what was said in one call, here, and has Vapi forget it with the next sweep. Who it was with, when, and what
// it cost stays. It is safe to repeat.
//
// Faults: NotFound for another organisation's; Conflict with the code "under_way" while it goes on.
func (s *Calls) EraseCall(ctx context.Context, org, id uuid.UUID, actor audit.Actor) (c Call, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if c, found, err = readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c`, org, id); err != nil {
			return err
		}
		switch {
		case !found:
			return errNoCall()
		case !c.State.Ended():
			return &fault.Error{Kind: fault.Conflict, Code: "under_way", Public: "This call goes on. What is said in it can be erased when it has ended."}
		case c.ErasedAt != nil:
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET transcript = '', recording_url = '', erased_at = $2 WHERE id = $1`, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't erase what was said: %w", err)
		}
		if err := c.record(ctx, tx, "call.erased", actor, nil); err != nil {
			return err
		}
		c, _, err = readCall(ctx, tx, `WHERE c.id = $1`, id)
		return err
	})
	return c, err
}

// EraseDue is when what was said in a call is erased at the latest: so many days after it ended. nil while it goes on, and
// where it is gone already.
func (c *Call) EraseDue(days int) *time.Time {
	if c.EndedAt == nil || c.ErasedAt != nil {
		return nil
	}
	due := c.EndedAt.Add(time.Duration(days) * 24 * time.Hour)
	return &due
}

// Erased says what was erased about one person.
type Erased struct{ Calls, Messages, Inbound, Holds int64 }

// forgotten is the fingerprint of what was erased: a repeat of its request is another request.
var forgotten = make([]byte, 32)

// EraseParty erases one person from an organisation's records, by their number: their calls lose transcript, recording and
// all of the number but its ends, and Vapi forgets them; texts to and from them lose number and words; what paid for those
// keeps its amounts and forgets whom it was for. Their wish not to be texted stays, since forgetting it would break it; so does
// the audit log, which cannot be changed. It is safe to repeat.
//
// Faults: Invalid with the field "number"; Conflict while a call with them goes on or a text to them is on its way.
func (s *Calls) EraseParty(ctx context.Context, org uuid.UUID, number string, actor audit.Actor) (e Erased, err error) {
	number, err = wallet.ParseDestination(number)
	if err != nil {
		return Erased{}, atField("number", err)
	}
	mask := masked(number)
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		e = Erased{}
		if err := wallet.Lock(ctx, tx, org); err != nil {
			return err
		}
		var busy bool
		if err := tx.GetContext(ctx, &busy, `
			SELECT EXISTS (SELECT FROM calls WHERE org_id = $1 AND party = $2 AND ended_at IS NULL)
			       OR EXISTS (SELECT FROM messages WHERE org_id = $1 AND recipient = $2 AND state IN ('queued', 'sending'))`, org, number); err != nil {
			return fmt.Errorf("couldn't look for what is under way: %w", err)
		}
		if busy {
			return &fault.Error{Kind: fault.Conflict, Code: "under_way", Public: "A call with this number goes on, or a text to it is on its way. Try again when that has ended."}
		}
		for _, step := range []struct {
			n         *int64
			statement string
		}{
			{&e.Calls, `UPDATE calls SET party = $3, transcript = '', recording_url = '', fingerprint = $5, erased_at = coalesce(erased_at, $4) WHERE org_id = $1 AND party = $2`},
			{&e.Messages, `UPDATE messages SET recipient = $3, body = '', fingerprint = $5, erased_at = coalesce(erased_at, $4) WHERE org_id = $1 AND recipient = $2`},
			{&e.Inbound, `UPDATE inbound_messages SET sender = $3, body = '', erased_at = coalesce(erased_at, $4) WHERE org_id = $1 AND sender = $2 AND $5::bytea IS NOT NULL`},
		} {
			res, err := tx.ExecContext(ctx, step.statement, org, number, mask, tx.Now, forgotten)
			if err != nil {
				return fmt.Errorf("couldn't erase the person: %w", err)
			}
			if *step.n, err = res.RowsAffected(); err != nil {
				return fmt.Errorf("couldn't count what was erased: %w", err)
			}
		}
		if err := tx.ReadWidely(ctx); err != nil { // holds are not kept by whom they are for
			return err
		}
		if e.Holds, err = wallet.ForgetDestination(ctx, tx, org, number, mask); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: actor, Action: "party.erased", Subject: "party:" + mask,
			Detail: map[string]any{"calls": e.Calls, "messages": e.Messages, "inbound_messages": e.Inbound, "holds": e.Holds},
		})
	})
	return e, err
}
