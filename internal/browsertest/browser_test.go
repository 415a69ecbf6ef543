package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// recorder takes the failures of a test that is meant to fail.
type recorder struct {
	testing.TB

	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return false }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, a ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, a...))
}

func (r *recorder) end() string {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	return strings.Join(r.failures, "\n")
}

func serve(t *testing.T, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src 'self' data:; script-src 'self' 'nonce-x'")
		_, _ = w.Write([]byte(`<!DOCTYPE html><html lang="en"><head><title>t</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head><body><main>` + body + `</main></body></html>`))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// only is a script that adds a style to where the media query holds, past the page's policy.
func only(media, rule string) string {
	return fmt.Sprintf(`(() => { const s = new CSSStyleSheet(); s.replaceSync(%q); document.adoptedStyleSheets.push(s); return true })()`, "@media "+media+" { "+rule+" }")
}

// A check that cannot fail is none: each kind of complaint is provoked once, beside a page that has none.
func TestWhatABrowserComplainsAbout(t *testing.T) {
	b := Start(t)
	const sound = `<h1>Sound</h1><label for="a">Amount</label><input id="a"><script nonce="x">document.title = "ran"</script>`
	for _, c := range []struct {
		name, body, want string
		do               func(*Tab)
		everywhere       bool // by what the race detector's build leaves out
	}{
		{"nothing", sound, "", nil, false},
		{"inline script against the policy", sound + `<script>1</script>`, "Content Security Policy", nil, false},
		{"exception", sound + `<script nonce="x">throw new Error("broken thing")</script>`, "broken thing", nil, false},
		{"console.error", sound + `<script nonce="x">console.error("said so")</script>`, "said so", nil, false},
		{"missing file", sound + `<img src="/missing.png" alt="">`, "status of 404", nil, false},
		{"missing file that was expected", sound + `<img src="/missing.png" alt="">`, "", func(p *Tab) { p.Expect("status of 404") }, false},
		{"field without a label", `<h1>x</h1><input>`, "label", func(p *Tab) { p.Axe() }, false},
		{"small target", `<h1>x</h1><div><button style="all:unset;width:9px;height:9px">a</button><button style="all:unset;width:9px;height:9px">b</button></div>`, "target-size", func(p *Tab) {
			Eval[bool](p, `document.querySelectorAll("button").forEach(b => { b.style.cssText = "padding:0;border:0;width:9px;height:9px;font-size:6px" }), true`)
			p.Axe()
		}, false},
		{"faint in one view only", sound, "color-contrast", func(p *Tab) {
			Eval[bool](p, only(`(min-width: 600px) and (prefers-color-scheme: dark)`, `h1 { color: #111; background: #222 }`))
			p.Everywhere("faint")
		}, true},
		{"no label on a phone only", sound, "label", func(p *Tab) {
			Eval[bool](p, `document.querySelector("label").className = "words", true`)
			Eval[bool](p, only(`(max-width: 600px)`, `.words { display: none }`))
			p.Everywhere("nameless")
		}, true},
		{"sound everywhere", sound, "", func(p *Tab) { p.Everywhere("sound") }, true},
		{"too wide", sound, "px wide", func(p *Tab) {
			Eval[bool](p, `document.querySelector("h1").style.width = "3000px", true`)
			p.FitsWidth()
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{TB: t}
			p := b.Visit(r, View{})
			p.Open(serve(t, c.body))
			if c.do != nil {
				c.do(p)
			}
			switch got := r.end(); {
			case c.everywhere && !judging:
			case c.want == "" && got != "":
				t.Errorf("complained of a sound page: %s", got)
			case !strings.Contains(got, c.want):
				t.Errorf("got %q, want a complaint with %q", got, c.want)
			}
		})
	}
}

func TestScriptsOff(t *testing.T) {
	b := Start(t)
	p := b.Visit(t, View{NoScripts: true, Dark: true, Width: Phone})
	p.Open(serve(t, `<p>plain</p><noscript><p id="without">no scripts</p></noscript><script nonce="x">document.querySelector("p").textContent = "ran"</script>`))
	if got := p.Text("p") + ", " + p.Text("#without"); got != "plain, no scripts" {
		t.Errorf("the page shows %q", got)
	}
	if !Eval[bool](p, `matchMedia("(prefers-color-scheme: dark)").matches && matchMedia("(scripting: none)").matches && innerWidth === 375`) {
		t.Error("the page does not see what the person looks with")
	}
}
