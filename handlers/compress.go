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

// writePage sends a page, compressed where the browser takes that. Only what was asked for is: an answer to a form may show a
// secret once, beside what somebody else could have put into it (BREACH, https://www.breachattack.com). The tokens of
// forms are masked anew in every page; see formToken.
func writePage(w http.ResponseWriter, r *http.Request, status int, page []byte) {
	w.Header().Add("Vary", "Accept-Encoding")
	if r.Method != http.MethodGet || len(page) < compressFrom || !static.AcceptsGzip(r.Header.Get("Accept-Encoding")) {
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
