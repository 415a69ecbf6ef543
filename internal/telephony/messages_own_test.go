package telephony_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// ownDesk is a shop whose organisation texts from its own numbers. Twilio's word on a text comes over HTTP, as it was signed.
type ownDesk struct {
	*shop
	*telephony.Messages
	base string
	// heard is how requests of Twilio's were answered.
	heard chan int
}

func newOwnDesk(t *testing.T) *ownDesk {
	t.Helper()
	d := &ownDesk{shop: newShop(t), heard: make(chan int, 100)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusForbidden
		genuine := r.ParseForm() == nil
		if genuine {
			genuine, _ = d.Genuine(r.Context(), r.URL.RequestURI(), r.PostForm, r.Header.Get("X-Twilio-Signature"))
		}
		f := r.PostForm
		said := telephony.Status{SID: f.Get("MessageSid"), Status: f.Get("MessageStatus"), ErrorCode: f.Get("ErrorCode"), AccountSID: f.Get("AccountSid")}
		if genuine && d.StatusChanged(r.Context(), r.URL.Query().Get("message"), said) == nil {
			status = http.StatusNoContent
		}
		w.WriteHeader(status)
		d.heard <- status
	}))
	t.Cleanup(srv.Close)
	d.base = srv.URL
	var err error
	d.Messages, err = telephony.New(telephony.Options{
		DB: d.db, Gates: d.gates(), Log: d.logger(), Now: d.clock.Now, AccountSID: account, AuthToken: token, APIBase: d.box.URL(), From: sender, BaseURL: srv.URL,
		Timeout: 500 * time.Millisecond, Vault: d.vault,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *ownDesk) text(from, key string) telephony.SendRequest {
	return telephony.SendRequest{OrgID: d.org, To: handset, From: from, Body: "Hello " + key, Key: key, Actor: audit.System("test")}
}

func (d *ownDesk) send(from, key string) telephony.Message {
	d.t.Helper()
	m, err := d.Send(d.t.Context(), d.text(from, key))
	if err != nil {
		d.t.Fatal(err)
	}
	return m
}

func (d *ownDesk) wantText(m telephony.Message, state telephony.State, amount int64) {
	d.t.Helper()
	got, err := d.Message(d.t.Context(), d.org, m.ID)
	if err != nil || got.State != state || int64(got.Amount) != amount {
		d.t.Errorf("the text is %s and cost %s (%s), %v; want %s and %dp", got.State, got.Amount, got.Note, err, state, amount)
	}
}

// lives gives the account at Twilio in which a text is.
func (d *ownDesk) lives(m telephony.Message) string {
	d.t.Helper()
	list := d.twilio.Books().Messages
	i := slices.IndexFunc(list, func(b sandbox.BookedMessage) bool { return b.SID == m.SID.String })
	if i < 0 {
		d.t.Fatalf("Twilio does not have %q", m.SID.String)
	}
	return list[i].Account
}

func (d *ownDesk) next(want int) {
	d.t.Helper()
	select {
	case got := <-d.heard:
		if got != want {
			d.t.Errorf("Twilio's word was answered %d, want %d", got, want)
		}
	case <-time.After(10 * time.Second):
		d.t.Error("Twilio said nothing")
	}
}

// TestTextsFromOwnNumbers: a text goes out from the organisation's own number, in that number's account, and only that account's
// word on it is believed.
func TestTextsFromOwnNumbers(t *testing.T) {
	d := newOwnDesk(t)
	n := d.have(d.choose(1)[0], "number")
	d.wantWallet(d.org, 20_00, 0, 0)
	if !n.Texts {
		t.Fatalf("%s sends no texts", n.PhoneNumber)
	}
	m := d.send(n.PhoneNumber, "own")
	if m.Sender != n.PhoneNumber || m.NumberID.UUID != n.ID || m.State != telephony.Sent || d.lives(m) != n.AccountSID.String {
		t.Errorf("%+v, in %s", m, d.lives(m))
	}
	if again := d.send(" "+n.PhoneNumber, "own"); again.ID != m.ID || !again.Repeated {
		t.Errorf("the same key: %+v", again)
	}
	shared := d.send("", "shared")
	if shared.Sender != sender || shared.NumberID.Valid || d.lives(shared) != account {
		t.Errorf("the shared sender: %+v", shared)
	}
	d.wantWallet(d.org, 19_80, 0, 0)

	// Its account signs its statuses; whoever else may sign for themselves says nothing about it.
	own, err := d.vault.OpenCredential(t.Context(), d.db, d.org, telephony.Managed)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(signs, accountSID string, about telephony.Message) int {
		path := "/api/webhooks/twilio/status?message=" + about.ID.String()
		form := url.Values{"MessageSid": {about.SID.String}, "MessageStatus": {"failed"}, "ErrorCode": {"30008"}, "AccountSid": {accountSID}, "From": {about.Sender}, "To": {handset}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.base+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Twilio-Signature", sign(signs, d.base+path, form))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		<-d.heard
		return res.StatusCode
	}
	for what, c := range map[string]struct {
		signs, account string
		about          telephony.Message
	}{
		"our account about it":          {token, account, m},
		"our token for its account":     {token, n.AccountSID.String, m},
		"its account about ours":        {own, n.AccountSID.String, shared},
		"an account that nobody knows":  {"x", "AC" + strings.Repeat("0", 32), m},
		"its token for another account": {own, account, m},
	} {
		if got := tell(c.signs, c.account, c.about); got != http.StatusForbidden {
			t.Errorf("%s: %d", what, got)
		}
	}
	d.wantWallet(d.org, 19_80, 0, 0)
	for _, status := range []string{"sending", "sent", "delivered"} {
		if err := d.twilio.Advance(m.SID.String); err != nil {
			t.Fatal(status, err)
		}
		d.next(http.StatusNoContent)
	}
	d.wantText(m, telephony.Delivered, 10)

	// Who does not want texts from it is not texted from it, and may be from others.
	stop := telephony.Inbound{SID: "SM1", From: handset, To: n.PhoneNumber, Body: "STOP", AccountSID: n.AccountSID.String}
	if _, err := d.Receive(t.Context(), stop); err != nil {
		t.Fatal(err)
	}
	_, err = d.Send(t.Context(), d.text(n.PhoneNumber, "stopped"))
	wantFault(t, "after a STOP", err, fault.Declined, "opted_out")
	d.send("", "shared still")
	// Twilio's own list of them is the number's as well.
	stop.SID, stop.Body = "SM2", "START"
	if _, err := d.Receive(t.Context(), stop); err != nil {
		t.Fatal(err)
	}
	if _, err := d.twilio.Receive("+12025550123", n.PhoneNumber, "STOP"); err != nil {
		t.Fatal(err)
	}
	toUS := d.text(n.PhoneNumber, "us")
	toUS.To = "+12025550123"
	_, err = d.Send(t.Context(), toUS)
	wantFault(t, "one whom Twilio has on its list", err, fault.Declined, "opted_out")
	if got := d.count(`SELECT count(*) FROM opt_outs WHERE org_id = $1 AND sender = $2 AND recipient = '+12025550123'`, d.org, n.PhoneNumber); got != 1 {
		t.Errorf("the wish is noted %d times for the number", got)
	}
	d.wantWallet(d.org, 19_70, 0, 0)
}

// Only the organisation's own active numbers that send texts are senders; nothing is charged for the others.
func TestOwnSenderRefusals(t *testing.T) {
	d := newOwnDesk(t)
	list := d.choose(2)
	n, calls := d.have(list[0], "number"), d.have(list[1], "calls only")
	dbtest.Super(t, d.dbURL, `UPDATE numbers SET texts = false WHERE id = $1`, calls.ID)
	theirs := "+14155550177"
	dbtest.Super(t, d.dbURL, `
		INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, failed_step, note, key, fingerprint, actor, created_at, ended_at)
		VALUES ($1, $2, $3, 'US', 'byoc', 'failed', '', 'purchase', '', 'theirs', sha256('x'), 'system:test', now(), now())`, uuid.New(), d.other, theirs)
	for what, from := range map[string]string{
		"another organisation's": theirs, "nobody's": "+14155550188", "no number": "hello", "one that only takes calls": calls.PhoneNumber, "letters": "RINGFENCE",
	} {
		_, err := d.Send(t.Context(), d.text(from, what))
		wantField(t, what, err, "from")
	}
	other := d.text(n.PhoneNumber, "by another organisation")
	other.OrgID = d.other
	_, err := d.Send(t.Context(), other)
	wantField(t, "our number, by another organisation", err, "from")
	if got, err := d.OwnNumbers(t.Context(), d.org); err != nil || len(got) != 2 || !got[0].Sends || got[0].PhoneNumber != n.PhoneNumber || got[1].Sends {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := d.OwnNumbers(t.Context(), d.other); err != nil || len(got) != 0 {
		t.Errorf("theirs are %+v, %v", got, err)
	}
	if got := d.count(`SELECT count(*) FROM messages`) + len(d.twilio.Books().Messages); got != 0 {
		t.Errorf("%d texts were made", got)
	}
	d.wantWallet(d.org, 10_00, 0, 0)

	dbtest.Super(t, d.dbURL, `DELETE FROM numbers WHERE org_id = $1`, d.other) // planted

	// One that is given back between the steps sends nothing, and its money is free.
	m, err := d.Queue(t.Context(), d.text(n.PhoneNumber, "late"))
	if err != nil {
		t.Fatal(err)
	}
	d.release(n)
	_, err = d.Send(t.Context(), d.text(n.PhoneNumber, "late"))
	wantFault(t, "a number that is being given back", err, fault.Unavailable, "provider_unavailable")
	d.wantText(m, telephony.Failed, 0)
	_, err = d.Send(t.Context(), d.text(n.PhoneNumber, "later"))
	wantField(t, "a number that is being given back", err, "from")
	d.wantWallet(d.org, 10_00, 0, 0)
}

// The customer's own account has a token that the customer has too: its word on a text only has Twilio asked.
func TestTextsFromOwnAccount(t *testing.T) {
	d := newOwnDesk(t)
	sid, secret := d.ownAccount()
	if _, err := d.saveOwn(sid, secret); err != nil {
		t.Fatal(err)
	}
	d.setMode(telephony.BYOC)
	n := d.have(d.choose(1)[0], "own")
	m := d.send(n.PhoneNumber, "k")
	if d.lives(m) != sid {
		t.Errorf("it is in %s, want %s", d.lives(m), sid)
	}
	d.wantWallet(d.org, 29_90, 0, 0)
	path := "/api/webhooks/twilio/status?message=" + m.ID.String()
	form := url.Values{"MessageSid": {m.SID.String}, "MessageStatus": {"failed"}, "ErrorCode": {"30008"}, "AccountSid": {sid}, "From": {n.PhoneNumber}, "To": {handset}}
	if genuine, err := d.Genuine(t.Context(), path, form, sign(secret, d.base+path, form)); !genuine || err != nil {
		t.Errorf("its own account's signature: %t, %v", genuine, err)
	}
	if err := d.StatusChanged(t.Context(), m.ID.String(), telephony.Status{SID: m.SID.String, Status: "failed", ErrorCode: "30008", AccountSID: sid}); err != nil {
		t.Error(err)
	}
	d.wantText(m, telephony.Sent, 10) // Twilio knows of no failure
	if err := d.twilio.Mark(m.SID.String, "undelivered", 30003); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.next(http.StatusNoContent)
	}
	d.wantText(m, telephony.Undelivered, 10)

	// A token that was changed at Twilio is said, and nothing is charged.
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultRefuse, Code: 20003})
	_, err := d.Send(t.Context(), d.text(n.PhoneNumber, "refused"))
	if f := fault.As(err); f == nil || !strings.Contains(f.Public, "own Twilio account") {
		t.Errorf("a token that is refused: %v", err)
	}
	// An answer that was lost is looked for in that account; where nobody can look any more, nobody pays.
	for _, gone := range []bool{false, true} {
		d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing})
		lost := d.send(n.PhoneNumber, map[bool]string{false: "lost", true: "gone"}[gone])
		d.wantText(lost, telephony.Sending, 0)
		if gone {
			d.run(d.release(n))
		}
		for range 6 {
			d.clock.Advance(time.Minute)
			if _, err := d.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if gone {
			d.wantText(lost, telephony.Failed, 0)
		} else {
			d.wantText(lost, telephony.Sent, 10)
		}
	}
	d.wantWallet(d.org, 29_80, 0, 0)
}

// A text from a number that was given back since is still asked about: our account may look into its own subaccount.
func TestTextsAfterRelease(t *testing.T) {
	d := newOwnDesk(t)
	n := d.have(d.choose(1)[0], "number")
	sent := d.send(n.PhoneNumber, "sent")
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing})
	lost := d.send(n.PhoneNumber, "lost")
	d.wantText(lost, telephony.Sending, 0)
	d.run(d.release(n))
	if got := d.count(`SELECT count(*) FROM credentials WHERE org_id = $1`, d.org); got != 0 {
		t.Fatalf("%d credentials are left", got)
	}
	for range 6 {
		d.clock.Advance(time.Minute)
		if _, err := d.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.wantText(lost, telephony.Sent, 10)
	if err := d.twilio.Mark(sent.SID.String, "delivered", 0); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		d.clock.Advance(time.Minute)
		if _, err := d.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.wantText(sent, telephony.Delivered, 10)
	d.wantWallet(d.org, 19_80, 0, 0)
}
