package wallet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/batch"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

const (
	// roundMost bounds what one commit carries, and maxWaiting who may wait for one: more are refused, not queued.
	roundMost  = 256
	maxWaiting = 8192
	// roundBudget bounds for how long a round that has failed is gone on with one by one; a transaction has bounds of its
	// own (see db.InTx).
	roundBudget = 20 * time.Second
	// aloneWaits is how long one that is decided alone waits for its wallet, since others wait behind it.
	aloneWaits = time.Second
)

// Gates decide whether something that costs money may happen, and settle it afterwards. Whatever they cannot find out
// they refuse.
//
// Callers that arrive while a decision is being committed share the next commit, so that a wallet that everybody asks at
// once is not asked one by one. What belongs to another fact, such as a message's row, is decided in the caller's own
// transaction by the methods whose names end in In.
type Gates struct {
	db      *db.DB
	now     func() time.Time
	log     *slog.Logger
	tariffs tariffs
	// lanes are rounds that go on side by side; an organisation is always in the same one.
	lanes   []*batch.Group[operation, Hold]
	metrics *GateMetrics
}

// GateOptions are what gates are made of.
type GateOptions struct {
	DB      *db.DB
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *GateMetrics // nil: not counted
	// Lanes is how many commits may go on side by side; zero means 2.
	Lanes int
}

// NewGates puts gates together.
func NewGates(o GateOptions) *Gates {
	if o.Metrics == nil {
		o.Metrics = NewGateMetrics()
	}
	if o.Lanes == 0 {
		o.Lanes = 2
	}
	g := &Gates{db: o.DB, now: o.Now, log: o.Log, tariffs: tariffs{db: o.DB, now: o.Now}, metrics: o.Metrics}
	for range o.Lanes {
		g.lanes = append(g.lanes, &batch.Group[operation, Hold]{Run: g.round, Most: roundMost, Waiting: maxWaiting})
	}
	return g
}

// Tariff gives the rate card of this moment.
func (g *Gates) Tariff(ctx context.Context) (*Tariff, error) { return g.tariffs.current(ctx) }

// Now is the gates' clock.
func (g *Gates) Now() time.Time { return g.now() }

// PricesChanged has this process read the rate card anew at once; others do within a second.
func (g *Gates) PricesChanged() { g.tariffs.forget() }

// SetPrice adds a version of a line of the rate card and gives it; see the function of that name. This process counts with
// it at once, or at its start when that is later.
func (g *Gates) SetPrice(ctx context.Context, c PriceChange) (p Price, err error) {
	defer g.PricesChanged() // also when it is not known whether it was committed
	err = g.db.InSystemTx(ctx, "a change of the rate card, which no organisation may write", func(ctx context.Context, tx *db.Tx) error {
		p, err = SetPrice(ctx, tx, c)
		return err
	})
	return p, err
}

// Quote is what something costs now, and what must be available for it to begin, in pence.
func (g *Gates) Quote(ctx context.Context, r HoldRequest) (amount, required money.Pence, err error) {
	if r.Key == "" {
		r.Key = "quote"
	}
	q, err := g.ask(ctx, r)
	if err != nil {
		return 0, 0, err
	}
	return q.amount, q.required, q.unpriced
}

// Authorise decides whether something may happen and sets aside what it costs, in a commit shared with others. When it
// returns a hold, that is committed; after an error nothing is known to be. It is safe to repeat: the same key gets the
// same hold.
//
// Faults: Invalid for a request that makes no sense; Forbidden for what is not offered, a frozen wallet or a spending
// limit; Unpaid with what is missing; Conflict for a key that stands for another request; Unavailable when it could not be
// decided.
func (g *Gates) Authorise(ctx context.Context, r HoldRequest) (Hold, error) {
	q, err := g.ask(ctx, r)
	if err != nil {
		return Hold{}, err
	}
	h, err := g.share(ctx, operation{org: r.OrgID, ask: q})
	g.metrics.decided(r.Action, err)
	return h, err
}

// AuthoriseIn is Authorise within the caller's transaction.
func (g *Gates) AuthoriseIn(ctx context.Context, tx *db.Tx, r HoldRequest) (Hold, error) {
	q, err := g.ask(ctx, r)
	if err != nil {
		return Hold{}, err
	}
	h, err := one(ctx, tx, operation{org: r.OrgID, ask: q})
	g.metrics.decided(r.Action, err)
	return h, err
}

// Capture takes what something cost from what was set aside for it, and frees the rest. It may be more than is held, up to
// twice as much, if that is available. The same capture again gives the same hold; another amount, or a hold that has
// ended, is a Conflict.
func (g *Gates) Capture(ctx context.Context, s Settlement) (Hold, error) {
	return g.share(ctx, operation{org: s.OrgID, settle: s, do: (*book).capture})
}

// CaptureIn is Capture within the caller's transaction.
func (g *Gates) CaptureIn(ctx context.Context, tx *db.Tx, s Settlement) (Hold, error) {
	return one(ctx, tx, operation{org: s.OrgID, settle: s, do: (*book).capture})
}

// Void frees what was set aside. Voiding a void or expired hold changes nothing; a captured one is a Conflict.
func (g *Gates) Void(ctx context.Context, s Settlement) (Hold, error) {
	return g.share(ctx, operation{org: s.OrgID, settle: s, do: (*book).void})
}

// VoidIn is Void within the caller's transaction.
func (g *Gates) VoidIn(ctx context.Context, tx *db.Tx, s Settlement) (Hold, error) {
	return one(ctx, tx, operation{org: s.OrgID, settle: s, do: (*book).void})
}

// Extend raises what is set aside to s.Amount in all, if that is available and within the limits: for what turns out to
// last longer. An amount that is not higher changes nothing, so it is safe to repeat.
func (g *Gates) Extend(ctx context.Context, s Settlement) (Hold, error) {
	return g.share(ctx, operation{org: s.OrgID, settle: s, do: (*book).extend})
}

// ExtendIn is Extend within the caller's transaction.
func (g *Gates) ExtendIn(ctx context.Context, tx *db.Tx, s Settlement) (Hold, error) {
	return one(ctx, tx, operation{org: s.OrgID, settle: s, do: (*book).extend})
}

// SendIn marks the hold in flight within the caller's transaction: what comes next is asking a provider, and only the
// provider's answer ends the hold. Commit before you ask.
func (g *Gates) SendIn(ctx context.Context, tx *db.Tx, s Settlement) (Hold, error) {
	return one(ctx, tx, operation{org: s.OrgID, settle: s, do: (*book).send})
}

// one does a single operation in the caller's transaction.
func one(ctx context.Context, tx *db.Tx, op operation) (Hold, error) {
	results, err := decide(ctx, tx, &[]operation{op}, nil)
	if err != nil {
		return Hold{}, err
	}
	return results[0].Value, results[0].Err
}

// ask prices a request.
func (g *Gates) ask(ctx context.Context, r HoldRequest) (*asked, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	tariff, err := g.tariffs.current(ctx)
	if err != nil {
		return nil, undecided(err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, undecided(err)
	}
	now := g.now().Truncate(time.Microsecond) // as it is stored, so that a repeat reads the same
	q := &asked{HoldRequest: r, id: id, fingerprint: r.fingerprint(), expires: now.Add(holdFor)}
	if r.Action == ActionCall {
		q.expires = q.expires.Add(time.Duration(r.Quantity) * time.Second)
	}
	q.unpriced = q.priceBy(tariff, now)
	return q, nil
}

// priceBy finds what the request costs. A fault is for the person; any other error says that we could not tell.
func (q *asked) priceBy(t *Tariff, now time.Time) error {
	price, err := t.Price(q.OrgID, q.Action, q.Destination, now)
	if err != nil {
		return err
	}
	version, err := t.Rate(now)
	if err != nil {
		return undecided(err)
	}
	rate, err := version.Rate()
	if err != nil {
		return undecided(err)
	}
	q.price, q.rate = price.ID, version.ID
	if q.amount, q.required, err = price.cost(q.Quantity, rate); err != nil {
		return undecided(err)
	}
	return nil
}

// undecided is the answer when it could not be found out: no.
func undecided(err error) error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "undecided", RetryAfter: time.Second, Cause: err,
		Public: "We could not check your wallet just now, so nothing was done. Try again in a moment, with the same key.",
	}
}

// share has an operation done in the next commit of its organisation's lane.
func (g *Gates) share(ctx context.Context, op operation) (Hold, error) {
	lane := g.lanes[int(op.org[len(op.org)-1])%len(g.lanes)] // an id's last byte is random
	h, err := lane.Do(ctx, op)
	if err == nil {
		return h, nil
	}
	if _, said := errors.AsType[*fault.Error](err); said {
		return Hold{}, err
	}
	return Hold{}, undecided(err)
}

// round decides a batch in one transaction. Where that fails because of what is in it, each is decided alone, so that one
// that cannot be decided keeps no other from its answer; where the database is away nobody waits for it one by one.
func (g *Gates) round(ops []operation, more batch.More[operation]) []batch.Result[Hold] {
	// No caller decides about the others' commit, so none of their contexts is used.
	ctx, cancel := context.WithTimeout(context.Background(), roundBudget)
	defer cancel()
	results, err := g.commit(ctx, &ops, more, 0)
	g.metrics.size.Observe(float64(len(ops))) //nolint:forbidigo // a metric, no money
	if err == nil {
		return results
	}
	results = make([]batch.Result[Hold], len(ops))
	for i := range results {
		results[i].Err = err
	}
	if !errors.Is(err, errMoved) && !errors.Is(err, errCannot) && pq.As(err) == nil {
		return results // the database is away
	}
	g.log.WarnContext(ctx, "a round of decisions failed and is decided one by one", "decisions", len(ops), "error", err)
	stuck := map[uuid.UUID]error{} // whose wallet somebody else has locked: it is waited for once
	for i, op := range ops {
		if results[i].Err = stuck[op.org]; results[i].Err != nil {
			continue
		}
		if results[i].Err = ctx.Err(); results[i].Err != nil {
			continue
		}
		alone, err := g.commit(ctx, &[]operation{op}, nil, aloneWaits)
		if err == nil {
			results[i] = alone[0]
			continue
		}
		results[i].Err = err
		if pq.As(err, pqerror.LockNotAvailable) != nil {
			stuck[op.org] = err
		}
	}
	return results
}

// commit decides the operations in one transaction, with what more has for the same wallets once they are locked. When the
// reply to the commit is lost it decides again: what was committed is found by its keys. It waits for a wallet for as long as
// waits says, or where that is zero as long as everybody does.
func (g *Gates) commit(ctx context.Context, ops *[]operation, more batch.More[operation], waits time.Duration) (results []batch.Result[Hold], err error) {
	orgs := make([]uuid.UUID, len(*ops))
	for i, op := range *ops {
		orgs[i] = op.org
	}
	for range 2 {
		err = g.db.InTx(ctx, orgs, func(ctx context.Context, tx *db.Tx) (err error) {
			if waits > 0 {
				if _, err := tx.ExecContext(ctx, `SELECT set_config('lock_timeout', $1, true)`, strconv.FormatInt(waits.Milliseconds(), 10)); err != nil {
					return fmt.Errorf("couldn't bound the wait for the wallet: %w", err)
				}
			}
			results, err = decide(ctx, tx, ops, more)
			return err
		})
		if !errors.Is(err, db.ErrCommitUnknown) {
			break
		}
	}
	return results, err
}

// expireMost bounds how many holds one commit of the sweeper ends.
const expireMost = 500

// Expire ends the open holds whose time has come, so that their money is free again, and says how many. One that cannot be
// ended is an error and keeps no other from its end. It is safe to repeat and to run in several processes at once.
func (g *Gates) Expire(ctx context.Context) (n int, err error) {
	var due []struct {
		ID     uuid.UUID `db:"id"`
		OrgID  uuid.UUID `db:"org_id"`
		Source Source    `db:"source"`
	}
	err = g.db.InSystemTx(ctx, "holds whose time has come, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id, source FROM holds WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2`, tx.Now, expireMost)
	})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	ops := make([]operation, len(due))
	for i, d := range due {
		s := Settlement{OrgID: d.OrgID, Hold: d.ID, Source: d.Source, Actor: audit.System("sweeper")}
		ops[i] = operation{org: d.OrgID, settle: s, do: (*book).expire}
	}
	for _, r := range g.round(ops, nil) { //nolint:contextcheck // a round has its own, see there
		switch {
		case r.Err != nil:
			err = fmt.Errorf("couldn't end a hold whose time has come: %w", r.Err)
		case !r.Value.Repeated:
			n++
		}
	}
	return n, err
}

// GateMetrics count what the gates do.
type GateMetrics struct {
	decisions *prometheus.CounterVec
	size      prometheus.Histogram
}

// NewGateMetrics makes them; Register adds them to a registry.
func NewGateMetrics() *GateMetrics {
	return &GateMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_gate_decisions_total", Help: "Decisions by action and outcome.",
		}, []string{"action", "outcome"}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ringfence_gate_round_size", Help: "Decisions that shared one commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
	}
}

// Register adds the metrics to a registry.
func (m *GateMetrics) Register(r prometheus.Registerer) { r.MustRegister(m.decisions, m.size) }

func (m *GateMetrics) decided(a Action, err error) {
	outcome := "allowed"
	if err != nil {
		f := fault.As(err)
		switch {
		case f.Kind == fault.Unavailable || f.Kind == fault.Internal:
			outcome = "undecided"
		case f.Code != "":
			outcome = f.Code
		default:
			outcome = "refused"
		}
	}
	m.decisions.WithLabelValues(string(a), outcome).Inc()
}
