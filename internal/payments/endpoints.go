package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

// WebhookPath is where Stripe's events come in, below our own address.
const WebhookPath = "/api/webhooks/stripe"

// endpointName marks the endpoints that are ours to change.
const endpointName = "ringfence"

// Endpoint is a webhook endpoint at Stripe that points at our address.
type Endpoint struct {
	ID         string
	URL        string
	APIVersion string
	Events     []string
	Enabled    bool
	CreatedAt  time.Time
	// Secret signs what comes by it. Stripe tells it once, when the endpoint is made; empty at any other time.
	Secret string
}

// Right reports whether events of the endpoint are those that we act on, in the version that we read.
func (e Endpoint) Right() bool { return e.Enabled && e.current() && e.sends(Events()) }

// current reports whether it speaks our version. Stripe sets it once, when the endpoint is made.
func (e Endpoint) current() bool { return e.APIVersion == stripe.APIVersion }

func (e Endpoint) sends(events []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(e.Events)), slices.Sorted(slices.Values(events)))
}

// Endpoints manages our webhook endpoints at Stripe. It needs no database.
type Endpoints struct {
	stripe *client.API
	url    string
}

// NewEndpoints takes the secret API key, the address of Stripe's API without a path, and our own without a path.
func NewEndpoints(key, stripeBase, baseURL string) *Endpoints {
	return &Endpoints{stripe: newStripe(key, stripeBase, nil), url: baseURL + WebhookPath}
}

// URL is the address that the endpoints point at.
func (m *Endpoints) URL() string { return m.url }

// List gives the endpoints at our address, oldest first. Those of other programs on the account are none of ours.
func (m *Endpoints) List(ctx context.Context) (list []Endpoint, err error) {
	p := &stripe.WebhookEndpointListParams{}
	p.Context, p.Limit = ctx, stripe.Int64(pageSize)
	it := m.stripe.WebhookEndpoints.List(p)
	for it.Next() {
		if e := it.WebhookEndpoint(); e.URL == m.url {
			list = append(list, endpointOf(e))
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("couldn't list the webhook endpoints: %w", err)
	}
	slices.Reverse(list) // Stripe lists the newest first
	return list, nil
}

func endpointOf(e *stripe.WebhookEndpoint) Endpoint {
	return Endpoint{
		ID: e.ID, URL: e.URL, APIVersion: e.APIVersion, Events: e.EnabledEvents, Enabled: e.Status == "enabled",
		CreatedAt: time.Unix(e.Created, 0).UTC(), Secret: e.Secret,
	}
}

// ErrOtherVersion says that the endpoint speaks another API version, which cannot be changed: it has to be replaced.
var ErrOtherVersion = errors.New("the webhook endpoint speaks another API version than this program, and Stripe cannot change that: run `ringfence stripe rotate`")

// Setup makes sure that there is an endpoint at our address with exactly the events that we act on, in our API version, and
// gives the newest. It makes one only where there is none; done says what it did: "created", "updated", or "kept". It is
// safe to repeat. An endpoint of another version gives ErrOtherVersion, with its events set right all the same.
func (m *Endpoints) Setup(ctx context.Context) (e Endpoint, done string, err error) {
	list, err := m.List(ctx)
	if err != nil {
		return Endpoint{}, "", err
	}
	if len(list) == 0 {
		e, err = m.create(ctx)
		return e, "created", err
	}
	done = "kept"
	for i, old := range list {
		if old.Enabled && old.sends(Events()) {
			continue
		}
		p := &stripe.WebhookEndpointParams{EnabledEvents: stripe.StringSlice(Events()), Disabled: new(false)}
		p.Context = ctx
		changed, err := m.stripe.WebhookEndpoints.Update(old.ID, p)
		if err != nil {
			return Endpoint{}, "", fmt.Errorf("couldn't update webhook endpoint %s: %w", old.ID, err)
		}
		list[i], done = endpointOf(changed), "updated"
	}
	e = list[len(list)-1]
	if !e.current() {
		return e, done, ErrOtherVersion
	}
	return e, done, nil
}

func (m *Endpoints) create(ctx context.Context) (Endpoint, error) {
	p := &stripe.WebhookEndpointParams{
		URL: new(m.url), EnabledEvents: stripe.StringSlice(Events()), APIVersion: new(stripe.APIVersion),
		Description: new("Ringfence"), Metadata: map[string]string{"made_by": endpointName},
	}
	p.Context = ctx
	e, err := m.stripe.WebhookEndpoints.New(p)
	if err != nil {
		return Endpoint{}, fmt.Errorf("couldn't create the webhook endpoint: %w", err)
	}
	return endpointOf(e), nil
}

// Rotate makes a further endpoint, with a secret of its own, beside those that there are: Stripe then sends every event to
// both, which costs an answer "duplicate". There must be one already, and not more than one, else an earlier rotation is not
// finished.
func (m *Endpoints) Rotate(ctx context.Context) (fresh, old Endpoint, err error) {
	list, err := m.List(ctx)
	switch {
	case err != nil:
		return Endpoint{}, Endpoint{}, err
	case len(list) == 0:
		return Endpoint{}, Endpoint{}, errors.New("there is no webhook endpoint at our address to rotate: run `ringfence stripe setup`")
	case len(list) > 1:
		return Endpoint{}, Endpoint{}, errors.New("there are two webhook endpoints at our address already: finish with `ringfence stripe rotate --retire`")
	}
	fresh, err = m.create(ctx)
	return fresh, list[0], err
}

// Retire deletes every endpoint at our address but the newest, and gives that and what was deleted. With only one there is
// nothing to do.
func (m *Endpoints) Retire(ctx context.Context) (stays Endpoint, gone []Endpoint, err error) {
	list, err := m.List(ctx)
	if err != nil {
		return Endpoint{}, nil, err
	}
	if len(list) == 0 {
		return Endpoint{}, nil, errors.New("there is no webhook endpoint at our address: run `ringfence stripe setup`")
	}
	stays = list[len(list)-1]
	if !stays.Right() {
		return stays, nil, fmt.Errorf("the newest webhook endpoint, %s, does not send what is needed, so nothing was retired: run `ringfence stripe setup`", stays.ID)
	}
	for _, e := range list[:len(list)-1] {
		p := &stripe.WebhookEndpointParams{}
		p.Context = ctx
		if _, err := m.stripe.WebhookEndpoints.Del(e.ID, p); err != nil {
			return stays, gone, fmt.Errorf("couldn't delete webhook endpoint %s: %w", e.ID, err)
		}
		gone = append(gone, e)
	}
	return stays, gone, nil
}
