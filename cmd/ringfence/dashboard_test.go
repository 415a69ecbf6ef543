package main

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/browsertest"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// TestFirstSteps goes the way of a new account, from nothing to its first call, with the dashboard open beside it.
func TestFirstSteps(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	org := s.organisation(t, "Second Tenant")
	tab := s.tab(t, browsertest.View{}, stranger)
	tab.Open(s.base() + "/dashboard")
	want(t, "the beginning", tab.Text("#start"), "0 of 5 done")
	want(t, "how long it lasts", tab.Text("#runway"), "Not known yet")
	if n := tab.Count(`main a[class*="bg-accent-fill"]`); n != 1 {
		t.Errorf("the page has %d primary actions", n)
	}
	tab.Everywhere("dashboard-first")
	watching := tab.Another()
	watching.Open(s.base() + "/dashboard")

	tab.Leave("#do-top-up")
	tab.Leave(`form:has(input[name=amount][value="50.00"]) button`)
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£39.50 was added.")
	watching.WaitText("#start", "1 of 5 done")
	watching.WaitFor("the next step", `document.querySelector("#do-number")`)

	tab.Open(s.base() + "/dashboard")
	tab.Leave("#do-number")
	tab.Open(s.base() + "/numbers?find=1&country=US&area=415")
	tab.Leave("#results li a")
	tab.Leave("#buy")
	tab.WaitText("#number-state", "It is ready to be used")
	watching.WaitText("#start", "2 of 5 done")
	watching.WaitText("#numbers", "1 active")

	watching.Leave("#do-agent")
	watching.Type("#name", "Reception")
	watching.Type("#first_message", "Hello, how can I help?")
	watching.Type("#prompt", "Be brief and kind.")
	watching.Leave("#make")
	watching.WaitText("#agent-state", "Ready")
	tab.Open(s.base() + "/dashboard")
	want(t, "the agent", tab.Text("#agents"), "No number")
	want(t, "the steps", tab.Text("#start"), "3 of 5 done")
	tab.Everywhere("dashboard-steps")
	tab.Leave("#do-link")
	tab.Leave("#link")
	tab.Open(s.base() + "/dashboard")
	want(t, "the agents", tab.Text("#agents"), "Ready for calls")
	want(t, "the steps", tab.Text("#start"), "4 of 5 done")
	watching.Open(s.base() + "/dashboard")

	s.tellSandbox(t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":40}]`}}, nil)
	tab.Leave("#do-call")
	tab.Type("#to", "+447400123456")
	tab.Leave("#call")
	watching.WaitText("#calls-today", "1 live now")
	watching.Everywhere("dashboard-live")
	watching.WaitFor("the steps to be behind", `!document.querySelector("#start")`)
	watching.WaitText("#calls-today", "£0.37 paid")
	watching.WaitFor("the call to be over", `!document.querySelector("#calls-today").textContent.includes("live now")`)

	// Somebody who may only look is led nowhere where they could not go.
	looks := s.tab(t, browsertest.View{}, viewer)
	looks.Open(s.base() + "/dashboard")
	want(t, "what a viewer is told", looks.Text("#start"), "An owner of Harbour Dental does these steps")
	if n := looks.Count(`main a[class*="bg-accent-fill"]`); n != 0 {
		t.Errorf("a viewer is offered %d primary actions", n)
	}
	looks.Everywhere("dashboard-viewer")

	// What stands in the way comes first: a number on its way out that a provider keeps, and one whose rent is owed.
	tab.Open(s.base() + "/dashboard")
	s.vapiFaults(t, `[{"match":"DELETE /vapi/phone-number/*","do":"500","times":-1}]`)
	s.inApp(t, func(ctx context.Context, a *app) error {
		list, err := a.numbers.List(ctx, org, uuid.Nil, 1)
		if err != nil {
			return err
		}
		_, err = a.numbers.Release(ctx, telephony.ReleaseRequest{OrgID: org, Number: list[0].ID, Actor: audit.System("test"), Reason: "test"})
		return err
	})
	tab.Reload()
	want(t, "the numbers", tab.Text("#numbers"), "0 active, 1 being released")
	want(t, "the agents", tab.Text("#agents"), "0 of 1 ready for calls")
	s.vapiFaults(t, `[]`)
	s.booksAgree(t)
}

// TestDemoPages looks at the demo with its history as a visitor does.
func TestDemoPages(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	p.environment["RINGFENCE_DEMO_HISTORY"] = "true"
	p.start(t, "serve")
	s := &site{p, browsertest.Start(t), map[string]*http.Cookie{}}
	if got := s.balancePence(t); got != 569_00 {
		t.Fatalf("the balance is %d", got)
	}
	t.Run("pictures", func(t *testing.T) { pictures(t, s) }) // first, while nothing has moved
	t.Run("dashboard", func(t *testing.T) { richDashboard(t, s) })
	t.Run("zones", func(t *testing.T) { zones(t, s) })
	t.Run("quick and steady", func(t *testing.T) { quickAndSteady(t, s) })
	s.booksAgree(t)
}

// pictures are those of the README: see `make demo-shots`.
func pictures(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + "/wallet")
	tab.Type("#amount", "50.00")
	tab.WaitText("#quote", "You'll be charged: £39.50 GBP (~$50.00 USD)")
	browsertest.Eval[bool](tab, `document.activeElement.blur(), true`)
	tab.Look(browsertest.View{Height: 920})
	tab.Screenshot("wallet")
	tab.Look(browsertest.View{Height: 920, Dark: true})
	tab.Screenshot("wallet-dark")
	tab.Look(browsertest.View{Width: browsertest.Phone, Height: 812})
	tab.Screenshot("wallet-phone")
	tab.Look(browsertest.View{Height: 1300})
	for _, page := range []struct{ name, path, shows string }{
		{"dashboard", "/dashboard", "Balance lasts"},
		{"numbers", "/numbers", "Front desk"},
		{"calls", "/calls", "Front desk"},
	} {
		tab.Open(s.base() + page.path)
		want(t, page.name, tab.Text("main"), page.shows)
		tab.Screenshot(page.name)
	}
	tab.Open(s.base() + "/agents")
	tab.Leave("#agents tbody a")
	want(t, "the agent", tab.Text("h1"), "Front desk")
	tab.Screenshot("agent")

	until(t, "the books and the numbers to be verified", func() bool { return s.count(t, `SELECT count(DISTINCT kind) FROM verifications`) == 2 })
	op := s.tab(t, browsertest.View{Height: 1000}, operator)
	op.Open(s.base() + "/ops")
	want(t, "the promises", op.Text("#tile-promises"), "Good")
	if op.Status() != http.StatusOK {
		t.Errorf("an operator is answered with %d", op.Status())
	}
	op.Screenshot("operations")
}

func richDashboard(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + "/dashboard")
	want(t, "the balance", tab.Text("#balance-amount"), "£569.00")
	if got := tab.Text("#runway"); !regexp.MustCompile(`About [0-9,]+ days|Over a year`).MatchString(got) || !strings.Contains(got, "at this pace") {
		t.Errorf("how long it lasts: %s", got)
	}
	want(t, "the numbers", tab.Text("#numbers"), "2 active")
	want(t, "the agents", tab.Text("#agents"), "2 of 3 ready for calls")
	want(t, "the first agent", tab.Text("#agents li"), "Out of hours Takes no calls without one No number")
	want(t, "the calls", tab.Text("#calls-today"), "paid")
	if tab.Count("#start") != 0 {
		t.Error("an account that is two months old is led through its first steps")
	}
	for id, path := range map[string]string{
		"runway-link": "/wallet", "spent-link": "/wallet/transactions", "calls-today-link": "/calls", "texts-today-link": "/messages",
		"all-numbers": "/numbers", "all-agents": "/agents", "open-wallet": "/wallet/transactions",
	} {
		tab.Leave("#" + id)
		if tab.Path() != path || tab.Status() != http.StatusOK {
			t.Errorf("%s leads to %s (%d)", id, tab.Path(), tab.Status())
		}
		tab.Open(s.base() + "/dashboard")
	}
	tab.Everywhere("dashboard-rich")
	for _, v := range []struct {
		name string
		browsertest.View
	}{
		{"dashboard-whole", browsertest.View{}},
		{"dashboard-whole-dark", browsertest.View{Dark: true}},
		{"dashboard-whole-phone", browsertest.View{Width: browsertest.Phone, Height: 812}},
	} {
		tab.Look(v.View)
		tab.Whole(v.name)
	}
	tab.Look(browsertest.View{})

	// Money that moves is told to the open page: the tiles with it, and where the person was stays.
	browsertest.Eval[bool](tab, `document.querySelector("#texts-today-link").focus(), true`)
	before := tab.Text("#texts-today")
	org := s.harbour(t)
	s.inApp(t, func(ctx context.Context, a *app) error {
		_, err := a.gates.Authorise(ctx, wallet.HoldRequest{
			OrgID: org, Action: wallet.ActionSMS, Quantity: 3, Destination: "+447400123456", Source: wallet.SourceAPI, Key: "live", AtOnce: true, Actor: audit.System("test"),
		})
		return err
	})
	tab.WaitText("#balance-amount", "£568.70")
	tab.Until("the tile", func() bool { return tab.Text("#texts-today") != before })
	if got := tab.Focused(); got != "texts-today-link" {
		t.Errorf("the focus went to %q", got)
	}
	want(t, "the newest line", tab.Text("#transactions tbody tr"), "-£0.30")
}

// zones: times are shown in the reader's zone, in what is swapped in too, and in UTC by that name where there is no script.
func zones(t *testing.T, s *site) {
	when := func(tab *browsertest.Tab) (shown, title string, at time.Time) {
		t.Helper()
		said := browsertest.Eval[[]string](tab, `(e => [e.textContent.trim().replace(/\s+/g, " "), e.title, e.dateTime])(document.querySelector("#transactions time"))`)
		at, err := time.Parse(time.RFC3339, said[2])
		if err != nil {
			t.Fatal(err)
		}
		return said[0], said[1], at
	}
	for _, zone := range []string{"Asia/Kolkata", "America/Los_Angeles", "Europe/London"} {
		tab := s.tab(t, browsertest.View{}, owner)
		tab.Zone(zone)
		place, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/dashboard", "/wallet"} {
			tab.Open(s.base() + path)
			shown, title, at := when(tab)
			if want := at.In(place).Format("2 Jan 2006, 15:04"); shown != want {
				t.Errorf("%s in %s: %q, want %q", path, zone, shown, want)
			}
			if want := at.UTC().Format("2 Jan 2006, 15:04") + " UTC"; title != want {
				t.Errorf("%s on pointing: %q, want %q", path, title, want)
			}
			if n := tab.Count(`time:not([title])`); n != 0 {
				t.Errorf("%d times of %s in %s stayed as they were sent", n, path, zone)
			}
			tab.Steady()
		}
		tab.Open(s.base() + "/wallet/transactions")
		tab.Click("#older")
		tab.WaitFor("the second page", `document.querySelector("#newer")`)
		if n := tab.Count(`time:not([title])`); n != 0 || tab.Count("time") == 0 {
			t.Errorf("%d times that were swapped in stayed as they were sent", n)
		}
	}
	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	plain.Zone("Asia/Kolkata")
	plain.Open(s.base() + "/wallet")
	if shown, _, at := when(plain); shown != at.UTC().Format("2 Jan 2006, 15:04")+" UTC" {
		t.Errorf("without scripts: %q", shown)
	}
}

// quickAndSteady holds what makes pages quick: little is sent, all of it is compressed and kept, nothing is waited for that
// need not be, nothing moves while the page comes up, and the browser has nothing to complain about.
func quickAndSteady(t *testing.T, s *site) {
	type resource struct {
		Name, Block          string
		Sent, Size, Duration float64
	}
	const list = `performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation")).map(e => (
		{Name: new URL(e.name).pathname, Block: e.renderBlockingStatus ?? "", Sent: e.transferSize, Size: e.decodedBodySize, Duration: e.duration}))`
	for _, path := range []string{"/dashboard", "/wallet"} {
		for _, v := range []browsertest.View{{}, {Width: browsertest.Phone, Height: 812}} {
			tab := s.tab(t, v, owner)
			tab.Open(s.base() + path)
			tab.Steady()
			var sent float64
			for _, r := range browsertest.Eval[[]resource](tab, list) {
				if r.Name == "/wallet/stream" {
					continue
				}
				sent += r.Sent
				if r.Block == "blocking" && !strings.HasPrefix(r.Name, "/static/app.") && !strings.HasPrefix(r.Name, "/static/zone.") && r.Name != path {
					t.Errorf("%s: %s is waited for before anything is shown", path, r.Name)
				}
				if !strings.HasSuffix(r.Name, ".woff2") && r.Size > 2000 && r.Sent > 0.6*r.Size {
					t.Errorf("%s: %s is sent with %.0f of %.0f bytes", path, r.Name, r.Sent, r.Size)
				}
			}
			if sent > 200_000 {
				t.Errorf("%s sends %.0f bytes at the first visit", path, sent)
			}
			tab.Reload()
			tab.Steady()
			for _, r := range browsertest.Eval[[]resource](tab, list) {
				if strings.HasPrefix(r.Name, "/static/") && r.Sent > 0 {
					t.Errorf("%s: %s is fetched again", path, r.Name)
				}
			}
		}
	}
}
