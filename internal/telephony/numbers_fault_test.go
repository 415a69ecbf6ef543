package telephony_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/money"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet/wallettest"
)

// asked are the steps of buying that ask a provider, and how they ask.
var asked = []struct {
	step telephony.Step
	asks string
	// refuses is the provider's refusal of what was asked, wrong one about who asks.
	refuses, wrong int
}{
	{telephony.StepSubaccount, sandbox.MakeAccount, 21470, 20003},
	{telephony.StepPurchase, sandbox.BuyNumber, 21422, 20003},
	{telephony.StepImport, sandbox.ImportNumber, 400, 401},
}

// customer gives the shop another organisation to buy for.
func (s *shop) customer() {
	s.t.Helper()
	if len(s.waiting) == 0 {
		s.waiting = wallettest.Orgs(s.t, s.db, 20, 30_00)
	}
	s.org, s.waiting = s.waiting[0], s.waiting[1:]
}

// asked is how often each provider was asked to make something.
func (s *shop) asked() map[telephony.Step]int64 {
	s.t.Helper()
	books := s.twilio.Books()
	return map[telephony.Step]int64{
		telephony.StepSubaccount: books.AccountRequests.Asked, telephony.StepPurchase: books.Purchases.Asked, telephony.StepImport: s.vapi.Books().Imports.Asked,
	}
}

// wantEnd holds what has become of a number, and of what was paid for it, against what should have.
func (s *shop) wantEnd(n telephony.Number, state telephony.NumberState, failed telephony.Step) {
	s.t.Helper()
	s.wantState(n, state, failed)
	left := money.Pence(30_00)
	if state == telephony.NumberActive || state == telephony.NumberReleased {
		left -= price
	}
	s.wantWallet(n.OrgID, left, 0, 0)
	s.wantAgree()
}

// TestBuyFaults: whatever goes wrong at a step, the number is bought once at most and paid for if and only if it is; what
// was done before is undone where it is not.
func TestBuyFaults(t *testing.T) {
	const active, failed = telephony.NumberActive, telephony.NumberFailed
	for _, at := range asked {
		t.Run(string(at.step), func(t *testing.T) {
			s := newShop(t)
			unanswered := active // it is asked again
			if at.step == telephony.StepPurchase {
				unanswered = failed // and given back rather than bought twice
			}
			for _, c := range []struct {
				name  string
				fault sandbox.Fault
				want  telephony.NumberState
			}{
				{"answers too late", sandbox.Fault{Do: sandbox.FaultTimeoutAfterActing, MS: 20}, active},
				{"loses the answer", sandbox.Fault{Do: sandbox.FaultCutAfterActing}, active},
				{"500 after acting", sandbox.Fault{Do: sandbox.Fault500AfterActing}, active},
				{"never answers", sandbox.Fault{Do: sandbox.FaultTimeout, MS: 20}, unanswered},
				{"500", sandbox.Fault{Do: sandbox.Fault500}, unanswered},
				{"503", sandbox.Fault{Do: sandbox.Fault503}, unanswered},
				{"429", sandbox.Fault{Do: sandbox.Fault429, Times: 3}, active},
				{"wrong credentials once", sandbox.Fault{Do: sandbox.FaultRefuse, Code: at.wrong}, active},
				{"wrong credentials for good", sandbox.Fault{Do: sandbox.FaultRefuse, Code: at.wrong, Times: -1}, failed},
				{"refused", sandbox.Fault{Do: sandbox.FaultRefuse, Code: at.refuses}, failed},
				{"429 for good", sandbox.Fault{Do: sandbox.Fault429, Times: -1}, failed},
			} {
				s.customer()
				number := s.choose(1)[0]
				c.fault.Match = at.asks
				s.faults(c.fault)
				before := s.asked()
				n := s.have(number, c.name)
				s.faults()
				if again := s.asked()[at.step] - before[at.step]; again != 1 && strings.Contains(c.fault.Do, "after_acting") {
					t.Errorf("%s: asked %d times for what was done at once", c.name, again)
				}
				step := telephony.Step("")
				if c.want == failed {
					step = at.step
				}
				s.wantEnd(n, c.want, step)
				if c.want == failed && (n.Note == "" || !strings.Contains(n.Note, "Nothing was charged")) {
					t.Errorf("%s: told %q", c.name, n.Note)
				}
				if t.Failed() {
					t.Fatalf("when Twilio or Vapi: %s", c.name)
				}
			}
		})
	}
}

// People are told once of a number that was not bought, and of the money that is theirs again.
func TestFailedIsTold(t *testing.T) {
	s := newShop(t)
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultRefuse, Code: 21422}, sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400},
		sandbox.Fault{Match: sandbox.ReleaseNumber, Do: sandbox.Fault500, Times: 2})
	refused := s.have(s.choose(1)[0], "refused")
	undone := s.buy(s.choose(1)[0], "undone")
	for !undone.Undoing() {
		undone = s.stepped(undone)
	}
	// Told when the money is free, not when the providers have let go.
	kinds, data := s.notices()
	if len(kinds) != 2 {
		t.Fatalf("told %v", kinds)
	}
	s.run(undone)
	for i, n := range []telephony.Number{refused, undone} {
		if kinds[i] != "number_failed" || data[i]["phone_number"] != n.PhoneNumber || data[i]["number_id"] != n.ID.String() || data[i]["amount_pence"] != float64(price) || data[i]["reason"] != n.Note {
			t.Errorf("told %s: %v", kinds[i], data[i])
		}
	}
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	s.setMode(telephony.BYOC)
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultRefuse, Code: 21422})
	own := s.have(s.choose(1)[0], "own")
	s.faults()
	s.have(s.choose(1)[0], "bought")
	if kinds, data := s.notices(); len(kinds) != 3 || data[2]["phone_number"] != own.PhoneNumber || data[2]["amount_pence"] != 0. {
		t.Errorf("told %v, %v", kinds, data)
	}
}

// Nothing is there any more that a step needs: the provider says 404.
func TestBuyNotFound(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "purchase")
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultRefuse, Code: 20404})
	s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepPurchase)

	s.customer()
	n = s.buy(s.choose(1)[0], "import")
	for n.Step != telephony.StepImport {
		n = s.stepped(n)
	}
	s.api("DELETE", "/2010-04-01/Accounts/"+n.AccountSID.String+"/IncomingPhoneNumbers/"+n.SID.String+".json", nil)
	s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepImport)
}

// stepped is step without an error.
func (s *shop) stepped(n telephony.Number) telephony.Number {
	s.t.Helper()
	n, err := s.step(n)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// TestBuyUndone: what was bought is given back when it cannot be connected, however long Twilio takes to take it; the money
// is free from the beginning, and the number is shown until it is gone.
func TestBuyUndone(t *testing.T) {
	s := newShop(t)
	for _, c := range []struct {
		name  string
		fault sandbox.Fault
	}{
		{"takes it", sandbox.Fault{}},
		{"answers too late", sandbox.Fault{Do: sandbox.FaultTimeoutAfterActing, MS: 20}},
		{"loses the answer", sandbox.Fault{Do: sandbox.FaultCutAfterActing}},
		{"500 after acting", sandbox.Fault{Do: sandbox.Fault500AfterActing}},
		{"never answers", sandbox.Fault{Do: sandbox.FaultTimeout, MS: 20}},
		{"500", sandbox.Fault{Do: sandbox.Fault500, Times: 3}},
		{"429", sandbox.Fault{Do: sandbox.Fault429, Times: 3}},
		{"refuses", sandbox.Fault{Do: sandbox.FaultRefuse, Code: 21710, Times: 5}},
	} {
		s.customer()
		n := s.buy(s.choose(1)[0], c.name)
		rules := []sandbox.Fault{{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400}}
		if c.fault.Do != "" {
			c.fault.Match = sandbox.ReleaseNumber
			rules = append(rules, c.fault)
		}
		s.faults(rules...)
		for !n.Undoing() {
			n = s.stepped(n)
		}
		s.wantWallet(s.org, 30_00, 0, 0)
		if n.State != telephony.NumberProvisioning || n.Note == "" {
			t.Errorf("Twilio %s: shown as %s, %q", c.name, n.State, n.Note)
		}
		s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepImport)
		if t.Failed() {
			t.Fatalf("when Twilio: %s", c.name)
		}
	}
	if n := s.count(`SELECT count(*) FROM credentials`); n != 0 {
		t.Errorf("%d credentials are kept for nothing", n)
	}
}

// A number that Vapi has taken without saying so is taken from it again when buying is given up.
func TestImportedAndUndone(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	s.faults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultCutAfterActing}, sandbox.Fault{Match: sandbox.ListImported, Do: sandbox.Fault500, Times: -1})
	for !n.Undoing() {
		n = s.stepped(n)
		if n.Step == telephony.StepImport && n.Tries > 0 && n.State != telephony.NumberUnknown {
			t.Errorf("shown as %s", n.State)
		}
	}
	s.wantWallet(s.org, 30_00, 0, 0)
	if got := len(s.vapi.Books().Imported()); got != 1 {
		t.Fatalf("Vapi has %d numbers", got)
	}
	s.faults(sandbox.Fault{Match: sandbox.DeleteImported, Do: sandbox.FaultCutAfterActing})
	s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepImport)
}

// While nobody can say whether it was bought, it is unknown and its money stays set aside; it is not bought again.
func TestPurchaseUnknown(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultCutAfterActing}, sandbox.Fault{Match: sandbox.ListNumbers, Do: sandbox.Fault500, Times: -1})
	for s.clock.Now().Sub(dbtest.Start) < time.Hour {
		n = s.stepped(n)
	}
	s.wantState(n, telephony.NumberUnknown, "")
	s.wantWallet(s.org, 30_00, price, 0)
	if n.Note == "" {
		t.Error("nobody is told")
	}
	s.faults()
	s.wantEnd(s.run(n), telephony.NumberActive, "")
	if asked := s.twilio.Books().Purchases.Asked; asked != 1 {
		t.Errorf("Twilio was asked %d times", asked)
	}
}

// A number that was asked for without an answer, and of which Twilio knows nothing yet, may still come: it is not given up for
// two minutes.
func TestPurchaseComesLate(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	for n.Step != telephony.StepPurchase {
		n = s.stepped(n)
	}
	s.faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultTimeout, MS: 1})
	n = s.stepped(n)
	asked := s.clock.Now()
	for s.clock.Now().Sub(asked) < 80*time.Second {
		s.wantState(n, telephony.NumberUnknown, "")
		n = s.stepped(n)
	}
	s.wantWallet(s.org, 30_00, price, 0)
	s.api(http.MethodPost, "/2010-04-01/Accounts/"+n.AccountSID.String+"/IncomingPhoneNumbers.json", url.Values{"PhoneNumber": {n.PhoneNumber}})
	s.wantEnd(s.run(n), telephony.NumberActive, "")
	s.wantAgree()
}

// plant has the database refuse what stores that a step was done, until it is lifted: as if the process had died after the
// provider acted.
func (s *shop) plant(step telephony.Step) (lift func()) {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `
		CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';
		CREATE TRIGGER planted BEFORE UPDATE ON numbers FOR EACH ROW WHEN (OLD.step = '`+string(step)+`' AND (NEW.step <> OLD.step OR NEW.tries <> OLD.tries)) EXECUTE FUNCTION planted()`)
	return func() { dbtest.Super(s.t, s.dbURL, `DROP TRIGGER planted ON numbers; DROP FUNCTION planted`) }
}

// dies brings a number to a step, has the process die there before or after its provider was asked, and says what the
// number was by then.
func (s *shop) dies(n telephony.Number, step telephony.Step, before bool) telephony.Number {
	s.t.Helper()
	for n.Step != step {
		n = s.stepped(n)
	}
	if before {
		if err := s.Take(s.t.Context(), n); err != nil {
			s.t.Fatal(err)
		}
		return s.number(n)
	}
	lift := s.plant(step)
	defer lift()
	if _, err := s.step(n); err == nil || !strings.Contains(err.Error(), "planted") {
		s.t.Fatalf("at %s the database was to refuse, and said %v", step, err)
	}
	return s.number(n)
}

// TestBuyerDies: the process dies at each step, before its provider was asked and after. Another one goes on within five
// minutes, and does nothing twice.
func TestBuyerDies(t *testing.T) {
	s := newShop(t)
	for _, step := range []telephony.Step{telephony.StepSubaccount, telephony.StepPurchase, telephony.StepImport, telephony.StepCredential, telephony.StepActivate} {
		for _, before := range []bool{true, false} {
			s.customer()
			n := s.dies(s.buy(s.choose(1)[0], fmt.Sprint(step, before)), step, before)
			died := s.clock.Now()
			s.Numbers = s.open(s.box.URL(), 0)
			n = s.run(n)
			if took := s.clock.Now().Sub(died); took > 5*time.Minute {
				t.Errorf("at %s it took %s", step, took)
			}
			if before && step == telephony.StepPurchase { // nobody knows that it was not asked for
				s.wantEnd(n, telephony.NumberFailed, telephony.StepPurchase)
			} else {
				s.wantEnd(n, telephony.NumberActive, "")
			}
			if t.Failed() {
				t.Fatalf("died at %s, before it asked: %t", step, before)
			}
		}
	}
}

// TestUndoerDies: the process dies while it undoes.
func TestUndoerDies(t *testing.T) {
	s := newShop(t)
	for _, step := range []telephony.Step{telephony.StepUndoImport, telephony.StepUndoPurchase, telephony.StepFinish} {
		for _, before := range []bool{true, false} {
			s.customer()
			s.faults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400})
			n := s.dies(s.buy(s.choose(1)[0], fmt.Sprint(step, before)), step, before)
			s.Numbers = s.open(s.box.URL(), 0)
			s.wantEnd(s.run(n), telephony.NumberFailed, telephony.StepImport)
			if t.Failed() {
				t.Fatalf("died at %s, before it asked: %t", step, before)
			}
		}
	}
}

// Nobody comes for so long that the money is free again: what was not asked for is not bought.
func TestNobodyComes(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	n = s.stepped(n)
	s.clock.Advance(16 * time.Minute)
	expireHolds(t, s)
	n = s.run(n)
	s.wantEnd(n, telephony.NumberFailed, telephony.StepPurchase)
	if asked := s.twilio.Books().Purchases.Asked; asked != 0 {
		t.Errorf("Twilio was asked %d times", asked)
	}
}

// Eight workers have the same job at each step: one does it.
func TestWorkersAtOnce(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	for released := false; ; {
		for n.Step != "" {
			if now := s.clock.Now(); n.NextAt.After(now) {
				s.clock.Advance(n.NextAt.Sub(now))
			}
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if err := s.Advance(t.Context(), n.OrgID, n.ID); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n = s.number(n); n.BusyUntil != nil {
				t.Fatalf("nobody has finished %s", n.Step)
			}
		}
		if released {
			break
		}
		s.wantEnd(n, telephony.NumberActive, "")
		released = true
		n = s.release(n)
	}
	s.wantEnd(n, telephony.NumberReleased, "")
	books := s.twilio.Books()
	if books.Purchases.Asked != 1 || books.AccountRequests.Asked != 1 || s.vapi.Books().Imports.Asked != 1 {
		t.Errorf("asked for %d numbers, %d subaccounts, %d imports", books.Purchases.Asked, books.AccountRequests.Asked, s.vapi.Books().Imports.Asked)
	}
}

// Who has been so slow that another one took the step up does not touch it any more.
func TestSlowWorker(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	slow, err := s.TakeUp(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeUp(t.Context(), n); !errors.Is(err, telephony.ErrIdle) {
		t.Errorf("taken twice: %v", err)
	}
	s.clock.Advance(61 * time.Second)
	other, err := s.TakeUp(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutOff(t.Context(), slow); !errors.Is(err, telephony.ErrIdle) {
		t.Errorf("the slow one has stored something: %v", err)
	}
	if now := s.number(n); now.BusyUntil == nil || !now.BusyUntil.Equal(*other.BusyUntil) || now.Tries != 0 {
		t.Errorf("%+v", now)
	}
	if err := s.PutOff(t.Context(), other); err != nil {
		t.Error(err)
	}
	n = s.number(n)
	// Whose lease is nearly over asks for nothing any more.
	for _, step := range []telephony.Step{telephony.StepSubaccount, telephony.StepPurchase, telephony.StepImport} {
		s.customer()
		late := s.buy(s.choose(2)[1], string(step))
		for late.Step != step {
			late = s.stepped(late)
		}
		taken, err := s.TakeUp(t.Context(), late)
		if err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(50 * time.Second)
		before := s.asked()
		if err := s.Do(t.Context(), taken); !errors.Is(err, telephony.ErrIdle) || s.asked()[step] != before[step] {
			t.Errorf("at %s it was asked after all: %v", step, err)
		}
		s.run(late)
	}
	s.wantEnd(s.run(s.number(n)), telephony.NumberActive, "")
}

// Two numbers at once for an organisation without a subaccount: it gets one, and both numbers are in it.
func TestOneSubaccount(t *testing.T) {
	s := newShop(t)
	list := s.choose(2)
	a, b := s.buy(list[0], "a"), s.buy(list[1], "b")
	if err := s.Take(t.Context(), a); err != nil { // a's worker is slow, or gone
		t.Fatal(err)
	}
	for range 5 { // for half a minute
		b = s.stepped(b)
	}
	if b.Step != telephony.StepSubaccount {
		t.Errorf("b did not wait: %s", b.Step)
	}
	b = s.run(b)
	a = s.run(a)
	s.wantState(a, telephony.NumberActive, "")
	s.wantState(b, telephony.NumberActive, "")
	if a.AccountSID != b.AccountSID {
		t.Errorf("in %s and %s", a.AccountSID.String, b.AccountSID.String)
	}
	s.wantWallet(s.org, 10_00, 0, 0)
	s.wantAgree()
}

// A job that was lost is made up for by the sweeper, once a while.
func TestLostJob(t *testing.T) {
	s := newShop(t)
	s.buy(s.choose(1)[0], "k")
	dbtest.Super(t, s.dbURL, `DELETE FROM river_job`)
	for range 3 {
		s.sweep()
	}
	s.clock.Advance(31 * time.Second)
	for range 3 {
		s.sweep()
	}
	if n := s.count(`SELECT count(*) FROM river_job`); n != 1 {
		t.Errorf("%d jobs", n)
	}
}
