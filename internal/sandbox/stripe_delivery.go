package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// What has become of an event's delivery.
const (
	deliveryNone      = "none"      // there was nobody to deliver to
	deliveryPending   = "pending"   // not delivered yet, will be tried again
	deliveryDelivered = "delivered" // answered with 2xx
	deliveryFailed    = "failed"    // given up after three days
	deliveryLost      = "lost"      // dropped by a fault, or deliveries were switched off
)

// delivery is the record of delivering one event.
type delivery struct {
	State    string    `json:"state"`
	NextAt   int64     `json:"next_at,omitempty"` // Unix nanoseconds
	Count    int       `json:"count"`
	Attempts []attempt `json:"attempts,omitempty"` // the last attemptsKept
	// held says that the event was held back once by a fault, which is enough.
	held bool
}

// attempt is one request to the receiver.
type attempt struct {
	At     int64  `json:"at"` // Unix seconds
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

const (
	attemptsKept   = 20
	deliveryWindow = 3 * 24 * time.Hour
	attemptLimit   = 10 * time.Second
)

// retrySchedule is the wait after each failed attempt, much faster than Stripe's; the last one repeats.
var retrySchedule = []time.Duration{
	200 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second, time.Minute,
}

// heldEvent is an event that waits for one made after it to be delivered first.
type heldEvent struct {
	id  string
	seq uint64
}

func newDeliveryClient() *http.Client {
	return &http.Client{
		Timeout:   attemptLimit,
		Transport: &http.Transport{MaxIdleConnsPerHost: senderCount, IdleConnTimeout: 30 * time.Second},
		// A redirect is a failed delivery, as it is at Stripe.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// deliverAt arranges for an attempt.
func (s *Stripe) deliverAt(at time.Time, eventID string) {
	s.deliveries.at(at, func(ctx context.Context) {
		// Blocks while all senders are busy, so that attempts keep their order and their number is bounded.
		s.senders.Go(func() error {
			s.deliver(ctx, eventID)
			return nil
		})
	})
}

// deliver makes one attempt, as the faults in force would have it.
func (s *Stripe) deliver(ctx context.Context, eventID string) {
	s.mu.Lock()
	r, d := s.events.get(eventID), s.delivery[eventID]
	if r == nil || d == nil || d.State != deliveryPending {
		s.mu.Unlock()
		return
	}
	if s.settings.WebhooksOff || s.webhookURL == "" {
		s.setDelivery(eventID, d, deliveryLost)
		s.mu.Unlock()
		return
	}
	kinds := deliveryFaults
	if d.held {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == FaultReorder })
	}
	fault := s.faults.strike(deliverPrefix+r.Wire.Type, kinds)
	switch fault.Do {
	case FaultDrop:
		s.setDelivery(eventID, d, deliveryLost)
		s.mu.Unlock()
		return
	case FaultReorder:
		d.held = true
		s.held = append(s.held, heldEvent{id: eventID, seq: r.Seq})
		s.mu.Unlock()
		limit := fault.wait()
		if limit == 0 {
			limit = reorderDefault
		}
		s.clock.at(s.now().Add(limit), func(context.Context) { s.release(func(h heldEvent) bool { return h.id == eventID }) })
		return
	}
	view, seq := *s.eventView(r), r.Seq
	s.mu.Unlock()
	// Stripe sends its events indented: whoever re-serialises before verifying finds out here.
	body, err := json.MarshalIndent(&view, "", "  ")
	if err != nil {
		s.logFailure(ctx, "encode event", eventID, err)
		return
	}
	secret, copies := s.webhookSecret, 1
	switch fault.Do {
	case FaultOtherSignature:
		secret += "-of-somebody-else"
	case FaultRepeat:
		if copies = fault.Copies; copies == 0 {
			copies = copiesDefault
		}
	}
	var made []attempt
	delivered := false
	for range copies {
		a := s.post(ctx, body, secret)
		made = append(made, a)
		delivered = delivered || (a.Status >= 200 && a.Status < 300)
	}
	s.record(eventID, seq, made, delivered)
}

// post sends one signed request; see https://docs.stripe.com/webhooks#verify-manually for the signature.
func (s *Stripe) post(ctx context.Context, body []byte, secret string) attempt {
	now := s.now()
	a := attempt{At: now.Unix()}
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.webhookURL, bytes.NewReader(body))
	if err != nil {
		a.Error = err.Error()
		return a
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	req.Header.Set("Accept", "*/*; q=0.5, application/xml")
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("Stripe-Signature", signature(now, body, secret))
	resp, err := s.client.Do(req)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)) // only so that the connection can be used again
	a.Status = resp.StatusCode
	return a
}

// signature is the value of Stripe-Signature.
func signature(t time.Time, body []byte, secret string) string {
	stamp := strconv.FormatInt(t.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return fmt.Sprintf("t=%s,v1=%s", stamp, hex.EncodeToString(mac.Sum(nil)))
}

// record notes what came of the attempts and arranges the next one where there has to be one.
func (s *Stripe) record(eventID string, seq uint64, made []attempt, delivered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, d := s.events.get(eventID), s.delivery[eventID]
	if r == nil || d == nil {
		return
	}
	d.Count += len(made)
	d.Attempts = append(d.Attempts, made...)
	if over := len(d.Attempts) - attemptsKept; over > 0 {
		d.Attempts = append([]attempt(nil), d.Attempts[over:]...)
	}
	if delivered {
		s.setDelivery(eventID, d, deliveryDelivered)
		s.releaseHeld(func(h heldEvent) bool { return h.seq < seq })
		return
	}
	if s.life.Err() != nil {
		// The sandbox is being closed, which is not the receiver's failure: the next run tries at once.
		s.setDelivery(eventID, d, d.State)
		return
	}
	now := s.now()
	if now.Unix() >= r.Wire.Created+int64(deliveryWindow/time.Second) {
		s.setDelivery(eventID, d, deliveryFailed)
		return
	}
	next := now.Add(retrySchedule[min(d.Count, len(retrySchedule))-1])
	d.NextAt = next.UnixNano()
	s.setDelivery(eventID, d, deliveryPending)
	s.deliverAt(next, eventID)
}

// setDelivery changes an event's delivery and has it written without waiting. The mutex must be held.
func (s *Stripe) setDelivery(eventID string, d *delivery, state string) {
	d.State = state
	b, err := json.Marshal(d)
	if err != nil {
		s.logFailure(s.life, "encode delivery", eventID, err)
		return
	}
	s.store.submit([]write{{bucket: bucketDelivery, key: eventID, value: b}})
}

// release lets held events go.
func (s *Stripe) release(which func(heldEvent) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseHeld(which)
}

func (s *Stripe) releaseHeld(which func(heldEvent) bool) {
	kept := s.held[:0]
	for _, h := range s.held {
		if which(h) {
			s.deliverAt(s.now(), h.id)
		} else {
			kept = append(kept, h)
		}
	}
	s.held = kept
}

// SetWebhooks switches deliveries on or off. Events that come about while they are off, and attempts that fall due
// then, are lost: they stay in the list of events, and only Resend delivers them. The switch outlives a restart.
func (s *Stripe) SetWebhooks(on bool) error {
	return s.change(func(tx *txn) error {
		s.settings.WebhooksOff = !on
		tx.put(bucketSettings, onlyKey, s.settings)
		return nil
	})
}

// Resend delivers an event again, whatever became of it before.
func (s *Stripe) Resend(eventID string) error {
	return s.change(func(tx *txn) error {
		d := s.delivery[eventID]
		switch {
		case s.events.get(eventID) == nil || d == nil:
			return noSuch("event", eventID, "")
		case s.webhookURL == "" || s.settings.WebhooksOff:
			return conflict("Webhooks are switched off.")
		}
		d.State, d.NextAt = deliveryPending, tx.now.UnixNano()
		tx.put(bucketDelivery, eventID, d)
		tx.events = append(tx.events, eventID)
		return nil
	})
}
