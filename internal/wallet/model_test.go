package wallet_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// purse is a wallet as the design describes it, without a database: a second opinion on every answer and every penny. A
// purse is not changed once it is made; step gives the next one.
type purse struct {
	paid, bonus, held, debt money.Pence
	seq                     int64
	frozen                  bool
	caps                    [5]money.Pence // of everything and of each action; negative: none
	// month is the one that limits are counted in, and spent what counts in it, by action.
	month month
	spent [4]money.Pence
	// blurred says that a refusal may have begun a newer month, or not: nobody can tell the old one's account then.
	blurred bool
	holds   []pursed
	// adjusted has the amount of each reference, zero where there is none yet; credited says which payments are.
	adjusted []money.Pence
	credited []bool
}

// pursed is a hold in a purse; the zero one is yet to be made.
type pursed struct {
	state              wallet.HoldState
	amount, authorised money.Pence
	action             int
	month              month
	other              bool
}

// month is counted from the year 0.
type month int

func monthOf(t time.Time) month { return month(t.UTC().Year()*12 + int(t.UTC().Month())) }

func (p *purse) available() money.Pence { return p.paid + p.bonus - p.held }

func (p *purse) equal(q *purse) bool {
	return p.paid == q.paid && p.bonus == q.bonus && p.held == q.held && p.debt == q.debt && p.seq == q.seq && p.frozen == q.frozen &&
		p.caps == q.caps && p.month == q.month && p.spent == q.spent && p.blurred == q.blurred &&
		slices.Equal(p.holds, q.holds) && slices.Equal(p.adjusted, q.adjusted) && slices.Equal(p.credited, q.credited)
}

// posted is a line of the ledger: what it says happened to the wallet.
type posted struct {
	Seq     int64       `db:"seq"`
	Amount  money.Pence `db:"amount_pence"`
	Balance money.Pence `db:"balance_after_pence"`
	Debt    money.Pence `db:"debt_after_pence"`
}

// step is one thing that happened to a wallet, or may have: an op of a worker, a hold's expiry, or the look at the end.
type step struct {
	op     *op
	wish   wish    // of an authorising op
	answer *answer // nil: it was lost
	// earliest and latest are between which moments of its clock its transaction began.
	earliest, latest time.Time
	// index is that of the hold, the reference or the payment within the purse.
	index int
	// intent is the payment that is credited; amount is the payment's, or the adjustment's, and bonus says that it is given.
	intent string
	amount money.Pence
	bonus  bool
	// line is what the ledger has of it, nil for nothing; made is when the database says the hold was made.
	line *posted
	made time.Time
	// expired are holds that one sweep ended, and last is the look at the end.
	expired []int
	last    *purse
}

// next gives the purse after a step, if the step can have happened to this one and be answered so.
func (p *purse) next(s *step) (*purse, bool) {
	q := *p
	ok := false
	switch {
	case s.expired != nil:
		ok = true
		for _, i := range s.expired {
			ok = ok && p.holds[i].state == wallet.HoldOpen
			q.end(i, wallet.HoldExpired)
		}
	case s.last != nil:
		ok = p.agrees(s.last)
	case s.answer != nil && strings.Contains(s.answer.Failed, "lock timeout"):
		ok = true // the machine is slow; nothing was done
	default:
		switch s.op.Kind {
		case authorising:
			ok = q.authorise(s)
		case capturing:
			ok = q.capture(s)
		case voiding:
			ok = q.void(s)
		case extending:
			ok = q.extend(s)
		case sending:
			ok = q.send(s)
		case crediting:
			ok = q.credit(s)
		case adjusting:
			ok = q.adjust(s)
		case limiting:
			q.caps = s.op.Caps
			ok = s.succeeded()
		case freezing:
			q.frozen = true
			ok = s.succeeded()
		case thawing:
			q.frozen = false
			ok = s.succeeded()
		case reading:
			b := s.answer.Balance
			ok = s.succeeded() && b != nil && b.Balance == p.paid+p.bonus && b.Bonus == p.bonus && b.Held == p.held && b.Debt == p.debt &&
				b.Seq == p.seq && (b.FrozenAt != nil) == p.frozen
		case sweeping:
		}
	}
	// The promise above all others.
	return &q, ok && q.available() >= 0 && q.debt >= 0 && q.bonus >= 0 && q.paid >= 0 && q.held >= 0
}

// agrees compares with what the database has in the end.
func (p *purse) agrees(last *purse) bool {
	l := *last
	if l.month > p.month && l.spent == [4]money.Pence{} { // a refusal began it
		l.month, l.spent = p.month, p.spent
	}
	l.blurred = p.blurred
	return p.equal(&l)
}

// succeeded reports whether the op did, as far as is known.
func (s *step) succeeded() bool { return s.answer == nil || s.answer.Failed == "" }

// failed reports whether it was answered with this fault.
func (s *step) failed(kind fault.Kind, code string) bool {
	return s.answer != nil && s.answer.Failed != "" && s.answer.Kind == kind && s.answer.Code == code
}

// invalid reports whether it was answered that a field is wrong.
func (s *step) invalid(field string) bool {
	return s.failed(fault.Invalid, "") && s.answer.Field == field
}

// holds reports whether it was answered with the hold as it is in the purse.
func (s *step) holds(h pursed, again bool) bool {
	return s.succeeded() && (s.answer == nil || s.answer.Hold != nil && s.answer.Hold.State == h.state && s.answer.Hold.Amount == h.amount &&
		s.answer.Hold.Authorised == h.authorised && s.answer.Hold.Repeated == again)
}

// short reports whether it was refused for want of money, with the right figures.
func (p *purse) short(s *step, code string, required money.Pence) bool {
	return s.failed(fault.Unpaid, code) && maps.Equal(s.answer.Members, map[string]int64{
		"required_pence": int64(required), "available_pence": int64(p.available()), "debt_pence": int64(p.debt),
		// What has to come in: the debt is repaid first, and what is there repays none of it.
		"shortfall_pence": int64(p.debt + max(0, required-p.available())),
	})
}

// set puts a hold in its place.
func (p *purse) set(i int, h pursed) {
	p.holds = slices.Clone(p.holds)
	p.holds[i] = h
}

// count adds to the account of the hold's month, while that is the one which is counted.
func (p *purse) count(h pursed, amount money.Pence) {
	if h.month == p.month {
		p.spent[h.action] += amount
	}
}

// end frees what a hold holds.
func (p *purse) end(i int, state wallet.HoldState) {
	h := p.holds[i]
	p.held -= h.amount
	p.count(h, -h.amount)
	h.state, h.amount = state, 0
	p.set(i, h)
}

// post is one more line of the ledger; what it says must be so.
func (p *purse) post(line *posted, balance money.Pence) bool {
	p.seq++
	return line != nil && *line == posted{p.seq, p.paid + p.bonus - balance, p.paid + p.bonus, p.debt}
}

// take takes what there is, bonus first; the rest is owed.
func (p *purse) take(amount money.Pence, line *posted) bool {
	before := p.paid + p.bonus
	there := min(amount, p.available())
	p.debt += amount - there
	bonus := min(there, p.bonus)
	p.bonus -= bonus
	p.paid -= there - bonus
	return p.post(line, before)
}

// give repays what is owed and puts the rest in.
func (p *purse) give(amount money.Pence, bonus bool, line *posted) bool {
	before := p.paid + p.bonus
	repaid := min(amount, p.debt)
	p.debt -= repaid
	if bonus {
		p.bonus += amount - repaid
	} else {
		p.paid += amount - repaid
	}
	return p.post(line, before)
}

// price is what a wish costs, and what must be there for it; ok says whether it is offered at all.
func (w wish) price() (amount, required money.Pence, ok bool) {
	n := money.Pence(w.Quantity)
	switch wallet.Actions[w.Action] {
	case wallet.ActionCall:
		amount = (n*553 + 599) / 600 // 70 cents a minute at 0.79, rounded up once
		return amount, max(amount, 79), w.Destination != canada
	case wallet.ActionSMS:
		amount = 10 * n
	case wallet.ActionNumber:
		amount = 10_00 * n
	case wallet.ActionKnowledge:
		amount = n
	}
	return amount, amount, w.Destination != canada
}

// over says whether so much more for an action would be over a limit at a moment of that month.
func (p *purse) over(action int, more money.Pence, m month) bool {
	spent := p.spent
	if m > p.month {
		spent = [4]money.Pence{}
	}
	var all money.Pence
	for _, s := range spent {
		all += s
	}
	return p.caps[0] >= 0 && all+more > p.caps[0] || p.caps[action+1] >= 0 && spent[action]+more > p.caps[action+1]
}

// may says whether the limits can have let so much more pass, and whether they can have stopped it, at some moment of the
// step.
func (p *purse) may(s *step, action int, more money.Pence) (pass, stop bool) {
	for _, m := range []month{monthOf(s.earliest), monthOf(s.latest)} {
		over := p.over(action, more, m)
		pass, stop = pass || !over, stop || over
		if p.blurred && m <= p.month {
			return true, true
		}
	}
	return pass, stop
}

// refused notes that somebody was, which may have begun a month.
func (p *purse) refused(s *step) bool {
	p.blurred = p.blurred || monthOf(s.latest) > p.month
	return true
}

func (p *purse) authorise(s *step) bool {
	if h := p.holds[s.index]; h.state != "" {
		if h.other != s.op.Other {
			return s.failed(fault.Conflict, "idempotency_key_reused")
		}
		return s.answer != nil && s.holds(h, true)
	}
	amount, required, offered := s.wish.price()
	pass, stop := p.may(s, s.wish.Action, amount)
	switch {
	case s.failed(fault.Forbidden, "destination_not_offered"):
		return !offered
	case s.failed(fault.Forbidden, "wallet_frozen"):
		return p.frozen && p.refused(s)
	case s.failed(fault.Unpaid, "debt"):
		return p.debt > 0 && p.short(s, "debt", required) && p.refused(s)
	case s.failed(fault.Forbidden, "spending_limit"):
		return stop && p.refused(s)
	case s.failed(fault.Unpaid, "insufficient_funds"):
		return required > p.available() && p.short(s, "insufficient_funds", required) && p.refused(s)
	}
	if !offered || p.frozen || p.debt > 0 || !pass || required > p.available() {
		return false
	}
	if s.op.Poisoned {
		return (s.failed(fault.Unavailable, "undecided") || s.failed(fault.Internal, "")) && p.refused(s)
	}
	h := pursed{wallet.HoldOpen, amount, amount, s.wish.Action, monthOf(s.made), s.op.Other}
	if h.month > p.month {
		p.month, p.spent, p.blurred = h.month, [4]money.Pence{}, false
	}
	p.count(h, amount)
	if s.wish.AtOnce {
		h.state = wallet.HoldCaptured
		p.set(s.index, h)
		return p.take(amount, s.line) && s.holds(h, false)
	}
	p.held += amount
	p.set(s.index, h)
	return s.holds(h, false)
}

// live says whether the hold can still become something else; if not, what is answered to whoever tries. s must be about a
// hold that is there, and be its own source's.
func (p *purse) live(h pursed) bool {
	return h.state == wallet.HoldOpen || h.state == wallet.HoldInFlight
}

// foreign handles what is not the source's to settle.
func (s *step) foreign() bool { return s.op.Source != s.wish.Source }

func (p *purse) capture(s *step) bool {
	h := p.holds[s.index]
	amount := s.op.Amount
	if s.op.Whole {
		amount = h.amount
	}
	switch {
	case h.state == "":
		return false
	case s.foreign():
		return s.failed(fault.Conflict, "not_yours_to_settle")
	case h.state == wallet.HoldCaptured && amount == h.amount:
		return s.answer != nil && s.holds(h, true)
	case h.state == wallet.HoldCaptured:
		return s.failed(fault.Conflict, "already_captured")
	case !p.live(h):
		return s.failed(fault.Conflict, "hold_"+string(h.state))
	case amount < 1:
		return s.invalid("amount_pence")
	}
	tooMuch, missing := amount > 2*h.amount && !s.op.Overrun, amount > h.amount+p.available() && !s.op.Overrun
	if tooMuch || missing {
		return tooMuch && s.invalid("amount_pence") || missing && p.short(s, "insufficient_funds", amount-h.amount)
	}
	p.held -= h.amount
	p.count(h, amount-h.amount)
	h.state, h.amount = wallet.HoldCaptured, amount
	p.set(s.index, h)
	return p.take(amount, s.line) && s.holds(h, false)
}

func (p *purse) void(s *step) bool {
	h := p.holds[s.index]
	switch {
	case h.state == "":
		return false
	case s.foreign():
		return s.failed(fault.Conflict, "not_yours_to_settle")
	case h.state == wallet.HoldCaptured:
		return s.failed(fault.Conflict, "already_captured")
	case !p.live(h):
		return s.answer != nil && s.holds(h, true)
	}
	p.end(s.index, wallet.HoldVoid)
	return s.holds(p.holds[s.index], false)
}

func (p *purse) extend(s *step) bool {
	h := p.holds[s.index]
	more := s.op.Amount - h.amount
	pass, stop := p.may(s, h.action, more)
	refusal := h.state == "" || s.foreign() || !p.live(h) || more > 0 && (p.frozen || p.debt > 0 || !pass || more > p.available())
	switch {
	case s.answer == nil && refusal:
		return true // it did nothing, whatever it would have been told
	case h.state == "":
		return false
	case s.foreign():
		return s.failed(fault.Conflict, "not_yours_to_settle")
	case !p.live(h):
		return s.failed(fault.Conflict, "hold_"+string(h.state))
	case more <= 0:
		return s.holds(h, false)
	case s.failed(fault.Forbidden, "wallet_frozen"):
		return p.frozen && p.refused(s)
	case s.failed(fault.Unpaid, "debt"):
		return p.debt > 0 && p.short(s, "debt", more) && p.refused(s)
	case s.failed(fault.Forbidden, "spending_limit"):
		return stop && p.refused(s)
	case s.failed(fault.Unpaid, "insufficient_funds"):
		return more > p.available() && p.short(s, "insufficient_funds", more) && p.refused(s)
	case refusal:
		return false
	}
	p.refused(s) // it may have begun a month, for which the hold does not count
	p.held += more
	p.count(h, more)
	h.amount = s.op.Amount
	p.set(s.index, h)
	return s.holds(h, false)
}

func (p *purse) send(s *step) bool {
	h := p.holds[s.index]
	switch {
	case s.answer == nil && (h.state != wallet.HoldOpen || s.foreign()):
		return true
	case h.state == "":
		return false
	case s.foreign():
		return s.failed(fault.Conflict, "not_yours_to_settle")
	case h.state == wallet.HoldInFlight:
		return s.holds(h, true)
	case !p.live(h):
		return s.failed(fault.Conflict, "hold_"+string(h.state))
	}
	h.state = wallet.HoldInFlight
	p.set(s.index, h)
	return s.holds(h, false)
}

func (p *purse) credit(s *step) bool {
	did := s.answer == nil || slices.Contains(s.answer.Credited, s.intent)
	if !s.succeeded() || s.answer != nil && did == p.credited[s.index] {
		return false
	}
	if p.credited[s.index] || !did {
		return true
	}
	p.credited = slices.Clone(p.credited)
	p.credited[s.index] = true
	return p.give(s.amount, false, s.line)
}

func (p *purse) adjust(s *step) bool {
	kind := wallet.Adjustment
	if s.bonus {
		kind = wallet.Bonus
	}
	switch first := p.adjusted[s.index]; {
	case first != 0 && first != s.amount:
		return s.answer == nil || s.failed(fault.Conflict, "")
	case first == 0 && s.amount < 0 && -s.amount > p.available():
		return s.invalid("amount")
	case first == 0:
		p.adjusted = slices.Clone(p.adjusted)
		p.adjusted[s.index] = s.amount
		if s.amount < 0 && !p.take(-s.amount, s.line) || s.amount > 0 && !p.give(s.amount, s.bonus, s.line) {
			return false
		}
	}
	if s.answer == nil {
		return true
	}
	t := s.answer.Transaction
	return s.succeeded() && t != nil && t.Kind == kind && *s.line == posted{t.Seq, t.Amount, t.BalanceAfter, t.DebtAfter}
}

// patience is how long the search for an order may take; it takes a moment.
const patience = 2 * time.Minute

// explain looks for one order of a wallet's steps in which the purse answers each as it was answered and ends as the
// database did, and in which whatever had ended before another began comes first (linearizability).
func explain(t *testing.T, name string, first *purse, history []porcupine.Operation) {
	t.Helper()
	model := porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, _ any) (bool, any) {
			next, ok := state.(*purse).next(input.(*step)) //nolint:errcheck // they are nothing else
			return ok, next
		},
		Equal: func(a, b any) bool { return a.(*purse).equal(b.(*purse)) }, //nolint:errcheck // they are nothing else
		Hash: func(state any) uint64 {
			p := state.(*purse) //nolint:errcheck // it is nothing else
			return uint64(p.paid)*31 + uint64(p.held)*37 + uint64(p.seq)*41
		},
	}
	result, info := porcupine.CheckOperationsVerbose(model, history, patience)
	if result == porcupine.Ok {
		return
	}
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	var text strings.Builder
	p := first
	for i, o := range longest {
		p, _ = p.next(o.Input.(*step)) //nolint:errcheck // it is nothing else
		if i >= len(longest)-8 {
			fmt.Fprintf(&text, "  then %s\n", o.Input.(*step)) //nolint:errcheck // it is nothing else
		}
	}
	fmt.Fprintf(&text, "  which leaves %s paid, %s bonus, %s held, %s debt, %d lines, frozen %t, limits %v, spent %v\n  and next one of:\n",
		p.paid, p.bonus, p.held, p.debt, p.seq, p.frozen, p.caps, p.spent)
	explained := map[any]bool{}
	soonest := int64(math.MaxInt64)
	for _, o := range longest {
		explained[o.Input] = true
	}
	for _, o := range history {
		if !explained[o.Input] {
			soonest = min(soonest, o.Return)
		}
	}
	for _, o := range history {
		if s := o.Input.(*step); !explained[s] && o.Call <= soonest { //nolint:errcheck // it is nothing else
			fmt.Fprintf(&text, "  %s\n", s)
			for _, i := range s.expired {
				fmt.Fprintf(&text, "    of which %d is %+v\n", i, p.holds[i])
			}
			if s.op != nil && (s.op.Kind == authorising || s.op.Hold != uuid.Nil) {
				fmt.Fprintf(&text, "    whose hold is %+v\n", p.holds[s.index])
			}
			if s.last != nil {
				fmt.Fprintf(&text, "    %s\n", p.differences(s.last))
			}
		}
	}
	t.Errorf("%s: %s: %d of %d steps can be explained, the last of them\n%s", name, result, len(longest), len(history), text.String())
}

// differences says where the database ended elsewhere.
func (p *purse) differences(last *purse) string {
	var list []string
	for i := range p.holds {
		if p.holds[i] != last.holds[i] {
			list = append(list, fmt.Sprintf("hold %d is %+v, not %+v", i, last.holds[i], p.holds[i]))
		}
	}
	a, b := *p, *last
	a.holds, b.holds = nil, nil
	return fmt.Sprintf("%s; it is %+v, not %+v", strings.Join(list, "; "), b, a)
}

// String tells of the step in words.
func (s *step) String() string {
	switch {
	case s.expired != nil:
		return fmt.Sprintf("the holds %d expired", s.expired)
	case s.last != nil:
		return "the look at the end"
	}
	text := fmt.Sprintf("%s of %d by %s", s.op.Kind, s.index, s.op.ID)
	if s.op.Kind == authorising {
		text += fmt.Sprintf(" (%+v)", s.wish)
	}
	text += fmt.Sprintf(" %+v", *s.op)
	switch {
	case s.answer == nil:
		text += ", answer lost"
	case s.answer.Failed != "":
		text += fmt.Sprintf(", refused: kind %d, %s%s %v %s", s.answer.Kind, s.answer.Code, s.answer.Field, s.answer.Members, s.answer.Failed)
	case s.answer.Hold != nil:
		text += fmt.Sprintf(", answered %s %d again %t", s.answer.Hold.State, s.answer.Hold.Amount, s.answer.Hold.Repeated)
	case s.answer.Balance != nil:
		text += fmt.Sprintf(", answered %+v", *s.answer.Balance)
	default:
		text += fmt.Sprintf(", answered %v", s.answer.Credited)
	}
	if s.line != nil {
		text += fmt.Sprintf(", ledger %+v", *s.line)
	}
	return text
}
