package handlers_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"riverqueue.com/riverui"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/knowledge"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/operations"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
	"ringfence/internal/webhooks"
	work "ringfence/jobs"
	"ringfence/views"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	password      = "correct horse battery"
	webhookSecret = "whsec_ofthehandlertests00000000"
	vapiSecret    = "what-vapi-shows-0123456789"
)

// site is the whole handler behind a real listener, over a database of its own and the Stripe stand-in. Every answer under
// /api/v1 is held against the API's description: see watch.
type site struct {
	*httptest.Server
	t     *testing.T
	dbURL string
	db    *db.DB
	auth  *auth.Auth
	log   *logBuffer
	org   uuid.UUID // Harbour Dental, £569.00
	other uuid.UUID // Second Tenant, empty
	stop  context.CancelFunc
	// twilio is the stand-in; nil where the site has none.
	twilio *sandbox.Twilio
	vapi   *sandbox.Vapi
	box    string // where the stand-ins are
	// vault opens the credentials at the providers.
	vault *telephony.Vault
	// numbers are the site's; no job of theirs runs by itself: see ready.
	numbers *telephony.Numbers
	// agents are the site's; no job of theirs runs by itself either: see told.
	agents *telephony.Agents
	jobs   work.Desk
}

// logBuffer collects the log of a server.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The account at the stand-in for Twilio.
const (
	twilioAccount = "AC00112233445566778899aabbccddeeff"
	twilioToken   = "0123456789abcdef0123456789abcdef"
	twilioSender  = "+15005550006"
	vapiKey       = "vapi-private-key-0123456789"
)

// options change what newSite makes.
type options struct {
	deps   func(*handlers.Deps)
	server func(*http.Server)
	auth   auth.Options
	texts  func(*telephony.Options)
	stripe string // address of the Stripe API; empty starts the stand-in
	mails  bool   // there is a mail server, though nobody hands it anything
	// heard listens to what is asked of the database; nil: nobody does.
	heard *heard
}

func newSite(t *testing.T, opts ...func(*options)) *site {
	t.Helper()
	o := options{deps: func(*handlers.Deps) {}, server: func(*http.Server) {}, texts: func(*telephony.Options) {}}
	for _, change := range opts {
		change(&o)
	}
	s := &site{t: t, dbURL: dbtest.URL(t), log: &logBuffer{}}
	if o.heard == nil {
		s.db = dbtest.OpenURL(t, s.dbURL, nil)
	} else {
		s.db = o.heard.open(t, s.dbURL)
	}
	s.org = wallettest.Org(t, s.db, "Harbour Dental", 569_00)
	s.other = wallettest.Org(t, s.db, "Second Tenant", 0)
	o.auth.Hash = &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	var err error
	if s.auth, err = auth.New(s.db, o.auth); err != nil {
		t.Fatal(err)
	}
	s.seed()
	if o.stripe == "" {
		box, err := sandbox.Start(t.Context(), sandbox.Options{
			Addr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "stripe"), Logger: slog.New(slog.DiscardHandler),
			TwilioAccountSID: twilioAccount, TwilioAuthToken: twilioToken, TwilioSettleAfter: -1, VapiAPIKey: vapiKey, VapiWebhookSecret: vapiKey,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = box.Close() })
		o.stripe, s.twilio = box.URL(), box.Twilio()
		s.vapi, s.box = box.Vapi(), box.URL()
	}
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	jobs, err := river.NewClient(riverdatabasesql.New(s.db.SystemPool()), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pay, err := payments.New(payments.Options{
		DB: s.db, Jobs: jobs, Log: log, Now: time.Now, StripeKey: "sk_test_x", StripeBase: o.stripe, WebhookSecrets: []string{webhookSecret},
		CheckoutOrigins: []string{o.stripe}, DocumentOrigins: []string{o.stripe}, BaseURL: "http://127.0.0.1:8080", Min: 5_00, Max: 5000_00,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	s.stop = stop
	deps := handlers.Deps{
		APIRate: 10_000, Context: ctx, Log: log, Now: time.Now, Registry: prometheus.NewRegistry(),
		Auth: s.auth, Wallets: wallet.New(s.db), Payments: pay,
		Gates:   wallet.NewGates(wallet.GateOptions{DB: s.db, Now: time.Now, Log: log}),
		BaseURL: "http://127.0.0.1:8080", SessionKeys: [][]byte{bytes.Repeat([]byte("k"), 32)}, CheckoutOrigins: []string{o.stripe},
		VATStatement: "Prices include <VAT>.",
		Demo:         []views.DemoAccount{{Email: "owner@harbour.example", Password: password, Describes: "Owner"}},
		Ready:        []handlers.Check{{Name: "database", Run: s.db.Ping}},
	}
	texts := telephony.Options{DB: s.db, Gates: deps.Gates, Log: log, Now: time.Now, BaseURL: deps.BaseURL}
	if s.twilio != nil {
		texts.AccountSID, texts.AuthToken, texts.APIBase, texts.From = twilioAccount, twilioToken, o.stripe, twilioSender
	}
	o.texts(&texts)
	s.numbers = s.newNumbers(deps.Gates, jobs, log, texts.APIBase)
	deps.Numbers, texts.Vault = s.numbers, s.vault
	if deps.Messages, err = telephony.New(texts); err != nil {
		t.Fatal(err)
	}
	deps.Verify = func(ctx context.Context) (checks []wallet.Check, err error) {
		err = s.db.InSystemTx(ctx, "test", func(ctx context.Context, tx *db.Tx) error {
			checks, err = wallet.CheckBooks(ctx, tx, telephony.Invariants...)
			return err
		})
		return checks, err
	}
	if s.agents, err = telephony.NewAgents(s.agentOptions(deps.Gates, jobs, log, texts.APIBase)); err != nil {
		t.Fatal(err)
	}
	deps.Agents = s.agents
	s.jobs = work.NewDesk(jobs)
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{Endpoints: riverui.NewEndpoints(jobs, nil), Logger: slog.New(slog.DiscardHandler), Prefix: handlers.JobPagesPath})
	if err != nil {
		t.Fatal(err)
	}
	deps.JobPages = ui
	deps.Audit = audit.NewLog(s.db)
	deps.Operations = operations.New(s.looks(&deps))
	voice := telephony.CallsOptions{
		DB: s.db, Gates: deps.Gates, Log: log, Now: time.Now, VapiKey: vapiKey, VapiBase: o.stripe + "/vapi",
		Events: telephony.VapiEvents{BaseURL: deps.BaseURL, Secret: vapiSecret},
	}
	if deps.Calls, err = telephony.NewCalls(voice); err != nil {
		t.Fatal(err)
	}
	deps.Knowledge = knowledge.New(knowledge.Options{DB: s.db, Gates: deps.Gates, Log: log, Interpret: true})
	told := notice.Options{DB: s.db, Log: log, BaseURL: deps.BaseURL, OpenToken: s.auth.OpenToken}
	if o.mails {
		told.SMTPURL, told.From = "smtp://127.0.0.1:1", "Ringfence <no-reply@ringfence.example>"
	}
	if deps.Notices, err = notice.New(told); err != nil {
		t.Fatal(err)
	}
	deps.Webhooks, err = webhooks.New(webhooks.Options{DB: s.db, Log: log, Now: time.Now, Keyset: s.keyset(), AllowPrivate: true, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	o.deps(&deps)
	h, err := handlers.New(deps)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(h)
	s.Config = handlers.Server("", h)
	s.Config.Handler = watch(t, h)
	o.server(s.Config)
	s.Start()
	t.Cleanup(func() {
		stop() // streams would keep Close waiting
		s.Close()
	})
	return s
}

// looks are what the house looks at itself with.
func (s *site) looks(d *handlers.Deps) operations.Options {
	return operations.Options{
		DB: s.db, Log: d.Log, Now: time.Now, SignIn: s.auth.Working, Calls: func(context.Context) error { return nil },
		Stripe: func(ctx context.Context) (operations.Money, error) {
			pence, err := d.Payments.AccountBalance(ctx)
			return operations.Money{Micros: pence * 10_000, Currency: "gbp"}, err
		},
		Twilio: func(ctx context.Context) (operations.Money, error) {
			micros, currency, err := d.Messages.AccountBalance(ctx)
			return operations.Money{Micros: micros, Currency: currency}, err
		},
		Books: func(ctx context.Context) (operations.Findings, error) {
			checks, err := d.Verify(ctx)
			found := operations.Findings{}
			for _, c := range checks {
				found[c.Name] = len(c.Violations)
			}
			return found, err
		},
		Numbers:   func(context.Context) (operations.Findings, error) { return operations.Findings{"orphans": 0}, nil },
		Jobs:      s.jobs,
		TwilioLow: 20_000_000, StripeLow: 100_000_000,
	}
}

func (s *site) seed() {
	s.t.Helper()
	dbtest.Super(s.t, s.dbURL, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (790000, 'test', 'test', '1970-01-01', now())`)
	err := s.db.InSystemTx(s.t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		for _, u := range []struct {
			email    string
			platform auth.PlatformRole
			org      uuid.UUID
			role     auth.Role
		}{
			{"owner@harbour.example", auth.PlatformNone, s.org, auth.RoleOwner},
			{"viewer@harbour.example", auth.PlatformNone, s.org, auth.RoleViewer},
			{"owner@second.example", auth.PlatformNone, s.other, auth.RoleOwner},
			{"operator@ringfence.example", auth.PlatformOperator, uuid.Nil, ""},
		} {
			user, err := s.auth.CreateUser(ctx, tx, u.email, password, u.platform)
			if err != nil {
				return err
			}
			if u.role == "" {
				continue
			}
			if err := s.auth.AddMember(ctx, tx, u.org, user.ID, u.role); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// adjust moves money, as an operator would.
func (s *site) adjust(amount money.Pence) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{s.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: s.org, Kind: wallet.Adjustment, Amount: amount, Reason: "Test of the stream", Reference: uuid.NewString(), Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) count(query string, args ...any) int {
	s.t.Helper()
	var n int
	dbtest.Get(s.t, s.dbURL, &n, query, args...)
	return n
}

// browser is a client with cookies that follows no redirect.
type browser struct {
	*http.Client
	s *site
}

func (s *site) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{s: s, Client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 20 * time.Second,
	}}
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body string
}

func (r reply) doc(t *testing.T) *goquery.Document {
	t.Helper()
	doc, err := goquery.NewDocumentFromReader(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// do sends a request; headers are name, value pairs.
func (b *browser) do(method, path string, body io.Reader, headers ...string) reply {
	b.s.t.Helper()
	req, err := http.NewRequest(method, b.s.URL+path, body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.Do(req)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	return reply{res, string(text)}
}

func (b *browser) get(path string, headers ...string) reply {
	b.s.t.Helper()
	return b.do("GET", path, nil, headers...)
}

// post sends the form as it is, without adding a token.
func (b *browser) post(path string, form url.Values, headers ...string) reply {
	b.s.t.Helper()
	return b.do("POST", path, strings.NewReader(form.Encode()), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
}

// token is the CSRF token that the page carries.
func (b *browser) token(path string) string {
	b.s.t.Helper()
	res := b.get(path)
	token, ok := res.doc(b.s.t).Find(`input[name="csrf_token"]`).First().Attr("value")
	if !ok || token == "" {
		b.s.t.Fatalf("GET %s: %s, no csrf_token in it", path, res.Status)
	}
	return token
}

// send posts a form from the page: with its token.
func (b *browser) send(page, path string, form url.Values, headers ...string) reply {
	b.s.t.Helper()
	with := url.Values{"csrf_token": {b.token(page)}}
	maps.Copy(with, form)
	return b.post(path, with, headers...)
}

func (b *browser) tryLogin(email, password string, more ...string) reply {
	b.s.t.Helper()
	form := url.Values{"email": {email}, "password": {password}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return b.send("/login", "/login", form)
}

// as is a browser that is signed in.
func (s *site) as(email string) *browser {
	s.t.Helper()
	b := s.browser()
	if res := b.tryLogin(email, password); res.StatusCode != http.StatusSeeOther {
		s.t.Fatalf("signing in as %s: %s\n%s", email, res.Status, res.body)
	}
	return b
}

func (b *browser) cookie() *http.Cookie {
	b.s.t.Helper()
	u, err := url.Parse(b.s.URL)
	if err != nil {
		b.s.t.Fatal(err)
	}
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "ringfence" {
			return c
		}
	}
	b.s.t.Fatal("no cookie")
	return nil
}

func wantStatus(t *testing.T, what string, res reply, status int) {
	t.Helper()
	if res.StatusCode != status {
		t.Errorf("%s: %s, want %d\n%.600s", what, res.Status, status, res.body)
	}
}

// newSiteOver is another process over the same database and keys of its own.
func newSiteOver(t *testing.T, s *site, d handlers.Deps, keys [][]byte) *site {
	t.Helper()
	d.SessionKeys, d.Registry = keys, prometheus.NewRegistry()
	h, err := handlers.New(d)
	if err != nil {
		t.Fatal(err)
	}
	other := *s
	other.Server = httptest.NewServer(watch(t, h))
	t.Cleanup(other.Close)
	return &other
}
