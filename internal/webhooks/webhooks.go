// Package webhooks tells an organisation's own programs what happened, as the Standard Webhooks specification has it
// (https://www.standardwebhooks.com). What is to be told is written by the database in the transaction of what happened
// (db/migrations, docs/decisions/0031); this package keeps the endpoints and delivers.
package webhooks

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"code.dny.dev/ssrf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tink-crypto/tink-go/v2/tink"

	"ringfence/db"
)

// Type is what an event is about.
type Type string

// The types that an endpoint may choose; the schema knows the same ones.
const (
	WalletCredited   Type = "wallet.credited"
	WalletLow        Type = "wallet.low"
	TopUpFailed      Type = "top_up.failed"
	NumberActive     Type = "number.active"
	NumberReleased   Type = "number.released"
	CallEnded        Type = "call.ended"
	MessageReceived  Type = "message.received"
	MessageDelivered Type = "message.delivered"
	MessageFailed    Type = "message.failed"
)

// typeTest is what a test sends. It cannot be chosen: every endpoint takes it.
const typeTest Type = "webhook.test"

// Types are all that may be chosen, in the order in which people are asked.
var Types = []Type{WalletCredited, WalletLow, TopUpFailed, NumberActive, NumberReleased, CallEnded, MessageReceived, MessageDelivered, MessageFailed}

// About says in a few words what a type is about.
func (t Type) About() string {
	switch t {
	case WalletCredited:
		return "A top-up has arrived"
	case WalletLow:
		return "The balance has fallen below its mark"
	case TopUpFailed:
		return "A top-up has failed"
	case NumberActive:
		return "A phone number can be used"
	case NumberReleased:
		return "A phone number was given back"
	case CallEnded:
		return "A call has ended"
	case MessageReceived:
		return "A text has come in"
	case MessageDelivered:
		return "A text was delivered"
	case MessageFailed:
		return "A text could not be sent or delivered"
	case typeTest:
		return "A test"
	}
	return string(t)
}

// known reports whether an endpoint may choose the type.
func (t Type) known() bool { return slices.Contains(Types, t) }

// Options are what webhooks are made of.
type Options struct {
	DB  *db.DB
	Log *slog.Logger
	// Now is the clock by which an answer is timed and a signature dated. All other times are the database layer's.
	Now func() time.Time
	// Keyset seals the secrets of endpoints: one of Tink's, in binary form. The primary key seals, all of them open.
	Keyset []byte
	// AllowPrivate lets endpoints be at private and loopback addresses, and be plain http. For development.
	AllowPrivate bool
	// Timeout bounds one attempt, from the look-up of the name to the last byte that is read; zero means 15 seconds, the
	// least that the specification recommends.
	Timeout time.Duration
}

// Service keeps endpoints and delivers to them. It is safe for concurrent use.
type Service struct {
	o    Options
	aead tink.AEAD
	// primary is the id of the key that seals.
	primary uint32
	client  *http.Client

	sent    *prometheus.CounterVec
	waiting *prometheus.GaugeVec
}

// New makes the service. It talks to nobody yet.
func New(o Options) (*Service, error) {
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	s := &Service{
		o: o,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_webhook_attempts_total", Help: "Attempts to deliver to customers' endpoints, by what came of them: delivered, failed or given_up.",
		}, []string{"outcome"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ringfence_webhooks_waiting", Help: "Deliveries that are due and not in hand, when last looked: how many, and for how many seconds the oldest.",
		}, []string{"what"}),
	}
	var err error
	if s.aead, s.primary, err = newAEAD(o.Keyset); err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: o.Timeout}
	if !o.AllowPrivate {
		// It judges each address that is really dialled, after the name was looked up: nothing can change in between.
		dialer.Control = ssrf.New(ssrf.WithAnyPort()).Safe
	}
	s.client = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			Proxy:                  nil, // it would look names up where nothing judges them
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    o.Timeout,
			ResponseHeaderTimeout:  o.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // what is read is bounded as it comes
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Register has the attempts counted.
func (s *Service) Register(r prometheus.Registerer) { r.MustRegister(s.sent, s.waiting) }

// refused reports whether the address that a name led to is none that we connect to.
func refused(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrInvalidHostPort)
}
