package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/payments"
)

const (
	// autoTopUpEvery is how often wallets that have run low are looked for.
	autoTopUpEvery = 5 * time.Second
	// autoTopUpTimeout bounds one round, in which a Stripe that does not answer is waited for.
	autoTopUpTimeout = 5 * time.Minute
	// queueAutoTopUps holds nothing else: no other work waits for Stripe, and one round at a time is enough.
	queueAutoTopUps = "auto_top_ups"
)

// autoTopUpArgs is the periodic job that keeps cards and charges them where wallets have run low.
type autoTopUpArgs struct{}

// Kind is the job's name in the queue.
func (autoTopUpArgs) Kind() string { return "auto_top_ups" }

// InsertOpts has one of them in a period, whatever becomes of it: the next one does what it left undone.
func (autoTopUpArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueAutoTopUps, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: autoTopUpEvery}}
}

type autoTopUp struct {
	river.WorkerDefaults[autoTopUpArgs]
	payments *payments.Service
}

// Timeout leaves room for a Stripe that is slow.
func (*autoTopUp) Timeout(*river.Job[autoTopUpArgs]) time.Duration { return autoTopUpTimeout }

// Work makes one round. The cards come first: one that was just saved may be what a wallet waits for.
func (w *autoTopUp) Work(ctx context.Context, _ *river.Job[autoTopUpArgs]) error {
	cards := w.payments.SweepCards(ctx)
	_, err := w.payments.TopUpAutomatically(ctx)
	return errors.Join(cards, err)
}
