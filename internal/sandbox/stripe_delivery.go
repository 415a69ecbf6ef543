package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// deliveryWindow is how long an event is tried.
const deliveryWindow = 3 * 24 * time.Hour

// retrySchedule is the wait after each failed attempt, much faster than Stripe's; the last one repeats.
var retrySchedule = []time.Duration{
	200 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second, time.Minute,
}

// heldEvent is an event that waits for one made after it to be delivered first.
type heldEvent struct {
	id  string
	seq uint64
}

// deliver arranges for an attempt once the change is in the state file.
func (tx *txn) deliver(eventID string) { tx.then(func() { tx.s.deliverAt(tx.now, eventID) }) }

// deliverAt arranges for an attempt, which is made if the event is still to be delivered then.
func (s *Stripe) deliverAt(at time.Time, eventID string) {
	s.courier.at(at, func(ctx context.Context) { s.deliver(ctx, eventID, false) })
}

// deliver makes one attempt, as the faults in force would have it. One that somebody asked for is made whatever another,
// which was under way then, has come to.
func (s *Stripe) deliver(ctx context.Context, eventID string, asked bool) {
	s.mu.Lock()
	r, d := s.events.get(eventID), s.delivery[eventID]
	if r == nil || d == nil || d.State != deliveryPending && !asked {
		s.mu.Unlock()
		return
	}
	if s.settings.WebhooksOff || s.webhookURL == "" {
		s.setDelivery(eventID, d, deliveryLost)
		s.mu.Unlock()
		return
	}
	fault := s.faults.strikeDelivery(r.Wire.Type, d)
	switch fault.Do {
	case FaultDrop:
		s.setDelivery(eventID, d, deliveryLost)
		s.mu.Unlock()
		return
	case FaultReorder:
		d.held = true
		s.held = append(s.held, heldEvent{id: eventID, seq: r.Seq})
		s.mu.Unlock()
		s.clock.at(s.now().Add(fault.heldFor()), func(context.Context) { s.release(func(h heldEvent) bool { return h.id == eventID }) })
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
	secret := s.webhookSecret
	if fault.Do == FaultOtherSignature {
		secret += otherSecret
	}
	var made []attempt
	delivered := false
	for range fault.copies() {
		a := s.post(ctx, body, secret)
		made = append(made, a)
		delivered = delivered || a.ok()
	}
	s.record(eventID, seq, made, delivered)
}

// post sends one signed request; see https://docs.stripe.com/webhooks#verify-manually for the signature.
func (s *Stripe) post(ctx context.Context, body []byte, secret string) attempt {
	now := s.now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.webhookURL, bytes.NewReader(body))
	if err != nil {
		return attempt{At: now.Unix(), Error: err.Error()}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	req.Header.Set("Accept", "*/*; q=0.5, application/xml")
	req.Header.Set("Cache-Control", "no-cache")
	req.Header.Set("Stripe-Signature", signature(now, body, secret))
	a, _ := s.courier.send(req, now)
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
	d.add(made)
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
		tx.then(func() { s.courier.at(tx.now, func(ctx context.Context) { s.deliver(ctx, eventID, true) }) })
		return nil
	})
}
