package payments

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Paying back: how the open parts of withdrawals end.
//
// A part is taken on by one worker at a time, for partFor. Stripe is asked what refunds the payment has before it is asked
// for another one: a refund that is there with the withdrawal's id in its metadata is the part's, whoever asked for it and
// died. Only where there is none a refund is asked for, under a key of the withdrawal, the payment and the attempt. Whatever
// it becomes is booked as every refund is, and that ends the part in the same transaction: see settleParts. What Stripe
// refuses is given back to the wallet.

const (
	// partFor is how long a part is one worker's. It is longer than Stripe is waited for.
	partFor = 2 * time.Minute
	// partPause is the least pause before a part is tried again: a request that was not answered may still be under way.
	partPause = 10 * time.Second
	// withdrawalKey is where a refund's metadata names the withdrawal.
	withdrawalKey = "withdrawal_id"
)

// openPart is a part that is being worked on.
type openPart struct {
	Withdrawal uuid.UUID   `db:"withdrawal_id"`
	Org        uuid.UUID   `db:"org_id"`
	Intent     string      `db:"payment_intent"`
	Amount     money.Pence `db:"amount_pence"`
	Charge     money.Pence `db:"charge_pence"`
	Attempt    int         `db:"attempt"`
	Tries      int         `db:"tries"`
}

// PayBack asks Stripe for the refunds of a withdrawal that it has not answered for yet, and books them. It is safe to repeat
// and to run in several processes at once. A part that Stripe gives no answer for stays open and is tried again later; an
// error is the database's.
func (s *Service) PayBack(ctx context.Context, job PayBackJob) error {
	for {
		p, found, err := s.takePart(ctx, job)
		if err != nil || !found {
			return err
		}
		gone, err := s.payPartBack(ctx, p)
		if err != nil || gone { // nobody waits for Stripe again in this round
			return err
		}
	}
}

// takePart takes on a part of the withdrawal whose turn has come. The state is compared as an expression here and below for
// the reason that waitingEvents gives.
func (s *Service) takePart(ctx context.Context, job PayBackJob) (p openPart, found bool, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{job.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		found = true
		err := tx.GetContext(ctx, &p, `
			UPDATE withdrawal_parts p SET next_attempt_at = $3
			FROM credits c
			WHERE c.payment_intent = p.payment_intent AND p.withdrawal_id = $1 AND p.payment_intent = (
			    SELECT payment_intent FROM withdrawal_parts WHERE withdrawal_id = $1 AND state || '' = 'open' AND next_attempt_at <= $2
			    ORDER BY amount_pence DESC, payment_intent LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
			RETURNING p.withdrawal_id, p.org_id, p.payment_intent, p.amount_pence, c.amount_pence AS charge_pence, p.attempt, p.tries`,
			job.WithdrawalID, tx.Now, tx.Now.Add(partFor))
		if errors.Is(err, sql.ErrNoRows) {
			found = false
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't take on a part of the withdrawal: %w", err)
		}
		return nil
	})
	return p, found, err
}

// payPartBack has the part refunded and the refund booked, or keeps with the part why not. It reports whether Stripe does not
// answer at all.
func (s *Service) payPartBack(ctx context.Context, p openPart) (gone bool, err error) {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	listed, err := s.refundsOf(asking, p.Intent)
	if err != nil {
		return !answered(err), s.partUnanswered(ctx, p, fmt.Errorf("couldn't ask Stripe for the payment's refunds: %w", err))
	}
	r := p.among(listed)
	if r == nil {
		if left := p.Charge - taken(listed); p.Amount > left {
			return false, s.refusePart(ctx, p, fmt.Sprintf("Only %s of this payment is left to refund.", max(left, 0)))
		}
		if r, err = s.stripe.Refunds.New(p.params(asking)); err != nil {
			return !answered(err), s.partFailed(ctx, p, err)
		}
	}
	return false, s.bookPart(ctx, p, r)
}

// answered reports whether an error is Stripe's own.
func answered(err error) bool {
	_, ok := errors.AsType[*stripe.Error](err)
	return ok
}

// params are a function of the stored row alone: Stripe refuses a repeated key with other parameters.
func (p openPart) params(ctx context.Context) *stripe.RefundParams {
	params := &stripe.RefundParams{
		PaymentIntent: new(p.Intent), Amount: new(int64(p.Amount)), Reason: stripe.String(string(stripe.RefundReasonRequestedByCustomer)),
		Metadata: map[string]string{withdrawalKey: p.Withdrawal.String(), "org_id": p.Org.String()},
	}
	params.Context = ctx
	params.SetIdempotencyKey("withdrawal:" + p.Withdrawal.String() + ":" + p.Intent + ":" + strconv.Itoa(p.Attempt))
	return params
}

// among finds the part's refund in a list of its payment's; nil where there is none. One that takes money goes first.
func (p openPart) among(listed []*stripe.Refund) (found *stripe.Refund) {
	for _, r := range listed {
		if r.Metadata[withdrawalKey] == p.Withdrawal.String() && r.Amount == int64(p.Amount) && (found == nil || !takes(found)) {
			found = r
		}
	}
	return found
}

// takes reports whether a refund takes money, as far as one knows: it has not failed and was not given up.
func takes(r *stripe.Refund) bool {
	return r.Status != stripe.RefundStatusFailed && r.Status != stripe.RefundStatusCanceled
}

// taken is what refunds take of their payment.
func taken(listed []*stripe.Refund) (sum money.Pence) {
	for _, r := range listed {
		if takes(r) {
			sum += money.Pence(r.Amount)
		}
	}
	return sum
}

// partFailed judges what Stripe's client returned to the question for a refund.
func (s *Service) partFailed(ctx context.Context, p openPart, cause error) error {
	e, answered := errors.AsType[*stripe.Error](cause)
	switch {
	case !answered, e.HTTPStatusCode == http.StatusTooManyRequests, e.HTTPStatusCode == http.StatusConflict,
		e.HTTPStatusCode == http.StatusUnauthorized, e.HTTPStatusCode == http.StatusForbidden,
		e.HTTPStatusCode > http.StatusInternalServerError:
		// Nobody knows whether Stripe acted, or it did not because of our own key or on the way: the same idempotency key
		// makes at most one refund.
		return s.partUnanswered(ctx, p, cause)
	case e.HTTPStatusCode == http.StatusInternalServerError:
		// Stripe replays a 500 for its key for a day, so the next try needs a new one. Should it have acted all the same, its
		// list has the refund by then.
		p.Attempt++
		return s.partUnanswered(ctx, p, cause)
	default:
		return s.refusePart(ctx, p, e.Msg)
	}
}

// partUnanswered leaves the part open for a later try, which gets a job of its own.
func (s *Service) partUnanswered(ctx context.Context, p openPart, cause error) error {
	s.log.WarnContext(ctx, "Stripe gave no answer about a refund that we ask for", "withdrawal", p.Withdrawal, "payment_intent", p.Intent, "tries", p.Tries+1, "error", cause)
	return s.db.InTx(ctx, []uuid.UUID{p.Org}, func(ctx context.Context, tx *db.Tx) error {
		at := tx.Now.Add(max(partPause, retryAfter(p.Tries+1)))
		var id uuid.UUID
		err := tx.GetContext(ctx, &id, `
			UPDATE withdrawal_parts SET attempt = greatest(attempt, $3), tries = tries + 1, note = $4, next_attempt_at = $5, updated_at = $6
			WHERE withdrawal_id = $1 AND payment_intent = $2 AND state || '' = 'open' RETURNING withdrawal_id`,
			p.Withdrawal, p.Intent, p.Attempt, noteOf("Stripe gave no answer: "+cause.Error()), at, tx.Now)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // an event of Stripe's has ended it meanwhile
		}
		if err != nil {
			return fmt.Errorf("couldn't postpone a part of a withdrawal: %w", err)
		}
		return s.enqueuePayBack(ctx, tx, PayBackJob{OrgID: p.Org, WithdrawalID: p.Withdrawal}, at)
	})
}

// refusePart ends a part that Stripe does not refund, and gives its money back to the wallet.
func (s *Service) refusePart(ctx context.Context, p openPart, why string) error {
	s.log.WarnContext(ctx, "Stripe refused a refund that we asked for", "withdrawal", p.Withdrawal, "payment_intent", p.Intent, "pence", int64(p.Amount), "reason", why)
	return s.db.InTx(ctx, []uuid.UUID{p.Org}, func(ctx context.Context, tx *db.Tx) error {
		return refuseIn(ctx, tx, p, why, audit.System("withdrawals"))
	})
}

// refuseIn is refusePart in the caller's transaction. A part that has ended stays as it is.
func refuseIn(ctx context.Context, tx *db.Tx, p openPart, why string, actor audit.Actor) error {
	var id uuid.UUID
	err := tx.GetContext(ctx, &id, `
		UPDATE withdrawal_parts SET state = 'refused', note = $3, updated_at = $4
		WHERE withdrawal_id = $1 AND payment_intent = $2 AND state || '' = 'open' RETURNING withdrawal_id`, p.Withdrawal, p.Intent, noteOf(why), tx.Now)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("couldn't end a part of a withdrawal: %w", err)
	}
	if err := wallet.GiveBack(ctx, tx, p.Org, p.Amount, p.subject(), actor); err != nil {
		return err
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: p.Org, Actor: actor, Action: "withdrawal.refused", Subject: "withdrawal:" + p.Withdrawal.String(),
		Detail: map[string]any{"amount_pence": int64(p.Amount), "payment_intent": p.Intent, "why": noteOf(why)},
	})
}

func (p openPart) subject() string { return "withdrawal:" + p.Withdrawal.String() + ":" + p.Intent }

// noteOf is text of Stripe's as it is kept.
func noteOf(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if runes := []rune(text); len(runes) > 500 {
		text = string(runes[:500]) + "…"
	}
	return text
}

// bookPart has a refund booked the way of every refund: by an event that says that it is there. Stripe's own says the same,
// when it comes; whichever is first ends the part.
func (s *Service) bookPart(ctx context.Context, p openPart, r *stripe.Refund) error {
	body, err := json.Marshal(map[string]any{
		"id": fmt.Sprintf("withdrawn_%s_%s%d", r.ID, r.Status, r.Amount), "object": "event", "api_version": stripe.APIVersion,
		"type": "charge.refund.updated", "created": r.Created, "livemode": s.livemode,
		"data": map[string]any{"object": map[string]any{
			"id": r.ID, "object": "refund", "amount": r.Amount, "currency": r.Currency, "status": r.Status, "payment_intent": p.Intent,
			"metadata": r.Metadata, "created": r.Created,
		}},
	})
	if err != nil {
		return fmt.Errorf("couldn't make an event of refund %s: %w", r.ID, err)
	}
	e := receive(body, s.now())
	if _, err := s.storeEvents(ctx, []received{e}, false); err != nil {
		return err
	}
	return s.workReversals(ctx, []string{e.id})
}

// settleParts ends the open parts that the refunds of an answer belong to, before the answer is posted: the reserved money
// of one that stands is freed for the posting to take, that of one that failed goes back to the wallet. It gives the reason
// of the withdrawal, for the customer. The payment is locked.
func settleParts(ctx context.Context, tx *db.Tx, org uuid.UUID, intent string, refunds []*stripe.Refund, actor audit.Actor) (reason string, err error) {
	if !slices.ContainsFunc(refunds, func(r *stripe.Refund) bool { return r.Metadata[withdrawalKey] != "" }) {
		return "", nil
	}
	var open []struct {
		openPart

		Reason string `db:"reason"`
	}
	if err := tx.SelectContext(ctx, &open, `
		SELECT p.withdrawal_id, p.org_id, p.payment_intent, p.amount_pence, w.reason
		FROM withdrawal_parts p JOIN withdrawals w ON w.id = p.withdrawal_id
		WHERE p.payment_intent = $1 AND p.org_id = $2 AND p.state || '' = 'open' ORDER BY p.withdrawal_id FOR NO KEY UPDATE OF p`, intent, org); err != nil {
		return "", fmt.Errorf("couldn't look for withdrawals: %w", err)
	}
	for _, p := range open {
		r := p.among(refunds)
		switch {
		case r == nil:
			continue
		case !takes(r):
			if err := refuseIn(ctx, tx, p.openPart, "The refund did not go through: "+string(r.FailureReason), actor); err != nil {
				return "", err
			}
			continue
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE withdrawal_parts SET state = 'refunded', refund_id = $3, note = '', updated_at = $4
			WHERE withdrawal_id = $1 AND payment_intent = $2`, p.Withdrawal, intent, r.ID, tx.Now); err != nil {
			return "", fmt.Errorf("couldn't end a part of a withdrawal: %w", err)
		}
		if err := wallet.Unreserve(ctx, tx, org, p.Amount); err != nil {
			return "", err
		}
		reason = p.Reason
	}
	return reason, nil
}

// SweepWithdrawals gives a new job to every withdrawal with a part whose turn came more than 30 s ago, whatever became of
// its first one, and says how many there were. It is safe to repeat and to run in several processes at once.
func (s *Service) SweepWithdrawals(ctx context.Context) (n int, err error) {
	err = s.db.InSystemTx(ctx, "finding withdrawals that wait too long", func(ctx context.Context, tx *db.Tx) error {
		var late []PayBackJob
		// Moving their turn to now keeps the next round from adding the same jobs again.
		if err := tx.SelectContext(ctx, &late, `
			UPDATE withdrawal_parts SET next_attempt_at = $1
			WHERE (withdrawal_id, payment_intent) IN (
			    SELECT withdrawal_id, payment_intent FROM withdrawal_parts WHERE state = 'open' AND next_attempt_at < $2
			    ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
			RETURNING withdrawal_id, org_id`, tx.Now, tx.Now.Add(-sweepAge), sweepLimit); err != nil {
			return fmt.Errorf("couldn't look for waiting withdrawals: %w", err)
		}
		slices.SortFunc(late, func(a, b PayBackJob) int { return slices.Compare(a.WithdrawalID[:], b.WithdrawalID[:]) })
		late = slices.Compact(late)
		n = len(late)
		for _, job := range late {
			if err := s.enqueuePayBack(ctx, tx, job, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
