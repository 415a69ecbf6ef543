package sandbox

import (
	"encoding/json"
	"strings"
	"time"
)

// eventsKept is how far back Stripe's event list goes.
const eventsKept = 30 * 24 * time.Hour

// emit stores an event with a snapshot of the object as it is now; it is delivered once the change is in the state
// file. previous holds the members that changed, with their former values; nil for none.
func (tx *txn) emit(kind string, object any, previous map[string]any) {
	snapshot, err := json.Marshal(object)
	if err != nil {
		tx.err = err
		return
	}
	e := event{
		ID: newID("evt_1", 23), Object: "event", APIVersion: stripeVersion, Created: tx.created(),
		Data: eventData{Object: snapshot}, Request: tx.request, Type: kind,
	}
	if previous != nil {
		if e.Data.PreviousAttributes, err = json.Marshal(previous); err != nil {
			tx.err = err
			return
		}
	}
	add(tx, &tx.s.events, e, own{})
	d := &delivery{State: deliveryNone}
	switch {
	case tx.s.webhookURL == "":
	case tx.s.settings.WebhooksOff:
		d.State = deliveryLost
	default:
		d.State, d.NextAt = deliveryPending, tx.now.UnixNano()
		tx.deliver(e.ID)
	}
	tx.s.delivery[e.ID] = d
	tx.put(bucketDelivery, e.ID, d)
}

// eventView is the event as it is shown: pending_webhooks counts what has not been delivered yet.
func (s *Stripe) eventView(r *row[event]) *event {
	v := r.Wire
	if d := s.delivery[v.ID]; d != nil && d.State == deliveryPending {
		v.PendingWebhooks = 1
	}
	return &v
}

func getEvent(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	r := tx.s.events.get(in.id)
	if r == nil {
		return nil, noSuch("event", in.id, "")
	}
	return tx.s.eventView(r), nil
}

// listEvents is https://docs.stripe.com/api/events/list.
func listEvents(tx *txn, in *input) (any, error) {
	if err := in.allow(append(listParams, "type", "types[*]", "delivery_success")...); err != nil {
		return nil, err
	}
	kinds := in.strings("types")
	if one := in.str("type"); one != "" {
		if len(kinds) > 0 {
			return nil, invalid("", "type", "You may only specify one of these parameters: type, types.")
		}
		kinds = []string{one}
	}
	if len(kinds) > 20 {
		return nil, invalid("", "types", "You may pass up to 20 event types.")
	}
	delivered, filtered, err := in.boolean("delivery_success")
	if err != nil {
		return nil, err
	}
	oldest := tx.now.Add(-eventsKept).Unix()
	return page(in, &tx.s.events, "event", func(r *row[event]) bool {
		if r.Wire.Created < oldest || (len(kinds) > 0 && !anyKind(kinds, r.Wire.Type)) {
			return false
		}
		if !filtered {
			return true
		}
		d := tx.s.delivery[r.Wire.ID]
		undelivered := d != nil && (d.State == deliveryPending || d.State == deliveryFailed || d.State == deliveryLost)
		return delivered != undelivered
	}, func(r *row[event]) any { return tx.s.eventView(r) })
}

// anyKind compares a type with the wanted ones, which may end in .* as Stripe allows.
func anyKind(wanted []string, kind string) bool {
	for _, w := range wanted {
		if prefix, ok := strings.CutSuffix(w, "*"); w == kind || (ok && strings.HasPrefix(kind, prefix)) {
			return true
		}
	}
	return false
}
