package views

import (
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"
	"golang.org/x/net/html"

	"ringfence/internal/money"
)

func pricesPage() PricesPage {
	return PricesPage{
		Meta: meta("Prices", "/wallet/prices"),
		Calls: CallPrices{
			PerMinute: 70, Start: 79, Examples: []Example{{1, 1}, {30, 28}, {60, 56}, {91, 84}},
			Destinations: []Destination{
				{Name: "United Kingdom", Prefixes: []string{"+44"}, Offered: true, Own: true, Price: 56, USD: 70, Start: 79},
				{Name: "Canada", Prefixes: []string{"+1204", "+1226", "+1236"}},
				{Name: "Everywhere else"},
			},
		},
		Texts: []Destination{
			{Name: "United Kingdom", Prefixes: []string{"+44"}, Offered: true, Price: 10, USD: 13, Undelivered: true},
			{Name: "United States", Prefixes: []string{"+1"}, Offered: true, Price: 10, USD: 13},
		},
		Number:    FlatPrice{Offered: true, Own: true, Price: 1000, USD: 1266, Monthly: 119, MonthlyUSD: 151},
		Knowledge: FlatPrice{Offered: true, Price: 1, USD: 1},
		Rate:      ExchangeRate{Pounds: "0.79", Version: 1},
		Form:      CostForm{Action: KindSMS, Quantity: "3", Destination: "+447400123456"},
		Answer:    &CostAnswer{What: Hold{Kind: KindSMS, Quantity: 3, Destination: "+447400123456", Amount: 30}, Place: "United Kingdom", USD: 38, Required: 30},
	}
}

func spendingPage() SpendingPage {
	return SpendingPage{
		Meta: meta("Spending limits", "/wallet/limits"), Month: noon, CanEdit: true,
		Lines: []Spending{
			{Spent: 9000, Limit: new(money.Pence(10000))},
			{Kind: KindCall, Spent: 5000, Limit: new(money.Pence(5000))},
			{Kind: KindSMS, Spent: 10, Limit: new(money.Pence(100))},
			{Kind: KindNumber, Spent: 1000},
			{Kind: KindKnowledge, Limit: new(money.Pence(0))},
		},
		Fields: []SpendingField{{Typed: "100.00"}, {Typed: "50.00"}, {Typed: "abc", Error: "Use digits only."}, {}, {Typed: "0.00"}},
	}
}

func opsWalletPage() OpsWalletPage {
	w := wallet()
	return OpsWalletPage{
		Meta: operatorMeta("Harbour Dental", "/ops/wallets/o1"), ID: "o1", Name: "Harbour Dental", Notice: "Done.", Balance: Balance{Balance: 56900, Held: 30, Debt: 5, FrozenAt: noon},
		Seq: 12, UpdatedAt: noon, FrozenReason: "chargebacks", Month: noon, Spending: spendingPage().Lines, Holds: holds(), MoreHolds: true, Transactions: w.Transactions,
	}
}

func holds() []Hold {
	return []Hold{
		{ID: "h1", Kind: KindCall, Quantity: 60, Destination: "+447400123456", Amount: 79, At: noon},
		{ID: "h2", Kind: KindSMS, Quantity: 1, Amount: 10, At: noon, ExpiresAt: noon.Add(15 * time.Minute)},
		{ID: "h3", Kind: KindNumber, Quantity: 1, Amount: 1000, At: noon},
		{ID: "h4", Kind: KindKnowledge, Quantity: 2, Amount: 2, At: noon},
		{ID: "h5", Kind: "?", Amount: 1, At: noon},
	}
}

func priceVersions(kind TransactionKind) []PriceVersion {
	f := PriceFigures{Kind: kind, State: "on", Unit: 79, Monthly: 119, PerMinute: 70, Minute: 56}
	was := f
	was.ChargeUndelivered = true
	return []PriceVersion{
		{PriceFigures: f, StartsAt: noon.Add(time.Hour), By: "operator@ringfence.example", Reason: "Dearer"},
		{PriceFigures: was, StartsAt: noon, By: "operator@ringfence.example", Reason: "First"},
		{PriceFigures: PriceFigures{Kind: kind, State: "off"}, By: "the first rate card", Reason: "Canada"},
		{PriceFigures: PriceFigures{Kind: kind, State: "inherit"}, By: "x", Reason: "Over"},
	}
}

func opsPricesPage(owner PriceOwner) OpsPricesPage {
	p := OpsPricesPage{Meta: operatorMeta("Prices", "/ops/prices"), Owner: owner, Notice: "Added.", Owners: []PriceOwner{{ID: "o1", Name: "Harbour Dental"}}, Prefix: "44"}
	for _, kind := range []TransactionKind{KindCall, KindSMS, KindNumber, KindKnowledge} {
		versions := priceVersions(kind)
		p.Sections = append(p.Sections, PriceSection{
			Kind: kind,
			Lines: []PriceLine{
				{Kind: kind, Prefix: "44", Place: "United Kingdom", Now: &versions[1], Next: &versions[0], Versions: versions},
				{Kind: kind, Now: &versions[2], Versions: versions},
				{Kind: kind, Prefix: "33", Place: "France", Next: &versions[0], Versions: versions[:1]},
			},
			Groups: []PriceGroup{{Name: "Canada", Lines: []PriceLine{{Kind: kind, Prefix: "1204"}, {Kind: kind, Prefix: "1226"}}}, {Name: "Jersey", Lines: []PriceLine{{Kind: kind, Prefix: "441534"}}}},
		})
	}
	return p
}

func priceFormPage(kind TransactionKind, owner PriceOwner) PriceFormPage {
	return PriceFormPage{
		Meta: operatorMeta("A price", "/ops/prices/new"), Owner: owner, Now: noon,
		Form: PriceForm{
			Kind: kind, Prefix: "44", State: "on", Unit: "0.79", Undelivered: "no", Starts: "x", Reason: "y",
			Errors: map[string]string{"prefix": "p", "state": "s", "unit": "u", "monthly": "m", "per_minute": "d", "starts": "t", "reason": "r"},
		},
	}
}

func confirmPage() PriceConfirmPage {
	v := priceVersions(KindSMS)
	return PriceConfirmPage{
		Meta: operatorMeta("Add this price?", "/ops/prices"), Owner: PriceOwner{ID: "o1", Name: "Harbour Dental"}, Form: PriceForm{Kind: KindSMS, Prefix: "44", Reason: "why", Seen: "7"},
		Place: "United Kingdom", Was: &v[1].PriceFigures, Then: &v[0].PriceFigures, Later: v[:1], Changed: true,
	}
}

// pricePages are the pages about prices, limits and wallets in all their states, for what holds for every page.
func pricePages() map[string]templ.Component {
	all := map[string]templ.Component{"prices": Prices(pricesPage()), "limits": SpendingLimits(spendingPage()), "ops wallet": OpsWallet(opsWalletPage())}
	bare := pricesPage()
	bare.Calls, bare.Texts, bare.Number, bare.Knowledge, bare.Answer = CallPrices{}, nil, FlatPrice{}, FlatPrice{}, nil
	bare.Form.QuantityError, bare.Form.DestinationError, bare.Rate.Since = "No.", "No.", noon
	all["prices, none and refused"] = Prices(bare)
	not := pricesPage()
	not.Answer = &CostAnswer{What: Hold{Kind: KindCall, Quantity: 60}, NotOffered: "Calls there are not offered."}
	all["prices, not offered"] = Prices(not)
	member := spendingPage()
	member.CanEdit, member.Notice = false, "Saved."
	all["limits of a member"] = SpendingLimits(member)

	open := opsWalletPage()
	open.Balance.FrozenAt, open.Holds, open.Transactions, open.Balance.Debt, open.Notice = time.Time{}, nil, nil, 0, ""
	all["ops wallet, open"] = OpsWallet(open)
	rows := []WalletRow{{ID: "o1", Name: "Harbour Dental", Balance: 1}, {ID: "o2", Name: "Second", Debt: 5}, {ID: "o3", Name: "Third", Frozen: true}}
	wallets := WalletsPage{Meta: operatorMeta("Wallets", "/ops/wallets"), Filter: WalletFilter{Name: "x", Show: "debt"}, Rows: rows, Next: "o3"}
	all["ops wallets"] = OpsWallets(wallets)
	all["ops wallets, none"] = OpsWallets(WalletsPage{Meta: wallets.Meta, First: true})
	all["ops wallets, none such"] = OpsWallets(WalletsPage{Meta: wallets.Meta, First: true, Filter: wallets.Filter})
	all["ops wallets, none further"] = OpsWallets(WalletsPage{Meta: wallets.Meta})
	for name, p := range map[string]FreezePage{
		"freeze": {}, "freeze again": {FrozenAt: noon, FrozenReason: "because", Error: "Say why."}, "thaw": {Thaw: true, FrozenAt: noon, FrozenReason: "because"}, "thaw nothing": {Thaw: true},
	} {
		p.Meta, p.ID, p.Name = operatorMeta("Freeze", "/ops/wallets/o1/freeze"), "o1", "Harbour Dental"
		all[name] = FreezeWallet(p)
	}
	for name, owner := range map[string]PriceOwner{"everybody's": {}, "own": {ID: "o1", Name: "Harbour Dental"}} {
		all["ops prices, "+name] = OpsPrices(opsPricesPage(owner))
		for _, kind := range []TransactionKind{KindCall, KindSMS, KindNumber, KindKnowledge} {
			all["price form, "+name+", "+string(kind)] = OpsPriceForm(priceFormPage(kind, owner))
		}
	}
	none := OpsPricesPage{Meta: operatorMeta("Prices", "/ops/prices"), Owner: PriceOwner{ID: "o1", Name: "x"}, Sections: []PriceSection{{Kind: KindCall}}}
	all["ops prices, none"] = OpsPrices(none)
	none.Prefix, none.Owner = "44", PriceOwner{}
	all["ops prices, none such"] = OpsPrices(none)
	form := priceFormPage(KindSMS, PriceOwner{})
	form.Line, form.Form.Errors = &PriceLine{Versions: priceVersions(KindSMS)}, nil
	all["price form of a line"] = OpsPriceForm(form)
	all["confirm"] = OpsPriceConfirm(confirmPage())
	bareConfirm := confirmPage()
	bareConfirm.Was, bareConfirm.Form.Prefix, bareConfirm.Later, bareConfirm.Changed, bareConfirm.StartsAt = nil, "", nil, false, noon
	all["confirm, new"] = OpsPriceConfirm(bareConfirm)

	w := wallet()
	w.Holds, w.MoreHolds, w.Balance.FrozenAt, w.Balance.Month = holds(), true, noon, Spending{Spent: 9000, Limit: new(money.Pence(10000))}
	w.Transactions = append(w.Transactions, Transaction{ID: "c", At: noon, Description: "Used", Kind: KindUsage, Amount: -1})
	all["wallet, frozen, with holds"] = Wallet(w)
	all["dashboard, frozen"] = Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: w.Balance})

	h := pricesPage()
	h.Meta, h.Rate.Pounds, h.Form = hostileMeta(true), hostile, CostForm{hostile, hostile, hostile, hostile, hostile}
	h.Calls.Destinations = []Destination{{Name: hostile, Prefixes: []string{hostile, hostile, hostile}}}
	h.Answer = &CostAnswer{What: Hold{Kind: hostile, Destination: hostile}, Place: hostile, NotOffered: hostile}
	all["hostile prices"] = Prices(h)
	s := spendingPage()
	s.Meta, s.Notice, s.Fields[0] = hostileMeta(true), hostile, SpendingField{hostile, hostile}
	all["hostile limits"] = SpendingLimits(s)
	all["hostile wallets"] = OpsWallets(WalletsPage{Meta: hostileMeta(true), Filter: WalletFilter{hostile, hostile}, Rows: []WalletRow{{ID: hostile, Name: hostile}}, Next: hostile})
	o := opsWalletPage()
	o.Meta, o.ID, o.Name, o.FrozenReason, o.Holds, o.Transactions = hostileMeta(true), hostile, hostile, hostile, []Hold{{ID: hostile, Kind: hostile, Destination: hostile}}, hostileWallet().Transactions
	all["hostile ops wallet"] = OpsWallet(o)
	all["hostile freeze"] = FreezeWallet(FreezePage{Meta: hostileMeta(true), ID: hostile, Name: hostile, FrozenAt: noon, FrozenReason: hostile, Reason: hostile, Error: hostile})
	owner := PriceOwner{ID: hostile, Name: hostile}
	version := PriceVersion{PriceFigures: PriceFigures{Kind: hostile, State: hostile}, By: hostile, Reason: hostile}
	line := PriceLine{Kind: hostile, Prefix: hostile, Place: hostile, Now: &version, Versions: []PriceVersion{version}}
	all["hostile ops prices"] = OpsPrices(OpsPricesPage{
		Meta: hostileMeta(true), Owner: owner, Notice: hostile, Prefix: hostile,
		Sections: []PriceSection{{Kind: KindCall, Lines: []PriceLine{line}, Groups: []PriceGroup{{hostile, []PriceLine{line}}}}},
	})
	f := priceFormPage(hostile, owner)
	f.Meta, f.Line = hostileMeta(true), &line
	f.Form = PriceForm{hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile, map[string]string{"unit": hostile, "reason": hostile}}
	all["hostile price form"] = OpsPriceForm(f)
	c := confirmPage()
	c.Meta, c.Owner, c.Form, c.Place, c.Later = hostileMeta(true), owner, f.Form, hostile, []PriceVersion{version}
	all["hostile confirm"] = OpsPriceConfirm(c)
	return all
}

// TestPricePages holds for each of them what the other tests hold for every page.
func TestPricePages(t *testing.T) {
	for name, page := range pricePages() {
		t.Run(name, func(t *testing.T) {
			doc := parse(t, page)
			if doc.Find("img, style").Length() != 0 || doc.Find("script:not([src])").Length() != 0 {
				t.Error("text was not escaped")
			}
			ids := map[string]int{}
			doc.Find("[id]").Each(func(_ int, s *goquery.Selection) { ids[s.AttrOr("id", "")]++ })
			for id, n := range ids {
				if n > 1 {
					t.Errorf("%d elements are called %q", n, id)
				}
			}
			for _, attr := range []string{"aria-describedby", "aria-labelledby"} {
				doc.Find("[" + attr + "]").Each(func(_ int, s *goquery.Selection) {
					for id := range strings.FieldsSeq(s.AttrOr(attr, "")) {
						if ids[id] == 0 {
							t.Errorf("%s names %q, which is not there", attr, id)
						}
					}
				})
			}
			doc.Find("input:not([type=hidden]), select").Each(func(_ int, s *goquery.Selection) {
				if id := s.AttrOr("id", ""); doc.Find(`label[for="`+id+`"]`).Length() != 1 && s.ParentsFiltered("label").Length() == 0 {
					t.Errorf("the control %q has no label", id)
				}
			})
			doc.Find("a, button, summary").Each(func(_ int, s *goquery.Selection) {
				if words(s) == "" {
					t.Errorf("no words in a link to %s", s.AttrOr("href", ""))
				}
			})
			doc.Find("*").Each(func(_ int, s *goquery.Selection) {
				for _, a := range s.Get(0).Attr {
					if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") {
						t.Errorf("<%s> has %s=%q, which the policy refuses", goquery.NodeName(s), a.Key, a.Val)
					}
				}
			})
			doc.Find("form").Each(func(_ int, form *goquery.Selection) {
				first := form.Find("input").First()
				if form.AttrOr("method", "") == "post" {
					if first.AttrOr("name", "") != "csrf_token" || first.AttrOr("value", "") != token {
						t.Errorf("the form to %s does not begin with the token", form.AttrOr("action", ""))
					}
				} else if form.Find(`[name="csrf_token"]`).Length() != 0 {
					t.Error("a form that asks would put the token into its address")
				}
			})
			if doc.Find("h1").Length() != 1 || doc.Find("main#main").Length() != 1 {
				t.Error("not one title in one main region")
			}
			if doc.Find(`[role=meter]:not([aria-valuetext])`).Length() != 0 {
				t.Error("a meter that says nothing")
			}
		})
	}
}

func TestPriceListSaysItAll(t *testing.T) {
	doc := parse(t, Prices(pricesPage()))
	for selector, want := range map[string]string{
		"#examples":                          "1 second £0.01 30 seconds £0.28 60 seconds £0.56 91 seconds £0.84",
		"#prices-call tbody tr:nth-child(1)": "United Kingdom Your price +44 £0.56 ~$0.70 £0.79 to start",
		"#prices-call tbody tr:nth-child(2)": "Canada 3 prefixes of Canada +1204, +1226, +1236 Not offered",
		"#prices-call tbody tr:nth-child(3)": "Everywhere else Not offered",
		"#prices-sms tbody tr:nth-child(1)":  "United Kingdom +44 £0.10 ~$0.13 delivered or not",
		"#prices-sms tbody tr:nth-child(2)":  "United States +1 £0.10 ~$0.13 only if delivered",
		"#rate":                              "£0.79 for $1.00 Version 1, in force since the start.",
		"#cost-answer":                       "Text to +447400123456, 3 segments (United Kingdom) £0.30 ~$0.38",
	} {
		if got := spaced(doc.Find(selector)); !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q", selector, got, want)
		}
	}
	part := render(t, WalletCost(pricesPage()))
	if strings.Contains(part, "<html") || !strings.Contains(part, `hx-swap-oob="innerHTML:#cost-status"`) || !strings.Contains(part, "It would cost £0.30.") || !strings.Contains(part, `id="cost-form"`) {
		t.Errorf("the fragment is\n%s", part)
	}
}

// spaced is the text of a part with a space between its elements.
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

func TestSpendingInWords(t *testing.T) {
	for _, c := range []struct {
		s              Spending
		percent        int
		words, warning string
	}{
		{Spending{Spent: 5}, 0, "£0.05 (no limit)", ""},
		{Spending{Spent: 0, Limit: new(money.Pence(100))}, 0, "£0.00 of £1.00", ""},
		{Spending{Spent: 79, Limit: new(money.Pence(100))}, 79, "£0.79 of £1.00", ""},
		{Spending{Spent: 80, Limit: new(money.Pence(100))}, 80, "£0.80 of £1.00", "Nearly used up"},
		{Spending{Spent: 9999, Limit: new(money.Pence(10000))}, 99, "£99.99 of £100.00", "Nearly used up"},
		{Spending{Spent: 100, Limit: new(money.Pence(100))}, 100, "£1.00 of £1.00", "Used up"},
		{Spending{Spent: 300, Limit: new(money.Pence(100))}, 100, "£3.00 of £1.00", "Used up"},
		{Spending{Spent: 0, Limit: new(money.Pence(0))}, 100, "£0.00 of £0.00", "Used up"},
		{Spending{Spent: -5, Limit: new(money.Pence(100))}, 0, "-£0.05 of £1.00", ""},
	} {
		if c.s.percent() != c.percent || c.s.words() != c.words || c.s.state().Word != c.warning {
			t.Errorf("%+v: %d %q %q, want %d %q %q", c.s, c.s.percent(), c.s.words(), c.s.state().Word, c.percent, c.words, c.warning)
		}
	}
	doc := parse(t, SpendingLimits(spendingPage()))
	if got := doc.Find(`#spent-all [role=meter]`); got.AttrOr("aria-valuenow", "") != "90" || got.AttrOr("aria-valuetext", "") != "£90.00 of £100.00" || got.Find("rect").AttrOr("width", "") != "90%" {
		t.Error("the meter does not say what is used")
	}
	if doc.Find("#spent-number [role=meter]").Length() != 0 {
		t.Error("a meter of nothing")
	}
	if got := words(doc.Find("#limit-sms-error")); got != "Use digits only." {
		t.Errorf("beside the field stands %q", got)
	}
}

// Holds are listed where there are any, and say what ends them.
func TestOpenHoldsAreListed(t *testing.T) {
	if parse(t, Wallet(wallet())).Find("#holds").Length() != 0 {
		t.Error("a list of no holds")
	}
	p := wallet()
	p.Holds = holds()
	part := render(t, WalletTransactions(p))
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(part))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"Call to +447400123456 60 seconds Waiting for the provider £0.79", "Text 1 segment 1 Jul 2026 , 12:45 UTC £0.10", "Phone number 1 number Waiting for the provider £10.00",
		"Knowledge search 2 searches Waiting for the provider £0.02",
	} {
		if got := spaced(doc.Find("#holds tbody tr").Eq(i)); !strings.HasSuffix(got, want) {
			t.Errorf("hold %d says %q, want %q", i, got, want)
		}
	}
}

func TestFrozenIsSaid(t *testing.T) {
	p := wallet()
	if words(parse(t, Wallet(p)).Find("#frozen")) != "" {
		t.Error("a wallet that is not frozen is said to be")
	}
	p.Balance.FrozenAt = noon
	dashboard := DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: p.Balance}
	for name, page := range map[string]templ.Component{"wallet": Wallet(p), "dashboard": Dashboard(dashboard)} {
		if got := words(parse(t, page).Find("#frozen")); !strings.Contains(got, "This wallet is frozen") || !strings.Contains(got, "1 Jul 2026") {
			t.Errorf("the %s says %q", name, got)
		}
	}
	live := render(t, WalletBalance(p))
	if !strings.Contains(live, `hx-swap-oob="innerHTML:#frozen"`) || !strings.Contains(live, "This wallet is frozen") {
		t.Error("the stream does not say it")
	}
	if live != render(t, DashboardBalance(dashboard)) {
		t.Error("the dashboard's balance is another than the wallet's")
	}
}

func TestUsageHasAWord(t *testing.T) {
	for kind, want := range map[TransactionKind]string{KindUsage: "Usage", KindCall: "Call", KindSMS: "Text", KindNumber: "Number", KindKnowledge: "Knowledge"} {
		p := wallet()
		p.Transactions = []Transaction{{ID: "a", At: noon, Description: "x", Kind: kind, Amount: -10}}
		if got := spaced(parse(t, Wallet(p)).Find("#transactions tbody tr [data-heading]")); got != "x "+want {
			t.Errorf("%s is shown as %q", kind, got)
		}
	}
}

// A confirmation shows both sides, and sends on all that was typed.
func TestPriceConfirmation(t *testing.T) {
	p := confirmPage()
	doc := parse(t, OpsPriceConfirm(p))
	if got := spaced(doc.Find("#change tbody")); got != "Offered Yes Yes A segment £0.79 £0.79 If not delivered Charged Not charged" {
		t.Errorf("the change is %q", got)
	}
	for _, f := range p.hidden() {
		if got, ok := doc.Find(`form input[name="` + f.Label + `"]`).Attr("value"); !ok || got != f.Value {
			t.Errorf("%s is sent on as %q, want %q", f.Label, got, f.Value)
		}
	}
	p.Was = nil
	if got := spaced(parse(t, OpsPriceConfirm(p)).Find("#change tbody tr").Eq(0)); got != "Offered No Yes" {
		t.Errorf("what was not offered: %q", got)
	}
}
