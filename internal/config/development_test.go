package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ringfence/internal/config"
)

// made returns the secrets that development generated, in one string.
func made(c config.Config) string {
	return strings.Join([]string{c.SessionKeys[0].Reveal(), c.StripeSecretKey.Reveal(), c.StripeWebhookSecrets[0].Reveal()}, "\n")
}

func TestGeneratedSecretsStay(t *testing.T) {
	vars := development(t)
	first := made(load(t, vars))
	if second := made(load(t, vars)); second != first {
		t.Error("a second process has other secrets")
	}
	if made(load(t, development(t))) == first {
		t.Error("two data directories share their secrets")
	}
	// A set one wins, and leaves the kept one alone.
	if got := load(t, with(vars, "STRIPE_SECRET_KEY", "sk_test_mine")).StripeSecretKey.Reveal(); got != "sk_test_mine" {
		t.Errorf("the key is %q", got)
	}
	if made(load(t, vars)) != first {
		t.Error("the secrets changed")
	}
}

func TestConcurrentStartersAgree(t *testing.T) {
	for range 20 {
		vars := development(t)
		results := make([]string, 16)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				<-start
				c, err := config.Load(getenv(vars))
				if err != nil {
					t.Error(err)
					return
				}
				results[i] = made(c)
			})
		}
		close(start)
		wg.Wait()
		for _, r := range results {
			if r != results[0] {
				t.Fatal("two starters have different secrets")
			}
		}
		files, err := os.ReadDir(filepath.Join(vars["RINGFENCE_DATA_DIR"], "secrets"))
		if err != nil || len(files) != 8 {
			t.Fatalf("%d files are left, %v", len(files), err)
		}
	}
}

func TestSecretFilesAreClosed(t *testing.T) {
	vars := development(t)
	load(t, vars)
	dir := filepath.Join(vars["RINGFENCE_DATA_DIR"], "secrets")
	check := func() {
		t.Helper()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
		for _, name := range []string{"RINGFENCE_SESSION_KEYS", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	}
	check()
	before := made(load(t, vars))
	for _, name := range []string{"", "RINGFENCE_SESSION_KEYS", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if made(load(t, vars)) != before {
		t.Error("the secrets changed")
	}
	check()
}

// A data directory that cannot be used is one fault that names what to do, not a failure of each secret.
func TestUnusableDataDir(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := faults(t, with(development(t), "RINGFENCE_DATA_DIR", file))
	if len(got) != 1 || got[0].Variable != "RINGFENCE_DATA_DIR" || !strings.Contains(got[0].Problem, "not a directory") {
		t.Errorf("the faults are %v", got)
	}

	vars := development(t)
	load(t, vars)
	empty := filepath.Join(vars["RINGFENCE_DATA_DIR"], "secrets", "STRIPE_WEBHOOK_SECRET")
	if err := os.Truncate(empty, 0); err != nil {
		t.Fatal(err)
	}
	got = faults(t, vars)
	if len(got) != 1 || got[0].Variable != "RINGFENCE_DATA_DIR" || !strings.Contains(got[0].Problem, "empty") {
		t.Errorf("the faults are %v", got)
	}
	if err := os.WriteFile(empty, []byte("whsec_\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = faults(t, vars)
	if len(got) != 1 || got[0].Variable != "STRIPE_WEBHOOK_SECRET" {
		t.Errorf("a spoilt secret gives %v", got)
	}
}

// Production keeps nothing on disk, and everything set in development needs no directory either.
func TestNothingIsWrittenWithoutNeed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	load(t, with(production(), "RINGFENCE_DATA_DIR", dir))
	load(t, with(production(), "RINGFENCE_ENV", "development", "RINGFENCE_ADDR", "127.0.0.1:8080", "RINGFENCE_DATA_DIR", dir, "STRIPE_SECRET_KEY", "sk_test_x",
		"TWILIO_ACCOUNT_SID", twilioAccount, "TWILIO_AUTH_TOKEN", twilioToken, "VAPI_API_KEY", twilioToken, "VAPI_WEBHOOK_SECRET", twilioToken))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the data directory was made: %v", err)
	}
}
