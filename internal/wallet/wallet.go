// Package wallet keeps the customers' money: a double-entry ledger, one wallet per organisation, and the rules by which
// they change. It is the only writer of wallets, ledger_*, credits, reversals and exchange_rates. Amounts are pence, GBP.
//
// How money moves here: lock the wallets in ascending order of organisation, decide from the locked rows, and post. Each
// movement is one ledger transaction whose postings sum to zero, counted by the wallet's own sequence, with its audit
// row, all in the caller's transaction. The same fact (kind and reference) is never posted twice.
package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Ledger reads wallets and their history for pages and streams.
type Ledger struct{ db *db.DB }

// New returns the ledger kept in d.
func New(d *db.DB) *Ledger { return &Ledger{db: d} }

// Balance is the state of one wallet. Balance = paid + bonus; what is held cannot be spent twice; debt is what was
// clawed back after it had been spent, and is repaid first by the next credit.
type Balance struct {
	OrgID   uuid.UUID   `db:"org_id"`
	Balance money.Pence `db:"balance_pence"`
	Bonus   money.Pence `db:"bonus_pence"`
	Held    money.Pence `db:"held_pence"`
	// Reserved is paid money on its way back to cards: see Reserve.
	Reserved  money.Pence `db:"reserved_pence"`
	Debt      money.Pence `db:"debt_pence"`
	Seq       int64       `db:"last_seq"`
	UpdatedAt time.Time   `db:"updated_at"`
	// FrozenAt is since when the gates refuse everything, and FrozenReason why; nil and empty when they do not.
	FrozenAt     *time.Time `db:"frozen_at"`
	FrozenReason string     `db:"frozen_reason"`
	// ClosedAt is since when the account is closed, and ClosedReason why; nil and empty while it is open. See Close.
	ClosedAt     *time.Time `db:"closed_at"`
	ClosedReason string     `db:"closed_reason"`
	// SuspendedAt is since when the organisation is suspended, and SuspendedReason why; nil and empty otherwise. See Suspend.
	SuspendedAt     *time.Time `db:"suspended_at"`
	SuspendedReason string     `db:"suspended_reason"`
}

// Available is what may be spent now. It is never negative.
func (b Balance) Available() money.Pence { return b.Balance - b.SetAside() }

// SetAside is what is in the wallet and may not be spent: held for what is under way, or on its way back to cards.
func (b Balance) SetAside() money.Pence { return b.Held + b.Reserved }

// Withdrawable is what of the available money was paid in: what may go back to cards. Bonus is spent first, so what is held
// is taken to be bonus as far as that goes.
func (b Balance) Withdrawable() money.Pence {
	return min(b.Balance-b.Bonus-b.Reserved, b.Available())
}

// Kind says what a ledger transaction was for.
type Kind string

// The kinds of ledger transactions; the schema knows the same ones.
const (
	TopUp      Kind = "top_up"     // a card payment arrived; the reference is its PaymentIntent
	Adjustment Kind = "adjustment" // an operator's correction; the reference is the operator's own
	Bonus      Kind = "bonus"      // given, not bought; spent before paid money
	Usage      Kind = "usage"      // something was used; the transaction has the id of the hold that paid for it
	Refund     Kind = "refund"     // a card payment was given back, or came back after all; see Reverse
	Dispute    Kind = "dispute"    // a bank took a card payment back, or returned it; see Reverse
	Rent       Kind = "rent"       // a month of something that is kept; see ChargeRent
)

// Transaction is one line of a wallet's history.
type Transaction struct {
	ID           uuid.UUID   `db:"id"`
	OrgID        uuid.UUID   `db:"org_id"`
	Seq          int64       `db:"seq"`
	Kind         Kind        `db:"kind"`
	Reference    string      `db:"reference"`
	Description  string      `db:"description"`
	Amount       money.Pence `db:"amount_pence"`
	BalanceAfter money.Pence `db:"balance_after_pence"`
	DebtAfter    money.Pence `db:"debt_after_pence"`
	At           time.Time   `db:"created_at"`
	// Repeated says that an earlier request with the same reference made it. It is not stored.
	Repeated bool `db:"-"`
}

// Open gives an organisation its wallet and ledger accounts. It is safe to repeat.
func Open(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO wallets (org_id, created_at, updated_at) VALUES ($1, $2, $2) ON CONFLICT (org_id) DO NOTHING`,
		org, tx.Now); err != nil {
		return fmt.Errorf("couldn't open the wallet: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO ledger_accounts (org_id, name) SELECT $1, unnest($2::text[])
		ON CONFLICT (org_id, name) WHERE org_id IS NOT NULL DO NOTHING`,
		org, pq.Array([]string{string(walletPaid), string(walletBonus), string(receivable)})); err != nil {
		return fmt.Errorf("couldn't open the ledger accounts: %w", err)
	}
	return nil
}

const balanceColumns = `org_id, balance_pence, bonus_pence, held_pence, reserved_pence, debt_pence, last_seq, updated_at, frozen_at, frozen_reason,
	wallets.closed_at, closed_reason, wallets.suspended_at, suspended_reason`

// Read gives one wallet as the transaction sees it, without locking it.
func Read(ctx context.Context, tx *db.Tx, org uuid.UUID) (Balance, error) {
	var b Balance
	err := tx.GetContext(ctx, &b, `SELECT `+balanceColumns+` FROM wallets WHERE org_id = $1`, org)
	if errors.Is(err, sql.ErrNoRows) {
		return Balance{}, errNoWallet()
	}
	if err != nil {
		return Balance{}, fmt.Errorf("couldn't read the wallet: %w", err)
	}
	return b, nil
}

// errNoWallet is the answer about an organisation that has no wallet.
func errNoWallet() error { return fault.New(fault.NotFound, "This organisation has no wallet.") }

// Overview gives a wallet and its newest transactions, newest first, from one moment.
func (l *Ledger) Overview(ctx context.Context, org uuid.UUID, recent int) (Balance, []Transaction, error) {
	var b Balance
	var list []Transaction
	err := l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
		if b, err = Read(ctx, tx, org); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &list, `
			SELECT id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at
			FROM ledger_transactions WHERE org_id = $1 ORDER BY seq DESC LIMIT $2`, org, recent); err != nil {
			return fmt.Errorf("couldn't read the wallet's history: %w", err)
		}
		return nil
	})
	return b, list, err
}

// Balances gives the wallets of several organisations at once; one without a wallet is absent from the map.
func (l *Ledger) Balances(ctx context.Context, orgs []uuid.UUID) (map[uuid.UUID]Balance, error) {
	found := make(map[uuid.UUID]Balance, len(orgs))
	err := l.db.InReadTx(ctx, orgs, func(ctx context.Context, tx *db.Tx) error {
		var list []Balance
		if err := tx.SelectContext(ctx, &list, `SELECT `+balanceColumns+` FROM wallets WHERE org_id = ANY($1)`, pq.Array(orgs)); err != nil {
			return fmt.Errorf("couldn't read the wallets: %w", err)
		}
		for _, b := range list {
			found[b.OrgID] = b
		}
		return nil
	})
	return found, err
}
