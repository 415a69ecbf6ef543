package wallet_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

func TestHoldRequestRules(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 500_00)
	for _, c := range []struct {
		field string // empty: it is fine
		spoil func(*wallet.HoldRequest)
	}{
		{"action", func(r *wallet.HoldRequest) { r.Action = "" }},
		{"action", func(r *wallet.HoldRequest) { r.Action = "fax" }},
		{"quantity", func(r *wallet.HoldRequest) { r.Quantity = 0 }},
		{"quantity", func(r *wallet.HoldRequest) { r.Quantity = -1 }},
		{"", func(r *wallet.HoldRequest) { r.Quantity = 1000 }},
		{"quantity", func(r *wallet.HoldRequest) { r.Quantity = 1001 }},
		{"", func(r *wallet.HoldRequest) { r.Action, r.Quantity, r.Destination = wallet.ActionKnowledge, 1000, "" }},
		{"quantity", func(r *wallet.HoldRequest) { r.Action, r.Quantity = wallet.ActionKnowledge, 1001 }},
		{"", func(r *wallet.HoldRequest) { r.Action, r.Quantity, r.Destination = wallet.ActionNumber, 10, "" }},
		{"quantity", func(r *wallet.HoldRequest) { r.Action, r.Quantity = wallet.ActionNumber, 11 }},
		{"", func(r *wallet.HoldRequest) { r.Action, r.Quantity = wallet.ActionCall, 10_000 }},
		{"quantity", func(r *wallet.HoldRequest) { r.Action, r.Quantity = wallet.ActionCall, 43_201 }},
		{"idempotency_key", func(r *wallet.HoldRequest) { r.Key = "" }},
		{"", func(r *wallet.HoldRequest) { r.Key = strings.Repeat("k", 255) }},
		{"", func(r *wallet.HoldRequest) { r.Key = strings.Repeat("é", 255) }},
		{"", func(r *wallet.HoldRequest) { r.Key = strings.Repeat("😀", 255) }},
		{"idempotency_key", func(r *wallet.HoldRequest) { r.Key = strings.Repeat("k", 256) }},
		{"idempotency_key", func(r *wallet.HoldRequest) { r.Key = strings.Repeat("é", 256) }},
		{"idempotency_key", func(r *wallet.HoldRequest) { r.Key = "a\x00b" }},
		{"idempotency_key", func(r *wallet.HoldRequest) { r.Key = "a\xffb" }},
		{"destination", func(r *wallet.HoldRequest) { r.Destination = "0740 0123456" }},
		{"destination", func(r *wallet.HoldRequest) { r.Destination = "+44" }},
		{"destination", func(r *wallet.HoldRequest) { r.Action, r.Destination = wallet.ActionNumber, ukMobile }},
		{"destination", func(r *wallet.HoldRequest) { r.Action, r.Destination = wallet.ActionKnowledge, ukMobile }},
		{"", func(r *wallet.HoldRequest) { r.Action, r.Destination = wallet.ActionCall, ukMobile }},
	} {
		r := d.text(org, uuid.NewString(), 1)
		c.spoil(&r)
		var fields []string
		_, _, err := d.gates.Quote(t.Context(), r)
		if r.Key != "" { // a quote needs no key
			fields = append(fields, fieldOf(err))
		}
		h, err := d.gates.Authorise(t.Context(), r)
		fields = append(fields, fieldOf(err))
		if err == nil {
			if _, err := d.gates.Void(t.Context(), d.settle(h)); err != nil {
				t.Error(err)
			}
			runes := []rune(r.Key)
			runes[0] = 'x'
			r.Key = string(runes)
		}
		err = d.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			_, err := d.gates.AuthoriseIn(ctx, tx, r)
			return err
		})
		fields = append(fields, fieldOf(err))
		for _, got := range fields {
			if got != c.field {
				t.Errorf("%.60v gave %v, want %q", r, fields, c.field)
				break
			}
		}
	}
}

// fieldOf is the field of an invalid request, "" of none, and otherwise what else went wrong.
func fieldOf(err error) string {
	if f := fault.As(err); f != nil && (f.Kind != fault.Invalid || f.Field == "") {
		return fmt.Sprintf("?kind %d: %v", f.Kind, err)
	} else if f != nil {
		return f.Field
	}
	return ""
}

func TestParseDestination(t *testing.T) {
	for in, want := range map[string]string{
		"+447400123456":            "+447400123456",
		" +44 7400 123456\n":       "+447400123456",
		"+44 (7400) 123-456":       "+447400123456",
		"+44.7400.123.456":         "+447400123456",
		"+1 (201) 555-0123":        "+12015550123",
		"+33 6 12 34 56 78":        "+33612345678",
		"+4407400123456":           "+447400123456", // the national zero, which many write
		"":                         "",
		"447400123456":             "",
		"07400123456":              "",
		"00447400123456":           "",
		"+0447400123456":           "",
		"+44":                      "",
		"+447400":                  "",
		"+4474001234567":           "",
		"+999123456789":            "",
		"+12015550123;ext=5":       "",
		"+1201555012\x00":          "",
		"+٤٤٧٤٠٠١٢٣٤٥٦":            "",
		"+1-800-FLOWERS":           "",
		"tel:+447400123456":        "",
		"+447400123456+":           "",
		strings.Repeat("+4", 9999): "",
	} {
		got, err := wallet.ParseDestination(in)
		if want == "" && (got != "" || fieldOf(err) != "destination") || want != "" && (got != want || err != nil) {
			t.Errorf("ParseDestination(%.40q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"+447400123456", "+44 7400 123456", "+1 (201) 555-0123", "0740", "", "+", "+1\x00", "+4407400123456"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := wallet.ParseDestination(s)
		if err != nil {
			if got != "" || fieldOf(err) != "destination" {
				t.Fatalf("%q: %q, %v", s, got, err)
			}
			return
		}
		if strings.Trim(got, "0123456789") != "+" || got[0] != '+' || got[1] == '0' || len(got) > 16 {
			t.Fatalf("%q became %q", s, got)
		}
		if again, err := wallet.ParseDestination(got); again != got || err != nil {
			t.Fatalf("%q became %q, and that %q, %v", s, got, again, err)
		}
	})
}

// TestTransitions is every operation on a hold in every state, as a table. The hold is of 100p for ten segments, the
// wallet has 50p beside. An outcome is the hold afterwards, "again" where nothing changed because it was so already, or
// the fault's kind with its code or field.
func TestTransitions(t *testing.T) {
	const table = `
	                   | open                       | in_flight                  | captured                      | void                          | expired
	capture whole      | captured 100               | captured 100               | captured 100 again            | conflict hold_void            | conflict hold_expired
	capture 40         | captured 40                | captured 40                | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 100        | captured 100               | captured 100               | captured 100 again            | conflict hold_void            | conflict hold_expired
	capture 101        | captured 101               | captured 101               | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 150        | captured 150               | captured 150               | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 151        | unpaid insufficient_funds  | unpaid insufficient_funds  | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 200        | unpaid insufficient_funds  | unpaid insufficient_funds  | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 201        | invalid amount_pence       | invalid amount_pence       | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture 0          | invalid amount_pence       | invalid amount_pence       | conflict already_captured     | conflict hold_void            | conflict hold_expired
	capture -1         | invalid amount_pence       | invalid amount_pence       | conflict already_captured     | conflict hold_void            | conflict hold_expired
	overrun 151        | captured 151               | captured 151               | conflict already_captured     | conflict hold_void            | conflict hold_expired
	overrun 999        | captured 999               | captured 999               | conflict already_captured     | conflict hold_void            | conflict hold_expired
	overrun 100        | captured 100               | captured 100               | captured 100 again            | conflict hold_void            | conflict hold_expired
	overrun 0          | invalid amount_pence       | invalid amount_pence       | conflict already_captured     | conflict hold_void            | conflict hold_expired
	void               | void 0                     | void 0                     | conflict already_captured     | void 0 again                  | expired 0 again
	extend 101         | open 101                   | in_flight 101              | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	extend 150         | open 150                   | in_flight 150              | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	extend 151         | unpaid insufficient_funds  | unpaid insufficient_funds  | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	extend 100         | open 100                   | in_flight 100              | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	extend 40          | open 100                   | in_flight 100              | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	send               | in_flight 100              | in_flight 100 again        | conflict hold_captured        | conflict hold_void            | conflict hold_expired
	expire early       | open 100                   | in_flight 100              | captured 100                  | void 0                        | expired 0
	expire             | expired 0                  | in_flight 100              | captured 100                  | void 0                        | expired 0`
	d := newDesk(t)
	rows := strings.Split(strings.TrimPrefix(table, "\n"), "\n")
	cells := func(row string) (list []string) {
		for cell := range strings.SplitSeq(row, "|") {
			list = append(list, strings.TrimSpace(cell))
		}
		return list
	}
	states := cells(rows[0])[1:]
	orgs := wallettest.Orgs(t, d.db, 2*len(states)*(len(rows)-1), 1_50)
	for _, row := range rows[1:] {
		operation, outcomes := cells(row)[0], cells(row)[1:]
		for i, want := range outcomes {
			for _, in := range []bool{false, true} {
				org := orgs[0]
				orgs = orgs[1:]
				name := fmt.Sprintf("%s, %s, in a transaction of its own: %t", operation, states[i], in)
				h := d.inState(org, states[i])
				if operation == "expire" && states[i] != "expired" {
					d.clock.Advance(15 * time.Minute) // to the microsecond
				}
				before := d.balance(org)
				got := d.outcome(operation, h, in)
				if got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
				d.wantWallet(name, org, want, before)
				// Whatever it was, it is the same again.
				again := want
				if verb, _, _ := strings.Cut(operation, " "); want[0] != 'c' || strings.HasPrefix(want, "captured") {
					switch verb {
					case "capture", "overrun", "void", "send":
						if !strings.HasPrefix(want, "invalid") && !strings.HasPrefix(want, "unpaid") {
							again = strings.TrimSuffix(want, " again") + " again"
						}
					}
				}
				if got := d.outcome(operation, h, in); got != again {
					t.Errorf("%s, once more: %q, want %q", name, got, again)
				}
				d.wantWallet(name+", once more", org, want, before)
				// Nobody but who made it settles it, whatever its state.
				if operation != "expire" && operation != "expire early" {
					h.Source = wallet.SourceMessage
					if got := d.outcome(operation, h, in); got != "conflict not_yours_to_settle" {
						t.Errorf("%s, by somebody else: %q", name, got)
					}
				}
			}
		}
	}
	d.clock.Advance(time.Hour)
	d.expireAll()
}

// inState makes a hold of 100p and brings it to a state.
func (d desk) inState(org uuid.UUID, state string) wallet.Hold {
	d.t.Helper()
	h := d.authorise(d.text(org, "hold", 10))
	if h.State != wallet.HoldOpen || h.Amount != 1_00 || h.Repeated {
		d.t.Fatalf("the hold begins as %+v", h)
	}
	outcome := state
	switch state {
	case "open":
		return h
	case "in_flight":
		outcome = d.outcome("send", h, true)
	case "captured":
		outcome = d.outcome("capture whole", h, false)
	case "void":
		outcome = d.outcome("void", h, false)
	case "expired":
		d.clock.Advance(20 * time.Minute)
		outcome = d.outcome("expire", h, false)
	}
	if !strings.HasPrefix(outcome, state+" ") {
		d.t.Fatalf("a hold that was to be %s: %s", state, outcome)
	}
	return h
}

// outcome does an operation on a hold and describes what came of it.
func (d desk) outcome(operation string, h wallet.Hold, in bool) string {
	d.t.Helper()
	verb, argument, _ := strings.Cut(operation, " ")
	s := d.settle(h)
	if argument == "whole" {
		s.Whole = true
	} else if _, err := fmt.Sscan(argument, &s.Amount); err != nil && verb != "void" && verb != "send" && verb != "expire" {
		d.t.Fatal(err)
	}
	var within func(context.Context, *db.Tx, wallet.Settlement) (wallet.Hold, error)
	var shared func(context.Context, wallet.Settlement) (wallet.Hold, error)
	switch verb {
	case "overrun":
		s.Overrun = true
		fallthrough
	case "capture":
		within, shared = d.gates.CaptureIn, d.gates.Capture
	case "void":
		within, shared = d.gates.VoidIn, d.gates.Void
	case "extend":
		within, shared = d.gates.ExtendIn, d.gates.Extend
	case "send":
		within, in = d.gates.SendIn, true
	case "expire":
		if _, err := d.gates.Expire(d.t.Context()); err != nil {
			d.t.Fatal(err)
		}
		h = d.hold(h.OrgID, h.ID)
		return fmt.Sprintf("%s %d", h.State, h.Amount)
	}
	var after wallet.Hold
	var err error
	if in {
		err = d.db.InTx(d.t.Context(), []uuid.UUID{h.OrgID}, func(ctx context.Context, tx *db.Tx) (err error) {
			after, err = within(ctx, tx, s)
			return err
		})
	} else {
		after, err = shared(d.t.Context(), s)
	}
	if err != nil {
		f := fault.As(err)
		return map[fault.Kind]string{fault.Invalid: "invalid", fault.Conflict: "conflict", fault.Unpaid: "unpaid", fault.NotFound: "not_found", fault.Unavailable: "unavailable"}[f.Kind] + " " + f.Code + f.Field
	}
	if stored := d.hold(h.OrgID, h.ID); stored.State != after.State || stored.Amount != after.Amount || !stored.UpdatedAt.Equal(after.UpdatedAt) || stored.SettledBy != after.SettledBy {
		d.t.Errorf("%s: answered %+v, stored is %+v", operation, after, stored)
	}
	if ended := after.State == wallet.HoldCaptured || after.State == wallet.HoldVoid; ended && !after.Repeated && after.SettledBy != string(s.Actor) {
		d.t.Errorf("%s: it was ended by %q, it says", operation, after.SettledBy)
	}
	what := fmt.Sprintf("%s %d", after.State, after.Amount)
	if after.Repeated {
		what += " again"
	}
	return what
}

// hold reads a hold as its organisation sees it.
func (d desk) hold(org, id uuid.UUID) (h wallet.Hold) {
	d.t.Helper()
	err := d.db.InReadTx(d.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &h, `SELECT `+wallet.HoldColumns+` FROM holds WHERE id = $1`, id)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// wantWallet compares a wallet that had £1.50 at first, and one hold, with what its outcome says.
func (d desk) wantWallet(name string, org uuid.UUID, outcome string, before wallet.Balance) {
	d.t.Helper()
	got := d.balance(org)
	state, rest, _ := strings.Cut(outcome, " ")
	var amount money.Pence
	_, _ = fmt.Sscan(rest, &amount)
	want := wallet.Balance{Balance: 1_50}
	switch state {
	case "open", "in_flight":
		want.Held = amount
	case "captured":
		want.Balance, want.Debt = max(0, 1_50-amount), max(0, amount-1_50)
	case "void", "expired":
	default:
		want = before
	}
	if got.Balance != want.Balance || got.Held != want.Held || got.Debt != want.Debt {
		d.t.Errorf("%s: the wallet has %s, %s held, %s owed; want %s, %s, %s", name, got.Balance, got.Held, got.Debt, want.Balance, want.Held, want.Debt)
	}
}

// TestHoldsSayWhatTheyAre: what a hold was made with, how long it lasts, and its line in the wallet's history.
func TestHoldsSayWhatTheyAre(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 100_00)
	for _, c := range []struct {
		action      wallet.Action
		quantity    int64
		destination string
		lasts       time.Duration
		line        string
	}{
		{wallet.ActionSMS, 1, ukMobile, 15 * time.Minute, "Text message, 1 segment"},
		{wallet.ActionSMS, 2, ukMobile, 15 * time.Minute, "Text message, 2 segments"},
		{wallet.ActionCall, 1, ukMobile, 15*time.Minute + time.Second, "Call, 1 second"},
		{wallet.ActionCall, 90, "", 16*time.Minute + 30*time.Second, "Call, 90 seconds"},
		{wallet.ActionNumber, 1, "", 15 * time.Minute, "1 phone number"},
		{wallet.ActionNumber, 2, "", 15 * time.Minute, "2 phone numbers"},
		{wallet.ActionKnowledge, 1, "", 15 * time.Minute, "1 knowledge base search"},
		{wallet.ActionKnowledge, 2, "", 15 * time.Minute, "2 knowledge base searches"},
	} {
		key := c.line
		h := d.authorise(wallet.HoldRequest{
			OrgID: org, Action: c.action, Quantity: c.quantity, Destination: c.destination, Source: wallet.SourceCall, Key: key,
			Actor: "key:made", RequestID: "request-made",
		})
		if h.Action != c.action || h.Quantity != c.quantity || h.Destination != c.destination || h.Source != wallet.SourceCall || h.Key != key ||
			h.Actor != "key:made" || h.OrgID != org || h.Authorised != h.Amount || h.AtOnce || h.State != wallet.HoldOpen || h.Repeated {
			t.Errorf("%s: %+v", c.line, h)
		}
		if !h.CreatedAt.Equal(d.clock.Now()) || !h.ExpiresAt.Equal(d.clock.Now().Add(c.lasts)) {
			t.Errorf("%s: from %s to %s, want %s", c.line, h.CreatedAt, h.ExpiresAt, c.lasts)
		}
		stored := d.hold(org, h.ID)
		stored.CreatedAt, stored.ExpiresAt, stored.UpdatedAt = stored.CreatedAt.UTC(), stored.ExpiresAt.UTC(), stored.UpdatedAt.UTC()
		if a, b := fmt.Sprintf("%+v", stored), fmt.Sprintf("%+v", h); !strings.HasPrefix(b, strings.TrimSuffix(a, " listed:false}")) {
			t.Errorf("%s: stored\n%s, answered\n%s", c.line, a, b)
		}
		s := d.settle(h, func(s *wallet.Settlement) { s.Whole, s.Actor, s.RequestID = true, "key:settled", "request-settled" })
		if h, err := d.gates.Capture(t.Context(), s); err != nil || h.SettledBy != "key:settled" {
			t.Fatalf("%s: %+v, %v", c.line, h, err)
		}
		_, history, err := wallet.New(d.db).Overview(t.Context(), org, 1)
		if err != nil {
			t.Fatal(err)
		}
		if line := history[0]; line.Description != c.line || line.ID != h.ID || line.Kind != wallet.Usage || line.Amount != -h.Amount {
			t.Errorf("%s: the history says %+v", c.line, line)
		}
		audited := d.number(`
			SELECT count(*) FROM audit_log WHERE transaction_id = $1 AND org_id = $2 AND actor = 'key:settled' AND action = 'wallet.charged'
			   AND subject = $1::uuid::text AND request_id = 'request-settled'`, h.ID, org)
		if audited != 1 {
			t.Errorf("%s: %d audit rows", c.line, audited)
		}
	}
	h := d.authorise(d.text(org, "described", 10))
	s := d.settle(h, func(s *wallet.Settlement) { s.Amount, s.Description = 40, "Text to the Browns" })
	if _, err := d.gates.Capture(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	_, history, err := wallet.New(d.db).Overview(t.Context(), org, 1)
	if err != nil || history[0].Description != "Text to the Browns" || history[0].Amount != -40 {
		t.Errorf("the history says %+v, %v", history[0], err)
	}
	if n := d.number(`SELECT count(*) FROM audit_log WHERE transaction_id = $1 AND detail = '{"held_pence": 100, "amount_pence": 40, "action": "sms"}'`, h.ID); n != 1 {
		t.Errorf("that other than what was held was taken is audited %d times", n)
	}
}

// TestAsMade: a repeat is told what the first request was told.
func TestAsMade(t *testing.T) {
	d := newDesk(t)
	org := wallettest.Org(t, d.db, "Harbour Dental", 10_00)
	for _, c := range []struct {
		atOnce bool
		state  wallet.HoldState
		then   []string
	}{
		{false, wallet.HoldOpen, nil},
		{false, wallet.HoldOpen, []string{"capture 40"}},
		{false, wallet.HoldOpen, []string{"void"}},
		{false, wallet.HoldOpen, []string{"extend 150", "send"}},
		{true, wallet.HoldCaptured, nil},
	} {
		r := d.text(org, uuid.NewString(), 10)
		r.AtOnce = c.atOnce
		h := d.authorise(r)
		for _, operation := range c.then {
			d.outcome(operation, h, false)
		}
		again := d.authorise(r)
		if !again.Repeated || h.Repeated {
			t.Errorf("%+v: repeated %t, then %t", c, h.Repeated, again.Repeated)
		}
		if made := again.AsMade(); made.ID != h.ID || made.Amount != 1_00 || made.State != c.state || h.State != c.state || made.Authorised != 1_00 || made.AtOnce != c.atOnce {
			t.Errorf("%+v: the repeat is told %+v", c, made)
		}
	}
}
