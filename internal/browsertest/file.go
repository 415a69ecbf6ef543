package browsertest

import "github.com/chromedp/chromedp"

// Choose picks a file for a field that asks for one.
func (p *Tab) Choose(selector, path string) {
	p.t.Helper()
	p.do("choose a file for "+selector, chromedp.SetUploadFiles(chromedp.CSS(selector), []string{path}))
}
