package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// write is one change of the state file; a nil value deletes the key.
type write struct {
	bucket, key string
	value       []byte
}

// store is the state file. Everything is held in memory by its owners; the file is only read at start.
//
// Writes are committed by one goroutine, all that queued while the last commit ran in one transaction. The file is
// not fsynced: what was committed survives kill -9 of the process (bbolt switches its meta page last), not a power
// cut, and that is enough for a development tool.
type store struct {
	db *bbolt.DB

	mu      sync.Mutex
	pending []write
	waiting []chan error
	closed  bool

	kick chan struct{}
	done chan struct{}
}

var errStoreClosed = errors.New("sandbox: the state file is closed")

// openStore opens or creates the state file, readable by its owner only.
func openStore(path string) (*store, error) {
	if path == "" {
		return nil, errors.New("sandbox: StateFile is not set")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("sandbox: make the state directory: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        2 * time.Second,
		NoSync:         true,
		NoGrowSync:     true,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("sandbox: open state file %s: %w", path, err)
	}
	st := &store{db: db, kick: make(chan struct{}, 1), done: make(chan struct{})}
	go st.run()
	return st, nil
}

// submit queues writes, which become durable together and after everything submitted before. The channel gives the
// outcome of their commit once; nobody has to read it.
func (st *store) submit(writes []write) <-chan error {
	done := make(chan error, 1)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		done <- errStoreClosed
		return done
	}
	st.pending = append(st.pending, writes...)
	st.waiting = append(st.waiting, done)
	select {
	case st.kick <- struct{}{}:
	default: // a commit is already due and will take these along
	}
	return done
}

func (st *store) run() {
	defer close(st.done)
	for range st.kick {
		st.mu.Lock()
		writes, waiting := st.pending, st.waiting
		st.pending, st.waiting = nil, nil
		st.mu.Unlock()
		err := st.commit(writes)
		for _, w := range waiting {
			w <- err
		}
	}
}

func (st *store) commit(writes []write) error {
	if len(writes) == 0 {
		return nil
	}
	return st.db.Update(func(tx *bbolt.Tx) error {
		for _, w := range writes {
			b, err := tx.CreateBucketIfNotExists([]byte(w.bucket))
			if err != nil {
				return err
			}
			if w.value == nil {
				err = b.Delete([]byte(w.key))
			} else {
				err = b.Put([]byte(w.key), w.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// load calls fn for every entry of a bucket in key order. The value is only valid during the call.
func (st *store) load(bucket string, fn func(key string, value []byte) error) error {
	return st.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error { return fn(string(k), v) })
	})
}

// close commits what is queued and closes the file.
func (st *store) close() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	st.mu.Unlock()
	// The channel is never sent to after closed was set, and a kick still in it is drained by run first.
	close(st.kick)
	<-st.done
	err := st.commit(st.pending)
	for _, w := range st.waiting {
		w <- err
	}
	return errors.Join(err, st.db.Close())
}
