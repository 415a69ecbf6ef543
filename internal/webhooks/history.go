package webhooks

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// State is how a delivery stands.
type State string

// The states; the schema knows the same ones.
const (
	Queued    State = "queued"    // it was not tried yet, or will be tried again
	Delivered State = "delivered" // the endpoint answered 2xx
	Failed    State = "failed"    // it will not be tried again by itself
)

// Delivery is one message to one endpoint.
type Delivery struct {
	ID         uuid.UUID `db:"id"`
	EndpointID uuid.UUID `db:"endpoint_id"`
	URL        string    `db:"url"`
	Type       Type      `db:"type"`
	State      State     `db:"state"`
	Attempts   int       `db:"attempts"`
	// Status is the newest attempt's; 0 when there was no answer, or no attempt.
	Status int `db:"status"`
	// NextAt is when it is tried next, while it is queued.
	NextAt     time.Time `db:"next_attempt_at"`
	HappenedAt time.Time `db:"happened_at"`
	CreatedAt  time.Time `db:"created_at"`
}

const deliverySQL = `
	SELECT d.id, d.endpoint_id, e.url, v.type, d.state, d.attempts, d.next_attempt_at, v.happened_at, d.created_at,
	       coalesce((SELECT a.status FROM webhook_attempts a WHERE a.delivery_id = d.id ORDER BY a.n DESC LIMIT 1), 0) AS status
	FROM webhook_deliveries d JOIN webhook_events v ON v.id = d.event_id JOIN webhook_endpoints e ON e.id = d.endpoint_id`

func errNoDelivery() error { return fault.New(fault.NotFound, "There is no such delivery.") }

// Deliveries lists what was sent to an endpoint of the organisation, newest first, older than the one given; uuid.Nil begins
// at the newest.
func (s *Service) Deliveries(ctx context.Context, org, endpoint, before uuid.UUID, limit int) (list []Delivery, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, deliverySQL+`
			WHERE d.org_id = $1 AND d.endpoint_id = $2
			AND ($3 = $4::uuid OR (d.created_at, d.id) < (SELECT b.created_at, b.id FROM webhook_deliveries b WHERE b.id = $3))
			ORDER BY d.created_at DESC, d.id DESC LIMIT $5`, org, endpoint, before, uuid.Nil, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the deliveries: %w", err)
	}
	return list, nil
}

// Attempt is one try to deliver.
type Attempt struct {
	N      int       `db:"n"`
	At     time.Time `db:"at"`
	TookMS int       `db:"took_ms"`
	// Status is 0 when there was no answer; Error is then why, as a sentence. Answer are the first bytes of one.
	Status int    `db:"status"`
	Answer string `db:"answer"`
	Error  string `db:"error"`
}

// Good reports whether the endpoint took it.
func (a Attempt) Good() bool { return a.Status >= 200 && a.Status <= 299 }

// Delivery gives one delivery of the organisation with what is sent and every attempt, newest first. NotFound for any other.
func (s *Service) Delivery(ctx context.Context, org, id uuid.UUID) (d Delivery, body []byte, attempts []Attempt, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &d, deliverySQL+` WHERE d.org_id = $1 AND d.id = $2`, org, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoDelivery()
		case err != nil:
			return fmt.Errorf("couldn't read the delivery: %w", err)
		}
		var m message
		if err := tx.GetContext(ctx, &m, messageSQL, org, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't read the message: %w", err)
		}
		if body, err = m.body(); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &attempts, `
			SELECT n, at, took_ms, status, answer, error FROM webhook_attempts WHERE org_id = $1 AND delivery_id = $2 ORDER BY n DESC LIMIT 100`, org, id); err != nil {
			return fmt.Errorf("couldn't read the attempts: %w", err)
		}
		return nil
	})
	return d, body, attempts, err
}

// Resend has a delivery of the organisation tried again now, with the whole schedule before it. One that is queued is only
// brought forward. It goes out with the same webhook-id, so the program may know it already. Faults: NotFound; Conflict while
// the endpoint is off or removed.
func (s *Service) Resend(ctx context.Context, org, id uuid.UUID, actor audit.Actor) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var endpoint uuid.UUID
		err := tx.GetContext(ctx, &endpoint, `SELECT endpoint_id FROM webhook_deliveries WHERE org_id = $1 AND id = $2`, org, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoDelivery()
		case err != nil:
			return fmt.Errorf("couldn't look the delivery up: %w", err)
		}
		r, err := find(ctx, tx, org, endpoint, "FOR NO KEY UPDATE")
		if err != nil || r.DisabledAt.Valid {
			return errors.Join(fault.New(fault.Conflict, "The endpoint is off. Switch it on first."), err)
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE webhook_deliveries SET state = 'queued', tries = 0, next_attempt_at = $3, ended_at = NULL WHERE org_id = $1 AND id = $2`, org, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't queue the delivery again: %w", err)
		}
		return record(ctx, tx, org, endpoint, actor, "webhook.resent", map[string]any{"delivery": id.String()})
	})
}

// Test sends an event of type webhook.test to an endpoint of the organisation, whatever it has chosen, and gives the
// delivery. Faults: NotFound; Conflict while the endpoint is off.
func (s *Service) Test(ctx context.Context, org, id uuid.UUID, actor audit.Actor) (delivery uuid.UUID, err error) {
	event, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't make an id: %w", err)
	}
	if delivery, err = uuid.NewV7(); err != nil {
		return uuid.Nil, fmt.Errorf("couldn't make an id: %w", err)
	}
	data, err := json.Marshal(map[string]string{"endpoint_id": id.String(), "text": "If you can read this, and its signature is right, all is well."})
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't write the test: %w", err)
	}
	return delivery, s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, org, id, "FOR NO KEY UPDATE")
		switch {
		case err != nil:
			return err
		case r.DisabledAt.Valid:
			return fault.New(fault.Conflict, "The endpoint is off. Switch it on first.")
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO webhook_events (id, org_id, type, subject, data, happened_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			event, org, string(typeTest), id.String(), string(data), tx.Now); err != nil {
			return fmt.Errorf("couldn't keep the test: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO webhook_deliveries (id, org_id, endpoint_id, event_id, state, next_attempt_at, created_at) VALUES ($1, $2, $3, $4, 'queued', $5, $5)`,
			delivery, org, id, event, tx.Now); err != nil {
			return fmt.Errorf("couldn't queue the test: %w", err)
		}
		return record(ctx, tx, org, id, actor, "webhook.test_sent", nil)
	})
}
