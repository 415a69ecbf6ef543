// Package telephony sends texts, and will make calls and manage numbers, for the organisations whose wallets pay for it.
//
// A text is a saga. It is paid for and queued in one commit; marked in flight in the next, before Twilio is asked; and what
// Twilio says ends it: the money is taken or given back in the commit that says what became of the text. Twilio has no
// idempotency key, so an outcome that is not known is never answered by asking again, but by looking in Twilio's own list.
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
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// State says how far a text has come.
type State string

// The states of a text; the schema knows the same ones.
const (
	Queued      State = "queued"  // paid for; Twilio was not asked
	Sending     State = "sending" // Twilio is being asked, or was and the answer is lost
	Sent        State = "sent"    // Twilio has it
	Delivered   State = "delivered"
	Undelivered State = "undelivered" // the network gave up
	Failed      State = "failed"      // it was not sent
)

// ended reports whether nothing more happens to the text.
func (s State) ended() bool { return s == Delivered || s == Undelivered || s == Failed }

// Message is one text.
type Message struct {
	ID     uuid.UUID `db:"id"`
	OrgID  uuid.UUID `db:"org_id"`
	Sender string    `db:"sender"`
	// NumberID is the organisation's own number that it goes out from; not valid: the sender that all share.
	NumberID  uuid.NullUUID `db:"number_id"`
	Recipient string        `db:"recipient"`
	Body      string        `db:"body"`
	Encoding  Encoding      `db:"encoding"`
	Segments  int64         `db:"segments"`
	State     State         `db:"state"`
	HoldID    uuid.UUID     `db:"hold_id"`
	// Amount is what the wallet was charged for it and has not been given back, in pence.
	Amount money.Pence `db:"amount_pence"`
	// Held is what the wallet has set aside for it, in pence.
	Held      money.Pence    `db:"held_pence"`
	SID       sql.NullString `db:"sid"`
	ErrorCode int            `db:"error_code"`
	// Note is why it failed, as a sentence for people.
	Note      string     `db:"note"`
	Actor     string     `db:"actor"`
	CreatedAt time.Time  `db:"created_at"`
	AskedAt   *time.Time `db:"asked_at"`
	SentAt    *time.Time `db:"sent_at"`
	LookedAt  *time.Time `db:"looked_at"`
	EndedAt   *time.Time `db:"ended_at"`
	// ErasedAt is when its words were erased, and maybe whom it was to.
	ErasedAt *time.Time `db:"erased_at"`
	// Repeated says that an earlier request with the same key made it. It is not stored.
	Repeated bool `db:"-"`

	Fingerprint []byte `db:"fingerprint"`
}

const messageColumns = `m.id, m.org_id, m.sender, m.number_id, m.recipient, m.body, m.encoding, m.segments, m.state, m.hold_id, m.amount_pence, m.sid, m.error_code,
	m.note, m.actor, m.created_at, m.asked_at, m.sent_at, m.looked_at, m.ended_at, m.erased_at, m.fingerprint,
	(SELECT CASE WHEN h.state IN ('open', 'in_flight') THEN h.amount_pence ELSE 0 END FROM holds h WHERE h.id = m.hold_id) AS held_pence`

// Options are what messages are made of.
type Options struct {
	DB    *db.DB
	Gates *wallet.Gates
	Log   *slog.Logger
	Now   func() time.Time
	// AccountSID and AuthToken are Twilio's; both empty: texts are off.
	AccountSID, AuthToken string
	// APIBase is where Twilio's API is, From the platform's own sender (E.164), BaseURL our own address as Twilio sees it.
	APIBase, From, BaseURL string
	// Timeout bounds one request to Twilio; zero means 10 seconds.
	Timeout time.Duration
	// Transport carries requests to providers; nil means Go's own.
	Transport Transport
	// Vault opens the accounts that organisations' own numbers are in; nil: nothing from there is believed.
	Vault *Vault
}

// Messages sends texts.
type Messages struct {
	o      Options
	twilio *api.ApiService // nil: texts are off
	signed client.RequestValidator

	metrics metrics
}

// New puts messages together.
func New(o Options) (*Messages, error) {
	m := &Messages{o: o, metrics: newMetrics()}
	if o.AccountSID == "" {
		return m, nil
	}
	if o.Timeout == 0 {
		o.Timeout, m.o.Timeout = twilioTimeout, twilioTimeout
	}
	m.signed = client.NewRequestValidator(o.AuthToken)
	var err error
	m.twilio, err = newTwilio(o.AccountSID, o.AuthToken, o.APIBase, o.Timeout, o.Transport, o.Log, o.Now)
	return m, err
}

// On reports whether texts can be sent at all.
func (s *Messages) On() bool { return s.twilio != nil }

// From is the platform's own sender; empty when there is none.
func (s *Messages) From() string { return s.o.From }

// SendRequest asks for a text.
type SendRequest struct {
	OrgID uuid.UUID
	// To is a phone number in international form, From one of the organisation's or empty for the platform's own sender.
	To, From, Body string
	// Key makes a repeat of the request the same request: unique within the organisation, 1 to 255 characters.
	Key       string
	Actor     audit.Actor
	RequestID string
}

// Draft is a text as it would be sent.
type Draft struct {
	Sender, Recipient string
	Segments          int64
	Encoding          Encoding
	// Own says that the sender is not the one that all share. Whether it is the organisation's is seen when it is sent.
	Own bool
}

// Draft checks a text and says how it would travel; nothing is asked of the wallet. Faults: Invalid with the field "to",
// "from" or "body".
func (s *Messages) Draft(r SendRequest) (Draft, error) {
	to, err := wallet.ParseDestination(r.To)
	if err != nil {
		f := *fault.As(err)
		f.Field = "to"
		return Draft{}, &f
	}
	from, own, err := s.sender(r.From)
	if err != nil {
		return Draft{}, err
	}
	if err := CheckBody(r.Body); err != nil {
		return Draft{}, err
	}
	n, encoding := Segments(r.Body)
	return Draft{Sender: from, Recipient: to, Segments: int64(n), Encoding: encoding, Own: own}, nil
}

// CheckBody refuses what cannot be a text's words: Invalid with the field "body".
func CheckBody(body string) error {
	switch n := utf8.RuneCountInString(body); {
	case strings.TrimSpace(body) == "":
		return fault.Field("body", "Write a text.")
	case n > MaxBody:
		return fault.Field("body", fmt.Sprintf("A text has at most 1,600 characters; this one has %d.", n))
	case !utf8.ValidString(body) || strings.ContainsRune(body, 0):
		return fault.Field("body", "This text has characters that cannot be sent.")
	}
	return nil
}

// sender is the number that a text goes out from: the one that all share, or another, which must turn out to be the
// organisation's own.
func (s *Messages) sender(from string) (number string, own bool, err error) {
	if from == "" && s.o.From != "" {
		return s.o.From, false, nil
	}
	if from == "" {
		return "", false, fault.Field("from", "There is no number that all share here. Say which of yours it goes out from.")
	}
	number, err = wallet.ParseDestination(from)
	if err != nil {
		return "", false, errNotYourNumber()
	}
	return number, number != s.o.From, nil
}

func errOff() error {
	return &fault.Error{Kind: fault.Unavailable, Code: "texts_off", Public: "Texts are not set up here, so nothing was sent or charged."}
}

func errOptedOut() error {
	return &fault.Error{
		Kind: fault.Declined, Code: "opted_out", Field: "to",
		Public: "This person has asked not to receive texts from this sender, so nothing was sent or charged. They can text START to it to allow them again.",
	}
}

// Send pays for a text and sends it. When it returns a message, that is stored: sent, or with an outcome that is not known
// yet (Sending) and will be found out. It is safe to repeat: the same key gets the same text, and sends and charges once.
//
// Faults, each with nothing sent and nothing charged: Invalid with its field; Declined for a recipient who has opted out and
// for what Twilio refused; what the gates refuse with, Unpaid above all; Conflict for a key that stands for another text;
// Unavailable when Twilio could not be asked.
func (s *Messages) Send(ctx context.Context, r SendRequest) (Message, error) {
	if !s.On() {
		return Message{}, errOff()
	}
	d, err := s.Draft(r)
	if err != nil {
		return Message{}, err
	}
	m, err := s.queue(ctx, r, d)
	if errors.Is(err, db.ErrCommitUnknown) {
		m, err = s.queue(ctx, r, d) // what the lost commit did store is found by its key
	}
	if err != nil {
		return Message{}, err
	}
	if m.Repeated && m.State != Queued {
		return m, m.refusal()
	}
	repeated := m.Repeated
	// From here on it is paid for: a caller that goes away does not leave it half sent.
	m, err = s.deliver(context.WithoutCancel(ctx), m)
	m.Repeated = repeated
	return m, err
}

// queue sets the money aside and stores the text, or finds the one that the key stands for.
func (s *Messages) queue(ctx context.Context, r SendRequest, d Draft) (m Message, err error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", d.Sender, d.Recipient, r.Body))
	id, err := uuid.NewV7()
	if err != nil {
		return Message{}, fmt.Errorf("couldn't make an id: %w", err)
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		earlier := func() (bool, error) {
			found, err := get(ctx, tx, &m, `WHERE m.org_id = $1 AND m.key = $2`, r.OrgID, r.Key)
			if err != nil || !found {
				return false, err
			}
			if !bytes.Equal(m.Fingerprint, sum[:]) {
				return false, &fault.Error{Kind: fault.Conflict, Code: "idempotency_key_reused", Public: "This idempotency key was used for another text. Use a new one."}
			}
			m.Repeated = true
			return true, nil
		}
		if found, err := earlier(); found || err != nil {
			return err
		}
		if out, err := optedOut(ctx, tx, d.Sender, d.Recipient); err != nil || out {
			return cmp.Or(err, errOptedOut())
		}
		number, err := s.ownSender(ctx, tx, r.OrgID, d)
		if err != nil {
			return err
		}
		hold, err := s.o.Gates.AuthoriseIn(ctx, tx, wallet.HoldRequest{
			OrgID: r.OrgID, Action: wallet.ActionSMS, Quantity: d.Segments, Destination: d.Recipient, Source: wallet.SourceMessage,
			Key: r.Key, Fingerprint: string(sum[:]), Actor: r.Actor, RequestID: r.RequestID,
		})
		if err != nil {
			return atTo(err)
		}
		if hold.Repeated { // somebody with the same key was faster, and has stored the text in the same commit
			if found, err := earlier(); found || err != nil {
				return err
			}
			return fmt.Errorf("hold %s of a text has no text", hold.ID)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO messages (id, org_id, sender, recipient, body, encoding, segments, state, hold_id, key, fingerprint, actor, created_at, number_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, $9, $10, $11, $12, $13)`,
			id, r.OrgID, d.Sender, d.Recipient, r.Body, d.Encoding, d.Segments, hold.ID, r.Key, sum[:], r.Actor, tx.Now, number); err != nil {
			return fmt.Errorf("couldn't store the text: %w", err)
		}
		_, err = get(ctx, tx, &m, `WHERE m.id = $1`, id)
		return err
	})
	return m, err
}

// get reads one message.
func get(ctx context.Context, tx *db.Tx, m *Message, where string, args ...any) (bool, error) {
	*m = Message{}
	err := tx.GetContext(ctx, m, `SELECT `+messageColumns+` FROM messages m `+where, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("couldn't read the text: %w", err)
	}
	return true, nil
}

// errTaken says that another process has the text in hand, or that it has moved on.
var errTaken = errors.New("the text is in other hands")

// deliver asks Twilio to send a queued text and settles what comes of it. One that is not queued any more is given as it is.
func (s *Messages) deliver(ctx context.Context, m Message) (Message, error) {
	at, err := s.take(ctx, m)
	switch {
	case errors.Is(err, errTaken), errors.Is(err, db.ErrCommitUnknown):
		// Of a commit whose reply was lost nobody knows whether it was ours or another's. So Twilio is not asked, and the
		// sweeper goes on from what is stored.
		return s.Message(ctx, m.OrgID, m.ID)
	case fault.Is(err, fault.Declined): // since it was queued
		return s.refuse(ctx, m, news{state: Failed, from: Queued, code: codeOptedOut, note: sentence(codeOptedOut)})
	case fault.Is(err, fault.Conflict) && fault.As(err).Code == codeNumberNotActive: // it is being given back
		return s.refuse(ctx, m, news{state: Failed, from: Queued, note: noteNumberGone})
	case fault.Is(err, fault.Conflict): // its hold has ended: it waited for too long, or somebody else has sent it
		return s.refuse(ctx, m, news{state: Failed, from: Queued, note: noteTooLate})
	case err != nil:
		return Message{}, err
	}
	created, err := at.twilio.CreateMessage((&api.CreateMessageParams{}).SetPathAccountSid(at.account).
		SetTo(m.Recipient).SetFrom(m.Sender).SetBody(m.Body).SetStatusCallback(s.callbackURL(m.ID)))
	outcome, code := judge(err)
	if outcome != accepted {
		s.o.Log.WarnContext(ctx, "Twilio did not take a text", "message", m.ID, "org_id", m.OrgID, "code", code, "error", err)
	}
	switch outcome {
	case accepted:
		if created == nil || created.Sid == nil {
			return s.Message(ctx, m.OrgID, m.ID) // as good as no answer
		}
		s.compare(ctx, m, created)
		after, _, err := s.settle(ctx, m, newsOf(created))
		switch {
		case taken(err): // the sweeper took it for an earlier text with the same words, which waits in its place
			return s.Message(ctx, m.OrgID, m.ID)
		case err != nil:
			// It goes out. Whoever asked for it must not be told that it failed, and send it again.
			s.o.Log.ErrorContext(ctx, "Twilio has a text, which could not be stored: the sweeper will find it", "message", m.ID, "org_id", m.OrgID, "sid", *created.Sid, "error", err)
			m.State = Sending
			return m, nil
		}
		return after, nil
	case rejected:
		return s.refuse(ctx, m, news{state: Failed, from: Sending, code: code, note: sentence(code)})
	case notAsked:
		note := noteNotAsked
		if at.own && code == codeCredential {
			note = noteOwnRefused
		}
		return s.refuse(ctx, m, news{state: Failed, from: Sending, note: note})
	case unknown:
	}
	return s.Message(ctx, m.OrgID, m.ID)
}

// compare logs where Twilio counts a text otherwise than we did. What was quoted is charged.
func (s *Messages) compare(ctx context.Context, m Message, at *api.ApiV2010Message) {
	if at.NumSegments == nil || *at.NumSegments == "0" { // not counted yet
		return
	}
	if *at.NumSegments != strconv.FormatInt(m.Segments, 10) {
		s.o.Log.WarnContext(ctx, "Twilio counts other segments than we do", "message", m.ID, "sid", *at.Sid, "ours", m.Segments, "twilios", *at.NumSegments)
	}
}

// Notes of texts that Twilio has not refused.
const (
	noteNotAsked = "It could not be handed to our provider."
	noteTooLate  = "It could not be sent in time."
	noteLost     = "Our provider does not know of it."
	// noteNumberGone is of a text whose own number was given back before it went out.
	noteNumberGone = "The number that it was to go out from is not active any more."
)

// refuse settles a text that was not sent, and gives the fault that says so.
func (s *Messages) refuse(ctx context.Context, m Message, n news) (Message, error) {
	m, _, err := s.settle(ctx, m, n)
	if err != nil {
		return Message{}, err
	}
	return m, m.refusal()
}

// refusal is the fault of a text that was not sent at all; nil for any other. A repeat of its request is told the same.
func (m *Message) refusal() error {
	switch {
	case m.State != Failed || m.SID.Valid:
		return nil
	case m.ErrorCode == codeOptedOut:
		return errOptedOut()
	case m.ErrorCode != 0:
		return &fault.Error{Kind: fault.Declined, Code: "not_sendable", Public: m.Note + " Nothing was sent or charged."}
	}
	return &fault.Error{
		Kind: fault.Unavailable, Code: "provider_unavailable", RetryAfter: 10 * time.Second,
		Public: m.Note + " Nothing was charged. Try again with a new key.",
	}
}

// take marks the text as being sent and its money as in flight, before Twilio is asked, and says where it is sent. The recipient
// may have opted out since it was queued: that is a fault of kind Declined. A hold that has ended, or an own number that is not
// active any more, is a Conflict.
func (s *Messages) take(ctx context.Context, m Message) (at place, err error) {
	err = s.o.DB.InTx(ctx, []uuid.UUID{m.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if out, err := optedOut(ctx, tx, m.Sender, m.Recipient); err != nil || out {
			return cmp.Or(err, errOptedOut())
		}
		hold, err := s.o.Gates.SendIn(ctx, tx, wallet.Settlement{OrgID: m.OrgID, Hold: m.HoldID, Source: wallet.SourceMessage, Actor: audit.System("messages")})
		if err != nil {
			return err
		}
		if hold.Repeated {
			return errTaken
		}
		if m.NumberID.Valid {
			if _, err := Usable(ctx, tx, m.OrgID, m.NumberID.UUID); err != nil {
				return err
			}
		}
		if at, err = s.placeOf(ctx, tx, m); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE messages SET state = 'sending', asked_at = $2 WHERE id = $1 AND state = 'queued'`, m.ID, tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't mark the text as being sent: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(errTaken, err)
		}
		return nil
	})
	return at, err
}

// callbackURL is where Twilio tells how a text goes on. It names the text, since Twilio may tell before we have stored the
// name that Twilio gave it.
func (s *Messages) callbackURL(id uuid.UUID) string {
	return s.o.BaseURL + "/api/webhooks/twilio/status?message=" + id.String()
}

// news is what became of a text.
type news struct {
	state State
	// from is the only state that this can follow, where it is our own conclusion; empty for what Twilio says.
	from State
	sid  string
	code int
	note string
}

// newsOf is what Twilio's own record says.
func newsOf(m *api.ApiV2010Message) news {
	n := news{state: Sent}
	if m.Sid != nil {
		n.sid = *m.Sid
	}
	if m.ErrorCode != nil {
		n.code = *m.ErrorCode
	}
	if m.Status != nil {
		n.state = stateOf(*m.Status)
	}
	if n.state == Undelivered || n.state == Failed {
		n.note = sentence(n.code)
	}
	return n
}

// stateOf is Twilio's word for a state in ours (https://www.twilio.com/docs/messaging/api/message-resource#message-status-values).
func stateOf(status string) State {
	switch status {
	case "delivered", "read":
		return Delivered
	case "undelivered":
		return Undelivered
	case "failed", "canceled":
		return Failed
	}
	return Sent // accepted, scheduled, queued, sending, sent: Twilio has it
}

// settle brings a text to where the news say it is, with its money, in one transaction. It only ever moves on: news that are
// older than what is known, or come twice, change nothing, and moved is false.
func (s *Messages) settle(ctx context.Context, m Message, n news) (after Message, moved bool, err error) {
	run := func() error {
		return s.o.DB.InTx(ctx, []uuid.UUID{m.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			moved, err = s.settleIn(ctx, tx, m.OrgID, m.ID, n)
			if err != nil {
				return err
			}
			_, err = get(ctx, tx, &after, `WHERE m.org_id = $1 AND m.id = $2`, m.OrgID, m.ID)
			return err
		})
	}
	if err = run(); errors.Is(err, db.ErrCommitUnknown) {
		err = run()
	}
	if err != nil || !moved {
		return after, false, err
	}
	s.metrics.texts.WithLabelValues(string(after.State)).Inc()
	if n.code == codeOptedOut {
		// If this is lost, the next text is refused by Twilio with the same word.
		if err := s.optOut(ctx, after, "told by Twilio"); err != nil {
			s.o.Log.WarnContext(ctx, "an opt-out that Twilio told of could not be stored", "message", after.ID, "error", err)
		}
	}
	return after, true, nil
}

func (s *Messages) settleIn(ctx context.Context, tx *db.Tx, org, id uuid.UUID, n news) (moved bool, err error) {
	// The wallet's lock first, as everybody takes it; under it nobody else moves the text.
	if err := wallet.Lock(ctx, tx, org); err != nil {
		return false, err
	}
	var m Message
	if found, err := get(ctx, tx, &m, `WHERE m.org_id = $1 AND m.id = $2`, org, id); err != nil || !found {
		return false, err
	}
	if n.from != "" && m.State != n.from {
		return false, nil
	}
	if m.State.ended() || m.State == Sent && n.state == Sent || m.SID.Valid && n.sid != "" && m.SID.String != n.sid {
		return false, nil
	}
	var chargeUndelivered bool
	if err := tx.GetContext(ctx, &chargeUndelivered, `
		SELECT p.charge_undelivered FROM holds h JOIN prices p ON p.id = h.price_id WHERE h.id = $1`, m.HoldID); err != nil {
		return false, fmt.Errorf("couldn't read the text's price: %w", err)
	}
	amount, err := s.pay(ctx, tx, m, n, chargeUndelivered)
	if err != nil {
		return false, err
	}
	sid := sql.NullString{String: n.sid, Valid: n.sid != ""}
	if m.SID.Valid {
		sid = m.SID
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE messages SET state = $2, amount_pence = $3, sid = $4, error_code = $5, note = $6, sent_at = CASE WHEN $4::text IS NULL THEN sent_at ELSE coalesce(sent_at, $7) END,
		       ended_at = CASE WHEN $8::boolean THEN $7::timestamptz END,
		       cost_look_at = CASE WHEN $8::boolean AND $4::text IS NOT NULL THEN $7::timestamptz + $9::interval END WHERE id = $1`,
		m.ID, n.state, amount, sid, n.code, n.note, tx.Now, n.state.ended(), costFirst.String()); err != nil {
		return false, fmt.Errorf("couldn't store what became of the text: %w", err)
	}
	return true, audit.Record(ctx, tx, audit.Entry{
		OrgID: org, Actor: audit.System("messages"), Action: "message." + string(n.state), Subject: "message:" + id.String(),
		Detail: map[string]any{"sid": sid.String, "code": n.code, "amount_pence": int64(amount)},
	})
}

// pay takes or gives back a text's money by what became of it, and says what it has cost then. A text that Twilio has is
// paid for at once where undelivered ones are; elsewhere when it was delivered. One that was not sent at all is never paid
// for: what was taken already goes back.
func (s *Messages) pay(ctx context.Context, tx *db.Tx, m Message, n news, chargeUndelivered bool) (money.Pence, error) {
	settlement := wallet.Settlement{
		OrgID: m.OrgID, Hold: m.HoldID, Source: wallet.SourceMessage, Whole: true, Actor: audit.System("messages"),
		Description: fmt.Sprintf("Text to %s, %s", masked(m.Recipient), plural(m.Segments, "segment")),
	}
	due := n.state == Delivered || chargeUndelivered && (n.state == Sent || n.state == Undelivered)
	switch {
	case due && m.Amount > 0:
		return m.Amount, nil
	case due:
		h, err := s.o.Gates.CaptureIn(ctx, tx, settlement)
		return h.Amount, err
	case n.state == Sent: // it will show
		return 0, nil
	case m.Amount > 0:
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: m.OrgID, Kind: wallet.Adjustment, Amount: m.Amount, Reason: "Text to " + masked(m.Recipient) + " was not sent: given back",
			Reference: Reference(m.ID), Actor: audit.System("messages"),
		})
		return 0, err
	}
	_, err := s.o.Gates.VoidIn(ctx, tx, settlement)
	return 0, err
}

// Masked is what stays of a number, in any of the ways in which people write it, when that person is erased.
func Masked(number string) string {
	if n, err := wallet.ParseDestination(number); err == nil {
		number = n
	}
	return masked(number)
}

// masked is a phone number with its middle hidden: enough to know it again.
func masked(number string) string {
	if len(number) < 8 {
		return number
	}
	return number[:3] + strings.Repeat("•", len(number)-6) + number[len(number)-3:]
}

func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Story gives what was done with a text of the organisation's, oldest first; nothing for another's.
func (s *Messages) Story(ctx context.Context, org, id uuid.UUID) ([]Event, error) {
	return storyOf(ctx, s.o.DB, org, "message:"+id.String())
}

// Message gives one text of an organisation that went out; NotFound for another's.
func (s *Messages) Message(ctx context.Context, org, id uuid.UUID) (m Message, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		found, err := get(ctx, tx, &m, `WHERE m.org_id = $1 AND m.id = $2`, org, id)
		if err == nil && !found {
			return fault.New(fault.NotFound, "There is no such text.")
		}
		return err
	})
	return m, err
}

// PaidBy gives the text that a hold of the organisation's pays for; uuid.Nil where it pays for none.
func (s *Messages) PaidBy(ctx context.Context, org, hold uuid.UUID) (id uuid.UUID, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		err := tx.GetContext(ctx, &id, `SELECT id FROM messages WHERE hold_id = $2 AND org_id = $1`, org, hold)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("couldn't look for the text: %w", err)
	}
	return id, nil
}

// Reference is what a text's give-back stands under in the ledger.
func Reference(message uuid.UUID) string { return "message:" + message.String() }

// List gives an organisation's texts, newest first, those before the one with the id before (uuid.Nil: from the newest), at
// most limit of them.
func (s *Messages) List(ctx context.Context, org, before uuid.UUID, limit int) (list []Message, err error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		// Ids are made in the order of time.
		if err := tx.SelectContext(ctx, &list, `SELECT `+messageColumns+` FROM messages m WHERE m.org_id = $1 AND m.id < $2 ORDER BY m.id DESC LIMIT $3`,
			org, before, limit); err != nil {
			return fmt.Errorf("couldn't list the texts: %w", err)
		}
		return nil
	})
	return list, err
}
