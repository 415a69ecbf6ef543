package telephony

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Genuine reports whether Twilio signed a request to path (with its query) that carried these parameters
// (https://www.twilio.com/docs/usage/security#validating-requests), with the token of the account that it says it is from. The
// address that was signed is our configured one: whatever Host header the request came with proves nothing. An error says that
// it could not be found out.
func (s *Messages) Genuine(ctx context.Context, path string, form url.Values, signature string) (bool, error) {
	genuine, err := s.genuine(ctx, path, form, signature)
	if err == nil && !genuine {
		s.metrics.callbacks.WithLabelValues("bad_signature").Inc()
	}
	return genuine, err
}

func (s *Messages) genuine(ctx context.Context, path string, form url.Values, signature string) (bool, error) {
	if !s.On() || signature == "" {
		return false, nil
	}
	params := make(map[string]string, len(form))
	for name, values := range form {
		if len(values) != 1 {
			return false, nil // Twilio sends each once, and of two nobody could say which was signed
		}
		params[name] = values[0]
	}
	signed, err := s.validator(ctx, form)
	if err != nil || signed == nil {
		return false, err
	}
	return signed.Validate(s.o.BaseURL+path, params, signature), nil
}

// Status is what Twilio says of a text: by Twilio's name for it, in one of Twilio's words, with the number of what went wrong.
type Status struct{ SID, Status, ErrorCode, AccountSID string }

// StatusChanged takes Twilio's word on how a text goes on. It is safe to repeat and to come in any order. A text that we do
// not know is no error: it is nobody's here. Forbidden where an account speaks of a text that was not sent from it: who has a
// token of their own must not say what became of another's text, nor of what their own cost. So the word of a customer's own
// account only has Twilio asked.
//
// The text is named by the address that we gave Twilio for it, so nothing is lost that comes before the answer to our
// request was stored; and what never comes is asked for by the sweeper. So there is never a reason to have Twilio come
// again, which it does not do for a status anyway.
func (s *Messages) StatusChanged(ctx context.Context, message string, said Status) error {
	outcome, err := s.statusChanged(ctx, message, said)
	if err != nil {
		outcome = "failed"
	}
	s.metrics.callbacks.WithLabelValues(outcome).Inc()
	return err
}

func (s *Messages) statusChanged(ctx context.Context, message string, said Status) (outcome string, err error) {
	sid, status := said.SID, said.Status
	id, err := uuid.Parse(message)
	if err != nil || sid == "" {
		return "", fault.New(fault.Malformed, "This names no message.")
	}
	of, found, err := s.subjectOf(ctx, id)
	if err != nil {
		return "", err
	}
	if !found {
		s.o.Log.WarnContext(ctx, "Twilio speaks of a text that is not here", "message", id, "sid", sid, "status", status)
		return "unknown", nil
	}
	if !s.speaks(of, said.AccountSID) {
		s.o.Log.WarnContext(ctx, "an account speaks of a text that was not sent from it", "message", id, "account_sid", said.AccountSID)
		return "", fault.New(fault.Forbidden, "This account has no such text.")
	}
	org := of.OrgID
	if of.Kind.String == string(BYOC) {
		return s.askInstead(ctx, org, id)
	}
	n := news{state: stateOf(status), sid: sid}
	if number, err := strconv.Atoi(said.ErrorCode); err == nil {
		n.code = number
	}
	if n.state == Undelivered || n.state == Failed {
		n.note = sentence(n.code)
	}
	after, moved, err := s.settle(ctx, Message{ID: id, OrgID: org}, n)
	switch {
	case taken(err): // the sweeper took it for a text with the same words: between them both are paid for once
		s.o.Log.WarnContext(ctx, "Twilio's text was taken for another with the same words", "message", id, "sid", sid, "status", status)
		return "another", nil
	case err != nil:
		return "", err
	case moved:
		return "moved", nil
	case after.State == Failed && !after.SID.Valid && n.state != Failed:
		// The customer was told that it was not sent, and is not charged for it after all.
		s.o.Log.ErrorContext(ctx, "Twilio has sent a text that was given up", "message", id, "org_id", org, "sid", sid, "status", status)
		return "given_up", nil
	}
	return "known", nil
}

// askInstead asks Twilio about a text whose status somebody told who has the account's token. One whose name at Twilio is not
// stored yet is found by the sweeper.
func (s *Messages) askInstead(ctx context.Context, org, id uuid.UUID) (outcome string, err error) {
	m, err := s.Message(ctx, org, id)
	if err != nil || !m.SID.Valid || m.State != Sent {
		return "known", err
	}
	moved, err := s.askAbout(context.WithoutCancel(ctx), m)
	if moved {
		return "moved", err
	}
	return "known", err
}

// Inbound is a text that somebody sent to a number of ours.
type Inbound struct {
	SID, From, To, Body string
	// AccountSID is the account that the number is in; empty for ours.
	AccountSID string
	// Media is how many pictures or files came with it.
	Media int
}

// meaning is what a text to the sender asks for.
type meaning string

const (
	meansStop  meaning = "stop"
	meansStart meaning = "start"
	meansHelp  meaning = "help"
	meansNone  meaning = "none"
)

// meaningOf reads the words that networks and Twilio know, alone in a text
// (https://help.twilio.com/articles/223134027): case, spaces and punctuation around them do not matter.
func meaningOf(body string) (m meaning, word string) {
	around := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	word = strings.Join(strings.Fields(strings.ToUpper(strings.TrimFunc(body, around))), " ")
	switch word {
	case "STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "OPT OUT":
		return meansStop, word
	case "START", "YES", "UNSTOP":
		return meansStart, word
	case "HELP", "INFO":
		return meansHelp, word
	}
	return meansNone, ""
}

// Receive takes a text to a number of ours, and obeys words about not being texted from it. One to an organisation's own
// number is kept for the organisation. One to the sender that all share is nobody's, so of strangers' words and numbers nothing
// is kept. It gives the answer to send, or none. It is safe to repeat: a text counts once.
//
// For numbers of the United States Twilio answers those words itself, so there is nothing to say.
func (s *Messages) Receive(ctx context.Context, in Inbound) (reply string, err error) {
	if in.SID == "" || in.From == "" || in.To == "" {
		return "", fault.New(fault.Malformed, "This is no text.")
	}
	m, word := meaningOf(in.Body)
	who, own := "customers of Ringfence", in.AccountSID != "" && in.AccountSID != s.o.AccountSID
	switch {
	case own:
		var found bool
		if who, found, err = s.takeOwn(ctx, in, m, word); err == nil && !found {
			s.metrics.callbacks.WithLabelValues("unknown").Inc()
			s.o.Log.WarnContext(ctx, "a text came in to a number that is not here", "sid", in.SID, "account_sid", in.AccountSID)
			return "", nil
		}
	case m == meansStop, m == meansStart:
		err = s.obey(ctx, in, m, word)
	}
	outcome := "inbound_" + string(m)
	if err != nil {
		outcome = "failed"
	}
	s.metrics.callbacks.WithLabelValues(outcome).Inc()
	s.o.Log.InfoContext(ctx, "a text came in", "sid", in.SID, "meaning", m)
	if err != nil || strings.HasPrefix(in.To, "+1") {
		return "", err
	}
	switch m {
	case meansStop:
		return "You will not receive any more texts from this number. Text START to allow them again.", nil
	case meansStart:
		return "You can receive texts from this number again. Text STOP to end them.", nil
	case meansHelp:
		return "This number sends texts for " + who + ". Text STOP to end them.", nil
	case meansNone:
	}
	return "", nil
}

// obey notes what a person wishes, once for each text: a STOP that Twilio delivers again must not undo a later START, nor the
// other way round.
func (s *Messages) obey(ctx context.Context, in Inbound, m meaning, word string) error {
	return s.o.DB.InSystemTx(ctx, "a wish sent to the shared sender, which is nobody's", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			INSERT INTO inbound_texts (sid, sender, recipient, meaning, received_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (sid) DO NOTHING`,
			in.SID, in.From, in.To, m, tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't note the text: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if m == meansStart {
			return optInIn(ctx, tx, uuid.NullUUID{}, in.To, in.From, word)
		}
		return optOutIn(ctx, tx, uuid.NullUUID{}, in.To, in.From, word)
	})
}

// optedOut reports whether a person does not want texts from a sender.
func optedOut(ctx context.Context, tx *db.Tx, sender, recipient string) (out bool, err error) {
	if err := tx.GetContext(ctx, &out, `SELECT EXISTS (SELECT FROM opt_outs WHERE sender = $1 AND recipient = $2)`, sender, recipient); err != nil {
		return false, fmt.Errorf("couldn't look for an opt-out: %w", err)
	}
	return out, nil
}

// optOut notes that the person to whom a text was does not want texts from its sender.
func (s *Messages) optOut(ctx context.Context, m Message, word string) error {
	sender, recipient := m.Sender, m.Recipient
	if m.NumberID.Valid { // the organisation's own, and its alone
		return s.o.DB.InTx(ctx, []uuid.UUID{m.OrgID}, func(ctx context.Context, tx *db.Tx) error {
			return optOutIn(ctx, tx, uuid.NullUUID{UUID: m.OrgID, Valid: true}, sender, recipient, word)
		})
	}
	return s.o.DB.InSystemTx(ctx, "an opt-out from the sender that all share", func(ctx context.Context, tx *db.Tx) error {
		return optOutIn(ctx, tx, uuid.NullUUID{}, sender, recipient, word)
	})
}

// optOutIn notes that a person does not want texts from a sender: an organisation's own, or the one that all share.
func optOutIn(ctx context.Context, tx *db.Tx, org uuid.NullUUID, sender, recipient, word string) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO opt_outs (org_id, sender, recipient, word, since) VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT opt_outs_unique DO NOTHING`,
		org, sender, recipient, word, tx.Now)
	return changedOptOut(ctx, tx, res, err, org, "optout.added", sender, recipient, word)
}

func optInIn(ctx context.Context, tx *db.Tx, org uuid.NullUUID, sender, recipient, word string) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM opt_outs WHERE sender = $1 AND recipient = $2 AND org_id IS NOT DISTINCT FROM $3`, sender, recipient, org)
	return changedOptOut(ctx, tx, res, err, org, "optout.lifted", sender, recipient, word)
}

func changedOptOut(ctx context.Context, tx *db.Tx, res sql.Result, err error, org uuid.NullUUID, action, sender, recipient, word string) error {
	if err != nil {
		return fmt.Errorf("couldn't change an opt-out: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return audit.Record(ctx, tx, audit.Entry{
		OrgID: org.UUID, Actor: audit.System("messages"), Action: action, Subject: "number:" + recipient, Detail: map[string]any{"sender": sender, "word": word},
	})
}
