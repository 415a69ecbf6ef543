package handlers_test

import (
	"bufio"
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/handlers"
)

// sse is an open stream. Lines come as they are read; the channel closes when the server ends the stream.
type sse struct {
	res   *http.Response
	lines chan string
}

func (b *browser) stream(headers ...string) *sse {
	b.s.t.Helper()
	return b.streamAt("/wallet/stream", headers...)
}

func (b *browser) streamAt(path string, headers ...string) *sse {
	b.s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.s.URL+path, nil)
	if err != nil {
		b.s.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	open := *b.Client
	open.Timeout = 0
	res, err := open.Do(req)
	if err != nil {
		b.s.t.Fatal(err)
	}
	b.s.t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
	})
	e := &sse{res: res, lines: make(chan string, 10_000)}
	go func() {
		defer close(e.lines)
		scan := bufio.NewScanner(res.Body)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			e.lines <- scan.Text()
		}
	}()
	return e
}

// until reads lines until one contains text.
func (e *sse) until(t *testing.T, text string) (read string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	var seen strings.Builder
	for {
		select {
		case line, ok := <-e.lines:
			if !ok {
				t.Fatalf("the stream ended before %q:\n%s", text, seen.String())
			}
			seen.WriteString(line + "\n")
			if strings.Contains(line, text) {
				return seen.String()
			}
		case <-deadline:
			t.Fatalf("no %q within 10 s:\n%s", text, seen.String())
		}
	}
}

// ends waits for the server to end the stream and says how long that took.
func (e *sse) ends(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-e.lines:
			if !ok {
				return time.Since(began)
			}
		case <-deadline:
			t.Fatal("the stream is still open after 10 s")
		}
	}
}

func TestStream(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	e := b.stream()
	if e.res.StatusCode != http.StatusOK || e.res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %s", e.res.Status, e.res.Header.Get("Content-Type"))
	}
	// The state at the start, so that nothing is missed between the page and its stream.
	first := e.until(t, "event: transactions")
	if !strings.Contains(first, "event: balance") || !strings.Contains(first, "£569.00") {
		t.Errorf("the first events:\n%s", first)
	}
	id := ""
	for line := range strings.Lines(first) {
		if rest, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSpace(rest)
		}
	}
	other := s.as("owner@second.example").stream()
	other.until(t, "event: transactions")

	began := time.Now()
	s.adjust(50_00)
	update := e.until(t, "£619.00")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the change took %s to arrive", took)
	}
	if strings.Contains(update, "<html") {
		t.Error("a whole page was sent")
	}
	e.until(t, "Test of the stream") // the transactions as well

	// A browser that reconnects hears only what it does not know.
	s.adjust(1_00)
	e.until(t, "£620.00")
	again := b.stream("Last-Event-ID", id)
	again.until(t, "£620.00")

	// The other organisation heard nothing of it.
	for len(other.lines) > 0 {
		if line := <-other.lines; strings.Contains(line, "61") && strings.Contains(line, "£") || strings.Contains(line, "Test of the stream") {
			t.Errorf("the second tenant was sent %q", line)
		}
	}
}

func TestStreamSkipsWhatIsKnown(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	id := strings.TrimSpace(strings.TrimPrefix(strings.SplitAfter(b.stream().until(t, "id: "), "id: ")[1], "id: "))
	page, ok := b.get("/dashboard").doc(t).Find("[sse-connect]").Attr("sse-connect") // it says which state it shows
	if !ok {
		t.Fatal("the page is not live")
	}
	known := map[string]*sse{"to a browser that lost the stream": b.stream("Last-Event-ID", id), "by the page": b.streamAt(page)}
	// What a later stream is sent, they would have been sent as well.
	s.as("viewer@harbour.example").stream().until(t, "event: transactions")
	s.adjust(50_00)
	for how, e := range known {
		if read := e.until(t, "£619.00"); strings.Contains(read, "£569.00") {
			t.Errorf("what was known %s was sent again:\n%s", how, read)
		}
	}
}

// A session that ends takes its streams with it, within about a second, however it ended; others stay.
func TestStreamEndsWithItsSession(t *testing.T) {
	s := newSite(t)
	for name, end := range map[string]func(b *browser){
		"sign-out": func(b *browser) {
			wantStatus(t, "sign-out", b.send("/dashboard", "/logout", nil), http.StatusSeeOther)
		},
		"revoked": func(*browser) {
			dbtest.Super(t, s.dbURL, `UPDATE sessions SET revoked_at = now() WHERE user_id IN (SELECT id FROM users WHERE email = 'owner@harbour.example')`)
		},
		"role changed": func(*browser) {
			dbtest.Super(t, s.dbURL, `UPDATE memberships SET role = 'member' WHERE user_id IN (SELECT id FROM users WHERE email = 'owner@harbour.example')`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, other := s.as("owner@harbour.example"), s.as("viewer@harbour.example")
			e, stays := b.stream(), other.stream()
			e.until(t, "event: transactions")
			stays.until(t, "event: transactions")
			end(b)
			if took := e.ends(t); took > 2500*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			s.adjust(1_00)
			stays.until(t, "event: balance")
			if name != "role changed" {
				if res := b.stream().res; res.StatusCode != http.StatusUnauthorized {
					t.Errorf("coming back: %s", res.Status)
				}
			}
		})
	}
}

func TestStreamLimits(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	var open []*sse
	for range 4 {
		e := b.stream()
		e.until(t, "open")
		open = append(open, e)
	}
	if res := b.stream().res; res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth: %s", res.Status)
	}
	s.as("viewer@harbour.example").stream().until(t, "open")
	_ = open[0].res.Body.Close()
	deadline := time.Now().Add(10 * time.Second)
	for b.stream().res.StatusCode != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("a closed stream keeps its place")
		}
	}
}

// The server's own time limits do not end a stream; its shutdown does, and leaves nothing running.
func TestStreamOutlivesTimeoutsAndEndsWithTheServer(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.server = func(srv *http.Server) { srv.ReadTimeout, srv.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond }
	})
	e := s.as("owner@harbour.example").stream()
	e.until(t, "event: transactions")
	began := time.Now()
	for i := 0; time.Since(began) < time.Second; i++ {
		s.adjust(1_00)
		e.until(t, "event: balance")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Config.Shutdown(ctx); err != nil {
		t.Errorf("shutting down: %v", err)
	}
	e.ends(t)
	deadline := time.Now().Add(5 * time.Second)
	for {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !strings.Contains(string(stacks), "handlers.(*hub)") && !strings.Contains(string(stacks), "walletStream") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still running:\n%s", stacks)
		}
		runtime.Gosched()
	}
}

// The poller ends with the last stream.
func TestPollerRestsWithoutStreams(t *testing.T) {
	var d handlers.Deps
	s := newSite(t, func(o *options) { o.deps = func(deps *handlers.Deps) { d = *deps } })
	running := func() bool {
		stacks := make([]byte, 1<<20)
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "handlers.(*hub).poll")
	}
	open := func() float64 {
		families, err := d.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "ringfence_http_streams" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	b := s.as("owner@harbour.example")
	for range 2 { // and starts again
		e := b.stream()
		e.until(t, "event: transactions")
		if !running() || open() != 1 {
			t.Fatalf("poller running: %t, streams %v", running(), open())
		}
		_ = e.res.Body.Close()
		deadline := time.Now().Add(10 * time.Second)
		for running() || open() != 0 {
			if time.Now().After(deadline) {
				t.Fatalf("poller running: %t, streams %v", running(), open())
			}
			runtime.Gosched()
		}
	}
}
