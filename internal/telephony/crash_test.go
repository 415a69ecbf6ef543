package telephony_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db/dbtest"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// plant has the database refuse every text that is to come to a state, until it is lifted.
func (d *desk) plant(state telephony.State) (lift func()) {
	d.t.Helper()
	dbtest.Super(d.t, d.dbURL, `
		CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';
		CREATE TRIGGER planted BEFORE INSERT OR UPDATE ON messages FOR EACH ROW WHEN (NEW.state = '`+string(state)+`') EXECUTE FUNCTION planted()`)
	return func() { dbtest.Super(d.t, d.dbURL, `DROP TRIGGER planted ON messages; DROP FUNCTION planted`) }
}

// wantAgree holds our texts against Twilio's: each of Twilio's is one of ours and paid for, and nothing else is.
func (d *desk) wantAgree() {
	d.t.Helper()
	var ours []struct {
		SID    string          `db:"sid"`
		State  telephony.State `db:"state"`
		Amount int64           `db:"amount_pence"`
	}
	dbtest.Select(d.t, d.dbURL, &ours, `SELECT coalesce(sid, '') AS sid, state, amount_pence FROM messages`)
	paid := map[string]bool{}
	for _, m := range ours {
		if (m.SID != "") != (m.Amount > 0) {
			d.t.Errorf("a text that is %s and Twilio's %q cost %dp", m.State, m.SID, m.Amount)
		}
		paid[m.SID] = m.Amount > 0
	}
	books := d.twilio.Books()
	for _, m := range books.Messages {
		if !paid[m.SID] {
			d.t.Errorf("Twilio's %s is not paid for", m.SID)
		}
	}
	if asked := books.Creations.Asked; asked > 1 {
		d.t.Errorf("Twilio was asked to send %d times", asked)
	}
}

// TestDatabaseFails: each step's transaction fails, whatever Twilio does meanwhile. The text goes out once at most, and the
// wallet is whole again when the sweeper has been there.
func TestDatabaseFails(t *testing.T) {
	twilio := map[string]sandbox.Fault{
		"accepts":          {},
		"loses the answer": {Do: sandbox.FaultCutAfterActing},
		"answers too late": {Do: sandbox.FaultTimeoutAfterActing},
		"500":              {Do: sandbox.Fault500},
		"429":              {Do: sandbox.Fault429},
		"refuses":          {Do: sandbox.FaultRefuse, Code: 21211},
	}
	for _, state := range []telephony.State{telephony.Queued, telephony.Sending, telephony.Sent, telephony.Failed} {
		for name, f := range twilio {
			t.Run(string(state)+", Twilio "+name, func(t *testing.T) {
				d := newDesk(t)
				if f.Do != "" {
					f.Match = sandbox.MakeMessage
					d.faults(f)
				}
				lift := d.plant(state)
				m, err := d.Send(t.Context(), d.text("k", "Hello"))
				if err == nil && m.State != telephony.Sending && m.State != telephony.Sent {
					t.Errorf("told that it is %s", m.State)
				}
				if state == telephony.Sent && name == "accepts" && (err != nil || m.State != telephony.Sending) {
					t.Errorf("a text that Twilio has is told as %s, %v", m.State, err)
				}
				d.clock.Advance(61 * time.Second)
				_, _ = d.Sweep(t.Context()) // the database may still fail it
				lift()
				d.faults()
				for range 6 {
					d.clock.Advance(31 * time.Second)
					d.sweep()
				}
				if state == telephony.Queued && d.count(`SELECT count(*) FROM messages`)+d.count(`SELECT count(*) FROM holds`) > 0 {
					t.Error("what failed in its first transaction is stored")
				}
				if n := d.count(`SELECT count(*) FROM messages WHERE state IN ('queued', 'sending')`); n > 0 {
					t.Errorf("%d texts hang", n)
				}
				d.wantAgree()
				spent := len(d.twilio.Books().Messages) * 10
				d.wantWallet(100-money.Pence(spent), 0)
			})
		}
	}
}

func (d *desk) count(query string) (n int) {
	d.t.Helper()
	dbtest.Get(d.t, d.dbURL, &n, query)
	return n
}

// TestAnswers is what each kind of answer to sending a text means.
func TestAnswers(t *testing.T) {
	d := newDesk(t)
	const sending = "on its way"
	var status atomic.Int64
	var body atomic.Value
	var connections atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, body.Load().(string)) //nolint:errcheck // always a string
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	messages, err := telephony.New(telephony.Options{
		DB: d.db, Gates: d.gates, Log: slog.New(slog.DiscardHandler), Now: d.clock.Now, AccountSID: account, AuthToken: token,
		APIBase: srv.URL, From: sender, BaseURL: d.base,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		status int
		body   string
		want   string // a code, or on its way
	}{
		{400, `{"code":21211,"message":"no","status":400}`, "not_sendable"},
		{403, `{"code":21408,"message":"no","status":403}`, "not_sendable"},
		{400, `{"code":21610,"message":"no","status":400}`, "opted_out"},
		{400, `{"code":21611,"message":"too many wait","status":400}`, "provider_unavailable"},
		{401, `{"code":20003,"message":"Authenticate","status":401}`, "provider_unavailable"},
		{403, `{"code":20005,"message":"Account not active","status":403}`, "provider_unavailable"},
		{404, `{"code":20404,"message":"no such account","status":404}`, "provider_unavailable"},
		{429, `{"code":20429,"message":"Too Many Requests","status":429}`, "provider_unavailable"},
		{500, `{"code":20500,"message":"oh","status":500}`, sending},
		{503, `{"code":20503,"message":"oh","status":503}`, sending},
		// Not Twilio's own words.
		{400, `{}`, sending},
		{403, `<html>`, sending},
		{408, ``, sending},
		{429, `slow down`, sending},
		{502, `<html>`, sending},
		{302, ``, sending},
		{201, `{`, sending},
		{201, `{}`, sending},
	} {
		status.Store(int64(c.status))
		body.Store(c.body)
		r := d.text(fmt.Sprint(i), "Hello")
		r.To = fmt.Sprintf("+4474001234%02d", i) // who opts out is nobody else's
		m, err := messages.Send(t.Context(), r)
		got := sending
		if err != nil {
			got = fault.As(err).Code
		}
		if got != c.want || (got == sending) != (m.State == telephony.Sending) {
			t.Errorf("%d %s: %s, %s (%v); want %s", c.status, c.body, got, m.State, err, c.want)
		}
		if m.State == telephony.Sending { // make room in the wallet
			d.news(m, fmt.Sprint("SM", i), "failed", "30008")
		}
	}
	if n := connections.Load(); n > 3 {
		t.Errorf("18 requests took %d connections", n)
	}
	srv.Close()
	_, err = messages.Send(t.Context(), d.text("nobody", "Hello"))
	wantFault(t, "nobody there", err, fault.Unavailable, "provider_unavailable")
	d.wantWallet(100, 0)
}

// A text counts as not sent only after two looks that were had: a list that could not be read is none.
func TestTwoLooks(t *testing.T) {
	d := newDesk(t)
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.Fault500}, sandbox.Fault{Match: allOfThem, Do: sandbox.Fault500, Times: -1})
	m := d.send(d.text("k", "Hello"))
	for range 5 {
		d.clock.Advance(31 * time.Second)
		d.sweepRefused()
	}
	d.faults()
	for _, state := range []telephony.State{telephony.Sending, telephony.Failed} {
		d.clock.Advance(31 * time.Second)
		d.sweep()
		d.wantState(m, state, 0)
	}
	d.wantWallet(100, 0)
}

// Who says STOP while a text waits to be sent does not get it.
func TestOptOutWhileQueued(t *testing.T) {
	d := newDesk(t)
	m, err := d.Queue(t.Context(), d.text("k", "Hello"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Receive(t.Context(), telephony.Inbound{SID: "SM1", From: handset, To: sender, Body: "stop"}); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(61 * time.Second)
	d.sweep()
	d.wantState(m, telephony.Failed, 0)
	d.wantWallet(100, 0)
	d.wantMade(0)
	_, err = d.Send(t.Context(), d.text("k", "Hello"))
	wantFault(t, "the same key", err, fault.Declined, "opted_out")
}

// Twilio may tell of an opt-out only afterwards; and a text that it sends after all, when we had given it up, stays unpaid.
func TestLateNews(t *testing.T) {
	d := newDesk(t)
	m := d.send(d.text("k", "Hello"))
	d.news(m, m.SID.String, "failed", "21610")
	d.wantState(m, telephony.Failed, 0)
	d.wantWallet(100, 0)
	_, err := d.Send(t.Context(), d.text("next", "Hello"))
	wantFault(t, "the next one", err, fault.Declined, "opted_out")
	d.wantMade(1)

	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultTimeout})
	r := d.text("lost", "Hello")
	r.To = "+447400123999"
	lost := d.send(r)
	for range 5 {
		d.clock.Advance(31 * time.Second)
		d.sweep()
	}
	d.wantState(lost, telephony.Failed, 0)
	d.news(lost, "SM00000000000000000000000000000000", "delivered", "")
	d.wantState(lost, telephony.Failed, 0)
	d.wantWallet(100, 0)
}

// Of strangers' words and numbers nothing is kept.
func TestStrangers(t *testing.T) {
	d := newDesk(t)
	for i, words := range []string{"When are you open?", "Help", "🦷"} {
		if _, err := d.Receive(t.Context(), telephony.Inbound{SID: fmt.Sprint("SM", i), From: handset, To: sender, Body: words}); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.count(`SELECT count(*) FROM inbound_texts`); n != 0 {
		t.Errorf("%d were kept", n)
	}
}

func TestMetrics(t *testing.T) {
	d := newDesk(t)
	registry := prometheus.NewRegistry()
	d.Register(registry)
	m := d.send(d.text("k", "Hello"))
	for range 2 {
		d.news(m, m.SID.String, "delivered", "")
	}
	if _, err := d.Queue(t.Context(), d.text("q", "Hello")); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(2 * time.Minute)
	d.sweep()
	if genuine, err := d.Genuine(t.Context(), "/", nil, "x"); genuine || err != nil {
		t.Errorf("nobody's signature is genuine: %v", err)
	}
	if _, err := d.Receive(t.Context(), telephony.Inbound{SID: "SM1", From: handset, To: sender, Body: "stop"}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"ringfence_messages_total sent": 2, "ringfence_messages_total delivered": 1, "ringfence_messages_repaired_total queued": 1,
		"ringfence_twilio_callbacks_total moved": 1, "ringfence_twilio_callbacks_total known": 1,
		"ringfence_twilio_callbacks_total bad_signature": 1, "ringfence_twilio_callbacks_total inbound_stop": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
