package main

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
	"ringfence/internal/sandbox"
)

const autoTopUp = "/wallet/auto-top-up"

// TestAutoTopUp lets the whole program top a wallet up by itself: with the sandbox's Stripe, its webhooks, the workers, and
// people at their browsers.
func TestAutoTopUp(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("a card is saved with a top-up", func(t *testing.T) { cardIsSaved(t, s) })
	t.Run("an owner agrees", func(t *testing.T) { ownerAgrees(t, s) })
	t.Run("the wallet tops itself up", func(t *testing.T) { topsItselfUp(t, s) })
	t.Run("the bank asks for its owner", func(t *testing.T) { bankAsks(t, s) })
	t.Run("operators stop it", func(t *testing.T) { operatorsStopIt(t, s) })
	t.Run("the card is removed", func(t *testing.T) { cardIsRemoved(t, s) })
	s.booksAgree(t)
	// £20.00 and £700.00 by its owner, £700.00 by ourselves.
	if n, sum := s.paidAtStripe(t); n != 3 || sum != 1420_00 {
		t.Errorf("Stripe received %d payments of %dp in all", n, sum)
	}
}

// paidAtStripe is how often, and how much, the sandbox's Stripe was paid.
func (s *site) paidAtStripe(t *testing.T) (n int, pence int64) {
	t.Helper()
	for _, p := range s.books(t).Payments {
		if p.AmountReceived > 0 {
			n++
			pence += p.AmountReceived
		}
	}
	return n, pence
}

// take takes money out of Harbour Dental's wallet.
func (s *site) take(t *testing.T, pence int64, reference string) {
	t.Helper()
	if code, out, log := s.run(t, "credit", "--org", "Harbour Dental", fmt.Sprintf("--amount-pence=-%d", pence), "--reason", "Used up", "--reference", reference); code != 0 {
		t.Fatalf("credit exits %d: %s%s", code, out, log)
	}
}

// cardIsSaved ticks the box on the wallet, pays, and finds the card, live.
func cardIsSaved(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + autoTopUp)
	want(t, "without a card", tab.Text("#auto-settings"), "First save a card")
	tab.Everywhere("auto-top-up-empty")
	tab.Open(s.base() + "/wallet")
	tab.Type("#amount", "20")
	tab.Click(poundsChoice)
	tab.Click(`label:has(#save-card)`)
	tab.Everywhere("wallet-save-card")
	tab.Leave("#top-up-submit")
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£20.00 was added. Balance £589.00")
	tab.Open(s.base() + autoTopUp)
	tab.WaitText("#saved-card", "Visa •••• ending in 4242") // it asks by itself while Stripe is asked
	tab.WaitText("#auto-status", "Nothing is charged by itself.")
}

// ownerAgrees sets it up: with a slip, live words, the question and the answer; and once more without scripts.
func ownerAgrees(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + autoTopUp)
	tab.Type("#auto-threshold", "800")
	tab.Type("#auto-amount", "700")
	tab.WaitText("#auto-words", "The threshold is above the amount.")
	tab.Leave("#auto-submit")
	want(t, "beside the field", tab.Text("#auto-threshold-error"), "The threshold is above the amount. Enter at most £700.00")
	tab.Until("the focus", func() bool { return tab.Focused() == "auto-threshold" })
	tab.Everywhere("auto-top-up-refused")
	tab.Type("#auto-threshold", "585")
	tab.Type("#auto-daily-cap", "1400")
	tab.Type("#auto-monthly-cap", "2800")
	tab.WaitText("#auto-words", "Charged each time £700.00 ~$886.08")
	tab.Leave("#auto-submit")
	want(t, "the question", tab.Text("#auto-sentence"), "charge £700.00 to the card saved for this wallet, without asking me each time, whenever less than £585.00 is available")
	tab.Everywhere("auto-top-up-question")
	tab.Leave("#auto-agree-submit")
	want(t, "agreed", tab.Text("#done"), "Automatic top-ups are on.")

	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	plain.Open(s.base() + autoTopUp)
	plain.Type("#auto-threshold", "580")
	plain.Leave("#auto-submit")
	plain.Leave("#auto-edit")
	plain.Leave("#auto-submit")
	plain.Leave("#auto-agree-submit")
	want(t, "changed", plain.Text("#done"), "The change was saved.")
	tab.Reload()
	tab.Everywhere("auto-top-up-on")
	plain = s.tab(t, browsertest.View{}, viewer)
	plain.Open(s.base() + autoTopUp)
	want(t, "a viewer", plain.Text("#auto-settings"), "because your role is viewer")
	plain.Everywhere("auto-top-up-viewer")
}

// topsItselfUp: money is used up, and a page that is open shows what comes.
func topsItselfUp(t *testing.T, s *site) {
	watching := s.tab(t, browsertest.View{}, owner)
	watching.Open(s.base() + "/wallet")
	want(t, "before", watching.Text("#balance-amount"), "£589.00")
	want(t, "before", watching.Text("#auto-top-up"), "On When less than £580.00 is available, £700.00 is charged to your Visa ending in 4242.")
	s.take(t, 9_01, "used-1")
	watching.WaitText("#balance-amount", "£1,279.99")
	watching.WaitText("#balance-status", "Balance £1,279.99")
	watching.Open(s.base() + autoTopUp)
	watching.WaitText("#auto-recent", "Paid")
	want(t, "against the caps", watching.Text("#auto-today"), "£700.00 of £1,400.00")
	watching.Everywhere("auto-top-up-list")
	watching.Leave(`#auto-recent a[href^="/wallet/top-ups/"]`)
	want(t, "its page", watching.Text("#top-up-state"), "£700.00 was added.")
	watching.Open(s.base() + "/wallet")
	if n := watching.Count("#open-top-ups"); n != 0 {
		t.Error("the wallet asks somebody to finish an automatic top-up")
	}
}

// bankAsks: the payment is handed back to the owner, who confirms it by paying once.
func bankAsks(t *testing.T, s *site) {
	var card string
	dbtest.Get(t, s.getenv("DATABASE_URL"), &card, `SELECT payment_method FROM saved_cards WHERE removed_at IS NULL`)
	res, err := http.PostForm(s.sandboxBase()+"/sandbox/stripe/payment_methods/"+card+"/outcome", url.Values{"outcome": {sandbox.OutcomeAuthenticate}})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the sandbox answers %s, %v", res.Status, err)
	}
	s.take(t, 700_00, "used-2")
	until(t, "the bank to ask", func() bool {
		return s.count(t, `SELECT count(*) FROM auto_top_ups WHERE state = 'needs_authentication'`) == 1
	})
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + "/dashboard")
	want(t, "the dashboard", tab.Text("#auto-attention"), "Your bank wants you to confirm an automatic top-up")
	tab.Everywhere("auto-top-up-attention")
	tab.Open(s.base() + autoTopUp)
	tab.Everywhere("auto-top-up-needs-you")
	tab.Leave("#auto-confirm-payment")
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£700.00 was added. Balance £1,279.99")
	tab.Open(s.base() + autoTopUp)
	until(t, "it to go on", func() bool { return s.count(t, `SELECT count(*) FROM auto_top_ups WHERE state = 'ready'`) == 1 })
	tab.Reload()
	want(t, "afterwards", tab.Text("#auto-status"), "On When less than £580.00 is available")
	want(t, "afterwards", tab.Text("#auto-recent"), "Not charged Details The bank wants you to confirm the payment yourself. Nothing was charged.")
	if n := tab.Count("#auto-attention"); n != 0 {
		t.Error("the banner is still there")
	}
}

// operatorsStopIt for everybody, with a reason, and the customer reads that.
func operatorsStopIt(t *testing.T, s *site) {
	op := s.tab(t, browsertest.View{}, operator)
	op.Expect("status of 422")
	op.Open(s.base() + "/ops/auto-top-ups")
	want(t, "running", op.Text("#switch"), "Running")
	op.Leave("#switch-submit")
	want(t, "without a reason", op.Text("#reason-error"), "Give a reason")
	op.Everywhere("ops-auto-top-ups-refused")
	op.Type("#reason", "Stripe is ill")
	op.Leave("#switch-submit")
	want(t, "stopped", op.Text("#switch"), "Stopped for everybody")
	op.Everywhere("ops-auto-top-ups")
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + autoTopUp)
	want(t, "the customer", tab.Text("#auto-paused"), "Automatic top-ups are paused by us")
	tab.Everywhere("auto-top-up-paused")
	op.Type("#reason", "It is well again")
	op.Leave("#switch-submit")
	want(t, "started", op.Text("#switch"), "Running")
}

// cardIsRemoved is asked about first, and ends it.
func cardIsRemoved(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + autoTopUp)
	tab.Leave("#remove-card")
	tab.Everywhere("card-remove")
	tab.Leave("#keep")
	tab.Leave("#remove-card")
	tab.Leave("#card-remove-submit")
	want(t, "removed", tab.Text("#done"), "The card was removed.")
	want(t, "removed", tab.Text("#auto-attention"), "Automatic top-ups have stopped The saved card was removed.")
	tab.Everywhere("auto-top-up-stopped")
	tab.Open(s.base() + "/wallet")
	want(t, "the wallet", tab.Text("#auto-top-up"), "Stopped")
	until(t, "Stripe to forget it", func() bool { return s.count(t, `SELECT count(*) FROM saved_cards WHERE detached_at IS NULL`) == 0 })
	// And a card alone, on Stripe's page.
	tab.Open(s.base() + autoTopUp)
	tab.Leave("#save-card")
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitPath(autoTopUp)
	tab.WaitText("#saved-card", "Visa •••• ending in 4242")
}
