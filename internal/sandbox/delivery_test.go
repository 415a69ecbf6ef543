package sandbox_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

// events lists the ids of events, newest first.
func (b *box) events(change func(*stripe.EventListParams)) []string {
	b.t.Helper()
	p := &stripe.EventListParams{}
	if change != nil {
		change(p)
	}
	it := b.api.Events.List(p)
	var ids []string
	for it.Next() {
		ids = append(ids, it.Event().ID)
	}
	if it.Err() != nil {
		b.t.Fatal(it.Err())
	}
	return ids
}

func (b *box) undelivered() int {
	return len(b.events(func(p *stripe.EventListParams) { p.DeliverySuccess = new(false) }))
}

func TestEventsList(t *testing.T) {
	ck := newClock()
	b := start(t, func(o *sandbox.Options) { o.Now = ck.Now })
	b.pay(5000, "tu_1")
	ck.Add(time.Hour)
	b.pay(6000, "tu_2")
	all := b.events(nil)
	if len(all) != 8 {
		t.Fatalf("%d events", len(all))
	}
	newer := b.events(func(p *stripe.EventListParams) {
		p.CreatedRange = &stripe.RangeQueryParams{GreaterThanOrEqual: ck.Now().Unix()}
	})
	if !slices.Equal(newer, all[:4]) {
		t.Errorf("created[gte]: %v", newer)
	}
	two := b.events(func(p *stripe.EventListParams) {
		p.Types = stripe.StringSlice([]string{"checkout.session.completed", "payment_intent.succeeded"})
		p.Limit = stripe.Int64(1)
	})
	if len(two) != 4 {
		t.Errorf("types[]: %v", two)
	}
	// Recovery as Stripe documents it: everything newer than the last one that was seen.
	since := b.events(func(p *stripe.EventListParams) { p.EndingBefore, p.Limit = new(all[5]), stripe.Int64(2) })
	slices.Reverse(since)
	if !slices.Equal(since, all[:5]) {
		t.Errorf("ending_before: %v, want %v", since, all[:5])
	}
	e, err := b.api.Events.Get(two[0], nil)
	if err != nil || e.APIVersion != stripe.APIVersion || e.Livemode || e.Object != "event" {
		t.Errorf("%v %+v", err, e)
	}
	ck.Add(31 * 24 * time.Hour)
	if old := b.events(nil); len(old) != 0 && slices.Contains(old, all[7]) {
		t.Errorf("events older than 30 days are listed: %v", old)
	}
}

func TestEventNamesItsRequest(t *testing.T) {
	b := start(t)
	p := &stripe.CustomerParams{}
	p.IdempotencyKey = new("customer:1")
	c, err := b.api.Customers.New(p)
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.api.Events.Get(b.events(nil)[0], nil)
	if err != nil || e.Type != "customer.created" || e.Request.ID != c.LastResponse.RequestID || e.Request.IdempotencyKey != "customer:1" {
		t.Errorf("%v %+v", err, e)
	}
}

func TestDeliveryRetries(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	rc.answer(500, 302, 400, 500) // one for each of the four events
	b.pay(5000, "tu_1")
	wait(t, "all four", func() bool { return len(rc.types()) == 4 })
	wait(t, "nothing pending", func() bool { return b.undelivered() == 0 })
	e := rc.first("checkout.session.completed")
	_, body, _ := b.page("/sandbox/stripe/events/" + e.ID + "/delivery")
	d := decode[struct {
		State    string
		Count    int
		Attempts []struct{ Status int }
	}](t, body)
	if d.State != "delivered" || d.Count != 2 || d.Attempts[0].Status == 200 || d.Attempts[1].Status != 200 {
		t.Errorf("%s", body)
	}
	if e.PendingWebhooks != 1 {
		t.Errorf("pending_webhooks %d in the delivery", e.PendingWebhooks)
	}
	if got, err := b.api.Events.Get(e.ID, nil); err != nil || got.PendingWebhooks != 0 {
		t.Errorf("%v %+v", err, got)
	}
}

func TestDeliveryGivesUpAfterThreeDays(t *testing.T) {
	ck := newClock()
	rc := newReceiver(t)
	b := start(t, to(rc), func(o *sandbox.Options) { o.Now = ck.Now })
	rc.answer(slices.Repeat([]int{500}, 1000)...)
	if _, err := b.api.Customers.New(&stripe.CustomerParams{}); err != nil {
		t.Fatal(err)
	}
	id := b.events(nil)[0]
	state := func() string {
		_, body, _ := b.page("/sandbox/stripe/events/" + id + "/delivery")
		return decode[struct{ State string }](t, body).State
	}
	wait(t, "failed", func() bool {
		ck.Add(6 * time.Hour)
		return state() == "failed"
	})
	if b.undelivered() != 1 {
		t.Error("a failed event is not listed with delivery_success=false")
	}
}

func TestDeliveriesAreBounded(t *testing.T) {
	rc := newReceiver(t)
	rc.gate = make(chan struct{})
	b := start(t, to(rc))
	for range 30 {
		b.pay(5000, "tu")
	}
	wait(t, "senders", func() bool {
		rc.mu.Lock()
		defer rc.mu.Unlock()
		return rc.inside == 16
	})
	close(rc.gate)
	wait(t, "all", func() bool { return len(rc.types()) == 120 })
	if rc.most != 16 {
		t.Errorf("%d at once", rc.most)
	}
}

func TestDropAndResend(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "deliver checkout.session.completed", Do: sandbox.FaultDrop}); err != nil {
		t.Fatal(err)
	}
	b.pay(5000, "tu_1")
	wait(t, "three", func() bool { return len(rc.types()) == 3 && b.undelivered() == 1 && len(b.Stripe().Faults()) == 0 })
	if n := rc.count("checkout.session.completed"); n != 0 {
		t.Errorf("%d delivered", n)
	}
	lost := b.events(func(p *stripe.EventListParams) { p.DeliverySuccess = new(false) })
	for n := 1; n <= 2; n++ {
		if status, _, body := b.post("/sandbox/stripe/events/" + lost[0] + "/resend"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		wait(t, "the resent one", func() bool { return rc.count("checkout.session.completed") == n })
	}
	if status, _, _ := b.post("/sandbox/stripe/events/evt_none/resend"); status != 404 {
		t.Errorf("resending nothing: %d", status)
	}
}

// Who asks for an event gets it, though an attempt was under way that succeeds before theirs begins.
func TestResendDuringAnAttempt(t *testing.T) {
	const senders = 16
	rc := newReceiver(t)
	rc.gate = make(chan struct{})
	b := start(t, to(rc))
	open := sync.OnceFunc(func() { close(rc.gate) })
	t.Cleanup(open)
	inside := func(n int) func() bool {
		return func() bool {
			rc.mu.Lock()
			defer rc.mu.Unlock()
			return rc.inside == n
		}
	}
	for n := range senders {
		b.customer()
		wait(t, "another attempt", inside(n+1))
	}
	all := b.events(nil)
	if err := b.Stripe().Resend(all[senders-1]); err != nil { // waits for a sender
		t.Fatal(err)
	}
	rc.gate <- struct{}{} // the first who came is the first to go
	wait(t, "the first", func() bool { return rc.count("customer.created") == 1 })
	wait(t, "the attempt that was asked for", inside(senders))
	open()
	wait(t, "all", func() bool { return rc.count("customer.created") == senders+1 })
}

func TestRepeat(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "deliver checkout.session.*", Do: sandbox.FaultRepeat, Copies: 5}); err != nil {
		t.Fatal(err)
	}
	b.pay(5000, "tu_1")
	wait(t, "five", func() bool { return rc.count("checkout.session.completed") == 5 && len(rc.types()) == 8 })
	ids := map[string]bool{}
	rc.mu.Lock()
	for _, e := range rc.events {
		ids[e.ID] = true
	}
	rc.mu.Unlock()
	if len(ids) != 4 {
		t.Errorf("%d ids", len(ids))
	}
}

// TestChance: of many deliveries about so many are struck as the rules say, and the same seed strikes the same ones.
func TestChance(t *testing.T) {
	lost := func(seed uint64) (n, repeats int) {
		rc := newReceiver(t)
		b := start(t, to(rc))
		if err := b.Stripe().SetFaults(
			sandbox.Fault{Match: "deliver *", Do: sandbox.FaultDrop, Times: -1, Percent: 30, Seed: seed},
			sandbox.Fault{Match: "deliver *", Do: sandbox.FaultRepeat, Times: -1, Percent: 20, Copies: 2, Seed: seed},
		); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			b.pay(5000, "tu")
		}
		wait(t, "what is not lost", func() bool { o := b.books(); return o.Undelivered == o.Lost })
		return b.books().Lost, len(rc.types()) - (200 - b.books().Lost)
	}
	n, repeats := lost(7)
	if n < 35 || n > 85 || repeats < 10 || repeats > 50 {
		t.Errorf("of 200 deliveries %d are lost and %d are made twice", n, repeats)
	}
	if again, twice := lost(7); again != n || twice != repeats {
		t.Errorf("the same seed loses %d and repeats %d, then %d and %d", n, repeats, again, twice)
	}
	if err := start(t).Stripe().SetFaults(sandbox.Fault{Match: "deliver *", Do: sandbox.FaultDrop, Percent: 101}); err == nil {
		t.Error("101 of a hundred is taken")
	}
}

func TestReorder(t *testing.T) {
	for range 5 {
		rc := newReceiver(t)
		b := start(t, to(rc))
		err := b.Stripe().SetFaults(sandbox.Fault{Match: "deliver payment_intent.succeeded", Do: sandbox.FaultReorder, Times: -1})
		if err != nil {
			t.Fatal(err)
		}
		b.pay(5000, "tu_1")
		wait(t, "all", func() bool { return len(rc.types()) == 4 })
		got := rc.types()
		if slices.Index(got, "payment_intent.succeeded") < slices.Index(got, "checkout.session.completed") {
			t.Errorf("%v", got)
		}
	}
}

func TestReorderDoesNotHoldForEver(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	// The last event of a payment: nothing that was made after it will come.
	err := b.Stripe().SetFaults(sandbox.Fault{Match: "deliver checkout.session.completed", Do: sandbox.FaultReorder, Times: -1, MS: 50})
	if err != nil {
		t.Fatal(err)
	}
	b.pay(5000, "tu_1")
	wait(t, "all", func() bool { return rc.count("checkout.session.completed") == 1 })
}

func TestOtherSignature(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "deliver *", Do: sandbox.FaultOtherSignature, Times: 2}); err != nil {
		t.Fatal(err)
	}
	b.pay(5000, "tu_1")
	wait(t, "all, the two refused ones at their second attempt", func() bool { return len(rc.types()) == 4 })
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if rc.bad != 2 {
		t.Errorf("%d refused", rc.bad)
	}
}

func TestWebhooksSwitchedOff(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	if status, body := b.postJSON("/sandbox/stripe/webhooks", `{"enabled":false}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	b.pay(5000, "tu_1")
	if status, body := b.postJSON("/sandbox/stripe/webhooks", `{"enabled":true}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	b.pay(6000, "tu_2")
	wait(t, "the second payment", func() bool { return len(rc.types()) == 4 })
	wait(t, "four lost ones", func() bool { return b.undelivered() == 4 })
	if e := rc.first("payment_intent.succeeded"); e.GetObjectValue("metadata", "top_up_id") != "tu_2" {
		t.Errorf("delivered %s", e.Data.Raw)
	}
	if status, body := b.postJSON("/sandbox/stripe/webhooks", `{}`); status != 400 {
		t.Errorf("%d %s", status, body)
	}
}

func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "sandbox.db")
	ck := newClock()
	same := func(o *sandbox.Options) { o.StateFile, o.Now, o.SettleAfter = file, ck.Now, time.Minute }

	down := newReceiver(t)
	down.answer(slices.Repeat([]int{http.StatusServiceUnavailable}, 1000)...)
	one := start(t, same, to(down))
	paid := one.pay(5000, "tu_1")
	later := one.session(6000, "tu_2")
	one.post(later.URL + "/pay-later")
	p := sessionParams(700, "tu_3")
	p.IdempotencyKey = new("topup:tu_3:1")
	open, err := one.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.api.Refunds.New(&stripe.RefundParams{PaymentIntent: new(paid.PaymentIntent.ID)}); err != nil {
		t.Fatal(err)
	}
	before := one.books().String()
	all := one.events(nil)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}

	rc := newReceiver(t)
	two := start(t, same, to(rc))
	ck.Add(10 * time.Minute) // whatever retry comes next is due, and so is the settlement
	wait(t, "what was pending", func() bool { return len(rc.types()) == len(all)+3 })
	if got := two.get(paid.ID); got.PaymentIntent.LatestCharge.AmountRefunded != 5000 {
		t.Errorf("%+v", got)
	}
	again, err := two.api.CheckoutSessions.New(p)
	if err != nil || again.ID != open.ID || again.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the key was forgotten: %v %+v", err, again)
	}
	// The address may be another one now; the session's page is at the new one.
	if got := two.get(open.ID); got.URL != two.URL()+"/c/pay/"+open.ID {
		t.Errorf("url %s", got.URL)
	}
	if two.books().Totals["gbp"].Received != 11_000 {
		t.Errorf("before %s, now %s", before, two.books())
	}
	after := two.events(nil)
	if !slices.Equal(after[3:], all) {
		t.Errorf("events %v, want %v behind three new ones", after, all)
	}
}
