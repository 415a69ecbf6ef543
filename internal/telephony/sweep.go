package telephony

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/fault"
)

const (
	// queuedFor is how long a text may wait to be sent before somebody else sends it: whoever queued it is gone.
	queuedFor = time.Minute
	// lostFor is how long a text whose answer was lost must be unknown to Twilio before it counts as not sent, and
	// lookEvery how often it is looked for.
	lostFor   = 2 * time.Minute
	lookEvery = 30 * time.Second
	// askEvery is how often Twilio is asked about a text of which nothing more was heard, and deliveredAfter when no news
	// are good news: many networks never tell.
	askEvery       = 5 * time.Minute
	deliveredAfter = 4 * time.Hour
	// sweepMost bounds the texts of one sweep, and sweepFor how long it begins with another one: where Twilio does not
	// answer, each waits for its timeout.
	sweepMost = 100
	sweepFor  = 30 * time.Second
	// listMost is how much of Twilio's list is read to find one text: a page, the newest first.
	listMost = 1000
)

// Sweep finds out what became of texts that were left behind: queued by a process that has died, sent without an answer, or
// sent without news. It says how many it brought on. It is safe to repeat and to run in several processes at once.
func (s *Messages) Sweep(ctx context.Context) (n int, err error) {
	if !s.On() {
		return 0, nil
	}
	var due []struct {
		ID    uuid.UUID `db:"id"`
		OrgID uuid.UUID `db:"org_id"`
		State State     `db:"state"`
	}
	began := s.o.Now()
	err = s.o.DB.InSystemTx(ctx, "texts that were left behind, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id, state FROM messages WHERE ended_at IS NULL AND (
			    state = 'queued' AND created_at < $1::timestamptz - $2::interval
			    OR state = 'sending' AND coalesce(looked_at, asked_at) < $1::timestamptz - $3::interval
			    OR state = 'sent' AND coalesce(looked_at, sent_at, asked_at) < $1::timestamptz - $4::interval)
			ORDER BY coalesce(looked_at, asked_at, created_at) LIMIT $5`, tx.Now, queuedFor.String(), lookEvery.String(), askEvery.String(), sweepMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		moved, err := s.sweepOne(ctx, d.OrgID, d.ID)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("text %s: %w", d.ID, err))
			if d.State == Sent {
				// It goes to the end of the queue: what Twilio does not answer for must not keep the others from their turn.
				// One that is looked for stays: only a look that was had counts.
				all = errors.Join(all, s.looked(ctx, d.OrgID, d.ID))
			}
		}
		if moved {
			n++
			s.metrics.repaired.WithLabelValues(string(d.State)).Inc()
		}
	}
	return n, all
}

func (s *Messages) sweepOne(ctx context.Context, org, id uuid.UUID) (moved bool, err error) {
	m, err := s.Message(ctx, org, id)
	if err != nil {
		return false, err
	}
	switch m.State {
	case Queued:
		after, err := s.deliver(ctx, m)
		if _, said := errors.AsType[*fault.Error](err); said { // it was refused, and that is settled
			err = nil
		}
		return after.State != Queued, err
	case Sending:
		return s.lookFor(ctx, m)
	case Sent:
		return s.askAbout(ctx, m)
	case Delivered, Undelivered, Failed, Received:
	}
	return false, nil
}

// lookFor looks in Twilio's list for a text whose answer was lost. Twilio's list has no name of ours in it, so the text is
// known by its numbers, its words and the time, and by being nobody else's.
func (s *Messages) lookFor(ctx context.Context, m Message) (bool, error) {
	there, err := s.lookPlace(ctx, m)
	if errors.Is(err, errAccountGone) { // nobody can show that it was sent, so nobody pays for it
		if s.o.Now().Sub(*m.AskedAt) <= lostFor {
			return false, s.looked(ctx, m.OrgID, m.ID)
		}
		_, _, err := s.settle(ctx, m, news{state: Failed, from: Sending, note: noteLost})
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	list, err := there.twilio.ListMessage((&api.ListMessageParams{}).SetPathAccountSid(there.account).SetTo(m.Recipient).SetFrom(m.Sender).SetPageSize(listMost).SetLimit(listMost))
	if err != nil {
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err // without the address, in which the numbers stand
		}
		return false, fmt.Errorf("couldn't ask Twilio for its list: %w", err)
	}
	var sids []string
	var found []*api.ApiV2010Message
	for i := range list {
		if at := &list[i]; at.Sid != nil && at.Body != nil && *at.Body == m.Body && !madeBefore(at, m) {
			sids, found = append(sids, *at.Sid), append(found, at)
		}
	}
	if len(found) > 0 && s.o.Now().Sub(*m.AskedAt) <= lostFor {
		// Where others wait for the same words, maybe of another organisation, and there are not enough for all, Twilio's
		// own word on a text, which names ours, is waited for before one is taken for another.
		enough, err := s.enough(ctx, m, sids)
		if err != nil || !enough {
			return false, errors.Join(err, s.looked(ctx, m.OrgID, m.ID))
		}
	}
	for _, at := range found {
		after, _, err := s.settle(ctx, m, newsOf(at))
		if taken(err) { // it is another text's: they are the same, and this one is perhaps the next
			continue
		}
		return err == nil && after.State != Sending, err
	}
	// A list that does not reach back to when it was asked for says nothing about what is not in it.
	whole := len(list) < listMost || madeBefore(&list[len(list)-1], m)
	if whole && m.LookedAt != nil && s.o.Now().Sub(*m.AskedAt) > lostFor {
		_, _, err := s.settle(ctx, m, news{state: Failed, from: Sending, note: noteLost})
		return err == nil, err
	}
	return false, s.looked(ctx, m.OrgID, m.ID)
}

// enough reports whether every text that waits for an answer, with the same numbers and words as m, has one of Twilio's that
// belongs to none yet.
func (s *Messages) enough(ctx context.Context, m Message, sids []string) (ok bool, err error) {
	err = s.o.DB.InSystemTx(ctx, "texts with the same words from the sender that all share", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &ok, `
			SELECT cardinality($1::text[]) - (SELECT count(*) FROM messages WHERE sid = ANY($1))
			       >= (SELECT count(*) FROM messages WHERE ended_at IS NULL AND state = 'sending' AND sender = $2 AND recipient = $3 AND body = $4)`,
			pq.Array(sids), m.Sender, m.Recipient, m.Body)
	})
	return ok, err
}

// madeBefore reports whether Twilio made its text before it was asked for ours; its clock and ours may differ a little.
func madeBefore(at *api.ApiV2010Message, m Message) bool {
	if at.DateCreated == nil || m.AskedAt == nil {
		return false
	}
	made, err := time.Parse(time.RFC1123Z, *at.DateCreated)
	return err == nil && made.Before(m.AskedAt.Add(-time.Minute))
}

// askAbout asks Twilio how a text goes on of which nothing was heard.
func (s *Messages) askAbout(ctx context.Context, m Message) (bool, error) {
	n := news{state: Sent, sid: m.SID.String}
	there, err := s.lookPlace(ctx, m)
	var at *api.ApiV2010Message
	if err == nil {
		at, err = there.twilio.FetchMessage(m.SID.String, (&api.FetchMessageParams{}).SetPathAccountSid(there.account))
	}
	switch said, ok := errors.AsType[*client.TwilioRestError](err); {
	case err == nil:
		n = newsOf(at)
	case errors.Is(err, errAccountGone), ok && said.Status == http.StatusNotFound: // it was deleted there, so there will be no news: time decides
	default:
		return false, fmt.Errorf("couldn't ask Twilio about it: %w", err)
	}
	if n.state == Sent && m.SentAt != nil && s.o.Now().Sub(*m.SentAt) > deliveredAfter {
		n.state = Delivered
	}
	if n.state == Sent {
		return false, s.looked(ctx, m.OrgID, m.ID)
	}
	_, _, err = s.settle(ctx, m, n)
	return err == nil, err
}

// looked notes that Twilio was asked and had nothing new, or did not answer about one that it has.
func (s *Messages) looked(ctx context.Context, org, id uuid.UUID) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE messages SET looked_at = $2 WHERE id = $1 AND state IN ('sending', 'sent')`, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't note the look: %w", err)
		}
		return nil
	})
}
