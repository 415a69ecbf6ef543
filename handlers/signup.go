package handlers

import (
	"net/http"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

// signUpPage shows the form to make an organisation; who is signed in already goes on.
func (a *app) signUpPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	switch {
	case !a.SignUp:
		return errNoPage()
	case v.signedIn:
		http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
		return nil
	}
	if err := a.readyForm(w, r, v); err != nil {
		return err
	}
	return a.showSignUp(w, r, v, http.StatusOK, views.SignUpPage{})
}

func (a *app) showSignUp(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.SignUpPage) error {
	v.signedIn = false
	p.Meta = a.meta(r, v, "Create an account")
	return a.render(w, r, status, views.SignUp(p))
}

// signUp makes the organisation and its owner, and signs them in.
func (a *app) signUp(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !a.SignUp {
		return errNoPage()
	}
	n := auth.NewAccount{OrgName: r.PostForm.Get("organisation"), Email: r.PostForm.Get("email"), Password: r.PostForm.Get("password")}
	p := views.SignUpPage{Organisation: n.OrgName, Email: n.Email}
	token, who, err := a.Auth.SignUp(r.Context(), n, v.address, r.UserAgent())
	if f := fault.As(err); f != nil {
		switch f.Field {
		case "organisation":
			p.OrganisationError = f.Public
		case "email":
			p.EmailError = f.Public
		case "password":
			p.PasswordError = f.Public
		default:
			if f.Kind != fault.TooMany && f.Kind != fault.Unavailable {
				return err
			}
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", retryAfter(f))
			}
			p.Error = f.Public
			return a.showSignUp(w, r, v, answerTo(f.Kind).status, p)
		}
		return a.showSignUp(w, r, v, answerTo(fault.Invalid).status, p)
	}
	if err := a.begin(w, r, v, token, who); err != nil {
		return err
	}
	http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
	return nil
}
