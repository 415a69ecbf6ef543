package sandbox_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

func TestIdempotencyReplay(t *testing.T) {
	b := start(t)
	create := func(pence int64, key string) (*stripe.CheckoutSession, error) {
		p := sessionParams(pence, "tu_1")
		p.IdempotencyKey = new(key)
		return b.api.CheckoutSessions.New(p)
	}
	first, err := create(5000, "topup:tu_1:1")
	if err != nil {
		t.Fatal(err)
	}
	if h := first.LastResponse.Header.Get("Idempotent-Replayed"); h != "" {
		t.Errorf("the first answer says Idempotent-Replayed: %s", h)
	}
	b.post(first.URL + "/pay")
	again, err := create(5000, "topup:tu_1:1")
	if err != nil {
		t.Fatal(err)
	}
	// The stored answer, not the session's present state.
	if again.ID != first.ID || again.Status != stripe.CheckoutSessionStatusOpen {
		t.Errorf("replay gave %s %s", again.ID, again.Status)
	}
	if h := again.LastResponse.Header; h.Get("Idempotent-Replayed") != "true" || h.Get("Original-Request") != first.LastResponse.RequestID {
		t.Errorf("replay headers %v", h)
	}
	if !slices.Equal(again.LastResponse.RawJSON, first.LastResponse.RawJSON) {
		t.Error("the replay differs from the first answer")
	}

	_, err = create(5001, "topup:tu_1:1")
	if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest || e.Type != stripe.ErrorTypeIdempotency {
		t.Errorf("other parameters: %d %s", e.HTTPStatusCode, e.Type)
	}
	cp := &stripe.CustomerParams{}
	cp.IdempotencyKey = new("topup:tu_1:1")
	_, err = b.api.Customers.New(cp)
	if e := stripeError(t, err); e.Type != stripe.ErrorTypeIdempotency {
		t.Errorf("another endpoint: %s", e.Type)
	}

	// What fails validation leaves the key free.
	if _, err = create(29, "topup:tu_2:1"); err == nil {
		t.Fatal("29p was taken")
	}
	if _, err = create(5000, "topup:tu_2:1"); err != nil {
		t.Errorf("after a validation error: %v", err)
	}
	if st := b.books().Idempotency; st.Executed != 2 || st.Replayed != 1 || st.Mismatched != 2 {
		t.Errorf("%+v", st)
	}
	if n := b.books().SessionsPerTopUp["tu_1"]; n != 2 {
		t.Errorf("%d sessions", n)
	}
}

func TestIdempotencyKeyIsForgottenAfterADay(t *testing.T) {
	ck := newClock()
	b := start(t, func(o *sandbox.Options) { o.Now = ck.Now })
	p := sessionParams(5000, "tu_1")
	p.IdempotencyKey = new("k")
	first, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	ck.Add(25 * time.Hour)
	p.LineItems[0].PriceData.UnitAmount = stripe.Int64(6000)
	second, err := b.api.CheckoutSessions.New(p)
	if err != nil || second.ID == first.ID {
		t.Errorf("%v", err)
	}
}

func TestIdempotencyConcurrentIs409(t *testing.T) {
	b := start(t)
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/checkout/sessions", Do: sandbox.FaultDelay, MS: 800}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[int]int{}
	ids := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p := sessionParams(5000, "tu_1")
			p.IdempotencyKey = new("same")
			s, err := b.api.CheckoutSessions.New(p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				got[stripeError(t, err).HTTPStatusCode]++
				return
			}
			got[200]++
			ids[s.ID] = true
		})
	}
	wg.Wait()
	if got[200] < 1 || got[409] < 1 || got[200]+got[409] != 8 || len(ids) != 1 {
		t.Errorf("answers %v, sessions %v", got, ids)
	}
	// With the SDK's own retries every caller ends up with the one session.
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/checkout/sessions", Do: sandbox.FaultDelay, MS: 200}); err != nil {
		t.Fatal(err)
	}
	retrying := newAPI(b.URL(), 4, 10*time.Second)
	clear(ids)
	for range 3 {
		wg.Go(func() {
			p := sessionParams(5000, "tu_2")
			p.IdempotencyKey = new("same2")
			s, err := retrying.CheckoutSessions.New(p)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[s.ID] = true
		})
	}
	wg.Wait()
	if len(ids) != 1 || b.books().SessionsPerTopUp["tu_2"] != 1 {
		t.Errorf("sessions %v", ids)
	}
}

func TestRequestFaults(t *testing.T) {
	const match = "POST /v1/checkout/sessions"
	for name, c := range map[string]struct {
		fault sandbox.Fault
		// status is what the first request gets (0: no answer), again what the same key gets, made how many sessions
		// there are after both.
		status, again, made int
	}{
		"500":                  {sandbox.Fault{Match: match, Do: sandbox.Fault500}, 500, 500, 0},
		"500 after acting":     {sandbox.Fault{Match: match, Do: sandbox.Fault500AfterActing}, 500, 500, 1},
		"503":                  {sandbox.Fault{Match: match, Do: sandbox.Fault503}, 503, 200, 1},
		"429":                  {sandbox.Fault{Match: "* /v1/*/*", Do: sandbox.Fault429}, 429, 200, 1},
		"timeout":              {sandbox.Fault{Match: match, Do: sandbox.FaultTimeout}, 0, 200, 1},
		"timeout cut short":    {sandbox.Fault{Match: match, Do: sandbox.FaultTimeout, MS: 20, Times: 20}, 0, 0, 0},
		"timeout after acting": {sandbox.Fault{Match: match, Do: sandbox.FaultTimeoutAfterActing}, 0, 200, 1},
		"twice 503":            {sandbox.Fault{Match: match, Do: sandbox.Fault503, Times: 2}, 503, 503, 0},
		"not this one":         {sandbox.Fault{Match: "POST /v1/checkout/sessions/*", Do: sandbox.Fault500}, 200, 200, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			if err := b.Stripe().SetFaults(c.fault); err != nil {
				t.Fatal(err)
			}
			api := newAPI(b.URL(), 0, 2*time.Second)
			status := func() int {
				p := sessionParams(5000, "tu_1")
				p.IdempotencyKey = new("topup:tu_1:1")
				s, err := api.CheckoutSessions.New(p)
				if err == nil {
					return s.LastResponse.StatusCode
				}
				if strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "Timeout") {
					return 0
				}
				return stripeError(t, err).HTTPStatusCode
			}
			if got := status(); got != c.status {
				t.Errorf("first: %d, want %d", got, c.status)
			}
			if got := status(); got != c.again {
				t.Errorf("again: %d, want %d", got, c.again)
			}
			if got := b.books().SessionsPerTopUp["tu_1"]; got != c.made {
				t.Errorf("%d sessions, want %d", got, c.made)
			}
		})
	}
}

func TestSDKRetriesLeadToOneSession(t *testing.T) {
	for _, do := range []string{sandbox.Fault503, sandbox.FaultTimeout, sandbox.FaultTimeoutAfterActing} {
		t.Run(do, func(t *testing.T) {
			b := start(t)
			if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/checkout/sessions", Do: do, MS: 50}); err != nil {
				t.Fatal(err)
			}
			p := sessionParams(5000, "tu_1")
			p.IdempotencyKey = new("topup:tu_1:1")
			if _, err := newAPI(b.URL(), 2, 10*time.Second).CheckoutSessions.New(p); err != nil {
				t.Error(err)
			}
			if n := b.books().SessionsPerTopUp["tu_1"]; n != 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

func TestBadURL(t *testing.T) {
	b := start(t)
	const evil = "https://checkout.stripe.com@evil.example/c/pay/x"
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/checkout/sessions", Do: sandbox.FaultBadURL, URL: evil}); err != nil {
		t.Fatal(err)
	}
	s := b.session(5000, "tu_1")
	if s.URL != evil || b.get(s.ID).URL != evil {
		t.Errorf("url %s", s.URL)
	}
	if s := b.session(5000, "tu_2"); s.URL == evil {
		t.Error("the rule struck twice")
	}
}

func TestFaultsOverHTTP(t *testing.T) {
	b := start(t)
	status, body := b.postJSON("/sandbox/stripe/faults", `[{"match":"POST /v1/customers","do":"500","times":2},{"match":"deliver charge.*","do":"drop","times":-1}]`)
	if status != 200 || len(b.Stripe().Faults()) != 2 {
		t.Fatalf("%d %s", status, body)
	}
	if _, err := b.api.Customers.New(&stripe.CustomerParams{}); err == nil {
		t.Error("no fault")
	}
	if f := b.Stripe().Faults(); f[0].Times != 1 {
		t.Errorf("%+v", f)
	}
	if status, body := b.postJSON("/sandbox/stripe/faults", `{"match":"GET /v1/events","do":"429"}`); status != 200 || len(b.Stripe().Faults()) != 1 {
		t.Errorf("one rule: %d %s", status, body)
	}
	for _, bad := range []string{
		`[{"match":"POST","do":"500"}]`, `[{"match":"POST /v1/x","do":"explode"}]`, `[{"match":"deliver x","do":"500"}]`,
		`[{"match":"POST /v1/x","do":"bad_url"}]`, `[{"match":"POST /v1/[","do":"500"}]`, `{"mtach":"POST /v1/x"}`, `nonsense`, ``,
	} {
		if status, body := b.postJSON("/sandbox/stripe/faults", bad); status != 400 || len(b.Stripe().Faults()) != 1 {
			t.Errorf("%s: %d %s", bad, status, body)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodDelete, b.URL()+"/sandbox/stripe/faults", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || len(b.Stripe().Faults()) != 0 {
		t.Errorf("clear: %d", resp.StatusCode)
	}
}

func TestCloseEndsHeldRequests(t *testing.T) {
	b := start(t)
	if err := b.Stripe().SetFaults(sandbox.Fault{Match: "POST /v1/customers", Do: sandbox.FaultTimeout}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.api.Customers.New(&stripe.CustomerParams{})
		done <- err
	}()
	wait(t, "the request to be held", func() bool { return len(b.Stripe().Faults()) == 0 })
	began := time.Now()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("close took %s", took)
	}
	if err := <-done; err == nil {
		t.Error("the held request was answered")
	}
}

func TestRefunds(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	s := b.pay(5000, "tu_1")
	pi, ch := s.PaymentIntent.ID, s.PaymentIntent.LatestCharge.ID
	refund := func(p *stripe.RefundParams, pence int64) (*stripe.Refund, error) {
		if pence != 0 {
			p.Amount = new(pence)
		}
		return b.api.Refunds.New(p)
	}
	first, err := refund(&stripe.RefundParams{PaymentIntent: new(pi), Reason: new("requested_by_customer")}, 1500)
	if err != nil || first.Status != stripe.RefundStatusSucceeded || first.Charge.ID != ch || first.PaymentIntent.ID != pi {
		t.Fatalf("%v %+v", err, first)
	}
	_, err = refund(&stripe.RefundParams{Charge: new(ch)}, 3501)
	if e := stripeError(t, err); e.HTTPStatusCode != 400 || e.Param != "amount" {
		t.Errorf("too much: %v", e)
	}
	rest, err := refund(&stripe.RefundParams{Charge: new(ch)}, 0)
	if err != nil || rest.Amount != 3500 {
		t.Fatalf("%v %+v", err, rest)
	}
	_, err = refund(&stripe.RefundParams{Charge: new(ch)}, 0)
	if e := stripeError(t, err); e.Code != stripe.ErrorCodeChargeAlreadyRefunded {
		t.Errorf("nothing left: %v", e)
	}
	if _, err = refund(&stripe.RefundParams{}, 100); err == nil {
		t.Error("a refund of nothing")
	}
	wait(t, "refund events", func() bool { return rc.count("charge.refunded") == 2 && rc.count("refund.created") == 2 })
	got, err := b.api.Charges.Get(ch, nil)
	if err != nil || got.AmountRefunded != 5000 || !got.Refunded {
		t.Errorf("%v %+v", err, got)
	}
	it := b.api.Refunds.List(&stripe.RefundListParams{PaymentIntent: new(pi)})
	var ids []string
	for it.Next() {
		ids = append(ids, it.Refund().ID)
	}
	if !slices.Equal(ids, []string{rest.ID, first.ID}) {
		t.Errorf("refunds %v", ids)
	}
	if p := b.books().Payments[0]; p.AmountRefunded != 5000 || p.Net != 0 || p.TopUpID != "tu_1" {
		t.Errorf("%+v", p)
	}

	// The bank gives one back.
	if status, _, body := b.post("/sandbox/stripe/refunds/" + first.ID + "/fail"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	wait(t, "charge.refund.updated", func() bool { return rc.count("charge.refund.updated") == 1 })
	e := rc.first("charge.refund.updated")
	if e.GetObjectValue("status") != "failed" || e.GetPreviousValue("status") != "succeeded" {
		t.Errorf("%s", e.Data.Raw)
	}
	got, err = b.api.Charges.Get(ch, nil)
	if err != nil || got.AmountRefunded != 3500 || got.Refunded {
		t.Errorf("%v %+v", err, got)
	}
	if p := b.books().Payments[0]; p.Net != 1500 {
		t.Errorf("%+v", p)
	}
}

// A refund asked for twice under one key is one refund, and what cannot be refunded moves no money.
func TestRefundsAreChecked(t *testing.T) {
	b := start(t)
	s := b.pay(5000, "tu_1")
	pi := s.PaymentIntent.ID
	keyed := func(pence int64, reason string) (*stripe.Refund, error) {
		p := &stripe.RefundParams{PaymentIntent: new(pi), Amount: new(pence), Reason: new(reason)}
		p.AddMetadata("refund_id", "rf_1")
		p.IdempotencyKey = new("refund:rf_1")
		return b.api.Refunds.New(p)
	}
	b.misbehave(sandbox.Fault{Match: "POST /v1/refunds", Do: sandbox.FaultCutAfterActing})
	if _, err := newAPIOver(oneByOne(), b.URL(), 0).Refunds.New(&stripe.RefundParams{PaymentIntent: new(pi), Amount: stripe.Int64(100)}); err == nil {
		t.Error("the lost answer came")
	}
	first, err := keyed(1400, "duplicate")
	if err != nil || first.Metadata["refund_id"] != "rf_1" || first.Reason != stripe.RefundReasonDuplicate || first.Amount != 1400 {
		t.Fatalf("%v, %+v", err, first)
	}
	again, err := keyed(1400, "duplicate")
	if err != nil || again.ID != first.ID || again.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v, %+v", err, again)
	}
	if _, err = keyed(1401, "duplicate"); stripeError(t, err).Type != stripe.ErrorTypeIdempotency {
		t.Errorf("%v", err)
	}
	unpaid := b.session(5000, "tu_2")
	b.post(unpaid.URL + "/decline")
	for name, tc := range map[string]struct {
		p    *stripe.RefundParams
		says string
	}{
		"too much":   {&stripe.RefundParams{PaymentIntent: new(pi), Amount: stripe.Int64(3501)}, "Refund amount (£35.01) is greater than unrefunded amount on charge (£35.00)"},
		"nothing":    {&stripe.RefundParams{PaymentIntent: new(pi), Amount: stripe.Int64(0)}, "Invalid positive integer"},
		"negative":   {&stripe.RefundParams{PaymentIntent: new(pi), Amount: stripe.Int64(-1)}, "Invalid positive integer"},
		"reason":     {&stripe.RefundParams{PaymentIntent: new(pi), Reason: new("because")}, "must be one of duplicate, fraudulent, requested_by_customer"},
		"unknown":    {&stripe.RefundParams{PaymentIntent: new("pi_none")}, "No such payment_intent: 'pi_none'"},
		"never paid": {&stripe.RefundParams{PaymentIntent: new(b.get(unpaid.ID).PaymentIntent.ID)}, "does not have a successful charge to refund"},
	} {
		_, err := b.api.Refunds.New(tc.p)
		if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest || e.Type != stripe.ErrorTypeInvalidRequest || !strings.Contains(e.Msg, tc.says) {
			t.Errorf("%s: %v", name, e)
		}
	}
	if p := b.books().Payments[0]; p.AmountRefunded != 1500 || p.Net != 3500 {
		t.Errorf("%+v", p)
	}
	if _, err := b.api.Refunds.New(&stripe.RefundParams{PaymentIntent: new(pi)}); err != nil {
		t.Error(err)
	}
	_, err = b.api.Refunds.New(&stripe.RefundParams{PaymentIntent: new(pi), Amount: stripe.Int64(1)})
	if e := stripeError(t, err); e.Code != stripe.ErrorCodeChargeAlreadyRefunded || !strings.Contains(e.Msg, "has already been refunded") {
		t.Errorf("%v", e)
	}
}

func TestDisputes(t *testing.T) {
	for name, c := range map[string]struct {
		query  string
		steps  []string
		status stripe.DisputeStatus
		net    int64
		events []string
	}{
		"won": {"", []string{"close?outcome=won"}, stripe.DisputeStatusWon, 5000, []string{
			"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed",
		}},
		"lost": {"?amount=2000", []string{"close?outcome=lost"}, stripe.DisputeStatusLost, 3000, []string{
			"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.closed",
		}},
		"inquiry": {"?kind=inquiry", []string{"close?outcome=won"}, stripe.DisputeStatusWarningClosed, 5000, []string{
			"charge.dispute.created", "charge.dispute.closed",
		}},
		"escalated": {"?kind=inquiry", []string{"escalate", "close?outcome=lost"}, stripe.DisputeStatusLost, 0, []string{
			"charge.dispute.created", "charge.dispute.updated", "charge.dispute.funds_withdrawn", "charge.dispute.closed",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			rc := newReceiver(t)
			b := start(t, to(rc))
			s := b.pay(5000, "tu_1")
			ch := s.PaymentIntent.LatestCharge.ID
			status, _, body := b.post("/sandbox/stripe/charges/" + ch + "/dispute" + c.query)
			if status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			if status, _, _ := b.post("/sandbox/stripe/charges/" + ch + "/dispute"); status != http.StatusConflict {
				t.Errorf("disputed twice: %d", status)
			}
			id := decode[stripe.Dispute](t, body).ID
			if name == "won" {
				_, err := b.api.Refunds.New(&stripe.RefundParams{Charge: new(ch)})
				if e := stripeError(t, err); e.Code != stripe.ErrorCodeChargeDisputed {
					t.Errorf("refund of a charged-back payment: %v", e)
				}
				if p := b.books().Payments[0]; p.Net != 0 || !p.Disputed || p.AmountDisputed != 5000 {
					t.Errorf("%+v", p)
				}
			}
			for _, step := range c.steps {
				if status, _, body := b.post("/sandbox/stripe/disputes/" + id + "/" + step); status != 200 {
					t.Fatalf("%s: %d %s", step, status, body)
				}
			}
			d, err := b.api.Disputes.Get(id, nil)
			if err != nil || d.Status != c.status || d.Charge.ID != ch || d.PaymentIntent.ID != s.PaymentIntent.ID {
				t.Fatalf("%v %+v", err, d)
			}
			if p := b.books().Payments[0]; p.Net != c.net {
				t.Errorf("net %d, want %d", p.Net, c.net)
			}
			var got []string
			wait(t, "events", func() bool {
				got = slices.DeleteFunc(rc.types(), func(k string) bool { return !strings.HasPrefix(k, "charge.dispute") })
				return len(got) == len(c.events)
			})
			slices.Sort(got)
			slices.Sort(c.events)
			if !slices.Equal(got, c.events) {
				t.Errorf("events %v", got)
			}
			if status, _, _ := b.post("/sandbox/stripe/disputes/" + id + "/close?outcome=won"); status != http.StatusConflict {
				t.Errorf("closed twice: %d", status)
			}
		})
	}
}

func TestOffSession(t *testing.T) {
	b := start(t)
	c, err := b.api.Customers.New(&stripe.CustomerParams{Email: new("owner@harbour.example")})
	if err != nil {
		t.Fatal(err)
	}
	p := sessionParams(5000, "tu_1")
	p.Customer, p.PaymentIntentData.SetupFutureUsage = new(c.ID), new("off_session")
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	b.post(s.URL + "/pay")
	it := b.api.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: new(c.ID), Type: new("card")})
	if !it.Next() {
		t.Fatalf("the card was not saved: %v", it.Err())
	}
	charge := func(method string) (*stripe.PaymentIntent, error) {
		p := &stripe.PaymentIntentParams{
			Amount: stripe.Int64(5000), Currency: new("gbp"), Customer: new(c.ID),
			PaymentMethod: new(method), Confirm: new(true), OffSession: new(true),
		}
		p.AddMetadata("top_up_id", "tu_auto")
		return b.api.PaymentIntents.New(p)
	}
	pi, err := charge(it.PaymentMethod().ID)
	if err != nil || pi.Status != stripe.PaymentIntentStatusSucceeded || pi.AmountReceived != 5000 {
		t.Fatalf("%v %+v", err, pi)
	}
	_, err = charge("pm_card_chargeDeclined")
	if e := stripeError(t, err); e.HTTPStatusCode != 402 || e.Code != stripe.ErrorCodeCardDeclined || e.PaymentIntent == nil {
		t.Errorf("%v", e)
	}
	_, err = charge("pm_card_authenticationRequired")
	e := stripeError(t, err)
	if e.HTTPStatusCode != 402 || e.Code != stripe.ErrorCodeAuthenticationRequired {
		t.Fatalf("%v", e)
	}
	// The late authentication that would charge twice is prevented by cancelling.
	cancelled, err := b.api.PaymentIntents.Cancel(e.PaymentIntent.ID, nil)
	if err != nil || cancelled.Status != stripe.PaymentIntentStatusCanceled {
		t.Errorf("%v %+v", err, cancelled)
	}
	_, err = b.api.PaymentIntents.Confirm(e.PaymentIntent.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: new("pm_card_visa")})
	if stripeError(t, err).Code != stripe.ErrorCodePaymentIntentUnexpectedState {
		t.Errorf("confirmed a cancelled one: %v", err)
	}
	lp := &stripe.PaymentIntentListParams{Customer: new(c.ID)}
	n := 0
	for it := b.api.PaymentIntents.List(lp); it.Next(); {
		n++
	}
	if n != 4 || b.books().Totals["gbp"].Received != 10_000 {
		t.Errorf("%d payment intents, %s", n, b.books())
	}
}
