package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Explanation is everything there is to know about one transaction of a wallet's ledger, as its organisation may see it.
type Explanation struct {
	Line
	// BalanceBefore and DebtBefore are the wallet's before it.
	BalanceBefore, DebtBefore money.Pence
	// Postings are its two or more sides, the organisation's own accounts first; they sum to zero.
	Postings []Posting
	// By is who moved the money, and Reason what they gave for it; empty where nobody had to.
	By     Doer
	Reason string
	// What stands behind it: one of these, by its kind; nil where the kind has none.
	TopUp    *TopUpBehind
	Reversal *ReversalBehind
	Use      *UseBehind
}

// Posting is one side of a transaction.
type Posting struct {
	// Account is the name in the books, such as "wallet/paid".
	Account string `db:"name"`
	// Own says that it is the organisation's; the others are the house's.
	Own    bool        `db:"own"`
	Amount money.Pence `db:"amount_pence"`
}

// DoerKind says what sort of somebody did something.
type DoerKind string

// The sorts, as an organisation sees them.
const (
	DoerHouse  DoerKind = "house"  // an operator, or the program by itself
	DoerUser   DoerKind = "user"   // a person; without a name where they are no member any more
	DoerKey    DoerKind = "key"    // a program, by its API key
	DoerStripe DoerKind = "stripe" // a payment that Stripe told us of
)

// Doer is who did something, as the organisation concerned may know it.
type Doer struct {
	Kind DoerKind
	// Name is a person's e-mail or a key's name, Prefix the part of the key that is shown.
	Name, Prefix string
}

// TopUpBehind is the card payment of a top-up.
type TopUpBehind struct {
	ID            uuid.UUID      `db:"id"`
	PaymentIntent string         `db:"payment_intent"`
	Paid          money.Pence    `db:"amount_pence"`
	Quoted        money.Pence    `db:"quoted_pence"`
	USD           money.USDCents `db:"usd_cents"`
	StartedAt     time.Time      `db:"created_at"`
	UserID        uuid.UUID      `db:"user_id"`
	// Rate is the version it was quoted with.
	Rate ExchangeRate `db:"rate"`
	// StartedBy is who asked for it.
	StartedBy Doer `db:"-"`
}

// ReversalBehind is a card payment that was given back, or taken back, in part or whole.
type ReversalBehind struct {
	PaymentIntent string `db:"payment_intent"`
	// Amount was taken from the wallet (positive) or given to it again, Bonus is its part from the bonus.
	Amount money.Pence `db:"amount_pence"`
	Bonus  money.Pence `db:"bonus_pence"`
	// Credited is what the payment had brought, and CreditID the transaction by which.
	Credited money.Pence `db:"credited"`
	CreditID uuid.UUID   `db:"credit_id"`
}

// UseBehind is the hold that something was paid from.
type UseBehind struct {
	Hold
	Price Price
	Rate  ExchangeRate
	// Cost is what the quantity costs at that price and rate. What was taken (Amount) differs where the quantity was an
	// estimate and whoever did the work said what it really cost.
	Cost money.Pence
	// AskedBy is who asked for it.
	AskedBy Doer
}

// Explain gives everything about one transaction of an organisation's. One of another organisation's, like one that does not
// exist, is NotFound.
func (l *Ledger) Explain(ctx context.Context, org, id uuid.UUID) (e Explanation, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		e = Explanation{}
		err := tx.GetContext(ctx, &e.Line, `
			SELECT `+lineColumns+` FROM ledger_transactions t LEFT JOIN holds h ON t.kind = 'usage' AND h.id = t.id
			WHERE t.id = $1 AND t.org_id = $2`, id, org)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "There is no such transaction.")
		}
		if err != nil {
			return fmt.Errorf("couldn't read the transaction: %w", err)
		}
		return e.read(ctx, tx)
	})
	return e, err
}

// read fills in what belongs to the line.
func (e *Explanation) read(ctx context.Context, tx *db.Tx) (err error) {
	e.BalanceBefore = e.BalanceAfter - e.Amount
	err = tx.GetContext(ctx, &e.DebtBefore, `SELECT debt_after_pence FROM ledger_transactions WHERE org_id = $1 AND seq = $2`, e.OrgID, e.Seq-1)
	if err != nil && !errors.Is(err, sql.ErrNoRows) { // the first has none before it
		return fmt.Errorf("couldn't read the transaction before: %w", err)
	}
	// A tenant sees its own accounts and the house's names; see the policies.
	if err := tx.SelectContext(ctx, &e.Postings, `
		SELECT a.name, a.org_id IS NOT NULL AS own, p.amount_pence
		FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		WHERE p.transaction_id = $1 AND p.org_id = $2 ORDER BY a.org_id IS NULL, a.id`, e.ID, e.OrgID); err != nil {
		return fmt.Errorf("couldn't read the postings: %w", err)
	}
	var entry struct {
		Actor  string `db:"actor"`
		Reason string `db:"reason"`
	}
	if err := tx.GetContext(ctx, &entry, `
		SELECT actor, reason FROM audit_log WHERE transaction_id = $1 AND org_id = $2 ORDER BY id LIMIT 1`, e.ID, e.OrgID); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("couldn't read who moved the money: %w", err)
	}
	e.Reason = entry.Reason
	if e.By, err = doer(ctx, tx, e.OrgID, entry.Actor); err != nil {
		return err
	}
	switch e.Kind {
	case TopUp:
		e.TopUp, err = topUpBehind(ctx, tx, e.OrgID, e.ID)
	case Refund, Dispute:
		e.Reversal, err = reversalBehind(ctx, tx, e.OrgID, e.ID)
	case Usage:
		e.Use, err = useBehind(ctx, tx, e.OrgID, e.ID)
	case Adjustment, Bonus, Rent:
	}
	return err
}

// doer names an actor of the audit log to the organisation. Operators and the parts of the program are the house to it, and
// of people it learns the address only while they are members, which is what the policy on users lets it see.
func doer(ctx context.Context, tx *db.Tx, org uuid.UUID, actor string) (d Doer, err error) {
	kind, name, _ := strings.Cut(actor, ":")
	id, _ := uuid.Parse(name) // where it is none, nobody is found
	switch kind {
	case "user":
		d.Kind = DoerUser
		err = tx.GetContext(ctx, &d.Name, `SELECT u.email FROM users u JOIN memberships m ON m.user_id = u.id WHERE u.id = $1 AND m.org_id = $2`, id, org)
	case "key":
		d.Kind = DoerKey
		err = tx.QueryRowxContext(ctx, `SELECT name, prefix FROM api_keys WHERE id = $1 AND org_id = $2`, id, org).Scan(&d.Name, &d.Prefix)
	case "stripe":
		d.Kind = DoerStripe
	default:
		d.Kind = DoerHouse
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return d, fmt.Errorf("couldn't find out who it was: %w", err)
	}
	return d, nil
}

func topUpBehind(ctx context.Context, tx *db.Tx, org, transaction uuid.UUID) (*TopUpBehind, error) {
	var t TopUpBehind
	err := tx.GetContext(ctx, &t, `
		SELECT u.id, c.payment_intent, c.amount_pence, u.amount_pence AS quoted_pence, u.usd_cents, u.created_at, u.user_id,
		       r.id AS "rate.id", r.usd_to_gbp_micros AS "rate.usd_to_gbp_micros", r.source AS "rate.source", r.starts_at AS "rate.starts_at"
		FROM credits c JOIN top_ups u ON u.id = c.top_up_id JOIN exchange_rates r ON r.id = u.rate_id
		WHERE c.transaction_id = $1 AND c.org_id = $2`, transaction, org)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the top-up: %w", err)
	}
	t.StartedBy, err = doer(ctx, tx, org, "user:"+t.UserID.String())
	return &t, err
}

func reversalBehind(ctx context.Context, tx *db.Tx, org, transaction uuid.UUID) (*ReversalBehind, error) {
	var r ReversalBehind
	if err := tx.GetContext(ctx, &r, `
		SELECT r.payment_intent, r.amount_pence, r.bonus_pence, c.amount_pence AS credited, c.transaction_id AS credit_id
		FROM reversals r JOIN credits c ON c.payment_intent = r.payment_intent
		WHERE r.transaction_id = $1 AND r.org_id = $2`, transaction, org); err != nil {
		return nil, fmt.Errorf("couldn't read the reversal: %w", err)
	}
	return &r, nil
}

func useBehind(ctx context.Context, tx *db.Tx, org, hold uuid.UUID) (*UseBehind, error) {
	var u UseBehind
	if err := tx.GetContext(ctx, &u.Hold, `SELECT `+holdColumns+` FROM holds WHERE id = $1 AND org_id = $2`, hold, org); err != nil {
		return nil, fmt.Errorf("couldn't read the hold: %w", err)
	}
	if err := tx.GetContext(ctx, &u.Price, `SELECT `+priceColumns+` FROM prices WHERE id = $1`, u.PriceID); err != nil {
		return nil, fmt.Errorf("couldn't read the price: %w", err)
	}
	err := tx.GetContext(ctx, &u.Rate, `SELECT id, usd_to_gbp_micros, source, starts_at FROM exchange_rates WHERE id = $1`, u.RateID)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	rate, err := u.Rate.Rate()
	if err != nil {
		return nil, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	if u.Cost, _, err = u.Price.cost(u.Quantity, rate); err != nil {
		return nil, fmt.Errorf("couldn't work the cost out: %w", err)
	}
	u.AskedBy, err = doer(ctx, tx, org, u.Actor)
	return &u, err
}
