package handlers_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet/wallettest"
)

// buysNumbers is gate 3 where Ringfence buys the number itself: what is true at the other gates is true of it once its jobs
// have run.
func (g *gatehouse) buysNumbers(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, []string)
	}{
		{"with enough it is bought and charged once", g.numberEnough},
		{"without, it is refused and nothing happens", g.numberNotEnough},
		{"when the provider fails, the wallet is whole", g.numberFails},
		{"two at once on the last penny are one", g.numberLastPenny},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := g.numbers.Search(t.Context(), telephony.SearchRequest{OrgID: g.org, Country: "US", Type: telephony.Local})
			if err != nil || len(found.List) < 4 {
				t.Fatalf("%d numbers for sale: %v", len(found.List), err)
			}
			numbers := make([]string, len(found.List))
			for i, o := range found.List {
				numbers[i] = o.PhoneNumber
			}
			c.run(t, numbers)
			wallettest.CheckBooks(t, g.db, telephony.Invariants...)
		})
	}
}

// number asks for a phone number.
func (c customer) number(key, number string) answered {
	c.t.Helper()
	return c.post("/api/v1/numbers", key, fmt.Sprintf(`{"phone_number":%q}`, number))
}

// owned is how many numbers the stand-in for Twilio has sold that are live and equal to number.
func (g *gatehouse) owned(number string) (n int) {
	for _, o := range g.twilio.Books().Owned("") {
		if o.Number == number {
			n++
		}
	}
	return n
}

func (g *gatehouse) numberEnough(t *testing.T, numbers []string) {
	c := g.customer(t, 20_00+7)
	a := c.number("k1", numbers[0])
	wantStatus(t, "asking", a.reply, http.StatusCreated)
	c.wantPurse("while it is bought", purse{Balance: 20_07, Held: 10_00, Available: 10_07})
	again := c.number("k1", numbers[0])
	if wantStatus(t, "again", again.reply, http.StatusCreated); again.id() != a.id() || !again.replayed() {
		t.Errorf("again: replayed %t, %s", again.replayed(), again.body)
	}
	other := c.number("k1", numbers[1])
	if wantStatus(t, "another number with the key", other.reply, http.StatusConflict); other.fields["code"] != "idempotency_key_reused" {
		t.Errorf("another number with the key: %s", other.body)
	}
	if n := g.ready(c.org, a.id()); n.State != telephony.NumberActive {
		t.Fatalf("it is %s: %s", n.State, n.Note)
	}
	c.wantPurse("afterwards", whole(10_07))
	if again = c.number("k1", numbers[0]); again.fields["state"] != "active" || again.id() != a.id() {
		t.Errorf("again, later: %s", again.body)
	}
	c.wantPurse("after it was asked for again", whole(10_07))
	if n := g.owned(numbers[0]); n != 1 {
		t.Errorf("Twilio has sold it %d times", n)
	}
	if _, err := g.numbers.Release(t.Context(), telephony.ReleaseRequest{OrgID: c.org, Number: uuid.MustParse(a.id()), Actor: audit.System("test")}); err != nil {
		t.Fatal(err)
	}
	g.ready(c.org, a.id())
	c.wantPurse("once it is released", whole(10_07))
}

func (g *gatehouse) numberNotEnough(t *testing.T, numbers []string) {
	c := g.customer(t, 9_99)
	e := errand{needs: 10_00}
	c.wantRefusal(c.number("k1", numbers[0]), e, 9_99)
	c.wantRefusal(c.number("k1", numbers[0]), e, 9_99)
	c.wantPurse("after the refusals", whole(9_99))
	if n := g.count(`SELECT (SELECT count(*) FROM numbers WHERE org_id = $1) + (SELECT count(*) FROM holds WHERE org_id = $1)`, c.org); n != 0 || g.owned(numbers[0]) != 0 {
		t.Errorf("%d rows are left of it", n)
	}
	c.topUp(1)
	a := c.number("k1", numbers[0])
	wantStatus(t, "the same key after a top-up", a.reply, http.StatusCreated)
	g.ready(c.org, a.id())
	c.wantPurse("after a top-up", whole(0))

	frozen := g.customer(t, 20_00)
	frozen.freeze()
	if a := frozen.number("k1", numbers[1]); a.StatusCode != http.StatusForbidden || a.fields["code"] != "wallet_frozen" {
		t.Errorf("frozen: %s", a.body)
	}
	frozen.wantPurse("frozen,", whole(20_00))
}

func (g *gatehouse) numberFails(t *testing.T, numbers []string) {
	c := g.customer(t, 10_00)
	faults := func(rules ...sandbox.Fault) {
		t.Helper()
		if err := g.twilio.SetFaults(rules...); err != nil {
			t.Fatal(err)
		}
	}
	faults(sandbox.Fault{Match: sandbox.BuyNumber, Do: sandbox.FaultRefuse, Code: 21422, Times: -1})
	a := c.number("k1", numbers[0])
	wantStatus(t, "asking", a.reply, http.StatusCreated)
	n := g.ready(c.org, a.id())
	faults()
	if n.State != telephony.NumberFailed || g.owned(numbers[0]) != 0 {
		t.Errorf("it is %s: %s", n.State, n.Note)
	}
	c.wantPurse("after the provider refused", whole(10_00))
	if again := c.number("k1", numbers[0]); again.fields["state"] != "failed" || again.fields["note"] == nil {
		t.Errorf("the same key: %s", again.body)
	}
	b := c.number("k2", numbers[0])
	wantStatus(t, "once it works again", b.reply, http.StatusCreated)
	if n := g.ready(c.org, b.id()); n.State != telephony.NumberActive {
		t.Errorf("it is %s: %s", n.State, n.Note)
	}
	c.wantPurse("once it works again", whole(0))
}

func (g *gatehouse) numberLastPenny(t *testing.T, numbers []string) {
	c := g.customer(t, 10_00)
	var answers [2]answered
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = c.number(fmt.Sprintf("k%d", i), numbers[i]) })
	}
	group.Wait()
	statuses := []int{answers[0].StatusCode, answers[1].StatusCode}
	if slices.Sort(statuses); !slices.Equal(statuses, []int{http.StatusCreated, http.StatusPaymentRequired}) {
		t.Errorf("two at once are answered %v", statuses)
	}
	for _, a := range answers {
		if a.StatusCode == http.StatusCreated {
			g.ready(c.org, a.id())
		}
	}
	c.wantPurse("after two at once", whole(0))
}
