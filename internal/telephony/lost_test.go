package telephony_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

const (
	oneMessage = "GET /2010-04-01/Accounts/*/Messages/*"
	allOfThem  = "GET /2010-04-01/Accounts/*/Messages.json"
)

func (d *desk) credit(p money.Pence) {
	d.t.Helper()
	err := d.db.InTx(d.t.Context(), []uuid.UUID{d.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: d.org, Kind: wallet.Adjustment, Amount: p, Reason: "Test", Reference: uuid.NewString(), Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// sweepRefused sweeps while Twilio does not answer as it should, and gives what the sweep says of it.
func (d *desk) sweepRefused() string {
	d.t.Helper()
	_, err := d.Sweep(d.t.Context())
	if err == nil {
		d.t.Error("a sweep that could not ask Twilio said nothing")
		return ""
	}
	return err.Error()
}

// More texts than one sweep takes, of which Twilio does not answer for any, do not keep a new one from its turn.
func TestUnansweredDoNotBlock(t *testing.T) {
	d := newDesk(t)
	d.credit(20_00)
	for i := range 101 {
		d.send(d.text(fmt.Sprint(i), fmt.Sprintf("Hello %d", i)))
	}
	d.faults(sandbox.Fault{Match: oneMessage, Do: sandbox.Fault500, Times: -1})
	d.clock.Advance(time.Second)
	waits, err := d.Queue(t.Context(), d.text("waits", "Hello"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.clock.Advance(6 * time.Minute)
		d.sweepRefused()
	}
	d.wantState(waits, telephony.Sent, 10)
	d.wantMade(102)
}

// A text that was deleted at Twilio has no more news: after four hours it counts as delivered, and its hold has ended.
func TestDeletedAtTwilio(t *testing.T) {
	d := newDesk(t)
	d.onlyDelivered()
	m := d.send(d.text("k", "Hello"))
	d.faults(sandbox.Fault{Match: oneMessage, Do: sandbox.FaultRefuse, Code: 20404, Times: -1})
	d.clock.Advance(time.Hour)
	d.sweep()
	d.wantState(m, telephony.Sent, 0)
	d.clock.Advance(3*time.Hour + time.Minute)
	d.sweep()
	d.wantState(m, telephony.Delivered, 10)
	d.wantWallet(90, 0)
}

// While Twilio's list cannot be read, nobody says that a text was not sent; and what is said names no phone number.
func TestListUnreadable(t *testing.T) {
	d := newDesk(t)
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing},
		sandbox.Fault{Match: allOfThem, Do: sandbox.FaultTimeout}, sandbox.Fault{Match: allOfThem, Do: sandbox.Fault500, Times: -1})
	m := d.send(d.text("k", "Hello"))
	for range 6 {
		d.clock.Advance(31 * time.Second)
		if said := d.sweepRefused(); strings.Contains(said, handset[1:]) {
			t.Errorf("the number is told: %s", said)
		}
	}
	d.wantState(m, telephony.Sending, 0)
	d.wantWallet(100, 10)
	d.faults()
	d.clock.Advance(31 * time.Second)
	d.sweep()
	d.wantState(m, telephony.Sent, 10)
}

// Of two organisations' texts with the same words, of which one was made and one was not, the one that was made is paid for:
// neither is taken for the other while Twilio may still say which it was.
func TestTwinsOfTwoOrganisations(t *testing.T) {
	d := newDesk(t)
	r := d.text("never made", "Hello")
	r.OrgID = d.other
	never, err := d.Queue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Take(t.Context(), never); err != nil { // and its process dies before it asks
		t.Fatal(err)
	}
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing})
	made := d.send(d.text("made", "Hello"))
	for range 2 {
		d.clock.Advance(31 * time.Second)
		d.sweep()
	}
	d.wantState(made, telephony.Sending, 0)
	d.news(made, d.twilio.Books().Messages[0].SID, "delivered", "")
	for range 4 {
		d.clock.Advance(31 * time.Second)
		d.sweep()
	}
	d.wantState(made, telephony.Delivered, 10)
	d.wantWallet(90, 0)
	other, err := d.Message(t.Context(), d.other, never.ID)
	if err != nil || other.State != telephony.Failed || other.Amount != 0 {
		t.Errorf("the text that was not made is %s and cost %s, %v", other.State, other.Amount, err)
	}
	d.wantMade(1)
}

// Where Twilio says nothing at all, one is taken for the other in the end: once, and what Twilio then says is no error.
func TestTwinsWithoutNews(t *testing.T) {
	d := newDesk(t)
	never, err := d.Queue(t.Context(), d.text("never made", "Hello"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Take(t.Context(), never); err != nil {
		t.Fatal(err)
	}
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing})
	made := d.send(d.text("made", "Hello"))
	for range 7 {
		d.clock.Advance(31 * time.Second)
		d.sweep()
	}
	if a, b := d.message(never.ID), d.message(made.ID); a.Amount+b.Amount != 10 || !a.SID.Valid && !b.SID.Valid {
		t.Errorf("%s for %s, %s for %s", a.State, a.Amount, b.State, b.Amount)
	}
	d.news(made, d.twilio.Books().Messages[0].SID, "delivered", "")
	d.wantMade(1)
	d.wantWallet(90, 0)
}

// Whatever the words are, Twilio's list gives them back as they were sent.
func TestLostWords(t *testing.T) {
	d := newDesk(t)
	var sent []telephony.Message
	words := []string{" Hello ", "Hello\n", "a\r\nb", "é e\u0301 \u00a0x", "😀🇬🇧"}
	d.faults(sandbox.Fault{Match: sandbox.MakeMessage, Do: sandbox.FaultCutAfterActing, Times: len(words)})
	for i, body := range words {
		sent = append(sent, d.send(d.text(fmt.Sprint(i), body)))
	}
	d.clock.Advance(31 * time.Second)
	d.sweep()
	for _, m := range sent {
		d.wantState(m, telephony.Sent, 10)
	}
}
