package payments_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"golang.org/x/sync/errgroup"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/jobs"
)

const (
	makeSession  = "POST /v1/checkout/sessions"
	makeCustomer = "POST /v1/customers"
)

// desk is a fixture whose services talk to a sandbox Stripe over a line that is listened to. Its organisations have no
// customer at Stripe yet.
type desk struct {
	*fixture
	box  *sandbox.Server
	line *line
	api  *client.API // asks the sandbox directly
}

func newDesk(t *testing.T, change ...func(*sandbox.Options)) *desk {
	t.Helper()
	d := &desk{fixture: newFixture(t)}
	dbtest.Super(t, d.url, `DELETE FROM stripe_customers`)
	o := sandbox.Options{
		Addr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "sandbox.db"), SettleAfter: -1,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	// It outlives the test, whose context ends before its workers do.
	if d.box, err = sandbox.Start(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.box.Close(); err != nil {
			t.Errorf("couldn't close the sandbox: %v", err)
		}
	})
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: new(d.box.URL()), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	d.api = client.New("sk_test_look", &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	d.line = newLine(t, d.box.URL())
	d.svc = d.service(d.onLine)
	return d
}

// onLine makes a service talk over the desk's line.
func (d *desk) onLine(o *payments.Options) {
	o.Now, o.StripeBase, o.CheckoutOrigins, o.FreezeOnDispute = time.Now, d.line.url, []string{d.box.URL()}, true
}

// faults puts the sandbox's faults into force; none clears them.
func (d *desk) faults(rules ...sandbox.Fault) {
	d.t.Helper()
	if err := d.box.Stripe().SetFaults(rules...); err != nil {
		d.t.Fatal(err)
	}
}

// start starts a top-up of Harbour Dental's owner, in pounds.
func (d *desk) start(amount string) payments.TopUp {
	d.t.Helper()
	t, err := d.svc.StartTopUp(d.t.Context(), d.org, d.user, amount, "gbp")
	if err != nil {
		d.t.Fatalf("couldn't start a top-up of %s: %v", amount, err)
	}
	return t
}

// refused starts a top-up that must not come about, and checks what the person is told.
func (d *desk) refused(amount string, kind fault.Kind) {
	d.t.Helper()
	t, err := d.svc.StartTopUp(d.t.Context(), d.org, d.user, amount, "gbp")
	e := fault.As(err)
	if err == nil || e.Kind != kind {
		d.t.Fatalf("the top-up of %s gave %+v and %v, want a fault of kind %d", amount, t, err, kind)
	}
	if !strings.Contains(e.Public, "Nothing was charged.") || strings.Contains(e.Public, "scripted") {
		d.t.Errorf("the person reads %q", e.Public)
	}
	if t.CheckoutURL != "" || t.SessionID != "" {
		d.t.Errorf("a refused top-up came with %+v", t)
	}
}

// sessions counts the sessions that Stripe has made for a top-up.
func (d *desk) sessions(topUp uuid.UUID) int {
	return d.box.Stripe().Books().SessionsPerTopUp[topUp.String()]
}

// allSessions counts those of all top-ups.
func (d *desk) allSessions() (n int) {
	for _, of := range d.box.Stripe().Books().SessionsPerTopUp {
		n += of
	}
	return n
}

// count gives a number from the database.
func (d *desk) count(query string, args ...any) (n int) {
	d.t.Helper()
	dbtest.Get(d.t, d.url, &n, query, args...)
	return n
}

// only gives the one top-up that exists.
func (d *desk) only() payments.TopUp {
	d.t.Helper()
	var id uuid.UUID
	if n := d.count(`SELECT count(*) FROM top_ups`); n != 1 {
		d.t.Fatalf("there are %d top-ups, want one", n)
	}
	dbtest.Get(d.t, d.url, &id, `SELECT id FROM top_ups`)
	return d.topUpNow(id)
}

func (d *desk) topUpNow(id uuid.UUID) payments.TopUp {
	d.t.Helper()
	t, err := d.svc.TopUp(d.t.Context(), d.org, id)
	if err != nil {
		d.t.Fatal(err)
	}
	return t
}

// until polls for something that comes about by itself.
func (d *desk) until(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain for %s; sandbox: %s", what, d.box.Stripe().Books())
		}
		<-tick.C
	}
}

// line is a proxy before Stripe: it keeps what went over it, and can lose answers.
type line struct {
	t      *testing.T
	url    string
	target string

	mu    sync.Mutex
	calls []call
	lose  string // "METHOD /path" whose answers never arrive
}

// call is one request with the status of its answer.
type call struct {
	what, key string
	form      url.Values
	status    int
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	l := &line{t: t, target: target}
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	l.url = srv.URL
	return l
}

func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := l.pass(w, r); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
		l.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
}

func (l *line) pass(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return err
	}
	c := call{what: r.Method + " " + r.URL.Path, key: r.Header.Get("Idempotency-Key"), form: form}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, l.target+r.URL.RequestURI(), strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	var answer []byte
	if err == nil {
		defer resp.Body.Close()
		c.status = resp.StatusCode
		if answer, err = io.ReadAll(resp.Body); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.calls = append(l.calls, c)
	lost := l.lose == c.what
	l.mu.Unlock()
	if err != nil || lost { // the far end hung up, or is made to seem so: the caller learns nothing
		conn, _, herr := http.NewResponseController(w).Hijack()
		if herr != nil {
			return herr
		}
		return errors.Join(conn.Close(), err)
	}
	maps.Copy(w.Header(), resp.Header)
	w.Header().Del("Content-Length")
	w.WriteHeader(resp.StatusCode)
	_, err = w.Write(answer)
	return err
}

// losing makes the answers to what get lost from now on; empty mends the line.
func (l *line) losing(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = what
}

// heard gives the requests of one kind so far, or all for "*".
func (l *line) heard(what string) (list []call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		if c.what == what || what == "*" {
			list = append(list, c)
		}
	}
	return list
}

// keys gives the idempotency keys of the requests of one kind, each once, in the order of their first use.
func (l *line) keys(what string) (keys []string) {
	for _, c := range l.heard(what) {
		if !slices.Contains(keys, c.key) {
			keys = append(keys, c.key)
		}
	}
	return keys
}

func TestQuote(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []struct {
		amount, currency string
		charge           money.Pence
		usd              money.USDCents
		credits          int64
	}{
		{"50", "usd", 39_50, 50_00, 700},
		{"50.00", "gbp", 50_00, 63_29, 890},
		{" 50 ", "gbp", 50_00, 63_29, 890},
		{"50.", "gbp", 50_00, 63_29, 890},
		{"0050.5", "gbp", 50_50, 63_92, 900},
		{"5", "gbp", 5_00, 6_33, 80},    // the smallest
		{"6.33", "usd", 5_00, 6_33, 80}, // 500.07p
		{"5000", "gbp", 5000_00, 6329_11, 89280},
		{"6329.11", "usd", 5000_00, 6329_11, 89280}, // 499999.69p
		{"7.50", "usd", 5_93, 7_50, 100},            // an exact tie, half up: 592.5p
	} {
		q, err := f.svc.Quote(t.Context(), c.amount, c.currency)
		if want := (payments.Quote{Charge: c.charge, USD: c.usd, Credits: c.credits, RateID: q.RateID}); err != nil || q != want || q.RateID == 0 {
			t.Errorf("%q %s: got %+v, %v; want %+v", c.amount, c.currency, q, err, want)
		}
	}
}

func TestPresets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	charges := func(svc *payments.Service) (list []money.Pence) {
		quotes, err := svc.Presets(t.Context(), f.org)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range quotes {
			list = append(list, q.Charge)
			// What a button says is what pressing it charges.
			if again, err := svc.Quote(t.Context(), q.USD.Decimal(), "usd"); err != nil || again != q {
				t.Errorf("the preset %+v is quoted as %+v, %v", q, again, err)
			}
		}
		return list
	}
	if got, want := charges(f.svc), []money.Pence{19_75, 39_50, 79_00, 158_00}; !slices.Equal(got, want) {
		t.Errorf("presets are %v, want %v", got, want)
	}
	narrow := f.service(func(o *payments.Options) { o.Min, o.Max = 19_76, 79_00 })
	if got, want := charges(narrow), []money.Pence{39_50, 79_00}; !slices.Equal(got, want) {
		t.Errorf("within narrower limits the presets are %v, want %v: a button must never fail", got, want)
	}
}

// TestBadAmountsCreateNothing: each gets a sentence beside its field; no row, no request to Stripe.
func TestBadAmountsCreateNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const (
		small, large = "The smallest top-up is £5.00 (about $6.33).", "The largest top-up is £5,000.00 (about $6,329.11)."
		digits       = "Use digits only, for example 50.00, without currency signs or commas."
	)
	for _, c := range []struct{ amount, currency, field, says string }{
		{"", "gbp", "amount", "Enter an amount, for example 50.00."},
		{" ", "usd", "amount", "Enter an amount, for example 50.00."},
		{"abc", "gbp", "amount", digits},
		{"0", "gbp", "amount", small},
		{"0.00", "usd", "amount", small},
		{"-5", "gbp", "amount", "Enter an amount above zero, without a minus sign."},
		{"−50", "gbp", "amount", "Enter an amount above zero, without a minus sign."},
		{"+50", "gbp", "amount", digits},
		{"1e9", "gbp", "amount", digits},
		{"0x50", "gbp", "amount", digits},
		{"NaN", "usd", "amount", digits},
		{"49.999", "gbp", "amount", "Use at most two decimals, for example 50.00."},
		{"£50", "gbp", "amount", digits},
		{"$50", "usd", "amount", digits},
		{"50 GBP", "gbp", "amount", digits},
		{"1,000", "gbp", "amount", digits},
		{"50,00", "gbp", "amount", digits},
		{"5 0", "gbp", "amount", digits},
		{"50.0.0", "gbp", "amount", digits},
		{"٥٠", "gbp", "amount", digits},
		{"５０", "gbp", "amount", digits},
		{"५०", "usd", "amount", digits},
		{"50\x00", "gbp", "amount", digits},
		{"50\u00a0", "gbp", "amount", digits},
		{"1000000000000", "gbp", "amount", "This amount is too large. Enter a smaller one."},
		{"9223372036854775807", "usd", "amount", "This amount is too large. Enter a smaller one."},
		{strings.Repeat("9", 10_000), "gbp", "amount", "This amount is too large. Enter a smaller one."},
		{"4.99", "gbp", "amount", small},
		{"6.32", "usd", "amount", small}, // 499.28p
		{"5000.01", "gbp", "amount", large},
		{"6329.13", "usd", "amount", large}, // 500001.27p
		{"100000000", "usd", "amount", large},
		{"50", "eur", "currency", "Choose US dollars or pounds."},
		{"50", "GBP", "currency", "Choose US dollars or pounds."},
		{"50", "", "currency", "Choose US dollars or pounds."},
	} {
		_, qerr := d.svc.Quote(t.Context(), c.amount, c.currency)
		top, serr := d.svc.StartTopUp(t.Context(), d.org, d.user, c.amount, c.currency)
		for what, err := range map[string]error{"quote": qerr, "top-up": serr} {
			if e := fault.As(err); err == nil || e.Kind != fault.Invalid || e.Field != c.field || e.Public != c.says {
				t.Errorf("%s of %.30q in %q: %+v, want %q beside %s", what, c.amount, c.currency, e, c.says, c.field)
			}
		}
		if top != (payments.TopUp{}) {
			t.Errorf("%.30q in %q gave %+v", c.amount, c.currency, top)
		}
	}
	if n := d.count(`SELECT (SELECT count(*) FROM top_ups) + (SELECT count(*) FROM stripe_customers) + (SELECT count(*) FROM audit_log WHERE action LIKE 'topup.%')`); n != 0 {
		t.Errorf("%d rows were made", n)
	}
	if n := len(d.line.heard(makeSession)) + len(d.line.heard(makeCustomer)); n != 0 || d.allSessions() != 0 {
		t.Errorf("Stripe was asked %d times", n)
	}
}

// TestStartTopUpAsksStripeForExactlyThis reads the session both from the wire and back from Stripe.
func TestStartTopUpAsksStripeForExactlyThis(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	top, err := d.svc.StartTopUp(t.Context(), d.org, d.user, " 50 ", "usd")
	if err != nil {
		t.Fatal(err)
	}
	var customer string
	dbtest.Get(t, d.url, &customer, `SELECT customer_id FROM stripe_customers WHERE org_id = $1`, d.org)
	if !strings.HasPrefix(customer, "cus_") {
		t.Fatalf("the organisation's customer is %q", customer)
	}
	if top.State != payments.Open || top.Amount != 39_50 || top.USD != 50_00 || top.Attempt != 1 || top.OrgID != d.org || top.UserID != d.user ||
		top.Paid != 0 || top.Note != "" || top.CheckoutURL != d.box.URL()+"/c/pay/"+top.SessionID {
		t.Errorf("top-up %+v", top)
	}
	if now := d.topUpNow(top.ID); now != top {
		t.Errorf("returned %+v\nstored   %+v", top, now)
	}
	if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'topup.started' AND subject = $1`, top.ID.String()); n != 1 {
		t.Errorf("%d audit entries, want one", n)
	}

	id, page := top.ID.String(), "http://127.0.0.1:8080/wallet/top-ups/"+top.ID.String()
	// The whole request: what is not here, such as promotion codes, is not sent.
	wantForm := url.Values{
		"mode": {"payment"}, "customer": {customer}, "client_reference_id": {id},
		"success_url": {page + "?checkout=done"}, "cancel_url": {page + "?checkout=cancelled"},
		"line_items[0][quantity]": {"1"}, "line_items[0][price_data][currency]": {"gbp"},
		"line_items[0][price_data][unit_amount]":        {"3950"},
		"line_items[0][price_data][product_data][name]": {"Wallet top-up"},
		"metadata[top_up_id]":                           {id}, "metadata[org_id]": {d.org.String()},
		"payment_intent_data[metadata][top_up_id]": {id}, "payment_intent_data[metadata][org_id]": {d.org.String()},
		"payment_intent_data[description]": {"Wallet top-up"},
		"adaptive_pricing[enabled]":        {"false"},
		"invoice_creation[enabled]":        {"true"}, "invoice_creation[invoice_data][description]": {"Prepayment into a wallet for calls, texts and numbers."},
		"invoice_creation[invoice_data][metadata][top_up_id]": {id}, "invoice_creation[invoice_data][metadata][org_id]": {d.org.String()},
	}
	calls := d.line.heard(makeSession)
	if len(calls) != 1 || calls[0].key != "topup:"+id+":1" || !maps.EqualFunc(calls[0].form, wantForm, slices.Equal) {
		t.Errorf("asked for %+v\nwant %+v", calls, wantForm)
	}
	if c := d.line.heard(makeCustomer); len(c) != 1 || c[0].key != "customer:"+id+":1" ||
		!maps.EqualFunc(c[0].form, url.Values{"name": {"Harbour Dental"}, "metadata[org_id]": {d.org.String()}}, slices.Equal) {
		t.Errorf("the customer was made with %+v", c)
	}

	s, err := d.api.CheckoutSessions.Get(top.SessionID, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta := map[string]string{"top_up_id": id, "org_id": d.org.String()}
	if s.AmountTotal != 3950 || s.Currency != stripe.CurrencyGBP || s.Mode != stripe.CheckoutSessionModePayment || s.Customer.ID != customer ||
		s.ClientReferenceID != id || !maps.Equal(s.Metadata, meta) || s.AllowPromotionCodes || s.SuccessURL != page+"?checkout=done" ||
		s.CancelURL != page+"?checkout=cancelled" || s.Status != stripe.CheckoutSessionStatusOpen {
		t.Errorf("the session is %+v", s)
	}
	d.press(top, "pay")
	p := &stripe.CheckoutSessionParams{}
	p.AddExpand("payment_intent")
	if s, err = d.api.CheckoutSessions.Get(top.SessionID, p); err != nil {
		t.Fatal(err)
	}
	if pi := s.PaymentIntent; pi.AmountReceived != 3950 || pi.Currency != stripe.CurrencyGBP || pi.Customer.ID != customer || !maps.Equal(pi.Metadata, meta) {
		t.Errorf("the PaymentIntent is %+v", s.PaymentIntent)
	}
	if n := d.allSessions(); n != 1 {
		t.Errorf("%d sessions, want one", n)
	}
}

// press does on the hosted page what a person would.
func (d *desk) press(top payments.TopUp, button string) {
	d.t.Helper()
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.PostForm(top.CheckoutURL+"/"+button, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		d.t.Fatalf("%s on %s: %s", button, top.CheckoutURL, resp.Status)
	}
	if to := resp.Header.Get("Location"); button != "decline" && to != "http://127.0.0.1:8080/wallet/top-ups/"+top.ID.String()+"?checkout=done" {
		d.t.Errorf("after %s the browser goes to %s", button, to)
	}
}

// control does what only somebody at Stripe could.
func (d *desk) control(path string, form url.Values) {
	d.t.Helper()
	resp, err := http.PostForm(d.box.URL()+"/sandbox/stripe"+path, form)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s", path, resp.Status)
	}
}

// settle ends a delayed payment: "succeed" or "fail".
func (d *desk) settle(top payments.TopUp, outcome string) {
	d.t.Helper()
	d.control("/sessions/"+top.SessionID+"/settle", url.Values{"outcome": {outcome}})
}

// TestSecondTryGivesTheSameTopUp: a reload, another tab and another process, one after the other.
func TestSecondTryGivesTheSameTopUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	first := d.start("50")
	second := d.service(d.onLine)
	for _, again := range []func() (payments.TopUp, error){
		func() (payments.TopUp, error) { return d.svc.StartTopUp(t.Context(), d.org, d.user, "50", "gbp") },
		func() (payments.TopUp, error) { return d.svc.StartTopUp(t.Context(), d.org, d.user, "50.00", "gbp") },
		// $63.29 is £50.00 too: what is charged decides.
		func() (payments.TopUp, error) { return d.svc.StartTopUp(t.Context(), d.org, d.user, "63.29", "usd") },
		func() (payments.TopUp, error) { return second.StartTopUp(t.Context(), d.org, d.user, "50", "gbp") },
	} {
		got, err := again()
		if err != nil || got.ID != first.ID || got.SessionID != first.SessionID || got.CheckoutURL != first.CheckoutURL {
			t.Errorf("got %+v, %v; want %+v", got, err, first)
		}
	}
	if n := d.sessions(first.ID); n != 1 || d.allSessions() != 1 {
		t.Errorf("%d sessions, %d in all; want one", n, d.allSessions())
	}
	d.only()
}

// TestDoubleClick: ten at once over two processes, with Stripe quick, slow to make the session, slow to make the customer.
func TestDoubleClick(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]sandbox.Fault{
		"quick":         {Match: "deliver *", Do: sandbox.FaultDrop},
		"slow session":  {Match: makeSession, Do: sandbox.FaultDelay, MS: 1500},
		"slow customer": {Match: makeCustomer, Do: sandbox.FaultDelay, MS: 1500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.faults(rule)
			processes := []*payments.Service{d.svc, d.service(d.onLine)}
			got := make([]payments.TopUp, 10)
			var g errgroup.Group
			for i := range got {
				g.Go(func() (err error) {
					got[i], err = processes[i%2].StartTopUp(t.Context(), d.org, d.user, "50", "gbp")
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			only := d.only()
			for _, g := range got {
				if g.ID != only.ID || g.State != payments.Open || g.CheckoutURL != only.CheckoutURL {
					t.Errorf("got %+v, want %+v", g, only)
				}
			}
			if n := d.sessions(only.ID); n != 1 || d.allSessions() != 1 {
				t.Errorf("%d sessions, %d in all; want one", n, d.allSessions())
			}
			if n := d.count(`SELECT count(*) FROM audit_log WHERE action = 'topup.started'`); n != 1 {
				t.Errorf("%d audit entries, want one", n)
			}
			if n := d.customers(); n != 1 {
				t.Errorf("Stripe has %d customers, want one", n)
			}
		})
	}
}

// customers counts Stripe's.
func (d *desk) customers() (n int) {
	d.t.Helper()
	it := d.api.Customers.List(nil)
	for it.Next() {
		n++
	}
	if err := it.Err(); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// TestReload: what happens to "the same amount again" once the first session is used up. No webhook arrives here, so
// only Stripe's own answer can tell.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		act  func(d *desk, top payments.TopUp)
		then payments.TopUpState
	}{
		{"expired", func(d *desk, top payments.TopUp) {
			if _, err := d.api.CheckoutSessions.Expire(top.SessionID, nil); err != nil {
				d.t.Fatal(err)
			}
		}, payments.Expired},
		{"paid", func(d *desk, top payments.TopUp) { d.press(top, "pay") }, payments.Processing},
		{"under way", func(d *desk, top payments.TopUp) { d.press(top, "pay-later") }, payments.Processing},
		{"declined", func(d *desk, top payments.TopUp) { d.press(top, "decline") }, payments.Open},
		// The key was changed for another account's, or a development sandbox lost its state.
		{"unknown to Stripe", func(d *desk, top payments.TopUp) {
			dbtest.Super(d.t, d.url, `UPDATE top_ups SET session_id = 'cs_test_elsewhere' WHERE id = $1`, top.ID)
		}, payments.Expired},
		// The list of allowed hosts was changed after the session was made.
		{"at an address of before", func(d *desk, top payments.TopUp) {
			dbtest.Super(d.t, d.url, `UPDATE top_ups SET checkout_url = 'https://elsewhere.example/c' WHERE id = $1`, top.ID)
			if now := d.topUpNow(top.ID); now.CheckoutURL != "" {
				d.t.Errorf("a browser would be sent to %s", now.CheckoutURL)
			}
		}, payments.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			first := d.start("50")
			c.act(d, first)
			again := d.start("50")
			if now := d.topUpNow(first.ID); now.State != c.then {
				t.Errorf("the first top-up is %+v, want it %s", now, c.then)
			}
			if same := again.ID == first.ID; same != (c.then == payments.Open) {
				t.Errorf("the second try gave the same top-up: %t", same)
			}
			if again.State != payments.Open || d.sessions(first.ID) != 1 || d.sessions(again.ID) != 1 {
				t.Errorf("the second try gave %+v; %d and %d sessions", again, d.sessions(first.ID), d.sessions(again.ID))
			}
			if n := d.customers(); n != 1 {
				t.Errorf("Stripe has %d customers, want one", n)
			}
		})
	}
}

// TestEverybodyTheirOwn: another user, amount or organisation never gets somebody's session.
func TestEverybodyTheirOwn(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	colleague := uuid.Must(uuid.NewV7())
	dbtest.Super(t, d.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, 'local', 'c', 'colleague@harbour.example', now())`, colleague)
	type who struct {
		org, user uuid.UUID
		amount    string
	}
	seen := map[string]who{}
	for _, w := range []who{{d.org, d.user, "50"}, {d.org, d.user, "50.01"}, {d.org, colleague, "50"}, {d.other, d.user, "50"}} {
		top, err := d.svc.StartTopUp(t.Context(), w.org, w.user, w.amount, "gbp")
		if err != nil {
			t.Fatal(err)
		}
		if before, taken := seen[top.SessionID]; taken {
			t.Errorf("%v got the session of %v", w, before)
		}
		seen[top.SessionID] = w
		if top.OrgID != w.org || top.UserID != w.user || d.sessions(top.ID) != 1 {
			t.Errorf("%v got %+v with %d sessions", w, top, d.sessions(top.ID))
		}
		if _, err := d.svc.TopUp(t.Context(), d.other, top.ID); (err == nil) != (w.org == d.other) {
			t.Errorf("Second Tenant looked at %v and got %v", w, err)
		}
	}
	if n := d.customers(); n != 2 {
		t.Errorf("Stripe has %d customers, want one for each organisation", n)
	}
	for user, want := range map[uuid.UUID]int{d.user: 2, colleague: 1, uuid.New(): 0} {
		if open, err := d.svc.Unfinished(t.Context(), d.org, user); err != nil || len(open) != want {
			t.Errorf("user %s has %d unfinished top-ups, %v; want %d", user, len(open), err, want)
		}
	}
}

// TestStripeFails: whatever Stripe does while a session or a customer is made, the person reads a clear sentence, and the
// next try works. A key is used again where nobody knows whether Stripe acted, and never where Stripe would replay a 500.
func TestStripeFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		rule     sandbox.Fault
		lose     string
		attempt  int // after the failure
		sessions int // in the end
	}{
		{name: "session: 500", rule: sandbox.Fault{Match: makeSession, Do: sandbox.Fault500}, attempt: 2, sessions: 1},
		// The first session stands, but nobody was ever sent to it; asking again under its key would replay the 500.
		{name: "session: 500 after acting", rule: sandbox.Fault{Match: makeSession, Do: sandbox.Fault500AfterActing}, attempt: 2, sessions: 2},
		{name: "session: 503", rule: sandbox.Fault{Match: makeSession, Do: sandbox.Fault503, Times: -1}, attempt: 2, sessions: 1},
		{name: "session: 429", rule: sandbox.Fault{Match: makeSession, Do: sandbox.Fault429, Times: -1}, attempt: 1, sessions: 1},
		{name: "session: no answer", rule: sandbox.Fault{Match: makeSession, Do: sandbox.FaultTimeout, MS: 10, Times: -1}, attempt: 1, sessions: 1},
		{name: "session: answer lost", lose: makeSession, attempt: 1, sessions: 1},
		{name: "customer: 500", rule: sandbox.Fault{Match: makeCustomer, Do: sandbox.Fault500}, attempt: 2, sessions: 1},
		{name: "customer: 429", rule: sandbox.Fault{Match: makeCustomer, Do: sandbox.Fault429, Times: -1}, attempt: 1, sessions: 1},
		{name: "customer: no answer", rule: sandbox.Fault{Match: makeCustomer, Do: sandbox.FaultTimeout, MS: 10, Times: -1}, attempt: 1, sessions: 1},
		{name: "customer: answer lost", lose: makeCustomer, attempt: 1, sessions: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			if c.rule.Do != "" {
				d.faults(c.rule)
			}
			d.line.losing(c.lose)
			d.refused("50", fault.Unavailable)
			failed := d.only()
			if failed.State != payments.Creating || failed.Attempt != c.attempt || failed.CheckoutURL != "" {
				t.Errorf("after the failure the top-up is %+v, want attempt %d", failed, c.attempt)
			}
			d.faults()
			d.line.losing("")
			top := d.start("50")
			if top.ID != failed.ID || top.State != payments.Open || top.Attempt != c.attempt || d.only() != top {
				t.Errorf("the next try gave %+v after %+v", top, failed)
			}
			if n := d.sessions(top.ID); n != c.sessions {
				t.Errorf("%d sessions, want %d", n, c.sessions)
			}
			if n := d.customers(); n != 1 {
				t.Errorf("Stripe has %d customers, want one", n)
			}
			if s, err := d.api.CheckoutSessions.Get(top.SessionID, nil); err != nil || s.Status != stripe.CheckoutSessionStatusOpen || s.URL != top.CheckoutURL {
				t.Errorf("Stripe's session is %+v, %v", s, err)
			}
			what := c.rule.Match + c.lose // one of them is empty
			name := map[string]string{makeSession: "topup:", makeCustomer: "customer:"}[what] + top.ID.String()
			want := []string{name + ":1"}
			if c.attempt == 2 {
				want = append(want, name+":2")
			}
			if got := d.line.keys(what); !slices.Equal(got, want) {
				t.Errorf("%s was asked with the keys %v, want %v", what, got, want)
			}
		})
	}
}

// TestStripeAwayWhileReloading: an open top-up is never given out unless Stripe says that it can still be paid.
func TestStripeAwayWhileReloading(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	top := d.start("50")
	away := d.service(d.onLine, func(o *payments.Options) { o.StripeBase = "http://127.0.0.1:1" })
	got, err := away.StartTopUp(t.Context(), d.org, d.user, "50", "gbp")
	if !fault.Is(err, fault.Unavailable) || got.CheckoutURL != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	if again := d.start("50"); again.ID != top.ID || d.only() != again || again.State != payments.Open || d.allSessions() != 1 {
		t.Errorf("afterwards: %+v, was %+v; %d sessions", again, top, d.allSessions())
	}
}

// TestStripeAway: nobody listens at all.
func TestStripeAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := &desk{fixture: f}
	d.refused("50", fault.Unavailable)
	if top := d.only(); top.State != payments.Creating || top.Attempt != 1 {
		t.Errorf("the top-up is %+v", top)
	}
}

// TestStripeRefuses: a 4xx will not get better by asking again, so the top-up ends and the next one starts afresh.
func TestStripeRefuses(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	dbtest.Super(t, d.url, `INSERT INTO stripe_customers VALUES ($1, 'cus_gone', now())`, d.org) // Stripe knows no such customer
	d.refused("50", fault.Declined)
	first := d.only()
	if first.State != payments.Failed || first.Note != "Stripe refused to start the payment." || d.allSessions() != 0 {
		t.Errorf("the top-up is %+v; %d sessions", first, d.allSessions())
	}
	dbtest.Super(t, d.url, `DELETE FROM stripe_customers`)
	if again := d.start("50"); again.ID == first.ID || again.State != payments.Open {
		t.Errorf("the next try gave %+v", again)
	}
}

// TestHostileCheckoutURL: an address that is not Stripe's is given to nobody, whoever asks and however often.
func TestHostileCheckoutURL(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for i, bad := range []string{
		"https://evil.example/c/pay/x", "https://checkout.stripe.com/c/pay/x", "javascript:alert(1)", "//evil.example/c",
		d.box.URL() + "@evil.example/c", d.box.URL() + ".evil.example/c", `http:\\evil.example`, d.box.URL() + "/c/p\tay", "HTTP" + strings.TrimPrefix(d.box.URL(), "http") + "/c",
		strings.Replace(d.box.URL(), "127.0.0.1", "localhost", 1) + "/c", d.box.URL() + "/" + strings.Repeat("a", 2048),
	} {
		amount := fmt.Sprintf("%d", 50+i)
		d.faults(sandbox.Fault{Match: makeSession, Do: sandbox.FaultBadURL, URL: bad})
		d.refused(amount, fault.Declined)
		var row struct {
			ID    uuid.UUID
			State string
			URL   *string
		}
		dbtest.Get(t, d.url, &row, `SELECT id, state, checkout_url AS url FROM top_ups WHERE amount_pence = $1`, (50+i)*100)
		if row.State != "failed" || row.URL != nil {
			t.Errorf("%.60q left %+v", bad, row)
		}
		if again := d.start(amount); again.ID == row.ID || !strings.HasPrefix(again.CheckoutURL, d.box.URL()+"/c/pay/") {
			t.Errorf("after %.60q the next try gave %+v", bad, again)
		}
	}
}

// TestBrowserGoesAway: a request whose browser has gone leaves a row that knows its session.
func TestBrowserGoesAway(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.faults(sandbox.Fault{Match: makeSession, Do: sandbox.FaultDelay, MS: 200})
	ctx, leave := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := d.svc.StartTopUp(ctx, d.org, d.user, "50", "gbp")
		return err
	})
	d.until("the customer", func() bool { return len(d.line.heard(makeCustomer)) > 0 })
	leave()
	if err := g.Wait(); err != nil {
		t.Errorf("the top-up failed with its browser: %v", err)
	}
	if top := d.only(); top.State != payments.Open || top.SessionID == "" || d.sessions(top.ID) != 1 {
		t.Errorf("the top-up is %+v with %d sessions", top, d.sessions(top.ID))
	}
}

// live is a desk with the whole way back: webhooks that are accepted, and workers that work them.
type live struct {
	*desk
	hook *hook
}

// hook is the webhook endpoint, without what the transport adds to it.
type hook struct {
	t          *testing.T
	svc        *payments.Service
	mu         sync.Mutex
	statuses   map[int]int
	duplicates int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		h.t.Errorf("couldn't read a delivery: %v", err)
	}
	duplicate, err := h.svc.Accept(r.Context(), body, r.Header.Get("Stripe-Signature"))
	status := http.StatusOK
	switch {
	case fault.Is(err, fault.Invalid):
		status = http.StatusBadRequest
	case err != nil:
		status = http.StatusServiceUnavailable
	}
	h.mu.Lock()
	h.statuses[status]++
	if duplicate {
		h.duplicates++
	}
	h.mu.Unlock()
	w.WriteHeader(status)
}

// answered gives how often the endpoint answered with the status, and how many events it had seen before.
func (h *hook) answered(status int) (n, duplicates int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.statuses[status], h.duplicates
}

func newLive(t *testing.T) *live {
	t.Helper()
	h := &hook{t: t, statuses: map[int]int{}}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	l := &live{hook: h, desk: newDesk(t, func(o *sandbox.Options) { o.WebhookURL, o.WebhookSecret = srv.URL, secret })}
	// The sandbox signs and the workers wait by the real clock, so the database must not stand still.
	l.db = dbtest.OpenURL(t, l.url, time.Now)
	l.svc = l.service(l.onLine)
	h.svc = l.svc
	log := slog.New(slog.DiscardHandler)
	runner, err := jobs.Start(t.Context(), jobs.Deps{
		DB: l.db, Payments: l.svc, Notices: silent(t, l.db), Log: log, Now: time.Now,
		Sweepers: []jobs.Sweeper{{Name: "payments", Run: func(ctx context.Context) error { _, err := l.svc.Sweep(ctx); return err }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := runner.Stop(ctx); err != nil {
			t.Errorf("couldn't stop the workers: %v", err)
		}
	})
	return l
}

// silent tells nobody of anything.
func silent(t *testing.T, d *db.DB) *notice.Service {
	t.Helper()
	s, err := notice.New(notice.Options{DB: d, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// settled waits until every event is delivered and worked, and then compares our books with Stripe's: payment by
// payment and in all.
func (l *live) settled() {
	l.t.Helper()
	l.until("all deliveries", func() bool { return l.box.Stripe().Books().Undelivered == 0 })
	l.until("all events to be worked", func() bool { return l.count(`SELECT count(*) FROM stripe_events WHERE state = 'received'`) == 0 })
	if n := l.count(`SELECT count(*) FROM stripe_events WHERE state NOT IN ('processed', 'ignored')`); n != 0 {
		l.t.Errorf("%d events ended badly", n)
	}
	l.sameBooks()
}

func (l *live) sameBooks() {
	l.t.Helper()
	theirs := map[string]int64{}
	books := l.box.Stripe().Books()
	for _, p := range books.Payments {
		if p.AmountReceived > 0 {
			theirs[p.TopUpID+" "+p.ID] = p.AmountReceived
		}
	}
	var raw string
	dbtest.Get(l.t, l.url, &raw, `SELECT coalesce(jsonb_object_agg(top_up_id || ' ' || payment_intent, amount_pence)::text, '{}') FROM credits`)
	ours := map[string]int64{}
	if err := json.Unmarshal([]byte(raw), &ours); err != nil {
		l.t.Fatal(err)
	}
	if !maps.Equal(ours, theirs) {
		l.t.Errorf("our credits %v\nStripe's    %v", ours, theirs)
	}
	received := books.Totals["gbp"].Received
	if sum := l.count(`SELECT coalesce(sum(amount_pence), 0) FROM credits`); int64(sum) != received {
		l.t.Errorf("we credited %dp, Stripe received %dp", sum, received)
	}
	if sum := l.count(`SELECT sum(balance_pence) FROM wallets`); int64(sum) != 569_00+received {
		l.t.Errorf("the wallets hold %dp, want 56900p + %dp", sum, received)
	}
}

// TestTopUpReachesTheWallet is the main job: £569.00, a top-up of £50.00, £619.00.
func TestTopUpReachesTheWallet(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	top := l.start("50.00")
	l.press(top, "pay")
	l.until("£619.00", func() bool { return l.outcome(top.ID).Balance == 619_00 })
	l.settled()
	if got, want := l.outcome(top.ID), (outcome{Balance: 619_00, Paid: 50_00, TopUp: "paid", Credits: 1, Postings: 4}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	again := l.start("50.00")
	if again.ID == top.ID {
		t.Error("the paid top-up was given out again")
	}
	l.press(again, "pay")
	l.until("£669.00", func() bool { return l.outcome(again.ID).Balance == 669_00 })
	l.settled()
}

// TestDecline: a declined card leaves a note and the session open, and the next card pays it.
func TestDecline(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	top := l.start("50.00")
	l.press(top, "decline")
	l.until("the note", func() bool { return l.outcome(top.ID).Note != "" })
	l.settled()
	if got, want := l.outcome(top.ID), (outcome{Balance: 569_00, TopUp: "open", Note: "The last try to pay was declined.", Postings: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if same := l.start("50.00"); same.ID != top.ID || same.CheckoutURL != top.CheckoutURL {
		t.Errorf("after the decline the top-up is %+v, was %+v", same, top)
	}
	l.press(top, "pay")
	l.until("£619.00", func() bool { return l.outcome(top.ID).Balance == 619_00 })
	l.settled()
	if o := l.outcome(top.ID); o.TopUp != "paid" || o.Credits != 1 {
		t.Errorf("paid after all: %+v", o)
	}
}

// TestPayLater: a bank debit is under way for days; only its success credits.
func TestPayLater(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	good, bad := l.start("50.00"), l.start("20.00")
	l.press(good, "pay-later")
	l.press(bad, "pay-later")
	for _, top := range []payments.TopUp{good, bad} {
		l.until("processing", func() bool { return l.outcome(top.ID).TopUp == "processing" })
	}
	l.settled()
	if o := l.outcome(good.ID); o.Balance != 569_00 || o.Credits != 0 {
		t.Errorf("while under way: %+v", o)
	}
	if list, err := l.svc.Unfinished(t.Context(), l.org, l.user); err != nil || len(list) != 2 {
		t.Errorf("%d top-ups are unfinished, %v; want both", len(list), err)
	}
	l.settle(good, "succeed")
	l.settle(bad, "fail")
	l.until("the success", func() bool { return l.outcome(good.ID).TopUp == "paid" })
	l.until("the failure", func() bool { return l.outcome(bad.ID).TopUp == "failed" })
	l.settled()
	if got, want := l.outcome(good.ID), (outcome{Balance: 619_00, Paid: 50_00, TopUp: "paid", Credits: 1, Postings: 4}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if o := l.outcome(bad.ID); o.Note == "" || o.Paid != 0 {
		t.Errorf("the failed one: %+v", o)
	}
}

// TestAbandoned: a session that ran out ends its top-up, and credits nothing.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	top := l.start("50.00")
	l.press(top, "decline")
	if _, err := l.api.CheckoutSessions.Expire(top.SessionID, nil); err != nil {
		t.Fatal(err)
	}
	l.until("the end", func() bool { return l.outcome(top.ID).TopUp == "expired" })
	l.settled()
	if o := l.outcome(top.ID); o.Balance != 569_00 || o.Credits != 0 {
		t.Errorf("%+v", o)
	}
}

// TestDeliveryFaults: Stripe's webhooks repeat, overtake each other, come with a wrong signature first, or not at all.
func TestDeliveryFaults(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]sandbox.Fault{
		"each five times":         {Match: "deliver *", Do: sandbox.FaultRepeat, Copies: 5, Times: -1},
		"session event held back": {Match: "deliver checkout.session.*", Do: sandbox.FaultReorder, MS: 300, Times: -1},
		"payment event held back": {Match: "deliver payment_intent.*", Do: sandbox.FaultReorder, MS: 300, Times: -1},
		"wrong signature first":   {Match: "deliver *", Do: sandbox.FaultOtherSignature, Times: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLive(t)
			top := l.start("50.00")
			l.settled() // the customer's event is out of the way
			before, _ := l.hook.answered(http.StatusOK)
			l.faults(rule)
			l.press(top, "pay")
			l.until("£619.00", func() bool { return l.outcome(top.ID).Balance == 619_00 })
			l.settled()
			if got, want := l.outcome(top.ID), (outcome{Balance: 619_00, Paid: 50_00, TopUp: "paid", Credits: 1, Postings: 4}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			good, duplicates := l.hook.answered(http.StatusOK)
			bad, _ := l.hook.answered(http.StatusBadRequest)
			switch rule.Do {
			case sandbox.FaultRepeat:
				if good -= before; duplicates*5 != good*4 || good == 0 {
					t.Errorf("of %d deliveries %d were duplicates, want four in five", good, duplicates)
				}
			case sandbox.FaultOtherSignature:
				if bad != 3 {
					t.Errorf("%d deliveries were refused, want 3", bad)
				}
			}
			if rule.Do != sandbox.FaultOtherSignature && bad != 0 {
				t.Errorf("%d deliveries were refused", bad)
			}
		})
	}
}

// TestLostWebhooks: without its events a payment stays uncredited, and the page says so; one late delivery is enough.
func TestLostWebhooks(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	top := l.start("50.00")
	l.settled()
	before, _ := l.hook.answered(http.StatusOK)
	l.faults(sandbox.Fault{Match: "deliver *", Do: sandbox.FaultDrop, Times: -1})
	l.press(top, "pay")
	lost := map[string]string{}
	it := l.api.Events.List(nil)
	for it.Next() {
		if e := it.Event(); e.Type != "customer.created" {
			lost[string(e.Type)] = e.ID
		}
	}
	if err := it.Err(); err != nil || lost["payment_intent.succeeded"] == "" || lost["checkout.session.completed"] == "" {
		t.Fatalf("Stripe's events are %v, %v", lost, err)
	}
	for kind, id := range lost {
		l.until(kind+" to be lost", func() bool {
			resp, err := http.Get(l.box.URL() + "/sandbox/stripe/events/" + id + "/delivery")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var d struct {
				State string `json:"state"`
			}
			return json.NewDecoder(resp.Body).Decode(&d) == nil && d.State == "lost"
		})
	}
	if after, _ := l.hook.answered(http.StatusOK); after != before {
		t.Errorf("%d deliveries came through", after-before)
	}
	if o := l.outcome(top.ID); o.Balance != 569_00 || o.TopUp != "open" || o.Credits != 0 {
		t.Errorf("without events: %+v", o)
	}
	l.faults()
	if err := l.box.Stripe().Resend(lost["payment_intent.succeeded"]); err != nil {
		t.Fatal(err)
	}
	l.until("£619.00", func() bool { return l.outcome(top.ID).Balance == 619_00 })
	l.sameBooks()
	if o := l.outcome(top.ID); o.TopUp != "paid" || o.Credits != 1 {
		t.Errorf("after one event: %+v", o)
	}
}

// TestManyTopUpsUnderEveryFault: two tenants, every way to pay, and deliveries that misbehave throughout; in the end our
// books are Stripe's, to the penny and the payment.
func TestManyTopUpsUnderEveryFault(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	l.faults(
		sandbox.Fault{Match: "deliver payment_intent.succeeded", Do: sandbox.FaultReorder, MS: 200, Times: 6},
		sandbox.Fault{Match: "deliver checkout.session.*", Do: sandbox.FaultOtherSignature, Times: 5},
		sandbox.Fault{Match: "deliver *", Do: sandbox.FaultRepeat, Copies: 3, Times: 40},
		sandbox.Fault{Match: makeSession, Do: sandbox.FaultTimeoutAfterActing, MS: 5, Times: 4}, // the client's own second try finds them
	)
	actions := [][]string{
		{"pay"}, {"decline", "pay"}, {"decline", "decline"}, {"pay-later", "succeed"}, {"pay-later", "fail"}, {"decline", "pay-later", "succeed"},
	}
	var want struct{ harbour, second money.Pence }
	var g errgroup.Group
	for i := range 24 {
		org, amount := l.org, money.Pence(1000+i)
		sum := &want.harbour
		if i%4 == 3 {
			org, sum = l.other, &want.second
		}
		todo := actions[i%len(actions)]
		if last := todo[len(todo)-1]; last == "pay" || last == "succeed" {
			*sum += amount
		}
		g.Go(func() error {
			top, err := l.svc.StartTopUp(t.Context(), org, l.user, amount.Decimal(), "gbp")
			if err != nil {
				return err
			}
			for _, do := range todo {
				if do == "succeed" || do == "fail" {
					err = press(l.box.URL()+"/sandbox/stripe/sessions/"+top.SessionID+"/settle", url.Values{"outcome": {do}})
				} else {
					err = press(top.CheckoutURL+"/"+do, nil)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	l.settled()
	for id, n := range l.box.Stripe().Books().SessionsPerTopUp {
		if n != 1 {
			t.Errorf("top-up %s has %d sessions", id, n)
		}
	}
	if got := l.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, l.org); money.Pence(got) != 569_00+want.harbour {
		t.Errorf("Harbour Dental has %dp, want %dp", got, 569_00+want.harbour)
	}
	if got := l.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, l.other); money.Pence(got) != want.second {
		t.Errorf("Second Tenant has %dp, want %dp", got, want.second)
	}
}

// press posts a form and wants no error back.
func press(to string, form url.Values) error {
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.PostForm(to, form)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", to, resp.Status)
	}
	return nil
}
