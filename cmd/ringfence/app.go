package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/db/embedded"
	"ringfence/internal/auth"
	"ringfence/internal/config"
	"ringfence/internal/knowledge"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/operations"
	"ringfence/internal/outgoing"
	"ringfence/internal/payments"
	"ringfence/internal/report"
	"ringfence/internal/telephony"
	"ringfence/internal/tracing"
	"ringfence/internal/wallet"
	"ringfence/internal/watch"
	"ringfence/internal/webhooks"
	"ringfence/jobs"
)

// app is the program put together. Every command that needs the database opens one.
type app struct {
	cfg      config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	outgoing *outgoing.Transports
	jobs     *jobs.Metrics
	reporter *report.Reporter // nil: errors go to the log alone
	tracing  *tracing.Tracing // nil: nothing is traced

	// clock is the program's: the machine's, but while the demo's history is made.
	clock       func() time.Time
	databaseURL string
	postgres    *embedded.Server // nil with a database of one's own
	db          *db.DB
	auth        *auth.Auth
	verifier    *auth.Verifier // nil where no JWTs are taken
	ledger      *wallet.Ledger
	gates       *wallet.Gates
	payments    *payments.Service
	knowledge   *knowledge.Service
	messages    *telephony.Messages
	notices     *notice.Service
	webhooks    *webhooks.Service
	vault       *telephony.Vault
	numbers     *telephony.Numbers
	agents      *telephony.Agents
	calls       *telephony.Calls
	operations  *operations.Service
	// inserter adds jobs and works none.
	inserter *river.Client[*sql.Tx]
}

// now is the clock of the program.
func now() time.Time { return time.Now() }

// openApp reads the configuration, starts or finds the database, migrates it and puts the parts together.
func openApp(ctx context.Context, e *env) (a *app, err error) {
	cfg, err := config.Load(e.getenv)
	if err != nil {
		return nil, err
	}
	a = &app{cfg: cfg, registry: prometheus.NewRegistry(), clock: now}
	if cfg.SentryDSN.IsSet() {
		if a.reporter, err = report.New(report.Options{DSN: cfg.SentryDSN.Reveal(), Environment: string(cfg.Env), Release: "ringfence@" + version}); err != nil {
			return nil, err
		}
	}
	a.log = newReportingLog(e.stderr, cfg.LogLevel, a.reporter)
	opened := a    // a return of nil changes a before what is deferred runs
	defer func() { //nolint:contextcheck // the end is reported even where ctx has ended
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	way := http.DefaultTransport
	if cfg.TraceEndpoint != "" {
		if a.tracing, err = tracing.Start(ctx, tracing.Options{
			Endpoint: cfg.TraceEndpoint, Headers: cfg.TraceHeaders.Reveal(), Service: cfg.TraceService, Version: version, Share: int64(cfg.TraceShare),
		}); err != nil {
			return nil, err
		}
		way = a.tracing.Transport(way)
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.outgoing, a.jobs = outgoing.New(way, now), jobs.NewMetrics()
	a.outgoing.Register(a.registry)
	a.jobs.Register(a.registry)
	if err := a.openDatabase(ctx); err != nil {
		return nil, err
	}
	watch.New(a.db, a.log.With("part", "watch")).Register(a.registry)
	return a, a.assemble()
}

// assemble puts the parts together over the database that is open.
func (a *app) assemble() (err error) {
	cfg := a.cfg
	if err := a.openAuth(); err != nil {
		return err
	}
	a.auth.Register(a.registry)
	a.ledger = wallet.New(a.db)
	gateMetrics := wallet.NewGateMetrics()
	gateMetrics.Register(a.registry)
	a.gates = wallet.NewGates(wallet.GateOptions{DB: a.db, Now: a.clock, Log: a.log.With("part", "gates"), Metrics: gateMetrics})
	if a.vault, err = telephony.NewVault([]byte(cfg.EncryptionKeyset.Reveal())); err != nil {
		return err
	}
	a.messages, err = telephony.New(telephony.Options{
		DB: a.db, Gates: a.gates, Log: a.log.With("part", "messages"), Now: a.clock,
		AccountSID: cfg.TwilioAccountSID, AuthToken: cfg.TwilioAuthToken.Reveal(), APIBase: cfg.TwilioAPIBase, From: cfg.TwilioFromNumber,
		BaseURL: cfg.BaseURL, Vault: a.vault, Transport: a.outgoing.To,
	})
	if err != nil {
		return err
	}
	a.messages.Register(a.registry)
	a.knowledge = knowledge.New(knowledge.Options{
		DB: a.db, Gates: a.gates, Log: a.log.With("part", "knowledge"), Interpret: raceDetector,
	})
	a.notices, err = notice.New(notice.Options{
		DB: a.db, Log: a.log.With("part", "notices"), SMTPURL: cfg.SMTPURL.Reveal(), From: cfg.MailFrom, BaseURL: cfg.BaseURL,
		OpenToken: a.auth.OpenToken,
	})
	if err != nil {
		return err
	}
	a.notices.Register(a.registry)
	a.webhooks, err = webhooks.New(webhooks.Options{
		DB: a.db, Log: a.log.With("part", "webhooks"), Now: a.clock, Keyset: []byte(cfg.EncryptionKeyset.Reveal()), AllowPrivate: cfg.WebhookAllowPrivate,
	})
	if err != nil {
		return err
	}
	a.webhooks.Register(a.registry)
	inserter, err := jobs.NewInserter(a.db, a.log)
	if err != nil {
		return err
	}
	a.inserter = inserter
	a.numbers, err = telephony.NewNumbers(telephony.NumbersOptions{
		DB: a.db, Gates: a.gates, Jobs: inserter, Vault: a.vault, Log: a.log.With("part", "numbers"), Now: a.clock,
		AccountSID: cfg.TwilioAccountSID, AuthToken: cfg.TwilioAuthToken.Reveal(), TwilioBase: cfg.TwilioAPIBase,
		VapiKey: cfg.VapiAPIKey.Reveal(), VapiBase: cfg.VapiAPIBase, BaseURL: cfg.BaseURL, Events: a.vapiEvents(), Transport: a.outgoing.To,
	})
	if err != nil {
		return err
	}
	a.numbers.Register(a.registry)
	if err := a.openCalls(inserter); err != nil {
		return err
	}
	metrics := payments.NewMetrics()
	metrics.Register(a.registry)
	secrets := make([]string, len(cfg.StripeWebhookSecrets))
	for i, s := range cfg.StripeWebhookSecrets {
		secrets[i] = s.Reveal()
	}
	a.payments, err = payments.New(payments.Options{
		DB: a.db, Jobs: inserter, Log: a.log, Now: a.clock, Metrics: metrics,
		StripeKey: cfg.StripeSecretKey.Reveal(), StripeBase: cfg.StripeAPIBase, Transport: a.outgoing.To("stripe"), WebhookSecrets: secrets,
		CheckoutOrigins: checkoutOrigins(cfg), BaseURL: cfg.BaseURL, FreezeOnDispute: cfg.FreezeOnDispute,
		DocumentOrigins: documentOrigins(cfg), CollectVATNumber: cfg.CollectVATNumber,
		Min: money.Pence(cfg.TopUpMinPence), Max: money.Pence(cfg.TopUpMaxPence), MayClose: telephony.MayClose,
	})
	if err != nil {
		return err
	}
	a.operations = operations.New(a.looks())
	a.operations.Register(a.registry)
	return nil
}

// vapiEvents says how Vapi reaches us.
func (a *app) vapiEvents() telephony.VapiEvents {
	return telephony.VapiEvents{BaseURL: a.cfg.BaseURL, Secret: a.cfg.VapiWebhookSecret.Reveal(), CredentialID: a.cfg.VapiCredentialID}
}

// openCalls puts agents and their calls together.
func (a *app) openCalls(inserter telephony.JobInserter) (err error) {
	events := a.vapiEvents()
	a.agents, err = telephony.NewAgents(telephony.AgentsOptions{
		DB: a.db, Gates: a.gates, Jobs: inserter, Log: a.log.With("part", "agents"), Now: a.clock, Vault: a.vault, TwilioBase: a.cfg.TwilioAPIBase,
		VapiKey: a.cfg.VapiAPIKey.Reveal(), VapiBase: a.cfg.VapiAPIBase, Events: events, Transport: a.outgoing.To,
	})
	if err != nil {
		return err
	}
	a.agents.Register(a.registry)
	a.calls, err = telephony.NewCalls(telephony.CallsOptions{
		DB: a.db, Gates: a.gates, Log: a.log.With("part", "calls"), Now: a.clock, Vault: a.vault, TwilioBase: a.cfg.TwilioAPIBase,
		VapiKey: a.cfg.VapiAPIKey.Reveal(), VapiBase: a.cfg.VapiAPIBase, Events: events, Knowledge: a.lookUp,
		Transport: a.outgoing.To,
	})
	if err != nil {
		return err
	}
	a.calls.Register(a.registry)
	return nil
}

// agentHits is how many passages an agent is given for a question: it reads them out, and somebody waits.
const agentHits = 3

// lookUp asks an organisation's knowledge base on behalf of an agent in a call.
func (a *app) lookUp(ctx context.Context, l telephony.Lookup) (telephony.Found, error) {
	answer, err := a.knowledge.Search(ctx, knowledge.Query{OrgID: l.OrgID, Actor: l.Actor, Key: l.Key, Text: l.Query, Limit: agentHits})
	if err != nil {
		return telephony.Found{}, err
	}
	found := telephony.Found{Amount: answer.Amount, Hold: answer.Hold, Repeated: answer.Repeated}
	for _, h := range answer.Hits {
		found.Passages = append(found.Passages, h.Text)
	}
	return found, nil
}

// sweepers are the parts that look for what was left behind. They share a minute, so those that ask nobody come first: a provider
// that does not answer takes no time from them.
func (a *app) sweepers() []jobs.Sweeper {
	return []jobs.Sweeper{
		{Name: "payments", Run: func(ctx context.Context) error { _, err := a.payments.Sweep(ctx); return err }},
		{Name: "withdrawals", Run: func(ctx context.Context) error { _, err := a.payments.SweepWithdrawals(ctx); return err }},
		{Name: "holds", Run: func(ctx context.Context) error { _, err := a.gates.Expire(ctx); return err }},
		{Name: "days", Run: func(ctx context.Context) error { _, err := a.ledger.AddUp(ctx); return err }},
		{Name: "numbers", Run: func(ctx context.Context) error { _, err := a.numbers.Sweep(ctx); return err }},
		{Name: "rents", Run: func(ctx context.Context) error { _, err := a.numbers.SweepRents(ctx); return err }},
		{Name: "knowledge", Run: func(ctx context.Context) error { _, err := a.knowledge.Sweep(ctx); return err }},
		{Name: "webhooks", Run: func(ctx context.Context) error { _, err := a.webhooks.Sweep(ctx); return err }},
		{Name: "auth", Run: func(ctx context.Context) error { _, _, err := a.auth.Sweep(ctx); return err }},
		{Name: "words", Run: func(ctx context.Context) error { _, err := a.calls.Erase(ctx); return err }},
		{Name: "messages", Run: func(ctx context.Context) error { _, err := a.messages.Sweep(ctx); return err }},
		{Name: "costs of texts", Run: func(ctx context.Context) error { _, err := a.messages.SweepCosts(ctx); return err }},
		{Name: "agents", Run: func(ctx context.Context) error { _, err := a.agents.SyncDue(ctx); return err }},
		{Name: "caller ids", Run: func(ctx context.Context) error { _, err := a.agents.SweepCallerIDs(ctx); return err }},
	}
}

// openAuth puts identity together as the configuration has it.
func (a *app) openAuth() (err error) {
	o := auth.Options{
		Production: !a.cfg.Development(), LiveKeys: a.cfg.Livemode(), SealKeys: sessionKeys(a.cfg), Now: a.clock,
		Log:        a.log.With("part", "auth"),
		OpenWallet: a.openWallet,
	}
	if a.cfg.SupabaseURL != "" {
		a.verifier, err = auth.NewVerifier(auth.VerifierOptions{
			ProjectURL: a.cfg.SupabaseURL, Secret: []byte(a.cfg.SupabaseJWTSecret.Reveal()), Now: a.clock, Log: o.Log,
			Transport: a.outgoing.To("supabase"),
		})
		if err != nil {
			return err
		}
		o.Verifier = a.verifier
	}
	if a.cfg.Auth == config.AuthSupabase {
		o.Supabase = auth.NewSupabase(a.cfg.SupabaseURL, a.cfg.SupabaseAnonKey.Reveal()).Through(a.outgoing.To("supabase"))
	}
	a.auth, err = auth.New(a.db, o)
	return err
}

// openWallet gives an organisation its wallet. It is safe to repeat.
func (a *app) openWallet(ctx context.Context, org uuid.UUID) error {
	return a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error { return wallet.Open(ctx, tx, org) })
}

// sessionKeys are the keys of cookies, and of what is sealed for a user.
func sessionKeys(cfg config.Config) [][]byte {
	keys := make([][]byte, len(cfg.SessionKeys))
	for i, k := range cfg.SessionKeys {
		keys[i] = []byte(k.Reveal())
	}
	return keys
}

// checkoutOrigins are where a browser may be sent to pay; the page's policy and the check of the address share them.
func checkoutOrigins(cfg config.Config) []string {
	var origins []string
	for _, host := range cfg.CheckoutHosts {
		origins = append(origins, "https://"+host)
	}
	return append(origins, sandboxOrigin(cfg)...)
}

// documentOrigins are where links to invoices and receipts lead: Stripe's own hosts for them
// (https://docs.stripe.com/invoicing/hosted-invoice-page, https://docs.stripe.com/receipts).
func documentOrigins(cfg config.Config) []string {
	return append([]string{"https://invoice.stripe.com", "https://pay.stripe.com"}, sandboxOrigin(cfg)...)
}

// sandboxOrigin is the sandbox's, in development.
func sandboxOrigin(cfg config.Config) []string {
	if cfg.Development() && cfg.SandboxAddr != "" {
		return []string{"http://" + cfg.SandboxAddr}
	}
	return nil
}

// openDatabase finds the database, starting the embedded one where none is configured, and brings it up to date.
func (a *app) openDatabase(ctx context.Context) error {
	a.databaseURL = a.cfg.DatabaseURL.Reveal()
	if !a.cfg.DatabaseURL.IsSet() {
		dir, err := filepath.Abs(filepath.Join(a.cfg.DataDir, "postgres"))
		if err != nil {
			return fmt.Errorf("couldn't find the data directory: %w", err)
		}
		if a.postgres, err = embedded.Start(ctx, embedded.Options{Dir: dir, Logger: a.log}); err != nil {
			return err
		}
		a.databaseURL = a.postgres.URL("postgres")
	}
	if err := db.Migrate(ctx, a.databaseURL, a.log); err != nil {
		return err
	}
	var err error
	o := db.Options{Now: a.clock}
	if a.tracing != nil {
		o.Pool = a.tracing.OpenDB
	}
	if a.db, err = db.Open(ctx, a.databaseURL, o); err != nil {
		return err
	}
	rate, err := money.RateFromMicros(int64(a.cfg.USDToGBP))
	if err != nil {
		return fmt.Errorf("USD_TO_GBP_RATE: %w", err)
	}
	return a.db.InSystemTx(ctx, "the first exchange rate", func(ctx context.Context, tx *db.Tx) error {
		return wallet.FirstRate(ctx, tx, rate)
	})
}

// close ends what openApp began, in the opposite order.
func (a *app) close() error {
	var err error
	if a.db != nil {
		err = a.db.Close()
	}
	if a.postgres != nil {
		err = errors.Join(err, a.postgres.Stop())
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
	defer cancel()
	if a.tracing != nil {
		if lost := a.tracing.Stop(ctx); lost != nil {
			a.log.WarnContext(ctx, "couldn't send every trace", "error", lost)
		}
	}
	if a.reporter != nil {
		if lost := a.reporter.Flush(ctx); lost != nil { // that nobody listens does not make the program's end a failure
			a.log.WarnContext(ctx, "couldn't report everything", "error", lost)
		}
	}
	return err
}

// tellWithin bounds how long the end of the program waits for what is still to be reported.
const tellWithin = 5 * time.Second

// version names this build in reports and traces; the linker sets it (see deploy/Dockerfile).
var version = "development"

// withApp runs one short command with the program put together.
func withApp(e *env, fn func(ctx context.Context, a *app) error) error {
	a, err := openApp(e.ctx, e)
	if err != nil {
		return err
	}
	return errors.Join(fn(e.ctx, a), a.close())
}

// developmentOnly refuses a command elsewhere.
func (a *app) developmentOnly(what string) error {
	if a.cfg.Development() {
		return nil
	}
	return fmt.Errorf("%s is for development only (RINGFENCE_ENV is %s)", what, a.cfg.Env)
}

// login is the name of the person at the command line, for the audit log.
func login(getenv func(string) string) string {
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if who := getenv(name); who != "" {
			return who
		}
	}
	return fmt.Sprintf("uid-%d", os.Getuid())
}

// say prints for the person at the terminal; a closed terminal is no reason to fail.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
}
