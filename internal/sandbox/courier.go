package sandbox

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// What has become of a delivery.
const (
	deliveryNone      = "none"      // there was nobody to deliver to
	deliveryPending   = "pending"   // not delivered yet, will be tried again
	deliveryDelivered = "delivered" // answered with 2xx
	deliveryFailed    = "failed"    // given up
	deliveryLost      = "lost"      // dropped by a fault, or there was nobody it could be sent to
)

// delivery is the record of telling the receiver one thing.
type delivery struct {
	State    string    `json:"state"`
	NextAt   int64     `json:"next_at,omitempty"` // Unix nanoseconds
	Count    int       `json:"count"`
	Attempts []attempt `json:"attempts,omitempty"` // the last attemptsKept
	// held says that it was held back once by a fault, which is enough.
	held bool
}

// attempt is one request to the receiver.
type attempt struct {
	At     int64  `json:"at"` // Unix seconds
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

const (
	// senderCount bounds the attempts that are under way at once.
	senderCount  = 16
	attemptsKept = 20
	attemptLimit = 10 * time.Second
	// otherSecret makes a secret the receiver does not know out of one it does.
	otherSecret = "-of-somebody-else"
)

func (a attempt) ok() bool { return a.Status >= 200 && a.Status < 300 }

func (d *delivery) add(made []attempt) {
	d.Count += len(made)
	d.Attempts = append(d.Attempts, made...)
	if over := len(d.Attempts) - attemptsKept; over > 0 {
		d.Attempts = append([]attempt(nil), d.Attempts[over:]...)
	}
}

// courier makes a stand-in's requests to its receivers when their time has come, senderCount at once.
type courier struct {
	client  *http.Client
	alarms  *alarms
	senders errgroup.Group
}

func newCourier(o Options) *courier {
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{MaxIdleConnsPerHost: senderCount, IdleConnTimeout: 30 * time.Second}
	}
	c := &courier{
		client: &http.Client{
			Timeout:   attemptLimit,
			Transport: transport,
			// A redirect is a failed delivery.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		alarms: newAlarms(o.Now),
	}
	c.senders.SetLimit(senderCount)
	return c
}

// at arranges for fn, which makes an attempt, to be called once the clock has reached t.
func (c *courier) at(t time.Time, fn func(ctx context.Context)) {
	c.alarms.at(t, func(ctx context.Context) {
		// Blocks while all senders are busy, so that attempts keep their order and their number is bounded.
		c.senders.Go(func() error {
			fn(ctx)
			return nil
		})
	})
}

// run makes attempts until ctx ends, then waits for those under way.
func (c *courier) run(ctx context.Context) {
	c.alarms.loop(ctx)
	_ = c.senders.Wait() // senders give no errors: an attempt's outcome is in its record
}

// send makes one request and reads its answer, as far as maxBody.
func (c *courier) send(req *http.Request, now time.Time) (a attempt, answer received) {
	a.At = now.Unix()
	resp, err := c.client.Do(req) //nolint:gosec // addresses of Options, or such as Twilio.mayCall lets pass
	if err != nil {
		a.Error = err.Error()
		return a, received{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // also so that the connection can be used again
	if err != nil {
		a.Error = err.Error()
		return a, received{}
	}
	a.Status = resp.StatusCode
	return a, received{contentType: resp.Header.Get("Content-Type"), body: body}
}

// received is what a receiver answered.
type received struct {
	contentType string
	body        []byte
}
