package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/payments"
	"ringfence/internal/wallet"
)

// paidSite is a site whose Second Tenant has paid £50.00 by a card that the stand-in for Stripe knows.
func paidSite(t *testing.T) (s *site, pay *payments.Service) {
	t.Helper()
	s = newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { pay = d.Payments } })
	var user uuid.UUID
	dbtest.Get(t, s.dbURL, &user, `SELECT id FROM users WHERE email = 'owner@second.example'`)
	top, err := pay.StartTopUp(t.Context(), s.other, user, "50", "gbp")
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).PostForm(top.CheckoutURL+"/pay", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	// The webhook never comes; the comparison with Stripe finds the payment.
	now := top.CreatedAt
	if _, err := pay.Reconcile(t.Context(), payments.Span{Kind: payments.ReconcileManual, Since: now.Add(-time.Hour), Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if n := s.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, s.other); n != 50_00 {
		t.Fatalf("the balance is %d", n)
	}
	return s, pay
}

// payBack works the jobs of the withdrawals, as the workers would.
func payBack(t *testing.T, s *site, pay *payments.Service) {
	t.Helper()
	var open []string
	dbtest.Select(t, s.dbURL, &open, `SELECT DISTINCT withdrawal_id::text FROM withdrawal_parts WHERE state = 'open'`)
	for _, id := range open {
		if err := pay.PayBack(t.Context(), payments.PayBackJob{OrgID: s.other, WithdrawalID: uuid.MustParse(id)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithdrawPages(t *testing.T) {
	s, pay := paidSite(t)
	b := s.as(operator)
	home := "/ops/wallets/" + s.other.String()
	path := home + "/withdraw"
	form := b.get(path)
	wantSpaced(t, "form", form, "main", "Second Tenant", "at most £50.00", "Paid in, and not set aside £50.00")
	if got := form.doc(t).Find("#amount").AttrOr("value", ""); got != "50.00" {
		t.Errorf("the form begins with %q", got)
	}
	key := form.doc(t).Find("input[name=key]").AttrOr("value", "")
	fields := func(more ...string) url.Values {
		f := url.Values{"amount": {"30"}, "reason": {"Leaves <us>"}, "key": {key}}
		for i := 0; i+1 < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f
	}
	for _, c := range []struct{ field, value, says string }{
		{"amount", "", "Enter an amount"},
		{"amount", "0", "above zero"},
		{"amount", "-1", "minus"},
		{"amount", "50.01", "Only £50.00"},
		{"amount", "1000000", "Only £50.00"},
		{"reason", " ", "Give a reason"},
		{"reason", "a\x00b", "one line"},
		{"reason", strings.Repeat("x", 501), "at most 500"},
	} {
		for _, press := range []string{"", "yes"} {
			res := b.send(path, path, fields(c.field, c.value, "confirm", press))
			wantStatus(t, fmt.Sprintf("%s %.20q", c.field, c.value), res, http.StatusUnprocessableEntity)
			wantSpaced(t, fmt.Sprintf("%s %.20q", c.field, c.value), res, "#"+c.field+"-error", c.says)
		}
	}
	wantStatus(t, "a key that is none", b.send(path, path, fields("key", "x")), http.StatusNotFound)
	asked := b.send(path, path, fields())
	wantStatus(t, "asked first", asked, http.StatusOK)
	wantSpaced(t, "asked first", asked, "main", "Pay £30.00 back?", "Second Tenant", "Balance £50.00 £20.00", "£50.00 £30.00", "Refund to your card: Leaves <us>")
	if n := s.count(`SELECT count(*) FROM withdrawals`); n != 0 {
		t.Fatal("the question already did it")
	}
	edit := b.post(path, confirmed(t, asked, "edit"))
	if doc := edit.doc(t); doc.Find("#amount").AttrOr("value", "") != "30" || doc.Find("input[name=key]").AttrOr("value", "") != key {
		t.Error("what was typed is gone")
	}
	// Whoever agreed to other refunds is asked again.
	stale := confirmed(t, asked, "yes")
	stale.Set("parts", "pi_other:3000")
	changed := b.post(path, stale)
	wantStatus(t, "changed", changed, http.StatusConflict)
	wantSpaced(t, "changed", changed, "main", "The wallet has just changed")
	res := b.post(path, confirmed(t, asked, "yes"))
	wantStatus(t, "done", res, http.StatusSeeOther)
	page := b.get(res.Header.Get("Location"))
	wantSpaced(t, "done", page, "#done", "Stripe is being asked")
	wantSpaced(t, "done", page, "#withdrawals", "£30.00 Leaves <us>", "by "+operator, "With Stripe")
	wantSpaced(t, "done", page, "#figures", "£30.00 to cards", "Available £20.00")
	wantSpaced(t, "on the customer's wallet", s.as("owner@second.example").get("/wallet"), "#balance", "£30.00 is on its way back to your card", "On hold £30.00", "Available to spend £20.00")
	wantStatus(t, "again", b.post(path, confirmed(t, asked, "yes")), http.StatusSeeOther)
	if n := s.count(`SELECT count(*) FROM withdrawals`); n != 1 {
		t.Errorf("%d withdrawals", n)
	}
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'withdrawal.made' AND reason = 'Leaves <us>' AND org_id = $1 AND actor LIKE 'operator:%' AND request_id = $2`, s.other, res.Header.Get("X-Request-Id")); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
	payBack(t, s, pay)
	page = b.get(home)
	wantSpaced(t, "refunded", page, "#withdrawals", "Refunded", "re_")
	wantSpaced(t, "refunded", page, "#balance-amount", "£20.00")
	fragment := b.get(home, "HX-Request", "true")
	wantSpaced(t, "the part alone", fragment, "#withdrawals", "Refunded")
	if fragment.doc(t).Find("h1").Length() != 0 {
		t.Error("a whole page for a part")
	}
	wantSpaced(t, "in the customer's history", s.as("owner@second.example").get("/wallet"), "#transactions", "Refund to your card: Leaves <us> Refund -£30.00")
	// A wallet without card payments says why nothing can go back.
	wantSpaced(t, "nothing", b.get("/ops/wallets/"+s.org.String()+"/withdraw"), "main", "Nothing can go back now", "None of the money")
}

func TestClosePages(t *testing.T) {
	s, pay := paidSite(t)
	b := s.as(operator)
	home := "/ops/wallets/" + s.other.String()
	var secret string
	err := s.db.InTx(t.Context(), []uuid.UUID{s.other}, func(ctx context.Context, tx *db.Tx) (err error) {
		if _, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: s.other, Kind: wallet.Bonus, Amount: 5_00, Reason: "Gift", Reference: "g", Actor: audit.System("test")}); err != nil {
			return err
		}
		secret, _, err = s.auth.CreateKey(ctx, tx, s.other, "Till", auth.AllScopes, uuid.Nil, audit.System("test"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	key := []string{"Authorization", "Bearer " + secret}
	wantStatus(t, "the key of an open account", s.browser().get("/api/v1/wallet", key...), http.StatusOK)

	form := b.get(home + "/close")
	wantSpaced(t, "form", form, "main", "Second Tenant", "Goes back to cards £50.00", "Bonus, which ends £5.00", "Stays in the wallet £0.00", "Nothing is under way")
	fields := url.Values{"key": {form.doc(t).Find("input[name=key]").AttrOr("value", "")}}
	for _, reason := range []string{"", "a\x00b", strings.Repeat("x", 501)} {
		fields.Set("reason", reason)
		res := b.send(home+"/close", home+"/close", fields)
		wantStatus(t, "reason", res, http.StatusUnprocessableEntity)
		wantSpaced(t, "reason", res, "#reason-error", "Give a reason")
	}
	fields.Set("reason", "TICKET-4 <asked for>")
	asked := b.send(home+"/close", home+"/close", fields)
	wantStatus(t, "asked again", asked, http.StatusOK)
	wantSpaced(t, "asked again", asked, "main", "Close this account?", "TICKET-4 <asked for>", "Refunds that Stripe is asked for")
	if n := s.count(`SELECT count(*) FROM wallets WHERE closed_at IS NOT NULL`); n != 0 {
		t.Fatal("the question already did it")
	}
	stale := confirmed(t, asked, "yes")
	stale.Set("parts", "")
	changed := b.post(home+"/close", stale)
	wantStatus(t, "changed", changed, http.StatusConflict)
	wantSpaced(t, "changed", changed, "main", "The wallet has just changed", "Close this account?")
	res := b.post(home+"/close", confirmed(t, changed, "yes"))
	wantStatus(t, "closed", res, http.StatusSeeOther)
	page := b.get(res.Header.Get("Location"))
	wantSpaced(t, "closed", page, "#done", "The account was closed")
	wantSpaced(t, "closed", page, "#closed-notice", "TICKET-4 <asked for>")
	wantSpaced(t, "closed", page, "#withdrawals", "your account was closed")
	if got := row(b.get("/ops/wallets?show=closed").doc(t), "#wallets", "Second Tenant"); !strings.HasPrefix(got, "Second Tenant Closed") {
		t.Errorf("the row reads %q", got)
	}
	again := b.post(home+"/close", confirmed(t, changed, "yes"))
	wantStatus(t, "closed again", again, http.StatusConflict)
	wantSpaced(t, "closed again", again, "#blocked", "closed already")

	// Its people still read, and are told; nothing is spent or topped up, and keys do not hold.
	owner := s.as("owner@second.example")
	wallet := owner.get("/wallet")
	wantSpaced(t, "its wallet", wallet, "#closed-notice", "This account is closed")
	if strings.Contains(wallet.body, "TICKET-4") || wallet.doc(t).Find(`form[action="/wallet/top-ups"]`).Length() != 0 {
		t.Error("the customer reads why, or is offered to top up")
	}
	wantStatus(t, "its history", owner.get("/wallet/transactions.csv"), http.StatusOK)
	topUp := owner.send("/settings", "/wallet/top-ups", url.Values{"amount": {"60"}, "currency": {"gbp"}})
	wantStatus(t, "a top-up", topUp, http.StatusForbidden)
	wantSpaced(t, "a top-up", topUp, "main", "This account is closed, so its wallet cannot be topped up")
	wantStatus(t, "a text", owner.send("/settings", "/messages", url.Values{"to": {"+447400123456"}, "body": {"Hello"}, "key": {uuid.NewString()}}), http.StatusForbidden)
	hold := owner.do("POST", "/api/v1/holds", strings.NewReader(`{"action":"sms","quantity":1}`), "Content-Type", "application/json", "Idempotency-Key", "k", "X-CSRF-Token", owner.token("/settings"))
	if wantStatus(t, "a hold", hold, http.StatusForbidden); !strings.Contains(hold.body, `"code":"account_closed"`) {
		t.Errorf("a hold: %s", hold.body)
	}
	until(t, "the key to be refused", func() bool { return s.browser().get("/api/v1/wallet", key...).StatusCode == http.StatusUnauthorized })
	payBack(t, s, pay)

	wantSpaced(t, "reopen", b.get(home+"/reopen"), "main", "It is closed since", "TICKET-4 <asked for>")
	refused := b.send(home+"/reopen", home+"/reopen", url.Values{"reason": {" "}})
	wantStatus(t, "reopen without a reason", refused, http.StatusUnprocessableEntity)
	wantSpaced(t, "reopen without a reason", refused, "#reason-error", "Give a reason")
	res = b.send(home+"/reopen", home+"/reopen", url.Values{"reason": {"came back"}})
	wantStatus(t, "reopened", res, http.StatusSeeOther)
	wantSpaced(t, "reopened", b.get(res.Header.Get("Location")), "#done", "The account is open again")
	wantSpaced(t, "reopened twice", b.get(home+"/reopen"), "main", "It is open")
	wantStatus(t, "reopened twice", b.send(home+"/reopen", home+"/reopen", url.Values{"reason": {"x"}}), http.StatusConflict)
	until(t, "the key to hold again", func() bool { return s.browser().get("/api/v1/wallet", key...).StatusCode == http.StatusOK })
	for _, want := range [][2]string{{"account.closed", "TICKET-4 <asked for>"}, {"account.reopened", "came back"}} {
		if n := s.count(`SELECT count(*) FROM audit_log WHERE action = $1 AND reason = $2 AND org_id = $3 AND actor LIKE 'operator:%'`, want[0], want[1], s.other); n != 1 {
			t.Errorf("%d rows of the audit log tell of %s", n, want[0])
		}
	}
}

// until polls for something that comes about by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-tick.C
	}
}

// An account with something under way, or in debt, says so and cannot be closed.
func TestCloseBlocked(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.org.String() + "/close"
	if _, err := gates.Authorise(t.Context(), wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceAPI, Key: "k", Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	page := b.get(path)
	wantSpaced(t, "blocked", page, "#blocked", "£0.10 is on hold")
	if page.doc(t).Find("#close-submit").Length() != 0 {
		t.Error("there is a button all the same")
	}
	res := b.send("/ops/wallets", path, url.Values{"reason": {"x"}, "key": {uuid.NewString()}, "parts": {""}, "confirm": {"yes"}})
	wantStatus(t, "all the same", res, http.StatusConflict)
	wantSpaced(t, "all the same", res, "#blocked", "£0.10 is on hold")
	if n := s.count(`SELECT count(*) FROM wallets WHERE closed_at IS NOT NULL`); n != 0 {
		t.Error("it was closed")
	}
}
