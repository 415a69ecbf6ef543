package handlers_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/auth"
)

// problem is what a refusal tells programs.
type problem struct {
	Status      int
	Code, Field string
}

func (r reply) problem(t *testing.T) (p problem) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s is no problem: %v\n%s", r.Header.Get("Content-Type"), err, r.body)
	}
	return p
}

// TestEveryRefusalHasACode: programs decide by status and code, so there always is one.
func TestEveryRefusalHasACode(t *testing.T) {
	s := newSite(t)
	all, b := s.programKey(), s.browser()
	for what, c := range map[string]struct {
		method, path, key, body string
		want                    problem
	}{
		"no credential":     {"GET", "/api/v1/wallet", "", "", problem{401, "unauthenticated", ""}},
		"a bad credential":  {"GET", "/api/v1/wallet", "rf_test_x", "", problem{401, "unauthenticated", ""}},
		"too small a scope": {"POST", "/api/v1/holds", s.keyWith(auth.WalletRead), `{"action":"sms","quantity":1}`, problem{403, "insufficient_scope", ""}},
		"nothing there":     {"GET", "/api/v1/nothing", all, "", problem{404, "not_found", ""}},
		"no such hold":      {"POST", "/api/v1/holds/019837a4-5f1c-7d1e-9b60-3f5d2c81a7e4/void", all, `{}`, problem{404, "not_found", ""}},
		"another method":    {"DELETE", "/api/v1/wallet", all, "", problem{405, "method_not_allowed", ""}},
		"no JSON":           {"POST", "/api/v1/holds", all, `hello`, problem{400, "malformed", ""}},
		"too large":         {"POST", "/api/v1/holds", all, `{"action":"` + strings.Repeat("x", 70<<10) + `"}`, problem{413, "too_large", ""}},
		"a rule is broken":  {"POST", "/api/v1/holds", all, `{"action":"sms","quantity":0}`, problem{422, "invalid", "quantity"}},
		"a text to nobody":  {"POST", "/api/v1/messages", all, `{"to":"hello","body":"Hi"}`, problem{422, "invalid", "to"}},
		"a text too far":    {"POST", "/api/v1/messages", all, `{"to":"+18765551234","body":"Hi"}`, problem{403, "destination_not_offered", "to"}},
		"a hold too far":    {"POST", "/api/v1/holds", all, `{"action":"sms","quantity":1,"destination":"+18765551234"}`, problem{403, "destination_not_offered", "destination"}},
		"a forged webhook":  {"POST", "/api/webhooks/stripe", "", `{}`, problem{400, "invalid", ""}},
	} {
		if got := b.program(c.method, c.path, c.key, c.body).problem(t); got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
	slow := newSite(t, func(o *options) { o.deps = func(d *handlers.Deps) { d.APIRate = 1 } })
	key, hurried := slow.programKey(), slow.browser()
	for range 5 {
		if res := hurried.program("GET", "/api/v1/wallet", key, ""); res.StatusCode != http.StatusOK {
			if got := res.problem(t); got != (problem{429, "too_many_requests", ""}) {
				t.Errorf("too fast: %+v", got)
			}
			return
		}
	}
	t.Error("five requests at once were within a limit of one")
}

// TestBearerWithoutDatabase: where nobody can be asked whose a credential is, that is said, and to try again; it is neither
// refused nor a mistake of ours.
func TestBearerWithoutDatabase(t *testing.T) {
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) {
			gone := dbtest.OpenURL(t, dbtest.URL(t), nil)
			a, err := auth.New(gone, auth.Options{Hash: &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			if err := gone.Close(); err != nil {
				t.Fatal(err)
			}
			d.Auth = a
		}
	})
	key := s.programKey()
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/api/v1/wallet", ""}, {"POST", "/api/v1/holds", `{"action":"sms","quantity":1}`}, {"POST", "/api/v1/messages", `{"to":"+447400123456","body":"Hi"}`},
	} {
		res := s.browser().program(c.method, c.path, key, c.body)
		if got := res.problem(t); got != (problem{503, "unavailable", ""}) || res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %+v, Retry-After %q", c.path, got, res.Header.Get("Retry-After"))
		}
	}
}
