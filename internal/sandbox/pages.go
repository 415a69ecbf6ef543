package sandbox

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed pages
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"amount": amountText,
	"when":   func(unix int64) string { return time.Unix(unix, 0).UTC().Format("2 Jan 15:04:05") },
}).ParseFS(pageFiles, "pages/*.html"))

func serveCSS(w http.ResponseWriter, _ *http.Request) {
	css, err := pageFiles.ReadFile("pages/sandbox.css")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(css) // a failure means that the caller has gone
}

// writePage renders first, so that a failing template cannot leave half a page. formTo are origins, besides our own,
// that a form may lead to: browsers hold form-action against redirects too.
func writePage(
	ctx context.Context, log *slog.Logger, w http.ResponseWriter, status int, name string, model any, formTo ...string,
) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, model); err != nil {
		log.ErrorContext(ctx, "sandbox page failed", "page", name, "error", err)
		http.Error(w, "The sandbox could not render this page.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "+
		"form-action "+strings.Join(append([]string{"'self'"}, formTo...), " "))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a failure means that the caller has gone
}

// origin gives the scheme and host of a URL for a CSP list; empty when it could not stand there safely.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || strings.ContainsFunc(u.Host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:[]", r)
	}) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// notice is a page that says one thing.
type notice struct{ Title, Text string }

// indexRows is how much of each list an overview shows.
const indexRows = 25

// newest gives the last indexRows rows of a table, newest first.
func newest[R any](order []*R) func(yield func(*R) bool) {
	return func(yield func(*R) bool) {
		for i := len(order) - 1; i >= max(0, len(order)-indexRows); i-- {
			if !yield(order[i]) {
				return
			}
		}
	}
}
