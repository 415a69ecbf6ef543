package notice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/wneessen/go-mail"

	"ringfence/db"
)

const (
	// addressAtOnce is how many notices are addressed in one transaction, sendAtOnce how many letters one connection takes.
	addressAtOnce, sendAtOnce = 1000, 20
	// lease is for how long a letter in hand is nobody else's.
	lease = 5 * time.Minute
	// giveUpAfter is how long a letter is tried.
	giveUpAfter = 48 * time.Hour
	// listedMost is how many notices one letter tells of; of more it says how many.
	listedMost = 10
)

// retryAfter is the pause after the n-th attempt.
func retryAfter(attempt int) time.Duration {
	pauses := []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 6 * time.Hour}
	return pauses[min(max(attempt, 1), len(pauses))-1]
}

// address decides who gets the new notices by mail. What was raised for one person and is of one kind makes one letter.
func (s *Service) address(ctx context.Context) error {
	for {
		var n int
		err := s.o.DB.InSystemTx(ctx, "whom to tell what happened", func(ctx context.Context, tx *db.Tx) error {
			if err := tx.ReadWidely(ctx); err != nil {
				return err
			}
			return tx.GetContext(ctx, &n, `
				WITH fresh AS (
					UPDATE notices SET addressed_at = $1 WHERE id IN (
						SELECT id FROM notices WHERE addressed_at IS NULL ORDER BY raised_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
					RETURNING id, org_id, kind),
				letters AS (
					INSERT INTO notice_mails (id, org_id, user_id, kind, notices, state, next_attempt_at, created_at)
					SELECT gen_random_uuid(), f.org_id, m.user_id, f.kind, array_agg(f.id ORDER BY f.id), 'queued', $1, $1
					FROM fresh f JOIN memberships m ON m.org_id = f.org_id JOIN users u ON u.id = m.user_id AND u.disabled_at IS NULL
					     LEFT JOIN notice_preferences p ON p.org_id = f.org_id AND p.user_id = m.user_id AND p.kind = f.kind
					WHERE $3 AND coalesce(p.mail, m.role = 'owner')
					GROUP BY f.org_id, m.user_id, f.kind)
				SELECT count(*) FROM fresh`, tx.Now, addressAtOnce, s.Mails())
		})
		if err != nil {
			return fmt.Errorf("couldn't address the notices: %w", err)
		}
		if n < addressAtOnce {
			return nil
		}
	}
}

// letter is mail to one person.
type letter struct {
	ID        uuid.UUID      `db:"id"`
	OrgID     uuid.UUID      `db:"org_id"`
	UserID    uuid.UUID      `db:"user_id"`
	Kind      Kind           `db:"kind"`
	About     pq.StringArray `db:"notices"`
	Attempts  int            `db:"attempts"`
	CreatedAt time.Time      `db:"created_at"`
	// Email is empty when they have left, were shut out, or do not want it any more.
	Email   string `db:"email"`
	OrgName string `db:"org_name"`

	told  []Words
	state string // what became of it
	cause string // why not
	// expires is set for a letter to one address alone: see Personal.
	expires time.Time
}

// personal reports whether the letter goes to one address, whoever that belongs to.
func (l *letter) personal() bool { return !l.expires.IsZero() }

// deliver sends the letters that are due, a connection's worth after the other, until none is or the time is up. A letter
// is sent twice only when this process dies between the server's word and our commit; both then have the same Message-ID.
func (s *Service) deliver(ctx context.Context) error {
	if !s.Mails() {
		return nil
	}
	for ctx.Err() == nil {
		letters, err := s.claimPersonal(ctx) // first: somebody waits for them
		if err != nil {
			return err
		}
		told, err := s.claim(ctx)
		if err != nil {
			return err
		}
		if letters = append(letters, told...); len(letters) == 0 {
			break
		}
		away := s.send(ctx, letters)
		if err := s.settle(context.WithoutCancel(ctx), letters); err != nil {
			return err
		}
		if away != nil {
			s.o.Log.WarnContext(ctx, "the mail server could not be used", "letters", len(letters), "error", away)
			break // the others need not try
		}
	}
	return s.count(ctx)
}

// claim takes letters in hand.
func (s *Service) claim(ctx context.Context) (letters []*letter, err error) {
	err = s.o.DB.InSystemTx(ctx, "letters that are due", func(ctx context.Context, tx *db.Tx) error {
		letters = nil
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &letters, `
			WITH mine AS (
				UPDATE notice_mails SET attempts = attempts + 1, next_attempt_at = $2 WHERE id IN (
					SELECT id FROM notice_mails WHERE state = 'queued' AND next_attempt_at <= $1
					ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
				RETURNING id, org_id, user_id, kind, notices, attempts, created_at)
			SELECT l.id, l.org_id, l.user_id, l.kind, l.notices, l.attempts, l.created_at, o.name AS org_name,
			       CASE WHEN m.role IS NOT NULL AND u.disabled_at IS NULL AND coalesce(p.mail, m.role = 'owner') THEN u.email ELSE '' END AS email
			FROM mine l JOIN organizations o ON o.id = l.org_id JOIN users u ON u.id = l.user_id
			     LEFT JOIN memberships m ON m.org_id = l.org_id AND m.user_id = l.user_id
			     LEFT JOIN notice_preferences p ON p.org_id = l.org_id AND p.user_id = l.user_id AND p.kind = l.kind
			ORDER BY l.created_at, l.id`, tx.Now, tx.Now.Add(lease), sendAtOnce); err != nil {
			return fmt.Errorf("couldn't take letters in hand: %w", err)
		}
		for _, l := range letters {
			if err := l.read(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	return letters, err
}

// read fills in the words.
func (l *letter) read(ctx context.Context, tx *db.Tx) error {
	var rows []row
	if err := tx.SelectContext(ctx, &rows, `SELECT id, kind, data, raised_at FROM notices WHERE id = ANY($1) ORDER BY id LIMIT $2`, l.About, listedMost); err != nil {
		return fmt.Errorf("couldn't read what letter %s is about: %w", l.ID, err)
	}
	for _, r := range rows {
		w, err := words(r.Kind, r.Data)
		if err != nil {
			return err
		}
		l.told = append(l.told, w)
	}
	return nil
}

// dial opens a connection to the mail server.
func (s *Service) dial(ctx context.Context) (*mail.Client, error) {
	client, err := mail.NewClient(s.host, s.mail...)
	if err != nil {
		return nil, fmt.Errorf("couldn't set up mail: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	if err := client.DialWithContext(ctx); err != nil {
		return nil, fmt.Errorf("couldn't reach the mail server: %w", err)
	}
	return client, nil
}

// send hands the letters over and notes what became of each. An error says that the server is of no use just now; the
// letters that it did not take are then to be tried again.
func (s *Service) send(ctx context.Context, letters []*letter) error {
	var wanted []*letter
	for _, l := range letters {
		if l.Email == "" || len(l.told) == 0 {
			l.state = "dropped"
			continue
		}
		wanted = append(wanted, l)
	}
	if len(wanted) == 0 {
		return nil
	}
	client, err := s.dial(ctx)
	if err != nil {
		for _, l := range wanted {
			l.cause = "The mail server could not be reached."
		}
		return err
	}
	for i, l := range wanted {
		msg, err := s.write(l)
		if err == nil {
			err = client.Send(msg)
		}
		refused, answered := errors.AsType[*mail.SendError](err)
		switch {
		case err == nil:
			l.state = "sent"
			continue
		case !answered:
			l.state, l.cause = "failed", "The letter could not be written."
			s.o.Log.ErrorContext(ctx, "a letter could not be written", "letter", l.ID, "error", err)
			continue
		case refused.ErrorCode() >= 500: // it will not be taken tomorrow either
			l.state, l.cause = "failed", fmt.Sprintf("The mail server refused it for good (%d).", refused.ErrorCode())
			continue
		case refused.ErrorCode() >= 400:
			l.cause = fmt.Sprintf("The mail server refused it for now (%d).", refused.ErrorCode())
			continue
		}
		// The line is dead.
		for _, l := range wanted[i:] {
			l.cause = "The mail server hung up."
		}
		return errors.Join(fmt.Errorf("couldn't hand a letter over: %w", err), ignoreClosed(client.Close()))
	}
	return ignoreClosed(client.Close())
}

// ignoreClosed passes over that a server which has taken everything does not say goodbye.
func ignoreClosed(error) error { return nil }

// settle stores what became of the letters.
func (s *Service) settle(ctx context.Context, letters []*letter) error {
	err := s.o.DB.InSystemTx(ctx, "what became of letters", func(ctx context.Context, tx *db.Tx) error {
		var id, state, cause []string
		var next []time.Time
		for _, l := range letters {
			again := tx.Now.Add(retryAfter(l.Attempts))
			if l.state == "" && (tx.Now.Sub(l.CreatedAt) >= giveUpAfter || l.personal() && !again.Before(l.expires)) {
				l.state = "failed"
			}
			id, cause, next = append(id, l.ID.String()), append(cause, l.cause), append(next, again)
			state = append(state, cmp.Or(l.state, "queued"))
		}
		// An id is in one of the two tables.
		for _, into := range []string{`notice_mails m SET`, `personal_letters m SET sealed_token = CASE WHEN u.state = 'queued' THEN sealed_token END,`} {
			if _, err := tx.ExecContext(ctx, `
				UPDATE `+into+` state = u.state, error = u.cause, next_attempt_at = u.next,
				       ended_at = CASE WHEN u.state = 'queued' THEN NULL ELSE $1::timestamptz END
				FROM unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) u (id, state, cause, next)
				WHERE m.id = u.id AND m.state = 'queued'`, tx.Now, pq.Array(id), pq.Array(state), pq.Array(cause), pq.Array(next)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("couldn't store what became of letters: %w", err)
	}
	for _, l := range letters {
		outcome, level := l.state, slog.LevelInfo
		switch l.state {
		case "":
			outcome, level = "retried", slog.LevelWarn
		case "failed":
			level = slog.LevelError
		}
		s.sent.WithLabelValues(outcome).Inc()
		s.o.Log.Log(ctx, level, "letter", "letter", l.ID, "org", l.OrgID, "user", l.UserID, "kind", l.Kind, "outcome", outcome, "attempt", l.Attempts, "cause", l.cause)
	}
	return nil
}

// count publishes how much mail waits.
func (s *Service) count(ctx context.Context) error {
	return s.o.DB.InSystemTx(ctx, "how much mail waits", func(ctx context.Context, tx *db.Tx) error {
		var is struct {
			Waiting int64      `db:"waiting"`
			Oldest  *time.Time `db:"oldest"`
		}
		if err := tx.GetContext(ctx, &is, `
			SELECT count(*) AS waiting, min(created_at) AS oldest FROM (
				SELECT created_at FROM notice_mails WHERE state = 'queued' UNION ALL SELECT created_at FROM personal_letters WHERE state = 'queued') w`); err != nil {
			return fmt.Errorf("couldn't count the letters that wait: %w", err)
		}
		age := 0.0
		if is.Oldest != nil {
			age = tx.Now.Sub(*is.Oldest).Seconds()
		}
		s.waiting.WithLabelValues("count").Set(float64(is.Waiting))
		s.waiting.WithLabelValues("oldest_seconds").Set(age)
		return nil
	})
}

// subject is the letter's first line in a mailbox.
func (l *letter) subject() string {
	if len(l.About) == 1 {
		return l.told[0].Title
	}
	return fmt.Sprintf("%s (%d times)", l.Kind.About(), len(l.About))
}

// unlisted is how many notices the letter only counts.
func (l *letter) unlisted() int { return len(l.About) - len(l.told) }
