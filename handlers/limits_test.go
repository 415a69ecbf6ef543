package handlers_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
)

// TestAPILimits: each credential and each address has its own allowance of requests a second, which says so in its
// headers, and comes back with time. The clock stands still but for the steps.
func TestAPILimits(t *testing.T) {
	var moved atomic.Int64
	start := time.Now()
	s := newSite(t, func(o *options) {
		o.deps = func(d *handlers.Deps) {
			d.APIRate = 3
			d.Now = func() time.Time { return start.Add(time.Duration(moved.Load())) }
		}
	})
	keys := make([]string, 3)
	var org uuid.UUID
	err := s.db.InSystemTx(t.Context(), "a test's organisation", func(ctx context.Context, tx *db.Tx) (err error) {
		org, err = auth.OrganizationByName(ctx, tx, "Harbour Dental")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
		for i := range keys {
			if err == nil {
				keys[i], _, err = s.auth.CreateKey(ctx, tx, org, "Programs", auth.AllScopes, uuid.Nil, audit.System("test"))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		after  time.Duration
		key    string
		status int
		left   string
	}{
		{0, keys[0], 200, `"second";r=2;t=1`},
		{0, keys[0], 200, `"second";r=1;t=1`},
		{0, keys[0], 200, `"second";r=0;t=1`},
		{0, keys[0], 429, `"second";r=0;t=1`}, // the credential's own
		{0, keys[1], 200, `"second";r=2;t=1`}, // another is not concerned
		{0, "garbage", 401, `"second";r=0;t=1`},
		{0, keys[2], 429, `"second";r=0;t=1`}, // six in all: the address's
		{0, "garbage", 429, `"second";r=0;t=1`},
		{400 * time.Millisecond, keys[0], 200, `"second";r=0;t=1`}, // one more of three a second
		{0, keys[0], 429, `"second";r=0;t=1`},
		{20 * time.Second, keys[0], 200, `"second";r=2;t=1`}, // whole again, and no more than whole
	} {
		moved.Add(int64(step.after))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/v1/wallet", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+step.key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != step.status || res.Header.Get("RateLimit") != step.left || (res.Header.Get("Retry-After") == "1") != (step.status == 429) {
			t.Errorf("request %d: %s, RateLimit %s, Retry-After %q; want %d and %s",
				i+1, res.Status, res.Header.Get("RateLimit"), res.Header.Get("Retry-After"), step.status, step.left)
		}
	}
}
