package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/sandbox"
)

// demoRows counts what the demo's history is made of.
const demoRows = `SELECT concat_ws(' ', (SELECT count(*) FROM ledger_transactions), (SELECT count(*) FROM holds), (SELECT count(*) FROM calls),
	(SELECT count(*) FROM messages), (SELECT count(*) FROM numbers), (SELECT count(*) FROM agents), (SELECT count(*) FROM knowledge_documents), (SELECT count(*) FROM credits))`

// TestDemoHistory makes the demo's two months, holds them against what the providers have, and makes them again: nothing
// changes. It is killed in the middle before, and goes on.
func TestDemoHistory(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	p.environment["RINGFENCE_DEMO_HISTORY"] = "true"
	killed := p.spawn(t, "seed")
	until(t, "the history to be begun", func() bool {
		select {
		case <-killed.ended:
			t.Fatalf("it ended before it could be killed:\n%s", &killed.log)
		default:
		}
		var there bool
		dbtest.Get(t, p.getenv("DATABASE_URL"), &there, `SELECT to_regclass('public.calls') IS NOT NULL`)
		return there && p.count(t, `SELECT count(*) FROM calls`) >= 3
	})
	if code := killed.end(t, syscall.SIGKILL); code != -1 {
		t.Fatalf("it ended with %d", code)
	}
	before := p.count(t, `SELECT count(*) FROM ledger_transactions`)
	code, _, log := p.run(t, "seed")
	if code != 0 || !strings.Contains(log, "the demo has a history") || strings.Contains(log, `"level":"WARN"`) {
		t.Fatalf("seed exits %d:\n%s", code, log)
	}
	if n := p.count(t, `SELECT count(*) FROM ledger_transactions`); n <= before {
		t.Errorf("%d transactions before, %d after", before, n)
	}
	p.verify(t)
	if n := p.count(t, `SELECT balance_pence FROM wallets JOIN organizations o ON o.id = org_id WHERE o.name = 'Harbour Dental'`); n != 569_00 {
		t.Errorf("the balance is %dp", n)
	}
	for what, query := range map[string]string{
		"held":                         `SELECT sum(held_pence + debt_pence) FROM wallets`,
		"of another organisation":      `SELECT count(*) FROM ledger_transactions t JOIN organizations o ON o.id = t.org_id WHERE o.name <> 'Harbour Dental'`,
		"calls under way":              `SELECT count(*) FROM calls WHERE ended_at IS NULL`,
		"texts under way":              `SELECT count(*) FROM messages WHERE ended_at IS NULL`,
		"events that are not worked":   `SELECT count(*) FROM stripe_events WHERE state <> 'processed' AND state <> 'ignored'`,
		"transactions out of order":    `SELECT count(*) FROM (SELECT created_at, lag(created_at) OVER (ORDER BY seq) AS before FROM ledger_transactions) t WHERE created_at < before`,
		"transactions of the future":   `SELECT count(*) FROM ledger_transactions WHERE created_at > now()`,
		"transactions older than that": `SELECT count(*) FROM ledger_transactions WHERE created_at < now() - interval '61 days'`,
	} {
		if n := p.count(t, query); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
	if n := p.count(t, `SELECT count(*) FROM credits`); n != 3 {
		t.Errorf("%d top-ups were paid", n)
	}
	if days := p.count(t, `SELECT count(DISTINCT created_at::date) FROM ledger_transactions`); days < 35 {
		t.Errorf("something happened on %d days", days)
	}
	// Who called before the kill does not call again: the patients call in their order, each the first number; of the last two days the clock decides.
	var callers []string
	dbtest.Select(t, p.getenv("DATABASE_URL"), &callers, `SELECT party FROM calls WHERE direction = 'inbound' AND created_at < now() - interval '2 days' ORDER BY created_at`)
	if len(callers) < 30 {
		t.Errorf("%d calls came", len(callers))
	}
	for i, caller := range callers {
		if want := demoPatients[i%len(demoPatients)].number; caller != want {
			t.Errorf("call %d of %d is from %s, want %s", i, len(callers), caller, want)
			break
		}
	}
	var rows, again string
	dbtest.Get(t, p.getenv("DATABASE_URL"), &rows, demoRows)

	// The next start finds it, without making any of it again, and the providers' books agree with ours.
	p.start(t, "serve")
	dbtest.Get(t, p.getenv("DATABASE_URL"), &again, demoRows)
	if rows != again {
		t.Errorf("made twice: %s, then %s", rows, again)
	}
	p.booksAgree(t)
	p.phonesAgree(t)
}

// phonesAgree compares the sandbox's Twilio and Vapi with our numbers, texts, calls and agents.
func (p *program) phonesAgree(t *testing.T) {
	t.Helper()
	var twilio sandbox.TwilioBooks
	var vapi sandbox.VapiBooks
	for vendor, into := range map[string]any{"twilio": &twilio, "vapi": &vapi} {
		res, err := http.Get(p.sandboxBase() + "/sandbox/" + vendor + "/books")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	ours := func(query string) map[string]string {
		t.Helper()
		var list []struct {
			ID   string `db:"id"`
			What string `db:"what"`
		}
		dbtest.Select(t, p.getenv("DATABASE_URL"), &list, query)
		m := map[string]string{}
		for _, one := range list {
			m[one.ID] = one.What
		}
		return m
	}
	theirs := map[string]map[string]string{"numbers": {}, "texts": {}, "calls": {}, "agents": {}}
	for _, n := range twilio.Owned("") {
		if n.Number != p.getenv("TWILIO_FROM_NUMBER") && n.Number != "+15005550006" {
			theirs["numbers"][n.SID] = n.Number
		}
	}
	for _, m := range twilio.Messages {
		theirs["texts"][m.SID] = m.Status
	}
	for _, c := range vapi.Calls {
		theirs["calls"][c.ID] = fmt.Sprint(c.EndedReason)
	}
	for _, a := range vapi.Assistants {
		if a.Deleted.IsZero() {
			theirs["agents"][a.ID] = "there"
		}
	}
	for what, query := range map[string]string{
		"numbers": `SELECT sid AS id, phone_number AS what FROM numbers WHERE state = 'active'`,
		"texts":   `SELECT sid AS id, state AS what FROM messages`,
		"calls":   `SELECT vapi_id AS id, ended_reason AS what FROM calls`,
		"agents":  `SELECT assistant_id AS id, 'there' AS what FROM agents WHERE deleted_at IS NULL`,
	} {
		if have := ours(query); len(have) == 0 || !maps.Equal(have, theirs[what]) {
			t.Errorf("%s differ: we have %v, they %v", what, have, theirs[what])
		}
	}
}

// The lean demo is what a start without the setting gives, and one that somebody has used stays as it is.
func TestDemoStaysLean(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for _, e := range []environment{p.environment, p.with(environment{"RINGFENCE_DEMO_HISTORY": "true"})} {
		if code, _, log := e.run(t, "seed"); code != 0 {
			t.Fatalf("seed exits %d:\n%s", code, log)
		}
		if n := p.count(t, `SELECT count(*) FROM ledger_transactions`); n != 1 {
			t.Errorf("%d transactions", n)
		}
	}
	if _, err := os.Stat(filepath.Join(p.getenv("RINGFENCE_DATA_DIR"), "sandbox.db")); err == nil {
		t.Error("a sandbox was started for a demo that was there")
	}
	p.verify(t)
}
