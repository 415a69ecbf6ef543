//go:build drill

package wallet_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/wallet/wallettest"
)

// TestStuckWallet: a process that hangs while it has a wallet's lock stops nobody but that wallet. It takes as long as the
// database waits for a lock.
func TestStuckWallet(t *testing.T) {
	d := newDesk(t)
	hung := d.another()
	orgs := wallettest.Orgs(t, d.db, 3, 1_00)
	locked, let, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- hung.db.InTx(t.Context(), orgs[:1], func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT FROM wallets WHERE org_id = $1 FOR UPDATE`, orgs[0])
			close(locked)
			<-let
			return err
		})
	}()
	<-locked
	results, err := d.gates.Together(t.Context(), d.text(orgs[0], "a", 1), d.text(orgs[1], "b", 1), d.text(orgs[0], "c", 1), d.text(orgs[2], "d", 1))
	if err != nil {
		t.Fatal(err)
	}
	for i, stuck := range []bool{true, false, true, false} {
		if (results[i].Err != nil) != stuck {
			t.Errorf("%d: %v", i, results[i].Err)
		}
	}
	close(let)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for i, held := range map[int]uuid.UUID{0: orgs[0], 1: orgs[1]} {
		d.authorise(d.text(held, "after", 1))
		if b := d.balance(held); int(b.Held) != 10+10*i {
			t.Errorf("%d: %s is held", i, b.Held)
		}
	}
}
