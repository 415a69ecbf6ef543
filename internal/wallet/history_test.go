package wallet_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// history is a wallet with a long history, made for measurements, and some lines that are not: see rare.
type history struct {
	fixture
	*wallet.Ledger
	org uuid.UUID
	all []wallet.Line // newest first, as the table has them
}

// past is longer than one page may look at.
const past = 21_000

// newHistory fills a wallet as of a moment in the middle of a month.
func newHistory(t *testing.T, rows int64) *history {
	t.Helper()
	url := dbtest.URL(t)
	now := time.Date(2026, 11, 16, 15, 0, 0, 0, time.UTC)
	d := dbtest.OpenURL(t, url, func() time.Time { return now })
	h := &history{fixture: fixture{t, d, url}, Ledger: wallet.New(d), org: wallettest.Org(t, d, "Long", 0)}
	dbtest.Super(t, url, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (790000, 'test', 'test', '1970-01-01', now())`)
	gates := wallet.NewGates(wallet.GateOptions{DB: d, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	if err := gates.Fill(t.Context(), h.org, rows, now.AddDate(0, 0, -40)); err != nil {
		t.Fatal(err)
	}
	return h
}

// adjust adds a line of another kind.
func (h *history) adjust(kind wallet.Kind, amount money.Pence, reason, reference string) wallet.Transaction {
	h.t.Helper()
	var made wallet.Transaction
	err := h.db.InTx(h.t.Context(), []uuid.UUID{h.org}, func(ctx context.Context, tx *db.Tx) (err error) {
		made, err = wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: h.org, Kind: kind, Amount: amount, Reason: reason, Reference: reference, Actor: audit.System("test")})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return made
}

// read takes the whole history from the tables, past every function that is tested.
func (h *history) read() {
	h.t.Helper()
	h.all = nil
	dbtest.Select(h.t, h.url, &h.all, `
		SELECT t.id, t.org_id, t.seq, t.kind, t.reference, t.description, t.amount_pence, t.balance_after_pence, t.debt_after_pence, t.created_at, coalesce(h.action, '') AS action
		FROM ledger_transactions t LEFT JOIN holds h ON h.id = t.id WHERE t.org_id = $1 ORDER BY t.seq DESC`, h.org)
}

// fitting is what a filter finds, by the words of its documentation.
func (h *history) fitting(f wallet.HistoryFilter) (seqs []int64) {
	for _, l := range h.all {
		on := l.At.UTC().Truncate(24 * time.Hour)
		text := strings.ToLower(f.Text)
		if (f.From.IsZero() || !on.Before(f.From)) && (f.To.IsZero() || !on.After(f.To)) && (f.Sort == "" || f.Sort == l.Sort()) &&
			(text == "" || strings.Contains(strings.ToLower(l.Description), text) || strings.Contains(strings.ToLower(l.Reference), text) || l.ID.String() == text) {
			seqs = append(seqs, l.Seq)
		}
	}
	return seqs
}

// walk turns the pages from the newest to the oldest and back, and gives what they show, each way.
func (h *history) walk(f wallet.HistoryFilter, n int) (down, up []int64) {
	h.t.Helper()
	var at wallet.HistoryPlace
	for pages := 0; ; pages++ {
		p, err := h.History(h.t.Context(), h.org, f, at, n)
		if err != nil {
			h.t.Fatal(err)
		}
		if pages > 50 && len(p.Lines) == 0 || len(p.Lines) > n {
			h.t.Fatalf("page %d has %d lines", pages, len(p.Lines))
		}
		down = append(down, seqs(p.Lines)...)
		if p.Older == nil {
			if up = seqs(p.Lines); p.Newer == nil {
				return down, up
			}
			at = *p.Newer
			break
		}
		at = *p.Older
	}
	for {
		p, err := h.History(h.t.Context(), h.org, f, at, n)
		if err != nil {
			h.t.Fatal(err)
		}
		lines := seqs(p.Lines)
		if len(up) > 0 { // the newest page may repeat lines of the one below it, so that it is a whole one
			lines = slices.DeleteFunc(lines, func(seq int64) bool { return seq <= up[0] })
		}
		up = append(lines, up...)
		if p.Newer == nil {
			return down, up
		}
		at = *p.Newer
	}
}

func seqs(lines []wallet.Line) (list []int64) {
	for _, l := range lines {
		list = append(list, l.Seq)
	}
	return list
}

// Whatever is asked for, and however much of the history is added up: the pages show what fits, all of it, once, both ways;
// and the export gives the same.
func TestHistoryFindsWhatFits(t *testing.T) {
	h := newHistory(t, 3_000)
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	bonus := h.adjust(wallet.Bonus, 5_00, "Welcome, 100% yours", "TICKET-1_a")
	if n, err := h.AddUp(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d wallets, %v", n, err)
	}
	h.adjust(wallet.Adjustment, 3_00, `Quoted "goods" of O'Neill`, `back\slash`)
	h.read()
	filters := map[string]wallet.HistoryFilter{
		"all": {}, "since": {From: day("2026-11-10")}, "until": {To: day("2026-10-20")}, "between": {From: day("2026-10-20"), To: day("2026-10-21")},
		"one day": {From: day("2026-10-20"), To: day("2026-10-20")}, "today": {From: day("2026-11-16"), To: day("2026-11-16")},
		"before it began": {To: day("2026-01-01")}, "after it ended": {From: day("2027-01-01")}, "far": {From: day("1970-01-01"), To: day("9998-12-31")},
		"call": {Sort: "call"}, "sms": {Sort: "sms"}, "number": {Sort: "number"}, "knowledge": {Sort: "knowledge"},
		"adjustment": {Sort: "adjustment"}, "bonus": {Sort: "bonus"}, "top-up": {Sort: "top_up"}, "refund": {Sort: "refund"}, "dispute": {Sort: "dispute"},
		"calls of a day": {Sort: "call", From: day("2026-10-20"), To: day("2026-10-20")}, "adjustments of a week": {Sort: "adjustment", From: day("2026-10-20"), To: day("2026-10-27")},
		"text": {Text: "TEXT MESSAGE, 2"}, "reference": {Text: "ticket-1_"}, "percent": {Text: "100%"}, "underscore": {Text: "_"}, "quotes": {Text: `"goods" of o'n`},
		"backslash": {Text: `\`}, "nothing": {Text: "no such thing"}, "id": {Text: bonus.ID.String()}, "text of a kind": {Text: "welcome", Sort: "bonus"},
		"text of another kind": {Text: "welcome", Sort: "adjustment"}, "text of a day": {Text: "30 seconds", From: day("2026-10-20"), To: day("2026-10-20")},
	}
	for round, rest := range []string{"some added up", "all added up"} {
		for name, f := range filters {
			want := h.fitting(f)
			down, up := h.walk(f, 400)
			if !slices.Equal(down, want) {
				t.Errorf("%s, %s: %d lines of %d", name, rest, len(down), len(want))
			}
			if !slices.Equal(up, want) {
				t.Errorf("%s, %s: %d lines of %d on the way back", name, rest, len(up), len(want))
			}
			var sent []int64
			if err := h.EachLine(t.Context(), h.org, f, func(lines []wallet.Line) error {
				sent = append(sent, seqs(lines)...)
				return nil
			}); err != nil || !slices.Equal(sent, want) {
				t.Errorf("%s, %s: %d lines of %d exported, %v", name, rest, len(sent), len(want), err)
			}
			p, err := h.History(t.Context(), h.org, f, wallet.HistoryPlace{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			if p.Counted && p.Count != int64(len(want)) {
				t.Errorf("%s, %s: counts %d lines of %d", name, rest, p.Count, len(want))
			}
		}
		if round == 0 {
			for i := range 200 {
				h.adjust(wallet.Adjustment, 1, "More", fmt.Sprint("more-", i))
			}
			if _, err := h.AddUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.read()
		}
	}
}

// A page keeps its lines while others come, and so do those beside it.
func TestHistoryPagesStayWhileLinesCome(t *testing.T) {
	h := newHistory(t, 100)
	first, err := h.History(t.Context(), h.org, wallet.HistoryFilter{}, wallet.HistoryPlace{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.History(t.Context(), h.org, wallet.HistoryFilter{}, *first.Older, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		h.adjust(wallet.Adjustment, 1, "Meanwhile", fmt.Sprint("meanwhile-", i))
	}
	again, err := h.History(t.Context(), h.org, wallet.HistoryFilter{}, *first.Older, 10)
	if err != nil || !slices.Equal(seqs(again.Lines), seqs(second.Lines)) {
		t.Errorf("the second page became %v, was %v: %v", seqs(again.Lines), seqs(second.Lines), err)
	}
	back, err := h.History(t.Context(), h.org, wallet.HistoryFilter{}, *again.Newer, 10)
	if err != nil || !slices.Equal(seqs(back.Lines), seqs(first.Lines)) || back.Newer == nil {
		t.Errorf("the page before it became %v, was %v: %v", seqs(back.Lines), seqs(first.Lines), err)
	}
}

// However long the history: one page looks at a bounded number of lines, says how far it came, and goes on from there.
func TestHistoryLooksAtSoMuchAtOnce(t *testing.T) {
	h := newHistory(t, past)
	for _, text := range []string{"no such thing", "For measurements"} {
		p, err := h.History(t.Context(), h.org, wallet.HistoryFilter{Text: text}, wallet.HistoryPlace{}, 500)
		if err != nil {
			t.Fatal(err)
		}
		if p.Older == nil || p.LookedUntil.IsZero() || p.Older.Before != past-20_000+1 {
			t.Errorf("%q: %d lines, goes on at %+v, looked until %s", text, len(p.Lines), p.Older, p.LookedUntil)
		}
	}
	// So do the days, and say how much of it they do not tell.
	last := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
	days, err := h.Days(t.Context(), h.org, last.AddDate(0, 0, -90), last)
	if err != nil || days.Behind != past-10_000 {
		t.Errorf("%d behind, %v", days.Behind, err)
	}
	if p, err := h.History(t.Context(), h.org, wallet.HistoryFilter{From: last.AddDate(0, 0, -90)}, wallet.HistoryPlace{}, 10); err != nil || p.Counted || len(p.Lines) != 10 {
		t.Errorf("%d lines, counted %t, %v", len(p.Lines), p.Counted, err)
	}
	h.read()
	for _, f := range []wallet.HistoryFilter{{Text: "For measurements"}, {Text: h.all[past-1].ID.String()}} {
		if down, up := h.walk(f, 500); !slices.Equal(down, h.fitting(f)) || !slices.Equal(up, down) {
			t.Errorf("%+v: %d lines of %d", f, len(down), len(h.fitting(f)))
		}
	}
	// What nobody used is not looked for at all, once the days are added up.
	if _, err := h.AddUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := h.History(t.Context(), h.org, wallet.HistoryFilter{Sort: "number"}, wallet.HistoryPlace{}, 10)
	if err != nil || len(p.Lines) > 0 || p.Older != nil || !p.Counted || p.Count != 0 {
		t.Errorf("numbers: %+v, %v", p, err)
	}
}

// A history that Fill made is one of whole transactions: the books hold (see wallettest.Org), and again is once.
func TestFill(t *testing.T) {
	h := newHistory(t, 300)
	gates := wallet.NewGates(wallet.GateOptions{DB: h.db, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	for range 2 {
		if err := gates.Fill(t.Context(), h.org, 500, time.Now().AddDate(-10, 0, 0)); err != nil {
			t.Fatal(err)
		}
		h.read()
		if len(h.all) != 500 || !slices.IsSortedFunc(h.all, func(a, b wallet.Line) int { return b.At.Compare(a.At) }) {
			t.Fatalf("%d lines", len(h.all))
		}
	}
	b, err := h.Balances(t.Context(), []uuid.UUID{h.org})
	if err != nil || b[h.org].Balance <= 0 {
		t.Errorf("balance %s, %v", b[h.org].Balance, err)
	}
}

// The days are exact whatever part of them is added up already, and stay it when they are added up from several processes.
func TestDays(t *testing.T) {
	h := newHistory(t, 3_000)
	from, to := time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 16, 23, 0, 0, 0, time.UTC)
	fresh, err := h.Days(t.Context(), h.org, from, to)
	if err != nil {
		t.Fatal(err)
	}
	h.read()
	days := map[string]wallet.Day{}
	for _, l := range slices.Backward(h.all) {
		name := l.At.UTC().Format(time.DateOnly)
		d := days[name]
		d.Transactions, d.Balance, d.Last = d.Transactions+1, l.BalanceAfter, l.Seq
		switch l.Action {
		case wallet.ActionCall:
			d.Calls, d.CallPence = d.Calls+1, d.CallPence-l.Amount
		case wallet.ActionSMS:
			d.SMS, d.SMSPence = d.SMS+1, d.SMSPence-l.Amount
		case wallet.ActionKnowledge:
			d.Searches, d.KnowledgePence = d.Searches+1, d.KnowledgePence-l.Amount
		case wallet.ActionNumber:
		}
		days[name] = d
	}
	if len(fresh.List) != 28 || fresh.Opening != days["2026-10-19"].Balance || fresh.Behind != 0 {
		t.Fatalf("%d days, opening %s, %d behind", len(fresh.List), fresh.Opening, fresh.Behind)
	}
	for _, d := range fresh.List {
		want := days[d.Date.UTC().Format(time.DateOnly)]
		want.Date, want.First = d.Date, d.First
		if d != want {
			t.Errorf("%+v, want %+v", d, want)
		}
	}
	same := func(when string) {
		t.Helper()
		now, err := h.Days(t.Context(), h.org, from, to)
		if err != nil || now.Opening != fresh.Opening || !slices.Equal(now.List, fresh.List) {
			t.Errorf("%s the days are others, %v", when, err)
		}
	}
	done := make(chan error)
	for range 4 {
		go func() { _, err := h.AddUp(context.Background()); done <- err }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	same("added up")
	wallettest.CheckBooks(t, h.db)
	dbtest.Super(t, h.url, `DELETE FROM wallet_days WHERE org_id = $1`, h.org)
	same("forgotten")
	if n, err := h.AddUp(t.Context()); err != nil || n != 1 {
		t.Errorf("%d wallets, %v", n, err)
	}
	h.adjust(wallet.Adjustment, 7, "One more", "one-more")
	now, err := h.Days(t.Context(), h.org, to, to)
	if err != nil || len(now.List) != 1 || now.List[0].Balance != fresh.List[27].Balance+7 || now.List[0].Transactions != fresh.List[27].Transactions+1 {
		t.Errorf("today: %+v, %v", now, err)
	}
	if n, err := h.AddUp(t.Context()); err != nil || n != 0 {
		t.Errorf("one transaction was worth adding up: %d, %v", n, err)
	}
}

// verify sees when a kept day is not what the ledger adds up to.
func TestDaysAreVerified(t *testing.T) {
	h := newHistory(t, 400)
	if _, err := h.AddUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, h.url, `CREATE TABLE kept AS TABLE wallet_days`)
	for name, spoil := range map[string]string{
		"a sum":     `UPDATE wallet_days SET sms_pence = sms_pence + 1 WHERE day = '2026-11-01'`,
		"a balance": `UPDATE wallet_days SET balance_pence = balance_pence + 1 WHERE day = '2026-11-01'`,
		"a day":     `DELETE FROM wallet_days WHERE day = '2026-11-01'`,
		"a number":  `UPDATE wallet_days SET last_seq = last_seq + 1 WHERE day = '2026-11-16'`,
	} {
		dbtest.Super(t, h.url, spoil)
		found := false
		err := h.db.InSystemTx(t.Context(), "verify", func(ctx context.Context, tx *db.Tx) error {
			checks, err := wallet.CheckBooks(ctx, tx)
			for _, c := range checks {
				if len(c.Violations) > 0 && c.Name != "days-match-ledger" {
					t.Errorf("%s: %s", name, c.Name)
				}
				found = found || c.Name == "days-match-ledger" && len(c.Violations) > 0
			}
			return err
		})
		if err != nil || !found {
			t.Errorf("%s that is wrong was not seen, %v", name, err)
		}
		dbtest.Super(t, h.url, `DELETE FROM wallet_days`)
		dbtest.Super(t, h.url, `INSERT INTO wallet_days TABLE kept`)
	}
}

// What cannot be asked for is refused with a sentence beside its field.
func TestHistoryFilterCheck(t *testing.T) {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for field, f := range map[string]wallet.HistoryFilter{
		"to": {From: at, To: at.AddDate(0, 0, -1)}, "kind": {Sort: "usage"}, "q": {Text: strings.Repeat("é", 101)},
	} {
		if err := f.Check(); !fault.Is(err, fault.Invalid) || fault.As(err).Field != field {
			t.Errorf("%+v: %v", f, err)
		}
	}
	for _, f := range []wallet.HistoryFilter{{Text: "a\x00b"}, {Text: "\xff"}} {
		if err := f.Check(); fault.As(err).Field != "q" {
			t.Errorf("%+v: %v", f, err)
		}
	}
	f := wallet.HistoryFilter{From: at, To: at, Sort: "call", Text: "  " + strings.Repeat("é", 100) + " "}
	if err := f.Check(); err != nil || f.Text != strings.Repeat("é", 100) {
		t.Errorf("%q, %v", f.Text, err)
	}
}
