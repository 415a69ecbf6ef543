package wallet_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// line is the way to a database that can be cut.
type line struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	// plan is what becomes of the next COMMITs, in their order.
	plan []fate
}

// fate is what becomes of a COMMIT.
type fate int

const (
	passed    fate = iota
	unheard        // the connection is lost before it is delivered
	unreplied      // it is done, and the connection is lost before the reply
)

// overLine is the desk's database seen over a line.
func (d desk) overLine() (desk, *line) {
	d.t.Helper()
	target, err := url.Parse(d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	q := target.Query()
	socket := q.Get("host") + "/.s.PGSQL." + cmp.Or(q.Get("port"), "5432")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { listener.Close() })
	l := &line{conns: map[net.Conn]bool{}}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			go l.pass(client, socket)
		}
	}()
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	over := &url.URL{Scheme: "postgres", User: target.User, Host: listener.Addr().String(), Path: target.Path, RawQuery: q.Encode()}
	d.db = dbtest.OpenURL(d.t, over.String(), d.clock.Now)
	d.gates = newGates(d.t, d.db, d.clock.Now)
	d.tariff() // it is remembered, so that the next COMMIT is a round's
	return d, l
}

// next says what becomes of the next COMMITs.
func (l *line) next(plan ...fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = plan
}

// left is how many COMMITs that were planned for have not come.
func (l *line) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.plan)
}

// setCut cuts the line and whatever goes over it, or mends it.
func (l *line) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for c := range l.conns {
			c.Close()
		}
	}
}

// takes notes a connection, unless the line is cut.
func (l *line) takes(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.conns[c] = true
	}
	return !l.cut
}

func (l *line) fate() fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.plan) == 0 {
		return passed
	}
	f := l.plan[0]
	l.plan = l.plan[1:]
	return f
}

// commit is the message that ends a transaction: a simple query. lib/pq sends it alone and waits.
var commit = func() []byte {
	m := []byte("Q....COMMIT\x00")
	binary.BigEndian.PutUint32(m[1:], uint32(len(m)-1))
	return m
}()

// pass serves one connection.
func (l *line) pass(client net.Conn, socket string) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	if !l.takes(client) {
		return
	}
	doomed := make(chan struct{})
	go func() {
		defer server.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if bytes.HasSuffix(buf[:n], commit) {
				switch l.fate() {
				case passed:
				case unheard:
					return
				case unreplied:
					close(doomed) // before it is delivered: its answer must find the way closed
					_, _ = server.Write(buf[:n])
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

// TestLostCommitReplies: when nobody knows whether a commit happened, the gates find out, and it counts once.
func TestLostCommitReplies(t *testing.T) {
	direct := newDesk(t)
	d, l := direct.overLine()
	for name, lost := range map[string]fate{"the reply": unreplied, "the commit": unheard} {
		t.Run(name, func(t *testing.T) {
			d, direct := d, direct
			d.t, direct.t = t, t
			org := wallettest.Org(t, direct.db, name, 10_00)
			want := func(what string, balance, held money.Pence) {
				t.Helper()
				if n := l.left(); n != 0 {
					t.Fatalf("%s: %d commits did not come", what, n)
				}
				if b := direct.balance(org); b.Balance != balance || b.Held != held {
					t.Errorf("%s: balance %s, held %s; want %s and %s", what, b.Balance, b.Held, balance, held)
				}
			}
			l.next(lost)
			h := d.authorise(d.text(org, "key", 10))
			want("authorised", 10_00, 1_00)
			if h.State != wallet.HoldOpen || h.Amount != 1_00 || h.AsMade().Amount != 1_00 || direct.hold(org, h.ID).Key != "key" {
				t.Errorf("authorised %+v", h)
			}
			l.next(lost)
			atOnce := d.text(org, "at once", 2)
			atOnce.AtOnce = true
			if h := d.authorise(atOnce); h.State != wallet.HoldCaptured || h.Amount != 20 {
				t.Errorf("at once: %+v", h)
			}
			want("captured at once", 9_80, 1_00)
			l.next(lost)
			if got := d.outcome("extend 120", h, false); got != "open 120" {
				t.Errorf("extended: %s", got)
			}
			want("extended", 9_80, 1_20)
			l.next(lost)
			if got := d.outcome("capture 110", h, false); got != "captured 110" && got != "captured 110 again" {
				t.Errorf("captured: %s", got)
			}
			want("captured", 8_70, 0)
			v := d.authorise(d.text(org, "void", 1))
			l.next(lost)
			if got := d.outcome("void", v, false); got != "void 0" && got != "void 0 again" {
				t.Errorf("voided: %s", got)
			}
			want("voided", 8_70, 0)
			d.authorise(d.text(org, "expires", 3))
			d.clock.Advance(15 * time.Minute)
			d.tariff()
			l.next(passed, lost) // the first is the look at what is due
			if _, err := d.gates.Expire(t.Context()); err != nil {
				t.Error(err)
			}
			want("expired", 8_70, 0)
			// A whole round, in which each refusal and conflict stays one.
			l.next(lost)
			results, err := d.gates.Together(t.Context(), d.text(org, "a", 50), d.text(org, "b", 40), d.text(org, "a", 50), d.text(org, "a", 51), d.text(org, "c", 37))
			if err != nil {
				t.Fatal(err)
			}
			want("a round", 8_70, 8_70)
			a, b, again, other, c := results[0], results[1], results[2], results[3], results[4]
			if a.Err != nil || again.Err != nil || c.Err != nil || a.Value.ID != again.Value.ID || c.Value.Amount != 3_70 {
				t.Errorf("%+v, %+v, %+v", a, again, c)
			}
			wantFault(t, "too much", b.Err, fault.Unpaid, "insufficient_funds")
			wantFault(t, "another request", other.Err, fault.Conflict, "idempotency_key_reused")
			d.outcome("void", a.Value, false)
			d.outcome("void", c.Value, false)

			// Lost again and again, it is not known; the key tells.
			l.next(lost, lost)
			_, err = d.gates.Authorise(t.Context(), d.text(org, "unknown", 1))
			wantFault(t, "lost twice", err, fault.Unavailable, "undecided")
			if h := d.authorise(d.text(org, "unknown", 1)); h.Repeated != (lost == unreplied) {
				t.Errorf("%s was lost twice, and then: %+v", name, h)
			}
			want("known", 8_70, 10)
		})
	}
}

// TestDatabaseAway: without the database the answer is no, nothing changes, and everything goes on when it is back.
func TestDatabaseAway(t *testing.T) {
	direct := newDesk(t)
	d, l := direct.overLine()
	org := wallettest.Org(t, direct.db, "Harbour Dental", 10_00)
	h := d.authorise(d.text(org, "key", 10))
	l.setCut(true)
	var wg sync.WaitGroup
	for range 20 { // some of them share a round
		wg.Go(func() {
			_, err := d.gates.Authorise(t.Context(), d.text(org, "away", 1))
			if f := wantFault(t, "authorise", err, fault.Unavailable, "undecided"); f.RetryAfter <= 0 || f.Cause == nil {
				t.Errorf("%+v", f)
			}
		})
	}
	wg.Wait()
	_, err := d.gates.Authorise(t.Context(), d.text(org, "key", 10))
	wantFault(t, "a repeat", err, fault.Unavailable, "undecided")
	_, err = d.gates.Capture(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Whole = true }))
	wantFault(t, "capture", err, fault.Unavailable, "undecided")
	_, err = d.gates.Void(t.Context(), d.settle(h))
	wantFault(t, "void", err, fault.Unavailable, "undecided")
	_, err = d.gates.Extend(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount = 1_01 }))
	wantFault(t, "extend", err, fault.Unavailable, "undecided")
	if _, err := d.gates.Expire(t.Context()); err == nil {
		t.Error("holds expired without a database")
	}
	d.clock.Advance(time.Second) // the rate card that is remembered is too old
	_, err = d.gates.Authorise(t.Context(), d.text(org, "away", 1))
	wantFault(t, "without a rate card", err, fault.Unavailable, "undecided")
	_, _, err = d.gates.Quote(t.Context(), d.text(org, "", 1))
	wantFault(t, "quote", err, fault.Unavailable, "undecided")
	if b := direct.balance(org); b.Held != 1_00 || b.Balance != 10_00 || b.Seq != 1 {
		t.Errorf("the wallet moved: %+v", b)
	}
	if got := direct.hold(org, h.ID); got.State != wallet.HoldOpen || got.Amount != 1_00 {
		t.Errorf("the hold moved: %+v", got)
	}
	l.setCut(false)
	if h := d.authorise(d.text(org, "away", 1)); h.Repeated {
		t.Error("it was allowed without a database")
	}
	if got := d.outcome("capture whole", h, false); got != "captured 100" {
		t.Errorf("the capture: %s", got)
	}
}
