// Package browser finds a Chromium and says how it is run without a window, for tests and measurements.
package browser

import (
	"errors"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

// names are those under which systems install it, the same that deploy/setup.sh looks for.
var names = []string{
	"headless_shell", "headless-shell", "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// errNone is a failure of the machine, not a reason to skip: a suite that skips proves nothing.
var errNone = errors.New("no Chromium was found in PATH (looked for " + strings.Join(names, ", ") + "): run deploy/setup.sh test")

// Find gives the path of the first that can be run; look is exec.LookPath.
func Find(look func(name string) (string, error)) (string, error) {
	for _, name := range names {
		if path, err := look(name); err == nil {
			return path, nil
		}
	}
	return "", errNone
}

// Options run the Chromium at path with a profile of its own, which is a directory. It is for our own pages on loopback alone.
func Options(path, profile string) []chromedp.ExecAllocatorOption {
	return append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Env("XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile),
		// Its own sandbox refuses root and many containers. It is shown our own pages on loopback and nothing else.
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		// Nothing but what is asked for goes out, so that it runs in closed networks, and no proxy comes between.
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
}
