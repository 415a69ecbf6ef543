// Package browsertest drives a real Chromium through pages, as a person would: clicks, keys, and waiting for what
// appears. Every wait has a deadline, nothing sleeps, and whatever the browser itself complains about (an exception, a
// violation of the content security policy, a failed request that was not expected) fails the test.
package browsertest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ringfence/internal/browser"
)

// Patience is how long a page may take for any one thing.
const Patience = time.Minute

// Browser is a running Chromium with a profile of its own. It may be shared by tests that run after one another.
type Browser struct{ ctx context.Context } //nolint:containedctx // chromedp's handle on a browser is a context

// frugal has the browser do without what pays only on pages that are open for long: helpers of its engine that optimise scripts
// beside them, and a process that paints. What pages do is the same, for a sixth less of the processor's time.
var frugal = []chromedp.ExecAllocatorOption{
	chromedp.Flag("js-flags", "--single-threaded --max-lazy --no-opt --no-maglev"),
	chromedp.Flag("in-process-gpu", true),
}

// Start runs a Chromium until t ends. Give it to the tests below t rather than starting one for each.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := browser.Find(exec.LookPath)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:usetesting // the browser's helpers may still write when t.TempDir would remove it, and fail the test by that
	profile, err := os.MkdirTemp("", "ringfence-browser-")
	if err != nil {
		t.Fatal(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(browser.Options(path, profile), frugal...)...)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(func() {
		closing, done := context.WithTimeout(ctx, Patience)
		defer done()
		err := chromedp.Cancel(closing)
		cancel()
		stop()
		// Helpers of the browser may outlive it by a moment and write into the profile once more.
		removing, done := context.WithTimeout(context.Background(), Patience)
		defer done()
		rerr := os.RemoveAll(profile)
		for rerr != nil && removing.Err() == nil {
			rerr = os.RemoveAll(profile)
		}
		if err := errors.Join(err, rerr); err != nil {
			t.Logf("closing the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("couldn't start %s: %v", path, err)
	}
	return &Browser{ctx}
}
