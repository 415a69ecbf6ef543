package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/wallet"
)

// closedReason is what the customer reads beside the refunds of an account that was closed.
const closedReason = "your account was closed"

// ClosingPlan is what closing an account would do with its money.
type ClosingPlan struct {
	Withdrawal WithdrawalPlan
	// PaysBack goes back to cards, Bonus is written off, and Stays is paid money that can go to no card.
	PaysBack, Bonus, Stays money.Pence
}

// PlanClosing says what closing an account would do, without doing it. Where it cannot be closed as it stands the error is a
// Conflict that says why; the plan is there all the same.
func (s *Service) PlanClosing(ctx context.Context, org uuid.UUID) (p ClosingPlan, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		p, err = s.planClosing(ctx, tx, org)
		return err
	})
	return p, err
}

func (s *Service) planClosing(ctx context.Context, tx *db.Tx, org uuid.UUID) (p ClosingPlan, err error) {
	p.Withdrawal, err = planWithdrawal(ctx, tx, org, 0)
	if err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Conflict) { // those say that nothing goes back
		return p, err
	}
	b := p.Withdrawal.Balance
	p.PaysBack, p.Bonus = p.Withdrawal.Amount(), b.Bonus
	p.Stays = b.Balance - b.Bonus - b.Reserved - p.PaysBack
	if b.ClosedAt == nil { // what goes on says more than the money that is set aside for it
		if err := s.mayClose(ctx, tx, org); err != nil {
			return p, err
		}
	}
	return p, b.MayClose()
}

// ClosingRequest is what an operator has agreed to.
type ClosingRequest struct {
	// ID is made by the page that asks; the withdrawal of an account's closing has it for its own.
	ID    uuid.UUID
	OrgID uuid.UUID
	// Reason is for operators and the audit log.
	Reason string
	// Parts is the Text of the withdrawal that was shown.
	Parts string
	Actor audit.Actor
}

// CloseAccount ends an account: what of its paid money came from cards goes back to them as Withdraw does it, the bonus is
// written off, and its people are told. See wallet.Close for what it means to be closed. Checkout pages that are open are
// ended, as far as Stripe answers; a payment that arrives all the same is credited, and shows.
//
// Errors: Invalid with the field "reason"; a Conflict where it cannot be closed as it stands (see Options.MayClose), or is closed already; a
// *PlanChangedError where the money would go another way than was shown.
func (s *Service) CloseAccount(ctx context.Context, r ClosingRequest) (p ClosingPlan, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := wallet.Sentence("reason", r.Reason); err != nil {
			return err
		}
		// Before the wallet, as everywhere: see autotopup.go.
		if err := forgetCard(ctx, tx, r.OrgID, r.Actor); err != nil {
			return err
		}
		if err := wallet.Lock(ctx, tx, r.OrgID); err != nil {
			return err
		}
		if p, err = s.planClosing(ctx, tx, r.OrgID); err != nil {
			return err
		}
		if p.Withdrawal.Text() != r.Parts {
			return &PlanChangedError{Now: p.Withdrawal}
		}
		if p.PaysBack > 0 {
			if _, err := s.withdraw(ctx, tx, WithdrawalRequest{
				ID: r.ID, OrgID: r.OrgID, Amount: p.PaysBack, Reason: closedReason, Parts: r.Parts, Actor: r.Actor,
			}); err != nil {
				return err
			}
		}
		figures := map[string]any{"paying_back_pence": int64(p.PaysBack), "stays_pence": int64(p.Stays), "bonus_pence": int64(p.Bonus)}
		if _, err := wallet.Close(ctx, tx, wallet.Closing{OrgID: r.OrgID, ID: r.ID, Reason: r.Reason, Actor: r.Actor, Detail: figures}); err != nil {
			return err
		}
		return notice.Raise(ctx, tx, notice.Notice{OrgID: r.OrgID, Kind: notice.AccountClosing, Subject: r.ID.String(), Data: figures})
	})
	if err == nil {
		s.endCheckouts(ctx, r.OrgID)
	}
	return p, err
}

// forgetCard removes the saved card of an account that is closed, so that opening it again charges nothing that its owner
// has not agreed to anew. A sweep tells Stripe.
func forgetCard(ctx context.Context, tx *db.Tx, org uuid.UUID, actor audit.Actor) error {
	a, err := lockAutoTopUp(ctx, tx, org)
	if err != nil {
		return err
	}
	card, err := activeCard(ctx, tx, org)
	if err != nil || card == nil {
		return err
	}
	return removeCard(ctx, tx, org, a, *card, removedByClosing, actor)
}

// endCheckouts has Stripe end the Checkout pages on which an organisation could still pay. Nothing depends on it.
func (s *Service) endCheckouts(ctx context.Context, org uuid.UUID) {
	var sessions []string
	err := s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		sessions = nil
		return tx.SelectContext(ctx, &sessions, `
			SELECT session_id FROM top_ups WHERE org_id = $1 AND state = 'open' AND created_at > $2 AND session_id IS NOT NULL ORDER BY created_at DESC LIMIT 20`,
			org, tx.Now.Add(-24*time.Hour))
	})
	if err != nil {
		err = fmt.Errorf("couldn't look for open checkout pages: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	for _, id := range sessions {
		p := &stripe.CheckoutSessionExpireParams{}
		p.Context = ctx
		if _, err = s.stripe.CheckoutSessions.Expire(id, p); err != nil {
			break
		}
	}
	if err != nil {
		s.log.WarnContext(ctx, "a closed account may still have open checkout pages", "org", org, "error", err)
	}
}
