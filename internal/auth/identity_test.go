package auth_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

func newSealedHouse(t *testing.T, change func(*auth.Options)) *house {
	t.Helper()
	o := auth.Options{SealKeys: [][]byte{sealKey}}
	if change != nil {
		change(&o)
	}
	return newHouse(t, o)
}

// enrol turns the second factor on and gives its secret and the recovery codes.
func (h *house) enrol(t *testing.T, who auth.Identity) (secret string, codes []string) {
	t.Helper()
	if err := h.BeginFactor(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	e, ok, err := h.Enrolling(t.Context(), who)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	secret = strings.ReplaceAll(e.Secret, "-", "")
	if !strings.Contains(e.URL, "secret="+secret) || !strings.HasPrefix(e.URL, "otpauth://totp/Ringfence:") {
		t.Errorf("the URL is %s", e.URL)
	}
	path, size, err := e.QR()
	if err != nil || size < 29 || !strings.HasPrefix(path, "M4 4h1v1h-1z") || strings.Trim(path, "Mhvz0123456789- ") != "" {
		t.Errorf("the drawing is %d wide: %v %.60s", size, err, path)
	}
	if codes, err = h.ConfirmFactor(t.Context(), who, h.code(t, secret)); err != nil {
		t.Fatal(err)
	}
	return secret, codes
}

func (h *house) code(t *testing.T, secret string) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, h.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != fault.Invalid && f.Kind != fault.Conflict || f.Field != field {
		t.Fatalf("got %v, want a fault beside %q", err, field)
	}
}

func TestSecondFactor(t *testing.T) {
	h := newSealedHouse(t, nil)
	other, _ := h.signIn(t)
	token, who := h.signIn(t)
	if who.SecondFactor {
		t.Error("a factor nobody gave")
	}
	if err := h.BeginFactor(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	// Until it is confirmed it protects nothing, and locks nobody out.
	if _, again := h.signIn(t); again.Pending {
		t.Error("a factor that was not confirmed is asked for")
	}
	_, err := h.ConfirmFactor(t.Context(), who, "000000")
	wantField(t, err, "code")
	secret, codes := h.enrol(t, who)
	if len(codes) != 10 || !regexp.MustCompile(`^([a-z2-7]{4}-){3}[a-z2-7]{4}$`).MatchString(codes[0]) {
		t.Errorf("recovery codes: %v", codes)
	}
	if now, err := h.Resolve(t.Context(), token); err != nil || !now.SecondFactor {
		t.Errorf("this session: %+v, %v", now, err)
	}
	_, err = h.Resolve(t.Context(), other)
	wantKind(t, err, fault.Unauthenticated)
	if _, ok, err := h.Enrolling(t.Context(), who); ok || err != nil {
		t.Errorf("the secret is shown again: %v", err)
	}
	wantKind(t, h.BeginFactor(t.Context(), who), fault.Conflict)
	var sealed []byte
	dbtest.Get(t, h.url, &sealed, `SELECT sealed FROM second_factors`)
	if strings.Contains(string(sealed), secret) || h.count(t, `SELECT count(*) FROM recovery_codes WHERE encode(code_hash, 'escape') LIKE $1`, "%"+strings.ReplaceAll(codes[0], "-", "")+"%") != 0 {
		t.Error("secrets are readable in the database")
	}

	pending, half := h.signIn(t)
	if !half.Pending || half.OrgID != uuid.Nil || half.CanPay() || half.Scopes != 0 {
		t.Errorf("half signed in as %+v", half)
	}
	_, err = h.Resolve(t.Context(), pending)
	wantKind(t, err, fault.Unauthenticated)
	if valid, err := h.StillValid(t.Context(), []auth.SessionID{half.SessionID}); err != nil || len(valid) != 0 {
		t.Errorf("a pending session has streams: %v, %v", valid, err)
	}
	give := func(code string) (string, auth.Identity, error) {
		return h.GiveFactor(t.Context(), pending, code, address, browser)
	}
	_, _, err = give(h.code(t, secret)) // the code that confirmed it
	wantField(t, err, "code")
	h.clock.Advance(30 * time.Second)
	full, who, err := give(h.code(t, secret)[:3] + " " + h.code(t, secret)[3:])
	if err != nil || !who.SecondFactor || who.Pending || full == pending || who.OrgName != "Acorn" {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, err := h.Resolve(t.Context(), full); err != nil {
		t.Error(err)
	}
	_, _, err = give(h.code(t, secret))
	wantKind(t, err, fault.Unauthenticated) // the pending session is over
	pending, _ = h.signIn(t)
	_, _, err = give(h.code(t, secret)) // the code was used
	wantField(t, err, "code")
	if _, who, err = give(strings.ToUpper(codes[3])); err != nil || !who.SecondFactor {
		t.Fatalf("a recovery code: %+v, %v", who, err)
	}
	pending, _ = h.signIn(t)
	_, _, err = give(codes[3])
	wantField(t, err, "code")
	h.clock.Advance(10 * time.Minute)
	_, _, err = give(codes[4])
	wantKind(t, err, fault.Unauthenticated) // it waited too long

	if f, err := h.FactorOf(t.Context(), who.UserID); err != nil || !f.Confirmed || f.RecoveryLeft != 9 {
		t.Errorf("%+v, %v", f, err)
	}
	fresh, err := h.NewRecoveryCodes(t.Context(), who, h.code(t, secret))
	if err != nil || len(fresh) != 10 {
		t.Fatal(err)
	}
	wantField(t, h.RemoveFactor(t.Context(), who, codes[5]), "code") // an old one
	if err := h.RemoveFactor(t.Context(), who, fresh[0]); err != nil {
		t.Fatal(err)
	}
	if _, who := h.signIn(t); who.Pending || who.SecondFactor {
		t.Error("still asked for")
	}
	if n := h.count(t, `SELECT count(*) FROM recovery_codes`); n != 0 {
		t.Error("codes stayed")
	}
	for action, want := range map[string]int{"auth.second_factor_on": 1, "auth.second_factor_off": 1, "auth.recovery_code_used": 2, "auth.recovery_codes_made": 1} {
		if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = $1`, action); n != want {
			t.Errorf("%d audit rows of %s, want %d", n, action, want)
		}
	}
}

// Guesses are limited however many come at once, over all sessions of the user, and the right code does not help then.
func TestSecondFactorLimits(t *testing.T) {
	h := newSealedHouse(t, nil)
	_, who := h.signIn(t)
	secret, codes := h.enrol(t, who)
	h.clock.Advance(time.Minute)
	var wg sync.WaitGroup
	kinds := make(chan fault.Kind, 30)
	for range cap(kinds) {
		pending, _ := h.signIn(t)
		wg.Go(func() {
			_, _, err := h.GiveFactor(t.Context(), pending, "123456", address, browser)
			kinds <- fault.As(err).Kind
		})
	}
	wg.Wait()
	close(kinds)
	wrong := 0
	for kind := range kinds {
		if kind == fault.Invalid {
			wrong++
		} else if kind != fault.TooMany {
			t.Errorf("kind %d", kind)
		}
	}
	if wrong != 5 {
		t.Errorf("%d guesses were judged, want 5", wrong)
	}
	pending, _ := h.signIn(t)
	for _, code := range []string{h.code(t, secret), codes[0]} {
		_, _, err := h.GiveFactor(t.Context(), pending, code, address, browser)
		wantKind(t, err, fault.TooMany)
		if fault.As(err).RetryAfter <= 0 {
			t.Error("not told when to come back")
		}
	}
	h.clock.Advance(16 * time.Minute)
	pending, _ = h.signIn(t)
	if _, _, err := h.GiveFactor(t.Context(), pending, h.code(t, secret), address, browser); err != nil {
		t.Error(err)
	}
}

// One code, many tries at once: it is taken once.
func TestSecondFactorOnce(t *testing.T) {
	h := newSealedHouse(t, func(o *auth.Options) { o.FactorFailures = 100 })
	_, who := h.signIn(t)
	secret, codes := h.enrol(t, who)
	h.clock.Advance(time.Minute)
	for name, code := range map[string]string{"code": h.code(t, secret), "recovery code": codes[0]} {
		var wg sync.WaitGroup
		taken := make(chan bool, 12)
		for range cap(taken) {
			pending, _ := h.signIn(t)
			wg.Go(func() {
				_, _, err := h.GiveFactor(t.Context(), pending, code, address, browser)
				taken <- err == nil
			})
		}
		wg.Wait()
		close(taken)
		n := 0
		for ok := range taken {
			if ok {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the %s was taken %d times", name, n)
		}
	}
}

// The key rolls: what an old key sealed is opened, and sealed anew when it is used. A key dropped too early locks nobody
// out who has a recovery code.
func TestSealKeysRoll(t *testing.T) {
	h := newSealedHouse(t, nil)
	_, who := h.signIn(t)
	secret, codes := h.enrol(t, who)
	newKey := []byte("another key of thirty-two bytes or more")
	with := func(keys ...[]byte) *auth.Auth {
		a, err := auth.New(h.db, auth.Options{Hash: cheap, SealKeys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	try := func(a *auth.Auth, code string) error {
		h.clock.Advance(time.Minute)
		pending, _, err := a.SignIn(t.Context(), "owner@north.example", password, address, browser)
		if err != nil {
			t.Fatal(err)
		}
		if code == "" {
			code = h.code(t, secret)
		}
		_, _, err = a.GiveFactor(t.Context(), pending, code, address, browser)
		return err
	}
	wantField(t, try(with(newKey), ""), "code")
	if err := try(with(newKey), codes[0]); err != nil {
		t.Error(err)
	}
	if err := try(with(newKey, sealKey), ""); err != nil {
		t.Error(err)
	}
	if err := try(with(newKey), ""); err != nil {
		t.Errorf("it was not sealed anew: %v", err)
	}
}

func TestChangePassword(t *testing.T) {
	h := newHouse(t, auth.Options{AccountFailures: 3})
	other, _ := h.signIn(t)
	token, who := h.signIn(t)
	const fresh = "a fresh start, today"
	wantField(t, h.ChangePassword(t.Context(), who, "wrong password!", fresh, address), "current")
	wantField(t, h.ChangePassword(t.Context(), who, password, "short", address), "password")
	wantField(t, h.ChangePassword(t.Context(), who, password, password, address), "password")
	if _, err := h.Resolve(t.Context(), other); err != nil {
		t.Fatal("a refused change ended a session")
	}
	if err := h.ChangePassword(t.Context(), who, password, fresh, address); err != nil {
		t.Fatal(err)
	}
	_, err := h.Resolve(t.Context(), other)
	wantKind(t, err, fault.Unauthenticated)
	if _, err := h.Resolve(t.Context(), token); err != nil {
		t.Errorf("this session ended too: %v", err)
	}
	_, _, err = h.SignIn(t.Context(), "owner@north.example", password, address, browser)
	wantKind(t, err, fault.Unauthenticated)
	if _, _, err := h.SignIn(t.Context(), "owner@north.example", fresh, address, browser); err != nil {
		t.Error(err)
	}
	// A stolen session cannot guess on: the limits are sign-in's.
	for range 3 {
		wantField(t, h.ChangePassword(t.Context(), who, "wrong password!", fresh, address), "current")
	}
	wantKind(t, h.ChangePassword(t.Context(), who, fresh, password, address), fault.TooMany)
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.password_changed'`); n != 1 {
		t.Errorf("%d audit rows", n)
	}
}

func TestSwitchOrganisation(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, who := h.signIn(t)
	orgs, err := h.Memberships(t.Context(), who.UserID)
	if err != nil || len(orgs) != 2 || orgs[0].Name != "Acorn" || orgs[1].Role != auth.RoleOwner {
		t.Fatalf("%+v, %v", orgs, err)
	}
	if err := h.SwitchOrg(t.Context(), who, h.north); err != nil {
		t.Fatal(err)
	}
	if who, err = h.Resolve(t.Context(), token); err != nil || who.OrgID != h.north || who.Role != auth.RoleOwner {
		t.Errorf("%+v, %v", who, err)
	}
	wantKind(t, h.SwitchOrg(t.Context(), who, uuid.New()), fault.NotFound)
	dbtest.Super(t, h.url, `DELETE FROM memberships WHERE org_id = $1`, orgs[0].OrgID)
	wantKind(t, h.SwitchOrg(t.Context(), who, orgs[0].OrgID), fault.NotFound)
}

func TestSignUp(t *testing.T) {
	var opened []uuid.UUID
	broken := errors.New("planted")
	var fail error
	h := newHouse(t, auth.Options{SignUps: 6, Production: true, OpenWallet: func(_ context.Context, org uuid.UUID) error {
		opened = append(opened, org)
		return fail
	}})
	n := auth.NewAccount{OrgName: "New House", Email: "New@House.example", Password: "a fresh start, today"}
	token, who, err := h.SignUp(t.Context(), n, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	if who.OrgName != "New House" || who.Role != auth.RoleOwner || who.Email != "new@house.example" || len(opened) != 1 || opened[0] != who.OrgID {
		t.Errorf("%+v, wallets %v", who, opened)
	}
	if again, err := h.Resolve(t.Context(), token); err != nil || again != who {
		t.Error(again, err)
	}
	_, _, err = h.SignUp(t.Context(), n, address, browser)
	wantField(t, err, "organisation")
	for field, bad := range map[string]auth.NewAccount{
		"email":    {OrgName: "Other", Email: n.Email, Password: n.Password},
		"password": {OrgName: "Other", Email: "other@house.example", Password: auth.DemoPassword},
	} {
		_, _, err := h.SignUp(t.Context(), bad, address, browser)
		wantField(t, err, field)
	}
	if got := h.count(t, `SELECT count(*) FROM organizations WHERE name = 'Other'`); got != 0 {
		t.Error("a refused sign-up left an organisation")
	}
	// Cut off before the wallet: the owner can sign in, and the sweeper opens it.
	fail = broken
	n = auth.NewAccount{OrgName: "Cut Off", Email: "cut@house.example", Password: n.Password}
	if _, _, err = h.SignUp(t.Context(), n, address, browser); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	fail, opened = nil, nil
	if _, _, err := h.SignIn(t.Context(), n.Email, n.Password, address, browser); err != nil {
		t.Error(err)
	}
	if _, _, err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	// No organisation of this house has a wallet, so all of them get one.
	if want := h.count(t, `SELECT count(*) FROM organizations`); len(opened) != want {
		t.Errorf("%d wallets opened, want %d", len(opened), want)
	}
	for i := range 2 {
		_, _, err = h.SignUp(t.Context(), auth.NewAccount{OrgName: "More", Email: "x", Password: n.Password}, address, browser)
		if i == 0 {
			wantField(t, err, "email")
		}
	}
	wantKind(t, err, fault.TooMany)
	if _, _, err = h.SignUp(t.Context(), auth.NewAccount{OrgName: "More", Email: "more@house.example", Password: n.Password}, "198.51.100.4", browser); err != nil {
		t.Errorf("another address: %v", err)
	}
}

func TestAPIKeys(t *testing.T) {
	h := newHouse(t, auth.Options{Now: time.Now})
	_, viewer := h.signIn(t)
	_, _, err := h.AddOrgKey(t.Context(), viewer, "x", auth.AllScopes)
	wantKind(t, err, fault.Forbidden)
	if err := h.SwitchOrg(t.Context(), viewer, h.north); err != nil {
		t.Fatal(err)
	}
	_, owner := h.signIn(t)
	owner.OrgID, owner.OrgName, owner.Role = h.north, "North", auth.RoleOwner
	for field, try := range map[string]func() error{
		"name":   func() error { _, _, err := h.AddOrgKey(t.Context(), owner, " ", auth.AllScopes); return err },
		"scopes": func() error { _, _, err := h.AddOrgKey(t.Context(), owner, "x", auth.NoScopes); return err },
	} {
		wantField(t, try(), field)
	}
	secret, k, err := h.AddOrgKey(t.Context(), owner, "Till", auth.WalletRead|auth.HoldsWrite)
	if err != nil || !regexp.MustCompile(`^rf_test_[a-z2-7]{10}_[a-z2-7]{26}$`).MatchString(secret) || !strings.Contains(secret, k.Prefix) {
		t.Fatalf("%q, %v", secret, err)
	}
	who, err := h.Bearer(t.Context(), "Bearer "+secret)
	if err != nil || who.OrgID != h.north || who.KeyID != k.ID || who.UserID != uuid.Nil || who.Role != "" || who.Operator || who.CanPay() ||
		!who.Scopes.Has(auth.HoldsWrite) || who.Scopes.Has(auth.CallsWrite) || who.Actor() != audit.Key(k.ID) {
		t.Errorf("%+v, %v", who, err)
	}
	other, otherKey, err := h.AddOrgKey(t.Context(), owner, "Other", auth.AllScopes)
	if err != nil {
		t.Fatal(err)
	}
	swapped := secret[:len("rf_test_")] + otherKey.Prefix + secret[len("rf_test_")+10:]
	for name, bad := range map[string]string{
		"cut": secret[:len(secret)-1], "longer": secret + "a", "upper case": strings.ToUpper(secret), "live": strings.Replace(secret, "test", "live", 1),
		"another's prefix": swapped, "prefix alone": secret[:18], "empty": "rf_", "unknown": "rf_test_aaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaa", "NUL": secret[:20] + "\x00" + secret[21:],
	} {
		if _, err := h.Bearer(t.Context(), "Bearer "+bad); fault.As(err).Kind != fault.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := h.count(t, `SELECT count(*) FROM api_keys WHERE position(convert_to($1, 'UTF8') IN secret_hash) > 0`, secret[19:]); n != 0 {
		t.Error("the secret itself is stored")
	}
	// Its use is noted once a minute.
	used := func() (at time.Time) {
		dbtest.Get(t, h.url, &at, `SELECT last_used_at FROM api_keys WHERE id = $1`, otherKey.ID)
		return at
	}
	for _, step := range []struct {
		advance, want time.Duration
	}{{0, 0}, {59 * time.Second, 0}, {2 * time.Second, 61 * time.Second}} {
		h.clock.Advance(step.advance)
		uncached := h.another(t)
		if _, err := uncached.Bearer(t.Context(), "Bearer "+other); err != nil {
			t.Fatal(err)
		}
		if got := used().Sub(dbtest.Start); got != step.want {
			t.Errorf("noted %s after the start, want %s", got, step.want)
		}
	}
	// Revoked: refused by every process within a second, though this one remembers it.
	keys, err := h.OrgKeys(t.Context(), owner)
	if err != nil || len(keys) != 2 || keys[0].LastUsedAt.IsZero() || keys[0].CreatedBy != "owner@north.example" {
		t.Errorf("%+v, %v", keys, err)
	}
	if _, err := h.Bearer(t.Context(), "Bearer "+secret); err != nil {
		t.Fatal(err)
	}
	wantKind(t, h.RevokeOrgKey(t.Context(), viewer, k.ID), fault.Forbidden)
	if err := h.RevokeOrgKey(t.Context(), owner, k.ID); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for {
		if _, err := h.Bearer(t.Context(), "Bearer "+secret); err != nil {
			wantKind(t, err, fault.Unauthenticated)
			break
		}
		if time.Since(began) > time.Second {
			t.Fatal("a revoked key works after a second")
		}
	}
	if _, err := h.Bearer(t.Context(), "Bearer "+other); err != nil {
		t.Error(err)
	}
	if err := h.RevokeOrgKey(t.Context(), owner, k.ID); err != nil {
		t.Errorf("again: %v", err)
	}
	owner.OrgID = viewer.OrgID
	wantKind(t, h.RevokeOrgKey(t.Context(), owner, otherKey.ID), fault.NotFound)
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action IN ('apikey.created', 'apikey.revoked') AND org_id = $1`, h.north); n != 3 {
		t.Errorf("%d audit rows", n)
	}
	// The tenants' role cannot read what keys are checked against.
	err = h.db.InTx(t.Context(), []uuid.UUID{h.north}, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `SELECT secret_hash FROM api_keys`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("read by a tenant: %v", err)
	}
}

// another is a second process over the same database, which remembers nothing.
func (h *house) another(t *testing.T) *auth.Auth {
	t.Helper()
	a, err := auth.New(h.db, auth.Options{Hash: cheap})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Thousands of requests with one key ask the database a few times a second.
func TestKeysAreRemembered(t *testing.T) {
	h := newHouse(t, auth.Options{Now: time.Now})
	_, owner := h.signIn(t)
	owner.OrgID, owner.Role = h.north, auth.RoleOwner
	secret, _, err := h.AddOrgKey(t.Context(), owner, "Busy", auth.AllScopes)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if _, err := h.Bearer(t.Context(), "Bearer "+secret); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("4,000 look-ups of one key took %s", took)
	}
}

// When one key is looked up again, all others that are in use are too: a thousand keys cost what one costs.
func TestKeysAreLookedUpTogether(t *testing.T) {
	clock := &dbtest.Clock{}
	h := newHouse(t, auth.Options{Now: clock.Now})
	_, owner := h.signIn(t)
	owner.OrgID, owner.Role = h.north, auth.RoleOwner
	secrets := make([]string, 10)
	keys := make([]auth.Key, len(secrets))
	for i := range secrets {
		var err error
		if secrets[i], keys[i], err = h.AddOrgKey(t.Context(), owner, fmt.Sprintf("Key %d", i), auth.AllScopes); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Bearer(t.Context(), "Bearer "+secrets[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Bearer(t.Context(), "Bearer "+secrets[i]); err != nil { // used since
			t.Fatal(err)
		}
	}
	if err := h.RevokeOrgKey(t.Context(), owner, keys[3].ID); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	if _, err := h.Bearer(t.Context(), "Bearer "+secrets[0]); err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, h.url, `ALTER TABLE api_keys RENAME TO elsewhere`) // whoever asks the database now fails
	for i, secret := range secrets {
		who, err := h.Bearer(t.Context(), "Bearer "+secret)
		if i == 3 {
			if err == nil {
				t.Error("the revoked key still works")
			}
			continue
		}
		if err != nil || who.KeyID != keys[i].ID {
			t.Errorf("key %d: %s, %v", i, who.KeyID, err)
		}
	}
	clock.Advance(time.Second) // what cannot be looked up is not believed
	if _, err := h.Bearer(t.Context(), "Bearer "+secrets[0]); err == nil {
		t.Error("a key is taken that could not be looked up")
	}
	dbtest.Super(t, h.url, `ALTER TABLE elsewhere RENAME TO api_keys`)
	if _, err := h.Bearer(t.Context(), "Bearer "+secrets[0]); err != nil {
		t.Error(err)
	}
}

func TestScopes(t *testing.T) {
	for i, name := range auth.ScopeNames {
		s, err := auth.ParseScopes([]string{name})
		if err != nil || s != 1<<i || len(s.Names()) != 1 || s.Names()[0] != name || !auth.AllScopes.Has(s) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"wallet:write"}, {"wallet:read", "*"}} {
		if _, err := auth.ParseScopes(bad); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
}
