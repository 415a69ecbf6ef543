package views

import (
	"time"

	"ringfence/views/ui"
)

// AuditFilter is what the log was asked for, as it was asked, with what is wrong with it.
type AuditFilter struct {
	// Org is a name or an id, Actor an actor or an e-mail; both, and Action, may be how it begins.
	Org, Actor, Action string
	// From and To are days as year-month-day (UTC).
	From, To           string
	FromError, ToError string
}

// Wrong reports whether it cannot be looked for.
func (f AuditFilter) Wrong() bool { return f.FromError != "" || f.ToError != "" }

func (f AuditFilter) empty() bool { return f == AuditFilter{} }

func (f AuditFilter) href(path, before string) string {
	return hrefWith(path, "org", f.Org, "actor", f.Actor, "action", f.Action, "from", f.From, "to", f.To, "before", before)
}

// AuditRow is one row of the log.
type AuditRow struct {
	ID             string
	At             time.Time
	OrgID, OrgName string
	Actor, Email   string
	Action         string
	Subject        string
	Reason         string
	RequestID      string
	TransactionID  string
}

func (r AuditRow) href() string { return "/ops/audit/" + r.ID }

// who is the actor as people know it.
func (r AuditRow) who() string {
	if r.Email != "" {
		return r.Email
	}
	return r.Actor
}

// whose is the organisation as people know it.
func (r AuditRow) whose() string {
	switch {
	case r.OrgName != "":
		return r.OrgName
	case r.OrgID != "":
		return r.OrgID
	}
	return "None"
}

// AuditPage is the model of the log.
type AuditPage struct {
	Meta   PageMeta
	Filter AuditFilter
	Rows   []AuditRow
	// Next is the cursor of the next page, empty on the last; First is false on every page but the first.
	Next  string
	First bool
}

// AuditRowPage is the model of one entry's page.
type AuditRowPage struct {
	Meta PageMeta
	Row  AuditRow
	// Detail is more, as JSON; empty where there is none.
	Detail string
}

func auditColumns() []ui.Column {
	return []ui.Column{{Label: "What", Grow: true}, {Label: "Who"}, {Label: "Organisation"}, {Label: "When"}}
}
