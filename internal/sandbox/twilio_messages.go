package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// sms is a message: a text that went out or came in.
type sms struct {
	Seq       uint64 `json:"seq"`
	SID       string `json:"sid"`
	Account   string `json:"account"`
	Direction string `json:"direction"`
	From      string `json:"from"`
	To        string `json:"to"`
	Body      string `json:"body"`
	Segments  int    `json:"segments"`
	Status    string `json:"status"`
	ErrorCode int    `json:"error_code,omitempty"`
	// Price is in hundred-thousandths of a US dollar; zero while it is not known.
	Price int64 `json:"price,omitempty"`
	// Times are Unix nanoseconds; zero is not yet, or never.
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
	Sent    int64 `json:"sent,omitempty"`
	// Expires is when a message that is still queued fails (ValidityPeriod).
	Expires int64 `json:"expires,omitempty"`
	// NextAt is when it takes its next step by itself.
	NextAt int64 `json:"next_at,omitempty"`
	// StatusCallback is whom its changes of status are told to.
	StatusCallback string `json:"status_callback,omitempty"`

	line
}

func (m *sms) sequence() uint64 { return m.Seq }
func (m *sms) id() string       { return m.SID }

// A message's direction.
const (
	directionInbound = "inbound"
	directionAPI     = "outbound-api"
	directionReply   = "outbound-reply"
)

// A message's status; see https://www.twilio.com/docs/messaging/api/message-resource#message-status-values.
const (
	smsQueued      = "queued"
	smsSending     = "sending"
	smsSent        = "sent"
	smsDelivered   = "delivered"
	smsUndelivered = "undelivered"
	smsFailed      = "failed"
	smsReceived    = "received"
)

// Numbers of the sandbox, valid UK mobile numbers all of them, to which a text does not get through.
const (
	// NumberUndelivered ends undelivered with error 30003 (unreachable handset).
	NumberUndelivered = "+447400000001"
	// NumberFailed ends failed with error 30008 (unknown error), without having been sent.
	NumberFailed = "+447400000002"
	// NumberSilent stays sent: no receipt ever comes, as with carriers that give none.
	NumberSilent = "+447400000003"
)

// What a segment costs, in hundred-thousandths of a US dollar: Twilio's list price in the United States.
const (
	priceOut = 790
	priceIn  = 750
)

// Words that Twilio takes for itself on United States long codes; see
// https://help.twilio.com/articles/223134027.
var (
	stopWords  = []string{"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
	startWords = []string{"START", "YES", "UNSTOP"}
)

// optOut is a recipient who wants no texts from a number.
type optOut struct {
	At int64 `json:"at"` // Unix nanoseconds
}

func optOutKey(account, number, recipient string) string {
	return account + "|" + number + "|" + recipient
}

// newSID makes an identifier as Twilio's are: two letters and 32 hexadecimal digits.
func newSID(prefix string) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails, by its documentation
	return prefix + hex.EncodeToString(raw[:])
}

// add stores a new message, which then goes its way.
func (t *Twilio) add(c *changes, m *sms) {
	t.seq++
	m.Seq = t.seq
	m.SID = newSID("SM")
	m.Segments = segments(m.Body)
	m.Created, m.Updated = c.now.UnixNano(), c.now.UnixNano()
	t.messages[m.SID] = m
	t.order = append(t.order, m)
	t.plan(c, m)
}

// final reports whether the status is a message's last one.
func final(status string) bool {
	return slices.Contains([]string{smsDelivered, smsUndelivered, smsFailed, smsReceived}, status)
}

// nextStep says what happens to a message next: another status, with an error code, or only its price ("").
// ok is false when nothing is left to happen.
func (m *sms) nextStep(now time.Time) (status string, code int, ok bool) {
	switch {
	case m.Status == smsQueued && m.Expires != 0 && now.UnixNano() >= m.Expires:
		return smsFailed, codeExpired, true
	case m.Status == smsQueued:
		return smsSending, 0, true
	case m.Status == smsSending && m.To == NumberFailed:
		return smsFailed, codeUnknown, true
	case m.Status == smsSending:
		return smsSent, 0, true
	case m.Status == smsSent && m.To == NumberUndelivered:
		return smsUndelivered, codeUnreachable, true
	case m.Status == smsSent && m.To != NumberSilent:
		return smsDelivered, 0, true
	default:
		return "", 0, m.Price == 0 && m.Status != smsFailed
	}
}

// due is when a message takes its next step by itself: sending a quarter of the pace after creation, sent after a
// half, its end after the whole, the price half a pace after that. Zero is never.
func (t *Twilio) due(m *sms, now time.Time) int64 {
	if _, _, ok := m.nextStep(now); !ok || t.pace < 0 {
		return 0
	}
	if m.Status == smsQueued || m.Status == smsSending {
		return now.Add(t.pace / 4).UnixNano()
	}
	return now.Add(t.pace / 2).UnixNano()
}

// plan saves a message that has changed and arranges what comes next for it.
func (t *Twilio) plan(c *changes, m *sms) {
	m.NextAt = t.due(m, c.now)
	c.put(bucketMessages, m.SID, m)
	c.then(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.stepAt(m)
		t.teller.callNext(m)
	})
}

// stepAt arranges a message's next step, if it has one. The mutex must be held.
func (t *Twilio) stepAt(m *sms) {
	if due := m.NextAt; due != 0 {
		t.clock.at(time.Unix(0, due), func(ctx context.Context) { t.step(ctx, m, due) })
	}
}

// step takes the step that was due, unless the message has been moved meanwhile. It does not wait for the state
// file: after a kill the step, and the callback with it, may come again.
func (t *Twilio) step(ctx context.Context, m *sms, due int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.NextAt != due {
		return
	}
	c := t.begin()
	t.move(c, m)
	done := c.finish()
	t.steps.Go(func() { t.logFailure(ctx, "write the step of", m.SID, done()) })
}

// move takes a message one step further; false when nothing is left to happen to it.
func (t *Twilio) move(c *changes, m *sms) bool {
	status, code, ok := m.nextStep(c.now)
	switch {
	case !ok:
		return false
	case status == "":
		m.Price = int64(m.Segments) * priceOut
		if m.Direction == directionInbound {
			m.Price = int64(m.Segments) * priceIn
		}
		m.Updated = c.now.UnixNano()
		t.plan(c, m)
	default:
		t.become(c, m, status, code)
	}
	return true
}

// become changes a message's status and has its callback told.
func (t *Twilio) become(c *changes, m *sms, status string, code int) {
	m.Status, m.ErrorCode, m.Updated = status, code, c.now.UnixNano()
	if status == smsSent {
		m.Sent = c.now.UnixNano()
	}
	t.tellStatus(c, m)
	t.plan(c, m)
}

// Advance takes a message one step further: to its next status or, at the end, to its price. It is what moves
// messages when the pace is negative. Errors: 20404 for an unknown message, a conflict when nothing is left to happen.
func (t *Twilio) Advance(sid string) error {
	return t.change(func(c *changes) error {
		m := t.messages[sid]
		switch {
		case m == nil:
			return notFound(sid)
		case !t.move(c, m):
			return conflict("Nothing is left to happen to this message.")
		default:
			return nil
		}
	})
}

// Mark ends a message that went out: delivered, undelivered or failed, the latter two with an error code (zero:
// 30003 and 30008). It goes through the statuses that lie between, each with its callback. Errors: 20404 for an
// unknown message, a conflict for one that came in or has ended.
func (t *Twilio) Mark(sid, status string, code int) error {
	return t.change(func(c *changes) error { return t.mark(c, sid, status, code) })
}

func (t *Twilio) mark(c *changes, sid, status string, code int) error {
	switch {
	case status == smsDelivered && code != 0:
		return invalid("", "code", "A delivered message has no error code.")
	case status == smsUndelivered && code == 0:
		code = codeUnreachable
	case status == smsFailed && code == 0:
		code = codeUnknown
	case status != smsDelivered && status != smsUndelivered && status != smsFailed:
		return invalid("", "status", "status must be delivered, undelivered or failed")
	}
	m := t.messages[sid]
	switch {
	case m == nil:
		return notFound(sid)
	case m.Direction == directionInbound:
		return conflict("This message came in.")
	case final(m.Status):
		return conflict("This message has ended: it is %s.", m.Status)
	}
	if m.Status == smsQueued {
		t.become(c, m, smsSending, 0)
	}
	if m.Status == smsSending && status != smsFailed {
		t.become(c, m, smsSent, 0)
	}
	t.become(c, m, status, code)
	return nil
}

// twilioMessage is the message resource; see
// https://www.twilio.com/docs/messaging/api/message-resource#message-properties.
type twilioMessage struct {
	AccountSID          string            `json:"account_sid"`
	APIVersion          string            `json:"api_version"`
	Body                string            `json:"body"`
	DateCreated         *string           `json:"date_created"`
	DateSent            *string           `json:"date_sent"`
	DateUpdated         *string           `json:"date_updated"`
	Direction           string            `json:"direction"`
	ErrorCode           *int              `json:"error_code"`
	ErrorMessage        *string           `json:"error_message"`
	From                string            `json:"from"`
	MessagingServiceSID *string           `json:"messaging_service_sid"`
	NumMedia            string            `json:"num_media"`
	NumSegments         string            `json:"num_segments"`
	Price               *string           `json:"price"`
	PriceUnit           string            `json:"price_unit"`
	SID                 string            `json:"sid"`
	Status              string            `json:"status"`
	SubresourceURIs     map[string]string `json:"subresource_uris"`
	To                  string            `json:"to"`
	URI                 string            `json:"uri"`
}

// view is the message as Twilio shows it.
func (m *sms) view() twilioMessage {
	path := "/" + twilioVersion + "/Accounts/" + m.Account + "/Messages/" + m.SID
	v := twilioMessage{
		AccountSID: m.Account, APIVersion: twilioVersion, Body: m.Body, Direction: m.Direction, From: m.From, To: m.To,
		DateCreated: rfc2822(m.Created), DateSent: rfc2822(m.Sent), DateUpdated: rfc2822(m.Updated),
		NumMedia: "0", NumSegments: strconv.Itoa(m.Segments), PriceUnit: "USD", SID: m.SID, Status: m.Status,
		SubresourceURIs: map[string]string{"media": path + "/Media.json"}, URI: path + ".json",
	}
	if m.Price != 0 {
		v.Price = new(m.priceText())
	}
	if m.ErrorCode != 0 {
		v.ErrorCode, v.ErrorMessage = new(m.ErrorCode), new(errorText(m.ErrorCode))
	}
	return v
}

func (m *sms) priceText() string { return priceText(m.Price) }

// priceText is a price as Twilio writes it: what is taken is negative, in dollars.
func priceText(hundredThousandths int64) string {
	if hundredThousandths == 0 {
		return "0.00000"
	}
	return fmt.Sprintf("-%d.%05d", hundredThousandths/100_000, hundredThousandths%100_000)
}

func errorText(code int) string {
	switch code {
	case codeUnreachable:
		return "Unreachable destination handset"
	case codeUnknown:
		return "Unknown error"
	case codeExpired:
		return "Validity Period Expired"
	default:
		return "Error " + strconv.Itoa(code)
	}
}

// rfc2822 is a time as Twilio writes it, in UTC and to the second; nil for zero.
func rfc2822(nanoseconds int64) *string {
	if nanoseconds == 0 {
		return nil
	}
	return new(time.Unix(0, nanoseconds).UTC().Format(time.RFC1123Z))
}

// The characters of the GSM 03.38 alphabet that take one septet, and those of its extension that take two.
const (
	gsmBasic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

// segments counts the parts a text is sent in: of 160 septets, or 153 when there are several; of 70 UTF-16 units, or
// 67, as soon as one character is not in the GSM alphabet. A character is never split over two parts.
// See https://www.twilio.com/docs/glossary/what-sms-character-limit.
func segments(body string) int {
	one, part, width := 160, 153, gsmWidth
	if strings.ContainsFunc(body, func(r rune) bool { return gsmWidth(r) == 0 }) {
		one, part, width = 70, 67, func(r rune) int { return max(1, utf16.RuneLen(r)) }
	}
	total, used, parts := 0, 0, 1
	for _, r := range body {
		w := width(r)
		total += w
		if used += w; used > part {
			parts, used = parts+1, w
		}
	}
	if total <= one {
		return 1
	}
	return parts
}

// gsmWidth is how many septets a character takes; zero when the GSM alphabet lacks it.
func gsmWidth(r rune) int {
	switch {
	case strings.ContainsRune(gsmBasic, r):
		return 1
	case strings.ContainsRune(gsmExtension, r):
		return 2
	default:
		return 0
	}
}
