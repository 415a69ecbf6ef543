package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
)

// account is the name of a ledger account. The first three exist once per organisation, the others once in the house.
//
// Signs: wallet accounts grow with what the customer may spend; receivable is minus the customer's debt; a house
// account holds the other side, so that every transaction sums to zero and all accounts together do too.
type account string

const (
	walletPaid       account = "wallet/paid"
	walletBonus      account = "wallet/bonus"
	receivable       account = "receivable"
	clearing         account = "stripe_clearing" // minus what Stripe has received for customers
	bonusGranted     account = "bonus_granted"
	adjustment       account = "adjustment"
	refunds          account = "refunds"  // given back by us
	disputes         account = "disputes" // taken back by banks
	revenueCall      account = "revenue/call"
	revenueSMS       account = "revenue/sms"
	revenueNumber    account = "revenue/number"
	revenueKnowledge account = "revenue/knowledge"
)

// revenue is the house's account for what an action earns.
func (a Action) revenue() account {
	switch a {
	case ActionCall:
		return revenueCall
	case ActionSMS:
		return revenueSMS
	case ActionNumber:
		return revenueNumber
	case ActionKnowledge:
		return revenueKnowledge
	}
	return ""
}

// leg is one posting to be.
type leg struct {
	account account
	amount  money.Pence
}

// movement is one ledger transaction to be.
type movement struct {
	id          uuid.UUID
	org         uuid.UUID
	kind        Kind
	reference   string
	description string
	topUp       uuid.UUID // uuid.Nil where none
	// legs decides the postings from the wallet as it stands when this movement's turn comes.
	legs   func(w *state) []leg
	actor  audit.Actor
	action string
	reason string
	// request is the one that asked for it, where that is not the context's.
	request string
	detail  map[string]any
}

// state is a wallet as its locked row has it, with its limits. It follows what is done to it before that is written.
type state struct {
	Balance
	Cap          *money.Pence `db:"cap_pence"`
	CapCall      *money.Pence `db:"cap_call_pence"`
	CapSMS       *money.Pence `db:"cap_sms_pence"`
	CapNumber    *money.Pence `db:"cap_number_pence"`
	CapKnowledge *money.Pence `db:"cap_knowledge_pence"`

	SpentMonth     time.Time   `db:"spent_month"`
	SpentCall      money.Pence `db:"spent_call_pence"`
	SpentSMS       money.Pence `db:"spent_sms_pence"`
	SpentNumber    money.Pence `db:"spent_number_pence"`
	SpentKnowledge money.Pence `db:"spent_knowledge_pence"`

	// What the row has, by which a change of it under our lock would be seen.
	seqBefore  int64
	heldBefore money.Pence
	changed    bool
}

const stateColumns = balanceColumns + `, cap_pence, cap_call_pence, cap_sms_pence, cap_number_pence, cap_knowledge_pence,
	spent_month, spent_call_pence, spent_sms_pence, spent_number_pence, spent_knowledge_pence`

// spent is what was spent and set aside on an action in the month, and its cap.
func (w *state) spent(a Action) (*money.Pence, *money.Pence) {
	switch a {
	case ActionCall:
		return &w.SpentCall, w.CapCall
	case ActionSMS:
		return &w.SpentSMS, w.CapSMS
	case ActionNumber:
		return &w.SpentNumber, w.CapNumber
	case ActionKnowledge:
		return &w.SpentKnowledge, w.CapKnowledge
	}
	return new(money.Pence), nil
}

// enterMonth begins a month's account when the old one is over. A clock that goes back begins none.
func (w *state) enterMonth(now time.Time) {
	if first := firstOfMonth(now); first.After(w.SpentMonth) {
		w.SpentMonth = first
		w.SpentCall, w.SpentSMS, w.SpentNumber, w.SpentKnowledge = 0, 0, 0, 0
	}
}

// count adds what a hold takes more, or less, to the account of the month in which the hold was made. When that month is
// over it counts for nothing; a transaction that began before the first may get here after one that began later.
func (w *state) count(h *Hold, more money.Pence) {
	if w.SpentMonth.Equal(firstOfMonth(h.CreatedAt)) {
		spent, _ := w.spent(h.Action)
		*spent += more
	}
}

func firstOfMonth(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// book is what one transaction does to the wallets whose rows it holds: it is decided in memory, wallet by wallet in the
// order of what came, and then written by one statement.
type book struct {
	now     time.Time
	wallets map[uuid.UUID]*state

	transactions struct {
		id, org, kind, reference, description []string
		topUp                                 []*string
		seq, amount, balance, debt            []int64
	}
	postings struct {
		transaction, org, account []string
		amount                    []int64
	}
	audit []audit.Entry
	// made and moved are the holds that are new, and those of before that change; was is the state that the latter must
	// still be in.
	made  []*Hold
	moved []*Hold
	was   []HoldState
}

// lock takes the wallets' row locks in ascending order of organisation, as everybody does.
func lock(ctx context.Context, tx *db.Tx, orgs []uuid.UUID) (*book, error) {
	var rows []state
	err := tx.SelectContext(ctx, &rows, `
		SELECT `+stateColumns+` FROM wallets WHERE org_id = ANY($1::uuid[]) ORDER BY org_id FOR NO KEY UPDATE`, idArray(orgs))
	if err != nil {
		return nil, fmt.Errorf("couldn't lock the wallets: %w", err)
	}
	b := newBook(tx, len(rows))
	for i := range rows {
		b.hold(&rows[i])
	}
	return b, b.complete(orgs)
}

// Lock takes the wallet's row lock within tx, for who changes what belongs to a hold: everybody takes this lock first.
func Lock(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	_, err := lock(ctx, tx, []uuid.UUID{org})
	return err
}

func newBook(tx *db.Tx, wallets int) *book {
	return &book{now: tx.Now, wallets: make(map[uuid.UUID]*state, wallets)}
}

// hold takes a locked row in.
func (b *book) hold(w *state) {
	w.seqBefore, w.heldBefore = w.Seq, w.Held
	b.wallets[w.OrgID] = w
}

// complete makes sure that every wallet is there.
func (b *book) complete(orgs []uuid.UUID) error {
	for _, org := range orgs {
		if b.wallets[org] == nil {
			return fmt.Errorf("organisation %s has no wallet in this transaction's sight: %w", org, errCannot)
		}
	}
	return nil
}

// idArray writes ids as Postgres reads an array of them.
func idArray(ids []uuid.UUID) string {
	var b strings.Builder
	b.Grow(2 + 37*len(ids))
	b.WriteByte('{')
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(id.String())
	}
	b.WriteByte('}')
	return b.String()
}

// post adds one ledger transaction. Its wallet must be held, and the caller has made sure that no (kind, reference) is
// there yet; the schema's unique key refuses it otherwise.
func (b *book) post(m movement) error {
	w := b.wallets[m.org]
	if w == nil {
		return fmt.Errorf("the wallet of organisation %s is not locked", m.org)
	}
	legs := m.legs(w)
	change, err := apply(w, legs)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %w", m.kind, m.reference, errCannot, err)
	}
	w.changed = true
	id, org := m.id.String(), m.org.String()
	var topUp *string
	if m.topUp != uuid.Nil {
		s := m.topUp.String()
		topUp = &s
	}
	t, p := &b.transactions, &b.postings
	t.id, t.org, t.kind = append(t.id, id), append(t.org, org), append(t.kind, string(m.kind))
	t.reference, t.description = append(t.reference, m.reference), append(t.description, m.description)
	t.topUp, t.seq, t.amount = append(t.topUp, topUp), append(t.seq, w.Seq), append(t.amount, int64(change))
	t.balance, t.debt = append(t.balance, int64(w.Balance.Balance)), append(t.debt, int64(w.Debt))
	for _, l := range legs {
		p.transaction, p.org = append(p.transaction, id), append(p.org, org)
		p.account, p.amount = append(p.account, string(l.account)), append(p.amount, int64(l.amount))
	}
	b.audit = append(b.audit, audit.Entry{
		OrgID: m.org, Actor: m.actor, Action: m.action, Subject: m.reference, Reason: m.reason, TransactionID: m.id,
		RequestID: m.request, Detail: m.detail,
	})
	return nil
}

// apply changes the wallet in memory by the legs and returns the change of its balance. It refuses what would leave the
// books wrong; the schema's constraints refuse the same again.
func apply(w *state, legs []leg) (money.Pence, error) {
	var sum, change money.Pence
	for _, l := range legs {
		sum += l.amount
		switch l.account {
		case walletPaid:
			change += l.amount
		case walletBonus:
			change += l.amount
			w.Bonus += l.amount
		case receivable:
			w.Debt -= l.amount
		case clearing, bonusGranted, adjustment, refunds, disputes, revenueCall, revenueSMS, revenueNumber, revenueKnowledge:
		}
	}
	w.Balance.Balance += change
	w.Seq++
	switch {
	case sum != 0:
		return 0, fmt.Errorf("postings sum to %d pence, not to zero", int64(sum))
	case w.Available() < 0 || w.Bonus < 0 || w.Bonus > w.Balance.Balance:
		return 0, fmt.Errorf("the wallet would fall to %s available, %s bonus", w.Available(), w.Bonus)
	case w.Debt < 0:
		return 0, errors.New("more debt would be repaid than there is")
	}
	return change, nil
}

// errMoved says that a row was not as the transaction had found it. The transaction must not commit; another one will
// find how things are.
var errMoved = errors.New("something moved while it was being decided about")

// errCannot says that the books do not take something, whoever asks and when.
var errCannot = errors.New("the books do not take it")

// writeSQL writes a whole book. Which parameters there are is said where it is called.
var writeSQL = `
	WITH t AS (
		INSERT INTO ledger_transactions
		       (created_at, id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, top_up_id)
		SELECT $1, u.* FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[],
		                           $9::bigint[], $10::bigint[], $11::uuid[]) u
	), p AS (
		-- An account that does not exist gives NULL, which the table refuses.
		INSERT INTO ledger_postings (transaction_id, org_id, amount_pence, account_id)
		SELECT u.transaction_id, u.org_id, u.amount_pence,
		       coalesce((SELECT a.id FROM ledger_accounts a WHERE a.org_id = u.org_id AND a.name = u.account),
		                (SELECT a.id FROM ledger_accounts a WHERE a.org_id IS NULL AND a.name = u.account))
		FROM unnest($12::uuid[], $13::uuid[], $14::text[], $15::bigint[]) u (transaction_id, org_id, account, amount_pence)
	), a AS (` + audit.InsertSQL(16) + `
	), made AS (
		INSERT INTO holds (created_at, updated_at, id, org_id, source, key, fingerprint, action, quantity, destination, price_id, rate_id,
		                   authorised_pence, amount_pence, state, at_once, actor, request_id, expires_at, settled_by)
		SELECT $1, $1, u.id, u.org_id, u.source, u.key, decode(u.fingerprint, 'hex'), u.action, u.quantity, u.destination, u.price_id, u.rate_id,
		       u.authorised, u.amount, u.state, u.at_once, u.actor, u.request_id, u.expires_at, u.settled_by
		FROM unnest($24::uuid[], $25::uuid[], $26::text[], $27::text[], $28::text[], $29::text[], $30::bigint[], $31::text[], $32::bigint[],
		            $33::bigint[], $34::bigint[], $35::bigint[], $36::text[], $37::boolean[], $38::text[], $39::text[], $40::timestamptz[], $41::text[])
		     u (id, org_id, source, key, fingerprint, action, quantity, destination, price_id, rate_id, authorised, amount, state, at_once,
		        actor, request_id, expires_at, settled_by)
	), moved AS (
		UPDATE holds h SET amount_pence = u.amount, state = u.state, settled_by = u.settled_by, updated_at = $1
		FROM unnest($42::uuid[], $43::bigint[], $44::text[], $45::text[], $46::text[]) u (id, amount, state, settled_by, was)
		WHERE h.id = u.id AND h.state = u.was RETURNING h.id
	), w AS (
		UPDATE wallets w
		SET balance_pence = u.balance, bonus_pence = u.bonus, held_pence = u.held, debt_pence = u.debt, last_seq = u.seq, updated_at = $1,
		    spent_month = u.month, spent_call_pence = u.call, spent_sms_pence = u.sms, spent_number_pence = u.number,
		    spent_knowledge_pence = u.knowledge
		FROM unnest($47::uuid[], $48::bigint[], $49::bigint[], $50::bigint[], $51::bigint[], $52::bigint[], $53::bigint[], $54::bigint[],
		            $55::date[], $56::bigint[], $57::bigint[], $58::bigint[], $59::bigint[])
		     u (org_id, balance, bonus, held, debt, seq, seq_was, held_was, month, call, sms, number, knowledge)
		WHERE w.org_id = u.org_id AND w.last_seq = u.seq_was AND w.held_pence = u.held_was RETURNING w.org_id
	)
	SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM w) AS wallets`

// write writes what was decided: transactions, postings, audit rows, holds and the wallets that they change.
func (b *book) write(ctx context.Context, tx *db.Tx) error {
	var wallet struct {
		org, month                                                                     []string
		balance, bonus, held, debt, seq, seqWas, heldWas, call, sms, number, knowledge []int64
	}
	for id, w := range b.wallets {
		if !w.changed {
			continue
		}
		c := &wallet
		c.org, c.month = append(c.org, id.String()), append(c.month, w.SpentMonth.Format(time.DateOnly))
		c.balance, c.bonus = append(c.balance, int64(w.Balance.Balance)), append(c.bonus, int64(w.Bonus))
		c.held, c.debt, c.seq = append(c.held, int64(w.Held)), append(c.debt, int64(w.Debt)), append(c.seq, w.Seq)
		c.seqWas, c.heldWas = append(c.seqWas, w.seqBefore), append(c.heldWas, int64(w.heldBefore))
		c.call, c.sms = append(c.call, int64(w.SpentCall)), append(c.sms, int64(w.SpentSMS))
		c.number, c.knowledge = append(c.number, int64(w.SpentNumber)), append(c.knowledge, int64(w.SpentKnowledge))
	}
	if len(wallet.org)+len(b.made)+len(b.moved) == 0 {
		return nil
	}
	var made struct {
		id, org, source, key, fingerprint, action, destination, state, actor, request, expires, settledBy []string
		quantity, price, rate, authorised, amount                                                         []int64
		atOnce                                                                                            []bool
	}
	for _, h := range b.made {
		c := &made
		c.id, c.org, c.source, c.key = append(c.id, h.ID.String()), append(c.org, h.OrgID.String()), append(c.source, string(h.Source)), append(c.key, h.Key)
		c.fingerprint, c.action = append(c.fingerprint, fmt.Sprintf("%x", h.Fingerprint)), append(c.action, string(h.Action))
		c.quantity, c.destination = append(c.quantity, h.Quantity), append(c.destination, h.Destination)
		c.price, c.rate = append(c.price, h.PriceID), append(c.rate, h.RateID)
		c.authorised, c.amount = append(c.authorised, int64(h.Authorised)), append(c.amount, int64(h.Amount))
		c.state, c.atOnce, c.actor = append(c.state, string(h.State)), append(c.atOnce, h.AtOnce), append(c.actor, h.Actor)
		c.request, c.settledBy = append(c.request, h.RequestID), append(c.settledBy, h.SettledBy)
		c.expires = append(c.expires, h.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	var moved struct {
		id, state, settledBy, was []string
		amount                    []int64
	}
	for i, h := range b.moved {
		c := &moved
		c.id, c.amount, c.state = append(c.id, h.ID.String()), append(c.amount, int64(h.Amount)), append(c.state, string(h.State))
		c.settledBy, c.was = append(c.settledBy, h.SettledBy), append(c.was, string(b.was[i]))
	}
	t, p := &b.transactions, &b.postings
	args := []any{
		tx.Now, texts(t.id), texts(t.org), numbers(t.seq), texts(t.kind), texts(t.reference), texts(t.description),
		numbers(t.amount), numbers(t.balance), numbers(t.debt), pq.Array(t.topUp),
		texts(p.transaction), texts(p.org), texts(p.account), numbers(p.amount),
	}
	entries, err := audit.Columns(ctx, b.audit)
	if err != nil {
		return err
	}
	args = append(args, entries...)
	args = append(args,
		texts(made.id), texts(made.org), texts(made.source), texts(made.key), texts(made.fingerprint), texts(made.action), numbers(made.quantity),
		texts(made.destination), numbers(made.price), numbers(made.rate), numbers(made.authorised), numbers(made.amount), texts(made.state),
		pq.Array(made.atOnce), texts(made.actor), texts(made.request), texts(made.expires), texts(made.settledBy),
		texts(moved.id), numbers(moved.amount), texts(moved.state), texts(moved.settledBy), texts(moved.was),
		texts(wallet.org), numbers(wallet.balance), numbers(wallet.bonus), numbers(wallet.held), numbers(wallet.debt), numbers(wallet.seq),
		numbers(wallet.seqWas), numbers(wallet.heldWas), texts(wallet.month), numbers(wallet.call), numbers(wallet.sms), numbers(wallet.number),
		numbers(wallet.knowledge))
	var wrote struct {
		Moved   int `db:"moved"`
		Wallets int `db:"wallets"`
	}
	if err := tx.GetContext(ctx, &wrote, writeSQL, args...); err != nil {
		return fmt.Errorf("couldn't write the books: %w", err)
	}
	if wrote.Moved != len(b.moved) || wrote.Wallets != len(wallet.org) {
		return fmt.Errorf("%d of %d holds and %d of %d wallets were written: %w", wrote.Moved, len(b.moved), wrote.Wallets, len(wallet.org), errMoved)
	}
	return nil
}

// texts and numbers write a column as Postgres reads an array of them.
func texts(column []string) any { return pq.StringArray(column) }

func numbers(column []int64) string {
	b := make([]byte, 0, 2+8*len(column))
	b = append(b, '{')
	for i, n := range column {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, '}'))
}

// repaying splits what comes into a wallet: debt first, the rest to the account to.
func repaying(w *state, amount money.Pence, to, from account) []leg {
	repay := min(amount, w.Debt)
	legs := []leg{{from, -amount}}
	if repay > 0 {
		legs = append(legs, leg{receivable, repay})
	}
	if rest := amount - repay; rest > 0 {
		legs = append(legs, leg{to, rest})
	}
	return legs
}

// spending splits what leaves a wallet: bonus first, then paid money. What is more than available becomes debt.
func spending(w *state, amount money.Pence, to account) []leg {
	there := min(amount, w.Available())
	bonus := min(there, w.Bonus)
	legs := []leg{{to, amount}}
	if bonus > 0 {
		legs = append(legs, leg{walletBonus, -bonus})
	}
	if rest := there - bonus; rest > 0 {
		legs = append(legs, leg{walletPaid, -rest})
	}
	if debt := amount - there; debt > 0 {
		legs = append(legs, leg{receivable, -debt})
	}
	return legs
}

// sortedOrgs are the organisations, each once, in the order in which everybody locks.
func sortedOrgs(orgs []uuid.UUID) []uuid.UUID {
	orgs = slices.Clone(orgs)
	slices.SortFunc(orgs, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(orgs)
}
