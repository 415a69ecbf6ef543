package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"ringfence/internal/config"
)

// everyPrint returns v as every way of printing, logging and encoding shows it.
func everyPrint(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%10.3v", "% x"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	fmt.Fprintln(&b, v)
	if j, err := json.MarshalIndent(v, "", " "); err == nil {
		b.Write(j)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("printed", "v", v, slog.Group("g", "v", v), "list", []any{v})
	}
	fmt.Fprintln(&b, fmt.Errorf("wrapped: %v", v), errors.Join(fmt.Errorf("%+v", v)))
	return b.String()
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const canary = "canary-7f3a"
	s := config.NewSecret(canary)
	if s.Reveal() != canary || !s.IsSet() {
		t.Fatal("the secret is lost")
	}
	var unset config.Secret
	if unset.Reveal() != "" || unset.IsSet() || config.NewSecret("").IsSet() {
		t.Error("no secret counts as one")
	}
	type hidden struct {
		inner struct{ s config.Secret } // unexported: fmt calls no methods in here
		list  []config.Secret
		table map[string]config.Secret
	}
	h := hidden{list: []config.Secret{s}, table: map[string]config.Secret{"k": s}}
	h.inner.s = s
	for _, v := range []any{
		s, &s, []config.Secret{s}, map[string]config.Secret{"k": s}, struct{ S config.Secret }{s}, struct{ S any }{s}, h, &h,
	} {
		out := everyPrint(t, v)
		if strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) || strings.Contains(out, fmt.Sprintf("%X", canary)) {
			t.Errorf("%T shows the secret:\n%s", v, out)
		}
	}
	if got := fmt.Sprintf("%v %s %#v %d", s, s, s, s); got != strings.TrimSpace(strings.Repeat("[secret] ", 4)) {
		t.Errorf("prints %q", got)
	}
	if got := s.String() + s.GoString() + s.LogValue().String(); got != strings.Repeat("[secret]", 3) {
		t.Errorf("prints %q", got)
	}
	if j, err := json.Marshal(map[string]any{"s": s}); err != nil || string(j) != `{"s":"[secret]"}` {
		t.Errorf("JSON is %s, %v", j, err)
	}
}

// Canaries in every secret variable show nowhere, whether the configuration is accepted or refused.
func TestConfigNeverShowsSecrets(t *testing.T) {
	t.Chdir(t.TempDir()) // the canaries become data directories too
	canaries := map[string]string{
		"DATABASE_URL":           "postgres://app:canaryDb@db/x",
		"RINGFENCE_SESSION_KEYS": keyHex,
		"SUPABASE_URL":           "https://abc.supabase.co",
		"SUPABASE_ANON_KEY":      "canaryAnon",
		"SUPABASE_JWT_SECRET":    "canaryJwtSecretOfThirtyTwoLetters",
		"STRIPE_SECRET_KEY":      "sk_live_canaryKey",
		"SMTP_URL":               "smtp://canaryUser:canaryPassword@mail.example.com",
		"RINGFENCE_MAIL_FROM":    "no-reply@example.com",
		"STRIPE_WEBHOOK_SECRET":  "whsec_canaryOneXXXXXXXXXXXXXXX,whsec_canaryTwoXXXXXXXXXXXXXXX",
	}
	vars := production()
	maps.Copy(vars, canaries)
	c := load(t, vars)
	decoded := c.SessionKeys[0].Reveal()
	shows := func(out string) bool {
		return strings.Contains(out, "canary") || strings.Contains(out, keyHex) || strings.Contains(out, decoded)
	}
	for _, v := range []any{c, &c, struct{ c config.Config }{c}, c.Masked()} {
		if out := everyPrint(t, v); shows(out) {
			t.Errorf("%T shows a secret:\n%s", v, out)
		}
	}
	// Each canary in each variable, the wrong ones included: a refusal quotes none.
	for _, s := range c.Masked() {
		for _, canary := range []string{"canary", "sk_live_canary-", "whsec_canary", "https://u:canary@h", "smtp://u:canary@h/x", "smtp://u:%canary@h", "canary,canary", "/dev/null/canary"} {
			for _, base := range []map[string]string{production(), development(t)} {
				_, err := config.Load(getenv(with(base, s.Name, canary)))
				if err != nil && shows(everyPrint(t, err)) {
					t.Errorf("%s: the fault shows the value:\n%v", s.Name, err)
				}
			}
		}
	}
}

func TestMasked(t *testing.T) {
	vars := development(t)
	vars["STRIPE_WEBHOOK_SECRET"] = "whsec_5WbX5kEWLlfzsGNjH64I8lOO"
	vars["RINGFENCE_LOG_LEVEL"] = "warn"
	c := load(t, vars)
	got := map[string]config.Setting{}
	for _, s := range c.Masked() {
		if _, twice := got[s.Name]; twice {
			t.Errorf("%s is listed twice", s.Name)
		}
		got[s.Name] = s
	}
	for _, want := range []config.Setting{
		{"RINGFENCE_ENV", "development", config.FromEnvironment},
		{"RINGFENCE_ADDR", "127.0.0.1:8080", config.FromDefault},
		{"RINGFENCE_BASE_URL", "http://127.0.0.1:8080", config.FromDefault},
		{"RINGFENCE_DATA_DIR", vars["RINGFENCE_DATA_DIR"], config.FromEnvironment},
		{"RINGFENCE_SANDBOX_ADDR", "127.0.0.1:8091", config.FromDefault},
		{"RINGFENCE_DRAIN_SECONDS", "0", config.FromDefault},
		{"RINGFENCE_METRICS_ADDR", "", config.Unset},
		{"RINGFENCE_TRUSTED_PROXIES", "", config.Unset},
		{"RINGFENCE_LOG_LEVEL", "warn", config.FromEnvironment},
		{"SENTRY_DSN", "", config.Unset},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "", config.Unset},
		{"OTEL_EXPORTER_OTLP_HEADERS", "", config.Unset},
		{"OTEL_SERVICE_NAME", "ringfence", config.FromDefault},
		{"OTEL_TRACES_SAMPLER_ARG", "1", config.FromDefault},
		{"DATABASE_URL", "", config.Unset},
		{"RINGFENCE_SESSION_KEYS", "[secret]", config.FromGeneration},
		{"RINGFENCE_ENCRYPTION_KEYSET", "[secret]", config.FromGeneration},
		{"RINGFENCE_AUTH", "local", config.FromDefault},
		{"SUPABASE_URL", "", config.Unset},
		{"SUPABASE_ANON_KEY", "", config.Unset},
		{"SUPABASE_JWT_SECRET", "", config.Unset},
		{"RINGFENCE_SIGNUP", "open", config.FromDefault},
		{"RINGFENCE_DEV_USER", "", config.Unset},
		{"RINGFENCE_DEMO_HISTORY", "", config.Unset},
		{"STRIPE_SECRET_KEY", "[secret]", config.FromGeneration},
		{"STRIPE_WEBHOOK_SECRET", "[secret]", config.FromEnvironment},
		{"STRIPE_API_BASE", "http://127.0.0.1:8091", config.FromDefault},
		{"RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com", config.FromDefault},
		{"RINGFENCE_FREEZE_ON_DISPUTE", "true", config.FromDefault},
		{"RINGFENCE_COLLECT_VAT_NUMBER", "true", config.FromDefault},
		{"RINGFENCE_VAT_STATEMENT", c.VATStatement, config.FromDefault},
		{"RINGFENCE_WEBHOOK_ALLOW_PRIVATE", "true", config.FromDefault},
		{"TWILIO_ACCOUNT_SID", c.TwilioAccountSID, config.FromGeneration},
		{"TWILIO_AUTH_TOKEN", "[secret]", config.FromGeneration},
		{"TWILIO_API_BASE", "http://127.0.0.1:8091", config.FromDefault},
		{"RINGFENCE_TWILIO_LOW_BALANCE", "20", config.FromDefault},
		{"RINGFENCE_STRIPE_LOW_BALANCE", "100", config.FromDefault},
		{"TWILIO_FROM_NUMBER", "+15005550006", config.FromDefault},
		{"SMTP_URL", "[secret]", config.FromGeneration},
		{"RINGFENCE_MAIL_FROM", "Ringfence <no-reply@ringfence.example>", config.FromDefault},
		{"VAPI_API_KEY", "[secret]", config.FromGeneration},
		{"VAPI_WEBHOOK_SECRET", "[secret]", config.FromGeneration},
		{"VAPI_CREDENTIAL_ID", "", config.Unset},
		{"VAPI_API_BASE", "http://127.0.0.1:8091/vapi", config.FromDefault},
		{"USD_TO_GBP_RATE", "0.79", config.FromDefault},
		{"RINGFENCE_TOP_UP_MIN_PENCE", "500", config.FromDefault},
		{"RINGFENCE_TOP_UP_MAX_PENCE", "500000", config.FromDefault},
	} {
		if got[want.Name] != want {
			t.Errorf("%+v, want %+v", got[want.Name], want)
		}
		delete(got, want.Name)
	}
	if len(got) != 0 {
		t.Errorf("also listed: %v", got)
	}
	c.Masked()[0].Value = "changed"
	if c.Masked()[0].Value != "development" {
		t.Error("the list can be changed from outside")
	}
}
