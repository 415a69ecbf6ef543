package static

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// pageFiles are the names that the layout of the pages asks for.
var pageFiles = []string{"app.css", "app.js", "zone.js", "htmx.min.js", "sse.js", "inter.woff2", "favicon.svg"}

func get(t *testing.T, method, path, encoding string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestEveryPageFileIsServedForEver(t *testing.T) {
	types := map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2",
	}
	for _, name := range pageFiles {
		t.Run(name, func(t *testing.T) {
			path := Path(name)
			if !regexp.MustCompile(`^/static/[a-z.]+\.[0-9a-f]{12}\.[a-z0-9]+$`).MatchString(path) {
				t.Fatalf("Path(%q) = %q, want a hash in the name", name, path)
			}
			r := get(t, http.MethodGet, path, "")
			content := r.Body.Bytes()
			if r.Code != http.StatusOK || len(content) == 0 {
				t.Fatalf("GET %s = %d with %d bytes", path, r.Code, len(content))
			}
			if got, want := r.Header().Get("Content-Type"), types[name[strings.LastIndexByte(name, '.'):]]; got != want {
				t.Errorf("Content-Type = %q, want %q", got, want)
			}
			if got := r.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("Cache-Control = %q", got)
			}
			if got := r.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q", got)
			}
			if r.Header().Get("Content-Encoding") != "" {
				t.Error("encoded for a client that did not ask for it")
			}
			head := get(t, http.MethodHead, path, "")
			if len(head.Body.Bytes()) != 0 || head.Header().Get("Content-Length") != r.Header().Get("Content-Length") {
				t.Error("HEAD differs from GET without its body")
			}
		})
	}
}

func TestGzipGivesTheSameBytes(t *testing.T) {
	for _, name := range []string{"app.css", "htmx.min.js", "favicon.svg"} {
		plain := get(t, http.MethodGet, Path(name), "").Body.Bytes()
		r := get(t, http.MethodGet, Path(name), "br, gzip;q=0.8")
		if r.Header().Get("Content-Encoding") != "gzip" || r.Header().Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%s: headers %v", name, r.Header())
		}
		packed := r.Body.Bytes()
		if len(packed) >= len(plain) {
			t.Errorf("%s: %d bytes packed, %d plain", name, len(packed), len(plain))
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(unpacked, plain) {
			t.Errorf("%s: unpacked bytes differ (%v)", name, err)
		}
	}
	if r := get(t, http.MethodGet, Path("inter.woff2"), "gzip"); r.Header().Get("Content-Encoding") != "" {
		t.Error("a font is compressed already")
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br": false, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0, *": false,
		"*": true, "*;q=0": false, "identity": false, "gzip;q=0.001": true, ";;;": false, "gzip;q=abc": false, "x-gzip-like": false,
	} {
		if got := AcceptsGzip(header); got != want {
			t.Errorf("AcceptsGzip(%q) = %v, want %v", header, got, want)
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	for _, path := range []string{
		"/static/", "/static/app.css", "/static/app.000000000000.css", "/static/../static.go", "/static/dist/app.css",
		"/static/%2e%2e/static.go", "/", Path("no-such-file.css"),
	} {
		if r := get(t, http.MethodGet, path, ""); r.Code != http.StatusNotFound || r.Header().Get("Cache-Control") != "" {
			t.Errorf("GET %s = %d, Cache-Control %q", path, r.Code, r.Header().Get("Cache-Control"))
		}
	}
	if r := get(t, http.MethodPost, Path("app.css"), ""); r.Code != http.StatusMethodNotAllowed || r.Header().Get("Allow") == "" {
		t.Errorf("POST = %d, Allow %q", r.Code, r.Header().Get("Allow"))
	}
}

func TestStyleSheetNamesOnlyWhatIsServed(t *testing.T) {
	css := get(t, http.MethodGet, Path("app.css"), "").Body.String()
	urls := regexp.MustCompile(`url\(["']?([^)"']+)["']?\)`).FindAllStringSubmatch(css, -1)
	if len(urls) == 0 {
		t.Fatal("the sheet names no font")
	}
	for _, u := range urls {
		if r := get(t, http.MethodGet, Prefix+u[1], ""); r.Code != http.StatusOK {
			t.Errorf("url(%s) = %d", u[1], r.Code)
		}
	}
}

func TestScriptsNameNoSourceMap(t *testing.T) {
	names, err := fs.Glob(FS(), "*.js")
	if err != nil || len(names) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(FS(), name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("sourceMappingURL")) {
			t.Errorf("%s names a source map that is not served", name)
		}
	}
}

func TestASheetsNameFollowsItsFont(t *testing.T) {
	build := func(font string) string {
		byName, _ := load(fstest.MapFS{
			"dist/a.css":   {Data: []byte(`@font-face{src:url(f.woff2)}`)},
			"dist/f.woff2": {Data: []byte(font)},
		})
		return byName["a.css"].name
	}
	if build("one") == build("two") {
		t.Error("a new font under the old sheet's name would never reach a browser")
	}
}
