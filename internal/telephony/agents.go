package telephony

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// The longest that the parts of an agent may be, in characters.
const (
	MaxAgentName    = 100
	MaxFirstMessage = 500
	MaxPrompt       = 16_000
	MaxConsent      = 300
	// maxAgents bounds how many an organisation has.
	maxAgents = 200
)

// Voices are those that an agent can have, in the order in which people see them: built into Vapi, by its own names.
var Voices = []string{"Elliot", "Savannah", "Rohan", "Emma", "Clara", "Nico", "Kai", "Sagar", "Godfrey", "Neil"}

// SyncState says whether Vapi has an agent as it is here.
type SyncState string

// The states; the schema knows the same ones.
const (
	SyncWaiting SyncState = "waiting" // Vapi is being told
	Synced      SyncState = "synced"
	SyncRefused SyncState = "refused" // Vapi does not take it; it is tried again, and the note says why
	SyncGone    SyncState = "gone"    // it was deleted, and Vapi has forgotten it
)

// AgentFields are what people decide about an agent.
type AgentFields struct {
	Name string `db:"name"`
	// Active says that it makes and takes calls.
	Active bool `db:"active"`
	// Voice is one of Voices.
	Voice string `db:"voice"`
	// FirstMessage is how it begins, Prompt what it goes by.
	FirstMessage string `db:"first_message"`
	Prompt       string `db:"prompt"`
	// Knowledge lets it look things up in the organisation's knowledge base; each look-up is paid for.
	Knowledge bool `db:"knowledge"`
	// ForwardTo is where it may pass a caller on to, E.164; empty for nowhere.
	ForwardTo string `db:"forward_to"`
	// CallerID is the proven number that is shown there; not valid: the agent's own.
	CallerID uuid.NullUUID `db:"caller_id"`
	// Recorded says that its calls are recorded, which only happens where Consent says so first: a sentence that comes before
	// the first message, empty for none.
	Recorded bool   `db:"recorded"`
	Consent  string `db:"consent"`
}

// Agent is somebody who answers and makes calls.
type Agent struct {
	ID    uuid.UUID `db:"id"`
	OrgID uuid.UUID `db:"org_id"`
	AgentFields
	// NumberID is the number that it answers and calls from, PhoneNumber its digits.
	NumberID    uuid.NullUUID  `db:"number_id"`
	PhoneNumber sql.NullString `db:"phone_number"`
	// Revision is raised by every change; Vapi has SyncedRevision.
	Revision       int64     `db:"revision"`
	SyncedRevision int64     `db:"synced_revision"`
	Sync           SyncState `db:"sync_state"`
	// Note is why Vapi does not have it as it is, as a sentence for people.
	Note        string         `db:"sync_note"`
	AssistantID sql.NullString `db:"assistant_id"`
	CreatedAt   time.Time      `db:"created_at"`
	UpdatedAt   time.Time      `db:"updated_at"`
	DeletedAt   *time.Time     `db:"deleted_at"`
	// Repeated says that an earlier request with the same key made it. It is not stored.
	Repeated bool `db:"-"`

	SyncAt    *time.Time `db:"sync_at"`
	SyncTries int        `db:"sync_tries"`
	AskedAt   *time.Time `db:"sync_asked_at"`
	BusyUntil *time.Time `db:"sync_busy_until"`

	Fingerprint []byte `db:"fingerprint"`
}

// Ready reports whether the agent can make and take calls, but for its number.
func (a *Agent) Ready() bool { return a.Active && a.DeletedAt == nil && a.AssistantID.Valid }

const agentColumns = `a.id, a.org_id, a.name, a.active, a.voice, a.first_message, a.prompt, a.knowledge, a.forward_to, a.caller_id, a.recorded, a.consent,
	a.number_id, (SELECT n.phone_number FROM numbers n WHERE n.id = a.number_id) AS phone_number, a.revision, a.synced_revision, a.sync_state, a.sync_note,
	a.assistant_id, a.created_at, a.updated_at, a.deleted_at, a.sync_at, a.sync_tries, a.sync_asked_at, a.sync_busy_until, a.fingerprint`

// AgentsOptions are what agents are made of. All of it is required, unless it says otherwise.
type AgentsOptions struct {
	DB    *db.DB
	Gates *wallet.Gates
	Jobs  JobInserter
	Log   *slog.Logger
	Now   func() time.Time
	// VapiKey is Vapi's; empty: agents are kept, and nobody is told about them. VapiBase is where its API is.
	VapiKey, VapiBase string
	// Events says how Vapi reaches us.
	Events VapiEvents
	// MaxCall is the longest that a call lasts, in seconds; zero means DefaultMaxCall.
	MaxCall int64
	// Timeout bounds one request to a provider; zero means 10 seconds.
	Timeout time.Duration
	// Transport carries requests to providers; nil means Go's own.
	Transport Transport
	// Vault opens the accounts at Twilio to which caller ids are proven; nil: none can be. TwilioBase is where its API is.
	Vault      *Vault
	TwilioBase string
}

// Agents keeps agents. Each has an assistant at Vapi that follows it: our row is the truth, every change of it raises its
// revision and adds a job, and the job tells Vapi until Vapi has the newest.
type Agents struct {
	o       AgentsOptions
	vapi    *vapi // nil: Vapi is not configured
	metrics agentMetrics
}

// NewAgents puts agents together.
func NewAgents(o AgentsOptions) (*Agents, error) {
	if o.Timeout == 0 {
		o.Timeout = twilioTimeout
	}
	o.MaxCall = maxCall(o.MaxCall)
	s := &Agents{o: o, metrics: newAgentMetrics()}
	if o.VapiKey == "" {
		return s, nil
	}
	var err error
	s.vapi, err = newVapi(o.VapiBase, o.VapiKey, o.Timeout, o.Transport, o.Log, o.Now)
	return s, err
}

// On reports whether agents reach Vapi at all.
func (s *Agents) On() bool { return s.vapi != nil }

// QueueAgents is where agents wait for Vapi to be told about them.
const QueueAgents = "agents"

// AgentSync is the job that tells Vapi about an agent: see [Agents.Sync].
type AgentSync struct {
	OrgID uuid.UUID `json:"org_id"`
	Agent uuid.UUID `json:"agent"`
}

// Kind is the job's name in the queue.
func (AgentSync) Kind() string { return "agent_sync" }

// InsertOpts has a job tried once: what is left behind is the sweeper's.
func (AgentSync) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueAgents, MaxAttempts: 1}
}

// check brings the fields into their one form and refuses what breaks a rule: Invalid with the field.
func (s *Agents) check(ctx context.Context, tx *db.Tx, org uuid.UUID, f *AgentFields) error {
	f.Name, f.ForwardTo = strings.TrimSpace(f.Name), strings.TrimSpace(f.ForwardTo)
	f.FirstMessage, f.Prompt, f.Consent = strings.TrimSpace(f.FirstMessage), strings.TrimSpace(f.Prompt), strings.TrimSpace(f.Consent)
	for _, p := range []struct {
		field, value, missing, what string
		most                        int
	}{
		{"name", f.Name, "Give the agent a name.", "A name", MaxAgentName},
		{"first_message", f.FirstMessage, "Say how the agent begins.", "A first message", MaxFirstMessage},
		{"prompt", f.Prompt, "Say what the agent goes by.", "A prompt", MaxPrompt},
		{"consent", f.Consent, "", "This sentence", MaxConsent},
	} {
		switch {
		case p.value == "" && p.missing != "":
			return fault.Field(p.field, p.missing)
		case len(p.value) > p.most && utf8.RuneCountInString(p.value) > p.most:
			return fault.Field(p.field, fmt.Sprintf("%s has at most %s characters; this one has %s.", p.what, grouped(p.most), grouped(utf8.RuneCountInString(p.value))))
		case !utf8.ValidString(p.value) || strings.ContainsRune(p.value, 0):
			return fault.Field(p.field, "This has characters that cannot be kept.")
		}
	}
	switch {
	case !slices.Contains(Voices, f.Voice):
		return fault.Field("voice", "Choose one of the voices.")
	case f.Recorded && f.Consent == "":
		return fault.Field("consent", "Calls are recorded only where the caller is told so first. Write what is said, for example: This call is recorded.")
	}
	if err := s.checkForward(ctx, tx, org, f); err != nil {
		return err
	}
	return s.checkCallerID(ctx, tx, org, f.CallerID)
}

// grouped is a number with its thousands apart.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// checkForward makes sure that callers may be passed on: to a number that can be reached, to which a call costs no more than one
// that comes in, and which is none of our own, since agents that pass on to one another would never stop. Prices change: each
// call is judged again.
func (s *Agents) checkForward(ctx context.Context, tx *db.Tx, org uuid.UUID, f *AgentFields) error {
	if f.ForwardTo == "" {
		return nil
	}
	to, err := wallet.ParseDestination(f.ForwardTo)
	if err != nil {
		return atField("forward_to", err)
	}
	f.ForwardTo = to
	if err := s.forwardRefused(ctx, org, to); err != nil {
		return err
	}
	var own bool
	if err := tx.GetContext(ctx, &own, `SELECT EXISTS (SELECT FROM numbers WHERE org_id = $1 AND phone_number = $2 AND state IN `+liveStates+`)`, org, to); err != nil {
		return fmt.Errorf("couldn't look among the numbers: %w", err)
	}
	if own {
		return fault.Field("forward_to", "This is one of your own numbers here. Give one at which a person answers.")
	}
	return nil
}

// checkCallerID makes sure that what is shown is the organisation's own and proven, to an account that is still open to us.
func (s *Agents) checkCallerID(ctx context.Context, tx *db.Tx, org uuid.UUID, id uuid.NullUUID) error {
	if !id.Valid {
		return nil
	}
	var verified bool
	if err := tx.GetContext(ctx, &verified, `SELECT EXISTS (SELECT FROM caller_ids WHERE org_id = $1 AND id = $2 AND state = 'verified' AND `+accountOpen+`)`, org, id.UUID); err != nil {
		return fmt.Errorf("couldn't look among the caller ids: %w", err)
	}
	if !verified {
		return fault.Field("caller_id", "Choose a number of yours that was verified.")
	}
	return nil
}

// atField is a fault as one about another input.
func atField(field string, err error) error {
	f := *fault.As(err)
	f.Kind, f.Field = fault.Invalid, field
	return &f
}

func errNoAgent() error { return fault.New(fault.NotFound, "There is no such agent.") }

// readAgent reads one agent.
func readAgent(ctx context.Context, tx *db.Tx, where string, args ...any) (a Agent, found bool, err error) {
	err = tx.GetContext(ctx, &a, `SELECT `+agentColumns+` FROM agents a `+where, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return Agent{}, false, nil
	}
	if err != nil {
		return Agent{}, false, fmt.Errorf("couldn't read the agent: %w", err)
	}
	return a, true, nil
}

// AgentRequest asks for a new agent.
type AgentRequest struct {
	OrgID uuid.UUID
	AgentFields
	// Key makes a repeat of the request the same request: unique within the organisation, at most 255 characters. Empty: every
	// request makes an agent.
	Key   string
	Actor audit.Actor
}

// Create makes an agent. Vapi is told by a job; until it has the agent, nobody can call with it. A repeat of the request with
// its key gives the agent that it made, whatever that has become since.
//
// Faults: Invalid with its field; Conflict where there are too many, and for a key that stands for another agent; Forbidden
// where the account is closed.
func (s *Agents) Create(ctx context.Context, r AgentRequest) (a Agent, err error) {
	if len(r.Key) > 255 || !utf8.ValidString(r.Key) || strings.ContainsRune(r.Key, 0) {
		return Agent{}, fault.Field("idempotency_key", "An idempotency key has at most 255 characters.")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Agent{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", r.AgentFields))
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			if err := mustBeOpen(ctx, tx, r.OrgID); err != nil {
				return err
			}
			if _, err := lockAccount(ctx, tx, r.OrgID); err != nil { // so that two with one key make one
				return err
			}
			if r.Key != "" {
				var found bool
				if a, found, err = readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.key = $2`, r.OrgID, r.Key); err != nil {
					return err
				}
				if found && !bytes.Equal(a.Fingerprint, sum[:]) {
					return &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: "This idempotency key was used for another agent. Use a new one."}
				}
				if a.Repeated = found; found {
					return nil
				}
			}
			fields := r.AgentFields
			if err := s.check(ctx, tx, r.OrgID, &fields); err != nil {
				return err
			}
			var n int
			if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM agents WHERE org_id = $1 AND deleted_at IS NULL`, r.OrgID); err != nil {
				return fmt.Errorf("couldn't count the agents: %w", err)
			}
			if n >= maxAgents {
				return &fault.Error{Kind: fault.Conflict, Code: "too_many_agents", Public: fmt.Sprintf("An organisation has at most %d agents. Delete one first.", maxAgents)}
			}
			key := sql.NullString{String: r.Key, Valid: r.Key != ""}
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO agents (id, org_id, name, active, voice, first_message, prompt, knowledge, forward_to, caller_id, recorded, consent, key, fingerprint,
				                    sync_at, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $15)`,
				id, r.OrgID, fields.Name, fields.Active, fields.Voice, fields.FirstMessage, fields.Prompt, fields.Knowledge, fields.ForwardTo, fields.CallerID,
				fields.Recorded, fields.Consent, key, sum[:], tx.Now); err != nil {
				return fmt.Errorf("couldn't store the agent: %w", err)
			}
			if a, _, err = readAgent(ctx, tx, `WHERE a.id = $1`, id); err != nil {
				return err
			}
			return s.told(ctx, tx, a, "agent.created", r.Actor, nil)
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) && r.Key != "" {
		err = run()
	}
	return a, err
}

// told writes the audit row of a change and adds the job that tells Vapi.
func (s *Agents) told(ctx context.Context, tx *db.Tx, a Agent, action string, actor audit.Actor, detail map[string]any) error {
	return a.told(ctx, tx, s.jobs(), action, actor, detail)
}

// told is that by whatever adds jobs; nil adds none.
func (a *Agent) told(ctx context.Context, tx *db.Tx, jobs JobInserter, action string, actor audit.Actor, detail map[string]any) error {
	if err := a.record(ctx, tx, action, actor, detail); err != nil || jobs == nil {
		return err
	}
	if _, err := jobs.InsertTx(ctx, tx.Tx.Tx, AgentSync{OrgID: a.OrgID, Agent: a.ID}, nil); err != nil {
		return fmt.Errorf("couldn't add the agent's job: %w", err)
	}
	return nil
}

// record writes an audit row about the agent: never what it says, which may name people.
func (a *Agent) record(ctx context.Context, tx *db.Tx, action string, actor audit.Actor, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	detail["revision"] = a.Revision
	return audit.Record(ctx, tx, audit.Entry{OrgID: a.OrgID, Actor: actor, Action: action, Subject: "agent:" + a.ID.String(), Detail: detail})
}

// change runs fn on an agent that is there, under the lock of the organisation's telephony account.
func (s *Agents) change(ctx context.Context, org, id uuid.UUID, fn func(ctx context.Context, tx *db.Tx, a Agent) error) (a Agent, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, org); err != nil {
			return err
		}
		was, found, err := readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2 AND a.deleted_at IS NULL FOR NO KEY UPDATE OF a`, org, id)
		if err != nil {
			return err
		}
		if !found {
			return errNoAgent()
		}
		if err := fn(ctx, tx, was); err != nil {
			return err
		}
		a, _, err = readAgent(ctx, tx, `WHERE a.id = $1`, id)
		return err
	})
	return a, err
}

// Edit changes what an agent is. What Vapi has follows by a job; calls under way go on as they began. Saving the same again
// changes nothing.
//
// Faults: Invalid with its field; NotFound.
func (s *Agents) Edit(ctx context.Context, org, id uuid.UUID, fields AgentFields, actor audit.Actor) (Agent, error) {
	return s.Change(ctx, org, id, func(AgentFields) (AgentFields, error) { return fields, nil }, actor)
}

// Change is Edit where what an agent becomes follows from what it is: fn gets that as it stands in the transaction, so that of
// two who change different things at once neither undoes the other's. An error of fn is given back, and nothing is changed.
func (s *Agents) Change(ctx context.Context, org, id uuid.UUID, fn func(AgentFields) (AgentFields, error), actor audit.Actor) (Agent, error) {
	return s.change(ctx, org, id, func(ctx context.Context, tx *db.Tx, a Agent) error {
		fields, err := fn(a.AgentFields)
		if err != nil {
			return err
		}
		if err := s.check(ctx, tx, org, &fields); err != nil {
			return err
		}
		if fields == a.AgentFields {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE agents SET name = $2, active = $3, voice = $4, first_message = $5, prompt = $6, knowledge = $7, forward_to = $8, caller_id = $9, recorded = $10,
			       consent = $11, revision = revision + 1, sync_at = $12, sync_tries = 0, sync_state = 'waiting', sync_note = '', updated_at = $12 WHERE id = $1`,
			id, fields.Name, fields.Active, fields.Voice, fields.FirstMessage, fields.Prompt, fields.Knowledge, fields.ForwardTo, fields.CallerID,
			fields.Recorded, fields.Consent, tx.Now); err != nil {
			return fmt.Errorf("couldn't change the agent: %w", err)
		}
		a.Revision++
		return s.told(ctx, tx, a, "agent.changed", actor, map[string]any{"active": fields.Active, "knowledge": fields.Knowledge, "recorded": fields.Recorded})
	})
}

// Link has an agent answer a number and call from it: an active one of the same organisation, that no other agent has. What
// it had before it has no more. It is safe to repeat.
//
// Faults: NotFound for an agent or number that is not the organisation's; Conflict for a number that is not active, or that
// another agent has ("number_linked").
func (s *Agents) Link(ctx context.Context, org, id, number uuid.UUID, actor audit.Actor) (Agent, error) {
	return s.change(ctx, org, id, func(ctx context.Context, tx *db.Tx, a Agent) error {
		n, err := Usable(ctx, tx, org, number)
		if err != nil {
			return err
		}
		if a.NumberID.Valid && a.NumberID.UUID == number {
			return nil
		}
		var other string
		err = tx.GetContext(ctx, &other, `SELECT name FROM agents WHERE org_id = $1 AND number_id = $2 AND id <> $3 LIMIT 1`, org, number, id)
		if err == nil {
			return &fault.Error{
				Kind: fault.Conflict, Code: "number_linked", Field: "number",
				Public: fmt.Sprintf("%s is answered by the agent %s. Unlink it there first.", n.PhoneNumber, other),
			}
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("couldn't see who has the number: %w", err)
		}
		return a.linkIn(ctx, tx, n, actor)
	})
}

// linkIn has the agent answer a number that may be used.
func (a *Agent) linkIn(ctx context.Context, tx *db.Tx, n Number, actor audit.Actor) error {
	if _, err := tx.ExecContext(ctx, `UPDATE agents SET number_id = $2, updated_at = $3 WHERE id = $1`, a.ID, n.ID, tx.Now); err != nil {
		return fmt.Errorf("couldn't link the number: %w", err)
	}
	return a.record(ctx, tx, "agent.linked", actor, map[string]any{"number_id": n.ID.String(), "phone_number": n.PhoneNumber})
}

// Unlink takes its number from an agent. Calls under way go on. It is safe to repeat.
func (s *Agents) Unlink(ctx context.Context, org, id uuid.UUID, actor audit.Actor) (Agent, error) {
	return s.change(ctx, org, id, func(ctx context.Context, tx *db.Tx, a Agent) error {
		return a.unlinkIn(ctx, tx, actor)
	})
}

func (a *Agent) unlinkIn(ctx context.Context, tx *db.Tx, actor audit.Actor) error {
	if !a.NumberID.Valid {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE agents SET number_id = NULL, updated_at = $2 WHERE id = $1`, a.ID, tx.Now); err != nil {
		return fmt.Errorf("couldn't unlink the number: %w", err)
	}
	return a.record(ctx, tx, "agent.unlinked", actor, map[string]any{"number_id": a.NumberID.UUID.String(), "phone_number": a.PhoneNumber.String})
}

// Delete removes an agent. One that has a number keeps it unless the caller says that the link goes too: nobody would answer
// the number then. Its calls stay, with its name; its assistant at Vapi is deleted by a job, when no call needs it any more.
//
// Faults: NotFound, also for one that was deleted already; Conflict with the code "agent_linked".
func (s *Agents) Delete(ctx context.Context, org, id uuid.UUID, unlink bool, actor audit.Actor) error {
	_, err := s.change(ctx, org, id, func(ctx context.Context, tx *db.Tx, a Agent) error {
		if a.NumberID.Valid && !unlink {
			return &fault.Error{
				Kind: fault.Conflict, Code: "agent_linked",
				Public: fmt.Sprintf("%s answers %s. Say that the number is to be without an agent, or unlink it first.", a.Name, a.PhoneNumber.String),
			}
		}
		return s.deleteIn(ctx, tx, a, actor)
	})
	return err
}

// deleteIn takes its number from an agent that is there, and deletes it.
func (s *Agents) deleteIn(ctx context.Context, tx *db.Tx, a Agent, actor audit.Actor) error {
	if err := a.unlinkIn(ctx, tx, actor); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE agents SET deleted_at = $2, active = false, revision = revision + 1, sync_at = $2, sync_tries = 0, sync_state = 'waiting', sync_note = '', updated_at = $2
		WHERE id = $1`, a.ID, tx.Now); err != nil {
		return fmt.Errorf("couldn't delete the agent: %w", err)
	}
	a.Revision++
	return s.told(ctx, tx, a, "agent.deleted", actor, nil)
}

// Agent gives one agent of an organisation; NotFound for another's, and for one that was deleted.
func (s *Agents) Agent(ctx context.Context, org, id uuid.UUID) (a Agent, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if a, found, err = readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2 AND a.deleted_at IS NULL`, org, id); err == nil && !found {
			return errNoAgent()
		}
		return err
	})
	return a, err
}

// List gives an organisation's agents, by name. There are at most a few hundred.
func (s *Agents) List(ctx context.Context, org uuid.UUID) (list []Agent, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &list, `SELECT `+agentColumns+` FROM agents a WHERE a.org_id = $1 AND a.deleted_at IS NULL`, org); err != nil {
			return fmt.Errorf("couldn't list the agents: %w", err)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Agent) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), a.CreatedAt.Compare(b.CreatedAt))
	})
	return list, err
}

// Spend is what an agent's calls have come to.
type Spend struct {
	Calls   int   `db:"calls"`
	Seconds int64 `db:"seconds"`
	// Amount is what the calls cost, Lookups what was asked of the knowledge base in them, in pence.
	Amount  money.Pence `db:"amount"`
	Lookups money.Pence `db:"lookups"`
}

// Spend adds up what each agent of an organisation has cost from one moment until before another, by the calls that began
// then. Agents without calls are not in it; one that was deleted may be.
func (s *Agents) Spend(ctx context.Context, org uuid.UUID, since, until time.Time) (map[uuid.UUID]Spend, error) {
	var rows []struct {
		Agent uuid.UUID `db:"agent_id"`
		Spend
	}
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if err := tx.SelectContext(ctx, &rows, `
			SELECT agent_id, count(*) AS calls, sum(seconds) AS seconds, sum(amount_pence)::bigint AS amount, sum(lookups_pence)::bigint AS lookups
			FROM calls WHERE org_id = $1 AND agent_id IS NOT NULL AND created_at >= $2 AND created_at < $3 GROUP BY agent_id`, org, since, until); err != nil {
			return fmt.Errorf("couldn't add up what agents cost: %w", err)
		}
		return nil
	})
	spend := make(map[uuid.UUID]Spend, len(rows))
	for _, r := range rows {
		spend[r.Agent] = r.Spend
	}
	return spend, err
}
