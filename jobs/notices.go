package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"ringfence/internal/notice"
)

const (
	// noticesEvery is how often it is looked for what people are to be told.
	noticesEvery = 5 * time.Second
	// noticesTimeout bounds one round, in which a mail server that does not answer is waited for.
	noticesTimeout = 5 * time.Minute
	// queueNotices holds nothing else: no other work waits for a mail server.
	queueNotices = "notices"
)

// noticesArgs is the periodic job that tells people what happened.
type noticesArgs struct{}

// Kind is the job's name in the queue.
func (noticesArgs) Kind() string { return "notices" }

// InsertOpts has one of them in a period, whatever becomes of it: the next one does what it left undone.
func (noticesArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueNotices, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: noticesEvery}}
}

type notices struct {
	river.WorkerDefaults[noticesArgs]
	notices *notice.Service
}

// Timeout leaves room for a mail server that is slow.
func (*notices) Timeout(*river.Job[noticesArgs]) time.Duration { return noticesTimeout }

// Work makes one round.
func (w *notices) Work(ctx context.Context, _ *river.Job[noticesArgs]) error {
	return w.notices.Work(ctx)
}
