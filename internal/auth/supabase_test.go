package auth_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/auth/gotruetest"
	"ringfence/internal/fault"
)

const (
	passwordGrant = "/auth/v1/token?grant_type=password"
	refreshGrant  = "/auth/v1/token?grant_type=refresh_token"
	logoutCall    = "/auth/v1/logout?scope=local"
)

var sealKey = []byte("a key of thirty-two bytes, or so it is")

// outside is a house whose passwords Supabase keeps.
type outside struct {
	*house
	project *gotruetest.Server
	subject string
}

func newOutside(t *testing.T, alg string) *outside {
	t.Helper()
	plain := newHouse(t, auth.Options{})
	o := &outside{house: plain}
	secret := ""
	if alg == "HS256" {
		secret = jwtSecret
	}
	o.project = gotruetest.New(t, gotruetest.Options{Alg: alg, Secret: []byte(secret), Now: plain.clock.Now})
	o.subject = o.project.AddUser("owner@north.example", password, map[string]any{"org_id": plain.north.String()})
	o.project.AddUser("stranger@north.example", password, nil)
	var err error
	plain.Auth, err = auth.New(plain.db, auth.Options{
		Hash: cheap, SealKeys: [][]byte{sealKey}, Verifier: newVerifier(t, o.project.URL, secret, plain.clock.Now),
		Supabase: auth.NewSupabase(o.project.URL, gotruetest.AnonKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody of the same e-mail in our own table is somebody else.
	id := uuid.New()
	dbtest.Super(t, o.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, $2, $3, 'old@north.example', now())`, id, o.project.Issuer(), o.subject)
	o.system(t, func(ctx context.Context, tx *db.Tx) error {
		if err := o.AddMember(ctx, tx, o.north, id, auth.RoleMember); err != nil {
			return err
		}
		acorn, err := auth.OrganizationByName(ctx, tx, "Acorn")
		if err != nil {
			return err
		}
		return o.AddMember(ctx, tx, acorn, id, auth.RoleViewer)
	})
	return o
}

func TestSupabaseSignIn(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "HS256"} {
		t.Run(alg, func(t *testing.T) {
			o := newOutside(t, alg)
			token, who, err := o.SignIn(t.Context(), "Owner@North.example", password, address, browser)
			if err != nil {
				t.Fatal(err)
			}
			if who.OrgName != "North" || who.Role != auth.RoleMember || who.UserID == o.owner.ID || who.Local || who.Email != "owner@north.example" {
				t.Errorf("signed in as %+v, want the member of North that issuer and subject name", who)
			}
			if again, err := o.Resolve(t.Context(), token); err != nil || again != who {
				t.Errorf("%+v, %v", again, err)
			}
			var sealed []byte
			dbtest.Get(t, o.url, &sealed, `SELECT grant_sealed FROM sessions`)
			if len(sealed) < 100 || strings.Contains(string(sealed), "refresh_token") || strings.Contains(string(sealed), "eyJ") {
				t.Error("the grant is readable in the database")
			}
			if err := o.SignOut(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			_, err = o.Resolve(t.Context(), token)
			wantKind(t, err, fault.Unauthenticated)
			if o.project.Calls(logoutCall) != 1 || o.project.Sessions() != 0 {
				t.Error("the session lives on at the provider")
			}
		})
	}
}

func TestSupabaseRefusals(t *testing.T) {
	o := newOutside(t, "ES256")
	_, _, control := o.SignIn(t.Context(), "owner@north.example", "wrong password!", address, browser)
	wantKind(t, control, fault.Unauthenticated)
	for name, in := range map[string][2]string{
		"unknown": {"nobody@north.example", password}, "our own password": {"operator@house.example", password},
		"empty": {"", ""}, "no password": {"owner@north.example", ""}, "NUL": {"owner@north.example\x00", password},
	} {
		_, _, err := o.SignIn(t.Context(), in[0], in[1], address, browser)
		if fault.As(err).Kind != fault.Unauthenticated || fault.As(err).Public != fault.As(control).Public {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := o.SignIn(t.Context(), "stranger@north.example", password, address, browser)
	wantKind(t, err, fault.Forbidden)
	if n := o.count(t, `SELECT count(*) FROM users WHERE email = 'stranger@north.example'`); n != 1 {
		t.Error("nobody can make the stranger a member")
	}
	failures := o.count(t, `SELECT count(*) FROM login_failures`)
	for status, kind := range map[int]fault.Kind{500: fault.Unavailable, 401: fault.Unavailable, 429: fault.TooMany, 302: fault.Unavailable} {
		o.project.Down(status)
		_, _, err := o.SignIn(t.Context(), "owner@north.example", password, address, browser)
		wantKind(t, err, kind)
	}
	if n := o.count(t, `SELECT count(*) FROM login_failures`); n != failures {
		t.Error("an outage counts as wrong passwords")
	}
	o.project.Down(0)
	dbtest.Super(t, o.url, `UPDATE users SET disabled_at = now() WHERE subject = $1`, o.subject)
	_, _, err = o.SignIn(t.Context(), "owner@north.example", password, address, browser)
	wantKind(t, err, fault.Unauthenticated)
	// Wrong passwords are limited by us, before they reach the provider.
	for range 20 {
		_, _, err = o.SignIn(t.Context(), "owner@north.example", "wrong password!", address, browser)
	}
	wantKind(t, err, fault.TooMany)
	before := o.project.Calls(passwordGrant)
	_, _, _ = o.SignIn(t.Context(), "owner@north.example", password, address, browser)
	if o.project.Calls(passwordGrant) != before {
		t.Error("a blocked account still asks the provider")
	}
	o.project.Close()
	_, _, err = o.SignIn(t.Context(), "other@north.example", password, address, browser)
	wantKind(t, err, fault.Unavailable)
}

// A provider whose tokens we cannot check signs nobody in.
func TestSupabaseTokenIsVerified(t *testing.T) {
	o := newOutside(t, "ES256")
	other := gotruetest.New(t, gotruetest.Options{Alg: "ES256", Now: o.clock.Now})
	a, err := auth.New(o.db, auth.Options{
		Hash: cheap, SealKeys: [][]byte{sealKey}, Verifier: newVerifier(t, other.URL, "", o.clock.Now),
		Supabase: auth.NewSupabase(o.project.URL, gotruetest.AnonKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = a.SignIn(t.Context(), "owner@north.example", password, address, browser)
	wantKind(t, err, fault.Unavailable)
	for name, opts := range map[string]auth.Options{
		"no verifier": {SealKeys: [][]byte{sealKey}, Supabase: auth.NewSupabase("http://x", "k")},
		"no key":      {Verifier: newVerifier(t, other.URL, "", o.clock.Now), Supabase: auth.NewSupabase("http://x", "k")},
		"short key":   {SealKeys: [][]byte{[]byte("short")}},
	} {
		if _, err := auth.New(o.db, opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The grant is renewed before its end, once, whoever else asks at the same moment; old refresh tokens are not shown.
func TestSupabaseRefresh(t *testing.T) {
	o := newOutside(t, "RS256")
	token, who, err := o.SignIn(t.Context(), "owner@north.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	resolve := func() error {
		again, err := o.Resolve(t.Context(), token)
		if err == nil && again != who {
			t.Errorf("came back as %+v", again)
		}
		return err
	}
	o.clock.Advance(58 * time.Minute)
	if err := resolve(); err != nil || o.project.Calls(refreshGrant) != 0 {
		t.Errorf("renewed too early: %v, %d", err, o.project.Calls(refreshGrant))
	}
	// Two rounds: nearly over, where nobody has to wait, and over, where all wait for the one.
	for round, ahead := range []time.Duration{90 * time.Second, 61 * time.Minute} {
		o.clock.Advance(ahead)
		release := make(chan struct{})
		o.project.Hold(func() { <-release })
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for range cap(errs) {
			wg.Go(func() { errs <- resolve() })
		}
		done := 0
		if round == 0 {
			for ; done < cap(errs)-1; done++ { // all but the one that renews
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
		}
		close(release)
		wg.Wait()
		for ; done < cap(errs); done++ {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := o.project.Calls(refreshGrant); n != round+1 {
			t.Fatalf("%d refreshes after %d rounds", n, round+1)
		}
	}
	o.project.Hold(nil)
	// The provider is away: the session goes on while it holds, then says so, and comes back with the provider.
	o.clock.Advance(59*time.Minute + 30*time.Second)
	o.project.Down(http.StatusBadGateway)
	if err := resolve(); err != nil {
		t.Errorf("still within its time: %v", err)
	}
	o.clock.Advance(time.Hour)
	wantKind(t, resolve(), fault.Unavailable)
	if valid, err := o.StillValid(t.Context(), []auth.SessionID{who.SessionID}); err != nil || len(valid) != 0 {
		t.Errorf("a stream goes on beyond the grant: %v, %v", valid, err)
	}
	o.project.Down(0)
	if err := resolve(); err != nil {
		t.Errorf("not back with the provider: %v", err)
	}
	// Banned there: over here, with the next renewal.
	o.project.Ban("owner@north.example")
	o.clock.Advance(61 * time.Minute)
	wantKind(t, resolve(), fault.Unauthenticated)
	if n := o.count(t, `SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL`); n != 1 {
		t.Error("the session was not ended for good")
	}
}

// A grant is bound to its user: put into another's row, it opens nothing.
func TestGrantsCannotBeSwapped(t *testing.T) {
	o := newOutside(t, "ES256")
	second := o.project.AddUser("second@north.example", password, nil)
	id := uuid.New()
	dbtest.Super(t, o.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, $2, $3, 'second@north.example', now())`, id, o.project.Issuer(), second)
	dbtest.Super(t, o.url, `INSERT INTO memberships VALUES ($1, $2, 'viewer', now())`, o.north, id)
	if _, _, err := o.SignIn(t.Context(), "owner@north.example", password, address, browser); err != nil {
		t.Fatal(err)
	}
	token, _, err := o.SignIn(t.Context(), "second@north.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, o.url, `UPDATE sessions SET grant_sealed = (SELECT grant_sealed FROM sessions WHERE user_id <> $1) WHERE user_id = $1`, id)
	o.clock.Advance(2 * time.Hour)
	_, err = o.Resolve(t.Context(), token)
	wantKind(t, err, fault.Unauthenticated)
	if o.project.Calls(refreshGrant) != 0 {
		t.Error("another's refresh token was used")
	}
}
