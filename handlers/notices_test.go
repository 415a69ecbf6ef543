package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/notice"
)

func (s *site) raise(org uuid.UUID, kind notice.Kind, subject string) {
	s.t.Helper()
	err := s.db.InTx(s.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return notice.Raise(ctx, tx, notice.Notice{OrgID: org, Kind: kind, Subject: subject, Data: map[string]any{"amount_pence": 12_34}})
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestNotices(t *testing.T) {
	s := newSite(t)
	b := s.as("viewer@harbour.example")
	wantSpaced(t, "none", b.get("/notices"), "#notices", "Nothing to tell")
	if b.get("/dashboard").doc(t).Find("#notices").Length() != 0 {
		t.Error("the dashboard shows that there are none")
	}
	for i := range 30 {
		s.raise(s.org, notice.TopUpFailed, fmt.Sprint(i))
	}
	s.raise(s.other, notice.DisputeOpened, "dp_1")
	page := b.get("/notices")
	wantSpaced(t, "the list", page, "#notices li:first-child", "Your top-up of £12.34 failed")
	wantSpaced(t, "the list", page, "#notices li:first-child", "Needs attention")
	if n := page.doc(t).Find("#notices li").Length(); n != 25 {
		t.Errorf("%d notices on the first page", n)
	}
	if strings.Contains(page.body, "is disputed") {
		t.Error("another organisation's notice is shown")
	}
	older := page.doc(t).Find("#older").AttrOr("href", "")
	rest := b.get(older)
	if n := rest.doc(t).Find("#notices li").Length(); n != 5 || rest.doc(t).Find("#older").Length() != 0 || rest.doc(t).Find("#newest").AttrOr("href", "") != "/notices" {
		t.Errorf("the last page (%s) has %d notices, or leads on", older, n)
	}
	if n := b.get("/dashboard").doc(t).Find("#notices li").Length(); n != 3 {
		t.Errorf("the dashboard shows %d", n)
	}
	wantStatus(t, "a wrong place", b.get("/notices?before=x"), http.StatusUnprocessableEntity)
}

func TestNoticeSettings(t *testing.T) {
	s := newSite(t)
	owner, viewer := s.as("owner@harbour.example"), s.as("viewer@harbour.example")
	checked := func(b *browser) string {
		var on []string
		for _, box := range b.get("/settings/notices").doc(t).Find("input[name=mail][checked]").EachIter() {
			on = append(on, box.AttrOr("value", ""))
		}
		return strings.Join(on, " ")
	}
	if got := strings.Fields(checked(owner)); len(got) != len(notice.Kinds) {
		t.Errorf("an owner gets %q", got)
	}
	if got := checked(viewer); got != "" {
		t.Errorf("a viewer gets %q", got)
	}
	res := owner.send("/settings/notices", "/settings/notices", url.Values{"mail": {"low_balance", "no such thing"}, "mark": {"12.50"}})
	wantStatus(t, "saving", res, http.StatusSeeOther)
	page := owner.get(res.Header.Get("Location"))
	wantSpaced(t, "saved", page, "#done", "saved")
	if got := page.doc(t).Find("#mark").AttrOr("value", ""); got != "12.50" {
		t.Errorf("the mark is %q", got)
	}
	if got := checked(owner); got != "low_balance" {
		t.Errorf("an owner gets %q", got)
	}
	// What makes no sense stands beside its field, and nothing is saved.
	res = owner.send("/settings/notices", "/settings/notices", url.Values{"mail": {"dispute_opened"}, "mark": {"-5"}})
	wantStatus(t, "a bad mark", res, http.StatusUnprocessableEntity)
	wantSpaced(t, "a bad mark", res, "#mark-error", "without a minus")
	if doc := res.doc(t); doc.Find("#mark").AttrOr("value", "") != "-5" || doc.Find("#mail-dispute_opened[checked]").Length() != 1 {
		t.Error("what was typed is gone")
	}
	if got := checked(owner); got != "low_balance" {
		t.Errorf("half of a bad form was saved: %q", got)
	}
	// A viewer chooses for themselves, and moves no mark.
	if viewer.get("/settings/notices").doc(t).Find("#mark").Length() != 0 {
		t.Error("a viewer is offered the mark")
	}
	wantStatus(t, "a viewer", viewer.send("/settings/notices", "/settings/notices", url.Values{"mail": {"topup_failed"}, "mark": {"99"}}), http.StatusSeeOther)
	if got := checked(viewer); got != "topup_failed" {
		t.Errorf("a viewer gets %q", got)
	}
	if n := s.count(`SELECT low_pence FROM notice_marks WHERE org_id = $1`, s.org); n != 1250 {
		t.Errorf("the mark is %dp", n)
	}
	wantStatus(t, "never", owner.send("/settings/notices", "/settings/notices", url.Values{"mark": {"0"}}), http.StatusSeeOther)
	if n := s.count(`SELECT low_pence FROM notice_marks WHERE org_id = $1`, s.org); n != 0 {
		t.Errorf("the mark is %dp", n)
	}
	if n := s.count(`SELECT count(*) FROM notice_marks WHERE org_id = $1`, s.other); n != 0 {
		t.Error("another organisation's mark was moved")
	}
}
