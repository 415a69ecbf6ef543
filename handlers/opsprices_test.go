package handlers_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
)

func TestOpsPriceList(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	page := b.get("/ops/prices")
	wantStatus(t, "prices", page, http.StatusOK)
	wantSpaced(t, "prices", page, "#prices-call", "United Kingdom", "$0.70 a minute", "£0.56 today, £0.79 to start", "from the start", "Canada", "56 prefixes")
	wantSpaced(t, "prices", page, "#prices-number", "£10.00 a number", "£1.19 each further month")
	wantSpaced(t, "prices", page, "#owners", "There are none")

	var id uuid.UUID
	dbtest.Get(t, s.dbURL, &id, `SELECT id FROM users WHERE email = $1`, operator)
	for i, c := range []wallet.PriceChange{
		{Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: 12},
		{Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: 13, StartsAt: time.Now().Add(time.Hour)},
		{Action: wallet.ActionSMS, Prefix: "1204", State: wallet.PriceOn, Unit: 31},
		{OrgID: s.org, Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: 7, ChargeUndelivered: true},
	} {
		c.Reason, c.Actor = fmt.Sprintf("TICKET-%d <b>", i), audit.Operator(id)
		if _, err := gates.SetPrice(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	page = b.get("/ops/prices")
	if got := row(page.doc(t), "#prices-sms", "United Kingdom"); !strings.Contains(got, "3 versions") || !strings.Contains(got, "£0.12 a segment only if delivered from") ||
		!strings.Contains(got, "£0.13 a segment") || !strings.Contains(got, "by "+operator+" TICKET-1 <b>") || !strings.Contains(got, "by the first rate card First prices") {
		t.Errorf("the line reads %s", got)
	}
	if got := row(page.doc(t), "#prices-sms", "Canada"); !strings.Contains(got, "£0.31") {
		t.Errorf("a line of Canada that was opened is hidden among those that are shut: %s", got)
	}
	if strings.Contains(page.body, "<b>") {
		t.Error("reasons are not escaped")
	}
	wantSpaced(t, "owners", page, "#owners", "Harbour Dental")

	own := b.get("/ops/prices?org=" + s.org.String())
	wantSpaced(t, "own", own, "h1", "Prices of Harbour Dental")
	wantSpaced(t, "own", own, "#prices-sms", "£0.07 a segment")
	wantSpaced(t, "own", own, "#prices-call", "No price of its own")
	for prefix, n := range map[string]int{"1204": 2, "+1 204 555": 2, "33": 0, "44": 24, "x": 0} {
		res := b.get("/ops/prices?prefix=" + url.QueryEscape(prefix))
		wantStatus(t, prefix, res, http.StatusOK)
		if got := res.doc(t).Find("#prices-sms tbody tr").Length(); prefix != "x" && got != n {
			t.Errorf("%s shows %d lines, want %d", prefix, got, n)
		}
	}
	for _, bad := range []string{"?org=x", "?org=" + uuid.NewString(), "/new?action=fax", "/new?org=" + uuid.NewString(), "/new?org=x"} {
		wantStatus(t, bad, b.get("/ops/prices"+bad), http.StatusNotFound)
	}
	form := b.get("/ops/prices/new?action=sms&prefix=44&org=" + s.org.String())
	wantSpaced(t, "form", form, "#history", "£0.07 a segment", "TICKET-3 <b>")
	if doc := form.doc(t); doc.Find("#unit").AttrOr("value", "") != "0.07" || doc.Find("#prefix").AttrOr("value", "") != "44" || doc.Find(`#state option[value=inherit]`).Length() != 1 {
		t.Error("the form does not begin with what counts now")
	}
	if b.get("/ops/prices/new?action=sms").doc(t).Find(`#state option[value=inherit]`).Length() != 0 {
		t.Error("everybody's price can go back to everybody's")
	}
}

// priceFields is the form that changes the price of texts to Great Britain.
func priceFields(more ...string) url.Values {
	form := url.Values{"action": {"sms"}, "prefix": {"44"}, "state": {"on"}, "unit": {"0.12"}, "undelivered": {"no"}, "reason": {"TICKET-9"}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// confirmed are the hidden fields of a confirmation, with what is pressed.
func confirmed(t *testing.T, res reply, press string) url.Values {
	t.Helper()
	form := url.Values{"confirm": {press}}
	for _, n := range res.doc(t).Find(`main form input[type=hidden]`).EachIter() {
		form.Set(n.AttrOr("name", ""), n.AttrOr("value", ""))
	}
	return form
}

func TestSetPrice(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	rows := s.count(`SELECT count(*) FROM prices`)
	asked := b.send("/ops/prices/new", "/ops/prices", priceFields())
	wantStatus(t, "asked first", asked, http.StatusOK)
	wantSpaced(t, "asked first", asked, "main", "Add this price?", "Texts to +44 (United Kingdom)", "A segment £0.10 £0.12", "If not delivered Charged Not charged", "Now, within a second", "TICKET-9")
	if n := s.count(`SELECT count(*) FROM prices`); n != rows {
		t.Fatal("the question already did it")
	}
	edit := b.post("/ops/prices", confirmed(t, asked, "edit"))
	wantStatus(t, "back to the form", edit, http.StatusOK)
	if doc := edit.doc(t); doc.Find("#unit").AttrOr("value", "") != "0.12" || doc.Find("#reason").AttrOr("value", "") != "TICKET-9" || doc.Find("#undelivered option[selected]").AttrOr("value", "") != "no" {
		t.Error("what was typed is gone")
	}
	res := b.post("/ops/prices", confirmed(t, asked, "yes"))
	wantStatus(t, "done", res, http.StatusSeeOther)
	wantSpaced(t, "done", b.get(res.Header.Get("Location")), "#done", "The price was added")
	if amount, _, err := gates.Quote(t.Context(), wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionSMS, Quantity: 1, Destination: "+447400123456"}); err != nil || amount != 12 {
		t.Errorf("a text costs %s at once, %v", amount, err)
	}
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'price.set' AND reason = 'TICKET-9' AND subject = 'price:sms:44' AND request_id = $1 AND actor LIKE 'operator:%' AND org_id IS NULL`, res.Header.Get("X-Request-Id")); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
	if n := s.count(`SELECT count(*) FROM prices WHERE action = 'sms' AND prefix = '44' AND unit_pence = 12 AND NOT charge_undelivered AND reason = 'TICKET-9' AND author LIKE 'operator:%'`); n != 1 {
		t.Errorf("%d versions", n)
	}
	// The same confirmation again, as by a second click, or one that somebody else overtook.
	again := b.post("/ops/prices", confirmed(t, asked, "yes"))
	wantStatus(t, "overtaken", again, http.StatusConflict)
	wantSpaced(t, "overtaken", again, "main", "This line has just been changed", "A segment £0.12 £0.12")
	if n := s.count(`SELECT count(*) FROM prices`); n != rows+1 {
		t.Errorf("%d versions were added", n-rows)
	}
	wantStatus(t, "confirmed anew", b.post("/ops/prices", confirmed(t, again, "yes")), http.StatusSeeOther)
}

// An organisation's own price: it is added, scheduled, and ends.
func TestSetOwnPrice(t *testing.T) {
	s, gates := gated(t)
	b := s.as(operator)
	price := func(org uuid.UUID) string {
		t.Helper()
		amount, required, err := gates.Quote(t.Context(), wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: 60, Destination: "+447400123456"})
		if err != nil {
			return "none"
		}
		return amount.String() + " " + required.String()
	}
	set := func(more ...string) reply {
		t.Helper()
		form := url.Values{"org": {s.org.String()}, "action": {"call"}, "prefix": {"+44"}, "state": {"on"}, "unit": {"0.50"}, "per_minute": {"0.35"}, "reason": {"Agreed"}}
		for i := 0; i+1 < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		asked := b.send("/ops/prices/new", "/ops/prices", form)
		wantStatus(t, "asked first", asked, http.StatusOK)
		res := b.post("/ops/prices", confirmed(t, asked, "yes"))
		wantStatus(t, "done", res, http.StatusSeeOther)
		if to := res.Header.Get("Location"); !strings.Contains(to, s.org.String()) {
			t.Errorf("leads to %s", to)
		}
		return asked
	}
	asked := set()
	wantSpaced(t, "a first own price", asked, "main", "For Harbour Dental alone", "A minute $0.70 (£0.56) $0.35 (£0.28)", "Available to start £0.79 £0.50")
	if price(s.org) != "£0.28 £0.50" || price(s.other) != "£0.56 £0.79" {
		t.Errorf("theirs is %s, the others' %s", price(s.org), price(s.other))
	}
	start := time.Now().UTC().Add(48 * time.Hour)
	asked = set("per_minute", "0.40", "starts", start.Format("2006-01-02T15:04"))
	wantSpaced(t, "a scheduled one", asked, "main", start.Format("2 Jan 2006"))
	if price(s.org) != "£0.28 £0.50" {
		t.Errorf("a price that is scheduled counts already: %s", price(s.org))
	}
	asked = set("state", "inherit", "unit", "", "per_minute", "")
	wantSpaced(t, "the end of it", asked, "#change", "A minute $0.35 (£0.28) $0.70 (£0.56)")
	wantSpaced(t, "the end of it", asked, "#later", "Another version takes over", "$0.40 a minute")
	if price(s.org) != "£0.56 £0.79" {
		t.Errorf("after its end it is %s", price(s.org))
	}
	asked = set("state", "off")
	wantSpaced(t, "shut", asked, "#change", "Offered Yes No")
	if price(s.org) != "none" {
		t.Errorf("shut, it is %s", price(s.org))
	}
}

func TestBadPrices(t *testing.T) {
	s, _ := gated(t)
	b := s.as(operator)
	rows := s.count(`SELECT count(*) FROM prices`)
	token := b.token("/ops/prices/new")
	past := time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:04")
	for _, c := range []struct {
		form           url.Values
		field, message string
	}{
		{priceFields("reason", ""), "reason", "Give a reason"},
		{priceFields("reason", "a\x00b"), "reason", "one line"},
		{priceFields("reason", strings.Repeat("x", 501)), "reason", "at most 500"},
		{priceFields("unit", ""), "unit", "Enter an amount"},
		{priceFields("unit", "abc"), "unit", "Use digits only"},
		{priceFields("unit", "0"), "unit", "above zero"},
		{priceFields("unit", "1000.01"), "unit", "up to £1,000.00"},
		{priceFields("prefix", "044"), "prefix", "country code first"},
		{priceFields("prefix", "4x"), "prefix", "country code first"},
		{priceFields("prefix", "a\x00"), "prefix", "country code first"},
		{priceFields("prefix", strings.Repeat("4", 200)), "prefix", "country code first"},
		{priceFields("state", "inherit"), "state", "Only an organisation's own"},
		{priceFields("state", ""), "state", "Choose on or off"},
		{priceFields("starts", past), "starts", "has passed"},
		{priceFields("starts", "tomorrow"), "starts", "Enter a date"},
		{priceFields("starts", "9999-01-01T00:00"), "starts", "Enter a date"},
		{priceFields("action", "call", "unit", "0.79"), "per-minute", "Enter an amount"},
		{priceFields("action", "call", "per_minute", "0"), "per-minute", "above zero"},
		{priceFields("action", "number", "prefix", "", "unit", "9", "monthly", "x"), "monthly", "Use digits only"},
	} {
		for _, press := range []string{"", "yes"} {
			form := maps.Clone(c.form)
			form.Set("csrf_token", token)
			form.Set("confirm", press)
			res := b.post("/ops/prices", form)
			if press == "yes" && c.message == "has passed" {
				continue // it passed while somebody looked: see below
			}
			wantStatus(t, c.field+" "+c.message, res, http.StatusUnprocessableEntity)
			wantSpaced(t, c.field, res, "#"+c.field+"-error", c.message)
		}
	}
	// What passed while somebody looked means now: it never reaches back.
	if n := s.count(`SELECT count(*) FROM prices WHERE starts_at < now() - interval '1 minute' AND starts_at > '2000-01-01'`); n != 0 {
		t.Error("a price reaches back")
	}
	if n := s.count(`SELECT count(*) FROM prices`); n != rows {
		t.Errorf("%d versions were added by bad forms", n-rows) // the one that passed is refused, since its line was not looked at
	}
	form := priceFields("starts", past, "confirm", "yes", "csrf_token", token)
	var seen int64
	dbtest.Get(t, s.dbURL, &seen, `SELECT max(id) FROM prices WHERE action = 'sms' AND prefix = '44' AND org_id IS NULL`)
	form.Set("seen", fmt.Sprint(seen))
	wantStatus(t, "passed meanwhile", b.post("/ops/prices", form), http.StatusSeeOther)
	if n := s.count(`SELECT count(*) FROM prices WHERE unit_pence = 12 AND starts_at = created_at`); n != 1 {
		t.Errorf("a start that has passed: %d versions that start now", n)
	}
	for _, org := range []string{"x", uuid.NewString()} {
		wantStatus(t, "nobody's price", b.post("/ops/prices", priceFields("org", org, "csrf_token", token)), http.StatusNotFound)
	}
	wantStatus(t, "no such action", b.post("/ops/prices", priceFields("action", "fax", "csrf_token", token)), http.StatusNotFound)
}
