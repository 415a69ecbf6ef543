package handlers

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"ringfence/internal/fault"
	"ringfence/internal/operations"
	"ringfence/views"
)

const incidentsPath = "/ops/incidents"

// whenTyped is how a moment is typed (UTC).
const whenTyped = "2006-01-02 15:04"

// opsIncidents lists what is said in public, with the form for more.
func (a *app) opsIncidents(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showIncidents(w, r, v, http.StatusOK, views.IncidentForm{Impact: string(operations.ImpactDegraded), Stage: string(operations.Investigating)})
}

func (a *app) showIncidents(w http.ResponseWriter, r *http.Request, v *visit, status int, f views.IncidentForm) error {
	list, err := a.Operations.Incidents(r.Context())
	if err != nil {
		return err
	}
	p := views.IncidentsPage{Meta: a.meta(r, v, "Incidents"), Incidents: incidents(list), Form: f}
	for _, c := range operations.Components() {
		p.Parts = append(p.Parts, views.StatusChoice{Value: string(c), Label: componentName(c), Chosen: slices.Contains(f.Components, string(c))})
	}
	return a.render(w, r, status, views.Incidents(p))
}

// incidentForm reads what was typed.
func incidentForm(r *http.Request) views.IncidentForm {
	form := r.PostForm
	f := views.IncidentForm{
		Title: typed(form.Get("title")), Impact: form.Get("impact"), StartedAt: typed(form.Get("started_at")), Stage: form.Get("stage"),
		Body: typedLong(form.Get("body")), Reason: typed(form.Get("reason")), Errors: map[string]string{},
	}
	for _, c := range operations.Components() {
		if slices.Contains(form["components"], string(c)) {
			f.Components = append(f.Components, string(c))
		}
	}
	return f
}

// typedLong is typed for a text of several lines.
func typedLong(text string) string {
	if len(text) > 8*maxReasonTyped {
		return ""
	}
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
}

// incidentFields are the fields that may be wrong.
var incidentFields = []string{"title", "impact", "components", "started_at", "stage", "body", "reason"}

// postIncident says in public that something is not as it should be.
func (a *app) postIncident(w http.ResponseWriter, r *http.Request, v *visit) error {
	f := incidentForm(r)
	n := operations.NewIncident{
		Title: r.PostForm.Get("title"), Impact: operations.Impact(f.Impact), Stage: operations.Stage(f.Stage), Body: r.PostForm.Get("body"),
		Actor: v.who.Actor(), Reason: r.PostForm.Get("reason"),
	}
	for _, c := range f.Components {
		n.Components = append(n.Components, operations.Component(c))
	}
	if when := strings.TrimSpace(f.StartedAt); when != "" {
		at, err := time.ParseInLocation(whenTyped, when, time.UTC)
		if err != nil {
			f.Errors["started_at"] = "Write it as 2026-01-31 14:05, or leave it empty."
			return a.showIncidents(w, r, v, answerTo(fault.Invalid).status, f)
		}
		n.StartedAt = at
	}
	id, err := a.Operations.Post(r.Context(), n)
	wrong := fault.As(err)
	switch {
	case err == nil:
		http.Redirect(w, r, incidentsPath+"/"+id.String()+"?done=posted", http.StatusSeeOther)
		return nil
	case slices.Contains(incidentFields, wrong.Field):
		f.Errors[wrong.Field] = wrong.Public
		return a.showIncidents(w, r, v, answerTo(wrong.Kind).status, f)
	}
	return err
}

// opsIncident is one of them.
func (a *app) opsIncident(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.IncidentPage{Form: views.IncidentForm{Stage: string(operations.Monitoring)}}
	switch r.URL.Query().Get("done") {
	case "posted":
		p.Notice = "It is on the status page."
	case "updated":
		p.Notice = "That is on the status page."
	}
	return a.showIncident(w, r, v, http.StatusOK, p)
}

func (a *app) showIncident(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.IncidentPage) error {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	i, err := a.Operations.Incident(r.Context(), id)
	if err != nil {
		return err
	}
	p.Meta, p.Incident = a.meta(r, v, i.Title), shownIncident(i)
	return a.render(w, r, status, views.IncidentForOps(p))
}

// updateIncident says more about one, or that it is over.
func (a *app) updateIncident(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := exactID(r.PathValue("id"))
	if err != nil {
		return err
	}
	f := incidentForm(r)
	err = a.Operations.Update(r.Context(), id, operations.Stage(f.Stage), r.PostForm.Get("body"), v.who.Actor(), r.PostForm.Get("reason"))
	wrong := fault.As(err)
	switch {
	case err == nil:
		http.Redirect(w, r, incidentsPath+"/"+id.String()+"?done=updated", http.StatusSeeOther) //nolint:gosec // a page of ours: id is an id
		return nil
	case slices.Contains(incidentFields, wrong.Field):
		f.Errors[wrong.Field] = wrong.Public
		return a.showIncident(w, r, v, answerTo(wrong.Kind).status, views.IncidentPage{Form: f})
	case wrong.Kind == fault.Conflict:
		return a.showIncident(w, r, v, answerTo(wrong.Kind).status, views.IncidentPage{Form: f, Problem: wrong.Public})
	}
	return err
}
