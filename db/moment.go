package db

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
)

// moment is a transaction that several reads take part in, one after the other.
type moment struct {
	d  *DB
	tx *Tx
	// spoiled says that a read of it has failed, after which Postgres answers nothing more in it.
	spoiled bool
}

type momentKey struct{}

// errSpoiled has a moment rolled back in which a read failed that its caller could do without.
var errSpoiled = errors.New("a read of this moment has failed")

// InOneMoment has everything that fn reads by [DB.InReadTx] of the same organisations, however deep below it, take part in one
// transaction: the figures of a page agree with each other, and each read costs two round trips less. fn must read with the
// context that it is given, one after the other and not in several goroutines, and must not wait for anything else meanwhile:
// it keeps a connection.
//
// A read that fails ends the moment, since Postgres answers nothing more in a transaction after an error. Those that come
// after it have transactions of their own, so a page can do without one of its parts as ever. An error of fn comes back
// as it is. fn may run several times, as in [DB.InTx].
func (d *DB) InOneMoment(ctx context.Context, orgs []uuid.UUID, fn func(ctx context.Context) error) error {
	if len(orgs) == 0 {
		return errors.New("a moment must name its organisations")
	}
	err := d.run(ctx, d.app, true, orgs, func(ctx context.Context, tx *Tx) error {
		m := &moment{d: d, tx: tx}
		if err := fn(context.WithValue(ctx, momentKey{}, m)); err != nil {
			return err
		}
		if m.spoiled {
			return errSpoiled
		}
		return nil
	})
	if errors.Is(err, errSpoiled) { // what fn made of it counts
		return nil
	}
	return err
}

// inMoment runs a read within the context's moment, where there is one of exactly these organisations that goes on. done is
// false where there is none, or where the read asks for another try.
func (d *DB) inMoment(ctx context.Context, orgs []uuid.UUID, fn func(ctx context.Context, tx *Tx) error) (done bool, err error) {
	m, ok := ctx.Value(momentKey{}).(*moment)
	if !ok || m.d != d || m.spoiled || !slices.Equal(m.tx.Orgs, sortedUnique(orgs)) {
		return false, nil
	}
	err = fn(ctx, m.tx)
	// One that may read whole tables keeps that to itself, as far as those after it are concerned.
	m.spoiled = err != nil || m.tx.widely
	return !retryable(err), err
}
