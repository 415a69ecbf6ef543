// Package views holds the pages: pure functions of a typed view model, rendered by templ. A page knows no request, no
// database and no clock; what it shows is in its model. A part that HTMX swaps is a templ.Fragment of the same page (see
// Part), never a second template.
package views
