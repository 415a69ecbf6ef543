package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Sort says what sort of thing a line of the history was: the kind of the transaction or, of what was used, the action.
type Sort string

// AnySort asks for every line.
const AnySort Sort = ""

// Sorts are all of them, in the order in which people see them.
func Sorts() []Sort {
	sorts := []Sort{Sort(TopUp), Sort(Adjustment), Sort(Bonus), Sort(Refund), Sort(Dispute), Sort(Rent)}
	for _, a := range Actions {
		sorts = append(sorts, Sort(a))
	}
	return sorts
}

// action is the action that the sort is of; empty for what is no usage.
func (s Sort) action() Action {
	if slices.Contains(Actions, Action(s)) {
		return Action(s)
	}
	return ""
}

// Sort is what sort of thing the line was.
func (l Line) Sort() Sort {
	if l.Action != "" {
		return Sort(l.Action)
	}
	return Sort(l.Kind)
}

// HistoryFilter says which lines of a wallet's history are asked for. The zero value asks for all.
type HistoryFilter struct {
	// From and To are days (UTC), both included; zero leaves that end open.
	From, To time.Time
	Sort     Sort
	// Text is a part of the description or the reference, in any case, or the whole id of a transaction.
	Text string
}

// maxHistoryText is the longest text that is searched for, in characters.
const maxHistoryText = 100

// Check refuses what cannot be asked for, with the field "from", "to", "kind" or "q", and brings the text into its one form.
func (f *HistoryFilter) Check() error {
	f.Text = strings.TrimSpace(f.Text)
	switch {
	case !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From):
		return fault.Field("to", "The last day is before the first. Choose a later one.")
	case f.Sort != AnySort && !slices.Contains(Sorts(), f.Sort):
		return fault.Field("kind", "Choose a kind from the list.")
	case !utf8.ValidString(f.Text) || strings.ContainsRune(f.Text, 0) || utf8.RuneCountInString(f.Text) > maxHistoryText:
		return fault.Field("q", fmt.Sprintf("Search for at most %d characters.", maxHistoryText))
	}
	return nil
}

// narrow reports whether only some lines are asked for.
func (f *HistoryFilter) narrow() bool { return *f != HistoryFilter{} }

// HistoryPlace is where a page begins. At most one is set; the zero value is the newest line.
type HistoryPlace struct {
	// Before is the number that the page's lines are below, After the one that they are above.
	Before, After int64
}

// HistoryPage is a page of a wallet's history.
type HistoryPage struct {
	// Lines are the page's, newest first.
	Lines []Line
	// Newer and Older are where the pages beside it begin; nil where there is none.
	Newer, Older *HistoryPlace
	// LookedUntil is when the oldest line was made that was looked at, where looking stopped before the page was full: Older
	// goes on from there; Looked is how many lines were looked at. Zero where it did not.
	LookedUntil time.Time
	Looked      int64
	// Count is how many lines fit the filter in all, and Spent what they cost when a single action is asked for. Counted is
	// false where that would mean reading them all.
	Counted bool
	Count   int64
	Spent   money.Pence
}

const (
	// historyBlock is how many lines one look reads, where only some of them fit.
	historyBlock = 2_000
	// historyMost is how many lines one page looks at, whatever is asked for.
	historyMost = 20_000
)

// History gives a page of at most n lines. However long the history is and whatever is asked for, the work is bounded:
// at most historyMost lines are looked at. The filter must have passed Check. A wallet that does not exist has no lines.
func (l *Ledger) History(ctx context.Context, org uuid.UUID, f HistoryFilter, at HistoryPlace, n int) (p HistoryPage, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		s, err := newSearch(ctx, tx, org, f)
		if err != nil {
			return err
		}
		p = HistoryPage{}
		if at.After > 0 {
			if p, err = s.newer(ctx, at.After, n); err != nil {
				return err
			}
		}
		if at.After == 0 || p.Newer == nil { // the newest page is a whole one, whichever way leads to it
			s.looked = 0
			if p, err = s.older(ctx, at.Before, n); err != nil {
				return err
			}
		}
		return s.count(ctx, &p)
	})
	return p, err
}

// EachLine gives all lines that fit the filter to fn, newest first, in lists of at most historyBlock. It reads them bit by
// bit in transactions of their own, so it may take long and fn may wait for a slow reader; what comes meanwhile is not
// among them. An error of fn ends it.
func (l *Ledger) EachLine(ctx context.Context, org uuid.UUID, f HistoryFilter, fn func([]Line) error) error {
	var s *search
	for before, more := int64(0), true; more; {
		var p HistoryPage
		err := l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			if s == nil {
				if s, err = newSearch(ctx, tx, org, f); err != nil {
					return err
				}
			}
			s.tx, s.looked = tx, 0
			p, err = s.older(ctx, before, historyBlock/2)
			return err
		})
		if err != nil {
			return err
		}
		if len(p.Lines) > 0 {
			if err := fn(p.Lines); err != nil {
				return err
			}
		}
		if more = p.Older != nil; more {
			before = p.Older.Before
		}
	}
	return nil
}

// search looks for lines within bounds.
type search struct {
	tx     *db.Tx
	org    uuid.UUID
	filter HistoryFilter
	// low and high are the numbers of the first and the last line that can fit; until is the last that is added up.
	low, high, until int64
	looked           int64
	// id is the transaction that the text is the id of, or uuid.Nil.
	id uuid.UUID
}

// newSearch finds the bounds. A wallet's days know which lines were made on them; only those that are not added up yet have
// to be looked at.
func newSearch(ctx context.Context, tx *db.Tx, org uuid.UUID, f HistoryFilter) (*search, error) {
	s := &search{tx: tx, org: org, filter: f, low: 1}
	if err := tx.GetContext(ctx, &s.high, `SELECT coalesce((SELECT last_seq FROM wallets WHERE org_id = $1), 0)`, org); err != nil {
		return nil, fmt.Errorf("couldn't read the wallet: %w", err)
	}
	if !f.narrow() {
		return s, nil
	}
	if id, err := uuid.Parse(f.Text); err == nil && id.String() == strings.ToLower(f.Text) {
		s.id = id
	}
	var err error
	if s.until, err = addedUntil(ctx, tx, org); err != nil {
		return nil, err
	}
	if f.From.IsZero() && f.To.IsZero() {
		return s, nil
	}
	var kept struct {
		First sql.NullInt64 `db:"first"`
		Last  sql.NullInt64 `db:"last"`
	}
	if err := tx.GetContext(ctx, &kept, `
		SELECT min(first_seq) AS first, max(last_seq) AS last FROM wallet_days WHERE org_id = $1 AND day BETWEEN $2 AND $3`,
		org, date(f.first()), date(f.last())); err != nil {
		return nil, fmt.Errorf("couldn't find the days: %w", err)
	}
	last := s.high
	s.low = s.until + 1
	if kept.First.Valid {
		s.low = kept.First.Int64
	}
	if s.until >= last { // all is added up, so the days know
		s.high = kept.Last.Int64
	}
	return s, nil
}

// first and last are the days between which lines are asked for.
func (f *HistoryFilter) first() time.Time { return f.From }

func (f *HistoryFilter) last() time.Time {
	if f.To.IsZero() {
		return time.Date(9998, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	return f.To
}

// lineColumns are a line's; the hold of what was used says which action it was.
const lineColumns = `t.id, t.org_id, t.seq, t.kind, t.reference, t.description, t.amount_pence, t.balance_after_pence, t.debt_after_pence, t.created_at,
	coalesce(h.action, '') AS action`

// linesSQL reads the lines of $1 from the number $2 to $3 that fit: made from $4 until before $5, of the kind $6, the
// action $7, with the text $8 or the id $9.
const linesSQL = `
	SELECT ` + lineColumns + `
	FROM ledger_transactions t LEFT JOIN holds h ON t.kind = 'usage' AND h.id = t.id
	WHERE t.org_id = $1 AND t.seq BETWEEN $2 AND $3 AND t.created_at >= $4 AND t.created_at < $5
	  AND ($6 = '' OR t.kind = $6) AND ($7 = '' OR h.action = $7)
	  AND ($8 = '' OR strpos(lower(t.description), lower($8)) > 0 OR strpos(lower(t.reference), lower($8)) > 0 OR t.id = $9)`

// rareSQL is linesSQL for a kind that is no usage, which has an index of its own. Such lines have no hold.
const rareSQL = `
	SELECT t.id, t.org_id, t.seq, t.kind, t.reference, t.description, t.amount_pence, t.balance_after_pence, t.debt_after_pence, t.created_at, '' AS action
	FROM ledger_transactions t
	WHERE t.org_id = $1 AND t.seq BETWEEN $2 AND $3 AND t.created_at >= $4 AND t.created_at < $5
	  AND t.kind = $6 AND t.kind <> 'usage' AND $7 = ''
	  AND ($8 = '' OR strpos(lower(t.description), lower($8)) > 0 OR strpos(lower(t.reference), lower($8)) > 0 OR t.id = $9)`

// rare reports whether the filter asks for a kind with an index of its own.
func (s *search) rare() bool { return s.filter.Sort != AnySort && s.filter.Sort.action() == "" }

// read gives at most n fitting lines with numbers from low to high, beginning at the end that newest says.
func (s *search) read(ctx context.Context, low, high int64, newest bool, n int) (lines []Line, err error) {
	query, order := linesSQL, ` ORDER BY t.seq LIMIT $10`
	var kind, action string
	if s.rare() {
		query, kind = rareSQL, string(s.filter.Sort)
	} else {
		action = string(s.filter.Sort)
	}
	if newest {
		order = ` ORDER BY t.seq DESC LIMIT $10`
	}
	err = s.tx.SelectContext(ctx, &lines, query+order,
		s.org, low, high, s.filter.first(), s.filter.last().AddDate(0, 0, 1), kind, action, s.filter.Text, s.id, n)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the wallet's history: %w", err)
	}
	return lines, nil
}

// block gives the other end of the next block of lines from the number at, going down or up.
func (s *search) block(ctx context.Context, at int64, down bool, n int) (end int64, err error) {
	size := int64(historyBlock)
	if !s.filter.narrow() {
		size = int64(n)
	}
	switch {
	case s.rare():
		query := `SELECT seq FROM ledger_transactions WHERE org_id = $1 AND kind = $2 AND kind <> 'usage' AND seq >= $3 ORDER BY seq OFFSET $4 LIMIT 1`
		if end = s.high; down {
			query, end = `SELECT seq FROM ledger_transactions WHERE org_id = $1 AND kind = $2 AND kind <> 'usage' AND seq <= $3 ORDER BY seq DESC OFFSET $4 LIMIT 1`, s.low
		}
		if err := s.tx.GetContext(ctx, &end, query, s.org, s.filter.Sort, at, size-1); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, fmt.Errorf("couldn't read the wallet's history: %w", err)
		}
	case down:
		end = at - size + 1 // numbers have no gaps
	default:
		end = at + size - 1
	}
	s.looked += size
	return min(max(end, s.low), s.high), nil
}

// skip gives the next number from at on, in the same direction, at which a line of the action can be: whole days without
// it are passed over. Beyond the bounds there is none.
func (s *search) skip(ctx context.Context, at int64, down bool) (int64, error) {
	column, ok := map[Action]string{ActionCall: "calls", ActionSMS: "sms", ActionNumber: "numbers", ActionKnowledge: "searches"}[s.filter.Sort.action()]
	if !ok || at > s.until {
		return at, nil
	}
	query := `SELECT min(first_seq) FROM wallet_days WHERE org_id = $1 AND last_seq >= $2 AND ` + column + ` > 0`
	if down {
		query = `SELECT max(last_seq) FROM wallet_days WHERE org_id = $1 AND first_seq <= $2 AND ` + column + ` > 0`
	}
	var next sql.NullInt64
	if err := s.tx.GetContext(ctx, &next, query, s.org, at); err != nil {
		return 0, fmt.Errorf("couldn't find the days: %w", err)
	}
	switch {
	case next.Valid && down:
		return min(next.Int64, at), nil
	case next.Valid:
		return max(next.Int64, at), nil
	case down:
		return s.low - 1, nil
	}
	return s.until + 1, nil // what is not added up yet may have one
}

// exact gives the one line that the text is the id of, without looking at others.
func (s *search) exact(ctx context.Context) (lines []Line, err error) {
	if s.id == uuid.Nil {
		return nil, nil
	}
	var seq int64
	err = s.tx.GetContext(ctx, &seq, `SELECT seq FROM ledger_transactions WHERE id = $1 AND org_id = $2`, s.id, s.org)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't look for the transaction: %w", err)
	}
	return s.read(ctx, seq, seq, true, 1)
}

// older gives the page below a number; zero begins at the newest.
func (s *search) older(ctx context.Context, before int64, n int) (p HistoryPage, err error) {
	if p.Lines, err = s.exact(ctx); err != nil || len(p.Lines) > 0 {
		return p, err
	}
	at := s.high
	if before > 0 {
		at = min(at, before-1)
	}
	for len(p.Lines) <= n {
		if at, err = s.skip(ctx, at, true); err != nil {
			return p, err
		}
		if at < s.low {
			break
		}
		if s.looked >= historyMost {
			p.Older, p.Looked = &HistoryPlace{Before: at + 1}, s.looked
			p.LookedUntil, err = s.madeAt(ctx, at+1)
			break
		}
		end, err := s.block(ctx, at, true, n+1)
		if err != nil {
			return p, err
		}
		lines, err := s.read(ctx, end, at, true, n+1-len(p.Lines))
		if err != nil {
			return p, err
		}
		p.Lines, at = append(p.Lines, lines...), end-1
	}
	if len(p.Lines) > n { // one more than asked for, which says that there is one
		p.Lines = p.Lines[:n]
		p.Older, p.LookedUntil = &HistoryPlace{Before: p.Lines[n-1].Seq}, time.Time{}
	}
	if before > 0 {
		p.Newer = &HistoryPlace{After: before - 1}
		if len(p.Lines) > 0 {
			p.Newer.After = p.Lines[0].Seq
		}
	}
	return p, err
}

// newer gives the page above a number. Its Newer is nil where it reached the newest line.
func (s *search) newer(ctx context.Context, after int64, n int) (p HistoryPage, err error) {
	var stopped int64
	for at := max(s.low, after+1); len(p.Lines) <= n; {
		if at, err = s.skip(ctx, at, false); err != nil {
			return p, err
		}
		if at > s.high {
			break
		}
		if s.looked >= historyMost {
			stopped = at - 1
			break
		}
		end, err := s.block(ctx, at, false, n+1)
		if err != nil {
			return p, err
		}
		lines, err := s.read(ctx, at, end, false, n+1-len(p.Lines))
		if err != nil {
			return p, err
		}
		p.Lines, at = append(p.Lines, lines...), end+1
	}
	switch {
	case len(p.Lines) > n:
		p.Lines = p.Lines[:n]
		p.Newer = &HistoryPlace{After: p.Lines[n-1].Seq}
	case stopped > 0:
		p.Newer = &HistoryPlace{After: stopped}
	}
	slices.Reverse(p.Lines)
	p.Older = &HistoryPlace{Before: after + 1}
	if len(p.Lines) > 0 {
		p.Older.Before = p.Lines[len(p.Lines)-1].Seq
	}
	return p, nil
}

// madeAt is when the line with a number was made.
func (s *search) madeAt(ctx context.Context, seq int64) (at time.Time, err error) {
	if err := s.tx.GetContext(ctx, &at, `SELECT created_at FROM ledger_transactions WHERE org_id = $1 AND seq = $2`, s.org, seq); err != nil {
		return at, fmt.Errorf("couldn't read the wallet's history: %w", err)
	}
	return at, nil
}

// count says how many lines fit, where the wallet's days know.
func (s *search) count(ctx context.Context, p *HistoryPage) error {
	f := s.filter
	switch {
	case !f.narrow():
		p.Counted, p.Count = true, s.high
		return nil
	case f.Text != "" || s.rare():
		return nil
	}
	days, err := readDays(ctx, s.tx, s.org, f.first(), f.last())
	if err != nil || days.Behind > 0 {
		return err
	}
	p.Counted = true
	for _, d := range days.List {
		times := d.Transactions
		if f.Sort != AnySort {
			var cost money.Pence
			times, cost = d.Used(f.Sort.action())
			p.Spent += cost
		}
		p.Count += times
	}
	return nil
}
