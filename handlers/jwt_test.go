package handlers_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
	"ringfence/internal/auth/gotruetest"
)

// project is a Supabase project, a member of it, and the ways of others to make tokens that look like theirs.
type project struct {
	*gotruetest.Server
	t       *testing.T
	alg     string
	secret  []byte
	subject string
	org     uuid.UUID
	evil    *httptest.Server // where jku and x5u of forged tokens lead
	fetched atomic.Int64
	foreign any // a key of somebody else, of the same kind
}

func newProject(t *testing.T, alg string) *project {
	t.Helper()
	p := &project{t: t, alg: alg, secret: []byte("0123456789abcdef0123456789abcdef"), org: uuid.New()}
	p.Server = gotruetest.New(t, gotruetest.Options{Alg: alg, Secret: p.secret, Now: time.Now})
	p.subject = p.AddUser("member@north.example", password, nil)
	var err error
	switch alg {
	case "ES256":
		p.foreign, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		p.foreign, err = rsa.GenerateKey(rand.Reader, 2048)
	case "HS256":
		p.foreign = bytes.Repeat([]byte("x"), 32)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.evil = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{gotruetest.JWK(public(p.foreign), gotruetest.KeyID)}})
	}))
	t.Cleanup(p.evil.Close)
	return p
}

func public(key any) any {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case *rsa.PrivateKey:
		return &k.PublicKey
	}
	return nil
}

// verifier checks the project's tokens.
func (p *project) verifier() *auth.Verifier {
	p.t.Helper()
	o := auth.VerifierOptions{ProjectURL: p.URL, Now: time.Now}
	if p.alg == "HS256" {
		o.Secret = p.secret
	}
	v, err := auth.NewVerifier(o)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := v.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *project) claims() jwt.MapClaims {
	return p.Claims(p.subject, "member@north.example", map[string]any{"org_id": p.org.String()})
}

// signed is a token of the project with these claims changed; a nil value takes one out.
func (p *project) signed(changes map[string]any, header ...map[string]any) string {
	p.t.Helper()
	claims := p.claims()
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	var h map[string]any
	if len(header) > 0 {
		h = header[0]
	}
	token, err := p.Sign(claims, h)
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// by is a token with good claims that somebody else signed.
func (p *project) by(method jwt.SigningMethod, key any, header map[string]any) string {
	p.t.Helper()
	token, err := gotruetest.Sign(method, key, p.claims(), header)
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// raw signs header and claims as they are written.
func (p *project) raw(header, claims string) string {
	p.t.Helper()
	text := b64(header) + "." + b64(claims)
	signature, err := jwt.GetSigningMethod(p.alg).Sign(text, p.Private())
	if err != nil {
		p.t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// parts are a good token's header and claims as text.
func (p *project) parts() (header, claims string) {
	p.t.Helper()
	text := strings.Split(p.signed(nil), ".")
	for i, to := range []*string{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(text[i])
		if err != nil {
			p.t.Fatal(err)
		}
		*to = string(b)
	}
	return header, claims
}

// publicBytes are spellings of the public key that a confused verifier might take for a shared secret.
func (p *project) publicBytes() [][]byte {
	p.t.Helper()
	key := p.Public()
	if key == nil {
		return [][]byte{{}, []byte(gotruetest.AnonKey)}
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	jwk, err := json.Marshal(gotruetest.JWK(key, gotruetest.KeyID))
	if err != nil {
		p.t.Fatal(err)
	}
	return [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), jwk, {}}
}

// forgeries are tokens that must be refused without asking anybody, by what is wrong with them.
func (p *project) forgeries() map[string]string {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	good := p.signed(nil)
	cut := strings.Split(good, ".")
	header, claims := p.parts()
	method := jwt.GetSigningMethod(p.alg)
	org := map[string]any{"org_id": p.org.String()}
	all := map[string]string{
		"foreign key, our key id":        p.by(method, p.foreign, nil),
		"foreign key, own key id":        p.by(method, p.foreign, map[string]any{"kid": "theirs"}),
		"foreign key, its jku":           p.by(method, p.foreign, map[string]any{"jku": p.evil.URL}),
		"foreign key, its jku and kid":   p.by(method, p.foreign, map[string]any{"jku": p.evil.URL, "kid": "theirs"}),
		"foreign key, its jwk":           p.by(method, p.foreign, map[string]any{"jwk": gotruetest.JWK(public(p.foreign), "theirs"), "kid": "theirs"}),
		"foreign key, its x5u":           p.by(method, p.foreign, map[string]any{"x5u": p.evil.URL}),
		"kid as a path":                  p.by(method, p.foreign, map[string]any{"kid": "../../../../dev/null"}),
		"crit":                           p.signed(nil, map[string]any{"crit": []string{"b64"}, "b64": false}),
		"expired":                        p.signed(map[string]any{"exp": at(-31 * time.Second)}),
		"no exp":                         p.signed(map[string]any{"exp": nil}),
		"exp null":                       p.raw(header, strings.Replace(claims, `"exp":`, `"exp":null,"x":`, 1)),
		"exp as text":                    p.signed(map[string]any{"exp": "9999999999"}),
		"exp in another case":            p.raw(header, strings.Replace(claims, `"exp":`, `"EXP":`, 1)),
		"exp zero":                       p.signed(map[string]any{"exp": 0}),
		"future nbf":                     p.signed(map[string]any{"nbf": at(40 * time.Second)}),
		"future iat":                     p.signed(map[string]any{"iat": at(40 * time.Second)}),
		"no issuer":                      p.signed(map[string]any{"iss": nil}),
		"wrong issuer":                   p.signed(map[string]any{"iss": "https://evil.example/auth/v1"}),
		"issuer with a slash":            p.signed(map[string]any{"iss": p.Issuer() + "/"}),
		"issuer as a list":               p.signed(map[string]any{"iss": []string{p.Issuer()}}),
		"no audience":                    p.signed(map[string]any{"aud": nil}),
		"wrong audience":                 p.signed(map[string]any{"aud": "anon"}),
		"no role":                        p.signed(map[string]any{"role": nil}),
		"role anon":                      p.signed(map[string]any{"role": "anon"}),
		"role service_role":              p.signed(map[string]any{"role": "service_role"}),
		"role as a list":                 p.signed(map[string]any{"role": []string{"authenticated"}}),
		"the anon key":                   p.signed(map[string]any{"iss": "supabase", "role": "anon", "aud": nil, "sub": nil, "ref": "abc"}),
		"the service_role key":           p.signed(map[string]any{"iss": "supabase", "role": "service_role", "aud": nil, "sub": nil, "ref": "abc"}),
		"the service key, aud added":     p.signed(map[string]any{"iss": "supabase", "role": "service_role"}),
		"no subject":                     p.signed(map[string]any{"sub": nil}),
		"subject of a number":            p.signed(map[string]any{"sub": 7}),
		"subject with NUL":               p.signed(map[string]any{"sub": "a\x00b"}),
		"org in user_metadata alone":     p.signed(map[string]any{"app_metadata": nil, "user_metadata": org}),
		"org in user_metadata, app none": p.signed(map[string]any{"app_metadata": map[string]any{}, "user_metadata": org}),
		"org at the top alone":           p.signed(map[string]any{"app_metadata": nil, "org_id": p.org.String()}),
		"no org":                         p.signed(map[string]any{"app_metadata": map[string]any{"provider": "email"}}),
		"malformed org":                  p.signed(map[string]any{"app_metadata": map[string]any{"org_id": "' OR 1=1 --"}}),
		"org in braces":                  p.signed(map[string]any{"app_metadata": map[string]any{"org_id": "{" + p.org.String() + "}"}}),
		"org of a number":                p.signed(map[string]any{"app_metadata": map[string]any{"org_id": 7}}),
		"org as a list":                  p.signed(map[string]any{"app_metadata": map[string]any{"org_id": []string{p.org.String()}}}),
		"org of zeros":                   p.signed(map[string]any{"app_metadata": map[string]any{"org_id": uuid.Nil.String()}}),
		"app_metadata as text":           p.signed(map[string]any{"app_metadata": p.org.String()}),
		"duplicate sub":                  p.raw(header, `{"sub":"x",`+claims[1:]),
		"duplicate org":                  p.raw(header, strings.Replace(claims, `"org_id":`, `"org_id":"`+uuid.NewString()+`","org_id":`, 1)),
		"duplicate exp, escaped":         p.raw(header, `{"\u0065xp":1,`+claims[1:]),
		"duplicate alg":                  p.raw(`{"alg":"none",`+header[1:], claims),
		"claims of a list":               p.raw(header, `[`+claims+`]`),
		"two claims objects":             p.raw(header, claims+claims),
		"over 8 KiB":                     p.signed(map[string]any{"pad": strings.Repeat("x", 8<<10)}),
		"signature cut off":              cut[0] + "." + cut[1] + ".",
		"no signature":                   cut[0] + "." + cut[1],
		"a fourth part":                  good + ".x",
		"claims of another token":        cut[0] + "." + b64(strings.Replace(claims, p.subject, uuid.NewString(), 1)) + "." + cut[2],
		"signature with a bit more":      good + "A",
		"spare bits of the signature":    good[:len(good)-1] + spare(good[len(good)-1]),
		"padded":                         cut[0] + "." + cut[1] + "=." + cut[2],
		"nothing":                        "",
		"dots":                           "..",
		"not base64":                     "%%%.%%%.%%%",
		"JSON itself":                    header + "." + claims + "." + cut[2],
		"like an API key":                "rf_test_aaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaa_",
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "", "null"} {
		h := b64(`{"alg":"` + none + `","typ":"JWT","kid":"` + gotruetest.KeyID + `"}`)
		all["alg "+none] = h + "." + cut[1] + "."
		all["alg "+none+" with a signature"] = h + "." + cut[1] + "." + cut[2]
	}
	for i, secret := range p.publicBytes() {
		for _, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			all["public key as secret, "+m.Alg()+" "+string(rune('a'+i))] = p.by(m, secret, nil)
		}
	}
	if p.alg == "HS256" {
		all["the right secret, HS512"] = p.by(jwt.SigningMethodHS512, p.secret, nil)
		all["the right secret, HS384"] = p.by(jwt.SigningMethodHS384, p.secret, nil)
	} else {
		all["no kid"] = p.signed(nil, map[string]any{"kid": nil})
		all["empty kid"] = p.signed(nil, map[string]any{"kid": ""})
		all["kid of a number"] = p.signed(nil, map[string]any{"kid": 7})
		all["unknown kid"] = p.signed(nil, map[string]any{"kid": "key-2"})
	}
	if p.alg == "RS256" {
		all["the right key, RS512"] = p.by(jwt.SigningMethodRS512, p.Private(), nil)
		all["the right key, PS256"] = p.by(jwt.SigningMethodPS256, p.Private(), nil)
	}
	return all
}

// spare is the last character of a base64 text with one of the bits set that stand for nothing.
func spare(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, last)|1:][:1]
}

// join makes the project's member one of ours, mapped by issuer and subject.
func (p *project) join(s *site) {
	p.t.Helper()
	p.org = s.org
	user := uuid.New()
	dbtest.Super(p.t, s.dbURL, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, $2, $3, 'member@north.example', now())`, user, p.Issuer(), p.subject)
	dbtest.Super(p.t, s.dbURL, `INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ($1, $2, 'member', now())`, s.org, user)
}

// TestJWT: every forgery is 401 before the database is asked, in whose place there is none here at all; the good token
// beside them gets 200 where there is one.
func TestJWT(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "HS256"} {
		t.Run(alg, func(t *testing.T) {
			p := newProject(t, alg)
			var d handlers.Deps
			s := newSite(t, func(o *options) {
				o.auth.Verifier = p.verifier()
				o.deps = func(deps *handlers.Deps) { d = *deps }
			})
			p.join(s)
			b := s.browser()
			ask := func(of *site, token string) reply {
				return of.browser().get("/api/v1/wallet", "Authorization", "Bearer "+token)
			}
			for name, token := range map[string]string{
				"control":                  p.signed(nil),
				"a little late":            p.signed(map[string]any{"exp": time.Now().Add(-20 * time.Second).Unix()}),
				"a little early":           p.signed(map[string]any{"iat": time.Now().Add(20 * time.Second).Unix(), "nbf": time.Now().Add(20 * time.Second).Unix()}),
				"among several audiences":  p.signed(map[string]any{"aud": []string{"other", "authenticated"}}),
				"user_metadata says other": p.signed(map[string]any{"user_metadata": map[string]any{"org_id": s.other.String()}}),
				"nearly 8 KiB":             p.signed(map[string]any{"pad": strings.Repeat("x", 5000)}),
				"a jku that nobody reads":  p.signed(nil, map[string]any{"jku": p.evil.URL}),
			} {
				res := ask(s, token)
				wantStatus(t, name, res, http.StatusOK)
				if res.body != `{"balance_pence":56900,"held_pence":0,"debt_pence":0,"available_pence":56900,"currency":"gbp"}` ||
					res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Set-Cookie") != "" {
					t.Errorf("%s: %s %v", name, res.body, res.Header)
				}
			}
			wantStatus(t, "scheme in another case", b.get("/api/v1/wallet", "Authorization", "bEARER "+p.signed(nil)), http.StatusOK)

			// What only our tables know is refused by them, in the same words.
			for name, token := range map[string]string{
				"nobody's subject":          p.signed(map[string]any{"sub": uuid.NewString()}),
				"another's organisation":    p.signed(map[string]any{"app_metadata": map[string]any{"org_id": s.other.String()}}),
				"an organisation of nobody": p.signed(map[string]any{"app_metadata": map[string]any{"org_id": uuid.NewString()}}),
				"our own user's id and e-mail": p.signed(map[string]any{"email": "owner@harbour.example", "sub": func() string {
					var id string
					dbtest.Get(t, s.dbURL, &id, `SELECT id FROM users WHERE email = 'owner@harbour.example'`)
					return id
				}()}),
			} {
				wantStatus(t, name, ask(s, token), http.StatusUnauthorized)
			}

			blind := newSiteWithoutDatabase(t, s, d, p.verifier())
			wantStatus(t, "the control without a database", ask(blind, p.signed(nil)), http.StatusServiceUnavailable)
			for name, token := range p.forgeries() {
				res := ask(blind, token)
				wantStatus(t, name, res, http.StatusUnauthorized)
				if !strings.Contains(res.body, "does not hold a credential we know") || res.Header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s: %s", name, res.body)
				}
			}
			for name, header := range map[string]string{"Basic": "Basic " + b64("a:b"), "bare": p.signed(nil), "no token": "Bearer", "empty": "", "comma": "Bearer a, Bearer b"} {
				wantStatus(t, name, blind.browser().get("/api/v1/wallet", "Authorization", header), http.StatusUnauthorized)
			}
			if n := p.fetched.Load(); n != 0 {
				t.Errorf("%d times an address out of a token was followed", n)
			}
			if n := p.Calls("/auth/v1/.well-known/jwks.json?"); n > 4 { // two verifiers: the first fetch, and one for an unknown key id
				t.Errorf("the keys were fetched %d times", n)
			}
			dbtest.Super(t, s.dbURL, `UPDATE users SET disabled_at = now() WHERE email = 'member@north.example'`)
			wantStatus(t, "disabled", ask(s, p.signed(nil)), http.StatusUnauthorized)
		})
	}
}

// newSiteWithoutDatabase is the same site where any look at the database is an error.
func newSiteWithoutDatabase(t *testing.T, s *site, d handlers.Deps, v *auth.Verifier) *site {
	t.Helper()
	closed := dbtest.OpenURL(t, s.dbURL, nil)
	var err error
	if d.Auth, err = auth.New(closed, auth.Options{Verifier: v}); err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	return newSiteOver(t, s, d, d.SessionKeys)
}

// With no verifier every JWT is refused, and so is one of an algorithm that another project would take.
func TestJWTWithoutVerifier(t *testing.T) {
	p := newProject(t, "ES256")
	s := newSite(t)
	p.join(s)
	wantStatus(t, "no verifier", s.browser().get("/api/v1/wallet", "Authorization", "Bearer "+p.signed(nil)), http.StatusUnauthorized)
	// A good token on a page: programs have no pages; and it makes no unknown address known.
	s = newSite(t, func(o *options) { o.auth.Verifier = p.verifier() })
	p.join(s)
	good := "Bearer " + p.signed(nil)
	for path, status := range map[string]int{
		"/api/v1/wallet": 200, "/dashboard": 403, "/settings": 403, "/metrics": 404, "/ops": 404, "/nothing": 404, "/healthz": 200, "/api/v1/nothing": 404,
	} {
		wantStatus(t, path, s.browser().get(path, "Authorization", good), status)
	}
	wantStatus(t, "POST of a form", s.browser().do("POST", "/login", strings.NewReader("email=a"), "Authorization", good, "Content-Type", "application/x-www-form-urlencoded"), http.StatusForbidden)
	// The cookie beside it counts for nothing: who asks is the token's user, and a bad token is not saved by a session.
	owner := s.as("owner@second.example")
	if res := owner.get("/api/v1/wallet", "Authorization", good); !strings.Contains(res.body, `"balance_pence":56900`) {
		t.Errorf("the cookie decided: %s", res.body)
	}
	if res := owner.get("/api/v1/wallet"); res.StatusCode != http.StatusOK || !strings.Contains(res.body, `"balance_pence":0`) {
		t.Errorf("the session alone: %s %s", res.Status, res.body)
	}
	wantStatus(t, "a bad token beside a session", owner.get("/api/v1/wallet", "Authorization", good+"x"), http.StatusUnauthorized)
}
