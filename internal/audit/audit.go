// Package audit writes the log of who changed what: append-only rows, in the transaction of the change itself.
package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
)

// Actor is who did it: "user:<id>", "operator:<id>", "key:<id>", "stripe:<event>", "system:<part>" or "cli:<login>".
type Actor string

// User is a person of a tenant.
func User(id uuid.UUID) Actor { return Actor("user:" + id.String()) }

// Operator is a person of the platform.
func Operator(id uuid.UUID) Actor { return Actor("operator:" + id.String()) }

// Key is a program of a tenant, by the API key that it showed.
func Key(id uuid.UUID) Actor { return Actor("key:" + id.String()) }

// Stripe is what Stripe told us with an event.
func Stripe(eventID string) Actor { return Actor("stripe:" + eventID) }

// System is a part of this program that acts by itself.
func System(part string) Actor { return Actor("system:" + part) }

// CLI is a person at the command line, by the name of the login.
func CLI(login string) Actor { return Actor("cli:" + login) }

// Entry is one row of the log.
type Entry struct {
	// OrgID is the organisation concerned; uuid.Nil where none is.
	OrgID uuid.UUID
	Actor Actor
	// Action is a dotted name such as "wallet.credited".
	Action string
	// Subject is what was changed, such as a PaymentIntent or a user id.
	Subject string
	// Reason is why, where a person gave a reason.
	Reason string
	// TransactionID is the ledger transaction, where money moved.
	TransactionID uuid.UUID
	// Detail is more for people: never a secret.
	Detail map[string]any
}

type requestIDKey struct{}

// WithRequestID makes entries written under ctx carry the request's id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the id that WithRequestID put into ctx, or empty.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Record adds the entries in one statement, at the transaction's moment.
func Record(ctx context.Context, tx *db.Tx, entries ...Entry) error {
	n := len(entries)
	orgs, txs := make([]*string, n), make([]*string, n)
	actors, actions, subjects := make([]string, n), make([]string, n), make([]string, n)
	reasons, details := make([]string, n), make([]string, n)
	for i, e := range entries {
		orgs[i], txs[i] = orNull(e.OrgID), orNull(e.TransactionID)
		actors[i], actions[i], subjects[i], reasons[i] = string(e.Actor), e.Action, e.Subject, e.Reason
		details[i] = "{}"
		if len(e.Detail) > 0 {
			b, err := json.Marshal(e.Detail)
			if err != nil {
				return fmt.Errorf("couldn't write the audit detail: %w", err)
			}
			details[i] = string(b)
		}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO audit_log (at, request_id, org_id, actor, action, subject, reason, transaction_id, detail)
		SELECT $1, $2, u.* FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::jsonb[]) u`,
		tx.Now, RequestID(ctx), pq.Array(orgs), pq.Array(actors), pq.Array(actions), pq.Array(subjects), pq.Array(reasons),
		pq.Array(txs), pq.Array(details))
	if err != nil {
		return fmt.Errorf("couldn't write the audit log: %w", err)
	}
	return nil
}

func orNull(id uuid.UUID) *string {
	if id == uuid.Nil {
		return nil
	}
	s := id.String()
	return &s
}
