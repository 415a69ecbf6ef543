package config

import (
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxTopUpPence bounds RINGFENCE_TOP_UP_MAX_PENCE: £100,000.
const maxTopUpPence = 10_000_000

// required in production: they have no default that could be right.
var required = []struct{ name, remedy string }{
	{"RINGFENCE_BASE_URL", "Set it to the https address at which browsers reach this server."},
	{"DATABASE_URL", "Set it to postgres://user:password@host:5432/database."},
	{"RINGFENCE_SESSION_KEYS", "Make one with: openssl rand -base64 32"},
	{"RINGFENCE_ENCRYPTION_KEYSET", "Make one with: ringfence credentials keyset. Keep it as safe as a backup: without it customers' credentials do not open."},
	{"STRIPE_SECRET_KEY", "Copy it from Stripe's dashboard, Developers, API keys."},
	{"STRIPE_WEBHOOK_SECRET", "Copy it from Stripe's dashboard, Developers, Webhooks; without it anybody could sign events."},
	{"USD_TO_GBP_RATE", "Give the pounds that one dollar is worth, for example 0.79."},
}

// developmentOnly are features that must not exist in production, where a set one shows a copied configuration.
var developmentOnly = []string{"RINGFENCE_SANDBOX_ADDR", "RINGFENCE_DEV_USER", "RINGFENCE_DEMO_HISTORY"}

// checkProduction wants what production cannot do without, and refuses development's conveniences.
func (l *loader) checkProduction() {
	for _, r := range required {
		l.require(r.name, r.remedy)
	}
	for _, name := range developmentOnly {
		if l.values[name] != "" {
			l.fault(name, &problem{"is a development feature", "Unset it in production."})
		}
	}
}

func (l *loader) require(name, remedy string) {
	if l.values[name] == "" {
		l.fault(name, &problem{"is not set", remedy})
	}
}

// check holds every value to its rules and puts normal forms into c. A value that could not be parsed is zero in c, has
// its fault already, and is passed over here. With an unknown environment only what is wrong in both is reported.
func (l *loader) check(c *Config) {
	l.require("RINGFENCE_ENV", "Set it to development or production.")

	l.checkAddresses(c)
	if c.DatabaseURL.IsSet() {
		l.fault("DATABASE_URL", checkDatabaseURL(c.DatabaseURL.Reveal()))
	}
	l.secrets("RINGFENCE_SESSION_KEYS", c.SessionKeys, sessionKey)
	if c.EncryptionKeyset.IsSet() {
		_, binary, p := readKeyset(c.EncryptionKeyset.Reveal())
		l.fault("RINGFENCE_ENCRYPTION_KEYSET", p)
		c.EncryptionKeyset = NewSecret(string(binary))
	}
	l.checkSupabase(c)
	l.checkDevUser(c)

	if c.StripeSecretKey.IsSet() {
		l.fault("STRIPE_SECRET_KEY", checkStripeKey(c.StripeSecretKey.Reveal(), c.Env == Development))
	}
	l.secrets("STRIPE_WEBHOOK_SECRET", c.StripeWebhookSecrets, func(s string) (string, *problem) { return s, checkWebhookSecret(s) })
	l.checkURL("STRIPE_API_BASE", &c.StripeAPIBase, false)
	l.checkTwilio(c)
	l.checkMail(c)
	l.checkTelemetry(c)
	l.checkVapi(c)
	l.checkCheckoutHosts(c.CheckoutHosts)
	l.checkTopUps(c)
	l.checkVATStatement(c)
}

// maxVATStatement bounds RINGFENCE_VAT_STATEMENT, in bytes.
const maxVATStatement = 400

// checkVATStatement wants a sentence or a few, on one line.
func (l *loader) checkVATStatement(c *Config) {
	c.VATStatement = strings.TrimSpace(c.VATStatement)
	if len(c.VATStatement) > maxVATStatement || !utf8.ValidString(c.VATStatement) || strings.ContainsFunc(c.VATStatement, unicode.IsControl) {
		l.fault("RINGFENCE_VAT_STATEMENT", &problem{
			"is not a sentence on one line", fmt.Sprintf("Say in at most %d bytes whether your prices include VAT, or leave it unset.", maxVATStatement),
		})
	}
}

// checkTwilio wants an account's id and its token together. Without a number to send from, texts wait for numbers of the
// organisations' own.
func (l *loader) checkTwilio(c *Config) {
	l.checkURL("TWILIO_API_BASE", &c.TwilioAPIBase, false)
	if c.TwilioAccountSID != "" && !twilioSID.MatchString(c.TwilioAccountSID) {
		l.fault("TWILIO_ACCOUNT_SID", &problem{"is not an account's id", "Copy the Account SID from Twilio's console: AC and 32 digits or letters a to f."})
	}
	if token := c.TwilioAuthToken.Reveal(); token != "" && !twilioToken.MatchString(token) {
		l.fault("TWILIO_AUTH_TOKEN", &problem{"is not an auth token", "Copy the Auth Token from Twilio's console: letters and digits, at least 16."})
	}
	if c.TwilioFromNumber != "" && !phoneNumber.MatchString(c.TwilioFromNumber) {
		l.fault("TWILIO_FROM_NUMBER", &problem{"is not a phone number", "Write it in international form, for example +447400123456."})
	}
	l.allOrNone(c, "Twilio's", "to send texts", twilioGroup)
}

// checkVapi wants the API's key and the webhooks' secret together.
func (l *loader) checkVapi(c *Config) {
	l.checkBase("VAPI_API_BASE", &c.VapiAPIBase)
	if key := c.VapiAPIKey.Reveal(); key != "" && !vapiSecret.MatchString(key) {
		l.fault("VAPI_API_KEY", &problem{"is not an API key", "Copy the private key from Vapi's dashboard: letters, digits and dashes, at least 16."})
	}
	if secret := c.VapiWebhookSecret.Reveal(); secret != "" && !vapiSecret.MatchString(secret) {
		l.fault("VAPI_WEBHOOK_SECRET", &problem{"is too weak to tell Vapi from others", "Give Vapi and this server the same random secret: letters, digits and dashes, at least 16."})
	}
	if c.VapiCredentialID != "" && !vapiID.MatchString(c.VapiCredentialID) {
		l.fault("VAPI_CREDENTIAL_ID", &problem{"is not the id of a credential", "Copy the id of the bearer credential from Vapi's dashboard, or leave it unset."})
	}
	l.allOrNone(c, "Vapi's", "for phone agents", vapiGroup)
}

// allOrNone wants each of a vendor's settings when one of them is there. Development fills in what is unset.
func (l *loader) allOrNone(c *Config, whose, purpose string, group []string) {
	if c.Env == Development || !slices.ContainsFunc(group, func(name string) bool { return l.values[name] != "" }) {
		return
	}
	for _, name := range group {
		if l.values[name] == "" {
			l.fault(name, &problem{"is not set, and others of " + whose + " are", "Set " + strings.Join(group, " and ") + " " + purpose + ", or none of them."})
		}
	}
}

var (
	twilioGroup = []string{"TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"}
	vapiGroup   = []string{"VAPI_API_KEY", "VAPI_WEBHOOK_SECRET"}
)

var (
	twilioSID   = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	twilioToken = regexp.MustCompile(`^[0-9a-zA-Z]{16,}$`)
	phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	vapiSecret  = regexp.MustCompile(`^[0-9A-Za-z_-]{16,}$`)
	vapiID      = regexp.MustCompile(`^[0-9A-Za-z_-]{1,100}$`)
	basePath    = regexp.MustCompile(`^(/[0-9A-Za-z_-]+)*/?$`)
)

var (
	sentryDSN = regexp.MustCompile(`^(https?)://[0-9A-Za-z]+@([^/?#@]+)((?:/[0-9A-Za-z_-]+)*/[0-9]+)$`)
	otlpEntry = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z-]+=[^\s,;]*$`)
)

// checkTelemetry wants whole addresses of where errors and traces go.
func (l *loader) checkTelemetry(c *Config) {
	if dsn := c.SentryDSN.Reveal(); dsn != "" {
		m := sentryDSN.FindStringSubmatch(dsn)
		if m == nil {
			l.fault("SENTRY_DSN", &problem{"is not a DSN", "Copy it whole from the project's settings in Sentry, Client Keys: https://key@host/number."})
		} else {
			host := m[1] + "://" + m[2]
			l.checkURL("SENTRY_DSN", &host, false)
		}
	}
	l.checkTraceEndpoint(c)
	if !c.TraceHeaders.IsSet() {
		return
	}
	l.require("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS is set: say where the traces go, for example https://otlp.example.com.")
	for entry := range strings.SplitSeq(c.TraceHeaders.Reveal(), ",") {
		if !otlpEntry.MatchString(strings.TrimSpace(entry)) {
			l.fault("OTEL_EXPORTER_OTLP_HEADERS", &problem{"is not a list of headers", "Write name=value, separated by commas, with what is special in a value percent-encoded."})
			return
		}
	}
}

// checkTraceEndpoint takes plain http in production too, since a collector usually stands beside the program and nothing in
// a trace is secret; headers may be, so with them http is for this machine only.
func (l *loader) checkTraceEndpoint(c *Config) {
	const name = "OTEL_EXPORTER_OTLP_ENDPOINT"
	if c.TraceEndpoint == "" {
		return
	}
	u, err := url.Parse(c.TraceEndpoint)
	if err != nil || !basePath.MatchString(u.Path) {
		l.fault(name, &problem{"is not a plain URL", "Write scheme, host and port, for example http://127.0.0.1:4318; /v1/traces is added."})
		return
	}
	path := strings.TrimSuffix(u.Path, "/")
	normal, p := origin(strings.TrimSuffix(strings.TrimSuffix(c.TraceEndpoint, "/"), path), !c.TraceHeaders.IsSet())
	l.fault(name, p)
	c.TraceEndpoint = normal + path
}

// checkMail wants to know who mail comes from wherever it can be sent, and puts the normal forms into c.
func (l *loader) checkMail(c *Config) {
	if c.SMTPURL.IsSet() {
		normal, p := smtpURL(c.SMTPURL.Reveal())
		l.fault("SMTP_URL", p)
		c.SMTPURL = NewSecret(normal)
		if c.Env == Production {
			l.require("RINGFENCE_MAIL_FROM", "SMTP_URL is set: say who the mail comes from, for example Ringfence <no-reply@example.com>.")
		}
		for _, name := range listening {
			if local := c.LocalMailAddr(); local != "" && samePort(l.values[name], local) {
				l.fault("SMTP_URL", &problem{"names the address of " + name, "Give each its own port."})
			}
		}
	}
	if c.MailFrom == "" {
		return
	}
	from, err := mail.ParseAddress(c.MailFrom)
	if err != nil {
		l.fault("RINGFENCE_MAIL_FROM", &problem{"is not a sender", "Write a name and an email address, for example Ringfence <no-reply@example.com>."})
		return
	}
	c.MailFrom = from.String()
}

// listening are the variables of our own addresses.
var listening = []string{"RINGFENCE_ADDR", "RINGFENCE_SANDBOX_ADDR", "RINGFENCE_METRICS_ADDR"}

func (l *loader) checkAddresses(c *Config) {
	development := c.Env == Development
	taken := map[string]string{}
	for _, a := range []struct {
		name, addr   string
		loopbackOnly bool
	}{
		{"RINGFENCE_ADDR", c.Addr, development},
		{"RINGFENCE_SANDBOX_ADDR", c.SandboxAddr, development},
		{"RINGFENCE_METRICS_ADDR", c.MetricsAddr, development},
	} {
		if a.addr == "" {
			continue
		}
		if p := checkListenAddr(a.addr, a.loopbackOnly); p != nil {
			l.fault(a.name, p)
			continue
		}
		if other, ok := taken[a.addr]; ok {
			l.fault(a.name, &problem{"is the same address as " + other, "Give each its own port."})
		}
		taken[a.addr] = a.name
	}
	l.checkURL("RINGFENCE_BASE_URL", &c.BaseURL, development)
}

// checkURL puts the normal form of a URL in its place. Production wants https even of loopback.
func (l *loader) checkURL(name string, value *string, anyHTTP bool) {
	if *value == "" {
		return
	}
	normal, p := origin(*value, anyHTTP)
	if p == nil && l.values["RINGFENCE_ENV"] == string(Production) && !strings.HasPrefix(normal, "https://") {
		p = &problem{"is not https", "Production speaks https only."}
	}
	l.fault(name, p)
	*value = normal
}

// checkBase is checkURL for an API's base, which may have a path.
func (l *loader) checkBase(name string, value *string) {
	path := ""
	if u, err := url.Parse(*value); err == nil && u.Host != "" && basePath.MatchString(u.Path) {
		path = strings.TrimSuffix(u.Path, "/")
		*value = strings.TrimSuffix(strings.TrimSuffix(*value, "/"), path)
	}
	l.checkURL(name, value, false)
	if *value != "" {
		*value += path
	}
}

// secrets holds each entry of a comma-separated list to its rule, and puts what the rule returns in its place.
func (l *loader) secrets(name string, list []Secret, rule func(string) (string, *problem)) {
	for i, entry := range list {
		text := strings.TrimSpace(entry.Reveal())
		value, p := rule(text)
		if text == "" {
			p = &problem{"is empty", "Remove the comma that has nothing beside it, or fill in the value."}
		}
		if p != nil && len(list) > 1 {
			p = &problem{fmt.Sprintf("entry %d of %d %s", i+1, len(list), p.what), p.remedy}
		}
		l.fault(name, p)
		list[i] = NewSecret(value)
	}
}

func (l *loader) checkSupabase(c *Config) {
	if c.Auth == AuthSupabase {
		l.require("SUPABASE_URL", "RINGFENCE_AUTH=supabase needs the project's address, https://….supabase.co.")
		l.require("SUPABASE_ANON_KEY", "RINGFENCE_AUTH=supabase needs the project's anon key, from its API settings.")
	}
	l.checkURL("SUPABASE_URL", &c.SupabaseURL, false)
	switch secret := c.SupabaseJWTSecret.Reveal(); {
	case secret == "":
	case len(secret) < 32: // RFC 7518, section 3.2: an HS256 key is no shorter than the hash
		l.fault("SUPABASE_JWT_SECRET", &problem{"is shorter than 32 characters", "Copy the legacy JWT secret whole from the project's settings, or leave it unset to use its published keys."})
	case c.Auth != AuthSupabase:
		l.require("SUPABASE_URL", "SUPABASE_JWT_SECRET alone does not say whose tokens to believe: give the project's address.")
	}
}

// checkDevUser wants an e-mail address. That development listens on loopback alone, checkAddresses sees to.
func (l *loader) checkDevUser(c *Config) {
	if c.DevUser == "" {
		return
	}
	if parsed, err := mail.ParseAddress(c.DevUser); err != nil || parsed.Address != c.DevUser {
		l.fault("RINGFENCE_DEV_USER", &problem{"is not an email address", "Name a user of the demo, for example owner@harbour.example, or leave it unset."})
	}
}

func (l *loader) checkCheckoutHosts(hosts []string) {
	for i, host := range hosts {
		hosts[i] = strings.ToLower(strings.TrimSpace(host))
		if !validHostname(hosts[i]) {
			l.fault("RINGFENCE_CHECKOUT_HOSTS", &problem{
				fmt.Sprintf("entry %d of %d is not a plain host name", i+1, len(hosts)),
				"Write names such as checkout.stripe.com, separated by commas: no scheme, port, path or wildcard.",
			})
		}
	}
}

func (l *loader) checkTopUps(c *Config) {
	const lowest, highest = "RINGFENCE_TOP_UP_MIN_PENCE", "RINGFENCE_TOP_UP_MAX_PENCE"
	usable := l.checkLimit(lowest, c.TopUpMinPence)
	if l.checkLimit(highest, c.TopUpMaxPence) && usable && c.TopUpMinPence >= c.TopUpMaxPence {
		l.fault(lowest, &problem{"is not below " + highest, "Lower the minimum or raise the maximum."})
	}
}

// checkLimit reports whether a limit can be used; one that is no number has its fault already.
func (l *loader) checkLimit(name string, pence int64) bool {
	faulty := slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Variable == name })
	switch {
	case faulty:
		return false
	case pence <= 0:
		l.fault(name, &problem{"is not above zero", "Give pence, for example 500 for £5.00."})
		return false
	case pence > maxTopUpPence:
		l.fault(name, &problem{fmt.Sprintf("is above %d pence", maxTopUpPence), "Give pence, for example 500000 for £5,000.00."})
		return false
	}
	return true
}
