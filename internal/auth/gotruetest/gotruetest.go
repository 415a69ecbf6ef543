// Package gotruetest is a Supabase project's sign-in service for tests: real HTTP, GoTrue's paths, shapes and refusals,
// its rules for refresh tokens, and its published keys.
package gotruetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	// AnonKey is what the gateway wants with every request.
	AnonKey = "anon-key-of-the-test"
	// KeyID names the published key.
	KeyID = "key-1"
	// reuse is how long after its use a refresh token may be shown once more
	// (https://supabase.com/docs/guides/auth/sessions#what-is-refresh-token-reuse-detection-and-what-does-it-protect-from).
	reuse = 10 * time.Second
)

// Options describe the project.
type Options struct {
	// Alg signs the tokens: ES256, RS256 or HS256.
	Alg string
	// Secret is HS256's.
	Secret []byte
	Now    func() time.Time
	// AccessFor is how long an access token holds; default an hour.
	AccessFor time.Duration
}

// Server is the project.
type Server struct {
	*httptest.Server

	o       Options
	private any // signs
	mu      sync.Mutex
	users   map[string]*user
	tokens  map[string]*refresh // by refresh token
	calls   map[string]int
	down    int    // the status of every answer, while not zero
	hold    func() // runs within every refresh
}

type user struct {
	id, email, password string
	metadata            map[string]any
	banned              bool
}

type refresh struct {
	user    *user
	session string
	usedAt  time.Time
}

// New starts a project; it ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if o.AccessFor == 0 {
		o.AccessFor = time.Hour
	}
	s := &Server{o: o, users: map[string]*user{}, tokens: map[string]*refresh{}, calls: map[string]int{}}
	var err error
	switch o.Alg {
	case "ES256":
		s.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "HS256":
		s.private = o.Secret
	default:
		t.Fatalf("no algorithm %q", o.Alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/v1/.well-known/jwks.json", s.keys)
	mux.HandleFunc("GET /auth/v1/health", s.gateway(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"name": "GoTrue"})
	}))
	mux.HandleFunc("POST /auth/v1/token", s.gateway(s.token))
	mux.HandleFunc("POST /auth/v1/logout", s.gateway(s.logout))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls[r.URL.Path+"?"+r.URL.RawQuery]++
		down := s.down
		s.mu.Unlock()
		if down != 0 {
			answer(w, down, map[string]any{"code": down, "msg": "planted"})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// AddUser adds a user and gives the subject of their tokens. metadata is the app_metadata.
func (s *Server) AddUser(email, password string, metadata map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &user{id: uuid.NewString(), email: email, password: password, metadata: metadata}
	s.users[email] = u
	return u.id
}

// Ban makes the user's passwords and refresh tokens worthless.
func (s *Server) Ban(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[email].banned = true
}

// Down makes every answer this status; 0 makes the server well again.
func (s *Server) Down(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = status
}

// Hold runs f within every refresh.
func (s *Server) Hold(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = f
}

// Calls is how often a path with its query was asked, such as "/auth/v1/token?grant_type=password".
func (s *Server) Calls(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

// Issuer is what the tokens say of where they are from.
func (s *Server) Issuer() string { return s.URL + "/auth/v1" }

// Claims are those of a good access token.
func (s *Server) Claims(subject, email string, metadata map[string]any) jwt.MapClaims {
	now := s.o.Now()
	return jwt.MapClaims{
		"iss": s.Issuer(), "aud": "authenticated", "role": "authenticated", "sub": subject, "email": email,
		"iat": now.Unix(), "exp": now.Add(s.o.AccessFor).Unix(), "session_id": uuid.NewString(), "aal": "aal1", "is_anonymous": false,
		"app_metadata": metadata, "user_metadata": map[string]any{},
	}
}

// Sign signs claims as the project does; header adds to the token's header, and nil takes a member out of it.
func (s *Server) Sign(claims jwt.MapClaims, header map[string]any) (string, error) {
	return Sign(jwt.GetSigningMethod(s.o.Alg), s.private, claims, header)
}

// Sign signs claims with any key and method.
func Sign(method jwt.SigningMethod, key any, claims jwt.MapClaims, header map[string]any) (string, error) {
	t := jwt.NewWithClaims(method, claims)
	t.Header["kid"] = KeyID
	for name, value := range header {
		if value == nil {
			delete(t.Header, name)
		} else {
			t.Header[name] = value
		}
	}
	return t.SignedString(key)
}

// Private is the key that signs.
func (s *Server) Private() any { return s.private }

// Public is the key that everybody may know; nil with HS256.
func (s *Server) Public() any {
	switch k := s.private.(type) {
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case *rsa.PrivateKey:
		return &k.PublicKey
	}
	return nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// JWK is the published form of a public key.
func JWK(public any, id string) map[string]any {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil
		}
		return map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": []string{"verify"}, "kid": id, "x": b64(point[1:33]), "y": b64(point[33:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "key_ops": []string{"verify"}, "kid": id, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	}
	return nil
}

func (s *Server) keys(w http.ResponseWriter, _ *http.Request) {
	keys := []any{}
	if k := JWK(s.Public(), KeyID); k != nil {
		keys = append(keys, k)
	}
	answer(w, http.StatusOK, map[string]any{"keys": keys})
}

// gateway refuses what does not carry the project's key, as the one before GoTrue does.
func (*Server) gateway(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Apikey") != AnonKey {
			answer(w, http.StatusUnauthorized, map[string]any{"message": "Invalid API key"})
			return
		}
		next(w, r)
	}
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Email, Password string
		RefreshToken    string `json:"refresh_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, "bad_json", "Could not parse request body as JSON")
		return
	}
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil && r.URL.Query().Get("grant_type") == "refresh_token" {
		hold()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Query().Get("grant_type") {
	case "password":
		u := s.users[strings.ToLower(body.Email)]
		switch {
		case u == nil || u.password != body.Password:
			refuse(w, "invalid_credentials", "Invalid login credentials")
		case u.banned:
			refuse(w, "user_banned", "User is banned")
		default:
			s.grant(w, u, uuid.NewString())
		}
	case "refresh_token":
		t := s.tokens[body.RefreshToken]
		now := s.o.Now()
		switch {
		case t == nil:
			refuse(w, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
		case t.user.banned:
			refuse(w, "user_banned", "User is banned")
		case !t.usedAt.IsZero() && now.Sub(t.usedAt) > reuse:
			s.forget(t.session)
			refuse(w, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
		default:
			if t.usedAt.IsZero() {
				t.usedAt = now
			}
			s.grant(w, t.user, t.session)
		}
	default:
		refuse(w, "validation_failed", "unsupported_grant_type")
	}
}

// grant answers with new tokens.
func (s *Server) grant(w http.ResponseWriter, u *user, session string) {
	claims := s.Claims(u.id, u.email, maps.Clone(u.metadata))
	claims["session_id"] = session
	access, err := s.Sign(claims, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	next := rand.Text()
	s.tokens[next] = &refresh{user: u, session: session}
	answer(w, http.StatusOK, map[string]any{
		"access_token": access, "token_type": "bearer", "expires_in": int(s.o.AccessFor / time.Second), "expires_at": s.o.Now().Add(s.o.AccessFor).Unix(),
		"refresh_token": next, "user": map[string]any{"id": u.id, "aud": "authenticated", "role": "authenticated", "email": u.email, "app_metadata": u.metadata},
	})
}

func (s *Server) forget(session string) {
	maps.DeleteFunc(s.tokens, func(_ string, t *refresh) bool { return t.session == session })
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	claims := jwt.MapClaims{}
	token, _, err := jwt.NewParser().ParseUnverified(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), claims)
	if err != nil || token == nil {
		answer(w, http.StatusUnauthorized, map[string]any{"code": 401, "error_code": "no_authorization", "msg": "This endpoint requires a valid Bearer token"})
		return
	}
	session, _ := claims["session_id"].(string)
	s.mu.Lock()
	s.forget(session)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// Sessions is how many sessions could still be renewed.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]bool{}
	for _, t := range s.tokens {
		open[t.session] = true
	}
	return len(open)
}

func refuse(w http.ResponseWriter, code, message string) {
	answer(w, http.StatusBadRequest, map[string]any{"code": http.StatusBadRequest, "error_code": code, "msg": message})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
