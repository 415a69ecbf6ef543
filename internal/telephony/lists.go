package telephony

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/fault"
)

// lookMost is how many calls or texts one page looks at where only some of them fit, whatever is asked for. A test lowers it.
var lookMost = 20_000

// Page is a page of a list, newest first.
type Page[T any] struct {
	List []T
	// Older is where the next page begins: those before the one with this id. uuid.Nil at the end.
	Older uuid.UUID
	// Stopped says that looking stopped at Older before the page was full: there may be more that fits.
	Stopped bool
}

// pageCut makes a page of one row more than it has; floor is where looking stopped.
func pageCut[T any](list []T, limit int, floor uuid.NullUUID, id func(*T) uuid.UUID) Page[T] {
	p := Page[T]{List: list}
	switch {
	case len(list) > limit:
		p.List = list[:limit]
		p.Older = id(&p.List[limit-1])
	case floor.Valid:
		p.Older, p.Stopped = floor.UUID, true
	}
	return p
}

// Days are days of the calendar in UTC, both included; the zero time leaves that end open.
type Days struct{ From, To time.Time }

// check refuses days of which the last is before the first, with the field "to".
func (d Days) check() error {
	if !d.From.IsZero() && !d.To.IsZero() && d.To.Before(d.From) {
		return fault.Field("to", "The last day is before the first. Choose a later one.")
	}
	return nil
}

// bounds are the moments between which the days lie.
func (d Days) bounds() (from, until sql.NullTime) {
	if !d.From.IsZero() {
		from = sql.NullTime{Time: d.From, Valid: true}
	}
	if !d.To.IsZero() {
		until = sql.NullTime{Time: d.To.AddDate(0, 0, 1), Valid: true}
	}
	return from, until
}

// maxDigits is the longest part of a number that is looked for.
const maxDigits = 20

// digitsOf are the digits of a number, or of a part of one, by which it is looked for; Invalid with the field for anything else.
func digitsOf(field, typed string) (string, error) {
	typed = strings.TrimSpace(typed)
	wrong := !utf8.ValidString(typed)
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case !strings.ContainsRune(" +-().\u00a0", r):
			wrong = true
		}
		return -1
	}, typed)
	if wrong || typed != "" && (len(digits) < 3 || len(digits) > maxDigits) {
		return "", fault.Field(field, "Give a number, or at least 3 digits of it.")
	}
	return digits, nil
}

// CallFilter says which calls are asked for. The zero value asks for all.
type CallFilter struct {
	Direction Direction
	State     CallState
	// Agent called or answered; uuid.Nil: anybody.
	Agent uuid.UUID
	// Number is the other party's or the organisation's own, or at least three digits of it.
	Number string
	Days
}

// CallStates are all of them, in the order in which people see them.
var CallStates = []CallState{
	CallQueued, CallPlacing, CallUnknown, CallRinging, CallInProgress, CallEnding, CallCompleted, CallUnanswered, CallFailed, CallRefused,
}

// Check refuses what cannot be asked for, with the field "direction", "state", "number" or "to", and brings the number into its
// one form.
func (f *CallFilter) Check() (err error) {
	if f.Direction != "" && f.Direction != OutboundCall && f.Direction != InboundCall {
		return fault.Field("direction", "Choose outbound or inbound.")
	}
	if f.State != "" && !slices.Contains(CallStates, f.State) {
		return fault.Field("state", "Choose a state from the list.")
	}
	if f.Number, err = digitsOf("number", f.Number); err != nil {
		return err
	}
	return f.check()
}

// Find gives the calls of an organisation that fit, newest first: those before the one with the id before (uuid.Nil: from the
// newest), at most limit of them; what was said in them is not read. However many there are, the work is bounded: at most
// lookMost are looked at. The faults are Check's.
func (s *Calls) Find(ctx context.Context, org uuid.UUID, f CallFilter, before uuid.UUID, limit int) (p Page[Call], err error) {
	if err := f.Check(); err != nil {
		return p, err
	}
	if before == uuid.Nil {
		before = uuid.Max
	}
	from, until := f.bounds()
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		// Ids are made in the order of time.
		var floor uuid.NullUUID
		if f != (CallFilter{}) {
			err := tx.GetContext(ctx, &floor, `SELECT id FROM calls WHERE org_id = $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1`, org, before, lookMost)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("couldn't see how many calls there are: %w", err)
			}
		}
		var list []Call
		if err := tx.SelectContext(ctx, &list, `
			SELECT `+listedCallColumns+` FROM calls c
			WHERE c.org_id = $1 AND c.id < $2 AND c.id >= $3 AND ($4 = '' OR c.direction = $4) AND ($5 = '' OR c.state = $5) AND ($6::uuid IS NULL OR c.agent_id = $6)
			  AND ($7 = '' OR strpos(c.party, $7) > 0 OR strpos(c.our_number, $7) > 0)
			  AND ($8::timestamptz IS NULL OR c.created_at >= $8) AND ($9::timestamptz IS NULL OR c.created_at < $9)
			ORDER BY c.id DESC LIMIT $10`,
			org, before, floor.UUID, f.Direction, f.State, uuid.NullUUID{UUID: f.Agent, Valid: f.Agent != uuid.Nil}, f.Number, from, until, limit+1); err != nil {
			return fmt.Errorf("couldn't list the calls: %w", err)
		}
		p = pageCut(list, limit, floor, func(c *Call) uuid.UUID { return c.ID })
		return nil
	})
	return p, err
}

// Text is a text that went out or came in.
type Text struct {
	ID      uuid.UUID `db:"id"`
	OrgID   uuid.UUID `db:"org_id"`
	Inbound bool      `db:"inbound"`
	// Ours is the number on our side, Party the other one: masked once that person was erased.
	Ours     string        `db:"ours"`
	Party    string        `db:"party"`
	NumberID uuid.NullUUID `db:"number_id"`
	// Body is gone when ErasedAt is set.
	Body string `db:"body"`
	// Media is how many pictures or files came with it.
	Media int `db:"media"`
	// State is how far one that went out has come, and "received" for one that came in. Meaning is what that asked for: stop,
	// start, help or none.
	State   State  `db:"state"`
	Meaning string `db:"meaning"`
	// Encoding and Segments are how one that went out travels; of one that came in they are counted by its words.
	Encoding Encoding `db:"encoding"`
	Segments int64    `db:"segments"`
	// Message is the whole of one that went out; zero for one that came in.
	Message  Message    `db:"-"`
	At       time.Time  `db:"at"`
	ErasedAt *time.Time `db:"erased_at"`
	SID      string     `db:"sid"`
}

// Received is the state of a text that came in.
const Received State = "received"

// TextStates are all of them, in the order in which people see them.
var TextStates = []State{Queued, Sending, Sent, Delivered, Undelivered, Failed, Received}

// TextFilter says which texts are asked for. The zero value asks for all.
type TextFilter struct {
	Direction Direction
	State     State
	// Party is the other party's number, or at least three digits of it; Ours the number on our side, whole.
	Party, Ours string
	Days
	// With is the other party's number, exactly as it is stored; empty: everybody. It is what a conversation is found by.
	With string
}

// Check refuses what cannot be asked for, with the field "direction", "state", "party", "number" or "to", and brings the numbers
// into their one form.
func (f *TextFilter) Check() (err error) {
	if f.Direction != "" && f.Direction != OutboundCall && f.Direction != InboundCall {
		return fault.Field("direction", "Choose outbound or inbound.")
	}
	if f.State != "" && !slices.Contains(TextStates, f.State) {
		return fault.Field("state", "Choose a state from the list.")
	}
	if f.Party, err = digitsOf("party", f.Party); err != nil {
		return err
	}
	if f.Ours, err = digitsOf("number", f.Ours); err != nil {
		return err
	}
	return f.check()
}

// sentColumns and receivedColumns are the two sorts of texts in one form.
const (
	sentColumns = `m.id, m.org_id, false AS inbound, m.sender AS ours, m.recipient AS party, m.number_id, m.body, 0 AS media, m.state, '' AS meaning, m.encoding, m.segments,
		m.created_at AS at, m.erased_at, coalesce(m.sid, '') AS sid`
	receivedColumns = `i.id, i.org_id, true AS inbound, i.recipient AS ours, i.sender AS party, i.number_id, i.body, i.media, 'received' AS state, i.meaning, '' AS encoding, 0 AS segments,
		i.received_at AS at, i.erased_at, i.sid`
)

// Find gives the texts of an organisation that fit, those that went out and those that came in, newest first: those before the
// one with the id before (uuid.Nil: from the newest), at most limit of them. However many there are, the work is bounded: of
// each sort at most lookMost are looked at. The faults are Check's.
func (s *Messages) Find(ctx context.Context, org uuid.UUID, f TextFilter, before uuid.UUID, limit int) (p Page[Text], err error) {
	if err := f.Check(); err != nil {
		return p, err
	}
	if before == uuid.Nil {
		before = uuid.Max
	}
	from, until := f.bounds()
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		// Ids are made in the order of time, of both sorts. Looking stops at the younger of the two floors.
		var floor uuid.NullUUID
		if f != (TextFilter{}) {
			err := tx.GetContext(ctx, &floor, `
				SELECT id FROM (
				    (SELECT id FROM messages WHERE org_id = $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1) UNION ALL
				    (SELECT id FROM inbound_messages WHERE org_id = $1 AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1)) f
				ORDER BY id DESC LIMIT 1`, org, before, lookMost)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("couldn't see how many texts there are: %w", err)
			}
		}
		var list []Text
		if err := tx.SelectContext(ctx, &list, `
			SELECT t.id, t.org_id, t.inbound, t.ours, t.party, t.number_id, t.body, t.media, t.state, t.meaning, t.encoding, t.segments, t.at, t.erased_at, t.sid FROM (
			    (SELECT `+sentColumns+` FROM messages m
			     WHERE m.org_id = $1 AND m.id < $2 AND m.id >= $3 AND $4 IN ('', 'outbound') AND ($5 = '' OR m.state = $5)
			       AND ($6 = '' OR strpos(m.recipient, $6) > 0) AND ($7 = '' OR m.sender = '+' || $7) AND ($8 = '' OR m.recipient = $8)
			       AND ($9::timestamptz IS NULL OR m.created_at >= $9) AND ($10::timestamptz IS NULL OR m.created_at < $10)
			     ORDER BY m.id DESC LIMIT $11)
			    UNION ALL
			    (SELECT `+receivedColumns+` FROM inbound_messages i
			     WHERE i.org_id = $1 AND i.id < $2 AND i.id >= $3 AND $4 IN ('', 'inbound') AND $5 IN ('', 'received')
			       AND ($6 = '' OR strpos(i.sender, $6) > 0) AND ($7 = '' OR i.recipient = '+' || $7) AND ($8 = '' OR i.sender = $8)
			       AND ($9::timestamptz IS NULL OR i.received_at >= $9) AND ($10::timestamptz IS NULL OR i.received_at < $10)
			     ORDER BY i.id DESC LIMIT $11)) t
			ORDER BY t.id DESC LIMIT $11`,
			org, before, floor.UUID, f.Direction, f.State, f.Party, f.Ours, f.With, from, until, limit+1); err != nil {
			return fmt.Errorf("couldn't list the texts: %w", err)
		}
		p = pageCut(list, limit, floor, func(t *Text) uuid.UUID { return t.ID })
		return fillTexts(ctx, tx, org, p.List)
	})
	return p, err
}

// Text gives one text of an organisation, that went out or came in; NotFound for another's.
func (s *Messages) Text(ctx context.Context, org, id uuid.UUID) (t Text, err error) {
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var list []Text
		if err := tx.SelectContext(ctx, &list, `
			SELECT `+sentColumns+` FROM messages m WHERE m.org_id = $1 AND m.id = $2 UNION ALL
			SELECT `+receivedColumns+` FROM inbound_messages i WHERE i.org_id = $1 AND i.id = $2`, org, id); err != nil {
			return fmt.Errorf("couldn't read the text: %w", err)
		}
		if len(list) == 0 {
			return fault.New(fault.NotFound, "There is no such text.")
		}
		if err := fillTexts(ctx, tx, org, list); err != nil {
			return err
		}
		t = list[0]
		return nil
	})
	return t, err
}

// fillTexts adds what belongs to texts that went out, and counts the segments of those that came in.
func fillTexts(ctx context.Context, tx *db.Tx, org uuid.UUID, list []Text) error {
	var ids []uuid.UUID
	at := map[uuid.UUID]int{}
	for i := range list {
		if list[i].Inbound {
			n, encoding := Segments(list[i].Body)
			list[i].Segments, list[i].Encoding = int64(n), encoding
			continue
		}
		ids, at[list[i].ID] = append(ids, list[i].ID), i
	}
	if len(ids) == 0 {
		return nil
	}
	var sent []Message
	if err := tx.SelectContext(ctx, &sent, `SELECT `+messageColumns+` FROM messages m WHERE m.org_id = $1 AND m.id = ANY ($2)`, org, pq.Array(ids)); err != nil {
		return fmt.Errorf("couldn't read the texts that went out: %w", err)
	}
	for _, m := range sent {
		list[at[m.ID]].Message = m
	}
	return nil
}
