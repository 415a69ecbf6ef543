package wallet

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Payment is money that Stripe has received for a wallet.
type Payment struct {
	PaymentIntent string
	OrgID         uuid.UUID
	TopUpID       uuid.UUID
	// Amount is what Stripe received: positive, pence.
	Amount money.Pence
	// EventID is the Stripe event that told us; it becomes the actor in the audit log.
	EventID string
}

// CreditPayments credits each payment to its wallet exactly once, in whatever order and however often it is called, and
// returns the PaymentIntents credited by this call. Debt is repaid first. The caller holds the locks of the payments'
// own rows; the wallets are locked here.
func CreditPayments(ctx context.Context, tx *db.Tx, payments []Payment) (map[string]bool, error) {
	if len(payments) == 0 {
		return map[string]bool{}, nil
	}
	// Credits are inserted in one sorted order, so that two batches that overlap wait for each other and never in a ring.
	payments = slices.SortedFunc(slices.Values(payments), func(a, b Payment) int { return cmp.Compare(a.PaymentIntent, b.PaymentIntent) })
	orgs := make([]uuid.UUID, len(payments))
	for i, p := range payments {
		if p.Amount <= 0 {
			return nil, fmt.Errorf("payment %s has no amount", p.PaymentIntent)
		}
		orgs[i] = p.OrgID
	}
	b, err := lock(ctx, tx, orgs)
	if err != nil {
		return nil, err
	}
	ids, err := insertCredits(ctx, tx, payments)
	if err != nil {
		return nil, err
	}
	credited := map[string]bool{}
	for _, p := range payments {
		id, fresh := ids[p.PaymentIntent]
		if !fresh || credited[p.PaymentIntent] {
			continue
		}
		credited[p.PaymentIntent] = true
		if err := b.post(movement{
			id: id, org: p.OrgID, kind: TopUp, reference: p.PaymentIntent, description: "Card top-up", topUp: p.TopUpID,
			legs:  func(w *state) []leg { return repaying(w, p.Amount, walletPaid, clearing) },
			actor: audit.Stripe(p.EventID), action: "wallet.credited",
			detail: map[string]any{"amount_pence": int64(p.Amount), "top_up_id": p.TopUpID.String()},
		}); err != nil {
			return nil, err
		}
	}
	return credited, b.write(ctx, tx)
}

// insertCredits adds the credits that are not there yet and returns the ids that their ledger transactions must get. The
// key of the table decides: a payment that is there already, or twice in the list, is left out.
func insertCredits(ctx context.Context, tx *db.Tx, payments []Payment) (map[string]uuid.UUID, error) {
	var intent, org, topUp, transaction []string
	var amount []int64
	for _, p := range payments {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("couldn't make a transaction id: %w", err)
		}
		intent, org, topUp = append(intent, p.PaymentIntent), append(org, p.OrgID.String()), append(topUp, p.TopUpID.String())
		amount, transaction = append(amount, int64(p.Amount)), append(transaction, id.String())
	}
	var fresh []struct {
		Intent      string    `db:"payment_intent"`
		Transaction uuid.UUID `db:"transaction_id"`
	}
	err := tx.SelectContext(ctx, &fresh, `
		INSERT INTO credits (created_at, payment_intent, org_id, top_up_id, amount_pence, transaction_id)
		SELECT $1, u.* FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::uuid[]) u
		ON CONFLICT (payment_intent) DO NOTHING RETURNING payment_intent, transaction_id`,
		tx.Now, pq.Array(intent), pq.Array(org), pq.Array(topUp), pq.Array(amount), pq.Array(transaction))
	if err != nil {
		return nil, fmt.Errorf("couldn't write the credits: %w", err)
	}
	ids := make(map[string]uuid.UUID, len(fresh))
	for _, f := range fresh {
		ids[f.Intent] = f.Transaction
	}
	return ids, nil
}

// Bounds of one adjustment, either way, in pence: a slip of the keyboard stays small.
const (
	AdjustmentLimit money.Pence = 10_000_000
	// OperatorLimit is what one adjustment on the operators' pages moves at most; for more there is the command line.
	OperatorLimit money.Pence = 1_000_000
)

// AdjustmentRequest is a correction of a wallet by an operator or by this program itself.
type AdjustmentRequest struct {
	OrgID uuid.UUID
	// Kind is Adjustment or Bonus.
	Kind Kind
	// Amount in pence: positive gives, negative takes. A bonus is always given.
	Amount money.Pence
	// Reason is a sentence for the customer and for the audit log.
	Reason string
	// Reference makes a repeat of the same adjustment the same adjustment, whatever its kind.
	Reference string
	Actor     audit.Actor
}

// Adjust posts a correction and returns its ledger transaction. The same reference again returns the first result, marked
// as Repeated, when the request is the same, and a Conflict with the field "reference" when it is not. Taking more than is
// available is Invalid with the field "amount", as everything else that breaks a rule is with its field.
func Adjust(ctx context.Context, tx *db.Tx, r AdjustmentRequest) (Transaction, error) {
	if err := r.check(); err != nil {
		return Transaction{}, err
	}
	b, err := lock(ctx, tx, []uuid.UUID{r.OrgID})
	if err != nil {
		return Transaction{}, err
	}
	first, found, err := r.earlier(ctx, tx)
	if err != nil || found {
		return first, err
	}
	if err := r.fits(b.wallets[r.OrgID].Balance); err != nil {
		return Transaction{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Transaction{}, fmt.Errorf("couldn't make a transaction id: %w", err)
	}
	if err := b.post(movement{
		id: id, org: r.OrgID, kind: r.Kind, reference: r.Reference, description: r.Reason, legs: r.legs,
		actor: r.Actor, action: "wallet.adjusted", reason: r.Reason, detail: map[string]any{"amount_pence": int64(r.Amount)},
	}); err != nil {
		return Transaction{}, err
	}
	if err := b.write(ctx, tx); err != nil {
		return Transaction{}, err
	}
	first, _, err = find(ctx, tx, r.OrgID, r.Kind, r.Reference)
	return first, err
}

// Adjust is the function of that name in a transaction of its own, for one that an operator asks for on a page: at most
// OperatorLimit.
func (l *Ledger) Adjust(ctx context.Context, r AdjustmentRequest) (t Transaction, err error) {
	if err := r.withinOperators(); err != nil {
		return Transaction{}, err
	}
	err = l.db.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		t, err = Adjust(ctx, tx, r)
		return err
	})
	return t, err
}

// AdjustmentPreview is what an adjustment would do.
type AdjustmentPreview struct {
	// Request is in its one form.
	Request AdjustmentRequest
	// Before is the wallet as it stands, After as it would.
	Before, After Balance
	// Done is the transaction by which it was done before, under the same reference; nil where it is new.
	Done *Transaction
}

// Repays is the part of what is given that repays debt.
func (p AdjustmentPreview) Repays() money.Pence { return p.Before.Debt - p.After.Debt }

// PreviewAdjustment checks a request as Ledger.Adjust does, and says what it would do, without doing it.
func (l *Ledger) PreviewAdjustment(ctx context.Context, r AdjustmentRequest) (p AdjustmentPreview, err error) {
	if err := errors.Join(r.check(), r.withinOperators()); err != nil {
		return AdjustmentPreview{}, err
	}
	err = l.db.InReadTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		p = AdjustmentPreview{Request: r}
		if p.Before, err = Read(ctx, tx, r.OrgID); err != nil {
			return err
		}
		p.After = p.Before
		first, found, err := r.earlier(ctx, tx)
		if found {
			p.Done = &first
		}
		if err != nil || found {
			return err
		}
		if err := r.fits(p.Before); err != nil {
			return err
		}
		w := &state{Balance: p.Before}
		if _, err := apply(w, r.legs(w)); err != nil {
			return fmt.Errorf("couldn't work the adjustment out: %w", err)
		}
		p.After = w.Balance
		return nil
	})
	return p, err
}

// earlier looks for an adjustment with the same reference. Another one than is asked for is a Conflict.
func (r AdjustmentRequest) earlier(ctx context.Context, tx *db.Tx) (Transaction, bool, error) {
	for _, kind := range []Kind{Adjustment, Bonus} {
		first, found, err := find(ctx, tx, r.OrgID, kind, r.Reference)
		if err != nil {
			return Transaction{}, false, err
		}
		if !found {
			continue
		}
		// The change of the balance alone may be less than was asked: debt is repaid first.
		var asked money.Pence
		if err := tx.GetContext(ctx, &asked, `
			SELECT coalesce(sum(-p.amount_pence), 0)::bigint FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
			WHERE p.transaction_id = $1 AND a.org_id IS NULL`, first.ID); err != nil {
			return Transaction{}, false, fmt.Errorf("couldn't read the earlier adjustment: %w", err)
		}
		if kind != r.Kind || asked != r.Amount || first.Description != r.Reason {
			return Transaction{}, false, &fault.Error{Kind: fault.Conflict, Field: "reference", Public: fmt.Sprintf(
				"This reference was used on %s for another adjustment: %s. Use a new one.", first.At.UTC().Format("2 Jan 2006"), AdjustmentRequest{Kind: kind, Amount: asked}.short())}
		}
		first.Repeated = true
		return first, true, nil
	}
	return Transaction{}, false, nil
}

// short says in a few words what is asked for.
func (r AdjustmentRequest) short() string {
	switch {
	case r.Kind == Bonus:
		return "a bonus of " + r.Amount.String()
	case r.Amount < 0:
		return "a debit of " + (-r.Amount).String()
	default:
		return "a credit of " + r.Amount.String()
	}
}

// fits refuses to take more than is available.
func (r AdjustmentRequest) fits(b Balance) error {
	if r.Amount < 0 && -r.Amount > b.Available() {
		return fault.Field("amount", fmt.Sprintf("Only %s is available to take.", b.Available()))
	}
	return nil
}

func (r AdjustmentRequest) withinOperators() error {
	if r.Amount > OperatorLimit || r.Amount < -OperatorLimit {
		return fault.Field("amount", fmt.Sprintf("One adjustment on this page moves at most %s. For more there is the command line: ringfence credit.", OperatorLimit))
	}
	return nil
}

// check refuses what breaks a rule and brings the rest into its one form.
func (r *AdjustmentRequest) check() (err error) {
	if r.Reason, err = Sentence("reason", r.Reason); err != nil {
		return err
	}
	if r.Reference, err = oneLine(r.Reference, 200); err != nil {
		return fault.Field("reference", "Give a reference of at most 200 characters in one line, such as a ticket number.")
	}
	switch {
	case r.Kind != Adjustment && r.Kind != Bonus:
		return fault.Field("kind", "Choose an adjustment or a bonus.")
	case r.Amount == 0:
		return fault.Field("amount", "Enter an amount other than zero.")
	case r.Amount > AdjustmentLimit || r.Amount < -AdjustmentLimit:
		return fault.Field("amount", fmt.Sprintf("One adjustment moves at most %s.", AdjustmentLimit))
	case r.Kind == Bonus && r.Amount < 0:
		return fault.Field("amount", "A bonus is given; take money back with an adjustment.")
	}
	return nil
}

// Sentence is a reason in its one form: 1 to 500 characters in one line. Anything else is Invalid with the field.
func Sentence(field, text string) (string, error) {
	text, err := oneLine(text, 500)
	if err != nil {
		return "", fault.Field(field, "Give a reason of at most 500 characters, in one line.")
	}
	return text, nil
}

// oneLine trims a text and refuses one that is empty, longer than most characters, cannot be stored, or would be shown as
// something else than it is.
func oneLine(text string, most int) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || utf8.RuneCountInString(text) > most || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
		return "", errors.New("the text is empty, too long or not one line")
	}
	return text, nil
}

func (r AdjustmentRequest) legs(w *state) []leg {
	switch {
	case r.Amount < 0:
		return spending(w, -r.Amount, adjustment)
	case r.Kind == Bonus:
		return repaying(w, r.Amount, walletBonus, bonusGranted)
	default:
		return repaying(w, r.Amount, walletPaid, adjustment)
	}
}

// find looks a ledger transaction up by what makes it unique. What was used is found by its hold's id instead.
func find(ctx context.Context, tx *db.Tx, org uuid.UUID, kind Kind, reference string) (Transaction, bool, error) {
	var t Transaction
	err := tx.GetContext(ctx, &t, `
		SELECT id, org_id, seq, kind, reference, description, amount_pence, balance_after_pence, debt_after_pence, created_at
		FROM ledger_transactions WHERE org_id = $1 AND kind = $2 AND reference = $3 AND kind <> 'usage'`, org, kind, reference)
	if errors.Is(err, sql.ErrNoRows) {
		return Transaction{}, false, nil
	}
	if err != nil {
		return Transaction{}, false, fmt.Errorf("couldn't look for the transaction: %w", err)
	}
	return t, true, nil
}
