package auth_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

// boss is the owner of North, signed in there.
func (h *house) boss(t *testing.T) auth.Identity {
	t.Helper()
	token, who := h.signIn(t)
	if err := h.SwitchOrg(t.Context(), who, h.north); err != nil {
		t.Fatal(err)
	}
	who, err := h.Resolve(t.Context(), token)
	if err != nil || who.Role != auth.RoleOwner {
		t.Fatalf("%+v, %v", who, err)
	}
	return who
}

// mailed are the tokens in the letters of a kind to an address that are not sent yet, oldest first.
func (h *house) mailed(t *testing.T, kind, email string) (tokens []string) {
	t.Helper()
	var rows []struct {
		ID           uuid.UUID
		SealedToken  []byte `db:"sealed_token"`
		Address      string
		ExpiresAt    time.Time `db:"expires_at"`
		CreatedAt    time.Time `db:"created_at"`
		Data         string
		State, Error string
	}
	dbtest.Select(t, h.url, &rows, `SELECT id, sealed_token, address, expires_at, created_at, data::text, state, error FROM personal_letters WHERE kind = $1 AND address = $2 ORDER BY created_at, id`, kind, email)
	for _, r := range rows {
		if r.SealedToken == nil {
			tokens = append(tokens, "")
			continue
		}
		token, err := h.OpenToken(r.ID, r.SealedToken)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.OpenToken(uuid.New(), r.SealedToken); err == nil {
			t.Error("a token opens in another letter")
		}
		if strings.Contains(string(r.SealedToken)+r.Data, token) {
			t.Error("the token is readable in the letter's row")
		}
		tokens = append(tokens, token)
	}
	return tokens
}

// invited asks somebody to join North and gives the token of the newest letter.
func (h *house) invited(t *testing.T, boss auth.Identity, email string, role auth.Role) (token string, id uuid.UUID) {
	t.Helper()
	if err := h.Invite(t.Context(), boss, email, role); err != nil {
		t.Fatal(err)
	}
	dbtest.Get(t, h.url, &id, `SELECT id FROM invitations WHERE email = $1 AND accepted_at IS NULL AND revoked_at IS NULL`, email)
	tokens := h.mailed(t, "invitation", email)
	return tokens[len(tokens)-1], id
}

func (h *house) join(t *testing.T, org uuid.UUID, email string, role auth.Role) auth.Identity {
	t.Helper()
	h.system(t, func(ctx context.Context, tx *db.Tx) error {
		u, err := h.CreateUser(ctx, tx, email, password, auth.PlatformNone)
		if err != nil {
			return err
		}
		return h.AddMember(ctx, tx, org, u.ID, role)
	})
	_, who, err := h.SignIn(t.Context(), email, password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// A link works once, for a week, for whoever it was sent to, and its token is stored as a hash.
func TestInvitationLinks(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	token, _ := h.invited(t, boss, "new@north.example", auth.RoleMember)
	inv, err := h.InvitedBy(t.Context(), token)
	if err != nil || inv.OrgName != "North" || inv.Role != auth.RoleMember || inv.Email != "new@north.example" || inv.InvitedBy != boss.Email {
		t.Fatalf("%+v, %v", inv, err)
	}
	if n := h.count(t, `SELECT count(*) FROM invitations WHERE position(convert_to($1, 'UTF8') IN token_hash) > 0`, token); n != 0 {
		t.Error("the token itself is stored")
	}
	_, _, err = h.AcceptNew(t.Context(), token, "short", address, browser)
	wantField(t, err, "password")
	session, who, err := h.AcceptNew(t.Context(), token, "a brand new day, 7 o'clock", address, browser)
	if err != nil || who.OrgName != "North" || who.Role != auth.RoleMember || who.Email != "new@north.example" {
		t.Fatalf("%+v, %v", who, err)
	}
	if now, err := h.Resolve(t.Context(), session); err != nil || now != who {
		t.Errorf("%+v, %v", now, err)
	}
	if _, _, err := h.SignIn(t.Context(), "new@north.example", "a brand new day, 7 o'clock", address, browser); err != nil {
		t.Error(err)
	}

	again, id := h.invited(t, boss, "second@north.example", auth.RoleViewer)
	wantField(t, h.Invite(t.Context(), boss, " Second@north.example", auth.RoleViewer), "email")
	wantField(t, h.Invite(t.Context(), boss, "new@north.example", auth.RoleViewer), "email") // works here
	wantField(t, h.Invite(t.Context(), boss, "no address", auth.RoleViewer), "email")
	wantField(t, h.Invite(t.Context(), boss, "third@north.example", "king"), "role")
	if err := h.ResendInvitation(t.Context(), boss, id); err != nil {
		t.Fatal(err)
	}
	fresh := h.mailed(t, "invitation", "second@north.example")[1]
	h.clock.Advance(7*24*time.Hour - time.Second)
	if _, err := h.InvitedBy(t.Context(), fresh); err != nil {
		t.Error("the new link ended early:", err)
	}
	boss = h.boss(t)
	list, err := h.Invitations(t.Context(), boss)
	if err != nil || len(list) != 1 || list[0].Expired {
		t.Errorf("%+v, %v", list, err)
	}
	h.clock.Advance(time.Second)
	if list, err = h.Invitations(t.Context(), boss); err != nil || len(list) != 1 || !list[0].Expired {
		t.Errorf("%+v, %v", list, err)
	}
	revoked, revokedID := h.invited(t, boss, "third@north.example", auth.RoleViewer)
	for range 2 {
		if err := h.RevokeInvitation(t.Context(), boss, revokedID); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, h.ResendInvitation(t.Context(), boss, revokedID), fault.NotFound)
	var one string
	for name, dead := range map[string]string{"used": token, "sent again": again, "ran out": fresh, "withdrawn": revoked, "made up": strings.Repeat("x", 43), "none": ""} {
		for what, try := range map[string]func() error{
			"seen": func() error { _, err := h.InvitedBy(t.Context(), dead); return err },
			"new": func() error {
				_, _, err := h.AcceptNew(t.Context(), dead, "a brand new day, 8 o'clock", address, browser)
				return err
			},
			"signed in": func() error { return h.AcceptAs(t.Context(), boss, dead) },
			"signing in": func() error {
				_, _, err := h.AcceptSigningIn(t.Context(), dead, password, address, browser)
				return err
			},
		} {
			err := try()
			if !fault.Is(err, fault.NotFound) || one != "" && fault.As(err).Public != one {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			one = fault.As(err).Public
		}
	}
	for action, want := range map[string]int{"member.invited": 3, "member.invited_again": 1, "member.invitation_revoked": 1, "member.joined": 1} {
		if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = $1 AND org_id = $2`, action, h.north); n != want {
			t.Errorf("%d audit rows of %s, want %d", n, action, want)
		}
	}
}

// Of any number of uses of one link at the same moment one counts: here all have looked at it before any uses it up.
func TestInvitationOnce(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	token, id := h.invited(t, boss, "nowhere@north.example", auth.RoleViewer)
	var wg sync.WaitGroup
	errs := make([]error, 6)
	h.system(t, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT FROM invitations WHERE id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
		for i := range errs {
			wg.Go(func() { _, _, errs[i] = h.AcceptSigningIn(t.Context(), token, password, address, browser) }) //nolint:contextcheck // each has its own
		}
		for until := time.Now().Add(20 * time.Second); h.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) < len(errs); { //nolint:contextcheck // a test's helpers have a context of their own
			if time.Now().After(until) {
				t.Fatal("they do not all wait for the invitation")
			}
		}
		return nil
	})
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		} else if !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	}
	if good != 1 || h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'member.joined'`) != 1 {
		t.Errorf("the link was used %d times", good)
	}
}

// Who has an account joins as who they are, and nobody joins with somebody else's link.
func TestInvitationsOfKnownPeople(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	var acorn uuid.UUID
	dbtest.Get(t, h.url, &acorn, `SELECT id FROM organizations WHERE name = 'Acorn'`)
	known := h.join(t, acorn, "known@acorn.example", auth.RoleOwner)
	token, _ := h.invited(t, boss, "known@acorn.example", auth.RoleViewer)
	wantKind(t, h.AcceptAs(t.Context(), boss, token), fault.Conflict)
	_, _, err := h.AcceptNew(t.Context(), token, "a brand new day, 7 o'clock", address, browser)
	wantKind(t, err, fault.Conflict)
	_, _, err = h.AcceptSigningIn(t.Context(), token, "wrong and long enough", address, browser)
	wantKind(t, err, fault.Unauthenticated)
	if h.count(t, `SELECT count(*) FROM memberships WHERE org_id = $1`, h.north) != 1 {
		t.Fatal("somebody joined")
	}
	if err := h.AcceptAs(t.Context(), known, token); err != nil {
		t.Fatal(err)
	}
	if valid, err := h.StillValid(t.Context(), []auth.SessionID{known.SessionID}); err != nil || valid[known.SessionID].OrgName != "North" || valid[known.SessionID].Role != auth.RoleViewer {
		t.Errorf("%+v, %v", valid, err)
	}
	// Somebody with an account that belongs nowhere cannot sign in, but can accept by its password.
	token, _ = h.invited(t, boss, "nowhere@north.example", auth.RoleMember)
	_, who, err := h.AcceptSigningIn(t.Context(), token, password, address, browser)
	if err != nil || who.OrgName != "North" || who.Role != auth.RoleMember {
		t.Fatalf("%+v, %v", who, err)
	}
	// A second factor stays required.
	_, asked := h.signIn(t)
	h.enrol(t, asked)
	dbtest.Super(t, h.url, `UPDATE second_factors SET user_id = $1`, who.UserID)
	dbtest.Super(t, h.url, `DELETE FROM memberships WHERE user_id = $1`, who.UserID)
	token, _ = h.invited(t, boss, "nowhere@north.example", auth.RoleMember)
	if _, who, err = h.AcceptSigningIn(t.Context(), token, password, address, browser); err != nil || !who.Pending {
		t.Fatalf("%+v, %v", who, err)
	}
	// Being asked again does not change what somebody is, and least of all takes the last owner's role away.
	boss = h.boss(t) // turning the factor on ended the sessions
	other, _ := h.invited(t, boss, "late@north.example", auth.RoleViewer)
	dbtest.Super(t, h.url, `UPDATE invitations SET email = $1 WHERE email = 'late@north.example'`, boss.Email)
	if err := h.AcceptAs(t.Context(), boss, other); err != nil {
		t.Fatal(err)
	}
	if h.count(t, `SELECT count(*) FROM memberships WHERE org_id = $1 AND user_id = $2 AND role = 'owner'`, h.north, boss.UserID) != 1 {
		t.Error("the owner is none any more")
	}
}

// What an owner is answered, what is stored and what is audited do not differ between an address with and without account.
func TestInvitingTellsNothing(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	for _, email := range []string{"nowhere@north.example", "nobodys@north.example"} {
		if err := h.Invite(t.Context(), boss, email, auth.RoleMember); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"invitations", "personal_letters", "audit_log"} {
		var kinds []string
		dbtest.Select(t, h.url, &kinds, `
			SELECT DISTINCT (to_jsonb(t) - ARRAY['id', 'email', 'address', 'token_hash', 'sealed_token', 'subject', 'detail', 'created_at', 'sent_at', 'expires_at', 'next_attempt_at', 'at', 'data'])::text
			FROM `+table+` t WHERE to_jsonb(t)::text LIKE '%@north.example%' AND to_jsonb(t)::text LIKE '%nowhere@%' OR to_jsonb(t)::text LIKE '%nobodys@%'`)
		if len(kinds) != 1 {
			t.Errorf("%s tells them apart: %v", table, kinds)
		}
	}
	o := auth.Options{Invitations: 2}
	limited := newSealedHouse(t, func(to *auth.Options) { to.Invitations = o.Invitations })
	boss = limited.boss(t)
	for i := range 3 {
		err := limited.Invite(t.Context(), boss, fmt.Sprintf("p%d@north.example", i), auth.RoleViewer)
		if i < 2 && err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			wantKind(t, err, fault.TooMany)
		}
	}
}

// Members see who works there, and only owners change it, however they ask.
func TestOnlyOwnersManage(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	member := h.join(t, h.north, "member@north.example", auth.RoleMember)
	viewer := h.join(t, h.north, "viewer@north.example", auth.RoleViewer)
	_, id := h.invited(t, boss, "new@north.example", auth.RoleViewer)
	for _, who := range []auth.Identity{member, viewer} {
		if list, err := h.Members(t.Context(), who); err != nil || len(list) != 3 || list[0].Role != auth.RoleOwner {
			t.Errorf("%+v, %v", list, err)
		}
		stale := who
		stale.Role = auth.RoleOwner // as a request saw it that began before a demotion
		for _, as := range []auth.Identity{who, stale} {
			wantKind(t, h.Invite(t.Context(), as, "x@north.example", auth.RoleViewer), fault.Forbidden)
			wantKind(t, h.ResendInvitation(t.Context(), as, id), fault.Forbidden)
			wantKind(t, h.RevokeInvitation(t.Context(), as, id), fault.Forbidden)
			wantKind(t, h.ChangeRole(t.Context(), as, who.UserID, auth.RoleOwner), fault.Forbidden)
			_, err := h.RemoveMember(t.Context(), as, boss.UserID)
			wantKind(t, err, fault.Forbidden)
		}
	}
	// Another organisation's owner reaches nobody here.
	_, foreign, err := h.SignIn(t.Context(), "owner@north.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	stranger := h.join(t, foreign.OrgID, "owner@acorn.example", auth.RoleOwner)
	wantKind(t, h.ChangeRole(t.Context(), stranger, member.UserID, auth.RoleOwner), fault.NotFound)
	_, err = h.RemoveMember(t.Context(), stranger, member.UserID)
	wantKind(t, err, fault.NotFound)
	wantKind(t, h.RevokeInvitation(t.Context(), stranger, id), fault.NotFound)
	wantKind(t, h.ResendInvitation(t.Context(), stranger, id), fault.NotFound)
	if list, err := h.Invitations(t.Context(), stranger); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = h.Member(t.Context(), stranger, member.UserID)
	wantKind(t, err, fault.NotFound)
}

// Whoever is removed is out at once, in every browser, and what they had sent out is withdrawn; elsewhere they go on.
func TestRemovedAtOnce(t *testing.T) {
	h := newSealedHouse(t, nil)
	boss := h.boss(t)
	other := h.join(t, h.north, "other@north.example", auth.RoleOwner)
	token, again, err := h.SignIn(t.Context(), "other@north.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	link, _ := h.invited(t, again, "accomplice@north.example", auth.RoleOwner)
	if err := h.ChangeRole(t.Context(), boss, other.UserID, auth.RoleViewer); err != nil {
		t.Fatal(err)
	}
	if who, err := h.Resolve(t.Context(), token); err != nil || who.Role != auth.RoleViewer {
		t.Errorf("%+v, %v", who, err)
	}
	_, err = h.InvitedBy(t.Context(), link)
	wantKind(t, err, fault.NotFound)
	ended, err := h.RemoveMember(t.Context(), boss, other.UserID)
	if err != nil || len(ended) != 2 {
		t.Fatalf("%v, %v", ended, err)
	}
	_, err = h.Resolve(t.Context(), token)
	wantKind(t, err, fault.Unauthenticated)
	_, _, err = h.SignIn(t.Context(), "other@north.example", password, address, browser)
	wantKind(t, err, fault.Forbidden)
	_, err = h.RemoveMember(t.Context(), boss, other.UserID)
	wantKind(t, err, fault.NotFound)
	for action, want := range map[string]int{"member.removed": 1, "member.role_changed": 1} {
		if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = $1 AND org_id = $2 AND actor = $3`, action, h.north, "user:"+boss.UserID.String()); n != want {
			t.Errorf("%d audit rows of %s", n, action)
		}
	}

	// The owner of North works in Acorn too, where the session goes on after leaving.
	wantKind(t, h.ChangeRole(t.Context(), boss, boss.UserID, auth.RoleMember), fault.Conflict)
	_, err = h.Leave(t.Context(), boss)
	wantKind(t, err, fault.Conflict)
	_, err = h.RemoveMember(t.Context(), boss, boss.UserID)
	wantKind(t, err, fault.Conflict)
	heir := h.join(t, h.north, "heir@north.example", auth.RoleMember)
	if err := h.ChangeRole(t.Context(), boss, heir.UserID, auth.RoleOwner); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, h.url, `UPDATE users SET disabled_at = now() WHERE id = $1`, heir.UserID)
	_, err = h.Leave(t.Context(), boss) // an owner who is shut out is none that counts
	wantKind(t, err, fault.Conflict)
	dbtest.Super(t, h.url, `UPDATE users SET disabled_at = NULL WHERE id = $1`, heir.UserID)
	stays, err := h.Leave(t.Context(), boss)
	if err != nil || !stays {
		t.Fatal(stays, err)
	}
	if valid, err := h.StillValid(t.Context(), []auth.SessionID{boss.SessionID}); err != nil || valid[boss.SessionID].OrgName != "Acorn" {
		t.Errorf("%+v, %v", valid, err)
	}
	second := h.join(t, h.north, "second@north.example", auth.RoleViewer)
	if stays, err = h.Leave(t.Context(), second); err != nil || stays {
		t.Errorf("%v, %v", stays, err)
	}
	if valid, err := h.StillValid(t.Context(), []auth.SessionID{second.SessionID}); err != nil || len(valid) != 0 {
		t.Errorf("%+v, %v", valid, err)
	}
}

// However many owners step down, leave and remove each other at the same moment, one is left.
func TestOneOwnerIsLeft(t *testing.T) {
	h := newSealedHouse(t, nil)
	const n = 6
	for round := range 4 {
		all := make([]auth.Identity, 0, n)
		var org uuid.UUID
		h.system(t, func(ctx context.Context, tx *db.Tx) (err error) {
			org, err = h.CreateOrganization(ctx, tx, fmt.Sprint("Round ", round))
			return err
		})
		for i := range n {
			all = append(all, h.join(t, org, fmt.Sprintf("o%d@round%d.example", i, round), auth.RoleOwner))
		}
		var wg sync.WaitGroup
		for i, who := range all {
			wg.Go(func() {
				next := all[(i+1)%n]
				var err error
				switch (i + round) % 3 {
				case 0:
					err = h.ChangeRole(t.Context(), who, who.UserID, auth.RoleMember)
				case 1:
					_, err = h.Leave(t.Context(), who)
				case 2:
					_, err = h.RemoveMember(t.Context(), who, next.UserID)
				}
				if k := fault.As(err); k != nil && k.Kind != fault.Conflict && k.Kind != fault.Forbidden && k.Kind != fault.NotFound {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left := h.count(t, `SELECT count(*) FROM memberships WHERE org_id = $1 AND role = 'owner'`, org); left < 1 {
			t.Errorf("round %d: %d owners are left", round, left)
		}
	}
	// Two alone, who both go: exactly one may.
	for round := range 8 {
		var org uuid.UUID
		h.system(t, func(ctx context.Context, tx *db.Tx) (err error) {
			org, err = h.CreateOrganization(ctx, tx, fmt.Sprint("Pair ", round))
			return err
		})
		pair := []auth.Identity{
			h.join(t, org, fmt.Sprintf("a@pair%d.example", round), auth.RoleOwner), h.join(t, org, fmt.Sprintf("b@pair%d.example", round), auth.RoleOwner),
		}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, who := range pair {
			wg.Go(func() { _, errs[i] = h.Leave(t.Context(), who) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || h.count(t, `SELECT count(*) FROM memberships WHERE org_id = $1 AND role = 'owner'`, org) != 1 {
			t.Fatalf("both went or none: %v", errs)
		}
	}
}
