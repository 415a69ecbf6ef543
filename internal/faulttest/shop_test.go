package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"ringfence/internal/auth"
	"ringfence/internal/sandbox"
)

// shop is a world with a Stripe that answers: the sandbox as a process, which tells the web server of everything.
type shop struct {
	*world

	site    *process // serves and works no jobs
	sandbox *process
	metrics string // where the site's are
}

// newShop starts a database, a Stripe and a web server. Nobody works the events yet.
func newShop(t testing.TB) *shop {
	t.Helper()
	return newSharedShop(t, "")
}

// newSharedShop is newShop with the data directory that all processes share; empty: each has one of its own.
func newSharedShop(t testing.TB, data string) *shop {
	t.Helper()
	s := &shop{world: newWorld(t)}
	s.data = data
	// The customers that are known are those of the Stripe that the ground was laid with.
	s.alter(`DELETE FROM stripe_customers`)
	s.sandbox, s.site = s.process("sandbox", "sandbox"), s.process("web", "serve", "--no-jobs")
	s.stripe = s.sandbox.base()
	var err error
	if s.metrics, err = free(); err != nil {
		t.Fatal(err)
	}
	s.site.env["RINGFENCE_METRICS_ADDR"] = s.metrics
	for _, p := range []*process{s.sandbox, s.site} {
		p.env["RINGFENCE_SANDBOX_ADDR"], p.env["STRIPE_API_BASE"], p.env["RINGFENCE_ADDR"] = s.sandbox.addr, s.stripe, s.site.addr
		p.start()
		p.ready()
	}
	return s
}

// buyer is somebody with a browser, signed in.
type buyer struct {
	shop *shop
	http *http.Client
	csrf string
}

// csrfField is how a form carries its token: the name before the value.
var csrfField = regexp.MustCompile(`<input type="hidden" name="csrf_token" value="([^"]+)"`)

// buyer signs a user of the demo in.
func (s *shop) buyer(email string) *buyer {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	b := &buyer{shop: s, http: &http.Client{
		Jar: jar, Timeout: longest, Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	b.look("/login")
	if to := b.post(s.site.base()+"/login", url.Values{"email": {email}, "password": {auth.DemoPassword}}); to != "/dashboard" {
		s.t.Fatalf("signing in as %s leads to %q", email, to)
	}
	b.look("/wallet")
	return b
}

// look loads a page for its form's token, which is good for as long as the session is.
func (b *buyer) look(path string) {
	b.shop.t.Helper()
	body, err := said(b.http.Get(b.shop.site.base() + path))
	m := csrfField.FindSubmatch(body)
	if err != nil || m == nil {
		b.shop.t.Fatalf("%s has no form: %v\n%s", path, err, body)
	}
	b.csrf = string(m[1])
}

// post sends a form and gives where the answer, which must be a redirect, leads.
func (b *buyer) post(address string, form url.Values) (to string) {
	b.shop.t.Helper()
	form.Set("csrf_token", b.csrf)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		b.shop.t.Fatal(err)
	}
	u := *req.URL
	u.Path, u.RawQuery = "", ""
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", u.String())
	res, err := b.http.Do(req)
	if err != nil {
		b.shop.t.Fatal(err)
	}
	if body, _ := said(res, nil); res.StatusCode != http.StatusSeeOther {
		b.shop.t.Fatalf("POST %s: %s, want a redirect\n%s", address, res.Status, body)
	}
	return res.Header.Get("Location")
}

// buy tops up by the amount on the wallet page and pays on Stripe's, and gives the PaymentIntent. It is safe to call from
// many goroutines, with amounts that are not being paid by another of them.
func (b *buyer) buy(pence int64) (intent string) {
	b.shop.t.Helper()
	form := url.Values{"amount": {fmt.Sprintf("%d.%02d", pence/100, pence%100)}, "currency": {"gbp"}}
	checkout := b.post(b.shop.site.base()+"/wallet/top-ups", form)
	b.post(checkout+"/pay", url.Values{})
	session := checkout[strings.LastIndexByte(checkout, '/')+1:]
	var paid struct {
		Status string `json:"payment_status"`
		Intent string `json:"payment_intent"`
	}
	b.shop.ask(http.MethodGet, "/v1/checkout/sessions/"+session, nil, &paid)
	if paid.Status != "paid" || paid.Intent == "" {
		b.shop.t.Fatalf("after paying, session %s is %+v", session, paid)
	}
	return paid.Intent
}

// ask has Stripe, or the sandbox's controls, do something and decodes the answer.
func (s *shop) ask(method, path string, form url.Values, into any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.stripe+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk_test_somebody")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	body, err := said(asking.Do(req))
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, body)
	}
}

// said reads an answer to its end; one that is not 200 is an error too.
func said(res *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(res.Status))
	}
	return body, errors.Join(err, res.Body.Close())
}

// refund gives pence of a payment back, at Stripe; nothing for zero less than all of it.
func (s *shop) refund(intent string, pence int64) {
	s.t.Helper()
	form := url.Values{"payment_intent": {intent}}
	if pence > 0 {
		form.Set("amount", fmt.Sprint(pence))
	}
	s.ask(http.MethodPost, "/v1/refunds", form, &struct{}{})
}

// dispute has the payer's bank take a payment back.
func (s *shop) dispute(intent string) (id string) {
	s.t.Helper()
	var payment struct {
		Charge string `json:"latest_charge"`
	}
	s.ask(http.MethodGet, "/v1/payment_intents/"+intent, nil, &payment)
	var d struct {
		ID string `json:"id"`
	}
	s.ask(http.MethodPost, "/sandbox/stripe/charges/"+payment.Charge+"/dispute", url.Values{}, &d)
	return d.ID
}

// decide ends a dispute: won, the money comes back; lost, it does not.
func (s *shop) decide(dispute, outcome string) {
	s.t.Helper()
	s.ask(http.MethodPost, "/sandbox/stripe/disputes/"+dispute+"/close", url.Values{"outcome": {outcome}}, &struct{}{})
}

// faults sets how Stripe misbehaves.
func (s *shop) faults(rules ...sandbox.Fault) {
	s.t.Helper()
	raw, err := json.Marshal(rules)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ask(http.MethodPost, "/sandbox/stripe/faults", url.Values{"rules": {string(raw)}}, &struct{}{})
}

// books are Stripe's own.
func (s *shop) books() (b sandbox.Books) {
	s.t.Helper()
	s.ask(http.MethodGet, "/sandbox/stripe/books", nil, &b)
	return b
}

// told waits until Stripe has delivered all that it has not lost, and the workers have worked it. Events whose job was
// lost with a worker are made older, as in settled.
func (s *shop) told() {
	s.t.Helper()
	until(s.t, "Stripe's deliveries", func() bool { b := s.books(); return b.Undelivered == b.Lost })
	if pollFor(longest/20, s.worked) != nil {
		s.later()
	}
	until(s.t, "the events to be worked", s.worked)
}

// reconciled compares with Stripe by the command, and gives what it printed.
func (s *shop) reconciled() string {
	s.t.Helper()
	p := s.process("reconcile", "stripe", "reconcile", "--since", "2h")
	out, err := p.env.command(within(s.t, longest), p.args...).Output()
	if err != nil {
		s.t.Errorf("reconcile: %v\n%s", err, out)
	}
	return string(out)
}

// standing is what our books hold of one payment.
type standing struct {
	Intent             string `db:"payment_intent"`
	Credits            int    `db:"credits"`
	Credited           int64  `db:"credited"`
	Refunded, Disputed int64
}

// agreed fails the test unless our books are Stripe's to the penny, payment by payment and in all, and hold together.
// started is what the wallets had together before anybody paid.
func (s *shop) agreed(started int) {
	s.t.Helper()
	var ours []standing
	s.query(&ours, `
		SELECT c.payment_intent, sum(c.amount_pence)::bigint AS credited,
		       (SELECT count(*) FROM ledger_transactions t WHERE t.kind = 'top_up' AND t.reference = c.payment_intent) AS credits,
		       (SELECT coalesce(sum(amount_pence), 0)::bigint FROM reversals r WHERE r.payment_intent = c.payment_intent AND r.kind = 'refund') AS refunded,
		       (SELECT coalesce(sum(amount_pence), 0)::bigint FROM reversals r WHERE r.payment_intent = c.payment_intent AND r.kind = 'dispute') AS disputed
		FROM credits c GROUP BY c.payment_intent`)
	known := map[string]standing{}
	for _, o := range ours {
		known[o.Intent] = o
	}
	theirs := s.books()
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			s.t.Errorf(format, args...)
		}
	}
	for _, p := range theirs.Payments {
		if p.AmountReceived == 0 {
			continue
		}
		want := standing{p.ID, 1, p.AmountReceived, p.AmountRefunded, p.AmountDisputed}
		if got := known[p.ID]; got != want {
			complain("of payment %s we have %+v, Stripe %+v", p.ID, got, want)
		}
		delete(known, p.ID)
	}
	for id := range known {
		complain("we have payment %s, and Stripe has not", id)
	}
	if wrong > 10 {
		s.t.Errorf("… and %d more", wrong-10)
	}
	total := theirs.Totals["gbp"]
	for _, c := range []struct {
		what  string
		query string
		want  int64
	}{
		{"what clearing says Stripe received", `SELECT -sum(p.amount_pence) FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id WHERE a.name = 'stripe_clearing'`, total.Received},
		{"what is posted as refunds", `SELECT coalesce(sum(p.amount_pence), 0) FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id WHERE a.name = 'refunds'`, total.Refunded},
		{"what is posted as disputes", `SELECT coalesce(sum(p.amount_pence), 0) FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id WHERE a.name = 'disputes'`, total.Disputed},
		{"what the wallets have gained", fmt.Sprintf(`SELECT sum(balance_pence - debt_pence) - %d FROM wallets`, started), total.Net},
	} {
		if got := s.number(c.query); int64(got) != c.want {
			s.t.Errorf("%s is %dp, and by Stripe's books it is %dp", c.what, got, c.want)
		}
	}
	if n := s.number(`SELECT count(*) FROM stripe_events WHERE state NOT IN ('processed', 'ignored')`); n > 0 {
		s.t.Errorf("%d events are not worked well", n)
	}
	s.verify()
}

// funds is what the wallets have together.
func (s *shop) funds() int {
	s.t.Helper()
	return s.number(`SELECT sum(balance_pence - debt_pence) FROM wallets`)
}
