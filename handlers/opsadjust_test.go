package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// adjustFields is the form for a debit of £100.00.
func adjustFields(more ...string) url.Values {
	form := url.Values{"kind": {"debit"}, "amount": {"100"}, "reason": {"Charged <twice>"}, "reference": {"TICKET-1"}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// move changes Harbour Dental's wallet behind the page's back.
func (s *site) move(kind wallet.Kind, amount money.Pence, reference string) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: s.org, Kind: kind, Amount: amount, Reason: "test", Reference: reference, Actor: audit.System("test")})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestAdjustWallet(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.org.String()
	wantSpaced(t, "form", b.get(path+"/adjust"), "main", "Harbour Dental", "at most £10,000.00 at once", "Balance £569.00")
	asked := b.send(path+"/adjust", path+"/adjust", adjustFields())
	wantStatus(t, "asked first", asked, http.StatusOK)
	wantSpaced(t, "asked first", asked, "main", "Take £100.00 from this wallet?", "Harbour Dental", "Balance £569.00 £469.00", "Charged <twice>", "Adjustment", "-£100.00", "TICKET-1", "Ringfence made it", "audit log")
	if strings.Contains(asked.body, "<twice>") {
		t.Error("the reason is not escaped")
	}
	if n := s.count(`SELECT count(*) FROM ledger_transactions WHERE reference = 'TICKET-1'`); n != 0 {
		t.Fatal("the question already did it")
	}
	edit := b.post(path+"/adjust", confirmed(t, asked, "edit"))
	wantStatus(t, "back to the form", edit, http.StatusOK)
	if doc := edit.doc(t); doc.Find("#amount").AttrOr("value", "") != "100" || doc.Find("#reason").AttrOr("value", "") != "Charged <twice>" || doc.Find("#kind-debit[checked]").Length() != 1 {
		t.Error("what was typed is gone")
	}
	res := b.post(path+"/adjust", confirmed(t, asked, "yes"))
	wantStatus(t, "done", res, http.StatusSeeOther)
	page := b.get(res.Header.Get("Location"))
	wantSpaced(t, "done", page, "#done", "The adjustment was made")
	wantSpaced(t, "done", page, "#transactions", "Charged <twice> Adjustment -£100.00")
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'wallet.adjusted' AND reason = 'Charged <twice>' AND subject = 'TICKET-1' AND org_id = $1 AND actor LIKE 'operator:%' AND request_id = $2`,
		s.org, res.Header.Get("X-Request-Id")); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}

	// The same confirmation again, as by a second click, and the same form anew.
	again := b.post(path+"/adjust", confirmed(t, asked, "yes"))
	wantStatus(t, "again", again, http.StatusSeeOther)
	wantSpaced(t, "again", b.get(again.Header.Get("Location")), "#done", "had been made already")
	wantSpaced(t, "the same form", b.send(path+"/adjust", path+"/adjust", adjustFields()), "main", "This was done already", "Nothing will happen")
	// Under the same reference nothing else.
	for _, other := range []url.Values{adjustFields("amount", "100.01"), adjustFields("kind", "credit"), adjustFields("kind", "bonus"), adjustFields("reason", "Another")} {
		for _, press := range []string{"", "yes"} {
			other.Set("confirm", press)
			res := b.send(path+"/adjust", path+"/adjust", other)
			wantStatus(t, "another adjustment under the reference", res, http.StatusConflict)
			wantSpaced(t, "another adjustment under the reference", res, "#reference-error", "was used on", "a debit of £100.00", "Use a new one")
		}
	}
	if n := s.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, s.org); n != 469_00 {
		t.Errorf("the balance is %d", n)
	}
	// The customer reads it, and not who did it.
	owner := s.as("owner@harbour.example").get("/wallet")
	wantSpaced(t, "customer", owner, "#transactions", "Charged <twice>")
	if strings.Contains(owner.body, operator) {
		t.Error("the customer reads who did it")
	}
}

// A debit that no longer fits when it is confirmed is refused, and says what was shown and what is there.
func TestAdjustOvertaken(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.org.String() + "/adjust"
	asked := b.send(path, path, adjustFields("amount", "500"))
	s.move(wallet.Adjustment, -100_00, "meanwhile")
	res := b.post(path, confirmed(t, asked, "yes"))
	wantStatus(t, "overtaken", res, http.StatusUnprocessableEntity)
	wantSpaced(t, "overtaken", res, "#amount-error", "Only £469.00 is available to take", "It was £569.00 when you looked, so nothing was done")
	// One that still fits goes through.
	asked = b.send(path, path, adjustFields("amount", "400"))
	s.move(wallet.Adjustment, -69_00, "meanwhile too")
	wantStatus(t, "still fits", b.post(path, confirmed(t, asked, "yes")), http.StatusSeeOther)
	if n := s.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, s.org); n != 0 {
		t.Errorf("the balance is %d", n)
	}
}

func TestAdjustKinds(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.other.String() + "/adjust"
	for _, c := range []struct {
		kind, amount string
		says         string
	}{
		{"credit", "20", "Credit £20.00 to this wallet? Second Tenant"},
		{"bonus", "5.50", "Give a bonus of £5.50? Second Tenant"},
		{"debit", "10", "Take £10.00 from this wallet? Second Tenant"},
	} {
		asked := b.send(path, path, adjustFields("kind", c.kind, "amount", c.amount, "reference", c.kind))
		wantSpaced(t, c.kind, asked, "main", c.says)
		wantStatus(t, c.kind, b.post(path, confirmed(t, asked, "yes")), http.StatusSeeOther)
	}
	var got struct{ Balance, Bonus int }
	got.Balance, got.Bonus = s.count(`SELECT balance_pence FROM wallets WHERE org_id = $1`, s.other), s.count(`SELECT bonus_pence FROM wallets WHERE org_id = $1`, s.other)
	if got.Balance != 15_50 || got.Bonus != 0 { // bonus goes first
		t.Errorf("%+v", got)
	}
}

func TestAdjustRefusals(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	path := "/ops/wallets/" + s.org.String() + "/adjust"
	for _, c := range []struct{ field, name, value, says string }{
		{"kind", "kind", "gift", "Choose a credit"},
		{"kind", "kind", "", "Choose a credit"},
		{"amount", "amount", "", "Enter an amount"},
		{"amount", "amount", "0", "other than zero"},
		{"amount", "amount", "-5", "without a minus sign"},
		{"amount", "amount", "1e9", "digits only"},
		{"amount", "amount", "0.001", "two decimals"},
		{"amount", "amount", "10000.01", "at most £10,000.00"},
		{"amount", "amount", "99999999999", "too large"},
		{"amount", "amount", "569.01", "Only £569.00 is available"},
		{"amount", "amount", "5\x00", "digits only"},
		{"reason", "reason", " ", "Give a reason"},
		{"reason", "reason", "a\x00b", "one line"},
		{"reason", "reason", "a\u202eb", "one line"},
		{"reason", "reason", "\xff", "one line"},
		{"reason", "reason", strings.Repeat("x", 501), "at most 500"},
		{"reason", "reason", strings.Repeat("x", 20_000), "at most 500"},
		{"reference", "reference", "", "Give a reference"},
		{"reference", "reference", "a\x00b", "Give a reference"},
		{"reference", "reference", strings.Repeat("x", 201), "at most 200"},
	} {
		for _, press := range []string{"", "yes"} {
			res := b.send(path, path, adjustFields(c.name, c.value, "confirm", press))
			wantStatus(t, fmt.Sprintf("%s %.20q", c.name, c.value), res, http.StatusUnprocessableEntity)
			wantSpaced(t, fmt.Sprintf("%s %.20q", c.name, c.value), res, "#"+c.field+"-error", c.says)
		}
	}
	if n := s.count(`SELECT count(*) FROM ledger_transactions WHERE org_id = $1`, s.org); n != 1 {
		t.Errorf("%d transactions", n)
	}
	for _, id := range []string{uuid.NewString(), "x", strings.ToUpper(s.org.String())} {
		for _, p := range []string{"/adjust", "/withdraw", "/close", "/reopen"} {
			wantStatus(t, id+p, b.get("/ops/wallets/"+id+p), http.StatusNotFound)
			wantStatus(t, id+p, b.send("/ops/wallets", "/ops/wallets/"+id+p, adjustFields("key", uuid.NewString())), http.StatusNotFound)
		}
	}
}
