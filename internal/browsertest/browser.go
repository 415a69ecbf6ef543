// Package browsertest drives a real Chromium through pages, as a person would: clicks, keys, and waiting for what
// appears. Every wait has a deadline, nothing sleeps, and whatever the browser itself complains about (an exception, a
// violation of the content security policy, a failed request that was not expected) fails the test.
package browsertest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Patience is how long a page may take for any one thing.
const Patience = time.Minute

// Browser is a running Chromium with a profile of its own. It may be shared by tests that run after one another.
type Browser struct{ ctx context.Context } //nolint:containedctx // chromedp's handle on a browser is a context

// names are those under which systems install it, the same that deploy/setup.sh looks for.
var names = []string{
	"headless_shell", "headless-shell", "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// errNoBrowser is a failure of the machine, not a reason to skip: a suite that skips proves nothing.
var errNoBrowser = errors.New("no Chromium was found in PATH (looked for " + strings.Join(names, ", ") + "): run deploy/setup.sh test")

// find gives the first of the names that can be run.
func find(look func(name string) (string, error)) (string, error) {
	for _, name := range names {
		if path, err := look(name); err == nil {
			return path, nil
		}
	}
	return "", errNoBrowser
}

// Start runs a Chromium until t ends. Give it to the tests below t rather than starting one for each.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := find(exec.LookPath)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:usetesting // the browser's helpers may still write when t.TempDir would remove it, and fail the test by that
	profile, err := os.MkdirTemp("", "ringfence-browser-")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Env("XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile),
		// Its own sandbox refuses root and many containers. It is shown our own pages on loopback and nothing else.
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		// Nothing but what the test asks for goes out, so that it runs in closed networks, and no proxy comes between.
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication,CertificateTransparencyComponentUpdater"),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", "en-GB"),
		chromedp.WSURLReadTimeout(time.Minute), // a loaded machine starts it slowly
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
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
