package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/notice"
)

// Saved cards: an organisation has at most one that may be charged without its people being there. It comes from a payment
// whose payer agreed to that, or from a page of Stripe's that takes no money (cardsetup.go), and is Stripe's to keep; we know its id and what a person calls it. It is removed in our books
// first, and from then on never used; Stripe is told after that, as often as it takes.

// SavedCard is the card that automatic top-ups charge.
type SavedCard struct {
	// PaymentMethod is Stripe's id.
	PaymentMethod string `db:"payment_method"`
	// Brand is Stripe's word, such as "visa".
	Brand    string `db:"brand"`
	Last4    string `db:"last4"`
	ExpMonth int    `db:"exp_month"`
	ExpYear  int    `db:"exp_year"`
	// ConsentedAt is when its payer agreed that it is kept, and Consent in which words.
	ConsentedAt time.Time `db:"consented_at"`
	Consent     string    `db:"consent"`
}

// Expired reports whether the card is past its last month.
func (c SavedCard) Expired(now time.Time) bool {
	return !now.UTC().Before(time.Date(c.ExpYear, time.Month(c.ExpMonth)+1, 1, 0, 0, 0, 0, time.UTC))
}

const cardColumns = `payment_method, brand, last4, exp_month, exp_year, consented_at, consent`

// activeCard is an organisation's card that may be charged; nil where it has none.
func activeCard(ctx context.Context, tx *db.Tx, org uuid.UUID) (*SavedCard, error) {
	c, err := one[SavedCard](ctx, tx, `SELECT `+cardColumns+` FROM saved_cards WHERE org_id = $1 AND removed_at IS NULL`, org)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the saved card: %w", err)
	}
	return c, nil
}

// Why a card was removed; whoever looks at the table reads it.
const (
	removedByOwner  = "by its owner"
	removedReplaced = "another one was saved"
	removedAtStripe = "Stripe does not have it any more"
	// removedByClosing ends it with the account.
	removedByClosing = "the account was closed"
)

// RemoveCard removes the organisation's saved card. Automatic top-ups stop with that. underWay says that Stripe had been
// asked for one already, which may still go through. Where there is no card it is a NotFound.
func (s *Service) RemoveCard(ctx context.Context, org, user uuid.UUID) (underWay bool, err error) {
	var card *SavedCard
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		a, err := lockAutoTopUp(ctx, tx, org)
		if err != nil {
			return err
		}
		if card, err = activeCard(ctx, tx, org); err != nil {
			return err
		}
		if card == nil {
			return fault.New(fault.NotFound, "There is no saved card.")
		}
		if underWay, err = beingCharged(ctx, tx, org); err != nil {
			return err
		}
		return removeCard(ctx, tx, org, a, *card, removedByOwner, audit.User(user))
	})
	if err != nil {
		return false, err
	}
	if err := s.detach(ctx, org, card.PaymentMethod); err != nil {
		s.log.WarnContext(ctx, "a removed card could not be detached at Stripe yet", "org", org, "payment_method", card.PaymentMethod, "error", err)
	}
	return underWay, nil
}

// removeCard removes the active card, with the settings locked (nil where there are none), and stops automatic top-ups with
// a notice where they were on.
func removeCard(ctx context.Context, tx *db.Tx, org uuid.UUID, a *autoTopUpRow, card SavedCard, why string, actor audit.Actor) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE saved_cards SET removed_at = $3, removed_why = $4 WHERE org_id = $1 AND payment_method = $2 AND removed_at IS NULL`,
		org, card.PaymentMethod, tx.Now, why); err != nil {
		return fmt.Errorf("couldn't remove the card: %w", err)
	}
	if err := audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: actor, Action: "card.removed", Subject: card.PaymentMethod, Reason: why}); err != nil {
		return err
	}
	if a == nil || !a.State.On() {
		return nil
	}
	reason := "The saved card was removed."
	switch why {
	case removedAtStripe:
		reason = "Stripe does not have the saved card any more."
	case removedByClosing:
		reason = "The account was closed, and the saved card removed."
	}
	return a.stop(ctx, tx, reason, card.PaymentMethod, card, actor)
}

// stop ends automatic top-ups until their owner turns them on again, and tells the organisation. Subject is what it is about.
func (a *autoTopUpRow) stop(ctx context.Context, tx *db.Tx, reason, subject string, card SavedCard, actor audit.Actor) error {
	if err := a.become(ctx, tx, standing{state: AutoStopped, reason: reason}); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, audit.Entry{OrgID: a.OrgID, Actor: actor, Action: "autotopup.stopped", Subject: autoSubject(a.OrgID), Reason: reason}); err != nil {
		return err
	}
	return notice.Raise(ctx, tx, notice.Notice{
		OrgID: a.OrgID, Kind: notice.AutoTopUpEnded, Subject: subject, Data: card.told(map[string]any{"reason": reason, "amount_pence": int64(a.Amount)}),
	})
}

// told adds what a person knows the card by to a notice's figures.
func (c SavedCard) told(data map[string]any) map[string]any {
	data["brand"], data["last4"] = c.Brand, c.Last4
	return data
}

// detach has Stripe forget a card that was removed here, and notes that it did. It is safe to repeat.
func (s *Service) detach(ctx context.Context, org uuid.UUID, paymentMethod string) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	p := &stripe.PaymentMethodDetachParams{}
	p.Context = ctx
	_, err := s.stripe.PaymentMethods.Detach(paymentMethod, p)
	if e, ok := errors.AsType[*stripe.Error](err); ok && (e.HTTPStatusCode == http.StatusNotFound || e.HTTPStatusCode == http.StatusBadRequest) {
		err = nil // it is detached already, or Stripe never had it: nobody can charge it
	}
	if err != nil {
		return fmt.Errorf("%w to detach card %s: %w", errStripeAway, paymentMethod, err)
	}
	return s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE saved_cards SET detached_at = $3 WHERE org_id = $1 AND payment_method = $2 AND removed_at IS NOT NULL AND detached_at IS NULL`,
			org, paymentMethod, tx.Now); err != nil {
			return fmt.Errorf("couldn't note that the card is detached: %w", err)
		}
		return nil
	})
}

// cardsAtOnce bounds what one round of SweepCards does of each kind.
const cardsAtOnce = 50

// unknownCard is a paid top-up whose card is to be kept and is not known yet.
type unknownCard struct {
	consent

	TopUp    uuid.UUID `db:"id"`
	OrgID    uuid.UUID `db:"org_id"`
	Intent   string    `db:"payment_intent"`
	Customer string    `db:"customer_id"`
}

// consent is who agreed to something, when and in which words.
type consent struct {
	By    uuid.UUID `db:"user_id"`
	At    time.Time `db:"created_at"`
	Words string    `db:"consent"`
}

// SweepCards asks Stripe about the cards of paid top-ups that are to be kept and about those that are being saved without a
// payment, and has it forget those that were removed. What Stripe does not answer is left for a later round. It is safe to repeat and to run in several processes at once.
func (s *Service) SweepCards(ctx context.Context) error {
	var unknown []unknownCard
	var open []cardSetup
	var removed []struct {
		OrgID         uuid.UUID `db:"org_id"`
		PaymentMethod string    `db:"payment_method"`
	}
	err := s.db.InSystemTx(ctx, "finding cards to keep and to forget", func(ctx context.Context, tx *db.Tx) error {
		unknown, open, removed = nil, nil, nil
		if err := tx.SelectContext(ctx, &unknown, `
			SELECT t.id, t.org_id, t.user_id, t.created_at, t.consent, p.payment_intent, k.customer_id
			FROM top_ups t JOIN stripe_customers k ON k.org_id = t.org_id CROSS JOIN LATERAL (
			     SELECT payment_intent FROM payments WHERE top_up_id = t.id AND paid_at IS NOT NULL ORDER BY paid_at DESC, payment_intent LIMIT 1) p
			WHERE t.save_card AND t.state = 'paid' AND NOT t.card_known AND (t.asked_at IS NULL OR t.asked_at < $1)
			ORDER BY t.created_at LIMIT $2`, tx.Now.Add(-lease), cardsAtOnce); err != nil {
			return fmt.Errorf("couldn't look for cards to keep: %w", err)
		}
		// Its owner may be back from Stripe's page and look at ours, so a young one is asked about at every round.
		if err := tx.SelectContext(ctx, &open, `
			SELECT `+setupColumns+` FROM card_setups WHERE state = 'open' AND coalesce(asked_at, created_at) <= $1::timestamptz - ($1 - created_at) / 8
			ORDER BY created_at LIMIT $2`, tx.Now, cardsAtOnce); err != nil {
			return fmt.Errorf("couldn't look for cards that are being saved: %w", err)
		}
		if err := tx.SelectContext(ctx, &removed, `
			SELECT org_id, payment_method FROM saved_cards WHERE removed_at IS NOT NULL AND detached_at IS NULL ORDER BY removed_at LIMIT $1`, cardsAtOnce); err != nil {
			return fmt.Errorf("couldn't look for cards to forget: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var all error
	for _, c := range unknown {
		err := s.learnCard(ctx, c)
		if all = errors.Join(all, err); away(err) {
			return all
		}
	}
	for _, c := range open {
		_, err := s.followSetup(ctx, c)
		if all = errors.Join(all, err); away(err) {
			return all
		}
	}
	for _, c := range removed {
		err := s.detach(ctx, c.OrgID, c.PaymentMethod)
		if all = errors.Join(all, err); away(err) {
			return all
		}
	}
	return all
}

// away reports whether Stripe did not answer at all, so that nobody waits for it again in the same round.
func away(err error) bool {
	_, answered := errors.AsType[*stripe.Error](err)
	return errors.Is(err, errStripeAway) && !answered
}

// learnCard asks Stripe with which card a top-up was paid, and keeps it.
func (s *Service) learnCard(ctx context.Context, u unknownCard) error {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	p := &stripe.PaymentIntentParams{}
	p.Context = asking
	p.AddExpand("payment_method")
	pi, err := s.stripe.PaymentIntents.Get(u.Intent, p)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		pi, err = &stripe.PaymentIntent{}, nil // made under another account or key: there is no card to be had
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w about the card of payment %s: %w", errStripeAway, u.Intent, err), s.noteAsked(ctx, u))
	}
	pm := pi.PaymentMethod
	kept := isKept(pm, u.Customer)
	err = s.db.InTx(ctx, []uuid.UUID{u.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		known, err := one[uuid.UUID](ctx, tx, `
			UPDATE top_ups SET card_known = true, asked_at = $3 WHERE org_id = $1 AND id = $2 AND NOT card_known RETURNING id`, u.OrgID, u.TopUp, tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't note that the card is known: %w", err)
		}
		if known == nil || !kept {
			return nil // another process was faster, or there is nothing to keep
		}
		return keepCard(ctx, tx, u.OrgID, pm, u.consent, u.TopUp.String())
	})
	if err == nil && !kept {
		s.log.WarnContext(ctx, "the card of a top-up was to be kept, but Stripe has none", "org", u.OrgID, "top_up", u.TopUp, "payment_intent", u.Intent)
	}
	return err
}

// isKept reports whether Stripe keeps a payment method for the customer, and it is a card.
func isKept(pm *stripe.PaymentMethod, customer string) bool {
	return pm != nil && pm.Card != nil && pm.Customer != nil && pm.Customer.ID == customer && stripeID.MatchString(pm.ID)
}

// noteAsked leaves a top-up's card in peace for a while.
func (s *Service) noteAsked(ctx context.Context, u unknownCard) error {
	return s.db.InTx(ctx, []uuid.UUID{u.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE top_ups SET asked_at = $3 WHERE org_id = $1 AND id = $2`, u.OrgID, u.TopUp, tx.Now)
		return err
	})
}

// keepCard makes a card the organisation's saved one, in the place of an older one. The bank has just seen its holder, so
// what kept automatic top-ups waiting for them, or after a decline, has ended. One that was agreed to before the card that
// is there comes too late, and is only kept to be forgotten. From says what it came with.
func keepCard(ctx context.Context, tx *db.Tx, org uuid.UUID, pm *stripe.PaymentMethod, agreed consent, from string) error {
	a, err := lockAutoTopUp(ctx, tx, org)
	if err != nil {
		return err
	}
	active, err := activeCard(ctx, tx, org)
	if err != nil {
		return err
	}
	known, err := one[string](ctx, tx, `SELECT payment_method FROM saved_cards WHERE payment_method = $1`, pm.ID)
	if err != nil {
		return fmt.Errorf("couldn't look for the card: %w", err)
	}
	if known != nil {
		return nil // it is kept already; or it was removed, and what was removed is not used again
	}
	late := active != nil && active.ConsentedAt.After(agreed.At)
	if active != nil && !late {
		if _, err := tx.ExecContext(ctx, `
			UPDATE saved_cards SET removed_at = $3, removed_why = $4 WHERE org_id = $1 AND payment_method = $2 AND removed_at IS NULL`,
			org, active.PaymentMethod, tx.Now, removedReplaced); err != nil {
			return fmt.Errorf("couldn't put another card in the place of the saved one: %w", err)
		}
	}
	var removedAt *time.Time
	removedWhy := ""
	if late {
		removedAt, removedWhy = &tx.Now, removedReplaced
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO saved_cards (payment_method, org_id, brand, last4, exp_month, exp_year, consented_by, consented_at, consent, created_at, removed_at, removed_why)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		pm.ID, org, string(pm.Card.Brand), pm.Card.Last4, pm.Card.ExpMonth, pm.Card.ExpYear, agreed.By, agreed.At, agreed.Words, tx.Now, removedAt, removedWhy); err != nil {
		return fmt.Errorf("couldn't store the card: %w", err)
	}
	if err := audit.Record(ctx, tx, audit.Entry{
		OrgID: org, Actor: audit.User(agreed.By), Action: "card.saved", Subject: pm.ID,
		Detail: map[string]any{"brand": string(pm.Card.Brand), "last4": pm.Card.Last4, "consent": agreed.Words, "from": from},
	}); err != nil {
		return err
	}
	if late || a == nil || a.State != AutoAuthentication && a.State != AutoCoolingDown {
		return nil
	}
	return a.become(ctx, tx, standing{state: AutoReady})
}

// cardDetached is the event by which Stripe says that a payment method belongs to no customer any more: it can never be
// charged again (https://docs.stripe.com/api/payment_methods/detach).
const cardDetached = "payment_method.detached"

// forgetCards works such events: the card is removed here too. Our own detaching sends them as well.
func (s *Service) forgetCards(ctx context.Context, events []event) error {
	for _, e := range events {
		err := s.forgetCard(ctx, e)
		if err == nil {
			continue
		}
		if err := s.postpone(ctx, e, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) forgetCard(ctx context.Context, e event) error {
	var body envelope
	if err := decode(e.Payload, &body); err != nil {
		return s.conclude(ctx, []verdict{{e.ID, stateQuarantined, err.Error()}})
	}
	if body.Livemode != s.livemode {
		return s.conclude(ctx, []verdict{{e.ID, stateIgnored, fmt.Sprintf("livemode is %t, ours is %t", body.Livemode, s.livemode)}})
	}
	var org *uuid.UUID
	err := s.db.InSystemTx(ctx, "finding out whose a card is", func(ctx context.Context, tx *db.Tx) (err error) {
		if org, err = one[uuid.UUID](ctx, tx, `SELECT org_id FROM saved_cards WHERE payment_method = $1`, body.Data.Object.ID); err != nil || org == nil {
			return err
		}
		return adopt(ctx, tx, map[string]uuid.UUID{e.ID: *org})
	})
	if err != nil {
		return err
	}
	if org == nil {
		return s.conclude(ctx, []verdict{{e.ID, stateIgnored, "no card that we keep"}})
	}
	var done []verdict
	err = s.db.InTx(ctx, []uuid.UUID{*org}, func(ctx context.Context, tx *db.Tx) error {
		done = nil
		var mine []event
		if err := tx.SelectContext(ctx, &mine, waitingEvents+` FOR NO KEY UPDATE OF e SKIP LOCKED`, pq.Array([]string{e.ID})); err != nil {
			return fmt.Errorf("couldn't lock the event: %w", err)
		}
		if len(mine) == 0 {
			return nil
		}
		done = verdictsOn(mine, stateProcessed, "")
		if err := dropCard(ctx, tx, *org, body.Data.Object.ID, audit.Stripe(e.ID)); err != nil {
			return err
		}
		return finish(ctx, tx, done)
	})
	if err == nil {
		s.report(ctx, done)
	}
	return err
}

// dropCard removes a card that Stripe does not have any more. One that was removed already is noted as forgotten by Stripe.
func dropCard(ctx context.Context, tx *db.Tx, org uuid.UUID, paymentMethod string, actor audit.Actor) error {
	a, err := lockAutoTopUp(ctx, tx, org)
	if err != nil {
		return err
	}
	card, err := activeCard(ctx, tx, org)
	if err != nil {
		return err
	}
	if card != nil && card.PaymentMethod == paymentMethod {
		if err := removeCard(ctx, tx, org, a, *card, removedAtStripe, actor); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE saved_cards SET detached_at = $3 WHERE org_id = $1 AND payment_method = $2 AND removed_at IS NOT NULL AND detached_at IS NULL`,
		org, paymentMethod, tx.Now); err != nil {
		return fmt.Errorf("couldn't note that the card is detached: %w", err)
	}
	return nil
}
