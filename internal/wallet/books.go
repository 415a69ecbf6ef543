package wallet

import (
	"context"
	"fmt"
	"slices"

	"ringfence/db"
)

// Check is one invariant of the books and how it stands.
type Check struct {
	// Name is short and stable; Promise says what must hold.
	Name, Promise string
	// Checked is how many things were looked at, so that "no violation" cannot mean "nothing seen".
	Checked int64
	// Violations names each thing that breaks the promise; empty when it holds. At most violationLimit are named.
	Violations []string
}

// violationLimit bounds how many violations one check names.
const violationLimit = 100

// BookTables are the tables whose every row CheckBooks must be able to see.
var BookTables = []string{
	"organizations", "wallets", "ledger_accounts", "ledger_transactions", "ledger_postings", "payments", "credits", "top_ups", "audit_log", "stripe_events",
	"holds", "prices", "refunds", "disputes", "reversals", "wallet_days", "withdrawals", "withdrawal_parts",
}

// Invariant is a promise that rows keep among themselves. Other parts of the program have theirs beside the wallet's.
type Invariant struct {
	// Name is short and stable; Promise says what must hold.
	Name, Promise string
	// Count is a query that says how much there is to check, Violations one that names what breaks the promise; it may use
	// the moment of the check as $1::timestamptz.
	Count, Violations string
}

// invariants are the wallet's.
var invariants = []Invariant{
	{
		"postings-sum-to-zero", "the postings of every ledger transaction sum to zero",
		`SELECT count(*) FROM ledger_transactions`,
		`SELECT format('transaction %s: %s postings sum to %s', t.id, count(p.*), sum(p.amount_pence))
		 FROM ledger_transactions t LEFT JOIN ledger_postings p ON p.transaction_id = t.id
		 GROUP BY t.id HAVING count(p.*) < 2 OR sum(p.amount_pence) <> 0`,
	},
	{
		"postings-have-accounts", "every posting is on an account of the house or of its own organisation",
		`SELECT count(*) FROM ledger_postings`,
		`SELECT format('transaction %s: account %s', p.transaction_id, p.account_id)
		 FROM ledger_postings p JOIN ledger_transactions t ON t.id = p.transaction_id LEFT JOIN ledger_accounts a ON a.id = p.account_id
		 WHERE a.id IS NULL OR a.org_id IS DISTINCT FROM p.org_id AND a.org_id IS NOT NULL OR p.org_id <> t.org_id`,
	},
	{
		"wallets-match-ledger", "a wallet's balance, bonus and debt are the sums of its postings",
		`SELECT count(*) FROM wallets`,
		`SELECT format('wallet %s: row %s/%s/%s, ledger %s/%s/%s', w.org_id, w.balance_pence, w.bonus_pence, w.debt_pence, s.balance, s.bonus, s.debt)
		 FROM wallets w CROSS JOIN LATERAL (
		     SELECT coalesce(sum(p.amount_pence) FILTER (WHERE a.name IN ('wallet/paid', 'wallet/bonus')), 0) AS balance,
		            coalesce(sum(p.amount_pence) FILTER (WHERE a.name = 'wallet/bonus'), 0) AS bonus,
		            coalesce(-sum(p.amount_pence) FILTER (WHERE a.name = 'receivable'), 0) AS debt
		     FROM ledger_accounts a JOIN ledger_postings p ON p.account_id = a.id WHERE a.org_id = w.org_id) s
		 WHERE (w.balance_pence, w.bonus_pence, w.debt_pence) IS DISTINCT FROM (s.balance, s.bonus, s.debt)`,
	},
	{
		"organisations-have-wallets", "every organisation has one wallet",
		`SELECT count(*) FROM organizations`,
		`SELECT format('organisation %s', o.id) FROM organizations o LEFT JOIN wallets w ON w.org_id = o.id WHERE w.org_id IS NULL`,
	},
	{
		"history-is-a-chain", "a wallet's transactions are numbered without gaps and each balance follows from the one before",
		`SELECT count(*) FROM ledger_transactions`,
		`SELECT format('wallet %s, transaction %s', h.org_id, h.seq) FROM (
		     SELECT org_id, seq, amount_pence, balance_after_pence, row_number() OVER o AS place,
		            coalesce(lag(balance_after_pence) OVER o, 0) AS balance_before
		     FROM ledger_transactions WINDOW o AS (PARTITION BY org_id ORDER BY seq)) h
		 WHERE h.seq <> h.place OR h.balance_after_pence <> h.balance_before + h.amount_pence
		 UNION ALL
		 SELECT format('wallet %s ends at %s, its history at %s', w.org_id, w.last_seq, t.seq)
		 FROM wallets w LEFT JOIN LATERAL (SELECT seq, balance_after_pence, debt_after_pence FROM ledger_transactions t
		                                   WHERE t.org_id = w.org_id ORDER BY seq DESC LIMIT 1) t ON true
		 WHERE (w.last_seq, w.balance_pence, w.debt_pence)
		       IS DISTINCT FROM (coalesce(t.seq, 0), coalesce(t.balance_after_pence, 0), coalesce(t.debt_after_pence, 0))`,
	},
	{
		"transactions-say-what-moved", "a transaction's stated amount is what its postings did to the wallet",
		`SELECT count(*) FROM ledger_transactions`,
		`SELECT format('transaction %s: states %s, posted %s', t.id, t.amount_pence, coalesce(sum(p.amount_pence) FILTER (WHERE a.id IS NOT NULL), 0))
		 FROM ledger_transactions t LEFT JOIN ledger_postings p ON p.transaction_id = t.id
		      LEFT JOIN ledger_accounts a ON a.id = p.account_id AND a.name IN ('wallet/paid', 'wallet/bonus')
		 GROUP BY t.id, t.amount_pence HAVING t.amount_pence <> coalesce(sum(p.amount_pence) FILTER (WHERE a.id IS NOT NULL), 0)`,
	},
	{
		"nothing-spent-that-is-not-there", "available money is never negative",
		`SELECT count(*) FROM wallets`,
		`SELECT format('wallet %s: balance %s, held %s, reserved %s, bonus %s, debt %s', org_id, balance_pence, held_pence, reserved_pence, bonus_pence, debt_pence)
		 FROM wallets WHERE balance_pence - held_pence - reserved_pence < 0 OR held_pence < 0 OR reserved_pence < 0 OR debt_pence < 0
		                 OR bonus_pence NOT BETWEEN 0 AND balance_pence OR reserved_pence > balance_pence - bonus_pence`,
	},
	{
		"held-matches-holds", "a wallet's held amount is the sum of its open holds",
		`SELECT count(*) FROM wallets`,
		`SELECT format('wallet %s: held %s, open holds of %s', w.org_id, w.held_pence, coalesce(h.sum, 0))
		 FROM wallets w LEFT JOIN (SELECT org_id, sum(amount_pence) FROM holds WHERE state IN ('open', 'in_flight') GROUP BY org_id) h
		      ON h.org_id = w.org_id
		 WHERE w.held_pence <> coalesce(h.sum, 0)`,
	},
	{
		"reserved-matches-withdrawals", "what a wallet has reserved is the sum of its open withdrawals",
		`SELECT count(*) FROM wallets`,
		`SELECT format('wallet %s: reserved %s, open withdrawals of %s', w.org_id, w.reserved_pence, coalesce(p.sum, 0))
		 FROM wallets w LEFT JOIN (SELECT org_id, sum(amount_pence) FROM withdrawal_parts WHERE state = 'open' GROUP BY org_id) p ON p.org_id = w.org_id
		 WHERE w.reserved_pence <> coalesce(p.sum, 0)`,
	},
	{
		"withdrawals-are-their-parts", "a withdrawal is the sum of its parts, each of a payment of the same organisation",
		`SELECT count(*) FROM withdrawals`,
		`SELECT format('withdrawal %s of %s: parts of %s', w.id, w.amount_pence, coalesce(sum(p.amount_pence), 0))
		 FROM withdrawals w LEFT JOIN withdrawal_parts p ON p.withdrawal_id = w.id LEFT JOIN credits c ON c.payment_intent = p.payment_intent
		 GROUP BY w.id HAVING w.amount_pence <> coalesce(sum(p.amount_pence), 0)
		                   OR bool_or((p.org_id, c.org_id) IS DISTINCT FROM (w.org_id, w.org_id))`,
	},
	{
		"withdrawn-is-refunded", "a part of a withdrawal that was refunded has one refund, of its payment and amount",
		`SELECT count(*) FROM withdrawal_parts WHERE state = 'refunded'`,
		`SELECT format('withdrawal %s, payment %s of %s: refund %s is of %s over %s', p.withdrawal_id, p.payment_intent, p.amount_pence, p.refund_id, r.payment_intent, r.amount_pence)
		 FROM withdrawal_parts p LEFT JOIN refunds r ON r.id = p.refund_id
		 WHERE p.state = 'refunded' AND (r.org_id, r.payment_intent, r.amount_pence) IS DISTINCT FROM (p.org_id, p.payment_intent, p.amount_pence)`,
	},
	{
		"withdrawn-within-charges", "what withdrawals give back of a payment, or mean to, is never more than its credit",
		`SELECT count(*) FROM credits`,
		`SELECT format('payment %s of %s: withdrawals of %s', p.payment_intent, c.amount_pence, p.sum)
		 FROM (SELECT p.payment_intent, sum(p.amount_pence) FROM withdrawal_parts p LEFT JOIN refunds r ON r.id = p.refund_id
		       WHERE p.state <> 'refused' AND coalesce(r.status, '') NOT IN ('failed', 'canceled') GROUP BY 1) p
		      LEFT JOIN credits c ON c.payment_intent = p.payment_intent
		 WHERE c.payment_intent IS NULL OR p.sum > c.amount_pence`,
	},
	{
		"withdrawals-go-on", "no open withdrawal has waited ten minutes for its turn",
		`SELECT count(*) FROM withdrawal_parts WHERE state = 'open'`,
		`SELECT format('withdrawal %s, payment %s was due at %s', withdrawal_id, payment_intent, next_attempt_at) FROM withdrawal_parts
		 WHERE state = 'open' AND next_attempt_at < $1::timestamptz - interval '10 minutes'`,
	},
	{
		"closed-accounts-are-closed", "an account is closed for sign-in exactly when it is closed for spending",
		`SELECT count(*) FROM organizations`,
		`SELECT format('organisation %s: %s, its wallet %s', o.id, o.closed_at, w.closed_at)
		 FROM organizations o JOIN wallets w ON w.org_id = o.id WHERE o.closed_at IS DISTINCT FROM w.closed_at`,
	},
	{
		"suspended-organisations-are-suspended", "an organisation is suspended for its people and keys exactly when it is for its wallet",
		`SELECT count(*) FROM organizations`,
		`SELECT format('organisation %s: %s, its wallet %s', o.id, o.suspended_at, w.suspended_at)
		 FROM organizations o JOIN wallets w ON w.org_id = o.id WHERE o.suspended_at IS DISTINCT FROM w.suspended_at`,
	},
	{
		"captured-is-charged", "a captured hold has exactly one ledger transaction, of its own amount; no other hold has one",
		`SELECT count(*) FROM holds`,
		`SELECT format('hold %s (%s, %s): charged %s', coalesce(h.id, t.id), h.state, h.amount_pence, s.amount)
		 FROM (SELECT * FROM ledger_transactions WHERE kind = 'usage') t FULL JOIN holds h ON h.id = t.id
		      LEFT JOIN LATERAL (SELECT sum(p.amount_pence) AS amount FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		                         WHERE p.transaction_id = t.id AND a.name = 'revenue/' || h.action) s ON true
		 WHERE (h.state = 'captured') IS DISTINCT FROM (t.id IS NOT NULL)
		    OR t.id IS NOT NULL AND (h.org_id, h.amount_pence) IS DISTINCT FROM (t.org_id, s.amount::bigint)`,
	},
	{
		"holds-end", "no open hold is more than five minutes past its end",
		`SELECT count(*) FROM holds WHERE state = 'open'`,
		`SELECT format('hold %s of wallet %s ended at %s', id, org_id, expires_at) FROM holds
		 WHERE state = 'open' AND expires_at < $1::timestamptz - interval '5 minutes'`,
	},
	{
		"spending-matches-holds", "what counts against a month's limits is what the month's holds took and hold",
		`SELECT count(*) FROM wallets`,
		`SELECT format('wallet %s: %s counted for call/sms/number/knowledge, holds of %s', w.org_id,
		               concat_ws('/', spent_call_pence, spent_sms_pence, spent_number_pence, spent_knowledge_pence),
		               concat_ws('/', coalesce(h.call, 0), coalesce(h.sms, 0), coalesce(h.number, 0), coalesce(h.knowledge, 0)))
		 FROM wallets w LEFT JOIN (
		     SELECT org_id, date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month,
		            sum(amount_pence) FILTER (WHERE action = 'call') AS call, sum(amount_pence) FILTER (WHERE action = 'sms') AS sms,
		            sum(amount_pence) FILTER (WHERE action = 'number') AS number, sum(amount_pence) FILTER (WHERE action = 'knowledge') AS knowledge
		     FROM holds GROUP BY 1, 2) h ON h.org_id = w.org_id AND h.month = w.spent_month
		 WHERE (spent_call_pence, spent_sms_pence, spent_number_pence, spent_knowledge_pence) IS DISTINCT FROM
		       (coalesce(h.call, 0), coalesce(h.sms, 0), coalesce(h.number, 0), coalesce(h.knowledge, 0))`,
	},
	{
		"holds-have-prices", "every hold names the version of price and exchange rate that it was made with",
		`SELECT count(*) FROM holds`,
		`SELECT format('hold %s: price %s, rate %s', h.id, h.price_id, h.rate_id)
		 FROM holds h LEFT JOIN prices p ON p.id = h.price_id LEFT JOIN exchange_rates r ON r.id = h.rate_id
		 WHERE p.id IS NULL OR r.id IS NULL OR p.action <> h.action OR p.org_id IS NOT NULL AND p.org_id <> h.org_id`,
	},
	{
		"paid-is-credited", "every payment received more than 15 minutes ago has its credit",
		`SELECT count(*) FROM payments WHERE paid_at IS NOT NULL`,
		`SELECT format('payment %s of %s pence', p.payment_intent, p.amount_pence)
		 FROM payments p LEFT JOIN credits c ON c.payment_intent = p.payment_intent
		 WHERE p.paid_at < $1::timestamptz - interval '15 minutes' AND c.payment_intent IS NULL`,
	},
	{
		"credited-was-paid", "a credit agrees with its payment, its top-up and its ledger transaction, and stands alone there",
		`SELECT count(*) FROM credits`,
		`SELECT format('credit %s', c.payment_intent)
		 FROM credits c
		      LEFT JOIN payments p ON p.payment_intent = c.payment_intent
		      LEFT JOIN top_ups u ON u.id = c.top_up_id
		      LEFT JOIN ledger_transactions t ON t.id = c.transaction_id
		      LEFT JOIN LATERAL (SELECT -sum(l.amount_pence) AS amount FROM ledger_postings l JOIN ledger_accounts a ON a.id = l.account_id
		                         WHERE l.transaction_id = c.transaction_id AND a.name = 'stripe_clearing') s ON true
		 WHERE (p.org_id, p.top_up_id, p.amount_pence) IS DISTINCT FROM (c.org_id, c.top_up_id, c.amount_pence)
		    OR u.org_id IS DISTINCT FROM c.org_id
		    OR (t.org_id, t.kind, t.reference, t.top_up_id) IS DISTINCT FROM (c.org_id, 'top_up', c.payment_intent, c.top_up_id)
		    OR s.amount IS DISTINCT FROM c.amount_pence
		 UNION ALL
		 SELECT format('transaction %s of kind top_up has no credit', t.id)
		 FROM ledger_transactions t LEFT JOIN credits c ON c.transaction_id = t.id WHERE t.kind = 'top_up' AND c.payment_intent IS NULL`,
	},
	{
		"reversals-within-credit", "what was taken back of a payment is never more than its credit, nor less than nothing",
		`SELECT count(*) FROM credits`,
		`SELECT format('payment %s: credited %s, taken back %s', r.payment_intent, c.amount_pence, r.amount)
		 FROM (SELECT payment_intent, sum(amount_pence) AS amount, sum(bonus_pence) AS bonus, min(n) AS least FROM (
		           SELECT *, sum(amount_pence) OVER (PARTITION BY payment_intent, kind ORDER BY number) AS n FROM reversals) k GROUP BY 1) r
		      LEFT JOIN credits c ON c.payment_intent = r.payment_intent
		 WHERE c.payment_intent IS NULL OR r.amount NOT BETWEEN 0 AND c.amount_pence OR r.bonus NOT BETWEEN 0 AND r.amount OR r.least < 0`,
	},
	{
		"reversals-match-stripe", "what was taken back of a payment is what its refunds and disputes amount to",
		`SELECT count(*) FROM credits`,
		`SELECT format('payment %s of %s: refunds of %s and disputes of %s, posted %s and %s', t.payment_intent, t.credit, t.refunded, t.disputed, t.refunds, t.disputes)
		 FROM (SELECT p.payment_intent, coalesce(c.amount_pence, 0) AS credit, coalesce(r.amount, 0) AS refunded, coalesce(d.amount, 0) AS disputed,
		              coalesce(v.refunds, 0) AS refunds, coalesce(v.disputes, 0) AS disputes
		       FROM payments p LEFT JOIN credits c ON c.payment_intent = p.payment_intent
		            LEFT JOIN (SELECT payment_intent, sum(amount_pence) FILTER (WHERE status NOT IN ('failed', 'canceled')) AS amount FROM refunds GROUP BY 1) r
		                 ON r.payment_intent = p.payment_intent
		            LEFT JOIN (SELECT payment_intent, sum(withdrawn_pence) AS amount FROM disputes GROUP BY 1) d ON d.payment_intent = p.payment_intent
		            LEFT JOIN (SELECT payment_intent, sum(amount_pence) FILTER (WHERE kind = 'refund') AS refunds,
		                              sum(amount_pence) FILTER (WHERE kind = 'dispute') AS disputes FROM reversals GROUP BY 1) v
		                 ON v.payment_intent = p.payment_intent) t
		 WHERE (t.refunds, t.disputes) IS DISTINCT FROM (least(t.refunded, t.credit), least(t.disputed, t.credit - least(t.refunded, t.credit)))`,
	},
	{
		"reversals-are-posted", "every reversal agrees with its ledger transaction, and every such transaction with a reversal",
		`SELECT count(*) FROM ledger_transactions WHERE kind IN ('refund', 'dispute')`,
		`SELECT format('reversal %s of payment %s, transaction %s', r.number, r.payment_intent, t.id)
		 FROM (SELECT * FROM ledger_transactions WHERE kind IN ('refund', 'dispute')) t FULL JOIN reversals r ON r.transaction_id = t.id
		      LEFT JOIN credits c ON c.payment_intent = r.payment_intent
		      LEFT JOIN LATERAL (SELECT sum(p.amount_pence) AS amount FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		                         WHERE p.transaction_id = t.id AND a.org_id IS NULL AND a.name = t.kind || 's') s ON true
		 WHERE (t.org_id, t.kind, t.reference, s.amount::bigint, c.org_id)
		       IS DISTINCT FROM (r.org_id, r.kind, r.payment_intent || ':' || r.number, r.amount_pence, r.org_id)`,
	},
	{
		"top-ups-state-what-was-paid", "a top-up is paid with exactly the sum of its credits",
		`SELECT count(*) FROM top_ups`,
		`SELECT format('top-up %s: states %s, credited %s', u.id, u.paid_pence, coalesce(sum(c.amount_pence), 0))
		 FROM top_ups u LEFT JOIN credits c ON c.top_up_id = u.id
		 GROUP BY u.id, u.paid_pence, u.state
		 HAVING u.paid_pence <> coalesce(sum(c.amount_pence), 0) OR (u.state = 'paid') <> (count(c.*) > 0)`,
	},
	{
		"money-is-audited", "every ledger transaction has its audit row",
		`SELECT count(*) FROM ledger_transactions`,
		`SELECT format('transaction %s', t.id) FROM ledger_transactions t
		 WHERE NOT EXISTS (SELECT FROM audit_log a WHERE a.transaction_id = t.id AND a.org_id = t.org_id)`,
	},
}

// CheckBooks runs the wallet's invariants and more over all organisations and returns them in a fixed order, those that
// hold included. It needs a system transaction. It changes nothing.
func CheckBooks(ctx context.Context, tx *db.Tx, more ...Invariant) ([]Check, error) {
	if err := tx.ReadWidely(ctx); err != nil {
		return nil, err
	}
	all := slices.Concat(invariants, dayInvariants, more)
	checks := make([]Check, 0, len(all))
	for _, i := range all {
		c := Check{Name: i.Name, Promise: i.Promise}
		if err := tx.GetContext(ctx, &c.Checked, i.Count); err != nil {
			return nil, fmt.Errorf("couldn't count for %s: %w", i.Name, err)
		}
		// $1 is the transaction's moment; a query that does not need it still has to mention it.
		if err := tx.SelectContext(ctx, &c.Violations, `
			SELECT v.what FROM (`+i.Violations+`) v (what) WHERE $1::timestamptz IS NOT NULL LIMIT $2`, tx.Now, violationLimit); err != nil {
			return nil, fmt.Errorf("couldn't check %s: %w", i.Name, err)
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// CountVisible counts the rows of tables that this transaction sees, for comparison with an independent count.
func CountVisible(ctx context.Context, tx *db.Tx, tables []string) (map[string]int64, error) {
	counts := make(map[string]int64, len(tables))
	for _, table := range tables {
		var n int64
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM `+table); err != nil {
			return nil, fmt.Errorf("couldn't count %s: %w", table, err)
		}
		counts[table] = n
	}
	return counts, nil
}
