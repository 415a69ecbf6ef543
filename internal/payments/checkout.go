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
	"ringfence/internal/fault"
)

// What a person reads when Stripe could not be asked.
const (
	stripeAway    = "We couldn't reach Stripe just now. Nothing was charged. Please try again in a moment."
	stripeRefused = "Stripe refused to start this payment. Nothing was charged. If it happens again, contact support."
)

// openSession has Stripe make the Checkout session of a top-up in state creating. Whatever happens, the same top-up and
// attempt use the same idempotency key, so that Stripe makes at most one session for it.
func (s *Service) openSession(ctx context.Context, t TopUp) (TopUp, error) {
	var session *stripe.CheckoutSession
	customer, err := s.customer(ctx, t)
	collectVAT := false
	if err == nil {
		collectVAT, err = s.collectsVAT(ctx, t)
	}
	if err == nil {
		p := s.sessionParams(ctx, t, customer)
		invoiced(p, collectVAT)
		session, err = s.stripe.CheckoutSessions.New(p)
	}
	if err != nil {
		if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusConflict {
			return s.awaitOther(ctx, t) // a double click: the other request is asking under our key right now
		}
		return TopUp{}, s.stripeFailed(ctx, t, err)
	}
	if err := CheckURL(session.URL, s.origins); err != nil {
		s.log.ErrorContext(ctx, "Stripe's checkout address was refused", "top_up", t.ID, "session", session.ID, "error", err)
		if _, err := s.move(ctx, t, Failed, session.ID, "", "The payment page's address was not Stripe's."); err != nil {
			return TopUp{}, err
		}
		return TopUp{}, fault.Wrap(fault.Declined, stripeRefused, err)
	}
	if t, err = s.move(ctx, t, Open, session.ID, session.URL, ""); err == nil {
		s.metrics.topUps.WithLabelValues("opened").Inc()
	}
	return t, err
}

// sessionParams are a function of the stored row alone: Stripe refuses a repeated key with other parameters.
func (s *Service) sessionParams(ctx context.Context, t TopUp, customer string) *stripe.CheckoutSessionParams {
	page := s.baseURL + "/wallet/top-ups/" + t.ID.String()
	metadata := map[string]string{"top_up_id": t.ID.String(), "org_id": t.OrgID.String()}
	p := &stripe.CheckoutSessionParams{
		Mode:              stripe.String(string(stripe.CheckoutSessionModePayment)),
		Customer:          new(customer),
		ClientReferenceID: new(t.ID.String()),
		SuccessURL:        new(page + "?checkout=done"),
		CancelURL:         new(page + "?checkout=cancelled"),
		LineItems: []*stripe.CheckoutSessionLineItemParams{{
			Quantity: stripe.Int64(1),
			PriceData: &stripe.CheckoutSessionLineItemPriceDataParams{
				Currency:    stripe.String(string(stripe.CurrencyGBP)),
				UnitAmount:  new(int64(t.Amount)),
				ProductData: &stripe.CheckoutSessionLineItemPriceDataProductDataParams{Name: new("Wallet top-up")},
			},
		}},
		Metadata: metadata,
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{
			Metadata: metadata, Description: new("Wallet top-up"),
		},
	}
	if t.SaveCard {
		// Stripe's page says that the card is kept. A bank debit would be kept as well, so none is offered.
		p.PaymentMethodTypes = stripe.StringSlice([]string{string(stripe.PaymentMethodTypeCard)})
		p.PaymentIntentData.SetupFutureUsage = stripe.String(string(stripe.PaymentIntentSetupFutureUsageOffSession))
	}
	// Stripe must charge the pounds that were quoted, not a currency of its own choosing; v76 is older than the parameter.
	p.AddExtra("adaptive_pricing[enabled]", "false")
	p.Context = ctx
	p.SetIdempotencyKey("topup:" + t.ID.String() + ":" + strconv.Itoa(t.Attempt))
	return p
}

// customer gives the organisation's customer at Stripe, making it at the first top-up.
func (s *Service) customer(ctx context.Context, t TopUp) (id string, err error) {
	var name string
	err = s.db.InReadTx(ctx, []uuid.UUID{t.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.QueryRowxContext(ctx, `
			SELECT o.name, coalesce(c.customer_id, '') FROM organizations o LEFT JOIN stripe_customers c ON c.org_id = o.id
			WHERE o.id = $1`, t.OrgID).Scan(&name, &id)
	})
	if err != nil {
		return "", fmt.Errorf("couldn't look the customer up: %w", err)
	}
	if id != "" {
		return id, nil
	}
	p := &stripe.CustomerParams{Name: new(name), Metadata: map[string]string{"org_id": t.OrgID.String()}}
	p.Context = ctx
	p.SetIdempotencyKey("customer:" + t.ID.String() + ":" + strconv.Itoa(t.Attempt))
	made, err := s.stripe.Customers.New(p)
	if err != nil {
		return "", err
	}
	// Two first top-ups at once may each make one; the row decides which is used from then on.
	err = s.db.InTx(ctx, []uuid.UUID{t.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO stripe_customers (org_id, customer_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (org_id) DO NOTHING`,
			t.OrgID, made.ID, tx.Now); err != nil {
			return err
		}
		return tx.GetContext(ctx, &id, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, t.OrgID)
	})
	if err != nil {
		return "", fmt.Errorf("couldn't store the customer: %w", err)
	}
	return id, nil
}

// stripeFailed turns what Stripe's client returned into what the person reads, and keeps the top-up fit for a retry.
func (s *Service) stripeFailed(ctx context.Context, t TopUp, cause error) error {
	e, answered := errors.AsType[*stripe.Error](cause)
	went := "unavailable"
	defer func() { s.metrics.topUps.WithLabelValues(went).Inc() }()
	switch {
	case !answered, e.HTTPStatusCode == http.StatusTooManyRequests, e.HTTPStatusCode == http.StatusConflict,
		e.HTTPStatusCode == http.StatusUnauthorized, e.HTTPStatusCode == http.StatusForbidden:
		// Nobody knows whether Stripe acted, or it did not because of our own key: the next try uses the same idempotency
		// key and makes at most one session.
		return fault.Wrap(fault.Unavailable, stripeAway, cause)
	case e.HTTPStatusCode >= http.StatusInternalServerError:
		// Stripe replays a 500 for its key for a day, so the next try needs a new one.
		err := s.db.InTx(ctx, []uuid.UUID{t.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `
				UPDATE top_ups SET attempt = attempt + 1, updated_at = $4
				WHERE org_id = $1 AND id = $2 AND attempt = $3 AND state = 'creating'`, t.OrgID, t.ID, t.Attempt, tx.Now)
			return err
		})
		return fault.Wrap(fault.Unavailable, stripeAway, errors.Join(cause, err))
	default:
		went = "refused"
		_, err := s.move(ctx, t, Failed, "", "", "Stripe refused to start the payment.")
		return fault.Wrap(fault.Declined, stripeRefused, errors.Join(cause, err))
	}
}

// awaitOther waits for the request that is asking Stripe for the same top-up to store its answer.
func (s *Service) awaitOther(ctx context.Context, t TopUp) (TopUp, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(12 * time.Second)
	for {
		select {
		case <-ctx.Done():
			return TopUp{}, fault.Wrap(fault.Unavailable, stripeAway, ctx.Err())
		case <-deadline:
			return TopUp{}, fault.New(fault.Unavailable, stripeAway)
		case <-tick.C:
		}
		now, err := s.TopUp(ctx, t.OrgID, t.ID)
		if err != nil {
			return TopUp{}, err
		}
		if now.State == Open {
			return now, nil
		}
		if now.State != Creating || now.Attempt != t.Attempt {
			return TopUp{}, fault.New(fault.Unavailable, stripeAway)
		}
	}
}

// refresh asks Stripe whether an open top-up's session can still be paid, and moves the top-up on when it cannot.
func (s *Service) refresh(ctx context.Context, t TopUp) (TopUp, error) {
	p := &stripe.CheckoutSessionParams{}
	p.Context = ctx
	session, err := s.stripe.CheckoutSessions.Get(t.SessionID, p)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		// Made under another account or key: nobody can pay it, and no event will ever end it.
		return s.move(ctx, t, Expired, "", "", "")
	}
	if err != nil {
		return TopUp{}, fault.Wrap(fault.Unavailable, stripeAway, err)
	}
	switch session.Status {
	case stripe.CheckoutSessionStatusOpen:
		// The configuration may have changed since the address was stored: what counts is where it leads today.
		if t.CheckoutURL = session.URL; CheckURL(t.CheckoutURL, s.origins) != nil {
			return s.move(ctx, t, Expired, "", "", "")
		}
		return t, nil
	case stripe.CheckoutSessionStatusExpired:
		return s.move(ctx, t, Expired, "", "", "")
	case stripe.CheckoutSessionStatusComplete: // the event that says whether it was paid is on its way
		return s.move(ctx, t, Processing, "", "", "")
	default: // a state newer than this program
		return s.move(ctx, t, Processing, "", "", "")
	}
}
