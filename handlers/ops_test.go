package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"ringfence/db/dbtest"
)

const operator = "operator@ringfence.example"

// plant writes n events of one state, the first the newest.
func (s *site) plant(n int, prefix, kind, state, reason string) {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `
		INSERT INTO stripe_events (id, type, payload, state, reason, attempts, org_id, top_up_id, payment_intent, occurred_at, received_at, next_attempt_at, processed_at)
		SELECT $1 || lpad(i::text, 4, '0'), $2, '{"a":1}', $3, $4, 2, $5, '01900000-0000-7000-8000-00000000000a', 'pi_' || $1 || i, at, at, at, at
		FROM generate_series(1, $6::int) i, LATERAL (SELECT now() - i * interval '1 second' AS at) moment`, prefix, kind, state, reason, s.org, n)
}

// rows are the ids of the events in the list.
func rows(doc *goquery.Document) (ids []string) {
	doc.Find(`tbody td[data-heading] .font-mono`).Each(func(_ int, s *goquery.Selection) { ids = append(ids, s.Text()) })
	return ids
}

func TestEventsList(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	empty := b.get("/ops/stripe-events")
	wantStatus(t, "no events", empty, http.StatusOK)
	if text := empty.doc(t).Find("#events").Text(); !strings.Contains(text, "No events yet") {
		t.Errorf("no events: %s", text)
	}

	s.plant(60, "evt_p", "payment_intent.succeeded", "processed", "")
	s.plant(3, "evt_q", "charge.updated", "quarantined", "paid by <b>nobody</b>")
	res := b.get("/ops/stripe-events")
	doc := res.doc(t)
	if n := len(rows(doc)); n != 50 || doc.Find(`[data-count="quarantined"]`).Text() != "3" || doc.Find(`[data-count="processed"]`).Text() != "60" {
		t.Errorf("%d rows; the counts say %s", n, doc.Find("#event-counts").Text())
	}
	if !strings.Contains(res.body, "Harbour Dental") || !strings.Contains(res.body, "paid by &lt;b&gt;nobody&lt;/b&gt;") || strings.Contains(res.body, "<b>nobody") {
		t.Error("the rows do not tell whose the events are and why they are there")
	}
	// The pages are one list.
	seen := map[string]bool{}
	for next, pages := "/ops/stripe-events", 0; ; pages++ {
		doc := b.get(next).doc(t)
		for _, id := range rows(doc) {
			if seen[id] {
				t.Errorf("%s is listed twice", id)
			}
			seen[id] = true
		}
		var more bool
		if next, more = doc.Find("#older").Attr("href"); !more || pages > 3 {
			break
		}
	}
	if len(seen) != 63 {
		t.Errorf("the pages hold %d events, want 63", len(seen))
	}

	for query, n := range map[string]int{
		"state=quarantined": 3, "state=failed": 0, "type=charge.updated": 3, "q=evt_q0002": 1, "q=pi_evt_q2": 1, "q=+evt_q0002+": 1,
		"q=01900000-0000-7000-8000-00000000000a&state=quarantined": 3, "q=nothing": 0, "type=a%00b": 0, "q=%ff%00": 0,
		"before=1.x": 0, "q=" + url.QueryEscape(`"><script>alert(1)</script>`): 0,
	} {
		res := b.get("/ops/stripe-events?" + query)
		wantStatus(t, query, res, http.StatusOK)
		if got := len(rows(res.doc(t))); got != n {
			t.Errorf("%s gives %d rows, want %d", query, got, n)
		}
		if n == 0 && !strings.Contains(res.body, "Nothing fits") && !strings.Contains(res.body, "Nothing older") {
			t.Errorf("%s: an empty list without a word", query)
		}
		if strings.Contains(res.body, "<script>alert") {
			t.Errorf("%s: what was asked for is not escaped", query)
		}
	}
	// What somebody looks for stays when they choose a state, and the other way round.
	doc = b.get("/ops/stripe-events?state=quarantined&type=charge.updated&q=evt_q0002").doc(t)
	if got := doc.Find(`form[role=search] input[name=state]`).AttrOr("value", ""); got != "quarantined" {
		t.Errorf("the form drops the state: %q", got)
	}
	if got := doc.Find(`#event-counts [aria-current]`).AttrOr("href", ""); got != "/ops/stripe-events?q=evt_q0002&state=quarantined&type=charge.updated" {
		t.Errorf("the state's link is %q", got)
	}
	for _, bad := range []string{"state=none", "before=x", "before=.", "before=-1.evt", "before=99999999999999999999.evt", "before=1.a%00b"} {
		wantStatus(t, bad, b.get("/ops/stripe-events?"+bad), http.StatusNotFound)
	}
}

func TestOldestWaitingEvent(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	s.plant(1, "evt_r", "charge.updated", "received", "")
	if doc := b.get("/ops/stripe-events").doc(t); doc.Find("#oldest-waiting").Length() != 1 || doc.Find("#late").Length() != 0 {
		t.Error("the age of the oldest event that waits is not shown, or shown as late")
	}
	dbtest.Super(t, s.dbURL, `UPDATE stripe_events SET received_at = now() - interval '2 hours 5 minutes 30 seconds'`)
	if text := b.get("/ops/stripe-events").doc(t).Find("#late").Text(); !strings.Contains(text, "2 h 5 min") {
		t.Errorf("late: %q", text)
	}
}

func TestEventPage(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	hostile := `{"id":"evt_1","type":"payment_intent.succeeded","created":1,"data":{"object":{"object":"payment_intent","id":"pi_1","description":"</pre><script>alert(1)</script>"}}}`
	wantStatus(t, "delivery", b.deliver([]byte(hostile)), http.StatusOK)
	wantStatus(t, "delivery", b.deliver([]byte("not json \x00\x1b[31m\xff")), http.StatusOK)

	res := b.get("/ops/stripe-events/evt_1")
	wantStatus(t, "event", res, http.StatusOK)
	if strings.Contains(res.body, "<script>alert") || !strings.Contains(res.doc(t).Find("pre").Text(), "    \"object\": {\n      \"object\": \"payment_intent\",") {
		t.Errorf("the payload:\n%s", res.doc(t).Find("pre").Text())
	}
	var unreadable string
	dbtest.Get(t, s.dbURL, &unreadable, `SELECT id FROM stripe_events WHERE id <> 'evt_1'`)
	doc := b.get("/ops/stripe-events/" + unreadable).doc(t)
	if got := doc.Find("pre").Text(); got != "not json \ufffd\ufffd[31m\ufffd" || !strings.Contains(doc.Find("#payload").Text(), "not JSON") || !strings.Contains(doc.Find("#event-reason").Text(), "couldn't be read") {
		t.Errorf("the raw payload: %q\n%s", got, doc.Find("main").Text())
	}
	for id, body := range map[string]string{"evt_1": hostile, unreadable: "not json \x00\x1b[31m\xff"} {
		res := b.get("/ops/stripe-events/" + id + "/payload")
		wantStatus(t, "payload", res, http.StatusOK)
		if res.body != body || res.Header.Get("Content-Type") != "application/octet-stream" || res.Header.Get("Content-Disposition") != `attachment; filename="`+id+`.json"` ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("payload of %s: %q %v", id, res.body, res.Header)
		}
	}
	for _, id := range []string{"evt_none", "a%00b", "%ff", "..%2f..", strings.Repeat("x", 300)} {
		for _, p := range []string{"", "/payload"} {
			wantStatus(t, id+p, b.get("/ops/stripe-events/"+id+p), http.StatusNotFound)
		}
	}
	// Waiting, so it asks again, by script or without.
	doc = b.get("/ops/stripe-events/evt_1").doc(t)
	poll := doc.Find("#event [hx-get]").AttrOr("hx-get", "")
	if doc.Find("noscript").Length() != 1 || doc.Find("#replay").Length() != 0 || poll == "" {
		t.Errorf("an event that waits: polls %q", poll)
	}
	wantStatus(t, "nothing new", b.get(poll, "HX-Request", "true"), http.StatusNoContent)
	dbtest.Super(t, s.dbURL, `UPDATE stripe_events SET state = 'processed', processed_at = now()`)
	res = b.get(poll, "HX-Request", "true")
	wantStatus(t, "settled", res, http.StatusOK)
	if strings.Contains(res.body, "<html") || !strings.Contains(res.body, "Processed") || strings.Contains(res.body, "hx-get") || !strings.Contains(res.body, "Replay this event") {
		t.Errorf("the part that is asked for again:\n%s", res.body)
	}
}

// A payload of any size and shape is shown in bounded time and space.
func TestLargePayloads(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	s.plant(1, "evt_", "charge.updated", "ignored", "")
	for name, body := range map[string]string{
		"long":  `{"text":"` + strings.Repeat("é", 400_000) + `"}`,
		"deep":  strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
		"quote": `{"a":"[[[\"[[[\\"}`,
		"empty": "",
	} {
		dbtest.Super(t, s.dbURL, `UPDATE stripe_events SET payload = $1`, []byte(body))
		res := b.get("/ops/stripe-events/evt_0001")
		wantStatus(t, name, res, http.StatusOK)
		if len(res.body) > 200<<10 {
			t.Errorf("%s: the page has %d bytes", name, len(res.body))
		}
		if cut := strings.Contains(res.body, "It goes on."); cut != (name == "long") {
			t.Errorf("%s: says it was cut: %t", name, cut)
		}
		if got := b.get("/ops/stripe-events/evt_0001/payload").body; got != body {
			t.Errorf("%s: the download has %d bytes, want %d", name, len(got), len(body))
		}
	}
}

func TestReplay(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	s.plant(1, "evt_q", "payment_intent.succeeded", "quarantined", "no such customer")
	const page = "/ops/stripe-events/evt_q0001"

	for reason, message := range map[string]string{"  ": "Say why", strings.Repeat("x", 501): "within 500", "a\x00b": "one line"} {
		res := b.send(page, page+"/replay", url.Values{"reason": {reason}})
		wantStatus(t, "without a good reason", res, http.StatusUnprocessableEntity)
		doc := res.doc(t)
		if !strings.Contains(doc.Find("#reason-error").Text(), message) || doc.Find("#reason").AttrOr("aria-invalid", "") != "true" {
			t.Errorf("%.20q: %q", reason, doc.Find("#reason-error").Text())
		}
		if len(reason) > 500 && doc.Find("#reason").AttrOr("value", "") != reason {
			t.Error("what was typed is gone")
		}
	}
	for _, who := range []string{"owner@harbour.example", "viewer@harbour.example", "owner@second.example"} {
		o := s.as(who)
		wantStatus(t, who, o.send("/wallet", page+"/replay", url.Values{"reason": {"mine"}}), http.StatusNotFound)
		wantStatus(t, who, o.send("/wallet", "/ops/stripe-events/replay-failed", url.Values{"reason": {"mine"}, "confirm": {"yes"}}), http.StatusNotFound)
		for _, p := range []string{"/ops", "/ops/stripe-events", page, page + "/payload", "/ops/stripe-events/replay-failed"} {
			wantStatus(t, who, o.get(p), http.StatusNotFound)
		}
		if o.get("/dashboard").doc(t).Find(`a[href^="/ops"]`).Length() != 0 {
			t.Errorf("%s is shown the way to the operations", who)
		}
	}
	if n := s.count(`SELECT count(*) FROM stripe_events WHERE state = 'received'`) + s.count(`SELECT count(*) FROM audit_log WHERE action = 'stripe_event.replayed'`); n != 0 {
		t.Fatal("a refused replay did something")
	}

	res := b.send(page, page+"/replay", url.Values{"reason": {"TICKET-7: customer <restored>"}})
	wantStatus(t, "replay", res, http.StatusSeeOther)
	if got := res.Header.Get("Location"); got != page {
		t.Errorf("leads to %q", got)
	}
	doc := b.get(page).doc(t)
	if text := doc.Find("#history").Text(); !strings.Contains(text, "Replayed, was quarantined") || !strings.Contains(text, operator) ||
		!strings.Contains(text, "TICKET-7: customer <restored> (before: no such customer)") {
		t.Errorf("the history says %s", text)
	}
	if !strings.Contains(doc.Find("#event-state").Text(), "Waiting") {
		t.Errorf("the state is %s", doc.Find("#event-state").Text())
	}
	var row struct {
		Actor, Reason, Detail string
		Request               string `db:"request_id"`
	}
	dbtest.Get(t, s.dbURL, &row, `SELECT actor, reason, detail::text, request_id FROM audit_log WHERE action = 'stripe_event.replayed' AND subject = 'evt_q0001'`)
	var detail struct{ From string }
	if err := json.Unmarshal([]byte(row.Detail), &detail); err != nil || detail.From != "quarantined" || !strings.HasPrefix(row.Actor, "operator:") || row.Request == "" {
		t.Errorf("the audit row is %+v, %v", row, err)
	}
	wantStatus(t, "again at once", b.send("/ops/stripe-events", page+"/replay", url.Values{"reason": {"x"}}), http.StatusConflict)
	wantStatus(t, "no such event", b.send("/ops/stripe-events", "/ops/stripe-events/evt_none/replay", url.Values{"reason": {"x"}}), http.StatusNotFound)
}

func TestReplayFailed(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	const page, list = "/ops/stripe-events/replay-failed", "/ops/stripe-events"
	if doc := b.get(list).doc(t); doc.Find("#replay-failed").Length() != 0 {
		t.Error("a replay of nothing is offered")
	}
	if doc := b.get(page).doc(t); doc.Find("main form").Length() != 0 || !strings.Contains(doc.Text(), "Nothing has failed") {
		t.Error("a replay of nothing can be asked for")
	}
	s.plant(3, "evt_f", "payment_intent.succeeded", "failed", "deadline")
	s.plant(2, "evt_q", "payment_intent.succeeded", "quarantined", "no such customer")
	if got := b.get(list).doc(t).Find("#replay-failed").AttrOr("href", ""); got != page {
		t.Errorf("the list leads to %q", got)
	}
	if got := b.get(page).doc(t).Find("#failed-count").Text(); !strings.Contains(got, "3 events failed") {
		t.Errorf("the page says %q", got)
	}
	res := b.send(page, page, url.Values{"reason": {"disk"}})
	wantStatus(t, "not confirmed", res, http.StatusUnprocessableEntity)
	if doc := res.doc(t); !strings.Contains(doc.Find("#confirm-error").Text(), "Tick") || doc.Find("#reason").AttrOr("value", "") != "disk" {
		t.Error("what is missing is not said beside the box")
	}
	res = b.send(page, page, url.Values{"confirm": {"yes"}})
	wantStatus(t, "no reason", res, http.StatusUnprocessableEntity)
	if !strings.Contains(res.doc(t).Find("#reason-error").Text(), "Say why") {
		t.Error("what is missing is not said beside the field")
	}
	res = b.send(page, page, url.Values{"confirm": {"yes"}, "reason": {"disk"}})
	wantStatus(t, "all", res, http.StatusSeeOther)
	if got := b.get(res.Header.Get("Location")).doc(t).Find("#replayed").Text(); !strings.Contains(got, "3 events put back") {
		t.Errorf("the outcome says %q", got)
	}
	if n := s.count(`SELECT count(*) FROM stripe_events WHERE state = 'received'`); n != 3 {
		t.Errorf("%d wait", n)
	}
}

// Looking at the operators' pages changes nothing, and is quick however often the oldest page is asked for.
func TestLookingChangesNothing(t *testing.T) {
	s := newSite(t)
	b := s.as(operator)
	s.plant(2, "evt_f", "charge.updated", "failed", "x")
	before := s.count(`SELECT count(*) FROM audit_log`)
	for _, p := range []string{
		"/ops", "/ops/stripe-events", "/ops/stripe-events/evt_f0001", "/ops/stripe-events/evt_f0001/payload", "/ops/stripe-events/replay-failed",
		fmt.Sprintf("/ops/stripe-events?before=%d.evt", time.Now().UnixMicro()),
	} {
		if res := b.get(p, "Sec-Fetch-Site", "cross-site"); res.StatusCode >= 400 {
			t.Errorf("%s: %s", p, res.Status)
		}
	}
	if s.count(`SELECT count(*) FROM audit_log`) != before || s.count(`SELECT count(*) FROM stripe_events WHERE state = 'failed'`) != 2 {
		t.Error("a GET changed something")
	}
}
