// Package payments turns Stripe's money into wallet credits: top-ups through Checkout, and events into credits.
//
// Two promises shape it. What Stripe was told "200" about is stored, with the job that will work it, in one committed
// transaction ([Service.Accept]). And a payment is credited exactly once, whatever order, number or time its events come
// in ([Service.Process]): whether to credit never depends on a top-up's state, only on the payment's own row and key.
//
// Lock order, everywhere in this package: events, top-ups, payments, parts of withdrawals, wallets, each in ascending order of its key.
package payments

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"ringfence/db"
	"ringfence/internal/batch"
	"ringfence/internal/money"
)

// JobInserter adds a job in a transaction; River's client is one.
type JobInserter interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Options are what the service needs from outside. All of them are required unless they say otherwise.
type Options struct {
	DB   *db.DB
	Jobs JobInserter
	Log  *slog.Logger
	// Now is the clock against which signatures are dated.
	Now func() time.Time

	// StripeKey is the secret API key; a live key makes the service credit live events only, and the other way round.
	StripeKey string
	// StripeBase is the address of Stripe's API, without a path.
	StripeBase string
	// Transport is the way to Stripe; nil means Go's own.
	Transport http.RoundTripper
	// WebhookSecrets are tried in turn: during a roll the old and the new one both hold. None may be empty.
	WebhookSecrets []string
	// CheckoutOrigins are the only places a browser is sent to, such as "https://checkout.stripe.com".
	CheckoutOrigins []string
	// DocumentOrigins are the only places that links to invoices and receipts lead to; none means that there are no links.
	DocumentOrigins []string
	// BaseURL is ours, without a path: where Checkout sends the customer back to.
	BaseURL string
	// Min and Max bound one top-up, in pence.
	Min, Max money.Pence
	// FreezeOnDispute has an open dispute freeze its organisation's wallet.
	FreezeOnDispute bool
	// CollectVATNumber has Stripe's page ask businesses for their VAT number.
	CollectVATNumber bool
	// MayClose says, as a Conflict, what else of an organisation goes on that its account cannot be closed with. It is asked
	// with the wallet's lock held, in the transaction that closes. It may be nil.
	MayClose func(ctx context.Context, tx *db.Tx, org uuid.UUID) error
	// Metrics may be nil.
	Metrics *Metrics
}

// Service is the payments part of the program. It is safe for concurrent use.
type Service struct {
	db       *db.DB
	jobs     JobInserter
	log      *slog.Logger
	now      func() time.Time
	stripe   *client.API
	livemode bool
	secrets  []string
	origins  []string
	baseURL  string
	min, max money.Pence
	metrics  *Metrics
	inbox    *batch.Group[received, bool] // events to be stored; the answer is whether it was there before
	fresh    hints
	outbox   *batch.Group[EventBatch, []string] // stored events to be worked; the answer is those for which Stripe has to be asked
	freezing bool

	documents  []string // the origins of invoices and receipts
	collectVAT bool
	mayClose   func(ctx context.Context, tx *db.Tx, org uuid.UUID) error
	lookout    lookout
	refused    refusals
}

// New makes the service. It refuses what would make signatures or redirects meaningless.
func New(o Options) (*Service, error) {
	var faults []error
	if len(o.WebhookSecrets) == 0 {
		faults = append(faults, errors.New("no Stripe webhook secret: every event could be forged"))
	}
	for _, secret := range o.WebhookSecrets {
		if secret == "" {
			faults = append(faults, errors.New("an empty Stripe webhook secret verifies everything"))
		}
	}
	if len(o.CheckoutOrigins) == 0 {
		faults = append(faults, errors.New("no checkout origin: nobody could pay"))
	}
	if o.Min <= 0 || o.Max < o.Min {
		faults = append(faults, errors.New("the limits of a top-up must be positive and in order"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	s := &Service{
		db: o.DB, jobs: o.Jobs, log: o.Log, now: o.Now,
		stripe:   newStripe(o.StripeKey, o.StripeBase, o.Transport),
		livemode: strings.HasPrefix(o.StripeKey, "sk_live_") || strings.HasPrefix(o.StripeKey, "rk_live_"),
		secrets:  o.WebhookSecrets, origins: o.CheckoutOrigins, baseURL: o.BaseURL,
		min: o.Min, max: o.Max, metrics: o.Metrics, freezing: o.FreezeOnDispute,
		documents: o.DocumentOrigins, collectVAT: o.CollectVATNumber, mayClose: o.MayClose,
	}
	if s.mayClose == nil {
		s.mayClose = func(context.Context, *db.Tx, uuid.UUID) error { return nil }
	}
	s.lookout.endpoints = &Endpoints{stripe: s.stripe, url: o.BaseURL + WebhookPath}
	s.lookout.standIn = !strings.HasPrefix(o.StripeBase, "https://") // production insists on it
	s.refused.since = o.Now().UTC()
	s.inbox = &batch.Group[received, bool]{
		Run: s.commit, Most: batchBytes, Waiting: maxWaiting,
		Weight: func(e received) int { return max(len(e.payload), minEventBytes) },
	}
	s.outbox = &batch.Group[EventBatch, []string]{
		Run: s.processAll, Most: workBatch, Waiting: maxWaiting,
		Weight: func(job EventBatch) int { return len(job.IDs) + len(job.Strays) },
	}
	return s, nil
}

// Limits are the smallest and the largest top-up, in pence.
func (s *Service) Limits() (smallest, largest money.Pence) { return s.min, s.max }

// newStripe makes a client of our own, beside the package's globals, that cannot hang a page: one try takes at most ten
// seconds, and the library repeats it once, under the same idempotency key, where that is safe.
func newStripe(key, base string, way http.RoundTripper) *client.API {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: new(base),
		HTTPClient: &http.Client{
			Timeout:   10 * time.Second,
			Transport: way,
			// Stripe's API does not redirect; whoever would must not get the key.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull}, // errors come back to us and are logged once
		MaxNetworkRetries: stripe.Int64(1),
		EnableTelemetry:   new(false),
	})
	return client.New(key, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
}
