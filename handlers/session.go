package handlers

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/sessions"

	"ringfence/internal/fault"
	"ringfence/views"
)

// The cookie holds two things: the token of the session, whose row on the server is what counts, and the secret that
// the forms' tokens are made of.
const (
	valueToken = "token"
	valueCSRF  = "csrf"
	// valuePending is the token of a session that waits for its second factor, and opens nothing until then.
	valuePending = "pending"
)

const (
	// cookieAge is how long a browser keeps the cookie; the session's own limits are the server's.
	cookieAge = 7 * 24 * time.Hour
	// maxForm is the largest form, in bytes.
	maxForm = 64 << 10
	// maxAgentForm is the largest form of an agent: its prompt may have characters that a form writes as a dozen bytes.
	maxAgentForm = 256 << 10
	// minSessionKey is the shortest key, in bytes.
	minSessionKey = 32
	csrfBytes     = 32
)

// newCookies makes the cookie's store and its name. Each key gives a pair: one that signs, one that encrypts.
func newCookies(keys [][]byte, secure bool) (*sessions.CookieStore, string, error) {
	if len(keys) == 0 {
		return nil, "", errors.New("no session key: anybody could write the cookie")
	}
	var pairs [][]byte
	for i, key := range keys {
		if len(key) < minSessionKey {
			return nil, "", fmt.Errorf("session key %d has %d bytes, it needs at least %d", i+1, len(key), minSessionKey)
		}
		for _, use := range []string{"ringfence cookie: sign", "ringfence cookie: encrypt"} {
			k, err := hkdf.Key(sha256.New, key, nil, use, 32)
			if err != nil {
				return nil, "", fmt.Errorf("couldn't derive a cookie key: %w", err)
			}
			pairs = append(pairs, k)
		}
	}
	store := sessions.NewCookieStore(pairs...)
	// Lax, not Strict: who comes back from Stripe's page is still signed in.
	store.Options = &sessions.Options{Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode}
	store.MaxAge(int(cookieAge / time.Second)) // sets the codecs' age as well, which Options do not
	if secure {
		return store, "__Host-ringfence", nil
	}
	return store, "ringfence", nil // the prefix needs https, and browsers refuse it without
}

// open reads the request's cookie. One that is damaged, expired or signed with a key we dropped reads as empty.
func (a *app) open(r *http.Request, v *visit) {
	if v.session == nil {
		v.session, _ = a.cookies.New(r, a.cookie) // gives a usable empty session beside the error
	}
}

// value is what the cookie holds under name.
func (v *visit) value(name string) string {
	if v.session == nil { // a bearer's cookies are not read
		return ""
	}
	s, _ := v.session.Values[name].(string) // absent means empty
	return s
}

// identify finds out who asks, once per request. Nobody is an answer too; an error says that we could not find out.
func (a *app) identify(r *http.Request, v *visit) error {
	if v.identified || v.is(Webhook) {
		return nil
	}
	v.identified = true // an attempt that failed is not made again for the error page
	a.open(r, v)
	if token := v.value(valueToken); token != "" {
		who, err := a.Auth.Resolve(r.Context(), token)
		switch {
		case fault.Is(err, fault.Unauthenticated):
		case err != nil:
			return err
		default:
			v.who, v.signedIn = who, true
		}
	}
	return nil
}

// meta is what every page has in common.
func (a *app) meta(r *http.Request, v *visit, title string) views.PageMeta {
	m := views.PageMeta{Title: title, Path: r.URL.Path, Assets: a.assets, Theme: a.theme(r)}
	if v.session != nil {
		m.CSRFToken = formToken(v.value(valueCSRF))
	}
	if v.signedIn {
		m.User = views.User{
			Email: v.who.Email, OrgName: v.who.OrgName, Role: string(v.who.Role), Operator: v.who.Operator,
			Suspended: v.who.Suspended, Viewing: v.who.Viewing, ViewUntil: v.who.ViewUntil,
		}
	}
	return m
}

// CSRF tokens are our own few lines: gorilla/csrf 1.7.3 has an advisory without a fix (GO-2025-3884).

// errStaleForm marks a form without a token that holds.
var errStaleForm = errors.New("the form's token does not hold")

// newSecret makes what the tokens of one cookie are made of.
func newSecret() string {
	b := make([]byte, csrfBytes)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// formToken masks the secret afresh for each page, so that compressed pages do not give it away (BREACH).
func formToken(secret string) string {
	s, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(s) != csrfBytes {
		return ""
	}
	b := make([]byte, 2*csrfBytes)
	_, _ = rand.Read(b[:csrfBytes])
	subtle.XORBytes(b[csrfBytes:], b[:csrfBytes], s)
	return base64.RawURLEncoding.EncodeToString(b)
}

// tokenHolds reports whether token is a masking of secret.
func tokenHolds(token, secret string) bool {
	t, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(t) != 2*csrfBytes {
		return false
	}
	s, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(s) != csrfBytes {
		return false
	}
	subtle.XORBytes(t[csrfBytes:], t[csrfBytes:], t[:csrfBytes])
	return subtle.ConstantTimeCompare(t[csrfBytes:], s) == 1
}

// checkForm reads the form, within its limit, and holds its token against the cookie.
func (a *app) checkForm(r *http.Request, v *visit) error {
	if v.route.Pattern == uploadPath {
		return a.checkUpload(r, v)
	}
	most := int64(maxForm)
	if v.route.Pattern == agentsPath || v.route.Pattern == agentsPath+"/{id}" {
		most = maxAgentForm
	}
	r.Body = http.MaxBytesReader(v.out.ResponseWriter, r.Body, most)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return fault.Wrap(fault.TooLarge, "The form is larger than anything we ask for.", err)
		}
		return fault.Wrap(fault.Invalid, "The form could not be read. Load the page again and retry.", err)
	}
	token := r.PostForm.Get("csrf_token")
	if token == "" {
		token = r.Header.Get("X-CSRF-Token")
	}
	return a.checkToken(r, v, token)
}

// checkToken holds a form's token against the cookie.
func (a *app) checkToken(r *http.Request, v *visit, token string) error {
	a.open(r, v)
	if !tokenHolds(token, v.value(valueCSRF)) {
		return fault.Wrap(fault.Forbidden, "The page was too old, so nothing was done. Go back, reload it and try again.", errStaleForm)
	}
	return nil
}

// localPath gives next back if it is certain to lead to a page of ours, else nothing. Everything that browsers and
// parsers read differently is refused, not repaired.
func localPath(next string) string {
	if len(next) > 512 || !strings.HasPrefix(next, "/") {
		return ""
	}
	for i := range len(next) {
		if c := next[i]; c < 0x21 || c > 0x7e || c == '\\' {
			return ""
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return ""
	}
	if strings.Contains(u.Path, "//") || strings.Contains(u.Path, "\\") || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path+"/", "/./") {
		return ""
	}
	for _, not := range []string{"/login", "/logout", "/signup", "/password", "/api", "/wallet/stream", "/static"} {
		if u.Path == not || strings.HasPrefix(u.Path, not+"/") {
			return ""
		}
	}
	return next
}
