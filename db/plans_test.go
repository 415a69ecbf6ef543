package db_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
)

// However large the tables: what runs often is planned for the rows that it finds by index, without helpers and without
// being compiled; what looks at everything may use all of that, and only for its own transaction.
func TestPlansAreForFewRows(t *testing.T) {
	d := dbtest.OpenURL(t, dbtest.URL(t), nil)
	settings := func(tx *db.Tx) (got string) {
		t.Helper()
		if err := tx.GetContext(t.Context(), &got, `
			SELECT concat_ws(' ', current_setting('plan_cache_mode'), current_setting('enable_seqscan'), current_setting('max_parallel_workers_per_gather'), current_setting('jit'))`); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for range 2 {
		err := d.InReadTx(t.Context(), []uuid.UUID{uuid.New()}, func(ctx context.Context, tx *db.Tx) error {
			if got := settings(tx); got != "force_generic_plan off 0 off" {
				t.Errorf("often: %s", got)
			}
			if err := tx.ReadWidely(ctx); err != nil {
				return err
			}
			if got := settings(tx); got != "auto on 2 on" {
				t.Errorf("widely: %s", got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
