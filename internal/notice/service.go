package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/wneessen/go-mail"

	"ringfence/db"
)

// Options are what notices are made of.
type Options struct {
	DB  *db.DB
	Log *slog.Logger
	// SMTPURL is where mail is handed over, smtp://[user:password@]host:port or smtps://…; empty means that notices are
	// kept and shown, and none is mailed.
	SMTPURL string
	// From is who mail comes from, as a From header has it.
	From string
	// BaseURL is ours, without a path: where the links in the mail lead.
	BaseURL string
	// OpenToken opens the token that a letter to one address carries, see [Personal]; nil where there are no such letters.
	OpenToken func(letter uuid.UUID, sealed []byte) (token string, err error)
	// Timeout bounds everything that is said to the mail server at one go; zero means 20 seconds.
	Timeout time.Duration
}

// Service tells people what happened. It is safe for concurrent use.
type Service struct {
	o    Options
	mail []mail.Option // nil: no mail
	host string

	sent    *prometheus.CounterVec
	waiting *prometheus.GaugeVec
}

// New makes the service. It talks to nobody yet.
func New(o Options) (*Service, error) {
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	s := &Service{
		o: o,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfence_notice_mails_total", Help: "Letters about notices, by what became of them: sent, retried, failed or dropped.",
		}, []string{"outcome"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ringfence_notice_mails_waiting", Help: "Letters that are not sent yet, when last looked: how many, and for how many seconds the oldest.",
		}, []string{"what"}),
	}
	if o.SMTPURL == "" {
		return s, nil
	}
	u, err := url.Parse(o.SMTPURL)
	if err != nil {
		return nil, errors.New("couldn't read the mail server's address") // its text may hold a password
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, fmt.Errorf("couldn't read the mail server's port: %w", err)
	}
	s.host = u.Hostname()
	s.mail = []mail.Option{mail.WithPort(port), mail.WithTimeout(o.Timeout)}
	password, login := u.User.Password()
	switch {
	case u.Scheme == "smtps":
		s.mail = append(s.mail, mail.WithSSL())
	case s.host == "127.0.0.1" || s.host == "::1" || s.host == "localhost":
		s.mail = append(s.mail, mail.WithTLSPolicy(mail.NoTLS))
	case login:
		s.mail = append(s.mail, mail.WithTLSPolicy(mail.TLSMandatory)) // a password is not said in the open
	default:
		s.mail = append(s.mail, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if login {
		s.mail = append(s.mail, mail.WithUsername(u.User.Username()), mail.WithPassword(password), mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover))
	}
	if _, err := mail.NewClient(s.host, s.mail...); err != nil {
		return nil, fmt.Errorf("couldn't set up mail: %w", err)
	}
	return s, nil
}

// Mails reports whether notices are mailed at all.
func (s *Service) Mails() bool { return s.mail != nil }

// Register has the letters counted.
func (s *Service) Register(r prometheus.Registerer) { r.MustRegister(s.sent, s.waiting) }

// Reach says whether the mail server answers and takes our name and password. It sends nothing.
func (s *Service) Reach(ctx context.Context) error {
	client, err := s.dial(ctx)
	if err != nil {
		return err
	}
	return client.Close()
}

// Work looks for what is to be told, decides who gets it by mail, and sends what is due. It is safe to repeat and to run in
// several processes at once.
func (s *Service) Work(ctx context.Context) error {
	return errors.Join(s.watchBalances(ctx), s.watchCredits(ctx), s.address(ctx), s.deliver(ctx))
}

// row is a notice as it is stored.
type row struct {
	ID       uuid.UUID `db:"id"`
	Kind     Kind      `db:"kind"`
	Data     []byte    `db:"data"`
	RaisedAt time.Time `db:"raised_at"`
}

// Told is a notice as people read it.
type Told struct {
	ID   uuid.UUID
	Kind Kind
	At   time.Time
	Words
}

// List gives the organisation's notices, newest first, older than the one given; uuid.Nil begins at the newest.
func (s *Service) List(ctx context.Context, org, before uuid.UUID, limit int) (list []Told, err error) {
	var rows []row
	err = s.o.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &rows, `
			SELECT id, kind, data, raised_at FROM notices WHERE org_id = $1 AND ($2 = $3::uuid OR id < $2)
			ORDER BY id DESC LIMIT $4`, org, before, uuid.Nil, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the notices: %w", err)
	}
	for _, r := range rows {
		w, err := words(r.Kind, r.Data)
		if err != nil {
			return nil, err
		}
		list = append(list, Told{ID: r.ID, Kind: r.Kind, At: r.RaisedAt, Words: w})
	}
	return list, nil
}
