package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ringfence/db/dbtest"
)

// TestOpsJobs: jobs that failed are listed with what they met, and are tried again or cancelled with a reason.
func TestOpsJobs(t *testing.T) {
	f := newFixture(t)
	b := f.as(operator)
	dbtest.Super(t, f.dbURL, `
		INSERT INTO river_job (state, attempt, max_attempts, created_at, scheduled_at, finalized_at, priority, args, kind, queue)
		SELECT 'completed', 1, 3, now(), now(), now(), 1, '{}', 'done', 'default' FROM generate_series(1, 60)`)
	list := b.get("/ops/jobs")
	wantStatus(t, "jobs", list, http.StatusOK)
	wantSpaced(t, "jobs", list, "#jobs", "planted "+jobID+" planted <error> Given up 3 of 3")
	if n := list.doc(t).Find("#jobs tbody tr").Length(); n != 1 {
		t.Errorf("%d jobs need somebody", n)
	}
	done := b.get("/ops/jobs?state=completed").doc(t)
	next := done.Find("#next").AttrOr("href", "")
	if n := done.Find("#jobs tbody tr").Length() + b.get(next).doc(t).Find("#jobs tbody tr").Length(); n != 60 {
		t.Errorf("two pages hold %d finished jobs", n)
	}
	for _, bad := range []string{"/ops/jobs?state=x", "/ops/jobs?before=x", "/ops/jobs/x", "/ops/jobs/424243", "/ops/jobs/" + strings.Repeat("9", 30)} {
		wantStatus(t, bad, b.get(bad), http.StatusNotFound)
	}
	path := "/ops/jobs/" + jobID
	page := b.get(path)
	wantSpaced(t, "job", page, "#errors", "planted <error>")
	wantSpaced(t, "job", page, "#args", `"org_id": "x"`)
	res := b.send(path, path+"/retry", url.Values{"reason": {" "}})
	if wantStatus(t, "no reason", res, http.StatusUnprocessableEntity); res.doc(t).Find("#reason-error").Text() == "" {
		t.Error("not told that a reason is needed")
	}
	wantStatus(t, "retry", b.send(path, path+"/retry", url.Values{"reason": {"TICKET-1"}}), http.StatusSeeOther)
	if got := f.text(`SELECT state FROM river_job WHERE id = $1::bigint`, jobID); got != "available" {
		t.Errorf("it is %s", got)
	}
	wantStatus(t, "again", b.send(path, path+"/retry", url.Values{"reason": {"TICKET-1"}}), http.StatusConflict)
	wantStatus(t, "cancel", b.send(path, path+"/cancel", url.Values{"reason": {"TICKET-2"}}), http.StatusSeeOther)
	if got := f.text(`SELECT state FROM river_job WHERE id = ` + jobID); got != "cancelled" {
		t.Errorf("it is %s", got)
	}
	wantStatus(t, "again", b.send(path, path+"/cancel", url.Values{"reason": {"x"}}), http.StatusConflict)
	if n := f.count(`SELECT count(*) FROM audit_log WHERE action IN ('job.retried', 'job.cancelled') AND subject = 'job:` + jobID + `' AND reason LIKE 'TICKET-%'`); n != 2 {
		t.Errorf("%d rows of the log tell of it", n)
	}
}

// TestRiverPages: River's own pages work behind our sign-in, with a policy of their own, and change nothing.
func TestRiverPages(t *testing.T) {
	f := newFixture(t)
	b := f.as(operator)
	page := b.get("/ops/jobs/river/")
	wantStatus(t, "page", page, http.StatusOK)
	if !strings.Contains(page.body, "config__json") || !strings.Contains(page.Header.Get("Content-Security-Policy"), "style-src 'self' 'unsafe-inline'") ||
		!strings.Contains(page.Header.Get("Content-Security-Policy"), "script-src 'self';") {
		t.Errorf("%s\n%s", page.Header.Get("Content-Security-Policy"), page.body)
	}
	script := page.doc(t).Find("script[src]").AttrOr("src", "")
	if res := b.get(script); res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Content-Type"), "javascript") {
		t.Errorf("%s: %s, %s", script, res.Status, res.Header.Get("Content-Type"))
	}
	if res := b.get("/ops/jobs/river/api/jobs?limit=20&state=discarded"); res.StatusCode != http.StatusOK || !strings.Contains(res.body, `"id":"`+jobID+`"`) && !strings.Contains(res.body, `"id":`+jobID) {
		t.Errorf("%s: %s", res.Status, res.body)
	}
	wantStatus(t, "states", b.get("/ops/jobs/river/api/states"), http.StatusOK)
	for _, who := range []string{"owner@harbour.example", "viewer@harbour.example"} {
		wantStatus(t, who, f.as(who).get("/ops/jobs/river/api/jobs?state=discarded"), http.StatusNotFound)
	}
	wantStatus(t, "a stranger", f.browser().get("/ops/jobs/river/api/jobs?state=discarded"), http.StatusSeeOther)
	before := f.state()
	for _, path := range []string{"jobs/retry", "jobs/cancel", "jobs/delete"} {
		res := b.do("POST", "/ops/jobs/river/api/"+path, strings.NewReader(`{"ids":["`+jobID+`"]}`), "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
		wantStatus(t, path, res, http.StatusMethodNotAllowed)
	}
	wantStatus(t, "pause", b.do("PUT", "/ops/jobs/river/api/queues/default/pause", nil, "Sec-Fetch-Site", "same-origin"), http.StatusMethodNotAllowed)
	f.wantUnchanged("River's pages", before)
	if page := b.get("/ops"); strings.Contains(page.Header.Get("Content-Security-Policy"), "unsafe") {
		t.Error("our own pages have a weaker policy too")
	}
}
