// Package static holds the built files of the interface (style sheet, scripts, font) and serves them under names that
// carry a hash of their content, so that a browser may keep each of them for ever.
//
// The files in dist are made by `make generate` from static/src and the packages named in package.json.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed dist
var dist embed.FS

// Prefix is where the handler is mounted.
const Prefix = "/static/"

// asset is one file as it is sent.
type asset struct {
	name        string // as served, with its hash
	contentType string
	plain       []byte
	gzipped     func() []byte // nil for what is compressed already
}

// files are the assets by the name they have in dist; served are the same by their hashed name.
var files, served = load(dist)

// FS gives the built files by their plain names, for tests and tools. Pages use Path.
func FS() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		return dist
	}
	return sub
}

// Path returns the address of a built file, such as "/static/app.3f2a9c017b5d.css" for "app.css". A name that does not
// exist gives an address that answers 404; the tests hold every name that pages use.
func Path(name string) string {
	if a, ok := files[name]; ok {
		return Prefix + a.name
	}
	return Prefix + name
}

// Handler serves the hashed names below Prefix with a year's caching, and 404 for all else. The names change with
// their content, so nothing that was cached can be stale (RFC 8246, immutable).
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		a, ok := served[strings.TrimPrefix(r.URL.Path, Prefix)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		body := a.plain
		if a.gzipped != nil {
			h.Set("Vary", "Accept-Encoding")
			if AcceptsGzip(r.Header.Get("Accept-Encoding")) {
				h.Set("Content-Encoding", "gzip")
				body = a.gzipped()
			}
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodHead {
			return
		}
		// A browser that went away is no news to anybody.
		_, _ = w.Write(body)
	})
}

// load reads the embedded files. Other files come before style sheets, which name them: `url("inter.woff2")` becomes the hashed
// name before the sheet's own hash is taken.
func load(source fs.FS) (byName, byHashed map[string]*asset) {
	byName, byHashed = map[string]*asset{}, map[string]*asset{}
	names, err := fs.Glob(source, "dist/*")
	if err != nil {
		return byName, byHashed
	}
	var sheets []string
	add := func(file string, content []byte) {
		name := path.Base(file)
		a := &asset{name: hashed(name, content), contentType: contentType(name), plain: content}
		if path.Ext(name) != ".woff2" {
			a.gzipped = sync.OnceValue(func() []byte { return compress(content) })
		}
		byName[name], byHashed[a.name] = a, a
	}
	for _, file := range names {
		content, err := fs.ReadFile(source, file)
		if err != nil {
			continue
		}
		if path.Ext(file) == ".css" {
			sheets = append(sheets, file)
			continue
		}
		add(file, content)
	}
	for _, file := range sheets {
		content, err := fs.ReadFile(source, file)
		if err != nil {
			continue
		}
		for name, a := range byName {
			for _, form := range []string{`url(%s)`, `url("%s")`, `url('%s')`} {
				content = bytes.ReplaceAll(content, fmt.Appendf(nil, form, name), fmt.Appendf(nil, form, a.name))
			}
		}
		add(file, content)
	}
	return byName, byHashed
}

// hashed puts the first 48 bits of the content's SHA-256 before the extension.
func hashed(name string, content []byte) string {
	sum := sha256.Sum256(content)
	ext := path.Ext(name)
	return strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
}

// contentType is fixed here for what we serve: the system's own table differs from machine to machine.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".txt":
		return "text/plain; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}

func compress(content []byte) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil
	}
	// A bytes.Buffer takes every write.
	_, _ = z.Write(content)
	_ = z.Close()
	return out.Bytes()
}

// AcceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3) as far as one coding needs it: a quality of 0 refuses, a
// coding named by itself outweighs the wildcard.
func AcceptsGzip(header string) bool {
	wildcard := false
	for part := range strings.SplitSeq(header, ",") {
		coding, params, err := mime.ParseMediaType("x/" + strings.TrimSpace(part))
		if err != nil {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		accepted := params["q"] == "" || err == nil && q > 0
		switch coding {
		case "x/gzip":
			return accepted
		case "x/*":
			wildcard = accepted
		}
	}
	return wildcard
}
