package handlers_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
)

// TestOpsAudit: every row is on exactly one page, the filters find what they say, an entry says all that is known, and the
// file holds what the list shows.
func TestOpsAudit(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	var owner uuid.UUID
	dbtest.Get(t, s.dbURL, &owner, `SELECT id FROM users WHERE email = 'owner@harbour.example'`)
	dbtest.Super(t, s.dbURL, `
		INSERT INTO audit_log (at, org_id, actor, action, subject, reason, request_id, detail)
		SELECT '2026-01-31 23:59:59Z'::timestamptz + n * interval '1 second', $1, CASE WHEN n % 2 = 0 THEN 'user:' || $2 ELSE 'system:test' END,
		       'test.done', 'thing:' || n, '=HYPERLINK(<' || n || '>)', 'REQ' || n, jsonb_build_object('n', n)
		FROM generate_series(0, 119) n`, s.org, owner)
	seen := map[string]bool{}
	pages := 0
	for next := "/ops/audit"; ; pages++ {
		doc := b.get(next).doc(t)
		for _, a := range doc.Find(`#log tbody a[href^="/ops/audit/"]`).EachIter() {
			href := a.AttrOr("href", "")
			if seen[href] {
				t.Errorf("%s is on two pages", href)
			}
			seen[href] = true
		}
		var more bool
		if next, more = doc.Find("#next").Attr("href"); !more || pages > 20 {
			break
		}
	}
	if n := s.count(`SELECT count(*) FROM audit_log`); len(seen) != n || pages < 2 {
		t.Errorf("%d of %d rows on %d pages", len(seen), n, pages+1)
	}
	for query, n := range map[string]int{
		"action=test.": 50, "action=test.done&to=2026-01-31": 1, "action=test.&from=2026-02-02": 0, "actor=OWNER%40harbour.example&action=test.": 50, "actor=system%3Atest": 50,
		"actor=nobody%40x.example": 0, "org=harbour+dental&action=test.": 50, "org=" + s.org.String() + "&action=test.": 50, "org=" + s.other.String() + "&action=test.": 0,
		"org=nobody": 0, "action=%25": 0, "actor=%27": 0, "action=a%00b": 0,
	} {
		res := b.get("/ops/audit?" + query)
		wantStatus(t, query, res, http.StatusOK)
		if got := res.doc(t).Find("#log tbody tr").Length(); got != n {
			t.Errorf("%s gives %d rows, want %d", query, got, n)
		}
	}
	for query, field := range map[string]string{"from=yesterday": "from", "from=2026-02-02&to=2026-02-01": "to"} {
		res := b.get("/ops/audit?" + query)
		if wantStatus(t, query, res, http.StatusUnprocessableEntity); res.doc(t).Find("#"+field+"-error").Text() == "" {
			t.Errorf("%s: not told what is wrong", query)
		}
		wantStatus(t, query, b.get("/ops/audit.csv?"+query), http.StatusUnprocessableEntity)
	}
	for _, bad := range []string{"/ops/audit?before=x", "/ops/audit?before=-1", "/ops/audit?before=01", "/ops/audit/x", "/ops/audit/999999999", "/ops/audit/" + strings.Repeat("9", 30)} {
		wantStatus(t, bad, b.get(bad), http.StatusNotFound)
	}
	list := b.get("/ops/audit?action=test.&actor=" + url.QueryEscape("owner@harbour.example")).doc(t)
	entry := b.get(list.Find(`#log tbody a[href^="/ops/audit/"]`).First().AttrOr("href", ""))
	wantSpaced(t, "an entry", entry, "#entry", "owner@harbour.example user:"+owner.String())
	wantSpaced(t, "an entry", entry, "#entry", "thing:118")
	wantSpaced(t, "an entry", entry, "#entry", "REQ118")
	wantSpaced(t, "an entry", entry, "#entry", "Harbour Dental")
	wantSpaced(t, "an entry", entry, "#detail", `"n": 118`)
	if strings.Contains(entry.body, "HYPERLINK(<") {
		t.Error("a reason is not escaped")
	}
	file := b.get("/ops/audit.csv?action=test.")
	wantStatus(t, "file", file, http.StatusOK)
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil || len(rows) != 121 || len(rows[0]) != 12 || rows[1][8] != "'=HYPERLINK(<119>)" || rows[120][1] != "2026-01-31T23:59:59Z" || rows[1][3] != "Harbour Dental" {
		t.Errorf("%v, %d rows, the first is %q", err, len(rows), rows[1])
	}
	if got := b.get("/ops/audit.csv?action=none"); strings.Count(got.body, "\r\n") != 1 || !strings.Contains(got.Header.Get("Content-Disposition"), "audit-log-") {
		t.Errorf("an empty file: %q", got.body)
	}
}
