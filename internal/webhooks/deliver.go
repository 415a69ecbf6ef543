package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/notice"
)

const (
	// atOnce is how many deliveries a round takes in hand at a time, perEndpoint how many of them to one endpoint.
	atOnce, perEndpoint = 32, 4
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1024
	// disableAfter is for how long an endpoint may fail before it is switched off.
	disableAfter = 5 * 24 * time.Hour
	// maxPause is the longest that an endpoint may ask us to wait (Retry-After).
	maxPause = 24 * time.Hour
	// kept is for how long it can be looked up what was sent.
	kept = 30 * 24 * time.Hour
)

// pauses is the specification's schedule: what is waited after the first, second … attempt that failed. After the tenth
// attempt, three days on, it is given up.
var pauses = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// pause is what is waited after so many tries, a tenth more or less, so that not all come back at once; ok is false when
// there is no further one.
func pause(tries int) (d time.Duration, ok bool) {
	if tries > len(pauses) {
		return 0, false
	}
	d = pauses[tries-1]
	return d - d/10 + rand.N(d/5+1), true //nolint:gosec // spread, not a secret
}

// claimed is a delivery in hand.
type claimed struct {
	ID    uuid.UUID `db:"id"`
	OrgID uuid.UUID `db:"org_id"`
}

// Work delivers what is due until nothing is or ctx ends. It is safe to repeat and to run in several processes at once: no
// two deliver the same, and to one endpoint one round delivers at a time, so that a slow one does not hold the others up.
// Something may be delivered twice, when the process dies between the answer and our commit: with the same webhook-id.
func (s *Service) Work(ctx context.Context) error {
	for ctx.Err() == nil {
		list, err := s.claim(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return s.count(ctx)
		}
		errs := make([]error, len(list))
		var wg sync.WaitGroup
		for i, c := range list {
			wg.Go(func() { errs[i] = s.deliver(ctx, c) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// claim takes deliveries in hand.
func (s *Service) claim(ctx context.Context) (list []claimed, err error) {
	err = s.o.DB.InSystemTx(ctx, "webhooks that are due, of all organisations", func(ctx context.Context, tx *db.Tx) error {
		list = nil
		// Rounds choose one after the other, so that none chooses an endpoint that another has just chosen.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('webhook deliveries', 0))`); err != nil {
			return fmt.Errorf("couldn't lock the deliveries: %w", err)
		}
		if err := tx.SelectContext(ctx, &list, `
			WITH due AS (
				SELECT d.id, row_number() OVER (PARTITION BY d.endpoint_id ORDER BY d.next_attempt_at, d.id) AS nth FROM (
					SELECT id, endpoint_id, next_attempt_at FROM webhook_deliveries q
					WHERE state = 'queued' AND next_attempt_at <= $1
					AND NOT EXISTS (SELECT FROM webhook_deliveries b WHERE b.endpoint_id = q.endpoint_id AND b.state = 'queued' AND b.busy_until IS NOT NULL AND b.busy_until > $1)
					ORDER BY next_attempt_at LIMIT $3) d)
			UPDATE webhook_deliveries w SET busy_until = $2 FROM (SELECT id FROM due WHERE nth <= $4 LIMIT $5) c WHERE w.id = c.id
			RETURNING w.id, w.org_id`, tx.Now, tx.Now.Add(4*s.o.Timeout), 20*atOnce, perEndpoint, atOnce); err != nil {
			return fmt.Errorf("couldn't take webhooks in hand: %w", err)
		}
		return nil
	})
	return list, err
}

// message is what is sent, and where to.
type message struct {
	EndpointID uuid.UUID `db:"endpoint_id"`
	URL        string    `db:"url"`
	Sealed     []byte    `db:"sealed"`
	Old        []byte    `db:"old_sealed"`
	EventID    uuid.UUID `db:"event_id"`
	Type       Type      `db:"type"`
	Data       []byte    `db:"data"`
	HappenedAt time.Time `db:"happened_at"`
}

// id is the specification's webhook-id: the same for every attempt and endpoint, without a full stop.
func (m message) id() string { return "msg_" + strings.ReplaceAll(m.EventID.String(), "-", "") }

// body is the same bytes with every attempt.
func (m message) body() ([]byte, error) {
	b, err := json.Marshal(struct {
		Type      Type            `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{m.Type, m.HappenedAt.UTC(), m.Data})
	if err != nil {
		return nil, fmt.Errorf("couldn't write the message: %w", err)
	}
	return b, nil
}

const messageSQL = `
	SELECT e.id AS endpoint_id, e.url, e.sealed, CASE WHEN e.old_until > $3 THEN e.old_sealed END AS old_sealed,
	       v.id AS event_id, v.type, v.data, v.happened_at
	FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id JOIN webhook_events v ON v.id = d.event_id
	WHERE d.org_id = $1 AND d.id = $2`

// deliver makes one attempt and stores what came of it.
func (s *Service) deliver(ctx context.Context, c claimed) error {
	var m message
	gone := false
	err := s.o.DB.InReadTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		var list []message
		err := tx.SelectContext(ctx, &list, messageSQL+` AND d.state = 'queued' AND e.disabled_at IS NULL AND e.removed_at IS NULL`, c.OrgID, c.ID, tx.Now)
		if gone = len(list) == 0; !gone {
			m = list[0]
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("couldn't read what is to be delivered: %w", err)
	case gone: // switched off, removed or forgotten meanwhile
		return nil
	}
	a := s.send(ctx, c.OrgID, m)
	if ctx.Err() != nil && a.Status == 0 { // we were stopped, which is not the endpoint's fault: it is due again when the lease ends
		return nil
	}
	return s.settle(context.WithoutCancel(ctx), c, m.EndpointID, a)
}

// attempt is what came of one.
type attempt struct {
	Status int
	// Answer are the first bytes of what the endpoint said, Err is why there was no answer, as a sentence for people.
	Answer, Err string
	took        time.Duration
	pause       time.Duration // that the endpoint asked for
}

func (a attempt) good() bool { return a.Status >= 200 && a.Status <= 299 }

// send makes the request. It follows no redirect and reads little.
func (s *Service) send(ctx context.Context, org uuid.UUID, m message) (a attempt) {
	req, err := s.request(ctx, org, m)
	if err != nil {
		s.o.Log.ErrorContext(ctx, "a webhook could not be written", "endpoint", m.EndpointID, "event", m.EventID, "error", err)
		return attempt{Err: "We could not sign the message. Roll the endpoint's secret."}
	}
	began := s.o.Now()
	defer func() { a.took = s.o.Now().Sub(began) }()
	res, err := s.client.Do(req)
	if err != nil {
		return attempt{Err: why(err)}
	}
	defer func() { _ = res.Body.Close() }() // whatever is left of it is not read
	a = attempt{Status: res.StatusCode}
	read, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil && a.good() {
		a.Err = "The answer broke off, but its status counts."
	}
	a.Answer = strings.ReplaceAll(strings.ToValidUTF8(string(read), "\uFFFD"), "\x00", "\uFFFD")
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		a.pause = min(time.Duration(min(seconds, int(maxPause/time.Second)))*time.Second, maxPause)
	}
	return a
}

// request writes the message with its signatures: by the secret, and by the one before while that is being rolled.
func (s *Service) request(ctx context.Context, org uuid.UUID, m message) (*http.Request, error) {
	body, err := m.body()
	if err != nil {
		return nil, err
	}
	at := s.o.Now()
	var signatures []string
	for _, sealed := range [][]byte{m.Sealed, m.Old} {
		if sealed == nil {
			continue
		}
		secret, err := s.open(sealed, org, m.EndpointID)
		if err != nil {
			return nil, err
		}
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, errors.New("the secret cannot be read") // its error may repeat it
		}
		signature, err := signer.Sign(m.id(), at, body)
		if err != nil {
			return nil, fmt.Errorf("couldn't sign the message: %w", err)
		}
		signatures = append(signatures, signature)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("couldn't write the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Ringfence-Webhooks/1")
	req.Header.Set(standardwebhooks.HeaderWebhookID, m.id())
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return req, nil
}

// why tells people why there was no answer. The error itself may name addresses of ours.
func why(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case refused(err):
		return "The address leads to a private network, where we do not connect to."
	case errors.As(err, &dns):
		return "The name of the address could not be found."
	case errors.As(err, &timeout) && timeout.Timeout():
		return "There was no answer in time."
	case strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:"):
		return "The certificate or the encryption of the address is not right."
	}
	return "No connection could be made, or it broke off."
}

// settle stores what came of an attempt: when it is tried again, and whether the endpoint has failed for too long.
func (s *Service) settle(ctx context.Context, c claimed, endpoint uuid.UUID, a attempt) error {
	outcome, off := "", false
	err := s.o.DB.InTx(ctx, []uuid.UUID{c.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		r, err := find(ctx, tx, c.OrgID, endpoint, "FOR NO KEY UPDATE") // before the delivery, as whoever switches it off
		switch {
		case fault.Is(err, fault.NotFound): // removed meanwhile, and its deliveries ended
			return nil
		case err != nil:
			return err
		}
		var tries []int
		if err := tx.SelectContext(ctx, &tries, `
			UPDATE webhook_deliveries SET attempts = attempts + 1, tries = tries + 1, busy_until = NULL
			WHERE id = $1 AND org_id = $2 AND state = 'queued' RETURNING tries`, c.ID, c.OrgID); err != nil {
			return fmt.Errorf("couldn't count the attempt: %w", err)
		}
		if len(tries) == 0 {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO webhook_attempts (delivery_id, n, org_id, at, took_ms, status, answer, error)
			SELECT id, attempts, org_id, $2, $3, $4, $5, $6 FROM webhook_deliveries WHERE id = $1`,
			c.ID, tx.Now, a.took.Milliseconds(), a.Status, a.Answer, a.Err); err != nil {
			return fmt.Errorf("couldn't store the attempt: %w", err)
		}
		outcome = "failed"
		wait, more := pause(tries[0])
		switch {
		case a.good():
			outcome = "delivered"
			_, err = tx.ExecContext(ctx, `UPDATE webhook_deliveries SET state = 'delivered', ended_at = $2 WHERE id = $1`, c.ID, tx.Now)
		case !more:
			outcome = "given_up"
			_, err = tx.ExecContext(ctx, `UPDATE webhook_deliveries SET state = 'failed', ended_at = $2 WHERE id = $1`, c.ID, tx.Now)
		default:
			_, err = tx.ExecContext(ctx, `UPDATE webhook_deliveries SET next_attempt_at = $2 WHERE id = $1`, c.ID, tx.Now.Add(max(wait, a.pause)))
		}
		if err != nil {
			return fmt.Errorf("couldn't store what came of the delivery: %w", err)
		}
		off, err = judge(ctx, tx, c.OrgID, r, a)
		return err
	})
	if err != nil {
		return err
	}
	if outcome != "" {
		s.sent.WithLabelValues(outcome).Inc()
	}
	if off {
		s.o.Log.WarnContext(ctx, "a webhook endpoint was switched off", "org", c.OrgID, "endpoint", endpoint, "status", a.Status)
	}
	return nil
}

// judge keeps since when an endpoint fails, and switches it off when that is too long, or when it says that it is gone.
func judge(ctx context.Context, tx *db.Tx, org uuid.UUID, r row, a attempt) (off bool, err error) {
	if a.good() {
		if r.FailingSince.Valid {
			if _, err := tx.ExecContext(ctx, `UPDATE webhook_endpoints SET failing_since = NULL WHERE id = $1`, r.ID); err != nil {
				return false, fmt.Errorf("couldn't note that the endpoint is well: %w", err)
			}
		}
		return false, nil
	}
	var reason string
	switch {
	case r.DisabledAt.Valid:
		return false, nil
	case a.Status == http.StatusGone:
		reason = "It answered 410 Gone, which asks us to stop."
	case !r.FailingSince.Valid:
		if _, err := tx.ExecContext(ctx, `UPDATE webhook_endpoints SET failing_since = $2 WHERE id = $1`, r.ID, tx.Now); err != nil {
			return false, fmt.Errorf("couldn't note that the endpoint fails: %w", err)
		}
		return false, nil
	case tx.Now.Sub(r.FailingSince.Time) < disableAfter:
		return false, nil
	default:
		reason = "Nothing could be delivered to it for five days."
	}
	if _, err := tx.ExecContext(ctx, `UPDATE webhook_endpoints SET disabled_at = $2, disabled_why = $3, updated_at = $2 WHERE id = $1`, r.ID, tx.Now, reason); err != nil {
		return false, fmt.Errorf("couldn't switch the endpoint off: %w", err)
	}
	if err := endQueued(ctx, tx, r.ID); err != nil {
		return false, err
	}
	if err := notice.Raise(ctx, tx, notice.Notice{
		OrgID: org, Kind: notice.WebhookDisabled, Subject: r.ID.String() + ":" + strconv.FormatInt(tx.Now.Unix(), 10),
		Data: map[string]any{"url": r.URL, "reason": reason, "endpoint": r.ID.String()},
	}); err != nil {
		return false, err
	}
	return true, record(ctx, tx, org, r.ID, audit.System("webhooks"), "webhook.endpoint_disabled", map[string]any{"url": r.URL, "why": reason})
}

// count publishes how much is due.
func (s *Service) count(ctx context.Context) error {
	return s.o.DB.InSystemTx(ctx, "how many webhooks wait", func(ctx context.Context, tx *db.Tx) error {
		var is struct {
			Waiting int64      `db:"waiting"`
			Oldest  *time.Time `db:"oldest"`
		}
		if err := tx.GetContext(ctx, &is, `
			SELECT count(*) AS waiting, min(next_attempt_at) AS oldest FROM webhook_deliveries
			WHERE state = 'queued' AND next_attempt_at <= $1 AND (busy_until IS NULL OR busy_until <= $1)`, tx.Now); err != nil {
			return fmt.Errorf("couldn't count the webhooks that wait: %w", err)
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

// Sweep forgets what was sent 30 days ago and before, or as long ago as the organisation keeps what people said. It is safe
// to repeat and to run in several processes at once.
func (s *Service) Sweep(ctx context.Context) (removed int64, err error) {
	err = s.o.DB.InSystemTx(ctx, "webhooks of long ago", func(ctx context.Context, tx *db.Tx) error {
		res, err := tx.ExecContext(ctx, `
			DELETE FROM webhook_events WHERE id IN (
				SELECT v.id FROM webhook_events v LEFT JOIN retentions r ON r.org_id = v.org_id AND (v.type LIKE 'call.%' OR v.type LIKE 'message.%')
				WHERE v.happened_at <= $1 OR v.happened_at <= $2::timestamptz - make_interval(days => r.days) LIMIT 5000)`, tx.Now.Add(-kept), tx.Now)
		if err != nil {
			return fmt.Errorf("couldn't forget old webhooks: %w", err)
		}
		removed, err = res.RowsAffected()
		return err
	})
	return removed, err
}
