package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Zone moves the person to another time zone, such as Asia/Kolkata; pages that are loaded from now on know it.
func (p *Tab) Zone(name string) {
	p.t.Helper()
	p.do("move to "+name, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
		return err
	}))
}

// steadyScript adds up how far what was on the screen has moved by itself while the page came up, in thousandths
// (https://web.dev/articles/cls).
const steadyScript = `new Promise(done => {
	let sum = 0, from = []
	const look = list => list.getEntries().forEach(e => { if (!e.hadRecentInput) { sum += e.value; from.push(...e.sources.map(s => s.node?.outerHTML?.slice(0, 120))) } })
	const o = new PerformanceObserver(look)
	o.observe({type: 'layout-shift', buffered: true})
	requestAnimationFrame(() => requestAnimationFrame(() => { look({getEntries: () => o.takeRecords()}); o.disconnect(); done({Thousandths: Math.round(sum * 1000), From: from}) }))
})`

// Steady fails the test where something on the page has moved while it came up.
func (p *Tab) Steady() {
	p.t.Helper()
	moved := Eval[struct {
		Thousandths int
		From        []string
	}](p, steadyScript)
	if moved.Thousandths > 0 {
		p.t.Errorf("%s moved while it came up, by %d thousandths: %v", p.URL(), moved.Thousandths, moved.From)
	}
}

// Whole writes NAME.png of the whole page, as [Tab.Screenshot] does of what is in view.
func (p *Tab) Whole(name string) {
	p.t.Helper()
	was := p.view
	height := Eval[int64](p, `document.documentElement.scrollHeight`)
	p.Look(View{Width: was.Width, Height: height, Dark: was.Dark, NoScripts: was.NoScripts})
	p.Screenshot(name)
	p.Look(was)
}
