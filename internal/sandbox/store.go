package sandbox

import (
	"encoding/json"
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

func loadMap[V any](st *store, bucket string, into map[string]*V) error {
	return st.load(bucket, func(key string, value []byte) error {
		v := new(V)
		if err := json.Unmarshal(value, v); err != nil {
			return fmt.Errorf("sandbox: state of %s %s: %w", bucket, key, err)
		}
		into[key] = v
		return nil
	})
}

func loadOne(st *store, bucket string, into any) error {
	return st.load(bucket, func(key string, value []byte) error {
		if err := json.Unmarshal(value, into); err != nil {
			return fmt.Errorf("sandbox: state of %s %s: %w", bucket, key, err)
		}
		return nil
	})
}

// onlyKey is the key of what there is one of.
const onlyKey = "current"

// place names a place in the state file.
type place struct{ bucket, key string }

// changes collects what one change of an owner's state writes and starts. The owner's mutex must be held while it is
// used, until finish has returned.
type changes struct {
	store  *store
	now    time.Time
	writes map[place]any
	keys   []place
	after  []func()
	err    error
}

// put notes a value to be written; it is encoded at the end, so that the last state counts.
func (c *changes) put(bucket, key string, v any) {
	k := place{bucket, key}
	if c.writes == nil {
		c.writes = map[place]any{}
	}
	if _, ok := c.writes[k]; !ok {
		c.keys = append(c.keys, k)
	}
	c.writes[k] = v
}

// remove notes a value to be deleted.
func (c *changes) remove(bucket, key string) { c.put(bucket, key, nil) }

// then arranges for fn to be called once the change is in the state file: deliveries and timers.
func (c *changes) then(fn func()) { c.after = append(c.after, fn) }

// finish encodes the change and hands it to the state file. What it returns must be called after the mutex was
// released: it waits for the file and then calls what then was given.
func (c *changes) finish() func() error {
	writes := make([]write, 0, len(c.keys))
	for _, k := range c.keys {
		if c.writes[k] == nil {
			writes = append(writes, write{bucket: k.bucket, key: k.key})
			continue
		}
		b, err := json.Marshal(c.writes[k])
		if err != nil {
			c.err = err
			continue
		}
		writes = append(writes, write{bucket: k.bucket, key: k.key, value: b})
	}
	var committed <-chan error
	if len(writes) > 0 {
		committed = c.store.submit(writes)
	}
	return func() error {
		if committed != nil {
			if err := <-committed; err != nil {
				return err
			}
		}
		for _, fn := range c.after {
			fn()
		}
		return c.err
	}
}

// keeper is the state of a stand-in that is one mutex and what is written under it.
type keeper struct {
	store *store
	now   func() time.Time
	mu    sync.Mutex
}

// begin starts a change; the mutex must be held until its finish has returned.
func (k *keeper) begin() *changes { return &changes{store: k.store, now: k.now()} }

// change runs fn as one change of the state and waits until it is written. What fn changed before it erred is kept.
func (k *keeper) change(fn func(c *changes) error) error {
	k.mu.Lock()
	c := k.begin()
	err := fn(c)
	done := c.finish()
	k.mu.Unlock()
	if e := done(); e != nil && err == nil {
		err = e
	}
	return err
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
