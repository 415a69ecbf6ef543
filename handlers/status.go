package handlers

import (
	"log/slog"
	"net/http"
	"time"

	"ringfence/internal/operations"
	"ringfence/views"
)

const (
	statusPath     = "/status"
	statusJSONPath = "/status.json"
	// statusCache lets whoever stands between us and many readers answer for us for a moment.
	statusCache = "public, max-age=10"
)

// componentName is a component as people know it.
func componentName(c operations.Component) string {
	switch c {
	case operations.SignIn:
		return "Sign-in"
	case operations.Payments:
		return "Payments"
	case operations.Calls:
		return "Calls"
	case operations.Texts:
		return "Texts"
	case operations.Jobs:
		return "Background work"
	}
	return string(c)
}

// currentStatus is how the service stands. Where that cannot be read, everything is unknown.
func (a *app) currentStatus(r *http.Request, v *visit) operations.Status {
	st, err := a.Operations.Status(r.Context())
	if err == nil {
		return st
	}
	a.Log.LogAttrs(r.Context(), slog.LevelError, "the status could not be read", append(v.attrs(), slog.Any("error", err))...)
	st = operations.Status{At: a.Now().UTC()}
	for _, c := range operations.Components() {
		st.Components = append(st.Components, operations.ComponentStatus{Component: c, State: operations.Unknown})
	}
	return st
}

// status is the public page. It is the same for everybody, signed in or not.
func (a *app) status(w http.ResponseWriter, r *http.Request, v *visit) error {
	st := a.currentStatus(r, v)
	p := views.StatusPage{Meta: a.meta(r, v, "Status"), Whole: views.StatusState(st.Worst()), Open: incidents(st.Open), Past: incidents(st.Past)}
	p.Meta.Wide, p.Meta.RefreshSeconds = true, 60
	for _, c := range st.Components {
		shown := views.StatusComponent{ID: string(c.Component), Name: componentName(c.Component), State: views.StatusState(c.State)}
		if c.CheckedAt != nil {
			shown.Ago = max(a.Now().Sub(*c.CheckedAt), time.Second)
		}
		for _, d := range c.Days {
			shown.Days = append(shown.Days, views.StatusDay{Day: d.Day, Good: d.Good, Slow: d.Slow, Bad: d.Bad})
		}
		p.Components = append(p.Components, shown)
	}
	w.Header().Set("Cache-Control", statusCache)
	w.Header().Add("Vary", "Cookie") // for the colours
	return a.render(w, r, http.StatusOK, views.Status(p))
}

// statusComponent and the others below are the status as programs read it.
type statusComponent struct {
	ID        operations.Component `json:"id"`
	Name      string               `json:"name"`
	State     operations.State     `json:"state"`
	CheckedAt *time.Time           `json:"checked_at"`
}

type statusIncident struct {
	ID         string                 `json:"id"`
	Title      string                 `json:"title"`
	Impact     operations.Impact      `json:"impact"`
	Components []operations.Component `json:"components"`
	StartedAt  time.Time              `json:"started_at"`
	ResolvedAt *time.Time             `json:"resolved_at"`
	Updates    []statusUpdate         `json:"updates"`
}

type statusUpdate struct {
	Stage operations.Stage `json:"stage"`
	Body  string           `json:"body"`
	At    time.Time        `json:"at"`
}

// statusJSON is the same for programs.
func (a *app) statusJSON(w http.ResponseWriter, r *http.Request, v *visit) error {
	st := a.currentStatus(r, v)
	out := struct {
		State      operations.State  `json:"state"`
		At         time.Time         `json:"at"`
		Components []statusComponent `json:"components"`
		Incidents  []statusIncident  `json:"incidents"`
	}{st.Worst(), st.At, []statusComponent{}, []statusIncident{}}
	for _, c := range st.Components {
		one := statusComponent{ID: c.Component, Name: componentName(c.Component), State: c.State}
		if c.CheckedAt != nil {
			at := c.CheckedAt.UTC()
			one.CheckedAt = &at
		}
		out.Components = append(out.Components, one)
	}
	for _, list := range [][]operations.Incident{st.Open, st.Past} {
		for _, i := range list {
			one := statusIncident{ID: i.ID.String(), Title: i.Title, Impact: i.Impact, Components: i.Components, StartedAt: i.StartedAt.UTC(), Updates: []statusUpdate{}}
			if i.ResolvedAt != nil {
				at := i.ResolvedAt.UTC()
				one.ResolvedAt = &at
			}
			for _, u := range i.Updates {
				one.Updates = append(one.Updates, statusUpdate{Stage: u.Stage, Body: u.Body, At: u.At.UTC()})
			}
			out.Incidents = append(out.Incidents, one)
		}
	}
	w.Header().Set("Cache-Control", statusCache)
	return writeJSON(w, http.StatusOK, out)
}

func incidents(list []operations.Incident) (shown []views.Incident) {
	for _, i := range list {
		shown = append(shown, shownIncident(i))
	}
	return shown
}

func shownIncident(i operations.Incident) views.Incident {
	shown := views.Incident{ID: i.ID.String(), Title: i.Title, Impact: string(i.Impact), StartedAt: i.StartedAt}
	if i.ResolvedAt != nil {
		shown.ResolvedAt = *i.ResolvedAt
	}
	for _, c := range i.Components {
		shown.Components = append(shown.Components, componentName(c))
	}
	for _, u := range i.Updates {
		shown.Updates = append(shown.Updates, views.IncidentUpdate{Stage: string(u.Stage), Body: u.Body, At: u.At})
	}
	return shown
}
