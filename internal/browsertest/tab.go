package browsertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// View is what a person looks with. The zero value is a desktop in light colours with scripts.
type View struct {
	Width, Height int64 // pixels; zero is 1280 × 900
	Dark          bool
	// NoScripts is a browser in which scripts are switched off.
	NoScripts bool
}

// Desktop and Phone are the widths that pages are looked at in.
const (
	Desktop = 1280
	Phone   = 375
)

// Tab is one tab, used from one goroutine. Its methods end the test when something does not come within Patience.
type Tab struct {
	t    testing.TB
	ctx  context.Context //nolint:containedctx // chromedp's handle on a tab is a context
	view View

	mu         sync.Mutex
	complaints []string
	expected   []string
	document   int64 // status of the page itself
	loaded     int   // how many pages were loaded
	swaps      int   // how often a part of the page was asked for, or told, since
}

// Visit opens a tab for somebody new, who has no cookies yet.
func (b *Browser) Visit(t testing.TB, v View) *Tab {
	t.Helper()
	return open(b.ctx, t, v, chromedp.WithNewBrowserContext())
}

// Another opens a second tab of the same person.
func (p *Tab) Another() *Tab {
	p.t.Helper()
	return open(p.ctx, p.t, p.view)
}

func open(parent context.Context, t testing.TB, v View, options ...chromedp.ContextOption) *Tab {
	t.Helper()
	p := &Tab{t: t}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(p.listen))...)
	p.ctx = ctx
	t.Cleanup(func() { //nolint:contextcheck // a tab has its own context
		if t.Failed() {
			p.Screenshot("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
		}
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.complaints {
			if !contains(p.expected, c) {
				t.Errorf("the browser complained: %s", c)
			}
		}
	})
	// The first call ties the tab to its context, so it must not be one that times out.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("couldn't open a tab: %v", err)
	}
	p.Look(v) //nolint:contextcheck // a tab has its own context
	return p
}

// listen runs in chromedp's own loop: it only notes down.
func (p *Tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		p.complaints = append(p.complaints, "exception: "+text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			p.complaints = append(p.complaints, fmt.Sprintf("console.%s: %s", e.Type, strings.Join(words, " ")))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.complaints = append(p.complaints, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			p.document = e.Response.Status
			p.loaded++
			p.swaps = 0
		}
		if e.Type == network.ResourceTypeXHR || e.Type == network.ResourceTypeFetch {
			p.swaps++
		}
	case *network.EventEventSourceMessageReceived:
		p.swaps++
	}
}

func contains(parts []string, text string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// Expect says that complaints with this text are part of the test, such as "status of 422".
func (p *Tab) Expect(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, text)
}

// Look changes what the person looks with; the page stays.
func (p *Tab) Look(v View) {
	p.t.Helper()
	if v.Width == 0 {
		v.Width = Desktop
	}
	if v.Height == 0 {
		v.Height = 900
	}
	if v == p.view {
		return
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	was := p.view
	p.view = v
	var steps []chromedp.Action[chromedp.Void] // each has the page styled and laid out anew
	if was == (View{}) || was.Dark != v.Dark || was.NoScripts != v.NoScripts {
		steps = append(steps, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			// Motion is reduced, so that nothing is judged or pictured half way.
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
			if err == nil {
				_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: v.NoScripts})
			}
			return err
		}))
	}
	if was.Width != v.Width || was.Height != v.Height {
		steps = append(steps, chromedp.EmulateViewport(v.Width, v.Height))
	}
	p.do("look", steps...)
	// Colours may fade from one scheme to the other, parents first; what is half way must not be judged.
	if !Eval[bool](p, settle) {
		p.t.Fatalf("the colours of %s do not settle", p.URL())
	}
}

// settle brings every fade to its end, and those that begin by that, generation by generation.
const settle = `(() => {
	for (let i = 0; i < 50; i++) {
		const fading = document.getAnimations()
		if (fading.length === 0) return true
		fading.forEach(f => f.finish())
	}
	return false
})()`

// do runs the steps within Patience.
func (p *Tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, p.describe())
	}
}

// describe says what the person sees, for a failure's message.
func (p *Tab) describe() string {
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		return fmt.Sprintf("(the page cannot be read: %v)", err)
	}
	return "the tab shows " + seen
}

// Open goes to a page and waits until it is loaded.
func (p *Tab) Open(url string) {
	p.t.Helper()
	p.do("open "+url, chromedp.Navigate(url))
}

// Reload loads the page again, once nothing is under way that it would cut off: the page complains of that.
func (p *Tab) Reload() {
	p.t.Helper()
	p.WaitFor("nothing under way", `!document.querySelector(".htmx-request")`)
	p.do("reload", chromedp.Reload())
}

// Click presses the left button on the element, once it is visible. It does not wait for what follows.
func (p *Tab) Click(selector string) {
	p.t.Helper()
	p.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// DoubleClick presses twice, as impatient people do.
func (p *Tab) DoubleClick(selector string) {
	p.t.Helper()
	p.do("double click "+selector, chromedp.DoubleClick(chromedp.CSS(selector)))
}

// Leave clicks what leads to another page and waits until that one is there.
func (p *Tab) Leave(selector string) {
	p.t.Helper()
	p.loading(func() { p.Click(selector) })
}

// Press types into the field that has the focus, such as "\r" for Enter.
func (p *Tab) Press(keys string) {
	p.t.Helper()
	p.do("press keys", chromedp.KeyEvent(keys))
}

// loading does something that loads another page and waits until that is complete.
func (p *Tab) loading(do func()) {
	p.t.Helper()
	before := p.pages()
	do()
	p.Until("another page", func() bool {
		return p.pages() > before && p.try(`document.readyState === "complete" && location.href !== "about:blank"`)
	})
}

func (p *Tab) pages() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loaded
}

// Type replaces what the field holds, all at once as pasting does. Click and Press go key by key.
func (p *Tab) Type(selector, text string) {
	p.t.Helper()
	p.do("type into "+selector,
		chromedp.WaitVisible(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`{ const el = document.querySelector(%q); el.focus(); el.select(); undefined }`, selector)),
		chromedp.KeyEvent("\b"),
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			if text == "" {
				return nil
			}
			_, err := chromedp.Call(ctx, input.InsertText, input.InsertTextParams{Text: text})
			return err
		}))
}

// Eval gives the value of a JavaScript expression, which works with scripts switched off too.
func Eval[T any](p *Tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%.120s: %v", expression, err)
	}
	return v
}

// try is Eval for conditions that are asked again: a page that is just changing is no failure.
func (p *Tab) try(condition string) bool {
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition))
	return err == nil && holds
}

// Until waits for the condition.
func (p *Tab) Until(what string, condition func() bool) {
	p.t.Helper()
	deadline, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.Done():
			p.t.Fatalf("waited in vain for %s; %s", what, p.describe())
		}
	}
}

// textOf gives an element's text with its white space made single, "" when there is none.
const textOf = `((document.querySelector(%q)?.innerText ?? "").replace(/\s+/g, " ").trim())`

// Text is the element's text as it is shown, with white space made single; "" when there is no such element.
func (p *Tab) Text(selector string) string {
	p.t.Helper()
	return Eval[string](p, fmt.Sprintf(textOf, selector))
}

// WaitText waits until the element's text contains the words.
func (p *Tab) WaitText(selector, words string) {
	p.t.Helper()
	p.Until(fmt.Sprintf("%q in %s", words, selector), func() bool {
		return p.try(fmt.Sprintf(textOf+`.includes(%q)`, selector, words))
	})
}

// WaitPath waits until the tab is at an address whose path has the prefix.
func (p *Tab) WaitPath(prefix string) {
	p.t.Helper()
	p.Until("the address "+prefix, func() bool {
		return p.try(fmt.Sprintf(`location.pathname.startsWith(%q) && document.readyState === "complete"`, prefix))
	})
}

// WaitFor waits until a JavaScript expression is true.
func (p *Tab) WaitFor(what, condition string) {
	p.t.Helper()
	p.Until(what, func() bool { return p.try("!!(" + condition + ")") })
}

// Count is how many elements there are.
func (p *Tab) Count(selector string) int {
	p.t.Helper()
	return Eval[int](p, fmt.Sprintf(`document.querySelectorAll(%q).length`, selector))
}

// Path is where the tab is.
func (p *Tab) Path() string {
	p.t.Helper()
	return Eval[string](p, `location.pathname`)
}

// URL is the tab's whole address.
func (p *Tab) URL() string {
	p.t.Helper()
	return Eval[string](p, `location.href`)
}

// Focused is the id of the element that has the focus.
func (p *Tab) Focused() string {
	p.t.Helper()
	return Eval[string](p, `document.activeElement?.id ?? ""`)
}

// Status is the status the page was answered with.
func (p *Tab) Status() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.document
}

// SetCookie gives the person a cookie, as a sign-in elsewhere would.
func (p *Tab) SetCookie(url, name, value string) {
	p.t.Helper()
	p.do("set a cookie", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: url})
		return err
	}))
}

// FitsWidth fails the test when the page can be scrolled sideways.
func (p *Tab) FitsWidth() {
	p.t.Helper()
	type box struct{ Page, Window int64 }
	b := Eval[box](p, `({Page: document.documentElement.scrollWidth, Window: document.documentElement.clientWidth})`)
	if b.Page > b.Window {
		p.t.Errorf("%s is %d px wide in a window of %d px", p.URL(), b.Page, b.Window)
	}
}

// Stays fails the test when the element has another place on the page after something was done than before it, on a desktop or on
// a phone: what moves away under a finger is pressed beside.
func (p *Tab) Stays(selector string, do func()) {
	p.t.Helper()
	was := p.view
	place := func(v View) (at int64) {
		v.Dark, v.NoScripts = was.Dark, was.NoScripts
		p.Look(v)
		return Eval[int64](p, fmt.Sprintf(`Math.round(document.querySelector(%q).getBoundingClientRect().top + scrollY)`, selector))
	}
	views := []View{{Width: Phone, Height: 812}, {Width: 1024, Height: 900}, {Width: Desktop, Height: 900}}
	before := make([]int64, len(views))
	for i, v := range views {
		before[i] = place(v)
	}
	p.Look(was)
	do()
	for i, v := range views {
		if now := place(v); now != before[i] {
			p.t.Errorf("%s, %d px wide: %s moved from %d to %d", p.URL(), v.Width, selector, before[i], now)
		}
	}
	p.Look(was)
}

// screenshots is the variable that names the directory for pictures.
const screenshots = "RINGFENCE_SCREENSHOTS"

// Screenshot writes NAME.png of what is in view into the directory RINGFENCE_SCREENSHOTS; without one it does nothing.
func (p *Tab) Screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(dir, 0o750) //nolint:gosec // whoever runs the tests names the directory
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600) //nolint:gosec // the same
	}
	if err != nil {
		p.t.Errorf("couldn't take the picture %s: %v", name, err)
	}
}

// Cookies are those that the person would send to the address.
func (p *Tab) Cookies(url string) map[string]string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Patience)
	defer cancel()
	res, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
	if err != nil {
		p.t.Fatalf("couldn't read the cookies: %v", err)
	}
	cookies := map[string]string{}
	for _, c := range res.Cookies {
		cookies[c.Name] = c.Value
	}
	return cookies
}
