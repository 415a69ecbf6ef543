package sandbox

import (
	"net/http"
	"slices"
	"time"
)

const (
	refundSucceeded = "succeeded"
	refundFailed    = "failed"

	disputeNeedsResponse = "needs_response"
	disputeWon           = "won"
	disputeLost          = "lost"
	inquiryNeedsResponse = "warning_needs_response"
	inquiryClosed        = "warning_closed"

	// disputeFee is what Stripe keeps for a chargeback in the UK, in minor units; a lost one does not return it.
	disputeFee = 2000
)

// createRefund is https://docs.stripe.com/api/refunds/create.
func createRefund(tx *txn, in *input) (any, error) {
	if err := in.allow("charge", "payment_intent", "amount", "reason", "metadata[*]"); err != nil {
		return nil, err
	}
	chargeID, intentID := in.str("charge"), in.str("payment_intent")
	if chargeID == "" && intentID == "" {
		return nil, invalid("parameter_missing", "", "One of the following params should be provided for this request: payment_intent or charge.")
	}
	ch, err := tx.paidCharge(chargeID, intentID)
	if err != nil {
		return nil, err
	}
	if intentID != "" && chargeID != "" && chargeID != ch.Wire.ID {
		return nil, invalid("", "charge", "The charge %s does not belong to %s.", chargeID, intentID)
	}
	amount, sent, err := in.integer("amount")
	if err != nil {
		return nil, err
	}
	if !sent {
		amount = ch.Wire.Amount - ch.Wire.AmountRefunded
	}
	reason, err := in.oneOf([]string{"duplicate", "fraudulent", "requested_by_customer"}, "reason")
	if err != nil {
		return nil, err
	}
	metadata, err := in.metadata("metadata")
	if err != nil {
		return nil, err
	}
	r, err := tx.refund(ch, amount, reason, metadata)
	if err != nil {
		return nil, err
	}
	return &r.Wire, nil
}

func (tx *txn) refund(ch *row[charge], amount int64, reason string, metadata map[string]string) (*row[refund], error) {
	c := &ch.Wire
	left := c.Amount - c.AmountRefunded
	switch {
	case left == 0:
		return nil, invalid("charge_already_refunded", "", "Charge %s has already been refunded.", c.ID)
	case slices.ContainsFunc(tx.s.disputes.order, func(d *row[dispute]) bool {
		return d.Wire.Charge == c.ID && !d.Wire.IsChargeRefundable
	}):
		return nil, invalid("charge_disputed", "", "Charge %s has been charged back; cannot issue a refund.", c.ID)
	case amount < 1:
		return nil, invalid("parameter_invalid_integer", "amount", "Invalid positive integer")
	case amount > left:
		return nil, invalid("", "amount", "Refund amount (%s) is greater than unrefunded amount on charge (%s)",
			amountText(amount, c.Currency), amountText(left, c.Currency))
	}
	re := refund{
		ID: newID("re_3", 23), Object: "refund", Amount: amount, BalanceTransaction: text(newID("txn_3", 23)),
		Charge: text(c.ID), Created: tx.created(), Currency: c.Currency, Metadata: metadata,
		PaymentIntent: c.PaymentIntent, Reason: text(reason), Status: refundSucceeded,
		Destination: &refundDestination{Type: c.MethodDetails.Type},
	}
	if c.MethodDetails.Card != nil {
		re.Destination.Card = map[string]string{"type": "refund", "reference_type": "acquirer_reference_number", "reference_status": "pending"}
	}
	before := map[string]any{"amount_refunded": c.AmountRefunded, "receipt_url": c.ReceiptURL}
	c.AmountRefunded += amount
	if c.Refunded = c.AmountRefunded == c.Amount; c.Refunded {
		before["refunded"] = false
	}
	save(tx, &tx.s.charges, ch)
	r := add(tx, &tx.s.refunds, re, own{})
	tx.emit("charge.refunded", c, before)
	tx.emit("refund.created", &r.Wire, nil)
	return r, nil
}

// failRefund is the bank giving a refund back: the money is the merchant's again
// (https://docs.stripe.com/refunds#failed-refunds).
func (tx *txn) failRefund(id string) (*row[refund], error) {
	r := tx.s.refunds.get(id)
	if r == nil {
		return nil, noSuch("refund", id, "")
	}
	if r.Wire.Status != refundSucceeded {
		return nil, conflict("The refund is %s.", r.Wire.Status)
	}
	before := map[string]any{"status": r.Wire.Status}
	r.Wire.Status, r.Wire.FailureReason = refundFailed, "lost_or_stolen_card"
	r.Wire.FailureBalance = newID("txn_3", 23)
	save(tx, &tx.s.refunds, r)
	if ch := tx.s.charges.get(string(r.Wire.Charge)); ch != nil {
		ch.Wire.AmountRefunded -= r.Wire.Amount
		ch.Wire.Refunded = false
		save(tx, &tx.s.charges, ch)
	}
	tx.emit("charge.refund.updated", &r.Wire, before)
	tx.emit("refund.failed", &r.Wire, before)
	return r, nil
}

func conflict(format string, args ...any) error {
	e := invalid("", "", format, args...)
	e.Status = http.StatusConflict
	return e
}

func getRefund(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.refunds, "refund")
}

func listRefunds(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "charge", "payment_intent")...); err != nil {
		return nil, err
	}
	ch, intent := in.str("charge"), in.str("payment_intent")
	return page(in, &tx.s.refunds, "refund", func(r *row[refund]) bool {
		return is(ch, string(r.Wire.Charge)) && is(intent, string(r.Wire.PaymentIntent))
	}, wire)
}

func getDispute(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.disputes, "dispute")
}

func listDisputes(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "charge", "payment_intent")...); err != nil {
		return nil, err
	}
	ch, intent := in.str("charge"), in.str("payment_intent")
	return page(in, &tx.s.disputes, "dispute", func(r *row[dispute]) bool {
		return is(ch, r.Wire.Charge) && is(intent, string(r.Wire.PaymentIntent))
	}, wire)
}

// openDispute is the payer going to the bank: a chargeback, which takes the money, or an inquiry, which does not yet.
// A zero amount disputes all that has not been refunded.
func (tx *txn) openDispute(chargeID string, amount int64, inquiry bool) (*row[dispute], error) {
	ch, err := tx.paidCharge(chargeID, "")
	if err != nil {
		return nil, err
	}
	c := &ch.Wire
	if c.Disputed {
		return nil, conflict("Charge %s is disputed already.", c.ID)
	}
	left := c.Amount - c.AmountRefunded
	if amount == 0 {
		amount = left
	}
	if amount < 1 || amount > left {
		return nil, invalid("", "amount", "The amount must be between 1 and %d.", left)
	}
	due := tx.now.Add(7 * 24 * time.Hour).Unix()
	d := dispute{
		ID: newID("dp_1", 23), Object: "dispute", Amount: amount, BalanceTransactions: []balanceTransaction{},
		Charge: c.ID, Created: tx.created(), Currency: c.Currency, Evidence: map[string]any{},
		EvidenceDetails: evidenceDetails{DueBy: &due}, IsChargeRefundable: inquiry, Metadata: map[string]string{},
		PaymentIntent: c.PaymentIntent, Reason: "fraudulent", Status: disputeNeedsResponse,
	}
	if inquiry {
		d.Status = inquiryNeedsResponse
	}
	c.Disputed = true
	save(tx, &tx.s.charges, ch)
	r := add(tx, &tx.s.disputes, d, own{})
	tx.emit("charge.dispute.created", &r.Wire, nil)
	if !inquiry {
		tx.withdraw(r)
	}
	return r, nil
}

// withdraw takes the disputed money and the fee from the merchant.
func (tx *txn) withdraw(r *row[dispute]) {
	r.Wire.BalanceTransactions = append(r.Wire.BalanceTransactions, tx.moved(&r.Wire, -r.Wire.Amount, disputeFee, "dispute"))
	save(tx, &tx.s.disputes, r)
	tx.emit("charge.dispute.funds_withdrawn", &r.Wire, nil)
}

func (tx *txn) moved(d *dispute, amount, disputeCost int64, category string) balanceTransaction {
	bt := balanceTransaction{
		ID: newID("txn_1", 23), Object: "balance_transaction", Amount: amount, AvailableOn: tx.created(),
		Created: tx.created(), Currency: d.Currency, Description: text("Chargeback for " + d.Charge), Fee: disputeCost,
		FeeDetails: []fee{}, Net: amount - disputeCost, ReportingCategory: category, Source: text(d.ID),
		Status: "available", Type: "adjustment",
	}
	if disputeCost != 0 {
		bt.FeeDetails = append(bt.FeeDetails, fee{Amount: disputeCost, Currency: d.Currency, Description: "Dispute fee", Type: "stripe_fee"})
	}
	return bt
}

// closeDispute ends a dispute; the money of a won one comes back. An inquiry closes without moving any.
func (tx *txn) closeDispute(id string, won bool) (*row[dispute], error) {
	r := tx.s.disputes.get(id)
	if r == nil {
		return nil, noSuch("dispute", id, "")
	}
	w := &r.Wire
	before := map[string]any{"status": w.Status}
	switch w.Status {
	case inquiryNeedsResponse:
		w.Status = inquiryClosed
	case disputeNeedsResponse:
		w.Status = disputeLost
		if won {
			w.Status = disputeWon
		}
	default:
		return nil, conflict("The dispute is %s.", w.Status)
	}
	w.EvidenceDetails.HasEvidence, w.EvidenceDetails.SubmissionCount = won, 0
	if won {
		w.EvidenceDetails.SubmissionCount = 1
	}
	if w.Status == disputeWon {
		w.BalanceTransactions = append(w.BalanceTransactions, tx.moved(w, w.Amount, 0, "dispute_reversal"))
		tx.emit("charge.dispute.funds_reinstated", w, nil)
	}
	save(tx, &tx.s.disputes, r)
	tx.emit("charge.dispute.closed", w, before)
	return r, nil
}

// escalateDispute turns an inquiry into a chargeback, which takes the money.
func (tx *txn) escalateDispute(id string) (*row[dispute], error) {
	r := tx.s.disputes.get(id)
	if r == nil {
		return nil, noSuch("dispute", id, "")
	}
	if r.Wire.Status != inquiryNeedsResponse {
		return nil, conflict("The dispute is %s, not an inquiry.", r.Wire.Status)
	}
	before := map[string]any{"status": r.Wire.Status}
	r.Wire.Status, r.Wire.IsChargeRefundable = disputeNeedsResponse, false
	tx.emit("charge.dispute.updated", &r.Wire, before)
	tx.withdraw(r)
	return r, nil
}
