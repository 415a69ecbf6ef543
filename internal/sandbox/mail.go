package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mail is the stand-in for the world's mail servers: whatever is handed to it over SMTP is kept to be read here, and
// goes nowhere. Whoever gives a name and a password is admitted, and so is who gives none.
type Mail struct {
	now   func() time.Time
	log   *slog.Logger
	store *store
	life  context.Context // the sandbox's own life, which outlasts any connection

	addr     string       // where it listens; empty when something else has the address
	wanted   string       // where it was asked to listen
	listener net.Listener // nil with addr
	smtp     *smtp.Server

	mu    sync.Mutex
	seq   uint64
	order []*mailed // by Seq, rising

	faults faultList
}

// mailed is one message as it was handed over.
type mailed struct {
	Seq  uint64   `json:"seq"`
	At   int64    `json:"at"` // Unix nanoseconds
	From string   `json:"from"`
	To   []string `json:"to"`
	Raw  []byte   `json:"raw"`
}

const (
	bucketMail = "mail.messages"
	// mailKept is how many messages are kept, the newest.
	mailKept = 500
	// maxMail is how many bytes a message may have: enough for an invoice attached.
	maxMail = 1 << 20
	// maxRecipients is how many may be sent one message at once.
	maxRecipients = 50
	// mailPatience is how long a client may say nothing, or not listen.
	mailPatience = time.Minute
)

// newMail gives the stand-in, or nil when no address is set. An address that something else has is no error: the messages
// of earlier runs can be read all the same.
func newMail(ctx, life context.Context, o Options, st *store) (*Mail, error) {
	if o.MailAddr == "" {
		return nil, nil // there is no mail then, which is not an error
	}
	m := &Mail{now: o.Now, log: o.Logger, store: st, life: life, wanted: o.MailAddr, faults: faultList{words: mailFaults}}
	addr, err := loopback(o.MailAddr)
	if err != nil {
		return nil, fmt.Errorf("sandbox: MailAddr: %w", err)
	}
	if err := m.load(); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	m.listener, err = lc.Listen(ctx, "tcp", addr)
	if err != nil {
		m.log.WarnContext(ctx, "the sandbox takes no mail: its address cannot be had", "address", addr, "error", err)
		return m, nil
	}
	m.addr = m.listener.Addr().String()
	m.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &mailSession{mail: m, conn: c.Conn()}, nil
	}))
	m.smtp.Domain = "sandbox.localhost"
	m.smtp.MaxMessageBytes, m.smtp.MaxRecipients = maxMail, maxRecipients
	m.smtp.ReadTimeout, m.smtp.WriteTimeout = mailPatience, mailPatience
	m.smtp.AllowInsecureAuth = true // nothing leaves this machine
	m.smtp.EnableSMTPUTF8 = true
	m.smtp.ErrorLog = slog.NewLogLogger(m.log.Handler(), slog.LevelDebug)
	return m, nil
}

func (m *Mail) load() error {
	byKey := map[string]*mailed{}
	if err := loadMap(m.store, bucketMail, byKey); err != nil {
		return err
	}
	for _, one := range byKey {
		m.order = append(m.order, one)
		m.seq = max(m.seq, one.Seq)
	}
	slices.SortFunc(m.order, func(a, b *mailed) int { return cmp.Compare(a.Seq, b.Seq) })
	return nil
}

// run takes messages until ctx ends; a message that is under way then may be lost, and its sender is not told that it was
// taken.
func (m *Mail) run(ctx context.Context) {
	if m.listener == nil {
		return
	}
	stop := context.AfterFunc(ctx, func() {
		// Both, since the server knows the listener only once it serves. What they say is that it is over.
		_ = m.smtp.Close()
		_ = m.listener.Close()
	})
	defer stop()
	if err := m.smtp.Serve(m.listener); err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "sandbox mail stopped serving", "error", err)
	}
}

// Addr is where messages are taken, host:port; empty when something else has the address that was asked for.
func (m *Mail) Addr() string { return m.addr }

// SetFaults replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (m *Mail) SetFaults(rules ...Fault) error { return m.faults.set(rules) }

// Faults gives the rules still in force, with the strikes they have left.
func (m *Mail) Faults() []Fault { return m.faults.get() }

// keep stores a message and forgets the oldest beyond mailKept. It returns once the state file has it.
func (m *Mail) keep(one mailed) error {
	m.mu.Lock()
	c := changes{store: m.store, now: m.now()}
	m.seq++
	one.Seq, one.At = m.seq, c.now.UnixNano()
	m.order = append(m.order, &one)
	c.put(bucketMail, one.key(), &one)
	for len(m.order) > mailKept {
		c.remove(bucketMail, m.order[0].key())
		m.order = m.order[1:]
	}
	done := c.finish()
	m.mu.Unlock()
	return done()
}

func (m *mailed) key() string { return strconv.FormatUint(m.Seq, 10) }

// newestFirst gives the messages that somebody was sent; to everybody when to is empty.
func (m *Mail) newestFirst(to string) []*mailed {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*mailed
	for _, one := range slices.Backward(m.order) {
		if to == "" || slices.ContainsFunc(one.To, func(r string) bool { return strings.EqualFold(r, to) }) {
			out = append(out, one)
		}
	}
	return out
}

// mailSession is one connection of a client.
type mailSession struct {
	mail *Mail
	conn net.Conn
	from string
	to   []string
}

// AuthMechanisms offers what every client can.
func (*mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth admits anybody.
func (*mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, _, _ string) error { return nil }), nil
}

// Reset forgets what was begun.
func (s *mailSession) Reset() { s.from, s.to = "", nil }

// Logout has nothing to do: a session holds nothing.
func (*mailSession) Logout() error { return nil }

// Mail notes the sender.
func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt notes a recipient, unless a fault refuses it.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch s.mail.faults.strike(mailTarget+to, mailFaults.edge).Do {
	case Fault451:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Try again later (a fault of the sandbox)"}
	case Fault550:
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox (a fault of the sandbox)"}
	}
	s.to = append(s.to, to)
	return nil
}

var errHungUp = errors.New("sandbox: a fault cut the connection")

// Data keeps the message, or does what a fault of any of its recipients says. What it returns is what the client is told,
// unless the connection was cut.
func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r) // the server bounds it
	if err != nil {
		return err
	}
	var fault Fault
	for _, to := range s.to {
		if fault = s.mail.faults.strike(mailTarget+to, mailFaults.execution); fault.Do != "" {
			break
		}
	}
	if fault.Do == FaultDelay {
		// The client may give up meanwhile; the message is kept all the same.
		sleep(s.mail.life, fault.wait())
	}
	if fault.Do == FaultCut {
		return errors.Join(errHungUp, s.conn.Close())
	}
	if err := s.mail.keep(mailed{From: s.from, To: slices.Clone(s.to), Raw: raw}); err != nil {
		s.mail.log.ErrorContext(s.mail.life, "sandbox mail: could not keep a message", "error", err)
		return fmt.Errorf("the sandbox couldn't keep the message: %w", err)
	}
	if fault.Do == FaultCutAfterActing {
		return errors.Join(errHungUp, s.conn.Close())
	}
	return nil
}
