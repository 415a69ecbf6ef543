package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/money"
)

// Day is what happened in a wallet in one day (UTC).
type Day struct {
	Date time.Time `db:"day"`
	// First and Last are the numbers of the day's first and last transaction, Transactions how many there are.
	First        int64 `db:"first_seq"`
	Last         int64 `db:"last_seq"`
	Transactions int64 `db:"transactions"`
	// Balance is the wallet's after the last of them.
	Balance money.Pence `db:"balance_pence"`

	Calls          int64       `db:"calls"`
	CallPence      money.Pence `db:"call_pence"`
	SMS            int64       `db:"sms"`
	SMSPence       money.Pence `db:"sms_pence"`
	Numbers        int64       `db:"numbers"`
	NumberPence    money.Pence `db:"number_pence"`
	Searches       int64       `db:"searches"`
	KnowledgePence money.Pence `db:"knowledge_pence"`
}

// Used is how often an action was paid for that day, and what it cost, debt included. A number's month is one time of it.
func (d Day) Used(a Action) (times int64, cost money.Pence) {
	switch a {
	case ActionCall:
		return d.Calls, d.CallPence
	case ActionSMS:
		return d.SMS, d.SMSPence
	case ActionNumber:
		return d.Numbers, d.NumberPence
	case ActionKnowledge:
		return d.Searches, d.KnowledgePence
	}
	return 0, 0
}

// and is the day with what came later on it.
func (d Day) and(later Day) Day {
	d.First, d.Last, d.Transactions, d.Balance = min(d.First, later.First), max(d.Last, later.Last), d.Transactions+later.Transactions, later.Balance
	d.Calls, d.CallPence = d.Calls+later.Calls, d.CallPence+later.CallPence
	d.SMS, d.SMSPence = d.SMS+later.SMS, d.SMSPence+later.SMSPence
	d.Numbers, d.NumberPence = d.Numbers+later.Numbers, d.NumberPence+later.NumberPence
	d.Searches, d.KnowledgePence = d.Searches+later.Searches, d.KnowledgePence+later.KnowledgePence
	return d
}

const dayColumns = `day, first_seq, last_seq, transactions, balance_pence, calls, call_pence, sms, sms_pence, numbers, number_pence, searches, knowledge_pence`

// addedUpSQL adds up, day by day, the ledger of the wallet $1 behind the transaction $2, at most $3 transactions of it.
const addedUpSQL = `
	SELECT (t.created_at AT TIME ZONE 'UTC')::date AS day, min(t.seq) AS first_seq, max(t.seq) AS last_seq, count(*) AS transactions,
	       (array_agg(t.balance_after_pence ORDER BY t.seq DESC))[1] AS balance_pence,
	       count(*) FILTER (WHERE t.action = 'call') AS calls, coalesce(sum(t.cost) FILTER (WHERE t.action = 'call'), 0)::bigint AS call_pence,
	       count(*) FILTER (WHERE t.action = 'sms') AS sms, coalesce(sum(t.cost) FILTER (WHERE t.action = 'sms'), 0)::bigint AS sms_pence,
	       count(*) FILTER (WHERE t.action = 'number') AS numbers, coalesce(sum(t.cost) FILTER (WHERE t.action = 'number'), 0)::bigint AS number_pence,
	       count(*) FILTER (WHERE t.action = 'knowledge') AS searches, coalesce(sum(t.cost) FILTER (WHERE t.action = 'knowledge'), 0)::bigint AS knowledge_pence
	FROM (SELECT t.seq, t.created_at, t.balance_after_pence, CASE WHEN t.kind = 'rent' THEN 'number' ELSE h.action END AS action,
	             CASE WHEN t.kind = 'rent' THEN (SELECT sum(p.amount_pence) FROM ledger_postings p WHERE p.transaction_id = t.id AND p.amount_pence > 0)
	                  ELSE h.amount_pence END AS cost
	      FROM ledger_transactions t LEFT JOIN holds h ON t.kind = 'usage' AND h.id = t.id
	      WHERE t.org_id = $1 AND t.seq > $2 ORDER BY t.seq LIMIT $3) t
	GROUP BY 1`

const (
	// addUpFrom is how many transactions of a wallet are worth adding up; fewer are read from the ledger faster.
	addUpFrom = 200
	// addUpAtOnce is how many one transaction of ours adds up.
	addUpAtOnce = 20_000
	// addUpWallets is how many wallets one sweep adds up.
	addUpWallets = 500
	// unaddedMost is how many transactions that are not added up yet a page reads itself.
	unaddedMost = 10_000
)

// AddUp adds up the days of wallets in which enough has happened since the last time, and says of how many. Nothing waits
// for it: what is not added up yet is read from the ledger. It is safe to repeat and to run in several processes at once.
func (l *Ledger) AddUp(ctx context.Context) (n int, err error) {
	var orgs []uuid.UUID
	err = l.db.InSystemTx(ctx, "wallets whose days are to be added up", func(ctx context.Context, tx *db.Tx) error {
		orgs = nil
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &orgs, `
			SELECT w.org_id FROM wallets w LEFT JOIN (SELECT org_id, max(last_seq) AS until FROM wallet_days GROUP BY org_id) d ON d.org_id = w.org_id
			WHERE w.last_seq - coalesce(d.until, 0) >= $1 ORDER BY w.last_seq - coalesce(d.until, 0) DESC LIMIT $2`, addUpFrom, addUpWallets)
	})
	if err != nil {
		return 0, err
	}
	for _, org := range orgs {
		if err := l.addUp(ctx, org); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// addUp adds up one wallet's days to its newest transaction.
func (l *Ledger) addUp(ctx context.Context, org uuid.UUID) error {
	for more := true; more; {
		err := l.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			// One at a time, but without the wallet's own lock: gates do not wait for this.
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('wallet_days ' || $1::uuid, 0))`, org); err != nil {
				return fmt.Errorf("couldn't lock the wallet's days: %w", err)
			}
			until, err := addedUntil(ctx, tx, org)
			if err != nil {
				return err
			}
			// A wallet's numbers have no gaps and are given under its lock: whoever sees one sees all before it.
			var added int64
			err = tx.GetContext(ctx, &added, `
				WITH added AS (
					INSERT INTO wallet_days AS d (org_id, `+dayColumns+`) SELECT $1, a.* FROM (`+addedUpSQL+`) a
					ON CONFLICT (org_id, day) DO UPDATE SET
						first_seq = least(d.first_seq, excluded.first_seq), last_seq = excluded.last_seq,
						transactions = d.transactions + excluded.transactions, balance_pence = excluded.balance_pence,
						calls = d.calls + excluded.calls, call_pence = d.call_pence + excluded.call_pence,
						sms = d.sms + excluded.sms, sms_pence = d.sms_pence + excluded.sms_pence,
						numbers = d.numbers + excluded.numbers, number_pence = d.number_pence + excluded.number_pence,
						searches = d.searches + excluded.searches, knowledge_pence = d.knowledge_pence + excluded.knowledge_pence
					RETURNING d.last_seq)
				SELECT coalesce(max(last_seq), $2) - $2 FROM added`, org, until, addUpAtOnce)
			if err != nil {
				return fmt.Errorf("couldn't add up the wallet's days: %w", err)
			}
			more = added == addUpAtOnce
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addedUntil is the number of the last transaction that is added up.
func addedUntil(ctx context.Context, tx *db.Tx, org uuid.UUID) (until int64, err error) {
	err = tx.GetContext(ctx, &until, `SELECT last_seq FROM wallet_days WHERE org_id = $1 ORDER BY last_seq DESC LIMIT 1`, org)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("couldn't read how far the wallet's days are added up: %w", err)
	}
	return until, nil
}

// Days are the days of a wallet in which something happened, from one moment.
type Days struct {
	// List is in the order of time.
	List []Day
	// Opening is the balance before the first of them.
	Opening money.Pence
	// Behind is how many of the newest transactions are not in it: more have come than could be added up. Zero nearly always.
	Behind int64
}

// Days gives the days of a wallet from one date to another (UTC, both included) in which something happened. A wallet that
// does not exist has none.
func (l *Ledger) Days(ctx context.Context, org uuid.UUID, from, to time.Time) (d Days, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		d, err = readDays(ctx, tx, org, from, to)
		return err
	})
	return d, err
}

func readDays(ctx context.Context, tx *db.Tx, org uuid.UUID, from, to time.Time) (Days, error) {
	var kept, fresh []Day
	// The day before the first says with what balance the first began.
	if err := tx.SelectContext(ctx, &kept, `
		(SELECT `+dayColumns+` FROM wallet_days WHERE org_id = $1 AND day < $2 ORDER BY day DESC LIMIT 1)
		UNION ALL
		(SELECT `+dayColumns+` FROM wallet_days WHERE org_id = $1 AND day BETWEEN $2 AND $3)`, org, date(from), date(to)); err != nil {
		return Days{}, fmt.Errorf("couldn't read the wallet's days: %w", err)
	}
	until, err := addedUntil(ctx, tx, org)
	if err != nil {
		return Days{}, err
	}
	if err := tx.SelectContext(ctx, &fresh, addedUpSQL, org, until, unaddedMost); err != nil {
		return Days{}, fmt.Errorf("couldn't add up the wallet's newest days: %w", err)
	}
	days := map[time.Time]Day{}
	for _, d := range kept {
		days[d.Date.UTC()] = d
	}
	var read int64
	for _, d := range fresh {
		read += d.Transactions
		if was, ok := days[d.Date.UTC()]; ok {
			d = was.and(d)
		}
		days[d.Date.UTC()] = d
	}
	var result Days
	if read == unaddedMost {
		var last int64
		if err := tx.GetContext(ctx, &last, `SELECT last_seq FROM wallets WHERE org_id = $1`, org); err != nil {
			return Days{}, fmt.Errorf("couldn't read the wallet: %w", err)
		}
		result.Behind = last - until - read
	}
	for _, at := range slices.SortedFunc(maps.Keys(days), time.Time.Compare) {
		switch d := days[at]; {
		case at.Before(day(from)):
			result.Opening = d.Balance
		case !at.After(day(to)):
			result.List = append(result.List, d)
		}
	}
	return result, nil
}

// day is the day (UTC) of a moment.
func day(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

// date writes a moment's day (UTC) as Postgres reads one.
func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// dayInvariants are what the kept days promise.
var dayInvariants = []Invariant{
	{
		"days-match-ledger", "the days of every wallet are what its ledger adds up to, as far as they are added up",
		`SELECT count(*) FROM wallet_days`,
		`SELECT format('wallet %s, %s: kept %s, the ledger has %s', coalesce(d.org_id, a.org_id), coalesce(d.day, a.day), d.sums, a.sums)
		 FROM (SELECT org_id, day, ROW(first_seq, last_seq, transactions, balance_pence, calls, call_pence, sms, sms_pence,
		                               numbers, number_pence, searches, knowledge_pence) AS sums FROM wallet_days) d
		      FULL JOIN (
		          SELECT t.org_id, (t.created_at AT TIME ZONE 'UTC')::date AS day,
		                 ROW(min(t.seq), max(t.seq), count(*), (array_agg(t.balance_after_pence ORDER BY t.seq DESC))[1],
		                     count(h.id) FILTER (WHERE h.action = 'call'), coalesce(sum(h.amount_pence) FILTER (WHERE h.action = 'call'), 0)::bigint,
		                     count(h.id) FILTER (WHERE h.action = 'sms'), coalesce(sum(h.amount_pence) FILTER (WHERE h.action = 'sms'), 0)::bigint,
		                     count(*) FILTER (WHERE h.action = 'number' OR t.kind = 'rent'), (coalesce(sum(h.amount_pence) FILTER (WHERE h.action = 'number'), 0)
		                      + coalesce(sum((SELECT sum(p.amount_pence) FROM ledger_postings p WHERE p.transaction_id = t.id AND p.amount_pence > 0)) FILTER (WHERE t.kind = 'rent'), 0))::bigint,
		                     count(h.id) FILTER (WHERE h.action = 'knowledge'), coalesce(sum(h.amount_pence) FILTER (WHERE h.action = 'knowledge'), 0)::bigint) AS sums
		          FROM (SELECT org_id, max(last_seq) AS until FROM wallet_days GROUP BY org_id) k
		               JOIN ledger_transactions t ON t.org_id = k.org_id AND t.seq <= k.until
		               LEFT JOIN holds h ON t.kind = 'usage' AND h.id = t.id
		          GROUP BY 1, 2) a ON a.org_id = d.org_id AND a.day = d.day
		 WHERE d.sums IS DISTINCT FROM a.sums`,
	},
}
