package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/browsertest"
)

// Where things are on the pages.
const (
	loginButton  = `form:has(#email) button[type=submit]`
	payButton    = `form[action$="/pay"] button`
	priceButton  = `button[formaction="/wallet/quote"]`
	poundsChoice = `label:has(#currency-gbp)`
)

// site is a running program that scenes share, with a browser to look at it.
type site struct {
	*program

	browser *browsertest.Browser
	cookies map[string]*http.Cookie // of the people who signed in already: a sign-in costs an argon2 hash
}

// tab opens a tab of somebody who is signed in.
func (s *site) tab(t *testing.T, v browsertest.View, email string) *browsertest.Tab {
	t.Helper()
	if s.cookies[email] == nil {
		s.cookies[email] = signedIn(t, s.base(), email).cookie()
	}
	tab := s.browser.Visit(t, v)
	tab.SetCookie(s.base(), s.cookies[email].Name, s.cookies[email].Value)
	return tab
}

// TestBrowser looks at the program as people do, with one Chromium and, where the books need not be fresh, one server.
func TestBrowser(t *testing.T) {
	t.Parallel()
	b := browsertest.Start(t)
	t.Run("the main job", func(t *testing.T) { mainJob(t, &site{serve(t), b, map[string]*http.Cookie{}}) })
	t.Run("the main job without scripts", func(t *testing.T) { mainJobWithoutScripts(t, &site{serve(t), b, map[string]*http.Cookie{}}) })

	s := &site{serve(t), b, map[string]*http.Cookie{}}
	for _, scene := range []struct {
		name string
		play func(*testing.T, *site)
	}{
		{"wrong password", wrongPassword},
		{"bad amounts", badAmounts},
		{"decline", decline},
		{"pay later", payLater},
		{"abandon", abandon},
		{"double click, two tabs, reload", oneTopUp},
		{"viewer", viewerLooksOnly},
		{"another organisation", anotherOrganisation},
		{"operator", operatorWithoutWallet},
		{"sign out", signOut},
		{"accessibility", accessibility},
	} {
		t.Run(scene.name, func(t *testing.T) { scene.play(t, s) })
	}
	s.booksAgree(t)
}

// signIn goes in by the form.
func signIn(tab *browsertest.Tab, base, email string) {
	tab.Open(base + "/login")
	tab.Type("#email", email)
	tab.Type("#password", auth.DemoPassword)
	tab.Leave(loginButton)
	tab.WaitPath("/dashboard")
}

// mainJob is what the product is for: £569.00 become £619.00, live in another tab.
func mainJob(t *testing.T, s *site) {
	tab := s.browser.Visit(t, browsertest.View{})
	signIn(tab, s.base(), owner)
	want(t, "the dashboard's balance", tab.Text("#balance-amount"), "£569.00")
	tab.Screenshot("dashboard")
	tab.Open(s.base() + "/wallet")
	want(t, "the wallet", tab.Text("#balance-amount"), "£569.00")

	watching := tab.Another()
	watching.Open(s.base() + "/wallet")
	browsertest.Eval[bool](watching, `window.place = document.getElementById("balance-status"), true`)

	tab.Stays("#top-up-submit", func() {
		tab.Click("#amount")
		tab.Press("50.00")
		tab.Click(poundsChoice)
		tab.WaitText("#quote", "You'll be charged: £50.00 GBP (~$63.29 USD)")
	})
	tab.Screenshot("quote")
	tab.Leave("#top-up-submit")
	tab.WaitPath("/c/pay/")
	want(t, "the sandbox's page", tab.Text("main"), "£50.00")
	if got := browsertest.Eval[string](tab, `location.search + location.hash`); got != "" {
		t.Errorf("the checkout's address carries %q", got)
	}
	tab.Leave(payButton)
	tab.WaitPath("/wallet/top-ups/")
	tab.WaitText("#top-up-state", "Your wallet was topped up £50.00 was added. Balance £619.00")

	// The same page, never loaded again: its stream brought the news, and a screen reader heard it.
	watching.WaitText("#balance-amount", "£619.00")
	watching.WaitText("#balance-status", "Balance £619.00")
	watching.WaitText("#transactions", "+£50.00")
	if !browsertest.Eval[bool](watching, `window.place === document.querySelector('#balance-status[role="status"]')`) {
		t.Error("the region that is read out was replaced, so nothing is read out")
	}
	watching.Axe()
	s.booksAgree(t)

	// Whoever reads the log can follow one top-up: who, for whom, which request.
	if !slices.ContainsFunc(strings.Split(s.log.String(), "\n"), func(line string) bool {
		var entry map[string]any
		return json.Unmarshal([]byte(line), &entry) == nil && entry["route"] == "POST /wallet/top-ups" && entry["request_id"] != nil && entry["org_id"] != nil
	}) {
		t.Errorf("no line of the log tells of the top-up with request_id and org_id:\n%s", s.log)
	}
}

// mainJobWithoutScripts does the same by forms, links and the page's own refreshing.
func mainJobWithoutScripts(t *testing.T, s *site) {
	tab := s.browser.Visit(t, browsertest.View{NoScripts: true})
	signIn(tab, s.base(), owner)
	tab.Open(s.base() + "/wallet")
	want(t, "the wallet", tab.Text("#balance-amount"), "£569.00")

	tab.Type("#amount", "50.00")
	tab.Click(poundsChoice)
	tab.Leave(priceButton)
	want(t, "the quote", tab.Text("#quote"), "You'll be charged: £50.00 GBP (~$63.29 USD)")
	tab.Screenshot("quote-without-scripts")
	tab.Leave("#top-up-submit")
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitPath("/wallet/top-ups/")
	tab.WaitText("#top-up-state", "£50.00 was added. Balance £619.00")

	tab.Leave("#back-to-wallet")
	tab.Leave(`form:has(input[name=amount][value="50.00"]) button`)
	tab.WaitPath("/c/pay/")
	want(t, "the sandbox's page", tab.Text("main"), "£39.50")
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£39.50 was added. Balance £658.50")
	tab.Leave("#back-to-wallet")
	want(t, "the wallet", tab.Text("#balance-amount"), "£658.50")
	s.booksAgree(t)
}

// wrongPassword is told in the form, in the same words as an unknown address; and a password that was typed into the
// wrong field is not shown to the log.
func wrongPassword(t *testing.T, s *site) {
	for _, v := range []browsertest.View{{}, {NoScripts: true}} {
		tab := s.browser.Visit(t, v)
		tab.Expect("status of 401")
		for _, email := range []string{owner, canary + "@nobody.example"} {
			tab.Open(s.base() + "/login")
			tab.Type("#email", email)
			tab.Type("#password", canary+"typed")
			tab.Leave(loginButton)
			if tab.Status() != http.StatusUnauthorized {
				t.Errorf("a wrong password is answered with %d", tab.Status())
			}
			want(t, "the form", tab.Text("#login-error"), "password")
			if got := browsertest.Eval[string](tab, `document.querySelector("#email").value`); got != email {
				t.Errorf("the address that was typed became %q", got)
			}
		}
	}
}

// badAmounts get a message beside the field, and nothing comes of them.
func badAmounts(t *testing.T, s *site) {
	amounts := []struct{ typed, message string }{
		{"", "Enter an amount"},
		{"abc", "Use digits only"},
		{"0", "smallest top-up"},
		{"-5", "without a minus sign"},
		{"1e9", "Use digits only"},
		{"49.999", "at most two decimals"},
		{"£50", "without currency signs"},
		{"1000000000000", "too large"},
		{"٥٠", "Use digits only"},
		{"4.99", "smallest top-up"},
		{"6330", "largest top-up"},
	}
	rows := s.count(t, `SELECT count(*) FROM top_ups`)
	sessions := len(s.books(t).SessionsPerTopUp)

	tab := s.tab(t, browsertest.View{}, owner)
	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	tab.Expect("status of 422")
	plain.Expect("status of 422")
	tab.Open(s.base() + "/wallet")
	plain.Open(s.base() + "/wallet")
	for _, a := range amounts {
		t.Run(fmt.Sprintf("%q with scripts", a.typed), func(t *testing.T) {
			tab.Type("#amount", a.typed)
			browsertest.Eval[bool](tab, `document.querySelector("#top-up-form").dataset.before = "1", true`)
			tab.Click("#top-up-submit")
			tab.WaitFor("the form again", `document.querySelector("#top-up-form:not([data-before])")`)
			tab.WaitText("#amount-error", a.message)
			tab.WaitFor("the focus on the field", `document.activeElement?.id === "amount"`)
			wrongField(t, tab, a.typed)
		})
		t.Run(fmt.Sprintf("%q without scripts", a.typed), func(t *testing.T) {
			plain.Type("#amount", a.typed)
			plain.Leave("#top-up-submit")
			if plain.Status() != http.StatusUnprocessableEntity {
				t.Errorf("answered with %d", plain.Status())
			}
			want(t, "beside the field", plain.Text("#amount-error"), a.message)
			plain.Until("the focus", func() bool { return plain.Focused() == "amount" })
			wrongField(t, plain, a.typed)
		})
	}

	// The live quote says it too while one types, keeps the cursor where it is, and takes it back again.
	tab.Open(s.base() + "/wallet")
	tab.Type("#amount", "abc")
	tab.WaitText("#amount-error", "Use digits only")
	tab.WaitFor("the field to be marked", `document.querySelector("#amount[aria-invalid=true]")`)
	tab.Screenshot("amount-error")
	tab.Type("#amount", "50")
	tab.WaitText("#quote", "You'll be charged: £39.50 GBP (~$50.00 USD)")
	tab.WaitFor("the message to go", `document.querySelector("#amount-error").textContent.trim() === "" && !document.querySelector("#amount[aria-invalid]")`)
	if tab.Focused() != "amount" {
		t.Errorf("the quote took the focus to %q", tab.Focused())
	}

	if n := s.count(t, `SELECT count(*) FROM top_ups`); n != rows {
		t.Errorf("%d top-ups were made of bad amounts", n-rows)
	}
	if n := len(s.books(t).SessionsPerTopUp); n != sessions {
		t.Errorf("%d sessions were made of bad amounts", n-sessions)
	}
}

// wrongField checks the field that was refused: still holding what was typed, marked, and tied to its message.
func wrongField(t *testing.T, tab *browsertest.Tab, typed string) {
	t.Helper()
	type field struct{ Value, Invalid, Describes string }
	got := browsertest.Eval[field](tab, `(el => ({Value: el.value, Invalid: el.getAttribute("aria-invalid") ?? "", Describes: el.getAttribute("aria-describedby") ?? ""}))(document.querySelector("#amount"))`)
	if got.Value != typed || got.Invalid != "true" || !strings.Contains(got.Describes, "amount-error") {
		t.Errorf("the field is %+v after %q was refused", got, typed)
	}
}

// begin types an amount of pounds and goes to the sandbox's page; it returns the session's id.
func begin(tab *browsertest.Tab, base, pounds string) string {
	tab.Open(base + "/wallet")
	tab.Type("#amount", pounds)
	tab.Click(poundsChoice)
	tab.WaitText("#quote", "You'll be charged: £"+pounds)
	tab.Leave("#top-up-submit")
	tab.WaitPath("/c/pay/")
	return path.Base(tab.Path())
}

// decline keeps the payer on the hosted page; what is left of it says so truthfully, and can still be paid.
func decline(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	begin(tab, s.base(), "11.00")
	checkout := tab.Path()
	before := signedInAs(t, s, owner).balance()
	tab.Leave(`form[action$="/decline"] button`)
	tab.WaitText(`[role=alert]`, "Declined.")
	tab.Axe()
	tab.Screenshot("checkout-declined")
	tab.Leave(`a.back`)
	tab.WaitPath("/wallet/top-ups/")
	tab.WaitText("#top-up-state", "declined") // the note comes by webhook
	want(t, "the page", tab.Text("#top-up-state"), "Not paid yet Nothing was charged.")
	tab.Screenshot("return-declined")
	if after := signedInAs(t, s, owner).balance(); after != before {
		t.Errorf("a declined payment moved the balance from %s to %s", before, after)
	}
	tab.Leave("#continue-payment")
	if tab.Path() != checkout {
		t.Errorf("going on leads to %s, not to %s", tab.Path(), checkout)
	}
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£11.00 was added.")
}

// payLater is a bank debit: nothing is added before the bank confirms, and then it is, live.
func payLater(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	watching := tab.Another()
	watching.Open(s.base() + "/wallet")
	session := begin(tab, s.base(), "12.00")
	before := watching.Text("#balance-amount")
	tab.Leave(`form[action$="/pay-later"] button`)
	tab.WaitPath("/wallet/top-ups/")
	tab.WaitText("#top-up-state", "Your bank is processing the payment")
	tab.Screenshot("return-processing")
	watching.Reload()
	want(t, "unfinished", watching.Text("#open-top-ups"), "£12.00 With your bank")
	if after := watching.Text("#balance-amount"); after != before {
		t.Errorf("the balance went from %s to %s before the bank confirmed", before, after)
	}
	s.settle(t, session)
	watching.WaitText("#transactions", "+£12.00")
	tab.Reload()
	tab.WaitText("#top-up-state", "£12.00 was added.")
}

// abandon leaves the hosted page without paying: nothing happened, and that is what the page says, scripts or not.
func abandon(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, owner)
	begin(tab, s.base(), "13.00")
	checkout := tab.Path()
	tab.Leave(`a.back`)
	tab.WaitPath("/wallet/top-ups/")
	want(t, "the page", tab.Text("#top-up-state"), "Not paid yet Nothing was charged.")
	tab.Screenshot("return-abandoned")

	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	plain.Open(tab.URL())
	want(t, "the page without scripts", plain.Text("#top-up-state"), "Not paid yet Nothing was charged.")
	plain.Leave("#continue-payment")
	if plain.Path() != checkout {
		t.Errorf("going on leads to %s, not to %s", plain.Path(), checkout)
	}

	// It waits on the wallet page too; whoever claims to have paid is not believed.
	tab.Leave("#back-to-wallet")
	want(t, "unfinished", tab.Text("#open-top-ups"), "£13.00 Not paid yet")
	tab.Screenshot("wallet-unfinished")
	plain.Open(s.base() + "/wallet/top-ups/" + s.topUp(t, 13_00) + "?checkout=done")
	want(t, "a return that nobody paid for", plain.Text("#top-up-state"), "Waiting for confirmation")
}

// topUp is the id of the newest top-up of an amount.
func (s *site) topUp(t *testing.T, pence int) string {
	t.Helper()
	var id string
	dbtest.Get(t, s.getenv("DATABASE_URL"), &id, `SELECT id FROM top_ups WHERE amount_pence = $1 ORDER BY created_at DESC LIMIT 1`, pence)
	return id
}

// oneTopUp: however often the button is pressed, there is one top-up and one session.
func oneTopUp(t *testing.T, s *site) {
	first := s.tab(t, browsertest.View{}, owner)
	second := first.Another()
	plain := s.tab(t, browsertest.View{NoScripts: true}, owner)
	for _, tab := range []*browsertest.Tab{first, second, plain} {
		tab.Open(s.base() + "/wallet")
		tab.Type("#amount", "14.00")
		tab.Click(poundsChoice)
	}
	for _, tab := range []*browsertest.Tab{first, second, plain} {
		tab.DoubleClick("#top-up-submit")
	}
	for _, tab := range []*browsertest.Tab{first, second, plain} {
		tab.WaitPath("/c/pay/")
	}
	if a, b, c := first.Path(), second.Path(), plain.Path(); a != b || b != c {
		t.Errorf("three tabs lead to three places: %s, %s, %s", a, b, c)
	}
	first.Reload()
	begin(second, s.base(), "14.00")
	if second.Path() != first.Path() {
		t.Errorf("once more leads elsewhere: %s, not %s", second.Path(), first.Path())
	}
	if n := s.count(t, `SELECT count(*) FROM top_ups WHERE amount_pence = 1400`); n != 1 {
		t.Errorf("%d top-ups, want 1", n)
	}
	if n := s.books(t).SessionsPerTopUp[s.topUp(t, 14_00)]; n != 1 {
		t.Errorf("%d sessions at Stripe, want 1", n)
	}
	// And paying twice, in two tabs, is paying once.
	first.DoubleClick(payButton)
	first.WaitPath("/wallet/top-ups/")
	second.Expect("status of 409")
	second.Leave(payButton)
	first.WaitText("#top-up-state", "£14.00 was added.")
	if n := s.count(t, `SELECT count(*) FROM credits WHERE amount_pence = 1400`); n != 1 {
		t.Errorf("%d credits, want 1", n)
	}
}

// signedInAs is the person whose session the scenes share, without a browser.
func signedInAs(t *testing.T, s *site, email string) *person {
	t.Helper()
	if s.cookies[email] == nil {
		s.cookies[email] = signedIn(t, s.base(), email).cookie()
	}
	p := somebody(t, s.base())
	u, err := url.Parse(s.base())
	if err != nil {
		t.Fatal(err)
	}
	p.http.Jar.SetCookies(u, []*http.Cookie{s.cookies[email]})
	return p
}

// viewerLooksOnly: no form on the page, and none is needed to be refused.
func viewerLooksOnly(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, viewer)
	tab.Open(s.base() + "/wallet")
	if n := tab.Count(`form[action^="/wallet"]`); n != 0 {
		t.Errorf("a viewer sees %d forms", n)
	}
	want(t, "the panel", tab.Text("#top-up"), "You can look at this wallet but not add money to it")
	tab.Everywhere("wallet-viewer")

	rows := s.count(t, `SELECT count(*) FROM top_ups`)
	p := signedInAs(t, s, viewer)
	p.get("/wallet", http.StatusOK)
	p.post("/wallet/top-ups", url.Values{"amount": {"50.00"}, "currency": {"gbp"}}, http.StatusForbidden)
	p.post("/wallet/quote", url.Values{"amount": {"50.00"}, "currency": {"gbp"}}, http.StatusForbidden)
	if n := s.count(t, `SELECT count(*) FROM top_ups`); n != rows {
		t.Error("a viewer's top-up was made all the same")
	}
}

// anotherOrganisation sees its own empty wallet and nothing of ours.
func anotherOrganisation(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, stranger)
	tab.Open(s.base() + "/wallet")
	want(t, "the wallet", tab.Text("#balance-amount"), "£0.00")
	want(t, "the history", tab.Text("#transactions"), "No transactions yet")
	tab.Everywhere("wallet-empty")
	tab.Open(s.base() + "/dashboard")
	tab.Everywhere("dashboard-empty")

	theirs := s.topUp(t, 14_00)
	signedInAs(t, s, owner).get("/wallet/top-ups/"+theirs, http.StatusOK)
	tab.Expect("status of 404")
	tab.Open(s.base() + "/wallet/top-ups/" + theirs)
	if tab.Status() != http.StatusNotFound {
		t.Errorf("another organisation's top-up is answered with %d", tab.Status())
	}
	body := signedInAs(t, s, stranger).get("/wallet/top-ups/"+theirs, http.StatusNotFound).body
	if strings.Contains(body, "14.00") || strings.Contains(body, "Harbour") {
		t.Error("the 404 tells of somebody else's top-up")
	}
}

// operatorWithoutWallet belongs to no organisation: that is said, in words, and the first page is the operators' own.
func operatorWithoutWallet(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 403")
	tab.Open(s.base() + "/dashboard")
	tab.WaitPath("/ops")
	tab.Open(s.base() + "/wallet")
	if tab.Status() != http.StatusForbidden {
		t.Errorf("the wallet is answered with %d", tab.Status())
	}
	want(t, "the wallet", tab.Text("main"), "belongs to no organisation")
	tab.Everywhere("operator")
	signedInAs(t, s, operator).get("/metrics", http.StatusOK)
	signedInAs(t, s, owner).get("/metrics", http.StatusNotFound)
}

// signOut ends the session itself, not only the cookie.
func signOut(t *testing.T, s *site) {
	tab := s.browser.Visit(t, browsertest.View{})
	signIn(tab, s.base(), viewer)
	watching := tab.Another()
	watching.Expect("status of 401")  // the stream asks once more, and is told
	watching.Expect("[object Event]") // htmx's extension notes the stream's end on the console
	watching.Open(s.base() + "/wallet")
	tab.Expect("[object Event]")
	before := tab.Cookies(s.base())
	tab.Leave(`form[action="/logout"] button`)
	tab.WaitPath("/login")
	tab.Open(s.base() + "/wallet")
	tab.WaitPath("/login")

	p := somebody(t, s.base())
	u, err := url.Parse(s.base())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range before {
		p.http.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value}})
	}
	if to := p.get("/wallet", http.StatusSeeOther).to; !strings.HasPrefix(to, "/login") {
		t.Errorf("the old cookie leads to %q", to)
	}
	watching.WaitFor("the open page to notice", `!document.querySelector("#live-lost")?.hidden || location.pathname === "/login"`)
}

// accessibility judges every page in each of its states: axe, light and dark, desktop and phone, no sideways scrolling.
func accessibility(t *testing.T, s *site) {
	tab := s.browser.Visit(t, browsertest.View{})
	for _, status := range []string{"401", "404", "422"} {
		tab.Expect("status of " + status)
	}
	tab.Open(s.base() + "/login")
	tab.Everywhere("login")
	tab.Type("#email", "nobody@nowhere.example")
	tab.Type("#password", "wrong")
	tab.Leave(loginButton)
	tab.WaitText("#login-error", "password")
	tab.Everywhere("login-error")
	tab.Open(s.base() + "/no/such/page")
	tab.Everywhere("not-found-signed-out")

	tab = s.tab(t, browsertest.View{}, owner)
	for _, status := range []string{"404", "422"} {
		tab.Expect("status of " + status)
	}
	tab.Open(s.base() + "/dashboard")
	tab.Everywhere("dashboard")
	tab.Open(s.base() + "/no/such/page")
	if tab.Status() != http.StatusNotFound {
		t.Errorf("no such page is answered with %d", tab.Status())
	}
	tab.Everywhere("not-found")

	tab.Open(s.base() + "/wallet")
	tab.Everywhere("wallet")
	tab.Type("#amount", "50.00")
	tab.WaitText("#quote", "You'll be charged")
	tab.Everywhere("wallet-quote")
	tab.Type("#amount", "abc")
	tab.Click("#top-up-submit")
	tab.WaitText("#amount-error", "Use digits only")
	tab.WaitFor("the field to be marked", `document.querySelector("#amount[aria-invalid=true]")`)
	tab.Everywhere("wallet-error")

	begin(tab, s.base(), "15.00")
	tab.Everywhere("checkout")
	page := s.base() + "/wallet/top-ups/" + s.topUp(t, 15_00)
	tab.Open(page)
	tab.WaitFor("the state", `document.querySelector('[data-state="open"]')`)
	tab.Everywhere("return-open")
	tab.Open(page + "?checkout=done")
	tab.WaitFor("the state", `document.querySelector('[data-state="waiting"]')`)
	tab.Everywhere("return-waiting")
	for _, state := range []string{"creating", "processing", "expired", "failed"} {
		dbtest.Super(t, s.getenv("DATABASE_URL"), `UPDATE top_ups SET state = $2 WHERE id = $1`, s.topUp(t, 15_00), state)
		tab.Open(page)
		tab.WaitFor("the state", fmt.Sprintf(`document.querySelector('[data-state="%s"]')`, state))
		tab.Everywhere("return-" + state)
	}
	tab.Open(s.base() + "/wallet/top-ups/" + s.topUp(t, 14_00))
	tab.WaitFor("the state", `document.querySelector('[data-state="paid"]')`)
	tab.Everywhere("return-paid")
}

// want checks that what somebody sees has these words in it.
func want(t *testing.T, what, got, words string) {
	t.Helper()
	if !strings.Contains(got, words) {
		t.Errorf("%s says %q, want %q in it", what, got, words)
	}
}
