package auth_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

const fresh = "an entirely new phrase"

// A link changes the password once, within half an hour, ends every session and asks for the second factor still.
func TestPasswordReset(t *testing.T) {
	h := newSealedHouse(t, nil)
	const email = "owner@north.example"
	token, who := h.signIn(t)
	secret, _ := h.enrol(t, who)
	pending, _ := h.signIn(t)
	for range 2 {
		if err := h.AskReset(t.Context(), " Owner@North.example", address); err != nil {
			t.Fatal(err)
		}
	}
	links := h.mailed(t, "password_reset", email)
	if len(links) != 2 {
		t.Fatalf("%d letters", len(links))
	}
	if n := h.count(t, `SELECT count(*) FROM password_resets WHERE position(convert_to($1, 'UTF8') IN token_hash) > 0`, links[0]); n != 0 {
		t.Error("the token itself is stored")
	}
	for range 3 { // looking uses nothing up, and neither does a password that breaks a rule
		if err := h.CheckReset(t.Context(), links[0]); err != nil {
			t.Fatal(err)
		}
		wantField(t, h.ResetPassword(t.Context(), links[0], "short", address), "password")
	}
	// Locked out by guesses, one comes in again by the letter.
	for range 10 {
		_, _, _ = h.SignIn(t.Context(), email, "wrong and long enough", address, browser)
	}
	_, _, err := h.SignIn(t.Context(), email, password, address, browser)
	wantKind(t, err, fault.TooMany)
	if err := h.ResetPassword(t.Context(), links[0], fresh, address); err != nil {
		t.Fatal(err)
	}
	_, err = h.Resolve(t.Context(), token)
	wantKind(t, err, fault.Unauthenticated)
	h.clock.Advance(31 * time.Second)
	_, _, err = h.GiveFactor(t.Context(), pending, h.code(t, secret), address, browser)
	wantKind(t, err, fault.Unauthenticated) // the half of a sign-in with the old password
	for _, used := range append(links, strings.Repeat("x", 43), "") {
		wantKind(t, h.CheckReset(t.Context(), used), fault.NotFound)
		wantKind(t, h.ResetPassword(t.Context(), used, fresh+"!", address), fault.NotFound)
	}
	_, _, err = h.SignIn(t.Context(), email, password, address, browser)
	wantKind(t, err, fault.Unauthenticated)
	if _, who, err = h.SignIn(t.Context(), email, fresh, address, browser); err != nil || !who.Pending {
		t.Fatalf("without the second factor: %+v, %v", who, err)
	}
	if n := h.count(t, `SELECT count(*) FROM personal_letters WHERE kind = 'password_changed' AND address = $1`, email); n != 1 {
		t.Error("the owner is not told")
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.password_reset' AND actor = $1`, "user:"+h.owner.ID.String()); n != 1 {
		t.Errorf("%d audit rows", n)
	}

	if err := h.AskReset(t.Context(), email, address); err != nil {
		t.Fatal(err)
	}
	late := h.mailed(t, "password_reset", email)[2]
	h.clock.Advance(30*time.Minute - time.Second)
	if err := h.CheckReset(t.Context(), late); err != nil {
		t.Error("the link ended early:", err)
	}
	h.clock.Advance(time.Second)
	wantKind(t, h.ResetPassword(t.Context(), late, fresh+"!", address), fault.NotFound)
	if err := h.AskReset(t.Context(), email, address); err != nil {
		t.Fatal(err)
	}
	shut := h.mailed(t, "password_reset", email)[3]
	dbtest.Super(t, h.url, `UPDATE users SET disabled_at = now() WHERE email = $1`, email)
	wantKind(t, h.ResetPassword(t.Context(), shut, fresh+"!", address), fault.NotFound)
	h.clock.Advance(2 * time.Hour)
	if _, _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.count(t, `SELECT count(*) FROM password_resets`); n != 0 {
		t.Errorf("%d old links stayed", n)
	}
}

// Of any number of uses of one link at the same moment one counts.
func TestPasswordResetOnce(t *testing.T) {
	h := newSealedHouse(t, nil)
	if err := h.AskReset(t.Context(), h.owner.Email, address); err != nil {
		t.Fatal(err)
	}
	link := h.mailed(t, "password_reset", h.owner.Email)[0]
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = h.ResetPassword(t.Context(), link, fmt.Sprint(fresh, i), address) })
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		} else if !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	}
	if good != 1 || h.count(t, `SELECT count(*) FROM personal_letters WHERE kind = 'password_changed'`) != 1 {
		t.Errorf("the link changed the password %d times", good)
	}
}

// Asking answers, writes and counts the same whether there is an account or not.
func TestAskingTellsNothing(t *testing.T) {
	h := newSealedHouse(t, nil)
	dbtest.Super(t, h.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES (gen_random_uuid(), 'https://else.example', 'x', 'outside@north.example', now())`)
	asked := []string{"owner@north.example", "nobody@north.example", "outside@north.example"}
	rows := func() (n int) {
		for _, table := range []string{"password_resets", "personal_letters", "audit_log", "login_failures"} {
			n += h.count(t, `SELECT count(*) FROM `+table)
		}
		return n
	}
	for i, email := range asked {
		for n := range 6 {
			before := rows()
			err := h.AskReset(t.Context(), email, fmt.Sprintf("192.0.2.%d", i))
			if n < 5 && (err != nil || rows() != before+5) {
				t.Errorf("%s: %v, %d rows", email, err, rows()-before)
			}
			if n == 5 && (!fault.Is(err, fault.TooMany) || rows() != before || fault.As(err).RetryAfter <= 0) {
				t.Errorf("%s: %v, %d rows", email, err, rows()-before)
			}
		}
	}
	if n := h.count(t, `SELECT count(*) FROM personal_letters WHERE state = 'queued'`); n != 5 {
		t.Errorf("%d letters are sent, want the owner's 5", n)
	}
	if n := h.count(t, `SELECT count(*) FROM personal_letters WHERE address LIKE '%nobody%' OR data::text LIKE '%nobody%' OR sealed_token IS NOT NULL AND state <> 'queued'`); n != 0 {
		t.Error("what was typed is kept")
	}
	limited := newSealedHouse(t, func(o *auth.Options) { o.AddressResets = 3 })
	for i := range 4 {
		err := limited.AskReset(t.Context(), fmt.Sprintf("p%d@north.example", i), "192.0.2.9")
		if i < 3 && err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			wantKind(t, err, fault.TooMany)
		}
	}
	wantField(t, h.AskReset(t.Context(), "no address", address), "email")
}

// Passwords that many have chosen are refused, and so are those made of what is guessed first here.
func TestGuessablePasswords(t *testing.T) {
	h := newSealedHouse(t, nil)
	for _, guess := range []string{
		"1qaz2wsx3edc", "QWERTY123456", "unbelievable", "passwordpassword", "ringfence-2026", "Ringfence!Ringfence!", "owner@north.example", "north-owner-1234", "Welcome-Wallet-99",
	} {
		if err := h.AskReset(t.Context(), h.owner.Email, address); err != nil {
			t.Fatal(err)
		}
		links := h.mailed(t, "password_reset", h.owner.Email)
		wantField(t, h.ResetPassword(t.Context(), links[len(links)-1], guess, address), "password")
		h.clock.Advance(16 * time.Minute)
	}
	_, who := h.signIn(t)
	for _, good := range []string{"my ringfence is made of oak", "owner of seventeen ponies", "correct horse battery two"} {
		old := password
		if good != "my ringfence is made of oak" {
			old = map[string]string{"owner of seventeen ponies": "my ringfence is made of oak", "correct horse battery two": "owner of seventeen ponies"}[good]
		}
		if err := h.ChangePassword(t.Context(), who, old, good, address); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// A person sees their own sessions, and ends one or all others; nobody else's.
func TestDevices(t *testing.T) {
	h := newSealedHouse(t, nil)
	first, _ := h.signIn(t)
	h.clock.Advance(5 * time.Minute)
	second, other, err := h.SignIn(t.Context(), h.owner.Email, password, "198.51.100.4", "Second/1.0")
	if err != nil {
		t.Fatal(err)
	}
	third, me := h.signIn(t)
	_, stranger, err := h.SignIn(t.Context(), "operator@house.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.Devices(t.Context(), me)
	if err != nil || len(list) != 3 || !list[0].This || list[0].ID != me.SessionID || list[1].UserAgent != "Second/1.0" || list[1].Address != "198.51.100.4" ||
		list[2].This || !list[2].SignedInAt.Before(list[1].SignedInAt) || list[0].OrgName != "Acorn" {
		t.Fatalf("%+v, %v", list, err)
	}
	wantKind(t, h.EndDevice(t.Context(), stranger, other.SessionID), fault.NotFound)
	wantKind(t, h.EndDevice(t.Context(), me, auth.SessionID{1}), fault.NotFound)
	if _, err := h.Resolve(t.Context(), second); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := h.EndDevice(t.Context(), me, other.SessionID); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.Resolve(t.Context(), second)
	wantKind(t, err, fault.Unauthenticated)
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.session_ended_by_user' AND subject = $1`, "session:"+other.SessionID.String()); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	ended, err := h.EndOtherDevices(t.Context(), me)
	if err != nil || len(ended) != 1 {
		t.Errorf("%v, %v", ended, err)
	}
	_, err = h.Resolve(t.Context(), first)
	wantKind(t, err, fault.Unauthenticated)
	if _, err := h.Resolve(t.Context(), third); err != nil {
		t.Error(err)
	}
	if valid, err := h.StillValid(t.Context(), []auth.SessionID{stranger.SessionID}); err != nil || len(valid) != 1 {
		t.Errorf("somebody else was signed out: %v", err)
	}
	id, err := auth.ParseSessionID(me.SessionID.Hex())
	if err != nil || id != me.SessionID {
		t.Error(id, err)
	}
	for _, bad := range []string{"", "zz", "00", me.SessionID.Hex() + "00"} {
		_, err := auth.ParseSessionID(bad)
		wantKind(t, err, fault.NotFound)
	}
}
