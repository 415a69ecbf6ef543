// Package handlers is everything that is spoken over HTTP. routes.go is the table of contents; problem.go is the only
// place that knows which failure has which status. A handler returns an error and one adapter answers it.
package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/knowledge"
	"ringfence/internal/notice"
	"ringfence/internal/operations"
	"ringfence/internal/payments"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/webhooks"
	"ringfence/static"
	"ringfence/views"
)

// Deps is what the handlers work with. All of it is required unless it says otherwise.
type Deps struct {
	// Context ends the open streams when the server shuts down.
	Context context.Context
	Log     *slog.Logger
	Now     func() time.Time
	// Registry takes the HTTP metrics and is what GET /metrics shows.
	Registry *prometheus.Registry

	Auth      *auth.Auth
	Wallets   *wallet.Ledger
	Gates     *wallet.Gates
	Messages  *telephony.Messages
	Numbers   *telephony.Numbers
	Agents    *telephony.Agents
	Calls     *telephony.Calls
	Payments  *payments.Service
	Knowledge *knowledge.Service
	Notices   *notice.Service
	Webhooks  *webhooks.Service
	// JobPages are River's own pages of its jobs, for reading, at [JobPagesPath]; nil: there are none.
	JobPages http.Handler
	// Audit reads the log of who changed what.
	Audit *audit.Log
	// Operations is how the house looks at itself.
	Operations *operations.Service
	// Verify holds our own records against what must be true of them, whoever they belong to; for operators.
	Verify func(context.Context) ([]wallet.Check, error)

	// BaseURL is our own address as browsers see it. https makes the cookie __Host- and Secure and sends HSTS; http is
	// accepted for loopback addresses only.
	BaseURL string
	// SessionKeys protect the cookie; each has at least 32 bytes. The first signs, all verify.
	SessionKeys [][]byte
	// CheckoutOrigins are where a top-up may send the browser, such as "https://checkout.stripe.com".
	CheckoutOrigins []string
	// VATStatement is the sentence by which customers are told how prices and top-ups stand to VAT; empty says nothing.
	VATStatement string
	// APIRate is how many API requests a second one credential may make.
	APIRate int
	// TrustedProxies are the peers whose X-Forwarded-For is believed. May be empty.
	TrustedProxies []netip.Prefix
	// OperatorsNeedFactor leads operators without a second factor to set it up before any page of theirs. For production.
	OperatorsNeedFactor bool
	// SignUp offers and takes sign-ups.
	SignUp bool
	// DevUser is the e-mail of the user that requests without a credential act as where the route allows it; empty means
	// nobody. It is for development alone, and refused unless ListenAddr and BaseURL are loopback.
	DevUser string
	// ListenAddr is the host:port that the server listens on; needed with DevUser only.
	ListenAddr string
	// Demo are the accounts that the sign-in page offers; empty outside development.
	Demo []views.DemoAccount
	// Ready are the checks behind GET /readyz. May be empty.
	Ready []Check
	// Leaving reports that the server is about to end and still takes requests: GET /readyz is then 503, and every answer
	// ends its connection, so that whoever shares requests out goes elsewhere. nil means never.
	Leaving func() bool
}

// app is the handlers with what they share.
type app struct {
	Deps
	mux     *http.ServeMux
	origin  http.CrossOriginProtection
	cookies *sessions.CookieStore
	cookie  string // its name
	headers http.Header
	assets  views.Assets
	metrics *metrics
	streams *hub
	api     *apiLimits
	// reference describes the API to programs and to people.
	reference *reference
}

// New builds the handler of the whole site. Streams that it opens end with d.Context, and with the shutdown of a server
// made by [Server].
func New(d Deps) (http.Handler, error) {
	base, err := url.Parse(d.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname())) {
		return nil, fmt.Errorf("the base URL %q must be https://host, or http:// on a loopback address", d.BaseURL)
	}
	secure := base.Scheme == "https"
	if d.DevUser != "" {
		host, _, err := net.SplitHostPort(d.ListenAddr)
		if err != nil || !loopback(host) || !loopback(base.Hostname()) {
			return nil, errors.New("a user for requests without a credential is for a server that listens on a loopback address")
		}
	}
	for _, o := range d.CheckoutOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || o != u.Scheme+"://"+u.Host || strings.ContainsAny(o, " ;,'\"*") {
			return nil, fmt.Errorf("the checkout origin %q must be scheme://host", o)
		}
	}
	if d.Leaving == nil {
		d.Leaving = func() bool { return false }
	}
	a := &app{Deps: d, mux: http.NewServeMux(), headers: securityHeaders(secure, d.CheckoutOrigins)}
	if a.cookies, a.cookie, err = newCookies(d.SessionKeys, secure); err != nil {
		return nil, err
	}
	if a.metrics, err = newMetrics(d.Registry); err != nil {
		return nil, err
	}
	a.assets = views.Assets{
		CSS: static.Path("app.css"), HTMX: static.Path("htmx.min.js"), SSE: static.Path("sse.js"),
		App: static.Path("app.js"), Zone: static.Path("zone.js"), Font: static.Path("inter.woff2"), Favicon: static.Path("favicon.svg"),
	}
	a.api = newAPILimits(d.APIRate, d.Now)
	if a.reference, err = newReference(d.BaseURL); err != nil {
		return nil, err
	}
	a.streams = newHub(d.Context, d.Log, d.Wallets.Balances, d.Auth.StillValid, a.metrics.streams)
	for _, rt := range table() {
		a.mux.Handle(rt.Method+" "+rt.Pattern, a.endpoint(rt))
	}
	return a, nil
}

// loopback reports whether host can only be this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Server returns a server for h whose limits cut slow clients off within ten seconds. Handlers get thirty seconds to
// answer; streams lift that for themselves. Shutting it down ends the streams of h.
func Server(addr string, h http.Handler) *http.Server {
	srv := &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    64 << 10,
		// What net/http has to say is about single connections (broken TLS, a panic that we re-raised to cut one).
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	if a, ok := h.(*app); ok {
		srv.ErrorLog = slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug)
		srv.RegisterOnShutdown(a.streams.close)
	}
	return srv
}

// ServeHTTP answers one request: everything that is the same for all of them happens in observe, the route's own in
// endpoint.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.observe(w, r, func(w http.ResponseWriter, r *http.Request, v *visit) {
		fallback, pattern := a.mux.Handler(r)
		if pattern != "" {
			a.mux.ServeHTTP(w, r)
			return
		}
		// No catch-all is registered, since it would turn every wrong method into a 404. What the mux would answer
		// says which of the two it is.
		var peek peeked
		fallback.ServeHTTP(&peek, r)
		if _, has := r.Header["Authorization"]; has {
			if err := a.knowBearer(r, v); err != nil {
				a.fail(w, r, v, err)
				return
			}
		}
		switch {
		case peek.status == http.StatusMethodNotAllowed:
			w.Header().Set("Allow", peek.Header().Get("Allow"))
			a.fail(w, r, v, errMethod)
		case peek.status/100 == 3: // to the clean spelling of the path
			fallback.ServeHTTP(w, r)
		default:
			a.fail(w, r, v, errNoPage())
		}
	})
}

// peeked takes a response's status and headers and forgets the rest.
type peeked struct {
	status int
	header http.Header
}

func (p *peeked) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{}
	}
	return p.header
}

func (p *peeked) WriteHeader(status int) { p.status = status }

func (p *peeked) Write(b []byte) (int, error) { return len(b), nil }

// errMethod is the one failure of HTTP itself that no domain has a kind for.
var errMethod = errors.New("method not allowed")
