package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

type gatesCmd struct {
	Callers int      `default:"64" help:"How many ask at once, each on a connection of its own that is kept."`
	Wallets int      `default:"1" help:"How many wallets they ask, by turns: 1 is a hot one."`
	Seconds int      `default:"10" help:"How long they ask; a second before that is not counted."`
	Server  []string `help:"Address of each server process, by turns; the running one by default." placeholder:"URL"`
}

// gatesReport is what the measurement prints. Durations are in milliseconds.
type gatesReport struct {
	Callers            int         `json:"callers"`
	Wallets            int         `json:"wallets"`
	Servers            int         `json:"servers"`
	Decisions          int64       `json:"decisions"`
	Seconds            figure      `json:"seconds"`
	DecisionsPerSecond figure      `json:"decisions_per_second"`
	Answer             percentiles `json:"answer_ms"`
	CPUPerDecision     figure      `json:"cpu_ms_per_decision_of_the_machine"`
	Charged            money.Pence `json:"charged_pence"`
	Exact              bool        `json:"charged_exactly_what_was_allowed"`
	Synchronous        string      `json:"synchronous_commit"`
	Fsync              string      `json:"fsync"`
	Left               string      `json:"left_behind"`
}

// warmUp is how long the callers ask before the measurement begins.
const warmUp = time.Second

// Run measures how many holds a second the running server decides and captures over its API.
func (c gatesCmd) Run(e *env) error {
	if c.Callers < 1 || c.Callers > 1000 || c.Wallets < 1 || c.Wallets > 10_000 || c.Seconds < 1 || c.Seconds > 600 {
		return errors.New("bench gates takes 1 to 1000 callers, 1 to 10000 wallets and 1 to 600 seconds")
	}
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("bench gates"); err != nil {
			return err
		}
		if len(c.Server) == 0 {
			c.Server = []string{a.cfg.BaseURL}
		}
		r, err := c.measure(ctx, a)
		if err != nil {
			return err
		}
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		return out.Encode(r)
	})
}

// benchWallet is one organisation that is asked, with a key for this measurement.
type benchWallet struct {
	org uuid.UUID
	key string
	id  uuid.UUID // the key's
}

func (c gatesCmd) measure(ctx context.Context, a *app) (r gatesReport, err error) {
	wallets, err := a.benchWallets(ctx, c.Wallets)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, a.revokeKeys(ctx, wallets)) }()
	before, err := a.balances(ctx, wallets)
	if err != nil {
		return r, err
	}
	callers := make([]*gateCaller, c.Callers)
	for i := range callers {
		if callers[i], err = newGateCaller(ctx, c.Server[i%len(c.Server)]); err != nil {
			return r, err
		}
		defer callers[i].conn.Close()
	}
	var counting, ending atomic.Bool
	var turn atomic.Int64
	errs := make([]error, c.Callers)
	var wg sync.WaitGroup
	for i, caller := range callers {
		wg.Go(func() {
			for !ending.Load() {
				w := wallets[int(turn.Add(1))%len(wallets)]
				counted := counting.Load()
				if errs[i] = caller.ask(w.key, counted); errs[i] != nil {
					return
				}
			}
		})
	}
	time.Sleep(warmUp)
	cpu, began := cpuBusy(), now()
	counting.Store(true)
	time.Sleep(time.Duration(c.Seconds) * time.Second)
	counting.Store(false)
	took := now().Sub(began)
	used := cpuBusy() - cpu
	ending.Store(true)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return r, err
	}

	var times []time.Duration
	var allowed int64
	for _, caller := range callers {
		times = append(times, caller.times...)
		allowed += caller.allowed
	}
	after, err := a.balances(ctx, wallets)
	if err != nil {
		return r, err
	}
	r = gatesReport{
		Callers: c.Callers, Wallets: c.Wallets, Servers: len(c.Server), Decisions: int64(len(times)), Seconds: figure(took.Seconds()),
		DecisionsPerSecond: figure(float64(len(times)) / took.Seconds()), Answer: percentilesOf(times),
		CPUPerDecision: milliseconds(used) / figure(max(1, len(times))), Charged: before - after,
		Left: fmt.Sprintf("%d holds and their ledger transactions in the organisations named %q", allowed, benchOrg(1)+" …"),
	}
	r.Exact = r.Charged == money.Pence(allowed)*benchPrice
	err = a.db.InSystemTx(ctx, "the settings that were measured with", func(ctx context.Context, tx *db.Tx) error {
		return tx.QueryRowxContext(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&r.Synchronous, &r.Fsync)
	})
	if err == nil && !r.Exact {
		err = fmt.Errorf("%d holds of %s were allowed, and %s was charged", allowed, benchPrice, r.Charged)
	}
	return r, err
}

// benchPrice is what one of the holds costs: a search, so that wallets last.
const benchPrice money.Pence = 1

func benchOrg(n int) string { return fmt.Sprintf("Bench wallet %d", n) }

// benchWallets makes sure of n organisations with full wallets and gives each a key for this measurement.
func (a *app) benchWallets(ctx context.Context, n int) ([]benchWallet, error) {
	wallets := make([]benchWallet, n)
	for i := range wallets {
		w := &wallets[i]
		err := a.db.InSystemTx(ctx, "an organisation for measurements", func(ctx context.Context, tx *db.Tx) (err error) {
			if w.org, err = auth.OrganizationByName(ctx, tx, benchOrg(i+1)); err == nil && w.org == uuid.Nil {
				w.org, err = a.auth.CreateOrganization(ctx, tx, benchOrg(i+1))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		err = a.db.InTx(ctx, []uuid.UUID{w.org}, func(ctx context.Context, tx *db.Tx) error {
			if err := wallet.Open(ctx, tx, w.org); err != nil {
				return err
			}
			b, err := wallet.Read(ctx, tx, w.org)
			if err != nil {
				return err
			}
			if fill := wallet.AdjustmentLimit - b.Balance; fill > wallet.AdjustmentLimit/2 {
				if _, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
					OrgID: w.org, Kind: wallet.Adjustment, Amount: fill, Reason: "For measurements", Reference: uuid.NewString(), Actor: audit.System("bench"),
				}); err != nil {
					return err
				}
			}
			var k auth.Key
			w.key, k, err = a.auth.CreateKey(ctx, tx, w.org, "bench gates", auth.HoldsWrite, uuid.Nil, audit.System("bench"))
			w.id = k.ID
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return wallets, nil
}

func (a *app) revokeKeys(ctx context.Context, wallets []benchWallet) error {
	for _, w := range wallets {
		err := a.db.InTx(ctx, []uuid.UUID{w.org}, func(ctx context.Context, tx *db.Tx) error {
			return a.auth.RevokeKey(ctx, tx, w.org, w.id, audit.System("bench"))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// balances is what the wallets have together.
func (a *app) balances(ctx context.Context, wallets []benchWallet) (sum money.Pence, err error) {
	orgs := make([]uuid.UUID, len(wallets))
	for i, w := range wallets {
		orgs[i] = w.org
	}
	for chunk := range slices.Chunk(orgs, 200) {
		found, err := a.ledger.Balances(ctx, chunk)
		if err != nil {
			return 0, err
		}
		for _, b := range found {
			sum += b.Balance
		}
	}
	return sum, nil
}

// gateCaller asks over one connection, which it keeps. It writes its requests itself: on the cores that it shares with the
// server a general client would take as much time as the server.
type gateCaller struct {
	conn    net.Conn
	in      *bufio.Reader
	host    string
	buf     []byte
	n       int
	run     string
	times   []time.Duration
	allowed int64
}

func newGateCaller(ctx context.Context, server string) (*gateCaller, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q is not the http:// address of a server", server)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("couldn't reach the server: start it first: %w", err)
	}
	return &gateCaller{conn: conn, in: bufio.NewReader(conn), host: u.Host, run: uuid.NewString()}, nil
}

const gateBody = `{"action":"knowledge","quantity":1,"capture":true}`

// ask asks for one hold, captured at once, and takes the time of the answer when it counts.
func (g *gateCaller) ask(key string, counts bool) error {
	g.n++
	g.buf = fmt.Appendf(g.buf[:0], "POST /api/v1/holds HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nIdempotency-Key: %s-%d\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", g.host, key, g.run, g.n, len(gateBody), gateBody)
	began := now()
	if _, err := g.conn.Write(g.buf); err != nil {
		return fmt.Errorf("couldn't ask: %w", err)
	}
	res, err := http.ReadResponse(g.in, nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return fmt.Errorf("no whole answer: %w", err)
	}
	if counts {
		g.times = append(g.times, now().Sub(began))
	}
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("the server answered %s: %s", res.Status, body)
	}
	g.allowed++
	return nil
}
