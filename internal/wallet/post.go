package wallet

import (
	"context"
	"database/sql"
	"fmt"

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
	walletPaid   account = "wallet/paid"
	walletBonus  account = "wallet/bonus"
	receivable   account = "receivable"
	clearing     account = "stripe_clearing" // minus what Stripe has received for customers
	bonusGranted account = "bonus_granted"
	adjustment   account = "adjustment"
)

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
	legs   func(w *Balance) []leg
	actor  audit.Actor
	action string
	reason string
	detail map[string]any
}

// locked are wallets whose rows this transaction holds. Their values follow what is posted.
type locked map[uuid.UUID]*Balance

// lock takes the wallets' row locks in ascending order of organisation, as everybody does.
func lock(ctx context.Context, tx *db.Tx, orgs []uuid.UUID) (locked, error) {
	var rows []Balance
	err := tx.SelectContext(ctx, &rows, `
		SELECT `+balanceColumns+` FROM wallets WHERE org_id = ANY($1) ORDER BY org_id FOR NO KEY UPDATE`, pq.Array(orgs))
	if err != nil {
		return nil, fmt.Errorf("couldn't lock the wallets: %w", err)
	}
	held := make(locked, len(rows))
	for i := range rows {
		held[rows[i].OrgID] = &rows[i]
	}
	for _, org := range orgs {
		if held[org] == nil {
			return nil, fmt.Errorf("organisation %s has no wallet in this transaction's sight", org)
		}
	}
	return held, nil
}

// post writes the movements in their order: transactions, postings, audit rows and the wallets they change. The rows must
// be locked, and the caller has made sure that no (kind, reference) is there yet; the schema's unique key refuses it
// otherwise.
func post(ctx context.Context, tx *db.Tx, wallets locked, movements []movement) error {
	if len(movements) == 0 {
		return nil
	}
	var t struct {
		id, org, kind, reference, description []string
		topUp                                 []*string
		seq, amount, balance, debt            []int64
	}
	var p struct {
		transaction, org, account []string
		amount                    []int64
	}
	before := make(map[uuid.UUID]int64, len(wallets))
	for org, w := range wallets {
		before[org] = w.Seq
	}
	entries := make([]audit.Entry, 0, len(movements))
	for _, m := range movements {
		w := wallets[m.org]
		if w == nil {
			return fmt.Errorf("the wallet of organisation %s is not locked", m.org)
		}
		legs := m.legs(w)
		change, err := apply(w, legs)
		if err != nil {
			return fmt.Errorf("%s %s: %w", m.kind, m.reference, err)
		}
		id, org := m.id.String(), m.org.String()
		var topUp *string
		if m.topUp != uuid.Nil {
			s := m.topUp.String()
			topUp = &s
		}
		t.id, t.org, t.kind = append(t.id, id), append(t.org, org), append(t.kind, string(m.kind))
		t.reference, t.description = append(t.reference, m.reference), append(t.description, m.description)
		t.topUp, t.seq, t.amount = append(t.topUp, topUp), append(t.seq, w.Seq), append(t.amount, int64(change))
		t.balance, t.debt = append(t.balance, int64(w.Balance)), append(t.debt, int64(w.Debt))
		for _, l := range legs {
			p.transaction, p.org = append(p.transaction, id), append(p.org, org)
			p.account, p.amount = append(p.account, string(l.account)), append(p.amount, int64(l.amount))
		}
		entries = append(entries, audit.Entry{
			OrgID: m.org, Actor: m.actor, Action: m.action, Subject: m.reference, Reason: m.reason, TransactionID: m.id, Detail: m.detail,
		})
	}
	res, err := tx.ExecContext(ctx, `
		WITH transactions AS (
			INSERT INTO ledger_transactions
			       (created_at, id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, top_up_id)
			SELECT $1, u.* FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bigint[],
			                           $9::bigint[], $10::bigint[], $11::uuid[]) u)
		-- An account that does not exist gives NULL, which the table refuses.
		INSERT INTO ledger_postings (transaction_id, org_id, amount_pence, account_id)
		SELECT u.transaction_id, u.org_id, u.amount_pence,
		       coalesce((SELECT a.id FROM ledger_accounts a WHERE a.org_id = u.org_id AND a.name = u.account),
		                (SELECT a.id FROM ledger_accounts a WHERE a.org_id IS NULL AND a.name = u.account))
		FROM unnest($12::uuid[], $13::uuid[], $14::text[], $15::bigint[]) u (transaction_id, org_id, account, amount_pence)`,
		tx.Now, pq.Array(t.id), pq.Array(t.org), pq.Array(t.seq), pq.Array(t.kind), pq.Array(t.reference), pq.Array(t.description),
		pq.Array(t.amount), pq.Array(t.balance), pq.Array(t.debt), pq.Array(t.topUp),
		pq.Array(p.transaction), pq.Array(p.org), pq.Array(p.account), pq.Array(p.amount))
	if err != nil {
		return fmt.Errorf("couldn't write the ledger: %w", err)
	}
	if err := exactly(res, len(p.transaction), "postings"); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, entries...); err != nil {
		return err
	}
	return store(ctx, tx, wallets, before)
}

// exactly makes sure that a statement wrote as many rows as it was given.
func exactly(res sql.Result, want int, what string) error {
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("couldn't tell how many %s were written: %w", what, err)
	}
	if n != int64(want) {
		return fmt.Errorf("%d of %d %s were written", n, want, what)
	}
	return nil
}

// apply changes the wallet in memory by the legs and returns the change of its balance. It refuses what would leave the
// books wrong; the schema's constraints refuse the same again.
func apply(w *Balance, legs []leg) (money.Pence, error) {
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
		case clearing, bonusGranted, adjustment:
		}
	}
	w.Balance += change
	w.Seq++
	switch {
	case sum != 0:
		return 0, fmt.Errorf("postings sum to %d pence, not to zero", int64(sum))
	case w.Available() < 0 || w.Bonus < 0 || w.Bonus > w.Balance:
		return 0, fmt.Errorf("the wallet would fall to %s available, %s bonus", w.Available(), w.Bonus)
	case w.Debt < 0:
		return 0, fmt.Errorf("more debt would be repaid than there is")
	}
	return change, nil
}

// store writes the locked wallets that moved back to their rows.
func store(ctx context.Context, tx *db.Tx, wallets locked, before map[uuid.UUID]int64) error {
	var org []string
	var balance, bonus, held, debt, seq, was []int64
	for id, w := range wallets {
		if w.Seq == before[id] {
			continue
		}
		org, was, seq = append(org, id.String()), append(was, before[id]), append(seq, w.Seq)
		balance, bonus = append(balance, int64(w.Balance)), append(bonus, int64(w.Bonus))
		held, debt = append(held, int64(w.Held)), append(debt, int64(w.Debt))
		w.UpdatedAt = tx.Now
	}
	res, err := tx.ExecContext(ctx, `
		UPDATE wallets w
		SET balance_pence = u.balance, bonus_pence = u.bonus, held_pence = u.held, debt_pence = u.debt, last_seq = u.seq, updated_at = $1
		FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
		     u (org_id, balance, bonus, held, debt, seq, was)
		WHERE w.org_id = u.org_id AND w.last_seq = u.was`,
		tx.Now, pq.Array(org), pq.Array(balance), pq.Array(bonus), pq.Array(held), pq.Array(debt), pq.Array(seq), pq.Array(was))
	if err != nil {
		return fmt.Errorf("couldn't write the wallets: %w", err)
	}
	return exactly(res, len(org), "wallets") // fewer: one moved under its lock
}

// repaying splits what comes into a wallet: debt first, the rest to the account to.
func repaying(w *Balance, amount money.Pence, to, from account) []leg {
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

// spending splits what leaves a wallet: bonus first, then paid money.
func spending(w *Balance, amount money.Pence, to account) []leg {
	bonus := min(amount, w.Bonus)
	legs := []leg{{to, amount}}
	if bonus > 0 {
		legs = append(legs, leg{walletBonus, -bonus})
	}
	if rest := amount - bonus; rest > 0 {
		legs = append(legs, leg{walletPaid, -rest})
	}
	return legs
}
