package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/failpoint"
)

// What is asked of Stripe for an automatic top-up in hand: first what it has of the customer already, then, only where
// there is nothing of this top-up, the charge itself. Every answer, and every lack of one, ends in a state from which the
// next round goes on.

// metaAutomatic marks our off-session PaymentIntents among those of Checkout, which are the customer's own to end.
const metaAutomatic = "automatic"

// lookBack is how far back Stripe's list of a customer's PaymentIntents is gone through.
const lookBack = 7 * 24 * time.Hour

// carryOn takes an automatic top-up one step further, if nobody else has it in hand.
func (s *Service) carryOn(ctx context.Context, org, id uuid.UUID) error {
	c, err := s.takeInHand(ctx, org, id)
	if err != nil || c == nil {
		return err
	}
	// From here on our own end must not leave a charge behind of which our row knows nothing, as far as we can help it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askAutomatic)
	defer cancel()
	if err := s.goOn(ctx, c); err != nil {
		return fmt.Errorf("automatic top-up %s: %w", id, err)
	}
	return nil
}

func (s *Service) goOn(ctx context.Context, c *charge) error {
	if c.Intent != "" {
		pi, err := s.getIntent(ctx, c.Intent)
		if isNotFound(err) {
			return s.failed(ctx, c, "", failure{kind: refused, why: "Stripe does not know this payment any more."})
		}
		if err != nil {
			return err
		}
		return s.decide(ctx, c, pi)
	}
	theirs, err := s.listIntents(ctx, c)
	if err != nil {
		return err
	}
	if len(theirs.mine) > 0 {
		return s.adoptIntent(ctx, c, theirs.mine)
	}
	for _, pi := range theirs.stale {
		// A customer who confirms it late would be charged for a top-up that we have given up, and then once more.
		if _, err := s.cancelIntent(ctx, pi.ID); err != nil {
			return err
		}
	}
	booked, err := s.booked(ctx, c.OrgID, theirs.settling)
	switch {
	case err != nil:
		return err
	case !booked, !c.allowed && c.now.Sub(*c.AskedAt) < unanswered:
		return nil // money is on its way already, or what was asked may still be acted upon: look again after the lease
	case !c.allowed:
		return s.abandon(ctx, c)
	}
	return s.charge(ctx, c)
}

// intents are a customer's PaymentIntents as far as they matter for an automatic top-up.
type intents struct {
	// mine are of this top-up: several where Stripe acted on an attempt that it answered with an error.
	mine []*stripe.PaymentIntent
	// stale are off-session ones of other top-ups that could still be confirmed.
	stale []*stripe.PaymentIntent
	// settling are those of other top-ups that succeeded, or are about to: their money must be in our books before more is asked
	// for, since it may be all that the wallet lacks.
	settling []string
}

// listIntents goes through Stripe's list, which, unlike its search, does not lag.
func (s *Service) listIntents(ctx context.Context, c *charge) (found intents, err error) {
	since := c.now.Add(-lookBack)
	if c.CreatedAt.Before(since) {
		since = c.CreatedAt
	}
	p := &stripe.PaymentIntentListParams{
		Customer: new(c.Customer), CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Add(-time.Hour).Unix()},
	}
	p.Context, p.Limit = ctx, stripe.Int64(pageSize)
	list := s.stripe.PaymentIntents.List(p)
	for list.Next() {
		pi := list.PaymentIntent()
		of := pi.Metadata["top_up_id"]
		automatic := pi.Metadata[metaAutomatic] != ""
		switch {
		case of == "":
		case of == c.ID.String():
			found.mine = append(found.mine, pi)
		case pi.Status == stripe.PaymentIntentStatusSucceeded, automatic && pi.Status == stripe.PaymentIntentStatusProcessing:
			found.settling = append(found.settling, pi.ID)
		case automatic && pi.Status != stripe.PaymentIntentStatusCanceled:
			found.stale = append(found.stale, pi)
		}
	}
	if err := list.Err(); err != nil {
		return intents{}, fmt.Errorf("%w for the customer's payments: %w", errStripeAway, err)
	}
	return found, nil
}

// adoptIntent goes on with what Stripe has of this top-up: with what was paid or is being paid, if there is such a one, and the
// others are cancelled.
func (s *Service) adoptIntent(ctx context.Context, c *charge, mine []*stripe.PaymentIntent) error {
	going := func(pi *stripe.PaymentIntent) bool {
		return pi.Status == stripe.PaymentIntentStatusSucceeded || pi.Status == stripe.PaymentIntentStatusProcessing
	}
	chosen := mine[0]
	if i := slices.IndexFunc(mine, going); i >= 0 {
		chosen = mine[i]
	}
	for _, pi := range mine {
		if pi == chosen || going(pi) || pi.Status == stripe.PaymentIntentStatusCanceled {
			continue // a second one that succeeded is credited as well, and an operator can refund it
		}
		if _, err := s.cancelIntent(ctx, pi.ID); err != nil {
			return err
		}
	}
	return s.decide(ctx, c, chosen)
}

// booked reports whether our books have the payments.
func (s *Service) booked(ctx context.Context, org uuid.UUID, payments []string) (all bool, err error) {
	if len(payments) == 0 {
		return true, nil
	}
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM credits WHERE payment_intent = ANY($1)`, pq.Array(payments)); err != nil {
			return fmt.Errorf("couldn't look for the credits: %w", err)
		}
		all = n == len(payments)
		return nil
	})
	return all, err
}

// charge asks Stripe for the money.
func (s *Service) charge(ctx context.Context, c *charge) error {
	pi, err := s.stripe.PaymentIntents.New(s.chargeParams(ctx, c))
	failpoint.Hit(failpoint.AutoTopUpAfterAsk)
	if err == nil {
		return s.decide(ctx, c, pi)
	}
	e, answered := errors.AsType[*stripe.Error](err)
	switch {
	case !answered, e.HTTPStatusCode == http.StatusTooManyRequests, e.HTTPStatusCode == http.StatusConflict,
		e.HTTPStatusCode == http.StatusUnauthorized, e.HTTPStatusCode == http.StatusForbidden:
		// Nobody knows whether Stripe acted, or it did not because of our own key: the next round looks, and asks under the same
		// idempotency key.
		return fmt.Errorf("%w to charge the card: %w", errStripeAway, err)
	case e.HTTPStatusCode >= http.StatusInternalServerError, e.Type == stripe.ErrorTypeIdempotency:
		// Stripe replays a 500 for its key for a day, whether it acted or not; so the next round looks, and asks under another.
		return errors.Join(fmt.Errorf("%w to charge the card: %w", errStripeAway, err), s.nextAttempt(ctx, c))
	case e.PaymentIntent != nil:
		return s.decide(ctx, c, e.PaymentIntent)
	case e.Type == stripe.ErrorTypeCard:
		return s.failed(ctx, c, "", failureOf(e))
	}
	s.log.WarnContext(ctx, "Stripe refused an automatic top-up", "org", c.OrgID, "top_up", c.ID, "error", err)
	gone, aerr := s.cardGone(ctx, c)
	if aerr != nil {
		return errors.Join(err, aerr)
	}
	if gone {
		return s.failed(ctx, c, "", failure{kind: cardGone, why: "Stripe does not have the saved card any more."})
	}
	return s.failed(ctx, c, "", failure{kind: refused, why: "Stripe refused to charge the saved card."})
}

// chargeParams are a function of the stored row alone: Stripe refuses a repeated key with other parameters.
func (s *Service) chargeParams(ctx context.Context, c *charge) *stripe.PaymentIntentParams {
	p := &stripe.PaymentIntentParams{
		Amount: new(int64(c.Amount)), Currency: stripe.String(string(stripe.CurrencyGBP)),
		Customer: new(c.Customer), PaymentMethod: new(c.PaymentMethod),
		PaymentMethodTypes: stripe.StringSlice([]string{string(stripe.PaymentMethodTypeCard)}),
		Confirm:            new(true), OffSession: new(true), Description: new("Automatic wallet top-up"),
		Metadata: map[string]string{"top_up_id": c.ID.String(), "org_id": c.OrgID.String(), metaAutomatic: "true"},
	}
	p.Context = ctx
	p.SetIdempotencyKey("autotopup:" + c.ID.String() + ":" + strconv.Itoa(c.Attempt))
	return p
}

// nextAttempt gives the top-up another idempotency key.
func (s *Service) nextAttempt(ctx context.Context, c *charge) error {
	return s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE top_ups SET attempt = attempt + 1, updated_at = $4 WHERE org_id = $1 AND id = $2 AND attempt = $3 AND state = 'creating'`,
			c.OrgID, c.ID, c.Attempt, tx.Now); err != nil {
			return fmt.Errorf("couldn't give the automatic top-up another key: %w", err)
		}
		return nil
	})
}

// cardGone asks whether Stripe still has the card for this customer.
func (s *Service) cardGone(ctx context.Context, c *charge) (gone bool, err error) {
	p := &stripe.PaymentMethodParams{}
	p.Context = ctx
	pm, err := s.stripe.PaymentMethods.Get(c.PaymentMethod, p)
	switch {
	case isNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%w about the saved card: %w", errStripeAway, err)
	}
	return pm.Customer == nil || pm.Customer.ID != c.Customer, nil
}

// decide acts on what a PaymentIntent of the top-up says. One that waits for somebody is cancelled, and only after that is the
// top-up given up.
func (s *Service) decide(ctx context.Context, c *charge, pi *stripe.PaymentIntent) error {
	for range 3 {
		switch pi.Status {
		case stripe.PaymentIntentStatusSucceeded, stripe.PaymentIntentStatusProcessing:
			return s.going(ctx, c, pi)
		case stripe.PaymentIntentStatusCanceled:
			return s.failed(ctx, c, pi.ID, failureOf(pi.LastPaymentError))
		case stripe.PaymentIntentStatusRequiresAction, stripe.PaymentIntentStatusRequiresCapture, stripe.PaymentIntentStatusRequiresConfirmation,
			stripe.PaymentIntentStatusRequiresPaymentMethod:
		}
		waited := pi
		var err error
		if pi, err = s.cancelIntent(ctx, pi.ID); err != nil {
			return err
		}
		if pi.Status == stripe.PaymentIntentStatusCanceled && pi.LastPaymentError == nil {
			pi.LastPaymentError = waited.LastPaymentError
			if waited.Status == stripe.PaymentIntentStatusRequiresAction {
				pi.LastPaymentError = &stripe.Error{Code: stripe.ErrorCodeAuthenticationRequired}
			}
		}
	}
	return fmt.Errorf("payment %s is %s and cannot be ended", pi.ID, pi.Status)
}

// cancelIntent cancels a PaymentIntent, or says what it has become meanwhile.
func (s *Service) cancelIntent(ctx context.Context, id string) (*stripe.PaymentIntent, error) {
	p := &stripe.PaymentIntentCancelParams{CancellationReason: stripe.String(string(stripe.PaymentIntentCancellationReasonAbandoned))}
	p.Context = ctx
	pi, err := s.stripe.PaymentIntents.Cancel(id, p)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusBadRequest {
		return s.getIntent(ctx, id) // it was confirmed or cancelled while we looked
	}
	if err != nil {
		return nil, fmt.Errorf("%w to cancel payment %s: %w", errStripeAway, id, err)
	}
	return pi, nil
}

func (s *Service) getIntent(ctx context.Context, id string) (*stripe.PaymentIntent, error) {
	p := &stripe.PaymentIntentParams{}
	p.Context = ctx
	pi, err := s.stripe.PaymentIntents.Get(id, p)
	if err != nil {
		return nil, fmt.Errorf("%w about payment %s: %w", errStripeAway, id, err)
	}
	return pi, nil
}

// isNotFound reports whether Stripe says that there is no such thing.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*stripe.Error](err)
	return ok && e.HTTPStatusCode == http.StatusNotFound
}
