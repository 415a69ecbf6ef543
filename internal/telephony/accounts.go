package telephony

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
)

// telephonyAccount is an organisation's: the row whose lock everything takes that changes its credentials, its numbers and
// what points at them.
type telephonyAccount struct {
	OrgID      uuid.UUID      `db:"org_id"`
	Mode       Kind           `db:"mode"`
	Subaccount sql.NullString `db:"subaccount_sid"`
	AskedAt    *time.Time     `db:"asked_at"`
	BusyUntil  *time.Time     `db:"busy_until"`
}

const accountColumns = `org_id, mode, subaccount_sid, asked_at, busy_until`

// lockAccount takes the lock of the organisation's telephony account, and makes the account where there is none. Whoever
// needs the wallet's lock too takes that one first.
func lockAccount(ctx context.Context, tx *db.Tx, org uuid.UUID) (a telephonyAccount, err error) {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO telephony_accounts (org_id, created_at, updated_at) VALUES ($1, $2, $2) ON CONFLICT (org_id) DO NOTHING`, org, tx.Now); err != nil {
		return a, fmt.Errorf("couldn't make the telephony account: %w", err)
	}
	if err := tx.GetContext(ctx, &a, `SELECT `+accountColumns+` FROM telephony_accounts WHERE org_id = $1 FOR NO KEY UPDATE`, org); err != nil {
		return a, fmt.Errorf("couldn't lock the telephony account: %w", err)
	}
	return a, nil
}
