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

// Twilio is the stand-in for Twilio: the messages of one account (https://www.twilio.com/docs/messaging/api).
//
// All state is in memory under one mutex and is written to the state file before the answer is given. Twilio has no
// idempotency keys, so a request that is repeated is a second message, here as there.
type Twilio struct {
	account string
	token   string
	smsURL  string
	numbers []string
	pace    time.Duration // from creation to the end of a message; negative: it moves by hand
	now     func() time.Time
	log     *slog.Logger
	store   *store
	life    context.Context // the sandbox's own life, which outlasts any request

	clock   *alarms // the messages' next steps
	courier *courier
	steps   sync.WaitGroup // steps whose writing is awaited

	mu        sync.Mutex
	seq       uint64
	messages  map[string]*sms // by SID
	order     []*sms          // by Seq, rising
	optOuts   map[string]*optOut
	creations Creations

	faults faultList
}

// Creations counts requests to make a message that were admitted.
type Creations struct {
	// Asked counts the requests, whatever became of them.
	Asked int64 `json:"asked"`
	// Made counts those that made a message, whatever was answered.
	Made int64 `json:"made"`
}

const (
	bucketMessages  = "twilio.messages"
	bucketOptOuts   = "twilio.opt_outs"
	bucketCreations = "twilio.creations"

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
		account: o.TwilioAccountSID, token: o.TwilioAuthToken, smsURL: o.TwilioSMSURL, numbers: slices.Clone(o.TwilioNumbers),
		pace: o.TwilioSettleAfter, now: o.Now, log: o.Logger, store: st, life: life,
		clock:    newAlarms(o.Now),
		courier:  newCourier(o.Now),
		messages: map[string]*sms{},
		optOuts:  map[string]*optOut{},
		faults:   faultList{words: twilioFaults},
	}
	if len(t.numbers) == 0 {
		t.numbers = []string{twilioNumber}
	}
	if t.pace == 0 {
		t.pace = twilioSettling
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := t.load(); err != nil {
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
	for _, n := range t.numbers {
		if !e164.MatchString(n) {
			return fmt.Errorf("sandbox: TwilioNumbers must be like +447400123456, not %q", n)
		}
	}
	return nil
}

func (t *Twilio) load() error {
	if err := loadMap(t.store, bucketMessages, t.messages); err != nil {
		return err
	}
	for _, m := range t.messages {
		t.order = append(t.order, m)
		t.seq = max(t.seq, m.Seq)
	}
	slices.SortFunc(t.order, func(a, b *sms) int { return cmp.Compare(a.Seq, b.Seq) })
	if err := loadMap(t.store, bucketOptOuts, t.optOuts); err != nil {
		return err
	}
	return loadOne(t.store, bucketCreations, &t.creations)
}

// resume takes up what was under way when the state file was last closed, at the pace of now.
func (t *Twilio) resume() {
	for _, m := range t.order {
		if m.NextAt == 0 || t.pace < 0 {
			m.NextAt = t.due(m, t.now())
		}
		t.stepAt(m)
		t.callNext(m)
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

// begin starts a change; the mutex must be held until its finish has returned.
func (t *Twilio) begin() *changes { return &changes{store: t.store, now: t.now()} }

// change runs fn as one change of the state and waits until it is written. What fn changed before it erred is kept.
func (t *Twilio) change(fn func(c *changes) error) error {
	t.mu.Lock()
	c := t.begin()
	err := fn(c)
	done := c.finish()
	t.mu.Unlock()
	if e := done(); e != nil && err == nil {
		err = e
	}
	return err
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
