package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"ringfence/internal/browser"
)

// pagePainted is when a Chromium first showed something of a page, since the navigation began: for somebody who was never
// there, and with styles, font and scripts in its cache.
type pagePainted struct {
	First percentiles `json:"first_visit"`
	Again percentiles `json:"again"`
}

// paintPatience is how long one page may take, and the browser to start and to end.
const paintPatience = time.Minute

// firstPaint gives the first contentful paint in milliseconds, once there is one
// (https://www.w3.org/TR/paint-timing/#first-contentful-paint).
const firstPaint = `new Promise(done => {
	const tell = entries => entries.filter(e => e.name === "first-contentful-paint").forEach(e => done(e.startTime))
	new PerformanceObserver(list => tell(list.getEntries())).observe({type: "paint", buffered: true})
})`

// paint opens each page in a headless Chromium, with the cookies of somebody signed in.
func (c pagesCmd) paint(ctx context.Context, cookies []*http.Cookie) (painted []pagePainted, err error) {
	path, err := browser.Find(exec.LookPath)
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp("", "ringfence-bench-")
	if err != nil {
		return nil, fmt.Errorf("couldn't make a profile for the browser: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(profile)) }()
	allocator, stop := chromedp.NewExecAllocator(ctx, browser.Options(path, profile)...)
	defer stop()
	window, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	defer cancel()
	if err := chromedp.Do(window); err != nil {
		return nil, fmt.Errorf("couldn't start %s: %w", path, err)
	}
	defer func() {
		closing, done := context.WithTimeout(window, paintPatience)
		defer done()
		err = errors.Join(err, chromedp.Cancel(closing))
	}()
	for _, page := range c.Pages {
		var first, again []time.Duration
		for range c.Paints {
			one, two, err := paintTwice(window, c.Server+page, cookies)
			if err != nil {
				return painted, fmt.Errorf("couldn't look at %s: %w", page, err)
			}
			first, again = append(first, one), append(again, two)
		}
		painted = append(painted, pagePainted{percentilesOf(first), percentilesOf(again)})
	}
	return painted, nil
}

// paintTwice opens a page as somebody new to the browser, and then once more.
func paintTwice(window context.Context, address string, cookies []*http.Cookie) (first, again time.Duration, err error) {
	tab, cancel := chromedp.NewContext(window, chromedp.WithNewBrowserContext())
	defer cancel()
	if err := chromedp.Do(tab); err != nil { // ties the tab to its context, so it must not be one that times out
		return 0, 0, err
	}
	looking, done := context.WithTimeout(tab, paintPatience)
	defer done()
	for _, cookie := range cookies {
		if err := chromedp.Do(looking, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: cookie.Name, Value: cookie.Value, URL: address})
			return err
		})); err != nil {
			return 0, 0, err
		}
	}
	for _, took := range []*time.Duration{&first, &again} {
		if err := chromedp.Do(looking, chromedp.Navigate(address)); err != nil {
			return 0, 0, err
		}
		at, err := chromedp.Run(looking, chromedp.Evaluate[float64](firstPaint, chromedp.EvalAwaitPromise))
		if err != nil {
			return 0, 0, err
		}
		*took = time.Duration(at * float64(time.Millisecond))
		// Only one page may be open, or the next would share the processor with this one's stream.
		if err := chromedp.Do(looking, chromedp.Navigate("about:blank")); err != nil {
			return 0, 0, err
		}
	}
	return first, again, nil
}
