package handlers

import (
	"net/http"
	"strings"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const credentialsPath = "/credentials"

// credentialsPage shows by which accounts numbers are had: ours, and the customer's own.
func (a *app) credentialsPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.CredentialsPage{}
	switch r.URL.Query().Get("done") {
	case "saved":
		p.Notice = "Twilio takes this credential, and it is stored sealed. It can be replaced, but not be read."
	case "working":
		p.Notice = "Twilio takes the credential."
	case "refused":
		p.Problem = "Twilio does not take the credential any more. Replace it; numbers in this account cannot be bought or released until you do."
	case "removed":
		p.Notice = "The credential was removed. Numbers are bought in the account that we keep for you."
	case "managed":
		p.Notice = "Numbers are bought in the account that we keep for you from now on."
	case "byoc":
		p.Notice = "Numbers are bought in your own Twilio account from now on."
	}
	return a.showCredentials(w, r, v, http.StatusOK, p)
}

// showCredentials answers with the whole page around the form as given.
func (a *app) showCredentials(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.CredentialsPage) error {
	list, err := a.Numbers.Credentials(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, c := range list {
		made := views.Credential{
			AccountSID: c.AccountSID, LastFour: c.LastFour, Refused: c.State == telephony.Refused, Note: c.Note, SavedAt: c.UpdatedAt, TestedAt: c.TestedAt,
		}
		if c.Kind == telephony.BYOC {
			p.Own = &made
		} else {
			p.Managed = &made
		}
	}
	mode, err := a.Numbers.Mode(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p.BuysOwn = mode == telephony.BYOC
	telling, err := a.Numbers.Telling(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	for _, n := range telling {
		p.Telling = append(p.Telling, phoneNumber(n, nil))
	}
	p.Meta, p.CanEdit, p.Off = a.meta(r, v, "Credentials"), v.who.Role == auth.RoleOwner, !a.Numbers.On()
	if isFragment(r) && r.Method == http.MethodGet && r.URL.Query().Get("part") == "telling" {
		return a.render(w, r, status, views.CredentialsTelling(p))
	}
	return a.render(w, r, status, views.Credentials(p))
}

// mayKeepCredentials refuses everybody but owners: who has a credential has what the account is billed for.
func mayKeepCredentials(who auth.Identity) error {
	if who.Role == auth.RoleOwner {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot change credentials. Ask an owner of "+who.OrgName+".")
}

// saveCredential tries and keeps a credential of the customer's own. What was typed as the token is never shown again.
func (a *app) saveCredential(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepCredentials(v.who); err != nil {
		return err
	}
	sid := strings.TrimSpace(r.PostForm.Get("account_sid"))
	_, err := a.Numbers.SaveOwn(r.Context(), telephony.OwnAccount{OrgID: v.who.OrgID, AccountSID: sid, AuthToken: r.PostForm.Get("auth_token"), Actor: v.who.Actor()})
	if err == nil {
		seeOther(w, r, credentialsPath+"?done=saved")
		return nil
	}
	f := fault.As(err)
	if f.Kind == fault.Internal {
		return err
	}
	p := views.CredentialsPage{AccountSID: typed(sid)}
	switch f.Field {
	case "account_sid":
		p.SIDError = f.Public
	case "auth_token":
		p.TokenError = f.Public
	default:
		p.Problem = f.Public
	}
	return a.showCredentials(w, r, v, answerTo(f.Kind).status, p)
}

// testCredential asks Twilio whether it still takes the customer's own credential.
func (a *app) testCredential(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepCredentials(v.who); err != nil {
		return err
	}
	c, err := a.Numbers.TestOwn(r.Context(), v.who.OrgID)
	if err != nil {
		return a.credentialProblem(w, r, v, err)
	}
	seeOther(w, r, credentialsPath+"?done="+string(c.State))
	return nil
}

// setNumberMode says in whose account numbers are bought.
func (a *app) setNumberMode(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepCredentials(v.who); err != nil {
		return err
	}
	mode, done := telephony.Kind(r.PostForm.Get("mode")), "managed"
	if mode == telephony.BYOC {
		done = "byoc"
	}
	if err := a.Numbers.SetMode(r.Context(), v.who.OrgID, mode, v.who.Actor()); err != nil {
		return a.credentialProblem(w, r, v, err)
	}
	seeOther(w, r, credentialsPath+"?done="+done)
	return nil
}

// removeCredentialPage asks before the customer's own credential is removed.
func (a *app) removeCredentialPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepCredentials(v.who); err != nil {
		return err
	}
	return a.showCredentials(w, r, v, http.StatusOK, views.CredentialsPage{Removing: true})
}

func (a *app) removeCredential(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayKeepCredentials(v.who); err != nil {
		return err
	}
	if err := a.Numbers.RemoveOwn(r.Context(), v.who.OrgID, v.who.Actor()); err != nil {
		return a.credentialProblem(w, r, v, err)
	}
	seeOther(w, r, credentialsPath+"?done=removed")
	return nil
}

// credentialProblem shows the page with why something was not done, where that is for its reader.
func (a *app) credentialProblem(w http.ResponseWriter, r *http.Request, v *visit, err error) error {
	f := fault.As(err)
	if f.Kind == fault.Internal {
		return err
	}
	return a.showCredentials(w, r, v, answerTo(f.Kind).status, views.CredentialsPage{Problem: f.Public})
}
