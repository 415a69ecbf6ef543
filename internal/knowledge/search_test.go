package knowledge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/knowledge"
	"ringfence/internal/knowledge/knowledgetest"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	h := b.upload(b.org, "Hours.md", hours)
	b.upload(b.org, "prices.pdf", string(knowledgetest.PDF("A check-up costs forty pounds.", "Whitening is not offered.")))
	b.upload(b.org, "long.txt", strings.Repeat("Please brush your teeth twice a day. ", 450)+"The car park opens at seven. "+strings.Repeat("Floss, too. ", 50))
	b.upload(b.other, "Other.md", "Saturdays are for football.")

	a, err := b.ask("k1", "  open on\tSaturdays ", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Hits) != 1 || a.Amount != 1 || a.Hold == uuid.Nil || a.Repeated {
		t.Fatalf("%+v", a)
	}
	hit := a.Hits[0]
	if hit.DocumentID != h.ID || hit.Document != "Hours.md" || hit.Chunk != 1 || hit.Page != 0 || hit.Score <= 0 || hit.Score >= 1 ||
		hit.Text != strings.TrimSpace(hours) || !strings.Contains(hit.Excerpt, knowledge.MarkStart+"Saturdays"+knowledge.MarkEnd) {
		t.Errorf("%+v", hit)
	}
	b.wantWallet("after one search", 1)
	if n := b.count(`SELECT count(*) FROM holds WHERE id = $1 AND state = 'captured' AND source = 'knowledge' AND amount_pence = 1`, a.Hold); n != 1 {
		t.Error("its hold was not captured")
	}

	for i, c := range []struct {
		query string
		want  []string // documents and passages, the best first
	}{
		{"whitening", []string{"prices.pdf 1"}},
		{"car park", []string{"long.txt 5"}},
		{`"nine to five"`, []string{"Hours.md 1"}},
		{`"five to nine"`, nil},
		{"opening -saturday", []string{"long.txt 5"}},
		{"whitening or football", []string{"prices.pdf 1"}},                           // football is another organisation's
		{"What time do you open on Saturdays?", []string{"Hours.md 1", "long.txt 5"}}, // none has the time
		{"quantum chromodynamics", nil},
		{"saturday -open", nil}, // what is ruled out stays out
		{"':* | & ! ( <-> saturday", []string{"Hours.md 1"}},
	} {
		var got []string
		for _, h := range b.found(fmt.Sprint("q", i), c.query, 0) {
			got = append(got, fmt.Sprintf("%s %d", h.Document, h.Chunk))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.query, got, c.want)
		}
	}
	if page := b.found("page", "whitening", 0)[0].Page; page != 1 { // the passage begins on the first
		t.Errorf("on page %d", page)
	}
	hits := b.found("limit", "brush teeth", 2)
	if len(hits) != 2 || hits[0].Score < hits[1].Score {
		t.Errorf("%d hits, %+v", len(hits), hits)
	}
	b.wantWallet("after all of them", 13) // what finds nothing costs the same
}

// What cannot be searched for is refused before any money is asked.
func TestSearchRefused(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	b.upload(b.org, "Hours.md", hours)
	for _, c := range []struct {
		key, text string
		limit     int
		field     string
	}{
		{"", "saturday", 0, "idempotency_key"},
		{strings.Repeat("k", 256), "saturday", 0, "idempotency_key"},
		{"k", "", 0, "query"},
		{"k", " \n ", 0, "query"},
		{"k", "the and of", 0, "query"},
		{"k", "?!", 0, "query"},
		{"k", "-saturday", 0, "query"},
		{"k", strings.Repeat("ä", 501), 0, "query"},
		{"k", "a\x00b", 0, "query"},
		{"k", "\xff", 0, "query"},
		{"k", "saturday", -1, "limit"},
		{"k", "saturday", 21, "limit"},
	} {
		_, err := b.ask(c.key, c.text, c.limit)
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || f.Field != c.field {
			t.Errorf("%.10q, %.10q, %d: %v, want it to be about %s", c.key, c.text, c.limit, err, c.field)
		}
	}
	b.found("longest", strings.Repeat("ä", 500), 20)
	if n := b.count(`SELECT count(*) FROM holds`); n != 1 {
		t.Errorf("%d holds were made", n)
	}
	b.wantWallet("after refusals", 1)
}

// The same key is the same search: answered again as it was, charged once, and good for no other.
func TestSearchAgain(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	d := b.upload(b.org, "Hours.md", hours)
	first, err := b.ask("k", "saturdays", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), b.org, d.ID, audit.User(b.user)); err != nil {
		t.Fatal(err)
	}
	again, err := b.ask("k", " saturdays ", knowledge.DefaultHits)
	if err != nil || !again.Repeated || again.Hold != first.Hold || again.Amount != 1 || fmt.Sprint(again.Hits) != fmt.Sprint(first.Hits) {
		t.Errorf("again: %+v, %v, want %+v", again, err, first)
	}
	_, err = b.ask("k", "sundays", 0)
	wantFault(t, "another query", err, fault.Conflict, "used for another search")
	_, err = b.ask("k", "saturdays", 1)
	wantFault(t, "another limit", err, fault.Conflict, "used for another search")
	nothing, err := b.ask("none", "saturdays", 0)
	if err != nil || nothing.Hits == nil || len(nothing.Hits) > 0 {
		t.Errorf("nothing: %+v, %v", nothing, err)
	}
	if nothing, err = b.ask("none", "saturdays", 0); err != nil || nothing.Hits == nil || !nothing.Repeated {
		t.Errorf("nothing again: %+v, %v", nothing, err)
	}
	b.wantWallet("after two searches", 2)
}

// Many requests with one key at the same time are one search: everybody gets the answer, and it is charged once.
func TestSearchAtOnce(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	b.upload(b.org, "Hours.md", hours)
	var group sync.WaitGroup
	holds := make([]uuid.UUID, 12)
	for i := range holds {
		group.Go(func() {
			a, err := b.ask("k", "saturdays", 0)
			if err != nil || len(a.Hits) != 1 {
				t.Errorf("%+v, %v", a, err)
			}
			holds[i] = a.Hold
		})
	}
	group.Wait()
	for _, h := range holds {
		if h != holds[0] {
			t.Errorf("paid by %s and by %s", holds[0], h)
		}
	}
	b.wantWallet("one search", 1)
}

func TestSearchUnpaid(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	b.upload(b.org, "Hours.md", hours)
	take := func(amount money.Pence, reference string) {
		t.Helper()
		err := b.db.InTx(t.Context(), []uuid.UUID{b.org}, func(ctx context.Context, tx *db.Tx) error {
			_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: b.org, Kind: wallet.Adjustment, Amount: amount, Reason: "test", Reference: reference, Actor: audit.System("test"),
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	take(-5_00, "all")
	_, err := b.ask("k", "saturdays", 0)
	if f := fault.As(err); f == nil || f.Kind != fault.Unpaid || f.Members["required_pence"] != 1 || f.Members["shortfall_pence"] != 1 {
		t.Errorf("without money: %v", err)
	}
	if n := b.count(`SELECT (SELECT count(*) FROM holds) + (SELECT count(*) FROM knowledge_searches)`); n > 0 {
		t.Error("something was kept")
	}
	take(5_00, "back")
	if len(b.found("k", "saturdays", 0)) != 1 { // decided afresh
		t.Error("nothing was found")
	}
	b.wantWallet("after the top-up", 1)

	err = b.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.SetPrice(ctx, tx, wallet.PriceChange{OrgID: b.org, Action: wallet.ActionKnowledge, State: wallet.PriceOn, Unit: 3, Reason: "test", Actor: audit.System("test")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(2 * time.Second)
	if p, err := b.Price(t.Context(), b.org); err != nil || p != 3 {
		t.Errorf("the price is %d, %v", p, err)
	}
	if p, err := b.Price(t.Context(), b.other); err != nil || p != 1 {
		t.Errorf("another organisation's price is %d, %v", p, err)
	}
	b.found("dearer", "saturdays", 0)
	b.wantWallet("at its own price", 4)
}

// retrieving stands between a search and what it is made with.
type retrieving struct {
	knowledge.Retriever

	before func(ctx context.Context) error
}

func (r *retrieving) Retrieve(ctx context.Context, org uuid.UUID, query string, most int) ([]knowledge.Hit, error) {
	if r.before != nil {
		if err := r.before(ctx); err != nil {
			return nil, err
		}
	}
	return r.Retriever.Retrieve(ctx, org, query, most)
}

// with has what before does happen between the authorisation and the search.
func with(t *testing.T) (*base, *retrieving) {
	t.Helper()
	r := &retrieving{}
	b := newBase(t, func(d *db.DB) knowledge.Retriever {
		r.Retriever = knowledge.FullText{DB: d}
		return r
	})
	b.upload(b.org, "Hours.md", hours)
	return b, r
}

// A search that fails costs nothing, and the same key may be used to try again.
func TestSearchFails(t *testing.T) {
	t.Parallel()
	b, r := with(t)
	broken := errors.New("broken")
	r.before = func(context.Context) error { return broken }
	for range 2 {
		if _, err := b.ask("k", "saturdays", 0); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	b.wantWallet("after failures", 0)
	gone, cancel := context.WithCancel(t.Context())
	r.before = func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	}
	if _, err := b.Search(gone, knowledge.Query{OrgID: b.org, Actor: audit.User(b.user), Key: "k", Text: "saturdays"}); !errors.Is(err, context.Canceled) {
		t.Errorf("who went away: %v", err)
	}
	b.wantWallet("after who went away", 0)
	r.before = nil
	for range 2 {
		if len(b.found("k", "saturdays", 0)) != 1 {
			t.Error("nothing was found")
		}
	}
	b.wantWallet("after it went well", 1)
	if n := b.count(`SELECT count(*) FROM holds WHERE state = 'void'`); n != 3 {
		t.Errorf("%d holds are void", n)
	}
	r.before = func(context.Context) error { return broken }
	for range 20 {
		_, _ = b.ask("unlucky", "saturdays", 0)
	}
	_, err := b.ask("unlucky", "saturdays", 0)
	wantFault(t, "over and over", err, fault.Conflict, "many times")
}

// The process dies between the hold and the answer: a repeat goes on with the same hold, or after its time with another.
func TestSearchAfterACrash(t *testing.T) {
	t.Parallel()
	b, r := with(t)
	crash := func(key string) {
		t.Helper()
		r.before = func(context.Context) error { panic("crash") }
		defer func() {
			if recover() == nil {
				t.Error("it did not crash")
			}
			r.before = nil
		}()
		_, _ = b.ask(key, "saturdays", 0)
	}
	crash("soon")
	if n := b.count(`SELECT held_pence FROM wallets WHERE org_id = $1`, b.org); n != 1 {
		t.Errorf("%dp are held", n)
	}
	b.found("soon", "saturdays", 0)
	b.wantWallet("a repeat soon after", 1)
	crash("late")
	b.clock.Advance(time.Hour)
	if n, err := b.gates.Expire(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d expired, %v", n, err)
	}
	b.found("late", "saturdays", 0)
	b.wantWallet("a repeat after its time", 2)
	if n := b.count(`SELECT count(*) FROM holds`); n != 3 {
		t.Errorf("%d holds", n)
	}
}

func (b *base) onlyHold() (hold uuid.UUID) {
	b.t.Helper()
	dbtest.Get(b.t, b.dbURL, &hold, `SELECT id FROM holds`)
	return hold
}

// Of two requests with one key, one fails and gives back what both had set aside: the other pays anew, once.
func TestSearchWhoseHoldIsGivenBack(t *testing.T) {
	t.Parallel()
	b, r := with(t)
	first := true
	r.before = func(context.Context) error {
		if !first {
			return nil
		}
		first = false
		//nolint:contextcheck // a test's helpers have a context of their own
		_, err := b.gates.Void(t.Context(), wallet.Settlement{OrgID: b.org, Hold: b.onlyHold(), Source: wallet.SourceKnowledge, Actor: audit.User(b.user)})
		return err
	}
	if len(b.found("k", "saturdays", 0)) != 1 {
		t.Error("nothing was found")
	}
	b.wantWallet("once", 1)
	if n := b.count(`SELECT count(*) FROM holds WHERE state = 'captured'`); n != 1 {
		t.Errorf("%d holds were captured", n)
	}
}

// The answer and the money go together: where the one cannot be written, the other is not taken.
func TestSearchThatCannotBeKept(t *testing.T) {
	t.Parallel()
	b, _ := with(t)
	dbtest.Super(t, b.dbURL, `ALTER TABLE knowledge_searches ADD CONSTRAINT never CHECK (key <> 'k')`)
	if _, err := b.ask("k", "saturdays", 0); err == nil {
		t.Error("it went well")
	}
	b.wantWallet("not kept", 0)
	dbtest.Super(t, b.dbURL, `ALTER TABLE knowledge_searches DROP CONSTRAINT never`)
	b.found("k", "saturdays", 0)
	b.wantWallet("kept", 1)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	b.upload(b.org, "Hours.md", hours)
	b.found("old", "saturdays", 0)
	b.clock.Advance(2 * 24 * time.Hour)
	b.found("young", "saturdays", 0)
	b.clock.Advance(29 * 24 * time.Hour)
	for _, want := range []int64{1, 0} {
		if n, err := b.Sweep(t.Context()); n != want || err != nil {
			t.Errorf("%d answers forgotten, %v, want %d", n, err, want)
		}
	}
	if a, err := b.ask("young", "saturdays", 0); err != nil || !a.Repeated {
		t.Errorf("the younger: %+v, %v", a, err)
	}
	_, err := b.ask("old", "saturdays", 0)
	wantFault(t, "the older", err, fault.Conflict, "more than 30 days ago")
	b.wantWallet("two searches", 2)
}
