package telephony

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

const (
	// costFirst is how long after a text's end Twilio is asked what it cost; costLooks is how often at most, each time after
	// three times as long as before.
	costFirst = time.Minute
	costLooks = 9
	// costMost bounds the texts of one sweep.
	costMost = 200
)

// SweepCosts asks Twilio what texts have cost that have ended, and says how many it learned of. It is safe to repeat and to
// run in several processes at once.
func (s *Messages) SweepCosts(ctx context.Context) (n int, err error) {
	if !s.On() {
		return 0, nil
	}
	var due []struct {
		ID       uuid.UUID     `db:"id"`
		OrgID    uuid.UUID     `db:"org_id"`
		NumberID uuid.NullUUID `db:"number_id"`
		SID      string        `db:"sid"`
		Looks    int           `db:"cost_looks"`
	}
	began := s.o.Now()
	err = s.o.DB.InSystemTx(ctx, "texts whose cost is not known yet, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id, number_id, sid, cost_looks FROM messages WHERE cost_look_at <= $1 AND sid IS NOT NULL ORDER BY cost_look_at LIMIT $2`, tx.Now, costMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		cost, err := s.cost(ctx, Message{ID: d.ID, OrgID: d.OrgID, NumberID: d.NumberID}, d.SID)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("text %s: %w", d.ID, err))
		}
		err = s.o.DB.InTx(ctx, []uuid.UUID{d.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			var again *time.Time
			if cost == nil && d.Looks+1 < costLooks {
				pause := costFirst
				for range d.Looks + 1 {
					pause *= 3
				}
				again = new(tx.Now.Add(pause))
			}
			if _, err := tx.ExecContext(ctx, `UPDATE messages SET cost_micros = coalesce($2, cost_micros), cost_looks = $3, cost_look_at = $4 WHERE id = $1 AND cost_looks = $5`,
				d.ID, cost, d.Looks+1, again, d.Looks); err != nil {
				return fmt.Errorf("couldn't store what the text cost: %w", err)
			}
			return nil
		})
		switch {
		case err != nil:
			all = errors.Join(all, err)
		case cost != nil:
			n++
		}
	}
	return n, all
}

// cost is what Twilio says that a text cost us, in millionths of a dollar; nil while it does not say, for other currencies,
// and where its account cannot be asked any more. What went out from a customer's own account is on the customer's bill.
func (s *Messages) cost(ctx context.Context, m Message, sid string) (*int64, error) {
	at, err := s.lookPlace(ctx, m)
	switch {
	case errors.Is(err, errAccountGone):
		return nil, nil //nolint:nilnil // nobody will say
	case err != nil:
		return nil, err
	case at.own:
		return new(int64(0)), nil
	}
	said, err := at.twilio.FetchMessage(sid, (&api.FetchMessageParams{}).SetPathAccountSid(at.account))
	if refused, ok := errors.AsType[*client.TwilioRestError](err); ok && refused.Code == codeNotFound {
		return nil, nil //nolint:nilnil // it was deleted there: nobody will say
	}
	if err != nil {
		return nil, twilioFailure(err)
	}
	if said.Price == nil || said.PriceUnit == nil || !strings.EqualFold(*said.PriceUnit, "USD") {
		return nil, nil //nolint:nilnil // not known yet
	}
	micros, ok := signedMicros(*said.Price) // what is taken is negative
	if !ok || micros > 0 {
		return nil, nil //nolint:nilnil // nothing that could be counted
	}
	micros = -micros
	return &micros, nil
}

// Cost is what one organisation's use of one action has cost us in a month.
type Cost struct {
	OrgID  uuid.UUID     `db:"org_id"`
	Name   string        `db:"name"`
	Action wallet.Action `db:"action"`
	// Micros is what is known of it, in millionths of a dollar; Unknown is of how many calls, texts or months of a number it is
	// not.
	Micros  int64 `db:"micros"`
	Unknown int64 `db:"unknown"`
}

// Costs gives what providers charged for a month (UTC), by organisation and action. Only what they charge us counts: a number
// in an organisation's own account is on its own bill. A month of a number counts when it begins, as the provider charges it.
func (s *Numbers) Costs(ctx context.Context, month time.Time) (costs []Cost, err error) {
	from := time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(0, 1, 0)
	err = s.o.DB.InSystemTx(ctx, "what providers charged for every organisation", func(ctx context.Context, tx *db.Tx) error {
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		costs = nil
		return tx.SelectContext(ctx, &costs, `
			SELECT x.org_id, o.name, x.action, x.micros, x.unknown FROM (
			SELECT org_id, 'call' AS action, coalesce(sum(cost_micros), 0)::bigint AS micros, count(*) FILTER (WHERE cost_micros IS NULL) AS unknown
			FROM calls WHERE ended_at >= $1 AND ended_at < $2 AND vapi_id IS NOT NULL AND state IN ('completed', 'unanswered', 'failed') GROUP BY 1
			UNION ALL
			SELECT org_id, 'sms', coalesce(sum(cost_micros), 0)::bigint, count(*) FILTER (WHERE cost_micros IS NULL)
			FROM messages WHERE asked_at >= $1 AND asked_at < $2 AND sid IS NOT NULL GROUP BY 1
			UNION ALL
			SELECT n.org_id, 'number', coalesce(sum(c.monthly_micros), 0)::bigint, count(*) FILTER (WHERE c.monthly_micros IS NULL)
			FROM (SELECT org_id, country, releasing_at, (activated_at AT TIME ZONE 'UTC')
			             + make_interval(months => ((extract(year FROM $1::timestamptz AT TIME ZONE 'UTC') - extract(year FROM activated_at AT TIME ZONE 'UTC')) * 12
			                                        + extract(month FROM $1::timestamptz AT TIME ZONE 'UTC') - extract(month FROM activated_at AT TIME ZONE 'UTC'))::int) AS begins
			      FROM numbers WHERE kind = 'managed' AND activated_at < $2) n
			     LEFT JOIN LATERAL (SELECT monthly_micros FROM number_costs c WHERE c.country = n.country AND c.starts_on <= ($1::timestamptz AT TIME ZONE 'UTC')::date
			                        ORDER BY c.starts_on DESC LIMIT 1) c ON true
			WHERE n.begins <= ($3::timestamptz AT TIME ZONE 'UTC') AND (n.releasing_at IS NULL OR n.releasing_at AT TIME ZONE 'UTC' > n.begins)
			GROUP BY 1) x JOIN organizations o ON o.id = x.org_id`, from, to, tx.Now)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't add up what providers charged: %w", err)
	}
	return costs, nil
}

// NumberCost is what a number of a country costs us a month, from a month on.
type NumberCost struct {
	Country string `db:"country"`
	// StartsOn is the first of a month (UTC).
	StartsOn time.Time `db:"starts_on"`
	// Micros are millionths of a dollar.
	Micros int64 `db:"monthly_micros"`
}

// NumberCosts lists them by country, the newest first.
func (s *Numbers) NumberCosts(ctx context.Context) (list []NumberCost, err error) {
	err = s.o.DB.InSystemTx(ctx, "what numbers cost us", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, `SELECT country, starts_on, monthly_micros FROM number_costs ORDER BY country, starts_on DESC LIMIT 1000`)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read what numbers cost us: %w", err)
	}
	return list, nil
}

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

// maxNumberCost bounds what a number costs a month, in millionths of a dollar: $1,000.
const maxNumberCost = 1_000_000_000

// SetNumberCost says what a number of a country costs us a month, from the month of StartsOn on; said again for the same month
// it replaces what was said. Faults: Invalid with the field "country" or "monthly".
func (s *Numbers) SetNumberCost(ctx context.Context, c NumberCost, actor audit.Actor, reason string) error {
	switch {
	case !countryCode.MatchString(c.Country):
		return fault.Field("country", "Give the country's two letters, such as GB.")
	case c.Micros < 0 || c.Micros > maxNumberCost:
		return fault.Field("monthly", "Give dollars a month, from 0 to 1000.")
	}
	starts := time.Date(c.StartsOn.Year(), c.StartsOn.Month(), 1, 0, 0, 0, 0, time.UTC)
	return s.o.DB.InSystemTx(ctx, "what a number costs us", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO number_costs (country, starts_on, monthly_micros, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (country, starts_on) DO UPDATE SET monthly_micros = excluded.monthly_micros, updated_at = excluded.updated_at`,
			c.Country, starts.Format(time.DateOnly), c.Micros, tx.Now); err != nil {
			return fmt.Errorf("couldn't store what a number costs: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor, Action: "number_cost.set", Subject: "country:" + c.Country, Reason: reason,
			Detail: map[string]any{"starts_on": starts.Format(time.DateOnly), "monthly_micros_usd": c.Micros},
		})
	})
}
