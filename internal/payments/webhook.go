package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
	"github.com/stripe/stripe-go/v76"

	"ringfence/db"
)

// What operators see of the way from Stripe to us: the webhook endpoint as Stripe has it, and what came by it.

const (
	// lookLimit bounds a question about the endpoint. Nobody's page waits longer for Stripe.
	lookLimit = 2 * time.Second
	// lookAgain is how long its answer is good for, lookSooner that of a question that was not answered.
	lookAgain, lookSooner = time.Minute, 10 * time.Second
	// successOver is what a success rate is of, trafficLimit how many events, the newest, it is at most of.
	successOver  = 24 * time.Hour
	trafficLimit = 5_000
)

// Webhook is how the way from Stripe to us stands.
type Webhook struct {
	// URL is the address that Stripe has to send to, Version the API version and Events the types that we understand.
	URL, Version string
	Events       []string
	// StandIn says that Stripe is one of development's, which delivers without an endpoint.
	StandIn bool
	// Endpoints are those at our address, oldest first, as of AskedAt. There are two while a secret is being replaced.
	Endpoints []Endpoint
	AskedAt   time.Time
	// Unanswered is why Stripe could not be asked, as a sentence for operators; empty when it was.
	Unanswered string

	Traffic Traffic

	// Refused is how many webhooks this process has refused by their signature since Since, and LastRefused when it last
	// did; the zero time when never. Other processes count their own.
	Refused     int64
	LastRefused time.Time
	Since       time.Time
}

// Traffic is what came by webhook in the last day.
type Traffic struct {
	// Received is how many events came; Capped says that there were more, and that these are the newest.
	Received int  `db:"received"`
	Capped   bool `db:"capped"`
	// Worked are those that did what they had to do, or for which there was nothing to do. The others wait, or stand before
	// an operator.
	Worked      int `db:"worked"`
	Waiting     int `db:"waiting"`
	Quarantined int `db:"quarantined"`
	Failed      int `db:"failed"`
	// Fetched are the events of that time that did not come by themselves.
	Fetched int `db:"fetched"`
	// Median and P99 are how long those that were worked had waited for it, to the millisecond.
	Median time.Duration `db:"-"`
	P99    time.Duration `db:"-"`
	// LastID, LastType and LastAt are the newest delivery, of whatever age; the zero time when there was none. It is
	// looked for among the newest events alone.
	LastID   string    `db:"last_id"`
	LastType string    `db:"last_type"`
	LastAt   time.Time `db:"-"`
}

// Missing are the types that we act on and that the endpoint does not send.
func (e Endpoint) Missing() []string {
	if slices.Contains(e.Events, "*") {
		return nil
	}
	return without(Events(), e.Events)
}

// Extra are the types that the endpoint sends and that nothing is done on.
func (e Endpoint) Extra() []string { return without(e.Events, Events()) }

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(t string) bool { return slices.Contains(some, t) })
}

// lookout remembers what Stripe said about our endpoint.
type lookout struct {
	endpoints *Endpoints
	standIn   bool

	mu    sync.Mutex // held while Stripe is asked: whoever comes meanwhile waits for the same answer
	asked time.Time
	list  []Endpoint
	why   string
}

// refusals counts webhooks that were refused by their signature.
type refusals struct {
	since time.Time
	count atomic.Int64
	last  atomic.Int64 // in microseconds since 1970
}

func (r *refusals) add(now time.Time) {
	r.count.Add(1)
	r.last.Store(now.UnixMicro())
}

// Webhook reads how the way from Stripe to us stands, for operators. Stripe is asked at most once a minute and for at most
// two seconds; that it did not answer is part of the answer.
func (s *Service) Webhook(ctx context.Context) (w Webhook, err error) {
	w = Webhook{
		URL: s.lookout.endpoints.URL(), Version: stripe.APIVersion, Events: Events(), StandIn: s.lookout.standIn,
		Refused: s.refused.count.Load(), Since: s.refused.since,
	}
	if at := s.refused.last.Load(); at != 0 {
		w.LastRefused = time.UnixMicro(at).UTC()
	}
	w.Endpoints, w.AskedAt, w.Unanswered = s.lookAtEndpoints(ctx)
	w.Traffic, err = s.traffic(ctx)
	return w, err
}

// lookAtEndpoints asks Stripe, or remembers what it said.
func (s *Service) lookAtEndpoints(ctx context.Context) (list []Endpoint, asked time.Time, why string) {
	l := &s.lookout
	l.mu.Lock()
	defer l.mu.Unlock()
	good := lookAgain
	if l.why != "" {
		good = lookSooner
	}
	if now := s.now(); l.asked.IsZero() || now.Sub(l.asked) >= good || now.Before(l.asked) {
		// A reader who goes away takes nothing from the others, who are given the same answer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
		defer cancel()
		list, err := l.endpoints.List(ctx)
		l.asked, l.list, l.why = s.now(), list, ""
		if err != nil {
			l.why = whyUnanswered(err)
			s.log.WarnContext(ctx, "Stripe did not say how the webhook endpoint stands", "error", err)
		}
	}
	return l.list, l.asked, l.why
}

// whyUnanswered says for operators why a question got no answer.
func whyUnanswered(err error) string {
	e, answered := errors.AsType[*stripe.Error](err)
	switch {
	case !answered && errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("Stripe did not answer within %d seconds.", lookLimit/time.Second)
	case !answered:
		return "Stripe could not be reached."
	case e.HTTPStatusCode == http.StatusUnauthorized || e.HTTPStatusCode == http.StatusForbidden:
		return "Stripe refused our key: it may not read webhook endpoints."
	default:
		return fmt.Sprintf("Stripe answered with status %d.", e.HTTPStatusCode)
	}
}

// traffic reads what came by webhook. It reads at most trafficLimit events of each state, along the index of the lists.
func (s *Service) traffic(ctx context.Context) (t Traffic, err error) {
	err = s.db.InSystemTx(ctx, "an operator's view of what came by webhook", func(ctx context.Context, tx *db.Tx) error {
		t = Traffic{}
		if err := planAnew(ctx, tx); err != nil {
			return err
		}
		var row struct {
			Traffic

			Median int64      `db:"median_ms"`
			P99    int64      `db:"p99_ms"`
			At     *time.Time `db:"last_at"`
		}
		if err := tx.GetContext(ctx, &row, `
			WITH newest AS MATERIALIZED (
			    SELECT e.* FROM unnest($1::text[]) s (state) CROSS JOIN LATERAL (
			        SELECT id, type, state, received_at, processed_at, fetched FROM stripe_events
			        WHERE state = s.state ORDER BY received_at DESC, id DESC LIMIT $2) e
			    ORDER BY e.received_at DESC, e.id DESC LIMIT $2),
			day AS (SELECT * FROM newest WHERE received_at > $3),
			last AS (SELECT id, type, received_at FROM newest WHERE NOT fetched ORDER BY received_at DESC, id DESC LIMIT 1)
			SELECT count(*) FILTER (WHERE NOT fetched) AS received,
			       count(*) = $2 AS capped,
			       count(*) FILTER (WHERE NOT fetched AND state IN ('processed', 'ignored')) AS worked,
			       count(*) FILTER (WHERE NOT fetched AND state = 'received') AS waiting,
			       count(*) FILTER (WHERE NOT fetched AND state = 'quarantined') AS quarantined,
			       count(*) FILTER (WHERE NOT fetched AND state = 'failed') AS failed,
			       count(*) FILTER (WHERE fetched) AS fetched,
			       coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY waited), 0) AS median_ms,
			       coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY waited), 0) AS p99_ms,
			       coalesce((SELECT id FROM last), '') AS last_id, coalesce((SELECT type FROM last), '') AS last_type, (SELECT received_at FROM last) AS last_at
			FROM day, LATERAL (SELECT CASE WHEN NOT fetched AND state IN ('processed', 'ignored') THEN
			         greatest(round(extract(epoch FROM processed_at - received_at) * 1000), 0)::bigint END AS waited) w`,
			pq.Array(EventStates()), trafficLimit, tx.Now.Add(-successOver)); err != nil {
			return fmt.Errorf("couldn't read what came by webhook: %w", err)
		}
		t = row.Traffic
		t.Median, t.P99 = time.Duration(row.Median)*time.Millisecond, time.Duration(row.P99)*time.Millisecond
		if row.At != nil {
			t.LastAt = *row.At
		}
		return nil
	})
	return t, err
}
