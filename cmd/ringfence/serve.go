package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/config"
	"ringfence/internal/sandbox"
	"ringfence/jobs"
)

// patience is how long requests and jobs under way may take to finish when the program is told to stop.
const patience = 20 * time.Second

// How many API requests a second one credential may make. Development leaves room for measurements.
const (
	apiRate            = 200
	developmentAPIRate = 20_000
)

// gcPercent lets the heap grow to five times what lives in it before garbage is collected. Little lives in it, so that is
// some 40 MB more, and under load a tenth of the processor less (docs/decisions/0019). GOGC says otherwise.
const gcPercent = 400

type serveCmd struct {
	NoJobs bool `help:"Serve pages and webhooks only; some other process works the jobs."`
}

// Run serves until the context ends.
func (c serveCmd) Run(e *env) error {
	return c.serve(e, true)
}

type workCmd struct{}

// Run works jobs until the context ends.
func (workCmd) Run(e *env) error {
	return serveCmd{}.serve(e, false)
}

// serve runs the web server, the workers or both, in the order in which each needs the one before.
func (c serveCmd) serve(e *env, web bool) (err error) {
	if e.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	a, err := openApp(e.ctx, e)
	if err != nil {
		return err
	}
	// What takes work in stops first and side by side, each within its patience, so that all of it is done before somebody
	// kills the process; then what the work needs, in the opposite order of its start.
	var working, closing []func() error
	closing = append(closing, a.close)
	defer func() {
		err = errors.Join(err, together(working))
		for _, end := range slices.Backward(closing) {
			err = errors.Join(err, end())
		}
	}()

	failed := make(chan error, 4) // the first part that breaks ends the program
	var seeded atomic.Bool
	leaving := drain{wait: a.cfg.Drain.Duration()}
	// Streams last as long as requests are taken, which is longer than the program is wanted.
	streams, endStreams := context.WithCancel(context.WithoutCancel(e.ctx))
	closing = append(closing, func() error { endStreams(); return nil }) // comes after the server's own end, which ends them first
	if web {
		// Before the demo and the workers, so that a taken port ends a second start before it does anything.
		listener, lerr := new(net.ListenConfig).Listen(e.ctx, "tcp", a.cfg.Addr)
		if lerr != nil {
			return fmt.Errorf("couldn't listen on RINGFENCE_ADDR: %w", lerr)
		}
		site, herr := a.handler(streams, &seeded, leaving.begun)
		if herr != nil {
			return errors.Join(herr, listener.Close())
		}
		if a.tracing != nil {
			site = a.tracing.Handler(site)
		}
		shut := start(handlers.Server(a.cfg.Addr, site), listener, failed)
		working = append(working, func() error {
			leaving.over()
			endStreams()
			return shut()
		})
	}
	if a.cfg.MetricsAddr != "" { // of workers too: their work is counted where it is done
		listener, err := new(net.ListenConfig).Listen(e.ctx, "tcp", a.cfg.MetricsAddr)
		if err != nil {
			return fmt.Errorf("couldn't listen on RINGFENCE_METRICS_ADDR: %w", err)
		}
		closing = append(closing, start(handlers.Server(a.cfg.MetricsAddr, handlers.Metrics(a.registry)), listener, failed))
	}
	if a.cfg.Development() {
		if err := a.seed(e.ctx); err != nil {
			return err
		}
		if web {
			stop, err := a.sandbox(e.ctx)
			if err != nil {
				return err
			}
			closing = append(closing, stop)
		}
	}
	if !c.NoJobs {
		var tracer trace.TracerProvider
		if a.tracing != nil {
			tracer = a.tracing.Provider()
		}
		runner, err := jobs.Start(e.ctx, jobs.Deps{
			DB: a.db, Payments: a.payments, Notices: a.notices, Webhooks: a.webhooks, Numbers: a.numbers, Agents: a.agents, Calls: a.calls,
			Operations: a.operations, Sweepers: a.sweepers(), Log: a.log, Now: a.clock, Metrics: a.jobs, Tracer: tracer,
		})
		if err != nil {
			return err
		}
		working = append(working, func() error { return runner.Stop(patient(e.ctx)) })
	}
	working = append(working, a.look(e.ctx))
	seeded.Store(true)
	if web && a.cfg.Development() {
		a.welcome(e)
	}
	a.log.InfoContext(e.ctx, "running", "version", version, "web", web, "jobs", !c.NoJobs, "env", a.cfg.Env, "address", a.cfg.Addr)

	var gone <-chan struct{}
	if a.postgres != nil {
		gone = a.postgres.Done()
	}
	select {
	case <-e.ctx.Done():
		leaving.begin()
		a.log.InfoContext(e.ctx, "stopping: requests and jobs under way may finish", "drain", leaving.wait.String())
		return nil
	case <-gone:
		return errors.New("the embedded database stopped")
	case err := <-failed:
		return err
	}
}

// handler is the web site over the program's parts.
func (a *app) handler(ctx context.Context, seeded *atomic.Bool, leaving func() bool) (http.Handler, error) {
	deps := handlers.Deps{
		APIRate: apiRate, Context: ctx, Log: a.log, Now: a.clock, Registry: a.registry,
		Auth: a.auth, Wallets: a.ledger, Gates: a.gates, Payments: a.payments, Knowledge: a.knowledge, Messages: a.messages,
		Numbers: a.numbers, Agents: a.agents, Calls: a.calls, Notices: a.notices, Webhooks: a.webhooks, Verify: a.verify,
		Operations: a.operations, Audit: audit.NewLog(a.db),
		BaseURL: a.cfg.BaseURL, SessionKeys: sessionKeys(a.cfg), CheckoutOrigins: checkoutOrigins(a.cfg), VATStatement: a.cfg.VATStatement,
		TrustedProxies:      a.cfg.TrustedProxies,
		OperatorsNeedFactor: !a.cfg.Development(), SignUp: a.cfg.SignUp == config.SignUpOpen && a.cfg.Auth == config.AuthLocal,
		Leaving: leaving,
		Ready: []handlers.Check{
			{Name: "database", Run: a.db.Ping},
			{Name: "started", Run: func(context.Context) error {
				if !seeded.Load() {
					return errors.New("still starting")
				}
				return nil
			}},
		},
	}
	if a.cfg.Development() {
		deps.APIRate = developmentAPIRate
		if a.cfg.Auth == config.AuthLocal { // a provider does not know the demo's users
			deps.Demo = demoAccounts()
		}
		deps.DevUser, deps.ListenAddr = a.cfg.DevUser, a.cfg.Addr
		if a.cfg.DevUser != "" {
			a.log.WarnContext(ctx, "requests to the API from this machine need no credential", "act_as", a.cfg.DevUser)
		}
	}
	var err error
	if deps.JobPages, err = a.jobPages(); err != nil {
		return nil, err
	}
	if a.verifier != nil {
		if err := a.verifier.Start(ctx); err != nil {
			return nil, err
		}
		deps.Ready = append(deps.Ready, handlers.Check{Name: "token keys", Run: a.verifier.Ready})
	}
	return handlers.New(deps)
}

// start serves in the background and returns what ends it.
func start(srv *http.Server, listener net.Listener, failed chan<- error) func() error {
	go func() {
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("the server on %s ended: %w", srv.Addr, err)
		}
	}()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			return errors.Join(fmt.Errorf("requests had to be cut off: %w", err), srv.Close())
		}
		return nil
	}
}

// together calls each at once and waits for all.
func together(ends []func() error) error {
	errs := make([]error, len(ends))
	var wg sync.WaitGroup
	for i, end := range ends {
		wg.Go(func() { errs[i] = end() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// patient is a context for stopping: it outlives the one whose end is the reason.
func patient(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// sandbox starts the stand-in providers, unless the configuration points elsewhere or another process has them.
func (a *app) sandbox(ctx context.Context) (stop func() error, err error) {
	if !a.usesSandbox() {
		return func() error { return nil }, nil
	}
	s, err := startSandbox(ctx, a.cfg, a)
	if errors.Is(err, sandbox.ErrAlreadyRunning) {
		a.log.InfoContext(ctx, "the sandbox is running already, in another process", "address", a.cfg.SandboxAddr)
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't start the sandbox: %w", err)
	}
	return s.Close, nil
}

// usesSandbox reports whether the configuration points at the stand-in providers.
func (a *app) usesSandbox() bool {
	return a.cfg.SandboxAddr != "" && a.cfg.StripeAPIBase == "http://"+a.cfg.SandboxAddr
}

// startSandbox runs the sandbox as the configuration describes it.
func startSandbox(ctx context.Context, cfg config.Config, a *app) (*sandbox.Server, error) {
	return sandbox.Start(ctx, sandboxOptions(cfg, a.log.With("part", "sandbox")))
}

// welcome tells the developer where to go.
func (a *app) welcome(e *env) {
	say(e.stdout, "\n  Ringfence is running at %s", a.cfg.BaseURL)
	if a.cfg.Auth == config.AuthLocal {
		say(e.stdout, "  Sign in as %s with the password %s", demoUsers[0].email, demoAccounts()[0].Password)
		for _, u := range demoUsers[1:] {
			say(e.stdout, "          or %-27s (%s)", u.email, u.describes)
		}
	} else {
		say(e.stdout, "  Sign in as a user of %s; who may see which organisation is in the table memberships", a.cfg.SupabaseURL)
	}
	if a.usesSandbox() {
		say(e.stdout, "  The sandbox with its Stripe is at http://%s", a.cfg.SandboxAddr)
		if a.cfg.LocalMailAddr() != "" {
			say(e.stdout, "  The mail it sends can be read at http://%s/sandbox/mail", a.cfg.SandboxAddr)
		}
	}
	say(e.stdout, "  Ctrl-C stops everything; the data stays in %s\n", a.cfg.DataDir)
}

type sandboxCmd struct{}

// Run serves the sandbox until the context ends.
func (sandboxCmd) Run(e *env) error {
	cfg, err := config.Load(e.getenv)
	if err != nil {
		return err
	}
	a := &app{cfg: cfg, log: newLog(e.stderr, cfg.LogLevel)}
	if err := a.developmentOnly("the sandbox"); err != nil {
		return err
	}
	s, err := startSandbox(e.ctx, cfg, a)
	if err != nil {
		return fmt.Errorf("couldn't start the sandbox: %w", err)
	}
	say(e.stdout, "The sandbox is running at %s", s.URL())
	<-e.ctx.Done()
	return s.Close()
}

type migrateCmd struct{}

// Run migrates; opening the program does it.
func (migrateCmd) Run(e *env) error {
	return withApp(e, func(context.Context, *app) error {
		say(e.stdout, "The database is up to date.")
		return nil
	})
}
