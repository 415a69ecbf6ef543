package auth_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/auth/gotruetest"
)

const jwtSecret = "0123456789abcdef0123456789abcdef"

func newVerifier(t testing.TB, url, secret string, now func() time.Time) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(auth.VerifierOptions{ProjectURL: url, Secret: []byte(secret), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifierOptions(t *testing.T) {
	for name, o := range map[string]auth.VerifierOptions{
		"no project":   {Now: time.Now},
		"no clock":     {ProjectURL: "https://x"},
		"short secret": {ProjectURL: "https://x", Secret: []byte("short"), Now: time.Now},
	} {
		if _, err := auth.NewVerifier(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Not ready, and nothing is believed, until a key set was had; then at once, without waiting for the next round.
func TestVerifierReadiness(t *testing.T) {
	project := gotruetest.New(t, gotruetest.Options{Alg: "ES256", Now: time.Now})
	project.Down(http.StatusInternalServerError)
	v, err := auth.NewVerifier(auth.VerifierOptions{ProjectURL: project.URL, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	token, err := project.Sign(project.Claims("s", "a@b.example", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token); err == nil || v.Ready(t.Context()) == nil {
		t.Error("ready, or believing, before it was started")
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	project.Down(0)
	if err := v.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	// An outage later on changes nothing: the keys are kept.
	project.Down(http.StatusInternalServerError)
	if _, err := v.Verify(t.Context(), token); err != nil || v.Ready(t.Context()) != nil {
		t.Error("an outage took the keys away")
	}
	if hs := newVerifier(t, "http://127.0.0.1:1", jwtSecret, time.Now); hs.Ready(t.Context()) != nil {
		t.Error("a shared secret needs nobody")
	}
}

// However many tokens with unknown key ids come, the keys are fetched once in a while, and nobody waits.
func TestUnknownKeysAreBounded(t *testing.T) {
	project := gotruetest.New(t, gotruetest.Options{Alg: "ES256", Now: time.Now})
	v := newVerifier(t, project.URL, "", time.Now)
	token, err := project.Sign(project.Claims("s", "a@b.example", nil), map[string]any{"kid": "unknown"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 200 {
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Fatal("believed")
		}
	}
	if n := project.Calls("/auth/v1/.well-known/jwks.json?"); n != 2 {
		t.Errorf("the keys were fetched %d times, want at the start and once more", n)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("200 refusals took %s", took)
	}
}

// A key set that holds a secret, or the key of another algorithm, opens no way around.
func TestHostileKeySet(t *testing.T) {
	var fetched atomic.Int64
	set := `{"keys":[{"kty":"oct","kid":"key-1","k":"` + base64.RawURLEncoding.EncodeToString([]byte(jwtSecret)) + `","alg":"HS256"}]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_, _ = w.Write([]byte(set))
	}))
	defer server.Close()
	v := newVerifier(t, server.URL, "", time.Now)
	now := time.Now()
	claims := jwt.MapClaims{"iss": v.Issuer(), "aud": "authenticated", "role": "authenticated", "sub": "s", "exp": now.Add(time.Hour).Unix()}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		token, err := gotruetest.Sign(jwt.GetSigningMethod(alg), []byte(jwtSecret), claims, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("%s by a published secret was believed", alg)
		}
	}
	if fetched.Load() == 0 {
		t.Fatal("the set was never read")
	}
}

// FuzzVerify: whatever comes, nothing panics, and nothing is believed but what the secret signed.
func FuzzVerify(f *testing.F) {
	clock := &dbtest.Clock{}
	v, err := auth.NewVerifier(auth.VerifierOptions{ProjectURL: "https://p.example", Secret: []byte(jwtSecret), Now: clock.Now})
	if err != nil {
		f.Fatal(err)
	}
	claims := jwt.MapClaims{
		"iss": v.Issuer(), "aud": "authenticated", "role": "authenticated", "sub": "s", "email": "a@b.example",
		"iat": clock.Now().Unix(), "exp": clock.Now().Add(time.Hour).Unix(),
		"app_metadata": map[string]any{"org_id": "0194d7a2-7c3b-7000-8000-000000000001"},
	}
	good, err := gotruetest.Sign(jwt.SigningMethodHS256, []byte(jwtSecret), claims, nil)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := v.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	parts := strings.Split(good, ".")
	f.Add(good)
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".")
	f.Add(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"a":{"a":[[{"a":1,"a":2}]]}}`)) + "." + parts[2])
	f.Add("..")
	f.Add(strings.Repeat(".", 9000))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(t.Context(), token)
		switch {
		case err == nil && token != good:
			t.Errorf("believed %q as %+v", token, c)
		case err != nil && token == good:
			t.Error(err)
		}
		// The same content, now signed for real: still no panic.
		if text, _, ok := strings.Cut(token, "."); ok {
			body := text + "." + parts[1]
			if signature, err := jwt.SigningMethodHS256.Sign(body, []byte(jwtSecret)); err == nil {
				_, _ = v.Verify(t.Context(), body+"."+base64.RawURLEncoding.EncodeToString(signature))
			}
		}
	})
}
