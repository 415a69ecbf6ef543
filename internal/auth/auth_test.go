package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// cheap hashes keep the tests fast; one test runs the real parameters.
var cheap = &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

const (
	password = "correct horse battery"
	address  = "192.0.2.7"
	browser  = "Mozilla/5.0"
)

// house is a database with two organisations and their people.
type house struct {
	*auth.Auth
	url   string
	db    *db.DB
	clock *dbtest.Clock
	north uuid.UUID
	owner auth.User // owner of North, viewer of Acorn
}

func newHouse(t *testing.T, o auth.Options) *house {
	t.Helper()
	h := &house{url: dbtest.URL(t), clock: &dbtest.Clock{}}
	h.db = dbtest.OpenURL(t, h.url, h.clock.Now)
	if o.Hash == nil {
		o.Hash = cheap
	}
	var err error
	if h.Auth, err = auth.New(h.db, o); err != nil {
		t.Fatal(err)
	}
	h.system(t, func(ctx context.Context, tx *db.Tx) error {
		acorn, err := h.CreateOrganization(ctx, tx, "Acorn")
		if err != nil {
			return err
		}
		if h.north, err = h.CreateOrganization(ctx, tx, "North"); err != nil {
			return err
		}
		if h.owner, err = h.CreateUser(ctx, tx, "Owner@North.example", password, auth.PlatformNone); err != nil {
			return err
		}
		if err = h.AddMember(ctx, tx, h.north, h.owner.ID, auth.RoleOwner); err != nil {
			return err
		}
		if err = h.AddMember(ctx, tx, acorn, h.owner.ID, auth.RoleViewer); err != nil {
			return err
		}
		if _, err = h.CreateUser(ctx, tx, "nowhere@north.example", password, auth.PlatformNone); err != nil {
			return err
		}
		_, err = h.CreateUser(ctx, tx, "operator@house.example", password, auth.PlatformOperator)
		return err
	})
	return h
}

func (h *house) system(t *testing.T, fn func(context.Context, *db.Tx) error) {
	t.Helper()
	if err := h.db.InSystemTx(t.Context(), "test", fn); err != nil {
		t.Fatal(err)
	}
}

func (h *house) signIn(t *testing.T) (string, auth.Identity) {
	t.Helper()
	token, who, err := h.SignIn(t.Context(), "owner@north.example", password, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	return token, who
}

func (h *house) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	dbtest.Get(t, h.url, &n, query, args...)
	return n
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.As(err).Kind != kind {
		t.Fatalf("got error %v, want fault kind %d", err, kind)
	}
}

func TestSignInAndResolve(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, who := h.signIn(t)
	if who.Email != "owner@north.example" || who.OrgName != "Acorn" || who.Role != auth.RoleViewer || who.Operator || who.CanPay() {
		t.Errorf("signed in as %+v, want the viewer of Acorn, the first organisation by name", who)
	}
	again, err := h.Resolve(t.Context(), token)
	if err != nil || again != who {
		t.Errorf("Resolve gave %+v, %v; want %+v", again, err, who)
	}
	second, _ := h.signIn(t)
	if second == token {
		t.Error("two sign-ins share a token")
	}
	if n := h.count(t, `SELECT count(*) FROM sessions WHERE position(convert_to($1, 'UTF8') IN token_hash) > 0`, token); n != 0 {
		t.Error("the token itself is stored")
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.signed_in' AND actor = $1`, "user:"+h.owner.ID.String()); n != 2 {
		t.Errorf("%d audit rows for two sign-ins", n)
	}
	_, who, err = h.SignIn(t.Context(), " OPERATOR@house.example ", password, address, browser)
	if err != nil || !who.Operator || who.OrgID != uuid.Nil || who.Role != "" {
		t.Errorf("operator: %+v, %v", who, err)
	}
	_, _, err = h.SignIn(t.Context(), "nowhere@north.example", password, address, browser)
	wantKind(t, err, fault.Forbidden)
}

func TestRefusalsAreTheSame(t *testing.T) {
	h := newHouse(t, auth.Options{AccountFailures: 100})
	dbtest.Super(t, h.url, `UPDATE users SET disabled_at = now() WHERE email = 'nowhere@north.example'`)
	dbtest.Super(t, h.url, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES (gen_random_uuid(), 'local', 'x', 'nopassword@north.example', now())`)
	_, _, control := h.SignIn(t.Context(), "owner@north.example", "wrong password!", address, browser)
	wantKind(t, control, fault.Unauthenticated)
	for name, in := range map[string][2]string{
		"unknown":          {"stranger@north.example", password},
		"disabled":         {"nowhere@north.example", password},
		"without password": {"nopassword@north.example", password},
		"empty":            {"", ""},
		"NUL in e-mail":    {"owner@north.example\x00", password},
		"broken UTF-8":     {"\xff@north.example", password},
		"endless e-mail":   {strings.Repeat("a", 5000) + "@north.example", password},
		"endless password": {"owner@north.example", strings.Repeat("a", 60_000)},
		"SQL":              {"' OR 1=1 --", password},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := h.SignIn(t.Context(), in[0], in[1], address, browser)
			wantKind(t, err, fault.Unauthenticated)
			if fault.As(err).Public != fault.As(control).Public {
				t.Errorf("answered %q, a wrong password is answered %q", fault.As(err).Public, fault.As(control).Public)
			}
		})
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.sign_in_refused' AND (subject || detail::text) LIKE '%@%'`); n != 0 {
		t.Error("the audit log holds what was typed")
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.sign_in_refused'`); n != 10 {
		t.Errorf("%d refusals audited, want 10", n)
	}
}

// An unknown account must cost as much as a known one. Both run the real parameters; the comparison is by the middle of
// several runs and generous, since what it must catch is a skipped hash (a factor of twenty).
func TestRefusalsTakeTheSameWork(t *testing.T) {
	h := newHouse(t, auth.Options{})
	costly, err := auth.New(h.db, auth.Options{AccountFailures: 100})
	if err != nil {
		t.Fatal(err)
	}
	h.system(t, func(ctx context.Context, tx *db.Tx) error {
		_, err := costly.CreateUser(ctx, tx, "real@north.example", password, auth.PlatformOperator)
		return err
	})
	fastest := func(email string) time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			if _, _, err := costly.SignIn(t.Context(), email, "wrong password!", address, browser); !fault.Is(err, fault.Unauthenticated) {
				t.Fatal(err)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	known, unknown := fastest("real@north.example"), fastest("stranger@north.example")
	if unknown < known/2 || known < unknown/2 {
		t.Errorf("a known account takes %s, an unknown one %s", known, unknown)
	}
}

func TestLimits(t *testing.T) {
	h := newHouse(t, auth.Options{AccountFailures: 3, AddressFailures: 5})
	ctx := t.Context()
	wrong := func(email, from string) error {
		_, _, err := h.SignIn(ctx, email, "wrong password!", from, browser)
		return err
	}
	for range 2 {
		wantKind(t, wrong("owner@north.example", address), fault.Unauthenticated)
	}
	for range 10 { // successes neither count nor are counted against
		h.signIn(t)
	}
	for range 3 {
		wantKind(t, wrong("owner@north.example", "198.51.100.1"), fault.Unauthenticated)
		h.clock.Advance(time.Minute)
	}
	_, _, err := h.SignIn(ctx, "owner@north.example", password, "203.0.113.9", browser)
	wantKind(t, err, fault.TooMany)
	if got := fault.As(err).RetryAfter; got != 12*time.Minute {
		t.Errorf("told to come back in %s, want 12m: the first of three failures is 3 minutes old", got)
	}
	if n := h.count(t, `SELECT count(*) FROM audit_log WHERE action = 'auth.sign_in_blocked'`); n != 1 {
		t.Errorf("%d blocks audited, want 1", n)
	}
	h.clock.Advance(12 * time.Minute)
	if _, _, err := h.SignIn(ctx, "owner@north.example", password, "203.0.113.9", browser); err != nil {
		t.Errorf("after the window: %v", err)
	}

	// One address, many accounts. IPv6 customers are counted by their /64.
	for i := range 5 {
		wantKind(t, wrong(fmt.Sprintf("u%d@north.example", i), fmt.Sprintf("2001:db8:1:2::%d", i+1)), fault.Unauthenticated)
	}
	wantKind(t, wrong("u9@north.example", "2001:db8:1:2:ffff::1"), fault.TooMany)
	wantKind(t, wrong("u9@north.example", "2001:db8:1:3::1"), fault.Unauthenticated)
	// A good password from that network does not reset its count.
	_, _, err = h.SignIn(ctx, "owner@north.example", password, "2001:db8:1:2::1", browser)
	wantKind(t, err, fault.TooMany)
}

// Guesses made at the same moment must not pass the limit together.
func TestLimitHoldsUnderConcurrency(t *testing.T) {
	h := newHouse(t, auth.Options{AccountFailures: 5})
	var wg sync.WaitGroup
	kinds := make(chan fault.Kind, 30)
	for range cap(kinds) {
		wg.Go(func() {
			_, _, err := h.SignIn(context.Background(), "owner@north.example", "wrong password!", address, browser)
			kinds <- fault.As(err).Kind
		})
	}
	wg.Wait()
	close(kinds)
	got := map[fault.Kind]int{}
	for k := range kinds {
		got[k]++
	}
	if got[fault.Unauthenticated] != 5 || got[fault.TooMany] != 25 {
		t.Errorf("answers by kind: %v, want 5 checked and 25 refused unchecked", got)
	}
}

func TestGivenUpSignInIsNotCounted(t *testing.T) {
	h := newHouse(t, auth.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The slot may be won against the ended context now and then; what must hold is that giving up leaves nothing.
	for range 20 {
		_, _, err := h.SignIn(ctx, "owner@north.example", password, address, browser)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if n := h.count(t, `SELECT count(*) FROM login_failures`); n != 0 {
		t.Errorf("%d failures counted", n)
	}
}

func TestSessionEnds(t *testing.T) {
	h := newHouse(t, auth.Options{})
	for name, end := range map[string]func(t *testing.T, token string){
		"sign-out": func(t *testing.T, token string) {
			if err := h.SignOut(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			if err := h.SignOut(t.Context(), token); err != nil {
				t.Errorf("the second time: %v", err)
			}
		},
		"revoked": func(t *testing.T, _ string) {
			if n, err := h.RevokeAll(t.Context(), h.owner.ID); err != nil || n < 1 {
				t.Fatal(n, err)
			}
		},
		"idle":     func(*testing.T, string) { h.clock.Advance(12 * time.Hour) },
		"disabled": func(t *testing.T, _ string) { dbtest.Super(t, h.url, `UPDATE users SET disabled_at = now()`) },
		"membership gone": func(t *testing.T, _ string) {
			dbtest.Super(t, h.url, `DELETE FROM memberships WHERE user_id = $1 AND org_id <> $2`, h.owner.ID, h.north)
		},
	} {
		t.Run(name, func(t *testing.T) {
			token, who := h.signIn(t)
			if _, err := h.Resolve(t.Context(), token); err != nil {
				t.Fatal("control:", err)
			}
			end(t, token)
			_, err := h.Resolve(t.Context(), token)
			wantKind(t, err, fault.Unauthenticated)
			valid, err := h.StillValid(t.Context(), []auth.SessionID{who.SessionID})
			if err != nil || len(valid) != 0 {
				t.Errorf("StillValid gave %v, %v", valid, err)
			}
			dbtest.Super(t, h.url, `UPDATE users SET disabled_at = NULL`)
		})
	}
	for name, token := range map[string]string{"empty": "", "unknown": strings.Repeat("A", 43), "long": strings.Repeat("A", 100_000)} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Resolve(t.Context(), token)
			wantKind(t, err, fault.Unauthenticated)
		})
	}
}

func TestSessionLimits(t *testing.T) {
	h := newHouse(t, auth.Options{})
	token, _ := h.signIn(t)
	seen := func() (at time.Time) {
		dbtest.Get(t, h.url, &at, `SELECT last_seen_at FROM sessions`)
		return at
	}
	h.clock.Advance(59 * time.Second)
	if _, err := h.Resolve(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if !seen().Equal(dbtest.Start) {
		t.Error("use was written down within a minute")
	}
	h.clock.Advance(time.Second)
	if _, err := h.Resolve(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if !seen().Equal(dbtest.Start.Add(time.Minute)) {
		t.Error("use was not written down after a minute")
	}
	// Kept in use it lives, until the absolute limit.
	for h.clock.Now().Before(dbtest.Start.Add(7*24*time.Hour - 11*time.Hour)) {
		h.clock.Advance(11 * time.Hour)
		if _, err := h.Resolve(t.Context(), token); err != nil {
			t.Fatalf("after %s: %v", h.clock.Now().Sub(dbtest.Start), err)
		}
	}
	h.clock.Advance(dbtest.Start.Add(7 * 24 * time.Hour).Sub(h.clock.Now()))
	_, err := h.Resolve(t.Context(), token)
	wantKind(t, err, fault.Unauthenticated)
}

func TestSweep(t *testing.T) {
	h := newHouse(t, auth.Options{})
	ended, _ := h.signIn(t)
	if err := h.SignOut(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	h.signIn(t)
	if _, _, err := h.SignIn(t.Context(), "owner@north.example", "wrong password!", address, browser); err == nil {
		t.Fatal("let in")
	}
	h.clock.Advance(14 * time.Minute)
	if s, f, err := h.Sweep(t.Context()); s != 1 || f != 0 || err != nil {
		t.Errorf("swept %d sessions and %d failures (%v), want only the one that was ended", s, f, err)
	}
	h.clock.Advance(time.Minute)
	if s, f, err := h.Sweep(t.Context()); s != 0 || f != 2 || err != nil {
		t.Errorf("swept %d sessions and %d failures (%v), want the failure's two rows", s, f, err)
	}
	h.clock.Advance(12 * time.Hour)
	if s, _, err := h.Sweep(t.Context()); s != 1 || err != nil {
		t.Errorf("swept %d sessions (%v), want the idle one", s, err)
	}
}

func TestPasswords(t *testing.T) {
	h := newHouse(t, auth.Options{})
	prod, err := auth.New(h.db, auth.Options{Production: true, Hash: cheap})
	if err != nil {
		t.Fatal(err)
	}
	people := 0
	create := func(a *auth.Auth, password string) error {
		people++
		address := fmt.Sprintf("%d@north.example", people) // without letters that a password here may be made of
		return h.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
			_, err := a.CreateUser(ctx, tx, address, password, auth.PlatformOperator)
			return err
		})
	}
	for _, c := range []struct {
		in string
		a  *auth.Auth
		ok bool
	}{
		{"", h.Auth, false},
		{"eleven char", h.Auth, false},
		{"twelve chars", h.Auth, true},
		{"ééééééééééé", h.Auth, false}, // 22 bytes, 11 characters
		{"aaaaaaabaaaa", h.Auth, true}, // no rules about kinds of characters
		{strings.Repeat("long ", 51), h.Auth, true},
		{strings.Repeat("a", 257), h.Auth, false},
		{auth.DemoPassword, h.Auth, true},
		{auth.DemoPassword, prod, false},
		{"twelve chars", prod, true},
	} {
		err := create(c.a, c.in)
		if c.ok != (err == nil) {
			t.Errorf("%q: %v", c.in, err)
		}
		if !c.ok && fault.As(err).Field != "password" {
			t.Errorf("%q: %v, want a fault beside the field", c.in, err)
		}
	}

	h.system(t, func(ctx context.Context, tx *db.Tx) error {
		if _, err := h.CreateUser(ctx, tx, "demo@house.example", auth.DemoPassword, auth.PlatformOperator); err != nil {
			return err
		}
		_, err := h.CreateUser(ctx, tx, "cafe@house.example", "caf\u00e9 au lait, chaud", auth.PlatformOperator)
		return err
	})
	if _, _, err := h.SignIn(t.Context(), "demo@house.example", auth.DemoPassword, address, browser); err != nil {
		t.Error("development:", err)
	}
	_, _, err = prod.SignIn(t.Context(), "demo@house.example", auth.DemoPassword, address, browser)
	wantKind(t, err, fault.Unauthenticated)
	if _, _, err := h.SignIn(t.Context(), "cafe@house.example", "cafe\u0301 au lait, chaud", address, browser); err != nil {
		t.Error("é typed as two characters:", err)
	}

	// Stronger parameters reach an old hash at the next sign-in, and the password still holds after it.
	dearer := *cheap
	dearer.Iterations = 2
	stronger, err := auth.New(h.db, auth.Options{Hash: &dearer})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := stronger.SignIn(t.Context(), "cafe@house.example", "café au lait, chaud", address, browser); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.count(t, `SELECT count(*) FROM users WHERE email = 'cafe@house.example' AND password_hash LIKE '%t=2%'`); n != 1 {
		t.Error("the hash was not renewed")
	}
}

func TestAccounts(t *testing.T) {
	h := newHouse(t, auth.Options{})
	try := func(fn func(ctx context.Context, tx *db.Tx) error) *fault.Error {
		return fault.As(h.db.InSystemTx(t.Context(), "test", fn))
	}
	user := func(email string, role auth.PlatformRole) *fault.Error {
		return try(func(ctx context.Context, tx *db.Tx) error {
			_, err := h.CreateUser(ctx, tx, email, password, role)
			return err
		})
	}
	org := func(name string) *fault.Error {
		return try(func(ctx context.Context, tx *db.Tx) error {
			_, err := h.CreateOrganization(ctx, tx, name)
			return err
		})
	}
	for name, c := range map[string]struct {
		got   *fault.Error
		kind  fault.Kind
		field string
	}{
		"same e-mail, other case": {user("OWNER@north.example", ""), fault.Conflict, "email"},
		"no e-mail":               {user("", ""), fault.Invalid, "email"},
		"named e-mail":            {user("Bob <bob@north.example>", ""), fault.Invalid, "email"},
		"long e-mail":             {user(strings.Repeat("a", 250)+"@n.example", ""), fault.Invalid, "email"},
		"platform role":           {user("bob@north.example", "root"), fault.Invalid, "platform_role"},
		"same name":               {org(" North "), fault.Conflict, "name"},
		"no name":                 {org("  "), fault.Invalid, "name"},
		"NUL in name":             {org("a\x00b"), fault.Invalid, "name"},
		"role": {try(func(ctx context.Context, tx *db.Tx) error {
			return h.AddMember(ctx, tx, h.north, h.owner.ID, "king")
		}), fault.Invalid, "role"},
	} {
		if c.got == nil || c.got.Kind != c.kind || c.got.Field != c.field {
			t.Errorf("%s: %+v, want kind %d beside %q", name, c.got, c.kind, c.field)
		}
	}
}
