package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
)

func TestSpendingLimits(t *testing.T) {
	s, gates := gated(t)
	b := s.as("owner@harbour.example")
	text := wallet.HoldRequest{OrgID: s.org, Action: wallet.ActionSMS, Quantity: 9, Source: wallet.SourceAPI, Key: "k", AtOnce: true, Actor: audit.System("test")}
	if _, err := gates.Authorise(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	page := b.get("/wallet/limits")
	wantStatus(t, "limits", page, http.StatusOK)
	wantSpaced(t, "limits", page, "#spent-all", "All together £0.90 (no limit)")
	wantSpaced(t, "limits", page, "#spent-sms", "Texts £0.90 (no limit)")
	if page.doc(t).Find("[role=meter]").Length() != 0 {
		t.Error("a meter without a limit")
	}

	res := b.send("/wallet/limits", "/wallet/limits", url.Values{"all": {"1000"}, "call": {""}, "sms": {" 1.00 "}, "number": {"0"}, "knowledge": {"2.5"}})
	wantStatus(t, "saving", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantSpaced(t, "saved", page, "#done", "The limits were saved")
	wantSpaced(t, "saved", page, "#spent-all", "£0.90 of £1,000.00")
	wantSpaced(t, "saved", page, "#spent-sms", "Nearly used up £0.90 of £1.00")
	wantSpaced(t, "saved", page, "#spent-call", "£0.00 (no limit)")
	meter := page.doc(t).Find("#spent-sms [role=meter]")
	if meter.AttrOr("aria-valuenow", "") != "90" || meter.AttrOr("aria-valuetext", "") != "£0.90 of £1.00" {
		t.Errorf("the meter says %s%%, %s", meter.AttrOr("aria-valuenow", ""), meter.AttrOr("aria-valuetext", ""))
	}
	for name, want := range map[string]string{"all": "1000.00", "call": "", "sms": "1.00", "number": "0.00", "knowledge": "2.50"} {
		if got := page.doc(t).Find("#limit-"+name).AttrOr("value", "?"); got != want {
			t.Errorf("%s is shown as %q, want %q", name, got, want)
		}
	}
	wantSpaced(t, "the wallet", b.get("/wallet"), "#balance-spent", "£0.90 of £1,000.00")
	wantSpaced(t, "the dashboard", b.get("/dashboard"), "#balance-spent", "£0.90 of £1,000.00")
	// They hold.
	text.Key, text.Quantity = "k2", 2
	if _, err := gates.Authorise(t.Context(), text); err == nil || !strings.Contains(err.Error(), "monthly limit of £1.00") {
		t.Errorf("over the limit: %v", err)
	}
	var by string
	dbtest.Get(t, s.dbURL, &by, `SELECT string_agg(a.actor || ' ' || (a.detail ->> 'sms') || ' ' || coalesce(a.detail ->> 'call', 'none') || ' ' || a.request_id, ';') FROM audit_log a WHERE action = 'wallet.limits_set' AND org_id = $1`, s.org)
	if want := " 100 none " + res.Header.Get("X-Request-Id"); !strings.HasPrefix(by, "user:") || !strings.HasSuffix(by, want) || strings.Contains(by, ";") {
		t.Errorf("the audit log says %q", by)
	}

	// What is wrong stands beside its field, nothing is saved, and what was typed is kept.
	res = b.send("/wallet/limits", "/wallet/limits", url.Values{"all": {"£5"}, "call": {"-1"}, "sms": {"1.001"}, "number": {"999999999999"}, "knowledge": {"3"}})
	wantStatus(t, "bad limits", res, http.StatusUnprocessableEntity)
	for name, message := range map[string]string{"all": "Use digits only", "call": "without a minus", "sms": "two decimals", "number": "too large"} {
		wantSpaced(t, "bad limits", res, "#limit-"+name+"-error", message)
		if res.doc(t).Find("#limit-"+name).AttrOr("aria-invalid", "") != "true" {
			t.Errorf("the field %s is not marked", name)
		}
	}
	if doc := res.doc(t); doc.Find("#limit-all").AttrOr("value", "") != "£5" || doc.Find("#limit-knowledge").AttrOr("value", "") != "3" || strings.TrimSpace(doc.Find("#limit-knowledge-error").Text()) != "" {
		t.Error("what was typed is gone")
	}
	if n := s.count(`SELECT count(*) FROM wallets WHERE org_id = $1 AND cap_pence = 100000 AND cap_knowledge_pence = 250`, s.org); n != 1 {
		t.Error("something of a bad form was saved")
	}
	wantStatus(t, "none", b.send("/wallet/limits", "/wallet/limits", nil), http.StatusSeeOther)
	wantSpaced(t, "none", b.get("/wallet/limits"), "#spent-all", "£0.90 (no limit)")
	if n := s.count(`SELECT count(*) FROM wallets WHERE cap_pence IS NOT NULL AND org_id = $1`, s.other); n != 0 {
		t.Error("another organisation's limits were set")
	}
}

// Members and viewers see the limits, and no form; without one they are refused.
func TestLimitsAreTheOwners(t *testing.T) {
	s, _ := gated(t)
	owner := s.as("owner@harbour.example")
	wantStatus(t, "saving", owner.send("/wallet/limits", "/wallet/limits", url.Values{"all": {"50"}}), http.StatusSeeOther)
	for _, role := range []string{"viewer", "member"} {
		dbtest.Super(t, s.dbURL, `UPDATE memberships SET role = $1 WHERE user_id = (SELECT id FROM users WHERE email = 'viewer@harbour.example')`, role)
		b := s.as("viewer@harbour.example")
		page := b.get("/wallet/limits")
		wantSpaced(t, role, page, "#spent-all", "£0.00 of £50.00")
		wantSpaced(t, role, page, "#limits", "because your role is "+role)
		if page.doc(t).Find(`form[action="/wallet/limits"]`).Length() != 0 {
			t.Errorf("a %s is shown the form", role)
		}
		res := b.send("/settings", "/wallet/limits", url.Values{"all": {"9999"}})
		wantStatus(t, role, res, http.StatusForbidden)
	}
	if n := s.count(`SELECT count(*) FROM wallets WHERE org_id = $1 AND cap_pence = 5000`, s.org); n != 1 {
		t.Error("the limits were changed")
	}
}
