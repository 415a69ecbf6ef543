package faulttest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// cutWithin is how long a client may take over a request.
const cutWithin = 10 * time.Second

// TestSlowHeaders: five hundred clients that send their headers byte by byte are cut off; Stripe does not notice them.
// That they are cut off over their bodies too takes the whole ten seconds, and is a drill.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	slowClients(t, "POST /api/webhooks/stripe HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
}

func slowClients(t *testing.T, opening string) {
	t.Helper()
	w := newWorld(t)
	web, _ := w.web(), w.worker()
	s := newSender()
	events := w.payments(100)

	const clients = 500
	cut := make(chan time.Duration, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", web.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			started := time.Now()
			if _, err := io.WriteString(conn, opening); err != nil {
				t.Error(err)
				return
			}
			gone := make(chan struct{})
			go func() {
				// What the server says before it hangs up does not matter here.
				_, _ = io.Copy(io.Discard, conn)
				close(gone)
			}()
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-gone:
					cut <- time.Since(started)
					return
				case <-tick.C:
					_, _ = conn.Write([]byte("x")) // fails once it was cut off, which gone tells
				case <-time.After(longest):
					return
				}
			}
		})
	}
	started := time.Now()
	until(t, "most of them to be connected", func() bool { return web.connections() >= clients*9/10 })
	// The others come in while all the slow ones hang on.
	s.each(events, 4, func(_ int, e *event) {
		if a := s.deliver(t.Context(), web.base(), e); a.status != http.StatusOK {
			t.Errorf("beside slow clients: %d %s", a.status, a.body)
		}
	})
	during := time.Since(started)
	if s.slowest > 2*time.Second {
		t.Errorf("beside slow clients an event took %s", s.slowest)
	}
	wg.Wait()
	close(cut)
	n, slowest := 0, time.Duration(0)
	for d := range cut {
		n++
		slowest = max(slowest, d)
	}
	// What the server allows is counted from when it has the connection, what is measured from the connecting.
	if n != clients || slowest > cutWithin+time.Second {
		t.Errorf("%d of %d were cut off, the last after %s", n, clients, slowest)
	}
	w.settled(s, events)
	t.Logf("the last was cut off after %s; 100 events took %s, the slowest %s",
		slowest.Round(time.Millisecond), during.Round(time.Millisecond), s.slowest.Round(time.Millisecond))
}

// connections is how many sockets the process has open, where the system can tell.
func (p *process) connections() int {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return 1 << 20
	}
	return len(fds)
}

// TestHugeBody: ten megabytes are refused after one.
func TestHugeBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.web()
	w.worker()
	s := newSender()
	events := w.payments(1)
	huge := *events[0]
	huge.body = append(bytes.Clone(huge.body), bytes.Repeat([]byte(" "), 10<<20)...) // still JSON, and signed
	for _, c := range []struct {
		name    string
		chunked bool
		most    int64
	}{
		{"with its length", false, 1 << 20},
		// Of a body without a length net/http reads 256 KiB more, in the hope of keeping the connection.
		{"in chunks", true, 1<<20 + 256<<10},
	} {
		conn, err := net.Dial("tcp", web.addr)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodPost, web.base()+"/api/webhooks/stripe", bytes.NewReader(huge.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.chunked {
			req.ContentLength, req.TransferEncoding = -1, []string{"chunked"}
		}
		before := web.bytesRead(t)
		written := make(chan struct{})
		go func() {
			_ = req.Write(conn) // an error is what it should meet
			close(written)
		}()
		res, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			t.Fatalf("%s: no answer: %v", c.name, err)
		}
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", c.name, res.Status)
		}
		if err := errors.Join(res.Body.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
		<-written
		// A little is read beside the body: headers, chunk sizes, talk with the database.
		if read := web.bytesRead(t) - before; read > c.most+64<<10 {
			t.Errorf("%s: %d KiB of 10 MiB were read", c.name, read>>10)
		}
	}
	s.all(within(t, longest), events, 1, web.base())
	w.settled(s, events)
}

// bytesRead is how much the process has read from files and sockets, where the system can tell.
func (p *process) bytesRead(t *testing.T) (n int64) {
	t.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		t.Logf("how much is read cannot be told here: %v", err)
		return 0
	}
	if _, err := fmt.Sscanf(string(io), "rchar: %d", &n); err != nil {
		t.Fatalf("%v in %q", err, io)
	}
	return n
}

// TestClockOfTheSender: a signature is good for five minutes in both directions, by the clock of the process.
func TestClockOfTheSender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.web()
	w.worker()
	s := newSender()
	var good []*event
	for _, c := range []struct {
		seconds int // from now
		status  int
	}{{-299, 200}, {-301, 400}, {299, 200}, {301, 400}, {0, 200}, {-365 * 86400, 400}, {365 * 86400, 400}} {
		e := w.payments(1)[0]
		// Whole seconds are signed, so the moment is taken from that side of now on which the edge is not crossed by
		// rounding, nor by the time the request is under way.
		now := time.Now().Truncate(time.Second)
		if c.seconds == -299 || c.seconds == 301 {
			now = now.Add(time.Second)
		}
		a := s.deliverSigned(t.Context(), web.base(), e, now.Add(time.Duration(c.seconds)*time.Second))
		if a.status != c.status {
			t.Errorf("signed %d s from now: %d %s, want %d", c.seconds, a.status, a.body, c.status)
		}
		if c.status == http.StatusOK {
			good = append(good, e)
		}
	}
	if n := len(w.stored()); n != len(good) {
		t.Errorf("%d events are stored, want %d", n, len(good))
	}
	w.settled(s, good)
}

// TestClockOfTheDatabase: the database's clock is an hour off, in each direction; events are credited all the same, and
// at once, dated by the clock of the processes.
func TestClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	for _, off := range []string{"1 hour", "-1 hour"} {
		t.Run(off, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			// Functions of ours in front of PostgreSQL's own, for every session to come.
			w.alter(strings.ReplaceAll(`
				CREATE FUNCTION public.now() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT pg_catalog.now() + interval 'OFF' $$;
				CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval 'OFF' $$;
				ALTER DATABASE ringfence SET search_path = public, pg_catalog`, "OFF", off))
			web, _ := w.web(), w.worker()
			s, ctx := newSender(), within(t, longest)
			events := w.payments(40)
			started := time.Now()
			s.all(ctx, events, 4, web.base())
			until(t, "the credits", func() bool { return w.credited(events) == len(events) })
			if took := time.Since(started); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
			if n := w.number(`SELECT count(*) FROM credits WHERE abs(extract(epoch FROM created_at - pg_catalog.now())) < 120`); n != len(events) {
				t.Errorf("%d of %d credits are dated by the clock of the processes", n, len(events))
			}
			w.settled(s, events)
		})
	}
}
