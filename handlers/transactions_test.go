package handlers_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// give posts an adjustment or a bonus with these words and gives its transaction.
func (s *site) give(kind wallet.Kind, amount money.Pence, reason, reference string, actor audit.Actor) (made wallet.Transaction) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) (err error) {
		made, err = wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: s.org, Kind: kind, Amount: amount, Reason: reason, Reference: reference, Actor: actor})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return made
}

// shownTransactions are the descriptions of the list, in its order.
func shownTransactions(doc *goquery.Document) (list []string) {
	doc.Find("#transactions tbody tr td[data-heading] a").Each(func(_ int, a *goquery.Selection) { list = append(list, a.Text()) })
	return list
}

func TestTransactions(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	s.give(wallet.Bonus, 5_00, "Welcome <b>gift</b>", "TICKET-1", audit.System("test"))
	today := time.Now().UTC().Format(time.DateOnly)
	for _, c := range []struct {
		query string
		want  string
	}{
		{"", "Welcome <b>gift</b>|Opening balance"},
		{"?from=&to=&kind=&q=", "Welcome <b>gift</b>|Opening balance"},
		{"?kind=bonus", "Welcome <b>gift</b>"},
		{"?kind=adjustment", "Opening balance"},
		{"?kind=call", ""},
		{"?q=WELCOME", "Welcome <b>gift</b>"},
		{"?q=ticket-1", "Welcome <b>gift</b>"},
		{"?q=%25", ""},
		{"?q=_", ""},
		{"?q=%27%22%5C", ""},
		{"?from=" + today + "&to=" + today, "Welcome <b>gift</b>|Opening balance"},
		{"?to=2020-01-01", ""},
		{"?from=2998-01-01", ""},
	} {
		res := b.get("/wallet/transactions" + c.query)
		wantStatus(t, c.query, res, http.StatusOK)
		if got := strings.Join(shownTransactions(res.doc(t)), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.query, got, c.want)
		}
	}
	res := b.get("/wallet/transactions?q=welcome&kind=bonus")
	if link, _ := res.doc(t).Find("#csv").Attr("href"); link != "/wallet/transactions.csv?kind=bonus&q=welcome" {
		t.Errorf("the file's link is %q", link)
	}
	if n := res.doc(t).Find(`#kind option`).Length(); n != 1+len(wallet.Sorts()) {
		t.Errorf("%d kinds to choose from", n)
	}
	if other := s.as("owner@second.example").get("/wallet/transactions"); len(shownTransactions(other.doc(t))) != 0 || !strings.Contains(other.body, "No transactions yet") {
		t.Error("the second tenant sees a history")
	}

	fragment := b.get("/wallet/transactions?kind=bonus", "HX-Request", "true")
	if strings.Contains(fragment.body, "<html") || !strings.Contains(fragment.body, `id="transactions"`) || !strings.Contains(fragment.body, "hx-swap-oob") {
		t.Errorf("fragment:\n%s", fragment.body)
	}
}

// What cannot be asked for is 422 with the form as it was and a message beside the field; nothing is looked for.
func TestTransactionsRefused(t *testing.T) {
	s := newSite(t)
	b := s.as("viewer@harbour.example")
	for _, c := range []struct{ query, field, message string }{
		{"from=yesterday", "from", "year-month-day"},
		{"from=2026-02-30", "from", "year-month-day"},
		{"to=2026-13-01", "to", "year-month-day"},
		{"to=0000-00-00", "to", "year-month-day"},
		{"from=99999-01-01", "from", "year-month-day"},
		{"from=2026-01-01T00:00", "from", "year-month-day"},
		{"from=2026-02-02&to=2026-02-01", "to", "before the first"},
		{"q=" + strings.Repeat("x", 101), "q", "at most 100"},
		{"q=a%00b", "q", "at most 100"},
		{"q=%ff", "q", "at most 100"},
		{"q=" + strings.Repeat("x", 5000), "q", "at most 100"},
		{"from=%00" + strings.Repeat("9", 900), "from", "year-month-day"},
	} {
		for _, headers := range [][]string{nil, {"HX-Request", "true"}} {
			res := b.get("/wallet/transactions?"+c.query, headers...)
			wantStatus(t, c.query, res, http.StatusUnprocessableEntity)
			doc := res.doc(t)
			if got := doc.Find("#" + c.field + "-error").Text(); !strings.Contains(got, c.message) {
				t.Errorf("%.60s: beside the field stands %q", c.query, got)
			}
			if invalid, _ := doc.Find("#" + c.field).Attr("aria-invalid"); invalid != "true" || len(shownTransactions(doc)) != 0 || len(res.body) > 60_000 {
				t.Errorf("%.60s: the field is not marked, or something was found", c.query)
			}
		}
		res := b.get("/wallet/transactions.csv?" + c.query)
		wantStatus(t, "the file, "+c.query, res, http.StatusUnprocessableEntity)
		if !strings.Contains(res.body, c.message) || res.Header.Get("Content-Disposition") != "" {
			t.Errorf("%.60s: the file is answered with %.300s", c.query, res.body)
		}
	}
	res := b.get("/wallet/transactions?kind=usage")
	wantStatus(t, "no such kind", res, http.StatusUnprocessableEntity)
	for _, query := range []string{"before=x", "before=-1", "before=01", "after=1e3", "before=1&after=1", "before=99999999999999999999"} {
		wantStatus(t, query, b.get("/wallet/transactions?"+query), http.StatusNotFound)
	}
	for _, query := range []string{"before=1", "after=9999999", "before=9223372036854775807", "after=9223372036854775807"} {
		wantStatus(t, query, b.get("/wallet/transactions?"+query), http.StatusOK)
	}
}

// The pages hold their lines while others come.
func TestTransactionsPages(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	for i := range 60 {
		s.give(wallet.Adjustment, 1, fmt.Sprint("Line ", i), fmt.Sprint("line-", i), audit.System("test"))
	}
	page := func(path string) (list []string, newer, older string) {
		res := b.get(path)
		wantStatus(t, path, res, http.StatusOK)
		doc := res.doc(t)
		newer, _ = doc.Find("#newer").Attr("href")
		older, _ = doc.Find("#older").Attr("href")
		return shownTransactions(doc), newer, older
	}
	first, newer, older := page("/wallet/transactions?kind=adjustment")
	if len(first) != 25 || first[0] != "Line 59" || newer != "" || !strings.Contains(older, "kind=adjustment") {
		t.Fatalf("first page: %d lines from %q, newer %q, older %q", len(first), first[0], newer, older)
	}
	second, _, _ := page(older)
	for i := range 30 {
		s.give(wallet.Adjustment, 1, "Meanwhile", fmt.Sprint("meanwhile-", i), audit.System("test"))
	}
	again, newer, oldest := page(older)
	if strings.Join(again, "|") != strings.Join(second, "|") {
		t.Errorf("the second page became %v", again)
	}
	if back, more, _ := page(newer); strings.Join(back, "|") != strings.Join(first, "|") || more == "" {
		t.Errorf("the page before it became %v, newer %q", back, more)
	}
	last, _, end := page(oldest)
	if len(last) != 11 || last[10] != "Opening balance" || end != "" {
		t.Errorf("last page: %v, older %q", last, end)
	}
}

// The file holds what the list does, whatever was written into it, and no cell that a spreadsheet would compute.
func TestTransactionsCSV(t *testing.T) {
	s := newSite(t)
	for i, words := range []string{`=HYPERLINK("http://evil")`, "+1", "-1", "@SUM(A1)", "\tx", "\rx", `"quoted", with comma`, "two\nlines", "plain = +-@", "＝1", "é “£”"} {
		made := s.give(wallet.Adjustment, 100, "x", fmt.Sprint("odd-", i), audit.System("test"))
		dbtest.Super(t, s.dbURL, `UPDATE ledger_transactions SET description = $2, reference = CASE WHEN $1 = '' THEN '' ELSE $2 || $1 END WHERE id = $3`, fmt.Sprint(" ", i), words, made.ID)
	}
	s.give(wallet.Adjustment, -1_23, "Taken", "taken", audit.System("test"))
	for _, email := range []string{"owner@harbour.example", "viewer@harbour.example"} {
		res := s.as(email).get("/wallet/transactions.csv?from=2020-01-31&to=2998-12-31")
		wantStatus(t, email, res, http.StatusOK)
		if kind := res.Header.Get("Content-Type"); kind != "text/csv; charset=utf-8; header=present" {
			t.Errorf("type %q", kind)
		}
		if got := res.Header.Get("Content-Disposition"); got != `attachment; filename="transactions-from-2020-01-31-to-2998-12-31.csv"` {
			t.Errorf("disposition %q", got)
		}
		rows, err := csv.NewReader(strings.NewReader(res.body)).ReadAll()
		if err != nil || len(rows) != 1+13 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		if rows[0][0] != "time_utc" || rows[0][5] != "amount_gbp" || rows[1][5] != "-1.23" || rows[1][6] != "-123" || rows[13][5] != "569.00" || rows[13][7] != "569.00" || rows[13][8] != "56900" {
			t.Errorf("rows %q, %q … %q", rows[0], rows[1], rows[13])
		}
		for _, row := range rows[1:] {
			for i, cell := range row {
				number := i >= 5 && i <= 10
				if number {
					_, err = strconv.ParseInt(strings.ReplaceAll(cell, ".", ""), 10, 64)
				}
				if number && err != nil || !number && cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n") || strings.HasPrefix(cell, "＝") {
					t.Errorf("cell %q", cell)
				}
			}
		}
		if rows[12][3] != `'=HYPERLINK("http://evil")` || rows[4][3] != "plain = +-@" || rows[2][3] != "é “£”" || rows[5][3] != "two\nlines" {
			t.Errorf("descriptions %q %q %q %q", rows[12][3], rows[4][3], rows[2][3], rows[5][3])
		}
	}
	res := s.as("owner@second.example").get("/wallet/transactions.csv")
	if rows, err := csv.NewReader(strings.NewReader(res.body)).ReadAll(); err != nil || len(rows) != 1 || !strings.Contains(res.Header.Get("Content-Disposition"), "transactions-to-") {
		t.Errorf("the second tenant's file: %q, %v", res.body, err)
	}
	res = s.as("owner@harbour.example").get("/wallet/transactions.csv?q=taken")
	if rows, err := csv.NewReader(strings.NewReader(res.body)).ReadAll(); err != nil || len(rows) != 2 || rows[1][3] != "Taken" {
		t.Errorf("a filtered file: %q, %v", res.body, err)
	}
}

// A long file is sent while it is read: the server holds a small part of it at any time, and stops when nobody reads.
func TestTransactionsCSVIsStreamed(t *testing.T) {
	var gates *wallet.Gates
	s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { gates = d.Gates } })
	const rows = 40_000
	if err := emptied(s, gates, rows); err != nil {
		t.Fatal(err)
	}
	b := s.as("owner@second.example")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/wallet/transactions.csv", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// What other tests leave comes and goes; what this answer holds back it would hold all the while.
	least := uint64(math.MaxUint64)
	var read, lines uint64
	buf := make([]byte, 64<<10)
	for done := false; !done; {
		n, err := res.Body.Read(buf)
		read += uint64(n)
		lines += uint64(bytes.Count(buf[:n], []byte("\n")))
		if done = err == io.EOF; err != nil && !done {
			t.Fatal(err)
		}
		if read/(1<<20) != (read-uint64(n))/(1<<20) {
			runtime.GC()
			runtime.ReadMemStats(&during)
			least = min(least, during.HeapAlloc)
		}
	}
	if lines != rows+1 || read < 6<<20 {
		t.Fatalf("%d lines, %d bytes", lines, read)
	}
	if least > before.HeapAlloc+4<<20 {
		t.Errorf("sending %d bytes held %d bytes more than before", read, least-before.HeapAlloc)
	}
}

// emptied fills the second tenant's wallet, which has no history, as measurements do.
func emptied(s *site, gates *wallet.Gates, rows int64) error {
	return gates.Fill(s.t.Context(), s.other, rows, time.Now().AddDate(0, 0, -60))
}

func TestTransactionExplained(t *testing.T) {
	f := newFixture(t)
	viewer := f.as("viewer@harbour.example")
	explain := func(what, query string, args ...any) *goquery.Document {
		t.Helper()
		var id string
		dbtest.Get(t, f.dbURL, &id, query, args...)
		res := viewer.get("/wallet/transactions/" + id)
		wantStatus(t, what, res, http.StatusOK)
		doc := res.doc(t)
		if sum := doc.Find("#postings tbody tr").Last().Text(); !strings.Contains(sum, "£0.00") {
			t.Errorf("%s: the postings come to %q", what, sum)
		}
		wantStatus(t, what+" of another organisation", f.as("owner@second.example").get("/wallet/transactions/"+id), http.StatusNotFound)
		return doc
	}
	words := func(doc *goquery.Document) string {
		markup, err := doc.Find("main").Html()
		if err != nil {
			t.Fatal(err)
		}
		apart, err := goquery.NewDocumentFromReader(strings.NewReader(strings.ReplaceAll(markup, "<", " <")))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(apart.Text()), " ")
	}
	want := func(what string, doc *goquery.Document, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(words(doc), part) {
				t.Errorf("%s lacks %q:\n%s", what, part, words(doc))
			}
		}
	}
	topUp := explain("top-up", `SELECT transaction_id FROM credits WHERE payment_intent = 'pi_harbour'`)
	want("top-up", topUp, "+£50.00", "By Stripe", "£50.00 ~$63.29", "£0.79 for $1", "test, from the beginning", "Started by owner@harbour.example", "pi_harbour", "Card payments at Stripe", "Balance before £569.00", "Balance after £619.00")
	if href, _ := topUp.Find("#top-up-link").Attr("href"); href != "/wallet/top-ups/"+f.topUp {
		t.Errorf("the top-up's link is %q", href)
	}
	want("adjustment", explain("adjustment", `SELECT id FROM ledger_transactions WHERE reference = 'opening' AND org_id = $1`, f.org),
		"Opening balance", "By Ringfence", "Your wallet, money you paid in", "Adjustments by Ringfence", "Number 1 of this wallet")
	want("search", explain("search", `SELECT id FROM holds WHERE org_id = $1 AND action = 'knowledge'`, f.org),
		"1 search × £0.01 = £0.01", "Asked for by owner@harbour.example", "Ringfence, for knowledge searches")

	// A call by a program: the price by the second, rounded up once; and one that cost another amount than was thought.
	gates := f.deps.Gates
	for _, amount := range []money.Pence{0, 1_00} {
		h, err := gates.Authorise(t.Context(), wallet.HoldRequest{
			OrgID: f.org, Action: wallet.ActionCall, Quantity: 91, Destination: "+442079460123", Source: wallet.SourceAPI, Key: uuid.NewString(), Actor: audit.Key(f.keyID),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gates.Capture(t.Context(), wallet.Settlement{OrgID: f.org, Hold: h.ID, Source: wallet.SourceAPI, Amount: amount, Whole: amount == 0, Actor: audit.Key(f.keyID)}); err != nil {
			t.Fatal(err)
		}
		doc := explain("call", `SELECT id FROM holds WHERE id = $1`, h.ID)
		want("call", doc, "91 seconds × $0.70 a minute × 0.79 = £0.84, rounded up once", "To +442079460123", "API key “Programs”", "Ringfence, for calls")
		if taken := doc.Find("#taken").Length(); (taken > 0) != (amount > 0) {
			t.Errorf("a call captured for %s: %d words on what it really cost", amount, taken)
		}
	}
	// Whoever has left the organisation is not named to it.
	stranger := uuid.Must(uuid.NewV7())
	err := f.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		u, err := f.auth.CreateUser(ctx, tx, "left@elsewhere.example", password, auth.PlatformNone)
		stranger = u.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for actor, by := range map[audit.Actor]string{
		audit.User(stranger): "Somebody who is no member any more", audit.Operator(stranger): "Ringfence", audit.CLI("root"): "Ringfence", audit.Key(stranger): "An API key",
	} {
		made := f.give(wallet.Bonus, 1, "Given", uuid.NewString(), actor)
		doc := explain(string(actor), `SELECT id FROM ledger_transactions WHERE id = $1`, made.ID)
		if got := doc.Find("#by").Text(); got != by || strings.Contains(words(doc), "elsewhere") || strings.Contains(words(doc), "root") {
			t.Errorf("%s is called %q, want %q", actor, got, by)
		}
	}
	for _, id := range []string{uuid.NewString(), "x", strings.ToUpper(f.transaction.String()), "%00"} {
		wantStatus(t, id, viewer.get("/wallet/transactions/"+url.PathEscape(id)), http.StatusNotFound)
	}
}

// The dashboard draws what happened, in both lengths; the part of it that money moves anew does without.
func TestTrend(t *testing.T) {
	var gates *wallet.Gates
	s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { gates = d.Gates } })
	if err := emptied(s, gates, 600); err != nil {
		t.Fatal(err)
	}
	b := s.as("owner@second.example")
	var costs []struct {
		Action string
		Cost   money.Pence
		Times  int
	}
	dbtest.Select(t, s.dbURL, &costs, `
		SELECT action, sum(amount_pence) AS cost, count(*) AS times FROM holds
		WHERE org_id = $1 AND created_at >= (now() AT TIME ZONE 'UTC')::date - 29 GROUP BY 1`, s.other)
	for round := range 2 {
		doc := b.get("/dashboard").doc(t)
		rows := strings.Join(strings.Fields(doc.Find("#trend-spent tbody").Text()), " ")
		for _, c := range costs {
			if part := fmt.Sprintf("%d %s", c.Times, c.Cost); !strings.Contains(rows, part) {
				t.Errorf("round %d: %s: no %q in %q", round, c.Action, part, rows)
			}
		}
		if n := doc.Find("#balance-chart svg path").Length(); n == 0 || doc.Find("#trend-balance tbody tr").Length() != 30 {
			t.Error("no chart of the balance, or no table with it")
		}
		wallets := wallet.New(s.db)
		if _, err := wallets.AddUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.get("/dashboard?days=90").doc(t).Find("#trend-balance tbody tr").Length(); n != 90 {
		t.Errorf("%d days of 90", n)
	}
	if part := b.get("/dashboard", "HX-Request", "true"); part.doc(t).Find("#trend").Length() != 0 || part.doc(t).Find("#transactions").Length() != 1 {
		t.Error("the list alone came with charts")
	}
}
