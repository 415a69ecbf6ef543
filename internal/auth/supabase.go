package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ringfence/internal/fault"
)

// supabaseWait bounds one request to Supabase.
const supabaseWait = 8 * time.Second

// maxGrant is the largest answer that is read, in bytes.
const maxGrant = 64 << 10

// Supabase speaks with the sign-in service of a Supabase project (GoTrue). It is safe for concurrent use.
type Supabase struct {
	base, key string
	client    *http.Client
}

// NewSupabase returns a client of the project at projectURL, without a trailing slash. anonKey is the project's public
// key, which its gateway wants with every request.
func NewSupabase(projectURL, anonKey string) *Supabase {
	return &Supabase{base: projectURL + "/auth/v1", key: anonKey, client: &http.Client{
		Timeout: supabaseWait,
		// A password or a token is never carried on to where a redirect points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Through has the client ask by another transport than Go's own. Call it before the client is used.
func (s *Supabase) Through(way http.RoundTripper) *Supabase {
	s.client.Transport = way
	return s
}

// grant is what GoTrue gives for a password or a refresh token.
type grant struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// GoTrue's answers, as far as they make a difference.
var (
	// errGrantRefused: the password or the refresh token does not hold, or the user may not sign in.
	errGrantRefused = errors.New("the sign-in service refused")
	// errGrantBusy: its own limits are reached.
	errGrantBusy = errors.New("the sign-in service wants us to wait")
)

// password asks for a grant by e-mail and password
// (https://supabase.com/docs/reference/self-hosting-auth/generates-an-access-token-and-refresh-token-based-on-grant-type).
func (s *Supabase) password(ctx context.Context, email, password string) (grant, error) {
	return s.token(ctx, "password", map[string]string{"email": email, "password": password})
}

// refresh trades a refresh token, which works once, for a new grant.
func (s *Supabase) refresh(ctx context.Context, token string) (grant, error) {
	return s.token(ctx, "refresh_token", map[string]string{"refresh_token": token})
}

func (s *Supabase) token(ctx context.Context, kind string, body map[string]string) (grant, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return grant{}, fmt.Errorf("couldn't write the request: %w", err)
	}
	status, answer, err := s.post(ctx, "/token?grant_type="+kind, "", b)
	if err != nil {
		return grant{}, err
	}
	switch status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity:
		return grant{}, errGrantRefused
	case http.StatusTooManyRequests:
		return grant{}, errGrantBusy
	default: // 401 too: that is the gateway refusing our own key
		return grant{}, fmt.Errorf("the sign-in service answered %d", status)
	}
	var g grant
	if err := json.Unmarshal(answer, &g); err != nil || g.Access == "" || g.Refresh == "" {
		return grant{}, errors.New("the sign-in service's answer has no tokens in it")
	}
	return g, nil
}

// logout ends the one session that the access token belongs to.
func (s *Supabase) logout(ctx context.Context, access string) error {
	status, _, err := s.post(ctx, "/logout?scope=local", access, nil)
	switch {
	case err != nil:
		return err
	case status/100 == 2, status == http.StatusNotFound: // over already
		return nil
	}
	return fmt.Errorf("the sign-in service answered %d", status)
}

func (s *Supabase) post(ctx context.Context, path, access string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, supabaseWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("couldn't make the request: %w", err)
	}
	req.Header.Set("Apikey", s.key)
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("couldn't reach the sign-in service: %w", err)
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxGrant+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("couldn't read the sign-in service's answer: %w", err)
	case len(answer) > maxGrant:
		return 0, nil, errors.New("the sign-in service's answer is too large")
	}
	return res.StatusCode, answer, nil
}

// Reachable reports whether the service answers and takes our key.
func (s *Supabase) Reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, supabaseWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/health", http.NoBody)
	if err != nil {
		return fmt.Errorf("couldn't make the request: %w", err)
	}
	req.Header.Set("Apikey", s.key)
	res, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("couldn't reach the sign-in service: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the sign-in service answered %s", strings.TrimSpace(res.Status))
	}
	return nil
}

// errOutside is what a person reads while the provider cannot answer.
func errOutside(cause error) error {
	return &fault.Error{
		Kind: fault.Unavailable, RetryAfter: 10 * time.Second, Cause: cause,
		Public: "The sign-in service does not answer at the moment. Nothing is wrong with your account; try again in a little while.",
	}
}
