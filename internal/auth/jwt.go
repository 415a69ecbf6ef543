package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

const (
	// maxToken is the largest JWT that is looked at, in bytes.
	maxToken = 8 << 10
	// leeway is how far clocks may be apart.
	leeway = 30 * time.Second
	// refreshKeys is how often the published keys are fetched. Supabase's edge keeps them for 10 minutes
	// (https://supabase.com/docs/guides/auth/signing-keys), so asking more often gains nothing.
	refreshKeys = 10 * time.Minute
	// fetchKeys bounds one fetch of the published keys, and with it how long a token with an unknown key id may wait.
	fetchKeys = 3 * time.Second
	// unknownKeyEvery is how often a token with an unknown key id may cause a fetch.
	unknownKeyEvery = 30 * time.Second
	// minSecret is the shortest HS256 secret, in bytes (RFC 7518, 3.2).
	minSecret = 32

	audience = "authenticated"
)

// VerifierOptions say whose tokens are believed.
type VerifierOptions struct {
	// ProjectURL is the Supabase project, without a trailing slash. Its tokens' issuer is ProjectURL + "/auth/v1".
	ProjectURL string
	// Secret is a legacy project's shared secret: then HS256 is the one algorithm. Without it the keys that the project
	// publishes decide, each for its own algorithm, ES256 or RS256.
	Secret []byte
	Now    func() time.Time
	// Client fetches the keys; nil has a time limit of its own, and asks by Transport.
	Client *http.Client
	// Transport is the way to the keys; nil means Go's own.
	Transport http.RoundTripper
	// Log hears of key sets that could not be fetched; nil is silent.
	Log *slog.Logger
}

// Verifier checks the JWTs of one Supabase project. It is safe for concurrent use.
type Verifier struct {
	o      VerifierOptions
	issuer string
	parser *jwt.Parser
	keys   keyfunc.Keyfunc // nil with a secret, and before Start
}

// Claims are what a good token says.
type Claims struct {
	// Issuer and Subject name the user.
	Issuer, Subject string
	Email           string
	// OrgID comes from app_metadata, which users cannot write; uuid.Nil when there is none. It may be stale: membership
	// is for our own tables to say.
	OrgID   uuid.UUID
	Expires time.Time
}

// errToken is the one answer to a token that does not hold. What was wrong with it, a [refusal], is counted and told to
// nobody.
var errToken = errors.New("the token does not hold")

// refusal is why a token does not hold, in one of few words: it is a label in the metrics.
type refusal string

// The reasons.
const (
	errTooLong        refusal = "too_long"
	errMalformed      refusal = "malformed"
	errBadSignature   refusal = "signature" // or another algorithm than the configured
	errUnknownKey     refusal = "unknown_key"
	errNoKeys         refusal = "no_keys" // ours to mend: the published keys were never had
	errExpired        refusal = "expired"
	errNotYet         refusal = "not_yet_valid"
	errBadIssuer      refusal = "issuer"
	errBadAudience    refusal = "audience"
	errBadClaims      refusal = "claims"
	errNoOrganisation refusal = "no_organisation"
	errNotAMember     refusal = "not_a_member"
	errNotTaken       refusal = "not_taken" // no project is configured whose tokens are believed
)

// refusals are all of them.
var refusals = []refusal{
	errTooLong, errMalformed, errBadSignature, errUnknownKey, errNoKeys, errExpired, errNotYet, errBadIssuer, errBadAudience, errBadClaims, errNoOrganisation, errNotAMember, errNotTaken,
}

// Error is the same for every reason.
func (refusal) Error() string { return errToken.Error() }

// Is has every refusal be errToken.
func (refusal) Is(target error) bool { return target == errToken }

// reasonOf says why the library refused a token.
func reasonOf(err error) refusal {
	if r, ok := errors.AsType[refusal](err); ok {
		return r
	}
	for _, known := range []struct {
		is  error
		why refusal
	}{
		{jwkset.ErrKeyNotFound, errUnknownKey},
		{keyfunc.ErrKeyfunc, errUnknownKey},
		{jwt.ErrTokenMalformed, errMalformed},
		{jwt.ErrTokenUnverifiable, errBadSignature},
		{jwt.ErrTokenSignatureInvalid, errBadSignature},
		{jwt.ErrTokenExpired, errExpired},
		{jwt.ErrTokenNotValidYet, errNotYet},
		{jwt.ErrTokenUsedBeforeIssued, errNotYet},
		{jwt.ErrTokenInvalidIssuer, errBadIssuer},
		{jwt.ErrTokenInvalidAudience, errBadAudience},
	} {
		if errors.Is(err, known.is) {
			return known.why
		}
	}
	return errBadClaims
}

// NewVerifier returns a verifier. One that goes by published keys refuses every token until [Verifier.Start].
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	if o.ProjectURL == "" || o.Now == nil {
		return nil, errors.New("a verifier needs the project's address and a clock")
	}
	if n := len(o.Secret); n > 0 && n < minSecret {
		return nil, fmt.Errorf("the JWT secret has %d bytes, it needs at least %d", n, minSecret)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = &http.Client{
			Timeout:   fetchKeys,
			Transport: o.Transport,
			// The keys come from the configured address or not at all.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	methods := []string{jwt.SigningMethodES256.Alg(), jwt.SigningMethodRS256.Alg()}
	if len(o.Secret) > 0 {
		methods = []string{jwt.SigningMethodHS256.Alg()}
	}
	issuer := o.ProjectURL + "/auth/v1"
	return &Verifier{
		o: o, issuer: issuer,
		parser: jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithStrictDecoding(), jwt.WithTimeFunc(o.Now)),
	}, nil
}

// Start fetches the published keys and goes on fetching them until ctx ends; with a shared secret there is nothing to do.
// That the first fetch fails is no error: Ready says so, and every token is refused, until a set was had. Call it once,
// before the first token.
func (v *Verifier) Start(ctx context.Context) error {
	if len(v.o.Secret) > 0 {
		return nil
	}
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{v.issuer + "/.well-known/jwks.json"}, keyfunc.Override{
		Client: v.o.Client, HTTPTimeout: fetchKeys, RefreshInterval: refreshKeys,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(unknownKeyEvery), 1), RateLimitWaitMax: fetchKeys,
		RefreshErrorHandlerFunc: func(u string) func(context.Context, error) {
			return func(ctx context.Context, err error) {
				v.o.Log.WarnContext(ctx, "couldn't fetch the keys that tokens are checked with", "url", u, "error", err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("couldn't prepare for the project's published keys: %w", err)
	}
	v.keys = keys
	return nil
}

// Issuer is who the verifier's tokens are from, and the first half of its users' names.
func (v *Verifier) Issuer() string { return v.issuer }

// Ready reports whether tokens can be checked: an error until the published keys were had once. It asks for them again
// itself, as often as an unknown key id may.
func (v *Verifier) Ready(ctx context.Context) error {
	switch {
	case len(v.o.Secret) > 0:
		return nil
	case v.keys == nil:
		return errors.New("the keys to check tokens with were not asked for yet")
	}
	had := func() (bool, error) {
		set, err := v.keys.Storage().KeyReadAll(ctx)
		return len(set) > 0, err
	}
	if ok, err := had(); ok || err != nil {
		return err
	}
	_, ferr := v.keys.Storage().KeyRead(ctx, "none has this id") // fetches, within the limits
	if ok, err := had(); ok || err != nil {
		return err
	}
	return fmt.Errorf("no keys to check tokens with: %w", ferr)
}

// Verify checks a token and gives what it says. Every token that does not hold, whatever is wrong with it, is the same
// error, and nothing but the token itself was looked at, save for an unknown key id, which may fetch the published keys
// twice a minute. Addresses and keys inside a token (jku, jwk, x5u, x5c) are never used.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > maxToken {
		return Claims{}, errTooLong
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Claims{}, errMalformed
	}
	for _, part := range parts[:2] {
		text, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || !plainObject(text) {
			return Claims{}, errMalformed
		}
	}
	// A map, not a struct: encoding/json matches struct fields in any case, and "EXP" would do for "exp".
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	if err != nil {
		return Claims{}, reasonOf(err)
	}
	if !parsed.Valid {
		return Claims{}, errBadSignature
	}
	return v.read(claims)
}

// key gives what the token's signature must fit.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, has := t.Header["crit"]; has { // an extension we do not know, and must not pass over (RFC 7515, 4.1.11)
		return nil, errBadClaims
	}
	if len(v.o.Secret) > 0 {
		return v.o.Secret, nil
	}
	if v.keys == nil {
		return nil, errNoKeys
	}
	// Without a key id keyfunc would try every key it has.
	if kid, ok := t.Header[jwkset.HeaderKID].(string); !ok || kid == "" {
		return nil, errUnknownKey
	}
	key, err := v.keys.KeyfuncCtx(ctx)(t)
	if err != nil && v.keyless(ctx) {
		return nil, errNoKeys
	}
	return key, err
}

// keyless reports whether there is no key to check any token with.
func (v *Verifier) keyless(ctx context.Context) bool {
	set, err := v.keys.Storage().KeyReadAll(ctx)
	return err == nil && len(set) == 0
}

// read takes the claims apart.
func (v *Verifier) read(claims jwt.MapClaims) (Claims, error) {
	text := func(of map[string]any, name string) string {
		s, _ := of[name].(string)
		return s
	}
	// The anon and service_role keys are JWTs as well. Their issuer is another; this says it a second time.
	if text(claims, "role") != audience {
		return Claims{}, errBadClaims
	}
	c := Claims{Issuer: v.issuer, Subject: text(claims, "sub"), Email: normalEmail(text(claims, "email"))}
	if c.Subject == "" || len(c.Subject) > maxSubject || !storable(c.Subject) || len(c.Email) > maxEmail || !storable(c.Email) {
		return Claims{}, errBadClaims
	}
	if metadata := claims["app_metadata"]; metadata != nil {
		m, ok := metadata.(map[string]any)
		if !ok {
			return Claims{}, errBadClaims
		}
		if org, has := m["org_id"]; has {
			s, ok := org.(string)
			id, err := uuid.Parse(s)
			if !ok || err != nil || len(s) != len(uuid.Nil.String()) || id == uuid.Nil {
				return Claims{}, errBadClaims
			}
			c.OrgID = id
		}
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return Claims{}, errBadClaims
	}
	c.Expires = expires.Time
	return c, nil
}

// maxSubject is the longest subject, in bytes.
const maxSubject = 255

// plainObject reports whether text is one JSON object in which, at every depth, no key stands twice: two readers could
// take different values.
func plainObject(text []byte) bool {
	d := json.NewDecoder(strings.NewReader(string(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	if !uniqueKeys(d) {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// uniqueKeys reads the rest of an object.
func uniqueKeys(d *json.Decoder) bool {
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok || seen[key] {
			return false
		}
		seen[key] = true
		if !uniqueValue(d) {
			return false
		}
	}
	t, err := d.Token()
	return err == nil && t == json.Delim('}')
}

func uniqueValue(d *json.Decoder) bool {
	t, err := d.Token()
	if err != nil {
		return false
	}
	switch t {
	case json.Delim('{'):
		return uniqueKeys(d)
	case json.Delim('['):
		for d.More() {
			if !uniqueValue(d) {
				return false
			}
		}
		_, err := d.Token()
		return err == nil
	}
	return true
}
