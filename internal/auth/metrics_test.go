package auth_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

// Whoever shows a bad token hears the same whatever is wrong with it; operators see why, in few words.
func TestJWTsAreCountedByReason(t *testing.T) {
	o := newOutside(t, "ES256")
	reg := prometheus.NewPedanticRegistry()
	o.Register(reg)
	now, org := o.clock.Now(), map[string]any{"org_id": o.north.String()}
	sign := func(change func(jwt.MapClaims), header map[string]any) string {
		t.Helper()
		claims := o.project.Claims(o.subject, "owner@north.example", org)
		if change != nil {
			change(claims)
		}
		token, err := o.project.Sign(claims, header)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	set := func(name string, value any) string { return sign(func(c jwt.MapClaims) { c[name] = value }, nil) }
	good := sign(nil, nil)
	hs, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": o.subject}).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{}
	for _, c := range []struct{ outcome, token string }{
		{"held", good},
		{"too_long", good + strings.Repeat("x", 8<<10)},
		{"malformed", "a.b"},
		{"malformed", "e30.e30x.x"},
		{"signature", good[:len(good)-8] + "AAAAAAAA"},
		{"signature", hs},
		{"unknown_key", sign(nil, map[string]any{"kid": "another"})},
		{"expired", set("exp", now.Add(-time.Hour).Unix())},
		{"not_yet_valid", set("nbf", now.Add(time.Hour).Unix())},
		{"not_yet_valid", set("iat", now.Add(time.Hour).Unix())},
		{"issuer", set("iss", "https://elsewhere.example/auth/v1")},
		{"audience", set("aud", "somebody")},
		{"claims", set("role", "anon")},
		{"claims", sign(func(c jwt.MapClaims) { delete(c, "exp") }, nil)},
		{"no_organisation", set("app_metadata", map[string]any{})},
		{"not_a_member", set("app_metadata", map[string]any{"org_id": uuid.NewString()})},
		{"not_a_member", set("sub", "nobody")},
	} {
		_, err := o.Bearer(t.Context(), "Bearer "+c.token)
		if (c.outcome == "held") != (err == nil) || err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", c.outcome, err)
		}
		want[c.outcome]++
	}
	if got := counted(t, reg, "ringfence_jwts_total"); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}

	// With keys that were never had, the fault is ours.
	o.project.Down(500)
	late, err := auth.New(o.db, auth.Options{Hash: cheap, Verifier: newVerifier(t, o.project.URL, "", o.clock.Now)})
	if err != nil {
		t.Fatal(err)
	}
	none, err := auth.New(o.db, auth.Options{Hash: cheap})
	if err != nil {
		t.Fatal(err)
	}
	for outcome, a := range map[string]*auth.Auth{"no_keys": late, "not_taken": none} {
		reg := prometheus.NewPedanticRegistry()
		a.Register(reg)
		if _, err := a.Bearer(t.Context(), "Bearer "+good); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", outcome, err)
		}
		if got := counted(t, reg, "ringfence_jwts_total"); got[outcome] != 1 {
			t.Errorf("counted %v, want one %s", got, outcome)
		}
	}
}

// counted gives a counter by the value of its one label.
func counted(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				got[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return got
}
