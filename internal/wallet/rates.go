package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// ExchangeRate is one version of the price of a dollar. A quote keeps the version it was made with.
type ExchangeRate struct {
	ID       int64     `db:"id"`
	Micros   int64     `db:"usd_to_gbp_micros"`
	Source   string    `db:"source"`
	StartsAt time.Time `db:"starts_at"`
}

// Rate is the exact rate.
func (r ExchangeRate) Rate() (money.Rate, error) { return money.RateFromMicros(r.Micros) }

// CurrentRate gives the version in force at the transaction's moment.
func CurrentRate(ctx context.Context, tx *db.Tx) (ExchangeRate, error) {
	var r ExchangeRate
	err := tx.GetContext(ctx, &r, `
		SELECT id, usd_to_gbp_micros, source, starts_at FROM exchange_rates
		WHERE starts_at <= $1 ORDER BY starts_at DESC, id DESC LIMIT 1`, tx.Now)
	if errors.Is(err, sql.ErrNoRows) {
		return ExchangeRate{}, errNoRate
	}
	if err != nil {
		return ExchangeRate{}, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	return r, nil
}

// Rate gives the exact rate in force now.
func (l *Ledger) Rate(ctx context.Context) (rate money.Rate, err error) {
	err = l.db.InSystemTx(ctx, "the exchange rate, which belongs to no organisation", func(ctx context.Context, tx *db.Tx) error {
		version, err := CurrentRate(ctx, tx)
		if err != nil {
			return err
		}
		rate, err = version.Rate()
		return err
	})
	return rate, err
}

// FirstRate records the configured rate as the first version, unless there is one already. Later versions are an
// operator's; configuration never overrides them. It is safe to repeat and to run in several processes at once.
func FirstRate(ctx context.Context, tx *db.Tx, rate money.Rate) error {
	if err := lockRates(ctx, tx); err != nil {
		return err
	}
	// In force since ever: a clock that is set back must not leave us without a price.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at)
		SELECT $1, 'USD_TO_GBP_RATE', 'system:configuration', '1970-01-01', $2
		WHERE NOT EXISTS (SELECT FROM exchange_rates)`, rate.Micros(), tx.Now); err != nil {
		return fmt.Errorf("couldn't record the first exchange rate: %w", err)
	}
	return nil
}

func lockRates(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('exchange_rates'))`); err != nil {
		return fmt.Errorf("couldn't lock the exchange rates: %w", err)
	}
	return nil
}

// RateChange is a new version of the exchange rate.
type RateChange struct {
	Rate money.Rate
	// Source is where the figure comes from; customers read it with what was priced by it.
	Source string
	// Reason is for the audit log, and shown to operators with the version.
	Reason string
	// StartsAt is when it begins; the zero time, or one that has passed, means now. It never reaches back.
	StartsAt time.Time
	// Seen is the newest version that its author knew of: another one that came meanwhile is a Conflict.
	Seen int64
	// Sure says that its author means a change of more than a tenth.
	Sure  bool
	Actor audit.Actor
}

// RatePreview is what a change of the exchange rate would do.
type RatePreview struct {
	// Change is in its one form; a start that has passed is the zero time: now.
	Change RateChange
	// Was is the version that counts until the change begins.
	Was ExchangeRate
	// Large says that it changes by more than a tenth, so that SetRate wants to know whether its author is sure.
	Large bool
	// Latest is the id of the newest version.
	Latest int64
	// Later are the versions that would still begin after it, the soonest first.
	Later []ExchangeRate
}

// SetRate adds a version of the exchange rate. This process counts with it at once, or at its start when that is later;
// others do within a second. Everything that breaks a rule is a fault of kind Invalid with its field; a version that
// somebody else added meanwhile is a Conflict.
func (g *Gates) SetRate(ctx context.Context, c RateChange) (id int64, err error) {
	defer g.PricesChanged() // also when it is not known whether it was committed
	err = g.db.InSystemTx(ctx, "a change of the exchange rate, which belongs to no organisation", func(ctx context.Context, tx *db.Tx) error {
		if err := lockRates(ctx, tx); err != nil {
			return err
		}
		p, err := previewRate(ctx, tx, c)
		switch {
		case err != nil:
			return err
		case c.Seen != p.Latest:
			return fault.New(fault.Conflict, "Somebody has set the exchange rate meanwhile. Look at it as it is now.")
		case p.Large && !c.Sure:
			return fault.Field("sure", "This changes the rate by more than 10%. Say that you mean it.")
		}
		c = p.Change
		if c.StartsAt.IsZero() {
			c.StartsAt = tx.Now
		}
		if err := tx.GetContext(ctx, &id, `
			INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, reason, starts_at, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
			c.Rate.Micros(), c.Source, c.Actor, c.Reason, c.StartsAt, tx.Now); err != nil {
			return fmt.Errorf("couldn't add the exchange rate: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			Actor: c.Actor, Action: "rate.set", Subject: "exchange_rate:usd_gbp", Reason: c.Reason,
			Detail: map[string]any{"rate_id": id, "rate": c.Rate.String(), "was": p.Was.Micros, "source": c.Source, "starts_at": c.StartsAt},
		})
	})
	return id, err
}

// PreviewRate checks a change as SetRate does, and says what it would do, without doing it.
func (g *Gates) PreviewRate(ctx context.Context, c RateChange) (p RatePreview, err error) {
	err = g.db.InSystemTx(ctx, "a look at the exchange rates before they are changed", func(ctx context.Context, tx *db.Tx) error {
		p, err = previewRate(ctx, tx, c)
		return err
	})
	return p, err
}

func previewRate(ctx context.Context, tx *db.Tx, c RateChange) (RatePreview, error) {
	var err error
	if c.Rate.IsZero() {
		return RatePreview{}, fault.Field("rate", "Enter a rate, for example 0.79.")
	}
	if c.Source, err = oneLine(c.Source, 200); err != nil {
		return RatePreview{}, fault.Field("source", "Say in at most 200 characters, in one line, where the figure comes from; customers read it.")
	}
	if c.Reason, err = Sentence("reason", c.Reason); err != nil {
		return RatePreview{}, err
	}
	if !c.StartsAt.After(tx.Now) {
		c.StartsAt = time.Time{}
	}
	t, err := ReadTariff(ctx, tx)
	if err != nil {
		return RatePreview{}, err
	}
	at := tx.Now
	if c.StartsAt.After(at) {
		at = c.StartsAt
	}
	p := RatePreview{Change: c}
	if p.Was, err = t.Rate(at); err != nil {
		return RatePreview{}, err
	}
	change := c.Rate.Micros() - p.Was.Micros
	p.Large = max(change, -change)*10 > p.Was.Micros
	for _, r := range t.rates { // newest start first
		p.Latest = max(p.Latest, r.ID)
		if r.StartsAt.After(at) {
			p.Later = append(p.Later, r)
		}
	}
	slices.Reverse(p.Later)
	return p, nil
}

// RateVersion is a version of the exchange rate with who added it and why.
type RateVersion struct {
	ExchangeRate

	Author string `db:"author"`
	// Email is the author's; empty for what no person did.
	Email     string    `db:"email"`
	Reason    string    `db:"reason"`
	CreatedAt time.Time `db:"created_at"`
}

// RateHistory is every version of the exchange rate.
type RateHistory struct {
	// Versions have the newest start first; of those that start together, the one that counts first.
	Versions []RateVersion
	// InForce is the one of them that counts now, Next the one that counts after it; nil where there is none.
	InForce, Next *RateVersion
}

// RateHistory reads it, for operators.
func (l *Ledger) RateHistory(ctx context.Context) (h RateHistory, err error) {
	var now time.Time
	err = l.db.InSystemTx(ctx, "an operator's view of the exchange rates and their authors", func(ctx context.Context, tx *db.Tx) error {
		h, now = RateHistory{}, tx.Now
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &h.Versions, `
			SELECT r.id, r.usd_to_gbp_micros, r.source, r.starts_at, r.author, r.reason, r.created_at, coalesce((
			           SELECT u.email FROM users u
			           WHERE u.id = CASE WHEN r.author ~ '^(user|operator):[0-9a-f-]{36}$' THEN split_part(r.author, ':', 2)::uuid END), '') AS email
			FROM exchange_rates r ORDER BY r.starts_at DESC, r.id DESC`)
	})
	if err != nil {
		return RateHistory{}, fmt.Errorf("couldn't read the exchange rates: %w", err)
	}
	for i := range h.Versions {
		v := &h.Versions[i]
		if !v.StartsAt.After(now) {
			h.InForce = v
			break
		}
		if h.Next == nil || v.StartsAt.Before(h.Next.StartsAt) {
			h.Next = v
		}
	}
	return h, nil
}

// ParseRate reads a rate as somebody types it; what it is not is Invalid with the field "rate".
func ParseRate(typed string) (money.Rate, error) {
	typed = strings.TrimSpace(typed)
	rate, err := money.ParseRate(typed)
	switch {
	case err == nil:
		return rate, nil
	case typed == "":
		return money.Rate{}, fault.Field("rate", "Enter a rate, for example 0.79.")
	}
	text := err.Error()
	return money.Rate{}, fault.Field("rate", strings.ToUpper(text[:1])+text[1:]+".")
}
