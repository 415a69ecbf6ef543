package payments

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/fault"
)

// Invoices are Stripe's: it makes one for each payment on its page, with the payer's name and, where that is asked for, VAT
// number. We keep neither them nor their addresses, which Stripe lets expire, and ask for the address when somebody wants it.

// askDocument bounds the question where an invoice is.
const askDocument = 8 * time.Second

// ErrNoDocument says that Stripe shows nothing for a payment: no invoice and no receipt.
var ErrNoDocument = errors.New("Stripe has neither an invoice nor a receipt for the payment") //nolint:staticcheck // a name

// invoiced has the session make an invoice, and the payer be asked for a VAT number. Stripe keeps that at the customer, whose
// name and address it then has to be allowed to change
// (https://docs.stripe.com/tax/checkout/tax-ids).
func invoiced(p *stripe.CheckoutSessionParams, collectVAT bool) {
	p.InvoiceCreation = &stripe.CheckoutSessionInvoiceCreationParams{
		Enabled: new(true),
		InvoiceData: &stripe.CheckoutSessionInvoiceCreationInvoiceDataParams{
			Description: new("Prepayment into a wallet for calls, texts and numbers."), Metadata: p.Metadata,
		},
	}
	if collectVAT {
		p.TaxIDCollection = &stripe.CheckoutSessionTaxIDCollectionParams{Enabled: new(true)}
		p.CustomerUpdate = &stripe.CheckoutSessionCustomerUpdateParams{Name: new("auto"), Address: new("auto")}
	}
}

// collectsVAT says whether the payer of a top-up is asked for a VAT number, and keeps that: whatever the configuration says
// later, the same idempotency key has the same parameters.
func (s *Service) collectsVAT(ctx context.Context, t TopUp) (collects bool, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{t.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &collects, `
			UPDATE top_ups SET collects_vat = coalesce(collects_vat, $3) WHERE org_id = $1 AND id = $2 RETURNING collects_vat`, t.OrgID, t.ID, s.collectVAT)
	})
	if err != nil {
		return false, fmt.Errorf("couldn't keep what Stripe is asked for: %w", err)
	}
	return collects, nil
}

// Document asks Stripe where it shows what was paid for a top-up of the organisation's: the invoice, or where there is none
// the receipt. Where several payments arrived, intent says of which; empty is the newest. The address has passed CheckURL,
// and works for some weeks.
//
// Errors: NotFound for a top-up or payment that is not the organisation's, Unavailable when Stripe did not answer, and
// ErrNoDocument.
func (s *Service) Document(ctx context.Context, org, topUp uuid.UUID, intent string) (address string, err error) {
	if _, err := s.TopUp(ctx, org, topUp); err != nil {
		return "", err
	}
	noPayment := fault.New(fault.NotFound, "There is no such payment.")
	if intent != "" && !stripeID.MatchString(intent) {
		return "", noPayment // Postgres could not even be asked about some of them
	}
	var paid string
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &paid, `
			SELECT payment_intent FROM payments WHERE top_up_id = $2 AND org_id = $1 AND paid_at IS NOT NULL AND ($3 = '' OR payment_intent = $3)
			ORDER BY paid_at DESC, payment_intent LIMIT 1`, org, topUp, intent)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows) && intent != "":
		return "", noPayment
	case errors.Is(err, sql.ErrNoRows):
		return "", ErrNoDocument // nothing was paid yet
	case err != nil:
		return "", fmt.Errorf("couldn't look for the payment: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askDocument)
	defer cancel()
	get := &stripe.PaymentIntentParams{}
	get.Context = ctx
	get.AddExpand("invoice")
	get.AddExpand("latest_charge")
	pi, err := s.stripe.PaymentIntents.Get(paid, get)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		return "", ErrNoDocument
	}
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, "We couldn't reach Stripe just now. Please try again in a moment.", err)
	}
	var shown []string
	if pi.Invoice != nil {
		shown = append(shown, pi.Invoice.HostedInvoiceURL)
	}
	if pi.LatestCharge != nil {
		shown = append(shown, pi.LatestCharge.ReceiptURL)
	}
	for _, address := range shown {
		if address == "" {
			continue
		}
		if err := CheckURL(address, s.documents); err != nil {
			s.log.ErrorContext(ctx, "the address of Stripe's invoice or receipt was refused", "payment_intent", paid, "error", err)
			continue
		}
		return address, nil
	}
	return "", ErrNoDocument
}
