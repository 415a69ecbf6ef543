package payments

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Withdrawals: unused paid money goes back to the cards that it came from, as refunds of the payments that brought it.
//
// The money is reserved in the wallet in the transaction that stores what Stripe will be asked for, so that nobody spends it
// meanwhile, and it leaves the wallet when a refund is posted, on the way that every refund takes (see reversal.go). So a
// part of a withdrawal is open until Stripe's word on it is in our books, and every crash leaves it open: see payback.go.

const (
	// withdrawMost is how many payments one withdrawal goes back over, and withdrawLook among how many of the newest it
	// chooses.
	withdrawMost = 50
	withdrawLook = 1000
)

// WithdrawalPlan is how unused paid money would go back to cards.
type WithdrawalPlan struct {
	Balance wallet.Balance
	// Paid is what may go back, Most the part of it for which there are payments that can still be refunded.
	Paid, Most money.Pence
	// Disputed is what is left of payments under a dispute: Stripe refunds nothing of those.
	Disputed money.Pence
	// Parts are the refunds that Stripe would be asked for, the newest payment first.
	Parts []PlannedPart
}

// PlannedPart is a refund to be.
type PlannedPart struct {
	PaymentIntent string `db:"payment_intent"`
	// Charge is what was paid, and Left what of it was neither refunded nor is being refunded.
	Charge   money.Pence `db:"amount_pence"`
	Left     money.Pence `db:"left_pence"`
	PaidAt   time.Time   `db:"created_at"`
	Disputed bool        `db:"disputed"`
	// Amount is what would be given back.
	Amount money.Pence `db:"-"`
}

// Amount is what goes back in all.
func (p WithdrawalPlan) Amount() (sum money.Pence) {
	for _, part := range p.Parts {
		sum += part.Amount
	}
	return sum
}

// Text names the parts in one line: by it one sees whether a plan is the one that somebody agreed to.
func (p WithdrawalPlan) Text() string {
	parts := make([]string, len(p.Parts))
	for i, part := range p.Parts {
		parts[i] = part.PaymentIntent + ":" + strconv.FormatInt(int64(part.Amount), 10)
	}
	return strings.Join(parts, ",")
}

// PlanWithdrawal says how an amount would go back to cards, without doing it; zero stands for all that can. What cannot is
// Invalid with the field "amount", or where money is owed a Conflict; the plan then says how the wallet stands.
func (s *Service) PlanWithdrawal(ctx context.Context, org uuid.UUID, amount money.Pence) (p WithdrawalPlan, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		p, err = planWithdrawal(ctx, tx, org, amount)
		return err
	})
	return p, err
}

// planWithdrawal chooses the payments. What others do at this moment does not matter much: Stripe refunds no more than what
// is left of a charge, and what it refuses is given back.
func planWithdrawal(ctx context.Context, tx *db.Tx, org uuid.UUID, amount money.Pence) (p WithdrawalPlan, err error) {
	if p.Balance, err = wallet.Read(ctx, tx, org); err != nil {
		return p, err
	}
	p.Paid = p.Balance.Withdrawable()
	var payments []PlannedPart
	// Newest first by the ledger's own index, and from there by keys: an organisation has more payments than fit on a page.
	if err := tx.SelectContext(ctx, &payments, `
		SELECT c.payment_intent, c.amount_pence, c.created_at, coalesce(d.disputed, false) AS disputed,
		       c.amount_pence - coalesce(r.sum, 0)::bigint - coalesce(p.sum, 0)::bigint AS left_pence
		FROM ledger_transactions t JOIN credits c ON c.payment_intent = t.reference
		     LEFT JOIN LATERAL (SELECT sum(amount_pence) FROM refunds WHERE payment_intent = c.payment_intent AND status NOT IN ('failed', 'canceled')) r ON true
		     LEFT JOIN LATERAL (SELECT sum(amount_pence) FROM withdrawal_parts WHERE payment_intent = c.payment_intent AND state || '' = 'open') p ON true
		     LEFT JOIN LATERAL (SELECT bool_or(status NOT IN ('won', 'warning_closed')) AS disputed FROM disputes WHERE payment_intent = c.payment_intent) d ON true
		WHERE t.org_id = $1 AND t.kind = 'top_up' AND t.kind <> 'usage' ORDER BY t.seq DESC LIMIT $2`, org, withdrawLook); err != nil {
		return p, fmt.Errorf("couldn't look for payments that can be refunded: %w", err)
	}
	want := cmp.Or(amount, p.Paid)
	rest := min(want, p.Paid)
	for _, one := range payments {
		switch {
		case one.Left <= 0:
			continue
		case one.Disputed:
			p.Disputed += one.Left
			continue
		case len(p.Parts) < withdrawMost && rest > 0:
			one.Amount = min(one.Left, rest)
			rest -= one.Amount
			p.Parts = append(p.Parts, one)
		}
		p.Most = min(p.Most+one.Left, p.Paid)
	}
	switch {
	case p.Balance.Debt > 0:
		return p, fault.New(fault.Conflict, fmt.Sprintf("%s is owed. Have it repaid, or write it off with a credit, before anything goes back to a card.", p.Balance.Debt))
	case amount < 0:
		return p, fault.Field("amount", "Enter an amount above zero.")
	case p.Paid == 0:
		return p, fault.Field("amount", "There is no paid money in this wallet that is not set aside.")
	case amount > p.Paid:
		return p, fault.Field("amount", fmt.Sprintf("Only %s was paid in and is not set aside.", p.Paid))
	case p.Most == 0:
		return p, fault.Field("amount", "None of the money in this wallet came from a card payment that can still be refunded.")
	case amount > p.Most:
		return p, fault.Field("amount", fmt.Sprintf("Only %s of it came from card payments that can still be refunded.", p.Most))
	case amount > 0 && p.Amount() < amount:
		return p, fault.Field("amount", fmt.Sprintf("One withdrawal goes back over at most %d payments, which come to %s. Take that first.", withdrawMost, p.Amount()))
	}
	return p, nil
}

// WithdrawalRequest is what an operator has agreed to.
type WithdrawalRequest struct {
	// ID is made by the page that asks: the same again is the same withdrawal.
	ID     uuid.UUID
	OrgID  uuid.UUID
	Amount money.Pence
	// Reason is a sentence for the customer and for the audit log.
	Reason string
	// Parts is the Text of the plan that was shown.
	Parts string
	Actor audit.Actor
}

// CheckWithdrawal checks a request as Withdraw does, but for its parts, and gives its plan, without doing anything.
func (s *Service) CheckWithdrawal(ctx context.Context, r WithdrawalRequest) (p WithdrawalPlan, err error) {
	if _, err := wallet.Sentence("reason", r.Reason); err != nil {
		return p, err
	}
	if r.Amount <= 0 {
		return p, fault.Field("amount", "Enter an amount above zero.")
	}
	return s.PlanWithdrawal(ctx, r.OrgID, r.Amount)
}

// PlanChangedError is the error of a withdrawal that would go another way than was shown: nothing was done.
type PlanChangedError struct{ Now WithdrawalPlan }

// Error says so.
func (*PlanChangedError) Error() string { return "the withdrawal would go another way than was shown" }

// Withdraw reserves unused paid money and has Stripe asked to give it back to the cards that it came from, by a job in the
// same transaction. It is safe to repeat.
//
// Errors: those of PlanWithdrawal; Invalid with the field "reason"; a *PlanChangedError where the wallet or its payments are not
// as was shown; a Conflict where the id stands for something else.
func (s *Service) Withdraw(ctx context.Context, r WithdrawalRequest) (w Withdrawal, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		w, err = s.withdraw(ctx, tx, r)
		return err
	})
	return w, err
}

// withdraw is Withdraw in the caller's transaction.
func (s *Service) withdraw(ctx context.Context, tx *db.Tx, r WithdrawalRequest) (Withdrawal, error) {
	reason, err := wallet.Sentence("reason", r.Reason)
	if err != nil {
		return Withdrawal{}, err
	}
	if err := wallet.Lock(ctx, tx, r.OrgID); err != nil {
		return Withdrawal{}, err
	}
	var w Withdrawal
	err = tx.GetContext(ctx, &w, `SELECT `+withdrawalColumns+` FROM withdrawals WHERE id = $1`, r.ID)
	switch {
	case err == nil && w.OrgID == r.OrgID && w.Amount == r.Amount && w.Reason == reason:
		return w, nil
	case err == nil:
		return Withdrawal{}, errOtherWithdrawal()
	case !errors.Is(err, sql.ErrNoRows):
		return Withdrawal{}, fmt.Errorf("couldn't look for the withdrawal: %w", err)
	case r.Amount <= 0:
		return Withdrawal{}, fault.Field("amount", "Enter an amount above zero.")
	}
	plan, err := planWithdrawal(ctx, tx, r.OrgID, r.Amount)
	if err != nil {
		return Withdrawal{}, err
	}
	if plan.Text() != r.Parts {
		return Withdrawal{}, &PlanChangedError{Now: plan}
	}
	if err := wallet.Reserve(ctx, tx, r.OrgID, r.Amount); err != nil {
		return Withdrawal{}, err
	}
	w = Withdrawal{ID: r.ID, OrgID: r.OrgID, Amount: r.Amount, Reason: reason, Actor: string(r.Actor), CreatedAt: tx.Now}
	if err := storeWithdrawal(ctx, tx, w, plan.Parts); err != nil {
		return Withdrawal{}, err
	}
	if err := audit.Record(ctx, tx, audit.Entry{
		OrgID: r.OrgID, Actor: r.Actor, Action: "withdrawal.made", Subject: "withdrawal:" + r.ID.String(), Reason: reason,
		Detail: map[string]any{"amount_pence": int64(r.Amount), "parts": r.Parts},
	}); err != nil {
		return Withdrawal{}, err
	}
	return w, s.enqueuePayBack(ctx, tx, PayBackJob{OrgID: w.OrgID, WithdrawalID: w.ID}, time.Time{})
}

func errOtherWithdrawal() error {
	return fault.New(fault.Conflict, "This form was used for another withdrawal. Begin again from the wallet.")
}

func storeWithdrawal(ctx context.Context, tx *db.Tx, w Withdrawal, parts []PlannedPart) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO withdrawals (id, org_id, amount_pence, reason, actor, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		w.ID, w.OrgID, w.Amount, w.Reason, w.Actor, w.CreatedAt)
	if db.Violated(err, "withdrawals_pkey") { // of another organisation's
		return errOtherWithdrawal()
	}
	if err != nil {
		return fmt.Errorf("couldn't store the withdrawal: %w", err)
	}
	var intent []string
	var amount []int64
	for _, p := range parts {
		intent, amount = append(intent, p.PaymentIntent), append(amount, int64(p.Amount))
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO withdrawal_parts (withdrawal_id, org_id, next_attempt_at, updated_at, state, payment_intent, amount_pence)
		SELECT $1, $2, $3, $3, 'open', u.* FROM unnest($4::text[], $5::bigint[]) u`,
		w.ID, w.OrgID, w.CreatedAt, pq.Array(intent), pq.Array(amount)); err != nil {
		return fmt.Errorf("couldn't store the withdrawal's parts: %w", err)
	}
	return nil
}

// Withdrawal is money that went back to cards, or is on its way.
type Withdrawal struct {
	ID        uuid.UUID   `db:"id"`
	OrgID     uuid.UUID   `db:"org_id"`
	Amount    money.Pence `db:"amount_pence"`
	Reason    string      `db:"reason"`
	Actor     string      `db:"actor"`
	CreatedAt time.Time   `db:"created_at"`
	// Email is the operator's; only Withdrawals fills it and Parts in.
	Email string           `db:"-"`
	Parts []WithdrawalPart `db:"-"`
}

const withdrawalColumns = `id, org_id, amount_pence, reason, actor, created_at`

// PartState is how far a part has come.
type PartState string

// The states; the schema knows the same ones.
const (
	PartOpen     PartState = "open"     // reserved; Stripe is to be asked, or has not answered yet
	PartRefunded PartState = "refunded" // its refund is posted
	PartRefused  PartState = "refused"  // there is no refund, and the money is the wallet's again
)

// WithdrawalPart is one refund of a withdrawal.
type WithdrawalPart struct {
	WithdrawalID  uuid.UUID   `db:"withdrawal_id"`
	PaymentIntent string      `db:"payment_intent"`
	Amount        money.Pence `db:"amount_pence"`
	State         PartState   `db:"state"`
	RefundID      string      `db:"refund_id"`
	// RefundStatus is Stripe's word on the refund; failed and canceled have brought the money back to the wallet.
	RefundStatus string `db:"refund_status"`
	// Note is why it was refused, or what the last try met with.
	Note      string    `db:"note"`
	UpdatedAt time.Time `db:"updated_at"`
}

// CameBack reports whether the refund was posted and has failed since.
func (p WithdrawalPart) CameBack() bool {
	return p.State == PartRefunded && slices.Contains([]string{"failed", "canceled"}, p.RefundStatus)
}

// Withdrawals are an organisation's newest, with their parts and who made them, for operators.
func (s *Service) Withdrawals(ctx context.Context, org uuid.UUID, limit int) (list []Withdrawal, err error) {
	err = s.db.InSystemTx(ctx, "an operator's view of withdrawals and who made them", func(ctx context.Context, tx *db.Tx) error {
		var rows []struct {
			Withdrawal

			By string `db:"email"`
		}
		if err := tx.SelectContext(ctx, &rows, `
			SELECT `+withdrawalColumns+`, coalesce((
			           SELECT u.email FROM users u
			           WHERE u.id = CASE WHEN w.actor ~ '^(user|operator):[0-9a-f-]{36}$' THEN split_part(w.actor, ':', 2)::uuid END), '') AS email
			FROM withdrawals w WHERE org_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2`, org, limit); err != nil {
			return fmt.Errorf("couldn't read the withdrawals: %w", err)
		}
		list = nil
		ids := make([]string, len(rows))
		for i, r := range rows {
			r.Email = r.By
			list, ids[i] = append(list, r.Withdrawal), r.ID.String()
		}
		var parts []WithdrawalPart
		if err := tx.SelectContext(ctx, &parts, `
			SELECT p.withdrawal_id, p.payment_intent, p.amount_pence, p.state, coalesce(p.refund_id, '') AS refund_id, p.note, p.updated_at,
			       coalesce(r.status, '') AS refund_status
			FROM withdrawal_parts p LEFT JOIN refunds r ON r.id = p.refund_id
			WHERE p.withdrawal_id = ANY($1::uuid[]) ORDER BY p.withdrawal_id, p.amount_pence DESC, p.payment_intent`, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read the withdrawals' parts: %w", err)
		}
		for _, p := range parts {
			i := slices.IndexFunc(list, func(w Withdrawal) bool { return w.ID == p.WithdrawalID })
			list[i].Parts = append(list[i].Parts, p)
		}
		return nil
	})
	return list, err
}

// PayBackJob is the job that asks Stripe for the refunds of a withdrawal.
type PayBackJob struct {
	OrgID        uuid.UUID `db:"org_id"        json:"org_id"`
	WithdrawalID uuid.UUID `db:"withdrawal_id" json:"withdrawal_id"`
}

// Kind is the job's name in the queue.
func (PayBackJob) Kind() string { return "pay_back" }

// InsertOpts puts the job where Stripe is asked and no credit waits.
func (PayBackJob) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: QueueReversals} }

// enqueuePayBack adds the job in the transaction of the fact that it has something to do; at is when, zero for now.
func (s *Service) enqueuePayBack(ctx context.Context, tx *db.Tx, job PayBackJob, at time.Time) error {
	if _, err := s.jobs.InsertTx(ctx, tx.Tx.Tx, job, &river.InsertOpts{ScheduledAt: at}); err != nil {
		return fmt.Errorf("couldn't add the job that asks Stripe: %w", err)
	}
	return nil
}
