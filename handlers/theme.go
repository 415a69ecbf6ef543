package handlers

import (
	"net/http"
	"time"

	"ringfence/internal/fault"
	"ringfence/views"
)

// themeAge is how long a browser keeps the choice of colours: the longest that browsers allow (RFC 6265bis, 5.5).
const themeAge = 400 * 24 * time.Hour

// themeCookie is the name of the choice's own cookie, which outlives sessions: whoever comes back is not blinded by the page
// for signing in.
func (a *app) themeCookie() string { return a.cookie + "-theme" }

// theme is what the reader's browser has chosen. It comes with the request, so that no page is shown in other colours first.
func (a *app) theme(r *http.Request) views.Theme {
	c, err := r.Cookie(a.themeCookie())
	if err != nil {
		return views.ThemeSystem
	}
	return themeNamed(c.Value)
}

// themeNamed is the theme with that name; whatever is none follows the device.
func themeNamed(name string) views.Theme {
	switch t := views.Theme(name); t {
	case views.ThemeLight, views.ThemeDark:
		return t
	case views.ThemeSystem:
	}
	return views.ThemeSystem
}

// setTheme keeps the choice of colours in the browser that it was made in.
func (a *app) setTheme(w http.ResponseWriter, r *http.Request, _ *visit) error {
	name := r.PostForm.Get("theme")
	chosen := themeNamed(name)
	if string(chosen) != name {
		return fault.New(fault.Invalid, "There are no such colours. Choose again in the settings.")
	}
	c := &http.Cookie{ //nolint:gosec // Secure as the session's cookie is: not over http in development
		Name: a.themeCookie(), Value: string(chosen), Path: "/", MaxAge: int(themeAge / time.Second),
		HttpOnly: true, Secure: a.cookies.Options.Secure, SameSite: http.SameSiteLaxMode,
	}
	if chosen == views.ThemeSystem {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
	seeOther(w, r, settingsPath+"#appearance")
	return nil
}
