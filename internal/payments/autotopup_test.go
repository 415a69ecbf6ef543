package payments_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

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
	makeIntent = "POST /v1/payment_intents"
	listIntent = "GET /v1/payment_intents"
)

// Test cards of Stripe's (https://docs.stripe.com/testing) that can be charged without ever having been entered.
const (
	goodCard     = "pm_card_visa"
	declining    = "pm_card_chargeDeclined"
	withoutFunds = "pm_card_chargeDeclinedInsufficientFunds"
	asksForOwner = "pm_card_authenticationRequired"
)

// usual is what the tests' owner allows: £50.00 below £5.00, twice a day, ten times a month.
var usual = payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 500_00}

// auto is a desk whose organisation, Second Tenant, has an empty wallet, a saved card and automatic top-ups turned on. Its
// clock and Stripe's are one, and stand still unless they are moved. No webhook comes: see credited.
type auto struct {
	*desk
}

func newAuto(t *testing.T, card string) *auto {
	t.Helper()
	var clock atomic.Pointer[dbtest.Clock]
	clock.Store(&dbtest.Clock{})
	d := &auto{newDesk(t, func(o *sandbox.Options) { o.Now = func() time.Time { return clock.Load().Now() } })}
	clock.Store(d.clock)
	d.org, d.other = d.other, d.org
	d.svc = d.process()
	made, err := d.api.Customers.New(&stripe.CustomerParams{Name: new("Second Tenant")})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, d.url, `INSERT INTO stripe_customers VALUES ($1, $2, now())`, d.org, made.ID)
	dbtest.Super(t, d.url, `UPDATE organizations SET created_at = $1`, dbtest.Start.Add(-365*24*time.Hour))
	t.Cleanup(func() { wallettest.CheckBooks(t, d.db, payments.Invariants...) })
	if card != "" {
		d.save(card)
		d.turnOn(usual)
	}
	return d
}

// process is the service as another process would have it.
func (d *auto) process() *payments.Service {
	d.t.Helper()
	return d.service(d.onLine, func(o *payments.Options) { o.Now = d.clock.Now })
}

// save plants a saved card.
func (d *auto) save(card string) {
	d.t.Helper()
	dbtest.Super(d.t, d.url, `UPDATE saved_cards SET removed_at = $1, removed_why = 'test', detached_at = $1 WHERE removed_at IS NULL`, d.clock.Now())
	dbtest.Super(d.t, d.url, `
		INSERT INTO saved_cards (payment_method, org_id, brand, last4, exp_month, exp_year, consented_by, consented_at, consent, created_at)
		VALUES ($1, $2, 'visa', '4242', 12, 2031, $3, $4, 'I agree.', $4)`, card, d.org, d.user, d.clock.Now())
}

func (d *auto) turnOn(set payments.AutoTopUpSettings) {
	d.t.Helper()
	if err := d.svc.TurnOnAutoTopUp(d.t.Context(), payments.AutoTopUpChange{OrgID: d.org, UserID: d.user, Settings: set, Consent: set.Words()}); err != nil {
		d.t.Fatal(err)
	}
}

// round makes one round and gives how many top-ups it began; what could not be done is for a later round.
func (d *auto) round() int {
	d.t.Helper()
	n, err := d.svc.TopUpAutomatically(d.t.Context())
	if err != nil {
		d.t.Logf("a round: %v", err)
	}
	return n
}

// later moves the clock and makes a round.
func (d *auto) later(by time.Duration) int {
	d.t.Helper()
	d.clock.Advance(by)
	return d.round()
}

// credited has reconciliation find what Stripe has received, as it does where webhooks do not come, and gives the balance.
func (d *auto) credited() money.Pence {
	d.t.Helper()
	now := d.clock.Now()
	if _, err := d.svc.Reconcile(d.t.Context(), payments.Span{Kind: payments.ReconcileManual, Since: now.Add(-10 * 24 * time.Hour), Until: now.Add(time.Hour)}); err != nil {
		d.t.Fatal(err)
	}
	return d.balance()
}

func (d *auto) balance() (b money.Pence) {
	d.t.Helper()
	dbtest.Get(d.t, d.url, &b, `SELECT balance_pence FROM wallets WHERE org_id = $1`, d.org)
	return b
}

// spend takes money out of the wallet.
func (d *auto) spend(amount money.Pence) {
	d.t.Helper()
	d.adjust(wallet.Adjustment, -amount, uuid.NewString())
}

// now is how automatic top-ups stand.
func (d *auto) now() payments.AutoTopUp {
	d.t.Helper()
	v, err := d.svc.AutoTopUp(d.t.Context(), d.org, 50)
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

// stand checks the state.
func (d *auto) stand(what string, want payments.AutoTopUpState) {
	d.t.Helper()
	if v := d.now(); v.State != want {
		d.t.Errorf("%s: automatic top-ups are %s (%s), want %s", what, v.State, v.Reason, want)
	}
}

// states are those of the automatic top-ups, oldest first.
func (d *auto) states() (list []string) {
	d.t.Helper()
	dbtest.Select(d.t, d.url, &list, `SELECT state::text FROM top_ups WHERE automatic ORDER BY created_at, id`)
	return list
}

// received is how often, and how much, Stripe was paid by the organisation.
func (d *auto) received() (payments int, pence int64) {
	d.t.Helper()
	for _, p := range d.box.Stripe().Books().Payments {
		if p.AmountReceived > 0 {
			payments++
			pence += p.AmountReceived
		}
	}
	return payments, pence
}

// charged checks how often the card was charged £50.00.
func (d *auto) charged(what string, want int) {
	d.t.Helper()
	if n, pence := d.received(); n != want || pence != int64(want)*50_00 {
		d.t.Errorf("%s: Stripe received %d payments of %dp in all, want %d of £50.00", what, n, pence, want)
	}
}

// intents are the statuses of all PaymentIntents, in no order.
func (d *auto) intents() (list []string) {
	for _, p := range d.box.Stripe().Books().Payments {
		list = append(list, p.Status)
	}
	slices.Sort(list)
	return list
}

// told are the notices of a kind: their figures, oldest first.
func (d *auto) told(kind string) (list []string) {
	d.t.Helper()
	dbtest.Select(d.t, d.url, &list, `SELECT data::text FROM notices WHERE org_id = $1 AND kind = $2 ORDER BY raised_at, id`, d.org, kind)
	return list
}

// TestAutomaticTopUp is the whole way: a low wallet, a charge of exactly what was allowed, the credit by the usual way, and
// peace until the wallet is low again, on the same day too.
func TestAutomaticTopUp(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	if n := d.round(); n != 1 {
		t.Fatalf("%d top-ups were begun, want one", n)
	}
	d.charged("the first round", 1)
	if got := d.states(); !slices.Equal(got, []string{"processing"}) || d.balance() != 0 {
		t.Errorf("before the payment's event the top-up is %v and the balance %s: there is one way for money to come in", got, d.balance())
	}
	top := d.now().Recent[0]
	if !top.Automatic || top.Amount != 50_00 || top.USD != 63_29 || top.UserID != d.user || top.Attempt != 1 {
		t.Errorf("the top-up is %+v", top)
	}
	var customer string
	dbtest.Get(t, d.url, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, d.org)
	want := url.Values{
		"amount": {"5000"}, "currency": {"gbp"}, "customer": {customer}, "payment_method": {goodCard}, "payment_method_types[0]": {"card"},
		"confirm": {"true"}, "off_session": {"true"}, "description": {"Automatic wallet top-up"},
		"metadata[top_up_id]": {top.ID.String()}, "metadata[org_id]": {d.org.String()}, "metadata[automatic]": {"true"},
	}
	asked := d.line.heard(makeIntent)
	if len(asked) != 1 || !maps.EqualFunc(asked[0].form, want, slices.Equal) || asked[0].key != "autotopup:"+top.ID.String()+":1" {
		t.Errorf("Stripe was asked %+v\nwant %v", asked, want)
	}
	if d.round() != 0 || d.later(time.Minute) != 0 {
		t.Error("another one was begun while one is in flight")
	}
	if got := d.credited(); got != 50_00 {
		t.Errorf("the balance is %s", got)
	}
	if d.round() != 0 || d.later(time.Hour) != 0 {
		t.Error("another one was begun though the wallet is full")
	}
	d.spend(45_00)
	if d.round() != 0 {
		t.Error("£5.00 is not below £5.00")
	}
	d.spend(1)
	if d.round() != 1 || d.credited() != 54_99 {
		t.Errorf("the second one of a day: the balance is %s", d.balance())
	}
	d.charged("two on one day", 2)
	if keys := d.line.keys(makeIntent); len(keys) != 2 {
		t.Errorf("the keys are %v", keys)
	}
	if got := d.states(); !slices.Equal(got, []string{"paid", "paid"}) {
		t.Errorf("the top-ups are %v", got)
	}
	if got := d.told("topup_succeeded"); len(got) != 2 || !strings.Contains(got[0], `"amount_pence": 5000`) || !strings.Contains(got[0], `"automatic": true`) {
		t.Errorf("the organisation is told %v", got)
	}
	if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'topup.started' AND actor = 'system:autotopup' AND detail ->> 'consent' = $1`, usual.Words()); n != 2 {
		t.Errorf("%d audit rows name the words by which it was allowed, want 2", n)
	}
	if v := d.now(); v.State != payments.AutoReady || v.Today != 100_00 || v.ThisMonth != 100_00 || v.Card == nil || v.Card.Last4 != "4242" {
		t.Errorf("it stands as %+v", v)
	}
}

// TestAutomaticTopUpsRace: however many processes see the same low wallet at once, one charge comes of it.
func TestAutomaticTopUpsRace(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	processes := []*payments.Service{d.svc, d.process(), d.process()}
	d.faults(sandbox.Fault{Match: makeIntent, Do: sandbox.FaultDelay, MS: 300, Times: -1}) // so that they meet
	var all errgroup.Group
	var begun atomic.Int64
	for i := range 24 {
		all.Go(func() error {
			n, err := processes[i%len(processes)].TopUpAutomatically(context.Background())
			begun.Add(int64(n))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if begun.Load() != 1 {
		t.Errorf("%d were begun", begun.Load())
	}
	d.charged("24 rounds at once", 1)
	if n := len(d.line.heard(makeIntent)); n != 1 {
		t.Errorf("Stripe was asked %d times", n)
	}
	if got := d.credited(); got != 50_00 {
		t.Errorf("the balance is %s", got)
	}
}

// TestAutomaticTopUpsFail: whatever Stripe does while the card is charged, it is charged once. The key is the same where
// nobody knows whether Stripe acted, and never where Stripe would replay a 500; and what Stripe has is looked for first.
func TestAutomaticTopUpsFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rule sandbox.Fault
		lose string
		keys int // with how many keys the card was charged in the end
	}{
		{name: "500", rule: sandbox.Fault{Match: makeIntent, Do: sandbox.Fault500}, keys: 2},
		{name: "500 after acting", rule: sandbox.Fault{Match: makeIntent, Do: sandbox.Fault500AfterActing}, keys: 1},
		{name: "503", rule: sandbox.Fault{Match: makeIntent, Do: sandbox.Fault503, Times: -1}, keys: 2},
		{name: "429", rule: sandbox.Fault{Match: makeIntent, Do: sandbox.Fault429, Times: -1}, keys: 1},
		{name: "no answer", rule: sandbox.Fault{Match: makeIntent, Do: sandbox.FaultTimeout, MS: 10, Times: -1}, keys: 1},
		{name: "no answer after acting", lose: makeIntent, keys: 1},
		{name: "no list", rule: sandbox.Fault{Match: listIntent, Do: sandbox.Fault503, Times: -1}, keys: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, goodCard)
			if c.rule.Do != "" {
				d.faults(c.rule)
			}
			d.line.losing(c.lose)
			d.round()
			if got := d.states(); !slices.Equal(got, []string{"creating"}) {
				t.Errorf("after the failure the top-ups are %v", got)
			}
			before := len(d.line.heard("*"))
			d.later(29 * time.Second)
			if n := len(d.line.heard("*")); n != before {
				t.Error("Stripe was asked again at once")
			}
			d.faults()
			d.line.losing("")
			d.later(2 * time.Second)
			if got := d.states(); !slices.Equal(got, []string{"processing"}) {
				t.Errorf("after the next round the top-ups are %v", got)
			}
			d.charged("in the end", 1)
			if got := d.credited(); got != 50_00 {
				t.Errorf("the balance is %s", got)
			}
			d.later(time.Hour)
			d.charged("an hour later", 1)
			top := d.now().Recent[0]
			var keys []string
			for i := range c.keys {
				keys = append(keys, fmt.Sprintf("autotopup:%s:%d", top.ID, i+1))
			}
			if got := d.line.keys(makeIntent); !slices.Equal(got, keys) {
				t.Errorf("the keys are %v, want %v", got, keys)
			}
		})
	}
}

// plant leaves an automatic top-up as a process would that died: asked says when it began to ask Stripe, if it did.
func (d *auto) plant(asked *time.Time) uuid.UUID {
	d.t.Helper()
	id := uuid.Must(uuid.NewV7())
	dbtest.Super(d.t, d.url, `
		INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, automatic, consent, payment_method, asked_at, created_at, updated_at)
		SELECT $1, a.org_id, a.consented_by, a.amount_pence, 0, (SELECT max(id) FROM exchange_rates), 'creating', true, a.consent, c.payment_method, $2, $3, $3
		FROM auto_top_ups a JOIN saved_cards c ON c.org_id = a.org_id AND c.removed_at IS NULL WHERE a.org_id = $4`, id, asked, d.clock.Now(), d.org)
	return id
}

// TestAutomaticTopUpIsResumed: a process that dies between its commit and its question, or with the answer in its hand, is
// followed by another one that charges once.
func TestAutomaticTopUpIsResumed(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]bool{"died before it asked": false, "died while it asked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, goodCard)
			var at *time.Time
			if asked {
				now := d.clock.Now()
				at = &now
			}
			id := d.plant(at)
			if asked {
				d.round()
				d.charged("while another process has it in hand", 0)
				d.clock.Advance(31 * time.Second)
			}
			if n := d.round(); n != 0 {
				t.Errorf("%d more were begun", n)
			}
			d.charged("resumed", 1)
			if got := d.now().Recent; len(got) != 1 || got[0].ID != id || got[0].State != payments.Processing {
				t.Errorf("the top-ups are %+v", got)
			}
			if d.credited() != 50_00 {
				t.Errorf("the balance is %s", d.balance())
			}
		})
	}
}

// TestDeclines: after a decline there is peace for an hour, then six; the third in a row stops it. Each PaymentIntent is
// cancelled, so that nobody can confirm it later.
func TestDeclines(t *testing.T) {
	t.Parallel()
	d := newAuto(t, withoutFunds)
	if d.round() != 1 {
		t.Fatal("nothing was begun")
	}
	v := d.now()
	if v.State != payments.AutoCoolingDown || !v.Until.Equal(d.clock.Now().Add(time.Hour)) || v.Reason != "The saved card was declined: not enough money on it." {
		t.Errorf("after a decline: %+v", v)
	}
	if got := v.Recent[0]; got.State != payments.Failed || got.Note != v.Reason+" Nothing was charged." {
		t.Errorf("the top-up is %+v", got)
	}
	if d.later(59*time.Minute) != 0 {
		t.Error("tried again within the hour")
	}
	if d.later(2*time.Minute) != 1 {
		t.Error("not tried again after the hour")
	}
	if v = d.now(); v.State != payments.AutoCoolingDown || !v.Until.Equal(d.clock.Now().Add(6*time.Hour)) {
		t.Errorf("after the second: %+v", v)
	}
	if d.later(6*time.Hour-time.Minute) != 0 || d.later(2*time.Minute) != 1 {
		t.Error("the second pause is not six hours")
	}
	d.stand("after the third", payments.AutoStopped)
	if v = d.now(); v.Reason != "The saved card was declined 3 times in a row." {
		t.Errorf("the reason is %q", v.Reason)
	}
	if d.later(1000*time.Hour) != 0 {
		t.Error("it went on")
	}
	if got := d.intents(); !slices.Equal(got, []string{"canceled", "canceled", "canceled"}) {
		t.Errorf("Stripe has payments %v", got)
	}
	if got := d.told("card_attention"); len(got) != 2 || !strings.Contains(got[0], `"last4": "4242"`) || !strings.Contains(got[0], `"until"`) {
		t.Errorf("told of the declines: %v", got)
	}
	if got := d.told("autotopup_ended"); len(got) != 1 || !strings.Contains(got[0], "3 times in a row") {
		t.Errorf("told of the end: %v", got)
	}
	// Its owner may turn it on again, and begins anew.
	d.turnOn(usual)
	d.stand("turned on again", payments.AutoReady)
	if d.round() != 1 {
		t.Error("nothing was begun")
	}
	d.stand("declined again", payments.AutoCoolingDown)
}

// TestDeclinesInARow: what goes through ends the row, and settings that are changed do not end a pause.
func TestDeclinesInARow(t *testing.T) {
	t.Parallel()
	d := newAuto(t, declining)
	d.round()
	d.later(61 * time.Minute)
	d.stand("two declines", payments.AutoCoolingDown)
	d.turnOn(payments.AutoTopUpSettings{Threshold: 6_00, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 500_00})
	d.stand("other settings", payments.AutoCoolingDown)
	if d.round() != 0 {
		t.Error("a change of the settings ended the pause")
	}
	d.save(goodCard) // planted: nobody was there to end the pause
	d.later(6*time.Hour + time.Minute)
	d.stand("gone through", payments.AutoReady)
	d.credited()
	d.charged("gone through", 1)
	d.spend(50_00)
	d.save(withoutFunds)
	d.later(24 * time.Hour)
	if v := d.now(); v.State != payments.AutoCoolingDown || !v.Until.Equal(d.clock.Now().Add(time.Hour)) {
		t.Errorf("the first decline after a success: %+v", v)
	}
}

// TestCaps: no more is charged in a day and in a month, both in UTC, than was allowed.
func TestCaps(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	d.turnOn(payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 149_99, MonthlyCap: 249_99})
	empty := func() {
		d.credited()
		d.spend(d.balance())
	}
	for range 2 {
		if d.round() != 1 {
			t.Fatal("nothing was begun below the cap")
		}
		empty()
	}
	if d.round() != 0 {
		t.Error("the daily cap did not hold")
	}
	d.clock.Advance(24 * time.Hour) // 3 March
	for range 2 {
		if d.round() != 1 {
			t.Fatal("nothing was begun on the next day")
		}
		empty()
	}
	if d.later(24*time.Hour) != 0 {
		t.Error("the monthly cap did not hold")
	}
	if v := d.now(); v.ThisMonth != 200_00 || v.Today != 0 {
		t.Errorf("counted: %s today, %s this month", v.Today, v.ThisMonth)
	}
	if d.later(29*24*time.Hour) != 1 { // 2 April
		t.Error("nothing was begun in the next month")
	}
	empty()
	d.charged("in all", 5)
}

// TestCapsCount: a top-up whose outcome is not known counts, one that failed does not.
func TestCapsCount(t *testing.T) {
	t.Parallel()
	d := newAuto(t, declining)
	d.turnOn(payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 50_00, MonthlyCap: 50_00})
	d.round()
	d.save(goodCard)
	if d.later(61*time.Minute) != 1 {
		t.Error("a decline counted against the cap")
	}
	if v := d.now(); v.Today != 50_00 {
		t.Errorf("in flight, %s counts", v.Today)
	}
	d.credited()
	d.spend(50_00)
	if d.later(time.Hour) != 0 {
		t.Error("the cap did not hold")
	}
}

// TestNothingIsCharged where something stands against it, and it is once that is gone.
func TestNothingIsCharged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ against, gone func(d *auto) }{
		"frozen": {
			func(d *auto) {
				if err := wallet.New(d.db).Freeze(d.t.Context(), d.org, "test", audit.System("test")); err != nil {
					d.t.Fatal(err)
				}
			},
			func(d *auto) {
				if err := wallet.New(d.db).Thaw(d.t.Context(), d.org, "test", audit.System("test")); err != nil {
					d.t.Fatal(err)
				}
			},
		},
		"closed": {
			func(d *auto) {
				dbtest.Super(d.t, d.url, `UPDATE wallets SET closed_at = now(), closed_reason = 'test' WHERE org_id = $1`, d.org)
			},
			func(d *auto) {
				dbtest.Super(d.t, d.url, `UPDATE wallets SET closed_at = NULL, closed_reason = '' WHERE org_id = $1`, d.org)
			},
		},
		"money on its way back to a card": {
			func(d *auto) {
				d.adjust(wallet.Adjustment, 4_99, "some")
				dbtest.Super(d.t, d.url, `UPDATE wallets SET reserved_pence = 1 WHERE org_id = $1`, d.org)
			},
			func(d *auto) {
				dbtest.Super(d.t, d.url, `UPDATE wallets SET reserved_pence = 0 WHERE org_id = $1`, d.org)
				d.spend(4_99)
			},
		},
		"stopped for everybody": {
			func(d *auto) { d.throw(true) },
			func(d *auto) { d.throw(false) },
		},
		"turned off": {
			func(d *auto) {
				if underWay, err := d.svc.TurnOffAutoTopUp(d.t.Context(), d.org, d.user); underWay || err != nil {
					d.t.Error(underWay, err)
				}
			},
			func(d *auto) { d.turnOn(usual) },
		},
		"enough money": {
			func(d *auto) { d.adjust(wallet.Adjustment, 5_00, "enough") },
			func(d *auto) { d.spend(1) },
		},
		"a Checkout payment that our books do not have yet": {
			func(d *auto) {
				top := d.start("10.00")
				d.press(top, "pay")
			},
			func(d *auto) {
				d.credited()
				d.spend(10_00)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, goodCard)
			c.against(d)
			before, _ := d.received()
			d.round()
			d.later(time.Minute)
			if n, _ := d.received(); n != before || len(d.line.heard(makeIntent)) != 0 {
				t.Error("the card was charged")
			}
			c.gone(d)
			d.later(time.Minute)
			if n, _ := d.received(); n != before+1 {
				t.Errorf("once that was gone, the card was charged %d times", n-before)
			}
		})
	}
}

// throw sets the operators' switch.
func (d *auto) throw(stopped bool) {
	d.t.Helper()
	if err := d.svc.SwitchAutoTopUps(d.t.Context(), stopped, "A reason", audit.System("test")); err != nil {
		d.t.Fatal(err)
	}
	if d.now().Paused != stopped {
		d.t.Errorf("paused is %t", !stopped)
	}
}

// TestDebtCounts: a wallet in debt is topped up, whatever is available.
func TestDebtCounts(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	d.adjust(wallet.Adjustment, 20_00, "some")
	if d.round() != 0 {
		t.Fatal("£20.00 is not below £5.00")
	}
	dbtest.Super(t, d.url, `UPDATE wallets SET debt_pence = 1 WHERE org_id = $1`, d.org)
	if d.round() != 1 {
		t.Error("debt did not count")
	}
	dbtest.Super(t, d.url, `UPDATE wallets SET debt_pence = 0 WHERE org_id = $1`, d.org)
	d.charged("in debt", 1)
}

// TestConsentIsHeldAtTheLastMoment: between the row and the question everything may have changed. What Stripe was never asked
// for ends at once; what it was asked for ends when it is clear that nothing came of it; and what it did is booked.
func TestConsentIsHeldAtTheLastMoment(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(d *auto){
		"turned off": func(d *auto) {
			if _, err := d.svc.TurnOffAutoTopUp(d.t.Context(), d.org, d.user); err != nil {
				d.t.Fatal(err)
			}
		},
		"turned off and on again for less": func(d *auto) {
			d.turnOn(payments.AutoTopUpSettings{Threshold: 5_00, Amount: 49_99, DailyCap: 100_00, MonthlyCap: 500_00})
		},
		"another card": func(d *auto) {
			d.save("pm_card_mastercard")
		},
		"card removed": func(d *auto) {
			if _, err := d.svc.RemoveCard(d.t.Context(), d.org, d.user); err != nil {
				d.t.Fatal(err)
			}
		},
		"topped up":             func(d *auto) { d.adjust(wallet.Adjustment, 5_00, "enough") },
		"stopped for everybody": func(d *auto) { d.throw(true) },
		"frozen": func(d *auto) {
			dbtest.Super(d.t, d.url, `UPDATE wallets SET frozen_at = now(), frozen_reason = 'test' WHERE org_id = $1`, d.org)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("never asked", func(t *testing.T) {
				t.Parallel()
				d := newAuto(t, goodCard)
				d.plant(nil)
				change(d)
				d.round()
				if got := d.states(); !slices.Equal(got, []string{"failed"}) || len(d.line.heard(makeIntent)) != 0 {
					t.Errorf("the top-ups are %v, asked %d times", got, len(d.line.heard(makeIntent)))
				}
			})
			t.Run("asked, and nothing came of it", func(t *testing.T) {
				t.Parallel()
				d := newAuto(t, goodCard)
				at := d.clock.Now()
				d.plant(&at)
				change(d)
				d.later(31 * time.Second)
				if got := d.states(); !slices.Equal(got, []string{"creating"}) {
					t.Errorf("after half a minute the top-ups are %v", got)
				}
				d.later(3 * time.Minute)
				if got := d.states(); !slices.Equal(got, []string{"failed"}) || len(d.line.heard(makeIntent)) != 0 {
					t.Errorf("the top-ups are %v, asked %d times", got, len(d.line.heard(makeIntent)))
				}
			})
			t.Run("asked, and charged", func(t *testing.T) {
				t.Parallel()
				d := newAuto(t, goodCard)
				d.line.losing(makeIntent)
				d.round()
				d.line.losing("")
				change(d)
				d.later(31 * time.Second)
				if got := d.states(); !slices.Equal(got, []string{"processing"}) {
					t.Errorf("the top-ups are %v", got)
				}
				before := d.balance()
				if d.credited() != before+50_00 {
					t.Errorf("the balance is %s", d.balance())
				}
				d.charged("before the change", 1)
			})
		})
	}
}

// TestManualBesideAutomatic: a top-up that its customer starts while an automatic one of the same amount is in flight is another
// one, with a page to pay on.
func TestManualBesideAutomatic(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	id := d.plant(nil)
	top := d.start("50.00")
	if top.ID == id || top.Automatic || top.State != payments.Open || top.CheckoutURL == "" {
		t.Errorf("the customer was given %+v", top)
	}
	saving, err := d.svc.StartTopUpKeepingCard(t.Context(), d.org, d.user, "50.00", "gbp", payments.Shown{})
	if err != nil || saving.ID == top.ID || !saving.SaveCard {
		t.Errorf("to keep the card is another wish: %+v, %v", saving, err)
	}
	if again, err := d.svc.StartTopUpKeepingCard(t.Context(), d.org, d.user, "50.00", "gbp", payments.Shown{}); err != nil || again.ID != saving.ID {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if open, err := d.svc.Unfinished(t.Context(), d.org, d.user); err != nil || len(open) != 2 {
		t.Errorf("unfinished are %+v, %v; nobody waits for an automatic one", open, err)
	}
	asked := d.line.heard(makeSession)
	if len(asked) != 2 {
		t.Fatalf("%d sessions", len(asked))
	}
	for i, want := range []string{"", "off_session"} {
		if got := asked[i].form.Get("payment_intent_data[setup_future_usage]"); got != want {
			t.Errorf("session %d: setup_future_usage is %q, want %q", i, got, want)
		}
		if got, want := asked[i].form.Get("payment_method_types[0]"), map[string]string{"": "", "off_session": "card"}[want]; got != want {
			t.Errorf("session %d: payment methods %q, want %q", i, got, want)
		}
	}
}

// TestAuthentication is handed back to the customer, and what was begun off-session can never be confirmed beside it.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	d := newAuto(t, asksForOwner)
	d.round()
	v := d.now()
	if v.State != payments.AutoAuthentication || v.Reason != "The bank wants you to confirm the payment yourself." {
		t.Errorf("it stands as %+v", v)
	}
	if got := d.told("card_attention"); len(got) != 1 || !strings.Contains(got[0], `"authentication": true`) || !strings.Contains(got[0], `"amount_pence": 5000`) {
		t.Errorf("told: %v", got)
	}
	if d.later(100*time.Hour) != 0 {
		t.Error("the card was charged again")
	}
	// The late authentication of what was given up.
	late := d.box.Stripe().Books().Payments[0]
	if _, err := d.api.PaymentIntents.Confirm(late.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: new(goodCard)}); err == nil {
		t.Error("it could be confirmed late")
	}
	d.charged("so far", 0)

	top, err := d.svc.StartTopUpKeepingCard(t.Context(), d.org, d.user, "50.00", "gbp", payments.Shown{})
	if err != nil {
		t.Fatal(err)
	}
	d.press(top, "pay")
	d.credited()
	d.stand("paid, and the card not known yet", payments.AutoAuthentication)
	if !d.now().CardExpected {
		t.Error("nobody says that the card is being saved")
	}
	if err := d.svc.SweepCards(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.stand("paid", payments.AutoReady)
	if d.later(time.Hour) != 0 || d.balance() != 50_00 {
		t.Errorf("the balance is %s", d.balance())
	}
	d.charged("by its owner", 1)
	d.spend(50_00)
	if d.round() != 1 || d.credited() != 50_00 {
		t.Errorf("with the new card the balance is %s", d.balance())
	}
	d.charged("and by ourselves", 2)
}

// TestALateConfirmation: the customer is faster than our cancelling, so what was confirmed counts, and nothing more is charged.
func TestALateConfirmation(t *testing.T) {
	t.Parallel()
	d := newAuto(t, asksForOwner)
	d.faults(sandbox.Fault{Match: "POST /v1/payment_intents/*/cancel", Do: sandbox.Fault503, Times: -1})
	d.round()
	if got := d.states(); !slices.Equal(got, []string{"creating"}) {
		t.Fatalf("the top-ups are %v; one that could still be confirmed must not be given up", got)
	}
	late := d.box.Stripe().Books().Payments[0]
	if _, err := d.api.PaymentIntents.Confirm(late.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: new(goodCard)}); err != nil {
		t.Fatal(err)
	}
	d.faults()
	d.later(31 * time.Second)
	d.charged("late", 1)
	d.stand("late", payments.AutoReady)
	if d.credited() != 50_00 || !slices.Equal(d.states(), []string{"paid"}) {
		t.Errorf("the balance is %s, the top-ups are %v", d.balance(), d.states())
	}
}

// TestStaleIntentsAreCancelledFirst: what an earlier top-up left at Stripe, however that came about, cannot be confirmed any
// more when the next one is charged.
func TestStaleIntentsAreCancelledFirst(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	var customer string
	dbtest.Get(t, d.url, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, d.org)
	open := func(automatic bool) string {
		p := &stripe.PaymentIntentParams{Amount: new(int64(50_00)), Currency: new("gbp"), Customer: new(customer), PaymentMethod: new(goodCard)}
		p.AddMetadata("top_up_id", uuid.NewString())
		if automatic {
			p.AddMetadata("automatic", "true")
		}
		pi, err := d.api.PaymentIntents.New(p)
		if err != nil {
			t.Fatal(err)
		}
		return pi.ID
	}
	stale, theirs := open(true), open(false)
	d.round()
	d.charged("the new one", 1)
	for id, want := range map[string]stripe.PaymentIntentStatus{stale: "canceled", theirs: "requires_confirmation"} {
		if pi, err := d.api.PaymentIntents.Get(id, nil); err != nil || pi.Status != want {
			t.Errorf("%s is %v, %v; want %s", id, pi.Status, err, want)
		}
	}
}

// TestProcessingThatFails: what was under way at Stripe and came to nothing is cancelled, and counts as a decline.
func TestProcessingThatFails(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	var customer string
	dbtest.Get(t, d.url, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, d.org)
	id := d.plant(nil)
	p := &stripe.PaymentIntentParams{Amount: new(int64(50_00)), Currency: new("gbp"), Customer: new(customer)}
	p.AddMetadata("top_up_id", id.String())
	pi, err := d.api.PaymentIntents.New(p)
	if err != nil {
		t.Fatal(err)
	}
	asked := d.clock.Now()
	dbtest.Super(t, d.url, `UPDATE top_ups SET state = 'processing', payment_intent = $2, asked_at = $3 WHERE id = $1`, id, pi.ID, asked)
	d.later(31 * time.Second)
	if got := d.states(); !slices.Equal(got, []string{"failed"}) {
		t.Errorf("the top-ups are %v", got)
	}
	d.stand("failed under way", payments.AutoCoolingDown)
	if got := d.intents(); !slices.Equal(got, []string{"canceled"}) {
		t.Errorf("Stripe has %v", got)
	}
}

// TestNoSuchCard: Stripe does not know the card any more when it is to be charged.
func TestNoSuchCard(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "pm_1gone")
	d.round()
	v := d.now()
	if v.State != payments.AutoStopped || v.Card != nil || v.Reason != "Stripe does not have the saved card any more." {
		t.Errorf("it stands as %+v", v)
	}
	if got := d.told("autotopup_ended"); len(got) != 1 || !strings.Contains(got[0], `"last4": "4242"`) {
		t.Errorf("told: %v", got)
	}
	if got := d.states(); !slices.Equal(got, []string{"failed"}) || d.later(100*time.Hour) != 0 {
		t.Errorf("the top-ups are %v", got)
	}
	if n := d.count(`SELECT count(*) FROM saved_cards WHERE detached_at IS NULL`); n != 0 {
		t.Error("Stripe is still to be told")
	}
}

// TestAutoTopUpSettings: what is wrong is said beside its field, and nothing of it is kept.
func TestAutoTopUpSettings(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	d.save(goodCard)
	for _, c := range []struct {
		name  string
		set   payments.AutoTopUpSettings
		field string
		says  string
	}{
		{"threshold above the amount", payments.AutoTopUpSettings{Threshold: 50_01, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 500_00}, "threshold", "The threshold is above the amount. Enter at most £50.00, so that one top-up brings the wallet above it."},
		{"no threshold", payments.AutoTopUpSettings{Amount: 50_00, DailyCap: 100_00, MonthlyCap: 500_00}, "threshold", "Enter a threshold above zero."},
		{"amount too small", payments.AutoTopUpSettings{Threshold: 1_00, Amount: 4_99, DailyCap: 100_00, MonthlyCap: 500_00}, "amount", "One top-up is from £5.00 to £5,000.00."},
		{"amount too large", payments.AutoTopUpSettings{Threshold: 1_00, Amount: 5000_01, DailyCap: 10000_00, MonthlyCap: 50000_00}, "amount", "One top-up is from £5.00 to £5,000.00."},
		{"daily cap below the amount", payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 49_99, MonthlyCap: 500_00}, "daily_cap", "The daily cap is below the amount, so nothing would ever be charged. Enter at least £50.00."},
		{"monthly cap below the daily one", payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 99_99}, "monthly_cap", "The monthly cap is below the daily cap. Enter at least £100.00."},
		{"a slip of the keyboard", payments.AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 1_000_000_01}, "monthly_cap", "Enter at most £1,000,000.00."},
	} {
		if wrong := d.svc.CheckAutoTopUp(c.set); len(wrong) != 1 || wrong[c.field] != c.says {
			t.Errorf("%s: %v, want %q beside %s", c.name, wrong, c.says, c.field)
		}
		err := d.svc.TurnOnAutoTopUp(t.Context(), payments.AutoTopUpChange{OrgID: d.org, UserID: d.user, Settings: c.set, Consent: c.set.Words()})
		if e := fault.As(err); err == nil || e.Kind != fault.Invalid || e.Field != c.field || e.Public != c.says {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := d.svc.TurnOnAutoTopUp(t.Context(), payments.AutoTopUpChange{OrgID: d.org, UserID: d.user, Settings: usual, Consent: "Whatever."})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("words that are not the settings' own: %v", err)
	}
	dbtest.Super(t, d.url, `UPDATE saved_cards SET removed_at = now(), removed_why = 'test'`)
	err = d.svc.TurnOnAutoTopUp(t.Context(), payments.AutoTopUpChange{OrgID: d.org, UserID: d.user, Settings: usual, Consent: usual.Words()})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("without a card: %v", err)
	}
	if n := d.count(`SELECT (SELECT count(*) FROM auto_top_ups) + (SELECT count(*) FROM audit_log WHERE action LIKE 'autotopup.%')`); n != 0 {
		t.Errorf("%d rows were made of what was refused", n)
	}
	if v := d.now(); v.State != payments.AutoOff || v.Settings != (payments.AutoTopUpSettings{}) {
		t.Errorf("it stands as %+v", v)
	}
	for _, figure := range []string{"£50.00", "£5.00", "£100.00 in a day", "£500.00 in a calendar month", "without asking me each time", "turn this off or remove the card"} {
		if !strings.Contains(usual.Words(), figure) {
			t.Errorf("the consent does not say %q: %s", figure, usual.Words())
		}
	}
}

// TestInvariantsOfAutomaticTopUps: each is seen when it is broken.
func TestInvariantsOfAutomaticTopUps(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	d.round()
	d.credited()
	for name, breaking := range map[string][2]string{
		"automatic-top-ups-are-paid-once": {`UPDATE top_ups SET amount_pence = 49 WHERE automatic`, `UPDATE top_ups SET amount_pence = 5000 WHERE automatic`},
		"automatic-top-ups-were-allowed":  {`UPDATE top_ups SET payment_method = 'pm_other' WHERE automatic`, `UPDATE top_ups SET payment_method = 'pm_card_visa' WHERE automatic`},
		"stopped-cards-charge-nothing": {
			`UPDATE saved_cards SET removed_at = '2099-01-01', removed_why = 'test'`, `UPDATE saved_cards SET removed_at = NULL, removed_why = ''`,
		},
	} {
		dbtest.Super(t, d.url, breaking[0])
		if got := brokenBy(t, d.fixture); !slices.Equal(got, []string{name}) {
			t.Errorf("%s breaks %v, want %s", breaking[0], got, name)
		}
		dbtest.Super(t, d.url, breaking[1])
	}
}

// brokenBy are the invariants, automatic top-ups' own among them, that do not hold.
func brokenBy(t *testing.T, f *fixture) (names []string) {
	t.Helper()
	err := f.db.InSystemTx(t.Context(), "a test", func(ctx context.Context, tx *db.Tx) error {
		checks, err := wallet.CheckBooks(ctx, tx, payments.Invariants...)
		for _, c := range checks {
			if len(c.Violations) > 0 {
				names = append(names, c.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
