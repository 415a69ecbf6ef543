package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
)

// resealMost is how many credentials one look takes up.
const resealMost = 100

// Resealed says what sealing everything under the newest key has come to.
type Resealed struct {
	// Now is how many were sealed anew by this call, Before how many had been already.
	Now, Before int
	// Stuck are those that no key of ours opens; they stay as they are.
	Stuck []uuid.UUID
}

// Reseal seals every credential under the keyset's primary key. It is safe to repeat, to interrupt and to run beside
// everything else: each credential is a commit of its own, under the lock that saving one takes. When nothing is stuck the
// older keys have nothing left to open.
func (v *Vault) Reseal(ctx context.Context, d *db.DB, actor audit.Actor) (r Resealed, err error) {
	last := uuid.Nil
	for ctx.Err() == nil {
		var due []struct {
			ID    uuid.UUID `db:"id"`
			OrgID uuid.UUID `db:"org_id"`
		}
		err := d.InSystemTx(ctx, "credentials under older keys, of every organisation", func(ctx context.Context, tx *db.Tx) error {
			due = nil
			if err := tx.ReadWidely(ctx); err != nil {
				return err
			}
			if err := tx.GetContext(ctx, &r.Before, `SELECT count(*) FROM credentials WHERE key_id = $1`, int64(v.primary)); err != nil {
				return err
			}
			return tx.SelectContext(ctx, &due, `
				SELECT id, org_id FROM credentials WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3`, int64(v.primary), last, resealMost)
		})
		r.Before -= r.Now
		if err != nil || len(due) == 0 {
			return r, err
		}
		for _, c := range due {
			last = c.ID
			switch err := v.reseal(ctx, d, c.OrgID, c.ID, actor); {
			case errors.Is(err, errUnsealed):
				r.Stuck = append(r.Stuck, c.ID)
			case err != nil:
				return r, err
			default:
				r.Now++
			}
		}
	}
	return r, ctx.Err()
}

func (v *Vault) reseal(ctx context.Context, d *db.DB, org, id uuid.UUID, actor audit.Actor) error {
	return d.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		var c Credential
		err := tx.GetContext(ctx, &c, `SELECT `+vaultColumns+` FROM credentials WHERE id = $1`, id)
		if errors.Is(err, sql.ErrNoRows) || err == nil && c.KeyID == int64(v.primary) {
			return nil // it was removed or replaced meanwhile
		}
		if err != nil {
			return fmt.Errorf("couldn't read the credential: %w", err)
		}
		a, err := c.open(v)
		if err != nil {
			return err
		}
		if c.Sealed, c.KeyID, err = v.seal(a.token, c.OrgID, c.Provider, c.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE credentials SET sealed = $2, key_id = $3, updated_at = $4 WHERE id = $1`, id, c.Sealed, c.KeyID, tx.Now); err != nil {
			return fmt.Errorf("couldn't seal the credential anew: %w", err)
		}
		return c.record(ctx, tx, "credential.resealed", actor, "")
	})
}
