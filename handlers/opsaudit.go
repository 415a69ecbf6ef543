package handlers

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/views"
)

const auditPath = "/ops/audit"

// opsAudit is the log of who changed what: a page of what the filter finds, or with 422 what is wrong with it.
func (a *app) opsAudit(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	p := views.AuditPage{Meta: a.meta(r, v, "Audit log")}
	shown, filter := auditFilter(q)
	p.Filter = shown
	before, err := auditPlace(q.Get("before"))
	if err != nil {
		return err
	}
	if shown.Wrong() {
		return a.render(w, r, answerTo(fault.Invalid).status, views.Audit(p))
	}
	rows, more, err := a.Audit.Page(r.Context(), filter, before)
	if err != nil {
		return err
	}
	for _, row := range rows {
		p.Rows = append(p.Rows, auditRow(row))
	}
	p.First = before == 0
	if more {
		p.Next = p.Rows[len(p.Rows)-1].ID
	}
	return a.render(w, r, http.StatusOK, views.Audit(p))
}

// auditPlace reads where a page begins; an address that we did not write leads nowhere.
func auditPlace(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != text {
		return 0, errNoPage()
	}
	return n, nil
}

// auditFilter reads what is looked for, and what is wrong with it.
func auditFilter(q url.Values) (views.AuditFilter, audit.Filter) {
	shown := views.AuditFilter{
		Org: filterText(q.Get("org")), Actor: filterText(q.Get("actor")), Action: filterText(q.Get("action")),
		From: filterText(q.Get("from")), To: filterText(q.Get("to")),
	}
	f := audit.Filter{Actor: shown.Actor, Action: shown.Action}
	if id, err := uuid.Parse(shown.Org); err == nil {
		f.OrgID = id
	} else {
		f.OrgName = shown.Org
	}
	f.From, shown.FromError = historyDay(shown.From)
	f.To, shown.ToError = historyDay(shown.To)
	if shown.ToError == "" && !f.To.IsZero() && f.To.Before(f.From) {
		shown.ToError = "The last day lies before the first."
	}
	return shown, f
}

// filterText is what was typed, as far as it can be looked for.
func filterText(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxFilterTyped {
		return ""
	}
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
}

func auditRow(row audit.Row) views.AuditRow {
	return views.AuditRow{
		ID: strconv.FormatInt(row.ID, 10), At: row.At, OrgID: idText(row.OrgID), OrgName: row.OrgName, Actor: string(row.Actor), Email: row.Email,
		Action: row.Action, Subject: row.Subject, Reason: row.Reason, RequestID: row.RequestID, TransactionID: idText(row.TransactionID),
	}
}

// opsAuditRow is one entry with all that it says.
func (a *app) opsAuditRow(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := auditPlace(r.PathValue("id"))
	if err != nil {
		return err
	}
	row, found, err := a.Audit.Row(r.Context(), id)
	switch {
	case err != nil:
		return err
	case !found:
		return errNoPage()
	}
	p := views.AuditRowPage{Meta: a.meta(r, v, row.Action), Row: auditRow(row)}
	var b bytes.Buffer
	if json.Indent(&b, row.Detail, "", "  ") == nil && b.String() != "{}" {
		p.Detail = b.String()
	}
	return a.render(w, r, http.StatusOK, views.AuditEntry(p))
}

// opsAuditCSV is what the filter finds, whole, as a file.
func (a *app) opsAuditCSV(w http.ResponseWriter, r *http.Request, _ *visit) error {
	shown, filter := auditFilter(r.URL.Query())
	if shown.Wrong() {
		return fault.New(fault.Invalid, strings.TrimSpace(shown.FromError+" "+shown.ToError))
	}
	file := newCSV(w, "audit-log-"+a.Now().UTC().Format(time.DateOnly)+".csv",
		"id", "time_utc", "organisation_id", "organisation", "actor", "email", "action", "subject", "reason", "request_id", "transaction_id", "detail")
	err := a.Audit.Each(r.Context(), filter, func(rows []audit.Row) error {
		lines := make([][]string, len(rows))
		for i, row := range rows {
			lines[i] = []string{
				strconv.FormatInt(row.ID, 10), row.At.UTC().Format(time.RFC3339Nano), idText(row.OrgID), csvText(row.OrgName), csvText(string(row.Actor)),
				csvText(row.Email), csvText(row.Action), csvText(row.Subject), csvText(row.Reason), csvText(row.RequestID), idText(row.TransactionID), string(row.Detail),
			}
		}
		return file.send(lines)
	})
	if err != nil {
		return err
	}
	return file.end()
}
