package payments

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/notice"
)

// failureKind is what a failed automatic top-up means for the next one.
type failureKind uint8

const (
	declined       failureKind = iota // it may work later
	hopeless                          // the bank will say the same again
	authentication                    // the bank wants to see the cardholder
	cardGone                          // Stripe does not have the card any more
	refused                           // Stripe did not take our request
)

// failure is why an automatic top-up was not charged, with a sentence for the customer.
type failure struct {
	kind failureKind
	why  string
}

// note is what stands beside the top-up.
func (f failure) note() string { return f.why + " Nothing was charged." }

// coolDowns are how long nothing is tried after the first decline and the next. After as many in a row and one more,
// automatic top-ups stop: banks count what is tried in vain.
var coolDowns = []time.Duration{time.Hour, 6 * time.Hour}

// failureOf reads why a card was not charged. Nil is a payment that somebody has cancelled.
func failureOf(e *stripe.Error) failure {
	if e == nil {
		return failure{declined, "The payment was cancelled at Stripe."}
	}
	if e.Code == stripe.ErrorCodeAuthenticationRequired || e.DeclineCode == stripe.DeclineCodeAuthenticationRequired {
		return failure{authentication, "The bank wants you to confirm the payment yourself."}
	}
	switch {
	case e.Code == stripe.ErrorCodeExpiredCard || e.DeclineCode == stripe.DeclineCodeExpiredCard:
		return failure{hopeless, "The saved card has expired."}
	case e.DeclineCode == stripe.DeclineCodeInsufficientFunds:
		return failure{declined, "The saved card was declined: not enough money on it."}
	case slices.Contains(neverAgain, e.DeclineCode):
		// The bank's exact words are not for whoever holds the card now.
		return failure{hopeless, "The bank does not allow this card to be charged."}
	}
	return failure{declined, "The saved card was declined."}
}

// neverAgain are the declines after which trying the same card again cannot help (https://docs.stripe.com/declines/codes).
var neverAgain = []stripe.DeclineCode{
	stripe.DeclineCodeCardNotSupported, stripe.DeclineCodeCurrencyNotSupported, stripe.DeclineCodeDoNotTryAgain, stripe.DeclineCodeIncorrectNumber,
	stripe.DeclineCodeInvalidAccount, stripe.DeclineCodeInvalidNumber, stripe.DeclineCodeLostCard, stripe.DeclineCodePickupCard,
	stripe.DeclineCodeRestrictedCard, stripe.DeclineCodeRevocationOfAllAuthorizations, stripe.DeclineCodeRevocationOfAuthorization,
	stripe.DeclineCodeSecurityViolation, stripe.DeclineCodeServiceNotAllowed, stripe.DeclineCodeStolenCard, stripe.DeclineCodeStopPaymentOrder,
	stripe.DeclineCodeTransactionNotAllowed,
}

// going notes that Stripe has the money, or is about to. The payment's event credits it, or reconciliation does, as they do
// with any other: not this.
func (s *Service) going(ctx context.Context, c *charge, pi *stripe.PaymentIntent) error {
	err := s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE top_ups SET state = greatest(state, 'processing'), payment_intent = $3, updated_at = $4 WHERE org_id = $1 AND id = $2`,
			c.OrgID, c.ID, pi.ID, tx.Now); err != nil {
			return fmt.Errorf("couldn't note the payment of the automatic top-up: %w", err)
		}
		a, err := lockAutoTopUp(ctx, tx, c.OrgID)
		if err != nil {
			return err
		}
		if pi.Status != stripe.PaymentIntentStatusSucceeded || a == nil || a.State != AutoReady && a.State != AutoCoolingDown {
			return nil
		}
		return a.become(ctx, tx, standing{state: AutoReady})
	})
	if err == nil && c.Intent == "" {
		s.metrics.automatic.WithLabelValues("charged").Inc()
		s.log.InfoContext(ctx, "an automatic top-up was charged", "org", c.OrgID, "top_up", c.ID, "payment_intent", pi.ID, "status", pi.Status, "pence", int64(c.Amount))
	}
	return err
}

// failed ends an automatic top-up that was not charged, and says what that means for the next one.
func (s *Service) failed(ctx context.Context, c *charge, intent string, f failure) error {
	err := s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		// An event may have ended it meanwhile: what is paid stays paid.
		ended, err := one[uuid.UUID](ctx, tx, `
			UPDATE top_ups SET state = 'failed', payment_intent = coalesce(nullif($3, ''), payment_intent), note = $4, note_at = $5, updated_at = $5
			WHERE org_id = $1 AND id = $2 AND state IN ('creating', 'open', 'processing') RETURNING id`, c.OrgID, c.ID, intent, f.note(), tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't end the automatic top-up: %w", err)
		}
		if ended == nil {
			return nil
		}
		if err := audit.Record(ctx, tx, audit.Entry{
			OrgID: c.OrgID, Actor: actorAutoTopUp, Action: "autotopup.failed", Subject: c.ID.String(), Reason: f.why,
			Detail: map[string]any{"amount_pence": int64(c.Amount), "payment_method": c.PaymentMethod},
		}); err != nil {
			return err
		}
		a, err := lockAutoTopUp(ctx, tx, c.OrgID)
		if err != nil {
			return err
		}
		card, err := activeCard(ctx, tx, c.OrgID)
		if err != nil {
			return err
		}
		if card == nil || card.PaymentMethod != c.PaymentMethod {
			return nil // another card was saved, or this one was removed: it says nothing about what is there now
		}
		return c.afterFailure(ctx, tx, a, *card, f)
	})
	if err == nil {
		s.metrics.automatic.WithLabelValues("failed").Inc()
		s.log.WarnContext(ctx, "an automatic top-up failed", "org", c.OrgID, "top_up", c.ID, "payment_intent", intent, "why", f.why)
	}
	return err
}

// afterFailure says what a failure means for the next automatic top-up with the card, which is the saved one. The settings
// are locked.
func (c *charge) afterFailure(ctx context.Context, tx *db.Tx, a *autoTopUpRow, card SavedCard, f failure) error {
	if f.kind == cardGone {
		return dropCard(ctx, tx, c.OrgID, card.PaymentMethod, actorAutoTopUp)
	}
	if a == nil || !a.State.On() {
		return nil
	}
	attention := notice.Notice{
		OrgID: c.OrgID, Kind: notice.CardAttention, Subject: c.ID.String(),
		Data: card.told(map[string]any{"reason": f.why, "amount_pence": int64(c.Amount), "authentication": f.kind == authentication}),
	}
	switch f.kind {
	case authentication:
		if err := a.become(ctx, tx, standing{state: AutoAuthentication, reason: f.why, declines: a.Declines, declinedAt: a.lastDecline()}); err != nil {
			return err
		}
		return notice.Raise(ctx, tx, attention)
	case declined:
		declines, err := a.inARow(ctx, tx)
		if err != nil {
			return err
		}
		if declines > len(coolDowns) {
			return a.stop(ctx, tx, fmt.Sprintf("The saved card was declined %d times in a row.", declines), c.ID.String(), card, actorAutoTopUp)
		}
		until := tx.Now.Add(coolDowns[declines-1])
		if err := a.become(ctx, tx, standing{state: AutoCoolingDown, until: until, reason: f.why, declines: declines, declinedAt: c.CreatedAt}); err != nil {
			return err
		}
		attention.Data["until"] = until.Format(time.RFC3339)
		return notice.Raise(ctx, tx, attention)
	case hopeless, refused, cardGone:
	}
	return a.stop(ctx, tx, f.why, c.ID.String(), card, actorAutoTopUp)
}

func (a *autoTopUpRow) lastDecline() time.Time {
	if a.DeclinedAt == nil {
		return time.Time{}
	}
	return *a.DeclinedAt
}

// inARow counts the decline that has just come and those before it, back to the last automatic top-up that went through. One
// of which the process died before it noted that it went through counts all the same.
func (a *autoTopUpRow) inARow(ctx context.Context, tx *db.Tx) (n int, err error) {
	if a.Declines == 0 {
		return 1, nil
	}
	var between bool
	if err := tx.GetContext(ctx, &between, `
		SELECT EXISTS (SELECT FROM top_ups WHERE org_id = $1 AND automatic AND state = 'paid' AND created_at > $2)`, a.OrgID, a.lastDecline()); err != nil {
		return 0, fmt.Errorf("couldn't look for what went through since: %w", err)
	}
	if between {
		return 1, nil
	}
	return a.Declines + 1, nil
}

// abandon ends an automatic top-up of which Stripe has nothing, long after it was asked.
func (s *Service) abandon(ctx context.Context, c *charge) error {
	return s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error { return c.giveUp(ctx, tx) })
}

// stopAfterReversal stops automatic top-ups when a payment was given back or is disputed, unless their owner has agreed to them
// after that: the wallet has become low by it, and to charge the card for that would undo what somebody has just decided. An
// inquiry is no dispute yet. The caller has kept the refunds and disputes of the payment.
func stopAfterReversal(ctx context.Context, tx *db.Tx, org uuid.UUID, intent string, actor audit.Actor) error {
	a, err := lockAutoTopUp(ctx, tx, org)
	if err != nil || a == nil || !a.State.On() {
		return err
	}
	var since bool
	// Stripe dates by the second.
	if err := tx.GetContext(ctx, &since, `
		SELECT EXISTS (SELECT FROM refunds WHERE payment_intent = $1 AND status NOT IN ('failed', 'canceled') AND created_at >= $2) OR
		       EXISTS (SELECT FROM disputes WHERE payment_intent = $1 AND status NOT LIKE 'warning\_%' AND status <> 'won' AND created_at >= $2)`,
		intent, a.ConsentedAt.Truncate(time.Second)); err != nil {
		return fmt.Errorf("couldn't look for refunds and disputes since automatic top-ups were agreed to: %w", err)
	}
	if !since {
		return nil
	}
	var card SavedCard
	if active, err := activeCard(ctx, tx, org); err != nil {
		return err
	} else if active != nil {
		card = *active
	}
	return a.stop(ctx, tx, "A payment into this wallet was refunded or is disputed.", intent, card, actor)
}
