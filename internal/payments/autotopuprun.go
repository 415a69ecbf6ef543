package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/failpoint"
	"ringfence/internal/money"
)

const (
	// lease is for how long who takes an automatic top-up in hand has it for itself, and so how soon it is looked at again
	// after an answer that did not come. askAutomatic bounds what is asked of Stripe meanwhile.
	lease        = 30 * time.Second
	askAutomatic = 25 * time.Second
	// unanswered is how long after a request of which nobody knows the outcome Stripe's list decides that there was none.
	// A request of ours has long been given up by then; until then the same key is asked with again, or nothing is.
	unanswered = 2 * time.Minute
	// automaticAtOnce bounds one round, automaticSideBySide how many organisations' cards are charged at a time.
	automaticAtOnce     = 200
	automaticSideBySide = 4
)

// actorAutoTopUp is who does all this in the audit log.
var actorAutoTopUp = audit.System("autotopup")

// mayCharge is what must hold for an organisation's card to be charged by ourselves, of its settings a, wallet w, saved
// card c and customer k, at the moment $1 with the day since $2 and the month since $3; the top-up $4 itself does not count
// against the caps. While money is on its way back to a card, no card is charged. Whoever begins one and whoever asks Stripe for it decide by these same words.
const mayCharge = `
	FROM auto_top_ups a JOIN wallets w ON w.org_id = a.org_id JOIN saved_cards c ON c.org_id = a.org_id AND c.removed_at IS NULL
	     JOIN stripe_customers k ON k.org_id = a.org_id CROSS JOIN LATERAL (
	         SELECT coalesce(sum(t.amount_pence) FILTER (WHERE t.created_at >= $2), 0) AS day, coalesce(sum(t.amount_pence), 0) AS month
	         FROM top_ups t WHERE t.org_id = a.org_id AND t.automatic AND t.state NOT IN ('failed', 'expired') AND t.created_at >= $3 AND t.id <> $4) used
	WHERE (a.state = 'ready' OR a.state = 'cooling_down' AND a.until <= $1)
	  AND w.frozen_at IS NULL AND w.closed_at IS NULL AND w.suspended_at IS NULL AND w.reserved_pence = 0
	  AND (w.balance_pence - w.held_pence < a.threshold_pence OR w.debt_pence > 0)
	  AND used.day + a.amount_pence <= a.daily_cap_pence AND used.month + a.amount_pence <= a.monthly_cap_pence
	  AND NOT EXISTS (SELECT FROM switches WHERE name = 'auto_top_ups' AND stopped)`

// TopUpAutomatically makes one round: it begins a top-up for every organisation that has allowed it and whose wallet has run
// low, and takes each one in flight a step further, whoever began it. It gives how many it has begun. It is safe to repeat
// at any time and to run in several processes at once: of one organisation at most one is in flight, and one process at a
// time has it in hand.
//
// An error is about some of them; a later round does what was left undone.
func (s *Service) TopUpAutomatically(ctx context.Context) (begun int, err error) {
	low, err := s.lowWallets(ctx)
	if err != nil {
		return 0, err
	}
	var all error
	for _, org := range low {
		one, err := s.beginAutomatic(ctx, org)
		if one {
			begun++
		}
		all = errors.Join(all, err)
	}
	waiting, err := s.automaticInFlight(ctx)
	if err != nil {
		return begun, errors.Join(all, err)
	}
	errs := make([]error, len(waiting))
	var round errgroup.Group
	round.SetLimit(automaticSideBySide)
	for i, w := range waiting {
		round.Go(func() error {
			errs[i] = s.carryOn(ctx, w.OrgID, w.ID)
			return nil
		})
	}
	return begun, errors.Join(all, round.Wait(), errors.Join(errs...))
}

// lowWallets are the organisations for which a top-up is to be begun now.
func (s *Service) lowWallets(ctx context.Context) (orgs []uuid.UUID, err error) {
	err = s.db.InSystemTx(ctx, "finding wallets to be topped up automatically", func(ctx context.Context, tx *db.Tx) error {
		orgs = nil
		day, month := dayAndMonth(tx.Now)
		if err := tx.SelectContext(ctx, &orgs, `
			SELECT a.org_id `+mayCharge+`
			  AND NOT EXISTS (SELECT FROM top_ups t WHERE t.org_id = a.org_id AND t.automatic AND t.state IN ('creating', 'open', 'processing'))
			ORDER BY a.org_id LIMIT $5`, tx.Now, day, month, uuid.Nil, automaticAtOnce); err != nil {
			return fmt.Errorf("couldn't look for wallets that have run low: %w", err)
		}
		return nil
	})
	return orgs, err
}

// beginAutomatic stores an automatic top-up of the organisation, unless one is in flight or it may not be charged after
// all. Nobody is asked for money here. It locks nothing before it inserts: see the lock order at the head of autotopup.go.
func (s *Service) beginAutomatic(ctx context.Context, org uuid.UUID) (begun bool, err error) {
	rate, rateID, err := s.currentRate(ctx)
	if err != nil {
		return false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return false, fmt.Errorf("couldn't make a top-up id: %w", err)
	}
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		begun = false
		day, month := dayAndMonth(tx.Now)
		a, err := one[autoTopUpRow](ctx, tx, `SELECT `+autoTopUpColumns+` FROM auto_top_ups WHERE org_id = $1`, org)
		if err != nil {
			return fmt.Errorf("couldn't read the settings of automatic top-ups: %w", err)
		}
		if a == nil {
			return nil
		}
		usd, err := rate.ToUSD(a.Amount)
		if err != nil {
			return fmt.Errorf("couldn't convert the amount: %w", err)
		}
		amount, err := one[money.Pence](ctx, tx, `
			INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, automatic, consent, payment_method, created_at, updated_at)
			SELECT $4, a.org_id, a.consented_by, a.amount_pence, $5, $6, 'creating', true, a.consent, c.payment_method, $1, $1 `+mayCharge+`
			  AND a.org_id = $7 AND a.amount_pence = $8
			ON CONFLICT (org_id) WHERE automatic AND state IN ('creating', 'open', 'processing') DO NOTHING
			RETURNING amount_pence`, tx.Now, day, month, id, usd, rateID, org, a.Amount)
		if err != nil {
			return fmt.Errorf("couldn't store the automatic top-up: %w", err)
		}
		if amount == nil {
			return nil
		}
		begun = true
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: actorAutoTopUp, Action: "topup.started", Subject: id.String(),
			Detail: map[string]any{"amount_pence": int64(*amount), "usd_cents": int64(usd), "rate_id": rateID, "automatic": true, "consent": a.Consent},
		})
	})
	if begun && err == nil {
		s.metrics.automatic.WithLabelValues("begun").Inc()
		s.log.InfoContext(ctx, "an automatic top-up begins", "org", org, "top_up", id)
	}
	failpoint.Hit(failpoint.AutoTopUpBeforeAsk)
	return begun, err
}

// automaticInFlight are the automatic top-ups that nobody has in hand. One that only waits for its event, or for a bank, is
// asked about more rarely the older it is.
func (s *Service) automaticInFlight(ctx context.Context) (list []TopUp, err error) {
	err = s.db.InSystemTx(ctx, "finding automatic top-ups in flight", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		if err := tx.SelectContext(ctx, &list, `
			SELECT `+topUpColumns+` FROM top_ups
			WHERE automatic AND state IN ('creating', 'open', 'processing') AND (asked_at IS NULL OR asked_at <= $1)
			  AND (state <> 'processing' OR asked_at <= $2::timestamptz - ($2 - created_at) / 8)
			ORDER BY asked_at NULLS FIRST LIMIT $3`, tx.Now.Add(-lease), tx.Now, automaticAtOnce); err != nil {
			return fmt.Errorf("couldn't look for automatic top-ups in flight: %w", err)
		}
		return nil
	})
	return list, err
}

// charge is an automatic top-up in hand.
type charge struct {
	TopUp

	PaymentMethod string     `db:"payment_method"`
	Intent        string     `db:"payment_intent"`
	AskedAt       *time.Time `db:"asked_at"` // the time before this one
	Consent       string     `db:"consent"`
	Customer      string     `db:"customer_id"`
	// allowed says that it may be charged, as the settings, the wallet, the card and the operators' switch stand.
	allowed bool
	now     time.Time
}

// takeInHand takes the top-up for the length of a lease; nil where it has ended or somebody else has it. With the settings
// locked it is held against them once more. One that Stripe was never asked for and that may not be charged any more ends
// here.
func (s *Service) takeInHand(ctx context.Context, org, id uuid.UUID) (c *charge, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if c, err = one[charge](ctx, tx, `
			SELECT `+topUpColumns+`, payment_method, coalesce(payment_intent, '') AS payment_intent, asked_at, consent,
			       coalesce((SELECT customer_id FROM stripe_customers k WHERE k.org_id = top_ups.org_id), '') AS customer_id
			FROM top_ups
			WHERE org_id = $1 AND id = $2 AND automatic AND state IN ('creating', 'open', 'processing') AND (asked_at IS NULL OR asked_at <= $3)
			FOR NO KEY UPDATE`, org, id, tx.Now.Add(-lease)); err != nil || c == nil {
			return err
		}
		a, err := lockAutoTopUp(ctx, tx, org)
		if err != nil {
			return err
		}
		if c.now = tx.Now; c.State == Creating {
			if c.allowed, err = c.mayBeCharged(ctx, tx, a); err != nil {
				return err
			}
			if !c.allowed && c.AskedAt == nil {
				err := c.giveUp(ctx, tx)
				c = nil
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE top_ups SET asked_at = $3, updated_at = $3 WHERE org_id = $1 AND id = $2`, org, id, tx.Now); err != nil {
			return fmt.Errorf("couldn't take the automatic top-up in hand: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't take automatic top-up %s in hand: %w", id, err)
	}
	return c, nil
}

// mayBeCharged holds a top-up in hand against the settings a, which are locked: it must be charged for exactly the words
// that are agreed to, to exactly the card that is saved.
func (c *charge) mayBeCharged(ctx context.Context, tx *db.Tx, a *autoTopUpRow) (allowed bool, err error) {
	if a == nil || c.Consent != a.Consent || c.Amount != a.Amount {
		return false, nil
	}
	day, month := dayAndMonth(tx.Now)
	if err := tx.GetContext(ctx, &allowed, `
		SELECT EXISTS (SELECT `+mayCharge+` AND a.org_id = $5 AND c.payment_method = $6)`, tx.Now, day, month, c.ID, c.OrgID, c.PaymentMethod); err != nil {
		return false, fmt.Errorf("couldn't see whether the card may be charged: %w", err)
	}
	return allowed, nil
}

// notNeeded is what the customer reads of one that was never charged.
const notNeeded = "Nothing was charged: it was not needed or not allowed any more when its turn came."

// giveUp ends a top-up in hand that was not charged.
func (c *charge) giveUp(ctx context.Context, tx *db.Tx) error {
	ended, err := one[uuid.UUID](ctx, tx, `
		UPDATE top_ups SET state = 'failed', note = $3, note_at = $4, updated_at = $4 WHERE org_id = $1 AND id = $2 AND state = 'creating' RETURNING id`,
		c.OrgID, c.ID, notNeeded, tx.Now)
	if err != nil {
		return fmt.Errorf("couldn't end the automatic top-up: %w", err)
	}
	if ended == nil {
		return nil // an event has moved it meanwhile
	}
	return audit.Record(ctx, tx, audit.Entry{OrgID: c.OrgID, Actor: actorAutoTopUp, Action: "autotopup.given_up", Subject: c.ID.String()})
}
