package telephony

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/wallet"
)

// answerWithin is how long Vapi waits at most until we say who takes a call. Vapi itself hangs up after 7.5 seconds, the way
// there and back included.
const answerWithin = 5 * time.Second

// vapiAnswer is who takes a call that came in, or what the caller hears instead.
type vapiAnswer struct {
	AssistantID string         `json:"assistantId,omitempty"`
	Overrides   *vapiOverrides `json:"assistantOverrides,omitempty"`
	Error       string         `json:"error,omitempty"`
}

// What a caller hears. Why there is no money, or no agent, is nobody else's business.
const (
	saysNotInUse  = "This number is not in use."
	saysNobody    = "Sorry, nobody can take your call at the moment. Please try again later."
	saysSomething = "Sorry, your call could not be connected. Please try again in a few minutes."
)

// answer says who takes a call that came in, in the time that Vapi waits, whatever the database does. A decision that is not
// there by then is taken back when it comes: the caller has been told no.
func (s *Calls) answer(ctx context.Context, m vapiMessage) (a vapiAnswer, outcome string) {
	ctx = context.WithoutCancel(ctx)
	decisions, gone := make(chan decision), make(chan struct{})
	s.late.Go(func() {
		d, err := s.incomingSafely(ctx, m)
		if err != nil {
			s.o.Log.ErrorContext(ctx, "couldn't say who takes a call", "vapi_id", cut(m.Call.ID, 64), "error", err)
			d = decision{answer: vapiAnswer{Error: saysSomething}, outcome: "failed"}
		}
		select {
		case decisions <- d:
		case <-gone:
			s.takeBack(ctx, d.call)
		}
	})
	wait := time.NewTimer(s.o.AnswerWithin)
	defer wait.Stop()
	select {
	case d := <-decisions:
		return d.answer, d.outcome
	case <-wait.C:
		close(gone)
		return vapiAnswer{Error: saysSomething}, "late"
	}
}

// incomingSafely is incoming, for a goroutine of its own: above it stands nobody who would catch a panic, and a message must
// not end the program.
func (s *Calls) incomingSafely(ctx context.Context, m vapiMessage) (d decision, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return s.incoming(ctx, m)
}

// Wait waits until the decisions that Vapi did not wait for are taken back. Where a process ends before that, the sweeper
// finds out that Vapi has not connected those calls.
func (s *Calls) Wait() { s.late.Wait() }

// decision is who takes a call.
type decision struct {
	call    Call
	answer  vapiAnswer
	outcome string
}

// takeBack ends a call that was accepted too late to be connected. One that an earlier answer may have connected is left alone:
// if it did not, Vapi says so when it is asked.
func (s *Calls) takeBack(ctx context.Context, c Call) {
	if c.ID == uuid.Nil || c.Repeated || c.State != CallRinging {
		return
	}
	if _, err := s.hear(ctx, c.OrgID, c.ID, callNews{notMade: true, from: CallRinging, note: noteTooSlow}); err != nil {
		s.log(ctx, c, "a call that was accepted too late could not be taken back: the sweeper will", err)
	}
}

// Notes of calls that were not taken, for people.
const (
	noteTooSlow      = "It could not be connected, since we were too slow to answer. Nothing was charged."
	noteNobody       = "No agent that is ready answers this number."
	noteReleasing    = "The number is being given back."
	noteNotPaid      = "There was not enough money for it: "
	noteNotPermitted = "It was not allowed: "
)

// incoming decides who takes a call that came in: the agent of the number that was called, if the organisation may spend what
// its first minute costs. The money is set aside in the commit that stores the call. A repeat is answered the same.
func (s *Calls) incoming(ctx context.Context, m vapiMessage) (d decision, err error) {
	phone := m.Call.PhoneNumberID
	if phone == "" {
		phone = m.PhoneNumber.ID
	}
	if !vapiName.MatchString(m.Call.ID) || !vapiName.MatchString(phone) {
		return decision{answer: vapiAnswer{Error: saysSomething}, outcome: "malformed"}, nil
	}
	var at struct {
		ID    uuid.UUID `db:"id"`
		OrgID uuid.UUID `db:"org_id"`
	}
	err = s.o.DB.InSystemTx(ctx, "a call that came in, before it is known to whom", func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &at, `SELECT id, org_id FROM numbers WHERE vapi_id = $1`, phone)
	})
	if errors.Is(err, sql.ErrNoRows) {
		s.o.Log.WarnContext(ctx, "Vapi asks who answers a number that is not here", "vapi_id", cut(m.Call.ID, 64), "phone_number_id", cut(phone, 64))
		return decision{answer: vapiAnswer{Error: saysNotInUse}, outcome: "unknown"}, nil
	}
	if err != nil {
		return decision{}, fmt.Errorf("couldn't find the number: %w", err)
	}
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{at.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			d, err = s.incomingIn(ctx, tx, at.OrgID, at.ID, m)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run() // what the lost commit did store is found by its key
	}
	if err != nil {
		return decision{}, err
	}
	if !d.call.Repeated {
		s.metrics.calls.WithLabelValues(string(d.call.Direction), string(d.call.State)).Inc()
	}
	return d, nil
}

func (s *Calls) incomingIn(ctx context.Context, tx *db.Tx, org, number uuid.UUID, m vapiMessage) (decision, error) {
	// The wallet's lock first, as everybody takes it; under it two of the same are one after the other.
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return decision{}, err
	}
	c, found, err := readCall(ctx, tx, `WHERE c.org_id = $1 AND c.direction = 'inbound' AND c.key = $2`, org, m.Call.ID)
	if err != nil {
		return decision{}, err
	}
	if found {
		c.Repeated = true
		return s.decide(ctx, tx, c)
	}
	n, found, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR SHARE`, org, number)
	if err != nil || !found {
		return decision{}, errors.Join(err, errTaken)
	}
	party := m.Customer.Number
	if party == "" {
		party = m.Call.Customer.Number
	}
	c = Call{OrgID: org, Direction: InboundCall, NumberID: n.ID, OurNumber: n.PhoneNumber, Party: clean(party, 40), State: CallRefused, Actor: string(audit.System("calls"))}
	c.VapiID = sql.NullString{String: m.Call.ID, Valid: true}
	c.ControlURL, c.ProviderSID = clean(m.Call.Monitor.ControlURL, 2048), clean(m.Call.ProviderID, 64)
	a, found, err := readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.number_id = $2 AND a.active AND a.deleted_at IS NULL AND a.assistant_id IS NOT NULL LIMIT 1`, org, n.ID)
	if err != nil {
		return decision{}, err
	}
	if found {
		c.AgentID = uuid.NullUUID{UUID: a.ID, Valid: true}
		c.Recorded, c.Consent = a.Recorded, a.Consent
	}
	switch {
	case n.State != NumberActive:
		c.Note = noteReleasing
	case !found:
		c.Note = noteNobody
	default:
		if err := s.pays(ctx, tx, &c); err != nil {
			return decision{}, err
		}
	}
	if err := s.storeIncoming(ctx, tx, &c); err != nil {
		return decision{}, err
	}
	return s.decide(ctx, tx, c)
}

// pays sets the first minute of a call aside, in flight at once: Vapi has the call already. A refusal is noted in the call.
func (s *Calls) pays(ctx context.Context, tx *db.Tx, c *Call) error {
	hold, err := s.o.Gates.AuthoriseIn(ctx, tx, wallet.HoldRequest{
		OrgID: c.OrgID, Action: wallet.ActionCall, Quantity: firstHold, Source: wallet.SourceCall, Key: "inbound:" + c.VapiID.String, Actor: audit.Actor(c.Actor),
	})
	switch {
	case fault.Is(err, fault.Unpaid):
		c.Note = noteNotPaid + fault.As(err).Public
		return nil
	case fault.Is(err, fault.Forbidden):
		c.Note = noteNotPermitted + fault.As(err).Public
		return nil
	case err != nil:
		return err
	}
	c.HoldID = uuid.NullUUID{UUID: hold.ID, Valid: true}
	if _, err := s.o.Gates.SendIn(ctx, tx, c.settlement()); err != nil {
		return err
	}
	c.State, c.Covered = CallRinging, firstHold
	c.Ceiling, err = s.ceiling(ctx, tx, hold)
	return err
}

func (s *Calls) storeIncoming(ctx context.Context, tx *db.Tx, c *Call) (err error) {
	if c.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("couldn't make an id: %w", err)
	}
	sum := sha256.Sum256([]byte(c.VapiID.String))
	var look, asked, ended *time.Time
	if c.State == CallRefused {
		ended = &tx.Now
	} else {
		at := tx.Now.Add(ringLook)
		look, asked = &at, &tx.Now
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO calls (id, org_id, direction, number_id, agent_id, our_number, party, state, hold_id, ceiling_seconds, covered_seconds, vapi_id, control_url, provider_sid,
		                   note, key, fingerprint, actor, created_at, asked_at, accepted_at, heard_at, look_at, ended_at, recorded, consent)
		VALUES ($1, $2, 'inbound', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $11, $15, $16, $17, $18, $18, $18, $19, $20, $21, $22)`,
		c.ID, c.OrgID, c.NumberID, c.AgentID, c.OurNumber, c.Party, c.State, c.HoldID, c.Ceiling, c.Covered, c.VapiID, c.ControlURL, c.ProviderSID,
		c.Note, sum[:], c.Actor, tx.Now, asked, look, ended, c.Recorded, c.Consent); err != nil {
		return fmt.Errorf("couldn't store the call: %w", err)
	}
	action := "call.accepted"
	if c.State == CallRefused {
		action = "call.refused"
	}
	return c.record(ctx, tx, action, audit.Actor(c.Actor), map[string]any{"number_id": c.NumberID.String()})
}

// decide is what Vapi is told about a call that is stored.
func (s *Calls) decide(ctx context.Context, tx *db.Tx, c Call) (decision, error) {
	says := func(words string) (decision, error) {
		return decision{call: c, answer: vapiAnswer{Error: words}, outcome: "refused"}, nil
	}
	switch {
	case c.State == CallRefused:
		return says(saysNobody)
	case c.State.Ended():
		return says(saysSomething)
	}
	a, found, err := readAgent(ctx, tx, `WHERE a.org_id = $1 AND a.id = $2`, c.OrgID, c.AgentID.UUID)
	if err != nil {
		return decision{}, err
	}
	if !found || !a.AssistantID.Valid {
		return says(saysNobody)
	}
	o, err := s.overrides(ctx, tx, c, a)
	if err != nil {
		return decision{}, err
	}
	return decision{call: c, answer: vapiAnswer{AssistantID: a.AssistantID.String, Overrides: &o}, outcome: "answered"}, nil
}
