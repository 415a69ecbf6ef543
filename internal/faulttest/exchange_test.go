package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/sandbox"
)

// exchange is a shop with a Twilio and a Vapi that answer, and one worker that talks to them: to be killed.
type exchange struct {
	*shop

	worker *process
	lines  []*line
}

// line is an organisation that has phone numbers.
type line struct {
	ex   *exchange
	org  uuid.UUID
	name string
	key  string
	// funds is what its wallet had in the beginning, in pence.
	funds int
	// bought is how many numbers it has paid for.
	bought int
}

// What a number costs at purchase, in pence, and what an organisation has at least to buy numbers with.
const (
	numberPrice = 10_00
	lineFunds   = 569_00
)

// The organisations of the demo.
const harbour, second = "Harbour Dental", "Second Tenant"

// newExchange starts a database, the sandbox, a web server and a worker.
func newExchange(t testing.TB) *exchange {
	t.Helper()
	// One data directory, so that all of them have the secrets that the first one makes.
	x := &exchange{shop: newSharedShop(t, t.TempDir())}
	x.worker = x.process("worker", "work")
	maps.Copy(x.worker.env, environment{"RINGFENCE_SANDBOX_ADDR": x.sandbox.addr, "STRIPE_API_BASE": x.stripe, "RINGFENCE_BASE_URL": x.site.base()})
	x.worker.start()
	x.worker.ready()
	return x
}

// line gives an organisation of the demo an API key, and lineFunds where it has less.
func (x *exchange) line(name string) *line {
	x.t.Helper()
	l := &line{ex: x, name: name, key: x.said("apikey", "create", "--org", name, "--name", "faults")}
	var org struct {
		ID    uuid.UUID `db:"id"`
		Funds int       `db:"balance_pence"`
	}
	find := func() {
		x.one(&org, `SELECT o.id, w.balance_pence FROM organizations o JOIN wallets w ON w.org_id = o.id WHERE o.name = $1`, name)
	}
	if find(); org.Funds < lineFunds {
		x.said("credit", "--org", name, fmt.Sprintf("--amount-pence=%d", lineFunds-org.Funds), "--reason", "For numbers", "--reference", "faults")
		find()
	}
	l.org, l.funds = org.ID, org.Funds
	x.lines = append(x.lines, l)
	return l
}

// said runs a command to its end and gives the last line that it prints.
func (x *exchange) said(args ...string) string {
	x.t.Helper()
	out, err := x.site.env.command(within(x.t, longest), args...).Output()
	if err != nil {
		x.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// api asks the site's API as the organisation, and decodes the answer.
func (l *line) api(method, path string, body, into any) {
	l.ex.t.Helper()
	if err := l.try(method, path, uuid.NewString(), body, into); err != nil {
		l.ex.t.Fatal(err)
	}
}

// try is api with an idempotency key, where the answer may be lost.
func (l *line) try(method, path, key string, body, into any) (err error) {
	l.ex.t.Helper()
	var raw []byte
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			l.ex.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(l.ex.t.Context()), method, l.ex.site.base()+"/api/v1"+path, bytes.NewReader(raw))
	if err != nil {
		l.ex.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+l.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := (&http.Client{Timeout: longest}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil || res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s\n%s", method, path, res.Status, answer)
	}
	return nil
}

// phone is a number as the API shows it, and as its row has it.
type phone struct {
	line *line

	ID     string `json:"id"`
	Number string `json:"phone_number"`
	State  string `db:"state"          json:"state"`
	Step   string `db:"step"           json:"-"`
	Failed string `db:"failed_step"    json:"-"`
	Note   string `db:"note"           json:"-"`
}

// order asks for a number that is for sale; buying it is the worker's.
func (l *line) order() *phone {
	l.ex.t.Helper()
	var found struct {
		Data []struct {
			Number string `json:"phone_number"`
		} `json:"data"`
	}
	l.api(http.MethodGet, "/numbers/available?country=US&area=415", nil, &found)
	if len(found.Data) == 0 {
		l.ex.t.Fatal("no number is for sale")
	}
	p := &phone{line: l}
	l.api(http.MethodPost, "/numbers", map[string]string{"phone_number": found.Data[0].Number}, p)
	return p
}

// release gives the number back; doing so is the worker's.
func (p *phone) release() {
	p.line.ex.t.Helper()
	p.line.api(http.MethodDelete, "/numbers/"+p.ID, nil, p)
}

// look reads the number's row.
func (p *phone) look() *phone {
	p.line.ex.t.Helper()
	p.line.ex.one(p, `SELECT state, step, failed_step, note FROM numbers WHERE id = $1`, p.ID)
	return p
}

// pass makes three minutes pass for what waits with numbers and calls. Nobody has anything in hand then: who had it is dead.
func (x *exchange) pass() {
	x.t.Helper()
	x.alter(`UPDATE telephony_accounts SET busy_until = busy_until - interval '3 minutes', asked_at = asked_at - interval '3 minutes'`)
	x.alter(`UPDATE numbers SET busy_until = busy_until - interval '3 minutes', asked_at = asked_at - interval '3 minutes', next_at = next_at - interval '3 minutes' WHERE step <> ''`)
	x.alter(`UPDATE calls SET asked_at = asked_at - interval '3 minutes', look_at = look_at - interval '3 minutes' WHERE ended_at IS NULL AND accepted_at IS NULL`)
}

// hasten makes a wait pass for the numbers that nobody has in hand, and has the sweeper look at once.
func (x *exchange) hasten() {
	x.t.Helper()
	x.alter(`UPDATE telephony_accounts SET asked_at = asked_at - interval '3 minutes' WHERE busy_until IS NULL`)
	x.alter(`UPDATE numbers SET asked_at = asked_at - interval '3 minutes', next_at = next_at - interval '20 minutes' WHERE step <> '' AND busy_until IS NULL AND next_at > now()`)
	x.alter(`UPDATE calls SET asked_at = asked_at - interval '3 minutes', look_at = look_at - interval '20 minutes' WHERE state IN ('placing', 'unknown') AND look_at > now()`)
	x.alter(`INSERT INTO river_job (kind, args, max_attempts, state) VALUES ('sweep', '{}', 1, 'available')`)
	x.alter(`INSERT INTO river_job (kind, args, max_attempts, state, queue) VALUES ('calls', '{}', 1, 'available', 'calls')`)
}

// comesTo waits until the number has come to a state at which nothing is left to be done.
func (p *phone) comesTo(state string) {
	p.line.ex.t.Helper()
	p.line.ex.hastening("number "+p.ID+" to be "+state, func() bool { return p.look().Step == "" })
	if p.State != state {
		p.line.ex.t.Fatalf("number %s is %s, failed at %q: %s; want %s", p.ID, p.State, p.Failed, p.Note, state)
	}
}

// hastening waits while time passes for what waits.
func (x *exchange) hastening(what string, ok func() bool) {
	x.t.Helper()
	var hastened time.Time
	until(x.t, what, func() bool {
		if ok() {
			return true
		}
		if time.Since(hastened) > 400*time.Millisecond {
			x.hasten()
			hastened = time.Now()
		}
		return false
	})
}

// dies waits until the worker is killed at the point that it was armed for, and makes time pass for what it had in hand.
func (x *exchange) dies() {
	x.t.Helper()
	x.hastening("the worker to be killed", func() bool { return !x.worker.runs() })
	x.worker.killed()
	until(x.t, "the dead worker's transactions to be gone", func() bool {
		return x.number(`SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'`) == 0
	})
	x.pass()
}

// again starts the worker that is dead, to be killed at a point; none lets it live.
func (x *exchange) again(point string) {
	x.t.Helper()
	x.worker.start()
	if point != "" {
		x.worker.arm(point)
	}
	x.worker.ready()
	x.hasten()
}

// telephonyFaults sets how Twilio and Vapi misbehave; none mends them.
func (x *exchange) telephonyFaults(rules ...sandbox.Fault) {
	x.t.Helper()
	split := map[string][]sandbox.Fault{"twilio": {}, "vapi": {}}
	for _, r := range rules {
		whose := "twilio"
		if strings.Contains(r.Match, "/vapi/") {
			whose = "vapi"
		}
		split[whose] = append(split[whose], r)
	}
	for whose, rules := range split {
		raw, err := json.Marshal(rules)
		if err != nil {
			x.t.Fatal(err)
		}
		x.ask(http.MethodPost, "/sandbox/"+whose+"/faults", url.Values{"rules": {string(raw)}}, &struct{}{})
	}
}

func (x *exchange) twilioBooks() (b sandbox.TwilioBooks) {
	x.t.Helper()
	x.ask(http.MethodGet, "/sandbox/twilio/books", nil, &b)
	return b
}

func (x *exchange) vapiBooks() (b sandbox.VapiBooks) {
	x.t.Helper()
	x.ask(http.MethodGet, "/sandbox/vapi/books", nil, &b)
	return b
}

// whole fails the test unless the providers' books are ours, each number was asked for once, every wallet is what its numbers
// and calls leave of it, nothing is left of what has ended, and the books hold together.
func (x *exchange) whole() {
	x.t.Helper()
	var ours []struct {
		Number string  `db:"phone_number"`
		State  string  `db:"state"`
		SID    *string `db:"sid"`
		Vapi   *string `db:"vapi_id"`
	}
	x.query(&ours, `SELECT phone_number, state, sid, vapi_id FROM numbers`)
	twilio, vapi := map[string]string{}, map[string]string{}
	for _, n := range ours {
		if live := n.State == "active"; live != (n.SID != nil) || live != (n.Vapi != nil) {
			x.t.Errorf("number %s is %s, and its names at the providers are %v and %v", n.Number, n.State, n.SID, n.Vapi)
		}
		if n.SID != nil {
			twilio[*n.SID] = n.Number
		}
		if n.Vapi != nil {
			vapi[*n.Vapi] = n.Number
		}
	}
	theirs, atVapi := x.twilioBooks(), x.vapiBooks()
	twiliosOwn, vapis := map[string]string{}, map[string]string{}
	for _, n := range theirs.Owned("") {
		if !n.Given {
			twiliosOwn[n.SID] = n.Number
		}
	}
	for _, n := range atVapi.Imported() {
		vapis[n.ID] = n.Number
	}
	if !maps.Equal(twilio, twiliosOwn) || !maps.Equal(vapi, vapis) {
		x.t.Errorf("ours are %v and %v; Twilio has %v, Vapi %v", twilio, vapi, twiliosOwn, vapis)
	}
	if n := x.number(`SELECT count(*) FROM numbers`); theirs.Purchases.Made > int64(n) {
		x.t.Errorf("Twilio has sold %d numbers, %d were ordered", theirs.Purchases.Made, n)
	}
	// The account itself and one for each organisation that has ever bought.
	if got, most := len(theirs.Accounts), 1+x.number(`SELECT count(DISTINCT org_id) FROM numbers`); got > most {
		x.t.Errorf("Twilio has %d accounts, want at most %d", got, most)
	}
	for what, query := range map[string]string{
		"credentials that no number needs":     `SELECT count(*) FROM credentials c WHERE NOT EXISTS (SELECT FROM numbers n WHERE n.credential_id = c.id)`,
		"agents at a number that is not there": `SELECT count(*) FROM agents a JOIN numbers n ON n.id = a.number_id WHERE n.state <> 'active'`,
		"holds that nothing ends":              `SELECT count(*) FROM holds WHERE state IN ('open', 'in_flight')`,
		"numbers with rent to come":            `SELECT count(*) FROM numbers WHERE state <> 'active' AND unpaid_since IS NOT NULL`,
	} {
		if n := x.number(query); n != 0 {
			x.t.Errorf("%d %s", n, what)
		}
	}
	for _, l := range x.lines {
		spent := x.number(`SELECT coalesce(sum(amount_pence), 0) FROM calls WHERE org_id = $1`, l.org) + numberPrice*l.bought
		if left := x.number(`SELECT balance_pence - held_pence - debt_pence FROM wallets WHERE org_id = $1`, l.org); left != l.funds-spent {
			x.t.Errorf("%s has %dp left of %dp, having spent %dp", l.name, left, l.funds, spent)
		}
	}
	x.verify()
}

// answering are the steps at which a provider is asked, and how it is asked.
var answering = map[string]string{
	"subaccount": sandbox.MakeAccount, "purchase": sandbox.BuyNumber, "vapi_import": sandbox.ImportNumber,
	"vapi_delete": sandbox.DeleteImported, "twilio_release": sandbox.ReleaseNumber,
}

// The steps of a number, in the order in which they are gone through.
var (
	buyingSteps    = []string{"subaccount", "purchase", "vapi_import", "credential", "activate"}
	releasingSteps = []string{"vapi_delete", "twilio_release", "finish"}
	allSteps       = slices.Concat(buyingSteps, releasingSteps)
)
