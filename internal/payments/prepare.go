package payments

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/money"
)

// Prepared is an open top-up that no browser waits for: material for measurements with events made elsewhere.
type Prepared struct {
	TopUpID  uuid.UUID   `json:"top_up_id" db:"id"`
	OrgID    uuid.UUID   `json:"org_id" db:"org_id"`
	Amount   money.Pence `json:"amount_pence" db:"amount_pence"`
	Customer string      `json:"customer" db:"-"`
}

// measured stands in place of the session of a top-up that was made for measurements.
const measured = "measurement"

// Prepare makes n open top-ups of the organisation for measurements (development only; the command line sees to that).
// They have amounts of which the user has no open top-up yet, and belong to no session at Stripe. The organisation's
// customer is made at Stripe if it has none.
func (s *Service) Prepare(ctx context.Context, org, user uuid.UUID, n int) (list []Prepared, err error) {
	_, rateID, err := s.currentRate(ctx)
	if err != nil {
		return nil, err
	}
	customer, err := s.customer(ctx, TopUp{ID: uuid.New(), OrgID: org})
	if err != nil {
		return nil, fmt.Errorf("couldn't make the organisation's customer at Stripe: %w", err)
	}
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, session_id, checkout_url, created_at, updated_at)
			SELECT gen_random_uuid(), $1, $2, a, 0, $3, 'open', $7, 'about:blank', $4, $4
			FROM generate_series($5::bigint, $5 + $6::bigint + (
				SELECT count(*) FROM top_ups t WHERE t.org_id = $1 AND t.user_id = $2 AND t.state IN ('creating', 'open'))) a
			WHERE NOT EXISTS (SELECT FROM top_ups t WHERE t.org_id = $1 AND t.user_id = $2 AND t.amount_pence = a AND t.state IN ('creating', 'open'))
			LIMIT $6
			RETURNING id, org_id, amount_pence`, org, user, rateID, tx.Now, int64(s.min), n, measured)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't prepare the top-ups: %w", err)
	}
	for i := range list {
		list[i].Customer = customer
	}
	return list, nil
}
