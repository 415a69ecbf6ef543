package wallet

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nyaruka/phonenumbers"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
)

// HoldState says how far a hold has come.
type HoldState string

// The states of a hold; the schema knows the same ones. open → captured, void or expired; open → in_flight → captured or void.
const (
	HoldOpen     HoldState = "open"
	HoldInFlight HoldState = "in_flight" // a provider was asked: only its answer ends the hold, never time
	HoldCaptured HoldState = "captured"
	HoldVoid     HoldState = "void"
	HoldExpired  HoldState = "expired"
)

// settled reports whether the hold has ended.
func (s HoldState) settled() bool { return s != HoldOpen && s != HoldInFlight }

// Source says who made a hold, and so who settles it.
type Source string

// The sources; the schema knows the same ones.
const (
	SourceAPI       Source = "api" // a program that does the work itself
	SourceMessage   Source = "message"
	SourceCall      Source = "call"
	SourceNumber    Source = "number"
	SourceKnowledge Source = "knowledge"
)

// Hold is money that is set aside for something that is about to happen.
type Hold struct {
	ID     uuid.UUID `db:"id"`
	OrgID  uuid.UUID `db:"org_id"`
	Source Source    `db:"source"`
	Key    string    `db:"key"`
	Action Action    `db:"action"`
	// Quantity is in the action's own unit: see Action.
	Quantity    int64  `db:"quantity"`
	Destination string `db:"destination"`
	PriceID     int64  `db:"price_id"`
	RateID      int64  `db:"rate_id"`
	// Authorised is what was decided at first, in pence.
	Authorised money.Pence `db:"authorised_pence"`
	// Amount is what is set aside now, or when captured what was taken, in pence; zero once void or expired.
	Amount money.Pence `db:"amount_pence"`
	State  HoldState   `db:"state"`
	// AtOnce says that it was captured by the request that made it.
	AtOnce    bool      `db:"at_once"`
	Actor     string    `db:"actor"`
	CreatedAt time.Time `db:"created_at"`
	// ExpiresAt is when an open hold is given up; it says nothing about one that is in flight or has ended.
	ExpiresAt time.Time `db:"expires_at"`
	UpdatedAt time.Time `db:"updated_at"`
	// Repeated says that an earlier request with the same key made it. It is not stored.
	Repeated bool `db:"-"`

	// Fingerprint is of what was asked.
	Fingerprint []byte `db:"fingerprint"`
	RequestID   string `db:"request_id"`
	SettledBy   string `db:"settled_by"`

	// listed says that the transaction at work writes it already.
	listed bool
}

const holdColumns = `id, org_id, source, key, action, quantity, destination, price_id, rate_id, authorised_pence, amount_pence, state, at_once, actor, created_at, expires_at, updated_at, fingerprint, request_id, settled_by`

// AsMade is the hold as the request that made it was told, whatever has become of it since: the answer to a repeat.
func (h Hold) AsMade() Hold {
	h.Amount, h.State = h.Authorised, HoldOpen
	if h.AtOnce {
		h.State = HoldCaptured
	}
	return h
}

// HoldRequest asks whether something may happen.
type HoldRequest struct {
	OrgID    uuid.UUID
	Action   Action
	Quantity int64
	// Destination is where a call or a text goes (E.164, such as +447400123456). Where it is empty the price is the one
	// without a destination.
	Destination string
	Source      Source
	// Key makes a repeat of the request the same request: unique within organisation and source, 1 to 255 characters.
	Key string
	// Fingerprint is whatever else makes two requests with one key the same, such as the text to be sent.
	Fingerprint string
	// AtOnce captures the whole amount in the same commit.
	AtOnce bool
	Actor  audit.Actor
	// RequestID is for the audit log.
	RequestID string
}

// holdFor is how long money stays set aside while nobody says what became of it; a call's own length is added.
const holdFor = 15 * time.Minute

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// check refuses what breaks a rule and brings the rest into its one form.
func (r *HoldRequest) check() error {
	switch {
	case r.Action.most() == 0:
		return fault.Field("action", "Choose call, sms, number or knowledge.")
	case r.Quantity < 1 || r.Quantity > r.Action.most():
		return fault.Field("quantity", fmt.Sprintf("The quantity of this action is a whole number from 1 to %d.", r.Action.most()))
	case r.Key == "" || utf8.RuneCountInString(r.Key) > 255 || !utf8.ValidString(r.Key) || strings.ContainsRune(r.Key, 0):
		return fault.Field("idempotency_key", "An idempotency key has 1 to 255 characters.")
	case r.Destination != "" && !r.Action.hasDestination():
		return fault.Field("destination", "Only calls and texts have a destination.")
	}
	if r.Destination == "" {
		return nil
	}
	to, err := ParseDestination(r.Destination)
	r.Destination = to
	return err
}

// ParseDestination brings a phone number in international form (E.164, spaces and dashes allowed) into its one form,
// +447400123456. A number that cannot exist, by the numbering plans that libphonenumber knows, is Invalid with the field
// "destination".
func ParseDestination(s string) (string, error) {
	compact := strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(strings.TrimSpace(s))
	if e164.MatchString(compact) {
		if n, err := phonenumbers.Parse(compact, ""); err == nil && phonenumbers.IsValidNumber(n) {
			return phonenumbers.Format(n, phonenumbers.E164), nil
		}
	}
	return "", fault.Field("destination", "This is not a phone number that can be reached. Write it in international form, for example +447400123456.")
}

// fingerprint is what a repeat must have in common with the first request.
func (r *HoldRequest) fingerprint() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%t\n%s", r.Action, r.Quantity, r.Destination, r.AtOnce, r.Fingerprint))
	return sum[:]
}

// Settlement says what becomes of a hold.
type Settlement struct {
	OrgID uuid.UUID
	Hold  uuid.UUID
	// Source is who says so: only who made a hold settles it.
	Source Source
	// Amount is what to capture, or what to raise a hold to, in pence. Voiding needs none.
	Amount money.Pence
	// Whole captures what is held, instead of Amount.
	Whole bool
	// Overrun lets a capture take more than is available, because it has happened: the rest stands as debt.
	Overrun bool
	// Description is the sentence in the wallet's history; empty for one made of action and quantity.
	Description string
	Actor       audit.Actor
	// RequestID is for the audit log.
	RequestID string
}

// overCapture is how many times what is held a capture may take. What was only estimated can have cost more; a slip of a
// program must not empty the wallet.
const overCapture = 2

// description is a hold's sentence in the wallet's history.
func (h *Hold) description() string {
	switch h.Action {
	case ActionCall:
		return "Call, " + counted(h.Quantity, "second")
	case ActionSMS:
		return "Text message, " + counted(h.Quantity, "segment")
	case ActionNumber:
		return counted(h.Quantity, "phone number")
	case ActionKnowledge:
		return counted(h.Quantity, "knowledge base search")
	}
	return string(h.Action)
}

func counted(n int64, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "ch"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
