package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Twilio is the stand-in for Twilio: one account and its subaccounts, with their numbers, messages and calls
// (https://www.twilio.com/docs/iam/api, https://www.twilio.com/docs/phone-numbers/api,
// https://www.twilio.com/docs/messaging/api, https://www.twilio.com/docs/voice/api).
//
// All state is in memory under one mutex and is written to the state file before the answer is given. Twilio has no
// idempotency keys, so a request that is repeated is a second message, here as there.
type Twilio struct {
	keeper

	account string
	token   string
	smsURL  string
	given   []string         // the numbers of Options
	second  time.Duration    // how long one of a call's seconds takes; negative: it moves by hand
	onCall  func(sid string) // is told of each step of a call; set before anything runs, called without the mutex
	pace    time.Duration    // from creation to the end of a message; negative: it moves by hand
	log     *slog.Logger
	life    context.Context // the sandbox's own life, which outlasts any request

	clock   *alarms // the messages' next steps
	courier *courier
	teller  *teller
	steps   sync.WaitGroup // steps whose writing is awaited

	seq          uint64                    // of everything; each order below is by it, rising
	accounts     map[string]*twilioAccount // by SID, like every map but owned
	accountOrder []*twilioAccount
	numbers      map[string]*phoneNumber
	numberOrder  []*phoneNumber
	owned        map[string]*phoneNumber // by number: those not released
	stock        map[string][]string     // by country, kind and area
	addresses    map[string]*postalAddress
	addressOrder []*postalAddress
	bundles      map[string]*bundle
	bundleOrder  []*bundle
	calls        map[string]*phoneCall
	callOrder    []*phoneCall
	scripts      []CallScript
	callerIDs    map[string]*callerID
	callerOrder  []*callerID
	messages     map[string]*sms
	order        []*sms
	optOuts      map[string]*optOut
	creations    map[string]*Creations // by what is made

	faults faultList
}

// Creations counts requests to make something that were admitted.
type Creations struct {
	// Asked counts the requests, whatever became of them.
	Asked int64 `json:"asked"`
	// Made counts those that made it, whatever was answered. Buying a number that one owns makes nothing.
	Made int64 `json:"made"`
}

const (
	bucketMessages  = "twilio.messages"
	bucketOptOuts   = "twilio.opt_outs"
	bucketCreations = "twilio.creations"
	bucketAccounts  = "twilio.accounts"
	bucketNumbers   = "twilio.numbers"
	bucketAddresses = "twilio.addresses"
	bucketBundles   = "twilio.bundles"
	bucketCalls     = "twilio.calls"
	bucketCallers   = "twilio.caller_ids"

	twilioVersion  = "2010-04-01"
	twilioSettling = time.Second
	// twilioNumber is the number that Twilio's test credentials can send from.
	twilioNumber = "+15005550006"
)

var (
	accountSID = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	// Twilio's client refuses other tokens before it sends anything.
	authToken = regexp.MustCompile(`^[0-9A-Za-z]+$`)
	e164      = regexp.MustCompile(`^\+[1-9][0-9]{7,14}$`)
)

// newTwilio gives the stand-in, or nil when no account is set.
func newTwilio(life context.Context, o Options, st *store) (*Twilio, error) {
	if o.TwilioAccountSID == "" {
		return nil, nil // there is no Twilio then, which is not an error
	}
	t := &Twilio{
		account: o.TwilioAccountSID, token: o.TwilioAuthToken, smsURL: o.TwilioSMSURL, given: slices.Clone(o.TwilioNumbers),
		pace: o.TwilioSettleAfter, second: o.CallSecond, log: o.Logger, life: life, keeper: keeper{store: st, now: o.Now},
		clock:    newAlarms(o.Now),
		courier:  newCourier(o),
		messages: map[string]*sms{}, optOuts: map[string]*optOut{}, creations: map[string]*Creations{},
		accounts: map[string]*twilioAccount{}, numbers: map[string]*phoneNumber{}, owned: map[string]*phoneNumber{},
		stock: map[string][]string{}, addresses: map[string]*postalAddress{}, bundles: map[string]*bundle{},
		calls: map[string]*phoneCall{}, callerIDs: map[string]*callerID{},
		faults: faultList{words: twilioFaults},
	}
	t.teller = t.newTeller()
	if len(t.given) == 0 {
		t.given = []string{twilioNumber}
	}
	if t.pace == 0 {
		t.pace = twilioSettling
	}
	if t.second == 0 {
		t.second = secondTakes
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	if err := t.settle(); err != nil {
		return nil, err
	}
	t.resume()
	return t, nil
}

func (t *Twilio) check() error {
	if !accountSID.MatchString(t.account) {
		return fmt.Errorf("sandbox: TwilioAccountSID must be AC and 32 hexadecimal digits, not %q", t.account)
	}
	if !authToken.MatchString(t.token) {
		return errors.New("sandbox: TwilioAuthToken must be set, of letters and digits only")
	}
	for _, n := range t.given {
		if !e164.MatchString(n) {
			return fmt.Errorf("sandbox: TwilioNumbers must be like +447400123456, not %q", n)
		}
	}
	return nil
}

func (t *Twilio) load() (err error) {
	if t.order, err = loadRows(t.store, bucketMessages, t.messages); err != nil {
		return err
	}
	if t.accountOrder, err = loadRows(t.store, bucketAccounts, t.accounts); err != nil {
		return err
	}
	if t.numberOrder, err = loadRows(t.store, bucketNumbers, t.numbers); err != nil {
		return err
	}
	if t.addressOrder, err = loadRows(t.store, bucketAddresses, t.addresses); err != nil {
		return err
	}
	if t.bundleOrder, err = loadRows(t.store, bucketBundles, t.bundles); err != nil {
		return err
	}
	if t.callOrder, err = loadRows(t.store, bucketCalls, t.calls); err != nil {
		return err
	}
	if t.callerOrder, err = loadRows(t.store, bucketCallers, t.callerIDs); err != nil {
		return err
	}
	t.seq = max(last(t.order), last(t.callOrder), last(t.callerOrder), last(t.accountOrder), last(t.numberOrder), last(t.addressOrder), last(t.bundleOrder))
	for _, n := range t.numberOrder {
		if n.Released == 0 {
			t.owned[n.Number] = n
		}
	}
	if err := loadMap(t.store, bucketOptOuts, t.optOuts); err != nil {
		return err
	}
	return loadMap(t.store, bucketCreations, t.creations)
}

// loadRows loads a table by its keys, and gives its rows in the order of their sequence.
func loadRows[V any, R interface {
	*V
	listRow
}](st *store, bucket string, into map[string]R) ([]R, error) {
	rows := map[string]*V{}
	if err := loadMap(st, bucket, rows); err != nil {
		return nil, err
	}
	order := make([]R, 0, len(rows))
	for key, row := range rows {
		into[key] = row
		order = append(order, row)
	}
	slices.SortFunc(order, func(a, b R) int { return cmp.Compare(a.sequence(), b.sequence()) })
	return order, nil
}

// last gives the highest sequence of a table.
func last[R listRow](order []R) uint64 {
	if len(order) == 0 {
		return 0
	}
	return order[len(order)-1].sequence()
}

// settle makes what Options say true, which may differ from the last run's.
func (t *Twilio) settle() error {
	return t.change(func(c *changes) error {
		t.settleAccounts(c)
		t.settleNumbers(c)
		return nil
	})
}

// resume takes up what was under way when the state file was last closed, at the pace of now.
func (t *Twilio) resume() {
	for _, m := range t.order {
		if m.NextAt == 0 || t.pace < 0 {
			m.NextAt = t.due(m, t.now())
		}
		t.stepAt(m)
		t.teller.callNext(m)
	}
	for _, p := range t.callOrder {
		if p.NextAt == 0 || t.second < 0 {
			p.NextAt = t.callDue(p, t.now())
		}
		t.callStepAt(p)
		t.teller.callNext(p)
	}
	for _, i := range t.callerOrder {
		t.teller.callNext(i)
	}
}

// run moves messages and posts callbacks until ctx ends, then waits for what is under way.
func (t *Twilio) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { t.clock.loop(ctx) })
	loops.Go(func() { t.courier.run(ctx) })
	loops.Wait()
	t.steps.Wait()
}

func (t *Twilio) logFailure(ctx context.Context, what, id string, err error) {
	if err != nil {
		t.log.ErrorContext(ctx, "sandbox twilio: could not "+what, "id", id, "error", err)
	}
}

// mount puts Twilio's API, its page and its controls on the mux.
func (t *Twilio) mount(mux *http.ServeMux) {
	t.mountAPI(mux)
	t.mountPage(mux)
	t.mountControl(mux)
}
