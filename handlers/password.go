package handlers

import (
	"net/http"

	"ringfence/internal/fault"
	"ringfence/views"
)

const forgotPath = "/password/forgot"

// forgotPage asks for a link to choose a new password, or says where that is done.
func (a *app) forgotPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := a.readyForm(w, r, v); err != nil {
		return err
	}
	return a.showForgot(w, r, v, http.StatusOK, views.ForgotPage{Sent: r.URL.Query().Get("done") == "sent"})
}

func (a *app) showForgot(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ForgotPage) error {
	v.signedIn = false // whoever has forgotten it is to be drawn as a stranger
	p.Elsewhere, p.Mails, p.Meta = !a.Auth.LocalPasswords(), a.Notices.Mails(), a.meta(r, v, "Forgotten your password?")
	return a.render(w, r, status, views.Forgot(p))
}

// askReset sends the link, if there is anybody to send it to; its answer does not say.
func (a *app) askReset(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !a.Notices.Mails() || !a.Auth.LocalPasswords() {
		return errNoPage()
	}
	email := r.PostForm.Get("email")
	if err := a.Auth.AskReset(r.Context(), email, v.address); err != nil {
		f, p := fault.As(err), views.ForgotPage{Email: typed(email)}
		switch {
		case f.Field == "email":
			p.EmailError = f.Public
		case f.Kind == fault.TooMany:
			w.Header().Set("Retry-After", retryAfter(f))
			p.Error = f.Public
		default:
			return err
		}
		return a.showForgot(w, r, v, answerTo(f.Kind).status, p)
	}
	seeOther(w, r, forgotPath+"?done=sent")
	return nil
}

// resetPage is where the link in a letter leads. It uses nothing up: programs that look at mail open links.
func (a *app) resetPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	token := r.URL.Query().Get("token")
	if err := a.Auth.CheckReset(r.Context(), token); err != nil {
		return err
	}
	if err := a.readyForm(w, r, v); err != nil {
		return err
	}
	return a.showReset(w, r, v, http.StatusOK, views.ResetPage{Token: token})
}

func (a *app) showReset(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ResetPage) error {
	v.signedIn = false
	p.Meta = a.meta(r, v, "Choose a new password")
	return a.render(w, r, status, views.Reset(p))
}

// resetPassword takes the new password. Signing in is the next step, with the second factor where there is one.
func (a *app) resetPassword(w http.ResponseWriter, r *http.Request, v *visit) error {
	token := r.PostForm.Get("token")
	if err := a.Auth.ResetPassword(r.Context(), token, r.PostForm.Get("password"), v.address); err != nil {
		f, p := fault.As(err), views.ResetPage{Token: token}
		switch {
		case f.Field == "password":
			p.PasswordError = f.Public
		case f.Kind == fault.Unavailable:
			w.Header().Set("Retry-After", retryAfter(f))
			p.Error = f.Public
		default:
			return err
		}
		return a.showReset(w, r, v, answerTo(f.Kind).status, p)
	}
	seeOther(w, r, "/login?done=reset")
	return nil
}
