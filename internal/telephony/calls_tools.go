package telephony

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

const (
	// toolKnowledge is the one tool of ours that agents have.
	toolKnowledge = "search_knowledge"
	// toolsMost bounds what one message may ask for, and toolsWithin how long all of it may take: somebody waits on the phone.
	toolsMost   = 5
	toolsWithin = 10 * time.Second
	// maxToolQuery is how much of a question is looked up, and maxToolAnswer how much an agent is given, in characters.
	maxToolQuery  = 500
	maxToolAnswer = 6_000
)

// vapiToolCall is something that the model wants done. Vapi writes it as OpenAI does, or shorter.
type vapiToolCall struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	} `json:"function"`
	Parameters json.RawMessage `json:"parameters"`
	Arguments  json.RawMessage `json:"arguments"`
}

// name is the tool's.
func (c vapiToolCall) name() string {
	if c.Function.Name != "" {
		return c.Function.Name
	}
	return c.Name
}

// query is what is to be looked up: its arguments are an object, or one that is written as a string.
func (c vapiToolCall) query() string {
	for _, raw := range []json.RawMessage{c.Function.Arguments, c.Parameters, c.Arguments} {
		var written string
		if json.Unmarshal(raw, &written) == nil {
			raw = json.RawMessage(written)
		}
		var a struct {
			Query string `json:"query"`
		}
		if json.Unmarshal(raw, &a) == nil && strings.TrimSpace(a.Query) != "" {
			return cut(strings.TrimSpace(clean(a.Query, maxToolQuery)), maxToolQuery)
		}
	}
	return ""
}

// toolResults answers tool calls (https://docs.vapi.ai/server-url/events).
type toolResults struct {
	Results []toolResult `json:"results"`
}

// toolResult has words for the model in one of its two fields; it tells the caller in its own.
type toolResult struct {
	Name       string `json:"name"`
	ToolCallID string `json:"toolCallId"`
	Result     string `json:"result,omitempty"`
	Error      string `json:"error,omitempty"`
}

// What the model is told where there is nothing to give.
const (
	toolNothing  = "The documents say nothing about this. Say that you do not know, and offer to take a message."
	toolNotNow   = "The documents cannot be looked at now. Say that you cannot look it up at the moment."
	toolNotYours = "You cannot look things up."
)

// useTools does what an agent asks for in a call of ours that goes on. Each question is paid for through the gate, once
// however often Vapi brings it; where there is no money the model is told that it cannot look.
func (s *Calls) useTools(ctx context.Context, m vapiMessage) (answer any, outcome string, err error) {
	list := m.ToolCalls
	if len(list) == 0 {
		list = m.OldToolCalls
	}
	results := toolResults{Results: []toolResult{}}
	refuse := func(words string) {
		for _, t := range list {
			results.Results = append(results.Results, toolResult{Name: cut(t.name(), 64), ToolCallID: cut(t.ID, 200), Error: words})
		}
	}
	org, id, outcome, err := s.whose(ctx, m)
	if err != nil {
		return nil, "", err
	}
	if outcome != "" {
		refuse(toolNotYours)
		return results, outcome, nil
	}
	c, knows, err := s.mayLookUp(ctx, org, id)
	if err != nil {
		return nil, "", err
	}
	if !knows {
		refuse(toolNotYours)
		return results, "refused", nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolsWithin)
	defer cancel()
	outcome = "answered"
	for i, t := range list {
		r := toolResult{Name: cut(t.name(), 64), ToolCallID: cut(t.ID, 200), Error: toolNotYours}
		if t.name() == toolKnowledge && i < toolsMost && t.ID != "" && len(t.ID) <= 150 {
			r = s.lookUp(ctx, c, t, r)
		}
		if r.Error != "" {
			outcome = "refused"
		}
		results.Results = append(results.Results, r)
	}
	return results, outcome, nil
}

// mayLookUp reports whether the call goes on and its agent may use the knowledge base.
func (s *Calls) mayLookUp(ctx context.Context, org, id uuid.UUID) (c Call, knows bool, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if c, _, err = readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2`, org, id); err != nil || c.State.Ended() {
			return err
		}
		err = tx.GetContext(ctx, &knows, `SELECT knowledge FROM agents WHERE org_id = $1 AND id = $2`, org, c.AgentID.UUID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("couldn't read the agent: %w", err)
		}
		return nil
	})
	return c, knows && s.o.Knowledge != nil, err
}

// lookUp asks the knowledge base one question.
func (s *Calls) lookUp(ctx context.Context, c Call, t vapiToolCall, r toolResult) toolResult {
	query := t.query()
	if query == "" {
		r.Error = "Say what to look for."
		return r
	}
	found, err := s.o.Knowledge(ctx, Lookup{OrgID: c.OrgID, Key: "call:" + c.ID.String() + ":" + t.ID, Query: query, Actor: audit.System("calls")})
	if err != nil {
		r.Error = toolNotNow
		if !fault.Is(err, fault.Unpaid) && !fault.Is(err, fault.Forbidden) {
			s.log(ctx, c, "an agent could not look something up", err)
		}
		return r
	}
	if !found.Repeated {
		if err := s.countLookup(ctx, c, found); err != nil {
			s.log(ctx, c, "couldn't count a look-up", err) // it is paid for all the same, and the ledger has it
		}
	}
	r.Error = ""
	r.Result = cut(strings.Join(found.Passages, "\n\n---\n\n"), maxToolAnswer)
	if strings.TrimSpace(r.Result) == "" {
		r.Result = toolNothing
	}
	return r
}

// countLookup adds a look-up to what the call has cost.
func (s *Calls) countLookup(ctx context.Context, c Call, found Found) error {
	return s.o.DB.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE calls SET lookups = lookups + 1, lookups_pence = lookups_pence + $2, lookup_holds = CASE WHEN $3::uuid IS NULL THEN lookup_holds ELSE lookup_holds || $3::uuid END WHERE id = $1`,
			c.ID, found.Amount, uuid.NullUUID{UUID: found.Hold, Valid: found.Hold != uuid.Nil}); err != nil {
			return fmt.Errorf("couldn't count the look-up: %w", err)
		}
		return nil
	})
}
