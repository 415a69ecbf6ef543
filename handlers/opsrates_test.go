package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ringfence/db/dbtest"
)

// rateFields is the form that sets the rate.
func rateFields(more ...string) url.Values {
	form := url.Values{"rate": {"0.8"}, "source": {"ECB <1>"}, "reason": {"TICKET-2"}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

func TestSetRate(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	owner := s.as("owner@harbour.example")
	const path = "/ops/prices/rate"
	wantSpaced(t, "prices", b.get("/ops/prices"), "#rate", "In force £0.79 test, from the beginning", "Next None", "1 version")
	if b.get("/ops/prices?org="+s.org.String()).doc(t).Find("#rate").Length() != 0 {
		t.Error("an organisation's own page has the exchange rate")
	}
	for _, c := range []struct{ field, value, says string }{
		{"rate", "0", "above 0"},
		{"rate", "10", "below 10"},
		{"rate", "abc", "digits and a point"},
		{"rate", "0.1234567", "six decimals"},
		{"rate", "", "Enter a rate"},
		{"rate", "0,79", "digits and a point"},
		{"rate", "-1", "digits and a point"},
		{"source", "", "Say in at most 200"},
		{"source", "a\x00b", "in one line"},
		{"source", strings.Repeat("x", 201), "at most 200"},
		{"reason", "", "Give a reason"},
		{"reason", "a\x00b", "one line"},
		{"starts", "yesterday", "Enter a date"},
		{"starts", "2020-01-01T00:00", "has passed"},
	} {
		res := b.send(path, path, rateFields(c.field, c.value))
		wantStatus(t, fmt.Sprintf("%s %.20q", c.field, c.value), res, http.StatusUnprocessableEntity)
		wantSpaced(t, fmt.Sprintf("%s %.20q", c.field, c.value), res, "#"+c.field+"-error", c.says)
	}
	asked := b.send(path, path, rateFields())
	wantStatus(t, "asked first", asked, http.StatusOK)
	wantSpaced(t, "asked first", asked, "main", "Set this exchange rate?", "A dollar in pounds £0.79 £0.8", "A top-up of $50.00 £39.50 £40.00", "Now, within a second", "ECB <1>", "TICKET-2")
	if n := s.count(`SELECT count(*) FROM exchange_rates`); n != 1 {
		t.Fatal("the question already did it")
	}
	edit := b.post(path, confirmed(t, asked, "edit"))
	if doc := edit.doc(t); doc.Find("#rate").AttrOr("value", "") != "0.8" || doc.Find("#source").AttrOr("value", "") != "ECB <1>" {
		t.Error("what was typed is gone")
	}
	res := b.post(path, confirmed(t, asked, "yes"))
	wantStatus(t, "done", res, http.StatusSeeOther)
	page := b.get(res.Header.Get("Location"))
	wantSpaced(t, "done", page, "#done", "The exchange rate was set")
	wantSpaced(t, "done", page, "#rate", "In force £0.8 ECB <1>", "2 versions", "by "+operator, "TICKET-2")
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'rate.set' AND reason = 'TICKET-2' AND request_id = $1 AND actor LIKE 'operator:%' AND org_id IS NULL`, res.Header.Get("X-Request-Id")); n != 1 {
		t.Errorf("%d rows of the audit log tell of it", n)
	}
	// What customers see follows.
	wantSpaced(t, "the wallet", owner.get("/wallet"), "#top-up", "$50.00 , you'll be charged £40.00")
	wantSpaced(t, "a quote", owner.send("/wallet", "/wallet/quote", url.Values{"amount": {"100"}, "currency": {"usd"}}), "#quote", "£80.00 GBP")
	wantSpaced(t, "the price list", owner.get("/wallet/prices"), "main", "0.8")

	again := b.post(path, confirmed(t, asked, "yes"))
	wantStatus(t, "overtaken", again, http.StatusConflict)
	wantSpaced(t, "overtaken", again, "main", "The rate has just been changed", "£0.8 £0.8")
	if n := s.count(`SELECT count(*) FROM exchange_rates`); n != 2 {
		t.Errorf("%d versions", n)
	}
}

// A change of more than a tenth is asked about twice; one that begins later waits.
func TestSetRateFarOff(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	const path = "/ops/prices/rate"
	asked := b.send(path, path, rateFields("rate", "0.079"))
	wantSpaced(t, "asked first", asked, "main", "A change of -90.0%", "asked once more")
	sure := b.post(path, confirmed(t, asked, "yes"))
	wantStatus(t, "asked again", sure, http.StatusOK)
	wantSpaced(t, "asked again", sure, "main", "Do you mean -90.0%?", "Yes, change it by -90.0%")
	if n := s.count(`SELECT count(*) FROM exchange_rates`); n != 1 {
		t.Fatal("one word was enough")
	}
	wantStatus(t, "sure", b.post(path, confirmed(t, sure, "sure")), http.StatusSeeOther)
	if n := s.count(`SELECT usd_to_gbp_micros FROM exchange_rates ORDER BY id DESC LIMIT 1`); n != 79_000 {
		t.Errorf("the rate is %d", n)
	}
	start := time.Now().UTC().AddDate(0, 0, 2).Format("2006-01-02T15:04")
	asked = b.send(path, path, rateFields("rate", "0.0795", "starts", start))
	wantSpaced(t, "later", asked, "main", "Set this exchange rate?")
	res := b.post(path, confirmed(t, asked, "yes"))
	wantSpaced(t, "later", b.get(res.Header.Get("Location")), "#done", "waits for its start")
	wantSpaced(t, "later", b.get("/ops/prices"), "#rate", "In force £0.079", "Next £0.0795")
	wantSpaced(t, "before it", b.send(path, path, rateFields("rate", "0.078")), "#later", "£0.0795")
}

// What the page quoted is what is charged: where the rate has changed in between, the customer is asked with the new price.
func TestQuoteChanges(t *testing.T) {
	s := newSite(t)
	b := s.as("owner@harbour.example")
	// what the form sends: its own fields and the quote's
	quoted := func(res reply, selector string) url.Values {
		t.Helper()
		form := url.Values{}
		for _, n := range res.doc(t).Find(selector + " input[type=hidden]").EachIter() {
			form.Set(n.AttrOr("name", ""), n.AttrOr("value", ""))
		}
		if form.Get("quoted_rate") == "" {
			t.Fatalf("no quote in %s", selector)
		}
		return form
	}
	custom := quoted(b.send("/wallet", "/wallet/quote", url.Values{"amount": {"60"}, "currency": {"usd"}}), "#top-up-form")
	custom.Set("amount", "60")
	custom.Set("currency", "usd")
	preset := quoted(b.get("/wallet"), `form:has(input[name=amount][value="50.00"])`)
	dbtest.Super(t, s.dbURL, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (820000, 'test', 'test', now(), now())`)
	for _, c := range []struct {
		form     url.Values
		now, was string
		cents    int
	}{{custom, "£49.20", "£47.40", 49_20}, {preset, "£41.00", "£39.50", 41_00}} {
		for _, headers := range [][]string{{"HX-Request", "true"}, nil} {
			res := b.post("/wallet/top-ups", c.form, headers...)
			wantStatus(t, "asked", res, http.StatusUnprocessableEntity)
			wantSpaced(t, "asked", res, "#quote-changed", "This costs "+c.now+" now, not "+c.was)
			wantSpaced(t, "asked", res, "#quote", "You'll be charged: "+c.now+" GBP")
			if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
				t.Fatal("the question already started it")
			}
		}
	}
	asked := b.post("/wallet/top-ups", preset)
	agreed := quoted(asked, "#top-up-form")
	doc := asked.doc(t)
	agreed.Set("amount", doc.Find("#amount").AttrOr("value", ""))
	agreed.Set("currency", doc.Find("input[name=currency][checked]").AttrOr("value", ""))
	res := b.post("/wallet/top-ups", agreed)
	wantStatus(t, "agreed", res, http.StatusSeeOther)
	if n := s.count(`SELECT count(*) FROM top_ups t JOIN exchange_rates r ON r.id = t.rate_id WHERE t.amount_pence = 4100 AND r.usd_to_gbp_micros = 820000`); n != 1 {
		t.Errorf("%d top-ups of the new price at the new version", n)
	}
	// Without a quote it goes ahead, and so does one whose fields are garbage.
	for _, more := range []url.Values{{}, {"quoted_rate": {"x"}, "quoted_pence": {"-1"}, "quoted_at": {""}}} {
		more.Set("amount", "70")
		more.Set("currency", "usd")
		wantStatus(t, "without a quote", b.send("/wallet", "/wallet/top-ups", more), http.StatusSeeOther)
	}
}
