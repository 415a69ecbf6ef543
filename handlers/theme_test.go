package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The colours that somebody chose are kept by their browser, come with every page from the first byte on, and stay after they
// have signed out.
func TestColoursAreKept(t *testing.T) {
	s := identitySite(t)
	b := s.as("owner@harbour.example")
	choose := func(theme string) reply { return b.send("/settings", "/settings/theme", url.Values{"theme": {theme}}) }
	theme := func(path string) string { return b.get(path).doc(t).Find("html").AttrOr("data-theme", "") }
	for _, chosen := range []string{"dark", "light"} {
		res := choose(chosen)
		wantStatus(t, chosen, res, http.StatusSeeOther)
		if got := res.Header.Get("Location"); got != "/settings#appearance" {
			t.Errorf("it leads to %q", got)
		}
		cookie := res.Header.Get("Set-Cookie")
		if !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Lax") || !strings.Contains(cookie, "Max-Age=34560000") {
			t.Errorf("the cookie is %s", cookie)
		}
		for _, path := range []string{"/settings", "/wallet", "/nothing", "/status"} {
			if got := theme(path); got != chosen {
				t.Errorf("%s: %q was chosen and %q shown", path, chosen, got)
			}
		}
	}
	if got := b.get("/status").Header.Values("Vary"); !strings.Contains(strings.Join(got, ","), "Cookie") {
		t.Errorf("a page that may be kept for others varies with %v", got)
	}
	wantStatus(t, "no theme", choose(`dark"><script>`), http.StatusUnprocessableEntity)
	wantStatus(t, "sign-out", b.send("/settings", "/logout", nil), http.StatusSeeOther)
	if got := theme("/login"); got != "light" {
		t.Errorf("signed out, %q is shown", got)
	}
	wantStatus(t, "signing in again", b.tryLogin("owner@harbour.example", password), http.StatusSeeOther)
	res := choose("")
	wantStatus(t, "like the device", res, http.StatusSeeOther)
	if cookie := res.Header.Get("Set-Cookie"); !strings.Contains(cookie, "Max-Age=0") {
		t.Errorf("like the device, and the cookie stays: %s", cookie)
	}
	if got := theme("/settings"); got != "" {
		t.Errorf("like the device, and %q is shown", got)
	}
}
