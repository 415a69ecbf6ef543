package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ringfence/db"
	"ringfence/internal/fault"
)

// tries is how often something may be tried in a Window by one subject, such as "sign-up:<address>".
type tries struct {
	subject string
	most    int
}

// countTries counts a try for each of the subjects, whatever comes of it, or refuses it as TooMany when one of them has had
// its share: too is the sentence's beginning, such as "Too many sign-ups from your network.". What is refused counts for
// nobody. It is a transaction of its own, so that what fails afterwards was tried all the same.
func (a *Auth) countTries(ctx context.Context, too string, limits ...tries) error {
	subjects := make([][]byte, len(limits))
	locks := make([]int64, len(limits))
	for i, l := range limits {
		subjects[i] = subject(l.subject)
		locks[i] = lockKey(subjects[i])
	}
	slices.Sort(locks)
	return a.db.InSystemTx(ctx, "how often something is tried", func(ctx context.Context, tx *db.Tx) error {
		for _, key := range locks {
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, key); err != nil {
				return fmt.Errorf("couldn't lock the limit: %w", err)
			}
		}
		var wait time.Duration
		for i, l := range limits {
			full, err := a.fullUntil(ctx, tx, subjects[i], l.most)
			if err != nil {
				return err
			}
			wait = max(wait, full.Sub(tx.Now))
		}
		if wait > 0 {
			return &fault.Error{Kind: fault.TooMany, RetryAfter: wait, Public: too + " Wait " + minutes(wait) + " and try again."}
		}
		for _, s := range subjects {
			if _, err := tx.ExecContext(ctx, `INSERT INTO login_failures (subject, at) VALUES ($1, $2)`, s, tx.Now); err != nil {
				return fmt.Errorf("couldn't count the try: %w", err)
			}
		}
		return nil
	})
}
