package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/browsertest"
	"ringfence/internal/wallet"
)

// TestPricesAndLimits looks at prices, limits, holds and freezing as customers and operators do.
func TestPricesAndLimits(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	t.Run("prices", func(t *testing.T) { customerAsksPrices(t, s) })
	t.Run("limits", func(t *testing.T) { ownerSetsLimits(t, s) })
	t.Run("holds and freezing", func(t *testing.T) { walletIsFrozen(t, s) })
	t.Run("wallets", func(t *testing.T) { operatorSurveys(t, s) })
	t.Run("a price", func(t *testing.T) { operatorSetsPrice(t, s, browsertest.View{}) })
	t.Run("a price without scripts", func(t *testing.T) { operatorSetsPrice(t, s, browsertest.View{NoScripts: true}) })
	s.booksAgree(t)
}

// harbour is Harbour Dental's id.
func (s *site) harbour(t *testing.T) (id uuid.UUID) {
	t.Helper()
	dbtest.Get(t, s.getenv("DATABASE_URL"), &id, `SELECT id FROM organizations WHERE name = 'Harbour Dental'`)
	return id
}

// whole looks at all of a long page, in the widths between as well.
func whole(tab *browsertest.Tab, name string) {
	tab.Everywhere(name)
	for _, width := range []int64{700, 1024} {
		tab.Look(browsertest.View{Width: width, Height: 2600})
		tab.FitsWidth()
		tab.Screenshot(fmt.Sprintf("%s-whole-%d", name, width))
	}
	tab.Look(browsertest.View{})
}

// choose takes an entry of a list.
func choose(tab *browsertest.Tab, selector, value string) {
	browsertest.Eval[bool](tab, fmt.Sprintf(`document.querySelector(%q).value = %q, true`, selector, value))
}

func customerAsksPrices(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/wallet")
	tab.Leave(`nav[aria-label=Wallet] a[href="/wallet/prices"]`)
	want(t, "the examples", tab.Text("#examples"), "91 seconds £0.84")
	tab.Click(`#prices-call summary`)
	whole(tab, "prices")
	for _, v := range []browsertest.View{{}, {NoScripts: true}} {
		tab := s.tab(t, v, owner)
		tab.Expect("status of 422")
		tab.Open(s.base() + "/wallet/prices")
		press := func() {
			if v.NoScripts {
				tab.Leave(`#cost-form button`)
			} else {
				tab.Click(`#cost-form button`)
			}
		}
		tab.Type("#quantity", "91")
		tab.Type("#destination", "+44 7400 123456")
		press()
		tab.WaitText("#cost-answer", "Call to +44 7400 123456, 91 seconds (United Kingdom) £0.84")
		choose(tab, "#cost-action", "sms")
		tab.Type("#destination", "+33612345678")
		press()
		tab.WaitText("#cost-answer", "Not offered")
		tab.Type("#quantity", "0")
		press()
		tab.WaitText("#quantity-error", "a whole number from 1 to 1000")
		if !v.NoScripts {
			tab.Screenshot("prices-error")
			tab.WaitFor("the focus on the field", `document.activeElement?.id === "quantity"`)
			tab.Axe()
			tab.Type("#quantity", "3")
			press()
			tab.WaitText("#cost-answer", "3 segments (France)")
			tab.WaitText("#cost-status", "Texts to this destination are not offered")
			tab.Everywhere("prices-answer")
		}
	}
}

func ownerSetsLimits(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/wallet/limits")
	tab.Everywhere("limits-none")
	tab.Type("#limit-all", "£50")
	tab.Type("#limit-call", "20")
	tab.Leave("#limits-submit")
	want(t, "beside the field", tab.Text("#limit-all-error"), "Use digits only")
	tab.Until("the focus", func() bool { return tab.Focused() == "limit-all" })
	tab.Everywhere("limits-refused")
	tab.Type("#limit-all", "50")
	tab.Type("#limit-sms", "1")
	tab.Type("#limit-number", "10")
	tab.Leave("#limits-submit")
	want(t, "saved", tab.Text("#done"), "The limits were saved")

	gates := wallet.NewGates(wallet.GateOptions{DB: dbtest.OpenURL(t, s.getenv("DATABASE_URL"), nil), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	for i, r := range []wallet.HoldRequest{
		{Action: wallet.ActionSMS, Quantity: 9, Destination: "+447400123456", AtOnce: true},
		{Action: wallet.ActionNumber, Quantity: 1, AtOnce: true},
		{Action: wallet.ActionCall, Quantity: 91, Destination: "+12015550123", AtOnce: true},
		{Action: wallet.ActionKnowledge, Quantity: 1, AtOnce: true},
		{Action: wallet.ActionCall, Quantity: 600, Destination: "+447400123456"},
		{Action: wallet.ActionSMS, Quantity: 1, Destination: "+447400123456"},
	} {
		r.OrgID, r.Source, r.Key, r.Actor = s.harbour(t), wallet.SourceAPI, fmt.Sprint("k", i), audit.System("test")
		if _, err := gates.Authorise(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	tab.Open(s.base() + "/wallet/limits")
	want(t, "texts", tab.Text("#spent-sms"), "Used up £1.00 of £1.00")
	want(t, "all", tab.Text("#spent-all"), "£17.38 of £50.00")
	whole(tab, "limits")
	looker := s.tab(t, browsertest.View{}, viewer)
	looker.Open(s.base() + "/wallet/limits")
	looker.Everywhere("limits-viewer")
}

// walletIsFrozen by an operator, while somebody looks at it.
func walletIsFrozen(t *testing.T, s *site) {
	dbtest.Super(t, s.getenv("DATABASE_URL"), `UPDATE holds SET state = 'in_flight' WHERE action = 'call' AND state = 'open'`)
	watching := s.tab(t, browsertest.View{}, owner)
	watching.Open(s.base() + "/wallet")
	want(t, "the holds", watching.Text("#holds"), "Call to +44 7400 123456 600 seconds Waiting for the provider £5.53")
	want(t, "the month", watching.Text("#balance-spent"), "£17.38 of £50.00")
	whole(watching, "wallet-holds")

	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	page := s.base() + "/ops/wallets/" + s.harbour(t).String()
	tab.Open(page)
	tab.Leave("#freeze")
	tab.Everywhere("freeze")
	tab.Leave("#freeze-submit")
	want(t, "beside the reason", tab.Text("#reason-error"), "Give a reason")
	tab.Everywhere("freeze-refused")
	tab.Type("#reason", "TICKET-3: three chargebacks in a week, asked the owner for papers")
	tab.Leave("#freeze-submit")
	want(t, "frozen", tab.Text("#done"), "The wallet was frozen")
	whole(tab, "ops-wallet-frozen")
	watching.WaitText("#frozen", "This wallet is frozen")
	watching.Everywhere("wallet-frozen")
	watching.Open(s.base() + "/dashboard")
	watching.Everywhere("dashboard-frozen")
	tab.Open(s.base() + "/ops/wallets?show=frozen")
	want(t, "the list", tab.Text("#wallets"), "Harbour Dental Frozen")
	tab.Open(page)
	tab.Leave("#thaw")
	tab.Everywhere("thaw")
	tab.Type("#reason", "TICKET-3: papers came")
	tab.Leave("#thaw-submit")
	want(t, "thawed", tab.Text("#done"), "The wallet was thawed")
	watching.WaitFor("the notice to go", `!document.querySelector("#frozen-notice")`)
	tab.Leave(`nav[aria-label=Main] a[href="/ops/wallets"]`)
}

func operatorSurveys(t *testing.T, s *site) {
	databaseURL := s.getenv("DATABASE_URL")
	dbtest.Super(t, databaseURL, `
		WITH new AS (
		    INSERT INTO organizations (id, name, created_at)
		    SELECT gen_random_uuid(), 'Practice ' || lpad(i::text, 3, '0') || CASE i WHEN 2 THEN ' of general and cosmetic dentistry at Great Yarmouth Harbour' ELSE '' END, now()
		    FROM generate_series(1, 55) i RETURNING id)
		INSERT INTO wallets (org_id, created_at, updated_at) SELECT id, now(), now() FROM new`)
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/wallets")
	whole(tab, "ops-wallets")
	tab.Leave("#next")
	want(t, "the last page", tab.Text("#wallets"), "These are the last.")
	tab.Type("#q", "nobody")
	tab.Leave("#find")
	want(t, "nothing", tab.Text("#wallets"), "Nothing fits")
	tab.Everywhere("ops-wallets-none")
	tab.Type("#q", "harbour dental")
	tab.Leave("#find")
	tab.Leave("td[data-heading] a")
	want(t, "the wallet", tab.Text("h1"), "Harbour Dental")
	whole(tab, "ops-wallet")
	tab.Leave("#to-own-prices")
	want(t, "own prices", tab.Text("h1"), "Prices of Harbour Dental")
	tab.Everywhere("ops-prices-own-none")
	dbtest.Super(t, databaseURL, `DELETE FROM wallets WHERE org_id IN (SELECT id FROM organizations WHERE name LIKE 'Practice %')`)
	dbtest.Super(t, databaseURL, `
		WITH gone AS (SELECT id FROM organizations WHERE name LIKE 'Practice %'),
		     marks AS (DELETE FROM notice_marks WHERE org_id IN (SELECT id FROM gone))
		DELETE FROM organizations WHERE id IN (SELECT id FROM gone)`)
}

func operatorSetsPrice(t *testing.T, s *site, v browsertest.View) {
	tab := s.tab(t, v, operator)
	tab.Expect("status of 422")
	tab.Expect("status of 409")
	tab.Open(s.base() + "/ops/prices")
	if !v.NoScripts {
		whole(tab, "ops-prices")
	}
	tab.Leave("#add-sms")
	tab.Type("#unit", "0,12")
	tab.Type("#prefix", "+353")
	tab.Leave("#price-submit")
	want(t, "beside the field", tab.Text("#unit-error"), "Use digits only")
	want(t, "beside the reason", tab.Text("#main"), "Use digits only")
	if !v.NoScripts {
		tab.Everywhere("ops-price-refused")
	}
	tab.Type("#unit", "0.12")
	tab.Type("#reason", "TICKET-8: asked for by three customers, bought at 9p")
	tab.Leave("#price-submit")
	want(t, "the change", tab.Text("#change"), "Texts to +353 (Ireland)")
	if !v.NoScripts {
		whole(tab, "ops-price-confirm")
	}
	tab.Leave("#price-edit")
	tab.Type("#unit", "0.13")
	tab.Leave("#price-submit")
	tab.Leave("#price-confirm")
	want(t, "done", tab.Text("#done"), "The price was added")
	want(t, "the line", tab.Text("#prices-sms"), "Ireland +353")

	// A later one, for one organisation, from its own list.
	tab.Open(s.base() + "/ops/prices?org=" + s.harbour(t).String())
	tab.Leave("#add-call")
	tab.Type("#prefix", "44")
	tab.Type("#per-minute", "0.55")
	tab.Type("#unit", "0.50")
	start := time.Now().UTC().AddDate(0, 0, 30).Format("2006-01-02T15:04")
	browsertest.Eval[bool](tab, fmt.Sprintf(`document.querySelector("#starts").value = %q, true`, start))
	tab.Type("#reason", "Agreed for a year")
	if !v.NoScripts {
		tab.Everywhere("ops-price-form")
	}
	tab.Leave("#price-submit")
	tab.Leave("#price-confirm")
	want(t, "done", tab.Text("#done"), "It waits for its start")
	if !v.NoScripts {
		browsertest.Eval[bool](tab, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
		whole(tab, "ops-prices-own")
		tab.Open(s.base() + "/ops/prices/new?action=sms&prefix=353")
		want(t, "the history", tab.Text("#history"), "TICKET-8")
		tab.Everywhere("ops-price-history")
	}
}
