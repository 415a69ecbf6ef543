package telephony

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// NumberState says how far a number has come.
type NumberState string

// The states of a number; the schema knows the same ones.
const (
	NumberProvisioning NumberState = "provisioning" // being bought; or, once it has failed, what came before is being undone
	NumberUnknown      NumberState = "unknown"      // a provider was asked, and what came of it is being found out
	NumberActive       NumberState = "active"
	NumberReleasing    NumberState = "releasing" // given up: nobody uses it any more, and the providers are being told
	NumberReleased     NumberState = "released"  // both providers agreed
	NumberFailed       NumberState = "failed"    // not bought: nothing is left of it, and nothing was charged
)

// Step is what is to be done next with a number, or is being done.
type Step string

// The steps. Buying goes through the first five, and undoes what came before through the next two where one fails;
// releasing goes through the last three.
const (
	StepSubaccount    Step = "subaccount"     // the organisation's own account at Twilio
	StepPurchase      Step = "purchase"       // the exact number, at Twilio
	StepImport        Step = "vapi_import"    // Vapi is to answer it
	StepCredential    Step = "credential"     // the credential by which we act for it
	StepActivate      Step = "activate"       // ready, and paid for in the same commit
	StepUndoImport    Step = "undo_import"    // Vapi is to forget it
	StepUndoPurchase  Step = "undo_purchase"  // Twilio is to take it back
	StepVapiDelete    Step = "vapi_delete"    // Vapi is to forget it
	StepTwilioRelease Step = "twilio_release" // Twilio is to take it back
	StepFinish        Step = "finish"         // both agreed: nothing of it stays
)

// Number is one phone number.
type Number struct {
	ID          uuid.UUID   `db:"id"`
	OrgID       uuid.UUID   `db:"org_id"`
	PhoneNumber string      `db:"phone_number"`
	Country     string      `db:"country"`
	Kind        Kind        `db:"kind"`
	State       NumberState `db:"state"`
	// Step is empty where nothing is to be done. FailedStep is where buying it failed.
	Step       Step `db:"step"`
	FailedStep Step `db:"failed_step"`
	// Note is why it stands as it does, as a sentence for people.
	Note string `db:"note"`
	// HoldID is what pays for it; none for a number in the customer's own account.
	HoldID  uuid.NullUUID `db:"hold_id"`
	PriceID sql.NullInt64 `db:"price_id"`
	// Monthly is a month's rent after the first, in pence, by the version of the price that it was bought with.
	Monthly      money.Pence    `db:"monthly_pence"`
	AccountSID   sql.NullString `db:"account_sid"`
	CredentialID uuid.NullUUID  `db:"credential_id"`
	SID          sql.NullString `db:"sid"`
	VapiID       sql.NullString `db:"vapi_id"`
	// Texts says that it sends and takes texts, as far as Twilio has said.
	Texts     bool      `db:"texts"`
	Actor     string    `db:"actor"`
	CreatedAt time.Time `db:"created_at"`
	// NextAt is when it goes on by itself.
	NextAt      *time.Time `db:"next_at"`
	ActivatedAt *time.Time `db:"activated_at"`
	// Months is how many months were charged after the first, which the purchase pays for.
	Months int `db:"months"`
	// PaidUntil is when the next month is charged; nil for a number in the customer's own account.
	PaidUntil *time.Time `db:"paid_until"`
	// UnpaidSince is since when a month of it is owed; see ReleaseDue.
	UnpaidSince   *time.Time `db:"unpaid_since"`
	ReleasingAt   *time.Time `db:"releasing_at"`
	ReleasedBy    string     `db:"released_by"`
	ReleaseReason string     `db:"release_reason"`
	EndedAt       *time.Time `db:"ended_at"`
	// Repeated says that an earlier request did it already. It is not stored.
	Repeated bool `db:"-"`

	Fingerprint []byte     `db:"fingerprint"`
	AskedAt     *time.Time `db:"asked_at"`
	Looks       int        `db:"looks"`
	Tries       int        `db:"tries"`
	BusyUntil   *time.Time `db:"busy_until"`

	// ToldVersion is the version of its credential that Vapi has, 0 where nobody knows. TellAt is when Vapi is told of the newest:
	// nil where it has that. TellNote is why it has it not yet, as a sentence for people.
	ToldVersion   int        `db:"told_version"`
	TellAt        *time.Time `db:"tell_at"`
	TellTries     int        `db:"tell_tries"`
	TellNote      string     `db:"tell_note"`
	TellBusyUntil *time.Time `db:"tell_busy_until"`
}

const numberColumns = `id, org_id, phone_number, country, kind, state, step, failed_step, note, hold_id, price_id, monthly_pence, account_sid, credential_id,
	sid, vapi_id, texts, actor, created_at, next_at, activated_at, months, paid_until, unpaid_since, releasing_at, released_by, release_reason, ended_at,
	fingerprint, asked_at, looks, tries, busy_until, told_version, tell_at, tell_tries, tell_note, tell_busy_until`

// liveStates are those of a number that is somebody's, or may be.
const liveStates = `('provisioning', 'unknown', 'active', 'releasing')`

// Undoing reports whether buying it has failed and what came before is being undone. The money is free again by then.
func (n *Number) Undoing() bool { return n.FailedStep != "" && n.State != NumberFailed }

// JobInserter adds a job in a transaction; River's client is one.
type JobInserter interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// QueueNumbers is where numbers wait to be brought on.
const QueueNumbers = "numbers"

// NumberStep is the job that does the next step of a number: see [Numbers.Advance].
type NumberStep struct {
	OrgID  uuid.UUID `json:"org_id"`
	Number uuid.UUID `json:"number"`
	// Step is what was next when it was added, for people who look at the queue.
	Step Step `json:"step"`
}

// Kind is the job's name in the queue.
func (NumberStep) Kind() string { return "number_step" }

// InsertOpts has a job tried a few times only: what is left behind is the sweeper's.
func (NumberStep) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueNumbers, MaxAttempts: 3}
}

// NumbersOptions are what numbers are made of. All of it is required, unless it says otherwise.
type NumbersOptions struct {
	DB    *db.DB
	Gates *wallet.Gates
	Jobs  JobInserter
	Vault *Vault
	Log   *slog.Logger
	Now   func() time.Time
	// AccountSID and AuthToken are of the Twilio account under which organisations get subaccounts, VapiKey is Vapi's. One
	// of them empty: numbers are off.
	AccountSID, AuthToken, VapiKey string
	// TwilioBase and VapiBase are where their APIs are, BaseURL our own address as they see it.
	TwilioBase, VapiBase, BaseURL string
	// Events says how Vapi reaches us; without its secret, by the server of Vapi's organisation alone.
	Events VapiEvents
	// Timeout bounds one request to a provider; zero means 10 seconds.
	Timeout time.Duration
	// Transport carries requests to providers; nil means Go's own.
	Transport Transport
}

// Numbers buys, keeps and releases phone numbers for organisations.
//
// A number is a saga of steps, each a job, a lease on the number's row, one thing that a provider is asked, and one commit
// that says what came of it and adds the job of the next. So it goes on wherever it was left, and two workers do nothing
// twice: what was asked and not answered is looked for before anything is asked again.
type Numbers struct {
	o       NumbersOptions
	parent  account
	vapi    *vapi // nil: numbers are off
	metrics numberMetrics
}

// NewNumbers puts numbers together.
func NewNumbers(o NumbersOptions) (*Numbers, error) {
	if o.Timeout == 0 {
		o.Timeout = twilioTimeout
	}
	s := &Numbers{o: o, parent: account{sid: o.AccountSID, token: o.AuthToken}, metrics: newNumberMetrics()}
	if o.AccountSID == "" || o.VapiKey == "" {
		return s, nil
	}
	if _, err := s.client(s.parent); err != nil {
		return nil, err
	}
	var err error
	s.vapi, err = newVapi(o.VapiBase, o.VapiKey, o.Timeout, o.Transport, o.Log, o.Now)
	return s, err
}

// On reports whether numbers can be bought here.
func (s *Numbers) On() bool { return s.vapi != nil }

// client asks Twilio as an account.
func (s *Numbers) client(as account) (*numberClient, error) {
	c, err := newTwilio(as.sid, as.token, s.o.TwilioBase, s.o.Timeout, s.o.Transport, s.o.Log, s.o.Now)
	return &numberClient{api: c, of: as}, err
}

func errNumbersOff() error {
	return &fault.Error{Kind: fault.Unavailable, Code: "numbers_off", Public: "Phone numbers are not set up here, so nothing was bought or charged."}
}

// providerAway is the fault of what could not be asked before anything had begun.
func providerAway(err error) error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "provider_unavailable", RetryAfter: 10 * time.Second, Cause: err,
		Public: "Our provider did not answer, so nothing was done or charged. Try again in a moment.",
	}
}

// BuyRequest asks for a number.
type BuyRequest struct {
	OrgID uuid.UUID
	// PhoneNumber is exactly the one that was chosen, in international form.
	PhoneNumber string
	// Key makes a repeat of the request the same request: unique within the organisation, 1 to 255 characters.
	Key string
	// Agreed is the price that the buyer was shown; nil takes whatever it is.
	Agreed    *Agreed
	Actor     audit.Actor
	RequestID string
}

// Buy sets the price aside and orders exactly this number, for the account in which the organisation buys: see
// [Numbers.SetMode]. When it returns a number that is stored, and being bought by jobs; it turns active in the transaction
// that takes the money, or failed with nothing charged. In the customer's own account nothing is charged at all. It is safe
// to repeat: the same key gets the same number, and buys once.
//
// Faults, each with nothing ordered and nothing charged: Invalid for what is no number, and with the code
// "address_required" where the law asks for papers that we do not have; Conflict where the number is not for sale
// ("number_unavailable"), somebody else was faster ("number_taken"), the price is not the agreed one any more ("price_changed") or the key stands for another one; what the gates refuse
// with, Unpaid above all; Forbidden where the account is closed; Unavailable when it could not be found out.
func (s *Numbers) Buy(ctx context.Context, r BuyRequest) (Number, error) {
	if !s.On() {
		return Number{}, errNumbersOff()
	}
	number, country, err := parseNumber(r.PhoneNumber)
	if err != nil {
		return Number{}, err
	}
	if n := utf8.RuneCountInString(r.Key); n < 1 || n > 255 || !utf8.ValidString(r.Key) || strings.ContainsRune(r.Key, 0) {
		return Number{}, fault.Field("idempotency_key", "An idempotency key has 1 to 255 characters.")
	}
	r.PhoneNumber = number
	sum := sha256.Sum256([]byte(number))
	var n Number
	var found bool
	var buyer account
	var kind Kind
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if n, found, err = ordered(ctx, tx, r, sum[:]); err != nil || found {
			return err
		}
		buyer, kind, err = s.buyer(ctx, tx, r.OrgID)
		return err
	})
	if err != nil || found {
		return n, err
	}
	if err := s.offered(buyer, number, country); err != nil {
		return Number{}, err
	}
	n, err = s.order(ctx, r, country, kind, sum[:])
	if errors.Is(err, db.ErrCommitUnknown) {
		n, err = s.order(ctx, r, country, kind, sum[:]) // what the lost commit did store is found by its key
	}
	if db.Violated(err, "numbers_one_owner") {
		return Number{}, &fault.Error{
			Kind: fault.Conflict, Code: "number_taken", Field: "phone_number", Cause: err,
			Public: "Somebody else has just taken this number, or you have it already. Nothing was charged; choose another.",
		}
	}
	if err == nil && !n.Repeated {
		s.metrics.numbers.WithLabelValues("ordered").Inc()
	}
	return n, err
}

// parseNumber brings a phone number into its one form and says of which country it is.
func parseNumber(s string) (number, country string, err error) {
	number, err = wallet.ParseDestination(s)
	if err == nil {
		if parsed, perr := phonenumbers.Parse(number, ""); perr == nil {
			country = phonenumbers.GetRegionCodeForNumber(parsed)
		}
	}
	if err != nil || len(country) != 2 {
		return "", "", fault.Field("phone_number", "This is not a phone number. Choose one from the list, in international form such as +14155550132.")
	}
	return number, country, nil
}

// ordered finds the number that a key stands for.
func ordered(ctx context.Context, tx *db.Tx, r BuyRequest, fingerprint []byte) (n Number, found bool, err error) {
	n, found, err = readNumber(ctx, tx, `WHERE org_id = $1 AND key = $2`, r.OrgID, r.Key)
	if err == nil && found && !bytes.Equal(n.Fingerprint, fingerprint) {
		return Number{}, false, &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: "This idempotency key was used for another number. Use a new one."}
	}
	n.Repeated = found
	return n, found, err
}

// buyer is the account that looks for numbers on the organisation's behalf, and of which kind those are that it buys: its
// own, or ours.
func (s *Numbers) buyer(ctx context.Context, tx *db.Tx, org uuid.UUID) (account, Kind, error) {
	var mode Kind
	err := tx.GetContext(ctx, &mode, `SELECT mode FROM telephony_accounts WHERE org_id = $1`, org)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return account{}, "", fmt.Errorf("couldn't read the telephony account: %w", err)
	}
	if mode != BYOC {
		return s.parent, Managed, nil
	}
	c, found, err := credential(ctx, tx, org, BYOC)
	if err != nil {
		return account{}, "", err
	}
	if !found {
		return account{}, "", errNoCredential()
	}
	a, err := c.open(s.o.Vault)
	return a, BYOC, err
}

// offered refuses a number that Twilio does not sell now, or not without papers. It is asked before any money moves.
func (s *Numbers) offered(buyer account, number, country string) error {
	c, err := s.client(buyer)
	if err != nil {
		return err
	}
	for _, of := range NumberTypes {
		list, err := c.search(country, of, 0, number, 20)
		if err != nil {
			return s.ownRefused(buyer, err)
		}
		for _, at := range list {
			if at.number != number {
				continue
			}
			if at.address != "none" {
				return errAddressRequired()
			}
			return nil
		}
	}
	return &fault.Error{
		Kind: fault.Conflict, Code: "number_unavailable", Field: "phone_number",
		Public: "This number is not for sale now. Nothing was charged; choose another.",
	}
}

// ownRefused is the fault of a search that failed: an account of the customer's own may be the reason.
func (s *Numbers) ownRefused(buyer account, err error) error {
	if buyer.sid != s.parent.sid && notOurs(err) {
		return errCredentialRefused()
	}
	return providerAway(err)
}

func errAddressRequired() error {
	return &fault.Error{
		Kind: fault.Invalid, Code: "address_required", Field: "phone_number",
		Public: "The law of this number's country asks for an address or papers before it is sold, which we cannot hand in yet. Nothing was charged; choose a number of another country.",
	}
}

// order sets the money aside and stores the number with its first job, or finds the one that the key stands for.
func (s *Numbers) order(ctx context.Context, r BuyRequest, country string, kind Kind, fingerprint []byte) (n Number, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Number{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if n, found, err = ordered(ctx, tx, r, fingerprint); err != nil || found {
			return err
		}
		var hold uuid.NullUUID
		var price sql.NullInt64
		var now, monthly money.Pence
		if kind == Managed {
			h, err := s.o.Gates.AuthoriseIn(ctx, tx, wallet.HoldRequest{
				OrgID: r.OrgID, Action: wallet.ActionNumber, Quantity: 1, Source: wallet.SourceNumber,
				Key: r.Key, Fingerprint: string(fingerprint), Actor: r.Actor, RequestID: r.RequestID,
			})
			if err != nil {
				return err
			}
			if h.Repeated { // somebody with the same key was faster, and has stored the number in the same commit
				if n, found, err = ordered(ctx, tx, r, fingerprint); err != nil || found {
					return err
				}
				return fmt.Errorf("hold %s of a number has no number", h.ID)
			}
			hold, price = uuid.NullUUID{UUID: h.ID, Valid: true}, sql.NullInt64{Int64: h.PriceID, Valid: true}
			if err := tx.GetContext(ctx, &monthly, `SELECT monthly_pence FROM prices WHERE id = $1`, h.PriceID); err != nil {
				return fmt.Errorf("couldn't read the number's price: %w", err)
			}
			now = h.Amount
		} else if err := mustBeOpen(ctx, tx, r.OrgID); err != nil { // no gate is asked
			return err
		}
		if err := r.Agreed.holds(now, monthly); err != nil {
			return err
		}
		return s.store(ctx, tx, &n, Number{
			ID: id, OrgID: r.OrgID, PhoneNumber: r.PhoneNumber, Country: country, Kind: kind, HoldID: hold, PriceID: price, Monthly: monthly,
			Actor: string(r.Actor), Fingerprint: fingerprint,
		}, r.Key)
	})
	return n, err
}

// store adds a number that is to be bought.
func (s *Numbers) store(ctx context.Context, tx *db.Tx, n *Number, made Number, key string) error {
	at, err := lockAccount(ctx, tx, made.OrgID)
	if err != nil {
		return err
	}
	if at.Mode != made.Kind {
		return &fault.Error{Kind: fault.Conflict, Code: "mode_changed", Public: "Where your organisation buys numbers has just changed. Nothing was charged; try again."}
	}
	first := StepSubaccount
	var in sql.NullString
	if made.Kind == BYOC { // in an account that is there already
		c, found, err := credential(ctx, tx, made.OrgID, BYOC)
		if err != nil {
			return err
		}
		if !found {
			return errNoCredential()
		}
		first, in = StepPurchase, sql.NullString{String: c.AccountSID, Valid: true}
	}
	err = tx.GetContext(ctx, n, `
		INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, hold_id, price_id, monthly_pence, account_sid, key, fingerprint, actor, created_at, next_at)
		VALUES ($1, $2, $3, $4, $5, 'provisioning', $6, $7, $8, $9, $10, $11, $12, $13, $14, $14) RETURNING `+numberColumns,
		made.ID, made.OrgID, made.PhoneNumber, made.Country, made.Kind, first, made.HoldID, made.PriceID, made.Monthly, in, key, made.Fingerprint, made.Actor, tx.Now)
	if err != nil {
		return fmt.Errorf("couldn't store the number: %w", err)
	}
	if err := s.enqueue(ctx, tx, n, time.Time{}); err != nil {
		return err
	}
	return n.record(ctx, tx, "number.ordered", audit.Actor(n.Actor), "", nil)
}

// enqueue adds the job of the number's next step, in the transaction of the fact that it waits; at is when, zero for now.
func (s *Numbers) enqueue(ctx context.Context, tx *db.Tx, n *Number, at time.Time) error {
	if _, err := s.o.Jobs.InsertTx(ctx, tx.Tx.Tx, NumberStep{OrgID: n.OrgID, Number: n.ID, Step: n.Step}, &river.InsertOpts{ScheduledAt: at}); err != nil {
		return fmt.Errorf("couldn't add the number's job: %w", err)
	}
	return nil
}

// record writes an audit row about the number.
func (n *Number) record(ctx context.Context, tx *db.Tx, action string, actor audit.Actor, reason string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	detail["phone_number"], detail["kind"] = n.PhoneNumber, string(n.Kind)
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: n.OrgID, Actor: actor, Action: action, Subject: "number:" + n.ID.String(), Reason: reason, Detail: detail,
	})
}

// readNumber reads one number.
func readNumber(ctx context.Context, tx *db.Tx, where string, args ...any) (n Number, found bool, err error) {
	err = tx.GetContext(ctx, &n, `SELECT `+numberColumns+` FROM numbers `+where, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return Number{}, false, nil
	}
	if err != nil {
		return Number{}, false, fmt.Errorf("couldn't read the number: %w", err)
	}
	return n, true, nil
}

func errNoNumber() error { return fault.New(fault.NotFound, "There is no such number.") }

// Number gives one number of an organisation, whatever its state; NotFound for another's.
func (s *Numbers) Number(ctx context.Context, org, id uuid.UUID) (n Number, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if n, found, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2`, org, id); err == nil && !found {
			return errNoNumber()
		}
		return err
	})
	return n, err
}

// List gives an organisation's numbers, newest first, those before the one with the id before (uuid.Nil: from the newest),
// at most limit of them; those that have ended are among them.
func (s *Numbers) List(ctx context.Context, org, before uuid.UUID, limit int) (list []Number, err error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `SELECT `+numberColumns+` FROM numbers WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, org, before, limit); err != nil {
			return fmt.Errorf("couldn't list the numbers: %w", err)
		}
		return nil
	})
	return list, err
}

// codeNumberNotActive tells programs that a number is not active.
const codeNumberNotActive = "number_not_active"

// Usable gives a number of the organisation's that may be used now, within the caller's transaction, and holds it so until
// that ends: releasing it waits. Whatever points at a number, such as an agent, is written after this. There is no other
// number in its place: one of another organisation, like one that does not exist, is NotFound, and one that is not active
// is a Conflict.
func Usable(ctx context.Context, tx *db.Tx, org, id uuid.UUID) (Number, error) {
	n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR SHARE`, org, id)
	switch {
	case err != nil:
		return Number{}, err
	case !found:
		return Number{}, errNoNumber()
	case n.State != NumberActive:
		return Number{}, &fault.Error{Kind: fault.Conflict, Code: codeNumberNotActive, Public: "This number is not active, so it cannot be used."}
	}
	return n, nil
}
