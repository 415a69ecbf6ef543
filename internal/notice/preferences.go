package notice

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// MaxMark is the highest mark an organisation may set, in pence.
const MaxMark money.Pence = 1_000_000_00

// Preferences are what one person wants to be told by mail, and where their organisation's mark is.
type Preferences struct {
	// Mail has every kind.
	Mail map[Kind]bool
	// Mark is the available balance below which it is low, in pence; 0 means never.
	Mark money.Pence
}

// Preferences gives what a person of the organisation wants. owner is whether they own it: owners get mail about
// everything until they say otherwise, others about nothing.
func (s *Service) Preferences(ctx context.Context, org, user uuid.UUID, owner bool) (p Preferences, err error) {
	p = Preferences{Mail: map[Kind]bool{}, Mark: DefaultMark}
	for _, k := range Kinds {
		p.Mail[k] = owner
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var chosen []struct {
			Kind Kind `db:"kind"`
			Mail bool `db:"mail"`
		}
		if err := tx.SelectContext(ctx, &chosen, `SELECT kind, mail FROM notice_preferences WHERE org_id = $1 AND user_id = $2`, org, user); err != nil {
			return err
		}
		for _, c := range chosen {
			p.Mail[c.Kind] = c.Mail
		}
		err := tx.GetContext(ctx, &p.Mark, `SELECT low_pence FROM notice_marks WHERE org_id = $1`, org)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return Preferences{}, fmt.Errorf("couldn't read the preferences: %w", err)
	}
	return p, nil
}

// Choose stores which kinds a person wants mail about; kinds that are not named are not wanted. It is safe to repeat.
func (s *Service) Choose(ctx context.Context, org, user uuid.UUID, wanted []Kind) error {
	var kinds []string
	var mails []bool
	for _, k := range Kinds {
		want := false
		for _, w := range wanted {
			want = want || w == k
		}
		kinds, mails = append(kinds, string(k)), append(mails, want)
	}
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO notice_preferences (org_id, user_id, kind, mail) SELECT $1, $2, u.* FROM unnest($3::text[], $4::boolean[]) u
			ON CONFLICT (org_id, user_id, kind) DO UPDATE SET mail = excluded.mail`, org, user, pq.Array(kinds), pq.Array(mails)); err != nil {
			return fmt.Errorf("couldn't store the preferences: %w", err)
		}
		return nil
	})
}

// SetMark moves the organisation's mark, in pence; 0 means that no balance is low. A mark that is out of bounds is a fault
// on the field "mark". It is safe to repeat.
func (s *Service) SetMark(ctx context.Context, org uuid.UUID, mark money.Pence, actor audit.Actor) error {
	if mark < 0 || mark > MaxMark {
		return fault.Field("mark", fmt.Sprintf("The mark may be from £0 to %s.", MaxMark))
	}
	return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			INSERT INTO notice_marks AS m (org_id, low_pence) VALUES ($1, $2)
			ON CONFLICT (org_id) DO UPDATE SET low_pence = excluded.low_pence WHERE m.low_pence <> excluded.low_pence`, org, mark)
		if err != nil {
			return fmt.Errorf("couldn't move the mark: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: actor, Action: "notices.mark_moved", Subject: org.String(), Detail: map[string]any{"low_pence": int64(mark)},
		})
	})
}
