package telephony

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/wallet"
)

const (
	// firstLook is how soon a call whose answer was lost is looked for, and ringLook and talkLook how often a call that rings
	// or in which somebody speaks is asked about, in case that Vapi's own word is lost.
	firstLook = 5 * time.Second
	ringLook  = 15 * time.Second
	talkLook  = 30 * time.Second
	// endLook is how often a call that is over is asked about until it is known how long it was, and endPatience for how long
	// Vapi may owe us that; after it, what we know ourselves counts.
	endLook     = 5 * time.Second
	endPatience = 15 * time.Minute
	// placedWithin is how long a call may wait to be placed; nobody is called out of the blue later than that.
	placedWithin = time.Minute
	// ahead is how many seconds of a call that goes on are paid for beforehand at least, step how far ahead its hold is
	// raised, and slack how long before that it is raised, so that a sweep that is late does not matter.
	ahead, step, slack = 30, 60, 10
	// lastSeconds is how many seconds before what is paid for runs out a call is ended that cannot be paid any longer: ending
	// takes a moment.
	lastSeconds = 10
	// fundAgain is how soon it is tried again to set money aside that was not there.
	fundAgain = 5 * time.Second
	// clocksDiffer is how far Vapi's clock may be from ours.
	clocksDiffer = time.Minute
	// maxTranscript is how much of what was said is kept, in characters.
	maxTranscript = 200_000
)

// callNews is what became of a call.
type callNews struct {
	// notMade says that there is no call. from is the only state that this can follow, and note why, as a sentence for people.
	notMade bool
	from    CallState
	note    string

	vapiID string
	// status is Vapi's word (https://docs.vapi.ai/server-url/events), reason its word for why the call ended.
	status, reason string
	// started and ended are when somebody began to speak and when it was over, where Vapi says so.
	started, ended *time.Time
	// whole says that it is all that Vapi knows of the call: its report, or the call itself. A mere change of status is not.
	whole bool
	// asked says that Vapi was asked about it, rather than having told.
	asked bool
	// missing says that Vapi does not know of the call, whose name we have.
	missing bool

	controlURL, providerSID string
	transcript, recording   string
	costMicros              *int64
}

// newsOfCall is what Vapi's own record says.
func newsOfCall(c vapiCall) callNews {
	return callNews{
		vapiID: c.ID, status: c.Status, reason: c.EndedReason, started: moment(c.StartedAt), ended: moment(c.EndedAt), whole: true, asked: true,
		controlURL: c.Monitor.ControlURL, providerSID: c.ProviderID,
		transcript: c.Artifact.Transcript, recording: c.Artifact.recording(), costMicros: costMicros(c.Cost),
	}
}

// possible leaves out of the news what cannot be: characters that the database does not keep, and times at which the call cannot
// have begun or ended. A call has not begun before it was asked for, and has not ended in the future; where Vapi says so, what
// was seen here counts.
func (n callNews) possible(c Call, now time.Time) callNews {
	n.reason, n.controlURL, n.providerSID = clean(n.reason, 200), clean(n.controlURL, 2048), clean(n.providerSID, 64)
	earliest, latest := c.CreatedAt.Add(-clocksDiffer), now.Add(clocksDiffer)
	switch {
	case n.started == nil || !n.started.Before(earliest) && !n.started.After(latest):
	case c.StartedAt != nil || n.started.After(latest):
		n.started = c.StartedAt
	default:
		n.started = &c.CreatedAt
	}
	switch {
	case n.ended == nil || !n.ended.Before(earliest) && !n.ended.After(latest):
	case c.EndingAt != nil:
		n.ended = c.EndingAt
	default:
		n.ended = &now
	}
	return n
}

// Vapi's words for how far a call has come.
const (
	vapiInProgress = "in-progress"
	vapiForwarding = "forwarding"
	vapiEnded      = "ended"
	vapiNotFound   = "not-found"
)

// neverAnswered reports whether Vapi's word for why a call ended says that nobody ever spoke with anybody
// (https://docs.vapi.ai/calls/call-ended-reason). Where it does not say so, the times decide.
func neverAnswered(reason string) bool {
	switch {
	case strings.HasPrefix(reason, "call.start."), strings.HasPrefix(reason, "call-start-"), strings.HasPrefix(reason, "call.ringing."),
		strings.HasPrefix(reason, "assistant-request-"), strings.HasPrefix(reason, "assistant-not-"):
		return true
	case strings.HasSuffix(reason, "transport-never-connected"), strings.HasSuffix(reason, "failed-to-connect"), strings.HasSuffix(reason, "failed-to-connect-call"):
		return true
	}
	return slices.Contains([]string{
		"customer-busy", "customer-did-not-answer", "customer-did-not-give-microphone-permission", "assistant-join-timed-out",
		"twilio-reported-customer-misdialed", "vonage-rejected", "scheduled-call-deleted", "phone-call-provider-bypass-enabled-but-no-call-received",
	}, reason)
}

// hear brings a call to where the news say it is, with its money, in one transaction. It only ever moves on: news that are
// older than what is known, or come twice, change nothing.
func (s *Calls) hear(ctx context.Context, org, id uuid.UUID, n callNews) (after Call, err error) {
	var before CallState
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
			if before, err = s.hearIn(ctx, tx, org, id, n); err != nil {
				return err
			}
			after, _, err = readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2`, org, id)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	if err != nil {
		return Call{}, err
	}
	if after.State != before {
		s.metrics.calls.WithLabelValues(string(after.Direction), string(after.State)).Inc()
	}
	return after, nil
}

// errOtherCall says that news name a call of ours and mean another one of Vapi's.
var errOtherCall = errors.New("the news are of another call")

func (s *Calls) hearIn(ctx context.Context, tx *db.Tx, org, id uuid.UUID, n callNews) (before CallState, err error) {
	// The wallet's lock first, as everybody takes it; under it nobody else moves the call.
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return "", err
	}
	c, found, err := readCall(ctx, tx, `WHERE c.org_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF c`, org, id)
	if err == nil && !found {
		err = errNoCall()
	}
	if err != nil {
		return "", err
	}
	before = c.State
	n = n.possible(c, tx.Now)
	if c.VapiID.Valid && n.vapiID != "" && c.VapiID.String != n.vapiID {
		return before, errOtherCall
	}
	switch {
	case n.notMade:
		if c.State != n.from {
			return before, nil
		}
		return before, s.end(ctx, tx, c, n, 0)
	case c.State.Ended():
		return before, s.afterwards(ctx, tx, c, n)
	case c.State == CallQueued: // Vapi was never asked for it
		return before, errOtherCall
	case n.missing || n.status == vapiNotFound:
		return before, s.missed(ctx, tx, c, n)
	case n.status == vapiEnded:
		return before, s.over(ctx, tx, c, n)
	}
	return before, s.alive(ctx, tx, c, n)
}

// alive notes that a call goes on.
func (s *Calls) alive(ctx context.Context, tx *db.Tx, c Call, n callNews) error {
	state, look := CallRinging, tx.Now.Add(ringLook)
	started, fund := c.StartedAt, c.FundAt
	switch {
	case c.State == CallEnding && !n.asked: // older news
		return nil
	case c.State == CallEnding: // Vapi takes its word back, and says the other one again
		return s.contradicted(ctx, tx, c, n)
	case n.status == vapiInProgress || n.status == vapiForwarding || c.State == CallInProgress:
		state, look = CallInProgress, tx.Now.Add(talkLook)
		if started == nil {
			at := tx.Now
			if n.started != nil && n.started.Before(at) {
				at = *n.started
			}
			started = &at
			due := at.Add(time.Duration(c.Covered-ahead-slack) * time.Second)
			fund = &due
		}
	}
	if c.HangupAt != nil { // it is to end: it is looked after more closely
		look = tx.Now.Add(endLook)
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE calls SET state = $2, vapi_id = coalesce(vapi_id, nullif($3, '')), control_url = coalesce(nullif($4, ''), control_url), provider_sid = coalesce(nullif($5, ''), provider_sid),
		       accepted_at = coalesce(accepted_at, $6), started_at = $7, heard_at = $6, missing_at = NULL, look_at = $8, fund_at = $9 WHERE id = $1`,
		c.ID, state, n.vapiID, n.controlURL, n.providerSID, tx.Now, started, look, fund)
	if err != nil {
		return fmt.Errorf("couldn't store that the call goes on: %w", err)
	}
	if state == c.State {
		return nil
	}
	return c.record(ctx, tx, "call."+string(state), audit.System("calls"), nil)
}

// contradicted puts off a call of which Vapi has said that it is over, and says when asked that it goes on. What we know ourselves
// counts when that has lasted for long.
func (s *Calls) contradicted(ctx context.Context, tx *db.Tx, c Call, n callNews) error {
	if c.overdue(tx.Now) {
		return s.endAsKnown(ctx, tx, c, n, c.EndingAt)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE calls SET look_at = $2 WHERE id = $1`, c.ID, tx.Now.Add(endLook)); err != nil {
		return fmt.Errorf("couldn't put the call off: %w", err)
	}
	return nil
}

// overdue reports whether Vapi has owed us for too long how long a call was that is over.
func (c *Call) overdue(now time.Time) bool {
	return c.EndingAt != nil && now.Sub(*c.EndingAt) > endPatience
}

// endAsKnown settles a call by what we know ourselves: from when somebody began to speak, if anybody did, until a moment.
func (s *Calls) endAsKnown(ctx context.Context, tx *db.Tx, c Call, n callNews, until *time.Time) error {
	if c.StartedAt == nil || until == nil {
		return s.end(ctx, tx, c, n, 0)
	}
	n.started, n.ended = c.StartedAt, until
	return s.end(ctx, tx, c, n, length(*c.StartedAt, *until))
}

// over settles a call that has ended, if it is known how long it was, or else has it looked at until it is.
func (s *Calls) over(ctx context.Context, tx *db.Tx, c Call, n callNews) error {
	started, ended := n.started, n.ended
	late := c.overdue(tx.Now)
	if n.whole && n.asked && started == nil { // Vapi says that nobody spoke, unless it told us otherwise before
		started = c.StartedAt
	}
	if started != nil && ended == nil && late {
		ended = c.EndingAt
	}
	switch {
	case !n.whole && !late:
	case neverAnswered(n.reason), started == nil && n.asked, started == nil && late:
		return s.end(ctx, tx, c, n, 0)
	case started != nil && ended != nil:
		return s.end(ctx, tx, c, n, length(*started, *ended))
	}
	ending := tx.Now
	if c.EndingAt != nil {
		ending = *c.EndingAt
	}
	look := tx.Now
	if c.State == CallEnding {
		look = look.Add(endLook)
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE calls SET state = 'ending', vapi_id = coalesce(vapi_id, nullif($2, '')), accepted_at = coalesce(accepted_at, $3), heard_at = $3, missing_at = NULL, ending_at = $4,
		       ended_reason = coalesce(nullif($5, ''), ended_reason), look_at = $6, fund_at = NULL WHERE id = $1`,
		c.ID, n.vapiID, tx.Now, ending, n.reason, look)
	if err != nil {
		return fmt.Errorf("couldn't store that the call is over: %w", err)
	}
	return nil
}

// missed settles a call of which Vapi does not know, once it has not known of it for a while: what is known to have been
// spoken is paid for, and no more.
func (s *Calls) missed(ctx context.Context, tx *db.Tx, c Call, n callNews) error {
	if c.MissingAt == nil || tx.Now.Sub(*c.MissingAt) < lookEvery {
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET missing_at = coalesce(missing_at, $2), look_at = $3 WHERE id = $1`, c.ID, tx.Now, tx.Now.Add(ringLook)); err != nil {
			return fmt.Errorf("couldn't note that the call is missing: %w", err)
		}
		return nil
	}
	n.note = noteCallLost
	return s.endAsKnown(ctx, tx, c, n, c.HeardAt)
}

// length is how many seconds a call is charged: each that has begun.
func length(started, ended time.Time) int64 {
	d := ended.Sub(started)
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Second) + 1
}

// end settles the call: seconds that somebody spoke are charged, at the price that its hold was made with; where nobody did it
// costs nothing. It is never charged for longer than its ceiling, which was what it could come to at most.
func (s *Calls) end(ctx context.Context, tx *db.Tx, c Call, n callNews, seconds int64) error {
	if seconds > c.Ceiling+lastSeconds {
		s.o.Log.ErrorContext(ctx, "a call was longer than its ceiling", "call", c.ID, "org_id", c.OrgID, "seconds", seconds, "ceiling", c.Ceiling)
	}
	seconds = min(seconds, c.Ceiling)
	state := endState(n, seconds)
	amount := c.Amount
	if seconds > 0 {
		terms, err := wallet.TermsOfCall(ctx, tx, c.HoldID.UUID)
		if err != nil {
			return err
		}
		cost, err := terms.Cost(seconds)
		if err != nil {
			return fmt.Errorf("couldn't compute what the call costs: %w", err)
		}
		// It has happened, so it is charged; what the money does not reach for stands as debt.
		charge := c.settlement()
		charge.Amount, charge.Overrun, charge.Description = cost, true, c.description(seconds)
		h, err := s.o.Gates.CaptureIn(ctx, tx, charge)
		if err != nil {
			return err
		}
		amount = h.Amount
	} else if _, err := s.o.Gates.VoidIn(ctx, tx, c.settlement()); err != nil {
		return err
	}
	ended := tx.Now
	if n.ended != nil && n.ended.Before(ended) {
		ended = *n.ended
	}
	started := c.StartedAt
	switch {
	case seconds == 0:
		started = nil
	case n.started != nil:
		started = n.started
	}
	reason := n.reason
	if reason == "" {
		reason = c.EndedReason
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE calls SET state = $2, amount_pence = $3, seconds = $4, vapi_id = coalesce(vapi_id, nullif($5, '')), provider_sid = coalesce(nullif($6, ''), provider_sid),
		       ended_reason = $7, note = $8, started_at = $9, ended_at = $10, look_at = NULL, fund_at = NULL, control_url = '' WHERE id = $1`,
		c.ID, state, amount, seconds, n.vapiID, n.providerSID, reason, endNote(c, n, state), started, ended); err != nil {
		return fmt.Errorf("couldn't store what became of the call: %w", err)
	}
	c.State = state
	if err := s.afterwards(ctx, tx, c, n); err != nil {
		return err
	}
	return c.record(ctx, tx, "call."+string(state), audit.System("calls"), map[string]any{"seconds": seconds, "amount_pence": int64(amount), "reason": reason})
}

// endState is the state that a call ends in.
func endState(n callNews, seconds int64) CallState {
	switch {
	case seconds > 0:
		return CallCompleted
	case n.notMade || n.missing || n.status == vapiNotFound:
		return CallFailed
	case strings.HasPrefix(n.reason, "customer-"), n.reason == "manually-canceled", n.reason == "assistant-join-timed-out", n.reason == "voicemail":
		return CallUnanswered
	case n.reason == "" || !neverAnswered(n.reason):
		return CallUnanswered
	}
	return CallFailed
}

// endNote is a sentence about how a call ended, where there is something to say.
func endNote(c Call, n callNews, state CallState) string {
	switch {
	case n.note != "":
		return n.note
	case c.HangupWhy == HangupUnfunded:
		return noteUnfunded
	case c.HangupWhy == HangupAsked:
		return noteEndedByUs
	case c.HangupWhy == HangupSuspended:
		return noteSuspended
	case n.reason == "exceeded-max-duration":
		return "It had reached the longest that the balance, or the limit for all calls, allowed."
	case n.reason == "customer-busy":
		return "The line was busy."
	case state == CallUnanswered:
		return "Nobody answered."
	case state == CallFailed:
		return "It did not come about. Nothing was charged."
	}
	return ""
}

// afterwards stores what remains of a call that has ended: what was said, and what it cost us. The report has all of it, and
// counts; where Vapi was asked before it had put that together, some is missing, and only what is not there yet is taken. What
// was erased does not come back.
func (s *Calls) afterwards(ctx context.Context, tx *db.Tx, c Call, n callNews) error {
	if !n.whole || c.ErasedAt != nil || n.transcript == "" && n.recording == "" && n.costMicros == nil {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE calls SET transcript = CASE WHEN $5::boolean AND transcript <> '' OR $2 = '' THEN transcript ELSE $2 END,
		       recording_url = CASE WHEN $5 AND recording_url <> '' OR $3 = '' THEN recording_url ELSE $3 END,
		       cost_micros = CASE WHEN $5 THEN coalesce(cost_micros, $4) ELSE coalesce($4, cost_micros) END, reported_at = coalesce(reported_at, $6) WHERE id = $1`,
		c.ID, clean(n.transcript, maxTranscript), s.playable(n.recording), n.costMicros, n.asked, tx.Now); err != nil {
		return fmt.Errorf("couldn't store what was said in the call: %w", err)
	}
	return nil
}

// playable is a recording's address if a browser may be sent there, or empty: https, one of Vapi's hosts or of those that
// were configured, and nothing in it that is read in two ways.
func (s *Calls) playable(address string) string {
	if address == "" || len(address) > 2048 || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Port() != "" || u.Fragment != "" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if !strings.HasPrefix(address, "https://"+u.Host+"/") || !strings.HasSuffix(host, ".vapi.ai") && !slices.Contains(s.o.RecordingHosts, host) {
		return ""
	}
	return address
}

// description is the call's sentence in the wallet's history.
func (c *Call) description(seconds int64) string {
	how := plural(seconds, "second")
	if m := seconds / 60; m > 0 {
		how = fmt.Sprintf("%d min %d s", m, seconds%60)
	}
	if c.Direction == InboundCall {
		return fmt.Sprintf("Call from %s, %s", masked(c.Party), how)
	}
	return fmt.Sprintf("Call to %s, %s", masked(c.Party), how)
}

// clean is a text as the database keeps it, of at most so many characters.
func clean(s string, most int) string {
	return cut(strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "�"), most)
}

// cut is the beginning of a text, of at most so many characters.
func cut(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most])
}
