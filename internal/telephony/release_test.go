package telephony_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// expireHolds does what the sweeper of holds does.
func expireHolds(t *testing.T, s *shop) {
	t.Helper()
	if _, err := wallet.NewGates(wallet.GateOptions{DB: s.db, Now: s.clock.Now}).Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) release(n telephony.Number) telephony.Number {
	s.t.Helper()
	n, err := s.Release(s.t.Context(), telephony.ReleaseRequest{OrgID: n.OrgID, Number: n.ID, Actor: audit.System("test")})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// vapiDelete deletes at Vapi, as somebody does on its dashboard.
func (s *shop) vapiDelete(id string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodDelete, s.box.URL()+"/vapi/phone-number/"+id, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+vapiKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatal(res, err)
	}
	_ = res.Body.Close()
}

func (s *shop) audited(n telephony.Number) (actions []string) {
	s.t.Helper()
	dbtest.Select(s.t, s.dbURL, &actions, `SELECT action FROM audit_log WHERE subject = $1 ORDER BY id`, "number:"+n.ID.String())
	return actions
}

func TestRelease(t *testing.T) {
	s := newShop(t)
	list := s.choose(2)
	n, other := s.have(list[0], "k"), s.have(list[1], "other")
	agents := []uuid.UUID{s.agent(n), s.agent(n)}
	stays := s.agent(other)

	_, err := s.Release(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: n.ID, Actor: audit.System("test")})
	wantFault(t, "another organisation's", err, fault.NotFound, "")
	began := s.release(n)
	if began.State != telephony.NumberReleasing || began.Repeated {
		t.Errorf("%+v", began)
	}
	if again := s.release(n); !again.Repeated {
		t.Errorf("%+v", again)
	}
	// From the first moment nobody can use it.
	for _, id := range agents {
		if s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id IS NULL`, id) != 1 {
			t.Error("an agent still has the number")
		}
	}
	err = s.db.InTx(t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := telephony.Usable(ctx, tx, s.org, n.ID)
		return err
	})
	wantFault(t, "using a number that is being released", err, fault.Conflict, "number_not_active")

	n = s.run(began)
	s.wantState(n, telephony.NumberReleased, "")
	s.wantAgree()
	s.wantWallet(s.org, 10_00, 0, 0) // nothing is given back
	if s.count(`SELECT count(*) FROM credentials`) != 1 || s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id = $2`, stays, other.ID) != 1 {
		t.Error("the other number has lost its credential or its agent")
	}
	if got, want := s.audited(n), []string{"number.ordered", "number.bought", "number.imported", "number.activated", "number.releasing", "number.vapi_deleted", "number.twilio_released", "number.released"}; !slices.Equal(got, want) {
		t.Errorf("audited %v", got)
	}
	if s.count(`SELECT count(*) FROM audit_log WHERE action = 'agent.unlinked'`) != 2 {
		t.Error("the agents' unlinking is not in the audit log")
	}

	// Our credential goes with the last number, and comes back with the next: it is of the same subaccount.
	was := other.AccountSID
	s.run(s.release(other))
	if n := s.count(`SELECT count(*) FROM credentials`); n != 0 {
		t.Errorf("%d credentials are kept for nothing", n)
	}
	third := s.have(s.choose(1)[0], "third")
	if third.State != telephony.NumberActive || third.AccountSID != was {
		t.Errorf("%+v", third)
	}
	s.wantAgree()
	if n := s.twilio.Books().AccountRequests.Made; n != 1 {
		t.Errorf("%d subaccounts were made", n)
	}
	_, err = s.Release(t.Context(), telephony.ReleaseRequest{OrgID: s.org, Number: uuid.New(), Actor: audit.System("test")})
	wantFault(t, "no number", err, fault.NotFound, "")
	r := s.request(s.choose(1)[0], "waits")
	r.OrgID = s.other
	waits, err := s.Buy(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Release(t.Context(), telephony.ReleaseRequest{OrgID: s.other, Number: waits.ID, Actor: audit.System("test")})
	wantFault(t, "one that is being bought", err, fault.Conflict, "number_not_active")
}

// TestReleaseBoth: of two numbers that are given back at once the first to be gone leaves the credential to the other, which needs it
// until its provider has let go. What points at a number by then is looked at once more.
func TestReleaseBoth(t *testing.T) {
	s := newShop(t)
	list := s.choose(2)
	first, last := s.have(list[0], "first"), s.have(list[1], "last")
	agent := s.agent(first)
	first, last = s.release(first), s.release(last)
	s.wantState(s.run(first), telephony.NumberReleased, "")
	if n := s.count(`SELECT count(*) FROM credentials c JOIN numbers n ON n.credential_id = c.id WHERE n.id = $1`, last.ID); n != 1 {
		t.Error("the number that is still being given back has no credential")
	}
	dbtest.Super(t, s.dbURL, `UPDATE agents SET number_id = $2 WHERE id = $1`, agent, last.ID)
	s.wantState(s.run(last), telephony.NumberReleased, "")
	if n := s.count(`SELECT (SELECT count(*) FROM credentials) + (SELECT count(*) FROM agents WHERE number_id IS NOT NULL)`); n != 0 {
		t.Errorf("%d things are left behind", n)
	}
	s.wantAgree()
}

// TestReleaseFaults: whatever the providers do, a number is released when both have agreed and not before, and what they do
// not do is shown and tried again.
func TestReleaseFaults(t *testing.T) {
	for _, at := range []struct {
		step    telephony.Step
		asks    string
		refuses int
	}{{telephony.StepVapiDelete, sandbox.DeleteImported, 400}, {telephony.StepTwilioRelease, sandbox.ReleaseNumber, 21710}} {
		t.Run(string(at.step), func(t *testing.T) {
			s := newShop(t)
			for _, c := range []struct {
				name  string
				fault sandbox.Fault
			}{
				{"answers too late", sandbox.Fault{Do: sandbox.FaultTimeoutAfterActing, MS: 20}},
				{"loses the answer", sandbox.Fault{Do: sandbox.FaultCutAfterActing}},
				{"500 after acting", sandbox.Fault{Do: sandbox.Fault500AfterActing}},
				{"never answers", sandbox.Fault{Do: sandbox.FaultTimeout, MS: 20}},
				{"500", sandbox.Fault{Do: sandbox.Fault500}},
				{"503", sandbox.Fault{Do: sandbox.Fault503, Times: 3}},
				{"429", sandbox.Fault{Do: sandbox.Fault429, Times: 3}},
				{"refuses", sandbox.Fault{Do: sandbox.FaultRefuse, Code: at.refuses, Times: 6}},
				{"has no such number", sandbox.Fault{}},
			} {
				s.customer()
				n := s.have(s.choose(1)[0], c.name)
				agent := s.agent(n)
				if c.fault.Do != "" {
					c.fault.Match = at.asks
					s.faults(c.fault)
				} else if at.step == telephony.StepVapiDelete {
					s.vapiDelete(n.VapiID.String)
				} else {
					s.api("DELETE", "/2010-04-01/Accounts/"+n.AccountSID.String+"/IncomingPhoneNumbers/"+n.SID.String+".json", nil)
				}
				n = s.release(n)
				for n.Step == telephony.StepVapiDelete || n.Step == at.step && n.Tries < 1 {
					n = s.stepped(n)
					if n.State == telephony.NumberReleased {
						t.Errorf("%s: released before both agreed", c.name)
					}
				}
				if c.fault.Do != "" && n.Step == at.step && (n.State != telephony.NumberReleasing || n.Note == "") {
					t.Errorf("%s: shown as %s, %q", c.name, n.State, n.Note)
				}
				s.wantEnd(s.run(n), telephony.NumberReleased, "")
				if s.count(`SELECT count(*) FROM numbers n JOIN holds h ON h.id = n.hold_id WHERE n.id = $1 AND h.state = 'captured' AND n.ended_at IS NOT NULL AND n.note = ''
				            AND coalesce(n.sid, n.vapi_id, n.credential_id::text, n.next_at::text, n.busy_until::text, n.asked_at::text, n.unpaid_since::text, n.tell_at::text) IS NULL`, n.ID) != 1 {
					t.Errorf("%s: its row is not that of a number that was given back", c.name)
				}
				if got := s.audited(n); !slices.Equal(got[len(got)-4:], []string{"number.releasing", "number.vapi_deleted", "number.twilio_released", "number.released"}) {
					t.Errorf("%s: audited %v", c.name, got)
				}
				if s.count(`SELECT count(*) FROM agents WHERE id = $1 AND number_id IS NOT NULL`, agent) != 0 {
					t.Error("an agent still has it")
				}
				if t.Failed() {
					t.Fatalf("when the provider: %s", c.name)
				}
			}
			if n := s.count(`SELECT count(*) FROM credentials`); n != 0 {
				t.Errorf("%d credentials are kept for nothing", n)
			}
		})
	}
}

// TestReleaserDies: the process dies at each step of releasing, before and after its provider was asked.
func TestReleaserDies(t *testing.T) {
	s := newShop(t)
	for _, step := range []telephony.Step{telephony.StepVapiDelete, telephony.StepTwilioRelease, telephony.StepFinish} {
		for _, before := range []bool{true, false} {
			s.customer()
			n := s.dies(s.release(s.have(s.choose(1)[0], fmt.Sprint(step, before))), step, before)
			if n.State != telephony.NumberReleasing {
				t.Errorf("at %s it is %s", step, n.State)
			}
			s.Numbers = s.open(s.box.URL(), 0)
			s.wantEnd(s.run(n), telephony.NumberReleased, "")
			if t.Failed() {
				t.Fatalf("died at %s, before it asked: %t", step, before)
			}
		}
	}
}

// A provider that refuses for good never makes a number released; an operator's word does, with a reason, and what is left
// at the provider shows when the books are compared.
func TestForceRelease(t *testing.T) {
	s := newShop(t)
	n := s.have(s.choose(1)[0], "k")
	force := telephony.ReleaseRequest{OrgID: s.org, Number: n.ID, Actor: audit.Operator(uuid.New()), Reason: "Ported out by hand, TICKET-7"}
	_, err := s.ForceRelease(t.Context(), force)
	wantFault(t, "an active one", err, fault.Conflict, "number_not_releasing")
	s.faults(sandbox.Fault{Match: sandbox.ReleaseNumber, Do: sandbox.FaultRefuse, Code: 21710, Times: -1})
	n = s.release(n)
	for range 12 {
		n = s.stepped(n)
	}
	s.wantState(n, telephony.NumberReleasing, "")
	if n.Note == "" || n.NextAt.Sub(s.clock.Now()) > 16*time.Minute {
		t.Errorf("shown as %q, next at %s", n.Note, n.NextAt)
	}
	if c := s.compare(); len(c.Held) != 1 || c.Held[0].ID != n.ID || len(c.Orphans) != 0 || c.Clean() {
		t.Errorf("%+v", c)
	}
	_, err = s.ForceRelease(t.Context(), telephony.ReleaseRequest{OrgID: s.org, Number: n.ID, Actor: force.Actor})
	wantFault(t, "no reason", err, fault.Invalid, "")
	for range 2 {
		if n, err = s.ForceRelease(t.Context(), force); err != nil || n.State != telephony.NumberReleased {
			t.Errorf("%+v, %v", n, err)
		}
	}
	if s.count(`SELECT count(*) FROM audit_log WHERE action = 'number.forced' AND reason = $1 AND actor = $2`, force.Reason, force.Actor) != 1 {
		t.Error("the force is not in the audit log")
	}
	s.wantWallet(s.org, 20_00, 0, 0)
	c, err := s.Compare(t.Context())
	if err != nil || len(c.Orphans) != 1 || c.Orphans[0].PhoneNumber != n.PhoneNumber || c.Orphans[0].OrgID != s.org {
		t.Errorf("%+v, %v", c, err)
	}
}
