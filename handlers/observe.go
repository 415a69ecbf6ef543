package handlers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/sessions"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

// visit is one request as it passes through: what is found out about it, for the handler and for the log.
type visit struct {
	requestID string
	address   string // the client's, behind trusted proxies too
	out       *recorder
	route     *Route // nil when none matched

	session    *sessions.Session // what the cookie holds; nil until it was read
	identified bool
	signedIn   bool
	who        auth.Identity
	oversize   bool // an upload was too large to be read: see checkUpload
}

type visitKey struct{}

// visitOf is the request's visit, which observe put there.
func visitOf(r *http.Request) *visit {
	v, _ := r.Context().Value(visitKey{}).(*visit) // every request comes through observe
	return v
}

// is reports whether the request's route has this access.
func (v *visit) is(a Access) bool { return v.route != nil && v.route.Access == a }

// wrote reports whether an answer is on its way.
func (v *visit) wrote() bool { return v.out.status != 0 }

// pattern names the route in logs and metrics. The path itself is in neither: people and programs put secrets there.
func (v *visit) pattern() string {
	if v.route == nil {
		return "unmatched"
	}
	return v.route.Method + " " + v.route.Pattern
}

// attrs are what every log line about the request carries.
func (v *visit) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("request_id", v.requestID), slog.String("route", v.pattern())}
	if v.who.OrgID != uuid.Nil {
		attrs = append(attrs, slog.String("org_id", v.who.OrgID.String()))
	}
	if v.who.KeyID != uuid.Nil {
		attrs = append(attrs, slog.String("key_id", v.who.KeyID.String()))
	} else if v.signedIn {
		attrs = append(attrs, slog.String("user_id", v.who.UserID.String()))
	}
	return attrs
}

// observe does what is the same for every request: an id, the security headers, the log line, the metrics, and the end of
// a panic.
func (a *app) observe(w http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request, *visit)) {
	began := a.Now()
	out := &recorder{ResponseWriter: w}
	v := &visit{requestID: rand.Text(), address: clientAddress(r, a.TrustedProxies), out: out}
	ctx := audit.WithRequestID(context.WithValue(r.Context(), visitKey{}, v), v.requestID)
	r = r.WithContext(ctx)

	h := w.Header()
	for name, values := range a.headers {
		h[name] = values[:1:1] // a handler that adds to them must not add to everybody's
	}
	h.Set("X-Request-Id", v.requestID)
	h.Set("Cache-Control", "no-store")
	if a.Leaving() {
		h.Set("Connection", "close")
	}

	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a sentinel that is compared by identity
			a.Log.LogAttrs(ctx, slog.LevelError, "panic", append(v.attrs(), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))...)
			if !v.wrote() {
				a.answerPanic(out, r, v)
				p = nil
			} else {
				p = http.ErrAbortHandler
			}
		}
		a.finish(ctx, v, r, a.Now().Sub(began))
		if p != nil {
			panic(p) // net/http cuts the connection
		}
	}()
	next(out, r, v)
}

// answerPanic answers a request whose handler panicked. It asks nothing of anybody, and does not panic itself.
func (a *app) answerPanic(w http.ResponseWriter, r *http.Request, v *visit) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if wantsJSON(r, v) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"request_id":"` + v.requestID + `"}`))
		return
	}
	page := a.panicPage(r, v)
	if page == nil {
		page = []byte("Something went wrong on our side. If you write to us, quote " + v.requestID + ".\n")
	} else {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Add("Vary", "HX-Request")
	}
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(page)
}

// panicPage is the error page for that, or nil where it is the page itself that panics.
func (a *app) panicPage(r *http.Request, v *visit) (page []byte) {
	defer func() {
		if recover() != nil {
			page = nil
		}
	}()
	to, f := answerTo(fault.Internal), fault.As(errPanicked)
	m := a.problemModel(r, v, to, f)
	c := views.ErrorPage(m)
	if isFragment(r) {
		c = views.Problem(m)
	}
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		return nil
	}
	return b.Bytes()
}

// errPanicked stands for what the log has whole.
var errPanicked = errors.New("the handler panicked")

// finish writes the access log's line and counts the request.
func (a *app) finish(ctx context.Context, v *visit, r *http.Request, took time.Duration) {
	status := v.out.status
	if status == 0 {
		status = http.StatusOK // net/http's own answer to a handler that wrote nothing
	}
	level := slog.LevelInfo
	if v.route != nil && quiet[v.route.Pattern] {
		level = slog.LevelDebug
	}
	a.Log.LogAttrs(ctx, level, "request", append(v.attrs(),
		slog.String("method", methodName(r.Method)), slog.Int("status", status), slog.Int64("bytes", v.out.bytes),
		slog.String("address", v.address), slog.Int64("duration_us", took.Microseconds()))...)
	a.metrics.count(v, status, took)
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetName(v.pattern()) // as in logs and metrics, never the path itself
		span.SetAttributes(attribute.String("http.route", v.pattern()), attribute.String("ringfence.request_id", v.requestID))
	}
}

// quiet are the routes that machines ask all the time; they are logged only when someone looks closely.
var quiet = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/static/": true}

// recorder remembers what was answered. Unwrap lets http.ResponseController through to the connection.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // 1xx are only announcements
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// clientAddress is who asks: the peer, or behind trusted proxies the nearest hop of X-Forwarded-For that is not one of
// them. Whatever stands further left was written by the client itself and is not believed.
func clientAddress(r *http.Request, trusted []netip.Prefix) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && inAny(trusted, at); i-- {
		hop := strings.TrimSpace(hops[i])
		ip, err := netip.ParseAddr(hop)
		if err != nil {
			with, err := netip.ParseAddrPort(hop)
			if err != nil {
				break // not an address: the last hop that was one is as far as we can see
			}
			ip = with.Addr()
		}
		at = ip.Unmap().WithZone("")
	}
	return at.String()
}

func inAny(prefixes []netip.Prefix, ip netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// securityHeaders are on every answer, whatever it is.
func securityHeaders(secure bool, checkoutOrigins []string) http.Header {
	h := http.Header{}
	// form-action binds the redirect after a form too, so the places a top-up leads to have to be named.
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
		"font-src 'self'; connect-src 'self'; form-action "+strings.Join(append([]string{"'self'"}, checkoutOrigins...), " ")+
		"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains") // ASVS 5.0, 3.4.1
	}
	return h
}
