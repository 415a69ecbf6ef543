package handlers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
	"ringfence/views"
)

const streamPattern = "/wallet/stream"

// Limits of the streams. A browser opens one per tab and at most six connections to one host over HTTP/1.1.
const (
	streamsPerSession = 4
	streamsInAll      = 2000
	// pollEvery is how soon a change of a wallet is seen; sessions are checked every sessionTicks of it.
	pollEvery    = 250 * time.Millisecond
	sessionTicks = 4
	// heartbeat keeps proxies from closing a silent stream, and finds readers that have gone.
	heartbeat = 15 * time.Second
	// streamWrite is how long a reader may take to accept one event.
	streamWrite = 10 * time.Second
	// pollWait bounds one look at the database.
	pollWait = 5 * time.Second
)

// hub keeps the open streams and, while there are any, one poller that feeds all of them.
//
// It polls rather than listens for notifications: one query per process and tick, however many streams there are;
// nothing is lost when the database fails over; and NOTIFY inside the transactions that move money would make their
// commits queue behind one another.
type hub struct {
	ctx      context.Context // the life of the server, not of one call
	stop     context.CancelFunc
	log      *slog.Logger
	balances func(context.Context, []uuid.UUID) (map[uuid.UUID]wallet.Balance, error)
	valid    func(context.Context, []auth.SessionID) (map[auth.SessionID]auth.Identity, error)
	gauge    prometheus.Gauge

	mu      sync.Mutex
	open    map[*stream]struct{}
	polling bool
}

// stream is one reader of one organisation's wallet.
type stream struct {
	who auth.Identity
	// changed holds the newest balance that the reader has not been sent yet.
	changed chan wallet.Balance
	// last is what was put into changed before; only the poller uses it.
	last *wallet.Balance
	// ended is closed when the session is over.
	ended chan struct{}
}

func newHub(
	ctx context.Context, log *slog.Logger,
	balances func(context.Context, []uuid.UUID) (map[uuid.UUID]wallet.Balance, error),
	valid func(context.Context, []auth.SessionID) (map[auth.SessionID]auth.Identity, error),
	gauge prometheus.Gauge,
) *hub {
	ctx, stop := context.WithCancel(ctx)
	return &hub{ctx: ctx, stop: stop, log: log, balances: balances, valid: valid, gauge: gauge, open: map[*stream]struct{}{}}
}

// close ends every stream and lets none begin.
func (h *hub) close() { h.stop() }

// join adds a stream; whoever joined must leave. Over the limits it is a fault TooMany.
func (h *hub) join(who auth.Identity) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return nil, fault.New(fault.Unavailable, "The server is restarting. Try again in a moment.")
	}
	same := 0
	for s := range h.open {
		if s.who.SessionID == who.SessionID {
			same++
		}
	}
	if same >= streamsPerSession || len(h.open) >= streamsInAll {
		return nil, &fault.Error{Kind: fault.TooMany, Public: "Too many pages are open for live updates. Close some and reload.", RetryAfter: heartbeat}
	}
	s := &stream{who: who, changed: make(chan wallet.Balance, 1), ended: make(chan struct{})}
	h.open[s] = struct{}{}
	h.gauge.Set(float64(len(h.open)))
	if !h.polling {
		h.polling = true
		go h.poll()
	}
	return s, nil
}

// leave takes a stream out. The poller ends by itself when it finds none left.
func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, s)
	h.gauge.Set(float64(len(h.open)))
}

// end ends the streams of a session that was ended in this process, without waiting for the next check.
func (h *hub) end(id auth.SessionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.open {
		if s.who.SessionID == id {
			h.cut(s)
		}
	}
}

// cut ends one stream. The caller holds mu.
func (h *hub) cut(s *stream) {
	if _, ok := h.open[s]; ok {
		delete(h.open, s)
		h.gauge.Set(float64(len(h.open)))
		close(s.ended)
	}
}

// poll feeds the streams until there are none, or the server shuts down.
func (h *hub) poll() {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failing := false
	for n := 0; ; n++ {
		streams := h.snapshot()
		if len(streams) == 0 {
			return
		}
		err := h.look(streams, n%sessionTicks == 0)
		// While the database cannot be asked nothing is sent, so nobody sees what they should not; the streams wait.
		if err != nil && !failing && h.ctx.Err() == nil {
			h.log.LogAttrs(h.ctx, slog.LevelError, "live balances are paused", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-h.ctx.Done():
		}
	}
}

// snapshot gives the open streams. When there are none, or none may be, it ends the poller: the next join starts another.
func (h *hub) snapshot() []*stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.open) == 0 || h.ctx.Err() != nil {
		h.polling = false
		return nil
	}
	streams := make([]*stream, 0, len(h.open))
	for s := range h.open {
		streams = append(streams, s)
	}
	return streams
}

// look asks the database once for all streams and passes on what changed.
func (h *hub) look(streams []*stream, sessionsToo bool) error {
	ctx, cancel := context.WithTimeout(h.ctx, pollWait)
	defer cancel()
	if sessionsToo {
		var err error
		if streams, err = h.checkSessions(ctx, streams); err != nil || len(streams) == 0 {
			return err
		}
	}
	orgs := make([]uuid.UUID, len(streams))
	for i, s := range streams {
		orgs[i] = s.who.OrgID
	}
	found, err := h.balances(ctx, orgs)
	if err != nil {
		return err
	}
	for _, s := range streams {
		b, ok := found[s.who.OrgID]
		if !ok || s.last != nil && eventID(*s.last) == eventID(b) {
			continue
		}
		s.last = &b
		select { // the newest replaces what a slow reader has not taken yet
		case <-s.changed:
		default:
		}
		s.changed <- b // has room: only the poller sends
	}
	return nil
}

// checkSessions ends the streams whose session is over, or works as somebody else by now, and gives the others.
func (h *hub) checkSessions(ctx context.Context, streams []*stream) ([]*stream, error) {
	ids := make([]auth.SessionID, len(streams))
	for i, s := range streams {
		ids[i] = s.who.SessionID
	}
	valid, err := h.valid(ctx, ids)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := streams[:0]
	for _, s := range streams {
		if who, ok := valid[s.who.SessionID]; ok && who == s.who {
			kept = append(kept, s)
		} else {
			h.cut(s)
		}
	}
	return kept, nil
}

// eventID names a state of a wallet. A browser that lost the stream tells the last one it saw.
func eventID(b wallet.Balance) string {
	return fmt.Sprintf("%d.%d.%d.%d.%d.%t.%t.%t", b.Seq, int64(b.Balance), int64(b.Held), int64(b.Reserved), int64(b.Debt), b.FrozenAt != nil, b.ClosedAt != nil, b.SuspendedAt != nil)
}

// walletStream sends the balance and the recent transactions as they are now, unless that is what the page shows, and whenever
// they change (server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html).
func (a *app) walletStream(w http.ResponseWriter, r *http.Request, v *visit) error {
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	s, err := a.streams.join(v.who) //nolint:contextcheck // the poller lives as long as the streams, not as this request
	if err != nil {
		return err
	}
	defer a.streams.leave(s)

	// The server's limit is for answers that end. Here every event gets one of its own, so a reader that stalls is cut off.
	conn := http.NewResponseController(w)
	send := func(text string) error {
		deadline := time.Now().Add(streamWrite) //nolint:forbidigo // the kernel's deadlines go by the wall clock alone
		if err := conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil { //nolint:gosec // templ escaped it
			return err
		}
		return conn.Flush()
	}
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events to itself
	if send(": open\n\n") != nil {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	seen := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("seen")) // of the page, before it heard of anything
	for {
		var text string
		select {
		case <-r.Context().Done():
			return nil
		case <-a.streams.ctx.Done():
			return nil
		case <-s.ended:
			return nil
		case <-beat.C:
			text = ": still here\n\n"
		case b := <-s.changed:
			if eventID(b) == seen {
				continue // reconnected, and nothing happened in between
			}
			seen = ""
			if text, err = a.walletEvents(r.Context(), v.who, eventID(b)); err != nil {
				if r.Context().Err() == nil {
					a.Log.LogAttrs(r.Context(), slog.LevelError, "live balance failed", append(v.attrs(), slog.Any("error", err))...)
				}
				return nil // the browser connects again and gets the present state
			}
		}
		if send(text) != nil {
			return nil // the reader has gone
		}
	}
}

// walletEvents renders what the pages swap in.
func (a *app) walletEvents(ctx context.Context, who auth.Identity, id string) (string, error) {
	var p views.WalletPage
	err := a.Wallets.InOneMoment(ctx, who.OrgID, func(ctx context.Context) (err error) {
		p, _, err = a.liveWallet(ctx, who)
		return err
	})
	if err != nil {
		return "", err
	}
	p.Meta.User = views.User{Email: who.Email, OrgName: who.OrgName, Role: string(who.Role)}
	var out strings.Builder
	for _, e := range []struct {
		name string
		part templ.Component
	}{{"balance", views.WalletBalance(p)}, {"transactions", views.WalletTransactions(p)}} {
		var b bytes.Buffer
		if err := e.part.Render(ctx, &b); err != nil {
			return "", err
		}
		out.WriteString("event: " + e.name + "\nid: " + id + "\n")
		for line := range strings.Lines(strings.ReplaceAll(b.String(), "\r", "\n")) {
			out.WriteString("data: " + strings.TrimSuffix(line, "\n") + "\n")
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}
