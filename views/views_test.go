package views

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"
	"golang.org/x/net/html"
)

const token = "csrf-token-of-the-test"

// hostile is text that would do harm in any place where it were not escaped.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}`

var noon = time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)

func meta(title, path string) PageMeta {
	return PageMeta{
		Title: title, Path: path, CSRFToken: token,
		User:   User{Email: "owner@harbour.example", OrgName: "Harbour Dental", Role: "owner"},
		Assets: Assets{CSS: "/static/app.css", HTMX: "/static/htmx.js", SSE: "/static/sse.js", App: "/static/app.js", Zone: "/static/zone.js", Font: "/static/f.woff2", Favicon: "/static/f.svg"},
	}
}

func signedOut(title, path string) PageMeta {
	m := meta(title, path)
	m.User = User{}
	return m
}

func wallet() WalletPage {
	return WalletPage{
		Meta:     meta("Wallet", "/wallet"),
		Balance:  Balance{Balance: 56900, Held: 1250, USD: 72025, EstimatedCredits: 10160},
		CanTopUp: true,
		Min:      500, Max: 500000, MinUSD: 633, MaxUSD: 632911,
		Presets: []Preset{{USD: 2500, Pence: 1975}, {USD: 5000, Pence: 3950}, {USD: 10000, Pence: 7900}, {USD: 20000, Pence: 15800}},
		Form:    TopUpForm{Amount: "50.00"},
		Quote:   &Quote{Pence: 3950, USD: 5000, EstimatedCredits: 700},
		OpenTopUps: []OpenTopUp{
			{ID: "t1", At: noon, State: TopUpOpen, Amount: 5000, CheckoutURL: "https://checkout.stripe.com/c/pay/cs_1", Note: "Your card was declined."},
			{ID: "t2", At: noon, State: TopUpProcessing, Amount: 15800},
		},
		Transactions: []Transaction{
			{ID: "a", At: noon, Description: "Top-up by card", Kind: KindTopUp, Amount: 5000, BalanceAfter: 61900},
			{ID: "b", At: noon, Description: "Text to +44 7400 123456", Kind: KindSMS, Amount: -10, BalanceAfter: 56900},
		},
	}
}

func topUpReturn(s TopUpState) TopUpReturnPage {
	m := meta("Top-up", "/wallet/top-ups/t1")
	m.RefreshSeconds = s.RefreshSeconds()
	return TopUpReturnPage{Meta: m, ID: "t1", State: s, Amount: 5000, Balance: 61900, CheckoutURL: "https://checkout.stripe.com/c/pay/cs_1", CanTopUp: true}
}

// pages are all pages in all their states; what holds for every page is tested over them.
func pages() map[string]templ.Component {
	all := map[string]templ.Component{
		"login": Login(LoginPage{Meta: signedOut("Sign in", "/login"), Demo: []DemoAccount{
			{Email: "owner@harbour.example", Password: "ringfence-demo", Describes: "Owner"},
			{Email: "viewer@harbour.example", Password: "ringfence-demo", Describes: "Viewer"},
		}}),
		"login refused":   Login(LoginPage{Meta: signedOut("Sign in", "/login"), Email: "a@b.example", Error: "The email or the password is not right.", Next: "/wallet"}),
		"login fields":    Login(LoginPage{Meta: signedOut("Sign in", "/login"), EmailError: "Enter your email.", PasswordError: "Enter your password.", Notice: "You are signed out."}),
		"dashboard":       Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: wallet().Balance, CanTopUp: true, Transactions: wallet().Transactions}),
		"dashboard empty": Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard")}),
		"wallet":          Wallet(wallet()),
		"error":           ErrorPage(ErrorPageModel{Meta: meta("Not found", "/x"), Status: 404, Title: "There is nothing here", Sentence: "Look elsewhere.", RequestID: "R1"}),
		"error out":       ErrorPage(ErrorPageModel{Meta: signedOut("Unavailable", "/x"), Status: 503, Title: "Not now", Sentence: "Try again.", ActionLabel: "Try again", ActionHref: "/wallet"}),
	}
	bad := wallet()
	bad.Quote, bad.Form = nil, TopUpForm{Amount: "abc", Currency: "gbp", Error: "Use digits only."}
	all["wallet refused"] = Wallet(bad)
	empty := wallet()
	empty.Balance, empty.OpenTopUps, empty.Transactions, empty.Quote, empty.Form = Balance{Debt: 412}, nil, nil, nil, TopUpForm{}
	all["wallet empty, in debt"] = Wallet(empty)
	viewer := wallet()
	viewer.CanTopUp, viewer.Meta.User.Role = false, "viewer"
	all["wallet of a viewer"] = Wallet(viewer)
	for _, s := range []TopUpState{TopUpCreating, TopUpOpen, TopUpWaiting, TopUpProcessing, TopUpPaid, TopUpExpired, TopUpFailed, "?"} {
		all["return "+string(s)] = TopUpReturn(topUpReturn(s))
	}
	all["hostile login"] = Login(LoginPage{Meta: hostileMeta(false), Email: hostile, Error: hostile, EmailError: hostile, PasswordError: hostile, Notice: hostile, Next: hostile, Demo: []DemoAccount{{Email: hostile, Password: hostile, Describes: hostile}}})
	maps.Copy(all, identityPages())
	maps.Copy(all, transactionPages())
	maps.Copy(all, apiDocsPages())
	all["hostile wallet"] = Wallet(hostileWallet())
	all["hostile error"] = ErrorPage(ErrorPageModel{Meta: hostileMeta(true), Status: 500, Title: hostile, Sentence: hostile, RequestID: hostile, ActionLabel: hostile, ActionHref: "javascript:alert(1)"})
	r := topUpReturn(TopUpOpen)
	r.Meta, r.ID, r.Note, r.CheckoutURL = hostileMeta(true), hostile, hostile, "javascript:alert(1)"
	all["hostile return"] = TopUpReturn(r)
	return all
}

func hostileMeta(signedIn bool) PageMeta {
	m := meta(hostile, "/wallet")
	m.User = User{}
	if signedIn {
		m.User = User{Email: hostile, OrgName: hostile, Role: hostile}
	}
	return m
}

func hostileWallet() WalletPage {
	p := wallet()
	p.Meta = hostileMeta(true)
	p.Form = TopUpForm{Amount: hostile, Currency: hostile, Error: hostile}
	p.OpenTopUps = []OpenTopUp{{ID: hostile, At: noon, State: hostile, Note: hostile, CheckoutURL: "javascript:alert(1)"}}
	p.Transactions = []Transaction{{ID: hostile, At: noon, Description: hostile, Kind: hostile, Amount: 1}}
	return p
}

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	if err := c.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// parse reads a page as a browser without scripts does, so that what stands in <noscript> is seen too.
func parse(t *testing.T, c templ.Component) *goquery.Document {
	t.Helper()
	root, err := html.ParseWithOptions(strings.NewReader(render(t, c)), html.ParseOptionEnableScripting(false))
	if err != nil {
		t.Fatal(err)
	}
	return goquery.NewDocumentFromNode(root)
}

func words(s *goquery.Selection) string { return strings.Join(strings.Fields(s.Text()), " ") }

func eachPage(t *testing.T, check func(t *testing.T, doc *goquery.Document)) {
	for name, page := range pages() {
		t.Run(name, func(t *testing.T) { check(t, parse(t, page)) })
	}
}

func TestNothingInlineThatThePolicyWouldRefuse(t *testing.T) {
	eachPage(t, func(t *testing.T, doc *goquery.Document) {
		if doc.Find("style").Length() != 0 {
			t.Error("a style element")
		}
		doc.Find("script").Each(func(_ int, s *goquery.Selection) {
			if src, ok := s.Attr("src"); !ok || !strings.HasPrefix(src, "/static/") || s.Text() != "" {
				t.Errorf("a script that is not ours or stands in the page: %q %q", src, s.Text())
			}
		})
		if doc.Find("img").Length() != 0 {
			t.Error("an image that no page has: text was not escaped")
		}
		doc.Find("*").Each(func(_ int, s *goquery.Selection) {
			for _, a := range s.Get(0).Attr {
				switch {
				case a.Key == "style", strings.HasPrefix(a.Key, "on"), strings.HasPrefix(a.Key, "hx-on"):
					t.Errorf("<%s> has %s=%q", goquery.NodeName(s), a.Key, a.Val)
				case (a.Key == "href" || a.Key == "action" || a.Key == "formaction" || a.Key == "src") && strings.HasPrefix(strings.ToLower(a.Val), "javascript:"):
					t.Errorf("<%s> has %s=%q", goquery.NodeName(s), a.Key, a.Val)
				}
			}
		})
	})
}

func TestEveryFormPostsTheTokenFirst(t *testing.T) {
	eachPage(t, func(t *testing.T, doc *goquery.Document) {
		doc.Find("form").Each(func(_ int, form *goquery.Selection) {
			action, _ := form.Attr("action")
			if method, _ := form.Attr("method"); method == "get" { // it asks only, and a token in an address would be told to others
				if form.Find("[name=csrf_token]").Length() != 0 {
					t.Errorf("form to %s sends the token in the address", action)
				}
				return
			} else if method != "post" {
				t.Errorf("form to %s has method %q", action, method)
			}
			first := form.Find("input").First()
			if name, _ := first.Attr("name"); name != "csrf_token" {
				t.Errorf("form to %s begins with %q", action, name)
			}
			if value, _ := first.Attr("value"); value != token {
				t.Errorf("form to %s carries the token %q", action, value)
			}
			if post, ok := form.Attr("hx-post"); ok && post != action {
				t.Errorf("form goes to %s, and with scripts to %s", action, post)
			}
		})
	})
	if want := `<input type="hidden" name="csrf_token" value="` + token + `">`; !strings.Contains(render(t, Wallet(wallet())), want) {
		t.Errorf("the page does not hold %s to the letter", want)
	}
}

func TestEveryControlHasItsWords(t *testing.T) {
	eachPage(t, func(t *testing.T, doc *goquery.Document) {
		ids := map[string]int{}
		doc.Find("[id]").Each(func(_ int, s *goquery.Selection) {
			id, _ := s.Attr("id")
			ids[id]++
		})
		for id, n := range ids {
			if n > 1 {
				t.Errorf("%d elements are called %q", n, id)
			}
		}
		doc.Find("input:not([type=hidden])").Each(func(_ int, input *goquery.Selection) {
			id, _ := input.Attr("id")
			if doc.Find(`label[for="`+id+`"]`).Length() == 0 && input.ParentsFiltered("label").Length() == 0 {
				t.Errorf("input %q has no label", id)
			}
		})
		for _, attr := range []string{"aria-describedby", "aria-labelledby"} {
			doc.Find("[" + attr + "]").Each(func(_ int, s *goquery.Selection) {
				list, _ := s.Attr(attr)
				for id := range strings.FieldsSeq(list) {
					if ids[id] == 0 {
						t.Errorf("%s names %q, which is not there", attr, id)
					}
				}
			})
		}
		doc.Find("a, button, summary").Each(func(_ int, s *goquery.Selection) {
			if words(s) == "" {
				markup, _ := goquery.OuterHtml(s)
				t.Errorf("no words in %s", markup)
			}
		})
		if n := doc.Find("h1").Length(); n != 1 {
			t.Errorf("%d h1", n)
		}
		if n := doc.Find("main#main").Length(); n != 1 {
			t.Errorf("%d main regions", n)
		}
		if first := doc.Find("body a, body button, body input, body summary").First(); first.AttrOr("href", "") != "#main" {
			t.Error("the skip link is not the first stop")
		}
		doc.Find("svg").Each(func(_ int, s *goquery.Selection) {
			if s.AttrOr("aria-hidden", "") != "true" {
				t.Error("an icon that readers would stumble over")
			}
		})
		doc.Find("time").Each(func(_ int, s *goquery.Selection) {
			if at, err := time.Parse(time.RFC3339, s.AttrOr("datetime", "")); err != nil || at.Location() != time.UTC || !strings.Contains(s.Text(), "UTC") {
				t.Errorf("time %q says %q", s.AttrOr("datetime", ""), s.Text())
			}
		})
	})
}

func TestHostileTextStaysText(t *testing.T) {
	doc := parse(t, Wallet(hostileWallet()))
	if got := doc.Find("#amount").AttrOr("value", ""); got != hostile {
		t.Errorf("what was typed came back as %q", got)
	}
	if got := words(doc.Find("#amount-error")); got != strings.Join(strings.Fields(hostile), " ") {
		t.Errorf("the message reads %q", got)
	}
	if !strings.Contains(doc.Find("#transactions").Text(), hostile) {
		t.Error("the description is not shown as it is")
	}
}

func TestWalletFigures(t *testing.T) {
	p := wallet()
	doc := parse(t, Wallet(p))
	for id, want := range map[string]string{
		"#balance-amount": "£569.00~$720.25", "#balance-available": "£556.50", "#balance-held": "£12.50", "#balance-debt": "None",
		"#balance-credits": "about 10,160", "#balance-status": "Balance £569.00",
	} {
		if got := words(doc.Find(id)); strings.ReplaceAll(got, " ~", "~") != want {
			t.Errorf("%s reads %q, want %q", id, got, want)
		}
	}
	rows := doc.Find("#transactions tbody tr")
	if got := words(rows.Eq(0).Find(`[data-label="Amount"]`)); got != "+£50.00" {
		t.Errorf("money that came in reads %q", got)
	}
	if got := words(rows.Eq(1).Find(`[data-label="Amount"]`)); got != "-£0.10" {
		t.Errorf("money that left reads %q", got)
	}
	if got := words(rows.Eq(0).Find(`[data-label="Balance after"]`)); got != "£619.00" {
		t.Errorf("balance after reads %q", got)
	}
	if got := rows.Eq(0).Find("time").AttrOr("datetime", ""); got != "2026-07-01T12:30:00Z" {
		t.Errorf("datetime %q", got)
	}
	if !strings.Contains(words(doc.Find("#amount-hint")), "£5.00 to £5,000.00") {
		t.Errorf("the hint reads %q", words(doc.Find("#amount-hint")))
	}
}

func TestPresetsPostWhatTheyShow(t *testing.T) {
	p := wallet()
	forms := parse(t, Wallet(p)).Find(`[role=group] form[action="/wallet/top-ups"]`)
	if forms.Length() != len(p.Presets) {
		t.Fatalf("%d preset forms", forms.Length())
	}
	forms.Each(func(i int, form *goquery.Selection) {
		if got := form.Find("[name=amount]").AttrOr("value", ""); got != p.Presets[i].USD.Decimal() {
			t.Errorf("posts %q", got)
		}
		if got := form.Find("[name=currency]").AttrOr("value", ""); got != "usd" {
			t.Errorf("posts the currency %q", got)
		}
		want := fmt.Sprintf("Top up %s , you'll be charged %s", p.Presets[i].USD, p.Presets[i].Pence)
		if got := words(form.Find("button")); strings.ReplaceAll(got, " ,", ",") != strings.ReplaceAll(want, " ,", ",") {
			t.Errorf("the button reads %q, want %q", got, want)
		}
	})
}

func TestQuoteSaysItToTheLetter(t *testing.T) {
	part := render(t, WalletQuote(wallet()))
	if want := "You'll be charged: £39.50 GBP (~$50.00 USD)"; !strings.Contains(part, want) {
		t.Errorf("no %q in\n%s", want, part)
	}
	if !strings.Contains(part, "Estimated credits: about 700") {
		t.Errorf("no credits in\n%s", part)
	}
}

func TestQuoteAndMessageClearEachOther(t *testing.T) {
	good := render(t, WalletQuote(wallet()))
	if !strings.Contains(good, `hx-swap-oob="innerHTML:#amount-error"`) || strings.Contains(good, "<svg") {
		t.Errorf("a good quote must empty the message:\n%s", good)
	}
	p := wallet()
	p.Quote, p.Form.Error = nil, "Use digits only."
	bad := render(t, WalletQuote(p))
	if !strings.Contains(bad, "Use digits only.") || strings.Contains(bad, "charged:") {
		t.Errorf("a bad amount must take the quote away:\n%s", bad)
	}
}

func TestARefusedFormComesBackAsItWas(t *testing.T) {
	p := wallet()
	p.Quote, p.Form = nil, TopUpForm{Amount: "£50", Currency: "gbp", Error: "Use digits only, without £ or commas."}
	for name, c := range map[string]templ.Component{"page": Wallet(p), "part": WalletTopUpForm(p)} {
		doc := parse(t, c)
		amount := doc.Find("#amount")
		if amount.AttrOr("value", "") != "£50" || amount.AttrOr("aria-invalid", "") != "true" {
			t.Errorf("%s: amount %v", name, amount.Nodes)
		}
		if !strings.Contains(amount.AttrOr("aria-describedby", ""), "amount-error") || words(doc.Find("#amount-error")) != p.Form.Error {
			t.Errorf("%s: the message is not beside its field", name)
		}
		if _, ok := doc.Find("#currency-gbp").Attr("checked"); !ok {
			t.Errorf("%s: the currency was forgotten", name)
		}
	}
}

func TestAViewerGetsNoForms(t *testing.T) {
	p := wallet()
	p.CanTopUp, p.Meta.User.Role = false, "viewer"
	doc := parse(t, Wallet(p))
	if n := doc.Find(`form:not([action="/logout"])`).Length(); n != 0 {
		t.Errorf("%d forms", n)
	}
	if got := words(doc.Find("#top-up")); !strings.Contains(got, "your role is viewer") {
		t.Errorf("no reason given: %q", got)
	}
}

func TestDebtIsWordsAndIcon(t *testing.T) {
	p := wallet()
	p.Balance.Debt = 412
	doc := parse(t, Wallet(p))
	if words(doc.Find("#balance-debt")) != "£4.12" || doc.Find("#balance-debt svg").Length() != 1 {
		t.Errorf("debt reads %q", words(doc.Find("#balance-debt")))
	}
	if !strings.Contains(words(doc.Find("#balance-figures")), "Your next top-up repays it first.") {
		t.Error("the person is not told what to do")
	}
}

func TestPartsAreOfTheSamePage(t *testing.T) {
	p := wallet()
	page := render(t, Wallet(p))
	for _, name := range []Fragment{FragmentBalance, FragmentBalanceStatus, FragmentTransactions, FragmentQuote, FragmentAmountError, FragmentTopUpForm} {
		if part := render(t, Part(Wallet(p), name)); part == "" || !strings.Contains(page, part) {
			t.Errorf("part %s is not in the page", name)
		}
	}
	if part := render(t, Part(Wallet(p), FragmentQuote)); strings.Contains(part, "<html") || strings.Contains(part, "<form") {
		t.Errorf("a part brought more with it:\n%s", part)
	}
	both := DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: p.Balance}
	if render(t, DashboardBalance(both)) != render(t, WalletBalance(p)) {
		t.Error("dashboard and wallet show one balance in two ways")
	}
	if part := render(t, WalletBalance(p)); !strings.Contains(part, `hx-swap-oob="innerHTML:#balance-status"`) || strings.Contains(part, "<a ") || strings.Contains(part, "<button") {
		t.Errorf("the live balance must announce itself and hold nothing that takes focus:\n%s", part)
	}
}

func TestLinkToHistory(t *testing.T) {
	if parse(t, Wallet(wallet())).Find(`#transactions a[href="/wallet/transactions"]`).Length() != 1 {
		t.Error("no link from the newest transactions to all of them")
	}
}

func TestReturnPageIsTruthful(t *testing.T) {
	tests := []struct {
		state   TopUpState
		says    string
		again   bool
		polls   string
		refresh bool
	}{
		{TopUpCreating, "Waiting for confirmation from Stripe. This page updates by itself.", false, "every 1s", true},
		{TopUpWaiting, "Waiting for confirmation from Stripe. This page updates by itself.", false, "every 1s", true},
		{TopUpProcessing, "A bank debit takes a few working days.", false, "every 15s", true},
		{TopUpPaid, "£50.00 was added. Balance £619.00", false, "", false},
		{TopUpExpired, "Nothing was charged.", true, "", false},
		{TopUpFailed, "Nothing was charged", true, "", false},
		{TopUpOpen, "Nothing was charged.", false, "every 5s", false},
	}
	for _, tt := range tests {
		t.Run(string(tt.state), func(t *testing.T) {
			p := topUpReturn(tt.state)
			doc := parse(t, TopUpReturn(p))
			if got := words(doc.Find("#top-up-state")); !strings.Contains(got, tt.says) {
				t.Errorf("says %q", got)
			}
			if tt.state != TopUpPaid && strings.Contains(words(doc.Find("#top-up-state")), "was added") {
				t.Error("claims money that is not there")
			}
			if got := doc.Find("#top-up-state [hx-get]").AttrOr("hx-trigger", ""); got != tt.polls {
				t.Errorf("polls %q, want %q", got, tt.polls)
			}
			if tt.polls != "" {
				if got, want := doc.Find("#top-up-state [hx-get]").AttrOr("hx-get", ""), "/wallet/top-ups/t1?seen="+string(tt.state); got != want {
					t.Errorf("asks %q, want %q", got, want)
				}
			}
			if got := doc.Find(`head noscript meta[http-equiv="refresh"]`).Length() == 1; got != tt.refresh {
				t.Errorf("reloads without scripts: %v, want %v", got, tt.refresh)
			}
			again := doc.Find(`main form[action="/wallet/top-ups"]`)
			if got := again.Length() == 1; got != tt.again {
				t.Errorf("offers to try again: %v, want %v", got, tt.again)
			}
			if tt.again && (again.Find("[name=amount]").AttrOr("value", "") != "50.00" || again.Find("[name=currency]").AttrOr("value", "") != "gbp") {
				t.Error("would try another amount")
			}
			if tt.state.Final() != (tt.polls == "") {
				t.Errorf("final %v, polls %q", tt.state.Final(), tt.polls)
			}
			if part := render(t, TopUpReturnStatus(p)); !strings.Contains(render(t, TopUpReturn(p)), part) || part == "" {
				t.Error("the part is not of the page")
			}
		})
	}
	p := topUpReturn(TopUpWaiting)
	p.PollURL = "/wallet/top-ups/t1?from=checkout"
	if got := parse(t, TopUpReturn(p)).Find("[hx-get]").AttrOr("hx-get", ""); got != "/wallet/top-ups/t1?from=checkout&seen=waiting" {
		t.Errorf("asks %q", got)
	}
}

func TestLogin(t *testing.T) {
	p := LoginPage{Meta: signedOut("Sign in", "/login"), Email: "a@b.example", Error: "The email or the password is not right.", Next: "/wallet?x=1"}
	doc := parse(t, Login(p))
	form := doc.Find(`form[action="/login"]`)
	if form.Length() != 1 {
		t.Fatalf("%d forms without demo accounts", form.Length())
	}
	if form.Find("[name=email]").AttrOr("value", "") != p.Email || form.Find("[name=next]").AttrOr("value", "") != p.Next {
		t.Error("what was typed was forgotten")
	}
	if form.Find("[name=password]").AttrOr("value", "") != "" {
		t.Error("a password came back")
	}
	if doc.Find("#login-error").AttrOr("role", "") != "alert" || words(doc.Find("#login-error")) != p.Error {
		t.Error("the refusal is not said")
	}
	p.Demo = []DemoAccount{{Email: "owner@harbour.example", Password: "ringfence-demo", Describes: "Owner"}}
	doc = parse(t, Login(p))
	if doc.Find("form").First().Find("input#email").Length() != 1 {
		t.Error("the form itself must come before the demo accounts")
	}
	if !strings.Contains(words(doc.Find("main")), "ringfence-demo") || doc.Find("form").Length() != 2 {
		t.Error("the demo account is not offered")
	}
}

func TestNavigationKnowsWhereWeAre(t *testing.T) {
	for path, want := range map[string]string{"/dashboard": "Dashboard", "/wallet": "Wallet", "/wallet/top-ups/1": "Wallet", "/walletish": "", "/": ""} {
		p := wallet()
		p.Meta.Path = path
		if got := words(parse(t, Wallet(p)).Find(`nav[aria-label="Main"] [aria-current="page"]`)); got != want {
			t.Errorf("at %s the current page is %q, want %q", path, got, want)
		}
	}
}

func TestErrorPageOffersAWayOn(t *testing.T) {
	in := parse(t, ErrorPage(ErrorPageModel{Meta: meta("", "/x"), Status: 404, Title: "T", Sentence: "S"}))
	if in.Find(`main a[href="/dashboard"]`).Length() != 1 {
		t.Error("no way to the dashboard")
	}
	out := parse(t, ErrorPage(ErrorPageModel{Meta: signedOut("", "/x"), Status: 404, Title: "T", Sentence: "S"}))
	if out.Find(`main a[href="/login"]`).Length() != 1 || out.Find("nav").Length() != 0 {
		t.Error("no way to sign in")
	}
	part := render(t, Problem(ErrorPageModel{Meta: meta("", "/x"), Status: 503, Title: "Not now", Sentence: "Try again.", RequestID: "R-1", ActionLabel: "Load the page again", ActionHref: "/wallet"}))
	if !strings.Contains(part, "Try again.") || !strings.Contains(part, "R-1") || !strings.Contains(part, `href="/wallet"`) || strings.Contains(part, "<h1") {
		t.Errorf("the notice is\n%s", part)
	}
}

func TestHTMXConfiguration(t *testing.T) {
	content := parse(t, Wallet(wallet())).Find(`meta[name="htmx-config"]`).AttrOr("content", "")
	var c struct {
		AllowEval, AllowScriptTags, IncludeIndicatorStyles *bool
		HistoryCacheSize, DefaultSettleDelay               *int
		ResponseHandling                                   []struct {
			Code, Target string
			Swap         bool
		}
	}
	if err := json.Unmarshal([]byte(content), &c); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	for name, off := range map[string]*bool{"allowEval": c.AllowEval, "allowScriptTags": c.AllowScriptTags, "includeIndicatorStyles": c.IncludeIndicatorStyles} {
		if off == nil || *off {
			t.Errorf("%s is not switched off", name)
		}
	}
	if c.HistoryCacheSize == nil || *c.HistoryCacheSize != 0 {
		t.Error("pages with balances would be kept in the browser's storage")
	}
	if c.DefaultSettleDelay == nil || *c.DefaultSettleDelay != 0 {
		t.Error("a form that has just arrived would be sent the plain way by whoever is quick: htmx does not know it until then")
	}
	swaps422 := false
	for _, r := range c.ResponseHandling {
		swaps422 = swaps422 || r.Code == "422" && r.Swap && r.Target == ""
	}
	if !swaps422 {
		t.Error("a form with faults would not be shown")
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 10160: "10,160", 1234567: "1,234,567", -1000: "-1,000", -1 << 63: "-9,223,372,036,854,775,808"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRenderingStopsWhenTheReaderIsGone(t *testing.T) {
	if err := Wallet(wallet()).Render(t.Context(), brokenWriter{}); err == nil {
		t.Error("a failed write went unnoticed")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
