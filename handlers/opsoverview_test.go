package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/operations"
)

// TestOverview: every part says how it stands, leads to its page, and says so when it could not be read.
func TestOverview(t *testing.T) {
	f := newFixture(t)
	house := f.deps.Operations
	b := f.as(operator)
	page := b.get("/ops")
	wantStatus(t, "overview", page, http.StatusOK)
	// Nothing was looked at yet, so nothing is good.
	wantSpaced(t, "before any check", page, "#tile-promises", "Not known")
	wantSpaced(t, "before any look", page, "#tile-accounts", "Stripe Not known")
	wantSpaced(t, "before any look", page, "#tile-parts", "Sign-in Unknown Payments Unknown Calls Unknown Texts Unknown Background work Unknown")
	wantSpaced(t, "a failed event", page, "#tile-webhooks", "Look here")
	wantSpaced(t, "nothing waits", page, "#tile-waiting", "Good None")
	wantSpaced(t, "credits", page, "#tile-credits", "1 payment of £50.00")
	if err := house.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "without a reason", b.send("/ops", "/ops/verify", url.Values{"reason": {" "}}), http.StatusUnprocessableEntity)
	res := b.send("/ops", "/ops/verify", url.Values{"reason": {"Asked for on the overview"}})
	wantStatus(t, "check", res, http.StatusSeeOther)
	page = b.get(res.Header.Get("Location"))
	wantSpaced(t, "checked", page, "#tile-promises", "hold")
	wantSpaced(t, "never compared", page, "#tile-numbers", "They were not compared yet.")
	for findings, want := range map[string]string{
		`{"orphans": 0, "missing": 0}`:                               "Good The same",
		`{"orphans": 2, "missing": 1, "unreached": 0}`:               "1 active here and not there, 2 there and nobody's here",
		`{"unreached": 1, "missing": 0, "something that is new": 1}`: "1 accounts not reached, 1 something that is new",
	} {
		dbtest.Super(t, f.dbURL, `INSERT INTO verifications (kind, at, actor, took_ms, checks, broken, failure, findings) VALUES ('numbers', now(), 'test', 1, 2, '{}', '', $1)`, findings)
		wantSpaced(t, findings, b.get("/ops"), "#tile-numbers", want)
	}
	dbtest.Super(t, f.dbURL, `INSERT INTO verifications (kind, at, actor, took_ms, checks, broken, failure) VALUES ('numbers', now(), 'test', 1, 0, '{}', 'Twilio slept')`)
	wantSpaced(t, "not finished", b.get("/ops"), "#tile-numbers", "The last comparison could not be finished: Twilio slept")
	dbtest.Super(t, f.dbURL, `UPDATE verifications SET at = now() - interval '4 hours', failure = '', broken = '{}'`)
	page = b.get("/ops")
	wantSpaced(t, "long ago", page, "#tile-numbers", "That was long ago: they are compared every hour.")
	wantSpaced(t, "long ago", page, "#tile-promises", "That was long ago: they are checked every quarter of an hour.")
	wantSpaced(t, "looked", page, "#tile-accounts", "Twilio")
	wantSpaced(t, "looked", page, "#tile-accounts", "$")
	wantSpaced(t, "looked", page, "#tile-parts", "Sign-in Works")
	// The sandbox's account at Stripe has nothing, which is below what is configured.
	wantSpaced(t, "low", page, "#tile-accounts", "Below £100.00: top the account up.")
	dbtest.Super(t, f.dbURL, `UPDATE stripe_events SET state = 'received', received_at = now() - interval '7 minutes'`)
	wantSpaced(t, "money is late", b.get("/ops"), "#tile-waiting", "Broken 7 min Money is late.")
	for _, link := range []string{"/ops/stripe-events", "/ops/stripe-events?state=received", "/ops/integrity", "/status", "/ops/incidents", "/ops/margin", "/ops/jobs", "/ops/audit?action=auth."} {
		if page.doc(t).Find(`a[href="`+link+`"]`).Length() == 0 {
			t.Errorf("nothing leads to %s", link)
		}
		if res := b.get(link); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", link, res.Status)
		}
	}
	part := b.get("/ops", "HX-Request", "true")
	if wantStatus(t, "live", part, http.StatusOK); strings.Contains(part.body, "<html") || part.doc(t).Find("#tile-jobs").Length() != 1 {
		t.Errorf("the live part is\n%s", part.body)
	}
	// What cannot be read says so, and takes nothing from the others.
	for table, tile := range map[string]string{"river_job": "#tile-jobs", "verifications": "#tile-promises", "probes": "#tile-parts", "provider_balances": "#tile-accounts", "credits": "#tile-credits"} {
		dbtest.Super(t, f.dbURL, `REVOKE SELECT ON `+table+` FROM ringfence_system`)
		page := b.get("/ops")
		wantStatus(t, "without "+table, page, http.StatusOK)
		wantSpaced(t, "without "+table, page, tile, "Not known")
		wantSpaced(t, "without "+table, page, "#tile-tokens", "Counted")
		dbtest.Super(t, f.dbURL, `GRANT SELECT ON `+table+` TO ringfence_system`)
	}
}

// TestRefusedJWTs: what does not hold is counted.
func TestRefusedJWTs(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	for range 3 {
		wantStatus(t, "a JWT", b.get("/api/v1/wallet", "Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), http.StatusUnauthorized)
	}
	wantSpaced(t, "counted", s.as(operator).get("/ops"), "#tile-tokens", "3 by this process")
}

// TestStatusPage: everybody may read it, it says only what everybody may know, and what is not known is not good.
func TestStatusPage(t *testing.T) {
	f := newFixture(t)
	house := f.deps.Operations
	stranger := f.browser()
	page := stranger.get("/status")
	wantStatus(t, "status", page, http.StatusOK)
	wantSpaced(t, "before any look", page, "#whole", "It is not known how everything stands")
	dbtest.Super(t, f.dbURL, `UPDATE incidents SET resolved_at = now()`)
	if err := house.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := f.as(operator)
	form := url.Values{"title": {"Calls <b>drop</b>"}, "impact": {"outage"}, "components": {"calls"}, "stage": {"investigating"}, "body": {"We look.\nSoon more."}, "reason": {"TICKET-1"}, "started_at": {"nonsense"}}
	res := o.send("/ops/incidents", "/ops/incidents", form)
	if wantStatus(t, "no time", res, http.StatusUnprocessableEntity); res.doc(t).Find("#started_at-error").Text() == "" || res.doc(t).Find("#title").AttrOr("value", "") != "Calls <b>drop</b>" || res.doc(t).Find("#part-calls[checked]").Length() != 1 {
		t.Errorf("the form did not come back as it was:\n%s", res.body)
	}
	form.Del("started_at")
	res = o.send("/ops/incidents", "/ops/incidents", form)
	wantStatus(t, "post", res, http.StatusSeeOther)
	path := strings.TrimSuffix(res.Header.Get("Location"), "?done=posted")
	page = stranger.get("/status")
	wantSpaced(t, "posted", page, "main", "Calls <b>drop</b>")
	wantSpaced(t, "posted", page, "#part-calls", "Does not work")
	wantSpaced(t, "posted", page, "#whole", "Something does not work")
	if page.Header.Get("Cache-Control") != "public, max-age=10" {
		t.Errorf("Cache-Control: %s", page.Header.Get("Cache-Control"))
	}
	var said struct {
		State      string
		Components []struct{ ID, State string }
		Incidents  []struct {
			Title      string
			ResolvedAt *string `json:"resolved_at"`
			Updates    []struct{ Body string }
		}
	}
	raw := stranger.get("/status.json")
	if err := json.Unmarshal([]byte(raw.body), &said); err != nil || said.State != "bad" || len(said.Components) != 5 || len(said.Incidents) != 2 || said.Incidents[0].Updates[0].Body != "We look.\nSoon more." {
		t.Errorf("%v: %s", err, raw.body)
	}
	// Signed in or not, it is the same page, and nobody's name is in it.
	for _, body := range []string{page.body, raw.body, o.get("/status").body} {
		for _, secret := range []string{"Harbour", "harbour", "Second Tenant", operator, "TICKET-1", "v0.", "go1.", "PostgreSQL", twilioAccount, "planted"} {
			if strings.Contains(body, secret) {
				t.Errorf("the public is told of %q:\n%s", secret, body)
			}
		}
	}
	if steady(o.get("/status").body) != steady(stranger.get("/status").body) {
		t.Error("an operator reads another page than everybody")
	}
	res = o.send(path, path, url.Values{"stage": {"resolved"}, "body": {" "}, "reason": {"r"}})
	if wantStatus(t, "nothing said", res, http.StatusUnprocessableEntity); res.doc(t).Find("#body-error").Text() == "" {
		t.Error("not told that something must be said")
	}
	wantStatus(t, "resolve", o.send(path, path, url.Values{"stage": {"resolved"}, "body": {"It was a cable."}, "reason": {"r"}}), http.StatusSeeOther)
	page = stranger.get("/status")
	wantSpaced(t, "over", page, "#past", "It was a cable.")
	wantSpaced(t, "over", page, "#part-calls", "Works")
	wantStatus(t, "again", o.send("/ops", path, url.Values{"stage": {"resolved"}, "body": {"x"}, "reason": {"r"}}), http.StatusConflict)
	wantStatus(t, "none", o.get("/ops/incidents/"+uuid.NewString()), http.StatusNotFound)
}

// TestStatusWithoutDatabase: the page stays, and says that nothing is known.
func TestStatusWithoutDatabase(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) {
			gone := dbtest.OpenURL(t, dbtest.URL(t), nil)
			if err := gone.Close(); err != nil {
				t.Fatal(err)
			}
			d.Operations = operations.New(operations.Options{
				DB: gone, Log: d.Log, Now: d.Now, SignIn: func(context.Context) error { return errors.New("planted") },
			})
		}
	})
	page := s.browser().get("/status")
	wantStatus(t, "status", page, http.StatusOK)
	wantSpaced(t, "without a database", page, "#whole", "It is not known how everything stands")
	wantSpaced(t, "without a database", page, "#components", "Sign-in Never looked at Unknown")
	if raw := s.browser().get("/status.json"); !strings.Contains(raw.body, `"state":"unknown"`) || strings.Contains(raw.body, `"good"`) {
		t.Errorf("%s", raw.body)
	}
}
