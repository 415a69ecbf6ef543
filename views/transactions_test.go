package views

import (
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"

	"ringfence/internal/money"
)

func history12() TransactionsPage {
	return TransactionsPage{
		Meta: meta("Transactions", "/wallet/transactions"), Kinds: []TransactionKind{KindTopUp, KindAdjustment, KindBonus, KindRefund, KindDispute, KindRent, KindCall, KindSMS, KindNumber, KindKnowledge},
		Filter: TransactionFilter{From: "2026-07-01", Kind: KindCall, Text: "a&b"}, Transactions: wallet().Transactions, First: true, Older: "7", Newer: "12",
		Counted: true, Count: 12, Spent: 84,
	}
}

func explained(kind TransactionKind) TransactionPage {
	p := TransactionPage{
		Meta: meta("Transaction", "/wallet/transactions/a"), Transaction: Transaction{ID: "a", At: noon, Description: "What it was", Kind: kind, Amount: -84, BalanceAfter: 916},
		Seq: 1234, Reference: "TICKET-1", BalanceBefore: 1000, DebtBefore: 5, By: Doer{Kind: "user", Name: "owner@harbour.example"}, Message: "m",
	}
	for _, account := range []string{"wallet/paid", "wallet/bonus", "receivable", "stripe_clearing", "bonus_granted", "adjustment", "refunds", "disputes", "revenue/call", "revenue/sms", "revenue/number", "revenue/knowledge"} {
		p.Postings = append(p.Postings, TransactionPosting{Account: account, Own: true, Amount: 1})
	}
	rate := RateVersion{Rate: "0.79", Source: "Bank of England", StartsAt: noon}
	switch kind { //nolint:exhaustive // the ones with something behind them
	case KindTopUp:
		p.TopUp = &TransactionTopUp{ID: "t", PaymentIntent: "pi_1", Paid: 3950, Quoted: 3951, USD: 5000, Rate: rate, StartedBy: Doer{Kind: "user"}, StartedAt: noon}
	case KindRefund:
		p.Reversal = &TransactionReversal{PaymentIntent: "pi_1", Amount: 84, Bonus: 4, Credited: 3950, CreditID: "c"}
	case KindDispute:
		p.Reversal = &TransactionReversal{PaymentIntent: "pi_1", Amount: -84, Bonus: -4, Credited: 3950, CreditID: "c"}
	case KindCall, KindSMS, KindNumber, KindKnowledge:
		p.Use = &TransactionUse{
			HoldID: "h", Kind: kind, Quantity: 91, Destination: "+442079460123", PerMinute: 70, Unit: 10, PriceSince: noon, OwnPrice: true, Rate: rate,
			Cost: 84, Authorised: 84, Taken: 100, AskedBy: Doer{Kind: "key", Name: "Till", Prefix: "abc"}, AuthorisedAt: noon, SettledAt: noon,
		}
	}
	return p
}

func someTrend(days int) Trend {
	t := Trend{Behind: 3}
	for _, k := range []TransactionKind{KindCall, KindSMS, KindNumber, KindKnowledge} {
		t.Spent = append(t.Spent, TrendSpent{Kind: k, Times: 2, Cost: money.Pence(days), Daily: make([]money.Pence, days)})
	}
	for i := range days {
		for j := range t.Spent {
			t.Spent[j].Daily[i] = 1
		}
		t.Days = append(t.Days, TrendDay{Date: noon.Add(time.Duration(i) * 24 * time.Hour), Balance: money.Pence(1000 - i), Spent: 4})
	}
	return t
}

// transactionPages are the pages of the wallet's history, in all their states.
func transactionPages() map[string]templ.Component {
	refused := history12()
	refused.Filter.FromError, refused.Filter.ToError, refused.Filter.KindError, refused.Filter.TextError = "No.", "No.", "No.", "No."
	none, empty, older, looked, evil := history12(), history12(), history12(), history12(), history12()
	none.Transactions, none.Counted = nil, false
	empty.Transactions, empty.Filter, empty.Count = nil, TransactionFilter{}, 0
	older.Transactions, older.Filter, older.First, older.Older = nil, TransactionFilter{}, false, ""
	looked.Transactions, looked.LookedUntil, looked.Looked, looked.Counted = nil, noon, 20_000, false
	evil.Meta, evil.Filter = hostileMeta(true), TransactionFilter{From: hostile, To: hostile, Kind: hostile, Text: hostile}
	evil.Kinds, evil.Transactions, evil.Newer, evil.Older = []TransactionKind{hostile}, hostileWallet().Transactions, hostile, hostile
	all := map[string]templ.Component{
		"transactions": Transactions(history12()), "transactions refused": Transactions(refused), "transactions none": Transactions(none),
		"transactions empty": Transactions(empty), "transactions older": Transactions(older), "transactions looked": Transactions(looked), "transactions hostile": Transactions(evil),
		"dashboard trend":    Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: wallet().Balance, Trend: someTrend(30)}),
		"dashboard trend 90": Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Balance: wallet().Balance, Trend: someTrend(90)}),
	}
	for _, k := range []TransactionKind{KindTopUp, KindAdjustment, KindBonus, KindRefund, KindDispute, KindRent, KindCall, KindSMS, KindNumber, KindKnowledge, KindUsage, "?"} {
		all["transaction "+string(k)] = TransactionDetail(explained(k))
	}
	for _, k := range []TransactionKind{KindTopUp, KindRefund, KindCall} {
		p := explained(k)
		p.Meta, p.ID, p.Description, p.Reference, p.By, p.Message = hostileMeta(true), hostile, hostile, hostile, Doer{Kind: "key", Name: hostile, Prefix: hostile}, hostile
		p.Postings = []TransactionPosting{{Account: hostile}}
		if p.TopUp != nil {
			p.TopUp.ID, p.TopUp.PaymentIntent, p.TopUp.Rate = hostile, hostile, RateVersion{Rate: hostile, Source: hostile}
		}
		if p.Reversal != nil {
			p.Reversal.PaymentIntent, p.Reversal.CreditID = hostile, hostile
		}
		if p.Use != nil {
			p.Use.HoldID, p.Use.Destination, p.Use.Rate = hostile, hostile, RateVersion{Rate: hostile, Source: hostile}
		}
		all["transaction hostile "+string(k)] = TransactionDetail(p)
	}
	return all
}

func TestTransactionLinksKeepTheFilter(t *testing.T) {
	doc := parse(t, Transactions(history12()))
	for id, want := range map[string]string{
		"csv": "/wallet/transactions.csv?from=2026-07-01&kind=call&q=a%26b", "older": "/wallet/transactions?before=7&from=2026-07-01&kind=call&q=a%26b",
		"newer": "/wallet/transactions?after=12&from=2026-07-01&kind=call&q=a%26b", "clear": "/wallet/transactions",
	} {
		if got, _ := doc.Find("#" + id).Attr("href"); got != want {
			t.Errorf("%s leads to %q, want %q", id, got, want)
		}
		if get, ok := doc.Find("#" + id).Attr("hx-get"); ok && get != want {
			t.Errorf("%s leads to %q with scripts, want %q", id, get, want)
		}
	}
	if got := words(doc.Find("#transactions-title")); got != "12 transactions" {
		t.Errorf("the title is %q", got)
	}
}

func TestArithmetic(t *testing.T) {
	for want, u := range map[string]TransactionUse{
		"91 seconds × $0.70 a minute × 0.79 = £0.84, rounded up once": {Kind: KindCall, Quantity: 91, PerMinute: 70, Rate: RateVersion{Rate: "0.79"}, Cost: 84},
		"1 segment × £0.10 = £0.10":                                   {Kind: KindSMS, Quantity: 1, Unit: 10, Cost: 10},
		"2 searches × £0.01 = £0.02":                                  {Kind: KindKnowledge, Quantity: 2, Unit: 1, Cost: 2},
		"1 number × £10.00 = £10.00":                                  {Kind: KindNumber, Quantity: 1, Unit: 1000, Cost: 1000},
	} {
		if got := u.arithmetic(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A chart says in words what it shows, in both of its sizes, and nothing that the policy would refuse; the same figures
// stand in tables beside it.
func TestTrendIsReadable(t *testing.T) {
	for _, days := range []int{30, 90} {
		doc := parse(t, Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Trend: someTrend(days)}))
		for id, want := range map[string]string{"balance-chart": "now; lowest", "spent-chart": "Calls £0."} {
			chart := doc.Find("#" + id)
			if role, _ := chart.Attr("role"); role != "img" || chart.Find("svg").Length() != 2 {
				t.Errorf("%s: role %q, %d pictures", id, role, chart.Find("svg").Length())
			}
			if label, _ := chart.Attr("aria-label"); !strings.Contains(label, want) {
				t.Errorf("%s is called %q", id, label)
			}
			chart.Find("svg *").Each(func(_ int, s *goquery.Selection) {
				if class, _ := s.Attr("class"); class == "" {
					t.Errorf("%s: <%s> has no class, so no colour of ours", id, goquery.NodeName(s))
				}
			})
		}
		if n := doc.Find("#trend-balance tbody tr").Length(); n != days {
			t.Errorf("%d rows for %d days", n, days)
		}
	}
	if n := parse(t, Dashboard(DashboardPage{Meta: meta("Dashboard", "/dashboard"), Trend: Trend{Days: make([]TrendDay, 30)}})).Find("#trend").Length(); n != 0 {
		t.Error("an empty wallet has charts")
	}
}
