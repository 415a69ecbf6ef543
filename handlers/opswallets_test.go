package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

func TestOpsWalletList(t *testing.T) {
	s, gates := gated(t)
	for i := range 55 {
		id := uuid.Must(uuid.NewV7())
		dbtest.Super(t, s.dbURL, `INSERT INTO organizations VALUES ($1, $2, now())`, id, fmt.Sprintf("Bakery <%02d>", i))
		dbtest.Super(t, s.dbURL, `INSERT INTO wallets (org_id, created_at, updated_at) VALUES ($1, now(), now())`, id)
	}
	if _, err := gates.Authorise(t.Context(), wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionNumber, Quantity: 1, Source: wallet.SourceAPI, Key: "k", Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	b := s.as(operator)
	page := b.get("/ops/wallets")
	wantStatus(t, "list", page, http.StatusOK)
	if strings.Contains(page.body, "Bakery <") || !strings.Contains(page.body, "Bakery &lt;00&gt;") {
		t.Error("names are not escaped")
	}
	seen := 0
	for next := "/ops/wallets"; ; {
		doc := b.get(next).doc(t)
		seen += doc.Find("#wallets tbody tr").Length()
		var more bool
		if next, more = doc.Find("#next").Attr("href"); !more || seen > 200 {
			break
		}
	}
	if seen != 57 {
		t.Errorf("the pages hold %d wallets, want 57", seen)
	}
	res := b.get("/ops/wallets?q=harbour")
	if got := row(res.doc(t), "#wallets", "Harbour Dental"); got != "Harbour Dental Open £569.00 £10.00 None £10.00" {
		t.Errorf("the row reads %q", got)
	}
	dbtest.Super(t, s.dbURL, `UPDATE wallets SET frozen_at = now(), frozen_reason = 'x' WHERE org_id = $1`, s.other)
	for query, n := range map[string]int{
		"q=HARBOUR": 1, "q=+bakery+": 50, "q=nobody": 0, "q=%25": 0, "q=a%00b": 0, "q=%ff": 50, "show=frozen": 1, "show=debt": 0, "show=frozen&q=harbour": 0,
		"after=" + uuid.NewString(): 0, "q=" + url.QueryEscape(`"><script>alert(1)</script>`): 0,
	} {
		res := b.get("/ops/wallets?" + query)
		wantStatus(t, query, res, http.StatusOK)
		if got := res.doc(t).Find("#wallets tbody tr").Length(); got != n {
			t.Errorf("%s gives %d rows, want %d", query, got, n)
		}
		if n == 0 && !strings.Contains(res.body, "Nothing f") || strings.Contains(res.body, "<script>alert") {
			t.Errorf("%s: an empty list without a word, or not escaped", query)
		}
	}
	for _, bad := range []string{"show=none", "after=x", "after=" + strings.ToUpper(uuid.NewString())} {
		wantStatus(t, bad, b.get("/ops/wallets?"+bad), http.StatusNotFound)
	}
	dbtest.Super(t, s.dbURL, `UPDATE wallets SET frozen_at = NULL, frozen_reason = ''`)
}

func TestOpsWallet(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	h, err := gates.Authorise(t.Context(), wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionCall, Quantity: 60, Destination: "+447400123456", Source: wallet.SourceAPI, Key: "k", Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	path := "/ops/wallets/" + s.org.String()
	page := b.get(path)
	wantStatus(t, "wallet", page, http.StatusOK)
	wantSpaced(t, "wallet", page, "h1", "Harbour Dental")
	wantSpaced(t, "wallet", page, "#figures", "£569.00", "~$720.25", "£568.44", "£0.56", "Of it bonus £0.00")
	wantSpaced(t, "wallet", page, "#holds", "Call to +44 7400 123456", "60 seconds")
	wantSpaced(t, "wallet", page, "#spending", "Calls £0.56 (no limit)")
	wantSpaced(t, "wallet", page, "#transactions", "Opening balance")
	if page.doc(t).Find(`a[href="/ops/prices?org=`+s.org.String()+`"]`).Length() != 1 {
		t.Error("no way to its own prices")
	}
	for _, id := range []string{uuid.NewString(), "x", strings.ToUpper(s.org.String()), "{" + s.org.String() + "}"} {
		for _, p := range []string{"", "/freeze", "/thaw"} {
			wantStatus(t, id+p, b.get("/ops/wallets/"+url.PathEscape(id)+p), http.StatusNotFound)
			if p != "" {
				wantStatus(t, id+p, b.send("/ops/wallets", "/ops/wallets/"+url.PathEscape(id)+p, url.Values{"reason": {"x"}}), http.StatusNotFound)
			}
		}
	}
	if _, err := gates.Void(t.Context(), wallet.Settlement{OrgID: s.org, Hold: h.ID, Source: wallet.SourceAPI, Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.org.String()
	text := wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceAPI, Key: "k", AtOnce: true, Actor: audit.System("test")}

	wantSpaced(t, "asked first", b.get(path+"/freeze"), "main", "Freeze this wallet?", "Harbour Dental", "is refused")
	wantSpaced(t, "nothing to thaw", b.get(path+"/thaw"), "main", "It is not frozen")
	for reason, message := range map[string]string{"": "Give a reason", "  ": "Give a reason", strings.Repeat("x", 501): "at most 500", "a\x00b": "one line", "a\nb": "one line", "a\u202eb": "one line", "\xff": "one line"} {
		res := b.send(path+"/freeze", path+"/freeze", url.Values{"reason": {reason}})
		wantStatus(t, "without a good reason", res, http.StatusUnprocessableEntity)
		wantSpaced(t, "without a good reason", res, "#reason-error", message)
		if len(reason) > 500 && res.doc(t).Find("#reason").AttrOr("value", "") != reason {
			t.Error("what was typed is gone")
		}
	}
	if n := s.count(`SELECT count(*) FROM wallets WHERE frozen_at IS NOT NULL`); n != 0 {
		t.Fatal("a refused freeze froze")
	}
	res := b.send(path+"/freeze", path+"/freeze", url.Values{"reason": {"TICKET-3 <chargebacks>"}})
	wantStatus(t, "freezing", res, http.StatusSeeOther)
	page := b.get(res.Header.Get("Location"))
	wantSpaced(t, "frozen", page, "#done", "The wallet was frozen")
	wantSpaced(t, "frozen", page, "#frozen-notice", "TICKET-3 <chargebacks>")
	if _, err := gates.Authorise(t.Context(), text); fault.As(err) == nil || fault.As(err).Code != "wallet_frozen" {
		t.Errorf("a text from a frozen wallet: %v", err)
	}
	wantSpaced(t, "frozen again", b.get(path+"/freeze"), "#frozen-so-far", "TICKET-3 <chargebacks>")
	thawed := b.send(path+"/thaw", path+"/thaw", url.Values{"reason": {"TICKET-4 settled"}})
	wantStatus(t, "thawing", thawed, http.StatusSeeOther)
	wantSpaced(t, "thawed", b.get(thawed.Header.Get("Location")), "#done", "The wallet was thawed")
	if _, err := gates.Authorise(t.Context(), text); err != nil {
		t.Errorf("a text from a thawed wallet: %v", err)
	}
	for _, want := range []struct {
		action, reason string
		res            reply
	}{{"wallet.frozen", "TICKET-3 <chargebacks>", res}, {"wallet.thawed", "TICKET-4 settled", thawed}} {
		if n := s.count(`SELECT count(*) FROM audit_log WHERE action = $1 AND reason = $2 AND org_id = $3 AND request_id = $4 AND actor LIKE 'operator:%'`, want.action, want.reason, s.org, want.res.Header.Get("X-Request-Id")); n != 1 {
			t.Errorf("%d rows of the audit log tell of %s", n, want.action)
		}
	}
}
