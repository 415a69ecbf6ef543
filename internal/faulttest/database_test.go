package faulttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// back is how soon the program must take events again once its database does, without a restart of ours.
const back = 30 * time.Second

// TestDatabaseStops stops PostgreSQL under load as a power cut would, and starts it again.
func TestDatabaseStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.web(), w.web()
	worker := w.worker()
	s, ctx := newSender(), within(t, longest)
	events := w.payments(600)
	var wg sync.WaitGroup
	wg.Go(func() { s.all(ctx, events, 12, one.base(), two.base()) })
	until(t, "a third to be acknowledged", func() bool { return len(s.acknowledged()) > len(events)/3 })
	if err := w.pg.stop(immediate); err != nil {
		t.Fatal(err)
	}
	until(t, "refusals", func() bool { return s.refused(503) > 20 && !answers(one.base()+"/readyz") })
	before, refused := len(s.acknowledged()), s.refused(503) // what was stored before has been heard of by now
	if !answers(one.base() + "/healthz") {
		t.Error("without its database the process calls itself dead, and would be restarted for nothing")
	}
	until(t, "more refusals", func() bool { return s.refused(503) > refused+20 })
	if n := len(s.acknowledged()); n != before {
		t.Errorf("%d events were acknowledged without a database", n-before)
	}
	if err := w.pg.start(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	w.kept(s.acknowledged())
	for _, web := range []*process{one, two} {
		until(t, "the server to be ready again", func() bool { return answers(web.base() + "/readyz") })
	}
	if took := time.Since(started); took > back {
		t.Errorf("it took %s to be ready again", took)
	}
	wg.Wait()
	w.settled(s, events)
	if !one.runs() || !two.runs() || !worker.runs() {
		t.Error("a process ended over it")
	}
	t.Logf("%s; ready again after %s, longest time without a 2xx %s", s.outcome(), time.Since(started).Round(time.Millisecond), s.gap.Round(time.Millisecond))
}

// follow gives the world a synchronous standby, and its processes both addresses.
func (w *world) follow() (standby *cluster) {
	w.t.Helper()
	standby, err := w.pg.standby()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { standby.remove(w.t) })
	if err := standby.start(); err != nil {
		w.t.Fatal(err)
	}
	w.alter(`ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
	w.alter(`SELECT pg_reload_conf()`)
	until(w.t, "the standby to be synchronous", func() bool {
		return w.number(`SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 1
	})
	// The standby first: whoever takes the first that answers would be on the wrong machine.
	w.databaseURL = "postgres://ringfence@" + standby.addr + "," + w.pg.addr + "/ringfence?sslmode=disable"
	return standby
}

// failOver ends the primary as a power cut would and makes the standby the primary, which it is from then on to w.
func (w *world) failOver(standby *cluster) {
	w.t.Helper()
	if err := w.pg.stop(immediate); err != nil {
		w.t.Fatal(err)
	}
	if err := standby.sql(w.t.Context(), "postgres", `SELECT pg_promote()`); err != nil {
		w.t.Fatal(err)
	}
	w.pg = standby
}

// TestFailOver loses the primary under load. Every 2xx is on the machine that takes over, and the processes follow it.
func TestFailOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	standby := w.follow()
	one, two := w.web(), w.web()
	worker := w.worker()
	s, ctx := newSender(), within(t, 2*longest)
	events := w.payments(600)
	var wg sync.WaitGroup
	wg.Go(func() { s.all(ctx, events, 12, one.base(), two.base()) })
	until(t, "a third to be acknowledged", func() bool { return len(s.acknowledged()) > len(events)/3 })
	w.failOver(standby)
	promoted := time.Now()
	w.kept(s.acknowledged())
	wg.Wait()
	w.settled(s, events)
	if s.gap > back {
		t.Errorf("for %s nothing was acknowledged", s.gap)
	}
	if !one.runs() || !two.runs() || !worker.runs() {
		t.Error("a process ended over it")
	}
	until(t, "a worker to listen on the new primary", func() bool {
		return w.number(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ringfence listener'`) > 0
	})
	t.Logf("%s; settled %s after the promotion, longest time without a 2xx %s",
		s.outcome(), time.Since(promoted).Round(time.Millisecond), s.gap.Round(time.Millisecond))
}

// TestLostCommitReplies puts a proxy before the database that now and then loses the connection over a COMMIT, before it
// is delivered or after, to servers and workers alike. Nobody can know then whether the transaction happened, and it
// must count once.
func TestLostCommitReplies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy := w.losesReplies(seeded(t))
	web, _ := w.web(), w.worker()
	s, ctx := newSender(), within(t, longest)
	events := w.payments(400)
	proxy.lose(10)
	s.all(ctx, events, 8, web.base())
	until(t, "most credits", func() bool { return w.credited(events) > len(events)*9/10 })
	lost := proxy.lose(0)
	if lost < 3 {
		t.Errorf("only %d connections were lost", lost)
	}
	w.settled(s, events)
	t.Logf("%d connections were lost over a COMMIT; %s", lost, s.outcome())
}

// proxy passes the PostgreSQL protocol on and loses COMMITs and the replies to them.
type proxy struct {
	mu      sync.Mutex
	rng     *rand.Rand
	percent int
	lost    int
}

// lose sets over how many of a hundred COMMITs the connection is lost, and says over how many it was.
func (p *proxy) lose(percent int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.percent = percent
	return p.lost
}

// unlucky says whether to lose the connection now, and whether only the reply.
func (p *proxy) unlucky() (lose, deliver bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.IntN(100) >= p.percent {
		return false, true
	}
	p.lost++
	return true, p.rng.IntN(2) == 0
}

// losesReplies puts the proxy between the database and the processes that are yet to start.
func (w *world) losesReplies(rng *rand.Rand) *proxy {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	p := &proxy{rng: rng}
	target := w.pg.addr
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go p.pass(client, target)
		}
	}()
	w.databaseURL = "postgres://ringfence@" + l.Addr().String() + "/ringfence?sslmode=disable"
	return p
}

// commit is the message that ends a transaction: a simple query.
var commit = func() []byte {
	m := []byte("Q....COMMIT\x00")
	binary.BigEndian.PutUint32(m[1:], uint32(len(m)-1))
	return m
}()

// pass serves one connection. lib/pq sends COMMIT alone and waits, so it stands at the end of what was read.
func (p *proxy) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	doomed := make(chan struct{})
	go func() {
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if bytes.HasSuffix(buf[:n], commit) {
				if lose, deliver := p.unlucky(); lose {
					close(doomed) // before it is delivered: its answer must find the way closed
					if deliver {
						_, _ = server.Write(buf[:n])
						_, _ = server.Read(buf) // it answers when it is done
					}
					return
				}
			}
			if err != nil {
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		select {
		case <-doomed:
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestTableFull: the database has no room for an event. It says so for the statement and lives on.
func TestTableFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, _ := w.web(), w.worker()
	s, ctx := newSender(), within(t, longest)
	events := w.payments(60)
	s.all(ctx, events[:20], 4, web.base())
	w.alter(`
		CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
		CREATE TRIGGER no_room BEFORE INSERT ON stripe_events EXECUTE FUNCTION no_room()`)
	s.once(ctx, events[20:], 4, web.base())
	if n := s.refused(503); n != 40 {
		t.Errorf("%s; want 503 ×40", s.outcome())
	}
	if n := len(w.kept(s.acknowledged())); n != 20 {
		t.Errorf("%d events are stored, want 20", n)
	}
	w.alter(`DROP FUNCTION no_room CASCADE`)
	s.all(ctx, events, 4, web.base())
	w.settled(s, events)
}

// TestWALFull: the disk that holds PostgreSQL's write-ahead log is full. PostgreSQL goes down over it, by design; when
// there is room again it is started by whoever looks after it, and everything that was acknowledged is there.
//
// It takes a file system of its own, which only root may mount. Where that is refused, the write-ahead log is moved to
// where nothing can be written at all.
func TestWALFull(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := w.smallDisk()
	if err := w.pg.start(); err != nil {
		t.Fatal(err)
	}
	web, _ := w.web(), w.worker()
	s, ctx := newSender(), within(t, longest)
	events := w.payments(700)
	healthy, rest := events[:60], events[60:]
	s.all(ctx, healthy, 8, web.base())

	disk.fill()
	until(t, "the database to run out of room", func() bool {
		if len(rest) > 0 {
			n := min(20, len(rest))
			s.once(ctx, rest[:n], 4, web.base())
			rest = rest[n:]
		}
		return s.refused(503) > 0
	})
	until(t, "PostgreSQL to give up, or to go on", func() bool {
		s.once(ctx, events[:4], 4, web.base())
		return !w.pg.runs() || w.pg.sql(ctx, "ringfence", `SELECT 1`) == nil
	})
	acked := s.acknowledged()
	disk.free()
	if err := w.pg.stop(immediate); err != nil {
		t.Fatal(err)
	}
	if err := w.pg.start(); err != nil {
		t.Fatal(err)
	}
	w.kept(acked)
	web.ready()
	s.all(ctx, events, 8, web.base())
	w.settled(s, events)
	t.Logf("%s: %s", disk.kind, s.outcome())
}

// smallDisk is the file system of a write-ahead log.
type smallDisk struct {
	w    *world
	dir  string
	kind string
}

// diskSize leaves room for the log of a quiet start.
const diskSize = 24 << 20

// smallDisk gives the write-ahead log of the world's cluster, which does not run, a small file system.
func (w *world) smallDisk() *smallDisk {
	w.t.Helper()
	wal := filepath.Join(w.pg.data(), "pg_wal")
	d := &smallDisk{w: w, dir: wal, kind: "a directory that cannot be written"}
	kept := wal + ".kept"
	if err := errors.Join(os.Rename(wal, kept), os.Mkdir(wal, 0o700)); err != nil {
		w.t.Fatal(err)
	}
	if err := mountSmall(wal, diskSize); err == nil {
		d.kind = fmt.Sprintf("a disk of %d MiB", diskSize>>20)
		w.t.Cleanup(func() {
			if err := errors.Join(w.pg.stop(immediate), unmount(wal)); err != nil {
				w.t.Error(err)
			}
		})
	} else {
		w.t.Logf("no file system of its own: %v", err)
	}
	if err := copyInto(wal, kept); err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (d *smallDisk) mounted() bool { return d.kind[:6] == "a disk" }

// fill leaves less room than one segment of the log needs.
func (d *smallDisk) fill() {
	d.w.t.Helper()
	if !d.mounted() {
		// The log's directory takes no new file, as a full disk would not; every switch needs one.
		if err := os.Chmod(d.dir, 0o500); err != nil {
			d.w.t.Fatal(err)
		}
	} else {
		f, err := os.Create(filepath.Join(d.dir, "filler"))
		if err != nil {
			d.w.t.Fatal(err)
		}
		if _, err := io.CopyN(f, zeros{}, diskSize); err == nil {
			d.w.t.Fatal("the disk cannot be filled")
		}
		if err := f.Close(); err != nil {
			d.w.t.Fatal(err)
		}
	}
	// Use up the segments that are there already.
	for range 64 {
		if d.w.pg.sql(d.w.t.Context(), "ringfence", `SELECT txid_current(); SELECT pg_switch_wal()`) != nil {
			return
		}
	}
}

// free makes room again.
func (d *smallDisk) free() {
	d.w.t.Helper()
	err := os.Chmod(d.dir, 0o700)
	if d.mounted() {
		err = errors.Join(err, os.Remove(filepath.Join(d.dir, "filler")))
	}
	if err != nil {
		d.w.t.Fatal(err)
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// copyInto moves the files of one directory into another, which may be on another disk, keeping their owner.
func copyInto(to, from string) error {
	if out, err := command("cp", "-a", from+"/.", to+"/"); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	return os.RemoveAll(from)
}
