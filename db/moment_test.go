package db_test

import (
	"context"
	"errors"
	"testing"

	"ringfence/db"
	"ringfence/db/dbtest"
)

// Reads below a moment are of one transaction, whoever changes something in between. One that fails is the only one that does;
// what stands for itself (other organisations, system transactions, writing) goes its own way.
func TestOneMoment(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 2)
	read := func(ctx context.Context, org int) (tx string, held int) {
		t.Helper()
		var row struct {
			Tx   string `db:"tx"`
			Held int    `db:"held"`
		}
		err := d.InReadTx(ctx, orgs[org:org+1], func(ctx context.Context, tx *db.Tx) error {
			return tx.GetContext(ctx, &row, `SELECT pg_backend_pid() || ' ' || now() AS tx, sum(held_pence) AS held FROM wallets WHERE true OR $1`, true)
		})
		if err != nil {
			t.Fatal(err)
		}
		return row.Tx, row.Held
	}
	change := func() {
		dbtest.Super(t, u, `UPDATE wallets SET held_pence = held_pence + 1, balance_pence = balance_pence + 1`)
	}
	fails := func(ctx context.Context) error {
		return d.InReadTx(ctx, orgs[:1], func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT 1 / $1::int`, 0)
			return err
		})
	}
	err := d.InOneMoment(t.Context(), orgs[:1], func(ctx context.Context) error {
		tx, held := read(ctx, 0)
		change()
		if again, now := read(ctx, 0); again != tx || now != held {
			t.Errorf("the second read was of %s with %d, the first of %s with %d", again, now, tx, held)
		}
		if other, now := read(ctx, 1); other == tx || now != held+1 {
			t.Errorf("another organisation was read in %s with %d", other, now)
		}
		err := d.InSystemTx(ctx, "a test", func(ctx context.Context, tx *db.Tx) error {
			var role string
			err := tx.GetContext(ctx, &role, `SELECT current_user || coalesce(current_setting('app.org_ids', true), '')`)
			if role != db.RoleSystem {
				t.Errorf("a system transaction is one of %s", role)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if _, now := read(ctx, 0); now != held {
			t.Errorf("after others the moment has %d", now)
		}
		if err := fails(ctx); err == nil {
			t.Error("nothing failed")
		}
		if after, now := read(ctx, 0); after == tx || now != held+1 {
			t.Errorf("after a failure: %s with %d", after, now)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	// Whoever reads whole tables keeps the means for that to itself.
	err = d.InOneMoment(t.Context(), orgs[:1], func(ctx context.Context) error {
		if err := d.InReadTx(ctx, orgs[:1], func(ctx context.Context, tx *db.Tx) error { return tx.ReadWidely(ctx) }); err != nil {
			return err
		}
		var scans string
		err := d.InReadTx(ctx, orgs[:1], func(ctx context.Context, tx *db.Tx) error { return tx.GetContext(ctx, &scans, `SHOW enable_seqscan`) })
		if scans != "off" {
			t.Errorf("whole tables are read: %s", scans)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	mine := errors.New("mine")
	if err := d.InOneMoment(t.Context(), orgs[:1], func(context.Context) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the caller's error became %v", err)
	}
	if err := d.InOneMoment(t.Context(), nil, func(context.Context) error { return nil }); err == nil {
		t.Error("a moment without organisations was given")
	}
}
