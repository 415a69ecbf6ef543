package telephony

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
)

const (
	// syncLease is how long who tells Vapi about an agent may take for it.
	syncLease = time.Minute
	// mayStillCome is how long after it was asked for an assistant that is not in Vapi's list may still turn up there.
	mayStillCome = 2 * time.Minute
	// agentsAtOnce bounds how often one job tells Vapi about one agent, whatever people do meanwhile.
	agentsAtOnce = 5
	// maxVapiName is the longest name that Vapi takes, in characters.
	maxVapiName = 40
	// The model that answers, of those that Vapi offers.
	modelProvider, modelName = "openai", "gpt-4.1-mini"
)

// Notes of agents that Vapi does not have as they are, for people.
const (
	noteVapiAway    = "Our voice service did not answer. We try again; until then the agent goes on as it was."
	noteVapiRefused = "Our voice service does not take the agent as it is. We try again; change it, or ask us."
	noteVapiPinned  = "Our voice service still uses the agent elsewhere, so it cannot be changed or deleted yet. We try again."
	noteInCall      = "The agent is in a call. It is deleted at our voice service when that has ended."
)

// Sync tells Vapi about an agent until Vapi has its newest revision, or has forgotten one that was deleted. It is safe to
// repeat, and to run anywhere and in several places at once: one of them does it. What Vapi does not do is no error: the
// agent says it, and Vapi is told again later.
func (s *Agents) Sync(ctx context.Context, org, id uuid.UUID) error {
	if !s.On() {
		return errors.New("agents wait for Vapi to be told, and Vapi is not configured")
	}
	ctx = context.WithoutCancel(ctx)
	for range agentsAtOnce {
		a, took, err := s.takeAgent(ctx, org, id)
		if err != nil || !took {
			if errors.Is(err, db.ErrCommitUnknown) {
				return nil // whose it is nobody knows: the lease ends, and the sweeper goes on
			}
			return err
		}
		again, err := s.tell(ctx, a)
		if err != nil || !again {
			return err
		}
	}
	return nil // the sweeper goes on
}

// takeAgent leases an agent of which Vapi is to be told now.
func (s *Agents) takeAgent(ctx context.Context, org, id uuid.UUID) (a Agent, took bool, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		took = false
		res, err := tx.ExecContext(ctx, `
			UPDATE agents SET sync_busy_until = $3 WHERE org_id = $1 AND id = $2 AND sync_at <= $4 AND (sync_busy_until IS NULL OR sync_busy_until <= $4)`,
			org, id, tx.Now.Add(syncLease), tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't take the agent up: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		took = true
		a, _, err = readAgent(ctx, tx, `WHERE a.id = $1`, id)
		return err
	})
	return a, took && err == nil, err
}

// tell does the one thing that comes next with Vapi, and stores what came of it. again says that there is more to do at once.
func (s *Agents) tell(ctx context.Context, a Agent) (again bool, err error) {
	if a.DeletedAt != nil {
		return s.forgetAgent(ctx, a)
	}
	if !a.AssistantID.Valid {
		return s.makeAssistant(ctx, a)
	}
	err = s.vapi.changeAssistant(ctx, a.AssistantID.String, s.assistant(ctx, a))
	if gone(err) { // somebody deleted it there: another one takes its place
		s.log(ctx, a, "an assistant is gone at Vapi", err)
		return s.store(ctx, a, synced{forget: true})
	}
	return s.store(ctx, a, s.outcome(ctx, a, err))
}

// outcome is what is stored of an answer about an assistant that is there.
func (s *Agents) outcome(ctx context.Context, a Agent, err error) synced {
	switch answerOf(err) {
	case accepted:
		return synced{id: a.AssistantID.String, done: true}
	case rejected, unknown, notAsked:
	}
	s.log(ctx, a, "Vapi did not take what it was told about an agent", err)
	switch {
	case pinned(err):
		return synced{state: SyncRefused, note: noteVapiPinned}
	case answerOf(err) == rejected:
		return synced{state: SyncRefused, note: noteVapiRefused}
	}
	return synced{note: noteVapiAway}
}

// makeAssistant makes the agent's assistant at Vapi, or adopts the one that was made when the answer was lost.
func (s *Agents) makeAssistant(ctx context.Context, a Agent) (again bool, err error) {
	if a.AskedAt != nil {
		ids, whole, err := s.vapi.findAssistants(ctx, a.ID.String(), a.AskedAt.Add(-time.Minute))
		switch {
		case err != nil:
			s.log(ctx, a, "couldn't look for an assistant", err)
			return s.store(ctx, a, synced{note: noteVapiAway})
		case len(ids) > 0:
			for _, extra := range ids[1:] { // it can be asked for twice only when its list was late
				if err := s.vapi.deleteAssistant(ctx, extra); err != nil {
					s.log(ctx, a, "couldn't delete an assistant that was made twice", err)
				}
			}
			return s.store(ctx, a, synced{id: ids[0]}) // maybe of an older revision
		case !whole || s.o.Now().Sub(*a.AskedAt) < mayStillCome:
			return s.store(ctx, a, synced{note: noteVapiAway, after: lookEvery})
		}
	}
	// That Vapi is asked is committed before it is.
	err = s.o.DB.InTx(ctx, []uuid.UUID{a.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		var id uuid.UUID
		err := tx.GetContext(ctx, &id, `UPDATE agents SET sync_asked_at = $3 WHERE id = $1 AND sync_busy_until = $2 RETURNING id`, a.ID, a.BusyUntil, tx.Now)
		if errors.Is(err, sql.ErrNoRows) {
			return errIdleAgent
		}
		if err != nil {
			return fmt.Errorf("couldn't note that Vapi is asked: %w", err)
		}
		return nil
	})
	if errors.Is(err, errIdleAgent) || errors.Is(err, db.ErrCommitUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	id, err := s.vapi.createAssistant(ctx, s.assistant(ctx, a))
	out := s.outcome(ctx, a, err)
	switch answerOf(err) {
	case accepted:
		out.id = id
	case rejected, notAsked:
		out.notAsked = true
	case unknown:
		out.after = lookEvery
	}
	return s.store(ctx, a, out)
}

// errIdleAgent says that somebody else has the agent in hand by now.
var errIdleAgent = errors.New("the agent is in other hands")

// forgetAgent has Vapi forget a deleted agent's assistant, when no call needs it any more.
func (s *Agents) forgetAgent(ctx context.Context, a Agent) (again bool, err error) {
	var calls bool
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{a.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &calls, `SELECT EXISTS (SELECT FROM calls WHERE org_id = $1 AND agent_id = $2 AND ended_at IS NULL)`, a.OrgID, a.ID)
	})
	switch {
	case err != nil:
		return false, err
	case calls:
		return s.store(ctx, a, synced{note: noteInCall, after: lookEvery})
	}
	ids := []string{a.AssistantID.String}
	if !a.AssistantID.Valid {
		if a.AskedAt == nil {
			return s.store(ctx, a, synced{done: true, forget: true})
		}
		found, whole, err := s.vapi.findAssistants(ctx, a.ID.String(), a.AskedAt.Add(-time.Minute))
		if err != nil || len(found) == 0 && (!whole || s.o.Now().Sub(*a.AskedAt) < mayStillCome) {
			return s.store(ctx, a, synced{note: noteVapiAway, after: lookEvery})
		}
		ids = found
	}
	for _, id := range ids {
		if err := s.vapi.deleteAssistant(ctx, id); err != nil {
			out := s.outcome(ctx, a, err)
			return s.store(ctx, a, out)
		}
	}
	return s.store(ctx, a, synced{done: true, forget: true})
}

// synced is what came of telling Vapi.
type synced struct {
	id string
	// done says that Vapi has what it was told; forget that Vapi has no assistant, notAsked that it surely made none.
	done, forget, notAsked bool
	state                  SyncState // empty: as it was
	note                   string
	after                  time.Duration // until Vapi is told again; zero: doubling with each try
}

// store writes down what came of telling Vapi, unless somebody else has taken the agent up since. again says that there is
// more to tell at once.
func (s *Agents) store(ctx context.Context, a Agent, out synced) (again bool, err error) {
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{a.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			again, err = s.storeIn(ctx, tx, a, out)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	switch {
	case errors.Is(err, errIdleAgent):
		return false, nil
	case err == nil && out.done:
		s.metrics.syncs.WithLabelValues("done").Inc()
	case err == nil && out.note != "":
		s.metrics.syncs.WithLabelValues("put_off").Inc()
	}
	return again, err
}

func (s *Agents) storeIn(ctx context.Context, tx *db.Tx, a Agent, out synced) (again bool, err error) {
	now, found, err := readAgent(ctx, tx, `WHERE a.id = $1 AND a.sync_busy_until = $2 FOR NO KEY UPDATE OF a`, a.ID, a.BusyUntil)
	if err != nil {
		return false, err
	}
	if !found {
		return false, errIdleAgent
	}
	after := now
	after.AssistantID, after.AskedAt, after.Note = a.AssistantID, now.AskedAt, out.note
	switch {
	case out.id != "":
		after.AssistantID, after.AskedAt = sql.NullString{String: out.id, Valid: true}, nil
	case out.forget:
		after.AssistantID, after.AskedAt = sql.NullString{}, nil
	case out.notAsked:
		after.AskedAt = nil
	}
	if out.state != "" {
		after.Sync = out.state
	}
	if out.done {
		after.SyncedRevision = a.Revision
	}
	at := tx.Now
	switch {
	case out.done && now.Revision == a.Revision:
		after.Sync, after.SyncAt, after.SyncTries = Synced, nil, 0
		if a.DeletedAt != nil {
			after.Sync = SyncGone
		}
	case out.note == "" || now.Revision != a.Revision: // there is more to tell
		after.SyncAt, after.SyncTries, after.Sync, after.Note = &at, 0, SyncWaiting, ""
		again = true
	default:
		if out.after == 0 {
			out.after = min(pauseFirst<<min(now.SyncTries, 20), pauseMost)
		}
		at = at.Add(out.after)
		after.SyncAt, after.SyncTries = &at, now.SyncTries+1
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE agents SET assistant_id = $2, sync_asked_at = $3, sync_state = $4, sync_note = $5, synced_revision = $6, sync_at = $7, sync_tries = $8, sync_busy_until = NULL
		WHERE id = $1`, a.ID, after.AssistantID, after.AskedAt, after.Sync, after.Note, after.SyncedRevision, after.SyncAt, after.SyncTries); err != nil {
		return false, fmt.Errorf("couldn't store what Vapi has: %w", err)
	}
	action := ""
	switch {
	case after.Sync == SyncGone:
		action = "agent.gone"
	case after.Sync == Synced:
		action = "agent.synced"
	case after.Sync == SyncRefused && now.Sync != SyncRefused:
		action = "agent.refused"
	}
	if action == "" {
		return again, nil
	}
	return again, after.record(ctx, tx, action, audit.System("agents"), map[string]any{"assistant_id": after.AssistantID.String})
}

// SyncDue tells Vapi about the agents whose time has come: those whose job was lost or died, and those that Vapi did not take
// before. It says how many there were. It is safe to repeat and to run in several processes at once.
func (s *Agents) SyncDue(ctx context.Context) (n int, err error) {
	if !s.On() {
		return 0, nil
	}
	var due []struct {
		ID    uuid.UUID `db:"id"`
		OrgID uuid.UUID `db:"org_id"`
	}
	began := s.o.Now()
	err = s.o.DB.InSystemTx(ctx, "agents of which Vapi is to be told, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		due = nil
		return tx.SelectContext(ctx, &due, `
			SELECT id, org_id FROM agents WHERE sync_at <= $1 AND (sync_busy_until IS NULL OR sync_busy_until <= $1) ORDER BY sync_at LIMIT $2`, tx.Now, sweepMost)
	})
	if err != nil {
		return 0, err
	}
	var all error
	for _, d := range due {
		if ctx.Err() != nil || s.o.Now().Sub(began) > sweepFor {
			break // the next sweep goes on
		}
		if err := s.Sync(ctx, d.OrgID, d.ID); err != nil {
			all = errors.Join(all, fmt.Errorf("agent %s: %w", d.ID, err))
			continue
		}
		n++
	}
	return n, all
}

// assistant is the agent as Vapi has it. Whether it passes a caller on is decided for each call again: see [Calls.overrides].
func (s *Agents) assistant(ctx context.Context, a Agent) vapiAssistant {
	first := a.FirstMessage
	if a.Consent != "" {
		first = a.Consent + " " + first
	}
	v := vapiAssistant{
		Name: short(a.Name, maxVapiName), FirstMessage: first,
		Model: a.model(), Voice: vapiVoice{Provider: "vapi", VoiceID: a.Voice}, MaxDuration: s.o.MaxCall, Server: s.o.Events.server(),
		ServerMessages: []string{messageStatus, messageReport, messageTools}, Metadata: map[string]string{metaAgent: a.ID.String()},
		Artifacts: vapiArtifactPlan{Recording: a.Recorded}, Monitor: vapiMonitorPlan{Control: true},
	}
	if a.ForwardTo != "" {
		v.Model.Tools = append(v.Model.Tools, vapiTool{Type: "transferCall", Destinations: []vapiDestination{{
			Type: "number", Number: a.ForwardTo, CallerID: s.shown(ctx, a),
			Description: "Pass the caller on to a person at this number when they ask for one, or when you cannot help.",
		}}})
	}
	return v
}

// model is what answers for the agent, and passes nobody on.
func (a *Agent) model() vapiModel {
	m := vapiModel{Provider: modelProvider, Model: modelName, Messages: []vapiModelWords{{Role: "system", Content: a.Prompt}}, Tools: []vapiTool{}}
	if a.Knowledge {
		m.Tools = append(m.Tools, knowledgeTool)
	}
	return m
}

// shown is the number that is seen when the agent passes a caller on: the proven one that was chosen, as long as it is
// proven to an account that is open to us, or else the one that the call came in to or went out from. Vapi would show the caller's own, which is nobody's
// of ours to show.
func (s *Agents) shown(ctx context.Context, a Agent) string {
	if !a.CallerID.Valid {
		return ownNumber
	}
	var number string
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{a.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &number, `SELECT phone_number FROM caller_ids WHERE org_id = $1 AND id = $2 AND state = 'verified' AND `+accountOpen, a.OrgID, a.CallerID.UUID)
	})
	if err != nil {
		return ownNumber
	}
	return number
}

// ownNumber is Vapi's template for the number of ours that a call is on.
const ownNumber = "{{phoneNumber.number}}"

// knowledgeTool is how an agent asks the organisation's knowledge base: Vapi brings its question to us.
var knowledgeTool = vapiTool{Type: "function", Function: &vapiFunction{
	Name:        toolKnowledge,
	Description: "Look something up in the organisation's own documents. Use it for every question about the organisation, and answer from what it gives only.",
	Parameters:  json.RawMessage(`{"type":"object","properties":{"query":{"type":"string","description":"What to look for, in a few words."}},"required":["query"]}`),
}}

// short cuts a text to so many characters.
func short(s string, most int) string {
	r := []rune(s)
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// log tells what went wrong with an agent, in ids.
func (s *Agents) log(ctx context.Context, a Agent, what string, err error) {
	s.o.Log.WarnContext(ctx, what, "agent", a.ID, "org_id", a.OrgID, "revision", a.Revision, "tries", a.SyncTries, "error", err)
}
