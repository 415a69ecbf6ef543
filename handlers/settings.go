package handlers

import (
	"net/http"
	"slices"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

// done are the sentences after something was done, by the word in the address.
var done = map[string]string{
	"password":   "Your password was changed. You were signed out everywhere else.",
	"factor-off": "Two-step sign-in is off.",
	"key":        "The key was revoked. Programs that use it are refused from now on.",
}

const (
	settingsPath = "/settings"
	securityPath = "/settings/security"
	keysPath     = "/settings/keys"
)

// settings is the first page of the settings: where one works, and in which colours.
func (a *app) settings(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.SettingsPage{Notice: done[r.URL.Query().Get("done")], Meta: a.meta(r, v, "Settings")}
	orgs, err := a.Auth.Memberships(r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	for _, m := range orgs {
		p.Organisations = append(p.Organisations, views.Organisation{ID: m.OrgID.String(), Name: m.Name, Role: string(m.Role), Current: m.OrgID == v.who.OrgID})
	}
	return a.render(w, r, http.StatusOK, views.Settings(p))
}

// security is the page about how one signs in.
func (a *app) security(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showSecurity(w, r, v, http.StatusOK, views.SecurityPage{Notice: done[r.URL.Query().Get("done")]})
}

// showSecurity answers with the whole page around the form as given.
func (a *app) showSecurity(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.SecurityPage) error {
	f, err := a.Auth.FactorOf(r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p.FactorOn, p.RecoveryLeft, p.FactorRequired = f.Confirmed, f.RecoveryLeft, a.OperatorsNeedFactor && v.who.Operator
	p.PasswordHere = v.who.Local
	p.Meta = a.meta(r, v, "Security")
	return a.render(w, r, status, views.Security(p))
}

// keys is the page of the organisation's API keys.
func (a *app) keys(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showKeys(w, r, v, http.StatusOK, views.KeysPage{Notice: done[r.URL.Query().Get("done")]})
}

// showKeys answers with the whole page around the form as given. Only owners see the keys.
func (a *app) showKeys(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.KeysPage) error {
	if v.who.Role == auth.RoleOwner {
		keys, err := a.Auth.OrgKeys(r.Context(), v.who)
		if err != nil {
			return err
		}
		for _, k := range keys {
			p.Keys = append(p.Keys, views.APIKey{
				ID: k.ID.String(), Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes.Names(), CreatedBy: k.CreatedBy,
				CreatedAt: k.CreatedAt, LastUsedAt: k.LastUsedAt, Revoked: !k.RevokedAt.IsZero(),
			})
		}
		p.Manages = true
		chosen := p.KeyForm.Scopes
		p.KeyForm.Scopes = nil
		for _, name := range auth.ScopeNames {
			p.KeyForm.Scopes = append(p.KeyForm.Scopes, views.ScopeChoice{
				Name: name, Chosen: slices.ContainsFunc(chosen, func(c views.ScopeChoice) bool { return c.Name == name }),
			})
		}
	}
	p.Meta = a.meta(r, v, "API keys")
	return a.render(w, r, status, views.Keys(p))
}

// changePassword takes the old password and a new one, and ends all other sessions.
func (a *app) changePassword(w http.ResponseWriter, r *http.Request, v *visit) error {
	err := a.Auth.ChangePassword(r.Context(), v.who, r.PostForm.Get("current"), r.PostForm.Get("password"), v.address)
	if f := fault.As(err); f != nil {
		p := views.SecurityPage{}
		switch {
		case f.Field == "current":
			p.CurrentError = f.Public
		case f.Field == "password":
			p.PasswordError = f.Public
		case f.Kind == fault.TooMany, f.Kind == fault.Unavailable:
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", retryAfter(f))
			}
			p.CurrentError = f.Public
		default:
			return err
		}
		return a.showSecurity(w, r, v, answerTo(f.Kind).status, p)
	}
	http.Redirect(w, r, securityPath+"?done=password", http.StatusSeeOther)
	return nil
}

// switchOrganisation makes this session work in another organisation of its user. The forms of pages that are still open
// from the one before are worthless from then on, so that none is sent in the wrong name.
func (a *app) switchOrganisation(w http.ResponseWriter, r *http.Request, v *visit) error {
	org, err := uuid.Parse(r.PostForm.Get("org_id"))
	if err != nil {
		return fault.Wrap(fault.NotFound, "You work in no such organisation.", err)
	}
	if err := a.Auth.SwitchOrg(r.Context(), v.who, org); err != nil {
		return err
	}
	a.streams.end(v.who.SessionID)
	v.session.Values[valueCSRF] = newSecret()
	if err := a.cookies.Save(r, w, v.session); err != nil {
		return err
	}
	http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
	return nil
}

// createKey makes an API key and shows it, this once.
func (a *app) createKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	form := views.KeyForm{Name: r.PostForm.Get("name")}
	for _, name := range r.PostForm["scopes"] {
		form.Scopes = append(form.Scopes, views.ScopeChoice{Name: name})
	}
	scopes, err := auth.ParseScopes(r.PostForm["scopes"])
	var secret string
	var k auth.Key
	if err == nil || v.who.Role != auth.RoleOwner {
		secret, k, err = a.Auth.AddOrgKey(r.Context(), v.who, form.Name, scopes)
	}
	if f := fault.As(err); f != nil {
		switch {
		case f.Field == "name":
			form.NameError = f.Public
		case f.Field == "scopes", f.Kind == fault.Conflict:
			form.ScopesError = f.Public
		default:
			return err
		}
		return a.showKeys(w, r, v, answerTo(f.Kind).status, views.KeysPage{KeyForm: form})
	}
	return a.showKeys(w, r, v, http.StatusOK, views.KeysPage{NewKey: secret, NewKeyName: k.Name})
}

// revokeKey ends an API key.
func (a *app) revokeKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return fault.Wrap(fault.NotFound, "There is no such key.", err)
	}
	if err := a.Auth.RevokeOrgKey(r.Context(), v.who, id); err != nil {
		return err
	}
	http.Redirect(w, r, keysPath+"?done=key", http.StatusSeeOther)
	return nil
}
