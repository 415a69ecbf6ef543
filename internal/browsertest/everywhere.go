package browsertest

import (
	"context"
	"os"
	"slices"
	"sync"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Seen is a state of a page that [Tab.Everywhere] judged.
type Seen struct {
	// Name is what the state is called, Title the page's, and URL where it was.
	Name, Title, URL string
	// Swapped says that a part of the page had been exchanged since it was loaded.
	Swapped bool
	// Picture is a small one on a desktop in light, WebP; nil unless [Pictures] is set.
	Picture []byte
}

// Pictures is the variable that asks for a small picture of each state.
const Pictures = "RINGFENCE_PAGES"

var seen struct {
	mu  sync.Mutex
	all []Seen
}

// AllSeen are the states that were judged in this process, in the order in which that was.
func AllSeen() []Seen {
	seen.mu.Lock()
	defer seen.mu.Unlock()
	return slices.Clone(seen.all)
}

// Everywhere judges the page as it stands in light and dark, on a desktop and on a phone: axe, and no scrolling sideways. On
// each width and in each theme all rules are asked once, and those of colours in all four: other rules see no difference.
// Pictures are taken as NAME-desktop-light and so on. With the race detector it does nothing.
func (p *Tab) Everywhere(name string) {
	p.t.Helper()
	if !judging {
		return
	}
	was := p.view
	for _, v := range []struct {
		name string
		View

		rules string
	}{
		{"phone-light", View{Width: Phone, Height: 812}, axeColours}, // each differs from the one before in one thing
		{"phone-dark", View{Width: Phone, Height: 812, Dark: true}, axeRun},
		{"desktop-dark", View{Width: Desktop, Height: 900, Dark: true}, axeColours},
		{"desktop-light", View{Width: Desktop, Height: 900}, axeRun}, // last, since most pages are looked at like this afterwards
	} {
		v.NoScripts = was.NoScripts
		p.Look(v.View)
		p.axe(v.rules)
		p.FitsWidth()
		p.Screenshot(name + "-" + v.name)
	}
	p.note(name)
	p.Look(was)
}

// note keeps what was judged.
func (p *Tab) note(name string) {
	p.t.Helper()
	s := Seen{Name: name, Title: Eval[string](p, `document.title`), URL: p.URL()}
	p.mu.Lock()
	s.Swapped = p.swaps > 0
	p.mu.Unlock()
	if os.Getenv(Pictures) != "" {
		s.Picture = p.small()
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	seen.all = append(seen.all, s)
}

// small is a picture of what is in view, at half its size.
func (p *Tab) small() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	quality := int64(70)
	res, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Format: page.CaptureScreenshotFormatWebp, Quality: &quality,
		Clip: &page.Viewport{Width: float64(p.view.Width), Height: float64(p.view.Height), Scale: 0.5},
	})
	if err != nil {
		p.t.Fatalf("couldn't take a small picture: %v", err)
	}
	return res.Data
}
