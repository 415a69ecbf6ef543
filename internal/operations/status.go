package operations

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ringfence/db"
)

// statusFor is how long an answer about the status is given again, so that many who ask at once cost one look.
const statusFor = 5 * time.Second

// Status is what everybody may know of how the service stands. It holds nothing of a tenant, and nothing of what the probes
// met.
type Status struct {
	// At is when this was put together.
	At         time.Time
	Components []ComponentStatus
	// Open are the incidents that are not over, Past those of the last 90 days that are; newest first.
	Open, Past []Incident
}

// ComponentStatus is how one component stands and stood.
type ComponentStatus struct {
	Component Component
	State     State
	// CheckedAt is when it was last looked at; nil where never.
	CheckedAt *time.Time
	// Days are the last 90 (UTC), oldest first, today last.
	Days []ComponentDay
}

// ComponentDay is what the probes of one day found. None at all says that nothing is known of it.
type ComponentDay struct {
	Day             time.Time
	Good, Slow, Bad int
}

// Worst is how the service stands as a whole: as its worst component, where one that is unknown is worse than a slow one. A
// service without any component is unknown.
func (s Status) Worst() State {
	worst, rank := Unknown, map[State]int{Good: 1, Slow: 2, Unknown: 3, Bad: 4}
	for i, c := range s.Components {
		if i == 0 || rank[c.State] > rank[worst] {
			worst = c.State
		}
	}
	return worst
}

// statusCache keeps the last answer for a moment.
type statusCache struct {
	mu   sync.Mutex
	last Status
}

func (c *statusCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = Status{}
}

// Status gives how the service stands. What an incident says counts where it is worse than the probes: people are told what
// operators know. When it cannot be read, that is an error: nobody is told then that all is well.
func (s *Service) Status(ctx context.Context) (Status, error) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	now := s.o.Now()
	if age := now.Sub(s.cache.last.At); age >= 0 && age < statusFor {
		return s.cache.last, nil
	}
	st, err := s.status(context.WithoutCancel(ctx), now) // whoever goes away takes nothing from those who wait
	if err != nil {
		return Status{}, err
	}
	s.cache.last = st
	return st, nil
}

func (s *Service) status(ctx context.Context, now time.Time) (Status, error) {
	st := Status{At: now.UTC()}
	probes, err := s.Probes(ctx)
	if err != nil {
		return Status{}, err
	}
	var days []struct {
		Component Component `db:"component"`
		Day       time.Time `db:"day"`
		Good      int       `db:"good"`
		Slow      int       `db:"slow"`
		Bad       int       `db:"bad"`
	}
	err = s.o.DB.InSystemTx(ctx, "how the parts of the service stood", func(ctx context.Context, tx *db.Tx) error {
		days = nil
		return tx.SelectContext(ctx, &days, `SELECT component, day, good, slow, bad FROM probe_days ORDER BY component, day`)
	})
	if err != nil {
		return Status{}, fmt.Errorf("couldn't read the history of the probes: %w", err)
	}
	incidents, err := s.Incidents(ctx)
	if err != nil {
		return Status{}, err
	}
	for _, i := range incidents {
		if i.ResolvedAt == nil {
			st.Open = append(st.Open, i)
		} else {
			st.Past = append(st.Past, i)
		}
	}
	today := time.Date(now.UTC().Year(), now.UTC().Month(), now.UTC().Day(), 0, 0, 0, 0, time.UTC)
	for _, p := range probes {
		if p.State == Off {
			continue
		}
		c := ComponentStatus{Component: p.Component, State: p.State}
		if !p.At.IsZero() {
			c.CheckedAt = &p.At
		}
		for _, i := range st.Open {
			c.State = withIncident(c, i)
		}
		for d := today.AddDate(0, 0, 1-daysKept); !d.After(today); d = d.AddDate(0, 0, 1) {
			day := ComponentDay{Day: d}
			for _, row := range days {
				if row.Component == p.Component && row.Day.UTC().Equal(d) {
					day.Good, day.Slow, day.Bad = row.Good, row.Slow, row.Bad
				}
			}
			c.Days = append(c.Days, day)
		}
		st.Components = append(st.Components, c)
	}
	return st, nil
}

// withIncident is how a component stands beside an incident that is not over.
func withIncident(c ComponentStatus, i Incident) State {
	for _, about := range i.Components {
		switch {
		case about != c.Component:
		case i.Impact == ImpactOutage:
			return Bad
		case i.Impact == ImpactDegraded && c.State == Good:
			return Slow
		}
	}
	return c.State
}
