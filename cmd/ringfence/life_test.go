package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/browsertest"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/views"
)

// TestLife is the whole life of a number in a browser: money is paid in, a number bought, an agent made and linked, a call taken
// and one made, a text sent and one received, and all of it given back. Then nothing is left but history, of which every penny
// is explained.
func TestLife(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), browsertest.Start(t), map[string]*http.Cookie{}}
	l := &life{site: s, t: t, tab: s.tab(t, browsertest.View{}, stranger)}
	dbtest.Get(t, s.getenv("DATABASE_URL"), &l.org, `SELECT id FROM organizations WHERE name = 'Second Tenant'`)
	l.payIn()
	l.buyNumber()
	l.makeAgent()
	l.takeCall()
	l.makeCall()
	l.sendAndReceive()
	l.mayClose(false)
	l.release()
	l.deleteAgent()
	l.nothingIsLeft()
	l.everyPenny()
	l.mayClose(true)
	s.booksAgree(t)
}

// life is one owner's, of an organisation that begins with nothing.
type life struct {
	*site

	t   *testing.T
	tab *browsertest.Tab
	org string

	number     string // the number's digits, in international form
	numberPage string
	agentPage  string
}

// friend is who calls and texts.
const friend = "+447400123456"

func (l *life) payIn() {
	begin(l.tab, l.base(), "50.00")
	l.tab.Leave(payButton)
	l.tab.WaitPath("/wallet/top-ups/")
	l.tab.WaitText("#top-up-state", "£50.00 was added")
}

func (l *life) buyNumber() {
	l.tab.Open(l.base() + "/numbers?find=1&country=US&area=415")
	l.tab.Leave("#results li a")
	l.number = l.tab.Text("#wanted")
	l.tab.Leave("#buy")
	l.numberPage = l.tab.Path()
	l.tab.WaitText("#number-state", "It is ready to be used")
	dbtest.Get(l.t, l.getenv("DATABASE_URL"), &l.number, `SELECT phone_number FROM numbers WHERE org_id = $1`, l.org)
}

func (l *life) makeAgent() {
	l.tab.Open(l.base() + "/agents/new")
	l.tab.Type("#name", "Reception")
	l.tab.Type("#first_message", "Good morning, how can I help?")
	l.tab.Type("#prompt", "You answer the phone.")
	l.tab.Leave("#make")
	l.agentPage = l.tab.Path()
	l.tab.WaitText("#agent-state", "Ready")
	l.tab.Open(l.base() + l.agentPage)
	l.tab.Leave("#link")
	want(l.t, "linked", l.tab.Text("#agent-number"), "It answers and calls from")
}

func (l *life) takeCall() {
	l.tellSandbox(l.t, "/sandbox/twilio/scripts", url.Values{"scripts": {`[{"ring":1,"talk":3,"times":-1}]`}}, nil)
	l.tellSandbox(l.t, "/sandbox/twilio/ring", url.Values{"from": {friend}, "to": {l.number}}, nil)
	l.tab.Open(l.base() + "/calls")
	l.tab.Until("the call that comes in to be over", func() bool {
		l.tab.Reload()
		rows := l.tab.Text("#call-rows")
		return strings.Contains(rows, "From +44 7400 123456") && strings.Contains(rows, "Completed")
	})
}

func (l *life) makeCall() {
	l.tab.Open(l.base() + "/calls")
	l.tab.Type("#call-to", friend)
	l.tab.Leave("#call")
	l.tab.WaitText("#call-state", "Completed")
	l.tab.WaitText("#transcript", "Good morning, how can I help?")
}

func (l *life) sendAndReceive() {
	l.tab.Open(l.base() + "/messages")
	choose(l.tab, "#sender", l.number)
	l.tab.Type("#to", friend)
	l.tab.Type("#body", "See you tomorrow at ten")
	l.tab.Leave(sendButton)
	want(l.t, "sent", l.tab.Text("#done"), views.PhoneText(friend))
	l.tellSandbox(l.t, "/sandbox/twilio/inbound", url.Values{"from": {friend}, "to": {l.number}, "body": {"Thank you!"}}, nil)
	l.tab.Until("both texts", func() bool {
		l.tab.Reload()
		texts := l.tab.Text("#messages")
		return strings.Contains(texts, "Thank you!") && strings.Contains(texts, "Delivered")
	})
}

// mayClose has an operator look whether the account can be closed now.
func (l *life) mayClose(can bool) {
	l.t.Helper()
	op := l.site.tab(l.t, browsertest.View{}, operator)
	op.Open(l.base() + "/ops/wallets/" + l.org + "/close")
	if can {
		if n := op.Count("#blocked"); n != 0 || op.Count("#close-submit") != 1 {
			l.t.Errorf("the account cannot be closed: %s", op.Text("#blocked"))
		}
		return
	}
	want(l.t, "why not", op.Text("#blocked"), views.PhoneText(l.number)+" (active)")
	op.Everywhere("close-blocked")
}

func (l *life) release() {
	l.tab.Open(l.base() + l.numberPage)
	want(l.t, "who answers it", l.tab.Text("main"), "Reception")
	l.tab.Leave("#release")
	l.tab.Type("#confirm", l.number[len(l.number)-4:])
	l.tab.Leave("#release-submit")
	l.tab.WaitText("#number-state", "It was given back")
	l.tab.Everywhere("life-released")
}

func (l *life) deleteAgent() {
	l.tab.Open(l.base() + l.agentPage)
	want(l.t, "an agent without its number", l.tab.Text("#call-blocked"), "no number to call from")
	l.tab.Leave("#delete")
	l.tab.Leave("#delete-submit")
	want(l.t, "deleted", l.tab.Text("#done"), "The agent was deleted")
	until(l.t, "Vapi to forget the agent", func() bool {
		return l.count(l.t, `SELECT count(*) FROM agents WHERE org_id = $1 AND sync_state = 'gone'`, l.org) == 1
	})
}

// nothingIsLeft looks at our rows and into the providers' books.
func (l *life) nothingIsLeft() {
	for what, query := range map[string]string{
		"numbers that are live":                 `SELECT count(*) FROM numbers WHERE org_id = $1 AND state <> 'released'`,
		"names at a provider":                   `SELECT count(*) FROM numbers WHERE org_id = $1 AND (sid IS NOT NULL OR vapi_id IS NOT NULL OR credential_id IS NOT NULL)`,
		"credentials":                           `SELECT count(*) FROM credentials WHERE org_id = $1`,
		"agents that are linked, or there":      `SELECT count(*) FROM agents WHERE org_id = $1 AND (number_id IS NOT NULL OR deleted_at IS NULL OR assistant_id IS NOT NULL)`,
		"calls that go on":                      `SELECT count(*) FROM calls WHERE org_id = $1 AND ended_at IS NULL`,
		"texts on their way":                    `SELECT count(*) FROM messages WHERE org_id = $1 AND ended_at IS NULL`,
		"holds":                                 `SELECT count(*) FROM holds WHERE org_id = $1 AND state IN ('open', 'in_flight')`,
		"pence that are set aside, or are owed": `SELECT held_pence + reserved_pence + debt_pence FROM wallets WHERE org_id = $1`,
		"months of rent":                        `SELECT count(*) FROM ledger_transactions WHERE org_id = $1 AND kind = 'rent'`,
	} {
		if n := l.count(l.t, query, l.org); n != 0 {
			l.t.Errorf("%d %s", n, what)
		}
	}
	until(l.t, "the queue to have nothing to do with numbers and agents", func() bool {
		return l.count(l.t, `SELECT count(*) FROM river_job WHERE kind IN ('number_step', 'agent_sync') AND state <> 'completed'`) == 0
	})
	var twilio sandbox.TwilioBooks
	var vapi sandbox.VapiBooks
	l.look("/sandbox/twilio/books", &twilio)
	l.look("/sandbox/vapi/books", &vapi)
	for _, n := range twilio.Owned("") {
		if !n.Given {
			l.t.Errorf("Twilio still rents out %s", n.Number)
		}
	}
	if len(vapi.Imported()) != 0 || slices.ContainsFunc(vapi.Assistants, func(a sandbox.BookedAssistant) bool { return a.Deleted.IsZero() }) {
		l.t.Errorf("Vapi still has %+v, %+v", vapi.Imported(), vapi.Assistants)
	}
	if twilio.Purchases.Made != 1 || vapi.Imports.Made != 1 || len(vapi.Calls) != 2 {
		l.t.Errorf("%s; %s", twilio, vapi)
	}
	// What was is still there to be read.
	l.tab.Open(l.base() + "/numbers")
	want(l.t, "the list of numbers", l.tab.Text("#numbers"), "Released")
	l.tab.Open(l.base() + "/calls")
	want(l.t, "the list of calls", l.tab.Text("#call-rows"), "From +44 7400 123456")
	l.tab.Open(l.base() + "/messages")
	want(l.t, "the list of texts", l.tab.Text("#messages"), "See you tomorrow at ten")
}

// everyPenny explains the balance: what was paid in, less the number, the two calls and the text, as the ledger has each of
// them and the person reads it.
func (l *life) everyPenny() {
	var lines []struct {
		What   string `db:"what"`
		Amount int64  `db:"amount"`
	}
	dbtest.Select(l.t, l.getenv("DATABASE_URL"), &lines, `
		SELECT concat_ws(' ', t.kind, h.action, c.direction) AS what, sum(p.amount_pence)::bigint AS amount
		FROM ledger_transactions t JOIN ledger_postings p ON p.transaction_id = t.id JOIN ledger_accounts a ON a.id = p.account_id AND a.name IN ('wallet/paid', 'wallet/bonus')
		     LEFT JOIN holds h ON h.id = t.id LEFT JOIN calls c ON c.hold_id = h.id
		WHERE t.org_id = $1 GROUP BY t.id, 1 ORDER BY t.seq`, l.org)
	cost := func(direction string) int64 {
		return int64(l.count(l.t, `SELECT amount_pence FROM calls WHERE org_id = $1 AND direction = $2 AND state = 'completed' AND seconds > 0`, l.org, direction))
	}
	in, out := cost("inbound"), cost("outbound")
	var got []string
	left := int64(0)
	for _, line := range lines {
		left += line.Amount
		got = append(got, fmt.Sprintf("%s %d", line.What, line.Amount))
	}
	should := []string{
		"top_up 5000", "usage number -1000", fmt.Sprintf("usage call inbound %d", -in), fmt.Sprintf("usage call outbound %d", -out), "usage sms -10",
	}
	if !slices.Equal(got, should) {
		l.t.Errorf("the ledger has %q, want %q", got, should)
	}
	if in < 1 || out < 1 || left != 5000-1000-in-out-10 {
		l.t.Errorf("the calls cost %dp and %dp, and %dp are left", in, out, left)
	}
	l.tab.Open(l.base() + "/wallet")
	if balance := l.tab.Text("#balance-amount"); !strings.Contains(balance, money.Pence(left).String()) {
		l.t.Errorf("the wallet shows %s, and has %s", balance, money.Pence(left))
	}
	l.tab.Open(l.base() + "/wallet/transactions")
	shown := l.tab.Text("main")
	for _, line := range lines {
		if amount := money.Pence(line.Amount).String(); !strings.Contains(shown, amount) {
			l.t.Errorf("the history does not show %s (%s): %s", amount, line.What, shown)
		}
	}
}

// look reads the sandbox's books.
func (l *life) look(path string, into any) {
	l.t.Helper()
	res, err := http.Get(l.sandboxBase() + path)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := errors.Join(json.NewDecoder(res.Body).Decode(into), res.Body.Close()); err != nil {
		l.t.Fatal(err)
	}
}
