// Package notice tells an organisation's people what happened to their money and their numbers: it keeps what is to be said, in the
// transaction of what happened, so that nothing is told that did not happen and nothing that happened goes untold.
package notice

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
)

// Kind is what a notice is about.
type Kind string

// The kinds; the schema knows the same ones.
const (
	LowBalance     Kind = "low_balance"     // the available balance fell below the organisation's mark
	TopUpSucceeded Kind = "topup_succeeded" // a top-up reached the wallet
	TopUpFailed    Kind = "topup_failed"    // a payment that somebody waited for has failed
	CardAttention  Kind = "card_attention"  // the saved card needs its owner: declined, removed, or the bank wants to see them
	AutoTopUpEnded Kind = "autotopup_ended" // automatic top-ups stopped and will not start again by themselves
	DisputeOpened  Kind = "dispute_opened"  // a payment is disputed
	DisputeClosed  Kind = "dispute_closed"  // a dispute has ended
	AccountClosing Kind = "account_closed"  // an operator closed the account

	NumberRentDue    Kind = "number_rent_due"    // a number's next month is charged within a week and the wallet would not cover it; its subject is number and month
	NumberRentUnpaid Kind = "number_rent_unpaid" // a number's month is owed, and it is released unless it is paid
	NumberReleased   Kind = "number_released"    // a number is given back because its rent was not paid, or by an operator
	NumberFailed     Kind = "number_failed"      // a number was not bought, and its money is free again

	WebhookDisabled Kind = "webhook_disabled" // an endpoint was switched off, since nothing could be delivered to it
)

// Notice is one thing to be told.
type Notice struct {
	OrgID uuid.UUID
	Kind  Kind
	// Subject is what it is about, such as a top-up's id: one organisation, kind and subject are one notice.
	Subject string
	// Data are the figures that its words need; amounts are int64 pence. Never a secret.
	Data map[string]any
}

// Raise keeps a notice, in the caller's transaction, to be told as the organisation's preferences say. Raising the same
// one again changes nothing.
func Raise(ctx context.Context, tx *db.Tx, n Notice) error {
	data := n.Data
	if data == nil {
		data = map[string]any{}
	}
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("couldn't write the notice's figures: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("couldn't make a notice id: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO notices (id, org_id, kind, subject, data, raised_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (org_id, kind, subject) DO NOTHING`, id, n.OrgID, string(n.Kind), n.Subject, string(b), tx.Now); err != nil {
		return fmt.Errorf("couldn't keep the notice: %w", err)
	}
	return nil
}
