package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/browsertest"
	"ringfence/internal/wallet"
)

// TestHistory looks at the wallet's history as people do: finding, turning pages, what a line was, and how the days went.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	harbour := s.organisation(t, "Harbour Dental")
	topUpWithDollars(t, s)
	s.inApp(t, func(ctx context.Context, a *app) error {
		err := a.db.InTx(ctx, []uuid.UUID{harbour}, func(ctx context.Context, tx *db.Tx) error {
			_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
				OrgID: harbour, Kind: wallet.Bonus, Amount: 10_00, Reason: "Sorry for the outage on Tuesday", Reference: "TICKET-4711", Actor: audit.CLI("ada"),
			})
			return err
		})
		if err != nil {
			return err
		}
		for i, use := range []wallet.HoldRequest{
			{Action: wallet.ActionCall, Quantity: 91, Destination: "+442079460123"},
			{Action: wallet.ActionSMS, Quantity: 2, Destination: "+447400123456"},
			{Action: wallet.ActionNumber, Quantity: 1},
			{Action: wallet.ActionKnowledge, Quantity: 3},
		} {
			use.OrgID, use.Source, use.Key, use.AtOnce, use.Actor = harbour, wallet.SourceAPI, fmt.Sprint("scene-", i), true, audit.System("test")
			if _, err := a.gates.Authorise(ctx, use); err != nil {
				return err
			}
		}
		return nil
	})
	t.Run("first days", func(t *testing.T) {
		tab := s.tab(t, browsertest.View{}, owner)
		tab.Open(s.base() + "/dashboard")
		want(t, "what was spent", tab.Text("#trend-spent"), "Calls 1 £0.84")
		tab.Everywhere("trend-first-days")
	})
	t.Run("a long history", func(t *testing.T) { longHistory(t, s) })
	t.Run("without scripts", func(t *testing.T) { historyWithoutScripts(t, s) })
	t.Run("explained", func(t *testing.T) { explained(t, s) })
	t.Run("nothing yet", func(t *testing.T) {
		tab := s.tab(t, browsertest.View{}, stranger)
		tab.Open(s.base() + "/wallet/transactions")
		want(t, "the list", tab.Text("#transactions"), "No transactions yet")
		tab.Everywhere("transactions-empty")
	})
	s.booksAgree(t)
}

// topUpWithDollars pays a preset, so that the history has a card payment in both currencies.
func topUpWithDollars(t *testing.T, s *site) {
	t.Helper()
	tab := s.tab(t, browsertest.View{}, owner)
	tab.Open(s.base() + "/wallet")
	tab.Leave(`form:has(input[name=amount][value="50.00"]) button`)
	tab.WaitPath("/c/pay/")
	tab.Leave(payButton)
	tab.WaitText("#top-up-state", "£39.50 was added.")
}

// organisation is the id of one by its name.
func (s *site) organisation(t *testing.T, name string) (id uuid.UUID) {
	t.Helper()
	s.inApp(t, func(ctx context.Context, a *app) error {
		return a.db.InSystemTx(ctx, "test", func(ctx context.Context, tx *db.Tx) (err error) {
			id, err = auth.OrganizationByName(ctx, tx, name)
			return err
		})
	})
	return id
}

// inApp runs fn with another copy of the program over the same database, as a command beside the server is.
func (s *site) inApp(t *testing.T, fn func(ctx context.Context, a *app) error) {
	t.Helper()
	if err := withApp(&env{ctx: t.Context(), getenv: s.getenv, stdout: io.Discard, stderr: io.Discard}, fn); err != nil {
		t.Fatal(err)
	}
}

func longHistory(t *testing.T, s *site) {
	// What the measurement makes is what it measures: the command itself, on a short history.
	var out strings.Builder
	code := run(t.Context(), []string{"bench", "pages", "--rows", "3000", "--users", "2", "--pause", "0s", "--seconds", "1", "--paints", "1", "--server", s.base()}, s.getenv, &out, io.Discard)
	var report pagesReport
	if err := json.Unmarshal([]byte(out.String()), &struct{ Pages *[]pageFigures }{&report.Pages}); code != 0 || err != nil || len(report.Pages) != 3 {
		t.Fatalf("bench pages: %d, %v\n%s", code, err, out.String())
	}
	for _, p := range report.Pages {
		if len(p.ByRows) != 1 || p.ByRows[0].Requests == 0 || p.ByRows[0].Bytes == 0 || p.ByRows[0].Errors > 0 || p.Paint == nil {
			t.Errorf("bench pages: %+v", p)
		}
	}
	bench := s.organisation(t, benchHistory(3000))
	s.inApp(t, func(ctx context.Context, a *app) error { // the owner of Harbour Dental looks at it
		return a.db.InSystemTx(ctx, "test", func(ctx context.Context, tx *db.Tx) error {
			user, err := auth.UserByEmail(ctx, tx, operator)
			if err != nil {
				return err
			}
			return a.auth.AddMember(ctx, tx, bench, user, auth.RoleViewer)
		})
	})
	n := s.count(t, `SELECT count(*) FROM ledger_transactions WHERE org_id = $1`, bench)
	all := fmt.Sprintf("%d,%03d transactions", n/1000, n%1000)
	tab := s.tab(t, browsertest.View{}, operator)
	tab.Expect("status of 422")
	tab.Open(s.base() + "/dashboard")
	want(t, "the days", tab.Text("#trend-balance"), "Last 30 days")
	tab.Everywhere("trend")
	tab.Leave("#trend-other")
	want(t, "the days", tab.Text("#trend-balance"), "Last 90 days")
	tab.Click("#trend-balance summary")
	tab.Everywhere("trend-90")
	tab.Look(browsertest.View{Width: browsertest.Phone, Height: 2400})
	tab.Screenshot("trend-whole-phone")
	tab.Look(browsertest.View{})

	tab.Open(s.base() + "/wallet/transactions")
	want(t, "the list", tab.Text("#transactions"), all)
	tab.Everywhere("transactions")
	tab.Look(browsertest.View{Width: browsertest.Phone, Height: 2400})
	tab.FitsWidth()
	tab.Screenshot("transactions-whole-phone")
	tab.Look(browsertest.View{})
	firstLine := func() string {
		return browsertest.Eval[string](tab, `document.querySelector("#transactions tbody a").getAttribute("href")`)
	}
	first := firstLine()
	tab.Click("#older")
	tab.WaitFor("the second page", `document.querySelector("#newer")`)
	tab.Click("#newer")
	tab.WaitFor("the first page", `!document.querySelector("#newer")`)
	if again := firstLine(); again != first {
		t.Errorf("the first line was %s and is %s", first, again)
	}
	browsertest.Eval[bool](tab, `document.querySelector("#kind").value = "call", true`)
	tab.Click("#find")
	calls := fmt.Sprintf("%d transactions", s.count(t, `SELECT count(*) FROM holds WHERE action = 'call' AND org_id = '`+bench.String()+`'`))
	tab.WaitText("#transactions-title", calls)
	tab.WaitText("#history-status", calls+" found.")
	if tab.Focused() != "find" {
		t.Errorf("the search took the focus to %q", tab.Focused())
	}
	tab.Type("#q", "no such words")
	tab.Click("#find")
	tab.WaitText("#transactions", "Nothing fits")
	tab.Everywhere("transactions-none")
	tab.Click("#clear")
	tab.WaitText("#transactions-title", all)
	tab.Open(s.base() + "/wallet/transactions")
	browsertest.Eval[bool](tab, `window.here = true, document.querySelector("#from").value = "2026-02-02", document.querySelector("#to").value = "2026-02-01", true`)
	tab.Click("#find")
	tab.WaitText("#to-error", "The last day is before the first.")
	tab.WaitFor("the focus on the field", `document.activeElement?.id === "to"`)
	tab.Everywhere("transactions-refused")
	if !browsertest.Eval[bool](tab, `window.here === true`) {
		t.Error("the page was loaded anew for what is a part of it")
	}
}

func historyWithoutScripts(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{NoScripts: true}, operator)
	tab.Open(s.base() + "/wallet/transactions")
	tab.Type("#q", "91 seconds")
	tab.Leave("#find")
	want(t, "the list", tab.Text("#transactions"), "Call, 91 seconds")
	tab.Leave("#older")
	tab.Leave("#newer")
	want(t, "the list", tab.Text("#transactions"), "Call, 91 seconds")
	tab.Leave("#transactions tbody a")
	want(t, "the line", tab.Text("#arithmetic"), "91 seconds × $0.70 a minute × 0.79 = £0.84, rounded up once")
	tab.Leave("#back")
}

func explained(t *testing.T, s *site) {
	tab := s.tab(t, browsertest.View{}, viewer)
	tab.Open(s.base() + "/wallet")
	want(t, "the wallet", tab.Text("#transactions"), "All transactions")
	for _, line := range []struct{ name, kind, shows string }{
		{"call", "call", "91 seconds × $0.70 a minute × 0.79 = £0.84, rounded up once"},
		{"text", "sms", "2 segments × £0.10 = £0.20"},
		{"number", "number", "1 number × £10.00 = £10.00"},
		{"search", "knowledge", "3 searches × £0.01 = £0.03"},
		{"top-up", "top_up", "~$50.00"},
		{"bonus", "bonus", "TICKET-4711"},
		{"adjustment", "adjustment", "demo-opening-balance"},
	} {
		tab.Open(s.base() + "/wallet/transactions?kind=" + line.kind)
		tab.Leave("#transactions tbody a")
		want(t, line.name, tab.Text("main"), line.shows)
		want(t, line.name, tab.Text("#postings tbody tr:last-child"), "£0.00")
		tab.Everywhere("transaction-" + line.name)
	}
	tab.Open(s.base() + "/wallet/transactions?kind=top_up")
	tab.Leave("#transactions tbody a")
	theirs := tab.URL()
	other := s.tab(t, browsertest.View{}, stranger)
	other.Expect("status of 404")
	other.Open(theirs)
	if other.Status() != http.StatusNotFound {
		t.Errorf("another organisation's line is answered with %d", other.Status())
	}
}
