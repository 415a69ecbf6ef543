package payments_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/payments"
)

const (
	stripeOrigin  = "https://checkout.stripe.com"
	sandboxOrigin = "http://127.0.0.1:8091"
)

// fidFragment is what Stripe hangs on its addresses: long, and percent-encoded.
var fidFragment = "#fid" + strings.Repeat("kdWxOYHwnPyd1blpxYHZxWjA0S2%2FjdnYn", 24) + "JSUl"

// goodURLs are addresses that Stripe hands out, and what else is plainly on its host.
var goodURLs = []string{
	stripeOrigin + "/",
	stripeOrigin + "/c/pay/cs_test_a1b2c3",
	stripeOrigin + "/c/pay/cs_live_a1b2c3" + fidFragment,
	stripeOrigin + "/c/pay/cs_test_a1?locale=en-GB&prefilled_email=a%40b.example",
	stripeOrigin + "/c/pay/cs_test_a1?return=https://evil.example/#@evil.example", // beyond the path nothing names a host
	stripeOrigin + "//evil.example/",                                              // a path that begins with two slashes is still a path
	stripeOrigin + "/@evil.example/",
	stripeOrigin + "/" + strings.Repeat("a", 2048-len(stripeOrigin)-1),
}

// hostileURLs are addresses that some parser, somewhere, takes to another host, or that should not exist at all.
var hostileURLs = map[string]string{
	// No address at all, or not an absolute one.
	"empty":                     "",
	"space":                     " ",
	"the host alone":            "checkout.stripe.com",
	"no path":                   stripeOrigin,
	"query in place of a path":  stripeOrigin + "?x=/",
	"fragment in place of it":   stripeOrigin + "#/",
	"relative":                  "/c/pay/cs_test_a1",
	"protocol-relative":         "//checkout.stripe.com/c/pay/cs_test_a1",
	"three slashes":             "https:///checkout.stripe.com/c/pay",
	"one slash":                 "https:/checkout.stripe.com/c/pay",
	"no slash":                  "https:checkout.stripe.com/c/pay",
	"four slashes":              "https:////checkout.stripe.com/c/pay",
	"too long":                  stripeOrigin + "/" + strings.Repeat("a", 2048-len(stripeOrigin)),
	"too long by its fragment":  stripeOrigin + "/c/pay#" + strings.Repeat("a", 2048),
	"broken percent in path":    stripeOrigin + "/%zz",
	"broken percent at the end": stripeOrigin + "/c/pay/%",

	// Another scheme.
	"http":               "http://checkout.stripe.com/c/pay",
	"HTTPS":              "HTTPS://checkout.stripe.com/c/pay",
	"Https":              "Https://checkout.stripe.com/c/pay",
	"javascript":         "javascript:alert(1)",
	"javascript, hidden": "javascript://checkout.stripe.com/%0aalert(1)",
	"data":               "data:text/html,<script>alert(1)</script>",
	"ftp":                "ftp://checkout.stripe.com/c/pay",
	"view-source":        "view-source:https://checkout.stripe.com/c/pay",
	"blob":               "blob:https://checkout.stripe.com/c/pay",
	"long s in https":    "httpſ://checkout.stripe.com/c/pay",

	// Another host that looks like it.
	"another host":             "https://evil.example/c/pay",
	"host as a prefix":         "https://checkout.stripe.com.evil.example/c/pay",
	"host as a prefix, dashed": "https://checkout.stripe.com-evil.example/c/pay",
	"host as a suffix":         "https://evil-checkout.stripe.com/c/pay",
	"subdomain":                "https://a.checkout.stripe.com/c/pay",
	"parent":                   "https://stripe.com/c/pay",
	"sister":                   "https://dashboard.stripe.com/c/pay",
	"other top level":          "https://checkout.stripe.co/c/pay",
	"trailing dot":             "https://checkout.stripe.com./c/pay",
	"upper case":               "https://CHECKOUT.STRIPE.COM/c/pay",
	"mixed case":               "https://checkout.Stripe.com/c/pay",
	"in the path only":         "https://evil.example/https://checkout.stripe.com/c/pay",
	"in the query only":        "https://evil.example/?https://checkout.stripe.com/",
	"in the fragment only":     "https://evil.example/#https://checkout.stripe.com/",
	"no host":                  "https:///c/pay",
	"loopback":                 "https://127.0.0.1/c/pay",
	"IPv6":                     "https://[::1]/c/pay",
	"IPv6 zone":                "https://[fe80::1%25eth0]/c/pay",
	"host in brackets":         "https://[checkout.stripe.com]/c/pay",
	"number for a host":        "https://2130706433/c/pay",
	"fullwidth letters":        "https://ｃheckout.stripe.com/c/pay",
	"fullwidth dot":            "https://checkout．stripe.com/c/pay",
	"ideographic dot":          "https://checkout。stripe.com/c/pay",
	"fullwidth slash":          "https://checkout.stripe.com／c/pay",
	"one-dot leader":           "https://checkout.stripe․com/c/pay",
	"cyrillic letter":          "https://сheckout.stripe.com/c/pay",
	"punycode of it":           "https://xn--heckout-66g.stripe.com/c/pay",
	"soft hyphen":              "https://check\u00adout.stripe.com/c/pay",
	"zero-width space":         "https://checkout.stripe.com\u200b/c/pay",
	"right-to-left override":   "https://\u202echeckout.stripe.com/c/pay",
	"percent-encoded letter":   "https://%63heckout.stripe.com/c/pay",
	"percent-encoded dot":      "https://checkout%2estripe.com/c/pay",
	"percent-encoded slash":    "https://checkout.stripe.com%2f.evil.example/c/pay",
	"percent-encoded at":       "https://checkout.stripe.com%40evil.example/c/pay",
	"percent-encoded NUL":      "https://checkout.stripe.com%00.evil.example/c/pay",

	// User info.
	"host as the user":             "https://checkout.stripe.com@evil.example/c/pay",
	"host as the user, port":       "https://checkout.stripe.com:443@evil.example/c/pay",
	"user at the host":             "https://evil@checkout.stripe.com/c/pay",
	"user and password":            "https://evil:pw@checkout.stripe.com/c/pay",
	"empty user":                   "https://@checkout.stripe.com/c/pay",
	"empty user and password":      "https://:@checkout.stripe.com/c/pay",
	"two ats":                      "https://checkout.stripe.com@checkout.stripe.com@evil.example/c/pay",
	"at behind a query":            "https://checkout.stripe.com?@evil.example/c/pay",
	"at behind a fragment":         "https://checkout.stripe.com#@evil.example/c/pay",
	"at behind a semicolon":        "https://checkout.stripe.com;@evil.example/c/pay",
	"at behind a backslash":        `https://checkout.stripe.com\@evil.example/c/pay`,
	"at behind a slash, backslash": `https://checkout.stripe.com/\@evil.example/`,

	// Ports.
	"its own port":     "https://checkout.stripe.com:443/c/pay",
	"another port":     "https://checkout.stripe.com:8443/c/pay",
	"empty port":       "https://checkout.stripe.com:/c/pay",
	"port zero":        "https://checkout.stripe.com:0/c/pay",
	"port of letters":  "https://checkout.stripe.com:evil/c/pay",
	"port with a host": "https://checkout.stripe.com:443.evil.example/c/pay",

	// Backslashes, which browsers take for slashes.
	"backslashes for slashes": `https:\\checkout.stripe.com\c\pay`,
	"backslash after host":    `https://checkout.stripe.com\.evil.example/c/pay`,
	"backslash before host":   `https://\checkout.stripe.com/c/pay`,
	"backslash in the path":   `https://checkout.stripe.com/c\pay`,
	"backslash in the query":  `https://checkout.stripe.com/c?\`,
	"evil behind backslashes": `https://evil.example\\checkout.stripe.com/c/pay`,

	// Bytes that browsers drop or that split headers.
	"leading space":           " https://checkout.stripe.com/c/pay",
	"trailing space":          "https://checkout.stripe.com/c/pay ",
	"space inside":            "https://checkout.stripe.com/c pay",
	"leading tab":             "\thttps://checkout.stripe.com/c/pay",
	"tab in the scheme":       "ht\ttps://checkout.stripe.com/c/pay",
	"tab in the host":         "https://checkout.stri\tpe.com/c/pay",
	"tab after the host":      "https://checkout.stripe.com\t.evil.example/c/pay",
	"newline in the path":     "https://checkout.stripe.com/c\npay",
	"header split":            "https://checkout.stripe.com/c\r\nSet-Cookie: a=b",
	"trailing newline":        "https://checkout.stripe.com/c/pay\n",
	"NUL after the host":      "https://checkout.stripe.com\x00.evil.example/c/pay",
	"NUL in the path":         "https://checkout.stripe.com/c\x00",
	"DEL":                     "https://checkout.stripe.com/c\x7f",
	"escape":                  "https://checkout.stripe.com/\x1b[2J",
	"no-break space":          "https://checkout.stripe.com/c\u00a0pay",
	"line separator":          "https://checkout.stripe.com/c\u2028pay",
	"byte order mark":         "\ufeffhttps://checkout.stripe.com/c/pay",
	"broken UTF-8":            "https://checkout.stripe.com/\xff\xfe",
	"an umlaut in the path":   "https://checkout.stripe.com/ü",
	"two addresses, a comma":  "https://evil.example,https://checkout.stripe.com/",
	"two addresses, a space":  "https://checkout.stripe.com/ https://evil.example/",
	"quoted":                  `"https://checkout.stripe.com/c/pay"`,
	"in angle brackets":       "<https://checkout.stripe.com/c/pay>",
	"the origin's own prefix": "https://https://checkout.stripe.com/c/pay",
}

func TestCheckURLRefusesWhatIsHostile(t *testing.T) {
	t.Parallel()
	if len(hostileURLs) < 54 {
		t.Errorf("only %d hostile addresses", len(hostileURLs))
	}
	for name, raw := range hostileURLs {
		// The sandbox's origin beside Stripe's must open nothing.
		for _, origins := range [][]string{{stripeOrigin}, {stripeOrigin, sandboxOrigin}, {sandboxOrigin, stripeOrigin}, nil} {
			if err := payments.CheckURL(raw, origins); err == nil {
				t.Errorf("%s: %q was accepted for %v", name, raw, origins)
			}
		}
	}
}

func TestCheckURLAcceptsStripesOwn(t *testing.T) {
	t.Parallel()
	for _, raw := range goodURLs {
		if err := payments.CheckURL(raw, []string{stripeOrigin}); err != nil {
			t.Errorf("%q was refused: %v", raw, err)
		}
		if err := payments.CheckURL(raw, []string{sandboxOrigin, stripeOrigin}); err != nil {
			t.Errorf("%q was refused with two origins: %v", raw, err)
		}
		if payments.CheckURL(raw, nil) == nil {
			t.Errorf("%q was accepted although no origin is allowed", raw)
		}
	}
}

// TestCheckURLAdmitsTheSandboxExactly: in development, one loopback origin is admitted, and nothing near it.
func TestCheckURLAdmitsTheSandboxExactly(t *testing.T) {
	t.Parallel()
	good := sandboxOrigin + "/c/pay/cs_test_a1"
	if err := payments.CheckURL(good, []string{stripeOrigin, sandboxOrigin}); err != nil {
		t.Errorf("%q was refused: %v", good, err)
	}
	if payments.CheckURL(good, []string{stripeOrigin}) == nil {
		t.Error("the sandbox was admitted where only Stripe is allowed")
	}
	for _, raw := range []string{
		"https://127.0.0.1:8091/c/pay", "http://127.0.0.1/c/pay", "http://127.0.0.1:8092/c/pay", "http://127.0.0.1:80911/c/pay",
		"http://127.0.0.1:08091/c/pay", "http://localhost:8091/c/pay", "http://127.0.0.2:8091/c/pay", "http://127.1:8091/c/pay",
		"http://0x7f000001:8091/c/pay", "http://2130706433:8091/c/pay", "http://[::1]:8091/c/pay", "http://[::ffff:127.0.0.1]:8091/c/pay",
		"http://127.0.0.1:8091@evil.example/c/pay", "http://x@127.0.0.1:8091/c/pay", "http://127.0.0.1:8091.evil.example/c/pay",
		`http://127.0.0.1:8091\@evil.example/`, "http://127.0.0.1:8091", "HTTP://127.0.0.1:8091/c/pay", "http:127.0.0.1:8091/c/pay",
	} {
		if payments.CheckURL(raw, []string{stripeOrigin, sandboxOrigin}) == nil {
			t.Errorf("%q was accepted", raw)
		}
	}
}

// FuzzCheckURL holds what is accepted to two other readings: net/url's, and a browser's.
func FuzzCheckURL(f *testing.F) {
	for _, raw := range goodURLs {
		f.Add(raw)
	}
	for _, raw := range hostileURLs {
		f.Add(raw)
	}
	f.Add(sandboxOrigin + "/c/pay/cs_test_a1")
	origins := []string{stripeOrigin, sandboxOrigin}
	f.Fuzz(func(t *testing.T, raw string) {
		if payments.CheckURL(raw, origins) != nil {
			return
		}
		for i := range len(raw) {
			if raw[i] <= ' ' || raw[i] > '~' || raw[i] == '\\' {
				t.Errorf("%q was accepted with byte %#x", raw, raw[i])
			}
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q was accepted, and net/url says %v", raw, err)
		}
		if u.User != nil || u.Opaque != "" || !slices.Contains(origins, u.Scheme+"://"+u.Host) || !strings.HasPrefix(u.Path, "/") {
			t.Errorf("%q was accepted; net/url reads %#v", raw, u)
		}
		if origin, user := asBrowser(raw); user || !slices.Contains(origins, origin) {
			t.Errorf("%q was accepted; a browser goes to %q (user info %t)", raw, origin, user)
		}
	})
}

// asBrowser reads an address as the URL Standard's parser does (https://url.spec.whatwg.org/#url-parsing), as far as the
// host: it is as lenient as browsers are, and shares nothing with net/url.
func asBrowser(raw string) (origin string, userInfo bool) {
	raw = strings.TrimFunc(raw, func(r rune) bool { return r <= ' ' })
	raw = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(raw)
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok {
		return "", false
	}
	scheme = strings.ToLower(scheme)
	rest = strings.TrimLeft(rest, `/\`) // any number of either begins the authority of https
	if end := strings.IndexAny(rest, `/\?#`); end >= 0 {
		rest = rest[:end]
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest, userInfo = rest[at+1:], true
	}
	host, port := rest, ""
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, ']') {
		host, port = rest[:colon], rest[colon:]
	}
	if decoded, err := url.PathUnescape(host); err == nil {
		host = decoded
	}
	if port == ":" || scheme == "https" && port == ":443" || scheme == "http" && port == ":80" {
		port = ""
	}
	return scheme + "://" + strings.ToLower(host) + port, userInfo
}

// TestAsBrowser: the oracle itself sees through the tricks; one that says yes to everything would prove nothing.
func TestAsBrowser(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		stripeOrigin + "/c/pay":                     stripeOrigin,
		`https:\\checkout.stripe.com\c\pay`:         stripeOrigin,
		`https://evil.example\@checkout.stripe.com`: "https://evil.example",
		"https://checkout.stripe.com@evil.example/": "https://evil.example",
		"https:evil.example/":                       "https://evil.example",
		"ht\ttps://evil\n.example":                  "https://evil.example",
		"HTTPS://EVIL.example:443/":                 "https://evil.example",
		"https://%65vil.example:8443/":              "https://evil.example:8443",
		"https://[::1]/":                            "https://[::1]",
		"https://[::1]:8443/":                       "https://[::1]:8443",
		"nothing":                                   "",
	} {
		if got, _ := asBrowser(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
