package telephony_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	account = "AC00112233445566778899aabbccddeeff"
	token   = "0123456789abcdef0123456789abcdef"
	sender  = "+15005550006"
	handset = "+447400123456"
)

// desk is messages over a database and the sandbox's Twilio, on one clock that is moved by hand.
type desk struct {
	*telephony.Messages

	t          *testing.T
	db         *db.DB
	dbURL      string
	clock      *dbtest.Clock
	gates      *wallet.Gates
	twilio     *sandbox.Twilio
	base       string
	org, other uuid.UUID
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, clock: &dbtest.Clock{}, dbURL: dbtest.URL(t)}
	d.db = dbtest.OpenURL(t, d.dbURL, d.clock.Now)
	err := d.db.InSystemTx(t.Context(), "a test's exchange rate", func(ctx context.Context, tx *db.Tx) error {
		rate, err := money.ParseRate("0.79")
		if err != nil {
			return err
		}
		return wallet.FirstRate(ctx, tx, rate)
	})
	if err != nil {
		t.Fatal(err)
	}
	d.org, d.other = wallettest.Org(t, d.db, "Harbour Dental", 1_00), wallettest.Org(t, d.db, "Second Tenant", 1_00)
	// What the server does with a request of Twilio's, without a server.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseForm()
		genuine := false
		if err == nil {
			genuine, err = d.Genuine(r.Context(), r.URL.RequestURI(), r.PostForm, r.Header.Get("X-Twilio-Signature"))
		}
		if err != nil || !genuine {
			http.Error(w, "not Twilio", http.StatusForbidden)
			return
		}
		f := r.PostForm
		if err := d.StatusChanged(r.Context(), r.URL.Query().Get("message"), telephony.Status{SID: f.Get("MessageSid"), Status: f.Get("MessageStatus"), ErrorCode: f.Get("ErrorCode"), AccountSID: f.Get("AccountSid")}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(srv.Close)
	box, err := sandbox.Start(context.Background(), sandbox.Options{
		Addr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "sandbox"), Logger: slog.New(slog.DiscardHandler), Now: d.clock.Now,
		TwilioAccountSID: account, TwilioAuthToken: token, TwilioSMSURL: srv.URL, TwilioSettleAfter: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	d.twilio, d.base = box.Twilio(), srv.URL
	d.gates = wallet.NewGates(wallet.GateOptions{DB: d.db, Now: d.clock.Now, Log: slog.New(slog.DiscardHandler)})
	d.Messages, err = telephony.New(telephony.Options{
		DB: d.db, Gates: d.gates, Log: slog.New(slog.DiscardHandler), Now: d.clock.Now, AccountSID: account, AuthToken: token,
		APIBase: box.URL(), From: sender, BaseURL: srv.URL, Timeout: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wallettest.CheckBooks(t, d.db, telephony.Invariants...) })
	return d
}

func (d *desk) text(key, body string) telephony.SendRequest {
	return telephony.SendRequest{OrgID: d.org, To: handset, Body: body, Key: key, Actor: audit.System("test")}
}

func (d *desk) send(r telephony.SendRequest) telephony.Message {
	d.t.Helper()
	m, err := d.Send(d.t.Context(), r)
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

func (d *desk) message(id uuid.UUID) telephony.Message {
	d.t.Helper()
	m, err := d.Message(d.t.Context(), d.org, id)
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

func (d *desk) sweep() {
	d.t.Helper()
	if _, err := d.Sweep(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) faults(rules ...sandbox.Fault) {
	d.t.Helper()
	if err := d.twilio.SetFaults(rules...); err != nil {
		d.t.Fatal(err)
	}
}

// news tells a status as Twilio does.
func (d *desk) news(m telephony.Message, sid, status, code string) {
	d.t.Helper()
	if err := d.StatusChanged(d.t.Context(), m.ID.String(), telephony.Status{SID: sid, Status: status, ErrorCode: code}); err != nil {
		d.t.Fatal(err)
	}
}

// wantWallet holds the balance and what is held against what they should be, in pence.
func (d *desk) wantWallet(balance, held money.Pence) {
	d.t.Helper()
	found, err := wallet.New(d.db).Balances(d.t.Context(), []uuid.UUID{d.org})
	if err != nil {
		d.t.Fatal(err)
	}
	if b := found[d.org]; b.Balance != balance || b.Held != held {
		d.t.Errorf("balance %s with %s held, want %s with %s", b.Balance, b.Held, balance, held)
	}
}

func (d *desk) wantState(m telephony.Message, state telephony.State, amount money.Pence) {
	d.t.Helper()
	if got := d.message(m.ID); got.State != state || got.Amount != amount {
		d.t.Errorf("the text is %s and cost %s, want %s and %s (%s)", got.State, got.Amount, state, amount, got.Note)
	}
}

// wantMade holds how many texts Twilio has.
func (d *desk) wantMade(n int) {
	d.t.Helper()
	if got := len(d.twilio.Books().Messages); got != n {
		d.t.Errorf("Twilio has %d texts, want %d", got, n)
	}
}

func wantFault(t *testing.T, what string, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no fault, want kind %d, code %q", what, kind, code)
	} else if f := fault.As(err); f.Kind != kind || f.Code != code {
		t.Errorf("%s: %v (code %q), want kind %d, code %q", what, err, f.Code, kind, code)
	}
}

// onlyDelivered has undelivered texts cost nothing from now on.
func (d *desk) onlyDelivered() {
	d.t.Helper()
	err := d.db.InSystemTx(d.t.Context(), "a test's price", func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.SetPrice(ctx, tx, wallet.PriceChange{
			Action: wallet.ActionSMS, Prefix: "44", State: wallet.PriceOn, Unit: 10, Reason: "Delivered texts only", Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.clock.Advance(2 * time.Second) // the rate card is remembered for a second
}

func TestSend(t *testing.T) {
	d := newDesk(t)
	m := d.send(d.text("k", "Hello £"))
	if m.State != telephony.Sent || m.Segments != 1 || m.Recipient != handset || m.Sender != sender || !m.SID.Valid {
		t.Errorf("%+v", m)
	}
	d.wantWallet(90, 0)
	d.wantMade(1)
	if b := d.twilio.Books().Messages[0]; b.Body != "Hello £" || b.To != handset || b.SID != m.SID.String || b.Segments != 1 {
		t.Errorf("Twilio has %+v", b)
	}
	d.news(m, m.SID.String, "delivered", "")
	d.wantState(m, telephony.Delivered, 10)
	d.wantWallet(90, 0)

	again := d.send(d.text("k", "Hello £"))
	if !again.Repeated || again.ID != m.ID {
		t.Errorf("the same key: %+v", again)
	}
	d.wantMade(1)
	_, err := d.Send(t.Context(), d.text("k", "Hello"))
	wantFault(t, "another text with the key", err, fault.Conflict, "idempotency_key_reused")
	long := d.send(d.text("long", strings.Repeat("ü€", 100))) // 300 places
	if long.Segments != 2 {
		t.Errorf("%d segments", long.Segments)
	}
	d.wantWallet(70, 0)
}

func TestSendRefusals(t *testing.T) {
	d := newDesk(t)
	for what, c := range map[string]struct {
		change func(*telephony.SendRequest)
		field  string
	}{
		"no number":        {func(r *telephony.SendRequest) { r.To = "hello" }, "to"},
		"a drama's number": {func(r *telephony.SendRequest) { r.To = "+447700900123" }, "to"},
		"no text":          {func(r *telephony.SendRequest) { r.Body = " \n" }, "body"},
		"too long":         {func(r *telephony.SendRequest) { r.Body = strings.Repeat("x", 1601) }, "body"},
		"a NUL":            {func(r *telephony.SendRequest) { r.Body = "a\x00b" }, "body"},
		"not UTF-8":        {func(r *telephony.SendRequest) { r.Body = "a\xffb" }, "body"},
		"foreign sender":   {func(r *telephony.SendRequest) { r.From = "+447400123999" }, "from"},
		"no key":           {func(r *telephony.SendRequest) { r.Key = "" }, "idempotency_key"},
	} {
		r := d.text("key "+what, "Hello")
		c.change(&r)
		_, err := d.Send(t.Context(), r)
		if f := fault.As(err); err == nil || f.Kind != fault.Invalid || f.Field != c.field {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := d.text("caribbean", "Hello")
	r.To = "+18765551234"
	_, err := d.Send(t.Context(), r)
	wantFault(t, "a destination that is not offered", err, fault.Forbidden, "destination_not_offered")
	_, err = d.Send(t.Context(), d.text("poor", strings.Repeat("x", 1600))) // 11 segments for £1.00
	wantFault(t, "no money", err, fault.Unpaid, "insufficient_funds")
	if f := fault.As(err); f.Members["required_pence"] != 110 || f.Members["available_pence"] != 100 || f.Members["shortfall_pence"] != 10 {
		t.Errorf("figures %v", f.Members)
	}
	d.wantMade(0)
	d.wantWallet(100, 0)
	var n int
	dbtest.Get(t, d.dbURL, &n, `SELECT count(*) FROM messages`)
	if n != 0 {
		t.Errorf("%d texts were stored", n)
	}
	off, err := telephony.New(telephony.Options{DB: d.db, Gates: d.gates, Log: slog.New(slog.DiscardHandler), Now: d.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = off.Send(t.Context(), d.text("off", "Hello"))
	wantFault(t, "without an account", err, fault.Unavailable, "texts_off")
}

// What Twilio refuses is told at once, costs nothing, and a repeat is told the same without asking again.
func TestTwilioRefuses(t *testing.T) {
	d := newDesk(t)
	for to, c := range map[string]struct {
		kind fault.Kind
		code string
	}{
		"+15005550001": {fault.Declined, "not_sendable"},
		"+15005550002": {fault.Declined, "not_sendable"},
		"+15005550009": {fault.Declined, "not_sendable"},
		"+15005550004": {fault.Declined, "opted_out"},
	} {
		for range 2 {
			r := d.text(to, "Hello")
			r.To = to
			m, err := d.Send(t.Context(), r)
			wantFault(t, to, err, c.kind, c.code)
			d.wantState(m, telephony.Failed, 0)
		}
	}
	if n := d.twilio.Books().Creations.Asked; n != 4 {
		t.Errorf("Twilio was asked %d times", n)
	}
	d.wantWallet(100, 0)
	// What Twilio said about STOP is remembered: the next one is refused before any money is asked.
	r := d.text("again", "Hello")
	r.To = "+15005550004"
	_, err := d.Send(t.Context(), r)
	wantFault(t, "opted out at Twilio", err, fault.Declined, "opted_out")
	if n := d.twilio.Books().Creations.Asked; n != 4 {
		t.Errorf("Twilio was asked %d times", n)
	}
}

// TestFaults: whatever goes wrong while Twilio is asked, the text goes out once at most, and is paid for if and only if it
// did.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault sandbox.Fault
		// told is what the caller hears; Internal with no code for "on its way".
		told fault.Kind
		code string
		made int
	}{
		{"answered too late", sandbox.Fault{Do: sandbox.FaultTimeoutAfterActing}, fault.Internal, "", 1},
		{"answer lost", sandbox.Fault{Do: sandbox.FaultCutAfterActing}, fault.Internal, "", 1},
		{"500 after acting", sandbox.Fault{Do: sandbox.Fault500AfterActing}, fault.Internal, "", 1},
		{"never answered", sandbox.Fault{Do: sandbox.FaultTimeout}, fault.Internal, "", 0},
		{"500", sandbox.Fault{Do: sandbox.Fault500}, fault.Internal, "", 0},
		{"503", sandbox.Fault{Do: sandbox.Fault503}, fault.Internal, "", 0},
		{"429", sandbox.Fault{Do: sandbox.Fault429}, fault.Unavailable, "provider_unavailable", 0},
		{"wrong credentials", sandbox.Fault{Do: sandbox.FaultRefuse, Code: 20003}, fault.Unavailable, "provider_unavailable", 0},
		{"refused", sandbox.Fault{Do: sandbox.FaultRefuse, Code: 21408}, fault.Declined, "not_sendable", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			c.fault.Match = sandbox.MakeMessage
			d.faults(c.fault)
			m, err := d.Send(t.Context(), d.text("k", "Hello"))
			if c.told == fault.Internal {
				if err != nil || m.State != telephony.Sending {
					t.Fatalf("%s, %v", m.State, err)
				}
				d.wantWallet(100, 10) // nobody knows yet
			} else {
				wantFault(t, "told", err, c.told, c.code)
				d.wantWallet(100, 0)
			}
			d.faults()
			for range 6 { // two minutes and a half
				d.clock.Advance(31 * time.Second)
				d.sweep()
			}
			again, _ := d.Send(t.Context(), d.text("k", "Hello")) // that it is the same is what counts
			if again.ID != m.ID {
				t.Errorf("a repeat is %s, not %s", again.ID, m.ID)
			}
			d.wantMade(c.made)
			if c.made == 1 {
				d.wantState(m, telephony.Sent, 10)
				d.wantWallet(90, 0)
			} else {
				d.wantState(m, telephony.Failed, 0)
				d.wantWallet(100, 0)
			}
		})
	}
}

// The same words to the same person twice, and both answers lost: each is found once.
func TestTwins(t *testing.T) {
	d := newDesk(t)
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing, Times: 2})
	a, b := d.send(d.text("a", "Hello")), d.send(d.text("b", "Hello"))
	d.clock.Advance(31 * time.Second)
	d.sweep()
	d.wantState(a, telephony.Sent, 10)
	d.wantState(b, telephony.Sent, 10)
	if d.message(a.ID).SID == d.message(b.ID).SID {
		t.Error("both have the same text of Twilio's")
	}
	d.wantMade(2)
	d.wantWallet(80, 0)
}

// A process that dies between the steps leaves a text that is sent once, or not at all and paid back.
func TestDeadProcess(t *testing.T) {
	d := newDesk(t)
	queued, err := d.Queue(t.Context(), d.text("queued", "Hello"))
	if err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(30 * time.Second)
	d.sweep()
	d.wantState(queued, telephony.Queued, 0) // somebody may be about to send it
	d.clock.Advance(31 * time.Second)
	d.sweep()
	d.wantState(queued, telephony.Sent, 10)
	d.wantMade(1)

	old, err := d.Queue(t.Context(), d.text("old", "Hello"))
	if err != nil {
		t.Fatal(err)
	}
	taken, err := d.Queue(t.Context(), d.text("taken", "Hello, you"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Take(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	d.wantWallet(90, 20)
	d.clock.Advance(16 * time.Minute)
	if _, err := d.gates.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.sweep() // looks once for the one, and finds the other too old
	d.wantState(old, telephony.Failed, 0)
	d.wantState(taken, telephony.Sending, 0)
	d.clock.Advance(31 * time.Second)
	d.sweep()
	d.wantState(taken, telephony.Failed, 0)
	d.wantMade(1)
	d.wantWallet(90, 0)
}

// Two sweepers and the sender at once: one text goes out.
func TestSweepersAtOnce(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		if _, err := d.Queue(t.Context(), d.text(fmt.Sprint(i), fmt.Sprintf("Hello %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	d.clock.Advance(2 * time.Minute)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(d.sweep)
	}
	for i := range 5 {
		wg.Go(func() {
			if _, err := d.Send(t.Context(), d.text(fmt.Sprint(i), fmt.Sprintf("Hello %d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d.wantMade(5)
	d.wantWallet(50, 0)
}

func TestSameKeyAtOnce(t *testing.T) {
	d := newDesk(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := d.Send(t.Context(), d.text("k", "Hello")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d.wantMade(1)
	d.wantWallet(90, 0)
}

// Two at once on the last penny: one goes out.
func TestLastPenny(t *testing.T) {
	d := newDesk(t)
	err := d.db.InTx(t.Context(), []uuid.UUID{d.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{OrgID: d.org, Kind: wallet.Adjustment, Amount: -90, Reason: "Test", Reference: "r", Actor: audit.System("test")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { _, errs[i] = d.Send(t.Context(), d.text(fmt.Sprint(i), "Hello")) })
	}
	wg.Wait()
	sent := 0
	for _, err := range errs {
		if err == nil {
			sent++
		} else {
			wantFault(t, "the others", err, fault.Unpaid, "insufficient_funds")
		}
	}
	if sent != 1 {
		t.Errorf("%d went out on the last penny", sent)
	}
	d.wantMade(1)
	d.wantWallet(0, 0)
}

// Every order of what Twilio says, with every repeat, ends the same.
func TestStatusesInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		final          string
		code           string
		onlyDelivered  bool
		state          telephony.State
		amount, wallet money.Pence
	}{
		{"delivered", "", false, telephony.Delivered, 10, 90},
		{"undelivered", "30003", false, telephony.Undelivered, 10, 90},
		{"failed", "30008", false, telephony.Failed, 0, 100},
		{"delivered", "", true, telephony.Delivered, 10, 90},
		{"undelivered", "30003", true, telephony.Undelivered, 0, 100},
		{"failed", "30008", true, telephony.Failed, 0, 100},
	} {
		for _, order := range [][]string{{"sending", "sent", c.final}, {c.final, "sent", "sending"}, {"sent", c.final, "sending", c.final, "sent"}, {c.final}} {
			t.Run(fmt.Sprintf("%s %t %v", c.final, c.onlyDelivered, order), func(t *testing.T) {
				d := newDesk(t)
				if c.onlyDelivered {
					d.onlyDelivered()
				}
				// The answer is lost, so that the first news are also the first to name Twilio's text.
				d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing})
				m := d.send(d.text("k", "Hello"))
				sid := d.twilio.Books().Messages[0].SID
				for _, status := range order {
					code := ""
					if status == c.final {
						code = c.code
					}
					d.news(m, sid, status, code)
				}
				d.wantState(m, c.state, c.amount)
				d.wantWallet(c.wallet, 0)
				d.news(m, "SM00000000000000000000000000000000", "failed", "30008") // another text's
				d.wantState(m, c.state, c.amount)
			})
		}
	}
}

// A network that never tells: the text counts as delivered in the end, and until then Twilio is asked now and then.
func TestNoNews(t *testing.T) {
	d := newDesk(t)
	d.onlyDelivered()
	m := d.send(d.text("k", "Hello"))
	d.wantWallet(100, 10)
	d.clock.Advance(6 * time.Minute)
	d.sweep()
	d.wantState(m, telephony.Sent, 0)
	if err := d.twilio.Mark(m.SID.String, "undelivered", 30003); err != nil {
		t.Fatal(err)
	}
	other := d.send(d.text("other", "Hello"))
	d.clock.Advance(4*time.Hour + time.Minute)
	d.sweep()
	d.wantState(m, telephony.Undelivered, 0)
	d.wantState(other, telephony.Delivered, 10)
	d.wantWallet(90, 0)
}

// What the sandbox tells by itself, signed, reaches the text.
func TestCallbacks(t *testing.T) {
	d := newDesk(t)
	m := d.send(d.text("k", "Hello"))
	if err := d.twilio.Mark(m.SID.String, "failed", 30008); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); d.message(m.ID).State != telephony.Failed; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still %s; callbacks %+v", d.message(m.ID).State, d.twilio.Callbacks(m.SID.String))
		}
	}
	d.wantWallet(100, 0) // it was charged when it was handed over, and is given back
	if err := d.StatusChanged(t.Context(), uuid.NewString(), telephony.Status{SID: "SM1", Status: "delivered"}); err != nil {
		t.Errorf("a text that is not here: %v", err)
	}
	wantFault(t, "no text", d.StatusChanged(t.Context(), "x", telephony.Status{SID: "SM1", Status: "delivered"}), fault.Malformed, "")
}

func TestSignatures(t *testing.T) {
	d := newDesk(t)
	const path = "/api/webhooks/twilio/sms?x=1"
	form := url.Values{"MessageSid": {"SM1"}, "Body": {"STOP"}, "From": {handset}}
	good := sign(token, d.base+path, form)
	for what, c := range map[string]struct {
		path, signature string
		form            url.Values
		want            bool
	}{
		"genuine":         {path, good, form, true},
		"another secret":  {path, sign("x"+token, d.base+path, form), form, false},
		"another address": {path, sign(token, "https://evil.example"+path, form), form, false},
		"another path":    {"/api/webhooks/twilio/status", good, form, false},
		"another query":   {"/api/webhooks/twilio/sms?x=2", good, form, false},
		"no signature":    {path, "", form, false},
		"changed":         {path, good, url.Values{"MessageSid": {"SM1"}, "Body": {"START"}, "From": {handset}}, false},
		"one more":        {path, good, url.Values{"MessageSid": {"SM1"}, "Body": {"STOP"}, "From": {handset}, "To": {sender}}, false},
		"one twice":       {path, good, url.Values{"MessageSid": {"SM1"}, "Body": {"STOP", "START"}, "From": {handset}}, false},
	} {
		if got, err := d.Genuine(t.Context(), c.path, c.form, c.signature); got != c.want || err != nil {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func TestOptOut(t *testing.T) {
	d := newDesk(t)
	const british = "+447400123999"
	receive := func(sid, to, body string) string {
		t.Helper()
		reply, err := d.Receive(t.Context(), telephony.Inbound{SID: sid, From: handset, To: to, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	out := func() bool {
		var n int
		dbtest.Get(t, d.dbURL, &n, `SELECT count(*) FROM opt_outs WHERE recipient = $1`, handset)
		return n > 0
	}
	n := 0
	for _, word := range []string{"STOP", "stop", " Stop. ", "Stop!", "UNSUBSCRIBE", "stopall", "cancel", "End", "quit"} {
		n++
		receive(fmt.Sprint("SM", n), sender, word)
		if !out() {
			t.Errorf("%q was not obeyed", word)
		}
		n++
		receive(fmt.Sprint("SM", n), sender, []string{"START", "yes", "Unstop"}[n%3])
		if out() {
			t.Error("START was not obeyed")
		}
	}
	for _, word := range []string{"Please stop calling", "stopping", "", "END OF STORY", "HELP"} {
		n++
		receive(fmt.Sprint("SM", n), sender, word)
		if out() {
			t.Errorf("%q is no wish to stop", word)
		}
	}
	// Twilio answers for numbers of the United States itself; for others we do.
	if reply := receive("US", sender, "STOP"); reply != "" {
		t.Errorf("replied %q beside Twilio", reply)
	}
	if reply := receive("GB", british, "STOP"); !strings.Contains(reply, "START") {
		t.Errorf("replied %q", reply)
	}
	if reply := receive("GB2", british, "HELP"); !strings.Contains(reply, "STOP") {
		t.Errorf("replied %q", reply)
	}
	_, err := d.Send(t.Context(), d.text("k", "Hello"))
	wantFault(t, "opted out", err, fault.Declined, "opted_out")
	d.wantWallet(100, 0)
	d.wantMade(0)
	receive("again", sender, "START")
	receive("US", sender, "STOP") // delivered twice: it counted when it came first
	d.send(d.text("k", "Hello"))  // nothing was stored under the key when it was refused
	d.wantWallet(90, 0)
	dbtest.Get(t, d.dbURL, &n, `SELECT count(*) FROM audit_log WHERE action IN ('optout.added', 'optout.lifted') AND subject = $1`, "number:"+handset)
	if n < 20 {
		t.Errorf("%d audit rows", n)
	}
}

// One organisation sees nothing of another's texts, whoever asks.
func TestTenants(t *testing.T) {
	d := newDesk(t)
	m := d.send(d.text("k", "Hello"))
	if _, err := d.Message(t.Context(), d.other, m.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another's text: %v", err)
	}
	for org, want := range map[uuid.UUID]uuid.UUID{d.org: m.ID, d.other: uuid.Nil} {
		if got, err := d.PaidBy(t.Context(), org, m.HoldID); err != nil || got != want {
			t.Errorf("the hold pays for text %s, %v, want %s", got, err, want)
		}
	}
	if list, err := d.List(t.Context(), d.other, uuid.Nil, 10); err != nil || len(list) != 0 {
		t.Errorf("%d texts are listed, %v", len(list), err)
	}
	if list, err := d.List(t.Context(), d.org, uuid.Nil, 10); err != nil || len(list) != 1 {
		t.Errorf("%d texts are listed, %v", len(list), err)
	}
	err := d.db.InTx(t.Context(), []uuid.UUID{d.other}, func(ctx context.Context, tx *db.Tx) error {
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM messages`); err != nil || n != 0 {
			t.Errorf("row-level security alone lets %d texts through, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The same key is another text there.
	r := d.text("k", "Other")
	r.OrgID = d.other
	if got := d.send(r); got.Repeated {
		t.Error("the other organisation's key is not its own")
	}
}

// sign is Twilio's signature of a form.
func sign(secret, address string, form url.Values) string {
	params := map[string]string{}
	for name, values := range form {
		params[name] = values[0]
	}
	return signature(address, params, secret)
}
