package main

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// TestNumbersByJobs has the running program buy a number and give it back, by its own queue: the steps are told to it only by
// what is stored.
func TestNumbersByJobs(t *testing.T) {
	t.Parallel()
	p := serve(t)
	a, err := openApp(t.Context(), &env{ctx: t.Context(), getenv: p.getenv, stdout: t.Output(), stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	var org uuid.UUID
	dbtest.Get(t, p.environment["DATABASE_URL"], &org, `SELECT id FROM organizations WHERE name = 'Harbour Dental'`)
	found, err := a.numbers.Search(t.Context(), telephony.SearchRequest{OrgID: org, Country: "US"})
	if err != nil || len(found.List) == 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	n, err := a.numbers.Buy(t.Context(), telephony.BuyRequest{OrgID: org, PhoneNumber: found.List[0].PhoneNumber, Key: "k", Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	at := func(state telephony.NumberState) func() bool {
		return func() bool {
			if n, err = a.numbers.Number(t.Context(), org, n.ID); err != nil {
				t.Fatal(err)
			}
			return n.State == state
		}
	}
	until(t, "the number is active", at(telephony.NumberActive))
	if c, err := a.numbers.Compare(t.Context()); err != nil || !c.Clean() || c.Numbers != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := a.payments.PlanClosing(t.Context(), org); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.As(err).Public, n.PhoneNumber) {
		t.Errorf("with a number the account can be closed: %v", err)
	}
	if _, err := a.numbers.Release(t.Context(), telephony.ReleaseRequest{OrgID: org, Number: n.ID, Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	until(t, "the number is released", at(telephony.NumberReleased))
	if c, err := a.numbers.Compare(t.Context()); err != nil || !c.Clean() {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := a.payments.PlanClosing(t.Context(), org); err != nil {
		t.Errorf("without one it cannot: %v", err)
	}
	p.verify(t)
}
