package main

import (
	"net/http"
	"net/url"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
)

// TestOperatorsPages walks through what operators see of the house, of its customers, and of what is said in public.
func TestOperatorsPages(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	harbour := signedInAs(t, s, owner)
	harbour.post(harbour.checkout("50.00")+"/pay", url.Values{}, http.StatusSeeOther)
	harbour.waitBalance("£619.00")
	t.Run("overview", func(t *testing.T) { operatorLooksAround(t, s) })
	t.Run("organisations", func(t *testing.T) { operatorOpens(t, s) })
	t.Run("view as the customer", func(t *testing.T) { operatorViews(t, s) })
	t.Run("suspend", func(t *testing.T) { operatorSuspends(t, s) })
	t.Run("audit, margin and jobs", func(t *testing.T) { operatorReads(t, s) })
	t.Run("incidents", func(t *testing.T) { operatorSays(t, s) })
	s.booksAgree(t)
}

func operatorLooksAround(t *testing.T, s *site) {
	until(t, "the house to have looked at itself", func() bool {
		return s.count(t, `SELECT count(*) FROM probes WHERE state = 'good'`) == 5
	})
	until(t, "the books and the numbers to be verified at the start", func() bool {
		return s.count(t, `SELECT count(DISTINCT kind) FROM verifications`) == 2
	})
	dbtest.Super(t, s.getenv("DATABASE_URL"), `DELETE FROM verifications`)
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops")
	want(t, "the providers", tab.Text("#tile-accounts"), "Stripe £50.00")
	want(t, "the parts", tab.Text("#tile-parts"), "Background work Works")
	want(t, "never checked", tab.Text("#tile-promises"), "Not known")
	tab.Everywhere("ops-overview-unchecked")
	tab.Leave("#verify")
	want(t, "checked", tab.Text("#tile-promises"), "Good")
	tab.Everywhere("ops-overview")
	tab.Look(browsertest.View{Width: browsertest.Phone, Height: 3200})
	tab.FitsWidth()
	tab.Screenshot("ops-overview-whole-phone")
	tab.Look(browsertest.View{Height: 1600})
	tab.Screenshot("ops-overview-whole")
}

func operatorOpens(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/ops/organisations")
	want(t, "the list", tab.Text("#organisations"), "Harbour Dental")
	tab.Everywhere("ops-organisations")
	tab.Leave("#new")
	tab.Everywhere("ops-organisation-form")
	tab.Type("#name", "Mill Bakery")
	tab.Type("#owner", "nonsense")
	tab.Type("#reason", "TICKET-1")
	tab.Leave("#open-submit")
	want(t, "beside the email", tab.Text("#owner-error"), "Enter an email address")
	tab.Everywhere("ops-organisation-new-refused")
	tab.Type("#owner", "miller@mill.example")
	tab.Leave("#open-submit")
	want(t, "done", tab.Text("#done"), "invited by mail")
	tab.Everywhere("ops-organisation-new")
}

// customer opens Harbour Dental's page.
func customer(t *testing.T, s *site) *browsertest.Tab {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/organisations?q=harbour")
	tab.Leave("td[data-heading] a")
	return tab
}

func operatorViews(t *testing.T, s *site) {
	tab := customer(t, s)
	tab.Expect("[object Event]") // a stream that is cut
	tab.Everywhere("ops-organisation")
	tab.Leave("#view")
	tab.Everywhere("ops-view-ask")
	tab.Type("#reason", "TICKET-2")
	tab.Leave("#view-submit")
	tab.WaitPath("/dashboard")
	want(t, "the banner", tab.Text("#viewing"), "You see Harbour Dental as its people do")
	want(t, "the balance", tab.Text("#balance-amount"), "£619.00")
	tab.Everywhere("ops-viewing")
	tab.Open(s.base() + "/wallet")
	tab.Everywhere("ops-viewing-wallet")
	tab.Leave("#view-end")
	want(t, "ended", tab.Text("#done"), "as an operator again")
}

func operatorSuspends(t *testing.T, s *site) {
	tab := customer(t, s)
	tab.Leave("#suspend")
	tab.Everywhere("ops-suspend-ask")
	tab.Type("#reason", "TICKET-3: looks like fraud")
	tab.Leave("#suspend-submit")
	want(t, "suspended", tab.Text("#suspended-notice"), "looks like fraud")
	tab.Everywhere("ops-suspended")
	theirs := s.tab(t, browsertest.View{}, owner)
	theirs.Expect("[object Event]") // a stream that is cut
	theirs.Open(s.base() + "/wallet")
	want(t, "the banner", theirs.Text("#suspended"), "Harbour Dental is suspended")
	theirs.Everywhere("suspended-wallet")
	tab.Leave("#unsuspend")
	tab.Everywhere("ops-unsuspend-ask")
	tab.Type("#reason", "It was not")
	tab.Leave("#unsuspend-submit")
	want(t, "works again", tab.Text("#about"), "Works")
}

func operatorReads(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Open(s.base() + "/ops/audit?action=organisation.")
	want(t, "the log", tab.Text("#log"), "TICKET-3: looks like fraud")
	tab.Everywhere("ops-audit")
	tab.Leave("td[data-heading] a")
	want(t, "an entry", tab.Text("#entry"), operator)
	tab.Everywhere("ops-audit-entry")
	tab.Open(s.base() + "/ops/audit?actor=nobody")
	tab.Everywhere("ops-audit-none")

	dbtest.Super(t, s.getenv("DATABASE_URL"), `
		INSERT INTO river_job (state, attempt, max_attempts, attempted_at, created_at, scheduled_at, finalized_at, priority, args, kind, queue, errors)
		VALUES ('discarded', 3, 3, now(), now(), now(), now(), 1, '{"org_id": "x"}', 'planted', 'default', ARRAY['{"at":"2026-01-01T00:00:00Z","attempt":3,"error":"couldn''t reach it","trace":""}'::jsonb])`)
	tab.Open(s.base() + "/ops/jobs")
	want(t, "a job that was given up", tab.Text("#jobs"), "couldn't reach it")
	tab.Everywhere("ops-jobs")
	tab.Leave("td[data-heading] a")
	tab.Everywhere("ops-job")
	tab.Open(s.base() + "/ops/jobs/river/")
	until(t, "River's own pages to show", func() bool { return tab.Count("main, nav, h1") > 0 })
	tab.Screenshot("ops-river")

	dbtest.Super(t, s.getenv("DATABASE_URL"), `INSERT INTO number_costs (country, starts_on, monthly_micros, updated_at) VALUES ('GB', '2026-01-01', 1150000, now())`)
	tab.Open(s.base() + "/ops/margin")
	tab.Everywhere("ops-margin")
}

func operatorSays(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/ops/incidents")
	tab.Everywhere("ops-incidents-empty")
	tab.Type("#title", "Calls are not connected")
	tab.Type("#body", "We are looking into it.")
	tab.Type("#reason", "TICKET-4")
	tab.Leave("#post-submit")
	want(t, "beside the boxes", tab.Text("#components-error"), "Say what it is about.")
	tab.Everywhere("ops-incidents-refused")
	tab.Click("#part-calls")
	tab.Leave("#post-submit")
	want(t, "posted", tab.Text("#done"), "on the status page")
	tab.Everywhere("ops-incident")
	everybody := s.browser.Visit(t, browsertest.View{})
	everybody.Open(s.base() + "/status")
	want(t, "in public", everybody.Text("main"), "Calls are not connected")
	everybody.Everywhere("status-incident")
	tab.Type("#body", "It was a cable.")
	choose(tab, "#stage", "resolved")
	tab.Type("#reason", "TICKET-4")
	tab.Leave("#update-submit")
	tab.Open(s.base() + "/ops/incidents")
	want(t, "over", tab.Text("#incidents"), "Over")
	tab.Everywhere("ops-incidents")
	everybody.Open(s.base() + "/status?later") // the browser keeps a page for ten seconds
	want(t, "in public", everybody.Text("#past"), "It was a cable.")
	everybody.Everywhere("status")
}
