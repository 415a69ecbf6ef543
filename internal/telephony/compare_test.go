package telephony_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

func (s *shop) compare() telephony.Comparison {
	s.t.Helper()
	c, err := s.Compare(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func TestCompare(t *testing.T) {
	s := newShop(t)
	if c := s.compare(); !c.Clean() || c.Numbers != 0 {
		t.Errorf("nothing at all: %+v", c)
	}
	list := s.choose(3)
	kept, gone := s.have(list[0], "kept"), s.have(list[1], "gone")
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	s.api("POST", "/2010-04-01/Accounts/"+sid+"/IncomingPhoneNumbers.json", url.Values{"PhoneNumber": {"+12125550123"}}) // the customer's own business
	if c := s.compare(); !c.Clean() || c.Numbers != 2 || c.Accounts != 2 {
		t.Errorf("all as it should be: %+v", c)
	}

	// Each sort of difference is found, and only those.
	in := "/2010-04-01/Accounts/" + kept.AccountSID.String
	stray := s.api("POST", in+"/IncomingPhoneNumbers.json", url.Values{"PhoneNumber": {list[2]}})
	s.api("POST", "/2010-04-01/Accounts.json", url.Values{"FriendlyName": {"Ringfence " + s.org.String()}})
	s.api("DELETE", in+"/IncomingPhoneNumbers/"+gone.SID.String+".json", nil)
	s.vapiDelete(gone.VapiID.String)
	c := s.compare()
	if len(c.Orphans) != 2 || len(c.Missing) != 2 || len(c.Unknown) != 0 || len(c.Unreached) != 0 || c.Clean() {
		t.Errorf("%+v", c)
	}
	for _, o := range c.Orphans {
		if o.OrgID != s.org || o.PhoneNumber != "" && o.ID != stray["sid"] {
			t.Errorf("an orphan %+v", o)
		}
	}
	for _, m := range c.Missing {
		if m.Number.ID != gone.ID {
			t.Errorf("missing is %+v", m)
		}
	}

	// What is under way is no difference; what is unknown is said.
	r := s.request(s.choose(5)[4], "waits")
	r.OrgID = s.other
	n, err := s.Buy(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultCutAfterActing})
	for n.State != telephony.NumberUnknown {
		n = s.stepped(n)
	}
	if c := s.compare(); len(c.Orphans) != 2 || len(c.Unknown) != 1 || c.Unknown[0].ID != n.ID {
		t.Errorf("with one that is unknown: %+v", c)
	}
	s.run(n)

	// A provider that does not answer is said, and nothing is concluded from its silence.
	s.faults(sandbox.Fault{Match: sandbox.ListImported, Do: sandbox.Fault503, Times: -1}, sandbox.Fault{Match: sandbox.ListNumbers, Do: sandbox.Fault503, Times: -1},
		sandbox.Fault{Match: "GET /2010-04-01/Accounts.json", Do: sandbox.Fault503, Times: -1})
	c = s.compare()
	if len(c.Orphans) != 0 || len(c.Missing) != 0 || len(c.Unreached) != 5 || c.Accounts != 0 || c.Clean() {
		t.Errorf("with nobody there: %+v", c)
	}
	for _, u := range c.Unreached {
		if u.Why == "" || strings.Contains(u.Why, "+1") {
			t.Errorf("unreached: %+v", u)
		}
	}
	s.faults()
	s.vault = newVault(t, func() string { k, _, _ := keysets(t); return k }())
	s.Numbers = s.open(s.box.URL(), 0)
	if c := s.compare(); len(c.Unreached) != 1 || c.Unreached[0].AccountSID != sid {
		t.Errorf("with a credential that does not open: %+v", c.Unreached)
	}
	// What was broken by hand is mended, for the check at the end.
	s.api("DELETE", in+"/IncomingPhoneNumbers/"+stray["sid"].(string)+".json", nil) //nolint:errcheck // the sandbox's own words
}

// TestForeignAnswers: what stands between us and a provider may answer in its place. Its words prove nothing: neither that
// something is gone, nor that it was refused.
func TestForeignAnswers(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	var answer atomic.Value // what is said instead of passing on
	answer.Store("")
	var on atomic.Value
	on.Store("")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if said := answer.Load().(string); said != "" && strings.HasPrefix(r.Method+" "+r.URL.Path, on.Load().(string)) { //nolint:errcheck // always strings
			status, body, _ := strings.Cut(said, " ")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(map[string]int{"201": http.StatusCreated, "400": http.StatusBadRequest, "404": http.StatusNotFound}[status])
			_, _ = io.WriteString(w, body)
			return
		}
		out, err := http.NewRequestWithContext(r.Context(), r.Method, s.box.URL()+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		out.Header = r.Header.Clone()
		out.ContentLength = r.ContentLength
		res, err := http.DefaultClient.Do(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	t.Cleanup(proxy.Close)
	s.Numbers = s.open(proxy.URL, 0)
	n = s.release(n)
	for _, at := range []struct {
		on   string
		step telephony.Step
	}{{"DELETE /vapi/phone-number/", telephony.StepVapiDelete}, {"DELETE /2010-04-01/Accounts/", telephony.StepTwilioRelease}} {
		for _, said := range []string{"404 <html>not here</html>", "404 {}", `404 {"message":"no Route matched with those values"}`} {
			on.Store(at.on)
			answer.Store(said)
			n = s.stepped(n)
			if n.Step != at.step || n.Tries == 0 {
				t.Errorf("%s from a stranger, to %s: it is at %s", said, at.on, n.Step)
			}
		}
		answer.Store("")
		n = s.stepped(n)
	}
	s.wantState(s.run(n), telephony.NumberReleased, "")

	// Nor is a purchase refused by a stranger's word, or done by one about another number: it is looked for.
	for i, said := range []string{"400 <html>bad request</html>", `201 {"sid":"PN00112233445566778899aabbccddeeff","phone_number":"+12125550123"}`, "201 {}"} {
		s.org = s.other
		if i > 0 {
			s.customer()
		}
		b := s.buy(s.choose(1)[0], "next")
		on.Store("POST /2010-04-01/Accounts/")
		answer.Store(said)
		for b.State != telephony.NumberUnknown && b.Step != "" {
			b = s.stepped(b)
		}
		answer.Store("")
		s.wantEnd(s.run(b), telephony.NumberFailed, telephony.StepPurchase)
	}
}

// Without the providers' keys numbers are off, and say so.
func TestNumbersOff(t *testing.T) {
	d := dbtest.Open(t, nil)
	off, err := telephony.NewNumbers(telephony.NumbersOptions{DB: d})
	if err != nil || off.On() {
		t.Fatal(off.On(), err)
	}
	ctx := context.Background()
	if _, err := off.Buy(ctx, telephony.BuyRequest{OrgID: uuid.New(), PhoneNumber: "+14155550100", Key: "k"}); err == nil {
		t.Error("bought without a provider")
	}
	if n, err := off.Sweep(ctx); n != 0 || err != nil {
		t.Error(n, err)
	}
	if _, err := off.Compare(ctx); err == nil {
		t.Error("compared without a provider")
	}
	if err := off.Advance(ctx, uuid.New(), uuid.New()); err == nil {
		t.Error("a number was brought on without a provider")
	}
}

// The providers answer too late, by our own patience.
func TestProvidersAreSlow(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	s.Numbers = s.open(s.box.URL(), 1500*time.Millisecond) // a loaded machine needs some for what is not slow
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultTimeoutAfterActing}, sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultTimeoutAfterActing})
	s.wantEnd(s.run(n), telephony.NumberActive, "")
}

// What an operator decides about a finding waits as a job with its reason in the log, and is not done without one.
func TestAskMend(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	m := telephony.Mend{What: telephony.MendConnection, OrgID: s.org, Number: n.ID, Actor: audit.Operator(uuid.New()), Reason: " "}
	if f := fault.As(s.AskMend(t.Context(), m)); f.Field != "reason" {
		t.Errorf("without a reason: %v", f)
	}
	if jobs := s.count(`SELECT count(*) FROM river_job WHERE kind = 'mend'`); jobs != 0 {
		t.Errorf("%d jobs without a reason", jobs)
	}
	m.Reason = "TICKET-1"
	if err := s.AskMend(audit.WithRequestID(t.Context(), "REQUEST"), m); err != nil {
		t.Fatal(err)
	}
	if jobs := s.count(`SELECT count(*) FROM river_job WHERE kind = 'mend' AND args->>'reason' = 'TICKET-1' AND args->>'request_id' = 'REQUEST'`); jobs != 1 {
		t.Errorf("%d jobs", jobs)
	}
	if rows := s.count(`SELECT count(*) FROM audit_log WHERE action = 'integrity.mend' AND subject = $1 AND reason = 'TICKET-1' AND org_id = $2`, "number:"+n.ID.String(), s.org); rows != 1 {
		t.Errorf("%d rows in the log", rows)
	}
	if err := s.Mend(t.Context(), telephony.Mend{What: "everything"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("nothing that there is: %v", err)
	}
}

// What points at numbers that are gone is taken away, of every organisation, and nothing else.
func TestUnpoint(t *testing.T) {
	s := newShop(t)
	list := s.choose(2)
	kept, gone := s.have(list[0], "kept"), s.have(list[1], "gone")
	works, points := s.agent(kept), s.agent(gone)
	s.run(s.release(gone))
	dbtest.Super(t, s.dbURL, `UPDATE agents SET number_id = $2 WHERE id = $1`, points, gone.ID)
	unpoint := func(want int) {
		t.Helper()
		if n, err := s.Unpoint(t.Context(), audit.Operator(uuid.New()), "TICKET-2"); err != nil || n != want {
			t.Errorf("%d things were taken away, want %d: %v", n, want, err)
		}
	}
	unpoint(1)
	if n := s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id = $2`, works, kept.ID); n != 1 {
		t.Error("an agent lost a number that works")
	}
	if n := s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id IS NULL`, points); n != 1 {
		t.Error("an agent points at what is gone")
	}
	unpoint(0)
	if n := s.count(`SELECT count(*) FROM credentials`); n != 1 {
		t.Errorf("%d credentials are kept while a number needs one", n)
	}

	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, s.dbURL, `CREATE TABLE left_behind AS TABLE credentials`)
	dbtest.Super(t, s.dbURL, `DELETE FROM left_behind WHERE kind <> 'managed'`)
	s.run(s.release(kept))
	dbtest.Super(t, s.dbURL, `INSERT INTO credentials TABLE left_behind`)
	dbtest.Super(t, s.dbURL, `DROP TABLE left_behind`)
	unpoint(1)
	if ours, own := s.count(`SELECT count(*) FROM credentials WHERE kind = 'managed'`), s.count(`SELECT count(*) FROM credentials WHERE kind = 'byoc'`); ours != 0 || own != 1 {
		t.Errorf("%d credentials of ours and %d own ones are left", ours, own)
	}
}

// A number at Vapi can be read and changed; one that is not there is neither.
func TestVapiNumber(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	before, after, err := s.RenameAtVapi(t.Context(), n.VapiID.String, "Reception")
	if err != nil || before != n.ID.String() || after != "Reception" {
		t.Errorf("%q became %q, %v", before, after, err)
	}
	if _, _, err := s.RenameAtVapi(t.Context(), uuid.NewString(), "Nobody"); err == nil || !strings.Contains(err.Error(), "Vapi refused (status 404") {
		t.Errorf("one that is not there: %v", err)
	}
}
