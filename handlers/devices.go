package handlers

import (
	"net/http"

	"github.com/mileusna/useragent"

	"ringfence/internal/auth"
	"ringfence/views"
)

const sessionsPath = "/settings/sessions"

// devices lists where the person is signed in.
func (a *app) devices(w http.ResponseWriter, r *http.Request, v *visit) error {
	list, err := a.Auth.Devices(r.Context(), v.who)
	if err != nil {
		return err
	}
	p := views.DevicesPage{Meta: a.meta(r, v, "Sessions")}
	switch r.URL.Query().Get("done") {
	case "one":
		p.Notice = "That session is over. Whoever had it open is signed out with their next click."
	case "others":
		p.Notice = "You are signed out everywhere else."
	}
	for _, d := range list {
		p.Devices = append(p.Devices, views.DeviceLine{
			ID: d.ID.Hex(), Device: deviceWords(d.UserAgent), Address: d.Address, OrgName: d.OrgName, SignedInAt: d.SignedInAt, LastSeenAt: d.LastSeenAt, This: d.This,
		})
	}
	return a.render(w, r, http.StatusOK, views.Devices(p))
}

// endDevice signs one other browser out. The one that asks has the button in the navigation for that.
func (a *app) endDevice(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := auth.ParseSessionID(r.PostForm.Get("id"))
	if err != nil {
		return err
	}
	if id == v.who.SessionID {
		return a.logout(w, r, v)
	}
	if err := a.Auth.EndDevice(r.Context(), v.who, id); err != nil {
		return err
	}
	a.streams.end(id)
	seeOther(w, r, sessionsPath+"?done=one")
	return nil
}

// endOtherDevices signs every other browser out.
func (a *app) endOtherDevices(w http.ResponseWriter, r *http.Request, v *visit) error {
	ended, err := a.Auth.EndOtherDevices(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, id := range ended {
		a.streams.end(id)
	}
	seeOther(w, r, sessionsPath+"?done=others")
	return nil
}

// deviceWords says what a browser seems to be. It believes what the browser says of itself, which may be a lie.
func deviceWords(userAgent string) string {
	ua := useragent.Parse(userAgent)
	name, system := ua.Name, ua.OS
	switch {
	case userAgent == "":
		return "A program that does not say what it is"
	case name == "" || name == userAgent && len(name) > 40:
		name = "Unknown browser"
	}
	if ua.Bot {
		return name + " (a program)"
	}
	switch {
	case system == "":
		return name
	case ua.Tablet:
		return name + " on a tablet with " + system
	case ua.Mobile:
		return name + " on a phone with " + system
	}
	return name + " on " + system
}
