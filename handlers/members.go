package handlers

import (
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/views"
)

const membersPath = "/settings/members"

// membersDone are the sentences after something was done, by the word in the address.
var membersDone = map[string]string{
	"invited": "The invitation is on its way. It is accepted by the link in the letter.",
	"again":   "The invitation is on its way again. The link in the letter before it no longer works.",
	"revoked": "The invitation was withdrawn. Its link no longer works.",
	"role":    "The role was changed.",
	"removed": "The person was removed, and is signed out of this organisation everywhere.",
}

// members lists who works in the organisation, and for whom an invitation waits.
func (a *app) members(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showMembers(w, r, v, http.StatusOK, views.MembersPage{Notice: membersDone[r.URL.Query().Get("done")]})
}

// showMembers answers with the whole page around the form as given.
func (a *app) showMembers(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.MembersPage) error {
	list, err := a.Auth.Members(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, m := range list {
		p.Members = append(p.Members, memberLine(m, v))
	}
	waiting, err := a.Auth.Invitations(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, i := range waiting {
		p.Invitations = append(p.Invitations, views.InvitationLine{
			ID: i.ID.String(), Email: i.Email, Role: string(i.Role), InvitedBy: i.InvitedBy, SentAt: i.SentAt, ExpiresAt: i.ExpiresAt, Expired: i.Expired,
		})
	}
	if p.Form.Role == "" {
		p.Form.Role = string(auth.RoleMember)
	}
	p.Meta, p.Manages, p.Mails = a.meta(r, v, "Members"), v.who.Role == auth.RoleOwner, a.Notices.Mails()
	p.Meta.Path = membersPath
	return a.render(w, r, status, views.Members(p))
}

func memberLine(m auth.Member, v *visit) views.MemberLine {
	return views.MemberLine{ID: m.UserID.String(), Email: m.Email, Role: string(m.Role), Since: m.Since, You: m.UserID == v.who.UserID}
}

// mayManage refuses everybody but owners.
func mayManage(who auth.Identity) error {
	if who.Role == auth.RoleOwner {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot change who works in "+who.OrgName+". Ask an owner.")
}

// invite asks somebody to join by mail.
func (a *app) invite(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManage(v.who); err != nil {
		return err
	}
	if !a.Notices.Mails() {
		return errNoMail()
	}
	form := views.InviteForm{Email: typed(r.PostForm.Get("email")), Role: r.PostForm.Get("role")}
	err := a.Auth.Invite(r.Context(), v.who, r.PostForm.Get("email"), auth.Role(form.Role))
	if err == nil {
		seeOther(w, r, membersPath+"?done=invited")
		return nil
	}
	f, p := fault.As(err), views.MembersPage{Form: form}
	switch {
	case f.Field == "email":
		p.Form.EmailError = f.Public
	case f.Field == "role", f.Kind == fault.TooMany:
		p.Problem = f.Public
	default:
		return err
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(f))
	}
	return a.showMembers(w, r, v, answerTo(f.Kind).status, p)
}

func errNoMail() error {
	return fault.New(fault.Conflict, "This installation has no mail server, and an invitation goes by mail.")
}

// resendInvitation sends an invitation again, with a new link.
func (a *app) resendInvitation(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManage(v.who); err != nil {
		return err
	}
	if !a.Notices.Mails() {
		return errNoMail()
	}
	return a.aboutInvitation(w, r, v, "again", func(id uuid.UUID) error { return a.Auth.ResendInvitation(r.Context(), v.who, id) })
}

// revokeInvitation withdraws an invitation.
func (a *app) revokeInvitation(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManage(v.who); err != nil {
		return err
	}
	return a.aboutInvitation(w, r, v, "revoked", func(id uuid.UUID) error { return a.Auth.RevokeInvitation(r.Context(), v.who, id) })
}

// aboutInvitation does something with the invitation in the path and goes back to the list.
func (a *app) aboutInvitation(w http.ResponseWriter, r *http.Request, v *visit, done string, do func(id uuid.UUID) error) error {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return fault.Wrap(fault.NotFound, "There is no such open invitation.", err)
	}
	if err := do(id); err != nil {
		f := fault.As(err)
		if f.Kind != fault.Conflict && f.Kind != fault.TooMany {
			return err
		}
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", retryAfter(f))
		}
		return a.showMembers(w, r, v, answerTo(f.Kind).status, views.MembersPage{Problem: f.Public})
	}
	seeOther(w, r, membersPath+"?done="+done)
	return nil
}

// member reads who the path is about. Only owners get that far.
func (a *app) member(r *http.Request, v *visit) (auth.Member, error) {
	if err := mayManage(v.who); err != nil {
		return auth.Member{}, err
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return auth.Member{}, fault.Wrap(fault.NotFound, "There is no such person in this organisation.", err)
	}
	return a.Auth.Member(r.Context(), v.who, id)
}

// memberPage is where an owner changes what somebody may do, or ends it.
func (a *app) memberPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	m, err := a.member(r, v)
	if err != nil {
		return err
	}
	return a.showMember(w, r, v, http.StatusOK, views.MemberPage{Member: memberLine(m, v)})
}

func (a *app) showMember(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.MemberPage) error {
	keys, err := a.Auth.OrgKeys(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.CreatedBy == p.Member.Email && k.RevokedAt.IsZero() {
			p.Keys = append(p.Keys, k.Name)
		}
	}
	p.Meta = a.meta(r, v, p.Member.Email)
	return a.render(w, r, status, views.Member(p))
}

// changeRole gives a member another role.
func (a *app) changeRole(w http.ResponseWriter, r *http.Request, v *visit) error {
	m, err := a.member(r, v)
	if err != nil {
		return err
	}
	if err := a.Auth.ChangeRole(r.Context(), v.who, m.UserID, auth.Role(r.PostForm.Get("role"))); err != nil {
		return a.memberProblem(w, r, v, m, err)
	}
	seeOther(w, r, membersPath+"?done=role")
	return nil
}

// removeMember ends somebody's access, the streams that they have open included.
func (a *app) removeMember(w http.ResponseWriter, r *http.Request, v *visit) error {
	m, err := a.member(r, v)
	if err != nil {
		return err
	}
	ended, err := a.Auth.RemoveMember(r.Context(), v.who, m.UserID)
	if err != nil {
		return a.memberProblem(w, r, v, m, err)
	}
	for _, id := range ended {
		a.streams.end(id)
	}
	seeOther(w, r, membersPath+"?done=removed")
	return nil
}

// memberProblem shows the page of a member with why something was not done, where that is for its reader.
func (a *app) memberProblem(w http.ResponseWriter, r *http.Request, v *visit, m auth.Member, err error) error {
	f := fault.As(err)
	if f.Kind != fault.Conflict && f.Kind != fault.Invalid {
		return err
	}
	return a.showMember(w, r, v, answerTo(f.Kind).status, views.MemberPage{Member: memberLine(m, v), Problem: f.Public})
}

// leavePage asks before the reader leaves the organisation.
func (a *app) leavePage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showLeave(w, r, v, http.StatusOK, views.LeavePage{})
}

func (a *app) showLeave(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.LeavePage) error {
	orgs, err := a.Auth.Memberships(r.Context(), v.who.UserID)
	if err != nil {
		return err
	}
	p.Elsewhere, p.Meta = len(orgs) > 1, a.meta(r, v, "Leave "+v.who.OrgName)
	return a.render(w, r, status, views.Leave(p))
}

// leave takes the reader out of the organisation. Their forms from it are worthless from then on.
func (a *app) leave(w http.ResponseWriter, r *http.Request, v *visit) error {
	stays, err := a.Auth.Leave(r.Context(), v.who)
	if err != nil {
		f := fault.As(err)
		if f.Kind != fault.Conflict {
			return err
		}
		return a.showLeave(w, r, v, answerTo(f.Kind).status, views.LeavePage{Problem: f.Public})
	}
	a.streams.end(v.who.SessionID)
	to := "/dashboard"
	if !stays {
		delete(v.session.Values, valueToken)
		to = "/login"
	}
	v.session.Values[valueCSRF] = newSecret()
	if err := a.cookies.Save(r, w, v.session); err != nil {
		return err
	}
	seeOther(w, r, to)
	return nil
}

// invitationPage is where the link in a letter leads. It changes nothing: programs that look at mail open links.
func (a *app) invitationPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := a.readyForm(w, r, v); err != nil {
		return err
	}
	return a.showInvitation(w, r, v, http.StatusOK, r.URL.Query().Get("token"), views.InvitationPage{})
}

func (a *app) showInvitation(w http.ResponseWriter, r *http.Request, v *visit, status int, token string, p views.InvitationPage) error {
	inv, err := a.Auth.InvitedBy(r.Context(), token)
	if err != nil {
		return err
	}
	p.Token, p.OrgName, p.Email, p.Role, p.Sender, p.ExpiresAt = token, inv.OrgName, inv.Email, string(inv.Role), inv.InvitedBy, inv.ExpiresAt
	p.Makes = a.Auth.LocalPasswords()
	if v.signedIn {
		p.SignedInAs, p.Fits = v.who.Email, v.who.Email == inv.Email
	}
	p.Meta = a.meta(r, v, "Join "+inv.OrgName)
	return a.render(w, r, status, views.Invitation(p))
}

// acceptInvitation makes whoever has the link a member: as who they are signed in as, as somebody new, or by their password.
func (a *app) acceptInvitation(w http.ResponseWriter, r *http.Request, v *visit) error {
	token, password, how := r.PostForm.Get("token"), r.PostForm.Get("password"), r.PostForm.Get("how")
	if v.signedIn {
		if err := a.Auth.AcceptAs(r.Context(), v.who, token); err != nil {
			f := fault.As(err)
			if f.Kind != fault.Conflict {
				return err
			}
			return a.showInvitation(w, r, v, answerTo(f.Kind).status, token, views.InvitationPage{})
		}
		a.streams.end(v.who.SessionID) // of the organisation before
		v.session.Values[valueCSRF] = newSecret()
		if err := a.cookies.Save(r, w, v.session); err != nil {
			return err
		}
		seeOther(w, r, "/dashboard")
		return nil
	}
	accept := a.Auth.AcceptSigningIn
	if how == "new" {
		accept = a.Auth.AcceptNew
	}
	session, who, err := accept(r.Context(), token, password, v.address, r.UserAgent())
	if err != nil {
		f, p := fault.As(err), views.InvitationPage{}
		switch {
		case f.Field == "password" && how == "new":
			p.NewPasswordError = f.Public
		case f.Kind == fault.Unauthenticated:
			p.PasswordError = "That is not the password of this account. Check it and try again."
		case f.Kind == fault.Conflict, f.Kind == fault.TooMany, f.Kind == fault.Unavailable:
			p.Error = f.Public
		default:
			return err
		}
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", retryAfter(f))
		}
		return a.showInvitation(w, r, v, answerTo(f.Kind).status, token, p)
	}
	if err := a.begin(w, r, v, session, who); err != nil {
		return err
	}
	if who.Pending {
		seeOther(w, r, "/login/second-factor")
		return nil
	}
	seeOther(w, r, "/dashboard")
	return nil
}
