package handlers

import (
	"net/http"
	"time"

	"ringfence/internal/auth"
	"ringfence/internal/webhooks"
)

const apiWebhooksPath = "/api/v1/webhook-endpoints"

// apiEndpoint is a webhook endpoint as programs see it. The secret is there only where it was made just now.
type apiEndpoint struct {
	ID             string          `json:"id"`
	URL            string          `json:"url"`
	Types          []webhooks.Type `json:"types"`
	Enabled        bool            `json:"enabled"`
	DisabledReason string          `json:"disabled_reason,omitempty"`
	FailingSince   *time.Time      `json:"failing_since"`
	CreatedAt      time.Time       `json:"created_at"`
	Secret         string          `json:"secret,omitempty"`
}

func endpointForAPI(e webhooks.Endpoint, secret string) apiEndpoint {
	out := apiEndpoint{
		ID: e.ID.String(), URL: e.URL, Types: e.Types, Enabled: e.On(), DisabledReason: e.DisabledWhy, CreatedAt: e.CreatedAt.UTC(), Secret: secret,
	}
	if !e.FailingSince.IsZero() {
		out.FailingSince = new(e.FailingSince.UTC())
	}
	return out
}

// apiWebhooks is GET /api/v1/webhook-endpoints: all of them, oldest first. It needs the scope webhooks:read.
func (a *app) apiWebhooks(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksRead); err != nil {
		return err
	}
	list, err := a.Webhooks.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	out := struct {
		Data []apiEndpoint `json:"data"`
		Next *string       `json:"next_cursor"`
	}{Data: []apiEndpoint{}}
	for _, e := range list {
		out.Data = append(out.Data, endpointForAPI(e, ""))
	}
	return writeJSON(w, http.StatusOK, out)
}

// apiCreateWebhook is POST /api/v1/webhook-endpoints: 201 with the endpoint and its secret. The same key and body again give
// the same. It needs the scope webhooks:write.
func (a *app) apiCreateWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		URL   string          `json:"url"`
		Types []webhooks.Type `json:"types"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	e, secret, repeated, err := a.Webhooks.Create(r.Context(), webhooks.NewEndpoint{OrgID: v.who.OrgID, URL: body.URL, Types: body.Types, Key: key, Actor: v.who.Actor()})
	if err != nil {
		return err
	}
	replayed(w, repeated)
	return writeJSON(w, http.StatusCreated, endpointForAPI(e, secret))
}

// apiWebhook is GET /api/v1/webhook-endpoints/{id}. It needs the scope webhooks:read.
func (a *app) apiWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksRead); err != nil {
		return err
	}
	e, err := a.hookOf(r, v)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, endpointForAPI(e, ""))
}

// apiChangeWebhook is PATCH /api/v1/webhook-endpoints/{id}: what is left out stays. It needs the scope webhooks:write.
func (a *app) apiChangeWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksWrite); err != nil {
		return err
	}
	id, err := webhookID(r)
	if err != nil {
		return err
	}
	var body struct {
		URL     *string          `json:"url"`
		Types   *[]webhooks.Type `json:"types"`
		Enabled *bool            `json:"enabled"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	e, err := a.Webhooks.Change(r.Context(), v.who.OrgID, id, webhooks.Change{URL: body.URL, Types: body.Types, On: body.Enabled}, v.who.Actor())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, endpointForAPI(e, ""))
}

// apiRemoveWebhook is DELETE /api/v1/webhook-endpoints/{id}: 200, and 404 from then on. It needs the scope webhooks:write.
func (a *app) apiRemoveWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksWrite); err != nil {
		return err
	}
	id, err := webhookID(r)
	if err != nil {
		return err
	}
	if err := a.Webhooks.Remove(r.Context(), v.who.OrgID, id, v.who.Actor()); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		ID      string `json:"id"`
		Deleted bool   `json:"deleted"`
	}{id.String(), true})
}

// apiRollWebhook is POST /api/v1/webhook-endpoints/{id}/roll-secret: the endpoint with its new secret. It needs the scope
// webhooks:write.
func (a *app) apiRollWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WebhooksWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	id, err := webhookID(r)
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &struct{}{}); err != nil {
			return err
		}
	}
	e, secret, repeated, err := a.Webhooks.Roll(r.Context(), v.who.OrgID, id, key, v.who.Actor())
	if err != nil {
		return err
	}
	replayed(w, repeated)
	return writeJSON(w, http.StatusOK, endpointForAPI(e, secret))
}
