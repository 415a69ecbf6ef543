package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const twilioControl = "/sandbox/twilio"

// mountControl serves what a developer or a test does to the stand-in, as opposed to what Twilio's API offers. A text
// comes in by the page's own handler: see mountPage.
func (t *Twilio) mountControl(mux *http.ServeMux) {
	handle := controls(mux, twilioControl, twilioControl+"/")
	handle("GET /books", func(*http.Request) (any, error) { return t.Books(), nil })
	controlFaults(handle, &t.faults)
	t.mountCalls(controls(mux, twilioControl, phonesPath))
	handle("POST /accounts/{sid}/rotate", func(r *http.Request) (any, error) {
		token, err := t.RotateToken(r.PathValue("sid"))
		return map[string]string{"sid": r.PathValue("sid"), "auth_token": token}, err
	})
	handle("GET /messages/{sid}/callbacks", func(r *http.Request) (any, error) {
		sid := r.PathValue("sid")
		if _, err := t.booked(sid); err != nil {
			return nil, err
		}
		return map[string]any{"callbacks": t.Callbacks(sid)}, nil
	})
	handle("POST /messages/{sid}/advance", func(r *http.Request) (any, error) {
		if err := t.Advance(r.PathValue("sid")); err != nil {
			return nil, err
		}
		return t.booked(r.PathValue("sid"))
	})
	handle("POST /messages/{sid}/mark", func(r *http.Request) (any, error) {
		code := 0
		if raw := r.FormValue("code"); raw != "" {
			var err error
			if code, err = strconv.Atoi(raw); err != nil || code < 1 {
				return nil, invalid("", "code", "Invalid error code: %s", raw)
			}
		}
		if err := t.Mark(r.PathValue("sid"), r.FormValue("status"), code); err != nil {
			return nil, err
		}
		return t.booked(r.PathValue("sid"))
	})
}

// mountCalls serves what a developer or a test does to calls, those through Vapi too, and what is waited for. Somebody
// calls in by the page's own handler: see mountPage.
func (t *Twilio) mountCalls(handle func(string, control)) {
	handle("GET /calls/{sid}/callbacks", func(r *http.Request) (any, error) {
		sid := r.PathValue("sid")
		if _, err := t.bookedCall(sid); err != nil {
			return nil, err
		}
		return map[string]any{"callbacks": t.Callbacks(sid)}, nil
	})
	for word, act := range map[string]func(string) error{"advance": t.AdvanceCall, "hang-up": t.HangUp} {
		handle("POST /calls/{sid}/"+word, func(r *http.Request) (any, error) {
			if err := act(r.PathValue("sid")); err != nil {
				return nil, err
			}
			return t.bookedCall(r.PathValue("sid"))
		})
	}
	for word, approve := range map[string]bool{"approve": true, "reject": false} {
		handle("POST /bundles/{sid}/"+word, func(r *http.Request) (any, error) {
			err := t.ReviewBundle(r.PathValue("sid"), approve)
			return map[string]string{"sid": r.PathValue("sid"), "review": word}, err
		})
	}
	scripts := func() any { return map[string]any{"scripts": t.Scripts()} }
	handle("GET /scripts", func(*http.Request) (any, error) { return scripts(), nil })
	handle("POST /scripts", func(r *http.Request) (any, error) {
		raw, err := readControl(r, "scripts")
		if err != nil {
			return nil, err
		}
		var in []CallScript
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
			raw = slices.Concat([]byte("["), raw, []byte("]"))
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err = dec.Decode(&in); err == nil {
			err = t.Script(in...)
		}
		if err != nil {
			return nil, invalid("", "scripts", "Invalid scripts: %s", err)
		}
		return scripts(), nil
	})
	handle("POST /caller-ids", func(r *http.Request) (any, error) {
		verified, err := t.TypeCode(strings.TrimSpace(r.FormValue("number")), r.FormValue("code"))
		return map[string]any{"verified": verified}, err
	})
}

// textIn is a text that somebody sends to the account: the fields from, to and body of a form, or of JSON.
type textIn struct {
	From string `json:"from"`
	To   string `json:"to"`
	Body string `json:"body"`
}

func readText(r *http.Request) (textIn, error) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return textIn{
			From: strings.TrimSpace(r.FormValue("from")), To: r.FormValue("to"),
			// A browser sends lines with both characters, a phone with one.
			Body: strings.ReplaceAll(r.FormValue("body"), "\r\n", "\n"),
		}, nil
	}
	var in textIn
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return in, invalid("", "", `The body must be {"from": "+44…", "to": "+1…", "body": "…"}.`)
	}
	return in, nil
}

// SetFaults replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (t *Twilio) SetFaults(rules ...Fault) error { return t.faults.set(rules) }

// Faults gives the rules still in force, with the strikes they have left.
func (t *Twilio) Faults() []Fault { return t.faults.get() }

// TwilioBooks are everything that the stand-in knows, for comparison with other books.
type TwilioBooks struct {
	// Accounts are the configured one and its subaccounts, in the order they were made.
	Accounts        []BookedAccount `json:"accounts"`
	AccountRequests Creations       `json:"account_requests"`
	// Numbers are those owned now and those released, in the order they were bought.
	Numbers   []BookedNumber `json:"numbers"`
	Purchases Creations      `json:"purchases"`
	// RentCents is what was taken in all for numbers, in US cents.
	RentCents int64 `json:"rent_cents"`
	// Messages are in the order they were made.
	Messages  []BookedMessage `json:"messages"`
	Creations Creations       `json:"creations"`
	// Calls are in the order they were made.
	Calls     []BookedCall `json:"calls"`
	CallsMade Creations    `json:"calls_made"`
	// Callers are numbers of somebody's own that accounts may call from, or asked to.
	Callers []BookedCaller `json:"callers"`
	// Undelivered counts the callbacks that have not been delivered: pending, failed or lost.
	Undelivered int `json:"undelivered"`
}

// BookedMessage is one message.
type BookedMessage struct {
	SID       string `json:"sid"`
	Account   string `json:"account"`
	Direction string `json:"direction"`
	From      string `json:"from"`
	To        string `json:"to"`
	Body      string `json:"body"`
	Status    string `json:"status"`
	ErrorCode int    `json:"error_code,omitempty"`
	Segments  int    `json:"segments"`
	// Price is as Twilio writes it, in US dollars and negative; empty while it is not known.
	Price string `json:"price"`
}

// Owned gives the numbers that an account owns now, in the order they were bought; with no account those of all.
func (b TwilioBooks) Owned(account string) []BookedNumber {
	var out []BookedNumber
	for _, n := range b.Numbers {
		if n.Released.IsZero() && (account == "" || n.Account == account) {
			out = append(out, n)
		}
	}
	return out
}

// Books lists everything afresh.
func (t *Twilio) Books() TwilioBooks {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := TwilioBooks{
		Accounts: []BookedAccount{}, AccountRequests: *t.creation(countAccounts), Numbers: []BookedNumber{},
		Purchases: *t.creation(countNumbers), Messages: make([]BookedMessage, 0, len(t.order)),
		Creations: *t.creation(countMessages), Calls: make([]BookedCall, 0, len(t.callOrder)),
		CallsMade: *t.creation(countCalls), Callers: []BookedCaller{},
	}
	for _, p := range t.callOrder {
		b.Calls = append(b.Calls, p.booked())
		b.Undelivered += p.undelivered()
	}
	for _, i := range t.callerOrder {
		b.Callers = append(b.Callers, i.booked())
		b.Undelivered += i.undelivered()
	}
	for _, a := range t.accountOrder {
		if t.theirs(a) {
			b.Accounts = append(b.Accounts, BookedAccount{
				SID: a.SID, FriendlyName: a.FriendlyName, Status: a.Status, Created: time.Unix(0, a.Created).UTC(),
				Numbers: len(t.numbersOf(a.SID)),
			})
		}
	}
	for _, n := range t.numberOrder {
		booked := t.bookedNumber(n)
		b.Numbers = append(b.Numbers, booked)
		b.RentCents += booked.RentCents
	}
	for _, m := range t.order {
		b.Messages = append(b.Messages, m.booked())
		b.Undelivered += m.undelivered()
	}
	return b
}

func (m *sms) booked() BookedMessage {
	b := BookedMessage{
		SID: m.SID, Account: m.Account, Direction: m.Direction, From: m.From, To: m.To, Body: m.Body, Status: m.Status,
		ErrorCode: m.ErrorCode, Segments: m.Segments,
	}
	if m.Price != 0 {
		b.Price = m.priceText()
	}
	return b
}

// booked gives one message as the books show it, or 20404.
func (t *Twilio) booked(sid string) (BookedMessage, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.messages[sid]
	if m == nil {
		return BookedMessage{}, notFound(sid)
	}
	return m.booked(), nil
}

// String sums the books up in a line, for test failures.
func (b TwilioBooks) String() string {
	counts := map[string]int{}
	for _, m := range b.Messages {
		counts[m.Direction+" "+m.Status]++
	}
	parts := make([]string, 0, len(counts))
	for what, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, what))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d numbers owned of %d, %d messages (%s), %d asked for and %d made, %d undelivered callbacks",
		len(b.Owned("")), len(b.Numbers), len(b.Messages), strings.Join(parts, ", "), b.Creations.Asked, b.Creations.Made, b.Undelivered)
}
