package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	stripesdk "github.com/stripe/stripe-go/v76"
)

// stripeVersion is the API version that everything here is shaped by.
const stripeVersion = stripesdk.APIVersion

// Stripe is the stand-in for Stripe: one account in test mode.
//
// All state is in memory under one mutex and is written to the state file in the same transaction as the answer
// (and its idempotency record), before that answer is given.
type Stripe struct {
	base          string
	webhookURL    string
	webhookSecret string
	besideTwilio  bool // the overview names Twilio's page
	besideMail    bool // and that of mail
	settleAfter   time.Duration
	now           func() time.Time
	log           *slog.Logger
	store         *store
	life          context.Context // the sandbox's own life, which outlasts any request

	clock   *alarms // settlement and expiry
	courier *courier

	mu        sync.Mutex
	seq       uint64
	customers table[customer, *customer]
	sessions  table[session, *session]
	intents   table[paymentIntent, *paymentIntent]
	setups    table[setupIntent, *setupIntent]
	methods   table[paymentMethod, *paymentMethod]
	invoices  table[invoice, *invoice]
	taxIDs    table[taxID, *taxID]
	charges   table[charge, *charge]
	refunds   table[refund, *refund]
	disputes  table[dispute, *dispute]
	events    table[event, *event]
	endpoints table[webhookEndpoint, *webhookEndpoint]
	delivery  map[string]*delivery
	held      []heldEvent
	settings  settings

	idem     map[string]*idemRecord
	inFlight map[string]bool
	stats    IdempotencyStats

	faults faultList
}

// settings are the switches that outlive a restart.
type settings struct {
	WebhooksOff bool `json:"webhooks_off"`
}

// resource is one of Stripe's objects.
type resource[W any] interface {
	*W
	ref() (id string, created int64)
}

// row is an object with what the sandbox knows about it beyond Stripe's shape.
type row[W any] struct {
	// Seq is the order of creation over all objects; created alone has only seconds.
	Seq  uint64 `json:"seq"`
	Wire W      `json:"wire"`
	Own  own    `json:"own"`
}

// own is what is not on the wire.
type own struct {
	// Items and Intent are a session's line items and payment_intent_data, needed when it is paid.
	Items  []lineItem  `json:"items,omitempty"`
	Intent *intentData `json:"intent,omitempty"`
	// UpdateName and UpdateAddress say that the customer of a session takes over what the payer entered.
	UpdateName    bool `json:"update_name,omitempty"`
	UpdateAddress bool `json:"update_address,omitempty"`
	// URL is handed out in place of the checkout URL (fault bad_url).
	URL string `json:"url,omitempty"`
	// Session is the checkout session of a PaymentIntent, if it has one.
	Session string `json:"session,omitempty"`
	// SettleAt is when a processing PaymentIntent succeeds by itself, Unix nanoseconds; zero is never.
	SettleAt int64 `json:"settle_at,omitempty"`
	// Outcome is what happens when a payment method is charged: empty for success, else a card error code.
	Outcome string `json:"outcome,omitempty"`
	// Consumed says that a payment method was used without a customer, or detached: it can never be used again.
	Consumed bool `json:"consumed,omitempty"`
}

type table[W any, P resource[W]] struct {
	bucket string
	byID   map[string]*row[W]
	order  []*row[W] // by Seq, rising
}

func (t *table[W, P]) get(id string) *row[W] { return t.byID[id] }

// load reads the table from the state file and gives the highest Seq it saw.
func (t *table[W, P]) load(st *store, bucket string) (uint64, error) {
	t.bucket, t.byID = bucket, map[string]*row[W]{}
	err := st.load(bucket, func(key string, value []byte) error {
		r := &row[W]{}
		if err := json.Unmarshal(value, r); err != nil {
			return fmt.Errorf("sandbox: state of %s %s: %w", bucket, key, err)
		}
		t.byID[key] = r
		t.order = append(t.order, r)
		return nil
	})
	slices.SortFunc(t.order, func(a, b *row[W]) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	if n := len(t.order); n > 0 {
		return t.order[n-1].Seq, err
	}
	return 0, err
}

// add stores a new object.
func add[W any, P resource[W]](tx *txn, t *table[W, P], wire W, o own) *row[W] {
	tx.s.seq++
	r := &row[W]{Seq: tx.s.seq, Wire: wire, Own: o}
	id, _ := P(&r.Wire).ref()
	t.byID[id] = r
	t.order = append(t.order, r)
	save(tx, t, r)
	return r
}

// save notes that an object has changed.
func save[W any, P resource[W]](tx *txn, t *table[W, P], r *row[W]) {
	id, _ := P(&r.Wire).ref()
	tx.put(t.bucket, id, r)
}

// remove takes an object out.
func remove[W any, P resource[W]](tx *txn, t *table[W, P], r *row[W]) {
	id, _ := P(&r.Wire).ref()
	delete(t.byID, id)
	t.order = slices.DeleteFunc(t.order, func(o *row[W]) bool { return o == r })
	tx.remove(t.bucket, id)
}

// txn is one change of the state: made under the mutex, written to the file in one piece, then acted upon.
type txn struct {
	changes

	s       *Stripe
	request eventRequest
}

// created is the transaction's one idea of now, in Unix seconds.
func (tx *txn) created() int64 { return tx.now.Unix() }

// begin starts a change; the mutex must be held until finish has returned.
func (s *Stripe) begin() *txn { return &txn{changes: changes{store: s.store, now: s.now()}, s: s} }

// change runs fn as one change of the state, outside any API request. What fn changed
// before it erred is kept.
func (s *Stripe) change(fn func(tx *txn) error) error {
	s.mu.Lock()
	tx := s.begin()
	err := fn(tx)
	done := tx.finish()
	s.mu.Unlock()
	if e := done(); e != nil && err == nil {
		err = e
	}
	return err
}

const (
	bucketIdem     = "stripe.idempotency"
	bucketDelivery = "stripe.deliveries"
	bucketSettings = "stripe.settings"
	bucketStats    = "stripe.stats"
)

func newStripe(life context.Context, o Options, base string, st *store) (*Stripe, error) {
	s := &Stripe{
		base: base, webhookURL: o.WebhookURL, webhookSecret: o.WebhookSecret, settleAfter: o.SettleAfter,
		besideTwilio: o.TwilioAccountSID != "", besideMail: o.MailAddr != "",
		now: o.Now, log: o.Logger, store: st, life: life,
		clock:    newAlarms(o.Now),
		courier:  newCourier(o),
		delivery: map[string]*delivery{},
		idem:     map[string]*idemRecord{},
		inFlight: map[string]bool{},
	}
	s.faults.words = stripeFaults
	if err := s.load(); err != nil {
		return nil, err
	}
	s.resume()
	return s, nil
}

func (s *Stripe) load() error {
	for _, load := range []func() (uint64, error){
		func() (uint64, error) { return s.customers.load(s.store, "stripe.customers") },
		func() (uint64, error) { return s.sessions.load(s.store, "stripe.sessions") },
		func() (uint64, error) { return s.intents.load(s.store, "stripe.payment_intents") },
		func() (uint64, error) { return s.setups.load(s.store, "stripe.setup_intents") },
		func() (uint64, error) { return s.methods.load(s.store, "stripe.payment_methods") },
		func() (uint64, error) { return s.invoices.load(s.store, "stripe.invoices") },
		func() (uint64, error) { return s.taxIDs.load(s.store, "stripe.tax_ids") },
		func() (uint64, error) { return s.charges.load(s.store, "stripe.charges") },
		func() (uint64, error) { return s.refunds.load(s.store, "stripe.refunds") },
		func() (uint64, error) { return s.disputes.load(s.store, "stripe.disputes") },
		func() (uint64, error) { return s.events.load(s.store, "stripe.events") },
		func() (uint64, error) { return s.endpoints.load(s.store, "stripe.webhook_endpoints") },
	} {
		seq, err := load()
		if err != nil {
			return err
		}
		s.seq = max(s.seq, seq)
	}
	if err := loadMap(s.store, bucketDelivery, s.delivery); err != nil {
		return err
	}
	if err := loadMap(s.store, bucketIdem, s.idem); err != nil {
		return err
	}
	if err := loadOne(s.store, bucketSettings, &s.settings); err != nil {
		return err
	}
	return loadOne(s.store, bucketStats, &s.stats)
}

// resume drops what is too old and takes up what was under way when the state file was last closed.
func (s *Stripe) resume() {
	now := s.now()
	var stale []write
	for key, rec := range s.idem {
		if rec.expired(now) {
			delete(s.idem, key)
			stale = append(stale, write{bucket: bucketIdem, key: key})
		}
	}
	s.events.order = slices.DeleteFunc(s.events.order, func(r *row[event]) bool {
		id := r.Wire.ID
		if r.Wire.Created >= now.Add(-eventsKept).Unix() {
			return false
		}
		delete(s.events.byID, id)
		delete(s.delivery, id)
		stale = append(stale, write{bucket: s.events.bucket, key: id}, write{bucket: bucketDelivery, key: id})
		return true
	})
	if len(stale) > 0 {
		s.store.submit(stale)
	}
	for _, r := range s.events.order {
		if d := s.delivery[r.Wire.ID]; d != nil && d.State == deliveryPending {
			s.deliverAt(time.Unix(0, d.NextAt), r.Wire.ID)
		}
	}
	for _, r := range s.sessions.order {
		if r.Wire.Status == sessionOpen {
			s.expireAt(r.Wire.ID, r.Wire.ExpiresAt)
		}
	}
	for _, r := range s.intents.order {
		if r.Wire.Status == intentProcessing && r.Own.SettleAt != 0 {
			s.settleAt(r.Own.Session, r.Own.SettleAt)
		}
	}
}

// run delivers, settles and expires until ctx ends, then waits for the deliveries under way.
func (s *Stripe) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { s.clock.loop(ctx) })
	loops.Go(func() { s.courier.run(ctx) })
	loops.Wait()
}

func (s *Stripe) expireAt(sessionID string, at int64) {
	s.clock.at(time.Unix(at, 0), func(ctx context.Context) {
		err := s.change(func(tx *txn) error { return tx.expireIfOpen(sessionID) })
		s.logFailure(ctx, "expire", sessionID, err)
	})
}

func (s *Stripe) settleAt(sessionID string, at int64) {
	s.clock.at(time.Unix(0, at), func(ctx context.Context) {
		err := s.change(func(tx *txn) error { return tx.settleIfProcessing(sessionID) })
		s.logFailure(ctx, "settle", sessionID, err)
	})
}

func (s *Stripe) logFailure(ctx context.Context, what, id string, err error) {
	if err != nil {
		s.log.ErrorContext(ctx, "sandbox stripe: could not "+what, "id", id, "error", err)
	}
}

// mount puts Stripe's API, its hosted pages and its controls on the mux.
func (s *Stripe) mount(mux *http.ServeMux) {
	s.mountAPI(mux)
	s.mountCheckout(mux)
	s.mountControl(mux)
}
