package telephony_test

import (
	"net/url"
	"slices"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
)

// ownAccount is an account at Twilio that is nobody's here: a customer's own.
func (s *shop) ownAccount() (sid, token string) {
	s.t.Helper()
	said := s.api("POST", "/2010-04-01/Accounts.json", url.Values{"FriendlyName": {"A customer's own " + uuid.NewString()[:8]}})
	return said["sid"].(string), said["auth_token"].(string) //nolint:errcheck // the sandbox's own words
}

func (s *shop) saveOwn(sid, token string) (telephony.Credential, error) {
	return s.SaveOwn(s.t.Context(), telephony.OwnAccount{OrgID: s.org, AccountSID: sid, AuthToken: token, Actor: audit.System("test")})
}

func (s *shop) setMode(mode telephony.Kind) {
	s.t.Helper()
	if err := s.SetMode(s.t.Context(), s.org, mode, audit.User(uuid.New())); err != nil {
		s.t.Fatal(err)
	}
}

func TestOwn(t *testing.T) {
	s := newShop(t)
	person := audit.User(uuid.New())
	sid, token := s.ownAccount()
	wantFault(t, "its own account before it has one", s.SetMode(t.Context(), s.org, telephony.BYOC, person), fault.Conflict, "no_credential")
	c, err := s.saveOwn(" "+sid+" ", token)
	if err != nil || c.Kind != telephony.BYOC || c.AccountSID != sid || c.LastFour != token[len(token)-4:] || c.State != telephony.Working {
		t.Fatalf("%+v, %v", c, err)
	}
	if mode, err := s.Mode(t.Context(), s.org); err != nil || mode != telephony.Managed {
		t.Errorf("saving changed where numbers are bought: %s, %v", mode, err)
	}
	s.setMode(telephony.BYOC)
	found, err := s.Search(t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "US", Limit: 3})
	if err != nil || found.Kind != telephony.BYOC || found.Purchase != 0 || found.Monthly != 0 || len(found.List) != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	n := s.have(found.List[0].PhoneNumber, "own")
	if n.State != telephony.NumberActive || n.Kind != telephony.BYOC || n.AccountSID.String != sid || n.CredentialID.UUID != c.ID || n.HoldID.Valid || n.PaidUntil != nil {
		t.Errorf("%+v", n)
	}
	s.wantWallet(s.org, 30_00, 0, 0)
	s.wantAgree()

	// While it is live, its credential stays, and only another token of the same account takes its place.
	wantFault(t, "removing it", s.RemoveOwn(t.Context(), s.org, person), fault.Conflict, "credential_needed")
	otherSID, otherToken := s.ownAccount()
	_, err = s.saveOwn(otherSID, otherToken)
	wantFault(t, "another account", err, fault.Conflict, "credential_needed")
	if again, err := s.saveOwn(sid, token); err != nil || again.ID != c.ID {
		t.Errorf("the same account: %+v, %v", again, err)
	}

	// Managed ones beside it are of our account, cost what they cost, and are given back without touching the customer's own.
	s.setMode(telephony.Managed)
	s.setMode(telephony.Managed)
	managed := s.have(s.choose(1)[0], "managed")
	if managed.Kind != telephony.Managed || managed.AccountSID.String == sid {
		t.Errorf("%+v", managed)
	}
	s.wantWallet(s.org, 20_00, 0, 0)
	s.clock.Advance(45 * 24 * 3600e9)
	s.rents()
	s.wantWallet(s.org, 20_00-rent, 0, 0)
	s.run(s.release(managed))
	n = s.run(s.release(n))
	s.wantState(n, telephony.NumberReleased, "")
	s.wantAgree()
	list, err := s.Credentials(t.Context(), s.org)
	if err != nil || len(list) != 1 || list[0].ID != c.ID || list[0].Sealed != nil {
		t.Errorf("kept are %+v, %v", list, err)
	}
	if _, err := s.saveOwn(otherSID, otherToken); err != nil {
		t.Errorf("another account when nothing is live: %v", err)
	}
	s.setMode(telephony.BYOC)
	for range 2 {
		if err := s.RemoveOwn(t.Context(), s.org, person); err != nil {
			t.Error(err)
		}
	}
	if mode, err := s.Mode(t.Context(), s.org); err != nil || mode != telephony.Managed {
		t.Errorf("without a credential numbers are bought as %s, %v", mode, err)
	}
	if n := s.count(`SELECT count(*) FROM credentials`); n != 0 {
		t.Errorf("%d are left", n)
	}
	if n := s.count(`SELECT count(*) FROM audit_log WHERE action = 'credential.removed' AND actor = $1`, person); n != 1 {
		t.Errorf("the removal is in the audit log %d times", n)
	}
}

func TestOwnRefusals(t *testing.T) {
	s := newShop(t)
	sid, token := s.ownAccount()
	subaccount := s.have(s.choose(1)[0], "k").AccountSID.String
	for what, c := range map[string]struct {
		sid, token string
		kind       fault.Kind
		field      string
	}{
		"no account":                  {"PN00112233445566778899aabbccddeeff", token, fault.Invalid, "account_sid"},
		"no token":                    {sid, "short", fault.Invalid, "auth_token"},
		"our own account":             {account, token, fault.Invalid, "account_sid"},
		"one that we keep":            {subaccount, token, fault.Invalid, "account_sid"},
		"a wrong token":               {sid, "00000000000000000000000000000000", fault.Declined, "auth_token"},
		"an account that nobody has":  {"AC00000000000000000000000000000000", token, fault.Declined, "auth_token"},
		"a token with other language": {sid, "0123456789abcdef\r\nHost: evil", fault.Invalid, "auth_token"},
	} {
		_, err := s.saveOwn(c.sid, c.token)
		if f := fault.As(err); err == nil || f.Kind != c.kind || f.Field != c.field {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.faults(sandbox.Fault{Match: "GET /2010-04-01/Accounts/*", Do: sandbox.Fault503, Times: -1})
	_, err := s.saveOwn(sid, token)
	wantFault(t, "Twilio is away", err, fault.Unavailable, "provider_unavailable")
	s.faults()
	if n := s.count(`SELECT count(*) FROM credentials WHERE kind = 'byoc'`); n != 0 {
		t.Errorf("%d were stored", n)
	}
	_, err = s.TestOwn(t.Context(), s.org)
	wantFault(t, "testing none", err, fault.Conflict, "no_credential")
	wantFault(t, "no mode", s.SetMode(t.Context(), s.org, "none", audit.System("test")), fault.Invalid, "")
}

// A customer's own account is closed, or its token changed, while numbers live in it: it is said, and nothing of ours goes
// on without it.
func TestOwnStopsWorking(t *testing.T) {
	s := newShop(t)
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	s.setMode(telephony.BYOC)
	list := s.choose(2)
	n := s.have(list[0], "k")
	n = s.release(n)
	// Twilio refuses the token at each step that needs it.
	s.faults(sandbox.Fault{Match: sandbox.ReleaseNumber, Do: sandbox.FaultRefuse, Code: 20003, Times: -1}, sandbox.Fault{Match: "GET /2010-04-01/Accounts/*", Do: sandbox.FaultRefuse, Code: 20003, Times: -1})
	for range 6 {
		n = s.stepped(n)
	}
	c, err := s.Credentials(t.Context(), s.org)
	if err != nil || c[0].State != telephony.Refused || c[0].Note == "" {
		t.Errorf("%+v, %v", c, err)
	}
	if n.State != telephony.NumberReleasing || n.Note == "" {
		t.Errorf("shown as %s, %q", n.State, n.Note)
	}
	tested, err := s.TestOwn(t.Context(), s.org)
	if err != nil || tested.State != telephony.Refused {
		t.Errorf("%+v, %v", tested, err)
	}
	s.setMode(telephony.Managed)
	wantFault(t, "buying with it", s.SetMode(t.Context(), s.org, telephony.BYOC, audit.System("test")), fault.Conflict, "no_credential")
	s.faults()
	if tested, err = s.TestOwn(t.Context(), s.org); err != nil || tested.State != telephony.Working || tested.Note != "" {
		t.Errorf("%+v, %v", tested, err)
	}
	s.wantState(s.run(n), telephony.NumberReleased, "")
	s.wantAgree()
	var actions []string
	for _, a := range []string{"credential.saved", "credential.refused", "credential.working"} {
		if s.count(`SELECT count(*) FROM audit_log WHERE action = $1`, a) > 0 {
			actions = append(actions, a)
		}
	}
	if !slices.Equal(actions, []string{"credential.saved", "credential.refused", "credential.working"}) {
		t.Errorf("audited %v", actions)
	}
}

// Buying ends in the account where it was begun.
func TestModeChangesMeanwhile(t *testing.T) {
	s := newShop(t)
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	list := s.choose(2)
	managed := s.buy(list[0], "managed")
	s.setMode(telephony.BYOC)
	own := s.buy(list[1], "own")
	s.setMode(telephony.Managed)
	managed, own = s.run(managed), s.run(own)
	if managed.Kind != telephony.Managed || own.Kind != telephony.BYOC || own.AccountSID.String != sid {
		t.Errorf("%+v and %+v", managed, own)
	}
	s.wantState(managed, telephony.NumberActive, "")
	s.wantState(own, telephony.NumberActive, "")
	s.wantWallet(s.org, 20_00, 0, 0)
	s.wantAgree()
}

// Where numbers are bought changes between the look and the order: nothing is ordered, and nothing charged.
func TestModeChangesAtTheLastMoment(t *testing.T) {
	s := newShop(t)
	sid, token := s.ownAccount()
	if _, err := s.saveOwn(sid, token); err != nil {
		t.Fatal(err)
	}
	s.setMode(telephony.BYOC)
	number := s.choose(1)[0]
	_, err := s.Order(t.Context(), s.request(number, "k"), telephony.Managed)
	wantFault(t, "ordered in our account", err, fault.Conflict, "mode_changed")
	s.setMode(telephony.Managed)
	_, err = s.Order(t.Context(), s.request(number, "k"), telephony.BYOC)
	wantFault(t, "ordered in its own", err, fault.Conflict, "mode_changed")
	if n := s.count(`SELECT count(*) FROM numbers`) + s.count(`SELECT count(*) FROM holds`); n != 0 {
		t.Errorf("%d things were stored", n)
	}
	s.wantWallet(s.org, 30_00, 0, 0)
}

// The token of a subaccount that we keep is changed at Twilio, or its row cannot be opened any more: it is read anew.
func TestManagedTokenIsReadAnew(t *testing.T) {
	s := newShop(t)
	list := s.choose(3)
	first := s.have(list[0], "first")
	if _, err := s.vault.SaveCredential(t.Context(), s.db, s.org, telephony.Managed, first.AccountSID.String, "00000000000000000000000000000000"); err != nil {
		t.Fatal(err)
	}
	second := s.have(list[1], "second")
	s.wantState(second, telephony.NumberActive, "")
	stranger, _, _ := keysets(t)
	s.vault = newVault(t, stranger)
	s.Numbers = s.open(s.box.URL(), 0)
	s.run(s.release(first))
	s.run(s.release(second))
	s.wantAgree()
	if n := s.count(`SELECT count(*) FROM credentials`); n != 0 {
		t.Errorf("%d credentials are left", n)
	}
}
