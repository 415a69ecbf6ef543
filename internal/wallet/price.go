package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Action is something that costs money.
type Action string

// The actions; the schema knows the same ones.
const (
	ActionCall      Action = "call"      // its quantity is seconds
	ActionSMS       Action = "sms"       // segments
	ActionNumber    Action = "number"    // numbers bought
	ActionKnowledge Action = "knowledge" // searches
)

// Actions are all of them, in the order in which people see them.
var Actions = []Action{ActionCall, ActionSMS, ActionNumber, ActionKnowledge}

// most is the largest quantity of one hold: a slip of a program stays small. A call may last as long as Vapi lets one.
func (a Action) most() int64 {
	switch a {
	case ActionCall:
		return 43_200
	case ActionSMS:
		return 1_000
	case ActionNumber:
		return 10
	case ActionKnowledge:
		return 1_000
	}
	return 0
}

// hasDestination reports whether the action's price depends on where it goes.
func (a Action) hasDestination() bool { return a == ActionCall || a == ActionSMS }

// PriceState says whether a price lets its action happen.
type PriceState string

// The states of a price.
const (
	PriceOn      PriceState = "on"
	PriceOff     PriceState = "off"     // the action is not offered there
	PriceInherit PriceState = "inherit" // an organisation's own price has ended: the one for everybody counts again
)

// Price is one version of one line of the rate card. Versions are added, never changed: what was charged stays explained.
type Price struct {
	ID int64 `db:"id"`
	// OrgID is the organisation whose own price it is; not valid for everybody's.
	OrgID  uuid.NullUUID `db:"org_id"`
	Action Action        `db:"action"`
	// Prefix is the digits a destination begins with, without the plus; empty where there is no destination, or none is told.
	Prefix string     `db:"prefix"`
	State  PriceState `db:"state"`
	// Unit is the price of a text's segment, a number's purchase or a search; of a call, what must be available to start it.
	Unit money.Pence `db:"unit_pence"`
	// Monthly is a number's rent for each month after the first.
	Monthly money.Pence `db:"monthly_pence"`
	// PerMinute is a call's price, charged by the second.
	PerMinute money.USDCents `db:"cents_per_minute"`
	// ChargeUndelivered says whether a text that the network could not deliver is paid for.
	ChargeUndelivered bool      `db:"charge_undelivered"`
	StartsAt          time.Time `db:"starts_at"`
	CreatedAt         time.Time `db:"created_at"`
	Author            string    `db:"author"`
	Reason            string    `db:"reason"`
}

// cost is what a quantity costs, and what must be available for it to begin.
func (p Price) cost(quantity int64, rate money.Rate) (amount, required money.Pence, err error) {
	if p.Action == ActionCall {
		amount, err = money.CallCost(quantity, p.PerMinute, rate)
		return amount, max(amount, p.Unit), err
	}
	amount = p.Unit * money.Pence(quantity) // both are bounded by the schema and by most
	return amount, amount, nil
}

// Tariff is the rate card and the exchange rates with all their versions, at one moment. It does not change.
type Tariff struct {
	prices map[priceKey][]Price // newest start first
	rates  []ExchangeRate       // newest start first
}

type priceKey struct {
	org    uuid.UUID // uuid.Nil: everybody's
	action Action
	prefix string
}

const priceColumns = `id, org_id, action, prefix, state, unit_pence, monthly_pence, cents_per_minute, charge_undelivered, starts_at, created_at, author, reason`

// ReadTariff reads the rate card of every organisation within a system transaction.
func ReadTariff(ctx context.Context, tx *db.Tx) (*Tariff, error) {
	var all []Price
	if err := tx.SelectContext(ctx, &all, `SELECT `+priceColumns+` FROM prices ORDER BY starts_at DESC, id DESC`); err != nil {
		return nil, fmt.Errorf("couldn't read the prices: %w", err)
	}
	t := &Tariff{prices: make(map[priceKey][]Price, len(all))}
	for _, p := range all {
		k := priceKey{p.OrgID.UUID, p.Action, p.Prefix}
		t.prices[k] = append(t.prices[k], p)
	}
	if err := tx.SelectContext(ctx, &t.rates, `
		SELECT id, usd_to_gbp_micros, source, starts_at FROM exchange_rates ORDER BY starts_at DESC, id DESC`); err != nil {
		return nil, fmt.Errorf("couldn't read the exchange rates: %w", err)
	}
	return t, nil
}

// Rate is the exchange rate in force at a moment.
func (t *Tariff) Rate(at time.Time) (ExchangeRate, error) {
	for _, r := range t.rates {
		if !r.StartsAt.After(at) {
			return r, nil
		}
	}
	return ExchangeRate{}, errNoRate
}

// line is the version of exactly this line in force at a moment; not found for one that has not begun or has ended.
func (t *Tariff) line(k priceKey, at time.Time) (Price, bool) {
	for _, p := range t.prices[k] {
		if !p.StartsAt.After(at) {
			return p, p.State != PriceInherit
		}
	}
	return Price{}, false
}

// Price finds what an action costs an organisation at a moment. A destination is digits after a plus (E.164); an empty one
// has the price of the line without a prefix, which no destination falls back to: where nobody has set a price, nothing
// happens. Not being offered is a fault of kind Forbidden.
func (t *Tariff) Price(org uuid.UUID, action Action, destination string, at time.Time) (Price, error) {
	digits := strings.TrimPrefix(destination, "+")
	for n := len(digits); n > 0 || digits == "" && n == 0; n-- {
		for _, owner := range [2]uuid.UUID{org, uuid.Nil} {
			if p, ok := t.line(priceKey{owner, action, digits[:n]}, at); ok {
				if p.State == PriceOff {
					return Price{}, notOffered(action, destination)
				}
				return p, nil
			}
		}
	}
	return Price{}, notOffered(action, destination)
}

func notOffered(action Action, destination string) error {
	if destination == "" {
		return &fault.Error{Kind: fault.Forbidden, Code: "not_offered", Public: "This is not offered to your organisation at present."}
	}
	what := "Texts"
	if action == ActionCall {
		what = "Calls"
	}
	return &fault.Error{
		Kind: fault.Forbidden, Code: "destination_not_offered", Field: "destination",
		Public: what + " to this destination are not offered. The price list says where they are; ask us to open another.",
	}
}

// Lines are the prices in force for an organisation at a moment, in the order of [Actions] and of the prefixes: everybody's
// and, instead of those, its own. With uuid.Nil they are everybody's alone. What is off is among them.
func (t *Tariff) Lines(org uuid.UUID, at time.Time) []Price {
	chosen := map[priceKey]Price{}
	for _, owner := range []uuid.UUID{uuid.Nil, org} {
		for k := range t.prices {
			if k.org != owner {
				continue
			}
			if p, ok := t.line(k, at); ok {
				chosen[priceKey{action: k.action, prefix: k.prefix}] = p
			}
		}
	}
	lines := make([]Price, 0, len(chosen))
	for _, p := range chosen {
		lines = append(lines, p)
	}
	slices.SortFunc(lines, func(a, b Price) int {
		if c := slices.Index(Actions, a.Action) - slices.Index(Actions, b.Action); c != 0 {
			return c
		}
		return strings.Compare(a.Prefix, b.Prefix)
	})
	return lines
}

// Versions are all versions of all lines of one owner (uuid.Nil: everybody's), newest start first.
func (t *Tariff) Versions(org uuid.UUID) []Price {
	var all []Price
	for k, versions := range t.prices {
		if k.org == org {
			all = append(all, versions...)
		}
	}
	slices.SortFunc(all, func(a, b Price) int {
		if c := b.StartsAt.Compare(a.StartsAt); c != 0 {
			return c
		}
		return int(b.ID - a.ID)
	})
	return all
}

// tariffAge is how old the remembered rate card may be: a version that was added counts in every process after this long
// at the latest, and at its own start when that is later.
const tariffAge = time.Second

// tariffs remembers the rate card for a moment, since every decision needs it.
type tariffs struct {
	db  *db.DB
	now func() time.Time

	mu   sync.Mutex
	last *Tariff
	read time.Time
}

// current gives a rate card no older than tariffAge. When it cannot be read there is none: a price is never guessed.
func (t *tariffs) current(context.Context) (*Tariff, error) {
	t.mu.Lock() // whoever comes while it is read waits for the same answer
	defer t.mu.Unlock()
	now := t.now()
	if age := now.Sub(t.read); t.last != nil && age >= 0 && age < tariffAge {
		return t.last, nil
	}
	var read *Tariff
	// It is read for whoever waits, maybe while a caller has a transaction open, so no caller's context reaches it.
	err := t.db.InSystemTx(context.Background(), "the rate card, of which every organisation's part is kept", func(ctx context.Context, tx *db.Tx) (err error) { //nolint:contextcheck // see above
		read, err = ReadTariff(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.last, t.read = read, now
	return read, nil
}

// forget has the next look read anew.
func (t *tariffs) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = nil
}

// PriceChange is a new version of one line of the rate card.
type PriceChange struct {
	// OrgID is whose price; uuid.Nil is everybody's.
	OrgID             uuid.UUID
	Action            Action
	Prefix            string
	State             PriceState
	Unit              money.Pence
	Monthly           money.Pence
	PerMinute         money.USDCents
	ChargeUndelivered bool
	// StartsAt is when it begins; the zero time, or one that has passed, means now. It never reaches back.
	StartsAt time.Time
	// Reason is for the audit log, and shown with the version.
	Reason string
	Actor  audit.Actor
}

// SetPrice adds a version of a line of the rate card within a system transaction and gives it. Everything that breaks a
// rule is a fault of kind Invalid with its field.
func SetPrice(ctx context.Context, tx *db.Tx, c PriceChange) (Price, error) {
	if err := c.check(); err != nil {
		return Price{}, err
	}
	if c.StartsAt.Before(tx.Now) {
		c.StartsAt = tx.Now
	}
	owner := uuid.NullUUID{UUID: c.OrgID, Valid: c.OrgID != uuid.Nil}
	var p Price
	err := tx.GetContext(ctx, &p, `
		INSERT INTO prices (org_id, action, prefix, state, unit_pence, monthly_pence, cents_per_minute, charge_undelivered, starts_at, created_at, author, reason)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING `+priceColumns,
		owner, c.Action, c.Prefix, c.State, c.Unit, c.Monthly, c.PerMinute, c.ChargeUndelivered, c.StartsAt, tx.Now, c.Actor, c.Reason)
	if err != nil {
		return Price{}, fmt.Errorf("couldn't add the price: %w", err)
	}
	return p, audit.Record(ctx, tx, audit.Entry{
		OrgID: c.OrgID, Actor: c.Actor, Action: "price.set", Subject: "price:" + string(c.Action) + ":" + c.Prefix, Reason: c.Reason,
		Detail: map[string]any{
			"price_id": p.ID, "state": c.State, "unit_pence": int64(c.Unit), "monthly_pence": int64(c.Monthly),
			"cents_per_minute": int64(c.PerMinute), "charge_undelivered": c.ChargeUndelivered, "starts_at": c.StartsAt,
		},
	})
}

// maxUnit bounds a price, in pence or cents, as the schema does.
const maxUnit = 100_000

// check refuses what breaks a rule and brings the rest into its one form.
func (c *PriceChange) check() error {
	c.Prefix, c.Reason = strings.TrimPrefix(strings.TrimSpace(c.Prefix), "+"), strings.TrimSpace(c.Reason)
	if !slices.Contains(Actions, c.Action) {
		return fault.Field("action", "Choose call, sms, number or knowledge.")
	}
	if strings.Trim(c.Prefix, "0123456789") != "" || len(c.Prefix) > 15 || strings.HasPrefix(c.Prefix, "0") {
		return fault.Field("prefix", "A prefix is the digits that numbers begin with, country code first, for example 44 or 447.")
	}
	if c.Prefix != "" && !c.Action.hasDestination() {
		return fault.Field("prefix", "Only calls and texts are priced by destination. Leave the prefix empty.")
	}
	if c.Reason == "" || len(c.Reason) > 500 {
		return fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	switch c.State {
	case PriceInherit:
		if c.OrgID == uuid.Nil {
			return fault.Field("state", "Only an organisation's own price can go back to everybody's.")
		}
		c.Unit, c.Monthly, c.PerMinute = 0, 0, 0
		return nil
	case PriceOff:
		c.Unit, c.Monthly, c.PerMinute = 0, 0, 0
		return nil
	case PriceOn:
	default:
		return fault.Field("state", "Choose on or off.")
	}
	switch {
	case c.Unit < 0 || c.Unit > maxUnit:
		return fault.Field("unit", fmt.Sprintf("Enter an amount up to %s.", money.Pence(maxUnit)))
	case c.Monthly < 0 || c.Monthly > maxUnit:
		return fault.Field("monthly", fmt.Sprintf("Enter an amount up to %s.", money.Pence(maxUnit)))
	case c.PerMinute < 0 || c.PerMinute > maxUnit:
		return fault.Field("per_minute", "Enter a price up to $1,000.00.")
	case c.Action == ActionCall && c.PerMinute == 0:
		return fault.Field("per_minute", "Enter what a minute costs in dollars, above zero. To stop calls, choose off.")
	case c.Action != ActionCall && c.Unit == 0:
		return fault.Field("unit", "Enter a price above zero. To stop it, choose off.")
	}
	if c.Action != ActionCall {
		c.PerMinute = 0
	}
	if c.Action != ActionNumber {
		c.Monthly = 0
	}
	return nil
}

var errNoRate = errors.New("no exchange rate is in force: set USD_TO_GBP_RATE and start again")
