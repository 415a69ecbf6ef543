// Package wallettest holds what every test that moves money ends with, and the organisations it starts with.
package wallettest

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// CheckBooks fails the test for every invariant of the books that does not hold, and for more of another part's.
func CheckBooks(t testing.TB, d *db.DB, more ...wallet.Invariant) {
	t.Helper()
	err := d.InSystemTx(context.Background(), "verify", func(ctx context.Context, tx *db.Tx) error {
		checks, err := wallet.CheckBooks(ctx, tx, more...)
		if err != nil {
			return err
		}
		for _, c := range checks {
			for _, v := range c.Violations {
				t.Errorf("books: %s does not hold: %s", c.Name, v)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("couldn't check the books: %v", err)
	}
}

// Org creates an organisation with an open wallet of the given balance and registers CheckBooks for the test's end.
func Org(t testing.TB, d *db.DB, name string, balance money.Pence) uuid.UUID {
	t.Helper()
	org := bare(t, d, name, balance)
	t.Cleanup(func() { CheckBooks(t, d) })
	return org
}

// Orgs creates n organisations as Org does; the books are checked once for all.
func Orgs(t testing.TB, d *db.DB, n int, balance money.Pence) []uuid.UUID {
	t.Helper()
	orgs := make([]uuid.UUID, n)
	for i := range orgs {
		orgs[i] = bare(t, d, fmt.Sprintf("Organisation %d", i+1), balance)
	}
	t.Cleanup(func() { CheckBooks(t, d) })
	return orgs
}

func bare(t testing.TB, d *db.DB, name string, balance money.Pence) uuid.UUID {
	t.Helper()
	org := uuid.Must(uuid.NewV7())
	err := d.InSystemTx(t.Context(), "a test's organisation", func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`, org, name, tx.Now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := wallet.Open(ctx, tx, org); err != nil || balance == 0 {
			return err
		}
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: org, Kind: wallet.Adjustment, Amount: balance, Reason: "Opening balance", Reference: "opening", Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return org
}
