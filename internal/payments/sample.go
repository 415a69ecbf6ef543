package payments

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// sampleAmount is what a sample event pays.
const sampleAmount money.Pence = 1_00

// sampleCustomer begins the id of the customer that samples pay as; Stripe's own ids have no second underscore.
const sampleCustomer = "cus_test_"

// Sample is an event as Stripe would send it, of a payment that Stripe does not know: it tells whether the way from the
// webhook to the wallet is open. It is for an organisation of its own.
type Sample struct {
	EventID       string
	PaymentIntent string
	Amount        money.Pence
	Body          []byte

	org uuid.UUID
}

// NewSample makes a sample and the top-up that it pays.
func (s *Service) NewSample(ctx context.Context, org, user uuid.UUID) (Sample, error) {
	_, rate, err := s.currentRate(ctx)
	if err != nil {
		return Sample{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Sample{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	sample := Sample{EventID: "evt_test_" + plain(id), PaymentIntent: "pi_test_" + plain(id), Amount: sampleAmount, org: org}
	var customer string
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO stripe_customers (org_id, customer_id, created_at) VALUES ($1, $2, $3) ON CONFLICT (org_id) DO NOTHING`,
			org, sampleCustomer+plain(org), tx.Now); err != nil {
			return fmt.Errorf("couldn't store the customer: %w", err)
		}
		if err := tx.GetContext(ctx, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, org); err != nil {
			return fmt.Errorf("couldn't read the customer: %w", err)
		}
		// It was never open at Stripe; "processing" is the state of what only waits for its event.
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, created_at, updated_at)
			VALUES ($1, $2, $3, $4, 0, $5, 'processing', $6, $6)`, id, org, user, sampleAmount, rate, tx.Now); err != nil {
			return fmt.Errorf("couldn't store the top-up: %w", err)
		}
		return nil
	})
	if err != nil {
		return Sample{}, err
	}
	sample.Body, err = json.Marshal(map[string]any{
		"id": sample.EventID, "object": "event", "api_version": stripe.APIVersion, "type": "payment_intent.succeeded", "created": s.now().Unix(),
		"livemode": s.livemode, "data": map[string]any{"object": map[string]any{
			"id": sample.PaymentIntent, "object": "payment_intent", "status": "succeeded", "amount": sampleAmount, "amount_received": sampleAmount,
			"currency": "gbp", "customer": customer, "livemode": s.livemode, "metadata": map[string]string{"top_up_id": id.String()},
		}},
	})
	if err != nil {
		return Sample{}, fmt.Errorf("couldn't make the event: %w", err)
	}
	return sample, nil
}

// plain is an id as it may stand within one of Stripe's.
func plain(id uuid.UUID) string {
	var b [32]byte
	n := 0
	for _, c := range []byte(id.String()) {
		if c != '-' {
			b[n] = c
			n++
		}
	}
	return string(b[:n])
}

// Sign gives the header that Stripe would send with a body at this moment.
func Sign(body []byte, at time.Time, secret string) string {
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), webhook.ComputeSignature(at, body, secret))
}

// SampleCredits is how often the sample was credited, and whether its event was stored.
func (s *Service) SampleCredits(ctx context.Context, sample Sample) (credits int, stored bool, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{sample.org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.QueryRowxContext(ctx, `
			SELECT (SELECT count(*) FROM ledger_transactions WHERE org_id = $1 AND kind = 'top_up' AND reference = $2 AND kind <> 'usage'),
			       EXISTS (SELECT FROM stripe_events WHERE id = $3)`, sample.org, sample.PaymentIntent, sample.EventID).Scan(&credits, &stored)
	})
	if err != nil {
		return 0, false, fmt.Errorf("couldn't look for the sample's credit: %w", err)
	}
	return credits, stored, nil
}

// SettleSamples takes back everything that samples have left in their organisation's wallet, and gives how it stands then. It is
// safe to repeat.
func (s *Service) SettleSamples(ctx context.Context, org uuid.UUID, reference string, actor audit.Actor) (b wallet.Balance, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if b, err = wallet.Read(ctx, tx, org); err != nil {
			return err
		}
		if b.Available() == 0 {
			return nil
		}
		if _, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: org, Kind: wallet.Adjustment, Amount: -b.Available(), Reason: "Webhook test, taken back", Reference: reference, Actor: actor,
		}); err != nil {
			return err
		}
		b, err = wallet.Read(ctx, tx, org)
		return err
	})
	return b, err
}
