package sandbox_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

func TestSessionIsCreatedAsAsked(t *testing.T) {
	b := start(t)
	c, err := b.api.Customers.New(&stripe.CustomerParams{Email: new("owner@harbour.example")})
	if err != nil {
		t.Fatal(err)
	}
	p := sessionParams(3950, "tu_1")
	p.Customer = new(c.ID)
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := b.URL() + "/c/pay/" + s.ID; s.URL != want {
		t.Errorf("url %s, want %s", s.URL, want)
	}
	if !strings.HasPrefix(s.ID, "cs_test_") || s.Livemode || s.Status != stripe.CheckoutSessionStatusOpen ||
		s.PaymentStatus != stripe.CheckoutSessionPaymentStatusUnpaid || s.AmountTotal != 3950 || s.Currency != "gbp" ||
		s.PaymentIntent != nil || s.Customer.ID != c.ID || s.ClientReferenceID != "org_1" || s.Metadata["top_up_id"] != "tu_1" {
		t.Errorf("session %+v", s)
	}
	if left := time.Until(time.Unix(s.ExpiresAt, 0)); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("expires in %s", left)
	}
	got := b.get(s.ID)
	if got.ID != s.ID || got.AmountTotal != 3950 {
		t.Errorf("got %+v", got)
	}
	if s.LastResponse.Header.Get("Request-Id") == "" {
		t.Error("no Request-Id")
	}
}

func TestSessionValidation(t *testing.T) {
	b := start(t)
	for name, c := range map[string]struct {
		change func(*stripe.CheckoutSessionParams)
		code   stripe.ErrorCode
		param  string
	}{
		"no mode":         {func(p *stripe.CheckoutSessionParams) { p.Mode = nil }, "parameter_missing", "mode"},
		"no success":      {func(p *stripe.CheckoutSessionParams) { p.SuccessURL = nil }, "parameter_missing", "success_url"},
		"bad success":     {func(p *stripe.CheckoutSessionParams) { p.SuccessURL = new("javascript:alert(1)") }, "url_invalid", "success_url"},
		"bad cancel":      {func(p *stripe.CheckoutSessionParams) { p.CancelURL = new("wallet") }, "url_invalid", "cancel_url"},
		"no items":        {func(p *stripe.CheckoutSessionParams) { p.LineItems = nil }, "parameter_missing", "line_items"},
		"29 pence":        {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.UnitAmount = stripe.Int64(29) }, "amount_too_small", "line_items"},
		"negative":        {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.UnitAmount = stripe.Int64(-1) }, "parameter_invalid_integer", "line_items[0][price_data][unit_amount]"},
		"too much":        {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.UnitAmount = stripe.Int64(100_000_000) }, "amount_too_large", "line_items[0][price_data][unit_amount]"},
		"too much in all": {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Quantity = stripe.Int64(999_999) }, "amount_too_large", "line_items"},
		"no quantity":     {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Quantity = nil }, "parameter_missing", "line_items[0][quantity]"},
		"no name":         {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.ProductData = nil }, "parameter_missing", "line_items[0][price_data][product_data][name]"},
		"odd currency":    {func(p *stripe.CheckoutSessionParams) { p.LineItems[0].PriceData.Currency = new("xxx") }, "", "line_items[0][price_data][currency]"},
		"no customer":     {func(p *stripe.CheckoutSessionParams) { p.Customer = new("cus_none") }, "resource_missing", "customer"},
		"unknown":         {func(p *stripe.CheckoutSessionParams) { p.AddExtra("favourite_colour", "blue") }, "parameter_unknown", "favourite_colour"},
		"bad expand":      {func(p *stripe.CheckoutSessionParams) { p.AddExpand("colour") }, "", "expand"},
		"unknown within":  {func(p *stripe.CheckoutSessionParams) { p.AddExtra("payment_intent_data[colour]", "blue") }, "parameter_unknown", "payment_intent_data[colour]"},
		"expires soon":    {func(p *stripe.CheckoutSessionParams) { p.ExpiresAt = new(time.Now().Unix() + 60) }, "", "expires_at"},
		"expires late":    {func(p *stripe.CheckoutSessionParams) { p.ExpiresAt = new(time.Now().Unix() + 90_000) }, "", "expires_at"},
		"long metadata":   {func(p *stripe.CheckoutSessionParams) { p.AddMetadata("k", strings.Repeat("x", 501)) }, "", "metadata[k]"},
		"subscription":    {func(p *stripe.CheckoutSessionParams) { p.Mode = new("subscription") }, "", "mode"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sessionParams(500, "tu_1")
			c.change(p)
			_, err := b.api.CheckoutSessions.New(p)
			e := stripeError(t, err)
			if e.HTTPStatusCode != http.StatusBadRequest || e.Type != stripe.ErrorTypeInvalidRequest || e.Code != c.code || e.Param != c.param {
				t.Errorf("%d %s code=%q param=%q %s", e.HTTPStatusCode, e.Type, e.Code, e.Param, e.Msg)
			}
		})
	}
	if n := len(b.books().SessionsPerTopUp); n != 0 {
		t.Errorf("%d sessions were made", n)
	}
}

func TestKeysAndPaths(t *testing.T) {
	b := start(t)
	status := func(auth, path string, header ...string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, b.URL()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, read(t, resp)
	}
	for _, c := range []struct {
		auth, path string
		header     []string
		want       int
	}{
		{"Bearer sk_test_x", "/v1/customers", nil, 200},
		{"Bearer rk_test_x", "/v1/customers", nil, 200},
		{"Basic c2tfdGVzdF94Og==", "/v1/customers", nil, 200}, // sk_test_x:
		{"", "/v1/customers", nil, 401},
		{"Bearer sk_live_x", "/v1/customers", nil, 401},
		{"Bearer pk_test_x", "/v1/customers", nil, 401},
		{"Bearer sk_test_", "/v1/customers", nil, 401},
		{"Bearer sk_test_x", "/v1/unicorns", nil, 404},
		{"Bearer sk_test_x", "/v1/checkout/sessions/cs_test_none", nil, 404},
		{"Bearer sk_test_x", "/v1/customers", []string{"Stripe-Version", "2020-08-27"}, 400},
		{"Bearer sk_test_x", "/v1/customers", []string{"Host", "evil.example"}, 421},
	} {
		got, body := status(c.auth, c.path, c.header...)
		if got != c.want {
			t.Errorf("%q %s %v: %d, want %d: %s", c.auth, c.path, c.header, got, c.want, body)
		}
		if got >= 400 && got != 421 && decode[map[string]map[string]any](t, body)["error"]["type"] != "invalid_request_error" {
			t.Errorf("%s: %s", c.path, body)
		}
	}
}

func TestPay(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	s := b.session(5000, "tu_1")
	status, location, _ := b.post(s.URL + "/pay")
	if want := strings.ReplaceAll(successURL, "{CHECKOUT_SESSION_ID}", s.ID); status != http.StatusSeeOther || location != want {
		t.Fatalf("%d to %s", status, location)
	}
	s = b.get(s.ID)
	pi := s.PaymentIntent
	if s.Status != stripe.CheckoutSessionStatusComplete || s.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid || s.URL != "" {
		t.Errorf("session %s %s %q", s.Status, s.PaymentStatus, s.URL)
	}
	if pi.Status != stripe.PaymentIntentStatusSucceeded || pi.AmountReceived != 5000 || pi.Metadata["top_up_id"] != "tu_1" ||
		pi.Description != "Top-up of Harbour Dental" {
		t.Errorf("payment intent %+v", pi)
	}
	ch := pi.LatestCharge
	if !ch.Paid || !ch.Captured || ch.Amount != 5000 || ch.Metadata["top_up_id"] != "tu_1" || ch.PaymentIntent.ID != pi.ID ||
		ch.PaymentMethodDetails.Card.Last4 != "4242" {
		t.Errorf("charge %+v", ch)
	}
	if status, body, _ := b.page(strings.TrimPrefix(ch.ReceiptURL, b.URL())); status != 200 || !strings.Contains(body, "£50.00") {
		t.Errorf("receipt: %d %s", status, body)
	}
	wait(t, "4 events", func() bool { return len(rc.types()) == 4 })
	got := rc.types()
	slices.Sort(got)
	want := []string{"charge.succeeded", "checkout.session.completed", "payment_intent.created", "payment_intent.succeeded"}
	if !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}

	// Again, and by every other button: the page says so and nothing happens.
	for _, a := range []string{"/pay", "/decline", "/pay-later"} {
		if status, _, body := b.post(b.URL() + "/c/pay/" + s.ID + a); status != http.StatusConflict || !strings.Contains(body, "Already paid") {
			t.Errorf("%s: %d %s", a, status, body)
		}
	}
	if books := b.books(); len(books.Payments) != 1 || books.Totals["gbp"].Net != 5000 {
		t.Errorf("books %s", books)
	}
}

func TestPayByTwentyAtOnceIsOnePayment(t *testing.T) {
	b := start(t)
	s := b.session(5000, "tu_1")
	var wg sync.WaitGroup
	codes := make([]int, 20)
	for i := range codes {
		wg.Go(func() {
			resp, err := noRedirect.Post(s.URL+"/pay", "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			codes[i] = resp.StatusCode
		})
	}
	wg.Wait()
	slices.Sort(codes)
	if codes[0] != http.StatusSeeOther || codes[1] != http.StatusConflict {
		t.Errorf("codes %v", codes)
	}
	if books := b.books(); books.Totals["gbp"].Received != 5000 || len(books.Payments) != 1 {
		t.Errorf("books %s", books)
	}
}

func TestDeclineThenPay(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	s := b.session(5000, "tu_1")
	status, location, _ := b.post(s.URL + "/decline")
	if status != http.StatusSeeOther || location != s.URL {
		t.Fatalf("%d to %s", status, location)
	}
	if _, body, _ := b.page("/c/pay/" + s.ID); !strings.Contains(body, "Your card was declined.") {
		t.Errorf("the page does not tell of the decline: %s", body)
	}
	got := b.get(s.ID)
	first := got.PaymentIntent
	if got.Status != stripe.CheckoutSessionStatusOpen || first.Status != stripe.PaymentIntentStatusRequiresPaymentMethod ||
		first.LastPaymentError.Code != stripe.ErrorCodeCardDeclined || first.AmountReceived != 0 {
		t.Errorf("after the decline: %s, %+v", got.Status, first)
	}
	wait(t, "payment_failed", func() bool { return rc.count("payment_intent.payment_failed") == 1 && rc.count("charge.failed") == 1 })
	b.post(s.URL + "/pay")
	got = b.get(s.ID)
	if got.PaymentIntent.ID != first.ID || got.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid || got.PaymentIntent.LastPaymentError != nil {
		t.Errorf("after paying: %+v", got)
	}
}

func TestPayLater(t *testing.T) {
	for _, outcome := range []string{"succeed", "fail"} {
		t.Run(outcome, func(t *testing.T) {
			rc := newReceiver(t)
			b := start(t, to(rc))
			s := b.session(5000, "tu_1")
			if status, _, body := b.post(s.URL + "/pay-later"); status != http.StatusSeeOther {
				t.Fatalf("%d %s", status, body)
			}
			wait(t, "completed", func() bool { return rc.count("checkout.session.completed") == 1 })
			e := rc.first("checkout.session.completed")
			if e.GetObjectValue("payment_status") != "unpaid" {
				t.Errorf("completed with payment_status %s", e.GetObjectValue("payment_status"))
			}
			got := b.get(s.ID)
			if got.Status != stripe.CheckoutSessionStatusComplete || got.PaymentStatus != stripe.CheckoutSessionPaymentStatusUnpaid ||
				got.PaymentIntent.Status != stripe.PaymentIntentStatusProcessing || got.PaymentIntent.AmountReceived != 0 {
				t.Errorf("before settlement: %+v", got)
			}
			path := "/sandbox/stripe/sessions/" + s.ID + "/settle?outcome=" + outcome
			if status, _, body := b.post(path); status != http.StatusOK {
				t.Fatalf("settle: %d %s", status, body)
			}
			got = b.get(s.ID)
			if outcome == "succeed" {
				wait(t, "events", func() bool {
					return rc.count("checkout.session.async_payment_succeeded") == 1 && rc.count("payment_intent.succeeded") == 1
				})
				if got.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid || got.PaymentIntent.AmountReceived != 5000 ||
					got.PaymentIntent.LatestCharge.PaymentMethodDetails.Type != "bacs_debit" {
					t.Errorf("after settlement: %+v", got)
				}
			} else {
				wait(t, "events", func() bool {
					return rc.count("checkout.session.async_payment_failed") == 1 && rc.count("payment_intent.payment_failed") == 1
				})
				if got.PaymentStatus != stripe.CheckoutSessionPaymentStatusUnpaid || got.PaymentIntent.AmountReceived != 0 {
					t.Errorf("after failure: %+v", got)
				}
			}
			if status, _, _ := b.post(path); status != http.StatusConflict {
				t.Errorf("settling twice: %d", status)
			}
		})
	}
}

func TestPayLaterSettlesByItself(t *testing.T) {
	ck := newClock()
	b := start(t, func(o *sandbox.Options) { o.Now, o.SettleAfter = ck.Now, 20*time.Second })
	s := b.session(5000, "tu_1")
	b.post(s.URL + "/pay-later")
	if got := b.get(s.ID); got.PaymentStatus != stripe.CheckoutSessionPaymentStatusUnpaid {
		t.Fatalf("paid too early: %+v", got)
	}
	ck.Add(21 * time.Second)
	wait(t, "settlement", func() bool { return b.books().Totals["gbp"].Received == 5000 })
}

func TestPayLaterNeedsADelayedMethod(t *testing.T) {
	b := start(t)
	p := sessionParams(5000, "tu_1")
	p.PaymentMethodTypes = stripe.StringSlice([]string{"card"})
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, _ := b.post(s.URL + "/pay-later"); status != http.StatusBadRequest {
		t.Errorf("pay-later with cards only: %d", status)
	}
	if _, body, _ := b.page("/c/pay/" + s.ID); strings.Contains(body, "Pay later") {
		t.Error("the page offers Pay later")
	}
}

func TestExpire(t *testing.T) {
	rc := newReceiver(t)
	b := start(t, to(rc))
	s := b.session(5000, "tu_1")
	got, err := b.api.CheckoutSessions.Expire(s.ID, nil)
	if err != nil || got.Status != stripe.CheckoutSessionStatusExpired || got.URL != "" {
		t.Fatalf("%v %+v", err, got)
	}
	wait(t, "expired", func() bool { return rc.count("checkout.session.expired") == 1 })
	if status, _, body := b.post(s.URL + "/pay"); status != http.StatusConflict || !strings.Contains(body, "has expired") {
		t.Errorf("paying an expired session: %d %s", status, body)
	}
	_, err = b.api.CheckoutSessions.Expire(s.ID, nil)
	if e := stripeError(t, err); e.HTTPStatusCode != http.StatusBadRequest {
		t.Errorf("expiring twice: %v", e)
	}
	if n := len(b.books().Payments); n != 0 {
		t.Errorf("%d payments", n)
	}
}

func TestExpiresByTheClock(t *testing.T) {
	ck := newClock()
	rc := newReceiver(t)
	b := start(t, to(rc), func(o *sandbox.Options) { o.Now = ck.Now })
	s := b.session(5000, "tu_1")
	b.post(s.URL + "/decline")
	ck.Add(24*time.Hour + time.Second)
	// Whoever comes first, the clock or the payer: it is expired, once.
	if status, _, _ := b.post(s.URL + "/pay"); status != http.StatusConflict {
		t.Errorf("paid after the end: %d", status)
	}
	list := b.api.Events.List(&stripe.EventListParams{Type: new("checkout.session.expired")})
	n := 0
	for list.Next() {
		n++
	}
	if n != 1 {
		t.Errorf("%d expired events", n)
	}
	if got := b.get(s.ID); got.Status != stripe.CheckoutSessionStatusExpired || got.PaymentIntent.Status != stripe.PaymentIntentStatusCanceled {
		t.Errorf("%s, %s", got.Status, got.PaymentIntent.Status)
	}
}

func TestNothingToPay(t *testing.T) {
	b := start(t)
	s := b.session(0, "tu_1")
	if status, _, _ := b.post(s.URL + "/pay"); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	got := b.get(s.ID)
	if got.PaymentStatus != stripe.CheckoutSessionPaymentStatusNoPaymentRequired || got.PaymentIntent != nil || got.Status != stripe.CheckoutSessionStatusComplete {
		t.Errorf("%+v", got)
	}
}

func TestListsFilterAndPage(t *testing.T) {
	b := start(t)
	var ids []string
	for range 7 {
		ids = append(ids, b.session(500, "tu").ID)
	}
	slices.Reverse(ids)
	b.post(b.URL() + "/c/pay/" + ids[2] + "/pay")

	collect := func(p *stripe.CheckoutSessionListParams) (got []string) {
		it := b.api.CheckoutSessions.List(p)
		for it.Next() {
			got = append(got, it.CheckoutSession().ID)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		return got
	}
	p := &stripe.CheckoutSessionListParams{}
	p.Limit = stripe.Int64(3) // the SDK pages through with starting_after
	if got := collect(p); !slices.Equal(got, ids) {
		t.Errorf("all: %v, want %v", got, ids)
	}
	p = &stripe.CheckoutSessionListParams{Status: new("complete")}
	if got := collect(p); !slices.Equal(got, ids[2:3]) {
		t.Errorf("complete: %v", got)
	}
	p = &stripe.CheckoutSessionListParams{}
	p.Limit, p.EndingBefore = stripe.Int64(2), new(ids[5])
	want := slices.Clone(ids[:5]) // with ending_before the SDK goes from the older to the newer ones
	slices.Reverse(want)
	if got := collect(p); !slices.Equal(got, want) {
		t.Errorf("ending_before: %v, want %v", got, want)
	}
	now := time.Now().Unix()
	p = &stripe.CheckoutSessionListParams{}
	p.Filters.AddFilter("created", "lt", "5")
	if got := collect(p); len(got) != 0 {
		t.Errorf("created[lt]=5: %v", got)
	}
	ch := &stripe.ChargeListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: now - 60, LesserThanOrEqual: now + 60}}
	it := b.api.Charges.List(ch)
	n := 0
	for it.Next() {
		n++
	}
	if it.Err() != nil || n != 1 {
		t.Errorf("%d charges, %v", n, it.Err())
	}
	p = &stripe.CheckoutSessionListParams{}
	p.Limit = stripe.Int64(101)
	bad := b.api.CheckoutSessions.List(p)
	if bad.Next() || bad.Err() == nil {
		t.Error("limit 101 was taken")
	}
	p = &stripe.CheckoutSessionListParams{}
	p.StartingAfter = new("cs_test_none")
	bad = b.api.CheckoutSessions.List(p)
	if bad.Next() || stripeError(t, bad.Err()).Code != stripe.ErrorCodeResourceMissing {
		t.Errorf("unknown cursor: %v", bad.Err())
	}
}

func TestHostedPageIsSafe(t *testing.T) {
	b := start(t)
	p := sessionParams(123_450, "tu_1")
	p.LineItems[0].PriceData.ProductData.Name = new(`<script>alert(1)</script>`)
	p.PaymentIntentData.Description = new(`"><img src=x onerror=alert(1)>`)
	s, err := b.api.CheckoutSessions.New(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/c/pay/" + s.ID, "/"} {
		status, body, header := b.page(path)
		if status != 200 || strings.Contains(body, "<script") || strings.Contains(body, "<img") || strings.Contains(body, " style=") {
			t.Errorf("%s: %d %s", path, status, body)
		}
		csp := header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: CSP %q", path, csp)
		}
		if path != "/" && !strings.Contains(csp, "form-action 'self' https://shop.example") {
			t.Errorf("the browser may not follow the payment to success_url: %q", csp)
		}
		if !strings.Contains(body, "no real money") || !strings.Contains(body, "£1,234.50") {
			t.Errorf("%s: %s", path, body)
		}
	}
	if status, _, _ := b.page("/c/pay/cs_test_none"); status != 404 {
		t.Errorf("unknown session: %d", status)
	}
	req, err := http.NewRequest(http.MethodPost, s.URL+"/pay", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page could pay: %d", resp.StatusCode)
	}
}

func TestOverviewButtons(t *testing.T) {
	b := start(t)
	s := b.pay(5000, "tu_1")
	req, err := http.NewRequest(http.MethodPost, b.URL()+"/sandbox/stripe/charges/"+s.PaymentIntent.LatestCharge.ID+"/refund",
		strings.NewReader(url.Values{"amount": {"1500"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/" {
		t.Errorf("%d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	_, body, _ := b.page("/")
	if !strings.Contains(body, "£35.00") || !strings.Contains(body, "checkout.session.completed") {
		t.Error("the overview does not show the refunded payment")
	}
}
