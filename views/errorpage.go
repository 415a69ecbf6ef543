package views

import (
	"strconv"

	"github.com/a-h/templ"

	"ringfence/views/ui"
)

// ErrorPageModel is the model of every error page.
type ErrorPageModel struct {
	Meta PageMeta
	// Status is the HTTP status, shown small.
	Status int
	// Title and Sentence say what happened and what to do; they come from the public part of a fault alone.
	Title, Sentence string
	// RequestID is what support needs to find the request in the log; it may be empty.
	RequestID string
	// ActionLabel and ActionHref are the way on; empty is the dashboard, or the sign-in page for somebody signed out.
	ActionLabel, ActionHref string
}

// Problem answers an HTMX request that failed: the notice alone. htmx puts it into the place for problems at the head of
// the page, by the responseHandling of Layout.
func Problem(p ErrorPageModel) templ.Component { return Part(ErrorPage(p), FragmentProblem) }

func (p ErrorPageModel) action() ui.ButtonProps {
	label, href := p.ActionLabel, p.ActionHref
	if label == "" || href == "" {
		label, href = "Go to the dashboard", "/dashboard"
		if !p.Meta.User.SignedIn() {
			label, href = "Go to sign in", "/login"
		}
	}
	return ui.ButtonProps{Label: label, Href: href, Variant: ui.ButtonPrimary}
}

func (p ErrorPageModel) tone() ui.Tone {
	if p.Status >= 500 {
		return ui.ToneBad
	}
	return ui.ToneWarn
}

func (p ErrorPageModel) status() string { return strconv.Itoa(p.Status) }
