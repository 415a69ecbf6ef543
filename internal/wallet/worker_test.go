package wallet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// workerEnv makes the test binary a worker: a process of its own with its own pools and gates. It holds a job.
const workerEnv = "RINGFENCE_WALLET_WORKER"

func TestMain(m *testing.M) {
	if given := os.Getenv(workerEnv); given != "" {
		if err := work(given); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dbtest.Main(m)
}

// job is what a worker is told.
type job struct {
	URL string
	// Page is the file of the page, and Log the one to write to.
	Page, Log string
	// Name is in everything that the worker does, and Number is its own.
	Name   string
	Number int
	// Seed is the same for all.
	Seed    uint64
	Callers int
	Orgs    []uuid.UUID
	// Skew is how far the worker's clock is ahead.
	Skew time.Duration
	// Payments can be credited.
	Payments []wallet.Payment
	// Crowd is how many requests all workers make together, when the job is nothing but that.
	Crowd int64
}

// page is memory that all processes of a test share: it numbers what they log, moves their clocks, and ends them.
type page struct {
	// tickets are drawn before and after everything that is done: of two things of which one began after the other had
	// ended, it has the higher numbers, whichever processes they were in.
	tickets atomic.Int64
	// moved is how far the clocks were moved, in nanoseconds.
	moved atomic.Int64
	// keys and references count what was thought of; workers choose among what others think of too.
	keys, references atomic.Int64
	ended            atomic.Bool
}

func openPage(name string) (*page, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = 4096
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	memory, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*page)(unsafe.Pointer(&memory[0])), nil
}

// beforeApril is where the clocks begin: an hour before a month does.
var beforeApril = time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)

// clock is a clock that is ahead by skew. A millisecond passes with every ticket.
func (p *page) clock(skew time.Duration) func() time.Time {
	return func() time.Time {
		return beforeApril.Add(skew + time.Duration(p.moved.Load()) + time.Duration(p.tickets.Load())*time.Millisecond)
	}
}

// kind is a kind of operation.
type kind string

const (
	authorising kind = "authorise"
	capturing   kind = "capture"
	voiding     kind = "void"
	extending   kind = "extend"
	sending     kind = "send"
	sweeping    kind = "sweep"
	crediting   kind = "credit"
	adjusting   kind = "adjust"
	limiting    kind = "limit"
	freezing    kind = "freeze"
	thawing     kind = "thaw"
	reading     kind = "read"
)

// op is something that a worker does.
type op struct {
	ID   string
	Kind kind
	Org  int
	// In has it done in a transaction of its own instead of a shared one.
	In bool
	// Key is the request's; Other makes it another request with that key. Poisoned requests cannot be stored.
	Key             int64
	Other, Poisoned bool
	// Hold is which one to settle, by who is said to have made it.
	Hold           uuid.UUID
	Source         wallet.Source
	Amount         money.Pence
	Whole, Overrun bool
	// Reference is the adjustment's.
	Reference int64
	Intents   []string
	// Caps are of everything and of each action; negative: none.
	Caps [5]money.Pence
}

// actor is who did it: nobody else does anything.
func (o *op) actor() audit.Actor { return audit.Actor("system:" + o.ID) }

// answer is what came of it.
type answer struct {
	// Failed is the error; the kind, code, field and figures are a fault's.
	Failed      string
	Kind        fault.Kind
	Code, Field string
	Members     map[string]int64
	Hold        *wallet.Hold
	Balance     *wallet.Balance
	Transaction *wallet.Transaction
	Credited    []string
}

// entry is a line of a worker's log: the op before it is done, the answer after.
type entry struct {
	ID     string
	Ticket int64
	Clock  time.Time
	Op     *op     `json:",omitempty"`
	Answer *answer `json:",omitempty"`
}

// wish is what is asked for with a key.
type wish struct {
	Org         int
	Action      int // of wallet.Actions
	Quantity    int64
	Destination string
	Source      wallet.Source
	AtOnce      bool
}

// wished is the same for all who know seed and key.
func wished(seed uint64, key int64, other bool, orgs int) wish {
	rng := rand.New(rand.NewPCG(seed, uint64(key)))
	w := wish{Org: rng.IntN(orgs), Action: rng.IntN(4), Source: wallet.SourceAPI, AtOnce: rng.IntN(5) == 0}
	switch wallet.Actions[w.Action] {
	case wallet.ActionCall:
		w.Quantity, w.Destination = 1+rng.Int64N(240), []string{"", ukMobile, usNumber}[rng.IntN(3)]
	case wallet.ActionSMS:
		w.Quantity, w.Destination = 1+rng.Int64N(8), []string{"", ukMobile, ukMobile, canada}[rng.IntN(4)]
	case wallet.ActionNumber:
		w.Quantity = 1
		if rng.IntN(4) > 0 { // they are dear
			w.Action, w.Quantity = slices.Index(wallet.Actions, wallet.ActionKnowledge), 1+rng.Int64N(50)
		}
	case wallet.ActionKnowledge:
		w.Quantity = 1 + rng.Int64N(50)
	}
	if rng.IntN(3) == 0 {
		w.Source = wallet.SourceMessage
	}
	if other {
		w.Quantity++
	}
	return w
}

// adjustment is what a reference stands for: the same for all who know the seed.
func adjustment(seed uint64, reference int64, other bool, orgs int) (org int, kind wallet.Kind, amount money.Pence) {
	rng := rand.New(rand.NewPCG(seed, uint64(-1-reference)))
	org, kind, amount = rng.IntN(orgs), wallet.Adjustment, money.Pence(1+rng.Int64N(4_00))
	switch rng.IntN(5) {
	case 0:
		kind = wallet.Bonus
	case 1, 2:
		amount = -amount
	}
	if other {
		amount += 1000
	}
	return org, kind, amount
}

// worker is a process at work.
type worker struct {
	job
	page   *page
	db     *db.DB
	gates  *wallet.Gates
	ledger *wallet.Ledger
	log    *os.File
	rounds *wallet.GateMetrics

	mu    sync.Mutex
	known []wallet.Hold // what may be settled
}

// work does a job until the page says that it is over.
func work(given string) error {
	// Whoever started this process holds the other end of its input: they go together.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	w := &worker{rounds: wallet.NewGateMetrics()}
	err := json.Unmarshal([]byte(given), &w.job)
	if err != nil {
		return err
	}
	if w.page, err = openPage(w.Page); err != nil {
		return err
	}
	now := w.page.clock(w.Skew)
	if w.db, err = db.Open(context.Background(), w.URL, db.Options{Now: now}); err != nil {
		return err
	}
	options := wallet.GateOptions{DB: w.db, Now: now, Log: slog.New(slog.DiscardHandler), Metrics: w.rounds}
	if w.Crowd > 0 {
		options.Lanes = 1
	}
	w.gates, w.ledger = wallet.NewGates(options), wallet.New(w.db)
	if w.log, err = os.OpenFile(w.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for caller := range w.Callers {
		name := w.Name + "-" + strconv.Itoa(caller)
		wg.Go(func() {
			if w.Crowd > 0 {
				w.crowd(name)
				return
			}
			w.call(name, rand.New(rand.NewPCG(^w.Seed, uint64(w.Number*1000+caller))))
		})
	}
	wg.Wait()
	if w.Crowd > 0 {
		if err := w.wantLargeRounds(); err != nil {
			return err
		}
	}
	return errors.Join(w.db.Close(), w.log.Close())
}

// call does one thing after the other.
func (w *worker) call(name string, rng *rand.Rand) {
	now := w.page.clock(w.Skew)
	for n := 0; !w.page.ended.Load(); n++ {
		o := w.think(rng)
		o.ID = name + "-" + strconv.Itoa(n)
		w.write(entry{ID: o.ID, Ticket: w.page.tickets.Add(1), Clock: now(), Op: &o})
		a := w.do(&o)
		w.write(entry{ID: o.ID, Ticket: w.page.tickets.Add(1), Clock: now(), Answer: &a})
	}
}

// write adds a line in one piece: a process that is killed has written it or not.
func (w *worker) write(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = w.log.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "couldn't write the log:", err)
		os.Exit(1)
	}
}

// think chooses what to do.
func (w *worker) think(rng *rand.Rand) op {
	o := op{Org: rng.IntN(len(w.Orgs)), In: rng.IntN(6) == 0}
	switch p := rng.IntN(1000); {
	case p < 400:
		o.Kind = authorising
		if o.Key = w.page.keys.Load() - rng.Int64N(30); o.Key < 1 || rng.IntN(3) > 0 {
			o.Key = w.page.keys.Add(1)
		}
		o.Other, o.Poisoned = rng.IntN(25) == 0, rng.IntN(40) == 0
		o.Org = wished(w.Seed, o.Key, o.Other, len(w.Orgs)).Org
	case p < 740:
		return w.thinkOfHolds(rng, o)
	case p < 765:
		o.Kind = sweeping
	case p < 800:
		o.Kind = crediting
		for range 1 + rng.IntN(3) {
			o.Intents = append(o.Intents, w.Payments[rng.IntN(len(w.Payments))].PaymentIntent)
		}
	case p < 880:
		o.Kind = adjusting
		if o.Reference = w.page.references.Load() - rng.Int64N(10); o.Reference < 1 || rng.IntN(2) == 0 {
			o.Reference = w.page.references.Add(1)
		}
		o.Other = rng.IntN(20) == 0
		o.Org, _, _ = adjustment(w.Seed, o.Reference, o.Other, len(w.Orgs))
	case p < 895:
		o.Kind = limiting
		for i := range o.Caps {
			if o.Caps[i] = -1; rng.IntN(4) == 0 {
				o.Caps[i] = money.Pence(rng.IntN(60_00))
			}
		}
	case p < 896:
		o.Kind = freezing
	case p < 908:
		o.Kind = thawing
	default:
		o.Kind = reading
	}
	return o
}

// thinkOfHolds chooses what to do with a hold: mostly one that is new, made by whomever.
func (w *worker) thinkOfHolds(rng *rand.Rand, o op) op {
	if rng.IntN(20) == 0 {
		holds, err := w.ledger.OpenHolds(context.Background(), w.Orgs[o.Org], 30)
		if err != nil {
			fmt.Fprintln(os.Stderr, "couldn't read the open holds:", err)
			os.Exit(1)
		}
		w.learn(holds...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) == 0 {
		o.Kind = reading
		return o
	}
	h := w.known[len(w.known)-1-rng.IntN(min(len(w.known), 40))]
	o.Org, o.Hold, o.Source = slices.Index(w.Orgs, h.OrgID), h.ID, h.Source
	if rng.IntN(30) == 0 {
		o.Source = wallet.SourceNumber
	}
	switch p := rng.IntN(100); {
	case p < 45:
		o.Kind = capturing
		switch rng.IntN(6) {
		case 0, 1:
			o.Whole = true
		case 2:
			o.Amount = h.Authorised
		case 3:
			o.Amount = money.Pence(rng.Int64N(int64(h.Authorised) + 1))
		case 4:
			o.Amount = h.Authorised + money.Pence(rng.Int64N(int64(h.Authorised)+2))
		case 5:
			o.Amount, o.Overrun = money.Pence(rng.Int64N(4*int64(h.Authorised))), true
		}
	case p < 65:
		o.Kind = voiding
	case p < 80:
		o.Kind, o.Amount = extending, h.Authorised/2+money.Pence(rng.Int64N(2*int64(h.Authorised)))
	default:
		o.Kind = sending
	}
	return o
}

func (w *worker) learn(holds ...wallet.Hold) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = append(w.known, holds...)
}

// do does it.
func (w *worker) do(o *op) (a answer) {
	ctx, org := context.Background(), w.Orgs[o.Org]
	in := func(orgs []uuid.UUID, fn func(context.Context, *db.Tx) error) error { return w.db.InTx(ctx, orgs, fn) }
	settlement := wallet.Settlement{
		OrgID: org, Hold: o.Hold, Source: o.Source, Amount: o.Amount, Whole: o.Whole, Overrun: o.Overrun, Actor: o.actor(),
	}
	var h wallet.Hold
	var err error
	switch o.Kind {
	case authorising:
		r := w.request(o)
		if o.In {
			err = in([]uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
				h, err = w.gates.AuthoriseIn(ctx, tx, r)
				return err
			})
		} else {
			h, err = w.gates.Authorise(ctx, r)
		}
		if err == nil {
			w.learn(h)
		}
	case capturing, voiding, extending, sending:
		within, shared := w.gates.CaptureIn, w.gates.Capture
		switch o.Kind { //nolint:exhaustive // the one that is left is capturing
		case voiding:
			within, shared = w.gates.VoidIn, w.gates.Void
		case extending:
			within, shared = w.gates.ExtendIn, w.gates.Extend
		case sending:
			within, shared = w.gates.SendIn, nil
		}
		if shared == nil || o.In && within != nil {
			err = in([]uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
				h, err = within(ctx, tx, settlement)
				return err
			})
		} else {
			h, err = shared(ctx, settlement)
		}
	case sweeping:
		_, err = w.gates.Expire(ctx)
	case crediting:
		var payments []wallet.Payment
		var orgs []uuid.UUID
		for _, p := range w.Payments {
			if slices.Contains(o.Intents, p.PaymentIntent) {
				p.EventID = o.ID
				payments, orgs = append(payments, p), append(orgs, p.OrgID)
			}
		}
		err = in(orgs, func(ctx context.Context, tx *db.Tx) error {
			credited, err := wallet.CreditPayments(ctx, tx, payments)
			a.Credited = nil
			for intent, did := range credited {
				if did {
					a.Credited = append(a.Credited, intent)
				}
			}
			return err
		})
	case adjusting:
		_, kind, amount := adjustment(w.Seed, o.Reference, o.Other, len(w.Orgs))
		var tr wallet.Transaction
		err = in([]uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			tr, err = wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: org, Kind: kind, Amount: amount, Reason: "because", Reference: strconv.FormatInt(o.Reference, 10), Actor: o.actor(),
			})
			return err
		})
		a.Transaction = &tr
	case limiting:
		change := wallet.LimitChange{OrgID: org, ByAction: map[wallet.Action]*money.Pence{}, Actor: o.actor()}
		for i, most := range o.Caps {
			switch {
			case most < 0:
			case i == 0:
				change.All = &most
			default:
				change.ByAction[wallet.Actions[i-1]] = &most
			}
		}
		err = w.ledger.SetLimits(ctx, change)
	case freezing:
		err = w.ledger.Freeze(ctx, org, "because", o.actor())
	case thawing:
		err = w.ledger.Thaw(ctx, org, "because", o.actor())
	case reading:
		var b wallet.Balance
		b, _, err = w.ledger.Overview(ctx, org, 0)
		a.Balance = &b
	}
	if h.ID != uuid.Nil {
		a.Hold = &h
	}
	if f := fault.As(err); f != nil {
		a = answer{Failed: err.Error(), Kind: f.Kind, Code: f.Code, Field: f.Field, Members: f.Members}
	}
	return a
}

// request is what an authorising op asks.
func (w *worker) request(o *op) wallet.HoldRequest {
	wish := wished(w.Seed, o.Key, o.Other, len(w.Orgs))
	r := wallet.HoldRequest{
		OrgID: w.Orgs[wish.Org], Action: wallet.Actions[wish.Action], Quantity: wish.Quantity, Destination: wish.Destination, Source: wish.Source,
		Key: strconv.FormatInt(o.Key, 10), AtOnce: wish.AtOnce, Actor: o.actor(),
	}
	if o.Poisoned {
		r.RequestID = "\x00"
	}
	return r
}

// crowd asks every wallet in turn for a penny, until all requests are made.
func (w *worker) crowd(name string) {
	passed := 0
	for {
		n := w.page.keys.Add(1)
		if n > w.Crowd {
			break
		}
		_, err := w.gates.Authorise(context.Background(), wallet.HoldRequest{
			OrgID: w.Orgs[n%int64(len(w.Orgs))], Action: wallet.ActionKnowledge, Quantity: 1, Source: wallet.SourceAPI, Key: strconv.FormatInt(n, 10),
			AtOnce: n%3 > 0, Actor: audit.System(name),
		})
		switch f := fault.As(err); {
		case err == nil:
			passed++
		case f.Code != "insufficient_funds":
			fmt.Fprintln(os.Stderr, "refused with:", err)
			os.Exit(1)
		}
		if n%50 == 0 { // others lock many wallets at a time as well
			payments := slices.Clone(w.Payments)
			rand.Shuffle(len(payments), func(i, j int) { payments[i], payments[j] = payments[j], payments[i] })
			err := w.db.InTx(context.Background(), w.Orgs, func(ctx context.Context, tx *db.Tx) error {
				_, err := wallet.CreditPayments(ctx, tx, payments[:len(w.Orgs)])
				return err
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, "couldn't credit:", err)
				os.Exit(1)
			}
		}
	}
	w.write(entry{ID: name, Ticket: int64(passed)})
}

// wantLargeRounds makes sure that the crowd was one: that rounds were of more than 64 decisions.
func (w *worker) wantLargeRounds() error {
	registry := prometheus.NewRegistry()
	w.rounds.Register(registry)
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if f.GetName() != "ringfence_gate_round_size" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() == 64 && b.GetCumulativeCount() < h.GetSampleCount() {
				return nil
			}
		}
	}
	return errors.New("no round was of more than 64 decisions")
}

// process is a worker as its test sees it.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.Closer
	log   string
	words strings.Builder
	ended chan struct{}
}

// start starts a worker on a job. It ends with the test at the latest.
func start(t *testing.T, j job) *process {
	t.Helper()
	j.Log = filepath.Join(t.TempDir(), j.Name)
	given, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(self), log: j.Log, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), workerEnv+"="+string(given))
	p.cmd.Stderr = &p.words
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state is asked for
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) runs() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill is kill -9, of a process that runs.
func (p *process) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	<-p.ended
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		p.t.Fatalf("a worker was not killed, it had ended with %s: %s", p.cmd.ProcessState, p.words.String())
	}
}

// finish waits for the end of the job.
func (p *process) finish() {
	p.t.Helper()
	<-p.ended
	if !p.cmd.ProcessState.Success() {
		p.t.Fatalf("a worker ended with %s: %s", p.cmd.ProcessState, p.words.String())
	}
}

// entries reads the log.
func (p *process) entries() (list []entry) {
	p.t.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a worker that was killed before its first line
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			if !strings.HasSuffix(line, "\n") {
				break // killed over it
			}
			p.t.Fatalf("%q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// seeded is the seed of what a test leaves to chance.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("RINGFENCE_FAULT_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("RINGFENCE_FAULT_SEED: %v", err)
		}
	}
	t.Logf("RINGFENCE_FAULT_SEED=%d", seed)
	return seed
}
