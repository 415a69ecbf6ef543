package wallet_test

import (
	"context"
	"path/filepath"
	"testing"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// TestCrowd: two processes decide about 64 wallets at a time, and credit as many, in whatever order. Nobody waits in a ring,
// and not a penny is spent that is not there, nor kept from who may spend it.
func TestCrowd(t *testing.T) {
	const (
		wallets  = 64
		opening  = money.Pence(20)
		payments = 10 // of each wallet, a penny each
		requests = 50 * wallets
	)
	pageName := filepath.Join(t.TempDir(), "page")
	page, err := openPage(pageName)
	if err != nil {
		t.Fatal(err)
	}
	url, now := dbtest.URL(t), page.clock(0)
	own := dbtest.OpenURL(t, url, now)
	d := desk{fixture{t, own, url}, nil, newGates(t, own, now)}
	orgs := wallettest.Orgs(t, own, wallets, opening)
	planted := d.plant(payments*wallets, orgs, func(int) money.Pence { return 1 })
	var workers []*process
	for _, name := range []string{"one", "two"} {
		workers = append(workers, start(t, job{
			URL: url, Page: pageName, Name: name, Callers: 256, Orgs: orgs, Payments: planted, Crowd: requests,
		}))
	}
	passed := 0
	for _, p := range workers {
		p.finish()
		for _, e := range p.entries() {
			passed += int(e.Ticket)
		}
	}
	until(t, "the processes' connections to end", func() bool {
		return d.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'ringfence %'`) <=
			own.Stats()["app"].OpenConnections+own.Stats()["system"].OpenConnections
	})
	if n := d.number(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n != 0 {
		t.Errorf("%d deadlocks", n)
	}

	// What is left can be spent to the last penny.
	err = own.InTx(t.Context(), orgs, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.CreditPayments(ctx, tx, planted)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	during := passed
	for i, org := range orgs {
		b := d.balance(org)
		if b.Available() < 0 || b.Balance > opening+payments {
			t.Fatalf("wallet %d: %+v", i, b)
		}
		r := d.search(org, "the rest", int64(b.Available()))
		if r.Quantity > 0 {
			d.authorise(r)
			passed += int(r.Quantity)
		}
		_, err := d.gates.Authorise(t.Context(), d.search(org, "more", 1))
		wantFault(t, "a penny more", err, fault.Unpaid, "insufficient_funds")
	}
	if want := wallets * int(opening+payments); passed != want {
		t.Errorf("%d pence were allowed of %d", passed, want)
	}
	t.Logf("%d of %d requests passed, and %d pence afterwards", during, requests, passed-during)
}
