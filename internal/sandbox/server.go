package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Options says where the sandbox listens, what it remembers and whom it tells.
type Options struct {
	// Addr is the listen address, for example 127.0.0.1:8091. An empty host means 127.0.0.1, port 0 a free port.
	// Anything that is not loopback is refused.
	Addr string
	// StateFile is the file that holds the state between runs; it is made when missing.
	StateFile string
	// WebhookURL is where Stripe events are posted to; empty delivers nothing.
	WebhookURL string
	// WebhookSecret signs the deliveries (whsec_…); needed when WebhookURL is set.
	WebhookSecret string
	// SettleAfter is how long a "pay later" payment stays in processing before it succeeds by itself. Zero means
	// 20 seconds, a negative value never.
	SettleAfter time.Duration
	// TwilioAccountSID is the account of Twilio's stand-in (AC and 32 hexadecimal digits), TwilioAuthToken the token
	// that admits to it and signs its callbacks. Without an account there is no Twilio here.
	TwilioAccountSID, TwilioAuthToken string
	// TwilioNumbers are numbers that the account owns without buying them, in the form +447400123456; none means
	// +15005550006 alone.
	TwilioNumbers []string
	// TwilioSMSURL is where texts to these numbers are posted to, until the API says otherwise; empty posts them
	// nowhere.
	TwilioSMSURL string
	// TwilioSettleAfter is how long a text takes from queued to its last status. Zero means a second; with a negative
	// value it moves only by Twilio.Advance and Twilio.Mark.
	TwilioSettleAfter time.Duration
	// MailAddr is where messages are taken by SMTP, host:port, loopback only; empty means that there is no mail here. When
	// something else has the address, the sandbox runs without taking any and logs a warning.
	MailAddr string
	// CallSecond is how long a second of a call takes, at Twilio and at Vapi. Zero means a tenth of a second; with a
	// negative value calls move only by Twilio.AdvanceCall, and one that is hung up has lasted as long as it did.
	CallSecond time.Duration
	// VapiAPIKey opens Vapi's stand-in, which needs Twilio's; without a key there is no Vapi here. VapiWebhookSecret is
	// the organisation's credential for its servers: sent as Authorization: Bearer to VapiServerURL and to servers that
	// name a credentialId.
	VapiAPIKey, VapiWebhookSecret string
	// VapiServerURL is the organisation's server: where messages go that neither the assistant nor the number has a
	// server for. Empty sends these nowhere.
	VapiServerURL string
	// Transport makes the requests to receivers of webhooks and callbacks; nil means the network's own.
	Transport http.RoundTripper
	// Now is the clock; nil means the system's.
	Now func() time.Time
	// Logger receives what happens; nil means slog.Default.
	Logger *slog.Logger
}

// ErrAlreadyRunning says that another sandbox already serves the address. Its state and webhook target are that
// process's own; the caller can use it in place of one of its own.
var ErrAlreadyRunning = errors.New("sandbox: already running")

// ErrNotLoopback says that the address asked for can be reached from other machines.
var ErrNotLoopback = errors.New("sandbox: the address is not loopback")

const (
	healthPath = "/sandbox/health"
	healthName = "ringfence"
	// maxBody is far above anything the imitated APIs take.
	maxBody = 1 << 20
)

// Server is a running sandbox.
type Server struct {
	url    string
	log    *slog.Logger
	http   *http.Server
	store  *store
	stripe *Stripe
	twilio *Twilio // nil when it is off
	mail   *Mail   // nil when it is off
	vapi   *Vapi   // nil when it is off
	cancel context.CancelFunc

	work  sync.WaitGroup
	close func() error
}

// Start listens, loads the state and begins to serve and to deliver. It returns when the sandbox answers.
// Ending ctx is the same as Close.
//
// Errors: ErrNotLoopback, ErrAlreadyRunning (another sandbox has the port), or what listening or opening the state
// file said.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // this is the one place where the system clock comes in
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.SettleAfter == 0 {
		o.SettleAfter = 20 * time.Second
	}
	if o.WebhookURL != "" && o.WebhookSecret == "" {
		return nil, errors.New("sandbox: WebhookSecret is not set: deliveries could not be signed")
	}
	addr, err := loopback(o.Addr)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) && isSandbox(ctx, addr) {
			return nil, fmt.Errorf("%w at http://%s", ErrAlreadyRunning, addr)
		}
		return nil, fmt.Errorf("sandbox: listen on %s: %w", addr, err)
	}
	st, err := openStore(o.StateFile)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{url: "http://" + ln.Addr().String(), log: o.Logger, store: st, cancel: cancel}
	s.stripe, err = newStripe(run, o, s.url, st)
	if err == nil {
		s.twilio, err = newTwilio(run, o, st)
	}
	if err == nil {
		s.vapi, err = newVapi(run, o, s.url, st, s.twilio)
	}
	if err == nil { // the last, since it listens
		s.mail, err = newMail(ctx, run, o, st)
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, st.close(), ln.Close())
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		// No ReadTimeout: it would also end the requests that a fault holds.
		IdleTimeout: 2 * time.Minute,
		ErrorLog:    slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.close = sync.OnceValue(s.shutdown)
	s.work.Go(func() {
		if err := s.http.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.ErrorContext(run, "sandbox stopped serving", "error", err)
		}
	})
	s.work.Go(func() { s.stripe.run(run) })
	if s.twilio != nil {
		s.work.Go(func() { s.twilio.run(run) })
	}
	if s.mail != nil {
		s.work.Go(func() { s.mail.run(run) })
	}
	if s.vapi != nil {
		s.work.Go(func() { s.vapi.run(run) })
	}
	stop := context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			s.log.ErrorContext(run, "sandbox did not close cleanly", "error", err)
		}
	})
	context.AfterFunc(run, func() { stop() })
	return s, nil
}

// URL is the base of everything the sandbox serves, without a trailing slash: http://127.0.0.1:8091. It is also the
// URL for stripe.BackendConfig.
func (s *Server) URL() string { return s.url }

// Stripe gives tests in the same process what the control endpoints give to others.
func (s *Server) Stripe() *Stripe { return s.stripe }

// Twilio does the same for Twilio; nil when Options name no account.
func (s *Server) Twilio() *Twilio { return s.twilio }

// Mail does the same for mail; nil when Options name no address for it.
func (s *Server) Mail() *Mail { return s.mail }

// Vapi does the same for Vapi; nil when Options name no key.
func (s *Server) Vapi() *Vapi { return s.vapi }

// Close ends serving and delivering and closes the state file. It is safe to repeat.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutdown() error {
	s.cancel()
	// Requests that a fault holds end with cancel; anything slower than this is cut.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	s.work.Wait()
	return errors.Join(err, s.store.close())
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		health := map[string]string{"sandbox": healthName, "webhook_url": s.stripe.webhookURL}
		if s.twilio != nil {
			health["twilio_sms_url"] = s.twilio.smsURL
		}
		if s.vapi != nil {
			health["vapi_server_url"] = s.vapi.serverURL
		}
		writeJSON(w, http.StatusOK, health)
	})
	mux.HandleFunc("GET /assets/sandbox.css", serveCSS)
	s.stripe.mount(mux)
	if s.twilio != nil {
		s.twilio.mount(mux)
		phones{twilio: s.twilio, vapi: s.vapi}.mount(mux)
	}
	if s.mail != nil {
		s.mail.mount(mux)
	}
	if s.vapi != nil {
		s.vapi.mount(mux)
	}
	// A page of another site must not be able to act here through the developer's browser.
	return loopbackHost(http.NewCrossOriginProtection().Handler(limitBody(mux)))
}

// loopback gives the address to listen on, or ErrNotLoopback.
func loopback(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("sandbox: address %q: %w", addr, err)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", fmt.Errorf("%w: %s", ErrNotLoopback, addr)
	}
	return net.JoinHostPort(host, port), nil
}

// isSandbox asks whoever has the port whether it is a sandbox. One that is still starting answers within moments.
func isSandbox(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+healthPath, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var health struct {
		Sandbox string `json:"sandbox"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&health)
	return err == nil && health.Sandbox == healthName
}

// loopbackHost refuses requests that name another host: a foreign site whose name was made to resolve to 127.0.0.1.
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "the sandbox answers on loopback only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// writeJSON answers v; a failure to write means that the caller has gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
