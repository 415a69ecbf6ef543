package handlers

import (
	"context"
	"net/http"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

// factorSettingsPath is where a second factor is set up.
const factorSettingsPath = "/settings/second-factor"

// factorPage asks for the second step of signing in.
func (a *app) factorPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	a.open(r, v)
	if v.value(valuePending) == "" {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	return a.showFactor(w, r, v, http.StatusOK, views.FactorPage{Next: localPath(r.URL.Query().Get("next"))})
}

func (a *app) showFactor(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.FactorPage) error {
	v.signedIn = false // nobody is, until the code was given
	p.Meta = a.meta(r, v, "Enter your code")
	return a.render(w, r, status, views.Factor(p))
}

// giveFactor takes the code and begins the session, with a token of its own.
func (a *app) giveFactor(w http.ResponseWriter, r *http.Request, v *visit) error {
	pending, p := v.value(valuePending), views.FactorPage{Next: localPath(r.PostForm.Get("next"))}
	if pending == "" {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	token, who, err := a.Auth.GiveFactor(r.Context(), pending, r.PostForm.Get("code"), v.address, r.UserAgent())
	if f := fault.As(err); f != nil {
		switch {
		case f.Kind == fault.Invalid && f.Field == "code":
			p.CodeError = f.Public
			return a.showFactor(w, r, v, answerTo(f.Kind).status, p)
		case f.Kind == fault.TooMany:
			w.Header().Set("Retry-After", retryAfter(f))
			p.Error = f.Public
			return a.showFactor(w, r, v, answerTo(f.Kind).status, p)
		case f.Kind == fault.Unauthenticated, f.Kind == fault.Conflict: // it took too long, or was changed elsewhere
			return a.showLogin(w, r, v, answerTo(fault.Unauthenticated).status, views.LoginPage{
				Next: p.Next, Error: "That sign-in is no longer waiting for a code. Sign in again.",
			})
		}
		return err
	}
	if err := a.begin(w, r, v, token, who); err != nil {
		return err
	}
	http.Redirect(w, r, orDashboard(p.Next), http.StatusSeeOther)
	return nil
}

// factorSettings shows how the second factor stands: off, to be confirmed, or on.
func (a *app) factorSettings(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showFactorSettings(w, r, v, http.StatusOK, views.FactorSettingsPage{})
}

func (a *app) showFactorSettings(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.FactorSettingsPage) error {
	f, err := a.Auth.FactorOf(r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p.On, p.Since, p.RecoveryLeft = f.Confirmed, f.Since, f.RecoveryLeft
	p.Required = a.OperatorsNeedFactor && v.who.Operator
	if !f.Confirmed {
		e, waits, err := a.Auth.Enrolling(r.Context(), v.who)
		if err != nil {
			return err
		}
		if waits {
			p.Secret = e.Secret
			if p.QRPath, p.QRSize, err = e.QR(); err != nil {
				return err
			}
		}
	}
	p.Meta = a.meta(r, v, "Two-step sign-in")
	return a.render(w, r, status, views.FactorSettings(p))
}

// beginFactor makes a secret, to be confirmed on the page.
func (a *app) beginFactor(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := a.Auth.BeginFactor(r.Context(), v.who); err != nil {
		return err
	}
	http.Redirect(w, r, factorSettingsPath, http.StatusSeeOther)
	return nil
}

// confirmFactor turns the second factor on and shows the recovery codes, this once.
func (a *app) confirmFactor(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.withCodes(w, r, v, views.FactorConfirm, a.Auth.ConfirmFactor)
}

// newRecoveryCodes replaces the recovery codes and shows them, this once.
func (a *app) newRecoveryCodes(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.withCodes(w, r, v, views.FactorRecovery, a.Auth.NewRecoveryCodes)
}

// codeTaker does something that needs a code of the second factor and gives recovery codes.
type codeTaker func(ctx context.Context, who auth.Identity, code string) ([]string, error)

// withCodes takes the code and shows the recovery codes that come of it.
func (a *app) withCodes(w http.ResponseWriter, r *http.Request, v *visit, form views.FactorForm, do codeTaker) error {
	codes, err := do(r.Context(), v.who, r.PostForm.Get("code"))
	if err != nil {
		return a.codeRefused(w, r, v, form, err)
	}
	if form == views.FactorConfirm {
		v.who.SecondFactor = true
	}
	return a.render(w, r, http.StatusOK, views.RecoveryCodes(views.RecoveryCodesPage{
		Meta: a.meta(r, v, "Your recovery codes"), Codes: codes, TurnedOn: form == views.FactorConfirm,
	}))
}

// removeFactor turns the second factor off.
func (a *app) removeFactor(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := a.Auth.RemoveFactor(r.Context(), v.who, r.PostForm.Get("code")); err != nil {
		return a.codeRefused(w, r, v, views.FactorRemove, err)
	}
	http.Redirect(w, r, securityPath+"?done=factor-off", http.StatusSeeOther)
	return nil
}

// codeRefused shows the page again with the reason beside the code.
func (a *app) codeRefused(w http.ResponseWriter, r *http.Request, v *visit, form views.FactorForm, err error) error {
	f := fault.As(err)
	if f.Field != "code" && f.Kind != fault.TooMany {
		return err
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	return a.showFactorSettings(w, r, v, answerTo(f.Kind).status, views.FactorSettingsPage{Form: form, CodeError: f.Public})
}
