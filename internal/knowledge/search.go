package knowledge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

const (
	// DefaultHits is how many passages a search gives unless it asks for another number.
	DefaultHits = 5
	// MaxHits is how many it gives at most.
	MaxHits = 20
	// MaxQuery is the longest query, in characters.
	MaxQuery = 500
	// AnswersKeptDays is how long an answer is kept for a repeat of its request.
	AnswersKeptDays = 30
	answersKept     = AnswersKeptDays * 24 * time.Hour
	// maxAttempts bounds how often a request may be sent with one key although it failed each time.
	maxAttempts = 20
)

// Query is a search that somebody wants to pay for.
type Query struct {
	OrgID uuid.UUID
	Actor audit.Actor
	// Key makes a repeat of the search the same search: unique within the organisation, 1 to 255 characters.
	Key  string
	Text string
	// Limit is how many passages to give at most: 1 to MaxHits, and 0 for DefaultHits.
	Limit int
}

// check refuses what breaks a rule and brings the rest into its one form.
func (q *Query) check() error {
	q.Text = strings.Join(strings.Fields(norm.NFC.String(q.Text)), " ")
	if q.Limit == 0 {
		q.Limit = DefaultHits
	}
	switch {
	case q.Key == "" || len(q.Key) > 255 || !storable(q.Key):
		return fault.Field("idempotency_key", "An idempotency key has 1 to 255 characters.")
	case q.Text == "":
		return fault.Field("query", "Say what to look for.")
	case utf8.RuneCountInString(q.Text) > MaxQuery || !storable(q.Text):
		return fault.Field("query", fmt.Sprintf("A search has at most %d characters.", MaxQuery))
	case q.Limit < 1 || q.Limit > MaxHits:
		return fault.Field("limit", fmt.Sprintf("Ask for 1 to %d passages.", MaxHits))
	}
	return nil
}

// fingerprint is what a repeat must have in common with the first request.
func (q *Query) fingerprint() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s", q.Limit, q.Text))
	return sum[:]
}

// holdKey is the key of the hold that pays for one attempt. An attempt that failed was not paid, and its hold has ended;
// the next one needs another.
func (q *Query) holdKey(attempt int) string {
	sum := sha256.Sum256([]byte(q.Key))
	return fmt.Sprintf("%s:%d", hex.EncodeToString(sum[:]), attempt)
}

// Answer is what a search found and what it cost.
type Answer struct {
	Hits   []Hit
	Amount money.Pence
	Hold   uuid.UUID
	// Repeated says that the search was answered and paid before, and that this is that answer.
	Repeated bool
}

// Search pays for a search and does it: the money is set aside before, and taken in the transaction that keeps the answer.
// A search that finds nothing costs the same; one that fails costs nothing.
//
// It is safe to repeat: the same key gets the same answer for answersKept and is charged once, also when two ask at the
// same time. Faults: Invalid with the field "query", "limit" or "idempotency_key", before any money is asked; Conflict for
// a key that stands for another search, or for one whose answer was forgotten; and what the gates refuse with, Unpaid
// above all: nothing was searched then.
func (s *Service) Search(ctx context.Context, q Query) (Answer, error) {
	if err := q.check(); err != nil {
		return Answer{}, err
	}
	if a, found, err := s.earlier(ctx, &q); err != nil || found {
		return a, err
	}
	if err := s.retriever.Check(ctx, q.OrgID, q.Text); err != nil {
		return Answer{}, err
	}
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		hold, err := s.gates.Authorise(ctx, wallet.HoldRequest{
			OrgID: q.OrgID, Action: wallet.ActionKnowledge, Quantity: 1, Source: wallet.SourceKnowledge, Key: q.holdKey(attempt),
			Fingerprint: hex.EncodeToString(q.fingerprint()), Actor: q.Actor, RequestID: audit.RequestID(ctx),
		})
		if err != nil {
			return Answer{}, err
		}
		switch hold.State {
		case wallet.HoldVoid, wallet.HoldExpired: // an attempt that came to nothing
			continue
		case wallet.HoldCaptured: // somebody with the same key was faster
			return s.paidAlready(ctx, &q)
		case wallet.HoldInFlight:
			return Answer{}, fmt.Errorf("hold %s of a search is in flight, which none ever is", hold.ID)
		case wallet.HoldOpen:
		}
		a, err := s.searchFor(ctx, &q, hold)
		if !errors.Is(err, errHoldEnded) {
			return a, err
		}
	}
	return Answer{}, fault.New(fault.Conflict, "This search was tried with the same key many times and failed each time. Use a new key.")
}

// errHoldEnded marks a hold that somebody else's attempt with the same key has ended without an answer.
var errHoldEnded = errors.New("the hold has ended")

// searchFor searches, and takes the money in the same transaction that keeps the answer.
func (s *Service) searchFor(ctx context.Context, q *Query, hold wallet.Hold) (Answer, error) {
	settlement := wallet.Settlement{
		OrgID: q.OrgID, Hold: hold.ID, Source: wallet.SourceKnowledge, Whole: true, Actor: q.Actor, RequestID: audit.RequestID(ctx),
	}
	hits, err := s.retriever.Retrieve(ctx, q.OrgID, q.Text, q.Limit)
	if err != nil {
		return Answer{}, s.void(ctx, settlement, err)
	}
	if hits == nil {
		hits = []Hit{} // which is what a program reads as nothing
	}
	a := Answer{Hits: hits, Hold: hold.ID}
	err = s.db.InTx(ctx, []uuid.UUID{q.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		captured, err := s.gates.CaptureIn(ctx, tx, settlement)
		if err != nil {
			return err
		}
		a.Amount = captured.Amount
		return q.keep(ctx, tx, a)
	})
	if err == nil {
		return a, nil
	}
	// Perhaps somebody with the same key was faster, or the commit's reply alone was lost: then there is an answer.
	if a, found, ferr := s.earlier(context.WithoutCancel(ctx), q); ferr == nil && found {
		return a, nil
	}
	switch {
	case errors.Is(err, db.ErrCommitUnknown):
		// Nobody knows whether it was taken, so it cannot be given back. A repeat finds out; if none comes, what was only
		// set aside is free again when the hold expires.
		return Answer{}, err
	case fault.Is(err, fault.Conflict):
		return Answer{}, fmt.Errorf("%w: %w", errHoldEnded, err)
	}
	return Answer{}, s.void(ctx, settlement, err)
}

// void gives back what was set aside for a search that failed because of err, and gives that. If it cannot, the hold
// expires by itself.
func (s *Service) void(ctx context.Context, settlement wallet.Settlement, err error) error {
	if _, verr := s.gates.Void(context.WithoutCancel(ctx), settlement); verr != nil {
		s.log.WarnContext(ctx, "a search failed, and its hold could not be ended: it will expire", "hold", settlement.Hold, "error", verr)
	}
	return err
}

// keep writes the answer down for whoever asks with the same key.
func (q *Query) keep(ctx context.Context, tx *db.Tx, a Answer) error {
	result, err := json.Marshal(a.Hits)
	if err != nil {
		return fmt.Errorf("couldn't write the answer down: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO knowledge_searches (org_id, key, fingerprint, hold_id, amount_pence, result, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, q.OrgID, q.Key, q.fingerprint(), a.Hold, a.Amount, string(result), tx.Now)
	if err != nil {
		return fmt.Errorf("couldn't keep the answer: %w", err)
	}
	return nil
}

// earlier finds the answer that an earlier request with the same key was given. Another request under it is a Conflict.
func (s *Service) earlier(ctx context.Context, q *Query) (a Answer, found bool, err error) {
	var row struct {
		Fingerprint []byte      `db:"fingerprint"`
		Hold        uuid.UUID   `db:"hold_id"`
		Amount      money.Pence `db:"amount_pence"`
		Result      []byte      `db:"result"`
	}
	err = s.db.InReadTx(ctx, []uuid.UUID{q.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &row, `
			SELECT fingerprint, hold_id, amount_pence, result FROM knowledge_searches WHERE org_id = $1 AND key = $2`, q.OrgID, q.Key)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return a, false, nil
	case err != nil:
		return a, false, fmt.Errorf("couldn't look for an earlier answer: %w", err)
	case !bytes.Equal(row.Fingerprint, q.fingerprint()):
		return a, false, keyReused("This idempotency key was used for another search. Use a new one.")
	}
	a = Answer{Hold: row.Hold, Amount: row.Amount, Repeated: true}
	if err := json.Unmarshal(row.Result, &a.Hits); err != nil {
		return Answer{}, false, fmt.Errorf("couldn't read the earlier answer: %w", err)
	}
	return a, true, nil
}

// paidAlready gives the answer that a captured hold paid for, as long as it is kept.
func (s *Service) paidAlready(ctx context.Context, q *Query) (Answer, error) {
	a, found, err := s.earlier(ctx, q)
	if err == nil && !found {
		err = keyReused(fmt.Sprintf("This idempotency key was used for a search more than %d days ago, whose answer is not kept any more. Use a new one.", AnswersKeptDays))
	}
	return a, err
}

func keyReused(public string) error {
	return &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: public}
}

// sweepMost bounds how many answers one sweep forgets.
const sweepMost = 1000

// Sweep forgets the answers that are older than answersKept, a thousand at most, and says how many. It is safe to repeat
// and to run in several processes at once.
func (s *Service) Sweep(ctx context.Context) (n int64, err error) {
	err = s.db.InSystemTx(ctx, "answers that are not kept any longer, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			DELETE FROM knowledge_searches s USING (
			    SELECT org_id, key FROM knowledge_searches WHERE created_at < $1 ORDER BY created_at LIMIT $2) old
			WHERE s.org_id = old.org_id AND s.key = old.key`, tx.Now.Add(-answersKept), sweepMost)
		if err != nil {
			return fmt.Errorf("couldn't forget old answers: %w", err)
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
