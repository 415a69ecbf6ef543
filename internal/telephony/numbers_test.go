package telephony_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
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
	"ringfence/jobs"
)

// price and rent are what the first price list says, in pence.
const (
	price = 10_00
	rent  = 1_19
)

// shop is numbers over a database and the sandbox's Twilio and Vapi, on one clock that is moved by hand. No job runs by
// itself: run does what the queue would.
type shop struct {
	*telephony.Numbers

	t          *testing.T
	db         *db.DB
	dbURL      string
	clock      *dbtest.Clock
	box        *sandbox.Server
	twilio     *sandbox.Twilio
	vapi       *sandbox.Vapi
	vault      *telephony.Vault
	org, other uuid.UUID
	waiting    []uuid.UUID // organisations that nothing was bought for yet
	log        *strings.Builder
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, clock: &dbtest.Clock{}, dbURL: dbtest.URL(t), log: &strings.Builder{}}
	s.db = dbtest.OpenURL(t, s.dbURL, s.clock.Now)
	err := s.db.InSystemTx(t.Context(), "a test's exchange rate", func(ctx context.Context, tx *db.Tx) error {
		rate, err := money.ParseRate("0.79")
		if err != nil {
			return err
		}
		return wallet.FirstRate(ctx, tx, rate)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.org, s.other = wallettest.Org(t, s.db, "Harbour Dental", 30_00), wallettest.Org(t, s.db, "Second Tenant", 30_00)
	s.box, err = sandbox.Start(context.Background(), sandbox.Options{
		Addr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "sandbox"), Logger: slog.New(slog.DiscardHandler), Now: s.clock.Now,
		TwilioAccountSID: account, TwilioAuthToken: token, TwilioSettleAfter: -1, CallSecond: -1, VapiAPIKey: vapiKey, VapiWebhookSecret: vapiKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.box.Close() })
	s.twilio, s.vapi = s.box.Twilio(), s.box.Vapi()
	first, _, _ := keysets(t)
	s.vault = newVault(t, first)
	s.Numbers = s.open(s.box.URL(), 0)
	t.Cleanup(func() {
		wallettest.CheckBooks(t, s.db, telephony.Invariants...)
		for _, secret := range []string{token, vapiKey} {
			if strings.Contains(s.log.String(), secret) {
				t.Error("a secret is in the log")
			}
		}
	})
	return s
}

const vapiKey = "vapi-private-key-0123456789"

// open puts numbers together over providers at an address: another process. A request to a provider may take a while; zero
// means as long as ever.
func (s *shop) open(base string, timeout time.Duration, with ...func(*telephony.NumbersOptions)) *telephony.Numbers {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.log, nil))
	inserter, err := jobs.NewInserter(s.db, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	o := telephony.NumbersOptions{
		DB: s.db, Gates: wallet.NewGates(wallet.GateOptions{DB: s.db, Now: s.clock.Now, Log: log}), Jobs: inserter, Vault: s.vault, Log: log, Now: s.clock.Now,
		AccountSID: account, AuthToken: token, TwilioBase: base, VapiKey: vapiKey, VapiBase: base + "/vapi",
		BaseURL: "https://ringfence.example", Timeout: timeout,
	}
	for _, fn := range with {
		fn(&o)
	}
	n, err := telephony.NewNumbers(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// choose gives numbers that are for sale.
func (s *shop) choose(n int) []string {
	s.t.Helper()
	found, err := s.Search(s.t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "US", Type: telephony.Local, Area: "415", Limit: n})
	if err != nil || len(found.List) != n {
		s.t.Fatalf("%d numbers for sale, %v", len(found.List), err)
	}
	list := make([]string, n)
	for i, o := range found.List {
		list[i] = o.PhoneNumber
	}
	return list
}

func (s *shop) request(number, key string) telephony.BuyRequest {
	return telephony.BuyRequest{OrgID: s.org, PhoneNumber: number, Key: key, Actor: audit.System("test")}
}

func (s *shop) buy(number, key string) telephony.Number {
	s.t.Helper()
	n, err := s.Buy(s.t.Context(), s.request(number, key))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// have is buy until it has ended one way or the other.
func (s *shop) have(number, key string) telephony.Number {
	s.t.Helper()
	return s.run(s.buy(number, key))
}

func (s *shop) number(n telephony.Number) telephony.Number {
	s.t.Helper()
	n, err := s.Number(s.t.Context(), n.OrgID, n.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// step does the next step, when its time has come. What the database refuses is left for the next one.
func (s *shop) step(n telephony.Number) (telephony.Number, error) {
	s.t.Helper()
	now := s.clock.Now()
	if n.NextAt.After(now) {
		s.clock.Advance(n.NextAt.Sub(now))
	}
	err := s.Advance(s.t.Context(), n.OrgID, n.ID)
	return s.number(n), err
}

// run brings a number on until there is nothing to do, for an hour of the clock at most: where somebody has it in hand who
// is gone, as the sweeper does.
func (s *shop) run(n telephony.Number) telephony.Number {
	s.t.Helper()
	began := s.clock.Now()
	for n.Step != "" {
		before := n
		var err error
		if n, err = s.step(n); err != nil {
			s.t.Fatal(err)
		}
		if n.BusyUntil != nil && n.Step == before.Step && n.Tries == before.Tries {
			s.clock.Advance(time.Minute + time.Second)
			s.sweep()
		}
		if s.clock.Now().Sub(began) > time.Hour {
			s.t.Fatalf("after an hour the number is %s at %s, failed at %q: %s", n.State, n.Step, n.FailedStep, n.Note)
		}
	}
	return n
}

func (s *shop) sweep() {
	s.t.Helper()
	if _, err := s.Sweep(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) faults(rules ...sandbox.Fault) {
	s.t.Helper()
	var twilio, vapi []sandbox.Fault
	for _, r := range rules {
		if strings.Contains(r.Match, "/vapi/") {
			vapi = append(vapi, r)
		} else {
			twilio = append(twilio, r)
		}
	}
	if err := s.twilio.SetFaults(twilio...); err != nil {
		s.t.Fatal(err)
	}
	if err := s.vapi.SetFaults(vapi...); err != nil {
		s.t.Fatal(err)
	}
}

// state is what a number should have come to.
func (s *shop) wantState(n telephony.Number, state telephony.NumberState, failed telephony.Step) {
	s.t.Helper()
	if n = s.number(n); n.State != state || n.FailedStep != failed {
		s.t.Errorf("the number is %s (step %q, failed at %q: %s), want %s, failed at %q", n.State, n.Step, n.FailedStep, n.Note, state, failed)
	}
}

// wantWallet holds an organisation's wallet against what it should have, in pence.
func (s *shop) wantWallet(org uuid.UUID, balance, held, debt money.Pence) {
	s.t.Helper()
	found, err := wallet.New(s.db).Balances(s.t.Context(), []uuid.UUID{org})
	if err != nil {
		s.t.Fatal(err)
	}
	if b := found[org]; b.Balance != balance || b.Held != held || b.Debt != debt {
		s.t.Errorf("balance %s with %s held and %s owed, want %s, %s and %s", b.Balance, b.Held, b.Debt, balance, held, debt)
	}
}

// wantAgree holds the providers' books against ours: every number that Twilio and Vapi have is one of ours and live, and the
// other way round; each was bought once; and nobody has two subaccounts.
func (s *shop) wantAgree() {
	s.t.Helper()
	var ours []telephony.Number
	dbtest.Select(s.t, s.dbURL, &ours, `SELECT id, org_id, phone_number, kind, state, sid, vapi_id, account_sid FROM numbers`)
	twilio, vapi := map[string]string{}, map[string]string{}
	for _, n := range ours {
		if n.SID.Valid {
			twilio[n.SID.String] = n.PhoneNumber
		}
		if n.VapiID.Valid {
			vapi[n.VapiID.String] = n.PhoneNumber
		}
	}
	books := s.twilio.Books()
	var bought int64
	for _, n := range books.Numbers {
		if n.Given {
			continue
		}
		bought++
		if n.Released.IsZero() {
			if twilio[n.SID] != n.Number {
				s.t.Errorf("Twilio has %s (%s), which is nobody's", n.Number, n.SID)
			}
			delete(twilio, n.SID)
		}
	}
	for _, n := range s.vapi.Books().Imported() {
		if vapi[n.ID] != n.Number {
			s.t.Errorf("Vapi has %s (%s), which is nobody's", n.Number, n.ID)
		}
		if n.SMSEnabled {
			s.t.Errorf("Vapi has taken the texts of %s", n.Number)
		}
		delete(vapi, n.ID)
	}
	for sid, number := range twilio {
		s.t.Errorf("Twilio does not have %s (%s)", number, sid)
	}
	for id, number := range vapi {
		s.t.Errorf("Vapi does not have %s (%s)", number, id)
	}
	if books.Purchases.Made != bought || bought > int64(len(ours)) {
		s.t.Errorf("%d numbers were bought in %d purchases, of %d orders", bought, books.Purchases.Made, len(ours))
	}
	names := map[string]int{}
	for _, a := range books.Accounts {
		if names[a.FriendlyName]++; names[a.FriendlyName] > 1 {
			s.t.Errorf("the subaccount %q was made %d times", a.FriendlyName, names[a.FriendlyName])
		}
	}
}

// counted is what a query counts.
func (s *shop) count(query string, args ...any) (n int) {
	s.t.Helper()
	dbtest.Get(s.t, s.dbURL, &n, query, args...)
	return n
}

// agent gives the organisation an agent that has the number.
func (s *shop) agent(n telephony.Number) (id uuid.UUID) {
	s.t.Helper()
	id = uuid.New()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := telephony.Usable(ctx, tx, n.OrgID, n.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO agents (id, org_id, name, number_id, created_at, updated_at) VALUES ($1, $2, 'Reception', $3, $4, $4)`, id, n.OrgID, n.ID, tx.Now)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// api asks the sandbox's Twilio as somebody else does, and gives what it says.
func (s *shop) api(method, path string, form url.Values) map[string]any {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.box.URL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth(account, token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s, %v", method, path, res.StatusCode, b, err)
	}
	said := map[string]any{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &said); err != nil {
			s.t.Fatal(err)
		}
	}
	return said
}

func TestBuy(t *testing.T) {
	s := newShop(t)
	chosen := s.choose(3)[1]
	n := s.buy(chosen, "k")
	if n.State != telephony.NumberProvisioning || n.PhoneNumber != chosen || n.Country != "US" || n.Monthly != rent || n.Repeated {
		t.Errorf("ordered %+v", n)
	}
	s.wantWallet(s.org, 30_00, price, 0)
	again := s.buy(chosen, "k")
	if !again.Repeated || again.ID != n.ID {
		t.Errorf("the same key: %+v", again)
	}
	_, err := s.Buy(t.Context(), s.request(s.choose(3)[0], "k"))
	wantFault(t, "another number with the key", err, fault.Conflict, "idempotency_key_reused")

	n = s.run(n)
	if n.State != telephony.NumberActive || n.PaidUntil == nil || !n.PaidUntil.Equal(n.ActivatedAt.AddDate(0, 1, 0)) {
		t.Errorf("%+v", n)
	}
	s.wantWallet(s.org, 20_00, 0, 0)
	s.wantAgree()
	books := s.twilio.Books()
	i := slices.IndexFunc(books.Numbers, func(b sandbox.BookedNumber) bool { return b.SID == n.SID.String })
	if b := books.Numbers[i]; b.Number != chosen || b.Account == account || b.SMSURL != "https://ringfence.example/api/webhooks/twilio/sms" {
		t.Errorf("Twilio has %+v", b)
	}

	// The second goes into the same subaccount, with the same credential.
	second := s.have(s.choose(1)[0], "second")
	if second.State != telephony.NumberActive || second.AccountSID != n.AccountSID || second.CredentialID != n.CredentialID {
		t.Errorf("%+v", second)
	}
	s.wantWallet(s.org, 10_00, 0, 0)
	s.wantAgree()
	if jobs := s.count(`SELECT count(*) FROM river_job WHERE kind = 'number_step'`); jobs != 10 {
		t.Errorf("%d jobs for ten steps", jobs)
	}
}

func TestBuyRefusals(t *testing.T) {
	s := newShop(t)
	for what, c := range map[string]struct {
		number string
		kind   fault.Kind
		code   string
	}{
		"no number":                       {"hello", fault.Invalid, ""},
		"no valid number":                 {"+447700900123", fault.Invalid, ""},
		"one that nobody sells":           {"+12125550100", fault.Conflict, "number_unavailable"},
		"a country that sells none":       {"+4915112345678", fault.Conflict, "number_unavailable"},
		"the sandbox's own":               {"+15005550006", fault.Conflict, "number_unavailable"},
		"one that asks for an address":    {"", fault.Invalid, "address_required"},
		"one that somebody else has":      {"taken", fault.Conflict, "number_unavailable"},
		"a number without the plus":       {"14155550100", fault.Invalid, ""},
		"two numbers in the place of one": {"+14155550100,+14155550101", fault.Invalid, ""},
	} {
		switch c.number {
		case "":
			found, err := s.Search(t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "gb", Type: telephony.Local})
			if err != nil || len(found.List) == 0 || found.List[0].Needs == "" || found.Purchase != price || found.Monthly != rent {
				t.Fatalf("numbers of Great Britain: %+v, %v", found, err)
			}
			c.number = found.List[0].PhoneNumber
		case "taken":
			c.number = s.choose(1)[0]
			s.api("POST", "/2010-04-01/Accounts/"+account+"/IncomingPhoneNumbers.json", url.Values{"PhoneNumber": {c.number}})
		}
		_, err := s.Buy(t.Context(), s.request(c.number, what))
		wantFault(t, what, err, c.kind, c.code)
		if f := fault.As(err); err != nil && f.Kind == fault.Invalid && f.Field != "phone_number" {
			t.Errorf("%s: field %q", what, f.Field)
		}
	}
	_, err := s.Buy(t.Context(), s.request(s.choose(1)[0], ""))
	wantFault(t, "no key", err, fault.Invalid, "")
	s.faults(sandbox.Fault{Match: "GET /2010-04-01/Accounts/*/AvailablePhoneNumbers/*/*", Do: sandbox.Fault503, Times: -1})
	_, err = s.Buy(t.Context(), s.request("+14155550100", "away"))
	wantFault(t, "Twilio is away", err, fault.Unavailable, "provider_unavailable")
	s.faults()
	dbtest.Super(t, s.dbURL, `UPDATE wallets SET frozen_at = now(), frozen_reason = 'test' WHERE org_id = $1`, s.other)
	r := s.request(s.choose(1)[0], "frozen")
	r.OrgID = s.other
	_, err = s.Buy(t.Context(), r)
	wantFault(t, "a frozen wallet", err, fault.Forbidden, "wallet_frozen")
	for i, number := range s.choose(4) {
		_, err := s.Buy(t.Context(), s.request(number, fmt.Sprint(i)))
		if i < 3 != (err == nil) {
			t.Errorf("number %d for £30: %v", i+1, err)
		}
		if i == 3 {
			wantFault(t, "no money", err, fault.Unpaid, "insufficient_funds")
		}
	}
	if n := s.count(`SELECT count(*) FROM numbers`); n != 3 {
		t.Errorf("%d numbers were stored", n)
	}
	for _, r := range []telephony.SearchRequest{
		{Country: "Britain"}, {Country: "ZZ"}, {Country: "US", Type: "premium"}, {Country: "US", Area: "12"}, {Country: "GB", Area: "415"}, {Country: "US", Contains: "1"}, {Country: "US", Contains: "a;b"},
	} {
		r.OrgID = s.org
		_, err := s.Search(t.Context(), r)
		wantFault(t, fmt.Sprintf("%+v", r), err, fault.Invalid, "")
	}
	empty, err := s.Search(t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "JP"})
	if err != nil || len(empty.List) != 0 {
		t.Errorf("a country that sells none: %+v, %v", empty, err)
	}
}

// Two organisations want the same number: one gets it, the other is told, and is charged nothing.
func TestTwoWantOne(t *testing.T) {
	s := newShop(t)
	number := s.choose(1)[0]
	results := make(chan error, 2)
	for _, org := range []uuid.UUID{s.org, s.other} {
		go func() {
			r := s.request(number, "k")
			r.OrgID = org
			_, err := s.Buy(context.Background(), r)
			results <- err
		}()
	}
	lost := 0
	for range 2 {
		if err := <-results; err != nil {
			lost++
			wantFault(t, "the slower one", err, fault.Conflict, "number_taken")
		}
	}
	if lost != 1 {
		t.Errorf("%d of two did not get it", lost)
	}
	var won telephony.Number
	dbtest.Get(t, s.dbURL, &won, `SELECT id, org_id, step, next_at FROM numbers`)
	loser := s.org
	if won.OrgID == s.org {
		loser = s.other
	}
	s.wantWallet(loser, 30_00, 0, 0)
	won = s.run(won)
	s.wantState(won, telephony.NumberActive, "")
	s.wantWallet(won.OrgID, 20_00, 0, 0)
	s.wantAgree()
	// Nobody gets one that is somebody's, nor a second time.
	for _, org := range []uuid.UUID{won.OrgID, loser} {
		r := s.request(number, "again")
		r.OrgID = org
		if _, err := s.Buy(t.Context(), r); !fault.Is(err, fault.Conflict) {
			t.Errorf("bought again: %v", err)
		}
	}
	if _, err := s.Number(t.Context(), loser, won.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another organisation's number: %v", err)
	}
	for org, want := range map[uuid.UUID]fault.Kind{loser: fault.NotFound} {
		err := s.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			_, err := telephony.Usable(ctx, tx, org, won.ID)
			return err
		})
		if !fault.Is(err, want) {
			t.Errorf("another organisation uses it: %v", err)
		}
	}
}
