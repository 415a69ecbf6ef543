package handlers

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/webhooks"
	"ringfence/views"
)

const (
	webhooksPath   = "/settings/webhooks"
	deliveriesPath = "/settings/webhook-deliveries"
	// deliveriesOnPage is how many deliveries a page shows.
	deliveriesOnPage = 25
)

// webhooksDone are the sentences after something was done, by the word in the address.
var webhooksDone = map[string]string{
	"saved":   "The endpoint was changed. It counts from the next event on.",
	"on":      "The endpoint is on. What it missed is not sent by itself: send it again from the list.",
	"off":     "The endpoint is off. Nothing is sent to it, and what waited for it was given up.",
	"removed": "The endpoint was removed.",
	"resent":  "It is sent again, within seconds.",
	"test":    "A test is on its way.",
}

// mayManageWebhooks refuses everybody but owners: an endpoint hears what the organisation's people say.
func mayManageWebhooks(who auth.Identity) error {
	if who.Role == auth.RoleOwner {
		return nil
	}
	return fault.New(fault.Forbidden, "Your role is "+string(who.Role)+", so you cannot change webhooks. Ask an owner of "+who.OrgName+".")
}

// webhooksPage lists the endpoints.
func (a *app) webhooksPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := a.Webhooks.List(r.Context(), v.who.OrgID)
	if err != nil {
		return err
	}
	p := views.WebhooksPage{Meta: a.meta(r, v, "Webhooks"), Notice: webhooksDone[r.URL.Query().Get("done")], Manages: v.who.Role == auth.RoleOwner}
	for _, e := range list {
		p.Endpoints = append(p.Endpoints, endpointLine(e))
	}
	return a.render(w, r, http.StatusOK, views.Webhooks(p))
}

func endpointLine(e webhooks.Endpoint) views.EndpointLine {
	line := views.EndpointLine{
		ID: e.ID.String(), URL: e.URL, On: e.On(), Why: e.DisabledWhy, FailingSince: e.FailingSince, RollsUntil: e.RollsUntil, CreatedAt: e.CreatedAt,
	}
	for _, t := range e.Types {
		line.Types = append(line.Types, string(t))
	}
	return line
}

// webhookForm is the form with what was chosen.
func webhookForm(address string, chosen []string) views.EndpointForm {
	form := views.EndpointForm{URL: address}
	for _, t := range webhooks.Types {
		one := views.TypeChoice{Name: string(t), About: t.About()}
		for _, c := range chosen {
			one.Chosen = one.Chosen || c == string(t)
		}
		form.Types = append(form.Types, one)
	}
	return form
}

// newWebhookPage is the form for a new endpoint.
func (a *app) newWebhookPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	form := webhookForm("", nil)
	form.Key = uuid.NewString()
	return a.render(w, r, http.StatusOK, views.NewWebhook(views.NewWebhookPage{Meta: a.meta(r, v, "Add an endpoint"), Form: form}))
}

// asked reads the form of an endpoint.
func asked(r *http.Request) (address string, types []webhooks.Type, form views.EndpointForm) {
	names := r.PostForm["types"]
	for _, n := range names {
		types = append(types, webhooks.Type(n))
	}
	address = r.PostForm.Get("url")
	form = webhookForm(typed(address), names)
	form.Key = typed(r.PostForm.Get("key"))
	return address, types, form
}

// misfit puts a fault beside the field that it belongs to; false for a fault that belongs nowhere in the form.
func misfit(form *views.EndpointForm, f *fault.Error) bool {
	switch {
	case f.Field == "url":
		form.URLError = f.Public
	case f.Field == "types":
		form.TypesError = f.Public
	case f.Kind == fault.Conflict:
		form.Error = f.Public
	default:
		return false
	}
	return true
}

// createWebhook makes an endpoint and shows its secret, this once.
func (a *app) createWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	address, types, form := asked(r)
	if len(form.Key) < 1 || len(form.Key) > 100 {
		form.Key = uuid.NewString()
	}
	e, secret, _, err := a.Webhooks.Create(r.Context(), webhooks.NewEndpoint{OrgID: v.who.OrgID, URL: address, Types: types, Key: "page:" + form.Key, Actor: v.who.Actor()})
	if err != nil {
		f := fault.As(err)
		if !misfit(&form, f) {
			return err
		}
		return a.render(w, r, answerTo(f.Kind).status, views.NewWebhook(views.NewWebhookPage{Meta: a.meta(r, v, "Add an endpoint"), Form: form}))
	}
	return a.showWebhook(w, r, v, http.StatusOK, e, views.WebhookPage{Secret: secret})
}

// hookOf reads the endpoint that the path is about.
func (a *app) hookOf(r *http.Request, v *visit) (webhooks.Endpoint, error) {
	id, err := webhookID(r)
	if err != nil {
		return webhooks.Endpoint{}, err
	}
	return a.Webhooks.Endpoint(r.Context(), v.who.OrgID, id)
}

// webhookID reads the id in the path, in its one spelling.
func webhookID(r *http.Request) (uuid.UUID, error) {
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return uuid.Nil, fault.New(fault.NotFound, "There is no such webhook endpoint.")
	}
	return id, nil
}

// webhookPage shows an endpoint and what was sent to it.
func (a *app) webhookPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	e, err := a.hookOf(r, v)
	if err != nil {
		return err
	}
	return a.showWebhook(w, r, v, http.StatusOK, e, views.WebhookPage{Notice: webhooksDone[r.URL.Query().Get("done")]})
}

// showWebhook answers with the whole page around what is given.
func (a *app) showWebhook(w http.ResponseWriter, r *http.Request, v *visit, status int, e webhooks.Endpoint, p views.WebhookPage) error {
	before := uuid.Nil
	if raw := r.URL.Query().Get("before"); raw != "" {
		var err error
		if before, err = uuid.Parse(raw); err != nil {
			return fault.Wrap(fault.Invalid, "This address does not lead to deliveries. Begin with the newest.", err)
		}
	}
	list, err := a.Webhooks.Deliveries(r.Context(), v.who.OrgID, e.ID, before, deliveriesOnPage+1)
	if err != nil {
		return err
	}
	p.Newest = before == uuid.Nil
	if len(list) > deliveriesOnPage {
		list = list[:deliveriesOnPage]
		p.Older = list[deliveriesOnPage-1].ID.String()
	}
	for _, d := range list {
		p.Deliveries = append(p.Deliveries, deliveryLine(d))
	}
	p.Endpoint, p.Manages = endpointLine(e), v.who.Role == auth.RoleOwner
	if p.Form.Types == nil {
		p.Form = webhookForm(e.URL, p.Endpoint.Types)
	}
	p.Meta = a.meta(r, v, "Webhook endpoint")
	return a.render(w, r, status, views.Endpoint(p))
}

func deliveryLine(d webhooks.Delivery) views.DeliveryLine {
	return views.DeliveryLine{
		ID: d.ID.String(), EndpointID: d.EndpointID.String(), URL: d.URL, Type: string(d.Type), About: d.Type.About(), State: string(d.State),
		Attempts: d.Attempts, Status: d.Status, NextAt: d.NextAt, At: d.HappenedAt,
	}
}

// changeWebhook alters where an endpoint is and what it is told.
func (a *app) changeWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	e, err := a.hookOf(r, v)
	if err != nil {
		return err
	}
	address, types, form := asked(r)
	if _, err := a.Webhooks.Change(r.Context(), v.who.OrgID, e.ID, webhooks.Change{URL: &address, Types: &types}, v.who.Actor()); err != nil {
		f := fault.As(err)
		if !misfit(&form, f) {
			return err
		}
		return a.showWebhook(w, r, v, answerTo(f.Kind).status, e, views.WebhookPage{Form: form})
	}
	seeOther(w, r, webhooksPath+"/"+e.ID.String()+"?done=saved")
	return nil
}

// rollWebhook gives an endpoint a new secret and shows it, this once. The form's key makes a repeat the same roll.
func (a *app) rollWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	id, err := webhookID(r)
	if err != nil {
		return err
	}
	e, secret, _, err := a.Webhooks.Roll(r.Context(), v.who.OrgID, id, "page:"+v.requestID, v.who.Actor())
	if err != nil {
		return err
	}
	return a.showWebhook(w, r, v, http.StatusOK, e, views.WebhookPage{Secret: secret, Rolled: true})
}

// testWebhook sends a test to an endpoint.
func (a *app) testWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.aboutWebhook(w, r, v, "test", func(id uuid.UUID) error {
		_, err := a.Webhooks.Test(r.Context(), v.who.OrgID, id, v.who.Actor())
		return err
	})
}

// switchWebhook turns an endpoint on or off.
func (a *app) switchWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	on, done := r.PostForm.Get("to") == "on", "off"
	if on {
		done = "on"
	}
	return a.aboutWebhook(w, r, v, done, func(id uuid.UUID) error {
		_, err := a.Webhooks.Change(r.Context(), v.who.OrgID, id, webhooks.Change{On: &on}, v.who.Actor())
		return err
	})
}

// aboutWebhook does something to the endpoint in the path, for an owner, and goes back to its page.
func (a *app) aboutWebhook(w http.ResponseWriter, r *http.Request, v *visit, done string, do func(id uuid.UUID) error) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	e, err := a.hookOf(r, v)
	if err != nil {
		return err
	}
	if err := do(e.ID); err != nil {
		f := fault.As(err)
		if f.Kind != fault.Conflict {
			return err
		}
		return a.showWebhook(w, r, v, answerTo(f.Kind).status, e, views.WebhookPage{Problem: f.Public})
	}
	seeOther(w, r, webhooksPath+"/"+e.ID.String()+"?done="+done)
	return nil
}

// removeWebhookPage asks before an endpoint is removed.
func (a *app) removeWebhookPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	e, err := a.hookOf(r, v)
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, views.RemoveWebhook(views.RemoveWebhookPage{Meta: a.meta(r, v, "Remove this endpoint?"), Endpoint: endpointLine(e)}))
}

// removeWebhook takes an endpoint away.
func (a *app) removeWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	id, err := webhookID(r)
	if err != nil {
		return err
	}
	if err := a.Webhooks.Remove(r.Context(), v.who.OrgID, id, v.who.Actor()); err != nil {
		return err
	}
	seeOther(w, r, webhooksPath+"?done=removed")
	return nil
}

// deliveryPage shows one delivery with every attempt.
func (a *app) deliveryPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.showDelivery(w, r, v, http.StatusOK, views.DeliveryPage{Notice: webhooksDone[r.URL.Query().Get("done")]})
}

func (a *app) showDelivery(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.DeliveryPage) error {
	id, err := deliveryID(r)
	if err != nil {
		return err
	}
	d, body, attempts, err := a.Webhooks.Delivery(r.Context(), v.who.OrgID, id)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, body, "", "  "); err != nil {
		return err
	}
	p.Delivery, p.Body = deliveryLine(d), pretty.String()
	for _, t := range attempts {
		p.Attempts = append(p.Attempts, views.AttemptLine{N: t.N, At: t.At, TookMS: t.TookMS, Status: t.Status, Good: t.Good(), Answer: t.Answer, Error: t.Error})
	}
	p.Manages, p.Meta = v.who.Role == auth.RoleOwner, a.meta(r, v, "Delivery")
	return a.render(w, r, status, views.Delivery(p))
}

func deliveryID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return uuid.Nil, fault.Wrap(fault.NotFound, "There is no such delivery.", err)
	}
	return id, nil
}

// resendWebhook has a delivery tried again now.
func (a *app) resendWebhook(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := mayManageWebhooks(v.who); err != nil {
		return err
	}
	id, err := deliveryID(r)
	if err != nil {
		return err
	}
	if err := a.Webhooks.Resend(r.Context(), v.who.OrgID, id, v.who.Actor()); err != nil {
		f := fault.As(err)
		if f.Kind != fault.Conflict {
			return err
		}
		return a.showDelivery(w, r, v, answerTo(f.Kind).status, views.DeliveryPage{Problem: f.Public})
	}
	seeOther(w, r, deliveriesPath+"/"+id.String()+"?done=resent")
	return nil
}
