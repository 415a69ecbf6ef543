package browsertest

import (
	_ "embed"
	"strings"
)

// axe-core 4, https://github.com/dequelabs/axe-core (MPL 2.0, see the head of the file).
//
//go:embed axe.min.js
var axeSource string

// axeRun asks for the rules of WCAG 2.2, levels A and AA. target-size is one of them, but is off until asked for.
const axeRun = `axe.run(document, {
	runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']},
	rules: {'target-size': {enabled: true}},
	resultTypes: ['violations'], preload: false, iframes: false,
}).then(r => r.violations.flatMap(v => v.nodes.map(n => ({
	Rule: v.id, Impact: v.impact ?? '', Help: v.help, Element: n.html.slice(0, 300), Where: n.target.join(' '), Why: n.failureSummary ?? '',
}))))`

// violation is one element that breaks one rule.
type violation struct {
	Rule, Impact, Help, Element, Where, Why string
}

// Axe fails the test for everything on the page that axe-core finds to break WCAG 2.2 AA. The debugger injects it, so
// the page's policy against foreign scripts stays in force.
func (p *Tab) Axe() {
	p.t.Helper()
	if !Eval[bool](p, `typeof axe !== 'undefined'`) {
		Eval[bool](p, axeSource+"\n;true")
	}
	for _, v := range Eval[[]violation](p, axeRun) {
		p.t.Errorf("accessibility: %s (%s): %s\n  page    %s, %d px, dark %t\n  element %s\n          %s\n  %s",
			v.Rule, v.Impact, v.Help, p.URL(), p.view.Width, p.view.Dark, v.Where, v.Element, strings.ReplaceAll(v.Why, "\n", "\n  "))
	}
}

// Everywhere judges the page as it stands in light and dark, on a desktop and on a phone: axe, and no scrolling
// sideways. Pictures are taken as NAME-desktop-light and so on.
func (p *Tab) Everywhere(name string) {
	p.t.Helper()
	was := p.view
	for _, v := range []struct {
		name string
		View
	}{
		{"phone-dark", View{Width: Phone, Height: 812, Dark: true}},
		{"phone-light", View{Width: Phone, Height: 812}},
		{"desktop-dark", View{Width: Desktop, Height: 900, Dark: true}},
		{"desktop-light", View{Width: Desktop, Height: 900}}, // last, since most pages are looked at like this afterwards
	} {
		v.NoScripts = was.NoScripts
		p.Look(v.View)
		p.Axe()
		p.FitsWidth()
		p.Screenshot(name + "-" + v.name)
	}
	p.Look(was)
}
