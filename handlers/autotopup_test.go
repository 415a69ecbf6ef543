package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/payments"
)

const autoPath = "/wallet/auto-top-up"

// charging is a site of which Harbour Dental's owner has saved nothing yet, with its payments.
func charging(t *testing.T) (*site, *payments.Service) {
	t.Helper()
	var pay *payments.Service
	s := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { pay = d.Payments } })
	return s, pay
}

// card plants a saved card of Harbour Dental's.
func (s *site) card(last4 string, year int) {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `
		INSERT INTO saved_cards (payment_method, org_id, brand, last4, exp_month, exp_year, consented_by, consented_at, consent, created_at)
		SELECT 'pm_' || $2, $1, 'visa', $2, 3, $3, user_id, now(), 'I agree.', now() FROM memberships WHERE org_id = $1 AND role = 'owner'`, s.org, last4, year)
}

// becomes sets how automatic top-ups stand, as something that happened would.
func (s *site) becomes(state, reason string) {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `
		UPDATE auto_top_ups SET state = $2, reason = $3, until = CASE WHEN $2 = 'cooling_down' THEN now() + interval '1 hour' END WHERE org_id = $1`, s.org, state, reason)
}

// agree goes the way of an owner through both pages.
func (b *browser) agree(form url.Values) reply {
	b.s.t.Helper()
	page := b.send(autoPath, autoPath, form)
	wantStatus(b.s.t, "the question", page, http.StatusOK)
	doc := page.doc(b.s.t)
	confirm := url.Values{"confirm": {"yes"}}
	for _, name := range []string{"csrf_token", "threshold", "amount", "daily_cap", "monthly_cap", "words"} {
		confirm.Set(name, doc.Find(`form[action="`+autoPath+`"] input[name="`+name+`"]`).AttrOr("value", ""))
	}
	if got, want := confirm.Get("words"), strings.TrimSpace(doc.Find("#auto-sentence").Text()); got != want || got == "" {
		b.s.t.Errorf("the form agrees to %q, the page says %q", got, want)
	}
	return b.post(autoPath, confirm)
}

func settings(threshold, amount, daily, monthly string) url.Values {
	return url.Values{"threshold": {threshold}, "amount": {amount}, "daily_cap": {daily}, "monthly_cap": {monthly}}
}

func TestAutoTopUpPages(t *testing.T) {
	s, pay := charging(t)
	b := s.as("owner@harbour.example")
	page := b.get(autoPath)
	wantStatus(t, "without a card", page, http.StatusOK)
	wantSpaced(t, "without a card", page, "#auto-status", "How it stands Off Save a card, and the wallet tops itself up when it runs low.")
	wantSpaced(t, "without a card", page, "#auto-settings", "First save a card")
	wantSpaced(t, "without a card", page, "#saved-card", "With that: "+payments.SaveCardWords)
	wantSpaced(t, "without a card", page, "#auto-recent", "None yet")
	wantStatus(t, "turned on without a card", b.send(autoPath, autoPath, settings("5", "50", "100", "500")), http.StatusConflict)
	wantStatus(t, "removing none", b.get(autoPath+"/card/remove"), http.StatusNotFound)

	// A card is saved on Stripe's page.
	res := b.send(autoPath, autoPath+"/card", nil)
	wantStatus(t, "saving a card", res, http.StatusSeeOther)
	checkout := res.Header.Get("Location")
	if !strings.Contains(checkout, "/c/pay/cs_") {
		t.Fatalf("the browser is sent to %s", checkout)
	}
	paid, err := b.PostForm(checkout+"/pay", url.Values{"card": {"5555555555554444"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = paid.Body.Close()
	if to := paid.Header.Get("Location"); to != "http://127.0.0.1:8080"+autoPath+"?card=saved" {
		t.Errorf("from there it goes to %s", to)
	}
	page = b.get(autoPath + "?card=saved")
	wantSpaced(t, "just back", page, "#card-awaited", "A card is being saved.")
	if refresh := page.doc(t).Find(`meta[http-equiv="refresh"]`).Length() + strings.Count(page.body, `http-equiv="refresh"`); refresh == 0 {
		t.Error("without scripts the page would say so for ever")
	}
	wantStatus(t, "its own asking", b.get(autoPath+"?card=saved", "HX-Request", "true"), http.StatusNoContent)
	if err := pay.SweepCards(t.Context()); err != nil {
		t.Fatal(err)
	}
	page = b.get(autoPath + "?card=saved")
	wantSpaced(t, "saved", page, "#saved-card", "Mastercard •••• ending in 4444")
	if page.doc(t).Find("#card-awaited").Length() != 0 {
		t.Error("it still waits for the card")
	}
	wantSpaced(t, "saved", page, "#auto-status", "Off Nothing is charged by itself.")
	for id, value := range map[string]string{"threshold": "5.00", "amount": "50.00", "daily-cap": "100.00", "monthly-cap": "500.00"} {
		if got := page.doc(t).Find("#auto-"+id).AttrOr("value", ""); got != value {
			t.Errorf("%s is suggested as %q, want %q", id, got, value)
		}
	}
	wantSpaced(t, "in dollars", page, "#auto-threshold-hint", "About $6.33.")
	wantSpaced(t, "in dollars", page, "#auto-words", "Charged each time £50.00 ~$63.29")

	// What is wrong stands beside its field, what was typed is kept, and nothing is.
	for _, c := range []struct{ form, wrong url.Values }{
		{settings("60", "50", "100", "500"), url.Values{"threshold": {"The threshold is above the amount. Enter at most £50.00"}}},
		{settings("5", "4.99", "100", "500"), url.Values{"amount": {"One top-up is from £5.00 to £5,000.00."}}},
		{settings("", "£50", "1e3", "-1"), url.Values{
			"threshold": {"Enter an amount"}, "amount": {"Use digits only"}, "daily_cap": {"Use digits only"}, "monthly_cap": {"without a minus sign"},
		}},
		{settings("5", "50", "49", "500"), url.Values{"daily_cap": {"The daily cap is below the amount"}}},
		{settings("5", "50", "100", "99"), url.Values{"monthly_cap": {"The monthly cap is below the daily cap"}}},
	} {
		res := b.send(autoPath, autoPath, c.form)
		wantStatus(t, "bad settings", res, http.StatusUnprocessableEntity)
		for name := range c.form {
			id := "#auto-" + strings.ReplaceAll(name, "_", "-")
			field := res.doc(t).Find(id)
			if field.AttrOr("value", "?") != c.form.Get(name) {
				t.Errorf("%s: %q was typed, %q is shown", name, c.form.Get(name), field.AttrOr("value", "?"))
			}
			if marked := field.AttrOr("aria-invalid", "") == "true"; marked != c.wrong.Has(name) {
				t.Errorf("%s marked: %t", name, marked)
			}
			wantSpaced(t, "bad settings", res, id+"-error", c.wrong.Get(name))
		}
	}
	quote := b.send(autoPath, autoPath+"/quote", settings("60", "50", "100", "500"), "HX-Request", "true")
	if wantStatus(t, "typed", quote, http.StatusOK); !strings.Contains(quote.body, "The threshold is above the amount") || strings.Contains(quote.body, "<html") {
		t.Errorf("what is typed is answered with %s", quote.body)
	}
	quote = b.send(autoPath, autoPath+"/quote", settings("6", "60", "120", "600"), "HX-Request", "true")
	if wantStatus(t, "typed", quote, http.StatusOK); !strings.Contains(quote.body, "£60.00") || !strings.Contains(quote.body, "~$75.95") {
		t.Errorf("what is typed is answered with %s", quote.body)
	}
	if n := s.count(`SELECT count(*) FROM auto_top_ups`); n != 0 {
		t.Error("something was kept of it")
	}

	// The question, and the answer.
	question := b.send(autoPath, autoPath, settings("6", "60", "120", "600"))
	wantSpaced(t, "the question", question, "#auto-sentence", "I allow Ringfence to charge £60.00 to the card saved for this wallet, without asking me each time, whenever less than £6.00 is available")
	wantSpaced(t, "the question", question, "main", "At most in a calendar month (UTC) £600.00 ~$759.49")
	if n := s.count(`SELECT count(*) FROM auto_top_ups`); n != 0 {
		t.Error("it was turned on before the answer")
	}
	tampered := settings("6", "600", "1200", "6000")
	tampered.Set("confirm", "yes")
	tampered.Set("words", payments.AutoTopUpSettings{Threshold: 6_00, Amount: 60_00, DailyCap: 120_00, MonthlyCap: 600_00}.Words())
	res = b.send(autoPath, autoPath, tampered)
	wantStatus(t, "words about other amounts", res, http.StatusConflict)
	wantSpaced(t, "words about other amounts", res, "#changed", "nothing was changed")
	edit := settings("6", "60", "120", "600")
	edit.Set("confirm", "edit")
	res = b.send(autoPath, autoPath, edit)
	if wantStatus(t, "going back", res, http.StatusOK); res.doc(t).Find("#auto-amount").AttrOr("value", "") != "60" {
		t.Error("what was typed is gone")
	}
	res = b.agree(settings("6", "60", "120", "600"))
	wantStatus(t, "agreed", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantSpaced(t, "on", page, "#done", "Automatic top-ups are on.")
	wantSpaced(t, "on", page, "#auto-status", "On When less than £6.00 is available, £60.00 is charged to your Mastercard ending in 4444.")
	wantSpaced(t, "on", page, "#auto-consent", "I allow Ringfence to charge £60.00")
	wantSpaced(t, "on", page, "#auto-status", "Agreed by owner@harbour.example")
	wantSpaced(t, "on", page, "#auto-today", "£0.00 of £120.00")
	wantSpaced(t, "the wallet", b.get("/wallet"), "#auto-top-up", "On When less than £6.00 is available, £60.00 is charged")
	if b.get("/wallet").doc(t).Find("#save-card").Length() != 0 {
		t.Error("the wallet offers to save a card beside the saved one")
	}
	res = b.agree(settings("7", "60", "120", "600"))
	wantSpaced(t, "changed", b.get(res.Header.Get("Location")), "#done", "The change was saved.")

	// How it stands is said everywhere.
	s.becomes("cooling_down", "The saved card was declined.")
	wantSpaced(t, "cooling down", b.get(autoPath), "#auto-status", "Waiting after a decline The saved card was declined. It is tried again later")
	s.becomes("stopped", "The saved card was declined 3 times in a row.")
	for _, path := range []string{"/wallet", "/dashboard", autoPath} {
		wantSpaced(t, "stopped", b.get(path), "#auto-attention", "Automatic top-ups have stopped The saved card was declined 3 times in a row.")
	}
	s.becomes("needs_authentication", "The bank wants you to confirm the payment yourself.")
	for _, path := range []string{"/wallet", "/dashboard", autoPath} {
		page = b.get(path)
		wantSpaced(t, "handed back", page, "#auto-attention", "Your bank wants you to confirm an automatic top-up We tried to add £60.00 with your Mastercard ending in 4444")
		wantSpaced(t, "handed back", page, "#auto-attention", payments.SaveCardWords)
	}
	again := url.Values{}
	for _, name := range []string{"csrf_token", "amount", "currency", "save_card"} {
		again.Set(name, page.doc(t).Find(`#auto-attention input[name="`+name+`"]`).AttrOr("value", ""))
	}
	res = b.post("/wallet/top-ups", again)
	wantStatus(t, "confirming", res, http.StatusSeeOther)
	if !strings.Contains(res.Header.Get("Location"), "/c/pay/cs_") || s.count(`SELECT count(*) FROM top_ups WHERE save_card AND NOT automatic AND amount_pence = 6000 AND consent = $1`, payments.SaveCardWords) != 1 {
		t.Errorf("confirming leads to %s", res.Header.Get("Location"))
	}

	res = b.send(autoPath, autoPath+"/off", nil)
	wantSpaced(t, "off", b.get(res.Header.Get("Location")), "#done", "Automatic top-ups are off.")
	s.becomes("ready", "")
	page = b.get(autoPath + "/card/remove")
	wantSpaced(t, "asked", page, "main", "Remove this card? Mastercard ending in 4444")
	wantSpaced(t, "asked", page, "main", "Automatic top-ups stop with that")
	res = b.send(autoPath+"/card/remove", autoPath+"/card/remove", nil)
	wantStatus(t, "removed", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantSpaced(t, "removed", page, "#done", "The card was removed.")
	wantSpaced(t, "removed", page, "#auto-status", "Stopped The saved card was removed.")
	wantSpaced(t, "removed", page, "#saved-card", "There is none yet.")
}

// TestAutomaticOnesInTheList: what is under way and what came of the others, and that an expired card is seen.
func TestAutomaticOnesInTheList(t *testing.T) {
	s, _ := charging(t)
	s.card("0341", 2020)
	b := s.as("owner@harbour.example")
	b.agree(settings("5", "50", "100", "500"))
	for i, state := range []string{"failed", "processing"} {
		dbtest.Super(t, s.dbURL, `
			INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, automatic, consent, payment_method, note, asked_at, created_at, updated_at)
			SELECT gen_random_uuid(), org_id, consented_by, 5000, 6329, (SELECT max(id) FROM exchange_rates), $1::top_up_state, true, consent, 'pm_0341',
			       CASE $1 WHEN 'failed' THEN 'The saved card was declined. Nothing was charged.' ELSE '' END, now(), now() + $2 * interval '1 second', now() FROM auto_top_ups`, state, i)
	}
	page := b.get(autoPath)
	wantSpaced(t, "the list", page, "#auto-recent", "Waiting for confirmation Details")
	wantSpaced(t, "the list", page, "#auto-recent", "Not charged Details The saved card was declined. Nothing was charged.")
	wantSpaced(t, "against the cap", page, "#auto-today", "£50.00 of £100.00")
	wantSpaced(t, "the card", page, "#saved-card", "Expired 03/2020")
	link := page.doc(t).Find(`#auto-recent a[href^="/wallet/top-ups/"]`).First().AttrOr("href", "")
	wantSpaced(t, "its page", b.get(link), "#top-up-state", "Waiting for confirmation")
	if b.get("/wallet").doc(t).Find("#open-top-ups").Length() != 0 {
		t.Error("the wallet asks somebody to finish an automatic top-up")
	}
	res := b.send(autoPath, autoPath+"/off", nil)
	wantSpaced(t, "off", b.get(res.Header.Get("Location")), "#done", "One was under way already and may still be charged")
}

// TestAutoTopUpIsTheOwners: others see how it stands and no form, and cannot save a card by any other door either.
func TestAutoTopUpIsTheOwners(t *testing.T) {
	s, _ := charging(t)
	owner := s.as("owner@harbour.example")
	if owner.get("/wallet").doc(t).Find("#save-card").Length() != 1 {
		t.Error("an owner is not offered to save a card")
	}
	wantSpaced(t, "the offer", owner.get("/wallet"), "#save-card-hint", payments.SaveCardWords)
	bad := owner.send("/wallet", "/wallet/top-ups", url.Values{"amount": {"abc"}, "currency": {"gbp"}, "save_card": {"yes"}}, "HX-Request", "true")
	wantStatus(t, "a bad amount", bad, http.StatusUnprocessableEntity)
	if _, ticked := bad.doc(t).Find("#save-card").Attr("checked"); !ticked {
		t.Error("the tick is gone after a bad amount")
	}
	s.card("4242", 2099)
	owner.agree(settings("5", "50", "100", "500"))
	s.becomes("needs_authentication", "The bank wants you to confirm the payment yourself.")
	for _, role := range []string{"viewer", "member"} {
		dbtest.Super(t, s.dbURL, `UPDATE memberships SET role = $1 WHERE user_id = (SELECT id FROM users WHERE email = 'viewer@harbour.example')`, role)
		b := s.as("viewer@harbour.example")
		page := b.get(autoPath)
		wantSpaced(t, role, page, "#saved-card", "Visa •••• ending in 4242")
		wantSpaced(t, role, page, "#auto-settings", "because your role is "+role)
		wantSpaced(t, role, page, "#auto-attention", "waits for an owner of Harbour Dental")
		if n := page.doc(t).Find(`main form`).Length(); n != 0 {
			t.Errorf("a %s is shown %d forms", role, n)
		}
		if b.get("/wallet").doc(t).Find("#save-card").Length() != 0 {
			t.Errorf("a %s is offered to save a card", role)
		}
		res := b.send("/settings", "/wallet/top-ups", url.Values{"amount": {"50"}, "currency": {"gbp"}, "save_card": {"yes"}})
		wantStatus(t, role+" saves a card by a top-up", res, http.StatusForbidden)
	}
	if n := s.count(`SELECT count(*) FROM top_ups`); n != 0 {
		t.Errorf("%d top-ups", n)
	}
}

// TestOperatorsStopAutoTopUps: with a reason, and customers read that it is us.
func TestOperatorsStopAutoTopUps(t *testing.T) {
	s, pay := charging(t)
	s.card("4242", 2099)
	owner := s.as("owner@harbour.example")
	owner.agree(settings("5", "50", "100", "500"))
	op := s.as("operator@ringfence.example")
	const path = "/ops/auto-top-ups"
	page := op.get(path)
	wantSpaced(t, "running", page, "#switch", "Running Set by system:migration")
	wantSpaced(t, "running", page, "#figures", "On 1")
	for _, reason := range []string{"", "a\nb"} {
		res := op.send(path, path, url.Values{"to": {"stop"}, "reason": {reason}})
		wantStatus(t, "a bad reason", res, http.StatusUnprocessableEntity)
		if strings.TrimSpace(res.doc(t).Find("#reason-error").Text()) == "" {
			t.Error("nothing is said beside the reason")
		}
	}
	wantStatus(t, "neither", op.send(path, path, url.Values{"to": {"x"}, "reason": {"x"}}), http.StatusNotFound)
	res := op.send(path, path, url.Values{"to": {"stop"}, "reason": {"Stripe is ill"}})
	page = op.get(res.Header.Get("Location"))
	wantSpaced(t, "stopped", page, "#done", "stopped for everybody")
	wantSpaced(t, "stopped", page, "#switch", "Stopped for everybody Set by operator@ringfence.example")
	wantSpaced(t, "stopped", page, "#switch", ": Stripe is ill")
	wantSpaced(t, "the customer", owner.get(autoPath), "#auto-paused", "Automatic top-ups are paused by us")
	wantSpaced(t, "the customer", owner.get(autoPath), "#auto-status", "Paused by us")
	wantSpaced(t, "the customer", owner.get("/wallet"), "#auto-top-up", "Paused by us Automatic top-ups are paused by us, for everybody.")
	if strings.Contains(owner.get(autoPath).body, "Stripe is ill") {
		t.Error("the customer reads the operators' reason")
	}
	s.adjust(-568_00)
	if n, err := pay.TopUpAutomatically(t.Context()); n != 0 || err != nil {
		t.Errorf("while it is stopped, %d were begun, %v", n, err)
	}
	res = op.send(path, path, url.Values{"to": {"start"}, "reason": {"It is well again"}})
	wantSpaced(t, "running again", op.get(res.Header.Get("Location")), "#switch", "Running")
	if owner.get(autoPath).doc(t).Find("#auto-paused").Length() != 0 {
		t.Error("the customer still reads that it is paused")
	}
}
