package handlers

import (
	"net/http"
	"strconv"
	"strings"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/views"
)

const privacyPath = "/settings/privacy"

// privacyPage is where an owner says for how long words are kept, and has a person erased.
func (a *app) privacyPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showPrivacy(w, r, v, http.StatusOK, views.PrivacyPage{Saved: r.URL.Query().Get("done") == "saved"})
}

// showPrivacy answers with the whole page around what was typed, or around what is stored.
func (a *app) showPrivacy(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.PrivacyPage) error {
	days, err := a.Calls.Retention(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p.Kept, p.Most, p.Default = days, telephony.MaxRetentionDays, telephony.DefaultRetentionDays
	if p.DaysError == "" && p.Shorter == 0 {
		p.Days = strconv.Itoa(days)
	}
	p.Meta, p.CanChange = a.meta(r, v, "Privacy"), v.who.Role == auth.RoleOwner
	p.Meta.Path = privacyPath
	return a.render(w, r, status, views.Privacy(p))
}

// mayForget refuses who is no owner: what is erased, nobody brings back.
func mayForget(who auth.Identity) error {
	if who.Role == auth.RoleOwner {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot change how long words are kept, nor have anybody erased. Ask an owner of "+who.OrgName+".")
}

// saveRetention stores for how many days words are kept. Fewer than now erase what is older, so an owner says twice that they mean it.
func (a *app) saveRetention(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayForget(v.who); err != nil {
		return err
	}
	raw := strings.TrimSpace(r.PostForm.Get("days"))
	days, err := strconv.Atoi(raw)
	if err != nil {
		days = 0 // which is refused with what may be
	}
	kept, err := a.Calls.Retention(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	if days > 0 && days < kept && r.PostForm.Get("shorter") != strconv.Itoa(days) {
		return a.showPrivacy(w, r, v, answerTo(fault.Invalid).status, views.PrivacyPage{Days: typed(raw), Shorter: days})
	}
	err = a.Calls.SetRetention(r.Context(), v.who.OrgID, days, v.who.Actor())
	if f := fault.As(err); f != nil && f.Field == "days" {
		return a.showPrivacy(w, r, v, answerTo(f.Kind).status, views.PrivacyPage{Days: typed(raw), DaysError: f.Public})
	}
	if err != nil {
		return err
	}
	seeOther(w, r, privacyPath+"?done=saved")
	return nil
}

// erasePerson erases one person by their number, once an owner said that they mean it.
func (a *app) erasePerson(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayForget(v.who); err != nil {
		return err
	}
	number := r.PostForm.Get("number")
	p := views.PrivacyPage{Number: typed(number)}
	if r.PostForm.Get("confirm") != "yes" {
		p.ConfirmError = "Tick this to say that you mean it."
		return a.showPrivacy(w, r, v, answerTo(fault.Invalid).status, p)
	}
	erased, err := a.Calls.EraseParty(r.Context(), v.who.OrgID, number, v.who.Actor())
	if f := fault.As(err); f != nil {
		switch {
		case f.Field == "number":
			p.NumberError = f.Public
		case f.Kind == fault.Conflict:
			p.Problem = f.Public
		default:
			return err
		}
		return a.showPrivacy(w, r, v, answerTo(f.Kind).status, p)
	}
	p.Number = ""
	// It is said in this answer alone, so that no address has whom it was about.
	p.Erased = &views.ErasedPerson{Number: telephony.Masked(number), Calls: erased.Calls, Texts: erased.Messages + erased.Inbound, Others: erased.Holds}
	return a.showPrivacy(w, r, v, http.StatusOK, p)
}
