package payments

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// AutoTopUpSwitch is the operators' switch over automatic top-ups, for everybody at once.
type AutoTopUpSwitch struct {
	// Stopped says that nothing is charged automatically.
	Stopped bool   `db:"stopped"`
	Reason  string `db:"reason"`
	// By is who set it last: an e-mail address, or an actor of the audit log.
	By string    `db:"by"`
	At time.Time `db:"changed_at"`
}

// SwitchAutoTopUps stops automatic top-ups for everybody from this moment on, or lets them begin again. What Stripe has
// been asked for already ends as Stripe says. Setting it to what it is changes nothing but who said so and why.
func (s *Service) SwitchAutoTopUps(ctx context.Context, stopped bool, reason string, actor audit.Actor) error {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 500 {
		return fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	action := "autotopup.started_for_all"
	if stopped {
		action = "autotopup.stopped_for_all"
	}
	return s.db.InSystemTx(ctx, "the switch over automatic top-ups, which is the house's", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			UPDATE switches SET stopped = $1, reason = $2, author = $3, changed_at = $4 WHERE name = 'auto_top_ups'`, stopped, reason, string(actor), tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't set the switch: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(fmt.Errorf("the switch over automatic top-ups has %d rows", n), err)
		}
		return audit.Record(ctx, tx, audit.Entry{Actor: actor, Action: action, Subject: "switch:auto_top_ups", Reason: reason})
	})
}

// AutoTopUpOverview is how automatic top-ups stand altogether, for operators.
type AutoTopUpOverview struct {
	Switch AutoTopUpSwitch
	// Organisations are how many there are in each state.
	Organisations map[AutoTopUpState]int
	// Today and its Charged are those begun today (UTC) that have not failed; Failed are those that have.
	Today, Failed int
	Charged       money.Pence
	// InFlight are the oldest that have not ended.
	InFlight []AutomaticInFlight
}

// AutomaticInFlight is an automatic top-up that has not ended.
type AutomaticInFlight struct {
	OrgID     uuid.UUID   `db:"org_id"`
	Name      string      `db:"name"`
	ID        uuid.UUID   `db:"id"`
	Amount    money.Pence `db:"amount_pence"`
	State     TopUpState  `db:"state"`
	CreatedAt time.Time   `db:"created_at"`
}

// AutoTopUpOverview reads it.
func (s *Service) AutoTopUpOverview(ctx context.Context) (o AutoTopUpOverview, err error) {
	err = s.db.InSystemTx(ctx, "an operator's overview of automatic top-ups", func(ctx context.Context, tx *db.Tx) error {
		o = AutoTopUpOverview{Organisations: map[AutoTopUpState]int{}}
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &o.Switch, `
			SELECT w.stopped, w.reason, coalesce(u.email, w.author) AS by, w.changed_at
			FROM switches w LEFT JOIN users u ON u.id = CASE WHEN w.author ~ '^operator:[0-9a-f-]{36}$' THEN split_part(w.author, ':', 2)::uuid END
			WHERE w.name = 'auto_top_ups'`); err != nil {
			return fmt.Errorf("couldn't read the switch: %w", err)
		}
		var counts []struct {
			State AutoTopUpState `db:"state"`
			N     int            `db:"n"`
		}
		if err := tx.SelectContext(ctx, &counts, `SELECT state, count(*) AS n FROM auto_top_ups GROUP BY state`); err != nil {
			return fmt.Errorf("couldn't count automatic top-ups: %w", err)
		}
		for _, c := range counts {
			o.Organisations[c.State] = c.N
		}
		day, _ := dayAndMonth(tx.Now)
		if err := tx.QueryRowxContext(ctx, `
			SELECT count(*) FILTER (WHERE state NOT IN ('failed', 'expired')), count(*) FILTER (WHERE state IN ('failed', 'expired')),
			       coalesce(sum(amount_pence) FILTER (WHERE state NOT IN ('failed', 'expired')), 0)::bigint
			FROM top_ups WHERE automatic AND created_at >= $1`, day).Scan(&o.Today, &o.Failed, &o.Charged); err != nil {
			return fmt.Errorf("couldn't add up today's automatic top-ups: %w", err)
		}
		if err := tx.SelectContext(ctx, &o.InFlight, `
			SELECT t.org_id, o.name, t.id, t.amount_pence, t.state, t.created_at FROM top_ups t JOIN organizations o ON o.id = t.org_id
			WHERE t.automatic AND t.state IN ('creating', 'open', 'processing') ORDER BY t.created_at LIMIT 20`); err != nil {
			return fmt.Errorf("couldn't read the automatic top-ups in flight: %w", err)
		}
		return nil
	})
	return o, err
}
