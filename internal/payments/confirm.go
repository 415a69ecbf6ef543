package payments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
)

// The other way round: what Stripe has and we do not is money of the customer's that we owe; a credit of ours that is no
// payment at Stripe is money that nobody paid. It can only come from a mistake or from somebody who could write to our
// database or sign events, so nothing is mended: it stands before an operator.

const (
	// kindUnconfirmed is the type of the events that are made of such credits. Nothing is done on it but to show it.
	kindUnconfirmed = "ringfence.credit_unconfirmed"
	// askMost bounds the credits about which Stripe is asked one by one. More than a few are not in its list only where
	// the whole account is another one.
	askMost = 1000
)

// agrees reports whether a credit is what Stripe says of its payment.
func (c credit) agrees(f fact) bool {
	return c.Amount == f.paid && f.currency == "gbp" && c.TopUpID == f.topUp
}

// credited makes sure that every credit of the span is a payment of Stripe's. Those that were in its list are passed over.
// It is asked about each of the others, since a payment may be older than the span that its credit is in.
func (r *reconciliation) credited(ctx context.Context) error {
	asked := 0
	for from := r.report.Span.Since; from.Before(r.report.Span.Until); from = from.Add(24 * time.Hour) {
		to := from.Add(24 * time.Hour)
		if to.After(r.report.Span.Until) {
			to = r.report.Span.Until
		}
		credits, err := r.creditsBetween(ctx, from, to)
		if err != nil {
			return err
		}
		r.report.LookedAt += len(credits)
		var list []differing
		for _, c := range credits {
			if r.met[c.Intent] {
				continue
			}
			if asked++; asked > askMost {
				r.note(Disagreement{Subject: "credits", Reason: fmt.Sprintf("more than %d credits are not in Stripe's list of payments; is this the right account?", askMost)})
				return r.mend(ctx, list)
			}
			d, differs, err := r.confirm(ctx, c)
			if err != nil {
				return err
			}
			if differs {
				list = append(list, d)
			}
		}
		if err := r.mend(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

// creditsBetween gives the credits of a time. What webhook tests and measurements have credited is left out: they pay with
// payments that are not Stripe's.
func (r *reconciliation) creditsBetween(ctx context.Context, from, to time.Time) (credits []credit, err error) {
	err = r.db.InSystemTx(ctx, "a day's credits, to be held against Stripe's payments", func(ctx context.Context, tx *db.Tx) error {
		credits = nil
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &credits, `
			SELECT c.payment_intent, c.org_id, c.top_up_id, c.amount_pence, c.created_at
			FROM credits c JOIN top_ups t ON t.id = c.top_up_id LEFT JOIN stripe_customers s ON s.org_id = c.org_id
			WHERE c.created_at >= $1 AND c.created_at < $2 AND t.session_id IS DISTINCT FROM $3::text
			  AND s.customer_id IS DISTINCT FROM $4::text || replace(c.org_id::text, '-', '')
			ORDER BY c.payment_intent`, from, to, measured, sampleCustomer)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the credits: %w", err)
	}
	return credits, nil
}

// confirm asks Stripe about the payment of one credit.
func (r *reconciliation) confirm(ctx context.Context, c credit) (d differing, differs bool, err error) {
	get := &stripe.PaymentIntentParams{}
	get.Context = ctx
	pi, err := r.stripe.PaymentIntents.Get(c.Intent, get)
	d = differing{subject: c.Intent, intent: c.Intent, kind: kindUnconfirmed, created: c.CreatedAt.Unix(), live: r.livemode}
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		d.state, d.broken = "unknown", fmt.Sprintf("%d pence are credited for it, and Stripe does not know the payment", int64(c.Amount))
		d.object, err = json.Marshal(map[string]any{
			"id": c.Intent, "object": "payment_intent", "amount_received": c.Amount, "metadata": map[string]string{"top_up_id": c.TopUpID.String()},
		})
		if err != nil {
			return differing{}, false, fmt.Errorf("couldn't make an event of credit %s: %w", c.Intent, err)
		}
		return d, true, nil
	}
	if err != nil {
		return differing{}, false, fmt.Errorf("%w about payment %s: %w", errStripeAway, c.Intent, err)
	}
	d.object = pi.LastResponse.RawJSON
	switch f := factOf(pi); {
	case f.state != Paid:
		d.state, d.broken = string(pi.Status), fmt.Sprintf("%d pence are credited for it, and at Stripe it is %s", int64(c.Amount), pi.Status)
	case c.agrees(f):
		return differing{}, false, nil
	default:
		d.state = fmt.Sprintf("%d%s", pi.AmountReceived, pi.Currency)
		d.broken = fmt.Sprintf("%d pence are credited for it, and at Stripe it is %d %s for top-up %s", int64(c.Amount), pi.AmountReceived, pi.Currency, f.topUp)
	}
	return d, true, nil
}
