package handlers

import (
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/klauspost/compress/gzip"

	"ringfence/static"
)

// compressFrom is from how many bytes on a page is worth compressing: less goes out in one packet anyway.
const compressFrom = 1400

// compressors are at the fastest level: the next ones take half as long again, for five in a hundred fewer bytes, and a
// page goes out in the first ten packets either way. The library takes a third of the time of compress/gzip's.
var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is a right one
	return z
}}

// writePage sends a page, compressed where the browser takes that and where nobody could learn from its length what it says.
// Who can have a browser ask for pages that hold words of theirs beside something secret, and watch the lengths of the
// answers, learns the secret letter by letter (BREACH, https://www.breachattack.com). So the tokens of forms are masked anew
// in every page (see formToken), an answer to a form, which may show a secret once, is not compressed, and nothing is that
// another site has the browser ask for.
func writePage(w http.ResponseWriter, r *http.Request, status int, page []byte) {
	w.Header().Add("Vary", "Accept-Encoding, Sec-Fetch-Site")
	if r.Method != http.MethodGet || len(page) < compressFrom || !askedByUs(r) || !static.AcceptsGzip(r.Header.Get("Accept-Encoding")) {
		w.WriteHeader(status)
		_, _ = w.Write(page) // a browser that went away is no news
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z, ok := compressors.Get().(*gzip.Writer)
	if !ok {
		panic(fmt.Sprintf("the pool holds a %T", z)) // nothing else is put there
	}
	z.Reset(w)
	_, _ = z.Write(page) // the same
	_ = z.Close()
	compressors.Put(z)
}

// askedByUs reports whether a page of ours or the person alone has the browser ask
// (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). What sends no such header is believed: programs, and browsers
// of before 2023, which send our cookie with another site's links only (SameSite), and not with what its scripts ask for.
func askedByUs(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}
