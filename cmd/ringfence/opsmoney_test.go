package main

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
)

// TestOperatorsMoney adjusts a wallet, pays money back, closes an account and sets the exchange rate, as operators do, while
// its people look on.
func TestOperatorsMoney(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("an adjustment", func(t *testing.T) { operatorAdjusts(t, s, browsertest.View{}) })
	t.Run("an adjustment without scripts", func(t *testing.T) { operatorAdjusts(t, s, browsertest.View{NoScripts: true}) })
	second := signedInAs(t, s, stranger)
	second.post(second.checkout("50.00")+"/pay", url.Values{}, http.StatusSeeOther)
	second.waitBalance("£50.00")
	second.post(second.checkout("30.00")+"/pay", url.Values{}, http.StatusSeeOther) // credited last, so what goes back begins with it
	second.waitBalance("£80.00")
	t.Run("a withdrawal", func(t *testing.T) { operatorPaysBack(t, s) })
	t.Run("a rate, and a quote of before", func(t *testing.T) { operatorSetsRate(t, s) })
	t.Run("closing", func(t *testing.T) { operatorCloses(t, s) })
	s.booksAgree(t)
}

func (s *site) idOf(t *testing.T, name string) (id string) {
	t.Helper()
	dbtest.Get(t, s.getenv("DATABASE_URL"), &id, `SELECT id::text FROM organizations WHERE name = $1`, name)
	return id
}

// operatorAdjusts in two steps, repeats it, and is refused what does not fit.
func operatorAdjusts(t *testing.T, s *site, v browsertest.View) {
	looks := func(tab *browsertest.Tab, name string) {
		if !v.NoScripts {
			tab.Everywhere(name)
		}
	}
	reference := fmt.Sprintf("TICKET-%t", v.NoScripts)
	tab := s.tab(t, v, operator)
	tab.Expect("status of 422")
	tab.Expect("status of 409")
	page := s.base() + "/ops/wallets/" + s.idOf(t, "Harbour Dental")
	before := signedInAs(t, s, owner).balance()
	tab.Open(page)
	looks(tab, "ops-wallet-actions")
	tab.Leave("#adjust")
	looks(tab, "ops-adjust")
	fill := func(kind, amount string) {
		tab.Click("label:has(#kind-" + kind + ")")
		tab.Type("#amount", amount)
		tab.Type("#reason", "Charged twice in May, on the 4th and on the 5th")
		tab.Type("#reference", reference)
		tab.Leave("#adjust-submit")
	}
	fill("debit", "10000.01")
	want(t, "too much at once", tab.Text("#amount-error"), "at most £10,000.00")
	fill("debit", "9000")
	want(t, "more than there is", tab.Text("#amount-error"), "is available to take")
	looks(tab, "ops-adjust-refused")
	fill("credit", "12.50")
	want(t, "the question", tab.Text("#main"), "Credit £12.50 to this wallet? Harbour Dental")
	want(t, "who sees what", tab.Text("#seen"), "Charged twice in May, on the 4th and on the 5th Adjustment +£12.50")
	if got := signedInAs(t, s, owner).balance(); got != before {
		t.Errorf("the question already moved the balance from %s to %s", before, got)
	}
	looks(tab, "ops-adjust-confirm")
	tab.Leave("#adjust-edit")
	tab.Leave("#adjust-submit")
	tab.Leave("#adjust-confirm")
	want(t, "done", tab.Text("#done"), "The adjustment was made")
	want(t, "the history", tab.Text("#transactions"), "Charged twice in May, on the 4th and on the 5th Adjustment +£12.50")
	after := signedInAs(t, s, owner).balance()

	tab.Open(page + "/adjust")
	fill("credit", "12.50")
	want(t, "the same again", tab.Text("#main"), "This was done already")
	looks(tab, "ops-adjust-again")
	tab.Open(page + "/adjust")
	fill("credit", "12.51")
	want(t, "another under the reference", tab.Text("#reference-error"), "for another adjustment: a credit of £12.50")
	looks(tab, "ops-adjust-conflict")
	if got := signedInAs(t, s, owner).balance(); got != after || got == before {
		t.Errorf("the balance went from %s to %s to %s", before, after, got)
	}
}

// operatorPaysBack a part to two cards, of which one is refused, while the customer watches.
func operatorPaysBack(t *testing.T, s *site) {
	watching := s.tab(t, browsertest.View{}, stranger)
	watching.Open(s.base() + "/wallet")
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	page := s.base() + "/ops/wallets/" + s.idOf(t, "Second Tenant")
	tab.Open(page)
	tab.Leave("#withdraw")
	want(t, "what can go back", tab.Text("#now"), "Of it from cards that take it back £80.00")
	tab.Everywhere("ops-withdraw")
	tab.Type("#amount", "80.01")
	tab.Type("#reason", "You asked for what you do not need")
	tab.Leave("#withdraw-submit")
	want(t, "more than there is", tab.Text("#amount-error"), "Only £80.00")
	tab.Everywhere("ops-withdraw-refused")
	tab.Type("#amount", "45")
	tab.Leave("#withdraw-submit")
	want(t, "the question", tab.Text("#main"), "Pay £45.00 back? Second Tenant")
	want(t, "the refunds", tab.Text("#parts"), "£30.00 £30.00")
	tab.Everywhere("ops-withdraw-confirm")
	tab.Leave("#withdraw-confirm")
	want(t, "asked", tab.Text("#done"), "Stripe is being asked")
	tab.WaitFor("Stripe's answers", `document.querySelectorAll("#withdrawals ul ul li").length === 2 && !document.querySelector("#withdrawals").textContent.includes("With Stripe")`)
	want(t, "how it stands", tab.Text("#withdrawals"), "£45.00 You asked for what you do not need")
	want(t, "the balance", tab.Text("#balance-amount"), "£35.00")
	tab.Everywhere("ops-withdraw-done")
	watching.WaitText("#balance-amount", "£35.00")
	watching.WaitText("#transactions", "Refund to your card: You asked for what you do not need")
	watching.Everywhere("wallet-refunded")
	// On its way, and what came of it otherwise, as it would stand there for a while.
	databaseURL := s.getenv("DATABASE_URL")
	dbtest.Super(t, databaseURL, `UPDATE wallets SET reserved_pence = 1500 WHERE org_id = $1`, s.idOf(t, "Second Tenant"))
	watching.WaitText("#reserved-notice", "£15.00 is on its way back to your card")
	watching.Everywhere("wallet-reserved")
	dbtest.Super(t, databaseURL, `UPDATE withdrawal_parts SET state = 'refused', refund_id = NULL, note = 'Charge ch_3PX has been charged back; cannot issue a refund.' WHERE amount_pence = 1500`)
	dbtest.Super(t, databaseURL, `UPDATE refunds SET status = 'failed' WHERE amount_pence = 3000`)
	tab.Open(page)
	want(t, "refused", tab.Text("#withdrawals"), "Came back")
	want(t, "refused", tab.Text("#withdrawals"), "Refused")
	whole(tab, "ops-withdraw-states")
	dbtest.Super(t, databaseURL, `UPDATE refunds SET status = 'succeeded'`)
	dbtest.Super(t, databaseURL, `UPDATE withdrawal_parts SET state = 'refunded', note = '', refund_id = (SELECT id FROM refunds WHERE amount_pence = 1500) WHERE amount_pence = 1500`)
	dbtest.Super(t, databaseURL, `UPDATE wallets SET reserved_pence = 0`)
}

// operatorSetsRate by more than a tenth, while a customer has the old price on the page.
func operatorSetsRate(t *testing.T, s *site) {
	for _, v := range []browsertest.View{{}, {NoScripts: true}} {
		looks := func(tab *browsertest.Tab, name string) {
			if !v.NoScripts {
				tab.Everywhere(name)
			}
		}
		rate, was, now := "0.89", "£39.50", "£44.50"
		if v.NoScripts {
			rate, was, now = "0.79", "£44.50", "£39.50"
		}
		customer := s.tab(t, v, owner)
		customer.Expect("status of 422")
		customer.Open(s.base() + "/wallet")
		tab := s.tab(t, v, operator)
		tab.Expect("status of 422")
		tab.Open(s.base() + "/ops/prices")
		looks(tab, "ops-prices-rate")
		tab.Leave("#set-rate")
		tab.Type("#rate", "10")
		tab.Leave("#rate-submit")
		want(t, "beside the rate", tab.Text("#rate-error"), "below 10")
		looks(tab, "ops-rate-refused")
		tab.Type("#rate", rate)
		tab.Type("#source", "ECB reference rate of 2 March 2026")
		tab.Type("#reason", "TICKET-11: the pound has fallen")
		tab.Leave("#rate-submit")
		want(t, "the question", tab.Text("#change"), "A top-up of $50.00 "+was+" "+now)
		looks(tab, "ops-rate-confirm")
		tab.Leave("#rate-confirm")
		want(t, "the second question", tab.Text("h1"), "Do you mean")
		looks(tab, "ops-rate-sure")
		tab.Leave("#rate-sure")
		want(t, "done", tab.Text("#done"), "The exchange rate was set")
		want(t, "in force", tab.Text("#rate"), "£"+rate+" ECB reference rate of 2 March 2026")

		preset := `form:has(input[name=amount][value="50.00"]) button`
		if v.NoScripts {
			customer.Leave(preset)
		} else {
			customer.Click(preset)
		}
		customer.WaitText("#quote-changed", "This costs "+now+" now, not "+was)
		customer.WaitText("#quote", "You'll be charged: "+now+" GBP (~$50.00 USD)")
		if !v.NoScripts {
			customer.WaitText("#preset-5000-price", now)
			want(t, "the field behind it", browsertest.Eval[string](customer, `document.querySelector("#preset-5000-quoted [name=quoted_pence]").value`), "4450")
		}
		looks(customer, "wallet-quote-changed")
		customer.Leave("#top-up-submit")
		customer.WaitPath("/c/pay/")
		want(t, "the sandbox's page", customer.Text("main"), now)
	}
}

// operatorCloses an account and opens it again.
func operatorCloses(t *testing.T, s *site) {
	watching := s.tab(t, browsertest.View{}, stranger)
	watching.Open(s.base() + "/wallet")
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	page := s.base() + "/ops/wallets/" + s.idOf(t, "Second Tenant")
	tab.Open(page)
	tab.Leave("#close")
	want(t, "what it would do", tab.Text("#checks"), "Goes back to cards £35.00")
	tab.Everywhere("ops-close")
	tab.Leave("#close-submit")
	want(t, "beside the reason", tab.Text("#reason-error"), "Give a reason")
	tab.Type("#reason", "TICKET-12: moves abroad and asked us to close it")
	tab.Leave("#close-submit")
	want(t, "the last question", tab.Text("h1"), "Close this account?")
	tab.Everywhere("ops-close-confirm")
	tab.Leave("#close-confirm")
	want(t, "closed", tab.Text("#done"), "The account was closed")
	tab.WaitText("#balance-amount", "£0.00")
	whole(tab, "ops-wallet-closed")
	watching.WaitText("#frozen", "This account is closed")
	watching.Reload()
	watching.Everywhere("wallet-closed")
	tab.Open(s.base() + "/ops/wallets?show=closed")
	want(t, "the list", tab.Text("#wallets"), "Second Tenant Closed")
	tab.Open(page)
	tab.Leave("#reopen")
	tab.Everywhere("ops-reopen")
	tab.Type("#reason", "TICKET-13: came back")
	tab.Leave("#reopen-submit")
	want(t, "open again", tab.Text("#done"), "The account is open again")
	watching.WaitFor("the notice to go", `!document.querySelector("#closed-notice")`)
}
