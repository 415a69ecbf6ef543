package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

// asOperator signs the house's operator in.
func (h *house) asOperator(t *testing.T) (string, auth.Identity) {
	t.Helper()
	token, who, err := h.SignIn(t.Context(), "operator@house.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	return token, who
}

// resolve says who a token acts as now.
func (h *house) resolve(t *testing.T, token string) auth.Identity {
	t.Helper()
	who, err := h.Resolve(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// wantLog holds the audit log's rows of looks against what is expected: "started reason", "ended how".
func (h *house) wantLog(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	dbtest.Select(t, h.url, &got, `
		SELECT CASE action WHEN 'operator.view_started' THEN 'started ' || reason ELSE 'ended (' || reason || ') ' || (detail->>'how') END
		FROM audit_log WHERE action LIKE 'operator.view%' AND actor LIKE 'operator:%' AND org_id = $1 ORDER BY id`, h.north)
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("the log says\n%q, want\n%q", got, want)
	}
}

// TestView: an operator's session is a viewer's of the organisation for half an hour at most, and only that session; its
// beginning and end are in the log with the reason.
func TestView(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, who := h.asOperator(t)
	other, _ := h.asOperator(t)
	_, owner := h.signIn(t)
	for _, reason := range []string{"", " ", "a\x00", strings.Repeat("x", 501)} {
		if err := h.StartView(t.Context(), who, h.north, reason); fault.As(err).Field != "reason" {
			t.Errorf("for %.9q: %v", reason, err)
		}
	}
	wantKind(t, h.StartView(t.Context(), owner, h.north, "x"), fault.NotFound)
	wantKind(t, h.StartView(t.Context(), who, uuid.New(), "x"), fault.NotFound)
	if err := h.StartView(t.Context(), who, h.north, "TICKET-1"); err != nil {
		t.Fatal(err)
	}
	until := h.clock.Now().Add(30 * time.Minute)
	sees := h.resolve(t, token)
	if sees.OrgID != h.north || sees.OrgName != "North" || sees.Role != auth.RoleViewer || !sees.Viewing || sees.CanPay() || !sees.ViewUntil.Equal(until) || sees.UserID != who.UserID {
		t.Errorf("sees %+v", sees)
	}
	if again := h.resolve(t, token); again != sees { // streams compare them
		t.Errorf("%+v, then %+v", sees, again)
	}
	if beside := h.resolve(t, other); beside.Viewing || beside.OrgID != uuid.Nil {
		t.Errorf("another session sees %+v", beside)
	}
	wantKind(t, h.StartView(t.Context(), sees, h.north, "again"), fault.Conflict)
	org, err := h.EndView(t.Context(), sees)
	if err != nil || org != h.north {
		t.Errorf("ended %s, %v", org, err)
	}
	if now := h.resolve(t, token); now != who {
		t.Errorf("afterwards %+v, before %+v", now, who)
	}
	if org, err = h.EndView(t.Context(), who); err != nil || org != uuid.Nil {
		t.Errorf("ended again: %s, %v", org, err)
	}
	h.wantLog(t, "started TICKET-1", "ended (TICKET-1) ended")

	// By itself: at once for what may be seen, and with the next sweep in the log.
	if err := h.StartView(t.Context(), who, h.north, "TICKET-2"); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(30*time.Minute - time.Second)
	if now := h.resolve(t, token); !now.Viewing {
		t.Error("it ended too early")
	}
	h.clock.Advance(time.Second)
	if now := h.resolve(t, token); now.Viewing || now.OrgID != uuid.Nil || now.Role != "" {
		t.Errorf("it goes on: %+v", now)
	}
	for range 2 {
		if _, _, err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h.wantLog(t, "started TICKET-1", "ended (TICKET-1) ended", "started TICKET-2", "ended (TICKET-2) time was up")
	// One that is over, and that no sweep has seen yet, is in nobody's way.
	for _, reason := range []string{"TICKET-3", "TICKET-4"} {
		if err := h.StartView(t.Context(), who, h.north, reason); err != nil {
			t.Fatal(err)
		}
		h.clock.Advance(31 * time.Minute)
	}
	if org, err := h.EndView(t.Context(), who); err != nil || org != uuid.Nil {
		t.Errorf("ended one that was over: %s, %v", org, err)
	}
	h.wantLog(t, "started TICKET-1", "ended (TICKET-1) ended", "started TICKET-2", "ended (TICKET-2) time was up",
		"started TICKET-3", "ended (TICKET-3) time was up", "started TICKET-4", "ended (TICKET-4) time was up")
}

// TestViewEndsWithTheSession: signing out ends it, and so does whatever else ends the session.
func TestViewEndsWithTheSession(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, who := h.asOperator(t)
	_, second := h.asOperator(t)
	for _, w := range []auth.Identity{who, second} {
		if err := h.StartView(t.Context(), w, h.north, "TICKET-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.SignOut(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	h.wantLog(t, "started TICKET-1", "started TICKET-1", "ended (TICKET-1) the session ended")
	if _, err := h.RevokeAll(t.Context(), who.UserID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.wantLog(t, "started TICKET-1", "started TICKET-1", "ended (TICKET-1) the session ended", "ended (TICKET-1) the session ended")
}

// TestViewNeedsAnOperator: who ceases to be one sees nothing from then on, and operators are not looked at.
func TestViewNeedsAnOperator(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, who := h.asOperator(t)
	var house uuid.UUID
	h.system(t, func(ctx context.Context, tx *db.Tx) (err error) {
		if house, err = h.CreateOrganization(ctx, tx, "The house"); err != nil {
			return err
		}
		u, err := h.CreateUser(ctx, tx, "second@house.example", password, auth.PlatformOperator)
		if err != nil {
			return err
		}
		return h.AddMember(ctx, tx, house, u.ID, auth.RoleMember)
	})
	wantKind(t, h.StartView(t.Context(), who, house, "x"), fault.Conflict)
	if err := h.StartView(t.Context(), who, h.north, "TICKET-1"); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, h.url, `UPDATE users SET platform_role = NULL WHERE id = $1`, who.UserID)
	if _, err := h.Resolve(t.Context(), token); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a former operator: %v", err)
	}
}

// TestOpenOrganisation: it has a wallet, its first owner comes by the letter's link, and the log tells why.
func TestOpenOrganisation(t *testing.T) {
	opened := map[uuid.UUID]bool{}
	h := newSealedHouse(t, func(o *auth.Options) {
		o.OpenWallet = func(_ context.Context, org uuid.UUID) error { opened[org] = true; return nil }
	})
	_, who := h.asOperator(t)
	_, owner := h.signIn(t)
	for field, n := range map[string]auth.NewOrganisation{
		"name": {Name: " ", Owner: "new@bakery.example", Reason: "r"}, "owner": {Name: "Bakery", Owner: "nonsense", Reason: "r"},
	} {
		if _, err := h.OpenOrganisation(t.Context(), who, n); fault.As(err).Field != field || fault.As(err).Kind != fault.Invalid {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := h.OpenOrganisation(t.Context(), who, auth.NewOrganisation{Name: "North", Owner: "new@bakery.example", Reason: "r"}); fault.As(err).Field != "name" {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := h.OpenOrganisation(t.Context(), owner, auth.NewOrganisation{Name: "Bakery", Owner: "new@bakery.example", Reason: "r"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("by an owner: %v", err)
	}
	org, err := h.OpenOrganisation(t.Context(), who, auth.NewOrganisation{Name: " Bakery ", Owner: "New@Bakery.example", Reason: "TICKET-1"})
	if err != nil || !opened[org] || len(opened) != 1 {
		t.Fatalf("%v; wallets were opened of %v", err, opened)
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'organisation.opened' AND reason = 'TICKET-1' AND org_id = $1 AND actor LIKE 'operator:%'`, org); n != 1 {
		t.Error("the log does not tell of it")
	}
	var letter struct {
		ID     uuid.UUID
		Sealed []byte `db:"sealed_token"`
	}
	dbtest.Get(t, h.url, &letter, `SELECT id, sealed_token FROM personal_letters WHERE kind = 'invitation' AND address = 'new@bakery.example'`)
	link, err := h.OpenToken(letter.ID, letter.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	_, first, err := h.AcceptNew(t.Context(), link, "a brand new day, 7 o'clock", address, browser)
	if err != nil || first.OrgID != org || first.Role != auth.RoleOwner || first.OrgName != "Bakery" {
		t.Errorf("the first owner is %+v, %v", first, err)
	}
	list, more, err := h.Organisations(t.Context(), auth.OrgFilter{Text: "NEW@bakery"})
	if err != nil || more || len(list) != 1 || list[0].ID != org || list[0].People != 1 || list[0].Invited != 0 || list[0].Owner != "new@bakery.example" {
		t.Errorf("found %+v, %v", list, err)
	}
}
