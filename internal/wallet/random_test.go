package wallet_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// storm is a test in which several processes do everything at once to a few wallets.
type storm struct {
	desk
	pageName string
	page     *page
	seed     uint64
	orgs     []uuid.UUID
	payments []wallet.Payment
	workers  []*process // all that there were
	killed   int
	own      []entry // what the test itself does in the end
}

const (
	stormWallets  = 4
	stormOpening  = money.Pence(6_00)
	stormPayments = 60
	stormCallers  = 8 // of each process
	// stormSkew is how far one process's clock is ahead of the other's.
	stormSkew = 150*time.Millisecond + 500*time.Microsecond
)

// TestStorm lets two processes authorise, capture, void, extend, send, expire, credit, adjust, limit and freeze at random,
// with keys and holds in common, kills one of them with kill -9 and starts it again, and moves their clocks past the end
// of holds and of a month. Whatever was answered must have happened just so, and what was not answered whole or not at all:
// there must be one order of everything in which a second implementation of the rules gives every answer, every line of the
// ledger, and what is in the database in the end.
func TestStorm(t *testing.T) {
	newStorm(t, seeded(t)).rage(8, 1250, 1)
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	s := &storm{seed: seed, pageName: filepath.Join(t.TempDir(), "page")}
	var err error
	if s.page, err = openPage(s.pageName); err != nil {
		t.Fatal(err)
	}
	url, now := dbtest.URL(t), s.page.clock(0)
	d := dbtest.OpenURL(t, url, now)
	s.desk = desk{fixture{t, d, url}, nil, newGates(t, d, now)}
	s.orgs = wallettest.Orgs(t, d, stormWallets, stormOpening)
	s.payments = s.plant(stormPayments, s.orgs, func(i int) money.Pence { return money.Pence(1 + 37*i%5_00) })
	return s
}

// plant adds paid payments that are yet to be credited, to one organisation after the other.
func (f fixture) plant(n int, orgs []uuid.UUID, amount func(int) money.Pence) (payments []wallet.Payment) {
	f.t.Helper()
	var topUps, owners, intents []string
	var amounts []int64
	for i := range n {
		p := wallet.Payment{
			PaymentIntent: fmt.Sprintf("pi_%d", i), OrgID: orgs[i%len(orgs)], TopUpID: uuid.Must(uuid.NewV7()), Amount: amount(i), EventID: "planted",
		}
		payments = append(payments, p)
		topUps, owners, intents = append(topUps, p.TopUpID.String()), append(owners, p.OrgID.String()), append(intents, p.PaymentIntent)
		amounts = append(amounts, int64(p.Amount))
	}
	user := uuid.Must(uuid.NewV7())
	dbtest.Super(f.t, f.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1::uuid, 'local', $1::uuid::text, $1::uuid || '@example.com', now())`, user)
	dbtest.Super(f.t, f.url, `
		INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, paid_pence, created_at, updated_at)
		SELECT u.id, u.org, $1, u.amount, 0, (SELECT id FROM exchange_rates LIMIT 1), 'paid', u.amount, now(), now()
		FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) u (id, org, amount)`, user, pq.Array(topUps), pq.Array(owners), pq.Array(amounts))
	dbtest.Super(f.t, f.url, `
		INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at)
		SELECT u.intent, u.org, u.top_up, u.amount, now(), now(), now()
		FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[]) u (intent, org, top_up, amount)`,
		pq.Array(intents), pq.Array(owners), pq.Array(topUps), pq.Array(amounts))
	return payments
}

// enter starts a process that works until the storm is over.
func (s *storm) enter(name string, skew time.Duration) *process {
	s.t.Helper()
	p := start(s.t, job{
		URL: s.url, Page: s.pageName, Name: name, Number: len(s.workers), Seed: s.seed, Callers: stormCallers, Orgs: s.orgs, Skew: skew, Payments: s.payments,
	})
	s.workers = append(s.workers, p)
	return p
}

// rage goes on for so many stages of so many tickets; kills of them end with a kill, and all with a move of the clocks.
func (s *storm) rage(stages int, tickets int64, kills int) {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(s.seed, 0))
	steady, victim := s.enter("steady", 0), s.enter("victim", stormSkew)
	for stage := 1; stage <= stages; stage++ {
		until(s.t, fmt.Sprintf("stage %d", stage), func() bool {
			if !steady.runs() || !victim.runs() {
				s.t.Fatalf("a worker has ended by itself: %s%s", steady.words.String(), victim.words.String())
			}
			return s.page.tickets.Load() >= int64(stage)*tickets
		})
		s.page.moved.Add(int64(10*time.Minute + time.Duration(rng.Int64N(int64(10*time.Minute))).Truncate(time.Millisecond)))
		if stage*(kills+1)/stages > (stage-1)*(kills+1)/stages && stage < stages {
			victim.kill()
			s.killed++
			victim = s.enter(fmt.Sprintf("victim%d", s.killed), stormSkew)
		}
	}
	s.page.ended.Store(true)
	steady.finish()
	victim.finish()
	s.settleAll()
	s.explain()
}

// settleAll credits what is left, and expires what is due.
func (s *storm) settleAll() {
	s.t.Helper()
	s.do(op{ID: "test-credit", Kind: crediting}, func() (a answer) {
		err := s.db.InTx(s.t.Context(), s.orgs, func(ctx context.Context, tx *db.Tx) error {
			credited, err := wallet.CreditPayments(ctx, tx, s.payments)
			for intent, did := range credited {
				if did {
					a.Credited = append(a.Credited, intent)
				}
			}
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		return a
	})
	s.do(op{ID: "test-sweep", Kind: sweeping}, func() answer {
		s.expireAll()
		return answer{}
	})
}

// do logs what the test does itself, as a worker would.
func (s *storm) do(o op, fn func() answer) {
	now := s.page.clock(0)
	for _, p := range s.payments {
		if o.Kind == crediting {
			o.Intents = append(o.Intents, p.PaymentIntent)
		}
	}
	s.own = append(s.own, entry{ID: o.ID, Ticket: s.page.tickets.Add(1), Clock: now(), Op: &o})
	a := fn()
	s.own = append(s.own, entry{ID: o.ID, Ticket: s.page.tickets.Add(1), Clock: now(), Answer: &a})
}

// until waits for something, and fails when that takes far too long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s: it did not come", what)
		}
	}
}

// never is the ticket of an answer that did not come.
const never = math.MaxInt64

// sweep is what one transaction of a sweep did to one wallet. No two of them are at the same moment: they come at different
// tickets, and the processes' clocks differ by what no number of tickets makes up for.
type sweep struct {
	wallet int
	at     int64
}

// evidence is what there is to explain of one wallet.
type evidence struct {
	first, last *purse
	history     []porcupine.Operation
	holds       map[int64]int // by key
	adjustments map[int64]int // by reference
	payments    map[string]int
}

// stored is what the database has in the end.
type stored struct {
	holds    map[int64]wallet.Hold // by key
	keys     map[uuid.UUID]int64
	usage    map[uuid.UUID]posted   // by hold
	lines    map[string]posted      // by organisation, kind and reference
	adjusted map[string]money.Pence // by organisation and reference
	actors   map[string]bool        // who limited, froze and thawed
}

func (s *storm) read() stored {
	s.t.Helper()
	db := stored{map[int64]wallet.Hold{}, map[uuid.UUID]int64{}, map[uuid.UUID]posted{}, map[string]posted{}, map[string]money.Pence{}, map[string]bool{}}
	var holds []wallet.Hold
	dbtest.Select(s.t, s.url, &holds, `SELECT `+wallet.HoldColumns+` FROM holds`)
	for _, h := range holds {
		key, err := strconv.ParseInt(h.Key, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, twice := db.holds[key]; twice {
			s.t.Errorf("key %d has two holds", key)
		}
		db.holds[key], db.keys[h.ID] = h, key
	}
	var lines []struct {
		ID        uuid.UUID `db:"id"`
		Org       string    `db:"org_id"`
		Kind      string    `db:"kind"`
		Reference string    `db:"reference"`
		Asked     int64     `db:"asked"`
		posted
	}
	dbtest.Select(s.t, s.url, &lines, `
		SELECT t.id, t.org_id, t.kind, t.reference, t.seq, t.amount_pence, t.balance_after_pence, t.debt_after_pence, -sum(p.amount_pence)::bigint AS asked
		FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id JOIN ledger_accounts a ON a.id = p.account_id
		WHERE a.org_id IS NULL GROUP BY t.id`)
	for _, l := range lines {
		if l.Kind == string(wallet.Usage) {
			db.usage[l.ID] = l.posted
			continue
		}
		db.lines[l.Org+l.Kind+l.Reference] = l.posted
		if l.Kind != string(wallet.TopUp) {
			db.adjusted[l.Org+l.Reference] = money.Pence(l.Asked)
		}
	}
	var actors []string
	dbtest.Select(s.t, s.url, &actors, `SELECT actor FROM audit_log WHERE action IN ('wallet.limits_set', 'wallet.frozen', 'wallet.thawed')`)
	for _, a := range actors {
		db.actors[a] = true
	}
	return db
}

// explain puts together what is known of each wallet and has it explained.
func (s *storm) explain() {
	s.t.Helper()
	db := s.read()
	type done struct {
		before, after *entry
		// since is how early the transaction may have begun in which it was done: that of a round which takes it along began
		// with whoever led the round, who is still waiting then.
		since time.Time
	}
	var order []string
	ops := map[string]*done{}
	logs := [][]entry{s.own}
	for _, p := range s.workers {
		logs = append(logs, p.entries())
	}
	for _, log := range logs {
		waiting := map[string]time.Time{}
		for i, e := range log {
			if e.Op == nil {
				ops[e.ID].after = &log[i]
				delete(waiting, e.ID)
				continue
			}
			waiting[e.ID] = e.Clock
			since := slices.MinFunc(slices.Collect(maps.Values(waiting)), time.Time.Compare)
			ops[e.ID] = &done{before: &log[i], since: since}
			order = append(order, e.ID)
		}
	}
	wallets := s.evidence(order, func(id string) *op { return ops[id].before.Op })
	for i, e := range wallets {
		s.last(db, i, e)
	}

	seen := map[string]int{}
	var sweeps []porcupine.Operation
	over := s.page.clock(stormSkew)()
	for _, id := range order {
		d := ops[id]
		o := d.before.Op
		st := step{op: o, earliest: d.since, latest: over}
		call, end := d.before.Ticket, int64(never)
		if d.after != nil {
			st.answer, st.latest, end = d.after.Answer, d.after.Clock, d.after.Ticket
			seen[string(o.Kind)]++
		} else {
			seen["lost"]++
		}
		if o.Kind == sweeping {
			st.earliest = d.before.Clock // nobody takes it along
			sweeps = append(sweeps, porcupine.Operation{Input: &st, Call: call, Return: end})
			continue
		}
		for _, st := range s.steps(db, wallets, st) {
			i := o.Org
			if o.Kind == crediting {
				i = slices.Index(s.orgs, s.payment(st.intent).OrgID)
			}
			wallets[i].history = append(wallets[i].history, porcupine.Operation{Input: st, Call: call, Return: end})
			if st.answer == nil {
				seen["lost and done, or perhaps"]++
			} else if st.answer.Failed != "" {
				seen[fmt.Sprintf("refused: %s%s", st.answer.Code, st.answer.Field)]++
			} else if h := st.answer.Hold; h != nil && h.Repeated {
				seen["repeated"]++
			}
		}
	}
	expired := map[sweep][]int{}
	for key, h := range db.holds {
		if h.State != wallet.HoldExpired {
			continue
		}
		seen["expired"]++
		if h.SettledBy != "system:sweeper" || h.UpdatedAt.Before(h.ExpiresAt) {
			s.t.Errorf("at %s %s ended a hold that was to expire at %s", h.UpdatedAt, h.SettledBy, h.ExpiresAt)
		}
		i := slices.Index(s.orgs, h.OrgID)
		one := sweep{i, h.UpdatedAt.UnixMicro()}
		expired[one] = append(expired[one], wallets[i].holds[key])
	}
	for one, holds := range expired {
		call, end := int64(never), int64(0)
		for _, o := range sweeps {
			if st := o.Input.(*step); one.at >= st.earliest.UnixMicro() && one.at <= st.latest.UnixMicro() { //nolint:errcheck // it is nothing else
				call, end = min(call, o.Call), max(end, o.Return)
			}
		}
		if end == 0 {
			s.t.Errorf("%d holds expired when nobody swept", len(holds))
			continue
		}
		e := wallets[one.wallet]
		e.history = append(e.history, porcupine.Operation{Input: &step{expired: holds}, Call: call, Return: end})
	}
	ticket := s.page.tickets.Add(2)
	for i, e := range wallets {
		e.history = append(e.history, porcupine.Operation{Input: &step{last: e.last}, Call: ticket - 1, Return: ticket})
		explain(s.t, fmt.Sprintf("wallet %d", i), e.first, e.history)
	}
	s.report(seen, len(order))
}

func (s *storm) payment(intent string) wallet.Payment {
	return s.payments[slices.IndexFunc(s.payments, func(p wallet.Payment) bool { return p.PaymentIntent == intent })]
}

// evidence numbers what each wallet has to do with, and says how it began.
func (s *storm) evidence(order []string, find func(string) *op) (wallets []*evidence) {
	for range s.orgs {
		wallets = append(wallets, &evidence{holds: map[int64]int{}, adjustments: map[int64]int{}, payments: map[string]int{}})
	}
	for _, id := range order {
		o := find(id)
		e := wallets[o.Org]
		switch o.Kind { //nolint:exhaustive // the others name nothing new
		case authorising:
			if _, there := e.holds[o.Key]; !there {
				e.holds[o.Key] = len(e.holds)
			}
		case adjusting:
			if _, there := e.adjustments[o.Reference]; !there {
				e.adjustments[o.Reference] = len(e.adjustments)
			}
		}
	}
	for _, p := range s.payments {
		e := wallets[slices.Index(s.orgs, p.OrgID)]
		e.payments[p.PaymentIntent] = len(e.payments)
	}
	for _, e := range wallets {
		e.first = &purse{
			paid: stormOpening, seq: 1, caps: [5]money.Pence{-1, -1, -1, -1, -1}, holds: make([]pursed, len(e.holds)),
			adjusted: make([]money.Pence, len(e.adjustments)), credited: make([]bool, len(e.payments)),
		}
	}
	return wallets
}

// last is a wallet as the database has it in the end.
func (s *storm) last(db stored, i int, e *evidence) {
	s.t.Helper()
	var row struct {
		Balance   money.Pence `db:"balance_pence"`
		Bonus     money.Pence `db:"bonus_pence"`
		Held      money.Pence `db:"held_pence"`
		Debt      money.Pence `db:"debt_pence"`
		Seq       int64       `db:"last_seq"`
		Frozen    bool        `db:"frozen"`
		Month     time.Time   `db:"spent_month"`
		Call      money.Pence `db:"spent_call_pence"`
		SMS       money.Pence `db:"spent_sms_pence"`
		Number    money.Pence `db:"spent_number_pence"`
		Knowledge money.Pence `db:"spent_knowledge_pence"`
		Caps      pq.Int64Array
	}
	dbtest.Get(s.t, s.url, &row, `
		SELECT balance_pence, bonus_pence, held_pence, debt_pence, last_seq, frozen_at IS NOT NULL AS frozen, spent_month,
		       spent_call_pence, spent_sms_pence, spent_number_pence, spent_knowledge_pence,
		       ARRAY[coalesce(cap_pence, -1), coalesce(cap_call_pence, -1), coalesce(cap_sms_pence, -1), coalesce(cap_number_pence, -1), coalesce(cap_knowledge_pence, -1)] AS caps
		FROM wallets WHERE org_id = $1`, s.orgs[i])
	last := *e.first
	last.paid, last.bonus, last.held, last.debt, last.seq, last.frozen = row.Balance-row.Bonus, row.Bonus, row.Held, row.Debt, row.Seq, row.Frozen
	last.month, last.spent = monthOf(row.Month), [4]money.Pence{row.Call, row.SMS, row.Number, row.Knowledge}
	for j, most := range row.Caps {
		last.caps[j] = money.Pence(most)
	}
	last.holds, last.adjusted, last.credited = slices.Clone(last.holds), slices.Clone(last.adjusted), slices.Clone(last.credited)
	for key, h := range db.holds {
		if h.OrgID == s.orgs[i] {
			last.holds[e.holds[key]] = pursed{
				h.State, h.Amount, h.Authorised, slices.Index(wallet.Actions, h.Action), monthOf(h.CreatedAt),
				h.Quantity != wished(s.seed, key, false, len(s.orgs)).Quantity,
			}
		}
	}
	for reference, j := range e.adjustments {
		last.adjusted[j] = db.adjusted[s.orgs[i].String()+strconv.FormatInt(reference, 10)]
	}
	for intent, j := range e.payments {
		_, last.credited[j] = db.lines[s.orgs[i].String()+string(wallet.TopUp)+intent]
	}
	e.last = &last
}

// steps are what an op may have done to wallets; of a lost one nothing, if the database shows that it did nothing.
func (s *storm) steps(db stored, wallets []*evidence, st step) []*step {
	s.t.Helper()
	o, org, lost := st.op, s.orgs[st.op.Org].String(), st.answer == nil
	e := wallets[o.Org]
	actor := string(o.actor())
	if !lost && st.answer.Failed == "" && st.answer.Hold != nil {
		if h, there := db.holds[db.keys[st.answer.Hold.ID]]; !there || h.OrgID != s.orgs[o.Org] {
			s.t.Errorf("%s was told of a hold that is not there: %+v", o.ID, st.answer.Hold)
			return nil
		}
	}
	line := func(lines posted, there bool) *posted {
		if !there {
			return nil
		}
		return &lines
	}
	switch o.Kind {
	case authorising:
		h, made := db.holds[o.Key]
		mine := made && h.Actor == actor
		if lost && !mine {
			return nil
		}
		if !lost && st.answer.Failed == "" && st.answer.Hold.Repeated == mine {
			s.t.Errorf("%s was told that its hold was repeated %t, and it was made by %s", o.ID, st.answer.Hold.Repeated, h.Actor)
		}
		st.index, st.wish, st.made = e.holds[o.Key], wished(s.seed, o.Key, o.Other, len(s.orgs)), h.CreatedAt
		usage, charged := db.usage[h.ID]
		st.line = line(usage, charged && mine)
	case capturing, voiding, extending, sending:
		key, there := db.keys[o.Hold]
		if !there {
			s.t.Errorf("%s knows of a hold that is not there: %s", o.ID, o.Hold)
			return nil
		}
		h := db.holds[key]
		ended := h.SettledBy == actor && h.State == map[kind]wallet.HoldState{capturing: wallet.HoldCaptured, voiding: wallet.HoldVoid}[o.Kind]
		if lost && !ended && (o.Kind == capturing || o.Kind == voiding) {
			return nil
		}
		st.index, st.wish.Source = e.holds[key], h.Source
		usage, charged := db.usage[h.ID]
		st.line = line(usage, charged && ended)
	case crediting:
		var list []*step
		for i, intent := range o.Intents {
			if slices.Index(o.Intents, intent) < i {
				continue
			}
			p, one := s.payment(intent), st
			one.intent, one.amount = intent, p.Amount
			one.index = wallets[slices.Index(s.orgs, p.OrgID)].payments[intent]
			if one.line = line(lookUp(db.lines, p.OrgID.String()+string(wallet.TopUp)+intent)); one.line != nil || !lost {
				list = append(list, &one)
			}
		}
		return list
	case adjusting:
		var kind wallet.Kind
		_, kind, st.amount = adjustment(s.seed, o.Reference, o.Other, len(s.orgs))
		st.index, st.bonus = e.adjustments[o.Reference], kind == wallet.Bonus
		if st.line = line(lookUp(db.lines, org+string(kind)+strconv.FormatInt(o.Reference, 10))); st.line == nil && lost {
			return nil
		}
	case limiting, freezing, thawing:
		if lost && !db.actors[actor] {
			return nil
		}
	case reading:
		if lost {
			return nil
		}
	case sweeping:
		return nil
	}
	return []*step{&st}
}

func lookUp[K comparable, V any](m map[K]V, k K) (V, bool) {
	v, there := m[k]
	return v, there
}

// report says what the storm was made of, and fails where something that it is for did not happen in it.
func (s *storm) report(seen map[string]int, n int) {
	s.t.Helper()
	var list []string
	for what, times := range seen {
		list = append(list, fmt.Sprintf("%s ×%d", what, times))
	}
	slices.Sort(list)
	s.t.Logf("%d operations of %d processes, %d of them killed: %s", n, len(s.workers), s.killed, strings.Join(list, ", "))
	for _, what := range []string{
		string(authorising), string(capturing), string(voiding), string(extending), string(sending), string(sweeping), string(crediting), string(adjusting),
		string(reading), "expired", "repeated", "refused: insufficient_funds", "refused: idempotency_key_reused", "refused: undecided",
	} {
		if seen[what] == 0 {
			s.t.Errorf("no %s", what)
		}
	}
	if months := monthOf(s.page.clock(0)()) - monthOf(beforeApril); months < 1 {
		s.t.Error("no month began")
	}
}
