// Package audit writes the log of who changed what: append-only rows, in the transaction of the change itself.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
)

// Actor is who did it: "user:<id>", "operator:<id>", "key:<id>", "stripe:<event>", "system:<part>" or "cli:<login>".
type Actor string

// User is a person of a tenant.
func User(id uuid.UUID) Actor { return Actor("user:" + id.String()) }

// Operator is a person of the platform.
func Operator(id uuid.UUID) Actor { return Actor(operator + id.String()) }

// IsOperator reports whether it is one of ours who decided for a customer.
func (a Actor) IsOperator() bool { return strings.HasPrefix(string(a), operator) }

// operator is how the name of an operator begins.
const operator = "operator:"

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
	// RequestID is the request that asked for it, where that is not the context's: in what several requests share.
	RequestID string
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

// Columns are entries as the parameters of [InsertSQL], in its order: for a statement that writes more than them.
func Columns(ctx context.Context, entries []Entry) ([]any, error) {
	n := len(entries)
	orgs, txs := make([]*string, n), make([]*string, n)
	actors, actions, subjects := make([]string, n), make([]string, n), make([]string, n)
	reasons, requests, details := make([]string, n), make([]string, n), make([]string, n)
	for i, e := range entries {
		orgs[i], txs[i] = orNull(e.OrgID), orNull(e.TransactionID)
		actors[i], actions[i], subjects[i], reasons[i] = string(e.Actor), e.Action, e.Subject, e.Reason
		requests[i] = cmp.Or(e.RequestID, RequestID(ctx))
		details[i] = "{}"
		if len(e.Detail) > 0 {
			b, err := json.Marshal(e.Detail)
			if err != nil {
				return nil, fmt.Errorf("couldn't write the audit detail: %w", err)
			}
			details[i] = string(b)
		}
	}
	return []any{
		pq.Array(requests), pq.Array(orgs), pq.Array(actors), pq.Array(actions), pq.Array(subjects), pq.Array(reasons), pq.Array(txs), pq.Array(details),
	}, nil
}

// InsertSQL is the statement that adds entries at the moment $1. The parameters that [Columns] gives are numbered from first.
func InsertSQL(first int) string {
	columns := []string{"text", "uuid", "text", "text", "text", "text", "uuid", "jsonb"}
	for i, kind := range columns {
		columns[i] = fmt.Sprintf("$%d::%s[]", first+i, kind)
	}
	return `
		INSERT INTO audit_log (at, request_id, org_id, actor, action, subject, reason, transaction_id, detail)
		SELECT $1, u.* FROM unnest(` + strings.Join(columns, ", ") + `) u`
}

var insertSQL = InsertSQL(2)

// Record adds the entries in one statement, at the transaction's moment.
func Record(ctx context.Context, tx *db.Tx, entries ...Entry) error {
	columns, err := Columns(ctx, entries)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insertSQL, append([]any{tx.Now}, columns...)...); err != nil {
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
