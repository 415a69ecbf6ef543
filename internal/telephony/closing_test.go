package telephony_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

// closeAccount ends the organisation's account as payments does it, if its telephony allows.
func (s *shop) closeAccount() error {
	s.t.Helper()
	return s.db.InTx(s.t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) error {
		if err := wallet.Lock(ctx, tx, s.org); err != nil {
			return err
		}
		if err := telephony.MayClose(ctx, tx, s.org); err != nil {
			return err
		}
		_, err := wallet.Close(ctx, tx, wallet.Closing{OrgID: s.org, ID: uuid.New(), Reason: "leaves us", Actor: audit.System("test")})
		return err
	})
}

func (s *shop) wantOpen(what string, says ...string) {
	s.t.Helper()
	err := s.closeAccount()
	if !fault.Is(err, fault.Conflict) {
		s.t.Fatalf("closing an account that has %s: %v", what, err)
	}
	for _, word := range says {
		if public := fault.As(err).Public; !strings.Contains(public, word) {
			s.t.Errorf("an account that has %s says %q, want %q", what, public, word)
		}
	}
}

// TestClosingWaitsForNumbers: an account is closed only when nothing of its numbers is left, at every moment of their lives;
// once it is, nothing new begins.
func TestClosingWaitsForNumbers(t *testing.T) {
	s := newShop(t)
	n := s.buy(s.choose(1)[0], "k")
	for n.Step != "" {
		s.wantOpen("a number at "+string(n.Step), "a phone number: "+n.PhoneNumber+" (being bought)")
		n = s.stepped(n)
	}
	s.wantOpen("an active number", n.PhoneNumber+" (active)")
	s.faults(sandbox.Fault{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 400})
	failing := s.buy(s.choose(1)[0], "fails")
	for !failing.Undoing() {
		failing = s.stepped(failing)
	}
	s.wantOpen("a number that is undone", "2 phone numbers: ", failing.PhoneNumber+" (being undone)")
	s.run(failing)
	s.faults()
	n = s.release(n)
	for n.Step != "" {
		s.wantOpen("a number at "+string(n.Step), n.PhoneNumber+" (being released)")
		n = s.stepped(n)
	}
	own := telephony.BuyRequest{OrgID: s.org, PhoneNumber: s.choose(1)[0], Key: "own", Actor: audit.System("test")}
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	if err := s.closeAccount(); err != nil {
		t.Fatalf("with nothing left: %v", err)
	}
	_, err := s.Buy(t.Context(), s.request(s.choose(1)[0], "late"))
	wantFault(t, "a number of ours", err, fault.Forbidden, "account_closed")
	s.setMode(telephony.BYOC)
	_, err = s.Buy(t.Context(), own)
	wantFault(t, "a number of its own account", err, fault.Forbidden, "account_closed")
	if n := s.count(`SELECT count(*) FROM numbers WHERE created_at = (SELECT max(created_at) FROM numbers) AND state = 'provisioning'`); n != 0 {
		t.Errorf("%d numbers are being bought", n)
	}
}

// Closing an account and buying a number for it meet: one of them is first, and the other is refused.
func TestClosingMeetsBuying(t *testing.T) {
	s := newShop(t)
	for round := range 6 {
		s.customer()
		if round%2 == 1 { // in its own account, so that no gate is asked
			sid, token := s.ownAccount()
			if _, err := s.saveOwn(sid, token); err != nil {
				t.Fatal(err)
			}
			s.setMode(telephony.BYOC)
		}
		r := s.request(s.choose(1)[0], "k")
		var all sync.WaitGroup
		var bought, closed error
		all.Go(func() { _, bought = s.Buy(t.Context(), r) })
		all.Go(func() {
			for range 40 { // buying asks Twilio first
				if closed = s.closeAccount(); closed == nil || s.count(`SELECT count(*) FROM numbers WHERE org_id = $1`, s.org) > 0 {
					return
				}
			}
		})
		all.Wait()
		if (bought == nil) == (closed == nil) {
			t.Errorf("round %d: bought %v, closed %v", round, bought, closed)
		}
		for _, err := range []error{bought, closed} {
			if err != nil && !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.Conflict) {
				t.Error(err)
			}
		}
	}
}

// TestClosingWaitsForCalls: calls that go on keep the account open even where the number is gone already, and are named
// rather than what is set aside for them.
func TestClosingWaitsForCalls(t *testing.T) {
	p := newPhones(t)
	p.adjust(5_00)
	errBack := errors.New("as it was")
	mayClose := func() (says string) {
		err := p.db.InTx(t.Context(), []uuid.UUID{p.org}, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.ExecContext(ctx, `
				UPDATE numbers SET state = 'released', step = '', credential_id = NULL, sid = NULL, vapi_id = NULL, next_at = NULL, ended_at = $2 WHERE org_id = $1`,
				p.org, tx.Now); err != nil {
				return err
			}
			if err := telephony.MayClose(ctx, tx, p.org); err != nil {
				if !fault.Is(err, fault.Conflict) {
					t.Error(err)
				}
				says = fault.As(err).Public
			}
			return errBack
		})
		if !errors.Is(err, errBack) {
			t.Fatal(err)
		}
		return says
	}
	if says := mayClose(); says != "" {
		t.Errorf("with nothing under way: %s", says)
	}
	p.place("one")
	if says := mayClose(); !strings.HasPrefix(says, "A call is under way.") {
		t.Errorf("with a call: %q", says)
	}
	p.place("two")
	if says := mayClose(); !strings.HasPrefix(says, "2 calls are under way.") {
		t.Errorf("with two calls: %q", says)
	}
	p.settle()
	if says := mayClose(); says != "" {
		t.Errorf("when they have ended: %s", says)
	}
	// A closed account makes no agents, which ask no gate.
	third := wallettest.Org(t, p.db, "Third Tenant", 0)
	err := p.db.InTx(t.Context(), []uuid.UUID{third}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Close(ctx, tx, wallet.Closing{OrgID: third, ID: uuid.New(), Reason: "leaves us", Actor: audit.System("test")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.agents.Create(t.Context(), telephony.AgentRequest{OrgID: third, AgentFields: fields(), Actor: audit.System("test")})
	wantFault(t, "an agent of a closed account", err, fault.Forbidden, "account_closed")
}
