package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

// loginPage shows the sign-in form; who is signed in already goes on.
func (a *app) loginPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	next := localPath(r.URL.Query().Get("next"))
	if v.signedIn {
		http.Redirect(w, r, orDashboard(next), http.StatusSeeOther) //nolint:gosec // localPath lets nothing out of this site
		return nil
	}
	if err := a.readyForm(w, r, v); err != nil {
		return err
	}
	p := views.LoginPage{Next: next}
	if r.URL.Query().Get("done") == "reset" {
		p.Notice = "Your password was changed, and you were signed out everywhere. Sign in with the new one."
	}
	return a.showLogin(w, r, v, http.StatusOK, p)
}

// readyForm gives a stranger's browser what forms are protected by.
func (a *app) readyForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	a.open(r, v)
	if formToken(v.value(valueCSRF)) != "" {
		return nil
	}
	v.session.Values[valueCSRF] = newSecret()
	return a.cookies.Save(r, w, v.session)
}

func (a *app) showLogin(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.LoginPage) error {
	v.signedIn = false // whoever sees the form is to be drawn as a stranger
	p.Meta = a.meta(r, v, "Sign in")
	p.Demo, p.SignUp = a.Demo, a.SignUp
	return a.render(w, r, status, views.Login(p))
}

// login checks the form and begins a session, or the wait for its second factor.
func (a *app) login(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.LoginPage{Email: strings.TrimSpace(r.PostForm.Get("email")), Next: localPath(r.PostForm.Get("next"))}
	password := r.PostForm.Get("password")
	if p.Email == "" {
		p.EmailError = "Enter your email address."
	}
	if password == "" {
		p.PasswordError = "Enter your password."
	}
	if p.EmailError != "" || p.PasswordError != "" {
		return a.showLogin(w, r, v, answerTo(fault.Invalid).status, p)
	}

	token, who, err := a.Auth.SignIn(r.Context(), p.Email, password, v.address, r.UserAgent())
	if err != nil {
		switch f := fault.As(err); f.Kind {
		case fault.Unauthenticated, fault.TooMany, fault.Forbidden, fault.Unavailable:
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", retryAfter(f))
			}
			p.Error = f.Public
			return a.showLogin(w, r, v, answerTo(f.Kind).status, p)
		case fault.Internal, fault.Invalid, fault.NotFound, fault.Conflict, fault.TooLarge, fault.Declined, fault.Unpaid, fault.Malformed:
		}
		return err
	}
	if err := a.begin(w, r, v, token, who); err != nil {
		return err
	}
	if who.Pending {
		to := "/login/second-factor"
		if p.Next != "" {
			to += "?next=" + url.QueryEscape(p.Next)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
	http.Redirect(w, r, orDashboard(p.Next), http.StatusSeeOther)
	return nil
}

// begin puts a new session into the browser's cookie, and nothing of what was there before. A session that the browser
// had ends: its token is never carried on, so that one planted by somebody else is worth nothing after signing in.
func (a *app) begin(w http.ResponseWriter, r *http.Request, v *visit, token string, who auth.Identity) error {
	for _, name := range []string{valueToken, valuePending} {
		if old := v.value(name); old != "" {
			if err := a.Auth.SignOut(r.Context(), old); err != nil {
				return err
			}
		}
	}
	v.session.Values = map[any]any{valueToken: token, valueCSRF: newSecret()}
	v.who, v.signedIn, v.identified = who, !who.Pending, true
	if who.Pending {
		v.who = auth.Identity{}
		v.session.Values = map[any]any{valuePending: token, valueCSRF: newSecret()}
	}
	return a.cookies.Save(r, w, v.session)
}

// logout ends the session on the server, and with it its open streams, then takes the cookie away.
func (a *app) logout(w http.ResponseWriter, r *http.Request, v *visit) error {
	if token := v.value(valueToken); token != "" {
		if err := a.identify(r, v); err != nil {
			return err
		}
		if err := a.Auth.SignOut(r.Context(), token); err != nil {
			return err
		}
		a.streams.end(v.who.SessionID)
	}
	if pending := v.value(valuePending); pending != "" {
		if err := a.Auth.SignOut(r.Context(), pending); err != nil {
			return err
		}
	}
	v.session.Values = map[any]any{}
	v.session.Options.MaxAge = -1
	if err := a.cookies.Save(r, w, v.session); err != nil {
		return err
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

func orDashboard(next string) string {
	if next == "" {
		return "/dashboard"
	}
	return next
}
