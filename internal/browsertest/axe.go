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
})` + axeFound

// axeColours asks for those of the rules that judge colours.
const axeColours = `axe.run(document, {
	runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']},
	resultTypes: ['violations'], preload: false, iframes: false,
})` + axeFound

const axeFound = `.then(r => r.violations.flatMap(v => v.nodes.map(n => ({
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
	p.axe(axeRun)
}

func (p *Tab) axe(run string) {
	p.t.Helper()
	if !Eval[bool](p, `typeof axe !== 'undefined'`) {
		Eval[bool](p, axeSource+"\n;true")
	}
	for _, v := range Eval[[]violation](p, run) {
		p.t.Errorf("accessibility: %s (%s): %s\n  page    %s, %d px, dark %t\n  element %s\n          %s\n  %s",
			v.Rule, v.Impact, v.Help, p.URL(), p.view.Width, p.view.Dark, v.Where, v.Element, strings.ReplaceAll(v.Why, "\n", "\n  "))
	}
}
