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
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/failpoint"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Direction says who calls whom.
type Direction string

// The directions; the schema knows the same ones.
const (
	OutboundCall Direction = "outbound"
	InboundCall  Direction = "inbound"
)

// CallState says how far a call has come.
type CallState string

// The states of a call; the schema knows the same ones.
const (
	CallQueued     CallState = "queued"      // paid for; Vapi was not asked
	CallPlacing    CallState = "placing"     // Vapi is being asked
	CallUnknown    CallState = "unknown"     // Vapi was asked and its answer is lost: it is being looked for
	CallRinging    CallState = "ringing"     // Vapi has it
	CallInProgress CallState = "in_progress" // somebody speaks
	CallEnding     CallState = "ending"      // it is over, and what it was is being found out
	CallCompleted  CallState = "completed"   // somebody spoke, and that is paid for
	CallUnanswered CallState = "unanswered"  // nobody did
	CallFailed     CallState = "failed"      // it was not made, or did not come about
	CallRefused    CallState = "refused"     // somebody called, and it was not taken
)

// Ended reports whether nothing more happens to the call.
func (s CallState) Ended() bool {
	return s == CallCompleted || s == CallUnanswered || s == CallFailed || s == CallRefused
}

// HangupWhy says why we want a call to end.
type HangupWhy string

// The reasons; the schema knows the same ones.
const (
	HangupUnfunded HangupWhy = "unfunded" // the money has run out
	HangupCeiling  HangupWhy = "ceiling"  // it goes on beyond the longest that it may last
	HangupAsked    HangupWhy = "asked"    // somebody asked for it

	HangupSuspended HangupWhy = "suspended" // its organisation was suspended meanwhile
)

// Call is one call.
type Call struct {
	ID        uuid.UUID     `db:"id"`
	OrgID     uuid.UUID     `db:"org_id"`
	Direction Direction     `db:"direction"`
	NumberID  uuid.UUID     `db:"number_id"`
	AgentID   uuid.NullUUID `db:"agent_id"`
	// AgentName is the agent's present name; empty where nobody answered.
	AgentName string `db:"agent_name"`
	// OurNumber is the organisation's own, Party whom the call was with: masked once that person was erased.
	OurNumber string        `db:"our_number"`
	Party     string        `db:"party"`
	State     CallState     `db:"state"`
	HoldID    uuid.NullUUID `db:"hold_id"`
	// Amount is what the wallet was charged for it, Held what it has set aside, in pence.
	Amount money.Pence `db:"amount_pence"`
	Held   money.Pence `db:"held_pence"`
	// Lookups is how often the knowledge base was asked in it, and what that cost in pence.
	Lookups       int         `db:"lookups"`
	LookupsAmount money.Pence `db:"lookups_pence"`
	// Ceiling is the longest that it may last, Covered how long its hold pays for, Seconds how long it was and is charged.
	Ceiling int64          `db:"ceiling_seconds"`
	Covered int64          `db:"covered_seconds"`
	Seconds int64          `db:"seconds"`
	VapiID  sql.NullString `db:"vapi_id"`
	// EndedReason is Vapi's word for why it ended, Note ours, as a sentence for people.
	EndedReason string `db:"ended_reason"`
	Note        string `db:"note"`
	// CostMicros is what Vapi charges us, in millionths of a dollar.
	CostMicros sql.NullInt64 `db:"cost_micros"`
	Actor      string        `db:"actor"`
	CreatedAt  time.Time     `db:"created_at"`
	StartedAt  *time.Time    `db:"started_at"`
	EndedAt    *time.Time    `db:"ended_at"`
	// HangupAt is since when we want it to end, HangupWhy why.
	HangupAt  *time.Time `db:"hangup_at"`
	HangupWhy HangupWhy  `db:"hangup_why"`
	// Transcript is what was said, RecordingURL where it can be heard: an https address at Vapi, or empty. Both are gone when
	// ErasedAt is set.
	Transcript   string `db:"transcript"`
	RecordingURL string `db:"recording_url"`
	// Recorded says that it was to be recorded, and Consent what the agent was to say first, when it was placed or taken.
	Recorded bool   `db:"recorded"`
	Consent  string `db:"consent"`
	// LookupHolds are by which what was looked up in it was paid for.
	LookupHolds pq.StringArray `db:"lookup_holds"`
	ReportedAt  *time.Time     `db:"reported_at"`
	ErasedAt    *time.Time     `db:"erased_at"`
	// Repeated says that an earlier request with the same key made it. It is not stored.
	Repeated bool `db:"-"`

	Fingerprint []byte     `db:"fingerprint"`
	ControlURL  string     `db:"control_url"`
	ProviderSID string     `db:"provider_sid"`
	AskedAt     *time.Time `db:"asked_at"`
	AcceptedAt  *time.Time `db:"accepted_at"`
	HeardAt     *time.Time `db:"heard_at"`
	MissingAt   *time.Time `db:"missing_at"`
	EndingAt    *time.Time `db:"ending_at"`
	LookAt      *time.Time `db:"look_at"`
	FundAt      *time.Time `db:"fund_at"`
	Looks       int        `db:"looks"`
}

const callColumns = `c.id, c.org_id, c.direction, c.number_id, c.agent_id, coalesce((SELECT a.name FROM agents a WHERE a.id = c.agent_id), '') AS agent_name,
	c.our_number, c.party, c.state, c.hold_id, c.amount_pence, c.lookups, c.lookups_pence, c.ceiling_seconds, c.covered_seconds, c.seconds, c.vapi_id,
	c.ended_reason, c.note, c.cost_micros, c.actor, c.created_at, c.started_at, c.ended_at, c.hangup_at, c.hangup_why, c.transcript, c.recording_url,
	c.recorded, c.consent, c.lookup_holds, c.reported_at, c.erased_at, c.fingerprint, c.control_url, c.provider_sid, c.asked_at, c.accepted_at, c.heard_at, c.missing_at, c.ending_at,
	c.look_at, c.fund_at, c.looks,
	coalesce((SELECT CASE WHEN h.state IN ('open', 'in_flight') THEN h.amount_pence ELSE 0 END FROM holds h WHERE h.id = c.hold_id), 0) AS held_pence`

// listedCallColumns leave out what was said.
var listedCallColumns = strings.Replace(callColumns, "c.transcript,", "'' AS transcript,", 1)

const (
	// DefaultMaxCall is the longest that a call lasts, in seconds, whatever the balance: half an hour.
	DefaultMaxCall = 30 * 60
	// vapiMinCall and vapiMaxCall are the bounds of Vapi's own limit, in seconds.
	vapiMinCall, vapiMaxCall = 10, 43_200
	// firstHold is how many seconds are set aside before a call begins. The gate asks for 79p in hand all the same.
	firstHold = 60
)

// maxCall is a limit within Vapi's bounds.
func maxCall(seconds int64) int64 {
	if seconds == 0 {
		seconds = DefaultMaxCall
	}
	return min(max(seconds, vapiMinCall), vapiMaxCall)
}

// Lookup is a question that an agent asks the knowledge base in a call.
type Lookup struct {
	OrgID uuid.UUID
	// Key makes the question one: it is paid for once.
	Key   string
	Query string
	Actor audit.Actor
}

// Found is what the knowledge base had, and what asking cost in pence.
type Found struct {
	Passages []string
	Amount   money.Pence
	// Hold is what paid for it.
	Hold uuid.UUID
	// Repeated says that it was asked and paid for before.
	Repeated bool
}

// CallsOptions are what calls are made of. All of it is required, unless it says otherwise.
type CallsOptions struct {
	DB    *db.DB
	Gates *wallet.Gates
	Log   *slog.Logger
	Now   func() time.Time
	// VapiKey is Vapi's; empty: calls are off. VapiBase is where its API is.
	VapiKey, VapiBase string
	// Events says how Vapi reaches us. Without its secret no message of Vapi's is believed.
	Events VapiEvents
	// MaxCall is the longest that a call lasts, in seconds; zero means DefaultMaxCall.
	MaxCall int64
	// Timeout bounds one request to a provider; zero means 10 seconds.
	Timeout time.Duration
	// Transport carries requests to providers; nil means Go's own.
	Transport Transport
	// AnswerWithin bounds how long Vapi waits to hear who takes a call; zero means 5 seconds. Vapi waits 7.5.
	AnswerWithin time.Duration
	// Knowledge asks an organisation's knowledge base, through its gate. nil: no agent gets an answer.
	Knowledge func(ctx context.Context, l Lookup) (Found, error)
	// RecordingHosts are where recordings may be besides Vapi's own hosts. May be empty.
	RecordingHosts []string
	// Vault opens the credentials with which calls are ended, and numbers proven, at Twilio; TwilioBase is where its API is.
	Vault      *Vault
	TwilioBase string
}

// Calls makes and takes calls.
//
// A call is a saga as a text is: it is paid for and stored in one commit, marked in flight in the next, before Vapi is asked,
// and what Vapi says ends it, with its money, in the commit that says what it was. How long it lasts nobody knows when it
// begins, so its hold grows while it lives: see [Calls.Sweep]. Vapi has no idempotency key either; an outcome that is not known
// is looked for by our own id, which the call carries.
type Calls struct {
	o       CallsOptions
	vapi    *vapi // nil: calls are off
	metrics callMetrics
	// late are answers that Vapi did not wait for, and that are being taken back.
	late sync.WaitGroup
}

// NewCalls puts calls together.
func NewCalls(o CallsOptions) (*Calls, error) {
	if o.Timeout == 0 {
		o.Timeout = twilioTimeout
	}
	if o.AnswerWithin == 0 {
		o.AnswerWithin = answerWithin
	}
	o.MaxCall = maxCall(o.MaxCall)
	s := &Calls{o: o, metrics: newCallMetrics()}
	if o.VapiKey == "" {
		return s, nil
	}
	var err error
	s.vapi, err = newVapi(o.VapiBase, o.VapiKey, o.Timeout, o.Transport, o.Log, o.Now)
	return s, err
}

// On reports whether calls can be made at all.
func (s *Calls) On() bool { return s.vapi != nil }

func errCallsOff() error {
	return &fault.Error{Kind: fault.Unavailable, Code: "calls_off", Public: "Calls are not set up here, so nobody was called and nothing was charged."}
}

func errNoCall() error { return fault.New(fault.NotFound, "There is no such call.") }

// PlaceRequest asks for a call.
type PlaceRequest struct {
	OrgID uuid.UUID
	// To is a phone number in international form.
	To string
	// Agent is who calls; uuid.Nil where the organisation has only one that can.
	Agent uuid.UUID
	// Key makes a repeat of the request the same request: unique within the organisation, 1 to 255 characters.
	Key       string
	Actor     audit.Actor
	RequestID string
}

// Quote is what a call costs, and what must be in hand for it to begin, in pence; the faults are Place's about To, and what
// is not offered.
func (s *Calls) Quote(ctx context.Context, org uuid.UUID, to string) (perMinute, required money.Pence, err error) {
	number, err := wallet.ParseDestination(to)
	if err != nil {
		return 0, 0, atField("to", err)
	}
	return s.o.Gates.Quote(ctx, wallet.HoldRequest{OrgID: org, Action: wallet.ActionCall, Quantity: 60, Destination: number, Source: wallet.SourceCall})
}

// Place pays for a call's first minute and has the agent call. When it returns a call, that is stored: ringing, or with an
// outcome that is not known yet (CallUnknown) and will be found out. Whom it is from is always the agent's own number. It is
// safe to repeat: the same key gets the same call, and calls once.
//
// Faults, each with nobody called and nothing charged: Invalid with the field "to", "agent_id" or "idempotency_key"; Conflict
// for an agent that cannot call, with the codes "agent_not_ready", "agent_off" and "agent_without_number", and for a key that
// stands for another call; what the gates refuse with, Unpaid above all; Declined for what Vapi refused; Unavailable when Vapi
// could not be asked.
func (s *Calls) Place(ctx context.Context, r PlaceRequest) (Call, error) {
	if !s.On() {
		return Call{}, errCallsOff()
	}
	to, err := wallet.ParseDestination(r.To)
	if err != nil {
		return Call{}, atField("to", err)
	}
	r.To = to
	c, err := s.queue(ctx, r)
	if errors.Is(err, db.ErrCommitUnknown) {
		c, err = s.queue(ctx, r) // what the lost commit did store is found by its key
	}
	if err != nil {
		return Call{}, err
	}
	if c.Repeated && c.State != CallQueued {
		return c, c.refusal()
	}
	repeated := c.Repeated
	// From here on it is paid for: a caller that goes away does not leave it half placed.
	c, err = s.place(context.WithoutCancel(ctx), c)
	c.Repeated = repeated
	return c, err
}

// queue sets the money aside and stores the call, or finds the one that the key stands for.
func (s *Calls) queue(ctx context.Context, r PlaceRequest) (c Call, err error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", r.To, r.Agent))
	id, err := uuid.NewV7()
	if err != nil {
		return Call{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		earlier := func() (bool, error) {
			var found bool
			if c, found, err = readCall(ctx, tx, `WHERE c.org_id = $1 AND c.direction = 'outbound' AND c.key = $2`, r.OrgID, r.Key); err != nil || !found {
				return false, err
			}
			if !bytes.Equal(c.Fingerprint, sum[:]) {
				return false, &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: "This idempotency key was used for another call. Use a new one."}
			}
			c.Repeated = true
			return true, nil
		}
		if found, err := earlier(); found || err != nil {
			return err
		}
		// The wallet's lock first, as everybody takes it; the number's comes after it.
		if err := wallet.Lock(ctx, tx, r.OrgID); err != nil {
			return err
		}
		a, n, err := caller(ctx, tx, r)
		if err != nil {
			return err
		}
		hold, err := s.o.Gates.AuthoriseIn(ctx, tx, wallet.HoldRequest{
			OrgID: r.OrgID, Action: wallet.ActionCall, Quantity: firstHold, Destination: r.To, Source: wallet.SourceCall,
			Key: r.Key, Fingerprint: string(sum[:]), Actor: r.Actor, RequestID: r.RequestID,
		})
		if err != nil {
			return atTo(err)
		}
		if hold.Repeated { // somebody with the same key was faster, and has stored the call in the same commit
			if found, err := earlier(); found || err != nil {
				return err
			}
			return fmt.Errorf("hold %s of a call has no call", hold.ID)
		}
		ceiling, err := s.ceiling(ctx, tx, hold)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO calls (id, org_id, direction, number_id, agent_id, our_number, party, state, hold_id, ceiling_seconds, covered_seconds, key, fingerprint, actor, created_at, look_at,
			                   recorded, consent)
			VALUES ($1, $2, 'outbound', $3, $4, $5, $6, 'queued', $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
			id, r.OrgID, n.ID, a.ID, n.PhoneNumber, r.To, hold.ID, ceiling, firstHold, r.Key, sum[:], r.Actor, tx.Now, tx.Now.Add(placedWithin),
			a.Recorded, a.Consent); err != nil {
			return fmt.Errorf("couldn't store the call: %w", err)
		}
		if c, _, err = readCall(ctx, tx, `WHERE c.id = $1`, id); err != nil {
			return err
		}
		return c.record(ctx, tx, "call.ordered", r.Actor, nil)
	})
	return c, err
}

// atTo puts a gate's fault about a destination beside the input that names it here.
func atTo(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Field == "destination" {
		to := *f
		to.Field = "to"
		return &to
	}
	return err
}

// caller is the agent that makes a call, and its number. There is no other number in its place.
func caller(ctx context.Context, tx *db.Tx, r PlaceRequest) (Agent, Number, error) {
	a, found, err := chosen(ctx, tx, r)
	if err != nil {
		return Agent{}, Number{}, err
	}
	switch {
	case !found:
		return Agent{}, Number{}, fault.Field("agent_id", "There is no such agent.")
	case !a.Active:
		return Agent{}, Number{}, agentCannot("agent_off", a.Name+" is switched off, so it makes no calls.")
	case !a.NumberID.Valid:
		return Agent{}, Number{}, agentCannot("agent_without_number", a.Name+" has no number to call from. Link one first.")
	case !a.AssistantID.Valid:
		return Agent{}, Number{}, agentCannot("agent_not_ready", a.Name+" is not ready yet: our voice service does not have it. Try again in a moment.")
	}
	n, err := Usable(ctx, tx, r.OrgID, a.NumberID.UUID)
	if err == nil && !n.VapiID.Valid {
		err = agentCannot("agent_without_number", a.Name+"'s number cannot make calls.")
	}
	return a, n, err
}

// chosen finds the agent of a request: the one that it names, or the only one with a number.
func chosen(ctx context.Context, tx *db.Tx, r PlaceRequest) (a Agent, found bool, err error) {
	if r.Agent != uuid.Nil {
		return readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2 AND a.deleted_at IS NULL`, r.OrgID, r.Agent)
	}
	var list []Agent
	if err := tx.SelectContext(ctx, &list, `
		SELECT `+agentColumns+` FROM agents a WHERE a.org_id = $1 AND a.deleted_at IS NULL AND a.active AND a.number_id IS NOT NULL LIMIT 2`, r.OrgID); err != nil {
		return Agent{}, false, fmt.Errorf("couldn't look for an agent: %w", err)
	}
	switch len(list) {
	case 0:
		return Agent{}, false, agentCannot("agent_without_number", "No agent of yours has a number to call from. Link one first.")
	case 1:
		return list[0], true, nil
	}
	return Agent{}, false, fault.Field("agent_id", "You have several agents with a number. Say which of them calls.")
}

func agentCannot(code, public string) error {
	return &fault.Error{Kind: fault.Conflict, Code: code, Field: "agent_id", Public: public}
}

// ceiling is the longest that a call may last: as long as the wallet, which is locked, pays for, and never longer than the
// limit for all.
func (s *Calls) ceiling(ctx context.Context, tx *db.Tx, hold wallet.Hold) (int64, error) {
	terms, err := wallet.TermsOfCall(ctx, tx, hold.ID)
	if err != nil {
		return 0, err
	}
	b, err := wallet.Read(ctx, tx, hold.OrgID)
	if err != nil {
		return 0, err
	}
	seconds, err := reaching(terms, hold.Amount+b.Available())
	return max(min(seconds, s.o.MaxCall), vapiMinCall), err
}

// reaching is how many seconds of a call an amount pays for; of more than can be computed with, as many as a call can have.
func reaching(terms wallet.CallTerms, p money.Pence) (int64, error) {
	seconds, err := terms.Seconds(p)
	if errors.Is(err, money.ErrOverflow) {
		return vapiMaxCall, nil
	}
	if err != nil {
		return 0, fmt.Errorf("couldn't compute how long the balance lasts: %w", err)
	}
	return seconds, nil
}

// readCall reads one call.
func readCall(ctx context.Context, tx *db.Tx, where string, args ...any) (c Call, found bool, err error) {
	err = tx.GetContext(ctx, &c, `SELECT `+callColumns+` FROM calls c `+where, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return Call{}, false, nil
	}
	if err != nil {
		return Call{}, false, fmt.Errorf("couldn't read the call: %w", err)
	}
	return c, true, nil
}

// record writes an audit row about the call.
func (c *Call) record(ctx context.Context, tx *db.Tx, action string, actor audit.Actor, detail map[string]any) error {
	return audit.Record(ctx, tx, audit.Entry{OrgID: c.OrgID, Actor: actor, Action: action, Subject: "call:" + c.ID.String(), Detail: detail})
}

// settlement is what is said of the call's hold.
func (c *Call) settlement() wallet.Settlement {
	return wallet.Settlement{OrgID: c.OrgID, Hold: c.HoldID.UUID, Source: wallet.SourceCall, Actor: audit.System("calls")}
}

// place has Vapi make a queued call and stores what comes of it. One that is not queued any more is given as it is.
func (s *Calls) place(ctx context.Context, c Call) (Call, error) {
	p, err := s.take(ctx, c)
	switch {
	case errors.Is(err, errTaken), errors.Is(err, db.ErrCommitUnknown):
		// Of a commit whose reply was lost nobody knows whether it was ours or another's. So Vapi is not asked, and the
		// sweeper goes on from what is stored.
		return s.Call(ctx, c.OrgID, c.ID)
	case fault.Is(err, fault.Conflict): // its agent, number or hold is not what it was
		return s.refuse(ctx, c, CallQueued, noteNotReady)
	case err != nil:
		return Call{}, err
	}
	failpoint.Hit(failpoint.CallBeforeAsk)
	made, err := s.vapi.createCall(ctx, p)
	failpoint.Hit(failpoint.CallAfterAsk)
	switch answerOf(err) {
	case accepted:
		after, err := s.hear(ctx, c.OrgID, c.ID, newsOfCall(made))
		if err != nil {
			// It rings. Whoever asked for it must not be told that it failed, and call again.
			s.o.Log.ErrorContext(ctx, "Vapi makes a call, which could not be stored: the sweeper will find it", "call", c.ID, "org_id", c.OrgID, "vapi_id", made.ID, "error", err)
			c.State = CallUnknown
			return c, nil
		}
		return after, nil
	case rejected:
		s.log(ctx, c, "Vapi did not take a call", err)
		return s.refuse(ctx, c, CallPlacing, noteCallRefused)
	case notAsked:
		s.log(ctx, c, "Vapi could not be asked for a call", err)
		return s.refuse(ctx, c, CallPlacing, noteCallNotAsked)
	case unknown:
	}
	s.log(ctx, c, "it is not known whether Vapi makes a call", err)
	if err := s.lost(ctx, c); err != nil {
		s.o.Log.ErrorContext(ctx, "couldn't note that a call's answer is lost", "call", c.ID, "error", err)
		c.State = CallUnknown
		return c, nil
	}
	return s.Call(ctx, c.OrgID, c.ID)
}

// Notes of calls, for people. The first three are of calls that were not made.
const (
	noteCallRefused  = "Our voice service did not take the call. Check the number."
	noteCallNotAsked = "It could not be handed to our voice service."
	noteNotReady     = "It could not be placed in time."
	noteCallLost     = "Our voice service does not know of it."
	noteUnfunded     = "It was ended because there was no money left for it."
	noteEndedByUs    = "It was ended on request."
	noteSuspended    = "It was ended since the organisation was suspended."
)

// take marks the call as being placed and its money as in flight, before Vapi is asked, and says what Vapi is asked for. What
// it needs may have gone since it was queued: that is a Conflict.
func (s *Calls) take(ctx context.Context, c Call) (p vapiPlace, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		hold, err := s.o.Gates.SendIn(ctx, tx, c.settlement())
		if err != nil {
			return err
		}
		if hold.Repeated {
			return errTaken
		}
		n, err := Usable(ctx, tx, c.OrgID, c.NumberID)
		if err != nil {
			return err
		}
		a, found, err := readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2 AND a.deleted_at IS NULL`, c.OrgID, c.AgentID.UUID)
		if err != nil {
			return err
		}
		if !found || !a.Ready() || a.NumberID.UUID != n.ID || !n.VapiID.Valid {
			return agentCannot("agent_not_ready", noteNotReady)
		}
		res, err := tx.ExecContext(ctx, `UPDATE calls SET state = 'placing', asked_at = $2, look_at = $3 WHERE id = $1 AND state = 'queued'`, c.ID, tx.Now, tx.Now.Add(lookEvery))
		if err != nil {
			return fmt.Errorf("couldn't mark the call as being placed: %w", err)
		}
		if rows, err := res.RowsAffected(); err != nil || rows != 1 {
			return errors.Join(errTaken, err)
		}
		o, err := s.overrides(ctx, tx, c, a)
		if err != nil {
			return err
		}
		p = vapiPlace{Name: c.ID.String(), AssistantID: a.AssistantID.String, PhoneNumberID: n.VapiID.String, Customer: vapiParty{Number: c.Party}, Overrides: o}
		return nil
	})
	return p, err
}

// lost notes that nobody knows whether Vapi makes the call.
func (s *Calls) lost(ctx context.Context, c Call) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET state = 'unknown', look_at = $2 WHERE id = $1 AND state = 'placing'`, c.ID, tx.Now.Add(firstLook)); err != nil {
			return fmt.Errorf("couldn't note that the answer is lost: %w", err)
		}
		return nil
	})
}

// refuse settles a call that was not made, from the state that this can follow, and gives the fault that says so.
func (s *Calls) refuse(ctx context.Context, c Call, from CallState, note string) (Call, error) {
	c, err := s.hear(ctx, c.OrgID, c.ID, callNews{notMade: true, from: from, note: note})
	if err != nil {
		return Call{}, err
	}
	return c, c.refusal()
}

// refusal is the fault of a call that was not made at all; nil for any other. A repeat of its request is told the same.
func (c *Call) refusal() error {
	switch {
	case c.State != CallFailed || c.VapiID.Valid:
		return nil
	case c.Note == noteCallRefused:
		return &fault.Error{Kind: fault.Declined, Code: "not_callable", Field: "to", Public: c.Note + " Nothing was charged."}
	}
	return &fault.Error{
		Kind: fault.Unavailable, Code: "provider_unavailable", RetryAfter: 10 * time.Second,
		Public: c.Note + " Nothing was charged. Try again with a new key.",
	}
}

// log tells what went wrong with a call, in ids.
func (s *Calls) log(ctx context.Context, c Call, what string, err error) {
	s.o.Log.WarnContext(ctx, what, "call", c.ID, "org_id", c.OrgID, "state", c.State, "error", err)
}

// PaidBy gives the call that a hold of the organisation's pays for; uuid.Nil where it pays for none.
func (s *Calls) PaidBy(ctx context.Context, org, hold uuid.UUID) (id uuid.UUID, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &id, `SELECT id FROM calls WHERE hold_id = $2 AND org_id = $1`, org, hold)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't look for the call: %w", err)
	}
	return id, nil
}

// Story gives what was done with a call of the organisation's, oldest first; nothing for another's.
func (s *Calls) Story(ctx context.Context, org, id uuid.UUID) ([]Event, error) {
	return storyOf(ctx, s.o.DB, org, "call:"+id.String())
}

// Call gives one call of an organisation; NotFound for another's.
func (s *Calls) Call(ctx context.Context, org, id uuid.UUID) (c Call, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if c, found, err = readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2`, org, id); err == nil && !found {
			return errNoCall()
		}
		return err
	})
	return c, err
}

// List gives an organisation's calls, newest first, those before the one with the id before (uuid.Nil: from the newest), at
// most limit of them; what was said in them is not read.
func (s *Calls) List(ctx context.Context, org, before uuid.UUID, limit int) (list []Call, err error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		// Ids are made in the order of time.
		if err := tx.SelectContext(ctx, &list, `SELECT `+listedCallColumns+` FROM calls c WHERE c.org_id = $1 AND c.id < $2 ORDER BY c.id DESC LIMIT $3`, org, before, limit); err != nil {
			return fmt.Errorf("couldn't list the calls: %w", err)
		}
		return nil
	})
	return list, err
}
