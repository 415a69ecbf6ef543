package handlers

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// Access is who may use a route. An Authorization header that is present and does not hold is 401 on every route but a
// webhook's, whatever else the request carries: its sender believes to be somebody.
type Access string

// The kinds of access. The pages' are for people with a browser: a session's cookie, and a form's token for what changes
// something. The API's take a bearer credential as well, which ignores cookies and needs no token.
const (
	// Public: anybody, and it makes no difference who.
	Public Access = "public"
	// OptionalAuth: anybody, and who is signed in is known.
	OptionalAuth Access = "optional"
	// Session: somebody signed in who works in an organisation. The signed-out are sent to sign in.
	Session Access = "session"
	// Person: somebody signed in, in an organisation or not.
	Person Access = "person"
	// Operator: a platform operator. The signed-out are sent to sign in; to everybody else the route does not exist: 404.
	// Where operators need a second factor, one who has none is led to set it up first.
	Operator Access = "operator"
	// RequireAuth: a session, or an API key or JWT as bearer, of an organisation.
	RequireAuth Access = "auth"
	// RequireAuthOrDev: as RequireAuth; in development, a request from this machine without any credential acts as
	// [Deps.DevUser], where one is configured.
	RequireAuthOrDev Access = "auth-or-dev"
	// Webhook: a provider, proven by its signature over the body. No cookie is read, no session, no CSRF token, and an
	// Authorization header is the provider's own business.
	Webhook Access = "webhook"
)

// admit holds the route's access, and for what changes something that it was meant: same origin and the form's token.
func (a *app) admit(r *http.Request, v *visit) error {
	access := v.route.Access
	if access == Webhook {
		return nil
	}
	if _, has := r.Header["Authorization"]; has {
		return a.admitBearer(r, v)
	}
	if err := a.origin.Check(r); err != nil {
		return fault.Wrap(fault.Forbidden, "This request came from another site, so nothing was done.", err)
	}
	switch access {
	case OptionalAuth:
		if err := a.identify(r, v); err != nil {
			return err
		}
	case Session, Person, RequireAuth, RequireAuthOrDev:
		if err := a.identify(r, v); err != nil {
			return err
		}
		if !v.signedIn && access == RequireAuthOrDev {
			if err := a.actAsDevUser(r, v); err != nil {
				return err
			}
		}
		switch {
		case !v.signedIn:
			return errSignIn()
		case v.who.Role == "" && access != Person:
			return fault.Wrap(fault.Forbidden, "Your operator account belongs to no organisation, so it has no wallet to show.", errNoOrganisation)
		}
	case Operator:
		if err := a.identify(r, v); err != nil {
			return err
		}
		switch {
		case !v.signedIn:
			return errSignIn()
		case !v.who.Operator:
			return errNoPage()
		case a.OperatorsNeedFactor && !v.who.SecondFactor:
			return errFactorFirst()
		}
	case Public, Webhook:
	}
	if err := a.mayChange(r, v); err != nil {
		return err
	}
	switch {
	case safe(r.Method):
		return nil
	case access == RequireAuth || access == RequireAuthOrDev:
		return a.checkToken(r, v, r.Header.Get("X-CSRF-Token")) // the body is JSON
	}
	return a.checkForm(r, v)
}

// mayChange refuses what changes something where nothing may be changed: on every route while an operator looks at an
// organisation as its people see it, but for the ways out; and in an organisation that is suspended, whose people may still
// look after their own account. Its API answers nothing at all.
func (a *app) mayChange(r *http.Request, v *visit) error {
	access := v.route.Access
	if !safe(r.Method) && access == Public && v.route.Pattern != "/logout" { // whoever asks there is not known yet
		if err := a.identify(r, v); err != nil {
			return err
		}
	}
	api := access == RequireAuth || access == RequireAuthOrDev
	switch {
	case v.who.Viewing && !safe(r.Method) && v.route.Pattern != endViewPath && v.route.Pattern != "/logout":
		return &fault.Error{
			Kind:   fault.Forbidden,
			Public: "You look at " + v.who.OrgName + " as its people see it, so nothing can be changed. End that first.",
		}
	case v.who.Suspended && api:
		return wallet.ErrSuspended("so nothing is answered here")
	case v.who.Suspended && access == Session && !safe(r.Method):
		return wallet.ErrSuspended("so nothing can be changed")
	}
	return nil
}

// safe reports whether a method changes nothing.
func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// admitBearer holds the access of a request that shows a credential in its Authorization header. Cookies are not read.
func (a *app) admitBearer(r *http.Request, v *visit) error {
	if err := a.knowBearer(r, v); err != nil {
		return err
	}
	switch v.route.Access {
	case RequireAuth, RequireAuthOrDev:
		return a.mayChange(r, v)
	case Public, OptionalAuth:
		if safe(r.Method) {
			return nil
		}
	case Operator:
		return errNoPage()
	case Session, Person, Webhook:
	}
	return fault.New(fault.Forbidden, "This page is for people. Programs use the addresses under /api/v1.")
}

// knowBearer finds out who the Authorization header is of.
func (a *app) knowBearer(r *http.Request, v *visit) error {
	v.identified = true // cookies count for nothing beside it
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return errBadAuthorization()
	}
	who, err := a.Auth.Bearer(r.Context(), values[0])
	if _, told := errors.AsType[*fault.Error](err); err != nil && !told { // the database is away: nobody knows whose it is
		return &fault.Error{
			Kind: fault.Unavailable, RetryAfter: time.Second, Cause: err,
			Public: "We could not check your credential just now, so nothing was done. Try again in a moment.",
		}
	}
	if err != nil {
		return err
	}
	v.who, v.signedIn = who, true
	return nil
}

// actAsDevUser signs the request in as development's user, if there is one and the request cannot have come from
// anywhere but this machine: the peer is loopback, nobody passed it on, and the browser was not led here under another
// name (DNS rebinding).
func (a *app) actAsDevUser(r *http.Request, v *visit) error {
	if a.DevUser == "" {
		return nil
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return nil //nolint:nilerr // not from this machine: simply nobody
	}
	for _, passedOn := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(passedOn) != "" {
			return nil
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !loopback(strings.Trim(host, "[]")) {
		return nil
	}
	who, err := a.Auth.DevUser(r.Context(), a.DevUser)
	switch {
	case fault.Is(err, fault.Unauthenticated): // not seeded yet, or somebody else's name
		return nil
	case err != nil:
		return err
	}
	v.who, v.signedIn = who, true
	return nil
}

// mayPay refuses who may only look.
func mayPay(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot top up. Ask an owner of "+who.OrgName+".")
}

// may refuses who does not have the scope.
func may(who auth.Identity, scope auth.Scopes) error {
	if who.Scopes.Has(scope) {
		return nil
	}
	return &fault.Error{
		Kind: fault.Forbidden, Code: "insufficient_scope",
		Public: "This needs the scope " + strings.Join(scope.Names(), ", ") + ", which this credential does not have.",
	}
}

// errNoOrganisation marks somebody signed in who works in no organisation.
var errNoOrganisation = errors.New("works in no organisation")

func errSignIn() error {
	return fault.New(fault.Unauthenticated, "You are signed out. Sign in to continue.")
}

func errBadAuthorization() error {
	return fault.New(fault.Unauthenticated, "The Authorization header does not hold a credential we know.")
}

// errNeedsFactor marks an operator who has to set up a second factor first.
var errNeedsFactor = errors.New("the operator has no second factor")

func errFactorFirst() error {
	return fault.Wrap(fault.Forbidden, "Operators need two-step sign-in. Set it up in your settings first.", errNeedsFactor)
}
