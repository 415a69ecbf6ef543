package sandbox

import (
	"net/url"
	"slices"
)

// webhookEndpoint is where an account has its events sent. The sandbox keeps them, so that they can be managed; it delivers
// only to the address that it was started with.
type webhookEndpoint struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"`
	APIVersion    text              `json:"api_version"`
	Application   null              `json:"application"`
	Created       int64             `json:"created"`
	Description   text              `json:"description"`
	EnabledEvents []string          `json:"enabled_events"`
	Livemode      bool              `json:"livemode"`
	Metadata      map[string]string `json:"metadata"`
	Status        string            `json:"status"`
	URL           string            `json:"url"`
}

func (e *webhookEndpoint) ref() (string, int64) { return e.ID, e.Created }

// withSecret is an endpoint as it is shown once, when it is made.
type withSecret struct {
	webhookEndpoint

	Secret string `json:"secret"`
}

const (
	endpointEnabled  = "enabled"
	endpointDisabled = "disabled"
	// maxEndpoints is how many an account may have.
	maxEndpoints = 16
)

// createEndpoint is https://docs.stripe.com/api/webhook_endpoints/create.
func createEndpoint(tx *txn, in *input) (any, error) {
	if err := in.allow("url", "enabled_events[*]", "api_version", "description", "metadata[*]", "connect"); err != nil {
		return nil, err
	}
	e := webhookEndpoint{
		ID: newID("we_1", 23), Object: "webhook_endpoint", Created: tx.created(), Status: endpointEnabled,
		APIVersion: text(in.str("api_version")), Description: text(in.str("description")),
	}
	switch {
	case !in.has("url"):
		return nil, missing("url")
	case !in.has("enabled_events"):
		return nil, missing("enabled_events")
	case e.APIVersion != "" && e.APIVersion != text(stripeVersion):
		return nil, invalid("", "api_version", "Invalid API version: %s (the sandbox speaks %s)", string(e.APIVersion), stripeVersion)
	case len(tx.s.endpoints.order) >= maxEndpoints:
		return nil, invalid("", "", "You have reached the maximum of %d test webhook endpoints.", maxEndpoints)
	}
	if err := setEndpoint(&e, in); err != nil {
		return nil, err
	}
	r := add(tx, &tx.s.endpoints, e, own{})
	return &withSecret{r.Wire, "whsec_" + newID("", 32)}, nil
}

// setEndpoint takes over what a request says of an endpoint.
func setEndpoint(e *webhookEndpoint, in *input) error {
	if in.has("url") {
		u, err := url.Parse(in.str("url"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return invalid("url_invalid", "url", "Not a valid URL")
		}
		e.URL = in.str("url")
	}
	if in.has("enabled_events") {
		e.EnabledEvents = in.strings("enabled_events")
		for i, kind := range e.EnabledEvents {
			if kind == "" || slices.Contains(e.EnabledEvents[:i], kind) {
				return invalid("", "enabled_events", "Invalid or repeated event type: %q", kind)
			}
		}
	}
	if in.has("metadata") || e.Metadata == nil {
		metadata, err := in.metadata("metadata")
		if err != nil {
			return err
		}
		e.Metadata = metadata
	}
	return nil
}

// updateEndpoint is https://docs.stripe.com/api/webhook_endpoints/update; the version is not among what can be changed.
func updateEndpoint(tx *txn, in *input) (any, error) {
	if err := in.allow("url", "enabled_events[*]", "disabled", "description", "metadata[*]"); err != nil {
		return nil, err
	}
	r := tx.s.endpoints.get(in.id)
	if r == nil {
		return nil, noSuch("webhook endpoint", in.id, "")
	}
	changed := r.Wire
	if err := setEndpoint(&changed, in); err != nil {
		return nil, err
	}
	disabled, sent, err := in.boolean("disabled")
	if err != nil {
		return nil, err
	}
	if sent {
		changed.Status = endpointEnabled
		if disabled {
			changed.Status = endpointDisabled
		}
	}
	if in.has("description") {
		changed.Description = text(in.str("description"))
	}
	r.Wire = changed
	save(tx, &tx.s.endpoints, r)
	return &r.Wire, nil
}

// deleteEndpoint is https://docs.stripe.com/api/webhook_endpoints/delete.
func deleteEndpoint(tx *txn, in *input) (any, error) {
	if err := in.allow(); err != nil {
		return nil, err
	}
	r := tx.s.endpoints.get(in.id)
	if r == nil {
		return nil, noSuch("webhook endpoint", in.id, "")
	}
	remove(tx, &tx.s.endpoints, r)
	return map[string]any{"id": in.id, "object": "webhook_endpoint", "deleted": true}, nil
}

func getEndpoint(tx *txn, in *input) (any, error) {
	return getOne(in, &tx.s.endpoints, "webhook endpoint")
}

func listEndpoints(tx *txn, in *input) (any, error) {
	if err := in.allow(listParams...); err != nil {
		return nil, err
	}
	return page(in, &tx.s.endpoints, "webhook endpoint", nil, wire)
}
