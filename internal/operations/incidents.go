package operations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Impact is how much an incident matters to who uses the service.
type Impact string

// The impacts; the schema knows the same ones.
const (
	ImpactNotice   Impact = "notice" // something to know, such as planned work
	ImpactDegraded Impact = "degraded"
	ImpactOutage   Impact = "outage"
)

// Stage is how far an incident has come.
type Stage string

// The stages; the schema knows the same ones.
const (
	Investigating Stage = "investigating"
	Identified    Stage = "identified"
	Monitoring    Stage = "monitoring"
	Resolved      Stage = "resolved"
)

const (
	maxIncidentTitle = 120
	maxIncidentBody  = 2000
	// incidentsMost bounds the incidents of a list.
	incidentsMost = 200
)

// Incident is what operators say in public about something that is, or was, not as it should be.
type Incident struct {
	ID         uuid.UUID   `db:"id"`
	Title      string      `db:"title"`
	Impact     Impact      `db:"impact"`
	Components []Component `db:"-"`
	StartedAt  time.Time   `db:"started_at"`
	ResolvedAt *time.Time  `db:"resolved_at"`
	// Updates are newest first.
	Updates []IncidentUpdate `db:"-"`
}

// IncidentUpdate is one thing that was said about it.
type IncidentUpdate struct {
	IncidentID uuid.UUID `db:"incident_id"`
	Stage      Stage     `db:"stage"`
	Body       string    `db:"body"`
	At         time.Time `db:"at"`
}

// NewIncident is what an operator says first.
type NewIncident struct {
	Title      string
	Impact     Impact
	Components []Component
	// StartedAt is since when; it is not in the future. The zero time is now.
	StartedAt time.Time
	Stage     Stage
	Body      string
	Actor     audit.Actor
	Reason    string
}

// Post says in public that something is not as it should be. Faults: Invalid with the field "title", "impact", "components",
// "started_at", "stage", "body" or "reason". A repeat is another incident.
func (s *Service) Post(ctx context.Context, n NewIncident) (id uuid.UUID, err error) {
	if n.Title, err = sentence("title", "Give it a title", n.Title, maxIncidentTitle, false); err != nil {
		return uuid.Nil, err
	}
	if n.Impact != ImpactNotice && n.Impact != ImpactDegraded && n.Impact != ImpactOutage {
		return uuid.Nil, fault.Field("impact", "Say how much it matters.")
	}
	names, err := componentNames(n.Components)
	if err != nil {
		return uuid.Nil, err
	}
	if n.Body, err = said(n.Stage, n.Body); err != nil {
		return uuid.Nil, err
	}
	if n.Reason, err = sentence("reason", "Give a reason", n.Reason, 500, false); err != nil {
		return uuid.Nil, err
	}
	if id, err = uuid.NewV7(); err != nil {
		return uuid.Nil, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.o.DB.InSystemTx(ctx, "an incident", func(ctx context.Context, tx *db.Tx) error {
		started := n.StartedAt
		if started.IsZero() {
			started = tx.Now
		}
		if started.After(tx.Now) || started.Before(tx.Now.AddDate(0, 0, -daysKept)) {
			return fault.Field("started_at", "Say since when it is so: not in the future, and at most 90 days ago.")
		}
		var resolved *time.Time
		if n.Stage == Resolved {
			resolved = &tx.Now
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO incidents (id, title, impact, components, started_at, resolved_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			id, n.Title, n.Impact, pq.Array(names), started, resolved, tx.Now); err != nil {
			return fmt.Errorf("couldn't keep the incident: %w", err)
		}
		if err := addUpdate(ctx, tx, id, n.Stage, n.Body); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: n.Actor, Action: "incident.posted", Subject: "incident:" + id.String(), Reason: n.Reason,
			Detail: map[string]any{"title": n.Title, "impact": n.Impact, "components": names, "stage": n.Stage, "body": n.Body},
		})
	})
	s.cache.forget()
	return id, err
}

// Update says more about an incident, and with the stage resolved that it is over. Faults: NotFound; Conflict for one that is
// over; Invalid with the field "stage", "body" or "reason".
func (s *Service) Update(ctx context.Context, id uuid.UUID, stage Stage, body string, actor audit.Actor, reason string) (err error) {
	if body, err = said(stage, body); err != nil {
		return err
	}
	if reason, err = sentence("reason", "Give a reason", reason, 500, false); err != nil {
		return err
	}
	err = s.o.DB.InSystemTx(ctx, "an update of an incident", func(ctx context.Context, tx *db.Tx) error {
		var over bool
		err := tx.GetContext(ctx, &over, `SELECT resolved_at IS NOT NULL FROM incidents WHERE id = $1 FOR UPDATE`, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errNoIncident()
		case err != nil:
			return fmt.Errorf("couldn't read the incident: %w", err)
		case over:
			return fault.New(fault.Conflict, "This incident is over. Post another one if it came back.")
		}
		if err := addUpdate(ctx, tx, id, stage, body); err != nil {
			return err
		}
		action := "incident.updated"
		if stage == Resolved {
			action = "incident.resolved"
			res, err := tx.ExecContext(ctx, `UPDATE incidents SET resolved_at = $2 WHERE id = $1 AND resolved_at IS NULL`, id, tx.Now)
			if err != nil {
				return fmt.Errorf("couldn't resolve the incident: %w", err)
			}
			if n, err := res.RowsAffected(); err != nil || n != 1 {
				return fmt.Errorf("%d incidents were resolved: %w", n, err)
			}
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: actor, Action: action, Subject: "incident:" + id.String(), Reason: reason, Detail: map[string]any{"stage": stage, "body": body},
		})
	})
	s.cache.forget()
	return err
}

func addUpdate(ctx context.Context, tx *db.Tx, incident uuid.UUID, stage Stage, body string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("couldn't make an id: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO incident_updates (id, incident_id, stage, body, at) VALUES ($1, $2, $3, $4, $5)`, id, incident, stage, body, tx.Now); err != nil {
		return fmt.Errorf("couldn't keep what was said of the incident: %w", err)
	}
	return nil
}

// Incident gives one with all that was said of it.
func (s *Service) Incident(ctx context.Context, id uuid.UUID) (i Incident, err error) {
	list, err := s.incidents(ctx, `WHERE id = $1`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(list) == 0 {
		return Incident{}, errNoIncident()
	}
	return list[0], nil
}

// Incidents gives those of the last 90 days and those that are not over, newest first, at most 200.
func (s *Service) Incidents(ctx context.Context) ([]Incident, error) {
	return s.incidents(ctx, `WHERE resolved_at IS NULL OR started_at >= $1`, s.o.Now().UTC().AddDate(0, 0, -daysKept))
}

func (s *Service) incidents(ctx context.Context, where string, args ...any) (list []Incident, err error) {
	err = s.o.DB.InSystemTx(ctx, "incidents, which are public", func(ctx context.Context, tx *db.Tx) error {
		var rows []struct {
			Incident

			Names pq.StringArray `db:"components"`
		}
		if err := tx.SelectContext(ctx, &rows, fmt.Sprintf(`
			SELECT id, title, impact, components, started_at, resolved_at FROM incidents %s ORDER BY started_at DESC, id DESC LIMIT %d`, where, incidentsMost), args...); err != nil {
			return fmt.Errorf("couldn't read the incidents: %w", err)
		}
		list = make([]Incident, len(rows))
		ids := make([]uuid.UUID, len(rows))
		for i, row := range rows {
			list[i], ids[i] = row.Incident, row.ID
			for _, c := range Components() {
				if slices.Contains(row.Names, string(c)) {
					list[i].Components = append(list[i].Components, c)
				}
			}
		}
		var updates []IncidentUpdate
		if err := tx.SelectContext(ctx, &updates, `
			SELECT incident_id, stage, body, at FROM incident_updates WHERE incident_id = ANY($1) ORDER BY at DESC, id DESC`, pq.Array(ids)); err != nil {
			return fmt.Errorf("couldn't read what was said of the incidents: %w", err)
		}
		for _, u := range updates {
			i := slices.Index(ids, u.IncidentID)
			list[i].Updates = append(list[i].Updates, u)
		}
		return nil
	})
	return list, err
}

func errNoIncident() error { return fault.New(fault.NotFound, "There is no such incident.") }

// said reads what is said in public.
func said(stage Stage, body string) (string, error) {
	if stage != Investigating && stage != Identified && stage != Monitoring && stage != Resolved {
		return "", fault.Field("stage", "Say how far it has come.")
	}
	return sentence("body", "Say what is known", body, maxIncidentBody, true)
}

func componentNames(list []Component) ([]string, error) {
	var names []string
	for _, c := range Components() {
		if slices.Contains(list, c) {
			names = append(names, string(c))
		}
	}
	if len(names) == 0 || len(names) != len(list) {
		return nil, fault.Field("components", "Say what it is about.")
	}
	return names, nil
}

// sentence trims a text and refuses one that is empty, longer than most characters, or would be shown as something else than
// it is. Only where lines says so it may have several.
func sentence(field, wanted, text string, most int, lines bool) (string, error) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if text == "" || utf8.RuneCountInString(text) > most || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(r rune) bool { return (r != '\n' || !lines) && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }) {
		return "", fault.Field(field, fmt.Sprintf("%s, in at most %d characters.", wanted, most))
	}
	return text, nil
}
