package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lib/pq"

	"ringfence/db"
)

// Component is a part of the service that people know by this name.
type Component string

// The components; the schema knows the same ones.
const (
	SignIn   Component = "sign_in"
	Payments Component = "payments"
	Calls    Component = "calls"
	Texts    Component = "texts"
	Jobs     Component = "jobs"
)

// Components are all of them, in the order in which they are shown.
func Components() []Component { return []Component{SignIn, Payments, Calls, Texts, Jobs} }

// State is how a component stands.
type State string

// The states. Unknown is never stored: it is what an old probe says, or none, or one that cannot tell yet.
const (
	Good    State = "good"
	Slow    State = "slow" // it works, and not as it should
	Bad     State = "bad"
	Off     State = "off" // this installation does not offer it
	Unknown State = "unknown"
)

const (
	// RoundEvery is how often the house looks, probeWithin how long it waits for one answer, and slowAfter from when on an
	// answer is a slow one.
	RoundEvery  = 20 * time.Second
	probeWithin = 15 * time.Second
	slowAfter   = 3 * time.Second
	// Fresh is how old a probe may be to count for anything.
	Fresh = time.Minute
	// eventsSlow and eventsBad are for how long an event of Stripe's may wait to be worked.
	eventsSlow = time.Minute
	eventsBad  = 5 * time.Minute
	// jobsBad is how long no job may have been finished: several are due every quarter of a minute.
	jobsBad = time.Minute
	// jobsSlow is how long a job may wait that is due.
	jobsSlow = time.Minute
	// daysKept is how long the history of a component is.
	daysKept = 90
	// maxNote bounds what is kept of an error, in bytes.
	maxNote = 300
)

// Probe is what was found of a component.
type Probe struct {
	Component Component `db:"component"`
	State     State     `db:"state"`
	// Note says more, for operators only.
	Note   string    `db:"note"`
	TookMS int64     `db:"took_ms"`
	At     time.Time `db:"at"`
}

// Run looks at the house every [RoundEvery] until ctx ends, beside others who do the same: one of them looks each time.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(RoundEvery / 4) // a round that another process did not begin is begun soon
	defer tick.Stop()
	for {
		if err := s.Round(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.ErrorContext(ctx, "the house could not look at itself", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Round looks once, unless somebody did within [RoundEvery]. What one probe meets keeps none of the others from its turn.
func (s *Service) Round(ctx context.Context) error {
	mine, err := s.claim(ctx)
	if err != nil || !mine {
		return err
	}
	found := make([]Probe, len(Components()))
	var balances []reading
	var mu sync.Mutex
	keep := func(r reading) {
		mu.Lock()
		defer mu.Unlock()
		balances = append(balances, r)
	}
	var wg sync.WaitGroup
	for i, c := range Components() {
		wg.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, probeWithin)
			defer cancel()
			began := s.o.Now()
			state, note := s.probe(bounded, c, keep)
			took := s.o.Now().Sub(began)
			if state == Good && took > slowAfter {
				state, note = Slow, "It took long to answer."
			}
			found[i] = Probe{Component: c, State: state, Note: cut(note), TookMS: took.Milliseconds()}
		})
	}
	wg.Wait()
	if ctx.Err() != nil { // what was cut off says nothing
		return fmt.Errorf("the round was given up: %w", context.Cause(ctx))
	}
	found = slices.DeleteFunc(found, func(p Probe) bool { return p.State == Unknown })
	return s.store(ctx, found, balances)
}

// claim says whether it is this process's turn to look: it is whoever's comes first.
func (s *Service) claim(ctx context.Context) (mine bool, err error) {
	err = s.o.DB.InSystemTx(ctx, "whose turn it is to look at the house", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			INSERT INTO probe_rounds (kind, began_at) VALUES ('probes', $1)
			ON CONFLICT (kind) DO UPDATE SET began_at = $1 WHERE probe_rounds.began_at <= $2 OR probe_rounds.began_at > $1`, tx.Now, tx.Now.Add(-RoundEvery))
		if err != nil {
			return fmt.Errorf("couldn't claim the round: %w", err)
		}
		n, err := res.RowsAffected()
		mine = n == 1
		return err
	})
	return mine, err
}

// probe looks at one component.
func (s *Service) probe(ctx context.Context, c Component, keep func(reading)) (State, string) {
	switch c {
	case SignIn:
		return tried(ctx, s.o.SignIn)
	case Calls:
		return tried(ctx, s.o.Calls)
	case Texts:
		return tried(ctx, s.balance("twilio", s.o.Twilio, keep))
	case Payments:
		if state, note := tried(ctx, s.balance("stripe", s.o.Stripe, keep)); state != Good {
			return state, note
		}
		return s.events(ctx)
	case Jobs:
		return s.jobs(ctx)
	}
	return Bad, "nobody knows how to look at it"
}

// tried says how a component stands by what came of trying it.
func tried(ctx context.Context, try func(context.Context) error) (State, string) {
	if try == nil {
		return Off, ""
	}
	if err := try(ctx); err != nil {
		return Bad, err.Error()
	}
	return Good, ""
}

// reading is what a provider said of our balance.
type reading struct {
	provider string
	money    Money
	note     string
}

// balance tries to read what we have with a provider.
func (s *Service) balance(provider string, read func(context.Context) (Money, error), keep func(reading)) func(context.Context) error {
	if read == nil {
		return nil
	}
	return func(ctx context.Context) error {
		m, err := read(ctx)
		r := reading{provider: provider, money: m}
		if err != nil {
			r.note = cut(err.Error())
		}
		keep(r)
		return err
	}
}

// events is whether what Stripe told us is worked in time.
func (s *Service) events(ctx context.Context) (State, string) {
	var oldest *time.Time
	err := s.o.DB.InSystemTx(ctx, "the oldest event that waits", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &oldest, `SELECT min(received_at) FROM stripe_events WHERE state = 'received'`)
	})
	switch {
	case err != nil:
		return Bad, err.Error()
	case oldest == nil:
		return Good, ""
	}
	switch age := s.o.Now().Sub(*oldest); {
	case age > eventsBad:
		return Bad, "An event of Stripe's has waited for " + age.Round(time.Second).String() + "."
	case age > eventsSlow:
		return Slow, "An event of Stripe's has waited for " + age.Round(time.Second).String() + "."
	}
	return Good, ""
}

// jobs is whether jobs are worked: by what was finished lately, and by what waits that is due. Where nothing was, a process that
// has just begun cannot know whether anybody works: they may have begun together.
func (s *Service) jobs(ctx context.Context) (State, string) {
	var row struct {
		Finished *time.Time `db:"finished"`
		Due      *time.Time `db:"due"`
	}
	err := s.o.DB.InSystemTx(ctx, "whether jobs are worked", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &row, `
			SELECT (SELECT max(finalized_at) FROM river_job WHERE state = 'completed' AND finalized_at IS NOT NULL) AS finished,
			       (SELECT min(scheduled_at) FROM river_job WHERE state = 'available') AS due`)
	})
	switch now := s.o.Now(); {
	case err != nil:
		return Bad, err.Error()
	case (row.Finished == nil || now.Sub(*row.Finished) > jobsBad) && now.Sub(s.began) <= jobsBad:
		return Unknown, ""
	case row.Finished == nil || now.Sub(*row.Finished) > jobsBad:
		return Bad, "No job was finished for a minute."
	case row.Due != nil && now.Sub(*row.Due) > jobsSlow:
		return Slow, "A job that is due waits for more than a minute."
	}
	return Good, ""
}

// store keeps what was found, and counts it for the history.
func (s *Service) store(ctx context.Context, found []Probe, balances []reading) error {
	components, states, notes, took := make([]string, len(found)), make([]string, len(found)), make([]string, len(found)), make([]int64, len(found))
	for i, p := range found {
		components[i], states[i], notes[i], took[i] = string(p.Component), string(p.State), p.Note, p.TookMS
		if p.State == Bad {
			s.o.Log.WarnContext(ctx, "a part of the service does not work", "component", p.Component, "note", p.Note)
		}
	}
	return s.o.DB.InSystemTx(ctx, "what the probes found", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO probes (component, state, note, took_ms, at)
			SELECT u.component, u.state, u.note, u.took, $5 FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) u (component, state, note, took)
			ON CONFLICT (component) DO UPDATE SET state = excluded.state, note = excluded.note, took_ms = excluded.took_ms, at = excluded.at
			WHERE probes.at <= excluded.at`, pq.Array(components), pq.Array(states), pq.Array(notes), pq.Array(took), tx.Now); err != nil {
			return fmt.Errorf("couldn't keep the probes: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO probe_days (component, day, good, slow, bad)
			SELECT u.component, ($3::timestamptz AT TIME ZONE 'UTC')::date, (u.state = 'good')::int, (u.state = 'slow')::int, (u.state = 'bad')::int
			FROM unnest($1::text[], $2::text[]) u (component, state) WHERE u.state <> 'off'
			ON CONFLICT (component, day) DO UPDATE SET good = probe_days.good + excluded.good, slow = probe_days.slow + excluded.slow, bad = probe_days.bad + excluded.bad`,
			pq.Array(components), pq.Array(states), tx.Now); err != nil {
			return fmt.Errorf("couldn't count the probes: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM probe_days WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date - $2::int`, tx.Now, daysKept); err != nil {
			return fmt.Errorf("couldn't forget old probes: %w", err)
		}
		for _, r := range balances {
			if err := storeReading(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// storeReading keeps what a provider said; where it said nothing, what it said before stays, with its own age.
func storeReading(ctx context.Context, tx *db.Tx, r reading) error {
	query, args := `
		INSERT INTO provider_balances (provider, amount_micros, currency, read_at, tried_at, note) VALUES ($1, $3, $4, $2, $2, '')
		ON CONFLICT (provider) DO UPDATE SET amount_micros = excluded.amount_micros, currency = excluded.currency, read_at = excluded.read_at,
		            tried_at = excluded.tried_at, note = ''`, []any{r.provider, tx.Now, r.money.Micros, r.money.Currency}
	if r.note != "" {
		query, args = `
			INSERT INTO provider_balances (provider, tried_at, note) VALUES ($1, $2, $3)
			ON CONFLICT (provider) DO UPDATE SET tried_at = excluded.tried_at, note = excluded.note`, []any{r.provider, tx.Now, r.note}
	}
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("couldn't keep the balance at %s: %w", r.provider, err)
	}
	return nil
}

// cut bounds a note and makes it one that can be kept.
func cut(note string) string {
	out := make([]rune, 0, len(note))
	for _, r := range note {
		if r < ' ' {
			r = ' '
		}
		out = append(out, r)
	}
	for len(string(out)) > maxNote {
		out = out[:len(out)-1]
	}
	return string(out)
}

// Probes gives what is known of every component now: an old probe is Unknown, whatever it said, and so is none.
func (s *Service) Probes(ctx context.Context) ([]Probe, error) {
	var rows []Probe
	err := s.o.DB.InSystemTx(ctx, "how the parts of the service stand", func(ctx context.Context, tx *db.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, `SELECT component, state, note, took_ms, at FROM probes`)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the probes: %w", err)
	}
	return fresh(rows, s.o.Now()), nil
}

// fresh puts stored probes in order and takes those for unknown that are too old, or of the future.
func fresh(rows []Probe, now time.Time) []Probe {
	all := make([]Probe, 0, len(rows))
	for _, c := range Components() {
		p := Probe{Component: c, State: Unknown}
		for _, row := range rows {
			if row.Component != c {
				continue
			}
			p = row
			if age := now.Sub(row.At); age > Fresh || age < -Fresh {
				p.State = Unknown
			}
		}
		all = append(all, p)
	}
	return all
}

// Balance is what we have with a provider, as far as it said.
type Balance struct {
	Provider string
	// Money is what it said at ReadAt; ReadAt is nil where it never said.
	Money  Money
	ReadAt *time.Time
	// Why is why nothing newer is known; empty where what is known is fresh.
	Why string
	// Low says that it is below Floor, in millionths.
	Low   bool
	Floor int64
	// Off says that this installation does not use the provider.
	Off bool
}

// provider is one that we have a balance with.
type provider struct {
	name  string
	off   bool  // this installation does not use it
	floor int64 // millionths below which operators are told; 0 tells of none
}

func (s *Service) providers() []provider {
	return []provider{{"stripe", s.o.Stripe == nil, s.o.StripeLow}, {"twilio", s.o.Twilio == nil, s.o.TwilioLow}}
}

// Balances gives what we have with Stripe and Twilio.
func (s *Service) Balances(ctx context.Context) ([]Balance, error) {
	var rows []struct {
		Provider string     `db:"provider"`
		Micros   *int64     `db:"amount_micros"`
		Currency string     `db:"currency"`
		ReadAt   *time.Time `db:"read_at"`
		TriedAt  time.Time  `db:"tried_at"`
		Note     string     `db:"note"`
	}
	err := s.o.DB.InSystemTx(ctx, "what the house has with its providers", func(ctx context.Context, tx *db.Tx) error {
		rows = nil
		return tx.SelectContext(ctx, &rows, `SELECT provider, amount_micros, currency, read_at, tried_at, note FROM provider_balances`)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the providers' balances: %w", err)
	}
	var all []Balance
	for _, p := range s.providers() {
		all = append(all, Balance{Provider: p.name, Off: p.off, Floor: p.floor})
	}
	for i := range all {
		b := &all[i]
		b.Why = "It was not asked yet."
		for _, row := range rows {
			if row.Provider != b.Provider {
				continue
			}
			b.ReadAt, b.Why = row.ReadAt, row.Note
			if row.Micros != nil {
				b.Money = Money{Micros: *row.Micros, Currency: row.Currency}
				b.Low = b.Floor > 0 && b.Money.Micros < b.Floor
			}
			if s.o.Now().Sub(row.TriedAt) > Fresh && b.Why == "" {
				b.Why = "It was not asked for more than a minute."
			}
		}
	}
	return all, nil
}

// ErrNoAnswer says that a provider answered with something that says nothing.
var ErrNoAnswer = errors.New("the answer says nothing")
