package db_test

import (
	"context"
	"testing"

	"ringfence/db"
	"ringfence/db/dbtest"
)

// TestMigrationUnderKeptStatements: a statement that a connection keeps prepared is overtaken by a change of its column's
// type; the transaction is run again and gets through.
func TestMigrationUnderKeptStatements(t *testing.T) {
	u := dbtest.URL(t)
	d := dbtest.OpenURL(t, u, nil)
	orgs := tenants(t, u, 1)
	read := func() (name string, tries int) {
		err := d.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
			tries++
			return tx.GetContext(ctx, &name, `SELECT name FROM organizations WHERE id = $1`, orgs[0])
		})
		if err != nil {
			t.Fatal(err)
		}
		return name, tries
	}
	if name, tries := read(); name != "Org 0" || tries != 1 {
		t.Fatalf("%q after %d tries", name, tries)
	}
	dbtest.Super(t, u, `ALTER TABLE organizations ALTER COLUMN name TYPE varchar(200)`)
	if name, tries := read(); name != "Org 0" || tries != 2 {
		t.Errorf("after the migration: %q after %d tries, want 2", name, tries)
	}
}

// TestReadWidelyEndsWithItsTransaction: what may read whole tables says so for itself alone.
func TestReadWidelyEndsWithItsTransaction(t *testing.T) {
	d := dbtest.Open(t, nil)
	for _, wide := range []bool{false, true, false} {
		want := "off force_generic_plan"
		if wide {
			want = "on auto"
		}
		var got string
		err := d.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
			if wide {
				if err := tx.ReadWidely(ctx); err != nil {
					return err
				}
			}
			return tx.GetContext(ctx, &got, `SELECT current_setting('enable_seqscan') || ' ' || current_setting('plan_cache_mode')`)
		})
		if err != nil || got != want {
			t.Errorf("wide %t: %q, %v; want %q", wide, got, err, want)
		}
	}
}
