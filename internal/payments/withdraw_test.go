package payments_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

const (
	makeRefund  = "POST /v1/refunds"
	listRefunds = "GET /v1/refunds"
)

// counter is a desk at which Second Tenant, whose wallet was empty, has paid by card. Its webhooks are off: a test hands
// Stripe's events over when it wants.
type counter struct {
	*desk
	known map[string]bool // events that were handed over
}

// newCounter has the payments made and credited, in their order.
func newCounter(t *testing.T, amounts ...string) *counter {
	t.Helper()
	c := &counter{desk: newDesk(t), known: map[string]bool{}}
	c.org, c.other = c.other, c.org
	for _, amount := range amounts {
		c.press(c.start(amount), "pay")
		c.hear()
	}
	return c
}

// hear hands over what Stripe has told since, and works it.
func (c *counter) hear() {
	c.t.Helper()
	events := c.api.Events.List(&stripe.EventListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	var fresh []*stripe.Event
	for events.Next() {
		if e := events.Event(); !c.known[e.ID] {
			c.known[e.ID] = true
			fresh = append(fresh, e)
		}
	}
	if err := events.Err(); err != nil {
		c.t.Fatal(err)
	}
	slices.Reverse(fresh)
	var ids []string
	for _, e := range fresh {
		body, err := json.Marshal(map[string]any{
			"id": e.ID, "object": "event", "type": e.Type, "created": e.Created, "livemode": e.Livemode, "api_version": e.APIVersion,
			"data": map[string]any{"object": e.Data.Object},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := c.svc.Accept(c.t.Context(), body, sign(body, time.Now(), secret)); err != nil {
			c.t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	c.work(ids...)
}

// intent is the payment of an amount.
func (c *counter) intent(amount money.Pence) (id string) {
	c.t.Helper()
	dbtest.Get(c.t, c.url, &id, `SELECT payment_intent FROM credits WHERE amount_pence = $1`, amount)
	return id
}

func (c *counter) chargeOf(amount money.Pence) string {
	c.t.Helper()
	pi, err := c.api.PaymentIntents.Get(c.intent(amount), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return pi.LatestCharge.ID
}

// ask plans a withdrawal and agrees to the plan.
func (c *counter) ask(amount money.Pence) payments.WithdrawalRequest {
	c.t.Helper()
	plan, err := c.svc.PlanWithdrawal(c.t.Context(), c.org, amount)
	if err != nil {
		c.t.Fatal(err)
	}
	return payments.WithdrawalRequest{
		ID: uuid.New(), OrgID: c.org, Amount: amount, Reason: "TICKET-7: not needed any more", Parts: plan.Text(), Actor: audit.Operator(c.user),
	}
}

// withdraw makes a withdrawal, whose job is not worked yet.
func (c *counter) withdraw(amount money.Pence) payments.Withdrawal {
	c.t.Helper()
	w, err := c.svc.Withdraw(c.t.Context(), c.ask(amount))
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// payBack works the withdrawal's job.
func (c *counter) payBack(w payments.Withdrawal) {
	c.t.Helper()
	if err := c.svc.PayBack(c.t.Context(), payments.PayBackJob{OrgID: c.org, WithdrawalID: w.ID}); err != nil {
		c.t.Fatal(err)
	}
}

// purse is how a wallet stands, what was refunded at Stripe, and how the parts of withdrawals stand.
type purse struct {
	Balance, Bonus, Reserved, Debt money.Pence
	AtStripe                       money.Pence
	Parts                          string
}

func (c *counter) purse() (p purse) {
	c.t.Helper()
	dbtest.Get(c.t, c.url, &p, `
		SELECT balance_pence AS balance, bonus_pence AS bonus, reserved_pence AS reserved, debt_pence AS debt, coalesce((
		           SELECT string_agg(state || ' ' || amount_pence, ', ' ORDER BY amount_pence DESC) FROM withdrawal_parts p WHERE p.org_id = w.org_id), '') AS parts
		FROM wallets w WHERE org_id = $1`, c.org)
	p.AtStripe = money.Pence(c.box.Stripe().Books().Totals["gbp"].Refunded)
	return p
}

func (c *counter) want(what string, want purse) {
	c.t.Helper()
	if got := c.purse(); got != want {
		c.t.Errorf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

// refusal is what a plan for the amount is refused with.
func (c *counter) refusal(amount money.Pence) fault.Error {
	c.t.Helper()
	plan, err := c.svc.PlanWithdrawal(c.t.Context(), c.org, amount)
	if err == nil {
		c.t.Fatalf("a withdrawal of %s was planned: %+v", amount, plan)
	}
	return *fault.As(err)
}

// TestWithdraw: the newest payments are refunded first, each at most in full; the money is kept from being spent at once and
// leaves the wallet with the refunds; and whatever is repeated changes nothing.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "30")
	c.adjust(wallet.Bonus, 10_00, "gift")
	plan, err := c.svc.PlanWithdrawal(t.Context(), c.org, 0)
	if err != nil || plan.Paid != 80_00 || plan.Most != 80_00 || plan.Amount() != 80_00 {
		t.Errorf("all of it: %+v, %v", plan, err)
	}
	r := c.ask(45_00)
	if want := c.intent(30_00) + ":3000," + c.intent(50_00) + ":1500"; r.Parts != want {
		t.Errorf("the plan is %s, want %s", r.Parts, want)
	}
	w, err := c.svc.Withdraw(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	c.want("asked for", purse{Balance: 90_00, Bonus: 10_00, Reserved: 45_00, Parts: "open 3000, open 1500"})
	if b := c.balance(); b.Available() != 45_00 || b.Withdrawable() != 35_00 {
		t.Errorf("%s is available, %s of it withdrawable", b.Available(), b.Withdrawable())
	}
	if n := c.count(`SELECT count(*) FROM river_job WHERE kind = 'pay_back' AND args->>'withdrawal_id' = $1`, w.ID.String()); n != 1 {
		t.Errorf("%d jobs were added with it", n)
	}
	again, err := c.svc.Withdraw(t.Context(), r)
	if err != nil || again.ID != w.ID {
		t.Errorf("the same again gave %+v, %v", again, err)
	}
	other := r
	other.Amount = 1
	if _, err := c.svc.Withdraw(t.Context(), other); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same form with another amount: %v", err)
	}
	if n := c.count(`SELECT count(*) FROM withdrawals`); n != 1 {
		t.Errorf("%d withdrawals", n)
	}

	c.payBack(w)
	after := purse{Balance: 45_00, Bonus: 10_00, AtStripe: 45_00, Parts: "refunded 3000, refunded 1500"}
	c.want("refunded", after)
	c.payBack(w)
	c.hear()
	c.hear()
	c.want("once more, and told by Stripe too", after)
	if n := len(c.line.heard(makeRefund)); n != 2 {
		t.Errorf("Stripe was asked for %d refunds", n)
	}
	keys := c.line.keys(makeRefund)
	if want := "withdrawal:" + w.ID.String() + ":" + c.intent(30_00) + ":1"; len(keys) != 2 || keys[0] != want {
		t.Errorf("the keys are %v, the first wants to be %s", keys, want)
	}

	// The customer reads what became of it, and why.
	_, lines, err := wallet.New(c.db).Overview(t.Context(), c.org, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, amount := range []money.Pence{-15_00, -30_00} {
		if lines[i].Kind != wallet.Refund || lines[i].Amount != amount || lines[i].Description != "Refund to your card: TICKET-7: not needed any more" {
			t.Errorf("the history says %+v", lines[i])
		}
	}
	list, err := c.svc.Withdrawals(t.Context(), c.org, 5)
	if err != nil || len(list) != 1 || list[0].Email != "owner@harbour.example" || len(list[0].Parts) != 2 || list[0].Parts[0].RefundStatus != "succeeded" || list[0].Parts[0].CameBack() {
		t.Errorf("operators read %+v, %v", list, err)
	}
	if n := c.count(`SELECT count(*) FROM audit_log WHERE action = 'withdrawal.made' AND org_id = $1 AND actor = $2 AND reason = 'TICKET-7: not needed any more'`, c.org, string(audit.Operator(c.user))); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
	// £35.00 are left of the first payment, and nothing of the second.
	if rest := c.ask(35_00); rest.Parts != c.intent(50_00)+":3500" {
		t.Errorf("the rest would go back by %s", rest.Parts)
	}
	if f := c.refusal(35_01); f.Field != "amount" || !strings.Contains(f.Public, "Only £35.00 was paid in") {
		t.Errorf("more than is paid: %+v", f)
	}
}

func (c *counter) balance() wallet.Balance {
	c.t.Helper()
	b, _, err := wallet.New(c.db).Overview(c.t.Context(), c.org, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// TestWhatCannotBeWithdrawn: bonus, what is held, what no card has paid, what is disputed, anything while money is owed, and
// more than is left of a charge.
func TestWhatCannotBeWithdrawn(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50")
	for _, amount := range []money.Pence{-1, 50_01, 1_000_000_00} {
		if f := c.refusal(amount); f.Field != "amount" {
			t.Errorf("%s: %+v", amount, f)
		}
	}
	c.adjust(wallet.Bonus, 10_00, "gift")
	if f := c.refusal(50_01); !strings.Contains(f.Public, "Only £50.00 was paid in") {
		t.Errorf("the bonus: %+v", f)
	}
	c.hold(150) // texts of 10p: £10.00 of it bonus, £5.00 paid
	if f := c.refusal(45_01); !strings.Contains(f.Public, "Only £45.00 was paid in and is not set aside") {
		t.Errorf("what is held: %+v", f)
	}
	c.adjust(wallet.Adjustment, 100_00, "transfer")
	if f := c.refusal(50_01); !strings.Contains(f.Public, "Only £50.00 of it came from card payments") {
		t.Errorf("what came by another way: %+v", f)
	}
	plan, err := c.svc.PlanWithdrawal(t.Context(), c.org, 0)
	if err != nil || plan.Paid != 145_00 || plan.Most != 50_00 || plan.Amount() != 50_00 {
		t.Errorf("%+v, %v", plan, err)
	}
	// A refund that is under way is not there twice.
	w := c.withdraw(20_00)
	if f := c.refusal(30_01); !strings.Contains(f.Public, "Only £30.00 of it came from card payments") {
		t.Errorf("what is on its way: %+v", f)
	}
	c.payBack(w)
	if f := c.refusal(30_01); !strings.Contains(f.Public, "Only £30.00 of it came from card payments") {
		t.Errorf("what was refunded: %+v", f)
	}
	c.control("/charges/"+c.chargeOf(50_00)+"/dispute", nil)
	c.hear()
	if f := c.refusal(1); !strings.Contains(f.Public, "None of the money") {
		t.Errorf("a disputed payment: %+v", f)
	}
	plan, _ = c.svc.PlanWithdrawal(t.Context(), c.org, 0)
	if plan.Disputed != 30_00 || plan.Most != 0 {
		t.Errorf("%+v", plan)
	}

	c = newCounter(t, "20")
	c.hold(200)
	c.control("/charges/"+c.chargeOf(20_00)+"/refund", map[string][]string{"amount": {"500"}})
	c.hear() // of held money: debt
	if f := c.refusal(0); f.Kind != fault.Conflict || !strings.Contains(f.Public, "£5.00 is owed") {
		t.Errorf("in debt: %+v", f)
	}
	if _, err := c.svc.PlanWithdrawal(t.Context(), uuid.New(), 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody's: %v", err)
	}
}

// TestWithdrawalsThatChanged: who agreed to something else is asked again, and of several at once no more goes through than
// is there.
func TestWithdrawalsThatChanged(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50")
	r := c.ask(40_00)
	c.press(c.start("25"), "pay")
	c.hear()
	_, err := c.svc.Withdraw(t.Context(), r)
	changed, ok := errors.AsType[*payments.PlanChangedError](err)
	if !ok || changed.Now.Text() != c.intent(25_00)+":2500,"+c.intent(50_00)+":1500" {
		t.Errorf("a payment later: %v", err)
	}
	for field, spoil := range map[string]func(*payments.WithdrawalRequest){
		"reason": func(r *payments.WithdrawalRequest) { r.Reason = "a\x00b" },
		"amount": func(r *payments.WithdrawalRequest) { r.Amount = 0 },
	} {
		r := c.ask(40_00)
		spoil(&r)
		if _, err := c.svc.Withdraw(t.Context(), r); fault.As(err).Field != field {
			t.Errorf("a spoilt %s: %v", field, err)
		}
	}
	c.want("nothing was done", purse{Balance: 75_00})

	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	r = c.ask(30_00)
	for range 8 {
		wg.Go(func() {
			r := r
			r.ID = uuid.New()
			_, err := c.svc.Withdraw(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if _, changed := errors.AsType[*payments.PlanChangedError](err); !changed && !fault.Is(err, fault.Invalid) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 { // the next would go another way
		t.Errorf("%d withdrawals of one plan went through", won)
	}
	dbtest.Super(t, c.url, `UPDATE withdrawal_parts SET next_attempt_at = '2999-01-01'`)

	mine := c.org
	taken := c.withdraw(1_00)
	c.org = c.other
	dbtest.Super(t, c.url, `UPDATE withdrawal_parts SET next_attempt_at = '2999-01-01'`)
	if _, err := c.svc.Withdraw(t.Context(), payments.WithdrawalRequest{ID: taken.ID, OrgID: c.other, Amount: 1, Reason: "x", Actor: "operator:x"}); err == nil {
		t.Error("another organisation's withdrawal was taken for this one's")
	}
	c.org = mine
}

// TestStripeAndWithdrawals: whatever Stripe does with the question, and whether or not its answer arrives, there is one
// refund of each part in the end, and the wallet has paid for it once.
func TestStripeAndWithdrawals(t *testing.T) {
	t.Parallel()
	done := purse{Balance: 20_00, AtStripe: 30_00, Parts: "refunded 3000"}
	for _, s := range []struct {
		name   string
		faults []sandbox.Fault
		lose   string
		// first is how it stands after the first try; the zero value is done.
		first purse
		keys  int // how many idempotency keys were used
	}{
		{name: "500", faults: []sandbox.Fault{{Match: makeRefund, Do: sandbox.Fault500, Times: 2}}, keys: 2},
		{name: "500, but it happened", faults: []sandbox.Fault{{Match: makeRefund, Do: sandbox.Fault500AfterActing}}, keys: 1},
		{name: "503", faults: []sandbox.Fault{{Match: makeRefund, Do: sandbox.Fault503, Times: 2}}, keys: 1},
		{name: "429", faults: []sandbox.Fault{{Match: makeRefund, Do: sandbox.Fault429, Times: 2}}, keys: 1},
		{name: "the answer is lost", lose: makeRefund, keys: 1},
		{name: "the list is not to be had", faults: []sandbox.Fault{{Match: listRefunds, Do: sandbox.Fault503, Times: 2}}, keys: 1},
		{name: "the payment is not to be had", faults: []sandbox.Fault{{Match: "GET /v1/payment_intents/*", Do: sandbox.Fault503, Times: 2}}, keys: 1},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := newCounter(t, "50")
			w := c.withdraw(30_00)
			c.faults(s.faults...)
			c.line.losing(s.lose)
			c.payBack(w)
			if got := c.purse(); got.Balance != 50_00 || got.Reserved != 30_00 || got.Parts != "open 3000" {
				t.Errorf("after the first try: %+v", got)
			}
			c.faults()
			c.line.losing("")
			c.payBack(w) // too soon
			if n := len(c.line.keys(makeRefund)); n > 1 {
				t.Errorf("Stripe was asked again at once: %d", n)
			}
			c.clock.Advance(time.Minute)
			c.payBack(w)
			var waiting []string // an event that Stripe could not be asked about has a job of its own
			dbtest.Select(t, c.url, &waiting, `SELECT id FROM stripe_events WHERE state = 'received'`)
			c.work(waiting...)
			c.want("in the end", done)
			c.hear()
			c.want("told by Stripe too", done)
			if n := len(c.line.keys(makeRefund)); n != s.keys {
				t.Errorf("%d keys were used, want %d: %v", n, s.keys, c.line.keys(makeRefund))
			}
		})
	}
}

// TestWithdrawalsAfterCrashes: whoever dies, at whatever moment, leaves something that another one ends.
func TestWithdrawalsAfterCrashes(t *testing.T) {
	t.Parallel()
	// made is the refund that somebody asked for who died before booking it.
	made := func(c *counter, w payments.Withdrawal) string {
		t.Helper()
		r, err := c.api.Refunds.New(&stripe.RefundParams{
			PaymentIntent: new(c.intent(50_00)), Amount: stripe.Int64(30_00), Metadata: map[string]string{"withdrawal_id": w.ID.String()},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	done := purse{Balance: 20_00, AtStripe: 30_00, Parts: "refunded 3000"}
	for _, s := range []struct {
		name string
		// crash happens after the withdrawal was committed.
		crash func(c *counter, w payments.Withdrawal)
		want  purse
		asked int // for refunds, by us
	}{
		{"before anything", func(*counter, payments.Withdrawal) {}, done, 1},
		{"when the part was taken on", func(c *counter, _ payments.Withdrawal) {
			dbtest.Super(c.t, c.url, `UPDATE withdrawal_parts SET next_attempt_at = $1`, c.clock.Now().Add(2*time.Minute))
		}, done, 1},
		{"when Stripe had acted", func(c *counter, w payments.Withdrawal) { made(c, w) }, done, 0},
		{"when Stripe had acted, and told", func(c *counter, w payments.Withdrawal) { made(c, w); c.hear() }, done, 0},
		{"when Stripe had acted, and the refund failed", func(c *counter, w payments.Withdrawal) {
			c.control("/refunds/"+made(c, w)+"/fail", nil)
		}, purse{Balance: 50_00, Parts: "refused 3000"}, 0},
		{"when Stripe had acted, the refund failed, and it told", func(c *counter, w payments.Withdrawal) {
			c.control("/refunds/"+made(c, w)+"/fail", nil)
			c.hear()
		}, purse{Balance: 50_00, Parts: "refused 3000"}, 0},
		{"when the event was stored", func(c *counter, w payments.Withdrawal) {
			c.faults(sandbox.Fault{Match: "GET /v1/payment_intents/*", Do: sandbox.Fault503, Times: -1})
			c.payBack(w)
			c.faults()
			var id string
			dbtest.Get(c.t, c.url, &id, `SELECT id FROM stripe_events WHERE id LIKE 'withdrawn\_re\_%' AND state = 'received'`)
			c.work(id)
		}, done, 1},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := newCounter(t, "50")
			w := c.withdraw(30_00)
			s.crash(c, w)
			for range 12 { // of a minute
				c.clock.Advance(15 * time.Second)
				n, err := c.svc.SweepWithdrawals(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n > 0 { // its job
					c.payBack(w)
				}
			}
			c.want("in the end", s.want)
			c.hear()
			c.want("told by Stripe too", s.want)
			if n := len(c.line.keys(makeRefund)); n != s.asked {
				t.Errorf("Stripe was asked for %d refunds, want %d", n, s.asked)
			}
			if n, err := c.svc.SweepWithdrawals(t.Context()); n != 0 || err != nil {
				t.Errorf("there is still something to sweep: %d, %v", n, err)
			}
		})
	}
}

// TestWorkersOnOneWithdrawal: any number of them make one refund of each part.
func TestWorkersOnOneWithdrawal(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "30", "20")
	w := c.withdraw(95_00)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { c.payBack(w) })
	}
	wg.Wait()
	c.payBack(w)
	got := c.purse()
	if got.Parts = ""; got != (purse{Balance: 5_00, AtStripe: 95_00}) {
		t.Errorf("%+v", got)
	}
	if n := len(c.line.heard(makeRefund)); n != 3 {
		t.Errorf("Stripe was asked for %d refunds", n)
	}
}

// TestStripeRefusesRefunds: what Stripe does not refund is said, and the money is the wallet's again. What was taken in another way
// meanwhile has left no debt where there is money.
func TestStripeRefusesRefunds(t *testing.T) {
	t.Parallel()
	note := func(c *counter) (text string) {
		dbtest.Get(t, c.url, &text, `SELECT note FROM withdrawal_parts WHERE state = 'refused'`)
		return text
	}
	t.Run("a disputed payment", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t, "50", "20")
		w := c.withdraw(60_00)
		c.control("/charges/"+c.chargeOf(20_00)+"/dispute", nil) // of which we have not heard
		c.payBack(w)
		c.want("one of the two", purse{Balance: 30_00, AtStripe: 40_00, Parts: "refunded 4000, refused 2000"})
		if got := note(c); !strings.Contains(got, "charged back") {
			t.Errorf("the reason is %q", got)
		}
		c.hear()
		c.want("the dispute", purse{Balance: 10_00, AtStripe: 40_00, Parts: "refunded 4000, refused 2000"})
	})
	for _, told := range []string{"before", "after"} {
		t.Run("a payment that was refunded elsewhere, told "+told, func(t *testing.T) {
			t.Parallel()
			c := newCounter(t, "50")
			w := c.withdraw(50_00)
			c.control("/charges/"+c.chargeOf(50_00)+"/refund", map[string][]string{"amount": {"3000"}})
			if told == "before" {
				c.hear() // all is reserved, so it becomes debt at first
				c.want("heard of", purse{Balance: 50_00, Reserved: 50_00, Debt: 30_00, AtStripe: 30_00, Parts: "open 5000"})
			}
			c.payBack(w)
			if got := note(c); got != "Only £20.00 of this payment is left to refund." {
				t.Errorf("the reason is %q", got)
			}
			c.hear()
			c.want("in the end", purse{Balance: 20_00, AtStripe: 30_00, Parts: "refused 5000"})
			if n := len(c.line.heard(makeRefund)); n != 0 {
				t.Errorf("Stripe was asked for %d refunds larger than what is left", n)
			}
		})
	}
	t.Run("a refund that fails later", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t, "50")
		w := c.withdraw(30_00)
		c.payBack(w)
		var refund string
		dbtest.Get(t, c.url, &refund, `SELECT refund_id FROM withdrawal_parts`)
		c.control("/refunds/"+refund+"/fail", nil)
		c.hear()
		c.want("came back", purse{Balance: 50_00, Parts: "refunded 3000"})
		list, err := c.svc.Withdrawals(t.Context(), c.org, 1)
		if err != nil || !list[0].Parts[0].CameBack() {
			t.Errorf("%+v, %v", list, err)
		}
		c.payBack(c.withdraw(50_00)) // and can go again
		c.want("gone again", purse{AtStripe: 50_00, Parts: "refunded 5000, refunded 3000"})
	})
}

// TestNoRefundLargerThanItsCharge: not by a plan, not by a row that is wrong, and not by Stripe.
func TestNoRefundLargerThanItsCharge(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "20")
	plan, err := c.svc.PlanWithdrawal(t.Context(), c.org, 70_00)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plan.Parts {
		if p.Amount > p.Left || p.Left > p.Charge {
			t.Errorf("%+v", p)
		}
	}
	// A part that somebody has made too large is noticed by verify, and refused before Stripe is asked for it.
	w := c.withdraw(20_00)
	dbtest.Super(t, c.url, `UPDATE withdrawal_parts SET amount_pence = 2001`)
	dbtest.Super(t, c.url, `UPDATE withdrawals SET amount_pence = 2001`)
	dbtest.Super(t, c.url, `UPDATE wallets SET reserved_pence = 2001 WHERE org_id = $1`, c.org)
	if broken := c.broken(`SELECT`); !slices.Contains(broken, "withdrawn-within-charges") {
		t.Errorf("verify notices %v", broken)
	}
	c.payBack(w)
	c.want("refused", purse{Balance: 70_00, Parts: "refused 2001"})
	if n := len(c.line.heard(makeRefund)); n != 0 {
		t.Errorf("Stripe was asked %d times", n)
	}
}

// broken names the checks that fail after a superuser's statement, which is taken back.
func (c *counter) broken(statement string) (names []string) {
	c.t.Helper()
	pool, err := sqlx.ConnectContext(c.t.Context(), "postgres", c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.BeginTxx(c.t.Context(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(c.t.Context(), statement+`; SET LOCAL ROLE `+db.RoleSystem); err != nil {
		c.t.Fatalf("%s: %v", statement, err)
	}
	checks, err := wallet.CheckBooks(c.t.Context(), &db.Tx{Tx: tx, Now: c.clock.Now()})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, check := range checks {
		if len(check.Violations) > 0 {
			names = append(names, check.Name)
		}
	}
	return names
}

// TestInvariantsOfWithdrawals plants what no code of ours writes, and has the checks name it.
func TestInvariantsOfWithdrawals(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "20")
	c.payBack(c.withdraw(25_00))
	w := c.withdraw(10_00)
	if broken := c.broken(`SELECT`); broken != nil {
		t.Errorf("before any fault: %v", broken)
	}
	for _, p := range []struct{ check, damage string }{
		{"reserved-matches-withdrawals", `UPDATE wallets SET reserved_pence = reserved_pence + 1 WHERE reserved_pence > 0`},
		{"reserved-matches-withdrawals", `UPDATE withdrawal_parts SET state = 'refused' WHERE state = 'open'`},
		{"withdrawals-are-their-parts", `UPDATE withdrawals SET amount_pence = amount_pence + 1`},
		{"withdrawals-are-their-parts", `DELETE FROM withdrawal_parts`},
		{"withdrawals-are-their-parts", `UPDATE withdrawal_parts SET org_id = gen_random_uuid()`},
		{"withdrawn-is-refunded", `UPDATE withdrawal_parts SET refund_id = 're_none' || amount_pence WHERE state = 'refunded'`},
		{"withdrawn-is-refunded", `UPDATE refunds SET amount_pence = amount_pence - 1`},
		{"withdrawn-is-refunded", `UPDATE refunds SET payment_intent = (SELECT min(payment_intent) FROM credits)`},
		{"withdrawn-within-charges", `UPDATE withdrawal_parts SET amount_pence = 5001`},
		{"withdrawals-go-on", `UPDATE withdrawal_parts SET next_attempt_at = '2026-03-02 09:19'`},
	} {
		if broken := c.broken(p.damage); !slices.Contains(broken, p.check) {
			t.Errorf("%q was not noticed by %s: only %v", p.damage, p.check, broken)
		}
	}
	c.payBack(w)
}

// TestWithdrawalsLive runs one with the workers and the webhooks of a real day.
func TestWithdrawalsLive(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	l.press(l.start("50.00"), "pay")
	l.press(l.start("30.00"), "pay")
	l.until("the credits", func() bool { return l.count(`SELECT count(*) FROM credits`) == 2 })
	plan, err := l.svc.PlanWithdrawal(t.Context(), l.org, 60_00)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.svc.Withdraw(t.Context(), payments.WithdrawalRequest{
		ID: uuid.New(), OrgID: l.org, Amount: 60_00, Reason: "asked for", Parts: plan.Text(), Actor: "operator:test",
	}); err != nil {
		t.Fatal(err)
	}
	l.until("the refunds", func() bool { return l.count(`SELECT count(*) FROM withdrawal_parts WHERE state = 'refunded'`) == 2 })
	l.reversed()
	if got := l.stands(); got.Balance != 589_00 || got.Refunded != 60_00 || got.Debt != 0 {
		t.Errorf("%+v", got)
	}
}

// TestManyPayments: one withdrawal goes back over so many payments and no more, and says how far that goes.
func TestManyPayments(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := &counter{desk: &desk{fixture: f}}
	for i := range 55 {
		top, intent := f.topUp(f.org, 5_00), fmt.Sprintf("pi_%02d", i)
		f.accept(event{id: "evt_" + intent, kind: "payment_intent.succeeded", topUp: top, intent: intent, amount: 5_00})
		f.work("evt_" + intent)
	}
	if got := c.refusal(251_00); !strings.Contains(got.Public, "at most 50 payments, which come to £250.00") {
		t.Errorf("%+v", got)
	}
	plan, err := f.svc.PlanWithdrawal(t.Context(), f.org, 250_00)
	if err != nil || len(plan.Parts) != 50 || plan.Parts[0].PaymentIntent != "pi_54" || plan.Most != 275_00 {
		t.Errorf("%d parts from %s, %v", len(plan.Parts), plan.Parts[0].PaymentIntent, err)
	}
	wallettest.CheckBooks(t, f.db)
}

// TestOthersWithdrawals: an organisation's transaction sees none of another's.
func TestOthersWithdrawals(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50")
	w := c.withdraw(30_00)
	c.payBack(payments.Withdrawal{ID: w.ID}) // as Second Tenant
	err := c.db.InTx(t.Context(), []uuid.UUID{c.other}, func(ctx context.Context, tx *db.Tx) error {
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT (SELECT count(*) FROM withdrawals) + (SELECT count(*) FROM withdrawal_parts)`); err != nil || n != 0 {
			t.Errorf("%d rows are seen, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNobodyWaitsForStripeTwice: where it does not answer at all, the other parts keep for a later round.
func TestNobodyWaitsForStripeTwice(t *testing.T) {
	t.Parallel()
	c := newCounter(t, "50", "30", "20")
	w := c.withdraw(95_00)
	before := len(c.line.heard(listRefunds))
	c.line.losing(listRefunds)
	c.payBack(w)
	// For one part the client asks twice by itself, and its transport may repeat each on another connection.
	if n := len(c.line.heard(listRefunds)) - before; n > 4 {
		t.Errorf("Stripe was asked %d times", n)
	}
	c.line.losing("")
	c.clock.Advance(time.Minute)
	c.payBack(w)
	c.want("in the end", purse{Balance: 5_00, AtStripe: 95_00, Parts: "refunded 4500, refunded 3000, refunded 2000"})
}
