package wallet_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// desk is a database with gates before it, and the clock of both.
type desk struct {
	fixture
	clock *dbtest.Clock
	gates *wallet.Gates
}

func newDesk(t *testing.T) desk {
	t.Helper()
	url, clock := dbtest.URL(t), new(dbtest.Clock)
	d := dbtest.OpenURL(t, url, clock.Now)
	return desk{fixture{t, d, url}, clock, newGates(t, d, clock.Now)}
}

// another is the same database seen by another process: pools and gates of its own.
func (d desk) another() desk {
	d.t.Helper()
	d.db = dbtest.OpenURL(d.t, d.url, d.clock.Now)
	d.gates = newGates(d.t, d.db, d.clock.Now)
	return d
}

// text asks for a text message of so many segments, 10p each.
func (d desk) text(org uuid.UUID, key string, segments int64) wallet.HoldRequest {
	return wallet.HoldRequest{OrgID: org, Action: wallet.ActionSMS, Quantity: segments, Destination: ukMobile, Source: wallet.SourceAPI, Key: key, Actor: "key:test"}
}

// authorise asks for what must be allowed.
func (d desk) authorise(r wallet.HoldRequest) wallet.Hold {
	d.t.Helper()
	h, err := d.gates.Authorise(d.t.Context(), r)
	if err != nil {
		d.t.Fatalf("%s %q: %v", r.Action, r.Key, err)
	}
	return h
}

// settle is a settlement of a hold by who made it.
func (d desk) settle(h wallet.Hold, with ...func(*wallet.Settlement)) wallet.Settlement {
	s := wallet.Settlement{OrgID: h.OrgID, Hold: h.ID, Source: h.Source, Actor: audit.System("test")}
	for _, fn := range with {
		fn(&s)
	}
	return s
}

func (d desk) expireAll() {
	d.t.Helper()
	for {
		n, err := d.gates.Expire(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (d desk) number(query string, args ...any) (n int) {
	d.t.Helper()
	dbtest.Get(d.t, d.url, &n, query, args...)
	return n
}

// wantFault fails the test unless err is a fault of that kind and code, and gives it.
func wantFault(t *testing.T, what string, err error, kind fault.Kind, code string) fault.Error {
	t.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != kind || f.Code != code {
		t.Errorf("%s: %v, want kind %d with code %q", what, err, kind, code)
		return fault.Error{}
	}
	return *f
}

func TestSameKeySameAnswer(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	r := d.text(org, "key", 3)
	r.Fingerprint = "Your table is booked"
	first := d.authorise(r)
	same := func(what string, r wallet.HoldRequest) {
		t.Helper()
		if h := d.authorise(r); h.ID != first.ID || !h.Repeated || h.AsMade().Amount != 30 {
			t.Errorf("%s: %+v", what, h)
		}
	}
	same("the same", r)
	spelled := r
	spelled.Destination = " +44 (7400) 123-456 "
	same("the destination spelled in another way", spelled)
	by := r
	by.Actor, by.RequestID = "key:another", "another"
	same("by somebody else of the organisation", by)

	for what, spoil := range map[string]func(*wallet.HoldRequest){
		"action":      func(r *wallet.HoldRequest) { r.Action = wallet.ActionCall },
		"quantity":    func(r *wallet.HoldRequest) { r.Quantity++ },
		"destination": func(r *wallet.HoldRequest) { r.Destination = usNumber },
		"none":        func(r *wallet.HoldRequest) { r.Destination = "" },
		"at once":     func(r *wallet.HoldRequest) { r.AtOnce = true },
		"fingerprint": func(r *wallet.HoldRequest) { r.Fingerprint = "Your table is gone" },
		// One that would not be allowed at all still meets the key first.
		"not offered": func(r *wallet.HoldRequest) { r.Destination = canada },
		"too dear":    func(r *wallet.HoldRequest) { r.Quantity = 1000 },
	} {
		changed := r
		spoil(&changed)
		_, err := d.gates.Authorise(t.Context(), changed)
		wantFault(t, "another "+what, err, fault.Conflict, "idempotency_key_reused")
	}
	// Keys belong to an organisation and a source.
	elsewhere := r
	elsewhere.OrgID = other
	if h := d.authorise(elsewhere); h.Repeated || h.ID == first.ID || h.OrgID != other {
		t.Errorf("another organisation with this key: %+v", h)
	}
	source := r
	source.Source = wallet.SourceMessage
	if h := d.authorise(source); h.Repeated || h.ID == first.ID {
		t.Errorf("another source with this key: %+v", h)
	}

	d.clock.Advance(time.Minute)
	d.setPrice(wallet.PriceChange{Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOff})
	same("once it is no longer offered", r)
	if at := d.balance(org).UpdatedAt; !at.Equal(dbtest.Start) {
		t.Errorf("a repeat touched the wallet at %s", at)
	}
	d.outcome("capture 5", first, false)
	same("once it is captured", r)
	if _, err := d.adjustAll(org); err != nil {
		t.Fatal(err)
	}
	same("with an empty wallet", r)
	if err := wallet.New(d.db).Freeze(t.Context(), org, "fraud", "operator:x"); err != nil {
		t.Fatal(err)
	}
	same("while frozen", r)
	if n := d.number(`SELECT count(*) FROM holds`); n != 3 {
		t.Errorf("%d holds", n)
	}
}

// adjustAll takes everything that is available.
func (d desk) adjustAll(org uuid.UUID) (wallet.Transaction, error) {
	return d.adjust(org, wallet.Adjustment, -d.balance(org).Available(), uuid.NewString())
}

// TestRefusalsAreNotKept: a refusal carries what is missing, and the same key is decided afresh after a top-up of just
// that.
func TestRefusalsAreNotKept(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		r                   wallet.HoldRequest
		required, shortfall int64
	}{
		{d.text(uuid.Nil, "key", 10), 100, 80},
		{wallet.HoldRequest{Action: wallet.ActionCall, Quantity: 1, Source: wallet.SourceCall, Key: "key", Actor: "key:test"}, 79, 59}, // 1p, but 79p to begin
		{wallet.HoldRequest{Action: wallet.ActionNumber, Quantity: 1, Source: wallet.SourceNumber, Key: "key", Actor: "key:test", AtOnce: true}, 1000, 980},
	} {
		org := wallettest.Org(t, d.db, "Harbour Dental, "+string(c.r.Action), 50)
		held := d.authorise(wallet.HoldRequest{OrgID: org, Action: wallet.ActionKnowledge, Quantity: 30, Source: wallet.SourceKnowledge, Key: "held"})
		c.r.OrgID = org
		for range 2 {
			_, err := d.gates.Authorise(t.Context(), c.r)
			f := wantFault(t, string(c.r.Action), err, fault.Unpaid, "insufficient_funds")
			want := map[string]int64{"required_pence": c.required, "available_pence": 20, "debt_pence": 0, "shortfall_pence": c.shortfall}
			if !maps.Equal(f.Members, want) || !strings.Contains(f.Public, "Top up at least "+money.Pence(c.shortfall).String()) {
				t.Errorf("%s: %v, %q; want %v", c.r.Action, f.Members, f.Public, want)
			}
		}
		if b := d.balance(org); b.Held != 30 || b.Balance != 50 {
			t.Errorf("a refusal moved the wallet: %+v", b)
		}
		if _, err := d.credit(d.payment(org, "pi_"+org.String(), money.Pence(c.shortfall-1))); err != nil {
			t.Fatal(err)
		}
		_, err := d.gates.Authorise(t.Context(), c.r)
		wantFault(t, "a penny short", err, fault.Unpaid, "insufficient_funds")
		if _, err := d.adjust(org, wallet.Adjustment, 1, "the penny"); err != nil {
			t.Fatal(err)
		}
		if h := d.authorise(c.r); h.Repeated {
			t.Errorf("a refusal was kept: %+v", h)
		}
		d.outcome("void", held, false)
	}
}

// TestCallsBeginWithAMinimum: 79p must be there for a call to begin, and no more is set aside than it costs.
func TestCallsBeginWithAMinimum(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 79)
	call := wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: 30, Destination: ukMobile, Source: wallet.SourceAPI, Key: "one"}
	if h := d.authorise(call); h.Amount != 28 || h.Authorised != 28 {
		t.Errorf("half a minute: %+v", h)
	}
	call.Key, call.Quantity = "two", 1
	_, err := d.gates.Authorise(t.Context(), call)
	if f := wantFault(t, "a second call", err, fault.Unpaid, "insufficient_funds"); f.Members["required_pence"] != 79 || f.Members["available_pence"] != 51 || f.Members["shortfall_pence"] != 28 {
		t.Errorf("%v", f.Members)
	}
}

// TestQuotes change nothing and answer as the decision would, but for the wallet.
func TestQuotes(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 0)
	if amount, required, err := d.gates.Quote(t.Context(), d.text(org, "", 2)); err != nil || amount != 20 || required != 20 {
		t.Errorf("%s, %s, %v", amount, required, err)
	}
	r := d.text(org, "", 2)
	r.Destination = canada
	amount, required, err := d.gates.Quote(t.Context(), r)
	wantFault(t, "Canada", err, fault.Forbidden, "destination_not_offered")
	if amount != 0 || required != 0 {
		t.Errorf("what is not offered costs %s, %s to begin", amount, required)
	}
	if n := d.number(`SELECT count(*) FROM holds`); n != 0 {
		t.Errorf("%d holds were made", n)
	}
}

// TestTheLastPennies lets 64 callers at once of two processes ask for what there is enough of for some of them.
func TestTheLastPennies(t *testing.T) {
	one := newDesk(t)
	two := one.another()
	for _, c := range []struct {
		callers, passes int
		atOnce          bool
	}{{64, 0, false}, {64, 1, false}, {64, 7, true}, {64, 63, false}, {200, 1, true}} {
		org := wallettest.Org(t, one.db, fmt.Sprintf("%d callers, funds for %d", c.callers, c.passes), money.Pence(10*c.passes+9))
		var wg sync.WaitGroup
		begin := make(chan struct{})
		errs := make([]error, c.callers)
		for i := range c.callers {
			d := []desk{one, two}[i%2]
			r := d.text(org, fmt.Sprintf("caller %d", i), 1)
			r.AtOnce = c.atOnce
			wg.Go(func() {
				<-begin
				_, errs[i] = d.gates.Authorise(t.Context(), r)
			})
		}
		close(begin)
		wg.Wait()
		passed := 0
		for _, err := range errs {
			if err == nil {
				passed++
				continue
			}
			if f := wantFault(t, "a caller", err, fault.Unpaid, "insufficient_funds"); f.Members["required_pence"] != 10 || f.Members["available_pence"] > 9+int64(10*c.passes) {
				t.Errorf("refused with %v", f.Members)
			}
		}
		b := one.balance(org)
		if passed != c.passes || b.Available() != 9 || c.atOnce != (b.Held == 0) && c.passes > 0 {
			t.Errorf("of %d callers %d passed with funds for %d; %s of %s is held", c.callers, passed, c.passes, b.Held, b.Balance)
		}
		if n := one.number(`SELECT count(*) FROM holds WHERE org_id = $1`, org); n != c.passes {
			t.Errorf("%d holds", n)
		}
	}
}

// TestOneKeyAtOnce: callers of two processes with one key get one hold; who asks something else with it is told so.
func TestOneKeyAtOnce(t *testing.T) {
	one := newDesk(t)
	two := one.another()
	org := wallettest.Org(t, one.db, "Harbour Dental", 100_00)
	for round := range 10 {
		var wg sync.WaitGroup
		begin := make(chan struct{})
		type answer struct {
			segments int64
			hold     wallet.Hold
			err      error
		}
		answers := make([]answer, 32)
		for i := range answers {
			d := []desk{one, two}[i%2]
			r := d.text(org, fmt.Sprintf("round %d", round), 1+int64(i/2)%2)
			wg.Go(func() {
				<-begin
				h, err := d.gates.Authorise(t.Context(), r)
				answers[i] = answer{r.Quantity, h, err}
			})
		}
		close(begin)
		wg.Wait()
		ids := map[uuid.UUID]int{}
		fresh := slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return a.err != nil || a.hold.Repeated })
		if len(fresh) != 1 {
			t.Fatalf("%d of one key were made", len(fresh))
		}
		for _, a := range answers {
			if a.segments != fresh[0].segments {
				wantFault(t, "the other request", a.err, fault.Conflict, "idempotency_key_reused")
			} else if a.err != nil {
				t.Error(a.err)
			} else {
				ids[a.hold.ID]++
			}
		}
		if len(ids) != 1 || ids[fresh[0].hold.ID] != 16 {
			t.Errorf("one key has the holds %v", ids)
		}
	}
	if n := one.number(`SELECT count(*) FROM holds`); n != 10 {
		t.Errorf("%d holds of ten keys", n)
	}
}

// TestRoundsKeepTheirOrder: within one round each decision sees what the ones before it did.
func TestRoundsKeepTheirOrder(t *testing.T) {
	d := newDesk(t)
	var log strings.Builder
	d.gates = wallet.NewGates(wallet.GateOptions{DB: d.db, Now: d.clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 1_00), wallettest.Org(t, d.db, "Second Tenant", 10)
	old, odd := d.authorise(d.text(org, "old", 6)), d.authorise(d.text(org, "odd", 1))
	now := func(r wallet.HoldRequest) wallet.HoldRequest { r.AtOnce = true; return r }
	results, err := d.gates.Together(t.Context(),
		d.text(org, "a", 4),           // 30p are there
		d.text(other, "a", 1),         // another wallet
		d.text(org, "b", 3),           // the last
		d.text(org, "c", 1),           // none left
		d.text(org, "b", 3),           // the same again
		d.text(org, "b", 2),           // something else with that key
		wallet.Voiding(d.settle(old)), // frees 60p
		now(d.text(org, "d", 4)),      // takes 40p of them
		wallet.Capturing(d.settle(odd, func(s *wallet.Settlement) { s.Amount = 20 })), // and this 10p more than is held
		wallet.Voiding(d.settle(old)),
		wallet.Capturing(d.settle(old, func(s *wallet.Settlement) { s.Whole = true })),
		wallet.Extending(d.settle(old, func(s *wallet.Settlement) { s.Amount = 1_00 })),
		now(d.text(org, "e", 2)),
		d.text(org, "f", 1),
		d.text(other, "b", 1),
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		switch f := fault.As(r.Err); {
		case f != nil:
			got = append(got, f.Code)
		case r.Value.Repeated:
			got = append(got, string(r.Value.State)+" again")
		default:
			got = append(got, string(r.Value.State))
		}
	}
	want := []string{
		"insufficient_funds", "open", "open", "insufficient_funds", "open again", "idempotency_key_reused", "void", "captured",
		"captured", "void again", "hold_void", "hold_void", "insufficient_funds", "open", "insufficient_funds",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if b := d.balance(org); b.Balance != 40 || b.Held != 40 || b.Seq != 3 {
		t.Errorf("the wallet: %+v", b)
	}
	if log.Len() > 0 {
		t.Errorf("it was no single round: %s", log.String())
	}
}

// TestRoundsTakeAlong: who comes for a wallet that a round waits for goes along with it, and nobody else does.
func TestRoundsTakeAlong(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 1_00), wallettest.Org(t, d.db, "Second Tenant", 1_00)
	old := d.authorise(d.text(org, "old", 2))
	poisoned := d.text(org, "poisoned", 1)
	poisoned.RequestID = "\x00"
	for _, c := range []struct {
		name   string
		poison []any
	}{{"sound", nil}, {"with a poisoned one", []any{poisoned}}} {
		others := append([]any{
			d.text(other, c.name, 1), // not of this round's wallets
			d.text(org, c.name+" b", 2),
			d.text(org, c.name+" a", 2),
			wallet.Voiding(d.settle(old)),
			d.text(other, c.name+" again", 1),
		}, c.poison...)
		results, err := d.gates.TakingAlong(t.Context(), []any{d.text(org, c.name+" a", 2)}, others)
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != 4+len(c.poison) {
			t.Fatalf("%s: %d answers", c.name, len(results))
		}
		for i, r := range results[:4] {
			if r.Err != nil {
				t.Errorf("%s, %d: %v", c.name, i, r.Err)
			}
		}
		if a, b, again, void := results[0].Value, results[1].Value, results[2].Value, results[3].Value; a.ID == b.ID || again.ID != a.ID || !again.Repeated || void.ID != old.ID {
			t.Errorf("%s: %+v, %+v, %+v, %+v", c.name, a, b, again, void)
		}
		if c.poison != nil && results[4].Err == nil {
			t.Errorf("%s was allowed", c.name)
		}
	}
	if b := d.balance(org); b.Held != 80 {
		t.Errorf("%s is held", b.Held)
	}
	if b := d.balance(other); b.Held != 0 {
		t.Errorf("%s is held of a wallet that was not locked", b.Held)
	}
}

// TestPoisonHarmsNobodyElse: one that cannot be decided keeps no other of its round from its answer.
func TestPoisonHarmsNobodyElse(t *testing.T) {
	d := newDesk(t)
	orgs := wallettest.Orgs(t, d.db, 3, 1_00)
	stray := uuid.Must(uuid.NewV7())
	for name, poison := range map[string]func(r wallet.HoldRequest) wallet.HoldRequest{
		"an organisation without a wallet": func(r wallet.HoldRequest) wallet.HoldRequest { r.OrgID = stray; return r },
		"an id that is no text":            func(r wallet.HoldRequest) wallet.HoldRequest { r.RequestID = "a\x00b"; return r },
		"an actor that is no text":         func(r wallet.HoldRequest) wallet.HoldRequest { r.Actor = "key:\xff"; return r },
		"a source that nobody is":          func(r wallet.HoldRequest) wallet.HoldRequest { r.Source = "thief"; return r },
	} {
		t.Run(name, func(t *testing.T) {
			requests := []any{
				d.text(orgs[0], name+" 1", 1),
				poison(d.text(orgs[1], name+" poison", 1)),
				d.text(orgs[1], name+" 2", 1),
				poison(d.text(orgs[0], name+" poison", 1)),
				d.text(orgs[2], name+" 3", 1),
				d.text(orgs[0], name+" 1", 1),
			}
			results, err := d.gates.Together(t.Context(), requests...)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range results {
				switch poisoned := i == 1 || i == 3; {
				case poisoned && r.Err == nil:
					t.Errorf("%d, poisoned, was allowed: %+v", i, r.Value)
				case !poisoned && r.Err != nil:
					t.Errorf("%d, in its company: %v", i, r.Err)
				case i == 5 && r.Value.ID != results[0].Value.ID:
					t.Error("a key that stood twice in the round got two holds")
				}
			}
			// Alone it gets the same answer, as what callers are told.
			request, ok := requests[1].(wallet.HoldRequest)
			if !ok {
				t.Fatal("no request")
			}
			_, err = d.gates.Authorise(t.Context(), request)
			wantFault(t, "the poisoned one alone", err, fault.Unavailable, "undecided")
		})
	}
	for _, org := range orgs {
		if b := d.balance(org); b.Held != 40 {
			t.Errorf("%s is held, want 40p", b.Held)
		}
	}
}

// TestRowsThatDoNotMove: what was decided is committed whole or not at all. A row that is not written, for whatever reason,
// has the decision taken again.
func TestRowsThatDoNotMove(t *testing.T) {
	d := newDesk(t)
	dbtest.Super(t, d.url, `CREATE SEQUENCE writes; GRANT USAGE ON writes TO ringfence_app`)
	// Of the next writes of a table's rows the first is lost.
	dbtest.Super(t, d.url, `
		CREATE FUNCTION lose_first() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF nextval('writes') = 1 THEN RETURN NULL; END IF; RETURN NEW; END $$`)
	for _, table := range []string{"wallets", "holds"} {
		org := wallettest.Org(t, d.db, table, 10_00)
		h := d.authorise(d.text(org, "key", 10))
		dbtest.Super(t, d.url, `ALTER SEQUENCE writes RESTART`)
		dbtest.Super(t, d.url, `CREATE TRIGGER lose_first BEFORE UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION lose_first()`)
		if got := d.outcome("capture 60", h, false); got != "captured 60" {
			t.Errorf("%s: %s", table, got)
		}
		if n := d.number(`SELECT last_value FROM writes`); n != 2 {
			t.Errorf("%s: %d writes", table, n)
		}
		dbtest.Super(t, d.url, `ALTER SEQUENCE writes RESTART`)
		err := d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			h, err := d.gates.AuthoriseIn(ctx, tx, d.text(org, "in", 10))
			if err != nil {
				return err
			}
			_, err = d.gates.SendIn(ctx, tx, d.settle(h))
			return err
		})
		if err == nil || fault.Is(err, fault.Conflict) {
			t.Errorf("%s: in a caller's transaction: %v", table, err)
		}
		dbtest.Super(t, d.url, `DROP TRIGGER lose_first ON `+table)
		if b := d.balance(org); b.Balance != 9_40 || b.Held != 0 || b.Seq != 2 {
			t.Errorf("%s: %+v", table, b)
		}
	}
}

// TestHoldsThatMoveOutOfTurn: a hold that somebody changes without the wallet's lock is seen to have moved, and decided
// about anew.
func TestHoldsThatMoveOutOfTurn(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10_00)
	h := d.authorise(d.text(org, "key", 1))
	pool, err := sqlx.ConnectContext(t.Context(), "postgres", d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `UPDATE holds SET state = 'void', amount_pence = 0, settled_by = 'system:rogue' WHERE id = $1`, h.ID); err != nil {
		t.Fatal(err)
	}
	outcome := make(chan string, 1)
	go func() { outcome <- d.outcome("capture whole", h, false) }()
	until(t, "the capture to wait for the row", func() bool {
		return d.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := <-outcome; got != "conflict hold_void" {
		t.Errorf("the capture: %s", got)
	}
	if b := d.balance(org); b.Balance != 10_00 || b.Seq != 1 {
		t.Errorf("%+v", b)
	}
	dbtest.Super(t, d.url, `UPDATE wallets SET held_pence = 0, spent_sms_pence = 0`) // what the rogue left undone
}

// TestWrongBooksAreNotWritten: a wallet whose row contradicts itself is not spent from, and the others of the round are.
func TestWrongBooksAreNotWritten(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 1_00), wallettest.Org(t, d.db, "Second Tenant", 1_00)
	dbtest.Super(t, d.url, `ALTER TABLE wallets DROP CONSTRAINT wallets_bonus_within_balance, DROP CONSTRAINT wallets_reserved_is_paid`)
	dbtest.Super(t, d.url, `UPDATE wallets SET bonus_pence = 101 WHERE org_id = $1`, org)
	wrong, right := d.text(org, "wrong", 1), d.text(other, "right", 1)
	wrong.AtOnce, right.AtOnce = true, true
	results, err := d.gates.Together(t.Context(), right, wrong)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || results[1].Err == nil {
		t.Errorf("%v, %v", results[0].Err, results[1].Err)
	}
	if b := d.balance(org); b.Balance != 1_00 || b.Held != 0 || b.Seq != 1 {
		t.Errorf("%+v", b)
	}
	dbtest.Super(t, d.url, `UPDATE wallets SET bonus_pence = 0 WHERE org_id = $1`, org)
}

// TestExpiryGoesOnWithoutTheStuck: a hold that cannot be ended, here for want of a wallet, is an error and stays, and all
// others end.
func TestExpiryGoesOnWithoutTheStuck(t *testing.T) {
	d := newDesk(t)
	org, stray := wallettest.Org(t, d.db, "Harbour Dental", 10_00), uuid.Must(uuid.NewV7())
	h := d.authorise(d.text(org, "key", 1))
	dbtest.Super(t, d.url, `
		INSERT INTO holds SELECT $2, $3, source, key, fingerprint, action, quantity, destination, price_id, rate_id, authorised_pence, amount_pence,
		       state, at_once, actor, request_id, created_at, expires_at - interval '1 minute', updated_at, settled_by FROM holds WHERE id = $1`,
		h.ID, uuid.New(), stray)
	d.clock.Advance(time.Hour)
	n, err := d.gates.Expire(t.Context())
	if n != 1 || err == nil || !strings.Contains(err.Error(), stray.String()) {
		t.Errorf("%d ended, %v", n, err)
	}
	if h := d.hold(org, h.ID); h.State != wallet.HoldExpired {
		t.Errorf("the other is %s", h.State)
	}
	dbtest.Super(t, d.url, `DELETE FROM holds WHERE org_id = $1`, stray)
}

// TestHoldsAreTheirOrganisations: to everybody else there is no such hold, not even for somebody who shares its round.
func TestHoldsAreTheirOrganisations(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 10_00), wallettest.Org(t, d.db, "Second Tenant", 10_00)
	h := d.authorise(d.text(org, "key", 10))
	foreign := h
	foreign.OrgID = other
	s := d.settle(foreign, func(s *wallet.Settlement) { s.Amount = 50 })
	none := d.settle(h, func(s *wallet.Settlement) { s.Hold = uuid.New() })
	for name, do := range map[string]func(wallet.Settlement) (wallet.Hold, error){
		"capture": func(s wallet.Settlement) (wallet.Hold, error) { return d.gates.Capture(t.Context(), s) },
		"void":    func(s wallet.Settlement) (wallet.Hold, error) { return d.gates.Void(t.Context(), s) },
		"extend":  func(s wallet.Settlement) (wallet.Hold, error) { return d.gates.Extend(t.Context(), s) },
		"send": func(s wallet.Settlement) (h wallet.Hold, err error) {
			// The transaction sees both organisations.
			err = d.db.InTx(t.Context(), []uuid.UUID{org, other}, func(ctx context.Context, tx *db.Tx) (err error) {
				h, err = d.gates.SendIn(ctx, tx, s)
				return err
			})
			return h, err
		},
	} {
		for _, s := range []wallet.Settlement{s, none} {
			got, err := do(s)
			wantFault(t, name, err, fault.NotFound, "")
			if got.ID != uuid.Nil {
				t.Errorf("%s shows %+v", name, got)
			}
		}
	}
	results, err := d.gates.Together(t.Context(), d.text(org, "beside", 1), wallet.Capturing(s), wallet.Voiding(s), wallet.Extending(s))
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results[0].Err)
	}
	for _, r := range results[1:] {
		wantFault(t, "in one round", r.Err, fault.NotFound, "")
	}
	if got := d.hold(org, h.ID); got.State != wallet.HoldOpen || got.Amount != 1_00 {
		t.Errorf("the hold is %+v", got)
	}
	// The database says the same by itself.
	err = d.db.InTx(t.Context(), []uuid.UUID{other}, func(ctx context.Context, tx *db.Tx) error {
		var seen int
		if err := tx.GetContext(ctx, &seen, `SELECT count(*) FROM holds`); err != nil || seen != 0 {
			t.Errorf("another organisation sees %d holds, %v", seen, err)
		}
		res, err := tx.ExecContext(ctx, `UPDATE holds SET state = 'void', amount_pence = 0`)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 0 {
			t.Errorf("another organisation changed %d holds, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// Nor does anybody see or use another's price.
	d.setPrice(wallet.PriceChange{OrgID: org, Action: wallet.ActionKnowledge, State: wallet.PriceOn, Unit: 5})
	if amount, _, err := d.gates.Quote(t.Context(), wallet.HoldRequest{OrgID: other, Action: wallet.ActionKnowledge, Quantity: 1}); amount != 1 {
		t.Errorf("another organisation pays %s, %v", amount, err)
	}
	err = d.db.InTx(t.Context(), []uuid.UUID{other}, func(ctx context.Context, tx *db.Tx) error {
		var seen int
		if err := tx.GetContext(ctx, &seen, `SELECT count(*) FROM prices WHERE org_id IS NOT NULL`); err != nil || seen != 0 {
			t.Errorf("another organisation sees %d own prices, %v", seen, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestInTheCallersTransaction: what is decided there stands and falls with it.
func TestInTheCallersTransaction(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 1_00)
	back := fmt.Errorf("taken back")
	in := func(fn func(ctx context.Context, tx *db.Tx) error) error {
		return d.db.InTx(t.Context(), []uuid.UUID{org}, fn)
	}
	var h wallet.Hold
	err := in(func(ctx context.Context, tx *db.Tx) (err error) {
		if h, err = d.gates.AuthoriseIn(ctx, tx, d.text(org, "key", 10)); err != nil {
			return err
		}
		if _, err = d.gates.SendIn(ctx, tx, d.settle(h)); err != nil {
			return err
		}
		if _, err = d.gates.CaptureIn(ctx, tx, d.settle(h, func(s *wallet.Settlement) { s.Amount = 60 })); err != nil {
			return err
		}
		_, err = d.gates.AuthoriseIn(ctx, tx, d.text(org, "too much", 5))
		wantFault(t, "more than is left", err, fault.Unpaid, "insufficient_funds")
		return back
	})
	if err != back { //nolint:errorlint // as it is
		t.Fatal(err)
	}
	if b := d.balance(org); b.Balance != 1_00 || b.Held != 0 || b.Seq != 1 {
		t.Errorf("what was taken back moved the wallet: %+v", b)
	}
	if h := d.authorise(d.text(org, "key", 10)); h.Repeated {
		t.Error("what was taken back kept its key")
	}
	// A refusal leaves the transaction fit for more.
	err = in(func(ctx context.Context, tx *db.Tx) error {
		_, err := d.gates.AuthoriseIn(ctx, tx, d.text(org, "refused", 1))
		wantFault(t, "nothing is left", err, fault.Unpaid, "insufficient_funds")
		h, err = d.gates.AuthoriseIn(ctx, tx, d.text(org, "key", 10))
		if err != nil || !h.Repeated {
			t.Errorf("%+v, %v", h, err)
		}
		_, err = d.gates.VoidIn(ctx, tx, d.settle(h))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if b := d.balance(org); b.Held != 0 {
		t.Errorf("%s is held", b.Held)
	}
}

// TestOverrunsBecomeDebt: what has happened is charged, debt refuses what comes next, and money that comes in repays it
// first.
func TestOverrunsBecomeDebt(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 1_00)
	held, call := d.authorise(d.text(org, "held", 3)), d.authorise(d.text(org, "call", 4))
	growing := d.authorise(d.text(org, "growing", 1))
	h, err := d.gates.Capture(t.Context(), d.settle(call, func(s *wallet.Settlement) { s.Amount, s.Overrun = 1_30, true }))
	if err != nil || h.Amount != 1_30 {
		t.Fatalf("%+v, %v", h, err)
	}
	// 40p were held and 20p free: those go, 70p are owed, and what is held for others stays so.
	want := func(what string, balance, held, debt money.Pence) {
		t.Helper()
		if b := d.balance(org); b.Balance != balance || b.Held != held || b.Debt != debt {
			t.Errorf("%s: balance %s, held %s, debt %s; want %s, %s, %s", what, b.Balance, b.Held, b.Debt, balance, held, debt)
		}
	}
	want("overrun", 40, 40, 70)
	refused := func(what string, available, shortfall int64) {
		t.Helper()
		_, err := d.gates.Authorise(t.Context(), d.text(org, what, 1))
		f := wantFault(t, what, err, fault.Unpaid, "debt")
		if members := map[string]int64{"required_pence": 10, "available_pence": available, "debt_pence": int64(d.balance(org).Debt), "shortfall_pence": shortfall}; !maps.Equal(f.Members, members) {
			t.Errorf("%s: refused with %v, want %v", what, f.Members, members)
		}
	}
	refused("in debt", 0, 80)
	_, err = d.gates.Extend(t.Context(), d.settle(growing, func(s *wallet.Settlement) { s.Amount = 11 }))
	wantFault(t, "extending in debt", err, fault.Unpaid, "debt")
	// What is under way is settled.
	if _, err := d.gates.Capture(t.Context(), d.settle(growing, func(s *wallet.Settlement) { s.Whole = true })); err != nil {
		t.Error(err)
	}
	want("captured in debt", 30, 30, 70)
	d.outcome("void", held, false)
	want("voided in debt", 30, 0, 70)
	refused("with money beside the debt", 30, 70) // which does not repay it

	if _, err := d.credit(d.payment(org, "pi_1", 69)); err != nil {
		t.Fatal(err)
	}
	want("nearly repaid", 30, 0, 1)
	refused("a penny of debt", 30, 1)
	if _, err := d.credit(d.payment(org, "pi_2", 51)); err != nil {
		t.Fatal(err)
	}
	want("repaid", 80, 0, 0)
	d.authorise(d.text(org, "repaid", 8))
}

// TestBonusGoesFirst: what was given is spent before what was bought.
func TestBonusGoesFirst(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 1_00)
	if _, err := d.adjust(org, wallet.Bonus, 50, "welcome"); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		amount, balance, bonus, debt money.Pence
	}{{30, 1_20, 20, 0}, {30, 90, 0, 0}, {30, 60, 0, 0}} {
		h := d.authorise(d.text(org, fmt.Sprint(i), 3))
		if b := d.balance(org); b.Bonus != c.bonus+min(c.amount, b.Bonus-c.bonus) {
			t.Errorf("%d: setting aside spent the bonus: %+v", i, b)
		}
		d.outcome("capture whole", h, false)
		if b := d.balance(org); b.Balance != c.balance || b.Bonus != c.bonus || b.Debt != c.debt {
			t.Errorf("%d: balance %s, bonus %s", i, b.Balance, b.Bonus)
		}
	}
	// A bonus repays debt as all money does.
	h := d.authorise(d.text(org, "overrun", 1))
	if _, err := d.gates.Capture(t.Context(), d.settle(h, func(s *wallet.Settlement) { s.Amount, s.Overrun = 90, true })); err != nil {
		t.Fatal(err)
	}
	if _, err := d.adjust(org, wallet.Bonus, 50, "sorry"); err != nil {
		t.Fatal(err)
	}
	if b := d.balance(org); b.Balance != 20 || b.Bonus != 20 || b.Debt != 0 {
		t.Errorf("balance %s, bonus %s, debt %s", b.Balance, b.Bonus, b.Debt)
	}
}

// TestExpire: an open hold is given up when its time has come, to the moment; one that is in flight never is. However
// many processes sweep at once, each hold is counted once.
func TestExpire(t *testing.T) {
	d := newDesk(t)
	orgs := wallettest.Orgs(t, d.db, 3, 20_00)
	var requests []any
	for i := range 560 { // more than one commit ends
		requests = append(requests, wallet.HoldRequest{OrgID: orgs[i%2], Action: wallet.ActionKnowledge, Quantity: 1, Source: wallet.SourceAPI, Key: fmt.Sprint(i)})
	}
	open, err := d.gates.Together(t.Context(), requests...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range open {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	flying, captured := d.authorise(d.text(orgs[2], "flying", 1)), d.authorise(d.text(orgs[2], "captured", 1))
	d.outcome("send", flying, true)
	d.outcome("capture whole", captured, false)
	call := d.authorise(wallet.HoldRequest{OrgID: orgs[2], Action: wallet.ActionCall, Quantity: 60, Source: wallet.SourceAPI, Key: "call"})
	sweep := func() (n int) {
		t.Helper()
		n, err := d.gates.Expire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	d.clock.Advance(15*time.Minute - time.Microsecond)
	if n := sweep(); n != 0 {
		t.Errorf("%d expired too early", n)
	}
	d.clock.Advance(time.Microsecond)
	var wg sync.WaitGroup
	counts := make([]int, 4)
	for i := range counts {
		d := d
		if i%2 == 1 {
			d = d.another()
		}
		wg.Go(func() {
			for range 3 {
				n, err := d.gates.Expire(t.Context())
				if err != nil {
					t.Error(err)
				}
				counts[i] += n
			}
		})
	}
	wg.Wait()
	if n := counts[0] + counts[1] + counts[2] + counts[3]; n != len(open) {
		t.Errorf("%v expired, want %d in all", counts, len(open))
	}
	for i, want := range []money.Pence{0, 0, 10 + 56} {
		if b := d.balance(orgs[i]); b.Held != want {
			t.Errorf("organisation %d has %s held, want %s", i, b.Held, want)
		}
	}
	if h := d.hold(orgs[0], open[0].Value.ID); h.State != wallet.HoldExpired || h.Amount != 0 || h.SettledBy != "system:sweeper" || h.Authorised != 1 {
		t.Errorf("expired: %+v", h)
	}
	d.clock.Advance(time.Minute - time.Microsecond)
	if n := sweep(); n != 0 {
		t.Errorf("%d expired: a call's own length is not added", n)
	}
	d.clock.Advance(time.Microsecond)
	if n := sweep(); n != 1 || d.hold(orgs[2], call.ID).State != wallet.HoldExpired {
		t.Errorf("%d expired, want the call", n)
	}
	d.clock.Advance(1000 * time.Hour)
	if n := sweep(); n != 0 || d.hold(orgs[2], flying.ID).State != wallet.HoldInFlight {
		t.Errorf("%d expired, and what is in flight is %s", n, d.hold(orgs[2], flying.ID).State)
	}
}

// TestExpiryLooksTwice: between the look at what is due and its end a hold may have been sent, or ended otherwise.
func TestExpiryLooksTwice(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10_00)
	var whats []any
	states := []string{"open", "in_flight", "captured", "void"}
	for i, state := range states {
		h := d.authorise(d.text(org, fmt.Sprint(i), 1))
		switch state {
		case "in_flight":
			d.outcome("send", h, true)
		case "captured":
			d.outcome("capture whole", h, false)
		case "void":
			d.outcome("void", h, false)
		}
		whats = append(whats, wallet.Expiring(d.settle(h)))
	}
	for _, end := range []struct {
		in   time.Duration
		open wallet.HoldState
	}{{15*time.Minute - time.Microsecond, wallet.HoldOpen}, {time.Microsecond, wallet.HoldExpired}} {
		d.clock.Advance(end.in)
		results, err := d.gates.Together(t.Context(), whats...)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			want := wallet.HoldState(states[i])
			if i == 0 {
				want = end.open
			}
			if r.Err != nil || r.Value.State != want || r.Value.Repeated != (want != wallet.HoldExpired) {
				t.Errorf("%s: %+v, %v", states[i], r.Value, r.Err)
			}
		}
	}
}

// TestExpiringAndSettlingAtOnce: time and who made the hold may both want to end it. One of them does.
func TestExpiringAndSettlingAtOnce(t *testing.T) {
	one := newDesk(t)
	two := one.another()
	org := wallettest.Org(t, one.db, "Harbour Dental", 10_00)
	var holds []wallet.Hold
	for i := range 40 {
		holds = append(holds, one.authorise(one.text(org, fmt.Sprint(i), 1)))
	}
	one.clock.Advance(time.Hour)
	var wg sync.WaitGroup
	states := make([]string, len(holds))
	for i, h := range holds {
		wg.Go(func() { states[i] = one.outcome([]string{"capture whole", "void"}[i%2], h, i%4 < 2) })
	}
	wg.Go(func() {
		if _, err := two.gates.Expire(t.Context()); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	taken := 0
	for i, h := range holds {
		stored := one.hold(org, h.ID).State
		switch {
		case states[i] == "captured 10" && stored == wallet.HoldCaptured:
			taken++
		case states[i] == "conflict hold_expired" && stored == wallet.HoldExpired:
		case states[i] == "void 0" && stored == wallet.HoldVoid:
		case states[i] == "expired 0 again" && stored == wallet.HoldExpired:
		default:
			t.Errorf("answered %q, stored %s", states[i], stored)
		}
	}
	if b := one.balance(org); b.Held != 0 || b.Balance != money.Pence(1000-10*taken) {
		t.Errorf("%d were captured, the wallet is %+v", taken, b)
	}
}

// TestWhoDoesNotWait: a caller that goes away is told that nothing is known, and finds out with its key.
func TestWhoDoesNotWait(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 1_00)
	d.tariff() // it is remembered
	ctx, cancel := context.WithCancel(t.Context())
	held, let := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		// Whoever is first waits for the wallet, and the next for the round.
		err := d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT FROM wallets WHERE org_id = $1 FOR UPDATE`, org)
			close(held)
			<-let
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	answered := make(chan error, 2)
	for i := range 2 {
		wg.Go(func() {
			_, err := d.gates.Authorise(ctx, d.text(org, fmt.Sprint(i), 1))
			answered <- err
		})
	}
	cancel()
	// One of the two leads the round, and its wait ends with it.
	wantFault(t, "who went away", <-answered, fault.Unavailable, "undecided")
	close(let)
	wg.Wait()
	for i := range 2 {
		d.authorise(d.text(org, fmt.Sprint(i), 1))
	}
	if b := d.balance(org); b.Held != 20 {
		t.Errorf("%s is held by two keys of 10p", b.Held)
	}
}

func TestDecisionsAreCounted(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10)
	registry, metrics := prometheus.NewRegistry(), wallet.NewGateMetrics()
	metrics.Register(registry)
	d.gates = wallet.NewGates(wallet.GateOptions{DB: d.db, Now: d.clock.Now, Log: slog.New(slog.DiscardHandler), Metrics: metrics})
	d.authorise(d.text(org, "allowed", 1))
	for i, spoil := range []func(*wallet.HoldRequest){
		func(*wallet.HoldRequest) {},
		func(r *wallet.HoldRequest) { r.Destination = canada },
		func(r *wallet.HoldRequest) { r.Key = "allowed"; r.Quantity = 2 },
		func(r *wallet.HoldRequest) {
			r.RequestID = "a\x00b"
			r.Action = wallet.ActionKnowledge
			r.Destination = ""
		},
	} {
		r := d.text(org, fmt.Sprint(i), 1)
		spoil(&r)
		if r.Action == wallet.ActionKnowledge {
			if _, err := d.adjust(org, wallet.Adjustment, 1, "for it"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.gates.Authorise(t.Context(), r); err == nil {
			t.Errorf("%d was allowed", i)
		}
	}
	r := d.search(org, "poisoned", 1)
	r.RequestID = "a\x00b"
	err := d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := d.gates.AuthoriseIn(ctx, tx, r)
		return err
	})
	if err == nil {
		t.Error("the poisoned one was allowed")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	rounds := uint64(0)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "ringfence_gate_round_size" {
				rounds = m.GetHistogram().GetSampleCount()
				continue
			}
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + " "
			}
			got[labels] = int(m.GetCounter().GetValue())
		}
	}
	want := map[string]int{
		"sms allowed ": 1, "sms insufficient_funds ": 1, "sms destination_not_offered ": 1, "sms idempotency_key_reused ": 1, "knowledge undecided ": 2,
	}
	if !maps.Equal(got, want) || rounds != 5 {
		t.Errorf("counted %v in %d rounds, want %v in 5", got, rounds, want)
	}
}
