// Package config reads the settings of a process from its environment, once, at the start. It reports every fault at
// the same time and hands out nothing while there is one, so that a process either runs as configured or not at all.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Config holds the settings. The tags name the variables; which of them are required, and what an unset one means,
// depends on the environment: development fills in what is missing, production has no defaults for secrets and URLs.
type Config struct {
	// Env is development or production; it has no default.
	Env Environment `env:"RINGFENCE_ENV"`
	// Addr is the host:port the server listens on; loopback only in development.
	Addr string `env:"RINGFENCE_ADDR" envDefault:"127.0.0.1:8080"`
	// BaseURL is how browsers reach the server: scheme, host and, unless it is the scheme's own, port; no trailing slash.
	// Always https in production.
	BaseURL string `env:"RINGFENCE_BASE_URL"`
	// DataDir holds what development keeps on disk: generated secrets, the embedded database, the sandbox's books.
	DataDir string `env:"RINGFENCE_DATA_DIR" envDefault:".ringfence"`
	// SandboxAddr is the host:port of the local stand-in for the providers; empty in production.
	SandboxAddr string `env:"RINGFENCE_SANDBOX_ADDR"`
	// Drain is for how long a server that was told to stop still takes requests, in whole seconds, while GET /readyz says
	// already that it is not ready: long enough for whoever shares requests out to hear of it. By default 10, and in
	// development 0.
	Drain Seconds `env:"RINGFENCE_DRAIN_SECONDS"`
	// MetricsAddr is a host:port on which /metrics is served without signing in; empty means none.
	MetricsAddr string `env:"RINGFENCE_METRICS_ADDR"`
	// TrustedProxies are the networks whose forwarding headers are believed; empty means nobody's.
	TrustedProxies Networks `env:"RINGFENCE_TRUSTED_PROXIES"`
	// LogLevel is the least severe level that is logged.
	LogLevel slog.Level `env:"RINGFENCE_LOG_LEVEL" envDefault:"info"`

	// SentryDSN is where errors and panics are reported; empty means nowhere.
	SentryDSN Secret `env:"SENTRY_DSN"`
	// TraceEndpoint is where traces go by OTLP over HTTP, without a trailing slash and without /v1/traces; empty means that
	// none are made. The names are OpenTelemetry's own
	// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
	TraceEndpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	// TraceHeaders go with them: name=value, comma-separated, the values percent-encoded.
	TraceHeaders Secret `env:"OTEL_EXPORTER_OTLP_HEADERS"`
	// TraceService is the name of this process in traces.
	TraceService string `env:"OTEL_SERVICE_NAME" envDefault:"ringfence"`
	// TraceShare is which share of the traces that begin here is kept, in millionths; all by default.
	TraceShare Share `env:"OTEL_TRACES_SAMPLER_ARG" envDefault:"1"`

	// DatabaseURL is a Postgres URL or key=value string. Unset means the embedded database, in development only.
	DatabaseURL Secret `env:"DATABASE_URL"`

	// SessionKeys authenticate session cookies. The first signs; the others are older ones, still accepted. Reveal gives
	// the decoded bytes, at least 32 of them.
	SessionKeys []Secret `env:"RINGFENCE_SESSION_KEYS"`
	// EncryptionKeyset seals the credentials that customers entrust to us. Reveal gives it in Tink's binary form.
	EncryptionKeyset Secret `env:"RINGFENCE_ENCRYPTION_KEYSET"`
	// Auth says who checks passwords.
	Auth AuthProvider `env:"RINGFENCE_AUTH" envDefault:"local"`
	// SupabaseURL is the project's address, without a trailing slash.
	SupabaseURL string `env:"SUPABASE_URL"`
	// SupabaseAnonKey is the key that GoTrue wants with every request.
	SupabaseAnonKey Secret `env:"SUPABASE_ANON_KEY"`
	// SupabaseJWTSecret is the HS256 secret of a legacy project; unset means the project's published keys. It needs
	// SupabaseURL, which is who the tokens must come from.
	SupabaseJWTSecret Secret `env:"SUPABASE_JWT_SECRET"`
	// SignUp says whether strangers may make an organisation of their own.
	SignUp SignUp `env:"RINGFENCE_SIGNUP" envDefault:"open"`
	// DevUser is the e-mail of the local user that requests to the API act as when they show no credential; development
	// only, and only for requests from this machine. Empty means nobody.
	DevUser string `env:"RINGFENCE_DEV_USER"`
	// DemoHistory gives the demo two months of history made at the sandbox; development only. Without it the demo is its
	// organisations, users and balance alone.
	DemoHistory bool `env:"RINGFENCE_DEMO_HISTORY"`

	// StripeSecretKey is a secret or restricted API key. Its name says whether real money moves: see Livemode.
	StripeSecretKey Secret `env:"STRIPE_SECRET_KEY"`
	// StripeWebhookSecrets are the signing secrets of the webhook endpoint; two of them while one is being rolled.
	StripeWebhookSecrets []Secret `env:"STRIPE_WEBHOOK_SECRET"`
	// StripeAPIBase is where Stripe's API is, without a trailing slash.
	StripeAPIBase string `env:"STRIPE_API_BASE"`
	// CheckoutHosts are the hosts to which a browser may be sent to pay (https, no port). Development also admits the
	// sandbox's own origin; that is for whoever checks the URL to add.
	CheckoutHosts []string `env:"RINGFENCE_CHECKOUT_HOSTS" envDefault:"checkout.stripe.com"`
	// FreezeOnDispute has an open dispute freeze its organisation's wallet until it has ended.
	FreezeOnDispute bool `env:"RINGFENCE_FREEZE_ON_DISPUTE" envDefault:"true"`
	// CollectVATNumber has Stripe's page ask businesses for their VAT number, which then stands on the invoice.
	CollectVATNumber bool `env:"RINGFENCE_COLLECT_VAT_NUMBER" envDefault:"true"`
	// WebhookAllowPrivate lets customers' webhook endpoints be at private and loopback addresses, and be plain http.
	WebhookAllowPrivate bool `env:"RINGFENCE_WEBHOOK_ALLOW_PRIVATE"`
	// VATStatement is the sentence by which customers are told how prices and top-ups stand to VAT.
	VATStatement string `env:"RINGFENCE_VAT_STATEMENT" envDefault:"Prices are in pounds and include any VAT that is due. A top-up is a prepayment: no VAT is added to it."`

	// TwilioAccountSID and TwilioAuthToken are of the account that texts go through. They are set together; unset, texts are off.
	TwilioAccountSID string `env:"TWILIO_ACCOUNT_SID"`
	TwilioAuthToken  Secret `env:"TWILIO_AUTH_TOKEN"`
	// TwilioAPIBase is where Twilio's API is, without a trailing slash.
	TwilioAPIBase string `env:"TWILIO_API_BASE"`
	// TwilioLowBalance and StripeLowBalance are the balances with the two below which operators are told, in whole units of
	// the account's currency; 0 tells of none.
	TwilioLowBalance Units `env:"RINGFENCE_TWILIO_LOW_BALANCE" envDefault:"20"`
	StripeLowBalance Units `env:"RINGFENCE_STRIPE_LOW_BALANCE" envDefault:"100"`
	// TwilioFromNumber is the account's number that organisations without one of their own send from (E.164). Unset, they
	// cannot send.
	TwilioFromNumber string `env:"TWILIO_FROM_NUMBER"`

	// SMTPURL is where mail is handed over: smtp://host:port or smtps://host:port, with user:password@ where the server
	// wants them. Reveal always gives a port. Unset means no mail, in production only.
	SMTPURL Secret `env:"SMTP_URL"`
	// MailFrom is who mail comes from, in the form of a From header; set wherever SMTPURL is.
	MailFrom string `env:"RINGFENCE_MAIL_FROM"`
	// VapiAPIKey is the private key that opens Vapi's API, VapiWebhookSecret what Vapi proves itself with when it sends us
	// something (Authorization: Bearer). They are set together; both unset: phone agents and their calls are off.
	VapiAPIKey        Secret `env:"VAPI_API_KEY"`
	VapiWebhookSecret Secret `env:"VAPI_WEBHOOK_SECRET"`
	// VapiCredentialID names a bearer credential in Vapi's dashboard that holds the webhooks' secret; unset, the secret is
	// told to Vapi with each agent.
	VapiCredentialID string `env:"VAPI_CREDENTIAL_ID"`
	// VapiAPIBase is where Vapi's API is, without a trailing slash; it may have a path.
	VapiAPIBase string `env:"VAPI_API_BASE"`

	// USDToGBP is the first version of the rate, in millionths of a pound per dollar, above 0 and below 10.
	USDToGBP Micros `env:"USD_TO_GBP_RATE"`
	// TopUpMinPence is the least a customer may top up at once, in pence.
	TopUpMinPence int64 `env:"RINGFENCE_TOP_UP_MIN_PENCE" envDefault:"500"`
	// TopUpMaxPence is the most a customer may top up at once, in pence.
	TopUpMaxPence int64 `env:"RINGFENCE_TOP_UP_MAX_PENCE" envDefault:"500000"`

	settings []Setting
}

// Development reports whether this process runs with development's conveniences.
func (c Config) Development() bool { return c.Env == Development }

// HTTPS reports whether browsers reach the server by https, and cookies can be Secure.
func (c Config) HTTPS() bool { return strings.HasPrefix(c.BaseURL, "https://") }

// Livemode reports whether the Stripe key moves real money.
func (c Config) Livemode() bool {
	key := c.StripeSecretKey.Reveal()
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

// LocalMailAddr is the host:port of SMTPURL where that is plain SMTP on this machine, so that the sandbox can listen there;
// "" otherwise.
func (c Config) LocalMailAddr() string {
	u, err := url.Parse(c.SMTPURL.Reveal())
	if err != nil || u.Scheme != "smtp" || !isLoopback(u.Hostname()) {
		return ""
	}
	return u.Host
}

// Source says where a setting's value came from.
type Source string

// The sources.
const (
	FromEnvironment Source = "env"
	FromDefault     Source = "default"
	FromGeneration  Source = "generated" // made once by development and kept in the data directory
	Unset           Source = "unset"
)

// Setting is one variable as a person may see it.
type Setting struct {
	Name   string
	Value  string // as configured; "[secret]" for a secret, "" when unset
	Source Source
}

// Masked lists every setting in the order of declaration, with secrets masked.
func (c Config) Masked() []Setting { return slices.Clone(c.settings) }

// Load reads the settings through getenv, which answers "" for what is unset, and trims spaces around each value. The
// error is an *Error with every fault; the Config is then empty.
//
// In development it makes the secrets that are unset, once, and keeps them under DataDir (files 0600 in a directory of
// 0700). It is safe to call again, and from several processes at once: all get the same secrets.
func Load(getenv func(string) string) (Config, error) {
	l := newLoader(getenv)
	switch Environment(l.values["RINGFENCE_ENV"]) {
	case Development:
		l.fillDevelopment()
	case Production:
		l.fill("RINGFENCE_DRAIN_SECONDS", "10", FromDefault)
		l.fill("STRIPE_API_BASE", "https://api.stripe.com", FromDefault)
		l.fill("TWILIO_API_BASE", "https://api.twilio.com", FromDefault)
		l.fill("VAPI_API_BASE", "https://api.vapi.ai", FromDefault)
		l.checkProduction()
	}
	var c Config
	if err := l.parse(&c); err != nil {
		return Config{}, err
	}
	l.check(&c)
	if len(l.faults) > 0 {
		return Config{}, &Error{Faults: l.inOrder()}
	}
	c.settings = l.settings()
	return c, nil
}

// loader gathers values, where they came from, and faults.
type loader struct {
	fields  []reflect.StructField // of Config, those with a variable
	values  map[string]string     // only what has a value
	sources map[string]Source
	faults  []Fault
}

func newLoader(getenv func(string) string) *loader {
	l := &loader{values: map[string]string{}, sources: map[string]Source{}}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name, ok := f.Tag.Lookup("env")
		if !ok {
			continue
		}
		l.fields = append(l.fields, f)
		l.fill(name, strings.TrimSpace(getenv(name)), FromEnvironment)
		l.fill(name, f.Tag.Get("envDefault"), FromDefault)
	}
	return l
}

// fill gives an unset variable a value.
func (l *loader) fill(name, value string, source Source) {
	if l.values[name] == "" && value != "" {
		l.values[name], l.sources[name] = value, source
	}
}

func (l *loader) fault(name string, p *problem) {
	if p != nil {
		l.faults = append(l.faults, Fault{name, p.what, p.remedy})
	}
}

// parse fills c from the gathered values and turns what the library refuses into faults. An error is a mistake in
// Config's declaration, not in the environment.
func (l *loader) parse(c *Config) error {
	err := env.ParseWithOptions(c, env.Options{Environment: l.values})
	if err == nil {
		return nil
	}
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return fmt.Errorf("couldn't read the configuration: %w", err)
	}
	for _, one := range all.Errors {
		refused, ok := errors.AsType[env.ParseError](one)
		if !ok {
			return fmt.Errorf("couldn't read the configuration: %w", one)
		}
		i := slices.IndexFunc(l.fields, func(f reflect.StructField) bool { return f.Name == refused.Name })
		l.fault(l.fields[i].Tag.Get("env"), explain(refused))
	}
	return nil
}

// explain says what the library found wrong without its message, which quotes the value.
func explain(refused env.ParseError) *problem {
	if p, ok := errors.AsType[*problem](refused.Err); ok {
		return p
	}
	if refused.Type == reflect.TypeFor[slog.Level]() {
		return &problem{"is not a log level", "Use debug, info, warn or error."}
	}
	if refused.Type.Kind() == reflect.Bool {
		return &problem{"is neither true nor false", "Set it to true or false."}
	}
	return &problem{"is not a whole number", "Give pence as digits only, for example 500."}
}

// inOrder returns the faults in the order of declaration.
func (l *loader) inOrder() []Fault {
	position := map[string]int{}
	for i, f := range l.fields {
		position[f.Tag.Get("env")] = i
	}
	slices.SortStableFunc(l.faults, func(a, b Fault) int { return position[a.Variable] - position[b.Variable] })
	return l.faults
}

func (l *loader) settings() []Setting {
	var all []Setting
	for _, f := range l.fields {
		s := Setting{Name: f.Tag.Get("env"), Source: Unset}
		if value, ok := l.values[s.Name]; ok {
			s.Value, s.Source = value, l.sources[s.Name]
			if f.Type == reflect.TypeFor[Secret]() || f.Type == reflect.TypeFor[[]Secret]() {
				s.Value = masked
			}
		}
		all = append(all, s)
	}
	return all
}
