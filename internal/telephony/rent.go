package telephony

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/wallet"
)

const (
	// warnBefore is how long before a month is charged its owner is told that the wallet would not cover it.
	warnBefore = 7 * 24 * time.Hour
	// NoticePeriod is how long a month of a number may be owed before the number is given back.
	NoticePeriod = 14 * 24 * time.Hour
	// rentMost bounds the numbers that one sweep looks at, of each sort.
	rentMost = 500
)

// monthsAfter is the moment n months after t (UTC): on the same day, or the last one of a month that is shorter.
func monthsAfter(t time.Time, n int) time.Time {
	t = t.UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// ReleaseDue is when a number whose rent is owed is given back; nil where nothing is owed.
func (n *Number) ReleaseDue() *time.Time {
	if n.UnpaidSince == nil {
		return nil
	}
	at := n.UnpaidSince.Add(NoticePeriod)
	return &at
}

// SweepRents warns of months to come that the wallet would not cover, charges those that have begun, and gives numbers back whose rent has been owed for
// the notice period. It says how many months it charged. It is safe to repeat and to run in several processes at once.
//
// The purchase pays for the first month; each one after that is charged on the day it begins, whatever the wallet has. A
// month that was begun is charged whole, and nothing is charged from the moment on at which the number is being released:
// not for the time that providers take for it. Where several months have begun since the last sweep, each is charged once; but
// none that began when the number was to have been given back already.
func (s *Numbers) SweepRents(ctx context.Context) (charged int, err error) {
	var due []struct {
		ID    uuid.UUID `db:"id"`
		OrgID uuid.UUID `db:"org_id"`
	}
	err = s.o.DB.InSystemTx(ctx, "numbers whose rent is due, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			(SELECT id, org_id FROM numbers WHERE state = 'active' AND paid_until <= $1 ORDER BY paid_until LIMIT $3)
			UNION
			(SELECT n.id, n.org_id FROM numbers n JOIN wallets w ON w.org_id = n.org_id
			 WHERE n.state = 'active' AND n.paid_until > $1 AND n.paid_until <= $1::timestamptz + $2::interval AND n.monthly_pence > 0
			 AND w.balance_pence - w.held_pence - w.reserved_pence - w.debt_pence < (
			     SELECT sum(m.monthly_pence) FROM numbers m WHERE m.org_id = n.org_id AND m.state = 'active' AND m.paid_until <= n.paid_until)
			 AND NOT EXISTS (SELECT FROM notices t WHERE t.org_id = n.org_id AND t.kind = 'number_rent_due' AND t.subject = n.id || ':' || n.months + 1)
			 ORDER BY n.paid_until LIMIT $3)
			UNION
			(SELECT id, org_id FROM numbers WHERE state = 'active' AND unpaid_since IS NOT NULL ORDER BY unpaid_since LIMIT $3)`,
			tx.Now, warnBefore.String(), rentMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil {
			break // the next sweep goes on
		}
		n, err := s.rent(ctx, d.OrgID, d.ID)
		charged += n
		if err != nil {
			all = errors.Join(all, fmt.Errorf("number %s: %w", d.ID, err))
		}
	}
	return charged, all
}

// rent does what is due for one number.
func (s *Numbers) rent(ctx context.Context, org, id uuid.UUID) (charged int, err error) {
	owed := false
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		charged, owed = 0, false
		if err := wallet.Lock(ctx, tx, org); err != nil { // before the number's, as everybody does
			return err
		}
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, org, id)
		if err != nil || !found || n.State != NumberActive || n.PaidUntil == nil {
			return err
		}
		for due := n.ReleaseDue(); !n.PaidUntil.After(tx.Now) && (due == nil || due.After(*n.PaidUntil)); {
			if err := s.charge(ctx, tx, &n); err != nil {
				return err
			}
			charged++
		}
		if err := s.warn(ctx, tx, n); err != nil {
			return err
		}
		owed, err = s.owes(ctx, tx, n)
		return err
	})
	if err != nil {
		if errors.Is(err, db.ErrCommitUnknown) {
			return 0, nil // the next sweep sees what was stored
		}
		return 0, err
	}
	if charged > 0 {
		outcome := "paid"
		if owed {
			outcome = "owed"
		}
		s.metrics.rents.WithLabelValues(outcome).Add(float64(charged))
	}
	return charged, nil
}

// charge takes the month of a number that has begun. The caller has the wallet and the number locked.
func (s *Numbers) charge(ctx context.Context, tx *db.Tx, n *Number) error {
	month := n.Months + 1
	until := monthsAfter(*n.ActivatedAt, month+1)
	if n.Monthly > 0 {
		_, short, err := wallet.ChargeRent(ctx, tx, wallet.RentRequest{
			OrgID: n.OrgID, Amount: n.Monthly, Reference: rentReference(n.ID, month), Actor: audit.System("numbers"),
			Description: fmt.Sprintf("Phone number %s, %s to %s", n.PhoneNumber, n.PaidUntil.UTC().Format("2 January 2006"), until.Format("2 January 2006")),
		})
		if err != nil {
			return err
		}
		if short > 0 && n.UnpaidSince == nil {
			since := tx.Now
			n.UnpaidSince = &since
			if err := notice.Raise(ctx, tx, notice.Notice{
				OrgID: n.OrgID, Kind: notice.NumberRentUnpaid, Subject: fmt.Sprintf("%s:%d", n.ID, month),
				Data: n.figures(map[string]any{"amount_pence": int64(n.Monthly), "owed_pence": int64(short), "release_at": n.ReleaseDue()}),
			}); err != nil {
				return err
			}
		}
	}
	n.Months, n.PaidUntil = month, &until
	if _, err := tx.ExecContext(ctx, `UPDATE numbers SET months = $2, paid_until = $3, unpaid_since = $4 WHERE id = $1`, n.ID, n.Months, n.PaidUntil, n.UnpaidSince); err != nil {
		return fmt.Errorf("couldn't store that a month is charged: %w", err)
	}
	return nil
}

// rentReference names a month of a number in the ledger.
func rentReference(id uuid.UUID, month int) string { return fmt.Sprintf("number:%s:%d", id, month) }

// warn tells the owner of the month to come, once, where the wallet as it is now would not cover it and what else is due by
// then.
func (s *Numbers) warn(ctx context.Context, tx *db.Tx, n Number) error {
	if n.Monthly == 0 || n.PaidUntil.Sub(tx.Now) > warnBefore || !n.PaidUntil.After(tx.Now) { // or it is about to be given back
		return nil
	}
	b, err := wallet.Read(ctx, tx, n.OrgID)
	if err != nil {
		return err
	}
	var needed money.Pence
	if err := tx.GetContext(ctx, &needed, `SELECT sum(monthly_pence)::bigint FROM numbers WHERE org_id = $1 AND state = 'active' AND paid_until <= $2`, n.OrgID, n.PaidUntil); err != nil {
		return fmt.Errorf("couldn't add up the rents that are due: %w", err)
	}
	if b.Available()-b.Debt >= needed {
		return nil
	}
	return notice.Raise(ctx, tx, notice.Notice{
		OrgID: n.OrgID, Kind: notice.NumberRentDue, Subject: fmt.Sprintf("%s:%d", n.ID, n.Months+1),
		Data: n.figures(map[string]any{
			"amount_pence": int64(n.Monthly), "needed_pence": int64(needed), "due_at": n.PaidUntil.UTC(), "available_pence": int64(b.Available()), "debt_pence": int64(b.Debt),
		}),
	})
}

// figures adds to a notice's figures which number it is about.
func (n *Number) figures(f map[string]any) map[string]any {
	f["number_id"], f["phone_number"] = n.ID.String(), n.PhoneNumber
	return f
}

// toldOfDebt reports whether its owner was told the notice period ago that a month is owed and the number will be released.
// It is the second guard: that a month is owed is stored with the notice, in one commit.
func (n *Number) toldOfDebt(ctx context.Context, tx *db.Tx) (told bool, err error) {
	if err := tx.GetContext(ctx, &told, `
		SELECT EXISTS (SELECT FROM notices WHERE org_id = $1 AND kind = 'number_rent_unpaid' AND subject >= $2 || ':' AND subject < $2 || ';'
		               AND raised_at BETWEEN $3 AND $4::timestamptz - $5::interval)`,
		n.OrgID, n.ID.String(), n.UnpaidSince, tx.Now, NoticePeriod.String()); err != nil {
		return false, fmt.Errorf("couldn't see whether its owner was told: %w", err)
	}
	return told, nil
}

// owesFromNow begins the notice period anew, and tells of it: for a number that is owed for and whose owner was not told.
func (n *Number) owesFromNow(ctx context.Context, tx *db.Tx, debt money.Pence) error {
	since := tx.Now
	n.UnpaidSince = &since
	if _, err := tx.ExecContext(ctx, `UPDATE numbers SET unpaid_since = $2 WHERE id = $1`, n.ID, since); err != nil {
		return fmt.Errorf("couldn't begin the notice period anew: %w", err)
	}
	return notice.Raise(ctx, tx, notice.Notice{
		OrgID: n.OrgID, Kind: notice.NumberRentUnpaid, Subject: fmt.Sprintf("%s:%d:%d", n.ID, n.Months, since.Unix()),
		Data: n.figures(map[string]any{"amount_pence": int64(n.Monthly), "owed_pence": int64(debt), "release_at": n.ReleaseDue()}),
	})
}

// owes looks at a number whose rent was owed: it is not any more once the wallet has no debt, and after the notice period
// the number is given back. The caller has the account and the number locked.
func (s *Numbers) owes(ctx context.Context, tx *db.Tx, n Number) (bool, error) {
	if n.UnpaidSince == nil {
		return false, nil
	}
	b, err := wallet.Read(ctx, tx, n.OrgID)
	if err != nil {
		return false, err
	}
	if b.Debt == 0 {
		if _, err := tx.ExecContext(ctx, `UPDATE numbers SET unpaid_since = NULL WHERE id = $1`, n.ID); err != nil {
			return false, fmt.Errorf("couldn't store that the rent is paid: %w", err)
		}
		return false, n.record(ctx, tx, "number.rent_paid", audit.System("numbers"), "", nil)
	}
	if n.ReleaseDue().After(tx.Now) {
		return true, nil
	}
	if told, err := n.toldOfDebt(ctx, tx); err != nil {
		return true, err
	} else if !told {
		return true, n.owesFromNow(ctx, tx, b.Debt)
	}
	if _, err := s.releaseIn(ctx, tx, ReleaseRequest{OrgID: n.OrgID, Number: n.ID, Actor: audit.System("numbers"), Reason: "Its rent was not paid"}); err != nil {
		return false, err
	}
	return true, notice.Raise(ctx, tx, notice.Notice{
		OrgID: n.OrgID, Kind: notice.NumberReleased, Subject: n.ID.String(),
		Data: n.figures(map[string]any{"debt_pence": int64(b.Debt)}),
	})
}
