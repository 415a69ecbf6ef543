package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/config"
)

// Two good session keys, as base64 and as hex.
const (
	keyBase64 = "q0Yv0oQmQ8T5Wf2kq7l1m3Zb9Xc4Rd6Se8Uf0Vg2Wh4="
	keyHex    = "8f1c0b6de2a94753b1f7c8d905e36a2b4d7e91f08c53a6b2ef104967d8ca35be"
)

func getenv(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// keyset is a good one, of a single key.
const keyset = "CKr+jYkGEmQKWAowdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUuY3J5cHRvLnRpbmsuQWVzR2NtS2V5EiIaIJaWtca91vE6CeF/JZlCpRGnHIOuCO+4evALwhOFp0uoGAEQARiq/o2JBiAB"

// production returns a complete and correct environment.
func production() map[string]string {
	return map[string]string{
		"RINGFENCE_ENV":          "production",
		"RINGFENCE_ADDR":         ":8080",
		"RINGFENCE_BASE_URL":     "https://wallet.example.com",
		"DATABASE_URL":           "postgres://app:pw@db.internal:5432/ringfence?sslmode=verify-full",
		"RINGFENCE_SESSION_KEYS": keyBase64, "RINGFENCE_ENCRYPTION_KEYSET": keyset,
		"STRIPE_SECRET_KEY":     "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
		"STRIPE_WEBHOOK_SECRET": "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH",
		"USD_TO_GBP_RATE":       "0.79",
	}
}

// What texts need.
const (
	twilioAccount = "AC00112233445566778899aabbccddeeff"
	twilioToken   = "0123456789abcdef0123456789abcdef"
)

// withAgents is production with all of Vapi's.
func withAgents() map[string]string {
	return with(production(), "VAPI_API_KEY", "7420f27a-30fd-4f49-a995-5549ae7cc00d", "VAPI_WEBHOOK_SECRET", "correct-horse-battery-staple")
}

// withTexts is production with all of Twilio's.
func withTexts() map[string]string {
	return with(production(), "TWILIO_ACCOUNT_SID", twilioAccount, "TWILIO_AUTH_TOKEN", twilioToken, "TWILIO_FROM_NUMBER", "+447400123456")
}

func development(t *testing.T) map[string]string {
	return map[string]string{"RINGFENCE_ENV": "development", "RINGFENCE_DATA_DIR": t.TempDir() + "/data"}
}

// with returns vars with pairs of name and value changed.
func with(vars map[string]string, pairs ...string) map[string]string {
	vars = maps.Clone(vars)
	for pair := range slices.Chunk(pairs, 2) {
		vars[pair[0]] = pair[1]
	}
	return vars
}

func load(t *testing.T, vars map[string]string) config.Config {
	t.Helper()
	c, err := config.Load(getenv(vars))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// faults loads vars, which must be refused, and returns the faults.
func faults(t *testing.T, vars map[string]string) []config.Fault {
	t.Helper()
	c, err := config.Load(getenv(vars))
	refused, ok := errors.AsType[*config.Error](err)
	if !ok {
		t.Fatalf("Load gave %v, want a *config.Error", err)
	}
	if c.Env != "" || c.StripeSecretKey.IsSet() {
		t.Error("Load handed out a configuration beside its error")
	}
	return refused.Faults
}

func TestProduction(t *testing.T) {
	c := load(t, production())
	check := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	check("Development", c.Development(), false)
	check("Addr", c.Addr, ":8080")
	check("BaseURL", c.BaseURL, "https://wallet.example.com")
	check("HTTPS", c.HTTPS(), true)
	check("DataDir", c.DataDir, ".ringfence")
	check("SandboxAddr", c.SandboxAddr, "")
	check("MetricsAddr", c.MetricsAddr, "")
	check("LogLevel", c.LogLevel, slog.LevelInfo)
	check("telemetry", c.SentryDSN.IsSet() || c.TraceEndpoint != "" || c.TraceHeaders.IsSet(), false)
	check("Drain", c.Drain.Duration(), 10*time.Second)
	check("TraceService", c.TraceService, "ringfence")
	check("TraceShare", int64(c.TraceShare), 1_000_000)
	collected := load(t, with(production(), "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/otlp/", "OTEL_TRACES_SAMPLER_ARG", "0.25", "SENTRY_DSN", "https://abc@o1.sentry.example/42"))
	check("TraceEndpoint", collected.TraceEndpoint, "http://collector:4318/otlp")
	check("a share", int64(collected.TraceShare), 250_000)
	check("SentryDSN", collected.SentryDSN.Reveal(), "https://abc@o1.sentry.example/42")
	check("Auth", c.Auth, config.AuthLocal)
	check("StripeAPIBase", c.StripeAPIBase, "https://api.stripe.com")
	check("CheckoutHosts", c.CheckoutHosts, []string{"checkout.stripe.com"})
	check("CollectVATNumber", c.CollectVATNumber, true)
	check("VATStatement", c.VATStatement, "Prices are in pounds and include any VAT that is due. A top-up is a prepayment: no VAT is added to it.")
	check("mail", c.SMTPURL.IsSet() || c.MailFrom != "" || c.LocalMailAddr() != "", false)
	check("USDToGBP", int64(c.USDToGBP), 790000)
	check("TopUpMinPence", c.TopUpMinPence, 500)
	check("TopUpMaxPence", c.TopUpMaxPence, 500000)
	check("Livemode", c.Livemode(), true)
	check("the Stripe key", c.StripeSecretKey.Reveal(), "sk_live_4eC39HqLyjWDarjtT1zdp7dc")
	check("the database", strings.HasPrefix(c.DatabaseURL.Reveal(), "postgres://app:pw@"), true)
	check("session keys", len(c.SessionKeys), 1)
	check("the session key's bytes", len(c.SessionKeys[0].Reveal()), 32)
}

func TestDevelopment(t *testing.T) {
	c := load(t, development(t))
	if !c.Development() || c.HTTPS() || c.Livemode() {
		t.Error("development is not recognised")
	}
	if c.Addr != "127.0.0.1:8080" || c.BaseURL != "http://127.0.0.1:8080" {
		t.Errorf("serves %s at %s", c.Addr, c.BaseURL)
	}
	if c.SandboxAddr != "127.0.0.1:8091" || c.StripeAPIBase != "http://127.0.0.1:8091" {
		t.Errorf("the sandbox is at %s, Stripe at %s", c.SandboxAddr, c.StripeAPIBase)
	}
	if c.DatabaseURL.IsSet() {
		t.Error("the embedded database has an address")
	}
	if c.USDToGBP != 790000 {
		t.Errorf("the rate is %d", c.USDToGBP)
	}
	if !strings.HasPrefix(c.StripeSecretKey.Reveal(), "sk_test_") || len(c.StripeWebhookSecrets) != 1 || len(c.SessionKeys) != 1 {
		t.Error("secrets were not made")
	}
	moved := load(t, with(development(t), "RINGFENCE_ADDR", "127.0.0.1:9000", "RINGFENCE_SANDBOX_ADDR", "127.0.0.1:9001"))
	if moved.BaseURL != "http://127.0.0.1:9000" || moved.StripeAPIBase != "http://127.0.0.1:9001" {
		t.Errorf("other ports give %s and %s", moved.BaseURL, moved.StripeAPIBase)
	}
}

func TestAcceptedValues(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		see         func(config.Config) any
		want        any
	}{
		{"RINGFENCE_BASE_URL", " https://Wallet.Example.com/ ", func(c config.Config) any { return c.BaseURL }, "https://wallet.example.com"},
		{"RINGFENCE_BASE_URL", "https://wallet.example.com:443", func(c config.Config) any { return c.BaseURL }, "https://wallet.example.com"},
		{"RINGFENCE_BASE_URL", "https://wallet.example.com:8443", func(c config.Config) any { return c.BaseURL }, "https://wallet.example.com:8443"},
		{"RINGFENCE_BASE_URL", "https://[2001:db8::1]:8443", func(c config.Config) any { return c.BaseURL }, "https://[2001:db8::1]:8443"},
		{"RINGFENCE_ADDR", "0.0.0.0:443", func(c config.Config) any { return c.Addr }, "0.0.0.0:443"},
		{"RINGFENCE_METRICS_ADDR", "10.0.0.1:9100", func(c config.Config) any { return c.MetricsAddr }, "10.0.0.1:9100"},
		{"DATABASE_URL", "host=/run/pg dbname=x", func(c config.Config) any { return c.DatabaseURL.Reveal() }, "host=/run/pg dbname=x"},
		{"DATABASE_URL", "postgres:///x?host=/run/pg", func(c config.Config) any { return c.DatabaseURL.Reveal() }, "postgres:///x?host=/run/pg"},
		{"RINGFENCE_SESSION_KEYS", keyHex + " , " + keyBase64, func(c config.Config) any { return len(c.SessionKeys[0].Reveal()) + len(c.SessionKeys[1].Reveal()) }, 64},
		{"RINGFENCE_SESSION_KEYS", strings.NewReplacer("=", "", "+", "-", "/", "_").Replace("+/" + keyBase64[2:]), func(c config.Config) any { return len(c.SessionKeys[0].Reveal()) }, 32},
		{"STRIPE_SECRET_KEY", "rk_live_4eC39HqLyj", func(c config.Config) any { return c.Livemode() }, true},
		{"STRIPE_SECRET_KEY", "rk_test_4eC39HqLyj", func(c config.Config) any { return c.Livemode() }, false},
		{"STRIPE_SECRET_KEY", "sk_test_4eC39HqLyj", func(c config.Config) any { return c.Livemode() }, false},
		{"STRIPE_WEBHOOK_SECRET", "whsec_5WbX5kEWLlfzsGNjH64I8lOO, whsec_6WbX5kEWLlfzsGNjH64I8lOO", func(c config.Config) any { return c.StripeWebhookSecrets[1].Reveal() }, "whsec_6WbX5kEWLlfzsGNjH64I8lOO"},
		{"STRIPE_API_BASE", "https://proxy.example.com/", func(c config.Config) any { return c.StripeAPIBase }, "https://proxy.example.com"},
		{"TWILIO_API_BASE", "https://proxy.example.com/", func(c config.Config) any { return c.TwilioAPIBase }, "https://proxy.example.com"},
		{"VAPI_API_BASE", "https://Proxy.example.com/vapi/", func(c config.Config) any { return c.VapiAPIBase }, "https://proxy.example.com/vapi"},
		{"VAPI_API_BASE", "https://api.vapi.ai", func(c config.Config) any { return c.VapiAPIBase }, "https://api.vapi.ai"},
		{"RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com, Pay.Example.com", func(c config.Config) any { return c.CheckoutHosts }, []string{"checkout.stripe.com", "pay.example.com"}},
		{"RINGFENCE_WEBHOOK_ALLOW_PRIVATE", "", func(c config.Config) any { return c.WebhookAllowPrivate }, false},
		{"RINGFENCE_WEBHOOK_ALLOW_PRIVATE", "true", func(c config.Config) any { return c.WebhookAllowPrivate }, true},
		{"RINGFENCE_COLLECT_VAT_NUMBER", "false", func(c config.Config) any { return c.CollectVATNumber }, false},
		{"RINGFENCE_VAT_STATEMENT", " Prices exclude VAT, which is added: £1 costs £1.20. ", func(c config.Config) any { return c.VATStatement }, "Prices exclude VAT, which is added: £1 costs £1.20."},
		{"RINGFENCE_TRUSTED_PROXIES", "10.1.2.3/8, 2001:db8::/32", func(c config.Config) any { return c.TrustedProxies }, []string{"10.0.0.0/8", "2001:db8::/32"}},
		{"RINGFENCE_LOG_LEVEL", "debug", func(c config.Config) any { return c.LogLevel }, slog.LevelDebug},
		{"USD_TO_GBP_RATE", "0.812345", func(c config.Config) any { return int64(c.USDToGBP) }, 812345},
		{"USD_TO_GBP_RATE", "9.999999", func(c config.Config) any { return int64(c.USDToGBP) }, 9999999},
		{"RINGFENCE_TOP_UP_MIN_PENCE", "499999", func(c config.Config) any { return c.TopUpMinPence }, 499999},
		{"RINGFENCE_TOP_UP_MAX_PENCE", "10000000", func(c config.Config) any { return c.TopUpMaxPence }, 10000000},
	} {
		c := load(t, with(production(), tc.name, tc.value))
		if got := tc.see(c); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s=%q gives %v, want %v", tc.name, tc.value, got, tc.want)
		}
	}
	c := load(t, with(production(), "RINGFENCE_AUTH", "supabase", "SUPABASE_URL", "https://abc.supabase.co/", "SUPABASE_ANON_KEY", "anon",
		"SUPABASE_JWT_SECRET", strings.Repeat("j", 32)))
	if c.Auth != config.AuthSupabase || c.SupabaseURL != "https://abc.supabase.co" || c.SupabaseAnonKey.Reveal() != "anon" || !c.SupabaseJWTSecret.IsSet() {
		t.Error("the Supabase settings were not read")
	}
	dev := load(t, with(development(t), "RINGFENCE_ADDR", "localhost:8080", "RINGFENCE_SANDBOX_ADDR", "[::1]:8091",
		"RINGFENCE_BASE_URL", "http://phone.example:8080", "SUPABASE_URL", "http://127.0.0.1:54321"))
	if dev.BaseURL != "http://phone.example:8080" || dev.StripeAPIBase != "http://[::1]:8091" {
		t.Errorf("development reads %s and %s", dev.BaseURL, dev.StripeAPIBase)
	}
}

// Every fault alone: one changed value, one fault, named and explained.
func TestEachFaultAlone(t *testing.T) {
	prod, dev := production(), development(t)
	texts := withTexts()
	mail := with(production(), "SMTP_URL", "smtp://mail.example.com", "RINGFENCE_MAIL_FROM", "Ringfence <no-reply@example.com>")
	agents := withAgents()
	for _, tc := range []struct {
		vars              map[string]string
		name, value, says string
	}{
		{prod, "RINGFENCE_ENV", "prod", "not a known environment"},
		{prod, "RINGFENCE_ENV", "Production", "not a known environment"},
		{prod, "RINGFENCE_ADDR", "8080", "not an address"},
		{prod, "RINGFENCE_ADDR", "127.0.0.1:0", "not an address"},
		{prod, "RINGFENCE_ADDR", "127.0.0.1:65536", "not an address"},
		{prod, "RINGFENCE_ADDR", "127.0.0.1:http", "not an address"},
		{prod, "RINGFENCE_ADDR", "exa mple:80", "not an address"},
		{dev, "RINGFENCE_ADDR", "0.0.0.0:8080", "not a loopback"},
		{dev, "RINGFENCE_ADDR", ":8080", "not a loopback"},
		{dev, "RINGFENCE_ADDR", "192.0.2.1:8080", "not a loopback"},
		{dev, "RINGFENCE_SANDBOX_ADDR", "0.0.0.0:8091", "not a loopback"},
		{dev, "RINGFENCE_SANDBOX_ADDR", "127.0.0.1:8080", "same address as RINGFENCE_ADDR"},
		{dev, "RINGFENCE_METRICS_ADDR", "127.0.0.1:8091", "same address as RINGFENCE_SANDBOX_ADDR"},
		{prod, "RINGFENCE_METRICS_ADDR", "metrics", "not an address"},
		{prod, "RINGFENCE_SANDBOX_ADDR", "127.0.0.1:8091", "development feature"},
		{prod, "SENTRY_DSN", "https://sentry.example.com/42", "not a DSN"},
		{prod, "SENTRY_DSN", "https://key@sentry.example.com/project", "not a DSN"},
		{prod, "SENTRY_DSN", "http://key@127.0.0.1:9000/42", "not https"},
		{dev, "SENTRY_DSN", "http://key@sentry.example.com/42", "not https"},
		{prod, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "not a plain URL"},
		{prod, "OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317", "not a plain URL"},
		{prod, "OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:pw@collector.example.com", "not a plain URL"},
		{with(prod, "OTEL_EXPORTER_OTLP_HEADERS", "api-key=x"), "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example.com:4318", "not https"},
		{with(prod, "OTEL_EXPORTER_OTLP_HEADERS", "api-key=x"), "OTEL_EXPORTER_OTLP_ENDPOINT", "", "not set"},
		{with(prod, "OTEL_EXPORTER_OTLP_ENDPOINT", "https://otlp.example.com"), "OTEL_EXPORTER_OTLP_HEADERS", "planted", "not a list of headers"},
		{prod, "RINGFENCE_DRAIN_SECONDS", "21", "not a time that a stop may wait"},
		{prod, "RINGFENCE_DRAIN_SECONDS", "10s", "not a time that a stop may wait"},
		{prod, "OTEL_TRACES_SAMPLER_ARG", "1.1", "not a share"},
		{prod, "OTEL_TRACES_SAMPLER_ARG", "-0.5", "not a share"},
		{prod, "OTEL_TRACES_SAMPLER_ARG", "half", "not a share"},
		{prod, "RINGFENCE_BASE_URL", "", "not set"},
		{prod, "RINGFENCE_BASE_URL", "http://wallet.example.com", "not https"},
		{prod, "RINGFENCE_BASE_URL", "http://127.0.0.1:8080", "not https"},
		{prod, "RINGFENCE_BASE_URL", "wallet.example.com", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com/app", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com?x=1", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com/?", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com#top", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://me:pw@wallet.example.com", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com:", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com:0", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://wallet.example.com:99999", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "ftp://wallet.example.com", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https://exa_mple.com", "not a plain URL"},
		{prod, "RINGFENCE_BASE_URL", "https:wallet.example.com", "not a plain URL"},
		{dev, "RINGFENCE_BASE_URL", "javascript:alert(1)", "not a plain URL"},
		{prod, "RINGFENCE_TRUSTED_PROXIES", "10.0.0.1", "not an address range"},
		{prod, "RINGFENCE_TRUSTED_PROXIES", "10.0.0.0/8,", "not an address range"},
		{prod, "RINGFENCE_TRUSTED_PROXIES", "10.0.0.0/33", "not an address range"},
		{prod, "RINGFENCE_TRUSTED_PROXIES", "0.0.0.0/0", "every address"},
		{prod, "RINGFENCE_LOG_LEVEL", "loud", "not a log level"},
		{prod, "DATABASE_URL", "", "not set"},
		{prod, "DATABASE_URL", "mysql://u:p@h/d", "not a Postgres address"},
		{prod, "DATABASE_URL", "ringfence", "not a Postgres address"},
		{prod, "DATABASE_URL", "postgres://", "not a Postgres address"},
		{prod, "DATABASE_URL", "postgres://u:p%zz@h/d", "not a Postgres address"},
		{dev, "DATABASE_URL", "ringfence", "not a Postgres address"},
		{prod, "RINGFENCE_SESSION_KEYS", "", "not set"},
		{prod, "RINGFENCE_SESSION_KEYS", "   ", "not set"},
		{prod, "RINGFENCE_SESSION_KEYS", "correct horse battery staple!", "neither base64 nor hex"},
		{prod, "RINGFENCE_SESSION_KEYS", "c2hvcnQ=", "shorter than 32 bytes"},
		{prod, "RINGFENCE_SESSION_KEYS", keyHex[:62], "shorter than 32 bytes"},
		{prod, "RINGFENCE_SESSION_KEYS", strings.Repeat("00", 32), "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", strings.Repeat("A", 43) + "=", "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", strings.Repeat("0123456789abcdef", 4), "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", strings.Repeat(keyHex[:32], 2), "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", "0001000001010001010001010000000102010001000000010101000100010002", "easy to guess"},
		{prod, "RINGFENCE_SESSION_KEYS", keyBase64 + ",", "entry 2 of 2 is empty"},
		{prod, "RINGFENCE_SESSION_KEYS", keyBase64 + ",c2hvcnQ=", "entry 2 of 2 is shorter"},
		{dev, "RINGFENCE_SESSION_KEYS", "c2hvcnQ=", "shorter than 32 bytes"},
		{prod, "RINGFENCE_ENCRYPTION_KEYSET", "", "not set"},
		{prod, "RINGFENCE_ENCRYPTION_KEYSET", "not base64!", "not base64"},
		{prod, "RINGFENCE_ENCRYPTION_KEYSET", keyBase64, "not a keyset of Tink's"},
		{dev, "RINGFENCE_ENCRYPTION_KEYSET", keyset[:40], "not a keyset of Tink's"},
		{prod, "RINGFENCE_AUTH", "ldap", "not a known sign-in provider"},
		{prod, "SUPABASE_URL", "http://abc.supabase.co", "not https"},
		{prod, "SUPABASE_URL", "abc", "not a plain URL"},
		{prod, "SUPABASE_JWT_SECRET", "short", "shorter than 32"},
		{prod, "RINGFENCE_SIGNUP", "maybe", "neither open nor closed"},
		{prod, "RINGFENCE_DEV_USER", "owner@harbour.example", "development feature"},
		{prod, "RINGFENCE_DEMO_HISTORY", "true", "development feature"},
		{dev, "RINGFENCE_DEV_USER", "Owner <owner@harbour.example>", "not an email address"},
		{prod, "STRIPE_SECRET_KEY", "", "not set"},
		{prod, "STRIPE_SECRET_KEY", "pk_live_4eC39HqLyj", "publishable"},
		{prod, "STRIPE_SECRET_KEY", "sk_live_", "not a Stripe secret key"},
		{prod, "STRIPE_SECRET_KEY", "secret", "not a Stripe secret key"},
		{prod, "STRIPE_SECRET_KEY", "sk_live_4eC39 HqLyj", "not a Stripe secret key"},
		{dev, "STRIPE_SECRET_KEY", "sk_live_4eC39HqLyj", "live key"},
		{dev, "STRIPE_SECRET_KEY", "rk_live_4eC39HqLyj", "live key"},
		{prod, "STRIPE_WEBHOOK_SECRET", "", "not set"},
		{prod, "STRIPE_WEBHOOK_SECRET", "whsec_", "not a webhook signing secret"},
		{prod, "STRIPE_WEBHOOK_SECRET", "whsec_tooshort", "not a webhook signing secret"},
		{prod, "STRIPE_WEBHOOK_SECRET", strings.Repeat("x", 40), "not a webhook signing secret"},
		{prod, "STRIPE_WEBHOOK_SECRET", ",whsec_5WbX5kEWLlfzsGNjH64I8lOO", "entry 1 of 2 is empty"},
		{prod, "STRIPE_WEBHOOK_SECRET", "whsec_5WbX5kEWLlfzsGNjH64I8lOO,whsec_", "entry 2 of 2 is not a webhook"},
		{dev, "STRIPE_WEBHOOK_SECRET", "whsec_", "not a webhook signing secret"},
		{prod, "STRIPE_API_BASE", "http://127.0.0.1:8091", "not https"},
		{prod, "STRIPE_API_BASE", "https://api.stripe.com/v1", "not a plain URL"},
		{dev, "STRIPE_API_BASE", "http://stripe.example", "not https"},
		{prod, "RINGFENCE_COLLECT_VAT_NUMBER", "perhaps", "neither true nor false"},
		{prod, "RINGFENCE_WEBHOOK_ALLOW_PRIVATE", "10.0.0.0/8", "neither true nor false"},
		{prod, "RINGFENCE_VAT_STATEMENT", "two\nlines", "not a sentence on one line"},
		{prod, "RINGFENCE_VAT_STATEMENT", strings.Repeat("x", 401), "not a sentence on one line"},
		{texts, "TWILIO_ACCOUNT_SID", "SK00112233445566778899aabbccddeeff", "not an account's id"},
		{texts, "TWILIO_ACCOUNT_SID", "AC0011", "not an account's id"},
		{texts, "TWILIO_AUTH_TOKEN", "0123456789abcde", "not an auth token"},
		{texts, "TWILIO_AUTH_TOKEN", "0123456789abcdef 123456789abcdef", "not an auth token"},
		{texts, "TWILIO_FROM_NUMBER", "07400123456", "not a phone number"},
		{texts, "TWILIO_FROM_NUMBER", "+44 7400 123456", "not a phone number"},
		{texts, "TWILIO_ACCOUNT_SID", "", "others of Twilio's are"},
		{texts, "TWILIO_AUTH_TOKEN", "", "others of Twilio's are"},
		{texts, "TWILIO_API_BASE", "http://127.0.0.1:8091", "not https"},
		{prod, "TWILIO_API_BASE", "https://api.twilio.com/2010-04-01", "not a plain URL"},
		{dev, "TWILIO_API_BASE", "http://twilio.example", "not https"},
		{agents, "VAPI_API_KEY", "short", "not an API key"},
		{agents, "VAPI_API_KEY", "7420f27a 30fd 4f49 a995", "not an API key"},
		{agents, "VAPI_WEBHOOK_SECRET", "short", "too weak"},
		{agents, "VAPI_API_KEY", "", "others of Vapi's are"},
		{agents, "VAPI_WEBHOOK_SECRET", "", "others of Vapi's are"},
		{prod, "VAPI_CREDENTIAL_ID", "a b", "not the id of a credential"},
		{prod, "VAPI_API_BASE", "http://127.0.0.1:8091/vapi", "not https"},
		{prod, "VAPI_API_BASE", "https://api.vapi.ai/../x", "not a plain URL"},
		{prod, "VAPI_API_BASE", "https://api.vapi.ai/x?y", "not a plain URL"},
		{prod, "VAPI_API_BASE", "/vapi", "not a plain URL"},
		{dev, "VAPI_API_BASE", "http://vapi.example/vapi", "not https"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "https://checkout.stripe.com", "entry 1 of 1 is not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com:443", "not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "*.stripe.com", "not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com/c", "not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com.", "not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "127.0.0.1", "not a plain host name"},
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "chеckout.stripe.com", "not a plain host name"}, // a Cyrillic е
		{prod, "RINGFENCE_CHECKOUT_HOSTS", "checkout.stripe.com,", "entry 2 of 2"},
		{mail, "RINGFENCE_MAIL_FROM", "", "not set"},
		{mail, "RINGFENCE_MAIL_FROM", "Ringfence", "not a sender"},
		{mail, "RINGFENCE_MAIL_FROM", "a@example.com, b@example.com", "not a sender"},
		{prod, "RINGFENCE_MAIL_FROM", "Ringfence", "not a sender"},
		{mail, "SMTP_URL", "mail.example.com:587", "not the address"},
		{mail, "SMTP_URL", "mail.example.com", "not the address"},
		{mail, "SMTP_URL", "https://mail.example.com", "neither smtp"},
		{mail, "SMTP_URL", "smtp:mail.example.com", "not the address"},
		{mail, "SMTP_URL", "smtp://mail.example.com/inbox", "not the address"},
		{mail, "SMTP_URL", "smtp://mail.example.com?tls=off", "not the address"},
		{mail, "SMTP_URL", "smtp://user:pa%ss@mail.example.com", "not the address"},
		{mail, "SMTP_URL", "smtp://", "no usable host"},
		{mail, "SMTP_URL", "smtp://exa_mple.com", "no usable host"},
		{mail, "SMTP_URL", "smtp://mail.example.com:", "no usable host"},
		{mail, "SMTP_URL", "smtp://mail.example.com:0", "no usable host"},
		{mail, "SMTP_URL", "smtp://user@mail.example.com", "user without a password"},
		{mail, "SMTP_URL", "smtp://:password@mail.example.com", "user without a password"},
		{mail, "SMTP_URL", "smtp://us%0d%0aer:password@mail.example.com", "no mail server can take"},
		{dev, "SMTP_URL", "smtp://localhost:8080", "address of RINGFENCE_ADDR"},
		{dev, "SMTP_URL", "smtp://127.0.0.1:8091", "address of RINGFENCE_SANDBOX_ADDR"},
		{mail, "SMTP_URL", "smtp://127.0.0.1:8080", "address of RINGFENCE_ADDR"},
		{prod, "USD_TO_GBP_RATE", "", "not set"},
		{prod, "USD_TO_GBP_RATE", "79", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "10", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "0", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "-0.79", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "0.7900001", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "1e-1", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "1e999999999", "not a usable rate"},
		{prod, "USD_TO_GBP_RATE", "0,79", "not a usable rate"},
		{prod, "RINGFENCE_TOP_UP_MIN_PENCE", "£5", "not a whole number"},
		{prod, "RINGFENCE_TOP_UP_MIN_PENCE", "5.00", "not a whole number"},
		{prod, "RINGFENCE_TOP_UP_MIN_PENCE", "0", "not above zero"},
		{prod, "RINGFENCE_TOP_UP_MIN_PENCE", "-500", "not above zero"},
		{prod, "RINGFENCE_TOP_UP_MIN_PENCE", "500000", "not below RINGFENCE_TOP_UP_MAX_PENCE"},
		{prod, "RINGFENCE_TOP_UP_MAX_PENCE", "10000001", "above 10000000 pence"},
		{prod, "RINGFENCE_TOP_UP_MAX_PENCE", "99999999999999999999", "not a whole number"},
	} {
		got := faults(t, with(tc.vars, tc.name, tc.value))
		if len(got) != 1 || got[0].Variable != tc.name || !strings.Contains(got[0].Problem, tc.says) {
			t.Errorf("%s=%q: %v; want one fault of it that says %q", tc.name, tc.value, got, tc.says)
			continue
		}
		if !strings.HasSuffix(got[0].Remedy, ".") && !strings.HasPrefix(got[0].Remedy, "Make one with: ") {
			t.Errorf("%s=%q: %q does not say what to do", tc.name, tc.value, got[0].Remedy)
		}
	}
}

func TestSupabaseNeedsItsAddressAndKey(t *testing.T) {
	got := faults(t, with(production(), "RINGFENCE_AUTH", "supabase"))
	if len(got) != 2 || got[0].Variable != "SUPABASE_URL" || got[1].Variable != "SUPABASE_ANON_KEY" {
		t.Errorf("the faults are %v", got)
	}
}

// Nothing set at all: the one thing to say is which environment it is, not what production would want.
func TestUnsetEnvironment(t *testing.T) {
	got := faults(t, nil)
	if len(got) != 1 || got[0].Variable != "RINGFENCE_ENV" || got[0].Problem != "is not set" {
		t.Errorf("the faults are %v", got)
	}
	// What is set is still looked at.
	got = faults(t, map[string]string{"STRIPE_WEBHOOK_SECRET": "whsec_"})
	if len(got) != 2 || got[1].Variable != "STRIPE_WEBHOOK_SECRET" {
		t.Errorf("the faults are %v", got)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	vars := map[string]string{
		"RINGFENCE_ENV": "production", "RINGFENCE_ADDR": "x", "RINGFENCE_SANDBOX_ADDR": "127.0.0.1:1", "RINGFENCE_METRICS_ADDR": "x",
		"RINGFENCE_TRUSTED_PROXIES": "x", "RINGFENCE_LOG_LEVEL": "x", "DATABASE_URL": "x", "RINGFENCE_SESSION_KEYS": "c2hvcnQ=,,00", "RINGFENCE_AUTH": "x",
		"SMTP_URL":                    "x",
		"RINGFENCE_ENCRYPTION_KEYSET": "x",
		"SUPABASE_URL":                "x", "SUPABASE_JWT_SECRET": "x", "STRIPE_SECRET_KEY": "x", "STRIPE_API_BASE": "x", "RINGFENCE_CHECKOUT_HOSTS": "x:1",
		"USD_TO_GBP_RATE": "x", "RINGFENCE_TOP_UP_MIN_PENCE": "x", "RINGFENCE_TOP_UP_MAX_PENCE": "0",
	}
	want := []string{
		"RINGFENCE_ADDR", "RINGFENCE_BASE_URL", "RINGFENCE_SANDBOX_ADDR", "RINGFENCE_METRICS_ADDR", "RINGFENCE_TRUSTED_PROXIES", "RINGFENCE_LOG_LEVEL",
		"DATABASE_URL", "RINGFENCE_SESSION_KEYS", "RINGFENCE_SESSION_KEYS", "RINGFENCE_SESSION_KEYS", "RINGFENCE_ENCRYPTION_KEYSET", "RINGFENCE_AUTH",
		"SUPABASE_URL", "SUPABASE_JWT_SECRET",
		"STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_BASE", "RINGFENCE_CHECKOUT_HOSTS", "SMTP_URL",
		"RINGFENCE_MAIL_FROM", "USD_TO_GBP_RATE",
		"RINGFENCE_TOP_UP_MIN_PENCE", "RINGFENCE_TOP_UP_MAX_PENCE",
	}
	var got []string
	all := faults(t, vars)
	for _, f := range all {
		got = append(got, f.Variable)
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults of\n%v\nwant\n%v", got, want)
	}
	text := (&config.Error{Faults: all}).Error()
	for i, f := range all {
		if line := fmt.Sprintf("\n  %d. %s %s. %s", i+1, f.Variable, f.Problem, f.Remedy); !strings.Contains(text, line) {
			t.Errorf("%q is missing from\n%s", line, text)
		}
	}
	if lines := strings.Count(text, "\n"); lines != len(all) || !strings.HasPrefix(text, "the configuration has 23 faults:") {
		t.Errorf("the report has %d lines for %d faults:\n%s", lines, len(all), text)
	}
}

func TestTrustedNetworks(t *testing.T) {
	c := load(t, with(production(), "RINGFENCE_TRUSTED_PROXIES", "10.0.0.0/8,2001:db8::/32"))
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "::ffff:10.0.0.1": true, "2001:db8::1": true, "11.0.0.1": false, "::1": false, "fe80::1%eth0": false,
	} {
		if got := c.TrustedProxies.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is trusted: %v, want %v", addr, got, want)
		}
	}
	if config.Networks(nil).Contains(netip.MustParseAddr("127.0.0.1")) {
		t.Error("nobody's list trusts somebody")
	}
}

// A user without a sign-in exists on this machine alone: in production, and where others could reach us, nothing starts.
func TestDevUser(t *testing.T) {
	dev := with(development(t), "RINGFENCE_DEV_USER", "owner@harbour.example")
	if c := load(t, dev); c.DevUser != "owner@harbour.example" {
		t.Errorf("the user is %q", c.DevUser)
	}
	for _, addr := range []string{"0.0.0.0:8080", ":8080", "192.0.2.1:8080", "[::]:8080"} {
		if got := faults(t, with(dev, "RINGFENCE_ADDR", addr)); len(got) != 1 || got[0].Variable != "RINGFENCE_ADDR" {
			t.Errorf("on %s: %v", addr, got)
		}
	}
	if got := faults(t, with(production(), "RINGFENCE_DEV_USER", "owner@harbour.example")); len(got) != 1 || got[0].Variable != "RINGFENCE_DEV_USER" {
		t.Errorf("in production: %v", got)
	}
}

// A secret without a project would check signatures and believe any issuer.
func TestJWTSecretNeedsItsProject(t *testing.T) {
	secret := strings.Repeat("j", 32)
	if got := faults(t, with(production(), "SUPABASE_JWT_SECRET", secret)); len(got) != 1 || got[0].Variable != "SUPABASE_URL" {
		t.Errorf("alone: %v", got)
	}
	load(t, with(production(), "SUPABASE_JWT_SECRET", secret, "SUPABASE_URL", "https://abc.supabase.co"))
}

// So are Vapi's; without them phone agents are off.
func TestVapiIsOptional(t *testing.T) {
	if c := load(t, production()); c.VapiAPIKey.IsSet() || c.VapiWebhookSecret.IsSet() {
		t.Error("production without Vapi has some of it")
	}
	if c := load(t, withAgents()); c.VapiAPIBase != "https://api.vapi.ai" || c.VapiWebhookSecret.Reveal() != "correct-horse-battery-staple" {
		t.Errorf("%s", c.VapiAPIBase)
	}
	for _, name := range []string{"VAPI_API_KEY", "VAPI_WEBHOOK_SECRET"} {
		if got := faults(t, with(production(), name, withAgents()[name])); len(got) != 1 {
			t.Errorf("with %s alone: %v, want a fault for the other", name, got)
		}
	}
}

// Twilio's settings are all there or none is; without them texts are off, and that is no fault.
func TestTwilioIsOptional(t *testing.T) {
	if c := load(t, production()); c.TwilioAccountSID != "" || c.TwilioAuthToken.IsSet() || c.TwilioFromNumber != "" {
		t.Error("production without Twilio has some of it")
	}
	c := load(t, withTexts())
	if c.TwilioAPIBase != "https://api.twilio.com" || c.TwilioFromNumber != "+447400123456" || c.TwilioAuthToken.Reveal() != twilioToken {
		t.Errorf("%s, %s", c.TwilioAPIBase, c.TwilioFromNumber)
	}
	for _, name := range []string{"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"} {
		got := faults(t, with(production(), name, withTexts()[name]))
		if len(got) != 1 {
			t.Errorf("with %s alone: %v, want a fault for the other", name, got)
		}
	}
}

// Mail is optional in production; development sends to a port of its own, which stays.
func TestMail(t *testing.T) {
	for given, want := range map[string]string{
		"smtp://Mail.Example.com":                     "smtp://mail.example.com:587",
		"smtp://mail.example.com:2525/":               "smtp://mail.example.com:2525",
		"smtps://user:p%40ss%2Fword@mail.example.com": "smtps://user:p%40ss%2Fword@mail.example.com:465",
		"smtp://[2001:db8::1]":                        "smtp://[2001:db8::1]:587",
	} {
		c := load(t, with(production(), "SMTP_URL", given, "RINGFENCE_MAIL_FROM", "Ringfence <no-reply@example.com>"))
		if got := c.SMTPURL.Reveal(); got != want {
			t.Errorf("%s is %s, want %s", given, got, want)
		}
		if c.MailFrom != `"Ringfence" <no-reply@example.com>` || c.LocalMailAddr() != "" {
			t.Errorf("%s: from %s, local %q", given, c.MailFrom, c.LocalMailAddr())
		}
	}
	vars := development(t)
	c := load(t, vars)
	if !strings.HasPrefix(c.SMTPURL.Reveal(), "smtp://127.0.0.1:") || c.SMTPURL.Reveal() != "smtp://"+c.LocalMailAddr() {
		t.Errorf("development sends to %s, listens on %s", c.SMTPURL.Reveal(), c.LocalMailAddr())
	}
	if c.MailFrom != `"Ringfence" <no-reply@ringfence.example>` {
		t.Errorf("development sends as %s", c.MailFrom)
	}
	if again := load(t, vars); again.SMTPURL.Reveal() != c.SMTPURL.Reveal() {
		t.Errorf("a second process sends to %s, not %s", again.SMTPURL.Reveal(), c.SMTPURL.Reveal())
	}
	for given, want := range map[string]string{
		"smtp://user:password@localhost:1025": "localhost:1025",
		"smtps://127.0.0.1:1025":              "", // the sandbox speaks no TLS
		"smtp://mail.example.com":             "",
	} {
		if got := load(t, with(vars, "SMTP_URL", given)).LocalMailAddr(); got != want {
			t.Errorf("%s: local %q, want %q", given, got, want)
		}
	}
}
