package telephony_test

import (
	"slices"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// rotate gives an account another token at Twilio, as its owner does there.
func (s *shop) rotate(sid string) string {
	s.t.Helper()
	token, err := s.twilio.RotateToken(sid)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// replace rotates an account's token and gives us the new one.
func (s *shop) replace(sid string) (token string) {
	s.t.Helper()
	token = s.rotate(sid)
	if _, err := s.saveOwn(sid, token); err != nil {
		s.t.Fatal(err)
	}
	return token
}

// tellTokens does what the queue does: it tells Vapi of each token that is due.
func (s *shop) tellTokens() {
	s.t.Helper()
	for _, n := range s.telling() {
		if err := s.TellToken(s.t.Context(), n.OrgID, n.ID); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *shop) telling() []telephony.Number {
	s.t.Helper()
	list, err := s.Telling(s.t.Context(), s.org)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// tokensAtVapi is what Vapi has for each of some numbers.
func (s *shop) tokensAtVapi(numbers ...telephony.Number) (tokens []string) {
	s.t.Helper()
	for _, n := range numbers {
		for _, at := range s.vapi.Books().Imported() {
			if at.ID == s.number(n).VapiID.String {
				tokens = append(tokens, at.AuthToken)
			}
		}
	}
	return tokens
}

func (s *shop) wantTokens(what string, numbers []telephony.Number, want ...string) {
	s.t.Helper()
	if got := s.tokensAtVapi(numbers...); !slices.Equal(got, want) {
		s.t.Errorf("%s: Vapi has the tokens %q, want %q", what, got, want)
	}
}

// own gives the shop an account of the customer's own, with numbers in it.
func (s *shop) own(n int) (sid, token string, numbers []telephony.Number) {
	s.t.Helper()
	sid, token = s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		s.t.Fatal(err)
	}
	s.setMode(telephony.BYOC)
	for _, number := range s.choose(n) {
		numbers = append(numbers, s.have(number, number))
	}
	return sid, token, numbers
}

// TestNewTokenIsTold: Vapi has the token that a customer has given us last, for every active number; one number that Vapi
// refuses keeps no other from its turn, is seen to wait, and is told again.
func TestNewTokenIsTold(t *testing.T) {
	s := newShop(t)
	sid, was, numbers := s.own(3)
	if n := len(s.telling()); n != 0 {
		t.Errorf("%d wait after they were bought", n)
	}
	if _, err := s.saveOwn(sid, was); err != nil || len(s.telling()) != 0 {
		t.Errorf("the same token: %v, %d wait", err, len(s.telling()))
	}
	now := s.replace(sid)
	s.wantTokens("before any job", numbers, was, was, was)
	if n := s.count(`SELECT count(*) FROM river_job WHERE kind = 'number_token'`); n != 3 || len(s.telling()) != 3 {
		t.Errorf("%d jobs, %d wait", n, len(s.telling()))
	}
	if err := s.TellToken(t.Context(), s.other, numbers[1].ID); err != nil {
		t.Error(err)
	}
	s.wantTokens("another organisation's job", numbers, was, was, was)
	refused := sandbox.Fault{Match: "PATCH /vapi/phone-number/" + numbers[0].VapiID.String, Do: sandbox.FaultRefuse, Code: 400, Times: -1}
	s.faults(refused)
	s.tellTokens()
	s.wantTokens("one is refused", numbers, was, now, now)
	waits := s.telling()
	if len(waits) != 1 || waits[0].ID != numbers[0].ID || waits[0].TellNote == "" || !waits[0].TellAt.After(s.clock.Now()) {
		t.Fatalf("waiting are %+v", waits)
	}
	if list, err := s.UnderWay(t.Context()); err != nil || len(list) != 1 || list[0].ID != numbers[0].ID {
		t.Errorf("operators see %+v, %v", list, err)
	}
	for range 12 {
		s.clock.Advance(s.telling()[0].TellAt.Sub(s.clock.Now()))
		s.tellTokens()
	}
	if next := s.telling()[0].TellAt.Sub(s.clock.Now()); next < time.Minute || next > 15*time.Minute {
		t.Errorf("it is tried again in %s", next)
	}
	// An operator need not wait.
	s.faults()
	if _, err := s.Expedite(t.Context(), telephony.ReleaseRequest{OrgID: s.org, Number: numbers[0].ID, Actor: audit.System("test"), Reason: "TICKET-9"}); err != nil {
		t.Fatal(err)
	}
	s.tellTokens()
	s.wantTokens("taken at last", numbers, now, now, now)
	if len(s.telling()) != 0 || s.number(numbers[0]).TellNote != "" {
		t.Errorf("still waiting are %+v", s.telling())
	}
	if got := s.audited(numbers[0]); !slices.Equal(got[len(got)-3:], []string{"number.token_put_off", "number.expedited", "number.token_told"}) {
		t.Errorf("audited %v", got)
	}
	// Told, nothing is told again.
	s.untouched(s.org, "telling again", func() {
		if err := s.TellToken(t.Context(), s.org, numbers[0].ID); err != nil {
			t.Error(err)
		}
	})
	s.wantAgree()
}

// TestTokenFaults: whatever Vapi does when it is told of a token, and whoever dies meanwhile, it has the newest in the end.
func TestTokenFaults(t *testing.T) {
	s := newShop(t)
	sid, _, numbers := s.own(1)
	for name, f := range map[string]sandbox.Fault{
		"takes it":         {},
		"answers too late": {Do: sandbox.FaultTimeoutAfterActing, MS: 20},
		"loses the answer": {Do: sandbox.FaultCutAfterActing},
		"never answers":    {Do: sandbox.FaultTimeout, MS: 20},
		"500":              {Do: sandbox.Fault500, Times: 2},
		"429":              {Do: sandbox.Fault429, Times: 2},
	} {
		now := s.replace(sid)
		if f.Match = sandbox.ChangeImported; f.Do != "" {
			s.faults(f)
		}
		for range 4 {
			s.tellTokens()
			s.clock.Advance(10 * time.Second)
		}
		s.faults()
		s.wantTokens(name, numbers, now)
		if n := len(s.telling()); n != 0 {
			t.Errorf("when Vapi %s: %d wait", name, n)
		}
	}
	// Its process dies, and its job with it.
	now := s.replace(sid)
	if _, err := s.TakeToken(t.Context(), numbers[0]); err != nil {
		t.Fatal(err)
	}
	s.tellTokens()
	if n := len(s.telling()); n != 1 {
		t.Errorf("%d wait for the dead", n)
	}
	dbtest.Super(t, s.dbURL, `DELETE FROM river_job`)
	s.clock.Advance(61 * time.Second)
	s.sweep()
	if n := s.count(`SELECT count(*) FROM river_job WHERE kind = 'number_token'`); n != 1 {
		t.Errorf("%d jobs are made up for", n)
	}
	s.tellTokens()
	s.wantTokens("after a death", numbers, now)
	// Another token comes while Vapi is told of one.
	s.replace(sid)
	tell, err := s.TakeToken(t.Context(), numbers[0])
	if err != nil {
		t.Fatal(err)
	}
	store := tell()
	now = s.replace(sid)
	if err := store(); err != nil {
		t.Fatal(err)
	}
	s.tellTokens()
	s.wantTokens("another token meanwhile", numbers, now)
	s.wantAgree()
}

// A token is replaced while numbers come and go: one that is being bought is told of it once it is active, one that Vapi had
// lost is connected again with it, and one that is given back is not told of anything any more.
func TestTokenMeanwhile(t *testing.T) {
	s := newShop(t)
	sid, _, numbers := s.own(2)
	bought := s.buy(s.choose(1)[0], "k")
	for bought.Step != telephony.StepCredential {
		bought = s.stepped(bought)
	}
	now := s.replace(sid)
	s.wantState(s.run(s.release(numbers[0])), telephony.NumberReleased, "")
	bought = s.run(bought)
	s.vapiDelete(numbers[1].VapiID.String)
	s.tellTokens()
	if waits := s.telling(); len(waits) != 1 || waits[0].ID != numbers[1].ID || waits[0].TellNote == "" {
		t.Errorf("waiting are %+v", waits)
	}
	if _, err := s.Reconnect(t.Context(), telephony.ReleaseRequest{OrgID: s.org, Number: numbers[1].ID, Actor: audit.System("test"), Reason: "TICKET-1"}); err != nil {
		t.Fatal(err)
	}
	s.wantTokens("in the end", []telephony.Number{bought, numbers[1]}, now, now)
	if waits := s.telling(); len(waits) != 0 {
		t.Errorf("waiting are %+v", waits)
	}
	s.wantAgree()
}
