package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"golang.org/x/net/html"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
)

// gated is a site with its gates at hand.
func gated(t *testing.T) (s *site, gates *wallet.Gates) {
	t.Helper()
	s = newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { gates = d.Gates } })
	return s, gates
}

// spaced is the text of a part as it is seen: with a space between what stands in different elements.
func spaced(s *goquery.Selection) string {
	var words []string
	var read func(n *html.Node)
	read = func(n *html.Node) {
		if n.Type == html.TextNode {
			words = append(words, strings.Fields(n.Data)...)
		}
		for child := range n.ChildNodes() {
			read(child)
		}
	}
	for _, n := range s.Nodes {
		read(n)
	}
	return strings.Join(words, " ")
}

// wantSpaced fails unless a part of the page says all of it, read as spaced does.
func wantSpaced(t *testing.T, what string, res reply, selector string, says ...string) {
	t.Helper()
	got := spaced(res.doc(t).Find(selector))
	for _, w := range says {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %s says %q, want %q in it", what, selector, got, w)
		}
	}
}

// row is the line of a table whose heading begins with name.
func row(doc *goquery.Document, table, name string) string {
	return spaced(doc.Find(table + " tbody tr").FilterFunction(func(_ int, tr *goquery.Selection) bool {
		return strings.HasPrefix(spaced(tr.Find("td[data-heading]")), name)
	}))
}

func TestPriceList(t *testing.T) {
	s, gates := gated(t)
	for _, c := range []wallet.PriceChange{
		{Action: wallet.ActionSMS, Prefix: "33", State: wallet.PriceOn, Unit: 25},
		{Action: wallet.ActionSMS, Prefix: "1416", State: wallet.PriceOn, Unit: 30, ChargeUndelivered: true},
		{Action: wallet.ActionSMS, Prefix: "49", State: wallet.PriceOff},
		{OrgID: s.org, Action: wallet.ActionCall, Prefix: "44", State: wallet.PriceOn, Unit: 50, PerMinute: 35},
		{OrgID: s.org, Action: wallet.ActionCall, Prefix: "1", State: wallet.PriceOff},
		{OrgID: s.other, Action: wallet.ActionKnowledge, State: wallet.PriceOn, Unit: 9},
		{OrgID: s.org, Action: wallet.ActionNumber, State: wallet.PriceOff},
		{Action: wallet.ActionKnowledge, State: wallet.PriceOn, Unit: 500, StartsAt: time.Now().Add(time.Hour)},
	} {
		c.Reason, c.Actor = "SECRET-1", audit.System("test")
		if _, err := gates.SetPrice(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	res := s.as("owner@harbour.example").get("/wallet/prices")
	wantStatus(t, "prices", res, http.StatusOK)
	doc := res.doc(t)
	for _, c := range []struct{ table, name, want string }{
		{"#prices-call", "United Kingdom", "United Kingdom Your price +44 £0.28 ~$0.35 £0.50 to start"},
		{"#prices-call", "United States", "United States Your price +1 Not offered"},
		{"#prices-call", "Jersey", "Jersey 8 prefixes of Jersey +441534, +447509, +4477003, +4477007, +4477008, +447797, +447829, +447937 Not offered"},
		{"#prices-call", "Without", "Without a destination, over the API £0.56 ~$0.70 £0.79 to start"},
		{"#prices-call", "Everywhere else", "Everywhere else Not offered"},
		{"#prices-sms", "United Kingdom", "United Kingdom +44 £0.10 ~$0.13 delivered or not"},
		{"#prices-sms", "France", "France +33 £0.25 ~$0.32 only if delivered"},
		{"#prices-sms", "Canada +", "Canada +1416 £0.30 ~$0.38 delivered or not"},
		{"#prices-sms", "Germany", "Germany +49 Not offered"},
		{"#prices-sms", "Premium rate", "Premium rate 5 prefixes of Premium rate +1900, +1976, +4484, +4487, +449 Not offered"},
	} {
		if got := row(doc, c.table, c.name); got != c.want {
			t.Errorf("%s in %s reads %q, want %q", c.name, c.table, got, c.want)
		}
	}
	wantSpaced(t, "prices", res, "#examples", "1 second £0.01 30 seconds £0.14 60 seconds £0.28 91 seconds £0.42")
	wantSpaced(t, "prices", res, "#prices-call", "Examples at $0.35 a minute. £0.50 must be available")
	wantSpaced(t, "prices", res, "#prices-sms", "160 characters", "of 153", "holds 70", "longer text 67")
	wantSpaced(t, "prices", res, "#prices-number", "Not offered")
	wantSpaced(t, "prices", res, "#prices-knowledge", "£0.01")
	wantSpaced(t, "prices", res, "#rate", "£0.79 for $1.00", "Version 1, in force since the start")
	if strings.Contains(res.body, "SECRET-1") {
		t.Error("what an operator noted about a price is shown to a customer")
	}

	res = s.as("owner@second.example").get("/wallet/prices")
	wantSpaced(t, "the other's", res, "#prices-number", "£10.00", "£1.19")
	wantSpaced(t, "the other's", res, "#prices-knowledge", "Your price", "£0.09")
	wantSpaced(t, "the other's", res, "#examples", "1 second £0.01 30 seconds £0.28 60 seconds £0.56 91 seconds £0.84")
	if got := row(res.doc(t), "#prices-call", "United Kingdom"); strings.Contains(got, "Your price") {
		t.Errorf("another organisation's price is shown: %s", got)
	}
}

func TestWhatWouldItCost(t *testing.T) {
	s, _ := gated(t)
	b := s.as("viewer@harbour.example")
	ask := func(action, quantity, destination string) string {
		return "/wallet/prices?" + url.Values{"action": {action}, "quantity": {quantity}, "destination": {destination}}.Encode()
	}
	for _, c := range []struct {
		action, quantity, destination string
		status                        int
		selector, says                string
	}{
		{"call", "91", "+44 7400 123456", 200, "#cost-answer", "Call to +44 7400 123456, 91 seconds (United Kingdom) £0.84 ~$1.06"},
		{"call", "30", "", 200, "#cost-answer", "Call, 30 seconds £0.28 ~$0.35 £0.79 must be available"},
		{"sms", " 3 ", "+1 201 555 0123", 200, "#cost-answer", "3 segments (United States) £0.30 ~$0.38"},
		{"sms", "1", "+15062345678", 200, "#cost-answer", "1 segment (Canada) Not offered Texts to this destination are not offered."},
		{"call", "60", "+33612345678", 200, "#cost-answer", "(France) Not offered Calls to this destination"},
		{"number", "2", "", 200, "#cost-answer", "Phone number, 2 numbers £20.00 ~$25.32"},
		{"knowledge", "7", "", 200, "#cost-answer", "Knowledge search, 7 searches £0.07"},
		{"call", "", "", 422, "#quantity-error", "a whole number from 1 to 43200"},
		{"call", "0", "", 422, "#quantity-error", "a whole number from 1 to 43200"},
		{"sms", "1.5", "", 422, "#quantity-error", "a whole number from 1 to 1000"},
		{"sms", "99999999999999999999", "", 422, "#quantity-error", "a whole number"},
		{"sms", "-1", "", 422, "#quantity-error", "a whole number"},
		{"sms", "1", "07400 123456", 422, "#destination-error", "international form"},
		{"sms", "1", `"><script>alert(1)</script>`, 422, "#destination-error", "not a phone number"},
		{"number", "1", "+447400123456", 422, "#destination-error", "Only calls and texts"},
	} {
		for what, headers := range map[string][]string{"page": nil, "fragment": {"HX-Request", "true"}} {
			res := b.get(ask(c.action, c.quantity, c.destination), headers...)
			wantStatus(t, c.action+" "+c.quantity+" "+c.destination, res, c.status)
			wantSpaced(t, what+" for "+c.action+" "+c.quantity+" "+c.destination, res, c.selector, c.says)
			doc := res.doc(t)
			if (what == "page") != strings.Contains(res.body, "<html") || strings.Contains(res.body, "<script>alert") {
				t.Errorf("not a %s:\n%.300s", what, res.body)
			}
			if got := doc.Find("#quantity").AttrOr("value", ""); got != c.quantity {
				t.Errorf("the quantity %q is shown again as %q", c.quantity, got)
			}
			if got := doc.Find("#cost-action option[selected]").AttrOr("value", ""); got != c.action {
				t.Errorf("the action %q is shown again as %q", c.action, got)
			}
		}
	}
	wantStatus(t, "no such action", b.get(ask("fax", "1", "")), http.StatusNotFound)
	if res := b.get(ask("sms", strings.Repeat("9", 5000), "")); res.StatusCode != http.StatusUnprocessableEntity || strings.Contains(res.body, "99999") {
		t.Errorf("a long quantity: %s", res.Status)
	}
	if n := s.count(`SELECT count(*) FROM holds`); n != 0 {
		t.Errorf("asking made %d holds", n)
	}
}

// A price that nobody can read is none: the page says so, and shows no figure.
func TestNoPriceIsGuessed(t *testing.T) {
	s, _ := gated(t)
	b := s.as("owner@harbour.example")
	dbtest.Super(t, s.dbURL, `ALTER TABLE prices RENAME TO prices_away`)
	for _, path := range []string{"/wallet/prices", "/wallet/prices?action=sms&quantity=1"} {
		if res := b.get(path); res.StatusCode < 500 || strings.Contains(res.body, "£0.10") {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	dbtest.Super(t, s.dbURL, `ALTER TABLE prices_away RENAME TO prices`) // the books look at it
}

// Open holds stand on the wallet's page, live, and usage in its history with what it was.
func TestHoldsAndUsageOnTheWallet(t *testing.T) {
	s, gates := gated(t)
	b := s.as("viewer@harbour.example")
	if b.get("/wallet").doc(t).Find("#holds").Length() != 0 {
		t.Error("a list of no holds")
	}
	e := b.stream()
	e.until(t, "event: transactions")
	request := wallet.HoldRequest{
		OrgID: s.org, Action: wallet.ActionSMS, Quantity: 2, Destination: "+447400123456", Source: wallet.SourceAPI, Key: "k1", Actor: audit.System("test"),
	}
	h, err := gates.Authorise(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if live := e.until(t, "+44 7400 123456<"); strings.Contains(live, "<html") {
		t.Error("a whole page was sent")
	}
	page := b.get("/wallet")
	wantSpaced(t, "the wallet", page, "#holds", "Text to +44 7400 123456", "2 segments", "£0.20")
	wantSpaced(t, "the wallet", page, "#balance-spent", "Spent and on hold this month", "£0.20 (no limit)")
	dbtest.Super(t, s.dbURL, `UPDATE holds SET state = 'in_flight' WHERE id = $1`, h.ID)
	wantSpaced(t, "in flight", b.get("/wallet"), "#holds", "Waiting for the provider")
	if _, err := gates.Capture(t.Context(), wallet.Settlement{OrgID: s.org, Hold: h.ID, Source: wallet.SourceAPI, Whole: true, Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	e.until(t, "Text message, 2 segments")
	for _, path := range []string{"/wallet", "/dashboard"} {
		page = b.get(path)
		wantSpaced(t, path, page, "#transactions tbody tr:first-child", "Text message, 2 segments", "Text", "-£0.20")
		if strings.Contains(page.doc(t).Find("#transactions").Text(), "Other") || page.doc(t).Find("#holds").Length() != 0 {
			t.Errorf("%s: the usage has no word of its own, or its hold still stands there", path)
		}
	}
	if s.as("owner@second.example").get("/wallet").doc(t).Find("#holds").Length() != 0 {
		t.Error("another organisation sees the hold")
	}
	for i := range 12 {
		request.Key = string(rune('a' + i))
		if _, err := gates.Authorise(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	page = b.get("/wallet")
	if n := page.doc(t).Find("#holds tbody tr").Length(); n != 10 {
		t.Errorf("%d of 12 holds are shown", n)
	}
	wantSpaced(t, "many holds", page, "#holds", "There are more")
}

// A frozen wallet is said on both pages, at once where one is open.
func TestFrozenWalletIsSaid(t *testing.T) {
	var ledger *wallet.Ledger
	s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { ledger = d.Wallets } })
	b := s.as("owner@harbour.example")
	e := b.stream()
	e.until(t, "event: transactions")
	if err := ledger.Freeze(t.Context(), s.org, "SECRET-2 chargebacks", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	e.until(t, "This wallet is frozen")
	for _, path := range []string{"/wallet", "/dashboard"} {
		page := b.get(path)
		wantSpaced(t, path, page, "#frozen", "This wallet is frozen", "calls, texts, numbers and searches are refused")
		if strings.Contains(page.body, "SECRET-2") {
			t.Errorf("%s tells the operators' reason", path)
		}
	}
	if err := ledger.Thaw(t.Context(), s.org, "settled", audit.System("test")); err != nil {
		t.Fatal(err)
	}
	e.until(t, "event: transactions")
	if text := strings.TrimSpace(b.get("/wallet").doc(t).Find("#frozen").Text()); text != "" {
		t.Errorf("thawed, the page says %q", text)
	}
}
