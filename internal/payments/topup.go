package payments

import (
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
	"ringfence/internal/wallet"
)

// TopUpState is how far a top-up has come. A top-up only moves up in the order below; paid absorbs.
type TopUpState string

// The states, in the order of the schema's enum.
const (
	Creating   TopUpState = "creating"   // stored here; Stripe has not answered yet
	Open       TopUpState = "open"       // a Checkout session waits for the customer
	Expired    TopUpState = "expired"    // nobody paid in time
	Processing TopUpState = "processing" // a delayed method, such as a bank debit, is under way
	Failed     TopUpState = "failed"     // the delayed payment failed, or Stripe refused the session
	Paid       TopUpState = "paid"       // the wallet has the money
)

// Final reports whether nothing more is expected to happen to it.
func (s TopUpState) Final() bool { return s == Expired || s == Failed || s == Paid }

// TopUp is a customer's wish to put money into a wallet, and what became of it.
type TopUp struct {
	ID      uuid.UUID      `db:"id"`
	OrgID   uuid.UUID      `db:"org_id"`
	UserID  uuid.UUID      `db:"user_id"`
	Amount  money.Pence    `db:"amount_pence"`
	USD     money.USDCents `db:"usd_cents"`
	RateID  int64          `db:"rate_id"`
	State   TopUpState     `db:"state"`
	Attempt int            `db:"attempt"`
	// SessionID and CheckoutURL are set once Stripe has made the session; the URL has passed CheckURL.
	SessionID   string `db:"session_id"`
	CheckoutURL string `db:"checkout_url"`
	// Paid is what Stripe has received for it, in pence.
	Paid money.Pence `db:"paid_pence"`
	// Note is the newest thing Stripe said that the customer should know, such as a decline; empty otherwise.
	Note string `db:"note"`
	// SaveCard says that the payer wants the card to be kept for automatic top-ups.
	SaveCard bool `db:"save_card"`
	// Automatic says that we charge it to the saved card by ourselves, for what UserID has allowed.
	Automatic bool      `db:"automatic"`
	CreatedAt time.Time `db:"created_at"`
}

const topUpColumns = `id, org_id, user_id, amount_pence, usd_cents, rate_id, state, attempt,
	coalesce(session_id, '') AS session_id, coalesce(checkout_url, '') AS checkout_url, paid_pence, note, save_card, automatic, created_at`

// Quote is what a top-up would charge and bring.
type Quote struct {
	Charge money.Pence    // what Stripe will charge, in pounds
	USD    money.USDCents // the same in dollars, for the eye
	// Credits is the estimate of what it buys; see money.EstimatedCredits.
	Credits int64
	RateID  int64 // the version of the exchange rate it was made with
}

// presets are the amounts offered as buttons, in dollars.
var presets = []money.USDCents{25_00, 50_00, 100_00, 200_00}

// Quote says what amount (as typed) of currency ("usd" or "gbp") would charge. A refusal is a fault on the field
// "amount" or "currency" with a sentence for the person.
func (s *Service) Quote(ctx context.Context, amount, currency string) (Quote, error) {
	if currency != "usd" && currency != "gbp" {
		return Quote{}, fault.Field("currency", "Choose US dollars or pounds.")
	}
	units, err := money.ParseAmount(amount)
	if err != nil {
		if e, ok := errors.AsType[*money.AmountError](err); ok {
			return Quote{}, fault.Field("amount", e.Message)
		}
		return Quote{}, err
	}
	rate, id, err := s.currentRate(ctx)
	if err != nil {
		return Quote{}, err
	}
	q, err := convert(units, currency, rate)
	if err != nil {
		return Quote{}, fault.Field("amount", "This amount is too large.")
	}
	q.RateID = id
	if q.Charge < s.min || q.Charge > s.max {
		word, bound := "smallest", s.min
		if q.Charge > s.max {
			word, bound = "largest", s.max
		}
		usd, err := rate.ToUSD(bound)
		if err != nil {
			return Quote{}, fmt.Errorf("couldn't convert the limit: %w", err)
		}
		return Quote{}, fault.Field("amount", fmt.Sprintf("The %s top-up is %s (about %s).", word, bound, usd))
	}
	return q, nil
}

// Presets are the quotes behind the buttons that an organisation is shown, those within the limits.
func (s *Service) Presets(ctx context.Context, org uuid.UUID) ([]Quote, error) {
	var rate money.Rate
	var id int64
	err := s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
		rate, id, err = rateIn(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var quotes []Quote
	for _, usd := range presets {
		q, err := convert(int64(usd), "usd", rate)
		if err != nil {
			return nil, err
		}
		if q.RateID = id; q.Charge >= s.min && q.Charge <= s.max {
			quotes = append(quotes, q)
		}
	}
	return quotes, nil
}

// convert quotes an amount given in the minor units of currency.
func convert(units int64, currency string, rate money.Rate) (q Quote, err error) {
	if currency == "gbp" {
		q.Charge = money.Pence(units)
		q.USD, err = rate.ToUSD(q.Charge)
	} else {
		q.USD = money.USDCents(units)
		q.Charge, err = rate.ToPence(q.USD)
	}
	q.Credits = money.EstimatedCredits(q.Charge)
	return q, err
}

func (s *Service) currentRate(ctx context.Context) (rate money.Rate, id int64, err error) {
	err = s.db.InSystemTx(ctx, "the exchange rate, which belongs to no organisation", func(ctx context.Context, tx *db.Tx) (err error) {
		rate, id, err = rateIn(ctx, tx)
		return err
	})
	return rate, id, err
}

// rateIn gives the exchange rate in force as a transaction sees it, and the id of its version.
func rateIn(ctx context.Context, tx *db.Tx) (money.Rate, int64, error) {
	version, err := wallet.CurrentRate(ctx, tx)
	if err != nil {
		return money.Rate{}, 0, err
	}
	rate, err := version.Rate()
	return rate, version.ID, err
}

// TopUp gives one top-up of the organisation.
func (s *Service) TopUp(ctx context.Context, org, id uuid.UUID) (t TopUp, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &t, `SELECT `+topUpColumns+` FROM top_ups WHERE org_id = $1 AND id = $2`, org, id)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return TopUp{}, fault.New(fault.NotFound, "There is no such top-up.")
	}
	return s.current(t), err
}

// current gives the top-up without a checkout address that the configuration of today would not send a browser to.
func (s *Service) current(t TopUp) TopUp {
	if t.CheckoutURL != "" && CheckURL(t.CheckoutURL, s.origins) != nil {
		t.CheckoutURL = ""
	}
	return t
}

// Unfinished gives the top-ups that somebody may still be waiting for, newest first: the user's own that are open or
// being created since less than a day, and the whole organisation's delayed payments under way. Nobody waits for automatic
// ones: see [Service.AutoTopUp].
func (s *Service) Unfinished(ctx context.Context, org, user uuid.UUID) (list []TopUp, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			SELECT `+topUpColumns+` FROM top_ups
			WHERE org_id = $1 AND NOT automatic AND state IN ('creating', 'open', 'processing')
			  AND (state = 'processing' OR user_id = $2 AND created_at > $3)
			ORDER BY created_at DESC, id DESC LIMIT 10`, org, user, tx.Now.Add(-24*time.Hour))
	})
	for i := range list {
		list[i] = s.current(list[i])
	}
	return list, err
}

// StartTopUp gives the organisation's user a Checkout session for the amount as typed. A second call while the first
// top-up of the same amount is open gives that one again: double clicks, two tabs and reloads pay once. The returned
// CheckoutURL has passed CheckURL.
//
// Errors: faults on the fields as Quote; Unavailable when Stripe could not answer (safe to try again: the same
// idempotency key makes at most one session); Declined when Stripe refused; Forbidden when the account is closed.
func (s *Service) StartTopUp(ctx context.Context, org, user uuid.UUID, amount, currency string) (TopUp, error) {
	return s.startTopUp(ctx, org, user, amount, currency, Shown{}, false)
}

// StartTopUpKeepingCard is [Service.StartShownTopUp] for a payer who agrees to [SaveCardWords]: once it is paid, its card is
// the organisation's saved card.
func (s *Service) StartTopUpKeepingCard(ctx context.Context, org, user uuid.UUID, amount, currency string, shown Shown) (TopUp, error) {
	return s.startTopUp(ctx, org, user, amount, currency, shown, true)
}

func (s *Service) startTopUp(ctx context.Context, org, user uuid.UUID, amount, currency string, shown Shown, saveCard bool) (TopUp, error) {
	q, err := s.Quote(ctx, amount, currency)
	if err == nil {
		err = s.asShown(ctx, q, amount, currency, shown)
	}
	if err != nil {
		return TopUp{}, err
	}
	// From here on a browser that goes away must not leave a session behind that our row does not know.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancel()
	for range 3 {
		t, err := s.claim(ctx, org, user, q, saveCard)
		if err != nil {
			return TopUp{}, err
		}
		if t.State == Creating {
			return s.openSession(ctx, t)
		}
		if t, err = s.refresh(ctx, t); err != nil || t.State == Open {
			return t, err
		}
		// Stripe says that it was used or has expired; its row has moved on, so the next claim makes a new one.
	}
	return TopUp{}, fault.New(fault.Unavailable, "Your earlier top-up of this amount is just finishing. Please try again in a moment.")
}

// claim gives the one open top-up of this organisation, user, amount and wish to keep the card, making it where there is
// none.
func (s *Service) claim(ctx context.Context, org, user uuid.UUID, q Quote, saveCard bool) (t TopUp, err error) {
	consent := ""
	if saveCard {
		consent = SaveCardWords
	}
	id, err := uuid.NewV7()
	if err != nil {
		return TopUp{}, fmt.Errorf("couldn't make a top-up id: %w", err)
	}
	err = s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := wallet.MustBeOpen(ctx, tx, org, "so its wallet cannot be topped up"); err != nil {
			return err
		}
		// Touching the row that is there already is what makes RETURNING give it.
		if err := tx.GetContext(ctx, &t, `
			INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, save_card, consent, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, 'creating', $8, $9, $7, $7)
			ON CONFLICT (org_id, user_id, amount_pence, save_card) WHERE state IN ('creating', 'open') AND NOT automatic DO UPDATE SET updated_at = $7
			RETURNING `+topUpColumns, id, org, user, q.Charge, q.USD, q.RateID, tx.Now, saveCard, consent); err != nil {
			return fmt.Errorf("couldn't store the top-up: %w", err)
		}
		if t.ID != id {
			return nil
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: audit.User(user), Action: "topup.started", Subject: id.String(),
			Detail: map[string]any{"amount_pence": int64(q.Charge), "usd_cents": int64(q.USD), "rate_id": q.RateID, "save_card": saveCard},
		})
	})
	if err == nil && t.ID == id {
		s.metrics.topUps.WithLabelValues("begun").Inc()
	}
	return t, err
}

// move changes a top-up's state, only ever upwards, and returns the row as it then stands.
func (s *Service) move(ctx context.Context, t TopUp, to TopUpState, sessionID, checkoutURL, note string) (moved TopUp, err error) {
	err = s.db.InTx(ctx, []uuid.UUID{t.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &moved, `
			UPDATE top_ups SET state = greatest(state, $3::top_up_state), updated_at = $4,
			       session_id = coalesce(session_id, nullif($5, '')), checkout_url = coalesce(checkout_url, nullif($6, '')),
			       note = CASE WHEN $7 = '' THEN note ELSE $7 END
			WHERE org_id = $1 AND id = $2 RETURNING `+topUpColumns, t.OrgID, t.ID, to, tx.Now, sessionID, checkoutURL, note)
	})
	if err != nil {
		return TopUp{}, fmt.Errorf("couldn't store the top-up's state: %w", err)
	}
	return moved, nil
}
