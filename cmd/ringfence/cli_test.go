package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/config"
	"ringfence/internal/sandbox"
)

// command is one call of the program and what must come of it.
type command struct {
	name     string
	env      environment // changes; "" unsets
	args     []string
	code     int
	says     []string // on either output
	saysNone []string
}

func (c command) check(t *testing.T, e environment) {
	t.Helper()
	t.Run(c.name, func(t *testing.T) {
		code, out, log := e.with(c.env).run(t, c.args...)
		said := out + log
		if code != c.code {
			t.Errorf("exits %d, want %d:\n%s", code, c.code, said)
		}
		for _, words := range c.says {
			if !strings.Contains(said, words) {
				t.Errorf("does not say %q:\n%s", words, said)
			}
		}
		for _, words := range append(c.saysNone, canary) {
			if strings.Contains(said, words) {
				t.Errorf("says %q:\n%s", words, said)
			}
		}
	})
}

// production is an environment that is complete but for what a test changes.
func production(e environment) environment {
	keyset, err := config.NewKeyset("")
	if err != nil {
		panic(err)
	}
	return e.with(environment{
		"RINGFENCE_ENCRYPTION_KEYSET": keyset,
		"RINGFENCE_ENV":               "production", "RINGFENCE_SANDBOX_ADDR": "", "RINGFENCE_BASE_URL": "https://wallet.example.com", "SMTP_URL": "",
		"USD_TO_GBP_RATE": "0.79", "STRIPE_SECRET_KEY": "sk_live_" + canary + "000000",
	})
}

// Commands that need no running server.
func TestCommands(t *testing.T) {
	t.Parallel()
	e := development(t, dbtest.EmptyURL(t))
	unreachable := "postgres://ringfence:" + canary + "@127.0.0.1:" + strings.TrimPrefix(freeAddr(t), "127.0.0.1:") + "/nothing?sslmode=disable"
	for _, c := range []command{
		{name: "help", args: []string{"--help"}, code: 0, says: []string{"serve", "verify", "doctor", "credit"}},
		{name: "no command", code: 2, says: []string{"expected"}},
		{name: "unknown command", args: []string{"frobnicate"}, code: 2, says: []string{"frobnicate"}},
		{name: "unknown flag", args: []string{"serve", "--frobnicate"}, code: 2, says: []string{"--frobnicate"}},
		{
			name: "every fault of the configuration at once", args: []string{"serve"}, code: 2,
			env: environment{
				"RINGFENCE_ADDR": "nowhere", "RINGFENCE_SESSION_KEYS": "c2hvcnQ=", "STRIPE_SECRET_KEY": "pk_test_" + canary,
				"STRIPE_WEBHOOK_SECRET": "whsec_short", "RINGFENCE_TOP_UP_MIN_PENCE": "many", "USD_TO_GBP_RATE": "-1", "RINGFENCE_LOG_LEVEL": "loud",
			},
			says: []string{
				"RINGFENCE_ADDR", "RINGFENCE_SESSION_KEYS", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
				"RINGFENCE_TOP_UP_MIN_PENCE", "USD_TO_GBP_RATE", "RINGFENCE_LOG_LEVEL",
			},
			saysNone: []string{"c2hvcnQ=", "whsec_short"},
		},
		{name: "no environment", args: []string{"serve"}, env: environment{"RINGFENCE_ENV": ""}, code: 2, says: []string{"RINGFENCE_ENV", "is not set"}},
		{name: "unknown environment", args: []string{"serve"}, env: environment{"RINGFENCE_ENV": "staging"}, code: 2, says: []string{"RINGFENCE_ENV", "development or production"}},
		{
			name: "production without anything", args: []string{"serve"}, code: 2,
			env: environment{
				"RINGFENCE_ENV": "production", "DATABASE_URL": "", "RINGFENCE_SESSION_KEYS": "", "STRIPE_SECRET_KEY": "", "STRIPE_WEBHOOK_SECRET": "",
			},
			says: []string{
				"RINGFENCE_BASE_URL", "DATABASE_URL", "RINGFENCE_SESSION_KEYS", "RINGFENCE_ENCRYPTION_KEYSET", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
				"USD_TO_GBP_RATE", "RINGFENCE_SANDBOX_ADDR is a development feature",
			},
		},
		{name: "an empty database will do", args: []string{"migrate"}, code: 0, says: []string{"up to date"}},
		{name: "migrate again", args: []string{"migrate"}, code: 0, says: []string{"up to date"}},
		{name: "the books of an empty database", args: []string{"verify"}, code: 0, says: []string{"invariants hold", "verify-sees-everything"}},
		{name: "seed", args: []string{"seed"}, code: 0},
		{name: "seed again", args: []string{"seed"}, code: 0},
		{name: "credit", args: []string{"credit", "--org", "Harbour Dental", "--amount-pence=150", "--reason", "Sorry for the outage", "--reference", "ticket-1"}, code: 0, says: []string{"balance £570.50"}},
		{name: "the same credit again", args: []string{"credit", "--org", "Harbour Dental", "--amount-pence=150", "--reason", "Sorry for the outage", "--reference", "ticket-1"}, code: 0, says: []string{"balance £570.50"}},
		{name: "another amount under the same reference", args: []string{"credit", "--org", "Harbour Dental", "--amount-pence=151", "--reason", "Sorry for the outage", "--reference", "ticket-1"}, code: 1, says: []string{"reference"}},
		{name: "the same reference for another organisation", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=150", "--reason", "Sorry for the outage", "--reference", "ticket-1"}, code: 0, says: []string{"balance £1.50"}},
		{name: "a debit", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=-50", "--reason", "Too much", "--reference", "ticket-2"}, code: 0, says: []string{"balance £1.00"}},
		{name: "a credit of nothing", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=0", "--reason", "x", "--reference", "ticket-3"}, code: 1},
		{name: "a credit for nobody", args: []string{"credit", "--org", "Nobody", "--amount-pence=1", "--reason", "x", "--reference", "ticket-4"}, code: 1, says: []string{`no organisation "Nobody"`}},
		{name: "a bonus", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=25", "--kind", "bonus", "--reason", "Sorry", "--reference", "ticket-6"}, code: 0, says: []string{"balance £1.25"}},
		{name: "the same bonus again", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=25", "--bonus", "--reason", "Sorry", "--reference", "ticket-6"}, code: 0, says: []string{"Booked already", "balance £1.25"}},
		{name: "the reference of a bonus for a credit", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=25", "--kind=credit", "--reason", "Sorry", "--reference", "ticket-6"}, code: 1, says: []string{"a bonus of £0.25"}},
		{name: "a debit by its kind", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=25", "--kind=debit", "--reason", "Taken back", "--reference", "ticket-7"}, code: 0, says: []string{"balance £1.00"}},
		{name: "a debit with a sign", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=-25", "--kind=debit", "--reason", "x", "--reference", "ticket-8"}, code: 1, says: []string{"without a minus sign"}},
		{name: "more than is available", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=-101", "--reason", "x", "--reference", "ticket-8"}, code: 1, says: []string{"Only £1.00 is available"}},
		{name: "more than at once", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=10000001", "--reason", "x", "--reference", "ticket-8"}, code: 1, says: []string{"at most £100,000.00"}},
		{name: "a reason of two lines", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=1", "--reason", "a\nb", "--reference", "ticket-8"}, code: 1, says: []string{"in one line"}},
		{name: "another kind", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=1", "--kind=gift", "--reason", "x", "--reference", "ticket-8"}, code: 2, says: []string{"--kind"}},
		{name: "two kinds", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=1", "--kind=debit", "--bonus", "--reason", "x", "--reference", "ticket-8"}, code: 1, says: []string{"different things"}},
		{name: "a credit without a reason", args: []string{"credit", "--org", "Second Tenant", "--amount-pence=1", "--reference", "ticket-5"}, code: 2, says: []string{"--reason"}},
		{name: "the books after it", args: []string{"verify"}, code: 0, says: []string{"invariants hold"}},
		{name: "a first keyset", args: []string{"credentials", "keyset"}, env: environment{"RINGFENCE_ENV": ""}, code: 0, says: []string{"RINGFENCE_ENCRYPTION_KEYSET"}},
		{name: "a keyset with a new key", args: []string{"credentials", "keyset", "--add"}, code: 0, says: []string{"credentials rotate"}},
		{name: "a keyset without old keys", args: []string{"credentials", "keyset", "--newest"}, code: 0},
		{name: "rotate", args: []string{"credentials", "rotate"}, code: 0, says: []string{"0 sealed under the newest key now", "can go"}},
		{name: "an operator", args: []string{"operator", "add", "--email", "new@ringfence.example", "--reason", "The first"}, code: 0, says: []string{"is an operator", "password"}},
		{name: "the same operator again", args: []string{"operator", "add", "--email", "new@ringfence.example", "--reason", "x"}, code: 1, says: []string{"account with this email already", "--existing"}},
		{name: "an operator of an account", args: []string{"operator", "add", "--existing", "--email", "new@ringfence.example", "--reason", "x"}, code: 0, saysNone: []string{"password"}},
		{name: "an operator without a reason", args: []string{"operator", "add", "--email", "x@ringfence.example"}, code: 2, says: []string{"--reason"}},
		{name: "no operator any more", args: []string{"operator", "remove", "--email", "new@ringfence.example", "--reason", "Left"}, code: 0, says: []string{"is no operator"}},
		{name: "seed in production", args: []string{"seed"}, env: production(e), code: 1, says: []string{"development only"}},
		{name: "bench in production", args: []string{"bench", "prepare", "--top-ups", "1"}, env: production(e), code: 1, says: []string{"development only"}},
		{name: "sandbox in production", args: []string{"sandbox"}, env: production(e), code: 1, says: []string{"development only"}},
		{name: "doctor", args: []string{"doctor"}, code: 0, says: []string{"[secret]", "RINGFENCE_ADDR", "ok      database", "note    twilio", "note    vapi"}},
		{name: "doctor without a database", args: []string{"doctor"}, env: environment{"DATABASE_URL": unreachable}, code: 1, says: []string{"FAILED  database"}},
		{name: "doctor with a bad setting", args: []string{"doctor"}, env: environment{"RINGFENCE_ADDR": "x"}, code: 2, says: []string{"RINGFENCE_ADDR"}},
		{name: "a database that is not there", args: []string{"migrate"}, env: environment{"DATABASE_URL": unreachable}, code: 1},
	} {
		c.check(t, e)
	}
	if n := (&program{e, nil}).count(t, `SELECT count(*) FROM users`); n != len(demoUsers)+1 {
		t.Errorf("after two seeds and an operator there are %d users, want %d", n, len(demoUsers)+1)
	}
}

// TestVerifyFindsDamage plants what no code of ours writes, each in a database of its own.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	for _, d := range []struct{ name, sql, broken string }{
		{"a balance that nothing explains", `UPDATE wallets SET balance_pence = balance_pence + 1 WHERE balance_pence > 0`, "wallets-match-ledger"},
		{"a posting changed", `UPDATE ledger_postings SET amount_pence = amount_pence + 1 WHERE amount_pence > 0`, "postings-sum-to-zero"},
		{"an audit row removed", `DELETE FROM audit_log WHERE transaction_id IS NOT NULL`, "money-is-audited"},
		{"a wallet removed", `DELETE FROM wallets WHERE balance_pence = 0`, "organisations-have-wallets"},
	} {
		t.Run(d.name, func(t *testing.T) {
			e := development(t, dbtest.EmptyURL(t))
			if code, out, log := e.run(t, "seed"); code != 0 {
				t.Fatalf("seed exits %d:\n%s%s", code, out, log)
			}
			e.verify(t)
			dbtest.Super(t, e["DATABASE_URL"], d.sql)
			code, out, log := e.run(t, "verify")
			if code != 1 || !strings.Contains(out, "FAILED  "+d.broken) {
				t.Errorf("verify exits %d:\n%s%s", code, out, log)
			}
		})
	}
}

// TestVerifyAsksTheProviders: what a provider has and nobody here fails verify; a provider that cannot be reached is said to be,
// and is neither passed nor a failure of ours.
func TestVerifyAsksTheProviders(t *testing.T) {
	t.Parallel()
	s := &site{serve(t), nil, nil}
	check := func(exits int, says ...string) {
		t.Helper()
		code, out, log := s.run(t, "verify")
		for _, words := range append(says, "invariants hold.") {
			if !strings.Contains(out, words) {
				t.Errorf("verify does not say %q", words)
			}
		}
		if code != exits || t.Failed() {
			t.Errorf("verify exits %d, want %d:\n%s%s", code, exits, out, log)
		}
	}
	check(0, "ok      providers-agree")
	s.vapiFaults(t, `[{"match":"`+sandbox.ListImported+`","do":"500","times":-1}]`)
	check(0, "UNKNOWN providers-agree", "Vapi  could not be reached")
	sid, _ := s.subaccount(t, "Ringfence "+s.idOf(t, "Second Tenant"))
	check(1, "FAILED  providers-agree", "Twilio has "+sid)
}

// TestBenchPrepare makes open top-ups and pays them with events made here, as measurements from outside do.
func TestBenchPrepare(t *testing.T) {
	t.Parallel()
	p := serve(t)
	code, out, log := p.run(t, "bench", "prepare", "--top-ups", "7")
	if code != 0 {
		t.Fatalf("exits %d:\n%s", code, log)
	}
	type topUp struct {
		ID       string `json:"top_up_id"`
		Org      string `json:"org_id"`
		Amount   int64  `json:"amount_pence"`
		Customer string `json:"customer"`
	}
	var total int64
	orgs := map[string]int64{}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		var u topUp
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			t.Fatalf("line %d is no JSON (%v): %s", i+1, err, line)
		}
		if u.ID == "" || u.Amount <= 0 || !strings.HasPrefix(u.Customer, "cus_") {
			t.Fatalf("line %d is %+v", i+1, u)
		}
		total += u.Amount
		orgs[u.Org] += u.Amount
		for range 2 { // each twice: a repeat changes nothing
			payByEvent(t, p, fmt.Sprintf("evt_bench_%d", i), fmt.Sprintf("pi_bench_%d", i), u.ID, u.Customer, u.Amount)
		}
	}
	if len(lines) != 7 || len(orgs) != 2 {
		t.Errorf("%d top-ups over %d organisations, want 7 over 2", len(lines), len(orgs))
	}
	// More of them keep out of the way of those that are there, paid or not.
	for range 2 {
		if code, out, log := p.run(t, "bench", "prepare", "--top-ups", "3"); code != 0 || strings.Count(out, "\n") != 3 {
			t.Errorf("once more it exits %d:\n%s%s", code, out, log)
		}
	}
	until(t, "the credits", func() bool { return p.count(t, `SELECT count(*) FROM credits`) >= 7 })
	if n := p.count(t, `SELECT sum(amount_pence) FROM credits`); int64(n) != total {
		t.Errorf("%dp were credited, want %dp", n, total)
	}
	for org, amount := range orgs {
		if n := p.count(t, `SELECT sum(amount_pence) FROM credits WHERE org_id = $1`, org); int64(n) != amount {
			t.Errorf("%dp were credited to %s, want %dp", n, org, amount)
		}
	}
	p.verify(t)
}

// payByEvent sends a signed event as Stripe would.
func payByEvent(t *testing.T, p *program, event, intent, topUp, customer string, amount int64) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"id": event, "object": "event", "api_version": stripe.APIVersion, "type": "payment_intent.succeeded", "livemode": false, "created": time.Now().Unix(),
		"data": map[string]any{"object": map[string]any{
			"id": intent, "object": "payment_intent", "status": "succeeded", "livemode": false, "amount": amount, "amount_received": amount,
			"currency": "gbp", "customer": customer, "metadata": map[string]string{"top_up_id": topUp},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: p.getenv("STRIPE_WEBHOOK_SECRET")})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base()+"/api/webhooks/stripe", strings.NewReader(string(signed.Payload)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Stripe-Signature", signed.Header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the event %s is answered %s", event, res.Status)
	}
}

// complaints takes the failures of a check that is meant to fail.
type complaints struct {
	testing.TB

	n int
}

func (c *complaints) Helper()               {}
func (c *complaints) Errorf(string, ...any) { c.n++ }

// TestLogCheck: the check that every server's log goes through here finds what it is there for.
func TestLogCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, log string
		want      int
	}{
		{"sound", `{"msg":"request","request_id":"A"}` + "\n" + `{"msg":"running"}` + "\n", 0},
		{"not JSON", "panic: oh no\n", 1},
		{"a request without its id", `{"msg":"request"}` + "\n", 1},
		{"a secret", `{"msg":"x","error":"sk_test_` + canary + `1"}` + "\n", 1},
		{"an encoded session key", `{"msg":"x","key":"` + base64.StdEncoding.EncodeToString([]byte(canary+"0123456789")) + `"}` + "\n", 1},
		{"the demo's password", `{"msg":"x","body":"password=` + auth.DemoPassword + `"}` + "\n", 1},
	} {
		got := &complaints{TB: t}
		clean(got, c.log)
		if got.n != c.want {
			t.Errorf("%s: %d complaints, want %d", c.name, got.n, c.want)
		}
	}
}
