package payments

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// Automatic top-ups: when a wallet runs low we charge its organisation's saved card by ourselves, for what its owner has
// allowed in so many words, and never more.
//
// Nothing is charged twice: a row of top_ups stands before Stripe is asked, of which a unique index allows one in flight
// per organisation; what Stripe is asked with is a function of that row and goes under its own idempotency key; whoever
// comes later looks first what Stripe has of it. Nothing is charged without consent: the transaction that takes a top-up in
// hand locks the settings and holds the row against them once more, word by word. And there is one way for money to come
// in: a charge that succeeds only moves its row, and the payment's event, or reconciliation, credits it like any other.
//
// Lock order: top-ups, payments and wallets as everywhere, then auto_top_ups, then saved_cards. Whoever holds the settings
// reads the wallet without locking it, and whoever inserts a top-up holds no other lock.

// AutoTopUpState is how automatic top-ups stand for an organisation.
type AutoTopUpState string

// The states; the schema knows the same ones.
const (
	AutoOff            AutoTopUpState = "off"                  // by its owner, or never turned on
	AutoReady          AutoTopUpState = "ready"                // charges when the wallet is low
	AutoCoolingDown    AutoTopUpState = "cooling_down"         // after a decline: not before a given time
	AutoAuthentication AutoTopUpState = "needs_authentication" // the bank wants to see the cardholder first
	AutoStopped        AutoTopUpState = "stopped"              // by us, until its owner turns it on again
)

// On reports whether automatic top-ups are turned on, whatever keeps the next one waiting.
func (s AutoTopUpState) On() bool {
	return s == AutoReady || s == AutoCoolingDown || s == AutoAuthentication
}

// AutoTopUpSettings are what an owner sets, in pence.
type AutoTopUpSettings struct {
	// Threshold is below how much available money a top-up is made.
	Threshold money.Pence `db:"threshold_pence"`
	// Amount is what each one charges.
	Amount money.Pence `db:"amount_pence"`
	// DailyCap and MonthlyCap are the most that they charge in a day and in a calendar month, in UTC.
	DailyCap   money.Pence `db:"daily_cap_pence"`
	MonthlyCap money.Pence `db:"monthly_cap_pence"`
}

// SuggestedAutoTopUp is what the form begins with.
func SuggestedAutoTopUp() AutoTopUpSettings {
	return AutoTopUpSettings{Threshold: 5_00, Amount: 50_00, DailyCap: 100_00, MonthlyCap: 500_00}
}

// largestCap bounds what an owner can allow in a month: a slip of the keyboard stays small.
const largestCap money.Pence = 1_000_000_00

// Words is the sentence by which an owner allows the settings. It is kept with each charge, so it names every figure.
func (s AutoTopUpSettings) Words() string {
	return fmt.Sprintf("I allow Ringfence to charge %s to the card saved for this wallet, without asking me each time, whenever less than %s is "+
		"available in the wallet or it owes something: at most %s in a day and %s in a calendar month (UTC). I can turn this off or remove the card "+
		"at any time.", s.Amount, s.Threshold, s.DailyCap, s.MonthlyCap)
}

// SaveCardWords is the sentence by which a payer lets a card be kept.
const SaveCardWords = "I allow Ringfence to keep this card with Stripe for automatic top-ups, and to charge it without asking me each time, but only " +
	"when and as much as an owner of this organisation sets under Auto top-up. Until that is turned on nothing is charged. I can remove the card there at any time."

// CheckAutoTopUp says what is wrong with settings, a sentence by the name of the field: threshold, amount, daily_cap or
// monthly_cap. It is empty when all is well.
func (s *Service) CheckAutoTopUp(c AutoTopUpSettings) map[string]string {
	wrong := map[string]string{}
	if c.Amount < s.min || c.Amount > s.max {
		wrong["amount"] = fmt.Sprintf("One top-up is from %s to %s.", s.min, s.max)
	}
	switch {
	case c.Threshold <= 0:
		wrong["threshold"] = "Enter a threshold above zero."
	case c.Threshold > c.Amount && wrong["amount"] == "":
		wrong["threshold"] = fmt.Sprintf("The threshold is above the amount. Enter at most %s, so that one top-up brings the wallet above it.", c.Amount)
	}
	switch {
	case c.DailyCap > largestCap:
		wrong["daily_cap"] = fmt.Sprintf("Enter at most %s.", largestCap)
	case c.DailyCap < c.Amount:
		wrong["daily_cap"] = fmt.Sprintf("The daily cap is below the amount, so nothing would ever be charged. Enter at least %s.", c.Amount)
	}
	switch {
	case c.MonthlyCap > largestCap:
		wrong["monthly_cap"] = fmt.Sprintf("Enter at most %s.", largestCap)
	case c.MonthlyCap < c.DailyCap && wrong["daily_cap"] == "":
		wrong["monthly_cap"] = fmt.Sprintf("The monthly cap is below the daily cap. Enter at least %s.", c.DailyCap)
	}
	return wrong
}

// AutoTopUpChange turns automatic top-ups on, or changes their settings.
type AutoTopUpChange struct {
	OrgID, UserID uuid.UUID
	Settings      AutoTopUpSettings
	// Consent is the sentence that UserID was shown and agreed to. It must be the settings' own.
	Consent string
}

// TurnOnAutoTopUp sets what is charged from now on, and turns it on where it is off or stopped. What keeps the next one
// waiting, such as a decline, goes on. It is safe to repeat.
//
// Errors: faults on the fields that CheckAutoTopUp names; Conflict where the consent is for other settings, or where there is
// no saved card.
func (s *Service) TurnOnAutoTopUp(ctx context.Context, c AutoTopUpChange) error {
	wrong := s.CheckAutoTopUp(c.Settings)
	for _, field := range []string{"amount", "threshold", "daily_cap", "monthly_cap"} {
		if wrong[field] != "" {
			return fault.Field(field, wrong[field])
		}
	}
	if c.Consent != c.Settings.Words() {
		return fault.New(fault.Conflict, "The sentence you agreed to is not about these amounts. Nothing was changed. Look at it again.")
	}
	return s.db.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		set := c.Settings
		// A row that is new is off; whoever else makes it waits here and finds it.
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO auto_top_ups (org_id, state, threshold_pence, amount_pence, daily_cap_pence, monthly_cap_pence, consented_by, consented_at, consent,
			                          created_at, updated_at)
			VALUES ($1, 'off', $2, $3, $4, $5, $6, $7, $8, $7, $7) ON CONFLICT (org_id) DO NOTHING`,
			c.OrgID, set.Threshold, set.Amount, set.DailyCap, set.MonthlyCap, c.UserID, tx.Now, c.Consent); err != nil {
			return fmt.Errorf("couldn't make the settings of automatic top-ups: %w", err)
		}
		a, err := lockAutoTopUp(ctx, tx, c.OrgID)
		if err != nil {
			return err
		}
		card, err := activeCard(ctx, tx, c.OrgID)
		if err != nil {
			return err
		}
		if card == nil {
			return fault.New(fault.Conflict, "There is no saved card to charge. Save one first.")
		}
		// The settings stand in the words, so words that are the same change nothing but the state.
		if _, err := tx.ExecContext(ctx, `
			UPDATE auto_top_ups
			SET threshold_pence = $2, amount_pence = $3, daily_cap_pence = $4, monthly_cap_pence = $5, consented_by = $6, consented_at = $7, consent = $8, updated_at = $7
			WHERE org_id = $1`, c.OrgID, set.Threshold, set.Amount, set.DailyCap, set.MonthlyCap, c.UserID, tx.Now, c.Consent); err != nil {
			return fmt.Errorf("couldn't store the settings of automatic top-ups: %w", err)
		}
		if !a.State.On() {
			if err := a.become(ctx, tx, standing{state: AutoReady}); err != nil {
				return err
			}
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: c.OrgID, Actor: audit.User(c.UserID), Action: "autotopup.turned_on", Subject: autoSubject(c.OrgID),
			Detail: map[string]any{
				"threshold_pence": int64(set.Threshold), "amount_pence": int64(set.Amount), "daily_cap_pence": int64(set.DailyCap),
				"monthly_cap_pence": int64(set.MonthlyCap), "consent": c.Consent, "payment_method": card.PaymentMethod,
			},
		})
	})
}

// TurnOffAutoTopUp stops automatic top-ups. underWay says that Stripe had been asked for one already, which may still go
// through. Turning off what is off changes nothing.
func (s *Service) TurnOffAutoTopUp(ctx context.Context, org, user uuid.UUID) (underWay bool, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		a, err := lockAutoTopUp(ctx, tx, org)
		switch {
		case err != nil:
			return err
		case a == nil || a.State == AutoOff:
			return nil
		}
		if err := a.become(ctx, tx, standing{state: AutoOff}); err != nil {
			return err
		}
		if underWay, err = beingCharged(ctx, tx, org); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{OrgID: org, Actor: audit.User(user), Action: "autotopup.turned_off", Subject: autoSubject(org)})
	})
	return underWay, err
}

// autoSubject is what the audit log calls an organisation's automatic top-ups.
func autoSubject(org uuid.UUID) string { return "autotopup:" + org.String() }

// beingCharged reports whether Stripe has been asked for an automatic top-up that has not ended.
func beingCharged(ctx context.Context, tx *db.Tx, org uuid.UUID) (is bool, err error) {
	if err := tx.GetContext(ctx, &is, `
		SELECT EXISTS (SELECT FROM top_ups WHERE org_id = $1 AND automatic AND state IN ('creating', 'open', 'processing') AND asked_at IS NOT NULL)`, org); err != nil {
		return false, fmt.Errorf("couldn't look for an automatic top-up under way: %w", err)
	}
	return is, nil
}

// autoTopUpRow is an organisation's settings and how they stand.
type autoTopUpRow struct {
	AutoTopUpSettings

	OrgID       uuid.UUID      `db:"org_id"`
	State       AutoTopUpState `db:"state"`
	Until       *time.Time     `db:"until"`
	Reason      string         `db:"reason"`
	Declines    int            `db:"declines"`
	DeclinedAt  *time.Time     `db:"declined_at"`
	ConsentedBy uuid.UUID      `db:"consented_by"`
	ConsentedAt time.Time      `db:"consented_at"`
	Consent     string         `db:"consent"`
}

const autoTopUpColumns = `org_id, state, until, reason, threshold_pence, amount_pence, daily_cap_pence, monthly_cap_pence, declines, declined_at,
	consented_by, consented_at, consent`

// lockAutoTopUp locks an organisation's settings; nil where it has none.
func lockAutoTopUp(ctx context.Context, tx *db.Tx, org uuid.UUID) (*autoTopUpRow, error) {
	a, err := one[autoTopUpRow](ctx, tx, `SELECT `+autoTopUpColumns+` FROM auto_top_ups WHERE org_id = $1 FOR NO KEY UPDATE`, org)
	if err != nil {
		return nil, fmt.Errorf("couldn't lock the settings of automatic top-ups: %w", err)
	}
	return a, nil
}

// standing is a state with what belongs to it.
type standing struct {
	state  AutoTopUpState
	until  time.Time // of AutoCoolingDown
	reason string
	// declines in a row, and when the top-up was made that was declined last.
	declines   int
	declinedAt time.Time
}

// become changes how locked settings stand.
func (a *autoTopUpRow) become(ctx context.Context, tx *db.Tx, s standing) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE auto_top_ups SET state = $2, until = $3, reason = $4, declines = $5, declined_at = $6, updated_at = $7 WHERE org_id = $1`,
		a.OrgID, s.state, orNoTime(s.until), s.reason, s.declines, orNoTime(s.declinedAt), tx.Now); err != nil {
		return fmt.Errorf("couldn't store how automatic top-ups stand: %w", err)
	}
	return nil
}

// orNoTime is nil for the zero time.
func orNoTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// AutoTopUp is how automatic top-ups stand for an organisation, for its people.
type AutoTopUp struct {
	State AutoTopUpState
	// Until is when the next one may be tried at the earliest, after a decline; otherwise zero.
	Until time.Time
	// Reason says why it is in this state; empty where that needs no reason.
	Reason string
	// Settings are zero where none were ever made.
	Settings AutoTopUpSettings
	// Consent is what was allowed, by whom (an e-mail address), and when.
	Consent, ConsentedBy string
	ConsentedAt          time.Time
	// Card is nil where none is saved. CardExpected says that a top-up was paid with one that is to be saved, and that Stripe
	// is yet to be asked about it; CardPageOpen that one is being saved on a page of Stripe's.
	Card                       *SavedCard
	CardExpected, CardPageOpen bool
	// Paused says that operators have stopped automatic top-ups for everybody.
	Paused bool
	// Today and ThisMonth are what they have charged, or are charging, in UTC.
	Today, ThisMonth money.Pence
	// Recent are the newest ones, newest first.
	Recent []TopUp
}

// AutoTopUp reads it, with the newest of them. It is AutoOff where nothing was ever set.
func (s *Service) AutoTopUp(ctx context.Context, org uuid.UUID, recent int) (v AutoTopUp, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		v = AutoTopUp{State: AutoOff}
		var row struct {
			autoTopUpRow

			Email string `db:"email"`
		}
		err := tx.GetContext(ctx, &row, `
			SELECT a.`+autoTopUpColumns+`, coalesce(u.email, '') AS email FROM auto_top_ups a LEFT JOIN users u ON u.id = a.consented_by WHERE a.org_id = $1`, org)
		switch {
		case err == nil:
			v.State, v.Reason, v.Settings = row.State, row.Reason, row.AutoTopUpSettings
			v.Consent, v.ConsentedBy, v.ConsentedAt = row.Consent, row.Email, row.ConsentedAt
			v.Until = cmp.Or(row.Until, &time.Time{}).UTC()
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't read the settings of automatic top-ups: %w", err)
		}
		if v.Card, err = activeCard(ctx, tx, org); err != nil {
			return err
		}
		day, month := dayAndMonth(tx.Now)
		if err := tx.QueryRowxContext(ctx, `
			SELECT (SELECT stopped FROM switches WHERE name = 'auto_top_ups'),
			       EXISTS (SELECT FROM top_ups WHERE org_id = $1 AND save_card AND state = 'paid' AND NOT card_known),
			       EXISTS (SELECT FROM card_setups WHERE org_id = $1 AND state = 'open'),
			       coalesce(sum(amount_pence) FILTER (WHERE created_at >= $2), 0)::bigint, coalesce(sum(amount_pence), 0)::bigint
			FROM top_ups WHERE org_id = $1 AND automatic AND state NOT IN ('failed', 'expired') AND created_at >= $3`, org, day, month).
			Scan(&v.Paused, &v.CardExpected, &v.CardPageOpen, &v.Today, &v.ThisMonth); err != nil {
			return fmt.Errorf("couldn't add up automatic top-ups: %w", err)
		}
		if err := tx.SelectContext(ctx, &v.Recent, `
			SELECT `+topUpColumns+` FROM top_ups WHERE org_id = $1 AND automatic ORDER BY created_at DESC LIMIT $2`, org, recent); err != nil {
			return fmt.Errorf("couldn't read automatic top-ups: %w", err)
		}
		return nil
	})
	return v, err
}

// AutoTopUpAtAGlance is [Service.AutoTopUp] for pages that are about something else: without who allowed it, what it has
// charged, and the newest of them.
func (s *Service) AutoTopUpAtAGlance(ctx context.Context, org uuid.UUID) (v AutoTopUp, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var until *time.Time
		var card SavedCard
		v = AutoTopUp{}
		if err := tx.QueryRowxContext(ctx, `
			SELECT s.stopped, coalesce(a.state, 'off'), a.until, coalesce(a.reason, ''), coalesce(a.threshold_pence, 0), coalesce(a.amount_pence, 0),
			       coalesce(a.daily_cap_pence, 0), coalesce(a.monthly_cap_pence, 0), coalesce(c.payment_method, ''), coalesce(c.brand, ''), coalesce(c.last4, '')
			FROM switches s LEFT JOIN auto_top_ups a ON a.org_id = $1 LEFT JOIN saved_cards c ON c.org_id = $1 AND c.removed_at IS NULL
			WHERE s.name = 'auto_top_ups'`, org).
			Scan(&v.Paused, &v.State, &until, &v.Reason, &v.Settings.Threshold, &v.Settings.Amount, &v.Settings.DailyCap, &v.Settings.MonthlyCap,
				&card.PaymentMethod, &card.Brand, &card.Last4); err != nil {
			return fmt.Errorf("couldn't look at the automatic top-ups: %w", err)
		}
		v.Until = cmp.Or(until, &time.Time{}).UTC()
		if card.PaymentMethod != "" {
			v.Card = &card
		}
		return nil
	})
	return v, err
}

// dayAndMonth are the beginnings of the day and the month of a moment, in UTC.
func dayAndMonth(now time.Time) (day, month time.Time) {
	y, m, d := now.UTC().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC), time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
}
