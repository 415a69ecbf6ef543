package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// The states of saving a card; the schema knows the same ones.
const (
	setupCreating = "creating"
	setupOpen     = "open"
	setupDone     = "done"
	setupExpired  = "expired"
	setupFailed   = "failed"
)

// cardSetup is a card that is being saved without a payment.
type cardSetup struct {
	consent

	ID          uuid.UUID `db:"id"`
	OrgID       uuid.UUID `db:"org_id"`
	State       string    `db:"state"`
	Attempt     int       `db:"attempt"`
	SessionID   string    `db:"session_id"`
	CheckoutURL string    `db:"checkout_url"`
}

const setupColumns = `id, org_id, user_id, consent, created_at, state, attempt, coalesce(session_id, '') AS session_id, coalesce(checkout_url, '') AS checkout_url`

// StartCardSetup gives a user who agrees to [SaveCardWords] a page of Stripe's on which a card is saved and nothing is paid.
// A second call while the page is open gives the same one. The address has passed CheckURL.
//
// Errors: Unavailable when Stripe could not answer (safe to try again), Declined when it refused.
func (s *Service) StartCardSetup(ctx context.Context, org, user uuid.UUID) (checkoutURL string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	for range 3 {
		c, err := s.claimSetup(ctx, org, user)
		if err != nil {
			return "", err
		}
		if c.State == setupCreating {
			return s.openSetup(ctx, c)
		}
		if c, err = s.followSetup(ctx, c); err != nil {
			return "", fault.Wrap(fault.Unavailable, stripeAway, err)
		}
		if c.State == setupOpen {
			return c.CheckoutURL, nil
		}
		// It was used or has expired, so the next claim makes a new one.
	}
	return "", fault.New(fault.Unavailable, "A card is just being saved. Please look again in a moment.")
}

// claimSetup gives the one open setup of this organisation and user, making it where there is none.
func (s *Service) claimSetup(ctx context.Context, org, user uuid.UUID) (c cardSetup, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return cardSetup{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.GetContext(ctx, &c, `
			INSERT INTO card_setups (id, org_id, user_id, consent, state, created_at, updated_at) VALUES ($1, $2, $3, $4, 'creating', $5, $5)
			ON CONFLICT (org_id, user_id) WHERE state IN ('creating', 'open') DO UPDATE SET updated_at = $5
			RETURNING `+setupColumns, id, org, user, SaveCardWords, tx.Now); err != nil {
			return fmt.Errorf("couldn't store that a card is being saved: %w", err)
		}
		if c.ID != id {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: audit.User(user), Action: "card.setup_started", Subject: id.String()})
	})
	return c, err
}

// openSetup has Stripe make the page. Whatever happens, the same setup and attempt use the same idempotency key.
func (s *Service) openSetup(ctx context.Context, c cardSetup) (checkoutURL string, err error) {
	var session *stripe.CheckoutSession
	customer, err := s.customer(ctx, TopUp{ID: c.ID, OrgID: c.OrgID, Attempt: c.Attempt})
	if err == nil {
		session, err = s.stripe.CheckoutSessions.New(s.setupParams(ctx, c, customer))
	}
	if err == nil {
		if err := CheckURL(session.URL, s.origins); err != nil {
			s.log.ErrorContext(ctx, "Stripe's checkout address was refused", "card_setup", c.ID, "session", session.ID, "error", err)
			_, merr := s.moveSetup(ctx, c, setupFailed, "", "")
			return "", fault.Wrap(fault.Declined, setupRefused, errors.Join(err, merr))
		}
		c, err = s.moveSetup(ctx, c, setupOpen, session.ID, session.URL)
		return c.CheckoutURL, err
	}
	e, answered := errors.AsType[*stripe.Error](err)
	switch {
	case !answered, e.HTTPStatusCode == http.StatusTooManyRequests, e.HTTPStatusCode == http.StatusConflict,
		e.HTTPStatusCode == http.StatusUnauthorized, e.HTTPStatusCode == http.StatusForbidden:
		return "", fault.Wrap(fault.Unavailable, stripeAway, err) // the next try uses the same key and makes at most one session
	case e.HTTPStatusCode >= http.StatusInternalServerError:
		aerr := s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `
				UPDATE card_setups SET attempt = attempt + 1, updated_at = $4 WHERE org_id = $1 AND id = $2 AND attempt = $3 AND state = 'creating'`,
				c.OrgID, c.ID, c.Attempt, tx.Now)
			return err
		})
		return "", fault.Wrap(fault.Unavailable, stripeAway, errors.Join(err, aerr))
	}
	_, merr := s.moveSetup(ctx, c, setupFailed, "", "")
	return "", fault.Wrap(fault.Declined, setupRefused, errors.Join(err, merr))
}

// setupRefused is what a person reads when Stripe would not make the page.
const setupRefused = "Stripe refused to save a card. Nothing was charged. If it happens again, contact support."

// setupParams are a function of the stored row alone.
func (s *Service) setupParams(ctx context.Context, c cardSetup, customer string) *stripe.CheckoutSessionParams {
	page := s.baseURL + "/wallet/auto-top-up"
	metadata := map[string]string{"card_setup_id": c.ID.String(), "org_id": c.OrgID.String()}
	p := &stripe.CheckoutSessionParams{
		Mode: stripe.String(string(stripe.CheckoutSessionModeSetup)), Customer: new(customer),
		PaymentMethodTypes: stripe.StringSlice([]string{string(stripe.PaymentMethodTypeCard)}),
		SuccessURL:         new(page + "?card=saved"), CancelURL: new(page),
		Metadata: metadata, SetupIntentData: &stripe.CheckoutSessionSetupIntentDataParams{Metadata: metadata},
	}
	p.Context = ctx
	p.SetIdempotencyKey("card:" + c.ID.String() + ":" + strconv.Itoa(c.Attempt))
	return p
}

// moveSetup changes the state of a setup that has not ended, and gives the row as it then stands.
func (s *Service) moveSetup(ctx context.Context, c cardSetup, to, sessionID, checkoutURL string) (moved cardSetup, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.GetContext(ctx, &moved, `
			UPDATE card_setups SET state = CASE WHEN state IN ('creating', 'open') THEN $3 ELSE state END, updated_at = $4,
			       session_id = coalesce(session_id, nullif($5, '')), checkout_url = coalesce(checkout_url, nullif($6, ''))
			WHERE org_id = $1 AND id = $2 RETURNING `+setupColumns, c.OrgID, c.ID, to, tx.Now, sessionID, checkoutURL); err != nil {
			return fmt.Errorf("couldn't store how saving the card stands: %w", err)
		}
		return nil
	})
	return moved, err
}

// followSetup asks Stripe what has become of an open page, and keeps the card that was saved on it.
func (s *Service) followSetup(ctx context.Context, c cardSetup) (cardSetup, error) {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	p := &stripe.CheckoutSessionParams{}
	p.Context = asking
	p.AddExpand("setup_intent.payment_method")
	session, err := s.stripe.CheckoutSessions.Get(c.SessionID, p)
	if isNotFound(err) {
		return s.moveSetup(ctx, c, setupExpired, "", "") // made under another account or key
	}
	if err != nil {
		return cardSetup{}, fmt.Errorf("%w about the card that is being saved: %w", errStripeAway, err)
	}
	var to string
	var card *stripe.PaymentMethod
	switch {
	case session.Status == stripe.CheckoutSessionStatusOpen && CheckURL(session.URL, s.origins) == nil:
		to, c.CheckoutURL = setupOpen, session.URL
	case session.Status == stripe.CheckoutSessionStatusComplete && session.SetupIntent != nil && session.Customer != nil &&
		isKept(session.SetupIntent.PaymentMethod, session.Customer.ID):
		to, card = setupDone, session.SetupIntent.PaymentMethod
	default:
		to = setupExpired
	}
	err = s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		now, err := one[cardSetup](ctx, tx, `
			UPDATE card_setups SET state = $3, asked_at = $4, updated_at = $4 WHERE org_id = $1 AND id = $2 AND state = 'open' RETURNING `+setupColumns,
			c.OrgID, c.ID, to, tx.Now)
		switch {
		case err != nil:
			return fmt.Errorf("couldn't store how saving the card stands: %w", err)
		case now == nil: // somebody else was faster
			return tx.GetContext(ctx, &c, `SELECT `+setupColumns+` FROM card_setups WHERE org_id = $1 AND id = $2`, c.OrgID, c.ID)
		}
		c.State = now.State
		if card == nil {
			return nil
		}
		return keepCard(ctx, tx, c.OrgID, card, c.consent, c.ID.String())
	})
	return c, err
}
