package handlers

import (
	"errors"
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/views"
)

const (
	// noticesOnPage and noticesOnDashboard are how many notices a page shows.
	noticesOnPage, noticesOnDashboard = 25, 3
)

// noticesPage lists what the organisation was told, newest first.
func (a *app) noticesPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	before := uuid.Nil
	if raw := r.URL.Query().Get("before"); raw != "" {
		var err error
		if before, err = uuid.Parse(raw); err != nil {
			return fault.Wrap(fault.Invalid, "This address does not lead to notices. Begin with the newest.", err)
		}
	}
	told, err := a.Notices.List(r.Context(), v.who.OrgID, before, noticesOnPage+1)
	if err != nil {
		return err
	}
	p := views.NoticesPage{Meta: a.meta(r, v, "Notices"), Newest: before == uuid.Nil}
	if len(told) > noticesOnPage {
		told = told[:noticesOnPage]
		p.Older = told[noticesOnPage-1].ID.String()
	}
	p.List = notices(told)
	return a.render(w, r, http.StatusOK, views.Notices(p))
}

// notices are notices as the pages show them.
func notices(told []notice.Told) (list []views.NoticeLine) {
	for _, t := range told {
		list = append(list, views.NoticeLine{At: t.At, Title: t.Title, Text: t.Text, Link: t.Link, Path: t.Path, Bad: t.Bad})
	}
	return list
}

// noticeSettings is where people choose what they are told by mail, and owners when a balance is low.
func (a *app) noticeSettings(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.NoticeSettingsPage{Saved: r.URL.Query().Get("done") == "saved"}
	return a.showNoticeSettings(w, r, v, http.StatusOK, p)
}

// showNoticeSettings answers with the whole page around what was typed, or around what is stored.
func (a *app) showNoticeSettings(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.NoticeSettingsPage) error {
	owner := v.who.Role == auth.RoleOwner
	stored, err := a.Notices.Preferences(r.Context(), v.who.OrgID, v.who.UserID, owner)
	if err != nil {
		return err
	}
	if p.MarkError == "" {
		p.Mark = stored.Mark.Decimal()
		for _, k := range notice.Kinds {
			p.Kinds = append(p.Kinds, views.NoticeKind{Name: string(k), About: k.About(), Mail: stored.Mail[k]})
		}
	}
	p.Meta, p.SetsMark, p.Mails = a.meta(r, v, "Notices by mail"), owner, a.Notices.Mails()
	return a.render(w, r, status, views.NoticeSettings(p))
}

// saveNoticeSettings stores what was chosen: all of it or, when the mark makes no sense, nothing.
func (a *app) saveNoticeSettings(w http.ResponseWriter, r *http.Request, v *visit) error {
	var wanted []notice.Kind
	for _, k := range notice.Kinds {
		for _, name := range r.PostForm["mail"] {
			if name == string(k) {
				wanted = append(wanted, k)
			}
		}
	}
	typed, owner := r.PostForm.Get("mark"), v.who.Role == auth.RoleOwner
	if owner {
		if err := a.setMark(r, v, typed); err != nil {
			f := fault.As(err)
			if f == nil || f.Field != "mark" {
				return err
			}
			p := views.NoticeSettingsPage{Mark: shownBack(typed), MarkError: f.Public}
			for _, k := range notice.Kinds {
				one := views.NoticeKind{Name: string(k), About: k.About()}
				for _, name := range wanted {
					one.Mail = one.Mail || name == k
				}
				p.Kinds = append(p.Kinds, one)
			}
			return a.showNoticeSettings(w, r, v, answerTo(f.Kind).status, p)
		}
	}
	if err := a.Notices.Choose(r.Context(), v.who.OrgID, v.who.UserID, wanted); err != nil {
		return err
	}
	seeOther(w, r, "/settings/notices?done=saved")
	return nil
}

// setMark moves the mark to what was typed, in pounds.
func (a *app) setMark(r *http.Request, v *visit, typed string) error {
	var mark int64
	if typed != "0" && typed != "0.00" { // which is no amount, but means never
		var err error
		if mark, err = money.ParseAmount(typed); err != nil {
			if refused, ok := errors.AsType[*money.AmountError](err); ok {
				return fault.Field("mark", refused.Message)
			}
			return err
		}
	}
	return a.Notices.SetMark(r.Context(), v.who.OrgID, money.Pence(mark), v.who.Actor())
}
