//go:build drill

package faulttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lookEvery is how often the balancer asks a server whether it is ready.
const lookEvery = 500 * time.Millisecond

// balancer shares requests out among the servers that were ready when it last looked, in turn and over connections that it
// keeps, and sends a request again elsewhere when the server it went to gave no whole answer.
type balancer struct {
	transport *http.Transport

	mu       sync.Mutex
	backends []*backend
	next     int
	failures []string // at servers that nobody killed, and requests that no server was left for
	again    int      // requests that were sent to more than one server
	routes   map[string]int
}

// backend is one server as the balancer knows it.
type backend struct {
	p       *process
	ready   atomic.Bool
	doomed  atomic.Bool // it is about to be killed: what fails there is no failure of ours
	answers atomic.Int64
	cut     atomic.Int64 // requests without a whole answer
}

// newBalancer listens on an address until the test ends.
func newBalancer(t testing.TB, addr string) *balancer {
	t.Helper()
	b := &balancer{transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, routes: map[string]int{}}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: b, ReadHeaderTimeout: longest}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return b
}

// add has a server that is ready looked at from now on, and asked once it was found to be.
func (b *balancer) add(t testing.TB, p *process) *backend {
	t.Helper()
	s := &backend{p: p}
	s.ready.Store(answers(p.base() + "/readyz"))
	b.mu.Lock()
	b.backends = append(b.backends, s)
	b.mu.Unlock()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.ready.Store(answers(p.base() + "/readyz"))
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return s
}

// pick gives the next server in turn that is ready and was not tried yet; nil when there is none.
func (b *balancer) pick(tried []*backend) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.backends {
		b.next++
		if s := b.backends[b.next%len(b.backends)]; s.ready.Load() && !slices.Contains(tried, s) {
			return s
		}
	}
	return nil
}

// ServeHTTP has one request answered.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever asked has gone
	}
	what := r.Method + " " + kindOf(r.URL.Path)
	var tried []*backend
	for {
		s := b.pick(tried)
		if s == nil {
			b.fail(fmt.Sprintf("%s: no server is ready, %d failed", what, len(tried)))
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tried = append(tried, s)
		err := b.forward(w, r, body, s)
		b.mu.Lock()
		b.routes[what]++
		if len(tried) == 2 {
			b.again++
		}
		b.mu.Unlock()
		if err == nil {
			s.answers.Add(1)
			return
		}
		if r.Context().Err() != nil {
			return
		}
		s.cut.Add(1)
		s.ready.Store(false) // until the next look
		if !s.doomed.Load() {
			b.fail(fmt.Sprintf("%s at the server on %s: %v", what, s.p.addr, err))
		}
	}
}

// forward sends the request to one server. An error says that nothing was answered yet.
func (b *balancer) forward(w http.ResponseWriter, r *http.Request, body []byte, s *backend) error {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", s.p.addr, ""
	out.Body, out.ContentLength, out.GetBody = http.NoBody, 0, nil // net/http would send it again by itself
	if len(body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	res, err := b.transport.RoundTrip(out)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		b.stream(w, res)
		return nil
	}
	whole, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusInternalServerError {
		if !s.doomed.Load() {
			b.fail(fmt.Sprintf("%s %s at the server on %s: %s\n%s", r.Method, r.URL.Path, s.p.addr, res.Status, http.DetectContentType(whole)))
		}
	}
	maps.Copy(w.Header(), res.Header)
	w.Header().Del("Connection")
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(whole) // whoever asked may have gone
	return nil
}

// stream passes events on as they come, until either side ends.
func (b *balancer) stream(w http.ResponseWriter, res *http.Response) {
	maps.Copy(w.Header(), res.Header)
	w.Header().Del("Connection")
	w.WriteHeader(res.StatusCode)
	flush := http.NewResponseController(w)
	chunk := make([]byte, 32<<10)
	for {
		n, err := res.Body.Read(chunk)
		if n > 0 {
			if _, werr := w.Write(chunk[:n]); werr != nil || flush.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// kindOf is a path without its ids.
func kindOf(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if len(part) == 36 && strings.Count(part, "-") == 4 {
			parts[i] = "{id}"
		}
	}
	return strings.Join(parts, "/")
}

func (b *balancer) fail(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = append(b.failures, what)
}

// begin forgets what was counted: Stripe tells of customers before there is a server.
func (b *balancer) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.again, b.routes = nil, 0, map[string]int{}
}

// failed gives the failures until now.
func (b *balancer) failed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.failures)
}

// kinds is how many requests of each kind the servers were sent, in words.
func (b *balancer) kinds() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(b.routes)) {
		parts = append(parts, fmt.Sprintf("%s ×%d", k, b.routes[k]))
	}
	return strings.Join(parts, ", ")
}

// nextStep waits until each of the servers has answered stepAnswers more requests.
func nextStep(t testing.TB, servers ...*backend) {
	t.Helper()
	for _, s := range servers {
		mark := s.answers.Load() + stepAnswers
		until(t, "requests to be answered by the server on "+s.p.addr, func() bool { return s.answers.Load() >= mark })
	}
}
