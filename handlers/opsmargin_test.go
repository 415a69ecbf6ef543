package handlers_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
)

// TestMargin: what was charged stands against what providers charged, to the penny, by organisation and action; what is not
// known is said to be unknown, and no margin is claimed of it.
func TestMargin(t *testing.T) {
	s, gates := gated(t)
	use := func(org uuid.UUID, action wallet.Action, quantity int64, destination, key string) {
		t.Helper()
		if _, err := gates.Authorise(t.Context(), wallet.HoldRequest{
			OrgID: org, Action: action, Quantity: quantity, Destination: destination, Source: wallet.SourceAPI, Key: key, AtOnce: true, Actor: audit.System("test"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	use(s.org, wallet.ActionCall, 60, "+447400123456", "c1")
	use(s.org, wallet.ActionSMS, 3, "", "s1")
	use(s.org, wallet.ActionKnowledge, 1, "", "k1")
	s.keepCredentialFor(t)
	dbtest.Super(t, s.dbURL, `
		INSERT INTO calls (id, org_id, direction, number_id, our_number, party, state, ceiling_seconds, covered_seconds, seconds, key, fingerprint, actor, created_at, started_at, asked_at, ended_at, vapi_id, cost_micros, hold_id)
		SELECT gen_random_uuid(), $1, 'outbound', n.id, n.phone_number, '+447400123999', 'failed', 60, 60, 0, k, sha256('x'), 'system:test', now(), now(), now(), now(), k, m, h.id
		FROM numbers n, (VALUES ('a', 123456, 'c1'), ('b', 1, 's1')) v (k, m, hold) JOIN holds h ON h.key = v.hold WHERE n.org_id = $1`, s.org)
	b := s.as(operator)
	page := b.get("/ops/margin")
	wantStatus(t, "margin", page, http.StatusOK)
	// $0.123457 at 0.79 is 9.75 pence, rounded once.
	if got := row(page.doc(t), "#actions", "Calls"); got != "Calls 1 £0.56 £0.10 $0.1235 £0.46 82.1%" {
		t.Errorf("calls: %q", got)
	}
	if got := row(page.doc(t), "#actions", "Texts"); got != "Texts 1 £0.30 £0.00 $0.0000 £0.30 100.0%" {
		t.Errorf("texts: %q", got)
	}
	if got := row(page.doc(t), "#actions", "Together"); got != "Together 3 £0.87 £0.10 $0.1235 £0.77 88.5%" {
		t.Errorf("together: %q", got)
	}
	dbtest.Super(t, s.dbURL, `UPDATE calls SET cost_micros = NULL WHERE vapi_id = 'b'`)
	page = b.get("/ops/margin")
	if got := row(page.doc(t), "#actions", "Calls"); got != "Calls 1 £0.56 £0.10 $0.1235 1 cost is unknown Unknown at most £0.46" {
		t.Errorf("calls: %q", got)
	}
	wantSpaced(t, "unknown", page, "#unknown", "1 cost is unknown")
	file := b.get("/ops/margin.csv")
	wantStatus(t, "file", file, http.StatusOK)
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("%v: %q", err, rows)
	}
	if got := strings.Join(rows[1][1:], "|"); got != s.org.String()+"|Harbour Dental|call|1|56|123456|10|1||0.79" {
		t.Errorf("the first line is %s", got)
	}
	if got := strings.Join(rows[2][3:], "|"); got != "sms|1|30|0|0|0|30|0.79" {
		t.Errorf("the second line is %s", got)
	}
	for path, want := range map[string]int{
		"/ops/margin?month=2024-02": 200, "/ops/margin?month=2999-01": 404, "/ops/margin?month=x": 404, "/ops/margin?month=1999-01": 404, "/ops/margin.csv?month=x": 404,
	} {
		wantStatus(t, path, b.get(path), want)
	}
	for field, form := range map[string]url.Values{
		"country": {"country": {"G"}, "monthly": {"1"}, "reason": {"r"}}, "monthly": {"country": {"GB"}, "monthly": {"1.234"}, "reason": {"r"}}, "reason": {"country": {"GB"}, "monthly": {"1"}},
	} {
		res := b.send("/ops/margin", "/ops/margin/numbers", form)
		if wantStatus(t, field, res, http.StatusUnprocessableEntity); res.doc(t).Find("#"+field+"-error").Text() == "" {
			t.Errorf("%s: not told what is wrong", field)
		}
	}
	wantStatus(t, "store", b.send("/ops/margin?month=2026-01", "/ops/margin/numbers", url.Values{"country": {"gb"}, "monthly": {"1.15"}, "month": {"2026-01"}, "reason": {"TICKET-1"}}), http.StatusSeeOther)
	wantSpaced(t, "stored", b.get("/ops/margin"), "#number-costs", "GB January 2026 $1.1500")
}

// keepCredentialFor gives Harbour Dental a number in its own account.
func (s *site) keepCredentialFor(t *testing.T) {
	t.Helper()
	f := fixture{site: s}
	f.keepCredential()
	dbtest.Super(t, s.dbURL, `
		INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, account_sid, credential_id, sid, vapi_id, key, fingerprint, actor, created_at, activated_at)
		SELECT $3, $1, '+447400123456', 'GB', 'byoc', 'active', '', account_sid, id, 'PN1', 'v1', 'fixture', sha256('fixture'), 'system:test', now(), now() FROM credentials WHERE id = $2`,
		s.org, f.credential, numberID)
}
