package notice

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/money"
)

// DefaultMark is the available balance below which one is low, until an owner says otherwise; the schema has the same.
const DefaultMark money.Pence = 500

// watchBalances raises a notice for every wallet whose available balance has fallen below its mark since the last look.
// Each wallet's side of the mark is kept, so that only the crossing is told, however often it is looked at. A wallet that
// rises and falls again between two looks was never seen above, and is not told of twice.
//
// It reads wallets and locks none: gates do not wait for it.
func (s *Service) watchBalances(ctx context.Context) error {
	return s.o.DB.InSystemTx(ctx, "wallets that have fallen below their mark", func(ctx context.Context, tx *db.Tx) error {
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		var crossed []struct {
			OrgID     uuid.UUID   `db:"org_id"`
			Crossing  int64       `db:"crossings"`
			Mark      money.Pence `db:"low_pence"`
			Available money.Pence `db:"available_pence"`
		}
		// A first look tells nothing: an account begins empty.
		if err := tx.SelectContext(ctx, &crossed, `
			WITH seen AS (
				SELECT w.org_id, w.balance_pence - w.held_pence - w.reserved_pence - w.debt_pence AS available_pence, m.below AS was,
				       w.balance_pence - w.held_pence - w.reserved_pence - w.debt_pence < coalesce(m.low_pence, $1) AS below
				FROM wallets w LEFT JOIN notice_marks m ON m.org_id = w.org_id WHERE w.closed_at IS NULL),
			moved AS (
				INSERT INTO notice_marks AS m (org_id, low_pence, below) SELECT org_id, $1, below FROM seen
				WHERE was IS DISTINCT FROM below ORDER BY org_id
				ON CONFLICT (org_id) DO UPDATE
				SET below = excluded.below, crossings = m.crossings + CASE WHEN excluded.below AND NOT m.below THEN 1 ELSE 0 END
				WHERE m.below IS DISTINCT FROM excluded.below
				RETURNING m.org_id, m.crossings, m.low_pence, m.below)
			SELECT m.org_id, m.crossings, m.low_pence, s.available_pence FROM moved m JOIN seen s ON s.org_id = m.org_id
			WHERE m.below AND s.was IS NOT NULL AND m.crossings > 0`, DefaultMark); err != nil {
			return fmt.Errorf("couldn't look for wallets below their mark: %w", err)
		}
		notices := make([]Notice, len(crossed))
		for i, c := range crossed {
			notices[i] = Notice{OrgID: c.OrgID, Kind: LowBalance, Subject: strconv.FormatInt(c.Crossing, 10), Data: map[string]any{
				"available_pence": int64(c.Available), "mark_pence": int64(c.Mark),
			}}
		}
		return RaiseAll(ctx, tx, notices)
	})
}

const (
	// creditOverlap is how far behind the last look credits are looked for again: a transaction that had begun before it may
	// have committed since, and none lives as long as this (see db.InTx).
	creditOverlap = 2 * time.Minute
	// creditsAtOnce bounds what one look raises; the rest comes with the next.
	creditsAtOnce = 5000
)

// watchCredits raises a notice for every top-up that was credited. The credit's own transaction does not do it: that one
// is the busiest of all, and this is not lost, since credits stay.
func (s *Service) watchCredits(ctx context.Context) error {
	return s.o.DB.InSystemTx(ctx, "top-ups that were credited", func(ctx context.Context, tx *db.Tx) error {
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		var until time.Time
		if err := tx.GetContext(ctx, &until, `SELECT until FROM notice_watermarks WHERE what = 'credits' FOR UPDATE`); err != nil {
			return fmt.Errorf("couldn't read how far credits are looked through: %w", err)
		}
		var credited []struct {
			OrgID  uuid.UUID   `db:"org_id"`
			TopUp  uuid.UUID   `db:"top_up_id"`
			Amount money.Pence `db:"amount_pence"`
			At     time.Time   `db:"created_at"`
		}
		if err := tx.SelectContext(ctx, &credited, `
			SELECT c.org_id, c.top_up_id, c.amount_pence, c.created_at FROM credits c
			WHERE c.created_at > $1 AND NOT EXISTS (
				SELECT 1 FROM notices n WHERE n.org_id = c.org_id AND n.kind = 'topup_succeeded' AND n.subject = c.top_up_id::text)
			ORDER BY c.created_at LIMIT $2`, until.Add(-creditOverlap), creditsAtOnce); err != nil {
			return fmt.Errorf("couldn't look for new credits: %w", err)
		}
		notices := make([]Notice, len(credited))
		for i, c := range credited {
			notices[i] = Notice{OrgID: c.OrgID, Kind: TopUpSucceeded, Subject: c.TopUp.String(), Data: map[string]any{"amount_pence": int64(c.Amount)}}
		}
		if err := RaiseAll(ctx, tx, notices); err != nil {
			return err
		}
		looked := tx.Now
		if len(credited) == creditsAtOnce {
			looked = credited[len(credited)-1].At
		}
		if _, err := tx.ExecContext(ctx, `UPDATE notice_watermarks SET until = greatest(until, $1) WHERE what = 'credits'`, looked); err != nil {
			return fmt.Errorf("couldn't keep how far credits are looked through: %w", err)
		}
		return nil
	})
}
