package telephony

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
)

// The kinds of Vapi's messages that concern us (https://docs.vapi.ai/server-url/events).
const (
	messageWho    = "assistant-request"
	messageStatus = "status-update"
	messageReport = "end-of-call-report"
	messageTools  = "tool-calls"
)

// MaxVapiMessage is the largest message of Vapi's that is read, in bytes: the report of a long call has all that was said in
// it, three times over. What is larger is not lost: the call is asked for.
const MaxVapiMessage = 8 << 20

// vapiName is how Vapi names things: by UUIDs so far.
var vapiName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,100}$`)

// vapiMessage is what Vapi tells or asks us.
type vapiMessage struct {
	Type string `json:"type"`
	// Status and EndedReason are of a change of status, the times and what remains of a report.
	Status      string          `json:"status"`
	EndedReason string          `json:"endedReason"`
	StartedAt   string          `json:"startedAt"`
	EndedAt     string          `json:"endedAt"`
	Artifact    vapiArtifact    `json:"artifact"`
	Cost        json.RawMessage `json:"cost"`
	Call        vapiCall        `json:"call"`
	PhoneNumber struct {
		ID string `json:"id"`
	} `json:"phoneNumber"`
	Customer struct {
		Number string `json:"number"`
	} `json:"customer"`
	// ToolCalls are what the model wants done; Vapi has had two names for the list.
	ToolCalls    []vapiToolCall `json:"toolCallList"`
	OldToolCalls []vapiToolCall `json:"toolCalls"`
}

// Genuine reports whether a request shows the secret that only Vapi has, as bearer. It takes as long for a wrong one as for
// another wrong one.
func (s *Calls) Genuine(authorization string) bool {
	scheme, shown, _ := strings.Cut(authorization, " ")
	want := sha256.Sum256([]byte(s.o.Events.Secret))
	got := sha256.Sum256([]byte(strings.TrimSpace(shown)))
	genuine := s.o.Events.Secret != "" && strings.EqualFold(scheme, "bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
	if !genuine {
		s.metrics.messages.WithLabelValues("any", "bad_secret").Inc()
	}
	return genuine
}

// FromVapi takes a message of Vapi's, which Genuine was asked about before, and gives what Vapi is answered: a value for JSON.
// Messages may come more than once and in any order. What is not about a call of ours changes nothing. An error that is no fault
// is something that Vapi should come again with.
//
// Faults: Malformed for what is no message; NotFound for how a call goes on that is not here.
func (s *Calls) FromVapi(ctx context.Context, body []byte) (answer any, err error) {
	var posted struct {
		Message vapiMessage `json:"message"`
	}
	if err := json.Unmarshal(body, &posted); err != nil || posted.Message.Type == "" {
		s.metrics.messages.WithLabelValues("any", "malformed").Inc()
		return nil, fault.Wrap(fault.Malformed, "This is no message of Vapi's.", withoutValues(err))
	}
	m := posted.Message
	outcome := "ignored"
	answer = struct{}{}
	switch {
	case !s.On():
	case m.Type == messageWho:
		answer, outcome = s.answer(ctx, m)
	case m.Type == messageStatus, m.Type == messageReport:
		if outcome, err = s.told(ctx, m); outcome == callUnknown {
			err = errNoCall()
		}
	case m.Type == messageTools:
		answer, outcome, err = s.useTools(ctx, m)
	}
	if err != nil && outcome != callUnknown {
		outcome = "failed"
	}
	kind := m.Type
	if kind != messageWho && kind != messageStatus && kind != messageReport && kind != messageTools {
		kind = "other" // what Vapi may think of must not become a label each
	}
	s.metrics.messages.WithLabelValues(kind, outcome).Inc()
	s.o.Log.InfoContext(ctx, "Vapi told us something", "type", kind, "vapi_id", cut(m.Call.ID, 64), "status", cut(m.Status, 32), "outcome", outcome)
	return answer, err
}

// withoutValues is an error of the JSON reader without what it quotes.
func withoutValues(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("the body is not JSON of the kind expected")
}

// news is what a message says of a call.
func (m *vapiMessage) news() callNews {
	n := callNews{
		vapiID: m.Call.ID, status: m.Status, reason: m.EndedReason, controlURL: m.Call.Monitor.ControlURL, providerSID: m.Call.ProviderID,
		started: firstMoment(m.StartedAt, m.Call.StartedAt), ended: firstMoment(m.EndedAt, m.Call.EndedAt),
	}
	if m.Type == messageReport {
		n.status, n.whole = vapiEnded, true
		n.transcript, n.recording = m.Artifact.Transcript, m.Artifact.recording()
		if n.costMicros = costMicros(m.Cost); n.costMicros == nil {
			n.costMicros = costMicros(m.Call.Cost)
		}
	}
	if n.reason == "" {
		n.reason = m.Call.EndedReason
	}
	return n
}

func firstMoment(times ...string) *time.Time {
	for _, s := range times {
		if t := moment(s); t != nil {
			return t
		}
	}
	return nil
}

// callUnknown is what came of a message about a call that is not here.
const callUnknown = "unknown"

// told takes Vapi's word on how a call goes on.
func (s *Calls) told(ctx context.Context, m vapiMessage) (outcome string, err error) {
	org, id, outcome, err := s.whose(ctx, m)
	if err != nil || outcome != "" {
		return outcome, err
	}
	before, err := s.Call(ctx, org, id)
	if err != nil {
		return "", err
	}
	after, err := s.hear(ctx, org, id, m.news())
	switch {
	case errors.Is(err, errOtherCall):
		s.o.Log.ErrorContext(ctx, "Vapi's message names a call of ours and means another", "call", id, "org_id", org, "vapi_id", cut(m.Call.ID, 64))
		return "another", nil
	case err != nil:
		return "", err
	case after.State != before.State:
		return "taken", nil
	case before.State == CallFailed && !before.VapiID.Valid && m.news().status != vapiEnded:
		s.stopStray(ctx, after, m)
		return "another", nil
	}
	return "known", nil
}

// stopStray ends a call that goes on although we had given it up, and told so: nobody pays for it.
func (s *Calls) stopStray(ctx context.Context, c Call, m vapiMessage) {
	s.o.Log.ErrorContext(ctx, "Vapi makes a call that was given up", "call", c.ID, "org_id", c.OrgID, "vapi_id", cut(m.Call.ID, 64))
	c.VapiID = sql.NullString{String: m.Call.ID, Valid: true}
	c.ControlURL, c.ProviderSID, c.HangupWhy = m.Call.Monitor.ControlURL, m.Call.ProviderID, HangupAsked
	s.hangUp(context.WithoutCancel(ctx), c)
}

// whose finds the call that a message is about: by Vapi's name for it, or where we have not stored that yet, by ours, which
// it carries. outcome says why there is none: "unknown", or "another" for one that carries the name of a call of ours and is
// on a number that the call is not on.
func (s *Calls) whose(ctx context.Context, m vapiMessage) (org, id uuid.UUID, outcome string, err error) {
	if !vapiName.MatchString(m.Call.ID) {
		return org, id, callUnknown, nil
	}
	var row struct {
		ID     uuid.UUID      `db:"id"`
		OrgID  uuid.UUID      `db:"org_id"`
		Number sql.NullString `db:"vapi_id"`
	}
	err = s.o.DB.InSystemTx(ctx, "a message of Vapi's, before it is known whose call it is about", func(ctx context.Context, tx *db.Tx) error {
		const columns = `SELECT c.id, c.org_id, n.vapi_id FROM calls c JOIN numbers n ON n.id = c.number_id `
		err := tx.GetContext(ctx, &row, columns+`WHERE c.vapi_id = $1`, m.Call.ID)
		if ours, perr := uuid.Parse(m.Call.ours()); errors.Is(err, sql.ErrNoRows) && perr == nil {
			err = tx.GetContext(ctx, &row, columns+`WHERE c.id = $1`, ours)
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		s.o.Log.WarnContext(ctx, "Vapi speaks of a call that is not here", "vapi_id", cut(m.Call.ID, 64), "type", m.Type)
		return org, id, callUnknown, nil
	}
	if err != nil {
		return org, id, "", fmt.Errorf("couldn't find the call: %w", err)
	}
	if row.Number.Valid && m.Call.PhoneNumberID != "" && m.Call.PhoneNumberID != row.Number.String {
		s.o.Log.ErrorContext(ctx, "Vapi's message names a call of ours and is about another number", "call", row.ID, "vapi_id", cut(m.Call.ID, 64))
		return org, id, "another", nil
	}
	return row.OrgID, row.ID, "", nil
}
