package payments_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
)

// Numbers of Stripe's test cards.
const (
	visa       = "4242424242424242"
	mastercard = "5555555555554444"
)

// paidKeeping pays a top-up of £50.00 with a test card that is to be kept, and has it credited. The card is not known yet.
func (d *auto) paidKeeping(number string) payments.TopUp {
	d.t.Helper()
	top, err := d.svc.StartTopUpKeepingCard(d.t.Context(), d.org, d.user, "50.00", "gbp", payments.Shown{})
	if err != nil {
		d.t.Fatal(err)
	}
	d.enter(top.CheckoutURL, number, "http://127.0.0.1:8080/wallet/top-ups/"+top.ID.String()+"?checkout=done")
	d.credited()
	return top
}

// enter fills a card in on a page of Stripe's, which must lead back to where it should.
func (d *auto) enter(page, number, back string) {
	d.t.Helper()
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.PostForm(page+"/pay", url.Values{"card": {number}})
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); to != back {
		d.t.Fatalf("%s leads to %s (%s), want %s", page, to, resp.Status, back)
	}
}

// sweep makes a round over the cards.
func (d *auto) sweep() {
	d.t.Helper()
	if err := d.svc.SweepCards(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// atStripe reports whether Stripe still keeps a card for a customer.
func (d *auto) atStripe(card string) bool {
	d.t.Helper()
	pm, err := d.api.PaymentMethods.Get(card, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return pm.Customer != nil
}

// TestACardIsSavedWithATopUp: what is kept of it, whose consent, and how it is removed: here first, then at Stripe.
func TestACardIsSavedWithATopUp(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	agreed := d.clock.Now()
	d.paidKeeping(mastercard)
	if v := d.now(); v.Card != nil || !v.CardExpected {
		t.Errorf("before Stripe was asked: %+v", v)
	}
	d.clock.Advance(time.Minute)
	d.sweep()
	v := d.now()
	if v.Card == nil || v.CardExpected {
		t.Fatalf("after it: %+v", v)
	}
	card := *v.Card
	if want := (payments.SavedCard{
		PaymentMethod: card.PaymentMethod, Brand: "mastercard", Last4: "4444", ExpMonth: 12, ExpYear: 2029, ConsentedAt: agreed, Consent: payments.SaveCardWords,
	}); !card.ConsentedAt.Equal(agreed) || card.Consent != want.Consent || card.Brand != want.Brand || card.Last4 != want.Last4 || card.ExpMonth != 12 || card.ExpYear != 2029 {
		t.Errorf("kept is %+v\nwant    %+v", card, want)
	}
	if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'card.saved' AND subject = $1 AND actor = $2 AND detail ->> 'consent' = $3`,
		card.PaymentMethod, "user:"+d.user.String(), payments.SaveCardWords); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	if d.stand("saving alone turns nothing on", payments.AutoOff); d.round() != 0 {
		t.Error("the card was charged")
	}
	d.turnOn(usual)
	d.spend(50_00)
	if d.round() != 1 || d.credited() != 50_00 {
		t.Errorf("charged by ourselves, the balance is %s", d.balance())
	}

	d.faults(sandbox.Fault{Match: "POST /v1/payment_methods/*/detach", Do: sandbox.Fault503, Times: -1})
	if underWay, err := d.svc.RemoveCard(t.Context(), d.org, d.user); underWay || err != nil {
		t.Fatalf("removing it: %t, %v", underWay, err)
	}
	if v := d.now(); v.Card != nil || v.State != payments.AutoStopped || v.Reason != "The saved card was removed." {
		t.Errorf("removed: %+v", v)
	}
	if !d.atStripe(card.PaymentMethod) {
		t.Error("the sandbox did not refuse")
	}
	d.spend(50_00)
	if d.later(time.Hour) != 0 {
		t.Error("a removed card was charged")
	}
	d.faults()
	d.sweep()
	if d.atStripe(card.PaymentMethod) || d.count(`SELECT count(*) FROM saved_cards WHERE detached_at IS NULL`) != 0 {
		t.Error("Stripe still has the card")
	}
	d.credited() // brings the event of our own detaching
	if got := d.told("autotopup_ended"); len(got) != 1 || !strings.Contains(got[0], `"last4": "4444"`) || !strings.Contains(got[0], "The saved card was removed.") {
		t.Errorf("told: %v", got)
	}
	if _, err := d.svc.RemoveCard(t.Context(), d.org, d.user); !fault.Is(err, fault.NotFound) {
		t.Errorf("removing it again: %v", err)
	}
	d.charged("in all", 2)
}

// TestACardIsReplaced by one that is saved later; the older one is forgotten. A card whose owner agreed earlier, and of which
// Stripe is asked later, replaces nothing.
func TestACardIsReplaced(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	early := d.paidKeeping(visa)
	d.clock.Advance(time.Minute)
	d.paidKeeping(mastercard)
	dbtest.Super(t, d.url, `UPDATE top_ups SET asked_at = $2 WHERE id = $1`, early.ID, d.clock.Now()) // in somebody's hand
	d.sweep()
	if v := d.now(); v.Card == nil || v.Card.Last4 != "4444" {
		t.Fatalf("saved is %+v", v.Card)
	}
	d.clock.Advance(time.Minute)
	d.sweep()
	if v := d.now(); v.Card == nil || v.Card.Last4 != "4444" || v.CardExpected {
		t.Errorf("saved is %+v after the older one came", v.Card)
	}
	d.turnOn(usual)
	d.spend(100_00)
	d.round()
	d.credited()
	d.clock.Advance(time.Minute)
	d.paidKeeping(visa)
	d.sweep()
	d.sweep()
	if v := d.now(); v.Card == nil || v.Card.Last4 != "4242" || v.State != payments.AutoReady {
		t.Errorf("saved is %+v, %s", v.Card, v.State)
	}
	var kept []bool
	for _, id := range d.cards() {
		kept = append(kept, d.atStripe(id))
	}
	if !slices.Equal(kept, []bool{false, false, true}) {
		t.Errorf("Stripe keeps %v of the cards, want the last one", kept)
	}
	if got := d.told("autotopup_ended"); len(got) != 0 {
		t.Errorf("told: %v", got)
	}
}

// cards are all there ever were, in the order in which they were agreed to.
func (d *auto) cards() (ids []string) {
	d.t.Helper()
	dbtest.Select(d.t, d.url, &ids, `SELECT payment_method FROM saved_cards ORDER BY consented_at`)
	return ids
}

// TestACardIsRemovedAtStripe: its event stops automatic top-ups with a notice; whoever's card it is not changes nothing.
func TestACardIsRemovedAtStripe(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	d.paidKeeping(visa)
	d.sweep()
	d.turnOn(usual)
	card := d.now().Card.PaymentMethod
	for name, c := range map[string]struct {
		object map[string]any
		state  string
	}{
		"a stranger's card": {map[string]any{"id": "pm_1stranger", "object": "payment_method", "customer": nil}, "ignored"},
		"not a card":        {map[string]any{"id": 7, "object": "payment_method"}, "quarantined"},
	} {
		id := "evt_" + strings.ReplaceAll(name, " ", "_")
		d.send(strings.ReplaceAll(id, "'", ""), "payment_method.detached", c.object)
		d.workAll()
		if n := d.count(`SELECT count(*) FROM stripe_events WHERE type IN ('payment_method.detached', 'unreadable') AND state = $1`, c.state); n == 0 {
			t.Errorf("%s is not %s", name, c.state)
		}
	}
	d.stand("others'", payments.AutoReady)
	if err := d.box.Stripe().Detach(card); err != nil {
		t.Fatal(err)
	}
	d.spend(50_00)
	d.credited() // no webhook comes here: reconciliation finds the event
	v := d.now()
	if v.State != payments.AutoStopped || v.Card != nil || v.Reason != "Stripe does not have the saved card any more." {
		t.Errorf("it stands as %+v", v)
	}
	if got := d.told("autotopup_ended"); len(got) != 1 || !strings.Contains(got[0], `"last4": "4242"`) {
		t.Errorf("told: %v", got)
	}
	if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'card.removed' AND subject = $1 AND actor LIKE 'stripe:%'`, card); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	if d.later(time.Hour) != 0 {
		t.Error("it was charged")
	}
	d.charged("by its owner", 1)
}

// workAll works every event that waits.
func (d *auto) workAll() {
	d.t.Helper()
	var ids []string
	dbtest.Select(d.t, d.url, &ids, `SELECT id FROM stripe_events WHERE state = 'received'`)
	if err := d.svc.Process(d.t.Context(), payments.EventBatch{Strays: ids}); err != nil {
		d.t.Fatal(err)
	}
}

// TestTheBankChangesItsMind: a card that was saved well is declined, then asks for its owner, then has expired.
func TestTheBankChangesItsMind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome string
		state   payments.AutoTopUpState
		reason  string
	}{
		{sandbox.OutcomeDecline, payments.AutoCoolingDown, "The saved card was declined."},
		{sandbox.OutcomeAuthenticate, payments.AutoAuthentication, "The bank wants you to confirm the payment yourself."},
		{sandbox.OutcomeExpired, payments.AutoStopped, "The saved card has expired."},
	} {
		t.Run(c.outcome, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, "")
			d.paidKeeping(visa)
			d.sweep()
			d.turnOn(usual)
			d.spend(50_00)
			if err := d.box.Stripe().SetOutcome(d.now().Card.PaymentMethod, c.outcome); err != nil {
				t.Fatal(err)
			}
			d.round()
			if v := d.now(); v.State != c.state || v.Reason != c.reason {
				t.Errorf("it stands as %+v", v)
			}
			d.charged("by its owner alone", 1)
			// Another card, and it goes on; where we stopped it, its owner says so first.
			d.clock.Advance(time.Minute)
			d.paidKeeping(mastercard)
			d.sweep()
			if c.state == payments.AutoStopped {
				d.stand("stopped is stopped", payments.AutoStopped)
				d.turnOn(usual)
			}
			d.stand("with another card", payments.AutoReady)
			d.spend(50_00)
			d.round()
			d.charged("with another card", 3)
		})
	}
}

// TestWhatIsGivenBackIsNotChargedAgain: a refund or dispute leaves the wallet low, and automatic top-ups stop instead of taking
// from the card what has just been given back to it. An inquiry, and a refund from before their owner agreed, stop nothing.
func TestWhatIsGivenBackIsNotChargedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path  string
		form  url.Values
		early bool // before its owner agreed
		stops bool
	}{
		"refund":        {"refund", nil, false, true},
		"part of it":    {"refund", url.Values{"amount": {"4600"}}, false, true},
		"dispute":       {"dispute", nil, false, true},
		"early refund":  {"refund", nil, true, false},
		"early dispute": {"dispute", nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, "")
			top := d.paidKeeping(visa)
			d.sweep()
			session, err := d.api.CheckoutSessions.Get(top.SessionID, &stripe.CheckoutSessionParams{Expand: []*string{new("payment_intent")}})
			if err != nil {
				t.Fatal(err)
			}
			reverse := func() {
				d.control("/charges/"+session.PaymentIntent.LatestCharge.ID+"/"+c.path, c.form)
				d.clock.Advance(time.Minute)
			}
			if c.early {
				reverse()
			}
			d.turnOn(usual)
			if !c.early {
				reverse()
			}
			dbtest.Super(t, d.url, `UPDATE wallets SET frozen_at = NULL, frozen_reason = ''`)
			if d.credited() >= 50_00 {
				t.Fatalf("the balance is %s", d.balance())
			}
			dbtest.Super(t, d.url, `UPDATE wallets SET frozen_at = NULL, frozen_reason = ''`) // it is not the freeze that keeps the card safe
			d.round()
			v := d.now()
			if c.stops {
				if v.State != payments.AutoStopped || v.Reason != "A payment into this wallet was refunded or is disputed." || len(d.told("autotopup_ended")) != 1 {
					t.Errorf("it stands as %+v, told %v", v, d.told("autotopup_ended"))
				}
				d.charged("in all", 1)
				d.turnOn(usual)
				d.round()
			}
			d.stand("agreed to after it", payments.AutoReady)
			d.credited()
			d.stand("agreed to after it, and its events once more", payments.AutoReady)
			d.charged("agreed to after it", 2)
		})
	}
}

// TestStripeIsAwayWhileCardsAreSaved: what it does not answer is asked again, and a card that it does not have is not.
func TestStripeIsAwayWhileCardsAreSaved(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	top := d.paidKeeping(visa)
	d.faults(sandbox.Fault{Match: "GET /v1/payment_intents/*", Do: sandbox.Fault503, Times: -1})
	if err := d.svc.SweepCards(t.Context()); err == nil {
		t.Error("a round in which Stripe was away had no error")
	}
	asked := len(d.line.heard("*"))
	d.sweep()
	if n := len(d.line.heard("*")); n != asked {
		t.Error("Stripe was asked again at once")
	}
	d.faults()
	d.clock.Advance(time.Minute)
	d.sweep()
	if d.now().Card == nil {
		t.Error("the card is not saved")
	}
	// One that was never attached.
	dbtest.Super(t, d.url, `UPDATE top_ups SET card_known = false, asked_at = NULL WHERE id = $1`, top.ID)
	dbtest.Super(t, d.url, `UPDATE stripe_customers SET customer_id = 'cus_other' WHERE org_id = $1`, d.org)
	dbtest.Super(t, d.url, `DELETE FROM saved_cards`)
	d.sweep()
	if v := d.now(); v.Card != nil || v.CardExpected {
		t.Errorf("somebody else's card was saved: %+v", v)
	}
}

const cardPage = "http://127.0.0.1:8080/wallet/auto-top-up"

// TestACardIsSavedWithoutAPayment on a page of Stripe's; a second click gives the same page, and one that was left expires.
func TestACardIsSavedWithoutAPayment(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	start := func() string {
		to, err := d.svc.StartCardSetup(t.Context(), d.org, d.user)
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	page := start()
	if again := start(); again != page || !d.now().CardPageOpen {
		t.Errorf("a second click leads to %s, the first to %s", again, page)
	}
	asked := d.line.heard(makeSession)
	if len(asked) != 1 {
		t.Fatalf("%d sessions", len(asked))
	}
	var id, customer string
	dbtest.Get(t, d.url, &id, `SELECT id::text FROM card_setups`)
	dbtest.Get(t, d.url, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, d.org)
	want := url.Values{
		"mode": {"setup"}, "customer": {customer}, "payment_method_types[0]": {"card"}, "success_url": {cardPage + "?card=saved"}, "cancel_url": {cardPage},
		"metadata[card_setup_id]": {id}, "metadata[org_id]": {d.org.String()},
		"setup_intent_data[metadata][card_setup_id]": {id}, "setup_intent_data[metadata][org_id]": {d.org.String()},
	}
	if !maps.EqualFunc(asked[0].form, want, slices.Equal) || asked[0].key != "card:"+id+":1" {
		t.Errorf("Stripe was asked %v under %s\nwant             %v", asked[0].form, asked[0].key, want)
	}
	d.clock.Advance(time.Minute)
	d.sweep()
	if d.now().Card != nil {
		t.Error("a card was saved that nobody entered")
	}
	d.enter(page, mastercard, cardPage+"?card=saved")
	d.clock.Advance(time.Minute)
	d.sweep()
	v := d.now()
	if v.Card == nil || v.Card.Last4 != "4444" || v.CardPageOpen || v.Card.Consent != payments.SaveCardWords || !v.Card.ConsentedAt.Equal(dbtest.Start) {
		t.Fatalf("saved is %+v", v.Card)
	}
	d.turnOn(usual)
	d.round()
	if d.credited() != 50_00 {
		t.Errorf("the balance is %s", d.balance())
	}
	d.charged("with the card that was saved", 1)
	if n := d.count(`SELECT count(*) FROM stripe_events WHERE state NOT IN ('processed', 'ignored')`); n != 0 {
		t.Errorf("%d events of saving a card ended badly", n)
	}
	other := start()
	if other == page {
		t.Error("the page that was used is given out again")
	}
	d.clock.Advance(25 * time.Hour)
	if _, err := d.api.CheckoutSessions.Expire(other[strings.LastIndex(other, "/")+1:], nil); err != nil {
		t.Log(err) // it has expired by itself
	}
	d.sweep()
	if d.now().CardPageOpen {
		t.Error("an expired page is still open here")
	}
}

// TestSavingACardFails: whatever Stripe does, the person reads a clear sentence, and the next click works.
func TestSavingACardFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		do   string
		keys int
	}{{sandbox.Fault500, 2}, {sandbox.Fault429, 1}, {sandbox.Fault503, 2}} {
		t.Run(c.do, func(t *testing.T) {
			t.Parallel()
			d := newAuto(t, "")
			d.faults(sandbox.Fault{Match: makeSession, Do: c.do, Times: -1})
			if _, err := d.svc.StartCardSetup(t.Context(), d.org, d.user); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.As(err).Public, "Nothing was charged.") {
				t.Errorf("the person reads %v", err)
			}
			d.faults()
			if _, err := d.svc.StartCardSetup(t.Context(), d.org, d.user); err != nil {
				t.Errorf("the next click: %v", err)
			}
			if got := d.line.keys(makeSession); len(got) != c.keys {
				t.Errorf("the keys are %v", got)
			}
		})
	}
	t.Run("hostile address", func(t *testing.T) {
		t.Parallel()
		d := newAuto(t, "")
		d.faults(sandbox.Fault{Match: makeSession, Do: sandbox.FaultBadURL, URL: "https://evil.example/c"})
		if to, err := d.svc.StartCardSetup(t.Context(), d.org, d.user); !fault.Is(err, fault.Declined) || to != "" {
			t.Errorf("got %q, %v", to, err)
		}
	})
}

// TestCardsAreSavedOnce, however many processes look at once.
func TestCardsAreSavedOnce(t *testing.T) {
	t.Parallel()
	d := newAuto(t, "")
	d.paidKeeping(visa)
	processes := []*payments.Service{d.svc, d.process(), d.process()}
	var all errgroup.Group
	for i := range 12 {
		all.Go(func() error { return processes[i%len(processes)].SweepCards(t.Context()) })
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	if n := d.count(`SELECT count(*) FROM saved_cards`); n != 1 || d.now().Card == nil {
		t.Errorf("%d cards", n)
	}
	if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'card.saved'`); n != 1 {
		t.Errorf("%d audit rows", n)
	}
}

// TestTheSwitch is audited, wants a reason, and is shown to operators with what it stands over.
func TestTheSwitch(t *testing.T) {
	t.Parallel()
	d := newAuto(t, goodCard)
	operator := audit.Operator(d.user)
	for _, reason := range []string{"", "  ", strings.Repeat("x", 501)} {
		if err := d.svc.SwitchAutoTopUps(t.Context(), true, reason, operator); fault.As(err) == nil || fault.As(err).Field != "reason" {
			t.Errorf("with the reason %.10q: %v", reason, err)
		}
	}
	if d.now().Paused {
		t.Error("it was set without a reason")
	}
	d.plant(nil)
	if err := d.svc.SwitchAutoTopUps(t.Context(), true, " Stripe is ill ", operator); err != nil {
		t.Fatal(err)
	}
	o, err := d.svc.AutoTopUpOverview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !o.Switch.Stopped || o.Switch.Reason != "Stripe is ill" || o.Switch.By != "owner@harbour.example" || !o.Switch.At.Equal(d.clock.Now()) ||
		o.Organisations[payments.AutoReady] != 1 || o.Today != 1 || o.Charged != 50_00 || o.Failed != 0 || len(o.InFlight) != 1 || o.InFlight[0].Name != "Second Tenant" {
		t.Errorf("operators see %+v", o)
	}
	d.throw(false)
	if n := d.count(`SELECT count(*) FROM audit_log WHERE subject = 'switch:auto_top_ups' AND (action, reason, actor) = ('autotopup.stopped_for_all', 'Stripe is ill', $1)
		OR (action, reason) = ('autotopup.started_for_all', 'A reason')`, string(operator)); n != 2 {
		t.Errorf("%d audit rows, want 2", n)
	}
	d.round()
	d.charged("going again", 1)
}

// TestADelayedPaymentThatFailsIsTold to those who waited for it, once; one that was paid after all is not.
func TestADelayedPaymentThatFailsIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost, won := f.topUp(f.org, 50_00), f.topUp(f.org, 60_00)
	f.accept(
		event{id: "evt_1", kind: "checkout.session.async_payment_failed", topUp: lost, intent: "pi_1", amount: 50_00, status: "unpaid"},
		event{id: "evt_2", kind: "payment_intent.succeeded", topUp: won, intent: "pi_2", amount: 60_00},
		event{id: "evt_3", kind: "checkout.session.async_payment_failed", topUp: won, intent: "pi_2", amount: 60_00, status: "unpaid"},
		event{id: "evt_4", kind: "checkout.session.async_payment_failed", topUp: lost, intent: "pi_1", amount: 50_00, status: "unpaid"})
	f.work("evt_1", "evt_2", "evt_3")
	f.work("evt_4")
	var told []string
	dbtest.Select(t, f.url, &told, `SELECT kind || ' ' || subject || ' ' || (data ->> 'amount_pence') FROM notices`)
	if want := []string{"topup_failed " + lost.String() + " 5000"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
