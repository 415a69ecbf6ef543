package handlers

import (
	"net/http"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/static"
)

// Access is who may use a route.
type Access string

// The kinds of access.
const (
	// Public: anybody.
	Public Access = "public"
	// Session: somebody signed in who works in an organisation. The signed-out are sent to sign in.
	Session Access = "session"
	// Operator: a platform operator. To everybody else the route does not exist: 404.
	Operator Access = "operator"
	// Webhook: a provider, proven by its signature over the body. No cookie is read, no session, no CSRF token, and an
	// Authorization header is the provider's own business.
	Webhook Access = "webhook"
)

// Route is one line of the table of contents.
type Route struct {
	Method  string
	Pattern string // of http.ServeMux
	Access  Access
	handle  func(*app, http.ResponseWriter, *http.Request, *visit) error
}

// Routes is the table of contents: every route there is and who may use it. Nothing else answers anything but 404 or 405.
func Routes() []Route { return table() }

func table() []Route {
	return []Route{
		{"GET", "/{$}", Public, (*app).home},
		{"GET", "/login", Public, (*app).loginPage},
		{"POST", "/login", Public, (*app).login},
		// Public, since a session that is over already must not stand in the way of leaving.
		{"POST", "/logout", Public, (*app).logout},

		{"GET", "/dashboard", Session, (*app).dashboard},
		{"GET", "/wallet", Session, (*app).wallet},
		{"POST", "/wallet/quote", Session, (*app).quote},
		{"POST", "/wallet/top-ups", Session, (*app).startTopUp},
		{"GET", "/wallet/top-ups/{id}", Session, (*app).topUp},
		{"GET", "/wallet/stream", Session, (*app).walletStream},

		{"POST", "/api/webhooks/stripe", Webhook, (*app).stripeWebhook},

		{"GET", "/healthz", Public, (*app).healthz},
		{"GET", "/readyz", Public, (*app).readyz},
		{"GET", "/metrics", Operator, (*app).metricsPage},
		{"GET", static.Prefix, Public, (*app).staticFile},
	}
}

// home leads to the first page.
func (a *app) home(w http.ResponseWriter, r *http.Request, _ *visit) error {
	http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
	return nil
}

func (a *app) staticFile(w http.ResponseWriter, r *http.Request, _ *visit) error {
	static.Handler().ServeHTTP(w, r)
	return nil
}

// endpoint is the way of every request to its route's handler: who asks, may they, and did they mean to.
func (a *app) endpoint(rt Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visitOf(r)
		v.route = &rt
		err := a.admit(r, v)
		if err == nil {
			err = rt.handle(a, w, r, v)
		}
		if err != nil {
			a.fail(w, r, v, err)
		}
	})
}

// admit holds the route's access, and for what changes something that it was meant: same origin and the form's token.
func (a *app) admit(r *http.Request, v *visit) error {
	if v.route.Access == Webhook {
		return nil
	}
	// No credential of this kind is known yet. One that is present and unknown is refused rather than ignored: its
	// sender believes to be somebody.
	if r.Header.Get("Authorization") != "" {
		return errBadAuthorization()
	}
	if err := a.origin.Check(r); err != nil {
		return fault.Wrap(fault.Forbidden, "This request came from another site, so nothing was done.", err)
	}
	switch v.route.Access {
	case Session:
		if err := a.identify(r, v); err != nil {
			return err
		}
		switch {
		case !v.signedIn:
			return errSignIn()
		case v.who.Role == "":
			return fault.New(fault.Forbidden, "Your operator account belongs to no organisation, so it has no wallet to show.")
		}
	case Operator:
		if err := a.identify(r, v); err != nil {
			return err
		}
		if !v.who.Operator {
			return errNoPage()
		}
	case Public, Webhook:
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	return a.checkForm(r, v)
}

// mayPay refuses who may only look.
func mayPay(who auth.Identity) error {
	if who.CanPay() {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot top up. Ask an owner of "+who.OrgName+".")
}

func errSignIn() error {
	return fault.New(fault.Unauthenticated, "You are signed out. Sign in to continue.")
}

func errBadAuthorization() error {
	return fault.New(fault.Unauthenticated, "The Authorization header does not hold a credential we know.")
}

func errNoPage() error {
	return fault.New(fault.NotFound, "There is no such page here. Check the address, or go on from the start.")
}
