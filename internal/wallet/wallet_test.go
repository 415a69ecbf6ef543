package wallet_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// fixture is a database with the rows that payments need around them.
type fixture struct {
	t   *testing.T
	db  *db.DB
	url string
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	url := dbtest.URL(t)
	return fixture{t, dbtest.OpenURL(t, url, new(dbtest.Clock).Now), url}
}

// payment plants a paid payment with its top-up and returns it, not yet credited.
func (f fixture) payment(org uuid.UUID, intent string, amount money.Pence) wallet.Payment {
	f.t.Helper()
	topUp, user := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	dbtest.Super(f.t, f.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1::uuid, 'local', $1::uuid::text, $1::uuid || '@example.com', now())`, user)
	dbtest.Super(f.t, f.url, `
		INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at)
		SELECT 790000, 'test', 'test', now(), now() WHERE NOT EXISTS (SELECT FROM exchange_rates)`)
	dbtest.Super(f.t, f.url, `
		INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, paid_pence, created_at, updated_at)
		SELECT $1, $2, $3, $4, 0, id, 'paid', $4, now(), now() FROM exchange_rates LIMIT 1`, topUp, org, user, amount)
	dbtest.Super(f.t, f.url, `
		INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, now(), now(), now())`, intent, org, topUp, amount)
	return wallet.Payment{PaymentIntent: intent, OrgID: org, TopUpID: topUp, Amount: amount, EventID: "evt_" + intent}
}

// in runs fn in a transaction for the organisations of the payments.
func (f fixture) credit(payments ...wallet.Payment) (credited map[string]bool, err error) {
	var orgs []uuid.UUID
	for _, p := range payments {
		orgs = append(orgs, p.OrgID)
	}
	err = f.db.InTx(f.t.Context(), orgs, func(ctx context.Context, tx *db.Tx) (err error) {
		credited, err = wallet.CreditPayments(ctx, tx, payments)
		return err
	})
	return credited, err
}

func (f fixture) adjust(org uuid.UUID, kind wallet.Kind, amount money.Pence, reference string) (tr wallet.Transaction, err error) {
	err = f.db.InTx(f.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
		tr, err = wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: org, Kind: kind, Amount: amount, Reason: "because", Reference: reference, Actor: audit.System("test"),
		})
		return err
	})
	return tr, err
}

func (f fixture) balance(org uuid.UUID) wallet.Balance {
	f.t.Helper()
	b, _, err := wallet.New(f.db).Overview(f.t.Context(), org, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func TestCreditOnceHoweverOften(t *testing.T) {
	f := newFixture(t)
	org := wallettest.Org(t, f.db, "Harbour Dental", 569_00)
	p := f.payment(org, "pi_1", 50_00)
	for i, want := range []bool{true, false, false} {
		got, err := f.credit(p, p)
		if err != nil {
			t.Fatal(err)
		}
		if got["pi_1"] != want {
			t.Errorf("call %d credited %t, want %t", i+1, got["pi_1"], want)
		}
	}
	if b := f.balance(org); b.Balance != 619_00 || b.Debt != 0 || b.Seq != 2 {
		t.Errorf("balance %s, debt %s, seq %d; want £619.00, £0.00, 2", b.Balance, b.Debt, b.Seq)
	}
}

func TestConcurrentBatchesThatOverlap(t *testing.T) {
	f := newFixture(t)
	var payments []wallet.Payment
	for o := range 6 {
		org := wallettest.Org(t, f.db, fmt.Sprintf("Org %d", o), 0)
		for i := range 10 {
			payments = append(payments, f.payment(org, fmt.Sprintf("pi_%d_%d", o, i), 7_00))
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var wg sync.WaitGroup
	for range 12 {
		batch := slices.Clone(payments)
		rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		batch = batch[:40]
		wg.Go(func() {
			if _, err := f.credit(batch...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := f.credit(payments...); err != nil {
		t.Fatal(err)
	}
	for _, p := range payments {
		if b := f.balance(p.OrgID); b.Balance != 70_00 || b.Seq != 10 {
			t.Fatalf("organisation %s has %s in %d transactions, want £70.00 in 10", p.OrgID, b.Balance, b.Seq)
		}
	}
}

func TestCreditRepaysDebtFirst(t *testing.T) {
	for _, c := range []struct{ debt, credit, wantBalance, wantDebt money.Pence }{
		{30_00, 50_00, 20_00, 0},
		{50_00, 50_00, 0, 0},
		{70_00, 50_00, 0, 20_00},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.credit, c.debt), func(t *testing.T) {
			f := newFixture(t)
			org := wallettest.Org(t, f.db, "In debt", 0)
			// Nothing makes debt yet, so it is planted with its ledger entry: what a reversal after spending will post.
			tr := uuid.Must(uuid.NewV7())
			dbtest.Super(t, f.url, `INSERT INTO ledger_transactions VALUES ($1, $2, 1, 'adjustment', 'r', 'Refund', 0, 0, $3, NULL, now())`, tr, org, c.debt)
			dbtest.Super(t, f.url, `
				INSERT INTO ledger_postings (transaction_id, org_id, account_id, amount_pence)
				SELECT $1, $2, id, CASE name WHEN 'receivable' THEN -$3::bigint ELSE $3 END FROM ledger_accounts
				WHERE name = 'receivable' AND org_id = $2 OR name = 'refunds'`, tr, org, c.debt)
			dbtest.Super(t, f.url, `INSERT INTO audit_log (at, org_id, actor, action, subject, transaction_id) VALUES (now(), $1, 'system:test', 'x', 'x', $2)`, org, tr)
			dbtest.Super(t, f.url, `UPDATE wallets SET debt_pence = $2, last_seq = 1 WHERE org_id = $1`, org, c.debt)

			if _, err := f.credit(f.payment(org, "pi_1", c.credit)); err != nil {
				t.Fatal(err)
			}
			if b := f.balance(org); b.Balance != c.wantBalance || b.Debt != c.wantDebt {
				t.Errorf("balance %s, debt %s; want %s and %s", b.Balance, b.Debt, c.wantBalance, c.wantDebt)
			}
		})
	}
}

func TestAdjust(t *testing.T) {
	f := newFixture(t)
	org := wallettest.Org(t, f.db, "Harbour Dental", 100_00)
	if _, err := f.adjust(org, wallet.Bonus, 5_00, "welcome"); err != nil {
		t.Fatal(err)
	}
	first, err := f.adjust(org, wallet.Adjustment, -8_00, "ticket 7")
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.adjust(org, wallet.Adjustment, -8_00, "ticket 7")
	if err != nil || again.ID != first.ID {
		t.Errorf("the repeat gave %v, %v; want the first transaction %v", again.ID, err, first.ID)
	}
	if _, err := f.adjust(org, wallet.Adjustment, -9_00, "ticket 7"); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same reference with another amount gave %v, want a conflict", err)
	}
	// The bonus went first.
	if b := f.balance(org); b.Balance != 97_00 || b.Bonus != 0 {
		t.Errorf("balance %s with %s bonus, want £97.00 with none", b.Balance, b.Bonus)
	}
	if _, err := f.adjust(org, wallet.Adjustment, -97_01, "too much"); fault.As(err).Field != "amount" {
		t.Errorf("taking more than there is gave %v, want a fault on the amount", err)
	}
	if _, err := f.adjust(org, wallet.Adjustment, -97_00, "all of it"); err != nil {
		t.Errorf("taking the last penny: %v", err)
	}
}

func TestAdjustRefusals(t *testing.T) {
	f := newFixture(t)
	org := wallettest.Org(t, f.db, "Harbour Dental", 1_00)
	good := wallet.AdjustmentRequest{OrgID: org, Kind: wallet.Adjustment, Amount: 1, Reason: "r", Reference: "x", Actor: audit.System("test")}
	for _, c := range []struct {
		field string
		spoil func(*wallet.AdjustmentRequest)
	}{
		{"kind", func(r *wallet.AdjustmentRequest) { r.Kind = wallet.TopUp }},
		{"amount", func(r *wallet.AdjustmentRequest) { r.Amount = 0 }},
		{"amount", func(r *wallet.AdjustmentRequest) { r.Amount = wallet.AdjustmentLimit + 1 }},
		{"amount", func(r *wallet.AdjustmentRequest) { r.Amount = -wallet.AdjustmentLimit - 1 }},
		{"amount", func(r *wallet.AdjustmentRequest) { r.Kind, r.Amount = wallet.Bonus, -1 }},
		{"reason", func(r *wallet.AdjustmentRequest) { r.Reason = " \t" }},
		{"reference", func(r *wallet.AdjustmentRequest) { r.Reference = "" }},
		{"reason", func(r *wallet.AdjustmentRequest) { r.Reason = "a\x00b" }},
		{"reason", func(r *wallet.AdjustmentRequest) { r.Reason = "a\nb" }},
		{"reason", func(r *wallet.AdjustmentRequest) { r.Reason = "\xff" }},
		{"reason", func(r *wallet.AdjustmentRequest) { r.Reason = strings.Repeat("é", 501) }},
		{"reference", func(r *wallet.AdjustmentRequest) { r.Reference = "a\x00b" }},
		{"reference", func(r *wallet.AdjustmentRequest) { r.Reference = strings.Repeat("x", 201) }},
		{"amount", func(r *wallet.AdjustmentRequest) { r.Amount = -1_01 }},
	} {
		r := good
		c.spoil(&r)
		err := f.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			_, err := wallet.Adjust(ctx, tx, r)
			return err
		})
		if e := fault.As(err); e == nil || e.Kind != fault.Invalid || e.Field != c.field {
			t.Errorf("%+v gave %v, want an invalid %s", r, err, c.field)
		}
	}
	// The pages take less at once than the command line.
	ledger := wallet.New(f.db)
	for _, amount := range []money.Pence{wallet.OperatorLimit + 1, -wallet.OperatorLimit - 1} {
		r := good
		r.Amount = amount
		_, err := ledger.Adjust(t.Context(), r)
		_, preview := ledger.PreviewAdjustment(t.Context(), r)
		for _, err := range []error{err, preview} {
			if e := fault.As(err); e == nil || e.Field != "amount" || !strings.Contains(e.Public, "£10,000.00") {
				t.Errorf("%s gave %v", amount, err)
			}
		}
	}
	if b := f.balance(org); b.Balance != 1_00 || b.Seq != 1 {
		t.Errorf("a refused adjustment moved the wallet to %s, seq %d", b.Balance, b.Seq)
	}
}

// TestReferencesStandForOneAdjustment, whatever its kind.
func TestReferencesStandForOneAdjustment(t *testing.T) {
	f := newFixture(t)
	org := wallettest.Org(t, f.db, "Harbour Dental", 0)
	ledger := wallet.New(f.db)
	good := wallet.AdjustmentRequest{OrgID: org, Kind: wallet.Adjustment, Amount: 10_00, Reason: "TICKET", Reference: "T-1", Actor: "operator:test"}
	if p, err := ledger.PreviewAdjustment(t.Context(), good); err != nil || p.Done != nil || p.Before.Balance != 0 || p.After.Balance != 10_00 {
		t.Fatalf("%+v, %v", p, err)
	}
	first, err := ledger.Adjust(t.Context(), good)
	if err != nil || first.Repeated {
		t.Fatalf("%+v, %v", first, err)
	}
	again := good
	again.Reference, again.Reason = " T-1 ", "TICKET "
	if got, err := ledger.Adjust(t.Context(), again); err != nil || got.ID != first.ID || !got.Repeated {
		t.Errorf("the same again gave %+v, %v", got, err)
	}
	if p, err := ledger.PreviewAdjustment(t.Context(), again); err != nil || p.Done == nil || p.Done.ID != first.ID || p.After.Balance != 10_00 {
		t.Errorf("%+v, %v", p, err)
	}
	for name, spoil := range map[string]func(*wallet.AdjustmentRequest){
		"amount": func(r *wallet.AdjustmentRequest) { r.Amount++ },
		"sign":   func(r *wallet.AdjustmentRequest) { r.Amount = -r.Amount },
		"kind":   func(r *wallet.AdjustmentRequest) { r.Kind = wallet.Bonus },
		"reason": func(r *wallet.AdjustmentRequest) { r.Reason = "another" },
	} {
		r := good
		spoil(&r)
		_, err := ledger.Adjust(t.Context(), r)
		_, preview := ledger.PreviewAdjustment(t.Context(), r)
		for _, err := range []error{err, preview} {
			if e := fault.As(err); e == nil || e.Kind != fault.Conflict || e.Field != "reference" || !strings.Contains(e.Public, "2 Mar 2026 for another adjustment: a credit of £10.00") {
				t.Errorf("another %s gave %v", name, err)
			}
		}
	}
	if b := f.balance(org); b.Balance != 10_00 || b.Seq != 1 {
		t.Errorf("%+v", b)
	}
}

func TestManyTakersOneBalance(t *testing.T) {
	f := newFixture(t)
	org := wallettest.Org(t, f.db, "Harbour Dental", 10_00)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 20 {
		wg.Go(func() {
			_, err := f.adjust(org, wallet.Adjustment, -4_00, fmt.Sprintf("taker %d", i))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !fault.Is(err, fault.Invalid) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if b := f.balance(org); won != 2 || b.Balance != 2_00 {
		t.Errorf("%d takers of £4.00 out of £10.00 won, £%s left; want 2 and £2.00", won, b.Balance)
	}
}

// TestBooksSeeEveryFault breaks each promise behind the program's back and expects that check, and says so, to notice.
func TestBooksSeeEveryFault(t *testing.T) {
	d := newDesk(t)
	org, other := wallettest.Org(t, d.db, "Harbour Dental", 5_00), wallettest.Org(t, d.db, "Second Tenant", 5_00)
	if _, err := d.credit(d.payment(org, "pi_1", 50_00)); err != nil {
		t.Fatal(err)
	}
	foreign := d.setPrice(wallet.PriceChange{OrgID: other, Action: wallet.ActionSMS, State: wallet.PriceOn, Unit: 5})
	for _, state := range []string{"open", "in_flight", "captured", "void", "expired"} {
		r := d.text(org, state, 10)
		h := d.authorise(r)
		switch state {
		case "in_flight":
			d.outcome("send", h, true)
		case "captured":
			d.outcome("capture 60", h, false)
		case "void":
			d.outcome("void", h, false)
		case "expired":
			d.outcome("send", d.authorise(d.text(org, "flying", 1)), true)
		}
	}
	d.clock.Advance(20 * time.Minute)
	d.expireAll()
	d.authorise(d.text(org, "open again", 3))
	for _, c := range checkBooks(t, d.url, d.clock.Now(), "") {
		elsewhere := strings.HasPrefix(c.Name, "reversals-") || strings.HasPrefix(c.Name, "withdraw") || c.Name == "days-match-ledger" // whose faults are planted where they are made
		nothing := c.Checked == 0 && !elsewhere
		if len(c.Violations) > 0 || nothing || c.Promise == "" {
			t.Errorf("before any fault, %s looked at %d and found %v", c.Name, c.Checked, c.Violations)
		}
	}

	const usage = `(SELECT id FROM ledger_transactions WHERE kind = 'usage')`
	for _, c := range []struct{ check, statement string }{
		{"postings-sum-to-zero", `UPDATE ledger_postings SET amount_pence = amount_pence + 1 WHERE amount_pence > 0`},
		{"postings-sum-to-zero", `DELETE FROM ledger_postings`},
		{"postings-have-accounts", `UPDATE ledger_postings SET account_id = 999999 WHERE amount_pence > 0`},
		{"postings-have-accounts", `UPDATE ledger_postings SET org_id = gen_random_uuid()`},
		{"wallets-match-ledger", `UPDATE wallets SET balance_pence = balance_pence + 1`},
		{"wallets-match-ledger", `UPDATE wallets SET bonus_pence = 1`},
		{"wallets-match-ledger", `UPDATE wallets SET debt_pence = 1`},
		{"organisations-have-wallets", `DELETE FROM wallets`},
		{"history-is-a-chain", `UPDATE ledger_transactions SET seq = 5 WHERE seq = 2`},
		{"history-is-a-chain", `UPDATE ledger_transactions SET balance_after_pence = 1 WHERE seq = 1`},
		{"history-is-a-chain", `UPDATE wallets SET last_seq = 9`},
		{"transactions-say-what-moved", `UPDATE ledger_transactions SET amount_pence = 3 WHERE seq = 1`},
		{"nothing-spent-that-is-not-there", `ALTER TABLE wallets DROP CONSTRAINT wallets_funds; UPDATE wallets SET held_pence = 1000000`},
		{"nothing-spent-that-is-not-there", `ALTER TABLE wallets DROP CONSTRAINT wallets_reserved_is_paid; UPDATE wallets SET bonus_pence = 200, reserved_pence = 400`},
		{"reserved-matches-withdrawals", `UPDATE wallets SET reserved_pence = 1`},
		{"closed-accounts-are-closed", `UPDATE organizations SET closed_at = now()`},
		{"closed-accounts-are-closed", `UPDATE wallets SET closed_at = now(), closed_reason = 'x'`},
		{"held-matches-holds", `UPDATE wallets SET held_pence = held_pence + 1`},
		{"held-matches-holds", `UPDATE holds SET amount_pence = amount_pence + 1 WHERE state = 'open'`},
		{"held-matches-holds", `UPDATE holds SET amount_pence = amount_pence + 1 WHERE state = 'in_flight'`},
		{"held-matches-holds", `UPDATE holds SET state = 'void', amount_pence = 0 WHERE state = 'in_flight'`},
		{"held-matches-holds", `DELETE FROM holds WHERE state = 'open'`},
		{"captured-is-charged", `UPDATE holds SET amount_pence = amount_pence + 1 WHERE state = 'captured'`},
		{"captured-is-charged", `UPDATE holds SET state = 'void', amount_pence = 0 WHERE state = 'captured'`},
		{"captured-is-charged", `UPDATE holds SET state = 'open' WHERE state = 'captured'`},
		{"captured-is-charged", `UPDATE holds SET state = 'captured' WHERE state = 'open'`},
		{"captured-is-charged", `UPDATE holds SET org_id = gen_random_uuid() WHERE state = 'captured'`},
		{"captured-is-charged", `UPDATE holds SET action = 'call' WHERE state = 'captured'`},
		{"captured-is-charged", `DELETE FROM holds WHERE state = 'captured'`},
		{"captured-is-charged", `DELETE FROM ledger_postings WHERE transaction_id IN ` + usage + `; DELETE FROM ledger_transactions WHERE id IN ` + usage},
		{"captured-is-charged", `UPDATE ledger_transactions SET kind = 'adjustment' WHERE kind = 'usage'`},
		{"captured-is-charged", `
			UPDATE ledger_postings SET account_id = (SELECT id FROM ledger_accounts WHERE name = 'revenue/call')
			WHERE account_id = (SELECT id FROM ledger_accounts WHERE name = 'revenue/sms')`},
		{"holds-end", `UPDATE holds SET expires_at = '2026-03-02 09:44:59.999999' WHERE state = 'open'`},
		{"spending-matches-holds", `UPDATE wallets SET spent_call_pence = 1`},
		{"spending-matches-holds", `UPDATE wallets SET spent_sms_pence = spent_sms_pence - 1`},
		{"spending-matches-holds", `UPDATE wallets SET spent_number_pence = 1`},
		{"spending-matches-holds", `UPDATE wallets SET spent_knowledge_pence = -1`},
		{"spending-matches-holds", `UPDATE wallets SET spent_month = '2026-02-01'`},
		{"spending-matches-holds", `UPDATE holds SET created_at = '2026-02-28 23:59:59' WHERE state = 'captured'`},
		{"spending-matches-holds", `UPDATE holds SET action = 'call' WHERE state = 'in_flight'`},
		{"holds-have-prices", `UPDATE holds SET price_id = 0`},
		{"holds-have-prices", `UPDATE holds SET rate_id = 0`},
		{"holds-have-prices", `UPDATE holds SET action = 'call' WHERE state = 'void'`},
		{"holds-have-prices", `UPDATE holds SET price_id = ` + fmt.Sprint(foreign.ID)},
		{"paid-is-credited", `DELETE FROM credits; UPDATE payments SET paid_at = '2000-01-01'`},
		{"credited-was-paid", `UPDATE credits SET amount_pence = amount_pence + 1`},
		{"credited-was-paid", `UPDATE payments SET amount_pence = amount_pence + 1`},
		{"credited-was-paid", `DELETE FROM credits`},
		{"top-ups-state-what-was-paid", `UPDATE top_ups SET paid_pence = paid_pence + 1`},
		{"top-ups-state-what-was-paid", `DELETE FROM credits`},
		{"money-is-audited", `DELETE FROM audit_log`},
		{"money-is-audited", `UPDATE audit_log SET org_id = gen_random_uuid() WHERE action = 'wallet.charged'`},
	} {
		var broken []string
		for _, check := range checkBooks(t, d.url, d.clock.Now(), c.statement) {
			if len(check.Violations) > 0 {
				broken = append(broken, check.Name)
			}
		}
		if !slices.Contains(broken, c.check) {
			t.Errorf("%q was not noticed by %s: only %v", c.statement, c.check, broken)
		}
	}
	// What is on time, and what a provider has, is no fault.
	for _, statement := range []string{
		`UPDATE holds SET expires_at = '2026-03-02 09:45' WHERE state = 'open'`,
		`UPDATE holds SET expires_at = '2000-01-01' WHERE state = 'in_flight'`,
	} {
		for _, check := range checkBooks(t, d.url, d.clock.Now(), statement) {
			if len(check.Violations) > 0 {
				t.Errorf("%q was taken for a fault by %s: %v", statement, check.Name, check.Violations)
			}
		}
	}
}

// checkBooks runs the invariants on what is left after a superuser's statement, as the role that verify has, and takes the
// statement back.
func checkBooks(t *testing.T, databaseURL string, now time.Time, statement string) []wallet.Check {
	t.Helper()
	pool, err := sqlx.ConnectContext(t.Context(), "postgres", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := tx.ExecContext(t.Context(), statement+`; SET LOCAL ROLE `+db.RoleSystem); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	checks, err := wallet.CheckBooks(t.Context(), &db.Tx{Tx: tx, Now: now})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return checks
}
