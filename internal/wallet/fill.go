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
	"ringfence/internal/audit"
	"ringfence/internal/money"
)

// fillAtOnce is how many transactions one statement of Fill makes.
const fillAtOnce = 10_000

// fillPattern is what Fill has used, by turns. One in fundEvery transactions pays for the others beforehand.
var fillPattern = []struct {
	action      Action
	quantity    int64
	destination string
}{
	{ActionKnowledge, 1, ""},
	{ActionSMS, 1, "+447400123456"},
	{ActionCall, 91, "+442079460123"},
	{ActionSMS, 2, "+12025550143"},
	{ActionKnowledge, 2, ""},
	{ActionCall, 30, "+442079460123"},
	{ActionSMS, 1, "+447400123457"},
}

const fundEvery = 250

// Fill gives a wallet a history of rows transactions, spread evenly over the time since a moment: for measurements, in
// development. Every one of them is whole, priced by the rate card, charged and audited, so the books hold as ever; only
// that many are made by one statement is different. What is there counts; a history that is long enough stays as it is.
// The wallet must be empty or filled by Fill before. It is safe to repeat.
func (g *Gates) Fill(ctx context.Context, org uuid.UUID, rows int64, since time.Time) error {
	tariff, err := g.Tariff(ctx)
	if err != nil {
		return err
	}
	var quantities, costs, priceIDs []int64
	var actions, destinations, descriptions []string
	var sum money.Pence
	var rateID int64
	for _, use := range fillPattern {
		q := asked{HoldRequest: HoldRequest{OrgID: org, Action: use.action, Quantity: use.quantity, Destination: use.destination}}
		if err := q.priceBy(tariff, g.now()); err != nil {
			return err
		}
		h := Hold{Action: use.action, Quantity: use.quantity}
		actions, quantities, destinations = append(actions, string(use.action)), append(quantities, use.quantity), append(destinations, use.destination)
		costs, priceIDs, descriptions = append(costs, int64(q.amount)), append(priceIDs, q.price), append(descriptions, h.description())
		sum += q.amount
		rateID = q.rate
	}
	fund := sum * (fundEvery/money.Pence(len(fillPattern)) + 1)
	for more := true; more; {
		err := g.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			b, err := lock(ctx, tx, []uuid.UUID{org})
			if err != nil {
				return err
			}
			w := b.wallets[org]
			n := min(fillAtOnce, rows-w.Seq)
			if more = n > 0; !more {
				return nil
			}
			if w.Bonus != 0 || w.Debt != 0 {
				return errors.New("this wallet was used for something else")
			}
			began := since
			err = tx.GetContext(ctx, &began, `SELECT created_at FROM ledger_transactions WHERE org_id = $1 AND seq = $2`, org, w.Seq)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("couldn't read the newest transaction: %w", err)
			}
			step := tx.Now.Sub(began) / time.Duration(rows-w.Seq)
			ids := make([]string, n)
			for i := range ids {
				id, err := uuid.NewV7()
				if err != nil {
					return fmt.Errorf("couldn't make an id: %w", err)
				}
				ids[i] = id.String()
			}
			month := firstOfMonth(tx.Now)
			if _, err := tx.ExecContext(ctx, fillSQL, org, w.Seq, pq.Array(ids), began, step.Microseconds(), fundEvery, int64(fund), int64(w.Balance.Balance),
				pq.Array(actions), pq.Array(quantities), pq.Array(destinations), pq.Array(priceIDs), pq.Array(costs), pq.Array(descriptions), rateID,
				audit.System("bench"), month, tx.Now); err != nil {
				return fmt.Errorf("couldn't write the history: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fillSQL makes the transactions that have the ids $3, numbered on from $2. Their moments begin at $4, $5 microseconds apart.
const fillSQL = `
	WITH line AS MATERIALIZED (
		SELECT u.id, $2 + u.n AS seq, $4::timestamptz + u.n * $5 * interval '1 microsecond' AS at, ($2 + u.n) % $6 = 1 AS funds, p.*,
		       CASE WHEN ($2 + u.n) % $6 = 1 THEN $7 ELSE -p.cost END AS change
		FROM unnest($3::uuid[]) WITH ORDINALITY u (id, n)
		     JOIN unnest($9::text[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::text[])
		          WITH ORDINALITY p (action, quantity, destination, price_id, cost, description, turn)
		          ON p.turn = 1 + ($2 + u.n) % cardinality($9::text[])
	), t AS (
		INSERT INTO ledger_transactions (id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at)
		SELECT id, $1, seq, CASE WHEN funds THEN 'adjustment' ELSE 'usage' END, id, CASE WHEN funds THEN 'For measurements' ELSE description END,
		       change, $8::bigint + sum(change) OVER (ORDER BY seq), 0, at
		FROM line ORDER BY seq
	), h AS (
		INSERT INTO holds (id, org_id, source, key, fingerprint, action, quantity, destination, price_id, rate_id, authorised_pence, amount_pence, state,
		                   at_once, actor, request_id, created_at, expires_at, updated_at, settled_by)
		SELECT id, $1, 'api', 'bench-' || id, sha256(convert_to(id::text, 'UTF8')), action, quantity, destination, price_id, $15, cost, cost, 'captured',
		       true, $16, '', at, at, at, $16
		FROM line WHERE NOT funds ORDER BY seq
	), p AS (
		INSERT INTO ledger_postings (transaction_id, account_id, org_id, amount_pence)
		SELECT l.id, (SELECT id FROM ledger_accounts WHERE org_id = $1 AND name = 'wallet/paid'), $1, l.change FROM line l
		UNION ALL
		SELECT l.id, (SELECT id FROM ledger_accounts WHERE org_id IS NULL AND name = CASE WHEN l.funds THEN 'adjustment' ELSE 'revenue/' || l.action END),
		       $1, -l.change FROM line l
	), a AS (
		INSERT INTO audit_log (at, org_id, actor, action, subject, reason, transaction_id)
		SELECT at, $1, $16, CASE WHEN funds THEN 'wallet.adjusted' ELSE 'wallet.charged' END, id, CASE WHEN funds THEN 'For measurements' ELSE '' END, id
		FROM line ORDER BY seq
	), spent AS (
		SELECT coalesce(sum(cost) FILTER (WHERE action = 'call'), 0)::bigint AS call, coalesce(sum(cost) FILTER (WHERE action = 'sms'), 0)::bigint AS sms,
		       coalesce(sum(cost) FILTER (WHERE action = 'knowledge'), 0)::bigint AS knowledge
		FROM line WHERE NOT funds AND at >= $17
	)
	UPDATE wallets SET balance_pence = $8 + (SELECT sum(change) FROM line), last_seq = $2 + cardinality($3::uuid[]), updated_at = $18,
	       spent_month = $17::date, spent_number_pence = CASE WHEN spent_month = $17::date THEN spent_number_pence ELSE 0 END,
	       spent_call_pence = CASE WHEN spent_month = $17::date THEN spent_call_pence ELSE 0 END + spent.call,
	       spent_sms_pence = CASE WHEN spent_month = $17::date THEN spent_sms_pence ELSE 0 END + spent.sms,
	       spent_knowledge_pence = CASE WHEN spent_month = $17::date THEN spent_knowledge_pence ELSE 0 END + spent.knowledge
	FROM spent WHERE org_id = $1`
