package wallet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Statement is one wallet with its limits and what happened lately, from one moment.
type Statement struct {
	Balance Balance
	Limits  Limits
	// Rate is the exchange rate in force, by which amounts are shown in dollars.
	Rate money.Rate
	// Lines are the newest transactions, newest first.
	Lines []Line
}

// Line is a line of a wallet's history with what was paid for.
type Line struct {
	Transaction
	// Action is what was used; empty for all that is no usage.
	Action Action `db:"action"`
}

// InOneMoment has all that fn reads of one organisation, here and elsewhere, be of one moment; see db.InOneMoment.
func (l *Ledger) InOneMoment(ctx context.Context, org uuid.UUID, fn func(ctx context.Context) error) error {
	return l.db.InOneMoment(ctx, []uuid.UUID{org}, fn)
}

// Statement gives an organisation's wallet with its limits and at most recent of its transactions. An organisation without a
// wallet is NotFound.
func (l *Ledger) Statement(ctx context.Context, org uuid.UUID, recent int) (s Statement, err error) {
	err = l.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		s = Statement{}
		w, err := readState(ctx, tx, org)
		if err != nil {
			return err
		}
		s.Balance, s.Limits = w.Balance, w.limits()
		version, err := CurrentRate(ctx, tx)
		if err != nil {
			return err
		}
		if s.Rate, err = version.Rate(); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &s.Lines, `
			SELECT t.id, t.org_id, t.seq, t.kind, t.reference, t.description, t.amount_pence, t.balance_after_pence, t.debt_after_pence, t.created_at,
			       coalesce(h.action, '') AS action
			FROM ledger_transactions t LEFT JOIN holds h ON t.kind = 'usage' AND h.id = t.id
			WHERE t.org_id = $1 ORDER BY t.seq DESC LIMIT $2`, org, recent); err != nil {
			return fmt.Errorf("couldn't read the wallet's history: %w", err)
		}
		return nil
	})
	return s, err
}

// SurveyShow says which wallets a survey is about.
type SurveyShow string

// All wallets, or those that need somebody.
const (
	SurveyAll    SurveyShow = ""
	SurveyFrozen SurveyShow = "frozen"
	SurveyDebt   SurveyShow = "debt"
	SurveyClosed SurveyShow = "closed"

	SurveySuspended SurveyShow = "suspended"
)

// SurveyFilter says which wallets an operator looks for.
type SurveyFilter struct {
	// Name is a part of the organisation's name, in any case; empty is every name.
	Name string
	Show SurveyShow
	// After is the last organisation of the page before; uuid.Nil begins.
	After uuid.UUID
}

// Surveyed is one wallet as operators see it in a list.
type Surveyed struct {
	Balance
	Name string `db:"name"`
	// Spent is what was spent and set aside this month (UTC).
	Spent money.Pence `db:"spent_pence"`
}

// surveyMost is how many wallets one page of a survey has.
const surveyMost = 50

// Survey gives a page of wallets by the names of their organisations, and whether there are more.
func (l *Ledger) Survey(ctx context.Context, f SurveyFilter) (list []Surveyed, more bool, err error) {
	err = l.db.InSystemTx(ctx, "an operator's list of the wallets of every organisation", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		return tx.SelectContext(ctx, &list, `
			SELECT o.name, `+balanceColumns+`,
			       CASE WHEN spent_month >= $5 THEN spent_call_pence + spent_sms_pence + spent_number_pence + spent_knowledge_pence ELSE 0 END AS spent_pence
			FROM organizations o JOIN wallets ON org_id = o.id
			WHERE strpos(lower(o.name), lower($1)) > 0
			  AND CASE $2::text WHEN 'frozen' THEN frozen_at IS NOT NULL WHEN 'debt' THEN debt_pence > 0 WHEN 'closed' THEN wallets.closed_at IS NOT NULL WHEN 'suspended' THEN wallets.suspended_at IS NOT NULL ELSE true END
			  AND ($3 = '00000000-0000-0000-0000-000000000000'::uuid OR o.name > (SELECT name FROM organizations WHERE id = $3))
			ORDER BY o.name LIMIT $4`, f.Name, f.Show, f.After, surveyMost+1, firstOfMonth(tx.Now))
	})
	if err != nil {
		return nil, false, fmt.Errorf("couldn't list the wallets: %w", err)
	}
	if len(list) > surveyMost {
		return list[:surveyMost], true, nil
	}
	return list, false, nil
}

// Holder is the name of an organisation, for operators. One that does not exist is NotFound.
func (l *Ledger) Holder(ctx context.Context, org uuid.UUID) (name string, err error) {
	err = l.db.InSystemTx(ctx, "the name of an organisation that an operator looks at", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &name, `SELECT name FROM organizations WHERE id = $1`, org)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", fault.New(fault.NotFound, "There is no such organisation.")
	}
	return name, err
}

// PriceVersion is a version of a line of the rate card with who added it.
type PriceVersion struct {
	Price
	// Email is the author's; empty for what no person did.
	Email string `db:"email"`
}

// PriceLine is one line of the rate card with its history.
type PriceLine struct {
	Action Action
	Prefix string
	// Versions are all of them, newest start first; of those that start together, the one that counts first.
	Versions []PriceVersion
	// InForce is the one of them that counts now, Next the one that counts after it; nil where there is none.
	InForce, Next *PriceVersion
}

// PriceLines are the lines of one owner (uuid.Nil: everybody's) with their histories, in the order of [Actions] and of the
// prefixes.
func (l *Ledger) PriceLines(ctx context.Context, org uuid.UUID) (lines []PriceLine, err error) {
	var all []PriceVersion
	var now time.Time
	err = l.db.InSystemTx(ctx, "an operator's view of a rate card and its authors", func(ctx context.Context, tx *db.Tx) error {
		all, now = nil, tx.Now
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &all, `
			SELECT `+priceColumns+`, coalesce((
			           SELECT u.email FROM users u
			           WHERE u.id = CASE WHEN p.author ~ '^(user|operator):[0-9a-f-]{36}$' THEN split_part(p.author, ':', 2)::uuid END), '') AS email
			FROM prices p WHERE org_id IS NOT DISTINCT FROM $1
			ORDER BY array_position($2::text[], action), prefix COLLATE "C", starts_at DESC, id DESC`,
			uuid.NullUUID{UUID: org, Valid: org != uuid.Nil}, pq.Array(Actions))
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the prices: %w", err)
	}
	for _, v := range all {
		n := len(lines)
		if n == 0 || lines[n-1].Action != v.Action || lines[n-1].Prefix != v.Prefix {
			lines = append(lines, PriceLine{Action: v.Action, Prefix: v.Prefix})
			n++
		}
		lines[n-1].Versions = append(lines[n-1].Versions, v)
	}
	for i := range lines {
		lines[i].place(now)
	}
	return lines, nil
}

// place finds the version in force at a moment and the one after it.
func (l *PriceLine) place(now time.Time) {
	for i := range l.Versions {
		v := &l.Versions[i]
		if !v.StartsAt.After(now) {
			l.InForce = v
			return
		}
		if l.Next == nil || v.StartsAt.Before(l.Next.StartsAt) {
			l.Next = v
		}
	}
}

// PriceOwner is an organisation that has prices of its own, or had.
type PriceOwner struct {
	OrgID uuid.UUID `db:"id"`
	Name  string    `db:"name"`
}

// PriceOwners are the organisations with prices of their own, by name.
func (l *Ledger) PriceOwners(ctx context.Context) (owners []PriceOwner, err error) {
	err = l.db.InSystemTx(ctx, "the organisations with prices of their own", func(ctx context.Context, tx *db.Tx) error {
		owners = nil
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &owners, `
			SELECT o.id, o.name FROM organizations o WHERE o.id IN (SELECT p.org_id FROM prices p) ORDER BY o.name`)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list who has prices of their own: %w", err)
	}
	return owners, nil
}

// PricePreview is what a change of the rate card would do.
type PricePreview struct {
	// Change is what would be added, in its one form; a start that has passed is the zero time: now.
	Change PriceChange
	// Was is what counts now for what the change is about: by this line, a shorter prefix's or everybody's. Offered is
	// false where that is nothing, and Was empty.
	Was     Price
	Offered bool
	// Then is what would count once the change has begun; it differs from Change where an organisation's own price ends.
	Then        Price
	ThenOffered bool
	// Latest is the id of the line's newest version, zero when it has none: by it one sees whether somebody changed the
	// line in between.
	Latest int64
	// Later are the line's versions that would still begin after the change, the soonest first.
	Later []Price
	// Rate turns the change's dollars into pounds.
	Rate money.Rate
}

// PreviewPrice checks a change as SetPrice does, and says what it would do, without doing it.
func (g *Gates) PreviewPrice(ctx context.Context, c PriceChange) (p PricePreview, err error) {
	if err := c.check(); err != nil {
		return PricePreview{}, err
	}
	err = g.db.InSystemTx(ctx, "a look at the rate card before it is changed", func(ctx context.Context, tx *db.Tx) error {
		t, err := ReadTariff(ctx, tx)
		if err != nil {
			return err
		}
		p, err = t.preview(c, tx.Now)
		return err
	})
	return p, err
}

// preview finds what a checked change would do at a moment.
func (t *Tariff) preview(c PriceChange, now time.Time) (PricePreview, error) {
	if !c.StartsAt.After(now) {
		c.StartsAt = time.Time{}
	}
	p := PricePreview{Change: c}
	rate, err := t.Rate(now)
	if err != nil {
		return PricePreview{}, err
	}
	if p.Rate, err = rate.Rate(); err != nil {
		return PricePreview{}, fmt.Errorf("couldn't read the exchange rate: %w", err)
	}
	if p.Was, p.Offered, err = t.counts(c, now); err != nil {
		return PricePreview{}, err
	}
	at := now
	if c.StartsAt.After(at) {
		at = c.StartsAt
	}
	k := priceKey{c.OrgID, c.Action, c.Prefix}
	for _, v := range t.prices[k] { // newest start first
		p.Latest = max(p.Latest, v.ID)
		if v.StartsAt.After(at) {
			p.Later = append([]Price{v}, p.Later...)
		}
	}
	then := &Tariff{prices: maps.Clone(t.prices), rates: t.rates}
	then.prices[k] = []Price{{
		OrgID: uuid.NullUUID{UUID: c.OrgID, Valid: c.OrgID != uuid.Nil}, Action: c.Action, Prefix: c.Prefix, State: c.State, Unit: c.Unit,
		Monthly: c.Monthly, PerMinute: c.PerMinute, ChargeUndelivered: c.ChargeUndelivered, StartsAt: at,
	}}
	p.Then, p.ThenOffered, err = then.counts(c, at)
	return p, err
}

// counts is the price at a moment of what a change is about.
func (t *Tariff) counts(c PriceChange, at time.Time) (Price, bool, error) {
	p, err := t.Price(c.OrgID, c.Action, c.Prefix, at)
	if fault.Is(err, fault.Forbidden) {
		return Price{}, false, nil
	}
	return p, err == nil, err
}
