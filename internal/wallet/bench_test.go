package wallet_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// BenchmarkAuthorise decides for 64 callers at once, in this process: `go test -run - -bench Authorise ./internal/wallet`.
// The database of tests does not wait for the disk; see docs/decisions for figures with fsync.
func BenchmarkAuthorise(b *testing.B) {
	for _, c := range []struct {
		name    string
		wallets int
		atOnce  bool
	}{{"hot", 1, false}, {"hot-captured", 1, true}, {"wallets-1000", 1000, false}, {"wallets-1000-captured", 1000, true}} {
		b.Run(c.name, func(b *testing.B) {
			d := dbtest.Open(b, time.Now)
			orgs := wallettest.Orgs(b, d, c.wallets, wallet.AdjustmentLimit)
			gates := newGates(b, d, time.Now)
			var n atomic.Int64
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					_, err := gates.Authorise(context.Background(), wallet.HoldRequest{
						OrgID: orgs[int(i)%len(orgs)], Action: wallet.ActionKnowledge, Quantity: 1, Source: wallet.SourceAPI, AtOnce: c.atOnce,
						Key: fmt.Sprintf("bench-%d", i), Actor: audit.System("bench"),
					})
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

func newGates(t testing.TB, d *db.DB, now func() time.Time) *wallet.Gates {
	t.Helper()
	err := d.InSystemTx(t.Context(), "a test's exchange rate", func(ctx context.Context, tx *db.Tx) error {
		rate, err := money.ParseRate("0.79")
		if err != nil {
			return err
		}
		return wallet.FirstRate(ctx, tx, rate)
	})
	if err != nil {
		t.Fatal(err)
	}
	return wallet.NewGates(wallet.GateOptions{DB: d, Now: now, Log: slog.New(slog.DiscardHandler)})
}
